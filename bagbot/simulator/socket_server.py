"""The simulator's WebSockets: the public streams and the WebSocket API, from handshake to end."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import unquote

from aiohttp import WSMsgType, web

from bagbot.simulator.admin import LoggedRequest
from bagbot.simulator.binance_errors import BinanceError, no_service_at
from bagbot.simulator.binance_wire import read_http
from bagbot.simulator.faults import Fault, FaultKind, FaultScript
from bagbot.simulator.intake import Intake, json_response, prescribed
from bagbot.simulator.market_streams import StreamConnection, StreamHub
from bagbot.simulator.simulator_settings import SocketSettings
from bagbot.simulator.sockets import SocketSender
from bagbot.simulator.spot_api import WEBSOCKET_ENDPOINTS, SpotApi
from bagbot.simulator.stream_faults import EventGate
from bagbot.simulator.time_unit import TimeUnit, read_time_unit
from bagbot.simulator.websocket_api import (
    UserStreams,
    WebSocketReply,
    WebSocketRequest,
    WebSocketSession,
    read_request,
)

_MESSAGE_BYTES_MAX = 64 * 1024
_CLOSE_S = 1.0


class _Line:
    """One connection: what goes out, what comes in, and when it last answered a ping."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        faults: FaultScript,
    ) -> None:
        self._socket = socket
        self.sender = SocketSender(socket, transport)
        self.gate = EventGate(self.sender, faults)
        self._open_pings: set[bytes] = set()
        self._asked_s = time.monotonic()

    def silence_s(self) -> float:
        """Return for how long a ping has been waiting for its answer."""
        return time.monotonic() - self._asked_s if self._open_pings else 0.0

    async def ping(self, payload: bytes) -> None:
        """Send a ping."""
        if not self._open_pings:
            self._asked_s = time.monotonic()
        self._open_pings.add(payload)
        await self._socket.ping(payload)

    async def texts(self) -> AsyncIterator[str]:
        """Yield the messages received; answer pings, and note the answers to ours."""
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                yield message.data
            elif message.type is WSMsgType.PING:
                # Whoever is gone already needs no pong; the next read says so.
                with contextlib.suppress(ConnectionError):
                    await self._socket.pong(message.data)
            elif message.type is WSMsgType.PONG and bytes(message.data) in self._open_pings:
                # A pong that repeats no ping of ours does not count.
                self._open_pings.clear()


class SocketServer:
    """Serves every WebSocket of one simulator."""

    def __init__(
        self,
        api: SpotApi,
        hub: StreamHub,
        intake: Intake,
        faults: FaultScript,
        settings: SocketSettings,
        *,
        publish: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        self._api = api
        self._hub = hub
        self.users = UserStreams()
        self._intake = intake
        self._faults = faults
        self._settings = settings
        self._publish = publish
        self._clock = clock
        self._sockets: set[web.WebSocketResponse] = set()
        # How many connections were opened at each address.
        self.opened: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Return how many WebSockets are open."""
        return len(self._sockets)

    async def close(self) -> None:
        """Announce the end on every connection, then close it."""
        self._hub.tell_shutdown(self._clock())
        self.users.tell_shutdown(self._clock())
        if self._sockets:
            await asyncio.gather(
                *(socket.close(code=1001, message=b"shutdown") for socket in self._sockets)
            )

    async def serve(self, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        """Serve one connection until it ends; refuse what is no handshake or names no service."""
        socket = web.WebSocketResponse(
            autoping=False,
            compress=False,
            max_msg_size=_MESSAGE_BYTES_MAX,
            timeout=_CLOSE_S,
        )
        if not socket.can_prepare(request):
            return json_response({"code": -1000, "msg": "Not a WebSocket handshake."}, 400)
        try:
            wanted = read_http(query.encode("utf-8", "surrogateescape"), b"").parameters
            unit = read_time_unit(wanted.get("timeUnit"))
        except BinanceError as error:
            return json_response({"code": error.code, "msg": error.message}, error.status)
        address, streams = _requested_streams(path, wanted)
        if address is None:
            nothing = no_service_at(path)
            return json_response({"code": nothing.code, "msg": nothing.message}, nothing.status)
        self.opened[address] += 1
        await socket.prepare(request)
        line = _Line(socket, request.transport, self._faults)
        self._sockets.add(socket)
        try:
            async with asyncio.TaskGroup() as group:
                helpers = [
                    group.create_task(line.sender.run()),
                    group.create_task(self._ping(line)),
                    group.create_task(self._end_of_life(socket)),
                ]
                if streams is None:
                    wants_limits = wanted.get("returnRateLimits") != "false"
                    await self._serve_api(line, unit, wants_limits=wants_limits)
                else:
                    is_combined = address == "/stream"
                    connection = StreamConnection(
                        self._hub, line.sender, line.gate, is_combined=is_combined, unit=unit
                    )
                    await _serve_streams(connection, line, streams)
                for helper in helpers:
                    helper.cancel()
        finally:
            self._sockets.discard(socket)
        return socket

    async def _ping(self, line: _Line) -> None:
        """Ask again and again whether the client is there; cut it off when it says nothing."""
        while True:
            await asyncio.sleep(self._settings.ping_interval_s)
            if line.silence_s() > self._settings.pong_timeout_s:
                line.sender.cut()
                return
            try:
                async with asyncio.timeout(self._settings.pong_timeout_s):
                    await line.ping(str(self._clock() // 1_000_000).encode())
            except (ConnectionError, TimeoutError):
                line.sender.cut()
                return

    async def _end_of_life(self, socket: web.WebSocketResponse) -> None:
        await asyncio.sleep(self._settings.life_s)
        await socket.close(code=1001, message=b"connection lifetime reached")

    async def _serve_api(
        self,
        line: _Line,
        unit: TimeUnit,
        *,
        wants_limits: bool,
    ) -> None:
        session = WebSocketSession(
            self._api,
            line.sender,
            line.gate,
            connected_ns=self._clock(),
            wants_limits=wants_limits,
            unit=unit,
        )
        self.users.add(session)
        try:
            async with asyncio.TaskGroup() as answers:
                async for text in line.texts():
                    await self._receive(session, text, answers)
        finally:
            self.users.remove(session)

    async def _receive(
        self, session: WebSocketSession, text: str, answers: asyncio.TaskGroup
    ) -> None:
        """Answer one message. A delayed answer does not hold up the messages after it."""
        received = self._clock(), time.monotonic_ns()
        try:
            request = read_request(text)
        except BinanceError as error:
            session.send_unreadable(error, self._clock())
            return
        log = self._intake.log("WS", request.method, received)
        fault = self._intake.take_fault(log, request.wire)
        if fault is None:
            self._carry_out_socket(session, request, log)
            return
        answers.create_task(self._answer_faultily(session, request, log, fault))

    async def _answer_faultily(
        self,
        session: WebSocketSession,
        request: WebSocketRequest,
        log: LoggedRequest,
        fault: Fault,
    ) -> None:
        if fault.kind is FaultKind.LOSE_REQUEST:
            log.outcome = "lost"
            session.cut()
            return
        if fault.kind in (FaultKind.REFUSE, FaultKind.HIDE):
            log.outcome = "refused"
            self._send_prescribed(session, request, fault)
            return
        if fault.kind is FaultKind.DELAY_BEFORE:
            await asyncio.sleep(fault.delay_s)
            self._carry_out_socket(session, request, log)
            return
        reply = self._reply(session, request, log)
        if fault.kind is FaultKind.LOSE_ANSWER:
            session.cut()
        elif fault.kind is FaultKind.ANSWER:
            self._send_prescribed(session, request, fault)
        else:
            await asyncio.sleep(fault.delay_s)
            session.send(request, reply, self._clock())

    def _carry_out_socket(
        self, session: WebSocketSession, request: WebSocketRequest, log: LoggedRequest
    ) -> None:
        reply = self._reply(session, request, log)
        session.send(request, reply, self._clock())

    def _reply(
        self, session: WebSocketSession, request: WebSocketRequest, log: LoggedRequest
    ) -> WebSocketReply:
        reply = session.answer(request, self._clock())
        if reply.status == 200:
            self._intake.accept(log, WEBSOCKET_ENDPOINTS.get(request.method))
        else:
            log.status, log.outcome, log.code = reply.status, "refused", reply.code
        self._publish()
        return reply

    def _send_prescribed(
        self, session: WebSocketSession, request: WebSocketRequest, fault: Fault
    ) -> None:
        status, body = prescribed(fault)
        session.send(request, WebSocketReply(status, {"error": dict(body)}), self._clock())


async def _serve_streams(connection: StreamConnection, line: _Line, streams: list[str]) -> None:
    connection.listen(streams)
    try:
        async for text in line.texts():
            connection.receive(text)
    finally:
        connection.close()


def _requested_streams(path: str, wanted: Mapping[str, str]) -> tuple[str | None, list[str] | None]:
    """Return the service at an address, or None; and the streams named, if it is one of streams.

    /ws/<a>/<b>, /stream?streams=<a>/<b>, and /stream/ws/<a>, by which CCXT knows a spot socket.
    """
    for address in ("/stream/ws", "/ws"):
        if path == address or path.startswith(address + "/"):
            return address, [name for name in unquote(path[len(address) :]).split("/") if name]
    if path.rstrip("/") == "/stream":
        # The plus of "@+08:00" stands in an address as it is, where it means a space.
        streams = wanted.get("streams", "").replace(" ", "+")
        return "/stream", [stream for stream in streams.split("/") if stream]
    return ("/ws-api/v3" if path.rstrip("/") == "/ws-api/v3" else None), None

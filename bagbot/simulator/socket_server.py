"""The simulator's WebSockets: the public streams and the WebSocket API, from handshake to end."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from urllib.parse import unquote

from aiohttp import WSCloseCode, WSMsgType, web
from msgspec import structs, to_builtins

from bagbot.simulator.binance_errors import BinanceError, no_service_at
from bagbot.simulator.binance_wire import WireRequest, read_http
from bagbot.simulator.faults import CONNECT, Fault, FaultScript
from bagbot.simulator.faulty_answers import Answer, FaultyAnswers
from bagbot.simulator.intake import Intake, json_response, refused_handshake
from bagbot.simulator.market_streams import StreamConnection, StreamHub
from bagbot.simulator.request_log import LoggedRequest
from bagbot.simulator.simulator_settings import SocketSettings
from bagbot.simulator.socket_limits import ConnectRate, MessageRate, PolicyError
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

_CLOSE_S = 1.0
_CONNECT_WEIGHT = 2


class _Line:
    """One connection: what goes out, what comes in, and when it last answered a ping."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        faults: FaultScript,
        settings: SocketSettings,
    ) -> None:
        self._socket = socket
        self.sender = SocketSender(
            socket,
            transport,
            messages_max=settings.backlog_messages_max,
            bytes_max=settings.backlog_bytes_max,
        )
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

    async def close(self, error: PolicyError) -> None:
        """Close the connection of a client that breaks a rule, and say which."""
        await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=str(error).encode())

    async def texts(self, rate: MessageRate | None = None) -> AsyncIterator[str]:
        """Yield the messages received; answer pings, and note the answers to ours.

        Raises PolicyError when there are more than `rate` allows.
        """
        async for message in self._socket:
            if rate is not None:
                rate.count(time.monotonic_ns())
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
        faulty: FaultyAnswers,
        settings: SocketSettings,
        *,
        publish: Callable[[], None],
        clock: Callable[[], int],
    ) -> None:
        self._api = api
        self._hub = hub
        self.users = UserStreams(tells_stop_release=api.assumptions.stop_release_is_told)
        self._intake = intake
        self._faults = faults
        self._faulty = faulty
        self._settings = settings
        self._publish = publish
        self._clock = clock
        self._sockets: dict[web.WebSocketResponse, SocketSender] = {}
        self._connects = ConnectRate(settings.connects_per_5_minutes)
        # How many connections were opened at each address.
        self.opened: Counter[str] = Counter()

    @property
    def count(self) -> int:
        """Return how many WebSockets are open."""
        return len(self._sockets)

    async def close(self) -> None:
        """Announce the end on every connection, then close it."""
        self.announce_end()
        if self._sockets:
            await asyncio.gather(
                *(socket.close(code=1001, message=b"shutdown") for socket in self._sockets)
            )

    def end_all(self, delay_s: float = 0.0) -> None:
        """End every connection as old age does, with code 1001, `delay_s` from now."""
        for sender in self._sockets.values():
            if delay_s:
                sender.pause(delay_s)
            sender.close()

    def announce_end(self) -> None:
        """Send serverShutdown on every connection."""
        self._hub.tell_shutdown(self._clock())
        self.users.tell_shutdown(self._clock())

    def end_subscriptions(self) -> None:
        """End every subscription to user events."""
        self.users.terminate(self._clock())

    async def serve(self, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        """Serve one connection until it ends; refuse what is no handshake or names no service."""
        fault = self._faults.take(CONNECT, path.rstrip("/"), None, None)
        if fault is not None:
            return refused_handshake(fault, request)
        socket = web.WebSocketResponse(
            autoping=False,
            compress=False,
            max_msg_size=self._settings.message_bytes_max,
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
        try:
            self._count_connect(request.remote or "", is_api=streams is None)
        except BinanceError as error:
            body = {"code": error.code, "msg": error.message}
            return json_response(body, error.status, error.headers)
        self.opened[address] += 1
        await socket.prepare(request)
        line = _Line(socket, request.transport, self._faults, self._settings)
        self._sockets[socket] = line.sender
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
                        self._hub,
                        line.sender,
                        line.gate,
                        is_combined=is_combined,
                        streams_max=self._settings.streams_max,
                        unit=unit,
                    )
                    rate = MessageRate(self._settings.messages_per_second)
                    await _serve_streams(connection, line, rate, streams)
                for helper in helpers:
                    helper.cancel()
        finally:
            self._sockets.pop(socket, None)
        return socket

    def _count_connect(self, address: str, *, is_api: bool) -> None:
        """Raise BinanceError for a connect too many, or one whose weight is too much."""
        now_ms = self._clock() // 1_000_000
        self._connects.count(address, now_ms)
        if is_api:
            self._api.limits.charge(_CONNECT_WEIGHT, now_ms)

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
            log = self._intake.log("WS", "", received)
            log.status, log.code, log.outcome = error.status, error.code, "refused"
            session.send_unreadable(error, self._clock())
            return
        log = self._intake.log("WS", request.method, received)
        api_key = request.wire.parameters.get("apiKey") or session.api_key
        fault = self._intake.take_fault(log, request.wire, api_key)
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
        def carry_out(wire: WireRequest, log: LoggedRequest) -> Answer:
            reply = self._reply(session, structs.replace(request, wire=wire), log)
            body = reply.body["result" if reply.status == 200 else "error"]
            return Answer(status=reply.status, body=to_builtins(body), headers={})

        answer = await self._faulty.answer(fault, request.wire, log, carry_out)
        if answer is None:
            session.cut()
            return
        now_ns = self._clock()
        if answer.status == 200:
            reply = WebSocketReply(200, {"result": answer.body})
        else:
            reply = WebSocketReply(answer.status, {"error": _error(answer, now_ns)})
        session.send(request, reply, now_ns, answer.spoil)

    def _carry_out_socket(
        self, session: WebSocketSession, request: WebSocketRequest, log: LoggedRequest
    ) -> None:
        reply = self._reply(session, request, log)
        session.send(request, reply, self._clock())

    def _reply(
        self, session: WebSocketSession, request: WebSocketRequest, log: LoggedRequest
    ) -> WebSocketReply:
        reply = session.answer(request, self._clock(), received_ns=log.received_ns)
        if reply.status == 200:
            self._intake.accept(log, WEBSOCKET_ENDPOINTS.get(request.method))
        else:
            log.status, log.outcome, log.code = reply.status, "refused", reply.code
        self._publish()
        return reply


def _error(answer: Answer, now_ns: int) -> object:
    """Return an error as the WebSocket API prints it, with the moment to come back at."""
    if answer.retry_after_s is None or not isinstance(answer.body, Mapping):
        return answer.body
    now_ms = now_ns // 1_000_000
    data = {"serverTime": now_ms, "retryAfter": now_ms + answer.retry_after_s * 1_000}
    return {**answer.body, "data": data}


async def _serve_streams(
    connection: StreamConnection, line: _Line, rate: MessageRate, streams: list[str]
) -> None:
    try:
        connection.listen(streams)
        async for text in line.texts(rate):
            connection.receive(text)
    except PolicyError as error:
        await line.close(error)
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

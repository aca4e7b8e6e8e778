"""A Binance account's own events over one WebSocket that reconnects for ever.

Our own small client, not CCXT's `watch_orders`: that one drops updates that arrive back to back
and does not tell about a gap, and a gap is what the order executor must know of.

Before the exchange ends a connection (after 24 h, or with notice) a second one is opened, and
only then the first is read to its end and closed: what is told twice is known, nothing is missed.

One task does it all, the one that iterates: it reads the socket, answers pings, keeps the listen
key alive, and hands answers to whoever asked something over the same socket (`ask`). There is no
queue. A consumer that is slow holds back the socket itself (aiohttp stops
reading beyond 64 KB), and one that is too slow loses the connection and is told so.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import aiohttp
import msgspec
import structlog

from bagbot.domain.errors import (
    AuthenticationError,
    ExchangeError,
    ExchangeUnavailableError,
    RateLimitedError,
)
from bagbot.trading.connectors.guarded_exchange import RateGate, wait_after_s
from bagbot.trading.connectors.interface import (
    AccountEvent,
    ExchangeOrder,
    StreamLost,
    StreamOpened,
)

logger = structlog.get_logger(__name__)

OPEN_TIMEOUT_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 30.0
# Binance allows 300 connections in 5 minutes: one that breaks at once must not be retried at once.
_STABLE_AFTER_S: Final = 10.0
# After so long without a single frame we ping; without an answer for as long again, it is dead.
_SILENCE_S: Final = 15.0
# A reader wakes up so often to see whether the connection is to be replaced.
_LOOK_UP_EVERY_S: Final = 1.0
# Binance ends every connection after 24 h.
STREAM_LIFE_S: Final = 23 * 3600.0
# An old connection that has told nothing for so long has nothing more to tell.
_QUIET_S: Final = 0.5
_OVERLAP_S: Final = 1.0
_ROTATION_RETRY_S: Final = 60.0

Message = Mapping[str, Any]


class StreamBrokenError(Exception):
    """The connection cannot go on; it is opened anew."""


class Door(Protocol):
    """How one kind of account's stream is opened and read."""

    keep_alive_every_s: float | None

    async def open(self, session: aiohttp.ClientSession) -> "Socket":
        """Return a connection on which events arrive."""
        ...

    async def keep_alive(self) -> None:
        """Tell the exchange that the stream is still wanted."""
        ...

    def event(self, message: Message) -> Message:
        """Return the event inside a message."""
        ...


class Socket:
    """One WebSocket, read message by message; it notices a dead line by pinging into silence."""

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse, *, silence_s: float = _SILENCE_S
    ) -> None:
        self._socket = socket
        self._silence_s = silence_s
        self._is_pinged = False
        self._heard_at_s = time.monotonic()
        self._early: deque[Message] = deque()

    async def ask(self, question: Message) -> Message:
        """Send a request and return its answer; events that come before it are kept for later."""
        await self.send(question)
        while True:
            message = await self._next(self._silence_s)
            if message is not None and message.get("id") == question["id"]:
                return message
            if message is not None:
                self._early.append(message)

    async def send(self, question: Message) -> None:
        """Send a request; whoever reads gets its answer."""
        await self._socket.send_str(msgspec.json.encode(question).decode())

    @property
    def is_fresh(self) -> bool:
        """Whether the line was heard of lately, so that it is most likely not dead."""
        return not self._is_pinged and time.monotonic() - self._heard_at_s < 2 * self._silence_s

    async def read(self, wait_s: float) -> Message | None:
        """Return the next message, or None when `wait_s` seconds have passed without one."""
        if self._early:
            return self._early.popleft()
        return await self._next(min(wait_s, self._silence_s, _LOOK_UP_EVERY_S))

    async def close(self) -> None:
        """Close the connection; one that does not answer is dropped."""
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(2):
                await self._socket.close()

    async def _next(self, wait_s: float) -> Message | None:
        try:
            frame = await self._socket.receive(timeout=wait_s)
        except TimeoutError:
            silent_s = time.monotonic() - self._heard_at_s
            if silent_s >= self._silence_s * (2 if self._is_pinged else 1):
                await self._ping()
            return None
        self._is_pinged = False
        self._heard_at_s = time.monotonic()
        if frame.type is aiohttp.WSMsgType.PING:
            await self._socket.pong(frame.data)
            return None
        if frame.type is aiohttp.WSMsgType.PONG:
            return None
        if frame.type is not aiohttp.WSMsgType.TEXT:
            raise StreamBrokenError(f"the connection was closed ({self._socket.close_code})")
        message = msgspec.json.decode(frame.data)
        if not isinstance(message, dict):
            raise StreamBrokenError("a message was no JSON object")
        return message

    async def _ping(self) -> None:
        if self._is_pinged:
            raise StreamBrokenError(f"no frame for {2 * self._silence_s:.0f} s, not even a pong")
        self._is_pinged = True
        await self._socket.ping()


class SpotDoor:
    """Spot: `userDataStream.subscribe.signature` on the WebSocket API; listen keys are gone."""

    keep_alive_every_s: float | None = None

    def __init__(self, url: str, signed: Callable[[], Awaitable[Message]]) -> None:
        self._url = url
        self._signed = signed

    async def open(self, session: aiohttp.ClientSession) -> Socket:
        """Connect and subscribe; AuthenticationError when the key is refused."""
        socket = await connect(session, self._url)
        try:
            question = {
                "id": "subscribe",
                "method": "userDataStream.subscribe.signature",
                "params": await self._signed(),
            }
            answer = await socket.ask(question)
            if answer.get("status") != 200:
                raise _refusal(answer)
        except BaseException:
            await socket.close()
            raise
        return socket

    async def keep_alive(self) -> None:
        """Do nothing: the subscription lives as long as its connection."""

    def event(self, message: Message) -> Message:
        """Return what is inside `{"subscriptionId": 0, "event": {...}}`."""
        event = message.get("event", message)
        return event if isinstance(event, dict) else message


class FuturesDoor:
    """USD-M futures: a listen key over REST, renewed before its hour is over."""

    keep_alive_every_s: float | None = 20 * 60

    def __init__(
        self,
        url: str,
        new_listen_key: Callable[[], Awaitable[str]],
        renew_listen_key: Callable[[], Awaitable[None]],
    ) -> None:
        self._url = url
        self._new_listen_key = new_listen_key
        self._renew_listen_key = renew_listen_key

    async def open(self, session: aiohttp.ClientSession) -> Socket:
        """Get a listen key and connect with it."""
        return await connect(session, f"{self._url}?listenKey={await self._new_listen_key()}")

    async def keep_alive(self) -> None:
        """Renew the listen key."""
        await self._renew_listen_key()

    def event(self, message: Message) -> Message:
        """Return the event, with or without the wrapping of a combined stream."""
        event = message.get("data", message)
        return event if isinstance(event, dict) else message


async def connect(session: aiohttp.ClientSession, url: str) -> Socket:
    """Return an open WebSocket; pings are answered by `Socket`, which counts them as life.

    Raises RateLimitedError when there were too many connections.
    """
    try:
        return Socket(await session.ws_connect(url, autoping=False))
    except aiohttp.WSServerHandshakeError as error:
        if error.status not in (418, 429):
            raise
        stated = "" if error.headers is None else error.headers.get("Retry-After", "")
        wait_s = wait_after_s(error.status, float(stated) if stated.isdecimal() else None)
        text = f"the connection was refused: too many (HTTP {error.status})"
        raise RateLimitedError(text, retry_after_s=wait_s, http_status=error.status) from error


def _refusal(answer: Message) -> ExchangeError:
    error = answer.get("error") or {}
    code, words = error.get("code"), error.get("msg", "no reason given")
    status = answer.get("status")
    text = f"subscribing to the account's events was refused: {words} (code {code})"
    # A wrong signature does not heal by trying again, nor does a wrong key.
    if code in (-1002, -1022, -2008, -2014, -2015) or status == 401:
        return AuthenticationError(text, code=code, http_status=status)
    if status in (418, 429):
        data = error.get("data") or {}
        until_ms, now_ms = data.get("retryAfter"), data.get("serverTime")
        stated_s = (until_ms - now_ms) / 1000 if until_ms and now_ms else None
        wait_s = wait_after_s(status, stated_s)
        return RateLimitedError(text, retry_after_s=wait_s, code=code, http_status=status)
    return ExchangeUnavailableError(text, code=code, http_status=status)


class AccountStream:
    """The account's events, for ever: opened, read, lost, told, and opened again."""

    def __init__(
        self,
        door: Door,
        *,
        venue: str,
        session: Callable[[], aiohttp.ClientSession | None],
        order_of: Callable[[Message], ExchangeOrder | None],
        key_advice: str,
        gate: RateGate,
        on_too_many: Callable[[Message], None],
        life_s: float = STREAM_LIFE_S,
    ) -> None:
        self._door = door
        self._venue = venue
        self._session = session
        self._order_of = order_of
        self._key_advice = key_advice
        # The one that every request passes: who is told to wait here sends nothing there.
        self._gate = gate
        self._on_too_many = on_too_many
        self._life_s = life_s
        self._opened_at_s = 0.0
        self._renew_at_s = float("inf")
        self._rotate_at_s = float("inf")
        self._open_socket: Socket | None = None
        self._asked: dict[object, tuple[Socket, asyncio.Future[Message]]] = {}

    @property
    def is_open(self) -> bool:
        """Whether something can be asked over it now."""
        return self._open_socket is not None and self._open_socket.is_fresh

    async def ask(self, question: Message) -> Message:
        """Send a request over the open connection and return its answer.

        It is sent once. Raises StreamBrokenError when the connection is lost before the answer.
        """
        socket = self._open_socket
        if socket is None:
            raise StreamBrokenError("the connection is not open")
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._asked[question["id"]] = socket, answer
        try:
            await socket.send(question)
            return await answer
        finally:
            del self._asked[question["id"]]

    def rotate(self) -> None:
        """Open a new connection soon, beside the one that is open, and leave that one then."""
        self._rotate_at_s = 0.0

    async def events(self) -> AsyncIterator[AccountEvent]:
        """Yield StreamOpened, orders, and a StreamLost for each gap; end when closed by us.

        Raises AuthenticationError; every other trouble is a gap.
        """
        pause_s = _FIRST_PAUSE_S
        is_loss_told = False
        while (session := self._session()) is not None:
            self._opened_at_s = time.monotonic()
            try:
                await asyncio.sleep(self._gate.remaining_s)
                async with contextlib.aclosing(self._told(session)) as told:
                    async for event in told:
                        is_loss_told = False
                        yield event
            except AuthenticationError as error:
                logger.error(  # noqa: TRY400 - the text says it all, a traceback nothing more.
                    "account stream refused", venue=self._venue, detail=str(error)
                )
                error.args = (f"{self._venue}: {error}. {self._key_advice}",)
                raise
            except (*TROUBLE, ExchangeError) as error:
                reason = self._reason_noted(error)
            if time.monotonic() - self._opened_at_s > _STABLE_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            if self._session() is None:
                return
            logger.warning("account stream lost", venue=self._venue, reason=reason, pause_s=pause_s)
            if not is_loss_told:
                is_loss_told = True
                yield StreamLost(reason)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _told(self, session: aiohttp.ClientSession) -> AsyncGenerator[AccountEvent, None]:
        """Yield what one connection after the other tells, without a gap, until one is lost."""
        socket = await self._opened(session)
        try:
            yield StreamOpened()
            while True:
                order = await self._next_order(socket)
                if order is not None:
                    yield order
                if time.monotonic() < self._rotate_at_s:
                    continue
                successor = await self._successor(session)
                if successor is None:
                    continue
                old, socket = socket, successor
                async with contextlib.aclosing(self._rest_of(old)) as rest:
                    async for order in rest:
                        yield order
                # Nothing should be missing now; asking costs little.
                yield StreamOpened()
        finally:
            await self._leave(socket)

    async def _opened(self, session: aiohttp.ClientSession) -> Socket:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            socket = await self._door.open(session)
        logger.info("account stream opened", venue=self._venue)
        now_s = self._opened_at_s = time.monotonic()
        self._open_socket = socket
        self._renew_at_s = now_s + (self._door.keep_alive_every_s or float("inf"))
        self._rotate_at_s = now_s + self._life_s
        return socket

    async def _successor(self, session: aiohttp.ClientSession) -> Socket | None:
        """Return a new connection beside the open one, or None when none is to be had now."""
        try:
            self._gate.check("a new account stream")
            return await self._opened(session)
        except AuthenticationError:
            raise
        except (*TROUBLE, ExchangeError) as error:
            logger.warning("account stream not renewed yet", reason=self._reason_noted(error))
            self._rotate_at_s = time.monotonic() + _ROTATION_RETRY_S
            return None

    async def _rest_of(self, old: Socket) -> AsyncGenerator[ExchangeOrder, None]:
        """Yield what an old connection still tells, until it is quiet and owes no answer."""
        began_s = time.monotonic()
        try:
            while time.monotonic() < began_s + OPEN_TIMEOUT_S:
                message = await old.read(_QUIET_S)
                order = None if message is None else self._order_in(message)
                if order is not None:
                    yield order
                is_owed = any(asked_over is old for asked_over, _ in self._asked.values())
                # It tells what the new one tells, too: only what it told before that is wanted.
                if not is_owed and (message is None or time.monotonic() > began_s + _OVERLAP_S):
                    return
        except TROUBLE as error:
            # The new one is open: whatever the old one still had is asked for next.
            logger.info("the old account stream has ended", reason=reason_of(error))
        finally:
            await self._leave(old)

    def _reason_noted(self, error: Exception) -> str:
        if isinstance(error, RateLimitedError):
            self._gate.close_for(error.retry_after_s or 0.0)
        return reason_of(error)

    async def _leave(self, socket: Socket | None) -> None:
        """Close a connection; who waits for an answer over it gets none."""
        if socket is None or socket is self._open_socket:
            self._open_socket = None
        for asked_over, answer in self._asked.values():
            if asked_over is socket and not answer.done():
                answer.set_exception(StreamBrokenError("the connection was lost"))
        if socket is not None:
            await socket.close()

    async def _next_order(self, socket: Socket) -> ExchangeOrder | None:
        wake_at_s = min(self._renew_at_s, self._rotate_at_s)
        message = await socket.read(max(0.001, wake_at_s - time.monotonic()))
        if time.monotonic() >= self._renew_at_s:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await self._door.keep_alive()
            self._renew_at_s = time.monotonic() + (self._door.keep_alive_every_s or float("inf"))
        return None if message is None else self._order_in(message)

    def _order_in(self, message: Message) -> ExchangeOrder | None:
        if message.get("status") in (418, 429):
            # Here, because whoever asked may have given up by now, and the wait is for everybody.
            self._on_too_many(message)
        _, asked = self._asked.get(message.get("id"), (None, None))
        if asked is not None and not asked.done():
            asked.set_result(message)
            return None
        event = self._door.event(message)
        if event.get("e") == "serverShutdown":
            # It goes on for a while: long enough to open another one first.
            self.rotate()
            return None
        if event.get("e") in _ENDINGS:
            raise StreamBrokenError(f"the exchange says {event['e']}")
        return self._order_of(event) if "e" in event else None


_ENDINGS: Final = ("eventStreamTerminated", "listenKeyExpired")
# An event that cannot be read was missed: that is a gap as well, which REST must fill.
TROUBLE: Final = (
    aiohttp.ClientError,
    OSError,
    StreamBrokenError,
    msgspec.DecodeError,
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
)


def reason_of(error: BaseException) -> str:
    """Return why a connection was lost, in words that give no address away."""
    if isinstance(error, StreamBrokenError | ExchangeError):
        return str(error)
    # Not the error's text: it may hold an address with the listen key in it.
    return f"{type(error).__name__} on the connection"

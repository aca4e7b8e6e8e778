"""What clients may do on connections: how many, how often, and for how long without a word."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from aiohttp import web

from bagbot.simulator.binance_errors import too_many_connects

_FIVE_MINUTES_MS = 5 * 60 * 1_000
_NS_PER_SECOND = 1_000_000_000


class PolicyError(Exception):
    """A client breaks a rule of the sockets; its connection is closed with the message."""


class MessageRate:
    """How many messages one connection has sent within the last second."""

    def __init__(self, per_second_max: int) -> None:
        self._received_ns: deque[int] = deque(maxlen=per_second_max)

    def count(self, now_ns: int) -> None:
        """Count a message at a monotonic time. Raises PolicyError when it is one too many."""
        received_ns = self._received_ns
        if len(received_ns) == received_ns.maxlen and now_ns - received_ns[0] < _NS_PER_SECOND:
            raise PolicyError("Too many requests")
        received_ns.append(now_ns)


class ConnectRate:
    """How many WebSockets each address has opened in these five minutes of the clock."""

    def __init__(self, per_5_minutes_max: int) -> None:
        self._limit = per_5_minutes_max
        self._window = -1
        self._counts: dict[str, int] = {}

    def count(self, address: str, now_ms: int) -> None:
        """Count a connect. Raises BinanceError when it is one too many."""
        window = now_ms // _FIVE_MINUTES_MS
        if window != self._window:
            self._window = window
            self._counts.clear()
        count = self._counts.get(address, 0) + 1
        if count > self._limit:
            raise too_many_connects(
                self._limit, now_ms=now_ms, until_ms=(window + 1) * _FIVE_MINUTES_MS
            )
        self._counts[address] = count


class GuardedServer(web.Server):
    """An HTTP server that drops a connection which asks for nothing, and one too many."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        connections_max: int,
        first_request_s: float,
    ) -> None:
        super().__init__(self._serve, access_log=None)
        self._handler = handler
        self._connections_max = connections_max
        self._first_request_s = first_request_s
        self._waiting: dict[web.RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Give a connection its time for a first request."""
        super().connection_made(handler, transport)
        loop = asyncio.get_running_loop()
        if len(self.connections) > self._connections_max:
            # Not at once: aiohttp has yet to finish its own beginning.
            loop.call_soon(transport.abort)
            return
        self._waiting[handler] = loop.call_later(self._first_request_s, transport.abort)

    def connection_lost(
        self, handler: web.RequestHandler, exc: BaseException | None = None
    ) -> None:
        """Forget a connection."""
        self._stop_waiting(handler)
        super().connection_lost(handler, exc)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self._stop_waiting(request.protocol)
        return await self._handler(request)

    def _stop_waiting(self, handler: web.RequestHandler) -> None:
        timer = self._waiting.pop(handler, None)
        if timer is not None:
            timer.cancel()

"""Binance's bars as they close: a stream that tells at once, and REST for what it does not tell."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Final

import aiohttp
import structlog

from bagbot.domain.errors import ExchangeError, RateLimitedError
from bagbot.domain.ohlcv import Ohlcv
from bagbot.trading.connectors import binance_messages as messages
from bagbot.trading.connectors.binance_stream import (
    OPEN_TIMEOUT_S,
    TROUBLE,
    Message,
    StreamBrokenError,
    connect,
    reason_of,
)
from bagbot.trading.connectors.closed_bars import ClosedBars, wait_out
from bagbot.trading.connectors.guarded_exchange import RateGate

logger = structlog.get_logger(__name__)

_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 30.0
# A stream that tells nothing for so long is checked: a quiet market and a dead stream look alike.
_SILENCE_S_MAX: Final = 60.0


class BarStream:
    """One market's closed bars over one WebSocket that reconnects for ever."""

    def __init__(
        self,
        bars: ClosedBars,
        *,
        address: str,
        name: Callable[[], Awaitable[str]],
        session: Callable[[], aiohttp.ClientSession | None],
        gate: RateGate,
        life_s: float,
    ) -> None:
        self._bars = bars
        self._address = address
        self._name = name
        self._session = session
        self._gate = gate
        self._life_s = life_s

    async def bars(self) -> AsyncIterator[Ohlcv]:
        """Yield each bar when it has closed; end when closed by us.

        Raises AuthenticationError, and InvalidOrderError for a market that is not there.
        """
        pause_s = _FIRST_PAUSE_S
        while (session := self._session()) is not None:
            try:
                await asyncio.sleep(self._gate.remaining_s)
                # Its end is no trouble: a connection that has grown old is replaced.
                async with contextlib.aclosing(self._told(session)) as told:
                    async for bar in told:
                        pause_s = _FIRST_PAUSE_S
                        yield bar
            except (*TROUBLE, ExchangeError) as error:
                if self._session() is None:
                    return
                if isinstance(error, RateLimitedError):
                    self._gate.close_for(error.retry_after_s or 0.0)
                trouble = error if isinstance(error, ExchangeError) else _lost(error)
                await wait_out(trouble, self._bars.what, pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _told(self, session: aiohttp.ClientSession) -> AsyncGenerator[Ohlcv, None]:
        """Yield what one connection tells and, before it, what was missed without one."""
        address = f"{self._address}/{await self._name()}"
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            socket = await connect(session, address)
        try:
            end_s = time.monotonic() + self._life_s
            # Only now: what closes while the answer is under way is told by the stream.
            async for bar in self._bars.catch_up():
                yield bar
            heard_at_s = time.monotonic()
            silence_s = min(self._bars.interval_ms / 1000, _SILENCE_S_MAX)
            while (now_s := time.monotonic()) < end_s:
                message = await socket.read(min(end_s, heard_at_s + silence_s) - now_s)
                if message is not None:
                    heard_at_s = time.monotonic()
                    async for bar in self._in(message):
                        yield bar
                elif time.monotonic() >= heard_at_s + silence_s:
                    heard_at_s = time.monotonic()
                    async for bar in self._kept_back():
                        yield bar
        finally:
            await socket.close()

    async def _in(self, message: Message) -> AsyncIterator[Ohlcv]:
        """Yield the bars that a message makes known to have closed."""
        event = message.get("data", message)
        if event.get("e") == "serverShutdown":
            raise StreamBrokenError("the exchange says serverShutdown")
        told = messages.ohlcv_from_event(event)
        if told is None or not self._bars.is_new(told[0]):
            return
        bar, has_closed = told
        async for earlier in self._bars.catch_up_to(bar.open_time_ms):
            yield earlier
        if has_closed:
            self._bars.told(bar)
            yield bar

    async def _kept_back(self) -> AsyncIterator[Ohlcv]:
        """Yield what has closed without the stream telling, which is the end of that stream."""
        count = 0
        async for bar in self._bars.catch_up():
            count += 1
            yield bar
        if count:
            raise StreamBrokenError(f"the stream has not told of {count} bars that have closed")


def _lost(error: BaseException) -> ExchangeError:
    return ExchangeError(reason_of(error))

"""Which bars have closed: each told once, in order, none left out, whatever the line does.

An exchange's answer is trusted about a bar only when a later one stands in the same answer: the
last row may be running, and by no clock can that be told (a paper market may stand still). A
stream's own word that a bar has closed is trusted as well. Everything else is asked again.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import structlog

from bagbot.domain.errors import AuthenticationError, ExchangeError, RateLimitedError
from bagbot.domain.ohlcv import Ohlcv

logger = structlog.get_logger(__name__)

FetchBars = Callable[[int | None], Awaitable[Sequence[Ohlcv]]]
"""Returns bars from a time on (ms), or the newest; the last one may be running."""

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
# An overdue bar is asked for so often; one that is far from over is not trusted to a clock longer.
_OVERDUE_PAUSE_S: Final = 5.0
_SLEEP_S_MAX: Final = 60.0


class ClosedBars:
    """The bars of one market from `next_ms` on; what has been told is not told again.

    Without `next_ms` they begin with the bar that is running when first asked.
    """

    def __init__(
        self, fetch: FetchBars, *, what: str, interval_ms: int, next_ms: int | None
    ) -> None:
        self._fetch = fetch
        self._next_ms = next_ms
        self.what = what
        self.interval_ms = interval_ms

    @property
    def next_ms(self) -> int | None:
        """The earliest opening of the next bar to tell; None while nothing is known."""
        return self._next_ms

    def told(self, bar: Ohlcv) -> None:
        """Note that this bar has closed and is told."""
        assert self._next_ms is None or bar.open_time_ms >= self._next_ms, "told twice"
        self._next_ms = bar.open_time_ms + self.interval_ms

    def is_new(self, bar: Ohlcv) -> bool:
        """Return whether this bar has not been told."""
        return self._next_ms is None or bar.open_time_ms >= self._next_ms

    async def catch_up(self) -> AsyncIterator[Ohlcv]:
        """Yield what has closed by the exchange's own answer and was not told."""
        while True:
            rows = await self._rows()
            for bar in rows[:-1]:
                self.told(bar)
                yield bar
            if len(rows) <= 2:
                return

    async def catch_up_to(self, open_ms: int) -> AsyncIterator[Ohlcv]:
        """Yield all bars that open before `open_ms`, which is known to have opened.

        An answer can be older than what a stream has told: it is asked for until it is not.
        """
        pause_s = _FIRST_PAUSE_S
        while self._next_ms is not None and self._next_ms < open_ms:
            rows = await self._rows()
            for bar in rows[:-1]:
                if bar.open_time_ms >= open_ms:
                    break
                self.told(bar)
                yield bar
            if rows and rows[-1].open_time_ms >= open_ms:
                # Bars that are missing in between do not exist.
                self._next_ms = open_ms
            elif len(rows) < 2:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _rows(self) -> list[Ohlcv]:
        """Return what was not told, with the one that may be running at the end."""
        found = {bar.open_time_ms: bar for bar in await self._fetch(self._next_ms)}
        rows = [found[open_ms] for open_ms in sorted(found)]
        if self._next_ms is None:
            rows = rows[-1:]
            if rows:
                self._next_ms = rows[0].open_time_ms
        return [bar for bar in rows if self.is_new(bar)]


async def polled(
    bars: ClosedBars, *, clock_ms: Callable[[], int], is_closed: Callable[[], bool]
) -> AsyncIterator[Ohlcv]:
    """Yield bars as they close, by asking about the time they should, until `is_closed`."""
    pause_s = _FIRST_PAUSE_S
    while not is_closed():
        try:
            async for bar in bars.catch_up():
                pause_s = _FIRST_PAUSE_S
                yield bar
        except ExchangeError as error:
            await wait_out(error, bars.what, pause_s)
        else:
            ends_ms = 0 if bars.next_ms is None else bars.next_ms + bars.interval_ms
            left_s = min((ends_ms - clock_ms()) / 1000, _SLEEP_S_MAX)
            # The clock only says when to ask: a bar in which nobody trades comes late, if at all.
            await _sleep(max(left_s, min(pause_s, _OVERDUE_PAUSE_S)), is_closed)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def wait_out(error: ExchangeError, what: str, pause_s: float) -> None:
    """Wait until it may be better; a key that is refused is raised, for it never will be."""
    if isinstance(error, AuthenticationError):
        raise error
    if isinstance(error, RateLimitedError):
        pause_s = max(pause_s, error.retry_after_s or 0.0)
    logger.warning("no bars for now", of=what, error=str(error), pause_s=pause_s)
    await asyncio.sleep(pause_s)


async def _sleep(duration_s: float, is_closed: Callable[[], bool]) -> None:
    """Sleep for so long, but no longer than a second after the connector was closed."""
    end_s = time.monotonic() + duration_s
    for _ in range(math.ceil(duration_s)):
        if not is_closed():
            await asyncio.sleep(min(1.0, end_s - time.monotonic()))

"""History from an exchange into the catalogue: in pages, resumable at any point.

What was asked for is written down with the bars, span by span. So a download that was killed goes
on where it was, and one that is done asks for nothing again but what is new. A gap at the exchange
stays a gap.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from bagbot.domain.errors import (
    AuthenticationError,
    DataError,
    ExchangeError,
    RateLimitedError,
)
from bagbot.domain.instrument import Instrument
from bagbot.domain.ohlcv import Ohlcv, origin_ms, timeframe_ms
from bagbot.marketdata.catalog import Catalog, Span, without
from bagbot.marketdata.recorded_bars import RecordedBars

logger = structlog.get_logger(__name__)

# Bars are written so many at a time, and more of them as the file grows: it is written as a whole.
_BARS_AT_ONCE: Final = 1_000
_SHARE_AT_ONCE: Final = 8
# How far to look on where an answer is empty, while no page has shown how many bars one holds.
_PAGE_MIN: Final = 100
_TRIES: Final = 6
_FIRST_PAUSE_S: Final = 0.5
# A bar counts as closed so long after its end: our clock may be ahead of the exchange's.
_SETTLED_AFTER_MS: Final = 60_000


class BarSource(Protocol):
    """What a download needs of a connector."""

    @property
    def capabilities(self) -> frozenset[str]:
        """The optional methods it has."""
        ...

    async def fetch_ohlcv(
        self,
        symbol: str,
        timeframe: str = "1m",
        since_ms: int | None = None,
        limit: int | None = None,
    ) -> Sequence[Ohlcv]:
        """Return bars, oldest first, from a time on; the last one may still be running."""
        ...

    async def load_instruments(self) -> Mapping[str, Instrument]:
        """Return what can be traded, by symbol."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a download is: `done_ms` of `total_ms` of market time, and the bars it has got."""

    done_ms: int
    total_ms: int
    bars: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """What came of a download: `asked` are the spans that were not there before."""

    asked: tuple[Span, ...]
    new: int
    known: int


async def download(
    source: BarSource,
    catalog: Catalog,
    symbol: str,
    timeframe: str,
    *,
    exchange: str,
    start_ms: int,
    end_ms: int,
    now_ms: int,
    on_progress: Callable[[Progress], None] | None = None,
) -> Downloaded:
    """Load the bars that open at `start_ms` or later and before `end_ms`, and have closed.

    What the catalogue has been loaded with before is not asked for again. What has arrived is kept,
    however this ends. Trouble at the exchange is waited out for about half a minute.

    Raises DataError when the exchange has no bars there, ExchangeError, InvalidOrderError for a
    market it does not know.
    """
    interval_ms = timeframe_ms(timeframe)
    origin = origin_ms(interval_ms)
    closed_ms = (now_ms - _SETTLED_AFTER_MS - origin) // interval_ms * interval_ms + origin
    start_ms = -(-(start_ms - origin) // interval_ms) * interval_ms + origin
    wanted = start_ms, min(end_ms, closed_ms)
    instrument = None
    if "load_instruments" in source.capabilities:
        instrument = (await source.load_instruments()).get(symbol)
    covered = await asyncio.to_thread(catalog.covered, exchange, symbol, interval_ms)
    spans = without(wanted, covered)
    load = _Load(source, catalog, symbol, timeframe, exchange, instrument)
    load.total_ms = sum(end - start for start, end in spans)
    load.on_progress = on_progress
    for span in spans:
        await load.span(span)
    if not load.bars and not covered:
        raise DataError(f"{exchange} has no bars of {symbol} {timeframe} in that time")
    return Downloaded(asked=spans, new=load.new, known=load.known)


class _Load:
    """One download on its way."""

    def __init__(
        self,
        source: BarSource,
        catalog: Catalog,
        symbol: str,
        timeframe: str,
        exchange: str,
        instrument: Instrument | None,
    ) -> None:
        self._source = source
        self._catalog = catalog
        self._symbol = symbol
        self._timeframe = timeframe
        self._interval_ms = timeframe_ms(timeframe)
        self._exchange = exchange
        self._instrument = instrument
        self._pending: list[Ohlcv] = []
        self._page = 0
        self._done_ms = 0
        self.total_ms = 0
        self.on_progress: Callable[[Progress], None] | None = None
        self.bars = 0
        self.new = 0
        self.known = 0

    async def span(self, span: Span) -> None:
        """Load one span, page by page; what has come is written, whatever ends it."""
        start_ms, end_ms = span
        written_ms = next_ms = start_ms
        try:
            while next_ms < end_ms:
                rows = await self._rows(next_ms)
                self._page = max(self._page, len(rows))
                mine = [row for row in rows if row.open_time_ms < end_ms]
                self._pending += mine
                self.bars += len(mine)
                # An exchange that shows nothing from here on may show something further on.
                after_ms = (
                    rows[-1].open_time_ms + self._interval_ms
                    if rows
                    else next_ms + max(self._page, _PAGE_MIN) * self._interval_ms
                )
                self._tell(min(after_ms, end_ms) - next_ms)
                next_ms = min(after_ms, end_ms)
                if len(self._pending) >= max(_BARS_AT_ONCE, self.bars // _SHARE_AT_ONCE):
                    await asyncio.to_thread(self._write, (written_ms, next_ms))
                    written_ms = next_ms
        except BaseException:
            if self._pending:
                # Not in a thread: who tells us to stop does not wait for one.
                self._write((written_ms, next_ms))
            raise
        if self.bars:
            await asyncio.to_thread(self._write, (written_ms, end_ms))

    async def _rows(self, since_ms: int) -> list[Ohlcv]:
        """Return a page from there on, in order and each bar once."""
        pause_s = _FIRST_PAUSE_S
        for tries_left in reversed(range(_TRIES)):
            try:
                rows = await self._source.fetch_ohlcv(self._symbol, self._timeframe, since_ms)
            except ExchangeError as error:
                if isinstance(error, AuthenticationError) or not tries_left:
                    raise
                stated_s = error.retry_after_s if isinstance(error, RateLimitedError) else None
                wait_s = max(pause_s, stated_s or 0.0)
                logger.warning("a page of bars is asked for again", error=str(error), wait_s=wait_s)
                await asyncio.sleep(wait_s)
                pause_s *= 2
            else:
                found = {row.open_time_ms: row for row in rows if row.open_time_ms >= since_ms}
                return [found[open_ms] for open_ms in sorted(found)]
        raise AssertionError("the last try returns or raises")

    def _write(self, covered: Span) -> None:
        """Put what has come into the catalogue, with the span that it is all of."""
        rows, self._pending = self._pending, []
        added = self._catalog.add(
            RecordedBars.from_ohlcv(rows),
            exchange=self._exchange,
            symbol=self._symbol,
            interval_ms=self._interval_ms,
            instrument=self._instrument,
            covered=[covered],
        )
        self.new += added.new
        self.known += added.known

    def _tell(self, passed_ms: int) -> None:
        self._done_ms += passed_ms
        if self.on_progress is not None:
            progress = Progress(done_ms=self._done_ms, total_ms=self.total_ms, bars=self.bars)
            self.on_progress(progress)

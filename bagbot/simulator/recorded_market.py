"""Recorded bars as a market: a file of them, and each bar played as a path through its prices."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import polars

from bagbot.domain.errors import DataError
from bagbot.simulator.amounts import ONE, nearest_multiple, quote_amount
from bagbot.simulator.candles import Candle
from bagbot.simulator.market import AS_USUAL, MINUTE_MS, Point, Quoting
from bagbot.simulator.symbols import SymbolRules


@dataclass(frozen=True, slots=True)
class RecordedBar:
    """One bar of a file, on the symbol's tick. Amounts are in 1e-8."""

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int


def load_bars(path: Path, rules: SymbolRules) -> list[RecordedBar]:
    """Return the bars of a Parquet file, prices rounded to the tick and inside the bar's range.

    A file of several symbols has a column `symbol`; the rows of `rules.symbol` are taken.
    Raises DataError.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        frame = polars.read_parquet(path)
    except (polars.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from error
    frame = _checked(frame, path, rules.symbol)
    prices = [
        (polars.col(name) * ONE).round().cast(polars.Int64).alias(name)
        for name in ("open", "high", "low", "close", "volume")
    ]
    rows = frame.select(polars.col("open_time").cast(polars.Int64), *prices).rows()
    return [_on_tick(row, rules.tick) for row in rows]


def _checked(frame: polars.DataFrame, path: Path, symbol: str) -> polars.DataFrame:
    """Return the symbol's rows; raise DataError naming the first thing that is wrong."""
    columns = ["open_time", "open", "high", "low", "close", "volume"]
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DataError(f"{path}: column missing: {', '.join(missing)}")
    if "symbol" in frame.columns:
        frame = frame.filter(polars.col("symbol") == symbol)
    wrong = [name for name in columns if not frame.schema[name].is_numeric()]
    if wrong:
        raise DataError(f"{path}: column is not numeric: {', '.join(wrong)}")
    if frame.is_empty():
        raise DataError(f"{path}: no bars of {symbol}")
    numbers = frame.select(columns[1:]).cast(polars.Float64)
    if numbers.select(polars.any_horizontal(polars.all().is_null().any())).item():
        raise DataError(f"{path}: a value is missing")
    if not numbers.select(polars.all_horizontal(polars.all().is_finite().all())).item():
        raise DataError(f"{path}: a value is NaN or infinite")
    faults = [
        ("open_time does not rise strictly", polars.col("open_time").diff() <= 0),
        ("low is above high", polars.col("low") > polars.col("high")),
        ("a price is not positive", polars.col("low") <= 0),
        ("volume is negative", polars.col("volume") < 0),
        (
            "open or close lies outside low and high",
            (polars.max_horizontal("open", "close") > polars.col("high"))
            | (polars.min_horizontal("open", "close") < polars.col("low")),
        ),
    ]
    for message, condition in faults:
        bad = frame.filter(condition)
        if not bad.is_empty():
            raise DataError(f"{path}: {message} at open_time {bad['open_time'][0]}")
    return frame


def _on_tick(row: tuple[int, ...], tick: int) -> RecordedBar:
    """Return the bar on the tick: the range shrinks inwards, so that no fill can leave it."""
    open_ms, opened, high, low, close, volume = row
    low_on_tick, high_on_tick = -(-low // tick) * tick, high // tick * tick
    if low_on_tick > high_on_tick:
        # The whole bar lies between two ticks: there is no price inside it, the nearest must do.
        low_on_tick = high_on_tick = max(nearest_multiple((low + high) // 2, tick), tick)
    return RecordedBar(
        open_ms,
        min(max(nearest_multiple(opened, tick), low_on_tick), high_on_tick),
        high_on_tick,
        low_on_tick,
        min(max(nearest_multiple(close, tick), low_on_tick), high_on_tick),
        volume,
    )


class RecordedMarket:
    """Recorded bars, each played as a path from open to close through its low and its high.

    A rising bar is taken to fall first, a falling one to rise first. When the bars are over the
    price stands still at the last close.
    """

    kind = "bars"
    is_tape = False

    def __init__(
        self, bars: list[RecordedBar], rules: SymbolRules, *, start_ms: int, step_ms: int
    ) -> None:
        self._bars = bars
        self._rules = rules
        self._step_ms = step_ms
        gaps = [later.open_ms - bar.open_ms for bar, later in pairwise(bars)]
        self.base_ms = min(gaps, default=MINUTE_MS)
        self._next_bar = self._index_at(start_ms)
        self._history_end = self._next_bar
        self._pending: list[Point] = []

    @property
    def is_over(self) -> bool:
        """Return whether the last point has been yielded."""
        return self._next_bar == len(self._bars) and not self._pending

    @property
    def quoting(self) -> Quoting:
        """Return that the market quotes as usual."""
        return AS_USUAL

    def history(self) -> list[Candle]:
        """Return the bars before the one that is played first, as candles."""
        first = max(0, self._history_end - 20_000)
        return [_candle(bar) for bar in self._bars[first : self._history_end]]

    def points(self, until_ms: int) -> Iterator[Point]:
        """Yield the points not yet yielded, up to and including `until_ms`."""
        while True:
            if not self._pending:
                if self._next_bar == len(self._bars):
                    return
                if self._bars[self._next_bar].open_ms > until_ms:
                    return
                self._pending = self._path(self._bars[self._next_bar])[::-1]
                self._next_bar += 1
            if self._pending[-1].time_ms > until_ms:
                return
            yield self._pending.pop()

    def _index_at(self, time_ms: int) -> int:
        """Return the index of the newest bar that has opened by `time_ms`, at least the first."""
        return max(bisect_right(self._bars, time_ms, key=lambda bar: bar.open_ms) - 1, 0)

    def _path(self, bar: RecordedBar) -> list[Point]:
        """Return the bar's points: its four prices, and prices in between on the grid."""
        third = self.base_ms // 3
        extremes = (bar.low, bar.high) if bar.close >= bar.open else (bar.high, bar.low)
        corners = [
            (0, bar.open),
            (third, extremes[0]),
            (2 * third, extremes[1]),
            (self.base_ms - 1, bar.close),
        ]
        steps = list(corners)
        if self._step_ms < third:
            for (from_ms, from_price), (to_ms, to_price) in pairwise(corners):
                for time_ms in range(from_ms + self._step_ms, to_ms, self._step_ms):
                    way = (to_price - from_price) * (time_ms - from_ms) // (to_ms - from_ms)
                    steps.append((time_ms, nearest_multiple(from_price + way, self._rules.tick)))
            steps.sort()
        lot = self._rules.lot
        share = bar.volume // len(steps) // lot * lot
        last_share = bar.volume - share * (len(steps) - 1)
        points = []
        previous = bar.open
        for index, (time_ms, price) in enumerate(steps):
            points.append(
                Point(
                    bar.open_ms + time_ms,
                    price,
                    share if index < len(steps) - 1 else last_share,
                    price < previous,
                    (bar.low, bar.high),
                )
            )
            previous = price
        return points


def _candle(bar: RecordedBar) -> Candle:
    cost = quote_amount(price=(bar.open + bar.close) // 2, quantity=bar.volume)
    return Candle(
        bar.open_ms,
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        volume=bar.volume,
        quote_volume=cost,
        trade_count=1,
        taker_buy_volume=bar.volume // 2,
        taker_buy_quote=cost // 2,
    )

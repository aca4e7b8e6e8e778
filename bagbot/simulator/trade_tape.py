"""Recorded trades as a market: a file of them, and each played as the trade it was.

A tape tells who traded, not what else was offered. So a resting order is taken to stand before all
others at its price, and is filled by the trades that reach it, with what they traded; what a taker
meets are quotes invented around the newest trade.
"""

from collections.abc import Iterator
from pathlib import Path

import polars

from bagbot.domain.errors import DataError
from bagbot.simulator.amounts import ONE, nearest_multiple
from bagbot.simulator.candles import Candle, CandleSeries
from bagbot.simulator.market import AS_USUAL, MINUTE_MS, Point, Quoting
from bagbot.simulator.symbols import SymbolRules

# Each column under the names it has in Binance's own files, in CCXT's and in ours.
_COLUMNS = {
    "time": ("time", "timestamp"),
    "price": ("price",),
    "quantity": ("quantity", "qty", "amount"),
    "is_buyer_maker": ("is_buyer_maker", "isBuyerMaker", "side"),
}
# The side of a trade is its taker's.
_BUYER_IS_MAKER = {"true": True, "1": True, "sell": True, "false": False, "0": False, "buy": False}
# Later than any time in milliseconds, earlier than any in microseconds.
_MICROSECONDS_FROM = 10**14
_AMOUNT_MAX = 9 * 10**9
_HISTORY_CANDLES_MAX = 20_000
_ROWS_AT_ONCE = 10_000


def load_trades(path: Path, rules: SymbolRules) -> "TradeRecord":
    """Return the trades of a Parquet or CSV file, prices rounded to the tick.

    Columns: `time` in milliseconds or microseconds, `price`, `quantity`, `is_buyer_maker`; or
    `timestamp`, `qty`, `amount`, `isBuyerMaker`, or `side`, the taker's, "buy" or "sell". A file
    of several symbols has a column `symbol`. Raises DataError, naming row (from 1) and column.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    is_csv = path.suffix.lower() == ".csv"
    try:
        # As text, so that one bad value does not make its whole column bad.
        frame = polars.read_csv(path, infer_schema=False) if is_csv else polars.read_parquet(path)
    except (polars.exceptions.PolarsError, OSError) as error:
        form = "CSV" if is_csv else "Parquet"
        raise DataError(f"{path}: not a readable {form} file ({error})") from error
    names = _names(frame, path)
    frame = frame.with_row_index("row", offset=1)
    if "symbol" in frame.columns:
        frame = frame.filter(polars.col("symbol") == rules.symbol)
    if frame.is_empty():
        raise DataError(f"{path}: no trades of {rules.symbol}")
    read = frame.select(
        polars.col("row"),
        polars.col(names["time"]).cast(polars.Int64, strict=False).alias("time"),
        polars.col(names["price"]).cast(polars.Float64, strict=False).alias("price"),
        polars.col(names["quantity"]).cast(polars.Float64, strict=False).alias("quantity"),
        polars.col(names["is_buyer_maker"])
        .cast(polars.String)
        .str.to_lowercase()
        .replace_strict(_BUYER_IS_MAKER, default=None, return_dtype=polars.Boolean)
        .alias("is_buyer_maker"),
    )
    _check(read, frame, names, path)
    amounts = [
        (polars.col(name) * ONE).round().cast(polars.Int64).alias(name)
        for name in ("price", "quantity")
    ]
    is_micro = polars.col("time") >= _MICROSECONDS_FROM
    milliseconds = polars.when(is_micro).then(polars.col("time") // 1_000)
    return TradeRecord(
        read.select(
            milliseconds.otherwise(polars.col("time")).alias("time_ms"),
            *amounts,
            polars.col("is_buyer_maker"),
        ),
        rules.tick,
    )


def _names(frame: polars.DataFrame, path: Path) -> dict[str, str]:
    """Return what each column is called in the file."""
    names = {
        column: next((name for name in candidates if name in frame.columns), "")
        for column, candidates in _COLUMNS.items()
    }
    missing = [" or ".join(_COLUMNS[column]) for column, name in names.items() if not name]
    if missing:
        raise DataError(f"{path}: column missing: {', '.join(missing)}")
    return names


def _check(
    read: polars.DataFrame, frame: polars.DataFrame, names: dict[str, str], path: Path
) -> None:
    """Raise DataError naming the first thing that is wrong."""
    price, quantity = polars.col("price"), polars.col("quantity")
    faults = [
        ("time", "is not a whole number", polars.col("time").is_null()),
        ("time", "is not positive", polars.col("time") <= 0),
        ("time", "is before the row above", polars.col("time").diff() < 0),
        ("price", "is not a number", price.is_null() | ~price.is_finite()),
        ("price", "is not positive", price <= 0),
        ("price", "is too large", price > _AMOUNT_MAX),
        ("quantity", "is not a number", quantity.is_null() | ~quantity.is_finite()),
        ("quantity", "is not positive", quantity <= 0),
        ("quantity", "is too large", quantity > _AMOUNT_MAX),
        (
            "is_buyer_maker",
            "is not true, false, buy or sell",
            polars.col("is_buyer_maker").is_null(),
        ),
    ]
    for column, complaint, condition in faults:
        bad = read.select(condition.arg_true().first()).item()
        if bad is not None:
            row, value = read["row"][bad], frame[names[column]][bad]
            raise DataError(f"{path}: row {row}, column {names[column]}: {value!r} {complaint}")


class TradeRecord:
    """The trades of a file, oldest first."""

    def __init__(self, frame: polars.DataFrame, tick: int) -> None:
        self._frame = frame
        self._tick = tick

    def __len__(self) -> int:
        return len(self._frame)

    @property
    def first_ms(self) -> int:
        """Return the time of the first trade."""
        return int(self._frame["time_ms"][0])

    def index_at(self, time_ms: int) -> int:
        """Return how many trades happened before `time_ms`."""
        return int(self._frame["time_ms"].search_sorted(time_ms, side="left"))

    def rows(self, first: int, end: int) -> Iterator[Point]:
        """Yield the trades from one index up to before another."""
        wanted = self._frame.slice(first, max(end - first, 0))
        for time_ms, price, quantity, buyer_is_maker in wanted.iter_rows(buffer_size=_ROWS_AT_ONCE):
            on_tick = max(nearest_multiple(price, self._tick), self._tick)
            yield Point(time_ms, on_tick, quantity, buyer_is_maker, None)


class TradeTape:
    """Recorded trades, each at its time. When they are over, nothing trades any more."""

    kind = "trades"
    is_tape = True
    base_ms = MINUTE_MS

    def __init__(self, record: TradeRecord, *, start_ms: int) -> None:
        self._record = record
        self._next = record.index_at(start_ms)
        self._history = _candles(record.rows(0, self._next), start_ms)
        # Where the price stands before the first trade: at the last one, or at the first to come.
        self._standing: Point | None = self._standing_point(start_ms)
        self._rows = record.rows(self._next, len(record))
        self._pending: Point | None = next(self._rows, None)

    @property
    def is_over(self) -> bool:
        """Return whether the last trade has been yielded."""
        return self._pending is None

    @property
    def quoting(self) -> Quoting:
        """Return that the market quotes as usual."""
        return AS_USUAL

    def history(self) -> list[Candle]:
        """Return the minutes before the start."""
        return self._history

    def points(self, until_ms: int) -> Iterator[Point]:
        """Yield the trades not yet yielded, up to and including `until_ms`."""
        standing, self._standing = self._standing, None
        if standing is not None:
            yield standing
        while self._pending is not None and self._pending.time_ms <= until_ms:
            point, self._pending = self._pending, next(self._rows, None)
            yield point

    def _standing_point(self, start_ms: int) -> Point:
        index = max(self._next - 1, 0)
        (trade,) = self._record.rows(index, index + 1)
        return Point(start_ms, trade.price, 0, trade.buyer_is_maker, None)


def _candles(trades: Iterator[Point], start_ms: int) -> list[Candle]:
    """Return the closed minutes of the trades before the start."""
    series = CandleSeries(MINUTE_MS, length_max=_HISTORY_CANDLES_MAX)
    closed = []
    for number, trade in enumerate(trades, 1):
        closed.append(series.roll(trade.time_ms))
        series.add(
            trade.time_ms,
            price=trade.price,
            quantity=trade.quantity,
            buyer_is_maker=trade.buyer_is_maker,
            trade_id=number,
        )
    closed.append(series.roll(start_ms // MINUTE_MS * MINUTE_MS))
    return [candle for candle in closed if candle is not None][-_HISTORY_CANDLES_MAX:]

"""Bars from CSV and Parquet files, whatever their columns are called; what is wrong is named.

Nothing is repaired in silence. A file is refused with the row, the column and the reason.
"""

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy
import polars

from bagbot.domain.bars import Bars
from bagbot.domain.errors import DataError
from bagbot.domain.instrument import Instrument
from bagbot.domain.ohlcv import origin_ms, timeframe_ms, timeframe_of
from bagbot.marketdata.quality import QualityReport, examine_columns
from bagbot.marketdata.recorded_bars import PRICES, Place, RecordedBars
from bagbot.marketdata.times import times_ms

# How the columns are called, the surest name first; upper and lower case, spaces and dots aside.
_SPELLINGS: Final = {
    "time": (
        "open_time_ms open_time opentime open_timestamp timestamp_ms timestamp unix unix_timestamp "
        "unix_time time datetime date_time date gmt_time utc_time candle_begin_time begin_time "
        "start start_time t"
    ),
    "open": "open o open_price price_open 1_open first",
    "high": "high h high_price price_high 2_high max",
    "low": "low l low_price price_low 3_low min",
    "close": "close c close_price price_close 4_close last",
    "volume": "volume vol v base_volume volume_base base_asset_volume 5_volume amount",
    "symbol": "symbol ticker pair instrument market tic sym s",
}
# Binance's archive has no header: these are its columns.
_BINANCE_COLUMNS: Final = ("open_time", *PRICES, "volume")
_SEPARATORS: Final = ",;\t|"
_PREFACE_LINES_MAX: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class BarsFile:
    """What one file holds of one market: readable numbers, perhaps not usable as bars.

    `symbol` is the file's own word for the market, None when it has none; `place` says where in
    the file a row is.
    """

    path: Path
    symbol: str | None
    record: RecordedBars
    place: Place

    def interval_ms(self) -> int:
        """Return the time from one bar to the next that is the most frequent one.

        Raises DataError when there are not two bars to tell it from.
        """
        steps = numpy.diff(self.record.open_time_ms)
        steps = steps[steps > 0]
        if not len(steps):
            raise DataError(f"{self.path}: one bar does not tell its interval: name the timeframe")
        values, counts = numpy.unique(steps, return_counts=True)
        return int(values[counts.argmax()])

    def examine(self, interval_ms: int | None = None) -> QualityReport:
        """Return what is odd or wrong with the rows, all of it counted."""
        columns = dict(self.record.columns())
        return examine_columns(interval_ms or self.interval_ms(), **columns)

    def require_bars(self, interval_ms: int) -> None:
        """Raise DataError at the first row that is no bar of this interval, or out of order."""
        record = self.record
        steps = numpy.diff(record.open_time_ms, prepend=record.open_time_ms[:1] - interval_ms)
        hint = ""
        if len(record) > 1 and (steps[1:] < 0).all():
            hint = ": the newest bar comes first, turn the file around"
        self._require(steps >= 0, "time", f"is earlier than the row before{hint}")
        self._require(steps > 0, "time", "is the time of the row before")
        off = (record.open_time_ms - origin_ms(interval_ms)) % interval_ms
        self._require(
            off == 0,
            "time",
            f"is not where bars of {timeframe_of(interval_ms)} open in UTC: a wrong time zone, or "
            f"another interval",
        )
        for name in PRICES:
            self._require(getattr(record, name) > 0, name, "is not above zero")
        highest = numpy.maximum(record.open, record.close)
        lowest = numpy.minimum(record.open, record.close)
        self._require(record.high >= record.low, "high", "is below the low")
        self._require(record.high >= highest, "high", "is not the highest price")
        self._require(record.low <= lowest, "low", "is not the lowest price")
        self._require(record.volume >= 0, "volume", "is negative")

    def bars(self, instrument: Instrument | None, symbol: str | None, interval_ms: int) -> Bars:
        """Return the rows as bars. Raises DataError naming the first thing that is wrong."""
        self.require_bars(interval_ms)
        if instrument is None:
            instrument = self.record.instrument(symbol or self.symbol or self.path.stem)
        try:
            return self.record.bars(instrument, interval_ms, self.place)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error

    def _require(self, is_fine: "numpy.ndarray", column: str, reason: str) -> None:
        if is_fine.all():
            return
        row = int(numpy.argmin(is_fine))
        value = _shown(self.record, column, row)
        raise DataError(f"{self.path}: {self.place(row)}, {column}: {value} {reason}")


def read_bars(
    path: Path,
    *,
    symbol: str | None = None,
    timeframe: str | None = None,
    instrument: Instrument | None = None,
    zone: str | None = None,
) -> Bars:
    """Return the bars of a CSV or Parquet file.

    `symbol` picks one market of a file of several ("BTC/USDT" finds BTCUSDT). `timeframe` is else
    taken from the data, and so are tick and lot without an `instrument`. `zone` ("UTC",
    "Europe/Paris") is what times without a zone of their own mean; without it they are refused.

    Raises DataError with the row, the column and the reason.
    """
    file = read_file(path, symbol=symbol, zone=zone)
    interval_ms = file.interval_ms() if timeframe is None else timeframe_ms(timeframe)
    return file.bars(instrument, symbol, interval_ms)


def read_file(path: Path, *, symbol: str | None = None, zone: str | None = None) -> BarsFile:
    """Return the numbers of a file; they may be out of order, or impossible as bars.

    Raises DataError for what can't be read as times and numbers: a missing column, a value that
    is missing, mistyped or not finite, a time without a zone, several markets and no choice.
    """
    frame, first_line = _frame(path)
    if frame.is_empty():
        raise DataError(f"{path}: it has no bars")
    columns = _columns(path, frame.columns, symbol)
    frame = frame.with_row_index("__row")
    name = None
    if "symbol" in columns:
        frame, name = _of_one_market(path, frame, columns["symbol"], symbol)
    rows = frame["__row"]

    def place(row: int) -> str:
        at = int(rows[row])
        return f"row {at}" if first_line is None else f"line {at + first_line}"

    numbers = {name: _numbers(path, frame[columns[name]], place) for name in (*PRICES, "volume")}
    try:
        open_time_ms = times_ms(frame[columns["time"]], zone, place)
        prices = {name: numbers[name] for name in PRICES}
        record = RecordedBars.from_floats(open_time_ms, prices, numbers["volume"], place)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return BarsFile(path=path, symbol=name, record=record, place=place)


def _frame(path: Path) -> tuple[polars.DataFrame, int | None]:
    """Return the file's rows, and the line of the first one if it has lines."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet:
            return polars.read_parquet(path), None
        return _csv(path)
    except (polars.exceptions.PolarsError, OSError, UnicodeDecodeError, EOFError) as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: neither CSV nor Parquet that can be read ({words})") from error


def _csv(path: Path) -> tuple[polars.DataFrame, int]:
    """Return the rows of a CSV file, every value still as its text."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    preface = 0
    head = data[:65536].decode("utf-8-sig", errors="replace").splitlines()
    # Some archives put a line about themselves before the header.
    while preface < min(len(head), _PREFACE_LINES_MAX) and not _separator(head[preface]):
        preface += 1
    if preface >= len(head) or not (separator := _separator(head[preface])):
        raise DataError(f"{path}: neither CSV nor Parquet")
    first = head[preface].split(separator)[0].strip('"')
    has_header = not re.fullmatch(r"[0-9.]+", first)
    frame = polars.read_csv(
        data,
        separator=separator,
        has_header=has_header,
        skip_lines=preface,
        infer_schema=False,
        encoding="utf8",
    )
    if not has_header:
        if frame.width < len(_BINANCE_COLUMNS):
            raise DataError(f"{path}: no header, and too few columns for bars")
        names = dict(zip(frame.columns, _BINANCE_COLUMNS, strict=False))
        frame = frame.select(list(names)).rename(names)
    return frame, preface + (2 if has_header else 1)


def _separator(line: str) -> str:
    """Return what separates the columns of a line, or "" when nothing does."""
    best = max(_SEPARATORS, key=line.count)
    return best if line.count(best) >= len(PRICES) else ""


def _columns(path: Path, names: Sequence[str], symbol: str | None) -> dict[str, str]:
    """Return which column of the file is which of ours."""
    known = {re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"): name for name in reversed(names)}
    found = {}
    for ours, spellings in _SPELLINGS.items():
        name = next((known[s] for s in spellings.split() if s in known), None)
        if name is None and ours == "volume":
            name = _volume_of(path, known, symbol)
        if name is not None:
            found[ours] = name
    missing = [name for name in ("time", *PRICES, "volume") if name not in found]
    if missing:
        raise DataError(
            f"{path}: column missing: {', '.join(missing)}; there are {', '.join(names) or 'none'}"
        )
    return found


def _volume_of(path: Path, known: dict[str, str], symbol: str | None) -> str | None:
    """Return a column like "Volume BTC"; of several the one that names the base asset."""
    candidates = {
        key.removeprefix("volume_"): name
        for key, name in known.items()
        if key.startswith("volume_")
    }
    if len(candidates) < 2:
        return next(iter(candidates.values()), None)
    base = (symbol or "").partition("/")[0].lower()
    if base not in candidates:
        raise DataError(
            f"{path}: which column is the volume in base, {' or '.join(candidates.values())}? "
            f"Name the symbol as BASE/QUOTE"
        )
    return candidates[base]


def _of_one_market(
    path: Path, frame: polars.DataFrame, column: str, symbol: str | None
) -> tuple[polars.DataFrame, str]:
    """Return the rows of one market, and the file's word for it."""
    names = [str(name) for name in frame[column].unique(maintain_order=True)]
    shown = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
    if symbol is None:
        if len(names) > 1:
            raise DataError(f"{path}: it holds several markets, choose one: {shown}")
        return frame, names[0]
    chosen = [name for name in names if _plain(name) == _plain(symbol)]
    if len(chosen) != 1:
        raise DataError(f"{path}: it has no {symbol}, only {shown}")
    return frame.filter(polars.col(column).cast(polars.String) == chosen[0]), chosen[0]


def _plain(symbol: str) -> str:
    """Return a symbol without what exchanges write differently."""
    return re.sub(r"[^A-Z0-9]", "", symbol.partition(":")[0].upper())


def _numbers(path: Path, column: polars.Series, place: Place) -> "numpy.ndarray":
    """Return a column as doubles; raise DataError at the first value that is no finite number."""
    if column.dtype == polars.Float32:
        raise DataError(
            f"{path}: column {column.name}: 32-bit floats hold 7 digits, which no tick can be "
            f"told from; write 64-bit floats, decimals or text"
        )
    if column.dtype == polars.String:
        column = column.str.strip_chars()
    elif not column.dtype.is_numeric():
        raise DataError(f"{path}: column {column.name}: {column.dtype} is no number")
    numbers = column.cast(polars.Float64, strict=False)
    if numbers.null_count():
        row = int(numbers.is_null().arg_max() or 0)
        value = column[row]
        what = "the value is missing" if value in (None, "") else f"{value!r} is no number"
        raise DataError(f"{path}: {place(row)}, {column.name}: {what}")
    values = numbers.to_numpy()
    if not numpy.isfinite(values).all():
        row = int(numpy.argmin(numpy.isfinite(values)))
        raise DataError(f"{path}: {place(row)}, {column.name}: {values[row]} is no number")
    return values


def _shown(record: RecordedBars, column: str, row: int) -> str:
    """Return a value as a person reads it."""
    if column == "time":
        moment = polars.from_epoch(polars.Series([int(record.open_time_ms[row])]), time_unit="ms")[
            0
        ]
        return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    decimals = record.volume_decimals if column == "volume" else record.price_decimals
    return f"{int(getattr(record, column)[row]) / 10**decimals:.{decimals}f}"

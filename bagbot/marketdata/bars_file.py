"""Bars from CSV and Parquet files, whatever their columns are called; what is wrong is named.

Nothing is repaired in silence. A file is refused with the row, the column and the reason.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
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
from bagbot.marketdata.table_file import read_table

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
}


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
        steps = numpy.abs(numpy.diff(self.record.open_time_ms))
        if len(steps) and steps[0] and (steps == steps[0]).all():
            return int(steps[0])
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
        self._require_opens(interval_ms)
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
        if instrument is None:
            instrument = self.record.instrument(symbol or self.symbol or self.path.stem)
        try:
            bars = self.record.bars(instrument, interval_ms, self.place)
        except DataError as error:
            # Bars don't know where in the file they were.
            self.require_bars(interval_ms)
            raise DataError(f"{self.path}: {error}") from error
        self._require_opens(interval_ms)
        return bars

    def _require_opens(self, interval_ms: int) -> None:
        off = (self.record.open_time_ms - origin_ms(interval_ms)) % interval_ms
        self._require(
            off == 0,
            "time",
            f"is not where bars of {timeframe_of(interval_ms)} open in UTC: a wrong time zone, or "
            f"another interval",
        )

    def _require(self, is_fine: "numpy.ndarray", column: str, reason: str) -> None:
        if is_fine.all():
            return
        row = int(numpy.argmin(is_fine))
        value = _shown(self.record, column, row)
        raise DataError(f"{self.path}: {self.place(row)}, {column}: {value} {reason}")


def read_bars(
    path: Path | str,
    *,
    symbol: str | None = None,
    timeframe: str | None = None,
    instrument: Instrument | None = None,
    zone: str | None = None,
    tick: Decimal | None = None,
) -> Bars:
    """Return the bars of a CSV or Parquet file.

    `symbol` picks one market of a file of several ("BTC/USDT" finds BTCUSDT). `timeframe` is else
    taken from the data, and so are tick and lot without an `instrument`. `zone` ("UTC",
    "Europe/Paris") is what times without a zone of their own mean; without it they are refused.
    Only with `tick` prices are rounded, to the nearest multiple of it.

    Raises DataError with the row, the column and the reason.
    """
    file = read_file(Path(path), symbol=symbol, zone=zone, tick=tick)
    interval_ms = file.interval_ms() if timeframe is None else timeframe_ms(timeframe)
    return file.bars(instrument, symbol, interval_ms)


def read_file(
    path: Path,
    *,
    symbol: str | None = None,
    zone: str | None = None,
    tick: Decimal | None = None,
) -> BarsFile:
    """Return the numbers of a file; they may be out of order, or impossible as bars.

    Raises DataError for what can't be read as times and numbers: a missing column, a value that
    is missing, mistyped or not finite, a time without a zone, several markets and no choice.
    """
    table = read_table(
        path,
        _SPELLINGS,
        symbol=symbol,
        bare=("open_time", *PRICES, "volume"),
        find=functools.partial(_volume_of, path, symbol),
    )
    prices = {name: table.numbers(name) for name in PRICES}
    volume = table.numbers("volume")
    times = table.times(zone)
    try:
        record = RecordedBars.from_floats(times, prices, volume, table.place)
        if tick is not None:
            record = record.rounded(tick)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return BarsFile(path=path, symbol=table.symbol, record=record, place=table.place)


def _volume_of(path: Path, symbol: str | None, known: Mapping[str, str]) -> Mapping[str, str]:
    """Find a column like "Volume BTC"; of several the one that names the base asset."""
    if not known.keys().isdisjoint(_SPELLINGS["volume"].split()):
        return {}
    candidates = {
        key.removeprefix("volume_"): name
        for key, name in known.items()
        if key.startswith("volume_")
    }
    if not candidates:
        return {}
    if len(candidates) == 1:
        return {"volume": next(iter(candidates.values()))}
    base = (symbol or "").partition("/")[0].lower()
    if base not in candidates:
        raise DataError(
            f"{path}: which column is the volume in base, {' or '.join(candidates.values())}? "
            f"Name the symbol as BASE/QUOTE"
        )
    return {"volume": candidates[base]}


def _shown(record: RecordedBars, column: str, row: int) -> str:
    """Return a value as a person reads it."""
    if column == "time":
        moment = polars.from_epoch(polars.Series([int(record.open_time_ms[row])]), time_unit="ms")[
            0
        ]
        return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    decimals = record.volume_decimals if column == "volume" else record.price_decimals
    return f"{int(getattr(record, column)[row]) / 10**decimals:.{decimals}f}"

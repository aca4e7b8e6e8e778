"""The catalogue: Parquet files of bars by exchange, market and interval, under one folder.

A file holds exact decimals, and says of itself whose bars they are; any reader of Parquet can use
it. It is written anew as a whole and takes the old one's place in one step: whoever is killed
while writing leaves the old one, and whoever reads sees one of the two.
"""

import contextlib
import fcntl
import io
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import numpy
import polars

from bagbot.domain.bars import Bars, Column
from bagbot.domain.errors import DataError
from bagbot.domain.instrument import Instrument
from bagbot.domain.ohlcv import timeframe_ms, timeframe_of
from bagbot.marketdata.recorded_bars import PRICES, RecordedBars

_KEY: Final = "bagbot"
_VERSION: Final = 1
_DIGITS: Final = 18
# Row groups are read side by side, and skipped when they are of another time.
_ROWS_AT_ONCE: Final = 65_536
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Span: TypeAlias = tuple[int, int]
"""Times from the first, up to but without the second, in milliseconds."""


class _Note(msgspec.Struct, kw_only=True):
    """What a file says of itself."""

    version: int
    exchange: str
    symbol: str
    interval_ms: int
    bars: int
    first_ms: int
    last_ms: int
    tick_size: Decimal
    lot_size: Decimal
    instrument: Instrument | None = None
    covered: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One file of the catalogue: the bars of one market at one exchange.

    `covered` are the spans for which the exchange was asked: a gap in them is one of the market's.
    `instrument` is the market as the exchange described it, None when nobody asked. `tick_size` and
    `lot_size` are what the bars are loaded in: a tick on which all prices are may be finer.
    """

    path: Path
    exchange: str
    symbol: str
    interval_ms: int
    bars: int
    first_ms: int
    last_ms: int
    tick_size: Decimal
    lot_size: Decimal
    instrument: Instrument | None
    covered: tuple[Span, ...]

    @property
    def timeframe(self) -> str:
        """The interval in CCXT's words."""
        return timeframe_of(self.interval_ms)

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return f"{self.exchange} {self.symbol} {self.timeframe}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What became of bars that were added: new ones, known ones, and other values than before."""

    new: int
    known: int
    replaced: int


class Catalog:
    """The bars under one folder; it is made when something is added."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def series(self) -> tuple[Series, ...]:
        """Return what there is, by exchange, market and interval.

        Raises DataError for a file that cannot be read.
        """
        found = [_series(path) for path in self.folder.glob("*/*/*.parquet")]
        return tuple(sorted(found, key=lambda s: (s.exchange, s.symbol, s.interval_ms)))

    def find(self, symbol: str, timeframe: str, *, exchange: str | None = None) -> Series:
        """Return one series; without an exchange the only one there is.

        Raises DataError that says what there is instead.
        """
        file = f"{_folder_name(symbol)}/{timeframe_of(timeframe_ms(timeframe))}.parquet"
        folder = "*" if exchange is None else _folder_name(exchange)
        # Others may be damaged: that is no reason not to find this one.
        found = [_series(path) for path in sorted(self.folder.glob(f"{folder}/{file}"))]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(s.exchange for s in found)
            raise DataError(f"{symbol} {timeframe} is there from {names}: choose the exchange")
        all_of_it = self.series()
        wanted = " ".join(filter(None, (exchange, symbol, timeframe)))
        near = [s.name for s in all_of_it if s.symbol == symbol] or [s.name for s in all_of_it]
        there = ", ".join(near[:8]) + (" ..." if len(near) > 8 else "")
        raise DataError(
            f"the catalogue {self.folder} has no {wanted}; "
            + (f"there is {there}" if near else "it is empty: see bagbot data download")
        )

    def load(
        self,
        symbol: str,
        timeframe: str,
        *,
        exchange: str | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        instrument: Instrument | None = None,
    ) -> Bars:
        """Return bars that open at `start_ms` or later and before `end_ms`.

        Their instrument is the given one, else the exchange's with a tick on which all prices are,
        else one of which only the steps are known. Raises DataError when there are none.
        """
        path = self.find(symbol, timeframe, exchange=exchange).path
        # Opened once: by now it may be another one than was found, and soon there may be another.
        data = _content(path)
        series = _series(path, data)
        record = _record(path, data, start_ms, end_ms)
        if not len(record):
            raise DataError(f"{series.name}: there are no bars in that time")
        # Tick and lot are the whole file's: a bar is the same, whatever is asked for beside it.
        if instrument is None:
            instrument = replace(
                series.instrument or record.instrument(symbol),
                tick_size=series.tick_size,
                lot_size=series.lot_size,
            )
        try:
            return record.bars(instrument, series.interval_ms)
        except DataError as error:
            raise DataError(f"{series.path}: {error}") from error

    def add(
        self,
        record: RecordedBars,
        *,
        exchange: str,
        symbol: str,
        interval_ms: int,
        instrument: Instrument | None = None,
        covered: Sequence[Span] = (),
        replaces: bool = False,
    ) -> Added:
        """Add bars to those that are there, by time; a bar that is known stays as it is.

        Raises DataError when they are no bars, or when one is known with other values, unless
        `replaces`.
        """
        path = self._path(exchange, symbol, interval_ms)
        with _locked(path.parent):
            data = _content(path) if path.exists() else None
            before = None if data is None else _series(path, data)
            old = None if data is None else _record(path, data)
            record, added = _merged(old, record, replaces=replaces)
            known = instrument or (None if before is None else before.instrument)
            own = record.instrument(symbol) if known is None else record.refined(known)
            try:
                record.bars(own, interval_ms)
            except DataError as error:
                raise DataError(f"{exchange}: {error}") from error
            note = _Note(
                version=_VERSION,
                exchange=exchange,
                symbol=symbol,
                interval_ms=interval_ms,
                bars=len(record),
                first_ms=int(record.open_time_ms[0]) if len(record) else 0,
                last_ms=int(record.open_time_ms[-1]) if len(record) else 0,
                tick_size=own.tick_size,
                lot_size=own.lot_size,
                instrument=known,
                covered=joined((*covered, *(before.covered if before else ()))),
            )
            _write(path, record, note)
        return added

    def covered(self, exchange: str, symbol: str, interval_ms: int) -> tuple[Span, ...]:
        """Return the spans for which the exchange has been asked, in order."""
        path = self._path(exchange, symbol, interval_ms)
        return _series(path).covered if path.exists() else ()

    def _path(self, exchange: str, symbol: str, interval_ms: int) -> Path:
        folder = self.folder / _folder_name(exchange) / _folder_name(symbol)
        return folder / f"{timeframe_of(interval_ms)}.parquet"


def _folder_name(name: str) -> str:
    plain = name.replace("/", "-").replace(":", "_")
    if not _NAME.fullmatch(plain):
        raise DataError(f"{name!r} cannot name a folder of the catalogue")
    return plain


def joined(spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return the same times in as few spans as it takes, in order.

    >>> joined([(5, 7), (1, 3), (3, 4)])
    ((1, 4), (5, 7))
    """
    result: list[Span] = []
    for start, end in sorted(spans):
        if start >= end:
            continue
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return tuple(result)


def without(span: Span, spans: Sequence[Span]) -> tuple[Span, ...]:
    """Return what of a span none of the others covers, in order.

    >>> without((0, 10), [(2, 4), (6, 20)])
    ((0, 2), (4, 6))
    """
    left = []
    start, end = span
    for known_start, known_end in joined(spans):
        if known_start > start:
            left.append((start, min(known_start, end)))
        start = max(start, known_end)
    left.append((start, end))
    return tuple((a, b) for a, b in left if a < b)


def _merged(
    before: RecordedBars | None, record: RecordedBars, *, replaces: bool
) -> tuple[RecordedBars, Added]:
    """Return both by time, each time once, and what became of the second."""
    if before is None:
        return record, Added(new=len(record), known=0, replaced=0)
    scale = (
        max(before.price_decimals, record.price_decimals),
        max(before.volume_decimals, record.volume_decimals),
    )
    old, new = before.rescaled(*scale), record.rescaled(*scale)
    at = numpy.searchsorted(old.open_time_ms, new.open_time_ms)
    at_old = numpy.minimum(at, max(len(old) - 1, 0))
    is_known = (
        old.open_time_ms[at_old] == new.open_time_ms if len(old) else numpy.zeros(len(new), bool)
    )
    differs = numpy.zeros(len(new), bool)
    for name in (*PRICES, "volume"):
        if len(old):
            differs |= is_known & (getattr(old, name)[at_old] != getattr(new, name))
    if differs.any() and not replaces:
        row = int(numpy.argmax(differs))
        raise DataError(
            f"the bar that opens at {new.open_time_ms[row]} ms is known with other values "
            f"({int(differs.sum())} such bars): replace them, or leave them out"
        )
    keeps = numpy.ones(len(old), bool)
    if len(old):
        keeps[at_old[differs]] = False
    adds = ~is_known | differs
    both = {
        name: numpy.concatenate((column[keeps], getattr(new, name)[adds]))
        for name, column in old.columns()
    }
    order = numpy.argsort(both["open_time_ms"], kind="stable")
    merged = RecordedBars(
        price_decimals=scale[0],
        volume_decimals=scale[1],
        **{name: column[order] for name, column in both.items()},
    )
    added = Added(
        new=int((~is_known).sum()),
        known=int((is_known & ~differs).sum()),
        replaced=int(differs.sum()),
    )
    return merged, added


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _series(path: Path, data: bytes | None = None) -> Series:
    """Return what a file says of itself."""
    try:
        metadata = polars.read_parquet_metadata(path if data is None else io.BytesIO(data))
        note = msgspec.json.decode(metadata[_KEY], type=_Note)
    except (polars.exceptions.PolarsError, OSError, msgspec.MsgspecError, KeyError) as error:
        raise _unreadable(path, error) from error
    if note.version > _VERSION:
        raise DataError(f"{path}: written by a later bagbot (version {note.version})")
    return Series(
        path=path,
        exchange=note.exchange,
        symbol=note.symbol,
        interval_ms=note.interval_ms,
        bars=note.bars,
        first_ms=note.first_ms,
        last_ms=note.last_ms,
        tick_size=note.tick_size,
        lot_size=note.lot_size,
        instrument=note.instrument,
        covered=note.covered,
    )


def _unreadable(path: Path, error: Exception) -> DataError:
    words = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(
        f"{path}: no file of the catalogue, or damaged ({words}); move it away and load it again"
    )


def _record(
    path: Path, data: bytes, start_ms: int | None = None, end_ms: int | None = None
) -> RecordedBars:
    """Return the bars that open at `start_ms` or later and before `end_ms`."""
    time = polars.col("open_time")
    try:
        lazy = polars.scan_parquet(io.BytesIO(data))
        schema = lazy.collect_schema()
        if start_ms is not None:
            lazy = lazy.filter(time >= start_ms)
        if end_ms is not None:
            lazy = lazy.filter(time < end_ms)
        numbers = polars.col(*PRICES, "volume").to_physical().cast(polars.Int64)
        frame = lazy.select(time, numbers).collect()
        price, volume = schema["open"], schema["volume"]
    except (polars.exceptions.PolarsError, KeyError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(price, polars.Decimal) or not isinstance(volume, polars.Decimal):
        raise DataError(f"{path}: no file of the catalogue: open and volume are no decimals")
    return RecordedBars(
        price_decimals=price.scale,
        volume_decimals=volume.scale,
        open_time_ms=frame["open_time"].to_numpy(),
        **{name: frame[name].to_numpy() for name in (*PRICES, "volume")},
    )


def _write(path: Path, record: RecordedBars, note: _Note) -> None:
    """Write a file anew and put it in the place of the old one. Raises DataError."""
    frame = polars.DataFrame(
        [
            polars.Series("open_time", record.open_time_ms),
            *(_decimals(name, getattr(record, name), record.price_decimals) for name in PRICES),
            _decimals("volume", record.volume, record.volume_decimals),
        ]
    )
    temporary = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            metadata = {_KEY: msgspec.json.encode(note).decode()}
            frame.write_parquet(
                file, compression="lz4", row_group_size=_ROWS_AT_ONCE, metadata=metadata
            )
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except (OSError, polars.exceptions.PolarsError) as error:
        raise DataError(f"{path}: it cannot be written ({error})") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _decimals(name: str, column: Column, decimals: int) -> polars.Series:
    if len(column) and int(column.max()) >= 10**_DIGITS:
        raise DataError(f"column {name}: more than {_DIGITS} digits")
    whole = polars.Series(name, column).cast(polars.Decimal(38, decimals))
    series: polars.Series = whole / 10**decimals
    return series.cast(polars.Decimal(_DIGITS, decimals)).alias(name)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time write into a market's folder; another one waits."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DataError(f"{folder}: it cannot be written ({error.strerror})") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

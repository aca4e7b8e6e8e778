"""Bars of one market as columns of whole numbers, checked once when they are made.

Prices are in ticks of the market and volumes in lots, so that everything after this point computes
on integers. A bar is stamped with its opening and acted on when it has closed.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy
from numpy.typing import NDArray

from bagbot.domain.errors import DataError
from bagbot.domain.instrument import Instrument

Column = NDArray[numpy.int64]

TICKS_MAX: Final = 2**63 // 2_000_000
"""No price may reach this (docs/FILL_RULES.md, F20)."""


@dataclass(frozen=True, slots=False, kw_only=True)
class Bars:
    """Bars of `instrument`, oldest first, `interval_ms` long each; missing ones are not invented.

    `open_time_ms` is UTC, in milliseconds since 1970; `open`, `high`, `low`, `close` are ticks,
    `volume` is lots. All columns are int64, of one length, and can't be written to.

    Raises DataError with row, column and reason when they are no bars: another type or length, not
    sorted, one time twice, a price below one tick, a high or low that the others contradict.
    """

    instrument: Instrument
    interval_ms: int
    open_time_ms: Column
    open: Column
    high: Column
    low: Column
    close: Column
    volume: Column

    def __post_init__(self) -> None:
        if self.interval_ms <= 0:
            raise DataError(f"{self.instrument.symbol}: an interval of {self.interval_ms} ms")
        for name, column in self.columns():
            if column.dtype != numpy.int64 or column.ndim != 1:
                raise DataError(f"{self.instrument.symbol}: column {name} is not one of int64")
            if len(column) != len(self.open_time_ms):
                raise DataError(
                    f"{self.instrument.symbol}: column {name} has {len(column)} rows, "
                    f"open_time_ms {len(self.open_time_ms)}"
                )
            frozen = numpy.ascontiguousarray(column).view()
            frozen.flags.writeable = False
            object.__setattr__(self, name, frozen)
        self._require_rows()

    def __len__(self) -> int:
        return len(self.open_time_ms)

    def __getitem__(self, rows: slice) -> "Bars":
        """Return the bars of a slice of rows."""
        return Bars(
            instrument=self.instrument,
            interval_ms=self.interval_ms,
            **{name: column[rows] for name, column in self.columns()},
        )

    def columns(self) -> Iterator[tuple[str, Column]]:
        """Iterate over the columns by name."""
        yield "open_time_ms", self.open_time_ms
        yield "open", self.open
        yield "high", self.high
        yield "low", self.low
        yield "close", self.close
        yield "volume", self.volume

    @cached_property
    def data_hash(self) -> str:
        """The SHA-256 of what the bars say, as hex: two runs on one hash had the same data."""
        digest = hashlib.sha256()
        instrument = self.instrument
        digest.update(
            # A tick of 0.010 is one of 0.01.
            f"{instrument.symbol} {instrument.tick_size.normalize()} "
            f"{instrument.lot_size.normalize()} {self.interval_ms}".encode()
        )
        for _, column in self.columns():
            digest.update(column.astype("<i8").tobytes())
        return digest.hexdigest()

    @cached_property
    def price_max(self) -> int:
        """The highest price of all, in ticks; 1 when there are no bars."""
        return int(self.high.max()) if len(self) else 1

    def _require_rows(self) -> None:
        times = self.open_time_ms
        steps = numpy.diff(times)
        self._require(steps != 0, "open_time_ms", "the same time twice", offset=1)
        self._require(steps > 0, "open_time_ms", "earlier than the row before", offset=1)
        self._require(steps >= self.interval_ms, "open_time_ms", "within the bar before", offset=1)
        for name in ("open", "high", "low", "close"):
            column: Column = getattr(self, name)
            self._require(column >= 1, name, "less than one tick")
            self._require(column < TICKS_MAX, name, "more ticks than can be computed with")
        self._require(self.high >= numpy.maximum(self.open, self.close), "high", "not the highest")
        self._require(self.low <= numpy.minimum(self.open, self.close), "low", "not the lowest")
        self._require(self.volume >= 0, "volume", "negative")

    def _require(
        self, is_fine: NDArray[numpy.bool_], column: str, reason: str, *, offset: int = 0
    ) -> None:
        if is_fine.all():
            return
        row = int(numpy.argmin(is_fine)) + offset
        value = getattr(self, column)[row]
        raise DataError(f"{self.instrument.symbol}: row {row}, {column}: {value} is {reason}")

"""Bars as they were recorded: exact decimals, before anybody says what a tick is.

A record's decimals are not the market's tick: exchanges change it, and a file of many years has
bars on several. So a record keeps its own, finest scale, and is turned into ticks and lots last.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from math import gcd
from typing import Final

import numpy
from numpy.typing import NDArray

from bagbot.domain.bars import Bars, Column
from bagbot.domain.errors import DataError
from bagbot.domain.instrument import Instrument
from bagbot.domain.ohlcv import Ohlcv

Floats = NDArray[numpy.float64]
Place = Callable[[int], str]
"""Says where a row is, for whoever has to look at it: "line 17"."""

PRICES: Final = ("open", "high", "low", "close")
_PRICE_DECIMALS_MAX: Final = 12
_VOLUME_DECIMALS_MAX: Final = 8
# Tick and lot together: 64 bits hold 92 million of quote in steps of 1e-11 (FILL_RULES.md, F20).
_STEP_DECIMALS_MAX: Final = 11
# A double has 53 bits: up to here it names a whole number, and the double next to k / 10^d is
# what every correct reader makes of that decimal.
_EXACT_MAX: Final = 2.0**52
# Four units in the last place: what a sum or a quotient may have been off by when it was recorded.
_NOISE: Final = 2.0**-50
_SAMPLE: Final = 500


def plain_place(row: int) -> str:
    """Return where a row is when nothing more is known."""
    return f"row {row}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedBars:
    """Columns of int64: prices in 10^-`price_decimals`, volume in 10^-`volume_decimals` of base.

    Nothing is promised of the rows: they may be out of order or impossible.
    """

    price_decimals: int
    volume_decimals: int
    open_time_ms: Column
    open: Column
    high: Column
    low: Column
    close: Column
    volume: Column

    def __len__(self) -> int:
        return len(self.open_time_ms)

    def __getitem__(self, rows: "slice | NDArray[numpy.bool_] | Column") -> "RecordedBars":
        return RecordedBars(
            price_decimals=self.price_decimals,
            volume_decimals=self.volume_decimals,
            **{name: column[rows] for name, column in self.columns()},
        )

    def columns(self) -> Iterator[tuple[str, Column]]:
        """Iterate over the columns by name."""
        for name in ("open_time_ms", *PRICES, "volume"):
            yield name, getattr(self, name)

    @classmethod
    def from_floats(
        cls,
        open_time_ms: Column,
        prices: Mapping[str, Floats],
        volume: Floats,
        place: Place = plain_place,
    ) -> "RecordedBars":
        """Return the decimals that were meant by floats: the fewest that give all of them back.

        Raises DataError for a price that no decimal of 12 places is.
        """
        decimals = 0
        for name, column in prices.items():
            decimals = max(decimals, _decimals(column, name, place))
        volume_decimals = _volume_decimals(volume)
        return cls(
            price_decimals=decimals,
            volume_decimals=volume_decimals,
            open_time_ms=open_time_ms,
            volume=_scaled(volume, volume_decimals),
            **{name: _scaled(column, decimals) for name, column in prices.items()},
        )

    @classmethod
    def from_ohlcv(cls, rows: Sequence[Ohlcv]) -> "RecordedBars":
        """Return bars as an exchange told them. Raises DataError for more digits than int64 has."""
        prices = [[row.open, row.high, row.low, row.close] for row in rows]
        price_decimals = max((_places(price) for four in prices for price in four), default=0)
        volume_decimals = min(max((_places(row.volume) for row in rows), default=0), 8)
        columns = {
            name: [int(four[at].scaleb(price_decimals)) for four in prices]
            for at, name in enumerate(PRICES)
        }
        # More than eight decimals of an amount say nothing about a market.
        columns["volume"] = [
            int(row.volume.scaleb(volume_decimals).to_integral_value()) for row in rows
        ]
        columns["open_time_ms"] = [row.open_time_ms for row in rows]
        try:
            arrays = {name: numpy.array(n, numpy.int64) for name, n in columns.items()}
        except OverflowError as error:
            raise DataError("a price or an amount has more digits than 64 bits hold") from error
        return cls(price_decimals=price_decimals, volume_decimals=volume_decimals, **arrays)

    def rescaled(self, price_decimals: int, volume_decimals: int) -> "RecordedBars":
        """Return the same with more decimals. Raises DataError when 64 bits don't hold them."""
        if (price_decimals, volume_decimals) == (self.price_decimals, self.volume_decimals):
            return self
        price = 10 ** (price_decimals - self.price_decimals)
        volume = 10 ** (volume_decimals - self.volume_decimals)
        for column, factor in ((self.high, price), (self.volume, volume)):
            if len(column) and int(column.max()) > (2**63 - 1) // factor:
                raise DataError("a price or an amount has more digits than 64 bits hold")
        return replace(
            self,
            price_decimals=price_decimals,
            volume_decimals=volume_decimals,
            volume=self.volume * volume,
            **{name: getattr(self, name) * price for name in PRICES},
        )

    def rounded(self, tick: Decimal) -> "RecordedBars":
        """Return the same with every price on the nearest tick, at least one; halves go up."""
        decimals = max(self.price_decimals, _places(tick))
        exact = self.rescaled(decimals, self.volume_decimals)
        step = int(tick.scaleb(decimals))
        # Multiples of the tick have no more decimals than it has.
        spare = 10 ** (decimals - _places(tick))
        columns = {
            name: numpy.maximum((getattr(exact, name) + step // 2) // step, 1) * (step // spare)
            for name in PRICES
        }
        return replace(self, price_decimals=_places(tick), **columns)

    def instrument(self, symbol: str) -> Instrument:
        """Return a market of which nothing is known but this record: its steps are the record's.

        The lot is what volumes are whole multiples of, in powers of ten, without any volume 1e-8;
        it is larger where positions of tens of millions could not be computed with otherwise.
        A symbol that does not name its assets ("BTC/USDT" does) has "base" and "quote" for them.
        """
        unknown = Instrument.unfiltered(symbol)
        if "/" not in symbol:
            unknown = replace(unknown, base="base", quote="quote")
        has_volume = bool((self.volume != 0).any())
        lot_decimals = min(
            self.volume_decimals if has_volume else _VOLUME_DECIMALS_MAX,
            max(0, _STEP_DECIMALS_MAX - self.price_decimals),
        )
        return replace(
            unknown,
            tick_size=Decimal(1).scaleb(-self.price_decimals),
            lot_size=Decimal(1).scaleb(-lot_decimals),
        )

    def refined(self, instrument: Instrument) -> Instrument:
        """Return the instrument with a tick on which every price of the record is.

        It is the instrument's own unless the record has prices between two of its ticks.
        """
        decimals = max(self.price_decimals, _places(instrument.tick_size))
        step = int(instrument.tick_size.scaleb(decimals))
        factor = 10 ** (decimals - self.price_decimals)
        for name in PRICES:
            column = getattr(self, name)
            if step > 1 and len(column) and (column * factor % step).any():
                step = gcd(step, factor * int(numpy.gcd.reduce(column)))
        tick_size = Decimal(step).scaleb(-decimals)
        return replace(instrument, tick_size=tick_size)

    def bars(self, instrument: Instrument, interval_ms: int, place: Place = plain_place) -> Bars:
        """Return the record in the instrument's ticks, and its volume in the nearest lots.

        Raises DataError naming the first price between two ticks, or what makes them no bars.
        """
        tick_decimals = max(self.price_decimals, _places(instrument.tick_size))
        lot_decimals = max(self.volume_decimals, _places(instrument.lot_size))
        exact = self.rescaled(tick_decimals, lot_decimals)
        tick = int(instrument.tick_size.scaleb(tick_decimals))
        lot = int(instrument.lot_size.scaleb(lot_decimals))
        columns = {}
        for name in PRICES:
            column = columns[name] = getattr(exact, name)
            if tick == 1:
                continue
            columns[name] = column // tick
            if (rest := column - columns[name] * tick).any():
                row = int(numpy.flatnonzero(rest)[0])
                price = Decimal(int(column[row])).scaleb(-tick_decimals).normalize()
                raise DataError(
                    f"{instrument.symbol}: {place(row)}, {name}: {price:f} lies between two ticks "
                    f"of {instrument.tick_size:f}; without an instrument the tick is taken from "
                    f"the data"
                )
        return Bars(
            instrument=instrument,
            interval_ms=interval_ms,
            open_time_ms=self.open_time_ms,
            volume=(exact.volume + lot // 2) // lot if lot > 1 else exact.volume,
            **columns,
        )


def _places(number: Decimal) -> int:
    """Return how many decimals a number has; zeros at the end are none."""
    exponent = number.normalize().as_tuple().exponent
    assert isinstance(exponent, int), "a number is finite"
    return max(0, -exponent)


def _scaled(column: Floats, decimals: int) -> Column:
    return numpy.rint(column * 10.0**decimals).astype(numpy.int64)


def _unmet(column: Floats, decimals: int) -> Floats:
    """Return those floats that are not meant to be a decimal of so many places."""
    factor = 10.0**decimals
    rest: Floats = column[numpy.rint(column * factor) / factor != column]
    if len(rest):
        off = numpy.abs(numpy.rint(rest * factor) / factor - rest)
        rest = rest[off > _NOISE * numpy.abs(rest)]
    return rest


def _fewest_decimals(column: Floats, decimals_max: int) -> tuple[int, Floats]:
    """Return how many decimals give back all of a column, and what still is not if none do."""
    decimals = 0
    rest = sample = column[:: max(1, len(column) // _SAMPLE)]
    while decimals < decimals_max and len(rest := _unmet(rest, decimals)):
        decimals += 1
    # What the sample needs, all need: only from there on the whole column is looked at.
    rest = _unmet(column, decimals) if len(sample) < len(column) else _unmet(sample, decimals)
    while decimals < decimals_max and len(rest):
        decimals += 1
        rest = _unmet(rest, decimals)
    return decimals, rest


def _decimals(column: Floats, name: str, place: Place) -> int:
    decimals, rest = _fewest_decimals(column, _PRICE_DECIMALS_MAX)
    largest = float(numpy.abs(column).max()) if len(column) else 0.0
    if not len(rest) and largest * 10.0**decimals <= _EXACT_MAX:
        return decimals
    # Either it has too many decimals, or too many digits with those that others need.
    price = rest[0] if len(rest) else largest
    row = int(numpy.flatnonzero(numpy.abs(column) == price)[0]) if len(column) else 0
    raise DataError(
        f"{place(row)}, {name}: {price!r} is no price of at most {_PRICE_DECIMALS_MAX} decimals "
        f"and 15 digits in all"
    )


def _volume_decimals(volume: Floats) -> int:
    """Return the decimals of the volume, fewer when it is too large for 64 bits with them."""
    decimals, _ = _fewest_decimals(volume, _VOLUME_DECIMALS_MAX)
    largest = float(numpy.abs(volume).max()) if len(volume) else 0.0
    while decimals and largest * 10.0**decimals > _EXACT_MAX:
        decimals -= 1
    return decimals

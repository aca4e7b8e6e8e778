"""Bars of a random walk, for tests of strategies."""

from decimal import Decimal

import numpy

from bagbot.domain.bars import Bars
from bagbot.domain.instrument import Instrument

BTCUSDT = Instrument(
    symbol="BTC/USDT",
    exchange_symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.00001"),
)


def walk(
    count: int, seed: int, *, step: int = 3_000, gap: int = 500, instrument: Instrument = BTCUSDT
) -> Bars:
    """Return bars that move up to `step` ticks each, and open up to `gap` off the last close."""
    chance = numpy.random.default_rng(seed)
    close = numpy.maximum(5_000_000 + numpy.cumsum(chance.integers(-step, step + 1, count)), 9_999)
    opened = numpy.append(5_000_000, close[:-1]) + chance.integers(-gap, gap + 1, count)
    return Bars(
        instrument=instrument,
        interval_ms=60_000,
        open_time_ms=1_600_000_020_000 + 60_000 * numpy.arange(count),
        open=opened,
        high=numpy.maximum(opened, close) + chance.integers(0, step, count),
        low=numpy.minimum(opened, close) - chance.integers(0, step, count),
        close=close,
        volume=chance.integers(1, 10**8, count),
    )

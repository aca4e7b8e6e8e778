"""Compile before it matters: the engine and strategies, into the cache that later runs use."""

import time
from decimal import Decimal
from typing import Final

import numpy

from bagbot.domain.bars import Bars
from bagbot.domain.instrument import Instrument
from bagbot.trading.backtester import Backtester
from bagbot.trading.strategy import Strategy

_COUNT: Final = 2_000
_TICKS: Final = 100_000


def compiled_seconds(cls: type[Strategy]) -> float:
    """Compile a strategy with its default parameters; return how long that took.

    Raises CannotCompileError for a strategy that can't be compiled, and StrategyError for one
    whose parameters have no defaults.
    """
    started = time.perf_counter()
    Backtester(cls, _quiet_bars(), mode="compiled").run()
    Backtester(cls, _quiet_bars(), mode="interpreted").run()
    return time.perf_counter() - started


def _quiet_bars() -> Bars:
    """Return bars on which nothing happens: what runs matters here, not how."""
    prices = numpy.full(_COUNT, _TICKS)
    market = Instrument(
        symbol="WARM/UP",
        exchange_symbol="WARMUP",
        base="WARM",
        quote="UP",
        tick_size=Decimal("0.01"),
        lot_size=Decimal("0.00001"),
    )
    return Bars(
        instrument=market,
        interval_ms=60_000,
        open_time_ms=60_000 * numpy.arange(_COUNT),
        open=prices,
        high=prices,
        low=prices,
        close=prices,
        volume=prices,
    )

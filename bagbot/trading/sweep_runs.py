"""The runs of a sweep: from the place of a combination to its row of figures.

Compiled, many runs share what they can: the bars as arrays, the program, one account with its
tables per thread, and the indicators that combinations have in common. What comes out is what the
Backtester says of each combination alone.
"""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, Final

import numpy
from numpy.typing import NDArray

import bagbot
from bagbot.domain.bars import Bars
from bagbot.domain.statistics import Metrics
from bagbot.trading.backtester import Backtester, BacktestResult
from bagbot.trading.strategy import Strategy, Value
from bagbot.trading.sweep_grid import Grid
from bagbot.trading.sweep_identity import source_hash, text_of
from bagbot.trading.sweep_workers import Row, Run, StrategySource

FIGURES: Final = (
    *((name, "<f8") for name in Metrics._fields),
    ("equity_units", "<i8"),
    ("orders", "<i8"),
    ("refused", "<i8"),
    ("fills", "<i8"),
    ("fills_hash", "<u8"),
)
"""The columns of a row after its parameters: every figure of domain/statistics.py, the equity at
the end in 1e-8 of quote, how many orders, refused ones and fills there were, and a hash of the
fills: two rows with the same one traded alike."""

Numbers = Sequence[int] | NDArray[numpy.int64]


@dataclass(frozen=True)
class RunSettings:
    """What all runs of a sweep have in common."""

    strategy: type[Strategy]
    bars: Bars
    parameters: Mapping[str, object]
    mode: str
    settings: Mapping[str, Any]
    memo_bytes: int

    def backtester(self, parameters: Mapping[str, Value]) -> Backtester:
        """Return the single run of one combination; raises what the Backtester raises."""
        return Backtester(
            self.strategy,
            self.bars,
            parameters={**self.parameters, **parameters},
            mode=self.mode,
            **self.settings,
        )


def description_of(settings: RunSettings, grid: Grid, numbers: Numbers) -> dict[str, object]:
    """Return what the rows of a sweep depend on; those of another description are others."""
    chosen = text_of(numbers) if isinstance(numbers, range) else text_of(numpy.asarray(numbers))
    values = text_of(dict(grid.values))
    return {
        "strategy": settings.strategy.__name__,
        "source": source_hash(settings.strategy),
        "data": settings.bars.data_hash,
        "parameters": text_of(settings.parameters),
        "settings": {name: text_of(value) for name, value in sorted(settings.settings.items())},
        "grid": hashlib.sha256(values.encode()).hexdigest(),
        "combinations": hashlib.sha256(chosen.encode()).hexdigest(),
        "versions": _versions(),
    }

"""The runs of a sweep: from the place of a combination to its row of figures.

Compiled, many runs share what they can: the bars as arrays, the program, one account with its
tables per thread, and the indicators that combinations have in common. What comes out is what the
Backtester says of each combination alone.
"""

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, Final

import numpy
from numpy.typing import NDArray

import bagbot
from bagbot.domain.bars import Bars
from bagbot.domain.statistics import Metrics, years_of
from bagbot.trading import compiled
from bagbot.trading.backtester import Backtester
from bagbot.trading.indicator_memo import IndicatorMemo
from bagbot.trading.kernel import is_full
from bagbot.trading.kernel_tables import ORDER, REFUSED, Desk, columns_of, grown
from bagbot.trading.strategy import Prepared, Strategy, Value, bar_series
from bagbot.trading.strategy_compiler import Program, compile_strategy
from bagbot.trading.strategy_expressions import CannotCompileError
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
Records = NDArray[Any]

# The column of a desk's funding that a run writes to.
_PAID: Final = 3
# What of a desk `sweep_figures.figures` takes.
_RESULTS: Final = ("orders", "fills", "equity", "account", "scale")


@dataclass(frozen=True)
class RunSettings:
    """What all runs of a sweep have in common."""

    strategy: type[Strategy]
    bars: Bars
    parameters: Mapping[str, Value]
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


class SweepRuns:
    """All runs of a sweep, by place: compiled where that can be, else as Python.

    Raises CannotCompileError when the mode asks for compiled runs and there can be none.
    """

    def __init__(self, settings: RunSettings, grid: Grid, numbers: Numbers) -> None:
        self._settings = settings
        self._grid = grid
        self._numbers = numbers
        self._memo = IndicatorMemo(settings.strategy, settings.memo_bytes)
        # Made once and for all: the memory of indicators knows arrays by who they are.
        self._given = dict(bar_series(settings.bars))
        self._years = years_of(settings.bars.open_time_ms, settings.bars.interval_ms)
        self.why_not_compiled = ""
        is_compiled = settings.mode in ("auto", "compiled")
        self._program = self._compiled() if is_compiled else None
        self.mode = "interpreted" if self._program is None else "compiled"
        if is_compiled:
            # What can't be run compiled is run as Python, without another attempt.
            self._settings = replace(settings, mode="interpreted")

    def make_run(self) -> Run:
        """Return a function from a place to its row; each thread needs its own."""
        run = self._alone if self._program is None else self._compiled_run(self._program)

        def told(place: int) -> Row:
            combination = self._grid.combination(int(self._numbers[place]))
            try:
                return (*combination.values(), *run(combination))
            except Exception as error:
                words = ", ".join(f"{name}={value!r}" for name, value in combination.items())
                error.add_note(f"in the combination {words} of the sweep")
                raise

        return told

    def close(self) -> None:
        """Give back what the runs shared."""
        self._memo.forget()

    def elsewhere(self, source: StrategySource) -> "RunsElsewhere":
        """Return what another process makes the same runs of."""
        # The class itself is left out: by name alone it may not be found there.
        settings = replace(self._settings, strategy=Strategy)
        return RunsElsewhere(source, settings, self._grid, self._numbers)

    def _compiled(self) -> Program | None:
        combination = self._grid.combination(int(self._numbers[0]))
        strategy, prepared = self._prepared(combination)
        try:
            program = compile_strategy(strategy, prepared.series)
            desk = self._settings.backtester(combination).new_desk()
            program.compile(program.bind(strategy, prepared.series), desk)
            return program
        except CannotCompileError as error:
            if self._settings.mode == "compiled":
                raise
            self.why_not_compiled = str(error)
            return None

    def _prepared(self, combination: Mapping[str, Value]) -> tuple[Strategy, Prepared]:
        parameters = {**self._settings.parameters, **combination}
        strategy = self._settings.strategy(**parameters)
        return self._memo.prepared(strategy, self._settings.bars, self._given)

    def _alone(self, combination: Mapping[str, Value]) -> Row:
        """Return the figures of one combination as the Backtester runs it."""
        result = self._settings.backtester(combination).run()
        return (
            *(result.metrics[name] for name in Metrics._fields),
            result.final_units,
            len(result.orders),
            int(numpy.count_nonzero(result.orders["status"] == REFUSED)),
            len(result.fills),
            compiled.sweep_figures().fills_hash(result.fills),
        )

    def _compiled_run(self, program: Program) -> Callable[[Mapping[str, Value]], Row]:
        """Return the same for compiled runs, with one desk for all that the function makes."""
        backtester = self._settings.backtester(self._grid.combination(int(self._numbers[0])))
        desk = _SharedDesk(backtester.new_desk())
        cash_units, bars = backtester.cash_units, len(self._settings.bars)
        figures = compiled.sweep_figures().figures

        def run(combination: Mapping[str, Value]) -> Row:
            strategy, prepared = self._prepared(combination)
            desk.reset()
            bar = 0
            try:
                bound = program.bind(strategy, prepared.series)
                while bar < bars:
                    bar = program.play(bound, desk.columns, prepared.first, bar, bars)
                    if bar < bars:
                        desk.grow()
            except Exception:  # noqa: BLE001 - a run in Python then says what is true
                return self._alone(combination)
            metrics, *counts = figures(*desk.results, cash_units, self._years)
            return (*metrics, *counts)

        return run


class _SharedDesk:
    """A desk that one run after the other has for itself."""

    def __init__(self, desk: Desk) -> None:
        self._take(desk)
        self._as_new = self._account.copy()

    def reset(self) -> None:
        """Put the desk back to where it was before the first bar."""
        # Rows of orders must be empty when they are begun; those of fills are written whole.
        self._orders[: int(self._order_count[0]) * ORDER.itemsize] = 0
        self._account[:] = self._as_new
        if len(self._desk.funding):
            self._desk.funding[:, _PAID] = 0

    def grow(self) -> None:
        """Make room for more orders and fills, if that is what the run stopped for."""
        if is_full(self._desk):
            self._take(grown(self._desk))

    def _take(self, desk: Desk) -> None:
        self._desk = desk
        self.columns = columns_of(desk)
        by_name = dict(zip(Desk._fields, self.columns, strict=True))
        self.results = [by_name[name] for name in _RESULTS]
        # Bytes are cleared and copied at once, records field by field.
        self._account = by_name["account"].view(numpy.uint8)
        self._orders = by_name["orders"].view(numpy.uint8)
        self._order_count = by_name["account"]["order_count"]


@dataclass(frozen=True)
class RunsElsewhere:
    """What another process makes the same runs of: the class by where it is, the rest by value."""

    source: StrategySource
    settings: RunSettings
    grid: Grid
    numbers: Numbers

    def __call__(self) -> Run:
        """Return the run of this process."""
        # Made anew, the bars can't be written to; they could be, as they come out of a pickle.
        settings = replace(self.settings, strategy=self.source.load(), bars=self.settings.bars[:])
        return SweepRuns(settings, self.grid, self.numbers).make_run()


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


def _versions() -> dict[str, str]:
    """Return the versions of everything that computes."""
    found = {name: metadata.version(name) for name in ("numpy", "numba", "TA-Lib")}
    return {
        **found,
        "bagbot": bagbot.__version__,
        "engine": compiled.version(),
        "python": platform.python_version(),
    }

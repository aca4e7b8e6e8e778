"""Many backtests of one strategy over the same bars: a grid of parameters, or a sample of it.

Every combination is run as the Backtester would run it, to the last unit, and leaves one row:
its parameters and every figure of domain/statistics.py. Rows are kept as they come, in a file if
one is named, so that a sweep that is stopped goes on where it was.
"""

import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy

from bagbot.domain.bars import Bars
from bagbot.domain.errors import ConfigError
from bagbot.trading.strategy import Strategy, Value, did_you_mean
from bagbot.trading.sweep_grid import Grid, Where
from bagbot.trading.sweep_runs import FIGURES, RunSettings, SweepRuns, description_of
from bagbot.trading.sweep_store import Rows, SweepStore
from bagbot.trading.sweep_workers import Found, StrategySource, by_processes, by_threads

if TYPE_CHECKING:
    import polars

OnProgress = Callable[[int, int], None]

MEMO_BYTES: Final = 256 * 1024 * 1024
"""How much memory the indicators that combinations share may take."""

LOWER_IS_BETTER: Final = frozenset(
    {"volatility", "drawdown_max", "drawdown_bars_max", "fees", "turnover", "exposure", "refused"}
)
"""The figures of which `best` takes the lowest."""

_FLUSH_S: Final = 1.0


class SweepInterruptedError(KeyboardInterrupt):
    """Ctrl-C during a sweep: `result` is what was done until then."""

    def __init__(self, result: "SweepResult") -> None:
        super().__init__(f"{result.done} of {result.total} combinations were done")
        self.result = result


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """What a sweep found: one row for each combination, in the order of the grid.

    `table` has a column for each parameter that was swept and for each figure; `is_done` says
    which of its rows are there (all, unless the sweep was stopped). Money in `equity_units` is in
    1e-8 of the quote asset. A figure is NaN where there is none: docs/REPORTS.md.
    """

    strategy: str
    parameters: Sequence[str]
    """The parameters that were swept: the first columns of the table."""
    table: Rows
    is_done: "numpy.typing.NDArray[numpy.bool_]"
    description: Mapping[str, object]
    """What was swept: source and data by their hashes, settings, versions."""
    mode: str
    """"compiled", or "interpreted"."""
    why_not_compiled: str
    run_s: float
    bars: int
    """How many bars each combination was run over."""

    @property
    def total(self) -> int:
        """How many combinations there are."""
        return len(self.table)

    @property
    def done(self) -> int:
        """How many of them were run."""
        return int(numpy.count_nonzero(self.is_done))

    @property
    def is_complete(self) -> bool:
        """Whether all of them were."""
        return bool(self.is_done.all())

    def best(self, figure: str = "sharpe") -> dict[str, Value]:
        """Return the row with the best `figure`, as parameters and figures by name.

        The lowest of those in LOWER_IS_BETTER, else the highest; of equals the first.

        Raises ConfigError when there is no such figure, or no row that has it.
        """
        order = self.ranking(figure)
        if not order or math.isnan(float(self.table[figure][order[0]])):
            raise ConfigError(f"no combination has a {figure}")
        return self.row(order[0])

    def ranking(self, figure: str) -> list[int]:
        """Return the places of all rows that were run, the best first and those without last.

        Raises ConfigError when there is no such figure.
        """
        require_figure(figure)
        places = numpy.flatnonzero(self.is_done)
        values = self.table[figure][places].astype(numpy.float64)
        if figure not in LOWER_IS_BETTER:
            values = -values
        found: list[int] = places[numpy.argsort(values, kind="stable")].tolist()
        return found

    def row(self, place: int) -> dict[str, Value]:
        """Return one row as parameters and figures by name."""
        names = self.table.dtype.names or ()
        return dict(zip(names, self.table[place].item(), strict=True))

    def about(self) -> dict[str, str]:
        """Return what was swept as names and texts: what is needed to repeat it."""
        found: dict[str, str] = {"strategy": self.strategy, "mode": self.mode}
        for name, value in self.description.items():
            if isinstance(value, Mapping):
                found |= {f"{name}.{part}": str(text) for part, text in value.items()}
            else:
                found[name] = str(value)
        return found

    def frame(self) -> "polars.DataFrame":
        """Return the rows that were run as a polars data frame."""
        import polars

        rows = self.table[self.is_done]
        return polars.DataFrame({name: rows[name] for name in rows.dtype.names or ()})

    def to_parquet(self, path: str | Path) -> None:
        """Write the rows that were run to a Parquet file."""
        self.frame().write_parquet(path)

    def to_csv(self, path: str | Path) -> None:
        """Write the rows that were run to a CSV file."""
        self.frame().write_csv(path)


class Sweep:
    """A strategy, its bars, and the values to try for some of its parameters.

    `grid` names them: {"fast": range(5, 55), "slow": [60, 80, 100]}. `where` keeps the
    combinations that make sense. With `samples` a random choice of so many is run, the same for the
    same `seed`. `parameters` are those that stay. Everything else is as for the Backtester.

    `workers` is how many cores work (all there are), `memo_bytes` how much memory the indicators
    that several combinations share may take; with 0 each computes its own.

    Raises ConfigError and StrategyError when the grid does not fit the strategy.
    """

    def __init__(
        self,
        strategy: type[Strategy],
        bars: Bars,
        grid: Mapping[str, Iterable[object]],
        *,
        where: Where | None = None,
        samples: int | None = None,
        seed: int = 0,
        parameters: Mapping[str, Value] | None = None,
        mode: str = "auto",
        workers: int | None = None,
        memo_bytes: int = MEMO_BYTES,
        **settings: object,
    ) -> None:
        fixed = dict(parameters or {})
        twice = sorted(fixed.keys() & grid.keys())
        if twice:
            raise ConfigError(f"parameter {twice[0]} is both fixed and swept")
        if len(bars) == 0:
            raise ConfigError("there are no bars to sweep over")
        if workers is not None and workers < 1:
            raise ConfigError(f"a sweep needs at least one worker, not {workers}")
        self._grid = Grid(strategy, grid)
        self._numbers = self._grid.chosen(where, samples, seed)
        self._workers = workers or _cores()
        self._settings = RunSettings(strategy, bars, fixed, mode, settings, memo_bytes)
        self._settings.backtester(self._grid.combination(int(self._numbers[0])))

    def __len__(self) -> int:
        return len(self._numbers)

    def run(
        self, on_progress: OnProgress | None = None, *, store: str | Path | None = None
    ) -> SweepResult:
        """Run what has not been run yet, and return all rows.

        With `store` every row is kept in that file at once: a sweep that was stopped, however
        rudely, goes on from there, and has the same table in the end. `on_progress` is called with
        how many are done, and how many there are.

        Raises SweepInterruptedError, which is a KeyboardInterrupt, with what was done until then;
        ConfigError when the file belongs to another sweep; what a strategy raises, with a note of
        the combination.
        """
        since_s = time.monotonic()
        runs = SweepRuns(self._settings, self._grid, self._numbers)
        description = description_of(self._settings, self._grid, self._numbers)
        rows = SweepStore(
            None if store is None else Path(store), description, self._row(), len(self)
        )
        result = partial(
            SweepResult,
            strategy=self._settings.strategy.__name__,
            parameters=tuple(self._grid.values),
            table=rows.table,
            is_done=rows.is_done,
            description=MappingProxyType(description),
            mode=runs.mode,
            why_not_compiled=runs.why_not_compiled,
            bars=len(self._settings.bars),
        )
        try:
            self._fill(rows, runs, on_progress)
        except KeyboardInterrupt as error:
            rows.close()
            raise SweepInterruptedError(result(run_s=time.monotonic() - since_s)) from error
        finally:
            runs.close()
            rows.close()
        return result(run_s=time.monotonic() - since_s)

    def _fill(self, rows: SweepStore, runs: SweepRuns, on_progress: OnProgress | None) -> None:
        total = len(self)
        done = int(numpy.count_nonzero(rows.is_done))
        tell = on_progress or (lambda done, total: None)
        tell(done, total)
        if done == total:
            return
        flushed_s = time.monotonic()
        # Closed at once, also by Ctrl-C: the workers must not outlive this call.
        with closing(self._found(runs, _missing(rows))) as batches:
            for found in batches:
                for place, row in found:
                    rows.write(place, row)
                done += len(found)
                tell(done, total)
                if time.monotonic() - flushed_s > _FLUSH_S:
                    rows.flush()
                    flushed_s = time.monotonic()

    def _found(self, runs: SweepRuns, places: Iterator[int]) -> Generator[Found, None, None]:
        if runs.mode == "compiled":
            return by_threads(places, runs.make_run, self._workers)
        source = StrategySource.of(self._settings.strategy)
        if source is None or self._workers == 1:
            return by_threads(places, runs.make_run, 1)
        return by_processes(places, runs.elsewhere(source), self._workers)

    def _row(self) -> "numpy.dtype[numpy.void]":
        types = {int: "<i8", float: "<f8", bool: "?"}
        swept = [(name, types[each.kind]) for name, each in self._grid.kinds.items()]
        return numpy.dtype([*swept, *FIGURES])


def require_figure(name: str) -> None:
    """Raise ConfigError when no row of a sweep has such a figure."""
    known = [figure for figure, _ in FIGURES]
    if name not in known:
        raise ConfigError(f"there is no figure {name}{did_you_mean(name, known)}")


def _missing(rows: SweepStore) -> Iterator[int]:
    """Iterate over the places of the rows that are not there."""
    return (place for place in range(len(rows.is_done)) if not rows.is_done[place])


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

"""The works by raptorbt: its Python strategies, and the fast way, signals as whole arrays.

`--mode arrays` (W1 and the sweep) is filled at the next open, sized by a fraction of the cash and
not by units, and what is still open at the end is closed, so its trades are one more or equal.
It cannot do `grid`: an order that would add to a position is refused.
"""

from collections.abc import Callable
from importlib.metadata import version

import numpy
import raptorbt
from measure import (
    FAST,
    SLOW,
    STOP,
    SWEEP_FAST,
    TARGET,
    Done,
    Task,
    main,
    sweep_columns,
)
from raptorbt.strategy import Strategy
from raptorbt.strategy.orders import Market
from raptorbt.strategy.runner import run_strategy_backtest


class Crossover(Strategy):
    def on_start(self, ctx) -> None:
        self.fast = self.register_indicator(raptorbt.Indicator.sma(FAST))
        self.slow = self.register_indicator(raptorbt.Indicator.sma(SLOW))
        self.was_above: bool | None = None
        self.is_long = False

    def crossed(self) -> int:
        """Return 1 when the fast mean has come above the slow one, -1 when below, else 0."""
        if not self.slow.initialized:
            return 0
        is_above, was_above = self.fast.value > self.slow.value, self.was_above
        self.was_above = is_above
        return 0 if was_above is None else is_above - was_above

    def on_bar(self, ctx) -> None:
        crossed = self.crossed()
        if crossed > 0 and not self.is_long:
            self.submit_order(Market(side="buy", units=1.0))
            self.is_long = True
        elif crossed < 0 and self.is_long:
            self.close_position()
            self.is_long = False


class Bracket(Crossover):
    def on_bar(self, ctx) -> None:
        if self.crossed() > 0 and ctx.is_flat:
            close = ctx.bar.close
            entry = Market(side="buy", units=1.0)
            self.submit_bracket(entry, close * (1 - STOP), close * (1 + TARGET))


def columns(task: Task) -> list[numpy.ndarray]:
    return [
        task.open_time_ms * 1_000_000,
        task.open,
        task.high,
        task.low,
        task.close,
        task.volume,
    ]


def config(task: Task, timing: str) -> raptorbt.BacktestConfig:
    return raptorbt.BacktestConfig(initial_capital=task.cash, fees=task.fee, fill_timing=timing)


def once(strategy: type[Strategy]) -> Callable[[Task], Callable[[], Done]]:
    def prepared(task: Task) -> Callable[[], Done]:
        def run() -> Done:
            result = run_strategy_backtest(
                strategy(), *columns(task), config=config(task, "same_bar_close")
            )
            return Done(result.equity_curve()[-1], len(result.trades()))

        return run

    return prepared


def sma(task: Task) -> Callable[[], Done]:
    if task.mode != "arrays":
        return once(Crossover)(task)
    sizes = task.close / task.cash

    def run() -> Done:
        fast, slow = raptorbt.sma(task.close, FAST), raptorbt.sma(task.close, SLOW)
        result = raptorbt.run_single_backtest(
            *columns(task),
            *signals(fast, slow),
            config=config(task, "next_bar_open"),
            position_sizes=sizes,
        )
        more = {"fills_at": "next open"}
        return Done(result.equity_curve()[-1], len(result.trades()), more=more)

    return run


def signals(fast: numpy.ndarray, slow: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    is_above, is_known = fast > slow, ~numpy.isnan(slow)
    entries, exits = numpy.zeros(len(fast), bool), numpy.zeros(len(fast), bool)
    entries[1:] = is_above[1:] & ~is_above[:-1] & is_known[:-1]
    exits[1:] = ~is_above[1:] & is_above[:-1] & is_known[:-1]
    return entries, exits


def sweep(task: Task) -> Callable[[], Done]:
    fast_means = {window: raptorbt.sma(task.close, window) for window in SWEEP_FAST}

    def one_slow(window: int) -> tuple[int, float]:
        slow = raptorbt.sma(task.close, window)
        items = [
            raptorbt.BatchSingleItem(f"{fast}/{window}", *signals(mean, slow))
            for fast, mean in fast_means.items()
        ]
        results = raptorbt.batch_single_backtest(
            *columns(task), items, config=config(task, "next_bar_open")
        )
        return sum(result.metrics.total_trades for _, result in results), 0.0

    return sweep_columns(task, one_slow)


if __name__ == "__main__":
    main(
        "raptorbt",
        version("raptorbt"),
        "same close",
        {"sma": sma, "bracket": once(Bracket), "sweep": sweep},
    )

"""The works by backtesting.py: a Python strategy, called bar by bar, filled at the next open."""

import multiprocessing.dummy
from collections.abc import Callable

import backtesting
import pandas
from backtesting import Backtest, Strategy
from backtesting.lib import crossover
from measure import (
    FAST,
    GRID_BARS,
    GRID_STEPS,
    GRID_STOCK,
    SLOW,
    STOP,
    TARGET,
    Done,
    Fill,
    Task,
    main,
)


def mean(values: pandas.Series, length: int) -> pandas.Series:
    return pandas.Series(values).rolling(length).mean()


class Crossover(Strategy):
    fast = FAST
    slow = SLOW

    def init(self) -> None:
        self.fast_mean = self.I(mean, self.data.Close, self.fast)
        self.slow_mean = self.I(mean, self.data.Close, self.slow)

    def next(self) -> None:
        if crossover(self.fast_mean, self.slow_mean):
            if not self.position:
                self.buy(size=1)
        elif crossover(self.slow_mean, self.fast_mean) and self.position:
            self.position.close()


class Bracket(Crossover):
    def next(self) -> None:
        if crossover(self.fast_mean, self.slow_mean) and not self.position:
            close = self.data.Close[-1]
            self.buy(size=1, sl=close * (1 - STOP), tp=close * (1 + TARGET))


class Grid(Strategy):
    def init(self) -> None:
        pass

    def next(self) -> None:
        bar = len(self.data) - 1
        if bar == 1:
            self.buy(size=GRID_STOCK)
        elif bar % GRID_BARS == 0:
            for order in self.orders:
                order.cancel()
            close = self.data.Close[-1]
            for step in GRID_STEPS:
                self.buy(size=1, limit=close * (1 - step))
                self.sell(size=1, limit=close * (1 + step))


def engine(task: Task, strategy: type[Strategy]) -> Backtest:
    columns = {
        "Open": task.open,
        "High": task.high,
        "Low": task.low,
        "Close": task.close,
        "Volume": task.volume,
    }
    times = pandas.to_datetime(task.open_time_ms, unit="ms")
    return Backtest(
        pandas.DataFrame(columns, index=times),
        strategy,
        cash=task.cash,
        commission=task.fee,
        finalize_trades=False,
    )


def once(strategy: type[Strategy]) -> Callable[[Task], Callable[[], Done]]:
    def prepared(task: Task) -> Callable[[], Done]:
        backtest = engine(task, strategy)

        def run() -> Done:
            stats = backtest.run()
            trades = grid_fills(stats) if task.work == "grid" else len(stats["_trades"])
            return Done(stats["Equity Final [$]"], trades, lambda: fills(stats))

        return run

    return prepared


def grid_fills(stats: pandas.Series) -> int:
    """Return the fills after the first: each sells or buys 1, each sale closes a trade of 1."""
    sold = int(stats["_trades"]["Size"].sum())
    held = sum(trade.size for trade in stats["_strategy"].trades)
    return sold + (sold + held - GRID_STOCK)


def fills(stats: pandas.Series) -> list[Fill]:
    found = []
    trades = stats["_trades"]
    for trade in trades.itertuples():
        found.append((trade.EntryBar, "buy", trade.Size, trade.EntryPrice))
        found.append((trade.ExitBar, "sell", trade.Size, trade.ExitPrice))
    # A position still open at the end is no trade yet, but its entry was a fill.
    for trade in stats["_strategy"].trades:
        found.append((trade.entry_bar, "buy", trade.size, trade.entry_price))
    return sorted(found)


def sweep(task: Task) -> Callable[[], Done]:
    """Twenty combinations: all 5,000 would take half an hour."""
    if task.mode == "1 process":
        backtesting.Pool = lambda *_, **__: multiprocessing.dummy.Pool(1)
    backtest = engine(task, Crossover)

    def run() -> Done:
        stats = backtest.optimize(
            fast=list(range(5, 55, 10)),
            slow=list(range(60, 260, 50)),
            maximize="Equity Final [$]",
        )
        return Done(stats["Equity Final [$]"], 0, more={"combinations": 20})

    return run


if __name__ == "__main__":
    main(
        "backtesting.py",
        backtesting.__version__,
        "next open",
        {"sma": once(Crossover), "bracket": once(Bracket), "grid": once(Grid), "sweep": sweep},
    )

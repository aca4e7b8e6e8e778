"""The works by vectorbt: signals as whole arrays, filled at the close that gave them.

It has no resting orders, so it cannot do `grid`; its exits of `bracket` hang on the price of the
entry, which here is the close of the bar that decided, as in the others' works.
"""

from collections.abc import Callable

import numpy
import pandas
import vectorbt
from measure import (
    FAST,
    SLOW,
    STOP,
    SWEEP_FAST,
    TARGET,
    Done,
    Fill,
    Task,
    main,
    sweep_columns,
)


def series(task: Task, values: numpy.ndarray) -> pandas.Series:
    return pandas.Series(values, index=pandas.to_datetime(task.open_time_ms, unit="ms"))


def settings(task: Task) -> dict[str, object]:
    vectorbt.settings["engine"] = task.mode or "numba"
    return {"size": task.amount, "fees": task.fee, "init_cash": task.cash, "freq": "1min"}


def sma(task: Task) -> Callable[[], Done]:
    close, how = series(task, task.close), settings(task)

    def run() -> Done:
        fast, slow = vectorbt.MA.run(close, FAST), vectorbt.MA.run(close, SLOW)
        portfolio = vectorbt.Portfolio.from_signals(
            close, fast.ma_crossed_above(slow), fast.ma_crossed_below(slow), **how
        )
        return done(portfolio)

    run()
    return run


def bracket(task: Task) -> Callable[[], Done]:
    close, how = series(task, task.close), settings(task)
    prices = {name: series(task, getattr(task, name)) for name in ("open", "high", "low")}

    def run() -> Done:
        fast, slow = vectorbt.MA.run(close, FAST), vectorbt.MA.run(close, SLOW)
        portfolio = vectorbt.Portfolio.from_signals(
            close,
            fast.ma_crossed_above(slow),
            sl_stop=STOP,
            tp_stop=TARGET,
            **prices,
            **how,
        )
        return done(portfolio)

    run()
    return run


def done(portfolio: vectorbt.Portfolio) -> Done:
    trades = portfolio.trades.closed.count()
    return Done(portfolio.final_value(), trades, lambda: fills(portfolio))


def fills(portfolio: vectorbt.Portfolio) -> list[Fill]:
    return [
        (row["idx"], "sell" if row["side"] else "buy", row["size"], row["price"])
        for row in portfolio.orders.values
    ]


def sweep(task: Task) -> Callable[[], Done]:
    close, how = series(task, task.close), settings(task)

    def one_slow(window: int, values: pandas.Series = close) -> tuple[int, float]:
        slows = [window] * len(SWEEP_FAST)
        fast = vectorbt.MA.run(values, SWEEP_FAST, short_name="fast")
        slow = vectorbt.MA.run(values, slows, short_name="slow", run_unique=True)
        portfolio = vectorbt.Portfolio.from_signals(
            values, fast.ma_crossed_above(slow), fast.ma_crossed_below(slow), **how
        )
        return int(portfolio.trades.closed.count().sum()), float(portfolio.final_value().sum())

    one_slow(60, close[:1_000])
    return sweep_columns(task, one_slow)


if __name__ == "__main__":
    main(
        "vectorbt",
        vectorbt.__version__,
        "same close",
        {"sma": sma, "bracket": bracket, "sweep": sweep},
    )

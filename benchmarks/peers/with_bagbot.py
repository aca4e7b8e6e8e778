"""The works by bagbot itself, in the shape of its peers; `--mode` is the Backtester's.

A second word of the mode, `close`, fills at the close as vectorbt does. Fees are taken in the
quote currency, as everybody else here does.
"""

from collections.abc import Callable
from decimal import Decimal

import numpy
import talib
from measure import (
    FAST,
    GRID_BARS,
    GRID_STEPS,
    GRID_STOCK,
    SLOW,
    STOP,
    SWEEP_FAST,
    SWEEP_SLOW,
    TARGET,
    Done,
    Task,
    main,
)

import bagbot
from bagbot.domain.bars import Bars
from bagbot.domain.instrument import Instrument
from bagbot.trading.backtester import Backtester, Costs
from bagbot.trading.strategy import Strategy

TICK = Decimal("0.000001")
MARKET = Instrument(
    symbol="BTC/USDT",
    exchange_symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    tick_size=TICK,
    lot_size=Decimal("0.001"),
)


class Crossover(Strategy):
    fast: int = FAST
    slow: int = SLOW

    def prepare(self) -> None:
        self.fast_mean = talib.SMA(self.close, self.fast)
        self.slow_mean = talib.SMA(self.close, self.slow)

    def crossed_up(self) -> bool:
        return self.fast_mean[-1] > self.slow_mean[-1] and self.fast_mean[-2] <= self.slow_mean[-2]

    def on_bar(self) -> None:
        if self.position == 0:
            if self.crossed_up():
                self.buy(1.0)
        elif self.fast_mean[-1] < self.slow_mean[-1]:
            self.close_position()


class Bracket(Crossover):
    def on_bar(self) -> None:
        if self.position == 0 and self.crossed_up():
            price = self.close[-1]
            self.buy(1.0, stop_loss=price * (1 - STOP), take_profit=price * (1 + TARGET))


class Grid(Strategy):
    def prepare(self) -> None:
        self.steps = len(GRID_STEPS)

    def on_bar(self) -> None:
        if self.index == 1:
            self.buy(float(GRID_STOCK))
        elif self.index % GRID_BARS == 0:
            self.cancel_all()
            price = self.close[-1]
            for step in range(1, self.steps + 1):
                self.buy(1.0, limit=price * (1 - 0.001 * step))
                self.sell(1.0, limit=price * (1 + 0.001 * step))


def once(strategy: type[Strategy]) -> Callable[[Task], Callable[[], Done]]:
    def prepared(task: Task) -> Callable[[], Done]:
        bars = bars_of(task)
        mode, _, fill_at = task.mode.partition(" ")

        def run() -> Done:
            result = Backtester(
                strategy,
                bars,
                fill_at=fill_at or "open",
                mode=mode or "auto",
                **settings(task),
            ).run()
            # The peers' runs make their statistics, too.
            assert result.metrics
            assert mode in ("", result.mode), result.mode
            fills = len(result.fills)
            trades = fills - 1 if task.work == "grid" else fills // 2
            more = {"fills_at": "same close"} if fill_at else {}
            return Done(result.equity[-1] / 1e8, trades, more=more)

        return run

    return prepared


def sweep(task: Task) -> Callable[[], Done]:
    # Imported here, so that a single backtest does not pay for it (see `start`).
    from bagbot.trading.sweep import Sweep

    bars, grid = bars_of(task), {"fast": SWEEP_FAST, "slow": SWEEP_SLOW}
    # What is to be compiled is compiled here, as the peers' are.
    one = {name: values[:1] for name, values in grid.items()}
    Sweep(Crossover, bars[:1_000], one, mode=task.mode, **settings(task)).run()

    def run() -> Done:
        result = Sweep(Crossover, bars, grid, mode=task.mode, **settings(task)).run()
        equity = result.table["equity_units"].mean() / 1e8
        count = len(result.table)
        return Done(equity, result.table["trades"].sum(), more={"combinations": count})

    return run


def settings(task: Task) -> dict[str, object]:
    fee = Decimal(str(task.fee))
    costs = Costs(maker_fee=fee, taker_fee=fee, fee_in="quote")
    return {"cash": Decimal(str(task.cash)), "costs": costs}


def bars_of(task: Task) -> Bars:
    def ticks(prices: numpy.ndarray) -> numpy.ndarray:
        return numpy.rint(prices / float(TICK)).astype(numpy.int64)

    return Bars(
        instrument=MARKET,
        interval_ms=60_000,
        open_time_ms=task.open_time_ms,
        open=ticks(task.open),
        high=ticks(task.high),
        low=ticks(task.low),
        close=ticks(task.close),
        volume=numpy.rint(task.volume * 1_000).astype(numpy.int64),
    )


if __name__ == "__main__":
    main(
        "bagbot",
        bagbot.__version__,
        "next open",
        {"sma": once(Crossover), "bracket": once(Bracket), "grid": once(Grid), "sweep": sweep},
    )

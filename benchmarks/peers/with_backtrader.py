"""The works by backtrader: a Python strategy, called bar by bar, filled at the next open."""

from collections.abc import Callable

import backtrader
import pandas
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


class Noted(backtrader.Strategy):
    """Writes down what was filled."""

    def __init__(self, amount: float) -> None:
        self.amount = amount
        self.filled: list[Fill] = []
        self.round_trips = 0

    def notify_order(self, order: backtrader.Order) -> None:
        if order.status == order.Completed:
            side = "buy" if order.isbuy() else "sell"
            size, price = abs(order.executed.size), order.executed.price
            self.filled.append((len(self.data) - 1, side, size, price))

    def notify_trade(self, trade: backtrader.Trade) -> None:
        self.round_trips += trade.isclosed


class Crossover(Noted):
    def __init__(self, amount: float) -> None:
        super().__init__(amount)
        fast = backtrader.indicators.SMA(self.data.close, period=FAST)
        slow = backtrader.indicators.SMA(self.data.close, period=SLOW)
        self.crossed = backtrader.indicators.CrossOver(fast, slow)

    def next(self) -> None:
        if self.crossed[0] > 0:
            if not self.position:
                self.buy(size=self.amount)
        elif self.crossed[0] < 0 and self.position:
            self.close()


class Bracket(Crossover):
    def next(self) -> None:
        if self.crossed[0] > 0 and not self.position:
            close = self.data.close[0]
            self.buy_bracket(
                size=1,
                exectype=backtrader.Order.Market,
                stopprice=close * (1 - STOP),
                limitprice=close * (1 + TARGET),
            )


class Grid(Noted):
    def __init__(self, amount: float) -> None:
        super().__init__(amount)
        self.resting: list[backtrader.Order] = []

    def next(self) -> None:
        bar = len(self.data) - 1
        if bar == 1:
            self.buy(size=GRID_STOCK)
        elif bar > 1 and bar % GRID_BARS == 0:
            for order in self.resting:
                self.cancel(order)
            close, limit = self.data.close[0], backtrader.Order.Limit
            self.resting = []
            for step in GRID_STEPS:
                self.resting += (
                    self.buy(size=1, exectype=limit, price=close * (1 - step)),
                    self.sell(size=1, exectype=limit, price=close * (1 + step)),
                )


def once(strategy: type[Noted]) -> Callable[[Task], Callable[[], Done]]:
    def prepared(task: Task) -> Callable[[], Done]:
        columns = {
            "open": task.open,
            "high": task.high,
            "low": task.low,
            "close": task.close,
            "volume": task.volume,
        }
        frame = pandas.DataFrame(columns, index=pandas.to_datetime(task.open_time_ms, unit="ms"))

        def run() -> Done:
            cerebro = backtrader.Cerebro(stdstats=False)
            cerebro.adddata(backtrader.feeds.PandasData(dataname=frame))
            cerebro.addstrategy(strategy, task.amount)
            cerebro.broker.setcash(task.cash)
            cerebro.broker.setcommission(commission=task.fee)
            ran = cerebro.run()[0]
            trades = len(ran.filled) - 1 if task.work == "grid" else ran.round_trips
            return Done(cerebro.broker.getvalue(), trades, lambda: ran.filled)

        return run

    return prepared


if __name__ == "__main__":
    main(
        "backtrader",
        backtrader.__version__,
        "next open",
        {"sma": once(Crossover), "bracket": once(Bracket), "grid": once(Grid)},
    )

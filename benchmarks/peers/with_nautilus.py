"""The works by NautilusTrader 2.0: a Python strategy on its compiled core, filled at the close.

Only the run is timed: making the bars' objects and the engine is not.
"""

from collections.abc import Callable
from decimal import Decimal

import nautilus_trader
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
from nautilus_trader.backtest import BacktestEngine, BacktestEngineConfig
from nautilus_trader.common import LoggerConfig
from nautilus_trader.execution import MakerTakerFeeModel
from nautilus_trader.indicators import SimpleMovingAverage
from nautilus_trader.model import (
    AccountType,
    Bar,
    BarType,
    Currency,
    CurrencyPair,
    InstrumentId,
    Money,
    OmsType,
    OrderSide,
    Price,
    Quantity,
    Symbol,
    Venue,
)
from nautilus_trader.trading import Strategy

VENUE = Venue("SIM")
MARKET = InstrumentId.from_str("BTCUSDT.SIM")
BARS = BarType.from_str("BTCUSDT.SIM-1-MINUTE-LAST-EXTERNAL")
QUOTE, BASE = Currency.from_str("USDT"), Currency.from_str("BTC")
DECIMALS = 6


class Crossover(Strategy):
    def on_start(self) -> None:
        self.fast, self.slow = SimpleMovingAverage(FAST), SimpleMovingAverage(SLOW)
        self.register_indicator_for_bars(BARS, self.fast)
        self.register_indicator_for_bars(BARS, self.slow)
        self.subscribe_bars(BARS)
        self.one = Quantity(1, DECIMALS)
        self.was_above: bool | None = None
        self.held = 0.0
        self.filled: list[tuple[int, str, float, float]] = []

    def crossed(self) -> int:
        """Return 1 when the fast mean has come above the slow one, -1 when below, else 0."""
        if not self.slow.initialized:
            return 0
        is_above, was_above = self.fast.value > self.slow.value, self.was_above
        self.was_above = is_above
        return 0 if was_above is None else is_above - was_above

    def market(self, side: OrderSide, amount: Quantity) -> None:
        self.submit_order(self.order_factory.market(MARKET, side, amount))

    def on_bar(self, bar: Bar) -> None:
        crossed = self.crossed()
        if crossed > 0 and not self.held:
            self.market(OrderSide.BUY, self.one)
        elif crossed < 0 and self.held:
            self.market(OrderSide.SELL, self.one)

    def on_order_filled(self, event) -> None:
        side = "buy" if event.order_side == OrderSide.BUY else "sell"
        amount, price = event.last_qty.as_double(), event.last_px.as_double()
        self.held += amount if side == "buy" else -amount
        self.filled.append((event.ts_event, side, amount, price))


class Bracket(Crossover):
    def on_bar(self, bar: Bar) -> None:
        if self.crossed() > 0 and not self.held:
            close = bar.close.as_double()
            orders = self.order_factory.bracket(
                MARKET,
                OrderSide.BUY,
                self.one,
                tp_price=Price(close * (1 + TARGET), DECIMALS),
                sl_trigger_price=Price(close * (1 - STOP), DECIMALS),
            )
            self.submit_order_list(orders)


class Grid(Crossover):
    def on_start(self) -> None:
        super().on_start()
        self.bar = -1

    def on_bar(self, bar: Bar) -> None:
        self.bar += 1
        if self.bar == 1:
            self.market(OrderSide.BUY, Quantity(GRID_STOCK, DECIMALS))
        elif self.bar > 1 and self.bar % GRID_BARS == 0:
            self.cancel_all_orders(MARKET)
            close = bar.close.as_double()
            for step in GRID_STEPS:
                self.limit(OrderSide.BUY, close * (1 - step))
                self.limit(OrderSide.SELL, close * (1 + step))

    def limit(self, side: OrderSide, price: float) -> None:
        order = self.order_factory.limit(MARKET, side, self.one, Price(price, DECIMALS))
        self.submit_order(order)


def once(strategy: type[Crossover]) -> Callable[[Task], Callable[[], Done]]:
    def prepared(task: Task) -> Callable[[], Done]:
        engine = prepared_engine(task)
        ran = strategy()
        engine.add_strategy(ran)

        def run() -> Done:
            engine.run()
            account = engine.cache.account_for_venue(VENUE)
            equity = account.balance_total(QUOTE).as_double() + ran.held * task.close[-1]
            trades = len(ran.filled) - 1 if task.work == "grid" else len(ran.filled) // 2
            return Done(equity, trades, lambda: fills(task, ran))

        return run

    return prepared


def fills(task: Task, ran: Crossover) -> list[Fill]:
    bars = {int(time) * 1_000_000: bar for bar, time in enumerate(task.open_time_ms)}
    return [(bars[time], side, amount, price) for time, side, amount, price in ran.filled]


def prepared_engine(task: Task) -> BacktestEngine:
    fee = Decimal(str(task.fee))
    smallest = 10.0**-DECIMALS
    instrument = CurrencyPair(
        MARKET,
        Symbol("BTCUSDT"),
        BASE,
        QUOTE,
        DECIMALS,
        DECIMALS,
        Price(smallest, DECIMALS),
        Quantity(smallest, DECIMALS),
        0,
        0,
        margin_init=Decimal(0),
        margin_maint=Decimal(0),
    )
    engine = BacktestEngine(
        BacktestEngineConfig(bypass_logging=True, logging=LoggerConfig(bypass_logging=True))
    )
    engine.add_venue(
        VENUE,
        OmsType.NETTING,
        AccountType.CASH,
        [Money(task.cash, QUOTE), Money(0, BASE)],
        fee_model=MakerTakerFeeModel(fee, fee),
    )
    engine.add_instrument(instrument)
    engine.add_data(list(bars_of(task)))
    return engine


def bars_of(task: Task) -> list[Bar]:
    columns = zip(
        task.open_time_ms.tolist(),
        *(column.tolist() for column in (task.open, task.high, task.low, task.close, task.volume)),
        strict=True,
    )
    made = []
    for time_ms, *prices, volume in columns:
        time_ns = time_ms * 1_000_000
        open_, high, low, close = (Price(price, DECIMALS) for price in prices)
        made.append(
            Bar(BARS, open_, high, low, close, Quantity(volume, DECIMALS), time_ns, time_ns)
        )
    return made


if __name__ == "__main__":
    main(
        "NautilusTrader",
        nautilus_trader.__version__,
        "same close",
        {"sma": once(Crossover), "bracket": once(Bracket), "grid": once(Grid)},
    )

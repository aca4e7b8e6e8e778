"""The kernel against the simulated exchange's core: same orders, same answers, same money.

No sockets here: test_backtest_equals_simulator.py has those. What the exchange refuses, the kernel
refuses for the same reason, and both lock the same amounts.
"""

import random
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from bagbot.domain import fills
from bagbot.simulator.amounts import ONE
from bagbot.simulator.bar_exchange import BarExchange
from bagbot.simulator.exchange import Moment
from bagbot.simulator.orders import (
    CancelOrder,
    CancelRefusedError,
    OrderRefusedError,
    OrderType,
    PlaceOrder,
    TimeInForce,
)
from bagbot.simulator.symbols import DEFAULT_SYMBOLS
from bagbot.tests.trading.kernel_play import bars_of, instrument
from bagbot.trading import kernel
from bagbot.trading import kernel_tables as tables
from bagbot.trading.backtest_settings import BacktestSettings, Costs

RULES = DEFAULT_SYMBOLS["BTCUSDT"]
NOW = Moment(1, 1)
TYPES = {
    fills.LIMIT: OrderType.LIMIT,
    fills.LIMIT_MAKER: OrderType.LIMIT_MAKER,
    fills.MARKET: OrderType.MARKET,
    fills.STOP: OrderType.STOP_LOSS,
    fills.STOP_LIMIT: OrderType.STOP_LOSS_LIMIT,
    fills.TAKE_PROFIT: OrderType.TAKE_PROFIT,
    fills.TAKE_PROFIT_LIMIT: OrderType.TAKE_PROFIT_LIMIT,
}
TIMES = {1: TimeInForce.GTC, 2: TimeInForce.IOC, 3: TimeInForce.FOK}


def decimal(units):
    return Decimal(units) / ONE


def the_same_instrument():
    return instrument(
        tick_size=decimal(RULES.tick),
        lot_size=decimal(RULES.lot),
        price_min=decimal(RULES.price_min),
        price_max=decimal(RULES.price_max),
        quantity_min=decimal(RULES.quantity_min),
        quantity_max=decimal(RULES.quantity_max),
        market_quantity_max=decimal(RULES.market_quantity_max),
        notional_min=decimal(RULES.notional_min),
        notional_max=decimal(RULES.notional_max),
        buy_price_ratio_min=Decimal(1) / RULES.price_divisor_down,
        buy_price_ratio_max=Decimal(RULES.price_multiplier_up),
        sell_price_ratio_min=Decimal(1) / RULES.price_divisor_down,
        sell_price_ratio_max=Decimal(RULES.price_multiplier_up),
        open_orders_max=RULES.open_orders_max,
        open_stops_max=RULES.open_stops_max,
        trailing_delta_min=RULES.trailing_delta_min,
        trailing_delta_max=RULES.trailing_delta_max,
    )


class Course:
    """One seed's bars and commands, on both."""

    def __init__(self, seed, length):
        self.choose = random.Random(seed)
        choose = self.choose
        rows, close = [], 9_000_000
        for _ in range(length):
            opened = close + choose.choice([0, 0, choose.randint(-40_000, 40_000)])
            close = opened + choose.randint(-40_000, 40_000)
            high = max(opened, close) + choose.randint(0, 20_000)
            low = min(opened, close) - choose.randint(0, 20_000)
            rows.append((opened, high, low, close, choose.randint(0, 100_000)))
        self.bars = bars_of(rows, of=the_same_instrument())
        share = choose.choice([None, None, "0.01"])
        self.settings = BacktestSettings(
            cash=choose.choice([200, 20_000, 5_000_000]),
            costs=Costs(
                maker_fee="0.00075",
                slippage=choose.choice([0, "0.0001"]),
                slippage_ticks=choose.choice([0, 7]),
                through_ticks=choose.choice([0, 1]),
                volume_share=share,
            ),
        )
        self.desk = self.settings.new_desk(self.bars)
        self.desk.account.base_free = ONE
        self.exchange = BarExchange({"BTCUSDT": RULES}, self.settings.costs.ppm())
        self.exchange.open_account(1, {"USDT": self.settings.cash_units, "BTC": ONE})
        self.numbers = {}
        self.ended = set()
        self.traded = []

    def play(self):
        bars, exchange, desk = self.bars, self.exchange, self.desk
        for bar in range(len(bars)):
            kernel.close_bar(desk, bar)
            if bar:
                exchange.play_range(
                    "BTCUSDT",
                    *(int(price[bar]) * RULES.tick for price in (bars.high, bars.low, bars.close)),
                    NOW,
                )
            if bar + 1 == len(bars):
                break
            opened, volume = int(bars.open[bar + 1]), int(bars.volume[bar])
            exchange.open_bar("BTCUSDT", opened * RULES.tick, volume * RULES.lot, NOW)
            for _ in range(self.choose.choice([0, 1, 1, 2])):
                self.command(opened)
            self.compare()

    def command(self, opened):
        choose, desk = self.choose, self.desk
        if choose.random() < 0.2 and self.numbers:
            number, order_id = choose.choice(sorted(self.numbers.items()))
            kernel.cancel(desk, number)
            kernel.act(desk)
            try:
                self.exchange.cancel(
                    CancelOrder(account_id=1, symbol="BTCUSDT", order_id=order_id), NOW
                )
            except CancelRefusedError:
                # It had ended here as well, before this command.
                assert number in self.ended or desk.orders[number - 1].reason != tables.BY_COMMAND
            self.ended.add(number)
            return
        kind, is_buy = choose.choice(list(TYPES)), choose.random() < 0.6
        lots = choose.choice([0, 1, *[3_000] * 6, *[20_000] * 3, 200_000, 10**9])
        far = choose.choice([*[60_000] * 8, 8_000_000, 40_000_000])

        def price():
            return max(opened + choose.randint(-far, far), 1)

        limit = price() if TYPES[kind].has_limit else 0
        trails = kind in (fills.STOP, fills.STOP_LIMIT) and choose.random() < 0.4
        trigger = price() if TYPES[kind].is_stop and not trails else 0
        delta = choose.choice([5, 10, 50, 3_000]) if trails else 0
        tif = choose.choice([1, 1, 2, 3]) if kind == fills.LIMIT else 1
        number = kernel._queue(desk, lots, limit, trigger)
        row = desk.orders[number - 1]
        row.kind = row.placed_kind = kind
        row.is_buy, row.time_in_force, row.trailing_ppm = is_buy, tif, delta * 100
        kernel._command(desk, tables.PLACE, number, 0)
        kernel.act(desk)
        wish = PlaceOrder(
            account_id=1,
            symbol="BTCUSDT",
            is_buy=is_buy,
            type=TYPES[kind],
            time_in_force=TIMES[tif],
            price=limit * RULES.tick,
            quantity=lots * RULES.lot,
            stop_price=trigger * RULES.tick,
            trailing_delta=delta,
        )
        try:
            # A price of zero never comes so far: the wire knows it for none.
            if (TYPES[kind].has_limit and not limit) or (
                trigger == 0 and not trails and TYPES[kind].is_stop
            ):
                kernel_refuses(desk, number, "Filter failure: PRICE_FILTER")
                return
            order = self.exchange.place(wish, NOW).order
        except OrderRefusedError as error:
            kernel_refuses(desk, number, error.refusal.value)
            return
        assert row.status != tables.REFUSED, (wish, tables.REASONS[int(row.reason)])
        self.numbers[number] = order.order_id

    def compare(self):
        account, balances = self.desk.account, self.exchange.balances[1]
        assert balances["USDT"].free == account.quote_free
        assert balances["USDT"].locked == account.quote_locked
        assert balances["BTC"].free == account.base_free
        assert balances["BTC"].locked == account.base_locked
        self.traded += self.exchange.take_changes().executions
        ids = self.numbers
        assert [
            (one.order_id, one.price, one.quantity, one.is_maker, one.commission)
            for one in self.traded
        ] == [
            (
                ids[int(row.order)],
                row.price * RULES.tick,
                row.lots * RULES.lot,
                row.is_maker,
                row.fee_units,
            )
            for row in self.desk.fills[: account.fill_count]
        ]


def kernel_refuses(desk, number, text):
    row = desk.orders[number - 1]
    assert (int(row.status), tables.REASONS[int(row.reason)]) == (tables.REFUSED, text)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_exchange_and_the_kernel_answer_and_pay_alike(seed):
    Course(seed, length=40).play()

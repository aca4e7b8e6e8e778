"""Whatever users and the market do, money and quantities add up to the last unit."""

from itertools import takewhile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bagbot.simulator.amounts import ONE
from bagbot.simulator.assumptions import Assumptions
from bagbot.simulator.exchange import Moment
from bagbot.simulator.list_exchange import ListExchange
from bagbot.simulator.market import MarketProfile, quotes_around
from bagbot.simulator.order_lists import PlaceOrderList
from bagbot.simulator.orders import (
    MARKET_ACCOUNT,
    CancelOrder,
    CancelRefusedError,
    OrderEvent,
    OrderRefusedError,
    OrderStatus,
    OrderType,
    PlaceOrder,
    Prevention,
    TimeInForce,
)
from bagbot.simulator.stop_orders import is_touched, waits_for_rise
from bagbot.simulator.symbols import DEFAULT_SYMBOLS

SYMBOLS = {name: DEFAULT_SYMBOLS[name] for name in ("BTCUSDT", "ETHBTC")}
START = {"BTC": 3 * ONE, "USDT": 250_000 * ONE, "ETH": 40 * ONE}
# Thin enough that an order often takes all there is up to its limit, and rests with the remainder.
THIN = MarketProfile(start_price=ONE, level_quantity=ONE // 50)
MIDDLE = {"BTCUSDT": 90_000 * ONE, "ETHBTC": 3_333_000}

symbols = st.sampled_from(sorted(SYMBOLS))
accounts = st.sampled_from([1, 2])
ticks_away = st.integers(-600, 600)
lots = st.integers(1, 60_000)
preventions = st.sampled_from(Prevention)


class Trading(RuleBasedStateMachine):
    @initialize(slices_go_last=st.booleans(), keeps_lot_size=st.booleans())
    def start(self, slices_go_last, keeps_lot_size):
        self.keeps_lot_size = keeps_lot_size
        self.exchange = ListExchange(
            SYMBOLS,
            # Rates that leave something to round almost always.
            maker_fee_ppm=753,
            taker_fee_ppm=1_041,
            assumptions=Assumptions(
                iceberg_slices_go_last=slices_go_last, market_orders_keep_lot_size=keeps_lot_size
            ),
        )
        self.commissions = dict.fromkeys(START, 0)
        self.lists = {}
        for account in (1, 2):
            self.exchange.open_account(account, START)
        self.prices = dict(MIDDLE)
        self.orders = {}
        self.executed = {}
        self.prevented = {}
        self.time_ns = 0
        for symbol in SYMBOLS:
            self.quote(symbol)
        self.exchange.take_changes()

    def quote(self, symbol):
        rules = SYMBOLS[symbol]
        quotes = quotes_around(self.prices[symbol], None, rules, THIN)
        self.exchange.market_quotes(symbol, *quotes)

    def now(self):
        self.time_ns += 1
        return Moment(self.time_ns, self.time_ns)

    @rule(
        account=accounts,
        symbol=symbols,
        is_buy=st.booleans(),
        ticks=ticks_away,
        size=lots,
        kind=st.sampled_from(["LIMIT", "LIMIT_MAKER"]),
        time_in_force=st.sampled_from(TimeInForce),
        client_order_id=st.sampled_from(["", "a", "b"]),
        prevention=preventions,
        slices=st.sampled_from([0, 0, 2, 7, 100]),
    )
    def place_limit(
        self,
        account,
        symbol,
        is_buy,
        ticks,
        size,
        kind,
        time_in_force,
        client_order_id,
        prevention,
        slices,
    ):
        rules = SYMBOLS[symbol]
        spread = 1 if symbol == "ETHBTC" else 20
        self.place(
            PlaceOrder(
                account_id=account,
                symbol=symbol,
                is_buy=is_buy,
                type=OrderType(kind),
                time_in_force=TimeInForce.GTC if kind == "LIMIT_MAKER" else time_in_force,
                price=self.prices[symbol] + ticks * spread * rules.tick,
                quantity=size * rules.lot,
                client_order_id=client_order_id,
                prevention=prevention,
                iceberg_quantity=-(-size // slices) * rules.lot if slices else 0,
            )
        )

    @rule(
        account=accounts,
        symbol=symbols,
        is_buy=st.booleans(),
        size=lots,
        odd=st.integers(0, 999),
        by_quote=st.booleans(),
        prevention=preventions,
    )
    def place_market(self, account, symbol, is_buy, size, odd, by_quote, prevention):
        quantity = size * SYMBOLS[symbol].lot + (0 if self.keeps_lot_size else odd)
        quote_quantity = quantity * self.prices[symbol] // ONE if by_quote else 0
        self.place(
            PlaceOrder(
                account_id=account,
                symbol=symbol,
                is_buy=is_buy,
                type=OrderType.MARKET,
                quantity=0 if by_quote else quantity,
                quote_quantity=quote_quantity,
                prevention=prevention,
            )
        )

    @rule(
        account=accounts,
        symbol=symbols,
        is_buy=st.booleans(),
        ticks=st.integers(1, 600),
        size=lots,
        kind=st.sampled_from([kind for kind in OrderType if kind.is_stop]),
        slack=ticks_away,
        delta=st.sampled_from([0, 0, 10, 100]),
        time_in_force=st.sampled_from(TimeInForce),
        prevention=preventions,
    )
    def place_stop(
        self, account, symbol, is_buy, ticks, size, kind, slack, delta, time_in_force, prevention
    ):
        rules = SYMBOLS[symbol]
        tick = rules.tick if symbol == "ETHBTC" else 20 * rules.tick
        sign = 1 if waits_for_rise(kind, is_buy=is_buy) else -1
        last = self.exchange.last_prices.get(symbol, self.prices[symbol])
        stop_price = last + sign * ticks * tick
        self.place(
            PlaceOrder(
                account_id=account,
                symbol=symbol,
                is_buy=is_buy,
                type=kind,
                time_in_force=time_in_force if kind.has_limit else TimeInForce.GTC,
                price=stop_price + slack * tick if kind.has_limit else 0,
                quantity=size * rules.lot,
                stop_price=stop_price,
                trailing_delta=delta,
                prevention=prevention,
            )
        )

    @rule(
        account=accounts,
        symbol=symbols,
        is_buy=st.booleans(),
        size=lots,
        distances=st.tuples(*[st.integers(-30, 600)] * 3),
        kinds=st.tuples(
            st.sampled_from([OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT]),
            st.sampled_from(
                [OrderType.LIMIT_MAKER, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT]
            ),
        ),
        shape=st.sampled_from(["OCO", "OTO", "OTO market", "OTOCO"]),
        prevention=preventions,
    )
    def place_list(self, account, symbol, is_buy, size, distances, kinds, shape, prevention):
        rules = SYMBOLS[symbol]
        tick = rules.tick if symbol == "ETHBTC" else 20 * rules.tick
        last = self.exchange.last_prices.get(symbol, self.prices[symbol])

        def leg(kind, distance, *, is_buy):
            return PlaceOrder(
                account_id=account,
                symbol=symbol,
                is_buy=is_buy,
                type=kind,
                price=last + distance * tick if kind.has_limit else 0,
                stop_price=last + distance * tick if kind.is_stop else 0,
                quantity=size * rules.lot,
                prevention=prevention,
            )

        sign = 1 if is_buy else -1
        pair = (
            leg(kinds[0], sign * distances[0], is_buy=is_buy),
            leg(kinds[1], -sign * distances[1], is_buy=is_buy),
        )
        working = leg(OrderType.LIMIT, sign * distances[2], is_buy=not is_buy)
        followers = {"OTO": pair[:1], "OTO market": (leg(OrderType.MARKET, 0, is_buy=is_buy),)}
        command = PlaceOrderList(
            account_id=account,
            symbol=symbol,
            working=None if shape == "OCO" else working,
            followers=followers.get(shape, pair),
        )
        try:
            placement = self.exchange.place_list(command, self.now())
        except OrderRefusedError:
            assert not self.exchange.has_account_changes
            return
        changes = self.exchange.take_changes()
        self.orders = changes.orders | self.orders
        self.lists[placement.order_list.list_id] = placement.order_list
        self.count(changes)

    def place(self, command):
        resting = self.exchange.open_orders(command.account_id, command.symbol)
        is_taken = any(
            command.client_order_id and order.client_order_id == command.client_order_id
            for order in resting
        )
        book = self.exchange.books[command.symbol]
        makers = book.makers(taker_is_buy=command.is_buy)
        users = [order for order in makers if order.account_id != MARKET_ACCOUNT]
        queue = [order.order_id for order in users]
        has_icebergs = any(order.iceberg_quantity for order in users)
        try:
            placement = self.exchange.place(command, self.now())
        except OrderRefusedError:
            assert not self.exchange.has_account_changes
            return
        assert not is_taken
        self.orders[placement.order.order_id] = placement.order
        changes = self.exchange.take_changes()
        self.count(changes)
        # What a touched stop meets afterwards is another matching.
        events = [event for event in changes.events if isinstance(event, OrderEvent)]
        own = takewhile(lambda event: event.kind != "RELEASED", events)
        met = [
            event.order.order_id
            for event in own
            if (event.execution and event.execution.is_maker)
            or (event.prevented_match and event.order is not placement.order)
        ]
        # The slices of icebergs come again behind the others at their price.
        first_met = list(dict.fromkeys(met))
        assert first_met == queue[: len(first_met)]
        assert has_icebergs or met == first_met

    @rule(data=st.data())
    def cancel(self, data):
        if not self.orders:
            return
        order = self.orders[data.draw(st.sampled_from(sorted(self.orders)))]
        was_open = order.is_open
        command = CancelOrder(
            account_id=order.account_id, symbol=order.symbol, order_id=order.order_id
        )
        try:
            self.exchange.cancel(command, self.now())
        except CancelRefusedError:
            assert not was_open
        else:
            assert was_open

    @rule(data=st.data())
    def cancel_list(self, data):
        if not self.lists:
            return
        one = self.lists[data.draw(st.sampled_from(sorted(self.lists)))]
        was_open = one.is_open
        ids = {"list_id": one.list_id, "client_list_id": None}
        try:
            self.exchange.cancel_list(one.account_id, one.symbol, self.now(), **ids)
        except CancelRefusedError:
            assert not was_open
        else:
            assert was_open
            assert not any(self.orders[order_id].is_open for order_id, _ in one.orders)

    @rule(symbol=symbols, ticks=ticks_away)
    def market_moves(self, symbol, ticks):
        spread = 1 if symbol == "ETHBTC" else 20
        self.prices[symbol] += ticks * spread * SYMBOLS[symbol].tick
        self.exchange.market_moves(symbol, self.prices[symbol], None, self.now())
        self.exchange.market_prints(
            symbol,
            price=self.prices[symbol],
            quantity=SYMBOLS[symbol].lot,
            buyer_is_maker=False,
            time_ns=self.time_ns,
        )
        self.quote(symbol)
        self.exchange.release_due_orders(self.now())

    @invariant()
    def executions_follow_from_changes(self):
        if not hasattr(self, "exchange"):
            return
        self.count(self.exchange.take_changes())
        assert {asset: self.exchange.fees[asset] for asset in START} == self.commissions

    def count(self, changes):
        self.check_self_trades(changes.executions)
        for event in changes.events:
            if not isinstance(event, OrderEvent):
                continue
            match = event.prevented_match
            if match is not None:
                is_taker = event.order.order_id == match.taker_order_id
                lost = match.taker_prevented if is_taker else match.maker_prevented
                key = event.order.order_id
                self.prevented[key] = self.prevented.get(key, 0) + lost
        for execution in changes.executions:
            self.commissions[execution.commission_asset] += execution.commission
            key = execution.order_id
            self.executed[key] = self.executed.get(key, 0) + execution.quantity
            order = self.orders[key]
            if order.type.has_limit:
                is_fair = (
                    execution.price <= order.price
                    if order.is_buy
                    else execution.price >= order.price
                )
                assert is_fair

    def check_self_trades(self, executions):
        makers = {(e.symbol, e.trade_id): e for e in executions if e.is_maker}
        for taken in executions:
            maker = makers.get((taken.symbol, taken.trade_id))
            if maker and not taken.is_maker and maker.account_id == taken.account_id:
                assert self.orders[taken.order_id].prevention is Prevention.NONE

    @invariant()
    def every_asset_adds_up(self):
        if not hasattr(self, "exchange"):
            return
        exchange = self.exchange
        for asset, amount in START.items():
            users = sum(
                account[asset].free + account[asset].locked
                for account in exchange.balances.values()
            )
            assert users + exchange.fees[asset] + exchange.market_balances[asset] == 2 * amount

    @invariant()
    def nobody_owes_and_locks_match_open_orders(self):
        if not hasattr(self, "exchange"):
            return
        for account_id, account in self.exchange.balances.items():
            locked = dict.fromkeys(account, 0)
            needed = {}
            for order in self.exchange.open_orders(account_id):
                rules = SYMBOLS[order.symbol]
                asset = rules.quote if order.is_buy else rules.base
                locked[asset] += order.locked
                price = order.price or order.stop_price
                need = -(-price * order.remaining // ONE) if order.is_buy else order.remaining
                if order.status is OrderStatus.PENDING_NEW:
                    assert order.locked == 0
                    continue
                # Of an OCO only one can trade, so the larger need is locked, and once.
                key = order.order_id if order.list_id < 0 else -1 - order.list_id
                held, larger = needed.get(key, (0, 0))
                needed[key] = held + order.locked, max(larger, need)
            for held, need in needed.values():
                assert held == need
            for asset, held in account.items():
                assert held.free >= 0
                assert held.locked == locked[asset]

    @invariant()
    def books_are_not_crossed_and_levels_add_up(self):
        if not hasattr(self, "exchange"):
            return
        for book in self.exchange.books.values():
            bid, ask = book.best_bid(), book.best_ask()
            assert bid is None or ask is None or bid[0] < ask[0]
            for taker_is_buy, levels in ((True, book.asks(10_000)), (False, book.bids(10_000))):
                sums = {}
                for order in book.makers(taker_is_buy=taker_is_buy):
                    assert 0 < order.shown <= order.remaining
                    assert not order.iceberg_quantity or order.shown <= order.iceberg_quantity
                    sums[order.price] = sums.get(order.price, 0) + order.shown
                assert list(sums.items()) == levels

    @invariant()
    def quantities_add_up(self):
        if not hasattr(self, "exchange"):
            return
        for order_id, order in self.orders.items():
            executed = self.executed.get(order_id, 0)
            assert order.executed == executed
            assert order.prevented == self.prevented.get(order_id, 0)
            assert order.quantity == executed + order.prevented + order.remaining
            is_used_up = order.status in (OrderStatus.FILLED, OrderStatus.EXPIRED_IN_MATCH)
            assert is_used_up == (order.remaining == 0)
            assert order.is_open == (self.exchange.open_order(order_id) is not None)
        assert not self.exchange.has_due_orders

    @invariant()
    def orders_of_a_list_depend_on_each_other(self):
        if not hasattr(self, "exchange"):
            return
        for one in self.lists.values():
            orders = [self.orders[order_id] for order_id, _ in one.orders]
            assert one.is_open == any(order.is_open for order in orders)
            working = [order for order in orders if order.order_id == one.working_id]
            followers = [order for order in orders if order.order_id != one.working_id]
            assert sum(order.executed + order.prevented > 0 for order in followers) <= 1
            has_begun = all(order.status is OrderStatus.FILLED for order in working)
            for order in followers:
                assert has_begun or not order.executed
                assert not (has_begun and order.status is OrderStatus.PENDING_NEW)

    @invariant()
    def no_waiting_stop_has_been_reached(self):
        if not hasattr(self, "exchange"):
            return
        for order in self.orders.values():
            last = self.exchange.last_prices.get(order.symbol)
            is_waiting = order.status is OrderStatus.NEW and not order.is_working
            if is_waiting and not order.trailing_extreme:
                assert last is None or not is_touched(
                    order.type, last, order.stop_price, is_buy=order.is_buy
                )


TestTrading = Trading.TestCase
TestTrading.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

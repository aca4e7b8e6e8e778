"""The exchange on bars: fills are the rules', money adds up, accounts never meet."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagbot.domain import fills
from bagbot.simulator.amounts import ONE
from bagbot.simulator.bar_exchange import BarExchange
from bagbot.simulator.exchange import Moment
from bagbot.simulator.order_lists import PlaceOrderList
from bagbot.simulator.orders import (
    ExpiryReason,
    OrderRefusedError,
    OrderStatus,
    OrderType,
    PlaceOrder,
    Refusal,
    TimeInForce,
)
from bagbot.simulator.symbols import DEFAULT_SYMBOLS

RULES = DEFAULT_SYMBOLS["BTCUSDT"]
START = {"BTC": 10 * ONE, "USDT": 1_000_000 * ONE}
MIDDLE = 9_000_000
NOW = Moment(1, 1)
KINDS = {
    OrderType.LIMIT: fills.LIMIT,
    OrderType.LIMIT_MAKER: fills.LIMIT_MAKER,
    OrderType.MARKET: fills.MARKET,
    OrderType.STOP_LOSS: fills.STOP,
    OrderType.STOP_LOSS_LIMIT: fills.STOP_LIMIT,
    OrderType.TAKE_PROFIT: fills.TAKE_PROFIT,
    OrderType.TAKE_PROFIT_LIMIT: fills.TAKE_PROFIT_LIMIT,
}
TIMES_IN_FORCE = {
    TimeInForce.GTC: fills.GOOD_TILL_CANCELLED,
    TimeInForce.IOC: fills.IMMEDIATE_OR_CANCEL,
    TimeInForce.FOK: fills.FILL_OR_KILL,
}
# Low enough that the smallest trailing delta, 10 basis points, lies inside a bar.
CENTRE = 20_000
ticks = st.integers(CENTRE - 50, CENTRE + 50)


@st.composite
def bars(draw):
    opened, close = draw(ticks), draw(ticks)
    low = draw(st.integers(CENTRE - 100, min(opened, close)))
    high = draw(st.integers(max(opened, close), CENTRE + 100))
    return fills.Bar(opened, high, low, close, draw(st.integers(0, 200_000)))


costs = st.builds(
    fills.Costs,
    maker_fee_ppm=st.sampled_from([0, 750, 1_000]),
    taker_fee_ppm=st.sampled_from([0, 999, 1_000]),
    slippage_ticks=st.integers(0, 3),
    slippage_ppm=st.integers(0, 200),
    through_ticks=st.integers(0, 1),
    volume_share_ppm=st.sampled_from([fills.UNLIMITED, 100_000, 500_000]),
)


@st.composite
def all_wishes(draw):
    kind = draw(st.sampled_from(list(OrderType)))
    wish = (kind, draw(st.booleans()), draw(ticks), draw(st.integers(3_000, 50_000)))
    more = {}
    if kind.is_stop:
        trailing = draw(st.sampled_from([0, 0, 10, 11]))
        more = (
            {"trailing_delta": trailing} if trailing else {"stop_price": draw(ticks) * RULES.tick}
        )
    if kind in (OrderType.LIMIT, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT):
        more["time_in_force"] = draw(st.sampled_from(TimeInForce))
    return wish, more


courses = st.lists(st.tuples(bars(), st.lists(all_wishes(), max_size=3)), min_size=1, max_size=8)


def command(wish, account_id=1, **more):
    kind, is_buy, limit, lots = wish
    return PlaceOrder(
        account_id=account_id,
        symbol="BTCUSDT",
        is_buy=is_buy,
        type=kind,
        price=limit * RULES.tick if kind.has_limit else 0,
        quantity=lots * RULES.lot,
        **more,
    )


class Course:
    """Plays bars on an exchange and collects every execution of every account."""

    def __init__(self, charges, accounts=(1,)):
        self.exchange = BarExchange({"BTCUSDT": RULES}, charges)
        for account in accounts:
            self.exchange.open_account(account, START)
        self.executions = []
        self.volume = 0

    def open(self, bar):
        self.exchange.open_bar("BTCUSDT", bar.open * RULES.tick, self.volume * RULES.lot, NOW)
        self.collect()

    def place(self, wish, account_id=1, **more):
        try:
            placement = self.exchange.place(command(wish, account_id, **more), NOW)
        except OrderRefusedError as error:
            return error.refusal
        self.collect()
        return placement.order

    def finish(self, bar):
        prices = (price * RULES.tick for price in (bar.high, bar.low, bar.close))
        self.exchange.play_range("BTCUSDT", *prices, NOW)
        self.collect()
        self.volume = bar.volume_lots

    def collect(self):
        self.executions += self.exchange.take_changes().executions


def working_from(
    number, wish, opened, *, stop_price=0, trailing_delta=0, time_in_force=TimeInForce.GTC
):
    """Return a new order as the rules know it."""
    kind, is_buy, limit, lots = wish
    rule_kind = KINDS[kind]
    if trailing_delta:
        rule_kind = fills.STOP_LIMIT if kind.has_limit else fills.STOP
    return fills.WorkingOrder(
        number,
        rule_kind,
        is_buy,
        lots,
        limit=limit if kind.has_limit else 0,
        trigger=stop_price // RULES.tick,
        time_in_force=TIMES_IN_FORCE[time_in_force],
        trailing_ppm=trailing_delta * 100,
        best=opened if trailing_delta else 0,
    )


def told(execution):
    return (
        execution.order_id,
        execution.price // RULES.tick,
        execution.quantity // RULES.lot,
        execution.is_maker,
    )


@given(course=courses, charges=costs)
def test_every_fill_is_the_rules_and_the_money_adds_up(course, charges):
    there = Course(charges)
    working, own, volume_lots = [], [], 0

    def take(played):
        nonlocal working, budget
        working, budget = played.left, played.budget_lots
        own.extend(event for event in played.events if event.kind == fills.FILLED)

    for bar, wanted in course:
        budget = fills.volume_budget(volume_lots, charges)
        take(fills.open_bar(working, bar.open, charges, budget))
        there.open(bar)
        for wish, more in wanted:
            order = there.place(wish, **more)
            if isinstance(order, Refusal):
                continue
            mine = working_from(order.order_id, wish, bar.open, **more)
            played = fills.open_bar([mine], bar.open, charges, budget)
            take(played._replace(left=working + played.left))
        take(fills.play_range(working, bar, charges, budget))
        there.finish(bar)
        volume_lots = bar.volume_lots
    assert [told(execution) for execution in there.executions] == [
        (event.number, event.price, event.lots, event.is_maker) for event in own
    ]
    scale = fills.scale_of(RULES.tick, RULES.lot)
    money = dict(START)
    for execution in there.executions:
        settle = fills.settle_buy if execution.is_buyer else fills.settle_sell
        moved = settle(
            price=execution.price // RULES.tick,
            lots=execution.quantity // RULES.lot,
            rate_ppm=charges.maker_fee_ppm if execution.is_maker else charges.taker_fee_ppm,
            scale=scale,
        )
        assert execution.commission == moved.fee_units
        money["BTC"] += moved.base_units
        money["USDT"] += moved.quote_units
    balances = there.exchange.balances[1]
    assert {asset: held.free + held.locked for asset, held in balances.items()} == money
    assert all(held.free >= 0 and held.locked >= 0 for held in balances.values())
    resting = {order.order_id for order in there.exchange.open_orders(1)}
    assert resting == {order.number for order in working}
    locked = sum(order.locked for order in there.exchange.open_orders(1))
    assert locked == sum(held.locked for held in balances.values())


@given(course=courses, charges=costs)
def test_accounts_never_meet(course, charges):
    alone, together = Course(charges), Course(charges, accounts=(1, 2))
    opposite = Course(charges, accounts=(2,))
    for bar, wanted in course:
        for each in (alone, together, opposite):
            each.open(bar)
        for (kind, is_buy, limit, lots), more in wanted:
            alone.place((kind, is_buy, limit, lots), **more)
            together.place((kind, is_buy, limit, lots), **more)
            together.place((kind, not is_buy, limit, lots), 2, **more)
            opposite.place((kind, not is_buy, limit, lots), 2, **more)
        for each in (alone, together, opposite):
            each.finish(bar)
    assert together.exchange.balances[1] == alone.exchange.balances[1]
    assert together.exchange.balances[2] == opposite.exchange.balances[2]


@st.composite
def all_lists(draw):
    """An OCO, or a working order with one or two followers, with prices around the centre."""
    is_buy = draw(st.booleans())
    lots = draw(st.integers(3_000, 5_000))
    stop_price = {"stop_price": draw(ticks) * RULES.tick}
    loss = draw(st.sampled_from([OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT]))
    trailing = {"trailing_delta": draw(st.sampled_from([10, 11]))}
    pair = [
        ((loss, is_buy, draw(ticks), lots), draw(st.sampled_from([stop_price, trailing]))),
        ((OrderType.LIMIT_MAKER, is_buy, draw(ticks), lots), {}),
    ]
    if draw(st.booleans()):
        return None, pair
    kind = draw(st.sampled_from([OrderType.LIMIT, OrderType.LIMIT_MAKER]))
    working = (kind, draw(st.booleans()), draw(ticks), lots)
    if draw(st.booleans()):
        return working, pair
    return working, [draw(all_wishes().map(lambda one: ((*one[0][:3], lots), one[1])))]


def place_list(course, working, followers):
    account = 1
    wanted = PlaceOrderList(
        account_id=account,
        symbol="BTCUSDT",
        working=None if working is None else command(working),
        followers=tuple(command(wish, **more) for wish, more in followers),
    )
    try:
        placed = course.exchange.place_list(wanted, NOW)
    except OrderRefusedError as error:
        return error.refusal
    course.collect()
    return placed


list_courses = st.lists(
    st.tuples(bars(), st.lists(all_lists(), max_size=2)), min_size=1, max_size=6
)


@given(course=list_courses, charges=costs)
def test_lists_are_played_by_the_rules_and_the_money_adds_up(course, charges):
    there = Course(charges)
    live, own, volume_lots = [], [], 0

    def take(played, others=()):
        nonlocal live, budget
        live, budget = [*others, *played.left], played.budget_lots
        own.extend(event for event in played.events if event.kind == fills.FILLED)

    for bar, wanted in course:
        budget = fills.volume_budget(volume_lots, charges)
        take(fills.open_bar(live, bar.open, charges, budget))
        there.open(bar)
        for working, followers in wanted:
            placed = place_list(there, working, followers)
            if isinstance(placed, Refusal):
                continue
            numbers = [number for number, _ in placed.order_list.orders]
            mine = []
            if working is not None:
                mine.append(working_from(numbers[0], working, bar.open))
            parent = numbers[0] if working is not None else 0
            for number, (wish, more) in zip(numbers[-len(followers) :], followers, strict=True):
                opened = 0 if parent else bar.open
                order = working_from(number, wish, opened, **more)
                order = replace(order, pair=placed.order_list.list_id + 1, parent=parent)
                mine.append(order)
            take(fills.open_bar(mine, bar.open, charges, budget), live)
        take(fills.play_range(live, bar, charges, budget))
        there.finish(bar)
        volume_lots = bar.volume_lots
    assert [told(execution) for execution in there.executions] == [
        (event.number, event.price, event.lots, event.is_maker) for event in own
    ]
    resting = {order.order_id for order in there.exchange.open_orders(1)}
    assert resting == {order.number for order in live}
    balances = there.exchange.balances[1]
    assert all(held.free >= 0 and held.locked >= 0 for held in balances.values())
    locked = sum(order.locked for order in there.exchange.open_orders(1))
    assert locked == sum(held.locked for held in balances.values())


@pytest.mark.parametrize("limit", [MIDDLE, MIDDLE - 10], ids=["at the open", "inside the bar"])
def test_a_limit_maker_that_would_take_when_it_begins_expires_and_its_pair_with_it(limit):
    course = Course(fills.Costs())
    course.open(BAR)
    stop = {"stop_price": (MIDDLE - 100) * RULES.tick}
    followers = [
        ((OrderType.STOP_LOSS, False, 0, 100), stop),
        ((OrderType.LIMIT_MAKER, False, limit, 100), {}),
    ]
    course.exchange.place_list(
        PlaceOrderList(
            account_id=1,
            symbol="BTCUSDT",
            working=command((OrderType.LIMIT, True, limit, 100)),
            followers=tuple(command(wish, **more) for wish, more in followers),
        ),
        NOW,
    )
    changes = course.exchange.take_changes()
    if limit < MIDDLE:
        course.exchange.play_range("BTCUSDT", *(each * RULES.tick for each in BAR[1:4]), NOW)
        changes = course.exchange.take_changes()
    assert [told(execution)[1:] for execution in changes.executions] == [
        (limit, 100, limit < MIDDLE)
    ]
    ended = [order for order in changes.orders.values() if order.status is OrderStatus.EXPIRED]
    assert {order.type for order in ended} == {OrderType.LIMIT_MAKER, OrderType.STOP_LOSS}
    assert {order.expiry_reason for order in ended} == {ExpiryReason.REJECTED}
    reasons = [getattr(event, "reject_reason", "NONE") for event in changes.events]
    assert reasons.count("WOULD_MATCH_IMMEDIATELY") == 1
    assert course.exchange.open_orders(1) == []
    assert all(held.locked == 0 for held in course.exchange.balances[1].values())


BAR = fills.Bar(MIDDLE, MIDDLE + 50, MIDDLE - 50, MIDDLE + 10, 1_000)


@pytest.fixture
def course():
    running = Course(fills.Costs(volume_share_ppm=100_000))
    running.volume = 1_000
    running.open(BAR)
    return running


def test_what_the_volume_leaves_of_a_market_order_expires(course):
    order = course.place((OrderType.MARKET, True, 0, 150))
    assert (order.status, order.executed) == (OrderStatus.EXPIRED, 100 * RULES.lot)


def test_fill_or_kill_is_all_or_nothing(course):
    wish = (OrderType.LIMIT, True, MIDDLE, 150)
    order = course.place(wish, time_in_force=TimeInForce.FOK)
    assert (order.status, order.executed) == (OrderStatus.EXPIRED, 0)
    small = course.place((*wish[:3], 100), time_in_force=TimeInForce.FOK)
    assert small.status is OrderStatus.FILLED


def test_post_only_is_refused_at_the_open_even_when_the_volume_is_used_up(course):
    course.place((OrderType.MARKET, True, 0, 100))
    assert course.place((OrderType.LIMIT_MAKER, True, MIDDLE, 10)) is Refusal.WOULD_TAKE
    assert course.place((OrderType.LIMIT_MAKER, True, MIDDLE - 1, 10)).is_open


def test_a_limit_rests_with_what_the_volume_left_of_it(course):
    order = course.place((OrderType.LIMIT, True, MIDDLE, 150))
    assert (order.status, order.remaining) == (OrderStatus.PARTIALLY_FILLED, 50 * RULES.lot)
    course.finish(BAR)
    assert order.remaining == 50 * RULES.lot
    course.open(BAR)
    assert order.status is OrderStatus.FILLED


def test_a_market_order_by_quote_amount_buys_whole_lots_at_the_slipped_open():
    course = Course(fills.Costs(slippage_ticks=100))
    course.open(BAR)
    order = course.exchange.place(
        PlaceOrder(
            account_id=1,
            symbol="BTCUSDT",
            is_buy=True,
            type=OrderType.MARKET,
            quote_quantity=1_000 * ONE,
        ),
        NOW,
    ).order
    # 1000 / 90,001 = 0.0111109, in lots of 0.00001.
    assert (order.status, order.quantity) == (OrderStatus.FILLED, 1_111 * RULES.lot)
    assert order.executed_quote == 90_001 * 1_111 * RULES.lot


def test_what_is_not_paid_for_is_refused_at_the_slipped_price():
    course = Course(fills.Costs(slippage_ticks=100))
    course.exchange.open_account(1, {"USDT": 90_000 * ONE})
    course.open(BAR)
    assert course.place((OrderType.MARKET, True, 0, 100_000)) is Refusal.INSUFFICIENT_BALANCE
    assert course.place((OrderType.MARKET, True, 0, 99_998)).status is OrderStatus.FILLED


def test_after_the_end_nothing_fills(course):
    course.finish(BAR)
    course.exchange.close_market("BTCUSDT")
    assert course.place((OrderType.MARKET, True, 0, 10)).status is OrderStatus.EXPIRED
    assert course.place((OrderType.LIMIT, True, MIDDLE + 10, 10)).status is OrderStatus.NEW

"""Whatever the bars and the orders: no fill is better than the market was, and the sums add up."""

from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagbot.domain import fills
from bagbot.domain.fills import FILLED, Bar, Costs, Played, Scale, WorkingOrder

BTCUSDT = fills.scale_of(1_000_000, 1_000)
ETHBTC = fills.scale_of(1_000, 10_000)

prices = st.integers(20, 400)
rates = st.integers(0, 1_000_000)
amounts = st.integers(0, fills.INT64_MAX)


@st.composite
def bars(draw):
    opened, close = draw(prices), draw(prices)
    low = draw(st.integers(10, min(opened, close)))
    high = draw(st.integers(max(opened, close), 500))
    return Bar(opened, high, low, close, draw(st.integers(0, 100)))


costs = st.builds(
    Costs,
    slippage_ticks=st.integers(0, 5),
    slippage_ppm=st.integers(0, 50_000),
    through_ticks=st.integers(0, 2),
    volume_share_ppm=st.sampled_from([fills.UNLIMITED, 0, 100_000, 1_000_000]),
)


@st.composite
def working(draw, number=1):
    kind = draw(st.integers(fills.LIMIT, fills.TAKE_PROFIT_LIMIT))
    has_limit = kind in (
        fills.LIMIT,
        fills.LIMIT_MAKER,
        fills.STOP_LIMIT,
        fills.TAKE_PROFIT_LIMIT,
    )
    trails = kind in (fills.STOP, fills.STOP_LIMIT) and draw(st.booleans())
    return WorkingOrder(
        number=number,
        kind=kind,
        is_buy=draw(st.booleans()),
        lots=draw(st.integers(1, 50)),
        limit=draw(prices) if has_limit else 0,
        trigger=draw(prices) if kind >= fills.STOP else 0,
        trailing_ppm=draw(st.integers(1, 200_000)) if trails else 0,
        best=draw(prices) if trails else 0,
        time_in_force=draw(
            st.sampled_from(
                [fills.GOOD_TILL_CANCELLED, fills.IMMEDIATE_OR_CANCEL, fills.FILL_OR_KILL]
            )
            if kind == fills.LIMIT
            else st.just(fills.GOOD_TILL_CANCELLED)
        ),
    )


@st.composite
def accounts(draw):
    """Return up to six orders, some of them pairs, some asleep until another has filled."""
    orders = [draw(working(number)) for number in range(1, draw(st.integers(1, 6)) + 1)]
    linked = []
    for order in orders:
        earlier = [each.number for each in linked if each.kind != fills.MARKET]
        parent = draw(st.sampled_from([0, *earlier]))
        pair = 0 if parent else draw(st.sampled_from([0, 0, 1]))
        linked.append(replace(order, parent=parent, pair=pair))
    return linked


def play_whole(orders, bar, charges, budget):
    opened = fills.open_bar(orders, bar.open, charges, budget)
    played = fills.play_range(opened.left, bar, charges, opened.budget_lots)
    return Played(opened.events + played.events, played.left, played.budget_lots)


def fills_of(order, bar, charges):
    """Return the fills at the open and inside the bar, each with the range it must lie in."""
    opened = fills.open_bar([order], bar.open, charges)
    inside = fills.play_range(opened.left, bar, charges)
    return [
        (event, low, high)
        for events, low, high in (
            (opened.events, bar.open, bar.open),
            (inside.events, bar.low, bar.high),
        )
        for event in events
        if event.kind == FILLED
    ]


@given(order=working(), bar=bars(), charges=costs)
def test_without_slippage_a_fill_lies_in_its_bar_or_at_its_open(order, bar, charges):
    charges = charges._replace(slippage_ticks=0, slippage_ppm=0)
    for event, low, high in fills_of(order, bar, charges):
        if order.kind == fills.LIMIT_MAKER:
            # Gapped through, it keeps its limit: worse than anything the market showed.
            assert event.price == order.limit
            assert event.price >= low if order.is_buy else event.price <= high
        else:
            assert low <= event.price <= high
        if order.limit:
            assert event.price <= order.limit if order.is_buy else event.price >= order.limit


@given(order=working(), bar=bars(), charges=costs)
def test_slippage_makes_takers_fills_worse_and_changes_nothing_else(order, bar, charges):
    free = fills_of(order, bar, charges._replace(slippage_ticks=0, slippage_ppm=0))
    slipped = fills_of(order, bar, charges)
    assert [event._replace(price=0) for event, _, _ in free] == [
        event._replace(price=0) for event, _, _ in slipped
    ]
    for (before, _, _), (after, _, _) in zip(free, slipped, strict=True):
        if after.is_maker:
            assert after.price == before.price
        else:
            taken_at = fills.bought_at if order.is_buy else fills.sold_at
            worst = taken_at(before.price, charges)
            between = sorted([before.price, after.price, worst])
            assert between[1] == after.price
            assert order.limit or after.price == worst


@given(account=accounts(), bar=bars(), charges=costs, closed=st.integers(0, 100))
def test_lots_add_up_and_the_volume_is_kept_to(account, bar, charges, closed):
    budget = fills.volume_budget(closed, charges)
    played = play_whole(account, bar, charges, budget)
    left = {order.number: order.lots for order in played.left}
    # Nobody waits for an order that is gone, and only stops trail.
    assert all(not order.parent or order.parent in left for order in played.left)
    assert all(
        not order.trailing_ppm or order.kind in (fills.STOP, fills.STOP_LIMIT)
        for order in played.left
    )
    traded = 0
    for order in account:
        own = [event for event in played.events if event.number == order.number]
        filled = sum(event.lots for event in own if event.kind == FILLED)
        ended = [event for event in own if event.kind in (fills.EXPIRED, fills.CANCELLED)]
        assert len(ended) <= 1
        assert not (ended and order.number in left)
        gone = sum(event.lots for event in ended)
        assert filled + gone + left.get(order.number, 0) == order.lots
        traded += filled
    if budget != fills.UNLIMITED:
        assert traded + played.budget_lots == budget
        assert played.budget_lots >= 0


@given(account=accounts(), bar=bars(), charges=costs)
def test_of_a_pair_only_one_side_ever_trades(account, bar, charges):
    played = play_whole(account, bar, charges, fills.UNLIMITED)
    pair = {order.number for order in account if order.pair}
    active = {
        event.number
        for event in played.events
        if event.kind in (FILLED, fills.TRIGGERED) and event.number in pair
    }
    assert len(active) <= 1
    if active:
        assert not any(order.number in pair - active for order in played.left)


@given(account=accounts(), bar=bars(), charges=costs)
def test_the_same_bar_twice_gives_the_same_and_changes_no_argument(account, bar, charges):
    before = deepcopy(account)
    first = play_whole(account, bar, charges, fills.UNLIMITED)
    assert first == play_whole(account, bar, charges, fills.UNLIMITED)
    assert account == before
    assert all(order.since == 0 and not order.untested for order in first.left if not order.parent)


@given(account=accounts(), bar=bars(), charges=costs)
def test_stops_come_before_limits_that_rested_as_long(account, bar, charges):
    awake = [replace(order, parent=0, pair=0) for order in account if order.kind != fills.MARKET]
    played = fills.play_range(fills.open_bar(awake, bar.open, charges).left, bar, charges)
    kinds = {order.number: order.kind for order in awake}
    own = [event.number for event in played.events if event.kind == fills.TRIGGERED]
    is_stop = [kinds[number] in (fills.STOP, fills.STOP_LIMIT) for number in own]
    assert is_stop == sorted(is_stop, reverse=True)


@given(
    is_buy=st.booleans(),
    limit=prices,
    course=st.lists(bars(), min_size=1, max_size=6),
    charges=costs,
)
def test_a_limit_left_alone_fills_like_one_sent_anew_each_bar(is_buy, limit, course, charges):
    order = WorkingOrder(1, fills.LIMIT, is_buy, 5, limit=limit)
    resting, left_alone = [order], []
    sent_anew: list[fills.Event] = []
    for bar in course:
        played = play_whole(resting, bar, charges, fills.UNLIMITED)
        resting, left_alone = played.left, left_alone + played.events
        if not sent_anew:
            sent_anew = play_whole([order], bar, charges, fills.UNLIMITED).events
    assert left_alone == sent_anew


@given(received=amounts, rate=rates)
def test_a_fee_is_rounded_up_and_never_more_than_was_received(received, rate):
    charged = fills.fee(received, rate)
    assert (charged - 1) * 1_000_000 < received * rate <= charged * 1_000_000
    assert charged <= received
    # What the compiled code computes on the way stays within int64.
    assert received // 1_000_000 * rate <= fills.INT64_MAX
    assert received % 1_000_000 * rate <= fills.INT64_MAX


@given(
    is_buy=st.booleans(),
    price=st.integers(1, 10**8),
    lots=st.integers(1, 10**9),
    rate=rates,
    scale=st.sampled_from([BTCUSDT, ETHBTC]),
)
def test_cash_and_position_add_up_to_the_last_unit(is_buy, price, lots, rate, scale):
    settle = fills.settle_buy if is_buy else fills.settle_sell
    moved = settle(price, lots, rate, scale)
    cost = fills.value(price, lots, scale)
    base_fee, quote_fee = (moved.fee_units, 0) if is_buy else (0, moved.fee_units)
    sign = 1 if is_buy else -1
    assert moved.base_units + base_fee == sign * lots * scale.lot_units
    assert moved.quote_units + quote_fee == -sign * cost
    exact = price * lots * scale.numerator
    assert cost * scale.denominator <= exact < (cost + 1) * scale.denominator


@given(quote=st.integers(0, 10**15), price=st.integers(1, 10**8))
@pytest.mark.parametrize("scale", [BTCUSDT, ETHBTC])
def test_a_quote_amount_buys_the_most_lots_it_pays_for(scale, quote, price):
    lots = fills.lots_for(quote, price, scale)
    assert fills.value(price, lots, scale) <= quote
    assert price * (lots + 1) * scale.numerator > quote * scale.denominator


@given(closed=st.integers(0, fills.INT64_MAX), share=rates)
def test_the_volume_share_is_rounded_down(closed, share):
    budget = fills.volume_budget(closed, Costs(volume_share_ppm=share))
    assert budget * 1_000_000 <= closed * share < (budget + 1) * 1_000_000


@given(price=st.integers(1, fills.INT64_MAX), lots=st.integers(1, fills.INT64_MAX))
@pytest.mark.parametrize("scale", [BTCUSDT, ETHBTC, Scale(1, 1_000_000, 1)])
def test_what_fits_stays_within_int64(scale, price, lots):
    if fills.fits(price, lots, scale):
        assert price * lots * scale.numerator <= fills.INT64_MAX
        assert lots * scale.lot_units <= fills.INT64_MAX
        assert fills.bought_at(price, Costs(slippage_ppm=1_000_000)) <= fills.INT64_MAX


def test_a_scale_is_in_lowest_terms_of_ten():
    assert Scale(10, 1, 1_000) == BTCUSDT
    assert Scale(1, 10, 10_000) == ETHBTC

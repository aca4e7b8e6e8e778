"""How orders fill on bars: THE rules of the backtest and of the bar venue, on whole numbers.

docs/FILL_RULES.md is the contract; the names F1 to F22 below are its rules, and a test runs every
example of that page through this module. Prices are in ticks, quantities in lots, money in 1e-8
of its asset. Nothing is read from anywhere: the same arguments give the same result.

The parts, from the bottom: what a fill costs (`bought_at`, `value`, `fee` ...); what one order
does at one price (`at_price`) and inside a range (`in_range`); which order of many is next
(`next_to_act`) and what that makes of it (`trigger`, `wake`, `move_along`); what all orders of
one account do at an open (`open_bar`) and in the rest of the bar (`play_range`).

All but the last two are compiled as they stand, for the backtest's kernel, which has money to look
after between one order and the next. There an order is a row of a table with these field names.
That is why arguments are positional, and why nothing here makes a container.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

LIMIT = 1
LIMIT_MAKER = 2
MARKET = 3
STOP = 4
STOP_LIMIT = 5
TAKE_PROFIT = 6
TAKE_PROFIT_LIMIT = 7
"""The kinds of orders. A trailing stop is a STOP or STOP_LIMIT with a `trailing_ppm`."""

GOOD_TILL_CANCELLED = 1
IMMEDIATE_OR_CANCEL = 2
FILL_OR_KILL = 3
"""How long what is not filled at once may wait."""

FILLED = 1
TRIGGERED = 2
EXPIRED = 3
CANCELLED = 4
"""What can happen to an order while a bar is played."""

UNLIMITED = -1
"""A budget or share without bound."""

INT64_MAX = 2**63 - 1
_MILLION = 1_000_000
_UNITS = 100_000_000


class Bar(NamedTuple):
    """One bar in ticks, with its volume in lots."""

    open: int
    high: int
    low: int
    close: int
    volume_lots: int = 0


class Costs(NamedTuple):
    """What trading costs, and how sceptical the rules are."""

    maker_fee_ppm: int = 1_000
    taker_fee_ppm: int = 1_000
    slippage_ticks: int = 0
    slippage_ppm: int = 0
    # How far the price must go beyond a resting limit; 0 means that a touch is enough.
    through_ticks: int = 1
    volume_share_ppm: int = UNLIMITED


class Scale(NamedTuple):
    """What one tick times one lot is worth, as a fraction of 1e-8, and a lot in 1e-8 of base."""

    numerator: int
    denominator: int
    lot_units: int


@dataclass(slots=True)
class WorkingOrder:
    """One order of one account. `limit` and `trigger` are 0 where the kind has none."""

    number: int
    kind: int
    is_buy: bool
    lots: int
    limit: int = 0
    trigger: int = 0
    time_in_force: int = GOOD_TILL_CANCELLED
    # A trailing stop follows `best`: first the price it was placed at, then the best one since.
    trailing_ppm: int = 0
    best: int = 0
    # Of two orders with the same pair, the first to trigger or fill cancels the other.
    pair: int = 0
    # An order with a parent sleeps until that order has wholly filled.
    parent: int = 0
    # Inside a bar: the price at which it woke, 0 if it was awake when the bar opened; how sure the
    # moment is (0: the open, 1: when the price first came there, 2 or more: unknown); and a price
    # that the market stands at and that the order has not been held against yet.
    since: int = 0
    doubts: int = 0
    untested: int = 0


class Outcome(NamedTuple):
    """What an order does: the market's price then, the fill's price (0: no fill), and how."""

    at: int
    price: int
    doing: int


TAKES = 1
MAKES = 2
TRIGGERS = 3
"""What an order can do at a price; one that triggers may take at once."""

NOTHING = Outcome(0, 0, 0)


class Event(NamedTuple):
    """Something that happened to an order. Only FILLED has a price, and TAKES or MAKES as role."""

    kind: int
    number: int
    price: int
    lots: int
    role: int

    @property
    def is_maker(self) -> bool:
        """Return whether the fill is a maker's."""
        return self.role == MAKES


class Played(NamedTuple):
    """What happened, in order, the orders that go on, and what is left of the volume."""

    events: list[Event]
    left: list[WorkingOrder]
    budget_lots: int


class Settlement(NamedTuple):
    """What one fill does to an account, fee included."""

    base_units: int
    quote_units: int
    fee_units: int


# Money.


def scale_of(tick_units: int, lot_units: int) -> Scale:
    """Return the scale of a market whose tick and lot are given in 1e-8 (F20)."""
    numerator, denominator = tick_units * lot_units, _UNITS
    while numerator % 10 == 0 and denominator % 10 == 0:
        numerator, denominator = numerator // 10, denominator // 10
    return Scale(numerator, denominator, lot_units)


def fits(price: int, lots: int, scale: Scale) -> bool:
    """Return whether every product made of this price and quantity stays within int64 (F20)."""
    return (
        lots <= INT64_MAX // (price * scale.numerator)
        and lots <= INT64_MAX // scale.lot_units
        and price <= INT64_MAX // _MILLION // 2
    )


def value(price: int, lots: int, scale: Scale) -> int:
    """Return what `lots` cost at `price` in 1e-8 of quote, rounded down (F16)."""
    return price * lots * scale.numerator // scale.denominator


def value_ceiling(price: int, lots: int, scale: Scale) -> int:
    """Return what `lots` cost at `price`, rounded up: what an order locks (F18)."""
    return -(-price * lots * scale.numerator // scale.denominator)


def lots_for(quote_units: int, price: int, scale: Scale) -> int:
    """Return the most lots whose value at `price` is within `quote_units` (F1)."""
    return quote_units * scale.denominator // (price * scale.numerator)


def fee(received: int, rate_ppm: int) -> int:
    """Return the fee on what was received, rounded up (F16).

    Split, so that the product of an amount and a rate never leaves int64.
    """
    whole, rest = received // _MILLION, received % _MILLION
    return whole * rate_ppm + -(-rest * rate_ppm // _MILLION)


def share(whole: int, ppm: int) -> int:
    """Return so many millionths of `whole`, rounded down; split as in `fee`."""
    return whole // _MILLION * ppm + whole % _MILLION * ppm // _MILLION


def settle_buy(price: int, lots: int, rate_ppm: int, scale: Scale) -> Settlement:
    """Return what a bought fill moves: the fee is taken from the base asset received (F16)."""
    quantity = lots * scale.lot_units
    charged = fee(quantity, rate_ppm)
    return Settlement(quantity - charged, -value(price, lots, scale), charged)


def settle_buy_fee_in_quote(price: int, lots: int, rate_ppm: int, scale: Scale) -> Settlement:
    """Return what a bought fill moves where the fee is paid in quote, on top of the cost (F16)."""
    cost = value(price, lots, scale)
    charged = fee(cost, rate_ppm)
    return Settlement(lots * scale.lot_units, -cost - charged, charged)


def settle_sell(price: int, lots: int, rate_ppm: int, scale: Scale) -> Settlement:
    """Return what a sold fill moves: the fee is taken from the quote asset received (F16)."""
    proceeds = value(price, lots, scale)
    charged = fee(proceeds, rate_ppm)
    return Settlement(-lots * scale.lot_units, proceeds - charged, charged)


def bought_at(price: int, costs: Costs) -> int:
    """Return what a taker pays at `price`: more, by the slippage rounded up (F15)."""
    return price + costs.slippage_ticks + -(-price * costs.slippage_ppm // _MILLION)


def sold_at(price: int, costs: Costs) -> int:
    """Return what a taker gets at `price`: less by the slippage, never below one tick (F15)."""
    slippage = costs.slippage_ticks + -(-price * costs.slippage_ppm // _MILLION)
    return max(price - slippage, 1)


def volume_budget(closed_volume_lots: int, costs: Costs) -> int:
    """Return how much an account may trade in a bar, by the volume of the bar before (F17)."""
    if costs.volume_share_ppm == UNLIMITED:
        return UNLIMITED
    return share(closed_volume_lots, costs.volume_share_ppm)


# One order.


def trailing_trigger(order: WorkingOrder, best: int) -> int:
    """Return where a trailing stop triggers: rounded away from the market (F9)."""
    if order.is_buy:
        return best + -(-best * order.trailing_ppm // _MILLION)
    return best * (_MILLION - order.trailing_ppm) // _MILLION


def would_trigger(order: WorkingOrder, price: int) -> bool:
    """Return whether the order's trigger is met at `price`: too late to place it (F6)."""
    return order.kind >= STOP and _is_met(order, _trigger(order), price)


def would_take(order: WorkingOrder, price: int) -> bool:
    """Return whether a limit trades at once at `price`: LIMIT_MAKER is then refused (F5)."""
    return price <= order.limit if order.is_buy else price >= order.limit


def is_refused_awake(order: WorkingOrder) -> bool:
    """Return whether a LIMIT_MAKER woke at a price at which it would take: it ends there (F12)."""
    return order.kind == LIMIT_MAKER and order.since > 0 and would_take(order, order.since)


def at_price(order: WorkingOrder, price: int, costs: Costs) -> Outcome:
    """Return what the order does while the market stands at `price`: F1 to F8."""
    if order.kind == MARKET:
        return Outcome(price, _taken_at(order, price, costs), TAKES)
    if order.kind == LIMIT:
        return _taking_limit(order, price, costs)
    if order.kind == LIMIT_MAKER:
        is_through = _is_through(order, price, price, costs)
        return Outcome(price, order.limit, MAKES) if is_through else NOTHING
    if not _is_met(order, _trigger(order), price):
        return NOTHING
    return _triggered(order, price, costs)


def in_range(order: WorkingOrder, bar: Bar, costs: Costs) -> Outcome:
    """Return what the order does inside the bar, given that it did nothing before: F3 to F13."""
    low, high = certain_range(order, bar)
    if order.kind in (LIMIT, LIMIT_MAKER):
        may_wait = order.time_in_force == GOOD_TILL_CANCELLED
        if may_wait and _is_through(order, low, high, costs):
            return Outcome(order.limit, order.limit, MAKES)
        return NOTHING
    if order.kind == MARKET:
        return NOTHING
    trigger = _trigger(order)
    if order.kind in (STOP, STOP_LIMIT):
        # A stop fires if it could have: whatever came before it woke counts as well (F10).
        worst = bar.high if order.is_buy else bar.low
        if not _is_met(order, trigger, worst) and order.trailing_ppm:
            trigger = trailing_trigger(order, low if order.is_buy else high)
        return _triggered(order, trigger, costs) if _is_met(order, trigger, worst) else NOTHING
    best = low if order.is_buy else high
    return _triggered(order, trigger, costs) if _is_met(order, trigger, best) else NOTHING


def certain_range(order: WorkingOrder, bar: Bar) -> tuple[int, int]:
    """Return the prices that were certainly seen while the order was awake (F13)."""
    since = order.since
    if order.doubts > 1:
        return min(since, bar.close), max(since, bar.close)
    if since == 0:
        return bar.low, bar.high
    if since < bar.open:
        return bar.low, max(since, bar.close)
    return min(since, bar.close), bar.high


def _taken_at(order: WorkingOrder, price: int, costs: Costs) -> int:
    return bought_at(price, costs) if order.is_buy else sold_at(price, costs)


def _taking_limit(order: WorkingOrder, price: int, costs: Costs) -> Outcome:
    if not would_take(order, price):
        return NOTHING
    taken = _taken_at(order, price, costs)
    # Slippage never carries a limit order beyond its limit.
    taken = min(taken, order.limit) if order.is_buy else max(taken, order.limit)
    return Outcome(price, taken, TAKES)


def _triggered(order: WorkingOrder, price: int, costs: Costs) -> Outcome:
    if order.kind in (STOP, TAKE_PROFIT):
        return Outcome(price, _taken_at(order, price, costs), TRIGGERS)
    return Outcome(price, _taking_limit(order, price, costs).price, TRIGGERS)


def _is_through(order: WorkingOrder, low: int, high: int, costs: Costs) -> bool:
    if order.is_buy:
        return low <= order.limit - costs.through_ticks
    return high >= order.limit + costs.through_ticks


def _trigger(order: WorkingOrder) -> int:
    return trailing_trigger(order, order.best) if order.trailing_ppm else order.trigger


def _is_met(order: WorkingOrder, trigger: int, price: int) -> bool:
    is_stop = order.kind in (STOP, STOP_LIMIT)
    return price >= trigger if is_stop == order.is_buy else price <= trigger


# Many orders.


def next_to_act(
    orders: Sequence[WorkingOrder],
    rows: Sequence[int],
    count: int,
    bar: Bar,
    costs: Costs,
    budget_lots: int,
) -> tuple[int, Outcome]:
    """Return which order is next and what it does, or -1: stops first, then the nearest (F10).

    Looked at are the first `count` of `rows`, and the place among these is returned.
    """
    chosen, chosen_outcome = -1, NOTHING
    chosen_rank = (0, 0, 0)
    for place in range(count):
        order = orders[rows[place]]
        if order.parent:
            continue
        outcome = NOTHING
        if order.untested:
            outcome = at_price(order, order.untested, costs)
        if outcome.doing == 0:
            outcome = in_range(order, bar, costs)
        is_able = outcome.doing == TRIGGERS or (
            outcome.price > 0 and lots_now(order, budget_lots) > 0
        )
        if not is_able:
            continue
        is_stop = order.kind in (STOP, STOP_LIMIT)
        rank = (0 if is_stop else 1, abs(outcome.at - bar.open), order.number)
        if chosen < 0 or rank < chosen_rank:
            chosen, chosen_outcome, chosen_rank = place, outcome, rank
    return chosen, chosen_outcome


def lots_now(order: WorkingOrder, budget_lots: int) -> int:
    """Return how much of the order may trade within what is left of the volume (F14, F17)."""
    if budget_lots == UNLIMITED or order.lots <= budget_lots:
        return order.lots
    return 0 if order.time_in_force == FILL_OR_KILL else budget_lots


def doubts_after(order: WorkingOrder) -> int:
    """Return how sure the moment is at which `order` triggers or fills inside the bar (F13)."""
    return 2 if order.since > 0 or order.trailing_ppm > 0 else 1


def trigger(order: WorkingOrder, price: int) -> None:
    """Make of a stop or take-profit the plain order that woke at `price` (F7)."""
    order.doubts = doubts_after(order)
    order.kind = MARKET if order.kind in (STOP, TAKE_PROFIT) else LIMIT
    order.since = price
    order.untested = 0
    order.trailing_ppm = 0


def wake(order: WorkingOrder, price: int, doubts: int) -> None:
    """Wake an order at the price at which its parent has filled (F12)."""
    order.parent = 0
    order.since = order.untested = order.best = price
    order.doubts = doubts


def cannot_rest(order: WorkingOrder) -> bool:
    """Return whether what is left of the order expires when it has had its moment (F14)."""
    if order.parent:
        return False
    is_immediate = order.kind == LIMIT and order.time_in_force != GOOD_TILL_CANCELLED
    return order.kind == MARKET or is_immediate


def move_along(order: WorkingOrder, bar: Bar) -> None:
    """Bring the order into the next stretch: awake, its trailing price moved along (F9)."""
    if order.parent:
        return
    if order.trailing_ppm:
        low, high = certain_range(order, bar)
        order.best = min(order.best, low) if order.is_buy else max(order.best, high)
    order.since = order.doubts = order.untested = 0


# All orders of one account.


def open_bar(
    orders: list[WorkingOrder], open_price: int, costs: Costs, budget_lots: int = UNLIMITED
) -> Played:
    """Return what the orders do at the open: both those that rest and one that just came (F2)."""
    waking = [replace(order, untested=open_price) for order in orders]
    bar = Bar(open_price, open_price, open_price, open_price)
    return _play(waking, bar, costs, budget_lots)


def play_range(
    orders: list[WorkingOrder], bar: Bar, costs: Costs, budget_lots: int = UNLIMITED
) -> Played:
    """Return what the orders do between the open and the close of the bar (F10 to F13)."""
    return _play([replace(order) for order in orders], bar, costs, budget_lots)


def _play(live: list[WorkingOrder], bar: Bar, costs: Costs, budget_lots: int) -> Played:
    events: list[Event] = []
    while True:
        _end_refused(live, events)
        place, outcome = next_to_act(live, range(len(live)), len(live), bar, costs, budget_lots)
        if place < 0:
            break
        budget_lots = _carry_out(live, live[place], outcome, budget_lots, events)
    for order in [each for each in live if cannot_rest(each)]:
        events.append(Event(EXPIRED, order.number, 0, order.lots, 0))
        _end(live, order, events)
    for order in live:
        move_along(order, bar)
    return Played(events, live, budget_lots)


def _carry_out(
    live: list[WorkingOrder],
    order: WorkingOrder,
    outcome: Outcome,
    budget_lots: int,
    events: list[Event],
) -> int:
    """Let one order do what it does, and return the volume that is left."""
    doubts = doubts_after(order)
    lots = lots_now(order, budget_lots) if outcome.price else 0
    if outcome.doing == TRIGGERS:
        events.append(Event(TRIGGERED, order.number, outcome.at, 0, 0))
        trigger(order, outcome.at)
    if lots:
        role = MAKES if outcome.doing == MAKES else TAKES
        events.append(Event(FILLED, order.number, outcome.price, lots, role))
        order.lots -= lots
    _end_mates(live, order, events)
    if order.lots == 0:
        live.remove(order)
        for child in live:
            if child.parent == order.number:
                wake(child, outcome.at, doubts)
    return budget_lots if budget_lots == UNLIMITED else budget_lots - lots


def _end_refused(live: list[WorkingOrder], events: list[Event]) -> None:
    """End who woke where it would take, before anything else happens, and its pair with it."""
    for order in [each for each in live if is_refused_awake(each)]:
        # Its pair may have taken it along.
        if order in live:
            events.append(Event(EXPIRED, order.number, 0, order.lots, 0))
            _end(live, order, events)
            _end_mates(live, order, events)


def _end_mates(live: list[WorkingOrder], order: WorkingOrder, events: list[Event]) -> None:
    mates = [each for each in live if each.pair == order.pair and each.number != order.number]
    for other in mates if order.pair else []:
        events.append(Event(CANCELLED, other.number, 0, other.lots, 0))
        _end(live, other, events)


def _end(live: list[WorkingOrder], order: WorkingOrder, events: list[Event]) -> None:
    """Take an order out that did not wholly fill, and with it what waited for it."""
    live.remove(order)
    for child in [each for each in live if each.parent == order.number]:
        events.append(Event(CANCELLED, child.number, 0, child.lots, 0))
        _end(live, child, events)

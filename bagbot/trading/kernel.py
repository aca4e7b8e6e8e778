"""The backtest's kernel: a strategy's commands, and what the bars do to its orders.

What fills, where and when is decided by `domain.fills` alone (docs/FILL_RULES.md); this is the
account around it. The same source runs as plain Python and, through `compiled`, as machine code,
so it is plain functions on the tables of `kernel_tables`. One bar is

    close_bar(desk, k)    the range of bar k for what rests, then the open of bar k + 1
    ... the strategy decides, and queues commands ...
    act(desk)             the commands, one after the other, at the open of bar k + 1

and `finish(desk)` after the last one. A bar that reaches no order costs two comparisons.
"""

import math

from bagbot.domain import fills
from bagbot.trading import kernel_money as money
from bagbot.trading import kernel_refusals as refusals
from bagbot.trading import kernel_tables as tables
from bagbot.trading.kernel_tables import Book, Desk, OrderRow

_UNITS = 100_000_000.0
# How near to a whole step a float must be to be taken for it.
_NEAR = 1e-6
_STEPS_MAX = 9e18
_AS_LEFT = -1


# From floats to whole numbers.


def lots_of(amount: float, lot: float) -> int:
    """Return a positive amount in whole lots: the nearest if within 1e-6 of it, else down.

    -1 when it is more than int64 holds.
    """
    steps = amount / lot
    if not steps < _STEPS_MAX:
        return -1
    nearest = math.floor(steps + 0.5)
    return nearest if abs(steps - nearest) <= _NEAR else math.floor(steps)


def ticks_of(price: float, tick: float, direction: int) -> int:
    """Return a positive price in ticks: the nearest if within 1e-6 of it, else by `direction`.

    That is -1 (down), 1 (up) or 0 (to the nearest). -1 when it is more than int64 holds.
    """
    steps = price / tick
    if not steps < _STEPS_MAX:
        return -1
    nearest = math.floor(steps + 0.5)
    if direction == 0 or abs(steps - nearest) <= _NEAR:
        return nearest
    return math.floor(steps) if direction < 0 else math.ceil(steps)


# What a strategy sees.


def position(desk: Desk) -> float:
    """Return the position in base, in whole lots; negative when short."""
    return desk.account.position


def cash(desk: Desk) -> float:
    """Return how much of the quote asset is free."""
    return float(desk.account.quote_free) / _UNITS


def equity(desk: Desk) -> float:
    """Return what is in hand now, valued at the last close, in quote."""
    return float(money.equity_units(desk, desk.close[desk.account.bar])) / _UNITS


def entry_price(desk: Desk) -> float:
    """Return the average price of the position's entry in quote; NaN when flat."""
    return float(desk.account.entry_price) * desk.rules.tick


def open_orders(desk: Desk) -> int:
    """Return how many orders are open, sleeping ones included."""
    return int(desk.account.working_count)


def is_open(desk: Desk | Book, number: int) -> bool:
    """Return whether the order rests, or sleeps."""
    if number < 1 or number > desk.account.order_count:
        return False
    status = desk.orders[number - 1].status
    return bool(status == tables.OPEN or status == tables.SLEEPING)


def filled(desk: Desk, number: int) -> float:
    """Return how much of the order has traded, in base."""
    if number < 1 or number > desk.account.order_count:
        return 0.0
    return float(desk.orders[number - 1].filled * desk.scale.lot_units) / _UNITS


# Commands: queued now, carried out by `act`. A number below 0 is one of `tables.PROBLEMS`.


def place(
    desk: Desk,
    is_buy: bool,
    amount: float,
    kind: int,
    limit: float,
    trigger: float,
    trailing_ppm: int,
    time_in_force: int,
    is_reduce_only: bool,
    pair: int,
    parent: int,
) -> int:
    """Queue an order and return its number; NaN stands for what it has not.

    Without an amount it is an exit of `parent` and trades what that one brings.
    """
    if math.isnan(amount):
        if parent < 1 or parent > desk.account.order_count:
            return tables.NO_PARENT
        lots = _brought(desk, desk.orders[parent - 1])
    elif amount > 0:
        lots = lots_of(amount, desk.rules.lot)
    else:
        return tables.NO_AMOUNT
    limit_ticks = 0 if math.isnan(limit) else ticks_of(limit, desk.rules.tick, -1 if is_buy else 1)
    trigger_ticks = 0 if math.isnan(trigger) else ticks_of(trigger, desk.rules.tick, tables.NONE)
    number = _queue(desk, lots, limit_ticks, trigger_ticks)
    if number < 0:
        return number
    order = desk.orders[number - 1]
    order.placed_kind = order.kind = kind
    order.is_buy = is_buy
    order.trailing_ppm = order.placed_trailing_ppm = trailing_ppm
    order.time_in_force = time_in_force
    order.is_reduce_only = is_reduce_only
    # A number that can't be an earlier order's becomes its own: then it is refused as unknown.
    order.pair = pair if 0 <= pair < number else number
    order.parent = parent if 0 <= parent < number else number
    _command(desk, tables.PLACE, number, tables.NONE)
    return number


def close_position(desk: Desk) -> int:
    """Queue a market order against the whole position; return its number, 0 when flat."""
    lots = money.position_lots(desk)
    if lots == 0:
        return 0
    number = _queue(desk, abs(lots), tables.NONE, tables.NONE)
    if number < 0:
        return number
    order = desk.orders[number - 1]
    order.placed_kind = order.kind = fills.MARKET
    order.is_buy = lots < 0
    order.time_in_force = fills.GOOD_TILL_CANCELLED
    order.is_reduce_only = True
    _command(desk, tables.PLACE, number, tables.NONE)
    return number


def cancel(desk: Desk, number: int) -> int:
    """Queue the cancellation of an order; return 0, or a problem."""
    return _command(desk, tables.CANCEL, number, tables.NONE)


def cancel_all(desk: Desk) -> int:
    """Queue the cancellation of everything that is then open; return 0, or a problem."""
    return _command(desk, tables.CANCEL_ALL, tables.NONE, tables.NONE)


def amend(desk: Desk, number: int, amount: float, limit: float, trigger: float) -> int:
    """Queue a replacement of an order, and return the new one's number.

    NaN leaves a value as it is; the amount then is what is left of the old order.
    """
    account = desk.account
    if number < 1 or number > account.order_count:
        unknown = _queue(desk, tables.NONE, tables.NONE, tables.NONE)
        if unknown > 0:
            _command(desk, tables.AMEND, unknown, tables.NONE)
        return unknown
    old = desk.orders[number - 1]
    limit_ticks, trigger_ticks = old.limit, old.trigger
    lots = 0 if math.isnan(amount) else lots_of(amount, desk.rules.lot)
    if not math.isnan(limit):
        limit_ticks = ticks_of(limit, desk.rules.tick, -1 if old.is_buy else 1)
    if not math.isnan(trigger):
        trigger_ticks = ticks_of(trigger, desk.rules.tick, tables.NONE)
    new = _queue(desk, lots, limit_ticks, trigger_ticks)
    if new < 0:
        return new
    order = desk.orders[new - 1]
    if math.isnan(amount):
        order.ordered = _AS_LEFT
    order.placed_kind = order.kind = old.kind
    order.is_buy = old.is_buy
    order.trailing_ppm = order.placed_trailing_ppm = old.trailing_ppm
    order.time_in_force = old.time_in_force
    order.is_reduce_only = old.is_reduce_only
    _command(desk, tables.AMEND, new, number)
    return new


def _queue(desk: Desk, lots: int, limit: int, trigger: int) -> int:
    """Start the row of a new order, and return its number."""
    account = desk.account
    if account.command_count >= tables.COMMANDS_MAX:
        return tables.TOO_MANY_COMMANDS
    if lots < 0 or limit < 0 or trigger < 0:
        return tables.TOO_LARGE
    top = max(desk.rules.price_top, max(limit, trigger))
    if not fills.fits(top, max(lots, 1), desk.scale):
        return tables.TOO_LARGE
    row = account.order_count
    account.order_count = row + 1
    order = desk.orders[row]
    order.number = row + 1
    order.bar = account.bar
    order.ordered = order.lots = lots
    order.limit = limit
    order.trigger = order.placed_trigger = trigger
    order.status = tables.QUEUED
    return row + 1


def _command(desk: Desk, action: int, number: int, other: int) -> int:
    account = desk.account
    count = account.command_count
    if count >= tables.COMMANDS_MAX:
        return tables.TOO_MANY_COMMANDS
    command = desk.account.commands[count]
    command[0] = action
    command[1] = number
    command[2] = other
    account.command_count = count + 1
    return 0


def _brought(desk: Desk, entry: OrderRow) -> int:
    """Return the lots that an entry brings when it fills: on spot a fee may come off (F16)."""
    lots = entry.ordered
    if not entry.is_buy or desk.rules.is_margin or desk.rules.fee_in_quote:
        return lots
    units = lots * desk.scale.lot_units
    rate = max(desk.costs.maker_fee_ppm, desk.costs.taker_fee_ppm)
    return (units - fills.fee(units, rate)) // desk.scale.lot_units


# The step.


def close_bar(desk: Desk, bar: int) -> None:
    """Close bar `bar`: play its range, and hold what rests against the open of the next one."""
    account = desk.account
    account.bar = bar
    if (
        bar >= account.watched_bar
        or desk.low[bar] <= account.bound_low
        or desk.high[bar] >= account.bound_high
    ):
        _close_touched(desk, bar)
        return
    price = desk.open[bar + 1]
    account.price = price
    if price <= account.bound_low or price >= account.bound_high:
        _meet_open(desk, bar + 1)


def quiet_until(desk: Desk) -> int:
    """Return the bar before which no bar can touch the account: nothing rests, nothing is due.

    Until then `close_bar` need not be called: a loop may just note the bar that has closed, and
    call `meet_quietly` where commands were queued.
    """
    account = desk.account
    is_quiet = account.bound_low < 0 and account.bound_high == tables.NEVER
    return account.watched_bar if is_quiet else 0


def meet_quietly(desk: Desk) -> None:
    """Let the price be the open of the next bar, as `close_bar` does when it touches nothing."""
    desk.account.price = desk.open[desk.account.bar + 1]


def act(desk: Desk) -> None:
    """Carry out the queued commands in their order; after the last bar nothing happens any more."""
    account = desk.account
    count = account.command_count
    if account.price:
        book = Book(desk.orders, desk.fills, desk.account, desk.rules, desk.costs, desk.scale)
        for index in range(count):
            command = account.commands[index]
            action, number, other = command[0], command[1], command[2]
            if action == tables.PLACE:
                if _come_in(book, desk.orders[number - 1], index, count, tables.JOINS):
                    _act_at_once(desk, desk.orders[number - 1])
            elif action == tables.CANCEL:
                _cancel(book, number)
            elif action == tables.AMEND:
                if _replace(book, desk.orders[number - 1], other, index, count):
                    _act_at_once(desk, desk.orders[number - 1])
            else:
                _cancel_all(book, tables.BY_COMMAND)
        _set_bounds(book)
    account.command_count = 0


def finish(desk: Desk) -> None:
    """Value the bars that have not been valued yet."""
    money.value_until(desk, len(desk.close))


def is_full(desk: Desk) -> bool:
    """Return whether another bar might not find room: go on with `tables.grown`."""
    account = desk.account
    return bool(
        account.order_count + tables.ORDERS_PER_BAR > len(desk.orders)
        or account.fill_count + tables.FILLS_PER_BAR > len(desk.fills)
    )


def _act_at_once(desk: Desk, order: OrderRow) -> None:
    """Let an order that has just come in do what the price in force lets it do."""
    account = desk.account
    price = account.price
    bar = account.bar if desk.rules.fills_at_close else account.bar + 1
    when = tables.AT_CLOSE if desk.rules.fills_at_close else tables.AT_OPEN
    if order.status != tables.QUEUED:
        _play(desk, fills.Bar(price, price, price, price, 0), bar, when)
        return
    # It is alone on the market: its fill is all that can happen, and its money is locked (F1).
    book = Book(desk.orders, desk.fills, desk.account, desk.rules, desk.costs, desk.scale)
    money.value_until(desk, bar)
    outcome = fills.at_price(order, price, desk.costs)
    money.settle(book, order, outcome.price, order.lots, bar, when, tables.TAKER)
    order.status = tables.FILLED


def _close_touched(desk: Desk, bar: int) -> None:
    account = desk.account
    if desk.rules.fills_at_close:
        _meet_open(desk, bar)
        _meet_range(desk, bar)
        account.price = desk.close[bar]
        return
    _meet_range(desk, bar)
    if bar + 1 < len(desk.open):
        _meet_open(desk, bar + 1)
    else:
        account.price = 0
    _watch(desk)


def _meet_range(desk: Desk, bar: int) -> None:
    account = desk.account
    book = Book(desk.orders, desk.fills, desk.account, desk.rules, desk.costs, desk.scale)
    if desk.low[bar] > account.bound_low and desk.high[bar] < account.bound_high:
        return
    stretch = fills.Bar(desk.open[bar], desk.high[bar], desk.low[bar], desk.close[bar], 0)
    _play(desk, stretch, bar, tables.IN_RANGE)
    _set_bounds(book)


def _meet_open(desk: Desk, bar: int) -> None:
    account = desk.account
    book = Book(desk.orders, desk.fills, desk.account, desk.rules, desk.costs, desk.scale)
    price = desk.open[bar]
    account.price = price
    if desk.costs.volume_share_ppm != fills.UNLIMITED:
        closed = desk.volume[bar - 1] if bar else 0
        account.budget_lots = fills.volume_budget(closed, desk.costs)
    if account.funding_bar <= bar:
        money.pay_funding(desk, bar)
        _set_bounds(book)
    if price > account.bound_low and price < account.bound_high:
        return
    for place_ in range(account.working_count):
        order = desk.orders[desk.account.working[place_]]
        if not order.parent:
            order.untested = price
    _play(desk, fills.Bar(price, price, price, price, 0), bar, tables.AT_OPEN)
    _set_bounds(book)


def _watch(desk: Desk) -> None:
    """Note from which bar on more than the bounds must be looked at when a bar closes."""
    is_always = desk.rules.fills_at_close or desk.costs.volume_share_ppm != fills.UNLIMITED
    last = min(desk.account.funding_bar - 1, len(desk.open) - 1)
    desk.account.watched_bar = 0 if is_always else last


def _set_bounds(book: Book) -> None:
    """Note between which prices nothing happens to any order."""
    account = book.account
    low, high = -1, tables.NEVER
    for place_ in range(account.working_count):
        order = book.orders[book.account.working[place_]]
        if order.parent:
            continue
        if order.kind in (fills.LIMIT, fills.LIMIT_MAKER):
            at, is_above = order.limit, not order.is_buy
        elif order.trailing_ppm:
            at, is_above = fills.trailing_trigger(order, order.best), bool(order.is_buy)
            # A new best price moves the trigger.
            if order.is_buy:
                low = max(low, order.best - 1)
            else:
                high = min(high, order.best + 1)
        else:
            is_stop = order.kind in (fills.STOP, fills.STOP_LIMIT)
            at, is_above = order.trigger, is_stop == bool(order.is_buy)
        if is_above:
            high = min(high, at)
        else:
            low = max(low, at)
    if account.liquidation_price:
        if account.position_lots > 0:
            low = max(low, account.liquidation_price)
        else:
            high = min(high, account.liquidation_price)
    account.bound_low, account.bound_high = low, high


# What a stretch of prices does: the loop of `fills.open_bar` and `fills.play_range`, with money.


def _play(desk: Desk, stretch: fills.Bar, bar: int, when: int) -> None:
    account = desk.account
    book = Book(desk.orders, desk.fills, desk.account, desk.rules, desk.costs, desk.scale)
    while True:
        place_, outcome = fills.next_to_act(
            desk.orders,
            desk.account.working,
            account.working_count,
            stretch,
            desk.costs,
            account.budget_lots,
        )
        if account.liquidation_price and _is_liquidated(book, stretch, place_, outcome):
            money.value_until(desk, bar)
            _liquidate(book, stretch, bar, when)
            continue
        if place_ < 0:
            break
        money.value_until(desk, bar)
        _carry_out(book, desk.orders[desk.account.working[place_]], outcome, bar, when)
    place_ = 0
    while place_ < account.working_count:
        order = desk.orders[desk.account.working[place_]]
        if fills.cannot_rest(order):
            _end(book, order, tables.EXPIRED, tables.UNFILLED)
            place_ = 0
        else:
            place_ += 1
    for place_ in range(account.working_count):
        fills.move_along(desk.orders[desk.account.working[place_]], stretch)


def _carry_out(book: Book, order: OrderRow, outcome: fills.Outcome, bar: int, when: int) -> None:
    account = book.account
    doubts = fills.doubts_after(order)
    if outcome.doing == fills.TRIGGERS:
        fills.trigger(order, outcome.at)
        reason = refusals.refusal_live(book, order)
        if reason:
            _end(book, order, tables.EXPIRED, reason)
            return
    if order.pair:
        _end_mates(book, order)
    lots = fills.lots_now(order, account.budget_lots) if outcome.price else 0
    if lots:
        is_maker = outcome.doing == fills.MAKES
        if not money.settle(book, order, outcome.price, lots, bar, when, is_maker):
            _end(book, order, tables.EXPIRED, _no_money(book))
            return
        if account.budget_lots != fills.UNLIMITED:
            account.budget_lots -= lots
        if book.rules.is_margin:
            _keep_reducing(book)
    if order.lots == 0:
        order.status = tables.FILLED
        _take_out(book, order)
        _wake_children(book, order.number, outcome.at, doubts)


def _end_mates(book: Book, order: OrderRow) -> None:
    account = book.account
    place_ = 0
    while place_ < account.working_count:
        other = book.orders[book.account.working[place_]]
        if other.pair == order.pair and other.number != order.number:
            _end(book, other, tables.CANCELLED, tables.BY_PAIR)
            place_ = 0
        else:
            place_ += 1


def _wake_children(book: Book, number: int, price: int, doubts: int) -> None:
    """Wake what waited for an order that has filled; what is refused then, ends (F12)."""
    account = book.account
    for place_ in range(account.working_count):
        child = book.orders[book.account.working[place_]]
        if child.parent == number:
            fills.wake(child, price, doubts)
    place_ = 0
    while place_ < account.working_count:
        child = book.orders[book.account.working[place_]]
        place_ += 1
        if child.parent or child.status != tables.SLEEPING:
            continue
        reason = tables.WOULD_TAKE if fills.is_refused_awake(child) else _reduced(book, child)
        if not reason and not money.lock(book, child, price):
            reason = _no_money(book)
        if reason:
            if child.pair:
                _end_mates(book, child)
            _end(book, child, tables.EXPIRED, reason)
            place_ = 0
        else:
            child.status = tables.OPEN


def _end(book: Book, order: OrderRow, status: int, reason: int) -> None:
    """End an order that has not wholly filled, and with it what waited for it."""
    account = book.account
    order.status = status
    order.reason = reason
    _take_out(book, order)
    place_ = 0
    while place_ < account.working_count:
        child = book.orders[book.account.working[place_]]
        if child.parent and book.orders[child.parent - 1].status > tables.FILLED:
            child.status = tables.CANCELLED
            child.reason = tables.BY_PARENT
            _take_out(book, child)
            place_ = 0
        else:
            place_ += 1


def _take_out(book: Book, order: OrderRow) -> None:
    account = book.account
    row = order.number - 1
    place_ = 0
    while book.account.working[place_] != row:
        place_ += 1
    account.working_count -= 1
    for later in range(place_, account.working_count):
        book.account.working[later] = book.account.working[later + 1]
    if order.locked or order.pair:
        money.unlock(book, order)


def _cancel_all(book: Book, reason: int) -> None:
    while book.account.working_count:
        row = book.account.working[0]
        _end(book, book.orders[row], tables.CANCELLED, reason)


def _no_money(book: Book) -> int:
    return tables.INSUFFICIENT_MARGIN if book.rules.is_margin else tables.INSUFFICIENT_BALANCE


# What a command does.


def _cancel(book: Book, number: int) -> None:
    if is_open(book, number):
        _end(book, book.orders[number - 1], tables.CANCELLED, tables.BY_COMMAND)


def _replace(book: Book, order: OrderRow, number: int, index: int, count: int) -> bool:
    """Let a new order take the place of another one, its pair and its children.

    Return whether the price in force lets it act.
    """
    if not is_open(book, number):
        _refuse(order, tables.UNKNOWN_ORDER)
        return False
    old = book.orders[number - 1]
    account = book.account
    if order.ordered == _AS_LEFT:
        order.ordered = order.lots = old.lots
    order.parent = old.parent
    order.pair = old.pair
    for place_ in range(account.working_count):
        child = book.orders[book.account.working[place_]]
        if child.parent == number:
            child.parent = order.number
    _end(book, old, tables.CANCELLED, tables.BY_COMMAND)
    acts = _come_in(book, order, index, count, tables.JOINED)
    if order.status > tables.FILLED:
        # Its children were the old order's: they end with it.
        place_ = 0
        while place_ < account.working_count:
            child = book.orders[book.account.working[place_]]
            if child.parent == order.number:
                _end(book, child, tables.CANCELLED, tables.BY_PARENT)
                place_ = 0
            else:
                place_ += 1
    return acts


def _come_in(
    book: Book,
    order: OrderRow,
    index: int,
    count: int,
    joins: bool,
) -> bool:
    """Let a new order in, or refuse it, and return whether the price in force lets it act.

    `index` is that of its command.
    """
    account = book.account
    price = account.price
    reason = refusals.refusal(book, order)
    if not reason:
        reason = _refusal_of_followers(book, order.number, index, count)
    parent_status = _status_of_parent(book, order)
    is_woken = parent_status == tables.FILLED
    if is_woken:
        order.parent = 0
    if not reason and parent_status > tables.FILLED:
        reason = tables.BY_PARENT
    if not reason and order.pair and joins:
        reason = _join_pair(book, order)
    if not reason and not order.parent:
        reason = _refusal_now(book, order, is_woken)
    if reason:
        _refuse(order, reason)
        return False
    if _is_alone(book, order):
        return True
    book.account.working[account.working_count] = order.number - 1
    account.working_count += 1
    if order.parent:
        order.status = tables.SLEEPING
        return False
    order.status = tables.OPEN
    order.best = price
    order.untested = price
    if fills.at_price(order, price, book.costs).doing or fills.cannot_rest(order):
        return True
    order.untested = 0
    return False


def _status_of_parent(book: Book, order: OrderRow) -> int:
    """Return what has become of an order's parent, or 0 when it has none."""
    if order.parent == 0:
        return 0
    if order.parent >= order.number:
        return tables.REFUSED
    return book.orders[order.parent - 1].status


def _is_alone(book: Book, order: OrderRow) -> bool:
    """Return whether a market order can neither meet another order nor be cut short."""
    return bool(
        order.kind == fills.MARKET
        and order.parent == 0
        and book.account.working_count == 0
        and book.account.budget_lots == fills.UNLIMITED
        and not book.rules.is_margin
    )


def _refuse(order: OrderRow, reason: int) -> None:
    is_of_its_kin = reason == tables.BY_PAIR or reason == tables.BY_PARENT
    order.status = tables.CANCELLED if is_of_its_kin else tables.REFUSED
    order.reason = reason


def _join_pair(book: Book, order: OrderRow) -> int:
    """Make `order` and the one it names a pair, or return why they can't be."""
    if order.pair >= order.number:
        return tables.UNKNOWN_ORDER
    mate = book.orders[order.pair - 1]
    has_begun = mate.filled > 0 or mate.kind != mate.placed_kind
    if not is_open(book, mate.number) or has_begun:
        return tables.BY_PAIR
    if not mate.pair:
        mate.pair = mate.number
    order.pair = mate.pair
    return 0


# Whether an order may come in.


def _refusal_of_followers(book: Book, number: int, index: int, count: int) -> int:
    """Return why an exit that came with this entry would be refused: then both are, or 0."""
    for later in range(index + 1, count):
        command = book.account.commands[later]
        if command[0] != tables.PLACE:
            return 0
        order = book.orders[command[1] - 1]
        if order.parent != number:
            return 0
        reason = refusals.refusal(book, order)
        if reason:
            return reason
    return 0


def _refusal_now(
    book: Book,
    order: OrderRow,
    is_woken: bool,
) -> int:
    """Return why an order that is to work from now on is refused, or 0, its money locked."""
    price = book.account.price
    if order.kind == fills.LIMIT_MAKER and fills.would_take(order, price):
        return tables.WOULD_TAKE
    if not is_woken:
        if fills.would_trigger(order, price) and not order.trailing_ppm:
            return tables.WOULD_TRIGGER
        if order.is_reduce_only and order.is_buy and not book.rules.is_margin:
            return tables.REDUCE_ONLY
    order.best = price
    reason = _reduced(book, order)
    if reason:
        return tables.REDUCE_ONLY
    return 0 if money.lock(book, order, price) else _no_money(book)


# Margin: what only reduces, and the end of a position that is not secured any more.


def _reduced(book: Book, order: OrderRow) -> int:
    """Cut a reduce-only order to what there is to reduce; return why none of it is left, or 0."""
    if not book.rules.is_margin or not order.is_reduce_only:
        return 0
    held = book.account.position_lots
    most = max(-held, 0) if order.is_buy else max(held, 0)
    if most == 0:
        return tables.BY_POSITION
    order.lots = min(order.lots, most)
    return 0


def _keep_reducing(book: Book) -> None:
    """Cut or end every reduce-only order that a fill has left more than the position."""
    account = book.account
    place_ = 0
    while place_ < account.working_count:
        order = book.orders[book.account.working[place_]]
        is_left = order.lots > 0 and order.status == tables.OPEN
        if is_left and _reduced(book, order):
            _end(book, order, tables.EXPIRED, tables.BY_POSITION)
            place_ = 0
        else:
            place_ += 1


def _is_liquidated(book: Book, stretch: fills.Bar, place_: int, outcome: fills.Outcome) -> bool:
    """Return whether the position's liquidation comes before what the next order does (F27)."""
    account = book.account
    price = account.liquidation_price
    if account.position_lots > 0:
        is_reached, is_gap = stretch.low <= price, stretch.open <= price
    else:
        is_reached, is_gap = stretch.high >= price, stretch.open >= price
    if not is_reached or place_ < 0 or is_gap:
        return is_reached
    order = book.orders[book.account.working[place_]]
    is_stop = order.kind in (fills.STOP, fills.STOP_LIMIT)
    return not is_stop or abs(outcome.at - stretch.open) > abs(price - stretch.open)


def _liquidate(book: Book, stretch: fills.Bar, bar: int, when: int) -> None:
    account = book.account
    _cancel_all(book, tables.BY_LIQUIDATION)
    price = account.liquidation_price
    is_long = account.position_lots > 0
    price = min(price, stretch.open) if is_long else max(price, stretch.open)
    money.liquidate(book, price, bar, when)

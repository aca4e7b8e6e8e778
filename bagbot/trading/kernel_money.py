"""What orders lock and fills move in the backtest's account, and what the account is worth.

On spot an order locks what it gives: quote to buy, base to sell (docs/FILL_RULES.md, F18). On
margin it locks the margin of what it would open, and its fee (F25). Plain functions on the records
of `kernel_tables`, compiled as they stand.
"""

import math

from bagbot.domain import fills
from bagbot.trading import kernel_tables as tables
from bagbot.trading.kernel_tables import Book, Desk, OrderRow

_UNITS = 100_000_000


def position_lots(book: Book | Desk) -> int:
    """Return the position in whole lots, negative when short; on spot dust does not count."""
    account = book.account
    if book.rules.is_margin:
        return account.position_lots
    return (account.base_free + account.base_locked) // book.scale.lot_units


def need(book: Book, order: OrderRow, price: int) -> int:
    """Return what an awake order must lock while the market stands at `price` (F18)."""
    if order.kind == fills.MARKET:
        at = fills.bought_at(price, book.costs) if order.is_buy else price
    elif order.limit:
        at = order.limit
    else:
        at = order.best if order.trailing_ppm else order.trigger
    if book.rules.is_margin:
        return _margin_need(book, order, at if order.is_buy else max(at, price))
    if not order.is_buy:
        return order.lots * book.scale.lot_units
    if order.kind == fills.MARKET:
        # It fills now, at this very price, as far as the volume goes.
        lots = fills.lots_now(order, book.account.budget_lots)
        cost = fills.value(at, lots, book.scale)
    else:
        cost = fills.value_ceiling(at, order.lots, book.scale)
    return cost + fills.fee(cost, _worst_rate(book)) if book.rules.fee_in_quote else cost


def lock(book: Book, order: OrderRow, price: int) -> bool:
    """Lock what the order needs, or return False when that is not free.

    Of a pair on one side the larger need is locked, once.
    """
    account = book.account
    more = need(book, order, price)
    if order.pair:
        for place in range(account.working_count):
            other = book.orders[book.account.working[place]]
            is_mate = other.pair == order.pair and other.number != order.number
            if is_mate and other.is_buy == order.is_buy:
                more -= other.locked
    more = max(more, 0)
    if more > _free(book, order):
        return False
    _move(book, order, more)
    return True


def unlock(book: Book, order: OrderRow) -> None:
    """Give back what an order has locked; of a pair, the other one takes over what it needs."""
    account = book.account
    _move(book, order, -order.locked)
    if not order.pair:
        return
    for place in range(account.working_count):
        other = book.orders[book.account.working[place]]
        if (
            other.pair == order.pair
            and other.number != order.number
            and other.status == tables.OPEN
        ):
            missing = need(book, other, account.price) - other.locked
            _move(book, other, max(min(missing, _free(book, other)), 0))


def settle(
    book: Book,
    order: OrderRow,
    price: int,
    lots: int,
    bar: int,
    when: int,
    is_maker: bool,
) -> bool:
    """Carry out a fill, or return False when there is not the money for it (F18).

    The order's own `lots` are still what they were before.
    """
    if book.rules.is_margin:
        return _settle_margin(book, order, price, lots, bar, when, is_maker)
    account = book.account
    rate = book.costs.maker_fee_ppm if is_maker else book.costs.taker_fee_ppm
    is_fee_in_base = bool(order.is_buy) and not book.rules.fee_in_quote
    if is_fee_in_base or not order.is_buy:
        moved = (
            fills.settle_buy(price, lots, rate, book.scale)
            if order.is_buy
            else fills.settle_sell(price, lots, rate, book.scale)
        )
    else:
        moved = fills.settle_buy_fee_in_quote(price, lots, rate, book.scale)
    if order.is_buy and -moved.quote_units > account.quote_free + order.locked:
        return False
    _move(book, order, -order.locked)
    before = position_lots(book)
    account.quote_free += moved.quote_units
    account.base_free += moved.base_units
    _average(book, before, price, lots if order.is_buy else -lots)
    order.lots -= lots
    order.filled += lots
    if order.lots and order.kind in (fills.LIMIT, fills.LIMIT_MAKER):
        _move(book, order, min(need(book, order, price), _free(book, order)))
    _record(
        book,
        order.number,
        bool(order.is_buy),
        price,
        lots,
        moved.fee_units,
        is_fee_in_base,
        bar,
        when,
        is_maker,
    )
    return True


def pay_funding(desk: Desk, bar: int) -> None:
    """Pay the funding that is due at the open of `bar` out of the position's margin (F26)."""
    account = desk.account
    book = Book(desk.orders, desk.fills, desk.account, desk.rules, desk.costs, desk.scale)
    while account.funding_row < len(desk.funding) and desk.funding[account.funding_row, 0] <= bar:
        payment = desk.funding[account.funding_row]
        account.funding_row += 1
        held = account.position_lots
        rate = payment[1]
        if held == 0 or rate == 0:
            continue
        value_until(desk, bar)
        mark = payment[2] if payment[2] else desk.open[bar]
        worth = fills.value(mark, abs(held), desk.scale)
        whole, rest = worth // _UNITS * abs(rate), worth % _UNITS * abs(rate)
        if (rate > 0) == (held > 0):
            # What is paid is rounded up, what is received down; no more is lost than is there.
            paid = min(whole - -rest // _UNITS, account.margin)
        else:
            paid = -whole - rest // _UNITS
        payment[3] = paid
        account.margin -= paid
    is_over = account.funding_row >= len(desk.funding)
    account.funding_bar = tables.NEVER if is_over else desk.funding[account.funding_row, 0]
    _find_liquidation(book)


def liquidate(book: Book, price: int, bar: int, when: int) -> None:
    """End the position at `price`: its whole margin is lost (F27)."""
    account = book.account
    held = account.position_lots
    lots = abs(held)
    profit = fills.value(price, lots, book.scale) - account.entry_value
    left = account.margin + (profit if held > 0 else -profit)
    account.position_lots = account.entry_value = account.margin = 0
    account.liquidation_price = 0
    account.entry_price = math.nan
    _record(
        book,
        tables.NONE,
        held < 0,
        price,
        lots,
        max(left, 0),
        tables.IN_QUOTE,
        bar,
        when,
        tables.TAKER,
    )


def equity_units(book: Book | Desk, price: int) -> int:
    """Return what the account is worth at `price`, in 1e-8 of quote, rounded down (F22)."""
    return _settled(book) + _worth(book, _held(book), price)


def value_until(desk: Desk, bar: int) -> None:
    """Write the equity of all bars before `bar`: with what is held now, it was held since."""
    account = desk.account
    first = account.valued_count
    if first >= bar:
        return
    account.valued_count = bar
    book = Book(desk.orders, desk.fills, desk.account, desk.rules, desk.costs, desk.scale)
    settled, held = _settled(book), _held(book)
    # Slices, whose index begins at 0: a compiler need not think of one below.
    equity, close = desk.equity[first:bar], desk.close[first:bar]
    if held == 0:
        for index in range(len(equity)):
            equity[index] = settled
        return
    numerator, denominator = desk.rules.held_numerator, desk.rules.held_denominator
    whole, rest = held // denominator * numerator, held % denominator * numerator
    if rest == 0:
        for index in range(len(equity)):
            equity[index] = settled + whole * close[index]
        return
    share = 1.0 / denominator
    for index in range(len(equity)):
        price = close[index]
        part = rest * price
        # A whole-number division costs as much as all else; a float one is off by one at most.
        units = int(part * share)
        left = part - units * denominator
        if left < 0:
            units -= 1
        elif left >= denominator:
            units += 1
        equity[index] = settled + whole * price + units


def _settled(book: Book | Desk) -> int:
    account = book.account
    money = account.quote_free + account.quote_locked + account.margin
    return money + account.entry_value if account.position_lots < 0 else money - account.entry_value


def _held(book: Book | Desk) -> int:
    account = book.account
    if book.rules.is_margin:
        return account.position_lots
    return account.base_free + account.base_locked


def _worth(book: Book | Desk, held: int, price: int) -> int:
    # Split, so that the product of an amount and a price never leaves int64.
    numerator, denominator = book.rules.held_numerator, book.rules.held_denominator
    whole, rest = held // denominator, held % denominator
    return whole * numerator * price + rest * numerator * price // denominator


def _worst_rate(book: Book) -> int:
    return max(book.costs.maker_fee_ppm, book.costs.taker_fee_ppm)


def _free(book: Book, order: OrderRow) -> int:
    account = book.account
    return account.quote_free if order.is_buy or book.rules.is_margin else account.base_free


def _move(book: Book, order: OrderRow, amount: int) -> None:
    """Lock so much more for the order, or less."""
    account = book.account
    order.locked += amount
    if order.is_buy or book.rules.is_margin:
        account.quote_free -= amount
        account.quote_locked += amount
    else:
        account.base_free -= amount
        account.base_locked += amount


def _average(book: Book, before: int, price: int, change: int) -> None:
    """Keep the average price of entry: a statistic, and therefore a float."""
    account = book.account
    after = position_lots(book)
    if after == 0:
        account.entry_price = math.nan
    elif before == 0 or (before > 0) != (after > 0):
        account.entry_price = float(price)
    elif (before > 0) == (change > 0):
        added = abs(change)
        held = abs(before)
        account.entry_price = (account.entry_price * held + float(price) * added) / (held + added)


def _record(
    book: Book,
    number: int,
    is_buy: bool,
    price: int,
    lots: int,
    fee_units: int,
    is_fee_in_base: bool,
    bar: int,
    when: int,
    is_maker: bool,
) -> None:
    account = book.account
    row = book.fills[account.fill_count]
    account.fill_count += 1
    row.bar = bar
    row.when = when
    row.order = number
    row.is_buy = is_buy
    row.price = price
    row.lots = lots
    row.fee_units = fee_units
    row.fee_in_base = is_fee_in_base
    row.is_maker = is_maker
    account.position = float(position_lots(book) * book.scale.lot_units) / _UNITS
    row.held_after = _held(book)
    row.cash_units_after = account.quote_free + account.quote_locked + account.margin


# Margin: USD-M futures, one way, isolated.


def _margin_need(book: Book, order: OrderRow, price: int) -> int:
    """Return the margin and the fee of what the order would open at `price` (F25)."""
    if order.is_reduce_only:
        return 0
    account = book.account
    held = account.position_lots
    # What the position lets it close, as far as older orders of its side leave that.
    closing = max(-held, 0) if order.is_buy else max(held, 0)
    for place in range(account.working_count):
        other = book.orders[book.account.working[place]]
        is_older = other.number < order.number and other.status == tables.OPEN
        if is_older and other.is_buy == order.is_buy:
            closing -= other.lots
    opening = order.lots - min(max(closing, 0), order.lots)
    if opening == 0:
        return 0
    worth = fills.value_ceiling(price, opening, book.scale)
    return _margin_of(book, worth) + fills.fee(worth, _worst_rate(book))


def _margin_of(book: Book, worth: int) -> int:
    return -(-worth // book.rules.leverage)


def _settle_margin(
    book: Book,
    order: OrderRow,
    price: int,
    lots: int,
    bar: int,
    when: int,
    is_maker: bool,
) -> bool:
    account = book.account
    held = account.position_lots
    closing = min(lots, max(-held, 0) if order.is_buy else max(held, 0))
    cost = fills.value(price, lots, book.scale)
    charged = fills.fee(cost, book.costs.maker_fee_ppm if is_maker else book.costs.taker_fee_ppm)
    closed = fills.value(price, closing, book.scale)
    freed = _part(account.margin, closing, abs(held))
    entered = _part(account.entry_value, closing, abs(held))
    profit = closed - entered if held > 0 else entered - closed
    secured = _margin_of(book, cost - closed)
    change = freed + profit - secured - charged
    # Closing is never refused.
    if closing < lots and account.quote_free + order.locked + change < 0:
        return False
    _move(book, order, -order.locked)
    account.quote_free += change
    account.margin += secured - freed
    account.entry_value += cost - closed - entered
    account.position_lots += lots if order.is_buy else -lots
    _average(book, held, price, lots if order.is_buy else -lots)
    order.lots -= lots
    order.filled += lots
    if order.lots and order.kind in (fills.LIMIT, fills.LIMIT_MAKER):
        _move(book, order, max(min(need(book, order, price), account.quote_free), 0))
    _find_liquidation(book)
    _record(
        book,
        order.number,
        bool(order.is_buy),
        price,
        lots,
        charged,
        tables.IN_QUOTE,
        bar,
        when,
        is_maker,
    )
    return True


def _part(amount: int, lots: int, whole: int) -> int:
    """Return amount * lots / whole, rounded down, for lots <= whole, without leaving int64."""
    if lots == 0:
        return 0
    if lots == whole:
        return amount
    result, rest = amount // whole * lots, amount % whole
    # The rest is multiplied bit by bit, divided as it grows.
    quotient, remainder = 0, 0
    bit = 1 << 62
    while bit:
        quotient, remainder = quotient * 2, remainder * 2
        if lots & bit:
            remainder += rest
        quotient, remainder = quotient + remainder // whole, remainder % whole
        bit >>= 1
    return result + quotient


def _find_liquidation(book: Book) -> None:
    """Find the mark price nearest to the market at which the margin no longer suffices (F27)."""
    account = book.account
    account.liquidation_price = 0
    if account.position_lots == 0 or book.rules.maintenance_ppm == 0:
        return
    # What suffices at one price suffices at all better ones: search between two bounds.
    low, high = 0, book.rules.price_top + 1
    if account.position_lots > 0:
        while high - low > 1:
            middle = (low + high) // 2
            if _is_secured(book, middle):
                high = middle
            else:
                low = middle
        account.liquidation_price = low
    else:
        while high - low > 1:
            middle = (low + high) // 2
            if _is_secured(book, middle):
                low = middle
            else:
                high = middle
        account.liquidation_price = high


def _is_secured(book: Book, price: int) -> bool:
    account = book.account
    held = account.position_lots
    worth = fills.value(price, abs(held), book.scale)
    profit = worth - account.entry_value if held > 0 else account.entry_value - worth
    return account.margin + profit > fills.fee(worth, book.rules.maintenance_ppm)

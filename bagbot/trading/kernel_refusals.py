"""Why the backtest's kernel refuses an order: the exchange's filters, then the risk gate's rules.

In the exchange's order (docs/FILL_RULES.md, F19), so that an order that breaks two of them is
refused for the same one everywhere. The functions return a reason of `kernel_tables`, or 0.
"""

from bagbot.domain import fills, limits
from bagbot.trading import kernel_money as money
from bagbot.trading import kernel_tables as tables
from bagbot.trading.kernel_tables import Book, OrderRow


def refusal(book: Book, order: OrderRow) -> int:
    """Return why the filters or the risk gate refuse the order whenever it comes, or 0."""
    reason = _broken_filter(book, order)
    if not reason:
        reason = _broken_limit(book, order)
    if not reason and order.kind != fills.MARKET:
        reason = _broken_count(book, order)
    return reason


def _broken_filter(book: Book, order: OrderRow) -> int:
    rules = book.rules
    lots = order.lots
    if order.kind >= fills.STOP and not order.trailing_ppm and not _is_price(book, order.trigger):
        return tables.PRICE_FILTER
    if order.trailing_ppm and not (
        rules.trailing_ppm_min <= order.trailing_ppm <= rules.trailing_ppm_max
    ):
        return tables.TRAILING_DELTA
    if order.kind in (fills.MARKET, fills.STOP, fills.TAKE_PROFIT):
        return _broken_market_filter(book, order)
    if not _is_price(book, order.limit):
        return tables.PRICE_FILTER
    if not rules.lots_min <= lots <= rules.lots_max:
        return tables.LOT_SIZE
    if not _is_in_band(book, order):
        return tables.PERCENT_PRICE
    worth = fills.value(order.limit, lots, book.scale)
    if worth == 0:
        return tables.ZERO_NOTIONAL
    return 0 if rules.notional_min <= worth <= rules.notional_max else tables.NOTIONAL


def _broken_market_filter(book: Book, order: OrderRow) -> int:
    rules = book.rules
    lots = order.lots
    if not rules.lots_min <= lots <= rules.lots_max:
        return tables.LOT_SIZE
    if order.kind == fills.MARKET and not (
        rules.market_lots_min <= lots <= rules.market_lots_max
        and lots % rules.market_lots_step == 0
    ):
        return tables.MARKET_LOT_SIZE
    worth = fills.value(book.account.price, lots, book.scale)
    if not rules.notional_min_at_market <= worth <= rules.notional_max_at_market:
        return tables.NOTIONAL
    return 0


def _is_price(book: Book, price: int) -> bool:
    return book.rules.price_min <= price <= book.rules.price_max


def _is_in_band(book: Book, order: OrderRow) -> bool:
    """Return whether a limit is near enough to the market (PERCENT_PRICE_BY_SIDE)."""
    rules = book.rules
    least = rules.buy_ppm_min if order.is_buy else rules.sell_ppm_min
    most = rules.buy_ppm_max if order.is_buy else rules.sell_ppm_max
    price = book.account.price
    if least and order.limit < fills.fee(price, least):
        return False
    return most == tables.NEVER or order.limit <= fills.share(price, most)


def _broken_limit(book: Book, order: OrderRow) -> int:
    """Return which rule of the risk gate the order breaks, or 0."""
    rules = book.rules
    reference = book.account.price
    if (
        rules.collar_ppm != tables.NEVER
        and order.limit
        # What waits for its trigger finds the market there, wherever it is now.
        and not limits.is_within_collar(
            bool(order.is_buy), order.limit, order.trigger or reference, rules.collar_ppm
        )
    ):
        return tables.COLLAR
    price = limits.worst_price(
        bool(order.is_buy), order.limit, order.trigger, order.trailing_ppm, reference
    )
    if rules.order_value_max != tables.NEVER and not limits.is_order_value_allowed(
        price, order.lots, rules.order_value_max, book.scale
    ):
        return tables.ORDER_VALUE
    if rules.position_value_max == tables.NEVER or order.is_reduce_only:
        return 0
    change = _pending(book, order)
    held = money.position_lots(book)
    if limits.is_position_value_allowed(
        price, held, change, rules.position_value_max, book.scale
    ) or limits.is_reducing(held, change):
        return 0
    return tables.POSITION_VALUE


def _pending(book: Book, order: OrderRow) -> int:
    """Return what the order and all open ones of its side could add to the position."""
    lots = order.lots
    for place_ in range(book.account.working_count):
        other = book.orders[book.account.working[place_]]
        if other.is_buy == order.is_buy:
            lots += other.lots
    return lots if order.is_buy else -lots


def _broken_count(book: Book, order: OrderRow) -> int:
    account = book.account
    if account.working_count >= min(book.rules.open_orders_max, tables.WORKING_MAX):
        return tables.MAX_NUM_ORDERS
    if order.kind >= fills.STOP:
        stops = 0
        for place_ in range(account.working_count):
            stops += book.orders[book.account.working[place_]].placed_kind >= fills.STOP
        if stops >= book.rules.open_stops_max:
            return tables.MAX_NUM_ALGO_ORDERS
    return 0


def refusal_live(book: Book, order: OrderRow) -> int:
    """Return why an order that has triggered may not go live, or 0 (F19)."""
    if order.kind == fills.LIMIT:
        return 0 if _is_in_band(book, order) else tables.PERCENT_PRICE
    return 0 if order.lots <= book.rules.market_lots_max else tables.MARKET_LOT_SIZE

"""Binance's filters: what a new order must satisfy before the engine looks at it.

Choices where Binance's documents are silent: a stop that becomes a market order is measured by
NOTIONAL at the reference price, as a market order is, and by MARKET_LOT_SIZE only when it goes
live; a stop's limit price must pass PERCENT_PRICE_BY_SIDE both when placed and when it goes live.
"""

from bagbot.simulator.amounts import quote_amount
from bagbot.simulator.orders import Order, OrderRefusedError, PlaceOrder, Refusal
from bagbot.simulator.symbols import SymbolRules


def check_filters(
    command: PlaceOrder,
    rules: SymbolRules,
    reference: int | None,
    *,
    market_keeps_lot_size: bool = True,
) -> None:
    """Raise OrderRefusedError unless the order passes the filters of its symbol.

    `reference` is the average price that percent and notional filters are measured by. MARKET
    orders keep LOT_SIZE, or only MARKET_LOT_SIZE, whose step is 0.
    """
    if command.stop_price:
        _check_price(command.stop_price, rules)
    if command.trailing_delta and not (
        rules.trailing_delta_min <= command.trailing_delta <= rules.trailing_delta_max
    ):
        raise OrderRefusedError(Refusal.TRAILING_DELTA)
    if not command.type.has_limit:
        keeps_lot_size = market_keeps_lot_size or command.type.is_stop
        _check_market_filters(command, rules, reference, keeps_lot_size=keeps_lot_size)
        return
    _check_price(command.price, rules)
    _check_lot(command.quantity, rules)
    if command.iceberg_quantity:
        _check_iceberg(command, rules)
    _check_percent_price(command.price, rules, reference)
    _check_notional(quote_amount(price=command.price, quantity=command.quantity), rules)


def check_filters_live(order: Order, rules: SymbolRules, reference: int | None) -> None:
    """Raise OrderRefusedError unless a waiting order may go live now."""
    if order.type.has_limit:
        _check_percent_price(order.price, rules, reference)
    elif order.quantity > rules.market_quantity_max:
        raise OrderRefusedError(Refusal.MARKET_LOT_SIZE)


def _check_market_filters(
    command: PlaceOrder, rules: SymbolRules, reference: int | None, *, keeps_lot_size: bool
) -> None:
    if command.quote_quantity:
        if command.quote_quantity < rules.notional_min:
            raise OrderRefusedError(Refusal.NOTIONAL)
        return
    if keeps_lot_size:
        _check_lot(command.quantity, rules)
    if not command.type.is_stop and command.quantity > rules.market_quantity_max:
        raise OrderRefusedError(Refusal.MARKET_LOT_SIZE)
    # Large market orders may exceed maxNotional: applyMaxToMarket is false everywhere.
    if (
        reference is not None
        and quote_amount(price=reference, quantity=command.quantity) < rules.notional_min
    ):
        raise OrderRefusedError(Refusal.NOTIONAL)


def _check_price(price: int, rules: SymbolRules) -> None:
    if not rules.price_min <= price <= rules.price_max or price % rules.tick:
        raise OrderRefusedError(Refusal.PRICE_FILTER)


def _check_percent_price(price: int, rules: SymbolRules, reference: int | None) -> None:
    if reference is not None and not (
        reference <= price * rules.price_divisor_down
        and price <= reference * rules.price_multiplier_up
    ):
        raise OrderRefusedError(Refusal.PERCENT_PRICE_BY_SIDE)


def _check_lot(quantity: int, rules: SymbolRules) -> None:
    if not rules.quantity_min <= quantity <= rules.quantity_max or quantity % rules.lot:
        raise OrderRefusedError(Refusal.LOT_SIZE)


def _check_iceberg(command: PlaceOrder, rules: SymbolRules) -> None:
    _check_lot(command.iceberg_quantity, rules)
    if command.iceberg_quantity > command.quantity:
        raise OrderRefusedError(Refusal.ICEBERG_EXCEEDS)
    if -(-command.quantity // command.iceberg_quantity) > rules.iceberg_parts_max:
        raise OrderRefusedError(Refusal.ICEBERG_PARTS)


def _check_notional(notional: int, rules: SymbolRules) -> None:
    if notional <= 0:
        raise OrderRefusedError(Refusal.ZERO_NOTIONAL)
    if not rules.notional_min <= notional <= rules.notional_max:
        raise OrderRefusedError(Refusal.NOTIONAL)

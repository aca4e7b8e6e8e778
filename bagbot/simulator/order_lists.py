"""Order lists: orders that end or begin with one another.

OCO: of two orders, the one that first trades or is touched ends the other. OTO: a working order
that is filled sets a pending one going. OTOCO: it sets an OCO going.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bagbot.simulator.orders import (
    Order,
    OrderRefusedError,
    OrderType,
    PlaceOrder,
    Refusal,
)
from bagbot.simulator.stop_orders import waits_for_rise


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrderList:
    """A wish for a list, already checked for form. Without a working order it is an OCO.

    A pair of `followers` is an OCO: the stop loss first, then the limit or take profit.
    """

    account_id: int
    symbol: str
    client_list_id: str = ""
    working: PlaceOrder | None = None
    followers: tuple[PlaceOrder, ...]


def check_prices(pair: Sequence[PlaceOrder | Order], last_price: int | None) -> None:
    """Raise OrderRefusedError unless the market is between the two prices of an OCO.

    A leg that only trails has no price to compare. `last_price` is None for a pair that is not
    to go live yet; then the two prices must only be in their order.
    """
    above = [_watched_price(leg) for leg in pair if _is_above(leg)]
    below = [_watched_price(leg) for leg in pair if not _is_above(leg)]
    falling = [price for price in (*above, last_price, *below) if price]
    if any(higher <= lower for higher, lower in pairwise(falling)):
        raise OrderRefusedError(Refusal.OCO_PRICES)


def _is_above(leg: PlaceOrder | Order) -> bool:
    if leg.type is OrderType.LIMIT_MAKER:
        return not leg.is_buy
    return waits_for_rise(leg.type, is_buy=leg.is_buy)


def _watched_price(leg: PlaceOrder | Order) -> int:
    if leg.type in (OrderType.LIMIT_MAKER, OrderType.TAKE_PROFIT_LIMIT):
        return leg.price
    return leg.stop_price

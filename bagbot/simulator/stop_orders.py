"""The stop orders that wait beside the book until a trade touches them.

A stop watches the last trade price. A buying stop loss and a selling take profit go live when it
rises to the stop price, the other two when it falls to it. Each side is a sorted list whose next
stop is the last, so a trade that touches nothing costs two comparisons however many stops wait.

A trailing stop first waits for its stop price, if it has one, and then follows the market: a sell
goes live when the price has fallen by the delta from its highest, a buy when it has risen by it
from its lowest. Followers are looked at with every trade; there are few, as MAX_NUM_ALGO_ORDERS
allows few. Without a stop price it follows from the last trade before it was placed (Binance's
two sentences about this differ: "from the next trade" and, in the example, from that price).
"""

from bisect import bisect_left, insort

from bagbot.simulator.orders import Order, OrderType

_BASIS_POINTS = 10_000
LOSS_TYPES = (OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT)


def waits_for_rise(kind: OrderType, *, is_buy: bool) -> bool:
    """Return whether a stop of this kind and side goes live at or above its stop price."""
    return (kind in LOSS_TYPES) == is_buy


def is_touched(kind: OrderType, price: int, stop_price: int, *, is_buy: bool) -> bool:
    """Return whether a trade at `price` reaches the stop price."""
    return price >= stop_price if waits_for_rise(kind, is_buy=is_buy) else price <= stop_price


class StopBook:
    """The waiting stops of one symbol."""

    def __init__(self) -> None:
        # Keys are (signed price, -order id): what is touched first is last, older before younger.
        self._keys: dict[int, list[tuple[int, int]]] = {-1: [], 1: []}
        self._orders: dict[int, Order] = {}
        self._followers: dict[int, Order] = {}

    def add(self, order: Order, last_price: int | None) -> None:
        """Let a stop wait, or go on waiting after a restart."""
        is_following = order.trailing_extreme or not order.stop_price
        if is_following:
            order.trailing_extreme = order.trailing_extreme or last_price or 0
            order.trailing_time_ns = order.trailing_time_ns or order.time_ns
            self._followers[order.order_id] = order
            return
        self._orders[order.order_id] = order
        insort(self._keys[_sign(order)], _key(order))

    def discard(self, order: Order) -> None:
        """Forget a stop that has ended; one that is no longer here is fine."""
        self._followers.pop(order.order_id, None)
        if self._orders.pop(order.order_id, None) is not None:
            keys = self._keys[_sign(order)]
            del keys[bisect_left(keys, _key(order))]

    def touch(self, price: int, time_ns: int) -> tuple[list[Order], list[Order]]:
        """Return the stops that a trade at `price` sets off, and those that follow it further."""
        reached: list[Order] = []
        followed: list[Order] = []
        if self._followers:
            self._follow(price, reached, followed)
        if not self._orders:
            return reached, followed
        for sign, keys in self._keys.items():
            while keys and keys[-1][0] >= sign * price:
                order = self._orders.pop(-keys.pop()[1])
                if order.trailing_delta:
                    order.trailing_extreme = price
                    order.trailing_time_ns = time_ns
                    self._followers[order.order_id] = order
                    followed.append(order)
                else:
                    reached.append(order)
        return reached, followed

    def _follow(self, price: int, reached: list[Order], followed: list[Order]) -> None:
        for order in list(self._followers.values()):
            extreme = order.trailing_extreme
            if not extreme or (price < extreme if order.is_buy else price > extreme):
                order.trailing_extreme = price
                followed.append(order)
                continue
            sign = 1 if order.is_buy else -1
            trigger = extreme * (_BASIS_POINTS + sign * order.trailing_delta)
            if sign * price * _BASIS_POINTS >= sign * trigger:
                del self._followers[order.order_id]
                reached.append(order)


def _sign(order: Order) -> int:
    return -1 if waits_for_rise(order.type, is_buy=order.is_buy) else 1


def _key(order: Order) -> tuple[int, int]:
    return _sign(order) * order.stop_price, -order.order_id

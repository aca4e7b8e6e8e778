"""A price-time order book: the better price first, at one price the earlier order first.

A trade happens at the resting order's price. The book only plans and books matches; who pays
what is the exchange's business. A level is an ordered dict, so adding, cancelling and taking the
first order cost the same however long the queue is; prices are one sorted list per side.

Of an iceberg the book shows one slice. The next one queues behind everything that is shown at its
price: a taker meets all that is shown there, then the next slices in the same order. Binance does
not say so outright; keeping the place would let the hidden part overtake what others show.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from bagbot.simulator.amounts import ONE, quote_amount
from bagbot.simulator.orders import MARKET_ACCOUNT, Order, OrderType, Prevention, TimeInForce


class Match(NamedTuple):
    """A resting order that will trade, how much of it, and at what price.

    When the account may not trade with itself, nothing trades and one or both lose quantity.
    """

    maker: Order
    price: int
    quantity: int
    taker_prevented: int = 0
    maker_prevented: int = 0


class Owner(NamedTuple):
    """Whose order comes in, and what shall happen when it meets one of his own."""

    account_id: int
    prevention: Prevention

    def is_kept_from(self, maker: Order) -> bool:
        """Return whether the order may not trade with `maker`."""
        return self.prevention is not Prevention.NONE and maker.account_id == self.account_id

    def prevented(self, maker: Order, quantity: int) -> Match:
        """Return what an order with `quantity` left and the `maker` lose instead of trading."""
        both = min(quantity, maker.remaining)
        lost = {
            Prevention.EXPIRE_TAKER: (quantity, 0),
            Prevention.EXPIRE_MAKER: (0, maker.remaining),
            Prevention.EXPIRE_BOTH: (quantity, maker.remaining),
            Prevention.DECREMENT: (both, both),
        }
        return Match(maker, maker.price, 0, *lost[self.prevention])


NOBODY = Owner(MARKET_ACCOUNT, Prevention.NONE)


class Plan(NamedTuple):
    """The matches an incoming order would have, and what finds no counterpart at its price."""

    matches: list[Match]
    missing: int = 0
    is_stopped_by_range: bool = False

    @property
    def quantity(self) -> int:
        """What would trade."""
        return sum(match.quantity for match in self.matches)

    @property
    def prevented(self) -> int:
        """What the incoming order would lose instead of trading with its own account."""
        return sum(match.taker_prevented for match in self.matches)

    @property
    def cost(self) -> int:
        """What would be paid for it, in the quote asset."""
        return sum(
            quote_amount(price=match.price, quantity=match.quantity) for match in self.matches
        )


def hide(order: Order) -> None:
    """Show the next slice of an iceberg, or all of any other order."""
    order.hidden = max(order.remaining - order.iceberg_quantity, 0) if order.iceberg_quantity else 0


class _Level:
    __slots__ = ("orders", "quantity")

    def __init__(self) -> None:
        self.orders: OrderedDict[int, Order] = OrderedDict()
        self.quantity = 0


class _Side:
    """One side of the book. A key is the price, negated for asks: the best key is the last."""

    __slots__ = ("keys", "levels", "sign", "slices_go_last")

    def __init__(self, sign: int, *, slices_go_last: bool) -> None:
        self.sign = sign
        self.slices_go_last = slices_go_last
        self.keys: list[int] = []
        self.levels: dict[int, _Level] = {}

    def add(self, order: Order) -> None:
        key = order.price * self.sign
        level = self.levels.get(key)
        if level is None:
            level = self.levels[key] = _Level()
            insort(self.keys, key)
        level.orders[order.order_id] = order
        level.quantity += order.shown

    def remove(self, order: Order) -> None:
        key = order.price * self.sign
        level = self.levels[key]
        del level.orders[order.order_id]
        level.quantity -= order.shown
        if not level.orders:
            del self.levels[key]
            del self.keys[bisect_left(self.keys, key)]

    def best(self) -> tuple[int, int] | None:
        if not self.keys:
            return None
        key = self.keys[-1]
        return key * self.sign, self.levels[key].quantity

    def depth(self, level_count_max: int) -> list[tuple[int, int]]:
        return [
            (key * self.sign, self.levels[key].quantity)
            for key in self.keys[: -level_count_max - 1 : -1]
        ]

    def orders(self) -> Iterator[Order]:
        for key in reversed(self.keys):
            yield from self.levels[key].orders.values()

    def slices(self) -> Iterator[tuple[Order, int, bool]]:
        """Yield what a taker meets: an order, how much of it, and whether for the first time."""
        for key in reversed(self.keys):
            hidden: list[tuple[Order, int]] = []
            for order in self.levels[key].orders.values():
                yield order, order.shown, True
                if order.hidden:
                    hidden.append((order, order.hidden))
                if not self.slices_go_last:
                    yield from _later_slices(hidden)
                    hidden = []
            yield from _later_slices(hidden)


def _later_slices(hidden: list[tuple[Order, int]]) -> Iterator[tuple[Order, int, bool]]:
    """Yield what icebergs show one after another once their first slices are gone."""
    while hidden:
        rest, hidden = hidden, []
        for order, left in rest:
            shown = min(left, order.iceberg_quantity)
            yield order, shown, False
            if left > shown:
                hidden.append((order, left - shown))


class Book:
    """The open orders of one symbol, users' and the market's own side by side.

    The next slice of an iceberg queues behind what is shown at its price, or keeps its place.
    """

    def __init__(self, *, slices_go_last: bool = True) -> None:
        self._slices_go_last = slices_go_last
        self._bids = _Side(1, slices_go_last=slices_go_last)
        self._asks = _Side(-1, slices_go_last=slices_go_last)
        self._quotes: dict[int, Order] = {}
        self._next_quote_id = -1
        # Inclusive prices inside which anything may trade; None where there is no such rule.
        self.price_range: tuple[int, int] | None = None

    @property
    def quote_count(self) -> int:
        """Return how many of the market's own orders are left on the book."""
        return len(self._quotes)

    def best_bid(self) -> tuple[int, int] | None:
        """Return price and quantity of the best bid."""
        return self._bids.best()

    def best_ask(self) -> tuple[int, int] | None:
        """Return price and quantity of the best ask."""
        return self._asks.best()

    def bids(self, level_count_max: int) -> list[tuple[int, int]]:
        """Return (price, quantity) per level, best first."""
        return self._bids.depth(level_count_max)

    def asks(self, level_count_max: int) -> list[tuple[int, int]]:
        """Return (price, quantity) per level, best first."""
        return self._asks.depth(level_count_max)

    def makers(self, *, taker_is_buy: bool) -> Iterator[Order]:
        """Yield the resting orders a taker meets, in the order it meets them."""
        return (self._asks if taker_is_buy else self._bids).orders()

    def rest(self, order: Order) -> None:
        """Queue `order` behind what is already there at its price."""
        (self._bids if order.is_buy else self._asks).add(order)

    def remove(self, order: Order) -> None:
        """Take `order` off the book."""
        (self._bids if order.is_buy else self._asks).remove(order)

    def plan(
        self, *, is_buy: bool, limit: int | None, quantity: int, owner: Owner = NOBODY
    ) -> Plan:
        """Return the matches for `quantity`, no worse than `limit`. Nothing changes yet."""
        matches: list[Match] = []
        for maker, shown, is_first in (self._asks if is_buy else self._bids).slices():
            if quantity == 0:
                break
            if limit is not None and (maker.price > limit if is_buy else maker.price < limit):
                break
            if not self._is_in_range(maker.price):
                return Plan(matches, quantity, is_stopped_by_range=True)
            if owner.is_kept_from(maker):
                if is_first:
                    matches.append(owner.prevented(maker, quantity))
                    quantity -= matches[-1].taker_prevented
                continue
            taken = min(quantity, shown)
            matches.append(Match(maker, maker.price, taken))
            quantity -= taken
        # What is priced beyond the range may not rest there either: nothing could ever reach it.
        is_beyond = limit is not None and self._is_beyond_range(limit, is_buy=is_buy)
        return Plan(matches, quantity, is_stopped_by_range=is_beyond and quantity > 0)

    def plan_quote(
        self, *, is_buy: bool, quote_quantity: int, lot: int, owner: Owner = NOBODY
    ) -> Plan:
        """Return the matches worth at most `quote_quantity`, in whole lots."""
        matches: list[Match] = []
        affordable = 0
        for maker, shown, is_first in (self._asks if is_buy else self._bids).slices():
            affordable = quote_quantity * ONE // maker.price // lot * lot
            if affordable == 0 or not self._is_in_range(maker.price):
                break
            if owner.is_kept_from(maker):
                if not is_first:
                    continue
                matches.append(owner.prevented(maker, affordable))
                taken = matches[-1].taker_prevented
            else:
                taken = min(affordable, shown)
                matches.append(Match(maker, maker.price, taken))
            quote_quantity -= quote_amount(price=maker.price, quantity=taken)
            affordable -= taken
            if matches[-1].taker_prevented and affordable == 0:
                break
        return Plan(matches, affordable)

    def take(self, maker: Order, quantity: int) -> bool:
        """Reduce a resting order by what has traded; it leaves the book when nothing is left.

        Return whether it has shown its next slice, and so has gone to the end of its queue.
        """
        side = self._bids if maker.is_buy else self._asks
        if quantity == maker.remaining:
            side.remove(maker)
            maker.remaining = maker.hidden = 0
            if maker.account_id == MARKET_ACCOUNT:
                del self._quotes[maker.order_id]
            return False
        if quantity < maker.shown:
            maker.remaining -= quantity
            side.levels[maker.price * side.sign].quantity -= quantity
            return False
        if not self._slices_go_last:
            level = side.levels[maker.price * side.sign]
            level.quantity -= maker.shown
            maker.remaining -= quantity
            hide(maker)
            level.quantity += maker.shown
            return False
        side.remove(maker)
        maker.remaining -= quantity
        hide(maker)
        side.add(maker)
        return True

    def withdraw_quotes(self) -> None:
        """Take the market's own orders off the book."""
        for quote in self._quotes.values():
            self.remove(quote)
        self._quotes.clear()

    def place_quotes(
        self, symbol: str, bids: list[tuple[int, int]], asks: list[tuple[int, int]]
    ) -> None:
        """Add the market's own orders, given as (price, quantity) per side.

        They do not match: the caller has made way for them. On a bar without any range both
        sides stand at its one price.
        """
        for is_buy, levels in ((True, bids), (False, asks)):
            for price, quantity in levels:
                quote = Order(
                    order_id=self._next_quote_id,
                    account_id=MARKET_ACCOUNT,
                    symbol=symbol,
                    is_buy=is_buy,
                    type=OrderType.LIMIT,
                    time_in_force=TimeInForce.GTC,
                    price=price,
                    quantity=quantity,
                    remaining=quantity,
                )
                self._next_quote_id -= 1
                self._quotes[quote.order_id] = quote
                self.rest(quote)

    def _is_in_range(self, price: int) -> bool:
        return self.price_range is None or self.price_range[0] <= price <= self.price_range[1]

    def _is_beyond_range(self, limit: int, *, is_buy: bool) -> bool:
        if self.price_range is None:
            return False
        return limit > self.price_range[1] if is_buy else limit < self.price_range[0]

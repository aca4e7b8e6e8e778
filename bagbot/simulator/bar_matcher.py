"""Judges orders on bars for the exchange: what fills at the open, and what in the rest of the bar.

Every decision is made by domain/fills; this is its translation to and from the exchange's amounts
of 1e-8. There is no book: accounts do not meet each other, and each has the same market before
it. Rules: docs/FILL_RULES.md.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bagbot.domain import fills
from bagbot.simulator.book_matcher import Match, Plan
from bagbot.simulator.orders import (
    MARKET_ACCOUNT,
    Order,
    OrderList,
    OrderStatus,
    OrderType,
    PlaceOrder,
    TimeInForce,
)
from bagbot.simulator.symbols import SymbolRules

_KINDS = {
    OrderType.LIMIT: fills.LIMIT,
    OrderType.LIMIT_MAKER: fills.LIMIT_MAKER,
    OrderType.MARKET: fills.MARKET,
    OrderType.STOP_LOSS: fills.STOP,
    OrderType.STOP_LOSS_LIMIT: fills.STOP_LIMIT,
    OrderType.TAKE_PROFIT: fills.TAKE_PROFIT,
    OrderType.TAKE_PROFIT_LIMIT: fills.TAKE_PROFIT_LIMIT,
}
_TIMES_IN_FORCE = {
    TimeInForce.GTC: fills.GOOD_TILL_CANCELLED,
    TimeInForce.IOC: fills.IMMEDIATE_OR_CANCEL,
    TimeInForce.FOK: fills.FILL_OR_KILL,
}


_PPM_OF_BASIS_POINT = 100


class BarEvent(NamedTuple):
    """What happens to an order: a kind of domain/fills; a fill has price, quantity and role."""

    kind: int
    order: Order
    price: int
    quantity: int
    is_maker: bool


class BarMatcher:
    """One symbol's market, bar by bar. Until `open_bar`, and after `close`, nothing fills."""

    def __init__(
        self, rules: SymbolRules, costs: fills.Costs, lists: Mapping[int, OrderList]
    ) -> None:
        """`lists` are the exchange's open order lists, by their ids, as they are at any time."""
        self._rules = rules
        self._costs = costs
        self._lists = lists
        self._scale = fills.scale_of(rules.tick, rules.lot)
        self._open_ticks = 0
        self._budget_lots = fills.UNLIMITED
        # What is left of the volume, per account that has traded in this bar.
        self._left: dict[int, int] = {}

    def open_bar(
        self, orders: Iterable[Order], open_price: int, closed_volume: int
    ) -> list[BarEvent]:
        """Put the price at the open of a bar, and return what it does to `orders` (F2)."""
        self._open_ticks = open_price // self._rules.tick
        self._budget_lots = fills.volume_budget(closed_volume // self._rules.lot, self._costs)
        self._left.clear()
        return [
            event
            for account_id, own in _by_account(orders)
            for event in self._resting_events(account_id, own, None)
        ]

    def wake(self, orders: Iterable[Order]) -> list[BarEvent]:
        """Return what orders do that begin to work now, while the price stands at the open."""
        if self._open_ticks == 0:
            return []
        return [
            event
            for account_id, own in _by_account(orders)
            for event in self._resting_events(account_id, own, None, are_waking=True)
        ]

    def play_range(
        self, orders: Iterable[Order], high: int, low: int, close: int
    ) -> list[BarEvent]:
        """Return what the rest of the bar does to `orders`, each account for itself."""
        tick = self._rules.tick
        bar = fills.Bar(self._open_ticks, high // tick, low // tick, close // tick)
        return [
            event
            for account_id, own in _by_account(orders)
            for event in self._resting_events(account_id, own, bar)
        ]

    def close(self) -> None:
        """End the market: there is no next open, and nothing fills any more (F21)."""
        self._open_ticks = 0

    def plan(self, command: PlaceOrder) -> Plan:
        """Return what a new order takes at the open; a LIMIT_MAKER that takes is refused later."""
        if self._open_ticks == 0:
            return Plan([], command.quantity)
        lots = command.quantity // self._rules.lot
        if command.quote_quantity:
            taken_at = fills.bought_at if command.is_buy else fills.sold_at
            price = taken_at(self._open_ticks, self._costs)
            lots = fills.lots_for(command.quote_quantity, price, self._scale)
        order = fills.WorkingOrder(
            number=0,
            kind=_KINDS[command.type],
            is_buy=command.is_buy,
            lots=lots,
            limit=command.price // self._rules.tick,
            time_in_force=_TIMES_IN_FORCE[command.time_in_force],
        )
        budget_lots = self._left.get(command.account_id, self._budget_lots)
        if command.type is OrderType.LIMIT_MAKER:
            if not fills.would_take(order, self._open_ticks):
                return Plan([], command.quantity)
            order.kind, budget_lots = fills.LIMIT, fills.UNLIMITED
        played = fills.open_bar([order], self._open_ticks, self._costs, budget_lots)
        taken = [event for event in played.events if event.kind == fills.FILLED and event.lots]
        matches = [
            self._match(command, event.price * self._rules.tick, event.lots * self._rules.lot)
            for event in taken
        ]
        missing = lots - sum(event.lots for event in taken)
        return Plan(matches, missing * self._rules.lot)

    def count(self, account_id: int, quantity: int) -> None:
        """Take what an account has traded out of its share of the volume."""
        if self._budget_lots != fills.UNLIMITED:
            left = self._left.get(account_id, self._budget_lots)
            self._left[account_id] = left - quantity // self._rules.lot

    def _resting_events(
        self,
        account_id: int,
        orders: list[Order],
        bar: fills.Bar | None,
        *,
        are_waking: bool = False,
    ) -> list[BarEvent]:
        by_number = {order.order_id: order for order in orders}
        working = [self._working(order) for order in orders]
        for order in working if are_waking else []:
            fills.wake(order, self._open_ticks, 0)
        budget_lots = self._left.get(account_id, self._budget_lots)
        if bar is None:
            played = fills.open_bar(working, self._open_ticks, self._costs, budget_lots)
        else:
            played = fills.play_range(working, bar, self._costs, budget_lots)
        for left in played.left:
            if left.trailing_ppm:
                by_number[left.number].trailing_extreme = left.best * self._rules.tick
        return [
            BarEvent(
                event.kind,
                by_number[event.number],
                event.price * self._rules.tick,
                event.lots * self._rules.lot,
                event.is_maker,
            )
            for event in played.events
        ]

    def _working(self, order: Order) -> fills.WorkingOrder:
        kind = _KINDS[order.type]
        trailing_ppm = 0
        if order.is_working:
            # A stop that has triggered rests as the limit order it has become.
            kind = fills.LIMIT if order.type.is_stop else kind
        elif order.trailing_delta:
            # What trails is a stop, whichever way it is called.
            kind = fills.STOP_LIMIT if order.type.has_limit else fills.STOP
            trailing_ppm = order.trailing_delta * _PPM_OF_BASIS_POINT
        pair, parent = self._links(order)
        return fills.WorkingOrder(
            number=order.order_id,
            kind=kind,
            is_buy=order.is_buy,
            lots=order.remaining // self._rules.lot,
            limit=order.price // self._rules.tick,
            trigger=order.stop_price // self._rules.tick,
            time_in_force=_TIMES_IN_FORCE[order.time_in_force],
            trailing_ppm=trailing_ppm,
            best=order.trailing_extreme // self._rules.tick,
            pair=pair,
            parent=parent,
        )

    def _links(self, order: Order) -> tuple[int, int]:
        """Return the pair that the order is one of, and the order it waits for; 0 for none."""
        order_list = self._lists.get(order.list_id)
        if order_list is None or order.order_id == order_list.working_id:
            return 0, 0
        is_pending = order.status is OrderStatus.PENDING_NEW
        # The rules count pairs from 1, the exchange its lists from 0.
        return order.list_id + 1, (order_list.working_id or 0) if is_pending else 0

    def _match(self, command: PlaceOrder, price: int, quantity: int) -> Match:
        """Return the trade as the exchange knows trades: against an order of the market."""
        market = Order(
            order_id=0,
            account_id=MARKET_ACCOUNT,
            symbol=command.symbol,
            is_buy=not command.is_buy,
            type=OrderType.LIMIT,
            time_in_force=TimeInForce.GTC,
            price=price,
            quantity=quantity,
            remaining=quantity,
        )
        return Match(market, price, quantity)


def _by_account(orders: Iterable[Order]) -> list[tuple[int, list[Order]]]:
    accounts: dict[int, list[Order]] = {}
    for order in sorted(orders, key=lambda each: each.order_id):
        accounts.setdefault(order.account_id, []).append(order)
    return sorted(accounts.items())

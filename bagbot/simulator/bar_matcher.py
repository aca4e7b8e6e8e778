"""Judges orders on bars for the exchange: what fills at the open, and what in the rest of the bar.

Every decision is made by domain/fills; this is its translation to and from the exchange's amounts
of 1e-8. There is no book: accounts do not meet each other, and each has the same market before
it. Rules: docs/FILL_RULES.md.
"""

from collections.abc import Iterable
from typing import NamedTuple

from bagbot.domain import fills
from bagbot.simulator.book_matcher import Match, Plan
from bagbot.simulator.orders import (
    MARKET_ACCOUNT,
    Order,
    OrderType,
    PlaceOrder,
    TimeInForce,
)
from bagbot.simulator.symbols import SymbolRules

_KINDS = {
    OrderType.LIMIT: fills.LIMIT,
    OrderType.LIMIT_MAKER: fills.LIMIT_MAKER,
    OrderType.MARKET: fills.MARKET,
}
_TIMES_IN_FORCE = {
    TimeInForce.GTC: fills.GOOD_TILL_CANCELLED,
    TimeInForce.IOC: fills.IMMEDIATE_OR_CANCEL,
    TimeInForce.FOK: fills.FILL_OR_KILL,
}


class BarFill(NamedTuple):
    """A resting order that trades, at what price, how much, and in which role."""

    order: Order
    price: int
    quantity: int
    is_maker: bool


class BarMatcher:
    """One symbol's market, bar by bar. Until `open_bar`, and after `close`, nothing fills."""

    def __init__(self, rules: SymbolRules, costs: fills.Costs) -> None:
        self._rules = rules
        self._costs = costs
        self._scale = fills.scale_of(rules.tick, rules.lot)
        self._open_ticks = 0
        self._budget_lots = fills.UNLIMITED
        # What is left of the volume, per account that has traded in this bar.
        self._left: dict[int, int] = {}

    def open_bar(
        self, orders: Iterable[Order], open_price: int, closed_volume: int
    ) -> list[BarFill]:
        """Put the price at the open of a bar, and return which of `orders` it fills (F2)."""
        self._open_ticks = open_price // self._rules.tick
        self._budget_lots = fills.volume_budget(closed_volume // self._rules.lot, self._costs)
        self._left.clear()
        return [
            fill
            for account_id, own in _by_account(orders)
            for fill in self._resting_fills(account_id, own, None)
        ]

    def play_range(self, orders: Iterable[Order], high: int, low: int, close: int) -> list[BarFill]:
        """Return which of `orders` the rest of the bar fills, each account for itself."""
        tick = self._rules.tick
        bar = fills.Bar(self._open_ticks, high // tick, low // tick, close // tick)
        return [
            fill
            for account_id, own in _by_account(orders)
            for fill in self._resting_fills(account_id, own, bar)
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
            order, budget_lots = order._replace(kind=fills.LIMIT), fills.UNLIMITED
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

    def _resting_fills(
        self, account_id: int, orders: list[Order], bar: fills.Bar | None
    ) -> list[BarFill]:
        by_number = {order.order_id: order for order in orders}
        working = [self._working(order) for order in orders]
        budget_lots = self._left.get(account_id, self._budget_lots)
        if bar is None:
            played = fills.open_bar(working, self._open_ticks, self._costs, budget_lots)
        else:
            played = fills.play_range(working, bar, self._costs, budget_lots)
        return [
            BarFill(
                by_number[event.number],
                event.price * self._rules.tick,
                event.lots * self._rules.lot,
                event.is_maker,
            )
            for event in played.events
            if event.kind == fills.FILLED
        ]

    def _working(self, order: Order) -> fills.WorkingOrder:
        return fills.WorkingOrder(
            number=order.order_id,
            kind=_KINDS[order.type],
            is_buy=order.is_buy,
            lots=order.remaining // self._rules.lot,
            limit=order.price // self._rules.tick,
        )

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

"""The exchange with order lists: what the orders of one list do to each other.

Choices where Binance's documents are silent. The two orders of an OCO lock the larger of what
they need, and once: only one of them can trade. A pending order locks nothing before it begins,
and is refused then if the money is not there. An OCO's other order ends just before the first
trade of the one, and also when the one loses quantity to self-trade prevention. The prices of a
pending pair are compared with the market when the pair begins, and with each other before. A
list tells of its beginning after its orders, and of its end after the last of them.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

from bagbot.simulator.amounts import quote_amount_ceiling
from bagbot.simulator.assumptions import Assumptions
from bagbot.simulator.book_matcher import Plan
from bagbot.simulator.commanded_exchange import CommandedExchange
from bagbot.simulator.exchange import REJECT_REASONS, Moment, Placement
from bagbot.simulator.order_lists import PlaceOrderList, check_prices
from bagbot.simulator.orders import (
    CancelRefusedError,
    Contingency,
    ExpiryReason,
    Order,
    OrderList,
    OrderListEvent,
    OrderRefusedError,
    OrderStatus,
    OrderType,
    PlaceOrder,
    Refusal,
)
from bagbot.simulator.stop_orders import is_touched
from bagbot.simulator.symbols import SymbolRules


@dataclass(frozen=True, slots=True)
class ListPlacement:
    """An accepted list, and its orders as they were when the working one had been matched."""

    order_list: OrderList
    placements: list[Placement]


class ListExchange(CommandedExchange):
    """All accounts and all books, with single orders and with lists of them."""

    def __init__(
        self,
        symbols: Mapping[str, SymbolRules],
        *,
        maker_fee_ppm: int = 1_000,
        taker_fee_ppm: int = 1_000,
        assumptions: Assumptions | None = None,
    ) -> None:
        super().__init__(
            symbols,
            maker_fee_ppm=maker_fee_ppm,
            taker_fee_ppm=taker_fee_ppm,
            assumptions=assumptions,
        )
        self.next_list_id = 0
        self._open_lists: dict[int, OrderList] = {}
        # Lists whose working order has been filled.
        self._completed: deque[OrderList] = deque()

    def restore_list(self, order_list: OrderList) -> None:
        """Take over an open list as it was stored; its orders come by `restore_order`."""
        self._open_lists[order_list.list_id] = order_list

    def open_lists(self, account_id: int) -> list[OrderList]:
        """Return the account's open lists, oldest first."""
        return [one for one in self._open_lists.values() if one.account_id == account_id]

    @property
    def has_due_orders(self) -> bool:
        """Return whether stops or pending orders wait for `release_due_orders`."""
        return bool(self._completed) or super().has_due_orders

    # Commands of users.

    def place_list(self, command: PlaceOrderList, now: Moment) -> ListPlacement:
        """Accept a list and what of it may begin at once. Raises OrderRefusedError."""
        self._check_list(command)
        if command.working is None:
            return self._place_pair(command, now)
        return self._place_working(command, command.working, now)

    def cancel_list(
        self,
        account_id: int,
        symbol: str,
        now: Moment,
        *,
        list_id: int | None,
        client_list_id: str | None,
        cancel_id: str = "",
    ) -> tuple[OrderList, list[Order]]:
        """Cancel a list; return it and the orders that were open. Raises CancelRefusedError."""
        for one in self.open_lists(account_id):
            if (
                one.symbol == symbol
                and list_id in (None, one.list_id)
                and client_list_id in (None, one.client_list_id)
            ):
                self._check_cancellable(symbol)
                legs = self._open_legs(one)
                self._cancel(legs[0], cancel_id, now)
                return one, legs
        raise CancelRefusedError(Refusal.UNKNOWN_ORDER)

    def release_due_orders(self, now: Moment) -> None:
        """Let touched stops and the followers of filled working orders begin."""
        super().release_due_orders(now)
        while self._completed:
            self._begin(self._completed.popleft(), now)
            super().release_due_orders(now)

    def reset(self, accounts: Mapping[int, Mapping[str, int]]) -> None:
        """Forget every order and list; see CommandedExchange."""
        super().reset(accounts)
        self._open_lists.clear()
        self._completed.clear()

    # Placing.

    def _check_list(self, command: PlaceOrderList) -> None:
        rules = self.symbols[command.symbol]
        orders = [order for order in (command.working, *command.followers) if order is not None]
        for order in orders:
            self.check_filters(order)
        self._check_room(command.account_id, command.symbol, [order.type for order in orders])
        opened = self.open_lists(command.account_id)
        if sum(one.symbol == command.symbol for one in opened) >= rules.open_lists_max:
            raise OrderRefusedError(Refusal.MAX_NUM_ORDER_LISTS)
        list_ids = {one.client_list_id for one in opened}
        names = [order.client_order_id for order in orders if order.client_order_id]
        if (
            command.client_list_id in list_ids
            or len(set(names)) < len(names)
            or any(
                self.open_order_by_client_id(command.account_id, command.symbol, name)
                for name in names
            )
        ):
            raise OrderRefusedError(Refusal.DUPLICATE_ORDER)
        if len(command.followers) > 1:
            is_pending = command.working is not None
            last = None if is_pending else self.last_prices.get(command.symbol)
            check_prices(command.followers, last)

    def _place_pair(self, command: PlaceOrderList, now: Moment) -> ListPlacement:
        plans = [
            self._plan_stop(leg) if leg.type.is_stop else self._plan_matches(leg)
            for leg in command.followers
        ]
        lock = max(self._need(leg, leg.quantity) for leg in command.followers)
        if self._free(command.followers[0]) < lock:
            raise OrderRefusedError(Refusal.INSUFFICIENT_BALANCE)
        order_list = self._open_list(command, Contingency.OCO, now)
        stop_loss, other = command.followers
        legs = [
            self._accept(stop_loss, plans[0], 0, now, list_id=order_list.list_id),
            self._accept(other, plans[1], lock, now, list_id=order_list.list_id),
        ]
        self._tell_beginning(order_list, legs, now)
        for leg, plan in zip(legs, plans, strict=True):
            self._start(leg, plan, now)
        return ListPlacement(order_list, [Placement(leg, [], []) for leg in legs])

    def _place_working(
        self, command: PlaceOrderList, working: PlaceOrder, now: Moment
    ) -> ListPlacement:
        plan, lock = self._plan(working)
        order_list = self._open_list(command, Contingency.OTO, now)
        list_id = order_list.list_id
        first = self._accept(working, plan, lock, now, list_id=list_id)
        order_list.working_id = first.order_id
        pending = []
        for follower in command.followers:
            order = self._accept(follower, Plan([], follower.quantity), 0, now, list_id=list_id)
            order.status = OrderStatus.PENDING_NEW
            order.is_working = False
            pending.append(order)
        self._tell_beginning(order_list, [first, *pending], now)
        executions, prevented = self._match(first, plan, now)
        # Even if it is filled at once, the reply shows the others as pending.
        shown = [Placement(first, executions, prevented)]
        shown += [Placement(copy(order), [], []) for order in pending]
        self.release_due_orders(now)
        return ListPlacement(order_list, shown)

    def _open_list(
        self, command: PlaceOrderList, contingency: Contingency, now: Moment
    ) -> OrderList:
        order_list = OrderList(
            list_id=self.next_list_id,
            account_id=command.account_id,
            symbol=command.symbol,
            client_list_id=command.client_list_id or f"simlist{self.next_list_id:015d}",
            contingency=contingency,
            time_ns=now.time_ns,
            update_time_ns=now.time_ns,
        )
        self.next_list_id += 1
        self._open_lists[order_list.list_id] = order_list
        return order_list

    def _tell_beginning(self, order_list: OrderList, orders: list[Order], now: Moment) -> None:
        for order in orders:
            order_list.orders.append((order.order_id, order.client_order_id))
            self._emit("NEW", order, now, is_on_book=order.is_working)
        self._tell_list(order_list, now)

    def _tell_list(self, order_list: OrderList, now: Moment) -> None:
        self._changes.lists[order_list.list_id] = order_list
        self._changes.events.append(OrderListEvent(order_list, not order_list.is_open, now.time_ns))

    def _start(self, order: Order, plan: Plan, now: Moment) -> None:
        if order.type.is_stop:
            self._stops[order.symbol].add(order, self.last_prices.get(order.symbol))
        else:
            self._match(order, plan, now)

    # Beginning what was pending.

    def _begin(self, order_list: OrderList, now: Moment) -> None:
        legs = self._open_legs(order_list)
        try:
            self._check_pending(legs)
            lock = max((self._need(leg, leg.quantity) for leg in legs), default=0)
            if legs and self._free(legs[0]) < lock:
                raise OrderRefusedError(Refusal.INSUFFICIENT_BALANCE)
            if legs:
                self._unlock(legs[-1], -lock)
            plans = [self._plan_pending(leg) for leg in legs]
        except OrderRefusedError as error:
            reason = REJECT_REASONS.get(error.refusal, "NONE")
            self._expire(legs[0], ExpiryReason.REJECTED, now, reject_reason=reason)
            return
        for leg in legs:
            leg.status = OrderStatus.NEW
            leg.update_time_ns = now.time_ns
            if not leg.type.is_stop:
                leg.is_working = True
                leg.released_ns = now.time_ns
            self._emit("RELEASED", leg, now, is_on_book=leg.is_working)
        for leg, plan in zip(legs, plans, strict=True):
            self._start_pending(leg, plan, now)

    def _check_pending(self, legs: Sequence[Order]) -> None:
        if len(legs) > 1:
            check_prices(legs, self.last_prices.get(legs[0].symbol))

    def _start_pending(self, order: Order, plan: Plan, now: Moment) -> None:
        self._start(order, plan, now)

    def _plan_pending(self, order: Order) -> Plan:
        if not order.type.is_stop:
            return self._plan_released(order)
        last = self.last_prices.get(order.symbol)
        if last and order.stop_price:
            is_reached = is_touched(order.type, last, order.stop_price, is_buy=order.is_buy)
            if is_reached:
                raise OrderRefusedError(Refusal.WOULD_TRIGGER)
        return Plan([], order.quantity)

    # Ending together.

    def _leg_starts(self, order: Order, now: Moment) -> None:
        """End the other order of an OCO, and let this one hold the money it needs."""
        order_list = self._open_lists[order.list_id]
        if order.order_id == order_list.working_id:
            return
        others = [leg for leg in self._open_legs(order_list) if leg is not order]
        if not others:
            return
        for leg in others:
            self._take_off(leg)
            self._expire(leg, ExpiryReason.OCO_TRIGGER, now)
        need = min(self._need(order, order.remaining), order.locked + self._free(order))
        self._unlock(order, order.locked - need)

    def _leg_ended(self, order: Order, now: Moment) -> None:
        order_list = self._open_lists.get(order.list_id)
        if order_list is None:
            return
        is_working_order = order.order_id == order_list.working_id
        if order.status is OrderStatus.FILLED and is_working_order:
            self._completed.append(order_list)
            return
        # Whoever ended because the other one began must not take that one with him.
        is_ended_by_other = order.expiry_reason is ExpiryReason.OCO_TRIGGER
        for leg in [] if is_ended_by_other else self._open_legs(order_list):
            # Each one that ends, ends the next: one may have ended meanwhile.
            if not leg.is_open:
                continue
            if order.status is OrderStatus.CANCELED:
                self._cancel(leg, order.cancel_id, now)
            else:
                self._take_off(leg)
                self._expire(leg, _reason_to_follow(order, is_working=is_working_order), now)
        if order_list.is_open and not self._open_legs(order_list):
            order_list.is_open = False
            order_list.update_time_ns = now.time_ns
            del self._open_lists[order_list.list_id]
            self._tell_list(order_list, now)

    def _open_legs(self, order_list: OrderList) -> list[Order]:
        found = [self.open_order(order_id) for order_id, _ in order_list.orders]
        return [order for order in found if order is not None]

    def _need(self, order: PlaceOrder | Order, quantity: int) -> int:
        """Return what `quantity` of an order locks; a pending market buy locks by its plan."""
        if not order.is_buy:
            return quantity
        if order.type is OrderType.MARKET:
            return 0
        price = order.price or order.stop_price or self.last_prices.get(order.symbol, 0)
        return quote_amount_ceiling(price=price, quantity=quantity)

    def _free(self, order: PlaceOrder | Order) -> int:
        rules = self.symbols[order.symbol]
        asset = rules.quote if order.is_buy else rules.base
        return self.balances[order.account_id][asset].free


def _reason_to_follow(ended: Order, *, is_working: bool) -> ExpiryReason:
    if is_working:
        return ExpiryReason.OTO_PHASE_ONE_EXPIRED
    if ended.expiry_reason is ExpiryReason.REJECTED:
        return ExpiryReason.REJECTED
    return ExpiryReason.OCO_TRIGGER

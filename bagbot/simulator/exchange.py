"""The spot exchange itself: accounts, filters, ids, orders, trades and commissions.

Deterministic and free of I/O: a command and a time go in, a result comes back and everything it
changed waits in `take_changes`. A command that is refused changes nothing.

Rounding: a trade moves price * quantity rounded down to 1e-8 of the quote asset, the same
amount on both sides; a resting buy order locks the same product rounded up; a commission is a
share of what is received, rounded down, in the asset received.

A stop that a trade touches goes live in `release_due_orders`, after the command that caused the
trade: an order never begins to match in the middle of another's matching. Choices where Binance's
documents are silent: going live is told as a second NEW; a buying stop without a limit locks its
quantity at the stop price (or the last price) and needs the rest of the money when it goes live;
a stop price that is already reached is refused for trailing stops too.

An account is kept from trading with itself as the mode of its incoming order says. An order that
lost a part to that and traded the rest is FILLED. An order that must fill at once or not at all
and meets one of its own account expires unfilled, and changes nothing.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bagbot.simulator.amounts import (
    commission_amount,
    quote_amount,
    quote_amount_ceiling,
)
from bagbot.simulator.assumptions import Assumptions
from bagbot.simulator.book_matcher import Book, Match, Owner, Plan, hide
from bagbot.simulator.order_filters import check_filters, check_filters_live
from bagbot.simulator.orders import (
    MARKET_ACCOUNT,
    CancelOrder,
    CancelRefusedError,
    Changes,
    Execution,
    ExpiryReason,
    Order,
    OrderEvent,
    OrderRefusedError,
    OrderStatus,
    OrderType,
    PlaceOrder,
    PreventedMatch,
    Refusal,
    TimeInForce,
    TradePrint,
    TransferEvent,
)
from bagbot.simulator.stop_orders import StopBook, is_touched
from bagbot.simulator.symbols import SymbolRules

# Why an order that was accepted earlier may not go live, as its last event tells it.
REJECT_REASONS = {
    Refusal.INSUFFICIENT_BALANCE: "INSUFFICIENT_BALANCES",
    Refusal.WOULD_TRIGGER: "STOP_PRICE_WOULD_TRIGGER_IMMEDIATELY",
    Refusal.WOULD_TAKE: "WOULD_MATCH_IMMEDIATELY",
    Refusal.OCO_PRICES: "OCO_BAD_PRICES",
}


@dataclass(slots=True)
class Balance:
    """What an account owns of one asset."""

    free: int = 0
    locked: int = 0


class Placement(NamedTuple):
    """An accepted order and what it traded at once."""

    order: Order
    executions: list[Execution]
    prevented: list[PreventedMatch]


class Moment(NamedTuple):
    """Now, on both clocks."""

    time_ns: int
    market_time_ms: int


class Exchange:
    """All accounts and all books."""

    def __init__(
        self,
        symbols: Mapping[str, SymbolRules],
        *,
        maker_fee_ppm: int = 1_000,
        taker_fee_ppm: int = 1_000,
        assumptions: Assumptions | None = None,
    ) -> None:
        self.symbols = dict(symbols)
        self._assumptions = assumptions or Assumptions()
        self.maker_fee_ppm = maker_fee_ppm
        self.taker_fee_ppm = taker_fee_ppm
        self.books = {
            symbol: Book(slices_go_last=self._assumptions.iceberg_slices_go_last)
            for symbol in self.symbols
        }
        self.assets = list(
            dict.fromkeys(
                asset for rules in self.symbols.values() for asset in (rules.base, rules.quote)
            )
        )
        self.balances: dict[int, dict[str, Balance]] = {}
        self.fees: dict[str, int] = dict.fromkeys(self.assets, 0)
        self.market_balances: dict[str, int] = dict.fromkeys(self.assets, 0)
        # Filled from the market: the price that percent and notional filters are measured by.
        self.reference_prices: dict[str, int] = {}
        self.last_prices: dict[str, int] = {}
        self.next_order_id = 1
        self.next_event_id = 1
        self.next_prevented_match_id = 0
        self.next_trade_ids: dict[str, int] = dict.fromkeys(self.symbols, 1)
        self._open_by_id: dict[int, Order] = {}
        self._open_by_client_id: dict[tuple[int, str, str], Order] = {}
        self._open_counts: dict[tuple[int, str, bool], int] = {}
        self._stops = {symbol: StopBook() for symbol in self.symbols}
        self.halted_symbols: set[str] = set()
        self._touched: deque[Order] = deque()
        self._changes = Changes()

    # Accounts and look-ups.

    def open_account(self, account_id: int, balances: Mapping[str, int]) -> None:
        """Create an account that owns `balances`, and nothing of every other asset traded here."""
        account = {asset: Balance() for asset in self.assets}
        for asset, amount in balances.items():
            account[asset] = Balance(free=amount)
        self.balances[account_id] = account
        for asset in account:
            self._changes.balances[(account_id, asset)] = None

    def restore(self, account_id: int, balances: Mapping[str, Balance]) -> None:
        """Take over an account's balances as they were stored."""
        self.balances[account_id] = {asset: Balance() for asset in self.assets} | dict(balances)

    def restore_order(self, order: Order) -> None:
        """Put an open order back where it was; its money is already locked."""
        self._index(order)
        if order.is_working:
            self.books[order.symbol].rest(order)
        elif order.status is not OrderStatus.PENDING_NEW:
            self._stops[order.symbol].add(order, self.last_prices.get(order.symbol))

    def open_order(self, order_id: int) -> Order | None:
        """Return the open order with this id."""
        return self._open_by_id.get(order_id)

    def open_order_by_client_id(
        self, account_id: int, symbol: str, client_order_id: str
    ) -> Order | None:
        """Return the open order with this client id: there is at most one."""
        return self._open_by_client_id.get((account_id, symbol, client_order_id))

    def open_orders(self, account_id: int, symbol: str | None = None) -> list[Order]:
        """Return the account's open orders, oldest first."""
        return [
            order
            for order in self._open_by_id.values()
            if order.account_id == account_id and symbol in (None, order.symbol)
        ]

    @property
    def has_account_changes(self) -> bool:
        """Return whether a user's order or money has changed since `take_changes`."""
        return self._changes.is_durable

    @property
    def has_due_orders(self) -> bool:
        """Return whether stops have been touched and wait for `release_due_orders`."""
        return bool(self._touched)

    def take_changes(self) -> Changes:
        """Return what has changed since the last call."""
        changes, self._changes = self._changes, Changes()
        return changes

    # Commands of users.

    def check_filters(self, command: PlaceOrder) -> None:
        """Raise OrderRefusedError if the order fails a filter, those that count included."""
        rules = self.symbols[command.symbol]
        if not rules.is_trading or command.symbol in self.halted_symbols:
            raise OrderRefusedError(Refusal.MARKET_CLOSED)
        check_filters(
            command,
            rules,
            self.reference_prices.get(command.symbol),
            market_keeps_lot_size=self._assumptions.market_orders_keep_lot_size,
        )
        self._check_open_counts(command)

    def check(self, command: PlaceOrder) -> None:
        """Raise OrderRefusedError if `place` would refuse the order now."""
        self._plan(command)

    def place(self, command: PlaceOrder, now: Moment) -> Placement:
        """Accept an order, match it, and let what is left rest or expire.

        Raises OrderRefusedError.
        """
        plan, lock = self._plan(command)
        order = self._accept(command, plan, lock, now)
        self._emit("NEW", order, now, is_on_book=order.is_working)
        if not order.is_working:
            self._stops[order.symbol].add(order, self.last_prices.get(order.symbol))
            return Placement(order, [], [])
        executions, prevented = self._match(order, plan, now)
        self.release_due_orders(now)
        return Placement(order, executions, prevented)

    def cancel(self, command: CancelOrder, now: Moment) -> Order:
        """Cancel an open order and return it.

        Raises CancelRefusedError.
        """
        order = self._find_open(command)
        self._check_cancellable(order.symbol)
        if command.restriction not in (None, order.status):
            raise CancelRefusedError(Refusal.CANCEL_RESTRICTED)
        self._cancel(order, command.cancel_id, now)
        return order

    def transfer(self, account_id: int, asset: str, amount: int, now: Moment) -> None:
        """Take money in from outside, or pay it out if negative.

        Raises OrderRefusedError when that is more than is free.
        """
        held = self.balances[account_id][asset]
        if held.free + amount < 0:
            raise OrderRefusedError(Refusal.INSUFFICIENT_BALANCE)
        held.free += amount
        self._changes.balances[(account_id, asset)] = None
        self._changes.events.append(TransferEvent(account_id, asset, amount, now.time_ns))

    def release_due_orders(self, now: Moment) -> None:
        """Let every touched stop go live, and those that its trades touch in turn."""
        while self._touched:
            order = self._touched.popleft()
            if order.is_open:
                self._release(order, now)

    # What the market does.

    def market_moves(
        self, symbol: str, price: int, price_range: tuple[int, int] | None, now: Moment
    ) -> None:
        """Move the market to `price`: it withdraws its quotes and trades with who is in its way.

        Whoever bids at or above `price`, or asks at or below it, is filled at his own price, or
        at the nearest price inside `price_range` when the market jumped over it.
        """
        book = self.books[symbol]
        book.withdraw_quotes()
        book.price_range = price_range
        self._changes.books[symbol] = None
        for taker_is_buy in (False, True):
            while True:
                maker = next(book.makers(taker_is_buy=taker_is_buy), None)
                if maker is None or (maker.price > price if taker_is_buy else maker.price < price):
                    break
                traded_price = maker.price
                if price_range is not None:
                    traded_price = min(max(traded_price, price_range[0]), price_range[1])
                self._trade(Match(maker, traded_price, maker.shown), None, now)

    def market_trades(
        self, symbol: str, *, price: int, quantity: int, buyer_is_maker: bool, now: Moment
    ) -> int:
        """Let a trade of the tape meet who rests in its way; return what is left of it.

        Who rests at `price` is filled only by the side that would have met him; who rests at a
        better price, which the trade went through, by either. Each trades at his own price.
        """
        book = self.books[symbol]
        book.withdraw_quotes()
        self._changes.books[symbol] = None
        lot = self.symbols[symbol].lot
        whole_lots = left = quantity // lot * lot
        for taker_is_buy in (False, True):
            is_met_at_price = taker_is_buy is not buyer_is_maker
            while left:
                maker = next(book.makers(taker_is_buy=taker_is_buy), None)
                if maker is None:
                    break
                through = price - maker.price if taker_is_buy else maker.price - price
                if through < 0 or (through == 0 and not is_met_at_price):
                    break
                taken = min(left, maker.shown)
                self._trade(Match(maker, maker.price, taken), None, now)
                left -= taken
        return quantity - whole_lots + left

    def set_halted(self, symbol: str, *, is_halted: bool) -> None:
        """Close or open a symbol for new orders; the open ones can be cancelled all the same."""
        if is_halted:
            self.halted_symbols.add(symbol)
        else:
            self.halted_symbols.discard(symbol)

    def others_touch(self, symbol: str) -> tuple[int | None, int | None]:
        """Withdraw the market's quotes and return the best bid and ask that users have."""
        book = self.books[symbol]
        book.withdraw_quotes()
        bid, ask = book.best_bid(), book.best_ask()
        return bid and bid[0], ask and ask[0]

    def market_quotes(
        self, symbol: str, bids: list[tuple[int, int]], asks: list[tuple[int, int]]
    ) -> None:
        """Replace the market's own quotes, given as (price, quantity) per side."""
        book = self.books[symbol]
        book.withdraw_quotes()
        book.place_quotes(symbol, bids, asks)
        self._changes.books[symbol] = None

    def market_prints(
        self, symbol: str, *, price: int, quantity: int, buyer_is_maker: bool, time_ns: int
    ) -> TradePrint:
        """Record a trade of the market with itself and return it."""
        trade = TradePrint(
            self._take_trade_id(symbol), symbol, price, quantity, time_ns, buyer_is_maker
        )
        self._changes.prints.append(trade)
        self._touch_stops(symbol, price, time_ns)
        return trade

    # Checking a new order.

    def _plan(self, command: PlaceOrder) -> tuple[Plan, int]:
        """Return the matches and the amount to lock, or raise OrderRefusedError."""
        rules = self.symbols[command.symbol]
        self.check_filters(command)
        key = (command.account_id, command.symbol, command.client_order_id)
        if command.client_order_id and key in self._open_by_client_id:
            raise OrderRefusedError(Refusal.DUPLICATE_ORDER)
        plan = self._plan_stop(command) if command.type.is_stop else self._plan_matches(command)
        lock = _amount_to_lock(command, plan, self.last_prices.get(command.symbol, 0))
        asset = rules.quote if command.is_buy else rules.base
        if self.balances[command.account_id][asset].free < lock:
            raise OrderRefusedError(Refusal.INSUFFICIENT_BALANCE)
        return plan, lock

    def _check_cancellable(self, symbol: str) -> None:
        rules = self.symbols[symbol]
        if not rules.is_trading and rules.status != "CANCEL_ONLY":
            raise CancelRefusedError(Refusal.MARKET_CLOSED)

    def _check_open_counts(self, command: PlaceOrder) -> None:
        if command.type is not OrderType.MARKET:
            self._check_room(command.account_id, command.symbol, [command.type])

    def _check_room(self, account_id: int, symbol: str, kinds: Sequence[OrderType]) -> None:
        """Raise OrderRefusedError if so many more would be too many open orders."""
        rules = self.symbols[symbol]
        new_stop_count = len([kind for kind in kinds if kind.is_stop])
        stop_count = self._open_counts.get((account_id, symbol, True), 0)
        count = self._open_counts.get((account_id, symbol, False), 0) + stop_count
        if count + len(kinds) > rules.open_orders_max:
            raise OrderRefusedError(Refusal.MAX_NUM_ORDERS)
        if new_stop_count and stop_count + new_stop_count > rules.open_stops_max:
            raise OrderRefusedError(Refusal.MAX_NUM_ALGO_ORDERS)

    def _plan_stop(self, command: PlaceOrder) -> Plan:
        last = self.last_prices.get(command.symbol)
        if (
            last is not None
            and command.stop_price
            and is_touched(command.type, last, command.stop_price, is_buy=command.is_buy)
        ):
            raise OrderRefusedError(Refusal.WOULD_TRIGGER)
        return Plan([], command.quantity)

    def _plan_matches(self, command: PlaceOrder) -> Plan:
        plan = self._find_matches(command, self.symbols[command.symbol])
        if command.quote_quantity:
            _check_quote_liquidity(plan, self.symbols[command.symbol])
        if command.type is OrderType.LIMIT_MAKER and plan.matches:
            raise OrderRefusedError(Refusal.WOULD_TAKE)
        if command.time_in_force is TimeInForce.FOK and plan.quantity < command.quantity:
            plan = Plan([], command.quantity)
        return plan

    def _find_matches(self, command: PlaceOrder, rules: SymbolRules) -> Plan:
        """Return whom a new order would trade with."""
        book = self.books[command.symbol]
        owner = Owner(command.account_id, command.prevention)
        if command.quote_quantity:
            return book.plan_quote(
                is_buy=command.is_buy,
                quote_quantity=command.quote_quantity,
                lot=rules.lot,
                owner=owner,
            )
        limit = command.price if command.type.has_limit else None
        return book.plan(is_buy=command.is_buy, limit=limit, quantity=command.quantity, owner=owner)

    def _commission(self, received: int, rate_ppm: int) -> int:
        """Return the fee on what was received."""
        return commission_amount(received, rate_ppm)

    # Carrying an order out.

    def _accept(
        self, command: PlaceOrder, plan: Plan, lock: int, now: Moment, *, list_id: int = -1
    ) -> Order:
        # An order by quote amount becomes the quantity that amount buys.
        quantity = command.quantity or plan.quantity + plan.prevented + plan.missing
        order = Order(
            order_id=self.next_order_id,
            account_id=command.account_id,
            symbol=command.symbol,
            is_buy=command.is_buy,
            type=command.type,
            time_in_force=command.time_in_force,
            price=command.price,
            quantity=quantity,
            remaining=quantity,
            quote_quantity=command.quote_quantity,
            client_order_id=command.client_order_id or f"sim{self.next_order_id:019d}",
            locked=lock,
            time_ns=now.time_ns,
            update_time_ns=now.time_ns,
            market_time_ms=now.market_time_ms,
            strategy_id=command.strategy_id,
            strategy_type=command.strategy_type,
            stop_price=command.stop_price,
            trailing_delta=command.trailing_delta,
            prevention=command.prevention,
            list_id=list_id,
            iceberg_quantity=command.iceberg_quantity,
            is_working=not command.type.is_stop,
        )
        self.next_order_id += 1
        balance = self._balance(order, self._locked_asset(order))
        balance.free -= lock
        balance.locked += lock
        self._index(order)
        return order

    def _release(self, order: Order, now: Moment) -> None:
        """Turn a touched stop into the market or limit order it has been waiting to be."""
        if order.list_id >= 0:
            self._leg_starts(order, now)
        try:
            plan = self._plan_released(order)
        except OrderRefusedError as error:
            reason = REJECT_REASONS.get(error.refusal, "NONE")
            self._expire(order, ExpiryReason.REJECTED, now, reject_reason=reason)
            return
        order.is_working = True
        order.released_ns = order.update_time_ns = now.time_ns
        self._emit("RELEASED", order, now, is_on_book=True)
        self._match(order, plan, now)

    def _plan_released(self, order: Order) -> Plan:
        """Return the matches of an order that goes live, its money locked."""
        rules = self.symbols[order.symbol]
        check_filters_live(order, rules, self.reference_prices.get(order.symbol))
        limit = order.price if order.type.has_limit else None
        plan = self.books[order.symbol].plan(
            is_buy=order.is_buy,
            limit=limit,
            quantity=order.quantity,
            owner=Owner(order.account_id, order.prevention),
        )
        if order.type is OrderType.LIMIT_MAKER and plan.matches:
            raise OrderRefusedError(Refusal.WOULD_TAKE)
        if order.time_in_force is TimeInForce.FOK and plan.quantity < order.quantity:
            return Plan([], order.quantity)
        if order.is_buy and limit is None:
            more = plan.cost - order.locked
            if more > self._balance(order, rules.quote).free:
                raise OrderRefusedError(Refusal.INSUFFICIENT_BALANCE)
            self._unlock(order, -more)
        return plan

    def _match(
        self, order: Order, plan: Plan, now: Moment
    ) -> tuple[list[Execution], list[PreventedMatch]]:
        """Carry out the planned matches, and let what is left rest or expire."""
        executions: list[Execution] = []
        prevented: list[PreventedMatch] = []
        for match in plan.matches:
            if match.quantity:
                executions += [
                    execution
                    for execution in self._trade(match, order, now)
                    if execution.order_id == order.order_id and not execution.is_maker
                ]
            else:
                prevented.append(self._prevent(match, order, now))
        self._finish_placing(order, plan, now)
        return executions, prevented

    def _finish_placing(self, order: Order, plan: Plan, now: Moment) -> None:
        if not order.is_open:
            return
        reason = _expiry_reason(order, plan)
        if reason is None:
            order.queue_number = self.next_event_id
            hide(order)
            self.books[order.symbol].rest(order)
            self._changes.books[order.symbol] = None
            self._changes.orders[order.order_id] = order
            return
        self._expire(order, reason, now)

    def _expire(
        self, order: Order, reason: ExpiryReason, now: Moment, *, reject_reason: str = "NONE"
    ) -> None:
        order.expiry_reason = reason
        self._close(order, OrderStatus.EXPIRED, now)
        self._emit("EXPIRED", order, now, is_on_book=False, reject_reason=reject_reason)

    def _cancel(self, order: Order, cancel_id: str, now: Moment) -> None:
        order.cancel_id = cancel_id or f"simcancel{self.next_event_id:012d}"
        self._take_off(order)
        self._close(order, OrderStatus.CANCELED, now)
        self._emit("CANCELED", order, now, is_on_book=False)

    def _leg_starts(self, order: Order, now: Moment) -> None:
        """Do what the first trade of an order in a list brings; see ListExchange."""

    def _leg_ended(self, order: Order, now: Moment) -> None:
        """Do what the end of an order in a list brings; see ListExchange."""

    def _take_off(self, order: Order) -> None:
        """Remove an open order from where it rests or waits."""
        if order.is_working:
            self.books[order.symbol].remove(order)
            self._changes.books[order.symbol] = None
        else:
            self._stops[order.symbol].discard(order)

    def _touch_stops(self, symbol: str, price: int, time_ns: int) -> None:
        self.last_prices[symbol] = price
        reached, followed = self._stops[symbol].touch(price, time_ns)
        self._touched.extend(reached)
        for order in followed:
            self._changes.orders[order.order_id] = order

    def _trade(self, match: Match, taker: Order | None, now: Moment) -> list[Execution]:
        """Carry out one match; the market itself is the taker when `taker` is None."""
        maker = match.maker
        if maker.list_id >= 0:
            self._leg_starts(maker, now)
        self._take(maker, match.quantity)
        if taker is not None:
            taker.remaining -= match.quantity
        trade_id = self._take_trade_id(maker.symbol)
        self._changes.prints.append(
            TradePrint(
                trade_id, maker.symbol, match.price, match.quantity, now.time_ns, maker.is_buy
            )
        )
        self._touch_stops(maker.symbol, match.price, now.time_ns)
        executions = []
        for order, is_maker in ((taker, False), (maker, True)):
            if order is None or order.account_id == MARKET_ACCOUNT:
                is_buy = maker.is_buy if is_maker else not maker.is_buy
                self._settle_market(match, maker.symbol, is_buy=is_buy)
            else:
                executions.append(self._settle(order, match, trade_id, now, is_maker=is_maker))
        return executions

    def _take(self, maker: Order, quantity: int) -> None:
        """Reduce a resting order; whatever goes to the end of its queue stays there for good."""
        if self.books[maker.symbol].take(maker, quantity):
            maker.queue_number = self.next_event_id
        self._changes.books[maker.symbol] = None

    def _prevent(self, match: Match, taker: Order, now: Moment) -> PreventedMatch:
        """Keep an account from trading with itself."""
        maker = match.maker
        prevented = PreventedMatch(
            match_id=self.next_prevented_match_id,
            taker_order_id=taker.order_id,
            maker_order_id=maker.order_id,
            price=match.price,
            quantity=min(taker.remaining, maker.remaining),
            taker_prevented=match.taker_prevented,
            maker_prevented=match.maker_prevented,
        )
        self.next_prevented_match_id += 1
        if match.maker_prevented:
            if maker.list_id >= 0:
                self._leg_starts(maker, now)
            self._take(maker, match.maker_prevented)
            self._lose(maker, match.maker_prevented, prevented, now)
        if match.taker_prevented:
            taker.remaining -= match.taker_prevented
            self._lose(taker, match.taker_prevented, prevented, now)
        return prevented

    def _lose(
        self, order: Order, quantity: int, prevented_match: PreventedMatch, now: Moment
    ) -> None:
        """Record what an order has lost; `remaining` is already reduced."""
        order.prevented += quantity
        order.prevented_match_id = prevented_match.match_id
        order.update_time_ns = now.time_ns
        if order.remaining == 0:
            self._close(order, OrderStatus.EXPIRED_IN_MATCH, now)
        elif order.is_buy:
            self._release_surplus(order)
        else:
            # A sale by quote amount has locked only what it will sell.
            self._unlock(order, max(order.locked - order.remaining, 0))
        self._emit(
            "TRADE_PREVENTION",
            order,
            now,
            is_on_book=order.is_open,
            prevented_match=prevented_match,
        )

    def _settle_market(self, match: Match, symbol: str, *, is_buy: bool) -> None:
        rules = self.symbols[symbol]
        sign = 1 if is_buy else -1
        cost = quote_amount(price=match.price, quantity=match.quantity)
        self.market_balances[rules.base] += sign * match.quantity
        self.market_balances[rules.quote] -= sign * cost

    def _settle(
        self, order: Order, match: Match, trade_id: int, now: Moment, *, is_maker: bool
    ) -> Execution:
        """Move the money of one side of a trade and record it. `remaining` is already reduced."""
        rules = self.symbols[order.symbol]
        cost = quote_amount(price=match.price, quantity=match.quantity)
        given, received = (cost, match.quantity) if order.is_buy else (match.quantity, cost)
        received_asset = rules.base if order.is_buy else rules.quote
        rate_ppm = self.maker_fee_ppm if is_maker else self.taker_fee_ppm
        commission = self._commission(received, rate_ppm)
        self._balance(order, self._locked_asset(order)).locked -= given
        order.locked -= given
        self._balance(order, received_asset).free += received - commission
        self.fees[received_asset] += commission
        order.executed_quote += cost
        order.update_time_ns = now.time_ns
        execution = Execution(
            trade_id=trade_id,
            account_id=order.account_id,
            symbol=order.symbol,
            order_id=order.order_id,
            client_order_id=order.client_order_id,
            is_buyer=order.is_buy,
            is_maker=is_maker,
            price=match.price,
            quantity=match.quantity,
            quote_quantity=cost,
            commission=commission,
            commission_asset=received_asset,
            time_ns=now.time_ns,
            market_time_ms=now.market_time_ms,
            list_id=order.list_id,
        )
        self._changes.executions.append(execution)
        if order.remaining == 0:
            self._close(order, OrderStatus.FILLED, now)
        else:
            order.status = OrderStatus.PARTIALLY_FILLED
            self._release_surplus(order)
        self._emit("TRADE", order, now, is_on_book=order.remaining > 0, execution=execution)
        return execution

    def _release_surplus(self, order: Order) -> None:
        """Free what a better price than the limit left over."""
        if not (order.type.has_limit and order.is_buy):
            return
        needed = quote_amount_ceiling(price=order.price, quantity=order.remaining)
        self._unlock(order, order.locked - needed)

    def _unlock(self, order: Order, amount: int) -> None:
        balance = self._balance(order, self._locked_asset(order))
        balance.locked -= amount
        balance.free += amount
        order.locked -= amount

    def _close(self, order: Order, status: OrderStatus, now: Moment) -> None:
        """End an order: its id is free again and so is its money. Closing twice is harmless."""
        order.status = status
        order.update_time_ns = now.time_ns
        self._unlock(order, order.locked)
        self._changes.orders[order.order_id] = order
        if self._open_by_id.pop(order.order_id, None) is not None:
            del self._open_by_client_id[(order.account_id, order.symbol, order.client_order_id)]
            self._open_counts[_count_key(order)] -= 1

    def _index(self, order: Order) -> None:
        self._open_by_id[order.order_id] = order
        self._open_by_client_id[(order.account_id, order.symbol, order.client_order_id)] = order
        count_key = _count_key(order)
        self._open_counts[count_key] = self._open_counts.get(count_key, 0) + 1

    def _emit(
        self,
        kind: str,
        order: Order,
        now: Moment,
        *,
        is_on_book: bool,
        execution: Execution | None = None,
        prevented_match: PreventedMatch | None = None,
        reject_reason: str = "NONE",
    ) -> None:
        self._changes.orders[order.order_id] = order
        self._changes.events.append(
            OrderEvent(
                event_id=self.next_event_id,
                kind=kind,
                order=order,
                status=order.status,
                executed=order.executed,
                executed_quote=order.executed_quote,
                time_ns=now.time_ns,
                is_on_book=is_on_book,
                working_ns=order.working_ns,
                execution=execution,
                prevented=order.prevented,
                prevented_match=prevented_match,
                reject_reason=reject_reason,
            )
        )
        self.next_event_id += 1
        if order.list_id >= 0 and not order.is_open:
            self._leg_ended(order, now)

    def _find_open(self, command: CancelOrder) -> Order:
        if command.order_id is not None:
            order = self._open_by_id.get(command.order_id)
        else:
            order = self._open_by_client_id.get(
                (command.account_id, command.symbol, command.client_order_id or "")
            )
        if (
            order is None
            or (order.account_id, order.symbol) != (command.account_id, command.symbol)
            or command.client_order_id not in (None, order.client_order_id)
        ):
            raise CancelRefusedError(Refusal.UNKNOWN_ORDER)
        return order

    def _take_trade_id(self, symbol: str) -> int:
        trade_id = self.next_trade_ids[symbol]
        self.next_trade_ids[symbol] = trade_id + 1
        return trade_id

    def _locked_asset(self, order: Order) -> str:
        rules = self.symbols[order.symbol]
        return rules.quote if order.is_buy else rules.base

    def _balance(self, order: Order, asset: str) -> Balance:
        self._changes.balances[(order.account_id, asset)] = None
        return self.balances[order.account_id][asset]


def _count_key(order: Order) -> tuple[int, str, bool]:
    return order.account_id, order.symbol, order.type.is_stop


def _amount_to_lock(command: PlaceOrder, plan: Plan, last_price: int) -> int:
    if not command.is_buy:
        return command.quantity or plan.quantity
    if command.type is not OrderType.MARKET:
        price = command.price or command.stop_price or last_price
        return quote_amount_ceiling(price=price, quantity=command.quantity)
    return command.quote_quantity or plan.cost


def _check_quote_liquidity(plan: Plan, rules: SymbolRules) -> None:
    if not plan.matches:
        raise OrderRefusedError(Refusal.NO_LIQUIDITY)
    if plan.quantity + plan.prevented < rules.quantity_min:
        raise OrderRefusedError(Refusal.LIQUIDITY_BELOW_LOT)


def _expiry_reason(order: Order, plan: Plan) -> ExpiryReason | None:
    """Return why what is left of an order just placed may not rest, or None if it may."""
    if not order.type.has_limit:
        return ExpiryReason.INSUFFICIENT_LIQUIDITY
    if order.time_in_force is TimeInForce.FOK:
        return ExpiryReason.UNFILLED_FOK
    if order.time_in_force is TimeInForce.IOC:
        return ExpiryReason.UNFILLED_IOC
    if plan.is_stopped_by_range:
        return ExpiryReason.PRICE_RANGE_EXCEEDED
    return None

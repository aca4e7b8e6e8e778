"""The spot exchange on bars: the accounts and orders of `Exchange`, with every fill by BarMatcher.

It differs in four ways: what fills or triggers is judged by bars, a fee is rounded up, a fill at
an open is a taker's even if the order had rested, and a pending order whose price is reached
already when it begins acts at once instead of being refused, a LIMIT_MAKER excepted (FILL_RULES,
F12). The book keeps resting orders and the market's quotes to be looked at; nothing matches in it.
"""

from collections.abc import Mapping, Sequence

from bagbot.domain import fills
from bagbot.simulator.amounts import quote_amount
from bagbot.simulator.bar_matcher import BarEvent, BarMatcher
from bagbot.simulator.book_matcher import Match, Plan
from bagbot.simulator.exchange import REJECT_REASONS, Moment
from bagbot.simulator.list_exchange import ListExchange
from bagbot.simulator.order_filters import check_filters_live
from bagbot.simulator.orders import (
    MARKET_ACCOUNT,
    Execution,
    ExpiryReason,
    Order,
    OrderRefusedError,
    OrderType,
    PlaceOrder,
    Refusal,
    TradePrint,
)
from bagbot.simulator.symbols import SymbolRules


class BarExchange(ListExchange):
    """All accounts, on markets that are played bar by bar."""

    def __init__(self, symbols: Mapping[str, SymbolRules], costs: fills.Costs) -> None:
        super().__init__(
            symbols, maker_fee_ppm=costs.maker_fee_ppm, taker_fee_ppm=costs.taker_fee_ppm
        )
        self._matchers = {
            symbol: BarMatcher(rules, costs, self._open_lists)
            for symbol, rules in self.symbols.items()
        }

    def release_due_orders(self, now: Moment) -> None:
        """Let the followers of working orders begin that were filled when they were placed."""
        while self._completed:
            order_list = self._completed.popleft()
            self._begin(order_list, now)
            matcher = self._matchers[order_list.symbol]
            self._carry_out(matcher.wake(self._open_legs(order_list)), now)

    def market_moves(
        self, symbol: str, price: int, price_range: tuple[int, int] | None, now: Moment
    ) -> None:
        """Do nothing: on bars only an open and a range fill."""

    def open_bar(self, symbol: str, open_price: int, closed_volume: int, now: Moment) -> None:
        """Put the price at a bar's open and fill the resting orders that it satisfies.

        `closed_volume` is the volume of the bar before, which bounds the one that opens.
        """
        self.reference_prices[symbol] = self.last_prices[symbol] = open_price
        resting = self._resting(symbol)
        self._carry_out(self._matchers[symbol].open_bar(resting, open_price, closed_volume), now)

    def play_range(self, symbol: str, high: int, low: int, close: int, now: Moment) -> None:
        """Play the rest of the bar: what it reaches, fills."""
        resting = self._resting(symbol)
        self._carry_out(self._matchers[symbol].play_range(resting, high, low, close), now)

    def close_market(self, symbol: str) -> None:
        """End the symbol's market: nothing fills any more."""
        self._matchers[symbol].close()

    def _find_matches(self, command: PlaceOrder, rules: SymbolRules) -> Plan:
        return self._matchers[rules.symbol].plan(command)

    def _commission(self, received: int, rate_ppm: int) -> int:
        return fills.fee(received, rate_ppm)

    def _trade(self, match: Match, taker: Order | None, now: Moment) -> list[Execution]:
        assert taker is not None, "on bars the market does not come to an order by itself"
        taker.remaining -= match.quantity
        return [self._fill(taker, match, now, is_maker=False)]

    def _plan_stop(self, command: PlaceOrder) -> Plan:
        if command.trailing_delta and command.stop_price:
            # The rules know no price from which on a stop begins to trail (F9).
            raise OrderRefusedError(Refusal.TRAILING_DELTA)
        return super()._plan_stop(command)

    def _touch_stops(self, symbol: str, price: int, time_ns: int) -> None:
        """Do nothing: no trade touches a stop here, only an open and a range."""

    def _carry_out(self, events: list[BarEvent], now: Moment) -> None:
        for event in events:
            order = event.order
            # One that was not allowed to go live has ended before its fill.
            if not order.is_open:
                continue
            # The others of an OCO end before it acts, so what the rules cancel has ended by then.
            assert event.kind != fills.CANCELLED, event
            if event.kind == fills.EXPIRED:
                self._end_unfilled(order, now)
                continue
            if order.list_id >= 0:
                self._leg_starts(order, now)
            if event.kind == fills.TRIGGERED:
                self._go_live(order, now)
            else:
                self._fill_resting(event, now)
            # Whoever waited for this fill is awake for what follows.
            while self._completed:
                self._begin(self._completed.popleft(), now)
        # A trailing stop may have moved although nothing happened to it.
        for order in self._open_by_id.values():
            if order.trailing_delta and not order.is_working:
                self._changes.orders[order.order_id] = order

    def _end_unfilled(self, order: Order, now: Moment) -> None:
        if order.type.has_limit:
            self._take_off(order)
        if order.type is OrderType.LIMIT_MAKER:
            # It began where it would have taken (F12); its pair ends with it.
            would_take = REJECT_REASONS[Refusal.WOULD_TAKE]
            self._expire(order, ExpiryReason.REJECTED, now, reject_reason=would_take)
            return
        self._finish_placing(order, Plan([], order.remaining), now)

    def _check_pending(self, legs: Sequence[Order]) -> None:
        """Check nothing: what is reached already acts at once, or is told as expired (F12)."""

    def _plan_pending(self, order: Order) -> Plan:
        return Plan([], order.quantity)

    def _start_pending(self, order: Order, plan: Plan, now: Moment) -> None:
        """Let a pending order rest; what the price does to it is told by the rules."""
        if order.type.is_stop:
            self._start(order, plan, now)
        elif order.type.has_limit:
            self._rest(order)
        self._changes.orders[order.order_id] = order

    def _rest(self, order: Order) -> None:
        order.queue_number = self.next_event_id
        self.books[order.symbol].rest(order)
        self._changes.books[order.symbol] = None

    def _go_live(self, order: Order, now: Moment) -> None:
        """Make a triggered stop the market or limit order it has been waiting to be."""
        self._take_off(order)
        try:
            check_filters_live(
                order, self.symbols[order.symbol], self.reference_prices.get(order.symbol)
            )
        except OrderRefusedError:
            self._expire(order, ExpiryReason.REJECTED, now)
            return
        order.is_working = True
        order.released_ns = order.update_time_ns = now.time_ns
        self._emit("RELEASED", order, now, is_on_book=True)
        if order.type.has_limit:
            self._rest(order)

    def _fill_resting(self, event: BarEvent, now: Moment) -> None:
        order = event.order
        match = Match(order, event.price, event.quantity)
        if order.type.has_limit:
            self.books[order.symbol].take(order, event.quantity)
            self._changes.books[order.symbol] = None
        else:
            more = quote_amount(price=event.price, quantity=event.quantity) - order.locked
            if order.is_buy and more > 0:
                # It was locked at its trigger, and the market gapped or slipped beyond it.
                if more > self._balance(order, self._locked_asset(order)).free:
                    self._expire(order, ExpiryReason.REJECTED, now)
                    return
                self._unlock(order, -more)
            order.remaining -= event.quantity
        self._fill(order, match, now, is_maker=event.is_maker)

    def _fill(self, order: Order, match: Match, now: Moment, *, is_maker: bool) -> Execution:
        """Carry out one fill; the order's `remaining` is already reduced."""
        trade_id = self._take_trade_id(order.symbol)
        buyer_is_maker = order.is_buy == is_maker
        self._changes.prints.append(
            TradePrint(
                trade_id, order.symbol, match.price, match.quantity, now.time_ns, buyer_is_maker
            )
        )
        self._settle_market(match, order.symbol, is_buy=not order.is_buy)
        self._matchers[order.symbol].count(order.account_id, match.quantity)
        return self._settle(order, match, trade_id, now, is_maker=is_maker)

    def _resting(self, symbol: str) -> list[Order]:
        return [
            order
            for order in self._open_by_id.values()
            if order.symbol == symbol and order.account_id != MARKET_ACCOUNT
        ]

"""The simulated exchange as a whole: core, markets, tape, candles and store, without sockets.

Every method that changes something commits the change before it returns, and leaves in `outbox`
what clients may then be told. Time comes in with each call.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from bagbot.simulator.amounts import ONE, nearest_multiple
from bagbot.simulator.candles import Candle, CandleSeries
from bagbot.simulator.exchange import Moment, Placement
from bagbot.simulator.list_exchange import ListExchange, ListPlacement
from bagbot.simulator.market import (
    AS_USUAL,
    PROFILES,
    QUOTE_LEVELS,
    MarketProfile,
    Point,
    PriceSource,
    Quoting,
    quotes_around,
)
from bagbot.simulator.order_lists import PlaceOrderList
from bagbot.simulator.orders import (
    CancelOrder,
    Order,
    OrderEvent,
    OrderList,
    OrderListEvent,
    PlaceOrder,
    TradePrint,
    TransferEvent,
)
from bagbot.simulator.store import Store, VenueState
from bagbot.simulator.symbols import SymbolRules
from bagbot.simulator.synthetic_market import SyntheticMarket

_CANDLES_MAX = 20_000
_TAPE_MAX = 10_000
_DAY_MS = 24 * 60 * 60 * 1_000
# A step that has to catch up plays this much of the market, then lets others run.
_POINTS_PER_STEP_MAX = 500


class BalanceEvent(NamedTuple):
    """The balances that one command touched, as they are after it."""

    account_id: int
    balances: list[tuple[str, int, int]]
    time_ns: int


class BookEvent(NamedTuple):
    """The top of a book after a change."""

    symbol: str
    update_id: int
    bid: tuple[int, int] | None
    ask: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class CandleEvent:
    """A base candle that has closed, in market time."""

    symbol: str
    candle: Candle


VenueEvent = (
    OrderEvent
    | OrderListEvent
    | TransferEvent
    | BalanceEvent
    | BookEvent
    | CandleEvent
    | TradePrint
)


@dataclass(frozen=True, slots=True)
class DayStatistics:
    """A span of a symbol's trading that ends now, by default the last 24 hours, in market time."""

    candle: Candle
    previous_close: int
    opens_ms: int
    closes_ms: int


@dataclass(slots=True)
class _Market:
    """One symbol's market as it stands."""

    rules: SymbolRules
    profile: MarketProfile
    source: PriceSource
    candles: CandleSeries
    price: int
    price_range: tuple[int, int] | None = None
    quoting: Quoting = AS_USUAL
    time_ms: int = 0
    tape: deque[TradePrint] = field(default_factory=lambda: deque(maxlen=_TAPE_MAX))
    update_id: int = 0


class MarketClock:
    """The market's own time, which runs `speed` times as fast as the wire's."""

    def __init__(self, *, wire_start_ns: int, market_start_ms: int, speed: float) -> None:
        self.wire_start_ns = wire_start_ns
        self.market_start_ms = market_start_ms
        self.speed = speed

    def market_ms(self, time_ns: int) -> int:
        """Return the market's time at wire time `time_ns`."""
        elapsed_ns = max(time_ns - self.wire_start_ns, 0)
        return self.market_start_ms + int(elapsed_ns * self.speed) // 1_000_000


class Venue:
    """One simulated exchange with its markets and its users' accounts."""

    def __init__(
        self,
        exchange: ListExchange,
        sources: Mapping[str, PriceSource],
        store: Store,
        *,
        clock: MarketClock,
        accounts: Mapping[str, Mapping[str, int]],
        profiles: Mapping[str, MarketProfile] = PROFILES,
        market_name: str = "",
    ) -> None:
        self.exchange = exchange
        self._market_name = market_name
        self._accounts = accounts
        self.clock = clock
        self.outbox: list[VenueEvent] = []
        self._store = store
        self._closed: list[CandleEvent] = []
        self._told_tops: dict[str, tuple[tuple[int, int] | None, tuple[int, int] | None]] = {}
        self._played_ms = clock.market_start_ms
        state = store.state()
        prices = {} if state is None else state.prices
        base_ms = max(source.base_ms for source in sources.values())
        # Candles are stamped so that the bar in play at the start is the bar of now, and never
        # earlier than candles were stamped before a restart.
        stamp_ms = clock.wire_start_ns // 1_000_000
        if state is not None:
            stamp_ms = max(stamp_ms, state.market_time_ms + state.offset_ms)
        self.offset_ms = stamp_ms // base_ms * base_ms - clock.market_start_ms // base_ms * base_ms
        self._markets = {
            symbol: _Market(
                rules=rules,
                profile=profiles[symbol],
                source=sources[symbol],
                candles=CandleSeries(
                    sources[symbol].base_ms, sources[symbol].history(), length_max=_CANDLES_MAX
                ),
                price=prices.get(symbol, profiles[symbol].start_price),
                time_ms=clock.market_start_ms,
                # Rises by one per change, far slower than microseconds pass: a restart never
                # goes back.
                update_id=clock.wire_start_ns // 1_000,
            )
            for symbol, rules in exchange.symbols.items()
        }
        # The number of each account by its name, in the order given; it outlives a restart.
        self.account_ids = {name: store.account_id(name) for name in accounts}
        self._load(state, accounts)
        self._prime()

    # Commands.

    def place(self, command: PlaceOrder, time_ns: int) -> Placement:
        """Place an order; raises OrderRefusedError."""
        market = self._markets[command.symbol]
        placement = self.exchange.place(command, self._moment(market, time_ns))
        self._commit(time_ns)
        self._refill(market, time_ns)
        return placement

    def cancel(self, command: CancelOrder, time_ns: int) -> Order:
        """Cancel an order; raises CancelRefusedError."""
        market = self._markets[command.symbol]
        order = self.exchange.cancel(command, self._moment(market, time_ns))
        self._commit(time_ns)
        return order

    def place_list(self, command: PlaceOrderList, time_ns: int) -> ListPlacement:
        """Place an order list; raises OrderRefusedError."""
        market = self._markets[command.symbol]
        placement = self.exchange.place_list(command, self._moment(market, time_ns))
        self._commit(time_ns)
        self._refill(market, time_ns)
        return placement

    def cancel_list(
        self,
        account_id: int,
        symbol: str,
        time_ns: int,
        *,
        list_id: int | None,
        client_list_id: str | None,
        cancel_id: str = "",
    ) -> tuple[OrderList, list[Order]]:
        """Cancel an order list; raises CancelRefusedError."""
        cancelled = self.exchange.cancel_list(
            account_id,
            symbol,
            self._moment(self._markets[symbol], time_ns),
            list_id=list_id,
            client_list_id=client_list_id,
            cancel_id=cancel_id,
        )
        self._commit(time_ns)
        return cancelled

    def advance(self, time_ns: int) -> bool:
        """Play the market up to now; return False if there is more to catch up on."""
        market_ms = self.clock.market_ms(time_ns)
        is_up_to_date = True
        for market in self._markets.values():
            is_up_to_date &= self._advance_market(market, market_ms, time_ns)
        if is_up_to_date:
            self._played_ms = market_ms
        else:
            slowest_ms = min(market.time_ms for market in self._markets.values())
            self._played_ms = max(self._played_ms, slowest_ms)
        self._commit(time_ns, is_step=True)
        return is_up_to_date

    def move_price(self, symbol: str, price: int, time_ns: int) -> None:
        """Put a synthetic market at `price` at once; it goes on from there."""
        market = self._markets[symbol]
        source = self.synthetic_market(symbol)
        assert source is not None, "only a synthetic market can be moved"
        source.move_to(price)
        market.price = price
        self._move(market, time_ns)
        self._print(market, market.rules.lot, time_ns, buyer_is_maker=False)
        self._release_due_orders(market, time_ns)
        self._commit(time_ns, is_step=True)
        self._refill(market, time_ns)

    def transfer(self, account_id: int, asset: str, amount: int, time_ns: int) -> None:
        """Take an account's money in, or pay it out if negative; raises OrderRefusedError."""
        moment = Moment(time_ns, self._played_ms)
        self.exchange.transfer(account_id, asset, amount, moment)
        self._commit(time_ns)

    def fill_resting(self, order_id: int, quantity: int, time_ns: int) -> int:
        """Let the market take a resting order, or `quantity` of it rounded up to a lot.

        Return what traded: nothing if the order does not rest. The trade is at the order's
        price, wherever the market stands.
        """
        order = self.exchange.open_order(order_id)
        if order is None:
            return 0
        market = self._markets[order.symbol]
        lots = -(-quantity // market.rules.lot)
        taken = lots * market.rules.lot or order.remaining
        traded = self.exchange.market_takes(order, taken, self._moment(market, time_ns))
        self._commit(time_ns)
        return traded

    def change_rules(self, rules: SymbolRules) -> None:
        """Let a symbol have other rules, until a restart. Resting orders stay as they are."""
        self.exchange.symbols[rules.symbol] = rules
        self._markets[rules.symbol].rules = rules

    def delist(self, symbol: str, time_ns: int) -> None:
        """End a symbol's open orders and forget its name, until a restart."""
        market = self._markets[symbol]
        self.change_rules(replace(market.rules, status="BREAK"))
        self.exchange.expire_open_orders(symbol, self._moment(market, time_ns))
        self._commit(time_ns)
        del self.exchange.symbols[symbol]

    def reset(self, time_ns: int) -> None:
        """Forget all orders, trades and lists; balances are as at the start.

        No order's end is told, and numbers go on: an id is not given out twice.
        """
        self._store.forget_history()
        self.exchange.reset(
            {self.account_ids[name]: balances for name, balances in self._accounts.items()}
        )
        self._commit(time_ns, is_step=True)

    # Look-ups.

    @property
    def is_market_over(self) -> bool:
        """Return whether a recorded market has come to its end."""
        return any(market.source.is_over for market in self._markets.values())

    @property
    def bar_in_play(self) -> dict[str, object] | None:
        """Return where a market that is played bar by bar stands, None for any other."""
        return None

    def source(self, symbol: str) -> PriceSource:
        """Return where the symbol's prices come from."""
        return self._markets[symbol].source

    def synthetic_market(self, symbol: str) -> SyntheticMarket | None:
        """Return the symbol's market if it is one that does what it is told."""
        source = self._markets[symbol].source
        return source if isinstance(source, SyntheticMarket) else None

    def quoting(self, symbol: str) -> Quoting:
        """Return what the symbol's market quotes around its price."""
        return self._markets[symbol].quoting

    def market_time_ms(self, symbol: str) -> int:
        """Return the market time of the symbol's newest point: what a trade now is stamped with."""
        return self._markets[symbol].time_ms

    def last_price(self, symbol: str) -> int:
        """Return the price the market stands at."""
        return self._markets[symbol].price

    def tape(self, symbol: str) -> list[TradePrint]:
        """Return the newest public trades, oldest first."""
        return list(self._markets[symbol].tape)

    def last_trade(self, symbol: str) -> TradePrint | None:
        """Return the newest public trade."""
        tape = self._markets[symbol].tape
        return tape[-1] if tape else None

    def candles(self, symbol: str) -> CandleSeries:
        """Return the symbol's candles in market time."""
        return self._markets[symbol].candles

    def update_id(self, symbol: str) -> int:
        """Return the number of the book's newest change."""
        return self._markets[symbol].update_id

    def order(
        self,
        account_id: int,
        symbol: str,
        *,
        order_id: int | None,
        client_order_id: str | None,
    ) -> Order | None:
        """Return an account's order by id, or the open one, else the newest one, by client id."""
        if order_id is not None:
            order = self.exchange.open_order(order_id)
            if order is not None and (order.account_id, order.symbol) == (account_id, symbol):
                return order
            return self._store.order(account_id, symbol, order_id)
        wanted = client_order_id or ""
        order = self.exchange.open_order_by_client_id(account_id, symbol, wanted)
        return order or self._store.order_by_client_id(account_id, symbol, wanted)

    @property
    def store(self) -> Store:
        """Return the store, for the history of orders and executions."""
        return self._store

    def average_price(self, symbol: str) -> int:
        """Return the volume-weighted price of the symbol's last five minutes."""
        market = self._markets[symbol]
        minutes = market.rules.average_price_minutes
        candles = market.candles.since(market.time_ms - minutes * 60_000)
        volume = sum(candle.volume for candle in candles)
        if volume == 0:
            return market.price
        return sum(candle.quote_volume for candle in candles) * ONE // volume

    def day(self, symbol: str, length_ms: int = _DAY_MS) -> DayStatistics:
        """Return the rolling statistics of the last 24 hours, or `length_ms`, of market time."""
        market = self._markets[symbol]
        closes_ms = market.time_ms
        opens_ms = closes_ms - length_ms
        candles = market.candles.since(opens_ms)
        if not candles:
            flat = Candle(closes_ms, market.price, market.price, market.price, market.price)
            return DayStatistics(flat, market.price, opens_ms, closes_ms)
        merged = candles[0].copy_at(opens_ms)
        for candle in candles[1:]:
            merged.merge(candle)
        return DayStatistics(merged, candles[0].open, opens_ms, closes_ms)

    # Start.

    def _load(self, state: VenueState | None, accounts: Mapping[str, Mapping[str, int]]) -> None:
        known = [] if state is None else self._store.account_ids()
        for account_id in known:
            self.exchange.restore(account_id, self._store.balances(account_id))
        for name, balances in accounts.items():
            if self.account_ids[name] not in known:
                self.exchange.open_account(self.account_ids[name], balances)
        if state is None:
            return
        self.exchange.next_order_id = state.next_order_id
        self.exchange.next_event_id = state.next_event_id
        self.exchange.next_trade_ids |= state.next_trade_ids
        self.exchange.next_prevented_match_id = state.next_prevented_match_id
        self.exchange.next_list_id = state.next_list_id

    def _prime(self) -> None:
        """Bring every market to its starting point; what it did until there is already done."""
        time_ns = self.clock.wire_start_ns
        for market in self._markets.values():
            for point in market.source.points(self.clock.market_start_ms):
                self._stand_at(market, point)
                market.candles.roll(point.time_ms)
                self._print(market, point.quantity, time_ns, buyer_is_maker=point.buyer_is_maker)
        # Only now: a stop must not be touched by what the market did before it was placed.
        self._restore_orders()
        for market in self._markets.values():
            self._move(market, time_ns)
        self._commit(time_ns, is_step=True)
        self.outbox.clear()

    def _restore_orders(self) -> None:
        for order_list in self._store.open_lists():
            self.exchange.restore_list(order_list)
        for order in sorted(self._store.open_orders(), key=lambda order: order.queue_number):
            self.exchange.restore_order(order)

    # The market's course.

    def _advance_market(self, market: _Market, market_ms: int, time_ns: int) -> bool:
        if not market.rules.is_trading:
            return self._skip(market, market_ms)
        count = 0
        for point in market.source.points(market_ms):
            self._roll(market, point.time_ms)
            self._stand_at(market, point)
            self._trade_at(market, point, time_ns)
            if self.exchange.has_due_orders:
                # They need somebody to trade with, and the market has withdrawn its quotes.
                self._requote(market)
                self._release_due_orders(market, time_ns)
            if self.exchange.has_account_changes:
                self._commit(time_ns)
            count += 1
            if count == _POINTS_PER_STEP_MAX:
                break
        if count or market.source.quoting != market.quoting:
            self._requote(market)
        is_up_to_date = count < _POINTS_PER_STEP_MAX
        if is_up_to_date:
            self._roll(market, market_ms)
        self.exchange.reference_prices[market.rules.symbol] = self.average_price(
            market.rules.symbol
        )
        return is_up_to_date

    def _skip(self, market: _Market, market_ms: int) -> bool:
        """Let time pass without trading: where the market is then, it goes on."""
        for _ in market.source.points(market_ms):
            pass
        self._roll(market, market_ms)
        return True

    def _stand_at(self, market: _Market, point: Point) -> None:
        # The tick may have been changed since the source was made.
        market.price = nearest_multiple(point.price, market.rules.tick)
        market.price_range = point.price_range
        market.time_ms = point.time_ms

    def _trade_at(self, market: _Market, point: Point, time_ns: int) -> None:
        """Let resting orders trade as the point says, and print what the market trades itself."""
        moment = self._moment(market, time_ns)
        symbol = market.rules.symbol
        left = point.quantity
        if not market.source.is_tape:
            self.exchange.market_moves(symbol, point.price, point.price_range, moment)
        elif left:
            left = self.exchange.market_trades(
                symbol,
                price=point.price,
                quantity=left,
                buyer_is_maker=point.buyer_is_maker,
                now=moment,
            )
        self._print(
            market,
            left,
            time_ns,
            buyer_is_maker=point.buyer_is_maker,
            volume=point.quantity,
        )

    def _move(self, market: _Market, time_ns: int) -> None:
        """Let the market trade with who is in its way at its price, and quote anew."""
        if not market.source.is_tape:
            self.exchange.market_moves(
                market.rules.symbol, market.price, market.price_range, self._moment(market, time_ns)
            )
        self._requote(market)
        self._release_due_orders(market, time_ns)

    def _refill(self, market: _Market, time_ns: int) -> None:
        """Bring back at once, not only with the next step, what large orders have eaten."""
        if self.exchange.books[market.rules.symbol].quote_count < QUOTE_LEVELS:
            self._move(market, time_ns)
            self._commit(time_ns)

    def _release_due_orders(self, market: _Market, time_ns: int) -> None:
        self.exchange.release_due_orders(self._moment(market, time_ns))

    def _requote(self, market: _Market) -> None:
        symbol = market.rules.symbol
        market.quoting = market.source.quoting
        self.exchange.set_halted(symbol, is_halted=market.quoting.is_halted)
        bids, asks = quotes_around(
            market.price,
            market.price_range,
            market.rules,
            market.profile,
            market.quoting,
            # On a tape the price may stand beyond an order that it has filled only in part.
            self.exchange.others_touch(symbol) if market.source.is_tape else (None, None),
        )
        self.exchange.market_quotes(symbol, bids, asks)

    def _roll(self, market: _Market, market_ms: int) -> None:
        candle = market.candles.roll(market_ms)
        if candle is not None:
            self._closed.append(CandleEvent(market.rules.symbol, candle))

    def _print(
        self,
        market: _Market,
        quantity: int,
        time_ns: int,
        *,
        buyer_is_maker: bool,
        volume: int | None = None,
    ) -> None:
        """Print a trade of the market's own, and count `volume`, by default as much, as traded."""
        symbol = market.rules.symbol
        if quantity > 0:
            self.exchange.market_prints(
                symbol,
                price=market.price,
                quantity=quantity,
                buyer_is_maker=buyer_is_maker,
                time_ns=time_ns,
            )
        volume = quantity if volume is None else volume
        market.candles.add(
            market.time_ms,
            price=market.price,
            quantity=volume,
            buyer_is_maker=buyer_is_maker,
            trade_id=self.exchange.next_trade_ids[symbol] - 1 if volume else -1,
        )

    # Committing and telling.

    def _commit(self, time_ns: int, *, is_step: bool = False) -> None:
        """Store what has changed, then put it into the outbox.

        Trade ids are part of the stored state, so no id that was streamed is given out again.
        """
        changes = self.exchange.take_changes()
        held_by = self.exchange.balances
        balances = [
            (account_id, asset, held_by[account_id][asset])
            for account_id, asset in changes.balances
        ]
        if changes.is_durable or changes.prints or is_step:
            self._store.save(changes, balances, self._state())
        # A closed bar comes before what happened in the next one.
        if self._closed:
            self.outbox += self._closed
            self._closed.clear()
        self.outbox += changes.events
        by_account: dict[int, list[tuple[str, int, int]]] = {}
        for account_id, asset, held in balances:
            by_account.setdefault(account_id, []).append((asset, held.free, held.locked))
        for account_id, touched in by_account.items():
            self.outbox.append(BalanceEvent(account_id, touched, time_ns))
        for trade in changes.prints:
            self._markets[trade.symbol].tape.append(trade)
        self.outbox += changes.prints
        for symbol in changes.books:
            self._tell_book(symbol)

    def _tell_book(self, symbol: str) -> None:
        market = self._markets[symbol]
        market.update_id += 1
        book = self.exchange.books[symbol]
        top = (book.best_bid(), book.best_ask())
        if self._told_tops.get(symbol) != top:
            self._told_tops[symbol] = top
            self.outbox.append(BookEvent(symbol, market.update_id, *top))

    def _state(self) -> VenueState:
        exchange = self.exchange
        return VenueState(
            market_name=self._market_name,
            market_time_ms=self._played_ms,
            offset_ms=self.offset_ms,
            prices={symbol: market.price for symbol, market in self._markets.items()},
            next_order_id=exchange.next_order_id,
            next_event_id=exchange.next_event_id,
            next_trade_ids=exchange.next_trade_ids,
            next_prevented_match_id=exchange.next_prevented_match_id,
            next_list_id=exchange.next_list_id,
        )

    def _moment(self, market: _Market, time_ns: int) -> Moment:
        return Moment(time_ns, market.time_ms)

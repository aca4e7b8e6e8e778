"""Keeps our books and the exchange's the same: at the start, after each gap, and all the time.

Two ways lead there. Each order that is not settled is looked up by itself. And the account as a
whole is audited: every trade is read by its id, whoever made it, and what the account holds is
compared with what all trades add up to. What no trade explains is an alarm; nothing is invented.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final
from weakref import WeakValueDictionary

import structlog

from bagbot.domain.clock import Clock
from bagbot.domain.errors import (
    AuthenticationError,
    ExchangeError,
    ExchangeUnavailableError,
    IllegalTransitionError,
    OrderNotFoundError,
    UnknownSymbolError,
)
from bagbot.domain.events import Cancelled, Expired, NotAccepted
from bagbot.domain.order import Order, OrderStatus
from bagbot.trading import order_tokens, reconciler
from bagbot.trading.account_book import AccountBook
from bagbot.trading.account_state import AccountState
from bagbot.trading.connectors.interface import ExchangeOrder, IExchangeConnector, Trade
from bagbot.trading.holdings import names_of
from bagbot.trading.journal_records import (
    BaselineTaken,
    ExternalFilled,
    ResidualFound,
    TradesCovered,
)
from bagbot.trading.order_lookup import OrderLookup
from bagbot.trading.submission import ExecutorSettings, OrderConflictError

logger = structlog.get_logger(__name__)

_NS: Final = 1_000_000_000
# A balance may lag behind its trade: only what stays the same so often is a residual.
CONFIRMATIONS: Final = 3
# So often the account may trade while it is read, until we say so and give up.
BEGINNINGS: Final = 10
_NOBODY: Final = ""
# A list of orders costs as much weight as asking for five of them.
_ORDERS_AT_ONCE_MIN: Final = 5
# Up to so many orders are asked for one by one.
ASKED_SINGLY: Final = 3
# How far back the history is read to find orders in doubt, and how far clocks may differ.
_HISTORY_MAX_MS: Final = 3_600_000
_CLOCKS_DIFFER_MS: Final = 1_000


class Reconciliation:
    """Asks the exchange, and takes what it says into the book.

    `symbols` are those whose trades are read by id; others join when somebody trades them on the
    account. `halt` is called when the exchange refuses the key, `cancel` takes back the token of an
    order in doubt.
    """

    def __init__(
        self,
        connector: IExchangeConnector,
        book: AccountBook,
        clock: Clock,
        settings: ExecutorSettings,
        *,
        halt: Callable[[str], None],
        cancel: Callable[[str], Awaitable[Order]],
    ) -> None:
        self.in_flight: set[str] = set()
        self.stream_is_open = False
        self._connector = connector
        self._capabilities = connector.capabilities
        self._book = book
        self._clock = clock
        self._settings = settings
        self._halt = halt
        self._cancel = cancel
        self._lookup = OrderLookup(
            connector,
            clock,
            settings,
            self.is_explained,
            lambda order: order_tokens.is_barred(self._state, order),
            lambda told: self._state.order_of(told) is not None,
        )
        # A lock is there as long as somebody holds it or waits for it.
        self._looking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._looked_up_ns: dict[str, int] = {}
        self._symbols: set[str] = set()
        self._auditing = asyncio.Lock()
        self._audited_ns = 0
        self._audit_at_ns = 0
        self._suspected: dict[str, Decimal] = {}
        self._suspected_rounds = 0
        self._suspected_since_ns = 0
        self._suspected_ns = 0
        self._suspected_at_start: frozenset[str] = frozenset()
        self._shouted: set[str] = set()
        self._unreadable: set[str] = set()

    @property
    def _state(self) -> AccountState:
        return self._book.state

    def watch(self, symbols: Iterable[str]) -> None:
        """Read the trades of these symbols by id from now on."""
        self._symbols.update(symbols)

    # ---------------------------------------------------------------- orders

    async def start(self) -> None:
        """Settle, and look at a mismatch until it is gone or certain: before anything is sent.

        Raises ExchangeError when the books cannot begin: they must do so before the first order.
        """
        for tried in range(1, BEGINNINGS + 1):
            if self._state.orders or self._state.holdings.baseline is not None:
                break
            try:
                is_explained = await self.is_explained()
            except TimeoutError as error:
                text = "no answer in time to what the account holds and has traded"
                raise ExchangeUnavailableError(text) from error
            if is_explained:
                break
            if tried == BEGINNINGS:
                raise ExchangeUnavailableError(
                    f"something else trades the account: what it holds changed each of the "
                    f"{tried} times it was read. Nothing was sent; start bagbot when it is quiet"
                )
        await self.settle()
        for _ in range(CONFIRMATIONS):
            if not self._suspected:
                return
            await asyncio.sleep(self._settings.probe_interval_s)
            await self._try_audit()
        self._suspected_at_start = frozenset(self._suspected)

    def suspicion(self, symbol: str) -> str | None:
        """Return why a symbol may only be reduced until a difference of the start is explained."""
        if self._suspected_at_start.isdisjoint(names_of(symbol)):
            return None
        return f"what the exchange holds of {symbol} differs from the books since the start"

    async def settle(self) -> None:
        """Ask about every order that is not settled, then about the account as a whole."""
        began_ns = self._clock.monotonic_ns()
        await self._try_see_many()
        for order_id in tuple(self._state.live):
            is_seen = self._looked_up_ns.get(order_id, -1) >= began_ns
            if order_id not in self.in_flight and not is_seen:
                await self.try_look_up(order_id)
        await self._try_audit()

    async def refresh(self, symbol: str) -> None:
        """Ask what became of a symbol's open orders, those in flight aside.

        Raises ExchangeError or TimeoutError.
        """
        if not any(self._of_symbol(order_id, symbol) for order_id in self._state.live):
            return
        seen: set[str] = set()
        if "fetch_open_orders" in self._capabilities:
            seen = await self._see_open_orders(symbol)
        for order_id in tuple(self._state.live):
            is_asked = self._of_symbol(order_id, symbol) and order_id not in self.in_flight
            if is_asked and order_id not in seen:
                await self.look_up(order_id)

    def _of_symbol(self, order_id: str, symbol: str) -> bool:
        return self._state.orders[order_id].intent.request.symbol == symbol

    async def _try_see_many(self) -> None:
        """Ask for all orders at once, where there are many: one by one takes too long."""
        if len(self._state.live) <= ASKED_SINGLY or not self._connector.trades_are_complete:
            return
        try:
            for symbol in self._watched():
                await self._see_open_orders(symbol)
                await self._see_history(symbol)
        except AuthenticationError as error:
            self._halt(str(error))
        except (ExchangeError, TimeoutError) as error:
            logger.warning("orders are asked for one by one", error=str(error))

    async def _see_history(self, symbol: str) -> None:
        """Find orders in doubt in the history since the first was sent, unless that is long ago.

        Those that are not there are looked up one by one, but later: nothing is proven by it.
        """
        doubtful = {
            order_id: min(send.timestamp_ms for send in order.sends.values())
            for order_id in self._state.live
            if (order := self._state.orders[order_id]).intent.request.symbol == symbol
            and order.status in (OrderStatus.UNKNOWN, OrderStatus.SUBMITTED)
        }
        since_ms = min(doubtful.values(), default=0) - _CLOCKS_DIFFER_MS
        age_ms = self._exchange_time_ns() // 1_000_000 - since_ms
        if len(doubtful) <= ASKED_SINGLY or age_ms > _HISTORY_MAX_MS:
            return
        async with asyncio.timeout(self._settings.pages_timeout_s):
            history = await self._connector.fetch_orders(symbol, since_ms=since_ms)
        for told in history:
            order_id = self._state.order_of(told)
            if order_id in self._state.live:
                await self._learn_listed(order_id, told)
        for order_id in doubtful:
            self._looked_up_ns[order_id] = self._clock.monotonic_ns()

    async def keep_looking(self) -> None:
        """Look up what is unknown often, what is open now and then; audit now and then."""
        while True:
            await asyncio.sleep(self._settings.probe_interval_s)
            # The audit first: it reads all that rests at once, which then need not be looked up.
            has_begun = self._state.holdings.baseline is not None
            if not has_begun or self._clock.monotonic_ns() >= self._audit_at_ns:
                await self._try_audit()
            for order_id in tuple(self._state.live):
                if order_id not in self.in_flight and self._is_due(order_id):
                    await self.try_look_up(order_id)

    def _is_due(self, order_id: str) -> bool:
        if self._state.orders[order_id].status in (OrderStatus.UNKNOWN, OrderStatus.SUBMITTED):
            return True
        settings = self._settings
        wait_s = settings.audit_interval_s if self.stream_is_open else settings.poll_interval_s
        seen_ns = self._looked_up_ns.get(order_id, 0)
        return self._clock.monotonic_ns() - seen_ns >= wait_s * _NS

    async def try_look_up(self, order_id: str) -> None:
        """Look one order up; what fails is tried again later."""
        try:
            await self.look_up(order_id)
        except AuthenticationError as error:
            self._halt(str(error))
        except (ExchangeError, TimeoutError) as error:
            logger.warning("look-up failed, tried again", order_id=order_id, error=str(error))

    async def look_up(self, order_id: str) -> None:
        """Ask for one order, one question at a time: the answers add up to a proof."""
        async with self._looking.setdefault(order_id, asyncio.Lock()):
            self._looked_up_ns[order_id] = self._clock.monotonic_ns()
            found = await self._lookup.ask(self._state.orders[order_id])
            if isinstance(found, ExchangeOrder):
                if await self.learn_told(order_id, found):
                    self._doubt_stream(order_id, found.exchange_time_ns)
            elif isinstance(found, reconciler.Contested):
                await self._shout(order_id, found)
            elif found is not None:
                await self._book.learn(order_id, [found])
            else:
                await self._take_token_back(order_id)

    async def write_off(self, order_id: str, words: str) -> None:
        """End an order that the exchange does not have, on the word of a human who has looked.

        It is asked for once more, and what the exchange tells of it is learned instead. Raises
        OrderConflictError while it may still arrive or is open, ExchangeError, TimeoutError.
        """
        async with self._looking.setdefault(order_id, asyncio.Lock()):
            order = self._state.orders[order_id]
            if order_id in self.in_flight or not self._lookup.is_past_fence(order):
                raise OrderConflictError(
                    f"order {order_id} may still arrive at the exchange: it is being looked up; "
                    f"wait until its time window is over by {self._settings.fence_margin_ms} ms"
                )
            try:
                told = await self._lookup.find_now(order)
            except UnknownSymbolError:
                # Gone with its symbol: nobody can be asked, and the human's word is all there is.
                told = None
            if told is not None:
                await self.learn_told(order_id, told)
                order = self._state.orders[order_id]
                if not order.is_final:
                    raise OrderConflictError(
                        f"the exchange has order {order_id}, as {order.status.value}: cancel it"
                    )
            # What came meanwhile is known better than by anybody's word.
            order, now_ns = self._state.orders[order_id], self._clock.time_ns()
            if order.is_final:
                return
            exchange_id = order.exchange_order_id
            await self._book.learn(
                order_id,
                [
                    NotAccepted(time_ns=now_ns, attempt=order.attempt, proof=words)
                    if exchange_id is None
                    else Cancelled(time_ns=now_ns, exchange_order_id=exchange_id, reason=words)
                ],
            )
            logger.warning("order ended by hand", order_id=order_id, words=words)

    async def _take_token_back(self, order_id: str) -> None:
        """Bar an order in doubt that was not found: without its token it cannot be executed."""
        order = self._state.orders[order_id]
        token = order_tokens.token_of(self._state, order)
        if token is not None and order.status is OrderStatus.UNKNOWN and not token.is_final:
            await self._cancel(token.id)

    async def _shout(self, order_id: str, found: reconciler.Contested) -> None:
        """Dispute what no further question can settle; once, so that a human can put it aside."""
        if order_id not in self._shouted:
            self._shouted.add(order_id)
            symbol = self._state.orders[order_id].intent.request.symbol
            await self._book.dispute(symbol, found.message, order_id=order_id)

    def _doubt_stream(self, order_id: str, exchange_time_ns: int) -> None:
        """Have the stream opened anew when it has kept something to itself: a staleness timer."""
        age_ns = self._exchange_time_ns() - exchange_time_ns
        if self.stream_is_open and age_ns > self._settings.stream_lag_max_s * _NS:
            logger.warning("the account stream did not tell; it is renewed", order_id=order_id)
            self._connector.renew_stream()

    async def learn_told(self, order_id: str, told: ExchangeOrder) -> bool:
        """Take in what the exchange says of an order, asking for its trades where some lack.

        Returns whether it was news.
        """
        order = self._state.orders[order_id]
        now_ns = self._clock.time_ns()
        self._looked_up_ns[order_id] = self._clock.monotonic_ns()
        try:
            events = reconciler.events_from(order, told, now_ns)
        except IllegalTransitionError as error:
            symbol = order.intent.request.symbol
            await self._book.dispute(symbol, str(error), order_id=order_id)
            return False
        # How it ended is learned last: an ended order is not asked about again.
        endings = [event for event in events if isinstance(event, Cancelled | Expired)]
        is_news = await self._book.learn(order_id, [e for e in events if e not in endings])
        order = self._state.orders[order_id]
        if reconciler.lacks_fills(order, told):
            is_news = await self._learn_trades(order, told) or is_news
            if reconciler.lacks_fills(self._state.orders[order_id], told):
                logger.warning("trades are not told yet", order_id=order_id, filled=told.filled)
                return is_news
        return await self._book.learn(order_id, endings) or is_news

    async def _learn_trades(self, order: Order, told: ExchangeOrder) -> bool:
        now_ns = self._clock.time_ns()
        if "fetch_my_trades" in self._capabilities:
            async with asyncio.timeout(self._settings.pages_timeout_s):
                trades = await self._connector.fetch_my_trades(
                    order.intent.request.symbol, order_id=told.id
                )
            events = reconciler.events_from_trades(order, trades, now_ns)
            return await self._book.learn(order.id, events)
        fill = reconciler.summed_fill(order, told)
        if fill is None:
            return False
        return await self._book.learn(order.id, [reconciler.filled(told.id, fill, now_ns)])

    async def hear(self, told: ExchangeOrder) -> None:
        """Take in an event of the account's stream, about an order of ours or somebody else's."""
        order_id = self._state.order_of(told)
        try:
            if order_id is not None:
                await self.learn_told(order_id, told)
            elif self._connector.trades_are_complete:
                await self._see_external(told)
                # Its trades are read by id, so that none is booked twice and none left out.
                self._audit_within(self._settings.poll_interval_s)
        except (ExchangeError, TimeoutError) as error:
            logger.warning("order is read again later", order_id=order_id, error=str(error))

    # ----------------------------------------------------------------- audit

    async def is_explained(self) -> bool:
        """Audit the account now; return whether every trade is booked and nothing is left over.

        Where the exchange's trades are not complete this cannot be asked, and is taken for granted.
        """
        return not self._connector.trades_are_complete or await self._audit()

    async def _try_audit(self) -> bool:
        try:
            return await self.is_explained()
        except AuthenticationError as error:
            self._halt(str(error))
        except (ExchangeError, TimeoutError) as error:
            logger.warning("audit failed, tried again", error=str(error))
        return False

    async def _audit(self) -> bool:
        async with self._auditing:
            self._audited_ns = self._clock.monotonic_ns()
            interval_ns = int(self._settings.audit_interval_s * _NS)
            self._audit_at_ns = self._audited_ns + interval_ns
            symbols = self._watched()
            if self._state.holdings.baseline is None:
                return await self._take_baseline(symbols)
            baseline = self._state.holdings.baseline
            told = await self._fetch_holdings(symbols)
            is_covered = True
            for symbol in symbols:
                is_covered = await self._cover(symbol, baseline) and is_covered
                await self._see_open_orders(symbol)
            return await self._compare(told, symbols, baseline) and is_covered

    async def _take_baseline(self, symbols: Sequence[str]) -> bool:
        """Begin the books: what the account holds now, while nothing trades."""
        exchange_time_ns = self._exchange_time_ns()
        booked = self._state.holdings.booked
        before = await self._fetch_holdings(symbols)
        newest: dict[str, str] = {}
        for symbol in symbols:
            trades = await self._fetch_trades(symbol, None)
            if not await self._find_own(trades):
                return False
            newest[symbol] = trades[-1].fill.trade_id if trades else ""
        after = await self._fetch_holdings(symbols)
        if after != before or self._state.holdings.booked != booked:
            return False
        await self._book.note(
            BaselineTaken(
                time_ns=self._clock.time_ns(),
                exchange_time_ns=exchange_time_ns,
                holdings=after,
                trades=newest,
            )
        )
        logger.info("the books begin", holdings={n: str(a) for n, a in after.items() if a})
        for symbol in symbols:
            await self._see_open_orders(symbol)
        return True

    async def _find_own(self, trades: Sequence[Trade]) -> bool:
        """Book what is ours among trades that the baseline will hold; False when it is not clear.

        Only an order that is not settled can lack a trade.
        """
        orders = (self._state.orders[order_id] for order_id in self._state.live)
        since_ns = [reconciler.sent_since_ns(order) for order in orders if order.sends]
        if not since_ns:
            return True
        for trade in trades:
            if trade.fill.exchange_time_ns >= min(since_ns):
                owner = await self._owner(trade)
                if owner is None:
                    return False
                await self._learn_trade(owner, trade)
        return True

    async def _cover(self, symbol: str, baseline: BaselineTaken) -> bool:
        """Book every trade since the newest one booked; return whether none was left out."""
        holdings = self._state.holdings
        # A human may close the books at any time, by turning the kill switch off.
        if holdings.baseline is not baseline:
            return False
        newest = holdings.covered.get(symbol)
        # Without any trade before the books began, all there are belong to them, page after page.
        trades = await self._fetch_trades(symbol, "0" if newest == "" else newest)
        if holdings.baseline is not baseline:
            return False
        if newest:
            if not trades or trades[0].fill.trade_id != newest:
                await self._book.dispute(
                    symbol,
                    f"the exchange no longer knows trade {newest} of {symbol}: it has lost its "
                    f"memory, or this is another account; nothing is changed here",
                )
                return False
            # The books began with both rows of a trade that the account made with itself.
            is_first = newest == baseline.trades.get(symbol)
            trades = [t for t in trades[1:] if not is_first or t.fill.trade_id != newest]
        elif newest is None:
            # A symbol that joined later: what happened before the books began is not theirs.
            began_ns = baseline.exchange_time_ns
            trades = [trade for trade in trades if trade.fill.exchange_time_ns > began_ns]
        await self._find_owners(symbol, trades)
        last, is_complete = newest, True
        # A trade may be told later than one that came after it: so long all are read again.
        lag_ns = int(self._settings.replica_lag_max_s * _NS)
        settled_ns = self._exchange_time_ns() - lag_ns
        for trade in trades:
            is_complete = await self._book_trade(trade) and is_complete
            if is_complete and trade.fill.exchange_time_ns <= settled_ns:
                last = trade.fill.trade_id
        if holdings.baseline is not baseline:
            return False
        if last and last != newest:
            now_ns = self._clock.time_ns()
            await self._book.note(TradesCovered(time_ns=now_ns, symbol=symbol, trade_id=last))
        return is_complete

    async def _find_owners(self, symbol: str, trades: Sequence[Trade]) -> None:
        """Ask for many orders at once when many trades are of orders that no id of ours names."""
        wanted = {
            trade.exchange_order_id: trade.fill.exchange_time_ns
            for trade in reversed(trades)
            if self._state.order_of_trade(trade) is None and not self._state.is_external(trade)
        }
        if len(wanted) < _ORDERS_AT_ONCE_MIN:
            return
        # What rested before the first of the trades is not among them, and is asked for by itself.
        since_ms = min(wanted.values()) // 1_000_000 - 1_000
        async with asyncio.timeout(self._settings.pages_timeout_s):
            orders = await self._connector.fetch_orders(symbol, since_ms=since_ms)
        for told in orders:
            if told.id in wanted:
                order_id = self._state.order_of(told)
                if order_id is None:
                    await self._see_external(told)
                else:
                    await self._learn_listed(order_id, told)

    async def _learn_listed(self, order_id: str, told: ExchangeOrder) -> None:
        own = reconciler.under_own_id(self._state.orders[order_id], told)
        await self.learn_told(order_id, own)

    async def _book_trade(self, trade: Trade) -> bool:
        """Book one trade with the order it belongs to; return False when that is not clear yet."""
        owner = await self._owner(trade)
        if owner is None:
            return False
        if owner:
            await self._learn_trade(owner, trade)
            return True
        fact = ExternalFilled(
            time_ns=self._clock.time_ns(),
            symbol=trade.symbol,
            side=trade.side,
            exchange_order_id=trade.exchange_order_id,
            fill=trade.fill,
        )
        if await self._book.note(fact):
            logger.warning(
                "a trade that is not ours",
                symbol=trade.symbol,
                side=trade.side.value,
                quantity=str(trade.fill.quantity),
                exchange_order_id=trade.exchange_order_id,
            )
        return True

    async def _owner(self, trade: Trade) -> str | None:
        """Return our id of the order a trade belongs to, "" for another's, None when not clear."""
        order_id = self._state.order_of_trade(trade)
        if order_id is not None:
            return order_id
        if self._state.is_external(trade):
            return _NOBODY
        # A trade names no client order id: only its order tells whose it is.
        try:
            async with asyncio.timeout(self._settings.read_timeout_s):
                told = await self._connector.fetch_order(trade.exchange_order_id, trade.symbol)
        except OrderNotFoundError:
            return None
        if told.id != trade.exchange_order_id:
            logger.warning("another order was told", asked=trade.exchange_order_id, told=told.id)
            return None
        order_id = self._state.order_of(told)
        if order_id is not None:
            await self.learn_told(order_id, told)
            # What contradicted our order has not made it the trade's.
            return self._state.order_of_trade(trade)
        return _NOBODY if await self._see_external(told) else None

    async def _learn_trade(self, owner: str, trade: Trade) -> None:
        if owner:
            order, now_ns = self._state.orders[owner], self._clock.time_ns()
            events = reconciler.events_from_trades(order, [trade], now_ns)
            if await self._book.learn(owner, events):
                self._doubt_stream(owner, trade.fill.exchange_time_ns)

    async def _see_external(self, told: ExchangeOrder) -> bool:
        """Take note of an order that no id of ours names; return False when it may be ours."""
        for order_id in self._state.live:
            order = self._state.orders[order_id]
            if reconciler.may_be(order, told):
                await self._shout(order_id, reconciler.contested(order, told))
                return False
        known = self._state.holdings.external_orders.get((told.symbol, told.id))
        fact = reconciler.external_order(told, self._clock.time_ns())
        if known is not None and known.is_open is fact.is_open:
            return True
        await self._book.note(fact)
        logger.info(
            "an order that is not ours",
            symbol=told.symbol,
            exchange_order_id=told.id,
            client_order_id=told.client_order_id,
            status=told.status.value,
        )
        if reconciler.bears_our_mark(told):
            await self._book.dispute(
                told.symbol,
                f"order {told.id} bears the mark of bagbot ({told.client_order_id}), and this "
                f"journal does not know it: another engine trades this account, or the journal "
                f"is not the newest",
            )
        return True

    async def _see_open_orders(self, symbol: str) -> set[str]:
        """Take in what rests, and return which orders of ours that is."""
        async with asyncio.timeout(self._settings.read_timeout_s):
            rests = await self._connector.fetch_open_orders(symbol)
        ours: set[str] = set()
        for told in rests:
            order_id = self._state.order_of(told)
            if order_id is None:
                await self._see_external(told)
                continue
            ours.add(order_id)
            if await self.learn_told(order_id, told):
                self._doubt_stream(order_id, told.exchange_time_ns)
        here = {told.id for told in rests}
        for (of, exchange_id), seen in tuple(self._state.holdings.external_orders.items()):
            if seen.is_open and of == symbol and exchange_id not in here:
                try:
                    async with asyncio.timeout(self._settings.read_timeout_s):
                        told = await self._connector.fetch_order(exchange_id, symbol)
                except OrderNotFoundError:
                    logger.warning("an external order is gone", exchange_order_id=exchange_id)
                    continue
                if told.id == exchange_id and self._state.order_of(told) is None:
                    await self._see_external(told)
        return ours

    async def _compare(
        self, told: Mapping[str, Decimal], symbols: Sequence[str], baseline: BaselineTaken
    ) -> bool:
        """Compare what is held with the books; a difference must stay the same to be believed."""
        holdings = self._state.holdings
        if holdings.baseline is not baseline:
            return False
        booked = holdings.booked
        found = holdings.unexplained(told, symbols)
        if found:
            again = await self._fetch_holdings(symbols)
            if holdings.baseline is not baseline:
                return False
            if again != told or holdings.booked != booked:
                # Something traded while the trades were read, which may be so in every round. If
                # what is held now is explained all is well; what is not may be explained next time.
                found = holdings.unexplained(again, symbols)
                if found:
                    self._suspected, self._suspected_rounds = {}, 0
                    self._audit_within(self._settings.poll_interval_s)
                    return False
        if not self._is_sure(found):
            lag_s = self._settings.replica_lag_max_s
            self._audit_within(max(self._settings.probe_interval_s, lag_s / 10))
            return False
        self._suspected_at_start = frozenset()
        await self._settle_residuals(found, baseline)
        return not found

    def _is_sure(self, found: dict[str, Decimal]) -> bool:
        """Whether nothing is left over, or the same in enough rounds and for long enough."""
        now_ns = self._clock.monotonic_ns()
        spacing_ns = int(self._settings.probe_interval_s * _NS) * 9 // 10
        if found != self._suspected:
            self._suspected, self._suspected_rounds = found, 1
            self._suspected_ns = self._suspected_since_ns = now_ns
        elif now_ns - self._suspected_ns >= spacing_ns:
            self._suspected_rounds += 1
            self._suspected_ns = now_ns
        lag_ns = int(self._settings.replica_lag_max_s * _NS)
        has_lasted = now_ns - self._suspected_since_ns >= lag_ns
        return not found or (self._suspected_rounds >= CONFIRMATIONS and has_lasted)

    async def _settle_residuals(
        self, found: Mapping[str, Decimal], baseline: BaselineTaken
    ) -> None:
        known = self._state.holdings.residuals
        for name in sorted(found.keys() | known.keys()):
            amount = found.get(name, Decimal(0))
            if known.get(name, Decimal(0)) == amount:
                continue
            if self._state.holdings.baseline is not baseline:
                return
            now_ns = self._clock.time_ns()
            await self._book.note(ResidualFound(time_ns=now_ns, name=name, amount=amount))
            if amount:
                logger.error(
                    "the exchange holds what no trade explains; only reducing is allowed now",
                    name=name,
                    residual=str(amount),
                )
            else:
                logger.info("a residual is explained", name=name)

    def _audit_within(self, wait_s: float) -> None:
        """Audit so long after the last audit, or sooner; each one costs weight."""
        self._audit_at_ns = min(self._audit_at_ns, self._audited_ns + int(wait_s * _NS))

    def _watched(self) -> list[str]:
        """Return whose trades are read: what is or was traded here, if the exchange still has it.

        What a symbol that it does not trade (any more) has moved is told as a residual.
        """
        seen = {symbol for symbol, _ in self._state.holdings.external_orders}
        wanted, traded = self._symbols | seen | self._state.symbols, self._connector.instruments
        for symbol in wanted - traded.keys() if traded else ():
            if symbol not in self._unreadable:
                self._unreadable.add(symbol)
                logger.warning("a symbol is not traded there, its trades go unread", symbol=symbol)
        return sorted(wanted & traded.keys() if traded else wanted)

    def _exchange_time_ns(self) -> int:
        stamp = self._connector.stamp()
        return stamp.get("timestamp", self._clock.time_ns() // 1_000_000) * 1_000_000

    async def _fetch_trades(self, symbol: str, from_trade_id: str | None) -> Sequence[Trade]:
        async with asyncio.timeout(self._settings.pages_timeout_s):
            return await self._connector.fetch_my_trades(symbol, from_trade_id=from_trade_id)

    async def _fetch_holdings(self, symbols: Sequence[str]) -> dict[str, Decimal]:
        """Return what is held: futures positions by symbol, or balances by asset."""
        async with asyncio.timeout(self._settings.read_timeout_s):
            if any(":" in symbol for symbol in symbols):
                positions = await self._connector.fetch_positions()
                return {position.symbol: position.quantity for position in positions}
            balances = await self._connector.fetch_balance()
            return {asset: balance.total for asset, balance in balances.items()}

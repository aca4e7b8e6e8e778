"""Bugs, planted one at a time into the engine in memory, which the simulation has to catch.

Each is a small change of the kind people make. plant.py plants them and counts.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import ROUND_UP, Decimal
from typing import Any, Final

import aiohttp
import ccxt

from bagbot.domain import order as order_module
from bagbot.domain.errors import (
    ExchangeUnavailableError,
    OrderRejectedError,
)
from bagbot.domain.events import (
    Cancelled,
    CancelRequested,
    Filled,
    NotAccepted,
    OutcomeUnknown,
    Rejected,
    Submitted,
)
from bagbot.domain.instrument import Instrument
from bagbot.domain.ledger import Ledger
from bagbot.domain.order import Order, OrderStatus, client_order_id
from bagbot.storage.journal import Record
from bagbot.tests.chaos.crashable_journal import CrashableJournal
from bagbot.tests.chaos.world import WatchedJournal
from bagbot.trading import order_lookup, reconciler
from bagbot.trading.account_book import AccountBook
from bagbot.trading.account_state import AccountState
from bagbot.trading.connectors import binance_connector, binance_messages
from bagbot.trading.connectors.binance_connector import BinanceConnector
from bagbot.trading.connectors.exchange_errors import Failure
from bagbot.trading.connectors.guarded_exchange import RateGate
from bagbot.trading.connectors.interface import ExchangeOrder, ExchangeOrderStatus
from bagbot.trading.order_executor import OrderExecutor
from bagbot.trading.order_lookup import OrderLookup
from bagbot.trading.reconciliation import Reconciliation

Plant = Callable[[], None]
PLANTED: Final[dict[str, Plant]] = {}


def planted(name: str) -> Callable[[Plant], Plant]:
    """Put a bug on the list."""

    def add(plant: Plant) -> Plant:
        assert name not in PLANTED, name
        PLANTED[name] = plant
        return plant

    return add


def change(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace a method or function by what `make` makes of it."""
    setattr(owner, name, make(getattr(owner, name)))


def executor_known() -> None:
    """Let the executor's parts know it, for bugs that send from where it cannot be done."""

    def make(begin: Any) -> Any:
        def tells(self: Any, **given: Any) -> None:
            begin(self, **given)
            self._book.executor = self._reconciliation.executor = self

        return tells

    change(OrderExecutor, "__init__", make)


# ---------------------------------------------------------------- sending


@planted("blind retry with the same id")
def _() -> None:
    def make(send: Any) -> Any:
        async def again(self: Any, request: Any, prepared: Any) -> Any:
            told = await send(self, request, prepared)
            if isinstance(told, OutcomeUnknown):
                return await send(self, request, self._prepared(request))
            return told

        return again

    change(OrderExecutor, "_send", make)


@planted("blind retry with a new id")
def _() -> None:
    def make(send: Any) -> Any:
        async def again(self: Any, request: Any, prepared: Any) -> Any:
            told = await send(self, request, prepared)
            if isinstance(told, OutcomeUnknown):
                anew = replace(request, client_order_id=f"{request.client_order_id}r")
                return await send(self, anew, self._prepared(anew))
            return told

        return again

    change(OrderExecutor, "_send", make)


def _second_attempts(*, number_in_id: int, waits_for_proof: bool) -> None:
    """Let the engine send a second attempt by itself, recorded as it should be."""
    trigger = NotAccepted if waits_for_proof else OutcomeUnknown

    def make(learn: Any) -> Any:
        async def and_send(self: Any, order_id: str, events: Any) -> bool:
            is_news = bool(await learn(self, order_id, events))
            if not any(isinstance(e, trigger) for e in events):
                return is_news
            order, executor = self.state.orders[order_id], self.executor
            if order.attempt or not order.sends:
                return is_news
            stamp, request = executor._connector.stamp(), order.intent.request
            name = client_order_id(executor.account, request.symbol, order_id, number_in_id)
            send = Submitted(
                time_ns=self._clock.time_ns(),
                client_order_id=name,
                timestamp_ms=stamp["timestamp"],
                recv_window_ms=stamp["recvWindow"],
                attempt=1,
            )
            await learn(self, order_id, [send])
            anew = replace(request, client_order_id=name, params={**request.params, **stamp})
            told = await executor._send(anew, executor._prepared(anew))
            if isinstance(told, ExchangeOrder):
                await executor._reconciliation.learn_told(order_id, told)
            else:
                await learn(self, order_id, [replace(told, attempt=1)])
            return True

        return and_send

    executor_known()
    change(AccountBook, "learn", make)


@planted("id without the attempt")
def _() -> None:
    _second_attempts(number_in_id=0, waits_for_proof=True)


@planted("a new attempt while the first may live")
def _() -> None:
    _second_attempts(number_in_id=1, waits_for_proof=False)


@planted("risk skipped on a new attempt")
def _() -> None:
    _second_attempts(number_in_id=1, waits_for_proof=True)


@planted("sent before INTENT and SEND are durable")
def _() -> None:
    async def at_once(self: Any, written: Any, known: Any) -> bool:
        return True

    OrderExecutor._is_durable = at_once  # type: ignore[method-assign]


def _delayed(kinds: frozenset[str]) -> None:
    def make(append: Any) -> Any:
        def later(self: Any, records: Sequence[Record]) -> Any:
            now = [record for record in records if record.kind not in kinds]
            rest = [record for record in records if record.kind in kinds]
            if not rest or (not now and "INTENT" not in kinds):
                return append(self, records)
            loop = asyncio.get_running_loop()
            loop.call_later(0.05, lambda: append(self, rest))
            if now:
                return append(self, now)
            done = loop.create_future()
            done.set_result(None)
            return done

        return later

    change(WatchedJournal, "append", make)


@planted("INTENT after the send")
def _() -> None:
    _delayed(frozenset({"INTENT", "SEND"}))


@planted("SEND after the send")
def _() -> None:
    _delayed(frozenset({"SEND"}))


@planted("fsync removed")
def _() -> None:
    def make(append: Any) -> Any:
        def at_once(self: Any, records: Sequence[Record]) -> Any:
            append(self, records)
            done = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done

        return at_once

    change(CrashableJournal, "append", make)


@planted("told before it is durable")
def _() -> None:
    def make(carry: Any) -> Any:
        async def told_first(
            self: Any, known: Any, entries: Any, written: Any, request: Any
        ) -> None:
            self._tell(known, ())
            await carry(self, known, entries, written, request)

        return told_first

    change(OrderExecutor, "_carry_out", make)


@planted("stamped anew at sending")
def _() -> None:
    def make(fields_of: Any) -> Any:
        def anew(self: Any, request: Any, instrument: Any) -> Any:
            fields = fields_of(self, request, instrument)
            return {**fields, "timestamp": fields["timestamp"] + 1}

        return anew

    change(BinanceConnector, "_order_fields", make)


@planted("another recvWindow than recorded")
def _() -> None:
    def make(fields_of: Any) -> Any:
        def wider(self: Any, request: Any, instrument: Any) -> Any:
            return {**fields_of(self, request, instrument), "recvWindow": 60_000}

        return wider

    change(BinanceConnector, "_order_fields", make)


@planted("an id of the connector's own")
def _() -> None:
    def make(fields_of: Any) -> Any:
        def own(self: Any, request: Any, instrument: Any) -> Any:
            fields = fields_of(self, request, instrument)
            return {**fields, "newClientOrderId": f"bb{fields['timestamp']}"}

        return own

    change(BinanceConnector, "_order_fields", make)


@planted("time in force forgotten")
def _() -> None:
    def make(fields_of: Any) -> Any:
        def plain(self: Any, request: Any, instrument: Any) -> Any:
            fields = fields_of(self, request, instrument)
            return {**fields, "timeInForce": "GTC"} if "timeInForce" in fields else fields

        return plain

    change(BinanceConnector, "_order_fields", make)


@planted("float rounding of an amount")
def _() -> None:
    def floored(self: Instrument, quantity: Decimal) -> Decimal:
        lots = int(float(quantity) / float(self.lot_size))
        return lots * self.lot_size

    Instrument.round_quantity_down = floored  # type: ignore[method-assign]


@planted("amount rounded up")
def _() -> None:
    def upwards(self: Instrument, quantity: Decimal) -> Decimal:
        return (quantity / self.lot_size).to_integral_value(ROUND_UP) * self.lot_size

    Instrument.round_quantity_down = upwards  # type: ignore[method-assign]


# ------------------------------------------------------- what an answer means


def _as(kind: type[Exception], fits: Callable[[Failure], bool]) -> None:
    def make(classify: Any) -> Any:
        def wrongly(failure: Failure, *, is_futures: bool) -> Any:
            if failure.is_write and fits(failure):
                return kind
            return classify(failure, is_futures=is_futures)

        return wrongly

    change(binance_connector, "classify", make)


@planted("-1007 taken as a reject")
def _() -> None:
    _as(OrderRejectedError, lambda failure: failure.code == -1007)


@planted("-1006 taken as a reject")
def _() -> None:
    _as(OrderRejectedError, lambda failure: failure.code == -1006)


@planted("-1001 taken as a reject")
def _() -> None:
    _as(OrderRejectedError, lambda failure: failure.code == -1001)


@planted("503 taken as a reject")
def _() -> None:
    _as(OrderRejectedError, lambda failure: failure.http_status == 503)


@planted("408 taken as a reject")
def _() -> None:
    _as(OrderRejectedError, lambda failure: failure.http_status == 408)


@planted("5xx taken as certainly not accepted")
def _() -> None:
    _as(ExchangeUnavailableError, lambda failure: (failure.http_status or 0) >= 500)


@planted("'Service Unavailable.' believed on spot")
def _() -> None:
    def believes(failure: Failure) -> bool:
        return failure.http_status == 503 and failure.words.startswith("Service Unavailable")

    _as(ExchangeUnavailableError, believes)


@planted("reset taken as a reject")
def _() -> None:
    def is_reset(failure: Failure) -> bool:
        cause = getattr(failure.ccxt_error, "__cause__", None)
        return isinstance(cause, aiohttp.ServerDisconnectedError)

    _as(OrderRejectedError, is_reset)


@planted("timeout taken as a reject")
def _() -> None:
    _as(OrderRejectedError, lambda failure: isinstance(failure.ccxt_error, ccxt.RequestTimeout))

    def make(send: Any) -> Any:
        async def wrongly(self: Any, request: Any, prepared: Any) -> Any:
            told = await send(self, request, prepared)
            if isinstance(told, OutcomeUnknown) and told.reason == "TimeoutError":
                return Rejected(time_ns=told.time_ns, reason="no answer")
            return told

        return wrongly

    change(OrderExecutor, "_send", make)


@planted("unreadable answer taken as a reject")
def _() -> None:
    _as(OrderRejectedError, lambda failure: failure.http_status is None and failure.was_sent)


@planted("'Duplicate order' taken as a reject")
def _() -> None:
    _as(OrderRejectedError, lambda failure: "duplicate order" in failure.words.lower())


@planted("every unknown taken as a reject")
def _() -> None:
    def make(send: Any) -> Any:
        async def wrongly(self: Any, request: Any, prepared: Any) -> Any:
            told = await send(self, request, prepared)
            if isinstance(told, OutcomeUnknown):
                return Rejected(time_ns=told.time_ns, reason=told.reason)
            return told

        return wrongly

    change(OrderExecutor, "_send", make)


@planted("Retry-After ignored")
def _() -> None:
    RateGate.close_for = lambda self, wait_s: None  # type: ignore[method-assign]


@planted("unknown order on a cancel taken as cancelled")
def _() -> None:
    def make(look_up: Any) -> Any:
        async def wrongly(self: Any, order_id: str) -> None:
            order = self._state.orders[order_id]
            if order.cancel_ids and order.exchange_order_id and not order.is_final:
                now_ns = self._clock.time_ns()
                await self._book.learn(
                    order_id,
                    [Cancelled(time_ns=now_ns, exchange_order_id=order.exchange_order_id)],
                )
                return
            await look_up(self, order_id)

        return wrongly

    change(Reconciliation, "look_up", make)


# ----------------------------------------------------------- proof of absence


@planted("-2013 taken as proof at once")
def _() -> None:
    async def at_once(self: Any, order: Order) -> Any:
        return NotAccepted(time_ns=self._clock.time_ns(), attempt=order.attempt, proof="-2013")

    OrderLookup._weigh_absence = at_once  # type: ignore[method-assign]


@planted("fence shortened to the time window")
def _() -> None:
    def make(is_past: Any) -> Any:
        return lambda order, now_ms, margin_ms: is_past(order, now_ms, 0)

    change(reconciler, "is_past_fence", make)


@planted("no fence")
def _() -> None:
    reconciler.is_past_fence = lambda *_: True  # type: ignore[assignment]


@planted("history not asked")
def _() -> None:
    reconciler.Absence.is_complete = property(  # type: ignore[assignment,method-assign]
        lambda self: self.queries >= reconciler.ABSENCES_NEEDED
    )
    OrderLookup._search_for = _finds_nothing  # type: ignore[method-assign]


async def _finds_nothing(self: Any, order: Order, absence: Any) -> None:
    return None


@planted("a search for another order, begun too early, taken as proof")
def _() -> None:
    order_lookup._Search.is_of_use = lambda self, absence: True  # type: ignore[method-assign]


@planted("orders in doubt that one read of the history omits taken as not accepted")
def _() -> None:
    def make(see: Any) -> Any:
        async def hasty(self: Any, symbol: str) -> None:
            await see(self, symbol)
            for order_id in tuple(self._state.live):
                order = self._state.orders[order_id]
                if order.status is OrderStatus.UNKNOWN:
                    now_ns = self._clock.time_ns()
                    gone = NotAccepted(time_ns=now_ns, attempt=order.attempt, proof="history")
                    await self._book.learn(order_id, [gone])

        return hasty

    change(Reconciliation, "_see_history", make)


@planted("an order that a cancel has renamed is taken for none of ours")
def _() -> None:
    reconciler.may_be = lambda order, told: False


@planted("gap not paged: only the first page of the orders")
def _() -> None:
    def make(fetch: Any) -> Any:
        async def first_page(self: Any, symbol: str, *, since_ms: int | None = None) -> Any:
            return (await fetch(self, symbol, since_ms=since_ms))[: binance_connector._PAGE]

        return first_page

    change(BinanceConnector, "fetch_orders", make)


@planted("page boundary of the orders off by one")
def _() -> None:
    def make(fetch: Any) -> Any:
        async def skipping(self: Any, symbol: str, *, since_ms: int | None = None) -> Any:
            size = binance_connector._PAGE
            found = await fetch(self, symbol, since_ms=since_ms)
            return [each for place, each in enumerate(found) if not place or place % size]

        return skipping

    change(BinanceConnector, "fetch_orders", make)


@planted("trades not paged")
def _() -> None:
    def make(fetch: Any) -> Any:
        async def first_page(self: Any, symbol: str, **which: Any) -> Any:
            return (await fetch(self, symbol, **which))[: binance_connector._PAGE]

        return first_page

    change(BinanceConnector, "fetch_my_trades", make)


@planted("page boundary of the trades off by one")
def _() -> None:
    def make(fetch: Any) -> Any:
        async def skipping(self: Any, symbol: str, **which: Any) -> Any:
            size = binance_connector._PAGE
            found = await fetch(self, symbol, **which)
            return [each for place, each in enumerate(found) if not place or place % size]

        return skipping

    change(BinanceConnector, "fetch_my_trades", make)


# ------------------------------------------------------------------- learning


@planted("duplicates by trade id not dropped")
def _() -> None:
    order_module._is_known_fill = lambda order, event: False


@planted("duplicates by trade id dropped only until a restart")
def _() -> None:
    def make(fold: Any) -> Any:
        def forgetful(self: Any, record: Record) -> None:
            if record.kind != "FILLED":
                fold(self, record)

        return forgetful

    change(AccountState, "take_in", make)


@planted("c and C swapped")
def _() -> None:
    def make(read: Any) -> Any:
        def swapped(report: Any, event: Any, symbols: Any) -> ExchangeOrder:
            return replace(read(report, event, symbols), client_order_id=report["c"])

        return swapped

    change(binance_messages, "_order_from_report", make)


@planted("a cancel ends an order before its fills are known")
def _() -> None:
    reconciler.lacks_fills = lambda order, told: False


@planted("late fill after a cancel ignored")
def _() -> None:
    # The engine waits for the fills before it learns of an end; without that they come late.
    reconciler.lacks_fills = lambda order, told: False
    _ignore_fills_of({OrderStatus.CANCELLED, OrderStatus.EXPIRED})


@planted("late fill after a reject ignored")
def _() -> None:
    _as(OrderRejectedError, lambda failure: failure.code == -1007)
    _ignore_fills_of({OrderStatus.REJECTED, OrderStatus.NOT_ACCEPTED})


def _ignore_fills_of(statuses: set[OrderStatus]) -> None:
    def make(learn: Any) -> Any:
        def deaf(self: Any, order_id: str, event: Any) -> bool:
            if isinstance(event, Filled) and self.orders[order_id].status in statuses:
                return False
            return bool(learn(self, order_id, event))

        return deaf

    change(AccountState, "learn", make)


@planted("partial fills not summed")
def _() -> None:
    def last(self: Order) -> None:
        quantities = [Decimal(0), *(fill.quantity for fill in self.fills.values())]
        object.__setattr__(self, "filled", quantities[-1])

    Order.__post_init__ = last  # type: ignore[method-assign]


@planted("the total taken for the last fill")
def _() -> None:
    def make(read: Any) -> Any:
        def whole(report: Any, time_ns: int) -> Any:
            return replace(read(report, time_ns), quantity=Decimal(report["z"]))

        return whole

    change(binance_messages, "_streamed_fill", make)


@planted("the order's price taken for the trade's")
def _() -> None:
    def make(read: Any) -> Any:
        def limit(report: Any, time_ns: int) -> Any:
            return replace(read(report, time_ns), price=Decimal(report["p"]))

        return limit

    change(binance_messages, "_streamed_fill", make)


@planted("fees forgotten in the position")
def _() -> None:
    def make(book: Any) -> Any:
        def without(self: Any, *, fill: Any, **rest: Any) -> bool:
            return bool(book(self, fill=replace(fill, fee=Decimal(0)), **rest))

        return without

    change(Ledger, "book", make)


@planted("expired taken as cancelled")
def _() -> None:
    binance_messages._STATUS["EXPIRED"] = ExchangeOrderStatus.CANCELED


@planted("cancel taken as done when only asked")
def _() -> None:
    def make(learn: Any) -> Any:
        async def eager(self: Any, order_id: str, events: Any) -> bool:
            exchange_id = self.state.orders[order_id].exchange_order_id
            if any(isinstance(e, CancelRequested) for e in events) and exchange_id:
                now_ns = self._clock.time_ns()
                events = [*events, Cancelled(time_ns=now_ns, exchange_order_id=exchange_id)]
            return bool(await learn(self, order_id, events))

        return eager

    change(AccountBook, "learn", make)


@planted("stream events during the snapshot lost, and no audit")
def _() -> None:
    def reconcile(run: Any) -> Any:
        async def deaf(self: Any) -> None:
            await run(self)
            waiting = self.executor._events
            while not waiting.empty():
                waiting.get_nowait()

        return deaf

    executor_known()
    change(Reconciliation, "settle", reconcile)
    _no_audit()


@planted("the stream trusted blindly: no audit")
def _() -> None:
    _no_audit()


def _no_audit() -> None:
    def make(is_due: Any) -> Any:
        def trusting(self: Any, order_id: str) -> bool:
            if self._state.orders[order_id].exchange_order_id and self.stream_is_open:
                return False
            return bool(is_due(self, order_id))

        return trusting

    def audit(run: Any) -> Any:
        async def trusting(self: Any) -> bool:
            return self.stream_is_open or bool(await run(self))

        return trusting

    change(Reconciliation, "_is_due", make)
    change(Reconciliation, "_try_audit", audit)


@planted("an unknown order is dropped")
def _() -> None:
    def make(learn: Any) -> Any:
        def careless(self: Any, order_id: str, event: Any) -> bool:
            is_news = bool(learn(self, order_id, event))
            if isinstance(event, OutcomeUnknown):
                self.live.pop(order_id, None)
            return is_news

        return careless

    change(AccountState, "learn", make)

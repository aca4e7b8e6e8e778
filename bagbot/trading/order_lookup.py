"""Asks the exchange what became of one order, and weighs it when there is no trace of it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from bagbot.domain.clock import Clock
from bagbot.domain.errors import OrderNotFoundError
from bagbot.domain.events import NotAccepted
from bagbot.domain.order import Order, OrderStatus
from bagbot.trading import reconciler
from bagbot.trading.connectors.interface import ExchangeOrder, IExchangeConnector
from bagbot.trading.submission import ExecutorSettings

logger = structlog.get_logger(__name__)

_NS: Final = 1_000_000_000


class OrderLookup:
    """The questions about each order, and what absence they have shown so far.

    `is_explained` reads all trades by id and says whether they explain what the account holds;
    `is_barred` says of an order that it can't be executed any more, whenever it arrives;
    `is_known` says that what the exchange tells of is an order of ours that it has told of before.
    """

    def __init__(
        self,
        connector: IExchangeConnector,
        clock: Clock,
        settings: ExecutorSettings,
        is_explained: Callable[[], Awaitable[bool]],
        is_barred: Callable[[Order], bool],
        is_known: Callable[[ExchangeOrder], bool],
    ) -> None:
        self._connector = connector
        self._capabilities = connector.capabilities
        self._clock = clock
        self._settings = settings
        self._is_explained = is_explained
        self._is_barred = is_barred
        self._is_known = is_known
        self._absences: dict[str, reconciler.Absence] = {}
        self._searches: dict[str, _Search] = {}
        self._barred_ns: dict[str, int] = {}

    async def ask(self, order: Order) -> ExchangeOrder | NotAccepted | reconciler.Contested | None:
        """Return the order as the exchange has it, the proof that it never had it, or None.

        None: it is not to be found, and that proves nothing yet. Contested: no further question
        can settle it. Raises ExchangeError or
        TimeoutError when the question itself failed.
        """
        if "fetch_order" not in self._capabilities:
            if order.status is OrderStatus.UNKNOWN:
                logger.error("cannot look up; a human must", client_order_id=order.client_order_id)
            return None
        try:
            async with asyncio.timeout(self._settings.read_timeout_s):
                told = await self._connector.fetch_order(
                    order.exchange_order_id,
                    order.intent.request.symbol,
                    client_order_id=order.client_order_id,
                )
        except OrderNotFoundError:
            return await self._weigh_absence(order)
        self._forget(order.id)
        return told

    def is_past_fence(self, order: Order) -> bool:
        """Return whether an order that was sent, if it has not arrived by now, never will."""
        now_ms = self._connector.stamp().get("timestamp", self._clock.time_ns() // 1_000_000)
        return reconciler.is_past_fence(order, now_ms, self._settings.fence_margin_ms)

    async def find_now(self, order: Order) -> ExchangeOrder | None:
        """Return what the exchange tells of an order at this moment, or None: that proves nothing.

        Raises ExchangeError or TimeoutError when the question itself failed.
        """
        symbol = order.intent.request.symbol
        ids = {send.client_order_id for send in order.sends.values()}
        async with asyncio.timeout(self._settings.read_timeout_s):
            if "fetch_order" in self._capabilities:
                with suppress(OrderNotFoundError):
                    return await self._connector.fetch_order(
                        order.exchange_order_id, symbol, client_order_id=order.client_order_id
                    )
            if "fetch_open_orders" in self._capabilities:
                for told in await self._connector.fetch_open_orders(symbol):
                    if told.id == order.exchange_order_id or told.client_order_id in ids:
                        return told
        return None

    async def _weigh_absence(
        self, order: Order
    ) -> ExchangeOrder | NotAccepted | reconciler.Contested | None:
        """Collect, one question at a time, what together proves that an order never arrived."""
        if not self.is_past_fence(order) and not self._has_long_been_barred(order):
            return None
        since_ms = order.sends[order.attempt].timestamp_ms - self._settings.fence_margin_ms
        absence = self._absences.setdefault(order.id, reconciler.Absence(since_ms=since_ms))
        spacing_ns = int(self._settings.probe_interval_s * _NS)
        is_new = absence.note(self._clock.monotonic_ns(), spacing_ns)
        if order.exchange_order_id is not None:
            is_sure = absence.queries >= reconciler.ABSENCES_NEEDED
            return reconciler.forgotten(order) if is_sure else None
        if is_new and absence.sufficed_ns is not None:
            search = await self._search_for(order, absence)
            if search is not None:
                found = reconciler.found_among(search.candidates, order, self._is_known)
                if found is not None:
                    return found
                absence.in_open_orders &= not search.has_open_orders
                absence.in_history &= not search.has_history
                absence.in_trades = not search.is_explained
        verdict = reconciler.not_accepted(order, absence, self._clock.time_ns())
        if verdict is not None:
            self._forget(order.id)
        return verdict

    def _forget(self, order_id: str) -> None:
        self._absences.pop(order_id, None)
        self._barred_ns.pop(order_id, None)

    def _has_long_been_barred(self, order: Order) -> bool:
        """Whether nothing can execute the order any more, and whoever answers would know if it was.

        Its token may be gone because the order has replaced it, and a replica not know of it yet.
        """
        if not self._is_barred(order):
            return False
        now_ns = self._clock.monotonic_ns()
        barred_ns = self._barred_ns.setdefault(order.id, now_ns)
        return now_ns - barred_ns > self._settings.replica_lag_max_s * _NS

    async def _search_for(self, order: Order, absence: reconciler.Absence) -> "_Search | None":
        """Return a search that can tell of the order, or None while none may be made.

        A search costs some fifty times what a query does, and tells of all orders in doubt that
        were asked for often enough before it began: so one is made for all of them.
        """
        symbol, now_ns = order.intent.request.symbol, self._clock.monotonic_ns()
        last = self._searches.get(symbol)
        if last is not None and last.is_of_use(absence):
            if last.is_explained or not absence.is_time_to_search:
                return last
        elif not absence.is_time_to_search:
            return None
        self._searches[symbol] = await self._search(symbol, now_ns)
        return self._searches[symbol]

    async def _search(self, symbol: str, begun_ns: int) -> "_Search":
        """Read what is open, the history since the oldest order in doubt was sent, the trades."""
        search = _Search(begun_ns, min(each.since_ms for each in self._absences.values()))
        async with asyncio.timeout(self._settings.pages_timeout_s):
            if "fetch_open_orders" in self._capabilities:
                search.candidates += await self._connector.fetch_open_orders(symbol)
                search.has_open_orders = True
            if "fetch_orders" in self._capabilities:
                search.candidates += await self._connector.fetch_orders(
                    symbol, since_ms=search.since_ms
                )
                search.has_history = True
        search.is_explained = await self._is_explained()
        return search


@dataclass(slots=True)
class _Search:
    """What one look into all other places has shown; `begun_ns` is monotonic."""

    begun_ns: int
    since_ms: int
    candidates: list[ExchangeOrder] = field(default_factory=list)
    has_open_orders: bool = False
    has_history: bool = False
    is_explained: bool = False

    def is_of_use(self, absence: reconciler.Absence) -> bool:
        """Whether it began after enough queries in vain, and goes back far enough."""
        sufficed_ns = absence.sufficed_ns
        return (
            sufficed_ns is not None
            and self.begun_ns > sufficed_ns
            and self.since_ms <= absence.since_ms
        )

"""Asks the exchange what became of one order, and weighs it when there is no trace of it."""

import asyncio
from collections.abc import Awaitable, Callable
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
    `is_barred` says of an order that it can't be executed any more, whenever it arrives.
    """

    def __init__(
        self,
        connector: IExchangeConnector,
        clock: Clock,
        settings: ExecutorSettings,
        is_explained: Callable[[], Awaitable[bool]],
        is_barred: Callable[[Order], bool],
    ) -> None:
        self._connector = connector
        self._capabilities = connector.capabilities
        self._clock = clock
        self._settings = settings
        self._is_explained = is_explained
        self._is_barred = is_barred
        self._absences: dict[str, reconciler.Absence] = {}

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
        self._absences.pop(order.id, None)
        return told

    async def _weigh_absence(
        self, order: Order
    ) -> ExchangeOrder | NotAccepted | reconciler.Contested | None:
        """Collect, one question at a time, what together proves that an order never arrived."""
        now_ms = self._connector.stamp().get("timestamp", self._clock.time_ns() // 1_000_000)
        is_past_fence = reconciler.is_past_fence(order, now_ms, self._settings.fence_margin_ms)
        if not is_past_fence and not self._is_barred(order):
            return None
        absence = self._absences.setdefault(order.id, reconciler.Absence())
        spacing_ns = int(self._settings.probe_interval_s * _NS)
        is_new = absence.note(self._clock.monotonic_ns(), spacing_ns)
        if order.exchange_order_id is not None:
            is_sure = absence.queries >= reconciler.ABSENCES_NEEDED
            return reconciler.forgotten(order) if is_sure else None
        # A search costs some thirty times what a query does.
        if is_new and absence.is_time_to_search:
            found = await self._search(order, absence)
            if found is not None:
                return found
        verdict = reconciler.not_accepted(order, absence, self._clock.time_ns())
        if verdict is not None:
            self._absences.pop(order.id, None)
        return verdict

    async def _search(
        self, order: Order, absence: reconciler.Absence
    ) -> ExchangeOrder | reconciler.Contested | None:
        """Look for the order among the open ones, in the history since it was sent, in trades."""
        symbol, send = order.intent.request.symbol, order.sends[order.attempt]
        candidates: list[ExchangeOrder] = []
        async with asyncio.timeout(self._settings.read_timeout_s):
            if "fetch_open_orders" in self._capabilities:
                candidates += await self._connector.fetch_open_orders(symbol)
                absence.in_open_orders = False
            if "fetch_orders" in self._capabilities:
                since_ms = send.timestamp_ms - self._settings.fence_margin_ms
                candidates += await self._connector.fetch_orders(symbol, since_ms=since_ms)
                absence.in_history = False
        for told in candidates:
            if told.client_order_id == send.client_order_id:
                return told
        for told in candidates:
            if reconciler.may_be(order, told):
                return reconciler.contested(order, told)
        absence.in_trades = not await self._is_explained()
        return None

"""What one account has done and decided: the fold of its journal, in memory."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from bagbot.domain.events import Filled, OrderEvent, Submitted
from bagbot.domain.instrument import Side
from bagbot.domain.ledger import Ledger
from bagbot.domain.order import Order, OrderStatus, apply
from bagbot.storage.journal import Record
from bagbot.trading.connectors.interface import ExchangeOrder
from bagbot.trading.journal_records import (
    DecisionRecorded,
    DisputeFound,
    Entry,
    IntentRecorded,
    KillSwitchSet,
    entry_of,
)
from bagbot.trading.order_archive import Fills, Orders


@dataclass(slots=True)
class Known:
    """What a decision led to: an order, or a message; `durable` is done once it is on disk."""

    fingerprint: str
    time_ns: int
    order_id: str | None = None
    message: str = ""
    durable: asyncio.Future[None] | None = None


class AccountState:
    """Orders, positions, decisions and the kill switch; changed only by facts."""

    def __init__(self) -> None:
        self.orders = Orders()
        self.updated_ns: dict[str, int] = {}
        self.live: dict[str, None] = {}
        self.fills = Fills(self.orders)
        self.ledger = Ledger()
        self.known: dict[str, Known] = {}
        self.killed: str | None = None
        self.disputes: dict[str, str] = {}
        self.by_client_id: dict[str, str] = {}
        self.by_exchange_id: dict[tuple[str, str], str] = {}

    def replay(self, records: Iterable[Record]) -> list[str]:
        """Fold the journal in; return the orders that were in flight when it ended."""
        for record in records:
            self.take_in(record)
        return [
            order_id
            for order_id in self.live
            if self.orders[order_id].status in (OrderStatus.PENDING, OrderStatus.SUBMITTED)
        ]

    def take_in(self, record: Record) -> None:
        """Fold one record of the journal in.

        Raises JournalError when it cannot be understood, IllegalTransitionError when it
        contradicts the ones before, KeyError when its order is not known.
        """
        entry = entry_of(record)
        if isinstance(entry, IntentRecorded):
            intent = entry.intent
            self.add(Order(intent=intent))
            self.remember(
                intent.identity,
                Known(intent.fingerprint, intent.time_ns, order_id=intent.id),
            )
        elif isinstance(entry, DecisionRecorded):
            self.remember(
                entry.identity,
                Known(entry.fingerprint, entry.time_ns, message=entry.message),
            )
        elif isinstance(entry, KillSwitchSet):
            self.set_kill_switch(entry.reason)
        elif isinstance(entry, DisputeFound):
            self.disputes[entry.symbol] = entry.message
        else:
            self.learn(record.order_id, entry)

    def take_on(self, entries: Sequence[Entry]) -> None:
        """Take in what was just decided, as its replay would; decisions are remembered apart."""
        for entry in entries:
            if isinstance(entry, IntentRecorded):
                order_id = entry.intent.id
                self.add(Order(intent=entry.intent))
            elif not isinstance(entry, DecisionRecorded | KillSwitchSet | DisputeFound):
                self.learn(order_id, entry)

    def add(self, order: Order) -> None:
        """Take a new order in; from now on its worst case is counted."""
        assert order.id not in self.orders, order.id
        self.orders[order.id] = order
        self.updated_ns[order.id] = order.intent.time_ns
        self.live[order.id] = None

    def learn(self, order_id: str, event: OrderEvent) -> bool:
        """Apply one fact; return whether it was news.

        Raises IllegalTransitionError when it contradicts what is known; then nothing changed.
        """
        before = self.orders[order_id]
        after = apply(before, event)
        if after is before:
            return False
        request = after.intent.request
        if isinstance(event, Filled):
            self.ledger.book(
                account=after.intent.account,
                symbol=request.symbol,
                side=request.side,
                order_id=order_id,
                fill=event.fill,
            )
            self.fills.append(order_id, event.fill.trade_id, event.time_ns)
        if isinstance(event, Submitted):
            self.by_client_id[event.client_order_id] = order_id
        if after.exchange_order_id is not None:
            self.by_exchange_id[request.symbol, after.exchange_order_id] = order_id
        self.orders[order_id] = after
        self.updated_ns[order_id] = max(self.updated_ns[order_id], event.time_ns)
        if after.is_final:
            self.live.pop(order_id, None)
        else:
            self.live[order_id] = None
        return True

    def remember(self, identity: str, known: Known) -> None:
        """Remember what a decision led to, for its repeats."""
        self.known[identity] = known

    def set_kill_switch(self, reason: str | None) -> None:
        """Turn the kill switch; off also clears the disputes: a human has looked."""
        self.killed = reason
        if reason is None:
            self.disputes.clear()

    def order_of(self, told: ExchangeOrder) -> str | None:
        """Return our id of the order the exchange speaks of, or None when it is not ours."""
        by_client_id = self.by_client_id.get(told.client_order_id or "")
        return by_client_id or self.by_exchange_id.get((told.symbol, told.id))

    def pending(self, symbol: str, *, without: str | None = None) -> tuple[Decimal, Decimal]:
        """Return what live orders of a symbol could still buy and sell, at worst."""
        sums = {Side.BUY: Decimal(0), Side.SELL: Decimal(0)}
        for order_id in self.live:
            order = self.orders[order_id]
            if order.intent.request.symbol == symbol and order_id != without:
                sums[order.intent.request.side] += order.remaining
        return sums[Side.BUY], sums[Side.SELL]

    def unknown(self, symbol: str) -> list[str]:
        """Return the orders of a symbol whose outcome is not known."""
        return [
            order_id
            for order_id in self.live
            if self.orders[order_id].status is OrderStatus.UNKNOWN
            and self.orders[order_id].intent.request.symbol == symbol
        ]

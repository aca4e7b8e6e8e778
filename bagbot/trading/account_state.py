"""What one account has done and decided: the fold of its journal, in memory."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from bagbot.domain.events import Filled, OrderEvent, Submitted
from bagbot.domain.instrument import Side
from bagbot.domain.ledger import Ledger
from bagbot.domain.order import Order, OrderStatus, apply
from bagbot.storage.journal import Record
from bagbot.trading.connectors.interface import ExchangeOrder, Trade
from bagbot.trading.holdings import Holdings, names_of
from bagbot.trading.journal_records import (
    AccountFact,
    BarDecided,
    BaselineTaken,
    DecisionRecorded,
    DisputeFound,
    Entry,
    ExternalFilled,
    ExternalOrderSeen,
    IntentRecorded,
    KillSwitchSet,
    ResidualFound,
    StrategyBegun,
    TradesCovered,
    entry_of,
)
from bagbot.trading.order_archive import Fills, Orders

EXTERNAL: Final = "external"
"""The ledger's account for what others trade on the same exchange account: hands, other bots."""
TOKEN_SOURCE: Final = "token"
"""The `source` of the intents of tokens (`bagbot.trading.order_tokens`)."""


@dataclass(slots=True)
class Known:
    """What a decision led to: an order, or a message; `durable` is done once it is on disk."""

    fingerprint: str
    time_ns: int
    order_id: str | None = None
    message: str = ""
    durable: asyncio.Future[None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStrategy:
    """A strategy that trades on the account, and its newest decision."""

    begun: StrategyBegun
    decided: BarDecided | None = None


class AccountState:
    """Orders, positions, decisions and the kill switch; changed only by facts."""

    def __init__(self) -> None:
        self.orders = Orders()
        self.updated_ns: dict[str, int] = {}
        self.live: dict[str, None] = {}
        self.symbols: set[str] = set()
        self.tokens_made: dict[str, int] = {}
        self.tokens_taken: dict[str, str] = {}
        self.fills = Fills(self.orders)
        self.ledger = Ledger()
        self.holdings = Holdings()
        self.strategies: dict[str, LiveStrategy] = {}
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
        elif isinstance(entry, AccountFact):
            self.note(entry)
        else:
            self.learn(record.order_id, entry)

    def take_on(self, entries: Sequence[Entry]) -> None:
        """Take in what was just decided, as its replay would; decisions are remembered apart."""
        for entry in entries:
            if isinstance(entry, IntentRecorded):
                order_id = entry.intent.id
                self.add(Order(intent=entry.intent))
            elif not isinstance(entry, DecisionRecorded | AccountFact):
                self.learn(order_id, entry)

    def add(self, order: Order) -> None:
        """Take a new order in; from now on its worst case is counted."""
        assert order.id not in self.orders, order.id
        self.orders[order.id] = order
        self.updated_ns[order.id] = order.intent.time_ns
        self.live[order.id] = None
        if order.intent.source == TOKEN_SOURCE:
            symbol = order.intent.request.symbol
            self.tokens_made[symbol] = self.tokens_made.get(symbol, 0) + 1

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
            self.holdings.require_ours(request.symbol, request.side, event.fill)
            self.ledger.book(
                account=after.intent.account,
                symbol=request.symbol,
                side=request.side,
                order_id=order_id,
                fill=event.fill,
            )
            self.holdings.book(request.symbol, request.side, event.fill)
            self.fills.append(order_id, event.fill.trade_id, event.time_ns)
        if isinstance(event, Submitted):
            self.by_client_id[event.client_order_id] = order_id
            self.symbols.add(request.symbol)
            if event.token:
                self.tokens_taken[event.token] = order_id
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

    @property
    def external_fills(self) -> list[ExternalFilled]:
        """The trades of orders that are not ours, in the order of booking."""
        return list(self.holdings.external_trades.values())

    def note(self, fact: AccountFact) -> bool:
        """Take in what is true of the account as a whole; return whether it was news."""
        match fact:
            case KillSwitchSet():
                self.set_kill_switch(fact.reason)
            case DisputeFound():
                self.disputes[fact.symbol] = fact.message
            case BaselineTaken():
                self.holdings.begin(fact)
            case TradesCovered():
                self.holdings.cover(fact)
            case ExternalOrderSeen():
                self.holdings.see(fact)
            case ExternalFilled():
                return self._book_external(fact)
            case ResidualFound():
                self.holdings.find(fact)
            case StrategyBegun():
                self.strategies[fact.strategy_id] = LiveStrategy(begun=fact)
            case BarDecided():
                known = self.strategies[fact.strategy_id]
                self.strategies[fact.strategy_id] = replace(known, decided=fact)
        return True

    def set_kill_switch(self, reason: str | None) -> None:
        """Turn the kill switch; off also clears disputes and residuals: a human has looked."""
        self.killed = reason
        if reason is None and (self.disputes or self.holdings.residuals):
            self.disputes.clear()
            self.holdings.forget()

    def alarm(self, symbol: str) -> str | None:
        """Return why a symbol may only be reduced, or None."""
        return self.disputes.get(symbol) or self.holdings.alarm(symbol)

    def held(self, symbol: str) -> Decimal | None:
        """Return what the account has of a symbol, whoever traded it, as far as trades tell.

        The base asset's balance on spot, the position on futures; None before the books began.
        """
        if self.holdings.baseline is None:
            return None
        return self.holdings.expected.get(names_of(symbol)[0], Decimal(0))

    def order_of(self, told: ExchangeOrder) -> str | None:
        """Return our id of the order the exchange speaks of, or None when it is not ours."""
        by_client_id = self.by_client_id.get(told.client_order_id or "")
        return by_client_id or self.by_exchange_id.get((told.symbol, told.id))

    def order_of_trade(self, trade: Trade) -> str | None:
        """Return our id of the order a trade belongs to, or None as long as no id tells."""
        return self.by_exchange_id.get((trade.symbol, trade.exchange_order_id))

    def is_external(self, trade: Trade) -> bool:
        """Whether a trade belongs to an order that is known not to be ours."""
        return (trade.symbol, trade.exchange_order_id) in self.holdings.external_orders

    def pending(self, symbol: str, *, without: str | None = None) -> tuple[Decimal, Decimal]:
        """Return what live orders of a symbol could still buy and sell, at worst."""
        return self._remaining(symbol, lambda order: order.id != without)

    def pending_unconditionally(self, symbol: str) -> tuple[Decimal, Decimal]:
        """Return what live orders of a symbol will buy and sell, whatever waits for a trigger.

        A stop guards the position that there is; it does not say what position is wanted.
        """
        return self._remaining(symbol, lambda order: not order.intent.request.type.is_conditional)

    def _remaining(self, symbol: str, counts: Callable[[Order], bool]) -> tuple[Decimal, Decimal]:
        sums = {Side.BUY: Decimal(0), Side.SELL: Decimal(0)}
        for order_id in self.live:
            order = self.orders[order_id]
            if order.intent.request.symbol == symbol and counts(order):
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

    def _book_external(self, fact: ExternalFilled) -> bool:
        if not self.holdings.book_external(fact):
            return False
        self.ledger.book(
            account=EXTERNAL,
            symbol=fact.symbol,
            side=fact.side,
            order_id=fact.exchange_order_id,
            fill=fact.fill,
        )
        return True

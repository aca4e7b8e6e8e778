"""The one place where facts go in: state first, then the journal, then whoever listens."""

from collections.abc import Callable, Mapping, Sequence

import structlog

from bagbot.domain.clock import Clock
from bagbot.domain.errors import IllegalTransitionError, JournalError
from bagbot.domain.events import OrderEvent
from bagbot.domain.order import Order
from bagbot.storage.journal import Journal, Record
from bagbot.trading.account_state import AccountState
from bagbot.trading.journal_records import AccountFact, DisputeFound, Entry, record_of

logger = structlog.get_logger(__name__)

Listener = Callable[[Order, Entry], None]


class AccountBook:
    """An account's state with its journal. `halt` is called when the journal cannot write."""

    def __init__(
        self, state: AccountState, journal: Journal, clock: Clock, halt: Callable[[str], None]
    ) -> None:
        self.state = state
        self.journal = journal
        self.listeners: list[Listener] = []
        self._clock = clock
        self._halt = halt

    async def learn(self, order_id: str, events: Sequence[OrderEvent]) -> bool:
        """Take in facts about an order; return whether any was news. Contradictions are disputed.

        Raises JournalError.
        """
        news: list[OrderEvent] = []
        try:
            for event in events:
                if self.state.learn(order_id, event):
                    news.append(event)
        except IllegalTransitionError as error:
            symbol = self.state.orders[order_id].intent.request.symbol
            await self.dispute(symbol, str(error), order_id=order_id)
        if not news:
            return False
        await self.append([record_of(event, order_id) for event in news])
        self.publish(order_id, news)
        return True

    async def learn_together(self, events: Mapping[str, OrderEvent]) -> None:
        """Take in one fact, which contradicts nothing, about each of many orders; one append.

        Raises JournalError.
        """
        news = {
            order_id: event
            for order_id, event in events.items()
            if self.state.learn(order_id, event)
        }
        await self.append([record_of(event, order_id) for order_id, event in news.items()])
        for order_id, event in news.items():
            self.publish(order_id, [event])

    async def note(self, fact: AccountFact) -> bool:
        """Take in a fact about the account as a whole; return whether it was news.

        Raises JournalError.
        """
        if not self.state.note(fact):
            return False
        await self.append([record_of(fact)])
        return True

    async def dispute(self, symbol: str, message: str, *, order_id: str = "") -> None:
        """Two facts contradict each other: shout, and let the symbol only be reduced."""
        if self.state.disputes.setdefault(symbol, message) is message:
            logger.error("contradiction; the symbol may only be reduced now", message=message)
            found = DisputeFound(time_ns=self._clock.time_ns(), symbol=symbol, message=message)
            await self.append([record_of(found, order_id)])

    async def append(self, records: Sequence[Record]) -> None:
        """Write records down and return once they are durable; raises JournalError."""
        try:
            await self.journal.append(records)
        except JournalError as error:
            self._halt(str(error))
            raise

    def publish(self, order_id: str, entries: Sequence[Entry]) -> None:
        """Tell whoever listens what happened to an order."""
        order = self.state.orders[order_id]
        for listener in tuple(self.listeners):
            try:
                for entry in entries:
                    listener(order, entry)
            except Exception:
                # Whoever watches can never fail a trade; one that failed is not asked again.
                logger.exception("a listener has failed and is dropped", order_id=order_id)
                if listener in self.listeners:
                    self.listeners.remove(listener)

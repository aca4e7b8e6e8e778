"""One depth stream: which levels of a book have changed since the last event was sent.

Every level that was ever different since then is sent, also one that is back to what it was: a
client may have taken its snapshot in between.
"""

from bagbot.simulator.binance_messages import Message
from bagbot.simulator.stream_messages import Levels, depth_update
from bagbot.simulator.venue import Venue

LEVELS_MAX = 5_000
"""Levels per side that are looked at; the snapshot of GET depth is as deep."""


class DepthFeed:
    """Collects the changes of one book between two events."""

    def __init__(self, venue: Venue, symbol: str) -> None:
        self._venue = venue
        self._symbol = symbol
        self._seen_id = self._sent_id = venue.update_id(symbol)
        self._bids, self._asks = self._levels()
        self._changed_bids: dict[int, int] = {}
        self._changed_asks: dict[int, int] = {}

    def observe(self) -> None:
        """Note what has changed. To be called before anybody can see the book again."""
        update_id = self._venue.update_id(self._symbol)
        if update_id == self._seen_id:
            return
        self._seen_id = update_id
        bids, asks = self._levels()
        self._changed_bids |= _difference(self._bids, bids)
        self._changed_asks |= _difference(self._asks, asks)
        self._bids, self._asks = bids, asks

    def has_news(self) -> bool:
        """Return whether the book has changed since the last event."""
        return self._seen_id != self._sent_id

    def event(self, time_ns: int) -> Message:
        """Return what has changed as an event."""
        ids = (self._sent_id + 1, self._seen_id)
        return depth_update(self._symbol, ids, self._changed_bids, self._changed_asks, time_ns)

    def sent(self) -> None:
        """Begin anew: the event has gone out."""
        self._sent_id = self._seen_id
        self._changed_bids = {}
        self._changed_asks = {}

    def _levels(self) -> tuple[dict[int, int], dict[int, int]]:
        book = self._venue.exchange.books[self._symbol]
        return dict(book.bids(LEVELS_MAX)), dict(book.asks(LEVELS_MAX))


def _difference(before: Levels, after: Levels) -> dict[int, int]:
    changed = {
        price: quantity for price, quantity in after.items() if before.get(price) != quantity
    }
    return changed | {price: 0 for price in before if price not in after}

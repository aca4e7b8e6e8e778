"""Views of one market that REST and the streams show alike."""

from bagbot.simulator import binance_messages as messages
from bagbot.simulator.venue import Venue


def depth_snapshot(venue: Venue, symbol: str, levels: int) -> messages.Message:
    """Return the best levels of a book, as GET depth and the partial depth streams show them."""
    book = venue.exchange.books[symbol]
    return {
        "lastUpdateId": venue.update_id(symbol),
        "bids": messages.depth_levels(book.bids(levels)),
        "asks": messages.depth_levels(book.asks(levels)),
    }


def day_statistics(venue: Venue, symbol: str) -> messages.Message:
    """Return the 24-hour statistics in their long form."""
    book = venue.exchange.books[symbol]
    last_trade = venue.last_trade(symbol)
    return messages.full_statistics(
        symbol,
        venue.day(symbol),
        venue.offset_ms,
        last_quantity=last_trade.quantity if last_trade is not None else 0,
        bid=book.best_bid(),
        ask=book.best_ask(),
    )

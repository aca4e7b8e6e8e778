"""The exchange with what its owner may do to it: no rule of the market, but acts from outside."""

from collections.abc import Mapping

from bagbot.simulator.book_matcher import Match
from bagbot.simulator.exchange import Exchange, Moment
from bagbot.simulator.orders import ExpiryReason, Order


class CommandedExchange(Exchange):
    """All accounts and all books, in the hands of an owner."""

    def market_takes(self, order: Order, quantity: int, now: Moment) -> int:
        """Let the market take `quantity` of a resting order at its price; return what traded."""
        if not (order.is_open and order.is_working and order.type.has_limit):
            return 0
        before = order.remaining
        left = min(quantity, order.remaining)
        while left:
            part = min(left, order.shown)
            self._trade(Match(order, order.price, part), None, now)
            left -= part
        self.release_due_orders(now)
        return before - order.remaining

    def expire_open_orders(self, symbol: str, now: Moment) -> None:
        """End every open order of a symbol, as at its delisting."""
        for order in [each for each in self._open_by_id.values() if each.symbol == symbol]:
            # One that ends may have ended others of its list.
            if order.is_open:
                self._take_off(order)
                self._expire(order, ExpiryReason.EXCHANGE_CANCELED, now)

    def reset(self, accounts: Mapping[int, Mapping[str, int]]) -> None:
        """Forget every order, and let accounts own what is given; numbers go on."""
        for order in self._open_by_id.values():
            self._take_off(order)
        self._open_by_id.clear()
        self._open_by_client_id.clear()
        self._open_counts.clear()
        self._touched.clear()
        self.fees = dict.fromkeys(self.assets, 0)
        self.market_balances = dict.fromkeys(self.assets, 0)
        for account_id, balances in accounts.items():
            self.open_account(account_id, balances)

"""The spot exchange on bars: the accounts and orders of `Exchange`, with every fill by BarMatcher.

It differs in three ways: who fills is judged by bars, a fee is rounded up, and a fill at an open
is a taker's even if the order had rested. The book keeps resting orders and the market's quotes
to be looked at; nothing matches in it.
"""

from collections.abc import Mapping

from bagbot.domain import fills
from bagbot.simulator.bar_matcher import BarFill, BarMatcher
from bagbot.simulator.book_matcher import Match, Plan
from bagbot.simulator.exchange import Exchange, Moment
from bagbot.simulator.orders import (
    MARKET_ACCOUNT,
    Execution,
    Order,
    PlaceOrder,
    TradePrint,
)
from bagbot.simulator.symbols import SymbolRules


class BarExchange(Exchange):
    """All accounts, on markets that are played bar by bar."""

    def __init__(self, symbols: Mapping[str, SymbolRules], costs: fills.Costs) -> None:
        super().__init__(
            symbols, maker_fee_ppm=costs.maker_fee_ppm, taker_fee_ppm=costs.taker_fee_ppm
        )
        self._matchers = {
            symbol: BarMatcher(rules, costs) for symbol, rules in self.symbols.items()
        }

    def market_moves(
        self, symbol: str, price: int, price_range: tuple[int, int] | None, now: Moment
    ) -> None:
        """Do nothing: on bars only an open and a range fill."""

    def open_bar(self, symbol: str, open_price: int, closed_volume: int, now: Moment) -> None:
        """Put the price at a bar's open and fill the resting orders that it satisfies.

        `closed_volume` is the volume of the bar before, which bounds the one that opens.
        """
        self.reference_prices[symbol] = open_price
        resting = self._resting(symbol)
        self._fill_all(self._matchers[symbol].open_bar(resting, open_price, closed_volume), now)

    def play_range(self, symbol: str, high: int, low: int, close: int, now: Moment) -> None:
        """Play the rest of the bar: what it reaches, fills."""
        resting = self._resting(symbol)
        self._fill_all(self._matchers[symbol].play_range(resting, high, low, close), now)

    def close_market(self, symbol: str) -> None:
        """End the symbol's market: nothing fills any more."""
        self._matchers[symbol].close()

    def _find_matches(self, command: PlaceOrder, rules: SymbolRules) -> Plan:
        return self._matchers[rules.symbol].plan(command)

    def _commission(self, received: int, rate_ppm: int) -> int:
        return fills.fee(received, rate_ppm)

    def _trade(self, match: Match, taker: Order | None, now: Moment) -> list[Execution]:
        assert taker is not None, "on bars the market does not come to an order by itself"
        taker.remaining -= match.quantity
        return [self._fill(BarFill(taker, match.price, match.quantity, is_maker=False), now)]

    def _fill_all(self, bar_fills: list[BarFill], now: Moment) -> None:
        for fill in bar_fills:
            self.books[fill.order.symbol].take(fill.order, fill.quantity)
            self._changes.books[fill.order.symbol] = None
            self._fill(fill, now)

    def _fill(self, fill: BarFill, now: Moment) -> Execution:
        """Carry out one fill; the order's `remaining` is already reduced."""
        order = fill.order
        trade_id = self._take_trade_id(order.symbol)
        buyer_is_maker = order.is_buy == fill.is_maker
        self._changes.prints.append(
            TradePrint(
                trade_id, order.symbol, fill.price, fill.quantity, now.time_ns, buyer_is_maker
            )
        )
        match = Match(order, fill.price, fill.quantity)
        self._settle_market(match, order.symbol, is_buy=not order.is_buy)
        self._matchers[order.symbol].count(order.account_id, fill.quantity)
        return self._settle(order, match, trade_id, now, is_maker=fill.is_maker)

    def _resting(self, symbol: str) -> list[Order]:
        return [
            order
            for order in self._open_by_id.values()
            if order.symbol == symbol and order.account_id != MARKET_ACCOUNT
        ]

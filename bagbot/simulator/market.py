"""Where prices come from: what the venue needs of any market, and what a market quotes.

A source yields points in market time: at a point the market stands at one price and trades there.
The kinds are synthetic_market (invented), recorded_market (bars), trade_tape (recorded trades) and
live_market (the public feed of a real exchange).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from bagbot.simulator.amounts import ONE, nearest_multiple
from bagbot.simulator.candles import Candle
from bagbot.simulator.symbols import SymbolRules

QUOTE_LEVELS = 20
"""How many prices the market quotes on each side."""

MINUTE_MS = 60_000

_BASE_QUOTE_SPACING_PPM = 50


@dataclass(frozen=True, slots=True)
class Point:
    """The market at one moment. Inside a recorded bar, `price_range` is that bar's low and high."""

    time_ms: int
    price: int
    quantity: int
    buyer_is_maker: bool
    price_range: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Quoting:
    """How much the market quotes, and how far from its price.

    `touch` is the best bid and ask where they are known; else they stand `spread_ticks` apart
    around the price. A halted market quotes nothing, trades nothing and takes no new order.
    """

    depth_ppm: int = 1_000_000
    spread_ticks: int = 2
    touch: tuple[int, int] | None = None
    is_halted: bool = False


AS_USUAL = Quoting()


class PriceSource(Protocol):
    """What the venue needs of a market."""

    base_ms: int
    # What the market is made of, for people.
    kind: str
    # On a tape a resting order fills by the trades that reach it, and no more than they trade;
    # elsewhere it fills as a whole when the price reaches it.
    is_tape: bool

    @property
    def is_over(self) -> bool:
        """Whether there are no more points and the price stands still."""

    @property
    def quoting(self) -> Quoting:
        """What the market quotes around the newest point."""

    def history(self) -> list[Candle]:
        """Return closed base candles from before the start."""

    def points(self, until_ms: int) -> Iterator[Point]:
        """Yield the points not yet yielded, up to and including `until_ms`."""


@dataclass(frozen=True, slots=True)
class MarketProfile:
    """What a symbol's market looks like: where it starts and how much is quoted."""

    start_price: int
    # What the best level offers; the n-th level offers n times as much.
    level_quantity: int


PROFILES = {
    "BTCUSDT": MarketProfile(90_000 * ONE, ONE // 4),
    "ETHUSDT": MarketProfile(3_000 * ONE, 5 * ONE),
    "ETHBTC": MarketProfile(ONE // 30, 5 * ONE),
    "BNBUSDT": MarketProfile(850 * ONE, 15 * ONE),
    "SOLUSDT": MarketProfile(130 * ONE, 150 * ONE),
    "XRPUSDT": MarketProfile(2 * ONE, 10_000 * ONE),
    "DOGEUSDT": MarketProfile(ONE * 15 // 100, 130_000 * ONE),
    "ADAUSDT": MarketProfile(ONE * 4 // 10, 50_000 * ONE),
    "LTCUSDT": MarketProfile(80 * ONE, 250 * ONE),
    "LINKUSDT": MarketProfile(13 * ONE, 1_500 * ONE),
    "BTCUSDC": MarketProfile(90_000 * ONE, ONE // 4),
    "ETHUSDC": MarketProfile(3_000 * ONE, 5 * ONE),
    "BNBBTC": MarketProfile(ONE * 94 // 10_000, 15 * ONE),
    "LTCBTC": MarketProfile(ONE * 9 // 10_000, 250 * ONE),
    "SOLBTC": MarketProfile(ONE * 145 // 100_000, 150 * ONE),
    "XRPBTC": MarketProfile(ONE * 22 // 1_000_000, 10_000 * ONE),
    "XRPETH": MarketProfile(ONE * 67 // 100_000, 10_000 * ONE),
}


def quotes_around(
    price: int,
    price_range: tuple[int, int] | None,
    rules: SymbolRules,
    profile: MarketProfile,
    quoting: Quoting = AS_USUAL,
    clear_of: tuple[int | None, int | None] = (None, None),
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return the market's bids and asks as (price, quantity), best first.

    No quote lies outside `price_range`: what would, is offered at its edge. The sides do not
    cross, but meet where the range is a single price. Nor do they cross `clear_of`, the best bid
    and ask of others.
    """
    if quoting.is_halted:
        return [], []
    low, high = price_range if price_range is not None else (rules.tick, rules.price_max)
    spacing = max(
        rules.tick, nearest_multiple(price * _BASE_QUOTE_SPACING_PPM // 1_000_000, rules.tick)
    )
    bid_price, ask_price = _touch(price, rules.tick, quoting)
    others_bid, others_ask = clear_of
    if others_ask is not None:
        bid_price = min(bid_price, others_ask - rules.tick)
    if others_bid is not None:
        ask_price = max(ask_price, others_bid + rules.tick)
    # At an edge of the range one side stands on the price itself.
    bid_price, ask_price = max(bid_price, low), min(ask_price, high)
    level_lots = profile.level_quantity * quoting.depth_ppm // 1_000_000 // rules.lot
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    for level in range(QUOTE_LEVELS):
        quantity = max(level_lots, 1) * rules.lot * (level + 1)
        bid = max(bid_price - level * spacing, low)
        ask = min(ask_price + level * spacing, high)
        bids[bid] = bids.get(bid, 0) + quantity
        asks[ask] = asks.get(ask, 0) + quantity
    return list(bids.items()), list(asks.items())


def _touch(price: int, tick: int, quoting: Quoting) -> tuple[int, int]:
    """Return the best bid and ask."""
    if quoting.touch is not None:
        return quoting.touch
    below_ticks = quoting.spread_ticks // 2
    return price - below_ticks * tick, price + (quoting.spread_ticks - below_ticks) * tick


def grid_ms(speed: float) -> int:
    """Return how far apart, in market time, a market played at `speed` should have its points.

    About five points per wall second, at least four per minute of the market.
    """
    for candidate in (200, 500, 1_000, 2_000, 5_000, 10_000):
        if candidate >= 200 * speed:
            return candidate
    return 15_000

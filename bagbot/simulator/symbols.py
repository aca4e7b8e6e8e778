"""The trading rules of each symbol, as values: tick, lot and the limits of Binance's filters."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bagbot.simulator.amounts import ONE, amount_from_text

SYMBOL_STATUSES = ("TRADING", "END_OF_DAY", "HALT", "BREAK", "CANCEL_ONLY")
"""Whether a symbol trades: only in the first are orders taken and matched.

Assumed, for no document says: orders can be cancelled in the first and the last only.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolRules:
    """What an order on one symbol must satisfy. Amounts are in 1e-8."""

    symbol: str
    base: str
    quote: str
    tick: int
    price_max: int
    lot: int
    quantity_max: int
    market_quantity_max: int
    notional_min: int
    notional_max: int = 9_000_000 * ONE
    # An order's price must lie within these multiples of the five-minute average.
    price_multiplier_up: int = 5
    price_divisor_down: int = 5
    average_price_minutes: int = 5
    open_orders_max: int = 200
    iceberg_parts_max: int = 100
    open_stops_max: int = 5
    open_lists_max: int = 20
    # In basis points, for stops that wait for a rise and for those that wait for a fall.
    trailing_delta_min: int = 10
    trailing_delta_max: int = 2_000
    status: str = "TRADING"

    @property
    def is_trading(self) -> bool:
        """Return whether orders are taken and matched."""
        return self.status == "TRADING"

    @property
    def price_min(self) -> int:
        """Return the lowest price, which is one tick on every symbol served."""
        return self.tick

    @property
    def quantity_min(self) -> int:
        """Return the smallest quantity, which is one lot on every symbol served."""
        return self.lot


# Filters as of 2021 (recorded exchangeInfo), brought to the field set of 2026.
DEFAULT_SYMBOLS: Mapping[str, SymbolRules] = {
    rules.symbol: rules
    for rules in (
        SymbolRules(
            symbol="BTCUSDT",
            base="BTC",
            quote="USDT",
            tick=ONE // 100,
            price_max=1_000_000 * ONE,
            lot=ONE // 100_000,
            quantity_max=9_000 * ONE,
            market_quantity_max=100 * ONE,
            notional_min=5 * ONE,
        ),
        SymbolRules(
            symbol="ETHUSDT",
            base="ETH",
            quote="USDT",
            tick=ONE // 100,
            price_max=1_000_000 * ONE,
            lot=ONE // 10_000,
            quantity_max=9_000 * ONE,
            market_quantity_max=1_600 * ONE,
            notional_min=5 * ONE,
        ),
        SymbolRules(
            symbol="ETHBTC",
            base="ETH",
            quote="BTC",
            tick=ONE // 100_000,
            price_max=922_327 * ONE,
            lot=ONE // 10_000,
            quantity_max=100_000 * ONE,
            market_quantity_max=870 * ONE,
            notional_min=ONE // 10_000,
        ),
        SymbolRules(
            symbol="BNBUSDT",
            base="BNB",
            quote="USDT",
            tick=ONE // 100,
            price_max=100_000 * ONE,
            lot=ONE // 1_000,
            quantity_max=900_000 * ONE,
            market_quantity_max=28_000 * ONE,
            notional_min=5 * ONE,
        ),
    )
}


# Base, quote, tick, highest price, lot, largest order, largest market order, smallest notional.
_MORE = """
    SOL  USDT  0.01      10000     0.01     90000     52005     5
    XRP  USDT  0.0001    10000     1        9222449   9222449   5
    DOGE USDT  0.0001    1000      1        9000000   9000000   5
    ADA  USDT  0.001     1000      0.1      900000    900000    5
    LTC  USDT  0.1       100000    0.001    90000     25570     5
    LINK USDT  0.01      10000     0.01     90000     90000     5
    BTC  USDC  0.01      1000000   0.00001  9000      91        5
    ETH  USDC  0.01      100000    0.0001   90000     951       5
    BNB  BTC   0.000001  100000    0.001    100000    6231      0.0001
    LTC  BTC   0.000001  100000    0.001    100000    6790      0.0001
    SOL  BTC   0.0000001 1000      0.01     90000000  8902      0.0001
    XRP  BTC   0.00000001 1000     1        90000000  1159062   0.0001
    XRP  ETH   0.0000001 1000      1        90000000  520334    0.005
"""


def _known() -> dict[str, SymbolRules]:
    known = dict(DEFAULT_SYMBOLS)
    for row in _MORE.split("\n"):
        if row.strip():
            base, quote, *texts = row.split()
            amounts = [amount_from_text(text) for text in texts]
            tick, price_max, lot, quantity_max, market_quantity_max, notional_min = amounts
            known[base + quote] = SymbolRules(
                symbol=base + quote,
                base=base,
                quote=quote,
                tick=tick,
                price_max=price_max,
                lot=lot,
                quantity_max=quantity_max,
                market_quantity_max=market_quantity_max,
                notional_min=notional_min,
            )
    return known


# Those served by default, and those served when they are asked for by name.
KNOWN_SYMBOLS: Mapping[str, SymbolRules] = _known()


def with_open_orders_max(
    symbols: Mapping[str, SymbolRules], open_orders_max: int
) -> dict[str, SymbolRules]:
    """Return the same symbols with another MAX_NUM_ORDERS."""
    return {
        name: replace(rules, open_orders_max=open_orders_max) for name, rules in symbols.items()
    }

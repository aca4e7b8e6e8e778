"""What can be traded and in which steps: ticks, lots, minimums, and the exchange's filters.

The only place where Decimal becomes ticks and lots and back. The filters are Binance's
(https://developers.binance.com/docs/binance-spot-api-docs/filters); an exchange that lacks one
leaves its field at None, which switches it off.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum

from bagbot.domain.errors import InvalidOrderError


class Side(StrEnum):
    """Which way an order trades, in CCXT's words."""

    BUY = "buy"
    SELL = "sell"


@dataclass(frozen=True, slots=True)
class FilterViolation:
    """Which filter an order breaks, with the order's value and the filter's limit."""

    name: str
    value: Decimal
    limit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One tradable symbol of one exchange, with the limits the exchange sets.

    Prices are in `quote` per `base`, quantities in `base`.
    """

    symbol: str
    exchange_symbol: str
    base: str
    quote: str
    tick_size: Decimal
    lot_size: Decimal
    is_trading: bool = True
    price_min: Decimal | None = None
    price_max: Decimal | None = None
    quantity_min: Decimal | None = None
    quantity_max: Decimal | None = None
    market_lot_size: Decimal | None = None
    market_quantity_min: Decimal | None = None
    market_quantity_max: Decimal | None = None
    notional_min: Decimal | None = None
    notional_max: Decimal | None = None
    notional_min_applies_to_market: bool = True
    notional_max_applies_to_market: bool = False
    buy_price_ratio_min: Decimal | None = None
    buy_price_ratio_max: Decimal | None = None
    sell_price_ratio_min: Decimal | None = None
    sell_price_ratio_max: Decimal | None = None
    open_orders_max: int | None = None
    # Of the open orders, those that wait for a trigger.
    open_stops_max: int | None = None
    # How far a trailing stop may stay behind, in basis points.
    trailing_delta_min: int | None = None
    trailing_delta_max: int | None = None

    def __post_init__(self) -> None:
        assert self.tick_size > 0, self
        assert self.lot_size > 0, self

    @classmethod
    def unfiltered(cls, symbol: str) -> "Instrument":
        """Return an instrument without any filter, for an exchange that states none.

        Steps are 1e-8: the exchange itself decides what it takes.
        """
        base, _, rest = symbol.partition("/")
        quote, _, _ = rest.partition(":")
        step = Decimal("0.00000001")
        return cls(
            symbol=symbol,
            exchange_symbol=symbol.replace("/", ""),
            base=base,
            quote=quote or base,
            tick_size=step,
            lot_size=step,
        )

    def price_ticks(self, price: Decimal) -> int:
        """Return `price` in whole ticks.

        Raises InvalidOrderError when the price lies between two ticks.
        """
        return _whole_steps(price, self.tick_size, f"price of {self.symbol}", "tick")

    def quantity_lots(self, quantity: Decimal) -> int:
        """Return `quantity` in whole lots.

        Raises InvalidOrderError when it is not a whole number of lots.
        """
        return _whole_steps(quantity, self.lot_size, f"amount of {self.symbol}", "lot")

    def price_from_ticks(self, ticks: int) -> Decimal:
        """Return the price of so many ticks."""
        return ticks * self.tick_size

    def quantity_from_lots(self, lots: int) -> Decimal:
        """Return the quantity of so many lots."""
        return lots * self.lot_size

    def round_quantity_down(self, quantity: Decimal) -> Decimal:
        """Return the largest whole number of lots in `quantity`: never more than was asked.

        >>> Instrument.unfiltered("BTC/USDT").round_quantity_down(Decimal("0.123456789"))
        Decimal('0.12345678')
        """
        return (quantity / self.lot_size).to_integral_value(ROUND_FLOOR) * self.lot_size

    def round_price(self, price: Decimal, side: Side) -> Decimal:
        """Return `price` on a tick, never worse for us: a buy rounds down, a sell rounds up."""
        rounding = ROUND_FLOOR if side is Side.BUY else ROUND_CEILING
        return (price / self.tick_size).to_integral_value(rounding) * self.tick_size

    def violation(
        self,
        *,
        side: Side,
        is_market: bool,
        quantity: Decimal,
        price: Decimal | None,
        reference_price: Decimal | None,
    ) -> FilterViolation | None:
        """Return the first filter that the order breaks, or None when it passes all.

        `price` is the limit (None for a market order), `reference_price` the market's: what is
        measured against it goes unchecked while it is None, as does a market order's value.
        """
        found = self._quantity_violation(quantity, is_market=is_market)
        if found is None and price is not None:
            found = self._price_violation(price, side=side, reference_price=reference_price)
        worth = price if price is not None else reference_price
        if found is None and worth is not None:
            found = self._notional_violation(quantity * worth, is_market=is_market)
        return found

    def _quantity_violation(self, quantity: Decimal, *, is_market: bool) -> FilterViolation | None:
        bounds = [("LOT_SIZE", self.lot_size, self.quantity_min, self.quantity_max)]
        if is_market:
            # A market step of 0 on the wire means "as LOT_SIZE" and arrives here as None.
            step = self.market_lot_size or self.lot_size
            bounds.append(
                ("MARKET_LOT_SIZE", step, self.market_quantity_min, self.market_quantity_max)
            )
        for name, step, least, most in bounds:
            if least is not None and quantity < least:
                return FilterViolation(name, quantity, f"at least {least}")
            if most is not None and quantity > most:
                return FilterViolation(name, quantity, f"at most {most}")
            if quantity % step:
                return FilterViolation(name, quantity, f"a multiple of {step}")
        return None

    def _price_violation(
        self, price: Decimal, *, side: Side, reference_price: Decimal | None
    ) -> FilterViolation | None:
        if self.price_min is not None and price < self.price_min:
            return FilterViolation("PRICE_FILTER", price, f"at least {self.price_min}")
        if self.price_max is not None and price > self.price_max:
            return FilterViolation("PRICE_FILTER", price, f"at most {self.price_max}")
        if price % self.tick_size:
            return FilterViolation("PRICE_FILTER", price, f"a multiple of {self.tick_size}")
        if reference_price is None:
            return None
        if side is Side.BUY:
            ratio_min, ratio_max = self.buy_price_ratio_min, self.buy_price_ratio_max
        else:
            ratio_min, ratio_max = self.sell_price_ratio_min, self.sell_price_ratio_max
        if ratio_min is not None and price < reference_price * ratio_min:
            limit = f"at least {reference_price * ratio_min}"
            return FilterViolation("PERCENT_PRICE_BY_SIDE", price, limit)
        if ratio_max is not None and price > reference_price * ratio_max:
            limit = f"at most {reference_price * ratio_max}"
            return FilterViolation("PERCENT_PRICE_BY_SIDE", price, limit)
        return None

    def _notional_violation(self, notional: Decimal, *, is_market: bool) -> FilterViolation | None:
        least, most = self.notional_min, self.notional_max
        checks_min = not is_market or self.notional_min_applies_to_market
        checks_max = not is_market or self.notional_max_applies_to_market
        if least is not None and checks_min and notional < least:
            return FilterViolation("NOTIONAL", notional, f"at least {least}")
        if most is not None and checks_max and notional > most:
            return FilterViolation("NOTIONAL", notional, f"at most {most}")
        return None


def _whole_steps(value: Decimal, step: Decimal, what: str, step_name: str) -> int:
    steps = value / step
    if steps != steps.to_integral_value():
        raise InvalidOrderError(
            f"the {what}, {value}, is not a whole number of {step_name}s {step}"
        )
    return int(steps)

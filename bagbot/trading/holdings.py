"""What the account should hold at the exchange, and what of it no trade explains. Pure.

The books begin with a baseline: what the exchange showed then. Every trade since, ours or not,
changes it, and nothing else does. What the exchange shows beyond that is a residual: it is told,
and never booked away.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from bagbot.domain.errors import IllegalTransitionError
from bagbot.domain.events import Fill
from bagbot.domain.instrument import Side
from bagbot.trading.journal_records import (
    BaselineTaken,
    ExternalFilled,
    ExternalOrderSeen,
    ResidualFound,
    TradesCovered,
)

# Exchanges keep balances in these units; what a trade is worth beyond them is cut off.
_UNIT: Final = Decimal("0.00000001")
_NOTHING: Final = Decimal(0)


def names_of(symbol: str) -> tuple[str, ...]:
    """Return what a trade in `symbol` changes: two assets, or one futures position.

    >>> names_of("BTC/USDT"), names_of("BTC/USDT:USDT")
    (('BTC', 'USDT'), ('BTC/USDT:USDT',))
    """
    return (symbol,) if ":" in symbol else tuple(symbol.split("/"))


def effects_of(symbol: str, side: Side, fill: Fill) -> dict[str, Decimal]:
    """Return by how much one trade changes each thing held."""
    sign = 1 if side is Side.BUY else -1
    if ":" in symbol:
        return {symbol: sign * fill.quantity}
    base, _, quote = symbol.partition("/")
    effects = {base: sign * fill.quantity, quote: -sign * fill.quantity * fill.price}
    if fill.fee:
        effects[fill.fee_asset] = effects.get(fill.fee_asset, _NOTHING) - fill.fee
    return effects


@dataclass(slots=True)
class Holdings:
    """The fold of baseline and trades; also the trades and orders that are not ours.

    `expected` is what should be held, by asset or futures symbol, `covered` the trade up to which
    all of a symbol are booked, `slack` what the exchange may have cut off, `booked` the trades.
    """

    baseline: BaselineTaken | None = None
    expected: dict[str, Decimal] = field(default_factory=dict)
    slack: dict[str, Decimal] = field(default_factory=dict)
    covered: dict[str, str] = field(default_factory=dict)
    residuals: dict[str, Decimal] = field(default_factory=dict)
    external_orders: dict[tuple[str, str], ExternalOrderSeen] = field(default_factory=dict)
    external_trades: dict[tuple[str, Side, str], ExternalFilled] = field(default_factory=dict)
    booked: int = 0

    def begin(self, baseline: BaselineTaken) -> None:
        """Begin the books anew with what the exchange shows."""
        self.baseline = baseline
        self.expected = dict(baseline.holdings)
        self.covered = dict(baseline.trades)
        self.residuals.clear()
        self.slack.clear()

    def forget(self) -> None:
        """Close the books: a human has looked, and the next baseline is what there is then."""
        self.baseline = None
        self.expected.clear()
        self.covered.clear()
        self.residuals.clear()
        self.slack.clear()

    def book(self, symbol: str, side: Side, fill: Fill) -> None:
        """Count one trade, which nobody has counted before."""
        self.booked += 1
        for name, change in effects_of(symbol, side, fill).items():
            self.expected[name] = self.expected.get(name, _NOTHING) + change
            if change % _UNIT:
                self.slack[name] = self.slack.get(name, _NOTHING) + _UNIT

    def book_external(self, fact: ExternalFilled) -> bool:
        """Count a trade that is not ours; return False when it was counted before."""
        key = (fact.symbol, fact.side, fact.fill.trade_id)
        if key in self.external_trades:
            return False
        self.external_trades[key] = fact
        self.book(fact.symbol, fact.side, fact.fill)
        return True

    def require_ours(self, symbol: str, side: Side, fill: Fill) -> None:
        """Raise IllegalTransitionError when a trade was booked as somebody else's."""
        if (symbol, side, fill.trade_id) in self.external_trades:
            raise IllegalTransitionError(
                f"trade {fill.trade_id} of {symbol} was booked as external, and is ours"
            )

    def see(self, fact: ExternalOrderSeen) -> None:
        """Remember an order that is not ours."""
        self.external_orders[fact.symbol, fact.exchange_order_id] = fact

    def cover(self, fact: TradesCovered) -> None:
        """Remember up to which trade everything is booked."""
        self.covered[fact.symbol] = fact.trade_id

    def find(self, fact: ResidualFound) -> None:
        """Remember a residual, or that it is gone."""
        if fact.amount:
            self.residuals[fact.name] = fact.amount
        else:
            self.residuals.pop(fact.name, None)

    def unexplained(
        self, told: Mapping[str, Decimal], symbols: Iterable[str]
    ) -> dict[str, Decimal]:
        """Return what the exchange holds beyond, or below, the books of what `symbols` change."""
        names = {name for symbol in symbols for name in names_of(symbol)} | self._traded()
        residuals = {}
        for name in sorted(names):
            amount = told.get(name, _NOTHING) - self.expected.get(name, _NOTHING)
            if abs(amount) > self.slack.get(name, _NOTHING):
                residuals[name] = amount
        return residuals

    def alarm(self, symbol: str) -> str | None:
        """Return why `symbol` may only be reduced, or None when its holdings are explained."""
        told = [f"{self.residuals[n]:+f} {n}" for n in names_of(symbol) if n in self.residuals]
        if not told:
            return None
        return f"the exchange holds {' and '.join(told)} that no trade explains"

    def _traded(self) -> set[str]:
        """Return what trades have changed since the baseline, fees in third assets among it."""
        before = self.baseline.holdings if self.baseline is not None else {}
        return {n for n, held in self.expected.items() if held != before.get(n, _NOTHING)}

"""Positions, profit and fees: a fold over fills, and nothing else."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from bagbot.domain.errors import IllegalTransitionError
from bagbot.domain.events import Fill
from bagbot.domain.instrument import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What our fills left us with in one symbol of one account.

    `quantity` is in the base asset, negative when short, and net of fees paid in the base asset.
    `average_price` is what the open quantity was traded at, `realised_pnl` (in the quote asset,
    before fees) what closing brought, `fees` what was paid, by asset.
    """

    account: str
    symbol: str
    quantity: Decimal = Decimal(0)
    average_price: Decimal = Decimal(0)
    realised_pnl: Decimal = Decimal(0)
    fees: dict[str, Decimal] = field(default_factory=dict)


TradeKey = tuple[str, str, Side, str]
"""Account, symbol, side, trade id: the side, since both sides of a trade with oneself share it."""


class Ledger:
    """The positions of all accounts. `book` is the only way to change them.

    It can go on from the positions and the trades that another one had.
    """

    def __init__(
        self,
        positions: Iterable[Position] = (),
        order_of_trade: Mapping[TradeKey, str] | None = None,
    ) -> None:
        self._positions = {(one.account, one.symbol): one for one in positions}
        self._order_of_trade = dict(order_of_trade or {})

    def position(self, account: str, symbol: str) -> Position:
        """Return the position in `symbol`; a flat one when nothing was traded."""
        return self._positions.get((account, symbol)) or Position(account=account, symbol=symbol)

    def positions(self) -> list[Position]:
        """Return every position ever held, also those that are flat by now, by symbol."""
        return [self._positions[key] for key in sorted(self._positions)]

    def trades(self) -> Mapping[TradeKey, str]:
        """Return every trade booked, and the order it belongs to."""
        return self._order_of_trade

    def book(self, *, account: str, symbol: str, side: Side, order_id: str, fill: Fill) -> bool:
        """Add one fill and return True, or return False when it was booked before.

        Raises IllegalTransitionError when another order claims the same trade.
        """
        key = (account, symbol, side, fill.trade_id)
        booked_by = self._order_of_trade.get(key)
        if booked_by == order_id:
            return False
        if booked_by is not None:
            raise IllegalTransitionError(
                f"trade {fill.trade_id} of {symbol} belongs to order {booked_by}; "
                f"order {order_id} claims it too"
            )
        self._order_of_trade[key] = order_id
        self._positions[account, symbol] = _after(self.position(account, symbol), side, fill)
        return True


def _after(position: Position, side: Side, fill: Fill) -> Position:
    signed = fill.quantity if side is Side.BUY else -fill.quantity
    held = position.quantity
    closes = min(abs(held), fill.quantity) if held * signed < 0 else Decimal(0)
    gain = (fill.price - position.average_price) * closes * (1 if held > 0 else -1)
    left = held + signed
    if not closes:
        average = (abs(held) * position.average_price + fill.quantity * fill.price) / abs(left)
    elif abs(signed) > abs(held):
        average = fill.price
    else:
        average = position.average_price
    fees = dict(position.fees)
    if fill.fee:
        fees[fill.fee_asset] = fees.get(fill.fee_asset, Decimal(0)) + fill.fee
        base = position.symbol.partition("/")[0]
        if fill.fee_asset == base and ":" not in position.symbol:
            left -= fill.fee
    return replace(
        position,
        quantity=left,
        average_price=average if left else Decimal(0),
        realised_pnl=position.realised_pnl + gain,
        fees=fees,
    )

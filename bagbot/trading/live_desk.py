"""The desk of a strategy that trades live: its own account, folded from its own fills.

The account begins with the strategy's cash and nothing else, and counts in the same whole numbers
as a backtest's (docs/FILL_RULES.md, F16, F18, F22): what a strategy decides from it is what it
would decide in the backtest. But an exchange changes its ticks and lots now and then, and all fills
are counted anew at every start: so money is made of their prices and quantities as they are, and
only what the strategy asks for is in whole ticks and lots, in those of today.

Commands are only written down here; `bagbot.trading.live_trader` carries them out. Pure.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Final

import numpy

from bagbot.domain import fills
from bagbot.domain.bars import Bars
from bagbot.domain.errors import InvalidOrderError, NotSupportedError
from bagbot.domain.events import Fill
from bagbot.domain.instrument import Instrument, Side
from bagbot.domain.order import Order, OrderRequest, OrderType, TimeInForce
from bagbot.trading import kernel
from bagbot.trading import kernel_tables as tables
from bagbot.trading.journal_records import Command, Doing

_UNITS: Final = 100_000_000
_REASONS: Final = tables.REASONS
_PPM_OF_BASIS_POINT: Final = 100
_TYPES: Final[Mapping[int, OrderType]] = {
    fills.MARKET: OrderType.MARKET,
    fills.LIMIT: OrderType.LIMIT,
    fills.LIMIT_MAKER: OrderType.LIMIT,
    fills.STOP: OrderType.STOP_LOSS,
    fills.STOP_LIMIT: OrderType.STOP_LOSS_LIMIT,
    fills.TAKE_PROFIT: OrderType.TAKE_PROFIT,
    fills.TAKE_PROFIT_LIMIT: OrderType.TAKE_PROFIT_LIMIT,
}
_TIMES_IN_FORCE: Final[Mapping[int, TimeInForce]] = {
    fills.GOOD_TILL_CANCELLED: TimeInForce.GTC,
    fills.IMMEDIATE_OR_CANCEL: TimeInForce.IOC,
    fills.FILL_OR_KILL: TimeInForce.FOK,
}


@dataclass(slots=True)
class DeskOrder:
    """One order of the strategy, decided after the bar that opened at `bar_ms`.

    `request` is None for one that was never sent and never will be.
    """

    bar_ms: int
    request: OrderRequest | None
    is_open: bool = False
    filled: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class DeskFill:
    """A fill and the side of its order."""

    side: Side
    fill: Fill


class LiveDesk:
    """One strategy's account, and its orders by number.

    `position`, `cash`, `equity`, `entry_price` and `open_orders` are as of `open_bar`, `commands`
    those that were given since, in their order.
    """

    def __init__(self, instrument: Instrument, cash: Decimal) -> None:
        self.orders: dict[int, DeskOrder] = {}
        self.commands: list[Command] = []
        self.numbers = 0
        self.base_units = 0
        self.quote_units = _units(cash)
        self.position = 0.0
        self.cash = self.equity = self.quote_units / _UNITS
        self.entry_price = math.nan
        self.open_orders = 0
        self._instrument = instrument
        self._lot_units = _units(instrument.lot_size)
        self._tick = Fraction(instrument.tick_size)
        # A lot, or the part of it that old fills are whole numbers of.
        self._step_units = self._lot_units
        self._entry_ticks = math.nan
        self._open: set[int] = set()
        self._bar_ms = 0

    # What happened.

    @property
    def position_lots(self) -> int:
        """The position in whole lots: dust does not count."""
        return self.base_units // self._lot_units

    @property
    def off_lot(self) -> Decimal:
        """What of the position is less than a lot because fills are off the lot; else 0."""
        if self._step_units == self._lot_units:
            return Decimal(0)
        return Decimal(self.base_units % self._lot_units).scaleb(-8)

    def equity_units(self, close_ticks: int) -> int:
        """Return what everything is worth at a price, in 1e-8 of quote, rounded down (F22)."""
        return self.quote_units + math.floor(self.base_units * close_ticks * self._tick)

    def book(self, news: Iterable[DeskFill]) -> None:
        """Count fills that were not counted before, in the order in which they came to be."""
        news = list(news)
        self._step_units = math.gcd(self._step_units, *(_units(one.fill.quantity) for one in news))
        for one in news:
            fill, before = one.fill, self.base_units // self._step_units
            sign = 1 if one.side is Side.BUY else -1
            self.base_units += sign * _units(fill.quantity)
            self.quote_units -= sign * math.floor(_value(fill.price, fill.quantity))
            if fill.fee_asset == self._instrument.base:
                self.base_units -= _units(fill.fee)
            elif fill.fee_asset == self._instrument.quote:
                self.quote_units -= _units(fill.fee)
            self._average(before, fill.price, sign * _units(fill.quantity) // self._step_units)

    def known(self, number: int, order: DeskOrder) -> None:
        """Take an order in that was decided in an earlier life of the process."""
        self.orders[number] = order
        self.numbers = max(self.numbers, number)

    def tell(self, number: int, order: Order) -> None:
        """Say how an order stands."""
        mine = self.orders[number]
        mine.request, mine.filled = order.intent.request, order.filled
        mine.is_open = not order.is_final
        if mine.is_open:
            self._open.add(number)
        else:
            self._open.discard(number)

    def open_numbers(self) -> list[int]:
        """Return the numbers of the open orders, oldest first."""
        return sorted(self._open)

    def only_reduces(self, request: OrderRequest) -> bool:
        """Return whether an order can only shrink the position, with all that is open besides."""
        if request.side is Side.BUY:
            return False
        orders = (self.orders[number] for number in self._open)
        sells = [
            each.request.amount - each.filled
            for each in orders
            if each.request is not None and each.request.side is Side.SELL
        ]
        held = self._instrument.quantity_from_lots(self.position_lots)
        return request.amount + sum(sells) <= held

    def on_steps(self, request: OrderRequest) -> OrderRequest | None:
        """Return an order in today's ticks and lots, or None when less than one of them is left.

        What was written down earlier, and what is left of an old order, may be off them.
        """
        instrument, price, at = self._instrument, request.price, request.trigger_price
        amount = instrument.round_quantity_down(request.amount)
        if price is not None:
            price = instrument.round_price(price, request.side)
        if at is not None:
            at = instrument.round_trigger(at)
        if 0 in (amount, price, at):
            return None
        return replace(request, amount=amount, price=price, trigger_price=at)

    def open_bar(self, bars: Bars) -> None:
        """Begin a decision after the last of `bars`: show what there is now, command nothing."""
        self.commands = []
        self._bar_ms = int(bars.open_time_ms[-1])
        locked = sum(self._locked(self.orders[number], bars) for number in self._open)
        self.position = self.position_lots * self._lot_units / _UNITS
        self.cash = (self.quote_units - locked) / _UNITS
        self.equity = self.equity_units(int(bars.close[-1])) / _UNITS
        # Less than a lot counts as flat, but its average is kept: more may be bought to it.
        entry_ticks = self._entry_ticks if self.position_lots else math.nan
        self.entry_price = entry_ticks * float(self._instrument.tick_size)
        self.open_orders = len(self._open)

    # What a strategy asks for: `bagbot.trading.strategy.Desk`.

    def place(
        self,
        is_buy: bool,  # noqa: FBT001 - the protocol's.
        amount: float,
        kind: int,
        limit: float,
        trigger: float,
        trailing_ppm: int,
        time_in_force: int,
        is_reduce_only: bool,  # noqa: FBT001
        pair: int,
        parent: int,
    ) -> int:
        """Write one order down, and return its number.

        Raises NotSupportedError for what can't be sent live yet, InvalidOrderError for what can't
        be computed with. What the exchange would refuse as written is refused without asking it.
        """
        if pair or parent:
            raise NotSupportedError(
                "orders that belong together (pair, parent, stop_loss, take_profit) cannot be "
                "sent live yet; nothing of this bar was sent"
            )
        if trailing_ppm % _PPM_OF_BASIS_POINT:
            raise InvalidOrderError(
                f"a trail of {trailing_ppm} millionths is no whole number of basis points, which "
                f"is what the exchange takes; nothing of this bar was sent"
            )
        side = Side.BUY if is_buy else Side.SELL
        type_ = _TYPES[kind]
        force = TimeInForce.PO if kind == fills.LIMIT_MAKER else _TIMES_IN_FORCE[time_in_force]
        amount_now = self._amount(amount)
        price = self._limit(limit, side) if type_.has_limit else None
        at = None if math.isnan(trigger) else self._trigger(trigger)
        if is_reduce_only and is_buy:
            # Spot is never short, so there is nothing that a buy could reduce.
            return self._new(Doing.PLACE, None, refusal=_REASONS[tables.REDUCE_ONLY])
        if price == 0 or at == 0:
            return self._new(Doing.PLACE, None, refusal=_REASONS[tables.PRICE_FILTER])
        if amount_now == 0:
            return self._new(Doing.PLACE, None, refusal=_REASONS[tables.LOT_SIZE])
        request = OrderRequest(
            symbol=self._instrument.symbol,
            side=side,
            type=type_,
            amount=amount_now,
            price=price,
            time_in_force=force if type_.has_limit else None,
            trigger_price=at,
            trailing_delta=trailing_ppm // _PPM_OF_BASIS_POINT or None,
        )
        return self._new(Doing.PLACE, request)

    def close_position(self) -> int:
        """Write down a sale of the whole position, and return its number; 0 when flat."""
        if self.position_lots == 0:
            return 0
        return self._new(
            Doing.CLOSE,
            OrderRequest(
                symbol=self._instrument.symbol,
                side=Side.SELL,
                type=OrderType.MARKET,
                amount=self._instrument.quantity_from_lots(self.position_lots),
            ),
        )

    def cancel(self, number: int) -> None:
        """Write down that an order is to be cancelled; nothing happens if it has ended."""
        self.commands.append(Command(doing=Doing.CANCEL, target=number))

    def cancel_all(self) -> None:
        """Write down that everything that is open then is to be cancelled."""
        self.commands.append(Command(doing=Doing.CANCEL_ALL))

    def amend(self, number: int, amount: float, limit: float, trigger: float) -> int:
        """Write down that an order is to be replaced, and return the new one's number."""
        known = self.orders.get(number)
        request = None if known is None else known.request
        is_alive = number in self._open or any(each.number == number for each in self.commands)
        if request is None or not is_alive:
            return self._new(Doing.AMEND, None, refusal=_REASONS[tables.UNKNOWN_ORDER])
        keeps_left = math.isnan(amount)
        new_amount = request.amount if keeps_left else self._amount(amount)
        price, at = request.price, request.trigger_price
        if price is not None and not math.isnan(limit):
            price = self._limit(limit, request.side)
        if at is not None and not math.isnan(trigger):
            at = self._trigger(trigger)
        if 0 in (new_amount, price, at):
            raise InvalidOrderError(f"nothing is left of order {number} as it would be amended")
        request = replace(request, amount=new_amount, price=price, trigger_price=at)
        return self._new(Doing.AMEND, request, target=number, keeps_left=keeps_left)

    def is_open(self, number: int) -> bool:
        """Return whether the order rests at the exchange."""
        return number in self._open

    def filled(self, number: int) -> float:
        """Return how much of the order has traded, in base."""
        known = self.orders.get(number)
        return 0.0 if known is None else _units(known.filled) / _UNITS

    def _new(
        self,
        doing: Doing,
        request: OrderRequest | None,
        *,
        target: int = 0,
        keeps_left: bool = False,
        refusal: str = "",
    ) -> int:
        self.numbers += 1
        self.orders[self.numbers] = DeskOrder(self._bar_ms, request)
        self.commands.append(
            Command(
                doing=doing,
                number=self.numbers,
                target=target,
                request=request,
                keeps_left=keeps_left,
                refusal=refusal,
            )
        )
        return self.numbers

    # Whole numbers.

    def _amount(self, amount: float) -> Decimal:
        lots = kernel.lots_of(amount, float(self._instrument.lot_size))
        return self._instrument.quantity_from_lots(_computable(lots))

    def _limit(self, limit: float, side: Side) -> Decimal:
        return self._price(limit, -1 if side is Side.BUY else 1)

    def _trigger(self, trigger: float) -> Decimal:
        return self._price(trigger, 0)

    def _price(self, price: float, direction: int) -> Decimal:
        ticks = kernel.ticks_of(price, float(self._instrument.tick_size), direction)
        return self._instrument.price_from_ticks(_computable(ticks))

    def _locked(self, order: DeskOrder, bars: Bars) -> int:
        """Return what of the quote asset an open order holds back (F18)."""
        request = order.request
        assert request is not None, "what is open was sent"
        if request.side is Side.SELL or request.type is OrderType.MARKET:
            return 0
        at = request.price or request.trigger_price
        if at is None:
            # What trails is locked at the price it was placed at: the open after its decision.
            after = int(numpy.searchsorted(bars.open_time_ms, order.bar_ms, side="right"))
            ticks = bars.open[after] if after < len(bars) else bars.close[-1]
            at = self._instrument.price_from_ticks(int(ticks))
        return math.ceil(_value(at, request.amount - order.filled))

    def _average(self, before: int, price: Decimal, change: int) -> None:
        """Keep the average price of entry, as the backtest does, with amounts in steps."""
        ticks = float(Fraction(price) / self._tick)
        if before == 0:
            self._entry_ticks = ticks
        elif change > 0:
            self._entry_ticks = (self._entry_ticks * before + ticks * change) / (before + change)


def _computable(steps: int) -> int:
    if steps < 0:
        raise InvalidOrderError(
            f"{tables.PROBLEMS[tables.TOO_LARGE]}; nothing of this bar was sent"
        )
    return steps


def _value(price: Decimal, quantity: Decimal) -> Fraction:
    """Return what a quantity costs in 1e-8 of quote, not rounded yet."""
    return Fraction(price) * Fraction(quantity) * _UNITS


def _units(amount: Decimal) -> int:
    """Return an amount in 1e-8, rounded down: exchanges keep no more digits."""
    return int(amount.scaleb(8))

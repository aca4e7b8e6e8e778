"""A strategy's Python object playing bars: its decisions interpreted, the kernel compiled or not.

The kernel is asked only when a bar reaches an order, or a command was queued; for all other bars
two comparisons here stand for it.
"""

import ctypes
import math
from typing import Any, Final, cast

import numpy

from bagbot.domain.bars import Bars
from bagbot.domain.errors import InvalidOrderError
from bagbot.trading import compiled, kernel, kernel_money
from bagbot.trading import kernel_tables as tables
from bagbot.trading.kernel_tables import Desk
from bagbot.trading.strategy import History, Strategy

_UNITS: Final = 100_000_000.0
_WORDS: Final = {name: int(place[1]) // 8 for name, place in (tables.ACCOUNT.fields or {}).items()}


class Kernel:
    """The kernel for one desk, as plain Python."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def close_bar(self, bar: int) -> None:
        """Play the range of a bar, and the open of the next, for what rests."""
        kernel.close_bar(self.desk, bar)

    def act(self) -> None:
        """Carry out what was queued."""
        kernel.act(self.desk)

    def finish(self) -> None:
        """Value what is not valued yet."""
        kernel.finish(self.desk)

    def grow(self) -> None:
        """Make room for more orders and fills."""
        self.desk = tables.grown(self.desk)

    def place(
        self,
        is_buy: bool,
        amount: float,
        kind: int,
        limit: float,
        trigger: float,
        trailing_ppm: int,
        time_in_force: int,
        is_reduce_only: bool,
        pair: int,
        parent: int,
    ) -> int:
        """Queue an order; return its number, or a problem."""
        return kernel.place(
            self.desk,
            is_buy,
            amount,
            kind,
            limit,
            trigger,
            trailing_ppm,
            time_in_force,
            is_reduce_only,
            pair,
            parent,
        )

    def close_position(self) -> int:
        """Queue an order against the position; return its number, 0, or a problem."""
        return kernel.close_position(self.desk)

    def cancel(self, number: int) -> int:
        """Queue a cancellation; return 0, or a problem."""
        return kernel.cancel(self.desk, number)

    def cancel_all(self) -> int:
        """Queue the cancellation of everything; return 0, or a problem."""
        return kernel.cancel_all(self.desk)

    def amend(self, number: int, amount: float, limit: float, trigger: float) -> int:
        """Queue a replacement; return the new order's number, or a problem."""
        return kernel.amend(self.desk, number, amount, limit, trigger)


class CompiledKernel(Kernel):
    """The kernel for one desk, as machine code."""

    def __init__(self, desk: Desk) -> None:
        from bagbot.trading import kernel_entry as entry

        super().__init__(desk)
        self._function = compiled.enter()
        self._table = numpy.zeros(1, entry.CALL)
        self._words = self._table.view(numpy.uint8).data.cast("q")
        self._figures = self._table.view(numpy.uint8).data.cast("d")
        places = {name: int(at[1]) // 8 for name, at in (entry.CALL.fields or {}).items()}
        self._bar, self._number = places["bar"], places["number"]
        self._answer, self._amount = places["answer"], places["amount"]
        self._kind, self._is_buy = places["kind"], places["is_buy"]
        self._entry = entry
        self._find_addresses()

    def close_bar(self, bar: int) -> None:
        """Play the range of a bar, and the open of the next, for what rests."""
        self._words[self._bar] = bar
        self._call(self._entry.CLOSE_BAR)

    def act(self) -> None:
        """Carry out what was queued."""
        self._call(self._entry.ACT)

    def finish(self) -> None:
        """Value what is not valued yet."""
        self._call(self._entry.FINISH)

    def grow(self) -> None:
        """Make room for more orders and fills."""
        super().grow()
        self._find_addresses()

    def place(
        self,
        is_buy: bool,
        amount: float,
        kind: int,
        limit: float,
        trigger: float,
        trailing_ppm: int,
        time_in_force: int,
        is_reduce_only: bool,
        pair: int,
        parent: int,
    ) -> int:
        """Queue an order; return its number, or a problem."""
        words, figures = self._words, self._figures
        at = self._kind
        words[at], words[at + 1], words[at + 2] = kind, trailing_ppm, time_in_force
        words[at + 3], words[at + 4] = pair, parent
        words[at + 5], words[at + 6] = is_buy, is_reduce_only
        at = self._amount
        figures[at], figures[at + 1], figures[at + 2] = amount, limit, trigger
        return self._call(self._entry.PLACE)

    def close_position(self) -> int:
        """Queue an order against the position; return its number, 0, or a problem."""
        return self._call(self._entry.CLOSE_POSITION)

    def cancel(self, number: int) -> int:
        """Queue a cancellation; return 0, or a problem."""
        self._words[self._number] = number
        return self._call(self._entry.CANCEL_ONE)

    def cancel_all(self) -> int:
        """Queue the cancellation of everything; return 0, or a problem."""
        return self._call(self._entry.CANCEL_EVERY)

    def amend(self, number: int, amount: float, limit: float, trigger: float) -> int:
        """Queue a replacement; return the new order's number, or a problem."""
        self._words[self._number] = number
        at = self._amount
        self._figures[at], self._figures[at + 1], self._figures[at + 2] = amount, limit, trigger
        return self._call(self._entry.AMEND_ONE)

    def _call(self, what: int) -> int:
        self._words[0] = what
        self._function(*self._addresses)
        return self._words[self._answer]

    def _find_addresses(self) -> None:
        desk = self.desk
        self._sizes = numpy.array(
            [len(desk.open), len(desk.funding), len(desk.orders), len(desk.fills)], numpy.int64
        )
        arrays = [self._sizes, *(_memory(part) for part in desk), self._table]
        self._addresses = [ctypes.c_void_p(array.ctypes.data) for array in arrays]


def _memory(part: object) -> numpy.ndarray[Any, Any]:
    """Return the array that a part of a desk is: a record's is the one of which it is the row."""
    is_table = isinstance(part, numpy.ndarray)
    return cast(numpy.ndarray[Any, Any], part if is_table else cast(numpy.record, part).base)


class RunningDesk:
    """What a strategy's object talks to while it plays bars (strategy.Desk)."""

    def __init__(self, engine: Kernel) -> None:
        self.position = 0.0
        self.cash = 0.0
        self.entry_price = math.nan
        self.open_orders = 0
        self.has_commands = False
        # A bar between the first two, before the third, touches nothing.
        self.bounds = (-1, tables.NEVER, 0)
        self._told: dict[str, object] = {}
        self.bar = -1
        self._engine = engine
        self._closed_bar = -1
        self._read_account()
        self.refresh()

    # What it says.

    @property
    def equity(self) -> float:
        """What is in hand now, valued at the last close, in quote."""
        desk = self._engine.desk
        return float(kernel_money.equity_units(desk, desk.close[self.bar])) / _UNITS

    def is_open(self, number: int) -> bool:
        """Return whether the order rests, or sleeps."""
        return kernel.is_open(self._engine.desk, number)

    def filled(self, number: int) -> float:
        """Return how much of the order has traded, in base."""
        return kernel.filled(self._engine.desk, number)

    # What it is told.

    def place(
        self,
        is_buy: bool,
        amount: float,
        kind: int,
        limit: float,
        trigger: float,
        trailing_ppm: int,
        time_in_force: int,
        is_reduce_only: bool,
        pair: int,
        parent: int,
    ) -> int:
        """Queue an order and return its number. Raises InvalidOrderError."""
        self._begin()
        return self._checked(
            self._engine.place(
                is_buy,
                amount,
                kind,
                limit,
                trigger,
                trailing_ppm,
                time_in_force,
                is_reduce_only,
                pair,
                parent,
            )
        )

    def close_position(self) -> int:
        """Queue a market order against the whole position; return its number, 0 when flat."""
        self._begin()
        return self._checked(self._engine.close_position())

    def cancel(self, number: int) -> None:
        """Queue a cancellation."""
        self._begin()
        self._checked(self._engine.cancel(number))

    def cancel_all(self) -> None:
        """Queue the cancellation of everything that is open then."""
        self._begin()
        self._checked(self._engine.cancel_all())

    def amend(self, number: int, amount: float, limit: float, trigger: float) -> int:
        """Queue a replacement of an order, and return the new one's number."""
        self._begin()
        return self._checked(self._engine.amend(number, amount, limit, trigger))

    # What the loop does.

    def close_bar(self, bar: int) -> None:
        """Let the kernel close a bar that reaches an order."""
        self._engine.close_bar(bar)
        self._closed_bar = bar
        self.refresh()

    def act(self) -> None:
        """Carry out what was queued."""
        self._engine.act()
        self.has_commands = False
        account = self._account
        if (
            account[_WORDS["order_count"]] > self._orders_most
            or account[_WORDS["fill_count"]] > self._fills_most
        ):
            self._engine.grow()
            self._read_account()
        self.refresh()

    def tell(self, strategy: Strategy) -> None:
        """Write on this strategy what it asks for most, from now on."""
        self._told = strategy.__dict__
        self.refresh()

    def refresh(self) -> None:
        """Read the account anew."""
        account, words = self._account, _WORDS
        if self._is_margin:
            lots = account[words["position_lots"]]
        else:
            lots = (account[words["base_free"]] + account[words["base_locked"]]) // self._lot_units
        self.position = float(lots * self._lot_units) / _UNITS
        self.cash = float(account[words["quote_free"]]) / _UNITS
        self.entry_price = self._figures[words["entry_price"]] * self._tick if lots else math.nan
        self.open_orders = account[words["working_count"]]
        self.bounds = (
            account[words["bound_low"]],
            account[words["bound_high"]],
            account[words["watched_bar"]],
        )
        # Written where the strategy reads it, because it reads more often than this changes.
        self._told["position"] = self.position
        self._told["cash"] = self.cash
        self._told["entry_price"] = self.entry_price
        self._told["open_orders"] = self.open_orders

    def _begin(self) -> None:
        """Tell the kernel which bar it is, if nothing has called it for this one yet."""
        if self._closed_bar != self.bar:
            self._engine.close_bar(self.bar)
            self._closed_bar = self.bar
        self.has_commands = True

    def _checked(self, number: int) -> int:
        if number < 0:
            raise InvalidOrderError(tables.PROBLEMS[number])
        return number

    def _read_account(self) -> None:
        desk = self._engine.desk
        memory = _memory(desk.account).view(numpy.uint8).data
        # Through these a value is read in a tenth of the time that a record of numpy takes.
        self._account, self._figures = memory.cast("q"), memory.cast("d")
        self._orders_most = len(desk.orders) - tables.ORDERS_PER_BAR
        self._fills_most = len(desk.fills) - tables.FILLS_PER_BAR
        self._is_margin = bool(desk.rules.is_margin)
        self._lot_units = int(desk.scale.lot_units)
        self._tick = float(desk.rules.tick)


class InterpretedRun:
    """One run of a strategy object that has been prepared, bar by bar."""

    def __init__(
        self, strategy: Strategy, history: History, first: int, bars: Bars, engine: Kernel
    ) -> None:
        self._strategy = strategy
        self._history = history
        self._first = first
        self._engine = engine
        self._desk = strategy._desk = RunningDesk(engine)
        self._desk.tell(strategy)
        self._bars = bars

    def play(self, start: int, stop: int) -> None:
        """Play the bars from `start` on, up to `stop`; the last bar of all ends the run."""
        desk, first, strategy = self._desk, self._first, self._strategy
        growing, decide = self._history.growing, strategy.on_bar
        if start <= first < stop:
            self._history.advance_to(first - 1)
        floors, ceilings = self._reach(start, stop)
        bound_low, bound_high, watched_bar = desk.bounds
        bar = start - 1
        try:
            for bar, (floor, ceiling) in enumerate(zip(floors, ceilings, strict=True), start):
                desk.bar = bar
                if floor <= bound_low or ceiling >= bound_high or bar >= watched_bar:
                    desk.close_bar(bar)
                    bound_low, bound_high, watched_bar = desk.bounds
                if bar >= first:
                    for append, following in growing:
                        append(following())
                    strategy.index = bar
                    decide()
                    if desk.has_commands:
                        desk.act()
                        bound_low, bound_high, watched_bar = desk.bounds
        except Exception as error:
            time = numpy.datetime64(int(self._bars.open_time_ms[bar]), "ms")
            error.add_note(f"{type(self._strategy).__name__} after bar {bar}, which opened {time}")
            raise
        if stop == len(self._bars):
            self._engine.finish()

    def _reach(self, start: int, stop: int) -> tuple[list[int], list[int]]:
        """Return how far down and up each bar goes, the open that follows it included."""
        bars = self._bars
        following = numpy.zeros(stop - start, numpy.int64)
        opens = bars.open[start + 1 : stop + 1]
        following[: len(opens)] = opens
        floors = numpy.minimum(bars.low[start:stop], following)
        ceilings = numpy.maximum(bars.high[start:stop], following)
        return floors.tolist(), ceilings.tolist()

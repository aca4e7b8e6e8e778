"""The tables that the backtest's kernel works on: one account, its orders and its fills.

Everything is whole numbers in numpy records, so that the same kernel runs compiled and as plain
Python. Amounts of money are in 1e-8 of their asset, prices in ticks, quantities in lots.
"""

from collections.abc import Mapping, MutableSequence, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar, cast

import numpy
from numpy.typing import NDArray

from bagbot.domain import fills
from bagbot.domain.bars import Bars

Numbers = NDArray[numpy.int64]
Table = numpy.recarray[Any, numpy.dtype[numpy.record]]

_Values = TypeVar("_Values", bound=NamedTuple)

QUEUED = 1
SLEEPING = 2
OPEN = 3
FILLED = 4
CANCELLED = 5
EXPIRED = 6
REFUSED = 7
"""What has become of an order. QUEUED: its command has not taken effect (yet)."""

STATUSES: Final[Mapping[int, str]] = MappingProxyType(
    {
        QUEUED: "queued",
        SLEEPING: "sleeping",
        OPEN: "open",
        FILLED: "filled",
        CANCELLED: "cancelled",
        EXPIRED: "expired",
        REFUSED: "refused",
    }
)

NONE = 0
TAKER = False
IN_QUOTE = False
JOINS, JOINED = True, False
"""Arguments that would be compiled for themselves, each, if they were written as literals."""

AT_OPEN = 0
IN_RANGE = 1
AT_CLOSE = 2
"""When in its bar a fill was."""

PLACE = 1
CANCEL = 2
CANCEL_ALL = 3
AMEND = 4
"""The kinds of commands."""

BY_COMMAND = 1
BY_PAIR = 2
BY_PARENT = 3
UNFILLED = 4
BY_LIQUIDATION = 5
BY_POSITION = 6
"""Why an order ended. What follows are reasons to refuse one, too."""

PRICE_FILTER = 10
TRAILING_DELTA = 11
LOT_SIZE = 12
MARKET_LOT_SIZE = 13
PERCENT_PRICE = 14
ZERO_NOTIONAL = 15
NOTIONAL = 16
MAX_NUM_ORDERS = 17
MAX_NUM_ALGO_ORDERS = 18
WOULD_TRIGGER = 19
WOULD_TAKE = 20
INSUFFICIENT_BALANCE = 21
UNKNOWN_ORDER = 22
REDUCE_ONLY = 23
INSUFFICIENT_MARGIN = 24
COLLAR = 30
ORDER_VALUE = 31
POSITION_VALUE = 32

REASONS: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: "",
        BY_COMMAND: "cancelled by the strategy",
        BY_PAIR: "its pair came first",
        BY_PARENT: "its parent ended without filling",
        UNFILLED: "what is left may not rest",
        BY_LIQUIDATION: "the position was liquidated",
        BY_POSITION: "no position is left to reduce",
        PRICE_FILTER: "Filter failure: PRICE_FILTER",
        TRAILING_DELTA: "Filter failure: TRAILING_DELTA",
        LOT_SIZE: "Filter failure: LOT_SIZE",
        MARKET_LOT_SIZE: "Filter failure: MARKET_LOT_SIZE",
        PERCENT_PRICE: "Filter failure: PERCENT_PRICE_BY_SIDE",
        ZERO_NOTIONAL: "Price * QTY is zero or less.",
        NOTIONAL: "Filter failure: NOTIONAL",
        MAX_NUM_ORDERS: "Filter failure: MAX_NUM_ORDERS",
        MAX_NUM_ALGO_ORDERS: "Filter failure: MAX_NUM_ALGO_ORDERS",
        WOULD_TRIGGER: "Order would trigger immediately.",
        WOULD_TAKE: "Order would immediately match and take.",
        INSUFFICIENT_BALANCE: "Account has insufficient balance for requested action.",
        UNKNOWN_ORDER: "Unknown order sent.",
        REDUCE_ONLY: "ReduceOnly Order is rejected.",
        INSUFFICIENT_MARGIN: "Margin is insufficient.",
        COLLAR: "price_collar",
        ORDER_VALUE: "max_order_value",
        POSITION_VALUE: "max_position_value",
    }
)
"""The exchange's words where it refuses, the rule's name where the risk gate does."""

TOO_MANY_COMMANDS = -1
TOO_LARGE = -2
NO_AMOUNT = -3
NO_PARENT = -4

PROBLEMS: Final[Mapping[int, str]] = MappingProxyType(
    {
        TOO_MANY_COMMANDS: "more than 1,024 commands after one bar",
        TOO_LARGE: "the order is larger than can be computed with (docs/FILL_RULES.md, F20)",
        NO_AMOUNT: "the amount is not a positive number",
        NO_PARENT: "an exit needs the order that it belongs to",
    }
)
"""Why a command can't be queued: a mistake of the strategy, which ends the run."""

COMMANDS_MAX = 1_024
WORKING_MAX = 1_024
# What one bar can add: every order trades at most at the open, in the range, and when it comes in.
ORDERS_PER_BAR = COMMANDS_MAX
FILLS_PER_BAR = 2 * WORKING_MAX + COMMANDS_MAX
NEVER = fills.INT64_MAX


class Account:
    """One account and where it stands: int64, but for two floats that strategies read."""

    # The last closed bar, the price in force after it (0: none), and what the volume allows.
    bar: int
    price: int
    budget_lots: int
    # A bar that stays above the one and below the other touches no order.
    bound_low: int
    bound_high: int
    # Spot: what is owned. Margin: quote as the wallet, base_* stay 0.
    quote_free: int
    quote_locked: int
    base_free: int
    base_locked: int
    # From this bar on, more than the bounds must be looked at.
    watched_bar: int
    # Margin: the position in lots, negative when short, its value at entry, and what secures it.
    position_lots: int
    entry_value: int
    margin: int
    # The mark price at which the position is liquidated; 0 for none.
    liquidation_price: int
    funding_row: int
    funding_bar: int
    # In ticks, NaN when flat.
    entry_price: float
    # The position in base, in whole lots, as a strategy asks for it every bar.
    position: float
    order_count: int
    working_count: int
    command_count: int
    fill_count: int
    # How many bars have their equity.
    valued_count: int
    # The rows of the orders that are open or asleep.
    working: MutableSequence[int]
    # Action, number and other number of each command.
    commands: Sequence[MutableSequence[int]]


class OrderRow(fills.WorkingOrder):
    """One order, from its command on; `lots` is what is left of it. Its row is `number - 1`."""

    bar: int
    ordered: int
    filled: int
    locked: int
    placed_kind: int
    placed_trigger: int
    placed_trailing_ppm: int
    status: int
    reason: int
    is_reduce_only: int


class FillRow:
    """One fill: in which bar, of which order, and what the account had afterwards."""

    bar: int
    when: int
    order: int
    is_buy: bool
    price: int
    lots: int
    fee_units: int
    fee_in_base: bool
    is_maker: bool
    # Spot: 1e-8 of base. Margin: lots, negative when short.
    held_after: int
    cash_units_after: int


def _record(
    whole: str, *, small: str = "", tiny: str = "", flags: str = "", real: str = ""
) -> list[tuple[str, str]]:
    kinds = ((whole, "<i8"), (real, "<f8"), (small, "<i4"), (tiny, "i1"), (flags, "?"))
    return [(name, kind) for names, kind in kinds for name in names.split()]


_ACCOUNT: Final = _record(
    "bar price budget_lots bound_low bound_high quote_free quote_locked base_free base_locked "
    "position_lots entry_value margin liquidation_price funding_row funding_bar order_count "
    "working_count command_count fill_count valued_count watched_bar",
    real="entry_price position",
)
ACCOUNT: Final = numpy.dtype(
    [*_ACCOUNT, ("working", "<i8", (WORKING_MAX,)), ("commands", "<i8", (COMMANDS_MAX, 3))],
    align=True,
)
_ORDER: Final = _record(
    "number bar ordered lots filled limit trigger placed_trigger best since untested locked",
    small="pair parent trailing_ppm placed_trailing_ppm",
    tiny="placed_kind kind time_in_force doubts status reason is_reduce_only",
    flags="is_buy",
)
_FILL: Final = _record(
    "bar order price lots fee_units held_after cash_units_after",
    tiny="when",
    flags="is_buy fee_in_base is_maker",
)
ORDER: Final = numpy.dtype(_ORDER, align=True)
FILL: Final = numpy.dtype(_FILL, align=True)


class Rules(NamedTuple):
    """What an order must satisfy, and how the market works: the exchange's and the gate's rules.

    Prices are ticks, quantities lots, values 1e-8 of quote, ratios ppm; what is off is 0 or NEVER.
    """

    tick: float
    lot: float
    # The highest price of the record, slipped: what an order's size is judged by (F20).
    price_top: int
    price_min: int = 1
    price_max: int = NEVER
    lots_min: int = 1
    lots_max: int = NEVER
    market_lots_min: int = 1
    market_lots_max: int = NEVER
    market_lots_step: int = 1
    notional_min: int = 0
    notional_max: int = NEVER
    notional_min_at_market: int = 0
    notional_max_at_market: int = NEVER
    buy_ppm_min: int = 0
    buy_ppm_max: int = NEVER
    sell_ppm_min: int = 0
    sell_ppm_max: int = NEVER
    trailing_ppm_min: int = 0
    trailing_ppm_max: int = NEVER
    open_orders_max: int = WORKING_MAX
    open_stops_max: int = WORKING_MAX
    # The gate's.
    order_value_max: int = NEVER
    position_value_max: int = NEVER
    collar_ppm: int = NEVER
    # How fees, fills and margin work.
    fee_in_quote: bool = False
    fills_at_close: bool = False
    is_margin: bool = False
    leverage: int = 1
    maintenance_ppm: int = 0
    # What a unit held is worth per tick: 1e-8 of base on spot, a lot on margin.
    held_numerator: int = 1
    held_denominator: int = 1


def _fields_of(kind: type[NamedTuple]) -> numpy.dtype[Any]:
    formats = {int: "<i8", float: "<f8", bool: "?"}
    return numpy.dtype(
        [(name, formats[each]) for name, each in kind.__annotations__.items()], align=True
    )


RULES: Final = _fields_of(Rules)
COSTS: Final = _fields_of(fills.Costs)
SCALE: Final = _fields_of(fills.Scale)


class Desk(NamedTuple):
    """Everything that a run is: the bars, the rules, and the account with its tables."""

    open: Numbers
    high: Numbers
    low: Numbers
    close: Numbers
    volume: Numbers
    # Per payment of funding: the bar at whose open it is due, the rate in 1e-8, the mark price
    # (0: that open).
    funding: Numbers
    orders: Sequence[OrderRow]
    fills: Sequence[FillRow]
    equity: Numbers
    account: Account
    rules: Rules
    costs: fills.Costs
    scale: fills.Scale


class Book(NamedTuple):
    """What of a desk the orders and the money need: few things to hand on, for it is often."""

    orders: Sequence[OrderRow]
    fills: Sequence[FillRow]
    account: Account
    rules: Rules
    costs: fills.Costs
    scale: fills.Scale


def new_desk(
    bars: Bars,
    rules: Rules,
    costs: fills.Costs,
    scale: fills.Scale,
    *,
    cash_units: int,
    funding: Numbers,
) -> Desk:
    """Return a desk before the first bar, with so much of the quote asset and nothing else.

    `funding` has a row per payment: bar, rate in 1e-8, mark price in ticks (0: the bar's open).
    """
    account = cast(Account, _table(1, ACCOUNT)[0])
    account.bar = -1
    account.bound_low, account.bound_high = -1, NEVER
    account.budget_lots = fills.volume_budget(0, costs)
    account.quote_free = cash_units
    account.entry_price = numpy.nan
    account.funding_bar = funding[0, 0] if len(funding) else NEVER
    return Desk(
        open=_plain(bars.open),
        high=_plain(bars.high),
        low=_plain(bars.low),
        close=_plain(bars.close),
        volume=_plain(bars.volume),
        funding=funding,
        account=account,
        orders=cast(Sequence[OrderRow], _table(16 * ORDERS_PER_BAR, ORDER)),
        fills=cast(Sequence[FillRow], _table(8 * FILLS_PER_BAR, FILL)),
        equity=numpy.zeros(len(bars), numpy.int64),
        rules=_recorded(rules, RULES),
        costs=_recorded(costs, COSTS),
        scale=_recorded(scale, SCALE),
    )


def columns_of(desk: Desk) -> tuple[NDArray[Any], ...]:
    """Return the parts of a desk as plain arrays, records as arrays of one.

    Numba knows an array at once; a named tuple of records it looks through for 15 microseconds,
    each time that Python calls.
    """
    return tuple(
        numpy.asarray(part.base if isinstance(part, numpy.void) else part) for part in desk
    )


def grown(desk: Desk) -> Desk:
    """Return the desk with room for four times as many orders and fills."""
    return desk._replace(
        orders=cast(Sequence[OrderRow], _longer(cast(Table, desk.orders))),
        fills=cast(Sequence[FillRow], _longer(cast(Table, desk.fills))),
    )


class _Lent:
    """A column lent to the kernel, which never writes to bars, as what it is compiled for."""

    def __init__(self, column: Numbers) -> None:
        self._column = column
        self.__array_interface__ = {
            **column.__array_interface__,
            "data": (column.ctypes.data, False),
        }


def _plain(column: Numbers) -> Numbers:
    """Return a column as if it could be written to: all desks are of one type to the compiler."""
    return numpy.asarray(_Lent(column))


def _table(length: int, kind: numpy.dtype[Any]) -> Table:
    # From bytes, which numpy takes from memory that nobody wrote to yet; records it would clear.
    memory = numpy.zeros(length * kind.itemsize, numpy.uint8)
    return memory.view(kind).view(numpy.recarray)


def _recorded(values: _Values, kind: numpy.dtype[Any]) -> _Values:
    """Return a record with the same fields: compiled code passes it on as one pointer."""
    table = _table(1, kind)
    table[0] = tuple(values)
    return cast(_Values, table[0])


def _longer(table: Table) -> Table:
    longer = _table(4 * len(table), table.dtype)
    longer[: len(table)] = table
    return longer

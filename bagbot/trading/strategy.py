"""What a user writes: a class with parameters, arrays prepared once, and a decision per bar.

The same object is backtested (interpreted or compiled) and traded live. Orders are not carried out
here: they are handed, one after the other, to the desk that the strategy is given.
"""

import difflib
import inspect
import math
import numbers
import re
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import ClassVar, Final, Generic, Protocol, TypeVar, cast, get_origin

import numpy
from numpy.typing import NDArray

from bagbot.domain.bars import Bars
from bagbot.domain.errors import InvalidOrderError, StrategyError
from bagbot.domain.fills import (
    FILL_OR_KILL,
    GOOD_TILL_CANCELLED,
    IMMEDIATE_OR_CANCEL,
    LIMIT,
    LIMIT_MAKER,
    MARKET,
    STOP,
    STOP_LIMIT,
    TAKE_PROFIT,
    TAKE_PROFIT_LIMIT,
)

Value = int | float | bool
Array = NDArray[numpy.float64] | NDArray[numpy.int64] | NDArray[numpy.bool_]

TIMES_IN_FORCE: Final[Mapping[str, int]] = MappingProxyType(
    {"GTC": GOOD_TILL_CANCELLED, "IOC": IMMEDIATE_OR_CANCEL, "FOK": FILL_OR_KILL}
)
_Figure = TypeVar("_Figure", int, float)

BAR_SERIES: Final = ("open", "high", "low", "close", "volume", "time")
_NOT_GIVEN: Final = math.nan
_BUY: Final = True
_SELL: Final = False
_REDUCES: Final = True


class Desk(Protocol):
    """What carries out a strategy's commands: a backtest's account, or the live one.

    Amounts and prices are floats as the strategy wrote them, finite and positive where they are
    given; NaN stands for "not given". An order without an amount is an exit of its parent, and
    sells (or buys back) what that one brings. Commands take effect after `on_bar`.
    """

    @property
    def position(self) -> float:
        """How much of the base asset is held; negative when short."""
        ...

    @property
    def cash(self) -> float:
        """How much of the quote asset is free."""
        ...

    @property
    def equity(self) -> float:
        """What everything is worth in the quote asset, at the last close."""
        ...

    @property
    def entry_price(self) -> float:
        """The average price at which the position was entered; NaN when flat."""
        ...

    @property
    def open_orders(self) -> int:
        """How many orders are open, sleeping ones included."""
        ...

    def place(
        self,
        is_buy: bool,  # noqa: FBT001 - a row of a table; called by Strategy alone, and often
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
        """Queue one order of a kind of `domain.fills`, and return its number."""

    def close_position(self) -> int:
        """Queue a market order against the whole position, and return its number; 0 when flat."""

    def cancel(self, number: int) -> None:
        """Queue the cancellation of one order; nothing happens if it has ended."""

    def cancel_all(self) -> None:
        """Queue the cancellation of everything that is open when the command takes effect."""

    def amend(self, number: int, amount: float, limit: float, trigger: float) -> int:
        """Queue a replacement of an order, and return the new one's number."""

    def is_open(self, number: int) -> bool:
        """Return whether the order rests, or sleeps."""

    def filled(self, number: int) -> float:
        """Return how much of the order has traded, in base."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A declared parameter; `default` is None when it has to be given."""

    name: str
    kind: type[int] | type[float] | type[bool]
    default: Value | None

    def checked(self, value: object, strategy: type["Strategy"]) -> Value:
        """Return `value` as what was declared.

        Raises StrategyError when it is something else.
        """
        if self.kind is bool and isinstance(value, bool | numpy.bool_):
            return bool(value)
        is_number = not isinstance(value, bool | numpy.bool_)
        if self.kind is int and is_number and isinstance(value, numbers.Integral):
            return int(value)
        if self.kind is float and is_number and isinstance(value, numbers.Real):
            number = float(value)
            if math.isfinite(number):
                return number
        raise StrategyError(
            f"{strategy.__name__}: parameter {self.name} is {self.kind.__name__}, not {value!r}"
            f" ({place_of(strategy, self.name)})"
        )


class _Told(Generic[_Figure]):
    """A figure that the desk tells; a desk may write it on the strategy itself when it changes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, strategy: "Strategy", owner: type) -> _Figure:
        figure: _Figure = getattr(strategy._desk, self._name)
        return figure


class Strategy:
    """The base of every strategy: annotated class attributes are its parameters.

    `prepare` computes over whole arrays, once; `on_bar` decides, once per closed bar, and sees of
    every array only what has been so far: `self.close[-1]` is the bar that just closed.

    Raises StrategyError when a parameter is unknown, missing or of the wrong kind.
    """

    parameters: Mapping[str, Value]
    """What this object was made with, defaults included."""

    declared: ClassVar[Mapping[str, Parameter]] = MappingProxyType({})
    """The parameters of the class."""

    warmup: ClassVar[int] = 0
    """How many bars pass at least before `on_bar` is called for the first time."""

    open: NDArray[numpy.float64]
    high: NDArray[numpy.float64]
    low: NDArray[numpy.float64]
    close: NDArray[numpy.float64]
    volume: NDArray[numpy.float64]
    time: NDArray[numpy.int64]
    """When each bar opened, in milliseconds UTC."""

    index: int
    """Which bar just closed, counted from 0."""

    _desk: Desk
    _given: Mapping[str, Array]
    _history: "History"

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        declared = dict(cls.declared)
        for name, annotation in inspect.get_annotations(cls).items():
            if name in _OWN_NAMES:
                raise StrategyError(
                    f"{cls.__name__}: {name} is a name of every strategy; call the parameter "
                    f"something else ({place_of(cls, name)})"
                )
            if name.startswith("_") or "ClassVar" in str(get_origin(annotation) or annotation):
                continue
            declared[name] = _declared(cls, name, annotation)
        cls.declared = MappingProxyType(declared)

    def __init__(self, **parameters: object) -> None:
        cls = type(self)
        for name in parameters:
            if name not in cls.declared:
                raise StrategyError(
                    f"{cls.__name__} has no parameter {name}{did_you_mean(name, cls.declared)}"
                )
        values: dict[str, Value] = {}
        for name, parameter in cls.declared.items():
            given = parameters.get(name, parameter.default)
            if given is None:
                raise StrategyError(f"{cls.__name__}: parameter {name} must be given")
            values[name] = parameter.checked(given, cls)
        self.__dict__.update(values)
        self.parameters = MappingProxyType(values)

    def __getattr__(self, name: str) -> object:
        """Return a series of the bars in `prepare`; in `on_bar` what has been seen of a series."""
        given = self.__dict__.get("_given")
        if given is not None and name in given:
            value: object = given[name]
            self.__dict__[name] = value
            return value
        history = self.__dict__.get("_history")
        if history is not None and name in history.series:
            return history.seen(name)
        cls = type(self).__name__
        if name in BAR_SERIES or name in {"index", "_desk"}:
            raise AttributeError(f"{cls}: self.{name} is there in prepare() and on_bar() only")
        known = set(dir(self)) | set(history.series if history is not None else ())
        hint = did_you_mean(name, known, before="self.")
        raise AttributeError(f"self.{name} is not set in {cls}.prepare(){hint}")

    def fresh(self) -> "Strategy":
        """Return another strategy of this class with the same parameters and no state."""
        return type(self)(**self.parameters)

    # What a user overrides.

    def prepare(self) -> None:
        """Compute over whole arrays, and set the strategy's own state; called once."""

    def on_bar(self) -> None:
        """Decide after a closed bar."""
        raise NotImplementedError(f"{type(self).__name__} has no on_bar()")

    # What is known in `on_bar`.

    position = _Told[float]("position")
    """How much of the base asset is held, in whole lots; negative when short."""

    cash = _Told[float]("cash")
    """How much of the quote asset is free."""

    entry_price = _Told[float]("entry_price")
    """The average price at which the position was entered; NaN when flat."""

    open_orders = _Told[int]("open_orders")
    """How many orders are open, sleeping ones included."""

    @property
    def equity(self) -> float:
        """What everything is worth in the quote asset, at the last close."""
        return self._desk.equity

    def is_open(self, number: int) -> bool:
        """Return whether the order rests, or sleeps until its parent has filled."""
        return self._desk.is_open(number)

    def filled(self, number: int) -> float:
        """Return how much of the order has traded, in the base asset."""
        return self._desk.filled(number)

    # What it can do. Everything takes effect after `on_bar`, in the order of the calls.

    def buy(
        self,
        amount: float,
        *,
        limit: float | None = None,
        stop: float | None = None,
        target: float | None = None,
        trail: float | None = None,
        tif: str = "GTC",
        post_only: bool = False,
        reduce_only: bool = False,
        pair: int = 0,
        parent: int = 0,
        stop_loss: float | None = None,
        take_profit: float | None = None,
    ) -> int:
        """Order to buy `amount` of the base asset, and return the order's number.

        At the market unless `limit`, `stop`, `target` (a take-profit) or `trail` (a stop that
        follows, as a fraction of the price) say otherwise; `limit` goes with each of them. Of an
        order and its `pair` one cancels the other; with a `parent` it sleeps until that one has
        filled. `stop_loss` and `take_profit` place this order's own exits, as the next numbers.

        Raises InvalidOrderError when that makes no sense: an amount or price that is NaN, infinite
        or not positive, or words that contradict each other.
        """
        if limit is stop is target is trail is None and tif == "GTC" and not post_only:
            shape = _AT_THE_MARKET
        else:
            shape = order_shape(limit, stop, target, trail, tif, post_only=post_only)
        number = self._desk.place(
            _BUY, checked("amount", amount), *shape, reduce_only, pair, parent
        )
        if stop_loss is not None or take_profit is not None:
            self._place_exits(number, stop_loss, take_profit, are_bought=False)
        return number

    def sell(
        self,
        amount: float,
        *,
        limit: float | None = None,
        stop: float | None = None,
        target: float | None = None,
        trail: float | None = None,
        tif: str = "GTC",
        post_only: bool = False,
        reduce_only: bool = False,
        pair: int = 0,
        parent: int = 0,
        stop_loss: float | None = None,
        take_profit: float | None = None,
    ) -> int:
        """Order to sell `amount` of the base asset, and return the order's number: see `buy`."""
        if limit is stop is target is trail is None and tif == "GTC" and not post_only:
            shape = _AT_THE_MARKET
        else:
            shape = order_shape(limit, stop, target, trail, tif, post_only=post_only)
        number = self._desk.place(
            _SELL, checked("amount", amount), *shape, reduce_only, pair, parent
        )
        if stop_loss is not None or take_profit is not None:
            self._place_exits(number, stop_loss, take_profit, are_bought=True)
        return number

    def close_position(self) -> int:
        """Order the whole position away at the market; return the order's number, 0 when flat."""
        return self._desk.close_position()

    def cancel(self, number: int) -> None:
        """Cancel an order, and with it what waits for it."""
        self._desk.cancel(number)

    def cancel_all(self) -> None:
        """Cancel every open order."""
        self._desk.cancel_all()

    def amend(
        self,
        number: int,
        *,
        amount: float | None = None,
        limit: float | None = None,
        stop: float | None = None,
        target: float | None = None,
    ) -> int:
        """Replace an open order by one with other values, and return the new order's number.

        What is not given stays as it is. Raises InvalidOrderError as `buy` does.
        """
        if stop is not None and target is not None:
            raise InvalidOrderError("an order has either a stop or a target, not both")
        trigger = target if stop is None else stop
        return self._desk.amend(
            number,
            _NOT_GIVEN if amount is None else checked("amount", amount),
            _NOT_GIVEN if limit is None else checked("limit", limit),
            _NOT_GIVEN if trigger is None else checked("trigger", trigger),
        )

    def _place_exits(
        self, entry: int, stop_loss: float | None, take_profit: float | None, *, are_bought: bool
    ) -> None:
        """Place the exits of the order `entry`, paired with each other: first the stop."""
        stop = 0
        if stop_loss is not None:
            trigger = checked("stop_loss", stop_loss)
            shape = (STOP, _NOT_GIVEN, trigger, 0, GOOD_TILL_CANCELLED)
            stop = self._desk.place(are_bought, _NOT_GIVEN, *shape, _REDUCES, 0, entry)
        if take_profit is not None:
            limit = checked("take_profit", take_profit)
            shape = (LIMIT, limit, _NOT_GIVEN, 0, GOOD_TILL_CANCELLED)
            self._desk.place(are_bought, _NOT_GIVEN, *shape, _REDUCES, stop, entry)


class History:
    """What a strategy has seen of its series: lists that grow by one value per bar.

    Only what `on_bar` asks for is kept as a list, from when it first asks. `growing` has, for each
    of them, how a value is appended and where the next one comes from: a loop over all bars may
    do `append(following())` itself and set the strategy's `index`, instead of `advance_to`.
    """

    def __init__(self, strategy: Strategy, series: Mapping[str, Array]) -> None:
        """Hide the whole arrays behind what has been seen of them: nothing yet."""
        self.series = series
        self.growing: list[tuple[Callable[[Value], None], Callable[[], Value]]] = []
        self._strategy = strategy
        for name in series:
            strategy.__dict__.pop(name, None)
        strategy.index = -1
        strategy._history = self

    def advance_to(self, index: int) -> None:
        """Show the bars up to `index`, which must not be earlier than what was shown."""
        bars = range(self._strategy.index, index)
        for append, following in self.growing:
            for _ in bars:
                append(following())
        self._strategy.index = index

    def seen(self, name: str) -> list[Value]:
        """Return the list of one series, which grows from now on."""
        values = self.series[name].tolist()
        count = self._strategy.index + 1
        shown: list[Value] = values[:count]
        self.growing.append((shown.append, islice(values, count, None).__next__))
        self._strategy.__dict__[name] = shown
        return shown


@dataclass(frozen=True, slots=True)
class Prepared:
    """A strategy's series after `prepare`, and the first bar that `on_bar` is called for."""

    series: Mapping[str, Array]
    first: int


def prepare(
    strategy: Strategy,
    bars: Bars,
    given: Mapping[str, Array] | None = None,
    body: Callable[[Strategy], None] | None = None,
) -> Prepared:
    """Let the strategy prepare over `bars`, and return its series, those of the bars included.

    Every array of as many values as there are bars is a series. The first decision is made at the
    bar after the first one at which no float series that `prepare` set is NaN. `given` is
    `bar_series(bars)`, where it is known already, and `body` runs in place of the strategy's
    `prepare`, where something is to stand in for it.

    Raises StrategyError for what can't be a series: two dimensions, text, a tuple of arrays.
    """
    given = bar_series(bars) if given is None else given
    strategy._given = given
    (body or type(strategy).prepare)(strategy)
    del strategy._given
    series: dict[str, Array] = {}
    first = 0
    for name, value in strategy.__dict__.items():
        if name in given:
            if value is not given[name]:
                raise StrategyError(
                    f"{type(strategy).__name__}.prepare() replaced self.{name}, which is the bars' "
                    f"own"
                )
            continue
        array = _as_series(strategy, name, value, len(bars))
        if array is not None:
            series[name] = array
            if array.dtype == numpy.float64:
                first = max(first, _first_number(array))
        elif isinstance(value, numpy.generic):
            # Python's own numbers, so that they compute as Python's do.
            strategy.__dict__[name] = value.item()
    whole = ChainMap(series, cast(dict[str, Array], given))
    return Prepared(whole, max(first + 1, type(strategy).warmup))


class _BarSeries(Mapping[str, Array]):
    """The bars as a strategy sees them; a column is converted when it is first asked for."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._columns: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        if name not in self._columns:
            self._columns[name] = self._column(name)
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in BAR_SERIES

    def __iter__(self) -> Iterator[str]:
        return iter(BAR_SERIES)

    def __len__(self) -> int:
        return len(BAR_SERIES)

    def _column(self, name: str) -> Array:
        if name == "time":
            return self._bars.open_time_ms
        if name not in BAR_SERIES:
            raise KeyError(name)
        instrument = self._bars.instrument
        step = instrument.lot_size if name == "volume" else instrument.tick_size
        # Both factors are whole numbers below 2**53 in any real market, so that one division gives
        # the float nearest to the decimal price.
        decimals = max(0, -int(step.normalize().as_tuple().exponent))
        numerator = int(step.scaleb(decimals))
        column = getattr(self._bars, name)
        values = numpy.divide(column if numerator == 1 else column * numerator, 10.0**decimals)
        values.flags.writeable = False
        return cast(Array, values)


def bar_series(bars: Bars) -> Mapping[str, Array]:
    """Return the bars as a strategy sees them: float64 prices and volumes, times as int64.

    Each of them is made when it is first asked for, and only once.
    """
    return _BarSeries(bars)


def order_shape(
    limit: float | None,
    stop: float | None,
    target: float | None,
    trail: float | None,
    tif: str,
    *,
    post_only: bool,
) -> tuple[int, float, float, int, int]:
    """Return kind, limit, trigger, trailing distance in ppm and time in force of such an order.

    NaN and 0 stand for what it has not. Raises InvalidOrderError when the words contradict each
    other.
    """
    time_in_force = TIMES_IN_FORCE.get(tif, 0)
    problem = shape_problem(
        limit is not None,
        (stop is not None) + (target is not None) + (trail is not None),
        time_in_force,
        post_only,
    )
    if problem:
        raise InvalidOrderError(problem.format(tif=tif))
    if stop is not None or trail is not None:
        kind = STOP if limit is None else STOP_LIMIT
    elif target is not None:
        kind = TAKE_PROFIT if limit is None else TAKE_PROFIT_LIMIT
    elif limit is None:
        kind = MARKET
    else:
        kind = LIMIT_MAKER if post_only else LIMIT
    trigger = target if stop is None else stop
    return (
        kind,
        _NOT_GIVEN if limit is None else checked("limit", limit),
        _NOT_GIVEN if trigger is None else checked("trigger", trigger),
        0 if trail is None else trailing_ppm(trail),
        time_in_force,
    )


def shape_problem(has_limit: bool, triggers: int, time_in_force: int, post_only: bool) -> str:  # noqa: FBT001
    """Return why no order can have this shape, or "" when one can."""
    if time_in_force == 0:
        return "tif is GTC, IOC or FOK, not {tif}"
    if triggers > 1:
        return "an order has one of stop, target and trail"
    if post_only and (not has_limit or triggers):
        return "post_only needs a limit, and nothing that triggers"
    if time_in_force != GOOD_TILL_CANCELLED and (not has_limit or post_only):
        return "tif={tif} needs a limit that may take"
    return ""


def checked(what: str, number: float) -> float:
    """Return `number`, which must be finite and positive.

    Raises InvalidOrderError otherwise.
    """
    if 0.0 < number < math.inf:
        return number
    raise InvalidOrderError(f"{what} is {number!r}: it must be a positive number")


def trailing_ppm(trail: float) -> int:
    """Return a distance given as a fraction in millionths.

    Raises InvalidOrderError when that is not between 0 and 1.
    """
    ppm = math.floor(trail * 1_000_000 + 0.5) if 0.0 < trail < 1.0 else 0
    if 0 < ppm < 1_000_000:
        return ppm
    raise InvalidOrderError(f"trail is {trail!r}: it must be a fraction between 0 and 1")


def did_you_mean(name: str, known: Iterable[str], *, before: str = "") -> str:
    """Return a question that names what was probably meant, or ""."""
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean {before}{close[0]}?" if close else ""


def place_of(cls: type, name: str = "") -> str:
    """Return file and line of a class, or of an attribute that its body declares."""
    try:
        path = inspect.getsourcefile(cls) or "?"
        lines, first = inspect.getsourcelines(cls)
    except (OSError, TypeError):
        return f"{cls.__module__}.{cls.__qualname__}"
    declaration = re.compile(rf"\s*{re.escape(name)}\s*[:=]")
    offsets = [at for at, line in enumerate(lines) if name and declaration.match(line)]
    return f"{path}:{first + (offsets[0] if offsets else 0)}"


def _declared(cls: type[Strategy], name: str, annotation: object) -> Parameter:
    kinds: dict[object, type[int] | type[float] | type[bool]] = {
        int: int,
        float: float,
        bool: bool,
        "int": int,
        "float": float,
        "bool": bool,
    }
    if annotation not in kinds:
        shown = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "?")
        raise StrategyError(
            f"{cls.__name__}: parameter {name} is declared as {shown}; parameters are int, float "
            f"or bool ({place_of(cls, name)})"
        )
    parameter = Parameter(name, kinds[annotation], None)
    default = cls.__dict__.get(name)
    if default is None:
        return parameter
    return Parameter(name, parameter.kind, parameter.checked(default, cls))


def _as_series(strategy: Strategy, name: str, value: object, length: int) -> Array | None:
    """Return a value that `prepare` set as a series, or None when it is none."""
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    where = f"{type(strategy).__name__}.prepare(): self.{name}"
    if isinstance(value, tuple) and any(isinstance(each, numpy.ndarray) for each in value):
        raise StrategyError(
            f"{where} is a tuple of {len(value)} arrays; give each its own name: "
            f"self.a, self.b = ..."
        )
    if not isinstance(value, numpy.ndarray):
        return None
    if value.ndim != 1:
        if length in value.shape:
            raise StrategyError(f"{where} has {value.ndim} dimensions; a series has one")
        return None
    if len(value) != length:
        return None
    for kind, target in (("f", numpy.float64), ("iu", numpy.int64), ("b", numpy.bool_)):
        if value.dtype.kind in kind:
            array = numpy.ascontiguousarray(value, dtype=target)
            # A view, so that the user's own array stays as it was.
            view = array.view()
            view.flags.writeable = False
            return cast(Array, view)
    raise StrategyError(f"{where} is an array of {value.dtype}; a series is of numbers or bools")


def _first_number(values: Array) -> int:
    # By blocks, because it is nearly always among the first.
    for start in range(0, len(values), _BLOCK):
        is_number = ~numpy.isnan(values[start : start + _BLOCK])
        if is_number.any():
            return start + int(numpy.argmax(is_number))
    return len(values)


_BLOCK: Final = 4_096
_AT_THE_MARKET: Final = (MARKET, _NOT_GIVEN, _NOT_GIVEN, 0, GOOD_TILL_CANCELLED)
_OWN_NAMES: Final = frozenset(dir(Strategy)) | frozenset(Strategy.__annotations__)

"""Whether a strategy knew what it could not know: the same bars again, without those to come.

A backtest hands whole arrays to `prepare`, and anything that reaches forward in them (a centred
mean, a negative shift, a figure of the whole record) trades on tomorrow's news. So the record is
cut at some bars and prepared again: what was computed for the bars before must be what it was.
Then it is played again, cut, and the orders must be what they were.
"""

import ast
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy
from numpy.typing import NDArray

from bagbot.domain.bars import Bars
from bagbot.trading.strategy import BAR_SERIES, Array, Prepared, Strategy, Value, prepare

Play = Callable[[Bars], NDArray[numpy.void]]
"""Plays bars, and returns the orders in the sequence of their commands."""

# A record cut shorter says little, and some indicators do not take it.
_FEWEST: Final = 100
_TOLERANCE: Final = 1e-9
_SETTLED: Final = 1e-3
_PLACED: Final = ("number", "bar", "is_buy", "lots", "limit", "trigger", "kind")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was other when the bars after `cut` were not there.

    `what` is an attribute of the strategy or an order, `place` the user's file and line, where
    known.
    """

    what: str
    bar: int
    cut: int
    whole: str
    truncated: str
    place: str = ""

    def __str__(self) -> str:
        where = f" ({self.place})" if self.place else ""
        return (
            f"{self.what} at bar {self.bar} is {self.whole}, but {self.truncated} as long as "
            f"nothing after bar {self.cut} is known{where}"
        )


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A series whose value depends on how much history there is.

    With only `bars` before it the last value differs by the fraction `difference`.
    """

    name: str
    bars: int
    difference: float

    def __str__(self) -> str:
        return (
            f"self.{self.name} is not settled when trading begins: with {self.bars} bars of "
            f"history it differs by {self.difference:.2%} from what more history gives; set "
            f"a longer warmup"
        )


@dataclass(frozen=True, slots=True)
class Honesty:
    """What the checks found. `cuts` are the bars after which the record was cut."""

    look_ahead: tuple[Finding, ...]
    unsettled: tuple[Unsettled, ...]
    cuts: tuple[int, ...]
    replays: int

    @property
    def is_honest(self) -> bool:
        """Whether nothing knew the future."""
        return not self.look_ahead

    def lines(self) -> tuple[str, ...]:
        """Return the findings in words, one a line."""
        looked = f"cut after {len(self.cuts)} bars, played again {self.replays} times"
        if self.is_honest:
            first = f"no look-ahead found ({looked})"
        else:
            first = f"LOOK-AHEAD: the result uses what could not be known ({looked})"
        return (first, *map(str, self.look_ahead), *map(str, self.unsettled))

    def cautions(self) -> tuple[str, ...]:
        """Return what was found, and nothing when there is nothing."""
        return self.lines()[1:] if self.is_honest else self.lines()


def examine(
    strategy: Strategy, bars: Bars, play: Play | None = None, *, cuts: int = 5, replays: int = 1
) -> Honesty:
    """Return what a strategy knew too early, from so many cuts and replays of the record.

    `strategy` gives class and parameters; it is not touched. `play` backtests other bars with the
    settings that matter, and is needed for replays only.
    """
    whole_strategy = strategy.fresh()
    whole = prepare(whole_strategy, bars)
    found: dict[str, Finding] = {}
    at = _spread(max(whole.first, min(_FEWEST, len(bars) // 2)), len(bars), cuts)
    for cut in at:
        for finding in _prepared_differently(whole_strategy, whole, bars, cut):
            found.setdefault(finding.what, finding)
    played = 0
    if play is not None and replays:
        orders = play(bars)
        for cut in _decisions(orders, whole.first, len(bars), replays):
            played += 1
            other = _decided_differently(orders, play(bars[: cut + 1]), cut)
            if other is not None:
                found.setdefault("orders", other)
                break
    return Honesty(tuple(found.values()), _unsettled(strategy, whole, bars), at, played)


def _spread(first: int, length: int, count: int) -> tuple[int, ...]:
    """Return bars between the first decision and the last but one, evenly, both ends included."""
    if first >= length - 1:
        return ()
    return tuple(sorted({int(at) for at in numpy.linspace(first, length - 2, count)}))


def _prepared_differently(
    strategy: Strategy, whole: Prepared, bars: Bars, cut: int
) -> Iterator[Finding]:
    """Yield what `prepare` computes otherwise for bars up to `cut` when there are no more."""
    truncated_strategy = strategy.fresh()
    try:
        truncated = prepare(truncated_strategy, bars[: cut + 1])
    except Exception as error:
        error.add_note(f"prepare() on the first {cut + 1} bars alone; on all it went well")
        raise
    for name in whole.series:
        if name in BAR_SERIES:
            continue
        values, other = whole.series[name], truncated.series.get(name)
        if other is None:
            yield Finding(f"self.{name}", cut, cut, "a series", "none", _set_at(strategy, name))
            continue
        bar = _first_difference(values[: cut + 1], other)
        if bar >= 0:
            shown = _shown(values[bar]), _shown(other[bar])
            yield Finding(f"self.{name}", bar, cut, *shown, _set_at(strategy, name))
    state, other_state = _state(strategy), _state(truncated_strategy)
    for name in sorted(state.keys() & other_state.keys()):
        if not _same(state[name], other_state[name]):
            shown = _shown(state[name]), _shown(other_state[name])
            yield Finding(f"self.{name}", cut, cut, *shown, _set_at(strategy, name))


def _state(strategy: Strategy) -> Mapping[str, Value | Sequence[Value]]:
    """Return the numbers that `prepare` left on the strategy, besides its series."""
    return {
        name: value
        for name, value in vars(strategy).items()
        if not name.startswith("_") and isinstance(value, int | float | list | tuple)
    }


def _first_difference(values: Array, others: Array) -> int:
    """Return the first index at which two series say something else; -1 for none."""
    if values.dtype.kind != "f" or others.dtype.kind != "f":
        differs = values != others
    else:
        both_missing = numpy.isnan(values) & numpy.isnan(others)
        with numpy.errstate(invalid="ignore"):
            scale = numpy.maximum(numpy.abs(values), numpy.abs(others))
            near = numpy.abs(values - others) <= _TOLERANCE * numpy.maximum(scale, 1e-300)
        differs = ~(near | both_missing | (values == others))
    return int(numpy.argmax(differs)) if differs.any() else -1


def _same(value: object, other: object) -> bool:
    if isinstance(value, float) and isinstance(other, float):
        return math.isclose(value, other, rel_tol=_TOLERANCE) or (value != value and other != other)
    if isinstance(value, list | tuple) and isinstance(other, list | tuple):
        # What has one entry per bar is shorter by itself.
        return all(_same(*pair) for pair in zip(value, other, strict=False))
    return bool(value == other)


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever a user's attribute holds
    text = f"{value:.10g}" if isinstance(value, float | numpy.floating) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _set_at(strategy: Strategy, name: str) -> str:
    """Return file and line where `prepare` sets an attribute; "" when it is not to be seen."""
    try:
        source = type(strategy).prepare
        tree = ast.parse(textwrap.dedent(inspect.getsource(source)))
    except (OSError, SyntaxError, TypeError):
        return ""
    lines = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.ctx, ast.Store)
    ]
    code = source.__code__
    return f"{code.co_filename}:{code.co_firstlineno + min(lines) - 1}" if lines else ""


def _decisions(orders: NDArray[numpy.void], first: int, length: int, count: int) -> list[int]:
    """Return bars at which to cut for a replay: where orders were placed, or evenly."""
    placed = numpy.unique(orders["bar"]) if len(orders) else numpy.zeros(0, numpy.int64)
    placed = placed[placed < length - 1]
    if not len(placed):
        return list(_spread(first, length, count))
    chosen = numpy.linspace(0, len(placed) - 1, count + 1)[1:]
    return sorted({int(placed[int(at)]) for at in chosen})


def _decided_differently(
    orders: NDArray[numpy.void], replayed: NDArray[numpy.void], cut: int
) -> Finding | None:
    """Return the first order up to `cut` that the replay placed otherwise, or not at all."""
    before, again = orders[orders["bar"] <= cut], replayed[replayed["bar"] <= cut]
    fields = list(_PLACED)
    for index in range(max(len(before), len(again))):
        one = before[index] if index < len(before) else None
        other = again[index] if index < len(again) else None
        if one is not None and other is not None and one[fields] == other[fields]:
            continue
        present = one if one is not None else other
        assert present is not None
        return Finding(
            f"order {present['number']}",
            int(present["bar"]),
            cut,
            "not placed" if one is None else _order(one),
            "not placed" if other is None else _order(other),
        )
    return None


def _order(row: numpy.void) -> str:
    side = "buy" if row["is_buy"] else "sell"
    return f"{side} {row['lots']} lots at bar {row['bar']}"


def _unsettled(strategy: Strategy, whole: Prepared, bars: Bars) -> tuple[Unsettled, ...]:
    """Return the series that still depend on where the record began when trading begins."""
    last, history = len(bars) - 1, max(whole.first + 1, _FEWEST // 5)
    if last < 2 * history:
        return ()
    late = prepare(strategy.fresh(), bars[last + 1 - history :])
    found = []
    for name in whole.series:
        if name in BAR_SERIES:
            continue
        values, other = whole.series[name], late.series.get(name)
        if other is None or values.dtype.kind != "f":
            continue
        settled, fresh = float(values[-1]), float(other[-1])
        difference = abs(settled - fresh) / max(abs(settled), 1e-300)
        if difference > _SETTLED:
            found.append(Unsettled(name, history, difference))
    return tuple(found)

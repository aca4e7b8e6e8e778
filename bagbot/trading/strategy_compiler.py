"""A strategy as machine code: its translation, written to the cache, compiled once and bound.

The whole loop over the bars is one function of plain numba, in a file of its own under the cache
folder, named for a hash over everything that it is made from. So a strategy that was compiled once
starts at once, and an edited one is another file.
"""

import hashlib
import importlib.util
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

import numpy
from numpy.typing import NDArray

from bagbot.domain.fills import GOOD_TILL_CANCELLED, LIMIT, STOP
from bagbot.trading import compiled
from bagbot.trading.kernel_tables import Desk, columns_of
from bagbot.trading.strategy import Array, Strategy
from bagbot.trading.strategy_expressions import BOOL, FLOAT, INT, CannotCompileError, Kind
from bagbot.trading.strategy_translator import Translation, translated

_DTYPES: Final[Mapping[int, type[numpy.generic]]] = {
    BOOL: numpy.bool_,
    INT: numpy.int64,
    FLOAT: numpy.float64,
}
# Code that is written into many places takes long to compile, and does not run faster.
_SITES_INLINED: Final = 3
_LOADING: Final = threading.Lock()

_HEAD: Final = '''"""{name}, translated from {path}.

Made by bagbot; what is changed here is lost.
"""

import math

import numpy
from numba import njit

import {package}.kernel as kernel
from {package} import checked_arithmetic
from bagbot.trading.compiled import OPTIONS
from bagbot.trading.kernel_tables import Desk

own = njit(**OPTIONS)
inlined = njit(**OPTIONS, forceinline=True)

'''

_PLACE_INLINED: Final = "\nplace = kernel.place\n"
_PLACE: Final = """

@own
def place(
    desk, is_buy, amount, kind, limit, trigger, trailing_ppm, time_in_force, is_reduce_only, pair,
    parent,
):
    return kernel.place(
        desk, is_buy, amount, kind, limit, trigger, trailing_ppm, time_in_force, is_reduce_only,
        pair, parent,
    )
"""
_BRACKET: Final = """

@own
def bracket(
    desk, is_buy, amount, kind, limit, trigger, trailing_ppm, time_in_force, is_reduce_only, pair,
    parent, stop_loss, take_profit,
):
    number = accepted(
        place(
            desk, is_buy, amount, kind, limit, trigger, trailing_ppm, time_in_force,
            is_reduce_only, pair, parent,
        )
    )
    none, stop = math.nan, 0
    if not math.isnan(stop_loss):
        stop = accepted(
            place(desk, not is_buy, none, STOP, none, stop_loss, 0, GTC, True, 0, number)
        )
    if not math.isnan(take_profit):
        accepted(
            place(desk, not is_buy, none, LIMIT, take_profit, none, 0, GTC, True, stop, number)
        )
    return number
"""

_LOOP: Final = """
@njit(**{{**OPTIONS, "no_cpython_wrapper": False}})
def run(
    first, start, stop, open_, high, low, close, volume, funding, orders, fills, equity, accounts,
    rules, costs, scale, record, {arrays}
):
    desk = Desk(
        open_, high, low, close, volume, funding, orders, fills, equity, accounts[0], rules[0],
        costs[0], scale[0],
    )
    state, account = record[0], desk.account
    quiet_until = start
    for index in range(start, stop):
        is_quiet = index < quiet_until
        if is_quiet:
            account.bar = index
        else:
            kernel.close_bar(desk, index)
            quiet_until = kernel.quiet_until(desk)
        if index >= first:
{decision}
            if account.command_count:
                if is_quiet:
                    kernel.meet_quietly(desk)
                kernel.act(desk)
                quiet_until = kernel.quiet_until(desk)
                is_quiet = False
        if not is_quiet and kernel.is_full(desk):
            return index + 1
    if stop == len(desk.close):
        kernel.finish(desk)
    return stop
"""


@dataclass(frozen=True, slots=True)
class Bound:
    """A strategy's own memory, as one run of its program reads and writes it."""

    record: NDArray[numpy.void]
    arrays: tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled strategy class: for objects whose attributes have the kinds it was made for."""

    path: Path
    _translation: Translation
    _run: Callable[..., int]

    def bind(self, strategy: Strategy, series: Mapping[str, Array]) -> Bound:
        """Return the memory of a strategy that has prepared these series.

        Raises CannotCompileError when an attribute is not of the kind that was compiled.
        """
        translation = self._translation
        record = numpy.zeros(1, _record_type(translation))
        record["one"] = 1.0
        for name, kind in translation.scalars.items():
            value = getattr(strategy, name)
            if not _holds(kind, value):
                raise CannotCompileError(
                    f"self.{name} is {value!r} here, and was compiled as another kind"
                )
            if value is not None:
                record[f"s_{name}"] = value
            elif kind.may_be_none:
                record[f"n_{name}"] = True
        tables = [
            cast(Array, numpy.array(getattr(strategy, name), _DTYPES[kind.rank]))
            for name, kind in translation.tables.items()
        ]
        return Bound(record, (*(series[name] for name in translation.series), *tables))

    def compile(self, bound: Bound, desk: Desk) -> None:
        """Compile, or take from the cache, what plays this desk; nothing is played.

        Raises CannotCompileError when the compiler refuses what was written for it.
        """
        from numba.core.errors import NumbaError

        try:
            self._run(0, 0, 0, *columns_of(desk), bound.record, *bound.arrays)
        except NumbaError as error:
            raise CannotCompileError(f"{self.path}: {error}") from error

    def run(self, bound: Bound, desk: Desk, first: int, start: int, stop: int) -> int:
        """Play bars `start` to `stop` with decisions from `first` on; return where it stopped.

        That is before `stop` when the desk's tables are full. Several runs with desks and memory
        of their own may go on in threads at once. Whatever it raises is an error of which only a
        run in Python knows the truth.
        """
        return self.play(bound, columns_of(desk), first, start, stop)

    def play(
        self,
        bound: Bound,
        columns: Sequence[NDArray[Any]],
        first: int,
        start: int,
        stop: int,
    ) -> int:
        """Do what `run` does, to the columns of a desk (`kernel_tables.columns_of`)."""
        return self._run(first, start, stop, *columns, bound.record, *bound.arrays)

    def store(self, bound: Bound, strategy: Strategy) -> None:
        """Give the strategy object the state that the run left behind."""
        translation = self._translation
        for name, kind in translation.scalars.items():
            is_none = kind.may_be_none and bound.record[f"n_{name}"][0]
            value = None if is_none or not kind.rank else bound.record[f"s_{name}"][0].item()
            if value != getattr(strategy, name):
                setattr(strategy, name, value)
        tables = bound.arrays[len(translation.series) :]
        for name, values in zip(translation.tables, tables, strict=True):
            getattr(strategy, name)[:] = values.tolist()


def compile_strategy(strategy: Strategy, series: Mapping[str, Array]) -> Program:
    """Return the program of a strategy that has prepared `series`; compiled when it first runs.

    Raises CannotCompileError, with the user's file and line, for what has no certain translation.
    """
    translation = translated(strategy, series)
    kernel = compiled.load()
    source = _source(strategy, translation, kernel.__name__.rpartition(".")[0])
    with _LOADING:
        module, path = _loaded(source)
    return Program(path, translation, module.run)


def _source(strategy: Strategy, translation: Translation, package: str) -> str:
    """Return the text of the module that holds the compiled loop."""
    arrays = [f"a_{name}" for name in translation.series]
    arrays += [f"t_{name}" for name in translation.tables]
    context = ", ".join(["desk", "state", "index", *arrays])
    path = Path(translation.functions[-1].path).name
    parts = [_HEAD.format(name=type(strategy).__name__, path=path, package=package)]
    parts += [f"{name} = checked_arithmetic.{name}\n" for name in translation.helpers]
    parts += [
        f"\n\n@own\ndef math_{name}(x):\n    return sound(math.{name}(x), x)\n"
        for name in translation.math
    ]
    is_rare = translation.orders <= _SITES_INLINED and not translation.has_brackets
    parts.append(_PLACE_INLINED if is_rare else _PLACE)
    if translation.has_brackets:
        words = {"STOP": STOP, "LIMIT": LIMIT, "GTC": GOOD_TILL_CANCELLED}
        parts.append(re.sub("|".join(words), lambda word: str(words[word[0]]), _BRACKET))
    *others, on_bar = translation.functions
    for function in others:
        code = function.code.replace("__context__", context)
        parts.append(f"\n\n{_decorator(function.sites)}\n{code}\n")
    decision = f"{' ' * 12}{on_bar.name}({context})"
    if on_bar.returns_in_loop:
        parts.append(f"\n\n@inlined\n{on_bar.code.replace('__context__', context)}\n")
    else:
        decision = _written_in(on_bar.code.replace("__context__", context))
    parts.append(_LOOP.format(decision=decision, arrays=", ".join(arrays)))
    return "".join(parts)


def _written_in(code: str) -> str:
    """Return the body of a function as statements of the loop; a return goes on after them."""
    body = ["for _ in range(1):", *code.splitlines()[1:]]
    return "\n".join(
        " " * 12 + ("break".rjust(len(line) - 1) if line.strip() == "return" else line)
        for line in body
    )


def _decorator(sites: int) -> str:
    """Return how a function is compiled: into its callers, unless there are many of them."""
    return "@inlined" if sites <= _SITES_INLINED else "@own"


def _loaded(source: str) -> tuple[ModuleType, Path]:
    """Return the module of this source, from a file that is written once and then left alone."""
    # The package that it imports from carries the hash of everything else.
    digest = hashlib.sha256(source.encode()).hexdigest()[:24]
    name = f"bagbot_strategy_{digest}"
    path = compiled.cache_folder() / f"{name}.py"
    if name in sys.modules:
        return sys.modules[name], path
    if not path.exists() or path.read_text() != source:
        compiled.write_file(path, source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module, path


def _record_type(translation: Translation) -> list[tuple[str, type]]:
    fields: list[tuple[str, type]] = [("one", numpy.float64)]
    for name, kind in translation.scalars.items():
        if kind.rank:
            fields.append((f"s_{name}", _DTYPES[kind.rank]))
        if kind.may_be_none:
            fields.append((f"n_{name}", numpy.bool_))
    return fields


def _holds(kind: Kind, value: object) -> bool:
    if value is None:
        return kind.may_be_none
    if isinstance(value, bool):
        return kind.rank >= BOOL
    if isinstance(value, int):
        return kind.rank >= INT and -(2**63) <= value < 2**63
    return isinstance(value, float) and kind.rank == FLOAT

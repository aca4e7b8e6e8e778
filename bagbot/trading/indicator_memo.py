"""Indicators computed once for many runs over the same bars.

A sweep calls `prepare` for each combination, but of 5,000 combinations of two averages only a
hundred and fifty averages are different ones. So `prepare` runs with stand-ins for the functions
it calls, which remember what they returned for which arguments. Only functions that depend on
nothing but their arguments get one (TA-Lib's, and those of the user whose code says so), only for
arguments that can't change (numbers, the bars, and what was remembered), and nobody can write to
what they return. A `prepare` that tries to is run without them.
"""

import builtins
import dis
import inspect
import math
import sys
import threading
import types
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy

from bagbot.domain.bars import Bars
from bagbot.trading.strategy import Prepared, Strategy, prepare

Array = numpy.ndarray[Any, Any]
Function = Callable[..., object]
Prepare = Callable[[Strategy], None]

# What depends on its arguments alone, of Python, and of numpy, its arrays and `math`.
_PURE_BUILTINS: Final = """
abs all any bool divmod enumerate float int isinstance len list max min pow range reversed round
sorted sum tuple zip TypeError ValueError
"""
_PURE_ATTRIBUTES: Final = """
T abs absolute accumulate add all any append arange argmax argmin array asarray ascontiguousarray
astype atan average bool_ ceil clip column_stack concatenate convolve copy corrcoef correlate cos
cov cumprod cumsum diff divide dot dtype empty empty_like exp expm1 fabs flip float64 floor fsum
full full_like greater hypot inf insert int64 interp isclose isfinite isinf isnan item less lib log
log10 log1p log2 logical_and logical_not logical_or max maximum mean median min minimum multiply nan
nan_to_num nancumsum nanmax nanmean nanmedian nanmin nanpercentile nanquantile nanstd nansum nanvar
ndim ones ones_like pad percentile pi pow power prod ptp quantile ravel reduce repeat reshape roll
round searchsorted shape sign sin size sliding_window_view sqrt square std stride_tricks subtract
sum tan tanh tolist true_divide var where zeros zeros_like
"""
_FORBIDDEN_STEPS: Final = """
STORE_GLOBAL DELETE_GLOBAL STORE_ATTR DELETE_ATTR IMPORT_NAME IMPORT_FROM LOAD_NAME STORE_NAME
DELETE_NAME LOAD_DEREF STORE_DEREF LOAD_CLOSURE LOAD_BUILD_CLASS YIELD_VALUE SETUP_WITH BEFORE_WITH
"""
_BUILTINS: Final = frozenset(_PURE_BUILTINS.split())
_ATTRIBUTES: Final = frozenset(_PURE_ATTRIBUTES.split())
_FORBIDDEN: Final = frozenset(_FORBIDDEN_STEPS.split())
_CONSTANTS: Final = (int, float, complex, str, bytes, type(None))


class IndicatorMemo:
    """What indicators returned, at most `bytes_max` of it; the longest unused goes first.

    May be used from several threads.
    """

    def __init__(self, strategy: type[Strategy], bytes_max: int) -> None:
        """Look at what the strategy's `prepare` calls."""
        self._bytes_max = bytes_max
        self._bytes = 0
        self._lock = threading.Lock()
        # By call: what came out, and which arrays of it became known by that.
        self._results: OrderedDict[object, tuple[object, list[Array]]] = OrderedDict()
        # Arrays that can't change, by identity: themselves (so that no other gets the identity)
        # and a number that no other array ever had.
        self._known: dict[int, tuple[Array, int]] = {}
        self._next = 0
        self.body = self._with_stand_ins(strategy.prepare) if bytes_max > 0 else None
        """`prepare` with stand-ins; None when it runs as it is written."""

    def prepared(
        self, strategy: Strategy, bars: Bars, given: Mapping[str, Array]
    ) -> tuple[Strategy, Prepared]:
        """Return a strategy like this fresh one, prepared, and its series.

        `given` are the series of the bars, the same ones in every call.
        """
        if self.body is not None:
            self._know(given.values())
            try:
                return strategy, prepare(strategy, bars, given, self.body)
            except Exception:  # noqa: BLE001 - whatever it was, it comes again if it is the user's
                # Most likely `prepare` writes to what an indicator returned.
                self.body = None
                strategy = strategy.fresh()
        return strategy, prepare(strategy, bars, given)

    def forget(self) -> None:
        """Give back the memory; it does not wait until somebody looks for rings of objects."""
        with self._lock:
            self._results.clear()
            self._known.clear()
            self._bytes = 0

    def _with_stand_ins(self, body: Prepare) -> Prepare | None:
        """Return `prepare` with stand-ins in place of functions; None when it calls none."""
        if not isinstance(body, types.FunctionType) or body.__code__.co_freevars:
            return None
        names = _names_of(body.__code__)
        if any(name.startswith("set_") for name in names) or _writes_globals(body.__code__):
            return None
        namespace = dict(body.__globals__)
        found = False
        for name in names & namespace.keys():
            value = namespace[name]
            if isinstance(value, types.ModuleType) and value.__name__ == "talib":
                namespace[name] = _StandInModule(value, self._stand_in)
                found = True
            elif callable(value) and is_pure(value):
                namespace[name] = self._stand_in(value)
                found = True
        if not found:
            return None
        return types.FunctionType(body.__code__, namespace, body.__name__, body.__defaults__)

    def _stand_in(self, function: Function) -> Function:
        def remembered(*arguments: object, **keywords: object) -> object:
            key = self._key(function, arguments, keywords)
            if key is None:
                return function(*arguments, **keywords)
            with self._lock:
                if key in self._results:
                    self._results.move_to_end(key)
                    return self._results[key][0]
            result = function(*arguments, **keywords)
            return self._remember(key, result)

        return remembered

    def _key(
        self, function: Function, arguments: tuple[object, ...], keywords: dict[str, object]
    ) -> object | None:
        """Return what stands for this call; None when an argument can change."""
        parts: list[object] = [function]
        for argument in (*arguments, *(part for pair in sorted(keywords.items()) for part in pair)):
            if isinstance(argument, numpy.ndarray):
                known = self._known.get(id(argument))
                if known is None:
                    return None
                parts.append(("array", known[1]))
            elif isinstance(argument, (*_CONSTANTS, numpy.number, numpy.bool_)):
                # 1, 1.0 and True are equal, and may not mean the same to a function.
                parts.append((type(argument), argument))
            else:
                return None
        return len(arguments), tuple(parts)

    def _remember(self, key: object, result: object) -> object:
        arrays = _arrays_of(result)
        if not arrays:
            return result
        with self._lock:
            if key in self._results:
                return self._results[key][0]
            # What a function passes through is known already, and stays so.
            made = [array for array in arrays if id(array) not in self._known]
            for array in made:
                array.flags.writeable = False
                self._remember_array(array)
                self._bytes += array.nbytes
            self._results[key] = (result, made)
            while self._bytes > self._bytes_max:
                _, (_, oldest) = self._results.popitem(last=False)
                for array in oldest:
                    self._bytes -= array.nbytes
                    del self._known[id(array)]
        return result

    def _know(self, arrays: Iterable[Array]) -> None:
        """Take arrays that nobody can write to for arguments that can't change."""
        if all(id(array) in self._known for array in arrays):
            return
        with self._lock:
            for array in arrays:
                assert not array.flags.writeable
                self._remember_array(array)

    def _remember_array(self, array: Array) -> None:
        if id(array) not in self._known:
            self._known[id(array)] = (array, self._next)
            self._next += 1


class _StandInModule:
    """TA-Lib, with stand-ins for its indicators."""

    def __init__(self, module: types.ModuleType, stand_in: Callable[[Function], Function]) -> None:
        self._module = module
        for name in _indicator_names():
            setattr(self, name, stand_in(getattr(module, name)))

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)


def is_pure(function: object) -> bool:
    """Return whether a function's code shows that it depends on nothing but its arguments.

    Looks at the code of Python functions, and of those that numba compiles; says no when in doubt.
    """
    return _is_pure(function, set())


def _is_pure(function: object, seen: set[int]) -> bool:
    if _is_talib(function):
        return True
    function = getattr(function, "py_func", function)
    if not isinstance(function, types.FunctionType):
        return False
    if id(function) in seen:
        return True
    seen.add(id(function))
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    if function.__closure__ or not all(isinstance(each, _CONSTANTS) for each in defaults):
        return False
    return all(_code_is_pure(code, function, seen) for code in _codes_of(function.__code__))


def _code_is_pure(code: types.CodeType, function: types.FunctionType, seen: set[int]) -> bool:
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return False
    for step in dis.get_instructions(code):
        if step.opname in _FORBIDDEN:
            return False
        if step.opname == "LOAD_GLOBAL":
            if not _global_is_pure(str(step.argval), function, seen):
                return False
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            name = str(step.argval)
            if name not in _ATTRIBUTES and name not in _indicator_names():
                return False
    return True


def _global_is_pure(name: str, function: types.FunctionType, seen: set[int]) -> bool:
    if name not in function.__globals__:
        return name in _BUILTINS and hasattr(builtins, name)
    value = function.__globals__[name]
    if isinstance(value, types.ModuleType):
        return value in (numpy, math) or value.__name__ == "talib"
    if isinstance(value, tuple):
        return all(isinstance(each, _CONSTANTS) for each in value)
    if isinstance(value, _CONSTANTS):
        return True
    if value in (numpy.float64, numpy.int64, numpy.bool_):
        return True
    return _is_pure(value, seen)


def _codes_of(code: types.CodeType) -> list[types.CodeType]:
    """Return a function's code and that of what it defines (comprehensions, lambdas)."""
    inner = [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return [code, *(found for each in inner for found in _codes_of(each))]


def _names_of(code: types.CodeType) -> set[str]:
    return {name for each in _codes_of(code) for name in each.co_names}


def _writes_globals(code: types.CodeType) -> bool:
    return any(
        step.opname in ("STORE_GLOBAL", "DELETE_GLOBAL")
        for each in _codes_of(code)
        for step in dis.get_instructions(each)
    )


def _arrays_of(result: object) -> tuple[Array, ...]:
    """Return the arrays that a result is made of; none when it is anything else, too."""
    if isinstance(result, numpy.ndarray):
        return (result,)
    if isinstance(result, tuple) and all(isinstance(each, numpy.ndarray) for each in result):
        return result
    return ()


def _is_talib(function: object) -> bool:
    name = getattr(function, "__name__", "")
    return name in _indicator_names() and getattr(sys.modules["talib"], name) is function


def _indicator_names() -> frozenset[str]:
    """Return the names of TA-Lib's indicators; none while nobody has loaded it."""
    module = sys.modules.get("talib")
    return frozenset() if module is None else frozenset(module.get_functions())

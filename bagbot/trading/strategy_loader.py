"""Strategies by name: from a user's file, or one of the examples that come with bagbot."""

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Final

from bagbot.domain.errors import StrategyError
from bagbot.trading.strategy import Strategy, Value, did_you_mean

_EXAMPLES: Final = "bagbot.strategies"
_TRUTHS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def strategy_class(name: str) -> type[Strategy]:
    """Return the strategy that "file.py", "file.py:Class" or an example's name stands for.

    Raises StrategyError when there is none or a choice of several, and with the user's file and
    line when the file itself does not run.
    """
    path, _, wanted = name.rpartition(":") if ".py:" in name else (name, "", "")
    if path.endswith(".py"):
        return _chosen(_from_file(Path(path)), wanted)
    known = example_names()
    if path not in known:
        raise StrategyError(
            f"there is no strategy {name}{did_you_mean(name, known)}; give a file.py, or one of "
            f"{', '.join(known)}"
        )
    return _chosen(importlib.import_module(f"{_EXAMPLES}.{path}"), wanted)


def example_names() -> list[str]:
    """Return the names of the strategies that come with bagbot."""
    folder = importlib.import_module(_EXAMPLES).__path__
    return sorted(each.name for each in pkgutil.iter_modules(folder))


def parameters_from(texts: Sequence[str], cls: type[Strategy]) -> dict[str, Value]:
    """Return the parameters that texts such as "fast=5" give to a strategy.

    Raises StrategyError for a name it does not declare, and for a value of another kind.
    """
    parameters: dict[str, Value] = {}
    for text in texts:
        name, is_given, value = text.partition("=")
        name = name.strip()
        if name not in cls.declared or not is_given:
            there = ", ".join(f"{each}={one.default}" for each, one in cls.declared.items())
            raise StrategyError(
                f"{cls.__name__} has no parameter {text}{did_you_mean(name, cls.declared)}; "
                f"it has {there or 'none'}"
            )
        parameters[name] = _value(value.strip(), name, cls)
    return parameters


def place_in_strategy(error: BaseException, cls: type[Strategy]) -> str:
    """Return "file:line" of the strategy's own code where an error came from; "" when nowhere."""
    own = {
        value.__code__.co_filename
        for each in cls.__mro__
        if each is not Strategy
        for value in vars(each).values()
        if isinstance(value, FunctionType)
    }
    frames = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename in own
    ]
    return frames[-1] if frames else ""


def _value(text: str, name: str, cls: type[Strategy]) -> Value:
    kind = cls.declared[name].kind
    try:
        if kind is bool:
            return _TRUTHS[text.lower()]
        return cls.declared[name].checked(kind(text), cls)
    except (ValueError, KeyError) as error:
        raise StrategyError(
            f"{cls.__name__}: parameter {name} is {kind.__name__}, not {text}"
        ) from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise StrategyError(f"there is no file {path}")
    whole = path.resolve()
    name = f"bagbot_user_{path.stem}_{hashlib.sha256(str(whole).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, whole)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # What lies beside the file can be imported by it, as when Python runs it.
    if str(whole.parent) not in sys.path:
        sys.path.append(str(whole.parent))
    try:
        spec.loader.exec_module(module)
    except StrategyError:
        raise
    except SyntaxError as error:
        raise StrategyError(f"{error.filename}:{error.lineno}: {error.msg}") from error
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(whole)
        ]
        where = f"{path}:{lines[-1]}" if lines else str(path)
        raise StrategyError(f"{where}: {type(error).__name__}: {error}") from error
    return module


def _chosen(module: ModuleType, wanted: str) -> type[Strategy]:
    found = {
        each.__name__: each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Strategy) and each is not Strategy
    }
    own = {name: each for name, each in found.items() if each.__module__ == module.__name__}
    if wanted:
        if wanted not in found:
            raise StrategyError(
                f"{module.__file__} has no strategy {wanted}{did_you_mean(wanted, found)}"
            )
        return found[wanted]
    if len(own) != 1:
        names = ", ".join(own) or "none"
        raise StrategyError(
            f"{module.__file__} has {len(own)} strategies ({names}); "
            + ("name one as file.py:Class" if own else "a strategy is a class from bagbot.Strategy")
        )
    return next(iter(own.values()))

"""What a sweep's results depend on, as text: one that goes on must find all of it unchanged."""

import hashlib
import sys
import sysconfig
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import numpy

from bagbot.domain.errors import ConfigError
from bagbot.trading.strategy import Strategy

_PLAIN: Final = (int, float, str, bool, Decimal, type(None))
_ENGINE: Final = "bagbot"
_EXAMPLES: Final = "bagbot.strategies"


def source_hash(strategy: type[Strategy]) -> str:
    """Return the SHA-256 over everything of the user's that the strategy is written in.

    These are the files of its class, of the classes that it extends, and of what they import, but
    for installed packages and the standard library. What has no file counts by its code.
    """
    digest = hashlib.sha256()
    for path in sorted(_files_of(strategy)):
        digest.update(path.read_bytes())
    for cls in _written_by_user(strategy):
        if not _has_file(sys.modules.get(cls.__module__)):
            for name, value in sorted(vars(cls).items()):
                code = getattr(value, "__code__", None)
                digest.update(repr((name, _code_of(code) if code else repr(value))).encode())
    return digest.hexdigest()


def text_of(value: object) -> str:
    """Return a text that is the same for equal settings, also in another process.

    Raises ConfigError for a value that has none.
    """
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, range):
        return repr(value)
    if isinstance(value, numpy.ndarray):
        content = numpy.ascontiguousarray(value)
        return f"{content.dtype} {hashlib.sha256(content.tobytes()).hexdigest()}"
    if isinstance(value, numpy.generic):
        return repr(value.item())
    if is_dataclass(value) and not isinstance(value, type):
        parts = {each.name: getattr(value, each.name) for each in fields(value)}
        return f"{type(value).__name__}{text_of(parts)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {text_of(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, frozenset | set):
        return "{" + ", ".join(sorted(text_of(each) for each in value)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(text_of(each) for each in value) + "]"
    if hasattr(value, "to_numpy"):
        return text_of(value.to_numpy())
    raise ConfigError(f"a sweep cannot tell whether {value!r} stays the same")


def _files_of(strategy: type[Strategy]) -> set[Path]:
    """Return the user's files that the strategy is written in."""
    found: set[Path] = set()
    seen: set[str] = set()
    todo = [cls.__module__ for cls in _written_by_user(strategy)]
    while todo:
        name = todo.pop()
        module = sys.modules.get(name)
        if name in seen or module is None:
            continue
        seen.add(name)
        if _has_file(module):
            found.add(Path(str(module.__file__)))
        todo += [each for each in _modules_in(module) if _is_users(each)]
    return found


def _modules_in(module: types.ModuleType) -> Iterator[str]:
    """Yield the names of the modules that a module's names come from."""
    for value in list(vars(module).values()):
        if isinstance(value, types.ModuleType):
            yield value.__name__
        else:
            yield str(getattr(value, "__module__", None) or "")


def _is_users(name: str) -> bool:
    """Return whether a module is neither installed nor part of the engine."""
    if name.split(".")[0] == _ENGINE and not name.startswith(_EXAMPLES):
        return False
    module = sys.modules.get(name)
    if not _has_file(module):
        return False
    path = Path(str(getattr(module, "__file__", ""))).resolve()
    folders = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    return not any(path.is_relative_to(Path(folder).resolve()) for folder in folders if folder)


def _written_by_user(strategy: type[Strategy]) -> list[type]:
    return [cls for cls in strategy.__mro__ if cls not in (Strategy, object)]


def _has_file(module: types.ModuleType | None) -> bool:
    name = getattr(module, "__file__", None)
    return name is not None and str(name).endswith(".py") and Path(name).is_file()


def _code_of(code: types.CodeType) -> object:
    inner = [
        _code_of(each) if isinstance(each, types.CodeType) else each for each in code.co_consts
    ]
    return code.co_code, inner, code.co_names, code.co_varnames

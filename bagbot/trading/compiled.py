"""The kernel and the statistics as machine code: made once per version, kept in a cache folder.

The sources of the kernel and of the rules it stands on are copied into a package whose name carries
their hash, and whose functions are numba's. So what is compiled is what is tested as Python, and a
change of any of them never meets machine code of the version before.
"""

import atexit
import hashlib
import importlib
import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import FunctionType, MappingProxyType, ModuleType
from typing import Any, Final

_SOURCES: Final = (
    "bagbot.domain.fills",
    "bagbot.domain.limits",
    "bagbot.domain.statistics",
    "bagbot.trading.kernel_money",
    "bagbot.trading.kernel_refusals",
    "bagbot.trading.kernel",
    "bagbot.trading.kernel_entry",
    "bagbot.trading.checked_arithmetic",
    "bagbot.trading.sweep_figures",
)
_IMPORT: Final = re.compile(r"^from (?P<package>[\w.]+) import (?P<names>[\w, ]+)$", re.M)

OPTIONS: Final[Mapping[str, bool]] = MappingProxyType(
    {
        "cache": True,
        "nogil": True,
        # Nothing here makes an array or a list: without counting references to those it is given,
        # a call costs a tenth. No wrappers: only compiled code calls it.
        "_nrt": False,
        "no_cpython_wrapper": True,
        "no_cfunc_wrapper": True,
    }
)
_WITH_ARRAYS: Final[Mapping[str, bool]] = MappingProxyType({"cache": True, "nogil": True})

# What a bar or a market order passes through: a call with all of a desk costs more than its body.
_INLINED: Final = frozenset(
    {
        *("quiet_until", "meet_quietly"),
        *(
            "_act_at_once",
            "_is_alone",
            "at_price",
        ),
        *("close_bar", "is_full", "position", "position_lots", "place", "close_position", "act"),
        *("lots_of", "ticks_of", "fits", "settle", "value_until", "need", "_queue", "_command"),
        *("_come_in", "refusal", "_broken_filter", "_broken_limit", "_reduced"),
        *("_broken_market_filter", "_is_price", "quiet_until", "meet_quietly"),
        *(
            "_act_at_once",
            "_is_alone",
            "at_price",
        ),
        *("_refusal_of_followers", "_refusal_now", "_record", "_average", "_move"),
    }
)
_FOOTER: Final = """

from bagbot.trading import compiled as _compiled

_compiled.compile_all(globals())
"""


def cache_folder() -> Path:
    """Return where compiled code is kept: `$XDG_CACHE_HOME/bagbot/compiled`.

    Where that can't be written, it is a folder for this process alone; a warning says so, once.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return _writable(Path(base) / "bagbot" / "compiled")


@cache
def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        passing = tempfile.mkdtemp(prefix="bagbot-compiled-")
        atexit.register(shutil.rmtree, passing, ignore_errors=True)
        warnings.warn(
            f"compiled code can't be kept in {folder} ({error.strerror}): this process compiles"
            f" for itself, which takes seconds; set XDG_CACHE_HOME to a folder that can be written",
            RuntimeWarning,
            stacklevel=2,
        )
        return Path(passing)


@cache
def version() -> str:
    """Return a hash of everything that the compiled kernel is made of, 16 letters long."""
    import numba
    import numpy

    digest = hashlib.sha256()
    for part in (numba.__version__, numpy.__version__, sys.version, platform.machine()):
        digest.update(part.encode() + b"\0")
    for name in (*_SOURCES, "bagbot.trading.kernel_tables", __name__):
        digest.update(_source(name).encode() + b"\0")
    return digest.hexdigest()[:16]


def load() -> ModuleType:
    """Return the compiled kernel: the names of `bagbot.trading.kernel`, for compiled code to call.

    What has not been compiled before is compiled when it is first called, which takes seconds.
    Generated code imports it by its `__name__`, once this has been called.
    """
    return _module("kernel")


def statistics() -> ModuleType:
    """Return `bagbot.domain.statistics` with its functions compiled; Python may call them."""
    return _module("statistics")


def sweep_figures() -> ModuleType:
    """Return `bagbot.trading.sweep_figures` with its functions compiled; Python may call them."""
    return _module("sweep_figures")


@cache
def enter() -> Callable[..., None]:
    """Return `kernel_entry.enter` as a C function that takes addresses."""
    from numba import cfunc, types

    function = _module("kernel_entry").enter
    signature = types.void(*[types.voidptr] * function.__code__.co_argcount)
    compiled: Callable[..., None] = cfunc(signature, cache=True)(function).ctypes
    return compiled


def compile_all(names: dict[str, Any]) -> None:
    """Make numba's functions of all functions of a module that was copied; called by the copy."""
    import numba

    # Not all of its options are in numba's own annotations.
    njit: Any = numba.njit
    module = names["__name__"].rpartition(".")[2]
    if module == "kernel_entry":
        return
    for name, function in list(names.items()):
        if isinstance(function, FunctionType) and function.__module__ == names["__name__"]:
            if module in ("statistics", "sweep_figures"):
                names[name] = njit(**_WITH_ARRAYS)(function)
            else:
                names[name] = njit(**OPTIONS, forceinline=name in _INLINED)(function)


def write_file(path: Path, text: str) -> None:
    """Write a generated source file so that another process never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text)
    part.replace(path)


@cache
def _module(name: str) -> ModuleType:
    package = f"bagbot_compiled_{version()}"
    folder = cache_folder() / package
    if not (folder / "__init__.py").exists():
        _write(folder, package)
    if str(folder.parent) not in sys.path:
        sys.path.append(str(folder.parent))
    importlib.invalidate_caches()
    return importlib.import_module(f"{package}.{name}")


def _write(folder: Path, package: str) -> None:
    def imported(line: re.Match[str]) -> str:
        names = [name.split(" as ")[0] for name in line["names"].split(", ")]
        if all(f"{line['package']}.{name}" in _SOURCES for name in names):
            return f"from {package} import {line['names']}"
        return line[0]

    for name in _SOURCES:
        text = _IMPORT.sub(imported, _source(name))
        write_file(folder / f"{name.rpartition('.')[2]}.py", text + _FOOTER)
    # Last: a folder with it is complete.
    write_file(folder / "__init__.py", '"""Compiled by bagbot."""\n')


def _source(name: str) -> str:
    """Return the source of a module, without importing it."""
    found = importlib.util.find_spec(name)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).read_text()

"""The kernel as machine code: made once per version, kept in a cache folder.

The sources of the kernel and of the rules it stands on are copied into a package whose name carries
their hash, and whose functions are numba's. So what is compiled is what is tested as Python, and a
change of any of them never meets machine code of the version before.
"""

import hashlib
import importlib
import os
import platform
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Final

_SOURCES: Final = (
    "bagbot.domain.fills",
    "bagbot.domain.limits",
    "bagbot.trading.kernel_money",
    "bagbot.trading.kernel",
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
INLINED: Final = frozenset(
    {
        "close_bar", "is_full", "position", "position_lots", "place", "close_position", "_queue",
        "_command", "lots_of", "ticks_of", "fits", "act", "_come_in", "_refusal", "_broken_filter",
        "_broken_limit", "_is_price", "_refusal_of_followers", "_refusal_now", "_reduced", "settle", "value_until",
        "_record", "_average", "_move", "need",
    }
)
_FOOTER: Final = '''

def _compile_all() -> None:
    from types import FunctionType

    from numba import njit

    from bagbot.trading.compiled import INLINED, OPTIONS

    for name, function in list(globals().items()):
        if isinstance(function, FunctionType) and function.__module__ == __name__:
            globals()[name] = njit(**OPTIONS, forceinline=name in INLINED)(function)


_compile_all()
'''


def cache_folder() -> Path:
    """Return where compiled code is kept: `$XDG_CACHE_HOME/bagbot/compiled`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "bagbot" / "compiled"


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


@cache
def load() -> ModuleType:
    """Return the compiled kernel: the names of `bagbot.trading.kernel`, as numba's functions.

    What has not been compiled before is compiled when it is first called, which takes seconds.
    Generated code imports it by its `__name__`, once this has been called.
    """
    package = f"bagbot_compiled_{version()}"
    folder = cache_folder() / package
    if not (folder / "__init__.py").exists():
        _write(folder, package)
    if str(folder.parent) not in sys.path:
        sys.path.append(str(folder.parent))
    importlib.invalidate_caches()
    return importlib.import_module(f"{package}.kernel")


def write_file(path: Path, text: str) -> None:
    """Write a generated source file so that another process never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text)
    part.replace(path)


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
    path = importlib.import_module(name).__file__
    assert path is not None
    return Path(path).read_text()


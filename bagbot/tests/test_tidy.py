"""House rules that no linter sees."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import bagbot

PACKAGE = Path(bagbot.__file__).parent
PROJECT = PACKAGE.parent
SOURCES = sorted(p for p in PACKAGE.rglob("*.py") if "tests" not in p.relative_to(PACKAGE).parts)


def calls(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the dotted name and the line of every call in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


def places(paths: list[Path], is_meant: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(PROJECT)}:{line}"
        for path in paths
        for name, line in calls(path)
        if is_meant.search(name)
    ]


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 30


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_and_fits(path: Path) -> None:
    text = path.read_text()
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring, "no module docstring"
    assert len(text.splitlines()) <= 800, "too long: split it by meaning"
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)
    assert path.stem not in {"utils", "util", "helpers", "common", "misc"}


def test_functions_fit_a_screen() -> None:
    long = [
        f"{path.relative_to(PROJECT)}:{node.lineno} {node.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= 70
    ]
    assert long == []


def test_only_the_executor_sends_and_cancels_orders() -> None:
    found = places(
        [p for p in SOURCES if "connectors" not in p.parts and "simulator" not in p.parts],
        re.compile(r"\.(create_order|prepare_order|cancel_order)$"),
    )
    assert {place.partition(":")[0] for place in found} == {"bagbot/trading/order_executor.py"}
    assert len(found) == 2


def test_only_the_clock_asks_for_the_time() -> None:
    asks = re.compile(r"^(time\.time|time\.time_ns|datetime\.now|datetime\.utcnow|date\.today)$")
    # The exchange is a program of its own; its clock is handed in by its server, too.
    allowed = {"bagbot/system_clock.py", "bagbot/simulator/server.py"}
    found = {place.partition(":")[0] for place in places(SOURCES, asks)}
    assert found <= allowed, found - allowed


def test_only_the_risk_manager_approves() -> None:
    found = places(SOURCES, re.compile(r"(^|\.)Approved$"))
    assert {place.partition(":")[0] for place in found} == {"bagbot/trading/risk_manager.py"}


def test_money_is_never_a_float_in_the_domain() -> None:
    domain = [p for p in SOURCES if p.parent.name == "domain"]
    assert len(domain) >= 6
    assert places(domain, re.compile(r"^(float|round)$")) == []


def test_no_task_is_left_alone() -> None:
    orphans = re.compile(r"^(asyncio\.)?(create_task|ensure_future)$|loop\.create_task$")
    found = {place.partition(":")[0] for place in places(SOURCES, orphans)}
    # The exchange's market outlives the call that starts it; `stop` cancels and awaits it.
    assert found == {"bagbot/simulator/server.py"}


def test_no_file_names_a_registry_or_a_machines_folder() -> None:
    registry = re.compile(r"https?://[^\s\"']*(pypi|pythonhosted|npmjs|crates)[^\s\"']*", re.I)
    folder = re.compile(r"(?<![\w.])/(work|root|home/[a-z]+)/")
    names = ("*.py", "*.md", "*.toml", "*.lock", "Makefile", "*.yml", "*.txt")
    skip = {".venv", ".git", "node_modules"}
    paths = [
        path
        for name in names
        for path in PROJECT.rglob(name)
        if not skip & set(path.relative_to(PROJECT).parts) and path.name != "test_tidy.py"
    ]
    bad = [
        str(path.relative_to(PROJECT))
        for path in paths
        if registry.search(text := path.read_text()) or folder.search(text)
    ]
    assert bad == []


def test_the_lock_holds_names_versions_and_hashes_only() -> None:
    lines = (PROJECT / "requirements.lock").read_text().splitlines()
    package = re.compile(r"^[a-z0-9._-]+==[^ ]+( ; [^\\]+)? \\$")
    hash_line = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")
    assert all(package.match(line) or hash_line.match(line) for line in lines)
    assert sum(bool(package.match(line)) for line in lines) > 50

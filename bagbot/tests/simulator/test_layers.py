"""What the simulator's modules may import: the core is pure, and nothing reaches into bagbot."""

import ast
from pathlib import Path

import pytest

import bagbot.simulator

DIRECTORY = Path(bagbot.simulator.__file__).parent
PURE = (
    "amounts",
    "api_keys",
    "bar_exchange",
    "bar_matcher",
    "bar_venue",
    "binance_errors",
    "binance_messages",
    "binance_wire",
    "book_matcher",
    "cancel_replace",
    "candles",
    "commanded_exchange",
    "depth_feed",
    "exchange",
    "fault_classes",
    "faults",
    "late_requests",
    "list_exchange",
    "live_market",
    "market",
    "market_views",
    "order_filters",
    "order_list_messages",
    "order_list_parameters",
    "order_lists",
    "orders",
    "rate_limits",
    "request_log",
    "spoiled_reads",
    "spot_api",
    "stop_orders",
    "stream_messages",
    "symbols",
    "time_unit",
    "venue",
    "venue_acts",
    "wire_clock",
)
IMPURE = {"asyncio", "socket", "logging", "structlog", "random", "time", "aiohttp", "os", "pathlib"}


def imports_of(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


@pytest.mark.parametrize("module", PURE)
def test_the_core_does_no_input_or_output_and_reads_no_clock(module):
    imported = imports_of(DIRECTORY / f"{module}.py")
    assert not {name.partition(".")[0] for name in imported} & IMPURE


def test_the_simulator_uses_nothing_else_of_bagbot_but_its_errors_and_the_fill_rules():
    # Backtest and bar venue fill alike because both ask the same rules; nothing else is shared.
    shared = {"bagbot.domain", "bagbot.domain.errors", "bagbot.domain.fills"}
    for path in DIRECTORY.glob("*.py"):
        for name in imports_of(path):
            if name.startswith("bagbot"):
                assert name.startswith("bagbot.simulator") or name in shared

"""The tests that CCXT's wheel ships, unmodified: does what the simulator answers fit CCXT's types?

They are written for real exchanges: each of those that watch does so for fifteen seconds. So they
run all at once, in a loop and a thread of their own, on a clock that both sides share and that
runs five times as fast as the real one.
"""

import asyncio
import importlib
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ccxt.pro
import pytest

from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.acceptance import checked_in_this_run, rows_of
from bagbot.tests.simulator.ccxt_client import ccxt_client
from bagbot.tests.simulator.signing_client import KEY, SECRET

PEER = "ccxt's own tests"
SYMBOL = "BTC/USDT"
PACE = 5
NO_TIME = "spot's book has no time of its own (GET depth answers lastUpdateId, bids, asks)"

REST = {
    "after_construct": [],
    "features": [],
    "fetch_balance": [],
    "fetch_closed_orders": [SYMBOL],
    "fetch_l2_order_book": [SYMBOL],
    "fetch_last_prices": [SYMBOL],
    "fetch_my_trades": [SYMBOL],
    "fetch_ohlcv": [SYMBOL],
    "fetch_open_orders": [SYMBOL],
    "fetch_order_book": [SYMBOL],
    "fetch_orders": [SYMBOL],
    "fetch_ticker": [SYMBOL],
    "fetch_tickers": [SYMBOL],
    "fetch_trades": [SYMBOL],
    "load_markets": [],
    "sign_in": [],
}
WATCHED = {
    "watch_balance": ["BTC"],
    "watch_bids_asks": [SYMBOL],
    "watch_my_trades": [SYMBOL],
    "watch_ohlcv": [SYMBOL],
    "watch_ohlcv_for_symbols": [SYMBOL],
    "watch_order_book": [SYMBOL],
    "watch_order_book_for_symbols": [[SYMBOL, "ETH/USDT"]],
    "watch_orders": [SYMBOL],
    "watch_ticker": [SYMBOL],
    "watch_tickers": [SYMBOL],
    "watch_trades": [SYMBOL],
    "watch_trades_for_symbols": [[SYMBOL, "ETH/USDT"]],
}
# What CCXT lets its tests leave out, and why we do.
LEFT_OUT = {
    name: {"timestamp": NO_TIME, "datetime": NO_TIME}
    for name in (
        "fetch_l2_order_book",
        "fetch_order_book",
        "watch_order_book",
        "watch_order_book_for_symbols",
    )
}
# The market moves several times within one timestamp when its machine is late.
LEFT_OUT["fetch_trades"] = {"sideSequence": "several moves of the market may share a timestamp"}
NOT_RUN = {
    "create_order": "in Python it adds numbers to texts, before it sends any order",
    "fetch_markets": "asks for a dictionary where CCXT for Python returns a list",
    "proxies": "asks machines on the internet",
} | {
    name: reason
    for reason, names in {
        "Binance has it under /sapi, which is not served": (
            "fetch_borrow_interest",
            "fetch_currencies",
            "fetch_deposits",
            "fetch_status",
            "fetch_trading_fee",
            "fetch_trading_fees",
            "fetch_transaction_fees",
            "fetch_transfers",
            "fetch_withdrawals",
        ),
        "only derivatives have it": (
            "fetch_funding_rate_history",
            "fetch_ledger",
            "fetch_ledger_entry",
            "fetch_leverage_tiers",
            "fetch_liquidations",
            "fetch_margin_mode",
            "fetch_margin_modes",
            "fetch_market_leverage_tiers",
            "fetch_my_liquidations",
            "fetch_open_interest_history",
            "fetch_positions",
            "un_watch_positions",
            "watch_liquidations",
            "watch_liquidations_for_symbols",
            "watch_position",
            "watch_positions",
        ),
        "CCXT's Binance has no such method": (
            "fetch_accounts",
            "fetch_deposit_withdrawals",
            "fetch_order_books",
        ),
    }.items()
    for name in names
}


def folders():
    root = Path(ccxt.pro.__file__).parents[1]
    return {
        "ccxt.test.exchange.async": root / "test" / "exchange" / "async",
        "ccxt.pro.test.Exchange": root / "pro" / "test" / "Exchange",
    }


async def failure_of(module, name, exchange, arguments):
    """Run one of CCXT's tests; return what it failed with, or an empty text."""
    test = getattr(importlib.import_module(f"{module}.test_{name}"), f"test_{name}")
    try:
        async with asyncio.timeout(20):
            await test(exchange, LEFT_OUT.get(name, {}), *arguments)
    except Exception:  # noqa: BLE001 - Whatever it was, the test of that name shows it.
        return traceback.format_exc()
    return ""


async def trade_until(is_over, exchange):
    """Keep the account busy: who watches its orders waits for one more than fits in the time."""
    while not is_over.is_set():
        await exchange.create_order(SYMBOL, "market", "buy", 0.001)
        await asyncio.sleep(0.1)


class HurriedClock:
    """The real time, and from `hurry` on one that runs PACE times as fast."""

    def __init__(self):
        self._since_ns = None

    def hurry(self):
        self._since_ns = time.time_ns()

    def time_ns(self):
        now_ns = time.time_ns()
        return now_ns if self._since_ns is None else now_ns + (now_ns - self._since_ns) * (PACE - 1)


async def run_all():
    """Return the failure of each test, and the rows of all that the simulator did."""
    clock = HurriedClock()
    failures = {}
    settings = SimulatorSettings(api_key=KEY, api_secret=SECRET)
    async with SimulatorServer(settings, clock=clock.time_ns) as simulator:
        exchange = ccxt_client(
            simulator,
            milliseconds=lambda: clock.time_ns() // 1_000_000,
            has={"swap": False, "future": False, "option": False},
        )
        try:
            await exchange.load_markets()
            await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 20_000)
            await exchange.create_order(SYMBOL, "market", "buy", 0.01)
            for name, arguments in REST.items():
                failures[name] = await failure_of(
                    "ccxt.test.exchange.async", name, exchange, arguments
                )
            clock.hurry()
            is_over = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(trade_until(is_over, exchange))
                found = await asyncio.gather(
                    *(
                        failure_of("ccxt.pro.test.Exchange", name, exchange, arguments)
                        for name, arguments in WATCHED.items()
                    )
                )
                is_over.set()
            failures |= dict(zip(WATCHED, found, strict=True))
            return failures, rows_of(simulator)
        finally:
            await exchange.close()


@pytest.fixture(scope="module")
def failures(request):
    with ThreadPoolExecutor(1) as thread:
        failures, rows = thread.submit(asyncio.run, run_all()).result()
    if not any(failures.values()):
        for row in rows:
            checked_in_this_run(request.config)[row].add(PEER)
    return failures


@pytest.mark.parametrize("name", [*REST, *WATCHED])
def test_what_ccxt_says_of_an_exchange_holds(failures, name):
    assert failures[name] == ""


def test_every_test_of_ccxts_is_run_or_has_a_reason_not_to_be():
    shipped = {
        path.stem.removeprefix("test_")
        for folder in folders().values()
        for path in folder.glob("test_*.py")
    }
    assert shipped == {*REST, *WATCHED, *NOT_RUN}
    assert not NOT_RUN.keys() & {*REST, *WATCHED}

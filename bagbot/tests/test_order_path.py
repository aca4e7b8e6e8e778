"""The whole path over real sockets: executor, journal, connector and exchange, with faults.

What is asked of each fault is the same: the order ends with its true outcome, and the exchange
has it once or not at all, as the outcome says.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bagbot.domain.order import Order, OrderIntent, OrderRequest, OrderStatus, intent_id
from bagbot.simulator.server import SimulatorServer
from bagbot.storage.sqlite_journal import SqliteJournal
from bagbot.system_clock import SystemClock
from bagbot.tests.conftest import API_KEY, API_SECRET
from bagbot.tests.trading.futures_wire import FuturesWire
from bagbot.trading.connectors import BinanceConnector
from bagbot.trading.order_executor import OrderExecutor
from bagbot.trading.risk_manager import RiskLimits, RiskManager
from bagbot.trading.submission import ExecutorSettings

LIMITS = RiskLimits(
    order_value_max=Decimal(10_000),
    position_value_max=Decimal(100_000),
    price_collar_ratio=Decimal("0.05"),
    symbols=frozenset({"BTC/USDT"}),
)
# A fence of half a second instead of a minute: the exchange here takes no longer than that.
FAST = ExecutorSettings(
    send_timeout_s=0.6, probe_interval_s=0.1, poll_interval_s=0.3, fence_margin_ms=500
)
BY_REST = {"method": "POST", "path": "/api/v3/order"}
BY_STREAM = {"method": "WS", "path": "order.place"}
TIMEOUT = {"code": -1007, "msg": "Timeout waiting for response from backend server."}


@contextlib.asynccontextmanager
async def trading(
    exchange: SimulatorServer,
    folder: Path,
    settings: ExecutorSettings = FAST,
    place: dict[str, str] = BY_STREAM,
) -> AsyncIterator[OrderExecutor]:
    journal = SqliteJournal(folder / "journal.sqlite")
    try:
        async with (
            BinanceConnector(
                API_KEY,
                API_SECRET,
                base_url=exchange.url,
                recv_window_ms=500,
                orders_by_stream=place is BY_STREAM,
            ) as connector,
            OrderExecutor(
                connector=connector,
                journal=journal,
                risk_manager=RiskManager(LIMITS),
                clock=SystemClock(),
                settings=settings,
            ) as executor,
        ):
            yield executor
    finally:
        await journal.close()


def intent(key: str, **order: str) -> OrderIntent:
    payload = {"symbol": "BTC/USDT", "side": "buy", "type": "market", "amount": "0.01"} | order
    return OrderIntent(
        id=intent_id("main", key),
        account="main",
        request=OrderRequest.from_payload(payload),
        source="test",
        identity=key,
        time_ns=SystemClock().time_ns(),
    )


async def submitted(executor: OrderExecutor, key: str, **order: str) -> Order:
    taken = await executor.submit(intent(key, **order))
    assert taken.order is not None
    return taken.order


async def until_status(executor: OrderExecutor, order_id: str, status: OrderStatus) -> None:
    changed = asyncio.Event()
    executor.listen(lambda order, entry: changed.set())
    async with asyncio.timeout(10):
        while executor.state.orders[order_id].status is not status:
            changed.clear()
            await changed.wait()


async def ask(exchange: SimulatorServer, method: str, path: str, body: object = None) -> Any:
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, exchange.url + path, json=body) as response,
    ):
        assert response.status < 300, await response.text()
        return await response.json()


async def assert_agreed(exchange: SimulatorServer, executor: OrderExecutor) -> None:
    """Both sides tell the same fills, and what they add up to."""
    executions = await ask(exchange, "GET", "/admin/trades")
    assert sorted(f.fill.trade_id for f in executor.state.fills) == sorted(
        str(e["trade_id"]) for e in executions
    )
    net = sum(
        (
            Decimal(e["quantity"]) - Decimal(e["commission"])
            if e["side"] == "BUY"
            else -Decimal(e["quantity"])
            for e in executions
        ),
        Decimal(0),
    )
    assert executor.state.ledger.position("main", "BTC/USDT").quantity == net


@pytest.mark.parametrize("place", [BY_REST, BY_STREAM], ids=["rest", "stream"])
@pytest.mark.parametrize(
    ("faults", "status", "orders"),
    [
        ([{"kind": "lose_answer"}], OrderStatus.FILLED, 1),
        ([{"kind": "lose_request"}], OrderStatus.NOT_ACCEPTED, 0),
        ([{"kind": "answer", "status": 503, "body": TIMEOUT}], OrderStatus.FILLED, 1),
        ([{"kind": "answer", "status": 200, "body": {"half": "an answer"}}], OrderStatus.FILLED, 1),
        ([{"kind": "refuse", "status": 503, "body": TIMEOUT}], OrderStatus.NOT_ACCEPTED, 0),
        ([{"kind": "refuse", "status": 502, "body": {}}], OrderStatus.NOT_ACCEPTED, 0),
        ([{"kind": "delay_answer", "delay_s": 5}], OrderStatus.FILLED, 1),
        ([{"kind": "delay_before", "delay_s": 2}], OrderStatus.NOT_ACCEPTED, 0),
        (
            [{"kind": "lose_answer"}, {"kind": "hide", "count": 4, "path": None, "method": None}],
            OrderStatus.FILLED,
            1,
        ),
        (
            [
                {
                    "kind": "refuse",
                    "status": 400,
                    "body": {"code": -2010, "msg": "Market is closed."},
                }
            ],
            OrderStatus.REJECTED,
            0,
        ),
        (
            [{"kind": "refuse", "status": 429, "body": {"code": -1003, "msg": "x"}}],
            OrderStatus.REJECTED,
            0,
        ),
    ],
    ids=lambda value: "+".join(f["kind"] for f in value) if isinstance(value, list) else None,
)
async def test_an_order_ends_with_its_true_outcome_and_is_there_once_at_most(
    simulator: SimulatorServer,
    tmp_path: Path,
    faults: list[dict[str, Any]],
    status: OrderStatus,
    orders: int,
    place: dict[str, str],
) -> None:
    async with trading(simulator, tmp_path, place=place) as executor:
        for fault in faults:
            await ask(simulator, "POST", "/admin/faults", place | fault)
        taken = await submitted(executor, "k1")
        order = await executor.until_settled(taken.id, 15)
        assert order.status is status, order
        assert len(await ask(simulator, "GET", "/admin/orders")) == orders
        # It was sent once: nothing else was placed under any id.
        placed = [
            request
            for request in await ask(simulator, "GET", "/admin/requests")
            if (request["method"], request["path"])
            in (
                ("POST", "/api/v3/order"),
                ("WS", "order.place"),
            )
        ]
        assert len(placed) == 1
        assert placed[0]["path"] == place["path"]
        await assert_agreed(simulator, executor)
        pending, _ = executor.state.pending("BTC/USDT")
        assert pending == 0


async def test_the_worst_case_stays_reserved_while_the_outcome_is_unknown(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    slow = ExecutorSettings(send_timeout_s=0.3, probe_interval_s=60)
    async with trading(simulator, tmp_path, slow) as executor:
        await ask(simulator, "POST", "/admin/faults", BY_STREAM | {"kind": "lose_request"})
        taken = await submitted(executor, "k1", amount="0.1")
        await asyncio.sleep(0.3)
        assert executor.state.orders[taken.id].status is OrderStatus.UNKNOWN
        # Eleven times 9,000 fit under 100,000, the one in doubt among them; the twelfth does not.
        for number in range(11):
            await submitted(executor, f"more{number}", amount="0.1")
        refused = [o for o in executor.state.orders.values() if o.refusal is not None]
        assert [o.refusal.rule for o in refused if o.refusal] == ["max_position_value"]


async def test_a_resting_order_fills_by_the_stream_and_a_cancel_ends_one(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    quiet = ExecutorSettings(probe_interval_s=60, audit_interval_s=600)
    async with trading(simulator, tmp_path, quiet) as executor:
        ticker = await ask(simulator, "GET", "/api/v3/ticker/price?symbol=BTCUSDT")
        price = Decimal(ticker["price"]).quantize(Decimal(1))
        low = await submitted(executor, "low", type="limit", price=str(price - 500))
        lower = await submitted(executor, "lower", type="limit", price=str(price - 2000))
        await asyncio.sleep(0.3)
        assert executor.state.orders[low.id].status is OrderStatus.OPEN
        await ask(simulator, "POST", f"/admin/price?symbol=BTCUSDT&price={price - 800}")
        filled = await executor.until_settled(low.id, 5)
        assert filled.status is OrderStatus.FILLED
        assert filled.average == price - 500
        cancelled = await executor.cancel(lower.id)
        assert cancelled.status is OrderStatus.CANCELLED
        assert cancelled.client_order_id == lower.client_order_id
        await assert_agreed(simulator, executor)


async def test_what_happened_while_bagbot_was_down_is_known_after_the_start(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path) as executor:
        ticker = await ask(simulator, "GET", "/api/v3/ticker/price?symbol=BTCUSDT")
        price = Decimal(ticker["price"]).quantize(Decimal(1))
        low = await submitted(executor, "low", type="limit", price=str(price - 500))
        rests = await submitted(executor, "rests", type="limit", price=str(price - 3000))
        await submitted(executor, "market")
        await asyncio.sleep(0.3)
    await ask(simulator, "POST", f"/admin/price?symbol=BTCUSDT&price={price - 800}")
    async with trading(simulator, tmp_path) as executor:
        # No waiting: who is ready has asked.
        assert executor.state.orders[low.id].status is OrderStatus.FILLED
        assert executor.state.orders[rests.id].status is OrderStatus.OPEN
        await assert_agreed(simulator, executor)


@pytest.mark.parametrize(
    "stop",
    [
        {"type": "stop_loss", "triggerPrice": "0.9"},
        {"type": "stop_loss_limit", "triggerPrice": "0.9", "price": "0.89"},
        {"type": "take_profit", "triggerPrice": "1.1"},
        {"type": "take_profit_limit", "triggerPrice": "1.1", "price": "1.1", "timeInForce": "IOC"},
        {"type": "stop_loss", "trailingDelta": "200"},
    ],
    ids=lambda stop: "+".join(stop.values()),
)
async def test_a_conditional_order_outlives_a_lost_answer_and_a_restart(
    simulator: SimulatorServer, tmp_path: Path, stop: dict[str, str]
) -> None:
    async with trading(simulator, tmp_path) as executor:
        bought = await submitted(executor, "entry", amount="0.02")
        entry = await executor.until_settled(bought.id, 5)
        assert entry.average is not None
        exact = {
            name: f"{entry.average * Decimal(value):f}" if name.endswith("rice") else value
            for name, value in stop.items()
        }
        await ask(simulator, "POST", "/admin/faults", BY_STREAM | {"kind": "lose_answer"})
        taken = await submitted(executor, "stop", side="sell", **exact)
        await until_status(executor, taken.id, OrderStatus.OPEN)
        assert executor.state.pending("BTC/USDT") == (0, Decimal("0.01"))
        view = executor.view("BTC/USDT")
        assert view.expected == view.position > 0
    async with trading(simulator, tmp_path) as executor:
        order = executor.state.orders[taken.id]
        sent = order.intent.request
        async with BinanceConnector(API_KEY, API_SECRET, base_url=simulator.url) as connector:
            [waits] = await connector.fetch_open_orders("BTC/USDT")
        # What the exchange has is what the journal says was sent.
        assert waits.type == sent.type.value == stop["type"]
        assert (waits.amount, waits.price) == (sent.amount, sent.price)
        assert waits.trigger_price == sent.trigger_price
        assert waits.trailing_delta == sent.trailing_delta
        assert waits.info["timeInForce"] == (sent.time_in_force or "GTC")
        assert executor.state.pending("BTC/USDT") == (0, Decimal("0.01"))
        ended = await executor.cancel(taken.id)
        assert ended.status is OrderStatus.CANCELLED
        assert not executor.disputes
        await assert_agreed(simulator, executor)


async def test_an_exchange_that_forgot_everything_is_told_and_nothing_is_invented(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path) as executor:
        ticker = await ask(simulator, "GET", "/api/v3/ticker/price?symbol=BTCUSDT")
        price = Decimal(ticker["price"]).quantize(Decimal(1))
        rests = await submitted(executor, "rests", type="limit", price=str(price - 3000))
        await asyncio.sleep(0.3)
    async with (
        SimulatorServer(simulator.settings) as amnesiac,
        trading(amnesiac, tmp_path) as executor,
    ):
        await asyncio.sleep(0.5)
        assert executor.state.orders[rests.id].status is OrderStatus.OPEN
        assert executor.state.fills == []


async def test_two_look_ups_of_one_order_at_once_are_one_after_the_other(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    """A stream that opens while the order is being looked up asks, too."""
    async with trading(simulator, tmp_path) as executor:
        await ask(simulator, "POST", "/admin/faults", BY_STREAM | {"kind": "lose_request"})
        taken = await submitted(executor, "k1")
        reconciliation = executor._reconciliation
        while not executor.state.orders[taken.id].is_final:
            await asyncio.gather(*(reconciliation.try_look_up(taken.id) for _ in range(5)))
            await asyncio.sleep(0.05)
        assert executor.state.orders[taken.id].status is OrderStatus.NOT_ACCEPTED
        assert executor.not_ready_reason is None
        assert not reconciliation._looking


async def test_a_fill_lost_with_the_stream_is_known_once_it_is_back(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    # Nothing but the stream tells the executor anything, or its being lost.
    quiet = ExecutorSettings(probe_interval_s=60, poll_interval_s=60, audit_interval_s=600)
    async with trading(simulator, tmp_path, quiet) as executor:
        ticker = await ask(simulator, "GET", "/api/v3/ticker/price?symbol=BTCUSDT")
        price = Decimal(ticker["price"]).quantize(Decimal(1))
        low = await submitted(executor, "low", type="limit", price=str(price - 500))
        await asyncio.sleep(0.3)
        await ask(simulator, "POST", "/admin/faults", {"kind": "cut", "path": "user"})
        await ask(simulator, "POST", f"/admin/price?symbol=BTCUSDT&price={price - 800}")
        filled = await executor.until_settled(low.id, 10)
        assert filled.status is OrderStatus.FILLED
        assert await ask(simulator, "GET", "/admin/faults") == []
        await assert_agreed(simulator, executor)


@pytest.mark.parametrize("kind", ["duplicate", "reorder", "drop", "delay", "half_open"])
async def test_events_that_go_wrong_change_no_outcome(
    simulator: SimulatorServer, tmp_path: Path, kind: str
) -> None:
    fault = {"kind": kind, "path": "user", "count": 1_000, "delay_s": 0.2}
    # What an open stream keeps to itself is found by the audit.
    audited = replace(FAST, audit_interval_s=0.5)
    async with trading(simulator, tmp_path, audited) as executor:
        await ask(simulator, "POST", "/admin/faults", fault)
        ticker = await ask(simulator, "GET", "/api/v3/ticker/price?symbol=BTCUSDT")
        price = Decimal(ticker["price"]).quantize(Decimal(1))
        low = await submitted(executor, "low", type="limit", price=str(price - 500))
        rests = await submitted(executor, "rests", type="limit", price=str(price - 3000))
        large = await submitted(executor, "large", amount="0.1")
        await asyncio.sleep(0.3)
        await ask(simulator, "POST", f"/admin/price?symbol=BTCUSDT&price={price - 800}")
        for order in (low, large):
            assert (await executor.until_settled(order.id, 10)).status is OrderStatus.FILLED
        # Its fills may be known by their trades before the answer to the order has arrived.
        for _ in range(100):
            if executor.state.orders[rests.id].status is OrderStatus.OPEN:
                break
            await asyncio.sleep(0.05)
        cancelled = await executor.cancel(rests.id)
        assert cancelled.status is OrderStatus.CANCELLED
        await assert_agreed(simulator, executor)


async def test_the_engine_takes_the_same_path_on_futures(tmp_path: Path) -> None:
    """On documented wire data: what trades there is told by the test, not by a market."""
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    async with (
        FuturesWire(API_KEY, API_SECRET) as wire,
        BinanceConnector(API_KEY, API_SECRET, True, True, wire.url) as connector,
        OrderExecutor(
            connector=connector,
            journal=journal,
            risk_manager=RiskManager(replace(LIMITS, symbols=frozenset({"BTC/USDT:USDT"}))),
            clock=SystemClock(),
            settings=FAST,
        ) as executor,
    ):
        taken = await submitted(executor, "f1", symbol="BTC/USDT:USDT", amount="0.010")
        await asyncio.sleep(0.3)
        resting = executor.state.orders[taken.id]
        assert resting.status is OrderStatus.OPEN
        await wire.fill(int(resting.exchange_order_id or 0), "0.010", "61800.10")
        order = await executor.until_settled(taken.id, 5)
        assert order.status is OrderStatus.FILLED, order
        assert executor.state.ledger.position("main", "BTC/USDT:USDT").quantity == Decimal("0.01")
    await journal.close()

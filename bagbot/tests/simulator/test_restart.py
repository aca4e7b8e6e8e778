"""What was answered or streamed is still there after the process is killed."""

import asyncio
import contextlib
import random
import sqlite3
import sys
import time
from decimal import Decimal

import aiohttp
import pytest

from bagbot.domain.errors import ConfigError
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.simulator.store import Store
from bagbot.tests.simulator.signing_client import (
    KEY,
    SECRET,
    SigningClient,
    balances_of,
    receive,
)
from bagbot.tests.simulator.simulator_process import simulator_process

LIMIT = {"type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": "50000"}


async def truth_of(client):
    account = (await client.signed("GET", "/api/v3/account")).body
    orders = (await client.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT", limit=1000)).body
    trades = (await client.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT", limit=1000)).body
    return balances_of(account), orders, trades


async def trade_until_killed(client, answered, streamed, enough):
    """Place orders one after another and note every answer, while events are noted as well."""

    async def listen(socket):
        with contextlib.suppress(ConnectionError):
            while True:
                streamed.append((await receive(socket))["event"])

    with contextlib.suppress(ConnectionError, aiohttp.ClientError):
        async with client.socket("/ws-api/v3") as socket:
            method = "userDataStream.subscribe.signature"
            await client.call(socket, method, **client.socket_parameters())
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(listen(socket))
                with contextlib.suppress(aiohttp.ClientError):
                    for number in range(100_000):
                        more = LIMIT if number % 3 == 0 else {"quantity": "0.001"}
                        name = f"n{number}"
                        reply = await client.place(**more, newClientOrderId=name)
                        if number % 3:
                            answered[name] = reply.body
                        else:
                            cancelled = await client.signed(
                                "DELETE",
                                "/api/v3/order",
                                symbol="BTCUSDT",
                                origClientOrderId=name,
                            )
                            answered[name] = cancelled.body
                        if len(answered) >= 60:
                            enough.set()
                listening.cancel()


async def test_nothing_that_was_answered_or_streamed_is_lost_when_killed(tmp_path):
    answered, streamed = {}, []
    with simulator_process(store=str(tmp_path)) as simulator:
        async with SigningClient(simulator.url) as client:
            enough = asyncio.Event()
            trading = asyncio.create_task(trade_until_killed(client, answered, streamed, enough))
            await enough.wait()
            simulator.kill()
            async with asyncio.timeout(20):
                await trading
    started = time.monotonic()
    with simulator_process(store=str(tmp_path)) as simulator:
        assert time.monotonic() - started < 10
        await check_after_restart(simulator, answered, streamed)


async def check_after_restart(simulator, answered, streamed):
    async with SigningClient(simulator.url) as client:
        balances, orders, trades = await truth_of(client)
        by_name = {order["clientOrderId"]: order for order in orders}
        for name, answer in answered.items():
            assert by_name[name]["orderId"] == answer["orderId"]
            assert by_name[name]["status"] == answer["status"]
            assert by_name[name]["executedQty"] == answer["executedQty"]
        trade_ids = {trade["id"] for trade in trades}
        reports = [event for event in streamed if event["e"] == "executionReport"]
        assert reports
        for report in reports:
            assert report["t"] == -1 or report["t"] in trade_ids
        # An order may have been carried out whose answer was lost; one at most, as they were
        # placed one after another.
        assert len(by_name) - len(answered) in (0, 1)
        bought = sum(Decimal(trade["qty"]) - Decimal(trade["commission"]) for trade in trades)
        spent = sum(Decimal(trade["quoteQty"]) for trade in trades)
        assert sum(balances["BTC"]) == 10 + bought
        assert sum(balances["USDT"]) == 1_000_000 - spent
        # Ids go on where they were.
        placed = (await client.place(quantity="0.001")).body
        assert placed["orderId"] > max(order["orderId"] for order in orders)
        assert placed["fills"][0]["tradeId"] > max(trade_ids)


async def trade_and_note(client, prefix, answered):
    """Place, replace and cancel until the exchange is gone; note what each answer promised."""
    with contextlib.suppress(ConnectionError, aiohttp.ClientError):
        for number in range(100_000):
            name = f"{prefix}n{number}"
            reply = await client.place(**LIMIT, newClientOrderId=name)
            answered[name] = reply.body["orderId"], "NEW"
            reply = await client.signed(
                "POST",
                "/api/v3/order/cancelReplace",
                symbol="BTCUSDT",
                side="SELL",
                type="MARKET",
                quantity="0.001",
                cancelOrigClientOrderId=name,
                cancelReplaceMode="STOP_ON_FAILURE",
                newClientOrderId=f"{name}m",
            )
            answered[name] = answered[name][0], "CANCELED"
            answered[f"{name}m"] = reply.body["newOrderResponse"]["orderId"], "FILLED"


async def test_killed_at_any_moment_under_load_it_remembers_every_answer(tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    sys.stdout.write(f"seed {seed}\n")
    chance = random.Random(seed)
    answered = {}
    limits = {"weight_per_minute": 10**9}
    for round_number in range(4):
        with simulator_process(store=str(tmp_path), limits=limits) as simulator:
            async with SigningClient(simulator.url) as client:
                await check_answers(client, answered)
                traders = [
                    asyncio.create_task(trade_and_note(client, f"r{round_number}t{one}", answered))
                    for one in range(4)
                ]
                await asyncio.sleep(chance.uniform(0.05, 0.5))
                simulator.kill()
                async with asyncio.timeout(20):
                    await asyncio.gather(*traders)
    assert len(answered) > 20
    with simulator_process(store=str(tmp_path), limits=limits) as simulator:
        async with SigningClient(simulator.url) as client:
            await check_answers(client, answered)


async def check_answers(client, answered):
    rows = (await client.admin("GET", "orders")).body
    by_name = {row["client_order_id"]: row for row in rows}
    for name, (order_id, status) in answered.items():
        assert by_name[name]["order_id"] == order_id
        # What was cut off while it was being cancelled may be cancelled.
        allowed = ("NEW", "CANCELED") if status == "NEW" else (status,)
        assert by_name[name]["status"] in allowed
    assert len({row["order_id"] for row in rows}) == len(rows)
    trades = (await client.admin("GET", "trades")).body
    assert len({row["trade_id"] for row in trades}) == len(trades)
    by_order = {}
    for row in trades:
        by_order[row["order_id"]] = by_order.get(row["order_id"], 0) + Decimal(row["quantity"])
    assert by_order == {
        row["order_id"]: Decimal(row["executed"]) for row in rows if Decimal(row["executed"])
    }
    balances = (await client.admin("GET", "balances")).body
    assert sum(map(Decimal, balances["BTC"].values())) == 10 - sum(by_order.values())
    earned = sum(Decimal(row["quote_quantity"]) - Decimal(row["commission"]) for row in trades)
    assert sum(map(Decimal, balances["USDT"].values())) == 1_000_000 + earned
    locked = sum(
        Decimal(row["quantity"]) * Decimal(row["price"]) for row in rows if row["status"] == "NEW"
    )
    assert Decimal(balances["USDT"]["locked"]) == locked


def settings(directory, **more):
    return SimulatorSettings(api_key=KEY, api_secret=SECRET, store=directory, **more)


async def test_a_restart_keeps_open_orders_their_locks_and_their_priority(tmp_path):
    async with SimulatorServer(settings(tmp_path)) as server, SigningClient(server.url) as client:
        for name in ("first", "second"):
            await client.place(**LIMIT, newClientOrderId=name)
        before = await truth_of(client)
    async with SimulatorServer(settings(tmp_path)) as server, SigningClient(server.url) as client:
        assert await truth_of(client) == before
        assert (await client.place(**LIMIT, newClientOrderId="first")).body["code"] == -2010
        await client.admin("POST", "price?symbol=BTCUSDT&price=50000")
        _, orders, trades = await truth_of(client)
        assert [order["status"] for order in orders] == ["FILLED", "FILLED"]
        assert [trade["orderId"] for trade in trades] == [order["orderId"] for order in orders]


async def test_the_market_goes_on_from_where_it_stopped(tmp_path):
    async with (
        SimulatorServer(settings(tmp_path, speed=500)) as server,
        SigningClient(server.url) as client,
    ):
        await asyncio.sleep(0.5)
        before = (await client.admin("GET", "clock")).body
        price = (await client.public("/api/v3/ticker/price", symbol="ETHUSDT")).body["price"]
    async with (
        SimulatorServer(settings(tmp_path, speed=1)) as server,
        SigningClient(server.url) as client,
    ):
        after = (await client.admin("GET", "clock")).body
        # At most one step of a tenth of a second, at 500 times the pace, is played again.
        assert before["market_ms"] - 100_000 <= after["market_ms"] <= before["market_ms"] + 200_000
        assert after["kline_offset_ms"] >= before["kline_offset_ms"]
        now = (await client.public("/api/v3/ticker/price", symbol="ETHUSDT")).body["price"]
        assert abs(Decimal(now) / Decimal(price) - 1) < Decimal("0.01")


async def test_a_start_is_quick_with_many_closed_orders(tmp_path):
    async with SimulatorServer(settings(tmp_path)) as server, SigningClient(server.url) as client:
        await client.place(quantity="0.001")
    with contextlib.closing(sqlite3.connect(tmp_path / "exchange.sqlite3")) as connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)"
            " INSERT INTO orders SELECT i, account_id, symbol, 'c' || i, time_ns, is_open, body"
            " FROM orders, n WHERE order_id = 1"
        )
        connection.commit()
    started = time.monotonic()
    async with SimulatorServer(settings(tmp_path)):
        assert time.monotonic() - started < 1


def test_one_directory_serves_one_simulator(tmp_path):
    first = Store(tmp_path)
    with pytest.raises(ConfigError, match=r"exchange\.sqlite3"):
        Store(tmp_path)
    first.close()
    Store(tmp_path).close()


def test_a_file_that_is_no_store_is_named(tmp_path):
    (tmp_path / "exchange.sqlite3").write_text("not a database, but long enough to be read as one")
    with pytest.raises(ConfigError, match=r"exchange\.sqlite3"):
        Store(tmp_path)

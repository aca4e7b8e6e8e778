"""The account's stream lives as long as bagbot does, whatever becomes of its connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from bagbot.domain.order import OrderStatus
from bagbot.simulator.server import SimulatorServer
from bagbot.simulator.simulator_settings import SimulatorSettings, SocketSettings
from bagbot.tests.conftest import API_KEY, API_SECRET, SEED
from bagbot.tests.test_order_path import FAST, ask, assert_agreed, submitted, trading
from bagbot.tests.test_reconciliation import market, until, whole_price
from bagbot.trading.connectors import BinanceConnector
from bagbot.trading.connectors.interface import (
    AccountEvent,
    ExchangeOrder,
    StreamLost,
    StreamOpened,
)


@contextlib.asynccontextmanager
async def listening(connector: BinanceConnector) -> AsyncIterator[list[AccountEvent]]:
    """Gather the account's events; what is yielded grows."""
    heard: list[AccountEvent] = []

    async def listen() -> None:
        async for event in connector.watch_events():
            heard.append(event)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(listen())
        await until(lambda: bool(heard))
        try:
            yield heard
        finally:
            task.cancel()


def trade_ids(heard: list[AccountEvent]) -> set[str]:
    return {
        fill.trade_id for event in heard if isinstance(event, ExchangeOrder) for fill in event.fills
    }


async def sockets_opened(exchange: SimulatorServer) -> int:
    asked = await ask(exchange, "GET", "/admin/requests")
    return sum(r["path"] == "userDataStream.subscribe.signature" for r in asked)


@pytest.mark.parametrize("by_stream", [False, True], ids=["rest", "stream"])
async def test_a_connection_is_replaced_before_it_ends_and_not_one_trade_is_missed(
    simulator: SimulatorServer, *, by_stream: bool
) -> None:
    """Nothing but the stream tells here; on it orders are even placed while it changes."""
    async with (
        BinanceConnector(
            API_KEY,
            API_SECRET,
            base_url=simulator.url,
            orders_by_stream=by_stream,
            stream_life_s=0.3,
        ) as connector,
        listening(connector) as heard,
    ):
        ordered = 0
        while ordered <= 20 or await sockets_opened(simulator) < 4:
            for _ in range(5):
                await connector.create_order(market("buy", "0.001"))
            ordered += 5
            await asyncio.sleep(0.01)
        executions = await ask(simulator, "GET", "/admin/trades")
        await until(lambda: trade_ids(heard) == {str(e["trade_id"]) for e in executions})
    assert not [event for event in heard if isinstance(event, StreamLost)]
    assert len(executions) > 20


async def test_an_exchange_that_ends_connections_loses_us_no_event() -> None:
    settings = SimulatorSettings(
        api_key=API_KEY, api_secret=API_SECRET, seed=SEED, sockets=SocketSettings(life_s=0.6)
    )
    async with (
        SimulatorServer(settings) as exchange,
        BinanceConnector(
            API_KEY, API_SECRET, base_url=exchange.url, stream_life_s=0.4
        ) as connector,
        listening(connector) as heard,
    ):
        while await sockets_opened(exchange) < 4:
            await connector.create_order(market("buy", "0.001"))
            await asyncio.sleep(0.01)
        executions = await ask(exchange, "GET", "/admin/trades")
        await until(lambda: trade_ids(heard) == {str(e["trade_id"]) for e in executions})
    assert not [event for event in heard if isinstance(event, StreamLost)]
    assert sum(isinstance(event, StreamOpened) for event in heard) >= 3


async def test_back_to_back_updates_are_never_lost(simulator: SimulatorServer) -> None:
    """Two hundred orders at once: each is told from its acceptance to its last trade."""
    async with (
        BinanceConnector(API_KEY, API_SECRET, base_url=simulator.url) as connector,
        listening(connector) as heard,
    ):
        await connector.load_instruments()
        orders = await asyncio.gather(
            *(connector.create_order(market("buy", "0.001")) for _ in range(200))
        )
        executions = await ask(simulator, "GET", "/admin/trades")
        await until(lambda: trade_ids(heard) == {str(e["trade_id"]) for e in executions})
    told = {event.id for event in heard if isinstance(event, ExchangeOrder)}
    assert told == {order.id for order in orders}


async def test_a_stream_that_keeps_events_to_itself_is_opened_anew(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    """It answers pings and tells nothing: the audit finds out, and the next fill is streamed."""
    wary = replace(FAST, audit_interval_s=0.5, stream_lag_max_s=0.1)
    price = await whole_price(simulator)
    async with trading(simulator, tmp_path, wary) as executor:
        await ask(simulator, "POST", "/admin/faults", {"kind": "half_open", "path": "user"})
        low = await submitted(executor, "low", type="limit", price=str(price - 500))
        lower = await submitted(executor, "lower", type="limit", price=str(price - 1500))
        await until(lambda: executor.state.orders[lower.id].status is OrderStatus.OPEN)
        before = await sockets_opened(simulator)
        await ask(simulator, "POST", f"/admin/price?symbol=BTCUSDT&price={price - 800}")
        assert (await executor.until_settled(low.id, 5)).status is OrderStatus.FILLED
        for _ in range(50):
            if await sockets_opened(simulator) > before:
                break
            await asyncio.sleep(0.05)
        assert await sockets_opened(simulator) == before + 1
        await asyncio.sleep(0.6)
        # From here on only the stream can have told.
        executor._reconciliation._settings = replace(
            wary, audit_interval_s=600, probe_interval_s=600
        )
        await ask(simulator, "POST", f"/admin/price?symbol=BTCUSDT&price={price - 1800}")
        assert (await executor.until_settled(lower.id, 3)).status is OrderStatus.FILLED
        await assert_agreed(simulator, executor)
        assert Decimal(0) == sum(executor.state.pending("BTC/USDT"))

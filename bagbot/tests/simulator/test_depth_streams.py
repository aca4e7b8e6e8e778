"""The book as the streams tell it: whoever follows the rules has the exchange's own book."""

import asyncio
import warnings
from decimal import Decimal

import ccxt.pro
import pytest

from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient, receive

with warnings.catch_warnings():
    # It imports a name that its own websockets dependency has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from binance import AsyncClient, BinanceSocketManager, DepthCacheManager
    from binance.ws.reconnecting_websocket import ReconnectingWebsocket

LIMIT = {"type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01"}


class LocalBook:
    """A book kept by Binance's published rules."""

    def __init__(self, snapshot):
        self.update_id = snapshot["lastUpdateId"]
        self.sides = {
            short: {Decimal(price): quantity for price, quantity in snapshot[name]}
            for short, name in (("b", "bids"), ("a", "asks"))
        }

    def apply(self, event):
        if event["u"] <= self.update_id:
            return
        assert event["U"] <= self.update_id + 1
        self.update_id = event["u"]
        for short, levels in self.sides.items():
            for price, quantity in event[short]:
                if quantity == "0.00000000":
                    levels.pop(Decimal(price), None)
                else:
                    levels[Decimal(price)] = quantity


async def snapshot_of(client, limit=5_000):
    return (await client.public("/api/v3/depth", symbol="BTCUSDT", limit=limit)).body


async def trade_a_little(client, number):
    await client.place(
        **LIMIT, side="BUY", price=str(60_000 + number), newClientOrderId=f"b{number}"
    )
    await client.place(**LIMIT, side="SELL", price=str(120_000 + number))
    await client.place(quantity="0.3", side="SELL" if number % 2 else "BUY")
    if number % 3 == 0:
        await client.signed(
            "DELETE", "/api/v3/order", symbol="BTCUSDT", origClientOrderId=f"b{number}"
        )


@pytest.mark.parametrize(("stream", "rounds"), [("btcusdt@depth", 2), ("btcusdt@depth@100ms", 8)])
async def test_a_book_rebuilt_from_the_stream_is_the_exchanges_book(client, stream, rounds):
    async with client.socket(f"/ws/{stream}") as socket:
        events = [await receive(socket)]
        book = None
        previous = None
        for number in range(rounds):
            await trade_a_little(client, number)
            snapshot = await snapshot_of(client)
            while events[-1]["u"] < snapshot["lastUpdateId"]:
                events.append(await receive(socket))
            if book is None:
                assert snapshot["lastUpdateId"] >= events[0]["U"]
                book = LocalBook(snapshot)
            # Up to the snapshot's number both are the same book, whatever came in between.
            later = [event for event in events if event["u"] > snapshot["lastUpdateId"]]
            for event in events:
                book.apply(event)
            compared = LocalBook(snapshot)
            for event in later:
                compared.apply(event)
            assert book.sides == compared.sides
            for event in events:
                assert previous is None or event["U"] == previous + 1
                previous = event["u"]
            events = [await receive(socket)]
    assert "".join(events[0]) == "eEsUuba"


async def test_partial_depth_is_the_top_of_the_book_without_a_symbol(client):
    async with client.socket(
        "/ws/btcusdt@depth5@100ms/ethusdt@depth10/nobody@depth5/btcusdt@depth7"
    ) as socket:
        seen = {}
        while len(seen) < 2:
            event = await receive(socket)
            assert list(event) == ["lastUpdateId", "bids", "asks"]
            seen[len(event["bids"])] = event
    assert set(seen) == {5, 10}
    assert len(seen[10]["asks"]) == 10


async def test_combined_depth_names_its_stream(client):
    async with client.socket("/stream?streams=btcusdt@depth%40100ms") as socket:
        event = await receive(socket)
    assert event["stream"] == "btcusdt@depth@100ms"
    assert event["data"]["e"] == "depthUpdate"


async def test_nobody_pays_for_depth_that_nobody_reads(client, simulator):
    async with client.socket("/ws/btcusdt@depth@100ms") as socket:
        await receive(socket)
        assert len(simulator._hub._depth_feeds) == 1
        await socket.send_json(
            {"method": "UNSUBSCRIBE", "params": ["btcusdt@depth@100ms"], "id": 1}
        )
        while "id" not in await receive(socket):
            pass
        assert simulator._hub._depth_feeds == {}


@pytest.fixture
async def slow_simulator():
    """A market with a point per many seconds, so that two books can be compared at rest."""
    async with SimulatorServer(
        SimulatorSettings(api_key=KEY, api_secret=SECRET, speed=0.0001)
    ) as server:
        yield server


async def equal_in_time(client, levels_of):
    """Wait until a client's best ten levels are the exchange's own."""
    async with asyncio.timeout(15):
        while True:
            snapshot = await snapshot_of(client, 10)
            wanted = [
                [(float(price), float(quantity)) for price, quantity in snapshot[name]]
                for name in ("bids", "asks")
            ]
            if levels_of() == wanted:
                return
            await asyncio.sleep(0.05)


async def test_ccxt_keeps_an_equal_book(slow_simulator):
    exchange = ccxt.pro.binance(
        {
            "enableRateLimit": False,
            "options": {
                "defaultType": "spot",
                "fetchCurrencies": False,
                "fetchMarkets": {"types": ["spot"]},
            },
        }
    )
    exchange.urls["api"]["public"] = slow_simulator.url + "/api/v3"
    exchange.urls["api"]["ws"]["spot"] = slow_simulator.websocket_url + "/stream/ws"
    book = {}

    async def watch():
        while True:
            book.update(await exchange.watch_order_book("BTC/USDT"))

    async with SigningClient(slow_simulator.url) as client, asyncio.timeout(20):
        watching = asyncio.create_task(watch())
        for number in range(6):
            await trade_a_little(client, number)
            await equal_in_time(
                client,
                lambda: [
                    [(price, quantity) for price, quantity, *_ in book.get(name, [])[:10]]
                    for name in ("bids", "asks")
                ],
            ) if number else await asyncio.sleep(0.5)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    await exchange.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_python_binance_keeps_an_equal_book(slow_simulator, monkeypatch):
    monkeypatch.setattr(AsyncClient, "API_URL", slow_simulator.url + "/api")
    monkeypatch.setattr(BinanceSocketManager, "STREAM_URL", slow_simulator.websocket_url + "/")
    monkeypatch.setattr(ReconnectingWebsocket, "TIMEOUT", 1)
    binance = await AsyncClient.create()
    async with (
        asyncio.timeout(30),
        SigningClient(slow_simulator.url) as client,
        DepthCacheManager(binance, "BTCUSDT", ws_interval=100) as manager,
    ):
        for number in range(6):
            await trade_a_little(client, number)
            cache = await manager.recv()
            while manager._last_update_id != (await snapshot_of(client))["lastUpdateId"]:
                cache = await manager.recv()
            await equal_in_time(
                client,
                lambda cache=cache: [
                    [tuple(level) for level in levels[:10]]
                    for levels in (cache.get_bids(), cache.get_asks())
                ],
            )
    await binance.close_connection()

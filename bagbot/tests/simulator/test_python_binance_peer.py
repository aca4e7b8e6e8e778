"""python-binance, unmodified, as a second independent client over real sockets."""

import asyncio
import warnings

import pytest

from bagbot.tests.simulator.signing_client import KEY, SECRET

with warnings.catch_warnings():
    # It imports a name that its own websockets dependency has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from binance import AsyncClient, BinanceAPIException, BinanceSocketManager
    from binance.ws.reconnecting_websocket import ReconnectingWebsocket

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SYMBOL = "BTCUSDT"


@pytest.fixture
async def binance(simulator, monkeypatch):
    monkeypatch.setattr(AsyncClient, "API_URL", simulator.url + "/api")
    monkeypatch.setattr(AsyncClient, "WS_API_URL", simulator.websocket_url + "/ws-api/v3")
    monkeypatch.setattr(BinanceSocketManager, "STREAM_URL", simulator.websocket_url + "/")
    # Closing waits for its reader, which looks up once per this many seconds; by default 10.
    monkeypatch.setattr(ReconnectingWebsocket, "TIMEOUT", 1)
    client = await AsyncClient.create(KEY, SECRET)
    yield client
    await client.close_connection()


async def test_general_and_market_endpoints_are_read(binance):
    assert await binance.ping() == {}
    info = await binance.get_symbol_info(SYMBOL)
    assert info["baseAsset"] == "BTC"
    assert len((await binance.get_order_book(symbol=SYMBOL))["bids"]) == 20
    assert len(await binance.get_klines(symbol=SYMBOL, interval="15m", limit=5)) == 5
    assert (await binance.get_orderbook_ticker(symbol=SYMBOL))["symbol"] == SYMBOL
    assert (await binance.get_avg_price(symbol=SYMBOL))["mins"] == 5
    assert (await binance.get_ticker(symbol=SYMBOL))["symbol"] == SYMBOL


async def test_orders_are_placed_found_and_cancelled(binance):
    filled = await binance.order_market_buy(symbol=SYMBOL, quantity="0.01")
    assert filled["status"] == "FILLED"
    resting = await binance.order_limit_sell(symbol=SYMBOL, quantity="0.01", price="200000")
    found = await binance.get_order(symbol=SYMBOL, orderId=resting["orderId"])
    assert found["status"] == "NEW"
    assert len(await binance.get_open_orders(symbol=SYMBOL)) == 1
    cancelled = await binance.cancel_order(symbol=SYMBOL, orderId=resting["orderId"])
    assert cancelled["status"] == "CANCELED"
    assert len(await binance.get_all_orders(symbol=SYMBOL)) == 2
    (trade,) = await binance.get_my_trades(symbol=SYMBOL)
    assert trade["orderId"] == filled["orderId"]
    assert float((await binance.get_asset_balance(asset="BTC"))["free"]) > 10
    await binance.create_test_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity="0.01")


async def test_a_refusal_is_understood(binance):
    with pytest.raises(BinanceAPIException) as caught:
        await binance.order_market_buy(symbol=SYMBOL, quantity="0.000001")
    assert (caught.value.code, caught.value.message) == (-1013, "Filter failure: LOT_SIZE")
    assert caught.value.status_code == 400


async def test_orders_go_over_the_socket_too(binance):
    placed = await binance.ws_create_order(
        symbol=SYMBOL, side="BUY", type="MARKET", quantity="0.01"
    )
    assert placed["status"] == "FILLED"


async def test_public_streams_are_received(binance):
    manager = BinanceSocketManager(binance)
    for open_socket, event in (
        (manager.trade_socket(SYMBOL), "trade"),
        (manager.kline_socket(SYMBOL, interval="1m"), "kline"),
    ):
        async with asyncio.timeout(10), open_socket as socket:
            assert (await socket.recv())["e"] == event
    names = ["btcusdt@bookTicker", "ethusdt@bookTicker"]
    async with asyncio.timeout(10), manager.multiplex_socket(names) as socket:
        assert (await socket.recv())["stream"] in names


async def test_own_events_are_received(binance):
    manager = BinanceSocketManager(binance)
    async with asyncio.timeout(10), manager.user_socket() as socket:
        placed = await binance.order_market_buy(symbol=SYMBOL, quantity="0.01")
        events = [await socket.recv() for _ in range(3)]
    assert [event["e"] for event in events] == [
        "executionReport",
        "executionReport",
        "outboundAccountPosition",
    ]
    assert {event["i"] for event in events[:2]} == {placed["orderId"]}


async def test_a_stop_is_placed_and_read_back(binance):
    placed = await binance.create_order(
        symbol=SYMBOL,
        side="SELL",
        type="STOP_LOSS_LIMIT",
        timeInForce="GTC",
        quantity="0.01",
        price="20000",
        stopPrice="21000",
    )
    found = await binance.get_order(symbol=SYMBOL, orderId=placed["orderId"])
    assert (found["stopPrice"], found["isWorking"]) == ("21000.00000000", False)

"""CCXT, unmodified, as an independent client over real sockets."""

import asyncio

import ccxt.pro
import pytest

from bagbot.tests.simulator.signing_client import KEY, SECRET

SYMBOL = "BTC/USDT"


@pytest.fixture
async def exchange(simulator):
    exchange = ccxt.pro.binance(
        {
            "apiKey": KEY,
            "secret": SECRET,
            "enableRateLimit": False,
            "options": {
                "defaultType": "spot",
                "fetchCurrencies": False,
                "fetchMargins": False,
                "fetchMarkets": {"types": ["spot"]},
            },
        }
    )
    api = exchange.urls["api"]
    for name in ("public", "private", "v1"):
        api[name] = simulator.url + "/api/v3"
    api["ws"]["spot"] = simulator.websocket_url + "/stream/ws"
    api["ws"]["ws-api"]["spot"] = simulator.websocket_url + "/ws-api/v3"
    yield exchange
    await exchange.close()


async def test_markets_are_loaded_with_their_filters(exchange):
    markets = await exchange.load_markets()
    assert set(markets) == {"BTC/USDT", "ETH/USDT", "ETH/BTC", "BNB/USDT"}
    market = markets[SYMBOL]
    assert market["precision"]["price"] == 0.01
    assert market["precision"]["amount"] == 0.00001
    assert market["limits"]["cost"]["min"] == 5


async def test_clock_difference_is_small(exchange):
    assert abs(await exchange.load_time_difference()) < 1_000


async def test_market_data_is_read(exchange):
    ticker = await exchange.fetch_ticker(SYMBOL)
    assert ticker["bid"] < ticker["ask"]
    book = await exchange.fetch_order_book(SYMBOL, 5)
    assert len(book["bids"]) == len(book["asks"]) == 5
    bars = await exchange.fetch_ohlcv(SYMBOL, "5m", limit=10)
    assert len(bars) == 10
    assert await exchange.fetch_trades(SYMBOL)
    assert set(await exchange.fetch_bids_asks()) == set(exchange.symbols)


async def test_a_market_order_is_filled_and_accounted_for(exchange):
    before = await exchange.fetch_balance()
    order = await exchange.create_order(SYMBOL, "market", "buy", 0.01)
    assert (order["status"], order["filled"]) == ("closed", 0.01)
    assert order["fee"] == {"currency": "BTC", "cost": 0.00001}
    after = await exchange.fetch_balance()
    assert after["total"]["BTC"] == pytest.approx(before["total"]["BTC"] + 0.00999)
    (trade,) = await exchange.fetch_my_trades(SYMBOL)
    assert (trade["order"], trade["takerOrMaker"]) == (order["id"], "taker")


async def test_a_cost_order_spends_at_most_the_cost(exchange):
    order = await exchange.create_order(
        SYMBOL, "market", "buy", None, None, {"cost": 50, "clientOrderId": "by-cost"}
    )
    assert 48 < order["cost"] <= 50


async def test_a_limit_order_is_placed_found_and_cancelled(exchange):
    order = await exchange.create_order(
        SYMBOL, "limit", "sell", 0.01, 200_000, {"clientOrderId": "mine"}
    )
    assert (order["status"], order["clientOrderId"]) == ("open", "mine")
    found = await exchange.fetch_order(None, SYMBOL, {"clientOrderId": "mine"})
    assert found["id"] == order["id"]
    assert [row["id"] for row in await exchange.fetch_open_orders(SYMBOL)] == [order["id"]]
    with pytest.raises(ccxt.InvalidOrder, match="Duplicate order sent"):
        await exchange.create_order(
            SYMBOL, "limit", "sell", 0.01, 200_000, {"clientOrderId": "mine"}
        )
    assert (await exchange.cancel_order(order["id"], SYMBOL))["status"] == "canceled"
    with pytest.raises(ccxt.OrderNotFound):
        await exchange.cancel_order(order["id"], SYMBOL)
    assert (await exchange.fetch_orders(SYMBOL))[0]["status"] == "canceled"


async def test_errors_are_understood(exchange):
    await exchange.load_markets()
    with pytest.raises(ccxt.InsufficientFunds):
        await exchange.create_order(SYMBOL, "limit", "sell", 50, 100_000)
    with pytest.raises(ccxt.OrderNotFound):
        await exchange.fetch_order("999", SYMBOL)
    with pytest.raises(ccxt.OrderImmediatelyFillable):
        await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 200_000, {"postOnly": True})
    exchange.secret = "wrong"
    with pytest.raises(ccxt.AuthenticationError):
        await exchange.fetch_balance()


async def test_orders_go_over_the_socket_too(exchange):
    order = await exchange.create_order_ws(SYMBOL, "market", "buy", 0.01)
    assert order["status"] == "closed"
    limit = await exchange.create_order_ws(SYMBOL, "limit", "sell", 0.01, 200_000)
    assert (await exchange.fetch_order_ws(limit["id"], SYMBOL))["status"] == "open"
    assert (await exchange.cancel_order_ws(limit["id"], SYMBOL))["status"] == "canceled"


async def test_public_streams_are_watched(exchange):
    async with asyncio.timeout(15):
        trades = await exchange.watch_trades(SYMBOL)
        assert trades[0]["symbol"] == SYMBOL
        ticker = await exchange.watch_ticker(SYMBOL)
        assert ticker["symbol"] == SYMBOL
        bars = await exchange.watch_ohlcv(SYMBOL, "1m")
        assert bars[-1][1] > 0
        tops = await exchange.watch_bids_asks([SYMBOL])
        assert tops[SYMBOL]["bid"] < tops[SYMBOL]["ask"]


async def test_own_orders_trades_and_balances_are_watched(exchange):
    async with asyncio.timeout(15):
        watching = [
            asyncio.create_task(exchange.watch_orders(SYMBOL)),
            asyncio.create_task(exchange.watch_my_trades(SYMBOL)),
            asyncio.create_task(exchange.watch_balance()),
        ]
        # CCXT subscribes in the background; nothing says when it has.
        await asyncio.sleep(0.5)
        order = await exchange.create_order(SYMBOL, "market", "buy", 0.01)
        orders, trades, balance = await asyncio.gather(*watching)
    assert orders[-1]["id"] == order["id"]
    assert trades[-1]["order"] == order["id"]
    assert balance["BTC"]["free"] > 10


async def test_stops_are_placed_by_trigger_price_and_read_back(exchange):
    order = await exchange.create_order(
        SYMBOL, "limit", "sell", 0.01, 20_000, {"triggerPrice": 21_000}
    )
    found = await exchange.fetch_order(order["id"], SYMBOL)
    assert (found["status"], found["triggerPrice"], found["price"]) == ("open", 21_000, 20_000)
    market = await exchange.create_order(
        SYMBOL, "market", "sell", 0.01, None, {"stopLossPrice": 22_000}
    )
    rising = await exchange.create_order(
        SYMBOL, "limit", "sell", 0.01, 200_000, {"takeProfitPrice": 210_000}
    )
    by_socket = await exchange.create_order_ws(
        SYMBOL, "limit", "sell", 0.01, 20_000, {"stopPrice": 23_000}
    )
    opened = await exchange.fetch_open_orders(SYMBOL)
    assert [row["id"] for row in opened] == [
        row["id"] for row in (order, market, rising, by_socket)
    ]
    with pytest.raises(ccxt.OrderImmediatelyFillable):
        await exchange.create_order(
            SYMBOL, "market", "sell", 0.01, None, {"stopLossPrice": 900_000}
        )


async def test_an_order_is_edited_by_replacing_it(exchange):
    order = await exchange.create_order(SYMBOL, "limit", "sell", 0.01, 200_000)
    edited = await exchange.edit_order(order["id"], SYMBOL, "limit", "sell", 0.02, 210_000)
    assert (edited["status"], edited["price"], edited["amount"]) == ("open", 210_000, 0.02)
    assert [row["id"] for row in await exchange.fetch_open_orders(SYMBOL)] == [edited["id"]]
    with pytest.raises(ccxt.ExchangeError, match="Unknown order sent"):
        await exchange.edit_order("999", SYMBOL, "limit", "sell", 0.02, 210_000)

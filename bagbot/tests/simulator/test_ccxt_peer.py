"""CCXT, unmodified, as an independent client over real sockets."""

import asyncio
import json
import re
import time

import ccxt.pro
import pytest

from bagbot.simulator.accounts import AccountSettings, KeySettings
from bagbot.simulator.rate_limits import LimitSettings
from bagbot.simulator.simulator_settings import SocketSettings
from bagbot.tests.simulator import refusals
from bagbot.tests.simulator.ccxt_client import ccxt_client
from bagbot.tests.simulator.refusals import REFUSALS
from bagbot.tests.simulator.signing_client import ED_KEY, ED_PRIVATE_PEM, ED_PUBLIC_PEM
from bagbot.tests.simulator.wire_orders import OCO, OTO, OTOCO

PEER = "ccxt"
SYMBOL = "BTC/USDT"


@pytest.fixture
async def connect():
    """Return clients of an exchange; all of them are closed in the end."""
    exchanges = []

    def connect(simulator, **settings):
        exchanges.append(ccxt_client(simulator, **settings))
        return exchanges[-1]

    yield connect
    for exchange in exchanges:
        await exchange.close()


@pytest.fixture
async def exchange(simulator, connect):
    return connect(simulator)


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


async def test_an_oco_is_placed_and_read_back(exchange):
    placed = await exchange.private_post_orderlist_oco(OCO)
    await exchange.load_markets()
    opened = await exchange.fetch_open_orders(SYMBOL)
    assert [row["type"] for row in opened] == ["market", "limit"]
    assert opened[0]["triggerPrice"] == 20_000
    await exchange.cancel_order(opened[1]["id"], SYMBOL)
    assert await exchange.fetch_open_orders(SYMBOL) == []
    found = await exchange.private_get_orderlist({"orderListId": placed["orderListId"]})
    assert found["listOrderStatus"] == "ALL_DONE"


# Endpoints that CCXT has no word of its own for: its request method, by which it sends all others.


async def test_endpoints_without_a_word_of_ccxts_are_read(exchange):
    async def ask(path, **parameters):
        api = "private" if path in ("account/commission", "rateLimit/order") else "public"
        return await exchange.request(path, [api], "GET", parameters)

    assert await ask("ping") == {}
    for path in ("trades", "historicalTrades", "aggTrades"):
        assert await ask(path, symbol="BTCUSDT")
    assert len(await ask("uiKlines", symbol="BTCUSDT", interval="1h", limit=2)) == 2
    assert (await ask("avgPrice", symbol="BTCUSDT"))["mins"] == 5
    assert (await ask("ticker/price", symbol="BTCUSDT"))["symbol"] == "BTCUSDT"
    rates = await ask("account/commission", symbol="BTCUSDT")
    assert rates["standardCommission"]["maker"] == "0.00100000"
    assert [row["count"] for row in await ask("rateLimit/order")] == [0, 0]


async def test_an_order_is_tried_without_placing_it(exchange):
    await exchange.create_order(SYMBOL, "limit", "sell", 0.01, 200_000, {"test": True})
    assert await exchange.fetch_open_orders(SYMBOL) == []


async def test_every_open_order_is_cancelled_at_once(exchange):
    for _ in range(2):
        await exchange.create_order(SYMBOL, "limit", "sell", 0.01, 200_000)
    assert len(await exchange.cancel_all_orders(SYMBOL)) == 2
    assert await exchange.fetch_open_orders(SYMBOL) == []


async def test_order_lists_are_placed_found_and_cancelled(exchange):
    placed = [
        await exchange.private_post_orderlist_oto(OTO),
        await exchange.private_post_orderlist_otoco(OTOCO),
    ]
    assert [len(one["orders"]) for one in placed] == [2, 3]
    opened = await exchange.private_get_openorderlist()
    ids = [one["orderListId"] for one in placed]
    assert [one["orderListId"] for one in opened] == ids
    for list_id in ids:
        gone = await exchange.private_delete_orderlist(
            {"symbol": "BTCUSDT", "orderListId": list_id}
        )
        assert gone["listOrderStatus"] == "ALL_DONE"
    assert [one["orderListId"] for one in await exchange.private_get_allorderlist()] == ids


async def test_the_socket_answers_what_rest_answers(exchange):
    await exchange.load_markets()
    assert await exchange.fetch_trades_ws(SYMBOL)
    assert len(await exchange.fetch_ohlcv_ws(SYMBOL, "1m", None, 3)) == 3
    await exchange.create_order_ws(SYMBOL, "market", "buy", 0.01)
    # It reads this answer as one of futures, so what it quotes is held against REST.
    account = (await exchange.fetch_balance_ws())["info"]
    assert account == await exchange.private_get_account()
    assert len(await exchange.fetch_my_trades_ws(SYMBOL)) == 1
    order = await exchange.create_order_ws(SYMBOL, "limit", "sell", 0.01, 200_000)
    edited = await exchange.edit_order_ws(order["id"], SYMBOL, "limit", "sell", 0.02, 210_000)
    assert [row["id"] for row in await exchange.fetch_open_orders_ws(SYMBOL)] == [edited["id"]]
    assert len(await exchange.fetch_orders_ws(SYMBOL)) == 3
    assert len(await exchange.cancel_all_orders_ws(SYMBOL)) == 1


async def test_an_ed25519_key_signs(start_simulator, connect):
    keys = [KeySettings(api_key=ED_KEY, public_key=ED_PUBLIC_PEM)]
    simulator = await start_simulator(accounts=[AccountSettings(name="main", keys=keys)])
    exchange = connect(simulator, apiKey=ED_KEY, secret=ED_PRIVATE_PEM)
    order = await exchange.create_order(SYMBOL, "limit", "sell", 0.01, 200_000)
    assert (await exchange.cancel_order(order["id"], SYMBOL))["status"] == "canceled"
    assert (await exchange.create_order_ws(SYMBOL, "market", "buy", 0.01))["status"] == "closed"


async def test_further_streams_are_watched(exchange):
    await exchange.load_markets()
    async with asyncio.timeout(15):
        every, one, window, trades, bars = await asyncio.gather(
            exchange.watch_tickers(),
            exchange.watch_tickers([SYMBOL], {"name": "ticker"}),
            exchange.watch_tickers([SYMBOL], {"name": "ticker_1h"}),
            exchange.watch_trades(SYMBOL, None, None, {"name": "aggTrade"}),
            exchange.watch_ohlcv(SYMBOL, "1h", None, None, {"timezone": "+08:00"}),
        )
    assert SYMBOL in every
    assert one[SYMBOL]["bid"] > 0
    assert window[SYMBOL]["last"] > 0
    assert trades[0]["amount"] > 0
    assert bars[-1][4] > 0


@pytest.mark.parametrize("rate", [100, 1000])
async def test_a_book_that_is_kept_by_differences_equals_ours(exchange, simulator, rate):
    await exchange.load_markets()
    exchange.options["watchOrderBookRate"] = rate
    async with asyncio.timeout(15):
        for _ in range(3):
            book = await exchange.watch_order_book(SYMBOL)
            assert book["bids"][0][0] < book["asks"][0][0]
            assert len(book["bids"]) > 5
    assert simulator.events_sent[f"btcusdt@depth@{rate}ms"] >= 2


async def forever(watch):
    while True:
        await watch(SYMBOL)


async def test_the_end_of_a_connection_is_noticed(start_simulator, connect):
    sockets = SocketSettings(ping_interval_s=0.1, life_s=0.5)
    exchange = connect(await start_simulator(sockets=sockets))
    await exchange.load_markets()
    async with asyncio.timeout(10):
        with pytest.raises(ccxt.NetworkError):
            await forever(exchange.watch_ticker)


async def test_the_end_is_announced(exchange, simulator):
    async with asyncio.timeout(10):
        await exchange.watch_trades(SYMBOL)
        await exchange.create_order_ws(SYMBOL, "market", "buy", 0.01)
        await simulator.stop()
        with pytest.raises(ccxt.NetworkError):
            await forever(exchange.watch_trades)


async def refused(exchange, path, parameters, method="GET", api="private"):
    """Return the exception and what the exchange has answered, code and text."""
    with pytest.raises(ccxt.BaseError) as caught:
        await exchange.request(path, [api], method, parameters)
    body = json.loads(exchange.last_http_response)
    return caught.value, (body["code"], body["msg"])


async def test_refusals_are_told_with_their_codes_and_texts(exchange):
    told, expected = {}, {}
    for name, refusal in REFUSALS.items():
        api = "private" if refusal.is_signed else "public"
        _, told[name] = await refused(
            exchange, refusal.path, refusal.parameters, refusal.method, api
        )
        # It adds a timestamp and its receive window.
        expected[name] = (refusal.code, refusal.text_with(read=9, sent=10))
    assert told == expected


async def test_refusals_over_the_socket_are_the_same(exchange):
    for name, call in (
        ("no money", exchange.create_order_ws(SYMBOL, "limit", "buy", 50, 50_000)),
        ("small cost", exchange.create_order_ws(SYMBOL, "limit", "buy", 0.00001, 50_000)),
        ("far price", exchange.create_order_ws(SYMBOL, "limit", "buy", 1, 1_000)),
        ("asking for nothing", exchange.fetch_order_ws("999", SYMBOL)),
        ("cancelling nothing", exchange.cancel_order_ws("999", SYMBOL)),
    ):
        # It quotes the text always, the code not in every case.
        with pytest.raises(ccxt.BaseError, match=re.escape(REFUSALS[name].text)):
            await call


async def test_bad_keys_and_signatures_are_told_apart(simulator, connect):
    for settings, expected in (
        ({"apiKey": "no key"}, refusals.BAD_KEY),
        ({"apiKey": "nobody"}, refusals.UNKNOWN_KEY),
        ({"secret": "wrong"}, refusals.BAD_SIGNATURE),
    ):
        error, answer = await refused(connect(simulator, **settings), "account", {})
        assert isinstance(error, ccxt.AuthenticationError)
        assert answer == expected


@pytest.mark.parametrize(
    ("ahead_s", "expected"), [(10, refusals.LATE), (-10, refusals.EARLY)], ids=["late", "early"]
)
async def test_a_clock_that_is_wrong_is_told(start_simulator, connect, ahead_s, expected):
    simulator = await start_simulator(clock=lambda: time.time_ns() + ahead_s * 10**9)
    error, answer = await refused(connect(simulator), "account", {"recvWindow": 5_000})
    assert isinstance(error, ccxt.InvalidNonce)
    assert answer == expected


async def test_too_much_weight_is_refused_and_then_banned(start_simulator, connect):
    limits = LimitSettings(weight_per_minute=100, refusals_before_ban=3)
    exchange = connect(await start_simulator(limits=limits))
    seen = []
    while not (seen and " 418 " in str(seen[-1])):
        try:
            await exchange.request("account", ["private"], "GET", {})
        except ccxt.DDoSProtection as error:
            seen.append(error)
            assert 0 < int(exchange.last_response_headers["Retry-After"]) <= 120
    code, text = refusals.TOO_HEAVY
    assert f'{{"code":{code},"msg":"{text}"}}' in str(seen[0])
    assert '{"code":-1003,"msg":"Way too much request weight used; IP banned' in str(seen[-1])


async def test_too_many_orders_are_refused(start_simulator, connect):
    exchange = connect(await start_simulator(limits=LimitSettings(orders_per_10_seconds=1)))
    code, text = refusals.TOO_MANY_ORDERS
    with pytest.raises(ccxt.DDoSProtection, match=f'{{"code":{code},"msg":"{re.escape(text)}"}}'):
        # The ten seconds may end between one order and the next.
        await forever(lambda symbol: exchange.create_order(symbol, "limit", "sell", 0.01, 200_000))

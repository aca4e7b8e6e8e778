"""python-binance, unmodified, as a second independent client over real sockets."""

import asyncio
import warnings

import pytest

from bagbot.simulator.accounts import AccountSettings, KeySettings
from bagbot.simulator.rate_limits import LimitSettings
from bagbot.simulator.simulator_settings import SocketSettings
from bagbot.tests.simulator import refusals
from bagbot.tests.simulator.refusals import REFUSALS
from bagbot.tests.simulator.signing_client import (
    ED_KEY,
    ED_PRIVATE_PEM,
    ED_PUBLIC_PEM,
    KEY,
    SECRET,
    deposit,
)
from bagbot.tests.simulator.wire_orders import OCO, OTO, OTOCO, RESTING

with warnings.catch_warnings():
    # It imports a name that its own websockets dependency has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from binance import AsyncClient, BinanceAPIException, BinanceSocketManager
    from binance.ws.reconnecting_websocket import ReconnectingWebsocket

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PEER = "python-binance"
SYMBOL = "BTCUSDT"


@pytest.fixture
async def connect(monkeypatch):
    """Return clients of an exchange; all of them are closed in the end."""
    clients = []

    async def connect(simulator, key=KEY, secret=SECRET, **settings):
        monkeypatch.setattr(AsyncClient, "API_URL", simulator.url + "/api")
        monkeypatch.setattr(AsyncClient, "WS_API_URL", simulator.websocket_url + "/ws-api/v3")
        monkeypatch.setattr(BinanceSocketManager, "STREAM_URL", simulator.websocket_url + "/")
        # Closing waits for its reader, which looks up once per this many seconds; by default 10.
        monkeypatch.setattr(ReconnectingWebsocket, "TIMEOUT", 0.2)
        clients.append(await AsyncClient.create(key, secret, **settings))
        return clients[-1]

    yield connect
    for client in clients:
        await client.close_connection()


@pytest.fixture
async def binance(simulator, connect):
    return await connect(simulator)


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


async def test_an_oco_is_placed_read_back_and_cancelled(binance):
    placed = await binance.create_oco_order(
        symbol=SYMBOL,
        side="SELL",
        quantity="0.01",
        aboveType="TAKE_PROFIT_LIMIT",
        abovePrice="200000",
        aboveStopPrice="190000",
        aboveTimeInForce="GTC",
        belowType="STOP_LOSS",
        belowStopPrice="20000",
    )
    assert [row["type"] for row in placed["orderReports"]] == ["STOP_LOSS", "TAKE_PROFIT_LIMIT"]
    found = await binance.v3_get_order_list(orderListId=placed["orderListId"])
    assert found["orders"] == placed["orders"]
    cancelled = await binance.v3_delete_order_list(symbol=SYMBOL, orderListId=placed["orderListId"])
    assert cancelled["listOrderStatus"] == "ALL_DONE"
    over_socket = await binance.ws_create_oto_order(
        symbol=SYMBOL,
        workingType="LIMIT",
        workingSide="BUY",
        workingPrice="20000",
        workingQuantity="0.01",
        workingTimeInForce="GTC",
        pendingType="MARKET",
        pendingSide="SELL",
        pendingQuantity="0.01",
    )
    assert over_socket["orderReports"][1]["status"] == "PENDING_NEW"


async def test_further_market_endpoints_are_read(binance):
    for read in (
        binance.get_recent_trades,
        binance.get_historical_trades,
        binance.get_aggregate_trades,
    ):
        assert await read(symbol=SYMBOL)
    assert len(await binance.get_ui_klines(symbol=SYMBOL, interval="1m", limit=3)) == 3
    assert (await binance.get_symbol_ticker(symbol=SYMBOL))["symbol"] == SYMBOL
    assert len(await binance.get_all_tickers()) == len(await binance.get_orderbook_tickers()) == 4


async def test_the_account_is_read(binance):
    rates = await binance.v3_get_account_commission(symbol=SYMBOL)
    assert rates["standardCommission"]["maker"] == "0.00100000"
    assert [row["count"] for row in await binance.get_current_order_count()] == [0, 0]


async def test_open_orders_are_replaced_in_both_modes_and_cancelled_at_once(binance):
    old = await binance.create_order(**RESTING)
    for mode in ("STOP_ON_FAILURE", "ALLOW_FAILURE"):
        answer = await binance.cancel_replace_order(
            **RESTING, cancelReplaceMode=mode, cancelOrderId=old["orderId"]
        )
        assert (answer["cancelResult"], answer["newOrderResult"]) == ("SUCCESS", "SUCCESS")
        old = answer["newOrderResponse"]
    assert len(await binance.cancel_all_open_orders(symbol=SYMBOL)) == 1


async def test_order_lists_are_placed_and_listed(binance):
    placed = [
        await binance.v3_post_order_list_oto(**OTO),
        await binance.v3_post_order_list_otoco(**OTOCO),
    ]
    ids = [one["orderListId"] for one in placed]
    assert [one["orderListId"] for one in await binance.get_open_oco_orders()] == ids
    assert [one["orderListId"] for one in await binance.v3_get_all_order_list()] == ids


async def test_the_socket_answers_what_rest_answers(binance):
    assert await binance.ws_ping() == {}
    assert (await binance.ws_get_time())["serverTime"] > 0
    assert len((await binance.ws_get_exchange_info(symbol=SYMBOL))["symbols"]) == 1
    assert len((await binance.ws_get_order_book(symbol=SYMBOL, limit=5))["bids"]) == 5
    for read in (
        binance.ws_get_recent_trades,
        binance.ws_get_historical_trades,
        binance.ws_get_aggregate_trades,
        binance.ws_get_avg_price,
        binance.ws_get_ticker,
        binance.ws_get_symbol_ticker,
        binance.ws_get_orderbook_ticker,
    ):
        assert await read(symbol=SYMBOL)
    for read in (binance.ws_get_klines, binance.ws_get_uiKlines):
        assert len(await read(symbol=SYMBOL, interval="1m", limit=3)) == 3


async def test_the_account_is_led_over_the_socket(binance):
    await binance.ws_create_test_order(**RESTING)
    placed = await binance.ws_create_order(**RESTING)
    reference = {"symbol": SYMBOL, "orderId": placed["orderId"]}
    assert (await binance.ws_get_order(**reference))["status"] == "NEW"
    assert (await binance.ws_cancel_order(**reference))["status"] == "CANCELED"
    assert len(await binance.ws_get_all_orders(symbol=SYMBOL)) == 1
    old = await binance.ws_create_order(**RESTING)
    replaced = await binance.ws_cancel_and_replace_order(
        **RESTING, cancelReplaceMode="STOP_ON_FAILURE", cancelOrderId=old["orderId"]
    )
    assert replaced["newOrderResult"] == "SUCCESS"
    assert len(await binance.ws_get_open_orders(symbol=SYMBOL)) == 1
    assert len(await binance.ws_cancel_all_open_orders(symbol=SYMBOL)) == 1
    assert await binance.ws_get_my_trades(symbol=SYMBOL) == []
    assert (await binance.ws_get_account())["canTrade"]
    assert len(await binance.ws_get_account_rate_limits_orders()) == 2
    assert (await binance.ws_get_commission_rates(symbol=SYMBOL))["symbol"] == SYMBOL


async def test_order_lists_are_led_over_the_socket(binance):
    placed = [
        await binance.ws_create_oco_order(**OCO),
        await binance.ws_create_otoco_order(**OTOCO),
    ]
    assert len(await binance.ws_get_oco_open_orders()) == 2
    for one in placed:
        found = await binance.ws_get_oco_order(orderListId=one["orderListId"])
        assert found["listOrderStatus"] == "EXECUTING"
        gone = await binance.ws_cancel_oco_order(symbol=SYMBOL, orderListId=one["orderListId"])
        assert gone["listOrderStatus"] == "ALL_DONE"


async def test_an_ed25519_key_signs(start_simulator, connect, tmp_path):
    keys = [KeySettings(api_key=ED_KEY, public_key=ED_PUBLIC_PEM)]
    simulator = await start_simulator(accounts=[AccountSettings(name="main", keys=keys)])
    (tmp_path / "key.pem").write_text(ED_PRIVATE_PEM)
    binance = await connect(simulator, ED_KEY, None, private_key=tmp_path / "key.pem")
    assert (await binance.create_order(**RESTING))["status"] == "NEW"
    assert len(await binance.ws_cancel_all_open_orders(symbol=SYMBOL)) == 1


async def test_every_stream_is_received(binance):
    streams = [
        "btcusdt@trade",
        "btcusdt@aggTrade",
        "btcusdt@kline_1m",
        "btcusdt@kline_1h@+08:00",
        "btcusdt@bookTicker",
        "btcusdt@ticker",
        "btcusdt@miniTicker",
        "!miniTicker@arr",
        "btcusdt@ticker_1h",
        "!ticker_1d@arr",
        "btcusdt@avgPrice",
        "btcusdt@depth",
        "btcusdt@depth@100ms",
        "btcusdt@depth5",
        "btcusdt@depth20@100ms",
    ]
    seen = set()
    manager = BinanceSocketManager(binance)
    async with asyncio.timeout(10), manager.multiplex_socket(streams) as socket:
        while seen != set(streams):
            seen.add((await socket.recv())["stream"])


async def test_a_list_is_told_to_its_owner(binance):
    manager = BinanceSocketManager(binance)
    async with asyncio.timeout(10), manager.user_socket() as socket:
        await binance.create_oco_order(**OCO)
        events = [(await socket.recv())["e"] for _ in range(4)]
    assert sorted(events) == [
        "executionReport",
        "executionReport",
        "listStatus",
        "outboundAccountPosition",
    ]


async def test_a_deposit_is_told_to_its_owner(binance, simulator):
    manager = BinanceSocketManager(binance)
    async with asyncio.timeout(10), manager.user_socket() as socket:
        await deposit(simulator, "BTC", "0.5")
        event = await socket.recv()
    assert (event["e"], event["a"], event["d"]) == ("balanceUpdate", "BTC", "0.50000000")


async def test_the_end_of_a_connection_is_noticed(start_simulator, connect):
    sockets = SocketSettings(ping_interval_s=0.1, life_s=1.5)
    manager = BinanceSocketManager(await connect(await start_simulator(sockets=sockets)))
    seen = []
    async with asyncio.timeout(10), manager.trade_socket(SYMBOL) as socket:
        # It connects anew by itself. Left while it does so, it would never end.
        while "error" not in seen or seen[-1] != "trade":
            seen.append((await socket.recv())["e"])


async def test_the_end_is_announced(binance, simulator):
    manager = BinanceSocketManager(binance)
    async with asyncio.timeout(10), manager.trade_socket(SYMBOL) as socket:
        await socket.recv()
        await simulator.stop()
        while (await socket.recv())["e"] != "serverShutdown":
            pass


async def refused(binance, refusal):
    calls = {
        ("POST", "order"): binance.v3_post_order,
        ("POST", "order/test"): binance.create_test_order,
        ("POST", "order/cancelReplace"): binance.v3_post_order_cancel_replace,
        ("GET", "order"): binance.get_order,
        ("DELETE", "order"): binance.cancel_order,
        ("DELETE", "openOrders"): binance.cancel_all_open_orders,
        ("GET", "allOrders"): binance.get_all_orders,
        ("GET", "myTrades"): binance.get_my_trades,
        ("GET", "klines"): binance.get_klines,
        ("GET", "depth"): binance.get_order_book,
        ("GET", "ticker/price"): binance.get_symbol_ticker,
    }
    # It puts a receive window of its own into every request.
    binance.REQUEST_RECVWINDOW = int(refusal.parameters.get("recvWindow", 10_000))
    with pytest.raises(BinanceAPIException) as caught:
        await calls[refusal.method, refusal.path](**refusal.parameters)
    return caught.value


def said(error):
    return error.code, error.message


async def test_refusals_are_told_with_their_codes_and_texts(binance):
    told, expected = {}, {}
    for name, refusal in REFUSALS.items():
        error = await refused(binance, refusal)
        told[name] = (error.status_code, *said(error))
        # It adds a timestamp and its receive window.
        text = refusal.text_with(read=9, sent=10)
        expected[name] = (409 if refusal.code == -2021 else 400, refusal.code, text)
    assert told == expected


async def test_refusals_over_the_socket_are_the_same(binance):
    for name in ("lot size", "no money", "unknown symbol", "no price", "strange side"):
        with pytest.raises(BinanceAPIException) as caught:
            await binance.ws_create_order(**REFUSALS[name].parameters)
        assert said(caught.value) == (REFUSALS[name].code, REFUSALS[name].text)


async def test_bad_keys_and_signatures_are_told_apart(simulator, connect):
    for key, secret, expected in (
        ("no key", SECRET, (401, *refusals.BAD_KEY)),
        ("nobody", SECRET, (401, *refusals.UNKNOWN_KEY)),
        (KEY, "wrong", (400, *refusals.BAD_SIGNATURE)),
    ):
        binance = await connect(simulator, key, secret)
        with pytest.raises(BinanceAPIException) as caught:
            await binance.get_account()
        assert (caught.value.status_code, *said(caught.value)) == expected


@pytest.mark.parametrize(
    ("behind_ms", "expected"),
    [(10_000, refusals.LATE), (-10_000, refusals.EARLY)],
    ids=["late", "early"],
)
async def test_a_clock_that_is_wrong_is_told(binance, behind_ms, expected):
    binance.timestamp_offset -= behind_ms
    with pytest.raises(BinanceAPIException) as caught:
        await binance.get_account()
    assert said(caught.value) == expected


async def test_too_much_weight_is_refused_and_then_banned(start_simulator, connect):
    limits = LimitSettings(weight_per_minute=100, refusals_before_ban=3)
    binance = await connect(await start_simulator(limits=limits))
    seen = []
    while not (seen and seen[-1].status_code == 418):
        try:
            await binance.get_account()
        except BinanceAPIException as error:
            seen.append(error)
    assert all(0 < int(error.response.headers["Retry-After"]) <= 120 for error in seen)
    assert (seen[0].status_code, *said(seen[0])) == (429, *refusals.TOO_HEAVY)
    assert seen[-1].code == -1003
    assert seen[-1].message.startswith("Way too much request weight used; IP banned until ")


async def test_too_many_orders_are_refused(start_simulator, connect):
    limits = LimitSettings(orders_per_10_seconds=1)
    binance = await connect(await start_simulator(limits=limits))
    with pytest.raises(BinanceAPIException) as caught:
        # The ten seconds may end between one order and the next.
        await asyncio.gather(*(binance.create_order(**RESTING) for _ in range(3)))
    assert (caught.value.status_code, *said(caught.value)) == (429, *refusals.TOO_MANY_ORDERS)

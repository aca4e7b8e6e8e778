import asyncio
from decimal import Decimal

import pytest

from bagbot.simulator.rate_limits import LimitSettings
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient, balances_of

ORDER = "/api/v3/order"
LIMIT = {"type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": "50000"}


def error(reply):
    return reply.status, reply.body["code"], reply.body["msg"]


async def test_public_endpoints_have_binances_shapes(client):
    assert (await client.public("/api/v3/ping")).body == {}
    assert set((await client.public("/api/v3/time")).body) == {"serverTime"}
    depth = (await client.public("/api/v3/depth", symbol="BTCUSDT", limit=5)).body
    assert [len(depth[side]) for side in ("bids", "asks")] == [5, 5]
    bids, asks = ([Decimal(price) for price, _ in depth[side]] for side in ("bids", "asks"))
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]
    (row,) = (await client.public("/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=1)).body
    assert [type(value) for value in row] == [int, *[str] * 5, int, str, int, str, str, str]
    assert row[6] == row[0] + 59_999
    price = (await client.public("/api/v3/ticker/price", symbol="BTCUSDT")).body
    assert set(price) == {"symbol", "price"}
    assert len((await client.public("/api/v3/ticker/bookTicker")).body) == 4
    two = await client.public("/api/v3/ticker/price", symbols='["BTCUSDT","ETHBTC"]')
    assert [row["symbol"] for row in two.body] == ["BTCUSDT", "ETHBTC"]
    day = (await client.public("/api/v3/ticker/24hr", symbol="ETHBTC")).body
    assert {"priceChangePercent", "prevClosePrice", "bidQty", "firstId", "count"} <= set(day)
    mini = (await client.public("/api/v3/ticker/24hr", symbol="ETHBTC", type="MINI")).body
    assert set(day) > set(mini)
    average = (await client.public("/api/v3/avgPrice", symbol="BTCUSDT")).body
    assert average["mins"] == 5
    trades = (await client.public("/api/v3/trades", symbol="BTCUSDT")).body
    aggregates = (await client.public("/api/v3/aggTrades", symbol="BTCUSDT", fromId=1)).body
    assert aggregates[0]["a"] == trades[0]["id"] == 1


async def test_current_candle_is_now(client):
    server_ms = (await client.public("/api/v3/time")).body["serverTime"]
    rows = (await client.public("/api/v3/klines", symbol="BTCUSDT", interval="1m")).body
    assert rows[-1][0] <= server_ms < rows[-1][0] + 120_000
    assert len(rows) == 500


async def test_exchange_info_has_the_filters_and_limits(client):
    info = (await client.public("/api/v3/exchangeInfo")).body
    assert [row["symbol"] for row in info["symbols"]] == [
        "BTCUSDT",
        "ETHUSDT",
        "ETHBTC",
        "BNBUSDT",
    ]
    filters = {row["filterType"]: row for row in info["symbols"][0]["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"
    assert filters["NOTIONAL"]["minNotional"] == "5.00000000"
    assert filters["PERCENT_PRICE_BY_SIDE"]["bidMultiplierDown"] == "0.2"
    assert {row["rateLimitType"] for row in info["rateLimits"]} == {
        "REQUEST_WEIGHT",
        "ORDERS",
        "RAW_REQUESTS",
    }
    one = (await client.public("/api/v3/exchangeInfo", symbol="ETHBTC")).body
    assert [row["symbol"] for row in one["symbols"]] == ["ETHBTC"]


async def test_market_order_reply_and_the_account_agree(client):
    before = balances_of((await client.signed("GET", "/api/v3/account")).body)
    placed = (await client.place(quantity="0.5", newClientOrderId="mine")).body
    assert placed["status"] == "FILLED"
    assert placed["price"] == "0.00000000"
    assert placed["clientOrderId"] == "mine"
    fills = placed["fills"]
    assert len(fills) == 2
    assert set(fills[0]) == {"price", "qty", "commission", "commissionAsset", "tradeId"}
    bought = sum(Decimal(fill["qty"]) for fill in fills)
    fee = sum(Decimal(fill["commission"]) for fill in fills)
    assert (bought, fee) == (Decimal("0.5"), Decimal("0.0005"))
    after = balances_of((await client.signed("GET", "/api/v3/account")).body)
    assert after["BTC"][0] - before["BTC"][0] == bought - fee
    assert before["USDT"][0] - after["USDT"][0] == Decimal(placed["cummulativeQuoteQty"])
    trades = (await client.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT")).body
    assert [row["id"] for row in trades] == [fill["tradeId"] for fill in fills]
    assert all(row["orderId"] == placed["orderId"] and not row["isMaker"] for row in trades)


@pytest.mark.parametrize(
    ("response_type", "kind", "has_status", "has_fills"),
    [
        (None, "LIMIT", True, True),
        ("ACK", "LIMIT", False, False),
        ("RESULT", "LIMIT", True, False),
        (None, "LIMIT_MAKER", False, False),
        ("FULL", "LIMIT_MAKER", True, True),
    ],
)
async def test_reply_is_as_long_as_asked_for(client, response_type, kind, has_status, has_fills):
    parameters = {**LIMIT, "type": kind}
    if kind == "LIMIT_MAKER":
        del parameters["timeInForce"]
    if response_type is not None:
        parameters["newOrderRespType"] = response_type
    reply = (await client.place(**parameters)).body
    assert ("status" in reply, "fills" in reply) == (has_status, has_fills)


async def test_order_lives_from_new_to_cancelled(client):
    placed = (await client.place(**LIMIT, newClientOrderId="mine")).body
    found = (await client.signed("GET", ORDER, symbol="BTCUSDT", origClientOrderId="mine")).body
    assert (found["orderId"], found["status"], found["isWorking"]) == (
        placed["orderId"],
        "NEW",
        True,
    )
    account = balances_of((await client.signed("GET", "/api/v3/account")).body)
    assert account["USDT"][1] == 500
    open_orders = (await client.signed("GET", "/api/v3/openOrders")).body
    assert [row["clientOrderId"] for row in open_orders] == ["mine"]
    cancelled = (
        await client.signed(
            "DELETE", ORDER, symbol="BTCUSDT", orderId=placed["orderId"], newClientOrderId="stop"
        )
    ).body
    assert cancelled["status"] == "CANCELED"
    assert (cancelled["origClientOrderId"], cancelled["clientOrderId"]) == ("mine", "stop")
    found = (await client.signed("GET", ORDER, symbol="BTCUSDT", orderId=placed["orderId"])).body
    assert found["status"] == "CANCELED"
    assert (await client.signed("GET", "/api/v3/openOrders", symbol="BTCUSDT")).body == []


async def test_unknown_orders_have_their_own_texts(client):
    lost = {"symbol": "BTCUSDT", "origClientOrderId": "nobody"}
    assert error(await client.signed("GET", ORDER, **lost)) == (
        400,
        -2013,
        "Order does not exist.",
    )
    assert error(await client.signed("DELETE", ORDER, **lost)) == (
        400,
        -2011,
        "Unknown order sent.",
    )
    assert error(await client.signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")) == (
        400,
        -2011,
        "Unknown order sent.",
    )
    placed = (await client.place(**LIMIT)).body
    mismatch = {"symbol": "BTCUSDT", "orderId": placed["orderId"], "origClientOrderId": "nobody"}
    assert error(await client.signed("GET", ORDER, **mismatch)) == (
        400,
        -2039,
        "Client order ID is not correct for this order ID.",
    )


@pytest.mark.parametrize(
    ("parameters", "code", "message"),
    [
        ({**LIMIT, "price": "50000.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({**LIMIT, "quantity": "0.000001"}, -1013, "Filter failure: LOT_SIZE"),
        ({**LIMIT, "quantity": "0.00001"}, -1013, "Filter failure: NOTIONAL"),
        ({**LIMIT, "price": "1"}, -1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
        ({"quantity": "101"}, -1013, "Filter failure: MARKET_LOT_SIZE"),
        (
            {**LIMIT, "quantity": "100"},
            -2010,
            "Account has insufficient balance for requested action.",
        ),
        (
            {"type": "LIMIT_MAKER", "quantity": "0.01", "price": "200000"},
            -2010,
            "Order would immediately match and take.",
        ),
    ],
)
async def test_refused_orders_have_binances_code_and_text(client, parameters, code, message):
    assert error(await client.place(**parameters)) == (400, code, message)
    assert error(
        await client.signed(
            "POST", ORDER + "/test", symbol="BTCUSDT", side="BUY", **{"type": "MARKET"} | parameters
        )
    ) == (400, code, message)
    assert (await client.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT")).body == []


async def test_an_open_client_order_id_is_taken_and_a_closed_one_is_not(client):
    await client.place(**LIMIT, newClientOrderId="mine")
    assert error(await client.place(**LIMIT, newClientOrderId="mine")) == (
        400,
        -2010,
        "Duplicate order sent.",
    )
    await client.signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    for _ in range(2):
        placed = (await client.place(quantity="0.001", newClientOrderId="mine")).body
        assert placed["status"] == "FILLED"
    orders = (await client.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT")).body
    assert [row["clientOrderId"] for row in orders] == ["mine"] * 3
    newest = (await client.signed("GET", ORDER, symbol="BTCUSDT", origClientOrderId="mine")).body
    assert newest["orderId"] == placed["orderId"]


async def test_a_test_order_places_nothing(client):
    path = ORDER + "/test"
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "1"}
    assert (await client.signed("POST", path, **order)).body == {}
    rates = (await client.signed("POST", path, **order, computeCommissionRates="true")).body
    assert rates["standardCommissionForOrder"] == {"maker": "0.00100000", "taker": "0.00100000"}
    assert (await client.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT")).body == []


async def test_lists_are_paged_by_id_time_and_limit(client):
    ids = [(await client.place(quantity="0.001")).body["orderId"] for _ in range(4)]

    async def listed(path, key, **parameters):
        reply = await client.signed("GET", path, symbol="BTCUSDT", **parameters)
        return [row[key] for row in reply.body]

    assert await listed("/api/v3/allOrders", "orderId", limit=2) == ids[2:]
    assert await listed("/api/v3/allOrders", "orderId", orderId=ids[1], limit=2) == ids[1:3]
    trades = (await client.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT")).body
    assert [row["orderId"] for row in trades] == ids
    assert await listed("/api/v3/myTrades", "orderId", orderId=ids[2]) == [ids[2]]
    assert await listed("/api/v3/myTrades", "orderId", fromId=trades[2]["id"]) == ids[2:]
    assert await listed("/api/v3/myTrades", "orderId", startTime=trades[0]["time"]) == ids
    assert await listed("/api/v3/myTrades", "orderId", endTime=trades[0]["time"] - 1) == []
    day_ms = 24 * 60 * 60 * 1_000
    now = trades[0]["time"]
    reply = await client.signed(
        "GET", "/api/v3/myTrades", symbol="BTCUSDT", startTime=now, endTime=now + day_ms + 1
    )
    assert reply.body["code"] == -1127
    reply = await client.signed(
        "GET", "/api/v3/myTrades", symbol="BTCUSDT", orderId=ids[0], startTime=now
    )
    assert reply.body["code"] == -1128


async def test_keys_and_signatures_are_checked(simulator, client):
    account = "/api/v3/account"
    assert error(await client.send("GET", account, "timestamp=1&signature=0"))[:2] == (400, -1021)
    good = client.query()
    assert error(await client.send("GET", account, good[:-1] + "x"))[:2] == (400, -1022)
    assert error(await client.send("GET", account, good.partition("&")[0]))[:2] == (400, -1102)
    async with SigningClient(simulator.url, key="somebodyelse") as other:
        assert error(await other.signed("GET", account)) == (
            401,
            -2015,
            "Invalid API-key, IP, or permissions for action.",
        )
    async with SigningClient(simulator.url, key="not a key") as other:
        assert error(await other.signed("GET", account)) == (
            401,
            -2014,
            "API-key format invalid.",
        )


async def test_commission_and_order_usage_are_told(client):
    rates = (await client.signed("GET", "/api/v3/account/commission", symbol="BTCUSDT")).body
    assert rates["standardCommission"]["taker"] == "0.00100000"
    await client.place(**LIMIT)
    await client.place(quantity="0.001")
    usage = (await client.signed("GET", "/api/v3/rateLimit/order")).body
    # The one that traded does not count. Ten seconds may turn over in between.
    assert usage[0]["count"] in (0, 1)
    assert usage[1]["count"] == 1


async def test_retired_and_unknown_paths(client):
    retired = await client.send("POST", "/api/v3/userDataStream")
    assert error(retired) == (410, -1016, "This service is no longer available.")
    for path in ("/api/v3/nothing", "/", "/api/v3/ping/", "/sapi/v1/capital"):
        assert (await client.send("GET", path)).status == 404


async def test_resting_order_fills_when_the_market_comes_to_it(client):
    price = Decimal((await client.public("/api/v3/ticker/price", symbol="BTCUSDT")).body["price"])
    limit = (price * Decimal("0.9")).quantize(Decimal("0.01"))
    placed = (await client.place(**LIMIT | {"price": str(limit)})).body
    target = (price * Decimal("0.8")).quantize(Decimal("0.01"))
    moved = await client.admin("POST", f"price?symbol=BTCUSDT&price={target}")
    assert moved.status == 200
    found = await client.signed("GET", ORDER, symbol="BTCUSDT", orderId=placed["orderId"])
    assert found.body["status"] == "FILLED"
    (trade,) = (await client.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT")).body
    assert (Decimal(trade["price"]), trade["isMaker"]) == (limit, True)


@pytest.fixture
async def limited():
    settings = SimulatorSettings(
        api_key=KEY,
        api_secret=SECRET,
        open_orders_max=3,
        limits=LimitSettings(weight_per_minute=200, orders_per_10_seconds=2),
    )
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        yield client


async def test_weight_is_counted_and_limited(limited):
    first = await limited.public("/api/v3/exchangeInfo")
    assert first.headers["X-MBX-USED-WEIGHT-1M"] == "20"
    replies = [await limited.public("/api/v3/exchangeInfo") for _ in range(10)]
    refused = [reply for reply in replies if reply.status == 429]
    # A minute may turn over in between, so at least one, not exactly one.
    assert refused
    assert refused[0].body["code"] == -1003
    assert refused[0].body["msg"] == (
        "Too much request weight used; current limit is 200 request weight per 1 MINUTE. "
        "Please use WebSocket Streams for live updates to avoid polling the API."
    )
    assert 1 <= int(refused[0].headers["Retry-After"]) <= 60


async def test_orders_are_limited_until_they_trade(limited):
    async def place_until_refused():
        replies = [await limited.place(**LIMIT) for _ in range(3)]
        return [reply for reply in replies if reply.status != 200]

    for _ in range(4):
        assert (await limited.place(quantity="0.001")).status == 200
    refused = await place_until_refused()
    if not refused:
        # Ten seconds turned over in between; this time they cannot.
        await limited.signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
        await asyncio.sleep(0.1)
        refused = await place_until_refused()
    reply = refused[0]
    assert error(reply) == (
        429,
        -1015,
        "Too many new orders; current limit is 2 orders per 10 SECOND.",
    )
    assert 1 <= int(reply.headers["Retry-After"]) <= 10


async def test_accepted_orders_weigh_nothing_and_refused_ones_do(client):
    reply = await client.place(quantity="0.001")
    weight = int(reply.headers["X-MBX-USED-WEIGHT-1M"])
    assert reply.headers["X-MBX-ORDER-COUNT-10S"] == "0"
    assert reply.headers["X-MBX-ORDER-COUNT-1D"] == "0"
    refused = await client.place(quantity="101")
    assert int(refused.headers["X-MBX-USED-WEIGHT-1M"]) in (weight + 1, 1)


async def test_too_many_open_orders_are_an_engine_refusal(simulator):
    settings = SimulatorSettings(api_key=KEY, api_secret=SECRET, open_orders_max=1)
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        await client.place(**LIMIT)
        assert error(await client.place(**LIMIT)) == (
            400,
            -2010,
            "Filter failure: MAX_NUM_ORDERS",
        )


async def test_two_servers_with_one_seed_have_one_market():
    def server(seed):
        # A clock that stands still: both are at the same point of their market.
        settings = SimulatorSettings(api_key=KEY, api_secret=SECRET, seed=seed)
        return SimulatorServer(settings, clock=lambda: 1_700_000_000_000_000_000)

    async def bars_of(one):
        async with one, SigningClient(one.url) as client:
            parameters = {"symbol": "ETHBTC", "interval": "1m"}
            return (await client.public("/api/v3/klines", **parameters)).body

    first, same, other = [await bars_of(server(seed)) for seed in (3, 3, 4)]
    assert first == same
    assert first != other


async def test_a_test_order_with_commission_rates_weighs_twenty(client):
    used = []
    for flag in ({}, {"computeCommissionRates": "true"}):
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}
        reply = await client.signed("POST", "/api/v3/order/test", **order, **flag)
        assert reply.status == 200
        used.append(int(reply.headers["X-MBX-USED-WEIGHT-1M"]))
    # A minute may begin in between.
    assert used[1] - used[0] == 20 or used[1] == 20


@pytest.mark.parametrize(
    ("parameters", "count"),
    [
        ({}, 4),
        ({"permissions": "SPOT"}, 4),
        ({"permissions": '["MARGIN","SPOT"]'}, 4),
        ({"permissions": "MARGIN"}, 0),
        ({"permissions": '["MARGIN"]', "symbolStatus": "TRADING"}, 0),
    ],
)
async def test_symbols_are_told_by_permission(client, parameters, count):
    reply = await client.public("/api/v3/exchangeInfo", **parameters)
    assert len(reply.body["symbols"]) == count
    assert all(row["permissionSets"] == [["SPOT"]] for row in reply.body["symbols"])


async def test_permission_sets_are_left_out_on_request(client):
    reply = await client.public("/api/v3/exchangeInfo", showPermissionSets="false")
    assert [row["permissionSets"] for row in reply.body["symbols"]] == [[]] * 4


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"symbol": "BTCUSDT", "symbolStatus": "TRADING"}, -1128),
        ({"symbols": '["BTCUSDT"]', "permissions": "SPOT"}, -1128),
        ({"permissions": "[1]"}, -1135),
        ({"permissions": "[SPOT"}, -1135),
    ],
)
async def test_what_does_not_go_together_in_exchange_info_is_refused(client, parameters, code):
    reply = await client.public("/api/v3/exchangeInfo", **parameters)
    assert (reply.status, reply.body["code"]) == (400, code)

"""Stops over both wires: replies, events in their order, and what a restart keeps."""

import pytest

from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient
from bagbot.tests.simulator.test_user_stream import events_until_position, subscribed

ORDER = "/api/v3/order"
STOP_LIMIT = {
    "side": "SELL",
    "type": "STOP_LOSS_LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01",
    "price": "150000",
    "stopPrice": "20000",
}


async def set_price(client, price):
    await client.admin("POST", f"price?symbol=BTCUSDT&price={price}")


async def found(client, order_id):
    return (await client.signed("GET", ORDER, symbol="BTCUSDT", orderId=order_id)).body


async def test_exchange_info_lists_the_order_types_served(client):
    info = (await client.public("/api/v3/exchangeInfo", symbol="BTCUSDT")).body["symbols"][0]
    assert info["orderTypes"] == [
        "LIMIT",
        "LIMIT_MAKER",
        "MARKET",
        "STOP_LOSS",
        "STOP_LOSS_LIMIT",
        "TAKE_PROFIT",
        "TAKE_PROFIT_LIMIT",
    ]
    assert info["allowTrailingStop"] is True


async def test_a_stop_is_acknowledged_waits_and_goes_live(client):
    acknowledged = (await client.place(**STOP_LIMIT)).body
    assert set(acknowledged) == {
        "symbol",
        "orderId",
        "orderListId",
        "clientOrderId",
        "transactTime",
    }
    waiting = await found(client, acknowledged["orderId"])
    assert (waiting["status"], waiting["isWorking"], waiting["workingTime"]) == ("NEW", False, -1)
    assert waiting["stopPrice"] == "20000.00000000"
    # What waits is not in the book.
    depth = (await client.public("/api/v3/depth", symbol="BTCUSDT", limit=5000)).body
    assert ["150000.00000000", "0.01000000"] not in depth["asks"]
    await set_price(client, 19_000)
    live = await found(client, acknowledged["orderId"])
    assert (live["status"], live["isWorking"]) == ("NEW", True)
    assert live["workingTime"] >= live["time"]
    depth = (await client.public("/api/v3/depth", symbol="BTCUSDT", limit=5000)).body
    assert ["150000.00000000", "0.01000000"] in depth["asks"]


async def test_a_full_reply_to_a_stop_shows_that_it_waits(client):
    placed = (await client.place(**STOP_LIMIT, newOrderRespType="FULL")).body
    assert placed["workingTime"] == -1
    assert (placed["stopPrice"], placed["fills"]) == ("20000.00000000", [])
    trailing = {"side": "SELL", "type": "STOP_LOSS", "quantity": "0.01", "trailingDelta": 500}
    placed = (await client.place(**trailing, newOrderRespType="RESULT")).body
    assert placed["trailingDelta"] == 500
    assert placed["trailingTime"] == placed["transactTime"]


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        ({"stopPrice": "900000", "price": "400000"}, -2010, "Order would trigger immediately."),
        ({"stopPrice": "20000.001"}, -1013, "Filter failure: PRICE_FILTER"),
        ({"trailingDelta": "5000"}, -1013, "Filter failure: TRAILING_DELTA"),
    ],
)
async def test_a_bad_stop_gets_binances_own_error(client, more, code, message):
    reply = await client.place(**STOP_LIMIT | more)
    assert (reply.status, reply.body) == (400, {"code": code, "msg": message})


async def test_the_sixth_stop_is_one_too_many(client):
    for _ in range(5):
        assert (await client.place(**STOP_LIMIT)).status == 200
    reply = await client.place(**STOP_LIMIT)
    assert reply.body == {"code": -2010, "msg": "Filter failure: MAX_NUM_ALGO_ORDERS"}
    usage = (await client.signed("GET", "/api/v3/rateLimit/order")).body
    assert usage[0]["count"] == 5


async def test_events_tell_a_stop_from_its_placing_to_its_last_trade(client):
    async with client.socket("/ws-api/v3") as socket:
        await subscribed(client, socket)
        stop = {"side": "SELL", "type": "STOP_LOSS", "quantity": "0.01", "stopPrice": "20000"}
        placed, events = await client.call(
            socket, "order.place", 5, **client.socket_parameters(symbol="BTCUSDT", **stop)
        )
        assert placed["status"] == 200
        new, locked = [event["event"] for event in events] or await events_until_position(socket)
        assert (new["x"], new["X"], new["w"], new["P"]) == ("NEW", "NEW", False, "20000.00000000")
        assert "W" not in new
        assert locked["B"] == [{"a": "BTC", "f": "9.99000000", "l": "0.01000000"}]
        await set_price(client, 19_000)
        *reports, _ = await events_until_position(socket)
    assert [(row["x"], row["X"], row["w"]) for row in reports] == [
        ("NEW", "NEW", True),
        ("TRADE", "FILLED", False),
    ]
    assert {row["i"] for row in reports} == {placed["result"]["orderId"]}
    assert reports[0]["W"] >= new["O"]
    # Going live is not another order.
    usage = (await client.signed("GET", "/api/v3/rateLimit/order")).body
    assert usage[0]["count"] == 0


async def test_a_waiting_stop_is_cancelled_with_its_stop_price_in_the_reply(client):
    await client.place(**STOP_LIMIT, newClientOrderId="mine")
    cancelled = await client.signed("DELETE", ORDER, symbol="BTCUSDT", origClientOrderId="mine")
    assert (cancelled.body["status"], cancelled.body["stopPrice"]) == ("CANCELED", "20000.00000000")


def settings(directory):
    return SimulatorSettings(api_key=KEY, api_secret=SECRET, store=directory)


async def test_a_restart_keeps_stops_waiting_and_trailing(tmp_path):
    async with SimulatorServer(settings(tmp_path)) as server, SigningClient(server.url) as client:
        waiting = (await client.place(**STOP_LIMIT)).body["orderId"]
        await set_price(client, 40_000)
        trailing = {"side": "SELL", "type": "STOP_LOSS", "quantity": "0.01", "trailingDelta": 1000}
        following = (await client.place(**trailing)).body["orderId"]
        await set_price(client, 50_000)
        before = [await found(client, order_id) for order_id in (waiting, following)]
    async with SimulatorServer(settings(tmp_path)) as server, SigningClient(server.url) as client:
        assert [await found(client, order_id) for order_id in (waiting, following)] == before
        await set_price(client, 45_500)
        assert (await found(client, following))["isWorking"] is False
        await set_price(client, 44_900)
        assert (await found(client, following))["status"] == "FILLED"
        await set_price(client, 19_000)
        assert (await found(client, waiting))["isWorking"] is True


async def test_a_restart_puts_a_stop_that_went_live_behind_older_orders(tmp_path):
    limit = {"side": "SELL", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01"}
    async with SimulatorServer(settings(tmp_path)) as server, SigningClient(server.url) as client:
        stop = (await client.place(**STOP_LIMIT)).body["orderId"]
        older = (await client.place(**limit, price="150000")).body["orderId"]
        await set_price(client, 19_000)
    async with SimulatorServer(settings(tmp_path)) as server, SigningClient(server.url) as client:
        await set_price(client, 150_000)
        trades = (await client.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT")).body
        assert [trade["orderId"] for trade in trades] == [older, stop]

"""Order lists over both wires: parameters, replies, events, queries, and a restart."""

import pytest

from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient, receive
from bagbot.tests.simulator.test_user_stream import subscribed

LISTS = "/api/v3/orderList"
ORDER = "/api/v3/order"
OCO = {
    "symbol": "BTCUSDT",
    "side": "SELL",
    "quantity": "0.01",
    "aboveType": "LIMIT_MAKER",
    "abovePrice": "150000",
    "belowType": "STOP_LOSS_LIMIT",
    "belowStopPrice": "20000",
    "belowPrice": "19500",
    "belowTimeInForce": "GTC",
}
WORKING = {
    "symbol": "BTCUSDT",
    "workingType": "LIMIT",
    "workingSide": "BUY",
    "workingPrice": "30000",
    "workingQuantity": "0.01",
    "workingTimeInForce": "GTC",
    "pendingSide": "SELL",
    "pendingQuantity": "0.01",
}
OTO = WORKING | {"pendingType": "MARKET"}
OTOCO = WORKING | {
    "pendingAboveType": "TAKE_PROFIT",
    "pendingAboveStopPrice": "150000",
    "pendingBelowType": "STOP_LOSS",
    "pendingBelowStopPrice": "20000",
}


async def set_price(client, price):
    await client.admin("POST", f"price?symbol=BTCUSDT&price={price}")


async def place(client, kind, parameters):
    return await client.signed("POST", f"{LISTS}/{kind}", **parameters)


async def statuses(client):
    orders = (await client.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT")).body
    return [order["status"] for order in orders]


async def test_an_oco_is_answered_with_both_orders_the_stop_first(client):
    reply = await place(client, "oco", OCO | {"listClientOrderId": "mine"})
    assert reply.status == 200
    body = reply.body
    assert list(body) == [
        "orderListId",
        "contingencyType",
        "listStatusType",
        "listOrderStatus",
        "listClientOrderId",
        "transactionTime",
        "symbol",
        "orders",
        "orderReports",
    ]
    assert [body[name] for name in list(body)[:5]] == [
        0,
        "OCO",
        "EXEC_STARTED",
        "EXECUTING",
        "mine",
    ]
    stop, limit = body["orderReports"]
    assert (stop["type"], stop["stopPrice"], stop["workingTime"]) == (
        "STOP_LOSS_LIMIT",
        "20000.00000000",
        -1,
    )
    assert (limit["type"], limit["status"], limit["orderListId"]) == ("LIMIT_MAKER", "NEW", 0)
    assert [row["orderId"] for row in body["orders"]] == [stop["orderId"], limit["orderId"]]
    usage = (await client.signed("GET", "/api/v3/rateLimit/order")).body
    assert usage[1]["count"] == 2


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        (
            {"abovePrice": "30000"},
            -2010,
            "The relationship of the prices for the orders is not correct.",
        ),
        ({"aboveType": "LIMIT"}, -1158, "Order type not supported in OCO."),
        ({"belowType": "LIMIT_MAKER"}, -1168, "At least one OCO order must be contingent."),
        ({"side": "BUY"}, -1165, "A limit order in a buy OCO must be below."),
        (
            {"aboveType": "STOP_LOSS", "belowType": "LIMIT_MAKER"},
            -1166,
            "A limit order in a sell OCO must be above.",
        ),
        (
            {"side": "BUY", "aboveType": "STOP_LOSS"},
            -1196,
            "A stop loss order in a buy OCO must be above.",
        ),
        (
            {"aboveType": "STOP_LOSS"},
            -1197,
            "A stop loss order in a sell OCO must be below.",
        ),
        (
            {"side": "BUY", "aboveType": "TAKE_PROFIT", "belowType": "TAKE_PROFIT"},
            -1198,
            "A take profit order in a buy OCO must be below.",
        ),
        (
            {"belowType": "TAKE_PROFIT"},
            -1199,
            "A take profit order in a sell OCO must be above.",
        ),
        (
            {"aboveStopPrice": "5"},
            -1106,
            "Parameter 'aboveStopPrice' sent when not required.",
        ),
        (
            {"belowType": "STOP_LOSS"},
            -1106,
            "Parameter 'belowTimeInForce' sent when not required.",
        ),
        (
            {"belowTimeInForce": "IOC", "belowIcebergQty": "0.001"},
            -1160,
            "Parameter 'belowIcebergQty' is not supported if "
            "`aboveTimeInForce`/`belowTimeInForce` is not GTC.",
        ),
        ({"quantity": "50"}, -2010, "Account has insufficient balance for requested action."),
    ],
)
async def test_a_bad_oco_gets_binances_own_error(client, changes, code, message):
    reply = await place(client, "oco", OCO | changes)
    assert (reply.status, reply.body) == (400, {"code": code, "msg": message})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"workingType": "MARKET"}, -1116),
        ({"pendingType": "LIMIT"}, -1102),
        ({"pendingQuoteOrderQty": "100"}, -1104),
        ({"workingSide": "HOLD"}, -1117),
    ],
)
async def test_a_bad_oto_is_refused(client, changes, code):
    reply = await place(client, "oto", OTO | changes)
    assert (reply.status, reply.body["code"]) == (400, code)


async def test_lists_are_queried_open_and_done(client):
    body = (await place(client, "oco", OCO)).body
    row = {name: value for name, value in body.items() if name != "orderReports"}
    assert (await client.signed("GET", LISTS, orderListId=0)).body == row
    by_name = await client.signed("GET", LISTS, origClientOrderId=body["listClientOrderId"])
    assert by_name.body == row
    assert (await client.signed("GET", "/api/v3/openOrderList")).body == [row]
    order = (
        await client.signed("GET", ORDER, symbol="BTCUSDT", orderId=body["orders"][0]["orderId"])
    ).body
    assert order["orderListId"] == 0
    await client.signed("DELETE", LISTS, symbol="BTCUSDT", orderListId=0)
    assert (await client.signed("GET", "/api/v3/openOrderList")).body == []
    (done,) = (await client.signed("GET", "/api/v3/allOrderList")).body
    assert (done["listStatusType"], done["listOrderStatus"]) == ("ALL_DONE", "ALL_DONE")
    missing = await client.signed("GET", LISTS, orderListId=9)
    assert missing.body == {"code": -2013, "msg": "Order list does not exist."}
    both = await client.signed("GET", "/api/v3/allOrderList", fromId=0, startTime=1)
    assert both.body["code"] == -1128


async def test_a_cancelled_list_reports_every_order_with_one_cancel_id(client):
    await place(client, "oco", OCO | {"listClientOrderId": "mine"})
    reply = await client.signed(
        "DELETE", LISTS, symbol="BTCUSDT", listClientOrderId="mine", newClientOrderId="out"
    )
    assert (reply.body["listStatusType"], reply.body["listOrderStatus"]) == ("ALL_DONE", "ALL_DONE")
    reports = reply.body["orderReports"]
    assert [row["clientOrderId"] for row in reports] == ["out", "out"]
    assert [row["status"] for row in reports] == ["CANCELED", "CANCELED"]
    again = await client.signed("DELETE", LISTS, symbol="BTCUSDT", orderListId=0)
    assert again.body == {"code": -2011, "msg": "Unknown order sent."}


async def test_cancelling_all_orders_shows_a_list_as_one_element(client):
    await place(client, "oco", OCO)
    await client.place(type="LIMIT", timeInForce="GTC", quantity="0.01", price="30000")
    reply = await client.signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    listed, single = reply.body
    assert (len(listed["orderReports"]), listed["contingencyType"]) == (2, "OCO")
    assert single["status"] == "CANCELED"
    assert set(await statuses(client)) == {"CANCELED"}


async def events_until_list_is_done(socket):
    events = []
    while not events or events[-1].get("L") != "ALL_DONE" or events[-1]["e"] != "listStatus":
        events.append((await receive(socket))["event"])
    return [event for event in events if event["e"] != "outboundAccountPosition"]


async def test_events_tell_a_list_from_beginning_to_end(client):
    async with client.socket("/ws-api/v3") as socket:
        await subscribed(client, socket)
        await place(client, "oto", OTO | {"listClientOrderId": "mine"})
        await set_price(client, 29_000)
        events = await events_until_list_is_done(socket)
    kinds = [
        (event["x"], event["X"], event["w"])
        if event["e"] == "executionReport"
        else (event["l"], event["L"], event["C"])
        for event in events
    ]
    assert kinds == [
        ("NEW", "NEW", True),
        ("NEW", "PENDING_NEW", False),
        ("EXEC_STARTED", "EXECUTING", "mine"),
        ("TRADE", "FILLED", False),
        ("NEW", "NEW", True),
        ("TRADE", "FILLED", False),
        ("ALL_DONE", "ALL_DONE", "mine"),
    ]
    assert list(events[2]) == ["e", "E", "s", "g", "c", "l", "L", "r", "C", "T", "O"]
    assert {event["g"] for event in events} == {0}


async def test_an_otoco_lives_through_on_the_socket(client):
    async with client.socket("/ws-api/v3") as socket:
        placed, _ = await client.call(
            socket, "orderList.place.otoco", **client.socket_parameters(**OTOCO)
        )
        assert placed["result"]["contingencyType"] == "OTO"
        assert [row["status"] for row in placed["result"]["orderReports"]] == [
            "NEW",
            "PENDING_NEW",
            "PENDING_NEW",
        ]
        await set_price(client, 29_000)
        assert await statuses(client) == ["FILLED", "NEW", "NEW"]
        await set_price(client, 19_000)
        assert await statuses(client) == ["FILLED", "FILLED", "EXPIRED"]
        status, _ = await client.call(
            socket, "orderList.status", **client.socket_parameters(orderListId=0)
        )
        assert status["result"]["listOrderStatus"] == "ALL_DONE"


async def test_a_list_is_placed_listed_and_cancelled_on_the_socket(client):
    async with client.socket("/ws-api/v3") as socket:
        parameters = client.socket_parameters(**OTO)
        placed, _ = await client.call(socket, "orderList.place.oto", **parameters)
        opened, _ = await client.call(socket, "openOrderLists.status", **client.socket_parameters())
        assert [row["orderListId"] for row in opened["result"]] == [0]
        parameters = client.socket_parameters(symbol="BTCUSDT", orderListId=0)
        cancelled, _ = await client.call(socket, "orderList.cancel", **parameters)
        assert [row["orderId"] for row in cancelled["result"]["orderReports"]] == [
            row["orderId"] for row in placed["result"]["orders"]
        ]
        listed, _ = await client.call(socket, "allOrderLists", **client.socket_parameters())
        assert [row["listOrderStatus"] for row in listed["result"]] == ["ALL_DONE"]


async def test_an_order_that_ended_for_its_other_says_so(client):
    body = (await place(client, "oco", OCO)).body
    await set_price(client, 150_000)
    ended = (
        await client.signed("GET", ORDER, symbol="BTCUSDT", orderId=body["orders"][0]["orderId"])
    ).body
    assert (ended["status"], ended["expiryReason"]) == ("EXPIRED", "OCO_TRIGGER")
    (trade,) = (await client.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT")).body
    assert trade["orderListId"] == 0


def settings(directory):
    return SimulatorSettings(api_key=KEY, api_secret=SECRET, store=directory)


async def test_a_restart_keeps_lists_together(tmp_path):
    async with SimulatorServer(settings(tmp_path)) as server, SigningClient(server.url) as client:
        await place(client, "oco", OCO)
        await place(client, "oto", OTO)
        before = (await client.signed("GET", "/api/v3/openOrderList")).body
    async with SimulatorServer(settings(tmp_path)) as server, SigningClient(server.url) as client:
        assert (await client.signed("GET", "/api/v3/openOrderList")).body == before
        await set_price(client, 29_000)
        assert await statuses(client) == ["NEW", "NEW", "FILLED", "FILLED"]
        await set_price(client, 150_000)
        assert await statuses(client) == ["EXPIRED", "FILLED", "FILLED", "FILLED"]
        account = (await client.signed("GET", "/api/v3/account")).body
        assert {row["locked"] for row in account["balances"]} == {"0.00000000"}
        assert (await place(client, "oto", OTO | {"workingPrice": "60000"})).body[
            "orderListId"
        ] == 2

"""cancelReplace: every row of Binance's table of results, on both wires."""

import pytest

from bagbot.simulator.rate_limits import LimitSettings
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient

PATH = "/api/v3/order/cancelReplace"
LIMIT = {"type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": "50000"}
REPLACE = {"symbol": "BTCUSDT", "side": "BUY", **LIMIT, "price": "51000"}
CROSSING = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT_MAKER",
    "quantity": "0.01",
    "price": "400000",
}
UNKNOWN = {"code": -2011, "msg": "Unknown order sent."}
WOULD_TAKE = {"code": -2010, "msg": "Order would immediately match and take."}
FAILED = (-2022, "Order cancel-replace failed.")
PARTLY = (-2021, "Order cancel-replace partially failed.")


async def replace(client, mode="STOP_ON_FAILURE", new=REPLACE, **more):
    return await client.signed("POST", PATH, **new, cancelReplaceMode=mode, **more)


async def test_both_halves_succeed_and_cost_nothing(client):
    old = (await client.place(**LIMIT)).body
    reply = await replace(client, cancelOrderId=old["orderId"], cancelNewClientOrderId="out")
    assert reply.status == 200
    assert list(reply.body) == [
        "cancelResult",
        "newOrderResult",
        "cancelResponse",
        "newOrderResponse",
    ]
    assert (reply.body["cancelResult"], reply.body["newOrderResult"]) == ("SUCCESS", "SUCCESS")
    cancelled, placed = reply.body["cancelResponse"], reply.body["newOrderResponse"]
    assert (cancelled["status"], cancelled["clientOrderId"]) == ("CANCELED", "out")
    assert (placed["status"], placed["price"], placed["fills"]) == ("NEW", "51000.00000000", [])
    assert reply.headers["X-MBX-USED-WEIGHT-1M"] == "0"
    assert reply.headers["X-MBX-ORDER-COUNT-10S"] == "2"


@pytest.mark.parametrize("mode", ["STOP_ON_FAILURE", "ALLOW_FAILURE"])
@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("new", [REPLACE, CROSSING], ids=["good", "refused"])
async def test_status_code_and_data_follow_from_the_two_results(client, mode, is_known, new):
    name = (await client.place(**LIMIT)).body["clientOrderId"] if is_known else "nobody"
    reply = await replace(client, mode, new, cancelOrigClientOrderId=name)
    is_attempted = is_known or mode == "ALLOW_FAILURE"
    is_placed = is_attempted and new is REPLACE
    if is_known and is_placed:
        assert reply.status == 200
        return
    expected = PARTLY if is_known or is_placed else FAILED
    assert (reply.body["code"], reply.body["msg"]) == expected
    assert reply.status == (409 if expected == PARTLY else 400)
    data = reply.body["data"]
    assert data["cancelResult"] == ("SUCCESS" if is_known else "FAILURE")
    if is_known:
        assert data["cancelResponse"]["status"] == "CANCELED"
    else:
        assert data["cancelResponse"] == UNKNOWN
    if not is_attempted:
        assert (data["newOrderResult"], data["newOrderResponse"]) == ("NOT_ATTEMPTED", None)
    elif is_placed:
        assert (data["newOrderResult"], data["newOrderResponse"]["status"]) == ("SUCCESS", "NEW")
    else:
        assert (data["newOrderResult"], data["newOrderResponse"]) == ("FAILURE", WOULD_TAKE)


async def test_an_order_that_was_not_attempted_still_counts(client):
    await replace(client, cancelOrderId=99)
    usage = (await client.signed("GET", "/api/v3/rateLimit/order")).body
    assert usage[0]["count"] == 1


async def test_a_filter_failure_leaves_the_old_order_alone(client):
    old = (await client.place(**LIMIT)).body["orderId"]
    reply = await replace(client, new=REPLACE | {"price": "0.001"}, cancelOrderId=old)
    assert (reply.status, reply.body) == (
        400,
        {"code": -1013, "msg": "Filter failure: PRICE_FILTER"},
    )
    assert len((await client.signed("GET", "/api/v3/openOrders")).body) == 1


async def test_cancel_restrictions_hold_here_too(client):
    old = (await client.place(**LIMIT)).body["orderId"]
    reply = await replace(client, cancelOrderId=old, cancelRestrictions="ONLY_PARTIALLY_FILLED")
    assert reply.status == 400
    assert reply.body["data"]["cancelResponse"] == {
        "code": -2011,
        "msg": "Order was not canceled due to cancel restrictions.",
    }
    assert (await replace(client, cancelOrderId=old, cancelRestrictions="ONLY_NEW")).status == 200


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"cancelOrderId": 1, "cancelReplaceMode": "SOMEHOW"}, -1130),
        ({"cancelReplaceMode": "ALLOW_FAILURE"}, -1102),
        (
            {
                "cancelOrderId": 1,
                "cancelReplaceMode": "ALLOW_FAILURE",
                "orderRateLimitExceededMode": "PANIC",
            },
            -1130,
        ),
        ({"cancelOrderId": 1}, -1102),
    ],
)
async def test_malformed_requests_are_refused(client, more, code):
    reply = await client.signed("POST", PATH, **REPLACE, **more)
    assert (reply.status, reply.body["code"]) == (400, code)


@pytest.fixture
async def limited():
    settings = SimulatorSettings(
        api_key=KEY,
        api_secret=SECRET,
        limits=LimitSettings(orders_per_10_seconds=100_000, orders_per_day=1),
    )
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        yield client


async def test_over_the_order_limit_nothing_is_done_by_default(limited):
    old = (await limited.place(**LIMIT)).body["orderId"]
    reply = await replace(limited, cancelOrderId=old)
    assert (reply.status, reply.body["code"], "data" in reply.body) == (429, -1015, False)
    assert len((await limited.signed("GET", "/api/v3/openOrders")).body) == 1


@pytest.mark.parametrize(
    ("mode", "is_known", "status", "code", "new_result"),
    [
        ("STOP_ON_FAILURE", True, 429, -2021, "FAILURE"),
        ("STOP_ON_FAILURE", False, 429, -2022, "NOT_ATTEMPTED"),
        ("ALLOW_FAILURE", True, 409, -2021, "FAILURE"),
        ("ALLOW_FAILURE", False, 400, -2022, "FAILURE"),
    ],
)
async def test_over_the_order_limit_one_may_still_cancel(
    limited, mode, is_known, status, code, new_result
):
    old = (await limited.place(**LIMIT)).body["orderId"]
    reply = await replace(
        limited,
        mode,
        cancelOrderId=old if is_known else 99,
        orderRateLimitExceededMode="CANCEL_ONLY",
    )
    assert (reply.status, reply.body["code"]) == (status, code)
    data = reply.body["data"]
    assert data["newOrderResult"] == new_result
    if new_result == "FAILURE":
        assert data["newOrderResponse"] == {
            "code": -1015,
            "msg": "Too many new orders; current limit is 1 orders per 1 DAY.",
        }
    opened = (await limited.signed("GET", "/api/v3/openOrders")).body
    assert len(opened) == (0 if is_known else 1)


async def test_the_socket_answers_alike(client):
    old = (await client.place(**LIMIT)).body["orderId"]
    async with client.socket("/ws-api/v3") as socket:
        parameters = {**REPLACE, "cancelReplaceMode": "STOP_ON_FAILURE", "cancelOrderId": old}
        done, _ = await client.call(
            socket, "order.cancelReplace", **client.socket_parameters(**parameters)
        )
        assert done["status"] == 200
        assert done["result"]["newOrderResponse"]["status"] == "NEW"
        failed, _ = await client.call(
            socket, "order.cancelReplace", **client.socket_parameters(**parameters)
        )
    assert failed["status"] == 400
    assert failed["error"]["code"] == -2022
    assert failed["error"]["data"]["cancelResponse"] == UNKNOWN

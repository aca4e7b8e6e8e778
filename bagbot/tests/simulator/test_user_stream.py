from decimal import Decimal

from bagbot.tests.simulator.signing_client import balances_of, receive
from bagbot.tests.simulator.wire_orders import LIMIT

SUBSCRIBE = "userDataStream.subscribe.signature"


async def subscribed(client, socket):
    reply, _ = await client.call(socket, SUBSCRIBE, **client.socket_parameters())
    assert reply["status"] == 200
    return reply["result"]["subscriptionId"]


async def events_until_position(socket):
    events = []
    while not events or events[-1]["e"] != "outboundAccountPosition":
        message = await receive(socket)
        assert set(message) == {"subscriptionId", "event"}
        events.append(message["event"])
    return events


async def test_a_market_order_tells_new_then_its_trades_then_the_balances(client):
    async with client.socket("/ws-api/v3") as socket:
        await subscribed(client, socket)
        placed = (await client.place(quantity="0.5", newClientOrderId="mine")).body
        *reports, position = await events_until_position(socket)
    assert [(row["x"], row["X"]) for row in reports] == [
        ("NEW", "NEW"),
        ("TRADE", "PARTIALLY_FILLED"),
        ("TRADE", "FILLED"),
    ]
    for row in reports:
        assert (row["c"], row["C"], row["i"]) == ("mine", "", placed["orderId"])
        assert (row["p"], row["f"], row["o"]) == ("0.00000000", "GTC", "MARKET")
    assert [row["t"] for row in reports] == [-1, *(fill["tradeId"] for fill in placed["fills"])]
    assert [row["n"] for row in reports[1:]] == [fill["commission"] for fill in placed["fills"]]
    assert reports[0]["N"] is None
    assert reports[-1]["Z"] == placed["cummulativeQuoteQty"]
    assert reports[-1]["z"] == "0.50000000"
    assert {row["a"] for row in position["B"]} == {"BTC", "USDT"}


async def test_an_execution_report_has_exactly_binances_fields(client):
    async with client.socket("/ws-api/v3") as socket:
        await subscribed(client, socket)
        await client.place(quantity="0.001")
        report, *_ = await events_until_position(socket)
    assert "".join(report) == "eEscSofqpPFgCxXrilzLnNTtIwmMOZYQWV"


async def test_a_cancellation_tells_both_ids(client):
    async with client.socket("/ws-api/v3") as socket:
        await subscribed(client, socket)
        await client.place(**LIMIT, newClientOrderId="mine")
        new, locked = await events_until_position(socket)
        assert (new["x"], new["w"]) == ("NEW", True)
        assert locked["B"] == [{"a": "USDT", "f": "999500.00000000", "l": "500.00000000"}]
        await client.signed(
            "DELETE",
            "/api/v3/order",
            symbol="BTCUSDT",
            origClientOrderId="mine",
            newClientOrderId="stop",
        )
        cancelled, _ = await events_until_position(socket)
    assert (cancelled["x"], cancelled["X"]) == ("CANCELED", "CANCELED")
    assert (cancelled["c"], cancelled["C"]) == ("stop", "mine")


async def test_what_expires_says_why(client):
    async with client.socket("/ws-api/v3") as socket:
        await subscribed(client, socket)
        await client.place(**LIMIT | {"timeInForce": "FOK"})
        *_, expired, _ = await events_until_position(socket)
    assert (expired["x"], expired["X"]) == ("EXPIRED", "EXPIRED")
    assert expired["eR"] == "UNFILLED_FOK_ORDER_EXPIRED"


async def test_events_are_sent_to_every_subscribed_connection_and_to_no_other(client):
    async with (
        client.socket("/ws-api/v3") as one,
        client.socket("/ws-api/v3") as two,
        client.socket("/ws-api/v3") as silent,
    ):
        await subscribed(client, one)
        await subscribed(client, two)
        await client.place(quantity="0.001")
        assert await events_until_position(one) == await events_until_position(two)
        _, events = await client.call(silent, "ping")
        assert events == []


async def test_subscriptions_begin_and_end(client):
    async with client.socket("/ws-api/v3") as socket:
        assert (await client.call(socket, "session.subscriptions"))[0]["result"] == []
        assert await subscribed(client, socket) == 0
        again, _ = await client.call(socket, SUBSCRIBE, **client.socket_parameters())
        assert (again["status"], again["error"]["code"]) == (400, -2035)
        listed, _ = await client.call(socket, "session.subscriptions")
        assert listed["result"] == [{"subscriptionId": 0}]
        ended, events = await client.call(socket, "userDataStream.unsubscribe")
        assert ended["result"] == {}
        assert [event["event"]["e"] for event in events] == ["eventStreamTerminated"]
        none, _ = await client.call(socket, "userDataStream.unsubscribe")
        assert none["error"]["code"] == -2036
        assert await subscribed(client, socket) == 1


async def test_a_subscription_needs_a_good_signature(client):
    async with client.socket("/ws-api/v3") as socket:
        bad = client.socket_parameters() | {"signature": "00"}
        reply, _ = await client.call(socket, SUBSCRIBE, **bad)
        assert (reply["status"], reply["error"]["code"]) == (400, -1022)
        reply, _ = await client.call(socket, SUBSCRIBE)
        assert reply["error"]["code"] == -1102
        reply, _ = await client.call(socket, "userDataStream.start")
        assert (reply["status"], reply["error"]["code"]) == (410, -1016)


async def test_orders_are_placed_queried_and_cancelled_over_the_socket(client):
    async with client.socket("/ws-api/v3") as socket:
        await subscribed(client, socket)
        placed, events = await client.call(
            socket, "order.place", "a", **client.socket_parameters(**LIMIT, newClientOrderId="ws")
        )
        assert (placed["id"], placed["status"], placed["result"]["status"]) == ("a", 200, "NEW")
        # The answer and the events go over one socket; which is first is not promised.
        if not events:
            events = [{"event": event} for event in await events_until_position(socket)]
        assert events[0]["event"]["c"] == "ws"
        reference = {"symbol": "BTCUSDT", "origClientOrderId": "ws"}
        found, _ = await client.call(
            socket, "order.status", **client.socket_parameters(**reference)
        )
        assert found["result"]["orderId"] == placed["result"]["orderId"]
        listed, _ = await client.call(
            socket, "openOrders.status", **client.socket_parameters(symbol="BTCUSDT")
        )
        assert len(listed["result"]) == 1
        cancelled, _ = await client.call(
            socket, "order.cancel", **client.socket_parameters(**reference)
        )
        assert cancelled["result"]["status"] == "CANCELED"
        missing, _ = await client.call(
            socket, "order.cancel", **client.socket_parameters(**reference)
        )
        assert missing["error"] == {"code": -2011, "msg": "Unknown order sent."}


async def test_every_answer_tells_the_weight_unless_told_not_to(client):
    async with client.socket("/ws-api/v3") as socket:
        reply, _ = await client.call(socket, "ping")
        assert reply["rateLimits"][0]["rateLimitType"] == "REQUEST_WEIGHT"
        reply, _ = await client.call(socket, "ping", returnRateLimits=False)
        assert "rateLimits" not in reply
    async with client.socket("/ws-api/v3?returnRateLimits=false") as socket:
        reply, _ = await client.call(socket, "time", 7)
        assert (reply["id"], "rateLimits" in reply) == (7, False)


async def test_rest_and_socket_answer_alike(client):
    async with client.socket("/ws-api/v3") as socket:
        for method, path in (("account.status", "account"), ("account.commission", None)):
            parameters = {"symbol": "BTCUSDT"} if path is None else {}
            over_socket, _ = await client.call(
                socket, method, **client.socket_parameters(**parameters)
            )
            over_rest = await client.signed(
                "GET", f"/api/v3/{path or 'account/commission'}", **parameters
            )
            assert over_socket["result"] == over_rest.body


async def test_a_deposit_and_a_withdrawal_are_told_as_balance_updates(client):
    async with client.socket("/ws-api/v3") as socket:
        await subscribed(client, socket)
        for amount, free in (("0.5", "10.50000000"), ("-10.49999999", "0.00000001")):
            reply = await client.admin("POST", f"transfer?asset=BTC&amount={amount}")
            assert (reply.status, reply.body["free"]) == (200, free)
            update, position = await events_until_position(socket)
            assert "".join(update) == "eEadT"
            assert (update["e"], update["a"]) == ("balanceUpdate", "BTC")
            assert Decimal(update["d"]) == Decimal(amount)
            assert position["B"] == [{"a": "BTC", "f": free, "l": "0.00000000"}]
        for wrong, status in (
            ("asset=BTC&amount=-0.00000002", 409),
            ("asset=XYZ&amount=1", 400),
            ("asset=BTC&amount=1e3", 400),
            ("asset=BTC&amount=--1", 400),
            ("asset=BTC&amount=1&account=nobody", 400),
        ):
            assert (await client.admin("POST", f"transfer?{wrong}")).status == status
        account = (await client.signed("GET", "/api/v3/account")).body
        assert balances_of(account)["BTC"] == (Decimal("0.00000001"), 0)

import asyncio
import time

import aiohttp
import pytest

from bagbot.simulator.faults import Fault, FaultError, FaultKind, FaultScript, fault_from
from bagbot.tests.simulator.signing_client import receive

ORDER = "/api/v3/order"


def test_a_fault_happens_as_often_as_told_to_whom_it_fits():
    script = FaultScript()
    script.add(Fault(kind=FaultKind.REFUSE, method="POST", symbol="BTCUSDT", count=2))
    script.add(Fault(kind=FaultKind.LOSE_ANSWER, client_order_id="mine"))
    taken = [
        script.take(method, ORDER, symbol, client_order_id)
        for method, symbol, client_order_id in (
            ("GET", "BTCUSDT", None),
            ("POST", "ETHUSDT", None),
            ("POST", "BTCUSDT", "mine"),
            ("POST", "BTCUSDT", "other"),
            ("POST", "BTCUSDT", "mine"),
            ("POST", "BTCUSDT", "mine"),
        )
    ]
    kinds = [fault and fault.kind for fault in taken]
    assert kinds == [
        None,
        None,
        FaultKind.REFUSE,
        FaultKind.REFUSE,
        FaultKind.LOSE_ANSWER,
        None,
    ]
    assert script.pending() == []


def test_hiding_concerns_queries_of_orders_only():
    fault = Fault(kind=FaultKind.HIDE, client_order_id="mine")
    assert fault.matches("GET", ORDER, "BTCUSDT", "mine")
    assert fault.matches("WS", "order.status", "BTCUSDT", "mine")
    assert not fault.matches("POST", ORDER, "BTCUSDT", "mine")


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"kind": "explode"},
        {"kind": "refuse", "colour": "red"},
        {"kind": "refuse", "count": 0},
        {"kind": "refuse", "count": True},
        {"kind": "refuse", "status": 99},
        {"kind": "refuse", "body": "text"},
        {"kind": "refuse", "symbol": 5},
        {"kind": "delay_answer", "delay_s": -1},
        {"kind": "delay_answer", "delay_s": "long"},
    ],
)
def test_a_wrong_description_is_refused(description):
    with pytest.raises(FaultError):
        fault_from(description)


async def script(client, **fault):
    reply = await client.admin("POST", "faults", {"method": "POST", "path": ORDER} | fault)
    assert reply.status == 200


async def executed(client):
    orders = (await client.admin("GET", "orders")).body
    return [order["client_order_id"] for order in orders]


async def place(client, name="mine"):
    return await client.place(quantity="0.001", newClientOrderId=name)


async def test_a_lost_answer_is_an_order_that_exists(client):
    await script(client, kind="lose_answer")
    with pytest.raises(aiohttp.ClientError):
        await place(client)
    assert await executed(client) == ["mine"]
    found = await client.signed("GET", ORDER, symbol="BTCUSDT", origClientOrderId="mine")
    assert found.body["status"] == "FILLED"


async def test_a_lost_request_is_an_order_that_never_was(client):
    await script(client, kind="lose_request")
    with pytest.raises(aiohttp.ClientError):
        await place(client)
    assert await executed(client) == []
    assert (await place(client)).status == 200


async def test_an_answer_can_lie_about_an_order_that_was_carried_out(client):
    await script(client, kind="answer", count=2)
    for name in ("one", "two"):
        reply = await place(client, name)
        assert (reply.status, reply.body["code"]) == (503, -1007)
    assert (await place(client, "three")).status == 200
    assert await executed(client) == ["one", "two", "three"]


async def test_a_refusal_keeps_the_order_out_and_can_say_when_to_come_back(client):
    body = {"code": -1003, "msg": "Way too much request weight used"}
    await script(client, kind="refuse", status=418, body=body, retry_after_s=120)
    reply = await place(client)
    assert (reply.status, reply.body, reply.headers["Retry-After"]) == (418, body, "120")
    assert await executed(client) == []


async def test_a_delayed_answer_comes_after_the_order_and_a_delayed_request_before_it(client):
    for kind, is_early in (("delay_answer", True), ("delay_before", False)):
        await script(client, kind=kind, delay_s=0.6)
        started = time.monotonic()
        waiting = asyncio.create_task(place(client, kind))
        await asyncio.sleep(0.3)
        assert (kind in await executed(client)) is is_early
        assert (await waiting).status == 200
        assert time.monotonic() - started >= 0.6
        assert kind in await executed(client)


async def test_a_request_that_arrives_too_late_for_its_window_is_refused(client):
    await script(client, kind="delay_before", delay_s=0.5)
    reply = await client.place(quantity="0.001", recvWindow=200)
    assert (reply.status, reply.body["code"]) == (400, -1021)
    assert await executed(client) == []


async def test_a_request_from_the_future_is_refused_however_late_it_is_carried_out(client):
    await script(client, kind="delay_before", delay_s=0.8)
    timestamp_ms = time.time_ns() // 1_000_000 + 1_400
    reply = await client.place(quantity="0.001", timestamp=timestamp_ms)
    assert (reply.status, reply.body["code"]) == (400, -1021)
    assert "ahead of the server's time" in reply.body["msg"]
    assert await executed(client) == []


async def test_a_socket_request_is_checked_again_before_it_is_carried_out(client):
    async with client.socket("/ws-api/v3") as socket:
        await script(client, kind="delay_before", method="WS", path="order.place", delay_s=0.4)
        signed = client.socket_parameters(**SOCKET_ORDER, recvWindow=150)
        reply, _ = await client.call(socket, "order.place", **signed)
        assert (reply["status"], reply["error"]["code"]) == (400, -1021)
        assert await executed(client) == []


async def test_an_order_can_be_hidden_from_queries(client):
    await place(client)
    await client.admin("POST", "faults", [{"kind": "hide", "client_order_id": "mine", "count": 2}])
    parameters = {"symbol": "BTCUSDT", "origClientOrderId": "mine"}
    replies = [await client.signed("GET", ORDER, **parameters) for _ in range(3)]
    assert [reply.status for reply in replies] == [400, 400, 200]
    assert replies[0].body == {"code": -2013, "msg": "Order does not exist."}


async def test_faults_are_listed_and_cleared(client):
    await script(client, kind="refuse", count=5)
    (pending,) = (await client.admin("GET", "faults")).body
    assert (pending["kind"], pending["count"], pending["path"]) == ("refuse", 5, ORDER)
    await client.admin("DELETE", "faults")
    assert (await client.admin("GET", "faults")).body == []
    assert (await place(client)).status == 200


async def test_the_request_log_tells_what_became_of_each_request(client):
    await place(client, "done")
    await client.place(quantity="101", newClientOrderId="refused")
    await script(client, kind="lose_request")
    with pytest.raises(aiohttp.ClientError):
        await place(client, "lost")
    await script(client, kind="lose_answer")
    with pytest.raises(aiohttp.ClientError):
        await place(client, "unanswered")
    log = {
        row["client_order_id"]: row
        for row in (await client.admin("GET", "requests")).body
        if row["method"] == "POST"
    }
    assert {name: row["outcome"] for name, row in log.items()} == {
        "done": "done",
        "refused": "refused",
        "lost": "lost",
        "unanswered": "done",
    }
    assert log["refused"]["code"] == -1013
    assert log["lost"]["fault"] == "lose_request"
    assert log["lost"]["accepted_ns"] is None
    assert log["unanswered"]["fault"] == "lose_answer"
    done = log["done"]
    assert done["received_ns"] <= done["accepted_ns"]
    assert done["received_monotonic_ns"] <= done["accepted_monotonic_ns"]


async def on_socket(client, socket, method, **parameters):
    request = {"id": 1, "method": method, "params": client.socket_parameters(**parameters)}
    await socket.send_json(request)


SOCKET_ORDER = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "MARKET",
    "quantity": "0.001",
    "newClientOrderId": "mine",
}


async def test_socket_orders_fail_in_the_same_ways(client):
    async with client.socket("/ws-api/v3") as socket:
        where = {"method": "WS", "path": "order.place"}
        await script(client, **where, kind="answer")
        await on_socket(client, socket, "order.place", **SOCKET_ORDER)
        reply = await receive(socket)
        assert (reply["status"], reply["error"]["code"]) == (503, -1007)
        assert await executed(client) == ["mine"]
        await script(client, **where, kind="refuse", status=429)
        await on_socket(client, socket, "order.place", **SOCKET_ORDER)
        assert (await receive(socket))["status"] == 429
        await script(client, **where, kind="delay_answer", delay_s=0.3)
        await on_socket(client, socket, "order.place", **SOCKET_ORDER)
        await socket.send_json({"id": "quick", "method": "ping"})
        assert [(await receive(socket))["id"] for _ in range(2)] == ["quick", 1]
        await script(client, **where, kind="delay_before", delay_s=0.1)
        await on_socket(client, socket, "order.place", **SOCKET_ORDER)
        assert (await receive(socket))["status"] == 200
        assert len(await executed(client)) == 3
        await script(client, **where, kind="lose_answer")
        await on_socket(client, socket, "order.place", **SOCKET_ORDER)
        with pytest.raises(ConnectionError):
            await receive(socket)
    assert len(await executed(client)) == 4
    async with client.socket("/ws-api/v3") as socket:
        await script(client, **where, kind="lose_request")
        await on_socket(client, socket, "order.place", **SOCKET_ORDER)
        with pytest.raises(ConnectionError):
            await receive(socket)
    assert len(await executed(client)) == 4

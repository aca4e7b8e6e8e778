"""One test per way in which a stream can go wrong, and that each can be switched on and off."""

import asyncio
import contextlib
import time

import aiohttp
import pytest

from bagbot.simulator.faults import STREAM, Fault, FaultError, FaultKind, FaultScript, fault_from
from bagbot.tests.simulator.signing_client import receive

SUBSCRIBE = "userDataStream.subscribe.signature"
USER = {"path": "user"}


@pytest.fixture
async def socket(client):
    async with client.socket("/ws-api/v3") as socket:
        await client.call(socket, SUBSCRIBE, **client.socket_parameters())
        yield socket


async def script(client, **fault):
    reply = await client.admin("POST", "faults", USER | fault)
    assert reply.status == 200, reply.body


async def kinds_until_idle(client, socket):
    """Return what has been sent until the socket answers a request."""
    _, events = await client.call(socket, "ping")
    return [each["event"].get("x", "position") for each in events]


async def test_a_cut_drops_the_connection_without_a_closing_handshake(client, socket):
    await script(client, kind="cut", client_order_id="mine")
    await client.place(quantity="0.001", newClientOrderId="other")
    assert await kinds_until_idle(client, socket) == ["NEW", "TRADE", "position"]
    placed = await client.place(quantity="0.001", newClientOrderId="mine")
    assert placed.body["status"] == "FILLED"
    message = await socket.receive(timeout=5)
    assert message.type is not aiohttp.WSMsgType.TEXT
    assert socket.close_code in (None, 1006)
    # The next connection is not concerned.
    async with client.socket("/ws-api/v3") as another:
        await client.call(another, SUBSCRIBE, **client.socket_parameters())
        await client.place(quantity="0.001", newClientOrderId="mine")
        assert len(await kinds_until_idle(client, another)) == 3


async def test_a_half_open_connection_gets_answers_and_pings_but_no_event(client, socket):
    await script(client, kind="half_open", after=1)
    await client.place(quantity="0.001")
    await client.place(quantity="0.001")
    assert await kinds_until_idle(client, socket) == ["NEW"]
    await client.admin("DELETE", "faults")
    await client.place(quantity="0.001")
    assert await kinds_until_idle(client, socket) == []


async def test_events_are_dropped_as_often_as_told(client, socket):
    await script(client, kind="drop", count=2)
    await client.place(quantity="0.001")
    assert await kinds_until_idle(client, socket) == ["position"]
    await client.place(quantity="0.001")
    assert await kinds_until_idle(client, socket) == ["NEW", "TRADE", "position"]


async def test_events_are_sent_twice(client, socket):
    await script(client, kind="duplicate", count=2)
    await client.place(quantity="0.001")
    kinds = await kinds_until_idle(client, socket)
    assert kinds == ["NEW", "NEW", "TRADE", "TRADE", "position"]


async def test_events_come_late_and_in_order(client, socket):
    await script(client, kind="delay", delay_s=0.4, after=1)
    started_s = time.monotonic()
    await client.place(quantity="0.001")
    kinds = [(await receive(socket))["event"].get("x")]
    assert time.monotonic() - started_s < 0.4
    kinds += [(await receive(socket))["event"].get("x") for _ in range(2)]
    assert time.monotonic() - started_s >= 0.4
    assert kinds == ["NEW", "TRADE", None]


async def test_a_fill_can_overtake_its_own_acknowledgement(client, socket):
    await script(client, kind="reorder")
    await client.place(quantity="0.001")
    await client.place(quantity="0.001")
    kinds = await kinds_until_idle(client, socket)
    assert kinds == ["TRADE", "NEW", "position", "NEW", "TRADE", "position"]


async def anything_new(socket):
    """Read what had been sent before, then wait for one message more."""
    with contextlib.suppress(TimeoutError):
        while True:
            await receive(socket, timeout_s=0.05)
    await receive(socket, timeout_s=0.7)


async def test_public_streams_fail_as_well_each_connection_by_itself(client):
    async with client.socket("/ws/btcusdt@trade") as one:
        await receive(one)
        await script(client, kind="duplicate", path="btcusdt@trade", symbol="BTCUSDT", count=1)
        trades = [(await receive(one))["t"] for _ in range(3)]
        assert len(set(trades)) == 2
        await script(client, kind="half_open", path="btcusdt@trade")
        await asyncio.sleep(0.3)
        with pytest.raises(TimeoutError):
            await anything_new(one)
        async with client.socket("/ws/btcusdt@trade") as two:
            await receive(two)


async def test_requests_are_not_concerned_and_events_not_by_faults_of_requests(client, socket):
    await script(client, kind="drop", path=None, count=100)
    await client.admin("POST", "faults", {"kind": "refuse", "count": 1})
    assert (await client.place(quantity="0.001")).status == 503
    assert (await client.place(quantity="0.001")).status == 200
    assert await kinds_until_idle(client, socket) == []
    (left,) = (await client.admin("GET", "faults")).body
    assert (left["kind"], left["count"]) == ("drop", 97)


async def test_a_handshake_can_be_refused_or_cut(client):
    body = {"code": -1034, "msg": "Too many connections."}
    connect = {"method": "CONNECT", "path": "/ws-api/v3"}
    await script(client, kind="refuse", status=429, body=body, **connect)
    await script(client, kind="refuse", status=403, text="<html></html>", **connect)
    # The client tries once more by itself.
    await script(client, kind="lose_request", count=2, **connect)
    # Only what names handshakes concerns them.
    await script(client, kind="refuse", path=None, status=418)
    for status in (429, 403):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.socket("/ws-api/v3").__aenter__()
        assert refused.value.status == status
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await client.socket("/ws-api/v3").__aenter__()
    async with client.socket("/ws-api/v3") as socket:
        reply, _ = await client.call(socket, "ping")
        assert reply["status"] == 418


def test_the_first_ones_can_be_passed_over():
    faults = FaultScript()
    faults.add(Fault(kind=FaultKind.DROP, after=2, count=1))
    taken = [faults.take(STREAM, "user", None, None) for _ in range(4)]
    assert [fault is not None for fault in taken] == [False, False, True, False]


@pytest.mark.parametrize(
    "description",
    [
        {"kind": "drop", "method": "POST"},
        {"kind": "refuse", "method": "STREAM"},
        {"kind": "hide", "method": "CONNECT"},
        {"kind": "drop", "after": -1},
    ],
)
def test_a_wrong_description_is_refused(description):
    with pytest.raises(FaultError):
        fault_from(description)


async def test_a_slow_stream_does_not_hold_up_the_exchange(client, socket):
    await script(client, kind="delay", delay_s=30)
    async with asyncio.timeout(5):
        for _ in range(3):
            assert (await client.place(quantity="0.001")).status == 200

"""Everything on one port: which address serves what, and what futures addresses answer."""

import aiohttp
import pytest

from bagbot.tests.simulator.signing_client import receive

STREAM = "btcusdt@bookTicker"


@pytest.mark.parametrize(
    ("address", "is_combined"),
    [
        (f"/ws/{STREAM}", False),
        (f"/stream/ws/{STREAM}", False),
        (f"/stream?streams={STREAM}", True),
        (f"/stream?streams=ethusdt@avgPrice/{STREAM}", True),
    ],
)
async def test_a_stream_is_named_in_the_address(client, address, is_combined):
    async with client.socket(address) as socket:
        event = await receive(socket)
        while is_combined and event["stream"] != STREAM:
            event = await receive(socket)
    assert event.keys() == ({"stream", "data"} if is_combined else set("usbBaA"))


@pytest.mark.parametrize("address", ["/ws", "/ws/", "/stream", "/stream/ws"])
async def test_a_stream_is_subscribed_to_later(client, address):
    async with client.socket(address) as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": [STREAM], "id": 1})
        assert await receive(socket) == {"result": None, "id": 1}
        assert ("stream" in await receive(socket)) is (address == "/stream")


async def test_the_plus_of_a_time_zone_is_written_either_way(client):
    address = "/stream?streams=btcusdt@kline_1m@{}08:00"
    async with (
        client.socket(address.format("+")) as raw,
        client.socket(address.format("%2B")) as ok,
    ):
        for socket in (raw, ok):
            assert (await receive(socket))["stream"] == "btcusdt@kline_1m@+08:00"


async def test_rest_and_the_websocket_api_are_at_the_same_port(client):
    assert (await client.public("/api/v3/ping")).body == {}
    async with client.socket("/ws-api/v3") as socket:
        assert (await client.call(socket, "ping"))[0]["result"] == {}


@pytest.mark.parametrize(
    "address",
    [
        "/public/ws/btcusdt@depth",
        "/public/stream?streams=btcusdt@depth",
        "/market/stream",
        "/private/ws/some-listen-key",
        "/ws-fapi/v1",
    ],
)
async def test_a_socket_of_futures_is_told_that_there_are_none_yet(client, simulator, address):
    root = address.split("/")[1]
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with client.socket(address):
            pass
    assert caught.value.status == 404
    handshake = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    reply = await client.send("GET", address, headers=handshake)
    assert (reply.status, reply.body) == (404, futures_not_served(root))
    assert simulator.sockets_opened == {}


@pytest.mark.parametrize("address", ["/fapi/v1/ping", "/fapi/v3/account", "/dapi/v1/time"])
async def test_a_request_for_futures_is_told_that_there_are_none_yet(client, address):
    reply = await client.send("GET", address)
    assert (reply.status, reply.body) == (404, futures_not_served(address.split("/")[1]))


async def test_any_other_address_is_not_found(client):
    for address in ("/", "/api/v3/nothing", "/publicity", "/sapi/v1/system/status"):
        reply = await client.send("GET", address)
        assert (reply.status, reply.body) == (404, {"code": -1000, "msg": "Path not found."})
    for address in ("/ws-api/v4", "/wsx", "/streams"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with client.socket(address):
                pass
        assert caught.value.status == 404


def futures_not_served(root):
    return {"code": -1000, "msg": f"Futures are not served yet, so nothing is at /{root}."}

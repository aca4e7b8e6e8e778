"""What a client may do on sockets, and how its connection ends when it does more."""

import asyncio
import time

import aiohttp
import pytest

from bagbot.domain.errors import ConfigError
from bagbot.simulator.binance_errors import BinanceError
from bagbot.simulator.rate_limits import LimitSettings
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.simulator.simulator_settings import SocketSettings
from bagbot.simulator.socket_limits import ConnectRate, MessageRate, PolicyError
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient, receive, until

SECOND_NS = 1_000_000_000


def server_of(**sockets):
    settings = SocketSettings(**sockets)
    return SimulatorServer(SimulatorSettings(api_key=KEY, api_secret=SECRET, sockets=settings))


async def ended(socket):
    """Return the code and the reason a connection is closed with; what comes before is read."""
    async with asyncio.timeout(5):
        while True:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.CLOSE:
                return message.data, message.extra
            assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.PONG)


async def connect_again_and_again(session, url, count):
    for _ in range(count):
        async with session.ws_connect(url):
            pass


def test_the_defaults_are_binances():
    settings = SocketSettings()
    assert settings.messages_per_second == 5
    assert settings.streams_max == 1024
    assert settings.connects_per_5_minutes == 300
    assert (settings.ping_interval_s, settings.pong_timeout_s) == (20, 60)
    assert settings.life_s == 24 * 60 * 60


def test_a_limit_that_lets_nothing_pass_is_refused():
    with pytest.raises(ConfigError, match="streams_max"):
        SocketSettings(streams_max=0)


def test_any_second_has_as_many_messages_as_allowed():
    rate = MessageRate(2)
    rate.count(0)
    rate.count(SECOND_NS // 2)
    rate.count(SECOND_NS)
    with pytest.raises(PolicyError):
        rate.count(SECOND_NS + SECOND_NS // 2 - 1)
    rate.count(SECOND_NS + SECOND_NS // 2)


def test_connects_are_counted_by_address_and_anew_every_five_minutes():
    rate = ConnectRate(2)
    for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
        rate.count(address, 1_000)
    with pytest.raises(BinanceError) as caught:
        rate.count("127.0.0.1", 299_000)
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "1")
    rate.count("127.0.0.2", 299_000)
    rate.count("127.0.0.1", 300_000)


@pytest.mark.parametrize("kind", ["json", "ping", "pong"])
async def test_the_sixth_message_in_a_second_ends_a_stream_connection_and_no_other(kind):
    async with (
        server_of() as server,
        SigningClient(server.url) as client,
        client.socket("/ws") as hasty,
        client.socket("/ws/btcusdt@trade") as calm,
    ):
        for number in range(6):
            if kind == "json":
                await hasty.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
            else:
                await getattr(hasty, kind)(b"x")
        assert await ended(hasty) == (1008, "Too many requests")
        for _ in range(3):
            await receive(calm)
        # What came within the limit was answered, and a new connection starts from nothing.
        async with client.socket("/ws") as another:
            for number in range(5):
                await another.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
            assert [(await receive(another))["id"] for _ in range(5)] == list(range(5))


async def test_the_websocket_api_takes_more_messages_than_a_stream_connection():
    async with server_of() as server, SigningClient(server.url) as client:
        started = time.monotonic()
        async with client.socket("/ws-api/v3") as socket:
            for number in range(20):
                reply, _ = await client.call(socket, "ping", request_id=number)
                assert reply["status"] == 200
        assert time.monotonic() - started < 3


async def test_answers_keep_their_order_when_their_reader_falls_behind():
    settings = SimulatorSettings(
        api_key=KEY, api_secret=SECRET, limits=LimitSettings(weight_per_minute=10**9)
    )
    numbers = range(2_400)

    async def all_are_answered():
        return len(server.requests) == len(numbers)

    async with (
        SimulatorServer(settings) as server,
        SigningClient(server.url) as client,
        client.socket("/ws-api/v3") as socket,
    ):
        for number in numbers:
            # Large ones fill the connection, small ones would fit in before them.
            method = "ping" if number % 2 else "exchangeInfo"
            await socket.send_json({"id": number, "method": method})
        await until(all_are_answered)
        assert [(await receive(socket))["id"] for _ in numbers] == list(numbers)


async def test_a_stream_too_many_ends_the_connection():
    async with server_of(streams_max=4) as server, SigningClient(server.url) as client:
        async with client.socket("/ws/a@trade/b@trade/c@trade/d@trade") as socket:
            # A stream that is listened to already is not a further one.
            await socket.send_json({"method": "SUBSCRIBE", "params": ["a@trade"], "id": 1})
            assert await receive(socket) == {"result": None, "id": 1}
            await socket.send_json({"method": "SUBSCRIBE", "params": ["e@trade"], "id": 2})
            assert await ended(socket) == (1008, "Too many streams")
        async with client.socket("/stream?streams=a@trade/b@trade/c@trade/d@trade/e@trade") as one:
            assert await ended(one) == (1008, "Too many streams")


async def test_a_connect_too_many_is_refused_and_counts_for_its_address_only():
    async with server_of(connects_per_5_minutes=3) as server:
        elsewhere = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
        async with (
            aiohttp.ClientSession() as session,
            aiohttp.ClientSession(connector=elsewhere) as other,
        ):
            url = server.websocket_url + "/ws"
            # Twice as many: five minutes may turn over in between.
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await connect_again_and_again(session, url, 7)
            assert caught.value.status == 429
            assert 1 <= int(caught.value.headers["Retry-After"]) <= 300
            async with other.ws_connect(url):
                pass


async def test_a_connect_to_the_websocket_api_weighs_two():
    async with server_of() as server, SigningClient(server.url) as client:
        async with client.socket("/ws"), client.socket("/ws-api/v3") as socket:
            reply, _ = await client.call(socket, "ping")
        assert reply["rateLimits"][0]["count"] == 3


async def test_a_connection_that_asks_for_nothing_is_dropped_and_one_that_asks_is_kept():
    async with server_of(first_request_s=0.4) as server:
        silent = await asyncio.open_connection("127.0.0.1", server.port)
        slow = await asyncio.open_connection("127.0.0.1", server.port)
        slow[1].write(b"GET /api/v3/ping HTT")
        slow_body = await asyncio.open_connection("127.0.0.1", server.port)
        slow_body[1].write(b"POST /api/v3/order HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na")
        async with SigningClient(server.url) as client, client.socket("/ws/btcusdt@trade") as live:
            for reader, writer in (silent, slow, slow_body):
                async with asyncio.timeout(3):
                    with_nothing = await reader.read()
                assert with_nothing == b""
                writer.close()
            await asyncio.sleep(0.4)
            await receive(live)
            assert (await client.public("/api/v3/ping")).status == 200


async def test_connections_beyond_the_maximum_are_dropped_and_room_comes_back():
    async with server_of(connections_max=3) as server:
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(3):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
        writer.close()
        held.pop()[1].close()
        await asyncio.sleep(0.1)
        async with SigningClient(server.url) as client:
            assert (await client.public("/api/v3/ping")).status == 200
        for _, writer in held:
            writer.close()

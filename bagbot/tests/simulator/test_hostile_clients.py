"""Clients that mean harm: they get an error or a closed socket, and nobody else notices.

The simulator is a process of its own here, so that its memory can be measured.
"""

import asyncio
import contextlib
import json
import random
import socket
import sys

import aiohttp
import pytest

from bagbot.tests.simulator.signing_client import SigningClient, receive
from bagbot.tests.simulator.simulator_process import simulator_process

MEBIBYTE = 1024 * 1024
GROWTH_MAX = 80 * MEBIBYTE
"""What an attack may cost at most; each one sends or asks for far more, or could."""

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture(scope="module")
def simulator():
    with simulator_process(limits={"weight_per_minute": 10**9}, speed=60.0) as running:
        yield running


@contextlib.asynccontextmanager
async def bystander(simulator):
    """Watch as another client for what happens to it, and for what the attack costs."""
    before = simulator.resident_bytes
    async with (
        SigningClient(simulator.url) as client,
        client.socket("/ws/btcusdt@trade") as stream,
        client.socket("/ws-api/v3") as api,
    ):
        await receive(stream)
        yield client
        async with asyncio.timeout(10):
            assert (await client.public("/api/v3/ping")).status == 200
            placed = await client.place(quantity="0.001")
            assert placed.status == 200
            trade_id = placed.body["fills"][0]["tradeId"]
            # The trades told meanwhile, and this one: the stream has not been cut.
            while (await receive(stream))["t"] < trade_id:
                pass
            assert (await client.call(api, "ping"))[0]["status"] == 200
    assert simulator.resident_bytes - before < GROWTH_MAX


async def sent_raw(simulator, *pieces):
    """Return what comes back for bytes on a bare connection; it may be closed at any point."""
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    answer = b""
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            async with asyncio.timeout(10):
                await writer.drain()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            answer = await reader.read(65_536)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return answer


def is_refused(answer):
    return answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4"))


async def test_a_body_of_ten_megabytes_is_refused_and_not_kept(simulator):
    async with bystander(simulator):
        for announced in (True, False):
            length = b"Content-Length: 10485760" if announced else b"Transfer-Encoding: chunked"
            head = b"POST /api/v3/order HTTP/1.1\r\nHost: x\r\n" + length + b"\r\n\r\n"
            block = b"x" * 65_536
            chunk = block if announced else b"10000\r\n" + block + b"\r\n"
            for _ in range(5):
                assert is_refused(await sent_raw(simulator, head, *[chunk] * 160))


@pytest.mark.parametrize("path", ["/ws", "/ws-api/v3"])
async def test_a_message_of_ten_megabytes_closes_the_socket(simulator, path):
    async with bystander(simulator) as client:
        for text in ("x" * 10 * MEBIBYTE, '{"id":' + "1" * 10 * MEBIBYTE, "[" * 10 * MEBIBYTE):
            async with client.socket(path) as attacker:
                with contextlib.suppress(ConnectionError):
                    await attacker.send_str(text)
                with pytest.raises(ConnectionError):
                    await receive(attacker)
                assert attacker.close_code in (None, 1006, 1009)


async def test_frames_of_one_endless_message_close_the_socket(simulator):
    head = HANDSHAKE.format(path="/ws-api/v3").encode()
    # A text frame that is not the last of its message, masked by zeros; then continuations.
    first = b"\x01\xfe\x40\x00\x00\x00\x00\x00" + b"x" * 16_384
    more = b"\x00\xfe\x40\x00\x00\x00\x00\x00" + b"x" * 16_384
    async with bystander(simulator):
        answer = await sent_raw(simulator, head, first, *[more] * 640)
        assert b"error" not in answer


@pytest.mark.parametrize("path", ["/ws", "/ws-api/v3"])
@pytest.mark.parametrize(
    "text",
    [
        '{"method": "SUBSCRIBE", "params": ["btcusdt@tr',
        '{"id": 1, "method": "order.place", "params": {"symbol": "BTCUSDT"',
        "[" * 50_000,
        '{"a":' * 10_000,
        '{"id": 1, "method": "x", "params": ' + "[" * 20_000 + "]" * 20_000 + "}",
        '{"id": "\\ud800", "method": "\\ud800", "params": {"symbol": "\\ud800"}}',
    ],
)
async def test_truncated_and_deep_json_is_answered_with_an_error(simulator, path, text):
    async with bystander(simulator) as client, client.socket(path) as attacker:
        await attacker.send_str(text)
        reply = await receive(attacker)
        assert reply.get("code") in (2, 3) or reply["error"]["code"] < 0
        await attacker.send_json({"id": 7, "method": "LIST_SUBSCRIPTIONS"})
        assert "id" in await receive(attacker)


@pytest.mark.parametrize("path", ["/ws", "/ws-api/v3"])
async def test_text_that_is_not_utf_8_closes_the_socket(simulator, path):
    async with bystander(simulator) as client, client.socket(path) as attacker:
        await attacker.send_frame(b'{"id": "\xff\xfe"}', aiohttp.WSMsgType.TEXT)
        with pytest.raises(ConnectionError):
            await receive(attacker)
        assert attacker.close_code == 1007


async def test_a_huge_header_or_address_is_refused(simulator):
    async with bystander(simulator):
        for request in (
            b"GET /api/v3/ping HTTP/1.1\r\nHost: x\r\nX-Large: " + b"a" * MEBIBYTE + b"\r\n\r\n",
            b"GET /api/v3/ping HTTP/1.1\r\n" + b"X-Many: a\r\n" * 200_000 + b"\r\n",
            b"GET /api/v3/" + b"a" * MEBIBYTE + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET /ws/" + b"a" * MEBIBYTE + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            assert is_refused(await sent_raw(simulator, request))


async def test_a_hundred_thousand_subscriptions_are_cut_off_at_the_limit(simulator):
    async with bystander(simulator) as client:
        names = [f"nobody{number}@trade" for number in range(100_000)]
        closed = 0
        for start in range(0, len(names), 2_000):
            message = json.dumps({"method": "SUBSCRIBE", "params": names[start : start + 2_000]})
            assert len(message) < 65_536
            async with client.socket("/ws") as attacker:
                await attacker.send_str(message)
                with pytest.raises(ConnectionError):
                    await receive(attacker)
                closed += attacker.close_code == 1008
        assert closed == 50
        # In one message they are too large for any.
        async with client.socket("/ws") as attacker:
            with contextlib.suppress(ConnectionError):
                await attacker.send_str(json.dumps({"method": "SUBSCRIBE", "params": names}))
            with pytest.raises(ConnectionError):
                await receive(attacker)


def reader_that_stops(simulator, path):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.connect(("127.0.0.1", simulator.port))
    connection.sendall(HANDSHAKE.format(path=path).encode())
    return connection


def masked(text):
    payload = text.encode()
    assert 125 < len(payload) < 65_536
    return b"\x81\xfe" + len(payload).to_bytes(2, "big") + b"\x00\x00\x00\x00" + payload


async def test_a_client_that_asks_and_never_reads_is_cut_off(simulator):
    # The answer is a hundred times as long.
    request = json.dumps({"id": "x" * 100, "method": "exchangeInfo"})

    async def ask_without_end(connection):
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(20):
            while True:
                await loop.sock_sendall(connection, masked(request))

    async with bystander(simulator):
        with reader_that_stops(simulator, "/ws-api/v3") as connection:
            connection.setblocking(False)
            with pytest.raises(ConnectionError):
                await ask_without_end(connection)


async def test_many_connections_that_say_nothing_leave_room_for_others(simulator):
    async with bystander(simulator):
        silent = []
        for number in range(400):
            reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
            writer.write(b"GET /api/v3/pi" if number % 2 else b"")
            silent.append((reader, writer))
        async with SigningClient(simulator.url) as client:
            assert (await client.public("/api/v3/ping")).status == 200
        for _, writer in silent:
            writer.transport.abort()


async def test_bytes_at_random_end_nothing_but_their_own_connection(simulator):
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    sys.stdout.write(f"seed {seed}\n")
    opening = HANDSHAKE.format(path="/ws-api/v3").encode()
    async with bystander(simulator):
        for number in range(60):
            noise = chance.randbytes(chance.randrange(1, 4_000))
            pieces = (opening, noise) if number % 2 else (noise, b"\r\n\r\n")
            _, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
            writer.transport.abort()


async def test_a_flood_of_requests_is_told_to_wait_then_banned_and_sockets_live_on():
    limits = {"weight_per_minute": 200, "refusals_before_ban": 20}
    with simulator_process(limits=limits) as simulator:
        before = simulator.resident_bytes
        async with (
            SigningClient(simulator.url) as client,
            client.socket("/ws/btcusdt@trade") as stream,
            client.socket("/ws-api/v3") as api,
        ):
            subscribe = "userDataStream.subscribe.signature"
            await client.call(api, subscribe, **client.socket_parameters())
            statuses = []

            async def flood():
                for _ in range(300):
                    reply = await client.public("/api/v3/depth", symbol="BTCUSDT")
                    statuses.append(reply.status)
                    assert reply.status == 200 or int(reply.headers["Retry-After"]) >= 1

            await asyncio.gather(*(flood() for _ in range(5)))
            assert set(statuses) == {200, 429, 418}
            assert statuses[-1] == 418
            assert statuses.index(429) < statuses.index(418)
            newest = (await client.admin("GET", "requests")).body[-1]["received_ns"] // 1_000_000
            async with asyncio.timeout(10):
                while (await receive(stream))["E"] <= newest:
                    pass
            await client.admin("POST", "price?symbol=BTCUSDT&price=80000")
            assert (await client.call(api, "ping"))[0]["status"] == 418
        assert simulator.resident_bytes - before < GROWTH_MAX

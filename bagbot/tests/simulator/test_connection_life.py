"""How WebSockets live and end: pings, the longest life there is, and the announced shutdown."""

import asyncio

import aiohttp
import pytest

from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.simulator.simulator_settings import SocketSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient

PATHS = ["/ws/btcusdt@kline_1M", "/ws-api/v3"]


def server_of(**sockets):
    settings = SocketSettings(**sockets)
    return SimulatorServer(SimulatorSettings(api_key=KEY, api_secret=SECRET, sockets=settings))


async def frames_of(socket, kind, count):
    frames = []
    async with asyncio.timeout(5):
        while len(frames) < count:
            frame = await socket.receive()
            assert frame.type not in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
            if frame.type is kind:
                frames.append(frame)
    return frames


async def until_closed(socket):
    async with asyncio.timeout(5):
        while (await socket.receive()).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.PING):
            pass
    return socket.close_code


@pytest.mark.parametrize("path", PATHS)
async def test_the_server_pings_and_keeps_who_answers(path):
    async with (
        # Answers to pings count as messages, and these pings come fast.
        server_of(ping_interval_s=0.1, pong_timeout_s=0.3, messages_per_second=50) as server,
        aiohttp.ClientSession() as session,
        session.ws_connect(server.websocket_url + path, autoping=False) as socket,
    ):
        for _ in range(8):
            (ping,) = await frames_of(socket, aiohttp.WSMsgType.PING, 1)
            assert int(ping.data) > 0
            await socket.pong(ping.data)
        assert server.socket_count == 1


@pytest.mark.parametrize("answer", [None, b"something else"])
async def test_who_does_not_answer_pings_is_cut_off(answer):
    async with (
        server_of(ping_interval_s=0.1, pong_timeout_s=0.3) as server,
        aiohttp.ClientSession() as session,
        session.ws_connect(server.websocket_url + PATHS[0], autoping=False) as socket,
    ):
        if answer is not None:
            await socket.pong(answer)
        await until_closed(socket)
        assert socket.close_code in (None, 1006)


async def test_the_clients_own_pings_are_answered():
    async with (
        server_of() as server,
        aiohttp.ClientSession() as session,
        session.ws_connect(server.websocket_url + PATHS[1], autoping=False) as socket,
    ):
        await socket.ping(b"hello")
        (pong,) = await frames_of(socket, aiohttp.WSMsgType.PONG, 1)
        assert bytes(pong.data) == b"hello"


@pytest.mark.parametrize("path", PATHS)
async def test_a_connection_is_closed_at_the_end_of_its_life(path):
    async with (
        server_of(life_s=0.3) as server,
        SigningClient(server.url) as client,
        client.socket(path) as socket,
    ):
        assert await until_closed(socket) == 1001
        # The next one lives as long.
        async with client.socket("/ws-api/v3") as another:
            reply, _ = await client.call(another, "ping")
            assert reply["status"] == 200


async def test_every_connection_is_told_before_the_server_stops():
    server = server_of()
    await server.start()
    async with (
        SigningClient(server.url) as client,
        client.socket("/ws") as raw,
        client.socket("/stream") as combined,
        client.socket("/ws-api/v3") as api,
    ):
        await client.call(api, "ping")
        await combined.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 1})
        await combined.receive_json()
        await raw.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 1})
        await raw.receive_json()
        stopping = asyncio.create_task(server.stop())
        assert (await raw.receive_json())["e"] == "serverShutdown"
        wrapped = await combined.receive_json()
        assert (wrapped["stream"], wrapped["data"]["e"]) == ("!serverShutdown", "serverShutdown")
        assert (await api.receive_json())["event"]["e"] == "serverShutdown"
        assert await until_closed(api) == 1001
        await until_closed(raw)
        await until_closed(combined)
        await stopping

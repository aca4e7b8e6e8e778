import asyncio
import itertools
import socket
from decimal import Decimal

import aiohttp
import pytest

from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.simulator.simulator_settings import SocketSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient, receive


async def first(socket, wanted):
    while True:
        message = await receive(socket)
        if wanted(message):
            return message


async def test_raw_streams_send_bare_events_in_binances_field_order(client):
    async with client.socket("/ws/btcusdt@trade/btcusdt@bookTicker/btcusdt@aggTrade") as socket:
        trade = await first(socket, lambda event: event.get("e") == "trade")
        book = await first(socket, lambda event: "e" not in event)
        aggregate = await first(socket, lambda event: event.get("e") == "aggTrade")
    assert "".join(trade) == "eEstpqTmM"
    assert "".join(book) == "usbBaA"
    assert "".join(aggregate) == "eEsapqflTmM"


async def test_combined_streams_name_the_stream(client):
    async with client.socket("/stream?streams=ethusdt@miniTicker/ethusdt@kline_1m") as socket:
        mini = await first(socket, lambda event: event["stream"] == "ethusdt@miniTicker")
        kline = await first(socket, lambda event: event["stream"] == "ethusdt@kline_1m")
    assert "".join(mini["data"]) == "eEscohlvq"
    assert "".join(kline["data"]["k"]) == "tTsifLochlvnxqVQB"
    # The first one may be the end of a minute.
    assert kline["data"]["k"]["x"] in (True, False)


async def test_a_users_trade_is_on_the_public_tape(client):
    async with client.socket("/ws/btcusdt@trade") as socket:
        await receive(socket)
        placed = (await client.place(quantity="0.00777")).body
        trade = await first(socket, lambda event: event["q"] == "0.00777000")
    assert trade["t"] == placed["fills"][0]["tradeId"]
    assert trade["p"] == placed["fills"][0]["price"]
    assert trade["m"] is False


async def test_streams_are_added_listed_and_dropped(client):
    async with client.socket("/ws") as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1})
        assert await first(socket, lambda event: "id" in event) == {"result": None, "id": 1}
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": "two"})
        listed = await first(socket, lambda event: "id" in event)
        assert listed == {"result": ["btcusdt@trade"], "id": "two"}
        await first(socket, lambda event: event.get("e") == "trade")
        await socket.send_json({"method": "SET_PROPERTY", "params": ["combined", True], "id": 3})
        await first(socket, lambda event: event.get("id") == 3)
        assert (await first(socket, lambda event: "stream" in event))["data"]["e"] == "trade"
        await socket.send_json({"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 4})
        await first(socket, lambda event: event.get("id") == 4)
        with pytest.raises(TimeoutError):
            await receive(socket, timeout_s=0.5)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("{", 3),
        ("[]", 2),
        ("{}", 2),
        ('{"method": "SUBSCRYBE", "id": 1}', 2),
        ('{"method": "SUBSCRIBE", "params": [1], "id": 1}', 2),
        ('{"method": "SUBSCRIBE", "params": "x", "id": 1}', 2),
        ('{"method": "SUBSCRIBE", "params": [], "id": 1.5}', 2),
        ('{"method": "SUBSCRIBE", "params": [], "id": "%s"}' % ("x" * 37), 2),
        ('{"method": "SET_PROPERTY", "params": ["colour", true], "id": 1}', 0),
        ('{"method": "SET_PROPERTY", "params": ["combined", "yes"], "id": 1}', 1),
        ('{"method": ["SUBSCRIBE"], "id": 1}', 2),
        ("[" * 60_000, 3),
    ],
)
async def test_wrong_control_messages_are_answered_and_survived(client, sent, code):
    async with client.socket("/ws/nobody@nothing") as socket:
        await socket.send_str(sent)
        assert (await receive(socket))["code"] == code
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 1})
        assert (await receive(socket))["result"] == ["nobody@nothing"]


async def test_every_bar_is_told_closed_once_and_in_order_when_time_flies():
    settings = SimulatorSettings(api_key=KEY, api_secret=SECRET, speed=3_000)
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        closed = {"1m": [], "5m": []}
        async with client.socket("/ws/btcusdt@kline_1m/btcusdt@kline_5m") as socket:
            while len(closed["5m"]) < 12:
                kline = (await receive(socket))["k"]
                if kline["x"]:
                    closed[kline["i"]].append(kline)
        for interval, length_ms in (("1m", 60_000), ("5m", 300_000)):
            for earlier, later in itertools.pairwise(closed[interval]):
                assert later["t"] == earlier["t"] + length_ms
                assert later["T"] == later["t"] + length_ms - 1
        rows = (
            await client.public(
                "/api/v3/klines",
                symbol="BTCUSDT",
                interval="5m",
                startTime=closed["5m"][1]["t"],
                limit=10,
            )
        ).body
        told = [[k["t"], k["o"], k["h"], k["l"], k["c"], k["v"]] for k in closed["5m"][1:11]]
        assert [row[:6] for row in rows] == told


@pytest.mark.parametrize(
    "sockets",
    [
        # More than one step of the market sends, so that only falling behind fills it.
        SocketSettings(backlog_messages_max=4_000),
        SocketSettings(backlog_bytes_max=500_000),
    ],
)
async def test_a_reader_that_does_not_read_is_cut_off_and_harms_nobody(sockets):
    settings = SimulatorSettings(api_key=KEY, api_secret=SECRET, speed=100_000, sockets=sockets)
    streams = "btcusdt@trade/ethusdt@trade/bnbusdt@trade"
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(
            f"GET /ws/{streams} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        async with client.socket(f"/ws/{streams}") as reading, asyncio.timeout(30):
            # The handshake of the first was sent first, so both are counted by now.
            await receive(reading)
            while server.socket_count == 2:
                await receive(reading)
            # The one that reads is still served.
            for _ in range(1_000):
                await receive(reading)
        connection.close()


async def test_listeners_are_told_when_the_server_stops():
    server = SimulatorServer(SimulatorSettings(api_key=KEY, api_secret=SECRET))
    await server.start()
    async with (
        SigningClient(server.url) as client,
        client.socket("/ws/bnbusdt@kline_1d") as socket,
    ):
        await receive(socket)
        await server.stop()
        assert (await first(socket, lambda event: event["e"] != "kline"))["e"] == "serverShutdown"


@pytest.mark.parametrize(
    ("stream", "kind", "fields"),
    [
        ("btcusdt@ticker", "24hrTicker", "eEspPwxcQbBaAohlvqOCFLn"),
        ("btcusdt@ticker_1h", "1hTicker", "eEspPohlcwvqOCFLn"),
        ("btcusdt@ticker_4h", "4hTicker", "eEspPohlcwvqOCFLn"),
        ("btcusdt@avgPrice", "avgPrice", "eEsiwT"),
        ("btcusdt@kline_1d@+08:00", "kline", "eEsk"),
    ],
)
async def test_streams_of_once_a_second_have_binances_fields(client, stream, kind, fields):
    async with client.socket(f"/stream?streams={stream.replace('+', '%2B')}") as socket:
        event = await receive(socket)
    assert event["stream"] == stream
    assert (event["data"]["e"], event["data"]["s"]) == (kind, "BTCUSDT")
    assert "".join(event["data"]) == fields


async def test_windows_of_all_symbols_come_as_one_list(client):
    async with client.socket("/ws/!ticker_1h@arr") as socket:
        event = await receive(socket)
    assert [row["s"] for row in event] == ["BTCUSDT", "ETHUSDT", "ETHBTC", "BNBUSDT"]
    one = event[0]
    assert one["C"] - one["O"] == 60 * 60 * 1_000
    change = Decimal(one["c"]) - Decimal(one["o"])
    assert Decimal(one["p"]) == change
    assert abs(Decimal(one["P"]) - 100 * change / Decimal(one["o"])) <= Decimal("0.001")


async def test_days_of_the_eighth_time_zone_begin_eight_hours_early(client):
    async with client.socket("/ws/btcusdt@kline_1d@+08:00") as socket:
        bar = (await receive(socket))["k"]
    assert bar["i"] == "1d"
    assert bar["t"] % (24 * 60 * 60 * 1_000) == 16 * 60 * 60 * 1_000
    assert bar["T"] == bar["t"] + 24 * 60 * 60 * 1_000 - 1


async def test_times_come_in_microseconds_on_request(client):
    async with client.socket("/ws/btcusdt@trade?timeUnit=MICROSECOND") as socket:
        trade = await receive(socket)
    async with client.socket("/stream?streams=btcusdt@kline_1m&timeUnit=microsecond") as socket:
        bar = (await receive(socket))["data"]["k"]
    assert len(str(trade["E"])) == len(str(trade["T"])) == 16
    assert bar["T"] == bar["t"] + 60_000_000 - 1
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with client.socket("/ws/btcusdt@trade?timeUnit=SECOND"):
            pass
    assert caught.value.status == 400

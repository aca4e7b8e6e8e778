"""The market endpoints in detail: old trades, time zones, lists, weights, microseconds."""

from decimal import Decimal

import pytest

DAY_MS = 24 * 60 * 60 * 1_000


def error(reply):
    return reply.status, reply.body["code"], reply.body["msg"]


@pytest.fixture
async def socket(client):
    async with client.socket("/ws-api/v3") as socket:
        yield socket


async def test_old_trades_go_on_from_an_id_and_are_the_newest_without_one(client, socket):
    for _ in range(5):
        await client.place(quantity="0.001")
    path = "/api/v3/historicalTrades"
    from_two = (await client.public(path, symbol="BTCUSDT", fromId=2, limit=3)).body
    assert [row["id"] for row in from_two] == [2, 3, 4]
    newest = (await client.public(path, symbol="BTCUSDT", limit=2)).body
    recent = (await client.public("/api/v3/trades", symbol="BTCUSDT")).body
    assert newest[0]["id"] + 1 == newest[1]["id"]
    assert newest[1]["id"] <= recent[-1]["id"]
    assert set(newest[0]) == set(recent[0])
    over_socket, _ = await client.call(
        socket, "trades.historical", symbol="BTCUSDT", fromId=2, limit=3
    )
    assert over_socket["result"] == from_two


@pytest.mark.parametrize(
    ("zone", "ahead_minutes"),
    [("8", 480), ("-1:00", -60), ("05:45", 345), ("+14:00", 840), ("-12:00", -720), ("0", 0)],
)
async def test_days_begin_at_the_midnight_of_the_time_zone(client, zone, ahead_minutes):
    rows = (
        await client.public(
            "/api/v3/klines", symbol="BTCUSDT", interval="1d", timeZone=zone, limit=3
        )
    ).body
    for row in rows:
        assert (row[0] + ahead_minutes * 60_000) % DAY_MS == 0
        assert row[6] == row[0] + DAY_MS - 1


@pytest.mark.parametrize("zone", ["14:01", "-12:30", "15", "x", "1:60", "100", "-"])
async def test_a_time_zone_that_is_none_is_refused(client, zone):
    reply = await client.public("/api/v3/klines", symbol="BTCUSDT", interval="1d", timeZone=zone)
    assert error(reply) == (400, -1130, "Data sent for parameter 'timeZone' is not valid.")


async def test_klines_for_display_are_the_same_bars(client, socket):
    parameters = {"symbol": "BTCUSDT", "interval": "1h", "limit": 5}
    shown = (await client.public("/api/v3/uiKlines", **parameters)).body
    plain = (await client.public("/api/v3/klines", **parameters)).body
    assert [row[0] for row in shown] == [row[0] for row in plain]
    assert shown[:-1] == plain[:-1]
    over_socket, _ = await client.call(socket, "uiKlines", **parameters)
    assert over_socket["result"][:-1] == plain[:-1]


async def test_day_statistics_come_for_a_list_in_both_lengths(client):
    path = "/api/v3/ticker/24hr"
    names = '["ETHBTC","BTCUSDT"]'
    full = (await client.public(path, symbols=names)).body
    mini = (await client.public(path, symbols=names, type="MINI")).body
    assert [row["symbol"] for row in full] == [row["symbol"] for row in mini]
    assert "priceChange" not in mini[0]
    assert Decimal(full[0]["highPrice"]) >= Decimal(full[0]["lowPrice"])
    assert len((await client.public(path, type="MINI")).body) == 4
    wrong = await client.public(path, type="HUGE")
    assert error(wrong) == (400, -1139, "Invalid ticker type.")
    twice = await client.public(path, symbols='["ETHBTC","ETHBTC"]')
    assert error(twice) == (400, -1151, "Symbol is present multiple times in the list.")


@pytest.mark.parametrize(
    ("parameters", "weight"),
    [
        ({"symbol": "ETHBTC"}, 2),
        ({"symbols": '["ETHBTC"]'}, 2),
        ({"symbols": str(["X"] * 21)}, 40),
        ({"symbols": str(["X"] * 101)}, 80),
        ({}, 80),
    ],
)
async def test_day_statistics_weigh_by_how_many_symbols(client, parameters, weight):
    before = int((await client.public("/api/v3/ping")).headers["X-MBX-USED-WEIGHT-1M"])
    reply = await client.public("/api/v3/ticker/24hr", **parameters)
    assert int(reply.headers["X-MBX-USED-WEIGHT-1M"]) in (before + weight, weight)


@pytest.mark.parametrize("path", ["depth", "ticker/price", "ticker/bookTicker", "ticker/24hr"])
async def test_a_symbols_status_can_be_asked_for(client, path):
    target = f"/api/v3/{path}"
    one = {"symbol": "BTCUSDT"}
    assert (await client.public(target, **one, symbolStatus="TRADING")).status == 200
    halted = await client.public(target, **one, symbolStatus="HALT")
    assert error(halted) == (
        400,
        -1220,
        "The symbol's status does not match the requested symbolStatus.",
    )
    unknown = await client.public(target, **one, symbolStatus="ASLEEP")
    assert error(unknown) == (400, -1122, "Invalid symbolStatus.")
    if path != "depth":
        assert (await client.public(target, symbolStatus="BREAK")).body == []


async def test_times_come_in_microseconds_on_request(client):
    microseconds = {"X-MBX-TIME-UNIT": "MICROSECOND"}
    now = await client.send("GET", "/api/v3/time", headers=microseconds)
    assert len(str(now.body["serverTime"])) == 16
    (row,) = (
        await client.send(
            "GET",
            "/api/v3/klines",
            "symbol=BTCUSDT&interval=1m&limit=1",
            headers=microseconds | {"X-MBX-TIME-UNIT": "microsecond"},
        )
    ).body
    assert row[6] == row[0] + 60_000_000 - 1
    order = (
        await client.send(
            "POST",
            "/api/v3/order",
            client.query(symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.01"),
            headers=microseconds,
        )
    ).body
    assert len(str(order["transactTime"])) == len(str(order["workingTime"])) == 16
    # Only this answer: the next one is in milliseconds again.
    assert len(str((await client.public("/api/v3/time")).body["serverTime"])) == 13
    found = (
        await client.signed(
            "GET", "/api/v3/myTrades", symbol="BTCUSDT", startTime=order["transactTime"]
        )
    ).body
    assert [row["orderId"] for row in found] == [order["orderId"]]


async def test_an_unknown_time_unit_is_refused(client):
    reply = await client.send("GET", "/api/v3/time", headers={"X-MBX-TIME-UNIT": "SECOND"})
    assert error(reply) == (
        400,
        -1194,
        "Invalid value for time unit; expected either MICROSECOND or MILLISECOND.",
    )


async def test_the_websocket_api_and_its_events_know_microseconds(client):
    async with client.socket("/ws-api/v3?timeUnit=MICROSECOND") as socket:
        reply, _ = await client.call(socket, "time")
        assert len(str(reply["result"]["serverTime"])) == 16
        await client.call(
            socket, "userDataStream.subscribe.signature", **client.socket_parameters()
        )
        placed = (await client.place(quantity="0.01")).body
        events = [(await socket.receive_json())["event"] for _ in range(3)]
    assert events[0]["T"] // 1_000 == placed["transactTime"]
    assert all(len(str(event["E"])) == 16 for event in events)

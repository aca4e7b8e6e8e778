"""Every fill a user gets lies inside the recorded bar of its market time."""

import asyncio
import bisect
import random
from decimal import Decimal

import polars
import pytest

from bagbot.domain.errors import DataError
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient
from bagbot.tests.simulator.test_market import real_data

START_MS = 1_766_016_000_000
MINUTE_MS = 60_000


def invented_bars(count):
    """Return bars that jump, stand still, and leave minutes out."""
    generator = random.Random(5)
    rows = []
    price = 9_000_000
    open_ms = START_MS
    for index in range(count):
        opened = price + generator.randrange(-8_000, 8_001)
        close = opened + generator.randrange(-8_000, 8_001)
        low = min(opened, close) - generator.randrange(5_000)
        high = max(opened, close) + generator.randrange(5_000)
        if index % 7 == 3:
            low = high = close = opened
        rows.append([open_ms, *(value / 100 for value in (opened, high, low, close)), 2.5])
        price = close
        open_ms += MINUTE_MS * (3 if index % 11 == 5 else 1)
    return polars.DataFrame(
        rows,
        schema=["open_time", "open", "high", "low", "close", "volume"],
        orient="row",
        infer_schema_length=None,
    )


@pytest.fixture(params=["invented", "real"])
def bars_file(request, tmp_path):
    path = tmp_path / "bars.parquet"
    real = real_data()
    if request.param == "invented" or real is None:
        invented_bars(2_000).write_parquet(path)
        return path
    return real


def settings(path, **more):
    return SimulatorSettings(api_key=KEY, api_secret=SECRET, data=path, **more)


async def trade_for(client, seconds):
    """Send all kinds of orders in all kinds of places around the market."""
    generator = random.Random(1)
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        ticker = (await client.public("/api/v3/ticker/bookTicker", symbol="BTCUSDT")).body
        middle = (Decimal(ticker["bidPrice"]) + Decimal(ticker["askPrice"])) / 2
        side = generator.choice(["BUY", "SELL"])
        for _ in range(4):
            kind = generator.choice(["MARKET", "deep", "LIMIT", "LIMIT", "LIMIT"])
            if kind == "MARKET":
                await client.place(side=side, quantity="0.01")
            elif kind == "deep":
                # Eats several levels, then gives most of it back.
                await client.place(side=side, quantity="3")
                await client.place(side="SELL" if side == "BUY" else "BUY", quantity="2.9")
            else:
                away = Decimal(generator.randrange(-300, 301)) / 100_000
                price = (middle * (1 + away)).quantize(Decimal("0.01"))
                await client.place(
                    side=side, type="LIMIT", timeInForce="GTC", quantity="0.02", price=str(price)
                )
        if generator.random() < 0.1:
            await client.signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")


@pytest.mark.parametrize("speed", [1_000, 20_000])
async def test_every_fill_lies_inside_its_bar(bars_file, speed):
    frame = polars.read_parquet(bars_file)
    opens = frame["open_time"].to_list()
    lows, highs = frame["low"].to_list(), frame["high"].to_list()
    async with (
        SimulatorServer(settings(bars_file, speed=speed)) as server,
        SigningClient(server.url) as client,
    ):
        trades, minutes = [], set()
        async with asyncio.timeout(30):
            # A machine that is busy gets less done in the same time.
            while len(trades) <= 50 or len(minutes) <= 5:
                await trade_for(client, 1.2)
                trades = [
                    trade
                    for trade in (await client.admin("GET", "trades")).body
                    if trade["symbol"] == "BTCUSDT"
                ]
                minutes = {trade["market_time_ms"] // MINUTE_MS for trade in trades}
    assert {trade["is_maker"] for trade in trades} == {True, False}
    for trade in trades:
        index = bisect.bisect_right(opens, trade["market_time_ms"]) - 1
        assert trade["market_time_ms"] < opens[index] + MINUTE_MS
        low, high = Decimal(str(lows[index])), Decimal(str(highs[index]))
        assert low <= Decimal(trade["price"]) <= high, trade


async def test_candles_on_the_wire_are_the_recorded_bars_moved_to_now(tmp_path):
    path = tmp_path / "bars.parquet"
    frame = invented_bars(400)
    frame.write_parquet(path)
    start = int(frame["open_time"][100])
    async with (
        SimulatorServer(settings(path, speed=2_000, market_start_ms=start)) as server,
        SigningClient(server.url) as client,
    ):
        started = (await client.public("/api/v3/time")).body["serverTime"]
        await asyncio.sleep(0.5)
        clock = (await client.admin("GET", "clock")).body
        rows = (
            await client.public("/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=1000)
        ).body
    offset = clock["kline_offset_ms"]
    # The bar in play at the start was the bar of then.
    assert 0 <= started - (start + offset) < 2 * MINUTE_MS
    closed = rows[:-1]
    assert len(closed) > 105
    for row, bar in zip(closed, frame.iter_rows(), strict=False):
        assert row[0] == bar[0] + offset
        assert [Decimal(value) for value in row[1:6]] == [Decimal(str(value)) for value in bar[1:]]


async def test_the_price_stands_still_when_the_bars_are_over(tmp_path):
    path = tmp_path / "bars.parquet"
    frame = invented_bars(20)
    frame.write_parquet(path)
    last_close = Decimal(str(frame["close"][-1]))
    async with (
        SimulatorServer(settings(path, speed=10_000)) as server,
        SigningClient(server.url) as client,
    ):
        for _ in range(100):
            if (await client.admin("GET", "clock")).body["is_market_over"]:
                break
            await asyncio.sleep(0.05)
        for _ in range(2):
            ticker = (await client.public("/api/v3/ticker/price", symbol="BTCUSDT")).body
            assert Decimal(ticker["price"]) == last_close
            assert (await client.place(quantity="0.01")).body["status"] == "FILLED"
            await asyncio.sleep(0.3)


async def test_a_broken_file_stops_the_start_and_is_named(tmp_path):
    path = tmp_path / "broken.parquet"
    path.write_bytes(b"PAR1 nonsense")
    server = SimulatorServer(settings(path))
    with pytest.raises(DataError, match=r"broken\.parquet"):
        await server.start()
    await server.stop()


async def test_another_record_starts_its_own_market_with_the_same_account(tmp_path):
    path = tmp_path / "bars.parquet"
    invented_bars(200).write_parquet(path)
    store = tmp_path / "store"
    synthetic = SimulatorSettings(api_key=KEY, api_secret=SECRET, store=store)
    async with SimulatorServer(synthetic) as server, SigningClient(server.url) as client:
        await client.place(quantity="1")
    async with (
        SimulatorServer(settings(path, store=store)) as server,
        SigningClient(server.url) as client,
    ):
        clock = (await client.admin("GET", "clock")).body
        assert clock["market_start_ms"] == START_MS
        assert (await client.admin("GET", "balances")).body["BTC"]["free"] == "10.99900000"
    async with SimulatorServer(synthetic) as server, SigningClient(server.url) as client:
        # Back again: the candles are stamped now, not where the other record's would lead.
        now_ms = (await client.public("/api/v3/time")).body["serverTime"]
        (row,) = (
            await client.public("/api/v3/klines", symbol="BTCUSDT", interval="1m", limit=1)
        ).body
        assert abs(row[0] - now_ms) < 2 * MINUTE_MS

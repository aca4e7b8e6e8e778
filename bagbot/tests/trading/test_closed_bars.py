"""Closed bars: each once, in order, none left out, on streams and answers that fail."""

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import polars
import pytest
from structlog.testing import capture_logs

from bagbot.domain.errors import DataError, ExchangeUnavailableError, NotSupportedError
from bagbot.domain.ohlcv import timeframe_ms
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.conftest import API_KEY, API_SECRET, SEED
from bagbot.tests.simulator.signing_client import SigningClient
from bagbot.tests.simulator.signing_client import until as until_shown
from bagbot.tests.test_reconciliation import until
from bagbot.tests.trading.futures_wire import FuturesWire
from bagbot.tests.trading.scripted_exchange import KRAKEN_ASSETS, KRAKEN_PAIR, Scripted
from bagbot.trading.connectors import BinanceConnector, CcxtConnector, Ohlcv
from bagbot.trading.connectors.closed_bars import ClosedBars, polled

SYMBOL = "BTC/USDT"
START_MS = 1_767_225_600_000
SECOND_MS = 1_000


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("BINANCE_", "BAGBOT_", "KRAKEN_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def bar_at(open_time_ms: int, close: str = "100.5") -> Ohlcv:
    return Ohlcv(
        open_time_ms=open_time_ms,
        open=Decimal(100),
        high=Decimal(101),
        low=Decimal(99),
        close=Decimal(close),
        volume=Decimal(5),
    )


async def taken(bars: AsyncIterator[Ohlcv], count: int) -> list[Ohlcv]:
    """Return the next bars; more may follow."""
    async with asyncio.timeout(15):
        return [await anext(bars) for _ in range(count)]


# What an answer says, and what it does not.


async def answered(rows: Sequence[Ohlcv], next_ms: int | None, page: int = 3) -> list[Ohlcv]:
    async def fetch(since_ms: int | None) -> Sequence[Ohlcv]:
        if since_ms is None:
            return rows[-page:]
        return [bar for bar in rows if bar.open_time_ms >= since_ms][:page]

    bars = ClosedBars(fetch, what="rows", interval_ms=SECOND_MS, next_ms=next_ms)
    return [bar async for bar in bars.catch_up()]


async def test_all_pages_are_told_but_for_the_last_bar_which_may_be_running() -> None:
    rows = [bar_at(at * SECOND_MS) for at in range(10)]
    assert await answered(rows, 0) == rows[:9]
    assert await answered(rows, 4 * SECOND_MS) == rows[4:9]
    assert await answered(rows, 9 * SECOND_MS) == []
    assert await answered(rows, None) == []
    assert await answered([], 0) == []


async def test_bars_that_do_not_exist_are_not_waited_for() -> None:
    rows = [bar_at(at * SECOND_MS) for at in (0, 1, 5, 6, 20)]
    assert await answered(rows, 0) == rows[:4]


async def test_a_bar_that_an_answer_holds_twice_is_told_once() -> None:
    rows = [bar_at(0), bar_at(SECOND_MS), bar_at(SECOND_MS), bar_at(2 * SECOND_MS)]
    assert await answered(rows[::-1], 0, page=4) == [bar_at(0), bar_at(SECOND_MS)]


async def test_an_answer_older_than_the_stream_is_asked_again_until_it_is_not() -> None:
    answers = [
        # The second bar looks as if it were running, and is not what it will be.
        [bar_at(0), bar_at(SECOND_MS, close="99")],
        [bar_at(SECOND_MS, close="99")],
        [bar_at(SECOND_MS, close="101"), bar_at(2 * SECOND_MS)],
    ]

    async def fetch(_since_ms: int | None) -> Sequence[Ohlcv]:
        return answers.pop(0)

    bars = ClosedBars(fetch, what="rows", interval_ms=SECOND_MS, next_ms=0)
    told = [bar async for bar in bars.catch_up_to(2 * SECOND_MS)]
    assert told == [bar_at(0), bar_at(SECOND_MS, close="101")]
    assert bars.next_ms == 2 * SECOND_MS
    assert not bars.is_new(bar_at(SECOND_MS))


async def test_polling_waits_out_an_exchange_that_is_away() -> None:
    rows = [bar_at(at * SECOND_MS) for at in range(4)]
    troubles = [ExchangeUnavailableError("away")]

    async def fetch(since_ms: int | None) -> Sequence[Ohlcv]:
        if troubles:
            raise troubles.pop()
        return [bar for bar in rows if bar.open_time_ms >= (since_ms or 0)]

    bars = ClosedBars(fetch, what="rows", interval_ms=SECOND_MS, next_ms=0)
    stream = polled(bars, clock_ms=lambda: 0, is_closed=lambda: False)
    assert await taken(stream, 3) == rows[:3]
    rows.append(bar_at(4 * SECOND_MS))
    assert await taken(stream, 1) == [rows[3]]


# Over real sockets.


def write_bars(path: Path, count: int, *, step_ms: int = SECOND_MS, seed: int = 7) -> Path:
    chance = random.Random(seed)
    rows, price = [], 100_000
    for index in range(count):
        close = price + chance.randint(-300, 300)
        high, low = max(price, close) + chance.randint(0, 50), min(price, close) - 20
        volume = chance.randint(1, 10**6)
        prices = [ticks / 100 for ticks in (price, high, low, close)]
        rows.append([START_MS + index * step_ms, *prices, volume / 100_000])
        price = close
    schema = ["open_time", "open", "high", "low", "close", "volume"]
    polars.DataFrame(rows, schema=schema, orient="row").write_parquet(path)
    return path


def recorded(path: Path) -> list[Ohlcv]:
    """Return the bars of a file; times are as recorded."""
    return [
        Ohlcv(
            open_time_ms=row["open_time"],
            open=Decimal(str(row["open"])),
            high=Decimal(str(row["high"])),
            low=Decimal(str(row["low"])),
            close=Decimal(str(row["close"])),
            volume=Decimal(str(row["volume"])),
        )
        for row in polars.read_parquet(path).iter_rows(named=True)
    ]


class Stepper:
    """A paper market that is moved by hand, and the connector that watches it."""

    def __init__(
        self, path: Path, timeframe: str, client: SigningClient, connector: BinanceConnector
    ) -> None:
        self.bars = recorded(path)
        self.timeframe = timeframe
        self.client = client
        self.connector = connector

    async def step(self, count: int) -> None:
        for _ in range(count):
            assert (await self.client.admin("POST", "step")).status == 200

    async def watched(self) -> AsyncIterator[Ohlcv]:
        """Return the bars of the whole record as they close."""
        first_ms = START_MS + await self.offset_ms()
        return self.connector.watch_closed_bars(SYMBOL, self.timeframe, since_ms=first_ms)

    async def offset_ms(self) -> int:
        return int((await self.client.admin("GET", "clock")).body["kline_offset_ms"])

    async def as_recorded(self, told: list[Ohlcv]) -> list[Ohlcv]:
        offset_ms = await self.offset_ms()
        return [
            Ohlcv(
                open_time_ms=bar.open_time_ms - offset_ms,
                open=bar.open,
                high=bar.high,
                low=bar.low,
                close=bar.close,
                volume=bar.volume,
            )
            for bar in told
        ]

    async def spoil_stream(self, kind: str, **more: object) -> None:
        fault = {"kind": kind, "path": f"btcusdt@kline_{self.timeframe}", **more}
        assert (await self.client.admin("POST", "faults", fault)).status == 200

    async def times_asked(self) -> int:
        asked = (await self.client.admin("GET", "requests")).body
        return sum(request["path"] == "/api/v3/klines" for request in asked)


@contextlib.asynccontextmanager
async def stepping(
    tmp_path: Path, timeframe: str = "1m", *, count: int = 40, stream_life_s: float = 3600.0
) -> AsyncIterator[Stepper]:
    path = write_bars(tmp_path / "bars.parquet", count, step_ms=timeframe_ms(timeframe))
    settings = SimulatorSettings(
        api_key=API_KEY, api_secret=API_SECRET, data=path, matcher="bars", stepped=True
    )
    async with (
        SimulatorServer(settings) as server,
        SigningClient(server.url) as client,
        BinanceConnector(
            API_KEY, API_SECRET, base_url=server.url, stream_life_s=stream_life_s
        ) as connector,
    ):
        yield Stepper(path, timeframe, client, connector)


@contextlib.asynccontextmanager
async def watching(bars: AsyncIterator[Ohlcv]) -> AsyncIterator["Watch"]:
    """Take bars all the time, as a trader does."""
    watch = Watch()

    async def take() -> None:
        async for bar in bars:
            watch.told.append(bar)

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(take())
        yield watch
        task.cancel()


class Watch:
    def __init__(self) -> None:
        self.told: list[Ohlcv] = []

    async def until(self, count: int) -> list[Ohlcv]:
        await until(lambda: len(self.told) >= count, timeout_s=15)
        return self.told


async def test_history_and_what_closes_now_are_one_row_of_bars(tmp_path: Path) -> None:
    async with stepping(tmp_path) as market:
        await market.step(12)
        async with watching(await market.watched()) as watch:
            await watch.until(12)
            await market.step(5)
            told = await watch.until(17)
        assert await market.as_recorded(told) == market.bars[:17]


async def test_a_trader_who_is_slow_gets_all_the_same_bars(tmp_path: Path) -> None:
    async with stepping(tmp_path) as market:
        watched = await market.watched()
        await market.step(2)
        told = await taken(watched, 1)
        for _ in range(5):
            await market.step(3)
            told += await taken(watched, 3)
        assert await market.as_recorded(told) == market.bars[:16]


async def test_without_a_beginning_the_running_bar_is_the_first(tmp_path: Path) -> None:
    async with stepping(tmp_path) as market:
        await market.step(3)
        watched = market.connector.watch_closed_bars(SYMBOL, "1m")
        waiting = asyncio.ensure_future(taken(watched, 1))
        await until_shown(market.times_asked)
        await market.step(2)
        told = await waiting + await taken(watched, 1)
        assert await market.as_recorded(told) == market.bars[3:5]


async def test_a_timeframe_that_the_exchange_has_not_is_refused(tmp_path: Path) -> None:
    connector = BinanceConnector()
    with pytest.raises(NotSupportedError, match="no bars of '7m', only 1s, 1m"):
        connector.watch_closed_bars(SYMBOL, "7m")
    with pytest.raises(NotSupportedError, match="'7m'"):
        await connector.fetch_ohlcv(SYMBOL, "7m")
    with pytest.raises(DataError, match="month"):
        connector.watch_closed_bars(SYMBOL, "1M")


@pytest.mark.parametrize(
    ("kind", "timeframe"),
    [
        ("cut", "1m"),
        ("drop", "1m"),
        ("duplicate", "1m"),
        ("reorder", "1m"),
        # It pings and tells nothing, and is asked about when a bar's time has passed.
        ("half_open", "1s"),
    ],
)
async def test_what_a_spoiled_stream_does_not_tell_is_told_all_the_same(
    tmp_path: Path, kind: str, timeframe: str
) -> None:
    async with stepping(tmp_path, timeframe) as market:
        async with watching(await market.watched()) as watch:
            await market.step(2)
            await watch.until(2)
            asked = await market.times_asked()
            await market.step(1)
            await watch.until(3)
            # The stream is what tells.
            assert timeframe == "1s" or await market.times_asked() == asked
            await market.spoil_stream(kind)
            with capture_logs() as logged:
                await market.step(4)
                await watch.until(7)
                assert (await market.times_asked() > asked) is (kind != "duplicate")
                await market.step(2)
                told = await watch.until(9)
        assert await market.as_recorded(told) == market.bars[:9]
    if kind == "half_open":
        # A stream that keeps silent is left for another one.
        assert any("the stream has not told of" in line.get("error", "") for line in logged)


async def test_on_a_stream_that_fails_again_and_again_every_bar_is_told_once(
    tmp_path: Path,
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails.
    chance = random.Random(seed)
    kinds = ["cut", "drop", "duplicate", "reorder"]
    async with stepping(tmp_path, count=200) as market:
        async with watching(await market.watched()) as watch:
            for _ in range(19):
                await market.spoil_stream(chance.choice(kinds), after=chance.randrange(5))
                await market.step(10)
                await asyncio.sleep(chance.random() * 0.1)
            told = await watch.until(190)
        assert await market.as_recorded(told) == market.bars[:190]


async def test_connections_are_replaced_before_they_end_and_no_bar_is_missed(
    tmp_path: Path,
) -> None:
    async with stepping(tmp_path, stream_life_s=0.1) as market:
        async with watching(await market.watched()) as watch:
            for _ in range(30):
                await market.step(1)
                await asyncio.sleep(0.02)
            told = await watch.until(30)
        assert await market.as_recorded(told) == market.bars[:30]
        # Each new connection asks what the old one has not told.
        assert await market.times_asked() >= 4


async def test_on_a_market_that_runs_bars_are_those_that_it_shows_afterwards() -> None:
    settings = SimulatorSettings(api_key=API_KEY, api_secret=API_SECRET, seed=SEED, speed=240.0)
    async with (
        SimulatorServer(settings) as server,
        BinanceConnector(API_KEY, API_SECRET, base_url=server.url) as connector,
    ):
        told = await taken(connector.watch_closed_bars(SYMBOL, "1m"), 6)
        shown = await connector.fetch_ohlcv(SYMBOL, "1m", since_ms=told[0].open_time_ms)
    assert told == list(shown[:6])


async def test_futures_bars_come_from_the_futures_addresses() -> None:
    async with (
        FuturesWire(API_KEY, API_SECRET) as wire,
        BinanceConnector(API_KEY, API_SECRET, futures=True, base_url=wire.url) as futures,
    ):
        symbol = "BTC/USDT:USDT"
        wire.klines = [[at * 60_000, "1.10", "1.20", "1.00", "1.15", "7.5", 0] for at in range(3)]
        bars = await futures.fetch_ohlcv(symbol, "1m", since_ms=60_000, limit=5)
        assert [bar.open_time_ms for bar in bars] == [60_000, 120_000]
        assert bars[0].volume == Decimal("7.5")
        assert wire.requests[-1] == (
            "GET",
            "/fapi/v1/klines",
            {"symbol": "BTCUSDT", "interval": "1m", "limit": "5", "startTime": "60000"},
        )
        watched = futures.watch_closed_bars(symbol, "1m", since_ms=60_000)
        assert [bar.open_time_ms for bar in await taken(watched, 1)] == [60_000]
        waiting = asyncio.ensure_future(taken(watched, 1))
        await wire.subscribed.wait()
        assert wire.streams == ["/market/ws/btcusdt@kline_1m"]
        await wire.close_bar(120_000)
        (closed,) = await waiting
        assert (closed.open_time_ms, closed.close) == (120_000, Decimal("1.18"))


@contextlib.contextmanager
def live_allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("BAGBOT_ALLOW_LIVE", "yes")
        yield


async def test_any_exchange_of_ccxt_gives_exact_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        [60, "30306.1", "30306.20", "30305.7", "30305.7", "30306.1", "3.392439160123456789", 23],
        [120, "30304.5", "30304.5", "30300.0", "30300.0", "30300.0", "4.42996871", 18],
        [180, "30300.3", "30300.4", "30291.4", "30291.4", "30294.7", "2.13024789", 25],
    ]
    async with Scripted() as server:
        server.fixed = {
            "/0/public/AssetPairs": {"error": [], "result": {"XXBTZUSD": KRAKEN_PAIR}},
            "/0/public/Assets": {"error": [], "result": KRAKEN_ASSETS},
            "/0/public/OHLC": {"error": [], "result": {"XXBTZUSD": rows, "last": 120}},
        }
        urls = {"api": {"public": server.url, "private": server.url, "zendesk": server.url}}
        with live_allowed(monkeypatch):
            kraken = CcxtConnector(exchange_id="kraken", testnet=False, config={"urls": urls})
        async with kraken:
            assert {"fetch_ohlcv", "watch_closed_bars"} <= kraken.capabilities
            first, *_ = bars = await kraken.fetch_ohlcv("BTC/USD", "1m")
            assert len(bars) == 3
            # More digits than a float has.
            assert (first.open_time_ms, first.volume) == (60_000, Decimal("3.392439160123456789"))
            watched = kraken.watch_closed_bars("BTC/USD", "1m", since_ms=60_000)
            assert [bar.open_time_ms for bar in await taken(watched, 2)] == [60_000, 120_000]
        # Kraken's "since" leaves that time itself out, so CCXT asks for one bar more.
        assert "interval=1&since=0" in server.requests[-1][2]
        # Closing the connector ends the iteration.
        assert [bar async for bar in watched] == []

"""History from an exchange over real sockets: complete, exact, and resumed wherever it ended."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from bagbot.domain.errors import (
    AuthenticationError,
    DataError,
    ExchangeUnavailableError,
    InvalidOrderError,
    RateLimitedError,
)
from bagbot.domain.instrument import Instrument
from bagbot.domain.ohlcv import Ohlcv, timeframe_ms
from bagbot.marketdata.catalog import Catalog
from bagbot.marketdata.download import Downloaded, Progress, download
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.conftest import API_KEY, API_SECRET, SEED
from bagbot.tests.marketdata.invented_bars import MINUTE_MS, START_MS, invented_bars
from bagbot.tests.simulator.signing_client import SigningClient, until
from bagbot.trading.connectors.public_data import public_data

SYMBOL = "BTC/USDT"


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("BINANCE_", "BAGBOT_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "data")


class Recording:
    """An exchange's bars as its connector tells them, with its own page and its own troubles."""

    def __init__(self, rows: Sequence[Ohlcv], *, page: int = 10, only_near: bool = False) -> None:
        self.rows = list(rows)
        self.page = page
        self.only_near = only_near
        self.asked: list[int] = []
        self.troubles: dict[int, Exception] = {}

    @property
    def capabilities(self) -> frozenset[str]:
        return frozenset({"fetch_ohlcv"})

    async def load_instruments(self) -> Mapping[str, Instrument]:
        raise AssertionError("it has none")

    async def fetch_ohlcv(
        self,
        symbol: str,
        timeframe: str = "1m",
        since_ms: int | None = None,
        limit: int | None = None,
    ) -> Sequence[Ohlcv]:
        assert since_ms is not None
        self.asked.append(since_ms)
        if trouble := self.troubles.pop(len(self.asked), None):
            raise trouble
        until_ms = since_ms + self.page * timeframe_ms(timeframe) if self.only_near else 2**62
        rows = [row for row in self.rows if since_ms <= row.open_time_ms < until_ms]
        return rows[: self.page]


async def load(
    source: Recording, catalog: Catalog, first: int, last: int, *, now: int = 10**6
) -> Downloaded:
    """Download the bars with these numbers, as of the opening of bar `now`."""
    return await download(
        source,
        catalog,
        SYMBOL,
        "1m",
        exchange="somewhere",
        start_ms=START_MS + first * MINUTE_MS,
        end_ms=START_MS + last * MINUTE_MS,
        now_ms=START_MS + now * MINUTE_MS,
    )


def numbers(catalog: Catalog) -> list[int]:
    bars = catalog.load(SYMBOL, "1m")
    return ((bars.open_time_ms - START_MS) // MINUTE_MS).tolist()


async def test_every_page_is_loaded_and_nothing_is_asked_for_twice(catalog: Catalog) -> None:
    source = Recording(invented_bars(95))
    done = await load(source, catalog, 0, 95)
    assert (done.new, done.known) == (95, 0)
    assert numbers(catalog) == list(range(95))
    asked = len(source.asked)
    assert asked == 10
    again = await load(source, catalog, 20, 90)
    assert again.asked == ()
    assert len(source.asked) == asked


async def test_what_is_missing_on_either_side_and_between_is_asked_for(catalog: Catalog) -> None:
    source = Recording(invented_bars(100))
    await load(source, catalog, 20, 40)
    await load(source, catalog, 60, 70)
    done = await load(source, catalog, 0, 100)
    at = [((a - START_MS) // MINUTE_MS, (b - START_MS) // MINUTE_MS) for a, b in done.asked]
    assert at == [(0, 20), (40, 60), (70, 100)]
    assert numbers(catalog) == list(range(100))
    assert done.new == 70


async def test_a_gap_at_the_exchange_stays_one_and_is_not_asked_for_again(
    catalog: Catalog,
) -> None:
    rows = invented_bars(80)
    source = Recording([*rows[:13], *rows[48:]])
    await load(source, catalog, 0, 80)
    assert numbers(catalog) == [*range(13), *range(48, 80)]
    asked = len(source.asked)
    await load(source, catalog, 0, 80)
    assert len(source.asked) == asked


@pytest.mark.parametrize("page", [100, 150])
async def test_an_exchange_that_looks_at_a_page_of_time_only_is_walked_through(
    catalog: Catalog, page: int
) -> None:
    """Nothing in a page does not mean nothing later: listed late, or halted for long."""
    rows = invented_bars(1000)
    source = Recording([*rows[400:450], *rows[900:]], page=page, only_near=True)
    await load(source, catalog, 0, 1000)
    assert numbers(catalog) == [*range(400, 450), *range(900, 1000)]


async def test_the_bar_that_is_running_is_not_loaded(catalog: Catalog) -> None:
    source = Recording(invented_bars(50))
    # Bar 49 has just begun; bar 48 ended a moment ago, by a clock that may be fast.
    await load(source, catalog, 0, 60, now=49)
    assert numbers(catalog) == list(range(48))
    await load(source, catalog, 0, 60, now=51)
    assert numbers(catalog) == list(range(50))


async def test_trouble_is_waited_out(catalog: Catalog) -> None:
    source = Recording(invented_bars(30))
    source.troubles = {
        2: ExchangeUnavailableError("away"),
        4: RateLimitedError("too many", retry_after_s=0.2),
    }
    began_s = time.monotonic()
    assert (await load(source, catalog, 0, 30)).new == 30
    assert time.monotonic() - began_s > 0.7


@pytest.mark.parametrize("error", [AuthenticationError("no"), ValueError("a bug")])
async def test_what_has_come_before_an_end_is_kept_and_the_rest_resumed(
    catalog: Catalog, error: Exception
) -> None:
    source = Recording(invented_bars(60))
    source.troubles = {4: error}
    with pytest.raises(type(error)):
        await load(source, catalog, 0, 60)
    assert numbers(catalog) == list(range(30))
    done = await load(source, catalog, 0, 60)
    assert (done.new, done.known) == (30, 0)
    assert source.asked[4] == START_MS + 30 * MINUTE_MS
    assert numbers(catalog) == list(range(60))


async def test_a_download_that_is_cancelled_keeps_what_it_has(catalog: Catalog) -> None:
    class Slow(Recording):
        async def fetch_ohlcv(self, *arguments: object, **more: object) -> Sequence[Ohlcv]:
            if len(self.asked) == 3:
                await asyncio.sleep(60)
            return await super().fetch_ohlcv(*arguments, **more)  # type: ignore[arg-type]

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await load(Slow(invented_bars(60)), catalog, 0, 60)
    assert numbers(catalog) == list(range(30))


async def test_an_exchange_without_such_bars_is_said_so(catalog: Catalog) -> None:
    with pytest.raises(DataError, match="somewhere has no bars of BTC/USDT 1m in that time"):
        await load(Recording([]), catalog, 0, 50)
    assert catalog.series() == ()


async def test_progress_ends_at_the_whole(catalog: Catalog) -> None:
    told: list[Progress] = []
    await download(
        Recording(invented_bars(95)),
        catalog,
        SYMBOL,
        "1m",
        exchange="somewhere",
        start_ms=START_MS,
        end_ms=START_MS + 95 * MINUTE_MS,
        now_ms=START_MS + 10**9,
        on_progress=told.append,
    )
    assert [step.bars for step in told] == [*range(10, 95, 10), 95]
    assert told[-1].done_ms == told[-1].total_ms == 95 * MINUTE_MS


# Over real sockets.


@pytest.fixture
async def client(simulator: SimulatorServer) -> AsyncIterator[SigningClient]:
    async with SigningClient(simulator.url) as signing:
        yield signing


async def exchanges_own(client: SigningClient, timeframe: str) -> list[list[str]]:
    rows: list[list[str]] = []
    start = 0
    while True:
        page = (
            await client.public(
                "/api/v3/klines",
                symbol="BTCUSDT",
                interval=timeframe,
                startTime=start,
                limit=1000,
            )
        ).body
        if not page:
            return rows
        rows += page  # type: ignore[operator]
        start = int(rows[-1][0]) + 1


async def test_history_of_the_simulator_is_loaded_to_the_last_digit(
    simulator: SimulatorServer, client: SigningClient, catalog: Catalog
) -> None:
    now_ms = time.time_ns() // 1_000_000
    async with public_data("binance", base_url=simulator.url) as source:
        done = await download(
            source,
            catalog,
            SYMBOL,
            "1m",
            exchange="paper",
            start_ms=now_ms - 30 * 3_600_000,
            end_ms=now_ms,
            now_ms=now_ms,
        )
        assert done.new > 1400
        theirs = [
            row for row in await exchanges_own(client, "1m") if row[0] in range(done.asked[0][1])
        ]
        bars = catalog.load(SYMBOL, "1m")
        market = (await source.load_instruments())[SYMBOL]
        assert bars.instrument == market
    assert bars.open_time_ms.tolist() == [row[0] for row in theirs]
    for at, name in enumerate(("open", "high", "low", "close"), start=1):
        told = [market.price_from_ticks(int(ticks)) for ticks in getattr(bars, name)]
        assert told == [Decimal(row[at]) for row in theirs]
    volumes = [market.quantity_from_lots(int(lots)) for lots in bars.volume]
    assert volumes == [Decimal(row[5]) for row in theirs]


async def test_public_data_needs_no_key_takes_none_and_cannot_trade(
    simulator: SimulatorServer, client: SigningClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINANCE_API_KEY", API_KEY)
    monkeypatch.setenv("BINANCE_API_SECRET", API_SECRET)
    async with public_data("binance", base_url=simulator.url) as source:
        assert not source.has_credentials
        assert len(await source.fetch_ohlcv(SYMBOL, "1h")) > 20
        order = {"symbol": SYMBOL, "side": "buy", "type": "market", "amount": "0.01"}
        with pytest.raises(AuthenticationError, match="no API key, so nothing was sent"):
            await source.create_order(order)
        with pytest.raises(InvalidOrderError, match="does not trade 'NOPE/USDT'"):
            await source.fetch_ohlcv("NOPE/USDT", "1h")
    asked = (await client.admin("GET", "requests")).body
    assert {row["method"] for row in asked} == {"GET"}


def test_public_data_is_the_real_venues_and_needs_no_switch() -> None:
    spot = public_data("binance").exchange
    assert spot.urls["api"]["public"] == "https://api.binance.com/api/v3"
    assert spot.apiKey == ""
    futures = public_data("binance", futures=True)
    assert futures.exchange.urls["api"]["fapiPublic"] == "https://fapi.binance.com/fapi/v1"
    assert public_data("kraken").venue == "kraken live"
    assert "fetch_ohlcv" in public_data("kraken").capabilities


# By the command, killed.


def command(home: Path, url: str, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "bagbot", "data", *words],
        env={**os.environ, "BAGBOT_HOME": str(home), "BINANCE_BASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def finished(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = await asyncio.to_thread(process.communicate, timeout=60)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
async def test_a_download_that_is_ended_in_the_middle_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: signal.Signals
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    settings = SimulatorSettings(api_key=API_KEY, api_secret=API_SECRET, seed=SEED)
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        slow = {"kind": "delay_before", "path": "/api/v3/klines", "delay_s": 30, "after": 1}
        assert (await client.admin("POST", "faults", slow)).status == 200
        words = ("download", SYMBOL, "--timeframe", "1m", "--since", "2020-01-01")
        process = command(tmp_path, server.url, *words)
        # A page holds a thousand bars; the second one never comes.
        await until(lambda: asked_for_two_pages(client), timeout_s=30)
        process.send_signal(sign)
        code, _, error = await finished(process)
        await client.admin("DELETE", "faults")
        if sign is signal.SIGINT:
            farewell = "stopped; what has come is kept, the same command goes on"
            assert (code, error.strip().splitlines()[-1]) == (130, farewell)
        catalog = Catalog(tmp_path / "data")
        assert [series.bars for series in catalog.series()] == [1000]
        now_ms = time.time_ns() // 1_000_000
        async with public_data("binance", base_url=server.url) as source:
            done = await download(
                source,
                catalog,
                SYMBOL,
                "1m",
                exchange="paper",
                start_ms=timeframe_ms("1d") * 18_262,
                end_ms=now_ms,
                now_ms=now_ms,
            )
        bars = catalog.load(SYMBOL, "1m")
        assert (done.new, done.known) == (len(bars) - 1000, 0)
        whole = await exchanges_own(client, "1m")
        assert len(bars) > 1400
        assert bars.open_time_ms.tolist() == [row[0] for row in whole[: len(bars)]]


async def asked_for_two_pages(client: SigningClient) -> bool:
    asked = (await client.admin("GET", "requests")).body
    return sum(row["path"] == "/api/v3/klines" for row in asked) >= 2

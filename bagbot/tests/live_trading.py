"""A strategy that trades live on the stepped bar venue: everything is real, and over sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import aiohttp

from bagbot.domain import fills
from bagbot.simulator.rate_limits import LimitSettings
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.storage.sqlite_journal import SqliteJournal
from bagbot.system_clock import SystemClock
from bagbot.tests.conftest import API_KEY, API_SECRET
from bagbot.trading.connectors import BinanceConnector
from bagbot.trading.live_trader import LiveSettings, LiveTrader
from bagbot.trading.order_executor import OrderExecutor
from bagbot.trading.risk_manager import RiskLimits, RiskManager
from bagbot.trading.strategy import Strategy
from bagbot.trading.submission import ExecutorSettings

SYMBOL = "BTC/USDT"
CASH = Decimal(300_000)
STRATEGY_ID = "the-one"
NO_LIMITS = RiskLimits(symbols=frozenset({SYMBOL}))
# Nothing here is slow, but thousands of requests come within a minute.
GENEROUS = LimitSettings(weight_per_minute=10_000_000, raw_requests_per_5_minutes=10_000_000)


@contextlib.asynccontextmanager
async def bar_venue(
    path: Path, costs: fills.Costs, cash: Decimal = CASH
) -> AsyncIterator[SimulatorServer]:
    """Serve the bars of a file, one step at a time; the account has cash and no coin."""
    share = costs.volume_share_ppm
    settings = SimulatorSettings(
        api_key=API_KEY,
        api_secret=API_SECRET,
        data=path,
        matcher="bars",
        stepped=True,
        balances={"USDT": cash},
        limits=GENEROUS,
        maker_fee_ppm=costs.maker_fee_ppm,
        taker_fee_ppm=costs.taker_fee_ppm,
        slippage_ticks=costs.slippage_ticks,
        slippage_ppm=costs.slippage_ppm,
        through_ticks=costs.through_ticks,
        volume_share_ppm=None if share == fills.UNLIMITED else share,
    )
    async with SimulatorServer(settings) as server:
        yield server


@dataclass
class Stepped:
    """A live trader that is led from bar to bar."""

    url: str
    executor: OrderExecutor
    trader: LiveTrader
    running: asyncio.Task[None]
    done: asyncio.Queue[int] = field(default_factory=lambda: asyncio.Queue(100_000))

    async def step(self) -> int:
        """Say "bar done", and return which bar the strategy has then decided after (its ms)."""
        async with aiohttp.ClientSession() as http, http.post(f"{self.url}/admin/step") as answer:
            assert answer.status == 200, await answer.text()
        return await self.decided()

    async def decided(self) -> int:
        """Return the next bar after which everything is decided and carried out."""
        told = asyncio.ensure_future(self.done.get())
        await asyncio.wait({told, self.running}, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        if not told.done() and self.running.done():
            self.running.result()
        assert told.done(), "the strategy has not decided"
        return told.result()


@contextlib.asynccontextmanager
async def trading_live(
    server: SimulatorServer,
    folder: Path,
    strategy: Strategy,
    *,
    cash: Decimal = CASH,
    limits: RiskLimits = NO_LIMITS,
    **more: object,
) -> AsyncIterator[Stepped]:
    """Trade with a journal in `folder`, which may have a past."""
    done: asyncio.Queue[int] = asyncio.Queue(100_000)
    journal = SqliteJournal(folder / "journal.sqlite")
    try:
        async with (
            BinanceConnector(API_KEY, API_SECRET, base_url=server.url) as connector,
            OrderExecutor(
                connector=connector,
                journal=journal,
                risk_manager=RiskManager(limits),
                clock=SystemClock(),
                settings=ExecutorSettings(audit_interval_s=1000),
            ) as executor,
        ):
            # Bars follow each other here as fast as they can, not by the minute.
            connector.exchange.enableRateLimit = False
            trader = LiveTrader(
                executor=executor,
                connector=connector,
                strategy=strategy,
                settings=LiveSettings(
                    **{
                        "strategy_id": STRATEGY_ID,
                        "symbol": SYMBOL,
                        "cash": cash,
                        "history_bars": 0,
                        **more,
                    }
                ),
                clock=SystemClock(),
                on_bar_done=done.put_nowait,
            )
            running = asyncio.create_task(trader.run())
            try:
                yield Stepped(server.url, executor, trader, running, done)
            finally:
                running.cancel()
                # Whoever waited for a bar was told of its failure then.
                await asyncio.wait({running})
    finally:
        await journal.close()

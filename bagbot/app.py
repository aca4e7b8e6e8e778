"""The composition root: settings in, a running system out. The only place that picks classes."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
import uvicorn

from bagbot.api import create_app
from bagbot.api.system import ApiSystem
from bagbot.api.tokens import TokenStore
from bagbot.config import AccountName, Home, Settings
from bagbot.domain.errors import ConfigError, ExchangeUnavailableError
from bagbot.exchange_process import start_exchange, stop_exchange
from bagbot.storage.sqlite_journal import SqliteJournal
from bagbot.system_clock import SystemClock
from bagbot.trading.connectors.binance_connector import BinanceConnector
from bagbot.trading.live_trader import LiveSettings, LiveTrader
from bagbot.trading.order_executor import OrderExecutor
from bagbot.trading.risk_manager import RiskLimits, RiskManager
from bagbot.trading.strategy import Strategy
from bagbot.trading.submission import ExecutorSettings, require_safe

if TYPE_CHECKING:
    from fastapi import FastAPI

logger = structlog.get_logger(__name__)

SNAPSHOT_LOOK_S: Final = 1.0
DEFAULT_SYMBOLS: Final[Mapping[AccountName, Sequence[str]]] = {
    "paper": ("BTC/USDT", "ETH/USDT"),
    "testnet": ("BTC/USDT", "ETH/USDT"),
    "demo": ("BTC/USDT:USDT", "ETH/USDT:USDT"),
}


@dataclass(frozen=True, slots=True)
class System:
    """A running engine, as the command line and the tests see it."""

    account: str
    api_url: str
    exchange_url: str
    webhook_secret: str
    executor: OrderExecutor


async def run(
    settings: Settings,
    account: AccountName,
    *,
    on_ready: Callable[[System], None],
    strategy: tuple[Strategy, LiveSettings] | None = None,
) -> None:
    """Run the engine, its API and, for the paper account, its exchange, until asked to stop.

    With a strategy that one trades, too, and when it fails everything stops. SIGINT and SIGTERM
    stop it in order: no new orders, what is in flight is awaited. Raises ConfigError, JournalError
    or ExchangeError when it cannot start, and whatever the strategy fails with.
    """
    # The journal's thread waits this long for a busy loop; Python's own 5 ms is ten flushes.
    sys.setswitchinterval(0.0005)
    home = Home(settings.home)
    secret = settings.webhook_secret
    webhook_secret = secret.get_secret_value() if secret else home.secret("webhook_secret")
    with _listening(settings.api.host, settings.api.port) as listener:
        async with contextlib.AsyncExitStack() as stack:
            # First of all, so that a second bagbot is refused before it starts anything.
            home.folder(account)
            journal = SqliteJournal(home.journal(account))
            stack.push_async_callback(journal.close)
            exchange = await stack.enter_async_context(_exchange(settings, home, account))
            connector = await stack.enter_async_context(exchange.connector)
            executor = await stack.enter_async_context(
                _executor(settings, account, connector, journal, home.snapshot(account))
            )
            api = create_app(
                ApiSystem(
                    executor=executor,
                    connector=connector,
                    tokens=TokenStore(home.tokens, SystemClock()),
                    webhook_secrets=(webhook_secret,),
                    clock=SystemClock(),
                    hosts=(settings.api.host, *settings.api.allowed_hosts),
                )
            )
            host, port = listener.getsockname()[:2]
            system = System(
                account=account,
                api_url=f"http://{host}:{port}",
                exchange_url=exchange.url,
                webhook_secret=webhook_secret,
                executor=executor,
            )
            # What was loaded until now stays for good, so the collector need not look at it again:
            # a full collection stops everything for 54 ms otherwise (measured), orders with it.
            gc.collect()
            gc.freeze()
            every = settings.journal.snapshot_every_rows
            beside = [_keep_snapshot(home.path, account, journal, every)]
            if strategy is not None:
                beside.append(_trader(executor, connector, *strategy).run())
            await _serve(api, listener, exchange, beside, lambda: on_ready(system))


def _trader(
    executor: OrderExecutor,
    connector: BinanceConnector,
    strategy: Strategy,
    settings: LiveSettings,
) -> LiveTrader:
    allowed = executor.limits.symbols
    if allowed is not None and settings.symbol not in allowed:
        raise ConfigError(
            f"{settings.symbol} may not be traded: BAGBOT_RISK__SYMBOLS allows "
            f"{', '.join(sorted(allowed)) or 'nothing'}"
        )
    return LiveTrader(
        executor=executor,
        connector=connector,
        strategy=strategy,
        settings=settings,
        clock=SystemClock(),
    )


async def _keep_snapshot(home: Path, account: str, journal: SqliteJournal, every: int) -> None:
    """Have a snapshot made whenever so many rows have come that a start would notice them.

    By a process of its own, at the lowest priority and from the journal's file: nothing that
    trades waits for it, and the chain is checked from its first row on meanwhile.
    """
    covered = journal.begin
    try:
        while True:
            await asyncio.sleep(SNAPSHOT_LOOK_S)
            if journal.length - covered >= every:
                # One that failed is tried again only after as many rows: its reason rarely passes.
                covered = journal.length
                await _make_snapshot(home, account)
    except Exception:
        # Without snapshots starts get slower; that must never end the trading.
        logger.exception("no more snapshots are made until the next start")


async def _make_snapshot(home: Path, account: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bagbot", "journal", "snapshot", "--gently"),
        f"--account={account}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "BAGBOT_HOME": str(home)},
        start_new_session=True,
    )
    try:
        _, told = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0:
        logger.info("snapshot made")
    else:
        reason = told.decode(errors="replace").strip()
        logger.error("no snapshot was made; run: bagbot journal verify", reason=reason)


@dataclass(slots=True)
class _Exchange:
    """The exchange that an account trades on; `process` is there when we run it ourselves."""

    connector: BinanceConnector
    url: str
    process: asyncio.subprocess.Process | None = None


@contextlib.asynccontextmanager
async def _exchange(
    settings: Settings, home: Home, account: AccountName
) -> AsyncIterator[_Exchange]:
    if account != "paper":
        connector = BinanceConnector(
            testnet=True,
            futures=account == "demo",
            recv_window_ms=settings.executor.recv_window_ms,
            orders_by_stream=True,
        )
        yield _Exchange(connector, url=f"Binance {account}")
        return
    key, secret = home.secret("paper_exchange_key"), home.secret("paper_exchange_secret")
    process, url = await start_exchange(settings, home.folder("paper", "exchange"), key, secret)
    try:
        connector = BinanceConnector(
            api_key=key,
            api_secret=secret,
            base_url=url,
            recv_window_ms=settings.executor.recv_window_ms,
            orders_by_stream=True,
        )
        yield _Exchange(connector, url=url, process=process)
    finally:
        await stop_exchange(process)


def _executor(
    settings: Settings,
    account: AccountName,
    connector: BinanceConnector,
    journal: SqliteJournal,
    snapshot: Path,
) -> OrderExecutor:
    risk = settings.risk
    limits = RiskLimits(
        order_value_max=risk.order_value_max,
        position_value_max=risk.position_value_max,
        price_collar_ratio=risk.price_collar_ratio,
        symbols=frozenset(DEFAULT_SYMBOLS[account] if risk.symbols is None else risk.symbols),
    )
    times = ExecutorSettings(
        fence_margin_ms=int(settings.executor.fence_margin_s * 1000),
        probe_interval_s=settings.executor.probe_interval_s,
        audit_interval_s=settings.executor.audit_interval_s,
        tokens_per_symbol=settings.executor.tokens_per_symbol,
    )
    if account != "paper":
        require_safe(times, is_spot=not connector.futures)
    return OrderExecutor(
        connector=connector,
        journal=journal,
        risk_manager=RiskManager(limits),
        clock=SystemClock(),
        account=account,
        snapshot=snapshot,
        settings=times,
    )


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Take the API's port before anything else starts, so that a taken one is told at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"the API cannot listen on {host}:{port} ({error.strerror}); stop what listens there, "
            f"or set BAGBOT_API__PORT to another port"
        ) from error
    with listener:
        yield listener


class _Server(uvicorn.Server):
    """uvicorn, leaving the signals to us: it would die of them before any `finally`."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets=sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


async def _serve(
    api: "FastAPI",
    listener: socket.socket,
    exchange: _Exchange,
    beside: Sequence[Coroutine[None, None, None]],
    on_ready: Callable[[], None],
) -> None:
    """Serve until told to stop, or until something of what runs `beside` ends.

    Raises what that fails with.
    """
    config = uvicorn.Config(
        api,
        lifespan="off",
        log_config=None,
        access_log=False,
        http="httptools",
        # Nothing here asks where a request comes from, so no header needs to say it.
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config, on_ready)
    loop = asyncio.get_running_loop()
    stops = (signal.SIGINT, signal.SIGTERM)

    failures: list[Exception] = []

    def stop() -> None:
        server.should_exit = True

    async def until_it_ends(work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Exception as error:
            logger.exception("bagbot stops, because this has failed")
            failures.append(error)
        stop()

    for number in stops:
        loop.add_signal_handler(number, stop)
    try:
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(_watch(exchange, server))
            running = [tasks.create_task(until_it_ends(work)) for work in beside]
            await server.serve(sockets=[listener])
            for task in (watch, *running):
                task.cancel()
    finally:
        for number in stops:
            loop.remove_signal_handler(number)
    if failures:
        raise failures[0]
    if not watch.cancelled():
        raise ExchangeUnavailableError(
            f"the embedded exchange has ended with code {watch.result()}, so bagbot has stopped; "
            f"start it again, it goes on where it was"
        )


async def _watch(exchange: _Exchange, server: uvicorn.Server) -> int:
    """Return how the exchange ended by itself: an engine without one must not look alive."""
    if exchange.process is None:
        await asyncio.Event().wait()
    assert exchange.process is not None
    code = await exchange.process.wait()
    server.should_exit = True
    return code

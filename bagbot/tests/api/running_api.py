"""The API over the real executor and the real journal; only the exchange is the test's own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from bagbot.api import create_app
from bagbot.api.system import ApiSystem
from bagbot.api.tokens import TokenStore
from bagbot.domain.clock import Clock
from bagbot.domain.order import Order, OrderStatus
from bagbot.storage.sqlite_journal import SqliteJournal
from bagbot.system_clock import SystemClock
from bagbot.tests.api.desk_exchange import DeskExchange
from bagbot.trading.connectors.interface import IExchangeConnector
from bagbot.trading.order_executor import OrderExecutor
from bagbot.trading.risk_manager import RiskLimits, RiskManager
from bagbot.trading.submission import ExecutorSettings

SECRET = "a-webhook-secret-of-the-tests"
FAST = ExecutorSettings(
    send_timeout_s=0.5, probe_interval_s=0.05, poll_interval_s=0.1, close_timeout_s=1
)
BUY = {"symbol": "BTC/USDT", "side": "buy", "type": "market", "amount": "0.5"}
ALERT = {"secret": SECRET, "ticker": "BTCUSDT", "action": "buy", "contracts": "0.5"}


class RunningApi:
    """A client of the API, with the parts behind it at hand."""

    def __init__(self, system: ApiSystem, http: httpx.AsyncClient) -> None:
        self.system = system
        self.http = http
        self.executor = system.executor
        self.token = system.tokens.create(["admin"])

    async def ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = "",
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> httpx.Response:
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token or self.token}"
        return await self.http.request(method, path, headers=sent, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.ask("GET", path, **options)

    async def order(self, key: str, **fields: object) -> httpx.Response:
        headers = {"Idempotency-Key": key}
        return await self.ask("POST", "/orders", headers=headers, json=BUY | fields)

    async def raw_order(self, key: str, body: bytes | str) -> httpx.Response:
        return await self.ask("POST", "/orders", headers={"Idempotency-Key": key}, content=body)

    async def alert(self, **fields: object) -> httpx.Response:
        """Send an alert; a field of None is left out."""
        body = {name: value for name, value in (ALERT | fields).items() if value is not None}
        return await self.http.post("/webhooks/tradingview", json=body)

    async def target(self, position: str, size: object = None, **fields: object) -> httpx.Response:
        """Send an alert that names a position and no action."""
        told = {"action": None, "contracts": None, "market_position": position}
        return await self.alert(**told | {"market_position_size": size} | fields)

    async def settled(self, order_id: str) -> Order:
        return await self.executor.until_settled(order_id, 2)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so; looked at after each change of an order."""
        changed = asyncio.Event()
        self.executor.listen(lambda order, entry: changed.set())
        async with asyncio.timeout(5):
            while not is_so():
                changed.clear()
                await changed.wait()

    async def until_status(self, order_id: str, status: OrderStatus) -> None:
        await self.until(lambda: self.executor.state.orders[order_id].status is status)

    async def hold(self, amount: str, symbol: str = "BTC/USDT") -> None:
        """Buy, or sell a negative amount, and wait until it is filled."""
        side = "sell" if amount.startswith("-") else "buy"
        told = await self.order(
            f"hold-{amount}-{symbol}", side=side, amount=amount.lstrip("-"), symbol=symbol
        )
        assert told.status_code == 202, told.text
        await self.settled(told.json()["id"])


@contextlib.asynccontextmanager
async def running_api(
    path: Path,
    exchange: IExchangeConnector | None = None,
    *,
    limits: RiskLimits | None = None,
    clock: Clock | None = None,
    **options: Any,
) -> AsyncIterator[RunningApi]:
    """Run it on the journal in `path`, which may have a past."""
    clock = clock or SystemClock()
    connector = exchange or DeskExchange()
    journal = SqliteJournal(path / "journal.sqlite")
    try:
        async with OrderExecutor(
            connector=connector,
            journal=journal,
            risk_manager=RiskManager(limits or RiskLimits()),
            clock=clock,
            settings=FAST,
        ) as executor:
            system = ApiSystem(
                executor=executor,
                connector=connector,
                tokens=TokenStore(path / "tokens.jsonl", clock),
                clock=clock,
                **{"webhook_secrets": (SECRET,), "hosts": ("bot.example.org",)} | options,
            )
            transport = httpx.ASGITransport(create_app(system))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                yield RunningApi(system, http)
                # What a test sent is on its way: let it arrive before the engine stops.
                await asyncio.sleep(0)
    finally:
        await journal.close()

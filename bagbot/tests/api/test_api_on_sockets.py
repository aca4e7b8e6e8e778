"""The whole way over real sockets: HTTP client, uvicorn, executor, connector, simulated Binance."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal

import httpx
import pytest
import uvicorn

from bagbot.api import create_app, schemas
from bagbot.domain.order import OrderStatus
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.api.running_api import ALERT, BUY, RunningApi, running_api
from bagbot.tests.api.test_order_routes import assert_problem
from bagbot.trading.connectors.binance_connector import BinanceConnector

KEY, KEY_SECRET = "k" * 64, "s" * 64


class Server(uvicorn.Server):
    """Leaves the signals to pytest, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets=sockets)
        self.is_up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def api_on_sockets(path, simulator_url) -> AsyncIterator[RunningApi]:
    connector = BinanceConnector(api_key=KEY, api_secret=KEY_SECRET, base_url=simulator_url)
    async with connector, running_api(path, connector) as api:
        config = uvicorn.Config(
            create_app(api.system), port=0, lifespan="off", log_config=None, access_log=False
        )
        server = Server(config)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(server.serve())
            async with asyncio.timeout(10):
                await server.is_up.wait()
            port = server.servers[0].sockets[0].getsockname()[1]
            try:
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                    api.http = http
                    yield api
            finally:
                server.should_exit = True
                await serving


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorServer]:
    async with SimulatorServer(SimulatorSettings(api_key=KEY, api_secret=KEY_SECRET)) as server:
        yield server


async def test_alert_and_order_reach_the_exchange_once_and_come_back_filled(tmp_path, simulator):
    async with api_on_sockets(tmp_path, simulator.url) as api:
        assert (await api.get("/health/ready", token=None)).status_code == 200
        before = {b["asset"]: b for b in (await api.get("/balances")).json()["items"]}

        answers = await asyncio.gather(*[api.alert(id="a1", contracts="0.01") for _ in range(20)])
        assert sorted(a.json()["status"] for a in answers) == ["accepted"] + ["repeat"] * 19
        order = await api.settled(answers[0].json()["order_id"])
        assert order.status is OrderStatus.FILLED

        placed = await asyncio.gather(*[api.order("k1", amount="0.02") for _ in range(20)])
        assert len({answer.json()["id"] for answer in placed}) == 1
        await api.settled(placed[0].json()["id"])

        shown = (await api.get(f"/orders/{order.id}")).json()
        schemas.OrderWithFillsView.model_validate(shown)
        assert shown["exchange_order_id"]
        after = {b["asset"]: b for b in (await api.get("/balances")).json()["items"]}
        fees = sum(Decimal(f["fee"]) for f in (await api.get("/fills")).json()["items"])
        gained = Decimal(after["BTC"]["total"]) - Decimal(before["BTC"]["total"])
        assert gained == Decimal("0.03") - fees
        assert (await api.get("/positions")).json()["items"][0]["quantity"] == f"{gained}"

        closed = (await api.target("flat", id="a2")).json()
        assert closed["status"] == "accepted"
        assert (await api.settled(closed["order_id"])).status is OrderStatus.FILLED


async def test_limit_order_rests_there_and_is_cancelled_there(tmp_path, simulator):
    async with api_on_sockets(tmp_path, simulator.url) as api:
        ticker = await api.system.connector.fetch_ticker("BTC/USDT")
        price = (ticker.bid * Decimal("0.9")).quantize(Decimal("0.01"))
        placed = await api.order("k1", type="limit", price=str(price), amount="0.01")
        await api.until_status(placed.json()["id"], OrderStatus.OPEN)
        assert len(await api.system.connector.fetch_open_orders("BTC/USDT")) == 1
        told = await api.ask("DELETE", f"/orders/{placed.json()['id']}")
        assert told.status_code in (200, 202), told.text
        await api.settled(placed.json()["id"])
        assert list(await api.system.connector.fetch_open_orders("BTC/USDT")) == []


async def test_wrong_host_oversized_and_malformed_requests_are_problems_on_the_wire(
    tmp_path, simulator
):
    async with api_on_sockets(tmp_path, simulator.url) as api:
        evil = await api.http.get("/health/live", headers={"Host": "evil.example"})
        assert_problem(evil, 421, "unknown-host")
        big = await api.http.post("/webhooks/tradingview", content=b"x" * 9000)
        assert_problem(big, 413, "body-too-large")
        plain = await api.http.post("/webhooks/tradingview", content=b"BUY BTCUSDT 1")
        assert_problem(plain, 400, "malformed-body")
        nothing = await api.http.post("/orders", json=BUY)
        assert_problem(nothing, 401, "token-missing")
        wrong = await api.http.post("/webhooks/tradingview", json=ALERT | {"secret": "x"})
        assert_problem(wrong, 401, "secret-wrong")
        assert api.executor.state.orders == {}

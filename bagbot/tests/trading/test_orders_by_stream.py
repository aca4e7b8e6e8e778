"""Orders over the account's open connection: the same answers and errors as over REST."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from bagbot.domain.errors import (
    AuthenticationError,
    ExchangeError,
    OrderRejectedError,
    OutcomeUnknownError,
    RateLimitedError,
)
from bagbot.simulator.server import SimulatorServer
from bagbot.tests.conftest import API_KEY, API_SECRET
from bagbot.trading.connectors import BinanceConnector, ExchangeOrderStatus, StreamOpened
from bagbot.trading.connectors.interface import AccountEvent

ORDER = {"symbol": "BTC/USDT", "side": "buy", "type": "market", "amount": Decimal("0.01")}
PLACE = {"method": "WS", "path": "order.place"}


@contextlib.asynccontextmanager
async def listening(
    exchange: SimulatorServer, *, may_read: asyncio.Event | None = None, **options: Any
) -> AsyncIterator[tuple[BinanceConnector, list[AccountEvent]]]:
    """A connector whose events somebody iterates over, once the stream is open and he may."""
    events: list[AccountEvent] = []
    opened = asyncio.Event()

    async with BinanceConnector(
        API_KEY, API_SECRET, base_url=exchange.url, orders_by_stream=True, **options
    ) as connector:

        async def listen() -> None:
            async for event in connector.watch_events():
                events.append(event)
                if isinstance(event, StreamOpened):
                    opened.set()
                if may_read is not None:
                    await may_read.wait()

        listener = asyncio.create_task(listen())
        try:
            async with asyncio.timeout(5):
                await opened.wait()
            yield connector, events
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)


async def places(exchange: SimulatorServer) -> list[str]:
    async with aiohttp.ClientSession() as http, http.get(f"{exchange.url}/admin/requests") as told:
        requests = await told.json()
    return [r["path"] for r in requests if r["path"] in ("order.place", "/api/v3/order")]


async def fault(exchange: SimulatorServer, **what: Any) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{exchange.url}/admin/faults", json=PLACE | what) as told,
    ):
        assert told.status < 300, await told.text()


async def test_an_order_goes_over_the_open_stream_and_comes_back_with_its_fills(
    simulator: SimulatorServer,
) -> None:
    async with listening(simulator) as (connector, events):
        order = await connector.create_order(ORDER | {"clientOrderId": "mine"})
        assert order.status is ExchangeOrderStatus.CLOSED
        assert order.client_order_id == "mine"
        assert sum(fill.quantity for fill in order.fills) == Decimal("0.01")
        await asyncio.sleep(0.1)
        assert await places(simulator) == ["order.place"]
        assert len(events) >= 2, "its events come by the same connection"


async def test_without_an_open_stream_it_goes_over_rest(simulator: SimulatorServer) -> None:
    async with BinanceConnector(
        API_KEY, API_SECRET, base_url=simulator.url, orders_by_stream=True
    ) as connector:
        assert (await connector.create_order(ORDER)).status is ExchangeOrderStatus.CLOSED
    assert await places(simulator) == ["/api/v3/order"]


async def test_many_orders_at_once_get_each_their_own_answer(simulator: SimulatorServer) -> None:
    async with listening(simulator) as (connector, _):
        orders = await asyncio.gather(
            *(connector.create_order(ORDER | {"clientOrderId": f"n{n}"}) for n in range(30))
        )
        assert [order.client_order_id for order in orders] == [f"n{n}" for n in range(30)]
        assert len({order.id for order in orders}) == 30


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"amount": Decimal(100)}, -2010),
        ({"type": "limit", "price": Decimal("0.01"), "amount": Decimal(1)}, -1013),
        ({"params": {"timestamp": 1_000_000_000_000, "recvWindow": 3000}}, -1021),
        ({"params": {"nonsense": "1"}}, -1104),
    ],
)
async def test_a_refusal_is_the_same_as_over_rest(
    simulator: SimulatorServer, change: dict[str, Any], code: int
) -> None:
    async with listening(simulator) as (connector, _):
        with pytest.raises(OrderRejectedError) as refused:
            await connector.create_order(ORDER | change)
        assert refused.value.code == code
        assert await places(simulator) == ["order.place"]


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ({"kind": "lose_answer"}, OutcomeUnknownError),
        ({"kind": "lose_request"}, OutcomeUnknownError),
        ({"kind": "delay_answer", "delay_s": 5}, OutcomeUnknownError),
        ({"kind": "answer", "status": 503}, OutcomeUnknownError),
        (
            {
                "kind": "refuse",
                "status": 400,
                "body": {"code": -2010, "msg": "Duplicate order sent."},
            },
            OutcomeUnknownError,
        ),
        (
            {"kind": "refuse", "status": 401, "body": {"code": -2015, "msg": "Invalid API-key"}},
            AuthenticationError,
        ),
        (
            {"kind": "refuse", "status": 429, "body": {"code": -1003, "msg": "Too much"}},
            RateLimitedError,
        ),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)
async def test_what_is_not_a_certain_answer_is_an_unknown_outcome(
    simulator: SimulatorServer, what: dict[str, Any], kind: type[ExchangeError]
) -> None:
    async with listening(simulator, timeout_s=0.5) as (connector, _):
        await fault(simulator, **what)
        with pytest.raises(kind) as raised:
            await connector.create_order(ORDER)
        assert API_SECRET not in str(raised.value)
        assert await places(simulator) == ["order.place"], "it was sent once, and one way only"


async def test_too_many_over_the_stream_closes_rest_as_well(simulator: SimulatorServer) -> None:
    async with listening(simulator) as (connector, _):
        body = {"code": -1003, "msg": "Too much request weight used"}
        await fault(simulator, kind="refuse", status=429, body=body, retry_after_s=30)
        with pytest.raises(RateLimitedError):
            await connector.create_order(ORDER)
        with pytest.raises(RateLimitedError, match="was not sent"):
            await connector.fetch_balance()


@pytest.mark.parametrize("code", [-1003, -1015], ids=["too much of all", "too many orders"])
async def test_too_many_that_is_read_after_the_order_was_given_up_holds_back_what_comes(
    simulator: SimulatorServer, code: int
) -> None:
    may_read = asyncio.Event()
    async with listening(simulator, may_read=may_read, timeout_s=0.5) as (connector, _):
        body = {"code": code, "msg": "Too many."}
        await fault(simulator, kind="refuse", status=429, body=body, retry_after_s=30)
        with pytest.raises(OutcomeUnknownError):
            await connector.create_order(ORDER)
        may_read.set()
        await asyncio.sleep(0.1)
        with pytest.raises(RateLimitedError, match="was not sent"):
            await connector.create_order(ORDER)
        if code == -1015:
            await connector.fetch_balance()
        else:
            with pytest.raises(RateLimitedError, match="was not sent"):
                await connector.fetch_balance()

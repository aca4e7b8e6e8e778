"""Orders sent with a token: sent as often as need be, executed once at most."""

import asyncio
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bagbot.domain.order import OrderStatus
from bagbot.simulator.server import SimulatorServer
from bagbot.tests.test_order_path import FAST, TIMEOUT, ask, assert_agreed, submitted, trading
from bagbot.tests.test_reconciliation import hands, until
from bagbot.trading import order_tokens
from bagbot.trading.account_state import TOKEN_SOURCE
from bagbot.trading.order_executor import OrderExecutor

# An hour's fence: only the token can prove anything here.
TOKENS = replace(
    FAST,
    tokens_per_symbol=2,
    token_pause_s=0.2,
    fence_margin_ms=3_600_000,
    audit_interval_s=0.3,
    replica_lag_max_s=0.3,
)
PLACE = {"method": "POST", "path": "/api/v3/order/cancelReplace"}
POOR = {"code": -2010, "msg": "Account has insufficient balance for requested action."}
BTC = "BTC/USDT"


async def tokens_rest(executor: OrderExecutor) -> None:
    await until(lambda: free_tokens(executor) == TOKENS.tokens_per_symbol)


def free_tokens(executor: OrderExecutor) -> int:
    found = order_tokens.tokens(executor.state, BTC)
    return sum(token.status is OrderStatus.OPEN for token in found)


async def sends(exchange: SimulatorServer) -> int:
    asked = await ask(exchange, "GET", "/admin/requests")
    return sum((r["method"], r["path"]) == tuple(PLACE.values()) for r in asked)


async def assert_once_at_most(
    exchange: SimulatorServer, executor: OrderExecutor, times: int
) -> None:
    """Every id is at the exchange once at most, and the order in question `times` times."""
    placed = Counter(o["client_order_id"] for o in await ask(exchange, "GET", "/admin/orders"))
    assert set(placed.values()) <= {1}
    wanted = [o for o in executor.state.orders.values() if o.intent.source != TOKEN_SOURCE]
    assert sum(placed[o.client_order_id or ""] for o in wanted) == times
    await assert_agreed(exchange, executor)


@pytest.mark.parametrize(
    ("faults", "status", "requests_max"),
    [
        ([], OrderStatus.FILLED, 1),
        ([{"kind": "lose_answer"}], OrderStatus.FILLED, 3),
        ([{"kind": "lose_answer", "count": 9}], OrderStatus.FILLED, 3),
        ([{"kind": "lose_request"}], OrderStatus.FILLED, 2),
        ([{"kind": "lose_request", "count": 2}], OrderStatus.FILLED, 3),
        ([{"kind": "lose_request", "count": 9}], OrderStatus.NOT_ACCEPTED, 3),
        ([{"kind": "answer", "status": 503, "body": TIMEOUT}], OrderStatus.FILLED, 3),
        ([{"kind": "refuse", "status": 503, "body": TIMEOUT}], OrderStatus.FILLED, 2),
        # The first arrives after the second one has traded.
        ([{"kind": "delay_before", "delay_s": 0.8}], OrderStatus.FILLED, 2),
        # A repetition is refused though the first one has traded: that proves nothing.
        (
            [{"kind": "lose_answer"}, {"kind": "refuse", "status": 400, "body": POOR, "count": 9}],
            OrderStatus.FILLED,
            3,
        ),
        ([{"kind": "refuse", "status": 400, "body": POOR}], OrderStatus.REJECTED, 1),
    ],
    ids=lambda value: "+".join(f["kind"] for f in value) if isinstance(value, list) else None,
)
async def test_sent_as_often_as_need_be_it_is_executed_once_at_most(
    simulator: SimulatorServer,
    tmp_path: Path,
    faults: list[dict[str, Any]],
    status: OrderStatus,
    requests_max: int,
) -> None:
    async with trading(simulator, tmp_path, TOKENS) as executor:
        await tokens_rest(executor)
        for fault in faults:
            await ask(simulator, "POST", "/admin/faults", PLACE | fault)
        taken = await submitted(executor, "k1")
        order = await executor.until_settled(taken.id, 8)
        assert order.status is status, order
        # Fewer when the stream tells of the trade before the next repetition.
        assert 1 <= await sends(simulator) <= requests_max
        await ask(simulator, "DELETE", "/admin/faults")
        await assert_once_at_most(simulator, executor, int(status is OrderStatus.FILLED))
        # A new token takes the place of the one that was spent.
        await tokens_rest(executor)


async def test_a_send_that_arrives_after_all_finds_its_token_gone(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    """Its time window has not even passed: what bars it is the token, which was taken back."""
    once = replace(TOKENS, token_sends_max=1)
    async with trading(simulator, tmp_path, once) as executor:
        await tokens_rest(executor)
        await ask(
            simulator, "POST", "/admin/faults", PLACE | {"kind": "delay_before", "delay_s": 1.5}
        )
        executor._connector._recv_window_ms = 5_000  # type: ignore[attr-defined]
        taken = await submitted(executor, "k1")
        order = await executor.until_settled(taken.id, 8)
        assert order.status is OrderStatus.NOT_ACCEPTED
        await asyncio.sleep(1.5)
        asked = await ask(simulator, "GET", "/admin/requests")
        late = [r for r in asked if r["path"] == PLACE["path"]]
        assert [(r["status"], r["code"]) for r in late] == [(400, -2022)]
        await assert_once_at_most(simulator, executor, 0)


async def test_an_order_in_doubt_when_bagbot_dies_is_settled_by_its_token_at_the_start(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    once = replace(TOKENS, token_sends_max=1, probe_interval_s=0.2)
    async with trading(simulator, tmp_path, once) as executor:
        await tokens_rest(executor)
        await ask(simulator, "POST", "/admin/faults", PLACE | {"kind": "lose_request"})
        taken = await submitted(executor, "k1")
        await asyncio.sleep(0.05)
    async with trading(simulator, tmp_path, once) as executor:
        order = await executor.until_settled(taken.id, 8)
        assert order.status is OrderStatus.NOT_ACCEPTED
        assert order_tokens.is_barred(executor.state, order)
        await assert_once_at_most(simulator, executor, 0)
        # The tokens of before still rest, and no more are made than asked for.
        await tokens_rest(executor)
        await asyncio.sleep(0.5)
        rests = [o for o in await ask(simulator, "GET", "/admin/orders") if o["status"] == "NEW"]
        assert len(rests) == TOKENS.tokens_per_symbol


async def test_a_token_that_somebody_took_away_lets_nothing_be_executed(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path, TOKENS) as executor, hands(simulator) as somebody:
        await tokens_rest(executor)
        # The stream says nothing of it, so bagbot goes on believing in its tokens.
        await ask(simulator, "POST", "/admin/faults", {"kind": "half_open", "path": "user"})
        for token in order_tokens.tokens(executor.state, BTC):
            await somebody.cancel_order(str(token.exchange_order_id), BTC)
        taken = await submitted(executor, "k1")
        order = await executor.until_settled(taken.id, 8)
        assert order.status is OrderStatus.NOT_ACCEPTED
        await assert_once_at_most(simulator, executor, 0)


async def test_a_token_whose_order_was_refused_is_cancelled(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path, TOKENS) as executor:
        await tokens_rest(executor)
        refused = PLACE | {"kind": "refuse", "status": 400, "body": POOR}
        await ask(simulator, "POST", "/admin/faults", refused)
        taken = await submitted(executor, "k1")
        order = await executor.until_settled(taken.id, 8)
        assert order.status is OrderStatus.REJECTED
        spent = await executor.until_settled(order.sends[0].token, 8)
        assert spent.status is OrderStatus.CANCELLED
        await tokens_rest(executor)
        rests = [o for o in await ask(simulator, "GET", "/admin/orders") if o["status"] == "NEW"]
        assert len(rests) == TOKENS.tokens_per_symbol


async def test_without_a_token_an_order_goes_the_plain_way(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path, replace(TOKENS, tokens_per_symbol=0)) as executor:
        taken = await submitted(executor, "k1")
        order = await executor.until_settled(taken.id, 8)
        assert order.status is OrderStatus.FILLED
        assert order.sends[0].token == ""
        assert await sends(simulator) == 0


async def test_tokens_are_far_from_the_market_and_no_part_of_a_planned_position(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path, TOKENS) as executor:
        await tokens_rest(executor)
        view = executor.view(BTC)
        assert view.expected == view.position == 0
        pending, _ = executor.state.pending(BTC)
        assert pending > 0
        price = executor._prices.price(BTC)
        assert price is not None
        for token in order_tokens.tokens(executor.state, BTC):
            request = token.intent.request
            assert request.price is not None
            assert request.price <= price * Decimal("0.51")
            assert request.price * request.amount < 12

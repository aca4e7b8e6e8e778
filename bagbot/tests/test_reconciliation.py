"""Our books and the exchange's, over real sockets: what is foreign, left over, or gone.

The account has a second pair of hands here: a connector that trades past the executor.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bagbot.domain.errors import ExchangeUnavailableError, RateLimitedError
from bagbot.domain.order import OrderStatus
from bagbot.simulator.server import SimulatorServer
from bagbot.tests.conftest import API_KEY, API_SECRET
from bagbot.tests.test_order_path import BY_STREAM, ask, submitted, trading
from bagbot.trading.account_state import EXTERNAL
from bagbot.trading.connectors import BinanceConnector, binance_connector
from bagbot.trading.order_executor import OrderExecutor
from bagbot.trading.submission import ExecutorSettings, OrderConflictError

AUDITED = ExecutorSettings(
    send_timeout_s=0.6,
    probe_interval_s=0.1,
    poll_interval_s=0.3,
    audit_interval_s=0.2,
    fence_margin_ms=500,
    replica_lag_max_s=0.3,
)
ACCOUNT = {"method": "GET", "path": "/api/v3/account", "kind": "answer", "status": 200}


@contextlib.asynccontextmanager
async def hands(exchange: SimulatorServer) -> AsyncIterator[BinanceConnector]:
    async with BinanceConnector(API_KEY, API_SECRET, base_url=exchange.url) as connector:
        yield connector


def market(side: str, amount: str) -> dict[str, object]:
    return {"symbol": "BTC/USDT", "side": side, "type": "market", "amount": amount}


async def until(is_so: Callable[[], bool], timeout_s: float = 8) -> None:
    end_s = asyncio.get_running_loop().time() + timeout_s
    while asyncio.get_running_loop().time() < end_s:
        if is_so():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come to be so in time")


async def whole_price(exchange: SimulatorServer) -> Decimal:
    ticker = await ask(exchange, "GET", "/api/v3/ticker/price?symbol=BTCUSDT")
    return Decimal(ticker["price"]).quantize(Decimal(1))


async def assert_explained(exchange: SimulatorServer, executor: OrderExecutor) -> None:
    """What the books expect is what the exchange holds, to the last digit."""
    held = await ask(exchange, "GET", "/admin/balances")
    expected = executor.state.holdings.expected
    for asset, balance in held.items():
        assert expected.get(asset, Decimal(0)) == sum(map(Decimal, balance.values())), asset
    assert executor.disputes == {}


async def test_a_trade_by_hand_is_booked_as_external_and_leaves_our_position_alone(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path, AUDITED) as executor, hands(simulator) as somebody:
        ours = await submitted(executor, "ours", amount="0.02")
        await somebody.create_order(market("buy", "0.05"))
        await executor.until_settled(ours.id, 5)
        await until(lambda: len(executor.state.external_fills) > 0)
        ledger = executor.state.ledger
        assert ledger.position("main", "BTC/USDT").quantity == Decimal("0.02") * Decimal("0.999")
        assert ledger.position(EXTERNAL, "BTC/USDT").quantity == Decimal("0.05") * Decimal("0.999")
        await asyncio.sleep(0.5)
        await assert_explained(simulator, executor)
        executions = await ask(simulator, "GET", "/admin/trades")
        state = executor.state
        assert len(state.fills) + len(state.external_fills) == len(executions)


async def test_what_others_traded_while_bagbot_was_down_is_booked_at_the_start(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path, AUDITED) as executor:
        ours = await submitted(executor, "ours")
        await executor.until_settled(ours.id, 5)
    async with hands(simulator) as somebody:
        for amount in ("0.01", "0.02", "0.03"):
            await somebody.create_order(market("buy", amount))
        await somebody.create_order(market("sell", "0.04"))
    async with trading(simulator, tmp_path, AUDITED) as executor:
        # No waiting: who is ready has read every trade.
        fills = executor.state.external_fills
        assert sum(fill.fill.quantity for fill in fills) == Decimal("0.10")
        await assert_explained(simulator, executor)
        before = executor.state.holdings
    async with trading(simulator, tmp_path, AUDITED) as executor:
        # How far they are settled may have moved on meanwhile.
        assert replace(executor.state.holdings, covered=before.covered) == before


async def test_a_list_of_trades_may_take_longer_than_a_single_question(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    """As one of many pages does: given up halfway it would begin anew for ever."""
    hasty = replace(AUDITED, read_timeout_s=0.4)
    async with trading(simulator, tmp_path, hasty) as executor, hands(simulator) as somebody:
        slow = {"kind": "delay_answer", "path": "/api/v3/myTrades", "delay_s": 0.8}
        await ask(simulator, "POST", "/admin/faults", slow | {"count": 1_000_000})
        await somebody.create_order(market("buy", "0.05"))
        await until(lambda: len(executor.state.external_fills) > 0)
        await assert_explained(simulator, executor)


async def test_many_foreign_orders_are_asked_for_at_once(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path, AUDITED) as executor:
        ours = await submitted(executor, "ours")
        await executor.until_settled(ours.id, 5)
    async with hands(simulator) as somebody:
        for _ in range(30):
            await somebody.create_order(market("buy", "0.001"))
    before = len(await ask(simulator, "GET", "/admin/requests"))
    async with trading(simulator, tmp_path, AUDITED) as executor:
        asked = (await ask(simulator, "GET", "/admin/requests"))[before:]
        assert sum(fill.fill.quantity for fill in executor.state.external_fills) == Decimal("0.03")
        assert not [r for r in asked if (r["method"], r["path"]) == ("GET", "/api/v3/order")]
        await assert_explained(simulator, executor)


async def test_a_foreign_trade_in_a_symbol_that_is_not_ours_is_booked_when_it_is_told(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    """Only BTC/USDT is allowed here, but dollars are dollars."""
    async with trading(simulator, tmp_path, AUDITED) as executor, hands(simulator) as somebody:
        await somebody.create_order(market("buy", "0.5") | {"symbol": "ETH/USDT"})
        await until(lambda: executor.state.ledger.position(EXTERNAL, "ETH/USDT").quantity > 0)
        await asyncio.sleep(0.5)
        await assert_explained(simulator, executor)


async def test_an_order_by_hand_is_seen_and_never_cancelled(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    price = await whole_price(simulator)
    resting = {"symbol": "BTC/USDT", "side": "buy", "type": "limit", "amount": "0.01"}
    async with hands(simulator) as somebody:
        before = await somebody.create_order(resting | {"price": str(price - 4000)})
        async with trading(simulator, tmp_path, AUDITED) as executor:
            seen = executor.state.holdings.external_orders
            assert seen["BTC/USDT", before.id].is_open
            later = await somebody.create_order(resting | {"price": str(price - 500)})
            await until(lambda: ("BTC/USDT", later.id) in seen)
            assert executor.state.orders == {}
            await ask(simulator, "POST", f"/admin/price?symbol=BTCUSDT&price={price - 800}")
            await until(lambda: not seen["BTC/USDT", later.id].is_open)
            await until(lambda: len(executor.state.external_fills) > 0)
            await asyncio.sleep(0.3)
            await assert_explained(simulator, executor)
        rests = await somebody.fetch_open_orders("BTC/USDT")
        assert [order.id for order in rests] == [before.id]
    asked = await ask(simulator, "GET", "/admin/requests")
    assert not [request for request in asked if request["method"] == "DELETE"]


async def forged(exchange: SimulatorServer, asset: str, change: str, count: int) -> None:
    """Let the exchange tell a balance that differs by `change`."""
    held = await ask(exchange, "GET", "/admin/balances")
    rows = [
        {
            "asset": name,
            "free": str(Decimal(held[name]["free"]) + (Decimal(change) if name == asset else 0)),
            "locked": held[name]["locked"],
        }
        for name in held
    ]
    fault = ACCOUNT | {"count": count, "body": {"balances": rows}}
    await ask(exchange, "POST", "/admin/faults", fault)


async def test_what_no_trade_explains_is_an_alarm_that_allows_reducing_only(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path, AUDITED) as executor:
        first = await submitted(executor, "first", amount="0.05")
        await executor.until_settled(first.id, 5)
        await asyncio.sleep(0.3)
        await forged(simulator, "BTC", "-0.5", 1_000_000)
        await until(lambda: "BTC/USDT" in executor.disputes)
        assert "holds -0.5" in executor.disputes["BTC/USDT"]
        assert executor.state.external_fills == []
        assert executor.state.ledger.position("main", "BTC/USDT").quantity == Decimal("0.04995")
        blocked = await submitted(executor, "more")
        assert blocked.status is OrderStatus.REFUSED
        closing = await submitted(executor, "less", side="sell")
        assert closing.status is not OrderStatus.REFUSED
        await executor.until_settled(closing.id, 5)
    # It is in the journal: a restart does not forget it.
    await ask(simulator, "DELETE", "/admin/faults")
    await forged(simulator, "BTC", "-0.5", 1_000_000)
    async with trading(simulator, tmp_path, AUDITED) as executor:
        assert "BTC/USDT" in executor.disputes
        await executor.set_kill_switch(None, by="a human who looked")
        await until(lambda: executor.state.holdings.baseline is not None)
        assert executor.disputes == {}
        await asyncio.sleep(0.5)
        assert executor.disputes == {}


async def test_an_alarm_can_be_put_aside_in_the_middle_of_an_audit(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    """Putting it aside closes the books, under an audit that is reading trades for them."""
    async with trading(simulator, tmp_path, AUDITED) as executor:
        await forged(simulator, "BTC", "-0.5", 1_000_000)
        await until(lambda: "BTC/USDT" in executor.disputes)
        slow = {"method": "GET", "path": "/api/v3/myTrades", "kind": "delay_answer"}
        for delay_s in (0.05, 0.1, 0.2):
            await ask(simulator, "POST", "/admin/faults", slow | {"delay_s": delay_s, "count": 1})
            audit = asyncio.create_task(executor._reconciliation.is_explained())
            await asyncio.sleep(delay_s / 2)
            await executor.set_kill_switch(None, by="a human who looked")
            await audit
        await until(lambda: executor.state.holdings.baseline is not None)
        await asyncio.sleep(0.5)
        assert executor.not_ready_reason is None
        assert executor.disputes == {}


async def test_a_residual_that_is_there_at_the_start_is_found_before_the_first_order(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path, AUDITED):
        pass
    await forged(simulator, "USDT", "100", 1_000_000)
    async with trading(simulator, tmp_path, AUDITED) as executor:
        refused = await submitted(executor, "k1")
        assert refused.status is OrderStatus.REFUSED
        await until(lambda: executor.state.holdings.residuals == {"USDT": Decimal(100)})
        assert "holds +100" in executor.disputes["BTC/USDT"]


async def test_a_balance_that_lags_behind_its_trade_is_no_residual(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path, AUDITED) as executor:
        await forged(simulator, "BTC", "0.00000001", 4)
        await until(lambda: executor._reconciliation._suspected != {})
        await until(lambda: executor._reconciliation._suspected == {})
        assert executor.disputes == {}
        taken = await submitted(executor, "k1")
        assert (await executor.until_settled(taken.id, 5)).status is OrderStatus.FILLED


async def test_an_order_is_not_given_up_while_a_balance_is_unexplained(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path, AUDITED) as executor:
        await ask(simulator, "POST", "/admin/faults", BY_STREAM | {"kind": "lose_request"})
        await forged(simulator, "BTC", "0.00999", 1_000_000)
        taken = await submitted(executor, "k1")
        await until(lambda: "BTC/USDT" in executor.disputes)
        await asyncio.sleep(1)
        assert executor.state.orders[taken.id].status is OrderStatus.UNKNOWN
        pending, _ = executor.state.pending("BTC/USDT")
        assert pending == Decimal("0.01")
        # Once all is explained again the proof is complete.
        await ask(simulator, "DELETE", "/admin/faults")
        given_up = await executor.until_settled(taken.id, 8)
        assert given_up.status is OrderStatus.NOT_ACCEPTED
        await until(lambda: executor.disputes == {})


async def test_an_exchange_that_forgot_everything_is_an_alarm_and_nothing_is_invented(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    price = await whole_price(simulator)
    async with trading(simulator, tmp_path, AUDITED) as executor:
        rests = await submitted(executor, "rests", type="limit", price=str(price - 3000))
        bought = await submitted(executor, "bought")
        await executor.until_settled(bought.id, 5)
        await until(lambda: bool(executor.state.holdings.covered["BTC/USDT"]))
        fills = list(executor.state.fills)
    async with (
        SimulatorServer(simulator.settings) as amnesiac,
        trading(amnesiac, tmp_path, AUDITED) as executor,
    ):
        assert "no longer knows trade" in executor.disputes["BTC/USDT"]
        await until(lambda: "BTC" in executor.state.holdings.residuals)
        assert executor.state.orders[rests.id].status is OrderStatus.OPEN
        assert executor.state.fills == fills
        assert executor.state.external_fills == []
        blocked = await submitted(executor, "more")
        assert blocked.status is OrderStatus.REFUSED
        # A human who has looked takes what is there now for the truth.
        await executor.set_kill_switch(None, by="a human who looked")
        await until(lambda: executor.state.holdings.baseline is not None)
        taken = await submitted(executor, "again")
        assert (await executor.until_settled(taken.id, 5)).status is OrderStatus.FILLED


async def test_an_order_that_the_exchange_forgot_is_an_alarm_once(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    price = await whole_price(simulator)
    async with trading(simulator, tmp_path, AUDITED) as executor:
        rests = await submitted(executor, "rests", type="limit", price=str(price - 3000))
        await until(lambda: executor.state.orders[rests.id].status is OrderStatus.OPEN)
        hide = {"kind": "hide", "count": 1_000_000}
        await ask(simulator, "POST", "/admin/faults", hide)
        # As long as it is among the open orders it is not forgotten.
        await asyncio.sleep(1)
        assert executor.disputes == {}
        none_open = {"kind": "answer", "path": "/api/v3/openOrders", "status": 200, "body": {}}
        await ask(simulator, "POST", "/admin/faults", hide | none_open)
        await until(lambda: "BTC/USDT" in executor.disputes)
        assert "no longer knows order" in executor.disputes["BTC/USDT"]
        assert executor.state.orders[rests.id].status is OrderStatus.OPEN
        await executor.set_kill_switch(None, by="a human who looked")
        await asyncio.sleep(1)
        assert executor.disputes == {}


async def test_a_forgotten_order_ends_when_a_human_writes_it_off(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    price = await whole_price(simulator)
    async with trading(simulator, tmp_path, AUDITED) as executor:
        rests = await submitted(executor, "rests", type="limit", price=str(price - 3000))
        await until(lambda: executor.state.orders[rests.id].status is OrderStatus.OPEN)
        with pytest.raises(OrderConflictError, match="may still arrive"):
            await executor.write_off(rests.id, "in a hurry", by="a human")
        await asyncio.sleep(1.1)
        with pytest.raises(OrderConflictError, match="as OPEN: cancel it"):
            await executor.write_off(rests.id, "by mistake", by="a human")
        assert executor.state.orders[rests.id].status is OrderStatus.OPEN
    async with SimulatorServer(simulator.settings) as amnesiac:
        async with trading(amnesiac, tmp_path, AUDITED) as executor:
            reserved, _ = executor.state.pending("BTC/USDT")
            assert reserved == Decimal("0.01")
            ended = await executor.write_off(rests.id, "the venue was reset", by="a human")
            assert ended.status is OrderStatus.CANCELLED
            assert ended.reason == "written off by a human: the venue was reset"
            assert executor.state.pending("BTC/USDT") == (0, 0)
            with pytest.raises(OrderConflictError, match="CANCELLED already"):
                await executor.write_off(rests.id, "once more", by="a human")
        async with trading(amnesiac, tmp_path, AUDITED) as executor:
            assert executor.state.orders[rests.id] == ended


async def test_what_is_written_off_and_trades_after_all_is_booked(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    price = await whole_price(simulator)
    hidden = {"kind": "hide", "count": 1_000_000}
    none_open = {"kind": "answer", "path": "/api/v3/openOrders", "status": 200, "body": {}}
    async with trading(simulator, tmp_path, AUDITED) as executor:
        rests = await submitted(executor, "rests", type="limit", price=str(price - 3000))
        await until(lambda: executor.state.orders[rests.id].status is OrderStatus.OPEN)
        await asyncio.sleep(1.1)
        for fault in (hidden, none_open | {"count": 1_000_000}):
            await ask(simulator, "POST", "/admin/faults", fault)
        await executor.write_off(rests.id, "it looked gone", by="a human")
        await ask(simulator, "POST", f"/admin/price?symbol=BTCUSDT&price={price - 4000}")
        await until(lambda: executor.state.orders[rests.id].filled == Decimal("0.01"))
        position = executor.state.ledger.position("main", "BTC/USDT").quantity
        assert position == Decimal("0.00999")


async def test_an_order_with_our_mark_that_the_journal_lacks_is_an_alarm(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    price = await whole_price(simulator)
    for folder in ("first", "lost"):
        (tmp_path / folder).mkdir()
    async with trading(simulator, tmp_path / "first", AUDITED) as executor:
        rests = await submitted(executor, "rests", type="limit", price=str(price - 3000))
        await until(lambda: executor.state.orders[rests.id].status is OrderStatus.OPEN)
    async with trading(simulator, tmp_path / "lost", AUDITED) as executor:
        assert "bears the mark of bagbot" in executor.disputes["BTC/USDT"]
        open_orders = await ask(simulator, "GET", "/admin/orders")
        assert [order["status"] for order in open_orders] == ["NEW"]


@pytest.mark.parametrize("is_down", [False, True], ids=["running", "down"])
async def test_an_order_in_doubt_is_found_by_its_trade(
    simulator: SimulatorServer, tmp_path: Path, *, is_down: bool
) -> None:
    """The direct query does not find it; its trade does, which is read by its id."""
    never = ExecutorSettings(send_timeout_s=0.6, probe_interval_s=60, fence_margin_ms=60_000)
    lost = [BY_STREAM | {"kind": "lose_answer"}, {"kind": "drop", "path": "user", "count": 1000}]
    async with trading(simulator, tmp_path, never) as executor:
        await ask(simulator, "POST", "/admin/faults", lost)
        taken = await submitted(executor, "k1")
        await until(lambda: executor.state.orders[taken.id].status is OrderStatus.UNKNOWN)
        if not is_down:
            assert await executor._reconciliation.is_explained()
            assert executor.state.orders[taken.id].status is OrderStatus.FILLED
    async with trading(simulator, tmp_path, never) as executor:
        assert executor.state.orders[taken.id].status is OrderStatus.FILLED
        assert executor.state.external_fills == []
        await assert_explained(simulator, executor)


@pytest.mark.parametrize(
    "status",
    [429, 418],
)
async def test_after_too_many_nothing_is_sent_until_the_wait_is_over(
    simulator: SimulatorServer, tmp_path: Path, status: int
) -> None:
    """By the exchange's own log: no read, no order, no cancel, no new stream."""
    busy = ExecutorSettings(
        probe_interval_s=0.05, poll_interval_s=0.1, audit_interval_s=0.1, price_interval_s=0.1
    )
    price = await whole_price(simulator)
    async with trading(simulator, tmp_path, busy) as executor:
        rests = await submitted(executor, "rests", type="limit", price=str(price - 500))
        lower = await submitted(executor, "lower", type="limit", price=str(price - 3000))
        await until(lambda: executor.state.orders[lower.id].status is OrderStatus.OPEN)
        too_many = {"code": -1003, "msg": "Too much request weight used."}
        refusal = {"kind": "refuse", "status": status, "body": too_many, "retry_after_s": 2}
        await ask(simulator, "POST", "/admin/faults", refusal | {"method": "GET"})
        await asyncio.sleep(0.4)
        # The stream breaks in the meantime, too, and people order and cancel.
        await ask(simulator, "POST", "/admin/faults", {"kind": "cut", "path": "user"})
        await ask(simulator, "POST", f"/admin/price?symbol=BTCUSDT&price={price - 800}")
        during = await submitted(executor, "during")
        with pytest.raises(RateLimitedError):
            await executor.cancel(lower.id)
        assert (await executor.until_settled(during.id, 2)).status is OrderStatus.REJECTED
        # Afterwards all goes on, and what happened meanwhile is known.
        assert (await executor.until_settled(rests.id, 8)).status is OrderStatus.FILLED
        after = await submitted(executor, "after")
        assert (await executor.until_settled(after.id, 8)).status is OrderStatus.FILLED
    log = await ask(simulator, "GET", "/admin/requests")
    received_s = [request["received_monotonic_ns"] / 1e9 for request in log]
    refused_s = [at for at, request in zip(received_s, log, strict=True) if request["fault"]][-1]
    # What was in flight by then had left before the answer could arrive.
    gap = [at - refused_s for at in received_s if at > refused_s + 0.1]
    assert min(gap) >= 2
    assert "userDataStream.subscribe.signature" in [
        request["path"] for at, request in zip(received_s, log, strict=True) if at > refused_s
    ]


async def test_every_page_of_trades_is_read(
    simulator: SimulatorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by an account that had not traded at all when its books began."""
    async with trading(simulator, tmp_path, AUDITED):
        pass
    async with hands(simulator) as somebody:
        for _ in range(10):
            await somebody.create_order(market("buy", "0.001"))
    monkeypatch.setattr(binance_connector, "_PAGE", 3)
    async with trading(simulator, tmp_path, AUDITED) as executor:
        assert len(executor.state.external_fills) == 10
        await assert_explained(simulator, executor)


async def test_the_books_begin_with_both_rows_of_a_trade_with_oneself(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with hands(simulator) as somebody:
        # The market may move in between: then once more.
        for _ in range(20):
            ticker = await ask(simulator, "GET", "/api/v3/ticker/bookTicker?symbol=BTCUSDT")
            middle = (Decimal(ticker["bidPrice"]) + Decimal(ticker["askPrice"])) / 2
            at = {"type": "limit", "price": str(middle.quantize(Decimal("0.01")))}
            for side in ("buy", "sell"):
                await somebody.create_order(market(side, "0.001") | at)
            for order in await somebody.fetch_open_orders("BTC/USDT"):
                await somebody.cancel_order(order.id, "BTC/USDT")
            trades = await somebody.fetch_my_trades("BTC/USDT", from_trade_id="0")
            if len(trades) > 1 and trades[-1].fill.trade_id == trades[-2].fill.trade_id:
                break
        assert trades[-1].fill.trade_id == trades[-2].fill.trade_id
    for _ in range(2):
        async with trading(simulator, tmp_path, AUDITED) as executor:
            assert executor.state.external_fills == []
            await assert_explained(simulator, executor)


async def test_an_answer_about_another_order_makes_no_trade_its_own(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path, AUDITED) as executor, hands(simulator) as somebody:
        ours = await submitted(executor, "ours")
        await executor.until_settled(ours.id, 5)
        truth = executor.state.orders[ours.id]
        twin = dict(await one_order(somebody, str(truth.exchange_order_id)))
        wrong = {"kind": "answer", "method": "GET", "path": "/api/v3/order", "status": 200}
        await ask(simulator, "POST", "/admin/faults", wrong | {"body": twin | {"orderId": 10**6}})
        await ask(simulator, "POST", "/admin/faults", {"kind": "cut", "path": "user"})
        theirs = await somebody.create_order(market("buy", "0.02"))
        await until(lambda: len(executor.state.external_fills) > 0)
        assert {fill.exchange_order_id for fill in executor.state.external_fills} == {theirs.id}
        assert executor.state.orders[ours.id] == truth
        assert await ask(simulator, "GET", "/admin/faults") == []
        await asyncio.sleep(0.3)
        await assert_explained(simulator, executor)


async def one_order(connector: BinanceConnector, order_id: str) -> Mapping[str, object]:
    return (await connector.fetch_order(order_id, "BTC/USDT")).info


async def test_the_books_begin_before_the_first_order_or_nothing_does(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    broken = {"kind": "refuse", "method": "GET", "path": "/api/v3/myTrades", "status": 500}
    await ask(simulator, "POST", "/admin/faults", broken)
    with pytest.raises(ExchangeUnavailableError):
        async with trading(simulator, tmp_path, AUDITED):
            pass
    async with trading(simulator, tmp_path, AUDITED) as executor:
        assert executor.state.holdings.baseline is not None


async def test_the_books_wait_for_what_else_trades_the_account_and_never_begin_without_it(
    simulator: SimulatorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = 100
    fetch = BinanceConnector.fetch_my_trades

    async def traded_meanwhile(self: BinanceConnector, *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if left:
            left -= 1
            await somebody.create_order(market("buy", "0.001"))
        return await fetch(self, *args, **kwargs)

    async with hands(simulator) as somebody:
        monkeypatch.setattr(BinanceConnector, "fetch_my_trades", traded_meanwhile)
        with pytest.raises(ExchangeUnavailableError, match="each of the 10 times"):
            async with trading(simulator, tmp_path, AUDITED):
                pass
        left = 3
        async with trading(simulator, tmp_path, AUDITED) as executor:
            assert left == 0
            assert executor.state.holdings.baseline is not None
            await assert_explained(simulator, executor)


async def test_one_search_tells_of_many_orders_that_never_arrived(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    lost = {"on": "orders", "kind": "lose_request", "count": 12}
    async with trading(simulator, tmp_path, AUDITED) as executor:
        await ask(simulator, "POST", "/admin/faults", lost)
        orders = [await submitted(executor, f"lost {number}") for number in range(12)]
        for order in orders:
            settled = await executor.until_settled(order.id, 20)
            assert settled.status is OrderStatus.NOT_ACCEPTED, settled
        requests = await ask(simulator, "GET", "/admin/requests")
        searches = [each for each in requests if each["path"] == "/api/v3/allOrders"]
        # Each reads one page of history; one for each order would be twelve at least.
        assert 1 <= len(searches) < 6
        assert executor.disputes == {}


async def test_what_rests_is_asked_for_at_once_at_the_start(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with trading(simulator, tmp_path, AUDITED) as executor:
        price = await whole_price(simulator) - 500
        orders = [
            await submitted(executor, f"rest {number}", type="limit", price=str(price))
            for number in range(8)
        ]
        for order in orders:
            await until(lambda id=order.id: executor.state.orders[id].status is OrderStatus.OPEN)
    before = len(await ask(simulator, "GET", "/admin/requests"))
    async with trading(simulator, tmp_path, AUDITED) as executor:
        assert {o.status for o in executor.state.orders.values()} == {OrderStatus.OPEN}
        requests = (await ask(simulator, "GET", "/admin/requests"))[before:]
        singly = [each for each in requests if each["path"] == "/api/v3/order"]
        assert len(singly) < 3


async def test_many_orders_in_doubt_do_not_keep_a_start_waiting(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    lost = {"on": "orders", "kind": "lose_request", "count": 8}
    patient = replace(AUDITED, probe_interval_s=60)
    async with trading(simulator, tmp_path, patient) as executor:
        await ask(simulator, "POST", "/admin/faults", lost)
        orders = [await submitted(executor, f"lost {number}") for number in range(8)]
        for order in orders:
            await until(lambda id=order.id: executor.state.orders[id].status is OrderStatus.UNKNOWN)
    before = len(await ask(simulator, "GET", "/admin/requests"))
    async with trading(simulator, tmp_path, AUDITED) as executor:
        requests = (await ask(simulator, "GET", "/admin/requests"))[before:]
        assert len([each for each in requests if each["path"] == "/api/v3/order"]) < 3
        for order in orders:
            settled = await executor.until_settled(order.id, 20)
            assert settled.status is OrderStatus.NOT_ACCEPTED, settled


async def test_what_is_written_off_and_rests_there_after_all_is_an_alarm_until_it_ends(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    price = await whole_price(simulator)
    async with trading(simulator, tmp_path, AUDITED) as executor:
        rests = await submitted(executor, "rests", type="limit", price=str(price - 3000))
        await until(lambda: executor.state.orders[rests.id].status is OrderStatus.OPEN)
        await asyncio.sleep(1.1)
        none_open = {"kind": "answer", "path": "/api/v3/openOrders", "status": 200, "body": {}}
        for fault in ({"kind": "hide", "count": 1_000_000}, none_open | {"count": 1_000_000}):
            await ask(simulator, "POST", "/admin/faults", fault)
        written_off = await executor.write_off(rests.id, "it looked gone", by="a human")
        assert written_off.status is OrderStatus.CANCELLED
        await ask(simulator, "DELETE", "/admin/faults")
        await until(lambda: "BTC/USDT" in executor.disputes)
        said = executor.disputes["BTC/USDT"]
        assert f"order {rests.id} was written off, and the exchange has it open" in said
        # A human ends it there, looks, and puts the alarm aside.
        async with hands(simulator) as somebody:
            await somebody.cancel_order(written_off.exchange_order_id or "", "BTC/USDT")
        await executor.set_kill_switch(None, by="a human who looked")
        await asyncio.sleep(1)
        assert executor.disputes == {}
        taken = await submitted(executor, "again")
        assert (await executor.until_settled(taken.id, 5)).status is OrderStatus.FILLED


@pytest.mark.parametrize("is_down", [False, True], ids=["running", "down"])
async def test_a_symbol_that_is_traded_no_more_keeps_nobody_from_trading_the_others(
    simulator: SimulatorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_down: bool
) -> None:
    """What somebody traded in it once is in the journal, and its trades can't be read any more."""
    monkeypatch.setattr(binance_connector, "_INSTRUMENTS_STALE_AFTER_S", 1.0)

    async def goes_on(executor: OrderExecutor) -> None:
        await until(lambda: "ETH/USDT" not in executor.instruments)
        lost = BY_STREAM | {"kind": "lose_request"}
        await ask(simulator, "POST", "/admin/faults", lost)
        taken = await submitted(executor, "lost")
        # It takes a whole audit to give an order up.
        given_up = await executor.until_settled(taken.id, 20)
        assert given_up.status is OrderStatus.NOT_ACCEPTED
        taken = await submitted(executor, "taken")
        assert (await executor.until_settled(taken.id, 5)).status is OrderStatus.FILLED
        assert executor.not_ready_reason is None
        await assert_explained(simulator, executor)

    async with trading(simulator, tmp_path, AUDITED) as executor, hands(simulator) as somebody:
        await somebody.create_order(market("buy", "0.5") | {"symbol": "ETH/USDT"})
        await until(lambda: executor.state.ledger.position(EXTERNAL, "ETH/USDT").quantity > 0)
        if not is_down:
            await ask(simulator, "POST", "/admin/acts", {"act": "delist", "symbol": "ETHUSDT"})
            await goes_on(executor)
    if is_down:
        await ask(simulator, "POST", "/admin/acts", {"act": "delist", "symbol": "ETHUSDT"})
        async with trading(simulator, tmp_path, AUDITED) as executor:
            await goes_on(executor)


async def test_an_order_goes_by_the_steps_that_the_exchange_has_now(
    simulator: SimulatorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binance_connector, "_INSTRUMENTS_STALE_AFTER_S", 1.0)
    price = await whole_price(simulator)
    async with trading(simulator, tmp_path, AUDITED) as executor:
        coarser = {"act": "symbol", "symbol": "BTCUSDT", "tickSize": "7", "stepSize": "0.003"}
        await ask(simulator, "POST", "/admin/acts", coarser)
        await until(lambda: executor.instruments["BTC/USDT"].tick_size == Decimal(7))
        rests = await submitted(executor, "rests", type="limit", price=str(price - 1000))
        await until(lambda: executor.state.orders[rests.id].status is OrderStatus.OPEN)
        sent = executor.state.orders[rests.id].intent.request
        assert sent.price is not None
        assert (sent.price % 7, sent.amount) == (0, Decimal("0.009"))


async def test_an_audit_comes_to_an_end_though_we_trade_all_the_time(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    """Reading all trades takes longer than it takes us to make the next one."""
    async with trading(simulator, tmp_path, AUDITED) as executor:
        slow = {"kind": "delay_answer", "path": "/api/v3/myTrades", "delay_s": 0.3}
        await ask(simulator, "POST", "/admin/faults", slow | {"count": 1_000_000})
        is_over = asyncio.Event()

        async def busy() -> None:
            number = 0
            while not is_over.is_set():
                number += 1
                side = "buy" if number % 2 else "sell"
                taken = await submitted(executor, f"k{number}", side=side)
                await executor.until_settled(taken.id, 5)
                await asyncio.sleep(0.1)

        trading_on = asyncio.create_task(busy())
        try:
            explained = [await executor._reconciliation.is_explained() for _ in range(8)]
        finally:
            is_over.set()
            await trading_on
        assert any(explained)
        assert executor.disputes == {}

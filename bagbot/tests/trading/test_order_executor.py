"""The path of an order through the executor and the real journal."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from bagbot.domain.errors import (
    AuthenticationError,
    ExchangeUnavailableError,
    InvalidOrderError,
    JournalError,
    OrderRejectedError,
    OutcomeUnknownError,
    RateLimitedError,
)
from bagbot.domain.order import OrderIntent, OrderRequest, OrderStatus, intent_id
from bagbot.storage.journal import Record
from bagbot.storage.sqlite_journal import SqliteJournal
from bagbot.system_clock import SystemClock
from bagbot.tests.trading.strangers_exchange import StrangersConnector
from bagbot.trading.order_executor import OrderExecutor
from bagbot.trading.risk_manager import RiskLimits, RiskManager
from bagbot.trading.submission import ExecutorSettings, NotReadyError, OrderConflictError

FAST = ExecutorSettings(
    send_timeout_s=0.3, probe_interval_s=0.05, poll_interval_s=0.1, close_timeout_s=1
)


def intent(key: str = "k1", **order: str) -> OrderIntent:
    payload = {"symbol": "BTC/USDT", "side": "buy", "type": "market", "amount": "0.5"} | order
    return OrderIntent(
        id=intent_id("main", key),
        account="main",
        request=OrderRequest.from_payload(payload),
        source="test",
        identity=key,
        time_ns=1,
        fingerprint=str(payload),
    )


@contextlib.asynccontextmanager
async def running(
    path: Path, connector: StrangersConnector, limits: RiskLimits | None = None
) -> AsyncIterator[OrderExecutor]:
    journal = SqliteJournal(path / "journal.sqlite")
    try:
        async with OrderExecutor(
            connector=connector,
            journal=journal,
            risk_manager=RiskManager(limits or RiskLimits()),
            clock=SystemClock(),
            settings=FAST,
        ) as executor:
            yield executor
    finally:
        await journal.close()


async def test_a_strangers_four_methods_are_enough_to_trade(tmp_path: Path) -> None:
    connector = StrangersConnector()
    async with running(tmp_path, connector) as executor:
        taken = await executor.submit(intent())
        assert taken.order is not None
        order = await executor.until_settled(taken.order.id, 2)
        assert order.status is OrderStatus.FILLED
        assert (order.filled, order.average) == (Decimal("0.5"), Decimal(100))
        assert executor.state.ledger.position("main", "BTC/USDT").quantity == Decimal("0.5")
        resting = await executor.submit(intent("k2", type="limit", price="90"))
        assert resting.order is not None
        await asyncio.sleep(0.05)
        cancelled = await executor.cancel(resting.order.id)
        assert connector.cancelled == ["2"]
        assert cancelled.status is OrderStatus.CANCELLED
    sent = connector.sent[0]
    assert (sent["symbol"], sent["side"], sent["type"]) == ("BTC/USDT", "buy", "market")
    assert sent["amount"] == Decimal("0.5")
    assert sent["params"]["clientOrderId"] == order.client_order_id


@pytest.mark.parametrize(
    "told",
    [{"price": ""}, {"average": float("nan")}, {"filled": "?"}, {"status": "on its way"}],
    ids=str,
)
async def test_an_answer_that_cannot_be_read_was_an_acceptance_perhaps(
    tmp_path: Path, told: dict[str, object]
) -> None:
    """The answer is wrong, not the order: whoever decides again would have two."""
    connector = StrangersConnector()
    connector.on_create = lambda payload: connector.answer(payload) | told
    async with running(tmp_path, connector) as executor:
        taken = await executor.submit(intent(type="limit", price="90"))
        assert taken.order is not None
        await asyncio.sleep(0.2)
        order = executor.state.orders[taken.order.id]
        assert (order.status, len(connector.sent)) == (OrderStatus.UNKNOWN, 1)
        assert "cannot be read" in (order.reason or "")
        assert executor.state.pending("BTC/USDT")[0] == Decimal("0.5")


async def test_nothing_is_sent_before_intent_and_send_are_on_disk(tmp_path: Path) -> None:
    connector = StrangersConnector()
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    on_disk: list[str] = []
    append = journal.append

    async def appending(records: list[Record]) -> None:
        await append(records)
        on_disk.extend(record.kind for record in records)

    journal.append = appending  # type: ignore[method-assign]
    connector.on_create = lambda payload: (
        on_disk.append("<- sent"),
        connector.answer(payload),
    )[1]
    async with OrderExecutor(
        connector=connector,
        journal=journal,
        risk_manager=RiskManager(RiskLimits()),
        clock=SystemClock(),
    ) as executor:
        taken = await executor.submit(intent())
        assert on_disk[:2] == ["INTENT", "SEND"]
        assert taken.order is not None
        await executor.until_settled(taken.order.id, 2)
    await journal.close()
    assert on_disk == ["INTENT", "SEND", "<- sent", "ACCEPTED", "FILLED"]


async def test_a_repeat_does_nothing_and_names_the_first(tmp_path: Path) -> None:
    connector = StrangersConnector()
    async with running(tmp_path, connector) as executor:
        results = await asyncio.gather(*(executor.submit(intent()) for _ in range(20)))
        assert len({result.order.id for result in results if result.order}) == 1
        assert [result.is_repeat for result in results].count(False) == 1
        other = await executor.submit(intent(amount="0.7"))
        assert other.is_repeat
        assert other.differs
    assert len(connector.sent) == 1
    async with running(tmp_path, connector) as executor:
        assert (await executor.submit(intent())).is_repeat
    assert len(connector.sent) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OrderRejectedError("Filter failure: NOTIONAL", code=-1013), OrderStatus.REJECTED),
        (RateLimitedError("slow down", retry_after_s=3), OrderStatus.REJECTED),
        (ExchangeUnavailableError("connection refused"), OrderStatus.REJECTED),
        (AuthenticationError("no such key", code=-2015), OrderStatus.REJECTED),
        (OutcomeUnknownError("502"), OrderStatus.UNKNOWN),
        (RuntimeError("a bug in somebody's connector"), OrderStatus.UNKNOWN),
        (TimeoutError(), OrderStatus.UNKNOWN),
        ({"status": "open"}, OrderStatus.UNKNOWN),
        ({"id": "1", "status": "weird"}, OrderStatus.UNKNOWN),
        ("ok", OrderStatus.UNKNOWN),
        (None, OrderStatus.UNKNOWN),
    ],
)
async def test_only_a_certain_no_is_a_rejection(
    tmp_path: Path, error: object, status: OrderStatus
) -> None:
    connector = StrangersConnector()

    def create(payload: dict) -> object:
        if isinstance(error, Exception):
            raise error
        return error

    connector.on_create = create
    async with running(tmp_path, connector) as executor:
        taken = await executor.submit(intent())
        assert taken.order is not None
        await asyncio.sleep(0.2)
        order = executor.state.orders[taken.order.id]
        assert order.status is status
        assert order.reason
        pending, _ = executor.state.pending("BTC/USDT")
        assert pending == (Decimal("0.5") if status is OrderStatus.UNKNOWN else 0)
    assert len(connector.sent) == 1


async def test_no_answer_in_time_is_an_unknown_outcome(tmp_path: Path) -> None:
    connector = StrangersConnector()

    class Silent(StrangersConnector):
        async def create_order(self, order_payload):
            await asyncio.sleep(60)

    connector = Silent()
    async with running(tmp_path, connector) as executor:
        taken = await executor.submit(intent())
        assert taken.order is not None
        await asyncio.sleep(0.5)
        assert executor.state.orders[taken.order.id].status is OrderStatus.UNKNOWN


async def test_a_refused_order_is_recorded_and_never_sent(tmp_path: Path) -> None:
    connector = StrangersConnector()
    limits = RiskLimits(symbols=frozenset({"ETH/USDT"}))
    async with running(tmp_path, connector, limits) as executor:
        taken = await executor.submit(intent())
        assert taken.order is not None
        assert taken.order.status is OrderStatus.REFUSED
        assert taken.order.refusal is not None
        assert taken.order.refusal.rule == "symbols"
    async with running(tmp_path, connector, limits) as executor:
        again = executor.state.orders[taken.order.id]
        assert again == taken.order
    assert connector.sent == []


async def test_the_kill_switch_holds_at_once_and_after_a_restart(tmp_path: Path) -> None:
    connector = StrangersConnector()
    async with running(tmp_path, connector) as executor:
        first = await executor.submit(intent("buy"))
        assert first.order is not None
        await executor.until_settled(first.order.id, 2)
        await executor.set_kill_switch("panic", by="test")
    async with running(tmp_path, connector) as executor:
        assert executor.killed == "panic"
        refused = await executor.submit(intent("more"))
        assert refused.order is not None
        assert refused.order.refusal is not None
        assert refused.order.refusal.rule == "kill_switch"
        closing = await executor.submit(intent("close", side="sell"))
        assert closing.order is not None
        assert (await executor.until_settled(closing.order.id, 2)).status is OrderStatus.FILLED
        await executor.set_kill_switch(None, by="test")
    async with running(tmp_path, connector) as executor:
        assert executor.killed is None


async def test_a_kill_switch_turned_while_the_order_is_written_stops_it(tmp_path: Path) -> None:
    connector = StrangersConnector()
    async with running(tmp_path, connector) as executor:
        submitting = asyncio.create_task(executor.submit(intent()))
        await asyncio.sleep(0)
        await executor.set_kill_switch("panic", by="test")
        taken = await submitting
        assert taken.order is not None
        order = await executor.until_settled(taken.order.id, 2)
        assert order.status is OrderStatus.NOT_ACCEPTED
        assert "never sent" in (order.reason or "")
    assert connector.sent == []


async def test_a_caller_who_gives_up_does_not_stop_the_order(tmp_path: Path) -> None:
    connector = StrangersConnector()
    async with running(tmp_path, connector) as executor:
        submitting = asyncio.create_task(executor.submit(intent()))
        await asyncio.sleep(0)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
        order = await executor.until_settled(intent().id, 2)
        assert order.status is OrderStatus.FILLED
    assert len(connector.sent) == 1


async def test_the_state_after_a_restart_is_the_same(tmp_path: Path) -> None:
    connector = StrangersConnector()
    async with running(tmp_path, connector) as executor:
        for number in range(5):
            await executor.submit(intent(f"m{number}", side="sell" if number % 2 else "buy"))
            await executor.submit(intent(f"l{number}", type="limit", price="90"))
        await asyncio.sleep(0.2)
        before = executor.state
    async with running(tmp_path, connector) as executor:
        assert executor.state.orders == before.orders
        assert executor.state.fills == before.fills
        assert executor.state.ledger.positions() == before.ledger.positions()
        assert executor.state.pending("BTC/USDT") == before.pending("BTC/USDT")


async def test_without_a_journal_nothing_is_taken_and_nothing_sent(tmp_path: Path) -> None:
    connector = StrangersConnector()
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    async with OrderExecutor(
        connector=connector,
        journal=journal,
        risk_manager=RiskManager(RiskLimits()),
        clock=SystemClock(),
    ) as executor:
        connector.on_create = connector.answer
        await executor.submit(intent("the last one"))
        journal._connection.execute("PRAGMA query_only = ON")
        taken = await asyncio.gather(
            *(executor.submit(intent(f"big{n}", amount="0.1")) for n in range(50)),
            return_exceptions=True,
        )
        failures = [result for result in taken if isinstance(result, Exception)]
        assert failures
        assert all(isinstance(failure, JournalError | NotReadyError) for failure in failures)
        sent = len(connector.sent)
        with pytest.raises(NotReadyError, match="halted"):
            await executor.submit(intent("one more"))
        assert "halted" in (executor.not_ready_reason or "")
        assert len(connector.sent) == sent
    await journal.close()
    # Whatever was sent is in the journal: no order without its record.
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    kinds = [record.kind for record in journal.replay()]
    await journal.close()
    assert kinds.count("SEND") == len(connector.sent)


async def test_contradicting_news_blocks_the_symbol_until_a_human_looks(tmp_path: Path) -> None:
    connector = StrangersConnector()
    connector.on_create = lambda payload: {
        "id": "1",
        "status": "closed",
        "filled": Decimal(9),
        "average": Decimal(100),
    }
    async with running(tmp_path, connector) as executor:
        taken = await executor.submit(intent())
        assert taken.order is not None
        await asyncio.sleep(0.1)
        assert "filled of 0.5 ordered" in executor.state.disputes["BTC/USDT"]
        blocked = await executor.submit(intent("k2"))
        assert blocked.order is not None
        assert blocked.order.status is OrderStatus.REFUSED
    async with running(tmp_path, connector) as executor:
        assert "BTC/USDT" in executor.disputes
        await executor.set_kill_switch(None, by="a human who looked")
        assert not executor.disputes
    async with running(tmp_path, connector) as executor:
        assert not executor.disputes


async def test_an_alarm_raised_while_the_last_one_is_put_aside_stays(tmp_path: Path) -> None:
    connector = StrangersConnector()
    async with running(tmp_path, connector) as executor:
        putting_aside = asyncio.create_task(executor.set_kill_switch(None, by="a human"))
        await asyncio.sleep(0)
        assert not putting_aside.done()
        await executor._book.dispute("BTC/USDT", "two facts contradict each other")
        await putting_aside
        assert "BTC/USDT" in executor.disputes
    async with running(tmp_path, connector) as executor:
        assert "BTC/USDT" in executor.disputes


async def test_a_cancel_that_cannot_be_is_a_conflict(tmp_path: Path) -> None:
    connector = StrangersConnector()
    async with running(tmp_path, connector) as executor:
        taken = await executor.submit(intent())
        assert taken.order is not None
        await executor.until_settled(taken.order.id, 2)
        with pytest.raises(OrderConflictError, match="is FILLED already"):
            await executor.cancel(taken.order.id)
        with pytest.raises(KeyError):
            await executor.cancel("ord_none")


async def test_amounts_are_rounded_down_and_it_is_said(tmp_path: Path) -> None:
    connector = StrangersConnector()
    async with running(tmp_path, connector) as executor:
        taken = await executor.submit(intent(amount="0.123456789"))
        assert taken.order is not None
        assert taken.order.intent.request.amount == Decimal("0.12345678")
        assert "rounded down to 0.12345678" in taken.order.intent.note


async def test_a_listener_that_fails_is_dropped_and_fails_no_trade(tmp_path: Path) -> None:
    connector = StrangersConnector()
    calls = 0

    def broken(order: object, entry: object) -> None:
        nonlocal calls
        calls += 1
        raise BrokenPipeError("nobody reads any more")

    async with running(tmp_path, connector) as executor:
        executor.listen(broken)
        for number in range(3):
            taken = await executor.submit(intent(f"k{number}"))
            assert taken.order is not None
            order = await executor.until_settled(taken.order.id, 2)
            assert order.status is OrderStatus.FILLED
        assert executor.not_ready_reason is None
    assert calls == 1


async def test_an_intent_of_another_account_is_not_taken(tmp_path: Path) -> None:
    connector = StrangersConnector()
    async with running(tmp_path, connector) as executor:
        with pytest.raises(InvalidOrderError, match="trades the account main, not other"):
            await executor.submit(replace(intent(), account="other"))
        assert executor.state.orders == {}
        assert (await executor.submit(intent())).is_repeat is False

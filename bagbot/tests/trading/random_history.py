"""Random but possible histories of an account, as the records of its journal."""

import random
from collections.abc import Iterator
from decimal import Decimal

from bagbot.domain import events
from bagbot.domain.errors import IllegalTransitionError
from bagbot.domain.instrument import Side
from bagbot.domain.order import (
    OrderIntent,
    OrderRequest,
    OrderType,
    TimeInForce,
    client_cancel_id,
    client_order_id,
    intent_id,
)
from bagbot.storage.journal import Record
from bagbot.trading.account_state import AccountState
from bagbot.trading.journal_records import (
    BarDecided,
    Command,
    DecisionRecorded,
    DisputeFound,
    Doing,
    Entry,
    IntentRecorded,
    KillSwitchSet,
    StrategyBegun,
    record_of,
)
from bagbot.trading.risk_manager import Check

SYMBOLS = ("BTC/USDT", "ETH/USDT", "BTC/USDT:USDT")


def history(rng: random.Random, length: int) -> list[Record]:
    """Return `length` records, each of which fits what came before."""
    state, records = AccountState(), []
    entries = _entries(rng, state)
    while len(records) < length:
        order_id, entry = next(entries)
        if order_id and not isinstance(entry, IntentRecorded | DisputeFound):
            try:
                if not state.learn(order_id, entry):
                    continue
            except IllegalTransitionError:
                continue
            records.append(record_of(entry, order_id))
        else:
            records.append(record_of(entry, order_id))
            state.take_in(records[-1])
    return records


def _entries(rng: random.Random, state: AccountState) -> Iterator[tuple[str, Entry]]:
    number = 0
    while True:
        number += 1
        now_ns = 1_700_000_000_000_000_000 + number * 1_000_000
        chance = rng.random()
        if chance < 0.25 or not state.orders:
            yield intent(rng, number, now_ns)
        elif chance < 0.29:
            identity, text = f"alert:nothing:{number}", "already flat"
            yield (
                "",
                DecisionRecorded(time_ns=now_ns, identity=identity, fingerprint="f", message=text),
            )
        elif chance < 0.31:
            reason = rng.choice([None, "a human said so"])
            yield "", KillSwitchSet(time_ns=now_ns, reason=reason, by="test")
        elif chance < 0.32:
            order_id, symbol = rng.choice(list(state.orders)), rng.choice(SYMBOLS)
            yield order_id, DisputeFound(time_ns=now_ns, symbol=symbol, message=f"at {number}")
        elif chance < 0.36:
            yield "", _of_strategy(rng, state, number, now_ns)
        else:
            # Mostly the newest, but an old one may learn something, too.
            ids = list(state.orders)
            order_id = rng.choice(ids if rng.random() < 0.2 else ids[-5:])
            yield order_id, _event(rng, state, order_id, number, now_ns)


def intent(rng: random.Random, number: int, now_ns: int) -> tuple[str, IntentRecorded]:
    """Return a random intent with our id for its order."""
    identity = f"key:{number}"
    request = _request(rng)
    order_id = intent_id("main", identity)
    wanted = OrderIntent(
        id=order_id,
        account="main",
        request=request,
        source="test",
        identity=identity,
        time_ns=now_ns,
        fingerprint=f"{number:x}",
        note=rng.choice(["", "rounded down"]),
    )
    checks = (Check("order_value_max", "1", "2"),)
    return order_id, IntentRecorded(time_ns=now_ns, intent=wanted, checks=checks)


def _request(rng: random.Random) -> OrderRequest:
    kind = rng.choice(list(OrderType))
    forces = [None, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK]
    return OrderRequest(
        symbol=rng.choice(SYMBOLS),
        side=rng.choice(list(Side)),
        type=kind,
        amount=Decimal(rng.choice(["1", "2.50", "0.001"])),
        price=Decimal("101.10") if kind.has_limit else None,
        time_in_force=rng.choice(forces) if kind.has_limit else None,
        params={"note": "ü", "depth": {"n": [1, None, 0.5]}} if rng.random() < 0.2 else {},
        trigger_price=Decimal("99.50") if kind.is_conditional else None,
        trailing_delta=rng.choice([None, 25]) if kind.is_conditional else None,
    )


def _of_strategy(
    rng: random.Random, state: AccountState, number: int, now_ns: int
) -> StrategyBegun | BarDecided:
    """Return what a strategy is, or what one has decided."""
    strategy_id = rng.choice(["a", "b"])
    if strategy_id not in state.strategies:
        return StrategyBegun(
            time_ns=now_ns,
            strategy_id=strategy_id,
            name="Cross",
            parameters={"fast": 3, "share": 2.0, "is_long": True},
            symbol=rng.choice(SYMBOLS),
            timeframe="1m",
            cash=Decimal("10000.50"),
            anchor_ms=60_000,
            first_ms=120_000,
        )
    commands = (
        Command(doing=Doing.CANCEL, target=number),
        Command(doing=Doing.PLACE, number=number, request=_request(rng)),
        Command(doing=Doing.AMEND, number=number + 1, target=number, refusal="no"),
    )
    return BarDecided(
        time_ns=now_ns,
        strategy_id=strategy_id,
        bar_ms=60_000 * number,
        state='{"seen": NaN}',
        numbers=number + 1,
        commands=commands[: rng.randrange(4)],
    )


def _event(
    rng: random.Random, state: AccountState, order_id: str, number: int, now_ns: int
) -> events.OrderEvent:
    order = state.orders[order_id]
    exchange_id = order.exchange_order_id or str(number)
    attempt = order.attempt + (rng.random() < 0.1)
    symbol = order.intent.request.symbol
    text = rng.choice(["so it is", "", "another"])
    kinds: list[events.OrderEvent] = [
        events.Refused(time_ns=now_ns, rule="kill_switch", value="1", limit="0", message="no"),
        events.Withdrawn(time_ns=now_ns, reason="interrupted"),
        events.OutcomeUnknown(time_ns=now_ns, reason="no answer", attempt=attempt),
        events.NotAccepted(time_ns=now_ns, proof="never seen", attempt=attempt),
        events.Rejected(time_ns=now_ns, reason=text, code="-2010", attempt=attempt),
        events.Accepted(time_ns=now_ns, exchange_order_id=exchange_id),
        events.CancelRequested(
            time_ns=now_ns, client_cancel_id=client_cancel_id(order_id, len(order.cancel_ids))
        ),
        events.Cancelled(time_ns=now_ns, exchange_order_id=exchange_id, reason=text),
        events.Expired(time_ns=now_ns, exchange_order_id=exchange_id, reason=text),
    ]
    send = events.Submitted(
        time_ns=now_ns,
        client_order_id=client_order_id("main", symbol, order_id, attempt),
        timestamp_ms=now_ns // 1_000_000,
        recv_window_ms=3000,
        attempt=attempt,
    )
    fill = events.Fill(
        trade_id=str(number),
        quantity=order.remaining / rng.choice([1, 2]) or Decimal(1),
        price=Decimal("98765.432109876543"),
        fee=Decimal("0.00000012"),
        fee_asset=rng.choice(["BNB", "USDT"]),
        exchange_time_ns=now_ns,
        is_maker=rng.random() < 0.5,
    )
    filled = events.Filled(time_ns=now_ns, exchange_order_id=exchange_id, fill=fill)
    return rng.choice([*kinds, send, send, filled, filled, filled])

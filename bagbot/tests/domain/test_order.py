"""The state machine: complete, and indifferent to the order in which facts arrive."""

import itertools
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagbot.domain.errors import IllegalTransitionError, InvalidOrderError
from bagbot.domain.events import (
    Accepted,
    Cancelled,
    CancelRequested,
    EventKind,
    Expired,
    Fill,
    Filled,
    NotAccepted,
    OrderEvent,
    OutcomeUnknown,
    Refused,
    Rejected,
    Submitted,
    Withdrawn,
)
from bagbot.domain.instrument import Side
from bagbot.domain.order import (
    FINAL,
    TRANSITIONS,
    Order,
    OrderIntent,
    OrderRequest,
    OrderStatus,
    OrderType,
    apply,
    client_order_id,
    on_steps,
)
from bagbot.storage.journal import Record
from bagbot.tests.domain.test_instrument import BTCUSDT
from bagbot.trading.journal_records import IntentRecorded, entry_of, record_of

AMOUNT = Decimal(3)


def order() -> Order:
    request = OrderRequest(symbol="BTC/USDT", side=Side.BUY, type=OrderType.MARKET, amount=AMOUNT)
    return Order(
        intent=OrderIntent(
            id="ord_1", account="main", request=request, source="api", identity="i", time_ns=1
        )
    )


def fill(
    trade_id: str, quantity: str, price: str = "10", fee: str = "0", fee_asset: str = "BTC"
) -> Filled:
    return Filled(
        time_ns=5,
        exchange_order_id="77",
        fill=Fill(
            trade_id=trade_id,
            quantity=Decimal(quantity),
            price=Decimal(price),
            fee=Decimal(fee),
            fee_asset=fee_asset,
        ),
    )


SEND = Submitted(time_ns=2, client_order_id="bb1", timestamp_ms=1, recv_window_ms=3)
UNKNOWN = OutcomeUnknown(time_ns=3, reason="timed out")
ABSENT = NotAccepted(time_ns=3, proof="absent")
REJECTED = Rejected(time_ns=3, reason="no", code="-2010")
ACCEPTED = Accepted(time_ns=4, exchange_order_id="77")
ONE, TWO = fill("a", "1"), fill("b", "2")
WANTS_CANCEL = CancelRequested(time_ns=6, client_cancel_id="bc1")
CANCELLED = Cancelled(time_ns=7, exchange_order_id="77")
EXPIRED = Expired(time_ns=7, exchange_order_id="77", reason="no liquidity")
RETRY = Submitted(time_ns=8, client_order_id="bb2", timestamp_ms=9, recv_window_ms=3, attempt=1)
REJECTED_AGAIN = Rejected(time_ns=9, reason="no again", attempt=1)

HISTORIES: dict[str, tuple[tuple[OrderEvent, ...], OrderStatus]] = {
    "refused by risk": (
        (Refused(time_ns=2, rule="symbols", value="X", limit="Y", message="no"),),
        OrderStatus.REFUSED,
    ),
    "never sent": ((Withdrawn(time_ns=2, reason="crash"),), OrderStatus.WITHDRAWN),
    "sent": ((SEND,), OrderStatus.SUBMITTED),
    "answer lost": ((SEND, UNKNOWN), OrderStatus.UNKNOWN),
    "proven absent": ((SEND, UNKNOWN, ABSENT), OrderStatus.NOT_ACCEPTED),
    "rejected": ((SEND, REJECTED), OrderStatus.REJECTED),
    "accepted": ((SEND, ACCEPTED), OrderStatus.OPEN),
    "filled in parts": ((SEND, ACCEPTED, ONE, TWO), OrderStatus.FILLED),
    "partly filled": ((SEND, ACCEPTED, ONE), OrderStatus.PARTIALLY_FILLED),
    "unknown, then found filled": ((SEND, UNKNOWN, ACCEPTED, ONE, TWO), OrderStatus.FILLED),
    "cancelled": ((SEND, ACCEPTED, WANTS_CANCEL, CANCELLED), OrderStatus.CANCELLED),
    "fill overtaken by the cancel": (
        (SEND, ACCEPTED, WANTS_CANCEL, CANCELLED, ONE),
        OrderStatus.CANCELLED,
    ),
    "filled before the cancel": (
        (SEND, ACCEPTED, WANTS_CANCEL, ONE, TWO),
        OrderStatus.FILLED,
    ),
    "rest expired": ((SEND, ACCEPTED, ONE, EXPIRED), OrderStatus.EXPIRED),
    "late fill heals a rejection": ((SEND, REJECTED, ONE), OrderStatus.PARTIALLY_FILLED),
    "late fill heals an absence": ((SEND, UNKNOWN, ABSENT, ONE, TWO), OrderStatus.FILLED),
    "second attempt rejected too": (
        (SEND, REJECTED, RETRY, REJECTED_AGAIN),
        OrderStatus.REJECTED,
    ),
    "second attempt in flight": ((SEND, ABSENT, RETRY), OrderStatus.SUBMITTED),
    "second attempt filled": ((SEND, ABSENT, RETRY, ACCEPTED, ONE, TWO), OrderStatus.FILLED),
}


def fold(events: tuple[OrderEvent, ...] | list[OrderEvent]) -> Order:
    result = order()
    for event in events:
        result = apply(result, event)
    return result


def test_every_pair_of_status_and_event_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(OrderStatus)
    for row in TRANSITIONS.values():
        assert set(row) == set(EventKind)


def test_what_is_lower_in_the_list_wins_whenever_two_facts_may_both_be_true() -> None:
    rank = {status: number for number, status in enumerate(OrderStatus)}
    for status, kind in itertools.product(OrderStatus, EventKind):
        after = TRANSITIONS[status][kind]
        alone = TRANSITIONS[OrderStatus.PENDING][kind]
        assert alone is not None
        if after is not None:
            assert after is max(status, alone, key=rank.__getitem__), (status, kind)


def test_only_a_sent_order_can_meet_the_exchange() -> None:
    for status in (OrderStatus.REFUSED, OrderStatus.WITHDRAWN):
        allowed = {kind for kind, after in TRANSITIONS[status].items() if after is not None}
        assert allowed == {EventKind(status.value)}


@pytest.mark.parametrize("name", HISTORIES)
def test_every_permutation_with_duplicates_ends_in_the_same_state(name: str) -> None:
    events, status = HISTORIES[name]
    expected = fold(events)
    assert expected.status is status
    for permutation in itertools.permutations(events):
        assert fold(permutation) == expected
        doubled = [event for event in permutation for _ in range(2)]
        assert fold(doubled) == expected


@given(
    history=st.sampled_from(sorted(HISTORIES)),
    data=st.data(),
)
def test_any_sequence_that_holds_all_facts_ends_in_the_same_state(
    history: str, data: st.DataObject
) -> None:
    events, _ = HISTORIES[history]
    repeated = data.draw(st.lists(st.sampled_from(events), max_size=12))
    shuffled = data.draw(st.permutations([*events, *repeated]))
    assert fold(list(shuffled)) == fold(events)


def test_fill_seen_twice_counts_once() -> None:
    once = fold([SEND, ACCEPTED, ONE])
    assert apply(once, ONE) is once
    assert once.filled == 1
    assert once.remaining == 2


@pytest.mark.parametrize("assets", [*itertools.permutations(["", "USDT", "BNB"], 2)])
def test_the_asset_of_no_fee_is_no_contradiction(assets: tuple[str, str]) -> None:
    """Futures leave it out of the stream's event, and name it in the list of trades."""
    known = fold([SEND, fill("a", "1", fee_asset=assets[0])])
    assert apply(known, fill("a", "1", fee="0.00", fee_asset=assets[1])) is known
    assert known.fees == {}


def test_a_fact_that_adds_nothing_returns_the_same_object() -> None:
    known = fold([SEND, ACCEPTED])
    assert apply(known, ACCEPTED) is known
    assert apply(known, SEND) is known


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([SEND, ACCEPTED, ONE, TWO, fill("c", "1")], "4 filled of 3 ordered"),
        ([SEND, ACCEPTED, fill("a", "4")], "4 filled of 3 ordered"),
        ([SEND, ACCEPTED, Accepted(time_ns=9, exchange_order_id="78")], "two exchange ids"),
        ([SEND, ONE, fill("a", "1", "11")], "trade a was told as"),
        ([SEND, ONE, fill("a", "1", fee="0.1")], "trade a was told as"),
        (
            [SEND, fill("a", "1", fee="0.1"), fill("a", "1", fee="0.1", fee_asset="BNB")],
            "trade a was told as",
        ),
        (
            [
                SEND,
                RETRY,
                Submitted(time_ns=9, client_order_id="x", timestamp_ms=1, recv_window_ms=1),
            ],
            "two client order ids",
        ),
        ([SEND, Withdrawn(time_ns=3, reason="x")], "contradicts WITHDRAWN"),
        ([Withdrawn(time_ns=3, reason="x"), ACCEPTED], "contradicts ACCEPTED"),
        ([SEND, fill("a", "0")], "trade a of 0"),
    ],
)
def test_contradictions_raise(events: list[OrderEvent], words: str) -> None:
    with pytest.raises(IllegalTransitionError, match=words):
        fold(events)


def test_averages_and_fees_are_sums_over_fills() -> None:
    result = fold(
        [
            SEND,
            Filled(
                time_ns=5,
                exchange_order_id="77",
                fill=Fill(
                    trade_id="a",
                    quantity=Decimal(1),
                    price=Decimal(10),
                    fee=Decimal("0.001"),
                    fee_asset="BTC",
                ),
            ),
            fill("b", "2", "13"),
        ]
    )
    assert result.average == Decimal(12)
    assert result.fees == {"BTC": Decimal("0.001")}
    assert result.status is OrderStatus.FILLED


def test_a_final_order_expects_nothing() -> None:
    assert OrderStatus.UNKNOWN not in FINAL
    assert fold([SEND, UNKNOWN]).is_final is False
    assert fold([SEND, UNKNOWN]).reason == "timed out"


def test_client_order_ids_are_short_safe_and_differ_by_attempt() -> None:
    ids = {client_order_id("main", "BTC/USDT", f"ord_{n}", a) for n in range(500) for a in (0, 1)}
    assert len(ids) == 1000
    for text in ids:
        assert len(text) == 26
        assert text.isalnum()
        assert not any(word in text for word in ("select", "drop", "union", "delete"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"amount": "NaN"}, "amount must be a finite number"),
        ({"amount": "-1"}, "amount must be above zero"),
        ({"amount": "0"}, "amount must be above zero"),
        ({"amount": "1e40"}, "beyond what any exchange trades"),
        ({"amount": "1e-30"}, "beyond what any exchange trades"),
        ({"amount": "1.0000000000001"}, "more than 12 decimals"),
        ({"amount": "abc"}, "amount must be a number"),
        ({"amount": None}, "amount must be a number"),
        ({"amount": True}, "amount must be a number"),
        ({"side": "hold"}, "side must be one of buy, sell"),
        ({"type": "stop"}, "type must be one of market, limit"),
        ({"type": "limit"}, "needs a price"),
        ({"price": "1"}, "takes no price"),
        ({"symbol": ""}, "symbol is missing"),
        ({"leverage": 3}, "unknown order field 'leverage'"),
        ({"type": "limit", "price": "1", "timeInForce": "DAY"}, "timeInForce must be one of"),
        ({"triggerPrice": "1"}, "takes no trigger"),
        ({"type": "limit", "price": "1", "params": {"trailingDelta": 10}}, "takes no trigger"),
        ({"type": "stop_loss"}, "needs a trigger price or a trailing delta"),
        ({"type": "stop_loss", "triggerPrice": "0"}, "trigger price must be above zero"),
        ({"type": "stop_loss", "triggerPrice": "2", "price": "1"}, "takes no price"),
        ({"type": "stop_loss", "triggerPrice": "2", "timeInForce": "GTC"}, "no time in force"),
        ({"type": "take_profit", "trailingDelta": "0.5"}, "trailingDelta must be a whole number"),
        ({"type": "take_profit", "trailingDelta": 10_000}, "trailing delta must be 1 to 9999"),
        ({"type": "take_profit", "trailingDelta": 0}, "trailing delta must be 1 to 9999"),
        ({"type": "stop_loss_limit", "triggerPrice": "2"}, "needs a price"),
        ({"type": "stop_loss", "triggerPrice": "2", "stopPrice": "2"}, "they mean the same"),
        (
            {"type": "stop_loss_limit", "triggerPrice": 2, "price": 1, "timeInForce": "PO"},
            "cannot be post-only",
        ),
    ],
)
def test_a_senseless_order_is_refused_by_name(change: dict[str, object], words: str) -> None:
    payload = {"symbol": "BTC/USDT", "side": "buy", "type": "market", "amount": "1"} | change
    with pytest.raises(InvalidOrderError, match=words):
        OrderRequest.from_payload(payload)


def test_a_float_amount_is_taken_by_its_text() -> None:
    request = OrderRequest.from_payload(
        {"symbol": "BTC/USDT", "side": "BUY", "type": "MARKET", "amount": 0.1}
    )
    assert request.amount == Decimal("0.1")


@pytest.mark.parametrize("name", ["triggerPrice", "stopPrice"])
@pytest.mark.parametrize("place", ["beside", "in params"])
def test_a_trigger_is_read_in_ccxts_words_and_comes_back_in_them(name: str, place: str) -> None:
    words = {name: "95.5", "trailingDelta": "20"}
    payload: dict[str, object] = {"symbol": "BTC/USDT", "side": "sell", "type": "STOP_LOSS_LIMIT"}
    payload |= {"amount": "1", "price": "94"}
    payload |= words if place == "beside" else {"params": words}
    request = OrderRequest.from_payload(payload)
    assert (request.trigger_price, request.trailing_delta) == (Decimal("95.5"), 20)
    assert request.params == {}
    assert OrderRequest.from_payload(request.to_payload()) == request


def test_a_trigger_goes_to_the_nearest_tick_and_it_is_said() -> None:
    request = OrderRequest.from_payload(
        {
            "symbol": "BTC/USDT",
            "side": "sell",
            "type": "stop_loss_limit",
            "amount": "1",
            "price": "94.001",
            "triggerPrice": "95.006",
        }
    )
    rounded = on_steps(replace(order().intent, request=request), BTCUSDT)
    assert rounded.request.trigger_price == Decimal("95.01")
    assert rounded.request.price == Decimal("94.01")
    assert "trigger 95.006 rounded to 95.01 (tick 0.01)" in rounded.note


# A row written before orders had triggers.
OLD_INTENT = (
    b'{"time_ns":1,"intent":{"id":"ord_1","account":"main","request":{"symbol":"BTC/USDT",'
    b'"side":"buy","type":"market","amount":"3","price":null,"time_in_force":null,'
    b'"client_order_id":null,"params":{}},"source":"api","identity":"i","time_ns":1,'
    b'"fingerprint":"","note":""},"checks":[]}'
)


def test_rows_of_the_past_are_still_read_and_new_ones_come_back_whole() -> None:
    old = entry_of(Record("INTENT", "ord_1", 1, OLD_INTENT))
    assert isinstance(old, IntentRecorded)
    assert old.intent == order().intent
    stop = replace(
        order().intent.request,
        type=OrderType.STOP_LOSS_LIMIT,
        price=Decimal(1),
        trigger_price=Decimal("2.50"),
        trailing_delta=7,
    )
    entry = IntentRecorded(time_ns=1, intent=replace(old.intent, request=stop))
    assert entry_of(record_of(entry, "ord_1")) == entry

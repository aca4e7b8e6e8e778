"""What the exchange tells, as facts; and how much absence makes a proof."""

from dataclasses import replace
from decimal import Decimal

import pytest

from bagbot.domain.errors import IllegalTransitionError
from bagbot.domain.events import (
    Accepted,
    Cancelled,
    Expired,
    Fill,
    Filled,
    OrderEvent,
    Rejected,
)
from bagbot.domain.instrument import Side
from bagbot.domain.order import Order, OrderStatus, OrderType, apply, client_order_id
from bagbot.tests.domain.test_order import SEND, order
from bagbot.trading import reconciler
from bagbot.trading.connectors.interface import ExchangeOrder, ExchangeOrderStatus, Trade

FILL = Fill(trade_id="t1", quantity=Decimal(1), price=Decimal(10))
TOLD = ExchangeOrder(
    id="77",
    symbol="BTC/USDT",
    status=ExchangeOrderStatus.OPEN,
    client_order_id="bb1",
    side=Side.BUY,
    amount=Decimal(3),
)


def sent() -> Order:
    return apply(order(), SEND)


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({}, [Accepted]),
        ({"fills": (FILL,)}, [Accepted, Filled]),
        ({"status": ExchangeOrderStatus.CLOSED, "fills": (FILL,)}, [Accepted, Filled]),
        ({"status": ExchangeOrderStatus.CANCELED}, [Accepted, Cancelled]),
        ({"status": ExchangeOrderStatus.EXPIRED, "fills": (FILL,)}, [Accepted, Filled, Expired]),
        ({"status": ExchangeOrderStatus.REJECTED}, [Rejected]),
    ],
)
def test_each_word_of_the_exchange_becomes_its_facts(
    change: dict[str, object], kinds: list[type]
) -> None:
    events = reconciler.events_from(sent(), replace(TOLD, **change), 5)
    assert [type(event) for event in events] == kinds


def known(*events: OrderEvent) -> Order:
    found = sent()
    for event in events:
        found = apply(found, event)
    return found


def test_an_order_that_is_rejected_after_it_was_taken_has_ended() -> None:
    """A stop, say, that triggers and then is not taken: nobody must wait for it any longer."""
    rests = known(*reconciler.events_from(sent(), TOLD, 5))
    told = replace(TOLD, status=ExchangeOrderStatus.REJECTED, reason="no margin")
    ended = known(*reconciler.events_from(sent(), TOLD, 5), *reconciler.events_from(rests, told, 6))
    assert ended.status is OrderStatus.EXPIRED
    assert ended.reason == "rejected after the exchange had taken it: no margin"


def test_an_order_that_was_written_off_and_rests_is_a_contradiction() -> None:
    seen = Accepted(time_ns=5, exchange_order_id="77", exchange_time_ns=5)
    gone = Cancelled(time_ns=6, exchange_order_id="77", reason=reconciler.written_off("me", "gone"))
    with pytest.raises(IllegalTransitionError, match="written off, and the exchange has it open"):
        reconciler.events_from(known(seen, gone), TOLD, 7)
    # One that was cancelled may be told as open by whoever lags behind.
    late = replace(gone, reason="by hand")
    assert reconciler.events_from(known(seen, late), TOLD, 7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"symbol": "ETH/USDT"}, "symbol: sent BTC/USDT, told ETH/USDT"),
        ({"side": Side.SELL}, "side: sent buy, told sell"),
        ({"amount": Decimal(4)}, "amount: sent 3, told 4"),
        ({"client_order_id": "somebody else's"}, "client order id"),
        ({"trigger_price": Decimal(90)}, "trigger price: sent None, told 90"),
        ({"trailing_delta": 20}, "trailing delta: sent None, told 20"),
    ],
)
def test_an_order_that_is_not_the_one_we_sent_is_a_contradiction(
    change: dict[str, object], words: str
) -> None:
    with pytest.raises(IllegalTransitionError, match=words):
        reconciler.events_from(sent(), replace(TOLD, **change), 5)


def test_missing_fills_are_seen_and_taken_from_the_trades_of_this_order_only() -> None:
    told = replace(TOLD, status=ExchangeOrderStatus.CLOSED, filled=Decimal(3), fills=(FILL,))
    known = sent()
    for event in reconciler.events_from(known, told, 5):
        known = apply(known, event)
    assert reconciler.lacks_fills(known, told)
    trades = [
        Trade(symbol="BTC/USDT", side=Side.BUY, exchange_order_id=owner, fill=replace(FILL, **f))
        for owner, f in (
            ("77", {}),
            ("77", {"trade_id": "t2", "quantity": Decimal(2)}),
            ("78", {"trade_id": "t3"}),
        )
    ]
    for event in reconciler.events_from_trades(known, trades, 6):
        known = apply(known, event)
    assert known.filled == 3
    assert not reconciler.lacks_fills(known, told)


def test_a_sum_is_booked_once_and_keeps_the_exchanges_average() -> None:
    known = sent()
    for filled, average in ((Decimal(1), Decimal(10)), (Decimal(3), Decimal(12))):
        told = replace(TOLD, filled=filled, average=average)
        for _ in range(2):
            fill = reconciler.summed_fill(known, told)
            if fill is not None:
                known = apply(known, reconciler.filled(told.id, fill, 5))
    assert known.filled == 3
    assert known.average == 12
    assert len(known.fills) == 2


def test_nothing_is_invented_without_a_price() -> None:
    assert reconciler.summed_fill(sent(), replace(TOLD, filled=Decimal(1))) is None


def test_absence_counts_after_the_fence_only() -> None:
    # Sent at 1 ms with a window of 3 ms: with a margin of 10 the fence is at 14 ms.
    assert not reconciler.is_past_fence(sent(), 14, 10)
    assert reconciler.is_past_fence(sent(), 15, 10)


def test_absence_is_a_proof_only_when_everything_was_asked_and_more_than_once() -> None:
    absence = reconciler.Absence()
    for now_ns in (0, 1, 2, 100, 150, 200):
        absence.note(now_ns, spacing_ns=100)
    assert absence.queries == 3  # At 0, 100 and 200: the others came too soon.
    assert reconciler.not_accepted(sent(), absence, 5) is None
    absence.in_open_orders = False
    assert reconciler.not_accepted(sent(), absence, 5) is None
    absence.in_history = False
    assert reconciler.not_accepted(sent(), absence, 5) is None
    absence.in_trades = False
    verdict = reconciler.not_accepted(sent(), absence, 5)
    assert verdict is not None
    assert "bb1" in verdict.proof
    absence.queries = 2
    assert reconciler.not_accepted(sent(), absence, 5) is None


def sent_limit() -> Order:
    plain = order()
    request = replace(plain.intent.request, type=OrderType.LIMIT, price=Decimal(10))
    return apply(replace(plain, intent=replace(plain.intent, request=request)), SEND)


CANCELLED_BY_HAND = replace(
    TOLD,
    status=ExchangeOrderStatus.CANCELED,
    client_order_id="web_1",
    type="limit",
    price=Decimal(10),
    exchange_time_ns=2_000_000,
)


@pytest.mark.parametrize(
    ("change", "could_be"),
    [
        ({}, True),
        ({"side": None, "amount": None}, True),
        ({"status": ExchangeOrderStatus.OPEN}, False),  # Only a cancel renames.
        ({"symbol": "ETH/USDT"}, False),
        ({"side": Side.SELL}, False),
        ({"amount": Decimal(2)}, False),
        ({"price": Decimal(11)}, False),
        ({"type": "market"}, False),
        ({"trigger_price": Decimal(9)}, False),
        ({"trailing_delta": 20}, False),
        ({"exchange_time_ns": 1_000_000 - 10**9}, True),  # Its clock may be behind our stamp.
        ({"exchange_time_ns": -6 * 10**9}, False),  # Long before we sent anything.
    ],
)
def test_a_cancelled_order_like_ours_may_be_ours_under_the_cancels_id(
    change: dict[str, object], could_be: bool
) -> None:
    assert reconciler.may_be(sent_limit(), replace(CANCELLED_BY_HAND, **change)) is could_be


def test_an_order_whose_exchange_id_is_known_is_no_other() -> None:
    known = apply(sent_limit(), Accepted(time_ns=3, exchange_order_id="77"))
    assert not reconciler.may_be(known, CANCELLED_BY_HAND)


def test_a_list_tells_of_our_order_though_a_cancel_has_renamed_it() -> None:
    known = apply(sent_limit(), Accepted(time_ns=3, exchange_order_id=CANCELLED_BY_HAND.id))
    with pytest.raises(IllegalTransitionError):
        reconciler.events_from(known, CANCELLED_BY_HAND, 5)
    ended = reconciler.events_from(known, reconciler.under_own_id(known, CANCELLED_BY_HAND), 5)
    assert isinstance(ended[-1], Cancelled)
    for change in ({"status": ExchangeOrderStatus.OPEN}, {"id": "78"}):
        other = replace(CANCELLED_BY_HAND, **change)
        assert reconciler.under_own_id(known, other) is other


def test_our_ids_bear_our_mark_and_those_of_others_do_not() -> None:
    ours = client_order_id("main", "BTC/USDT", "ord_x", 0)
    assert reconciler.bears_our_mark(replace(TOLD, client_order_id=ours))
    for theirs in (None, "web_1", "x-R4BD3S82", "manual-00ff", "bb1", ours.upper()):
        assert not reconciler.bears_our_mark(replace(TOLD, client_order_id=theirs))

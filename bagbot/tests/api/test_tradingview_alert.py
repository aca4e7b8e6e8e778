"""What an alert says, which alerts are the same, and what a position that it names takes."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagbot.api.json_body import FieldError
from bagbot.api.tradingview_alert import (
    REPEAT_WINDOW_NS,
    Declined,
    Holding,
    Wanted,
    alert_from,
    planned,
    staleness,
)
from bagbot.domain.instrument import Side
from bagbot.domain.order import OrderType
from bagbot.tests.api.desk_exchange import instrument

PLAIN = {"ticker": "BTCUSDT", "action": "buy", "contracts": "0.5"}
SPOT, PERPETUAL = "BTC/USDT", "BTC/USDT:USDT"


def target(now, size=None, previous=None, previous_size=None, **more):
    told = {
        "ticker": "BTCUSDT",
        "market_position": now,
        "market_position_size": size,
        "prev_market_position": previous,
        "prev_market_position_size": previous_size,
    }
    return {name: value for name, value in (told | more).items() if value is not None}


def plan(body, expected, symbol=SPOT, **more):
    holding = Holding(
        symbol=symbol, expected=Decimal(expected), instrument=instrument(symbol), **more
    )
    return planned(alert_from(body), holding)


# (prev -> now) x what we hold -> the order on a perpetual future, and on spot
TABLE = [
    # open from flat
    ("flat", "0", "long", "1", "0", "buy 1", "buy 1"),
    ("flat", "0", "long", "1", "1", None, None),
    ("flat", "0", "long", "1", "0.4", "buy 0.6", "buy 0.6"),
    ("flat", "0", "long", "1", "-1", "buy 2", "buy 1"),
    ("flat", "0", "short", "1", "0", "sell 1", "refused"),
    ("flat", "0", "short", "1", "-1", None, "refused"),
    ("flat", "0", "short", "1", "2", "sell 3", "sell 2"),
    # add and reduce
    ("long", "1", "long", "2", "1", "buy 1", "buy 1"),
    ("long", "1", "long", "2", "0", "buy 2", "buy 2"),
    ("long", "1", "long", "2", "3", "sell 1", "sell 1"),
    ("long", "2", "long", "1", "2", "sell 1", "sell 1"),
    ("long", "2", "long", "1", "0.5", "buy 0.5", "buy 0.5"),
    ("short", "1", "short", "2", "-1", "sell 1", "refused"),
    ("short", "2", "short", "1", "-2", "buy 1", "refused"),
    # close
    ("long", "1", "flat", "0", "1", "sell 1", "sell 1"),
    ("long", "1", "flat", "0", "0.4", "sell 0.4", "sell 0.4"),
    ("long", "1", "flat", "0", "0.0004", None, None),
    ("long", "1", "flat", "0", "0", None, None),
    ("short", "1", "flat", "0", "-1", "buy 1", None),
    ("short", "1", "flat", "0", "0", None, None),
    # reverse
    ("long", "1", "short", "1", "1", "sell 2", "sell 1"),
    ("long", "1", "short", "1", "0", "sell 1", "refused"),
    ("short", "1", "long", "1", "-1", "buy 2", "buy 1"),
    ("short", "1", "long", "1", "0", "buy 1", "buy 1"),
    ("short", "1", "long", "1", "1", None, None),
]


def as_text(decision):
    if isinstance(decision, Wanted):
        return f"{decision.side} {decision.amount.normalize():f}"
    return None if decision.is_needless else "refused"


@pytest.mark.parametrize(
    ("previous", "previous_size", "now", "size", "held", "future", "spot"), TABLE
)
def test_order_is_what_is_missing_to_the_position(
    previous, previous_size, now, size, held, future, spot
):
    body = target(now, size, previous, previous_size)
    assert as_text(plan(body, held, PERPETUAL)) == future
    assert as_text(plan(body, held, SPOT)) == spot


POSITIONS = st.decimals(-100, 100, places=3, allow_nan=False)


@given(held=POSITIONS, wanted=POSITIONS, spot=st.booleans())
def test_filled_order_leads_to_the_position_or_it_is_said_why_not(held, wanted, spot):
    now = "flat" if not wanted else "long" if wanted > 0 else "short"
    symbol = SPOT if spot else PERPETUAL
    decision = plan(target(now, str(abs(wanted))), held, symbol)
    if isinstance(decision, Declined):
        assert decision.message
        assert spot or held == wanted
        return
    after = held + (decision.amount if decision.side is Side.BUY else -decision.amount)
    assert after == wanted or (spot and decision.note)
    # On spot nothing is ever sold that is not held.
    assert not spot or decision.side is Side.BUY or decision.amount <= max(held, 0)


@pytest.mark.parametrize(
    ("body", "held", "words"),
    [
        (target("flat", "0", "long", "1"), "0.4", "says the position was 1, here it is 0.4"),
        (target("flat", "0", "long", "1"), "0", "nothing to close in BTC/USDT"),
        (target("flat", "0", "long", "1"), "0.0001", "0.0001 differ"),
        (target("long", "1", "flat", "0"), "1", "is 1 already"),
        (target("short", "1", "flat", "0"), "0", "cannot be sold short"),
        (target("short", "3", "long", "1"), "1", "the short of 3 was not taken"),
        (target("long", "1", action="buy"), "1.5", "takes a sell"),
        (target("flat"), "-2", "more was sold than bought here (-2)"),
    ],
)
def test_what_does_not_fit_is_said(body, held, words):
    decision = plan(body, held)
    assert words in (decision.note if isinstance(decision, Wanted) else decision.message)


def test_fee_taken_in_coins_is_no_difference():
    assert plan(target("flat", "0", "long", "1"), "0.999") == Wanted(
        Side.SELL, Decimal("0.999"), ""
    )


def test_coins_that_an_open_limit_order_has_not_bought_are_not_sold():
    body = target("flat")
    decision = plan(body, "1", limit_buys=Decimal("0.4"), limit_orders=["ord_1"])
    assert (decision.side, decision.amount) == (Side.SELL, Decimal("0.6"))
    assert "still open: ord_1; 0.4 of it is not bought yet" in decision.note
    nothing = plan(body, "1", limit_buys=Decimal(1), limit_orders=["ord_1"])
    assert nothing.is_needless
    assert "ord_1" in nothing.message


def test_more_digits_than_an_order_may_have_are_rounded_down():
    assert plan(PLAIN | {"contracts": "0.12345678901239"}, "0").amount == Decimal("0.123456789012")
    body = target("long", "0.12345678901239")
    assert planned(alert_from(body), Holding(symbol="X", expected=Decimal(0))).amount == Decimal(
        "0.123456789012"
    )


# ------------------------------------------------------------------ the fields


def test_price_is_information_unless_the_alert_says_limit():
    assert alert_from(PLAIN | {"price": "NaN"}).price is None
    alert = alert_from(PLAIN | {"price": "99.5", "order_type": "LIMIT"})
    assert (alert.type, alert.price) == (OrderType.LIMIT, Decimal("99.5"))


@pytest.mark.parametrize("name", ["amount", "contracts", "quantity", "qty"])
def test_amount_has_four_names(name):
    assert alert_from({"symbol": "X", "side": "SELL", name: 2}).amount == 2


def test_size_is_the_amount_when_the_position_opens_from_flat():
    assert alert_from(target("long", None, "flat", contracts="0.5")).target == Decimal("0.5")
    assert alert_from(target("short", None, "flat", contracts="0.5")).target == Decimal("-0.5")


WRONG = [
    ({"ticker": None}, "ticker"),
    ({"ticker": "{{ticker}}"}, "ticker"),
    ({"ticker": ["BTCUSDT"]}, "ticker"),
    ({"symbol": "ETHUSDT"}, "symbol"),
    ({"action": None}, "action"),
    ({"action": "{{strategy.order.action}}"}, "action"),
    ({"action": "exit"}, "action"),
    ({"side": "sell"}, "side"),
    ({"contracts": None}, "amount"),
    ({"contracts": "{{strategy.order.contracts}}"}, "contracts"),
    ({"contracts": "NaN"}, "contracts"),
    ({"contracts": Decimal("NaN")}, "contracts"),
    ({"contracts": "na"}, "contracts"),
    ({"contracts": ""}, "contracts"),
    ({"contracts": "-1"}, "contracts"),
    ({"contracts": "0"}, "contracts"),
    ({"contracts": "1e20"}, "contracts"),
    ({"contracts": "1,5"}, "contracts"),
    ({"contracts": "0.5", "qty": "1"}, "qty"),
    ({"type": "stop"}, "type"),
    ({"type": "limit"}, "price"),
    ({"type": "limit", "price": "{{close}}"}, "price"),
    ({"type": "limit", "price": "null"}, "price"),
    ({"type": "limit", "price": "5", "time_in_force": "DAY"}, "time_in_force"),
    ({"market_position": "{{strategy.market_position}}"}, "market_position"),
    ({"market_position": "na"}, "market_position"),
    ({"market_position": ""}, "market_position"),
    ({"market_position": "up"}, "market_position"),
    ({"market_position": "long"}, "market_position_size"),
    ({"market_position": "long", "prev_market_position": "long"}, "market_position_size"),
    ({"market_position": "long", "market_position_size": "NaN"}, "market_position_size"),
    ({"market_position": "long", "market_position_size": "na"}, "market_position_size"),
    ({"market_position": "long", "market_position_size": "null"}, "market_position_size"),
    ({"market_position": "long", "market_position_size": "0"}, "market_position_size"),
    ({"market_position": "short", "market_position_size": "-1"}, "market_position_size"),
    ({"market_position": "flat", "market_position_size": "1"}, "market_position_size"),
    (
        {"market_position": "flat", "prev_market_position": "{{strategy.prev_market_position}}"},
        "prev_market_position",
    ),
    (
        {
            "market_position": "flat",
            "prev_market_position": "long",
            "prev_market_position_size": "NaN",
        },
        "prev_market_position_size",
    ),
    ({"id": "{{strategy.order.id}}"}, "id"),
    ({"id": "NaN"}, "id"),
    ({"id": Decimal("NaN")}, "id"),
    ({"id": ["x"]}, "id"),
    ({"id": True}, "id"),
    ({"id": "a\nb"}, "id"),
    ({"id": "x" * 201}, "id"),
    ({"time": "{{time}}"}, "time"),
    ({"timenow": "{{timenow}}"}, "timenow"),
    ({"time": "t", "interval": "{{interval}}"}, "interval"),
    ({"order_id": "{{strategy.order.id}}"}, "order_id"),
    ({"strategy": {"name": "x"}}, "strategy"),
]


@pytest.mark.parametrize(("fields", "field"), WRONG)
def test_wrong_field_is_named(fields, field):
    body = {name: value for name, value in (PLAIN | fields).items() if value is not None}
    if fields.get("market_position") == "long" and "prev_market_position" not in fields:
        del body["contracts"]
    with pytest.raises(FieldError) as raised:
        alert_from(body)
    assert raised.value.field == field
    assert str(raised.value).startswith(field)


def test_null_is_no_value():
    with pytest.raises(FieldError, match="market_position is null"):
        alert_from(PLAIN | {"market_position": None})


# ------------------------------------------------------------------ the identity

BAR = PLAIN | {
    "strategy": "cross",
    "interval": "60",
    "time": "2026-03-01T12:00:00Z",
    "order_id": "Long",
}


def test_explicit_id_is_the_identity_for_ever():
    alert = alert_from(BAR | {"id": 17})
    assert (alert.identity, alert.window_ns) == ("tradingview:id:17", None)


@pytest.mark.parametrize(
    "other",
    [
        {"strategy": "other"},
        {"ticker": "ETHUSDT"},
        {"interval": "30"},
        {"time": "2026-03-01T13:00:00Z"},
        {"order_id": "Short"},
        {"action": "sell"},
        {"market_position": "flat"},
        {"market_position": "long", "market_position_size": "1"},
        {"market_position": "long", "market_position_size": "2"},
        {"id": "x"},
    ],
)
def test_alerts_of_a_bar_that_differ_in_what_they_are_have_two_identities(other):
    first, second = alert_from(BAR), alert_from(BAR | other)
    assert first.window_ns is None
    assert first.identity != second.identity


def test_alert_of_a_bar_is_the_same_whatever_else_it_tells():
    again = BAR | {"close": "5", "timenow": "2026-03-01T12:00:05Z", "secret": "s", "action": "BUY"}
    first, second = alert_from(BAR), alert_from(again)
    assert first.identity == second.identity
    assert first.fingerprint != second.fingerprint


def test_without_id_and_time_the_body_is_the_identity_for_a_minute():
    first = alert_from(PLAIN | {"secret": "one"})
    assert first.window_ns == REPEAT_WINDOW_NS
    assert first.identity == alert_from({"secret": "next", **PLAIN}).identity
    assert first.identity != alert_from(PLAIN | {"comment": "x"}).identity
    assert "one" not in first.identity


def test_empty_labels_count_as_not_given():
    alert = alert_from(PLAIN | {"id": "", "time": "", "strategy": "", "timenow": ""})
    assert alert.identity.startswith("tradingview:body:")


# ------------------------------------------------------------------ the age


@pytest.mark.parametrize(
    ("timenow", "is_stale"),
    [
        ("1970-01-01T00:10:00Z", False),
        ("1970-01-01T00:09:59Z", True),
        ("1970-01-01T00:09:59", True),
        ("1970-01-01T02:09:59+02:00", True),
        ("1970-01-01T00:20:00Z", False),
        ("soon", False),
        ("0001-01-01T00:00:00+14:00", True),
        ("9999-12-31T23:59:59-12:00", False),
        (1700000000000, False),
    ],
)
def test_alert_older_than_the_limit_is_stale(timenow, is_stale):
    alert = alert_from(PLAIN | {"timenow": timenow})
    now_ns = (600 + 300) * 1_000_000_000
    assert (staleness(alert, now_ns, 300.0) is not None) is is_stale
    assert staleness(alert, now_ns, None) is None

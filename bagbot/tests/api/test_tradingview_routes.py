"""Alerts over HTTP: acted on once, explained always, never lost in silence."""

import asyncio
import json
import tempfile
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bagbot.api import schemas
from bagbot.domain.clock import ManualClock
from bagbot.domain.errors import OutcomeUnknownError
from bagbot.domain.order import OrderStatus
from bagbot.tests.api.desk_exchange import DeskExchange
from bagbot.tests.api.running_api import ALERT, SECRET, running_api
from bagbot.tests.api.test_order_routes import assert_problem
from bagbot.trading.risk_manager import RiskLimits

PATH = "/webhooks/tradingview"
SECOND_NS = 1_000_000_000


def told(answer, status):
    assert answer.status_code == 200, answer.text
    body = answer.json()
    schemas.AlertAnswer.model_validate(body)
    assert body["status"] == status, body
    return body


async def test_alert_becomes_one_order(tmp_path):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        body = told(await api.alert(id="a1", strategy="cross"), "accepted")
        order = await api.settled(body["order_id"])
        assert order.status is OrderStatus.FILLED
        assert body["order"]["source"] == "tradingview:cross"
        assert [(r.symbol, r.amount) for r in exchange.sent] == [("BTC/USDT", Decimal("0.5"))]


@pytest.mark.parametrize("identity", [{"id": "a1"}, {"time": "2026-03-01T12:00:00Z"}, {}])
async def test_twenty_of_the_same_at_once_are_one_order(tmp_path, identity):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        answers = await asyncio.gather(*[api.alert(**identity) for _ in range(20)])
        bodies = [answer.json() for answer in answers]
        assert sorted(body["status"] for body in bodies) == ["accepted"] + ["repeat"] * 19
        assert len({body["order_id"] for body in bodies}) == 1
        await api.settled(bodies[0]["order_id"])
        assert len(exchange.sent) == 1


async def test_repeat_names_the_first_also_after_a_restart(tmp_path):
    async with running_api(tmp_path) as api:
        first = told(await api.alert(id="a1"), "accepted")
        await api.settled(first["order_id"])
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        body = told(await api.alert(id="a1"), "repeat")
        assert body["order_id"] == first["order_id"]
        assert f"led to order {first['order_id']}, which is FILLED" in body["message"]
        assert exchange.sent == []


async def test_same_id_with_another_body_is_ignored_and_says_so(tmp_path):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        first = told(await api.alert(id="Long"), "accepted")
        await api.settled(first["order_id"])
        body = told(await api.alert(id="Long", contracts="2"), "repeat")
        assert "give each alert an id of its own" in body["message"]
        assert len(exchange.sent) == 1


async def test_alert_without_id_and_time_is_a_repeat_for_sixty_seconds(tmp_path):
    clock, exchange = ManualClock(1_000 * SECOND_NS), DeskExchange()
    async with running_api(tmp_path, exchange, clock=clock) as api:
        first = told(await api.alert(), "accepted")
        assert "for 60 s only" in first["message"]
        await api.settled(first["order_id"])
        clock.advance(60 * SECOND_NS)
        assert told(await api.alert(), "repeat")["order_id"] == first["order_id"]
        clock.advance(1)
        second = told(await api.alert(), "accepted")
        assert second["order_id"] != first["order_id"]
        await api.settled(second["order_id"])
        assert len(exchange.sent) == 2
    clock.advance(59 * SECOND_NS)
    async with running_api(tmp_path, clock=clock) as api:
        assert told(await api.alert(), "repeat")["order_id"] == second["order_id"]


async def test_alert_with_a_bar_time_is_a_repeat_for_ever(tmp_path):
    clock = ManualClock(1_000 * SECOND_NS)
    async with running_api(tmp_path, clock=clock) as api:
        first = told(await api.alert(time="t1"), "accepted")
        await api.settled(first["order_id"])
        clock.advance(10**9 * SECOND_NS)
        assert told(await api.alert(time="t1"), "repeat")["order_id"] == first["order_id"]
        assert told(await api.alert(time="t2"), "accepted")["order_id"] != first["order_id"]


async def test_refusal_is_a_200_with_rule_value_and_limit(tmp_path):
    limits = RiskLimits(order_value_max=Decimal(10))
    async with running_api(tmp_path, limits=limits) as api:
        body = told(await api.alert(id="a1"), "refused")
        assert body["order"]["status"] == "REFUSED"
        assert body["order"]["refusal"]["rule"] == "max_order_value"
        assert body["order"]["refusal"]["limit"] == "at most 10"
        assert "more than the 10 allowed" in body["message"]
        assert told(await api.alert(id="a1"), "repeat")["order_id"] == body["order_id"]


@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET + " ", 7, {}, "\ud800"])
async def test_alert_without_the_secret_is_a_401_and_no_order(tmp_path, secret):
    async with running_api(tmp_path) as api:
        body = json.dumps({**ALERT, "secret": secret})
        problem = assert_problem(await api.http.post(PATH, content=body), 401, "secret-wrong")
        assert SECRET not in problem["detail"]
        assert api.executor.state.orders == {}


async def test_every_configured_secret_opens_while_one_is_rotated(tmp_path):
    async with running_api(tmp_path, webhook_secrets=("old", "new")) as api:
        first = told(await api.alert(secret="old", id="a"), "accepted")
        assert (
            told(await api.alert(secret="new", id="a"), "repeat")["order_id"] == first["order_id"]
        )
        assert_problem(await api.alert(secret=SECRET, id="a"), 401, "secret-wrong")


async def test_webhook_without_any_secret_is_shut(tmp_path):
    async with running_api(tmp_path, webhook_secrets=()) as api:
        problem = assert_problem(await api.alert(secret=""), 401, "secret-wrong")
        assert "no webhook secret is configured" in problem["detail"]


@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=utf-8", ""])
async def test_json_is_json_whatever_the_content_type(tmp_path, content_type):
    async with running_api(tmp_path) as api:
        headers = {"Content-Type": content_type} if content_type else {}
        answer = await api.http.post(PATH, content=json.dumps(ALERT), headers=headers)
        told(answer, "accepted")


@pytest.mark.parametrize("text", ["BUY BTCUSDT 0.01", "", "{buy}", '"buy"', "[]", "a" * 8000])
async def test_plain_text_is_answered_with_an_example(tmp_path, text):
    async with running_api(tmp_path) as api:
        problem = assert_problem(await api.http.post(PATH, content=text), 400, "malformed-body")
        assert '"ticker": "{{ticker}}"' in problem["detail"]


async def test_value_that_is_not_there_spoils_its_own_field_only(tmp_path):
    async with running_api(tmp_path) as api:
        body = json.dumps(ALERT)[:-1]
        told(await api.http.post(PATH, content=body + ', "plot": NaN}'), "accepted")
        wrong = body.replace('"0.5"', "NaN") + "}"
        problem = assert_problem(await api.http.post(PATH, content=wrong), 400, "invalid-field")
        assert problem["field"] == "contracts"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"action": "{{strategy.order.action}}"}, "action"),
        ({"contracts": "{{strategy.order.contracts}}"}, "contracts"),
        ({"contracts": "-1"}, "contracts"),
        ({"contracts": 1e30}, "contracts"),
        ({"ticker": None}, "ticker"),
        ({"market_position": "long", "market_position_size": "na"}, "market_position_size"),
    ],
)
async def test_wrong_field_is_a_400_that_names_it(tmp_path, fields, field):
    async with running_api(tmp_path) as api:
        problem = assert_problem(await api.alert(**fields), 400, "invalid-field")
        assert problem["field"] == field
        assert field in problem["detail"]
        assert api.executor.state.orders == {}
        assert api.executor.state.known == {}


@pytest.mark.parametrize(
    ("ticker", "symbol"),
    [
        ("BTCUSDT", "BTC/USDT"),
        ("btcusdt", "BTC/USDT"),
        ("BTC/USDT", "BTC/USDT"),
        ("BINANCE:BTCUSDT", "BTC/USDT"),
        ("BINANCE:ETH/USDT", "ETH/USDT"),
    ],
)
async def test_ticker_may_be_written_in_several_ways(tmp_path, ticker, symbol):
    async with running_api(tmp_path) as api:
        body = told(await api.alert(ticker=ticker), "accepted")
        assert body["order"]["symbol"] == symbol


@pytest.mark.parametrize("ticker", ["BTCUSDT.P", "BINANCE:BTCUSDT.P"])
async def test_perpetual_is_never_traded_as_spot(tmp_path, ticker):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        body = told(await api.alert(ticker=ticker), "refused")
        assert body["order"]["refusal"]["rule"] == "instrument"
        assert "perpetual future, which this account does not trade" in body["message"]
        assert exchange.sent == []
    async with running_api(tmp_path / "futures", DeskExchange("BTC/USDT:USDT")) as api:
        body = told(await api.alert(ticker=ticker), "accepted")
        assert body["order"]["symbol"] == "BTC/USDT:USDT"


async def test_unknown_ticker_is_refused_by_name_and_can_be_looked_up(tmp_path):
    async with running_api(tmp_path) as api:
        body = told(await api.alert(ticker="NYSE:IBM"), "refused")
        assert "does not trade IBM" in body["message"]
        assert (await api.get(f"/orders/{body['order_id']}")).json()["symbol"] == "IBM"


async def test_limit_alert_rests_at_its_price(tmp_path):
    async with running_api(tmp_path) as api:
        body = told(await api.alert(type="limit", price="90.5", time_in_force="GTC"), "accepted")
        assert (body["order"]["type"], body["order"]["price"]) == ("limit", "90.5")


async def test_time_in_force_of_a_market_alert_is_a_400(tmp_path):
    async with running_api(tmp_path) as api:
        problem = assert_problem(await api.alert(time_in_force="GTC"), 400, "invalid-order")
        assert "takes no time in force" in problem["detail"]
        assert api.executor.state.known == {}


async def test_amount_beyond_every_exchange_is_a_400(tmp_path):
    async with running_api(tmp_path) as api:
        assert_problem(await api.alert(contracts="1e16"), 400, "invalid-field")


async def test_old_alert_is_refused_unless_any_age_will_do(tmp_path):
    clock = ManualClock(1_000 * SECOND_NS)
    old = "1970-01-01T00:10:00Z"
    async with running_api(tmp_path, clock=clock) as api:
        body = told(await api.alert(id="a1", timenow=old), "refused")
        assert "triggered 400 s ago" in body["message"]
        assert body["order_id"] is None
        repeat = told(await api.alert(id="a1", timenow=old), "repeat")
        assert "triggered 400 s ago" in repeat["message"]
    async with running_api(tmp_path / "any", clock=clock, alert_age_max_s=None) as api:
        told(await api.alert(id="a1", timenow=old), "accepted")


# ------------------------------------------------------------------ target positions


async def test_target_is_reached_from_what_is_held(tmp_path):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        body = told(await api.target("long", "1", prev_market_position="flat"), "accepted")
        assert body["message"].startswith("buy 1 BTC/USDT")
        await api.settled(body["order_id"])
        body = told(await api.target("long", "1", time="t2"), "nothing_to_do")
        assert body["order_id"] is None
        assert "is 1 already" in body["message"]
        body = told(
            await api.target(
                "flat",
                "0",
                prev_market_position="long",
                prev_market_position_size="2",
            ),
            "accepted",
        )
        assert "says the position was 2, here it is 1" in body["message"]
        assert body["message"].startswith("sell 1 BTC/USDT")
        assert "says the position was 2" in body["order"]["note"]
        await api.settled(body["order_id"])
        assert api.executor.view("BTC/USDT").position == 0


async def test_order_in_flight_counts_so_that_two_alerts_do_not_double(tmp_path):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        first, second = await asyncio.gather(
            api.target("long", "1", id="a1"), api.target("long", "1", id="a2")
        )
        told(first, "accepted")
        told(second, "nothing_to_do")
        await api.settled(first.json()["order_id"])
        assert len(exchange.sent) == 1


async def test_close_without_anything_to_close_is_no_order_and_its_repeat_says_the_same(tmp_path):
    async with running_api(tmp_path) as api:
        first = told(await api.target("flat", id="a1"), "nothing_to_do")
        assert "nothing to close in BTC/USDT" in first["message"]
    async with running_api(tmp_path) as api:
        repeat = told(await api.target("flat", id="a1"), "repeat")
        assert "nothing to close in BTC/USDT" in repeat["message"]
        assert repeat["order_id"] is None


async def test_short_on_spot_is_refused_but_the_long_before_it_is_closed(tmp_path):
    async with running_api(tmp_path) as api:
        assert "cannot be sold short" in told(await api.target("short", "1"), "refused")["message"]
        await api.hold("0.4")
        body = told(await api.target("short", "1", id="a2"), "accepted")
        assert (body["order"]["side"], body["order"]["amount"]) == ("sell", "0.4")
        assert "the short of 1 was not taken" in body["order"]["note"]


async def test_fees_paid_in_coins_do_not_stop_a_close(tmp_path):
    exchange = DeskExchange()
    exchange.fee_ratio = Decimal("0.001")
    async with running_api(tmp_path, exchange) as api:
        await api.hold("0.5")
        exchange.fee_ratio = Decimal(0)
        body = told(await api.target("flat", id="a1"), "accepted")
        assert body["order"]["amount"] == "0.499"
        assert "0.4995 rounded down" in body["order"]["note"]
        await api.settled(body["order_id"])
        assert "0.0005" in told(await api.target("flat", id="a2"), "nothing_to_do")["message"]


async def test_unknown_outcome_puts_a_target_off_and_leaves_no_trace(tmp_path):
    exchange = DeskExchange()
    exchange.failure = OutcomeUnknownError("the answer was lost")
    async with running_api(tmp_path, exchange) as api:
        lost = (await api.order("k1", amount="1")).json()["id"]
        await api.until_status(lost, OrderStatus.UNKNOWN)
        answer = await api.target("long", "1", id="a1")
        problem = assert_problem(answer, 503, "position-unknown")
        assert lost in problem["detail"]
        assert answer.headers["retry-after"] == "5"
        assert "tradingview:id:a1" not in api.executor.state.known
        # A plain alert does not depend on the position.
        told(await api.alert(id="a2"), "accepted")
        # The exchange turns out to have had it: what TradingView sends again is acted on.
        exchange.failure = None
        await exchange.create_order(exchange.sent[0])
        assert (await api.settled(lost)).status is OrderStatus.FILLED
        await exchange.create_order(exchange.sent[1])
        await api.until(lambda: not api.executor.view("BTC/USDT").unknown)
        body = told(await api.target("long", "2", id="a1"), "accepted")
        assert body["order"]["amount"] == "0.5"


async def test_engine_that_is_not_ready_asks_for_the_alert_again(tmp_path):
    async with running_api(tmp_path) as api:
        api.executor._not_ready = "starting"
        assert_problem(await api.alert(id="a1"), 503, "not-ready")
        assert_problem(await api.alert(id="a1", secret="wrong"), 401, "secret-wrong")
        assert_problem(await api.alert(id="a1", action="hold"), 400, "invalid-field")
        api.executor._not_ready = None
        told(await api.alert(id="a1"), "accepted")


async def test_kill_switch_refuses_alerts_that_open_and_lets_those_that_close(tmp_path):
    async with running_api(tmp_path) as api:
        await api.hold("1")
        await api.ask("POST", "/kill-switch", json={"reason": "enough"})
        assert "enough" in told(await api.alert(id="a1"), "refused")["message"]
        told(await api.target("flat", id="a2"), "accepted")


# ------------------------------------------------------------------ whatever is sent

WORDS = r"""
buy sell long short flat limit market GTC BTCUSDT BINANCE:BTCUSDT BTC/USDT BTCUSDT.P : .P /
0 1 0.5 -1 1e99 NaN na null {{x}} 2026-03-01T12:00:00Z
"""
NAMES = """
secret ticker symbol action side amount contracts quantity qty type order_type price time_in_force
timeInForce market_position market_position_size prev_market_position prev_market_position_size id
strategy order_id interval time timenow exchange x
"""
NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "\ud800", "\x00", *WORDS.split()]),
    st.lists(st.integers(), max_size=2),
)
BODIES = st.dictionaries(st.sampled_from(NAMES.split()), NASTY, max_size=8)
ANYTHING = st.recursive(
    NASTY, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
)


@given(batch=st.lists(BODIES | ANYTHING, min_size=1, max_size=20), has_secret=st.booleans())
@example(batch=[ALERT | {"ticker": "\ud800"}], has_secret=True)
@example(batch=[ALERT | {"amount": "0.5", "strategy": "\udfff"}], has_secret=True)
@settings(max_examples=40, deadline=None)
async def test_no_body_is_a_5xx_and_without_the_secret_none_is_an_order(batch, has_secret):
    with tempfile.TemporaryDirectory() as folder:
        async with running_api(Path(folder)) as api:
            for body in batch:
                if isinstance(body, dict) and has_secret:
                    body = {**ALERT, **body, "secret": SECRET}
                answer = await api.http.post(PATH, content=json.dumps(body))
                assert answer.status_code in (200, 400, 401), answer.text
                assert has_secret or answer.status_code != 200
                answer.json()
            assert has_secret or not api.executor.state.known
            assert has_secret or not api.executor.state.orders
            # What was taken on was also recorded: the journal can be read again.
            await asyncio.gather(*[api.settled(id_) for id_ in api.executor.state.live])
        async with running_api(Path(folder)):
            pass


@given(batch=st.lists(st.binary(max_size=200), min_size=1, max_size=20))
@settings(max_examples=20, deadline=None)
async def test_bytes_that_are_no_json_are_a_4xx(batch):
    with tempfile.TemporaryDirectory() as folder:
        async with running_api(Path(folder)) as api:
            for raw in batch:
                answer = await api.http.post(PATH, content=raw)
                assert answer.status_code in (400, 401)

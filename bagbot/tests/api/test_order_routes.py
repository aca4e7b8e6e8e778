"""Orders over HTTP: exactly once, exactly as written, and explained when not."""

import asyncio
import json
from decimal import Decimal

import pytest
import structlog

from bagbot.api import schemas
from bagbot.domain.clock import ManualClock
from bagbot.domain.errors import (
    AuthenticationError,
    ExchangeUnavailableError,
    OrderRejectedError,
    OutcomeUnknownError,
    RateLimitedError,
)
from bagbot.domain.order import OrderStatus
from bagbot.tests.api.desk_exchange import DeskExchange
from bagbot.tests.api.running_api import BUY, running_api
from bagbot.tests.trading.strangers_exchange import StrangersConnector
from bagbot.trading.risk_manager import RiskLimits

SECOND_NS = 1_000_000_000


def assert_problem(answer, status, slug):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["type"] == f"urn:bagbot:problem:{slug}"
    assert problem["status"] == status
    assert problem["title"]
    assert len(problem["detail"]) > 10
    return problem


async def test_order_is_durable_when_answered_and_sent_once(tmp_path):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        answer = await api.order("k1")
        assert answer.status_code == 202
        told = answer.json()
        schemas.OrderView.model_validate(told)
        assert answer.headers["location"] == f"/orders/{told['id']}"
        order = await api.settled(told["id"])
        assert order.status is OrderStatus.FILLED
        assert [request.amount for request in exchange.sent] == [Decimal("0.5")]
    async with running_api(tmp_path) as api:
        shown = (await api.get(f"/orders/{told['id']}")).json()
        schemas.OrderWithFillsView.model_validate(shown)
        assert shown["status"] == "FILLED"
        assert shown["filled"] == "0.5"
        assert shown["average"] == "100"
        assert len(shown["fills"]) == 1


async def test_twenty_of_the_same_at_once_are_one_order(tmp_path):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        answers = await asyncio.gather(*[api.order("same") for _ in range(20)])
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["id"] for answer in answers}) == 1
        replayed = [answer.headers.get("idempotent-replayed") for answer in answers]
        assert replayed.count("true") == 19
        await api.settled(answers[0].json()["id"])
        assert len(exchange.sent) == 1


async def test_repeat_written_differently_is_still_a_repeat(tmp_path):
    async with running_api(tmp_path) as api:
        first = await api.order("k1", symbol="BTC/USDT", amount="0.5")
        again = await api.order("k1", symbol="BTCUSDT", amount=0.50, price=None)
        assert again.status_code == 202
        assert again.json()["id"] == first.json()["id"]
        assert again.headers["idempotent-replayed"] == "true"


async def test_repeat_is_known_after_a_restart(tmp_path):
    async with running_api(tmp_path) as api:
        first = (await api.order("k1")).json()
        await api.settled(first["id"])
        token = api.token
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        headers = {"Idempotency-Key": "k1"}
        again = await api.ask("POST", "/orders", token=token, headers=headers, json=BUY)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json()["id"] == first["id"]
        assert again.json()["status"] == "FILLED"
        assert exchange.sent == []


async def test_same_key_for_another_order_is_a_problem_and_no_order(tmp_path):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        first = (await api.order("k1")).json()
        await api.settled(first["id"])
        problem = assert_problem(await api.order("k1", amount="0.6"), 422, "idempotency-key-reused")
        assert problem["id"] == first["id"]
        assert len(exchange.sent) == 1


async def test_two_tokens_may_use_the_same_key(tmp_path):
    async with running_api(tmp_path) as api:
        other = api.system.tokens.create(["trade"])
        first = (await api.order("k1")).json()
        headers = {"Idempotency-Key": "k1"}
        second = await api.ask("POST", "/orders", token=other, headers=headers, json=BUY)
        assert second.json()["id"] != first["id"]
        await api.settled(first["id"])
        await api.settled(second.json()["id"])


@pytest.mark.parametrize("key", [None, "", "two words", "tab\t", "x" * 256])
async def test_order_without_a_good_idempotency_key_is_refused(tmp_path, key):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = await api.ask("POST", "/orders", headers=headers, json=BUY)
        assert_problem(answer, 400, "idempotency-key-missing")
        assert api.executor.state.orders == {}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"amount": "-1"}, "amount"),
        ({"amount": 0}, "amount"),
        ({"amount": "NaN"}, "amount"),
        ({"amount": "Infinity"}, "amount"),
        ({"amount": "1_0"}, "amount"),
        ({"amount": "\uff11"}, "amount"),
        ({"amount": "1e30"}, "amount"),
        ({"amount": "1e999"}, "amount"),
        ({"amount": 10**400}, "amount"),
        ({"amount": True}, "amount"),
        ({"amount": [1]}, "amount"),
        ({"amount": None}, "amount"),
        ({"amount": "1e-13"}, "amount"),
        ({"symbol": ""}, "symbol"),
        ({"symbol": 7}, "symbol"),
        ({"symbol": "B" * 201}, "symbol"),
        ({"symbol": "BTC\ud800"}, "symbol"),
        ({"side": "hold"}, "side"),
        ({"type": "stop"}, "type"),
        ({"type": "limit", "price": "0"}, "price"),
        ({"type": "limit", "price": "1", "timeInForce": "DAY"}, "timeInForce"),
        ({"type": "limit", "price": "1", "timeInForce": "IOC", "time_in_force": "GTC"}, None),
        ({"type": "stop_loss", "triggerPrice": 0}, "triggerPrice"),
        ({"type": "stop_loss", "trailing_delta": "1.5"}, "trailing_delta"),
        ({"type": "stop_loss", "triggerPrice": "1", "stopPrice": "2"}, None),
        ({"leverage": 10}, "'leverage'"),
        ({"clientOrderId": "x"}, "'clientOrderId'"),
    ],
)
async def test_wrong_field_is_named(tmp_path, fields, field):
    async with running_api(tmp_path) as api:
        content = json.dumps(BUY | fields)
        problem = assert_problem(await api.raw_order("k1", content), 422, "invalid-field")
        assert field is None or problem["field"] == field
        assert problem["field"] in problem["detail"]
        assert api.executor.state.orders == {}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"type": "limit"}, "needs a price"),
        ({"price": "100"}, "takes no price"),
        ({"timeInForce": "GTC"}, "takes no time in force"),
        ({"triggerPrice": "90"}, "takes no trigger"),
        ({"type": "take_profit"}, "needs a trigger"),
        ({"amount": "1.0000000000001"}, "12 decimals"),
    ],
)
async def test_fields_that_do_not_fit_each_other_are_explained(tmp_path, fields, words):
    async with running_api(tmp_path) as api:
        problem = assert_problem(await api.order("k1", **fields), 422, "invalid-order")
        assert words in problem["detail"]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "buy BTC",
        "[1]",
        '"text"',
        "{",
        '{"amount": 1, "amount": 2}',
        b"\xff\xfe",
        '{"a":' * 20_000,
        '{"a":' * 3000 + "1" + "}" * 3000,
        '{"a": ' + "[" * 10 + "]" * 10 + "}",
        '{"amount": 1e99999999999999999999}',
        '{"amount": ' + "9" * 5000 + "}",
    ],
)
async def test_body_that_is_no_json_object_is_a_400(tmp_path, body):
    async with running_api(tmp_path) as api:
        answer = await api.raw_order("k1", body)
        slug = "body-too-large" if len(body) > 65536 else "malformed-body"
        assert_problem(answer, 413 if len(body) > 65536 else 400, slug)


async def test_numbers_never_pass_through_a_float(tmp_path):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        # As a float this price is 123456789012.34567.
        body = (
            '{"symbol": "BTC/USDT", "side": "sell", "type": "limit",'
            ' "amount": 0.100, "price": 123456789012.340000}'
        )
        answer = await api.raw_order("k1", body)
        assert answer.status_code == 202
        assert answer.json()["price"] == "123456789012.34"
        assert answer.json()["amount"] == "0.1"
        big = body.replace("0.100", "900719925474099.3")
        assert (await api.raw_order("k2", big)).json()["amount"] == "900719925474099.3"


async def test_conditional_orders_are_taken_and_told_as_they_wait(tmp_path):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        await api.hold("1")
        words = {"side": "sell", "type": "stop_loss_limit", "price": "94", "stopPrice": 95.006}
        answer = await api.order("k1", **words)
        assert answer.status_code == 202, answer.text
        told = answer.json()
        schemas.OrderView.model_validate(told)
        assert (told["type"], told["price"], told["trigger_price"]) == (
            "stop_loss_limit",
            "94",
            "95.01",
        )
        assert "trigger 95.006 rounded to 95.01" in told["note"]
        await api.until_status(told["id"], OrderStatus.OPEN)
        assert exchange.sent[-1].trigger_price == Decimal("95.01")
        same = await api.order("k1", **words | {"stopPrice": "95.0060"})
        assert same.headers["idempotent-replayed"] == "true"
        for other in ({"stopPrice": "95.01"}, {"trailingDelta": 10}):
            differs = await api.order("k1", **words | other)
            assert_problem(differs, 422, "idempotency-key-reused")
        trailing = (await api.order("k2", side="sell", type="STOP_LOSS", trailingDelta="25")).json()
        assert (trailing["trigger_price"], trailing["trailing_delta"]) == (None, 25)
        # A stop guards the position; an alert that wants it to stay as it is has nothing to do.
        answer = await api.target("long", "1")
        assert answer.json()["status"] == "nothing_to_do", answer.text


async def test_what_was_rounded_is_said(tmp_path):
    async with running_api(tmp_path) as api:
        told = (await api.order("k1", amount="0.50059")).json()
        assert told["amount"] == "0.5"
        assert "0.50059 rounded down to 0.500" in told["note"]


async def test_refusal_is_explained_recorded_and_repeated(tmp_path):
    exchange = DeskExchange()
    async with running_api(
        tmp_path, exchange, limits=RiskLimits(order_value_max=Decimal(10))
    ) as api:
        problem = assert_problem(await api.order("k1"), 422, "order-refused")
        assert problem["rule"] == "max_order_value"
        assert problem["value"] == "50"
        assert problem["limit"] == "at most 10"
        assert "more than the 10 allowed" in problem["message"]
        again = await api.order("k1")
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json() == problem
        shown = (await api.get(f"/orders/{problem['id']}")).json()
        assert shown["status"] == "REFUSED"
        assert shown["refusal"]["rule"] == "max_order_value"
        assert exchange.sent == []


async def test_unknown_symbol_is_refused_by_name_and_can_be_looked_up(tmp_path):
    async with running_api(tmp_path) as api:
        problem = assert_problem(await api.order("k1", symbol="FOO/BAR"), 422, "order-refused")
        assert problem["rule"] == "instrument"
        assert "FOO/BAR" in problem["detail"]
        assert (await api.get(f"/orders/{problem['id']}")).json()["symbol"] == "FOO/BAR"


@pytest.mark.parametrize("symbol", ["BTC/USDT", "btc/usdt", "BTCUSDT", "btcusdt"])
async def test_symbol_may_be_written_either_way(tmp_path, symbol):
    async with running_api(tmp_path) as api:
        assert (await api.order("k1", symbol=symbol)).json()["symbol"] == "BTC/USDT"


async def test_open_order_can_be_cancelled_once(tmp_path):
    async with running_api(tmp_path) as api:
        placed = (await api.order("k1", type="limit", price="90", time_in_force="gtc")).json()
        assert placed["time_in_force"] == "GTC"
        path = f"/orders/{placed['id']}"
        await api.until_status(placed["id"], OrderStatus.OPEN)
        answer = await api.ask("DELETE", path)
        assert answer.status_code == 200
        schemas.OrderView.model_validate(answer.json())
        assert answer.json()["status"] == "CANCELLED"
        assert_problem(await api.ask("DELETE", path), 409, "order-conflict")


async def test_order_of_unknown_outcome_cannot_be_cancelled_yet(tmp_path):
    exchange = DeskExchange()
    exchange.failure = OutcomeUnknownError("the answer was lost")
    async with running_api(tmp_path, exchange) as api:
        placed = (await api.order("k1")).json()
        await api.until_status(placed["id"], OrderStatus.UNKNOWN)
        answer = await api.ask("DELETE", f"/orders/{placed['id']}")
        assert "being looked up" in assert_problem(answer, 409, "order-conflict")["detail"]


async def test_order_that_there_is_not_is_a_404(tmp_path):
    async with running_api(tmp_path) as api:
        for method in ("GET", "DELETE"):
            problem = assert_problem(
                await api.ask(method, "/orders/ord_none"), 404, "order-not-found"
            )
            assert "ord_none" in problem["detail"]


async def test_order_that_the_exchange_refuses_says_why(tmp_path):
    exchange = DeskExchange()
    exchange.failure = OrderRejectedError("insufficient balance", code=-2010)
    async with running_api(tmp_path, exchange) as api:
        placed = (await api.order("k1")).json()
        await api.settled(placed["id"])
        shown = (await api.get(f"/orders/{placed['id']}")).json()
        assert shown["status"] == "REJECTED"
        assert shown["reason"] == "insufficient balance (-2010)"


async def test_pages_of_orders_have_each_order_once_newest_first(tmp_path):
    async with running_api(tmp_path) as api:
        ids = [(await api.order(f"k{number}")).json()["id"] for number in range(7)]
        seen, after = [], ""
        while after is not None:
            page = (await api.get(f"/orders?limit=3{after and f'&after={after}'}")).json()
            schemas.OrderPage.model_validate(page)
            seen += [order["id"] for order in page["items"]]
            after = page["next"]
            # What comes in meanwhile does not shift the pages.
            await api.order(f"late{len(seen)}")
        assert seen == ids[::-1]


async def test_orders_can_be_filtered(tmp_path):
    async with running_api(tmp_path) as api:
        await api.hold("1")
        refused = (await api.order("k2", symbol="FOO/BAR")).json()["id"]
        await api.hold("2", "ETH/USDT")
        by_status = (await api.get("/orders?status=REFUSED")).json()["items"]
        assert [order["id"] for order in by_status] == [refused]
        by_symbol = (await api.get("/orders?symbol=ETHUSDT")).json()["items"]
        assert [order["amount"] for order in by_symbol] == ["2"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("/orders?limit=0", "limit"),
        ("/orders?limit=1001", "limit"),
        ("/orders?limit=x", "limit"),
        ("/orders?status=GONE", "status"),
        ("/orders?after=ord_none", "after"),
        ("/fills?after=0", "after"),
        ("/fills?after=-1", "after"),
        ("/fills?after=²", "after"),
    ],
)
async def test_wrong_parameter_is_named(tmp_path, query, field):
    async with running_api(tmp_path) as api:
        problem = assert_problem(await api.get(query), 422, "invalid-parameter")
        assert problem["field"] == field
        assert field in problem["detail"]


async def test_fills_and_positions_are_what_the_orders_traded(tmp_path):
    exchange = DeskExchange()
    exchange.fee_ratio = Decimal("0.001")
    async with running_api(tmp_path, exchange) as api:
        for amount in ("1", "2", "3"):
            await api.hold(amount)
        await api.hold("4", "ETH/USDT")
        page = (await api.get("/fills?limit=2&symbol=BTC/USDT")).json()
        schemas.FillPage.model_validate(page)
        assert [fill["quantity"] for fill in page["items"]] == ["3", "2"]
        rest = (await api.get(f"/fills?symbol=BTC/USDT&after={page['next']}")).json()
        assert [fill["quantity"] for fill in rest["items"]] == ["1"]
        assert rest["next"] is None
        positions = (await api.get("/positions")).json()
        schemas.PositionPage.model_validate(positions)
        first = positions["items"][0]
        assert first["symbol"] == "BTC/USDT"
        assert first["quantity"] == "5.994"
        assert first["fees"] == {"BTC": "0.006"}


async def test_balances_are_the_exchanges(tmp_path):
    async with running_api(tmp_path) as api:
        page = (await api.get("/balances")).json()
        schemas.BalancePage.model_validate(page)
        assert page["items"] == [
            {"asset": "USDT", "free": "1000", "used": "0.5", "total": "1000.5"}
        ]


@pytest.mark.parametrize(
    ("failure", "status", "slug"),
    [
        (ExchangeUnavailableError("down"), 503, "exchange-unavailable"),
        (RateLimitedError("slow down", retry_after_s=7), 503, "exchange-rate-limit"),
        (AuthenticationError("bad key"), 502, "exchange-authentication"),
        (OutcomeUnknownError("odd"), 502, "exchange-error"),
        (TimeoutError(), 503, "exchange-unavailable"),
    ],
)
async def test_trouble_with_the_exchange_is_told_as_such(tmp_path, failure, status, slug):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        exchange.balance_failure = failure
        answer = await api.get("/balances")
        assert_problem(answer, status, slug)
        if isinstance(failure, RateLimitedError):
            assert answer.headers["retry-after"] == "7"


async def test_a_forgotten_order_is_written_off_by_who_may_kill_and_for_a_reason(tmp_path):
    clock, exchange = ManualClock(1_000 * SECOND_NS), DeskExchange()
    async with running_api(tmp_path, exchange, clock=clock) as api:
        placed = (await api.order("k1", type="limit", price="90")).json()
        path = f"/orders/{placed['id']}/write-off"
        await api.until_status(placed["id"], OrderStatus.OPEN)
        exchange.orders.clear()
        said = {"reason": "the test venue was reset"}
        trader = api.system.tokens.create(["read", "trade"])
        assert_problem(await api.ask("POST", path, token=trader, json=said), 403, "scope-missing")
        for wrong in ({}, {"reason": ""}, {"reason": "x", "amount": "1"}):
            assert_problem(await api.ask("POST", path, json=wrong), 422, "invalid-field")
        unknown = await api.ask("POST", "/orders/ord_none/write-off", json=said)
        assert_problem(unknown, 404, "order-not-found")
        problem = assert_problem(await api.ask("POST", path, json=said), 409, "order-conflict")
        assert "may still arrive" in problem["detail"]
        clock.advance(61 * SECOND_NS)
        await until_sent(api)
        answer = await api.ask("POST", path, json=said)
        assert answer.status_code == 200, answer.text
        schemas.OrderView.model_validate(answer.json())
        assert answer.json()["status"] == "CANCELLED"
        assert answer.json()["reason"].endswith(": the test venue was reset")
        assert_problem(await api.ask("POST", path, json=said), 409, "order-conflict")


async def until_sent(api):
    """What the exchange answered is known a moment before the task that sent the order ends."""
    await asyncio.gather(*api.executor._sends)


async def test_an_order_nobody_can_look_up_is_written_off_as_not_accepted(tmp_path):
    clock, exchange = ManualClock(1_000 * SECOND_NS), StrangersConnector()

    def no_answer(_: object) -> object:
        raise OutcomeUnknownError("no answer")

    exchange.on_create = no_answer
    async with running_api(tmp_path, exchange, clock=clock) as api:
        placed = (await api.order("k1")).json()
        await api.until_status(placed["id"], OrderStatus.UNKNOWN)
        clock.advance(61 * SECOND_NS)
        await until_sent(api)
        said = {"reason": "the exchange's page does not show it"}
        answer = await api.ask("POST", f"/orders/{placed['id']}/write-off", json=said)
        assert answer.json()["status"] == "NOT_ACCEPTED", answer.text


async def test_a_bug_is_answered_without_its_stack_trace(tmp_path):
    exchange = DeskExchange()
    async with running_api(tmp_path, exchange) as api:
        exchange.balance_failure = ZeroDivisionError("secret of the house")
        with structlog.testing.capture_logs() as logs:
            answer = await api.get("/balances")
        assert_problem(answer, 500, "internal-error")
        assert "secret of the house" not in answer.text
        assert [log["log_level"] for log in logs] == ["error"]


async def test_journal_that_fails_takes_no_order_and_says_so(tmp_path):
    async with running_api(tmp_path) as api:
        await api.hold("1")
        api.executor._journal._connection.execute("DROP TABLE journal")
        problem = assert_problem(await api.order("k2"), 503, "journal-failed")
        assert str(tmp_path) not in problem["detail"]
        assert_problem(await api.order("k3"), 503, "not-ready")
        assert_problem(await api.get("/health/ready", token=None), 503, "not-ready")
        assert (await api.get("/health/live", token=None)).status_code == 200

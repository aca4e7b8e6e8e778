"""One test per class of the fault catalogue: it is provoked, and its truth is observed.

Clients see what the exchange says; the truth is what its admin side says.
"""

import asyncio
import re
import sys
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from bagbot.simulator.fault_classes import FAULT_CLASSES
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.fault_client import (
    CUT,
    RESTING,
    SUBSCRIBE,
    UNREADABLE,
    arm,
    ask,
    code,
    events_until_idle,
    eventually,
    executed,
    fates,
    place,
    query,
)
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient, receive

BOTH = pytest.mark.parametrize("how", ["rest", "socket"])


@pytest.fixture
async def simulator():
    """An exchange whose market stands still, so that what rests stays as it is."""
    settings = SimulatorSettings(api_key=KEY, api_secret=SECRET, seed=7, speed=1e-6)
    print("simulator seed", settings.seed)  # noqa: T201 - pytest shows it when a test fails.
    async with SimulatorServer(settings) as server:
        yield server


@pytest.fixture
async def lively():
    """A client of an exchange whose market moves, a minute in a second."""
    settings = SimulatorSettings(api_key=KEY, api_secret=SECRET, seed=7, speed=60)
    async with SimulatorServer(settings) as server, SigningClient(server.url) as signing:
        yield signing


@pytest.fixture
async def socket(client):
    async with client.socket("/ws-api/v3") as socket:
        await client.call(socket, SUBSCRIBE, **client.socket_parameters())
        yield socket


# Sending orders.


@BOTH
async def test_f1_an_order_lost_on_its_way_was_received_but_never_executed(client, how):
    await arm(client, "F1")
    assert await place(client, how, "mine") is CUT
    assert await executed(client) == []
    assert await fates(client, "mine") == [("F1", "lost")]


@BOTH
async def test_f2_an_order_whose_answer_was_lost_is_executed(client, how):
    await arm(client, "F2")
    assert await place(client, how, "mine") is CUT
    assert await executed(client) == ["mine"]
    assert await fates(client, "mine") == [("F2", "done")]


@BOTH
async def test_f3_a_timeout_can_hide_an_execution(client, how):
    await arm(client, "F3")
    assert code(await place(client, how, "mine")) == (504, -1007)
    assert await executed(client) == ["mine"]


@BOTH
async def test_f4_a_timeout_can_hide_that_nothing_was_executed(client, how):
    await arm(client, "F4")
    assert code(await place(client, how, "mine")) == (504, -1007)
    assert await executed(client) == []
    assert await fates(client, "mine") == [("F4", "refused")]


@BOTH
async def test_f5_an_order_is_executed_after_so_many_queries_have_missed_it(client, how):
    await arm(client, "F5", queries=2)
    assert code(await place(client, how, "mine")) == (504, -1007)
    assert await fates(client, "mine") == [("F5", "late")]
    assert (await client.admin("GET", "totals")).body["requests_late"] == 1
    for _ in range(2):
        assert code(await query(client, how, "mine")) == (400, -2013)
    assert (await query(client, how, "mine")).body["status"] == "FILLED"
    assert await executed(client) == ["mine"]
    assert await fates(client, "mine") == [("F5", "done")]


async def test_f5_a_late_order_comes_by_itself_and_after_its_window(client):
    await arm(client, "F5", queries=1, delay_s=0.3)
    told = await client.place(quantity="0.001", newClientOrderId="mine", recvWindow=200)
    assert code(told) == (504, -1007)
    assert code(await query(client, "rest", "mine")) == (400, -2013)
    assert await executed(client) == []
    assert await eventually(lambda: executed(client), bool) == ["mine"]
    (line,) = [row for row in (await client.admin("GET", "requests")).body if row["fault"]]
    assert (line["status"], line["code"], line["outcome"]) == (504, -1007, "done")
    assert line["accepted_ns"] - line["received_ns"] >= 300_000_000


@BOTH
async def test_f6_an_unexpected_response_leaves_both_possible(client, how):
    await arm(client, "F6")
    await arm(client, "F6", variant="lost")
    for name in ("there", "lost"):
        assert code(await place(client, how, name)) == (500, -1006)
    assert await executed(client) == ["there"]


@BOTH
@pytest.mark.parametrize("status", [500, 502, 504])
async def test_f7_a_server_error_leaves_both_possible(client, how, status):
    await arm(client, "F7", variant=str(status))
    await arm(client, "F7", variant=f"{status}-lost")
    for name in ("there", "lost"):
        reply = await place(client, how, name)
        # A gateway's own page is no JSON.
        is_page = how == "rest" and status != 500
        assert reply is UNREADABLE if is_page else reply.status == status
    log = (await client.admin("GET", "requests")).body
    assert [row["status"] for row in log] == [status, status]
    assert await executed(client) == ["there"]


@BOTH
async def test_f8_each_of_the_503_bodies_has_its_own_truth(client, how):
    variants = FAULT_CLASSES["F8"].variants
    assert len({str(template["body"]) for template in variants.values()}) == 4
    for variant, template in variants.items():
        await arm(client, "F8", variant=variant)
        reply = await place(client, how, variant)
        assert (reply.status, reply.body) == (503, template["body"])
    assert await executed(client) == ["unknown"]


@BOTH
async def test_f9_a_backend_timeout_leaves_both_possible(client, how):
    await arm(client, "F9")
    await arm(client, "F9", variant="lost")
    for name in ("there", "lost"):
        assert (await place(client, how, name)).status == 408
    assert await executed(client) == ["there"]


@BOTH
async def test_f10_an_internal_error_leaves_both_possible(client, how):
    await arm(client, "F10")
    await arm(client, "F10", variant="executed")
    for name in ("lost", "there"):
        assert code(await place(client, how, name)) == (500, -1001)
    assert await executed(client) == ["there"]


@BOTH
async def test_f11_an_answer_that_cannot_be_read_was_an_acceptance(client, how):
    for variant in ("truncated", "invalid"):
        await arm(client, "F11", variant=variant)
        assert await place(client, how, variant) is UNREADABLE
    await arm(client, "F11", variant="unknown-fields")
    reply = await place(client, how, "unknown-fields")
    assert (reply.body["status"], "zzUnknown" in reply.body) == ("FILLED", True)
    assert await executed(client) == ["truncated", "invalid", "unknown-fields"]


@BOTH
async def test_f12_a_delivery_repeated_by_the_network_is_seen_and_executes_twice(client, how):
    await arm(client, "F12")
    assert (await place(client, how, "mine")).status == 200
    assert await executed(client) == ["mine", "mine"]
    first, second = [
        row for row in (await client.admin("GET", "requests")).body if row["method"] != "GET"
    ]
    assert (first["repeat_of"], second["repeat_of"]) == (None, first["number"])
    # What still rests keeps the second out.
    await arm(client, "F12")
    assert (await place(client, how, "resting", **RESTING)).status == 200
    assert await fates(client, "resting") == [("F12", "done"), (None, "refused")]


async def test_f12_a_delivery_repeated_after_its_window_is_refused(client):
    await arm(client, "F12", delay_s=0.4)
    await client.place(quantity="0.001", newClientOrderId="mine", recvWindow=200)
    log = await eventually(lambda: fates(client, "mine"), lambda log: len(log) == 2)
    assert log == [("F12", "done"), (None, "refused")]
    assert await executed(client) == ["mine"]


# Reading.


@BOTH
async def test_f13_a_lagging_replica_misses_an_order_for_a_time(client, how):
    await place(client, how, "mine")
    await arm(client, "F13", for_s=0.5)
    assert code(await query(client, how, "mine")) == (400, -2013)
    assert await executed(client) == ["mine"]
    await eventually(lambda: query(client, how, "mine"), lambda reply: reply.status == 200)
    assert (await client.admin("GET", "faults")).body == []


@BOTH
async def test_f14_an_old_status_takes_back_what_was_executed(client, how):
    placed = await place(client, how, "mine")
    assert placed.body["executedQty"] == "0.00100000"
    await arm(client, "F14")
    reply = await query(client, how, "mine")
    assert (reply.body["status"], reply.body["executedQty"]) == ("NEW", "0.00000000")
    (order,) = (await client.admin("GET", "orders")).body
    assert (order["status"], order["executed"]) == ("FILLED", "0.00100000")
    assert (await query(client, how, "mine")).body["status"] == "FILLED"


@BOTH
async def test_f15_the_open_orders_lack_an_order_that_is_open(client, how):
    for name in ("a", "b", "c"):
        await place(client, how, name, **RESTING)
    await arm(client, "F15")
    await arm(client, "F15", client_order_id="c")
    seen = [
        [row["clientOrderId"] for row in reply.body]
        for reply in [await ask(client, how, "openOrders.status") for _ in range(3)]
    ]
    assert seen == [["a", "c"], ["a", "b"], ["a", "b", "c"]]
    orders = (await client.admin("GET", "orders")).body
    assert [order["status"] for order in orders] == ["NEW", "NEW", "NEW"]


@BOTH
@pytest.mark.parametrize("method", ["myTrades", "allOrders"])
async def test_f16_a_page_lacks_a_row_or_overlaps_the_page_before(client, how, method):
    for name in ("a", "b", "c"):
        await place(client, how, name)
    page = {"symbol": "BTCUSDT"}
    key, start = ("id", "fromId") if method == "myTrades" else ("orderId", "orderId")
    whole = [row[key] for row in (await ask(client, how, method, **page)).body]
    assert len(whole) == len(await executed(client)) == 3
    await arm(client, "F16")
    gap = await ask(client, how, method, **page)
    assert [row[key] for row in gap.body] == [whole[0], whole[2]]
    await arm(client, "F16", variant="overlap")
    second = await ask(client, how, method, **page, **{start: whole[2]})
    assert [row[key] for row in second.body] == [whole[1], whole[2]]
    again = await ask(client, how, method, **page, **{start: whole[2]})
    assert [row[key] for row in again.body] == [whole[2]]


@BOTH
async def test_f17_queries_time_out_one_after_the_other(client, how):
    await place(client, how, "mine")
    await arm(client, "F17", delay_s=0.6)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await query(client, how, "mine")
    await client.admin("DELETE", "faults")
    await arm(client, "F17", variant="refused")
    assert code(await query(client, how, "mine")) == (504, -1007)
    assert (await place(client, how, "other")).status == 200
    assert await executed(client) == ["mine", "other"]
    await client.admin("DELETE", "faults")
    assert (await query(client, how, "mine")).body["status"] == "FILLED"


@BOTH
async def test_f18_an_order_goes_by_another_id(client, how):
    await place(client, how, "mine", **RESTING)
    order_id = (await query(client, how, "mine")).body["orderId"]
    about = {"symbol": "BTCUSDT", "orderId": order_id}
    await ask(client, how, "order.cancel", **about, newClientOrderId="the-cancel")
    await arm(client, "F18")
    renamed = await ask(client, how, "order.status", **about)
    assert renamed.body["clientOrderId"] == "the-cancel"
    assert code(await query(client, how, "mine")) == (400, -2013)
    (order,) = (await client.admin("GET", "orders")).body
    assert (order["client_order_id"], order["status"]) == ("mine", "CANCELED")
    await client.admin("DELETE", "faults")
    # The cancellation has freed the id: a second order may have it.
    await place(client, how, "mine")
    assert (await query(client, how, "mine")).body["status"] == "FILLED"
    await arm(client, "F18", variant="oldest")
    assert (await query(client, how, "mine")).body["orderId"] == order_id


# Limits and keys.


async def test_f19_too_much_weight_says_when_to_come_back(client):
    await arm(client, "F19", count=2, retry_after_s=3)
    reply = await client.place(quantity="0.001")
    assert (*code(reply), reply.headers["Retry-After"]) == (429, -1003, "3")
    async with client.socket("/ws-api/v3") as connection:
        answer, _ = await client.call(connection, "ping")
    assert answer["status"] == 429
    about = answer["error"]["data"]
    assert about["retryAfter"] - about["serverTime"] == 3_000
    assert await executed(client) == []


@BOTH
async def test_f20_a_ban_lasts_and_counts_down(client, how):
    await arm(client, "F20", for_s=0.6)
    first = await client.public("/api/v3/ping")
    assert (first.status, first.headers["Retry-After"]) == (418, "1")
    assert code(await place(client, how, "mine")) == (418, -1003)
    await eventually(lambda: place(client, how, "mine"), lambda reply: reply.status == 200)
    assert await executed(client) == ["mine"]


@BOTH
async def test_f21_too_many_orders_is_no_order(client, how):
    await arm(client, "F21")
    assert code(await place(client, how, "mine")) == (429, -1015)
    assert await executed(client) == []


async def test_f22_the_firewall_answers_in_html(client):
    await arm(client, "F22", count=2)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{client.url}/api/v3/ping") as reply,
    ):
        assert (reply.status, reply.content_type) == (403, "text/html")
        assert (await reply.text()).startswith("<!DOCTYPE html>")
    assert (await place(client, "socket", "mine")).status == 403
    assert await executed(client) == []


@BOTH
async def test_f23_a_key_stops_being_good_in_the_middle(client, how):
    await place(client, how, "before")
    await arm(client, "F23")
    assert code(await place(client, how, "revoked")) == (401, -2015)
    assert code(await query(client, how, "before")) == (401, -2015)
    assert (await client.public("/api/v3/ping")).status == 200
    await client.admin("DELETE", "faults")
    await arm(client, "F23", variant="signature")
    assert code(await place(client, how, "unsigned")) == (400, -1022)
    assert await executed(client) == ["before"]


# Streams.


async def test_f24_a_stream_is_cut_and_the_order_happens_all_the_same(client, socket):
    await arm(client, "F24")
    await place(client, "rest", "mine")
    message = await socket.receive(timeout=5)
    assert message.type is not aiohttp.WSMsgType.TEXT
    assert socket.close_code in (None, 1006)
    assert await executed(client) == ["mine"]


async def test_f25_a_half_open_stream_tells_nothing_of_what_happens(client, socket):
    await arm(client, "F25")
    await place(client, "rest", "mine")
    assert await events_until_idle(client, socket) == []
    assert await executed(client) == ["mine"]


async def test_f26_connections_end_at_their_age_by_a_closing_handshake(client, socket):
    async with client.socket("/ws/btcusdt@trade") as public:
        await arm(client, "F26")
        for each in (socket, public):
            async with asyncio.timeout(5):
                while (message := await each.receive()).type is aiohttp.WSMsgType.TEXT:
                    pass
            assert (message.type, each.close_code) == (aiohttp.WSMsgType.CLOSE, 1001)
    assert (await place(client, "socket", "mine")).status == 200


async def test_f27_the_shutdown_is_announced_and_then_happens(client, socket):
    await arm(client, "F27", delay_s=0.3)
    started_s = asyncio.get_running_loop().time()
    assert (await receive(socket))["event"]["e"] == "serverShutdown"
    with pytest.raises(ConnectionError):
        await receive(socket)
    assert asyncio.get_running_loop().time() - started_s >= 0.25
    assert socket.close_code == 1001


async def test_f28_a_dropped_event_has_happened(client, socket):
    await arm(client, "F28", after=1)
    await place(client, "rest", "mine")
    assert await events_until_idle(client, socket) == ["NEW", "outboundAccountPosition"]
    assert await executed(client) == ["mine"]


async def test_f29_an_event_told_twice_has_happened_once(client, socket):
    await arm(client, "F29", after=1)
    await place(client, "rest", "mine")
    events = await events_until_idle(client, socket)
    assert events == ["NEW", "TRADE", "TRADE", "outboundAccountPosition"]
    assert await executed(client) == ["mine"]


async def test_f30_a_fill_is_told_before_its_order(client, socket):
    await arm(client, "F30")
    await place(client, "rest", "mine")
    events = await events_until_idle(client, socket)
    assert events == ["TRADE", "NEW", "outboundAccountPosition"]


async def test_f30_a_cancellation_is_told_before_its_fill(client, socket):
    await place(client, "rest", "mine", **RESTING)
    await events_until_idle(client, socket)
    await arm(client, "F30")
    await arm(client, "F42", variant="partial")
    about = {"symbol": "BTCUSDT", "origClientOrderId": "mine"}
    assert (await ask(client, "rest", "order.cancel", **about)).status == 200
    events = await events_until_idle(client, socket)
    position = "outboundAccountPosition"
    assert events == [position, "CANCELED", "TRADE", position]
    assert await executed(client) == ["mine"]


async def test_f31_events_come_late_and_the_exchange_does_not_wait(client, socket):
    assert (await arm(client, "F31"))["delay_s"] > 60
    await client.admin("DELETE", "faults")
    await arm(client, "F31", delay_s=0.4)
    await place(client, "rest", "mine")
    assert await executed(client) == ["mine"]
    assert await events_until_idle(client, socket) == ["NEW", "TRADE", "outboundAccountPosition"]


async def test_f32_a_terminated_subscription_leaves_the_connection_and_can_begin_anew(
    client, socket
):
    await arm(client, "F32")
    assert await events_until_idle(client, socket) == ["eventStreamTerminated"]
    await place(client, "rest", "unseen")
    assert await events_until_idle(client, socket) == []
    await client.call(socket, SUBSCRIBE, **client.socket_parameters())
    await place(client, "rest", "seen")
    assert len(await events_until_idle(client, socket)) == 3
    assert await executed(client) == ["unseen", "seen"]


# Clocks.


async def server_ms(client):
    return (await client.public("/api/v3/time")).body["serverTime"]


@pytest.mark.parametrize(("variant", "step_s"), [("step", 300), ("back", -300), ("leap", 1)])
async def test_f40_the_exchanges_clock_steps_and_its_market_does_not(client, variant, step_s):
    before_ms = await server_ms(client)
    market_ms = (await client.admin("GET", "clock")).body["market_ms"]
    await arm(client, "F40", variant=variant)
    assert abs(await server_ms(client) - before_ms - step_s * 1_000) < 900
    clock = (await client.admin("GET", "clock")).body
    assert abs(clock["market_ms"] - market_ms) < 900
    assert clock["ahead_ns"] == step_s * 1_000_000_000
    if abs(step_s) > 1:
        assert code(await place(client, "rest", "mine")) == (400, -1021)
        stamped = await place(client, "rest", "mine", timestamp=await server_ms(client))
        assert stamped.status == 200


async def test_f40_a_moving_market_goes_on_from_where_it_was(lively):
    before_ms = (await lively.admin("GET", "clock")).body["market_ms"]
    await arm(lively, "F40")
    stepped_ms = (await lively.admin("GET", "clock")).body["market_ms"]
    # Five minutes of the exchange would be five hours of its market.
    assert 0 <= stepped_ms - before_ms < 10 * 60_000
    await arm(lively, "F40", variant="back", step_s=-600)
    last_ms = stepped_ms
    await asyncio.sleep(0.3)
    assert (await lively.admin("GET", "clock")).body["market_ms"] > last_ms


async def test_f40_the_exchanges_clock_can_run_at_another_pace(client):
    await arm(client, "F40", variant="slew", slew_ppm=100_000)
    await asyncio.sleep(0.2)
    ahead_ns = (await client.admin("GET", "clock")).body["ahead_ns"]
    assert ahead_ns >= 20_000_000
    await arm(client, "F40", variant="slew", slew_ppm=0)
    kept_ns = (await client.admin("GET", "clock")).body["ahead_ns"]
    assert kept_ns >= ahead_ns
    assert (await client.admin("GET", "clock")).body["ahead_ns"] == kept_ns


@BOTH
async def test_f41_a_client_more_than_a_second_ahead_is_refused(client, how):
    await arm(client, "F41")
    reply = await place(client, how, "mine")
    assert code(reply) == (400, -1021)
    assert "1000ms ahead" in reply.body["msg"]
    assert await executed(client) == []


# What the venue does.


@BOTH
async def test_f42_a_cancellation_meets_a_fill(client, how):
    about = {"symbol": "BTCUSDT", "origClientOrderId": "part"}
    await place(client, how, "part", **RESTING)
    await arm(client, "F42", quantity="0.0004")
    cancelled = await ask(client, how, "order.cancel", **about)
    assert (cancelled.body["status"], cancelled.body["executedQty"]) == ("CANCELED", "0.00040000")
    await place(client, how, "whole", **RESTING)
    await arm(client, "F42", variant="filled")
    refused = await ask(client, how, "order.cancel", **about | {"origClientOrderId": "whole"})
    assert code(refused) == (400, -2011)
    quantities = [row["quantity"] for row in (await client.admin("GET", "trades")).body]
    assert quantities == ["0.00040000", "0.00100000"]
    orders = (await client.admin("GET", "orders")).body
    assert [order["status"] for order in orders] == ["CANCELED", "FILLED"]


async def test_f42_a_resting_order_fills_piece_by_piece_on_command(client, socket):
    await place(client, "rest", "mine", **RESTING)
    await events_until_idle(client, socket)
    for quantity, status in (("0.0003", "PARTIALLY_FILLED"), ("0.0007", "FILLED")):
        about = {"symbol": "BTCUSDT", "origClientOrderId": "mine", "quantity": quantity}
        await arm(client, "F42", variant="fill", **about)
        assert (await query(client, "rest", "mine")).body["status"] == status
    position = "outboundAccountPosition"
    assert await events_until_idle(client, socket) == ["TRADE", position, "TRADE", position]
    reply = await client.admin("POST", "acts", {"act": "fill", "origClientOrderId": "mine"})
    assert reply.status == 409


async def test_f42_somebody_else_places_and_cancels_on_the_same_account(client, socket):
    by_hand = RESTING | {"newClientOrderId": "web_1"}
    await arm(client, "F42", variant="foreign-order", **by_hand)
    assert await events_until_idle(client, socket) == ["NEW", "outboundAccountPosition"]
    await place(client, "rest", "mine", **RESTING)
    await events_until_idle(client, socket)
    about = {"symbol": "BTCUSDT", "origClientOrderId": "mine"}
    await arm(client, "F42", variant="foreign-cancel", **about)
    assert await events_until_idle(client, socket) == ["CANCELED", "outboundAccountPosition"]
    orders = (await client.admin("GET", "orders")).body
    assert {row["client_order_id"]: row["status"] for row in orders} == {
        "web_1": "NEW",
        "mine": "CANCELED",
    }
    # Nothing was received for it: it did not come over the API.
    assert await fates(client, "web_1") == []
    refused = await client.admin("POST", "acts", {"act": "place"} | by_hand)
    assert "Duplicate" in refused.body["error"]


async def test_f42_an_order_by_hand_meets_our_own_and_self_trade_is_prevented(client, socket):
    ticker = (await client.public("/api/v3/ticker/bookTicker", symbol="BTCUSDT")).body
    best = str(Decimal(ticker["bidPrice"]) + Decimal("0.01"))
    await place(client, "rest", "mine", **RESTING | {"price": best})
    by_hand = RESTING | {"side": "SELL", "price": best, "timeInForce": "IOC"}
    await arm(
        client,
        "F42",
        variant="foreign-order",
        **by_hand | {"selfTradePreventionMode": "EXPIRE_MAKER"},
    )
    assert "TRADE_PREVENTION" in await events_until_idle(client, socket)
    assert (await query(client, "rest", "mine")).body["status"] == "EXPIRED_IN_MATCH"
    assert await executed(client) == []


async def status_of(client):
    (symbol,) = (await client.public("/api/v3/exchangeInfo", symbol="BTCUSDT")).body["symbols"]
    return symbol["status"]


@BOTH
async def test_f43_a_symbol_stops_trading_and_starts_again(client, how):
    about = {"symbol": "BTCUSDT"}
    await place(client, how, "before", **RESTING)
    for variant, can_cancel in (("halt", False), ("break", False), ("cancel-only", True)):
        await arm(client, "F43", variant=variant)
        assert await status_of(client) == FAULT_CLASSES["F43"].variants[variant]["status"]
        reply = await place(client, how, "mine")
        assert (*code(reply), reply.body["msg"]) == (400, -2010, "Market is closed.")
        cancelled = await ask(client, how, "order.cancel", **about, origClientOrderId="before")
        assert cancelled.status == (200 if can_cancel else 400)
        price = await client.admin("POST", "price?symbol=BTCUSDT&price=70000")
        assert price.status == 409
    await arm(client, "F43", variant="resume")
    assert (await place(client, how, "mine")).status == 200
    assert await executed(client) == ["mine"]


async def newest_trade(client):
    return (await client.public("/api/v3/trades", symbol="BTCUSDT", limit=1)).body[0]["id"]


async def test_f43_the_market_of_a_halted_symbol_stands_still(lively):
    await arm(lively, "F43", symbol="BTCUSDT")
    halted_at = await newest_trade(lively)
    ether = (await lively.public("/api/v3/trades", symbol="ETHUSDT", limit=1)).body[0]["id"]
    await asyncio.sleep(0.5)
    assert await newest_trade(lively) == halted_at
    assert (await lively.public("/api/v3/trades", symbol="ETHUSDT", limit=1)).body[0]["id"] > ether
    await arm(lively, "F43", variant="resume", symbol="BTCUSDT")
    await eventually(lambda: newest_trade(lively), lambda newest: newest > halted_at)


async def test_f43_filters_change_while_orders_rest(client):
    await place(client, "rest", "old", **RESTING | {"price": "80000.01"})
    await arm(client, "F43", variant="filters", tickSize="0.1", stepSize="0.001", minNotional="50")
    for changes, reason in (
        ({"price": "80000.01"}, "PRICE_FILTER"),
        ({"quantity": "0.0011"}, "LOT_SIZE"),
        ({"price": "40000"}, "NOTIONAL"),
    ):
        reply = await place(client, "rest", "new", **RESTING | changes)
        assert (*code(reply), reply.body["msg"]) == (400, -1013, f"Filter failure: {reason}")
    assert (await query(client, "rest", "old")).body["status"] == "NEW"
    info = (await client.public("/api/v3/exchangeInfo", symbol="BTCUSDT")).body
    filters = {each["filterType"]: each for each in info["symbols"][0]["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.10000000"


async def test_f43_a_delisted_symbol_ends_its_orders_and_is_unknown(client, socket):
    await place(client, "rest", "mine", **RESTING)
    await events_until_idle(client, socket)
    streams = "bookTicker ticker miniTicker avgPrice kline_1m depth depth5@100ms ticker_1h trade"
    path = "/".join(f"btcusdt@{stream}" for stream in streams.split())
    async with client.socket(f"/ws/{path}/!ticker@arr/!miniTicker@arr"):
        await arm(client, "F43", variant="delist", symbol="BTCUSDT")
        await asyncio.sleep(1.2)
    (event, _), _ = (await client.call(socket, "ping"))[::-1]
    assert (event["event"]["x"], event["event"]["eR"]) == ("EXPIRED", "EXCHANGE_CANCELED")
    assert code(await place(client, "rest", "mine")) == (400, -1121)
    listed = (await client.public("/api/v3/exchangeInfo")).body["symbols"]
    assert "BTCUSDT" not in [symbol["symbol"] for symbol in listed]
    (order,) = (await client.admin("GET", "orders")).body
    assert order["status"] == "EXPIRED"
    assert (await client.place(symbol="ETHUSDT", quantity="0.01")).status == 200


async def bids(client):
    depth = (await client.public("/api/v3/depth", symbol="BTCUSDT", limit=5_000)).body
    return [price for price, _ in depth["bids"]]


async def test_f44_a_reset_venue_knows_nothing_and_the_admin_side_everything(client, socket):
    start = (await client.admin("GET", "balances")).body
    await place(client, "rest", "filled")
    await place(client, "rest", "open", **RESTING)
    oco = {"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.001"}
    oco |= {"aboveType": "LIMIT_MAKER", "abovePrice": "99000"}
    oco |= {"belowType": "STOP_LOSS", "belowStopPrice": "70000"}
    assert (await client.signed("POST", "/api/v3/orderList/oco", **oco)).status == 200
    assert (await client.admin("GET", "balances")).body != start
    assert "80000.00000000" in await bids(client)
    await events_until_idle(client, socket)
    await arm(client, "F44")
    assert "80000.00000000" not in await bids(client)
    # Nobody is told anything: the connection ends.
    assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
    assert (await client.admin("GET", "balances")).body == start
    for name in ("filled", "open"):
        assert code(await query(client, "rest", name)) == (400, -2013)
    about = {"symbol": "BTCUSDT"}
    for method in ("openOrders.status", "allOrders", "myTrades"):
        assert (await ask(client, "rest", method, **about)).body == []
    assert (await client.signed("GET", "/api/v3/allOrderList")).body == []
    # The id of an order that was open is free, and numbers are not given out again.
    again = await place(client, "rest", "open")
    assert (again.body["status"], again.body["orderId"]) == ("FILLED", 5)
    orders = (await client.admin("GET", "orders")).body
    assert [order["is_forgotten"] for order in orders] == [True] * 4 + [False]
    assert await executed(client) == ["filled", "open"]
    totals = (await client.admin("GET", "totals")).body
    assert (totals["orders"], totals["executions"]) == (5, 2)


async def test_f44_a_reset_is_still_one_after_a_restart(tmp_path):
    settings = SimulatorSettings(api_key=KEY, api_secret=SECRET, store=tmp_path)
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        start = (await client.admin("GET", "balances")).body
        await place(client, "rest", "open", **RESTING)
        await arm(client, "F44")
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        assert (await client.admin("GET", "balances")).body == start
        assert (await ask(client, "rest", "openOrders.status")).body == []
        (order,) = (await client.admin("GET", "orders")).body
        assert (order["client_order_id"], order["is_forgotten"]) == ("open", True)


# The catalogue.


def test_every_class_that_concerns_an_exchange_is_there_and_has_a_test():
    wanted = [f"F{number}" for number in (*range(1, 33), *range(40, 45))]
    assert list(FAULT_CLASSES) == wanted
    tests = [name for name in vars(sys.modules[__name__]) if name.startswith("test_f")]
    tested = {match[1] for name in tests if (match := re.match(r"test_f(\d+)_", name))}
    assert {f"F{number}" for number in tested} == set(wanted)


def test_every_class_is_in_the_docs():
    page = (Path(__file__).parents[3] / "docs" / "SIMULATOR.md").read_text()
    for name, each in FAULT_CLASSES.items():
        (row,) = re.findall(rf"^\| {name} \|.*$", page, re.MULTILINE)
        assert each.title in row
        for variant in each.variants if len(each.variants) > 1 else ():
            assert f"`{variant}`" in row, (name, variant)

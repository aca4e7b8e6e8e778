"""What Binance leaves open can be had both ways, and the documentation lists it."""

import re
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bagbot.domain.errors import ConfigError
from bagbot.simulator.amounts import ONE
from bagbot.simulator.assumptions import CHOICES, Assumptions, assumptions_from
from bagbot.simulator.book_matcher import Book, hide
from bagbot.simulator.orders import Order, OrderType, TimeInForce
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient, receive

PAGE = Path(__file__).parents[3] / "docs" / "SIMULATOR.md"
ORDER = "/api/v3/order"
LIMIT = {"type": "LIMIT", "timeInForce": "GTC", "price": "50000"}


@asynccontextmanager
async def client_of(open_orders_max=200, **assumed):
    settings = SimulatorSettings(
        api_key=KEY,
        api_secret=SECRET,
        open_orders_max=open_orders_max,
        assumptions=Assumptions(**assumed),
    )
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        yield client


def both_of(name):
    return pytest.mark.parametrize("value", CHOICES[name], ids=str)


@both_of("bad_key_status")
async def test_a_bad_key_has_either_status_on_rest_and_401_on_the_socket(value):
    async with client_of(bad_key_status=value) as client:
        for key, code in (("", -2014), ("nobody", -2015)):
            query = client.query()
            reply = await client.send("GET", "/api/v3/account", query, {"X-MBX-APIKEY": key})
            assert (reply.status, reply.body["code"]) == (value, code)
        async with client.socket("/ws-api/v3") as socket:
            signed = client.socket_parameters() | {"apiKey": "nobody"}
            reply, _ = await client.call(socket, "account.status", **signed)
        assert (reply["status"], reply["error"]["code"]) == (401, -2015)


@both_of("wide_window_code")
async def test_a_window_too_wide_has_either_code(value):
    async with client_of(wide_window_code=value) as client:
        reply = await client.signed("GET", "/api/v3/account", recvWindow=60_001)
        assert (reply.status, reply.body["code"]) == (400, value)


@both_of("signature_is_checked_last")
async def test_the_signature_is_checked_after_or_before_the_parameters(value):
    async with client_of(signature_is_checked_last=value) as client:
        query = f"symbol=NOSUCH&timestamp={time.time_ns() // 1_000_000}&signature=00"
        reply = await client.send("GET", "/api/v3/openOrders", query)
        assert reply.body["code"] == (-1121 if value else -1022)
        assert (await client.signed("GET", "/api/v3/openOrders")).status == 200


@both_of("microseconds_are_read")
async def test_times_in_microseconds_are_read_or_far_ahead(value):
    async with client_of(microseconds_are_read=value) as client:
        reply = await client.signed("GET", "/api/v3/account", timestamp=time.time_ns() // 1_000)
        assert reply.status == (200 if value else 400)
        assert value or reply.body["code"] == -1021
        now_us = time.time_ns() // 1_000
        rows = await client.public(
            "/api/v3/aggTrades", symbol="BTCUSDT", startTime=now_us - 60_000_000
        )
        assert bool(rows.body) is value


@both_of("retired_is_told")
async def test_what_is_retired_is_told_or_unknown(value):
    async with client_of(retired_is_told=value) as client:
        reply = await client.send("POST", "/api/v3/userDataStream")
        assert (reply.status, reply.body["code"]) == ((410, -1016) if value else (404, -1000))
        async with client.socket("/ws-api/v3") as socket:
            reply, _ = await client.call(socket, "userDataStream.start")
        assert reply["error"]["code"] == (-1016 if value else -1020)


@both_of("zero_quantity_is_lot_size")
async def test_no_quantity_is_invalid_or_fails_lot_size(value):
    async with client_of(zero_quantity_is_lot_size=value) as client:
        message = "Filter failure: LOT_SIZE" if value else "Invalid quantity."
        for order in ({}, LIMIT):
            reply = await client.place(**order, quantity="0")
            assert (reply.status, reply.body) == (400, {"code": -1013, "msg": message})


@both_of("counting_filters_code")
async def test_filters_that_count_have_either_code(value):
    async with client_of(open_orders_max=1, counting_filters_code=value) as client:
        await client.place(**LIMIT, quantity="0.01", newClientOrderId="first")
        replies = [
            await client.place(**LIMIT, quantity="0.01"),
            await client.signed(
                "POST",
                "/api/v3/order/cancelReplace",
                symbol="BTCUSDT",
                side="BUY",
                **LIMIT,
                quantity="0.01",
                cancelReplaceMode="STOP_ON_FAILURE",
                cancelOrigClientOrderId="first",
            ),
        ]
        for reply in replies:
            expected = {"code": value, "msg": "Filter failure: MAX_NUM_ORDERS"}
            assert (reply.status, reply.body) == (400, expected)


@both_of("cancelling_nothing_is_refused")
async def test_cancelling_nothing_is_refused_or_empty(value):
    async with client_of(cancelling_nothing_is_refused=value) as client:
        reply = await client.signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
        assert reply.status == (400 if value else 200)
        assert reply.body == ({"code": -2011, "msg": "Unknown order sent."} if value else [])


@both_of("market_orders_keep_lot_size")
async def test_market_orders_keep_the_lots_of_all_orders_or_none(value):
    async with client_of(market_orders_keep_lot_size=value) as client:
        reply = await client.place(quantity="0.00123456")
        assert reply.status == (400 if value else 200)
        if not value:
            assert reply.body["executedQty"] == "0.00123456"
        # Every other order keeps them in any case.
        reply = await client.place(**LIMIT, quantity="0.00123456")
        assert reply.body["msg"] == "Filter failure: LOT_SIZE"


def test_bars_are_traded_in_whole_lots(tmp_path):
    with pytest.raises(ConfigError, match="whole lots"):
        SimulatorSettings(
            api_key=KEY,
            api_secret=SECRET,
            matcher="bars",
            data=tmp_path / "bars.parquet",
            assumptions=Assumptions(market_orders_keep_lot_size=False),
        )


@both_of("stop_release_is_told")
async def test_a_stop_that_goes_live_is_told_or_not(value):
    async with client_of(stop_release_is_told=value) as client:
        async with client.socket("/ws-api/v3") as socket:
            subscribe = "userDataStream.subscribe.signature"
            await client.call(socket, subscribe, **client.socket_parameters())
            stop = {"type": "STOP_LOSS", "side": "SELL", "quantity": "0.01", "stopPrice": "50000"}
            await client.place(**stop)
            await client.admin("POST", "price?symbol=BTCUSDT&price=49000")
            kinds = []
            while "TRADE" not in kinds:
                event = (await receive(socket))["event"]
                if event["e"] == "executionReport":
                    kinds.append(event["x"])
        assert kinds == (["NEW", "NEW", "TRADE"] if value else ["NEW", "TRADE"])


def resting(order_id, quantity, iceberg=0):
    order = Order(
        order_id=order_id,
        account_id=order_id,
        symbol="BTCUSDT",
        is_buy=False,
        type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        price=ONE,
        quantity=quantity,
        remaining=quantity,
        iceberg_quantity=iceberg,
    )
    hide(order)
    return order


@both_of("iceberg_slices_go_last")
@pytest.mark.parametrize("taken", range(1, 41))
def test_the_next_slice_of_an_iceberg_goes_last_or_keeps_its_place(value, taken):
    book = Book(slices_go_last=value)
    for order in (resting(1, 25, iceberg=10), resting(2, 15)):
        book.rest(order)
    plan = book.plan(is_buy=True, limit=None, quantity=taken)
    met = [(match.maker.order_id, match.quantity) for match in plan.matches]
    full = [(1, 10), (2, 15), (1, 10), (1, 5)] if value else [(1, 10), (1, 10), (1, 5), (2, 15)]
    expected, left = [], taken
    for order_id, quantity in full:
        if left:
            expected.append((order_id, min(quantity, left)))
            left -= expected[-1][1]
    assert met == expected
    for match in plan.matches:
        book.take(match.maker, match.quantity)
    assert sum(order.remaining for order in book.makers(taker_is_buy=True)) == 40 - taken
    shown = sum(order.shown for order in book.makers(taker_is_buy=True))
    assert book.asks(5) == ([(ONE, shown)] if taken < 40 else [])
    # Whoever comes next meets them in the order in which this one would have gone on.
    rest = [
        match.maker.order_id for match in book.plan(is_buy=True, limit=None, quantity=40).matches
    ]
    goes_on = [order_id for order_id, _ in full][len(expected) - (met[-1] != full[len(met) - 1]) :]
    assert rest == goes_on


def test_the_documentation_lists_every_switch_with_what_is_assumed():
    section = PAGE.read_text(encoding="utf-8").partition("## What was assumed")[2]
    rows = re.findall(r"^\| `(\w+)` \| `([-\w]+)`.*\| `([-\w]+)`", section, re.MULTILINE)
    text = {True: "true", False: "false"}
    listed = [
        (
            name,
            *(text.get(each, str(each)) if each in (True, False) else str(each) for each in both),
        )
        for name, both in CHOICES.items()
    ]
    assert rows == listed


def test_switches_are_read_from_text_and_file_and_text_goes_first(tmp_path):
    path = tmp_path / "exchange.toml"
    path.write_text("[assume]\nbad_key_status = 400\nretired_is_told = false\n")
    assert assumptions_from(None) == Assumptions()
    assert assumptions_from(path) == Assumptions(bad_key_status=400, retired_is_told=False)
    mixed = assumptions_from(path, ["bad_key_status=401", "counting_filters_code=-1013"])
    assert mixed == Assumptions(retired_is_told=False, counting_filters_code=-1013)


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("colour=red", "nothing called 'colour' is assumed; known: bad_key_status"),
        ("bad_key_status=500", "bad_key_status is 401 or 400, not '500'"),
        ("retired_is_told", "retired_is_told is true or false, not ''"),
        ("retired_is_told=1", "retired_is_told is true or false, not '1'"),
    ],
)
def test_a_switch_that_does_not_exist_says_so(written, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        assumptions_from(None, [written])

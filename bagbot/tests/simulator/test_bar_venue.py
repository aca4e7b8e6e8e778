"""The bar venue over its sockets: steps, their order, what is told, and what a restart keeps."""

import asyncio
import itertools
import json
from decimal import Decimal

import polars
import pytest

from bagbot.domain.errors import ConfigError
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import (
    KEY,
    SECRET,
    SigningClient,
    balances_of,
    receive,
)
from bagbot.tests.simulator.test_recorded_fills import MINUTE_MS, START_MS, invented_bars

ROWS = [
    # open, high, low, close, volume
    (100.00, 101.00, 99.00, 100.50, 5.0),
    (100.50, 102.00, 98.00, 99.00, 4.0),
    (97.00, 97.50, 96.00, 97.00, 3.0),
    (97.00, 110.00, 97.00, 109.00, 2.0),
]


def write_bars(path, rows=ROWS):
    frame = polars.DataFrame(
        [[START_MS + index * MINUTE_MS, *row] for index, row in enumerate(rows)],
        schema=["open_time", "open", "high", "low", "close", "volume"],
        orient="row",
    )
    frame.write_parquet(path)
    return path


def settings(path, **more):
    more = {"stepped": True} | more
    return SimulatorSettings(api_key=KEY, api_secret=SECRET, data=path, matcher="bars", **more)


@pytest.fixture
async def stepped(tmp_path):
    path = write_bars(tmp_path / "bars.parquet")
    async with (
        SimulatorServer(settings(path)) as server,
        SigningClient(server.url) as client,
    ):
        yield client


async def limit(client, side, price, quantity="0.10000", **more):
    more = {"type": "LIMIT", "timeInForce": "GTC", "quantity": quantity, "price": price} | more
    return await client.place(side=side, **more)


async def fills(client):
    return [
        (trade["order_id"], Decimal(trade["price"]), trade["is_maker"])
        for trade in (await client.admin("GET", "trades")).body
    ]


async def test_a_step_leads_from_open_to_open_and_time_stands_still_between(stepped):
    clock = (await stepped.admin("GET", "clock")).body
    assert clock["bar"] == {
        "symbol": "BTCUSDT",
        "index": 0,
        "open_ms": START_MS,
        "closes_ms": START_MS + MINUTE_MS,
        "is_stepped": True,
    }
    await asyncio.sleep(0.25)
    assert (await stepped.admin("GET", "clock")).body["market_ms"] == START_MS
    stepped_to = (await stepped.admin("POST", "step")).body
    assert (stepped_to["bar"]["index"], stepped_to["market_ms"]) == (1, START_MS + MINUTE_MS)
    ticker = (await stepped.public("/api/v3/ticker/price", symbol="BTCUSDT")).body
    assert Decimal(ticker["price"]) == Decimal("100.50")


async def test_orders_fill_at_the_open_inside_the_bar_and_on_the_gap(stepped):
    at_open = (await limit(stepped, "BUY", "100.20")).body
    assert (at_open["status"], at_open["fills"][0]["price"]) == ("FILLED", "100.00000000")
    touched = (await limit(stepped, "BUY", "99.00")).body["orderId"]
    inside = (await limit(stepped, "BUY", "99.01")).body["orderId"]
    maker = {"side": "BUY", "type": "LIMIT_MAKER", "quantity": "0.10000"}
    post_only = (await stepped.place(price="97.99", **maker)).body["orderId"]
    refused = (await stepped.place(price="100.00", **maker)).body
    assert refused["msg"] == "Order would immediately match and take."
    await stepped.admin("POST", "step")
    assert await fills(stepped) == [
        (at_open["orderId"], Decimal(100), False),
        (inside, Decimal("99.01"), True),
    ]
    low = (await limit(stepped, "BUY", "97.50")).body["orderId"]
    await stepped.admin("POST", "step")
    # The second bar went through 99.00; the third opens below the two others, of which the
    # post-only one is never a taker.
    assert (await fills(stepped))[2:] == [
        (touched, Decimal(99), True),
        (post_only, Decimal("97.99"), True),
        (low, Decimal(97), False),
    ]
    trades = (await stepped.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT")).body
    assert [trade["isMaker"] for trade in trades] == [False, True, True, True, False]
    # 0.1 BTC at 1000 ppm.
    assert {trade["commission"] for trade in trades} == {"0.00010000"}


async def test_klines_show_closed_bars_whole_and_of_the_running_one_only_the_open(stepped):
    await limit(stepped, "BUY", "99.01")
    await stepped.admin("POST", "step")
    rows = (await stepped.public("/api/v3/klines", symbol="BTCUSDT", interval="1m")).body
    offset = (await stepped.admin("GET", "clock")).body["kline_offset_ms"]
    assert [row[0] - offset - START_MS for row in rows] == [0, MINUTE_MS]
    shown = [[Decimal(value) for value in row[1:6]] for row in rows]
    assert shown[0] == [Decimal(str(value)) for value in ROWS[0]]
    assert shown[1] == [Decimal("100.5")] * 4 + [0]


async def test_a_bar_is_told_after_its_fills_and_before_those_of_the_next_open(stepped):
    stream = "btcusdt@kline_1m"
    async with stepped.socket("/ws-api/v3") as user, stepped.socket(f"/ws/{stream}") as market:
        parameters = stepped.socket_parameters()
        await stepped.call(user, "userDataStream.subscribe.signature", 1, **parameters)
        await limit(stepped, "BUY", "99.50")
        await stepped.admin("POST", "step")
        reports = []
        while len(reports) < 2:
            event = (await receive(user))["event"]
            if event["e"] == "executionReport":
                reports.append(event)
        assert [(event["x"], event["L"]) for event in reports] == [
            ("NEW", "0.00000000"),
            ("TRADE", "99.50000000"),
        ]
        while True:
            kline = (await receive(market))["k"]
            if kline["x"]:
                break
        assert [Decimal(kline[name]) for name in "ohlcv"] == [
            Decimal(str(value)) for value in ROWS[0]
        ]


async def test_after_the_last_bar_nothing_is_stepped_and_nothing_fills(stepped):
    for _ in ROWS:
        reply = await stepped.admin("POST", "step")
    assert (reply.status, reply.body["is_market_over"]) == (200, True)
    refused = await stepped.admin("POST", "step")
    assert (refused.status, refused.body) == (409, {"error": "the recorded bars are over"})
    assert (await stepped.place(quantity="1")).body["status"] == "EXPIRED"
    assert (await limit(stepped, "BUY", "200.00")).body["status"] == "NEW"
    assert (await stepped.admin("POST", "price?symbol=BTCUSDT&price=1")).status == 409


async def test_only_bars_are_stepped(client):
    assert (await client.admin("POST", "step")).status == 409
    assert (await client.admin("GET", "clock")).body["bar"] is None


async def test_only_the_recorded_symbol_is_traded(stepped):
    symbols = (await stepped.public("/api/v3/exchangeInfo")).body["symbols"]
    assert [symbol["symbol"] for symbol in symbols] == ["BTCUSDT"]


async def test_without_steps_the_bars_follow_the_clock(tmp_path):
    path = write_bars(tmp_path / "bars.parquet")
    async with (
        SimulatorServer(settings(path, stepped=False, speed=300)) as server,
        SigningClient(server.url) as client,
    ):
        order = (await limit(client, "BUY", "98.50")).body["orderId"]
        # A bar lasts 0.2 s.
        async with asyncio.timeout(10):
            is_over = False
            while not is_over:
                await asyncio.sleep(0.05)
                is_over = (await client.admin("GET", "clock")).body["is_market_over"]
        assert await fills(client) == [(order, Decimal("98.5"), True)]
        assert (await client.admin("POST", "step")).status == 409


async def test_a_restart_goes_on_at_the_bar_it_was_in(tmp_path):
    path, store = write_bars(tmp_path / "bars.parquet"), tmp_path / "store"
    async with (
        SimulatorServer(settings(path, store=store)) as server,
        SigningClient(server.url) as client,
    ):
        order = (await limit(client, "BUY", "97.20")).body["orderId"]
        await client.admin("POST", "step")
    for index in (1, 2, 3, 4, 4):
        async with (
            SimulatorServer(settings(path, store=store)) as server,
            SigningClient(server.url) as client,
        ):
            assert (await client.admin("GET", "clock")).body["bar"]["index"] == index
            await client.admin("POST", "step")
            assert await fills(client) == [(order, Decimal(97), False)]
    other = SimulatorSettings(api_key=KEY, api_secret=SECRET, store=store)
    with pytest.raises(ConfigError, match="other markets"):
        await SimulatorServer(other).start()


@pytest.mark.parametrize(
    "wrong",
    [
        {"matcher": "magic"},
        {"matcher": "bars", "data": None},
        {"matcher": "book", "stepped": True},
        {"slippage_ticks": -1},
        {"volume_share_ppm": -1},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong, tmp_path):
    with pytest.raises(ConfigError):
        SimulatorSettings(
            **{"api_key": KEY, "api_secret": SECRET, "data": tmp_path / "bars.parquet"} | wrong
        )


async def messages_of_a_run(path):
    """Return every account event and closed kline of a scripted run, word for word."""
    # The wire clock stands still, so that no message carries the pace of the machine.
    start_ns = 1_790_000_000_000_000_000
    told = []
    async with (
        SimulatorServer(settings(path), clock=lambda: start_ns) as server,
        SigningClient(server.url) as client,
        client.socket("/ws-api/v3") as user,
        client.socket("/ws/btcusdt@kline_1m") as market,
    ):
        now_ms = start_ns // 1_000_000
        parameters = client.socket_parameters(timestamp=now_ms)
        await client.call(user, "userDataStream.subscribe.signature", 1, **parameters)
        for index in range(60):
            price = Decimal(90_000) + 10 * (index % 7 - 3)
            sides = itertools.cycle(["BUY", "SELL"])
            for _, side in zip(range(index % 3), sides, strict=False):
                reply = await limit(
                    client, side, str(price), "0.01000", timestamp=now_ms, recvWindow=60_000
                )
                told.append(reply.body)
            told.append((await client.admin("POST", "step")).body)
            while True:
                kline = await receive(market)
                if kline["k"]["x"]:
                    told.append(kline)
                    break
        await user.send_json({"id": 9, "method": "ping"})
        while True:
            event = await receive(user)
            told.append(event)
            if event.get("id") == 9:
                return told


async def test_the_same_commands_give_the_same_events_bit_for_bit(tmp_path):
    path = tmp_path / "bars.parquet"
    invented_bars(80).write_parquet(path)
    first = await messages_of_a_run(path)
    second = await messages_of_a_run(path)
    assert sum(message.get("event", {}).get("x") == "TRADE" for message in first) > 10
    assert [json.dumps(message) for message in first] == [json.dumps(message) for message in second]


async def test_balances_are_the_fills(stepped):
    await stepped.place(quantity="1")
    await stepped.place(side="SELL", quantity="0.5")
    account = (await stepped.signed("GET", "/api/v3/account")).body
    # Bought 1 at 100 less 0.1 %, sold half at 100 less 0.1 %.
    assert balances_of(account)["BTC"][0] == Decimal("10.499")
    assert balances_of(account)["USDT"][0] == Decimal("999949.95")


async def stop(client, kind="STOP_LOSS", side="SELL", quantity="0.10000", **more):
    return (await client.place(type=kind, side=side, quantity=quantity, **more)).body


async def statuses(client):
    rows = (await client.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT")).body
    return {row["orderId"]: row["status"] for row in rows}


async def test_a_stop_fills_at_its_trigger_or_at_the_open_of_a_gap(stepped):
    inside = (await stop(stepped, stopPrice="99.50"))["orderId"]
    gapped = (await stop(stepped, stopPrice="97.50"))["orderId"]
    target = (await stop(stepped, "TAKE_PROFIT", stopPrice="101.00"))["orderId"]
    refused = await stop(stepped, stopPrice="100.00")
    assert refused["msg"] == "Order would trigger immediately."
    for _ in range(2):
        await stepped.admin("POST", "step")
    assert await fills(stepped) == [
        (inside, Decimal("99.5"), False),
        (target, Decimal(101), False),
        (gapped, Decimal(97), False),
    ]


async def test_a_stop_limit_goes_live_and_rests_or_expires(stepped):
    await stepped.admin("POST", "step")
    more = {"stopPrice": "98.00", "price": "97.80"}
    resting = await stop(stepped, "STOP_LOSS_LIMIT", **more, timeInForce="GTC")
    taking = await stop(stepped, "STOP_LOSS_LIMIT", **more, timeInForce="IOC")
    late = {"stopPrice": "97.50", "price": "97.40"}
    waiting = await stop(stepped, "STOP_LOSS_LIMIT", **late, timeInForce="GTC")
    gone = await stop(stepped, "STOP_LOSS_LIMIT", **late, timeInForce="FOK")
    # 98.00 is touched and fills; the next bar opens at 97.00, below both limits.
    await stepped.admin("POST", "step")
    assert await fills(stepped) == [
        (resting["orderId"], Decimal(98), False),
        (taking["orderId"], Decimal(98), False),
    ]
    assert await statuses(stepped) == {
        resting["orderId"]: "FILLED",
        taking["orderId"]: "FILLED",
        waiting["orderId"]: "NEW",
        gone["orderId"]: "EXPIRED",
    }
    depth = (await stepped.public("/api/v3/depth", symbol="BTCUSDT")).body
    assert "97.40000000" in [price for price, _ in depth["asks"]]
    # The bar's high of 97.50 goes through the one that rests.
    await stepped.admin("POST", "step")
    assert (await fills(stepped))[2:] == [(waiting["orderId"], Decimal("97.4"), True)]


async def test_what_a_stop_does_is_told_in_order(stepped):
    async with stepped.socket("/ws-api/v3") as user:
        await stepped.call(
            user, "userDataStream.subscribe.signature", 1, **stepped.socket_parameters()
        )
        await stop(stepped, stopPrice="99.50")
        await stepped.admin("POST", "step")
        reports = []
        while not reports or reports[-1]["X"] != "FILLED":
            event = (await receive(user))["event"]
            if event["e"] == "executionReport":
                reports.append(event)
    assert (reports[0]["x"], reports[0]["X"], reports[0]["w"]) == ("NEW", "NEW", False)
    assert (reports[-1]["x"], reports[-1]["L"]) == ("TRADE", "99.50000000")


async def test_a_trailing_stop_follows_through_a_restart(tmp_path):
    rows = [
        (102.50, 104.00, 102.00, 103.00, 5.0),
        (103.00, 103.50, 102.50, 103.00, 5.0),
        (103.00, 103.00, 101.50, 102.00, 5.0),
    ]
    path, store = write_bars(tmp_path / "bars.parquet", rows), tmp_path / "store"
    async with (
        SimulatorServer(settings(path, store=store)) as server,
        SigningClient(server.url) as client,
    ):
        # 2 % below the best price: 100.45 at first, 101.92 after the first bar.
        order = await stop(client, trailingDelta="200")
        begun = await stop(client, trailingDelta="200", stopPrice="99.00")
        assert begun["msg"] == "Filter failure: TRAILING_DELTA"
        await client.admin("POST", "step")
    async with (
        SimulatorServer(settings(path, store=store)) as server,
        SigningClient(server.url) as client,
    ):
        await client.admin("POST", "step")
        assert await fills(client) == []
        await client.admin("POST", "step")
        assert await fills(client) == [(order["orderId"], Decimal("101.92"), False)]


async def test_a_cancelled_stop_never_fires(stepped):
    order = await stop(stepped, stopPrice="99.50")
    cancelled = await stepped.signed(
        "DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=order["orderId"]
    )
    assert cancelled.body["status"] == "CANCELED"
    await stepped.admin("POST", "step")
    assert await fills(stepped) == []


async def test_a_buy_stop_that_a_gap_makes_too_dear_expires_unfilled(tmp_path):
    rows = [(100.0, 100.0, 100.0, 100.0, 1.0), (110.0, 111.0, 109.0, 110.0, 1.0)]
    path = write_bars(tmp_path / "bars.parquet", rows)
    balances = {"USDT": Decimal(101), "BTC": Decimal(0)}
    async with (
        SimulatorServer(settings(path, balances=balances)) as server,
        SigningClient(server.url) as client,
    ):
        order = await stop(client, side="BUY", quantity="1.00000", stopPrice="101.00")
        await client.admin("POST", "step")
        assert await statuses(client) == {order["orderId"]: "EXPIRED"}
        account = (await client.signed("GET", "/api/v3/account")).body
        assert balances_of(account)["USDT"] == (Decimal(101), Decimal(0))


async def test_an_entry_with_its_exits_goes_through_a_restart_and_the_stop_comes_first(tmp_path):
    rows = [
        (100.00, 101.00, 100.00, 100.50, 5.0),
        (100.50, 100.50, 99.00, 99.50, 5.0),
        (99.50, 104.00, 95.00, 103.00, 5.0),
    ]
    path, store = write_bars(tmp_path / "bars.parquet", rows), tmp_path / "store"
    async with (
        SimulatorServer(settings(path, store=store)) as server,
        SigningClient(server.url) as client,
    ):
        entry = {"workingType": "LIMIT", "workingSide": "BUY", "workingPrice": "99.80"}
        exits = {"pendingAboveType": "LIMIT_MAKER", "pendingAbovePrice": "103.00"}
        exits |= {"pendingBelowType": "STOP_LOSS", "pendingBelowStopPrice": "97.00"}
        placed = await client.signed(
            "POST",
            "/api/v3/orderList/otoco",
            symbol="BTCUSDT",
            workingQuantity="0.10000",
            workingTimeInForce="GTC",
            pendingSide="SELL",
            pendingQuantity="0.09990",
            **entry,
            **exits,
        )
        first, loss, profit = (order["orderId"] for order in placed.body["orders"])
        assert await statuses(client) == {
            first: "NEW",
            loss: "PENDING_NEW",
            profit: "PENDING_NEW",
        }
        await client.admin("POST", "step")
        await client.admin("POST", "step")
        assert await fills(client) == [(first, Decimal("99.80"), True)]
        assert await statuses(client) == {first: "FILLED", loss: "NEW", profit: "NEW"}
    async with (
        SimulatorServer(settings(path, store=store)) as server,
        SigningClient(server.url) as client,
    ):
        await client.admin("POST", "step")
        assert (await fills(client))[1:] == [(loss, Decimal("97.00"), False)]
        assert await statuses(client) == {first: "FILLED", loss: "FILLED", profit: "EXPIRED"}

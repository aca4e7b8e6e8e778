"""An account is kept from trading with itself, in the core and on the wire."""

from decimal import Decimal

import pytest

from bagbot.simulator.amounts import ONE, amount_text
from bagbot.simulator.orders import ExpiryReason, OrderStatus, Prevention, TimeInForce
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient
from bagbot.tests.simulator.test_exchange import (
    NOW,
    amount,
    exchange_with,
    free_and_locked,
    order,
)
from bagbot.tests.simulator.test_user_stream import events_until_position, subscribed

FULL_BTC = (amount("10"), 0)


def met(prevention, *, makers=(("1", "100"),), taker="3", price="100", quotes=False, **more):
    """Return the exchange, the account's resting bids, and what became of its own sale."""
    exchange = exchange_with(quotes=quotes)
    resting = [
        exchange.place(order(quantity=quantity, price=level), NOW).order
        for quantity, level in makers
    ]
    exchange.take_changes()
    command = order("LIMIT", "SELL", taker, price, prevention=Prevention(prevention), **more)
    return exchange, resting, exchange.place(command, NOW)


def outcome(one):
    return one.status.value, amount_text(one.executed)[:3], amount_text(one.prevented)[:3]


@pytest.mark.parametrize(
    ("prevention", "maker_size", "taker_size", "maker", "taker"),
    [
        ("NONE", "1", "3", ("FILLED", "1.0", "0.0"), ("PARTIALLY_FILLED", "1.0", "0.0")),
        ("EXPIRE_MAKER", "1", "3", ("EXPIRED_IN_MATCH", "0.0", "1.0"), ("NEW", "0.0", "0.0")),
        ("EXPIRE_TAKER", "1", "3", ("NEW", "0.0", "0.0"), ("EXPIRED_IN_MATCH", "0.0", "3.0")),
        (
            "EXPIRE_BOTH",
            "1",
            "3",
            ("EXPIRED_IN_MATCH", "0.0", "1.0"),
            ("EXPIRED_IN_MATCH", "0.0", "3.0"),
        ),
        ("DECREMENT", "6", "2", ("NEW", "0.0", "2.0"), ("EXPIRED_IN_MATCH", "0.0", "2.0")),
        ("DECREMENT", "2", "6", ("EXPIRED_IN_MATCH", "0.0", "2.0"), ("NEW", "0.0", "2.0")),
        (
            "DECREMENT",
            "2",
            "2",
            ("EXPIRED_IN_MATCH", "0.0", "2.0"),
            ("EXPIRED_IN_MATCH", "0.0", "2.0"),
        ),
    ],
)
def test_each_mode_ends_as_binance_says(prevention, maker_size, taker_size, maker, taker):
    exchange, (resting,), placed = met(prevention, makers=((maker_size, "100"),), taker=taker_size)
    assert outcome(resting) == maker
    assert outcome(placed.order) == taker
    locked = free_and_locked(exchange, "BTC")[1]
    assert locked == (placed.order.remaining if placed.order.is_open else 0)
    locked = free_and_locked(exchange, "USDT")[1]
    assert locked == (100 * resting.remaining if resting.is_open else 0)


def test_binances_scenario_of_three_makers_leaves_the_taker_on_the_book():
    makers = (("1.2", "102"), ("1.3", "101"), ("8.1", "100"))
    exchange, resting, placed = met("EXPIRE_MAKER", makers=makers)
    assert {one.status for one in resting} == {OrderStatus.EXPIRED_IN_MATCH}
    assert [match.match_id for match in placed.prevented] == [0, 1, 2]
    assert [match.maker_prevented for match in placed.prevented] == [
        amount("1.2"),
        amount("1.3"),
        amount("8.1"),
    ]
    assert exchange.books["BTCUSDT"].best_ask() == (amount("100"), 3 * ONE)


def test_a_market_order_that_meets_only_its_own_expires_for_lack_of_others():
    exchange = exchange_with(quotes=False)
    exchange.place(order(quantity="1", price="100"), NOW)
    command = order("MARKET", "SELL", "1", prevention=Prevention.EXPIRE_MAKER)
    placed = exchange.place(command, NOW).order
    assert (placed.status, placed.expiry_reason) == (
        OrderStatus.EXPIRED,
        ExpiryReason.INSUFFICIENT_LIQUIDITY,
    )


def test_the_takers_mode_decides():
    exchange = exchange_with(quotes=False)
    resting = order(quantity="1", price="100", prevention=Prevention.EXPIRE_BOTH)
    exchange.place(resting, NOW)
    placed = exchange.place(order("LIMIT", "SELL", "1", "100"), NOW).order
    assert placed.status is OrderStatus.FILLED


def test_other_accounts_are_traded_with_before_and_after():
    exchange = exchange_with(quotes=False)
    for account, price in ((2, "102"), (1, "101"), (2, "100")):
        exchange.place(order(quantity="1", price=price, account_id=account), NOW)
    command = order("LIMIT", "SELL", "3", "100", prevention=Prevention.DECREMENT)
    placed = exchange.place(command, NOW)
    assert [(e.order_id, e.price) for e in placed.executions] == [
        (4, amount("102")),
        (4, amount("100")),
    ]
    assert outcome(placed.order) == ("FILLED", "2.0", "1.0")
    assert free_and_locked(exchange, "BTC") == (amount("8"), 0)


def test_a_fill_or_kill_order_that_meets_its_own_changes_nothing():
    _, (resting,), placed = met("EXPIRE_MAKER", taker="1", time_in_force=TimeInForce.FOK)
    assert resting.status is OrderStatus.NEW
    assert placed.order.expiry_reason is ExpiryReason.UNFILLED_FOK


@pytest.mark.parametrize("prevention", ["EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT"])
@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_an_order_by_quote_amount_keeps_its_money_straight(prevention, side):
    exchange = exchange_with()
    own_side, price = ("SELL", "100.5") if side == "BUY" else ("BUY", "99.5")
    own = exchange.place(order("LIMIT", own_side, "0.5", price), NOW).order
    command = order("MARKET", side, quote_quantity=100 * ONE, prevention=Prevention(prevention))
    placed = exchange.place(command, NOW).order
    assert not placed.is_open
    assert placed.locked == 0
    assert placed.quantity == placed.executed + placed.prevented + placed.remaining
    assert free_and_locked(exchange, "BTC")[1] == (own.remaining if own_side == "SELL" else 0)


LIMIT = {"type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01"}


@pytest.fixture
async def still():
    """Yield a client of a market that stands still, and a price inside its spread."""
    settings = SimulatorSettings(api_key=KEY, api_secret=SECRET, speed=0.000_1)
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        top = (await client.public("/api/v3/ticker/bookTicker", symbol="BTCUSDT")).body
        inside = Decimal(top["askPrice"]) - Decimal("0.01")
        assert inside > Decimal(top["bidPrice"])
        yield client, str(inside)


async def test_the_reply_and_the_query_tell_what_was_prevented(still):
    client, price = still
    resting = (await client.place(**LIMIT, side="SELL", price=price)).body["orderId"]
    reply = await client.place(
        **LIMIT | {"quantity": "0.03", "timeInForce": "IOC"},
        price=price,
        selfTradePreventionMode="DECREMENT",
    )
    body = reply.body
    assert (body["status"], body["executedQty"]) == ("EXPIRED", "0.00000000")
    assert body["selfTradePreventionMode"] == "DECREMENT"
    assert body["preventedQuantity"] == "0.01000000"
    assert body["preventedMatches"] == [
        {
            "preventedMatchId": 0,
            "makerOrderId": resting,
            "price": price,
            "takerPreventedQuantity": "0.01000000",
            "makerPreventedQuantity": "0.01000000",
        }
    ]
    found = (await client.signed("GET", "/api/v3/order", symbol="BTCUSDT", orderId=resting)).body
    assert (found["status"], found["preventedMatchId"]) == ("EXPIRED_IN_MATCH", 0)
    assert found["preventedQuantity"] == "0.01000000"
    assert "expiryReason" not in found


async def test_the_event_names_the_trade_that_was_not(still):
    client, price = still
    async with client.socket("/ws-api/v3") as socket:
        await subscribed(client, socket)
        resting = (await client.place(**LIMIT, side="SELL", price=price)).body["orderId"]
        await events_until_position(socket)
        taking = LIMIT | {"price": price, "selfTradePreventionMode": "EXPIRE_BOTH"}
        placed = (await client.place(**taking)).body["orderId"]
        *reports, _ = await events_until_position(socket)
    lost = [row for row in reports if row["x"] == "TRADE_PREVENTION"]
    assert [row["i"] for row in lost] == [resting, placed]
    assert [row["X"] for row in lost] == ["EXPIRED_IN_MATCH"] * 2
    assert [row["U"] for row in lost] == [placed, resting]
    assert (lost[0]["v"], lost[0]["A"], lost[0]["B"]) == (0, "0.01000000", "0.01000000")
    assert (lost[0]["pl"], lost[0]["pL"]) == ("0.01000000", price)
    assert Decimal(lost[0]["pY"]) == Decimal(price) / 100
    assert lost[1]["V"] == "EXPIRE_BOTH"


async def test_exchange_info_tells_the_modes_and_that_none_is_the_default(client):
    info = (await client.public("/api/v3/exchangeInfo", symbol="BTCUSDT")).body["symbols"][0]
    assert info["defaultSelfTradePreventionMode"] == "NONE"
    assert info["allowedSelfTradePreventionModes"] == [
        "NONE",
        "EXPIRE_TAKER",
        "EXPIRE_MAKER",
        "EXPIRE_BOTH",
        "DECREMENT",
    ]
    reply = await client.place(quantity="0.01", selfTradePreventionMode="TRANSFER")
    assert reply.body == {
        "code": -1013,
        "msg": "This symbol does not allow the specified self-trade prevention mode.",
    }

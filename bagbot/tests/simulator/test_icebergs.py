"""Icebergs: the book shows one slice, and the next one waits behind what others show."""

import pytest

from bagbot.simulator.amounts import ONE
from bagbot.simulator.orders import Refusal
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient
from bagbot.tests.simulator.test_exchange import NOW, amount, exchange_with, order, refusal_of


def iceberg(quantity="10", slice_quantity="3", price="100", **more):
    return order("LIMIT", "SELL", quantity, price, iceberg_quantity=amount(slice_quantity), **more)


def buys(exchange, quantity):
    """Buy from account 2 and return what each trade took from whom."""
    command = order("LIMIT", "BUY", quantity, "100", account_id=2)
    exchange.place(command, NOW)
    executions = exchange.take_changes().executions
    return [(e.order_id, e.quantity // ONE) for e in executions if e.is_maker]


def test_the_book_shows_one_slice():
    exchange = exchange_with(quotes=False)
    exchange.place(iceberg(), NOW)
    assert exchange.books["BTCUSDT"].best_ask() == (amount("100"), amount("3"))


def test_the_next_slice_waits_behind_what_is_shown_at_its_price():
    exchange = exchange_with(quotes=False)
    exchange.place(iceberg("5", "2"), NOW)
    exchange.place(order("LIMIT", "SELL", "2", "100"), NOW)
    exchange.take_changes()
    assert buys(exchange, "2") == [(1, 2)]
    assert exchange.books["BTCUSDT"].best_ask()[1] == amount("4")
    assert buys(exchange, "1") == [(2, 1)]
    assert buys(exchange, "4") == [(2, 1), (1, 2), (1, 1)]


def test_a_large_taker_meets_all_that_is_shown_and_then_slice_after_slice():
    exchange = exchange_with(quotes=False)
    exchange.place(iceberg("3", "2"), NOW)
    exchange.place(iceberg("3", "1"), NOW)
    exchange.take_changes()
    assert buys(exchange, "6") == [(1, 2), (2, 1), (1, 1), (2, 1), (2, 1)]
    assert exchange.balances[1]["BTC"].locked == 0


def test_what_is_left_of_an_iceberg_that_took_rests_in_slices():
    exchange = exchange_with(quotes=False)
    exchange.place(order("LIMIT", "BUY", "1", "100", account_id=2), NOW)
    placed = exchange.place(iceberg("8", "3"), NOW).order
    assert (placed.executed, placed.shown, placed.hidden) == (ONE, 3 * ONE, 4 * ONE)


def test_the_market_takes_all_of_an_iceberg_it_reaches():
    exchange = exchange_with(quotes=False)
    placed = exchange.place(iceberg(), NOW).order
    exchange.market_moves("BTCUSDT", amount("101"), None, NOW)
    assert placed.executed == 10 * ONE


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (iceberg("1", "2"), Refusal.ICEBERG_EXCEEDS),
        (iceberg("1", "0.0000001"), Refusal.LOT_SIZE),
        (iceberg("10", "0.099"), Refusal.ICEBERG_PARTS),
    ],
)
def test_filters_refuse_an_iceberg(command, refusal):
    assert refusal_of(exchange_with(), command) is refusal


def test_a_hundred_parts_are_allowed():
    exchange_with().place(iceberg("10", "0.1"), NOW)


ICEBERG = {
    "side": "SELL",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.05",
    "price": "150000",
    "icebergQty": "0.02",
}


async def test_an_iceberg_is_shown_in_replies_and_hidden_in_the_depth(client):
    placed = (await client.place(**ICEBERG)).body
    assert placed["icebergQty"] == "0.02000000"
    reference = {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
    found = (await client.signed("GET", "/api/v3/order", **reference)).body
    assert (found["icebergQty"], found["origQty"]) == ("0.02000000", "0.05000000")
    depth = (await client.public("/api/v3/depth", symbol="BTCUSDT", limit=5000)).body
    assert ["150000.00000000", "0.02000000"] in depth["asks"]
    info = (await client.public("/api/v3/exchangeInfo", symbol="BTCUSDT")).body["symbols"][0]
    assert info["icebergAllowed"] is True


async def test_a_restart_keeps_an_icebergs_slice_and_place(tmp_path):
    settings = SimulatorSettings(api_key=KEY, api_secret=SECRET, store=tmp_path)
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        await client.place(**ICEBERG)
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        depth = (await client.public("/api/v3/depth", symbol="BTCUSDT", limit=5000)).body
        assert ["150000.00000000", "0.02000000"] in depth["asks"]
        await client.admin("POST", "price?symbol=BTCUSDT&price=150000")
        trades = (await client.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT")).body
        assert [trade["qty"] for trade in trades] == ["0.02000000", "0.02000000", "0.01000000"]

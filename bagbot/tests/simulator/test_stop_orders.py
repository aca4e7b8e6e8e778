"""Stops in the core: what touches them, what they become, and what they hold meanwhile."""

import pytest

from bagbot.simulator.amounts import ONE
from bagbot.simulator.exchange import Moment
from bagbot.simulator.orders import (
    CancelOrder,
    ExpiryReason,
    OrderStatus,
    Refusal,
    TimeInForce,
)
from bagbot.simulator.stop_orders import StopBook
from bagbot.tests.simulator.test_exchange import (
    NOW,
    amount,
    exchange_with,
    free_and_locked,
    order,
    refusal_of,
)

LATER = Moment(NOW.time_ns + 1, NOW.market_time_ms + 1)


def stop(kind="STOP_LOSS", side="SELL", stop_price="95", quantity="1", **more):
    return order(kind, side, quantity, stop_price=amount(stop_price), **more)


def trade_at(exchange, *prices):
    """Let the market trade with itself at these prices, and touched stops go live."""
    for price in prices:
        exchange.market_prints(
            "BTCUSDT", price=amount(price), quantity=ONE, buyer_is_maker=False, time_ns=1
        )
        exchange.release_due_orders(LATER)


def trading_at(price, **more):
    exchange = exchange_with(**more)
    trade_at(exchange, price)
    exchange.take_changes()
    return exchange


@pytest.mark.parametrize(
    ("kind", "side", "stop_price", "short_of_it", "at_it"),
    [
        ("STOP_LOSS", "BUY", "105", "104.99", "105"),
        ("TAKE_PROFIT", "SELL", "105", "104.99", "105"),
        ("STOP_LOSS", "SELL", "95", "95.01", "95"),
        ("TAKE_PROFIT", "BUY", "95", "95.01", "95"),
    ],
)
def test_a_stop_is_touched_at_its_price_from_its_own_side(
    kind, side, stop_price, short_of_it, at_it
):
    exchange = trading_at("100")
    placed = exchange.place(stop(kind, side, stop_price), NOW).order
    assert (placed.status, placed.is_working, placed.working_ns) == (OrderStatus.NEW, False, None)
    trade_at(exchange, short_of_it)
    assert not placed.is_working
    trade_at(exchange, at_it)
    assert placed.is_working
    assert placed.working_ns == LATER.time_ns
    assert placed.status is OrderStatus.FILLED


@pytest.mark.parametrize(
    ("kind", "side", "stop_price"),
    [
        ("STOP_LOSS", "BUY", "100"),
        ("TAKE_PROFIT", "SELL", "99"),
        ("STOP_LOSS", "SELL", "100"),
        ("TAKE_PROFIT", "BUY", "101"),
    ],
)
def test_a_stop_that_is_already_reached_is_refused(kind, side, stop_price):
    assert refusal_of(trading_at("100"), stop(kind, side, stop_price)) is Refusal.WOULD_TRIGGER


def test_events_tell_that_the_stop_waits_goes_live_and_trades():
    exchange = trading_at("100")
    exchange.place(stop(quantity="1.5"), NOW)
    trade_at(exchange, "95")
    events = exchange.take_changes().events
    assert [(event.kind, event.is_on_book, event.working_ns) for event in events] == [
        ("NEW", False, None),
        ("RELEASED", True, LATER.time_ns),
        ("TRADE", True, LATER.time_ns),
        ("TRADE", False, LATER.time_ns),
    ]


def test_a_stop_limit_rests_at_its_own_price_once_touched():
    exchange = trading_at("100")
    command = order("STOP_LOSS_LIMIT", "SELL", "1", "99.5", stop_price=amount("95"))
    placed = exchange.place(command, NOW).order
    assert exchange.books["BTCUSDT"].best_ask()[0] == amount("101")
    trade_at(exchange, "95")
    assert placed.status is OrderStatus.NEW
    assert exchange.books["BTCUSDT"].best_ask() == (amount("99.5"), ONE)
    exchange.cancel(CancelOrder(account_id=1, symbol="BTCUSDT", order_id=1), NOW)
    assert free_and_locked(exchange, "BTC") == (amount("10"), 0)


def test_a_touched_stop_keeps_its_time_in_force():
    exchange = trading_at("100")
    command = order(
        "STOP_LOSS_LIMIT",
        "SELL",
        "5",
        "99",
        stop_price=amount("95"),
        time_in_force=TimeInForce.FOK,
    )
    placed = exchange.place(command, NOW).order
    trade_at(exchange, "95")
    assert (placed.status, placed.expiry_reason) == (
        OrderStatus.EXPIRED,
        ExpiryReason.UNFILLED_FOK,
    )
    assert free_and_locked(exchange, "BTC") == (amount("10"), 0)


def test_a_waiting_stop_locks_its_money_and_gives_it_back_when_cancelled():
    exchange = trading_at("100")
    exchange.place(stop("STOP_LOSS", "BUY", "105", "2"), NOW)
    assert free_and_locked(exchange, "USDT") == (amount("999790"), amount("210"))
    exchange.cancel(CancelOrder(account_id=1, symbol="BTCUSDT", order_id=1), NOW)
    assert free_and_locked(exchange, "USDT") == (amount("1000000"), 0)
    trade_at(exchange, "105")
    assert not exchange.take_changes().executions


def test_a_buying_stop_takes_what_its_lock_falls_short_of_from_the_free_money():
    exchange = trading_at("100", USDT="101.5")
    placed = exchange.place(stop("STOP_LOSS", "BUY", "100.5"), NOW).order
    trade_at(exchange, "100.5")
    assert placed.status is OrderStatus.FILLED
    assert free_and_locked(exchange, "USDT") == (amount("0.5"), 0)


def test_a_live_order_that_cannot_be_paid_expires_as_rejected():
    exchange = trading_at("100", USDT="100.9")
    placed = exchange.place(stop("STOP_LOSS", "BUY", "100.5"), NOW).order
    exchange.take_changes()
    trade_at(exchange, "100.5")
    assert (placed.status, placed.expiry_reason) == (OrderStatus.EXPIRED, ExpiryReason.REJECTED)
    assert not placed.is_working
    assert free_and_locked(exchange, "USDT") == (amount("100.9"), 0)
    (event,) = exchange.take_changes().events
    assert (event.kind, event.reject_reason) == ("EXPIRED", "INSUFFICIENT_BALANCES")


def test_a_stop_larger_than_a_market_order_may_be_is_rejected_when_it_goes_live():
    exchange = trading_at("100", BTC="200")
    placed = exchange.place(stop(quantity="101"), NOW).order
    trade_at(exchange, "95")
    assert placed.expiry_reason is ExpiryReason.REJECTED


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (stop(stop_price="95.001"), Refusal.PRICE_FILTER),
        (stop(quantity="0.000001"), Refusal.LOT_SIZE),
        (stop(quantity="0.01"), Refusal.NOTIONAL),
        (stop(quantity="11"), Refusal.INSUFFICIENT_BALANCE),
        (stop(trailing_delta=9), Refusal.TRAILING_DELTA),
        (stop(trailing_delta=2_001), Refusal.TRAILING_DELTA),
        (
            order("STOP_LOSS_LIMIT", "SELL", "1", "501", stop_price=amount("95")),
            Refusal.PERCENT_PRICE_BY_SIDE,
        ),
    ],
)
def test_filters_refuse_a_stop(command, refusal):
    assert refusal_of(trading_at("100"), command) is refusal


def test_the_number_of_waiting_stops_is_limited_apart_from_other_orders():
    exchange = trading_at("100", open_orders_max=7)
    for _ in range(5):
        exchange.place(stop(), NOW)
    exchange.take_changes()
    assert refusal_of(exchange, stop()) is Refusal.MAX_NUM_ALGO_ORDERS
    for _ in range(2):
        exchange.place(order(quantity="1", price="90"), NOW)
    exchange.take_changes()
    assert refusal_of(exchange, order(quantity="1", price="90")) is Refusal.MAX_NUM_ORDERS
    assert refusal_of(exchange, stop()) is Refusal.MAX_NUM_ORDERS


def test_stops_go_live_nearest_first_and_at_one_price_oldest_first():
    exchange = trading_at("100")
    for price in ("90", "95", "97", "95"):
        exchange.place(stop(stop_price=price, quantity="0.1"), NOW)
    exchange.take_changes()
    trade_at(exchange, "92")
    events = exchange.take_changes().events
    assert [event.order.order_id for event in events if event.kind == "RELEASED"] == [3, 2, 4]


def test_one_stop_sets_off_the_next_after_its_own_matching():
    exchange = exchange_with(quotes=False)
    for price in ("95", "90"):
        exchange.place(order(quantity="1", price=price, account_id=2), NOW)
    trade_at(exchange, "100")
    exchange.place(stop(stop_price="96", quantity="1"), NOW)
    exchange.place(stop(stop_price="95", quantity="1"), NOW)
    exchange.take_changes()
    trade_at(exchange, "96")
    fills = [(e.order_id, e.price) for e in exchange.take_changes().executions if not e.is_maker]
    assert fills == [(3, amount("95")), (4, amount("90"))]


def test_a_users_own_trade_sets_off_stops_too():
    exchange = trading_at("100")
    placed = exchange.place(stop("STOP_LOSS", "BUY", "101", "0.5"), NOW).order
    exchange.place(order("MARKET", "BUY", "0.5", account_id=2), NOW)
    assert placed.status is OrderStatus.FILLED


# The scenarios of Binance's page on trailing stops, in thousands.
TRAILING = [
    ("STOP_LOSS", "BUY", "44", 500, ["37", "43.9", "44", "45", "46", "42"], "44.09", "44.1"),
    ("STOP_LOSS", "SELL", "39", 1000, ["41.5", "39", "37", "41"], "36.91", "36.9"),
    ("TAKE_PROFIT", "BUY", "38", 850, ["42", "38", "37", "39", "38"], "40.14", "40.145"),
    ("TAKE_PROFIT", "SELL", "42", 750, ["39", "42", "45", "44", "46.5"], "43.02", "43.0125"),
    ("STOP_LOSS", "SELL", "0", 700, ["39.5", "42"], "39.07", "39.06"),
]


@pytest.mark.parametrize(
    ("kind", "side", "stop_price", "delta", "path", "almost", "there"), TRAILING
)
def test_a_trailing_stop_follows_as_in_binances_scenarios(
    kind, side, stop_price, delta, path, almost, there
):
    exchange = exchange_with()
    exchange.reference_prices["BTCUSDT"] = amount("40")
    trade_at(exchange, "40")
    placed = exchange.place(stop(kind, side, stop_price, trailing_delta=delta), NOW).order
    trade_at(exchange, *path, almost)
    assert not placed.is_working
    trade_at(exchange, there)
    assert placed.is_working


def test_a_trailing_stop_placed_before_any_trade_follows_from_the_first_one():
    exchange = exchange_with()
    placed = exchange.place(stop(stop_price="0", trailing_delta=1_000), NOW).order
    trade_at(exchange, "100", "90.01")
    assert not placed.is_working
    trade_at(exchange, "90")
    assert placed.is_working


def test_a_waiting_stop_is_not_looked_at_by_a_trade_that_does_not_touch_it():
    stops = StopBook()
    waiting = exchange_with().place(stop(), NOW).order
    stops.add(waiting, None)
    looked_at = []

    class Watched(dict):
        def __getitem__(self, key):
            looked_at.append(key)
            return super().__getitem__(key)

        def pop(self, key, *default):
            looked_at.append(key)
            return super().pop(key, *default)

    stops._orders = Watched(stops._orders)
    assert stops.touch(amount("95.01"), 1) == ([], [])
    assert looked_at == []
    assert stops.touch(amount("94"), 1) == ([waiting], [])

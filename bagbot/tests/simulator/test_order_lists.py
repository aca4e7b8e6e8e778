"""Order lists in the core: who begins, who ends, and what is locked meanwhile."""

import pytest

from bagbot.simulator.amounts import ONE
from bagbot.simulator.list_exchange import ListExchange
from bagbot.simulator.order_lists import PlaceOrderList
from bagbot.simulator.orders import (
    CancelOrder,
    CancelRefusedError,
    ExpiryReason,
    OrderEvent,
    OrderRefusedError,
    OrderStatus,
    Refusal,
    TimeInForce,
)
from bagbot.simulator.symbols import DEFAULT_SYMBOLS
from bagbot.tests.simulator.test_exchange import NOW, amount, free_and_locked, order


def trading_at_100(btc="10", usdt="1000"):
    exchange = ListExchange(DEFAULT_SYMBOLS)
    for account in (1, 2):
        exchange.open_account(account, {"BTC": amount(btc), "USDT": amount(usdt)})
    exchange.market_quotes(
        "BTCUSDT",
        [(amount("99"), ONE), (amount("98"), ONE)],
        [(amount("101"), ONE), (amount("102"), ONE)],
    )
    trade_at(exchange, "100")
    exchange.take_changes()
    return exchange


def trade_at(exchange, price):
    exchange.market_prints(
        "BTCUSDT", price=amount(price), quantity=ONE, buyer_is_maker=False, time_ns=1
    )
    exchange.release_due_orders(NOW)


def stop_loss(side="SELL", stop_price="95", **more):
    return order("STOP_LOSS", side, "1", stop_price=amount(stop_price), **more)


def limit_maker(side="SELL", price="105", **more):
    return order("LIMIT_MAKER", side, "1", price, **more)


def listed(*followers, working=None, **more):
    return PlaceOrderList(
        account_id=1, symbol="BTCUSDT", working=working, followers=followers, **more
    )


def oco(stop_price="95", price="105", side="SELL"):
    return listed(stop_loss(side, stop_price), limit_maker(side, price))


def placed(exchange, command):
    """Place a list and return its orders as the exchange holds them."""
    placement = exchange.place_list(command, NOW)
    orders = exchange.take_changes().orders
    return [orders[order_id] for order_id, _ in placement.order_list.orders]


def told(exchange):
    """Return what was told: orders as kind, status and id, lists as whether they are done."""
    return [
        (event.kind, event.status.value, event.order.order_id)
        if isinstance(event, OrderEvent)
        else event.is_done
        for event in exchange.take_changes().events
    ]


def test_an_oco_locks_its_money_once():
    exchange = trading_at_100()
    exchange.place_list(oco(), NOW)
    assert free_and_locked(exchange, "BTC") == (amount("9"), ONE)
    exchange = trading_at_100()
    exchange.place_list(oco(stop_price="105", price="95", side="BUY"), NOW)
    # The larger of the two: the stop at 105 rather than the limit at 95.
    assert free_and_locked(exchange, "USDT") == (amount("895"), amount("105"))


def test_an_oco_tells_its_orders_then_the_list():
    exchange = trading_at_100()
    exchange.place_list(oco(), NOW)
    assert told(exchange) == [("NEW", "NEW", 1), ("NEW", "NEW", 2), False]


def test_a_touched_stop_ends_the_limit_order_and_trades():
    exchange = trading_at_100()
    stop, limit = placed(exchange, oco())
    trade_at(exchange, "95")
    assert told(exchange) == [
        ("EXPIRED", "EXPIRED", 2),
        ("RELEASED", "NEW", 1),
        ("TRADE", "FILLED", 1),
        True,
    ]
    assert limit.expiry_reason is ExpiryReason.OCO_TRIGGER
    assert exchange.books["BTCUSDT"].best_ask()[0] == amount("101")
    assert (stop.locked, limit.locked, exchange.balances[1]["BTC"].locked) == (0, 0, 0)


def test_the_first_trade_of_the_limit_order_ends_the_stop():
    exchange = trading_at_100()
    exchange.market_quotes("BTCUSDT", [], [])
    stop, limit = placed(exchange, oco())
    exchange.take_changes()
    exchange.place(order("LIMIT", "BUY", "0.4", "105", account_id=2), NOW)
    assert (stop.status, stop.expiry_reason) == (OrderStatus.EXPIRED, ExpiryReason.OCO_TRIGGER)
    assert (limit.status, limit.locked) == (OrderStatus.PARTIALLY_FILLED, amount("0.6"))
    trade_at(exchange, "90")
    assert exchange.open_lists(1)
    exchange.place(order("LIMIT", "BUY", "0.6", "105", account_id=2), NOW)
    assert not exchange.open_lists(1)


def test_a_buying_oco_returns_what_the_cheaper_order_does_not_need():
    exchange = trading_at_100()
    exchange.place_list(oco(stop_price="105", price="95", side="BUY"), NOW)
    exchange.market_moves("BTCUSDT", amount("95"), None, NOW)
    assert free_and_locked(exchange, "USDT") == (amount("905"), 0)
    assert exchange.balances[1]["BTC"].free == amount("10.999")


@pytest.mark.parametrize("number", [1, 2])
def test_cancelling_one_order_cancels_the_list(number):
    exchange = trading_at_100()
    legs = placed(exchange, oco())
    command = CancelOrder(account_id=1, symbol="BTCUSDT", order_id=number, cancel_id="out")
    exchange.cancel(command, NOW)
    assert [leg.status for leg in legs] == [OrderStatus.CANCELED] * 2
    assert [leg.cancel_id for leg in legs] == ["out"] * 2
    assert told(exchange) == [
        ("CANCELED", "CANCELED", number),
        ("CANCELED", "CANCELED", 3 - number),
        True,
    ]
    assert free_and_locked(exchange, "BTC") == (amount("10"), 0)


def test_a_list_is_cancelled_by_its_ids_which_must_agree():
    exchange = trading_at_100()
    exchange.place_list(listed(stop_loss(), limit_maker(), client_list_id="mine"), NOW)
    for ids in ((1, None), (0, "yours"), (None, "yours")):
        with pytest.raises(CancelRefusedError):
            exchange.cancel_list(1, "BTCUSDT", NOW, list_id=ids[0], client_list_id=ids[1])
    done, legs = exchange.cancel_list(1, "BTCUSDT", NOW, list_id=0, client_list_id="mine")
    assert (done.is_open, len(legs)) == (False, 2)


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (oco(stop_price="100"), Refusal.OCO_PRICES),
        (oco(stop_price="101"), Refusal.OCO_PRICES),
        (oco(price="100"), Refusal.OCO_PRICES),
        (oco(stop_price="99", price="101", side="BUY"), Refusal.OCO_PRICES),
        (
            listed(stop_loss(), order("TAKE_PROFIT", "SELL", "1", stop_price=amount("100"))),
            Refusal.OCO_PRICES,
        ),
        (
            listed(
                stop_loss(),
                order("TAKE_PROFIT_LIMIT", "SELL", "1", "105", stop_price=amount("99")),
            ),
            Refusal.WOULD_TRIGGER,
        ),
        (listed(stop_loss(client_order_id="a"), limit_maker(client_order_id="a")), "twice"),
        (listed(stop_loss(stop_price="95.001"), limit_maker()), Refusal.PRICE_FILTER),
    ],
)
def test_a_bad_list_is_refused_and_changes_nothing(command, refusal):
    exchange = trading_at_100()
    with pytest.raises(OrderRefusedError) as caught:
        exchange.place_list(command, NOW)
    expected = Refusal.DUPLICATE_ORDER if refusal == "twice" else refusal
    assert caught.value.refusal is expected
    assert not exchange.take_changes().is_durable
    assert not exchange.open_orders(1)


def test_a_limit_maker_that_would_take_and_missing_money_refuse_an_oco():
    exchange = trading_at_100()
    exchange.market_quotes("BTCUSDT", [(amount("105"), ONE)], [])
    with pytest.raises(OrderRefusedError, match="immediately match"):
        exchange.place_list(oco(), NOW)
    with pytest.raises(OrderRefusedError, match="insufficient balance"):
        trading_at_100(btc="0.9").place_list(oco(), NOW)


def test_lists_count_all_their_orders_against_the_filters():
    exchange = trading_at_100()
    for _ in range(5):
        exchange.place_list(oco(), NOW)
    with pytest.raises(OrderRefusedError, match="MAX_NUM_ALGO_ORDERS"):
        exchange.place_list(oco(), NOW)
    assert len(exchange.open_orders(1)) == 10
    exchange = trading_at_100()
    pending = order("LIMIT", "SELL", "0.1", "120")
    for _ in range(20):
        working = order("LIMIT", "BUY", "0.1", "60")
        exchange.place_list(listed(pending, working=working), NOW)
    with pytest.raises(OrderRefusedError, match="MAX_NUM_ORDER_LISTS"):
        exchange.place_list(listed(pending, working=working), NOW)


def test_a_list_client_id_is_unique_among_open_lists_only():
    exchange = trading_at_100()
    command = listed(stop_loss(), limit_maker(), client_list_id="mine")
    exchange.place_list(command, NOW)
    with pytest.raises(OrderRefusedError, match="Duplicate"):
        exchange.place_list(command, NOW)
    exchange.cancel_list(1, "BTCUSDT", NOW, list_id=0, client_list_id=None)
    assert exchange.place_list(command, NOW).order_list.list_id == 1


def working_buy(price="95", **more):
    return order("LIMIT", "BUY", "1", price, **more)


def test_a_pending_order_locks_nothing_and_begins_when_the_working_one_is_filled():
    exchange = trading_at_100()
    working, pending = placed(
        exchange, listed(order("LIMIT", "SELL", "1", "110"), working=working_buy())
    )
    assert (pending.status, pending.is_working) == (OrderStatus.PENDING_NEW, False)
    assert free_and_locked(exchange, "BTC") == (amount("10"), 0)
    exchange.take_changes()
    exchange.market_moves("BTCUSDT", amount("95"), None, NOW)
    assert exchange.has_due_orders
    exchange.release_due_orders(NOW)
    assert told(exchange) == [("TRADE", "FILLED", 1), ("RELEASED", "NEW", 2)]
    assert working.status is OrderStatus.FILLED
    assert exchange.balances[1]["BTC"].locked == ONE
    assert exchange.books["BTCUSDT"].best_ask() == (amount("110"), ONE)


def test_the_reply_shows_the_pending_order_as_pending_even_when_it_has_begun():
    exchange = trading_at_100()
    command = listed(order("MARKET", "SELL", "1"), working=working_buy("101"))
    placement = exchange.place_list(command, NOW)
    shown = [one.order.status for one in placement.placements]
    assert shown == [OrderStatus.FILLED, OrderStatus.PENDING_NEW]
    assert told(exchange) == [
        ("NEW", "NEW", 1),
        ("NEW", "PENDING_NEW", 2),
        False,
        ("TRADE", "FILLED", 1),
        ("RELEASED", "NEW", 2),
        ("TRADE", "FILLED", 2),
        True,
    ]


def test_a_partly_filled_working_order_does_not_begin_the_pending_one():
    exchange = trading_at_100()
    command = listed(order("MARKET", "SELL", "1"), working=working_buy("101", account_id=1))
    exchange.market_quotes("BTCUSDT", [], [(amount("101"), ONE // 2)])
    _, pending = placed(exchange, command)
    assert pending.status is OrderStatus.PENDING_NEW


def test_a_working_order_that_expires_ends_the_pending_one():
    exchange = trading_at_100()
    exchange.place_list(
        listed(order("MARKET", "SELL", "1"), working=working_buy(time_in_force=TimeInForce.IOC)),
        NOW,
    )
    changes = exchange.take_changes()
    assert changes.orders[2].expiry_reason is ExpiryReason.OTO_PHASE_ONE_EXPIRED
    assert not exchange.open_lists(1)


@pytest.mark.parametrize("number", [1, 2])
def test_cancelling_the_working_or_the_pending_order_ends_both(number):
    exchange = trading_at_100()
    legs = placed(exchange, listed(order("MARKET", "SELL", "1"), working=working_buy()))
    exchange.cancel(CancelOrder(account_id=1, symbol="BTCUSDT", order_id=number), NOW)
    assert [leg.status for leg in legs] == [OrderStatus.CANCELED] * 2
    assert free_and_locked(exchange, "USDT") == (amount("1000"), 0)


def pending_pair(stop_price="90", price="110"):
    return listed(stop_loss(stop_price=stop_price), limit_maker(price=price), working=working_buy())


def test_an_otoco_begins_its_pair_which_then_is_an_oco():
    exchange = trading_at_100()
    _, stop, limit = placed(exchange, pending_pair())
    exchange.market_moves("BTCUSDT", amount("95"), None, NOW)
    exchange.release_due_orders(NOW)
    assert (stop.status, stop.is_working, limit.is_working) == (OrderStatus.NEW, False, True)
    assert exchange.balances[1]["BTC"].locked == ONE
    exchange.market_moves("BTCUSDT", amount("110"), None, NOW)
    assert (limit.status, stop.expiry_reason) == (OrderStatus.FILLED, ExpiryReason.OCO_TRIGGER)
    assert not exchange.open_lists(1)


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (pending_pair(stop_price="96"), "OCO_BAD_PRICES"),
        (
            listed(stop_loss(stop_price="96"), working=working_buy()),
            "STOP_PRICE_WOULD_TRIGGER_IMMEDIATELY",
        ),
        (
            listed(order("LIMIT", "SELL", "99", "110"), working=working_buy()),
            "INSUFFICIENT_BALANCES",
        ),
        (listed(limit_maker(price="94"), working=working_buy()), "WOULD_MATCH_IMMEDIATELY"),
    ],
)
def test_what_may_not_begin_expires_as_rejected_with_its_reason(command, reason):
    exchange = trading_at_100()
    _, *pending = placed(exchange, command)
    exchange.market_moves("BTCUSDT", amount("95"), None, NOW)
    exchange.market_quotes("BTCUSDT", [(amount("94.5"), ONE)], [])
    exchange.take_changes()
    exchange.release_due_orders(NOW)
    assert {one.expiry_reason for one in pending} == {ExpiryReason.REJECTED}
    first, *_, done = exchange.take_changes().events
    assert (first.reject_reason, done.is_done) == (reason, True)
    assert exchange.balances[1]["BTC"].locked == 0
    assert not exchange.open_lists(1)


def test_a_pending_pair_must_have_its_prices_in_their_order_when_placed():
    with pytest.raises(OrderRefusedError, match="relationship of the prices"):
        trading_at_100().place_list(pending_pair(stop_price="111"), NOW)

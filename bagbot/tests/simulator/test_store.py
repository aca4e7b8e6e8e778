import pytest

from bagbot.simulator.exchange import Balance
from bagbot.simulator.orders import Changes, Order, OrderStatus, OrderType, TimeInForce
from bagbot.simulator.store import Store, VenueState

STATE = VenueState(
    market_name="",
    market_time_ms=0,
    offset_ms=0,
    prices={},
    next_order_id=1,
    next_event_id=1,
    next_trade_ids={},
)


def order(number, status=OrderStatus.NEW):
    return Order(
        order_id=number,
        account_id=1,
        symbol="BTCUSDT",
        is_buy=True,
        type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        price=1,
        quantity=1,
        remaining=1,
        client_order_id=f"order-{number}",
        status=status,
    )


@pytest.mark.parametrize("is_file", [True, False])
def test_every_saved_order_is_found_at_once_and_as_it_was_saved_last(tmp_path, is_file):
    store = Store(tmp_path if is_file else None)
    for number in range(1, 201):
        balances = [(1, "BTC", Balance(number, 0))]
        store.save(Changes(orders={number: order(number)}), balances, STATE)
        if number % 7 == 0:
            found = store.order(1, "BTCUSDT", number)
            assert (found, store.balances(1)) == (order(number), {"BTC": Balance(number, 0)})
    store.save(Changes(orders={200: order(200, OrderStatus.CANCELED)}), [], STATE)
    assert [found.order_id for found in store.orders(1, limit=1_000)] == list(range(1, 201))
    assert [found.order_id for found in store.open_orders()] == list(range(1, 200))
    store.close()


def test_a_change_kept_in_memory_is_the_order_as_it_was_when_saved():
    store = Store(None)
    placed = order(1)
    store.save(Changes(orders={1: placed}), [], STATE)
    placed.status = OrderStatus.FILLED
    assert store.order(1, "BTCUSDT", 1).status is OrderStatus.NEW
    store.close()

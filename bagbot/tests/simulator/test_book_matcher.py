from bagbot.simulator.amounts import ONE
from bagbot.simulator.book_matcher import Book
from bagbot.simulator.orders import Order, OrderType, TimeInForce


def resting(order_id, price, quantity, *, is_buy):
    return Order(
        order_id=order_id,
        account_id=1,
        symbol="BTCUSDT",
        is_buy=is_buy,
        type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        price=price * ONE,
        quantity=quantity * ONE,
        remaining=quantity * ONE,
    )


def book_of(*orders):
    book = Book()
    for order in orders:
        book.rest(order)
    return book


def matched(plan):
    return [(m.maker.order_id, m.price // ONE, m.quantity // ONE) for m in plan.matches]


def test_better_price_trades_first_then_the_earlier_order():
    book = book_of(
        resting(1, 102, 1, is_buy=False),
        resting(2, 101, 1, is_buy=False),
        resting(3, 101, 1, is_buy=False),
        resting(4, 100, 1, is_buy=False),
    )
    plan = book.plan(is_buy=True, limit=None, quantity=4 * ONE)
    assert matched(plan) == [(4, 100, 1), (2, 101, 1), (3, 101, 1), (1, 102, 1)]


def test_a_limit_stops_the_matching_and_keeps_the_rest():
    book = book_of(resting(1, 101, 1, is_buy=False), resting(2, 102, 1, is_buy=False))
    plan = book.plan(is_buy=True, limit=101 * ONE, quantity=3 * ONE)
    assert matched(plan) == [(1, 101, 1)]
    assert plan.missing == 2 * ONE
    assert not plan.is_stopped_by_range


def test_planning_changes_nothing():
    book = book_of(resting(1, 101, 2, is_buy=False))
    book.plan(is_buy=True, limit=None, quantity=ONE)
    assert book.best_ask() == (101 * ONE, 2 * ONE)


def test_taking_part_of_an_order_keeps_its_place():
    first, second = resting(1, 101, 2, is_buy=False), resting(2, 101, 2, is_buy=False)
    book = book_of(first, second)
    book.take(first, ONE)
    assert book.best_ask() == (101 * ONE, 3 * ONE)
    plan = book.plan(is_buy=True, limit=None, quantity=2 * ONE)
    assert matched(plan) == [(1, 101, 1), (2, 101, 1)]


def test_an_empty_level_disappears():
    order = resting(1, 99, 1, is_buy=True)
    book = book_of(order, resting(2, 98, 1, is_buy=True))
    book.take(order, ONE)
    assert book.bids(10) == [(98 * ONE, ONE)]


def test_cancelling_from_the_middle_of_a_queue_keeps_the_others_in_order():
    orders = [resting(number, 99, 1, is_buy=True) for number in (1, 2, 3)]
    book = book_of(*orders)
    book.remove(orders[1])
    plan = book.plan(is_buy=False, limit=None, quantity=2 * ONE)
    assert matched(plan) == [(1, 99, 1), (3, 99, 1)]


def test_nothing_trades_outside_the_price_range():
    book = book_of(resting(1, 101, 1, is_buy=False), resting(2, 103, 1, is_buy=False))
    book.price_range = (100 * ONE, 102 * ONE)
    plan = book.plan(is_buy=True, limit=None, quantity=2 * ONE)
    assert matched(plan) == [(1, 101, 1)]
    assert plan.is_stopped_by_range


def test_an_order_priced_beyond_the_range_may_not_rest():
    book = book_of(resting(1, 101, 1, is_buy=False))
    book.price_range = (100 * ONE, 102 * ONE)
    assert book.plan(is_buy=True, limit=103 * ONE, quantity=2 * ONE).is_stopped_by_range
    assert not book.plan(is_buy=True, limit=102 * ONE, quantity=2 * ONE).is_stopped_by_range


def test_a_quote_amount_buys_whole_lots_and_never_more_than_it_pays():
    book = book_of(resting(1, 300, 1, is_buy=False), resting(2, 400, 10, is_buy=False))
    plan = book.plan_quote(is_buy=True, quote_quantity=1_000 * ONE, lot=ONE // 10)
    assert [(m.maker.order_id, m.quantity) for m in plan.matches] == [
        (1, ONE),
        (2, 17 * ONE // 10),
    ]
    assert plan.missing == 0


def test_a_quote_amount_larger_than_the_book_says_what_is_missing():
    book = book_of(resting(1, 100, 1, is_buy=False))
    plan = book.plan_quote(is_buy=True, quote_quantity=350 * ONE, lot=ONE)
    assert matched(plan) == [(1, 100, 1)]
    assert plan.missing == 2 * ONE


def test_withdrawn_quotes_leave_only_users_orders():
    book = book_of(resting(1, 99, 1, is_buy=True))
    book.place_quotes("BTCUSDT", [(98 * ONE, ONE)], [(101 * ONE, ONE)])
    assert book.quote_count == 2
    book.withdraw_quotes()
    assert book.bids(10) == [(99 * ONE, ONE)]
    assert book.asks(10) == []

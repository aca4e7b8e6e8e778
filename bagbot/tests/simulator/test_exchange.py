import pytest

from bagbot.simulator.amounts import ONE, amount_from_text
from bagbot.simulator.exchange import Exchange, Moment
from bagbot.simulator.orders import (
    CancelOrder,
    CancelRefusedError,
    ExpiryReason,
    OrderRefusedError,
    OrderStatus,
    OrderType,
    PlaceOrder,
    Refusal,
    TimeInForce,
)
from bagbot.simulator.symbols import DEFAULT_SYMBOLS, with_open_orders_max

NOW = Moment(1_700_000_000_000_000_000, 1_600_000_000_000)


def amount(text):
    return amount_from_text(text)


def exchange_with(*, quotes=True, open_orders_max=200, **balances):
    exchange = Exchange(with_open_orders_max(DEFAULT_SYMBOLS, open_orders_max))
    held = {"BTC": "10", "USDT": "1000000"} | balances
    exchange.open_account(1, {asset: amount(text) for asset, text in held.items()})
    exchange.open_account(2, {asset: amount(text) for asset, text in held.items()})
    exchange.reference_prices["BTCUSDT"] = amount("100")
    if quotes:
        exchange.market_quotes(
            "BTCUSDT",
            [(amount("99"), ONE), (amount("98"), ONE)],
            [(amount("101"), ONE), (amount("102"), ONE)],
        )
    exchange.take_changes()
    return exchange


def order(kind="LIMIT", side="BUY", quantity="0", price="0", **more):
    more.setdefault("account_id", 1)
    return PlaceOrder(
        symbol="BTCUSDT",
        is_buy=side == "BUY",
        type=OrderType(kind),
        quantity=amount(quantity),
        price=amount(price),
        **more,
    )


def free_and_locked(exchange, asset, account_id=1):
    held = exchange.balances[account_id][asset]
    return held.free, held.locked


def refusal_of(exchange, command):
    with pytest.raises(OrderRefusedError) as caught:
        exchange.place(command, NOW)
    assert not exchange.take_changes().is_durable
    return caught.value.refusal


def test_market_order_trades_through_the_book_and_pays_fees_from_what_it_receives():
    exchange = exchange_with()
    placed = exchange.place(order("MARKET", quantity="1.5"), NOW)
    assert placed.order.status is OrderStatus.FILLED
    assert [(e.price, e.quantity, e.commission) for e in placed.executions] == [
        (amount("101"), ONE, amount("0.001")),
        (amount("102"), ONE // 2, amount("0.0005")),
    ]
    assert free_and_locked(exchange, "BTC") == (amount("11.4985"), 0)
    assert free_and_locked(exchange, "USDT") == (amount("999848"), 0)


def test_market_order_expires_with_its_fills_when_the_book_runs_dry():
    exchange = exchange_with()
    placed = exchange.place(order("MARKET", quantity="3"), NOW)
    assert placed.order.status is OrderStatus.EXPIRED
    assert placed.order.expiry_reason is ExpiryReason.INSUFFICIENT_LIQUIDITY
    assert placed.order.executed == 2 * ONE
    kinds = [event.kind for event in exchange.take_changes().events]
    assert kinds == ["NEW", "TRADE", "TRADE", "EXPIRED"]


def test_market_order_on_an_empty_book_expires_without_fills():
    exchange = exchange_with(quotes=False)
    placed = exchange.place(order("MARKET", quantity="1"), NOW)
    assert (placed.order.status, placed.order.executed) == (OrderStatus.EXPIRED, 0)


def test_resting_order_locks_its_money_and_frees_what_a_better_price_saves():
    exchange = exchange_with()
    placed = exchange.place(order(quantity="2", price="101.5"), NOW)
    # One was bought at 101; the other still waits at 101.5.
    assert placed.order.status is OrderStatus.PARTIALLY_FILLED
    assert free_and_locked(exchange, "USDT") == (amount("999797.5"), amount("101.5"))
    exchange.cancel(CancelOrder(account_id=1, symbol="BTCUSDT", order_id=1), NOW)
    assert free_and_locked(exchange, "USDT") == (amount("999899"), 0)


def test_maker_gets_its_own_price():
    exchange = exchange_with(quotes=False)
    exchange.place(order(side="SELL", quantity="1", price="100"), NOW)
    placed = exchange.place(order(quantity="1", price="105", account_id=2), NOW)
    assert placed.executions[0].price == amount("100")
    assert free_and_locked(exchange, "USDT", account_id=2) == (amount("999900"), 0)


@pytest.mark.parametrize(
    ("time_in_force", "executed", "reason"),
    [
        ("IOC", ONE, ExpiryReason.UNFILLED_IOC),
        ("FOK", 0, ExpiryReason.UNFILLED_FOK),
    ],
)
def test_ioc_takes_what_it_can_and_fok_all_or_nothing(time_in_force, executed, reason):
    exchange = exchange_with()
    command = order(quantity="2", price="101", time_in_force=TimeInForce(time_in_force))
    placed = exchange.place(command, NOW)
    assert placed.order.status is OrderStatus.EXPIRED
    assert (placed.order.executed, placed.order.expiry_reason) == (executed, reason)
    assert free_and_locked(exchange, "USDT")[1] == 0


def test_fok_fills_when_it_can_fill_completely():
    exchange = exchange_with()
    command = order(quantity="2", price="102", time_in_force=TimeInForce.FOK)
    assert exchange.place(command, NOW).order.status is OrderStatus.FILLED


def test_limit_maker_that_would_take_is_refused():
    exchange = exchange_with()
    assert refusal_of(exchange, order("LIMIT_MAKER", quantity="1", price="101")) is (
        Refusal.WOULD_TAKE
    )
    placed = exchange.place(order("LIMIT_MAKER", quantity="1", price="100"), NOW)
    assert placed.order.status is OrderStatus.NEW


def test_client_order_id_is_unique_among_open_orders_only():
    exchange = exchange_with()
    resting = order(quantity="1", price="90", client_order_id="once")
    exchange.place(resting, NOW)
    exchange.take_changes()
    assert refusal_of(exchange, resting) is Refusal.DUPLICATE_ORDER
    exchange.cancel(CancelOrder(account_id=1, symbol="BTCUSDT", client_order_id="once"), NOW)
    assert exchange.place(resting, NOW).order.order_id == 2
    market = order("MARKET", quantity="0.1", client_order_id="twice")
    exchange.place(market, NOW)
    # This is how one order becomes two: a filled order has given its id back.
    assert exchange.place(market, NOW).order.status is OrderStatus.FILLED


def test_another_accounts_client_order_id_does_not_matter():
    exchange = exchange_with()
    exchange.place(order(quantity="1", price="90", client_order_id="mine"), NOW)
    exchange.place(order(quantity="1", price="90", client_order_id="mine", account_id=2), NOW)


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (order(quantity="1", price="100.001"), Refusal.PRICE_FILTER),
        (order(quantity="1", price="1000001"), Refusal.PRICE_FILTER),
        (order(quantity="0.000001", price="100"), Refusal.LOT_SIZE),
        (order(quantity="9001", price="100"), Refusal.LOT_SIZE),
        (order(quantity="0.01", price="100"), Refusal.NOTIONAL),
        (order(quantity="1", price="501"), Refusal.PERCENT_PRICE_BY_SIDE),
        (order(quantity="1", price="19"), Refusal.PERCENT_PRICE_BY_SIDE),
        (order("MARKET", quantity="0.01"), Refusal.NOTIONAL),
        (order("MARKET", quantity="101"), Refusal.MARKET_LOT_SIZE),
        (order("MARKET", quote_quantity=4 * ONE), Refusal.NOTIONAL),
        (order(side="SELL", quantity="11", price="110"), Refusal.INSUFFICIENT_BALANCE),
        (order(quantity="9000", price="120"), Refusal.INSUFFICIENT_BALANCE),
    ],
)
def test_filters_refuse_and_change_nothing(command, refusal):
    assert refusal_of(exchange_with(), command) is refusal


def test_percent_price_limits_are_inclusive():
    exchange = exchange_with()
    exchange.place(order(quantity="1", price="20"), NOW)
    exchange.place(order(side="SELL", quantity="1", price="500"), NOW)


def test_market_order_needs_the_money_for_all_of_it():
    exchange = exchange_with(USDT="150")
    assert refusal_of(exchange, order("MARKET", quantity="2")) is Refusal.INSUFFICIENT_BALANCE
    exchange.place(order("MARKET", quantity="1"), NOW)


def test_too_many_open_orders_are_refused_until_one_ends():
    exchange = exchange_with(open_orders_max=2)
    for _ in range(2):
        exchange.place(order(quantity="1", price="90"), NOW)
    exchange.take_changes()
    assert refusal_of(exchange, order(quantity="1", price="90")) is Refusal.MAX_NUM_ORDERS
    exchange.cancel(CancelOrder(account_id=1, symbol="BTCUSDT", order_id=1), NOW)
    exchange.place(order(quantity="1", price="90"), NOW)


def test_quote_quantity_buys_as_much_as_it_pays_for():
    exchange = exchange_with()
    placed = exchange.place(order("MARKET", quote_quantity=amount("150")), NOW)
    assert placed.order.status is OrderStatus.FILLED
    # 1 at 101 leaves 49, which is 0.48039 at 102 and 0.00022 over.
    assert placed.order.quantity == amount("1.48039")
    assert placed.order.executed_quote == amount("149.99978")
    assert free_and_locked(exchange, "USDT") == (amount("999850.00022"), 0)


def test_quote_quantity_sells_at_most_for_it():
    exchange = exchange_with()
    placed = exchange.place(order("MARKET", side="SELL", quote_quantity=amount("50")), NOW)
    assert placed.order.executed_quote <= amount("50")
    assert placed.order.quantity == amount("0.50505")


def test_quote_quantity_on_an_empty_book_is_refused():
    exchange = exchange_with(quotes=False)
    command = order("MARKET", quote_quantity=amount("50"))
    assert refusal_of(exchange, command) is Refusal.NO_LIQUIDITY


def test_quote_quantity_larger_than_the_book_expires_with_its_fills():
    exchange = exchange_with()
    placed = exchange.place(order("MARKET", quote_quantity=amount("5000")), NOW)
    assert placed.order.status is OrderStatus.EXPIRED
    assert placed.order.executed == 2 * ONE
    assert free_and_locked(exchange, "USDT") == (amount("999797"), 0)


def test_cancel_is_refused_for_unknown_closed_and_foreign_orders():
    exchange = exchange_with()
    exchange.place(order(quantity="1", price="90", client_order_id="mine"), NOW)
    for wrong in (
        CancelOrder(account_id=1, symbol="BTCUSDT", order_id=99),
        CancelOrder(account_id=2, symbol="BTCUSDT", order_id=1),
        CancelOrder(account_id=1, symbol="ETHUSDT", order_id=1),
        CancelOrder(account_id=1, symbol="BTCUSDT", order_id=1, client_order_id="other"),
        CancelOrder(account_id=1, symbol="BTCUSDT", client_order_id="other"),
    ):
        with pytest.raises(CancelRefusedError) as caught:
            exchange.cancel(wrong, NOW)
        assert caught.value.refusal is Refusal.UNKNOWN_ORDER
    exchange.cancel(CancelOrder(account_id=1, symbol="BTCUSDT", order_id=1), NOW)
    with pytest.raises(CancelRefusedError):
        exchange.cancel(CancelOrder(account_id=1, symbol="BTCUSDT", order_id=1), NOW)


def test_cancel_restriction_looks_at_the_status():
    exchange = exchange_with()
    exchange.place(order(quantity="1", price="90"), NOW)
    command = CancelOrder(
        account_id=1, symbol="BTCUSDT", order_id=1, restriction=OrderStatus.PARTIALLY_FILLED
    )
    with pytest.raises(CancelRefusedError) as caught:
        exchange.cancel(command, NOW)
    assert caught.value.refusal is Refusal.CANCEL_RESTRICTED


def test_market_fills_whoever_it_reaches_at_his_price():
    exchange = exchange_with()
    exchange.place(order(quantity="1", price="97"), NOW)
    exchange.place(order(quantity="1", price="95"), NOW)
    exchange.market_moves("BTCUSDT", amount("97"), None, NOW)
    changes = exchange.take_changes()
    assert [(e.order_id, e.price, e.is_maker) for e in changes.executions] == [
        (1, amount("97"), True)
    ]
    assert exchange.open_order(2) is not None


def test_market_that_jumps_over_an_order_fills_it_inside_its_range():
    exchange = exchange_with()
    exchange.place(order(quantity="1", price="97"), NOW)
    exchange.place(order(side="SELL", quantity="1", price="103"), NOW)
    exchange.market_moves("BTCUSDT", amount("93"), (amount("92"), amount("94")), NOW)
    (bought,) = exchange.take_changes().executions
    assert bought.price == amount("94")
    exchange.market_moves("BTCUSDT", amount("110"), (amount("108"), amount("111")), NOW)
    (sold,) = exchange.take_changes().executions
    assert sold.price == amount("108")


def test_order_beyond_the_price_range_expires_instead_of_resting():
    exchange = exchange_with()
    exchange.books["BTCUSDT"].price_range = (amount("98"), amount("102"))
    placed = exchange.place(order(quantity="3", price="103"), NOW)
    assert placed.order.status is OrderStatus.EXPIRED
    assert placed.order.executed == 2 * ONE
    assert placed.order.expiry_reason is ExpiryReason.PRICE_RANGE_EXCEEDED


def test_quote_amount_of_fine_prices_is_rounded_down_and_locks_are_rounded_up():
    exchange = exchange_with(ETH="10")
    exchange.open_account(3, {"BTC": amount("1")})
    # 0.03333 * 0.0037 is 0.000123321, one digit more than 1e-8 can keep.
    buy = PlaceOrder(
        account_id=3,
        symbol="ETHBTC",
        is_buy=True,
        type=OrderType.LIMIT,
        price=amount("0.03333"),
        quantity=amount("0.0037"),
    )
    exchange.place(buy, NOW)
    assert exchange.balances[3]["BTC"].locked == amount("0.00012333")
    exchange.market_moves("ETHBTC", amount("0.03333"), None, NOW)
    (execution,) = exchange.take_changes().executions
    assert execution.quote_quantity == amount("0.00012332")
    assert exchange.balances[3]["BTC"].locked == 0


def test_equal_commands_give_equal_results():
    def run():
        exchange = exchange_with()
        for command in (
            order(quantity="1", price="90"),
            order("MARKET", quantity="1.5"),
            order(side="SELL", quantity="1", price="99"),
        ):
            exchange.place(command, NOW)
        return exchange.take_changes()

    assert run() == run()

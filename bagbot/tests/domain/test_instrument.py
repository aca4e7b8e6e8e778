"""Ticks, lots and filters."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagbot.domain.errors import InvalidOrderError
from bagbot.domain.instrument import Instrument, Side

BTCUSDT = Instrument(
    symbol="BTC/USDT",
    exchange_symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.00001"),
    price_min=Decimal("0.01"),
    price_max=Decimal(1_000_000),
    quantity_min=Decimal("0.00001"),
    quantity_max=Decimal(9000),
    market_quantity_max=Decimal(100),
    notional_min=Decimal(5),
    notional_max=Decimal(9_000_000),
    buy_price_ratio_max=Decimal(5),
    buy_price_ratio_min=Decimal("0.2"),
    sell_price_ratio_max=Decimal(5),
    sell_price_ratio_min=Decimal("0.2"),
)


@pytest.mark.parametrize(
    ("quantity", "price", "name", "limit"),
    [
        ("0.000001", "60000", "LOT_SIZE", "at least 0.00001"),
        ("0.123456", "60000", "LOT_SIZE", "a multiple of 0.00001"),
        ("9001", "60000", "LOT_SIZE", "at most 9000"),
        ("101", None, "MARKET_LOT_SIZE", "at most 100"),
        ("1", "60000.001", "PRICE_FILTER", "a multiple of 0.01"),
        ("1", "0.001", "PRICE_FILTER", "at least 0.01"),
        ("1", "2000000", "PRICE_FILTER", "at most 1000000"),
        ("1", "300000.01", "PERCENT_PRICE_BY_SIDE", "at most 300000"),
        ("1", "11999.99", "PERCENT_PRICE_BY_SIDE", "at least 12000.0"),
        ("0.00008", "60000", "NOTIONAL", "at least 5"),
        ("0.00008", None, "NOTIONAL", "at least 5"),
        ("200", "60000", "NOTIONAL", "at most 9000000"),
    ],
)
def test_a_broken_filter_is_named_with_its_limit(
    quantity: str, price: str | None, name: str, limit: str
) -> None:
    violation = BTCUSDT.violation(
        side=Side.BUY,
        is_market=price is None,
        quantity=Decimal(quantity),
        price=None if price is None else Decimal(price),
        reference_price=Decimal(60000),
    )
    assert violation is not None
    assert (violation.name, violation.limit) == (name, limit)


def test_an_order_within_all_filters_passes() -> None:
    assert (
        BTCUSDT.violation(
            side=Side.SELL,
            is_market=False,
            quantity=Decimal("0.5"),
            price=Decimal("60000.01"),
            reference_price=Decimal(60000),
        )
        is None
    )


@given(st.decimals(min_value=Decimal("0.00001"), max_value=10**9, places=9))
def test_rounding_never_orders_more_and_never_pays_worse(value: Decimal) -> None:
    quantity = BTCUSDT.round_quantity_down(value)
    assert 0 <= value - quantity < BTCUSDT.lot_size
    assert BTCUSDT.quantity_from_lots(BTCUSDT.quantity_lots(quantity)) == quantity
    assert 0 <= value - BTCUSDT.round_price(value, Side.BUY) < BTCUSDT.tick_size
    assert 0 <= BTCUSDT.round_price(value, Side.SELL) - value < BTCUSDT.tick_size


def test_between_two_ticks_is_no_price() -> None:
    assert BTCUSDT.price_ticks(Decimal("0.03")) == 3
    assert BTCUSDT.price_from_ticks(3) == Decimal("0.03")
    with pytest.raises(InvalidOrderError, match=r"not a whole number of ticks 0\.01"):
        BTCUSDT.price_ticks(Decimal("0.035"))
    with pytest.raises(InvalidOrderError, match="not a whole number of lots"):
        BTCUSDT.quantity_lots(Decimal("0.000015"))

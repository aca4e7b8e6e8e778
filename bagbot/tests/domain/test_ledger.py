"""The ledger: a fold over fills that no repetition can change."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagbot.domain.errors import IllegalTransitionError
from bagbot.domain.events import Fill
from bagbot.domain.instrument import Side
from bagbot.domain.ledger import Ledger


def book(ledger: Ledger, side: Side, quantity: str, price: str, **fee: object) -> None:
    number = len(ledger._order_of_trade)
    fill = Fill(trade_id=str(number), quantity=Decimal(quantity), price=Decimal(price), **fee)
    ledger.book(account="main", symbol="BTC/USDT", side=side, order_id=f"o{number}", fill=fill)


@pytest.mark.parametrize(
    ("fills", "quantity", "average", "realised"),
    [
        ([(Side.BUY, "1", "100")], "1", "100", "0"),
        ([(Side.BUY, "1", "100"), (Side.BUY, "1", "200")], "2", "150", "0"),
        ([(Side.BUY, "2", "100"), (Side.SELL, "1", "130")], "1", "100", "30"),
        ([(Side.BUY, "1", "100"), (Side.SELL, "1", "90")], "0", "0", "-10"),
        ([(Side.BUY, "1", "100"), (Side.SELL, "3", "110")], "-2", "110", "10"),
        ([(Side.SELL, "2", "100"), (Side.BUY, "1", "80")], "-1", "100", "20"),
        ([(Side.SELL, "1", "100"), (Side.BUY, "2", "80")], "1", "80", "20"),
    ],
)
def test_positions_follow_the_fills(
    fills: list[tuple[Side, str, str]], quantity: str, average: str, realised: str
) -> None:
    ledger = Ledger()
    for side, amount, price in fills:
        book(ledger, side, amount, price)
    position = ledger.position("main", "BTC/USDT")
    assert position.quantity == Decimal(quantity)
    assert position.average_price == Decimal(average)
    assert position.realised_pnl == Decimal(realised)


def test_a_fee_in_the_base_asset_makes_the_position_smaller() -> None:
    ledger = Ledger()
    book(ledger, Side.BUY, "1", "100", fee=Decimal("0.001"), fee_asset="BTC")
    book(ledger, Side.SELL, "0.5", "100", fee=Decimal("0.05"), fee_asset="USDT")
    position = ledger.position("main", "BTC/USDT")
    assert position.quantity == Decimal("0.499")
    assert position.fees == {"BTC": Decimal("0.001"), "USDT": Decimal("0.05")}


def test_fill_booked_twice_counts_once_and_belongs_to_one_order() -> None:
    ledger = Ledger()
    fill = Fill(trade_id="9", quantity=Decimal(1), price=Decimal(5))
    told = {"account": "main", "symbol": "BTC/USDT", "side": Side.BUY, "fill": fill}
    assert ledger.book(order_id="a", **told) is True
    assert ledger.book(order_id="a", **told) is False
    assert ledger.position("main", "BTC/USDT").quantity == 1
    with pytest.raises(IllegalTransitionError, match="belongs to order a; order b claims it too"):
        ledger.book(order_id="b", **told)


def test_both_sides_of_a_trade_with_oneself_are_booked() -> None:
    ledger = Ledger()
    fill = Fill(trade_id="9", quantity=Decimal(1), price=Decimal(5))
    told = {"account": "main", "symbol": "BTC/USDT", "fill": fill}
    assert ledger.book(side=Side.BUY, order_id="a", **told) is True
    assert ledger.book(side=Side.SELL, order_id="b", **told) is True
    assert ledger.position("main", "BTC/USDT").quantity == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Side),
            st.integers(1, 1000),
            st.integers(1, 10_000),
        ),
        max_size=30,
    )
)
def test_profit_and_position_add_up_to_the_cash_that_moved(
    trades: list[tuple[Side, int, int]],
) -> None:
    ledger, cash, held = Ledger(), Decimal(0), Decimal(0)
    for side, quantity, price in trades:
        book(ledger, side, str(quantity), str(price))
        sign = 1 if side is Side.BUY else -1
        held += sign * quantity
        cash -= sign * quantity * price
    position = ledger.position("main", "BTC/USDT")
    assert position.quantity == held
    # What was paid out is tied up in the position at its average; the rest is profit.
    assert abs(cash - (position.realised_pnl - held * position.average_price)) < Decimal("1e-9")

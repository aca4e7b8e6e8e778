"""The account of a live strategy: exact, whatever ticks and lots the exchange has today."""

import math
from dataclasses import replace
from decimal import Decimal

import numpy
import pytest

from bagbot.domain.bars import Bars
from bagbot.domain.events import Fill
from bagbot.domain.instrument import Instrument, Side
from bagbot.domain.order import OrderRequest, OrderType
from bagbot.trading.journal_records import Doing
from bagbot.trading.live_desk import DeskFill, DeskOrder, LiveDesk

CASH = Decimal(1_000)
# Lots of 0.1 and ticks of 0.01 made these fills; the strategy begins again with others.
FILLS = [
    ("buy", "1.2", "12.34", "0.0012", "X"),
    ("buy", "1.5", "12.37", "0", "X"),
    ("sell", "0.3", "12.41", "0.003723", "USDT"),
]
MONEY = (
    Decimal(1_000) - Decimal("14.808") - Decimal("18.555") + Decimal("3.723") - Decimal("0.003723")
)
HELD = Decimal("2.3988")


def instrument(tick: str, lot: str) -> Instrument:
    return replace(Instrument.unfiltered("X/USDT"), tick_size=Decimal(tick), lot_size=Decimal(lot))


def booked(tick: str, lot: str) -> LiveDesk:
    desk = LiveDesk(instrument(tick, lot), CASH)
    desk.book(
        DeskFill(
            Side(side),
            Fill(
                trade_id=str(number),
                quantity=Decimal(quantity),
                price=Decimal(price),
                fee=Decimal(fee),
                fee_asset=asset,
            ),
        )
        for number, (side, quantity, price, fee, asset) in enumerate(FILLS)
    )
    return desk


def one_bar(tick: str, lot: str, price: str) -> Bars:
    ticks = numpy.array([int(Decimal(price) / Decimal(tick))], numpy.int64)
    return Bars(
        instrument=instrument(tick, lot),
        interval_ms=60_000,
        open_time_ms=numpy.array([60_000], numpy.int64),
        open=ticks,
        high=ticks,
        low=ticks,
        close=ticks,
        volume=ticks,
    )


STEPS = [("0.01", "0.1"), ("0.1", "0.1"), ("0.01", "1"), ("0.5", "1"), ("0.03", "0.07"), ("5", "9")]


@pytest.mark.parametrize(("tick", "lot"), [*STEPS, ("0.001", "0.01")])
def test_the_money_is_the_same_in_whatever_steps_it_is_counted(tick: str, lot: str) -> None:
    desk = booked(tick, lot)
    desk.open_bar(one_bar(tick, lot, "15"))
    assert Decimal(desk.quote_units).scaleb(-8) == MONEY
    assert Decimal(desk.base_units).scaleb(-8) == HELD
    assert Decimal(desk.equity_units(int(15 / Decimal(tick)))).scaleb(-8) == MONEY + HELD * 15
    assert desk.position == float(HELD // Decimal(lot) * Decimal(lot))


@pytest.mark.parametrize(("tick", "lot"), [("0.1", "0.1"), ("0.01", "1"), ("0.5", "2")])
def test_the_average_entry_is_what_it_was_before_the_steps_changed(tick: str, lot: str) -> None:
    before, after = booked("0.01", "0.1"), booked(tick, lot)
    before.open_bar(one_bar("0.01", "0.1", "15"))
    after.open_bar(one_bar(tick, lot, "15"))
    assert after.entry_price == pytest.approx(before.entry_price, rel=1e-12)
    # 1.1 whole lots at 12.34 were there when 1.5 at 12.37 came.
    assert before.entry_price == pytest.approx((1.1 * 12.34 + 1.5 * 12.37) / 2.6, rel=1e-12)


def test_what_is_less_than_a_lot_counts_as_flat_and_keeps_its_average() -> None:
    desk = booked("0.01", "5")
    desk.open_bar(one_bar("0.01", "5", "15"))
    assert desk.position == 0
    assert math.isnan(desk.entry_price)
    assert desk.close_position() == 0
    assert desk.off_lot == HELD
    desk.book([DeskFill(Side.BUY, Fill(trade_id="9", quantity=Decimal(5), price=Decimal(15)))])
    desk.open_bar(one_bar("0.01", "5", "15"))
    assert desk.position == 5
    # Of the 2.3988 the 0.0988 that are less than an old lot do not count.
    entry_price = (1.1 * 12.34 + 1.5 * 12.37) / 2.6
    assert desk.entry_price == pytest.approx((2.3 * entry_price + 5 * 15) / 7.3, rel=1e-12)


def test_a_fill_finer_than_the_known_tick_counts_at_its_price() -> None:
    desk = LiveDesk(instrument("0.01", "0.1"), CASH)
    price = Decimal("12.34567891")
    desk.book([DeskFill(Side.BUY, Fill(trade_id="1", quantity=Decimal("0.7"), price=price))])
    # 8.641975237, and what is less than 1e-8 of it does not count: F16.
    assert desk.quote_units == 100_000_000_000 - 864_197_523
    desk.open_bar(one_bar("0.01", "0.1", "15"))
    assert desk.entry_price == pytest.approx(float(price), rel=1e-12)


def test_a_position_is_closed_down_to_less_than_a_lot_and_what_stays_is_told() -> None:
    desk = booked("0.01", "1")
    desk.open_bar(one_bar("0.01", "1", "15"))
    desk.close_position()
    request = desk.commands[0].request
    assert request is not None
    assert request.amount == 2
    assert desk.off_lot == HELD - 2
    # Fees that were taken from what was bought leave dust at all times: nobody is told of it.
    assert booked("0.01", "0.1").off_lot == 0


def test_an_open_order_off_todays_steps_locks_what_it_is_worth() -> None:
    desk = booked("0.5", "1")
    request = OrderRequest(
        symbol="X/USDT",
        side=Side.BUY,
        type=OrderType.LIMIT,
        amount=Decimal("1.3"),
        price=Decimal("11.11"),
    )
    desk.known(1, DeskOrder(0, request, is_open=True, filled=Decimal("0.2")))
    desk._open.add(1)
    desk.open_bar(one_bar("0.5", "1", "15"))
    assert desk.cash == float(MONEY - Decimal("1.1") * Decimal("11.11"))


LIMIT = OrderRequest(
    symbol="X/USDT",
    side=Side.BUY,
    type=OrderType.STOP_LOSS_LIMIT,
    amount=Decimal("2.7"),
    price=Decimal("12.34"),
    trigger_price=Decimal("12.37"),
)


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (LIMIT, ("2", "12", "12.5")),
        (replace(LIMIT, side=Side.SELL), ("2", "12.5", "12.5")),
        (replace(LIMIT, amount=Decimal("0.9")), None),
        (replace(LIMIT, price=Decimal("0.4")), None),
        (replace(LIMIT, trigger_price=Decimal("0.2")), None),
    ],
)
def test_an_order_of_earlier_is_rounded_by_todays_steps_as_any(
    request_: OrderRequest, wanted: tuple[str, str, str] | None
) -> None:
    desk = LiveDesk(instrument("0.5", "1"), CASH)
    sent = desk.on_steps(request_)
    found = None if sent is None else (sent.amount, sent.price, sent.trigger_price)
    assert found == (None if wanted is None else tuple(map(Decimal, wanted)))


def test_an_order_on_its_steps_is_sent_as_it_is_written() -> None:
    desk = LiveDesk(instrument("0.01", "0.1"), CASH)
    assert repr(desk.on_steps(LIMIT)) == repr(LIMIT)


def test_what_a_strategy_asks_for_is_rounded_by_todays_steps() -> None:
    desk = booked("0.5", "1")
    desk.open_bar(one_bar("0.5", "1", "15"))
    number = desk.place(True, 2.7, 2, 12.34, math.nan, 0, 1, False, 0, 0)
    request = desk.commands[0].request
    assert (number, desk.commands[0].doing) == (1, Doing.PLACE)
    assert request is not None
    assert (request.amount, request.price) == (Decimal(2), Decimal(12))

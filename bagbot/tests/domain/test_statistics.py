"""The figures of a run: against a well-known library, by hand, and compiled."""

import json
import math
import types
from pathlib import Path

import numba
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bagbot.domain import statistics
from bagbot.domain.fills import Scale, scale_of, settle_buy, settle_sell
from bagbot.domain.statistics import (
    UNITS,
    activity_of,
    buy_and_hold,
    drawdowns,
    equity_statistics,
    monthly_returns,
    round_trips,
    summarise,
    trade_statistics,
    years_of,
)
from bagbot.tests.domain.empyrical_figures import FIGURES, START, curves, hash_of, real_curves

DATA = Path(__file__).parents[4] / "shared" / "data"
FIGURE = json.loads(FIGURES.read_text())
CURVES = {hash_of(curve["equity"]): curve for curve in curves() + real_curves(DATA)}
KNOWN = [known for known in FIGURE["curves"] if known["equity_sha256"] in CURVES]
FILL = numpy.dtype(
    [
        ("bar", numpy.int64),
        ("is_buy", numpy.bool_),
        ("price", numpy.int64),
        ("lots", numpy.int64),
        ("fee_units", numpy.int64),
        ("fee_in_base", numpy.bool_),
    ]
)
COINS = Scale(UNITS, 1, UNITS)
"""A tick is one quote and a lot is one base, so that examples can be done in the head."""

DAY_MS = 86_400_000


def fills_of(*rows: tuple) -> numpy.ndarray:
    """Return fills of (bar, lots: negative when sold, price, fee in quote)."""
    return numpy.array(
        [
            (bar, lots > 0, price, abs(lots), round(fee * UNITS), False)
            for bar, lots, price, fee in rows
        ],
        FILL,
    )


# Against the library.


def test_the_curves_are_those_that_the_library_was_asked_about() -> None:
    seeded = [hash_of(curve["equity"]) for curve in curves()]
    assert seeded == [known["equity_sha256"] for known in FIGURE["curves"][: len(seeded)]]


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known["name"])
def test_the_figures_are_those_of_a_well_known_library(known: dict) -> None:
    curve = CURVES[known["equity_sha256"]]
    equity, times = numpy.array(curve["equity"]), numpy.array(curve["times"])
    years = years_of(times, curve["interval_ms"])
    ours = equity_statistics(equity, START, years)
    for name in ("total_return", "cagr", "volatility", "sharpe"):
        assert getattr(ours, name) == pytest.approx(known[name], rel=1e-9, abs=1e-12), name
    assert ours.drawdown_max == pytest.approx(-known["max_drawdown"], rel=1e-9)
    # Without any fall the library says inf or nan; we say that there is no such figure.
    for name in ("sortino", "calmar"):
        if math.isfinite(known[name]):
            assert getattr(ours, name) == pytest.approx(known[name], rel=1e-9), name
        else:
            assert math.isnan(getattr(ours, name)), name
    with_rate = equity_statistics(equity, START, years, 0.05)
    assert with_rate.sharpe == pytest.approx(known["sharpe_5_percent"], rel=1e-9)
    monthly = [row[2] for row in monthly_returns(times, equity, START)]
    assert monthly == pytest.approx(known["monthly"], rel=1e-9, abs=1e-12)


# The account, by hand.


def test_a_drawdown_lasts_from_its_high_until_equity_is_back() -> None:
    equity = numpy.array([100, 120, 90, 60, 120, 130, 117, 125])
    found = equity_statistics(equity, 100, 1.0)
    assert found.drawdown_max == pytest.approx(0.5)
    assert found.drawdown_bars_max == 3
    assert drawdowns(equity, 100).min() == pytest.approx(-0.5)
    assert drawdowns(equity, 240)[0] == pytest.approx(100 / 240 - 1)


def test_a_drawdown_that_never_ends_lasts_to_the_end() -> None:
    found = equity_statistics(numpy.array([99, 98, 97]), 100, 1.0)
    assert found.drawdown_bars_max == 3
    assert found.drawdown_max == pytest.approx(0.03)


def test_an_account_that_never_moved_has_no_ratios() -> None:
    found = equity_statistics(numpy.full(50, START), START, 1.0)
    assert (found.total_return, found.cagr, found.volatility) == (0, 0, 0)
    assert (found.drawdown_max, found.drawdown_bars_max) == (0, 0)
    assert all(math.isnan(ratio) for ratio in (found.sharpe, found.sortino, found.calmar))


def test_growth_without_any_variance_has_no_sharpe_ratio() -> None:
    equity = 1e12 * 1.01 ** numpy.arange(1, 400)
    found = equity_statistics(equity, 1e12, 1.0)
    assert found.volatility == 0
    assert math.isnan(found.sharpe)


def test_one_bar_has_a_return_and_no_deviation() -> None:
    found = equity_statistics(numpy.array([110]), 100, 1.0)
    assert found.total_return == pytest.approx(0.1)
    assert found.cagr == pytest.approx(0.1)
    assert math.isnan(found.volatility)
    assert math.isnan(found.sharpe)


def test_no_bar_has_no_figures() -> None:
    nothing = numpy.empty(0, numpy.int64)
    found = equity_statistics(nothing, 100, years_of(nothing, DAY_MS))
    assert (found.total_return, found.drawdown_max) == (0, 0)
    assert math.isnan(found.sharpe)
    assert monthly_returns(nothing, nothing, 100) == []


@pytest.mark.parametrize("end", [0, -50])
def test_a_lost_account_lost_everything_and_stays_lost(end: int) -> None:
    found = equity_statistics(numpy.array([100, end, end]), 100, 0.5)
    assert found.total_return == end / 100 - 1
    assert found.cagr == -1
    assert found.drawdown_max == 1 - end / 100
    assert math.isfinite(found.sharpe)
    lost = monthly_returns(numpy.array([0, 32 * DAY_MS]), numpy.array([end, end]), 100)
    assert [row[2] for row in lost] == [end / 100 - 1, 0]


def test_a_doubling_within_a_second_has_no_finite_yearly_return() -> None:
    assert equity_statistics(numpy.array([200]), 100, 1 / 31_536_000).cagr == math.inf


def test_missing_bars_are_time_that_passed() -> None:
    times = numpy.array([0, 364 * DAY_MS])
    assert years_of(times, DAY_MS) == 1
    found = equity_statistics(numpy.array([100, 110]), 100, years_of(times, DAY_MS))
    assert found.cagr == pytest.approx(0.1)
    assert found.volatility == pytest.approx(0.1 / math.sqrt(2) * math.sqrt(2))


def test_a_month_takes_the_bars_that_open_in_it() -> None:
    january = 1_706_659_200_000  # 2024-01-31
    times = january + DAY_MS * numpy.arange(3)
    assert monthly_returns(times, numpy.array([110, 99, 121]), 100) == [
        (2024, 1, pytest.approx(0.1)),
        (2024, 2, pytest.approx(0.1)),
    ]


def test_holding_buys_the_first_open_with_everything() -> None:
    held = buy_and_hold(50, numpy.array([55, 40]), 100, 0.01)
    assert held.tolist() == pytest.approx([100 * 0.99 * 1.1, 100 * 0.99 * 0.8])


# Round trips, by hand.


def table_of(trades: numpy.ndarray) -> list[tuple]:
    return [
        (
            int(trade["entry_bar"]),
            int(trade["exit_bar"]),
            "long" if trade["is_long"] else "short",
            int(trade["base_units"]) / UNITS,
            int(trade["entry_price"]),
            int(trade["exit_price"]),
            pytest.approx(trade["profit"]),
        )
        for trade in trades
    ]


@pytest.mark.parametrize(
    ("fills", "trades"),
    [
        ([(1, 2, 100, 0), (4, -2, 130, 0)], [(1, 4, "long", 2, 100, 130, 60)]),
        ([(1, -2, 100, 0), (4, 2, 130, 0)], [(1, 4, "short", 2, 100, 130, -60)]),
        # Part by part: each exit is a trade.
        (
            [(1, 3, 100, 0), (2, -1, 110, 0), (3, -2, 90, 0)],
            [(1, 2, "long", 1, 100, 110, 10), (1, 3, "long", 2, 100, 90, -20)],
        ),
        # The oldest entry goes first.
        (
            [(1, 1, 100, 0), (2, 2, 200, 0), (3, -2, 300, 0)],
            [(1, 3, "long", 1, 100, 300, 200), (2, 3, "long", 1, 200, 300, 100)],
        ),
        # Through zero: one fill closes and opens.
        (
            [(1, 1, 100, 0), (2, -3, 110, 0), (3, 2, 105, 0)],
            [(1, 2, "long", 1, 100, 110, 10), (2, 3, "short", 2, 110, 105, 10)],
        ),
        # Each part bears its share of the fees.
        (
            [(1, 2, 100, 4), (2, -1, 110, 1), (3, -1, 110, 0)],
            [(1, 2, "long", 1, 100, 110, 7), (1, 3, "long", 1, 100, 110, 8)],
        ),
        ([(1, 2, 100, 0)], []),
        ([], []),
    ],
)
def test_fills_make_round_trips_first_in_first_out(fills: list, trades: list) -> None:
    assert table_of(round_trips(fills_of(*fills), COINS)) == trades


def test_a_fee_in_base_leaves_less_to_sell_and_counts() -> None:
    fills = numpy.array(
        [(1, True, 100, 1_000, UNITS, True), (5, False, 110, 999, 0, False)],
        FILL,
    )
    (trade,) = round_trips(fills, COINS)
    assert trade["base_units"] == 999 * UNITS
    assert trade["fees"] == pytest.approx(100)
    assert trade["profit"] == pytest.approx(999 * 110 - 1_000 * 100)
    assert trade["return"] == pytest.approx(999 * 110 / (1_000 * 100) - 1)


def test_dust_that_cannot_be_sold_makes_no_trade_of_its_own() -> None:
    half_a_lot = UNITS // 2
    fills = numpy.array(
        [
            row
            for bar, sold in ((0, 9), (10, 10), (20, 9))
            for row in (
                (bar, True, 100, 10, half_a_lot, True),
                (bar + 5, False, 110, sold, 0, False),
            )
        ],
        FILL,
    )
    trades = round_trips(fills, COINS)
    assert trades["entry_bar"].tolist() == [0, 10, 20]
    assert trades["exit_bar"].tolist() == [5, 15, 25]
    assert activity_of(fills, 30, COINS).exposure == 0.5


def test_an_exit_over_several_entries_makes_one_trade_with_each() -> None:
    rows = [(bar, True, 100, 10, UNITS // 4, True) for bar in range(4)]
    fills = numpy.array([*rows, (9, False, 110, 20, 0, False), (9, False, 110, 19, 0, False)], FILL)
    trades = round_trips(fills, COINS)
    assert trades["entry_bar"].tolist() == [0, 1, 2, 3]
    assert trades["base_units"].sum() == 39 * UNITS


SCALE = scale_of(1_000_000, 1_000_000)


@st.composite
def spot_fills(draw: st.DrawFn) -> numpy.ndarray:
    """Return fills of a spot account that never sells more than it has.

    It buys three lots or more: what a single lot brings after its fee is itself less than a lot.
    """
    rows, base = [], 0
    for bar in range(draw(st.integers(0, 30))):
        price, lots = draw(st.integers(500, 2_000)), draw(st.integers(3, 500))
        sellable = base // SCALE.lot_units
        if sellable and draw(st.booleans()):
            lots = min(lots, sellable)
            moved = settle_sell(price, lots, 1_000, SCALE)
            rows.append((bar, False, price, lots, moved.fee_units, False))
        else:
            moved = settle_buy(price, lots, 1_000, SCALE)
            rows.append((bar, True, price, lots, moved.fee_units, True))
        base += moved.base_units
    return numpy.array(rows, FILL)


@settings(max_examples=200, deadline=None)
@given(spot_fills())
def test_trades_and_what_is_open_add_up_to_the_accounts_money(fills: numpy.ndarray) -> None:
    trades = round_trips(fills, SCALE)
    quote, base = 0, 0
    for fill in fills:
        settle = settle_buy if fill["is_buy"] else settle_sell
        moved = settle(int(fill["price"]), int(fill["lots"]), 1_000, SCALE)
        quote, base = quote + moved.quote_units, base + moved.base_units
    bought = fills[fills["is_buy"]]
    received = (bought["lots"] * SCALE.lot_units - bought["fee_units"]).sum()
    assert trades["base_units"].sum() == received - base
    # What the trades have not explained is what the open rest cost, somewhere between the
    # cheapest and the dearest entry.
    open_cost = trades["profit"].sum() - quote / UNITS
    per_tick = SCALE.numerator / SCALE.denominator / UNITS / SCALE.lot_units
    cheapest, dearest = (500, 2_000)
    assert cheapest * base * per_tick - 1e-6 <= open_cost <= dearest * base * per_tick * 1.01 + 1e-6
    # No trade is a crumb: each closes a lot or more.
    assert (trades["base_units"] >= SCALE.lot_units).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5).filter(bool), st.integers(50, 150)), max_size=20))
def test_the_mirror_image_of_all_fills_has_the_opposite_profits(moves: list) -> None:
    fills = fills_of(*[(bar, lots, price, 0) for bar, (lots, price) in enumerate(moves)])
    mirrored = fills.copy()
    mirrored["is_buy"] = ~mirrored["is_buy"]
    assert round_trips(mirrored, COINS)["profit"].tolist() == [
        -profit for profit in round_trips(fills, COINS)["profit"]
    ]


def test_the_figures_of_trades() -> None:
    trades = round_trips(
        fills_of(
            (0, 1, 100, 0), (2, -1, 110, 0), (3, 1, 100, 0), (4, -1, 95, 0),
            (5, 1, 100, 0), (9, -1, 130, 0), (10, 1, 100, 0), (11, -1, 100, 0),
        ),
        COINS,
    )  # fmt: skip
    found = trade_statistics(trades)
    assert found.trades == 4
    assert found.win_rate == 0.5
    assert found.profit_factor == pytest.approx(40 / 5)
    assert found.expectancy == pytest.approx(35 / 4)
    assert (found.average_win, found.average_loss) == (20, -5)
    assert (found.best_trade, found.worst_trade) == pytest.approx((0.3, -0.05))
    deviation = numpy.std([10, -5, 30, 0], ddof=1)
    assert found.sqn == pytest.approx(2 * 8.75 / deviation)
    assert found.trade_bars == (2 + 1 + 4 + 1) / 4


def test_without_trades_there_is_a_count_and_nothing_else() -> None:
    count, *others = trade_statistics(round_trips(fills_of(), COINS))
    assert count == 0
    assert all(math.isnan(figure) for figure in others)


def test_without_a_loss_there_is_no_profit_factor() -> None:
    found = trade_statistics(round_trips(fills_of((0, 1, 100, 0), (1, -1, 110, 0)), COINS))
    assert math.isnan(found.profit_factor)
    assert math.isnan(found.average_loss)
    assert found.average_win == 10


def test_activity_counts_bars_held_value_and_fees() -> None:
    fills = fills_of((2, 1, 100, 0.5), (5, -1, 120, 0.5), (5, -2, 120, 1))
    found = activity_of(fills, 10, COINS)
    assert found.exposure == 0.8
    assert found.traded == 460
    assert found.fees == 2
    assert activity_of(fills_of(), 10, COINS) == (0, 0, 0)


def test_turnover_is_what_was_traded_over_the_mean_equity() -> None:
    equity = numpy.array([100, 300]) * UNITS
    found = summarise(equity, 100 * UNITS, 1.0, fills_of((0, 1, 100, 0), (1, -1, 300, 0)), COINS)
    assert found.turnover == 2
    assert found.trades == 1


# Compiled.


def compiled() -> types.SimpleNamespace:
    """Return the module's functions in machine code, from the very same source."""
    names = dict(vars(statistics))
    for name, function in vars(statistics).items():
        if isinstance(function, types.FunctionType) and function.__module__ == statistics.__name__:
            copy = types.FunctionType(function.__code__, names, name, function.__defaults__)
            names[name] = numba.njit(copy)
    return types.SimpleNamespace(**names)


def test_compiled_the_same_source_gives_the_same_figures() -> None:
    chance = numpy.random.default_rng(5)
    bars, count = 5_000, 300
    equity = (START * numpy.cumprod(1 + chance.normal(0, 0.001, bars))).astype(numpy.int64)
    fills = numpy.zeros(count, FILL)
    fills["bar"] = numpy.sort(chance.integers(0, bars, count))
    fills["is_buy"] = chance.random(count) < 0.5
    fills["price"] = chance.integers(9_000_000, 9_100_000, count)
    fills["lots"] = chance.integers(1, 50, count)
    fills["fee_in_base"] = fills["is_buy"]
    fills["fee_units"] = numpy.where(fills["is_buy"], fills["lots"], 9_000)
    scale = scale_of(1_000_000, 1_000)
    machine = compiled().summarise
    expected = summarise(equity, START, bars / 525_600, fills, scale)
    assert machine(equity, START, bars / 525_600, fills, scale, 0.0) == expected
    assert expected.trades > 100
    # Refusals to divide are the same, too.
    nothing = machine(equity[:1], START, 1 / 525_600, fills[:0], scale, 0.0)
    assert math.isnan(nothing.sharpe)
    assert math.isnan(nothing.win_rate)

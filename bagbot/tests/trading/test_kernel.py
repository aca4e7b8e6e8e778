"""Whatever the bars and commands: the kernel keeps the money, and all its ways are one."""

import random

import numpy
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bagbot.domain import fills
from bagbot.tests.domain import fill_rules_page as page
from bagbot.tests.domain.test_fills import accounts, bars, costs, play_whole
from bagbot.tests.trading.kernel_play import (
    Script,
    bars_of,
    fills_of,
    play,
    put,
    random_rows,
    working_of,
)
from bagbot.trading import kernel
from bagbot.trading import kernel_tables as tables
from bagbot.trading.backtest_settings import BacktestSettings
from bagbot.trading.interpreted_run import CompiledKernel, Kernel

seeds = st.integers(0, 2**32)
RICH = 10**17
KINDS_BY_STATUS = {
    tables.EXPIRED: "expired",
    tables.CANCELLED: "cancelled",
    tables.REFUSED: "refused",
}


def rich_desk(rows, charges):
    """Return a desk with more than enough of everything."""
    desk = BacktestSettings(cash=RICH // 10**8).new_desk(bars_of(rows))
    for name in fills.Costs._fields:
        setattr(desk.costs, name, getattr(charges, name))
    desk.account.base_free = RICH // 1_000
    desk.account.bar = 0
    desk.rules.price_top = 10**6
    return desk


def rows_of(bar, volume=0):
    return [(bar.open, bar.high, bar.low, bar.close, volume)] * 2


# The contract's own examples.


def played_on_the_kernel(example):
    """Return what the page's example does on the kernel, as a set of claims."""
    words = [line.split() for line in example.lines]
    charges = fills.Costs(
        **next((page.numbers(rest) for name, *rest in words if name == "costs"), {})
    )
    volume = next((int(rest[0]) for name, *rest in words if name == "volume"), 0)
    bar = fills.Bar(**next(page.numbers(rest) for name, *rest in words if name == "bar"))
    desk = rich_desk(rows_of(bar, volume), charges)
    has_opened = False
    for name, *rest in words:
        if name == "bar":
            kernel._meet_open(desk, 1)
            has_opened = True
        elif name == "order":
            order = page.order_from(rest)
            if has_opened:
                come_in(desk, order)
            else:
                put(desk, order)
        elif name == "cancel":
            kernel.cancel(desk, int(rest[0]))
            kernel.act(desk)
    kernel._meet_range(desk, 1)
    return desk


def come_in(desk, order):
    while desk.account.order_count < order.number - 1:
        kernel._queue(desk, 1, 0, 0)
    number = kernel._queue(desk, order.lots, order.limit, order.trigger)
    assert number == order.number
    row = desk.orders[number - 1]
    row.kind = row.placed_kind = order.kind
    row.is_buy, row.time_in_force = order.is_buy, order.time_in_force
    row.trailing_ppm, row.parent = order.trailing_ppm, order.parent
    kernel._command(desk, tables.PLACE, number, 0)
    kernel.act(desk)


def claims_of(desk):
    claims = [
        f"fill {number} price={price} lots={lots} {'maker' if is_maker else 'taker'}"
        for number, price, lots, is_maker in fills_of(desk)
    ]
    others = set()
    for row in desk.orders[: desk.account.order_count]:
        if row.kind != row.placed_kind:
            others.add(f"triggered {row.number}")
        if row.status == tables.REFUSED:
            others.add(f"refused {row.number}")
        elif row.status in KINDS_BY_STATUS and row.reason != tables.BY_COMMAND:
            others.add(f"{KINDS_BY_STATUS[row.status]} {row.number} lots={row.lots}")
        elif row.status in (tables.OPEN, tables.SLEEPING):
            best = f" best={row.best}" if row.trailing_ppm else ""
            others.add(f"rests {row.number} lots={row.lots}{best}")
    return claims, others


BAR_EXAMPLES = [
    example for example in page.examples() if any(line.startswith("bar") for line in example.lines)
]


@pytest.mark.parametrize("example", BAR_EXAMPLES, ids=lambda example: example.title)
def test_the_kernel_does_what_the_page_says(example):
    happened, others = claims_of(played_on_the_kernel(example))
    lines = [" ".join(line.split()) for line in example.lines]
    expected = [line for line in lines if line.split()[0] in page.HAPPENINGS]
    assert happened == [line for line in expected if line.startswith("fill")]
    # A cancelled order's number is told by its command; the page does not repeat it.
    assert others == {line for line in expected if not line.startswith("fill")}


@settings(max_examples=100, deadline=None)
@given(account=accounts(), bar=bars(), charges=costs, closed=st.integers(0, 100))
def test_what_rests_fills_as_the_rules_say(account, bar, charges, closed):
    charges = charges._replace(maker_fee_ppm=750, taker_fee_ppm=1_000)
    # What must fill at once never rests, and a parent that is no more wakes nobody.
    gone = {order.number for order in account if fills.cannot_rest(order)}
    resting = [order for order in account if order.number not in gone]
    if any(order.parent in gone for order in resting):
        return
    desk = rich_desk(rows_of(bar, closed), charges)
    for order in resting:
        put(desk, order)
    kernel._meet_open(desk, 1)
    kernel._meet_range(desk, 1)
    played = play_whole(resting, bar, charges, fills.volume_budget(closed, charges))
    assert fills_of(desk) == [
        (event.number, event.price, event.lots, event.is_maker)
        for event in played.events
        if event.kind == fills.FILLED
    ]
    assert working_of(desk) == sorted(
        (order.number, order.kind, order.lots, order.best if order.trailing_ppm else 0)
        for order in played.left
    )


# All ways are one.


def same(left, right):
    for name in ("orders", "fills", "equity"):
        numpy.testing.assert_array_equal(
            numpy.asarray(getattr(left, name)), numpy.asarray(getattr(right, name)), err_msg=name
        )
    assert left.account.tobytes() == right.account.tobytes()


class UnboundedKernel(Kernel):
    """A kernel without the short way: every bar is held against every order."""

    def close_bar(self, bar):
        self.desk.account.bound_low = tables.NEVER
        super().close_bar(bar)
        self.desk.account.bound_low = tables.NEVER


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_machine_code_does_what_python_does(seed):
    script = Script(seed)
    same(play(script, Kernel), play(script, CompiledKernel))


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_the_bars_that_are_skipped_would_have_changed_nothing(seed):
    script = Script(seed)
    short, long = play(script, Kernel), play(script, UnboundedKernel)
    long.account.bound_low, long.account.bound_high = (
        short.account.bound_low,
        short.account.bound_high,
    )
    same(short, long)


# The money.


def folded(script, desk, upto):
    """Return quote, held and entry value after the fills before bar `upto`, from the fills only."""
    scale = script.settings.scale_of(script.bars.instrument)
    quote, base = script.settings.cash_units, 0
    for row in desk.fills[: desk.account.fill_count]:
        if row.bar >= upto:
            break
        cost = fills.value(int(row.price), int(row.lots), scale)
        sign = 1 if row.is_buy else -1
        quote -= sign * cost
        base += sign * int(row.lots) * scale.lot_units
        if row.fee_in_base:
            base -= int(row.fee_units)
        else:
            quote -= int(row.fee_units)
        assert (int(row.held_after), int(row.cash_units_after)) == (base, quote)
    return quote, base


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_on_spot_every_unit_is_accounted_for(seed):
    script = Script(seed, market="spot")
    desk = play(script)
    account = desk.account
    quote, base = folded(script, desk, tables.NEVER)
    assert account.quote_free + account.quote_locked == quote
    assert account.base_free + account.base_locked == base
    parts = ("quote_free", "quote_locked", "base_free", "base_locked")
    assert min(getattr(account, part) for part in parts) >= 0
    orders = desk.orders[: account.order_count]
    assert sum(int(row.locked) for row in orders if row.is_buy) == account.quote_locked
    assert sum(int(row.locked) for row in orders if not row.is_buy) == account.base_locked
    assert all(row.locked == 0 for row in orders if row.status not in (tables.OPEN,))
    tick_units = int(script.bars.instrument.tick_size * 10**8)
    for bar in range(script.length):
        quote, base = folded(script, desk, bar + 1)
        assert desk.equity[bar] == quote + base * int(desk.close[bar]) * tick_units // 10**8


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
@example(seed=1808)
def test_no_fill_is_outside_its_bar_and_none_comes_before_its_order(seed):
    script = Script(seed, fees=False)
    desk = play(script)
    for row in desk.fills[: desk.account.fill_count]:
        if row.order == 0:
            continue
        order = desk.orders[row.order - 1]
        bar, price = int(row.bar), int(row.price)
        assert bar >= order.bar + (row.when != tables.AT_CLOSE)
        if row.is_maker and row.when != tables.IN_RANGE:
            # Gapped through, it keeps its own limit (F5).
            assert price == order.limit
        elif row.when == tables.AT_CLOSE:
            assert price == desk.close[bar]
        elif row.when == tables.AT_OPEN:
            assert price == desk.open[bar]
        else:
            assert desk.low[bar] <= price <= desk.high[bar]


def costly(seed, name, value):
    script = Script(seed, market="spot", fees=False, cash=1_000_000, links=False)
    costs_now = script.settings.costs
    object.__setattr__(costs_now, name, value)
    desk = play(script)
    ended = {int(row.reason) for row in desk.orders[: desk.account.order_count]}
    return desk, tables.INSUFFICIENT_BALANCE in ended


@settings(max_examples=25, deadline=None)
@given(seed=seeds, name=st.sampled_from(["maker_fee", "taker_fee", "slippage", "slippage_ticks"]))
def test_a_cost_that_rises_alone_never_pays(seed, name):
    low, high = (1, 5) if name == "slippage_ticks" else ("0.0005", "0.003")
    cheap, is_cheap_short = costly(seed, name, low)
    dear, is_dear_short = costly(seed, name, high)
    if is_cheap_short or is_dear_short:
        return
    assert (cheap.equity >= dear.equity).all()


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_up_is_down_upside_down(seed):
    kinds = tuple(kind for kind in range(fills.LIMIT, fills.TAKE_PROFIT_LIMIT + 1))
    script = Script(
        seed, market="usdm", fees=False, cash=10_000_000, kinds=kinds, trails=False, length=40
    )
    object.__setattr__(script.settings, "maintenance_rate", 0)
    mirrored = Script(
        seed, market="usdm", fees=False, cash=10_000_000, kinds=kinds, trails=False, length=40
    )
    object.__setattr__(mirrored.settings, "maintenance_rate", 0)
    turn = 20_000
    mirrored.bars = bars_of(
        [
            (turn - bar[0], turn - bar[2], turn - bar[1], turn - bar[3], bar[4])
            for bar in zip(
                *(
                    getattr(script.bars, name).tolist()
                    for name in ("open", "high", "low", "close", "volume")
                ),
                strict=True,
            )
        ]
    )
    mirrored.commands = [[turned(wish, turn) for wish in wishes] for wishes in script.commands]
    here, there = play(script), play(mirrored)
    assert (here.equity == there.equity).all()
    assert [
        (row.bar, row.order, row.lots, turn - row.price)
        for row in here.fills[: here.account.fill_count]
    ] == [
        (row.bar, row.order, row.lots, row.price) for row in there.fills[: there.account.fill_count]
    ]


def turned(wish, turn):
    name, *given_ = wish

    def price(value):
        return value if value != value else turn / 100 - value

    if name == "place":
        is_buy, amount, kind, limit, trigger, *rest = given_
        return (name, not is_buy, amount, kind, price(limit), price(trigger), *rest)
    if name == "exits":
        is_buy, stop, target = given_
        return (name, not is_buy, price(stop), price(target))
    if name == "amend":
        number, amount, limit, trigger = given_
        return (name, number, amount, price(limit), price(trigger))
    return wish


# Pairs and exits.

CALM = [(10_000, 10_010, 9_990, 10_000, 0)] * 4
NOT_GIVEN = float("nan")


def spot_engine(rows=CALM, cash=1_000, base=0):
    engine = Kernel(BacktestSettings(cash=cash).new_desk(bars_of(rows)))
    engine.desk.account.base_free = base
    engine.close_bar(0)
    return engine


def sell(engine, amount, *, limit=NOT_GIVEN, stop=NOT_GIVEN, pair=0, parent=0):
    kind = fills.LIMIT if stop != stop else fills.STOP
    return engine.place(False, amount, kind, limit, stop, 0, 1, False, pair, parent)


def locked(engine):
    return [int(row.locked) for row in engine.desk.orders[: engine.desk.account.order_count]]


def statuses(engine):
    rows = engine.desk.orders[: engine.desk.account.order_count]
    return [(tables.STATUSES[int(row.status)], int(row.reason)) for row in rows]


def test_a_pair_locks_the_larger_need_once_and_each_its_own_when_alone():
    engine = spot_engine(base=3 * 10**8)
    stop = sell(engine, 2.0, stop=95.0)
    sell(engine, 3.0, limit=105.0, pair=stop)
    engine.act()
    assert locked(engine) == [2 * 10**8, 10**8]
    assert engine.desk.account.base_free == 0
    engine.cancel(stop)
    engine.act()
    # What is left takes over what it needs.
    assert locked(engine) == [0, 3 * 10**8]
    engine.cancel(2)
    engine.act()
    assert engine.desk.account.base_free == 3 * 10**8


def test_who_joins_a_pair_that_has_begun_comes_too_late():
    engine = spot_engine(cash=10_000)
    entry = engine.place(True, 1.0, fills.MARKET, NOT_GIVEN, NOT_GIVEN, 0, 1, False, 0, 0)
    sell(engine, 1.0, limit=105.0, pair=entry)
    engine.act()
    assert statuses(engine) == [("filled", 0), ("cancelled", tables.BY_PAIR)]


def test_exits_that_can_not_be_locked_when_they_wake_end_together():
    engine = spot_engine(cash=10_000)
    entry = engine.place(True, 1.0, fills.LIMIT, 99.95, NOT_GIVEN, 0, 1, False, 0, 0)
    # The fee is taken from what is bought: 1.0 is more than there will be.
    stop = sell(engine, 1.0, stop=95.0, parent=entry)
    sell(engine, 1.0, limit=105.0, pair=stop, parent=entry)
    engine.act()
    assert locked(engine)[1:] == [0, 0]
    engine.close_bar(1)
    assert statuses(engine)[0] == ("filled", 0)
    assert sorted(statuses(engine)[1:]) == [
        ("cancelled", tables.BY_PAIR),
        ("expired", tables.INSUFFICIENT_BALANCE),
    ]
    assert engine.desk.account.base_locked == 0


def test_an_entry_whose_exit_is_refused_is_refused_with_it():
    engine = spot_engine(cash=10_000)
    engine.desk.rules.price_max = 20_000
    entry = engine.place(True, 1.0, fills.MARKET, NOT_GIVEN, NOT_GIVEN, 0, 1, False, 0, 0)
    sell(engine, NOT_GIVEN, stop=95.0, parent=entry)
    sell(engine, NOT_GIVEN, limit=300.0, parent=entry)
    engine.act()
    assert engine.desk.account.fill_count == 0
    assert statuses(engine)[0] == ("refused", tables.PRICE_FILTER)
    assert all(status != "open" for status, _ in statuses(engine))


def test_an_exit_that_is_satisfied_when_its_entry_fills_acts_at_once():
    engine = spot_engine(cash=10_000)
    entry = engine.place(True, 1.0, fills.MARKET, NOT_GIVEN, NOT_GIVEN, 0, 1, False, 0, 0)
    # The market stands at 100: a stop of its own would be refused.
    sell(engine, NOT_GIVEN, stop=105.0, parent=entry)
    sell(engine, 0.5, stop=105.0)
    engine.act()
    assert statuses(engine) == [("filled", 0), ("filled", 0), ("refused", tables.WOULD_TRIGGER)]
    assert fills_of(engine.desk) == [(1, 10_000, 1_000, False), (2, 10_000, 999, False)]


def test_a_limit_maker_that_would_take_when_its_entry_fills_ends_and_its_pair_with_it():
    engine = spot_engine(cash=10_000)
    entry = engine.place(True, 1.0, fills.LIMIT, 99.95, NOT_GIVEN, 0, 1, False, 0, 0)
    stop = sell(engine, 0.5, stop=95.0, parent=entry)
    maker(engine, 99.95, pair=stop, parent=entry)
    maker(engine, 99.96, parent=entry)
    engine.act()
    engine.close_bar(1)
    # After the entry has filled, it is refused like any that is placed.
    maker(engine, 100.0, parent=entry)
    maker(engine, 100.01, parent=entry)
    engine.act()
    assert statuses(engine) == [
        ("filled", 0),
        ("cancelled", tables.BY_PAIR),
        ("expired", tables.WOULD_TAKE),
        ("filled", 0),
        ("refused", tables.WOULD_TAKE),
        ("open", 0),
    ]
    assert fills_of(engine.desk) == [(1, 9_995, 1_000, True), (4, 9_996, 250, True)]
    assert engine.desk.account.base_locked == 25_000_000


def maker(engine, limit, *, pair=0, parent=0):
    kind = fills.LIMIT_MAKER
    return engine.place(False, 0.25, kind, limit, NOT_GIVEN, 0, 1, False, pair, parent)


def test_a_stop_that_gaps_beyond_the_money_expires_and_gives_back_what_it_locked():
    rows = [*CALM[:2], (20_000, 20_000, 20_000, 20_000, 0)]
    engine = spot_engine(rows, cash=1_000)
    engine.place(True, 9.9, fills.STOP, NOT_GIVEN, 101.0, 0, 1, False, 0, 0)
    engine.act()
    assert locked(engine) == [99_990_000_000]
    engine.close_bar(1)
    assert statuses(engine) == [("expired", tables.INSUFFICIENT_BALANCE)]
    assert engine.desk.account.quote_free == 100_000_000_000
    assert engine.desk.account.fill_count == 0


def test_margin_is_rounded_up():
    bars_ = bars_of(CALM)
    engine = Kernel(BacktestSettings(cash=1_000, market="usdm", leverage=3).new_desk(bars_))
    engine.close_bar(0)
    engine.place(True, 0.001, fills.MARKET, NOT_GIVEN, NOT_GIVEN, 0, 1, False, 0, 0)
    engine.act()
    # A third of 0.1 in 1e-8.
    assert engine.desk.account.margin == 3_333_334


def test_amending_keeps_what_is_left_the_pair_and_the_children():
    engine = spot_engine(cash=100_000)
    entry = engine.place(True, 2.0, fills.LIMIT, 90.0, NOT_GIVEN, 0, 1, False, 0, 0)
    sell(engine, NOT_GIVEN, stop=80.0, parent=entry)
    engine.act()
    anew = engine.amend(entry, NOT_GIVEN, 91.0, NOT_GIVEN)
    engine.act()
    rows = engine.desk.orders
    assert statuses(engine) == [("cancelled", tables.BY_COMMAND), ("sleeping", 0), ("open", 0)]
    assert (rows[anew - 1].lots, rows[anew - 1].limit, rows[1].parent) == (2_000, 9_100, anew)
    # The old one is gone: there is nothing to amend any more.
    engine.amend(entry, 1.0, NOT_GIVEN, NOT_GIVEN)
    engine.act()
    assert statuses(engine)[-1] == ("refused", tables.UNKNOWN_ORDER)
    # Refused, the new one takes the children with it.
    engine.amend(anew, 10_000.0, NOT_GIVEN, NOT_GIVEN)
    engine.act()
    assert statuses(engine)[-1] == ("refused", tables.INSUFFICIENT_BALANCE)
    assert statuses(engine)[1] == ("cancelled", tables.BY_PARENT)
    assert engine.desk.account.working_count == 0


# Floats become whole numbers.


@settings(deadline=None)
@given(lots=st.integers(0, 10**9), step=st.sampled_from([1e-8, 1e-5, 0.001, 0.1, 1.0]))
def test_a_whole_number_of_lots_written_as_a_float_is_that_number(lots, step):
    assert kernel.lots_of(lots * step, step) == lots
    assert [kernel.ticks_of(lots * step, step, way) for way in (-1, 0, 1)] == [lots] * 3


@settings(deadline=None)
@given(steps=st.floats(0.001, 1e9), way=st.sampled_from([-1, 1]))
def test_a_float_between_two_steps_goes_the_way_it_must(steps, way):
    found = kernel.ticks_of(steps, 1.0, way)
    assert abs(found - steps) < 1
    if abs(steps - round(steps)) > 1e-6:
        assert (found - steps) * way > 0
        assert kernel.lots_of(steps, 1.0) < steps


@pytest.mark.parametrize("amount", [1e300, float("inf"), 9.3e18])
def test_what_int64_does_not_hold_is_a_problem_and_no_order(amount):
    desk = BacktestSettings().new_desk(bars_of(random_rows(random.Random(1), 3)))
    nan = float("nan")
    assert (
        kernel.place(desk, True, amount, fills.MARKET, nan, nan, 0, 1, False, 0, 0)
        == tables.TOO_LARGE
    )
    assert (
        kernel.place(desk, True, 1.0, fills.LIMIT, amount, nan, 0, 1, False, 0, 0)
        == tables.TOO_LARGE
    )
    assert desk.account.order_count == 0


def test_a_desk_takes_no_more_commands_than_it_holds():
    desk = BacktestSettings().new_desk(bars_of(random_rows(random.Random(1), 3)))
    for _ in range(tables.COMMANDS_MAX):
        assert kernel.cancel(desk, 1) == 0
    assert kernel.cancel(desk, 1) == tables.TOO_MANY_COMMANDS
    assert kernel.cancel_all(desk) == tables.TOO_MANY_COMMANDS
    assert tables.TOO_MANY_COMMANDS in tables.PROBLEMS


@pytest.mark.parametrize("engine_class", [Kernel, CompiledKernel])
@pytest.mark.parametrize("number", [-1, 2, 10**6, 2**40])
def test_an_order_that_names_none_before_it_is_refused(engine_class, number):
    rows = random_rows(random.Random(1), 3)
    engine = engine_class(BacktestSettings(cash=10**6).new_desk(bars_of(rows)))
    nan = float("nan")
    engine.close_bar(0)
    for pair, parent in ((number, 0), (0, number)):
        engine.place(True, 1.0, fills.MARKET, nan, nan, 0, 1, False, pair, parent)
    engine.amend(number, nan, nan, nan)
    engine.cancel(number)
    engine.act()
    orders = engine.desk.orders[: engine.desk.account.order_count]
    assert engine.desk.account.fill_count == 0
    assert {int(row.status) for row in orders} <= {tables.REFUSED, tables.CANCELLED}

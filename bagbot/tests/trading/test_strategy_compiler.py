"""Compiled equals interpreted: the same orders, fills, equity and state, or it is not compiled."""

import math
import random
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bagbot import Backtester, Strategy
from bagbot.domain.bars import Bars
from bagbot.domain.errors import InvalidOrderError
from bagbot.tests.trading.every_order import EveryOrder
from bagbot.tests.trading.random_programs import program_text, random_inputs
from bagbot.tests.trading.some_bars import walk
from bagbot.trading.backtest_result import BacktestResult
from bagbot.trading.strategy import History, prepare
from bagbot.trading.strategy_compiler import compile_strategy
from bagbot.trading.strategy_expressions import CannotCompileError
from bagbot.trading.strategy_loader import place_in_strategy, strategy_class

SMALL = walk(300, 3)


def assert_same(one: BacktestResult, other: BacktestResult) -> None:
    assert one.orders.tolist() == other.orders.tolist()
    assert one.fills.tolist() == other.fills.tolist()
    assert one.equity.tolist() == other.equity.tolist()


def in_all_modes(cls: type[Strategy], bars: Bars, **words) -> BacktestResult:
    results = []
    for mode in ("compiled", "interpreted", "python"):
        result = Backtester(cls, bars, mode=mode, **words).run()
        assert result.mode == mode
        results.append(result)
    assert_same(results[0], results[1])
    assert_same(results[0], results[2])
    return results[0]


@pytest.mark.parametrize("market", ["spot", "usdm"])
def test_every_kind_of_order_ends_the_same_in_all_modes(market):
    seed = random.randrange(10**6)
    sys.stdout.write(f"seed {seed}\n")
    leverage = 3 if market == "usdm" else 1
    result = in_all_modes(
        EveryOrder,
        walk(1_500, seed),
        parameters={"seed": seed},
        market=market,
        leverage=leverage,
    )
    assert len(result.orders) > 500
    assert len(result.fills) > 100
    assert set(result.orders["kind"].tolist()) >= set(range(1, 8))


@given(seed=st.integers(0, 10**6), step=st.sampled_from([30, 3_000, 40_000]))
@settings(max_examples=25, deadline=None)
def test_random_bars_end_the_same_compiled_and_as_python(seed, step):
    bars = walk(120, seed, step=step, gap=step // 4)
    both = [
        Backtester(EveryOrder, bars, mode=mode, parameters={"seed": seed}).run()
        for mode in ("compiled", "python")
    ]
    assert_same(*both)


def test_random_arithmetic_is_pythons_or_raises(tmp_path):
    seed = random.randrange(10**6)
    sys.stdout.write(f"seed {seed}\n")
    count, rows = 40, 40
    path = tmp_path / "programs.py"
    path.write_text(program_text(random.Random(seed), count))
    cls = strategy_class(str(path))
    inputs = random_inputs(random.Random(seed + 1), count, rows)
    cls.inputs = inputs
    bars = walk(count * rows, 1)
    compiled, interpreted = cls(), cls()
    prepared = prepare(compiled, bars)
    program = compile_strategy(compiled, prepared.series)
    bound = program.bind(compiled, prepared.series)
    desk = Backtester(cls, bars).new_desk()
    program.compile(bound, desk)
    history = History(interpreted, prepare(interpreted, bars).series)
    compared = 0
    for bar in range(count * rows):
        history.advance_to(bar)
        interpreted.out, interpreted.whole = 0.0, 0
        bound.record["s_out"], bound.record["s_whole"] = 0.0, 0
        try:
            program.run(bound, desk, 0, bar, bar + 1)
        except (ArithmeticError, ValueError, TypeError, IndexError):
            continue
        interpreted.on_bar()
        if isinstance(interpreted.out, int) and abs(interpreted.out) > 2**53:
            # Whole numbers that share a name with floats are exact up to here only.
            continue
        compared += 1
        found = bound.record["s_out"][0], bound.record["s_whole"][0]
        same_float = found[0] == interpreted.out or (
            math.isnan(found[0]) and math.isnan(interpreted.out)
        )
        what = {name: values[bar] for name, values in inputs.items()}
        assert same_float, (path.read_text().splitlines(), what, found, interpreted.out)
        assert found[1] == interpreted.whole, (what, found, interpreted.whole)
    assert compared > 0.6 * count * rows


SCALE = 2.0


def scaled(value, by=SCALE):
    if value > 1_000.0:
        return value * by
    return value


class Counts(Strategy):
    length: int = 3

    def prepare(self):
        self.bars_seen = 0
        self.widens = 0
        self.highest = None
        self.table = [0] * 5
        self.is_even = True

    def on_bar(self):
        self.bars_seen += 1
        self.is_even = self.bars_seen % 2 == 0


class Inherits(Counts):
    level = 10

    @property
    def middle(self):
        return (self.high[-1] + self.low[-1]) / 2

    def on_bar(self):
        super().on_bar()
        if self.highest is None or self.high[-1] > self.highest:
            self.highest = self.high[-1]
        self.widens = self.widens + scaled(self.middle, by=0.5) ** 1.5
        total = 0.0
        for step in range(1, self.length + 1):
            if step > self.index:
                break
            total += self.close[-step]
        self.table[self.bars_seen % 5] = int(total)
        self.level = -self.level if self.is_even else self.level


def test_state_after_a_compiled_run_is_that_of_an_interpreted_one():
    compiled, interpreted = Inherits(), Inherits()
    prepared = prepare(compiled, SMALL)
    program = compile_strategy(compiled, prepared.series)
    bound = program.bind(compiled, prepared.series)
    desk = Backtester(Inherits, SMALL).new_desk()
    assert program.run(bound, desk, prepared.first, 0, len(SMALL)) == len(SMALL)
    program.store(bound, compiled)
    history = History(interpreted, prepare(interpreted, SMALL).series)
    for bar in range(prepared.first, len(SMALL)):
        history.advance_to(bar)
        interpreted.on_bar()
    for name in ("bars_seen", "widens", "highest", "table", "is_even", "level"):
        assert getattr(compiled, name) == getattr(interpreted, name), name
        assert type(getattr(compiled, name)) is type(getattr(interpreted, name)), name


def test_a_program_fits_other_parameters_and_refuses_other_kinds():
    first = Inherits()
    prepared = prepare(first, SMALL)
    program = compile_strategy(first, prepared.series)
    other = Inherits(length=7)
    prepare(other, SMALL)
    program.bind(other, prepared.series)
    other.bars_seen = 0.5
    with pytest.raises(CannotCompileError, match=r"self\.bars_seen is 0\.5 here"):
        program.bind(other, prepared.series)


def test_runs_in_several_threads_at_once_do_not_meet():
    bars = walk(5_000, 5)
    strategies = [EveryOrder(seed=seed) for seed in range(4)]
    alone = [Backtester(one, bars, mode="compiled").run() for one in strategies]
    together: dict[int, BacktestResult] = {}

    def play(at: int) -> None:
        together[at] = Backtester(strategies[at], bars, mode="compiled").run()

    threads = [threading.Thread(target=play, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, result in enumerate(alone):
        assert_same(together[at], result)
    assert len({int(result.equity[-1]) for result in alone}) == 4


CASES = (
    ("self.zero = self.close[self.index + 1]", IndexError),
    ("self.zero = self.close[-22]", IndexError),
    ("self.zero = self.numbers[self.count]", IndexError),
    ("self.numbers[self.count] = 1", IndexError),
    ("self.zero = 1 / self.zero", ZeroDivisionError),
    ("self.count = self.count // 0", ZeroDivisionError),
    ("self.zero = self.close[-1] % self.zero", ZeroDivisionError),
    ("self.zero = self.zero ** -1", ZeroDivisionError),
    ("self.count = int(math.nan)", ValueError),
    ("self.count = math.floor(math.inf)", OverflowError),
    ("self.zero = math.log(self.zero)", ValueError),
    ("self.zero = math.sqrt(-1.0)", ValueError),
    ("self.zero = math.exp(1e3)", OverflowError),
    ("self.zero = 10.0 ** 400", OverflowError),
    ("self.zero = self.nothing + 1", TypeError),
    ("raise RuntimeError('enough')", RuntimeError),
    ("assert self.count < 3", AssertionError),
    ("self.buy(self.zero)", InvalidOrderError),
    ("self.buy(1.0, limit=-self.close[-1])", InvalidOrderError),
    ("self.buy(math.nan)", InvalidOrderError),
    ("self.buy(1.0, trail=1.5)", InvalidOrderError),
    ("self.buy(1.0, stop_loss=math.inf)", InvalidOrderError),
    ("self.buy(1e300)", InvalidOrderError),
)
HARMLESS = len(CASES)


def written(tmp_path, cases: list[str]) -> type[Strategy]:
    """Return a strategy that does one of several things at bar 20; case n is line 14 + 2n."""
    path = tmp_path / "written.py"
    lines = [
        f"            {'el' if n else ''}if self.case == {n}:\n                {text}"
        for n, text in enumerate(cases)
    ]
    path.write_text(
        "import math\nfrom bagbot import Strategy\n\nclass Written(Strategy):\n"
        "    case: int = 0\n"
        "    def prepare(self):\n        self.count = 0\n        self.zero = 0.0\n"
        "        self.numbers = [1]\n        self.nothing = None\n"
        "    def on_bar(self):\n        self.count += 1\n        if self.index == 20:\n"
        + "\n".join(lines)
        + "\n"
    )
    return strategy_class(str(path))


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> type[Strategy]:
    texts = [text for text, _ in CASES]
    texts.append("self.count = 2**62 + self.count * 2**61")
    return written(tmp_path_factory.mktemp("cases"), texts)


@pytest.mark.parametrize("case", range(len(CASES)), ids=[text for text, _ in CASES])
def test_an_error_is_pythons_own_and_names_line_and_bar(cases, case):
    error = CASES[case][1]
    with pytest.raises(error) as raised:
        Backtester(cases, SMALL, parameters={"case": case}).run()
    with pytest.raises(error) as interpreted:
        Backtester(cases, SMALL, parameters={"case": case}, mode="python").run()
    assert type(raised.value) is type(interpreted.value) is error
    assert str(raised.value) == str(interpreted.value)
    assert "bar 20" in " ".join(raised.value.__notes__)
    line = place_in_strategy(raised.value, cases).rpartition(":")[2]
    assert int(line) == 15 + 2 * case


def test_what_only_machine_code_cannot_do_is_done_in_python(cases):
    result = Backtester(cases, SMALL, parameters={"case": HARMLESS}).run()
    assert result.mode == "interpreted"
    assert "OverflowError" in result.why_not_compiled
    beyond = Backtester(cases, SMALL, parameters={"case": HARMLESS + 1}).run()
    assert (beyond.mode, beyond.why_not_compiled) == ("compiled", "")


def test_what_cannot_be_compiled_runs_interpreted_and_says_why(tmp_path):
    cls = written(tmp_path, ["self.words = {}"])
    result = Backtester(cls, SMALL).run()
    assert result.mode == "interpreted"
    assert "written.py:15: a dictionary cannot be compiled" in result.why_not_compiled
    with pytest.raises(CannotCompileError, match=r"written\.py:15"):
        Backtester(cls, SMALL, mode="compiled").run()


def test_an_edited_strategy_is_compiled_anew(tmp_path):
    paths = set()
    for body in ("self.count = 3", "self.count = 4", "self.count = 3"):
        made = written(tmp_path, [body])()
        paths.add(compile_strategy(made, prepare(made, SMALL).series).path)
    assert len(paths) == 2
    assert all(path.exists() for path in paths)

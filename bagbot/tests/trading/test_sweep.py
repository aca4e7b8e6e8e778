import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy
import polars
import pytest
import talib
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bagbot.domain.errors import ConfigError, StrategyError
from bagbot.domain.statistics import Metrics, equity_statistics, years_of
from bagbot.tests.trading.some_bars import walk
from bagbot.trading.backtest_settings import Costs
from bagbot.trading.backtester import Backtester
from bagbot.trading.kernel_tables import REFUSED
from bagbot.trading.strategy import Strategy
from bagbot.trading.strategy_compiler import CannotCompileError
from bagbot.trading.sweep import Sweep, SweepInterruptedError, SweepResult
from bagbot.trading.sweep_figures import fills_hash

PROJECT = Path(__file__).parents[3]
BARS = walk(4_000, 7)
GRID = {"fast": range(3, 9), "slow": [10, 20, 40, 80]}


class Cross(Strategy):
    fast: int = 10
    slow: int = 50
    size: float = 0.01

    def prepare(self):
        self.fast_average = talib.SMA(self.close, self.fast)
        self.slow_average = talib.SMA(self.close, self.slow)

    def on_bar(self):
        if self.fast_average[-1] > self.slow_average[-1]:
            if self.position == 0:
                self.buy(self.size)
        elif self.position > 0:
            self.close_position()


class Brackets(Strategy):
    """Stops, targets, limits, trailing stops and more than there is money for."""

    length: int = 14
    width: float = 0.002
    size: float = 0.02
    trails: bool = False

    def prepare(self):
        self.strength = talib.RSI(self.close, self.length)
        self.middle = talib.EMA(self.close, timeperiod=self.length)
        self.asked = 0

    def on_bar(self):
        price = self.close[-1]
        if self.position == 0 and self.open_orders == 0:
            self.asked += 1
            if self.strength[-1] < 40:
                self.buy(
                    self.size,
                    limit=price * (1 - self.width / 4),
                    stop_loss=price * (1 - self.width),
                    take_profit=price * (1 + self.width),
                )
            elif self.strength[-1] > 60 and price > self.middle[-1]:
                self.buy(self.size * 30)
                self.buy(self.size)
        elif self.trails and self.open_orders < 2:
            self.sell(self.size / 2, trail=0.004)
        elif self.asked % 7 == 0:
            self.cancel_all()
            self.close_position()


class Noted(Cross):
    """Nothing for the compiler: a list that grows."""

    def prepare(self):
        super().prepare()
        self.seen = []

    def on_bar(self):
        self.seen.append(self.index)
        super().on_bar()


class FailsAtEight(Cross):
    def on_bar(self):
        if self.fast == 8 and self.index == 200:
            raise KeyError("at last")
        super().on_bar()


def same(left, right) -> bool:
    """Return whether two tables are the same to the last bit."""
    return left.tobytes() == right.tobytes()


def as_python(fills) -> list[dict[str, int]]:
    """Return records as what plain Python computes with, so that nothing wraps around."""
    return [dict(zip(fills.dtype.names, row, strict=True)) for row in fills.tolist()]


def assert_rows_are_single_runs(result: SweepResult, cls, places, bars=BARS, **given):
    for place in places:
        row = result.row(place)
        parameters = {name: row[name] for name in result.parameters}
        alone = Backtester(cls, bars, parameters=parameters, **given).run()
        expected = {
            **alone.metrics,
            "equity_units": int(alone.equity[-1]),
            "orders": len(alone.orders),
            "refused": int(numpy.count_nonzero(alone.orders["status"] == REFUSED)),
            "fills": len(alone.fills),
            "fills_hash": fills_hash(as_python(alone.fills)),
        }
        for name, value in expected.items():
            is_none = isinstance(value, float) and math.isnan(value)
            assert math.isnan(row[name]) if is_none else row[name] == value, (name, parameters)


@pytest.mark.parametrize("mode", ["compiled", "interpreted"])
def test_every_row_is_what_the_backtester_says(mode):
    bars, grid = BARS[:1_500], {"fast": [3, 5, 8], "slow": [20, 40]}
    result = Sweep(Cross, bars, grid, mode=mode, workers=2).run()
    assert result.is_complete
    assert result.mode == mode
    assert result.total == 6
    assert_rows_are_single_runs(result, Cross, range(6), bars)
    assert len(set(result.table["fills_hash"].tolist())) == 6


@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.integers(2, 60), min_size=1, max_size=3, unique=True),
    widths=st.lists(st.floats(0.0005, 0.02), min_size=1, max_size=3, unique=True),
    cash=st.sampled_from([300, 2_000, 100_000]),
    costs=st.sampled_from([Costs(), Costs(fee_in="quote", slippage_ticks=3)]),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_rows_of_every_order_type_are_single_runs(seed, lengths, widths, cash, costs):
    bars = walk(1_500, seed)
    grid = {"length": lengths, "width": widths, "trails": [False, True]}
    result = Sweep(Brackets, bars, grid, cash=cash, costs=costs, mode="compiled").run()
    assert_rows_are_single_runs(
        result, Brackets, range(result.total), bars, cash=cash, costs=costs, mode="interpreted"
    )


def test_shared_indicators_change_nothing():
    shared = Sweep(Brackets, BARS, {"length": range(5, 15), "trails": [True, False]}).run()
    own = Sweep(
        Brackets, BARS, {"length": range(5, 15), "trails": [True, False]}, memo_bytes=0
    ).run()
    assert same(shared.table, own.table)


def test_the_table_does_not_depend_on_how_many_work():
    assert same(
        Sweep(Cross, BARS, GRID, workers=1).run().table,
        Sweep(Cross, BARS, GRID, workers=4).run().table,
    )


def test_what_cannot_be_compiled_runs_as_python_and_says_so():
    grid = {"fast": [3, 5], "slow": [20, 30]}
    result = Sweep(Noted, BARS[:800], grid, workers=2).run()
    assert result.mode == "interpreted"
    assert "test_sweep.py:" in result.why_not_compiled
    plain = Sweep(Cross, BARS[:800], grid).run()
    assert same(result.table, plain.table)
    with pytest.raises(CannotCompileError):
        Sweep(Noted, BARS[:800], grid, mode="compiled").run()


def test_where_samples_and_fixed_parameters():
    result = Sweep(
        Cross,
        BARS,
        {"fast": range(2, 30), "slow": range(2, 30)},
        where=lambda p: p["fast"] < p["slow"],
        samples=20,
        seed=5,
        parameters={"size": 0.02},
    ).run()
    assert result.total == 20
    assert (result.table["fast"] < result.table["slow"]).all()
    place = int(numpy.argmax(result.table["fills"]))
    row = result.row(place)
    parameters = {"fast": row["fast"], "slow": row["slow"], "size": 0.02}
    alone = Backtester(Cross, BARS, parameters=parameters).run()
    assert row["equity_units"] == alone.equity[-1]


def test_an_error_of_the_strategy_names_the_combination():
    for mode in ("auto", "interpreted"):
        sweep = Sweep(
            FailsAtEight, BARS[:500], {"fast": [7, 8], "slow": [20]}, mode=mode, workers=1
        )
        with pytest.raises(KeyError, match="at last") as caught:
            sweep.run()
        assert any("fast=8, slow=20" in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    ("grid", "given", "told"),
    [
        ({"fats": [1]}, {}, r"no parameter fats; did you mean fast\?"),
        ({"fast": []}, {}, "fast has no values"),
        ({"fast": [1]}, {"parameters": {"fast": 3}}, "fast is both fixed and swept"),
        ({"fast": [1]}, {"workers": 0}, "at least one worker"),
        ({"fast": [1]}, {"cash": -5}, "cash is -5"),
        ({"fast": [1]}, {"mode": "fast"}, "mode is one of"),
        ({"fast": [1]}, {"where": lambda p: False}, "leaves none"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused_by_name(grid, given, told):
    with pytest.raises(ConfigError, match=told):
        Sweep(Cross, BARS, grid, **given)


def test_fixed_parameters_are_checked_too():
    with pytest.raises(StrategyError, match="size"):
        Sweep(Cross, BARS, {"fast": [1]}, parameters={"size": "big"})


@given(
    seed=st.integers(0, 10**6),
    market=st.sampled_from(["spot", "usdm"]),
    fill_at=st.sampled_from(["open", "close"]),
    fee_in=st.sampled_from(["received", "quote"]),
    length=st.integers(2, 60),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_bars_without_a_position_say_nothing(seed, market, fill_at, fee_in, length):
    alone = Backtester(
        Brackets,
        walk(1_500, seed),
        parameters={"length": length, "trails": seed % 2 == 0},
        market=market,
        fill_at=fill_at,
        cash=100_000,
        costs=Costs(fee_in=fee_in),
    ).run()
    years = years_of(alone.bars.open_time_ms, alone.bars.interval_ms)
    walked = equity_statistics(alone.equity, alone.cash_units, years)
    for name, value in walked._asdict().items():
        if name in alone.metrics:
            assert alone.metrics[name] == pytest.approx(value, rel=1e-12, nan_ok=True), name


# What is kept.


def test_progress_counts_to_the_end():
    told = []
    Sweep(Cross, BARS, GRID).run(lambda done, total: told.append((done, total)))
    assert told[0] == (0, 24)
    assert told[-1] == (24, 24)
    assert told == sorted(told)


def stop_at(count):
    def tell(done, total):
        if done >= count:
            raise KeyboardInterrupt

    return tell


@pytest.mark.parametrize(("mode", "workers"), [("compiled", 2), ("interpreted", 1)])
def test_what_was_done_before_ctrl_c_is_kept_and_the_rest_made_up_for(tmp_path, mode, workers):
    bars, store = BARS[:1_000], tmp_path / "sweep"
    sweep = Sweep(Cross, bars, GRID, mode=mode, workers=workers)
    with pytest.raises(SweepInterruptedError) as caught:
        sweep.run(stop_at(1), store=store)
    part = caught.value.result
    assert 1 <= part.done <= 24
    assert isinstance(caught.value, KeyboardInterrupt)
    assert not [each for each in threading.enumerate() if each.name.startswith("sweep-")]
    told = []
    result = sweep.run(lambda done, total: told.append(done), store=store)
    assert told[0] == part.done
    assert same(result.table, Sweep(Cross, bars, GRID).run().table)


def test_a_finished_sweep_is_read_not_run(tmp_path):
    store = tmp_path / "sweep"
    first = Sweep(Cross, BARS, GRID).run(store=store)
    told = []
    second = Sweep(Cross, BARS, GRID).run(lambda done, total: told.append(done), store=store)
    assert told == [24]
    assert same(first.table, second.table)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"bars": BARS[1:]}, "data"),
        ({"grid": {**GRID, "fast": range(4, 10)}}, "combinations, grid|grid"),
        ({"cash": 20_000}, "settings"),
        ({"costs": Costs(taker_fee=0.002)}, "settings"),
        ({"parameters": {"size": 0.02}}, "parameters"),
    ],
)
def test_results_of_another_sweep_are_never_taken(tmp_path, changed, told):
    store = tmp_path / "sweep"
    given = {"bars": BARS, "grid": GRID}
    Sweep(Cross, **given).run(store=store)
    with pytest.raises(ConfigError, match=f"differs in ({told})"):
        Sweep(Cross, **{**given, **changed}).run(store=store)


SCRIPT = """
import sys, time
from bagbot.tests.trading.test_sweep import BARS, Cross
from bagbot.trading.sweep import Sweep, SweepInterruptedError

def tell(done, total):
    print(done, flush=True)
    time.sleep(0.05)

if __name__ == "__main__":
    grid = {"fast": range(3, 33), "slow": range(40, 100)}
    store, table, mode = sys.argv[1:]
    try:
        result = Sweep(Cross, BARS, grid, workers=2, mode=mode).run(tell, store=store)
    except SweepInterruptedError as stopped:
        print("kept", stopped.result.done, flush=True)
        sys.exit(130)
    result.table.tofile(table)
"""


@pytest.fixture
def started(tmp_path):
    script = tmp_path / "swept.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}

    def start(store, table, mode="compiled"):
        words = [str(script), str(tmp_path / store), str(tmp_path / table), mode]
        return subprocess.Popen(
            [sys.executable, *words],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def test_a_sweep_that_is_killed_resumes_and_gives_the_very_same_table(started, tmp_path):
    begun = []
    for _ in range(2):
        with started("killed", "resumed") as run:
            counts = [int(run.stdout.readline()) for _ in range(3)]
            os.kill(run.pid, signal.SIGKILL)
        begun.append(counts[0])
        assert counts[-1] < 1_800, "killed too late to say anything"
    assert 0 == begun[0] < begun[1]
    for store, table in (("killed", "resumed"), ("whole", "at_once")):
        with started(store, table) as run:
            run.communicate(timeout=120)
        assert run.returncode == 0
    assert (tmp_path / "resumed").read_bytes() == (tmp_path / "at_once").read_bytes()


def test_ctrl_c_in_a_terminal_stops_all_processes_and_keeps_what_was_done(started):
    with started("stopped", "never", "interpreted") as run:
        while int(run.stdout.readline()) < 2:
            pass
        os.killpg(run.pid, signal.SIGINT)
        last = run.communicate(timeout=60)[0].splitlines()[-1]
    assert run.returncode == 130
    assert int(last.removeprefix("kept ")) >= 2
    # What cleans up after processes ends a moment later than they do.
    for _ in range(100):
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("a process is left")


def test_memory_does_not_grow_with_the_combinations(tmp_path):
    peak = """
import resource
from bagbot.tests.trading.test_sweep import BARS, Cross
from bagbot.trading.sweep import Sweep

def swept(count):
    grid = {"fast": range(2, 12), "slow": range(20, 20 + count // 10)}
    Sweep(Cross, BARS[:1_000], grid, workers=2, memo_bytes=2**20).run(store=f"sweep{count}")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

small, large = swept(500), swept(5_000)
print(large - small)
"""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", peak],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert int(done.stdout) < 20_000, "kilobytes for ten times as many combinations"


# What is told.


def test_the_best_is_the_best_and_nothing_is_last():
    result = Sweep(Cross, BARS, {**GRID, "size": [0.0001, 0.01]}).run()
    for figure, best in (("sharpe", max), ("drawdown_max", min), ("fees", min)):
        known = [value for value in result.table[figure].tolist() if not math.isnan(value)]
        assert result.best(figure)[figure] == best(known)
        ranked = [result.table[figure][place] for place in result.ranking(figure)]
        is_none = [math.isnan(value) for value in ranked]
        assert is_none == sorted(is_none)
        assert len(ranked) == result.total
    with pytest.raises(ConfigError, match=r"no figure sharp; did you mean sharpe\?"):
        result.best("sharp")


def test_no_combination_is_best_where_none_has_the_figure():
    result = Sweep(Cross, BARS, {"fast": [3]}, parameters={"slow": 3}).run()
    with pytest.raises(ConfigError, match="no combination has a win_rate"):
        result.best("win_rate")


def test_the_table_can_be_written_and_read(tmp_path):
    result = Sweep(Cross, BARS, GRID).run()
    result.to_parquet(tmp_path / "table.parquet")
    result.to_csv(tmp_path / "table.csv")
    read = polars.read_parquet(tmp_path / "table.parquet")
    assert read.equals(result.frame(), null_equal=True)
    assert read.columns[:2] == ["fast", "slow"]
    assert set(Metrics._fields) < set(read.columns)
    assert polars.read_csv(tmp_path / "table.csv").height == 24

"""The strategies that come with bagbot: short, compiled, honest, the same in all modes."""

import inspect

import pytest

from bagbot import Backtester
from bagbot.tests.trading.some_bars import walk
from bagbot.trading.lookahead import examine
from bagbot.trading.strategy_loader import example_names, strategy_class
from bagbot.trading.warmup import compiled_seconds

SMALLER = {
    "perpetual": {"length": 96, "ranges": 3.0},
    "mean_reversion": {"width": 1.5},
    "trend": {},
}


@pytest.mark.parametrize("name", example_names())
def test_an_example_trades_the_same_compiled_and_interpreted(name):
    cls = strategy_class(name)
    source = inspect.getsource(inspect.getmodule(cls))
    assert len(source.splitlines()) < 80
    bars = walk(12_000, 2, step=15_000)
    market = "usdm" if name == "perpetual" else "spot"
    runs = [
        Backtester(cls, bars, market=market, mode=mode, parameters=SMALLER[name]).run()
        for mode in ("compiled", "interpreted")
    ]
    assert len(runs[0].fills) > 5
    assert runs[0].fills.tolist() == runs[1].fills.tolist()
    assert runs[0].equity.tolist() == runs[1].equity.tolist()
    assert runs[0].refusals() == runs[1].refusals()


@pytest.mark.parametrize("name", example_names())
def test_an_example_does_not_look_ahead(name):
    cls = strategy_class(name)
    honesty = examine(cls(**SMALLER[name]), walk(15_000, 3, step=5_000), cuts=10)
    assert honesty.is_honest
    assert honesty.unsettled == ()


def test_warming_up_compiles_a_strategy_without_trading_it():
    assert compiled_seconds(strategy_class("trend")) > 0

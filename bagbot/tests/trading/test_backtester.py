"""A backtest from outside: what it refuses, tells, and finds, however it runs."""

import json
import random
from decimal import Decimal

import numpy
import pytest

from bagbot.domain.errors import ConfigError, InvalidOrderError, StrategyError
from bagbot.tests.trading.kernel_play import bars_of, instrument, random_rows
from bagbot.trading import kernel_tables as tables
from bagbot.trading.backtester import Backtester, Costs, Funding
from bagbot.trading.risk_manager import RiskLimits
from bagbot.trading.strategy import Strategy

MODES = ["compiled", "interpreted", "python"]
SEED = 20261123
BARS = bars_of(random_rows(random.Random(SEED), 400))


class Averages(Strategy):
    fast: int = 3
    slow: int = 8
    amount: float = 1.0

    def prepare(self):
        sums = numpy.cumsum(self.close)
        self.fast_mean = self.mean(sums, self.fast)
        self.slow_mean = self.mean(sums, self.slow)

    def mean(self, sums, length):
        mean = numpy.full(len(sums), numpy.nan)
        mean[length:] = (sums[length:] - sums[:-length]) / length
        return mean

    def on_bar(self):
        if self.fast_mean[-1] > self.slow_mean[-1] and self.position == 0:
            self.buy(self.amount, stop_loss=self.close[-1] * 0.97)
        elif self.fast_mean[-1] < self.slow_mean[-1] and self.position > 0:
            self.cancel_all()
            self.close_position()


class EveryBar(Strategy):
    def on_bar(self):
        self.buy(0.001)
        self.sell(0.001)


class Limits(Strategy):
    def on_bar(self):
        self.buy(0.01, limit=self.close[-1] * 1.05)
        self.buy(0.5)


class Nothing(Strategy):
    def on_bar(self):
        pass


class Broken(Strategy):
    def on_bar(self):
        if self.index == 20:
            self.buy(self.close[-1] * float("nan"))


class Faulty(Strategy):
    def on_bar(self):
        if self.index == 20:
            self.buy(1.0 / (self.close[-1] - self.close[-1]))


def run(strategy=Averages, bars=BARS, mode="python", **settings):
    return Backtester(strategy, bars, mode=mode, **settings).run()


def test_all_modes_find_the_same():
    results = [run(mode=mode) for mode in MODES]
    assert [result.mode for result in results] == MODES
    first = results[0]
    assert len(first.fills) > 20
    for other in results[1:]:
        for name in ("orders", "fills", "equity", "trades"):
            numpy.testing.assert_array_equal(getattr(first, name), getattr(other, name))
        assert str(first.metrics) == str(other.metrics)
        assert str(first.buy_and_hold_metrics) == str(other.buy_and_hold_metrics)


@pytest.mark.parametrize("mode", ["compiled", "interpreted"])
def test_tables_grow_when_a_run_fills_them(mode):
    bars = bars_of(random_rows(random.Random(SEED), 9_000))
    result = run(EveryBar, bars, mode=mode)
    assert len(result.orders) == 2 * (len(bars) - 1)
    # What was commanded after the last bar waits for an open that does not come.
    assert result.queued_at_end == 2
    assert result.fills["order"].tolist() == sorted(result.fills["order"].tolist())


def test_a_run_can_be_repeated_and_leaves_the_strategy_as_it_was():
    strategy = Averages(fast=5)
    backtester = Backtester(strategy, BARS, mode="python")
    first, second = backtester.run(), backtester.run()
    numpy.testing.assert_array_equal(first.equity, second.equity)
    assert strategy.__dict__.keys() == Averages(fast=5).__dict__.keys()
    assert first.parameters == {"fast": 5, "slow": 8, "amount": 1.0}


def test_a_run_tells_what_it_was_made_of():
    result = run(costs=Costs(slippage="0.0001"), limits=RiskLimits(order_value_max=Decimal(500)))
    told = json.loads(result.to_json())
    assert told["data_hash"] == BARS.data_hash
    assert told["parameters"] == {"fast": 3, "slow": 8, "amount": 1.0}
    assert told["settings"]["costs"]["slippage"] == "0.0001"
    assert told["settings"]["limits"]["order_value_max"] == "500"
    assert told["metrics"]["trades"] == len(result.trades)
    assert {"python", "numpy", "numba"} <= told["versions"].keys()
    assert "BTC/USDT" in result.summary()


def test_fills_at_a_seen_close_are_marked_as_research():
    result = run(fill_at="close")
    assert result.is_research_only
    assert "research" in result.summary()
    assert (result.fills["price"] > 0).all()
    taken = result.fills[result.fills["when"] == tables.AT_CLOSE]
    assert len(taken)
    assert (taken["price"] == BARS.close[taken["bar"]]).all()


@pytest.mark.parametrize("mode", MODES)
def test_progress_is_told_up_to_the_end(mode):
    told = []
    Backtester(Nothing, BARS, mode=mode).run(lambda done, count: told.append((done, count)))
    assert told[-1] == (len(BARS), len(BARS))


@pytest.mark.parametrize("mode", MODES)
def test_a_run_can_be_stopped_from_its_progress(mode):
    def stop(done, count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Backtester(Nothing, BARS, mode=mode).run(stop)


@pytest.mark.parametrize("mode", ["auto", "interpreted", "python"])
def test_a_mistake_in_a_strategy_is_raised_with_its_bar(mode):
    with pytest.raises(InvalidOrderError) as caught:
        run(Broken, mode=mode)
    assert "after bar 20" in caught.value.__notes__[0]
    with pytest.raises(ZeroDivisionError):
        run(Faulty, mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_without_bars_there_is_nothing_to_find(mode):
    result = run(Nothing, BARS[:0], mode=mode)
    assert len(result.equity) == len(result.fills) == 0
    assert result.final_units == result.cash_units
    assert result.metrics["total_return"] == 0


def test_equity_of_who_does_nothing_is_the_cash():
    result = run(Nothing, cash="123.45678901")
    assert set(result.equity.tolist()) == {12_345_678_901}


def test_the_risk_gate_refuses_by_its_rule():
    risk = RiskLimits(price_collar_ratio=Decimal("0.01"), order_value_max=Decimal(40))
    result = run(Limits, limits=risk)
    assert result.refusals().keys() == {"price_collar", "max_order_value"}
    assert len(result.fills) == 0


def test_a_position_may_not_grow_beyond_its_rule():
    result = run(EveryBuy, limits=RiskLimits(position_value_max=Decimal(55)))
    worth = result.fills["held_after"] / 10**8 * result.fills["price"] / 100
    assert 0 < worth.max() <= 55
    assert result.refusals().keys() == {"max_position_value"}


class EveryBuy(Strategy):
    def on_bar(self):
        self.buy(0.1)


def test_funding_and_leverage_reach_the_account():
    times = [60_000 * bar for bar in range(10, 400, 10)]
    funding = Funding(times_ms=times, rates=["0.0001"] * len(times))
    result = run(EveryBuy, market="usdm", leverage=3, funding=funding, cash=1_000)
    assert (result.funding[:, 3] > 0).sum() > 10
    assert not result.fills["fee_in_base"].any()


WRONG = {
    "cash": [0, -1, "x", float("nan"), float("inf"), True, "0.000000001", 10**11],
    "fill_at": ["now"],
    "market": ["margin"],
    "leverage": [2, 0, 126, 1.5, True],
    "mode": ["fast"],
    "funding": [Funding(times_ms=[1], rates=["0.1"])],
    "costs": [0.001],
    "maintenance_rate": [1, -1],
    "limits": [
        RiskLimits(symbols=frozenset({"ETH/USDT"})),
        RiskLimits(price_collar_ratio=Decimal("0.00000001")),
        RiskLimits(order_value_max=Decimal("0.000000001")),
    ],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_settings_that_make_no_sense_are_refused_before_the_run(name, value):
    with pytest.raises(ConfigError):
        Backtester(Nothing, BARS, **{name: value})


@pytest.mark.parametrize(
    "wrong",
    [
        {"maker_fee": -1},
        {"taker_fee": 1},
        {"slippage": "0.0000001"},
        {"slippage_ticks": -1},
        {"through_ticks": 0.5},
        {"volume_share": 2},
        {"fee_in": "base"},
    ],
    ids=str,
)
def test_costs_that_can_not_be_are_refused(wrong):
    with pytest.raises(ConfigError):
        Costs(**wrong)


@pytest.mark.parametrize(
    "funding",
    [
        {"times_ms": [1, 2], "rates": ["0.1"]},
        {"times_ms": [2, 1], "rates": ["0.1", "0.1"]},
        {"times_ms": [1], "rates": [2]},
        {"times_ms": [1], "rates": ["0.1"], "mark_prices": [0]},
    ],
    ids=str,
)
def test_funding_that_can_not_be_is_refused(funding):
    with pytest.raises(ConfigError):
        Backtester(Nothing, BARS, market="usdm", funding=Funding(**funding))


def test_an_unknown_parameter_and_what_is_no_strategy_are_refused():
    with pytest.raises(StrategyError):
        Backtester(Averages, BARS, parameters={"fats": 3})
    with pytest.raises(ConfigError):
        Backtester(object, BARS)
    with pytest.raises(ConfigError):
        Backtester(Averages, [1, 2])


def test_prices_too_large_to_compute_with_are_refused_before_the_run():
    fine = instrument(tick_size=Decimal("0.00000001"))
    price = 10**12
    with pytest.raises(ConfigError, match="coarser tick"):
        Backtester(Nothing, bars_of([(price, price, price, price, 1)] * 2, of=fine))

"""A market order beside which nothing rests takes a shorter way: it must lead to the same."""

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bagbot.tests.trading.some_bars import walk
from bagbot.trading.backtest_settings import Costs
from bagbot.trading.backtester import Backtester
from bagbot.trading.strategy import Strategy


class Chance(Strategy):
    """Market orders by chance; with one far away, none of them is ever alone."""

    seed: int = 0
    far: bool = False

    def prepare(self):
        chance = numpy.random.default_rng(self.seed)
        self.draws = chance.random(len(self.close))

    def on_bar(self):
        if self.far and self.index == 1:
            self.buy(0.00001, limit=0.01)
        if self.draws[-1] < 0.1:
            self.buy(self.draws[-1] * 9)
        elif self.draws[-1] > 0.95:
            self.sell(self.draws[-1] / 3)
        elif self.draws[-1] > 0.93:
            self.close_position()
            self.buy(0.01)
        elif self.draws[-1] > 0.925:
            self.sell(0.01)
            self.buy(0.02)


@pytest.mark.parametrize("mode", ["python", "compiled"])
@given(
    seed=st.integers(0, 10**6),
    fill_at=st.sampled_from(["open", "close"]),
    fee_in=st.sampled_from(["received", "quote"]),
    slippage_ticks=st.integers(0, 5),
)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
def test_a_market_order_alone_fills_as_it_does_beside_others(
    mode, seed, fill_at, fee_in, slippage_ticks
):
    costs = Costs(fee_in=fee_in, slippage_ticks=slippage_ticks, taker_fee=0.00075)

    def run(*, far):
        parameters = {"seed": seed, "far": far}
        given = {"fill_at": fill_at, "costs": costs, "cash": 200_000}
        return Backtester(Chance, walk(600, seed), mode=mode, parameters=parameters, **given).run()

    alone, beside = run(far=False), run(far=True)
    assert len(alone.fills) > 20
    for name in alone.fills.dtype.names:
        # The order far away has a number of its own.
        shift = 1 if name == "order" else 0
        assert (alone.fills[name].astype(int) + shift).tolist() == beside.fills[name].astype(
            int
        ).tolist(), name
    assert (alone.equity == beside.equity).all()
    assert (alone.orders["status"] == beside.orders["status"][1:]).all()
    assert (alone.orders["reason"] == beside.orders["reason"][1:]).all()

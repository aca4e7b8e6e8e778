"""Our backtest makes the trades of three other backtesters, each by its own fill convention.

benchmarks/peer_trades.py ran them, each in its own environment, and recorded their fills of an SMA
crossover (10/50, long only, market orders). Here our Backtester does the same on the same bars.
backtesting.py and backtrader fill at the next open, vectorbt at the close that decided.
"""

import hashlib
import json
from decimal import Decimal
from pathlib import Path

import pytest
import talib

from bagbot.tests.trading.peer_bars import MARKETS, peer_bars, ties, written
from bagbot.trading.backtester import Backtester, Costs
from bagbot.trading.strategy import Strategy

FIGURES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "peer_trades").glob("*.json"))
}
CASES = [
    (peer, market, amount)
    for peer, figures in FIGURES.items()
    for market, recorded in figures["markets"].items()
    for amount in recorded["amounts"]
]


class Crossover(Strategy):
    amount: float = 1.0
    fast: int = 10
    slow: int = 50

    def prepare(self):
        self.fast_mean = talib.SMA(self.close, self.fast)
        self.slow_mean = talib.SMA(self.close, self.slow)

    def on_bar(self):
        is_above = self.fast_mean[-1] > self.slow_mean[-1]
        was_above = self.fast_mean[-2] > self.slow_mean[-2]
        if is_above and not was_above and self.position == 0:
            self.buy(self.amount)
        elif was_above and not is_above and self.position > 0:
            self.close_position()


def backtested(bars, figures, *, amount, fee, mode="interpreted"):
    return Backtester(
        Crossover,
        bars,
        cash=Decimal(figures["cash"]),
        # As the peers do. (On Binance's spot market a buyer pays in what was bought.)
        costs=Costs(maker_fee=fee, taker_fee=fee, fee_in="quote"),
        fill_at={"next open": "open", "same close": "close"}[figures["fills_at"]],
        mode=mode,
        parameters={"amount": float(amount), "fast": figures["fast"], "slow": figures["slow"]},
    ).run()


def fills_of(result, bars):
    tick, lot = bars.instrument.tick_size, bars.instrument.lot_size
    return [
        (
            int(bars.open_time_ms[fill["bar"]]),
            "buy" if fill["is_buy"] else "sell",
            int(fill["lots"]) * lot,
            int(fill["price"]) * tick,
        )
        for fill in result.fills
    ]


def bars_or_skip(market):
    bars = peer_bars(market)
    if bars is None:
        pytest.skip("the shared data is not there")
    return bars


def test_the_figures_are_those_of_three_peers_on_the_same_bars():
    assert set(FIGURES) == {"backtesting", "backtrader", "vectorbt"}
    assert {market for _, market, _ in CASES} == set(MARKETS)
    for market in MARKETS:
        bars = peer_bars(market)
        if bars is not None:
            # Where two means are equal, two right backtesters may cross at different bars.
            assert ties(bars) == 0
            hashes = {figures["markets"][market]["data_hash"] for figures in FIGURES.values()}
            assert hashes == {bars.data_hash}


@pytest.mark.parametrize(("peer", "market", "amount"), CASES)
def test_the_fills_are_the_peers(peer, market, amount):
    bars = bars_or_skip(market)
    recorded = FIGURES[peer]["markets"][market]["amounts"][amount]
    result = backtested(bars, FIGURES[peer], amount=amount, fee=Decimal("0.001"))
    lines = written(fills_of(result, bars))
    shown = len(recorded["first"])
    assert lines[:shown] == recorded["first"]
    assert lines[-shown:] == recorded["last"]
    assert len(lines) == recorded["count"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == recorded["sha256"]


@pytest.mark.parametrize("fee", ["0", "0.001"])
@pytest.mark.parametrize(("peer", "market", "amount"), CASES)
def test_the_final_equity_is_the_peers_but_for_rounded_fees(peer, market, amount, fee):
    """Ours rounds every fee up to 1e-8 of the quote asset, theirs are floats.

    What rounding cost is known to the last digit here: the fees we took less the exact ones, at
    most 1e-8 a fill. Added to our equity it must give theirs, but for what floats lose: they change
    a balance of about a million with each fill, and one such sum is off by at most 2^-33 of 1.
    """
    bars = bars_or_skip(market)
    recorded = FIGURES[peer]["markets"][market]["amounts"][amount]
    result = backtested(bars, FIGURES[peer], amount=amount, fee=Decimal(fee))
    fills = fills_of(result, bars)
    unit = Decimal("1e-8")
    rounded_up = sum(
        int(fill["fee_units"]) * unit - price * quantity * Decimal(fee)
        for fill, (_, _, quantity, price) in zip(result.fills, fills, strict=True)
    )
    assert 0 <= rounded_up < len(fills) * unit
    ours = int(result.equity[-1]) * unit
    theirs = Decimal(recorded["equity"][fee])
    sums_a_fill = 4
    lost_in_floats = len(fills) * sums_a_fill * Decimal(2) ** -33
    assert abs(ours + rounded_up - theirs) <= lost_in_floats
    # The allowance is far below the smallest thing that could be wrong: one fill's fee.
    assert lost_in_floats < Decimal("1e-6")


def test_an_amount_of_one_needs_no_rounding_and_a_small_one_does():
    bars = peer_bars("seeded_walk")
    rounded = {}
    for amount in ("1", "0.0123"):
        result = backtested(bars, FIGURES["backtrader"], amount=amount, fee=Decimal("0.001"))
        rounded[amount] = sum(
            int(fill["fee_units"]) * Decimal("1e-8") != price * quantity * Decimal("0.001")
            for fill, (_, _, quantity, price) in zip(
                result.fills, fills_of(result, bars), strict=True
            )
        )
    assert rounded["1"] == 0
    assert rounded["0.0123"] > 400


@pytest.mark.parametrize("fill_at", ["next open", "same close"])
def test_compiled_and_interpreted_agree_on_these_trades(fill_at):
    bars = peer_bars("seeded_walk")
    figures = next(each for each in FIGURES.values() if each["fills_at"] == fill_at)
    results = [
        backtested(bars, figures, amount="1", fee=Decimal("0.001"), mode=mode)
        for mode in ("interpreted", "compiled")
    ]
    assert results[0].fills.tolist() == results[1].fills.tolist()
    assert results[0].equity.tolist() == results[1].equity.tolist()

"""Our backtest makes the trades of three other backtesters, each by its own fill convention.

benchmarks/peer_trades.py ran them, each in its own environment, and recorded their fills of an SMA
crossover (10/50, long only, market orders). Here our Backtester does the same on the same bars.
backtesting.py and backtrader fill at the next open, vectorbt at the close that decided.
"""

import hashlib
import json
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

import pytest
import talib

from bagbot.tests.trading.peer_bars import MARKETS, peer_bars, ties, written
from bagbot.trading.backtester import Backtester, Costs
from bagbot.trading.strategy import Strategy

CASH = Decimal(1_000_000)
UNIT = Decimal("1e-8")
cached_bars = cache(peer_bars)
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

    def prepare(self):
        self.fast_mean = talib.SMA(self.close, 10)
        self.slow_mean = talib.SMA(self.close, 50)

    def on_bar(self):
        is_above = self.fast_mean[-1] > self.slow_mean[-1]
        was_above = self.fast_mean[-2] > self.slow_mean[-2]
        if is_above and not was_above and self.position == 0:
            self.buy(self.amount)
        elif was_above and not is_above and self.position > 0:
            self.close_position()


@dataclass(frozen=True)
class Ours:
    lines: list[str]
    equity: Decimal
    # By how much more than the exact fees were taken, and from how many fills.
    rounded_up: Decimal
    rounded_fills: int


def backtested(bars, fills_at, amount, fee, mode):
    return Backtester(
        Crossover,
        bars,
        cash=CASH,
        # As the peers do. (On Binance's spot market a buyer pays in what was bought.)
        costs=Costs(maker_fee=fee, taker_fee=fee, fee_in="quote"),
        fill_at={"next open": "open", "same close": "close"}[fills_at],
        mode=mode,
        parameters={"amount": float(amount)},
    ).run()


@cache
def ours(market, fills_at, amount, fee):
    """Return what we trade; kept, because two peers with one convention are held against it."""
    bars = cached_bars(market)
    if bars is None:
        pytest.skip("the shared data is not there")
    result = backtested(bars, fills_at, amount, fee, "interpreted")
    tick, lot = bars.instrument.tick_size, bars.instrument.lot_size
    fills, rounded = [], []
    for fill in result.fills:
        price, quantity = int(fill["price"]) * tick, int(fill["lots"]) * lot
        side = "buy" if fill["is_buy"] else "sell"
        fills.append((int(bars.open_time_ms[fill["bar"]]), side, quantity, price))
        rounded.append(int(fill["fee_units"]) * UNIT - price * quantity * fee)
    equity = int(result.equity[-1]) * UNIT
    return Ours(written(fills), equity, sum(rounded), sum(each != 0 for each in rounded))


def test_the_figures_are_those_of_three_peers_on_the_same_bars():
    assert set(FIGURES) == {"backtesting", "backtrader", "vectorbt"}
    assert {market for _, market, _ in CASES} == set(MARKETS)
    assert {figures["cash"] for figures in FIGURES.values()} == {str(CASH)}
    for market in MARKETS:
        bars = cached_bars(market)
        if bars is not None:
            # Where two means are equal, two right backtesters may cross at different bars.
            assert ties(bars) == 0
            hashes = {figures["markets"][market]["data_hash"] for figures in FIGURES.values()}
            assert hashes == {bars.data_hash}


@pytest.mark.parametrize(("peer", "market", "amount"), CASES)
def test_the_fills_are_the_peers(peer, market, amount):
    figures = FIGURES[peer]
    recorded = figures["markets"][market]["amounts"][amount]
    lines = ours(market, figures["fills_at"], amount, Decimal("0.001")).lines
    shown = len(recorded["first"])
    assert lines[:shown] == recorded["first"]
    assert lines[-shown:] == recorded["last"]
    assert len(lines) == recorded["count"]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == recorded["sha256"]


@pytest.mark.parametrize("fee", ["0", "0.001"])
@pytest.mark.parametrize(("peer", "market", "amount"), CASES)
def test_the_final_equity_is_the_peers_but_for_rounded_fees(peer, market, amount, fee):
    """Ours rounds every fee up to 1e-8 of the quote asset, theirs are floats.

    What rounding cost is known to the last digit here: the fees we took less the exact ones, less
    than 1e-8 a fill. Added to our equity it must give theirs, but for what floats lose: they change
    a balance of about a million a few times with each fill, and one such sum is off by at most
    2^-34 (half of the last place of a number below 2^20).
    """
    figures = FIGURES[peer]
    recorded = figures["markets"][market]["amounts"][amount]
    mine = ours(market, figures["fills_at"], amount, Decimal(fee))
    count = recorded["count"]
    assert 0 <= mine.rounded_up < count * UNIT
    theirs = Decimal(recorded["equity"][fee])
    assert max(theirs, mine.equity) < 2**20
    lost_in_floats = 8 * count * Decimal(2) ** -34
    assert abs(mine.equity + mine.rounded_up - theirs) <= lost_in_floats


def test_an_amount_of_one_needs_no_rounding_and_a_small_one_does():
    """A price of two decimals at 0.1 % is a whole number of 1e-8: there equality is exact."""
    fee = Decimal("0.001")
    assert ours("seeded_walk", "next open", "1", fee).rounded_fills == 0
    small = ours("seeded_walk", "next open", "0.0123", fee)
    assert small.rounded_fills > len(small.lines) * 3 // 4
    # Were it left out above, it would be seen.
    assert small.rounded_up > 2 * 8 * len(small.lines) * Decimal(2) ** -34


@pytest.mark.parametrize("fills_at", ["next open", "same close"])
def test_compiled_and_interpreted_agree_on_these_trades(fills_at):
    bars = cached_bars("seeded_walk")
    results = [
        backtested(bars, fills_at, "1", Decimal("0.001"), mode)
        for mode in ("interpreted", "compiled")
    ]
    assert [result.mode for result in results] == ["interpreted", "compiled"]
    assert results[0].fills.tolist() == results[1].fills.tolist()
    assert results[0].equity.tolist() == results[1].equity.tolist()

"""A run to tell of, made without the engine: an SMA crossover by the rules of fills."""

import types
from decimal import Decimal

import numpy

from bagbot.domain.bars import Bars
from bagbot.domain.fills import MARKET, Scale, scale_of, settle_buy, settle_sell
from bagbot.domain.instrument import Instrument
from bagbot.domain.statistics import round_trips, summarise, years_of
from bagbot.trading.kernel_tables import FILL, FILLED, ORDER

BTCUSDT = Instrument(
    symbol="BTC/USDT",
    exchange_symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    lot_size=Decimal("0.00001"),
)
SCALE: Scale = scale_of(1_000_000, 1_000)
CASH_UNITS = 10_000 * 100_000_000
BEGAN_MS = 1_577_836_800_000  # 2020-01-01
HOUR_MS = 3_600_000


def seeded_bars(count: int, seed: int, *, interval_ms: int = HOUR_MS) -> Bars:
    """Return bars of a random walk around 30,000 USDT."""
    chance = numpy.random.default_rng(seed)
    steps = chance.normal(0.00002, 0.006, count) + 0.0004 * numpy.sin(numpy.arange(count) / 300)
    close = numpy.maximum(1_000, 3_000_000 * numpy.exp(numpy.cumsum(steps))).astype(numpy.int64)
    opened = numpy.append(3_000_000, close[:-1])
    spread = (close * numpy.abs(chance.normal(0, 0.003, count))).astype(numpy.int64)
    return Bars(
        instrument=BTCUSDT,
        interval_ms=interval_ms,
        open_time_ms=BEGAN_MS + interval_ms * numpy.arange(count),
        open=opened,
        high=numpy.maximum(opened, close) + spread,
        low=numpy.maximum(1, numpy.minimum(opened, close) - spread),
        close=close,
        volume=chance.integers(1, 10**7, count),
    )


def run_of(
    bars: Bars, *, fast: int = 20, slow: int = 80, **changed: object
) -> types.SimpleNamespace:
    """Return what a backtest of an SMA crossover with 90 % of the money would, all as taker."""
    fills, equity, quote, base = [], numpy.empty(len(bars), numpy.int64), CASH_UNITS, 0
    sums = numpy.cumsum(bars.close, dtype=numpy.float64)
    longest = max(fast, slow)
    quick, calm = (
        (sums[longest:] - sums[longest - size : len(sums) - size]) / size for size in (fast, slow)
    )
    is_above = numpy.append(numpy.zeros(longest, bool), quick > calm)
    for bar in range(len(bars)):
        price, wants = int(bars.open[bar]), bar > 0 and bool(is_above[bar - 1])
        lots = base // SCALE.lot_units
        moved = None
        if wants and not lots:
            lots = quote * 9 // 10 * SCALE.denominator // (price * SCALE.numerator)
            moved = settle_buy(price, lots, 1_000, SCALE) if lots else None
        elif lots and not wants:
            moved = settle_sell(price, lots, 1_000, SCALE)
        if moved is not None:
            quote, base = quote + moved.quote_units, base + moved.base_units
            fills.append((bar, len(fills) + 1, wants, price, lots, moved.fee_units, wants, quote))
        worth = base * int(bars.close[bar]) * SCALE.numerator // SCALE.denominator
        equity[bar] = quote + worth // SCALE.lot_units
    table = numpy.zeros(len(fills), FILL)
    names = ("bar", "order", "is_buy", "price", "lots", "fee_units", "fee_in_base")
    for column, name in enumerate((*names, "cash_units_after")):
        table[name] = [row[column] for row in fills]
    orders = numpy.zeros(len(fills), ORDER)
    orders["number"], orders["bar"] = table["order"], table["bar"] - 1
    orders["ordered"] = orders["filled"] = table["lots"]
    orders["kind"] = orders["placed_kind"] = MARKET
    orders["is_buy"], orders["status"] = table["is_buy"], FILLED
    years = years_of(bars.open_time_ms, bars.interval_ms)
    result = {
        "strategy": "SmaCross",
        "parameters": {"fast": fast, "slow": slow},
        "bars": bars,
        "settings": {
            "fill_at": "open",
            "cash": "10000",
            "costs": {"maker_fee": "0.001", "taker_fee": "0.001", "slippage_ticks": 0},
        },
        "mode": "compiled",
        "why_not_compiled": "",
        "compile_s": 0.4,
        "run_s": 0.003,
        "orders": orders,
        "fills": table,
        "trades": round_trips(table, SCALE),
        "equity": equity,
        "cash_units": CASH_UNITS,
        "metrics": summarise(equity, CASH_UNITS, years, table, SCALE)._asdict(),
        "data_hash": bars.data_hash,
        "versions": {"bagbot": "0.1.0", "numba": "0.68.1", "python": "3.11"},
    }
    return types.SimpleNamespace(**{**result, **changed})

"""A run to tell of, made without the engine: an SMA crossover by the rules of fills."""

from decimal import Decimal
from typing import Any

import numpy

from bagbot.domain.bars import Bars
from bagbot.domain.fills import (
    GOOD_TILL_CANCELLED,
    MARKET,
    Scale,
    scale_of,
    settle_buy,
    settle_sell,
)
from bagbot.domain.instrument import Instrument
from bagbot.trading.backtest_result import BacktestResult
from bagbot.trading.backtest_settings import BacktestSettings
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
    bars: Bars,
    *,
    fast: int = 20,
    slow: int = 80,
    settings: BacktestSettings | None = None,
    **changed: Any,
) -> BacktestResult:
    """Return what a backtest of an SMA crossover with 90 % of the money would, all as taker."""
    settings = settings or BacktestSettings()
    fills, equity, quote, base = [], numpy.empty(len(bars), numpy.int64), settings.cash_units, 0
    is_above = _is_above(bars, fast, slow)
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
    result: dict[str, Any] = {
        "strategy": "SmaCross",
        "parameters": {"fast": fast, "slow": slow},
        "mode": "python",
        "why_not_compiled": "",
        "compile_s": 0.4,
        "run_s": 0.003,
        "placed": _placed_for(table),
        "funding": numpy.zeros((0, 4), numpy.int64),
    }
    made = {"bars": bars, "settings": settings, "fills": table, "equity": equity, "scale": SCALE}
    return BacktestResult(**{**result, **made, **changed})


def _is_above(bars: Bars, fast: int, slow: int) -> numpy.ndarray:
    sums, longest = numpy.cumsum(bars.close, dtype=numpy.float64), max(fast, slow)
    quick, calm = (
        (sums[longest:] - sums[longest - size : len(sums) - size]) / size for size in (fast, slow)
    )
    return numpy.append(numpy.zeros(longest, bool), quick > calm)


def _placed_for(fills: numpy.ndarray) -> numpy.ndarray:
    orders = numpy.zeros(len(fills), ORDER)
    orders["number"], orders["bar"] = fills["order"], fills["bar"] - 1
    orders["ordered"] = orders["filled"] = fills["lots"]
    orders["placed_kind"], orders["time_in_force"] = MARKET, GOOD_TILL_CANCELLED
    orders["is_buy"], orders["status"] = fills["is_buy"], FILLED
    return orders

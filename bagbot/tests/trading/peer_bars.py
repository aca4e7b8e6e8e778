"""The bars on which other backtesters' trades were recorded (peer_trades/*.json).

Two are real, and are there only where the shared data is; the third is made here from a seed, by
whole numbers, so that it is the same on every machine.
"""

import os
import random
from decimal import Decimal
from pathlib import Path

import numpy
import polars

from bagbot.domain.bars import Bars
from bagbot.domain.instrument import Instrument

PROJECT = Path(__file__).parents[3]
DATA = Path(os.environ.get("BAGBOT_TEST_DATA", PROJECT.parent / "shared" / "data"))
SEED = 20_261_123
COLUMNS = ("open", "high", "low", "close")
MARKETS = ("btcusdt_1h_2017_2024", "ethusdt_15m_2025_2026", "seeded_walk")


def peer_bars(market: str) -> Bars | None:
    """Return the bars of one of MARKETS, or None where its file is not."""
    if market == "seeded_walk":
        return seeded_walk()
    base, name, lot_size, interval_ms = {
        "btcusdt_1h_2017_2024": (
            "BTC",
            "binance_spot_btcusdt_1h_2017_2024.parquet",
            "0.00001",
            3_600_000,
        ),
        "ethusdt_15m_2025_2026": ("ETH", "binance_spot_15m_5sym.parquet", "0.0001", 900_000),
    }[market]
    if not (DATA / name).is_file():
        return None
    frame = polars.read_parquet(DATA / name)
    if "symbol" in frame.columns:
        frame = frame.filter(polars.col("symbol") == f"{base}USDT")
    ticks = {column: whole(frame[column].to_numpy() * 100) for column in COLUMNS}
    lots = numpy.floor(frame["volume"].to_numpy() / float(lot_size)).astype(numpy.int64)
    return Bars(
        instrument=instrument(base, lot_size),
        interval_ms=interval_ms,
        open_time_ms=frame["open_time"].to_numpy(),
        volume=lots,
        **ticks,
    )


def seeded_walk(count: int = 20_000) -> Bars:
    """Return a walk around 50,000.00 in one-minute bars whose opens differ from the closes."""
    draw = random.Random(SEED)
    columns: dict[str, list[int]] = {name: [] for name in COLUMNS}
    close = 5_000_000
    for _ in range(count):
        opened = close + int(draw.random() * 2_001) - 1_000
        close = opened + int(draw.random() * 10_001) - 5_000
        columns["open"].append(opened)
        columns["high"].append(max(opened, close) + int(draw.random() * 3_000))
        columns["low"].append(min(opened, close) - int(draw.random() * 3_000))
        columns["close"].append(close)
    return Bars(
        instrument=instrument("BTC", "0.00001"),
        interval_ms=60_000,
        open_time_ms=1_767_225_600_000 + 60_000 * numpy.arange(count, dtype=numpy.int64),
        volume=numpy.full(count, 1_000_000, dtype=numpy.int64),
        **{name: numpy.array(column, dtype=numpy.int64) for name, column in columns.items()},
    )


def instrument(base: str, lot_size: str) -> Instrument:
    """Return a market with a tick of 0.01 and no filters."""
    return Instrument(
        symbol=f"{base}/USDT",
        exchange_symbol=f"{base}USDT",
        base=base,
        quote="USDT",
        tick_size=Decimal("0.01"),
        lot_size=Decimal(lot_size),
    )


def whole(values: numpy.ndarray) -> numpy.ndarray:
    nearest = numpy.rint(values)
    assert numpy.abs(values - nearest).max() < 1e-6
    return nearest.astype(numpy.int64)


def ties(bars: Bars, fast: int = 10, slow: int = 50) -> int:
    """Return at how many bars the two means are equal: there backtesters may differ by rounding."""
    sums = numpy.concatenate([[0], numpy.cumsum(bars.close)])
    fast_sums = (sums[fast:] - sums[:-fast])[slow - fast :]
    slow_sums = sums[slow:] - sums[:-slow]
    return int((fast_sums * slow == slow_sums * fast).sum())


def written(fills: list[tuple[int, str, Decimal, Decimal]]) -> list[str]:
    """Return fills (time in ms, side, amount, price) in the one spelling that is compared."""
    return [
        f"{time_ms} {side} {amount.normalize():f} {price:.2f}"
        for time_ms, side, amount, price in fills
    ]

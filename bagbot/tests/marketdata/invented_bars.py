"""Bars that a seed invents, as decimals and as files."""

import random
from decimal import Decimal
from pathlib import Path

import polars

from bagbot.domain.ohlcv import Ohlcv
from bagbot.marketdata.recorded_bars import RecordedBars

MINUTE_MS = 60_000
START_MS = 1_704_067_200_000  # 2024-01-01, UTC.


def invented_bars(
    count: int, *, seed: int = 7, step_ms: int = MINUTE_MS, start_ms: int = START_MS
) -> list[Ohlcv]:
    """Return a walk on a tick of 0.01 with volumes of five decimals."""
    chance = random.Random(seed)
    rows, price = [], 4_000_000
    for index in range(count):
        close = price + chance.randint(-3000, 3000)
        cents = [price, max(price, close) + chance.randint(0, 900), 0, close]
        cents[2] = min(price, close) - chance.randint(0, 900)
        open_, high, low, last = (Decimal(ticks).scaleb(-2) for ticks in cents)
        rows.append(
            Ohlcv(
                open_time_ms=start_ms + index * step_ms,
                open=open_,
                high=high,
                low=low,
                close=last,
                volume=Decimal(chance.randint(0, 10**7)).scaleb(-5),
            )
        )
        price = close
    return rows


def record_of(rows: list[Ohlcv]) -> RecordedBars:
    return RecordedBars.from_ohlcv(rows)


def frame_of(rows: list[Ohlcv]) -> polars.DataFrame:
    """Return the bars as most files have them: numbers as floats."""
    return polars.DataFrame(
        {
            "open_time": [row.open_time_ms for row in rows],
            **{
                name: [float(getattr(row, name)) for row in rows]
                for name in ("open", "high", "low", "close", "volume")
            },
        }
    )


def write_csv(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def csv_lines(rows: list[Ohlcv], header: str = "open_time,open,high,low,close,volume") -> list[str]:
    return [
        header,
        *(f"{r.open_time_ms},{r.open},{r.high},{r.low},{r.close},{r.volume}" for r in rows),
    ]

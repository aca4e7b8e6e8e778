"""Equity curves, and what empyrical-reloaded says of them: run as a program it writes the figures.

    python3 -m venv /tmp/empyrical
    /tmp/empyrical/bin/pip install empyrical-reloaded==0.7.1
    /tmp/empyrical/bin/python empyrical_figures.py

Only that environment has the library; the tests read empyrical_figures.json beside this file. The
curves are made here by seed, so that both sides have the same to the last unit; those of real bars
are made when the data is beside the project, and are told apart by the hash of their equity.
"""

import datetime
import hashlib
import json
import random
import sys
from pathlib import Path

START = 1_000_000_000_000
DAY_MS = 86_400_000
FIGURES = Path(__file__).with_suffix(".json")
BEGIN_MS = 1_609_459_200_000
"""The first of January 2021, UTC."""


def seeded(name: str, seed: int, bars: int, interval_ms: int, draw) -> dict:
    chance = random.Random(seed)
    equity, now = [], START
    for _ in range(bars):
        now = max(1, round(now * (1 + draw(chance))))
        equity.append(now)
    times = [BEGIN_MS + bar * interval_ms for bar in range(bars)]
    return {"name": name, "interval_ms": interval_ms, "times": times, "equity": equity}


def fat_tailed(chance: random.Random) -> float:
    return max(-0.5, 0.002 * chance.gauss(0, 1) / max(abs(chance.gauss(0, 1)), 0.05))


def rarely_in_the_market(chance: random.Random) -> float:
    return chance.gauss(0.0005, 0.01) if chance.random() < 0.05 else 0.0


def curves() -> list[dict]:
    return [
        seeded("daily, steady", 1, 1_500, DAY_MS, lambda chance: chance.gauss(0.0006, 0.02)),
        seeded("daily, falling", 2, 900, DAY_MS, lambda chance: chance.gauss(-0.002, 0.03)),
        seeded("hourly, fat tails", 3, 20_000, DAY_MS // 24, fat_tailed),
        seeded("minutes, mostly flat", 4, 50_000, 60_000, rarely_in_the_market),
        seeded("five days", 5, 5, DAY_MS, lambda chance: chance.gauss(0, 0.02)),
        seeded("only gains", 6, 200, DAY_MS, lambda chance: 0.001 + 0.01 * chance.random()),
    ]


def real_curves(directory: Path) -> list[dict]:
    """Return buy-and-hold of real closes, or nothing where the data is not at hand.

    The missing hours of the long file are left out of the curve's time, because the library knows
    no time: one row is one period.
    """
    import polars

    found = []
    for file, symbol, interval_ms in (
        ("binance_spot_1d_5sym.parquet", "BTCUSDT", DAY_MS),
        ("binance_spot_1h_5sym.parquet", "ETHUSDT", DAY_MS // 24),
        ("binance_spot_btcusdt_1h_2017_2024.parquet", None, DAY_MS // 24),
    ):
        if not (directory / file).exists():
            continue
        frame = polars.read_parquet(directory / file)
        if symbol is not None:
            names = [s for s in frame["symbol"].unique() if s.replace("/", "") == symbol]
            frame = frame.filter(polars.col("symbol") == names[0])
        closes = [round(close * 100_000_000) for close in frame["close"].to_list()]
        equity = [START * close // closes[0] for close in closes]
        times = [BEGIN_MS + bar * interval_ms for bar in range(len(equity))]
        found.append({"name": file, "interval_ms": interval_ms, "times": times, "equity": equity})
    return found


def hash_of(equity: list[int]) -> str:
    return hashlib.sha256(",".join(map(str, equity)).encode()).hexdigest()


def figures_of(curve: dict) -> dict:
    import empyrical
    import pandas

    before = [START, *curve["equity"][:-1]]
    returns = pandas.Series(
        [now / then - 1 for now, then in zip(curve["equity"], before, strict=True)],
        index=pandas.to_datetime(curve["times"], unit="ms", utc=True),
    )
    a_year = 365 * DAY_MS / curve["interval_ms"]
    free = 0.05 / a_year
    monthly = empyrical.aggregate_returns(returns, "monthly")
    return {
        "name": curve["name"],
        "equity_sha256": hash_of(curve["equity"]),
        "total_return": empyrical.cum_returns_final(returns),
        "cagr": empyrical.cagr(returns, annualization=a_year),
        "volatility": empyrical.annual_volatility(returns, annualization=a_year),
        "sharpe": empyrical.sharpe_ratio(returns, annualization=a_year),
        "sharpe_5_percent": empyrical.sharpe_ratio(returns, free, annualization=a_year),
        "sortino": empyrical.sortino_ratio(returns, annualization=a_year),
        "calmar": empyrical.calmar_ratio(returns, annualization=a_year),
        "max_drawdown": empyrical.max_drawdown(returns),
        "monthly": [value for _, value in monthly.items()],
    }


if __name__ == "__main__":
    import empyrical

    data = Path(__file__).parents[4] / "shared" / "data"
    if len(sys.argv) > 1:
        data = Path(sys.argv[1])
    made = f"empyrical-reloaded {empyrical.__version__}, {datetime.datetime.now(datetime.UTC):%F}"
    lines = [json.dumps(figures_of(curve)) for curve in curves() + real_curves(data)]
    FIGURES.write_text(f'{{"made_by": "{made}", "curves": [\n' + ",\n".join(lines) + "\n]}\n")

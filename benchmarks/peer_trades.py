"""Record what other backtesters trade, for bagbot/tests/trading/test_peers_agree.py.

An SMA crossover (10/50, long only, one unit, market orders) on the bars of peer_bars.py, each peer
under its own Python in the folder of environments (benchmarks/README.md says how they are made).
Each writes its fills with a fee of nothing and of 0.1 %; the fills have to be the same, the final
equity is recorded for both. What is committed are figures: the count of the fills, the hash of all
of them, the first and last twenty, and the equities.

    python benchmarks/peer_trades.py --peers FOLDER
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

import numpy

from bagbot.domain.bars import Bars
from bagbot.tests.trading.peer_bars import COLUMNS, MARKETS, SEED, peer_bars, ties, written

HERE = Path(__file__).parent
FIGURES = HERE.parent / "bagbot" / "tests" / "trading" / "peer_trades"
PEERS = ("backtesting", "backtrader", "vectorbt")
FEES = ("0", "0.001")
CASH = "1000000"
SHOWN = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", type=Path, required=True, help="the folder of environments")
    peers = parser.parse_args().peers
    FIGURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bagbot-peers-") as folder:
        files = {market: saved(market, Path(folder)) for market in MARKETS}
        for peer in PEERS:
            figures = {market: recorded(peers, peer, *files[market]) for market in MARKETS}
            report = {market: figure for market, (figure, _) in figures.items()}
            one = next(about for _, about in figures.values())
            about = {key: one[key] for key in ("peer", "version", "fills_at")}
            about |= {"fast": 10, "slow": 50, "amount": "1", "cash": CASH, "seed": SEED}
            path = FIGURES / f"{peer}.json"
            path.write_text(json.dumps(about | {"markets": report}, indent=1) + "\n")
            print(path.name, {market: figure["count"] for market, figure in report.items()})


def saved(market: str, folder: Path) -> tuple[Bars, Path]:
    """Return a market's bars, and the file of them that a peer reads."""
    bars = peer_bars(market)
    if bars is None:
        sys.exit(f"the file of {market} is not there")
    # Not a tie anywhere: with one, two right backtesters could cross at different bars.
    assert ties(bars) == 0, market
    path = folder / f"{market}.npz"
    prices = {name: getattr(bars, name) / 100 for name in COLUMNS}
    volume = bars.volume * float(bars.instrument.lot_size)
    numpy.savez(path, open_time_ms=bars.open_time_ms, volume=volume, **prices)
    return bars, path


def recorded(
    peers: Path, peer: str, bars: Bars, path: Path
) -> tuple[dict[str, object], dict[str, str]]:
    by_fee = [ran(peers, peer, path, fee) for fee in FEES]
    lines = by_fee[0][0]
    assert all(other == lines for other, _ in by_fee), f"{peer}: the fee changes the fills"
    figure: dict[str, object] = {
        "data_hash": bars.data_hash,
        "count": len(lines),
        "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "first": lines[:SHOWN],
        "last": lines[-SHOWN:],
        "equity": {fee: about["equity"] for fee, (_, about) in zip(FEES, by_fee, strict=True)},
    }
    return figure, by_fee[0][1]


def ran(peers: Path, peer: str, path: Path, fee: str) -> tuple[list[str], dict[str, str]]:
    """Return a peer's fills, and what it says of the run, its numbers as they were written."""
    script = HERE / "peers" / f"with_{peer}.py"
    command = [peers / peer / "bin" / "python", script, "sma", path, "--fills", "--fee", fee]
    command += ["--cash", CASH]
    output = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ).stdout
    *fills, about = (json.loads(line, parse_float=str) for line in output.splitlines())
    return written([fill_of(each) for each in fills]), about


def fill_of(each: dict[str, str]) -> tuple[int, str, Decimal, Decimal]:
    price = Decimal(each["price"])
    assert abs(price - round(price, 2)) < Decimal("1e-6"), each
    return int(each["time_ms"]), each["side"], Decimal(each["amount"]), round(price, 2)


if __name__ == "__main__":
    main()

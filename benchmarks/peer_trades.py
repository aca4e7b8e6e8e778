"""Record what other backtesters trade, for bagbot/tests/trading/test_peers_agree.py.

An SMA crossover (10/50, long only, market orders) on the bars of peer_bars.py, each peer under its
own Python in the folder of environments (benchmarks/README.md says how they are made): with an
amount of 1, and with one at which a fee is no whole number of 1e-8 (backtesting.py trades whole
units only). Each writes its fills with a fee of nothing and of 0.1 %; the fills have to be the
same, the final equity is recorded for both. What is committed are figures: the count of the fills,
the hash of all of them, the first and last ten, and the equities.

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
AMOUNTS = {
    "backtesting": ("1",),
    "backtrader": ("1", "0.0123"),
    "vectorbt": ("1", "0.0123"),
}
FEES = ("0", "0.001")
CASH = "1000000"
SHOWN = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", type=Path, required=True, help="the folder of environments")
    peers = parser.parse_args().peers
    FIGURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bagbot-peers-") as folder:
        files = {market: saved(market, Path(folder)) for market in MARKETS}
        for peer, amounts in AMOUNTS.items():
            markets, about = {}, {}
            for market, (bars, path) in files.items():
                runs = {}
                for amount in amounts:
                    runs[amount], about = recorded(peers, peer, path, amount)
                markets[market] = {"data_hash": bars.data_hash, "amounts": runs}
            written_down = {key: about[key] for key in ("peer", "version", "fills_at")}
            written_down |= {"fast": 10, "slow": 50, "cash": CASH, "seed": SEED}
            path = FIGURES / f"{peer}.json"
            path.write_text(json.dumps(written_down | {"markets": markets}, indent=1) + "\n")
            print(path.name)


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
    peers: Path, peer: str, path: Path, amount: str
) -> tuple[dict[str, object], dict[str, str]]:
    """Return the figures of one peer on one market, and what it says of the run."""
    by_fee = [ran(peers, peer, path, amount, fee) for fee in FEES]
    lines, about = by_fee[0]
    assert all(other == lines for other, _ in by_fee), f"{peer}: the fee changes the fills"
    figures: dict[str, object] = {
        "count": len(lines),
        "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "first": lines[:SHOWN],
        "last": lines[-SHOWN:],
        "equity": {fee: about["equity"] for fee, (_, about) in zip(FEES, by_fee, strict=True)},
    }
    return figures, about


def ran(
    peers: Path, peer: str, path: Path, amount: str, fee: str
) -> tuple[list[str], dict[str, str]]:
    """Return a peer's fills, and what it says of the run, its numbers as they were written."""
    script = HERE / "peers" / f"with_{peer}.py"
    command = [peers / peer / "bin" / "python", script, "sma", path, "--fills", "--fee", fee]
    command += ["--cash", CASH, "--amount", amount]
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

"""`bagbot exchange` with its files of symbols and conditions, and with each kind of market."""

import json
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

FILE = """
symbols = ["BTCUSDT", "XRPETH"]

[[symbol]]
base = "SOL"
quote = "EUR"
tick = "0.01"
lot = "0.01"
start_price = 150
level_quantity = 20

[[market]]
symbol = "SOLEUR"
kind = "thin"
for_s = 3600
spread_ticks = 501

[[market]]
symbol = "BTCUSDT"
kind = "gap"
percent = -50
after_s = 3600
"""


@contextmanager
def exchange(*arguments):
    command = [sys.executable, "-m", "bagbot", "exchange", "--port=0", "--until-stdin-ends"]
    keys = ["--api-key=K", "--api-secret=S"]
    with subprocess.Popen(
        [*command, *keys, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.stdin.close()
            assert process.wait(timeout=20) == 0


def get(address):
    with urllib.request.urlopen(address, timeout=20) as answer:
        return json.load(answer)


def test_one_file_sets_the_symbols_and_what_their_markets_do(tmp_path):
    path = tmp_path / "exchange.toml"
    path.write_text(FILE)
    with exchange("--symbols", str(path), "--market", str(path)) as url:
        info = get(f"{url}/api/v3/exchangeInfo")
        assert [row["symbol"] for row in info["symbols"]] == ["BTCUSDT", "XRPETH", "SOLEUR"]
        top = get(f"{url}/api/v3/ticker/bookTicker?symbol=SOLEUR")
        assert round(float(top["askPrice"]) - float(top["bidPrice"]), 2) == 5.01
        market = get(f"{url}/admin/market")
        assert market["XRPETH"]["conditions"] == []
        (gap,) = market["BTCUSDT"]["conditions"]
        assert (gap["kind"], gap["percent"]) == ("gap", "-50")


def test_a_tape_is_played_and_another_process_follows_it_live(tmp_path):
    path = tmp_path / "trades.csv"
    rows = "".join(f"{1_700_000_000_000 + 200 * n},0.0007,{n + 1},True\n" for n in range(200))
    path.write_text(f"time,price,qty,isBuyerMaker\n{rows}")
    symbols = tmp_path / "symbols.toml"
    symbols.write_text('symbols = ["XRPETH"]')
    served = ["--symbols", str(symbols), "--symbol", "XRPETH"]
    with exchange("--trades", str(path), *served) as real:
        assert get(f"{real}/admin/market")["XRPETH"]["source"] == "trades"
        with exchange("--live", "binance", "--live-url", real, *served) as paper:
            market = get(f"{paper}/admin/market")["XRPETH"]
            assert (market["source"], market["price"]) == ("live", "0.00070000")
            top = get(f"{paper}/api/v3/ticker/bookTicker?symbol=XRPETH")
            assert (top["bidPrice"], top["askPrice"]) == ("0.00069990", "0.00070010")

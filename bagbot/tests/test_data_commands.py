"""`bagbot data` as a person uses it: what is printed, and with which exit code."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from bagbot.cli import main
from bagbot.tests.marketdata.invented_bars import csv_lines, frame_of, invented_bars, write_csv

Run = Callable[..., tuple[int, str, str]]
ROWS = invented_bars(120)


@pytest.fixture
def bagbot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    for name in list(os.environ):
        if name.startswith(("BINANCE_", "BAGBOT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BAGBOT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["bagbot", "data", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    yield run
    # A download says where its log goes, for the whole process.
    structlog.reset_defaults()


def test_a_file_is_imported_listed_and_checked(bagbot: Run, tmp_path: Path) -> None:
    code, out, _ = bagbot("list")
    assert code == 0
    assert "no bars yet" in out
    write_csv(tmp_path / "bars.csv", csv_lines(ROWS[:100]))
    code, out, error = bagbot("import", "bars.csv", "--symbol", "BTC/USDT")
    assert code == 0, error
    assert out.splitlines()[0].startswith("100 bars of 1m from 2024-01-01 00:00 UTC")
    assert "100 bars added" in out
    frame_of(ROWS[80:]).write_parquet(tmp_path / "more.parquet")
    code, out, _ = bagbot("import", "more.parquet", "--symbol", "BTC/USDT")
    assert "20 bars added" in out
    assert "20 known before, 0 replaced" in out
    code, out, _ = bagbot("list")
    shown = "imported BTC/USDT 1m 120 bars 2024-01-01 00:00 to 2024-01-01 01:59"
    assert " ".join(out.split()) == shown
    code, out, _ = bagbot("list", "--json")
    (row,) = json.loads(out)
    assert (row["bars"], row["timeframe"]) == (120, "1m")
    code, out, _ = bagbot("check", "--symbol", "BTC/USDT", "--timeframe", "1m", "--json")
    assert (code, json.loads(out)["missing"]) == (0, 0)


def test_a_check_says_what_is_wrong_and_fails(bagbot: Run, tmp_path: Path) -> None:
    lines = csv_lines(ROWS)
    lines.insert(10, lines[10])
    write_csv(tmp_path / "bars.csv", lines)
    code, out, error = bagbot("check", "bars.csv")
    assert code == 1
    assert "1 bar with the time of another: unusable" in out
    assert error.splitlines() == [
        "bagbot: bars.csv: line 12, time: 2024-01-01 00:09:00 UTC is the time of the row before"
    ]
    code, out, error = bagbot("import", "bars.csv", "--symbol", "BTC/USDT")
    assert (code, out) == (1, "")
    assert "line 12, time" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["import", "nowhere.csv", "--symbol", "X/Y"], "there is no such file"),
        (["check"], "name a file, or --symbol and --timeframe"),
        (["check", "--symbol", "X/Y", "--timeframe", "1m"], "it is empty: see bagbot data downl"),
        (["download", "BTC/USDT", "--since", "last week"], "'last week' is no time"),
        (["import", "x.csv", "--symbol", "X/Y", "--tick", "0"], "'0' is no tick, as 0.01 is"),
        (["download", "BTC/USDT", "--timeframe", "1x"], "'1x' is no timeframe"),
        (["download", "BTC/USDT", "--exchange", "mtgox"], "knows no exchange 'mtgox'"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    bagbot: Run, words: list[str], message: str
) -> None:
    code, _, error = bagbot(*words)
    assert code == 1
    assert message in error
    assert len(error.splitlines()) == 1


def test_an_exchange_that_cannot_be_reached_is_told_in_one_line(bagbot: Run) -> None:
    code, _, error = bagbot("download", "BTC/USDT", "--base-url", "http://127.0.0.1:9")
    assert code == 1
    assert error.splitlines()[-1].startswith("bagbot: binance spot at 127.0.0.1:9: load the symb")

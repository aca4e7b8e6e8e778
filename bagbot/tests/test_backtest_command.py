"""`bagbot backtest`, `check` and `warmup` as a user meets them."""

import json
import re
from pathlib import Path

import polars
import pytest
from typer.testing import CliRunner

from bagbot.cli import app
from bagbot.domain.errors import BagbotError, ConfigError, DataError, StrategyError
from bagbot.tests.trading.some_bars import walk

STRATEGY = """\
import numpy
from bagbot import Strategy

class Above(Strategy):
    length: int = 5
    size: float = 0.01

    def prepare(self):
        self.mean = numpy.convolve(self.close, numpy.ones(self.length) / self.length)
        self.mean = self.mean[: len(self.close)].copy()
        self.mean[: self.length] = numpy.nan

    def on_bar(self):
        if self.close[-1] > self.mean[-1] and self.position == 0:
            self.buy(self.size)
        elif self.close[-1] < self.mean[-1] and self.position > 0:
            self.close_position()
"""


@pytest.fixture
def data(tmp_path) -> Path:
    bars = walk(300, 7)
    path = tmp_path / "bars.csv"
    polars.DataFrame(
        {
            "open_time": bars.open_time_ms,
            **{name: getattr(bars, name) / 100 for name in ("open", "high", "low", "close")},
            "volume": bars.volume / 100_000,
        }
    ).write_csv(path)
    return path


@pytest.fixture
def strategy(tmp_path) -> Path:
    path = tmp_path / "above.py"
    path.write_text(STRATEGY)
    return path


def told(*arguments: object) -> str:
    """Return what a command prints. Raises what it raises."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_backtest_tells_its_story_and_writes_its_report(strategy, data, tmp_path):
    page = tmp_path / "out.html"
    output = told(
        *("backtest", strategy, "--data", data, "--param", "length=8", "--report", page),
        *("--cash", "25000", "--taker-fee", "0.0005", "--mode", "python"),
    )
    assert "Above" in output
    assert "length=8" in output
    assert "25,000.00" in output
    assert str(page) in output.replace("\n", "")
    assert page.read_text().startswith("<!doctype html>")


def test_json_is_all_there_is_on_standard_output(strategy, data):
    output = told(
        *("backtest", f"{strategy}:Above", "--data", data, "--json", "--mode", "python"),
        *("--since", "2020-09-13", "--until", "2020-09-14", "--no-check"),
    )
    run = json.loads(output)
    assert run["strategy"] == "Above"
    assert run["parameters"] == {"length": 5, "size": 0.01}


def test_a_look_ahead_is_a_caution_of_the_run_and_fails_the_check(strategy, data):
    peeks = STRATEGY.replace(
        "self.mean[: self.length] = numpy.nan", "self.mean[:-1] = self.mean[1:]"
    )
    strategy.write_text(peeks)
    output = told("backtest", strategy, "--data", data, "--mode", "python")
    assert "LOOK-AHEAD" in output
    checked = CliRunner().invoke(app, ["check", str(strategy), "--data", str(data)])
    assert checked.exit_code == 1
    assert "self.mean at bar" in checked.output
    assert f"{strategy}:9" in checked.output


def test_an_honest_strategy_passes_the_check(strategy, data):
    output = told("check", strategy, "--data", data, "--cuts", 5, "--replays", 2)
    assert "300 bars of 1m" in output
    assert "no look-ahead found (cut after 5 bars, played again 2 times)" in output


@pytest.mark.parametrize(
    ("line", "wrong", "message"),
    [
        ("self.buy(self.size)", "self.buy(1 / 0)", r"above\.py:15: ZeroDivisionError: division"),
        ("self.buy(self.size)", "self.by(1)", r"above\.py:15: AttributeError: self\.by is not set"),
        ("self.buy(self.size)", "self.buy(-1.0)", r"above\.py:15: amount is -1\.0: .*bar \d+"),
        ("self.close[-1] > self", "self.clos[-1] > self", r"above\.py:14: .*did you mean self\.cl"),
        ("self.length] = numpy.nan", "self.x] = numpy.nan", r"above\.py:11: AttributeError"),
        ("length: int = 5", "length: int = 5.5", r"length is int, not 5\.5 \(.*above\.py:5\)"),
        ("import numpy", "import nunpy", r"above\.py:1: ModuleNotFoundError"),
        ("def on_bar(self):", "def on_bar(self)", r"above\.py:13: expected ':'"),
        ("class Above(Strategy):", "class Above:", r"0 strategies \(none\)"),
    ],
)
def test_a_mistake_in_a_strategy_names_file_and_line(strategy, data, line, wrong, message):
    assert line in STRATEGY
    strategy.write_text(STRATEGY.replace(line, wrong))
    with pytest.raises(StrategyError) as refused:
        told("backtest", strategy, "--data", data, "--mode", "python")
    assert re.search(message, str(refused.value)), str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("nothing.py",), StrategyError, "there is no file nothing.py"),
        (("trnd",), StrategyError, "there is no strategy trnd; did you mean trend?"),
        (("STRATEGY:Abov",), StrategyError, "no strategy Abov; did you mean Above?"),
        (("STRATEGY", "--param", "lenght=3"), StrategyError, "did you mean length?"),
        (("STRATEGY", "--param", "length=x"), StrategyError, "length is int, not x"),
        (("STRATEGY", "--param", "size=nan"), StrategyError, "size is float, not nan"),
        (("STRATEGY", "--cash", "much"), ConfigError, "--cash much is no amount"),
        (("STRATEGY", "--cash", "-5"), ConfigError, "cash"),
        (("STRATEGY", "--taker-fee", "2"), ConfigError, "taker_fee"),
        (("STRATEGY", "--leverage", "3"), ConfigError, "usdm"),
        (("STRATEGY", "--since", "soon"), DataError, "'soon' is no time"),
        (("STRATEGY", "--since", "2030-01-01"), DataError, "there are no bars in that time"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(strategy, data, arguments, error, message):
    given = [each.replace("STRATEGY", str(strategy)) for each in arguments]
    with pytest.raises(error) as refused:
        told("backtest", *given, "--data", data)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_bars_come_from_a_file_or_the_catalogue(strategy, monkeypatch, tmp_path):
    monkeypatch.setenv("BAGBOT_HOME", str(tmp_path / "home"))
    with pytest.raises(DataError, match="name a file with --data, or --symbol"):
        told("backtest", strategy)
    with pytest.raises(BagbotError, match="it is empty"):
        told("backtest", strategy, "--symbol", "BTC/USDT", "--timeframe", "1h")


def test_warming_up_says_what_each_strategy_took(strategy):
    lines = told("warmup", strategy).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["mean_reversion", "perpetual", "trend"]
    assert lines[3].startswith(str(strategy))
    assert lines[4].startswith("in all")

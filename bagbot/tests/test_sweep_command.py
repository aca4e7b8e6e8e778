import math

import polars
import pytest
from typer.testing import CliRunner

from bagbot.cli import app
from bagbot.cli_sweep import grid_from, values_of, where_from
from bagbot.domain.errors import BagbotError, ConfigError
from bagbot.tests.trading.some_bars import walk
from bagbot.trading.strategy import Parameter, Strategy

INT = Parameter("fast", int, 10)
FLOAT = Parameter("size", float, 1.0)
BOOL = Parameter("shorts", bool, False)


class Tuned(Strategy):
    fast: int = 10
    slow: int = 50
    size: float = 1.0
    shorts: bool = False


@pytest.fixture
def data(tmp_path):
    bars = walk(2_000, 3)
    path = tmp_path / "bars.csv"
    columns = {name: getattr(bars, name) / 100 for name in ("open", "high", "low", "close")}
    times = {"open_time": bars.open_time_ms}
    polars.DataFrame({**times, **columns, "volume": bars.volume / 1000}).write_csv(path)
    return path


def swept(*words: object):
    return CliRunner().invoke(app, ["sweep", *map(str, words)])


@pytest.mark.parametrize(
    ("text", "parameter", "values"),
    [
        ("5:9", INT, [5, 6, 7, 8]),
        ("60:70:4", INT, [60, 64, 68]),
        ("7", INT, [7]),
        ("5, 6,9", INT, [5, 6, 9]),
        ("0.1:0.4:0.1", FLOAT, [0.1, 0.2, 0.3]),
        ("0:1:0.3", FLOAT, [0.0, 0.3, 0.6, 0.9]),
        ("1:3", FLOAT, [1.0, 2.0]),
        ("1e-3,2", FLOAT, [0.001, 2.0]),
        ("true,False", BOOL, [True, False]),
        ("9:5", INT, []),
    ],
)
def test_a_part_of_a_grid_is_what_it_says(text, parameter, values):
    found = list(values_of(text, parameter))
    assert found == values
    assert all(type(each) is parameter.kind for each in found)


@pytest.mark.parametrize(
    ("text", "parameter"),
    [
        ("5:x", INT),
        ("5:9:0", INT),
        ("5:9:-1", INT),
        ("5:9:1:1", INT),
        ("5:9:0.5", INT),
        ("5.5", INT),
        ("", INT),
        ("1:nan", FLOAT),
        ("0:1", BOOL),
        ("yes", BOOL),
    ],
)
def test_what_is_no_part_of_a_grid_is_refused_with_the_name(text, parameter):
    with pytest.raises(ConfigError, match=f"parameter {parameter.name}"):
        values_of(text, parameter)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["fast"], "--grid fast: it is written as fast=5:55"),
        (["fats=1"], r"no parameter fats; did you mean fast\?"),
        (["fast=1", "fast=2"], "names fast twice"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(texts, told):
    with pytest.raises(ConfigError, match=told):
        grid_from(texts, Tuned)


def test_a_condition_compares_parameters():
    holds = where_from("fast < slow and not shorts or fast * 2 == slow", Tuned)
    assert holds({"fast": 5, "slow": 9, "shorts": False})
    assert not holds({"fast": 5, "slow": 5, "shorts": False})
    assert holds({"fast": 5, "slow": 10, "shorts": True})


@pytest.mark.parametrize(
    "text",
    ["fast <", "fats < 3", "__import__('os')", "fast.real", "[1][0]", "(lambda: 1)()", "fast / 0"],
)
def test_a_condition_is_nothing_but_that(text):
    with pytest.raises(ConfigError, match="--where"):
        where_from(text, Tuned)({"fast": 5, "slow": 9})


def test_the_command_shows_the_best_and_writes_table_and_report(data, tmp_path):
    table, report = tmp_path / "table.parquet", tmp_path / "sweep.html"
    grid = ("--grid", "fast=4:10:2", "--grid", "slow=8,20,30", "--where", "fast < slow")
    files = ("--output", table, "--report", report)
    result = swept("trend", "--data", data, *grid, *files, "--sort", "total_return", "--top", 3)
    assert result.exit_code == 0, result.output
    assert "8 combinations of 2,000 bars" in result.output
    rows = polars.read_parquet(table)
    assert rows.height == 8
    assert (rows["fast"] < rows["slow"]).all()
    best = rows.filter(rows["total_return"] == rows["total_return"].max()).row(0, named=True)
    shown = next(
        line for line in result.output.splitlines() if f"{best['total_return']:.4g}" in line
    )
    assert f" {best['fast']} " in shown
    assert f" {best['slow']} " in shown
    assert "<html" in report.read_text()[:500]
    assert not table.with_name("table.parquet.sweep").exists()


def test_ctrl_c_keeps_what_was_done_and_resume_goes_on(data, tmp_path, monkeypatch):
    from bagbot import cli_sweep

    table = tmp_path / "table.csv"
    words = ("trend", "--data", data, "--grid", "fast=4:10", "--grid", "slow=20:26")
    words = (*words, "--output", table)
    real = cli_sweep.shown_progress

    class Impatient:
        def __enter__(self):
            return self.tell

        def __exit__(self, *error):
            return False

        def tell(self, done, total):
            if done:
                raise KeyboardInterrupt

    monkeypatch.setattr(cli_sweep, "shown_progress", lambda what: Impatient())
    stopped = swept(*words)
    assert stopped.exit_code == 130
    assert "--resume goes on" in stopped.output
    monkeypatch.setattr(cli_sweep, "shown_progress", real)
    again = swept(*words)
    assert isinstance(again.exception, ConfigError)
    assert "--resume goes on with it" in str(again.exception)
    resumed = swept(*words, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert polars.read_csv(table).height == 36


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--grid", "fast=5", "--sort", "sharp"), "no figure sharp"),
        (("--grid", "fast=5", "--output", "table.xls"), ".parquet or .csv"),
        (("--grid", "fast=5", "--resume"), "--resume needs the --output"),
        (("--grid", "fast=5", "--param", "fast=3"), "both fixed and swept"),
        (("--grid", "fast=5", "--cash", "much"), "cash"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(data, words, told):
    result = swept("trend", "--data", data, *words)
    assert isinstance(result.exception, BagbotError)
    assert told in str(result.exception)


def test_floats_of_a_grid_are_the_nearest_to_what_was_written():
    steps = values_of("0:2:0.01", FLOAT)
    assert len(steps) == 200
    assert all(
        math.isclose(value, float(f"{at / 100:.2f}"), rel_tol=0) for at, value in enumerate(steps)
    )

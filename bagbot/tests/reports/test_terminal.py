"""The summary on the terminal, and how figures are written everywhere."""

import io
import math

import numpy
import pytest
from rich.console import Console

from bagbot.domain.statistics import Metrics
from bagbot.reports.figures import FIGURES, Kind, counted, duration, written
from bagbot.reports.terminal import curve, terminal_summary
from bagbot.tests.reports.some_run import run_of, seeded_bars


def printed(result, notes=(), width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(terminal_summary(result, notes))
    return console.file.getvalue()


def test_every_figure_has_a_title_and_is_shown() -> None:
    assert FIGURES.keys() == set(Metrics._fields)
    said = printed(run_of(seeded_bars(3_000, 1)))
    assert all(figure.title in said for figure in FIGURES.values())


def test_a_summary_tells_the_story_the_cautions_and_the_data() -> None:
    result = run_of(seeded_bars(3_000, 1))
    said = " ".join(printed(result, ["12 bars are missing"]).split())
    assert "SmaCross turned 10,000.00 USDT into" in said
    assert "! 12 bars are missing" in said
    assert result.bars.data_hash[:12] in said


def test_words_from_outside_are_no_markup_of_the_terminal() -> None:
    said = printed(run_of(seeded_bars(300, 1), strategy="[red]Sma[/red]"), ["[bold]x[/bold]"])
    assert "[red]Sma[/red]" in said
    assert "[bold]x[/bold]" in said


@pytest.mark.parametrize("bars", [1, 2, 100])
def test_the_shortest_run_has_a_summary(bars: int) -> None:
    assert "It closed no trade." in " ".join(printed(run_of(seeded_bars(bars, 1))).split())


def test_a_curve_goes_from_its_lowest_to_its_highest_block() -> None:
    assert curve(numpy.arange(8.0), 0, 7) == "▁▂▃▄▅▆▇█"
    assert curve(numpy.full(3, 5.0), 5, 5) == "▁▁▁"
    assert len(curve(numpy.arange(1_000.0), 0, 999)) == 48


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (0.12345, Kind.CHANGE, "+12.3%"),
        (-0.5, Kind.CHANGE, "\u221250.0%"),
        (-0.00001, Kind.CHANGE, "0.0%"),
        (0.5, Kind.SHARE, "50.0%"),
        (12.5, Kind.CHANGE, "+1,250%"),
        (1e9, Kind.CHANGE, ">1,000,000%"),
        (math.nan, Kind.GAIN, "\u2013"),
        (math.inf, Kind.RATIO, "\u221e"),
        (-math.inf, Kind.RATIO, "\u2212\u221e"),
        (1_234.567, Kind.GAIN, "+1,234.57 USDT"),
        (-0.000012, Kind.GAIN, "\u22120.00001200 USDT"),
        (0.0, Kind.MONEY, "0.00 USDT"),
        (1.0, Kind.BARS, "1 bar"),
        (1_363.0, Kind.BARS, "1,363 bars"),
        (-1.005, Kind.RATIO, "\u22121.00"),
    ],
)
def test_figures_are_written_as_people_read_them(value: float, kind: Kind, expected: str) -> None:
    assert written(value, kind, "USDT") == expected


def test_things_and_times_are_counted_in_words() -> None:
    assert counted(1, "trade") == "1 trade"
    assert counted(0, "trade") == "0 trades"
    assert duration(86_400_000) == "1 day"
    assert duration(500) == "0.5 seconds"

"""A run in a screenful of the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from bagbot.reports.facts import Floats, RunFacts, facts_of
from bagbot.reports.figures import GROUPS, date_of
from bagbot.reports.figures import Group as Figures

if TYPE_CHECKING:
    from bagbot.trading.backtest_result import BacktestResult

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_CURVE_WIDTH: Final = 48


def terminal_summary(result: "BacktestResult", notes: Sequence[str] = ()) -> RenderableType:
    """Return what Rich prints of a run; `notes` are findings about its data or its strategy."""
    return summary_of(facts_of(result, notes))


def summary_of(facts: RunFacts) -> RenderableType:
    """Return what Rich prints of facts: the story, cautions, the curves, all figures."""
    bars = facts.bars
    parameters = " ".join(f"{name}={value}" for name, value in facts.parameters.items())
    head = Text.assemble(
        (facts.strategy, "bold"),
        f"  {bars.instrument.symbol} {facts.interval}, {date_of(facts.began_ms)} to "
        f"{date_of(facts.ended_ms - 1)}  ",
        (parameters, "cyan"),
    )
    cautions = [
        Text(f"! {caution.text}", style="bold red" if caution.is_serious else "yellow")
        for caution in facts.cautions
    ]
    # One scale for both curves, or they could not be compared.
    low = float(min(facts.equity.min(), facts.held.min()))
    high = float(max(facts.equity.max(), facts.held.max()))
    curves = Table.grid(padding=(0, 2))
    curves.add_row("equity", Text(curve(facts.equity, low, high), style="blue"))
    curves.add_row("holding", Text(curve(facts.held, low, high), style="bright_black"))
    left = [_figures(facts, group) for group in (GROUPS[0], GROUPS[1], GROUPS[3])]
    right = [_figures(facts, GROUPS[2])]
    # Beside each other where there is room, else one below the other.
    columns = Columns([Group(*left), Group(*right)], padding=(0, 4))
    ran = f"{facts.mode}, ran in {facts.seconds['run']:.3f} s"
    if facts.seconds["compile"]:
        ran += f", compiled in {facts.seconds['compile']:.2f} s"
    foot = Text(f"{ran}; data {bars.data_hash[:12]}", style="bright_black")
    return Group(
        head,
        Text(facts.story()),
        *cautions,
        Padding(curves, (1, 0)),
        columns,
        foot,
    )


def curve(values: Floats, low: float, high: float, width: int = _CURVE_WIDTH) -> str:
    """Return values as a line of blocks, each the mean of its part of them.

    >>> curve(numpy.array([0.0, 1.0, 2.0, 4.0]), 0.0, 4.0)
    '▁▃▅█'
    """
    parts = numpy.array_split(values, min(width, len(values)))
    means = numpy.array([part.mean() for part in parts])
    steps = (means - low) / (high - low or 1.0) * (len(_BLOCKS) - 1)
    return "".join(_BLOCKS[int(step)] for step in numpy.rint(steps))


def _figures(facts: RunFacts, group: Figures) -> RenderableType:
    has_held = any(facts.told_of_holding(figure.name) for figure in group.figures)
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=True, header_style="bright_black")
    table.add_column(group.title, min_width=17, style="default")
    table.add_column("strategy" if has_held else "", justify="right", min_width=12)
    if has_held:
        table.add_column("holding", justify="right", min_width=10, style="bright_black")
    for figure in group.figures:
        cells = [figure.title, facts.told(figure.name)]
        table.add_row(*cells, *([facts.told_of_holding(figure.name)] if has_held else []))
    return Padding(table, (0, 0, 1, 0))

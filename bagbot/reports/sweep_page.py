"""One HTML file that shows a sweep: heat map, spread, and every combination."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy
from numpy.typing import NDArray

from bagbot.domain.errors import ConfigError
from bagbot.reports.figures import FIGURES, Figure, Kind, written
from bagbot.reports.html import card, document, packed, plain_table, text, top_bar

Columns = Mapping[str, NDArray[Any]]

LOWER_IS_BETTER: Final = frozenset({"drawdown_max", "drawdown_bars_max", "volatility", "fees"})


def write_sweep_page(
    path: Path,
    *,
    title: str,
    parameters: Columns,
    metrics: Columns,
    about: Mapping[str, str],
    sort_by: str = "sharpe",
) -> None:
    """Write the page of a sweep to `path`.

    `parameters` and `metrics` are columns of one length, a row per combination; a metric that is
    one of `domain.statistics.Metrics` is titled and written as such, any other as a plain number,
    and NaN is none. `about` says what is needed to repeat it: data, settings, versions.

    Raises ConfigError for a table without rows, parameters, or the column to sort by.
    """
    content = sweep_page(
        title=title, parameters=parameters, metrics=metrics, about=about, sort_by=sort_by
    )
    path.write_text(content, encoding="utf-8")


def sweep_page(
    *, title: str, parameters: Columns, metrics: Columns, about: Mapping[str, str], sort_by: str
) -> str:
    """Return the page of a sweep as HTML; see `write_sweep_page`."""
    _require_table(parameters, metrics, sort_by)
    figures = {name: FIGURES.get(name, Figure(name, name, Kind.RATIO, "")) for name in metrics}
    flags = [name for name, column in parameters.items() if column.dtype.kind == "b"]
    body = (
        top_bar("sweep"),
        "<main>",
        _lead(title, parameters, metrics, figures[sort_by]),
        _map_card(list(parameters), figures, sort_by),
        card("How the combinations spread", '<div id="spread" class="plot"></div>'),
        card(
            f"All {_rows(metrics):,} combinations",
            '<div class="scroll"><table id="combinations"></table></div>',
            note='<span class="note">a click on a head sorts</span>',
        ),
        card("To repeat it", plain_table(list(about.items()), is_code=True)),
        "</main>",
    )
    return document(
        title=f"{title} - bagbot",
        body="\n".join(body),
        data={
            "parameters": {name: packed(column) for name, column in parameters.items()},
            "metrics": {name: packed(column) for name, column in metrics.items()},
            "flags": flags,
            "figures": {
                name: {"title": figure.title, "kind": figure.kind}
                for name, figure in figures.items()
            },
            "lower_is_better": sorted(LOWER_IS_BETTER & metrics.keys()),
            "sort_by": sort_by,
        },
        scripts=("shell.js", "sweep.js"),
    )


def best_row(column: NDArray[Any], name: str) -> int:
    """Return the row with the best value, the first of equals; the first row if none has one."""
    signed = -column if name in LOWER_IS_BETTER else column
    known = numpy.where(numpy.isnan(signed), -math.inf, signed)
    return int(known.argmax())


def _require_table(parameters: Columns, metrics: Columns, sort_by: str) -> None:
    if not parameters or sort_by not in metrics:
        raise ConfigError(f"a sweep's page needs parameters and the metric {sort_by}")
    lengths = {len(column) for column in (*parameters.values(), *metrics.values())}
    if len(lengths) != 1 or 0 in lengths:
        raise ConfigError(f"a sweep's columns need one length, not {sorted(lengths)}")


def _rows(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _lead(title: str, parameters: Columns, metrics: Columns, figure: Figure) -> str:
    column = metrics[figure.name]
    best = best_row(column, figure.name)
    known = column[~numpy.isnan(column)]
    median = float(numpy.median(known)) if len(known) else math.nan
    at = ", ".join(f"{name} {column[best].item()}" for name, column in parameters.items())
    count = _rows(metrics)
    story = (
        f"Of {count:,} combinations the best has a {_title(figure)} of "
        f"{written(float(column[best]), figure.kind)}, at {at}; the one in the middle has "
        f"{written(median, figure.kind)}."
    )
    if "total_return" in metrics:
        won = float(numpy.mean(metrics["total_return"] > 0))
        story += f" {written(won, Kind.SHARE)} of them made money."
    caution = (
        "The best of many is partly luck: prefer a combination whose neighbours do well, too, and "
        "try it on bars that were not searched."
    )
    return (
        f'<header class="lead"><h1>{text(title)}</h1><p class="story">{text(story)}</p>'
        f'<section class="cautions"><ul><li>{text(caution)}</li></ul></section></header>'
    )


def _map_card(names: Sequence[str], figures: Mapping[str, Figure], sort_by: str) -> str:
    metrics = [(name, figure.title) for name, figure in figures.items()]
    pairs = [(name, name) for name in names]
    # A single parameter is shown as a line of cells.
    across, up = names[0], names[1] if len(names) > 1 else names[0]
    gathered = [(name, f"{name} of what shares a cell") for name in ("best", "median", "worst")]
    tools = (
        '<span class="tools">'
        f"{_select('metric', 'figure', metrics, sort_by)}"
        f"{_select('across', 'across', pairs, across)}{_select('up', 'up', pairs, up)}"
        f"{_select('gather', 'gathered', gathered, 'median')}</span>"
    )
    return card("Heat map", '<div id="map" class="plot"></div>', tools=tools)


def _select(name: str, label: str, options: Sequence[tuple[str, str]], chosen: str) -> str:
    lines = "".join(
        f'<option value="{text(value)}"{" selected" if value == chosen else ""}>'
        f"{text(title)}</option>"
        for value, title in options
    )
    return f'<select id="{name}" aria-label="{label}">{lines}</select>'


def _title(figure: Figure) -> str:
    is_named = figure.name in {"sharpe", "sortino", "calmar", "sqn"}
    return figure.title if is_named else figure.title.lower()

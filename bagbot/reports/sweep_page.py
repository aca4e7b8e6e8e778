"""One HTML file that shows a sweep: heat map, spread, and the combinations."""

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

ROWS_MAX: Final = 50_000
"""A page holds no more combinations than this: some 15 MB."""

BEST_KEPT: Final = 1_000
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
    and NaN is none. Of more than ROWS_MAX rows, the page holds the best and an even choice of the
    others, and says so. `about` says what is needed to repeat it: data, settings, versions.

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
    count, rows = _rows(metrics), shown_rows(metrics[sort_by], sort_by)
    shown = f"{len(rows):,} of {count:,}" if len(rows) < count else f"All {count:,}"
    body = (
        top_bar("sweep"),
        "<main>",
        _lead(title, parameters, metrics, figures[sort_by], len(rows)),
        _map_card(list(parameters), figures, sort_by),
        card("How the combinations spread", '<div id="spread" class="plot"></div>'),
        card(
            f"{shown} combinations",
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
            "parameters": {name: packed(column[rows]) for name, column in parameters.items()},
            "metrics": {name: packed(column[rows]) for name, column in metrics.items()},
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
    return int(_merit(column, name).argmax())


def shown_rows(column: NDArray[Any], name: str) -> NDArray[numpy.int64]:
    """Return the rows that a page holds: all, or the best and an even choice of the others."""
    count = len(column)
    if count <= ROWS_MAX:
        return numpy.arange(count)
    best = numpy.argsort(-_merit(column, name), kind="stable")[:BEST_KEPT]
    even = numpy.linspace(0, count - 1, ROWS_MAX - BEST_KEPT).astype(numpy.int64)
    return numpy.union1d(best, even)


def _merit(column: NDArray[Any], name: str) -> NDArray[numpy.float64]:
    signed = (-column if name in LOWER_IS_BETTER else column).astype(numpy.float64)
    return numpy.where(numpy.isnan(signed), -math.inf, signed)


def _require_table(parameters: Columns, metrics: Columns, sort_by: str) -> None:
    if not parameters or sort_by not in metrics:
        raise ConfigError(f"a sweep's page needs parameters and the metric {sort_by}")
    lengths = {len(column) for column in (*parameters.values(), *metrics.values())}
    if len(lengths) != 1 or 0 in lengths:
        raise ConfigError(f"a sweep's columns need one length, not {sorted(lengths)}")


def _rows(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _lead(title: str, parameters: Columns, metrics: Columns, figure: Figure, shown: int) -> str:
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
    cautions = [
        "The best of many is partly luck: prefer a combination whose neighbours do well, too, and "
        "try it on bars that were not searched."
    ]
    if shown < count:
        cautions.append(
            f"Map, spread and table show {shown:,} of them: the best, and an even choice of the "
            "others."
        )
    lines = "".join(f"<li>{caution}</li>" for caution in cautions)
    return (
        f'<header class="lead"><h1>{text(title)}</h1><p class="story">{text(story)}</p>'
        f'<section class="cautions"><ul>{lines}</ul></section></header>'
    )


def _map_card(names: Sequence[str], figures: Mapping[str, Figure], sort_by: str) -> str:
    metrics = [(name, figure.title) for name, figure in figures.items()]
    pairs = [(name, name) for name in names]
    # A single parameter has no second axis: it is drawn as a line.
    axes = _select("across", "across", pairs, names[0])
    if len(names) > 1:
        axes += _select("up", "up", pairs, names[1])
    gathered = [(name, f"{name} of what shares a cell") for name in ("best", "median", "worst")]
    tools = (
        '<span class="tools">'
        f"{_select('metric', 'figure', metrics, sort_by)}"
        f"{axes}{_select('gather', 'gathered', gathered, 'median')}</span>"
    )
    return card(
        "Heat map" if len(names) > 1 else "By value",
        '<div id="map" class="plot"></div>',
        tools=tools,
    )


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

"""One HTML file that tells a backtest and needs nothing but itself."""

import math
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy
from numpy.typing import NDArray

from bagbot.domain.bars import Bars
from bagbot.domain.statistics import UNITS
from bagbot.reports.facts import Integers, Month, RunFacts, facts_of
from bagbot.reports.figures import (
    GROUPS,
    Group,
    Kind,
    counted,
    date_of,
    decimals_of,
    duration,
    money,
    written,
)
from bagbot.reports.html import card, document, packed, plain_table, text, top_bar

if TYPE_CHECKING:
    from bagbot.trading.backtest_result import BacktestResult

CANDLES_MAX: Final = 100_000
"""A page holds no more candles than this; longer histories are thinned, with highs and lows."""

CURVE_BUCKETS: Final = 4_000
CAUTIONS_SHOWN: Final = 5
# The colour of a month is full at this return.
_FULL_MONTH: Final = 0.25
_MONTHS: Final = tuple(date(2000, month, 1).strftime("%b") for month in range(1, 13))


def write_page(result: "BacktestResult", path: Path, notes: Sequence[str] = ()) -> None:
    """Write the page of a run to `path`; `notes` are findings about its data or its strategy."""
    path.write_text(page(facts_of(result, notes)), encoding="utf-8")


def page(facts: RunFacts) -> str:
    """Return the page of a run as HTML."""
    name = f"{facts.strategy} on {facts.bars.instrument.symbol} {facts.interval}"
    return document(
        title=f"{name} - bagbot",
        body="\n".join(
            (
                top_bar("backtest"),
                "<main>",
                _lead(facts),
                _tiles(facts),
                _cautions(facts),
                _equity_card(facts),
                _price_card(facts),
                _months_card(facts),
                f'<div class="two">{_spread_card()}{_costs_card(facts)}</div>',
                _figures_card(facts),
                _trades_card(facts),
                _repeat_card(facts),
                _footer(),
                "</main>",
            )
        ),
        data=_data(facts),
        scripts=("shell.js", "report.js"),
    )


# What the charts draw.


def thinned(bars: Bars, most: int) -> tuple[dict[str, Integers], int]:
    """Return columns of at most `most` candles, and how many bars make one.

    A candle of several bars has the first open, the highest high, the lowest low, the last close.
    """
    size = -(-len(bars) // most)
    firsts = numpy.arange(0, len(bars), size)
    lasts = numpy.append(firsts[1:] - 1, len(bars) - 1)
    return {
        "time": bars.open_time_ms[firsts],
        "open": bars.open[firsts],
        "high": numpy.maximum.reduceat(bars.high, firsts),
        "low": numpy.minimum.reduceat(bars.low, firsts),
        "close": bars.close[lasts],
    }, size


def telling_rows(columns: Sequence[NDArray[Any]], buckets: int) -> Integers:
    """Return the rows that draw these columns as all rows would: all, or each bucket's extremes.

    The first and the last row are among them.
    """
    rows = len(columns[0])
    if rows <= 5 * buckets:
        return numpy.arange(rows)
    edges = numpy.linspace(0, rows, buckets + 1).astype(numpy.int64)
    kept = {0, rows - 1}
    for column in columns:
        for first, last in pairwise(edges):
            part = column[first:last]
            kept.add(int(first + part.argmin()))
            kept.add(int(first + part.argmax()))
    return numpy.array(sorted(kept), dtype=numpy.int64)


def _data(facts: RunFacts) -> dict[str, object]:
    bars, instrument = facts.bars, facts.bars.instrument
    candles, size = thinned(bars, CANDLES_MAX)
    rows = telling_rows((facts.equity, facts.held, facts.drawdowns), CURVE_BUCKETS)
    trades, fills = facts.trades, facts.fills
    return {
        "strategy": facts.strategy,
        "symbol": instrument.symbol,
        "quote": facts.quote,
        "interval_ms": bars.interval_ms,
        "bars_per_candle": size,
        "tick": instrument.tick_size.as_integer_ratio(),
        "price_decimals": decimals_of(instrument.tick_size),
        "amount_decimals": decimals_of(instrument.lot_size),
        "candles": _columns(candles),
        "curve": _columns(
            {
                "time": bars.open_time_ms[rows] + bars.interval_ms,
                "equity": facts.equity[rows],
                "held": facts.held[rows],
                "fall": facts.drawdowns[rows],
                "held_fall": facts.held_drawdowns[rows],
            }
        ),
        "fills": _columns(
            {
                "time": bars.open_time_ms[fills["bar"]],
                "price": fills["price"],
                "amount": facts.amounts(fills["lots"]),
                "is_buy": fills["is_buy"],
                "is_maker": fills["is_maker"],
            }
        ),
        "trades": _columns(
            {
                "entry_time": bars.open_time_ms[trades["entry_bar"]],
                "exit_time": bars.open_time_ms[trades["exit_bar"]],
                "bars": trades["exit_bar"] - trades["entry_bar"],
                "is_long": trades["is_long"],
                "amount": trades["base_units"] / UNITS,
                "entry_price": trades["entry_price"],
                "exit_price": trades["exit_price"],
                "fees": trades["fees"],
                "profit": trades["profit"],
                "gain": trades["return"],
            }
        ),
    }


def _columns(columns: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, str]]:
    return {name: packed(column) for name, column in columns.items()}


# What can be read without any script.


def _lead(facts: RunFacts) -> str:
    bars = facts.bars
    about = (
        f"{bars.instrument.symbol}, {facts.interval} bars, {date_of(facts.began_ms)} to "
        f"{date_of(facts.ended_ms - 1)} ({counted(len(bars), 'bar')})"
    )
    chips = "".join(
        f'<span class="chip"><i>{text(name)}</i> {text(value)}</span>'
        for name, value in facts.parameters.items()
    )
    return (
        f'<header class="lead"><div><h1>{text(facts.strategy)}</h1>'
        f'<p class="about">{text(about)}</p></div>'
        f'<p class="story">{text(facts.story())}</p>'
        f'{_serious(facts)}<div class="chips">{chips}</div></header>'
    )


def _serious(facts: RunFacts) -> str:
    lines = [f"<li>{text(c.text)}</li>" for c in facts.cautions if c.is_serious]
    return f'<ul class="serious">{"".join(lines)}</ul>' if lines else ""


def _cautions(facts: RunFacts) -> str:
    lines = [f"<li>{text(c.text)}</li>" for c in facts.cautions if not c.is_serious]
    if not lines:
        return ""
    shown, rest = lines[:CAUTIONS_SHOWN], lines[CAUTIONS_SHOWN:]
    more = (
        f"<details><summary>{len(rest)} more</summary><ul>{''.join(rest)}</ul></details>"
        if rest
        else ""
    )
    return (
        '<section class="cautions" aria-label="Before you believe it">'
        f"<ul>{''.join(shown)}</ul>{more}</section>"
    )


def _tiles(facts: RunFacts) -> str:
    trades = int(facts.metrics["trades"])
    of_start = facts.metrics["fees"] / facts.start
    tiles = (
        ("total_return", "Total return", f"holding {facts.told_of_holding('total_return')}"),
        ("cagr", "A year", f"holding {facts.told_of_holding('cagr')}"),
        ("sharpe", "Sharpe ratio", f"holding {facts.told_of_holding('sharpe')}"),
        ("drawdown_max", "Deepest fall", f"holding {facts.told_of_holding('drawdown_max')}"),
        ("trades", "Trades", f"{facts.told('win_rate')} won" if trades else "none closed"),
        ("fees", "Fees", f"{written(of_start, Kind.SHARE)} of the start"),
    )
    return '<section class="tiles" aria-label="In short">{}</section>'.format(
        "".join(
            f"<div class=tile><span>{title}</span>"
            f"<strong{_tone(facts.metrics[name]) if name in _TONED else ''}>"
            f"{text(money(facts.metrics[name]) if name == 'fees' else facts.told(name))}</strong>"
            f"<small>{text(below)}</small></div>"
            for name, title, below in tiles
        )
    )


_TONED: Final = frozenset({"total_return", "cagr"})


def _tone(value: float) -> str:
    return ' class="up"' if value > 0 else ' class="down"' if value < 0 else ""


def _equity_card(facts: RunFacts) -> str:
    legend = (
        '<span class="legend"><span><i class="key" style="background:var(--accent)"></i>'
        f'{text(facts.strategy)}</span><span><i class="key" style="background:var(--held)"></i>'
        "buy and hold</span></span>"
    )
    tools = f'<span class="tools">{_log_switch("equity-log")}</span>'
    return card(
        "Equity and drawdown",
        '<div id="equity" class="plot"></div>' + _no_script(),
        note=legend,
        tools=tools,
    )


def _price_card(facts: RunFacts) -> str:
    ranges = (("all", "All"), (365, "1Y"), (91, "3M"), (30, "1M"), (7, "1W"), (1, "1D"))
    buttons = "".join(
        f'<button type="button" data-days="{days}" aria-pressed="false">{label}</button>'
        for days, label in ranges
    )
    tools = (
        f'<span class="tools" id="ranges">{_log_switch("price-log")}{buttons}'
        '<button type="button" data-move="-1" aria-label="earlier">&lsaquo;</button>'
        '<button type="button" data-move="1" aria-label="later">&rsaquo;</button></span>'
    )
    legend = (
        '<p class="legend"><span><span class="tri" style="color:var(--accent)">▲</span>buys</span>'
        '<span><span class="tri" style="color:var(--sell)">▼</span>sells</span>'
        '<span id="price-note"></span></p>'
    )
    return card(
        f"{facts.bars.instrument.symbol} and what was traded",
        f'{legend}<div id="price" class="plot"></div>',
        tools=tools,
        name="price-card",
    )


def _log_switch(name: str) -> str:
    return f'<button type="button" id="{name}" aria-pressed="false">Log</button>'


def _months_card(facts: RunFacts) -> str:
    head = "".join(f"<th scope=col>{name}</th>" for name in ("", *_MONTHS, "Year"))
    rows = []
    for year, months in groupby(facts.months, key=lambda month: month.year):
        by_month = {month.month: month for month in months}
        cells = "".join(_month_cell(by_month.get(number)) for number in range(1, 13))
        gain = math.prod(1 + month.gain for month in by_month.values()) - 1
        held = math.prod(1 + month.held for month in by_month.values()) - 1
        total = _month_cell(Month(year, 0, gain, held)).replace('class="', 'class="total ')
        rows.append(f"<tr><td>{year}</td>{cells}{total}</tr>")
    table = (
        f'<div class="scroll"><table class="months"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    note = '<span class="note">percent, UTC; holding&rsquo;s under the pointer</span>'
    return card("Monthly returns", table, note=note)


def _month_cell(month: Month | None) -> str:
    if month is None:
        return "<td></td>"
    share = min(abs(month.gain) / _FULL_MONTH, 1) * 58
    tone = "gain" if month.gain >= 0 else "loss"
    said = written(month.gain, Kind.CHANGE).removesuffix("%")
    held = f"holding {written(month.held, Kind.CHANGE)}"
    return f'<td class="{tone}" style="--share:{share:.0f}" title="{text(held)}">{said}</td>'


def _spread_card() -> str:
    note = '<span class="note">return of each, the ends gathered</span>'
    return card("How trades ended", '<div id="spread" class="plot"></div>', note=note)


def _costs_card(facts: RunFacts) -> str:
    quote = facts.quote
    fees, profits = facts.metrics["fees"], float(facts.trades["profit"].sum())
    before = profits + float(facts.trades["fees"].sum())
    makers = int(facts.fills["is_maker"].sum())
    rows = [
        ("Fees", written(fees, Kind.MONEY, quote)),
        ("Fees, share of the start", written(fees / facts.start, Kind.SHARE)),
        *_funding_rows(facts),
        ("Closed trades before fees", written(before, Kind.GAIN, quote)),
        ("Closed trades after fees", written(profits, Kind.GAIN, quote)),
        ("Fills", f"{len(facts.fills):,} ({makers:,} as maker)"),
        *(
            (f"Set: {name.removeprefix('costs.').replace('_', ' ')}", value)
            for name, value in facts.settings.items()
            if name.startswith("costs.")
        ),
    ]
    return card("Costs", plain_table(rows))


def _funding_rows(facts: RunFacts) -> list[tuple[str, str]]:
    if facts.funding is None:
        return []
    return [("Funding paid", written(facts.funding / UNITS, Kind.MONEY, facts.quote))]


def _figures_card(facts: RunFacts) -> str:
    halves = (GROUPS[0], GROUPS[1], GROUPS[3]), (GROUPS[2],)
    columns = "".join(
        "<div>{}</div>".format(
            "".join(f"<h3>{group.title}</h3>{_figures_table(facts, group)}" for group in half)
        )
        for half in halves
    )
    return card("All figures", f'<div class="groups">{columns}</div>')


def _figures_table(facts: RunFacts, group: Group) -> str:
    has_held = any(facts.told_of_holding(figure.name) for figure in group.figures)
    head = "<thead><tr><th></th><th>strategy</th><th>holding</th></tr></thead>" if has_held else ""
    rows = "".join(
        f"<tr><td>{figure.title}<small>{figure.meaning}</small></td>"
        f"<td>{text(facts.told(figure.name))}</td>"
        + (f'<td class="held">{text(facts.told_of_holding(figure.name))}</td>' if has_held else "")
        + "</tr>"
        for figure in group.figures
    )
    return f'<table class="figures">{head}<tbody>{rows}</tbody></table>'


def _trades_card(facts: RunFacts) -> str:
    note = '<span class="note">a click on a head sorts, one on a row shows the trade above</span>'
    return card(
        f"All {len(facts.trades):,} trades",
        '<div class="scroll"><table class="rows" id="trades"></table></div>',
        note=note,
    )


def _repeat_card(facts: RunFacts) -> str:
    rows = [
        *((f"Parameter {name}", repr(value)) for name, value in facts.parameters.items()),
        *((f"Setting {name}", value) for name, value in facts.settings.items()),
        (
            "Run",
            f"{facts.mode}; compiled in {facts.seconds['compile']:.2f} s, "
            f"ran for {facts.seconds['run']:.3f} s",
        ),
        (
            "Bars",
            f"{len(facts.bars):,} of {facts.interval}, {duration(facts.ended_ms - facts.began_ms)}",
        ),
        ("Data (SHA-256)", facts.bars.data_hash),
        *((f"Version of {name}", version) for name, version in facts.versions.items()),
    ]
    note = (
        '<span class="note">the same strategy with all of these gives the same run, '
        "to the last unit</span>"
    )
    return card("To repeat it", plain_table(rows, is_code=True), note=note)


def _no_script() -> str:
    return "<noscript><p>The charts and the list of trades need JavaScript.</p></noscript>"


def _footer() -> str:
    return (
        "<footer>Fills follow docs/FILL_RULES.md of bagbot, figures docs/REPORTS.md. What was is "
        "no promise of what will be.</footer>"
    )

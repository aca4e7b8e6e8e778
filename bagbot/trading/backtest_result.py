"""What a backtest found: orders, fills, equity, and what they say."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any, Final

import numpy
from numpy.typing import NDArray

from bagbot.domain import fills as rules
from bagbot.domain import statistics
from bagbot.domain.bars import Bars
from bagbot.trading import compiled
from bagbot.trading import kernel_tables as tables
from bagbot.trading.backtest_settings import BacktestSettings

Records = NDArray[Any]

ORDER: Final = numpy.dtype(
    [
        (name, kind)
        for kind, names in (
            ("<i8", "number bar lots limit trigger filled pair parent"),
            ("<i4", "trailing_ppm"),
            ("i1", "kind time_in_force status reason"),
            ("?", "is_buy is_reduce_only"),
        )
        for name in names.split()
    ]
)
"""An order as it was placed after bar `bar`, with what became of it (kernel_tables.STATUSES and
REASONS). Prices are ticks, quantities lots, what it has not is 0."""

_UNITS: Final = 100_000_000
_AS_PLACED: Final = {
    "lots": "ordered",
    "kind": "placed_kind",
    "trigger": "placed_trigger",
    "trailing_ppm": "placed_trailing_ppm",
}


@dataclass(frozen=True, slots=False, kw_only=True, eq=False)
class BacktestResult:
    """One run. Money in arrays is int64 in 1e-8 of its asset; figures are floats.

    `placed` are the kernel's own rows of the orders (kernel_tables.ORDER); read `orders`.
    `mode` is how the strategy ran: "compiled", "interpreted" or "python"; `why_not_compiled` tells
    what stood in the way. `fills` (kernel_tables.FILL) are in order; `equity` has one value per
    bar. `funding` has a row per payment: bar, rate in 1e-8, mark price, what was paid.
    """

    strategy: str
    parameters: Mapping[str, int | float | bool]
    bars: Bars
    settings: BacktestSettings
    mode: str
    why_not_compiled: str
    compile_s: float
    run_s: float
    placed: Records
    fills: Records
    equity: NDArray[numpy.int64]
    funding: NDArray[numpy.int64]
    scale: rules.Scale

    @property
    def cash_units(self) -> int:
        """The cash at the start in 1e-8 of the quote asset."""
        return self.settings.cash_units

    @property
    def is_research_only(self) -> bool:
        """Whether fills were at closes that had been seen already, which nobody can trade."""
        return self.settings.fill_at == "close"

    @cached_property
    def orders(self) -> Records:
        """The orders as they were placed, and what became of them (ORDER)."""
        orders = numpy.zeros(len(self.placed), ORDER)
        for name in ORDER.names or ():
            orders[name] = self.placed[_AS_PLACED.get(name, name)]
        return orders

    @cached_property
    def trades(self) -> Records:
        """The round trips, first in first out (statistics.TRADE)."""
        trades: Records = self._statistics.round_trips(self.fills, self.scale)
        return trades

    @cached_property
    def metrics(self) -> Mapping[str, float]:
        """Every figure of the run by name, in a fixed order (statistics.Metrics)."""
        years = statistics.years_of(self.bars.open_time_ms, self.bars.interval_ms)
        found = self._statistics.summarise(
            self.equity, self.cash_units, years, self.fills, self.scale, 0.0
        )
        return {name: float(value) for name, value in found._asdict().items()}

    @cached_property
    def buy_and_hold(self) -> NDArray[numpy.float64]:
        """The equity of who bought with everything at the first open, in 1e-8 of quote."""
        if len(self.bars) == 0:
            return numpy.zeros(0)
        costs = self.settings.costs.ppm()
        first_open = int(self.bars.open[0])
        paid = rules.bought_at(first_open, costs)
        cost = 1 - first_open / paid * (1 - costs.taker_fee_ppm / 1_000_000)
        return statistics.buy_and_hold(first_open, self.bars.close, self.cash_units, cost)

    @cached_property
    def buy_and_hold_metrics(self) -> Mapping[str, float]:
        """What buying and holding would have been, by the names of statistics.EquityStatistics."""
        years = statistics.years_of(self.bars.open_time_ms, self.bars.interval_ms)
        found = self._statistics.equity_statistics(
            self.buy_and_hold, self.cash_units * 1.0, years, 0.0
        )
        return {name: float(value) for name, value in found._asdict().items()}

    @property
    def data_hash(self) -> str:
        """The hash of the bars: two runs on one hash had the same data."""
        return self.bars.data_hash

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of what the run was made with."""
        return _versions()

    def refusals(self) -> dict[str, int]:
        """Return how many orders were refused, by the exchange's or the risk gate's reason."""
        refused = self.orders["reason"][self.orders["status"] == tables.REFUSED]
        codes, counts = numpy.unique(refused, return_counts=True)
        return {
            tables.REASONS[int(code)]: int(count) for code, count in zip(codes, counts, strict=True)
        }

    @property
    def queued_at_end(self) -> int:
        """How many orders came after the last bar, so that nothing became of them."""
        return int((self.orders["status"] == tables.QUEUED).sum())

    def to_json(self) -> str:
        """Return the run without its tables: settings, figures and what is needed to repeat it."""
        return json.dumps(
            {
                "strategy": self.strategy,
                "parameters": dict(self.parameters),
                "symbol": self.bars.instrument.symbol,
                "bars": len(self.bars),
                "settings": _as_json(self.settings),
                "mode": self.mode,
                "why_not_compiled": self.why_not_compiled,
                "is_research_only": self.is_research_only,
                "orders": len(self.orders),
                "fills": len(self.fills),
                "refused": self.refusals(),
                "cash": _money(self.cash_units),
                "equity": _money(self.final_units),
                "metrics": _finite(self.metrics),
                "buy_and_hold": _finite(self.buy_and_hold_metrics),
                "data_hash": self.data_hash,
                "versions": dict(self.versions),
            }
        )

    @property
    def final_units(self) -> int:
        """The equity after the last bar in 1e-8 of quote; the cash when there are no bars."""
        return int(self.equity[-1]) if len(self.equity) else self.cash_units

    def summary(self) -> str:
        """Return the run in a few lines."""
        quote = self.bars.instrument.quote
        metrics = self.metrics
        lines = [
            f"{self.strategy} on {self.bars.instrument.symbol}, {len(self.bars):,} bars,"
            f" {self.mode}",
            f"equity   {_money(self.cash_units)} -> {_money(self.final_units)} {quote}"
            f" ({metrics['total_return']:+.2%})",
            f"trades   {int(metrics['trades']):,}, {len(self.fills):,} fills,"
            f" {len(self.orders):,} orders",
            f"drawdown {metrics['drawdown_max']:.2%}, Sharpe {metrics['sharpe']:.2f}",
        ]
        lines += [f"refused  {count:,}: {reason}" for reason, count in self.refusals().items()]
        if self.is_research_only:
            lines.append("fills at closes already seen: for research only, nobody can trade them")
        if self.why_not_compiled:
            lines.append(f"not compiled: {self.why_not_compiled}")
        return "\n".join(lines)

    @property
    def _statistics(self) -> Any:  # noqa: ANN401 - one module, or its compiled copy
        return statistics if self.mode == "python" else compiled.statistics()


def orders_of(desk: tables.Desk) -> Records:
    """Return the kernel's rows of all orders of a run that has ended."""
    return _rows(desk.orders, tables.ORDER, desk.account.order_count)


def fills_of(desk: tables.Desk) -> Records:
    """Return the fills of a run that has ended, in order."""
    return _rows(desk.fills, tables.FILL, desk.account.fill_count)


def _rows(table: object, kind: numpy.dtype[Any], count: int) -> Records:
    return numpy.asarray(table).view(numpy.ndarray)[:count].view(kind)


@cache
def _versions() -> Mapping[str, str]:
    found = {"python": platform.python_version()}
    for name in ("bagbot", "numba", "numpy", "polars", "TA-Lib"):
        try:
            found[name] = version_of(name)
        except PackageNotFoundError:
            continue
    return found


def _money(units: int) -> str:
    return f"{Decimal(units) / _UNITS:.2f}"


def _finite(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Return figures for JSON, which knows no NaN and no infinity."""
    return {name: value if numpy.isfinite(value) else None for name, value in figures.items()}


def _as_json(settings: BacktestSettings) -> dict[str, object]:
    shown: dict[str, object] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name == "funding":
            shown["funding"] = None if value is None else len(value.times_ms)
        elif field.name in ("costs", "limits") and value is not None:
            parts = {each.name: getattr(value, each.name) for each in fields(value)}
            shown[field.name] = {name: _text(part) for name, part in parts.items()}
        else:
            shown[field.name] = _text(value)
    return shown


def _text(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    return value if value is None or isinstance(value, int | str) else str(value)

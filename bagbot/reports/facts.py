"""What there is to tell of one run: the page, the terminal and the JSON draw from these facts.

The only part of the reports that knows the backtest's result. Money and prices are floats in the
quote asset from here on, amounts in base, times in milliseconds UTC.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy
from numpy.typing import NDArray

from bagbot.domain.bars import Bars
from bagbot.domain.errors import DataError
from bagbot.domain.statistics import (
    UNITS,
    drawdowns,
    monthly_returns,
    years_of,
)
from bagbot.reports.figures import FIGURES, counted, duration, interval, money, written

if TYPE_CHECKING:
    from bagbot.trading.backtest_result import BacktestResult

Floats = NDArray[numpy.float64]
Integers = NDArray[numpy.int64]
Records = NDArray[Any]

RESEARCH_ONLY: Final = (
    "Research only: orders filled at the very close that decided them. Nobody can trade that. "
    'Run it with fill_at="open" before you believe it.'
)
LIQUIDATION: Final = 0
"""The order of a fill that nobody ordered."""

TRADES_FEW: Final = 30
VALUES_SHOWN: Final = 20
YEARS_FEW: Final = 0.25


@dataclass(frozen=True, slots=True)
class Caution:
    """Something to know before believing the figures."""

    text: str
    is_serious: bool = False


@dataclass(frozen=True, slots=True)
class Month:
    """Returns of one month, UTC: the strategy's and that of holding."""

    year: int
    month: int
    gain: float
    held: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """One run, told in people's units.

    `equity` and `held` (buy-and-hold of the same start) are by bar, `drawdowns` and
    `held_drawdowns` with them (0 or below). `trades` are `domain.statistics.TRADE`, `fills` as the
    backtest writes them, `orders` too; `refused` counts the refused ones by reason.
    `funding` is what was paid of it in 1e-8 of quote (None: there was none).
    """

    strategy: str
    bars: Bars
    start: float
    equity: Floats
    held: Floats
    drawdowns: Floats
    held_drawdowns: Floats
    months: Sequence[Month]
    metrics: Mapping[str, float]
    held_metrics: Mapping[str, float]
    funding: int | None
    trades: Records
    fills: Records
    orders: Records
    refused: Mapping[str, int]
    parameters: Mapping[str, object]
    settings: Mapping[str, str]
    is_research_only: bool
    mode: str
    why_not_compiled: str
    seconds: Mapping[str, float]
    versions: Mapping[str, str]
    cautions: Sequence[Caution]

    @property
    def quote(self) -> str:
        """The asset that the account counts in."""
        return self.bars.instrument.quote

    @property
    def interval(self) -> str:
        """The bars' interval as exchanges write it."""
        return interval(self.bars.interval_ms)

    @property
    def began_ms(self) -> int:
        """When the first bar opened."""
        return int(self.bars.open_time_ms[0])

    @property
    def ended_ms(self) -> int:
        """When the last bar closed."""
        return int(self.bars.open_time_ms[-1]) + self.bars.interval_ms

    def prices(self, ticks: Integers) -> Floats:
        """Return prices in quote."""
        return _steps(ticks, self.bars.instrument.tick_size)

    def amounts(self, lots: Integers) -> Floats:
        """Return amounts in base."""
        return _steps(lots, self.bars.instrument.lot_size)

    def told(self, name: str) -> str:
        """Return a figure as it is written."""
        return written(self.metrics[name], FIGURES[name].kind, self.quote)

    def told_of_holding(self, name: str) -> str:
        """Return the same figure of buy-and-hold; nothing where it would say nothing."""
        value = self.held_metrics.get(name)
        return "" if value is None else written(value, FIGURES[name].kind, self.quote)

    def story(self) -> str:
        """Return the run in three sentences."""
        lasted = duration(self.ended_ms - self.began_ms)
        said = [
            f"{self.strategy} turned {money(self.start)} {self.quote} into "
            f"{money(float(self.equity[-1]))} within {lasted} of {self.bars.instrument.symbol} "
            f"({self.told('total_return')}).",
            f"Buying once and holding would have made {self.told_of_holding('total_return')}.",
        ]
        if self.metrics["trades"]:
            said.append(
                f"Its deepest fall was {self.told('drawdown_max')}; of {self.told('trades')} "
                f"trades {self.told('win_rate')} won."
            )
        else:
            said.append("It closed no trade.")
        return " ".join(said)


def facts_of(result: "BacktestResult", notes: Sequence[str] = ()) -> RunFacts:
    """Return what there is to tell of a run; `notes` are findings about its data, say.

    Raises DataError for a run over no bars.
    """
    bars, start, held = result.bars, result.cash_units, result.buy_and_hold
    if len(bars) == 0:
        raise DataError(f"{bars.instrument.symbol}: without bars there is nothing to report")
    gains = monthly_returns(bars.open_time_ms, result.equity, start)
    gains_held = monthly_returns(bars.open_time_ms, held, start)
    facts = RunFacts(
        strategy=result.strategy,
        bars=bars,
        start=start / UNITS,
        equity=result.equity / UNITS,
        held=held / UNITS,
        drawdowns=drawdowns(result.equity, start),
        held_drawdowns=drawdowns(held, start),
        months=[
            Month(year, month, gain, of_holding)
            for (year, month, gain), (_, _, of_holding) in zip(gains, gains_held, strict=True)
        ],
        metrics=result.metrics,
        held_metrics=result.buy_and_hold_metrics,
        funding=_funding(result),
        trades=result.trades,
        fills=result.fills,
        orders=result.orders,
        refused=result.refusals(),
        parameters=result.parameters,
        settings=dict(_settings(result.settings)),
        is_research_only=result.is_research_only,
        mode=result.mode,
        why_not_compiled=result.why_not_compiled,
        seconds={"compile": result.compile_s, "run": result.run_s},
        versions=result.versions,
        cautions=(),
    )
    return dataclasses.replace(facts, cautions=_cautions(facts, notes))


def _cautions(facts: RunFacts, notes: Sequence[str]) -> list[Caution]:
    said = []
    if facts.is_research_only:
        said.append(Caution(RESEARCH_ONLY, is_serious=True))
    liquidations = int((facts.fills["order"] == LIQUIDATION).sum())
    if liquidations:
        said.append(Caution(f"Liquidated: {counted(liquidations, 'time')}.", is_serious=True))
    if facts.equity.min() <= 0:
        said.append(Caution("The account lost everything.", is_serious=True))
    said.extend(Caution(note) for note in notes)
    for reason, count in facts.refused.items():
        said.append(Caution(f"{counted(count, 'order')} refused: {reason}"))
    if facts.metrics["fees"] <= 0 < len(facts.fills):
        said.append(Caution("Without fees: no exchange trades for nothing."))
    trades = int(facts.metrics["trades"])
    if trades < TRADES_FEW:
        closed = f"Only {counted(trades, 'trade')} closed" if trades else "No trade closed"
        said.append(Caution(f"{closed}: too few to tell skill from luck."))
    if years_of(facts.bars.open_time_ms, facts.bars.interval_ms) < YEARS_FEW:
        lasted = duration(facts.ended_ms - facts.began_ms)
        said.append(Caution(f"Yearly figures are worked out from {lasted} only."))
    if facts.why_not_compiled:
        said.append(Caution(f"Not compiled, therefore slower: {facts.why_not_compiled}"))
    return said


def _funding(result: "BacktestResult") -> int | None:
    return int(result.funding[:, 3].sum()) if len(result.funding) else None


def _settings(settings: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Iterate over settings by dotted name."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        for field in dataclasses.fields(settings):
            name = f"{prefix}.{field.name}" if prefix else field.name
            yield from _settings(getattr(settings, field.name), name)
        return
    # Recorded funding has thousands of rows: their number is enough.
    if isinstance(settings, Sequence) and len(settings) > VALUES_SHOWN:
        yield prefix, counted(len(settings), "value")
    else:
        yield prefix, "none" if settings is None else str(settings)


def _steps(count: Integers, step: Decimal) -> Floats:
    # Divided last, so that 9000007 ticks of 0.01 are the float nearest to 90000.07.
    numerator, denominator = step.as_integer_ratio()
    return numpy.asarray(count * numerator / denominator, dtype=numpy.float64)

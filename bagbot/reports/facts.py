"""What there is to tell of one run: the page, the terminal and the JSON draw from these facts.

The only part of the reports that knows the backtest's result. Money and prices are floats in the
quote asset from here on, amounts in base, times in milliseconds UTC.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy
from numpy.typing import NDArray

from bagbot.domain.bars import Bars
from bagbot.domain.statistics import (
    UNITS,
    EquityStatistics,
    buy_and_hold,
    drawdowns,
    equity_statistics,
    monthly_returns,
    years_of,
)
from bagbot.reports.figures import FIGURES, Kind, counted, duration, interval, money, written
from bagbot.trading.backtest_result import BacktestResult
from bagbot.trading.kernel_tables import REASONS, REFUSED

Floats = NDArray[numpy.float64]
Integers = NDArray[numpy.int64]
Records = NDArray[Any]

RESEARCH_ONLY: Final = (
    "Research only: orders filled at the very close that decided them. Nobody can trade that. "
    'Run it with fill_at="open" before you believe it.'
)
TRADES_FEW: Final = 30
YEARS_FEW: Final = 0.25

Result = BacktestResult


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
    held_metrics: EquityStatistics
    trades: Records
    fills: Records
    orders: Records
    refused: Mapping[str, int]
    parameters: Mapping[str, object]
    settings: Mapping[str, str]
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
        value = getattr(self.held_metrics, name, None)
        return "" if value is None else written(value, FIGURES[name].kind, self.quote)

    def story(self) -> str:
        """Return the run in three sentences."""
        lasted = duration(self.ended_ms - self.began_ms)
        said = [
            f"{self.strategy} turned {money(self.start)} {self.quote} into "
            f"{money(float(self.equity[-1]))} within {lasted} of {self.bars.instrument.symbol} "
            f"({self.told('total_return')}).",
            "Buying once and holding would have made "
            f"{written(self.held_metrics.total_return, Kind.CHANGE)}.",
        ]
        if self.metrics["trades"]:
            said.append(
                f"Its deepest fall was {self.told('drawdown_max')}; of {self.told('trades')} "
                f"trades {self.told('win_rate')} won."
            )
        else:
            said.append("It closed no trade.")
        return " ".join(said)


def facts_of(result: Result, notes: Sequence[str] = ()) -> RunFacts:
    """Return what there is to tell of a run; `notes` are findings about its data, say."""
    bars, start = result.bars, result.cash_units
    times, years = bars.open_time_ms, years_of(bars.open_time_ms, bars.interval_ms)
    held = buy_and_hold(int(bars.open[0]), bars.close, start)
    gains = monthly_returns(times, result.equity, start)
    gains_held = monthly_returns(times, held, start)
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
        held_metrics=equity_statistics(held, start, years),
        trades=result.trades,
        fills=result.fills,
        orders=result.orders,
        refused=_refused(result.orders),
        parameters=result.parameters,
        settings=dict(_settings(result.settings)),
        mode=result.mode,
        why_not_compiled=result.why_not_compiled,
        seconds={"compile": result.compile_s, "run": result.run_s},
        versions=result.versions,
        cautions=(),
    )
    return dataclasses.replace(facts, cautions=_cautions(facts, notes))


def _cautions(facts: RunFacts, notes: Sequence[str]) -> list[Caution]:
    said = []
    if facts.settings.get("fill_at") == "close":
        said.append(Caution(RESEARCH_ONLY, is_serious=True))
    if facts.equity.min() <= 0:
        said.append(Caution("The account lost everything.", is_serious=True))
    said.extend(Caution(note) for note in notes)
    for reason, count in facts.refused.items():
        said.append(Caution(f"{counted(count, 'order')} refused: {reason}"))
    if all(facts.settings.get(f"costs.{name}") == "0" for name in ("maker_fee", "taker_fee")):
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


def _refused(orders: Records) -> dict[str, int]:
    reasons = orders["reason"][orders["status"] == REFUSED]
    codes, counts = numpy.unique(reasons, return_counts=True)
    return {
        REASONS[int(code)]: int(count)
        for code, count in sorted(zip(codes, counts, strict=True), key=lambda pair: -pair[1])
    }


def _settings(settings: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Iterate over settings by dotted name, whatever holds them."""
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        pairs = [(f.name, getattr(settings, f.name)) for f in dataclasses.fields(settings)]
    elif isinstance(settings, Mapping):
        pairs = list(settings.items())
    elif isinstance(settings, tuple) and hasattr(settings, "_asdict"):
        pairs = list(settings._asdict().items())
    else:
        yield prefix, str(settings)
        return
    for name, value in pairs:
        yield from _settings(value, f"{prefix}.{name}" if prefix else str(name))


def _steps(count: Integers, step: Decimal) -> Floats:
    # Divided last, so that 9000007 ticks of 0.01 are the float nearest to 90000.07.
    numerator, denominator = step.as_integer_ratio()
    return numpy.asarray(count * numerator / denominator, dtype=numpy.float64)

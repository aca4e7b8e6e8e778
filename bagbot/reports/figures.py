"""How figures are named and written for people: on the page and on the terminal alike."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final

ABSENT: Final = "\N{EN DASH}"
"""What stands for a figure that there isn't: the win rate of no trades."""

_MINUS: Final = "\N{MINUS SIGN}"
# What a year would make of an hour's luck has no use for its digits.
_PERCENT_MAX: Final = 1_000_000


class Kind(StrEnum):
    """What a figure is, which says how it is written."""

    SHARE = "share"
    CHANGE = "change"
    RATIO = "ratio"
    MONEY = "money"
    GAIN = "gain"
    COUNT = "count"
    BARS = "bars"


@dataclass(frozen=True, slots=True)
class Figure:
    """One of `domain.statistics.Metrics`: its name, its title, its kind, what it means in short."""

    name: str
    title: str
    kind: Kind
    meaning: str


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that are shown together."""

    title: str
    figures: tuple[Figure, ...]


GROUPS: Final = (
    Group(
        "Return",
        (
            Figure("total_return", "Total return", Kind.CHANGE, "last equity over the start"),
            Figure("cagr", "A year", Kind.CHANGE, "the constant yearly return with that result"),
            Figure("volatility", "Volatility", Kind.SHARE, "deviation of returns, for a year"),
        ),
    ),
    Group(
        "Risk",
        (
            Figure("drawdown_max", "Deepest drawdown", Kind.SHARE, "fall below the highest equity"),
            Figure("drawdown_bars_max", "Longest drawdown", Kind.BARS, "until equity was back"),
            Figure("sharpe", "Sharpe ratio", Kind.RATIO, "mean return over its deviation"),
            Figure("sortino", "Sortino ratio", Kind.RATIO, "mean return over losses' deviation"),
            Figure("calmar", "Calmar ratio", Kind.RATIO, "yearly return over deepest drawdown"),
        ),
    ),
    Group(
        "Trades",
        (
            Figure("trades", "Trades", Kind.COUNT, "round trips that were closed"),
            Figure("win_rate", "Win rate", Kind.SHARE, "share of trades with a profit"),
            Figure("profit_factor", "Profit factor", Kind.RATIO, "all profits over all losses"),
            Figure("expectancy", "Mean trade", Kind.GAIN, "profit, after fees"),
            Figure("average_win", "Mean winner", Kind.GAIN, "profit, after fees"),
            Figure("average_loss", "Mean loser", Kind.GAIN, "loss, after fees"),
            Figure("best_trade", "Best trade", Kind.CHANGE, "profit over what the entry cost"),
            Figure("worst_trade", "Worst trade", Kind.CHANGE, "loss over what the entry cost"),
            Figure("sqn", "SQN", Kind.RATIO, "system quality number"),
            Figure("trade_bars", "Mean length", Kind.BARS, "from entry to exit"),
        ),
    ),
    Group(
        "Activity and costs",
        (
            Figure("exposure", "In the market", Kind.SHARE, "share of bars with a position"),
            Figure("turnover", "Turnover", Kind.RATIO, "value traded over mean equity"),
            Figure("fees", "Fees", Kind.MONEY, "those taken in base at their fill's price"),
        ),
    ),
)

FIGURES: Final = {figure.name: figure for group in GROUPS for figure in group.figures}


def written(value: float, kind: Kind, quote: str = "") -> str:
    """Return a figure as it is written: `+12.3%`, `1.42`, `1,234.56 USDT`; a dash for none.

    >>> written(1.416, Kind.RATIO), written(12.0, Kind.COUNT), written(1234.5, Kind.MONEY, "USDT")
    ('1.42', '12', '1,234.50 USDT')
    """
    if math.isnan(value):
        return ABSENT
    if math.isinf(value):
        return "∞" if value > 0 else f"{_MINUS}∞"
    if kind in {Kind.SHARE, Kind.CHANGE}:
        percent = 100 * value
        if percent > _PERCENT_MAX:
            return f">{_PERCENT_MAX:,}%"
        digits = 1 if abs(percent) < 1_000 else 0
        sign = "+" if kind is Kind.CHANGE else "-"
        return _signed(f"{percent:{sign},.{digits}f}") + "%"
    if kind is Kind.MONEY:
        return f"{money(value)} {quote}".rstrip()
    if kind is Kind.GAIN:
        return f"{money(value, sign='+')} {quote}".rstrip()
    if kind is Kind.COUNT:
        return _signed(f"{value:,.0f}")
    if kind is Kind.BARS:
        return counted(value, "bar")
    return _signed(f"{value:,.2f}")


def money(value: float, sign: str = "-") -> str:
    """Return an amount of money with as many digits as its size asks for.

    >>> money(1234.5678), money(0.00123456)
    ('1,234.57', '0.00123456')
    """
    size = abs(value)
    digits = 2 if size >= 1 or size < 5e-9 else 8 if size < 0.01 else 4
    return _signed(f"{value:{sign},.{digits}f}")


def counted(count: float, what: str) -> str:
    """Return a number of things.

    >>> counted(1, "bar"), counted(2.25, "bar"), counted(1200, "trade")
    ('1 bar', '2.2 bars', '1,200 trades')
    """
    number = f"{count:,.1f}".removesuffix(".0") if count < 10 else f"{count:,.0f}"
    return f"{number} {what}" if number == "1" else f"{number} {what}s"


def decimals_of(step: Decimal) -> int:
    """Return how many decimals a price or an amount in such steps has.

    >>> decimals_of(Decimal("0.01000000")), decimals_of(Decimal("1")), decimals_of(Decimal("1E+1"))
    (2, 0, 0)
    """
    exponent = step.normalize().as_tuple().exponent
    assert isinstance(exponent, int), step
    return max(0, -exponent)


def date_of(time_ms: int) -> str:
    """Return the day of a time, UTC.

    >>> date_of(1_503_000_000_000)
    '17 Aug 2017'
    """
    moment = datetime.fromtimestamp(time_ms / 1_000, UTC)
    return f"{moment.day} {moment:%b %Y}"


def duration(milliseconds: float) -> str:
    """Return how long something was, in the unit that fits.

    >>> duration(90_000), duration(3 * 86_400_000), duration(1_000 * 86_400_000)
    ('1.5 minutes', '3 days', '2.7 years')
    """
    units = (
        ("year", 365 * 86_400_000),
        ("day", 86_400_000),
        ("hour", 3_600_000),
        ("minute", 60_000),
    )
    for name, size in units:
        # Up to two years are told in days: "1.1 years" says less than "400 days".
        if milliseconds >= (2 * size if name == "year" else size):
            return counted(milliseconds / size, name)
    return counted(milliseconds / 1_000, "second")


def interval(milliseconds: int) -> str:
    """Return a bar's interval as exchanges write it.

    >>> interval(60_000), interval(4 * 3_600_000), interval(86_400_000), interval(1_500)
    ('1m', '4h', '1d', '1500ms')
    """
    for name, size in (("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{name}"
    return f"{milliseconds // 1_000}s" if milliseconds % 1_000 == 0 else f"{milliseconds}ms"


def _signed(text: str) -> str:
    # Rounding can leave a zero with a sign: neither "-0.0" nor "+0.0" says anything.
    if not text.strip("+-0.,"):
        return text.lstrip("+-")
    return text.replace("-", _MINUS)

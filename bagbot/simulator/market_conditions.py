"""What a synthetic market can be told to do, and when: trend, gap, spike, thin book, halt.

The same table describes a condition in the settings file and at POST /admin/market. Times are
market time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from pathlib import Path

from bagbot.domain.errors import ConfigError
from bagbot.simulator.settings_file import (
    Table,
    check_fields,
    read_amount,
    read_document,
    read_tables,
    read_text,
)

_HOUR_S = 3_600
_DAYS_MAX = 366
_SPREAD_TICKS_MAX = 1_000_000
_PERCENT_MAX = 1_000_000


class ConditionKind(StrEnum):
    """The conditions there are."""

    TREND = "trend"
    GAP = "gap"
    SPIKE = "spike"
    THIN = "thin"
    HALT = "halt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One condition of one market, from `start_ms` until before `end_ms`.

    `percent` is how far the price goes: per hour of a trend, at once in a gap, and at the middle
    of a spike, from where it comes back. A thin book quotes `depth_percent` of the usual, its best
    bid and ask `spread_ticks` apart.
    """

    symbol: str
    kind: ConditionKind
    start_ms: int
    end_ms: int
    percent: Decimal = Decimal(0)
    depth_percent: Decimal = Decimal(100)
    spread_ticks: int = 2

    @property
    def middle_ms(self) -> int:
        """Return when a spike is farthest out."""
        return (self.start_ms + self.end_ms) // 2

    def delayed(self, delay_ms: int) -> "Condition":
        """Return the same condition, later."""
        return replace(self, start_ms=self.start_ms + delay_ms, end_ms=self.end_ms + delay_ms)

    def description(self) -> Mapping[str, object]:
        """Return what GET /admin/market shows of it."""
        shown: dict[str, object] = {
            "symbol": self.symbol,
            "kind": self.kind.value,
            "start_ms": self.start_ms,
            "end_ms": self.end_ms,
        }
        if self.kind is ConditionKind.THIN:
            return shown | {
                "depth_percent": str(self.depth_percent),
                "spread_ticks": self.spread_ticks,
            }
        return shown if self.kind is ConditionKind.HALT else shown | {"percent": str(self.percent)}


_OWN_FIELDS = {
    ConditionKind.TREND: {"percent", "for_s"},
    ConditionKind.GAP: {"percent"},
    ConditionKind.SPIKE: {"percent", "for_s"},
    ConditionKind.THIN: {"depth_percent", "spread_ticks", "for_s"},
    ConditionKind.HALT: {"for_s"},
}


def condition_from(table: Table, now_ms: int) -> Condition:
    """Return the condition that a table describes, at the market time `now_ms`.

    It begins at `at_ms`, or `after_s` seconds from now, or now. Amounts and seconds are written as
    text or as whole numbers. Raises ConfigError.
    """
    where = "a condition"
    symbol = read_text(table, "symbol", where)
    name = read_text(table, "kind", where)
    if name not in list(ConditionKind):
        raise ConfigError(f"{where}: kind must be one of {', '.join(ConditionKind)}")
    kind = ConditionKind(name)
    where = f"a {name}"
    check_fields(table, {"symbol", "kind", "at_ms", "after_s"} | _OWN_FIELDS[kind], where)
    start_ms = _start_ms(table, now_ms, where)
    has_span = "for_s" in _OWN_FIELDS[kind]
    # A gap is over as soon as it has happened.
    length_ms = _milliseconds(table, "for_s", where) if has_span else 1
    if length_ms < 1:
        raise ConfigError(f"{where}: for_s must be above zero")
    condition = Condition(symbol=symbol, kind=kind, start_ms=start_ms, end_ms=start_ms + length_ms)
    if kind is ConditionKind.THIN:
        return _thinned(condition, table, where)
    if kind is ConditionKind.HALT:
        return condition
    percent = read_amount(table, "percent", where)
    if not percent.is_finite() or not -100 < percent <= _PERCENT_MAX:
        raise ConfigError(f"{where}: percent must be above -100 and at most {_PERCENT_MAX}")
    return replace(condition, percent=percent)


def conditions_from(path: Path) -> list[Condition]:
    """Return the conditions of a settings file: its tables `[[market]]`, at least one.

    Their times count from the start of the market, which is what `delayed` is for. Raises
    ConfigError.
    """
    document = read_document(path)
    try:
        tables = read_tables(document, "market", "the file")
        if any("at_ms" in table for table in tables):
            raise ConfigError("at_ms is for POST /admin/market: use after_s in a file")
        return [condition_from(table, 0) for table in tables]
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _thinned(condition: Condition, table: Table, where: str) -> Condition:
    depth = read_amount(table, "depth_percent", where) if "depth_percent" in table else Decimal(100)
    spread = read_amount(table, "spread_ticks", where) if "spread_ticks" in table else Decimal(2)
    if not depth.is_finite() or not 0 < depth <= 100:
        raise ConfigError(f"{where}: depth_percent must be above 0 and at most 100")
    if not spread.is_finite() or spread % 1 or not 1 <= spread <= _SPREAD_TICKS_MAX:
        raise ConfigError(f"{where}: spread_ticks must be whole, from 1 to {_SPREAD_TICKS_MAX}")
    return replace(condition, depth_percent=depth, spread_ticks=int(spread))


def _start_ms(table: Table, now_ms: int, where: str) -> int:
    if "at_ms" not in table:
        return now_ms + (_milliseconds(table, "after_s", where) if "after_s" in table else 0)
    start_ms = table["at_ms"]
    if "after_s" in table:
        raise ConfigError(f"{where}: give at_ms or after_s, not both")
    if type(start_ms) is not int or not now_ms < start_ms <= now_ms + _DAYS_MAX * 86_400_000:
        raise ConfigError(f"{where}: at_ms must be a market time after {now_ms}, within a year")
    return start_ms


def _milliseconds(table: Table, name: str, where: str) -> int:
    seconds = read_amount(table, name, where)
    if not seconds.is_finite() or not 0 <= seconds <= _DAYS_MAX * 24 * _HOUR_S:
        raise ConfigError(f"{where}: {name} must be from 0 seconds to a year")
    return int(seconds * 1_000)

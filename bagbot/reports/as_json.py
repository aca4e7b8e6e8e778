"""A run as JSON, for programs: everything that is known of it. docs/REPORTS.md has the schema."""

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bagbot.domain.fills import (
    FILL_OR_KILL,
    GOOD_TILL_CANCELLED,
    IMMEDIATE_OR_CANCEL,
    LIMIT,
    LIMIT_MAKER,
    MARKET,
    STOP,
    STOP_LIMIT,
    TAKE_PROFIT,
    TAKE_PROFIT_LIMIT,
)
from bagbot.reports.facts import Records, RunFacts, facts_of
from bagbot.trading.kernel_tables import AT_CLOSE, AT_OPEN, IN_RANGE, REASONS, STATUSES

if TYPE_CHECKING:
    from bagbot.trading.backtest_result import BacktestResult

SCHEMA: Final = "bagbot-backtest/1"
_UNIT: Final = Decimal("0.00000001")
_KINDS: Final = {
    LIMIT: "LIMIT",
    LIMIT_MAKER: "LIMIT_MAKER",
    MARKET: "MARKET",
    STOP: "STOP",
    STOP_LIMIT: "STOP_LIMIT",
    TAKE_PROFIT: "TAKE_PROFIT",
    TAKE_PROFIT_LIMIT: "TAKE_PROFIT_LIMIT",
}
_TIMES_IN_FORCE: Final = {
    GOOD_TILL_CANCELLED: "GTC",
    IMMEDIATE_OR_CANCEL: "IOC",
    FILL_OR_KILL: "FOK",
}
_WHEN: Final = {AT_OPEN: "open", IN_RANGE: "range", AT_CLOSE: "close"}


def write_json(result: "BacktestResult", path: Path, notes: Sequence[str] = ()) -> None:
    """Write a run as JSON to `path`; `notes` are findings about its data or its strategy."""
    path.write_text(as_json(result, notes) + "\n", encoding="utf-8")


def as_json(result: "BacktestResult", notes: Sequence[str] = ()) -> str:
    """Return a run as JSON; `notes` are findings about its data or its strategy."""
    facts = facts_of(result, notes)
    bars = facts.bars
    instrument = bars.instrument
    document = {
        "schema": SCHEMA,
        "strategy": facts.strategy,
        "symbol": instrument.symbol,
        "quote": instrument.quote,
        "base": instrument.base,
        "interval_ms": bars.interval_ms,
        "bars": len(bars),
        "first_open_ms": facts.began_ms,
        "last_close_ms": facts.ended_ms,
        "data_sha256": bars.data_hash,
        "parameters": dict(facts.parameters),
        "settings": dict(facts.settings),
        "mode": facts.mode,
        "why_not_compiled": facts.why_not_compiled or None,
        "seconds": dict(facts.seconds),
        "versions": dict(facts.versions),
        "cautions": [
            {"text": caution.text, "is_serious": caution.is_serious} for caution in facts.cautions
        ],
        "metrics": _known(facts.metrics),
        "buy_and_hold": _known(facts.held_metrics),
        "months": [
            {"year": m.year, "month": m.month, "return": m.gain, "buy_and_hold": m.held}
            for m in facts.months
        ],
        "funding_paid": None if facts.funding is None else _money(facts.funding),
        "cash": _money(result.cash_units),
        "equity_units": result.equity.tolist(),
        "orders": _orders(facts),
        "fills": _fills(facts),
        "trades": _trades(facts),
    }
    return json.dumps(document, allow_nan=False, default=str)


def _orders(facts: RunFacts) -> list[dict[str, object]]:
    price, amount = facts.bars.instrument.price_from_ticks, facts.bars.instrument.quantity_from_lots
    return [
        {
            "number": row["number"],
            "bar": row["bar"],
            "type": _KINDS[row["kind"]],
            "side": _side(row["is_buy"]),
            "amount": _plain(amount(row["lots"])),
            "filled": _plain(amount(row["filled"])),
            "limit": _plain(price(row["limit"])) if row["limit"] else None,
            "trigger": _plain(price(row["trigger"])) if row["trigger"] else None,
            "trailing_ppm": row["trailing_ppm"] or None,
            "time_in_force": _TIMES_IN_FORCE[row["time_in_force"]],
            "is_reduce_only": bool(row["is_reduce_only"]),
            "pair": row["pair"] or None,
            "parent": row["parent"] or None,
            "status": STATUSES[row["status"]],
            "reason": REASONS[row["reason"]] or None,
        }
        for row in _rows(facts.orders)
    ]


def _fills(facts: RunFacts) -> list[dict[str, object]]:
    instrument, times = facts.bars.instrument, facts.bars.open_time_ms
    return [
        {
            "bar": row["bar"],
            "bar_open_ms": int(times[row["bar"]]),
            "when": _WHEN[row["when"]],
            "order": row["order"],
            "side": _side(row["is_buy"]),
            "price": _plain(instrument.price_from_ticks(row["price"])),
            "amount": _plain(instrument.quantity_from_lots(row["lots"])),
            "fee": _money(row["fee_units"]),
            "fee_asset": instrument.base if row["fee_in_base"] else instrument.quote,
            "role": "maker" if row["is_maker"] else "taker",
            "cash_after": _money(row["cash_units_after"]),
        }
        for row in _rows(facts.fills)
    ]


def _trades(facts: RunFacts) -> list[dict[str, object]]:
    instrument, times = facts.bars.instrument, facts.bars.open_time_ms
    return [
        {
            "entry_bar": row["entry_bar"],
            "entry_open_ms": int(times[row["entry_bar"]]),
            "exit_bar": row["exit_bar"],
            "exit_open_ms": int(times[row["exit_bar"]]),
            "side": "long" if row["is_long"] else "short",
            "amount": _money(row["base_units"]),
            "entry_price": _plain(instrument.price_from_ticks(row["entry_price"])),
            "exit_price": _plain(instrument.price_from_ticks(row["exit_price"])),
            "fees": row["fees"],
            "profit": row["profit"],
            "return": row["return"],
        }
        for row in _rows(facts.trades)
    ]


def _rows(table: Records) -> list[dict[str, Any]]:
    names = table.dtype.names or ()
    return [dict(zip(names, row, strict=True)) for row in table.tolist()]


def _known(figures: Mapping[str, float]) -> dict[str, float | str | None]:
    # JSON has neither: null says that there is no such figure.
    return {
        name: None if math.isnan(value) else value if math.isfinite(value) else str(value)
        for name, value in figures.items()
    }


def _side(is_buy: object) -> str:
    return "buy" if is_buy else "sell"


def _money(units: int) -> str:
    return _plain(units * _UNIT)


def _plain(value: Decimal) -> str:
    return f"{value:f}"

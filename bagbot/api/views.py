"""What the API shows: plain dictionaries, made fast; `schemas` describes the same for the docs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

import msgspec
from fastapi import Response

from bagbot.domain.events import Fill
from bagbot.domain.ledger import Position
from bagbot.domain.order import Order
from bagbot.trading.account_state import AccountState
from bagbot.trading.connectors.interface import Balance
from bagbot.trading.order_archive import BookedFill

_ENCODER: Final = msgspec.json.Encoder()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN_STEP: Final = Decimal("1e-12")
_WIDE: Final = Context(prec=60)


def json_response(
    content: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an answer with `content` as JSON."""
    return Response(
        _ENCODER.encode(content),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )


def page_view(items: Sequence[object], after: str | None) -> dict[str, object]:
    """Return one page of a list; `after` is the cursor of the next, None on the last."""
    return {"items": items, "next": after}


def order_view(order: Order, state: AccountState) -> dict[str, object]:
    """Return all that is known of an order, but its fills one by one."""
    intent, request, refusal = order.intent, order.intent.request, order.refusal
    return {
        "id": order.id,
        "client_order_id": order.client_order_id,
        "exchange_order_id": order.exchange_order_id,
        "account": intent.account,
        "symbol": request.symbol,
        "side": request.side.value,
        "type": request.type.value,
        "amount": decimal_text(request.amount),
        "price": None if request.price is None else decimal_text(request.price),
        "time_in_force": None if request.time_in_force is None else request.time_in_force.value,
        "trigger_price": None
        if request.trigger_price is None
        else decimal_text(request.trigger_price),
        "trailing_delta": request.trailing_delta,
        "filled": decimal_text(order.filled),
        "remaining": decimal_text(order.remaining),
        "average": None if order.average is None else _shown_quotient(order.average),
        "fees": {asset: decimal_text(fee) for asset, fee in order.fees.items()},
        "status": order.status.value,
        "reason": order.reason,
        "refusal": None
        if refusal is None
        else {
            "rule": refusal.rule,
            "value": refusal.value,
            "limit": refusal.limit,
            "message": refusal.message,
        },
        "note": intent.note,
        "source": intent.source,
        "created_at": time_text(intent.time_ns),
        "updated_at": time_text(state.updated_ns[order.id]),
    }


def order_with_fills_view(order: Order, state: AccountState) -> dict[str, object]:
    """Return all that is known of an order, and its fills."""
    fills = sorted(order.fills.values(), key=lambda fill: fill.exchange_time_ns)
    return {**order_view(order, state), "fills": [_fill_view(fill) for fill in fills]}


def booked_fill_view(booked: BookedFill) -> dict[str, object]:
    """Return a fill with the order it belongs to."""
    return {
        "order_id": booked.order_id,
        "symbol": booked.symbol,
        "side": booked.side.value,
        **_fill_view(booked.fill),
        "recorded_at": time_text(booked.time_ns),
    }


def position_view(position: Position) -> dict[str, object]:
    """Return what our fills left in one symbol."""
    return {
        "account": position.account,
        "symbol": position.symbol,
        "quantity": decimal_text(position.quantity),
        "average_price": _shown_quotient(position.average_price),
        "realised_pnl": _shown_quotient(position.realised_pnl),
        "fees": {asset: decimal_text(fee) for asset, fee in sorted(position.fees.items())},
    }


def balance_view(balance: Balance) -> dict[str, object]:
    """Return what the exchange holds of one asset."""
    return {
        "asset": balance.asset,
        "free": decimal_text(balance.free),
        "used": decimal_text(balance.used),
        "total": decimal_text(balance.total),
    }


def decimal_text(number: Decimal) -> str:
    """Return a number in plain digits: no exponent, no zeros that say nothing.

    >>> decimal_text(Decimal("1E+3")), decimal_text(Decimal("0.0100")), decimal_text(Decimal("-0"))
    ('1000', '0.01', '0')
    """
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def time_text(time_ns: int) -> str:
    """Return a time as ISO 8601 in UTC, to the microsecond, rounded down.

    >>> time_text(1_500)
    '1970-01-01T00:00:00.000001Z'
    """
    time = _EPOCH + timedelta(microseconds=time_ns // 1000)
    return f"{time.isoformat(timespec='microseconds').removesuffix('+00:00')}Z"


def _shown_quotient(number: Decimal) -> str:
    """A quotient has digits without end: 12 decimals are shown, the last one rounded half-even."""
    return decimal_text(number.quantize(_SHOWN_STEP, ROUND_HALF_EVEN, _WIDE))


def _fill_view(fill: Fill) -> dict[str, object]:
    return {
        "trade_id": fill.trade_id,
        "quantity": decimal_text(fill.quantity),
        "price": decimal_text(fill.price),
        "fee": decimal_text(fill.fee),
        "fee_asset": fill.fee_asset,
        "is_maker": fill.is_maker,
        "executed_at": time_text(fill.exchange_time_ns),
    }

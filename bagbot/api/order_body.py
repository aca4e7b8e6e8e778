"""A POST /orders body -> the order that it asks for. Pure."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Final

from bagbot.api.json_body import FieldError, given, member_of, number_of, required, shown, text_of
from bagbot.domain.instrument import Side
from bagbot.domain.order import OrderRequest, OrderType, TimeInForce

SymbolResolver = Callable[[str], str | None]

_FORCE: Final = ("timeInForce", "time_in_force")
_TRIGGER: Final = ("triggerPrice", "stopPrice", "trigger_price")
_DELTA: Final = ("trailingDelta", "trailing_delta")
_FIELDS: Final = frozenset(
    {"symbol", "side", "type", "amount", "price", *_FORCE, *_TRIGGER, *_DELTA}
)


def order_request_from(body: Mapping[str, object], resolve: SymbolResolver) -> OrderRequest:
    """Return the order that a body asks for.

    A symbol that means nothing here stays as it was sent, for the risk manager to refuse by name.
    Raises FieldError, or InvalidOrderError when the fields do not fit each other.
    """
    for name in body:
        if name not in _FIELDS:
            raise FieldError(shown(name), f"is no field of an order; {', '.join(sorted(_FIELDS))}")
    # Clients write out what they leave empty.
    body = {name: value for name, value in body.items() if value is not None}
    text = text_of(*required(body, "symbol"))
    price_name, price = given(body, "price")
    force_name, force = given(body, *_FORCE)
    trigger_name, trigger = given(body, *_TRIGGER)
    delta_name, delta = given(body, *_DELTA)
    return OrderRequest(
        symbol=resolve(text) or resolve(text.upper()) or text,
        side=member_of(Side, *required(body, "side")),
        type=member_of(OrderType, *required(body, "type")),
        amount=number_of(*required(body, "amount")),
        price=None if price is None else number_of(price_name, price),
        time_in_force=None if force is None else member_of(TimeInForce, force_name, force),
        trigger_price=None if trigger is None else number_of(trigger_name, trigger),
        trailing_delta=None if delta is None else _whole(delta_name, delta),
    )


def _whole(name: str, value: object) -> int:
    number = number_of(name, value)
    if number != number.to_integral_value():
        raise FieldError(name, f"must be a whole number of basis points, not {shown(value)}")
    return int(number)


def fingerprint(request: OrderRequest) -> str:
    """Return what two requests for the same order have in common, however they are written."""
    price, force = request.price, request.time_in_force
    parts: list[str | int | None] = [
        request.symbol,
        request.side.value,
        request.type.value,
        str(request.amount.normalize()),
        None if price is None else str(price.normalize()),
        None if force is None else force.value,
    ]
    if request.type.is_conditional:
        trigger = request.trigger_price
        parts += [None if trigger is None else str(trigger.normalize()), request.trailing_delta]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

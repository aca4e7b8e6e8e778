"""A POST /orders body -> the order that it asks for. Pure."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Final

from bagbot.api.json_body import FieldError, given, member_of, number_of, required, shown, text_of
from bagbot.domain.instrument import Side
from bagbot.domain.order import OrderRequest, OrderType, TimeInForce

SymbolResolver = Callable[[str], str | None]

_FIELDS: Final = frozenset(
    {"symbol", "side", "type", "amount", "price", "timeInForce", "time_in_force"}
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
    force_name, force = given(body, "timeInForce", "time_in_force")
    return OrderRequest(
        symbol=resolve(text) or resolve(text.upper()) or text,
        side=member_of(Side, *required(body, "side")),
        type=member_of(OrderType, *required(body, "type")),
        amount=number_of(*required(body, "amount")),
        price=None if price is None else number_of(price_name, price),
        time_in_force=None if force is None else member_of(TimeInForce, force_name, force),
    )


def fingerprint(request: OrderRequest) -> str:
    """Return what two requests for the same order have in common, however they are written."""
    price, force = request.price, request.time_in_force
    parts = [
        request.symbol,
        request.side.value,
        request.type.value,
        str(request.amount.normalize()),
        None if price is None else str(price.normalize()),
        None if force is None else force.value,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

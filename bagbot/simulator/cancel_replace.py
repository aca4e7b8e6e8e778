"""order/cancelReplace: one order is cancelled and another placed, and both results are told.

The HTTP status and the code follow from the two results:

    cancel   new order      status  code
    SUCCESS  SUCCESS        200
    FAILURE  NOT_ATTEMPTED  400     -2022   only with STOP_ON_FAILURE
    SUCCESS  FAILURE        409     -2021
    FAILURE  SUCCESS        409     -2021   only with ALLOW_FAILURE
    FAILURE  FAILURE        400     -2022   only with ALLOW_FAILURE

With the order limit exceeded, DO_NOTHING ends in a plain -1015. CANCEL_ONLY still cancels, and
the new order fails with -1015 inside; with STOP_ON_FAILURE the status is then 429.

Choices where Binance's documents are silent: a filter failure ends in the plain filter error, as
"filters are evaluated before the processing"; a half that was refused is no reason to take back
the other one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bagbot.simulator import binance_messages as messages
from bagbot.simulator.assumptions import Assumptions
from bagbot.simulator.binance_errors import (
    BinanceError,
    cancel_refused,
    invalid_data,
    order_refused,
)
from bagbot.simulator.binance_wire import (
    Parameters,
    read_cancel_restriction,
    read_new_order,
    read_order_reference,
    read_response_type,
)
from bagbot.simulator.orders import (
    CancelOrder,
    CancelRefusedError,
    OrderRefusedError,
    PlaceOrder,
)
from bagbot.simulator.rate_limits import RateLimits
from bagbot.simulator.venue import Venue

_MODES = ("STOP_ON_FAILURE", "ALLOW_FAILURE")
_LIMIT_MODES = ("DO_NOTHING", "CANCEL_ONLY")


@dataclass(frozen=True, slots=True)
class _Half:
    """What became of the cancellation or of the new order."""

    result: str
    response: object

    @property
    def is_success(self) -> bool:
        return self.result == "SUCCESS"


@dataclass(frozen=True, slots=True)
class CancelReplace:
    """A request to replace one order by another, already checked for form."""

    cancel: CancelOrder
    order: PlaceOrder
    response_type: str
    stops_on_failure: bool
    cancels_over_limit: bool


def read_cancel_replace(parameters: Parameters, account_id: int) -> CancelReplace:
    """Return what the parameters describe. Raises BinanceError."""
    mode = parameters.mandatory("cancelReplaceMode")
    if mode not in _MODES:
        raise invalid_data("cancelReplaceMode")
    limit_mode = parameters.choice_or("orderRateLimitExceededMode", _LIMIT_MODES, "DO_NOTHING")
    order = read_new_order(parameters, account_id)
    order_id, client_order_id = read_order_reference(
        parameters, "cancelOrderId", "cancelOrigClientOrderId"
    )
    cancel = CancelOrder(
        account_id=account_id,
        symbol=order.symbol,
        order_id=order_id,
        client_order_id=client_order_id,
        cancel_id=parameters.client_order_id("cancelNewClientOrderId") or "",
        restriction=read_cancel_restriction(parameters),
    )
    return CancelReplace(
        cancel,
        order,
        read_response_type(parameters, order.type),
        mode == "STOP_ON_FAILURE",
        limit_mode == "CANCEL_ONLY",
    )


def carry_out(
    request: CancelReplace,
    venue: Venue,
    limits: RateLimits,
    placement_reply: Callable[[PlaceOrder, str, int], object],
    now_ns: int,
    assumptions: Assumptions,
) -> object:
    """Cancel, place, and return both results; raises BinanceError unless both succeeded.

    `placement_reply` places an order, raising OrderRefusedError, and returns the reply to it.
    """
    now_ms = now_ns // 1_000_000
    account_id = request.order.account_id
    over_limit = _over_limit(limits, account_id, now_ms)
    if over_limit is not None and not request.cancels_over_limit:
        raise over_limit
    try:
        venue.exchange.check_filters(request.order)
    except OrderRefusedError as error:
        raise order_refused(error.refusal, assumptions) from error
    cancelled = _cancel(request.cancel, venue, now_ns)
    if not cancelled.is_success and request.stops_on_failure:
        limits.order_accepted(account_id, now_ms)
        placed = _Half("NOT_ATTEMPTED", None)
    elif over_limit is not None:
        placed = _Half("FAILURE", _refusal(over_limit))
    else:
        placed = _place(request, placement_reply, now_ns, assumptions)
    data: messages.Message = {
        "cancelResult": cancelled.result,
        "newOrderResult": placed.result,
        "cancelResponse": cancelled.response,
        "newOrderResponse": placed.response,
    }
    if cancelled.is_success and placed.is_success:
        return data
    is_429 = over_limit is not None and request.stops_on_failure
    if cancelled.is_success or placed.is_success:
        text = "Order cancel-replace partially failed."
        raise BinanceError(-2021, text, 429 if is_429 else 409, data=data)
    raise BinanceError(-2022, "Order cancel-replace failed.", 429 if is_429 else 400, data=data)


def _over_limit(limits: RateLimits, account_id: int, now_ms: int) -> BinanceError | None:
    try:
        limits.check_orders(account_id, now_ms, 1)
    except BinanceError as error:
        return error
    return None


def _cancel(command: CancelOrder, venue: Venue, now_ns: int) -> _Half:
    try:
        return _Half("SUCCESS", messages.cancel_result(venue.cancel(command, now_ns)))
    except CancelRefusedError as error:
        return _Half("FAILURE", _refusal(cancel_refused(error.refusal)))


def _place(
    request: CancelReplace,
    placement_reply: Callable[[PlaceOrder, str, int], object],
    now_ns: int,
    assumptions: Assumptions,
) -> _Half:
    try:
        return _Half("SUCCESS", placement_reply(request.order, request.response_type, now_ns))
    except OrderRefusedError as error:
        return _Half("FAILURE", _refusal(order_refused(error.refusal, assumptions)))


def _refusal(error: BinanceError) -> messages.Message:
    return {"code": error.code, "msg": error.message}

"""Orders, fills, positions and balances over HTTP."""

import asyncio
import itertools
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Depends, Query, Request, Response

from bagbot.api import schemas, views
from bagbot.api.json_body import FieldError, parsed_object, shown, text_of
from bagbot.api.order_body import fingerprint, order_request_from
from bagbot.api.problems import ProblemError
from bagbot.api.security import (
    BEARER,
    CanKill,
    RequireScope,
    authorized,
    body_of,
    system_of,
)
from bagbot.api.system import ApiSystem
from bagbot.api.tokens import Scope
from bagbot.domain.order import Order, OrderIntent, OrderStatus, intent_id
from bagbot.trading.account_state import AccountState
from bagbot.trading.submission import Submission

logger = structlog.get_logger(__name__)

ORDER_BYTES_MAX: Final = 64 * 1024
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")

router = APIRouter(tags=["orders"])
_CAN_READ: Final = [Depends(RequireScope(Scope.READ))]
_CAN_TRADE: Final = [Depends(RequireScope(Scope.TRADE))]

Limit = Annotated[int, Query(ge=1, le=1000)]
After = Annotated[str | None, Query(description="`next` of the page before.")]
SymbolFilter = Annotated[str | None, Query(description="BTC/USDT or BTCUSDT.")]

_WRITE_OFF_DOCS: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": schemas.WriteOffBody.model_json_schema()}},
    },
}
_PLACE_DOCS: Final[dict[str, Any]] = {
    "security": [{BEARER: []}],
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": True,
            "description": "Yours, new for each order. The same key never makes two orders.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": schemas.OrderBody.model_json_schema()}},
    },
}


# The body is read by hand and the answer is made ready: this is the way of an order, it is timed.
@router.post(
    "/orders",
    status_code=202,
    response_model=schemas.OrderView,
    summary="Place an order",
    responses=schemas.problems(400, 401, 403, 413, 422, 503),
    openapi_extra=_PLACE_DOCS,
)
async def place_order(request: Request) -> Response:
    """Take an order on; it is durable before the answer (202) and sent at once, once.

    The same Idempotency-Key with the same order answers with that order and the header
    `Idempotent-Replayed: true`; with another order it is a 422 problem. What the risk manager
    refuses is a 422 problem with `id`, `rule`, `value` and `limit`; it is recorded as REFUSED.
    """
    token = authorized(request, Scope.TRADE)
    system = system_of(request)
    key = request.headers.get("idempotency-key", "")
    if _KEY.fullmatch(key) is None:
        detail = (
            "send a header Idempotency-Key of 1 to 255 visible ASCII characters, new for each "
            "order and the same when you repeat one (a UUID will do)"
        )
        raise ProblemError(400, "idempotency-key-missing", detail)
    executor = system.executor
    body = parsed_object(await body_of(request, bytes_max=ORDER_BYTES_MAX))
    wanted = order_request_from(body, executor.resolve_symbol)
    identity = f"api:{token.id}:{key}"
    submission = await executor.submit(
        OrderIntent(
            id=intent_id(executor.account, identity),
            account=executor.account,
            request=wanted,
            source=f"api:{token.id}",
            identity=identity,
            time_ns=system.clock.time_ns(),
            fingerprint=fingerprint(wanted),
        )
    )
    return _placed(submission, executor.state)


def _placed(submission: Submission, state: AccountState) -> Response:
    order = submission.order
    assert order is not None, "an order that is submitted always leads to one"
    log_order(order, is_repeat=submission.is_repeat)
    if submission.differs:
        detail = (
            f"this Idempotency-Key was used for another order, {order.id}; nothing was done. "
            f"Take a new key for a new order"
        )
        raise ProblemError(422, "idempotency-key-reused", detail, members={"id": order.id})
    headers = {"Location": f"/orders/{order.id}"}
    if submission.is_repeat:
        headers["Idempotent-Replayed"] = "true"
    if order.refusal is None:
        return views.json_response(views.order_view(order, state), status=202, headers=headers)
    refusal = order.refusal
    raise ProblemError(
        422,
        "order-refused",
        f"the order was refused and not sent: {refusal.message}",
        members={
            "id": order.id,
            "rule": refusal.rule,
            "value": refusal.value,
            "limit": refusal.limit,
            "message": refusal.message,
        },
        headers=headers,
    )


def log_order(order: Order, *, is_repeat: bool) -> None:
    """Log what a request led to: one line with the order's ids."""
    logger.info(
        "order requested",
        order_id=order.id,
        client_order_id=order.client_order_id,
        source=order.intent.source,
        status=order.status.value,
        is_repeat=is_repeat,
    )


@router.get(
    "/orders",
    response_model=schemas.OrderPage,
    summary="List orders, newest first",
    responses=schemas.problems(401, 403, 422),
    dependencies=_CAN_READ,
)
async def list_orders(
    request: Request,
    status: Annotated[OrderStatus | None, Query()] = None,
    symbol: SymbolFilter = None,
    limit: Limit = 100,
    after: After = None,
) -> Response:
    """Return orders, the newest first; pages stay in step while new orders come in."""
    system = system_of(request)
    state = system.executor.state
    wanted = _resolved(system, symbol)
    if after is not None and after not in state.orders:
        raise _bad_cursor(after)

    found = state.orders.newest_first(symbol=wanted, status=status, after=after)
    items = list(itertools.islice(found, limit + 1))
    shown_items = [views.order_view(order, state) for order in items[:limit]]
    cursor = items[limit - 1].id if len(items) > limit else None
    return views.json_response(views.page_view(shown_items, cursor))


@router.get(
    "/orders/{order_id}",
    response_model=schemas.OrderWithFillsView,
    summary="Show one order",
    responses=schemas.problems(401, 403, 404),
    dependencies=_CAN_READ,
)
async def show_order(request: Request, order_id: str) -> Response:
    """Return an order by our id (`ord_...`), with its fills."""
    state = system_of(request).executor.state
    order = _found(state, order_id)
    return views.json_response(views.order_with_fills_view(order, state))


@router.delete(
    "/orders/{order_id}",
    response_model=schemas.OrderView,
    summary="Cancel an order",
    responses={
        202: {"model": schemas.OrderView, "description": "Asked for; it is not final yet."},
        **schemas.problems(401, 403, 404, 409, 502, 503),
    },
    dependencies=_CAN_TRADE,
)
async def cancel_order(request: Request, order_id: str) -> Response:
    """Ask the exchange to cancel and return the order as it is then, which may be FILLED."""
    executor = system_of(request).executor
    _found(executor.state, order_id)
    order = await executor.cancel(order_id)
    logger.info(
        "cancel requested",
        order_id=order.id,
        client_order_id=order.client_order_id,
        status=order.status.value,
    )
    view = views.order_view(order, executor.state)
    return views.json_response(view, status=200 if order.is_final else 202)


@router.post(
    "/orders/{order_id}/write-off",
    response_model=schemas.OrderView,
    summary="Write off an order that the exchange has forgotten",
    responses=schemas.problems(400, 401, 403, 404, 409, 413, 422, 502, 503),
    openapi_extra=_WRITE_OFF_DOCS,
)
async def write_off_order(request: Request, order_id: str, token: CanKill) -> Response:
    """End an order on your word that the exchange does not have it; the reason is recorded.

    The exchange is asked once more: what it still tells of the order is taken instead, and one
    that is open there is a 409 (cancel it). One that never appeared becomes NOT_ACCEPTED, one that
    did becomes CANCELLED. A trade of it that is told later is booked all the same.
    """
    executor = system_of(request).executor
    _found(executor.state, order_id)
    body = parsed_object(await body_of(request, bytes_max=ORDER_BYTES_MAX))
    for name in body:
        if name != "reason":
            raise FieldError(shown(name), "is no field of this request; reason is the only one")
    reason = text_of("reason", body.get("reason"))
    order = await executor.write_off(order_id, reason, by=f"api:{token.id}")
    return views.json_response(views.order_view(order, executor.state))


@router.get(
    "/fills",
    response_model=schemas.FillPage,
    summary="List fills, newest first",
    responses=schemas.problems(401, 403, 422),
    dependencies=_CAN_READ,
)
async def list_fills(
    request: Request, symbol: SymbolFilter = None, limit: Limit = 100, after: After = None
) -> Response:
    """Return executions in the order in which they were learned, the newest first."""
    system = system_of(request)
    fills = system.executor.state.fills
    wanted = _resolved(system, symbol)
    # The cursor is a place in a list that only grows.
    end = len(fills)
    if after is not None:
        if not (after.isascii() and after.isdecimal() and len(after) < 16 and int(after) < end):
            raise _bad_cursor(after)
        end = int(after)
    newest_first = range(end - 1, -1, -1)
    found = (place for place in newest_first if wanted is None or fills.symbol(place) == wanted)
    places = list(itertools.islice(found, limit + 1))
    items = [views.booked_fill_view(fills[place]) for place in places[:limit]]
    cursor = str(places[limit - 1]) if len(places) > limit else None
    return views.json_response(views.page_view(items, cursor))


@router.get(
    "/positions",
    response_model=schemas.PositionPage,
    summary="List positions",
    responses=schemas.problems(401, 403),
    dependencies=_CAN_READ,
)
async def list_positions(request: Request) -> Response:
    """Return what our own fills left, by symbol; coins from elsewhere are in /balances only."""
    positions = system_of(request).executor.state.ledger.positions()
    return views.json_response(views.page_view([views.position_view(p) for p in positions], None))


@router.get(
    "/balances",
    response_model=schemas.BalancePage,
    summary="List balances",
    responses=schemas.problems(401, 403, 502, 503),
    dependencies=_CAN_READ,
)
async def list_balances(request: Request) -> Response:
    """Ask the exchange what the account holds."""
    system = system_of(request)
    async with asyncio.timeout(system.balance_timeout_s):
        balances = await system.connector.fetch_balance()
    held = [balances[asset] for asset in sorted(balances) if balances[asset].total != Decimal(0)]
    return views.json_response(views.page_view([views.balance_view(b) for b in held], None))


def _found(state: AccountState, order_id: str) -> Order:
    order = state.orders.get(order_id)
    if order is None:
        detail = f"there is no order {shown(order_id)}; GET /orders lists what there is"
        raise ProblemError(404, "order-not-found", detail)
    return order


def _resolved(system: ApiSystem, symbol: str | None) -> str | None:
    resolve: Callable[[str], str | None] = system.executor.resolve_symbol
    return None if symbol is None else resolve(symbol) or resolve(symbol.upper()) or symbol


def _bad_cursor(after: str) -> ProblemError:
    detail = f"after: {shown(after)} is no cursor; use `next` of the page before, or leave it out"
    return ProblemError(422, "invalid-parameter", detail, members={"field": "after"})

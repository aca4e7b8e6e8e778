"""The webhook for TradingView's alerts.

TradingView gives up after 3 s and sends again after a 5xx only, up to three times. So whatever
is the alert's fault, or was decided once and for all, is never a 5xx; and what may become
possible in a moment (starting, journal, an order of unknown outcome) is a 503 and leaves no trace.
"""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import structlog
from fastapi import APIRouter, Request, Response

from bagbot.api import schemas, views
from bagbot.api.json_body import FieldError, MalformedBodyError, parsed_object
from bagbot.api.order_routes import log_order
from bagbot.api.problems import RETRY_AFTER_S, ProblemError
from bagbot.api.security import body_of, is_webhook_secret, system_of
from bagbot.api.system import ApiSystem
from bagbot.api.tradingview_alert import (
    Alert,
    Declined,
    Holding,
    Wanted,
    alert_from,
    exchange_symbol,
    planned,
    staleness,
)
from bagbot.domain.errors import BagbotError, InvalidOrderError
from bagbot.domain.instrument import Side
from bagbot.domain.order import OrderIntent, OrderRequest, OrderType, intent_id
from bagbot.trading.order_executor import OrderExecutor
from bagbot.trading.submission import Submission, View

logger = structlog.get_logger(__name__)

PATH: Final = "/webhooks/tradingview"
ALERT_BYTES_MAX: Final = 8 * 1024
_EXAMPLE: Final = (
    '{"secret": "...", "ticker": "{{ticker}}", "action": "{{strategy.order.action}}", '
    '"contracts": "{{strategy.order.contracts}}", "time": "{{time}}"}'
)

router = APIRouter(tags=["tradingview"])

_DOCS: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": schemas.AlertBody.model_json_schema()}},
    },
}


class _PositionUnknownError(BagbotError):
    """An order of the symbol has no known outcome, so what is missing to a target isn't either."""


@router.post(
    PATH,
    response_model=schemas.AlertAnswer,
    summary="Take an alert",
    responses=schemas.problems(400, 401, 413, 503),
    openapi_extra=_DOCS,
)
async def receive_alert(request: Request) -> Response:
    """Act on an alert, once; the answer (200) comes when what it led to is durable.

    A repeat is answered with what the first one led to, and does nothing, also when it says
    something else under the same `id`. The body is JSON whatever its content type says. A 503
    means that nothing was decided: send the same again.
    """
    system = system_of(request)
    try:
        body = parsed_object(await body_of(request, bytes_max=ALERT_BYTES_MAX))
    except MalformedBodyError as error:
        detail = f"{error}. Let the alert's message be JSON with every value in quotes: {_EXAMPLE}"
        raise ProblemError(400, "malformed-body", detail) from error
    _require_secret(body, system)
    try:
        alert = alert_from(body)
        submission, declined = await _decide(alert, system)
    except FieldError as error:
        raise ProblemError(
            400, "invalid-field", str(error), members={"field": error.field}
        ) from error
    except InvalidOrderError as error:
        raise ProblemError(400, "invalid-order", str(error)) from error
    except _PositionUnknownError as error:
        logger.warning("alert not acted on", identity=alert.identity, reason=str(error))
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        raise ProblemError(503, "position-unknown", str(error), headers=headers) from error
    return _answer(alert, submission, declined, system.executor)


def _require_secret(body: Mapping[str, object], system: ApiSystem) -> None:
    if is_webhook_secret(body.get("secret"), system.webhook_secrets):
        return
    logger.warning("alert without the right secret")
    detail = (
        'the alert\'s "secret" is missing or is not the one configured here'
        if system.webhook_secrets
        else "no webhook secret is configured here, so no alert is taken; configure one"
    )
    raise ProblemError(401, "secret-wrong", detail)


async def _decide(alert: Alert, system: ApiSystem) -> tuple[Submission, Declined | None]:
    executor = system.executor
    symbol, symbol_note = _symbol(alert.ticker, executor)
    declined: Declined | None = None

    def plan(view: View) -> OrderIntent | str:
        nonlocal declined
        time_ns = system.clock.time_ns()
        decision: Wanted | Declined = staleness(alert, time_ns, system.alert_age_max_s) or planned(
            alert, _holding(alert, symbol, view, executor)
        )
        if isinstance(decision, Declined):
            declined = decision
            return "; ".join(filter(None, (decision.message, symbol_note)))
        note = "; ".join(filter(None, (decision.note, symbol_note)))
        return _intent(alert, replace(decision, note=note), symbol, executor.account, time_ns)

    submission = await executor.decide(
        identity=alert.identity,
        fingerprint=alert.fingerprint,
        symbol=symbol,
        plan=plan,
        window_ns=alert.window_ns,
    )
    return submission, declined


def _intent(alert: Alert, wanted: Wanted, symbol: str, account: str, time_ns: int) -> OrderIntent:
    # An identity that is forgotten after a while comes again: then the time tells them apart.
    identity = alert.identity
    unique = identity if alert.window_ns is None else f"{identity}@{time_ns}"
    return OrderIntent(
        id=intent_id(account, unique),
        account=account,
        request=OrderRequest(
            symbol=symbol,
            side=wanted.side,
            type=alert.type,
            amount=wanted.amount,
            price=alert.price,
            time_in_force=alert.time_in_force,
        ),
        source=f"tradingview:{alert.strategy}" if alert.strategy else "tradingview",
        identity=identity,
        time_ns=time_ns,
        fingerprint=alert.fingerprint,
        note=wanted.note,
    )


def _symbol(ticker: str, executor: OrderExecutor) -> tuple[str, str]:
    """Return the symbol that a ticker means, and what is to be said about it.

    One that means nothing here stays as it is, for the risk manager to refuse by name.
    """
    text = ticker if ticker in executor.instruments else exchange_symbol(ticker)
    if not text.endswith(".P"):
        return executor.resolve_symbol(text) or text, ""
    symbol = executor.resolve_symbol(text.removesuffix(".P"))
    if symbol is not None and ":" in symbol:
        return symbol, ""
    return text, f"{text} is a perpetual future, which this account does not trade"


def _holding(alert: Alert, symbol: str, view: View, executor: OrderExecutor) -> Holding:
    """Return what there is in the symbol.

    Raises _PositionUnknownError when that is not known and the alert depends on it.
    """
    if view.unknown and alert.target is not None:
        raise _PositionUnknownError(
            f"the outcome of {', '.join(view.unknown)} in {symbol} is not known yet, so what is "
            f"missing to the alert's position is not either; nothing was done, send it again"
        )
    state = executor.state
    resting = [
        order
        for order in map(state.orders.__getitem__, state.live)
        if order.intent.request.symbol == symbol and order.intent.request.type is OrderType.LIMIT
    ]
    buys = [order.remaining for order in resting if order.intent.request.side is Side.BUY]
    return Holding(
        symbol=symbol,
        expected=view.expected,
        limit_buys=sum(buys, Decimal(0)),
        limit_orders=[order.id for order in resting],
        instrument=executor.instruments.get(symbol),
    )


def _answer(
    alert: Alert, submission: Submission, declined: Declined | None, executor: OrderExecutor
) -> Response:
    order = submission.order
    if submission.is_repeat:
        status, message = "repeat", _repeat_message(submission)
    elif order is None:
        assert declined is not None
        status = "nothing_to_do" if declined.is_needless else "refused"
        message = submission.message
    elif order.refusal is not None:
        status = "refused"
        message = f"the order was refused and not sent: {order.refusal.message}"
    else:
        request = order.intent.request
        status = "accepted"
        message = f"{request.side} {views.decimal_text(request.amount)} {request.symbol}"
        if alert.window_ns is not None:
            message += "; it has no id and no time, so a repeat is known as one for 60 s only"
    if order is not None:
        if order.intent.note and not submission.is_repeat:
            message += f"; {order.intent.note}"
        log_order(order, is_repeat=submission.is_repeat)
    if submission.differs:
        logger.warning("an alert under a known identity was ignored", identity=alert.identity)
    if order is None:
        logger.info("alert led to no order", identity=alert.identity, message=message)
    return views.json_response(
        {
            "status": status,
            "order_id": None if order is None else order.id,
            "message": message,
            "order": None if order is None else views.order_view(order, executor.state),
        }
    )


def _repeat_message(submission: Submission) -> str:
    order = submission.order
    if order is None:
        first = f"led to no order: {submission.message}"
    else:
        first = f"led to order {order.id}, which is {order.status.value}"
    said = f"this alert was here before and {first}; nothing was done again"
    if submission.differs:
        said += ". It says something else than the first: give each alert an id of its own"
    return said

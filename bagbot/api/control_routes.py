"""The kill switch, and what a supervisor asks: does it live, does it take orders?"""

from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response

from bagbot.api import schemas, views
from bagbot.api.json_body import FieldError, parsed_object, shown, text_of
from bagbot.api.problems import RETRY_AFTER_S, ProblemError
from bagbot.api.security import CanKill, RequireScope, body_of, system_of
from bagbot.api.tokens import Scope

BODY_BYTES_MAX: Final = 64 * 1024

router = APIRouter(tags=["control"])

_KILL_DOCS: Final[dict[str, Any]] = {
    "requestBody": {
        "required": False,
        "content": {"application/json": {"schema": schemas.KillSwitchBody.model_json_schema()}},
    },
}


@router.get(
    "/kill-switch",
    response_model=schemas.KillSwitchView,
    summary="Show the kill switch",
    responses=schemas.problems(401, 403),
    dependencies=[Depends(RequireScope(Scope.READ))],
)
async def show_kill_switch(request: Request) -> Response:
    """Return whether the kill switch is on, and why; and which symbols may only be reduced."""
    return _kill_switch(request)


@router.post(
    "/kill-switch",
    response_model=schemas.KillSwitchView,
    summary="Turn the kill switch on",
    responses=schemas.problems(400, 401, 403, 413, 422, 503),
    openapi_extra=_KILL_DOCS,
)
async def turn_kill_switch_on(request: Request, token: CanKill) -> Response:
    """Refuse from now on, over restarts, every order that does not reduce a position.

    Open orders stay open; cancel them with DELETE /orders/{id}, which still works.
    """
    raw = await body_of(request, bytes_max=BODY_BYTES_MAX)
    body = parsed_object(raw) if raw.strip() else {}
    for name in body:
        if name != "reason":
            raise FieldError(shown(name), "is no field of this request; reason is the only one")
    told = body.get("reason")
    reason = f"turned on by token {token.id}" if told is None else text_of("reason", told)
    await system_of(request).executor.set_kill_switch(reason, by=f"api:{token.id}")
    return _kill_switch(request)


@router.delete(
    "/kill-switch",
    response_model=schemas.KillSwitchView,
    summary="Turn the kill switch off",
    responses=schemas.problems(401, 403, 503),
)
async def turn_kill_switch_off(request: Request, token: CanKill) -> Response:
    """Take orders again; also of symbols that a contradiction had stopped."""
    await system_of(request).executor.set_kill_switch(None, by=f"api:{token.id}")
    return _kill_switch(request)


@router.get("/health/live", response_model=schemas.HealthView, summary="Does the process run?")
async def show_live() -> Response:
    """Return 200 as long as the event loop turns."""
    return views.json_response({"status": "live"})


@router.get(
    "/health/ready",
    response_model=schemas.HealthView,
    summary="Does it take orders?",
    responses=schemas.problems(503),
)
async def show_ready(request: Request) -> Response:
    """Return 200 when orders are taken, else 503 with the reason; the kill switch is no reason."""
    reason = system_of(request).executor.not_ready_reason
    if reason is not None:
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        raise ProblemError(503, "not-ready", f"no orders are taken: {reason}", headers=headers)
    return views.json_response({"status": "ready"})


def _kill_switch(request: Request) -> Response:
    executor = system_of(request).executor
    return views.json_response(
        {
            "is_on": executor.killed is not None,
            "reason": executor.killed,
            "disputes": dict(executor.disputes),
        }
    )

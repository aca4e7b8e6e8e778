"""Errors as RFC 9457 tells them: application/problem+json, what happened, what to do."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bagbot.api.json_body import FieldError, MalformedBodyError
from bagbot.domain.errors import (
    AuthenticationError,
    BagbotError,
    ConfigError,
    ExchangeError,
    ExchangeUnavailableError,
    InvalidOrderError,
    JournalError,
    NotSupportedError,
    OrderNotFoundError,
    OrderRejectedError,
    RateLimitedError,
)
from bagbot.trading.submission import NotReadyError, OrderConflictError

logger = structlog.get_logger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 5


class ProblemError(Exception):
    """An error that is answered as a problem; `slug` is what clients may rely on."""

    def __init__(
        self,
        status: int,
        slug: str,
        detail: str,
        *,
        members: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail
        self.members = dict(members or {})
        self.headers = dict(headers or {})


def problem_response(problem: ProblemError) -> Response:
    """Return the answer that tells a problem."""
    told = {
        "type": f"urn:bagbot:problem:{problem.slug}",
        "title": problem.slug.replace("-", " ").capitalize(),
        "status": problem.status,
        "detail": problem.detail,
        **problem.members,
    }
    # The standard library's encoder escapes whatever text somebody may have sent.
    return Response(
        json.dumps(told),
        status_code=problem.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


def install(app: Starlette) -> None:
    """Let every error that a route raises be answered as a problem."""
    app.add_exception_handler(ProblemError, _answer)
    app.add_exception_handler(BagbotError, _answer)
    app.add_exception_handler(TimeoutError, _answer)
    app.add_exception_handler(RequestValidationError, _answer)
    app.add_exception_handler(HTTPException, _answer)
    app.add_middleware(LastResort)


class LastResort:
    """Answers with a plain problem where a bug would otherwise show its stack trace."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; what nothing else answered is logged and answered here."""
        has_begun = False

        async def watched_send(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except ClientDisconnect:
            logger.info("the client hung up", path=scope.get("path"))
        except Exception:
            logger.exception("a request failed; this is a bug", path=scope.get("path"))
            if has_begun or scope["type"] != "http":
                raise
            detail = "something went wrong here that should not; the log says what"
            response = problem_response(ProblemError(500, "internal-error", detail))
            await response(scope, receive, send)


async def _answer(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    # Why no orders are taken was logged when it began; whoever asks again and again adds nothing.
    if problem.status >= 500 and problem.slug != "not-ready":
        logger.error(
            "request failed", path=request.url.path, problem=problem.slug, error=str(error)
        )
    return problem_response(problem)


def problem_of(error: Exception) -> ProblemError:
    """Return how an error is told to whoever sent the request."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, HTTPException):
        return _http_problem(error)
    if isinstance(error, RequestValidationError):
        return _parameter_problem(error.errors())
    if isinstance(error, FieldError):
        return ProblemError(422, "invalid-field", str(error), members={"field": error.field})
    if isinstance(error, ExchangeError | TimeoutError):
        return _exchange_problem(error)
    for kind, status, slug in _TABLE:
        if isinstance(error, kind):
            headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}
            return ProblemError(status, slug, _HIDDEN.get(slug) or str(error), headers=headers)
    raise error


_TABLE: Final[Sequence[tuple[type[BagbotError], int, str]]] = (
    (MalformedBodyError, 400, "malformed-body"),
    (InvalidOrderError, 422, "invalid-order"),
    (OrderConflictError, 409, "order-conflict"),
    (NotReadyError, 503, "not-ready"),
    (JournalError, 503, "journal-failed"),
    (ConfigError, 503, "configuration-error"),
    (NotSupportedError, 501, "not-supported"),
)
# Whose own text names files of this machine.
_HIDDEN: Final = {
    "journal-failed": "the journal cannot be written, so nothing can be traded; the log says why",
    "configuration-error": "a file that is needed here cannot be used; the log says which and why",
}


def _exchange_problem(error: ExchangeError | TimeoutError) -> ProblemError:
    said = str(error) or "no answer in time"
    if isinstance(error, RateLimitedError):
        wait_s = max(int(error.retry_after_s or RETRY_AFTER_S), 1)
        detail = f"the exchange takes no more requests for {wait_s} s: {said}"
        headers = {"Retry-After": str(wait_s)}
        return ProblemError(503, "exchange-rate-limit", detail, headers=headers)
    if isinstance(error, ExchangeUnavailableError | TimeoutError):
        detail = f"the exchange cannot be reached now, try again: {said}"
        headers = {"Retry-After": str(RETRY_AFTER_S)}
        return ProblemError(503, "exchange-unavailable", detail, headers=headers)
    if isinstance(error, OrderRejectedError | OrderNotFoundError):
        return ProblemError(409, "exchange-refused", f"the exchange refused: {said}")
    if isinstance(error, AuthenticationError):
        detail = f"the exchange does not accept our key; check it there and here: {said}"
        return ProblemError(502, "exchange-authentication", detail)
    return ProblemError(502, "exchange-error", f"the exchange did not do what was asked: {said}")


def _http_problem(error: HTTPException) -> ProblemError:
    phrase = HTTPStatus(error.status_code).phrase
    details = {
        404: "there is nothing at this path; /docs lists what there is",
        405: "this path does not take this method; the Allow header and /docs say what it takes",
    }
    return ProblemError(
        error.status_code,
        phrase.lower().replace(" ", "-"),
        details.get(error.status_code, str(error.detail)),
        headers=error.headers,
    )


def _parameter_problem(errors: Sequence[Mapping[str, object]]) -> ProblemError:
    """The query or path parameters that FastAPI found wrong."""
    found = []
    for error in errors:
        location = error["loc"]
        field = str(location[-1]) if isinstance(location, tuple) else str(location)
        found.append({"field": field, "detail": str(error["msg"])})
    detail = "; ".join(f"{one['field']}: {one['detail']}" for one in found)
    members = {"field": found[0]["field"], "errors": found}
    return ProblemError(422, "invalid-parameter", detail, members=members)

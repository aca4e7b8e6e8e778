"""Who may come in: bearer tokens, webhook secrets, the Host header, and how much may be sent."""

import hmac
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from bagbot.api.problems import ProblemError, problem_response
from bagbot.api.system import ApiSystem
from bagbot.api.tokens import Scope, Token

BEARER: Final = "bearer"
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})


def system_of(request: Request) -> ApiSystem:
    """Return what the application was built with."""
    system = request.app.state.system
    assert isinstance(system, ApiSystem)
    return system


def authorized(request: Request, scope: Scope) -> Token:
    """Return the request's token, which has `scope`.

    Raises ProblemError: 401 without a valid token, 403 when it lacks the scope.
    """
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not text:
        detail = (
            "send your token in the header `Authorization: Bearer bb_...`; "
            "`bagbot token create` makes one"
        )
        challenge = {"WWW-Authenticate": 'Bearer realm="bagbot"'}
        raise ProblemError(401, "token-missing", detail, headers=challenge)
    token = system_of(request).tokens.verify(text.strip())
    if token is None:
        detail = "this token is not valid (any more); `bagbot token create` makes a new one"
        challenge = {"WWW-Authenticate": 'Bearer realm="bagbot", error="invalid_token"'}
        raise ProblemError(401, "token-invalid", detail, headers=challenge)
    if not token.allows(scope):
        own = ", ".join(sorted(token.scopes))
        detail = f"this needs a token with the scope {scope.value}; yours has {own}"
        error = f'Bearer realm="bagbot", error="insufficient_scope", scope="{scope.value}"'
        raise ProblemError(
            403,
            "scope-missing",
            detail,
            members={"scope": scope.value},
            headers={"WWW-Authenticate": error},
        )
    return token


class RequireScope(SecurityBase):
    """A dependency that lets only tokens with a scope in, and shows so in the OpenAPI page."""

    def __init__(self, scope: Scope) -> None:
        self.model = HTTPBearer(description="A token of the form bb_<id>_<secret>.")
        self.scheme_name = BEARER
        self._scope = scope

    async def __call__(self, request: Request) -> Token:
        """Return the request's token; `async` so that it needs no thread."""
        return authorized(request, self._scope)


CanKill = Annotated[Token, Depends(RequireScope(Scope.KILL))]


def is_webhook_secret(sent: object, secrets: Sequence[str]) -> bool:
    """Return whether `sent` is one of the secrets; takes as long whichever it is, if any."""
    text = sent.encode(errors="surrogatepass") if isinstance(sent, str) else b""
    found = False
    for secret in secrets:
        found |= bool(secret) and hmac.compare_digest(text, secret.encode())
    return found


async def body_of(request: Request, *, bytes_max: int) -> bytes:
    """Return the request's body, reading no more of it than `bytes_max`.

    Raises ProblemError 413 when there is more.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > bytes_max:
            detail = f"the body may have {bytes_max} bytes at most"
            raise ProblemError(413, "body-too-large", detail, headers={"Connection": "close"})
    return bytes(body)


class HostGuard:
    """Lets through only requests for a name of ours.

    A web page that rebinds its own name to this machine sends its own name.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = _LOOPBACK | {host_name(host) for host in hosts}

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Serve a request for one of our names, and answer any other with a problem."""
        if scope["type"] == "http":
            problem = self._problem([value for name, value in scope["headers"] if name == b"host"])
            if problem is not None:
                await problem_response(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _problem(self, sent: Sequence[bytes]) -> ProblemError | None:
        if len(sent) != 1:
            return ProblemError(400, "host-missing", "send exactly one Host header")
        if host_name(sent[0].decode("latin-1")) in self._hosts:
            return None
        detail = (
            "this name is not one of this server's; if it is yours, "
            "add it to the allowed hosts in the settings"
        )
        return ProblemError(421, "unknown-host", detail)


def host_name(host: str) -> str:
    """Return the name in a Host header: lower case, without port and final dot.

    >>> host_name("Localhost:8000"), host_name("[::1]:8000"), host_name("::1")
    ('localhost', '[::1]', '[::1]')
    """
    text = host.strip().lower()
    if text.count(":") > 1 and not text.startswith("["):
        return f"[{text}]"
    name, colon, port = text.rpartition(":")
    if colon and port.isdecimal():
        text = name
    return text.removesuffix(".")

"""The web application: routes, guards and problems put together."""

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from bagbot import __version__
from bagbot.api import control_routes, order_routes, problems, tradingview_routes
from bagbot.api.security import HostGuard
from bagbot.api.system import ApiSystem

_DESCRIPTION = """
Turns a decision to trade into exactly one order. Every number in an answer is a text in plain
digits; every error is an RFC 9457 problem that says what happened and what to do.
"""


class Application(FastAPI):
    """FastAPI, with a shorter way for alerts.

    An alert needs nothing of what FastAPI does around a route (telemetry, dependencies, several
    stacks of contexts), which costs more than reading the alert and judging the order together.
    """

    alerts: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] == tradingview_routes.PATH:
            await self.alerts(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def application(system: ApiSystem) -> FastAPI:
    """Return the web application that serves `system`."""
    app = Application(
        title="bagbot",
        version=__version__,
        description=_DESCRIPTION.strip(),
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(order_routes.router)
    app.include_router(control_routes.router)
    # Its route here is for the API's own page only.
    app.include_router(tradingview_routes.router)
    handler = tradingview_routes.receive_alert
    alerts = Starlette(routes=[Route(tradingview_routes.PATH, handler, methods=["POST"])])
    app.alerts = alerts
    for part in (app, alerts):
        part.state.system = system
        part.add_middleware(HostGuard, hosts=system.hosts)
        problems.install(part)
    return app

"""The HTTP API and the TradingView webhook: `create_app(system)` returns the application.

Light on purpose: FastAPI is loaded by the call, so that whoever needs only the tokens
(`bagbot.api.tokens`) does not pay for it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from bagbot.api.system import ApiSystem


def create_app(system: "ApiSystem") -> "FastAPI":
    """Return the web application that serves `system`."""
    from bagbot.api.application import application

    return application(system)

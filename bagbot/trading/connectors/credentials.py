"""Where API keys come from, and the second switch that live trading needs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from dotenv import dotenv_values, find_dotenv

from bagbot.domain.errors import ConfigError

LIVE_SWITCH: Final = "BAGBOT_ALLOW_LIVE"


@dataclass(frozen=True, slots=True)
class Credentials:
    """An API key and its secret; neither is ever printed."""

    api_key: str = field(default="", repr=False)
    api_secret: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.api_key)


def settings_around() -> Mapping[str, str]:
    """Return the environment on top of the nearest `.env`, in the working folder or above it.

    The file is only read: what it holds does not become part of the environment, from where
    child processes and crash reports would get it.
    """
    path = find_dotenv(usecwd=True)
    values = {k: v for k, v in dotenv_values(path).items() if v} if path else {}
    return {**values, **{k: v for k, v in os.environ.items() if v}}


def find_credentials(
    prefix: str, api_key: str | None, api_secret: str | None, settings: Mapping[str, str]
) -> Credentials:
    """Return the key given, else `<prefix>_API_KEY` and `<prefix>_API_SECRET`, else an empty one.

    Raises ConfigError when only one half is there: two halves from two places never fit.
    """
    if api_key or api_secret:
        found = Credentials(api_key or "", api_secret or "")
        where = "api_key and api_secret"
    else:
        key_name, secret_name = f"{prefix}_API_KEY", f"{prefix}_API_SECRET"
        found = Credentials(settings.get(key_name, ""), settings.get(secret_name, ""))
        where = f"{key_name} and {secret_name}"
    if bool(found.api_key) != bool(found.api_secret):
        raise ConfigError(f"{where} belong together: one of them is missing")
    return found


def require_live_switch(venue: str) -> None:
    """Raise ConfigError unless the environment itself, not a file, says that live is meant."""
    if os.environ.get(LIVE_SWITCH) != "yes":
        raise ConfigError(
            f"{venue} trades real money: set {LIVE_SWITCH}=yes in the environment if that is "
            f"meant, or stay on the test venue with testnet=True"
        )

"""Log lines: what is in one, and what never is."""

import logging
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog

_SECRET_FIELDS: Final = frozenset({"secret", "api_secret", "signature", "token", "api_key"})


def configure_logging(write: Callable[[str], object], level: int = logging.INFO) -> None:
    """Send every log line of at least `level` to `write`, without secrets."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _without_secrets,
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _LineLogger(write),
        cache_logger_on_first_use=False,
    )


class _LineLogger:
    """What structlog needs at its end: something that takes finished lines."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = write
        self.exception = self.msg = write


def _without_secrets(
    logger: object, method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {name: "***" if name in _SECRET_FIELDS else value for name, value in fields.items()}

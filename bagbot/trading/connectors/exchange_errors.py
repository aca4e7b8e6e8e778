"""What a failed call means for the caller, and how it is told without any secret in it.

Only evidence counts: was anything sent, which HTTP status and which code came back, in which
words. After a write (an order or a cancel) whatever is not understood is "outcome unknown".
"""

import re
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from bagbot.domain.errors import (
    AuthenticationError,
    ExchangeError,
    ExchangeUnavailableError,
    OrderNotFoundError,
    OrderRejectedError,
    OutcomeUnknownError,
    RateLimitedError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the exchange answered to a call that failed, as it came."""

    http_status: int
    headers: Mapping[str, str]
    body: str
    content: object

    @property
    def retry_after_s(self) -> float | None:
        """What the Retry-After header says in seconds, or None when there is none."""
        for name, value in self.headers.items():
            if name.lower() == "retry-after":
                try:
                    return max(0.0, float(value))
                except ValueError:
                    return None
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A call that failed: what it was, how far it got, and what is known of the reason.

    `was_sent` is False only when certainly not one byte of the request left. `ccxt_error` is the
    exception, whose class is a hint where no code of the exchange's own is known.
    """

    what: str
    is_write: bool
    was_sent: bool
    words: str
    code: int | str | None = None
    http_status: int | None = None
    retry_after_s: float | None = None
    ccxt_error: BaseException | None = None

    @property
    def is_answered_without_doubt(self) -> bool:
        """The exchange itself answered, and not that it had lost sight of the request."""
        status = self.http_status
        return status is not None and status < 500 and status != 408


Verdict = type[ExchangeError] | None
Classify = Callable[[Failure], Verdict]

_RATE_STATUSES: Final = frozenset({403, 418, 429})
_ADVICE: Final[Mapping[type[ExchangeError], tuple[str, str]]] = {
    OrderRejectedError: (
        "The exchange refused it, finally: nothing was placed.",
        "The exchange refused it, finally.",
    ),
    OrderNotFoundError: (
        "The exchange does not have it open (any more): fetch the order to see how it ended.",
        "The exchange does not know it, or not yet: right after an order, ask again.",
    ),
    AuthenticationError: (
        "Nothing was accepted. Check the key, its rights, and that it is this venue's.",
        "Check the key, its rights, and that it is this venue's.",
    ),
    RateLimitedError: (
        "Nothing was accepted; send nothing before the wait is over.",
        "Send nothing before the wait is over.",
    ),
    ExchangeUnavailableError: (
        "Certainly nothing was accepted: a new attempt, with a new id, may go out.",
        "Nothing was changed by it: ask again.",
    ),
    OutcomeUnknownError: (
        "It may have been accepted all the same: look it up, do not send it again.",
        "",
    ),
    ExchangeError: ("", "The exchange refused to answer."),
}


def to_error(failure: Failure, classify: Classify) -> ExchangeError:
    """Return the error that tells the caller what to do; `classify` knows the exchange's codes."""
    kind = _kind(failure, classify)
    after_write, after_read = _ADVICE[kind]
    parts = [f"HTTP {failure.http_status}" if failure.http_status is not None else ""]
    parts.append(f"code {failure.code}" if failure.code is not None else "")
    details = ", ".join(part for part in parts if part)
    message = f"{failure.what}: {failure.words.rstrip('.')}" + (f" ({details})" if details else "")
    message = f"{message}. {after_write if failure.is_write else after_read}".rstrip()
    if kind is RateLimitedError:
        return RateLimitedError(
            message,
            retry_after_s=failure.retry_after_s,
            code=failure.code,
            http_status=failure.http_status,
        )
    return kind(message, code=failure.code, http_status=failure.http_status)


def _kind(failure: Failure, classify: Classify) -> type[ExchangeError]:
    if failure.http_status is None and not failure.was_sent:
        return ExchangeUnavailableError
    verdict = classify(failure)
    if verdict is not None:
        return verdict
    if failure.http_status in _RATE_STATUSES:
        return RateLimitedError
    if failure.is_write:
        return OutcomeUnknownError
    return ExchangeError if failure.is_answered_without_doubt else ExchangeUnavailableError


BEFORE_SENDING: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    socket.gaierror,
)


def never_left(error: BaseException) -> bool:
    """Return whether the connection was not even made, so that no byte of the request left.

    Only the direct cause counts. The context may be a caller's own, older error.
    """
    return isinstance(error.__cause__, BEFORE_SENDING)


def redact(error: BaseException, *secrets: str | None) -> None:
    """Take secrets, signatures and signed URLs out of an exception and of all that led to it.

    CCXT puts the whole signed URL into its texts, and a traceback prints every link of the chain.
    """
    for link in _chain(error):
        link.args = tuple(
            redacted(argument, *secrets) if isinstance(argument, str) else argument
            for argument in link.args
        )


_URL_QUERY: Final = re.compile(r"(\b(?:https?|wss?)://[^\s?'\"]+)\?[^\s'\"]*")
_SECRET_FIELD: Final = re.compile(r"(?i)\b(signature|api-?key|listenKey|secret)=[^&\s'\"]+")


def redacted(text: str, *secrets: str | None) -> str:
    """Return `text` without the queries of URLs, signatures, and the given secrets.

    >>> redacted("binance GET https://x.test/order?symbol=A&signature=5d timed out")
    'binance GET https://x.test/order?... timed out'
    """
    text = _SECRET_FIELD.sub(r"\1=...", _URL_QUERY.sub(r"\1?...", text))
    for secret in secrets:
        if secret:
            text = text.replace(secret, "...")
    return text


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [link.__cause__, link.__context__]

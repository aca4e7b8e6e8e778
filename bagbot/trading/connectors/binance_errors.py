"""Binance's error codes, and what each means for an order.

https://developers.binance.com/docs/binance-spot-api-docs/errors and the USD-M futures' own list.
Whatever is not named here is left to the default, which after a write is "outcome unknown".
"""

from collections.abc import Mapping
from typing import Final

from bagbot.domain.errors import (
    AuthenticationError,
    ExchangeError,
    ExchangeUnavailableError,
    OrderNotFoundError,
    OrderRejectedError,
    OutcomeUnknownError,
    RateLimitedError,
)
from bagbot.trading.connectors.exchange_errors import Failure, Verdict

TOO_MANY_ORDERS: Final = -1015
TIMESTAMP_OUTSIDE: Final = -1021
BAD_SIGNATURE: Final = -1022
_TOO_MANY: Final = frozenset({-1003, TOO_MANY_ORDERS})
_BAD_KEY: Final = frozenset({-1002, -2008, -2014, -2015})
_NOT_FOUND: Final = frozenset({-2011, -2013, -2026})
_DUPLICATE: Final = frozenset({-4116, -20132})
_OVERLOADED: Final = -1008
# -1013: never reached the matching engine; -11xx: a parameter; -2010: the engine refused it.
_REJECTED: Final = frozenset({-1013, TIMESTAMP_OUTSIDE, BAD_SIGNATURE, -2010, -2039})
_REJECTED_FUTURES: Final = frozenset(
    {-2018, -2019, -2020, -2021, -2022, -2025, -2027, -2028, -4400, -5021, -5022, -5028}
)
# Futures answer 503 with three texts; these two say that the request failed for certain.
_FUTURES_503_FAILED: Final = (
    "service unavailable.",
    "internal error; unable to process your request. please try again.",
)


def code_and_words(content: object, body: str) -> tuple[int | None, str]:
    """Return Binance's own code and words from the answer's JSON, else its text."""
    if isinstance(content, Mapping) and "code" in content:
        try:
            return int(content["code"]), str(content.get("msg", ""))
        except ValueError:
            return None, str(content.get("msg", ""))
    return None, " ".join(body.split())[:200] or "an empty answer"


def classify(failure: Failure, *, is_futures: bool) -> Verdict:
    """Return what status, code and words together mean; None where they leave it open."""
    code, status = failure.code, failure.http_status
    if code in _TOO_MANY or status in (418, 429):
        return RateLimitedError
    if not failure.is_answered_without_doubt:
        return _classify_lost(failure, is_futures=is_futures)
    if code in _BAD_KEY or status == 401:
        return AuthenticationError
    if code in _NOT_FOUND:
        return _classify_not_found(failure)
    if _is_duplicate(failure):
        return OutcomeUnknownError if failure.is_write else ExchangeError
    if isinstance(code, int) and _is_rejected(code, is_futures=is_futures):
        return _rejected(code, is_write=failure.is_write)
    return None


def _classify_lost(failure: Failure, *, is_futures: bool) -> Verdict:
    words = failure.words.strip().lower()
    has_failed = failure.code == _OVERLOADED or (
        failure.http_status == 503 and words in _FUTURES_503_FAILED
    )
    # On spot a 5xx never says whether the order was taken, whatever its words.
    return ExchangeUnavailableError if is_futures and has_failed else None


def _classify_not_found(failure: Failure) -> Verdict:
    # -2011 also says that an order that is there was not cancelled, for a reason.
    if failure.code == -2011 and "unknown order" not in failure.words.lower():
        return OrderRejectedError if failure.is_write else ExchangeError
    return OrderNotFoundError


def _is_duplicate(failure: Failure) -> bool:
    # The id is taken by an OPEN order: an earlier attempt of ours was accepted.
    return failure.code in _DUPLICATE or (
        failure.code == -2010 and "duplicate order" in failure.words.lower()
    )


def _is_rejected(code: int, *, is_futures: bool) -> bool:
    if code in _REJECTED or -1199 <= code <= -1100:
        return True
    return is_futures and (code in _REJECTED_FUTURES or -4199 <= code <= -4000)


def _rejected(code: int, *, is_write: bool) -> type[ExchangeError]:
    if is_write:
        return OrderRejectedError
    # The clock has been measured anew by then: the same question may be asked again.
    return ExchangeUnavailableError if code == TIMESTAMP_OUTSIDE else ExchangeError

"""A script of faults: which requests and events go wrong, how often, and in what way.

Pure: it only says what should happen to a request or an event; the server does it. The first
fault that matches is used up by one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class FaultKind(StrEnum):
    """What happens to a request, or to an event on its way to one connection."""

    DELAY_ANSWER = "delay_answer"  # carried out at once, answered after delay_s
    DELAY_BEFORE = "delay_before"  # carried out after delay_s
    LOSE_ANSWER = "lose_answer"  # carried out, then the connection is cut
    LOSE_REQUEST = "lose_request"  # not carried out, the connection is cut
    ANSWER = "answer"  # carried out, answered with `status` and `body`
    REFUSE = "refuse"  # not carried out, answered with `status` and `body`
    HIDE = "hide"  # an order that exists is answered with -2013
    CUT = "cut"  # instead of the event the connection is cut, without a closing handshake
    HALF_OPEN = "half_open"  # from this event on the connection gets pings, but no event
    DROP = "drop"  # the event is not sent
    DUPLICATE = "duplicate"  # the event is sent twice
    DELAY = "delay"  # the event, and what comes after it, is sent delay_s later
    REORDER = "reorder"  # the event is sent after the connection's next one


class FaultError(Exception):
    """A fault is described wrongly."""


STREAM = "STREAM"
"""The `method` of an event. Its `path` is "user", or the name of a public stream."""

_STREAM_KINDS = frozenset(
    {
        FaultKind.CUT,
        FaultKind.HALF_OPEN,
        FaultKind.DROP,
        FaultKind.DUPLICATE,
        FaultKind.DELAY,
        FaultKind.REORDER,
    }
)
_ORDER_QUERIES = (("GET", "/api/v3/order"), ("WS", "order.status"))


@dataclass(slots=True, kw_only=True)
class Fault:
    """One line of the script. On the WebSocket API `method` is "WS" and `path` its method.

    It passes over the first `after` requests or events it fits, then concerns `count` of them.
    """

    kind: FaultKind
    method: str | None = None
    path: str | None = None
    symbol: str | None = None
    client_order_id: str | None = None
    count: int = 1
    after: int = 0
    delay_s: float = 0.0
    status: int = 503
    body: Mapping[str, object] = field(default_factory=dict)
    retry_after_s: int | None = None

    def matches(
        self, method: str, path: str, symbol: str | None, client_order_id: str | None
    ) -> bool:
        """Return whether the fault applies to a request or event; what it leaves open fits all."""
        if (self.kind in _STREAM_KINDS) is not (method == STREAM):
            return False
        if self.kind is FaultKind.HIDE and (method, path) not in _ORDER_QUERIES:
            return False
        return (
            self.count > 0
            and self.method in (None, method)
            and self.path in (None, path)
            and self.symbol in (None, symbol)
            and self.client_order_id in (None, client_order_id)
        )


# What Binance says when its backend did not answer in time: the outcome is not known.
_TIMEOUT_BODY = {
    "code": -1007,
    "msg": "Timeout waiting for response from backend server. "
    "Send status unknown; execution status unknown.",
}
HIDDEN_BODY = {"code": -2013, "msg": "Order does not exist."}


def fault_from(description: Mapping[str, object]) -> Fault:
    """Return the fault that JSON describes.

    Raises FaultError.
    """
    known = set(Fault.__slots__)
    unknown = sorted(set(description) - known)
    if unknown:
        raise FaultError(f"unknown field: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    try:
        kind = FaultKind(str(description.get("kind")))
    except ValueError as error:
        raise FaultError(f"kind must be one of: {', '.join(FaultKind)}") from error
    method = _text(description, "method")
    if method is not None and (kind in _STREAM_KINDS) is not (method == STREAM):
        raise FaultError(f"{kind} does not happen to {method}: events are {STREAM}")
    return Fault(
        kind=kind,
        method=method,
        path=_text(description, "path"),
        symbol=_text(description, "symbol"),
        client_order_id=_text(description, "client_order_id"),
        count=_whole(description, "count", 1, 1, 10**9),
        after=_whole(description, "after", 0, 0, 10**9),
        delay_s=_seconds(description),
        status=_whole(description, "status", 503, 200, 599),
        body=_body(description, kind),
        retry_after_s=_whole(description, "retry_after_s", 0, 0, 10**6) or None,
    )


class FaultScript:
    """The faults still to come."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Append a fault; earlier ones go first."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def pending(self) -> list[Fault]:
        """Return the faults that can still happen."""
        return list(self._faults)

    def take(
        self, method: str, path: str, symbol: str | None, client_order_id: str | None
    ) -> Fault | None:
        """Return what happens to this request or event, and count it."""
        for fault in self._faults:
            if fault.matches(method, path, symbol, client_order_id):
                if fault.after:
                    fault.after -= 1
                    continue
                fault.count -= 1
                if fault.count == 0:
                    self._faults.remove(fault)
                return fault
        return None


def _text(description: Mapping[str, object], name: str) -> str | None:
    value = description.get(name)
    if value is not None and not isinstance(value, str):
        raise FaultError(f"{name} must be text")
    return value


def _whole(
    description: Mapping[str, object], name: str, default: int, minimum: int, maximum: int
) -> int:
    value = description.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise FaultError(f"{name} must be a whole number from {minimum} to {maximum}")
    return value


def _seconds(description: Mapping[str, object]) -> float:
    value = description.get("delay_s", 0.0)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 3_600:
        raise FaultError("delay_s must be a number from 0 to 3600")
    return float(value)


def _body(description: Mapping[str, object], kind: FaultKind) -> Mapping[str, object]:
    value = description.get("body")
    if value is None:
        return HIDDEN_BODY if kind is FaultKind.HIDE else _TIMEOUT_BODY
    if not isinstance(value, dict):
        raise FaultError("body must be an object")
    return value

"""A script of faults: which requests and events go wrong, how often, and in what way.

Pure: it only says what should happen to a request or an event; the server does it. Chance and
time are handed in. The first fault that matches, and that its chance lets happen, is used up by
one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from bagbot.simulator.amounts import amount_from_text, amount_text


class FaultKind(StrEnum):
    """What happens to a request, or to an event on its way to one connection."""

    DELAY_ANSWER = "delay_answer"  # carried out at once, answered after delay_s
    DELAY_BEFORE = "delay_before"  # carried out after delay_s
    LOSE_ANSWER = "lose_answer"  # carried out, then the connection is cut
    LOSE_REQUEST = "lose_request"  # not carried out, the connection is cut
    ANSWER = "answer"  # carried out, answered with `status` and `body`
    REFUSE = "refuse"  # not carried out, answered with `status` and `body`
    LATE = "late"  # answered with `status` and `body`, carried out later
    REPEAT = "repeat"  # carried out twice, as if the network had delivered it again
    FILL_FIRST = "fill_first"  # the order that is about to be cancelled trades just before
    TRUNCATE = "truncate"  # carried out, the answer breaks off in the middle
    GARBLE = "garble"  # carried out, the answer is not JSON
    EMBELLISH = "embellish"  # carried out, the answer has fields that nobody knows
    HIDE = "hide"  # an order that exists is answered with -2013
    STALE = "stale"  # orders are shown as they were when they had just been accepted
    OMIT = "omit"  # a list lacks one order or trade
    OVERLAP = "overlap"  # a page begins with the row before the one asked for
    RENAME = "rename"  # a cancelled order goes by the client id of its cancellation
    OLDEST = "oldest"  # a client id used twice finds the older order
    CUT = "cut"  # instead of the event the connection is cut, without a closing handshake
    HALF_OPEN = "half_open"  # from this event on the connection gets pings, but no event
    DROP = "drop"  # the event is not sent
    DUPLICATE = "duplicate"  # the event is sent twice
    DELAY = "delay"  # the event, and what comes after it, is sent delay_s later
    REORDER = "reorder"  # the event is sent after the next one: of an order, if it is of one


class FaultError(Exception):
    """A fault is described wrongly."""


STREAM = "STREAM"
"""The `method` of an event. Its `path` is "user", or the name of a public stream."""

CONNECT = "CONNECT"
"""The `method` of a WebSocket handshake, which only faults that say so concern."""

_CONNECT_KINDS = (FaultKind.REFUSE, FaultKind.LOSE_REQUEST)
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

_V3 = "/api/v3/"


def _group(rest_method: str, rest_paths: str, socket_methods: str) -> frozenset[tuple[str, str]]:
    rest = {(rest_method, _V3 + path) for path in rest_paths.split()}
    return frozenset(rest | {("WS", method) for method in socket_methods.split()})


_ORDERS = _group(
    "POST",
    "order order/cancelReplace orderList/oco orderList/oto orderList/otoco",
    "order.place order.cancelReplace orderList.place.oco orderList.place.oto orderList.place.otoco",
)
_CANCELS = _group(
    "DELETE", "order openOrders orderList", "order.cancel openOrders.cancelAll orderList.cancel"
)
_ORDER_QUERIES = _group("GET", "order", "order.status")
_OPEN_ORDERS = _group("GET", "openOrders", "openOrders.status")
_HISTORY = _group("GET", "allOrders myTrades", "allOrders myTrades")
_READS = (
    _ORDER_QUERIES
    | _OPEN_ORDERS
    | _HISTORY
    | _group("GET", "account orderList allOrderList openOrderList rateLimit/order", "")
    | _group("GET", "", "account.status orderList.status allOrderLists openOrderLists.status")
    | _group("GET", "account/commission", "account.commission account.rateLimits.orders")
)
ENDPOINT_GROUPS: Mapping[str, frozenset[tuple[str, str]]] = {
    "orders": _ORDERS,
    "cancels": _CANCELS,
    "order_queries": _ORDER_QUERIES,
    "open_orders": _OPEN_ORDERS,
    "history": _HISTORY,
    "reads": _READS,
    "signed": _ORDERS
    | _CANCELS
    | _READS
    | _group("POST", "order/test", "order.test session.logon userDataStream.subscribe.signature"),
}
"""What the `on` of a fault may name: endpoints of one purpose, over REST and WebSocket alike."""

# What a fault of these kinds can happen to, whatever else is said.
_ONLY_ON = {
    FaultKind.HIDE: _ORDER_QUERIES,
    FaultKind.OLDEST: _ORDER_QUERIES,
    FaultKind.FILL_FIRST: _CANCELS,
    FaultKind.STALE: _READS,
    FaultKind.RENAME: _READS,
    FaultKind.OMIT: _OPEN_ORDERS | _HISTORY,
    FaultKind.OVERLAP: _HISTORY,
}


def _certain() -> float:
    return 0.0


@dataclass(slots=True, kw_only=True)
class Fault:
    """One line of the script. On the WebSocket API `method` is "WS" and `path` its method.

    It passes over the first `after` requests or events it fits, then concerns `count` of them
    (None: all), each with `probability`, until `for_s` after it was added.
    """

    kind: FaultKind
    fault_class: str | None = None
    method: str | None = None
    path: str | None = None
    on: str | None = None
    symbol: str | None = None
    client_order_id: str | None = None
    count: int | None = 1
    after: int = 0
    probability: float = 1.0
    seed: int | None = None
    for_s: float | None = None
    delay_s: float = 0.0
    status: int = 503
    body: Mapping[str, object] = field(default_factory=dict)
    # What is sent in place of JSON, as by a firewall in front of the exchange.
    text: str | None = None
    retry_after_s: int | None = None
    # How many queries must have missed an order before it is carried out late.
    queries: int = 0
    # How much trades before a cancellation, in 1e-8; zero for everything that is left.
    quantity: int = 0
    happened: int = 0
    draw: Callable[[], float] = field(default=_certain, repr=False)
    ends_s: float | None = field(default=None, repr=False)

    def matches(
        self, method: str, path: str, symbol: str | None, client_order_id: str | None
    ) -> bool:
        """Return whether the fault applies to a request or event; what it leaves open fits all."""
        if (self.kind in _STREAM_KINDS) is not (method == STREAM):
            return False
        if method == CONNECT and self.method != CONNECT:
            return False
        only_on = _ONLY_ON.get(self.kind)
        if only_on is not None and (method, path) not in only_on:
            return False
        if self.on is not None and (method, path) not in ENDPOINT_GROUPS[self.on]:
            return False
        return (
            self.count != 0
            and self.method in (None, method)
            and self.path in (None, path)
            and self.symbol in (None, symbol)
            # The list as a whole is asked for; the id says which of its rows is missing.
            and (self.kind is FaultKind.OMIT or self.client_order_id in (None, client_order_id))
        )

    def description(self) -> dict[str, object]:
        """Return the fault as JSON tells it, `class` included."""
        hidden = ("draw", "ends_s", "fault_class")
        told = {name: getattr(self, name) for name in Fault.__slots__ if name not in hidden}
        return {"class": self.fault_class} | told | {"quantity": amount_text(self.quantity)}


_FIELDS = (frozenset(Fault.__slots__) | {"class"}) - {"happened", "draw", "ends_s", "fault_class"}

# What Binance says when its backend did not answer in time: the outcome is not known.
TIMEOUT_BODY = {
    "code": -1007,
    "msg": "Timeout waiting for response from backend server. "
    "Send status unknown; execution status unknown.",
}
HIDDEN_BODY = {"code": -2013, "msg": "Order does not exist."}


def fault_from(description: Mapping[str, object]) -> Fault:
    """Return the fault that JSON describes.

    Raises FaultError.
    """
    unknown = sorted(set(description) - _FIELDS)
    if unknown:
        known = ", ".join(sorted(_FIELDS))
        raise FaultError(f"unknown field: {', '.join(unknown)}; known: {known}")
    try:
        kind = FaultKind(str(description.get("kind")))
    except ValueError as error:
        raise FaultError(f"kind must be one of: {', '.join(FaultKind)}") from error
    method = _text(description, "method")
    if method is not None and (kind in _STREAM_KINDS) is not (method == STREAM):
        raise FaultError(f"{kind} does not happen to {method}: events are {STREAM}")
    if method == CONNECT and kind not in _CONNECT_KINDS:
        raise FaultError(f"{CONNECT} can only {' or '.join(_CONNECT_KINDS)}")
    on = _text(description, "on")
    if on is not None and on not in ENDPOINT_GROUPS:
        raise FaultError(f"on must be one of: {', '.join(ENDPOINT_GROUPS)}")
    return Fault(
        kind=kind,
        fault_class=_text(description, "class"),
        method=method,
        path=_text(description, "path"),
        on=on,
        symbol=_text(description, "symbol"),
        client_order_id=_text(description, "client_order_id"),
        count=_count(description),
        after=_whole(description, "after", 0, 0, 10**9),
        probability=_number(description, "probability", 1.0, 1),
        seed=_seed(description),
        for_s=_duration(description),
        delay_s=_number(description, "delay_s", 0.0, 3_600),
        status=_whole(description, "status", 503, 200, 599),
        body=_body(description, kind),
        text=_text(description, "text"),
        retry_after_s=_whole(description, "retry_after_s", 0, 0, 10**6) or None,
        queries=_whole(description, "queries", 0, 0, 10**6),
        quantity=_quantity(description),
    )


class FaultScript:
    """The faults still to come.

    `chance_of` makes the generator of numbers from 0 to 1 by which a fault happens or not: the
    first fault added is asked for with 0, the next with 1, or with its own seed. So each decides
    by itself, alike for the same seed and the same requests. `clock_s` ends what lasts a time.
    """

    def __init__(
        self,
        chance_of: Callable[[int, int | None], Callable[[], float]] | None = None,
        clock_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._faults: list[Fault] = []
        self._chance_of = chance_of
        self._clock_s = clock_s
        self._added = 0
        self.happened: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, fault: Fault) -> None:
        """Append a fault; earlier ones go first."""
        if self._chance_of is not None:
            fault.draw = self._chance_of(self._added, fault.seed)
        if fault.for_s is not None:
            fault.ends_s = self._clock_s() + fault.for_s
        self._added += 1
        self._faults.append(fault)

    def clear(self) -> None:
        """Forget all faults; those added from now on draw the same numbers again."""
        self._faults.clear()
        self._added = 0

    def pending(self) -> list[Fault]:
        """Return the faults that can still happen."""
        self._forget_ended()
        return list(self._faults)

    def take(
        self, method: str, path: str, symbol: str | None, client_order_id: str | None
    ) -> Fault | None:
        """Return what happens to this request or event, and count it."""
        if not self._faults:
            return None
        self._forget_ended()
        for fault in self._faults:
            if not fault.matches(method, path, symbol, client_order_id):
                continue
            if fault.after:
                fault.after -= 1
                continue
            if fault.probability < 1 and fault.draw() >= fault.probability:
                continue
            self._use(fault)
            return fault
        return None

    def count(self, name: str) -> None:
        """Count that a fault of this class, or else of this kind, has happened."""
        self.happened[name] = self.happened.get(name, 0) + 1

    def remaining_s(self, fault: Fault) -> float | None:
        """Return how much longer a fault lasts, or None when time does not end it."""
        return None if fault.ends_s is None else max(fault.ends_s - self._clock_s(), 0.0)

    def _use(self, fault: Fault) -> None:
        fault.happened += 1
        self.count(fault.fault_class or fault.kind.value)
        if fault.count is not None:
            fault.count -= 1
            if fault.count == 0:
                self._faults.remove(fault)

    def _forget_ended(self) -> None:
        if any(fault.ends_s is not None for fault in self._faults):
            now_s = self._clock_s()
            self._faults = [
                fault for fault in self._faults if fault.ends_s is None or now_s < fault.ends_s
            ]


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


def _count(description: Mapping[str, object]) -> int | None:
    """Return how often; an explicit null means without end."""
    if "count" in description and description["count"] is None:
        return None
    return _whole(description, "count", 1, 1, 10**9)


def _seed(description: Mapping[str, object]) -> int | None:
    if description.get("seed") is None:
        return None
    return _whole(description, "seed", 0, 0, 2**63)


def _duration(description: Mapping[str, object]) -> float | None:
    if description.get("for_s") is None:
        return None
    return _number(description, "for_s", 0.0, 10**6)


def _number(description: Mapping[str, object], name: str, default: float, maximum: int) -> float:
    value = description.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= maximum:
        raise FaultError(f"{name} must be a number from 0 to {maximum}")
    return float(value)


def _quantity(description: Mapping[str, object]) -> int:
    text = _text(description, "quantity")
    try:
        return 0 if text is None else amount_from_text(text)
    except ValueError as error:
        raise FaultError("quantity must be a number with at most 8 decimals, as text") from error


def _body(description: Mapping[str, object], kind: FaultKind) -> Mapping[str, object]:
    value = description.get("body")
    if value is None:
        return HIDDEN_BODY if kind is FaultKind.HIDE else TIMEOUT_BODY
    if not isinstance(value, dict):
        raise FaultError("body must be an object")
    return value

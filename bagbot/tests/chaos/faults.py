"""What can go wrong between the engine and the exchange, class by class, drawn by seed.

A seed has a handful of classes active, each often; another seed has others. `healed` ends all.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

WRITE, READ, STREAM, WORLD = "write", "read", "stream", "world"

UNKNOWN_503: Final = "Unknown error, please check your request or try again later."
BODIES_503: Final = (
    {"code": -1000, "msg": UNKNOWN_503},
    {"code": -1000, "msg": "Service Unavailable."},
    {"code": -1000, "msg": "Internal error; unable to process your request. Please try again."},
    {"code": -1008, "msg": "Server is currently overloaded with other requests."},
)


@dataclass(frozen=True, slots=True)
class Prescribed:
    """An answer that a fault puts in the place of the exchange's own."""

    status: int
    body: Mapping[str, object] | str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.body if isinstance(self.body, str) else json.dumps(self.body)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one request fares: what of it arrives, when, and what comes back.

    `reach`: once, never, late (executed by the matching engine `late_s` later), twice.
    `answer`: own, silence, reset, unconnected, truncated, unreadable, more fields, or prescribed.
    """

    reach: str = "once"
    answer: str | Prescribed = "own"
    late_s: float = 0.0
    delay_s: float = 0.0


OWN: Final = Delivery()
Draw = Callable[[random.Random], Delivery]


def _error(status: int, code: int, text: str, **headers: str) -> Prescribed:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Prescribed(status, {"code": code, "msg": text}, named)


_1007: Final = _error(
    504, -1007, "Timeout waiting for response from backend server. Send status unknown."
)
_1006: Final = _error(500, -1006, "An unexpected response was received from the message bus.")
_HTML: Final = "<html><body>Bad gateway</body></html>"


def _late(rng: random.Random) -> float:
    return rng.uniform(0.5, 25.0)


def _status(rng: random.Random) -> Prescribed:
    return Prescribed(rng.choice((500, 502, 504)), _HTML)


def _503(rng: random.Random) -> Prescribed:
    return Prescribed(503, rng.choice(BODIES_503))


def _refusal(rng: random.Random) -> Prescribed:
    return rng.choice(
        (
            _error(400, -1013, "Market is closed."),
            _error(400, -2010, "This action is disabled on this account."),
            _error(400, -1102, "A mandatory parameter was not sent."),
            _error(400, -1021, "Timestamp for this request is outside of the recvWindow."),
        )
    )


def _wait(rng: random.Random) -> str:
    return str(rng.choice((1, 2, 5, 30)))


_UNREADABLE: Final = Prescribed(200, "[1, 2")
# Both truths of each: what the exchange says then tells nothing of what it did.
WRITES: Final[Mapping[str, Draw]] = {
    "request lost": lambda _: Delivery("never", "silence"),
    "connection refused": lambda _: Delivery("never", "unconnected"),
    "answer lost": lambda _: Delivery("once", "silence"),
    "reset before": lambda _: Delivery("never", "reset"),
    "reset after": lambda _: Delivery("once", "reset"),
    "-1007, executed": lambda _: Delivery("once", _1007),
    "-1007, never executed": lambda _: Delivery("never", _1007),
    "-1007, executed late": lambda rng: Delivery("late", _1007, late_s=_late(rng)),
    "-1006, executed": lambda _: Delivery("once", _1006),
    "-1006, never executed": lambda _: Delivery("never", _1006),
    "5xx, executed": lambda rng: Delivery("once", _status(rng)),
    "5xx, never executed": lambda rng: Delivery("never", _status(rng)),
    "5xx, executed late": lambda rng: Delivery("late", _status(rng), late_s=_late(rng)),
    "503, executed": lambda rng: Delivery("once", _503(rng)),
    "503, never executed": lambda rng: Delivery("never", _503(rng)),
    "408, executed": lambda _: Delivery("once", Prescribed(408, "")),
    "408, never executed": lambda _: Delivery("never", Prescribed(408, "")),
    "-1001, executed": lambda _: Delivery("once", _error(400, -1001, "Internal error.")),
    "-1001, never executed": lambda _: Delivery("never", _error(400, -1001, "Internal error.")),
    "truncated answer": lambda _: Delivery("once", "truncated"),
    "unreadable answer": lambda _: Delivery("once", "unreadable"),
    "unknown fields": lambda _: Delivery("once", "more fields"),
    "delivered twice": lambda _: Delivery("twice"),
    "slow request": lambda rng: Delivery(delay_s=rng.uniform(0.5, 9.0)),
    "silence, executed late": lambda rng: Delivery("late", "silence", late_s=_late(rng)),
    "429": lambda rng: Delivery(
        "never", _error(429, -1003, "Too many requests.", Retry_After=_wait(rng))
    ),
    "418": lambda _: Delivery("never", _error(418, -1003, "Banned.", Retry_After="120")),
    "-1015": lambda rng: Delivery(
        "never", _error(429, -1015, "Too many new orders.", Retry_After=_wait(rng))
    ),
    "403": lambda _: Delivery("never", Prescribed(403, "<html>Forbidden</html>")),
    "refused by the exchange": lambda rng: Delivery("never", _refusal(rng)),
}
READS: Final[Mapping[str, Draw]] = {
    "read lost": lambda _: Delivery("never", "silence"),
    "read reset": lambda _: Delivery("once", "reset"),
    "read 5xx": lambda rng: Delivery("never", _status(rng)),
    "read 429": lambda rng: Delivery(
        "never", _error(429, -1003, "Too many requests.", Retry_After=_wait(rng))
    ),
    "read 418": lambda _: Delivery("never", _error(418, -1003, "Banned.", Retry_After="120")),
    "read 403": lambda _: Delivery("never", Prescribed(403, "<html>Forbidden</html>")),
    "read truncated": lambda _: Delivery("once", "truncated"),
    "read slow": lambda rng: Delivery(delay_s=rng.uniform(0.5, 12.0)),
}
# What replicas get wrong, one by one in exchange_host.py.
REPLICAS: Final = (
    "replica lag",
    "stale status",
    "open order omitted",
    "direct query blind",
    "cancel renames",
    "another order told",
)
EVENTS: Final = (
    "stream cut",
    "stream half-open",
    "stream dead",
    "stream shutdown",
    "stream terminated",
    "event dropped",
    "event duplicated",
    "event reordered",
    "event late",
    "event contradicts",
)
STREAMS: Final = (*EVENTS, "subscription refused")
# What happens by itself, at moments drawn in script.py.
WORLDS: Final = (
    "key revoked",
    "venue clock step",
    "own clock step",
    "loop stall",
    "disk full",
    "disk error",
    "disk damaged",
    "disk slow",
    "second engine",
    "orderly restart",
    "foreign order",
    "foreign cancel",
    "another bagbot",
    "deposit",
    "snapshot",
    "snapshot stale",
    "snapshot damaged",
    "thin market",
    "token mode",
)
_OTHERS: Final = (*REPLICAS, *STREAMS, *WORLDS)
ALL: Final = (*WRITES, *READS, *_OTHERS)


class Faults:
    """The faults of one seed, and how often each has really struck."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.struck: Counter[str] = Counter()
        self.healed = False
        self._brought: set[str] = set()
        self._write = _some(rng, WRITES, 3)
        self._read = _some(rng, READS, 2)
        self.others = {
            *_some(rng, REPLICAS, 2),
            *_some(rng, STREAMS, 2),
            *_some(rng, WORLDS, 3),
        }
        self._write_share = rng.choice((0.0, 0.1, 0.3, 0.6))
        self._read_share = rng.choice((0.0, 0.02, 0.1, 0.3))
        self._stream_share = rng.choice((0.02, 0.1, 0.4))

    def bring(self, names: Collection[str]) -> None:
        """Have these classes active as well, and often enough."""
        for active, table in ((self._write, WRITES), (self._read, READS)):
            active += [name for name in table if name in names and name not in active]
        if not WRITES.keys().isdisjoint(names):
            self._write_share = max(self._write_share, 0.5)
        if not READS.keys().isdisjoint(names):
            self._read_share = max(self._read_share, 0.3)
        if not set(EVENTS).isdisjoint(names):
            self._stream_share = max(self._stream_share, 0.1)
        self._brought.update(names)
        self.others.update(name for name in names if name in _OTHERS)

    def of_write(self) -> tuple[str, Delivery]:
        """Return how the next order or cancel fares."""
        return self._draw(self._write, WRITES, self._write_share)

    def of_read(self) -> tuple[str, Delivery]:
        """Return how the next question fares."""
        return self._draw(self._read, READS, self._read_share)

    def strikes(self, name: str, share: float = 1.0) -> bool:
        """Return whether a fault of another class strikes now, which counts it."""
        if name in self._brought:
            share *= 2
        if self.healed or name not in self.others or self._rng.random() >= share:
            return False
        self.struck[name] += 1
        return True

    def of_event(self, among: tuple[str, ...]) -> str | None:
        """Return what happens to the next event of a stream, or None."""
        if self.healed or self._rng.random() >= self._stream_share:
            return None
        active = [name for name in among if name in self.others]
        if not active:
            return None
        name = self._rng.choice(active)
        self.struck[name] += 1
        return name

    def _draw(
        self, active: list[str], table: Mapping[str, Draw], share: float
    ) -> tuple[str, Delivery]:
        if self.healed or not active or self._rng.random() >= share:
            return "", OWN
        name = self._rng.choice(active)
        return name, table[name](self._rng)


def _some(rng: random.Random, names: Mapping[str, Draw] | tuple[str, ...], most: int) -> list[str]:
    return rng.sample(list(names), rng.randint(0, most))

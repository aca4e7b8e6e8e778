"""Every request the exchange has received, and what became of it."""

from collections import deque

import msgspec

REQUESTS_KEPT = 100_000
"""How many lines are kept; the oldest go first, and their number is known."""


class LoggedRequest(msgspec.Struct, kw_only=True):
    """One request as it went, for benchmarks and for counting what arrived how often."""

    # Counts from 1 without a gap: the first line kept tells how many were dropped.
    number: int = 0
    received_ns: int
    received_monotonic_ns: int
    method: str
    path: str
    account_id: int | None = None
    symbol: str | None = None
    client_order_id: str | None = None
    # When an order had been carried out and stored, before its answer left.
    accepted_ns: int | None = None
    accepted_monotonic_ns: int | None = None
    status: int | None = None
    code: int | None = None
    # What the script did to it, and the class that the fault was armed as.
    fault: str | None = None
    fault_class: str | None = None
    # The number of the line of which this is a second delivery.
    repeat_of: int | None = None
    # open (being worked on), late (answered, not carried out yet), done, refused, lost.
    outcome: str = "open"


class RequestLog:
    """The newest requests, and how many there have been."""

    def __init__(self, kept_max: int = REQUESTS_KEPT) -> None:
        self._lines: deque[LoggedRequest] = deque(maxlen=kept_max)
        self.received = 0

    def keep(self, line: LoggedRequest) -> None:
        """Append a line and give it its number."""
        self.received += 1
        line.number = self.received
        self._lines.append(line)

    @property
    def dropped(self) -> int:
        """Return how many of the oldest lines are not kept any more."""
        return self.received - len(self._lines)

    def lines(self, account_id: int | None = None, after: int = 0) -> list[LoggedRequest]:
        """Return the lines kept, those of one account and those after a number if asked for."""
        return [
            line
            for line in self._lines
            if line.number > after and account_id in (None, line.account_id)
        ]

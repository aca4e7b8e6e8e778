"""Requests that were answered already and are carried out later, as a slow backend does.

Pure: the server asks with each request, and with each step of the market, what is due.
"""

from collections.abc import Callable
from dataclasses import dataclass

LATE_MAX = 10_000
"""How many may wait; when one more comes, the oldest is carried out at once."""


@dataclass(slots=True, kw_only=True)
class LateRequest:
    """One request that waits for a time and for queries that do not find its order yet."""

    carry_out: Callable[[], object]
    due_s: float
    queries_left: int = 0
    account_id: int | None = None
    client_order_id: str | None = None

    def is_due(self, now_s: float) -> bool:
        """Return whether nothing keeps it any longer."""
        return self.queries_left <= 0 and now_s >= self.due_s


class LateRequests:
    """The requests that wait, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: list[LateRequest] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, late: LateRequest) -> None:
        """Let a request wait."""
        if len(self._waiting) == LATE_MAX:
            self._waiting.pop(0).carry_out()
        self._waiting.append(late)

    def note_query(self, account_id: int | None, client_order_id: str, now_s: float) -> None:
        """Count a query before it is answered: whoever waited for enough of them goes first."""
        self.carry_out_due(now_s)
        for late in self._waiting:
            if (late.account_id, late.client_order_id) == (account_id, client_order_id):
                late.queries_left -= 1

    def carry_out_due(self, now_s: float) -> None:
        """Carry out everything whose time has come."""
        due = [late for late in self._waiting if late.is_due(now_s)]
        if due:
            self._waiting = [late for late in self._waiting if late not in due]
        for late in due:
            late.carry_out()

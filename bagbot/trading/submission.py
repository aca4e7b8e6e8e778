"""What one asks of the order executor, and what it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from bagbot.domain.errors import BagbotError
from bagbot.domain.order import Order, OrderIntent


class NotReadyError(BagbotError):
    """The executor takes no orders now: it is starting, stopping, or halted."""


class OrderConflictError(BagbotError):
    """What was asked does not fit the order as it is; nothing was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorSettings:
    """Waits and limits of the executor, in seconds unless named otherwise.

    `fence_margin_ms`: how long after an order's time window its absence begins to count. No
    document of Binance's bounds how late a spot order may execute, hence a minute.
    """

    send_timeout_s: float = 10.0
    read_timeout_s: float = 10.0
    probe_interval_s: float = 2.0
    poll_interval_s: float = 5.0
    audit_interval_s: float = 30.0
    price_interval_s: float = 1.0
    price_age_max_s: float = 5.0
    fence_margin_ms: int = 60_000
    close_timeout_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What became of a decision: its order, or why there is none.

    A repeat carries what the first one led to; `differs` when it asks for something else under
    the same identity.
    """

    order: Order | None
    message: str = ""
    is_repeat: bool = False
    differs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a plan may look at: the position, and what is still under way, in one symbol.

    `expected` is the position once every live order is filled; `unknown` names the orders whose
    outcome is not known.
    """

    position: Decimal
    expected: Decimal
    unknown: Sequence[str]


Plan = Callable[[View], OrderIntent | str]

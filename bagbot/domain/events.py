"""What can happen to an order: each event is a fact that was learned, and stays true.

`time_ns` is when we learned it (our clock); `exchange_time_ns` when it happened there.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class EventKind(StrEnum):
    """The columns of the state machine's table (`bagbot.domain.order.TRANSITIONS`)."""

    REFUSED = "REFUSED"
    WITHDRAWN = "WITHDRAWN"
    SUBMITTED = "SUBMITTED"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    NOT_ACCEPTED = "NOT_ACCEPTED"
    REJECTED = "REJECTED"
    ACCEPTED = "ACCEPTED"
    FILLED_PARTLY = "FILLED_PARTLY"
    FILLED_WHOLLY = "FILLED_WHOLLY"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One execution: `quantity` of the base asset at `price`; `fee` in `fee_asset`."""

    trade_id: str
    quantity: Decimal
    price: Decimal
    fee: Decimal = Decimal(0)
    fee_asset: str = ""
    exchange_time_ns: int = 0
    is_maker: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The risk manager said no: the order was never sent."""

    time_ns: int
    rule: str
    value: str
    limit: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawn:
    """The intent was given up before anything was sent."""

    time_ns: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The order is about to be sent, once, with exactly these values (the SEND record).

    With a `token`, our id of the order that it replaces, it may be sent more than once, and is
    executed once at most.
    """

    time_ns: int
    client_order_id: str
    timestamp_ms: int
    recv_window_ms: int
    attempt: int = 0
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeUnknown:
    """The answer was lost or not understood: perhaps accepted, perhaps not."""

    time_ns: int
    reason: str
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAccepted:
    """As far as can be proven, the exchange never had this attempt."""

    time_ns: int
    proof: str
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The exchange said no to this attempt."""

    time_ns: int
    reason: str
    code: str = ""
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The exchange has the order, under its own id."""

    time_ns: int
    exchange_order_id: str
    exchange_time_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """The order traded."""

    time_ns: int
    exchange_order_id: str
    fill: Fill


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """We asked for a cancel: a command in flight, not a state."""

    time_ns: int
    client_cancel_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """The exchange took what was left of the order off its book, as asked."""

    time_ns: int
    exchange_order_id: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """The exchange ended the order by its own rules (IOC rest, no liquidity, ...)."""

    time_ns: int
    exchange_order_id: str
    reason: str = ""


OrderEvent = (
    Refused
    | Withdrawn
    | Submitted
    | OutcomeUnknown
    | NotAccepted
    | Rejected
    | Accepted
    | Filled
    | CancelRequested
    | Cancelled
    | Expired
)

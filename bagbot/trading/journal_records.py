"""The journal's records in both directions: what happened <-> bytes. One place for the format."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

import msgspec

from bagbot.domain import events
from bagbot.domain.errors import JournalError
from bagbot.domain.events import Fill, OrderEvent
from bagbot.domain.instrument import Side
from bagbot.domain.order import OrderIntent, OrderRequest
from bagbot.storage.journal import Record
from bagbot.trading.risk_manager import Check


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentRecorded:
    """An order came to be; `checks` are the risk rules it passed (none when it was refused)."""

    time_ns: int
    intent: OrderIntent
    checks: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecorded:
    """A decision that needed no order, remembered so that its repeat gets the same answer."""

    time_ns: int
    identity: str
    fingerprint: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KillSwitchSet:
    """The kill switch was turned: `reason` says why it is on, None that it is off."""

    time_ns: int
    reason: str | None
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DisputeFound:
    """Two facts about an order contradict each other: its symbol may only be reduced now."""

    time_ns: int
    symbol: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineTaken:
    """What the account held when we began to keep books; from now on every change has a trade.

    `holdings` are balances by asset, or futures positions by symbol; `trades` the newest trade of
    each symbol watched by then ("" when it had none).
    """

    time_ns: int
    exchange_time_ns: int
    holdings: Mapping[str, Decimal]
    trades: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TradesCovered:
    """Every trade of a symbol up to and including `trade_id` is booked."""

    time_ns: int
    symbol: str
    trade_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalOrderSeen:
    """An order of the account that is not ours: it is known, and left alone."""

    time_ns: int
    symbol: str
    exchange_order_id: str
    client_order_id: str | None
    side: Side | None
    amount: Decimal | None
    price: Decimal | None
    is_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalFilled:
    """An order that is not ours traded: it changes what the account holds."""

    time_ns: int
    symbol: str
    side: Side
    exchange_order_id: str
    fill: Fill


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualFound:
    """The exchange holds `amount` more of `name` than all trades explain; 0 when that is over.

    `name` is an asset, or a futures symbol.
    """

    time_ns: int
    name: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyBegun:
    """A strategy began to trade live: what it is, and from which bar on it sees the market.

    `anchor_ms` is when its first bar opened, `first_ms` when the first one did that it decides
    after; `cash` is in the quote asset. None of it ever changes under this `strategy_id`.
    """

    time_ns: int
    strategy_id: str
    name: str
    parameters: Mapping[str, int | float | bool]
    symbol: str
    timeframe: str
    cash: Decimal
    anchor_ms: int
    first_ms: int


class Doing(StrEnum):
    """What a strategy can ask for."""

    PLACE = "place"
    CLOSE = "close"
    CANCEL = "cancel"
    CANCEL_ALL = "cancel_all"
    AMEND = "amend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One thing that a strategy asked for; `number` is its new order's, `target` the order meant.

    `keeps_left` says that an amended order keeps what was left of its amount, `refusal` why an
    order cannot be sent as it is written.
    """

    doing: Doing
    number: int = 0
    target: int = 0
    request: OrderRequest | None = None
    keeps_left: bool = False
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BarDecided:
    """A strategy has decided after the bar that opened at `bar_ms`; nothing of it is sent yet.

    `state` is what it remembers by itself, as JSON; `numbers` how many orders it has numbered.
    """

    time_ns: int
    strategy_id: str
    bar_ms: int
    state: str
    numbers: int
    commands: tuple[Command, ...] = ()


AccountFact = (
    KillSwitchSet
    | DisputeFound
    | BaselineTaken
    | TradesCovered
    | ExternalOrderSeen
    | ExternalFilled
    | ResidualFound
    | StrategyBegun
    | BarDecided
)
"""What is true of the account as a whole, not of one order of ours."""

Entry = IntentRecorded | DecisionRecorded | AccountFact | OrderEvent

_KIND_OF: Final[Mapping[type, str]] = {
    IntentRecorded: "INTENT",
    DecisionRecorded: "DECISION",
    KillSwitchSet: "KILL_SWITCH",
    DisputeFound: "DISPUTE",
    BaselineTaken: "BASELINE",
    TradesCovered: "TRADES_COVERED",
    ExternalOrderSeen: "EXTERNAL_ORDER",
    ExternalFilled: "EXTERNAL_FILLED",
    ResidualFound: "RESIDUAL",
    StrategyBegun: "STRATEGY_BEGUN",
    BarDecided: "BAR_DECIDED",
    events.Refused: "REFUSED",
    events.Withdrawn: "WITHDRAWN",
    events.Submitted: "SEND",
    events.OutcomeUnknown: "OUTCOME_UNKNOWN",
    events.NotAccepted: "NOT_ACCEPTED",
    events.Rejected: "REJECTED",
    events.Accepted: "ACCEPTED",
    events.Filled: "FILLED",
    events.CancelRequested: "CANCEL_REQUESTED",
    events.Cancelled: "CANCELLED",
    events.Expired: "EXPIRED",
}
_ENCODER: Final = msgspec.json.Encoder()
_DECODERS: Final[Mapping[str, msgspec.json.Decoder[Entry]]] = {
    kind: msgspec.json.Decoder(type_) for type_, kind in _KIND_OF.items()
}


def record_of(entry: Entry, order_id: str = "") -> Record:
    """Return the record that says `entry`."""
    return Record(_KIND_OF[type(entry)], order_id, entry.time_ns, _ENCODER.encode(entry))


def entry_of(record: Record) -> Entry:
    """Return what a record says.

    Raises JournalError when it cannot be understood.
    """
    try:
        entry: Entry = _DECODERS[record.kind].decode(record.payload)
    except (KeyError, msgspec.MsgspecError) as error:
        raise JournalError(
            f"a journal record of kind {record.kind} cannot be understood: {error}"
        ) from error
    return entry

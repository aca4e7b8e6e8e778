"""The journal's records in both directions: what happened <-> bytes. One place for the format."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from bagbot.domain import events
from bagbot.domain.errors import JournalError
from bagbot.domain.events import OrderEvent
from bagbot.domain.order import OrderIntent
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


Entry = IntentRecorded | DecisionRecorded | KillSwitchSet | DisputeFound | OrderEvent

_KIND_OF: Final[Mapping[type, str]] = {
    IntentRecorded: "INTENT",
    DecisionRecorded: "DECISION",
    KillSwitchSet: "KILL_SWITCH",
    DisputeFound: "DISPUTE",
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

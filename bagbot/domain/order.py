"""An order, its life, and THE state machine: a table.

An order is a fold of facts (`apply`). Facts only add up: whichever order they arrive in, and
however often, the same order comes out. `TRANSITIONS` says what each fact makes of each status;
the diagram in docs/TRADING_ARCHITECTURE.md is drawn from it.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, TypeVar

from bagbot.domain.errors import IllegalTransitionError, InvalidOrderError
from bagbot.domain.events import (
    Accepted,
    Cancelled,
    CancelRequested,
    EventKind,
    Expired,
    Fill,
    Filled,
    NotAccepted,
    OrderEvent,
    OutcomeUnknown,
    Refused,
    Rejected,
    Submitted,
    Withdrawn,
)
from bagbot.domain.instrument import Instrument, Side

# Beyond this a Decimal loses digits in the default context; no exchange trades such amounts.
NUMBER_MAX: Final = Decimal(10) ** 15
NUMBER_MIN: Final = Decimal(10) ** -12
# In basis points: at this the trigger would lie at zero, or at twice the price.
TRAILING_DELTA_MAX: Final = 10_000

_E = TypeVar("_E", bound=StrEnum)


class OrderType(StrEnum):
    """What the order asks for, in CCXT's words; the last four wait for their trigger."""

    MARKET = "market"
    LIMIT = "limit"
    STOP_LOSS = "stop_loss"
    STOP_LOSS_LIMIT = "stop_loss_limit"
    TAKE_PROFIT = "take_profit"
    TAKE_PROFIT_LIMIT = "take_profit_limit"

    @property
    def has_limit(self) -> bool:
        """Whether it trades at its own price or better; the others take the market's."""
        return self in (OrderType.LIMIT, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT)

    @property
    def is_conditional(self) -> bool:
        """Whether it does nothing until the market reaches its trigger."""
        return self not in (OrderType.MARKET, OrderType.LIMIT)


class TimeInForce(StrEnum):
    """How long a limit order may rest; PO (post-only) never takes."""

    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    PO = "PO"


class OrderStatus(StrEnum):
    """The rows of the table. Where facts differ, the one further down wins."""

    PENDING = "PENDING"
    REFUSED = "REFUSED"
    WITHDRAWN = "WITHDRAWN"
    SUBMITTED = "SUBMITTED"
    UNKNOWN = "UNKNOWN"
    NOT_ACCEPTED = "NOT_ACCEPTED"
    REJECTED = "REJECTED"
    OPEN = "OPEN"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    FILLED = "FILLED"


# status -> what it becomes at each event; `---` is a contradiction, which raises. Among facts that
# may both be true the one further down in OrderStatus wins, so their order of arrival is nothing:
# a late fill heals a REJECTED or NOT_ACCEPTED, and still counts for a CANCELLED or EXPIRED.
_TABLE = """
                 refused withdrawn submitted unknown not_accepted rejected
                 |   |   |   |   |   |   accepted filled_partly filled_wholly
                 |   |   |   |   |   |   |   |   |   cancel_requested cancelled expired
                 |   |   |   |   |   |   |   |   |   |   |   |
PENDING          REF WIT SUB UNK NAC REJ OPN PAR FIL PEN CAN EXP
REFUSED          REF --- --- --- --- --- --- --- --- --- --- ---
WITHDRAWN        --- WIT --- --- --- --- --- --- --- --- --- ---
SUBMITTED        --- --- SUB UNK NAC REJ OPN PAR FIL SUB CAN EXP
UNKNOWN          --- --- UNK UNK NAC REJ OPN PAR FIL UNK CAN EXP
NOT_ACCEPTED     --- --- NAC NAC NAC REJ OPN PAR FIL NAC CAN EXP
REJECTED         --- --- REJ REJ REJ REJ OPN PAR FIL REJ CAN EXP
OPEN             --- --- OPN OPN OPN OPN OPN PAR FIL OPN CAN EXP
PARTIALLY_FILLED --- --- PAR PAR PAR PAR PAR PAR FIL PAR CAN EXP
EXPIRED          --- --- EXP EXP EXP EXP EXP EXP FIL EXP CAN EXP
CANCELLED        --- --- CAN CAN CAN CAN CAN CAN FIL CAN CAN CAN
FILLED           --- --- FIL FIL FIL FIL FIL --- --- FIL FIL FIL
"""
_CODES: Final[Mapping[str, OrderStatus | None]] = {
    "PEN": OrderStatus.PENDING,
    "REF": OrderStatus.REFUSED,
    "WIT": OrderStatus.WITHDRAWN,
    "SUB": OrderStatus.SUBMITTED,
    "UNK": OrderStatus.UNKNOWN,
    "NAC": OrderStatus.NOT_ACCEPTED,
    "REJ": OrderStatus.REJECTED,
    "OPN": OrderStatus.OPEN,
    "PAR": OrderStatus.PARTIALLY_FILLED,
    "EXP": OrderStatus.EXPIRED,
    "CAN": OrderStatus.CANCELLED,
    "FIL": OrderStatus.FILLED,
    "---": None,
}


def _parsed(table: str) -> Mapping[OrderStatus, Mapping[EventKind, OrderStatus | None]]:
    rows = [line.split() for line in table.splitlines() if line[:1].isupper()]
    return MappingProxyType(
        {
            OrderStatus(row[0]): MappingProxyType(
                {kind: _CODES[code] for kind, code in zip(EventKind, row[1:], strict=True)}
            )
            for row in rows
        }
    )


TRANSITIONS: Final = _parsed(_TABLE)
"""status -> event kind -> next status, or None where the two contradict each other."""

# Nothing more is expected to happen; a late fact may still come.
FINAL: Final = frozenset(
    {
        OrderStatus.REFUSED,
        OrderStatus.WITHDRAWN,
        OrderStatus.NOT_ACCEPTED,
        OrderStatus.REJECTED,
        OrderStatus.EXPIRED,
        OrderStatus.CANCELLED,
        OrderStatus.FILLED,
    }
)
_AT_EXCHANGE: Final = frozenset(
    {
        OrderStatus.OPEN,
        OrderStatus.PARTIALLY_FILLED,
        OrderStatus.EXPIRED,
        OrderStatus.CANCELLED,
        OrderStatus.FILLED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """What the caller wants, in CCXT's words: `amount` of the base asset, `price` in the quote.

    `price` is the limit. A conditional order waits until the market reaches `trigger_price`, or
    has come back from its best price by `trailing_delta` (basis points); with both it begins to
    trail at the trigger. Raises InvalidOrderError on creation when it makes no sense as written.
    """

    symbol: str
    side: Side
    type: OrderType
    amount: Decimal
    price: Decimal | None = None
    time_in_force: TimeInForce | None = None
    client_order_id: str | None = None
    params: Mapping[str, object] = field(default_factory=dict)
    trigger_price: Decimal | None = None
    trailing_delta: int | None = None

    def __post_init__(self) -> None:
        _check_number("amount", self.amount)
        what = f"a {self.type.value} order for {self.symbol}"
        if self.type.has_limit:
            if self.price is None:
                raise InvalidOrderError(f"{what} needs a price")
            _check_number("price", self.price)
        elif self.price is not None:
            raise InvalidOrderError(f"{what} takes no price")
        elif self.time_in_force is not None:
            raise InvalidOrderError(f"{what} takes no time in force")
        self._check_trigger(what)

    def _check_trigger(self, what: str) -> None:
        if not self.type.is_conditional:
            if self.trigger_price is not None or self.trailing_delta is not None:
                raise InvalidOrderError(f"{what} takes no trigger")
            return
        if self.trigger_price is None and self.trailing_delta is None:
            raise InvalidOrderError(f"{what} needs a trigger price or a trailing delta")
        if self.trigger_price is not None:
            _check_number("trigger price", self.trigger_price)
        if self.trailing_delta is not None and not 0 < self.trailing_delta < TRAILING_DELTA_MAX:
            raise InvalidOrderError(
                f"trailing delta must be 1 to {TRAILING_DELTA_MAX - 1} basis points, "
                f"not {self.trailing_delta}"
            )
        if self.time_in_force is TimeInForce.PO:
            raise InvalidOrderError(f"{what} cannot be post-only: its trigger may make it take")

    @classmethod
    def from_payload(cls, payload: "Mapping[str, object] | OrderRequest") -> "OrderRequest":
        """Return the typed request for a payload in CCXT's words.

        Numbers may be Decimal, int or str; a float is taken by its shortest text (0.1 is 0.1).
        Raises InvalidOrderError naming the field that is missing or wrong.
        """
        if isinstance(payload, OrderRequest):
            return payload
        known = {"symbol", "side", "type", "amount", "price", "params"}
        unknown = sorted(set(payload) - known - set(_ALSO_IN_PARAMS))
        if unknown:
            raise InvalidOrderError(f"unknown order field {unknown[0]!r}; put it into params")
        params = payload.get("params") or {}
        if not isinstance(params, Mapping):
            raise InvalidOrderError("params must be a mapping")
        rest = dict(params)
        more = {
            name: rest.pop(name, None) if payload.get(name) is None else payload[name]
            for name in _ALSO_IN_PARAMS
        }
        time_in_force, client_order_id = more["timeInForce"], more["clientOrderId"]
        triggers = [more[name] for name in ("triggerPrice", "stopPrice") if more[name] is not None]
        if len(triggers) > 1:
            raise InvalidOrderError("give triggerPrice or stopPrice: they mean the same")
        price, delta = payload.get("price"), more["trailingDelta"]
        return cls(
            symbol=_text(payload, "symbol"),
            side=_member(Side, "side", _text(payload, "side").lower()),
            type=_member(OrderType, "type", _text(payload, "type").lower()),
            amount=decimal_from("amount", payload.get("amount")),
            price=None if price is None else decimal_from("price", price),
            time_in_force=(
                _member(TimeInForce, "timeInForce", str(time_in_force).upper())
                if time_in_force
                else None
            ),
            client_order_id=str(client_order_id) if client_order_id else None,
            params=rest,
            trigger_price=decimal_from("triggerPrice", triggers[0]) if triggers else None,
            trailing_delta=None if delta is None else whole_number("trailingDelta", delta),
        )

    def to_payload(self) -> dict[str, object]:
        """Return the same order as a mapping in CCXT's words; numbers stay Decimal."""
        params: dict[str, object] = dict(self.params)
        if self.client_order_id is not None:
            params["clientOrderId"] = self.client_order_id
        if self.time_in_force is not None:
            params["timeInForce"] = self.time_in_force.value
        if self.trigger_price is not None:
            params["triggerPrice"] = self.trigger_price
        if self.trailing_delta is not None:
            params["trailingDelta"] = self.trailing_delta
        return {
            "symbol": self.symbol,
            "type": self.type.value,
            "side": self.side.value,
            "amount": self.amount,
            "price": self.price,
            "params": params,
        }


# CCXT's words that may stand beside the others or in `params`.
_ALSO_IN_PARAMS: Final = (
    "timeInForce",
    "clientOrderId",
    "triggerPrice",
    "stopPrice",
    "trailingDelta",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderIntent:
    """A decision to trade: what is wanted, by whom, and what makes a repeat of it a repeat."""

    id: str
    account: str
    request: OrderRequest
    source: str
    identity: str
    time_ns: int
    fingerprint: str = ""
    note: str = ""


def intent_id(account: str, identity: str) -> str:
    """Return our id for an order: the same decision always gets the same id."""
    return "ord_" + _digest(account, identity)[:20]


def client_order_id(account: str, symbol: str, order_id: str, attempt: int) -> str:
    """Return the id under which the exchange gets one attempt; derived, so never lost or reused.

    26 characters of [a-z2-7]; Binance allows 36.
    """
    return _free_of_sql("bb", account, symbol, order_id, str(attempt))


def client_cancel_id(order_id: str, number: int) -> str:
    """Return the id of our n-th cancel request for an order."""
    return _free_of_sql("bc", order_id, "cancel", str(number))


def on_steps(intent: OrderIntent, instrument: Instrument) -> OrderIntent:
    """Return the intent rounded to lots (down) and ticks (never worse for us); its note says so.

    A trigger goes to the nearest tick: neither side of it is the better one. What would round to
    nothing stays, for the filters to refuse by name.
    """
    request, notes = intent.request, []
    amount = instrument.round_quantity_down(request.amount)
    if amount not in (request.amount, 0):
        notes.append(
            f"amount {request.amount} rounded down to {amount} (lot {instrument.lot_size})"
        )
        request = replace(request, amount=amount)
    if request.price is not None:
        price = instrument.round_price(request.price, request.side)
        if price not in (request.price, 0):
            notes.append(f"price {request.price} rounded to {price} (tick {instrument.tick_size})")
            request = replace(request, price=price)
    if request.trigger_price is not None:
        trigger = instrument.round_trigger(request.trigger_price)
        if trigger not in (request.trigger_price, 0):
            notes.append(
                f"trigger {request.trigger_price} rounded to {trigger} (tick "
                f"{instrument.tick_size})"
            )
            request = replace(request, trigger_price=trigger)
    if not notes:
        return intent
    note = "; ".join([intent.note, *notes] if intent.note else notes)
    return replace(intent, request=request, note=note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order, as far as the facts known about it go."""

    intent: OrderIntent
    status: OrderStatus = OrderStatus.PENDING
    attempt: int = 0
    sends: Mapping[int, Submitted] = field(default_factory=dict)
    exchange_order_id: str | None = None
    fills: Mapping[str, Fill] = field(default_factory=dict)
    refusal: Refused | None = None
    reasons: Mapping[EventKind, str] = field(default_factory=dict)
    cancel_ids: frozenset[str] = frozenset()
    filled: Decimal = field(init=False, compare=False)
    """The amount traded so far, in the base asset: the sum of `fills`."""

    def __post_init__(self) -> None:
        filled = sum((fill.quantity for fill in self.fills.values()), Decimal(0))
        object.__setattr__(self, "filled", filled)

    @property
    def id(self) -> str:
        """Our id, the same as the intent's."""
        return self.intent.id

    @property
    def client_order_id(self) -> str | None:
        """The id of the newest attempt at the exchange; None before anything was sent."""
        send = self.sends.get(self.attempt)
        return None if send is None else send.client_order_id

    @property
    def is_final(self) -> bool:
        """Nothing more is expected to happen to it."""
        return self.status in FINAL

    @property
    def remaining(self) -> Decimal:
        """The amount that could still trade if the order is alive."""
        return self.intent.request.amount - self.filled

    @property
    def average(self) -> Decimal | None:
        """The average price of what traded, or None while nothing did."""
        filled = self.filled
        if not filled:
            return None
        return sum((f.quantity * f.price for f in self.fills.values()), Decimal(0)) / filled

    @property
    def fees(self) -> dict[str, Decimal]:
        """What was paid in fees, by asset."""
        fees: dict[str, Decimal] = {}
        for fill in self.fills.values():
            if fill.fee:
                fees[fill.fee_asset] = fees.get(fill.fee_asset, Decimal(0)) + fill.fee
        return dict(sorted(fees.items()))

    @property
    def reason(self) -> str | None:
        """Why it has the status it has, where the facts say."""
        for kind, status in _REASON_OF:
            if self.status is status and kind in self.reasons:
                return self.reasons[kind]
        return None


_REASON_OF: Final = (
    (EventKind.REFUSED, OrderStatus.REFUSED),
    (EventKind.WITHDRAWN, OrderStatus.WITHDRAWN),
    (EventKind.OUTCOME_UNKNOWN, OrderStatus.UNKNOWN),
    (EventKind.NOT_ACCEPTED, OrderStatus.NOT_ACCEPTED),
    (EventKind.REJECTED, OrderStatus.REJECTED),
    (EventKind.CANCELLED, OrderStatus.CANCELLED),
    (EventKind.EXPIRED, OrderStatus.EXPIRED),
)


def apply(order: Order, event: OrderEvent) -> Order:
    """Return the order after learning `event`; a fact that adds nothing returns the same object.

    Raises IllegalTransitionError when the fact contradicts what is known: two exchange ids, more
    filled than ordered, one trade told in two ways, or a pair the table forbids.
    """
    before = order
    if isinstance(event, Filled) and _is_known_fill(order, event):
        return before
    if isinstance(event, Submitted | OutcomeUnknown | NotAccepted | Rejected):
        order = _with_attempt(order, event)
        if event.attempt < order.attempt:
            return before if order == before else order
    kind = _kind(order, event)
    status = TRANSITIONS[order.status][kind]
    if status is None:
        raise IllegalTransitionError(
            f"order {order.id} is {order.status.value}, which contradicts {kind.value}: {event}"
        )
    after = replace(order, status=status, **_facts(order, kind, event))
    return before if after == before else after


def _is_known_fill(order: Order, event: Filled) -> bool:
    known = order.fills.get(event.fill.trade_id)
    if known is None:
        return False
    # Without a fee its asset is told or left out, as it comes.
    told, fill = (
        (f.quantity, f.price, f.fee, f.fee_asset if f.fee else "") for f in (known, event.fill)
    )
    if told != fill:
        raise IllegalTransitionError(
            f"order {order.id}: trade {known.trade_id} was told as {known} and as {event.fill}"
        )
    return True


def _with_attempt(
    order: Order, event: Submitted | OutcomeUnknown | NotAccepted | Rejected
) -> Order:
    """Move to the event's attempt when it is newer; only what is at the exchange outlives one."""
    if isinstance(event, Submitted):
        known = order.sends.get(event.attempt, event)
        if known.client_order_id != event.client_order_id:
            raise IllegalTransitionError(
                f"order {order.id}: attempt {event.attempt} has two client order ids, "
                f"{known.client_order_id} and {event.client_order_id}"
            )
        order = replace(order, sends={**order.sends, event.attempt: known})
    if event.attempt <= order.attempt:
        return order
    status = order.status if order.status in _AT_EXCHANGE else OrderStatus.PENDING
    reasons = {kind: why for kind, why in order.reasons.items() if kind not in _PER_ATTEMPT}
    return replace(order, attempt=event.attempt, status=status, reasons=reasons)


def _kind(order: Order, event: OrderEvent) -> EventKind:
    if not isinstance(event, Filled):
        return _KINDS[type(event)]
    filled = order.filled + event.fill.quantity
    if event.fill.quantity <= 0 or filled > order.intent.request.amount:
        raise IllegalTransitionError(
            f"order {order.id}: trade {event.fill.trade_id} of {event.fill.quantity} makes "
            f"{filled} filled of {order.intent.request.amount} ordered"
        )
    is_whole = filled == order.intent.request.amount
    return EventKind.FILLED_WHOLLY if is_whole else EventKind.FILLED_PARTLY


_PER_ATTEMPT: Final[frozenset[EventKind]] = frozenset(
    {EventKind.OUTCOME_UNKNOWN, EventKind.NOT_ACCEPTED, EventKind.REJECTED}
)
_KINDS: Final[Mapping[type, EventKind]] = {
    Refused: EventKind.REFUSED,
    Withdrawn: EventKind.WITHDRAWN,
    Submitted: EventKind.SUBMITTED,
    OutcomeUnknown: EventKind.OUTCOME_UNKNOWN,
    NotAccepted: EventKind.NOT_ACCEPTED,
    Rejected: EventKind.REJECTED,
    Accepted: EventKind.ACCEPTED,
    CancelRequested: EventKind.CANCEL_REQUESTED,
    Cancelled: EventKind.CANCELLED,
    Expired: EventKind.EXPIRED,
}


def _facts(order: Order, kind: EventKind, event: OrderEvent) -> dict[str, Any]:
    """Return what the event adds to the order, as fields of it."""
    added: dict[str, Any] = {}
    if isinstance(event, Accepted | Filled | Cancelled | Expired):
        known = order.exchange_order_id or event.exchange_order_id
        if known != event.exchange_order_id:
            raise IllegalTransitionError(
                f"order {order.id} has two exchange ids, {known} and {event.exchange_order_id}"
            )
        added["exchange_order_id"] = known
    if isinstance(event, Filled):
        added["fills"] = {**order.fills, event.fill.trade_id: event.fill}
        return added
    if isinstance(event, CancelRequested):
        return {"cancel_ids": order.cancel_ids | {event.client_cancel_id}}
    if isinstance(event, Refused):
        added["refusal"] = event
    reason = _reason(event)
    if reason:
        # Two tellings of one fact: the smaller text stays, so that the order of arrival is nothing.
        known_reason = order.reasons.get(kind, reason)
        added["reasons"] = {**order.reasons, kind: min(known_reason, reason)}
    return added


def _reason(event: OrderEvent) -> str:
    if isinstance(event, Refused):
        return event.message
    if isinstance(event, NotAccepted):
        return event.proof
    if isinstance(event, Rejected):
        return f"{event.reason} ({event.code})" if event.code else event.reason
    if isinstance(event, Withdrawn | OutcomeUnknown | Cancelled | Expired):
        return event.reason
    return ""


def decimal_from(name: str, value: object) -> Decimal:
    """Return `value` as a Decimal, by its text.

    Raises InvalidOrderError naming the field when it is no finite number.

    >>> decimal_from("amount", "0.10")
    Decimal('0.10')
    """
    if isinstance(value, bool) or not isinstance(value, Decimal | int | str | float):
        raise InvalidOrderError(f"{name} must be a number, not {value!r}")
    try:
        number = value if isinstance(value, Decimal) else Decimal(str(value).strip())
    except ArithmeticError as error:
        raise InvalidOrderError(f"{name} must be a number, not {value!r}") from error
    if not number.is_finite():
        raise InvalidOrderError(f"{name} must be a finite number, not {value!r}")
    return number


def whole_number(name: str, value: object) -> int:
    """Return `value`, an int or its digits, as an int.

    Raises InvalidOrderError naming the field when it is anything else.
    """
    number = decimal_from(name, value)
    if number != number.to_integral_value():
        raise InvalidOrderError(f"{name} must be a whole number, not {value!r}")
    return int(number)


def _check_number(name: str, value: Decimal) -> None:
    if not value.is_finite():
        raise InvalidOrderError(f"{name} must be a finite number, not {value}")
    if value <= 0:
        raise InvalidOrderError(f"{name} must be above zero, not {value}")
    if not NUMBER_MIN <= value <= NUMBER_MAX:
        raise InvalidOrderError(f"{name} {value} is beyond what any exchange trades")
    if value != value.quantize(NUMBER_MIN):
        raise InvalidOrderError(f"{name} {value} has more than 12 decimals")


def _text(payload: Mapping[str, object], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidOrderError(f"{name} is missing")
    return value


def _member(kind: type[_E], name: str, value: str) -> _E:
    try:
        return kind(value)
    except ValueError as error:
        allowed = ", ".join(member.value for member in kind)
        raise InvalidOrderError(f"{name} must be one of {allowed}, not {value!r}") from error


# Binance's firewall refuses requests that look like SQL; an id must not spell any.
_SQL_WORDS: Final = ("select", "insert", "update", "delete", "drop", "union", "exec", "alter")


def _free_of_sql(prefix: str, *parts: str) -> str:
    digest = _digest(*parts)[:24]
    while any(word in digest for word in _SQL_WORDS):
        digest = _digest(digest, *parts)[:24]
    return prefix + digest


def _digest(*parts: str) -> str:
    text = "\x00".join(parts).encode()
    return base64.b32encode(hashlib.sha256(text).digest()).decode().lower().rstrip("=")

"""What the exchange tells, turned into the facts our orders lack. Pure.

Positive evidence counts from any source and is checked against what was ordered. Absence proves
nothing by itself: `not_accepted` lists what must come together before an order is given up.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Final

from bagbot.domain.errors import IllegalTransitionError
from bagbot.domain.events import (
    Accepted,
    Cancelled,
    Expired,
    Fill,
    Filled,
    NotAccepted,
    OrderEvent,
    Rejected,
)
from bagbot.domain.order import Order, OrderStatus
from bagbot.trading.connectors.interface import ExchangeOrder, ExchangeOrderStatus, Trade
from bagbot.trading.journal_records import ExternalOrderSeen

ABSENCES_NEEDED: Final = 3
_QUERIES_PER_SEARCH: Final = 5
# An exchange takes a timestamp that is ahead of its clock (Binance up to a second), so that what it
# did with an order may bear an earlier time; and a clock may be set back.
_CLOCK_SLACK_NS: Final = 5_000_000_000
_WRITTEN_OFF: Final = "written off by "
# How `bagbot.domain.order.client_order_id` looks.
_OUR_MARK: Final = re.compile(r"bb[a-z2-7]{24}")


def events_from(order: Order, told: ExchangeOrder, time_ns: int) -> list[OrderEvent]:
    """Return what the exchange's word on an order adds, as events; `apply` drops what is known.

    Raises IllegalTransitionError when it speaks of another order than the one we sent, or of one
    that rests though it was written off here.
    """
    _check_same(order, told)
    is_ended = order.status is OrderStatus.CANCELLED and told.status is ExchangeOrderStatus.OPEN
    if is_ended and (order.reason or "").startswith(_WRITTEN_OFF):
        raise IllegalTransitionError(
            f"order {order.id} was written off, and the exchange has it open as {told.id}: "
            f"cancel it there by hand; what it trades is booked"
        )
    if told.status is ExchangeOrderStatus.REJECTED and order.exchange_order_id is None:
        return [
            Rejected(
                time_ns=time_ns,
                reason=told.reason or "the exchange rejected the order",
                attempt=order.attempt,
            )
        ]
    events: list[OrderEvent] = [
        Accepted(
            time_ns=time_ns,
            exchange_order_id=told.id,
            exchange_time_ns=told.exchange_time_ns,
        )
    ]
    events += [filled(told.id, fill, time_ns) for fill in told.fills]
    if told.status is ExchangeOrderStatus.CANCELED:
        events.append(Cancelled(time_ns=time_ns, exchange_order_id=told.id, reason=told.reason))
    elif told.status is ExchangeOrderStatus.EXPIRED:
        events.append(Expired(time_ns=time_ns, exchange_order_id=told.id, reason=told.reason))
    elif told.status is ExchangeOrderStatus.REJECTED:
        # It had been taken, and waited: for its trigger, say. Now it has ended.
        reason = f"rejected after the exchange had taken it: {told.reason or 'no reason told'}"
        events.append(Expired(time_ns=time_ns, exchange_order_id=told.id, reason=reason))
    return events


def filled(exchange_order_id: str, fill: Fill, time_ns: int) -> Filled:
    """Return the event for one execution."""
    return Filled(time_ns=time_ns, exchange_order_id=exchange_order_id, fill=fill)


def events_from_trades(order: Order, trades: Sequence[Trade], time_ns: int) -> list[OrderEvent]:
    """Return the fills among `trades` that belong to the order and are not booked yet."""
    return [
        filled(trade.exchange_order_id, trade.fill, time_ns)
        for trade in trades
        if trade.exchange_order_id == order.exchange_order_id
        and trade.fill.trade_id not in order.fills
    ]


def lacks_fills(order: Order, told: ExchangeOrder) -> bool:
    """Whether the exchange counts more traded than we have booked."""
    total = told.filled
    if told.status is ExchangeOrderStatus.CLOSED:
        total = max(total, told.amount or order.intent.request.amount)
    return total > order.filled


def summed_fill(order: Order, told: ExchangeOrder) -> Fill | None:
    """Return what is missing as one fill, for an exchange that lists no single trades.

    Its quantity and value are the exchange's own totals less what is booked; its id is made of
    the total, so that the same news twice is the same fill. None when no average price is told.
    """
    missing = told.filled - order.filled
    price = told.average or told.price
    if missing <= 0 or price is None:
        return None
    booked = sum((f.quantity * f.price for f in order.fills.values()), Decimal(0))
    return Fill(
        trade_id=f"{told.id}-{told.filled:f}",
        quantity=missing,
        price=(told.filled * price - booked) / missing,
        exchange_time_ns=told.exchange_time_ns,
    )


@dataclass(frozen=True, slots=True)
class Contested:
    """What the exchange shows fits no fact of ours: a human must look, nothing is concluded."""

    message: str


def sent_since_ns(order: Order) -> int:
    """Return since when, by the exchange's clock, a sent order may have been there."""
    return min(send.timestamp_ms for send in order.sends.values()) * 1_000_000 - _CLOCK_SLACK_NS


def may_be(order: Order, told: ExchangeOrder) -> bool:
    """Whether `told` could be our order of unknown outcome under an id that is not ours.

    On spot a cancel, by hand for example, puts its own id in place of the order's.
    """
    request = order.intent.request
    if order.exchange_order_id is not None or not order.sends:
        return False
    return (
        told.status is ExchangeOrderStatus.CANCELED
        and told.symbol == request.symbol
        and told.side in (None, request.side)
        and told.amount in (None, request.amount)
        and told.type in (None, request.type.value)
        and (request.price is None or told.price in (None, request.price))
        and told.trigger_price in (None, request.trigger_price)
        and told.trailing_delta in (None, request.trailing_delta)
        and told.exchange_time_ns >= sent_since_ns(order)
    )


def under_own_id(order: Order, told: ExchangeOrder) -> ExchangeOrder:
    """Return what a list tells of an order of ours, under its own id though a cancel renamed it.

    Only the exchange's id can say that it is the same.
    """
    is_same = told.id == order.exchange_order_id
    if is_same and told.status is ExchangeOrderStatus.CANCELED:
        return replace(told, client_order_id=order.client_order_id)
    return told


def contested(order: Order, told: ExchangeOrder) -> Contested:
    """Return what to say of an order that `may_be` ours."""
    return Contested(
        f"order {told.id} ({told.client_order_id}) was cancelled and is just like "
        f"{order.client_order_id}, whose outcome is not known: a cancel may have renamed it"
    )


def forgotten(order: Order) -> Contested:
    """Return what to say of an order that the exchange had and does not know any more."""
    return Contested(
        f"the exchange no longer knows order {order.exchange_order_id} "
        f"({order.client_order_id}), which it had: it has lost its memory, or it has ended so "
        f"long ago that it is archived; nothing is changed here"
    )


def written_off(by: str, reason: str) -> str:
    """Return why an order has ended that a human gave up."""
    return f"{_WRITTEN_OFF}{by}: {reason}"


def external_order(told: ExchangeOrder, time_ns: int) -> ExternalOrderSeen:
    """Return the record of an order that is not ours."""
    return ExternalOrderSeen(
        time_ns=time_ns,
        symbol=told.symbol,
        exchange_order_id=told.id,
        client_order_id=told.client_order_id,
        side=told.side,
        amount=told.amount,
        price=told.price,
        is_open=told.status is ExchangeOrderStatus.OPEN,
    )


def bears_our_mark(told: ExchangeOrder) -> bool:
    """Whether an order's client id is made as ours are."""
    return _OUR_MARK.fullmatch(told.client_order_id or "") is not None


def found_among(
    candidates: Sequence[ExchangeOrder], order: Order, is_known: Callable[[ExchangeOrder], bool]
) -> ExchangeOrder | Contested | None:
    """Return the order among `candidates`, or that one of them may be it, or None.

    One that is known as an order of ours is no other, whatever id a cancel has given it.
    """
    client_order_id = order.sends[order.attempt].client_order_id
    for told in candidates:
        if told.client_order_id == client_order_id:
            return told
    for told in candidates:
        if may_be(order, told) and not is_known(told):
            return contested(order, told)
    return None


@dataclass(slots=True)
class Absence:
    """What was looked for in vain, for one attempt, since its fence passed.

    `since_ms` is where the history must begin for it; `sufficed_ns` when its queries sufficed.
    """

    since_ms: int = 0
    queries: int = 0
    asked_ns: int | None = None
    sufficed_ns: int | None = None
    in_open_orders: bool = True
    in_history: bool = True
    in_trades: bool = True

    def note(self, now_ns: int, spacing_ns: int) -> bool:
        """Count a query in vain; not one that came too soon after the last to tell anything new."""
        if self.asked_ns is not None and now_ns - self.asked_ns < spacing_ns:
            return False
        self.queries += 1
        self.asked_ns = now_ns
        if self.queries == ABSENCES_NEEDED:
            self.sufficed_ns = now_ns
        return True

    @property
    def is_time_to_search(self) -> bool:
        """Whether to look into the other places now: after the queries sufficed, now and then.

        Not at once: by the next query those of other orders will have sufficed as well.
        """
        beyond = self.queries - ABSENCES_NEEDED - 1
        return beyond >= 0 and beyond % _QUERIES_PER_SEARCH == 0

    @property
    def is_complete(self) -> bool:
        """Whether every place was looked into, the direct query several times."""
        return self.queries >= ABSENCES_NEEDED and not (
            self.in_open_orders or self.in_history or self.in_trades
        )


def is_past_fence(order: Order, exchange_time_ms: int, margin_ms: int) -> bool:
    """Whether the newest attempt, if it has not arrived by now, will not be taken any more."""
    send = order.sends[order.attempt]
    return exchange_time_ms > send.timestamp_ms + send.recv_window_ms + margin_ms


def not_accepted(order: Order, absence: Absence, time_ns: int) -> NotAccepted | None:
    """Return the verdict that the exchange never had the order, once all of the proof is there."""
    if not absence.is_complete:
        return None
    return NotAccepted(
        time_ns=time_ns,
        attempt=order.attempt,
        proof=(
            f"not executed, as far as can be proven: after its time window the exchange did not "
            f"know {order.client_order_id} in {absence.queries} queries, it is neither among the "
            f"open orders nor in the history, and other trades explain what the account holds"
        ),
    )


def _check_same(order: Order, told: ExchangeOrder) -> None:
    request = order.intent.request
    sent = {send.client_order_id for send in order.sends.values()}
    differences = [
        f"{name}: sent {ours}, told {theirs}"
        for name, ours, theirs in (
            ("symbol", request.symbol, told.symbol),
            ("side", request.side, told.side),
            ("amount", request.amount, told.amount),
            ("trigger price", request.trigger_price, told.trigger_price),
            ("trailing delta", request.trailing_delta, told.trailing_delta),
        )
        if theirs is not None and ours != theirs
    ]
    if told.client_order_id is not None and told.client_order_id not in sent:
        differences.append(f"client order id: sent {sorted(sent)}, told {told.client_order_id}")
    if differences:
        raise IllegalTransitionError(
            f"order {order.id}: the exchange speaks of another order ({'; '.join(differences)})"
        )

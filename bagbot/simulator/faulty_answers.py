"""What becomes of a request that a fault concerns, over REST and the WebSocket API alike.

A shell hands in how it carries a request out, and sends what comes back. Changing a request's
parameters after it was read leaves its signature as good as it was: that covers the bytes
received.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec

from bagbot.simulator import spoiled_reads
from bagbot.simulator.binance_errors import BinanceError
from bagbot.simulator.binance_wire import WireRequest, check_time
from bagbot.simulator.faults import HIDDEN_BODY, Fault, FaultKind, FaultScript
from bagbot.simulator.intake import Intake
from bagbot.simulator.late_requests import LateRequest
from bagbot.simulator.orders import Order
from bagbot.simulator.request_log import LoggedRequest
from bagbot.simulator.venue import Venue
from bagbot.simulator.wire_clock import WireClock

_NO_JSON = b"upstream connect error or disconnect/reset before headers"
_ORDERS_MAX = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer before it is sent: the JSON of REST, the result or error of the WebSocket API.

    `headers` are the true answer's own, None for one that a fault has made up. Of such, `text`
    is sent over REST instead of JSON. `spoil` changes the bytes.
    """

    status: int
    body: object
    headers: Mapping[str, str] | None = None
    retry_after_s: int | None = None
    text: str | None = None
    spoil: Callable[[bytes], bytes] | None = None


CarryOut = Callable[[WireRequest, LoggedRequest], Answer]


class FaultyAnswers:
    """Does to requests what the script says."""

    def __init__(self, venue: Venue, intake: Intake, faults: FaultScript, clock: WireClock) -> None:
        self._venue = venue
        self._intake = intake
        self._faults = faults
        self._clock = clock

    async def answer(
        self, fault: Fault, wire: WireRequest, log: LoggedRequest, carry_out: CarryOut
    ) -> Answer | None:
        """Return the answer to a request that goes wrong, or None to cut its connection."""
        match fault.kind:
            case FaultKind.LOSE_REQUEST:
                log.outcome = "lost"
                return None
            case FaultKind.REFUSE | FaultKind.HIDE:
                log.outcome = "refused"
                return self._prescribed(fault, log)
            case FaultKind.LATE:
                return self._postpone(fault, wire, log, carry_out)
            case FaultKind.DELAY_BEFORE:
                await asyncio.sleep(fault.delay_s)
            case FaultKind.FILL_FIRST:
                self._fill(fault, wire, log)
        answer = carry_out(self._changed(fault, wire, log), log)
        match fault.kind:
            case FaultKind.LOSE_ANSWER:
                return None
            case FaultKind.ANSWER:
                return self._prescribed(fault, log)
            case FaultKind.DELAY_ANSWER:
                await asyncio.sleep(fault.delay_s)
            case FaultKind.REPEAT:
                self._repeat(fault, wire, log, carry_out)
        return self._spoiled(fault, answer, wire, log)

    def _prescribed(self, fault: Fault, log: LoggedRequest) -> Answer:
        """Return the answer a fault puts in place of the true one."""
        status, body = fault.status, fault.body
        if fault.kind is FaultKind.HIDE:
            status, body = 400, HIDDEN_BODY
        code = body.get("code")
        log.status, log.code = status, code if isinstance(code, int) else None
        retry_after_s = fault.retry_after_s
        remaining_s = self._faults.remaining_s(fault)
        if retry_after_s is None and remaining_s is not None and status in (418, 429):
            retry_after_s = int(remaining_s) + 1
        return Answer(status=status, body=body, retry_after_s=retry_after_s, text=fault.text)

    # Carrying out late, and twice.

    def _postpone(
        self, fault: Fault, wire: WireRequest, log: LoggedRequest, carry_out: CarryOut
    ) -> Answer:
        """Answer now and carry out later; what comes too late by its own window is refused."""
        try:
            check_time(wire.parameters, self._clock())
        except BinanceError:
            return carry_out(wire, log)
        answer = self._prescribed(fault, log)
        log.outcome = "late"

        def carry_out_late() -> None:
            # The window is kept by the entrance, not by the engine: no document bounds the time.
            now_ns = self._clock()
            now = {"timestamp": str(now_ns // 1_000_000)}
            late = msgspec.structs.replace(log, received_ns=now_ns)
            carry_out(msgspec.structs.replace(wire, parameters=dict(wire.parameters) | now), late)
            log.outcome, log.accepted_ns = late.outcome, late.accepted_ns
            log.accepted_monotonic_ns = late.accepted_monotonic_ns

        self._wait(fault, log, carry_out_late, queries=fault.queries)
        return answer

    def _repeat(
        self, fault: Fault, wire: WireRequest, log: LoggedRequest, carry_out: CarryOut
    ) -> None:
        """Let the same bytes arrive again: at once, or after the fault's delay."""

        def arrive() -> object:
            return carry_out(wire, self._intake.log_repeated(log))

        if fault.delay_s:
            self._wait(fault, log, arrive, queries=0)
        else:
            arrive()

    def _wait(
        self,
        fault: Fault,
        log: LoggedRequest,
        carry_out: Callable[[], object],
        *,
        queries: int,
    ) -> None:
        self._intake.late.add(
            LateRequest(
                carry_out=carry_out,
                due_s=self._clock.true_s() + fault.delay_s,
                queries_left=queries if log.client_order_id is not None else 0,
                account_id=log.account_id,
                client_order_id=log.client_order_id,
            )
        )

    # Changing what is asked, and what is answered.

    def _changed(self, fault: Fault, wire: WireRequest, log: LoggedRequest) -> WireRequest:
        change: tuple[str, int] | None = None
        if fault.kind is FaultKind.OVERLAP:
            change = self._earlier_page(wire, log)
        elif fault.kind is FaultKind.OLDEST and "origClientOrderId" in wire.parameters:
            orders = self._orders(log)
            same = [each for each in orders if each.client_order_id == log.client_order_id]
            change = ("orderId", same[0].order_id) if same else None
        if change is None:
            return wire
        name, value = change
        return msgspec.structs.replace(wire, parameters=dict(wire.parameters) | {name: str(value)})

    def _earlier_page(self, wire: WireRequest, log: LoggedRequest) -> tuple[str, int] | None:
        """Return the start of the page that has one row more than the one asked for."""
        # For trades an order id is no place to begin at.
        is_trades = log.path.endswith("myTrades")
        name = "fromId" if is_trades else "orderId"
        start = wire.parameters.get(name, "")
        if not start.isdigit():
            return None
        if is_trades:
            executions = self._venue.store.executions(
                log.account_id or 0, log.symbol, limit=_ORDERS_MAX
            )
            ids = [execution.trade_id for execution in executions]
        else:
            ids = [order.order_id for order in self._orders(log)]
        return name, max((each for each in ids if each < int(start)), default=int(start))

    def _orders(self, log: LoggedRequest) -> list[Order]:
        """Return the orders of a request's account and symbol, oldest first."""
        return self._venue.store.orders(log.account_id or 0, log.symbol, limit=_ORDERS_MAX)

    def _spoiled(
        self, fault: Fault, answer: Answer, wire: WireRequest, log: LoggedRequest
    ) -> Answer:
        if fault.kind is FaultKind.TRUNCATE:
            return replace(answer, spoil=lambda sent: sent[: len(sent) // 2])
        if fault.kind is FaultKind.GARBLE:
            return replace(answer, spoil=lambda _: _NO_JSON)
        if answer.status != 200:
            return answer
        match fault.kind:
            case FaultKind.EMBELLISH:
                return replace(answer, body=spoiled_reads.embellished(answer.body))
            case FaultKind.STALE:
                return replace(answer, body=spoiled_reads.stale(answer.body))
            case FaultKind.OMIT:
                body = spoiled_reads.without_one(answer.body, fault.client_order_id)
                return replace(answer, body=body)
            case FaultKind.RENAME:
                return self._renamed(fault, answer, wire, log)
        return answer

    def _renamed(
        self, fault: Fault, answer: Answer, wire: WireRequest, log: LoggedRequest
    ) -> Answer:
        body = answer.body
        is_cancelled = isinstance(body, dict) and body.get("status") == "CANCELED"
        if is_cancelled and "orderId" not in wire.parameters:
            # Its record has another id by now, so the old one finds nothing.
            return self._prescribed(replace(fault, status=400, body=HIDDEN_BODY), log)

        def cancel_id_of(symbol: str, order_id: int) -> str:
            order = self._venue.store.order(log.account_id or 0, symbol, order_id)
            return "" if order is None else order.cancel_id

        return replace(answer, body=spoiled_reads.renamed(body, cancel_id_of))

    def _fill(self, fault: Fault, wire: WireRequest, log: LoggedRequest) -> None:
        """Let the market take what is about to be cancelled, as far as it rests on the book."""
        order = self._order_meant(wire, log)
        if order is not None:
            self._venue.fill_resting(order.order_id, fault.quantity, self._clock())

    def _order_meant(self, wire: WireRequest, log: LoggedRequest) -> Order | None:
        parameters = wire.parameters
        order_id = parameters.get("orderId", "")
        if log.account_id is None or log.symbol not in self._venue.exchange.symbols:
            return None
        return self._venue.order(
            log.account_id,
            log.symbol,
            order_id=int(order_id) if order_id.isdigit() else None,
            client_order_id=parameters.get("origClientOrderId"),
        )

"""Bugs planted into what is kept: reservations, the kill switch, identities, and the disk."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from bagbot.domain.events import OutcomeUnknown, Rejected
from bagbot.domain.order import OrderStatus
from bagbot.storage.journal import Record
from bagbot.tests.chaos.crashable_journal import CrashableJournal, JournalDisk
from bagbot.tests.chaos.planted_bugs import PLANTED, change, planted
from bagbot.tests.chaos.world import WatchedJournal
from bagbot.trading.account_state import AccountState
from bagbot.trading.order_executor import OrderExecutor

__all__ = ["PLANTED"]  # With these, the list is whole.

# ------------------------------------------------------------------- the gate


@planted("reservation released on UNKNOWN")
def _() -> None:
    def make(pending: Any) -> Any:
        def hopeful(self: Any, symbol: str, *, without: str | None = None) -> Any:
            known = self.live
            self.live = {i: None for i in known if self.orders[i].status is not OrderStatus.UNKNOWN}
            try:
                return pending(self, symbol, without=without)
            finally:
                self.live = known

        return hopeful

    change(AccountState, "pending", make)


@planted("orders in flight not counted")
def _() -> None:
    AccountState.pending = lambda self, symbol, without=None: (  # type: ignore[method-assign,misc,assignment]
        Decimal(0),
        Decimal(0),
    )


@planted("buys and sells confused in the reservation")
def _() -> None:
    def make(pending: Any) -> Any:
        def confused(self: Any, symbol: str, *, without: str | None = None) -> Any:
            buys, sells = pending(self, symbol, without=without)
            return sells, buys

        return confused

    change(AccountState, "pending", make)


@planted("kill switch forgotten after a restart")
def _() -> None:
    _forget("KILL_SWITCH")


@planted("kill switch only in memory")
def _() -> None:
    async def unwritten(self: Any, reason: str | None, *, by: str) -> None:
        self.state.set_kill_switch(reason)

    OrderExecutor.set_kill_switch = unwritten  # type: ignore[method-assign]


@planted("kill switch not asked again at sending")
def _() -> None:
    OrderExecutor._stopped_meanwhile = lambda self, order_id: None  # type: ignore[method-assign]


@planted("decision without an order forgotten after a restart")
def _() -> None:
    _forget("DECISION")


def _forget(kind: str) -> None:
    def make(fold: Any) -> Any:
        def forgetful(self: Any, record: Record) -> None:
            if record.kind != kind:
                fold(self, record)

        return forgetful

    change(AccountState, "_fold", make)


@planted("idempotency key forgotten after a restart")
def _() -> None:
    def make(replay: Any) -> Any:
        def forgetful(self: Any, records: Any) -> Any:
            interrupted = replay(self, records)
            self.known.clear()
            return interrupted

        return forgetful

    change(AccountState, "replay", make)


@planted("idempotency key forgotten while it is being written")
def _() -> None:
    def make(remember: Any) -> Any:
        def late(self: Any, identity: str, known: Any) -> None:
            if known.durable is None:
                remember(self, identity, known)
            else:
                loop = asyncio.get_running_loop()
                loop.call_later(0.01, remember, self, identity, known)

        return late

    change(AccountState, "remember", make)


# ---------------------------------------------------------- crashes and disks


@planted("an interrupted order is taken as rejected")
def _() -> None:
    def wrongly(self: Any, order_id: str) -> Any:
        attempt = self.state.orders[order_id].attempt
        return Rejected(time_ns=self._clock.time_ns(), reason="interrupted", attempt=attempt)

    OrderExecutor._interrupted = wrongly  # type: ignore[method-assign]


@planted("an interrupted order is sent again")
def _() -> None:
    def make(learn: Any) -> Any:
        async def again(self: Any, order_id: str, events: Any) -> None:
            await learn(self, order_id, events)
            if not any(isinstance(e, OutcomeUnknown) and "interrupted" in e.reason for e in events):
                return
            order = self.state.orders[order_id]
            send, request = order.sends[order.attempt], order.intent.request
            anew = replace(
                request,
                client_order_id=send.client_order_id,
                params={"timestamp": send.timestamp_ms, "recvWindow": send.recv_window_ms},
            )
            await self._send(anew, self._prepared(anew))

        return again

    change(OrderExecutor, "_learn", make)


@planted("second writer allowed")
def _() -> None:
    def make(begin: Any) -> Any:
        def barge(self: Any, disk: JournalDisk, **rest: Any) -> None:
            disk.is_held = False
            begin(self, disk, **rest)

        return barge

    change(CrashableJournal, "__init__", make)


@planted("a torn record is read as a whole one")
def _() -> None:
    def make(frames: Any) -> Any:
        def lenient(self: JournalDisk) -> Any:
            end = 0
            with contextlib.suppress(Exception):
                for end, rows in frames(self):
                    yield end, rows
            if end < len(self.data):
                # Something is there, so it must be an order's record: take the last as read.
                rows_before = [row for _, rows in frames(self) for row in rows]
                if rows_before:
                    yield len(self.data), rows_before[-1:]

        return lenient

    change(JournalDisk, "frames", make)


@planted("a failed write is taken as done")
def _() -> None:
    def make(flushed: Any) -> Any:
        def hides(self: Any) -> None:
            self._failure = None
            flushed(self)

        return hides

    change(WatchedJournal, "_flushed", make)


@planted("an end is not written down")
def _() -> None:
    def make(append: Any) -> Any:
        async def unless_end(self: Any, records: Sequence[Record]) -> None:
            kept = [r for r in records if r.kind not in ("CANCELLED", "EXPIRED")]
            if kept:
                await append(self, kept)

        return unless_end

    change(OrderExecutor, "_append", make)

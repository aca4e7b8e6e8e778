"""Bugs planted into what is kept: reservations, switches, identities, disk, and the books."""

import asyncio
import base64
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from bagbot.domain.events import Cancelled, Rejected
from bagbot.domain.order import OrderStatus
from bagbot.storage.journal import Mark, Record
from bagbot.storage.snapshot import Snapshot, UnusableSnapshotError
from bagbot.tests.chaos.crashable_journal import CrashableJournal, JournalDisk
from bagbot.tests.chaos.planted_bugs import PLANTED, change, planted
from bagbot.tests.chaos.world import WatchedJournal
from bagbot.trading import recovery
from bagbot.trading.account_book import AccountBook
from bagbot.trading.account_state import AccountState
from bagbot.trading.holdings import Holdings
from bagbot.trading.journal_records import KillSwitchSet, record_of
from bagbot.trading.order_executor import OrderExecutor
from bagbot.trading.reconciliation import Reconciliation

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


@planted("an alarm that comes while another is put aside is put aside with it")
def _() -> None:
    async def late(self: Any, reason: str | None, *, by: str) -> None:
        if reason is not None:
            self.state.killed = reason
        fact = KillSwitchSet(time_ns=self._clock.time_ns(), reason=reason, by=by)
        await self._book.append([record_of(fact)])
        self.state.set_kill_switch(reason)

    OrderExecutor.set_kill_switch = late  # type: ignore[method-assign]


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

    change(AccountState, "take_in", make)


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
        async def again(self: Any, order_ids: Sequence[str]) -> None:
            await learn(self, order_ids)
            for order_id in order_ids:
                order = self.state.orders[order_id]
                if order.status is not OrderStatus.UNKNOWN:
                    continue
                send, request = order.sends[order.attempt], order.intent.request
                anew = replace(
                    request,
                    client_order_id=send.client_order_id,
                    params={"timestamp": send.timestamp_ms, "recvWindow": send.recv_window_ms},
                )
                await self._send(anew, self._prepared(anew))

        return again

    change(OrderExecutor, "_learn_interrupted", make)


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

    change(AccountBook, "append", make)


# ------------------------------------------------------------------ snapshots


@planted("a snapshot of another journal is used")
def _() -> None:
    CrashableJournal.holds = lambda self, mark: True  # type: ignore[method-assign]


@planted("a damaged snapshot is believed")
def _() -> None:
    def trusting(path: Path, *, fold: str) -> Snapshot | None:
        if not path.exists():
            return None
        line, _, body = path.read_bytes().partition(b"\n")
        try:
            header = msgspec.json.decode(line)
            return Snapshot(
                Mark(header["sequence"], base64.b64decode(header["hash"])), header["fold"], body
            )
        except (ValueError, KeyError, msgspec.MsgspecError) as error:
            raise UnusableSnapshotError(str(error)) from error

    recovery.read_snapshot = trusting  # type: ignore[attr-defined]


@planted("a snapshot forgets the trades of others")
def _() -> None:
    def make(restored: Any) -> Any:
        def forgetful(body: Any) -> Any:
            state = restored(body)
            state.holdings.external_trades.clear()
            return state

        return forgetful

    change(recovery, "_restored", make)


# ------------------------------------------------------------------ the books


@planted("a residual is not told")
def _() -> None:
    Holdings.unexplained = lambda self, told, symbols: {}  # type: ignore[method-assign]


@planted("a difference is believed at once")
def _() -> None:
    Reconciliation._is_sure = lambda self, found: True  # type: ignore[method-assign]


@planted("a trade of others is booked as ours")
def _() -> None:
    def make(book: Any) -> Any:
        async def greedy(self: Any, trade: Any) -> bool:
            if self._state.is_external(trade):
                for order_id in self._state.live:
                    order = self._state.orders[order_id]
                    exchange_id = order.exchange_order_id
                    if exchange_id and order.intent.request.side is trade.side:
                        await self._learn_trade(
                            order_id, replace(trade, exchange_order_id=exchange_id)
                        )
                        return True
            return bool(await book(self, trade))

        return greedy

    change(Reconciliation, "_book_trade", make)


@planted("a trade of an order not heard of yet is taken for others'")
def _() -> None:
    AccountState.is_external = lambda self, trade: True  # type: ignore[method-assign]


@planted("trades that are told late are passed over")
def _() -> None:
    def make(cover: Any) -> Any:
        async def hasty(self: Any, symbol: str, baseline: Any) -> bool:
            kept, self._settings = self._settings, replace(self._settings, replica_lag_max_s=0.0)
            try:
                return bool(await cover(self, symbol, baseline))
            finally:
                self._settings = kept

        return hasty

    change(Reconciliation, "_cover", make)


@planted("the books begin after the first order")
def _() -> None:
    async def later(self: Any) -> None:
        return

    Reconciliation.start = later  # type: ignore[method-assign]


@planted("books that could not begin, because something traded, are taken to have begun")
def _() -> None:
    def make(take: Any) -> Any:
        async def careless(self: Any, symbols: Sequence[str]) -> bool:
            await take(self, symbols)
            return True

        return careless

    change(Reconciliation, "_take_baseline", make)


@planted("an open order that a list omits is taken as cancelled")
def _() -> None:
    def make(see: Any) -> Any:
        async def hasty(self: Any, symbol: str) -> None:
            await see(self, symbol)
            here = {told.id for told in await self._connector.fetch_open_orders(symbol)}
            for order_id in tuple(self._state.live):
                exchange_id = self._state.orders[order_id].exchange_order_id
                if exchange_id and exchange_id not in here:
                    now_ns = self._clock.time_ns()
                    ended = Cancelled(time_ns=now_ns, exchange_order_id=exchange_id)
                    await self._book.learn(order_id, [ended])

        return hasty

    change(Reconciliation, "_see_open_orders", make)

"""The judge: it sees every byte that leaves, every record, and the exchange's own truth.

It keeps a model of its own, much simpler than the engine's, and raises `Violation` at the first
event after which an invariant does not hold. The names S1 to S16 and L1 are explained in
docs/RELIABILITY.md.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal
from typing import Final

import msgspec

from bagbot.domain import events
from bagbot.domain.instrument import Side
from bagbot.domain.order import OrderIntent, OrderRequest, OrderStatus, OrderType, TimeInForce
from bagbot.simulator.amounts import amount_text
from bagbot.simulator.orders import Execution, OrderEvent
from bagbot.simulator.orders import Order as VenueOrder
from bagbot.storage.journal import Record, Row
from bagbot.tests.chaos.crashable_journal import JournalDisk
from bagbot.tests.chaos.exchange_host import ACCOUNT, ORDERS, REPLACING, SYMBOL, ExchangeHost, Life
from bagbot.trading.account_state import TOKEN_SOURCE, AccountState
from bagbot.trading.journal_records import (
    BaselineTaken,
    DisputeFound,
    ExternalFilled,
    IntentRecorded,
    KillSwitchSet,
    ResidualFound,
    entry_of,
)

PREFIX: Final = "bb"
_LOT, _TICK = Decimal("0.00001"), Decimal("0.01")
# The engine judges by a price that may be some seconds old.
_PRICE_SLACK: Final = Decimal("1.03")
# What a token may cost, and how near to the market it may be.
_TOKEN_VALUE_MAX: Final = 20
_TOKEN_PRICE_RATIO_MAX: Final = Decimal("0.6")
_SENDS_WITH_TOKEN: Final = 3
_GATE_SLACK_NS: Final = 1_000_000_000
HEAD_BYTES: Final = 8


class Violation(SystemExit):
    """An invariant does not hold."""


@dataclass(slots=True)
class Known:
    """What the records say of one order, folded by the judge itself."""

    intent: OrderIntent
    has_verdict: bool
    sends: dict[int, events.Submitted] = field(default_factory=dict)
    fills: dict[str, events.Fill] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)

    @property
    def filled(self) -> Decimal:
        return sum((fill.quantity for fill in self.fills.values()), Decimal(0))

    @property
    def is_live(self) -> bool:
        if self.filled == self.intent.request.amount:
            return False
        ended = {"REFUSED", "WITHDRAWN", "CANCELLED", "EXPIRED"}
        if ended & set(self.kinds):
            return False
        return not ({"REJECTED", "NOT_ACCEPTED"} & set(self.kinds)) or "ACCEPTED" in self.kinds


class Records:
    """A fold of records, as far as it is needed to judge."""

    def __init__(self) -> None:
        self.orders: dict[str, Known] = {}
        self.by_client_id: dict[str, tuple[str, int]] = {}
        self.killed: str | None = None
        self.disputes = 0
        self.have_books_begun = False
        self.count = 0

    def add(self, record: Record) -> None:
        entry = entry_of(record)
        self.count += 1
        if isinstance(entry, IntentRecorded):
            self.orders[record.order_id] = Known(entry.intent, bool(entry.checks))
        elif isinstance(entry, KillSwitchSet):
            self.killed = entry.reason
        elif isinstance(entry, DisputeFound):
            self.disputes += 1
        elif isinstance(entry, BaselineTaken):
            self.have_books_begun = True
        elif record.order_id:
            order = self.orders[record.order_id]
            order.kinds.append(record.kind)
            if isinstance(entry, events.Submitted):
                order.sends[entry.attempt] = entry
                self.by_client_id[entry.client_order_id] = record.order_id, entry.attempt
            elif isinstance(entry, events.Filled):
                order.fills[entry.fill.trade_id] = entry.fill

    def position(self) -> Decimal:
        """Return what the booked fills left, net of fees paid in the base asset."""
        total = Decimal(0)
        for order in self.orders.values():
            sign = 1 if order.intent.request.side is Side.BUY else -1
            for fill in order.fills.values():
                total += sign * fill.quantity - (fill.fee if fill.fee_asset == "BTC" else 0)
        return total

    def pending(self, side: Side, *, without: str) -> Decimal:
        """Return what live orders could still trade on a side."""
        return sum(
            (
                order.intent.request.amount - order.filled
                for order_id, order in self.orders.items()
                if order_id != without and order.intent.request.side is side and order.is_live
            ),
            Decimal(0),
        )


class Oracle:
    """Judges one seed."""

    def __init__(self, position_value_max: Decimal, now_ns: Callable[[], int]) -> None:
        self.host: ExchangeHost
        self.disk: JournalDisk
        self.wished: Mapping[str, OrderRequest | None] = {}
        self.says: Callable[[str], None] | None = None
        self.events = 0
        self.durable = Records()
        self.appended = Records()
        self._rows: list[Record] = []
        self._durable_end = 0
        self._durable_rows: list[Record] = []
        self._limit = position_value_max
        self._now_ns = now_ns
        self._digest = hashlib.sha256()
        self._sent: Counter[str] = Counter()
        self._dead_ids: dict[str, str] = {}
        self._venue_ids: dict[str, list[int]] = {}
        self._gate: tuple[int, int] = (0, 0)
        self._live_life = 0
        self.is_killed = False
        self.foreign_ids: set[str] = set()
        self._acknowledged: dict[str, tuple[str | None, str]] = {}
        self._begun_early: set[Record] = set()
        self._token_takers: dict[str, str] = {}

    # The trace.

    def note(self, *parts: object) -> None:
        """Add a line to the trace; its hash is the run's identity."""
        self.events += 1
        line = f"{self._now_ns()} {' '.join(map(str, parts))}\n"
        self._digest.update(line.encode())
        if self.says is not None:
            self.says(line)

    @property
    def trace(self) -> str:
        """The hash of everything that has happened."""
        return self._digest.hexdigest()

    def fail(self, invariant: str, text: str) -> None:
        self.note("VIOLATION", invariant, text)
        raise Violation(f"{invariant}: {text}")

    def require(self, holds: bool, invariant: str, text: str) -> None:
        if not holds:
            self.fail(invariant, text)

    @property
    def may_be_alarmed(self) -> bool:
        """Whether something has contradicted itself, or is left over, as far as the disk tells."""
        return bool(self.host.contradictions or self._begun_early)

    # Lives.

    def life_begins(self, life: Life) -> None:
        """Read the disk as the new life will find it: what was promised must be there."""
        self.note("life", life.number)
        self._live_life = life.number
        rows = [
            Record(row[3], row[4], row[2], row[5])
            for _, frame in self.disk.frames()
            for row in frame
        ]
        promised = self._durable_rows
        self.require(rows[: len(promised)] == promised, "S8", "a durable record is gone")
        self._rows = rows
        self._begun_early.intersection_update(rows)
        self.appended = Records()
        for record in rows:
            self.appended.add(record)
        self._durable_rows, self.durable = [], Records()
        self._durable_end = 0
        self._gate = (0, 0)

    # The journal.

    def records_queued(self, records: Sequence[Record]) -> None:
        """Judge what the engine claims, at the moment it claims it."""
        for record in records:
            self.note("record", record.kind, record.order_id, record.payload.decode())
            self._rows.append(record)
            self._judge(record)
            self.appended.add(record)

    def sync(self) -> list[str]:
        """Take in what is on the disk for certain by now; return the kinds that are new."""
        kinds = []
        data = self.disk.data
        while self._durable_end < self.disk.flushed:
            begin = self._durable_end + HEAD_BYTES
            end = begin + int.from_bytes(data[self._durable_end : self._durable_end + 4], "big")
            for row in msgspec.msgpack.decode(data[begin:end], type=list[Row]):
                record = Record(row[3], row[4], row[2], row[5])
                self._durable_rows.append(record)
                self.durable.add(record)
                kinds.append(record.kind)
            self._durable_end = end
        return kinds

    def _judge(self, record: Record) -> None:
        entry = entry_of(record)
        where = f"{record.kind} of {record.order_id}"
        if isinstance(entry, IntentRecorded):
            self.require(record.order_id not in self.appended.orders, "S9", f"{where}: twice")
            self._judge_intent(where, record.order_id, entry.intent)
        order = self.appended.orders.get(record.order_id)
        if isinstance(entry, events.Submitted):
            assert order is not None or record.order_id
            self.require(
                entry.client_order_id not in self.appended.by_client_id,
                "S2",
                f"{where}: the id {entry.client_order_id} is used a second time",
            )
        elif isinstance(entry, events.Accepted):
            self._judge_exists(where, record.order_id, entry.exchange_order_id)
        elif isinstance(entry, events.Filled):
            self._judge_fill(where, record.order_id, entry)
        elif isinstance(entry, ExternalFilled):
            self._judge_external(entry)
        elif isinstance(entry, ResidualFound):
            self._judge_residual(entry)
        elif isinstance(entry, BaselineTaken) and self.host.has_hidden_trades:
            # What is told later is counted twice, if this is not lost with the life.
            self._begun_early.add(record)
        elif isinstance(entry, events.Cancelled | events.Expired):
            venue_order = self._judge_exists(where, record.order_id, entry.exchange_order_id)
            ends = (
                ("CANCELED",)
                if isinstance(entry, events.Cancelled)
                else ("EXPIRED", "EXPIRED_IN_MATCH")
            )
            self.require(
                venue_order.status.value in ends,
                "S7",
                f"{where}: at the exchange it is {venue_order.status.value}",
            )
            self.require(
                order is not None and order.filled == _amount(venue_order.executed),
                "S6",
                f"{where}: ended with {order and order.filled} of "
                f"{_amount(venue_order.executed)} booked",
            )
        elif isinstance(entry, events.Rejected | events.NotAccepted):
            assert order is not None
            client_id = order.sends[entry.attempt].client_order_id
            self.require(
                client_id not in self._venue_ids,
                "S6",
                f"{where}: the exchange has it as {self._venue_ids.get(client_id)}",
            )
            self._dead_ids[client_id] = where

    def _judge_intent(self, where: str, order_id: str, intent: OrderIntent) -> None:
        """What is written down is what was wished for, on the exchange's steps."""
        request = intent.request
        if intent.source == TOKEN_SOURCE:
            self._judge_token(where, request)
            return
        wished = self.wished[order_id]
        assert wished is not None
        amount = wished.amount.quantize(_LOT, ROUND_DOWN)
        price = wished.price
        if price is not None:
            is_buy = request.side is Side.BUY
            price = price.quantize(_TICK, ROUND_FLOOR if is_buy else ROUND_CEILING)
        self.require(
            (request.side, request.type, request.amount, request.price, request.time_in_force)
            == (wished.side, wished.type, amount, price, wished.time_in_force),
            "S10",
            f"{where}: wished for {wished}, written down as {request}",
        )

    def _judge_token(self, where: str, request: OrderRequest) -> None:
        """Nobody wished for a token: it is small, rests, and is far from the market."""
        assert request.price is not None
        market = Decimal(amount_text(self.host.venue.last_price(SYMBOL)))
        self.require(
            request.side is Side.BUY
            and request.time_in_force is TimeInForce.PO
            and request.price <= market * _TOKEN_PRICE_RATIO_MAX
            and request.price * request.amount <= _TOKEN_VALUE_MAX,
            "S10",
            f"{where}: {request} is no token",
        )

    def _judge_exists(self, where: str, order_id: str, exchange_id: str) -> VenueOrder:
        venue_order = self.host.orders.get(int(exchange_id))
        if venue_order is None:
            self.fail("S7", f"{where}: the exchange has no order {exchange_id}")
        assert venue_order is not None
        ours = self.appended.by_client_id.get(venue_order.client_order_id)
        self.require(
            ours is not None and ours[0] == order_id,
            "S7",
            f"{where}: order {exchange_id} is {venue_order.client_order_id}",
        )
        return venue_order

    def _judge_fill(self, where: str, order_id: str, entry: events.Filled) -> None:
        self._judge_exists(where, order_id, entry.exchange_order_id)
        fill = entry.fill
        self._require_traded(where, int(entry.exchange_order_id), fill)
        order = self.appended.orders[order_id]
        self.require(fill.trade_id not in order.fills, "S4", f"{where}: booked twice")
        whole = order.filled + fill.quantity
        self.require(whole <= order.intent.request.amount, "S3", f"{where}: {whole} filled")

    def _judge_residual(self, entry: ResidualFound) -> None:
        is_true = not entry.amount or self.may_be_alarmed
        self.require(is_true, "S12", f"{entry.amount} {entry.name} is said to be left over")

    def _judge_external(self, entry: ExternalFilled) -> None:
        exchange_id = int(entry.exchange_order_id)
        client_id = self.host.orders[exchange_id].client_order_id
        where = f"trade {entry.fill.trade_id} of {client_id}"
        ours = self.appended.by_client_id.get(client_id)
        self.require(ours is None, "S4", f"{where} is booked as not ours, and is of {ours}")
        self._require_traded(where, exchange_id, entry.fill)

    def _require_traded(self, where: str, exchange_id: int, fill: events.Fill) -> None:
        found = [
            execution
            for execution in self.host.executions.get(exchange_id, ())
            if str(execution.trade_id) == fill.trade_id
        ]
        self.require(bool(found), "S7", f"{where}: there is no trade {fill.trade_id}")
        told = (fill.quantity, fill.price, fill.fee, fill.fee_asset)
        truth = _fill_of(found[0])
        self.require(told == truth, "S4", f"{where}: booked {told}, traded {truth}")

    # The wire.

    def request_leaves(self, life: Life, method: str, path: str, fields: Mapping[str, str]) -> None:
        """Judge a request before its first byte leaves."""
        now_ns = self._now_ns()
        from_ns, until_ns = self._gate
        self.require(
            not from_ns < now_ns < until_ns - _GATE_SLACK_NS,
            "S14",
            f"{method} {path} within the time the exchange asked to be left alone",
        )
        if path not in ORDERS or method == "GET":
            return
        client_id = fields.get("newClientOrderId", "")
        self.note("leaves", method, client_id, fields.get("orderId", ""))
        self.require(life.number == self._live_life, "S16", "two engines send")
        if method == "POST":
            self._judge_order(path, client_id, fields)

    def _judge_order(self, path: str, client_id: str, fields: Mapping[str, str]) -> None:
        self.sync()
        self._sent[client_id] += 1
        place = self.durable.by_client_id.get(client_id)
        if place is None:
            self.fail("S2", f"{client_id} leaves before its records are durable")
        assert place is not None
        self.require(
            self.durable.have_books_begun, "S5", f"{client_id} leaves before the books begin"
        )
        order_id, attempt = place
        order = self.durable.orders[order_id]
        request, send = order.intent.request, order.sends[attempt]
        if self._sent[client_id] == 1:
            stamped = str(send.timestamp_ms), str(send.recv_window_ms)
            left = fields.get("timestamp"), fields.get("recvWindow")
            self.require(left == stamped, "S2", f"{client_id}: stamped {stamped}, sent {left}")
        self._judge_sends(path, client_id, send.token, fields)
        self.require(order.has_verdict, "S10", f"{client_id} leaves without a verdict")
        self.require(
            fields["side"] == request.side.value.upper()
            and Decimal(fields["quantity"]) == request.amount
            and (Decimal(fields["price"]) if "price" in fields else None) == request.price
            and (fields["type"], fields.get("timeInForce")) == _kind_of(request),
            "S10",
            f"{client_id}: approved {request}, sent {dict(fields)}",
        )
        for earlier in range(attempt):
            self.require(
                order.sends[earlier].client_order_id in self._dead_ids,
                "S1",
                f"{client_id}: attempt {earlier} may still be alive",
            )
        self._judge_exposure(client_id, order_id, order)

    def _judge_sends(
        self, path: str, client_id: str, token: str, fields: Mapping[str, str]
    ) -> None:
        """Only what replaces a token of its own may be sent again."""
        sent = self._sent[client_id]
        if not token:
            self.require(sent == 1, "S1", f"{client_id} is sent a second time")
            self.require(path != REPLACING, "S10", f"{client_id} replaces without a token")
            return
        self.require(sent <= _SENDS_WITH_TOKEN, "S1", f"{client_id} is sent {sent} times")
        taker = self._token_takers.setdefault(token, client_id)
        self.require(taker == client_id, "S1", f"{token} is for {taker} and for {client_id}")
        token_send = self.durable.orders[token].sends[0]
        replaced = str(self._venue_ids[token_send.client_order_id][0])
        told = path, fields.get("cancelReplaceMode"), fields.get("cancelOrderId")
        wanted = REPLACING, "STOP_ON_FAILURE", replaced
        self.require(told == wanted, "S1", f"{client_id} is sent by {told}, its token is {token}")

    def _judge_exposure(self, client_id: str, order_id: str, order: Known) -> None:
        request, appended = order.intent.request, self.appended
        # What is sent again may have traded meanwhile.
        amount = request.amount - appended.orders[order_id].filled
        position = appended.position()
        pending = appended.pending(request.side, without=order_id)
        held = position if request.side is Side.SELL else -position
        is_reducing = amount + pending <= held
        self.require(
            not self.is_killed or is_reducing, "S11", f"{client_id} leaves, the switch is on"
        )
        sign = 1 if request.side is Side.BUY else -1
        worst = abs(position + sign * (pending + amount))
        price = Decimal(amount_text(self.host.venue.last_price(SYMBOL)))
        self.require(
            is_reducing or worst * price <= self._limit * _PRICE_SLACK,
            "S10",
            f"{client_id}: {worst} at {price} is more than {self._limit}",
        )

    def answer_comes(self, life: Life, status: int, text: str, wait: str | None) -> None:
        """Note an answer on its way into the engine, and a wait that it asks for."""
        self.note("answer", status, text[:160], wait or "")
        if wait is not None and "-1015" not in text and life.number == self._live_life:
            now_ns = self._now_ns()
            self._gate = (
                now_ns,
                max(self._gate[1], now_ns + int(wait) * 1_000_000_000),
            )

    @property
    def banned_until_ns(self) -> int:
        """Until when the exchange wants to hear nothing."""
        return self._gate[1]

    # The exchange.

    def venue_says(self, event: OrderEvent) -> None:
        """Judge what has really happened to an order of the account."""
        order = event.order
        self.note("truth", event.kind, order.order_id, event.status.value, event.executed)
        client_id = order.client_order_id
        if not client_id.startswith(PREFIX) or client_id in self.foreign_ids:
            return
        ids = self._venue_ids.setdefault(client_id, [])
        if order.order_id not in ids:
            ids.append(order.order_id)
        self.require(len(ids) == 1, "S1", f"{client_id} is at the exchange as {ids}")
        self.require(client_id in self._sent, "S2", f"{client_id} was never sent")
        self.require(
            client_id not in self._dead_ids, "S6", f"{client_id}: {self._dead_ids.get(client_id)}"
        )

    # Callers.

    def acknowledged(
        self, identity: str, fingerprint: str, told: object, *, is_first: bool
    ) -> None:
        """Judge what a caller was told of a decision: it must be durable, and one and the same."""
        order_id = getattr(getattr(told, "order", None), "id", None)
        is_repeat, differs = getattr(told, "is_repeat", None), getattr(told, "differs", None)
        self.note("told", identity, order_id, is_repeat, differs)
        self.sync()
        if order_id is not None:
            self.require(order_id in self.durable.orders, "S8", f"{identity} is not durable")
        known = self._acknowledged.setdefault(identity, (order_id, fingerprint))
        self.require(known[0] == order_id, "S9", f"{identity} has two orders")
        if not is_first:
            self.require(bool(is_repeat), "S9", f"{identity}: its repeat counts as new")
            self.require(
                bool(differs) == (known[1] != fingerprint), "S9", f"{identity}: differs={differs}"
            )

    # The end.

    def replay_equals(self, state: AccountState) -> None:
        """Compare a state with the replay of its journal (S13)."""
        replayed = AccountState()
        replayed.replay(self._rows)
        for name in ("orders", "live", "killed", "disputes", "holdings", "by_exchange_id"):
            ours, theirs = getattr(replayed, name), getattr(state, name)
            self.require(ours == theirs, "S13", f"{name} differ: {ours} and {theirs}")
        self.require(
            replayed.ledger.positions() == state.ledger.positions(), "S13", "positions differ"
        )
        self.require(
            {key: k.order_id for key, k in replayed.known.items()}
            == {key: k.order_id for key, k in state.known.items()},
            "S13",
            "what was decided differs",
        )

    def settled(self, state: AccountState) -> None:
        """Compare everything with the exchange's truth, once nothing is open any more."""
        position = Decimal(0)
        for order in state.orders.values():
            if order.intent.source == TOKEN_SOURCE and not order.is_final:
                # It rests until it is needed, or is just being made.
                continue
            sends = order.sends.values()
            ids = [i for send in sends for i in self._venue_ids.get(send.client_order_id, ())]
            self.require(len(ids) <= 1, "S1", f"{order.id} was executed as {ids}")
            if not ids:
                self.require(
                    order.status
                    in (
                        OrderStatus.REFUSED,
                        OrderStatus.WITHDRAWN,
                        OrderStatus.REJECTED,
                        OrderStatus.NOT_ACCEPTED,
                    ),
                    "S7",
                    f"{order.id} is {order.status}, and the exchange never had it",
                )
                continue
            truth = self.host.orders[ids[0]]
            expected = {
                "FILLED": OrderStatus.FILLED,
                "CANCELED": OrderStatus.CANCELLED,
                "EXPIRED": OrderStatus.EXPIRED,
                "EXPIRED_IN_MATCH": OrderStatus.EXPIRED,
            }.get(truth.status.value)
            self.require(
                order.status is expected,
                "S6",
                f"{order.id} is {order.status}, at the exchange {truth.status.value}",
            )
            executions = self.host.executions.get(ids[0], [])
            booked = {t: (f.quantity, f.price, f.fee, f.fee_asset) for t, f in order.fills.items()}
            traded = {str(e.trade_id): _fill_of(e) for e in executions}
            self.require(booked == traded, "S4", f"{order.id}: booked {booked}, traded {traded}")
            for execution in executions:
                position += _change(execution, "BTC")
        held = state.ledger.position("main", "BTC/USDT").quantity
        self.require(held == position, "S5", f"position {held}, at the exchange {position}")
        self._balances_add_up()
        self.replay_equals(state)
        self.note("settled", position)

    def wrong_in_books(self, state: AccountState) -> str | None:
        """Return what the account holds that neither its trades nor a residual tell, or None."""
        holdings = state.holdings
        if holdings.baseline is None:
            return "the books have not begun"
        for asset in ("BTC", "USDT"):
            held = self.host.venue.exchange.balances[ACCOUNT][asset]
            told = holdings.expected.get(asset, 0) + holdings.residuals.get(asset, 0)
            wrong = _amount(held.free + held.locked) - told
            if abs(wrong) > holdings.slack.get(asset, 0):
                return f"books of {asset}: {wrong:+f} that no trade explains and nobody tells"
        return None

    def _balances_add_up(self) -> None:
        for asset in ("BTC", "USDT"):
            held = self.host.venue.exchange.balances[ACCOUNT][asset]
            moved = sum(
                (_change(e, asset) for all_ in self.host.executions.values() for e in all_),
                Decimal(0),
            )
            expected = _amount(self.host.initial[asset]) + moved
            total = _amount(held.free + held.locked)
            self.require(total == expected, "S5", f"{asset}: {total} held, {expected} traded")


def _kind_of(request: OrderRequest) -> tuple[str, str | None]:
    if request.type is OrderType.MARKET:
        return "MARKET", None
    if request.time_in_force is TimeInForce.PO:
        return "LIMIT_MAKER", None
    return "LIMIT", (request.time_in_force or TimeInForce.GTC).value


def _amount(units: int) -> Decimal:
    return Decimal(units).scaleb(-8)


def _fill_of(execution: Execution) -> tuple[Decimal, Decimal, Decimal, str]:
    return (
        _amount(execution.quantity),
        _amount(execution.price),
        _amount(execution.commission),
        execution.commission_asset,
    )


def _change(execution: Execution, asset: str) -> Decimal:
    sign = 1 if execution.is_buyer else -1
    change = sign * execution.quantity if asset == "BTC" else -sign * execution.quote_quantity
    if execution.commission_asset == asset:
        change -= execution.commission
    return _amount(change)

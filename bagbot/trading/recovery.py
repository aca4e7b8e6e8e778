"""From a journal to what it adds up to: the newest snapshot that fits, and the rows after it.

The journal alone is the truth. A snapshot only saves time: it is used when it is whole, was folded
by this very code, and stands for a row that the journal has; else all is read, and a warning says
why. How long a start takes then depends on the rows since the snapshot, not on the history.
"""

import gc
import hashlib
import importlib.resources
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
import structlog

from bagbot.domain.instrument import Side
from bagbot.domain.ledger import Ledger, Position, TradeKey
from bagbot.storage.journal import START, Journal, Mark
from bagbot.storage.snapshot import Snapshot, UnusableSnapshotError, read_snapshot
from bagbot.trading.account_state import EXTERNAL, AccountState, Known, LiveStrategy
from bagbot.trading.holdings import Holdings
from bagbot.trading.order_archive import Fills, KeptOrder, Orders

logger = structlog.get_logger(__name__)

# Everything that decides what a row does to the state, or how a snapshot says it.
_FOLDING_CODE: Final = (
    "domain/events.py",
    "domain/instrument.py",
    "domain/ledger.py",
    "domain/order.py",
    "trading/account_state.py",
    "trading/holdings.py",
    "trading/journal_records.py",
    "trading/order_archive.py",
    "trading/recovery.py",
    "trading/risk_manager.py",
)


def recovered(journal: Journal, snapshot: Path | None = None) -> tuple[AccountState, list[str]]:
    """Return what the journal adds up to, and the orders that were in flight when it ended.

    Raises JournalError naming the place when a row that had to be read is not what was written.
    """
    with without_collections():
        state, mark = state_at_snapshot(snapshot, journal.holds)
        return state, state.replay(journal.replay(mark))


def state_at_snapshot(
    path: Path | None, holds: Callable[[Mark], bool]
) -> tuple[AccountState, Mark]:
    """Return the state a snapshot tells and its place in the journal, else an empty one at START.

    `holds` says whether the journal has a mark.
    """
    if path is not None:
        try:
            snapshot = read_snapshot(path, fold=fold_version())
            if snapshot is not None:
                if not holds(snapshot.mark):
                    raise UnusableSnapshotError(
                        f"the journal has no row {snapshot.mark.sequence} with its hash"
                    )
                return state_from(snapshot), snapshot.mark
        except UnusableSnapshotError as error:
            logger.warning("snapshot ignored, all is read", path=str(path), reason=str(error))
    return AccountState(), START


@cache
def fold_version() -> str:
    """Return a name for the code that folds: a snapshot of any other is not used."""
    digest = hashlib.sha256()
    for name in _FOLDING_CODE:
        digest.update((importlib.resources.files("bagbot") / name).read_bytes())
    return digest.hexdigest()


class _Decisions(msgspec.Struct, array_like=True):
    identities: list[str]
    fingerprints: list[str]
    times_ns: list[int]
    order_ids: list[str | None]
    messages: list[str]


class _Trades(msgspec.Struct, array_like=True):
    account: str
    symbol: str
    side: Side
    trade_ids: list[str]
    # Ours by their number; of an order that is not ours the exchange's id.
    orders: list[int | str]


class _Body(msgspec.Struct, array_like=True):
    """An AccountState in columns, which are read many times faster than rows.

    Orders are named by their number among `order_ids`.
    """

    order_ids: list[str]
    orders: list[KeptOrder]
    updated_ns: list[int]
    live: list[int]
    fill_orders: list[int]
    fill_trades: list[str]
    fill_times_ns: list[int]
    positions: list[Position]
    trades: list[_Trades]
    decisions: _Decisions
    client_ids: list[str]
    client_id_orders: list[int]
    exchange_symbols: list[str]
    exchange_ids: list[str]
    exchange_id_orders: list[int]
    killed: str | None
    disputes: dict[str, str]
    symbols: set[str]
    tokens_made: dict[str, int]
    tokens_taken: dict[str, str]
    holdings: Holdings
    strategies: dict[str, LiveStrategy]


def snapshot_of(state: AccountState, mark: Mark) -> Snapshot:
    """Return the state as a snapshot; the state must be the fold of the rows up to `mark`."""
    order_ids = list(state.orders)
    number = {order_id: place for place, order_id in enumerate(order_ids)}
    fills = state.fills.places()
    decisions = state.known.values()
    body = _Body(
        order_ids=order_ids,
        orders=list(state.orders.kept()),
        updated_ns=[state.updated_ns[order_id] for order_id in order_ids],
        live=[number[order_id] for order_id in state.live],
        fill_orders=[number[order_id] for order_id, _, _ in fills],
        fill_trades=[trade_id for _, trade_id, _ in fills],
        fill_times_ns=[time_ns for _, _, time_ns in fills],
        positions=state.ledger.positions(),
        trades=list(_trades(state.ledger, number)),
        decisions=_Decisions(
            identities=list(state.known),
            fingerprints=[known.fingerprint for known in decisions],
            times_ns=[known.time_ns for known in decisions],
            order_ids=[known.order_id for known in decisions],
            messages=[known.message for known in decisions],
        ),
        client_ids=list(state.by_client_id),
        client_id_orders=[number[order_id] for order_id in state.by_client_id.values()],
        exchange_symbols=[symbol for symbol, _ in state.by_exchange_id],
        exchange_ids=[exchange_id for _, exchange_id in state.by_exchange_id],
        exchange_id_orders=[number[order_id] for order_id in state.by_exchange_id.values()],
        killed=state.killed,
        disputes=state.disputes,
        symbols=state.symbols,
        tokens_made=state.tokens_made,
        tokens_taken=state.tokens_taken,
        holdings=state.holdings,
        strategies=state.strategies,
    )
    return Snapshot(mark, fold_version(), msgspec.msgpack.encode(body))


def state_from(snapshot: Snapshot) -> AccountState:
    """Return the state that a snapshot tells.

    Raises UnusableSnapshotError when its contents make no sense.
    """
    try:
        body = msgspec.msgpack.decode(snapshot.body, type=_Body)
    except msgspec.MsgspecError as error:
        raise UnusableSnapshotError(f"its contents make no sense: {error}") from error
    return _restored(body)


def difference(state: AccountState, other: AccountState) -> str | None:
    """Return the name of the first thing in which two states differ, or None."""
    if list(state.orders) != list(other.orders):
        return "which orders there are"
    for order_id, order in other.orders.items():
        if state.orders[order_id] != order:
            return f"order {order_id}"
    for name, value in vars(other).items():
        told = vars(state)[name]
        if name == "ledger":
            if told.positions() != value.positions() or told.trades() != value.trades():
                return "positions"
        elif name == "fills":
            if told.places() != value.places():
                return "fills"
        elif name != "orders" and told != value:
            return name.replace("_", " ")
    return None


@contextmanager
def without_collections() -> Iterator[None]:
    """Keep the garbage collector from what is made here, now and later: all of it stays.

    Looking through a million orders for garbage takes a fifth of the time of folding them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def _restored(body: _Body) -> AccountState:
    ids = body.order_ids
    name = ids.__getitem__
    state = AccountState()
    state.orders = Orders(dict(zip(ids, body.orders, strict=True)))
    state.updated_ns = dict(zip(ids, body.updated_ns, strict=True))
    state.live = dict.fromkeys(map(name, body.live))
    for order_id in state.live:
        # Asked about again and again, so they are kept ready.
        state.orders[order_id] = state.orders[order_id]
    places = zip(map(name, body.fill_orders), body.fill_trades, body.fill_times_ns, strict=True)
    state.fills = Fills(state.orders, list(places))
    order_of_trade: dict[TradeKey, str] = {}
    for trades in body.trades:
        place = map(itertools.repeat, (trades.account, trades.symbol, trades.side))
        keys = zip(*place, trades.trade_ids, strict=False)
        names = [each if isinstance(each, str) else ids[each] for each in trades.orders]
        order_of_trade.update(zip(keys, names, strict=True))
    state.ledger = Ledger(body.positions, order_of_trade)
    decisions = body.decisions
    # So that each id is in memory once.
    same: dict[str | None, str] = dict(zip(ids, ids, strict=True))
    state.known = dict(
        zip(
            decisions.identities,
            map(
                Known,
                decisions.fingerprints,
                decisions.times_ns,
                map(same.get, decisions.order_ids),
                decisions.messages,
            ),
            strict=True,
        )
    )
    state.by_client_id = dict(zip(body.client_ids, map(name, body.client_id_orders), strict=True))
    exchange_keys = zip(body.exchange_symbols, body.exchange_ids, strict=True)
    state.by_exchange_id = dict(zip(exchange_keys, map(name, body.exchange_id_orders), strict=True))
    state.killed = body.killed
    state.disputes = body.disputes
    state.symbols = body.symbols
    state.tokens_made = body.tokens_made
    state.tokens_taken = body.tokens_taken
    state.holdings = body.holdings
    state.strategies = body.strategies
    return state


def _trades(ledger: Ledger, number: dict[str, int]) -> Iterator[_Trades]:
    """Yield the trades grouped by what all of a group share."""
    groups: dict[tuple[str, str, Side], _Trades] = {}
    for (account, symbol, side, trade_id), order_id in ledger.trades().items():
        key = (account, symbol, side)
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Trades(account, symbol, side, [], [])
        group.trade_ids.append(trade_id)
        group.orders.append(order_id if account == EXTERNAL else number[order_id])
    return iter(groups.values())

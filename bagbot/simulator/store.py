"""The simulator's own durable memory: what was answered or streamed is still known afterwards.

SQLite, in a directory or in memory. In a directory every change is committed before its answer
leaves. The journal is a write-ahead log with synchronous=NORMAL: a killed process loses nothing,
because what was written belongs to the kernel by then. A power cut may lose the last moments; a
simulator may afford that, and is several times faster for it.

Closed orders live only here. A restart reads the open orders and the balances, and so takes as
long as those are many, however long the simulator has been in use.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bagbot.domain.errors import ConfigError
from bagbot.simulator.exchange import Balance
from bagbot.simulator.orders import Changes, Execution, Order, OrderList

_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    order_id INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    client_order_id TEXT NOT NULL,
    time_ns INTEGER NOT NULL,
    is_open INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS orders_by_client_id
    ON orders (account_id, symbol, client_order_id, order_id);
CREATE INDEX IF NOT EXISTS orders_open ON orders (order_id) WHERE is_open;
CREATE TABLE IF NOT EXISTS order_lists (
    list_id INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL,
    client_list_id TEXT NOT NULL,
    time_ns INTEGER NOT NULL,
    is_open INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS order_lists_open ON order_lists (list_id) WHERE is_open;
CREATE INDEX IF NOT EXISTS order_lists_by_client_id
    ON order_lists (account_id, client_list_id, list_id);
CREATE TABLE IF NOT EXISTS executions (
    number INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    order_id INTEGER NOT NULL,
    trade_id INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS executions_by_symbol ON executions (account_id, symbol, trade_id);
CREATE INDEX IF NOT EXISTS executions_by_order ON executions (order_id);
CREATE TABLE IF NOT EXISTS balances (
    account_id INTEGER NOT NULL,
    asset TEXT NOT NULL,
    free INTEGER NOT NULL,
    locked INTEGER NOT NULL,
    PRIMARY KEY (account_id, asset)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS accounts (account_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS state (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), body BLOB);
"""


class VenueState(msgspec.Struct, kw_only=True):
    """What the venue must remember besides orders and balances."""

    # Which market this was: the name of the data file, or nothing for a synthetic one.
    market_name: str
    market_time_ms: int
    offset_ms: int
    prices: dict[str, int]
    next_order_id: int
    next_event_id: int
    next_trade_ids: dict[str, int]
    next_prevented_match_id: int = 0
    next_list_id: int = 0


_STATE = msgspec.json.Decoder(VenueState)
_ORDER = msgspec.msgpack.Decoder(Order)
_ORDER_LIST = msgspec.msgpack.Decoder(OrderList)
_EXECUTION = msgspec.msgpack.Decoder(Execution)
_ENCODER = msgspec.msgpack.Encoder()


_Row = tuple[int | str | bytes, ...]
_SAVE_ORDER = (
    "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (order_id) DO UPDATE SET is_open = excluded.is_open, body = excluded.body"
)
_SAVE_LIST = "INSERT OR REPLACE INTO order_lists VALUES (?, ?, ?, ?, ?, ?)"
_SAVE_EXECUTION = (
    "INSERT INTO executions (account_id, symbol, order_id, trade_id, time_ns, body)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
_SAVE_BALANCE = "INSERT OR REPLACE INTO balances VALUES (?, ?, ?, ?)"
_SAVE_STATE = "INSERT OR REPLACE INTO state VALUES (1, ?)"
# Few enough that writing them all takes well under a millisecond.
_WAITING_MAX = 64


@dataclass(slots=True)
class _Waiting:
    """What has been saved, as rows, and is not in the database yet; the latest comes last."""

    orders: list[_Row] = field(default_factory=list)
    lists: list[_Row] = field(default_factory=list)
    executions: list[_Row] = field(default_factory=list)
    balances: dict[tuple[int, str], tuple[int, int]] = field(default_factory=dict)
    state: VenueState | None = None


class Store:
    """Orders, executions, balances and the venue's state, committed change by change.

    Raises ConfigError when the file is no store, or another simulator is using it.
    """

    def __init__(self, directory: Path | None) -> None:
        name = ":memory:"
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            name = str(directory / "exchange.sqlite3")
        self._is_file = directory is not None
        self._waiting = _Waiting()
        self._connection = sqlite3.connect(name, isolation_level=None, timeout=1.0)
        try:
            # One simulator per directory: a second one would give out the same ids.
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise ConfigError(f"{name}: not a store that can be used ({error})") from error

    def close(self) -> None:
        """Release the file."""
        self._connection.close()

    def save(
        self,
        changes: Changes,
        balances: Iterable[tuple[int, str, Balance]],
        state: VenueState,
    ) -> None:
        """Commit everything one command or one step of the market changed.

        In memory there is nothing to survive for: there it waits for the next query, or for more.
        """
        waiting = self._waiting
        waiting.orders += [_order_row(order) for order in changes.orders.values()]
        waiting.lists += [_list_row(order_list) for order_list in changes.lists.values()]
        waiting.executions += [_execution_row(execution) for execution in changes.executions]
        for account_id, asset, held in balances:
            waiting.balances[(account_id, asset)] = (held.free, held.locked)
        waiting.state = state
        if self._is_file or len(waiting.orders) >= _WAITING_MAX:
            self._commit()

    def state(self) -> VenueState | None:
        """Return what the venue was when it last saved, or None on first use."""
        row = self._query("SELECT body FROM state").fetchone()
        try:
            return None if row is None else _STATE.decode(row[0])
        except msgspec.MsgspecError as error:
            raise ConfigError(f"the store is of another version of bagbot ({error})") from error

    def account_id(self, name: str) -> int:
        """Return the number of the account called `name`; a new name gets the next number."""
        self._query("INSERT OR IGNORE INTO accounts (name) VALUES (?)", (name,))
        row = self._query("SELECT account_id FROM accounts WHERE name = ?", (name,)).fetchone()
        return int(row[0])

    def account_ids(self) -> list[int]:
        """Return every account that ever owned something, the oldest first."""
        rows = self._query("SELECT DISTINCT account_id FROM balances ORDER BY account_id")
        return [account_id for (account_id,) in rows]

    def balances(self, account_id: int) -> dict[str, Balance]:
        """Return the stored balances of an account, none on first use."""
        rows = self._query(
            "SELECT asset, free, locked FROM balances WHERE account_id = ?", (account_id,)
        )
        return {asset: Balance(free, locked) for asset, free, locked in rows}

    def open_orders(self) -> list[Order]:
        """Return the orders that were open, oldest first, which is their priority at a price."""
        rows = self._query("SELECT body FROM orders WHERE is_open ORDER BY order_id").fetchall()
        return [_ORDER.decode(body) for (body,) in rows]

    def forget_history(self) -> None:
        """Let no account have any order, list or execution: from now on they are forgotten.

        They are kept under the negative of the account's number.
        """
        self._query("BEGIN")
        try:
            for table in ("orders", "order_lists"):
                self._query(
                    f"UPDATE {table} SET account_id = -account_id, is_open = 0 WHERE account_id > 0"
                )
            self._query("UPDATE executions SET account_id = -account_id WHERE account_id > 0")
        except BaseException:
            self._query("ROLLBACK")
            raise
        self._query("COMMIT")

    def counts(self) -> tuple[int, int]:
        """Return how many orders and executions there are, the forgotten ones included."""
        (orders,) = self._query("SELECT COUNT(*) FROM orders").fetchone()
        (executions,) = self._query("SELECT COUNT(*) FROM executions").fetchone()
        return orders, executions

    def open_lists(self) -> list[OrderList]:
        """Return the order lists that were open, oldest first."""
        rows = self._query("SELECT body FROM order_lists WHERE is_open ORDER BY list_id").fetchall()
        return [_ORDER_LIST.decode(body) for (body,) in rows]

    def order_list(
        self, account_id: int, *, list_id: int | None, client_list_id: str | None
    ) -> OrderList | None:
        """Return a list by its id, else the newest one with this client id."""
        column, value = (
            ("client_list_id", client_list_id) if list_id is None else ("list_id", list_id)
        )
        row = self._query(
            f"SELECT body FROM order_lists WHERE account_id = ? AND {column} = ?"
            " ORDER BY list_id DESC LIMIT 1",
            (account_id, value),
        ).fetchone()
        return None if row is None else _ORDER_LIST.decode(row[0])

    def order_lists(
        self,
        account_id: int,
        *,
        from_id: int | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        limit: int,
    ) -> list[OrderList]:
        """Return lists, oldest first: the oldest from a lower bound on, else the newest."""
        conditions: list[tuple[str, int | str | None]] = [
            ("account_id = ?", account_id),
            ("list_id >= ?", from_id),
            ("time_ns >= ?", start_ns),
            ("time_ns <= ?", end_ns),
        ]
        is_ascending = from_id is not None or start_ns is not None
        rows = self._select(
            "order_lists", "list_id", conditions, is_ascending=is_ascending, limit=limit
        )
        return [_ORDER_LIST.decode(body) for body in rows]

    def order(self, account_id: int, symbol: str, order_id: int) -> Order | None:
        """Return an order, open or closed, by its id."""
        row = self._query(
            "SELECT body FROM orders WHERE order_id = ? AND account_id = ? AND symbol = ?",
            (order_id, account_id, symbol),
        ).fetchone()
        return None if row is None else _ORDER.decode(row[0])

    def order_by_client_id(
        self, account_id: int, symbol: str, client_order_id: str
    ) -> Order | None:
        """Return the newest order with this client id: closed orders may share it."""
        row = self._query(
            "SELECT body FROM orders WHERE account_id = ? AND symbol = ? AND client_order_id = ?"
            " ORDER BY order_id DESC LIMIT 1",
            (account_id, symbol, client_order_id),
        ).fetchone()
        return None if row is None else _ORDER.decode(row[0])

    def orders(
        self,
        account_id: int,
        symbol: str | None = None,
        *,
        from_id: int | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        limit: int,
    ) -> list[Order]:
        """Return orders, oldest first: the oldest from a lower bound on, else the newest."""
        conditions = [
            ("account_id = ?", account_id),
            ("symbol = ?", symbol),
            ("order_id >= ?", from_id),
            ("time_ns >= ?", start_ns),
            ("time_ns <= ?", end_ns),
        ]
        is_ascending = from_id is not None or start_ns is not None
        rows = self._select(
            "orders", "order_id", conditions, is_ascending=is_ascending, limit=limit
        )
        return [_ORDER.decode(body) for body in rows]

    def executions(
        self,
        account_id: int,
        symbol: str | None = None,
        *,
        order_id: int | None = None,
        from_id: int | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        limit: int,
    ) -> list[Execution]:
        """Return executions, oldest first: the oldest from a lower bound on, else the newest."""
        conditions = [
            ("account_id = ?", account_id),
            ("symbol = ?", symbol),
            ("order_id = ?", order_id),
            ("trade_id >= ?", from_id),
            ("time_ns >= ?", start_ns),
            ("time_ns <= ?", end_ns),
        ]
        is_ascending = from_id is not None or start_ns is not None
        rows = self._select(
            "executions", "number", conditions, is_ascending=is_ascending, limit=limit
        )
        return [_EXECUTION.decode(body) for body in rows]

    def _query(self, statement: str, values: Sequence[int | str | None] = ()) -> sqlite3.Cursor:
        """Ask the database, with everything in it that was saved."""
        if self._waiting.state is not None:
            self._commit()
        return self._connection.execute(statement, values)

    def _commit(self) -> None:
        waiting, self._waiting = self._waiting, _Waiting()
        connection = self._connection
        connection.execute("BEGIN")
        try:
            for statement, rows in (
                (_SAVE_ORDER, waiting.orders),
                (_SAVE_LIST, waiting.lists),
                (_SAVE_EXECUTION, waiting.executions),
                (_SAVE_BALANCE, [(*key, *held) for key, held in waiting.balances.items()]),
            ):
                if rows:
                    connection.executemany(statement, rows)
            connection.execute(_SAVE_STATE, (msgspec.json.encode(waiting.state),))
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _select(
        self,
        table: str,
        key: str,
        conditions: list[tuple[str, int | str | None]],
        *,
        is_ascending: bool,
        limit: int,
    ) -> list[bytes]:
        """Return the bodies that meet every condition whose value is not None, oldest first."""
        used = [(text, value) for text, value in conditions if value is not None]
        where = " AND ".join(text for text, _ in used)
        direction = "ASC" if is_ascending else "DESC"
        rows = self._query(
            f"SELECT body FROM {table} WHERE {where} ORDER BY {key} {direction} LIMIT ?",
            (*(value for _, value in used), limit),
        ).fetchall()
        bodies = [body for (body,) in rows]
        return bodies if is_ascending else bodies[::-1]


def _order_row(order: Order) -> _Row:
    return (
        order.order_id,
        order.account_id,
        order.symbol,
        order.client_order_id,
        order.time_ns,
        order.is_open,
        _ENCODER.encode(order),
    )


def _list_row(order_list: OrderList) -> _Row:
    return (
        order_list.list_id,
        order_list.account_id,
        order_list.client_list_id,
        order_list.time_ns,
        order_list.is_open,
        _ENCODER.encode(order_list),
    )


def _execution_row(execution: Execution) -> _Row:
    return (
        execution.account_id,
        execution.symbol,
        execution.order_id,
        execution.trade_id,
        execution.time_ns,
        _ENCODER.encode(execution),
    )

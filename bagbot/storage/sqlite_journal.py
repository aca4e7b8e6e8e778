"""The journal in SQLite: WAL, synchronous=FULL, one writer thread, group commit."""

import asyncio
import fcntl
import itertools
import os
import queue
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bagbot.domain.errors import JournalError
from bagbot.storage.journal import START, Mark, Record, Row, checked, row_after

# Appends waiting for the disk. Beyond this the disk has stopped keeping up: stop, don't hoard.
PENDING_MAX: Final = 10_000
BATCH_MAX: Final = 256
# Unless it was built otherwise, SQLite takes 32,766 variables in a statement: 4,680 rows.
STATEMENT_ROWS_MAX: Final = 1_000
LOG_BYTES: Final = 4_000_000
CHECKPOINT_PAGES: Final = 900  # Of 4 KiB each: a little less than the log holds.

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS journal (
    sequence INTEGER PRIMARY KEY,
    schema_version INTEGER NOT NULL,
    time_ns INTEGER NOT NULL,
    kind TEXT NOT NULL,
    order_id TEXT NOT NULL,
    payload BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT
"""
_INSERT: Final = "INSERT INTO journal VALUES "
_ROW_PLACES: Final = "(?, ?, ?, ?, ?, ?, ?)"


@dataclass(slots=True)
class _Append:
    rows: Sequence[Row]
    done: asyncio.Future[None]


class SqliteJournal:
    """A journal in one SQLite file, held by one process at a time.

    Raises JournalError on creation when another process holds it, or the file is no journal.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_file = _locked(path.with_name(path.name + ".lock"))
        try:
            self._connection = _opened(path)
        except sqlite3.Error as error:
            os.close(self._lock_file)
            raise JournalError(f"the journal {path} cannot be opened: {error}") from error
        self._begin = self._head = START
        self._is_replayed = False
        self._failure: Exception | None = None  # Of the writer: nothing is written any more.
        # Why no append is taken, while what is in line is still written.
        self._refusal: str | None = None
        self._pending = 0
        self._queue: queue.SimpleQueue[_Append | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def begin(self) -> int:
        """The number of the row after which the replay began: a snapshot stood for those."""
        return self._begin.sequence

    @property
    def length(self) -> int:
        """How many rows there are, with those in line."""
        return self._head.sequence

    def holds(self, mark: Mark) -> bool:
        """Return whether the row at `mark` is there, with this hash."""
        if mark == START:
            return True
        query = "SELECT hash FROM journal WHERE sequence = ?"
        try:
            row = self._connection.execute(query, [mark.sequence]).fetchone()
        except sqlite3.Error:
            # What is wrong with the file is for the replay to say.
            return False
        return row is not None and row[0] == mark.hash

    def replay(self, after: Mark = START) -> Iterator[Record]:
        """Yield every record after a mark, checking its hash and version; then appends may come."""
        head = after
        query = "SELECT * FROM journal WHERE sequence > ? ORDER BY sequence"
        try:
            rows = self._connection.execute(query, [after.sequence])
            for mark, record in checked(rows, name=str(self._path), after=after):
                head = mark
                yield record
        except sqlite3.Error as error:
            raise JournalError(
                f"the journal {self._path} cannot be read after row {head.sequence}: {error}"
            ) from error
        self._begin, self._head, self._is_replayed = after, head, True

    def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """Put the records in line for one commit, possibly shared with other callers."""
        assert self._is_replayed, "replay the journal to its end before appending"
        done = asyncio.get_running_loop().create_future()
        if self._refusal is None and self._pending >= PENDING_MAX:
            # For good: what comes later may make no sense without what is left out here.
            self._refusal = f"{self._pending} appends waited for the disk"
        reason = self._failure or self._refusal
        if reason is not None:
            done.set_exception(JournalError(f"the journal {self._path} failed: {reason}"))
        else:
            self._pending += 1
            self._queue.put(_Append([self._row(record) for record in records], done))
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
                self._thread.start()
        return done

    async def close(self) -> None:
        """Write what is waiting, close the file and release the lock."""
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
        self._connection.close()
        os.close(self._lock_file)

    def _write(self) -> None:
        """Write batches until told to stop (the writer thread)."""
        is_open = True
        while is_open:
            batch = [self._queue.get()]
            while len(batch) < BATCH_MAX and not self._queue.empty():
                batch.append(self._queue.get())
            is_open = None not in batch
            appends = [append for append in batch if append is not None]
            if appends:
                self._commit(appends)

    def _commit(self, appends: Sequence[_Append]) -> None:
        if self._failure is None:
            try:
                self._insert([row for append in appends for row in append.rows])
            except Exception as error:  # noqa: BLE001 - whatever failed, nothing is written again.
                self._failure = error
        loop = appends[0].done.get_loop()
        loop.call_soon_threadsafe(self._resolve, appends, self._failure)

    def _row(self, record: Record) -> Row:
        """Give the record its place: the order of calls is the order of the journal."""
        row = row_after(self._head, record)
        self._head = Mark(row[0], row[-1])
        return row

    def _insert(self, rows: Sequence[Row]) -> None:
        """Write all rows or none: with one statement, a transaction by itself, if they fit in it.

        One call into SQLite, flush included, needs the interpreter once; with four (BEGIN, two
        INSERTs, COMMIT) a busy event loop lets the thread wait for it four times.
        """
        with self._connection:  # Ends the transaction if there is one; rolls it back on an error.
            if len(rows) > STATEMENT_ROWS_MAX:
                self._connection.execute("BEGIN IMMEDIATE")
            for first in range(0, len(rows), STATEMENT_ROWS_MAX):
                part = rows[first : first + STATEMENT_ROWS_MAX]
                statement = _INSERT + ", ".join([_ROW_PLACES] * len(part))
                self._connection.execute(statement, list(itertools.chain.from_iterable(part)))

    def _resolve(self, appends: Sequence[_Append], failure: Exception | None) -> None:
        self._pending -= len(appends)
        for append in appends:
            if append.done.done():
                continue
            if failure is None:
                append.done.set_result(None)
            else:
                error = JournalError(f"the journal {self._path} cannot be written: {failure}")
                error.__cause__ = failure
                append.done.set_exception(error)


def _locked(path: Path) -> int:
    """Return the descriptor of the lock file, locked; the lock dies with the process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(f"the journal's lock {path} cannot be opened: {error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise JournalError(
            f"another bagbot holds the journal beside {path}; stop it, or use another BAGBOT_HOME"
        ) from error
    return descriptor


def _opened(path: Path) -> sqlite3.Connection:
    # isolation_level None: transactions begin and end where we say.
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(_SCHEMA)
        _lengthen_log(connection)
    except sqlite3.Error:
        connection.close()
        raise
    path.chmod(0o600)
    return connection


def _lengthen_log(connection: sqlite3.Connection) -> None:
    """Give the write-ahead log its full length beforehand.

    A flush of bytes written into a file as it is takes about a quarter less than one that also
    makes it longer (measured: 268 instead of 362 microseconds). SQLite reuses the log from its
    start after each checkpoint, so once it is long enough it stays so.
    """
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("CREATE TABLE lengthener (filler BLOB)")
    connection.execute("INSERT INTO lengthener VALUES (zeroblob(?))", [LOG_BYTES])
    connection.execute("COMMIT")
    connection.execute("DROP TABLE lengthener")
    connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")

"""The journal's port: append-only records, each chained to the one before by its hash."""

import hashlib
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from bagbot.domain.errors import JournalError

SCHEMA_VERSION: Final = 1
GENESIS_HASH: Final = hashlib.sha256(b"bagbot journal 1").digest()

Row = tuple[int, int, int, str, str, bytes, bytes]
"""A record at its place: sequence, schema version, time_ns, kind, order id, payload, hash."""


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened: what kind, to which order, when (UTC ns), and the facts as JSON."""

    kind: str
    order_id: str
    time_ns: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a journal: the number of a row, and the hash that fixes all up to it."""

    sequence: int
    hash: bytes


START: Final = Mark(0, GENESIS_HASH)
"""Before the first row."""


def chained_hash(previous: bytes, sequence: int, record: Record) -> bytes:
    """Return the hash of a record at its place: it fixes everything that came before."""
    digest = hashlib.sha256(previous)
    for part in (
        str(sequence).encode(),
        str(record.time_ns).encode(),
        record.kind.encode(),
        record.order_id.encode(),
        record.payload,
    ):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()


def row_after(mark: Mark, record: Record) -> Row:
    """Return the row that says `record` right after `mark`."""
    sequence = mark.sequence + 1
    return (
        sequence,
        SCHEMA_VERSION,
        record.time_ns,
        record.kind,
        record.order_id,
        record.payload,
        chained_hash(mark.hash, sequence, record),
    )


def checked(
    rows: Iterable[Row], *, name: str, after: Mark = START
) -> Iterator[tuple[Mark, Record]]:
    """Yield each row's record and place, once it is proven to be what was written after `after`.

    Raises JournalError naming the row that is not, of the journal `name`.
    """
    for row in rows:
        sequence, version, time_ns, kind, order_id, payload, told_hash = row
        if version != SCHEMA_VERSION:
            raise JournalError(
                f"row {sequence} of the journal {name} has schema version {version}; "
                f"this bagbot knows {SCHEMA_VERSION}"
            )
        record = Record(kind, order_id, time_ns, payload)
        mark = Mark(after.sequence + 1, chained_hash(after.hash, after.sequence + 1, record))
        if sequence != mark.sequence or told_hash != mark.hash:
            raise JournalError(
                f"row {sequence} of the journal {name} is not what was written after "
                f"row {after.sequence}: the file was damaged or changed. Restore it from a copy"
            )
        yield mark, record
        after = mark


class Journal(Protocol):
    """Where the engine writes what it must never forget. One writer at a time."""

    def holds(self, mark: Mark) -> bool:
        """Return whether the row at `mark` is there, with this hash; START always is."""
        ...

    def replay(self, after: Mark = START) -> Iterator[Record]:
        """Yield every record after a mark that it holds, from the first on when none is given.

        Must run to its end before the first append. Raises JournalError naming the place when a
        record is not what was written.
        """
        ...

    def append(self, records: Sequence[Record]) -> Awaitable[None]:
        """Put the records in line now; what is returned is done once they survive a power cut.

        All of them are written or none; the order of calls is the order of the journal, and
        giving up waiting takes nothing back. Awaiting raises JournalError when the write failed;
        nothing can be appended after that (fail-stop).
        """
        ...

    async def close(self) -> None:
        """Finish what was begun and let the next writer in."""
        ...

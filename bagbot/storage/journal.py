"""The journal's port: append-only records, each chained to the one before by its hash."""

import hashlib
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

SCHEMA_VERSION: Final = 1
GENESIS_HASH: Final = hashlib.sha256(b"bagbot journal 1").digest()


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that happened: what kind, to which order, when (UTC ns), and the facts as JSON."""

    kind: str
    order_id: str
    time_ns: int
    payload: bytes


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


class Journal(Protocol):
    """Where the engine writes what it must never forget. One writer at a time."""

    def replay(self) -> Iterator[Record]:
        """Yield every record from the first on.

        Raises JournalError naming the place when a record is not what was written.
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

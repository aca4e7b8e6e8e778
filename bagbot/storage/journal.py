"""The journal's port: append-only records, each chained to the one before by its hash."""

import hashlib
from collections.abc import Iterator, Sequence
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

    async def append(self, records: Sequence[Record]) -> None:
        """Write the records, all or none, and return once they would survive a power cut.

        Records of calls made earlier come earlier. Raises JournalError when that failed; nothing
        can be appended after that (fail-stop).
        """
        ...

    async def close(self) -> None:
        """Finish what was begun and let the next writer in."""
        ...

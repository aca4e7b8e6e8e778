"""What can be done with a journal from outside: verify it, export it, make a snapshot of it.

Only reads it, so all of this may run while an engine writes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from bagbot.domain.errors import IllegalTransitionError, JournalError
from bagbot.storage.journal import SCHEMA_VERSION, START, Mark, Record, checked
from bagbot.storage.journal_reader import JournalReader
from bagbot.storage.snapshot import UnusableSnapshotError, read_snapshot, write_snapshot
from bagbot.trading.account_state import AccountState
from bagbot.trading.recovery import (
    difference,
    fold_version,
    snapshot_of,
    state_at_snapshot,
    state_from,
    without_collections,
)

Progress = Callable[[int, int], None]
"""Called now and then with the rows done and the rows there are."""

ROWS_PER_PROGRESS: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """A journal whose every row is what was written, and what the rows add up to.

    `snapshot` says in words what was found of the snapshot beside it.
    """

    rows: int
    orders: int
    live: int
    fills: int
    last: Mark
    last_time_ns: int
    snapshot: str


def verify(path: Path, snapshot: Path, tell: Progress) -> Audit:
    """Read the whole journal, check its chain, fold it, and hold the snapshot against that.

    Raises JournalError naming the first row that is not what was written or makes no sense, or
    saying that the snapshot tells something else than the journal.
    """
    with JournalReader(path) as reader, without_collections():
        found, verdict = None, "none"
        try:
            found = read_snapshot(snapshot, fold=fold_version())
        except UnusableSnapshotError as error:
            verdict = f"not used: {error}"
        if found is not None and not reader.holds(found.mark):
            found, verdict = None, "not used: it stands for a row that this journal does not have"
        state, mark, time_ns = AccountState(), START, 0
        for mark, record in _rows(reader, tell):
            _fold(state, mark, record, path)
            time_ns = record.time_ns
            if found is not None and mark == found.mark:
                wrong = difference(state_from(found), state)
                if wrong is not None:
                    raise JournalError(
                        f"the snapshot {snapshot} is wrong about {wrong} at row {mark.sequence} of "
                        f"the journal {path}, which is whole: delete the snapshot and start again"
                    )
                verdict = f"says the same as the rows up to {mark.sequence}"
    return Audit(
        rows=mark.sequence,
        orders=len(state.orders),
        live=len(state.live),
        fills=len(state.fills),
        last=mark,
        last_time_ns=time_ns,
        snapshot=verdict,
    )


def exported(path: Path, tell: Progress) -> Iterator[bytes]:
    """Yield each row as a line of JSON, once it is proven to be what was written.

    Raises JournalError naming the first that is not; the lines before it are good.
    """
    encoder = msgspec.json.Encoder()
    with JournalReader(path) as reader:
        for mark, record in _rows(reader, tell):
            time = datetime.fromtimestamp(record.time_ns // 1_000_000_000, UTC)
            row = {
                "sequence": mark.sequence,
                "schema_version": SCHEMA_VERSION,
                "time": f"{time:%Y-%m-%dT%H:%M:%S}.{record.time_ns % 1_000_000_000:09}Z",
                "time_ns": record.time_ns,
                "kind": record.kind,
                "order_id": record.order_id,
                "payload": msgspec.Raw(record.payload),
                "hash": mark.hash.hex(),
            }
            yield encoder.encode(row) + b"\n"


def take_snapshot(path: Path, snapshot: Path, tell: Progress) -> Mark:
    """Write a snapshot of the journal as it is now and return the place it stands for.

    The chain is checked from the first row on; only the rows after the snapshot before are folded
    again. Raises JournalError when a row is not what was written: then there is no new snapshot.
    """
    with JournalReader(path) as reader, without_collections():
        state, begin = state_at_snapshot(snapshot, reader.holds)
        mark = START
        for mark, record in _rows(reader, tell):
            if mark.sequence > begin.sequence:
                _fold(state, mark, record, path)
    try:
        write_snapshot(snapshot, snapshot_of(state, mark))
    except OSError as error:
        raise JournalError(f"the snapshot {snapshot} cannot be written: {error}") from error
    return mark


def _rows(reader: JournalReader, tell: Progress) -> Iterator[tuple[Mark, Record]]:
    total = reader.last()
    for mark, record in checked(reader.rows(), name=str(reader.path)):
        if mark.sequence % ROWS_PER_PROGRESS == 0:
            tell(mark.sequence, max(total, mark.sequence))
        yield mark, record


def _fold(state: AccountState, mark: Mark, record: Record, path: Path) -> None:
    try:
        state.take_in(record)
    except (JournalError, IllegalTransitionError, KeyError) as error:
        raise JournalError(
            f"row {mark.sequence} of the journal {path} is as it was written, but makes no sense: "
            f"{error}"
        ) from error

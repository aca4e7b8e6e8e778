"""A snapshot's file: what was folded out of a journal up to a mark, so that it need not be again.

It is derived and can be deleted at any time. It is bound to the place in the journal it stands
for and to the code that folded it; whatever does not fit is refused, and the journal is read.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bagbot.domain.errors import BagbotError
from bagbot.storage.journal import Mark

_MAGIC: Final = "bagbot snapshot 1"
_HEADER_BYTES_MAX: Final = 4096


class UnusableSnapshotError(BagbotError):
    """The snapshot cannot be used; the journal says everything that it would have said."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the rows up to `mark` add up to, in the words of the code that `fold` names."""

    mark: Mark
    fold: str
    body: bytes | memoryview


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    magic: str
    fold: str
    sequence: int
    hash: bytes
    length: int
    body_sha256: bytes


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Put the snapshot in the place of the one before, whole or not at all.

    Raises OSError when the disk does not take it; the one before is still there then.
    """
    body = memoryview(snapshot.body)
    header = _Header(
        magic=_MAGIC,
        fold=snapshot.fold,
        sequence=snapshot.mark.sequence,
        hash=snapshot.mark.hash,
        length=len(body),
        body_sha256=hashlib.sha256(body).digest(),
    )
    _remove_abandoned(path)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(msgspec.json.encode(header) + b"\n")
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    # The name may be lost in a power cut; then the snapshot before it is found, or none.


def _remove_abandoned(path: Path) -> None:
    """Remove what processes that were killed in the middle have left: it may be large."""
    for unfinished in path.parent.glob(f"{path.name}.*.unfinished"):
        try:
            os.kill(int(unfinished.suffixes[-2][1:]), 0)
        except ProcessLookupError:
            unfinished.unlink(missing_ok=True)
        except (PermissionError, ValueError):
            continue


def read_snapshot(path: Path, *, fold: str) -> Snapshot | None:
    """Return the snapshot, or None when there is none.

    Raises UnusableSnapshotError saying why when it is damaged, or `fold` names other code.
    """
    try:
        content = memoryview(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnusableSnapshotError(f"it cannot be read: {error}") from error
    line, _, _ = bytes(content[:_HEADER_BYTES_MAX]).partition(b"\n")
    body = content[len(line) + 1 :]
    try:
        header = msgspec.json.decode(line, type=_Header)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnusableSnapshotError(f"its first line cannot be understood: {error}") from error
    if header.magic != _MAGIC:
        raise UnusableSnapshotError(f"it is of another format: {header.magic!r}")
    if header.fold != fold:
        raise UnusableSnapshotError("it was made by another version of bagbot")
    if len(body) != header.length or hashlib.sha256(body).digest() != header.body_sha256:
        raise UnusableSnapshotError("it is damaged: its contents do not fit its checksum")
    return Snapshot(Mark(header.sequence, header.hash), fold, body)

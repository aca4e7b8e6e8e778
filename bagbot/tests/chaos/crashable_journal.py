"""A journal on a pretended disk that a crash leaves as a power cut would; no threads, no files.

disk = JournalDisk()
journal = CrashableJournal(disk)
for record in journal.replay(): ...
await journal.append([record])        # done after one virtual flush (loop.call_later)
journal.crash(random.Random(seed))    # what was not flushed is gone, or half there, by seed
journal = CrashableJournal(disk)      # the next life reads what is left
"""

import asyncio
import contextlib
import errno
import os
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from bagbot.domain.errors import JournalError
from bagbot.storage.journal import START, Mark, Record, Row, checked, row_after

FLUSH_S: Final = 0.0003
_HEAD_BYTES: Final = 8  # The length of what follows, and its checksum.


class JournalDisk:
    """The bytes of one journal: `flushed` of them survive anything, the rest is luck.

    Each append is one frame (length, checksum, rows), so that it is there whole or not at all.
    `writes` counts the flushes begun on this disk, over all lives; `fail_at(n, ...)` makes the
    n-th of them (from 1) fail, and all after it, until `repair()`.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.flushed = 0
        self.is_held = False
        self.writes = 0
        self._fails_at: int | None = None
        self._error_number = errno.ENOSPC

    def fail_at(self, write: int, error_number: int = errno.ENOSPC) -> None:
        """Fail from the given write on: with ENOSPC, EIO, or any other number."""
        self._fails_at, self._error_number = write, error_number

    def repair(self) -> None:
        """Take every write again."""
        self._fails_at = None

    def write(self, data: bytes) -> OSError | None:
        """Add bytes, not flushed yet; return the error when this write or its flush fails."""
        self.writes += 1
        if self._fails_at is None or self.writes < self._fails_at:
            self.data += data
            return None
        # A full disk takes what fits. A flush that failed may have written everything or nothing,
        # and no later flush says anything about it.
        self.data += data[: len(data) // 2] if self._error_number == errno.ENOSPC else data
        return OSError(self._error_number, os.strerror(self._error_number))

    def lose_power(self, rng: random.Random) -> None:
        """Keep what was flushed; of the rest, by chance, nothing, a part, or a part and zeros."""
        length = len(self.data)
        cut = rng.randint(self.flushed, length)
        # A file may have got its length before its contents.
        zeros = length - cut if rng.random() < 0.3 else 0
        self.data[cut:] = bytes(zeros)

    def frames(self) -> Iterator[tuple[int, list[Row]]]:
        """Yield where each frame ends, and its rows; stops at the first that is torn.

        Only what was never flushed can be torn: anything less before that is damage.
        Raises JournalError naming the place.
        """
        begin = row = 0
        while begin < len(self.data):
            body = begin + _HEAD_BYTES
            length, checksum = (
                int.from_bytes(self.data[at : at + 4], "big") for at in (begin, begin + 4)
            )
            content = bytes(self.data[body : body + length])
            if len(content) < length or not content or zlib.crc32(content) != checksum:
                if begin < self.flushed:
                    raise JournalError(
                        f"the row after row {row} of the journal in memory cannot be read: "
                        f"the disk was damaged after byte {begin}"
                    )
                return
            rows = msgspec.msgpack.decode(content, type=list[Row])
            begin, row = body + length, rows[-1][0]
            yield begin, rows


def frame(rows: Sequence[Row]) -> bytes:
    """Return the bytes of one append on a JournalDisk."""
    body = msgspec.msgpack.encode(rows)
    return len(body).to_bytes(4, "big") + zlib.crc32(body).to_bytes(4, "big") + body


class CrashableJournal:
    """A journal on a JournalDisk, behind the port of the real one; runs in any event loop.

    `flush_s` is how long a flush takes, or a function that says so anew for each. What is appended
    while one is under way shares the next (group commit). Raises JournalError on creation when
    another journal holds the disk.
    """

    def __init__(
        self, disk: JournalDisk, *, flush_s: float | Callable[[], float] = FLUSH_S
    ) -> None:
        if disk.is_held:
            raise JournalError("another bagbot holds the journal in memory")
        disk.is_held = True
        self._disk = disk
        self._flush_s = flush_s
        self._head = START
        self._is_replayed = False
        self._is_dead = False
        self._failure: OSError | None = None
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._flushing: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def holds(self, mark: Mark) -> bool:
        """Return whether the row at `mark` is there, with this hash."""
        if mark == START:
            return True
        with contextlib.suppress(JournalError):  # What is wrong is for the replay to say.
            return any(Mark(r[0], r[-1]) == mark for _, rows in self._disk.frames() for r in rows)
        return False

    def replay(self, after: Mark = START) -> Iterator[Record]:
        """Yield every record after a mark; a torn one at the end, never promised, is cut off."""
        frames = list(self._disk.frames())
        rows = (row for _, rows in frames for row in rows if row[0] > after.sequence)
        head = after
        for mark, record in checked(rows, name="in memory", after=after):
            head = mark
            yield record
        end = frames[-1][0] if frames else 0
        del self._disk.data[end:]
        # Who acts on what was read must find it again, so it is flushed first.
        self._disk.flushed = end
        self._head, self._is_replayed = head, True

    def append(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """Put the records in line for the next flush; after a crash this is never done."""
        assert self._is_replayed, "replay the journal to its end before appending"
        done = asyncio.get_running_loop().create_future()
        if self._is_dead:
            return done
        if self._failure is not None:
            done.set_exception(JournalError(f"the journal in memory failed: {self._failure}"))
            return done
        rows = []
        for record in records:
            rows.append(row_after(self._head, record))
            self._head = Mark(rows[-1][0], rows[-1][-1])
        self._waiting.append((frame(rows), done))
        self._idle.clear()
        if self._timer is None:
            self._flush()
        return done

    async def close(self) -> None:
        """Flush what is waiting and let the next one in."""
        if not self._is_dead:
            await self._idle.wait()
            self._is_dead = True
            self._disk.is_held = False

    def crash(self, rng: random.Random) -> None:
        """Die now, by a power cut: no append is answered any more, the disk keeps what it has."""
        if self._is_dead:
            return
        self._is_dead = True
        if self._timer is not None:
            self._timer.cancel()
        self._disk.lose_power(rng)
        self._disk.is_held = False

    def _flush(self) -> None:
        batch, self._waiting = self._waiting, []
        self._flushing = [done for _, done in batch]
        self._failure = self._disk.write(b"".join(frame for frame, _ in batch))
        delay_s = self._flush_s() if callable(self._flush_s) else self._flush_s
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(delay_s, self._flushed)

    def _flushed(self) -> None:
        self._timer = None
        answered, self._flushing = self._flushing, []
        if self._failure is not None:
            answered += [done for _, done in self._waiting]
            self._waiting = []
        else:
            self._disk.flushed = len(self._disk.data)
        for done in answered:
            if done.done():
                continue
            if self._failure is None:
                done.set_result(None)
            else:
                error = JournalError(f"the journal in memory cannot be written: {self._failure}")
                error.__cause__ = self._failure
                done.set_exception(error)
        if self._waiting:
            self._flush()
        else:
            self._idle.set()

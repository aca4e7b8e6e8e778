"""Where a sweep's results are put as they come: rows of one size, in memory or in a file.

Row i of a file stands at its own place, so that a table is complete whatever the order in which
its rows were computed, and takes no memory. Each row has a checksum: one that a crash cut off was
never written.
"""

import contextlib
import fcntl
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy
from numpy.typing import NDArray

from bagbot.domain.errors import ConfigError, DataError

Rows = NDArray[numpy.void]

_MAGIC: Final = b"bagbot sweep 1\n"
_LENGTH_BYTES: Final = 8
_HEADER_BLOCK: Final = 4096
_CHECK: Final = "check"


class SweepStore:
    """`length` rows of the columns `row`, some of which are there already; one process at a time.

    `path` None keeps them in memory. What the file of an earlier run was about must equal
    `description`, or it isn't touched.

    Raises ConfigError when the file belongs to another sweep (naming what differs), to a running
    one, or is none; DataError when it cannot be read or written.
    """

    def __init__(
        self,
        path: Path | None,
        description: Mapping[str, object],
        row: "numpy.dtype[Any]",
        length: int,
    ) -> None:
        self.path = path
        self._row = numpy.dtype([*row.descr, (_CHECK, "<u4")])
        self._columns = list(row.names or ())
        self._descriptor = -1
        self.is_done = numpy.zeros(length, dtype=numpy.bool_)
        if path is None:
            self._rows: Rows = numpy.zeros(length, dtype=self._row)
            return
        with _told(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._start = self._read_header(path, description, length)
            self._rows = numpy.memmap(
                path, dtype=self._row, mode="r", offset=self._start, shape=(length,)
            )
            self._find_done()
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def table(self) -> Rows:
        """All rows, the ones that are not there yet as zeros; cannot be written to."""
        table: Rows = self._rows[self._columns].view()
        table.flags.writeable = False
        return table

    def write(self, at: int, row: tuple[object, ...]) -> None:
        """Put a row in its place; it outlives this process at once, the machine after `flush`."""
        record = numpy.zeros((), dtype=self._row)
        for name, value in zip(self._columns, row, strict=True):
            record[name] = value
        record[_CHECK] = _checksum(record)
        if self._descriptor < 0:
            self._rows[at] = record
        else:
            with _told(self.path):
                place = self._start + at * self._row.itemsize
                os.pwrite(self._descriptor, record.tobytes(), place)
        self.is_done[at] = True

    def flush(self) -> None:
        """Return when everything written is on the disk."""
        if self._descriptor >= 0:
            with _told(self.path):
                os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Flush, and let other processes have the file; the table stays readable."""
        if self._descriptor >= 0:
            try:
                self.flush()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1

    def _read_header(self, path: Path, description: Mapping[str, object], length: int) -> int:
        """Check what the file is about, or write it down; return where the rows start."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"{path} belongs to a sweep that is running") from error
        names = [[name, kind] for name, kind, *_ in self._row.descr]
        expected = {**description, "columns": names, "rows": length}
        text = json.dumps(expected, sort_keys=True).encode()
        header = _MAGIC + len(text).to_bytes(_LENGTH_BYTES, "big") + text
        header += bytes(-len(header) % _HEADER_BLOCK)
        with _told(path):
            found = os.pread(self._descriptor, len(_MAGIC) + _LENGTH_BYTES, 0)
            size = os.fstat(self._descriptor).st_size
        if found[: len(_MAGIC)] != _MAGIC[: len(found)]:
            raise ConfigError(f"{path} is not a sweep's file")
        # The rows are made room for last: a file without that room was not begun, only named.
        if size > len(found) >= len(_MAGIC) + _LENGTH_BYTES:
            there = int.from_bytes(found[len(_MAGIC) :], "big")
            with _told(path):
                before = os.pread(self._descriptor, there, len(found))
            with contextlib.suppress(ValueError):
                _require_same(path, json.loads(before), json.loads(text))
                if size == len(header) + length * self._row.itemsize:
                    return len(header)
        with _told(path):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, header, 0)
            os.fsync(self._descriptor)
            os.ftruncate(self._descriptor, len(header) + length * self._row.itemsize)
        return len(header)

    def _find_done(self) -> None:
        for at in numpy.flatnonzero(self._rows[_CHECK]).tolist():
            self.is_done[at] = _checksum(self._rows[at]) == self._rows[_CHECK][at]


def _require_same(path: Path, found: Mapping[str, object], expected: Mapping[str, object]) -> None:
    different = sorted(
        name for name in {*found, *expected} if found.get(name) != expected.get(name)
    )
    if different:
        raise ConfigError(
            f"{path} holds another sweep's results: it differs in {', '.join(different)}; "
            f"take another file, or delete it"
        )


def _checksum(record: numpy.void | Rows) -> int:
    """Return the checksum of a row; never 0, which a row that was not written has."""
    return zlib.crc32(record.tobytes()[:-4]) or 1


@contextlib.contextmanager
def _told(path: Path | None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"the sweep's file {path} cannot be used: {error}") from error

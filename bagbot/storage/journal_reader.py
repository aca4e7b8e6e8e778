"""Reads a journal's file and never writes it, also while an engine holds it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from bagbot.domain.errors import JournalError
from bagbot.storage.journal import START, Mark, Row

# Read at a time: the writer can start its log anew only while nobody is in the middle of reading.
ROWS_AT_ONCE: Final = 5_000


class JournalReader:
    """The rows of a journal in SQLite, only those that are on the disk for good.

    A context manager. Raises JournalError on creation when there is no journal at `path`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise JournalError(f"there is no journal at {path}")
        try:
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        except sqlite3.Error as error:
            raise JournalError(f"the journal {path} cannot be opened: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.close()

    def last(self) -> int:
        """Return the number of the last row, 0 when there is none."""
        (rows,) = self._read("SELECT max(sequence) FROM journal", after=0)
        return int(rows[0] or 0)

    def holds(self, mark: Mark) -> bool:
        """Return whether the row at `mark` is there, with this hash."""
        found = self._read("SELECT hash FROM journal WHERE sequence = ?", mark.sequence, after=0)
        return mark == START or [(mark.hash,)] == found

    def rows(self, after: int = 0) -> Iterator[Row]:
        """Yield the rows after a number as they are, not checked, until there are no more.

        Raises JournalError naming the row after which the file cannot be read.
        """
        query = f"SELECT * FROM journal WHERE sequence > ? ORDER BY sequence LIMIT {ROWS_AT_ONCE}"
        while rows := self._read(query, after, after=after):
            yield from rows
            after = rows[-1][0]

    def _read(self, query: str, *numbers: int, after: int) -> list[Any]:
        try:
            return self._connection.execute(query, numbers).fetchall()
        except sqlite3.Error as error:
            raise JournalError(
                f"the journal {self.path} cannot be read after row {after}: {error}"
            ) from error

"""What every journal must do, asked of each we have: one suite, one answer."""

import asyncio
import errno
import random
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from bagbot.domain.errors import JournalError
from bagbot.storage.journal import START, Journal, Mark, Record, Row, row_after
from bagbot.storage.sqlite_journal import SqliteJournal
from bagbot.tests.chaos.crashable_journal import CrashableJournal, JournalDisk, frame


class Place(Protocol):
    """Where a journal lives: it can be opened again, damaged, and made to fail."""

    def open(self) -> Journal: ...

    def rows(self) -> list[Row]: ...

    def put(self, rows: Sequence[Row]) -> None:
        """Put other rows in the place of those that are there."""

    def fill(self, journal: Journal) -> None:
        """Take no big record from now on, until `open` is called again."""


class SqlitePlace:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.sqlite"

    def open(self) -> SqliteJournal:
        return SqliteJournal(self.path)

    def rows(self) -> list[Row]:
        connection = sqlite3.connect(self.path)
        rows = connection.execute("SELECT * FROM journal ORDER BY sequence").fetchall()
        connection.close()
        return rows

    def put(self, rows: Sequence[Row]) -> None:
        connection = sqlite3.connect(self.path)
        connection.execute("DELETE FROM journal")
        connection.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.commit()
        connection.close()

    def fill(self, journal: Journal) -> None:
        assert isinstance(journal, SqliteJournal)
        # SQLite's own way to a full disk: no page may be added any more.
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count = {pages}")


class MemoryPlace:
    def __init__(self) -> None:
        self.disk = JournalDisk()

    def open(self) -> CrashableJournal:
        self.disk.repair()
        return CrashableJournal(self.disk)

    def rows(self) -> list[Row]:
        return [row for _, rows in self.disk.frames() for row in rows]

    def put(self, rows: Sequence[Row]) -> None:
        self.disk.data[:] = b"".join(frame([row]) for row in rows)
        self.disk.flushed = len(self.disk.data)

    def fill(self, journal: Journal) -> None:
        self.disk.fail_at(self.disk.writes + 1, errno.ENOSPC)


@pytest.fixture(params=["sqlite", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return SqlitePlace(tmp_path) if request.param == "sqlite" else MemoryPlace()


def record(number: int) -> Record:
    return Record("INTENT", f"ord_{number}", 1000 + number, b'{"n": %d}' % number)


RECORDS = [record(number) for number in range(5)]


async def written(place: Place, records: Sequence[Record] = RECORDS) -> list[Row]:
    journal = place.open()
    assert list(journal.replay()) == []
    for one in records:
        await journal.append([one])
    await journal.close()
    return place.rows()


async def test_what_was_appended_is_replayed_in_order(place: Place) -> None:
    await written(place, RECORDS[:3])
    journal = place.open()
    assert list(journal.replay()) == RECORDS[:3]
    await journal.append(RECORDS[3:])
    await journal.close()
    journal = place.open()
    assert list(journal.replay()) == RECORDS
    await journal.close()


async def test_every_journal_writes_the_same_rows(place: Place) -> None:
    mark, rows = START, []
    for one in RECORDS:
        rows.append(row_after(mark, one))
        mark = Mark(rows[-1][0], rows[-1][-1])
    assert await written(place) == rows
    # Fixed for good: a journal of today must be read by any later bagbot.
    assert mark.hash.hex() == "5185abf311c0f86ad80f7018966e4a0eb261d9ba156cc941e197e66d7c91b949"


async def test_many_appends_at_once_keep_the_order_of_their_calls(place: Place) -> None:
    journal = place.open()
    list(journal.replay())
    await asyncio.gather(*(journal.append([record(n), record(n + 1)]) for n in range(0, 500, 2)))
    await journal.close()
    journal = place.open()
    assert list(journal.replay()) == [record(n) for n in range(500)]
    await journal.close()


async def test_an_append_has_no_greatest_length(place: Place) -> None:
    # More than SQLite takes in one statement: 32,766 variables, or 250,000 on Debian, 7 a row.
    many = [record(number) for number in range(40_000)]
    journal = place.open()
    list(journal.replay())
    await asyncio.gather(journal.append([record(1)]), journal.append(many))
    await journal.append([record(2)])
    await journal.close()
    journal = place.open()
    assert list(journal.replay()) == [record(1), *many, record(2)]
    await journal.close()


async def test_giving_up_waiting_takes_nothing_back(place: Place) -> None:
    journal = place.open()
    list(journal.replay())
    first = asyncio.ensure_future(journal.append([record(0)]))
    second = asyncio.ensure_future(journal.append([record(1)]))
    first.cancel()
    second.cancel()
    await journal.append([record(2)])
    await journal.close()
    journal = place.open()
    assert list(journal.replay()) == [record(0), record(1), record(2)]
    await journal.close()


async def test_closing_finishes_what_was_begun(place: Place) -> None:
    journal = place.open()
    list(journal.replay())
    waiting = [journal.append([one]) for one in RECORDS]
    await journal.close()
    await asyncio.gather(*waiting)
    journal = place.open()
    assert list(journal.replay()) == RECORDS
    await journal.close()


async def test_a_replay_from_a_mark_gives_what_came_after_it(place: Place) -> None:
    rows = await written(place)
    journal = place.open()
    assert list(journal.replay(Mark(3, rows[2][-1]))) == RECORDS[3:]
    await journal.append([record(9)])
    await journal.close()
    journal = place.open()
    assert list(journal.replay()) == [*RECORDS, record(9)]
    assert list(journal.replay(Mark(6, place.rows()[5][-1]))) == []
    await journal.close()


async def test_a_journal_holds_its_own_marks_only(place: Place) -> None:
    rows = await written(place)
    journal = place.open()
    assert journal.holds(START)
    assert journal.holds(Mark(3, rows[2][-1]))
    assert not journal.holds(Mark(3, rows[3][-1]))
    assert not journal.holds(Mark(6, rows[2][-1]))
    assert not journal.holds(Mark(0, rows[2][-1]))
    await journal.close()


@pytest.mark.parametrize("column", range(7))
@pytest.mark.parametrize("number", [1, 3, 5])
async def test_a_row_that_was_changed_is_refused_with_its_place(
    place: Place, number: int, column: int
) -> None:
    rows = await written(place)
    old = rows[number - 1][column]
    new = b"other" if isinstance(old, bytes) else "other" if isinstance(old, str) else old + 70
    changed = [list(row) for row in rows]
    changed[number - 1][column] = new
    place.put(sorted(msgspec.convert(changed, list[Row])))
    journal = place.open()
    # A row with another number leaves its own place empty: the next one is the first that is wrong.
    told = number + 1 if column == 0 and number < 5 else 75 if column == 0 else number
    with pytest.raises(JournalError, match=f"row {told} of the journal"):
        list(journal.replay())
    await journal.close()


@pytest.mark.parametrize("gone", [1, 2, 4])
async def test_a_row_that_is_missing_is_noticed(place: Place, gone: int) -> None:
    rows = await written(place)
    place.put(rows[: gone - 1] + rows[gone:])
    journal = place.open()
    with pytest.raises(JournalError, match=f"row {gone + 1} of the journal"):
        list(journal.replay())
    await journal.close()


async def test_a_newer_format_is_not_guessed_at(place: Place) -> None:
    rows = await written(place)
    place.put([*rows[:4], (rows[4][0], 2, *rows[4][2:])])
    journal = place.open()
    with pytest.raises(JournalError, match="schema version 2; this bagbot knows 1"):
        list(journal.replay())
    await journal.close()


async def test_a_second_writer_is_refused_and_let_in_after_the_first(place: Place) -> None:
    journal = place.open()
    with pytest.raises(JournalError, match="another bagbot holds the journal"):
        place.open()
    await journal.close()
    await place.open().close()


async def test_after_a_failed_write_nothing_more_is_taken(place: Place) -> None:
    journal = place.open()
    list(journal.replay())
    await journal.append([record(0)])
    place.fill(journal)
    big = Record("INTENT", "ord_big", 1, b"x" * 10_000_000)
    behind = [journal.append([big]), journal.append([record(1)])]
    with pytest.raises(JournalError, match="cannot be written"):
        await behind[0]
    with pytest.raises(JournalError):
        await behind[1]
    with pytest.raises(JournalError, match="failed: "):
        await journal.append([record(2)])
    await journal.close()
    journal = place.open()
    assert list(journal.replay()) == [record(0)]
    await journal.append([record(3)])
    await journal.close()


async def test_what_was_acknowledged_survives_a_crash_at_any_time() -> None:
    seed = random.randrange(10**9)
    sys.stdout.write(f"seed {seed}\n")
    for number in range(100):
        rng = random.Random(seed + number)
        disk = JournalDisk()
        acknowledged: list[Record] = []
        asked: list[Record] = []
        for _ in range(3):
            journal = CrashableJournal(disk, flush_s=lambda rng=rng: rng.uniform(0, 0.0005))
            left = list(journal.replay())
            assert left[: len(acknowledged)] == acknowledged, "what was promised is gone"
            assert left == asked[: len(left)], "there is something that nobody wrote"
            asked = left.copy()
            appends = []
            for size in [rng.randint(1, 3) for _ in range(rng.randint(0, 6))]:
                group = [record(len(asked) + n) for n in range(size)]
                asked += group
                appends.append((journal.append(group), group))
                if rng.random() < 0.5:
                    await asyncio.sleep(rng.uniform(0, 0.0006))
            journal.crash(rng)
            acknowledged = left + [one for done, group in appends if done.done() for one in group]
            assert not journal.append([record(99)]).done(), "the dead do not answer"


@pytest.mark.parametrize("error_number", [errno.ENOSPC, errno.EIO])
async def test_a_write_that_failed_leaves_a_whole_append_or_none(error_number: int) -> None:
    disk = JournalDisk()
    journal = CrashableJournal(disk)
    list(journal.replay())
    disk.fail_at(2, error_number)
    await journal.append([record(0)])
    with pytest.raises(JournalError, match=errno_text(error_number)):
        await journal.append([record(1), record(2)])
    await journal.close()
    disk.repair()
    left = list(CrashableJournal(disk).replay())
    assert left in ([record(0)], [record(0), record(1), record(2)])


def errno_text(number: int) -> str:
    return {errno.ENOSPC: "No space left", errno.EIO: "Input/output error"}[number]


async def test_damage_below_what_was_flushed_is_refused_even_at_the_end() -> None:
    disk = JournalDisk()
    journal = CrashableJournal(disk)
    list(journal.replay())
    for one in RECORDS:
        await journal.append([one])
    await journal.close()
    disk.data[-1] ^= 1
    with pytest.raises(JournalError, match="the row after row 4 of the journal in memory"):
        list(CrashableJournal(disk).replay())

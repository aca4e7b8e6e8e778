"""The journal in SQLite; what every journal must do is in test_journal_conformance.py."""

import asyncio
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bagbot.domain.errors import JournalError
from bagbot.storage.journal import Record
from bagbot.storage.sqlite_journal import SqliteJournal


def record(number: int) -> Record:
    return Record("INTENT", f"ord_{number}", 1000 + number, b'{"n": %d}' % number)


async def written(path: Path, count: int) -> None:
    journal = SqliteJournal(path)
    assert list(journal.replay()) == []
    for number in range(count):
        await journal.append([record(number)])
    await journal.close()


async def test_each_commit_is_flushed_to_the_disk(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    connection = journal._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # 2 is FULL.
    await journal.close()


@pytest.mark.parametrize(
    ("damage", "row"),
    [
        ("UPDATE journal SET payload = x'7b7d' WHERE sequence = 2", 2),
        ("UPDATE journal SET time_ns = 5 WHERE sequence = 3", 3),
        ("UPDATE journal SET order_id = 'ord_9' WHERE sequence = 1", 1),
        ("DELETE FROM journal WHERE sequence = 2", 3),
        ("UPDATE journal SET hash = zeroblob(32) WHERE sequence = 4", 4),
    ],
)
async def test_a_damaged_row_is_refused_with_its_place(
    tmp_path: Path, damage: str, row: int
) -> None:
    path = tmp_path / "journal.sqlite"
    await written(path, 4)
    with sqlite3.connect(path) as connection:
        connection.execute(damage)
    connection.close()
    journal = SqliteJournal(path)
    with pytest.raises(JournalError, match=f"row {row} of the journal"):
        list(journal.replay())
    await journal.close()


async def test_a_second_writer_is_refused_and_let_in_after_the_first(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    other = (
        "import sys; from pathlib import Path; "
        "from bagbot.storage.sqlite_journal import SqliteJournal; SqliteJournal(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", other, str(path)]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "another bagbot holds the journal" in refused.stderr
    with pytest.raises(JournalError, match="another bagbot holds the journal"):
        SqliteJournal(path)
    await journal.close()
    subprocess.run(command, check=True)


async def test_after_a_failed_write_nothing_more_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    list(journal.replay())
    await journal.append([record(0)])
    # SQLite's own way to a full disk: no page may be added any more.
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")
    big = Record("INTENT", "ord_big", 1, b"x" * 10_000_000)
    with pytest.raises(JournalError, match="cannot be written: database or disk is full"):
        await journal.append([big])
    with pytest.raises(JournalError, match="failed: database or disk is full"):
        await journal.append([record(1)])
    await journal.close()
    journal = SqliteJournal(path)
    assert list(journal.replay()) == [record(0)]
    await journal.close()


async def test_of_an_append_in_several_statements_all_or_nothing_is_written(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    list(journal.replay())
    await journal.append([record(0)])
    # There is room for the first of the statements: the file is 4 MB long beforehand.
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(JournalError, match="cannot be written: database or disk is full"):
        await journal.append([Record("FILLED", "ord_0", 1, b"x" * 200)] * 40_000)
    await journal.close()
    journal = SqliteJournal(path)
    assert list(journal.replay()) == [record(0)]
    await journal.close()


async def test_after_an_append_was_refused_nothing_more_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bagbot.storage.sqlite_journal.PENDING_MAX", 10)
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    list(journal.replay())
    in_line = [journal.append([record(number)]) for number in range(10)]
    reason = "failed: 10 appends waited for the disk"
    with pytest.raises(JournalError, match=reason):
        await journal.append([record(10)])
    await asyncio.gather(*in_line)
    # There is room again, but what was left out would be missing before it.
    with pytest.raises(JournalError, match=reason):
        await journal.append([record(11)])
    await journal.close()
    journal = SqliteJournal(path)
    assert list(journal.replay()) == [record(number) for number in range(10)]
    await journal.append([record(10)])
    await journal.close()


async def test_a_log_cut_anywhere_leaves_what_came_first_and_nothing_else(tmp_path: Path) -> None:
    """What a power cut may leave of SQLite's log: whole commits up to some place."""
    seed = random.randrange(10**9)
    sys.stdout.write(f"seed {seed}\n")
    rng = random.Random(seed)
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    list(journal.replay())
    appends = [[record(n), record(n + 1)] for n in range(0, 40, 2)]
    for records in appends:
        await journal.append(records)
    log = path.with_name("journal.sqlite-wal").read_bytes()
    # The log was lengthened beforehand; each append takes one page of it, with a header.
    used = len(appends) * 4_120
    lengths = set()
    for number in range(12):
        left = tmp_path / str(number) / "journal.sqlite"
        left.parent.mkdir()
        shutil.copy(path, left)
        cut = rng.randrange(used)
        tail = rng.choice([b"", bytes(len(log) - cut), rng.randbytes(2_000)])
        left.with_name("journal.sqlite-wal").write_bytes(log[:cut] + tail)
        after_crash = SqliteJournal(left)
        found = list(after_crash.replay())
        assert found == [record(n) for n in range(len(found))]
        assert len(found) % 2 == 0, "half of an append"
        lengths.add(len(found))
        await after_crash.append([record(99)])
        await after_crash.close()
        after_crash = SqliteJournal(left)
        assert list(after_crash.replay()) == [*found, record(99)]
        await after_crash.close()
    await journal.close()
    assert len(lengths) > 2, "the cuts did not touch what was written"


def test_a_file_that_is_no_journal_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(JournalError, match="cannot be opened: file is not a database"):
        SqliteJournal(path)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be opened"):
        SqliteJournal(tmp_path)

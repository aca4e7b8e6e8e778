"""`bagbot journal verify|export|snapshot`, as a person or a script would call them."""

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from bagbot.domain.errors import JournalError
from bagbot.storage.journal import GENESIS_HASH, Record, chained_hash
from bagbot.storage.journal_reader import JournalReader
from bagbot.storage.snapshot import read_snapshot, write_snapshot
from bagbot.storage.sqlite_journal import SqliteJournal
from bagbot.tests.running_bagbot import RunningBagbot
from bagbot.tests.trading.random_history import history
from bagbot.trading import journal_audit
from bagbot.trading.account_state import AccountState
from bagbot.trading.recovery import difference, fold_version, recovered, snapshot_of, state_from

ROWS = 60


def journal(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bagbot", "journal", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


async def written(path: Path, records: list[Record]) -> None:
    with_journal = SqliteJournal(path)
    list(with_journal.replay())
    await with_journal.append(records)
    await with_journal.close()


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.sqlite"
    await written(path, RECORDS)
    return path


RECORDS = history(random.Random(11), ROWS)
STATE = AccountState()
STATE.replay(RECORDS)


def damage(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def untold(done: int, total: int) -> None:
    pass


def test_verify_tells_what_the_journal_holds(path: Path) -> None:
    told = journal("verify", "--file", path)
    assert told.returncode == 0, told.stderr
    assert f"rows      {ROWS}\n" in told.stdout
    assert f"orders    {len(STATE.orders)} ({len(STATE.live)} not ended)" in told.stdout
    assert "snapshot  none" in told.stdout
    with sqlite3.connect(path) as connection:
        (last,) = connection.execute("SELECT hash FROM journal WHERE sequence = 60").fetchone()
    connection.close()
    assert f"last hash {last.hex()}\n" in told.stdout
    assert told.stderr == ""


def test_verify_names_the_damaged_row_with_exit_code_1(path: Path) -> None:
    damage(path, "UPDATE journal SET payload = x'7b7d' WHERE sequence = 33")
    told = journal("verify", "--file", path)
    assert told.returncode == 1
    assert told.stdout == ""
    assert told.stderr == (
        f"bagbot: row 33 of the journal {path} is not what was written after row 32: "
        f"the file was damaged or changed. Restore it from a copy\n"
    )


def test_verify_names_a_row_that_makes_no_sense_though_its_hash_is_right(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    sequence, chain = 0, GENESIS_HASH
    nonsense = [Record("DECISION", "", 1, b"{}"), Record("MARS", "", 2, b"{}")]
    asked = sqlite3.connect(path)
    asked.execute(
        "CREATE TABLE journal (sequence INTEGER PRIMARY KEY, schema_version, time_ns, kind, "
        "order_id, payload, hash)"
    )
    for sequence, record in enumerate([RECORDS[0], nonsense[1]], start=1):
        chain = chained_hash(chain, sequence, record)
        row = (sequence, 1, record.time_ns, record.kind, record.order_id, record.payload, chain)
        asked.execute("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    asked.commit()
    asked.close()
    with pytest.raises(JournalError, match=r"row 2 of the journal .* makes no sense: .*MARS"):
        journal_audit.verify(path, tmp_path / "none", untold)


def test_a_journal_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    told = journal("export", "--file", path)
    assert told.returncode == 1
    assert told.stderr == f"bagbot: there is no journal at {path}\n"
    with pytest.raises(JournalError, match="there is no journal at"):
        journal_audit.take_snapshot(path, path.with_suffix(".snapshot"), untold)
    assert list(tmp_path.iterdir()) == []


def test_a_torn_page_is_told_with_its_place(path: Path) -> None:
    content = bytearray(path.read_bytes())
    page = int.from_bytes(content[16:18], "big")
    content[-2 * page :] = os.urandom(2 * page)
    path.write_bytes(content)
    with pytest.raises(JournalError, match=rf"journal {path} cannot be read after row|row \d+ of"):
        journal_audit.verify(path, path.with_suffix(".none"), untold)


def test_export_gives_every_row_with_a_hash_that_anyone_can_check(path: Path) -> None:
    told = journal("export", "--file", path, "--format", "jsonl")
    assert told.returncode == 0, told.stderr
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert [row["sequence"] for row in rows] == list(range(1, ROWS + 1))
    chain = GENESIS_HASH
    for line, row, record in zip(told.stdout.splitlines(), rows, RECORDS, strict=True):
        assert (row["kind"], row["order_id"], row["time_ns"]) == (
            record.kind,
            record.order_id,
            record.time_ns,
        )
        assert f'"payload":{record.payload.decode()},"hash"' in line
        chain = chained_hash(chain, row["sequence"], record)
        assert row["hash"] == chain.hex()


def test_export_stops_at_a_bad_row_and_what_it_wrote_before_is_good(path: Path) -> None:
    damage(path, "UPDATE journal SET kind = 'X' WHERE sequence = 20")
    target = path.with_name("rows.jsonl")
    told = journal("export", "--file", path, "--output", target)
    assert told.returncode == 1
    assert "row 20 of the journal" in told.stderr
    assert len(target.read_text().splitlines()) == 19


def test_export_into_a_pipe_that_closes_ends_quietly(path: Path) -> None:
    command = f"{sys.executable} -m bagbot journal export --file {path} | head -1"
    told = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert json.loads(told.stdout)["sequence"] == 1
    assert told.stderr == ""


async def test_a_snapshot_is_taken_and_the_next_one_goes_on_from_it(path: Path) -> None:
    snapshot = path.with_suffix(".snapshot")
    told = journal("snapshot", "--file", path)
    assert told.stdout == f"{snapshot} stands for the first {ROWS} rows\n", told.stderr
    more = history(random.Random(11), ROWS + 20)
    later = SqliteJournal(path)
    state, _ = recovered(later, snapshot)
    assert difference(state, STATE) is None
    await later.append(more[ROWS:])
    # The engine is running still.
    assert journal_audit.take_snapshot(path, snapshot, untold).sequence == ROWS + 20
    await later.close()
    found = read_snapshot(snapshot, fold=fold_version())
    assert found is not None
    whole = AccountState()
    whole.replay(more)
    assert difference(state_from(found), whole) is None
    audit = journal_audit.verify(path, snapshot, untold)
    assert audit.snapshot == f"says the same as the rows up to {ROWS + 20}"


def test_no_snapshot_is_taken_of_a_journal_with_a_bad_row(path: Path) -> None:
    snapshot = path.with_suffix(".snapshot")
    journal_audit.take_snapshot(path, snapshot, untold)
    before = snapshot.read_bytes()
    # A row that the snapshot stands for: a start would not read it any more, this does.
    damage(path, "UPDATE journal SET time_ns = 1 WHERE sequence = 7")
    with pytest.raises(JournalError, match="row 7 of the journal"):
        journal_audit.take_snapshot(path, snapshot, untold)
    assert snapshot.read_bytes() == before


def test_verify_notices_a_snapshot_that_tells_something_else(path: Path) -> None:
    snapshot = path.with_suffix(".snapshot")
    mark = journal_audit.take_snapshot(path, snapshot, untold)
    wrong = AccountState()
    wrong.replay(RECORDS)
    wrong.killed = "never said"
    write_snapshot(snapshot, snapshot_of(wrong, mark))
    with pytest.raises(JournalError, match=r"snapshot .* is wrong about killed at row 60"):
        journal_audit.verify(path, snapshot, untold)


def test_a_running_engine_makes_snapshots_by_itself_and_starts_from_them(tmp_path: Path) -> None:
    order = {"symbol": "BTC/USDT", "side": "buy", "amount": "0.001", "type": "market"}
    with RunningBagbot(tmp_path, BAGBOT_JOURNAL__SNAPSHOT_EVERY_ROWS="10") as bagbot:
        token = bagbot.token("read", "trade")
        answers = [
            bagbot.post("/orders", order, token, Idempotency_Key=f"key-{number}")
            for number in range(4)
        ]
        assert {status for status, _ in answers} == {202}
        snapshot = tmp_path / "paper" / "journal.snapshot"
        end = time.monotonic() + 30
        while not snapshot.exists():
            assert time.monotonic() < end, "".join(bagbot.lines)
            time.sleep(0.1)
        told = journal("verify", "--file", tmp_path / "paper" / "journal.sqlite")
        assert told.returncode == 0, told.stderr
        assert "snapshot  says the same as the rows up to" in told.stdout
        _, before = bagbot.get("/orders", token)
        _, fills = bagbot.get("/fills", token)
        bagbot.kill()
        # Whatever a start read of the rows that the snapshot stands for would stop it here.
        damage(
            tmp_path / "paper" / "journal.sqlite",
            "UPDATE journal SET payload = x'00' WHERE sequence < 8",
        )
        bagbot.start()
        assert bagbot.get("/orders", token)[1] == before
        assert bagbot.get("/fills", token)[1] == fills
        assert Counter(o["status"] for o in before["items"]) == {"FILLED": 4}
        # Who repeats an order that was taken before the snapshot gets that one, not another.
        status, again = bagbot.post("/orders", order, token, Idempotency_Key="key-0")
        assert (status, again["id"]) == (answers[0][0], answers[0][1]["id"])
        assert len(bagbot.get("/orders", token)[1]["items"]) == 4


def test_a_reader_sees_what_was_written_since_it_began(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE journal (sequence INTEGER PRIMARY KEY, x TEXT)")
    connection.execute("INSERT INTO journal VALUES (1, 'a')")
    connection.commit()
    with JournalReader(path) as reader:
        rows = reader.rows()
        assert next(rows)[0] == 1
        connection.execute("INSERT INTO journal VALUES (2, 'b')")
        connection.commit()
        assert next(rows)[0] == 2
        assert reader.last() == 2
    connection.close()

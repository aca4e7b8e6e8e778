"""Recovery from a snapshot: the same state as from the whole journal, or no snapshot at all."""

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bagbot.domain.errors import JournalError
from bagbot.domain.events import Submitted
from bagbot.domain.order import OrderStatus
from bagbot.storage.journal import START, Mark, Record, row_after
from bagbot.storage.snapshot import Snapshot, read_snapshot, write_snapshot
from bagbot.system_clock import SystemClock
from bagbot.tests.chaos.crashable_journal import CrashableJournal, JournalDisk, frame
from bagbot.tests.trading.random_history import history, intent
from bagbot.trading.account_state import AccountState
from bagbot.trading.connectors.interface import (
    Balance,
    ExchangeOrder,
    ExchangePosition,
    IExchangeConnector,
)
from bagbot.trading.journal_records import record_of
from bagbot.trading.order_executor import OrderExecutor
from bagbot.trading.recovery import (
    difference,
    fold_version,
    recovered,
    snapshot_of,
    state_from,
)
from bagbot.trading.risk_manager import RiskLimits, RiskManager


def disk_with(records: Sequence[Record]) -> tuple[JournalDisk, list[Mark]]:
    disk, marks = JournalDisk(), [START]
    for one in records:
        row = row_after(marks[-1], one)
        marks.append(Mark(row[0], row[-1]))
        disk.data += frame([row])
    disk.flushed = len(disk.data)
    return disk, marks


def folded(records: Sequence[Record]) -> AccountState:
    state = AccountState()
    state.replay(records)
    return state


def test_snapshot_and_the_rows_after_it_add_up_to_the_whole_journal(tmp_path: Path) -> None:
    seed = random.randrange(10**9)
    sys.stdout.write(f"seed {seed}\n")
    path = tmp_path / "journal.snapshot"
    statuses = set()
    for number in range(30):
        rng = random.Random(seed + number)
        records = history(rng, 120)
        disk, marks = disk_with(records)
        whole = folded(records)
        statuses |= {order.status for order in whole.orders.values()}
        first, second = sorted(rng.sample(range(len(records) + 1), 2))
        # Twice, because the second snapshot is made of what the first one told.
        for place in (first, second):
            state, _ = recovered(CrashableJournal(disk), path)
            disk.is_held = False
            assert difference(state, whole) is None, f"seed {seed + number}"
            partly = folded(records[:place])
            write_snapshot(path, snapshot_of(partly, marks[place]))
        snapshot = read_snapshot(path, fold=fold_version())
        assert snapshot is not None
        again = state_from(snapshot)
        assert difference(again, partly) is None
        assert set(vars(again)) == set(vars(partly))
        assert difference(state_from(snapshot_of(again, marks[second])), partly) is None
        with capture_logs() as logs:
            state, in_flight = recovered(CrashableJournal(disk), path)
        assert logs == []
        assert difference(state, whole) is None, f"seed {seed + number}"
        assert in_flight == AccountState.replay(whole, [])
        # What it is from now on must not differ either.
        for one in history(random.Random(seed + number), 200)[120:]:
            state.take_in(one)
            whole.take_in(one)
        assert difference(state, whole) is None, f"seed {seed + number}"
        path.unlink()
    assert statuses == set(OrderStatus), "the histories are poorer than they should be"


def with_one_bit_changed(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    # Right before its padding base64 has bits that say nothing.
    places = [at for at in range(len(content)) if content[at + 1 : at + 2] != b"="]
    content[rng.choice(places)] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def with_a_header_that_is_no_text(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"fold") + rng.randrange(4)] |= 0x80
    path.write_bytes(content)


def cut_short(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content))])


def made_by_other_code(path: Path, rng: random.Random) -> None:
    snapshot = read_snapshot(path, fold=fold_version())
    assert snapshot is not None
    write_snapshot(path, Snapshot(snapshot.mark, "other", snapshot.body))


def of_another_journal(path: Path, rng: random.Random) -> None:
    records = history(rng, 30)
    _, marks = disk_with(records)
    write_snapshot(path, snapshot_of(folded(records), marks[-1]))


def that_is_a_folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def of_sound_nonsense(path: Path, rng: random.Random) -> None:
    snapshot = read_snapshot(path, fold=fold_version())
    assert snapshot is not None
    write_snapshot(path, Snapshot(snapshot.mark, fold_version(), b"\x93\x01\x02\x03"))


@pytest.mark.parametrize(
    "spoil",
    [
        with_one_bit_changed,
        with_a_header_that_is_no_text,
        cut_short,
        made_by_other_code,
        of_another_journal,
        that_is_a_folder,
        of_sound_nonsense,
    ],
)
def test_a_snapshot_that_does_not_fit_is_ignored_with_a_warning(
    tmp_path: Path, spoil: object
) -> None:
    assert callable(spoil)
    seed = random.randrange(10**9)
    sys.stdout.write(f"seed {seed}\n")
    records = history(random.Random(seed), 40)
    disk, marks = disk_with(records)
    whole = folded(records)
    for number in range(20):
        path = tmp_path / f"{number}.snapshot"
        write_snapshot(path, snapshot_of(folded(records[:30]), marks[30]))
        spoil(path, random.Random(seed + 1 + number))
        with capture_logs() as logs:
            state, _ = recovered(CrashableJournal(disk), path)
        disk.is_held = False
        assert difference(state, whole) is None
        assert [(log["event"], log["log_level"]) for log in logs] == [
            ("snapshot ignored, all is read", "warning")
        ]


def test_a_missing_snapshot_is_no_news(tmp_path: Path) -> None:
    records = history(random.Random(1), 40)
    disk, _ = disk_with(records)
    with capture_logs() as logs:
        state, _ = recovered(CrashableJournal(disk), tmp_path / "none")
    assert difference(state, folded(records)) is None
    assert logs == []


def test_a_bad_row_after_the_snapshot_is_refused_with_its_place(tmp_path: Path) -> None:
    records = history(random.Random(2), 40)
    disk, marks = disk_with(records)
    path = tmp_path / "journal.snapshot"
    write_snapshot(path, snapshot_of(folded(records[:30]), marks[30]))
    rows = [list(row) for _, rows in disk.frames() for row in rows]
    rows[34][5] = b"{}"
    disk.data[:] = b"".join(frame([tuple(row)]) for row in rows)
    disk.flushed = len(disk.data)
    with pytest.raises(JournalError, match="row 35 of the journal in memory is not what was"):
        recovered(CrashableJournal(disk), path)


def test_an_unfinished_snapshot_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "journal.snapshot"
    write_snapshot(path, Snapshot(START, "a", b"first"))
    # A folder where the new file would be written: the same to us as a disk that is full.
    (tmp_path / f"journal.snapshot.{os.getpid()}.unfinished").mkdir()
    with pytest.raises(OSError, match=r"directory|Directory"):
        write_snapshot(path, Snapshot(START, "a", b"second"))
    kept = read_snapshot(path, fold="a")
    assert kept is not None
    assert bytes(kept.body) == b"first"


def test_what_a_killed_process_left_unfinished_is_removed(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], stdout=subprocess.PIPE, check=True
    )
    abandoned = tmp_path / f"journal.snapshot.{int(ended.stdout)}.unfinished"
    of_somebody = tmp_path / f"journal.snapshot.{os.getppid()}.unfinished"
    abandoned.touch()
    of_somebody.touch()
    write_snapshot(tmp_path / "journal.snapshot", Snapshot(START, "a", b"first"))
    assert not abandoned.exists()
    assert of_somebody.exists()


class SilentExchange(IExchangeConnector):
    """The four methods, and nothing one could ask about an order."""

    async def fetch_balance(self) -> dict[str, Balance]:
        return {}

    async def create_order(self, order_payload: object) -> ExchangeOrder:
        raise AssertionError("nothing is sent at a start")

    async def cancel_order(self, order_id: str, symbol: str | None = None) -> None:
        raise AssertionError("nothing is cancelled at a start")

    async def fetch_positions(self) -> list[ExchangePosition]:
        return []


async def test_many_orders_in_flight_are_written_down_with_few_flushes() -> None:
    records = []
    for number in range(2_500):
        order_id, entry = intent(random.Random(1), number, 1_700_000_000_000_000_000)
        send = Submitted(
            time_ns=entry.time_ns,
            client_order_id=f"sent-{number}",
            timestamp_ms=1,
            recv_window_ms=1,
        )
        records += [record_of(entry, order_id), record_of(send, order_id)]
    disk, _ = disk_with(records)
    executor = OrderExecutor(
        connector=SilentExchange(),
        journal=CrashableJournal(disk),
        risk_manager=RiskManager(RiskLimits()),
        clock=SystemClock(),
    )
    async with executor:
        statuses = {order.status for order in executor.state.orders.values()}
        assert statuses == {OrderStatus.UNKNOWN}
        assert disk.writes == 3
    disk.is_held = False
    again, in_flight = recovered(CrashableJournal(disk))
    assert in_flight == []
    assert difference(again, executor.state) is None


def test_every_state_the_fold_knows_is_compared() -> None:
    """A difference in any one field is a difference: the tests above would notice."""
    records = history(random.Random(3), 200)
    for name in vars(AccountState()):
        state, other = folded(records), folded(records)
        assert difference(state, other) is None
        empty = vars(AccountState())[name]
        if vars(state)[name] == empty:
            empty = "changed"
        setattr(other, name, empty)
        assert difference(state, other) is not None, name

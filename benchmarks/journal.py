"""The journal beside a bare append + fdatasync, and how fast a long one is ready again.

    python benchmarks/journal.py               durable appends, alone and many at once
    python benchmarks/journal.py --quick       a short run of the same
    python benchmarks/journal.py --recovery    1,000,000 rows, 10,000 open intents: time to ready

The bare peer writes the same payloads (an INTENT and a SEND) to the end of a file and calls
fdatasync, one by one: no places, no chain, no group. Both take turns in one run, on one disk.
"""

import argparse
import asyncio
import itertools
import json
import os
import resource
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path

from bagbot.config import JournalSettings
from bagbot.domain import events
from bagbot.domain.instrument import Side
from bagbot.domain.order import (
    OrderIntent,
    OrderRequest,
    OrderType,
    client_order_id,
    intent_id,
)
from bagbot.storage.journal import START, Mark, Record, row_after
from bagbot.storage.sqlite_journal import SqliteJournal
from bagbot.trading.connectors.interface import Balance, ExchangeOrder, IExchangeConnector
from bagbot.trading.journal_records import Entry, IntentRecorded, record_of
from bagbot.trading.risk_manager import Check

AT_ONCE = 64
PAUSE_S = 0.002
CHECKS = tuple(Check(f"rule_number_{n}", "60000.12", "100000") for n in range(6))
BEGAN_NS = 1_700_000_000_000_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few appends, to see that it works")
    parser.add_argument("--recovery", action="store_true", help="measure the start instead")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the journal recovered")
    parser.add_argument("--open", type=int, default=10_000, help="intents that have not ended")
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start is not None:
        asyncio.run(start_engine(arguments.start))
        return
    with tempfile.TemporaryDirectory(prefix="bagbot-bench-", dir=Path.cwd()) as folder:
        if arguments.recovery:
            measure_recovery(Path(folder), rows=arguments.rows, live=arguments.open)
        else:
            run_as_the_engine_does(measure_appends(Path(folder), quick=arguments.quick))


# --------------------------------------------------------- durable appends


def run_as_the_engine_does(work: object) -> None:
    import uvloop

    sys.setswitchinterval(0.0005)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)  # type: ignore[arg-type]


async def measure_appends(folder: Path, *, quick: bool) -> None:
    rounds, each, burst = (3, 60, 2_000) if quick else (15, 150, 10_000)
    intents = iter(intents_and_sends())
    journal = SqliteJournal(folder / "journal.sqlite")
    list(journal.replay())
    bare = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    ready_made = os.open(folder / "ready-made", os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(ready_made, bytes(64_000_000))
    os.fsync(ready_made)
    one_by_one: dict[str, list[list[int]]] = {"bare": [], "overwriting": [], "journal": []}
    place = 0
    for number in range(rounds + 1):
        spans: dict[str, list[int]] = {name: [] for name in one_by_one}
        for _ in range(each):
            records = next(intents)
            content = b"".join(record.payload for record in records)
            began = time.perf_counter_ns()
            os.write(bare, content)
            os.fdatasync(bare)
            spans["bare"].append(time.perf_counter_ns() - began)
            await asyncio.sleep(PAUSE_S)
            began = time.perf_counter_ns()
            os.pwrite(ready_made, content, place)
            os.fdatasync(ready_made)
            spans["overwriting"].append(time.perf_counter_ns() - began)
            place += len(content)
            await asyncio.sleep(PAUSE_S)
            began = time.perf_counter_ns()
            await journal.append(records)
            spans["journal"].append(time.perf_counter_ns() - began)
            await asyncio.sleep(PAUSE_S)
        if number:  # The first round warms up.
            for name, values in spans.items():
                one_by_one[name].append(values)
    rates = []
    for _ in range(1 if quick else 5):
        journal_rate = await rate_at_once(journal, intents, burst)
        rates.append((journal_rate, bare_rate(bare, intents, burst // 10)))
    os.close(bare)
    os.close(ready_made)
    await journal.close()
    report_appends(one_by_one, rates, each)


async def rate_at_once(
    journal: SqliteJournal, intents: Iterator[tuple[Record, Record]], count: int
) -> float:
    """Return durable intents per second with AT_ONCE callers, each waiting for its own."""

    async def caller() -> None:
        for _ in range(count // AT_ONCE):
            await journal.append(next(intents))

    began = time.perf_counter_ns()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(caller())
    return count // AT_ONCE * AT_ONCE / (time.perf_counter_ns() - began) * 1e9


def bare_rate(file: int, intents: Iterator[tuple[Record, Record]], count: int) -> float:
    began = time.perf_counter_ns()
    for _ in range(count):
        os.write(file, b"".join(record.payload for record in next(intents)))
        os.fdatasync(file)
    return count / (time.perf_counter_ns() - began) * 1e9


def report_appends(
    spans: dict[str, list[list[int]]], rates: list[tuple[float, float]], each: int
) -> None:
    print(
        f"machine: {os.cpu_count()} cores; {len(spans['bare'])} rounds of {each} appends of an "
        f"INTENT and a SEND, in turn"
    )
    print(f"\n{'one at a time, us':36} {'p50':>8} {'p99':>8}")
    for name, title in (
        ("bare", "bare append + fdatasync"),
        ("overwriting", "bare overwrite + fdatasync"),
        ("journal", "journal.append"),
    ):
        every = sorted(value / 1000 for values in spans[name] for value in values)
        p99 = every[int(len(every) * 0.99)]
        print(f"{title:36} {statistics.median(every):8.0f} {p99:8.0f}")
    for peer, aim in (("bare", " (aim: at most 2.50)"), ("overwriting", "")):
        ratios = sorted(
            statistics.median(ours) / statistics.median(theirs)
            for ours, theirs in zip(spans["journal"], spans[peer], strict=True)
        )
        print(
            f"p50, journal / {peer}, round by round: median {statistics.median(ratios):.2f}, "
            f"min {ratios[0]:.2f}, max {ratios[-1]:.2f}{aim}"
        )
    ours, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
    lowest = min(rate for rate, _ in rates)
    print(
        f"\ndurable intents/s, {AT_ONCE} at once: {ours:.0f} (lowest of {len(rates)} runs: "
        f"{lowest:.0f}; aim: at least 5000)\nbare, one by one: {theirs:.0f}; "
        f"journal / bare: {ours / theirs:.1f}"
    )


# --------------------------------------------------------------- recovery


def measure_recovery(folder: Path, *, rows: int, live: int) -> None:
    path = folder / "journal.sqlite"
    SqliteJournal(path)._connection.close()
    after = min(JournalSettings().snapshot_every_rows, rows // 2)
    written = history(rows, live)
    add_rows(path, itertools.islice(written, rows - after))
    began = time.perf_counter()
    command = [sys.executable, "-m", "bagbot", "journal", "snapshot", "--file", str(path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    took = time.perf_counter() - began
    snapshot = path.with_suffix(".snapshot")
    add_rows(path, written)
    print(
        f"a journal of {rows} rows, {path.stat().st_size / 1e6:.0f} MB, {live} open intents, half "
        f"of them in flight.\nThe exchange is asked nothing, so that only bagbot is measured.\n"
        f"\nthe first snapshot, made beside the engine: {took:.1f} s, "
        f"{snapshot.stat().st_size / 1e6:.0f} MB"
    )
    kept = snapshot.rename(folder / "kept")
    told = started(path)
    print(f"without a snapshot: ready in {told['ready_s']:.1f} s; {told['mb']:.0f} MB of memory")
    kept.rename(snapshot)
    runs = [started(path) for _ in range(5)]
    print(f"with one, and {after} rows after it (median, lowest and highest of {len(runs)}):")
    for name, title in (
        ("import_s", "python and imports"),
        ("open_s", "open the journal and lock it"),
        ("recover_s", "recover: snapshot, rows after it, records of what was in flight"),
        ("ready_s", "from the start of the process to ready (aim: at most 5 s)"),
        ("cpu_s", "of it on the processor; the rest is waiting for the disk and other programs"),
    ):
        values = sorted(run[name] for run in runs)
        print(f"  {values[2]:6.2f} s ({values[0]:.2f} to {values[-1]:.2f})  {title}")
    print(f"  {runs[0]['orders']:.0f} orders known, {runs[0]['mb']:.0f} MB of memory at most")


def add_rows(path: Path, rows: Iterable[tuple[object, ...]]) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.execute("COMMIT")
    connection.close()


def started(path: Path) -> dict[str, float]:
    """Start an engine on a copy of the journal, so that each start finds the same; return times."""
    copy = path.with_name("copy.sqlite")
    shutil.copy(path, copy)
    copy.with_suffix(".snapshot").unlink(missing_ok=True)
    if path.with_suffix(".snapshot").exists():
        shutil.copy(path.with_suffix(".snapshot"), copy.with_suffix(".snapshot"))
    os.sync()
    began = time.time()
    environment = {**os.environ, "BENCH_BEGAN": repr(began)}
    command = [sys.executable, __file__, "--start", str(copy)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    copy.unlink()
    return json.loads(told.stdout.splitlines()[-1])


async def start_engine(path: Path) -> None:
    """Recover as `bagbot run` does, and say how long each step took."""
    import bagbot.app  # noqa: F401 - what the engine imports is part of its start.
    from bagbot.system_clock import SystemClock
    from bagbot.trading.order_executor import OrderExecutor
    from bagbot.trading.risk_manager import RiskLimits, RiskManager

    imported = time.time()
    journal = SqliteJournal(path)
    opened = time.time()
    executor = OrderExecutor(
        connector=AnswersAtOnce(),
        journal=journal,
        risk_manager=RiskManager(RiskLimits()),
        clock=SystemClock(),
        snapshot=path.with_suffix(".snapshot"),
    )
    async with executor:
        ready, cpu_s = time.time(), time.process_time()
        orders = len(executor.state.orders)
    await journal.close()
    began = float(os.environ["BENCH_BEGAN"])
    print(
        json.dumps(
            {
                "import_s": imported - began,
                "open_s": opened - imported,
                "recover_s": ready - opened,
                "ready_s": ready - began,
                "cpu_s": cpu_s,
                "orders": orders,
                "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


class AnswersAtOnce(IExchangeConnector):
    """An exchange without a network; it is asked about nothing, so that only we are measured."""

    async def fetch_balance(self) -> dict[str, Balance]:
        return {}

    async def create_order(self, order_payload: object) -> ExchangeOrder:
        raise AssertionError("nothing is sent at a start")

    async def cancel_order(self, order_id: str, symbol: str | None = None) -> None:
        raise AssertionError("nothing is cancelled at a start")

    async def fetch_positions(self) -> list[object]:
        return []


# ---------------------------------------------------------------- records


def history(rows: int, live: int) -> Iterator[tuple[object, ...]]:
    """Yield rows: ended orders of four each, then the open ones, half of them in flight."""
    ended = (rows - live * 5 // 2) // 4
    mark = START
    for number in range(ended + live):
        for order_id, entry in life_of(number, is_open=number >= ended):
            row = row_after(mark, record_of(entry, order_id))
            mark = Mark(row[0], row[-1])
            yield row


def intents_and_sends() -> Iterator[tuple[Record, Record]]:
    number = 0
    while True:
        life = life_of(number, is_open=False)
        first, second = (record_of(entry, order_id) for order_id, entry in life[:2])
        yield first, second
        number += 1


def life_of(number: int, *, is_open: bool) -> list[tuple[str, Entry]]:
    time_ns = BEGAN_NS + number * 1_000_000_000
    identity = f"alert:trend-following:{number}"
    order_id, exchange_id = intent_id("main", identity), str(9_000_000 + number)
    request = OrderRequest(
        symbol="BTC/USDT" if number % 3 else "ETH/USDT",
        side=Side.BUY if number % 2 else Side.SELL,
        type=OrderType.LIMIT if is_open else OrderType.MARKET,
        amount=Decimal("0.001"),
        price=Decimal(60_000) if is_open else None,
    )
    intent = OrderIntent(
        id=order_id,
        account="main",
        request=request,
        source="tradingview",
        identity=identity,
        time_ns=time_ns,
        fingerprint=f"{number:064x}",
    )
    send = events.Submitted(
        time_ns=time_ns,
        client_order_id=client_order_id("main", request.symbol, order_id, 0),
        timestamp_ms=time_ns // 1_000_000,
        recv_window_ms=3_000,
    )
    life: list[Entry] = [IntentRecorded(time_ns=time_ns, intent=intent, checks=CHECKS), send]
    if not (is_open and number % 2):
        life.append(events.Accepted(time_ns=time_ns, exchange_order_id=exchange_id))
    if not is_open:
        fill = events.Fill(
            trade_id=str(5_000_000 + number),
            quantity=Decimal("0.001"),
            price=Decimal("60000.12"),
            fee=Decimal("0.06000012"),
            fee_asset="USDT",
            exchange_time_ns=time_ns,
        )
        life.append(events.Filled(time_ns=time_ns, exchange_order_id=exchange_id, fill=fill))
    return [(order_id, entry) for entry in life]


if __name__ == "__main__":
    main()

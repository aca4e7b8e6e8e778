"""Many seeds on all cores, added up in a way that no order of work can change."""

import gc
import hashlib
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from bagbot.tests.chaos.crash_points import POINTS
from bagbot.tests.chaos.faults import ALL
from bagbot.tests.chaos.world import Outcome, prepare_process, run_seed

_BATCH: Final = 25
# With fewer seeds than this, not every point can have had its turn.
SEEDS_FOR_ALL_POINTS: Final = 4_000


@dataclass(slots=True)
class Total:
    """What came of a range of seeds."""

    seeds: int = 0
    orders: int = 0
    orders_min: int | None = None
    lives: int = 0
    events: int = 0
    trace: int = 0
    seconds: float = 0.0
    venue_refusals: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    violations: list[tuple[int, str]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Take in one seed."""
        self.seeds += 1
        self.orders += outcome.orders
        known = self.orders_min
        self.orders_min = outcome.orders if known is None else min(known, outcome.orders)
        self.lives += outcome.lives
        self.events += outcome.events
        digest = hashlib.sha256(f"{outcome.seed}:{outcome.trace}".encode()).digest()
        # A sum, so that it does not matter which core was faster.
        self.trace = (self.trace + int.from_bytes(digest, "big")) % 2**256
        self.venue_refusals += outcome.venue_refusals
        self.faults.update(outcome.faults)
        self.points.update(outcome.points)
        self.statuses.update(outcome.statuses)
        if outcome.violation:
            self.violations.append((outcome.seed, outcome.violation))

    @property
    def missed_points(self) -> list[str]:
        """The crash points that should have been hit and were not."""
        return [str(point) for point in POINTS.expected if not self.points[str(point)]]

    @property
    def surprising_points(self) -> list[str]:
        """The crash points that were said to be out of reach and were hit."""
        expected = {str(point) for point in POINTS.expected}
        return sorted(set(self.points) - expected)

    @property
    def is_good(self) -> bool:
        """Whether the run may end with 0."""
        if self.violations or self.surprising_points:
            return False
        return self.seeds < SEEDS_FOR_ALL_POINTS or not self.missed_points

    def line(self) -> str:
        """The one line a run ends with."""
        hit = sum(1 for point in POINTS.expected if self.points[str(point)])
        return (
            f"seeds={self.seeds} orders={self.orders} faults={sum(self.faults.values())} "
            f"crashes={self.lives - self.seeds} "
            f"crash_points={hit}/{len(POINTS.expected)} violations={len(self.violations)} "
            f"trace={self.trace:064x}"[: -64 + 16]
        )


def run(
    seeds: int,
    *,
    first: int = 0,
    processes: int | None = None,
    tell: Callable[[Total], None] = lambda _: None,
) -> Total:
    """Run `seeds` seeds from `first` on, on so many processes (None: one per core).

    `tell` hears after each seed how it stands.
    """
    total, began_s = Total(), time.monotonic()
    for outcome in _outcomes(first, seeds, processes or os.cpu_count() or 1):
        total.add(outcome)
        total.seconds = time.monotonic() - began_s
        tell(total)
    total.violations.sort()
    return total


def _outcomes(first: int, seeds: int, processes: int) -> Iterator[Outcome]:
    numbers = range(first, first + seeds)
    if processes == 1:
        prepare_worker()
        yield from map(run_seed, numbers)
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, prepare_worker, maxtasksperchild=None) as pool:
        yield from pool.imap_unordered(run_seed, numbers, chunksize=_BATCH)


def prepare_worker() -> None:
    """Make this process fit to run seeds."""
    if multiprocessing.parent_process() is not None:
        # Ctrl-C reaches everybody; whoever has asked for the seeds says how far they got.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare_process()
    # What is loaded by now stays; the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def never_struck(total: Total) -> list[str]:
    """Return the fault classes that have not struck once."""
    return [name for name in ALL if not total.faults[name]]

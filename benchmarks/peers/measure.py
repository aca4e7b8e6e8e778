"""What the scripts beside this one share: the works, the clock, and one line of JSON.

Each script runs under its own backtester's Python, where nothing of bagbot is installed; this file
needs numpy and nothing else. `main` is given a function for each work the backtester can do; it
gets a `Task` and returns what is timed: something to call, once a round.
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy

FAST, SLOW = 10, 50

STOP, TARGET = 0.005, 0.005
"""`bracket`: where its exits are, as a fraction of the close of the bar that decided."""

GRID_STEPS = [0.001 * step for step in range(1, 6)]
GRID_BARS = 20
GRID_STOCK = 2_000
"""`grid`: at bar 1 it buys its stock; at every bar whose number GRID_BARS divides it cancels its
limits and places new ones, so far from the last close on both sides."""

SWEEP_FAST = list(range(5, 55))
SWEEP_SLOW = list(range(60, 260, 2))

Fill = tuple[int, str, float, float]
"""The number of the bar, the side, the amount, the price."""


@dataclass(frozen=True)
class Task:
    """One work on some bars; `amount` is what an order of `sma` trades, elsewhere it is 1."""

    work: str
    mode: str
    open_time_ms: numpy.ndarray
    open: numpy.ndarray
    high: numpy.ndarray
    low: numpy.ndarray
    close: numpy.ndarray
    volume: numpy.ndarray
    fee: float
    cash: float
    seconds: float
    amount: float

    def __len__(self) -> int:
        return len(self.close)


@dataclass(frozen=True)
class Done:
    """What one run came to: round trips, or the fills of `grid` after the first.

    `fills` is a function, so that making the list is not timed; `more` goes into the report.
    """

    equity: float
    trades: int
    fills: Callable[[], Iterable[Fill]] | None = None
    more: dict[str, object] = field(default_factory=dict)


Work = Callable[[Task], Callable[[], Done]]


def main(peer: str, version: str, fills_at: str, works: dict[str, Work]) -> None:
    """Do the work that the command line names, and print a line of JSON; its fills before it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=works)
    parser.add_argument("bars", type=Path, help="an .npz with open_time_ms and the five columns")
    parser.add_argument("--first", type=int, default=None, help="only so many bars")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--fee", type=float, default=0.001)
    parser.add_argument("--cash", type=float, default=1_000_000.0)
    parser.add_argument("--amount", type=float, default=1.0)
    parser.add_argument("--mode", default="")
    parser.add_argument("--seconds", type=float, default=30.0, help="sweep: stop after that")
    parser.add_argument("--fills", action="store_true", help="print every fill as a line of JSON")
    arguments = parser.parse_args()
    columns = {
        name: numpy.ascontiguousarray(column[: arguments.first])
        for name, column in numpy.load(arguments.bars).items()
    }
    task = Task(
        work=arguments.work,
        mode=arguments.mode,
        fee=arguments.fee,
        cash=arguments.cash,
        amount=arguments.amount,
        seconds=arguments.seconds,
        **columns,
    )
    before = peak_memory_mb()
    run = works[arguments.work](task)
    walls, processors = [], []
    for _ in range(arguments.repeat):
        wall, processor = time.perf_counter(), processor_time()
        done = run()
        walls.append(time.perf_counter() - wall)
        processors.append(processor_time() - processor)
    if arguments.fills and done.fills is not None:
        for bar, side, amount, price in done.fills():
            fill = {"bar": int(bar), "time_ms": int(task.open_time_ms[bar]), "side": side}
            print(json.dumps(fill | {"amount": float(amount), "price": float(price)}))
    report = {
        "peer": peer,
        "version": version,
        "fills_at": fills_at,
        "work": task.work,
        "mode": task.mode,
        "bars": len(task),
        "fee": task.fee,
        "cash": task.cash,
        "wall_s": statistics.median(walls),
        "first_s": walls[0],
        "cpu_s": statistics.median(processors),
        "memory_mb": peak_memory_mb(),
        "memory_before_mb": before,
        "trades": int(done.trades),
        "equity": float(done.equity),
    }
    print(json.dumps(report | done.more))


def processor_time() -> float:
    """Return the processor time of this process, all its threads, and children that ended."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def peak_memory_mb() -> float:
    """Return the most memory that this process, or one it waited for, ever held."""
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(ours, children) / 1024


def sweep_columns(task: Task, one_slow: Callable[[int], tuple[int, float]]) -> Callable[[], Done]:
    """Return a run of `one_slow` over the slow windows, each with all fast ones, while time lasts.

    `one_slow` gives the trades and the sum of the equities of its combinations. Where time ran out
    the rate is of those that were done; `combinations` says how many.
    """

    def run() -> Done:
        began = time.perf_counter()
        trades, equities, slows = 0, 0.0, 0
        for slow in SWEEP_SLOW:
            more_trades, more_equities = one_slow(slow)
            trades, equities, slows = trades + more_trades, equities + more_equities, slows + 1
            if time.perf_counter() - began > task.seconds:
                break
        count = slows * len(SWEEP_FAST)
        return Done(equities / count, trades, more={"combinations": count})

    return run

"""`python -m bagbot.tests.chaos --seeds N`: the run behind `make chaos`; `--seed X` replays one."""

import argparse
import sys
from typing import Final

from bagbot.tests.chaos.campaign import SEEDS_FOR_ALL_POINTS, Total, never_struck, run
from bagbot.tests.chaos.crash_points import POINTS, UNREACHABLE
from bagbot.tests.chaos.faults import ALL
from bagbot.tests.chaos.world import prepare_process, run_seed

EVERY_S: Final = 30.0
REPLAY: Final = "python -m bagbot.tests.chaos --seed {}"


def main() -> int:
    """Run what was asked for and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bagbot.tests.chaos")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, help="default: one per core")
    parser.add_argument("--seed", type=int, help="replay one seed and print its trace")
    parser.add_argument("--table", action="store_true", help="print faults and crash points")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _replay(asked.seed)
    progress = Progress(asked.seeds)
    try:
        total = run(asked.seeds, first=asked.first, processes=asked.processes, tell=progress.tell)
    except KeyboardInterrupt:
        _say(f"interrupted after {progress.line}")
        return 130
    if asked.table:
        _print_table(total)
    for seed, violation in total.violations[:20]:
        _say(f"seed {seed}: {violation}")
    if total.surprising_points:
        _say(f"hit, though said to be out of reach: {', '.join(total.surprising_points)}")
    if total.seeds >= SEEDS_FOR_ALL_POINTS and total.missed_points:
        _say(f"never hit: {', '.join(total.missed_points)}")
    if total.violations:
        _say("replay: " + REPLAY.format(total.violations[0][0]))
    _say(total.line())
    return 0 if total.is_good else 1


class Progress:
    """Tells now and then how far a run has got."""

    def __init__(self, seeds: int) -> None:
        self._seeds = seeds
        # Soon, so that one sees that it runs.
        self._next_s = 0.0
        self.line = "no seed"

    def tell(self, total: Total) -> None:
        """Take note of how it stands."""
        rate = total.seeds / total.seconds
        left_s = (self._seeds - total.seeds) / rate
        found = f"{len(total.violations)} violations"
        self.line = f"{total.seeds:,} of {self._seeds:,} seeds, {rate:.1f} a second, {found}"
        if total.seconds >= self._next_s:
            self._next_s = total.seconds + EVERY_S
            sys.stderr.write(f"{self.line}, {left_s / 60:.0f} min left\n")


def _replay(seed: int) -> int:
    prepare_process()
    outcome = run_seed(seed, says=sys.stdout.write)
    _say(f"seed={seed} lives={outcome.lives} trace={outcome.trace} {outcome.violation}")
    return 1 if outcome.violation else 0


def _print_table(total: Total) -> None:
    _say(f"{'fault':32} struck")
    for name in ALL:
        _say(f"{name:32} {total.faults[name]}")
    _say(f"never struck: {', '.join(never_struck(total)) or 'none'}")
    _say(f"\n{'crash point':40} before    after")
    for name in POINTS.names:
        why = f"  ({UNREACHABLE[name]})" if name in UNREACHABLE else ""
        before, after = total.points[f"{name} before"], total.points[f"{name} after"]
        _say(f"{name:40} {before:6} {after:8}{why}")
    _say(f"\norders ended by: {dict(sorted(total.statuses.items()))}")
    _say(f"least orders in a seed: {total.orders_min}")
    _say(f"refused by the exchange's own limits: {total.venue_refusals}")
    rate = total.seeds / total.seconds
    _say(f"{total.seconds:.1f} s, {rate:.1f} seeds/s, {total.events} events\n")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

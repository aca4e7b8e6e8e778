"""`python -m bagbot.tests.chaos.plant`: how many seeds it takes to catch each planted bug."""

import argparse
import multiprocessing
import os
import sys
from typing import Final

from bagbot.tests.chaos.campaign import prepare_worker
from bagbot.tests.chaos.planted_token_bugs import PLANTED
from bagbot.tests.chaos.world import run_seed

SEEDS_MAX: Final = 10_000


def seeds_needed(job: tuple[str, int]) -> tuple[str, int | None, str]:
    """Plant one bug into this process, for good, and return after how many seeds it is caught."""
    name, seeds_max = job
    prepare_worker()
    PLANTED[name]()
    for seed in range(seeds_max):
        outcome = run_seed(seed)
        if outcome.violation:
            return name, seed + 1, outcome.violation
    return name, None, ""


def main() -> int:
    """Plant each bug, or those whose names contain the given words."""
    parser = argparse.ArgumentParser(prog="python -m bagbot.tests.chaos.plant")
    parser.add_argument("words", nargs="*", help="only bugs whose name contains one of these")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="how many each may take")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    names = [n for n in PLANTED if not asked.words or any(w in n for w in asked.words)]
    context = multiprocessing.get_context("spawn")
    jobs = [(name, asked.seeds) for name in names]
    survivors = []
    # One process per bug: what is planted in memory is not dug up again.
    with context.Pool(asked.processes, maxtasksperchild=1) as pool:
        # As they are caught: a bug that hides long must not hide the others.
        for name, seeds, violation in pool.imap_unordered(seeds_needed, jobs, chunksize=1):
            if seeds is None:
                survivors.append(name)
            _say(f"{name:52} {'SURVIVED' if seeds is None else seeds:>8}  {violation[:100]}")
    caught = len(names) - len(survivors)
    _say(f"planted={len(names)} caught={caught} seeds_max={asked.seeds}")
    return 1 if survivors else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

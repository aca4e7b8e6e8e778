"""How fast a backtest is, beside other backtesters in the same run, on the same seeded bars.

Four works, each a process of its own, pinned to one core, in turn: a round is one process of
everybody, and what is shown is the median of the rounds. Peers run under their own Python, in a
folder of environments (README.md says how they are made); one that is not there is said to be
missing. Loading the bars and imports are not timed; the engine, the run and its statistics are.

    sma      an SMA crossover (10/50), long only, one unit, market orders, 0.1 % fee
    bracket  the same entries, each with a stop and a target of 0.5 %, and no other exit
    grid     every 20 bars ten limits are cancelled and placed anew around the last close
    sweep    the crossover for 50 x 100 pairs of windows over 100,000 bars, on all cores
    start    a whole process: `import numba, polars` against a backtest of all bars, with machine
             code from the cache, with an empty cache, and of a strategy that was edited

    python benchmarks/backtest.py --peers FOLDER
    python benchmarks/backtest.py --quick           few bars, one round, to see that it works
    python benchmarks/backtest.py --only sma grid
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy
import polars

HERE = Path(__file__).parent
WORKS = ("sma", "bracket", "grid", "sweep", "start")
SEED = 20_261_123
BARS = 500_000
SWEEP_BARS = 100_000
SWEEP_S = 10.0
TIMEOUT_S = 300.0
OURS = "bagbot"


@dataclass(frozen=True)
class Runner:
    """Somebody who can do some works; `bars` is all it gets through in a bearable time."""

    label: str
    script: str
    works: tuple[str, ...]
    mode: str = ""
    environment: str = ""
    bars: int = BARS
    repeat: int = 1


RUNNERS = (
    Runner("bagbot compiled", OURS, ("sma", "bracket", "grid"), "compiled", repeat=7),
    Runner("bagbot compiled, at the close", OURS, ("sma",), "compiled close", repeat=7),
    Runner("bagbot interpreted", OURS, ("sma", "bracket", "grid"), "interpreted", repeat=3),
    Runner("bagbot all in Python", OURS, ("sma", "bracket", "grid"), "python", bars=50_000),
    Runner("vectorbt (rust)", "vectorbt", ("sma",), "rust", "vectorbt", repeat=5),
    Runner("vectorbt (numba)", "vectorbt", ("sma", "bracket"), "numba", "vectorbt", repeat=5),
    Runner("raptorbt, arrays", "raptorbt", ("sma",), "arrays", "raptorbt", repeat=5),
    Runner("raptorbt", "raptorbt", ("sma", "bracket"), "", "raptorbt", 50_000),
    Runner("NautilusTrader", "nautilus", ("sma", "bracket"), "", "nautilus2"),
    Runner("NautilusTrader", "nautilus", ("grid",), "", "nautilus2", 50_000),
    Runner("backtesting.py", "backtesting", ("sma", "bracket"), "", "backtesting"),
    Runner("backtesting.py", "backtesting", ("grid",), "", "backtesting", 20_000),
    Runner("backtrader", "backtrader", ("sma", "bracket", "grid"), "", "backtrader", 50_000),
)
SWEEPERS = (
    Runner("bagbot", OURS, ("sweep",), "compiled"),
    Runner("raptorbt, 2 threads", "raptorbt", ("sweep",), "", "raptorbt"),
    Runner("vectorbt (numba)", "vectorbt", ("sweep",), "numba", "vectorbt"),
    Runner("vectorbt (rust)", "vectorbt", ("sweep",), "rust", "vectorbt"),
    Runner("backtesting.py, 2 processes", "backtesting", ("sweep",), "", "backtesting"),
)

Report = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", type=Path, help="the folder of the peers' environments")
    parser.add_argument("--quick", action="store_true", help="few bars, to see that it works")
    parser.add_argument("--only", nargs="+", choices=WORKS, default=WORKS)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"machine: {os.cpu_count()} cores; Python {sys.version.split()[0]}; seed {SEED}")
    if arguments.peers is None:
        print("no --peers: bagbot alone")
    rounds = 1 if arguments.quick else arguments.rounds
    bars_max = 5_000 if arguments.quick else BARS
    with tempfile.TemporaryDirectory(prefix="bagbot-bench-") as folder:
        bars = Path(folder) / "bars.npz"
        numpy.savez(bars, **seeded_bars(bars_max))
        for work in arguments.only:
            if work == "start":
                measure_start(bars, Path(folder), 2 * rounds + 1)
            elif work == "sweep":
                measure_sweep(arguments.peers, bars, min(bars_max, SWEEP_BARS), rounds)
            else:
                measure_work(work, arguments.peers, bars, bars_max, rounds)


def seeded_bars(count: int) -> dict[str, numpy.ndarray]:
    """Return one-minute bars around 100 with six decimals, so that two means are never equal.

    Each open differs a little from the close before, so that the equity tells where fills are.
    """
    draw = numpy.random.default_rng(SEED)
    close = 100 * numpy.exp(numpy.cumsum(draw.normal(0, 0.0007, count)))
    opened = numpy.concatenate([[100.0], close[:-1]]) * (1 + draw.normal(0, 0.0001, count))
    high = numpy.maximum(opened, close) * (1 + abs(draw.normal(0, 0.0003, count)))
    low = numpy.minimum(opened, close) * (1 - abs(draw.normal(0, 0.0003, count)))
    columns = {"open": opened, "high": high, "low": low, "close": close}
    columns["volume"] = draw.lognormal(3, 1, count) + 50
    rounded = {name: column.round(6) for name, column in columns.items()}
    return {"open_time_ms": 1_767_225_600_000 + 60_000 * numpy.arange(count), **rounded}


def measure_work(work: str, peers: Path | None, bars: Path, bars_max: int, rounds: int) -> None:
    runners = [runner for runner in RUNNERS if work in runner.works]
    reports: dict[Runner, list[Report]] = {runner: [] for runner in runners}
    for _ in range(rounds):
        for runner in runners:
            options = ["--first", str(min(runner.bars, bars_max)), "--repeat", str(runner.repeat)]
            report = ran(runner, work, peers, bars, options)
            if report is not None:
                reports[runner].append(report)
    print_table(work, {runner: found for runner, found in reports.items() if found})


def ran(
    runner: Runner, work: str, peers: Path | None, bars: Path, options: list[str]
) -> Report | None:
    """Return what one process reports, or None when it is missing, too slow or fails."""
    python = Path(sys.executable)
    if runner.script != OURS:
        if peers is None:
            return None
        python = peers / runner.environment / "bin" / "python"
        if not python.exists():
            print(f"missing: {runner.label} (no {runner.environment} in the folder of peers)")
            return None
    script = HERE / "peers" / f"with_{runner.script}.py"
    command = [str(python), str(script), work, str(bars), "--mode", runner.mode, *options]
    is_pinned = work != "sweep"
    try:
        process = subprocess.run(
            ["taskset", "-c", "1", *command] if is_pinned else command,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"{runner.label}: not done after {TIMEOUT_S:.0f} s")
        return None
    if process.returncode:
        print(f"{runner.label} failed: {process.stderr.strip().splitlines()[-1:]}")
        return None
    report: Report = json.loads(process.stdout.splitlines()[-1])
    return report


def environment() -> dict[str, str]:
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONWARNINGS": "ignore",
        "TQDM_DISABLE": "1",
    }


def print_table(work: str, reports: dict[Runner, list[Report]]) -> None:
    """Print the medians; the ratios are of processor time, which other work disturbs less."""
    print(f"\n## {work}\n")
    print("| | version | fills at | bars | bars/s | bars/CPU s | ours is | MB | trades | equity |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    walls, processors = rates(reports, "wall_s"), rates(reports, "cpu_s")
    ours = next((rate for runner, rate in processors.items() if runner.script == OURS), None)
    for runner, rate in sorted(processors.items(), key=lambda each: -each[1]):
        report = reports[runner][0]
        ratio = f"{ours / rate:,.3g} x" if ours else ""
        memory = max(each["memory_mb"] for each in reports[runner])
        print(
            f"| {runner.label} | {report['version']} | {report['fills_at']} | {report['bars']:,} "
            f"| {walls[runner]:,.0f} | {rate:,.0f} | {ratio} | {memory:,.0f} "
            f"| {report['trades']:,} | {report['equity']:,.4f} |"
        )
    for bars in sorted({found[0]["bars"] for found in reports.values()}):
        trades = {found[0]["trades"] for found in reports.values() if found[0]["bars"] == bars}
        if len(trades) > 1:
            print(f"\nOver {bars:,} bars the trades differ: {sorted(trades)}")


def rates(reports: dict[Runner, list[Report]], span: str) -> dict[Runner, float]:
    """Return how many bars each played in a second of a span, the median of its rounds."""
    return {
        runner: statistics.median(
            report["bars"] * report.get("combinations", 1) / report[span] for report in found
        )
        for runner, found in reports.items()
    }


def measure_sweep(peers: Path | None, bars: Path, count: int, rounds: int) -> None:
    """Measure combinations as they go: a slow sweeper is stopped, so these are rates."""
    options = ["--first", str(count), "--seconds", str(SWEEP_S)]
    reports: dict[Runner, list[Report]] = {runner: [] for runner in SWEEPERS}
    for _ in range(rounds):
        for runner in SWEEPERS:
            report = ran(runner, "sweep", peers, bars, options)
            if report is not None:
                reports[runner].append(report)
    reports = {runner: found for runner, found in reports.items() if found}
    walls, processors = rates(reports, "wall_s"), rates(reports, "cpu_s")
    ours = next((rate for runner, rate in processors.items() if runner.script == OURS), None)
    print("\n## sweep: million combination-bars\n")
    print("| | version | combinations | /s | /CPU s | ours is | MB | trades |")
    print("|---|---|---|---|---|---|---|---|")
    for runner, rate in sorted(processors.items(), key=lambda each: -each[1]):
        report = reports[runner][0]
        ratio = f"{ours / rate:,.3g} x" if ours else ""
        memory = max(each["memory_mb"] for each in reports[runner])
        print(
            f"| {runner.label} | {report['version']} | {report['combinations']:,} "
            f"| {walls[runner] / 1e6:,.2f} | {rate / 1e6:,.2f} | {ratio} | {memory:,.0f} "
            f"| {report['trades']:,} |"
        )


def measure_start(bars: Path, folder: Path, rounds: int) -> None:
    """Time whole processes in turn, with machine code in a cache of their own that is empty first.

    The edited strategy is another one each round, so it is compiled each time; the kernel is not.
    """
    saved = folder / "bars.parquet"
    columns = dict(numpy.load(bars))
    polars.DataFrame({"open_time": columns.pop("open_time_ms"), **columns}).write_parquet(saved)
    market = ["--data", str(saved), "--symbol", "BTC/USDT", "--timeframe", "1m"]
    script = HERE / "peers" / f"with_{OURS}.py"
    work = ["sma", str(bars), "--mode", "compiled"]
    commands = {
        "import numba, polars": ["-c", "import numba, polars"],
        "a backtest": [str(script), *work],
        "bagbot backtest": ["-m", "bagbot", "backtest", "trend", *market, "--cash", "1000000"],
        "an edited strategy": [str(folder / "edited.py"), *work],
    }
    variables = environment() | {"XDG_CACHE_HOME": str(folder / "cache")}
    variables["PYTHONPATH"] += os.pathsep + str(script.parent)
    spans: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(1, rounds + 1):
        text = script.read_text()
        assert "self.buy(1.0)" in text
        (folder / "edited.py").write_text(
            text.replace("self.buy(1.0)", f"self.buy({number + 1}.0)")
        )
        for name, command in commands.items():
            spans[name].append(whole_process(command, variables))
    print("\n## start\n")
    print("| a whole process | first, s | CPU s | later, s | CPU s | more than the import, CPU s |")
    print("|---|---|---|---|---|---|")
    bare = None
    for name, found in spans.items():
        later = found[1:] or found
        wall, processor = (statistics.median(each) for each in zip(*later, strict=True))
        bare = processor if bare is None else bare
        more = processor - bare
        first = " | ".join(f"{span:.2f}" for span in found[0])
        print(f"| {name} | {first} | {wall:.2f} | {processor:.2f} | {more:+.2f} |")


def whole_process(command: list[str], variables: dict[str, str]) -> tuple[float, float]:
    """Return how long a process took, and how much processor time it used, in seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        ["taskset", "-c", "1", sys.executable, *command],
        env=variables,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()

"""Alert in -> order accepted by the exchange: bagbot beside a bare FastAPI + ccxt handler.

Both serve the same alerts in one run, turn by turn, against the same local exchange; both run
uvicorn with uvloop and httptools. bagbot does besides: secret and schema, what makes a repeat a
repeat, the risk gate, and a journal record flushed to the disk before the order leaves. Each has an
account of its own, or bagbot would book the peer's trades and take its processor. The time of
acceptance is the exchange's own; all processes share one monotonic clock.

    python benchmarks/order_path.py            the table below, and where the time goes
    python benchmarks/order_path.py --quick    a short run of the same
"""

import argparse
import asyncio
import contextlib
import functools
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

ACCOUNTS = {
    "engine": ("BENCHKEY" * 4, "BENCHSECRET" * 4),
    "peer": ("PEERKEY" * 4, "PEERSECRET" * 4),
}
WEBHOOK_SECRET = "bench-webhook-secret"
HERE = Path(__file__).parent
PAUSE_S = 0.004


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few alerts, to see that it works")
    parser.add_argument("--engine", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine:
        run_engine_with_stopwatches()
        return
    with tempfile.TemporaryDirectory(prefix="bagbot-bench-") as folder:
        asyncio.run(measure(Path(folder), quick=arguments.quick))


async def measure(folder: Path, *, quick: bool) -> None:
    rounds, each, burst = (3, 40, 160) if quick else (15, 100, 1600)
    exchange, bare, engine = free_port(), free_port(), free_port()
    timelines_file = folder / "timelines.json"
    environment = {
        **os.environ,
        "BINANCE_BASE_URL": f"http://127.0.0.1:{exchange}",
        "BENCH_SECRET": WEBHOOK_SECRET,
        "BENCH_TIMELINES": str(timelines_file),
        "BAGBOT_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "BAGBOT_HOME": str(folder / "home"),
        "BAGBOT_API__PORT": str(engine),
        "BAGBOT_RISK__POSITION_VALUE_MAX": "1000000000",
    }
    python = sys.executable
    accounts_file = folder / "accounts.toml"
    accounts_file.write_text("".join(account(name) for name in ACCOUNTS))
    commands = [
        [python, "-m", "bagbot", "exchange", f"--port={exchange}", f"--accounts={accounts_file}"],
        [python, str(HERE / "bare_handler.py"), str(bare)],
        [python, __file__, "--engine"],
    ]
    owners = ["engine", "peer", "engine"]
    with contextlib.ExitStack() as stack:
        async with aiohttp.ClientSession() as http:
            urls = [f"http://127.0.0.1:{port}" for port in (exchange, bare, engine)]
            probes = ["/api/v3/ping", "/health/ready", "/health/ready"]
            for command, owner, url, probe in zip(commands, owners, urls, probes, strict=True):
                stack.enter_context(process(command, environment | keys_of(owner), folder))
                await until_ready(http, url + probe)
            targets = {"bare FastAPI + ccxt": urls[1], "bagbot": urls[2]}
            print(
                f"machine: {os.cpu_count()} cores, {flush_us(folder):.0f} us p50 to flush 4 KiB; "
                f"{rounds} rounds of {each} alerts, in turn"
            )
            sent = {name: [] for name in targets}
            for url in targets.values():
                await one_by_one(http, url, 20)  # Warm up.
            for number in range(rounds):
                order = list(targets) if number % 2 else list(targets)[::-1]
                for name in order:
                    sent[name].append(await one_by_one(http, targets[name], each))
            rates = {name: [] for name in targets}
            for _ in range(1 if quick else 3):
                for name, url in targets.items():
                    rates[name].append(await at_once(http, url, burst))
            requests = await accepted_requests(http, urls[0])
    report(sent, rates, {i: request["accepted"] for i, request in requests.items()})
    flat = list(itertools.chain.from_iterable(sent["bagbot"]))
    report_timelines(json.loads(timelines_file.read_text()), flat, requests)


def account(name: str) -> str:
    """Return the lines of the exchange's file of accounts for one of them."""
    key, secret = ACCOUNTS[name]
    money = '{ USDT = "1000000", BTC = "10" }'
    lines = (
        "[[account]]",
        f'name = "{name}"',
        f"balances = {money}",
        "[[account.key]]",
        f'api_key = "{key}"',
        f'api_secret = "{secret}"',
    )
    return "\n".join(lines) + "\n"


def keys_of(name: str) -> dict[str, str]:
    key, secret = ACCOUNTS[name]
    return {"BINANCE_API_KEY": key, "BINANCE_API_SECRET": secret}


# ------------------------------------------------------------------ the load


_NUMBERS = itertools.count()


def alert() -> bytes:
    number = next(_NUMBERS)
    return json.dumps(
        {
            "secret": WEBHOOK_SECRET,
            "id": f"bench-{number}",
            "action": "buy" if number % 2 else "sell",
            "ticker": "BTCUSDT",
            "amount": "0.001",
        }
    ).encode()


async def one_by_one(
    http: aiohttp.ClientSession, url: str, count: int
) -> list[tuple[int, int, str]]:
    """Return per alert: when it was sent, when it was answered, its client order id."""
    sent = []
    for _ in range(count):
        sent.append(await send(http, url))
        await asyncio.sleep(PAUSE_S)
    return sent


async def send(http: aiohttp.ClientSession, url: str) -> tuple[int, int, str]:
    body = alert()
    began = time.monotonic_ns()
    async with http.post(
        f"{url}/webhooks/tradingview", data=body, headers={"Content-Type": "application/json"}
    ) as response:
        text = await response.read()
        ended = time.monotonic_ns()
        assert response.status in (200, 202), (response.status, text)
    answer = json.loads(text)
    answer = answer.get("order", answer)
    return began, ended, answer["client_order_id"]


async def at_once(http: aiohttp.ClientSession, url: str, count: int) -> tuple[int, list[str]]:
    """Send `count` alerts over 16 connections; return when it began, and the order ids."""
    began = time.monotonic_ns()
    ids: list[str] = []

    async def worker() -> None:
        for _ in range(count // 16):
            ids.append((await send(http, url))[2])

    async with asyncio.TaskGroup() as tasks:
        for _ in range(16):
            tasks.create_task(worker())
    await asyncio.sleep(1)
    return began, ids


async def accepted_requests(http: aiohttp.ClientSession, url: str) -> dict[str, dict[str, int]]:
    """Return when the exchange received and accepted each order, by its client order id."""
    async with http.get(f"{url}/admin/requests") as response:
        requests = await response.json()
    return {
        request["client_order_id"]: {
            "received": request["received_monotonic_ns"],
            "accepted": request["accepted_monotonic_ns"],
        }
        for request in requests
        if request["accepted_monotonic_ns"] is not None
    }


# ---------------------------------------------------------------- the report


def report(
    sent: dict[str, list[list[tuple[int, int, str]]]],
    rates: dict[str, list[tuple[int, list[str]]]],
    accepted: dict[str, int],
) -> None:
    print(f"\n{'':22} {'to accepted, us':>24} {'to answered, us':>24}   alerts/s")
    print(f"{'':22} {'p50':>12} {'p99':>11} {'p50':>12} {'p99':>11}   (16 at once)")
    medians: dict[str, list[float]] = {}
    speed: dict[str, float] = {}
    for name, rounds in sent.items():
        to_accepted = [[(accepted[i] - began) / 1000 for began, _, i in r] for r in rounds]
        to_answered = [(ended - began) / 1000 for r in rounds for began, ended, _ in r]
        every = [value for values in to_accepted for value in values]
        medians[name] = [statistics.median(values) for values in to_accepted]
        speed[name] = statistics.median(
            len(ids) / (max(accepted[i] for i in ids) - began) * 1e9 for began, ids in rates[name]
        )
        print(
            f"{name:22} {statistics.median(every):12.0f} {percentile(every, 99):11.0f}"
            f" {statistics.median(to_answered):12.0f} {percentile(to_answered, 99):11.0f}"
            f" {speed[name]:10.0f}"
        )
    bare, engine = medians
    ratios = sorted(e / b for b, e in zip(medians[bare], medians[engine], strict=True))
    print(
        f"\np50 to accepted, bagbot / bare, round by round: median {statistics.median(ratios):.2f}"
        f" (min {ratios[0]:.2f}, max {ratios[-1]:.2f}; aim: at most 1.30)"
    )
    print(f"alerts/s, bagbot / bare: {speed[engine] / speed[bare]:.2f}")


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def report_timelines(
    timelines: dict[str, list[int]],
    sent: list[tuple[int, int, str]],
    requests: dict[str, dict[str, int]],
) -> None:
    """Print where the time goes, as medians of the steps between the marks of each alert."""
    steps = [
        "the alert's way in: socket, HTTP, JSON, secret, fields, identity",
        "the decision: plan, risk gate, reservation, client order id, record",
        "the journal: thread, commit, flush, back (meanwhile the order is signed)",
        "the executor: from durable to the connector",
        "the order's way to the exchange: socket, WebSocket",
        "the exchange: signature, filters, matching, its own record",
    ]
    rows = []
    for began, _, client_order_id in sent:
        marks = timelines.get(client_order_id)
        request = requests.get(client_order_id)
        if marks and request:
            points = [began, *marks, request["received"], request["accepted"]]
            rows.append([after - before for before, after in itertools.pairwise(points)])
    print(f"\nwhere bagbot's time goes, alert sent to order accepted (us, p50 of {len(rows)}):")
    for number, name in enumerate(steps):
        print(f"  {statistics.median(row[number] for row in rows) / 1000:6.0f}  {name}")


# ------------------------------------------------------------- the processes


def run_engine_with_stopwatches() -> None:
    """Run `bagbot run` on the given exchange, marking when each order passes each point."""
    from bagbot import cli
    from bagbot.storage.sqlite_journal import SqliteJournal
    from bagbot.trading.order_executor import OrderExecutor

    timelines: dict[str, list[int]] = {}
    current: list[int] = []

    def marking(owner: type, method: str, *, begins: bool) -> None:
        original = getattr(owner, method)

        @functools.wraps(original)
        def marked(*args: Any, **kwargs: Any) -> Any:
            if begins:
                current.clear()
            current.append(time.monotonic_ns())
            return original(*args, **kwargs)

        setattr(owner, method, marked)

    send = OrderExecutor._send

    @functools.wraps(send)
    async def sending(self: Any, request: Any, prepared: Any) -> Any:
        # Marks of alerts that overlap are of no use: three it must be, and this is the third.
        if len(current) == 3:
            timelines[request.client_order_id] = [*current, time.monotonic_ns()]
        return await send(self, request, prepared)

    marking(OrderExecutor, "decide", begins=True)
    marking(SqliteJournal, "append", begins=False)
    marking(OrderExecutor, "_stopped_meanwhile", begins=False)
    OrderExecutor._send = sending  # type: ignore[method-assign]
    try:
        sys.argv = ["bagbot", "run", "--account", "testnet"]
        cli.main()
    except SystemExit:
        pass
    finally:
        Path(os.environ["BENCH_TIMELINES"]).write_text(json.dumps(timelines))


@contextlib.contextmanager
def process(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[None]:
    with (folder / f"{Path(command[1]).stem}-{command[-1].strip('-')[:9]}.log").open("wb") as log:
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            yield
        except BaseException:
            print(f"{' '.join(command)}:\n{Path(log.name).read_text()[-2000:]}", file=sys.stderr)
            raise
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(timeout=20)


async def until_ready(http: aiohttp.ClientSession, url: str) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(url) as response:
                if response.status == 200:
                    return
        await asyncio.sleep(0.1)
    sys.exit(f"{url} did not get ready within 30 s")


def flush_us(folder: Path) -> float:
    """Return what the disk takes to flush one page of a file that has its length already."""
    spans = []
    with (folder / "flushed").open("wb", buffering=0) as file:
        file.write(bytes(200 * 4096))
        os.fsync(file.fileno())
        for number in range(200):
            began = time.perf_counter_ns()
            os.pwrite(file.fileno(), b"x" * 4096, number * 4096)
            os.fdatasync(file.fileno())
            spans.append(time.perf_counter_ns() - began)
            time.sleep(0.002)
    return statistics.median(spans) / 1000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()

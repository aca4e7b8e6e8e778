"""Thousands of orders on a failing exchange: bagbot, killed now and then, beside naive clients.

Real processes, real sockets, a real disk. Every way in which the submission of an order or a read
can fail happens with the same probability to everybody; then the faults stop, and what each
believes is compared with the exchange's own truth.

    python -m bagbot.tests.soak --orders 4000 --seed 1

It ends with a table, and with exit code 1 when bagbot was wrong about a single order.
"""

import argparse
import asyncio
import concurrent.futures
import contextlib
import http.client
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import ccxt.async_support as ccxt

from bagbot.tests.running_bagbot import RunningBagbot, free_port

# The classes of faults that concern the submission of an order, and reads (docs/SIMULATOR.md).
SUBMIT_FAULTS: Final[Sequence[dict[str, Any]]] = (
    {"class": "F1"},
    {"class": "F2"},
    {"class": "F3"},
    {"class": "F4"},
    {"class": "F5", "queries": 1, "delay_s": 1.0},
    {"class": "F6", "variant": "executed"},
    {"class": "F6", "variant": "lost"},
    {"class": "F7", "variant": "502"},
    {"class": "F7", "variant": "504-lost"},
    {"class": "F8", "variant": "unknown"},
    {"class": "F8", "variant": "unknown-lost"},
    {"class": "F8", "variant": "unavailable"},
    {"class": "F9", "variant": "executed"},
    {"class": "F9", "variant": "lost"},
    {"class": "F10", "variant": "lost"},
    {"class": "F10", "variant": "executed"},
    {"class": "F11", "variant": "truncated"},
    {"class": "F11", "variant": "invalid"},
    {"class": "F11", "variant": "unknown-fields"},
    # Accepted late, with nothing said meanwhile.
    {"kind": "delay_before", "on": "orders", "delay_s": 1.0},
)
READ_FAULTS: Final[Sequence[dict[str, Any]]] = (
    {"class": "F13", "for_s": None},
    {"class": "F14"},
    {"class": "F15"},
    {"class": "F16", "variant": "gap"},
    {"class": "F16", "variant": "overlap"},
    {"class": "F17", "variant": "silent", "delay_s": 2.0},
    {"class": "F17", "variant": "refused"},
    {"class": "F18", "variant": "renamed"},
)
UNANSWERED: Final = (OSError, http.client.HTTPException, json.JSONDecodeError)
NAIVE_AT_ONCE: Final = 16
# Proving that an order never arrived takes questions, and the exchange limits those per minute.
SETTLE_S: Final = 900.0


def faults(probability: float) -> list[dict[str, Any]]:
    """Return every fault, each class with this probability, its variants sharing it."""
    every = [*SUBMIT_FAULTS, *READ_FAULTS]
    variants = Counter(fault.get("class") for fault in every)
    return [
        fault | {"count": None, "probability": probability / variants[fault.get("class")]}
        for fault in every
    ]


@dataclass(slots=True)
class Outcome:
    """What one client made of its orders, measured by the exchange's truth."""

    name: str
    orders: int
    doubled: int = 0
    lost: int = 0
    invented: int = 0
    unknown: int = 0
    wrong: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def is_clean(self) -> bool:
        """Whether it was right about every order."""
        return not (self.doubled or self.lost or self.invented or self.unknown or self.wrong)

    def line(self) -> str:
        """Return it as a row of the table."""
        return (
            f"| {self.name} | {self.orders} | {self.doubled} | {self.lost} | {self.invented} | "
            f"{self.unknown} | {self.note} |"
        )


TABLE_HEAD: Final = (
    "| client | orders | doubled | executed, believed not | believed, not executed | unknown | |\n"
    "|---|---|---|---|---|---|---|"
)


# -------------------------------------------------------------------- bagbot


def run_bagbot(
    home: Path, *, seed: int, orders: int, probability: float, kill_every_s: tuple[float, float]
) -> Outcome:
    """Send orders to a bagbot that is killed now and then; return how right it was in the end."""
    stop = threading.Event()
    with RunningBagbot(
        home,
        BAGBOT_EXECUTOR__FENCE_MARGIN_S="3",
        BAGBOT_EXECUTOR__PROBE_INTERVAL_S="0.5",
        BAGBOT_RISK__POSITION_VALUE_MAX="1000000000",
    ) as bagbot:
        caller = _Caller(bagbot, bagbot.token("read", "trade"), seed)
        bagbot.make_fault(faults(probability))
        with concurrent.futures.ThreadPoolExecutor(13) as threads:
            killing = threads.submit(
                _kill_now_and_then,
                bagbot,
                stop,
                seed=seed,
                probability=probability,
                every_s=kill_every_s,
            )
            try:
                taken = list(threads.map(caller.send, range(orders)))
            finally:
                stop.set()
            kills = killing.result()
        _say(f"{orders} orders taken, {kills} kills; the faults stop")
        bagbot.make_fault(None)
        unsettled = _settle(caller)
        ours = caller.everything("/orders")
        fills = caller.everything("/fills")
        truth = bagbot.at_exchange("/admin/orders")
        executions = bagbot.at_exchange("/admin/trades")
    outcome = _judged(ours, taken, truth, unsettled)
    booked = sorted((f["trade_id"], f["side"]) for f in fills)
    if booked != sorted((str(e["trade_id"]), e["side"].lower()) for e in executions):
        outcome.wrong.append("the fills differ from the exchange's trades")
    if "has failed" in "".join(bagbot.lines):
        outcome.wrong.append("a task has failed; see its log")
    statuses = ", ".join(f"{n} {s}" for s, n in sorted(Counter(o["status"] for o in ours).items()))
    outcome.note = f"{kills} kills; {statuses}"
    return outcome


class _Caller:
    """Sends orders, and sends each again with the same key until it knows that it was taken."""

    def __init__(self, bagbot: RunningBagbot, token: str, seed: int) -> None:
        self.bagbot = bagbot
        self.token = token
        self._seed = seed

    def send(self, number: int) -> str:
        """Return bagbot's id of the order; even numbers are market orders, odd ones limits."""
        chance = random.Random(self._seed * 1_000_003 + number)
        time.sleep(chance.uniform(0, 0.2))
        order = {"symbol": "BTC/USDT", "side": ("buy", "sell")[number // 2 % 2], "amount": "0.001"}
        if number % 2:
            order |= {"type": "limit", "price": chance.choice(["89900", "89990", "90010", "90100"])}
        else:
            order["type"] = "market"
        for _ in range(600):
            with contextlib.suppress(*UNANSWERED):
                status, answer = self.bagbot.post(
                    "/orders", order, self.token, Idempotency_Key=f"key-{number}"
                )
                if status in (202, 422):
                    if number % 200 == 199:
                        _say(f"{number + 1} orders")
                    self._cancel_by_chance(str(answer["id"]), chance)
                    return str(answer["id"])
            time.sleep(0.1)
        raise AssertionError(f"order {number} was never taken")

    def _cancel_by_chance(self, order_id: str, chance: random.Random) -> None:
        """Ask once for a cancel, now and then; whatever comes of it, the truth is compared."""
        if chance.random() < 0.5:
            with contextlib.suppress(*UNANSWERED):
                self.bagbot.delete(f"/orders/{order_id}", self.token)

    def everything(self, path: str) -> list[dict[str, Any]]:
        """Return all pages of a list."""
        items: list[dict[str, Any]] = []
        after = ""
        while True:
            _, page = self.bagbot.get(f"{path}?limit=1000{after}", self.token)
            items += page["items"]
            if page["next"] is None:
                return items
            after = f"&after={page['next']}"


def _kill_now_and_then(
    bagbot: RunningBagbot,
    stop: threading.Event,
    *,
    seed: int,
    probability: float,
    every_s: tuple[float, float],
) -> int:
    chance, kills = random.Random(seed), 0
    while not stop.wait(chance.uniform(*every_s)):
        bagbot.kill()
        bagbot.start()
        # Its exchange ended with it, and forgot what was to go wrong.
        bagbot.make_fault(faults(probability))
        kills += 1
        _say(f"kill {kills}")
    return kills


def _settle(caller: _Caller) -> int:
    """Wait until no outcome is open; return how many still are when the patience is over."""
    end = time.monotonic() + SETTLE_S
    while True:
        orders = caller.everything("/orders")
        open_ = sum(order["status"] in ("UNKNOWN", "SUBMITTED", "PENDING") for order in orders)
        if not open_ or time.monotonic() > end:
            return open_
        _say(f"{open_} outcomes are open")
        time.sleep(5)


# What the exchange must say of an order that we believe to be in a status.
_SAME: Final = {
    "OPEN": {"NEW"},
    "PARTIALLY_FILLED": {"PARTIALLY_FILLED"},
    "FILLED": {"FILLED"},
    "CANCELLED": {"CANCELED"},
    "EXPIRED": {"EXPIRED", "EXPIRED_IN_MATCH"},
}


def _judged(
    ours: list[dict[str, Any]],
    taken: list[str],
    truth: list[dict[str, Any]],
    unsettled: int,
) -> Outcome:
    outcome = Outcome("bagbot, killed now and then", len(taken), unknown=unsettled)
    if sorted(order["id"] for order in ours) != sorted(taken) or len(set(taken)) != len(taken):
        outcome.wrong.append("bagbot's list of orders is not what it took")
    placed: dict[str, list[dict[str, Any]]] = {}
    for order in truth:
        placed.setdefault(order["client_order_id"], []).append(order)
    for order in ours:
        there = placed.pop(order["client_order_id"], [])
        status = order["status"]
        if len(there) > 1:
            outcome.doubled += 1
        elif there and status not in _SAME:
            outcome.lost += 1
        elif not there and status in _SAME:
            outcome.invented += 1
        elif there and (
            there[0]["status"] not in _SAME[status]
            or Decimal(there[0]["executed"]) != Decimal(order["filled"])
        ):
            outcome.wrong.append(f"{order['id']} is {status}, there {there[0]['status']}")
    outcome.wrong += [f"nobody here knows {client_order_id}" for client_order_id in placed]
    return outcome


# ------------------------------------------------------------- naive clients


async def run_naive(name: str, *, seed: int, orders: int, probability: float) -> Outcome:
    """Let a naive client send market orders to an exchange of its own with the same faults."""
    with _exchange(seed) as url:
        _post(f"{url}/admin/faults", faults(probability))
        client = ccxt.binance(
            {
                "apiKey": "K",
                "secret": "S",
                "enableRateLimit": False,
                "timeout": 4_000,
                "options": {
                    "fetchMarkets": {"types": ["spot"]},
                    "fetchCurrencies": False,
                    "fetchMargins": False,
                },
            }
        )
        client.urls["api"]["public"] = client.urls["api"]["private"] = f"{url}/api/v3"
        try:
            await client.load_markets()
            believed = await _send_all(client, NAIVE[name], orders)
        finally:
            await client.close()
        await asyncio.sleep(2.5)  # What was accepted late has arrived by then.
        truth = _get(f"{url}/admin/orders")
    return _naive_outcome(name, believed, truth)


async def _send_all(client: ccxt.binance, policy: "Policy", orders: int) -> dict[int, bool]:
    """Return, by order, whether the client believes that it was executed."""
    believed: dict[int, bool] = {}
    numbers = iter(range(orders))

    async def work() -> None:
        for number in numbers:
            believed[number] = await policy(client, number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(NAIVE_AT_ONCE):
            tasks.create_task(work())
    return believed


async def _place(client: ccxt.binance, number: int, attempt: int) -> bool:
    side = ("buy", "sell")[number % 2]
    parameters = {"newClientOrderId": f"n{number}-{attempt}"}
    await client.create_order("BTC/USDT", "market", side, 0.001, None, parameters)
    return True


async def _without_retry(client: ccxt.binance, number: int) -> bool:
    """An exception means that the order failed."""
    with contextlib.suppress(Exception):
        return await _place(client, number, 0)
    return False


async def _with_retry(client: ccxt.binance, number: int) -> bool:
    """An exception means: try again, up to three times."""
    for attempt in range(4):
        with contextlib.suppress(Exception):
            return await _place(client, number, attempt)
    return False


async def _with_retry_same_id(client: ccxt.binance, number: int) -> bool:
    """The same, under the same client order id."""
    for _ in range(4):
        with contextlib.suppress(Exception):
            return await _place(client, number, 0)
    return False


async def _asking_first(client: ccxt.binance, number: int) -> bool:
    """Before each new attempt the exchange is asked for the one before."""
    for attempt in range(4):
        with contextlib.suppress(Exception):
            return await _place(client, number, attempt)
        with contextlib.suppress(Exception):
            parameters = {"origClientOrderId": f"n{number}-{attempt}"}
            await client.fetch_order(None, "BTC/USDT", parameters)
            return True
    return False


Policy = Callable[[ccxt.binance, int], Awaitable[bool]]
NAIVE: Final[dict[str, Policy]] = {
    "no retry": _without_retry,
    "retries, a new id each": _with_retry,
    "retries with the same id": _with_retry_same_id,
    "asks, then retries": _asking_first,
}


def _naive_outcome(name: str, believed: dict[int, bool], truth: list[dict[str, Any]]) -> Outcome:
    executed = Counter(
        int(order["client_order_id"][1:].partition("-")[0])
        for order in truth
        if Decimal(order["executed"])
    )
    return Outcome(
        f"ccxt, {name}",
        len(believed),
        doubled=sum(times > 1 for times in executed.values()),
        lost=sum(number in executed for number, done in believed.items() if not done),
        invented=sum(number not in executed for number, done in believed.items() if done),
    )


@contextlib.contextmanager
def _exchange(seed: int) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "bagbot",
            "exchange",
            f"--port={port}",
            f"--seed={seed}",
            "--api-key=K",
            "--api-secret=S",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for attempt in itertools.count():
            with contextlib.suppress(OSError):
                _get(f"{url}/api/v3/ping")
                break
            assert attempt < 300, "the exchange did not get ready"
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=20)


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as response:
        return json.loads(response.read())


def _post(url: str, body: object) -> None:
    urllib.request.urlopen(url, data=json.dumps(body).encode(), timeout=30).close()


# ---------------------------------------------------------------- the command


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


def main() -> int:
    """Run everything, print the table; 1 when bagbot was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--orders", type=int, default=4000, help="half market, half limit")
    parser.add_argument("--naive-orders", type=int, default=2000, help="market, of each client")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--probability", type=float, default=0.02, help="of each class of faults")
    arguments = parser.parse_args()
    seed, probability = arguments.seed, arguments.probability
    outcomes = []
    for name in NAIVE if arguments.naive_orders else ():
        _say(f"ccxt, {name}")
        orders = arguments.naive_orders
        outcomes.append(
            asyncio.run(run_naive(name, seed=seed, orders=orders, probability=probability))
        )
    with tempfile.TemporaryDirectory(prefix="bagbot-soak-") as folder:
        engine = run_bagbot(
            Path(folder),
            seed=seed,
            orders=arguments.orders,
            probability=probability,
            kill_every_s=(2.0, 5.0),
        )
    lines = [TABLE_HEAD, *(outcome.line() for outcome in [*outcomes, engine])]
    sys.stdout.write("\n".join([*lines, *engine.wrong[:20], ""]))
    if not engine.is_clean:
        sys.stdout.write(f"bagbot was wrong; the same again: {' '.join(sys.argv)}\n")
        return 1
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())

"""The simulated exchange's speed: its core alone, and signed orders over REST and WebSocket.

The core: orders/s in this process, on one core: filters, balances, matching, and the events and
changes of every command. Nothing is printed as JSON, stored or sent there.

The round trip: `bagbot exchange` as users run it, with `--store` and without, beside a bare aiohttp
server that only checks the signature (bare_exchange.py). Each is a process of its own; one client
sends the same market orders to all of them, turn by turn, and signs before the clock starts. Over
REST it does so twice: with HTTP by hand, so that the clock shows the servers and next to nothing
else, and with aiohttp's client, which is what ccxt and most programs use and takes its own time.

    python benchmarks/simulator.py            the tables below
    python benchmarks/simulator.py --quick    a short run of the same
"""

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode

import aiohttp
import msgspec
import uvloop
from order_path import free_port, percentile, process, until_ready
from simulated_orders import accepted_commands, carry_out, exchange

from bagbot.simulator.binance_messages import execution_report
from bagbot.simulator.orders import Changes, OrderEvent, PlaceOrder

FORM = "application/x-www-form-urlencoded"
KEY, SECRET = "BENCHKEY" * 4, "BENCHSECRET" * 4
HERE = Path(__file__).parent
SEED = 7
CONNECTIONS = 16
BARE = "bare aiohttp handler"
SERVERS = (BARE, "bagbot exchange", "bagbot exchange --store")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few orders, to see that it works")
    parser.add_argument("--core", action="store_true", help="the core only")
    arguments = parser.parse_args()
    print(f"machine: {os.cpu_count()} cores; Python {sys.version.split()[0]}; seed {SEED}")
    measure_core(quick=arguments.quick)
    if not arguments.core:
        with tempfile.TemporaryDirectory(prefix="bagbot-bench-") as folder:
            uvloop.run(measure_round_trips(Path(folder), quick=arguments.quick))


# ------------------------------------------------------------------ the core


def measure_core(*, quick: bool) -> None:
    rounds, count = (3, 2_000) if quick else (15, 20_000)
    commands = accepted_commands(count, SEED)
    order_count = sum(type(command) is PlaceOrder for command in commands)
    ways: dict[str, Callable[[Changes], object]] = {
        "the core": lambda _changes: None,
        "the core, each event printed as its executionReport in JSON": print_reports,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, use in ways.items():
            core = exchange()
            began, cpu_began = time.perf_counter(), time.process_time()
            carry_out(core, commands, use)
            seconds[name].append(time.perf_counter() - began)
            cpu_seconds[name].append(time.process_time() - cpu_began)
    print(
        f"\ncore: {order_count} orders and {count - order_count} cancellations,"
        f" {rounds} rounds, in process, one core"
    )
    print(f"{'orders/s: median':>18} {'best':>9} {'worst':>9} {'per CPU s':>11}   commands/s")
    for name, spans in seconds.items():
        median = statistics.median(spans)
        print(
            f"{order_count / median:18.0f} {order_count / min(spans):9.0f}"
            f" {order_count / max(spans):9.0f}"
            f" {order_count / statistics.median(cpu_seconds[name]):11.0f}"
            f" {count / median:12.0f}   {name}"
        )
    print("aim: 30000 orders/s in the core; the time of the cancellations is in it")


def print_reports(changes: Changes) -> None:
    for event in changes.events:
        if isinstance(event, OrderEvent):
            msgspec.json.encode(execution_report(event, event.time_ns))


# ------------------------------------------------------------ the round trips


class Connection(Protocol):
    """One client's connection; `ask` sends a signed order and returns when it is answered."""

    async def ask(self, order: bytes) -> None: ...


class BareRestConnection:
    """HTTP by hand: one request, one answer with a Content-Length."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, order: bytes) -> None:
        self._writer.write(
            b"POST /api/v3/order HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"X-MBX-APIKEY: %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (KEY.encode(), FORM.encode(), len(order), order)
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        assert head.startswith(b"HTTP/1.1 200"), head + body


class RestConnection:
    """HTTP by aiohttp's client."""

    def __init__(self, http: aiohttp.ClientSession, port: int) -> None:
        self._http = http
        self._url = f"http://127.0.0.1:{port}/api/v3/order"

    async def ask(self, order: bytes) -> None:
        headers = {"X-MBX-APIKEY": KEY, "Content-Type": FORM}
        async with self._http.post(self._url, data=order, headers=headers) as response:
            body = await response.read()
            assert response.status == 200, body


class SocketConnection:
    """A WebSocket by aiohttp's client."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def ask(self, order: bytes) -> None:
        await self._socket.send_frame(order, aiohttp.WSMsgType.TEXT)
        answer = await self._socket.receive()
        assert '"status":200' in answer.data, answer


async def open_bare(_http: aiohttp.ClientSession, port: int) -> Connection:
    return BareRestConnection(*await asyncio.open_connection("127.0.0.1", port))


async def open_rest(http: aiohttp.ClientSession, port: int) -> Connection:
    return RestConnection(http, port)


async def open_socket(http: aiohttp.ClientSession, port: int) -> Connection:
    return SocketConnection(await http.ws_connect(f"ws://127.0.0.1:{port}/ws-api/v3"))


Opening = Callable[[aiohttp.ClientSession, int], Awaitable[Connection]]
_NUMBERS = itertools.count()


def parameters() -> dict[str, object]:
    number = next(_NUMBERS)
    return {
        "symbol": "BTCUSDT",
        "side": "SELL" if number % 2 else "BUY",
        "type": "MARKET",
        "quantity": "0.001",
        "newClientOrderId": f"bench-{number}",
        "recvWindow": 60_000,
        "timestamp": time.time_ns() // 1_000_000,
    }


def rest_order() -> bytes:
    payload = urlencode(parameters())
    return f"{payload}&signature={signature(payload)}".encode()


def socket_order() -> bytes:
    params = {"apiKey": KEY, **parameters()}
    params["signature"] = signature(urlencode(sorted(params.items())))
    return msgspec.json.encode({"id": "1", "method": "order.place", "params": params})


def signature(payload: str) -> str:
    return hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()


async def measure_round_trips(folder: Path, *, quick: bool) -> None:
    rounds, each, burst = (3, 40, 160) if quick else (9, 300, 800)
    ports = {name: free_port() for name in SERVERS}
    environment = {**os.environ, "BENCH_SECRET": SECRET}
    async with contextlib.AsyncExitStack() as stack:
        for name, port in ports.items():
            stack.enter_context(process(command_of(name, port), environment, folder))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        for port in ports.values():
            await until_ready(http, f"http://127.0.0.1:{port}/api/v3/ping")
        ways: dict[str, tuple[Callable[[], bytes], Opening]] = {
            "REST, HTTP by hand": (rest_order, open_bare),
            "REST, aiohttp's client": (rest_order, open_rest),
            "WebSocket API, aiohttp's client": (socket_order, open_socket),
        }
        for title, (new_order, opening) in ways.items():
            connections = {
                name: [await opening(http, port) for _ in range(CONNECTIONS)]
                for name, port in ports.items()
            }
            spans: dict[str, list[list[float]]] = {name: [] for name in SERVERS}
            rates: dict[str, list[float]] = {name: [] for name in SERVERS}
            for name in SERVERS:
                await one_by_one(connections[name][0], new_order, each)  # Warm up.
            for number in range(rounds):
                for name in SERVERS[:: 1 if number % 2 else -1]:
                    spans[name].append(await one_by_one(connections[name][0], new_order, each))
                    rates[name].append(await at_once(connections[name], new_order, burst))
            report(title, spans, rates, f"{rounds} rounds of {each}, and of {burst} at once")


def command_of(name: str, port: int) -> list[str]:
    if name == BARE:
        return [sys.executable, str(HERE / "bare_exchange.py"), str(port)]
    keys = [f"--api-key={KEY}", f"--api-secret={SECRET}"]
    store = ["--store=store"] if name.endswith("--store") else []
    return [sys.executable, "-m", "bagbot", "exchange", f"--port={port}", *keys, *store]


async def one_by_one(
    connection: Connection, new_order: Callable[[], bytes], count: int
) -> list[float]:
    """Return the round trip of each order in microseconds."""
    spans = []
    for _ in range(count):
        order = new_order()
        began = time.perf_counter_ns()
        await connection.ask(order)
        spans.append((time.perf_counter_ns() - began) / 1_000)
    return spans


async def at_once(
    connections: list[Connection], new_order: Callable[[], bytes], count: int
) -> float:
    """Return orders/s over all connections, each with one order under way at a time."""
    share = count // len(connections)
    orders = [[new_order() for _ in range(share)] for _ in connections]

    async def send(connection: Connection, batch: list[bytes]) -> None:
        for order in batch:
            await connection.ask(order)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for connection, batch in zip(connections, orders, strict=True):
            tasks.create_task(send(connection, batch))
    return share * len(connections) / (time.perf_counter() - began)


def report(
    title: str, spans: dict[str, list[list[float]]], rates: dict[str, list[float]], what: str
) -> None:
    print(f"\n{title}: signed market orders, {what} (x bare: median of the rounds)")
    print(f"{'':24} {'round trip, us':>17} {'':>7} {'orders/s':>11} {'orders/s':>16} {'x bare':>8}")
    print(f"{'':24} {'p50':>8} {'p99':>8} {'x bare':>7} {'1 at a time':>11} {'16 at once':>16}")
    bare_medians = [statistics.median(values) for values in spans[BARE]]
    for name in SERVERS:
        every = list(itertools.chain.from_iterable(spans[name]))
        medians = [statistics.median(values) for values in spans[name]]
        ratio = statistics.median(m / b for m, b in zip(medians, bare_medians, strict=True))
        share = statistics.median(r / b for r, b in zip(rates[name], rates[BARE], strict=True))
        print(
            f"{name:24} {statistics.median(every):8.0f} {percentile(every, 99):8.0f} {ratio:7.2f}"
            f" {1e6 / statistics.mean(every):11.0f} {statistics.median(rates[name]):16.0f}"
            f" {share:8.2f}"
        )
    print("aim: a round trip of at most 2 times the bare handler's, without --store")


if __name__ == "__main__":
    main()

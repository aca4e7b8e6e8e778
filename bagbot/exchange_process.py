"""The exchange as a process of its own, from both sides: the engine's, and its own.

Neither side loads what only the other needs: that is half a second of each start.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from bagbot.config import Settings
from bagbot.domain.errors import ConfigError

if TYPE_CHECKING:
    from bagbot.simulator.server import SimulatorSettings

logger = structlog.get_logger(__name__)

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 5.0
READY_WORD: Final = "exchange ready:"


async def start_exchange(
    settings: Settings, folder: Path, key: str, secret: str
) -> tuple[asyncio.subprocess.Process, str]:
    """Start the embedded exchange in its own process, on the port it had before if it is free."""
    port_file = folder / "port"
    port = _remembered_port(port_file)
    options = [
        f"--port={port}",
        f"--store={folder}",
        f"--speed={settings.exchange.speed}",
        f"--seed={settings.exchange.seed}",
        "--until-stdin-ends",
    ]
    if settings.exchange.data is not None:
        options.append(f"--data={settings.exchange.data}")
    # The keys go by the environment: arguments can be read by everyone on the machine.
    environment = {
        **os.environ,
        "BAGBOT_EXCHANGE_API_KEY": key,
        "BAGBOT_EXCHANGE_API_SECRET": secret,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bagbot",
        "exchange",
        *options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        # Ctrl-C in the terminal is for the engine; it ends its exchange after its own work.
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            url = await _ready_url(process)
    except BaseException as error:
        # Also when we are stopped meanwhile: nothing of it may be left behind.
        await stop_exchange(process)
        if not isinstance(error, TimeoutError):
            raise
        raise ConfigError(
            f"the embedded exchange was not ready within {START_TIMEOUT_S:.0f} s"
        ) from error
    _remember_port(port_file, url)
    return process, url


async def _ready_url(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async for line in process.stdout:
        text = line.decode().strip()
        if text.startswith(READY_WORD):
            return text.removeprefix(READY_WORD).strip()
    code = await process.wait()
    raise ConfigError(f"the embedded exchange ended with code {code}; its message is above")


async def stop_exchange(process: asyncio.subprocess.Process) -> None:
    """Let it end by itself, or end it when it does not within `STOP_TIMEOUT_S`."""
    if process.returncode is not None:
        return
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        logger.warning("the embedded exchange did not end by itself", pid=process.pid)
        process.kill()
        await process.wait()


def _remembered_port(file: Path) -> int:
    """Return the port used before when it is free, else 0: any free one."""
    try:
        port = int(file.read_text())
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except (OSError, ValueError, OverflowError):
        return 0
    return port


def _remember_port(file: Path, url: str) -> None:
    file.write_text(url.rpartition(":")[2])


async def run_exchange(
    settings: "SimulatorSettings", *, say: Callable[[str], None], until_stdin_ends: bool
) -> None:
    """Run the exchange alone until SIGINT, SIGTERM or, if asked, the end of standard input.

    Raises ConfigError when its port or its store cannot be had, DataError for a bad data file.
    """
    from bagbot.simulator.server import SimulatorServer

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if until_stdin_ends:
        # A parent that is killed cannot say goodbye, but its end of the pipe closes all the same.
        await loop.connect_read_pipe(lambda: _EndOfInput(stop), sys.stdin)
    try:
        async with SimulatorServer(settings) as server:
            say(f"{READY_WORD} {server.url}")
            say(f"REST {server.url}/api/v3, streams {server.websocket_url}/ws and /stream,")
            say(f"WebSocket API {server.websocket_url}/ws-api/v3, admin {server.url}/admin")
            async with asyncio.TaskGroup() as tasks:
                ends = [tasks.create_task(stop.wait()), tasks.create_task(server.wait_stopped())]
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for end in ends:
                    end.cancel()
    except OSError as error:
        raise ConfigError(
            f"the exchange cannot listen on 127.0.0.1:{settings.port}, or keep its data in "
            f"{settings.store}: {error.strerror or error}"
        ) from error


class _EndOfInput(asyncio.Protocol):
    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop.set()

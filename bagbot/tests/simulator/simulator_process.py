"""The simulator as a process of its own, which ends as kill -9 ends it."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bagbot.tests.simulator.signing_client import KEY, SECRET

_START_S = 20.0
_DRIVER = """
import asyncio, json, sys
from pathlib import Path
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.simulator.rate_limits import LimitSettings
from bagbot.simulator.simulator_settings import SocketSettings

async def main():
    fields = json.loads(sys.argv[1])
    if "store" in fields:
        fields["store"] = Path(fields["store"])
    limits = LimitSettings(**fields.pop("limits", {}))
    sockets = SocketSettings(**fields.pop("sockets", {}))
    async with SimulatorServer(SimulatorSettings(limits=limits, sockets=sockets, **fields)) as one:
        print("url", one.url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass(frozen=True)
class RunningSimulator:
    process: subprocess.Popen
    url: str

    @property
    def port(self):
        return int(self.url.rpartition(":")[2])

    @property
    def resident_bytes(self):
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def simulator_process(**settings):
    """Run a simulator with these settings; it has started when this returns."""
    fields = {"api_key": KEY, "api_secret": SECRET} | settings
    process = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, json.dumps(fields)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONASYNCIODEBUG": ""},
    )
    simulator = None
    try:
        readable, _, _ = select.select([process.stdout], [], [], _START_S)
        while readable and (line := process.stdout.readline()):
            if line.startswith(b"url "):
                simulator = RunningSimulator(process, line.split()[1].decode())
                break
        assert simulator is not None, "the simulator did not start"
        yield simulator
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()

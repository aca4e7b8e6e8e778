"""`bagbot run` in a process of its own, on a free port, as a stranger would start it."""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_TIMEOUT_S = 60.0


class RunningBagbot:
    """A context manager; what it prints is in `lines`. `command` is what bagbot is to do."""

    def __init__(self, home: Path, *command: str, **settings: str) -> None:
        self.home = home
        self._command = command or ("run",)
        self.port = free_port()
        self.api_url = f"http://127.0.0.1:{self.port}"
        self.lines: list[str] = []
        self.program = "bagbot"
        self._settings = settings
        self._queue: queue.Queue[str | None] = queue.Queue()
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> float:
        """Start it and return how many seconds it took to be ready."""
        began = time.monotonic()
        environment = {
            **os.environ,
            "BAGBOT_HOME": str(self.home),
            "BAGBOT_API__PORT": str(self.port),
            **self._settings,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.program, *self._command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=self.home,
        )
        threading.Thread(target=self._read, args=[self.process], daemon=True).start()
        while not self._is_ready():
            assert self.process.poll() is None, "".join(self.lines)
            assert time.monotonic() - began < START_TIMEOUT_S, "".join(self.lines)
            time.sleep(0.02)
        return time.monotonic() - began

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            self.lines.extend(process.stdout)

    def kill(self) -> None:
        """End it as a crash would: SIGKILL, nothing is said goodbye to."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """End it in order and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            return self.get("/health/ready")[0] == 200
        return False

    @property
    def webhook_secret(self) -> str:
        return (self.home / "webhook_secret").read_text().strip()

    @property
    def exchange_url(self) -> str:
        return f"http://127.0.0.1:{(self.home / 'paper/exchange/port').read_text().strip()}"

    @property
    def exchange_key(self) -> str:
        return (self.home / "paper_exchange_key").read_text().strip()

    @property
    def exchange_secret(self) -> str:
        return (self.home / "paper_exchange_secret").read_text().strip()

    def token(self, *scopes: str) -> str:
        command = [sys.executable, "-m", "bagbot", "token", "create"]
        for scope in scopes:
            command += ["--scope", scope]
        made = subprocess.run(
            command,
            env={**os.environ, "BAGBOT_HOME": str(self.home)},
            capture_output=True,
            text=True,
            check=True,
        )
        return made.stdout.splitlines()[-1]

    def get(self, path: str, token: str | None = None) -> tuple[int, Any]:
        return self._ask("GET", self.api_url + path, None, token, {})

    def post(
        self, path: str, body: object, token: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        return self._ask("POST", self.api_url + path, body, token, headers)

    def delete(self, path: str, token: str | None = None) -> tuple[int, Any]:
        return self._ask("DELETE", self.api_url + path, None, token, {})

    def at_exchange(self, path: str) -> Any:
        status, answer = self._ask("GET", self.exchange_url + path, None, None, {})
        assert status == 200, answer
        return answer

    def make_fault(self, fault: object) -> None:
        """Tell the exchange to fail in this way once; None takes back all that is to come."""
        method = "DELETE" if fault is None else "POST"
        self._ask(method, f"{self.exchange_url}/admin/faults", fault, None, {})

    def _ask(
        self, method: str, url: str, body: object, token: str | None, headers: dict[str, str]
    ) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.loads(response.read() or "null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or "null")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

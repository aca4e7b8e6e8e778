"""A real browser for tests of pages: Debian's Chromium, spoken to over its own debugging protocol.

No driver is installed for it: the protocol is JSON over a WebSocket.
"""

import asyncio
import base64
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


class Tab:
    """One page in the browser. What it asked the network for and complained of is kept."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._count = 0
        self._loaded = asyncio.Event()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requests: list[str] = []
        self.complaints: list[str] = []

    async def listen(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif said["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif said["method"] == "Network.requestWillBeSent":
                self.requests.append(said["params"]["request"]["url"])
            elif said["method"] == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(said["params"]["exceptionDetails"]))
            elif said["method"] == "Log.entryAdded":
                self.complaints.append(said["params"]["entry"]["text"])

    async def do(self, method: str, **params: object) -> dict[str, Any]:
        self._count += 1
        answer = asyncio.get_running_loop().create_future()
        self._answers[self._count] = answer
        await self._socket.send_str(
            json.dumps({"id": self._count, "method": method, "params": params})
        )
        said = await asyncio.wait_for(answer, 30)
        assert "error" not in said, (method, said)
        return said["result"]

    async def evaluate(self, code: str) -> Any:
        """Return what an expression gives in the page; a promise is awaited."""
        said = await self.do(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in said, (code, said)
        return said["result"].get("value")

    async def open(self, page: Path, *, width: int = 1280, height: int = 900) -> None:
        """Show a file, and wait until it says that it is ready."""
        await self.do(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self._loaded.clear()
        await self.do("Page.navigate", url=page.as_uri())
        await asyncio.wait_for(self._loaded.wait(), 30)
        assert await self.evaluate("document.documentElement.dataset.ready") == "yes", (
            self.complaints
        )

    async def picture(self, path: Path) -> None:
        """Write what can be seen as a PNG."""
        said = await self.do("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(said["data"]))


@asynccontextmanager
async def new_tab() -> AsyncIterator[Tab]:
    """Start a browser with one empty page, and end it."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("there is no Chromium here; apt-get install chromium brings one")
    # It still writes into its folder while it ends.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = await asyncio.create_subprocess_exec(
            program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--remote-debugging-port=0",
            f"--user-data-dir={folder}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            port = await _port_of(Path(folder))
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                    (target,) = [t for t in await answer.json() if t["type"] == "page"]
                url = target["webSocketDebuggerUrl"]
                async with session.ws_connect(url, max_msg_size=0) as socket:
                    tab = Tab(socket)
                    listener = asyncio.create_task(tab.listen())
                    for domain in ("Page", "Runtime", "Network", "Log"):
                        await tab.do(f"{domain}.enable")
                    yield tab
                    listener.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await listener
        finally:
            browser.kill()
            await browser.wait()


async def _port_of(folder: Path) -> int:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
                return int((folder / "DevToolsActivePort").read_text().splitlines()[0])
            await asyncio.sleep(0.02)

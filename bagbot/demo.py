"""The whole story, played by itself: `bagbot demo`.

It runs the real `bagbot run` in a process of its own, with a temporary home and free ports, talks
to it as a stranger would, and stops at the first thing that is not as it should be.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import aiohttp

from bagbot.api.tokens import TokenStore
from bagbot.domain.errors import BagbotError
from bagbot.system_clock import SystemClock

START_TIMEOUT_S: Final = 60.0
STEP_TIMEOUT_S: Final = 20.0

Say = Callable[[str], None]
Json = dict[str, Any]


class DemoFailedError(BagbotError):
    """The story did not go as it must; the message says where."""


async def play(say: Say) -> None:
    """Play the story and say each step.

    Raises DemoFailedError when anything is not as promised.
    """
    with tempfile.TemporaryDirectory(prefix="bagbot-demo-") as folder:
        home = Path(folder)
        token = TokenStore(home / "tokens.jsonl", SystemClock()).create(["read", "trade"])
        timeout = aiohttp.ClientTimeout(total=STEP_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as http:
            story = _Story(say, home, http)
            try:
                await story.play()
            except (aiohttp.ClientError, TimeoutError) as error:
                raise DemoFailedError(f"bagbot did not answer: {error!r}") from error
            finally:
                await story.end()


class _Story:
    def __init__(self, say: Say, home: Path, http: aiohttp.ClientSession) -> None:
        self._say = say
        self._home = home
        self._http = http
        self._port = _free_port()
        self._process: asyncio.subprocess.Process | None = None
        self._secret = ""
        self._exchange = ""
        self._step = 0

    async def play(self) -> None:
        await self._start()
        self._tell(f"bagbot runs: its own exchange at {self._exchange}, its API at {self._api}")
        await self._alert_is_filled_once()
        await self._order_is_refused()
        order_id = await self._crash_between_send_and_answer()
        await self._recovered(order_id)
        await self._same_as_the_exchange()
        self._say("Everything was as promised.")

    async def end(self) -> None:
        """Stop bagbot in order, and for good."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STEP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    # ------------------------------------------------------------- the steps

    async def _alert_is_filled_once(self) -> None:
        alert = {"id": "demo-1", "action": "buy", "ticker": "BTCUSDT", "amount": "0.010"}
        answer = await self._alert(alert)
        order = await self._settled(answer["order_id"])
        _expect(order["status"] == "FILLED", f"the order ended as {order['status']}")
        self._tell(
            f"alert in -> risk gate -> journal -> order {order['id']} -> FILLED "
            f"{order['filled']} BTC at {order['average']}"
        )
        position = await self._position()
        self._tell(f"position: {position['quantity']} BTC (bought less the fee in BTC)")
        again = await self._alert(alert)
        _expect(again["status"] == "repeat", f"the repeat was answered {again['status']}")
        _expect(again["order_id"] == order["id"], "the repeat names another order")
        placed = await self._orders_at_exchange()
        _expect(len(placed) == 1, f"the exchange has {len(placed)} orders instead of 1")
        self._tell(f"the same alert again -> ignored, names the first: {again['order_id']}")

    async def _order_is_refused(self) -> None:
        order = {"symbol": "BTC/USDT", "side": "buy", "type": "market", "amount": "5"}
        status, problem = await self._post("/orders", order, {"Idempotency-Key": "demo-refused"})
        _expect(status == 422, f"an order beyond the limit was answered {status}")
        self._tell(
            f"an order of 5 BTC -> refused: {problem['rule']} is {problem['value']}, "
            f"the limit {problem['limit']}"
        )

    async def _crash_between_send_and_answer(self) -> str:
        fault = {
            "method": "WS",
            "path": "order.place",
            "kind": "delay_answer",
            "count": 1,
            "delay_s": 30,
        }
        async with self._http.post(f"{self._exchange}/admin/faults", json=fault) as response:
            _expect(response.status < 300, f"the fault was answered {response.status}")
        order = {"symbol": "BTC/USDT", "side": "buy", "type": "market", "amount": "0.020"}
        status, accepted = await self._post("/orders", order, {"Idempotency-Key": "demo-crash"})
        _expect(status == 202, f"the order was answered {status}")
        await self._until(self._second_is_at_exchange, "the exchange to have the second order")
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        self._tell(
            f"order {accepted['id']} was sent, the exchange took it, and before its answer came "
            f"bagbot was killed (SIGKILL)"
        )
        return str(accepted["id"])

    async def _recovered(self, order_id: str) -> None:
        await self._start()
        order = await self._settled(order_id)
        _expect(order["status"] == "FILLED", f"after recovery it is {order['status']}")
        order_body = {"symbol": "BTC/USDT", "side": "buy", "type": "market", "amount": "0.020"}
        _, again = await self._post("/orders", order_body, {"Idempotency-Key": "demo-crash"})
        _expect(again["id"] == order_id, "the same request made another order after the crash")
        self._tell(
            f"started again: the journal was replayed, the exchange asked, the order is FILLED "
            f"{order['filled']} BTC; nothing was sent twice"
        )

    async def _same_as_the_exchange(self) -> None:
        placed = await self._orders_at_exchange()
        _expect(len(placed) == 2, f"the exchange has {len(placed)} orders instead of 2")
        _, listed = await self._get("/fills")
        ours = sorted((f["trade_id"], f["quantity"], f["price"]) for f in listed["items"])
        async with self._http.get(f"{self._exchange}/admin/trades") as response:
            told = await response.json()
        theirs = sorted((str(t["trade_id"]), t["quantity"], t["price"]) for t in told)
        same = [(i, Decimal(q), Decimal(p)) for i, q, p in ours] == [
            (i, Decimal(q), Decimal(p)) for i, q, p in theirs
        ]
        _expect(same, f"our fills {ours} are not the exchange's {theirs}")
        position = await self._position()
        self._tell(
            f"two orders at the exchange, {len(ours)} fills, the same on both sides; "
            f"position {position['quantity']} BTC"
        )

    # ------------------------------------------------------------- the means

    @property
    def _api(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def _start(self) -> None:
        environment = {
            **os.environ,
            "BAGBOT_HOME": str(self._home),
            "BAGBOT_API__HOST": "127.0.0.1",
            "BAGBOT_API__PORT": str(self._port),
        }
        # Settings of the person who runs the demo must not bend the story.
        for name in ("BINANCE_BASE_URL", "BAGBOT_EXCHANGE__DATA", "BAGBOT_WEBHOOK_SECRET"):
            environment.pop(name, None)
        with (self._home / "bagbot.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "bagbot",
                "run",
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self._home,
            )
        await self._until(self._is_ready, "bagbot to be ready", START_TIMEOUT_S)
        self._secret = (self._home / "webhook_secret").read_text().strip()
        port = (self._home / "paper" / "exchange" / "port").read_text().strip()
        self._exchange = f"http://127.0.0.1:{port}"

    async def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.returncode is not None:
            log = (self._home / "bagbot.log").read_text(errors="replace")
            raise DemoFailedError(f"bagbot ended with {self._process.returncode}:\n{log}")
        with suppress(aiohttp.ClientConnectionError):
            async with self._http.get(f"{self._api}/health/ready") as response:
                return response.status == 200
        return False

    async def _second_is_at_exchange(self) -> bool:
        return len(await self._orders_at_exchange()) == 2

    async def _until(
        self, is_so: Callable[[], Any], what: str, timeout_s: float = STEP_TIMEOUT_S
    ) -> None:
        end = time.monotonic() + timeout_s
        while not await is_so():
            _expect(time.monotonic() < end, f"waited {timeout_s:.0f} s in vain for {what}")
            await asyncio.sleep(0.05)

    async def _settled(self, order_id: str) -> Json:
        found: Json = {}

        async def is_final() -> bool:
            nonlocal found
            status, found = await self._get(f"/orders/{order_id}")
            _expect(status == 200, f"GET /orders/{order_id} was answered {status}")
            return found["status"] in ("FILLED", "REJECTED", "EXPIRED", "CANCELLED", "REFUSED")

        await self._until(is_final, f"order {order_id} to be settled")
        return found

    async def _alert(self, alert: Mapping[str, str]) -> Json:
        body = {**alert, "secret": self._secret}
        status, answer = await self._post("/webhooks/tradingview", body, {})
        _expect(status < 300, f"the alert was answered {status}: {answer}")
        return answer

    async def _position(self) -> Json:
        _, listed = await self._get("/positions")
        (position,) = listed["items"]
        return dict(position)

    async def _orders_at_exchange(self) -> list[Json]:
        async with self._http.get(f"{self._exchange}/admin/orders") as response:
            return list(await response.json())

    async def _get(self, path: str) -> tuple[int, Json]:
        async with self._http.get(self._api + path) as response:
            return response.status, await response.json(content_type=None)

    async def _post(
        self, path: str, body: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[int, Json]:
        async with self._http.post(
            self._api + path, data=json.dumps(body), headers=headers
        ) as response:
            return response.status, await response.json(content_type=None)

    def _tell(self, line: str) -> None:
        self._step += 1
        self._say(f"{self._step}. {line}")


def _expect(is_so: bool, otherwise: str) -> None:  # noqa: FBT001 - it is the claim itself.
    if not is_so:
        raise DemoFailedError(f"the demo failed: {otherwise}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

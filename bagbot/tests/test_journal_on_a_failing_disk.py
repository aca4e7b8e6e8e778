"""The disk is full, or breaks, under a running engine: it stops at once and nothing is lost."""

import concurrent.futures
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bagbot.tests.failing_disk import DONE_FILE, FAULT_FILE
from bagbot.tests.running_bagbot import RunningBagbot

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="it is Linux's seccomp that makes the disk fail"
)
ORDER = {"symbol": "BTC/USDT", "side": "buy", "amount": "0.001", "type": "market"}


def send(bagbot: RunningBagbot, token: str, key: str) -> tuple[int, Any]:
    return bagbot.post("/orders", ORDER, token, Idempotency_Key=key)


def break_disk(bagbot: RunningBagbot, fault: str) -> None:
    unfinished = bagbot.home / "unfinished"
    unfinished.write_text(fault)
    unfinished.rename(bagbot.home / FAULT_FILE)
    end = time.monotonic() + 10
    while not (bagbot.home / DONE_FILE).exists():
        assert time.monotonic() < end, "".join(bagbot.lines)
        time.sleep(0.01)


def repair_disk(bagbot: RunningBagbot) -> None:
    (bagbot.home / FAULT_FILE).unlink()
    (bagbot.home / DONE_FILE).unlink()


def orders_at_exchange(bagbot: RunningBagbot) -> Counter[str]:
    return Counter(order["client_order_id"] for order in bagbot.at_exchange("/admin/orders"))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("pwrite64 ENOSPC", "database or disk is full"),
        ("fdatasync EIO", "disk I/O error"),
    ],
)
def test_a_disk_that_fails_stops_the_engine_and_loses_nothing(
    tmp_path: Path, fault: str, message: str
) -> None:
    bagbot = RunningBagbot(
        tmp_path,
        BAGBOT_EXECUTOR__FENCE_MARGIN_S="1",
        BAGBOT_EXECUTOR__PROBE_INTERVAL_S="0.1",
    )
    bagbot.program = "bagbot.tests.failing_disk"
    with bagbot:
        token = bagbot.token("read", "trade")
        good = [send(bagbot, token, f"good-{number}") for number in range(3)]
        assert {status for status, _ in good} == {202}
        before = orders_at_exchange(bagbot)
        assert len(before) == 3

        break_disk(bagbot, fault)
        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            bad = list(threads.map(lambda n: send(bagbot, token, f"bad-{n}"), range(12)))
        assert {status for status, _ in bad} == {503}, bad
        for _, answer in bad:
            assert answer["title"] in ("Journal failed", "Not ready"), answer
        # Nothing may leave whose record is not on the disk.
        time.sleep(0.3)
        assert orders_at_exchange(bagbot) == before
        status, health = bagbot.get("/health/ready")
        assert status == 503
        # Which of the orders in flight told of it first is chance.
        assert "halted" in str(health)
        assert message in str(health)
        assert any("halted" in line and message in line for line in bagbot.lines)

        repair_disk(bagbot)
        bagbot.stop()
        bagbot.start()
        # What was refused can be sent again: one order each, whatever the disk kept of the first.
        for number in range(12):
            assert send(bagbot, token, f"bad-{number}")[0] in (200, 202)
        end = time.monotonic() + 20
        while True:
            _, page = bagbot.get("/orders?limit=1000", token)
            statuses = Counter(order["status"] for order in page["items"])
            if set(statuses) <= {"FILLED", "NOT_ACCEPTED", "WITHDRAWN"}:
                break
            assert time.monotonic() < end, statuses
            time.sleep(0.1)
        sys.stdout.write(f"{fault}: {dict(statuses)}\n")
        assert sum(statuses.values()) == 15
        at_exchange = orders_at_exchange(bagbot)
        assert set(at_exchange.values()) == {1}
        assert before.keys() <= at_exchange.keys()
        filled = {o["client_order_id"] for o in page["items"] if o["status"] == "FILLED"}
        assert filled == set(at_exchange)
    verified = subprocess.run(
        [sys.executable, "-m", "bagbot", "journal", "verify"],
        env={**os.environ, "BAGBOT_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr
    assert "orders    15 (0 not ended)" in verified.stdout

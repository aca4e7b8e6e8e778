"""bagbot killed at random, on an exchange with faults: every order once, with its true outcome.

Real processes, real sockets, a real disk. BAGBOT_KILL_SEED and BAGBOT_KILL_ORDERS make it another
or a longer run.
"""

import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bagbot.tests.running_bagbot import RunningBagbot

SEED = int(os.environ.get("BAGBOT_KILL_SEED", "1"))
ORDERS = int(os.environ.get("BAGBOT_KILL_ORDERS", "120"))

PLACE = {"method": "WS", "path": "order.place"}
TIMEOUT = {"code": -1007, "msg": "Timeout waiting for response from backend server."}
POOR = {"code": -2010, "msg": "Account has insufficient balance for requested action."}
FAULTS: list[dict[str, Any]] = [
    PLACE | {"kind": "lose_answer"},
    PLACE | {"kind": "lose_request"},
    PLACE | {"kind": "answer", "status": 503, "body": TIMEOUT},
    PLACE | {"kind": "refuse", "status": 503, "body": TIMEOUT},
    PLACE | {"kind": "refuse", "status": 400, "body": POOR},
    PLACE | {"kind": "delay_answer", "delay_s": 1.5},
    PLACE | {"kind": "delay_before", "delay_s": 1},
    {"kind": "hide", "count": 2},
]
UNANSWERED = (OSError, http.client.HTTPException, json.JSONDecodeError)
AT_EXCHANGE = {"OPEN", "PARTIALLY_FILLED", "FILLED", "CANCELLED", "EXPIRED"}


class Caller:
    """Sends orders, and sends each again with the same key until it knows that it was taken."""

    def __init__(self, bagbot: RunningBagbot, token: str) -> None:
        self.bagbot = bagbot
        self.token = token

    def send(self, number: int) -> str:
        chance = random.Random(SEED * 1_000_003 + number)
        time.sleep(chance.uniform(0, 0.3))
        if chance.random() < 0.3:
            with contextlib.suppress(*UNANSWERED):
                self.bagbot.make_fault(chance.choice(FAULTS))
        order = {"symbol": "BTC/USDT", "side": chance.choice(["buy", "sell"]), "amount": "0.001"}
        if chance.random() < 0.4:
            order |= {"type": "limit", "price": chance.choice(["89900", "89990", "90010", "90100"])}
        else:
            order["type"] = "market"
        for _ in range(400):
            with contextlib.suppress(*UNANSWERED):
                status, answer = self.bagbot.post(
                    "/orders", order, self.token, Idempotency_Key=f"key-{number}"
                )
                if status in (202, 422):
                    return str(answer["id"])
            time.sleep(0.1)
        raise AssertionError(f"order {number} was never taken")

    def everything(self, path: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        after = ""
        while True:
            _, page = self.bagbot.get(f"{path}?limit=1000{after}", self.token)
            items += page["items"]
            if page["next"] is None:
                return items
            after = f"&after={page['next']}"


def kill_now_and_then(bagbot: RunningBagbot, stop: threading.Event) -> int:
    chance, kills = random.Random(SEED), 0
    while not stop.wait(chance.uniform(0.5, 2)):
        bagbot.kill()
        bagbot.start()
        kills += 1
    return kills


def test_no_order_is_doubled_lost_or_invented(tmp_path: Path) -> None:
    sys.stdout.write(f"seed {SEED}, {ORDERS} orders\n")
    stop = threading.Event()
    with RunningBagbot(
        tmp_path,
        BAGBOT_EXECUTOR__FENCE_MARGIN_S="1",
        BAGBOT_EXECUTOR__PROBE_INTERVAL_S="0.3",
    ) as bagbot:
        caller = Caller(bagbot, bagbot.token("read", "trade"))
        with concurrent.futures.ThreadPoolExecutor(7) as threads:
            killing = threads.submit(kill_now_and_then, bagbot, stop)
            try:
                taken = list(threads.map(caller.send, range(ORDERS)))
            finally:
                stop.set()
            kills = killing.result()
        bagbot.make_fault(None)
        end = time.monotonic() + 60
        while any(o["status"] in ("UNKNOWN", "SUBMITTED") for o in caller.everything("/orders")):
            assert time.monotonic() < end, "an order stays unknown"
            time.sleep(0.2)
        orders = caller.everything("/orders")
        fills = caller.everything("/fills")
        placed = Counter(o["client_order_id"] for o in bagbot.at_exchange("/admin/orders"))
        executions = bagbot.at_exchange("/admin/trades")
    sys.stdout.write(f"{kills} kills, {dict(Counter(o['status'] for o in orders))}\n")
    assert sorted(o["id"] for o in orders) == sorted(taken), "an order was lost or invented here"
    assert len(set(taken)) == ORDERS
    assert set(placed.values()) <= {1}, "an id was sent twice"
    ours = {o["client_order_id"]: o["status"] for o in orders}
    assert set(placed) <= set(ours), "the exchange has orders that we do not know"
    assert {c for c, status in ours.items() if status in AT_EXCHANGE} == set(placed)
    assert sorted((f["trade_id"], f["side"]) for f in fills) == sorted(
        (str(e["trade_id"]), e["side"].lower()) for e in executions
    )
    assert "has failed" not in "".join(bagbot.lines)

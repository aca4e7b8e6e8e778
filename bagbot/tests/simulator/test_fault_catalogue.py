"""Faults by chance and time, wrong descriptions, and that the admin side tells all."""

import random
from functools import partial

import polars
import pytest

from bagbot.simulator.accounts import AccountSettings, KeySettings, default_balances
from bagbot.simulator.fault_classes import FAULT_CLASSES, described
from bagbot.simulator.faults import Fault, FaultError, FaultKind, FaultScript, fault_from
from bagbot.simulator.late_requests import LATE_MAX, LateRequest, LateRequests
from bagbot.simulator.request_log import LoggedRequest, RequestLog
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.fault_client import MARKET, ORDER, RESTING, arm, place
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient


@pytest.mark.parametrize("name", FAULT_CLASSES)
def test_every_variant_is_a_fault_or_an_act(name):
    for variant in FAULT_CLASSES[name].variants:
        template = described({"class": name, "variant": variant})
        if "act" not in template:
            assert fault_from(template).fault_class == name


@pytest.mark.parametrize(
    "description",
    [
        {"class": "F33"},
        {"class": 5},
        {"class": "F8", "variant": "fifth"},
        {"class": "F8", "variant": []},
        {"class": "F1", "kind": "hide"},
        {"class": "F1", "colour": "red"},
        {"kind": "refuse", "on": "everything"},
        {"kind": "refuse", "probability": 1.1},
        {"kind": "refuse", "for_s": -1},
        {"kind": "fill_first", "quantity": "much"},
    ],
)
def test_a_wrong_description_is_refused(description):
    with pytest.raises(FaultError):
        fault_from(described(description))


@pytest.mark.parametrize(
    "act",
    [
        {},
        {"act": "explode"},
        {"act": "clock"},
        {"act": "clock", "step_s": "long"},
        {"act": "clock", "step_s": 1, "colour": "red"},
        {"act": "streams", "end": "softly"},
        {"act": "symbol", "symbol": "NONE"},
        {"act": "symbol", "status": "SLEEPING"},
        {"act": "symbol", "tickSize": "0"},
        {"act": "fill", "origClientOrderId": "nobody"},
        {"act": "cancel", "account": "nobody"},
    ],
)
async def test_an_act_that_cannot_be_done_is_refused(client, act):
    reply = await client.admin("POST", "acts", act)
    assert reply.status in (400, 409), reply.body
    assert reply.body["error"]


# Chance.


async def outcomes(seed, count=40):
    settings = SimulatorSettings(api_key=KEY, api_secret=SECRET, seed=seed)
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        await arm(client, "F4", count=None, probability=0.3)
        await arm(client, "F9", count=None, probability=0.2)
        return [(await place(client, "rest", f"o{n}")).status for n in range(count)]


async def test_the_same_seed_lets_the_same_requests_fail():
    one, same, other = await outcomes(7), await outcomes(7), await outcomes(8)
    assert one == same != other
    assert {200, 504, 408} == set(one)


def test_a_probability_is_met():
    script = FaultScript(lambda number, _: random.Random(number).random)
    script.add(Fault(kind=FaultKind.REFUSE, probability=0.25, count=None, after=100))
    taken = [script.take("POST", ORDER, None, None) is not None for _ in range(4_100)]
    assert not any(taken[:100])
    assert 900 < sum(taken) < 1_100


def test_a_fault_decides_by_itself_and_by_its_own_seed():
    def chance_of(number, seed):
        return random.Random(number if seed is None else 1_000 + seed).random

    def run(*faults):
        script = FaultScript(chance_of)
        for fault in faults:
            script.add(fault)
        return [script.take("POST", ORDER, "BTCUSDT", None) for _ in range(50)]

    def mine(seed=3):
        return Fault(kind=FaultKind.REFUSE, probability=0.5, count=None, seed=seed)

    def other():
        return Fault(kind=FaultKind.REFUSE, symbol="ETHUSDT", probability=0.5, count=None)

    alone = [taken is not None for taken in run(mine())]
    beside = [taken is not None for taken in run(other(), mine())]
    assert alone == beside
    assert [taken is not None for taken in run(mine(seed=4))] != alone
    # Without a seed of their own, the first and the second do not draw the same.
    first, second = (
        [taken is not None for taken in run(*before, mine(seed=None))]
        for before in ((), (other(),))
    )
    assert first != second
    assert 10 < sum(alone) < 40


def test_a_fault_ends_with_its_time():
    now_s = 100.0
    script = FaultScript(clock_s=lambda: now_s)
    script.add(Fault(kind=FaultKind.REFUSE, count=None, for_s=5))
    assert script.take("POST", ORDER, None, None)
    now_s = 104.9
    assert script.take("POST", ORDER, None, None)
    now_s = 105.0
    assert script.take("POST", ORDER, None, None) is None
    assert script.pending() == []


def test_so_many_requests_wait_and_no_more():
    done = []
    late = LateRequests()
    for number in range(LATE_MAX + 2):
        late.add(LateRequest(carry_out=partial(done.append, number), due_s=5, queries_left=1))
    assert (len(late), done) == (LATE_MAX, [0, 1])
    late.carry_out_due(10)
    assert len(late) == LATE_MAX


async def test_acts_on_bars_are_those_that_bars_allow(tmp_path):
    bars = tmp_path / "bars.parquet"
    minutes = range(3)
    polars.DataFrame(
        {"open_time": [60_000 * minute for minute in minutes], "open": [90_000.0] * 3}
        | {"high": [90_100.0] * 3, "low": [89_900.0] * 3, "close": [90_000.0] * 3}
        | {"volume": [5.0] * 3}
    ).write_parquet(bars)
    settings = SimulatorSettings(
        api_key=KEY, api_secret=SECRET, data=bars, matcher="bars", stepped=True
    )
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        start = (await client.admin("GET", "balances")).body
        await arm(client, "F42", variant="foreign-order", **RESTING | {"newClientOrderId": "web"})
        for act in (
            {"act": "fill", "origClientOrderId": "web"},
            {"act": "symbol", "status": "HALT"},
            {"act": "delist"},
        ):
            assert (await client.admin("POST", "acts", act)).status == 409
        await arm(client, "F40")
        assert (await client.admin("POST", "step")).status == 200
        await arm(client, "F44")
        assert (await client.admin("GET", "balances")).body == start
        assert (await client.admin("POST", "step")).status == 200
        (order,) = (await client.admin("GET", "orders")).body
        assert order["is_forgotten"]


# The truth.


def test_the_log_keeps_the_newest_and_counts_what_it_dropped():
    log = RequestLog(kept_max=3)
    for number in range(5):
        log.keep(LoggedRequest(received_ns=number, received_monotonic_ns=0, method="GET", path="/"))
    assert [line.number for line in log.lines()] == [3, 4, 5]
    assert [line.number for line in log.lines(after=4)] == [5]
    assert (log.received, log.dropped) == (5, 2)


async def test_every_request_is_told_with_its_fate_also_what_nobody_could_read(client):
    await place(client, "rest", "one")
    await place(client, "socket", "two")
    await client.signed("POST", ORDER, **MARKET, side2="x")
    async with client.socket("/ws-api/v3") as socket:
        await socket.send_str("{")
        await socket.receive()
    await client.send("POST", ORDER, "a=" + "b" * 70_000)
    log = (await client.admin("GET", "requests")).body
    told = [(row["method"], row["path"], row["outcome"], row["code"]) for row in log]
    assert told == [
        ("POST", ORDER, "done", None),
        ("WS", "order.place", "done", None),
        ("POST", ORDER, "refused", -1104),
        ("WS", "", "refused", -1135),
        ("POST", ORDER, "refused", -1000),
    ]
    assert [row["number"] for row in log] == [1, 2, 3, 4, 5]
    assert [row["client_order_id"] for row in log[:2]] == ["one", "two"]
    newer = (await client.admin("GET", "requests?after=3")).body
    assert [row["number"] for row in newer] == [4, 5]
    totals = (await client.admin("GET", "totals")).body
    assert (totals["requests_received"], totals["requests_dropped"]) == (5, 0)
    assert (totals["orders"], totals["executions"]) == (2, 2)


async def test_the_truth_is_told_by_account():
    keys = [KeySettings(api_key=name, api_secret=SECRET) for name in ("a", "b")]
    accounts = [
        AccountSettings(name=name, keys=[key], balances=default_balances())
        for name, key in zip(("alice", "bob"), keys, strict=True)
    ]
    async with (
        SimulatorServer(SimulatorSettings(accounts=accounts)) as server,
        SigningClient(server.url, "a", SECRET) as alice,
        SigningClient(server.url, "b", SECRET) as bob,
    ):
        await place(alice, "rest", "of-alice")
        await place(bob, "socket", "of-bob")
        await arm(bob, "F42", variant="foreign-order", account="bob", **RESTING)
        for what in ("orders", "trades"):
            every = (await alice.admin("GET", f"{what}?account=*")).body
            first = (await alice.admin("GET", what)).body
            second = (await alice.admin("GET", f"{what}?account=bob")).body
            assert [row["account"] for row in first] == ["alice"]
            assert {row["account"] for row in second} == {"bob"}
            assert every == first + second
        lines = (await alice.admin("GET", "requests?account=bob")).body
        assert [line["client_order_id"] for line in lines] == ["of-bob"]
        assert len((await alice.admin("GET", "requests")).body) == 2
        assert (await alice.admin("GET", "requests?account=nobody")).status == 400
        assert (await alice.admin("GET", "totals")).body["faults"] == {"F42": 1}


async def test_what_has_happened_is_counted_by_class(client):
    await arm(client, "F4", count=2)
    await client.admin("POST", "faults", {"kind": "refuse"})
    for number in range(4):
        await place(client, "rest", f"o{number}")
    totals = (await client.admin("GET", "totals")).body
    assert totals["faults"] == {"F4": 2, "refuse": 1}
    classes = (await client.admin("GET", "faults/classes")).body
    assert [each["class"] for each in classes] == list(FAULT_CLASSES)


async def test_several_faults_are_armed_or_none(client):
    reply = await client.admin("POST", "faults", [{"class": "F1"}, {"class": "F99"}])
    assert reply.status == 400
    assert (await client.admin("GET", "faults")).body == []
    reply = await client.admin("POST", "faults", [{"class": "F1"}, {"class": "F9"}])
    assert [each["class"] for each in reply.body] == ["F1", "F9"]

"""`bagbot run` and the rest of the command line, as a stranger meets them: real processes."""

import concurrent.futures
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars
import pytest

from bagbot.tests.running_bagbot import RunningBagbot, free_port

PROJECT = Path(__file__).parents[2]
RECORDED = "binance_spot_btcusdt_1m_20251218_20260131.parquet"
DATA = Path(os.environ.get("BAGBOT_TEST_DATA", PROJECT.parent / "shared" / "data"))
FINAL = {"FILLED", "REFUSED", "REJECTED", "EXPIRED", "CANCELLED", "NOT_ACCEPTED"}


def bagbot(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bagbot", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def settled(running: RunningBagbot, order_id: str, token: str) -> dict[str, Any]:
    end = time.monotonic() + 20
    while True:
        status, order = running.get(f"/orders/{order_id}", token)
        assert status == 200, order
        if order["status"] in FINAL or time.monotonic() > end:
            return order
        time.sleep(0.02)


def assert_same_as_exchange(running: RunningBagbot, token: str) -> None:
    """Orders, fills, positions: what bagbot shows is what the exchange has."""
    fills = running.get("/fills?limit=1000", token)[1]["items"]
    executions = running.at_exchange("/admin/trades")
    assert sorted((f["trade_id"], Decimal(f["quantity"]), Decimal(f["price"])) for f in fills) == (
        sorted(
            (str(e["trade_id"]), Decimal(e["quantity"]), Decimal(e["price"])) for e in executions
        )
    )
    net = sum(
        (1 if e["side"] == "BUY" else -1) * Decimal(e["quantity"])
        - (Decimal(e["commission"]) if e["commission_asset"] == "BTC" else 0)
        for e in executions
    )
    (position,) = running.get("/positions", token)[1]["items"]
    assert Decimal(position["quantity"]) == net


def test_the_pasted_line_ends_in_a_filled_order_and_survives_everything(tmp_path: Path) -> None:
    with RunningBagbot(tmp_path) as running:
        token = running.token("read")
        (line,) = (text for text in running.lines if text.startswith("curl -"))
        command = shlex.split(line)
        first = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        order_id = first.partition('"order_id":"')[2].partition('"')[0]
        order = settled(running, order_id, token)
        assert (order["status"], Decimal(order["filled"])) == ("FILLED", Decimal("0.001"))
        assert_same_as_exchange(running, token)
        again = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert '"status":"repeat"' in again
        assert order_id in again
        assert len(running.at_exchange("/admin/orders")) == 1
        exchange = running.exchange_url
        running.kill()
        running.start()
        assert running.exchange_url == exchange, "the exchange came back on another port"
        assert running.get(f"/orders/{order_id}", token)[1] == order
        assert_same_as_exchange(running, token)
        third = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert '"status":"repeat"' in third
        assert len(running.at_exchange("/admin/orders")) == 1
        assert running.stop() == 0


def test_the_exchange_ends_with_its_parent_even_when_that_is_killed(tmp_path: Path) -> None:
    with RunningBagbot(tmp_path) as running:
        port = int(running.exchange_url.rpartition(":")[2])
        running.kill()
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    return
            time.sleep(0.05)
        pytest.fail("the exchange still listens 10 s after its parent was killed")


def test_an_engine_whose_exchange_has_died_stops_and_says_so(tmp_path: Path) -> None:
    with RunningBagbot(tmp_path) as running:
        assert running.process is not None
        children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
        if not children.exists():
            pytest.skip("needs Linux, to find the exchange's process")
        os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
        assert running.process.wait(timeout=20) == 1
        assert "the embedded exchange has ended with code -9" in "".join(running.lines)
        # What was started again goes on where it was.
        running.start()
        assert running.get("/health/ready")[0] == 200


def test_the_demo_plays_to_its_end() -> None:
    played = bagbot("demo")
    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stdout.splitlines()[-1] == "Everything was as promised."
    assert "SIGKILL" in played.stdout


def test_help_and_tokens_load_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from bagbot.cli import main\n"
        "sys.argv = ['bagbot', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'ccxt', 'numba', 'fastapi', 'uvicorn', 'polars', 'aiohttp'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))\n"
    )
    for arguments in (["--help"], ["token", "create", "--scope", "read"], ["token", "list"]):
        shown = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "BAGBOT_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert shown.splitlines()[-1] == "heavy: []"


def test_a_token_is_alone_on_the_last_line_and_valid_at_once(tmp_path: Path) -> None:
    with RunningBagbot(tmp_path) as running:
        assert running.get("/orders")[0] == 401
        made = bagbot("token", "create", "--scope", "read", BAGBOT_HOME=str(tmp_path))
        token = made.stdout.splitlines()[-1]
        assert " " not in token
        assert running.get("/orders", token)[0] == 200
        status, problem = running.post("/orders", {}, token, Idempotency_Key="x")
        assert status == 403, problem
        token_id = bagbot("token", "list", BAGBOT_HOME=str(tmp_path)).stdout.split()[0]
        assert bagbot("token", "revoke", token_id, BAGBOT_HOME=str(tmp_path)).returncode == 0
        assert running.get("/orders", token)[0] == 401
    assert token not in (tmp_path / "tokens.jsonl").read_text()


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield str(listener.getsockname()[1])


def test_a_taken_port_is_told_with_what_to_do(tmp_path: Path, taken_port: str) -> None:
    told = bagbot("run", BAGBOT_HOME=str(tmp_path), BAGBOT_API__PORT=taken_port)
    assert told.returncode == 1
    assert f"cannot listen on 127.0.0.1:{taken_port}" in told.stderr
    assert "BAGBOT_API__PORT" in told.stderr
    assert "Traceback" not in told.stderr
    told = bagbot("exchange", "--port", taken_port, "--api-key", "K", "--api-secret", "S")
    assert told.returncode == 1
    assert f"127.0.0.1:{taken_port}" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_file_in_the_homes_place_is_told(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.write_text("I am a file")
    told = bagbot("run", BAGBOT_HOME=str(home), BAGBOT_API__PORT=str(free_port()))
    assert told.returncode == 1
    assert f"{home} cannot be used as a folder" in told.stderr
    assert "Traceback" not in told.stderr
    assert home.read_text() == "I am a file"


def test_a_second_bagbot_on_the_same_home_is_refused(tmp_path: Path) -> None:
    with RunningBagbot(tmp_path) as running:
        told = bagbot("run", BAGBOT_HOME=str(tmp_path), BAGBOT_API__PORT=str(free_port()))
        assert told.returncode == 1
        assert "Traceback" not in told.stderr
        assert "another bagbot" in told.stderr
        assert running.get("/health/ready")[0] == 200


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    home = {"BAGBOT_HOME": str(tmp_path)}
    told = bagbot("run", **home, BAGBOT_API__PORT="many", BAGBOT_RISK__ORDER_VALUE_MAX="-1")
    assert told.returncode == 1
    assert "BAGBOT_API__PORT" in told.stderr
    assert "BAGBOT_RISK__ORDER_VALUE_MAX" in told.stderr
    (tmp_path / "bagbot.toml").write_text("[api\nport = 1")
    told = bagbot("run", **home)
    assert told.returncode == 1
    assert "settings cannot be read" in told.stderr
    assert "Traceback" not in told.stderr


def test_without_keys_a_test_venue_is_not_started(tmp_path: Path) -> None:
    told = bagbot(
        "run",
        "--account",
        "testnet",
        BAGBOT_HOME=str(tmp_path),
        BAGBOT_API__PORT=str(free_port()),
        BINANCE_BASE_URL=f"http://127.0.0.1:{free_port()}",
        BINANCE_API_KEY="",
        BINANCE_API_SECRET="",
    )
    assert told.returncode == 1
    assert "BINANCE_API_KEY" in told.stderr
    assert "Traceback" not in told.stderr


def bad_files(folder: Path) -> dict[str, Path]:
    good = {
        "open_time": [0, 60_000],
        "open": [1.0, 2.0],
        "high": [2.0, 2.5],
        "low": [0.5, 1.5],
        "close": [1.5, 2.0],
        "volume": [1.0, 1.0],
    }
    frames = {
        "no volume": {k: v for k, v in good.items() if k != "volume"},
        "backwards": good | {"open_time": [60_000, 0]},
        "low above high": good | {"low": [3.0, 1.5]},
        "not a number": good | {"close": [float("nan"), 2.0]},
        "empty": {k: [] for k in good},
    }
    paths = {"missing": folder / "missing.parquet"}
    for name, columns in frames.items():
        paths[name] = folder / f"{name.replace(' ', '_')}.parquet"
        polars.DataFrame(columns).write_parquet(paths[name])
    paths["text"] = folder / "text.parquet"
    paths["text"].write_text("not parquet at all")
    paths["cut"] = folder / "cut.parquet"
    paths["cut"].write_bytes(paths["backwards"].read_bytes()[:-20])
    return paths


def test_a_broken_data_file_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    for name, path in bad_files(tmp_path).items():
        told = bagbot("exchange", "--port=0", "--api-key=K", "--api-secret=S", "--data", str(path))
        assert told.returncode == 1, name
        assert str(path) in told.stderr, (name, told.stderr)
        assert "Traceback" not in told.stderr, (name, told.stderr)
    home = tmp_path / "home"
    told = bagbot(
        "run",
        BAGBOT_HOME=str(home),
        BAGBOT_API__PORT=str(free_port()),
        BAGBOT_EXCHANGE__DATA=str(tmp_path / "text.parquet"),
    )
    assert told.returncode == 1
    assert "text.parquet" in told.stderr
    assert "Traceback" not in told.stderr


def bars(folder: Path) -> Path:
    """Return the recorded bars where they are at hand, else seeded ones of the same shape."""
    if (DATA / RECORDED).exists():
        return DATA / RECORDED
    chance = random.Random(3)
    rows, price = [], 60_000.0
    for number in range(5_000):
        ends = [price, price := price + chance.uniform(-40, 40)]
        high = max(ends) + chance.uniform(0, 20)
        low = min(ends) - chance.uniform(0, 20)
        values = [round(v, 2) for v in (ends[0], high, low, ends[1], 5.0)]
        rows.append([1_766_016_000_000 + number * 60_000, *values])
        price = values[3]
    names = ["open_time", "open", "high", "low", "close", "volume"]
    path = folder / "bars.parquet"
    polars.DataFrame(rows, schema=names, orient="row").write_parquet(path)
    return path


def test_a_thousand_orders_on_recorded_bars_fill_inside_the_bar_of_their_time(
    tmp_path: Path,
) -> None:
    """Half by alert, half by REST, market and limit, while the record plays 3000 times as fast."""
    path = bars(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    with RunningBagbot(
        home, BAGBOT_EXCHANGE__DATA=str(path), BAGBOT_EXCHANGE__SPEED="3000"
    ) as running:
        token = running.token("read", "trade")

        def send(number: int) -> tuple[int, Any]:
            side = ("buy", "sell")[number % 2]
            order: dict[str, str] = {"amount": "0.001"}
            if number % 3 == 0:
                order |= {"type": "limit", "price": "1" if side == "sell" else "999999"}
                # A limit far beyond the market would be a mistake: the collar is right to refuse.
                ticker = running.at_exchange("/api/v3/ticker/bookTicker?symbol=BTCUSDT")
                order["price"] = ticker["askPrice" if side == "buy" else "bidPrice"]
            else:
                order["type"] = "market"
            if number % 2:
                alert = {"id": f"n{number}", "action": side, "ticker": "BTCUSDT", **order}
                alert["secret"] = running.webhook_secret
                return running.post("/webhooks/tradingview", alert)
            body = {"symbol": "BTC/USDT", "side": side, **order}
            return running.post("/orders", body, token, Idempotency_Key=f"n{number}")

        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(send, range(1000)))
        failed = [answer for status, answer in answers if status not in (200, 202)]
        assert failed == []
        end = time.monotonic() + 30
        while any(
            order["status"] not in {*FINAL, "OPEN", "PARTIALLY_FILLED"}
            for order in running.get("/orders?limit=1000", token)[1]["items"]
        ):
            assert time.monotonic() < end
            time.sleep(0.1)
        orders = running.get("/orders?limit=1000", token)[1]["items"]
        assert len(orders) == 1000
        executions = running.at_exchange("/admin/trades")
        assert len(executions) >= 600
        assert len(running.at_exchange("/admin/orders")) == 1000
        time.sleep(0.5)
        assert_same_as_exchange(running, token)
    frame = polars.read_parquet(path, columns=["open_time", "low", "high"])
    bar_of = {row[0]: row[1:] for row in frame.iter_rows()}
    for execution in executions:
        opened = execution["market_time_ms"] // 60_000 * 60_000
        low, high = (Decimal(str(value)) for value in bar_of[opened])
        assert low <= Decimal(execution["price"]) <= high, execution
    hours = {execution["market_time_ms"] // 3_600_000 for execution in executions}
    sys.stdout.write(f"{len(executions)} fills over {len(hours)} hours of the record\n")

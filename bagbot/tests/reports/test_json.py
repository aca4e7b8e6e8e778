"""A run as JSON: for programs, complete, and without anything that JSON has not."""

import json
from decimal import Decimal
from pathlib import Path

from bagbot import Strategy
from bagbot.domain.fills import STOP
from bagbot.domain.statistics import Metrics
from bagbot.reports.as_json import SCHEMA, as_json, write_json
from bagbot.reports.facts import facts_of
from bagbot.reports.page import page
from bagbot.tests.reports.some_run import run_of, seeded_bars
from bagbot.trading.backtester import Backtester
from bagbot.trading.kernel_tables import INSUFFICIENT_BALANCE, REFUSED


def refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is not JSON")


def read(text: str) -> dict:
    return json.loads(text, parse_constant=refuse)


def test_everything_that_is_known_of_a_run_is_in_it(tmp_path: Path) -> None:
    result = run_of(seeded_bars(2_000, 1))
    write_json(result, tmp_path / "run.json", ["a note"])
    found = read((tmp_path / "run.json").read_text())
    assert found["schema"] == SCHEMA
    assert found["metrics"].keys() == set(Metrics._fields)
    assert found["metrics"]["sharpe"] == result.metrics["sharpe"]
    assert found["equity_units"] == result.equity.tolist()
    assert found["data_sha256"] == result.bars.data_hash
    assert found["cautions"][0] == {"text": "a note", "is_serious": False}
    assert [len(found[name]) for name in ("orders", "fills", "trades")] == [
        len(result.orders),
        len(result.fills),
        len(result.trades),
    ]


def test_money_and_prices_are_exact_text() -> None:
    result = run_of(seeded_bars(2_000, 1))
    found = read(as_json(result))
    fill, row = found["fills"][0], result.fills[0]
    assert Decimal(fill["price"]) == int(row["price"]) * Decimal("0.01")
    assert Decimal(fill["amount"]) == int(row["lots"]) * Decimal("0.00001")
    assert Decimal(fill["fee"]) * 10**8 == int(row["fee_units"])
    assert fill["fee_asset"] == "BTC"
    assert found["fills"][1]["fee_asset"] == "USDT"
    left = result.fills["cash_units_after"].tolist()[-1]
    assert Decimal(found["fills"][-1]["cash_after"]) * 10**8 == left
    assert found["cash"] == "10000.00000000"


def test_what_there_is_not_is_null() -> None:
    found = read(as_json(run_of(seeded_bars(100, 1))))
    assert found["metrics"]["win_rate"] is None
    assert found["metrics"]["trades"] == 0
    assert found["why_not_compiled"] is None
    assert found["fills"] == []


class Often(Strategy):
    """Buys and sells by the bar, by every kind of order."""

    def on_bar(self) -> None:
        if self.index % 7 == 0:
            self.buy(0.05, limit=self.close[-1] * 0.995, stop_loss=self.close[-1] * 0.9)
            self.buy(0.05, tif="IOC", limit=self.close[-1])
        elif self.index % 7 == 3:
            self.close_position()
            self.buy(9_999.0)
            self.sell(0.01, trail=0.02)


def test_what_the_engine_does_is_told_by_page_terminal_and_json() -> None:
    result = Backtester(Often, seeded_bars(400, 3), mode="python").run()
    found = read(as_json(result))
    assert {order["type"] for order in found["orders"]} >= {"MARKET", "LIMIT", "STOP"}
    assert {order["time_in_force"] for order in found["orders"]} == {"GTC", "IOC"}
    assert {"filled", "refused"} <= {order["status"] for order in found["orders"]}
    assert sum(Decimal(fill["amount"]) for fill in found["fills"]) > 0
    said = page(facts_of(result))
    assert "refused: Account has insufficient balance for requested action." in said
    assert "Account has insufficient balance" in str(facts_of(result).cautions)


def test_a_refused_order_says_why_and_is_counted() -> None:
    result = run_of(seeded_bars(24 * 200, 6), fast=5, slow=20)
    result.orders["status"][3] = REFUSED
    result.orders["reason"][3] = INSUFFICIENT_BALANCE
    result.orders["kind"][3] = STOP
    result.orders["trigger"][3] = 5_000_000
    found = read(as_json(result))
    words = "Account has insufficient balance for requested action."
    order = found["orders"][3]
    assert (order["status"], order["reason"], order["type"]) == ("refused", words, "STOP")
    assert (order["trigger"], order["limit"]) == ("50000.00", None)
    assert found["cautions"] == [{"text": f"1 order refused: {words}", "is_serious": False}]

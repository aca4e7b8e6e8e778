"""What a page holds, read without a browser."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy
import pytest

from bagbot.domain.errors import ConfigError, DataError
from bagbot.reports.facts import facts_of
from bagbot.reports.html import packed
from bagbot.reports.page import CANDLES_MAX, page, telling_rows, thinned
from bagbot.reports.sweep_page import BEST_KEPT, ROWS_MAX, best_row, shown_rows, sweep_page
from bagbot.tests.reports.some_run import HOUR_MS, run_of, seeded_bars
from bagbot.trading.backtest_settings import BacktestSettings, Funding

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Reader(HTMLParser):
    """Collects the tags of a page, its text, and what its data element holds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data = ""
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attributes = self.tags[-1] if self.tags else ("", {})
        if attributes.get("id") == "data":
            self.data += data
        elif tag not in {"script", "style"}:
            self.text += data


def unpacked(column: dict[str, str]) -> numpy.ndarray:
    return numpy.frombuffer(base64.b64decode(column["bytes"]), column["type"])


def test_a_page_needs_nothing_but_itself() -> None:
    reader = Reader(page(facts_of(run_of(seeded_bars(500, 1)))))
    linked = {"src", "href", "srcset", "action", "poster"}
    assert [
        (tag, a) for tag, a in reader.tags if linked & a.keys() or tag in {"link", "base"}
    ] == []
    (policy,) = [a["content"] for _, a in reader.tags if "http-equiv" in a]
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy


def test_words_from_outside_make_no_markup() -> None:
    plain = Reader(page(facts_of(run_of(seeded_bars(500, 1), why_not_compiled="x"), ["plain"])))
    result = run_of(
        seeded_bars(500, 1),
        strategy=HOSTILE,
        parameters={HOSTILE: HOSTILE, "slow": 1},
        why_not_compiled=HOSTILE,
    )
    reader = Reader(page(facts_of(result, [HOSTILE])))
    assert [tag for tag, _ in reader.tags] == [tag for tag, _ in plain.tags]
    assert HOSTILE in reader.text
    assert json.loads(reader.data)["strategy"] == HOSTILE


def test_a_long_history_is_thinned_and_keeps_every_fill_and_trade() -> None:
    result = run_of(seeded_bars(250_000, 2), fast=5, slow=50)
    data = json.loads(Reader(page(facts_of(result))).data)
    assert data["bars_per_candle"] == 3
    assert len(unpacked(data["candles"]["time"])) == 83_334
    fills, trades = data["fills"], data["trades"]
    assert len(result.fills) > 5_000
    times = result.bars.open_time_ms
    assert (unpacked(fills["time"]) == times[result.fills["bar"]]).all()
    assert (unpacked(fills["price"]) == result.fills["price"]).all()
    assert (unpacked(fills["is_buy"]) == result.fills["is_buy"]).all()
    assert (unpacked(trades["entry_time"]) == times[result.trades["entry_bar"]]).all()
    assert unpacked(trades["profit"]).sum() == pytest.approx(result.trades["profit"].sum())


def test_a_candle_of_several_bars_has_their_extremes() -> None:
    bars = seeded_bars(10, 4)
    candles, size = thinned(bars, 4)
    assert size == 3
    assert candles["open"].tolist() == bars.open[[0, 3, 6, 9]].tolist()
    assert candles["close"].tolist() == bars.close[[2, 5, 8, 9]].tolist()
    assert candles["high"][1] == bars.high[3:6].max()
    assert candles["low"][2] == bars.low[6:9].min()


def test_a_short_history_is_not_thinned() -> None:
    bars = seeded_bars(500, 4)
    candles, size = thinned(bars, CANDLES_MAX)
    assert size == 1
    assert candles["high"].tolist() == bars.high.tolist()


def test_a_curve_keeps_its_ends_and_extremes() -> None:
    chance = numpy.random.default_rng(3)
    curve = numpy.cumsum(chance.normal(0, 1, 10_000))
    rows = telling_rows((curve, -curve), 100)
    assert len(rows) <= 402
    assert {0, 9_999, int(curve.argmin()), int(curve.argmax())} <= set(rows.tolist())
    assert telling_rows((curve[:400],), 100).tolist() == list(range(400))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([-128, 127], "int8"),
        ([0, 128], "int16"),
        ([2**31 - 1], "int32"),
        ([2**31, 2**53], "float64"),
        ([0.1, numpy.nan], "float64"),
        ([True, False], "int8"),
        ([], "float64"),
    ],
)
def test_a_column_is_packed_as_small_as_it_can_be(values: list, kind: str) -> None:
    column = packed(numpy.array(values))
    assert column["type"] == kind
    assert numpy.array_equal(unpacked(column), numpy.array(values, float), equal_nan=True)


def cautions(notes=(), **changed: object) -> list[str]:
    result = run_of(seeded_bars(24 * 200, 6), fast=5, slow=20, **changed)
    return [caution.text for caution in facts_of(result, notes).cautions]


def test_an_ordinary_run_has_no_caution() -> None:
    assert cautions() == []


def test_what_nobody_can_trade_is_said_first() -> None:
    research = BacktestSettings(fill_at="close")
    said = cautions(["gaps"], settings=research)
    assert said[0].startswith("Research only")
    assert said[1] == "gaps"
    markup = page(facts_of(run_of(seeded_bars(500, 1), settings=research)))
    assert '<ul class="serious"><li>Research only' in markup


def test_what_weakens_figures_is_said() -> None:
    short = facts_of(run_of(seeded_bars(200, 6)))
    said = " ".join(caution.text for caution in short.cautions)
    assert "too few to tell skill from luck" in said
    assert "worked out from 8.3 days only" in said
    assert cautions(why_not_compiled="line 3: a print")[0].endswith("line 3: a print")
    free = run_of(seeded_bars(24 * 200, 6), fast=5, slow=20)
    free.fills["fee_units"] = 0
    (caution,) = facts_of(free).cautions
    assert caution.text == "Without fees: no exchange trades for nothing."


def test_a_run_without_a_trade_is_told_without_figures_that_there_are_not() -> None:
    facts = facts_of(run_of(seeded_bars(100, 1), fast=50, slow=200))
    assert facts.story().endswith("It closed no trade.")
    assert facts.told("win_rate") == "\u2013"
    assert not re.search(r"\bnan\b", Reader(page(facts)).text, re.IGNORECASE)


def test_one_bar_is_enough_for_a_page() -> None:
    facts = facts_of(run_of(seeded_bars(1, 1)))
    assert "1 bars" not in Reader(page(facts)).text
    assert [(month.year, month.month) for month in facts.months] == [(2020, 1)]


def test_no_bar_is_refused() -> None:
    with pytest.raises(DataError, match="without bars"):
        facts_of(run_of(seeded_bars(5, 1)[:0]))


def test_funding_is_a_cost_of_its_own() -> None:
    rates = Funding(times_ms=range(30), rates=["0.0001"] * 30)
    payments = numpy.array([[1, 10_000, 0, 5 * 10**8], [2, 10_000, 0, -(10**8)]])
    settings = BacktestSettings(market="usdm", leverage=2, funding=rates)
    facts = facts_of(run_of(seeded_bars(500, 1), settings=settings, funding=payments))
    said = Reader(page(facts)).text
    assert "Funding paid4.00 USDT" in said
    assert "Setting funding.times_ms30 values" in said


def test_a_liquidation_is_said_in_all_seriousness() -> None:
    result = run_of(seeded_bars(24 * 200, 6), fast=5, slow=20)
    result.fills["order"][7] = 0
    (caution,) = facts_of(result).cautions
    assert (caution.text, caution.is_serious) == ("Liquidated: 1 time.", True)


def test_months_are_told_with_what_holding_made() -> None:
    facts = facts_of(run_of(seeded_bars(24 * 60, 1)))
    assert len(facts.months) == 2
    january = facts.bars.close[31 * 24 - 1] / facts.bars.open[0]
    assert facts.months[0].held == pytest.approx(0.999 * january - 1)
    grown = (1 + facts.months[0].gain) * (1 + facts.months[1].gain) - 1
    assert grown == pytest.approx(facts.metrics["total_return"])


def test_what_is_needed_to_repeat_a_run_is_on_its_page() -> None:
    result = run_of(seeded_bars(500, 1))
    said = Reader(page(facts_of(result))).text
    versions = result.versions.values()
    for word in (result.bars.data_hash, "fast", "slow", "costs.maker_fee", *versions):
        assert word in said


def test_prices_are_the_floats_nearest_to_what_they_are() -> None:
    facts = facts_of(run_of(seeded_bars(10, 1, interval_ms=HOUR_MS)))
    assert facts.prices(numpy.array([9_000_007])).tolist() == [90_000.07]
    assert facts.amounts(numpy.array([123])).tolist() == [0.00123]


SWEEP = {
    "parameters": {"fast": numpy.array([5, 10, 20]), "is_long": numpy.array([True, False, True])},
    "metrics": {
        "sharpe": numpy.array([numpy.nan, 1.5, 0.5]),
        "total_return": numpy.array([0.0, 0.2, -0.1]),
    },
    "about": {"Data": "abc"},
}


def test_a_sweep_tells_its_best_and_its_middle() -> None:
    reader = Reader(sweep_page(title="Sma", sort_by="sharpe", **SWEEP))
    assert "the best has a Sharpe ratio of 1.50, at fast 10, is_long False" in reader.text
    assert "the one in the middle has 1.00. 33.3% of them made money" in reader.text
    data = json.loads(reader.data)
    assert data["flags"] == ["is_long"]
    assert unpacked(data["metrics"]["sharpe"])[1:].tolist() == [1.5, 0.5]


def test_of_too_many_combinations_the_best_and_an_even_choice_are_shown() -> None:
    count = 3 * ROWS_MAX
    sharpe = numpy.random.default_rng(4).normal(0, 1, count)
    sharpe[::10] = numpy.nan
    rows = shown_rows(sharpe, "sharpe")
    assert ROWS_MAX * 0.9 < len(rows) <= ROWS_MAX
    best = numpy.argsort(-numpy.nan_to_num(sharpe, nan=-9))[:BEST_KEPT]
    assert set(best.tolist()) <= set(rows.tolist())
    assert abs(numpy.nanmedian(sharpe[rows]) - numpy.nanmedian(sharpe)) < 0.05
    parameters = {"number": numpy.arange(count)}
    made = sweep_page(
        title="Sma", sort_by="sharpe", parameters=parameters, metrics={"sharpe": sharpe}, about={}
    )
    reader = Reader(made)
    assert f"Of {count:,} combinations" in reader.text
    assert f"{len(rows):,} of {count:,} combinations" in reader.text
    assert len(unpacked(json.loads(reader.data)["metrics"]["sharpe"])) == len(rows)
    assert shown_rows(sharpe[:100], "sharpe").tolist() == list(range(100))


def test_the_best_of_what_is_better_low_is_the_lowest() -> None:
    column = numpy.array([0.3, numpy.nan, 0.1])
    assert best_row(column, "drawdown_max") == 2
    assert best_row(column, "sharpe") == 0
    assert best_row(numpy.array([numpy.nan]), "sharpe") == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"sort_by": "calmar"},
        {"parameters": {}},
        {"parameters": {"fast": numpy.array([1])}},
        {"parameters": {"fast": numpy.array([])}, "metrics": {"sharpe": numpy.array([])}},
    ],
)
def test_a_table_that_makes_no_sweep_is_refused(changed: dict) -> None:
    with pytest.raises(ConfigError):
        sweep_page(**{"title": "Sma", "sort_by": "sharpe", **SWEEP, **changed})

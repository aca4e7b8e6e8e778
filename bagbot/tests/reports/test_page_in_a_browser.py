"""The pages as a person meets them: in a real browser, on a screen and on a phone."""

from pathlib import Path

import numpy

from bagbot.reports.page import write_page
from bagbot.reports.sweep_page import write_sweep_page
from bagbot.tests.browser import new_tab
from bagbot.tests.reports.some_run import run_of, seeded_bars

HOSTILE = "</script><img src=x onerror=\"document.body.dataset.hacked='yes'\">&lt;b&gt;"
MARKS = """(() => {
  const charts = document.getElementById("price").data.filter((trace) => trace.mode === "markers");
  return charts.map((trace) => trace.x.length);
})()"""


def wide(seed: int = 3, bars: int = 3_000, **changed: object):
    return run_of(seeded_bars(bars, seed), fast=5, slow=20, **changed)


async def test_a_page_draws_everything_and_asks_for_nothing(tmp_path: Path) -> None:
    result = wide()
    page = tmp_path / "run.html"
    write_page(result, page)
    async with new_tab() as tab:
        await tab.open(page)
        assert tab.complaints == []
        assert tab.requests == [page.as_uri()]
        buys = int(result.fills["is_buy"].sum())
        assert await tab.evaluate(MARKS) == [buys, len(result.fills) - buys]
        assert len(result.fills) > 100
        candles = await tab.evaluate("document.getElementById('price').data[0].x.length")
        assert 100 < candles <= 400
        assert await tab.evaluate("document.querySelectorAll('#trades tbody tr').length") == 50

        # Sorted by profit, descending: the best trade comes first.
        await tab.evaluate("document.querySelectorAll('#trades th button')[8].click()")
        best = await tab.evaluate("document.querySelector('#trades tbody tr').cells[8].textContent")
        assert best == f"+{result.trades['profit'].max():,.2f}"

        # A click on a trade shows it, bar by bar.
        await tab.evaluate("document.querySelector('#trades tbody tr').click()")
        row = int(result.trades["profit"].argmax())
        entry = int(result.bars.open_time_ms[result.trades["entry_bar"][row]])
        first, last = await tab.evaluate("view")
        assert first < entry < last
        assert last - first < 400 * result.bars.interval_ms
        assert "bars to a candle" not in await tab.evaluate(
            "document.getElementById('price-note').textContent"
        )

        # The colours change, and the charts with them.
        sign = "document.getElementById('equity').data[1].line.color"
        before = await tab.evaluate(sign)
        for _ in range(2):
            await tab.evaluate("document.getElementById('theme').click()")
        assert await tab.evaluate("document.documentElement.dataset.theme") == "dark"
        assert await tab.evaluate(sign) != before
        assert tab.complaints == []


async def test_words_from_outside_stay_words(tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    result = wide(
        strategy=HOSTILE,
        parameters={HOSTILE: HOSTILE},
        why_not_compiled=HOSTILE,
    )
    write_page(result, page, [HOSTILE])
    async with new_tab() as tab:
        await tab.open(page)
        assert await tab.evaluate("document.body.dataset.hacked") is None
        assert await tab.evaluate("document.querySelectorAll('img[src=x]').length") == 0
        assert await tab.evaluate("document.querySelector('h1').textContent") == HOSTILE
        assert tab.complaints == []


async def test_a_page_fits_a_small_screen(tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    write_page(wide(), page, ["A caution that is long enough to be broken on a phone. " * 3])
    async with new_tab() as tab:
        for width in (360, 820):
            await tab.open(page, width=width, height=740)
            beyond = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert await tab.evaluate(beyond) == 0
            # What happened is told before anything has to be scrolled.
            place = "document.querySelector('.tile').getBoundingClientRect().top"
            assert await tab.evaluate(place) < 740
        assert tab.complaints == []


async def test_a_long_history_shows_every_fill(tmp_path: Path) -> None:
    result = run_of(seeded_bars(60_000, 11), fast=2, slow=5)
    assert len(result.fills) > 10_000
    page = tmp_path / "run.html"
    write_page(result, page)
    async with new_tab() as tab:
        await tab.open(page)
        note = await tab.evaluate("document.getElementById('price-note').textContent")
        buys = int(result.fills["is_buy"].sum())
        assert note.startswith(f"{buys:,} buys and {len(result.fills) - buys:,} sells in view")
        counted = await tab.evaluate(
            "document.getElementById('price').data.filter(t => t.mode === 'markers').map(t =>"
            "t.text.reduce((sum, text) => sum + Number(text.split(' ')[0].replace(',', '')), 0))"
        )
        assert counted == [buys, len(result.fills) - buys]
        assert tab.complaints == []


async def test_a_sweep_is_drawn_over_any_two_parameters(tmp_path: Path) -> None:
    chance = numpy.random.default_rng(1)
    rows = 500
    write_sweep_page(
        tmp_path / "sweep.html",
        title=HOSTILE,
        parameters={
            HOSTILE: chance.integers(2, 12, rows),
            "slow": chance.uniform(20, 200, rows),
            "is_long": chance.random(rows) < 0.5,
        },
        metrics={
            "sharpe": numpy.where(chance.random(rows) < 0.1, numpy.nan, chance.normal(0, 1, rows)),
            "total_return": chance.normal(0, 0.3, rows),
            "drawdown_max": chance.random(rows),
            "my_own": chance.random(rows),
            "win_rate": numpy.full(rows, numpy.nan),
        },
        about={"Data": HOSTILE},
    )
    async with new_tab() as tab:
        await tab.open(tmp_path / "sweep.html")
        shape = "(({x, y}) => [x.length, y.length])(document.getElementById('map').data[0])"
        assert await tab.evaluate(shape) == [10, 40]
        written = "document.getElementById('map').querySelector('.xtitle').textContent"
        assert await tab.evaluate(written) == HOSTILE
        for metric in ("drawdown_max", "my_own", "win_rate", "total_return"):
            await tab.evaluate(
                f"(s => {{ s.value = '{metric}'; s.dispatchEvent(new Event('change')) }})"
                "(document.getElementById('metric'))"
            )
        await tab.evaluate(
            "(s => { s.value = 'is_long'; s.dispatchEvent(new Event('change')) })"
            "(document.getElementById('up'))"
        )
        assert await tab.evaluate(shape) == [10, 2]
        # The first row is the best, and those without a figure come last.
        lines = "[...document.querySelectorAll('#combinations tbody tr')]"
        cells = f"{lines}.map(line => line.cells[3].textContent)"
        first = await tab.evaluate(cells)
        assert first == sorted(first, key=lambda said: -float(said.replace("\u2212", "-")))
        await tab.evaluate("document.querySelector('[aria-label=\"last page\"]').click()")
        assert (await tab.evaluate(cells))[-1] == "\u2013"
        assert tab.complaints == []

        write_sweep_page(
            tmp_path / "line.html",
            title="one parameter",
            parameters={"fast": numpy.arange(5, 25)},
            metrics={"sharpe": chance.normal(0, 1, 20)},
            about={},
        )
        await tab.open(tmp_path / "line.html")
        assert await tab.evaluate("document.getElementById('map').data[0].x.length") == 20
        assert tab.complaints == []

"""What is odd or wrong with bars is counted, placed and said."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy
import pytest

from bagbot.domain.bars import Bars
from bagbot.domain.instrument import Instrument
from bagbot.domain.ohlcv import Ohlcv
from bagbot.marketdata.bars_file import read_bars, read_file
from bagbot.marketdata.quality import Gap, QualityReport, examine, examine_columns
from bagbot.tests.marketdata.invented_bars import (
    MINUTE_MS,
    START_MS,
    csv_lines,
    invented_bars,
    record_of,
    write_csv,
)

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the recorded data is not here")


def bars_of(rows: list[Ohlcv]) -> Bars:
    record = record_of(rows)
    return record.bars(record.instrument("BTC/USDT"), MINUTE_MS)


def looked_at(rows: list[Ohlcv]) -> QualityReport:
    """Return the report on rows that may be no bars."""
    return examine_columns(MINUTE_MS, **dict(record_of(rows).columns()))


def traded(rows: list[Ohlcv]) -> list[Ohlcv]:
    return [replace(row, volume=row.volume or Decimal(1)) for row in rows]


def test_nothing_is_said_of_bars_without_fault() -> None:
    report = examine(bars_of(traded(invented_bars(1000))))
    assert report.is_clean
    assert report.lines() == (
        "1,000 bars of 1m from 2024-01-01 00:00 UTC to 2024-01-01 16:39 UTC",
        "no gap, no duplicate, no outlier, no bar without a trade",
    )


def test_gaps_are_counted_and_the_longest_told_first() -> None:
    rows = traded(invented_bars(100))
    del rows[10:12], rows[50:57]
    report = examine(bars_of(rows))
    assert (report.missing, report.gap_count) == (9, 2)
    assert report.gaps == (
        Gap(after_ms=START_MS + 51 * MINUTE_MS, missing=7),
        Gap(after_ms=START_MS + 9 * MINUTE_MS, missing=2),
    )
    assert report.is_usable
    assert not report.is_clean
    assert (
        "9 bars missing (9.00%) in 2 gaps; the longest, of 7, after 2024-01-01 00:51 UTC"
        in report.lines()
    )


def test_duplicates_disorder_and_impossible_bars_make_them_unusable() -> None:
    rows = traded(invented_bars(50))
    rows[5] = replace(rows[5], high=rows[5].low - 1)
    rows[6] = replace(rows[6], low=Decimal(-1))
    rows[7] = replace(rows[7], volume=Decimal(-1))
    rows.insert(20, rows[20])
    rows[30], rows[31] = rows[31], rows[30]
    report = looked_at(rows)
    assert (report.impossible, report.duplicates, report.unsorted) == (3, 1, 1)
    assert not report.is_usable
    assert sum("unusable" in line for line in report.lines()) == 3
    assert not looked_at([]).is_usable
    assert looked_at([]).lines() == ("no bars at all",)


def test_a_spike_is_an_outlier_and_a_wild_hour_is_not() -> None:
    rows = traded(invented_bars(3000))
    wild = [
        replace(
            row,
            high=max(row.open, row.close) * Decimal("1.02"),
            low=min(row.open, row.close) * Decimal("0.98"),
        )
        for row in rows[1000:1600]
    ]
    assert examine(bars_of([*rows[:1000], *wild, *rows[1600:]])).outlier_count == 0
    spike = replace(rows[2500], high=(rows[2500].high * 2).quantize(Decimal("0.01")))
    report = examine(bars_of([*rows[:2500], spike, *rows[2501:]]))
    (outlier,) = report.outliers
    assert outlier.open_time_ms == START_MS + 2500 * MINUTE_MS
    assert 0.9 < outlier.move < 1.1
    assert outlier.times > 100


def test_bars_without_a_trade_are_counted_and_their_longest_row() -> None:
    rows = traded(invented_bars(40))
    for at in (3, 10, 11, 12, 39):
        rows[at] = replace(rows[at], volume=Decimal(0))
    report = examine(bars_of(rows))
    assert (report.zero_volume, report.zero_volume_longest) == (5, 3)
    assert "5 bars without a trade (12.50%), at most 3 in a row" in report.lines()


def test_json_says_the_same() -> None:
    told = examine(bars_of(invented_bars(10))).to_json()
    assert told["bars"] == 10
    assert told["is_usable"] is True


def test_a_file_that_is_refused_can_still_be_looked_at(tmp_path: Path) -> None:
    lines = csv_lines(traded(invented_bars(20)))
    lines.insert(7, lines[7])
    report = read_file(write_csv(tmp_path / "bars.csv", lines)).examine()
    assert (report.bars, report.duplicates) == (21, 1)


def test_a_glance_at_half_a_million_bars_is_short() -> None:
    count = 500_000
    times = START_MS + numpy.arange(count) * MINUTE_MS
    walk = 10**6 + numpy.cumsum(numpy.random.default_rng(7).integers(-9, 10, count))
    bars = Bars(
        instrument=Instrument.unfiltered("BTC/USDT"),
        interval_ms=MINUTE_MS,
        open_time_ms=times,
        open=walk,
        high=walk + 5,
        low=walk - 5,
        close=walk,
        volume=numpy.ones(count, numpy.int64),
    )
    assert examine(bars).is_clean


@needs_data
def test_the_known_faults_of_real_bars_are_found() -> None:
    spot = examine(read_bars(DATA / "binance_spot_btcusdt_1h_2017_2024.parquet"))
    assert (spot.missing, spot.gap_count, spot.zero_volume) == (128, 28, 4)
    bitfinex = examine(read_bars(DATA / "bitfinex_spot_btcusd_1m_2015_2016.parquet"))
    assert (bitfinex.bars, bitfinex.missing) == (659_940, 392_699)
    crash = examine(read_bars(DATA / "binance_spot_15m_5sym.parquet", symbol="XRP/USDT"))
    # 2025-10-10, 21:15.
    assert crash.outliers[0].open_time_ms == 1_760_130_900_000

"""Longer bars are those of the exchange."""

from pathlib import Path

import numpy
import pytest

from bagbot.domain.bars import Bars
from bagbot.domain.errors import DataError
from bagbot.domain.ohlcv import timeframe_ms
from bagbot.marketdata.bars_file import read_bars
from bagbot.marketdata.resample import resample
from bagbot.tests.marketdata.invented_bars import MINUTE_MS, START_MS, invented_bars, record_of

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the recorded data is not here")
FIVE = 5 * MINUTE_MS


def minutes(rows: slice | list[int], count: int = 60) -> Bars:
    invented = invented_bars(count)
    chosen = invented[rows] if isinstance(rows, slice) else [invented[at] for at in rows]
    record = record_of(chosen)
    return record.bars(record.instrument("BTC/USDT"), MINUTE_MS)


def test_a_long_bar_is_made_of_its_short_ones() -> None:
    short = minutes(slice(0, 10))
    long = resample(short, FIVE)
    assert long.open_time_ms.tolist() == [START_MS, START_MS + FIVE]
    assert long.interval_ms == FIVE
    for at, part in enumerate((short[0:5], short[5:10])):
        told = (long.open[at], long.high[at], long.low[at], long.close[at], long.volume[at])
        expected = (part.open[0], part.high.max(), part.low.min(), part.close[-1])
        assert told == (*expected, part.volume.sum())


def test_what_is_cut_at_the_ends_is_left_out() -> None:
    assert resample(minutes(slice(2, 19)), FIVE).open_time_ms.tolist() == [
        START_MS + FIVE,
        START_MS + 2 * FIVE,
    ]
    assert len(resample(minutes(slice(1, 4)), FIVE)) == 0
    assert len(resample(minutes(slice(0, 4)), FIVE)) == 0
    assert len(resample(minutes(slice(0, 0)), FIVE)) == 0
    assert len(resample(minutes(slice(3, 7)), FIVE)) == 0


def test_a_gap_inside_leaves_a_bar_of_what_there_is_and_a_longer_one_none() -> None:
    kept = [0, 1, 3, 4, 5, 6, 7, 8, 9, 20, 21, 22, 23, 24]
    long = resample(minutes(kept), FIVE)
    assert ((long.open_time_ms - START_MS) // FIVE).tolist() == [0, 1, 4]
    assert long.volume[0] == minutes([0, 1, 3, 4]).volume.sum()


def test_weeks_begin_on_monday() -> None:
    # 2024-01-01 was one.
    rows = invented_bars(30, step_ms=timeframe_ms("1d"), start_ms=START_MS - 2 * 86_400_000)
    record = record_of(rows)
    weeks = resample(record.bars(record.instrument("BTC/USDT"), 86_400_000), timeframe_ms("1w"))
    assert weeks.open_time_ms[0] == START_MS
    assert len(weeks) == 4


def test_resampling_in_steps_or_at_once_is_the_same() -> None:
    short = minutes(slice(0, 600), count=600)
    at_once = resample(short, 12 * FIVE)
    in_steps = resample(resample(short, FIVE), 12 * FIVE)
    assert at_once.data_hash == in_steps.data_hash
    assert resample(short, MINUTE_MS).data_hash == short.data_hash


@pytest.mark.parametrize("interval_ms", [90_000, 0, -60_000, 30_000])
def test_intervals_that_do_not_fit_are_refused(interval_ms: int) -> None:
    with pytest.raises(DataError, match="do not add up"):
        resample(minutes(slice(0, 10)), interval_ms)


@needs_data
def test_the_exchanges_own_five_minutes_are_ours() -> None:
    """The two recordings come from the same exchange, each asked for by itself."""
    theirs = read_bars(DATA / "binance_spot_btcusdt_5m_20250614_20260131.parquet")
    short = read_bars(
        DATA / "binance_spot_btcusdt_1m_20251218_20260131.parquet", instrument=theirs.instrument
    )
    ours = resample(short, FIVE)
    first, last = numpy.searchsorted(theirs.open_time_ms, ours.open_time_ms[[0, -1]])
    theirs = theirs[int(first) : int(last) + 1]
    assert len(ours) == len(theirs) == 12_728
    assert ours.open_time_ms.tolist() == theirs.open_time_ms.tolist()
    for name in ("open", "high", "low", "close"):
        assert (getattr(ours, name) == getattr(theirs, name)).all(), name
    assert (ours.volume == theirs.volume).all()

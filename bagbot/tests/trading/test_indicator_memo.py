import math

import numpy
import pytest
import talib
from talib import EMA

from bagbot.domain.bars import Bars
from bagbot.domain.instrument import Instrument
from bagbot.trading.indicator_memo import IndicatorMemo, is_pure
from bagbot.trading.strategy import Strategy, bar_series, prepare

TICKS = numpy.linspace(10_000, 20_000, 1_000).astype(numpy.int64)
BARS = Bars(
    instrument=Instrument.unfiltered("BTC/USDT"),
    interval_ms=60_000,
    open_time_ms=numpy.arange(1_000) * 60_000,
    open=TICKS,
    high=TICKS,
    low=TICKS,
    close=TICKS,
    volume=TICKS,
)
GIVEN = bar_series(BARS)
CLOSE = GIVEN["close"]
FACTOR = 2.0
SEEN: list[int] = []
state = {"calls": 0}


def mean_of(values, length):
    out = numpy.full(len(values), math.nan)
    for index in range(length - 1, len(values)):
        out[index] = values[index - length + 1 : index + 1].sum() / length
    return out


def scaled(values, factor=FACTOR):
    return mean_of(values, 3) * factor


def counted(values, length):
    SEEN.append(length)
    return numpy.roll(values, length)


def noisy(values, length):
    return values + numpy.random.normal(0, length, len(values))


def remembers(values, length):
    state["calls"] += 1
    return values * length


def with_default(values, seen=[]):  # noqa: B006 - that is what it is about
    return values * len(seen)


def asks_the_clock(values):
    import time

    return values * time.perf_counter()


class Averages(Strategy):
    fast: int = 3
    slow: int = 5

    def prepare(self):
        self.fast_average = talib.SMA(self.close, self.fast)
        self.slow_average = EMA(self.close, timeperiod=self.slow)
        self.own = mean_of(self.close, self.fast)
        self.twice = talib.SMA(self.own, 4)
        self.lower, self.middle, self.upper = talib.BBANDS(self.close, self.slow)


def prepared(memo, cls=Averages, **parameters):
    strategy, series = memo.prepared(cls(**parameters), BARS, GIVEN)
    assert series.series["close"] is not None
    return strategy


def test_what_was_computed_once_is_not_computed_again():
    memo = IndicatorMemo(Averages, 10**8)
    first, second = prepared(memo, fast=7), prepared(memo, fast=7, slow=9)
    for name in ("fast_average", "own", "twice"):
        assert getattr(first, name) is getattr(second, name)
    assert first.slow_average is not second.slow_average
    assert first.upper is prepared(memo, slow=5).upper


def test_what_is_remembered_is_what_would_be_computed():
    memo = IndicatorMemo(Averages, 10**8)
    for _ in range(2):
        for fast in (3, 8):
            for slow in (5, 9):
                strategy = prepared(memo, fast=fast, slow=slow)
                plain = Averages(fast=fast, slow=slow)
                prepare(plain, BARS)
                for name in ("fast_average", "slow_average", "own", "twice", "lower", "upper"):
                    expected = getattr(plain, name)
                    numpy.testing.assert_array_equal(getattr(strategy, name), expected)


class Doubles(Averages):
    def prepare(self):
        doubled = self.close * 2.0
        self.average = talib.SMA(doubled, self.fast)


def test_an_array_that_could_change_is_no_key():
    memo = IndicatorMemo(Doubles, 10**8)
    assert prepared(memo, Doubles).average is not prepared(memo, Doubles).average
    assert not memo._results


def test_no_more_is_kept_than_allowed():
    one = CLOSE.nbytes
    memo = IndicatorMemo(Averages, 3 * one)
    for fast in range(2, 30):
        strategy = prepared(memo, fast=fast)
        assert memo._bytes <= 3 * one
        numpy.testing.assert_array_equal(strategy.own, mean_of(CLOSE, fast))
        numpy.testing.assert_array_equal(strategy.twice, talib.SMA(mean_of(CLOSE, fast), 4))
    assert len(memo._known) <= 3 + len(GIVEN)


class WritesToItsIndicator(Averages):
    def prepare(self):
        self.average = talib.SMA(self.close, self.fast)
        self.average[:10] = 0.0


def test_a_prepare_that_writes_to_an_indicator_runs_as_written():
    memo = IndicatorMemo(WritesToItsIndicator, 10**8)
    for fast in (3, 3, 4):
        strategy = prepared(memo, WritesToItsIndicator, fast=fast)
        assert strategy.average[:11].tolist() == [0.0] * 10 + [talib.SMA(CLOSE, fast)[10]]
    assert memo.body is None


class Raises(Averages):
    def prepare(self):
        self.average = talib.SMA(self.close, self.fast)
        raise KeyError("mine")


def test_what_prepare_raises_is_raised():
    with pytest.raises(KeyError, match="mine"):
        prepared(IndicatorMemo(Raises, 10**8), Raises)


class Nothing(Strategy):
    fast: int = 3

    def prepare(self):
        self.average = self.close * self.fast


def test_a_prepare_that_calls_nothing_needs_no_memo():
    assert IndicatorMemo(Nothing, 10**8).body is None


def test_without_memory_nothing_stands_in():
    assert IndicatorMemo(Averages, 0).body is None


@pytest.mark.parametrize("function", [mean_of, scaled, talib.RSI, EMA])
def test_a_function_of_its_arguments_alone_is_pure(function):
    assert is_pure(function)


@pytest.mark.parametrize(
    "function",
    [counted, noisy, remembers, with_default, asks_the_clock, numpy.random.normal, print, Averages],
)
def test_what_depends_on_more_than_its_arguments_is_not_pure(function):
    assert not is_pure(function)


def test_a_closure_is_not_pure():
    offset = len(SEEN)

    def shifted(values):
        return values + offset

    assert not is_pure(shifted)

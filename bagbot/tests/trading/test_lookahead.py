from pathlib import Path

import numpy
import pytest
import talib

from bagbot import Backtester, Strategy
from bagbot.tests.trading.some_bars import walk
from bagbot.trading.lookahead import examine

BARS = walk(600, 4)


class Honest(Strategy):
    length: int = 5

    def prepare(self):
        self.mean = talib.SMA(self.close, self.length)
        self.above = self.close > self.mean
        self.count = 0

    def on_bar(self):
        self.count += 1
        if self.above[-1] and not self.above[-2]:
            self.buy(0.01)
        elif self.position > 0 and not self.above[-1]:
            self.close_position()


class Centred(Honest):
    def prepare(self):
        super().prepare()
        self.mean = numpy.convolve(self.close, numpy.ones(5) / 5, mode="same")
        self.above = self.close > self.mean


class Shifted(Honest):
    def prepare(self):
        super().prepare()
        self.tomorrow = numpy.append(self.close[1:], numpy.nan)


class OfAll(Honest):
    def prepare(self):
        super().prepare()
        self.level = self.close.mean()


class Normalised(Honest):
    def prepare(self):
        super().prepare()
        self.score = (self.close - self.close.mean()) / self.close.std()


class ByHeart(Honest):
    """What comes is hidden in a list, which on_bar can read as it likes."""

    def prepare(self):
        super().prepare()
        self.to_come = self.close.tolist()

    def on_bar(self):
        if self.index + 1 < len(self.to_come) and self.to_come[self.index + 1] > self.close[-1]:
            self.buy(0.01)


class Slow(Honest):
    def prepare(self):
        super().prepare()
        smooth, value = numpy.empty(len(self.close)), 0.0
        for at, price in enumerate(self.close):
            value = value + (price - value) * 0.002
            smooth[at] = value
        self.smooth = smooth


class Chance(Honest):
    """Its random numbers depend on how many bars there are."""

    def prepare(self):
        super().prepare()
        self.luck = numpy.random.default_rng(1).permutation(len(self.close)) * 1.0


def played(cls):
    return lambda bars: Backtester(cls, bars, mode="python").run().orders


def test_who_looks_back_only_is_honest():
    honesty = examine(Honest(), BARS, played(Honest), cuts=8, replays=3)
    assert honesty.is_honest
    assert honesty.unsettled == ()
    assert (len(honesty.cuts), honesty.replays) == (8, 3)
    assert honesty.lines() == ("no look-ahead found (cut after 8 bars, played again 3 times)",)


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (Centred, "self.mean"),
        (Centred, "self.above"),
        (Shifted, "self.tomorrow"),
        (OfAll, "self.level"),
        (Normalised, "self.score"),
        (Chance, "self.luck"),
    ],
)
def test_what_prepare_knew_too_early_is_named_with_its_line(cls, name):
    honesty = examine(cls(), BARS, cuts=3)
    assert not honesty.is_honest
    finding = next(each for each in honesty.look_ahead if each.what == name)
    assert finding.bar <= finding.cut
    path, _, line = finding.place.rpartition(":")
    assert path == __file__
    assert f"{name} =" in Path(__file__).read_text().splitlines()[int(line) - 1]
    assert "LOOK-AHEAD" in honesty.lines()[0]
    assert f"nothing after bar {finding.cut} is known" in str(finding)


def test_a_decision_that_knew_too_much_is_found_by_playing_again():
    honesty = examine(ByHeart(), BARS, played(ByHeart), cuts=3, replays=4)
    assert [each.what.split()[0] for each in honesty.look_ahead] == ["order"]
    assert "not placed" in str(honesty.look_ahead[0])


def test_an_average_that_is_not_settled_yet_asks_for_a_longer_warmup():
    assert [each.name for each in examine(Slow(), BARS).unsettled] == ["smooth"]
    found = examine(Slow(), BARS).lines()[-1]
    assert "self.smooth is not settled when trading begins: with 20 bars" in found


def test_short_records_are_not_cut():
    assert examine(Honest(), BARS[:4], played(Honest)).cuts == ()
    assert examine(Honest(), BARS[:1]).is_honest

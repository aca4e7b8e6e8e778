from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import numpy
import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagbot import Strategy
from bagbot.domain import fills
from bagbot.domain.bars import Bars
from bagbot.domain.errors import InvalidOrderError, StrategyError
from bagbot.domain.instrument import Instrument
from bagbot.tests.trading.some_bars import walk
from bagbot.trading.strategy import (
    History,
    bar_series,
    checked,
    order_shape,
    prepare,
    trailing_ppm,
)

BARS = walk(100, 1)


class Base(Strategy):
    fast: int = 3
    scale: float = 1.5
    is_bold: bool = False
    kept: ClassVar[int] = 7
    constant = 12

    def prepare(self):
        self.mean = numpy.convolve(self.close, numpy.ones(self.fast) / self.fast)[: len(self.close)]
        self.mean[: self.fast - 1] = numpy.nan
        self.count = 0

    def on_bar(self):
        self.count += 1


class Derived(Base):
    slow: int
    scale: float = 2


def test_annotated_attributes_are_the_parameters_inherited_ones_too():
    assert list(Base.declared) == ["fast", "scale", "is_bold"]
    assert dict(Derived(slow=9).parameters) == {
        "fast": 3,
        "scale": 2.0,
        "is_bold": False,
        "slow": 9,
    }
    made = Base(fast=numpy.int64(5), scale=4, is_bold=numpy.True_)
    assert (made.fast, made.scale, made.is_bold) == (5, 4.0, True)
    assert [type(value) for value in made.parameters.values()] == [int, float, bool]


@pytest.mark.parametrize(
    ("cls", "given_", "message"),
    [
        (Base, {"fats": 1}, "Base has no parameter fats; did you mean fast?"),
        (Base, {"fast": 1.5}, "Base: parameter fast is int, not 1.5 (HERE)"),
        (Base, {"fast": True}, "parameter fast is int, not True"),
        (Base, {"fast": "5"}, "parameter fast is int, not '5'"),
        (Base, {"scale": float("nan")}, "parameter scale is float, not nan"),
        (Base, {"scale": Decimal(1)}, "parameter scale is float"),
        (Base, {"is_bold": 1}, "parameter is_bold is bool, not 1"),
        (Derived, {}, "Derived: parameter slow must be given"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(cls, given_, message):
    with pytest.raises(StrategyError) as refused:
        cls(**given_)
    line = Path(__file__).read_text().splitlines().index("    fast: int = 3") + 1
    assert message.replace("HERE", f"{__file__}:{line}") in str(refused.value)


def test_a_class_that_cannot_be_a_strategy_says_where():
    with pytest.raises(StrategyError, match=r"parameter name is declared as str; .*\.py:\d+"):

        class Text(Strategy):
            name: str = "x"

    with pytest.raises(StrategyError, match=r"parameter count is int, not 1\.5"):

        class Wrong(Strategy):
            count: int = 1.5

    with pytest.raises(StrategyError, match="close is a name of every strategy"):

        class Taken(Strategy):
            close: float = 1.0


def test_a_fresh_strategy_has_the_parameters_and_no_state():
    made = Base(fast=4)
    prepare(made, BARS)
    made.count = 99
    again = made.fresh()
    assert again.parameters == made.parameters
    assert "count" not in vars(again)


@given(
    ticks=st.lists(st.integers(1, 10**10), min_size=1, max_size=20),
    tick=st.sampled_from(["0.01", "0.05", "0.25", "0.00001", "1", "5", "0.5", "10"]),
)
def test_a_price_is_the_float_nearest_to_the_decimal(ticks, tick):
    market = Instrument(
        symbol="A/B",
        exchange_symbol="AB",
        base="A",
        quote="B",
        tick_size=Decimal(tick),
        lot_size=Decimal("0.001"),
    )
    column = numpy.array(ticks)
    bars = Bars(
        instrument=market,
        interval_ms=1,
        open_time_ms=numpy.arange(len(ticks)),
        open=column,
        high=column,
        low=column,
        close=column,
        volume=column,
    )
    series = bar_series(bars)
    assert series["close"].tolist() == [float(market.price_from_ticks(one)) for one in ticks]
    assert series["volume"].tolist() == [float(market.quantity_from_lots(one)) for one in ticks]


def test_in_on_bar_a_series_is_what_has_been_seen_so_far():
    made = Base()
    prepared = prepare(made, BARS)
    whole = BARS.close / 100
    history = History(made, prepared.series)
    history.advance_to(10)
    assert (len(made.close), made.close[-1], made.close[10]) == (11, whole[10], whole[10])
    assert made.index == 10
    with pytest.raises(IndexError):
        made.close[11]
    history.advance_to(11)
    assert made.close[-2:] == whole[10:12].tolist()
    history.advance_to(50)
    assert made.close == whole[:51].tolist()
    assert made.mean[-1] == prepared.series["mean"][50]
    assert type(made.close[-1]) is float
    assert type(made.time[-1]) is int


def test_the_first_decision_follows_the_first_bar_with_all_indicators():
    assert prepare(Base(fast=20), BARS).first == 20

    class Waits(Base):
        warmup = 60

    assert prepare(Waits(), BARS).first == 60

    class Nothing(Strategy):
        pass

    assert prepare(Nothing(), BARS).first == 1

    class Never(Strategy):
        def prepare(self):
            self.empty = numpy.full(len(self.close), numpy.nan)

    assert prepare(Never(), BARS).first > len(BARS)


def test_arrays_of_other_libraries_and_kinds_are_series():
    class Kinds(Strategy):
        def prepare(self):
            self.from_polars = polars.Series(self.close).rolling_mean(5)
            self.whole = numpy.arange(len(self.close), dtype=numpy.int16)
            self.single = self.close.astype(numpy.float32)
            self.flags = self.close > self.open
            self.table = numpy.arange(3.0)
            self.mean = self.close.mean()

    made = Kinds()
    prepared = prepare(made, BARS)
    kinds = {name: prepared.series[name].dtype.kind for name in prepared.series}
    assert kinds["from_polars"] == kinds["single"] == "f"
    assert (kinds["whole"], kinds["flags"]) == ("i", "b")
    assert "table" not in kinds
    assert prepared.first == 5
    assert type(made.mean) is float


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda s: (s.close, s.open), "self.x is a tuple of 2 arrays"),
        (lambda s: numpy.zeros((len(s.close), 2)), "self.x has 2 dimensions"),
        (lambda s: numpy.array(["a"] * len(s.close)), "self.x is an array of <U1"),
    ],
)
def test_what_cannot_be_a_series_is_refused(value, message):
    class Odd(Strategy):
        def prepare(self):
            self.x = value(self)

    with pytest.raises(StrategyError) as refused:
        prepare(Odd(), BARS)
    assert message in str(refused.value)


def test_the_bars_cannot_be_changed_or_replaced():
    class Writes(Strategy):
        def prepare(self):
            self.close[0] = 1.0

    class Replaces(Strategy):
        def prepare(self):
            self.close = 1.0

    with pytest.raises(ValueError, match="read-only"):
        prepare(Writes(), BARS)
    with pytest.raises(StrategyError, match=r"Replaces\.prepare\(\) replaced self\.close"):
        prepare(Replaces(), BARS)


def test_a_misspelt_name_is_answered_with_a_guess():
    made = Base()
    with pytest.raises(AttributeError, match=r"self\.close is there in prepare\(\) and on_bar"):
        _ = made.close
    History(made, prepare(made, BARS).series).advance_to(5)
    with pytest.raises(AttributeError, match=r"self\.maen is not set .*; did you mean self\.mean"):
        _ = made.maen


def test_an_order_is_what_its_words_say():
    nan = pytest.approx(float("nan"), nan_ok=True)
    shapes = {
        (): (fills.MARKET, nan, nan, 0),
        ("limit",): (fills.LIMIT, 5.0, nan, 0),
        ("stop",): (fills.STOP, nan, 6.0, 0),
        ("limit", "stop"): (fills.STOP_LIMIT, 5.0, 6.0, 0),
        ("target",): (fills.TAKE_PROFIT, nan, 7.0, 0),
        ("limit", "target"): (fills.TAKE_PROFIT_LIMIT, 5.0, 7.0, 0),
        ("trail",): (fills.STOP, nan, nan, 20_000),
        ("limit", "trail"): (fills.STOP_LIMIT, 5.0, nan, 20_000),
    }
    values = {"limit": 5.0, "stop": 6.0, "target": 7.0, "trail": 0.02}
    for words, expected in shapes.items():
        arguments = [values[word] if word in words else None for word in values]
        assert order_shape(*arguments, "GTC", post_only=False) == (*expected, 1)
    assert order_shape(5.0, None, None, None, "GTC", post_only=True)[0] == fills.LIMIT_MAKER
    assert order_shape(5.0, None, None, None, "IOC", post_only=False)[4] == 2
    assert order_shape(5.0, None, None, None, "FOK", post_only=False)[4] == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"tif": "DAY"}, "tif is GTC, IOC or FOK, not DAY"),
        ({"stop": 1.0, "target": 1.0}, "one of stop, target and trail"),
        ({"stop": 1.0, "trail": 0.1}, "one of stop, target and trail"),
        ({"post_only": True}, "post_only needs a limit"),
        ({"post_only": True, "limit": 1.0, "stop": 1.0}, "post_only needs a limit"),
        ({"tif": "IOC"}, "tif=IOC needs a limit"),
        ({"tif": "FOK", "limit": 1.0, "post_only": True}, "tif=FOK needs a limit"),
    ],
)
def test_words_that_contradict_each_other_are_refused(words, message):
    given_ = {"limit": None, "stop": None, "target": None, "trail": None, "tif": "GTC"} | words
    given_.setdefault("post_only", False)
    with pytest.raises(InvalidOrderError, match=message):
        order_shape(**given_)


@pytest.mark.parametrize("number", [0.0, -1.0, float("nan"), float("inf"), -float("inf")])
def test_an_amount_or_price_that_is_no_positive_number_is_refused(number):
    with pytest.raises(InvalidOrderError, match="amount is"):
        checked("amount", number)
    with pytest.raises(InvalidOrderError, match="trail is"):
        trailing_ppm(number)


def test_a_trailing_distance_is_rounded_to_millionths():
    assert trailing_ppm(0.02) == 20_000
    assert trailing_ppm(0.0000014) == 1
    for none in (1.0, 1e-9, 0.9999999):
        with pytest.raises(InvalidOrderError):
            trailing_ppm(none)

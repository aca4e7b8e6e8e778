import itertools
import math
from collections.abc import Mapping

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagbot.domain.errors import ConfigError, StrategyError
from bagbot.trading.strategy import Strategy, Value
from bagbot.trading.sweep_grid import Grid


class Tuned(Strategy):
    fast: int = 10
    slow: int = 50
    size: float = 1.0
    shorts: bool = False


def fast_is_faster(parameters: Mapping[str, Value]) -> bool:
    return parameters["fast"] < parameters["slow"]


def combinations(grid: Grid, numbers) -> list[tuple[Value, ...]]:
    return [tuple(grid.combination(int(number)).values()) for number in numbers]


@given(
    st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True),
    st.lists(st.integers(1, 99), min_size=1, max_size=5, unique=True),
    st.lists(st.booleans(), min_size=1, max_size=2, unique=True),
)
def test_every_combination_is_there_once_and_the_last_varies_fastest(fast, slow, shorts):
    grid = Grid(Tuned, {"fast": fast, "slow": slow, "shorts": shorts})
    expected = list(itertools.product(fast, slow, shorts))
    assert combinations(grid, grid.chosen(None, None, 0)) == expected
    assert grid.size == len(expected)


def test_where_keeps_what_it_says():
    grid = Grid(Tuned, {"fast": range(1, 20), "slow": range(1, 20)})
    found = combinations(grid, grid.chosen(fast_is_faster, None, 0))
    assert found == [(f, s) for f in range(1, 20) for s in range(1, 20) if f < s]


@given(st.integers(0, 2**32), st.integers(1, 120))
def test_a_sample_is_without_repeats_and_ascends(seed, samples):
    grid = Grid(Tuned, {"fast": range(1, 11), "slow": range(1, 11)})
    numbers = list(grid.chosen(None, samples, seed))
    assert len(set(numbers)) == min(samples, 100)
    assert numbers == sorted(numbers)
    assert set(numbers) <= set(range(100))


@given(st.integers(0, 2**32))
def test_a_sample_keeps_to_where_and_is_the_same_for_the_same_seed(seed):
    grid = Grid(Tuned, {"fast": range(1, 100), "slow": range(1, 100)})
    numbers = grid.chosen(fast_is_faster, 50, seed)
    assert all(fast_is_faster(grid.combination(int(number))) for number in numbers)
    assert list(grid.chosen(fast_is_faster, 50, seed)) == list(numbers)
    assert len(set(numbers.tolist())) == 50


def test_another_seed_is_another_sample():
    grid = Grid(Tuned, {"fast": range(1, 1000)})
    assert list(grid.chosen(None, 20, 1)) != list(grid.chosen(None, 20, 2))


def test_the_sample_of_a_seed_stays_what_it_is():
    grid = Grid(Tuned, {"fast": range(1, 1001)})
    # The first numbers of random.Random(7).random(), which Python promises to keep.
    drawn = (0.32383276, 0.15084917, 0.65093447, 0.07243629)
    assert list(grid.chosen(None, 4, 7)) == sorted(int(each * 1000) for each in drawn)


def test_hardly_anything_that_where_keeps_is_found_all_the_same():
    grid = Grid(Tuned, {"fast": range(1, 500), "slow": range(1, 500)})
    numbers = grid.chosen(lambda p: p["fast"] == p["slow"] == 250 or p["fast"] > 497, 100, 1)
    assert len(set(numbers.tolist())) == 100
    assert list(numbers) == sorted(numbers)


def test_a_huge_grid_costs_nothing_until_it_is_asked():
    grid = Grid(Tuned, {"fast": range(1, 10**6), "slow": range(1, 10**6)})
    numbers = grid.chosen(fast_is_faster, 1000, 3)
    assert len(numbers) == 1000


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "at least one parameter"),
        ({"fats": [1]}, r"Tuned has no parameter fats; did you mean fast\?"),
        ({"fast": []}, "parameter fast has no values"),
        ({"fast": range(0)}, "parameter fast has no values"),
        ({"fast": 5}, "parameter fast needs a list of values, not 5"),
        ({"fast": "5"}, "parameter fast needs a list of values, not '5'"),
        ({"fast": [5, 6, 5]}, "parameter fast has the value 5 twice"),
        ({"fast": itertools.count()}, "parameter fast has more than 1000000 values"),
        (
            {"fast": range(10**6), "slow": range(10**6), "size": range(1, 10**6)},
            "more than can be numbered",
        ),
    ],
)
def test_a_bad_grid_is_refused_by_name(values, told):
    with pytest.raises(ConfigError, match=told):
        Grid(Tuned, values)


@pytest.mark.parametrize(
    ("name", "value"),
    [("fast", 5.5), ("fast", True), ("fast", "x"), ("shorts", 1), ("size", math.nan)],
)
def test_a_value_of_another_kind_is_refused_with_the_place_of_its_declaration(name, value):
    with pytest.raises(StrategyError, match=rf"parameter {name} .*test_sweep_grid.py:\d+"):
        Grid(Tuned, {name: [value]})


def test_numpy_values_become_what_was_declared():
    grid = Grid(Tuned, {"fast": numpy.arange(3, 5), "size": numpy.array([0.5, 2.0])})
    first = grid.combination(0)
    assert first == {"fast": 3, "size": 0.5}
    assert type(first["fast"]) is int
    assert type(first["size"]) is float


def test_what_leaves_nothing_is_refused():
    grid = Grid(Tuned, {"fast": [5], "slow": [4]})
    with pytest.raises(ConfigError, match="leaves none of the 1 combinations"):
        grid.chosen(fast_is_faster, None, 0)
    with pytest.raises(ConfigError, match="at least one sample, not 0"):
        grid.chosen(None, 0, 0)


def test_samples_of_too_little_in_too_much_are_refused():
    grid = Grid(Tuned, {"fast": range(1, 10**5), "slow": range(1, 10**5)})
    with pytest.raises(ConfigError, match="hardly any of the"):
        grid.chosen(lambda p: False, 3, 0)

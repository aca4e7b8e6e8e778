"""Which combinations of parameters a sweep runs, in which order: a grid, or a sample of one."""

import hashlib
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

import numpy
from numpy.typing import NDArray

from bagbot.domain.errors import ConfigError
from bagbot.trading.strategy import Parameter, Strategy, Value, did_you_mean

Where = Callable[[Mapping[str, Value]], bool]

COMBINATIONS_MAX: Final = 2**53
"""More can't be numbered by what draws the samples; nobody can run them either."""

_DRAWS_PER_SAMPLE: Final = 100
_LISTED_MAX: Final = 10_000_000
_VALUES_MAX: Final = 1_000_000


class Grid:
    """Every combination of the values of some parameters, numbered; the last one varies fastest.

    The values are checked as the strategy declares them. Combinations are made when they are asked
    for, so that a grid takes no more memory than its values.

    Raises ConfigError for a parameter that the strategy has not, for no values, a value twice, or
    what is no list of values; StrategyError for a value of another kind than declared.
    """

    def __init__(
        self, strategy: type[Strategy], values: Mapping[str, Iterable[object] | object]
    ) -> None:
        if not values:
            raise ConfigError("a sweep needs at least one parameter with values to try")
        self.kinds: Mapping[str, Parameter] = {name: _declared(strategy, name) for name in values}
        self.values: dict[str, Sequence[Value]] = {
            name: _checked(strategy, self.kinds[name], given) for name, given in values.items()
        }
        self.size = math.prod(len(each) for each in self.values.values())
        if self.size > COMBINATIONS_MAX:
            raise ConfigError(f"{self.size} combinations are more than can be numbered")

    def combination(self, number: int) -> dict[str, Value]:
        """Return the parameters of the combination `number`, counted from 0."""
        found: dict[str, Value] = {}
        for name, values in reversed(self.values.items()):
            number, at = divmod(number, len(values))
            found[name] = values[at]
        return {name: found[name] for name in self.values}

    def chosen(
        self, where: Where | None, samples: int | None, seed: int
    ) -> range | NDArray[numpy.int64]:
        """Return the numbers to run, ascending: those that `where` keeps, or a sample of them.

        A sample has no combination twice, and is the same for the same seed; it is everything
        when there are no more combinations than it asks for.

        Raises ConfigError when nothing is left, or `samples` is not positive.
        """
        if samples is not None and samples < 1:
            raise ConfigError(f"a random sweep needs at least one sample, not {samples}")
        if where is None and (samples is None or samples >= self.size):
            return range(self.size)
        numbers = None if samples is None else self._drawn(where, samples, seed)
        if numbers is None:
            numbers = self._kept(where)
            if samples is not None and samples < len(numbers):
                # Rejection took too long: so few are kept that they can be listed and shuffled.
                shuffled = sorted(numbers.tolist(), key=_order_by(seed))
                numbers = numpy.array(sorted(shuffled[:samples]), dtype=numpy.int64)
        if len(numbers) == 0:
            raise ConfigError(f"`where` leaves none of the {self.size} combinations")
        return numbers

    def _kept(self, where: Where | None) -> NDArray[numpy.int64]:
        kept = (n for n in range(self.size) if where is None or where(self.combination(n)))
        return numpy.fromiter(kept, dtype=numpy.int64)

    def _drawn(self, where: Where | None, samples: int, seed: int) -> NDArray[numpy.int64] | None:
        """Return a sample by drawing until it is full; None when that takes too many draws."""
        if samples > self.size // 2:
            return None
        # Of all that `random` has, only `random()` is promised to give the same numbers for good.
        draw = random.Random(seed).random
        seen: set[int] = set()
        found: list[int] = []
        draws = (int(draw() * self.size) for _ in range(samples * _DRAWS_PER_SAMPLE))
        for number in draws:
            if number in seen:
                continue
            seen.add(number)
            if where is None or where(self.combination(number)):
                found.append(number)
                if len(found) == samples:
                    return numpy.array(sorted(found), dtype=numpy.int64)
        if self.size > _LISTED_MAX:
            raise ConfigError(
                f"`where` keeps hardly any of the {self.size} combinations; narrow the grid"
            )
        return None


def _declared(strategy: type[Strategy], name: str) -> Parameter:
    if name not in strategy.declared:
        hint = did_you_mean(name, strategy.declared)
        raise ConfigError(f"{strategy.__name__} has no parameter {name}{hint}")
    return strategy.declared[name]


def _checked(
    strategy: type[Strategy], parameter: Parameter, given: Iterable[object] | object
) -> Sequence[Value]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise ConfigError(f"parameter {parameter.name} needs a list of values, not {given!r}")
    if isinstance(given, range) and parameter.kind is int:
        values: Sequence[Value] = given
    else:
        values = tuple(
            parameter.checked(value, strategy) for value in islice(given, _VALUES_MAX + 1)
        )
    if len(values) == 0:
        raise ConfigError(f"parameter {parameter.name} has no values to try")
    if len(values) > _VALUES_MAX:
        raise ConfigError(f"parameter {parameter.name} has more than {_VALUES_MAX} values")
    if not isinstance(values, range) and len(set(values)) < len(values):
        twice = next(value for at, value in enumerate(values) if value in values[:at])
        raise ConfigError(f"parameter {parameter.name} has the value {twice!r} twice")
    return values


def _order_by(seed: int) -> Callable[[int], bytes]:
    return lambda number: hashlib.sha256(f"{seed} {number}".encode()).digest()

"""A seeded, invented market: a random walk that is drawn home, under the conditions it is told.

The walk's random numbers depend on the seed and the grid alone. Conditions only shift its path,
so that the same seed and the same conditions at the same market times give the same points.
"""

import math
import random
from collections.abc import Iterator

from bagbot.domain.errors import ConfigError
from bagbot.simulator.amounts import nearest_multiple, quote_amount
from bagbot.simulator.candles import Candle
from bagbot.simulator.market import AS_USUAL, MINUTE_MS, MarketProfile, Point, Quoting
from bagbot.simulator.market_conditions import Condition, ConditionKind
from bagbot.simulator.symbols import SymbolRules

_HISTORY_CANDLES = 1_500
# One standard deviation of a minute's return, and how strongly the price is drawn home per step.
_MINUTE_DEVIATION = 0.0004
_REVERSION = 0.0002
_HOUR_MS = 60 * MINUTE_MS
_CONDITIONS_MAX = 1_000


class SyntheticMarket:
    """A random walk that is drawn back to where it began, on a fixed grid of market time."""

    kind = "synthetic"
    is_tape = False

    def __init__(
        self,
        rules: SymbolRules,
        profile: MarketProfile,
        *,
        seed: int,
        start_ms: int,
        step_ms: int,
        price: int | None = None,
    ) -> None:
        self.base_ms = MINUTE_MS
        self._rules = rules
        self._profile = profile
        self._random = random.Random(f"{seed}:{rules.symbol}")
        self._start_ms = start_ms
        self._step_ms = step_ms
        self._next_ms = start_ms
        # The last point's time, and how far the market has been played.
        self._point_ms = start_ms - 1
        self._now_ms = start_ms - 1
        price = price if price is not None else profile.start_price
        # The walk is not rounded, or a small trend would be lost between two ticks.
        self._level = self._home = math.log(price)
        self._level_min = math.log(100 * rules.tick)
        self._level_max = math.log(rules.price_max)
        self._conditions: list[Condition] = []
        self._history = self._walk_back(price, _HISTORY_CANDLES)

    @property
    def is_over(self) -> bool:
        """Return False: the walk never ends."""
        return False

    @property
    def quoting(self) -> Quoting:
        """Return what the market quotes now; of several thin books the latest told counts."""
        now = [each for each in self._conditions if each.start_ms <= self._now_ms < each.end_ms]
        if any(each.kind is ConditionKind.HALT for each in now):
            return Quoting(is_halted=True)
        for each in reversed(now):
            if each.kind is ConditionKind.THIN:
                return Quoting(int(each.depth_percent * 10_000), each.spread_ticks)
        return AS_USUAL

    @property
    def conditions(self) -> list[Condition]:
        """Return the conditions in force and to come, in the order they were told."""
        return [each for each in self._conditions if each.end_ms > self._now_ms]

    def history(self) -> list[Candle]:
        """Return the minutes before the start, invented as well."""
        return self._history

    def add(self, condition: Condition) -> Condition:
        """Take on a condition and return it; what has been played already cannot change.

        Raises ConfigError when there are too many.
        """
        if len(self.conditions) >= _CONDITIONS_MAX:
            raise ConfigError(f"there are {_CONDITIONS_MAX} conditions already")
        condition = condition.delayed(max(self._now_ms + 1 - condition.start_ms, 0))
        self._conditions.append(condition)
        return condition

    def clear(self) -> None:
        """End every condition. Where the price has gone, it stays."""
        self._level += self._out_of_way(self._now_ms)
        self._home += self._out_of_way(self._now_ms)
        self._conditions.clear()

    def move_to(self, price: int) -> None:
        """Go on from `price`, which is home from now on."""
        self._level = self._home = math.log(price) - self._out_of_way(self._now_ms)

    def points(self, until_ms: int) -> Iterator[Point]:
        """Yield the points not yet yielded, up to and including `until_ms`."""
        while (time_ms := self._next_point_ms()) <= until_ms:
            point = self._point_at(time_ms)
            if not self.quoting.is_halted:
                yield point
        self._now_ms = max(self._now_ms, until_ms)
        # What is left of a trend after the newest point is still to be walked.
        self._conditions = [each for each in self._conditions if each.end_ms > self._point_ms]

    def _next_point_ms(self) -> int:
        """Return when the next point is: on the grid, or where a gap or a spike turns."""
        turns = [self._next_ms]
        for each in self._conditions:
            if each.kind is ConditionKind.GAP:
                turns.append(each.start_ms)
            elif each.kind is ConditionKind.SPIKE:
                turns += [each.middle_ms, each.end_ms]
        return min(turn for turn in turns if turn > self._point_ms)

    def _point_at(self, time_ms: int) -> Point:
        self._shift(self._point_ms, time_ms)
        self._point_ms = self._now_ms = time_ms
        quantity, buyer_is_maker = self._rules.lot, False
        if time_ms == self._next_ms:
            self._next_ms += self._step_ms
            deviation = _MINUTE_DEVIATION * math.sqrt(self._step_ms / MINUTE_MS)
            pull = _REVERSION * (self._home - self._level)
            self._level = self._bounded(self._level + self._random.gauss(pull, deviation))
            quantity = self._some_quantity(self._step_ms)
            buyer_is_maker = self._random.random() < 0.5
        price = self._on_tick(math.exp(self._bounded(self._level + self._out_of_way(time_ms))))
        return Point(time_ms, price, quantity, buyer_is_maker, None)

    def _shift(self, after_ms: int, until_ms: int) -> None:
        """Move the walk and its home by what trends and gaps make of a span."""
        shift = 0.0
        for each in self._conditions:
            if each.kind is ConditionKind.TREND:
                lasts_ms = min(until_ms, each.end_ms) - max(after_ms, each.start_ms)
                shift += _logarithm(each) * max(lasts_ms, 0) / _HOUR_MS
            elif each.kind is ConditionKind.GAP and after_ms < each.start_ms <= until_ms:
                shift += _logarithm(each)
        self._level = self._bounded(self._level + shift)
        self._home = self._bounded(self._home + shift)

    def _out_of_way(self, time_ms: int) -> float:
        """Return how far spikes hold the price off the walk."""
        away = 0.0
        for each in self._conditions:
            if each.kind is ConditionKind.SPIKE and each.start_ms < time_ms < each.end_ms:
                if time_ms <= each.middle_ms:
                    share = (time_ms - each.start_ms) / (each.middle_ms - each.start_ms)
                else:
                    share = (each.end_ms - time_ms) / (each.end_ms - each.middle_ms)
                away += _logarithm(each) * share
        return away

    def _bounded(self, level: float) -> float:
        return min(max(level, self._level_min), self._level_max)

    def _on_tick(self, price: float) -> int:
        rules = self._rules
        highest = rules.price_max // rules.tick * rules.tick
        return min(max(nearest_multiple(int(price), rules.tick), 100 * rules.tick), highest)

    def _moved(self, price: int, logarithm: float) -> int:
        return self._on_tick(price * math.exp(logarithm))

    def _some_quantity(self, duration_ms: int) -> int:
        scale = self._profile.level_quantity * duration_ms / 10_000
        quantity = int(self._random.expovariate(1.0) * scale)
        return max(quantity // self._rules.lot * self._rules.lot, self._rules.lot)

    def _walk_back(self, close: int, count: int) -> list[Candle]:
        candles: list[Candle] = []
        first_open_ms = self._start_ms // MINUTE_MS * MINUTE_MS
        for index in range(1, count + 1):
            opened = self._moved(close, self._random.gauss(0, _MINUTE_DEVIATION))
            reach = abs(self._random.gauss(0, _MINUTE_DEVIATION))
            quantity = self._some_quantity(MINUTE_MS)
            cost = quote_amount(price=(opened + close) // 2, quantity=quantity)
            candles.append(
                Candle(
                    open_ms=first_open_ms - index * MINUTE_MS,
                    open=opened,
                    high=self._moved(max(opened, close), reach),
                    low=self._moved(min(opened, close), -reach),
                    close=close,
                    volume=quantity,
                    quote_volume=cost,
                    trade_count=1,
                    taker_buy_volume=quantity // 2,
                    taker_buy_quote=cost // 2,
                )
            )
            close = opened
        return candles[::-1]


def _logarithm(condition: Condition) -> float:
    """Return how far the price goes, as a logarithm."""
    return math.log1p(float(condition.percent) / 100)

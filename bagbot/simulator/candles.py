"""Bars built from the market's tape, and bars of longer intervals built from those.

A base candle is stamped in market time. The wire shows candles `offset_ms` later, and longer
intervals are cut on the wire's time, where clients expect hours and days to begin.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from bagbot.simulator.amounts import quote_amount

_MINUTE_MS = 60_000
_DAY_MS = 24 * 60 * _MINUTE_MS

INTERVALS_MS = {
    "1s": 1_000,
    "1m": _MINUTE_MS,
    "3m": 3 * _MINUTE_MS,
    "5m": 5 * _MINUTE_MS,
    "15m": 15 * _MINUTE_MS,
    "30m": 30 * _MINUTE_MS,
    "1h": 60 * _MINUTE_MS,
    "2h": 120 * _MINUTE_MS,
    "4h": 240 * _MINUTE_MS,
    "6h": 360 * _MINUTE_MS,
    "8h": 480 * _MINUTE_MS,
    "12h": 720 * _MINUTE_MS,
    "1d": _DAY_MS,
    "3d": 3 * _DAY_MS,
    "1w": 7 * _DAY_MS,
    # A month has no fixed length; this one is only compared, never added.
    "1M": 28 * _DAY_MS,
}

# The epoch was a Thursday and Binance's weeks begin on Monday.
_FIRST_MONDAY_MS = 4 * _DAY_MS


def interval_bounds(time_ms: int, interval: str, zone_ms: int = 0) -> tuple[int, int]:
    """Return the open of the interval that `time_ms` is in, and of the one after it.

    Days begin at midnight `zone_ms` ahead of UTC; the times themselves are always UTC.
    """
    if zone_ms:
        opens_ms, next_ms = interval_bounds(time_ms + zone_ms, interval)
        return opens_ms - zone_ms, next_ms - zone_ms
    if interval == "1M":
        moment = datetime.fromtimestamp(time_ms / 1_000, UTC)
        opens = datetime(moment.year, moment.month, 1, tzinfo=UTC)
        following = datetime(moment.year + moment.month // 12, moment.month % 12 + 1, 1, tzinfo=UTC)
        return int(opens.timestamp()) * 1_000, int(following.timestamp()) * 1_000
    length = INTERVALS_MS[interval]
    origin = _FIRST_MONDAY_MS if interval == "1w" else 0
    opens_ms = (time_ms - origin) // length * length + origin
    return opens_ms, opens_ms + length


@dataclass(slots=True)
class Candle:
    """One bar. Amounts are in 1e-8; `open_ms` is market time in base candles."""

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    quote_volume: int = 0
    trade_count: int = 0
    taker_buy_volume: int = 0
    taker_buy_quote: int = 0
    first_trade_id: int = -1
    last_trade_id: int = -1

    def add(self, *, price: int, quantity: int, buyer_is_maker: bool, trade_id: int) -> None:
        """Count one trade in."""
        self.high = max(self.high, price)
        self.low = min(self.low, price)
        self.close = price
        if quantity == 0:
            return
        cost = quote_amount(price=price, quantity=quantity)
        self.volume += quantity
        self.quote_volume += cost
        self.trade_count += 1
        if not buyer_is_maker:
            self.taker_buy_volume += quantity
            self.taker_buy_quote += cost
        if self.first_trade_id < 0:
            self.first_trade_id = trade_id
        self.last_trade_id = trade_id

    def merge(self, later: "Candle") -> None:
        """Count a later candle in."""
        self.high = max(self.high, later.high)
        self.low = min(self.low, later.low)
        self.close = later.close
        self.volume += later.volume
        self.quote_volume += later.quote_volume
        self.trade_count += later.trade_count
        self.taker_buy_volume += later.taker_buy_volume
        self.taker_buy_quote += later.taker_buy_quote
        if self.first_trade_id < 0:
            self.first_trade_id = later.first_trade_id
        if later.last_trade_id >= 0:
            self.last_trade_id = later.last_trade_id

    def copy_at(self, open_ms: int) -> "Candle":
        """Return a copy with another opening time."""
        return Candle(
            open_ms,
            self.open,
            self.high,
            self.low,
            self.close,
            self.volume,
            self.quote_volume,
            self.trade_count,
            self.taker_buy_volume,
            self.taker_buy_quote,
            self.first_trade_id,
            self.last_trade_id,
        )


class CandleSeries:
    """The base candles of one symbol: the closed ones, bounded, and the one being built."""

    def __init__(self, base_ms: int, history: Iterable[Candle] = (), *, length_max: int) -> None:
        self.base_ms = base_ms
        self._length_max = length_max
        self._closed = list(history)[-length_max:]
        self._current: Candle | None = None

    def add(
        self,
        time_ms: int,
        *,
        price: int,
        quantity: int,
        buyer_is_maker: bool,
        trade_id: int,
    ) -> None:
        """Count one trade in. `roll` must have been called up to its time."""
        if self._current is None:
            self._current = Candle(
                time_ms // self.base_ms * self.base_ms, price, price, price, price
            )
        self._current.add(
            price=price, quantity=quantity, buyer_is_maker=buyer_is_maker, trade_id=trade_id
        )

    def roll(self, time_ms: int) -> Candle | None:
        """Close the candle being built if its time is over, and return it."""
        candle = self._current
        if candle is None or time_ms < candle.open_ms + self.base_ms:
            return None
        self._closed.append(candle)
        self._current = None
        # Trimmed in large pieces: deleting from the front of a list moves all of it.
        if len(self._closed) > 2 * self._length_max:
            del self._closed[: -self._length_max]
        return candle

    @property
    def is_building(self) -> bool:
        """Return whether a base candle has begun and not ended."""
        return self._current is not None

    def serves(self, interval: str) -> bool:
        """Return whether the interval exists and can be built from base candles."""
        length = INTERVALS_MS.get(interval)
        return length is not None and length >= self.base_ms and length % self.base_ms == 0

    def since(self, open_ms: int) -> list[Candle]:
        """Return the base candles that open at `open_ms` or later, with the one being built."""
        start = bisect_left(self._closed, open_ms, key=lambda candle: candle.open_ms)
        candles = self._closed[start:]
        if self._current is not None and self._current.open_ms >= open_ms:
            candles.append(self._current)
        return candles

    def latest(self) -> Candle | None:
        """Return the newest base candle, closed or not."""
        if self._current is not None:
            return self._current
        return self._closed[-1] if self._closed else None

    def aggregate(
        self,
        interval: str,
        *,
        offset_ms: int,
        start_ms: int | None,
        end_ms: int | None,
        limit: int,
        zone_ms: int = 0,
    ) -> list[Candle]:
        """Return candles of `interval` in wire time, oldest first.

        With `start_ms` the oldest `limit` from there, else the newest `limit` up to `end_ms`.
        Both bounds are compared with the opening time.
        """
        newest = self.latest()
        if newest is None:
            return []
        first_ms = start_ms
        if first_ms is None:
            last_ms = newest.open_ms + offset_ms
            last_ms = last_ms if end_ms is None else min(last_ms, end_ms)
            span = INTERVALS_MS[interval] if interval != "1M" else 31 * _DAY_MS
            first_ms = last_ms - limit * span
        result: list[Candle] = []
        for candle in self.since(first_ms - offset_ms - INTERVALS_MS[interval] * 2):
            opens_ms, _ = interval_bounds(candle.open_ms + offset_ms, interval, zone_ms)
            if opens_ms < first_ms and start_ms is not None:
                continue
            if end_ms is not None and opens_ms > end_ms:
                break
            if result and result[-1].open_ms == opens_ms:
                result[-1].merge(candle)
            elif start_ms is not None and len(result) == limit:
                break
            else:
                result.append(candle.copy_at(opens_ms))
        return result[-limit:]

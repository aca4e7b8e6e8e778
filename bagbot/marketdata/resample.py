"""Longer bars from shorter ones."""

import numpy

from bagbot.domain.bars import Bars
from bagbot.domain.errors import DataError
from bagbot.domain.ohlcv import origin_ms, timeframe_of


def resample(bars: Bars, interval_ms: int) -> Bars:
    """Return bars of a longer interval, cut where exchanges cut them (weeks on Monday).

    A long bar is made of those short ones that there are. The first and the last are left out
    unless the short ones begin, and end, where they do: the exchange's would be others.

    Raises DataError when one interval is not a multiple of the other.
    """
    if interval_ms <= 0 or interval_ms % bars.interval_ms:
        raise DataError(
            f"{bars.instrument.symbol}: bars of {timeframe_of(bars.interval_ms)} do not add up to "
            f"bars of {interval_ms} ms"
        )
    origin = origin_ms(interval_ms)
    opens = (bars.open_time_ms - origin) // interval_ms * interval_ms + origin
    first = 0
    last = len(bars)
    if last and bars.open_time_ms[0] != opens[0]:
        first = int(numpy.searchsorted(opens, opens[0], side="right"))
    if last and bars.open_time_ms[-1] + bars.interval_ms != opens[-1] + interval_ms:
        last = int(numpy.searchsorted(opens, opens[-1], side="left"))
    whole = bars[first : max(first, last)]
    opens = opens[first : max(first, last)]
    starts = numpy.flatnonzero(numpy.diff(opens, prepend=-1))
    if not len(starts):
        return _bars_like(bars, interval_ms, [whole.open_time_ms] * 6)
    ends = numpy.append(starts[1:], len(whole)) - 1
    columns = [
        opens[starts],
        whole.open[starts],
        numpy.maximum.reduceat(whole.high, starts),
        numpy.minimum.reduceat(whole.low, starts),
        whole.close[ends],
        numpy.add.reduceat(whole.volume, starts),
    ]
    return _bars_like(bars, interval_ms, columns)


def _bars_like(bars: Bars, interval_ms: int, columns: list[numpy.ndarray]) -> Bars:
    open_time_ms, open_, high, low, close, volume = columns
    return Bars(
        instrument=bars.instrument,
        interval_ms=interval_ms,
        open_time_ms=open_time_ms,
        open=open_,
        high=high,
        low=low,
        close=close,
        volume=volume,
    )

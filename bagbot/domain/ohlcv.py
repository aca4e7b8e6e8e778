"""A bar as an exchange tells it, and how long it is: "1m", "4h", "1d" in CCXT's words."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from bagbot.domain.errors import DataError

_UNITS_MS: Final = {
    "s": 1_000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 7 * 86_400_000,
}
_TIMEFRAME: Final = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
# The epoch was a Thursday, and weeks begin on Monday.
_FIRST_MONDAY_MS: Final = 4 * _UNITS_MS["d"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ohlcv:
    """One bar as the exchange tells it; `volume` is in the base asset.

    `open_time_ms` is UTC. It does not say whether it has closed.
    """

    open_time_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


def timeframe_ms(timeframe: str) -> int:
    """Return the length of a timeframe in milliseconds.

    Raises DataError when it is none, and for months, which are not all of one length.

    >>> timeframe_ms("5m")
    300000
    """
    match = _TIMEFRAME.fullmatch(timeframe)
    if match is None:
        raise DataError(
            f"{timeframe!r} is no timeframe: say a number and one of s, m, h, d, w, as in 5m "
            f"(a month has no fixed length)"
        )
    return int(match[1]) * _UNITS_MS[match[2]]


def timeframe_of(interval_ms: int) -> str:
    """Return the timeframe of so many milliseconds, in the largest unit that fits.

    >>> timeframe_of(86_400_000), timeframe_of(90_000)
    ('1d', '90s')
    """
    for unit, unit_ms in reversed(_UNITS_MS.items()):
        if interval_ms > 0 and interval_ms % unit_ms == 0:
            return f"{interval_ms // unit_ms}{unit}"
    raise DataError(f"an interval of {interval_ms} ms is not a whole number of seconds")


def origin_ms(interval_ms: int) -> int:
    """Return a time at which bars of this length open, as exchanges cut them: weeks on Monday."""
    return _FIRST_MONDAY_MS if interval_ms % _UNITS_MS["w"] == 0 else 0

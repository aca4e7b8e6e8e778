"""In which unit the times of an answer are printed: milliseconds, or microseconds on request.

The unit belongs to the answer being built, and building one never waits, so it is set around the
building instead of being handed through every message.
"""

from contextvars import ContextVar, Token
from enum import IntEnum

from bagbot.simulator.binance_errors import BinanceError


class TimeUnit(IntEnum):
    """A unit a client can ask for; the value is its length in nanoseconds."""

    MILLISECOND = 1_000_000
    MICROSECOND = 1_000


_unit: ContextVar[TimeUnit] = ContextVar("time unit", default=TimeUnit.MILLISECOND)
_NAMES = {name: unit for unit in TimeUnit for name in (unit.name, unit.name.lower())}


def read_time_unit(name: str | None) -> TimeUnit:
    """Return the unit a client has asked for, milliseconds by default. Raises BinanceError."""
    if name is None:
        return TimeUnit.MILLISECOND
    if name not in _NAMES:
        raise BinanceError(
            -1194, "Invalid value for time unit; expected either MICROSECOND or MILLISECOND."
        )
    return _NAMES[name]


def printed_in(unit: TimeUnit) -> "_Printing":
    """Print the times of everything built inside in `unit`."""
    return _Printing(unit)


class _Printing:
    __slots__ = ("_token", "_unit")

    def __init__(self, unit: TimeUnit) -> None:
        self._unit = unit

    def __enter__(self) -> None:
        self._token: Token[TimeUnit] = _unit.set(self._unit)

    def __exit__(self, *_: object) -> None:
        _unit.reset(self._token)


def printed_time(time_ns: int) -> int:
    """Return a time as the answer being built prints it.

    >>> printed_time(1_700_000_000_123_456_789)
    1700000000123
    >>> with printed_in(TimeUnit.MICROSECOND):
    ...     printed_time(1_700_000_000_123_456_789)
    1700000000123456
    """
    return time_ns // _unit.get()

"""The exchange's clock, kept by measuring it and counting on from there."""

import time
from typing import Final

_STALE_AFTER_S: Final = 600.0


class ServerClock:
    """What time it is at the exchange, in ms: the fence of an order is told in its time.

    It counts on by the monotonic clock, so that a step of this machine's clock changes nothing.
    """

    def __init__(self) -> None:
        self._server_ms_at_zero: float | None = None
        self._measured_at_s = 0.0
        self._is_trusted = False

    @property
    def is_measured(self) -> bool:
        """Whether the exchange was ever asked for its time."""
        return self._server_ms_at_zero is not None

    @property
    def is_stale(self) -> bool:
        """Whether it should be measured (again): clocks drift apart."""
        return not self._is_trusted or time.monotonic() - self._measured_at_s > _STALE_AFTER_S

    def distrust(self) -> None:
        """Learn that the exchange refused a timestamp: measure again before the next call."""
        self._is_trusted = False

    def measured(self, server_ms: int, *, asked_at_s: float, answered_at_s: float) -> None:
        """Learn that the exchange said `server_ms` halfway between question and answer."""
        halfway_s = (asked_at_s + answered_at_s) / 2
        self._server_ms_at_zero = server_ms - halfway_s * 1000
        self._measured_at_s = answered_at_s
        self._is_trusted = True

    def now_ms(self) -> int:
        """Return the time at the exchange; it must have been measured."""
        assert self._server_ms_at_zero is not None
        return int(self._server_ms_at_zero + time.monotonic() * 1000)

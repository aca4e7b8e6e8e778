"""Time is handed in: `Clock` is the seam, `ManualClock` the one for tests and simulations."""

from typing import Protocol


class Clock(Protocol):
    """Where the time comes from; the real one lives in app.py."""

    def time_ns(self) -> int:
        """Return nanoseconds since the Unix epoch, UTC."""
        ...

    def monotonic_ns(self) -> int:
        """Return nanoseconds that only ever grow, for durations."""
        ...


class ManualClock:
    """A clock that moves when told to."""

    def __init__(self, time_ns: int = 0) -> None:
        self._time_ns = time_ns
        self._monotonic_ns = 0

    def time_ns(self) -> int:
        """Return nanoseconds since the Unix epoch, as last set."""
        return self._time_ns

    def monotonic_ns(self) -> int:
        """Return how far `advance` has moved this clock, in nanoseconds."""
        return self._monotonic_ns

    def advance(self, duration_ns: int) -> None:
        """Move forward; time never goes back."""
        assert duration_ns >= 0, duration_ns
        self._time_ns += duration_ns
        self._monotonic_ns += duration_ns

"""The exchange's own clock, which an act of the venue can set wrong."""

from collections.abc import Callable

_MILLION = 1_000_000


class WireClock:
    """Wire time in nanoseconds: the true time, plus what the clock has been put off by."""

    def __init__(self, true_ns: Callable[[], int]) -> None:
        self._true_ns = true_ns
        self._offset_ns = 0
        self._slew_ppm = 0
        self._since_ns = 0

    def __call__(self) -> int:
        """Return the time this clock shows."""
        true_ns = self._true_ns()
        drift_ns = self._drift_ns(true_ns) if self._slew_ppm else 0
        return true_ns + self._offset_ns + drift_ns

    def true_s(self) -> float:
        """Return the true time in seconds: what lasts a while does not end by a clock's step."""
        return self._true_ns() / 1_000_000_000

    @property
    def offset_ns(self) -> int:
        """Return by how much the clock is ahead of the true time now."""
        return self._offset_ns + self._drift_ns(self._true_ns())

    def step(self, step_ns: int) -> None:
        """Put the clock forward, or back."""
        self._offset_ns += step_ns

    def slew(self, slew_ppm: int) -> None:
        """Let the clock gain so many microseconds per second from now on."""
        true_ns = self._true_ns()
        self._offset_ns += self._drift_ns(true_ns)
        self._since_ns = true_ns
        self._slew_ppm = slew_ppm

    def _drift_ns(self, true_ns: int) -> int:
        return (true_ns - self._since_ns) * self._slew_ppm // _MILLION

"""The real time. Nothing else in the engine asks the operating system for it."""

import time


class SystemClock:
    """The `Clock` of a running system."""

    def time_ns(self) -> int:
        """Return nanoseconds since the Unix epoch, UTC."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Return nanoseconds that only ever grow."""
        return time.monotonic_ns()

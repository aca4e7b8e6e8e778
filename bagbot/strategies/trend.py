"""Trend: long while a fast average is above a slow one."""

import talib

from bagbot import Strategy


class SmaCross(Strategy):
    """Buy when the fast average crosses above the slow one; sell when it falls below it."""

    fast: int = 20
    slow: int = 100
    share: float = 0.95
    """How much of the equity goes into a position."""

    def prepare(self) -> None:
        """Compute both averages."""
        self.fast_average = talib.SMA(self.close, self.fast)
        self.slow_average = talib.SMA(self.close, self.slow)

    def on_bar(self) -> None:
        """Enter on the cross, leave when the trend has turned."""
        is_above = self.fast_average[-1] > self.slow_average[-1]
        was_above = self.fast_average[-2] > self.slow_average[-2]
        if is_above and not was_above and self.position == 0:
            self.buy(self.share * self.cash / self.close[-1])
        elif not is_above and self.position > 0:
            self.close_position()

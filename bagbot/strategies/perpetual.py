"""Perpetual futures: breakouts both ways with a trailing stop; funding is paid as it falls due.

For `--market usdm`: on spot nothing can be sold that is not owned.
"""

import talib

from bagbot import Strategy


class Breakout(Strategy):
    """Follow a new high up and a new low down, as large as the market is calm."""

    length: int = 2_016
    risk: float = 0.002
    """How much of the equity a move of one average range is worth."""
    ranges: float = 20.0
    """How many average ranges the stop trails behind."""

    # The average range takes this long to forget where its record began.
    warmup = 10_000

    def prepare(self) -> None:
        """Compute the channel of the bars before each, and how far a bar usually ranges."""
        self.top = talib.MAX(self.high, self.length)
        self.bottom = talib.MIN(self.low, self.length)
        self.range = talib.ATR(self.high, self.low, self.close, self.length)

    def on_bar(self) -> None:
        """Enter on a breakout when flat; the stop takes the position out again."""
        if self.position != 0:
            return
        is_up = self.close[-1] > self.top[-2]
        is_down = self.close[-1] < self.bottom[-2]
        if not is_up and not is_down:
            return
        self.cancel_all()
        price = self.close[-1]
        amount = min(self.risk * self.equity / self.range[-1], 1.5 * self.equity / price)
        distance = min(self.ranges * self.range[-1] / price, 0.5)
        if is_up:
            entry = self.buy(amount)
            self.sell(amount, trail=distance, reduce_only=True, parent=entry)
        else:
            entry = self.sell(amount)
            self.buy(amount, trail=distance, reduce_only=True, parent=entry)

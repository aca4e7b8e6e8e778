"""Mean reversion: buy far below the average, with a stop and a target on every trade."""

import talib

from bagbot import Strategy

SMALLEST = 10.0
"""What a position must be worth to be one; exchanges take no smaller orders either."""


class BandReversion(Strategy):
    """Wait below the lower Bollinger band with a limit order that brings its own exits."""

    length: int = 48
    width: float = 3.0
    """How many standard deviations the band is away from the average."""
    risk: float = 0.01
    """How much of the equity a trade loses when its stop is hit, before costs."""
    stop_distance: float = 0.1

    def prepare(self) -> None:
        """Compute the bands, and remember that there is no entry yet."""
        _, self.middle, self.lower = talib.BBANDS(self.close, self.length, self.width, self.width)
        self.entry = 0

    def on_bar(self) -> None:
        """Move the entry along with the band; once in, the exits do the rest."""
        # A fee taken from what is bought leaves dust behind, which adds up over the trades.
        if self.position * self.close[-1] > SMALLEST:
            return
        if self.entry and self.is_open(self.entry):
            self.cancel(self.entry)
        price = self.lower[-1]
        stop = price * (1.0 - self.stop_distance)
        if self.middle[-1] <= price or self.close[-1] <= price:
            return
        amount = min(self.risk * self.equity / (price - stop), 0.95 * self.equity / price)
        if amount * price > SMALLEST:
            self.entry = self.buy(amount, limit=price, stop_loss=stop, take_profit=self.middle[-1])

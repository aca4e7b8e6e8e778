"""A strategy that uses every kind of order, as chance has it; the same chance for the same seed."""

from typing import ClassVar

import numpy

from bagbot.trading.strategy import Strategy


class EveryOrder(Strategy):
    """Trades around the last close, far too often, in every way that there is on spot."""

    seed: int = 1

    def prepare(self) -> None:
        # Drawn bar by bar, so that more bars change nothing about the earlier ones.
        chance = numpy.random.default_rng(self.seed).random((len(self.close), 6))
        self.what, self.side, self.size = chance[:, 0], chance[:, 1], chance[:, 2]
        self.near, self.far, self.which = chance[:, 3], chance[:, 4], chance[:, 5]
        self.last = 0
        self.before = 0
        self.has_limit = False
        self.has_stop = False

    def on_bar(self) -> None:
        what = int(self.what[-1] * 14.0)
        amount = 0.005 + self.size[-1] * 0.4
        number = 0
        if what >= 11:
            number = self.change(what, amount)
        elif self.side[-1] < 0.55:
            number = self.enter(what, amount)
        else:
            number = self.leave(what, amount)
        if number > 0:
            self.before = self.last
            self.last = number
            if what < 11:
                self.has_limit = what in (2, 3, 7, 9)
                self.has_stop = what in (6, 7)

    def change(self, what: int, amount: float) -> int:
        close = self.close[-1]
        if what == 11:
            return self.close_position()
        if what == 12:
            self.cancel(self.before)
            return 0
        if self.which[-1] < 0.2:
            self.cancel_all()
            return 0
        if self.which[-1] < 0.5:
            return self.amend(self.last, amount=amount)
        if self.has_limit:
            return self.amend(self.last, limit=close + (self.near[-1] - 0.5) * 60.0)
        if self.has_stop:
            return self.amend(self.last, stop=close + (self.far[-1] - 0.5) * 60.0)
        return 0

    def enter(self, what: int, amount: float) -> int:
        close = self.close[-1]
        limit = close - (self.near[-1] - 0.3) * 60.0
        above = close + self.far[-1] * 60.0 + 1.0
        below = close - self.far[-1] * 60.0 - 1.0
        if what < 2:
            return self.buy(amount)
        if what == 2:
            return self.buy(amount, limit=limit)
        if what == 3:
            return self.buy(amount, limit=limit, post_only=True)
        if what == 4:
            return self.buy(amount, limit=limit, tif="IOC")
        if what == 5:
            return self.buy(amount, limit=limit, tif="FOK")
        if what == 6:
            return self.buy(amount, stop=above)
        if what == 7:
            return self.buy(amount, stop=above, limit=above + 5.0)
        if what == 8:
            return self.buy(amount, target=below)
        if what == 9:
            return self.buy(amount, target=below, limit=below + 3.0)
        return self.buy(amount, trail=0.001)

    def leave(self, what: int, amount: float) -> int:
        close = self.close[-1]
        limit = close + (self.near[-1] - 0.3) * 60.0
        above = close + self.far[-1] * 60.0 + 1.0
        below = close - self.far[-1] * 60.0 - 1.0
        if what < 2:
            return self.sell(amount)
        if what == 2:
            return self.sell(amount, limit=limit)
        if what == 3:
            return self.sell(amount, limit=limit, post_only=True)
        if what == 4:
            return self.sell(amount, limit=limit, tif="IOC")
        if what == 5:
            return self.sell(amount, limit=limit, tif="FOK")
        if what == 6:
            return self.sell(amount, stop=below)
        if what == 7:
            return self.sell(amount, stop=below, limit=below - 5.0)
        if what == 8:
            return self.sell(amount, target=above)
        if what == 9:
            return self.sell(amount, target=above, limit=above - 3.0)
        return self.sell(amount, trail=0.001)


Seen = tuple[int, float, float, float, float, int, bool, bool, float]
"""What a strategy can know at a bar: of its account and of two of its orders."""


class TellingEveryOrder(EveryOrder):
    """The same, telling what it sees."""

    told: ClassVar[list[Seen]] = []

    def on_bar(self) -> None:
        self.told.append(
            (
                self.index,
                self.position,
                self.cash,
                self.equity,
                self.entry_price,
                self.open_orders,
                self.is_open(self.last),
                self.is_open(self.before),
                self.filled(self.last),
            )
        )
        super().on_bar()


def heard() -> list[Seen]:
    """Return what was told since this was last asked."""
    told = TellingEveryOrder.told.copy()
    TellingEveryOrder.told.clear()
    return told

"""A strategy that places, changes and cancels every kind of order, as a row of numbers says."""

import numpy

from bagbot import Strategy

KINDS = 34


class EveryOrder(Strategy):
    seed: int = 1
    size: float = 0.02

    def prepare(self) -> None:
        chance = numpy.random.default_rng(self.seed)
        count = len(self.close)
        self.what = chance.integers(0, 2 * KINDS, count)
        self.a = chance.random(count)
        self.b = chance.random(count)
        self.c = chance.random(count)
        self.numbers = [0] * 8
        self.last = None
        self.open_seen = 0
        self.total = 0.0
        self.worst = None

    def off(self, away: float, up: bool) -> float:
        step = self.close[-1] * 0.004 * away
        return self.close[-1] + step if up else self.close[-1] - step

    def remember(self, number: int) -> None:
        self.numbers[number % 8] = number
        self.last = number

    def look(self, old: int) -> None:
        self.total += self.equity * 1e-6 + self.filled(old)
        if self.worst is None or self.equity < self.worst:
            self.worst = self.equity
        if old and self.is_open(old):
            self.open_seen += 1
        if self.position != 0:
            self.total += self.entry_price

    def on_bar(self) -> None:
        kind = self.what[-1]
        a, b, c = self.a[-1], self.b[-1], self.c[-1]
        old = self.numbers[int(b * 8)]
        amount = 0.001 + a * self.size
        self.look(old)
        if kind < 6:
            self.enter(kind, amount, b, c)
        elif kind < 14:
            self.enter_later(kind, amount, b, c)
        elif kind < 19:
            self.bring_exits(kind, amount, b, c)
        elif kind < 23:
            self.combine(kind, amount, old, b, c)
        elif kind < 29:
            self.change(kind, amount, old, a, c)
        else:
            self.tidy(kind, amount, a, c)

    def enter(self, kind: int, amount: float, b: float, c: float) -> None:
        if kind == 0:
            self.remember(self.buy(amount))
        elif kind == 1:
            self.remember(self.sell(amount))
        elif kind == 2:
            self.remember(self.buy(amount, limit=self.off(c, False)))
        elif kind == 3:
            self.remember(self.sell(amount, limit=self.off(c, True)))
        elif kind == 4:
            self.remember(self.buy(amount, limit=self.off(c, False), post_only=True))
        else:
            self.remember(self.sell(amount, limit=self.off(c, True), post_only=True))

    def enter_later(self, kind: int, amount: float, b: float, c: float) -> None:
        if kind == 6:
            self.remember(self.buy(amount, stop=self.off(c, True)))
        elif kind == 7:
            self.remember(self.sell(amount, stop=self.off(c, False)))
        elif kind == 8:
            self.remember(self.buy(amount, stop=self.off(c, True), limit=self.off(b, True)))
        elif kind == 9:
            self.remember(self.sell(amount, stop=self.off(c, False), limit=self.off(b, False)))
        elif kind == 10:
            self.remember(self.buy(amount, target=self.off(c, False)))
        elif kind == 11:
            self.remember(self.sell(amount, target=self.off(c, True), limit=self.off(b, True)))
        elif kind == 12:
            self.remember(self.buy(amount, trail=0.001 + b * 0.01))
        else:
            self.remember(self.sell(amount, trail=0.001 + b * 0.01))

    def bring_exits(self, kind: int, amount: float, b: float, c: float) -> None:
        below, above = self.off(1 + c, False), self.off(1 + b, True)
        if kind == 14:
            self.remember(self.buy(amount, limit=self.off(c - 0.5, True), tif="IOC"))
        elif kind == 15:
            self.remember(self.sell(amount, limit=self.off(c - 0.5, False), tif="FOK"))
        elif kind == 16:
            self.remember(self.buy(amount, stop_loss=below, take_profit=above))
        elif kind == 17:
            limit = self.off(c, False)
            self.remember(self.buy(amount, limit=limit, stop_loss=below, take_profit=above))
        else:
            self.remember(self.buy(amount, limit=self.off(c, False), take_profit=above))

    def combine(self, kind: int, amount: float, old: int, b: float, c: float) -> None:
        below, above = self.off(1 + c, False), self.off(1 + b, True)
        if kind == 19:
            self.remember(self.sell(amount, stop_loss=above, take_profit=below))
        elif kind == 20:
            number = self.sell(amount, limit=above)
            self.remember(self.sell(amount, stop=below, pair=number))
        elif kind == 21:
            self.remember(self.sell(amount, limit=self.off(c, True), parent=old))
        else:
            self.remember(self.buy(amount, limit=self.off(c, False), parent=old, tif="GTC"))

    def change(self, kind: int, amount: float, old: int, a: float, c: float) -> None:
        if kind == 23:
            self.close_position()
        elif kind == 24:
            self.cancel(old)
        elif kind == 25:
            self.cancel_all()
        elif kind == 26:
            self.remember(self.amend(old, limit=self.off(c, a < 0.5)))
        elif kind == 27:
            self.remember(self.amend(old, amount=amount))
        else:
            self.remember(self.amend(old, stop=self.off(1 + c, a < 0.5), amount=amount))

    def tidy(self, kind: int, amount: float, a: float, c: float) -> None:
        if kind == 29:
            self.sell(amount, reduce_only=a < 0.7)
        elif kind == 30 and self.open_orders > 5:
            self.cancel_all()
        elif kind == 31 and self.cash > 1_000:
            for step in range(3):
                self.remember(self.buy(amount, limit=self.off(c + step, False)))
        elif kind == 32 and self.last is not None:
            self.cancel(self.last)
        elif kind == 33:
            self.remember(self.buy(amount, reduce_only=True))

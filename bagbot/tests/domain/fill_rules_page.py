"""Reads the examples of docs/FILL_RULES.md and plays them through domain/fills."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from bagbot.domain import fills

PAGE = Path(__file__).parents[3] / "docs" / "FILL_RULES.md"
FENCE = re.compile(r"^```text\n(?P<title>(?P<rule>F\d+)[^\n]*)\n(?P<lines>.*?)^```$", re.M | re.S)
KINDS = {
    "limit": fills.LIMIT,
    "limit_maker": fills.LIMIT_MAKER,
    "market": fills.MARKET,
    "stop": fills.STOP,
    "stop_limit": fills.STOP_LIMIT,
    "take_profit": fills.TAKE_PROFIT,
    "take_profit_limit": fills.TAKE_PROFIT_LIMIT,
}
TIMES_IN_FORCE = {
    "GTC": fills.GOOD_TILL_CANCELLED,
    "IOC": fills.IMMEDIATE_OR_CANCEL,
    "FOK": fills.FILL_OR_KILL,
}
HAPPENINGS = ("fill", "triggered", "expired", "cancelled", "refused", "rests")


@dataclass
class Example:
    title: str
    rule: str
    lines: list[str]

    @property
    def has_account(self):
        return any(line.startswith("account") for line in self.lines)


@dataclass
class Stage:
    """One account on one market, as the page's step describes it."""

    costs: fills.Costs = field(default_factory=fills.Costs)
    volume_lots: int = 0
    bar: fills.Bar | None = None
    budget_lots: int = fills.UNLIMITED
    working: list[fills.WorkingOrder] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)

    def open(self, bar):
        self.finish()
        self.bar = bar
        self.budget_lots = fills.volume_budget(self.volume_lots, self.costs)
        self.take(fills.open_bar(self.working, bar.open, self.costs, self.budget_lots))

    def place(self, order):
        if self.bar is None or order.parent:
            self.working.append(order)
            return
        price = self.bar.open
        is_late_maker = order.kind == fills.LIMIT_MAKER and fills.would_take(order, price)
        if is_late_maker or fills.would_trigger(order, price):
            self.happened.append(f"refused {order.number}")
            return
        resting = self.working
        played = fills.open_bar([order], price, self.costs, self.budget_lots)
        self.take(played._replace(left=resting + played.left))

    def finish(self):
        if self.bar is not None:
            self.take(fills.play_range(self.working, self.bar, self.costs, self.budget_lots))
            self.volume_lots = self.bar.volume_lots

    def take(self, played):
        self.working, self.budget_lots = played.left, played.budget_lots
        for event in played.events:
            self.happened.append(told(event))


def told(event):
    if event.kind == fills.FILLED:
        role = "maker" if event.is_maker else "taker"
        return f"fill {event.number} price={event.price} lots={event.lots} {role}"
    if event.kind == fills.TRIGGERED:
        return f"triggered {event.number}"
    name = "expired" if event.kind == fills.EXPIRED else "cancelled"
    return f"{name} {event.number} lots={event.lots}"


def examples():
    """Return the page's examples for the rules alone; those with an account are the kernel's."""
    return [one for one in all_examples() if not one.has_account]


def all_examples():
    return [
        Example(match["title"], match["rule"], match["lines"].splitlines())
        for match in FENCE.finditer(PAGE.read_text())
    ]


def numbers(words):
    return {
        name: int(text)
        for name, separator, text in (word.partition("=") for word in words)
        if separator and name != "tif"
    }


def order_from(words):
    number, side, kind, *rest = words
    tif = next((word[4:] for word in rest if word.startswith("tif=")), "GTC")
    return fills.WorkingOrder(
        number=int(number),
        kind=KINDS[kind],
        is_buy={"buy": True, "sell": False}[side],
        time_in_force=TIMES_IN_FORCE[tif],
        **numbers(rest),
    )


def play(example):
    """Return what happened and what the page says should have, as lines of text."""
    stage = Stage()
    expected = []
    for line in example.lines:
        name, *words = line.split()
        if name == "costs":
            stage.costs = fills.Costs(**numbers(words))
        elif name == "volume":
            stage.volume_lots = int(words[0])
        elif name == "bar":
            stage.open(fills.Bar(**numbers(words)))
        elif name == "order":
            stage.place(order_from(words))
        elif name == "cancel":
            stage.working = [each for each in stage.working if each.number != int(words[0])]
        elif name in HAPPENINGS:
            expected.append(" ".join([name, *words]))
        else:
            raise AssertionError(f"{example.title}: the page says {line!r}")
    stage.finish()
    for order in stage.working:
        best = f" best={order.best}" if order.trailing_ppm else ""
        stage.happened.append(f"rests {order.number} lots={order.lots}{best}")
    return stage.happened, expected

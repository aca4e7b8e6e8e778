"""What cannot be compiled is told with the user's file and line, and the reason."""

from pathlib import Path

import pytest

from bagbot.tests.trading.some_bars import walk
from bagbot.trading.strategy import prepare
from bagbot.trading.strategy_expressions import CannotCompileError
from bagbot.trading.strategy_loader import strategy_class
from bagbot.trading.strategy_translator import Translation, translated

BARS = walk(60, 1)
HEAD = """\
import logging
import math
import numpy as np
import talib
from bagbot import Strategy

LEVEL = 2
LEVELS = [1, 2]
log = logging.getLogger()

def half(x):
    return x / 2

def deep(x):
    return deep(x - 1) if x > 0 else 0

def varies(*x):
    return 1

def sometimes(x):
    if x > 1:
        return x

class Base(Strategy):
    def on_bar(self):
        self.count += 1

class Tried(Base):
    length: int = 3
    bold: bool = True

    def prepare(self):
        self.mean = talib.SMA(self.close, self.length)
        self.count = 0
        self.last = None
        self.names = ["a"]
        self.numbers = [1, 2, 3]
        self.words = {}

    @property
    def doubled(self):
        return self.close[-1] * 2

    def helper(self, a, b=1):
        return a + b

"""


def translation(tmp_path: Path, body: str) -> Translation:
    """Translate an on_bar with this body; its first line is line 1 of what is refused."""
    lines = body.strip("\n").splitlines()
    text = HEAD + "    def on_bar(self):\n" + "\n".join(f"        {line}" for line in lines) + "\n"
    path = tmp_path / "tried.py"
    path.write_text(text)
    strategy = strategy_class(f"{path}:Tried")()
    return translated(strategy, prepare(strategy, BARS).series)


@pytest.mark.parametrize(
    ("body", "line", "reason"),
    [
        (
            "self.count = 1\nself.x = self.close[-1]",
            2,
            "self.x is first set in on_bar; set it in prep",
        ),
        ("self.count = self.clos[-1]", 1, "self.clos is not set in prepare(); did you mean self.c"),
        ("self.count = self.close", 1, "self.close is a series: take one value"),
        ("self.close = 1", 1, "self.close is a series, and is set in prepare() only"),
        ("self.count = self.close[-3:]", 1, "slices cannot be compiled"),
        ("self.position = 1", 1, "self.position cannot be set"),
        ("x = self.names[0]", 1, "self.names is no number"),
        ("x = self.words", 1, "self.words is no number"),
        ("self.words = 1", 1, "self.words is no number: only numbers can be state"),
        ("x = np.exp(self.close[-1])", 1, "np.exp() cannot be compiled; use math.exp()"),
        ("x = talib.SMA(self.close, 3)", 1, "compute it for all bars in prepare()"),
        ("print(1)", 1, "print() cannot be compiled; printing needs Python"),
        ("log.info('x')", 1, "log"),
        ("x = round(self.close[-1], 2)", 1, "round(x, 2) differs at ties"),
        ("x = math.hypot(1.0, 2.0)", 1, "math.hypot() of these arguments is not certain"),
        ("x = self.count ** self.count", 1, "a power of whole numbers"),
        ("x = self.count << 2", 1, "<< cannot be compiled"),
        ("x = self.close[-1] & 1", 1, "& is for whole numbers"),
        ("x = self.close[self.mean[-1]]", 1, "self.mean[-1] is a float; a whole number"),
        ("if self.bold:\n    x = 1\nself.count = x", 3, "x may be read before it is set"),
        ("for i in range(3):\n    x = i\nself.count = x", 3, "x may be read before it is set"),
        ("while self.bold:\n    x = 1\nself.count = x", 3, "x may be read before it is set"),
        ("for i in self.numbers:\n    pass", 1, "a loop goes over range(...)"),
        ("for i in range(1, 9, self.count):\n    pass", 1, "the step of a range"),
        ("x = deep(3)", -26, "deep calls itself"),
        ("x = varies(3)", -23, "varies has * or ** arguments"),
        ("x = sometimes(3)", -20, "returns a value on some paths and none on others"),
        ("x = half(1, 2)", 1, "half() takes 1 arguments"),
        ("x = half(y=1)", 1, "half() has no argument y"),
        ("x = half()", 1, "half() needs the argument x"),
        ("x = self.helpr(1)", 1, "self.helpr() is not there; did you mean self.helper?"),
        ("x = LEVELS[0]", 1, "LEVELS is neither a series nor a list of numbers"),
        ("x = LEVLE", 1, "LEVLE is not defined"),
        ("x = [1, 2]", 1, "a list cannot be compiled"),
        ("x = [i for i in range(3)]", 1, "a comprehension cannot be compiled"),
        ("x = lambda: 1", 1, "lambda cannot be compiled"),
        ("try:\n    pass\nexcept ValueError:\n    pass", 1, "try cannot be compiled"),
        ("with open('x'):\n    pass", 1, "with cannot be compiled"),
        ("import os", 1, "import cannot be compiled"),
        ("x = 'a'", 1, "'a' is no number"),
        ("x = f'{self.count}'", 1, "text cannot be compiled"),
        ("x = self", 1, "self can only be used as self.something"),
        ("x = self.bold is self.count", 1, "`is` can only be asked of None"),
        ("self.buy()", 1, "an order needs an amount"),
        ("self.buy(1.0, limt=3)", 1, "an order has no limt; did you mean limit?"),
        ("self.buy(1.0, 2.0)", 1, "only the amount goes without a name"),
        ("self.buy(1.0, tif=self.count)", 1, "self.count cannot be compiled"),
        ("self.buy(1.0, tif='DAY', limit=1.0)", 1, "tif must be GTC, IOC or FOK"),
        ("self.buy(1.0, tif='IOC')", 1, "tif=IOC needs a limit"),
        ("self.buy(1.0, stop=1.0, target=2.0)", 1, "one of stop, target and trail"),
        ("self.buy(1.0, limit=1.0, post_only=self.bold)", 1, "post_only must be True or False"),
        ("self.buy(1.0, limit=self.last)", 1, "self.last may be None; write a call for each"),
        ("self.cancel()", 1, "self.cancel() needs an order's number"),
        ("self.amend(1, stop=1.0, target=1.0)", 1, "either a stop or a target"),
        ("self.close_position(1)", 1, "self.close_position() has no arguments"),
        ("del self.count", 1, "del cannot be compiled"),
        ("self.numbers[:] = 1", 1, "slices cannot be compiled"),
    ],
)
def test_what_cannot_be_compiled_names_the_place(tmp_path, body, line, reason):
    with pytest.raises(CannotCompileError) as refused:
        translation(tmp_path, body)
    first = HEAD.count("\n") + 2
    if line > 0:
        assert str(refused.value).startswith(f"{tmp_path / 'tried.py'}:{first + line - 1}: ")
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    "body",
    [
        "super().on_bar()\nself.count += self.helper(a=2)",
        "self.last = self.buy(1.0) if self.count > 3 else None",
        "if self.last is None or self.close[-1] > self.last:\n    self.last = self.close[-1]",
        "a, b = self.close[-1], self.close[-2]\na, b = b, a\nself.count = int(a > b)",
        "x: float = 0\nfor i in range(1, self.length):\n    x += self.close[-i]\nself.count = 1",
        "self.numbers[self.count % 3] += 1\nself.count = len(self.numbers) + len(self.close)",
        "self.count = half(self.doubled) // LEVEL if self.count in (1, 2) else LEVEL",
        "if self.count > 3:\n    return\nassert self.count < 9, 'x'\nraise ValueError('x')",
        "while True:\n    self.count += 1\n    if self.count % 7 == 0:\n        break",
        "'''text'''\nself.count = -self.count if not self.bold else abs(round(self.mean[-1]))",
        "self.buy(1, limit=None, tif='GTC', parent=0)\nself.sell(amount=1, trail=0.1)",
    ],
)
def test_what_is_usual_is_translated(tmp_path, body):
    assert translation(tmp_path, body).functions


def test_an_attribute_becomes_as_wide_as_what_is_assigned_to_it(tmp_path):
    found = translation(tmp_path, "self.count = self.count * 0.5\nself.last = self.count")
    assert [found.scalars[name].rank for name in ("count", "last")] == [3, 3]
    assert [found.scalars[name].may_be_none for name in ("count", "last")] == [False, True]


def test_a_long_row_of_elifs_stays_flat(tmp_path):
    rows = ["if self.count == 0:", "    self.count = 1"]
    for number in range(1, 200):
        rows += [f"elif self.count == {number}:", f"    self.count = {number + 1}"]
    code = translation(tmp_path, "\n".join(rows)).functions[-1].code
    compile(code.replace("__context__", "desk"), "tried", "exec")

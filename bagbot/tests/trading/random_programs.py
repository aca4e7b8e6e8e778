"""Random arithmetic, as the source of strategies; and the odd numbers to compute it with."""

import math
import random

import numpy

_FLOATS = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 1.5, 3.7, -3.7, 1e-3, 1e10, -1e10, 1e308, 5e-324),
    *(math.inf, -math.inf, math.nan, 2.0**53, 2.0**62, 1e19, 7.0, 100.25, 0.1, 0.2, 0.3),
)
_INTS = (
    *(0, 1, -1, 2, 3, -3, 7, 10, -10, 1_000, 2**31, 2**53, 2**53 + 1, -(2**53) - 1),
    *(2**62, -(2**62), 2**63 - 1, -(2**63)),
)
_WHOLE_LEAVES = (
    *("self.i[-1]", "self.j[-1]", "self.f[-1]", "self.index", "len(self.x)", "self.k", "whole"),
    *("0", "1", "2", "3", "-1", "-2", "7", "10"),
)
_LEAVES = (
    *("self.x[-1]", "self.y[-1]", "self.i[-1]", "self.j[-1]", "self.f[-1]", "self.z", "self.k"),
    *("2.0", "0.5", "3", "-1.5", "1", "real", "LIMIT", "math.pi"),
)
_FUNCTIONS = (
    *("sqrt", "exp", "log", "log10", "log2", "log1p", "expm1", "sin", "cos", "tan", "asin"),
    *("acos", "atan", "sinh", "cosh", "tanh", "fabs"),
)
_HEAD = """\
import math
from bagbot import Strategy

LIMIT = 1.25

def helper(a, b):
    if a > b:
        return a - b
    return b * 0.5

class Programs(Strategy):
    k: int = 3
    z: float = 0.75

    def prepare(self):
        for name, values in self.inputs.items():
            setattr(self, name, values)
        self.out = 0.0
        self.whole = 0

    def on_bar(self):
        whole = 5
        real = 1.75
        n = self.which[-1]
"""


def program_text(chance: random.Random, count: int) -> str:
    """Return a strategy of `count` expressions, one of which a bar computes."""
    lines = []
    for number in range(count):
        lines.append(f"        {'el' if number else ''}if n == {number}:")
        if number % 3 == 0:
            lines.append(f"            self.whole = {_whole(chance, 3)}")
        elif number % 3 == 1:
            lines.append(f"            self.out = {_real(chance, 3)}")
        else:
            lines.append(f"            self.whole = 1 if {_condition(chance, 3)} else 2")
    return _HEAD + "\n".join(lines) + "\n"


def random_inputs(chance: random.Random, count: int, rows: int) -> dict[str, numpy.ndarray]:
    """Return what the expressions compute with: usual numbers and the odd ones."""
    length = count * rows

    def some(odd, usual):
        return numpy.array(
            [chance.choice(odd) if chance.random() < 0.5 else usual() for _ in range(length)]
        )

    return {
        "x": some(_FLOATS, lambda: chance.gauss(0, 10)),
        "y": some(_FLOATS, lambda: chance.gauss(0, 10)),
        "i": some(_INTS, lambda: chance.randint(-50, 50)),
        "j": some(_INTS, lambda: chance.randint(-50, 50)),
        "f": numpy.array([chance.random() < 0.5 for _ in range(length)]),
        "which": numpy.arange(length) % count,
    }


def _whole(chance: random.Random, depth: int) -> str:
    if depth == 0 or chance.random() < 0.15:
        return chance.choice(_WHOLE_LEAVES)
    one, other = _whole(chance, depth - 1), _whole(chance, depth - 1)
    real = _real(chance, depth - 1)
    rounding = chance.choice(("math.floor", "math.ceil", "round", "math.trunc", "int"))
    return chance.choice(
        (
            f"({one} {chance.choice(('+', '-', '*', '//', '%'))} {other})",
            f"({one} {chance.choice(('+', '-', '*', '//', '%'))} {other})",
            f"({one} {chance.choice(('&', '|', '^'))} {other})",
            f"(-{one})",
            f"abs({one})",
            f"{chance.choice(('min', 'max'))}({one}, {other})",
            f"{rounding}({real})",
            f"({one} if {_condition(chance, depth - 1)} else {other})",
        )
    )


def _real(chance: random.Random, depth: int) -> str:
    if depth == 0 or chance.random() < 0.15:
        return chance.choice(_LEAVES)
    one, other = _real(chance, depth - 1), _real(chance, depth - 1)
    exponent = chance.choice(("2", "0.5", "3", "-1", "1.5", other))
    return chance.choice(
        (
            f"({one} {chance.choice(('+', '-', '*', '/', '//', '%'))} {other})",
            f"({one} {chance.choice(('+', '-', '*', '/', '//', '%'))} {other})",
            f"({one} {chance.choice(('and', 'or'))} {other})",
            f"(-{one})",
            f"abs({one})",
            f"{chance.choice(('min', 'max'))}({one}, {other}, {_real(chance, depth - 1)})",
            f"(float({one}) ** {exponent})",
            f"math.{chance.choice(_FUNCTIONS)}({one})",
            f"math.{chance.choice(('atan2', 'copysign', 'pow'))}({one}, {other})",
            f"helper({one}, {other})",
            f"({one} if {_condition(chance, depth - 1)} else {other})",
        )
    )


def _condition(chance: random.Random, depth: int) -> str:
    pick = _whole if chance.random() < 0.5 else _real
    one, other = pick(chance, max(depth - 1, 0)), pick(chance, max(depth - 1, 0))
    if depth <= 0:
        return f"({one} {chance.choice(('<', '<=', '>', '>=', '==', '!='))} {other})"
    return chance.choice(
        (
            f"({one} {chance.choice(('<', '<=', '>', '>=', '==', '!='))} {other})",
            f"({one} < {other} <= {_real(chance, 1)})",
            f"({_condition(chance, depth - 1)} and {_condition(chance, depth - 1)})",
            f"({_condition(chance, depth - 1)} or {_condition(chance, depth - 1)})",
            f"(not {_condition(chance, depth - 1)})",
            "self.f[-1]",
            "self.i[-1]",
        )
    )

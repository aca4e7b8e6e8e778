"""Python's arithmetic as compiled code needs it: the same result, or an error, never a wrong one.

Machine code wraps integers, cuts floats, and knows no IndexError. A strategy's compiled decision
uses these functions where the two could differ; whatever they raise, the run is made again in
Python, which then says what is true. They call nothing of each other, so that each can be compiled
alone, and `math` where Python itself calls the C library.
"""

import math
from typing import TypeVar

import numpy
from numpy.typing import NDArray

Value = TypeVar("Value", numpy.float64, numpy.int64, numpy.bool_)

_LARGEST_EXACT = 2**53
_INT64_MIN = -(2**63)
_INT64_MAX = 2**63 - 1


def back(series: NDArray[Value], index: int, steps: int) -> Value:
    """Return the value of so many bars ago; 0 is the bar that just closed."""
    if index < steps:
        raise IndexError("before the first bar")
    # An unsigned index spares compiled code the question whether it counts from the end.
    value: Value = series[numpy.uintp(index - steps)]
    return value


def seen(series: NDArray[Value], index: int, at: int) -> Value:
    """Return `series[at]` as if the series ended with the bar `index`."""
    if at < 0:
        at += index + 1
    if at < 0 or at > index:
        raise IndexError("not seen yet, or before the first bar")
    value: Value = series[numpy.uintp(at)]
    return value


def entry(table: NDArray[Value], at: int) -> Value:
    """Return `table[at]`."""
    if at < 0:
        at += len(table)
    if at < 0 or at >= len(table):
        raise IndexError("list index out of range")
    value: Value = table[numpy.uintp(at)]
    return value


def place_in(length: int, at: int) -> int:
    """Return where `at` is in a list of this length."""
    if at < 0:
        at += length
    if at < 0 or at >= length:
        raise IndexError("list assignment index out of range")
    return at


def add(left: int, right: int) -> int:
    """Return the sum, if 64 bits hold it."""
    # Asked beforehand: compiled code takes for granted that a sum does not leave 64 bits.
    if left > _INT64_MAX - right if right > 0 else left < _INT64_MIN - right:
        raise OverflowError("more than 64 bits")
    return left + right


def subtract(left: int, right: int) -> int:
    """Return the difference, if 64 bits hold it."""
    if left < _INT64_MIN + right if right > 0 else left > _INT64_MAX + right:
        raise OverflowError("more than 64 bits")
    return left - right


def multiply(left: int, right: int) -> int:
    """Return the product, if 64 bits certainly hold it."""
    if abs(float(left) * float(right)) > 9.2e18:
        raise OverflowError("more than 64 bits")
    return left * right


def floor_divide(left: int, right: int) -> int:
    """Return the quotient, rounded down."""
    if right == 0:
        raise ZeroDivisionError("division by zero")
    if right == -1 and left == _INT64_MIN:
        raise OverflowError("more than 64 bits")
    return left // right


def modulo(left: int, right: int) -> int:
    """Return what division leaves, with the sign of the divisor."""
    if right == 0:
        raise ZeroDivisionError("division by zero")
    return 0 if right == -1 else left % right


def magnitude(number: int) -> int:
    """Return the absolute value."""
    if number == _INT64_MIN:
        raise OverflowError("more than 64 bits")
    return number if number >= 0 else -number


def real(number: int) -> float:
    """Return the float that is exactly this number, as long as each has one."""
    if number > _LARGEST_EXACT or number < -_LARGEST_EXACT:
        raise OverflowError("no float is exactly this number")
    return float(number)


def power(base: float, exponent: float) -> float:
    """Return the power as the C library computes it."""
    if base == 0.0 and exponent < 0.0:
        raise ZeroDivisionError("zero to a negative power")
    result = math.pow(base, exponent)
    is_finite = math.isfinite(base) and math.isfinite(exponent)
    if is_finite and not math.isfinite(result):
        raise OverflowError("no finite result")
    return result


def truncated(number: float) -> int:
    """Return the number without its fraction."""
    if not -9.2e18 < number < 9.2e18:
        raise OverflowError("not within 64 bits")
    return int(number)


def floored(number: float) -> int:
    """Return the largest whole number that is not larger."""
    if not -9.2e18 < number < 9.2e18:
        raise OverflowError("not within 64 bits")
    return math.floor(number)


def raised(number: float) -> int:
    """Return the smallest whole number that is not smaller."""
    if not -9.2e18 < number < 9.2e18:
        raise OverflowError("not within 64 bits")
    return math.ceil(number)


def rounded(number: float) -> int:
    """Return the nearest whole number; of two equally near, the even one."""
    if not -4.5e15 < number < 4.5e15:
        raise OverflowError("not certainly exact")
    whole = math.floor(number)
    rest = number - whole
    if rest > 0.5 or (rest == 0.5 and whole % 2 == 1):
        return whole + 1
    return whole


def sound(result: float, argument: float) -> float:
    """Return the result of a function of `math` unless Python would have raised an error."""
    if math.isnan(result) and not math.isnan(argument):
        raise ValueError("math domain error")
    if math.isinf(result) and not math.isinf(argument):
        raise OverflowError("math range error")
    return result


def given(number: float, is_none: bool) -> float:  # noqa: FBT001 - called by generated code alone
    """Return the number, which must not be None."""
    if is_none:
        raise TypeError("None is not a number")
    return number


def positive(number: float) -> float:
    """Return an amount or price that an order can have."""
    if not 0.0 < number < math.inf:
        raise ValueError("not a positive number")
    return number


def trailing_millionths(trail: float) -> int:
    """Return the distance of a trailing stop, given as a fraction."""
    if not 0.0 < trail < 1.0:
        raise ValueError("not between 0 and 1")
    millionths = math.floor(trail * 1_000_000 + 0.5)
    if millionths < 1 or millionths > 999_999:
        raise ValueError("not between 0 and 1")
    return millionths


def accepted(number: int) -> int:
    """Return the number of an order that was queued."""
    if number < 0:
        raise ValueError("an order that cannot be")
    return number

"""`bagbot sweep`: many backtests of one strategy, from the command line."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bagbot.domain.errors import ConfigError

if TYPE_CHECKING:
    from bagbot.trading.strategy import Parameter, Strategy, Value
    from bagbot.trading.sweep import OnProgress, SweepResult


def values_of(text: str, parameter: "Parameter") -> Sequence["Value"]:
    """Return the values that a parameter's part of `--grid` stands for.

    `5:55` and `60:260:2` go up to, but not including, the end, as Python's range does; `1,2,5` is a
    list. Steps of a float are exact: 0.1:0.4:0.1 is 0.1, 0.2 and 0.3.

    Raises ConfigError for what is neither.
    """
    if ":" not in text:
        return [_value_of(part, parameter) for part in text.split(",")]
    if parameter.kind is bool:
        raise ConfigError(f"parameter {parameter.name} is true or false, not {text}")
    try:
        start, stop, step = (Decimal(part) for part in (text + ":1").split(":")[:3])
    except (InvalidOperation, ValueError) as error:
        raise ConfigError(f"parameter {parameter.name}: {text} is not FROM:TO[:STEP]") from error
    if text.count(":") > 2 or not all(each.is_finite() for each in (start, stop, step)):
        raise ConfigError(f"parameter {parameter.name}: {text} is not FROM:TO[:STEP]")
    if step <= 0:
        raise ConfigError(f"parameter {parameter.name}: the step of {text} must be above 0")
    count = max(0, -int((start - stop) // step))
    if start + step * count < stop:
        count += 1
    if parameter.kind is int:
        if any(each != each.to_integral_value() for each in (start, stop, step)):
            raise ConfigError(f"parameter {parameter.name} is int, and {text} is not")
        return range(int(start), int(stop), int(step))
    return [float(start + step * at) for at in range(count)]

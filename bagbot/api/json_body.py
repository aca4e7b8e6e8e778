"""Reading a JSON object exactly: numbers stay Decimal, and every complaint names its field."""

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeVar

from bagbot.domain.errors import BagbotError, InvalidOrderError
from bagbot.domain.order import NUMBER_MAX, NUMBER_MIN

DEPTH_MAX: Final = 5
TEXT_LENGTH_MAX: Final = 200

_E = TypeVar("_E", bound=StrEnum)
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


class MalformedBodyError(BagbotError):
    """The body is no JSON object."""


class FieldError(InvalidOrderError):
    """A field of the body is missing or wrong; the message names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field


def parsed_object(raw: bytes) -> dict[str, object]:
    """Return the JSON object in `raw`; a number with a point is a Decimal, never a float.

    NaN and Infinity are no JSON but TradingView sends them: they become the Decimals of that
    name, which no field takes. Raises MalformedBodyError.
    """
    try:
        value = json.loads(
            raw.decode("utf-8-sig"),
            parse_float=Decimal,
            parse_constant=Decimal,
            object_pairs_hook=_object,
        )
    except RecursionError as error:
        raise MalformedBodyError("the body is nested too deeply") from error
    except (ValueError, ArithmeticError) as error:
        raise MalformedBodyError(f"the body is not JSON: {shortened(str(error))}") from error
    if not isinstance(value, dict):
        raise MalformedBodyError("the body must be a JSON object, {...}")
    if _is_deeper(value, DEPTH_MAX):
        raise MalformedBodyError(f"the body is nested more than {DEPTH_MAX} levels deep")
    return value


def text_of(name: str, value: object) -> str:
    """Return a field that must be a text of 1 to 200 printable characters."""
    if not isinstance(value, str):
        raise FieldError(name, f"must be a text, not {shown(value)}")
    text = value.strip()
    if not text:
        raise FieldError(name, "is empty")
    if len(text) > TEXT_LENGTH_MAX or not text.isprintable():
        raise FieldError(name, f"must be at most {TEXT_LENGTH_MAX} printable characters")
    return text


def label_of(name: str, value: object) -> str:
    """Return a field that must be a text or a number, as text; it may be empty."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return text_of(name, str(_finite(name, value)))
    return text_of(name, value) if value != "" else ""


def number_of(name: str, value: object) -> Decimal:
    """Return a field that must be a number above zero, given as a number or as its text."""
    number = _finite(name, value)
    if number <= 0:
        raise FieldError(name, f"must be above zero, not {shown(value)}")
    if not NUMBER_MIN <= number <= NUMBER_MAX:
        raise FieldError(name, f"{shown(value)} is beyond what any exchange trades")
    return number


def size_of(name: str, value: object) -> Decimal:
    """Return a field that must be zero or a number above it."""
    return number_of(name, value) if _finite(name, value) else Decimal(0)


def member_of(kind: type[_E], name: str, value: object) -> _E:
    """Return a field that must be one of the words of `kind`, in either case."""
    text = text_of(name, value)
    for member in kind:
        if member.value.lower() == text.lower():
            return member
    allowed = ", ".join(kind)
    raise FieldError(name, f"must be one of {allowed}, not {shown(value)}")


def given(body: Mapping[str, object], *names: str) -> tuple[str, object]:
    """Return the name and value of a field that may have several names.

    It is (the first name, None) when none is there. Raises FieldError when it is null, or given
    twice with two values.
    """
    found = [(name, body[name]) for name in names if name in body]
    if not found:
        return names[0], None
    for name, value in found:
        if value is None:
            raise FieldError(name, "is null; give a value or leave the field out")
        if str(value).lower() != str(found[0][1]).lower():
            raise FieldError(name, f"and {found[0][0]} mean the same and differ; send one of them")
    return found[0]


def required(body: Mapping[str, object], *names: str) -> tuple[str, object]:
    """Return the name and value of a field that must be there."""
    name, value = given(body, *names)
    if value is None:
        others = f" (also understood: {', '.join(names[1:])})" if names[1:] else ""
        raise FieldError(name, f"is missing{others}")
    return name, value


def shown(value: object) -> str:
    """Return a short text for a value that somebody sent, safe to put into an answer."""
    return shortened(ascii(value) if isinstance(value, str) else ascii(str(value))[1:-1])


def shortened(text: str) -> str:
    """Return the text, cut at 80 characters."""
    return text if len(text) <= 80 else text[:77] + "..."


def _finite(name: str, value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise FieldError(name, f"must be a number, not {shown(value)}")
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) is None:
        raise FieldError(name, f"must be a number, not {shown(value)}")
    number = Decimal(value.strip() if isinstance(value, str) else value)
    if not number.is_finite():
        raise FieldError(name, f"must be a finite number, not {shown(value)}")
    return number


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    body = dict(pairs)
    if len(body) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise MalformedBodyError(f"the field {shown(twice)} is there twice; send it once")
    return body


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    children = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(child, levels - 1) for child in children)

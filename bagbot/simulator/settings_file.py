"""The exchange's settings file, in TOML: its tables, read field by field with clear complaints."""

import tomllib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path

from bagbot.domain.errors import ConfigError

Table = Mapping[str, object]

_TOP_FIELDS = {"account", "assume", "market", "symbol", "symbols"}


def read_document(path: Path) -> Table:
    """Return what is in the file. Raises ConfigError, also for a field no settings file has."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file ({error})") from error
    try:
        check_fields(document, _TOP_FIELDS, "the file")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return document


def read_tables(table: Table, name: str, where: str) -> list[Table]:
    """Return the tables `[[...name]]`, at least one. Raises ConfigError."""
    value = table.get(name)
    if not isinstance(value, list) or not value or any(type(each) is not dict for each in value):
        raise ConfigError(f"{where} needs at least one table [[...{name}]]")
    return value


def read_text(table: Table, name: str, where: str) -> str:
    """Return a field's text. Raises ConfigError."""
    value = table.get(name)
    if not isinstance(value, str):
        raise ConfigError(f"{where}: {name} must be text")
    return value


def read_amount(table: Table, name: str, where: str) -> Decimal:
    """Return an amount, which is written as text or as a whole number. Raises ConfigError."""
    value = table.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    try:
        if isinstance(value, str):
            return Decimal(value)
    except InvalidOperation as error:
        raise ConfigError(f"{where}: {name}: {value!r} is not a number") from error
    raise ConfigError(f"{where}: {name}: write the amount as text or as a whole number")


def check_fields(table: Table, known: set[str], where: str) -> None:
    """Raise ConfigError for a field that nobody reads."""
    unknown = sorted(set(table) - known)
    if unknown:
        expected = ", ".join(sorted(known))
        raise ConfigError(f"{where}: unknown field {', '.join(unknown)}; known: {expected}")

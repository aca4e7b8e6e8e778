"""What Binance's documents leave open: each choice is one switch, with the value assumed first."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from bagbot.domain.errors import ConfigError
from bagbot.simulator.settings_file import read_document

Choice = bool | int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """The choices made; docs/SIMULATOR.md says of each what it means. ConfigError for others."""

    # Requests.
    bad_key_status: int = field(default=401, metadata={"other": 400})
    wide_window_code: int = field(default=-1131, metadata={"other": -1130})
    signature_is_checked_last: bool = field(default=True, metadata={"other": False})
    microseconds_are_read: bool = field(default=True, metadata={"other": False})
    retired_is_told: bool = field(default=True, metadata={"other": False})
    zero_quantity_is_lot_size: bool = field(default=False, metadata={"other": True})
    counting_filters_code: int = field(default=-2010, metadata={"other": -1013})
    cancelling_nothing_is_refused: bool = field(default=True, metadata={"other": False})
    # The engine.
    market_orders_keep_lot_size: bool = field(default=True, metadata={"other": False})
    stop_release_is_told: bool = field(default=True, metadata={"other": False})
    iceberg_slices_go_last: bool = field(default=True, metadata={"other": False})

    def __post_init__(self) -> None:
        """Raise ConfigError for a value that is neither of the two."""
        for one in fields(self):
            choices = (one.default, one.metadata["other"])
            value = getattr(self, one.name)
            if value not in choices or type(value) is not type(one.default):
                raise ConfigError(f"{one.name} is {_written(choices)}, not {value!r}")


DEFAULT_ASSUMPTIONS = Assumptions()
CHOICES: Mapping[str, tuple[Choice, Choice]] = {
    one.name: (getattr(DEFAULT_ASSUMPTIONS, one.name), one.metadata["other"])
    for one in fields(Assumptions)
}
"""The two values of each switch, the one assumed first."""


def assumptions_from(path: Path | None, written: Iterable[str] = ()) -> Assumptions:
    """Return the choices in a settings file's table `[assume]` and in texts "name=value".

    A text goes before the file. Raises ConfigError.
    """
    table = {} if path is None else read_document(path).get("assume", {})
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: assume must be a table")
    for text in written:
        name, _, value = text.partition("=")
        by_text = {_text(choice): choice for choice in CHOICES.get(name, ())}
        table = table | {name: by_text.get(value, value)}
    for name in table:
        if name not in CHOICES:
            raise ConfigError(f"nothing called {name!r} is assumed; known: {', '.join(CHOICES)}")
    return Assumptions(**table)


def _written(choices: Iterable[object]) -> str:
    return " or ".join(map(_text, choices))


def _text(choice: object) -> str:
    return str(choice).lower() if isinstance(choice, bool) else str(choice)

"""Symbols as they are set up: known ones, and new ones, in code or in a TOML file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from bagbot.domain.errors import ConfigError
from bagbot.simulator.amounts import ONE, amount_from_decimal
from bagbot.simulator.market import PROFILES, MarketProfile
from bagbot.simulator.settings_file import (
    Table,
    check_fields,
    read_amount,
    read_document,
    read_tables,
    read_text,
)
from bagbot.simulator.symbols import DEFAULT_SYMBOLS, KNOWN_SYMBOLS, SymbolRules

_ASSET = re.compile(r"[A-Z0-9]{1,20}")
_TICKS_MIN = 1_000
# How much may be traded in one order, in multiples of what the best level offers.
_QUANTITY_LEVELS_MAX = 40_000
_MARKET_QUANTITY_LEVELS_MAX = 400
_AMOUNTS = ("tick", "lot", "start_price", "level_quantity", "notional_min")


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolSettings:
    """A new symbol: its assets, its steps, and the synthetic market it starts with.

    `level_quantity` is what the market's best level offers; deeper levels offer more.
    """

    base: str
    quote: str
    tick: Decimal
    lot: Decimal
    start_price: Decimal
    level_quantity: Decimal
    notional_min: Decimal = Decimal(5)

    def __post_init__(self) -> None:
        """Raise ConfigError for what can be no symbol."""
        where = f"symbol {self.base + self.quote!r}"
        for asset in (self.base, self.quote):
            if not _ASSET.fullmatch(asset):
                raise ConfigError(f"{where}: an asset is 1 to 20 capital letters and digits")
        if self.base == self.quote:
            raise ConfigError(f"{where}: base and quote are the same asset")
        for name in _AMOUNTS:
            amount: Decimal = getattr(self, name)
            if not amount.is_finite() or amount <= 0:
                raise ConfigError(f"{where}: {name} must be above zero")
            try:
                amount_from_decimal(amount)
            except ValueError as error:
                raise ConfigError(f"{where}: {name}: {error}") from error
        if self.start_price % self.tick or self.start_price < _TICKS_MIN * self.tick:
            raise ConfigError(f"{where}: start_price must be at least {_TICKS_MIN} whole ticks")
        if self.level_quantity % self.lot:
            raise ConfigError(f"{where}: level_quantity must be whole lots")

    @property
    def name(self) -> str:
        """Return the symbol as Binance writes it."""
        return self.base + self.quote

    def rules(self) -> SymbolRules:
        """Return what an order on this symbol must satisfy."""
        level = amount_from_decimal(self.level_quantity)
        tick = amount_from_decimal(self.tick)
        return SymbolRules(
            symbol=self.name,
            base=self.base,
            quote=self.quote,
            tick=tick,
            price_max=max(1_000_000 * ONE, 100 * amount_from_decimal(self.start_price)),
            lot=amount_from_decimal(self.lot),
            quantity_max=_QUANTITY_LEVELS_MAX * level,
            market_quantity_max=_MARKET_QUANTITY_LEVELS_MAX * level,
            notional_min=amount_from_decimal(self.notional_min),
        )

    def profile(self) -> MarketProfile:
        """Return what its market looks like."""
        return MarketProfile(
            amount_from_decimal(self.start_price), amount_from_decimal(self.level_quantity)
        )


Symbol = str | SymbolSettings
"""A known symbol, by its name, or a new one."""


def name_of(symbol: Symbol) -> str:
    """Return the symbol as Binance writes it."""
    return symbol if isinstance(symbol, str) else symbol.name


def rules_of(symbol: Symbol) -> SymbolRules:
    """Return what an order on a symbol must satisfy."""
    return KNOWN_SYMBOLS[symbol] if isinstance(symbol, str) else symbol.rules()


def profile_of(symbol: Symbol) -> MarketProfile:
    """Return what a symbol's market looks like."""
    return PROFILES[symbol] if isinstance(symbol, str) else symbol.profile()


def check_symbols(symbols: Sequence[Symbol]) -> None:
    """Raise ConfigError for an unknown name, a name used twice, or no symbol at all."""
    if not symbols:
        raise ConfigError("there must be at least one symbol")
    for symbol in symbols:
        if isinstance(symbol, str) and symbol not in KNOWN_SYMBOLS:
            known = ", ".join(KNOWN_SYMBOLS)
            raise ConfigError(f"symbol {symbol!r} is not one of {known}; describe it in full")
    names = [name_of(symbol) for symbol in symbols]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"symbol {twice!r} is there twice")


def symbols_from(path: Path) -> list[Symbol]:
    """Return the symbols that a settings file names; those served by default if it names none.

    `symbols` is a list of known names. A table `[[symbol]]` describes a new one:
    `base`, `quote`, `tick`, `lot`, `start_price`, `level_quantity`, and perhaps `notional_min`.
    Raises ConfigError.
    """
    document = read_document(path)
    try:
        symbols = _symbols(document)
        check_symbols(symbols)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return symbols


def _symbols(document: Table) -> list[Symbol]:
    symbols: list[Symbol] = []
    if "symbols" in document:
        names = document["symbols"]
        if not isinstance(names, list) or any(not isinstance(name, str) for name in names):
            raise ConfigError("symbols must be a list of names")
        symbols += names
    if "symbol" in document:
        symbols += [_symbol(table) for table in read_tables(document, "symbol", "the file")]
    return symbols or list(DEFAULT_SYMBOLS)


def _symbol(table: Table) -> SymbolSettings:
    where = "a symbol"
    check_fields(table, {"base", "quote", *_AMOUNTS}, where)
    given = [name for name in _AMOUNTS if name != "notional_min" or name in table]
    return SymbolSettings(
        base=read_text(table, "base", where),
        quote=read_text(table, "quote", where),
        **{name: read_amount(table, name, where) for name in given},
    )

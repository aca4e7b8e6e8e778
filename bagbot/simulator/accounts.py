"""Accounts as they are set up: names, keys and starting balances, in code or in a TOML file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from bagbot.domain.errors import ConfigError
from bagbot.simulator.amounts import amount_from_decimal
from bagbot.simulator.api_keys import ApiKey, HmacKey, public_key_from
from bagbot.simulator.settings_file import (
    Table,
    check_fields,
    read_amount,
    read_document,
    read_tables,
    read_text,
)

_API_KEY = re.compile(r"[!-~]{1,128}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def default_balances() -> Mapping[str, Decimal]:
    """Return what an account owns when nothing else is said."""
    return {
        "BTC": Decimal(10),
        "ETH": Decimal(100),
        "USDT": Decimal(1_000_000),
        "BNB": Decimal(100),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """A key with its HMAC secret or, instead, its Ed25519 or RSA public key in PEM form."""

    api_key: str
    api_secret: str = field(default="", repr=False)
    public_key: str = ""

    def __post_init__(self) -> None:
        """Raise ConfigError for what can be no key."""
        if not _API_KEY.fullmatch(self.api_key):
            raise ConfigError("an api_key is 1 to 128 visible ASCII characters")
        if bool(self.api_secret) == bool(self.public_key):
            raise ConfigError(f"key {self.api_key!r}: give either an api_secret or a public_key")
        if self.public_key:
            try:
                public_key_from(self.public_key, api_key=self.api_key, account_id=0)
            except ValueError as error:
                raise ConfigError(f"key {self.api_key!r}: public_key is {error}") from error

    def bound_to(self, account_id: int) -> ApiKey:
        """Return the key as the one of an account."""
        if self.public_key:
            return public_key_from(self.public_key, api_key=self.api_key, account_id=account_id)
        return HmacKey(self.api_key, account_id, self.api_secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """One account: its keys, and what it owns at its first start."""

    name: str
    keys: Sequence[KeySettings]
    balances: Mapping[str, Decimal] = field(default_factory=default_balances)

    def __post_init__(self) -> None:
        """Raise ConfigError for what can be no account."""
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"account name {self.name!r}: use 1 to 64 letters, digits, '-' and '_'"
            )
        if not self.keys:
            raise ConfigError(f"account {self.name!r} has no key")
        for asset, amount in self.balances.items():
            if not amount.is_finite() or amount < 0:
                raise ConfigError(f"account {self.name!r}: {asset} must be zero or more")
            try:
                amount_from_decimal(amount)
            except ValueError as error:
                raise ConfigError(f"account {self.name!r}: {asset}: {error}") from error


def check_accounts(accounts: Sequence[AccountSettings]) -> None:
    """Raise ConfigError when two accounts share a name or a key."""
    for what, values in (
        ("name", [account.name for account in accounts]),
        ("api_key", [key.api_key for account in accounts for key in account.keys]),
    ):
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise ConfigError(f"two accounts have the same {what}: {twice!r}")


def accounts_from(path: Path) -> list[AccountSettings]:
    """Return the accounts that a settings file describes, at least one.

    One table `[[account]]` each, with `name`, a table `balances` of amounts by asset (as text or
    whole numbers), and one table `[[account.key]]` per key, with `api_key` and either
    `api_secret` or `public_key`. Raises ConfigError.
    """
    document = read_document(path)
    try:
        accounts = [_account(table) for table in read_tables(document, "account", "the file")]
        check_accounts(accounts)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return accounts


def _account(table: Table) -> AccountSettings:
    name = read_text(table, "name", "an account")
    where = f"account {name!r}"
    check_fields(table, {"name", "key", "balances"}, where)
    keys = [_key(each, where) for each in read_tables(table, "key", where)]
    if "balances" not in table:
        return AccountSettings(name=name, keys=keys)
    balances = table["balances"]
    if not isinstance(balances, dict):
        raise ConfigError(f"{where}: balances must be a table")
    amounts = {asset: read_amount(balances, asset, where) for asset in balances}
    return AccountSettings(name=name, keys=keys, balances=amounts)


def _key(table: Table, where: str) -> KeySettings:
    check_fields(table, {"api_key", "api_secret", "public_key"}, f"a key of {where}")
    fields = {name: read_text(table, name, f"a key of {where}") for name in table}
    if "api_key" not in fields:
        raise ConfigError(f"a key of {where}: api_key is missing")
    return KeySettings(**fields)

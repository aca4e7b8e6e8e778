"""Settings: from the environment, `.env` and BAGBOT_HOME/bagbot.toml, validated once, frozen."""

import os
import secrets
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from dotenv import find_dotenv
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from bagbot.domain.errors import ConfigError

AccountName = Literal["paper", "testnet", "demo"]
PositiveDecimal = Annotated[Decimal, Field(gt=0)]
DEFAULT_HOME: Final = Path("~/.bagbot")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ApiSettings(_Section):
    """Where the API listens, and under which further names it may be asked (reverse proxies)."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    allowed_hosts: tuple[str, ...] = ()


class RiskSettings(_Section):
    """The limits of the risk manager; values in the quote asset.

    `symbols` are the only ones traded; None means BTC and ETH against USDT, as the account's
    market has them.
    """

    order_value_max: PositiveDecimal = Decimal(10_000)
    position_value_max: PositiveDecimal = Decimal(100_000)
    price_collar_ratio: PositiveDecimal = Decimal("0.05")
    symbols: tuple[str, ...] | None = None


class ExchangeSettings(_Section):
    """The embedded exchange of the paper account."""

    data: Path | None = None
    speed: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    seed: int = 7


class ExecutorTimes(_Section):
    """Waits of the order executor that one may want to change.

    `fence_margin_s` is how long after an order's time window its absence begins to count; no
    document of Binance's says how late a spot order may still execute. Beyond the paper account the
    floors are higher (`bagbot.trading.submission.require_safe`). `tokens_per_symbol` turns the
    token mode on (docs/decisions/0006-token-mode.md).
    """

    fence_margin_s: float = Field(default=60.0, ge=1.0, allow_inf_nan=False)
    probe_interval_s: float = Field(default=2.0, ge=0.1, allow_inf_nan=False)
    audit_interval_s: float = Field(default=30.0, ge=0.5, allow_inf_nan=False)
    recv_window_ms: int = Field(default=3000, ge=500, le=5000)
    tokens_per_symbol: int = Field(default=0, ge=0, le=5)


class JournalSettings(_Section):
    """When a snapshot is made: once so many rows have come since the one before."""

    snapshot_every_rows: int = Field(default=20_000, ge=1)


class Settings(BaseSettings):
    """Everything one can set. `BAGBOT_API__PORT=9000` sets `api.port`, and so on."""

    model_config = SettingsConfigDict(
        env_prefix="BAGBOT_", env_nested_delimiter="__", frozen=True, extra="ignore"
    )

    home: Path = Field(default=DEFAULT_HOME, validate_default=True)
    webhook_secret: SecretStr | None = None
    api: ApiSettings = ApiSettings()
    risk: RiskSettings = RiskSettings()
    exchange: ExchangeSettings = ExchangeSettings()
    executor: ExecutorTimes = ExecutorTimes()
    journal: JournalSettings = JournalSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Look into the arguments first, then the environment, `.env`, and the home's TOML file."""
        sources = (init_settings, env_settings, dotenv_settings)
        named = next((found["home"] for source in sources if "home" in (found := source())), None)
        home = DEFAULT_HOME if named is None else named
        toml = TomlConfigSettingsSource(settings_cls, Path(home).expanduser() / "bagbot.toml")
        return (*sources, toml)

    @field_validator("home")
    @classmethod
    def _in_the_owners_folder(cls, home: Path) -> Path:
        # A shell writes "~" out; a `.env` file and a TOML file do not.
        return home.expanduser()


def load_settings(**overrides: Any) -> Settings:  # noqa: ANN401 - pydantic validates each value.
    """Return the settings as of now.

    Raises ConfigError that names each wrong value and where it belongs.
    """
    try:
        return Settings(_env_file=find_dotenv(usecwd=True) or None, **overrides)
    except ValidationError as error:
        problems = "; ".join(
            f"{_name(problem['loc'])}: {problem['msg']} (got {_shown(problem)})"
            for problem in error.errors()
        )
        raise ConfigError(f"the settings are wrong: {problems}") from error
    except ValueError as error:
        raise ConfigError(f"the settings cannot be read: {error}") from error


class Home:
    """The folder under which everything lies that must outlive the process."""

    def __init__(self, path: Path) -> None:
        """Make the folder.

        Raises ConfigError when that cannot be done, for example because a file is there.
        """
        self.path = path
        _make_folder(path)

    @property
    def tokens(self) -> Path:
        """The file of the API's tokens (hashes only)."""
        return self.path / "tokens.jsonl"

    def journal(self, account: str) -> Path:
        """Return the file of an account's journal; its folder may not be there yet."""
        return self.path / account / "journal.sqlite"

    def snapshot(self, account: str) -> Path:
        """Return the file of the snapshot of an account's journal."""
        return self.journal(account).with_suffix(".snapshot")

    def folder(self, *names: str) -> Path:
        """Return a folder below, made if need be: ("paper",) is the paper account's."""
        folder = self.path.joinpath(*names)
        _make_folder(folder)
        return folder

    def secret(self, name: str) -> str:
        """Return the secret kept under a name, made at first use; only the owner can read it."""
        path = self.path / name
        try:
            if not path.exists():
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(descriptor, "w") as file:
                    file.write(secrets.token_hex(32) + "\n")
            text = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the secret {path} cannot be read: {error}") from error
        if len(text) < SECRET_LENGTH_MIN:
            raise ConfigError(
                f"the secret in {path} is too short; delete the file to get a new one"
            )
        return text


SECRET_LENGTH_MIN: Final = 16


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be used as a folder ({error.strerror}); "
            f"move what is there away, or set BAGBOT_HOME to another folder"
        ) from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ConfigError(f"{path} cannot be written to; set BAGBOT_HOME to another folder")


def _name(location: Sequence[int | str]) -> str:
    return "BAGBOT_" + "__".join(str(part).upper() for part in location)


def _shown(problem: Any) -> str:  # noqa: ANN401 - one of pydantic's error mappings.
    is_secret = "secret" in str(problem["loc"])
    return "a secret" if is_secret else repr(problem["input"])

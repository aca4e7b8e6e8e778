"""How a simulator is set up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from pathlib import Path

from bagbot.domain.errors import ConfigError
from bagbot.simulator.accounts import (
    AccountSettings,
    KeySettings,
    check_accounts,
    default_balances,
)
from bagbot.simulator.assumptions import Assumptions
from bagbot.simulator.live_market import LiveSettings
from bagbot.simulator.market_conditions import Condition
from bagbot.simulator.rate_limits import LimitSettings
from bagbot.simulator.symbol_settings import Symbol, check_symbols, name_of
from bagbot.simulator.symbols import DEFAULT_SYMBOLS


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketSettings:
    """How long connections live, and what they may do; Binance's numbers where it names any.

    `messages_per_second` counts what comes in on the public streams, pings and pongs included;
    the WebSocket API has the request weights instead. `connects_per_5_minutes` is for each
    address. A client that does not read is cut off when `backlog_messages_max` messages, or
    `backlog_bytes_max`, are waiting for it. A connection of any kind has `first_request_s` for
    its first request, and a request as long for its body.
    """

    ping_interval_s: float = 20.0
    pong_timeout_s: float = 60.0
    life_s: float = 24 * 60 * 60.0
    messages_per_second: int = 5
    streams_max: int = 1_024
    connects_per_5_minutes: int = 300
    message_bytes_max: int = 64 * 1024
    backlog_messages_max: int = 20_000
    backlog_bytes_max: int = 16 * 1024 * 1024
    connections_max: int = 5_000
    first_request_s: float = 10.0

    def __post_init__(self) -> None:
        """Raise ConfigError for a limit that lets nothing pass."""
        for one in fields(self):
            if not getattr(self, one.name) > 0:
                raise ConfigError(f"{one.name} must be above zero")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """How the simulator is set up.

    Without `store` nothing outlives the process. With `data`, a Parquet file of bars, or `trades`,
    a Parquet or CSV file of trades, the market of `data_symbol` is that record, from its beginning
    or from `market_start_ms` on; every other market is synthetic, and does what `conditions` say.
    With `live` every market is that of a real exchange, of which only prices are read. `symbols`
    are known names and new ones. `speed` is market seconds per wall second. Balances
    and seed count on the first start with a store only.

    There is one account, called "main", with `api_key`, `api_secret` and `balances`, or there are
    those in `accounts`; the first of them is the one admin requests are about by default.

    `matcher` is "book", or "bars": then `data_symbol` is the only market, and its bars decide fills
    by docs/FILL_RULES.md, with the costs `slippage_ticks` to `volume_share_ppm` (None: no limit).
    `stepped` bars wait for POST /admin/step, others follow the clock at `speed`.
    """

    api_key: str = ""
    api_secret: str = field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    store: Path | None = None
    data: Path | None = None
    trades: Path | None = None
    live: LiveSettings | None = None
    data_symbol: str = "BTCUSDT"
    market_start_ms: int | None = None
    speed: float = 1.0
    seed: int = 7
    # Their times count from the start of the market.
    conditions: Sequence[Condition] = ()
    balances: Mapping[str, Decimal] = field(default_factory=default_balances)
    accounts: Sequence[AccountSettings] = ()
    symbols: Sequence[Symbol] = tuple(DEFAULT_SYMBOLS)
    maker_fee_ppm: int = 1_000
    taker_fee_ppm: int = 1_000
    matcher: str = "book"
    stepped: bool = False
    slippage_ticks: int = 0
    slippage_ppm: int = 0
    through_ticks: int = 1
    volume_share_ppm: int | None = None
    open_orders_max: int = 200
    limits: LimitSettings = field(default_factory=LimitSettings)
    sockets: SocketSettings = field(default_factory=SocketSettings)
    assumptions: Assumptions = field(default_factory=Assumptions)

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot work."""
        check_symbols(self.symbols)
        names = [name_of(symbol) for symbol in self.symbols]
        sources = [self.data, self.trades, self.live]
        if sources.count(None) < 2:
            raise ConfigError("give one of data, trades and live")
        is_default = sources.count(None) == 3 or self.live is not None
        is_default &= self.data_symbol in DEFAULT_SYMBOLS
        if self.data_symbol not in names and not is_default:
            raise ConfigError(f"data_symbol must be one of {', '.join(names)}")
        if not 0 < self.speed < math.inf:
            raise ConfigError("speed must be a number above zero")
        if self.live is not None and self.speed != 1:
            raise ConfigError("a live market runs at speed 1")
        if self.accounts and (self.api_key or self.api_secret):
            raise ConfigError("give either accounts or one api_key, not both")
        check_accounts(self.all_accounts)
        self._check_matcher()

    def _check_matcher(self) -> None:
        if self.matcher not in ("book", "bars"):
            raise ConfigError('matcher must be "book" or "bars"')
        if self.matcher == "bars" and self.data is None:
            raise ConfigError("bars need data")
        if self.matcher == "bars" and not self.assumptions.market_orders_keep_lot_size:
            raise ConfigError("bars are traded in whole lots: market_orders_keep_lot_size")
        if self.stepped and self.matcher != "bars":
            raise ConfigError("only bars are stepped")
        share_ppm = self.volume_share_ppm or 0
        if min(self.slippage_ticks, self.slippage_ppm, self.through_ticks, share_ppm) < 0:
            raise ConfigError("a cost cannot be negative")

    @property
    def all_accounts(self) -> Sequence[AccountSettings]:
        """Return the accounts there are, at least one."""
        if self.accounts:
            return self.accounts
        key = KeySettings(api_key=self.api_key, api_secret=self.api_secret)
        return [AccountSettings(name="main", keys=[key], balances=self.balances)]

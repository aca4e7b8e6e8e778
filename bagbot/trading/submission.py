"""What one asks of the order executor, and what it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from bagbot.domain.errors import BagbotError, ConfigError
from bagbot.domain.order import Order, OrderIntent


class NotReadyError(BagbotError):
    """The executor takes no orders now: it is starting, stopping, or halted."""


class OrderConflictError(BagbotError):
    """What was asked does not fit the order as it is; nothing was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorSettings:
    """Waits and limits of the executor, in seconds unless named otherwise.

    `pages_timeout_s`: how long a list may take that may have many pages; each page has the
    connector's own limit. What is given up halfway begins anew, so it must be enough.
    `fence_margin_ms`: how long after an order's time window its absence begins to count. No
    document of Binance's bounds how late a spot order may execute, hence a minute.
    `audit_interval_s`: how often all trades are read and the balance is checked. What is learned
    there and is older than `stream_lag_max_s` makes the account's stream be opened anew.
    `replica_lag_max_s`: how far behind the truth an answer may be. So long trades are read again,
    and so long a difference must last to be a residual.
    `tokens_per_symbol`: how many tokens rest (0: no tokens); with one an order is sent up to
    `token_sends_max` times until it is answered. After a token was refused comes `token_pause_s`.
    """

    send_timeout_s: float = 10.0
    read_timeout_s: float = 10.0
    pages_timeout_s: float = 120.0
    probe_interval_s: float = 2.0
    poll_interval_s: float = 5.0
    audit_interval_s: float = 30.0
    stream_lag_max_s: float = 5.0
    replica_lag_max_s: float = 60.0
    price_interval_s: float = 1.0
    price_age_max_s: float = 5.0
    fence_margin_ms: int = 60_000
    close_timeout_s: float = 5.0
    tokens_per_symbol: int = 0
    token_sends_max: int = 3
    token_pause_s: float = 60.0


# On futures the matching engine itself refuses what comes after its time window; on spot nothing
# bounds it. Queries closer together ask the same lagging memory; rarer audits find things too late.
_FENCE_MARGIN_MS_MIN: Final = {"spot": 60_000, "futures": 10_000}
_PROBE_INTERVAL_S_MIN: Final = 2.0
_AUDIT_INTERVAL_S: Final = (5.0, 300.0)


def require_safe(settings: ExecutorSettings, *, is_spot: bool) -> None:
    """Raise ConfigError when a wait is too short for an exchange that is not our own."""
    market = "spot" if is_spot else "futures"
    margin_s_min = _FENCE_MARGIN_MS_MIN[market] / 1000
    least, most = _AUDIT_INTERVAL_S
    for name, value, is_safe, limit in (
        (
            "fence_margin_s",
            settings.fence_margin_ms / 1000,
            settings.fence_margin_ms / 1000 >= margin_s_min,
            f"at least {margin_s_min:g} on {market}",
        ),
        (
            "probe_interval_s",
            settings.probe_interval_s,
            settings.probe_interval_s >= _PROBE_INTERVAL_S_MIN,
            f"at least {_PROBE_INTERVAL_S_MIN:g}",
        ),
        (
            "audit_interval_s",
            settings.audit_interval_s,
            least <= settings.audit_interval_s <= most,
            f"between {least:g} and {most:g}",
        ),
    ):
        if not is_safe:
            raise ConfigError(
                f"BAGBOT_EXECUTOR__{name.upper()} is {value:g}; to be safe on a venue that is not "
                f"bagbot's own it must be {limit}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What became of a decision: its order, or why there is none.

    A repeat carries what the first one led to; `differs` when it asks for something else under
    the same identity.
    """

    order: Order | None
    message: str = ""
    is_repeat: bool = False
    differs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a plan may look at: the position, and what is still under way, in one symbol.

    `expected` is the position once every live order is filled that waits for no trigger;
    `unknown` names the orders whose outcome is not known.
    """

    position: Decimal
    expected: Decimal
    unknown: Sequence[str]


Plan = Callable[[View], OrderIntent | str]

"""What the API is given to work with; app.py builds it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bagbot.api.tokens import TokenStore
from bagbot.domain.clock import Clock
from bagbot.trading.connectors.interface import IExchangeConnector
from bagbot.trading.order_executor import OrderExecutor


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSystem:
    """The running parts that the routes use.

    `connector` is read for balances only. Any of `webhook_secrets` opens the webhook: to rotate
    one, configure both for a while; empty closes it. `hosts` are the names under which clients
    may reach us, besides the loopback ones. Alerts triggered more than `alert_age_max_s` ago are
    refused; None accepts any age.
    """

    executor: OrderExecutor
    connector: IExchangeConnector
    tokens: TokenStore
    clock: Clock
    webhook_secrets: Sequence[str] = field(default=(), repr=False)
    hosts: Sequence[str] = ()
    alert_age_max_s: float | None = 300.0
    balance_timeout_s: float = 10.0

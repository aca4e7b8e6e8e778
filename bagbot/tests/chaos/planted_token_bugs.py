"""Bugs planted into the tokens: what lets an order be sent again without being executed twice."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bagbot.domain.events import OutcomeUnknown
from bagbot.domain.order import Order, OrderStatus
from bagbot.tests.chaos.planted_bugs import change, planted
from bagbot.tests.chaos.planted_state_bugs import PLANTED
from bagbot.trading import order_tokens
from bagbot.trading.account_state import TOKEN_SOURCE, AccountState
from bagbot.trading.connectors.binance_connector import BinanceConnector
from bagbot.trading.order_executor import OrderExecutor
from bagbot.trading.order_lookup import OrderLookup
from bagbot.trading.reconciliation import Reconciliation

__all__ = ["PLANTED"]  # With these, the list is whole.


@planted("a token is given to two orders")
def _() -> None:
    def any_token(state: AccountState, symbol: str) -> Order | None:
        live = (state.orders[order_id] for order_id in state.live)
        return next(
            (
                order
                for order in live
                if order.intent.source == TOKEN_SOURCE
                and order.intent.request.symbol == symbol
                and order.status is OrderStatus.OPEN
            ),
            None,
        )

    order_tokens.free_token = any_token


@planted("an order with a token is sent again without it")
def _() -> None:
    def make(send_again: Any) -> Any:
        async def bare(self: Any, order_id: str, request: Any) -> Any:
            self._token_params = lambda token: {}
            params = {k: v for k, v in request.params.items() if not k.startswith("cancel")}
            return await send_again(self, order_id, replace(request, params=params))

        return bare

    change(OrderExecutor, "_send_again", make)


@planted("a token is replaced even if it cannot be cancelled")
def _() -> None:
    def make(params: Any) -> Any:
        def careless(self: Any, token_id: str) -> Mapping[str, object]:
            return {**params(self, token_id), "cancelReplaceMode": "ALLOW_FAILURE"}

        return careless

    change(BinanceConnector, "token_params", make)


@planted("what a repetition is told is taken for the answer")
def _() -> None:
    async def credulous(self: Any, order_id: str, request: Any) -> Any:
        if order_tokens.token_of(self.state, self.state.orders[order_id]) is None:
            return None
        told = await self._send(request, self._prepared(request))
        return None if isinstance(told, OutcomeUnknown) else told

    OrderExecutor._send_again = credulous  # type: ignore[method-assign]


@planted("an order whose token is gone is given up before replicas know")
def _() -> None:
    OrderLookup._has_long_been_barred = lambda self, order: self._is_barred(order)  # type: ignore[method-assign]


@planted("an order is given up though its token still rests")
def _() -> None:
    OrderLookup._has_long_been_barred = (  # type: ignore[method-assign]
        lambda self, order: bool(order.sends[order.attempt].token)
    )

    async def kept(self: Any, order_id: str) -> None:
        """Take no token back."""

    Reconciliation._take_token_back = kept  # type: ignore[method-assign]


@planted("tokens that nobody will replace stay")
def _() -> None:
    order_tokens.unspent = lambda state, symbol: []

"""A small exchange in memory, as a connector: for tests in which the exchange is not the point."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from bagbot.domain.errors import OrderNotFoundError
from bagbot.domain.events import Fill
from bagbot.domain.instrument import Instrument
from bagbot.domain.order import OrderRequest, OrderType
from bagbot.trading.connectors.interface import (
    Balance,
    ExchangeOrder,
    ExchangeOrderStatus,
    IExchangeConnector,
    Ticker,
)

PRICE = Decimal(100)
SPOT = ("BTC/USDT", "ETH/USDT")


def instrument(symbol: str) -> Instrument:
    base, _, quote = symbol.partition("/")
    return Instrument(
        symbol=symbol,
        exchange_symbol=base + quote.partition(":")[0],
        base=base,
        quote="USDT",
        tick_size=Decimal("0.01"),
        lot_size=Decimal("0.001"),
    )


class DeskExchange(IExchangeConnector):
    """Fills market orders at 100 at once, lets limit orders rest, and fails when told to."""

    name = "desk"

    def __init__(self, *symbols: str) -> None:
        self.sent: list[OrderRequest] = []
        self.orders: dict[str, ExchangeOrder] = {}
        self.failure: Exception | None = None
        self.balance_failure: Exception | None = None
        self.fee_ratio = Decimal(0)
        self._symbols = symbols or SPOT
        self._ids = itertools.count(1)

    async def load_instruments(self) -> Mapping[str, Instrument]:
        return {symbol: instrument(symbol) for symbol in self._symbols}

    async def fetch_ticker(self, symbol: str) -> Ticker:
        return Ticker(symbol=symbol, bid=PRICE, ask=PRICE, last=PRICE)

    async def fetch_balance(self):
        if self.balance_failure is not None:
            raise self.balance_failure
        return {
            "USDT": Balance(asset="USDT", free=Decimal("1E+3"), used=Decimal("0.50")),
            "DOGE": Balance(asset="DOGE", free=Decimal(0), used=Decimal(0)),
        }

    async def fetch_positions(self):
        return []

    async def create_order(self, order_payload):
        request = OrderRequest.from_payload(order_payload)
        self.sent.append(request)
        if self.failure is not None:
            raise self.failure
        number = str(next(self._ids))
        order = ExchangeOrder(
            id=number,
            symbol=request.symbol,
            status=ExchangeOrderStatus.OPEN,
            client_order_id=request.client_order_id,
            side=request.side,
            amount=request.amount,
            price=request.price,
        )
        if request.type is OrderType.MARKET:
            fee = request.amount * self.fee_ratio
            fill = Fill(
                trade_id=f"t{number}",
                quantity=request.amount,
                price=PRICE,
                fee=fee,
                fee_asset=request.symbol.partition("/")[0] if fee else "",
            )
            order = replace(
                order, status=ExchangeOrderStatus.CLOSED, filled=request.amount, fills=[fill]
            )
        self.orders[number] = order
        return order

    async def cancel_order(self, order_id, symbol=None, params=None):
        order = self.orders[order_id]
        if order.status is not ExchangeOrderStatus.OPEN:
            raise OrderNotFoundError(f"order {order_id} is not open")
        self.orders[order_id] = replace(order, status=ExchangeOrderStatus.CANCELED)
        return self.orders[order_id]

    async def fetch_order(self, order_id, symbol=None, *, client_order_id=None):
        for order in self.orders.values():
            if order_id == order.id or client_order_id == order.client_order_id:
                return order
        raise OrderNotFoundError(f"no order {order_id or client_order_id}")

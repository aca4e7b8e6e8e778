"""A connector as a stranger would write it: the four methods, and nothing of bagbot's but the base.

It is an exchange of its own, in memory: it takes orders, fills market orders at one price, and can
be told to misbehave.
"""

import itertools
from collections.abc import Callable
from decimal import Decimal

from bagbot.trading.connectors.interface import Balance, IExchangeConnector

PRICE = Decimal(100)


class StrangersConnector(IExchangeConnector):
    """Answers with plain mappings in CCXT's words; its cancel_order knows no symbol."""

    def __init__(self) -> None:
        self.sent: list[dict] = []
        self.cancelled: list[str] = []
        self.on_create: Callable[[dict], object] | None = None
        self._ids = itertools.count(1)

    async def fetch_balance(self):
        return {"USDT": Balance(asset="USDT", free=Decimal(1000), used=Decimal(0))}

    async def create_order(self, order_payload):
        self.sent.append(order_payload)
        if self.on_create is not None:
            return self.on_create(order_payload)
        return self.answer(order_payload)

    def answer(self, order_payload):
        is_market = order_payload["type"] == "market"
        return {
            "id": str(next(self._ids)),
            "symbol": order_payload["symbol"],
            "status": "closed" if is_market else "open",
            "filled": order_payload["amount"] if is_market else 0,
            "average": PRICE if is_market else None,
        }

    async def cancel_order(self, order_id):
        self.cancelled.append(order_id)
        return {"id": order_id, "status": "canceled"}

    async def fetch_positions(self):
        return []

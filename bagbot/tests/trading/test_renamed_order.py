"""An order in doubt, cancelled by hand: spot shows it under the cancel's id from then on."""

import asyncio
from pathlib import Path

from bagbot.domain.errors import OrderNotFoundError, OutcomeUnknownError
from bagbot.domain.instrument import Side
from bagbot.domain.order import OrderStatus
from bagbot.tests.trading.strangers_exchange import StrangersConnector
from bagbot.tests.trading.test_order_executor import intent, running
from bagbot.trading.connectors.interface import ExchangeOrder, ExchangeOrderStatus


class RenamingExchange(StrangersConnector):
    """Takes an order, loses the answer, and knows it by another id only; everything is past."""

    def __init__(self, *, renames: bool) -> None:
        super().__init__()
        self._renames = renames

    async def create_order(self, order_payload):
        self.sent.append(order_payload)
        raise OutcomeUnknownError("the answer was lost")

    async def fetch_order(self, order_id, symbol=None, *, client_order_id=None):
        raise OrderNotFoundError("Order does not exist.")

    async def fetch_open_orders(self, symbol=None):
        return []

    async def fetch_orders(self, symbol, *, since_ms=None):
        if not self._renames:
            return []
        order = self.sent[0]
        return [
            ExchangeOrder(
                id="9",
                symbol=symbol,
                status=ExchangeOrderStatus.CANCELED,
                client_order_id="web_cancel",
                side=Side(order["side"]),
                type=order["type"],
                amount=order["amount"],
                price=order["price"],
                exchange_time_ns=2**62,
            )
        ]

    def stamp(self):
        # So long ago that every fence has passed.
        return {"timestamp": 1 if not self.sent else 10**9, "recvWindow": 1}


async def test_an_order_like_ours_under_a_cancels_id_is_no_absence(tmp_path: Path) -> None:
    connector = RenamingExchange(renames=True)
    async with running(tmp_path, connector) as executor:
        taken = await executor.submit(intent(type="limit", price="90"))
        assert taken.order is not None
        for _ in range(100):
            if executor.disputes:
                break
            await asyncio.sleep(0.02)
        assert "a cancel may have renamed it" in executor.disputes["BTC/USDT"]
        assert executor.state.orders[taken.order.id].status is OrderStatus.UNKNOWN
    assert len(connector.sent) == 1


async def test_without_such_an_order_the_absence_is_a_proof(tmp_path: Path) -> None:
    connector = RenamingExchange(renames=False)
    async with running(tmp_path, connector) as executor:
        taken = await executor.submit(intent(type="limit", price="90"))
        assert taken.order is not None
        order = await executor.until_settled(taken.order.id, 5)
        assert order.status is OrderStatus.NOT_ACCEPTED
        assert executor.disputes == {}

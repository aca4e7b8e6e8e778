"""A server that answers what a test tells it to, and the rows that Binance and Kraken print."""

import json
import time
from types import TracebackType
from typing import Any, Self

from aiohttp import web

ACCEPTED = {
    "symbol": "BTCUSDT",
    "orderId": 28,
    "orderListId": -1,
    "clientOrderId": "order-1",
    "transactTime": 1507725176595,
    "price": "0.00000000",
    "origQty": "0.01000000",
    "executedQty": "0.00000000",
    "cummulativeQuoteQty": "0.00000000",
    "status": "NEW",
    "timeInForce": "GTC",
    "type": "MARKET",
    "side": "BUY",
    "fills": [],
}
SYMBOL_ROW = {
    "symbol": "BTCUSDT",
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "filters": [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": "0.01",
            "maxPrice": "1000000",
            "tickSize": "0.01",
        },
        {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
    ],
}


class Scripted:
    """A server with a queue of answers: (status, body, headers), or "drop" to cut the line."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str, dict[str, str]] | str] = []
        self.requests: list[tuple[str, str, str]] = []
        self.fixed: dict[str, Any] = {
            "/api/v3/time": {"serverTime": int(time.time() * 1000)},
            "/api/v3/exchangeInfo": {"symbols": [SYMBOL_ROW]},
        }
        self.behave: Any = None
        self._runner = web.ServerRunner(
            web.Server(self._answer, access_log=None), shutdown_timeout=0.1
        )
        self.url = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    def then(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self.answers.append((status, text, headers or {}))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            opened = web.WebSocketResponse(autoping=True)
            await opened.prepare(request)
            await self.behave(opened)
            return opened
        path, _, query = request.raw_path.partition("?")
        self.requests.append((request.method, path, query + (await request.read()).decode()))
        if not self.answers and path in self.fixed:
            return web.json_response(self.fixed[path])
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        status, text, headers = answer
        kind = "application/json" if text[:1] in "{[" else "text/html"
        return web.Response(status=status, text=text, headers=headers, content_type=kind)


KRAKEN_PAIR = {
    "altname": "XBTUSD",
    "wsname": "XBT/USD",
    "aclass_base": "currency",
    "base": "XXBT",
    "aclass_quote": "currency",
    "quote": "ZUSD",
    "lot": "unit",
    "cost_decimals": 5,
    "pair_decimals": 1,
    "lot_decimals": 8,
    "lot_multiplier": 1,
    "leverage_buy": [],
    "leverage_sell": [],
    "fees": [[0, 0.4]],
    "fees_maker": [[0, 0.25]],
    "fee_volume_currency": "ZUSD",
    "margin_call": 80,
    "margin_stop": 40,
    "ordermin": "0.00005",
    "costmin": "0.5",
    "tick_size": "0.1",
    "status": "online",
}
KRAKEN_ASSETS = {
    "XXBT": {"aclass": "currency", "altname": "XBT", "decimals": 10, "display_decimals": 5},
    "ZUSD": {"aclass": "currency", "altname": "USD", "decimals": 4, "display_decimals": 2},
}

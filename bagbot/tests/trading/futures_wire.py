"""A server that answers as Binance's USD-M futures documentation says, for one test at a time.

This is documented wire data, not a matching engine: it checks keys and signatures, remembers the
orders it was sent, and answers each call with the documented fields. Nothing trades in it unless
the test says so with `fill`. It knows nothing of the connector.
"""

import asyncio
import hashlib
import hmac
import json
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

from aiohttp import WSMsgType, web

EXCHANGE_INFO = {
    "timezone": "UTC",
    "serverTime": 1,
    "rateLimits": [],
    "exchangeFilters": [],
    "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
    "symbols": [
        {
            "symbol": "BTCUSDT",
            "pair": "BTCUSDT",
            "contractType": "PERPETUAL",
            "deliveryDate": 4133404800000,
            "onboardDate": 1569398400000,
            "status": "TRADING",
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "marginAsset": "USDT",
            "pricePrecision": 2,
            "quantityPrecision": 3,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": "261.10",
                    "maxPrice": "809484",
                    "tickSize": "0.10",
                },
                {
                    "filterType": "LOT_SIZE",
                    "minQty": "0.001",
                    "maxQty": "1000",
                    "stepSize": "0.001",
                },
                {
                    "filterType": "MARKET_LOT_SIZE",
                    "minQty": "0.001",
                    "maxQty": "120",
                    "stepSize": "0.001",
                },
                {"filterType": "MIN_NOTIONAL", "notional": "100"},
                {
                    "filterType": "PERCENT_PRICE",
                    "multiplierUp": "1.0500",
                    "multiplierDown": "0.9500",
                    "multiplierDecimal": "4",
                },
            ],
            "orderTypes": ["LIMIT", "MARKET"],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        },
        {
            "symbol": "BTCUSDT_261225",
            "pair": "BTCUSDT",
            "contractType": "CURRENT_QUARTER",
            "status": "TRADING",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "marginAsset": "USDT",
            "filters": [],
        },
    ],
}


class FuturesWire:
    """The server; `url` is its base address, `requests` what it was sent."""

    def __init__(self, api_key: str, api_secret: str) -> None:
        self._api_key = api_key
        self._api_secret = api_secret
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.refusals: list[tuple[int, dict[str, Any]]] = []
        self.orders: dict[int, dict[str, Any]] = {}
        self.positions: list[dict[str, str]] = []
        self.klines: list[list[Any]] = []
        self.streams: list[str] = []
        self._sockets: list[web.WebSocketResponse] = []
        self.subscribed = asyncio.Event()
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
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
        for socket in self._sockets:
            await socket.close()
        await self._runner.cleanup()

    async def fill(self, order_id: int, quantity: str, price: str) -> None:
        """Tell the stream that a part of the order traded."""
        order = self.orders[order_id]
        now_ms = int(time.time() * 1000)
        update = {
            "s": order["symbol"],
            "c": order["clientOrderId"],
            "S": order["side"],
            "o": order["type"],
            "f": order["timeInForce"],
            "q": order["origQty"],
            "p": order["price"],
            "ap": price,
            "sp": "0",
            "x": "TRADE",
            "X": "PARTIALLY_FILLED",
            "i": order_id,
            "l": quantity,
            "z": quantity,
            "L": price,
            "N": "USDT",
            "n": "0.0123",
            "T": now_ms,
            "t": 8886774,
            "m": True,
            "R": False,
            "ps": "BOTH",
            "rp": "0",
        }
        await self._send({"e": "ORDER_TRADE_UPDATE", "T": now_ms, "E": now_ms, "o": update})

    async def expire_listen_key(self) -> None:
        """Tell the stream that its key is worth nothing any more."""
        await self._send({"e": "listenKeyExpired", "E": 1, "listenKey": "the-listen-key"})

    async def close_bar(self, open_ms: int) -> None:
        """Tell the stream that a minute's bar has closed."""
        bar = {"t": open_ms, "T": open_ms + 59_999, "s": "BTCUSDT", "i": "1m", "x": True}
        prices = {"o": "1.15", "h": "1.25", "l": "1.05", "c": "1.18", "v": "3.001"}
        told = {"e": "kline", "E": open_ms + 60_000, "s": "BTCUSDT", "k": {**bar, **prices}}
        await self._send(told)

    async def _send(self, event: dict[str, Any]) -> None:
        await self._sockets[-1].send_str(json.dumps(event))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        if path == "/private/ws":
            return await self._stream(request, query)
        if path.startswith("/market/ws/"):
            return await self._market_stream(request, path)
        body = (await request.read()).decode()
        fields = dict(parse_qsl(query + "&" + body))
        self.requests.append((request.method, path, fields))
        refusal = self._refusal(request, path, query + body)
        if refusal is not None:
            return web.json_response(refusal[1], status=refusal[0])
        handler = getattr(self, f"_{request.method.lower()}_{path.rpartition('/')[2].lower()}")
        status, answer = handler(fields)
        return web.json_response(answer, status=status)

    def _refusal(
        self, request: web.BaseRequest, path: str, signed: str
    ) -> tuple[int, dict[str, Any]] | None:
        if path.rpartition("/")[2] in (
            "time",
            "exchangeInfo",
            "bookTicker",
            "price",
            "klines",
        ):
            return None
        if request.headers.get("X-MBX-APIKEY") != self._api_key:
            return 401, {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}
        if not path.endswith("listenKey"):
            text, _, signature = signed.rpartition("&signature=")
            expected = hmac.new(self._api_secret.encode(), text.encode(), hashlib.sha256)
            if signature != expected.hexdigest():
                return 400, {"code": -1022, "msg": "Signature for this request is not valid."}
        return self.refusals.pop(0) if self.refusals and path.endswith("/order") else None

    def _get_time(self, _fields: dict[str, str]) -> tuple[int, Any]:
        return 200, {"serverTime": int(time.time() * 1000)}

    def _get_exchangeinfo(self, _fields: dict[str, str]) -> tuple[int, Any]:
        return 200, EXCHANGE_INFO

    def _get_bookticker(self, fields: dict[str, str]) -> tuple[int, Any]:
        row = {
            "symbol": "BTCUSDT",
            "bidPrice": "61800.10",
            "bidQty": "1.5",
            "askPrice": "61800.20",
            "askQty": "2.0",
            "time": 1589437530011,
        }
        return 200, row if "symbol" in fields else [row]

    def _get_price(self, fields: dict[str, str]) -> tuple[int, Any]:
        row = {"symbol": "BTCUSDT", "price": "61800.15", "time": 1589437530011}
        return 200, row if "symbol" in fields else [row]

    def _get_klines(self, fields: dict[str, str]) -> tuple[int, Any]:
        since_ms = int(fields.get("startTime", 0))
        return 200, [row for row in self.klines if row[0] >= since_ms]

    def _post_order(self, fields: dict[str, str]) -> tuple[int, Any]:
        order_id = 22542179 + len(self.orders)
        order = {
            "clientOrderId": fields["newClientOrderId"],
            "cumQty": "0",
            "executedQty": "0",
            "orderId": order_id,
            "origQty": fields["quantity"],
            "price": fields.get("price", "0"),
            "reduceOnly": fields.get("reduceOnly") == "true",
            "side": fields["side"],
            "positionSide": "BOTH",
            "status": "NEW",
            "stopPrice": "0",
            "closePosition": False,
            "symbol": fields["symbol"],
            "timeInForce": fields.get("timeInForce", "GTC"),
            "type": fields["type"],
            "origType": fields["type"],
            "updateTime": 1566818724722,
            "workingType": "CONTRACT_PRICE",
            "priceProtect": False,
            "priceMatch": "NONE",
            "selfTradePreventionMode": "EXPIRE_MAKER",
            "goodTillDate": 0,
        }
        self.orders[order_id] = order
        return 200, order

    def _get_order(self, fields: dict[str, str]) -> tuple[int, Any]:
        for order in self.orders.values():
            asked = (fields.get("orderId"), fields.get("origClientOrderId"))
            if str(order["orderId"]) in asked or order["clientOrderId"] in asked:
                return 200, {**order, "avgPrice": "0.00", "cumQuote": "0", "time": 1566818724700}
        return 400, {"code": -2013, "msg": "Order does not exist."}

    def _delete_order(self, fields: dict[str, str]) -> tuple[int, Any]:
        order = self.orders.get(int(fields["orderId"]))
        if order is None or order["status"] != "NEW":
            return 400, {"code": -2011, "msg": "Unknown order sent."}
        order["status"] = "CANCELED"
        return 200, order

    def _get_openorders(self, _fields: dict[str, str]) -> tuple[int, Any]:
        return 200, [o for o in self.orders.values() if o["status"] == "NEW"]

    def _get_positionrisk(self, _fields: dict[str, str]) -> tuple[int, Any]:
        return 200, self.positions

    def _get_usertrades(self, _fields: dict[str, str]) -> tuple[int, Any]:
        trade = {
            "buyer": False,
            "commission": "-0.07819010",
            "commissionAsset": "USDT",
            "id": 698759,
            "maker": False,
            "orderId": 25851813,
            "price": "7819.01",
            "qty": "0.002",
            "quoteQty": "15.63802",
            "realizedPnl": "-0.91539999",
            "side": "SELL",
            "positionSide": "BOTH",
            "symbol": "BTCUSDT",
            "time": 1569514978020,
        }
        return 200, [trade]

    def _get_account(self, _fields: dict[str, str]) -> tuple[int, Any]:
        usdt = {
            "asset": "USDT",
            "walletBalance": "1000.00000000",
            "initialMargin": "150.50000000",
            "availableBalance": "849.50000000",
            "marginBalance": "1000.00000000",
            "updateTime": 1625474304765,
        }
        empty = {
            **usdt,
            "asset": "BNB",
            "walletBalance": "0.00000000",
            "initialMargin": "0.00000000",
            "availableBalance": "0.00000000",
        }
        return 200, {"totalWalletBalance": "1000.0", "assets": [usdt, empty], "positions": []}

    def _post_listenkey(self, _fields: dict[str, str]) -> tuple[int, Any]:
        return 200, {"listenKey": "the-listen-key"}

    def _put_listenkey(self, _fields: dict[str, str]) -> tuple[int, Any]:
        return 200, {"listenKey": "the-listen-key"}

    async def _stream(self, request: web.BaseRequest, query: str) -> web.StreamResponse:
        if dict(parse_qsl(query)).get("listenKey") != "the-listen-key":
            return web.Response(status=404)
        return await self._listened(request)

    async def _market_stream(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        self.streams.append(path)
        return await self._listened(request)

    async def _listened(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets.append(socket)
        self.subscribed.set()
        async for message in socket:
            if message.type is WSMsgType.CLOSE:
                break
        return socket

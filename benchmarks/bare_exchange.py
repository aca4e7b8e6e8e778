"""The peer of the simulator's benchmark: an aiohttp server that only checks the signature.

It answers every order with the same fixed text, over REST and over a WebSocket. No parameters are
read, no time, no key, no limits; nothing is matched, booked, logged, stored or streamed.
"""

import asyncio
import hashlib
import hmac
import os
import sys

import msgspec
import uvloop
from aiohttp import WSMsgType, web

SECRET = os.environ["BENCH_SECRET"].encode()
ORDER = {
    "symbol": "BTCUSDT",
    "orderId": 28,
    "orderListId": -1,
    "clientOrderId": "6gCrw2kRUAF9CvJDGP16IP",
    "transactTime": 1507725176595,
    "price": "0.00000000",
    "origQty": "0.00100000",
    "executedQty": "0.00100000",
    "origQuoteOrderQty": "0.00000000",
    "cummulativeQuoteQty": "90.00001000",
    "status": "FILLED",
    "timeInForce": "GTC",
    "type": "MARKET",
    "side": "BUY",
    "workingTime": 1507725176595,
    "selfTradePreventionMode": "NONE",
    "fills": [
        {
            "price": "90000.01000000",
            "qty": "0.00100000",
            "commission": "0.00000100",
            "commissionAsset": "BTC",
            "tradeId": 56,
        }
    ],
}
ANSWER = msgspec.json.encode(ORDER)


async def answer_rest(request: web.Request) -> web.Response:
    payload, _, signature = (await request.read()).rpartition(b"&signature=")
    if not is_signed(payload, signature):
        raise web.HTTPUnauthorized
    return web.Response(body=ANSWER, content_type="application/json")


async def answer_socket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        sent = msgspec.json.decode(message.data)
        signature = sent["params"].pop("signature").encode()
        payload = "&".join(f"{name}={value}" for name, value in sorted(sent["params"].items()))
        if not is_signed(payload.encode(), signature):
            break
        reply = {"id": sent["id"], "status": 200, "result": ORDER}
        await socket.send_frame(msgspec.json.encode(reply), WSMsgType.TEXT)
    return socket


def is_signed(payload: bytes, signature: bytes) -> bool:
    expected = hmac.new(SECRET, payload, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signature)


async def ping(_request: web.Request) -> web.Response:
    return web.json_response({})


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/api/v3/ping", ping)
    app.router.add_post("/api/v3/order", answer_rest)
    app.router.add_get("/ws-api/v3", answer_socket)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        print=None,
        shutdown_timeout=1.0,
    )

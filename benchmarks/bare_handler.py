"""The peer of the benchmark: FastAPI and ccxt, as short as one would write it.

It checks the secret and sends the order. No journal, no risk check, no memory of alerts. ccxt's own
throttle is off, which would space orders 10 ms apart.
"""

import hmac
import os
import sys

import ccxt.async_support as ccxt
import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

SECRET = os.environ["BENCH_SECRET"]
BASE_URL = os.environ["BINANCE_BASE_URL"]

exchange = ccxt.binance(
    {
        "apiKey": os.environ["BINANCE_API_KEY"],
        "secret": os.environ["BINANCE_API_SECRET"],
        "enableRateLimit": False,
        "options": {
            "fetchMarkets": {"types": ["spot"]},
            "fetchCurrencies": False,
            "fetchMargins": False,
        },
    }
)
exchange.urls["api"]["public"] = exchange.urls["api"]["private"] = f"{BASE_URL}/api/v3"
app = FastAPI()


class Alert(BaseModel):
    secret: str
    id: str
    action: str
    ticker: str
    amount: str


@app.get("/health/ready")
async def ready() -> dict[str, bool]:
    await exchange.load_markets()
    return {"ready": True}


@app.post("/webhooks/tradingview")
async def alert(message: Alert) -> dict[str, str]:
    if not hmac.compare_digest(message.secret, SECRET):
        raise HTTPException(401)
    symbol = exchange.markets_by_id[message.ticker][0]["symbol"]
    order = await exchange.create_order(symbol, "market", message.action, float(message.amount))
    return {"client_order_id": order["clientOrderId"]}


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )

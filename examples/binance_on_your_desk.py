"""Test any Binance client without Binance: here plain ccxt against bagbot's exchange."""

import asyncio

import ccxt.async_support as ccxt

from bagbot import SimulatorServer, SimulatorSettings

KEY, SECRET = "an-example-key", "an-example-secret"


async def main() -> None:
    async with SimulatorServer(SimulatorSettings(api_key=KEY, api_secret=SECRET)) as exchange:
        client = ccxt.binance(
            {
                "apiKey": KEY,
                "secret": SECRET,
                "options": {
                    "fetchMarkets": {"types": ["spot"]},
                    "fetchCurrencies": False,
                    "fetchMargins": False,
                },
            }
        )
        client.urls["api"]["public"] = client.urls["api"]["private"] = f"{exchange.url}/api/v3"
        try:
            order = await client.create_order("BTC/USDT", "market", "buy", 0.01)
            print(order["status"], order["filled"], "at", order["average"])
            balance = await client.fetch_balance()
            print("BTC:", balance["BTC"]["total"])
        finally:
            await client.close()


asyncio.run(main())

"""CCXT as its users set it up, with the simulator's addresses in place of Binance's."""

import ccxt.pro

from bagbot.tests.simulator.signing_client import KEY, SECRET


def ccxt_client(simulator, **settings):
    """Return an unmodified CCXT client; nothing it knows leads to any other machine."""
    exchange = ccxt.pro.binance(
        {
            "apiKey": KEY,
            "secret": SECRET,
            "enableRateLimit": False,
            "options": {
                "defaultType": "spot",
                "fetchCurrencies": False,
                "fetchMargins": False,
                "fetchMarkets": {"types": ["spot"]},
            },
        }
        | settings
    )
    api = exchange.urls["api"]
    for name in [name for name, address in api.items() if isinstance(address, str)]:
        api[name] = simulator.url + "/not-served"
    for name in ("public", "private", "v1"):
        api[name] = simulator.url + "/api/v3"
    api["ws"]["spot"] = simulator.websocket_url + "/stream/ws"
    api["ws"]["ws-api"]["spot"] = simulator.websocket_url + "/ws-api/v3"
    return exchange

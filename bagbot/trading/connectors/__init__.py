"""The connectors to exchanges. Add one by implementing `IExchangeConnector`."""

from bagbot.domain.ohlcv import Ohlcv
from bagbot.trading.connectors.binance_connector import BinanceConnector
from bagbot.trading.connectors.ccxt_connector import CcxtConnector
from bagbot.trading.connectors.interface import (
    Balance,
    ExchangeOrder,
    ExchangeOrderStatus,
    ExchangePosition,
    IExchangeConnector,
    StreamLost,
    StreamOpened,
    Ticker,
    Trade,
)

__all__ = [
    "Balance",
    "BinanceConnector",
    "CcxtConnector",
    "ExchangeOrder",
    "ExchangeOrderStatus",
    "ExchangePosition",
    "IExchangeConnector",
    "Ohlcv",
    "StreamLost",
    "StreamOpened",
    "Ticker",
    "Trade",
]

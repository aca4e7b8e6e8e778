"""bagbot turns a decision to trade into exactly one order, and can prove it.

The names below are what is promised. They load when they are first used, so that `import bagbot`
costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bagbot.domain.order import Order, OrderIntent, OrderRequest, OrderStatus
    from bagbot.simulator.server import SimulatorServer, SimulatorSettings
    from bagbot.storage.sqlite_journal import SqliteJournal
    from bagbot.system_clock import SystemClock
    from bagbot.trading.backtester import Backtester
    from bagbot.trading.connectors import BinanceConnector, CcxtConnector, IExchangeConnector
    from bagbot.trading.order_executor import OrderExecutor
    from bagbot.trading.risk_manager import RiskLimits, RiskManager
    from bagbot.trading.strategy import Strategy
    from bagbot.trading.sweep import Sweep

__version__ = "0.1.0"
__all__ = [
    "Backtester",
    "BinanceConnector",
    "CcxtConnector",
    "IExchangeConnector",
    "Order",
    "OrderExecutor",
    "OrderIntent",
    "OrderRequest",
    "OrderStatus",
    "RiskLimits",
    "RiskManager",
    "SimulatorServer",
    "SimulatorSettings",
    "SqliteJournal",
    "Strategy",
    "Sweep",
    "SystemClock",
]

_MODULES: Final = {
    "Backtester": "bagbot.trading.backtester",
    "BinanceConnector": "bagbot.trading.connectors",
    "CcxtConnector": "bagbot.trading.connectors",
    "IExchangeConnector": "bagbot.trading.connectors",
    "Order": "bagbot.domain.order",
    "OrderExecutor": "bagbot.trading.order_executor",
    "OrderIntent": "bagbot.domain.order",
    "OrderRequest": "bagbot.domain.order",
    "OrderStatus": "bagbot.domain.order",
    "RiskLimits": "bagbot.trading.risk_manager",
    "RiskManager": "bagbot.trading.risk_manager",
    "SimulatorServer": "bagbot.simulator.server",
    "SimulatorSettings": "bagbot.simulator.server",
    "SqliteJournal": "bagbot.storage.sqlite_journal",
    "Strategy": "bagbot.trading.strategy",
    "Sweep": "bagbot.trading.sweep",
    "SystemClock": "bagbot.system_clock",
}


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'bagbot' has no attribute {name!r}")

"""A decision taken in Python, through the same gate, journal and recovery as any alert.

It brings its own exchange, so it runs as it is.
"""

import asyncio
import tempfile
from decimal import Decimal
from pathlib import Path

from bagbot import (
    BinanceConnector,
    OrderExecutor,
    OrderIntent,
    OrderRequest,
    RiskLimits,
    RiskManager,
    SimulatorServer,
    SimulatorSettings,
    SqliteJournal,
    SystemClock,
)
from bagbot.domain.order import intent_id

KEY, SECRET = "an-example-key", "an-example-secret"


async def main() -> None:
    clock = SystemClock()
    limits = RiskLimits(order_value_max=Decimal(1000), symbols=frozenset({"BTC/USDT"}))
    with tempfile.TemporaryDirectory() as folder:
        journal = SqliteJournal(Path(folder) / "journal.sqlite")
        async with (
            SimulatorServer(SimulatorSettings(api_key=KEY, api_secret=SECRET)) as exchange,
            BinanceConnector(KEY, SECRET, base_url=exchange.url) as connector,
            OrderExecutor(
                connector=connector,
                journal=journal,
                risk_manager=RiskManager(limits),
                clock=clock,
            ) as executor,
        ):
            for decision, amount in (("monday", "0.01"), ("monday", "0.01"), ("tuesday", "5")):
                request = OrderRequest.from_payload(
                    {"symbol": "BTC/USDT", "side": "buy", "type": "market", "amount": amount}
                )
                intent = OrderIntent(
                    id=intent_id("main", decision),
                    account="main",
                    request=request,
                    source="example",
                    identity=decision,
                    time_ns=clock.time_ns(),
                )
                taken = await executor.submit(intent)
                assert taken.order is not None
                order = await executor.until_settled(taken.order.id, timeout_s=5)
                repeat = " (a repeat: nothing was done)" if taken.is_repeat else ""
                print(decision, order.status, order.filled, order.reason or "", repeat)
        await journal.close()


asyncio.run(main())

"""A day of trading by script: prints a digest of every byte that every client was sent.

The clock is the script's own, so that nothing depends on when or how fast it runs.
"""

import asyncio
import contextlib
import hashlib
import json
import random
import sys
from decimal import Decimal

import aiohttp

from bagbot.simulator.accounts import AccountSettings, KeySettings
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import SigningClient

START_NS = 1_767_225_600_000_000_000
COMMANDS = 250
NAMES = ("alice", "bob")
STREAMS = (
    "btcusdt@trade/btcusdt@aggTrade/btcusdt@bookTicker/btcusdt@kline_1m/btcusdt@avgPrice/"
    "btcusdt@depth/btcusdt@depth@100ms/btcusdt@depth5/btcusdt@miniTicker/btcusdt@ticker"
)
SOCKETS = {
    "raw": f"/ws/{STREAMS}",
    "combined": "/stream?streams=!miniTicker@arr/ethbtc@depth20/ethusdt@trade",
    "alice": "/ws-api/v3",
    "bob": "/ws-api/v3?timeUnit=MICROSECOND",
}


class Session:
    def __init__(self, seed):
        self.now_ns = START_NS
        self.chance = random.Random(1)
        accounts = [
            AccountSettings(
                name=name,
                keys=[KeySettings(api_key=name, api_secret=f"{name}-secret")],
                balances={"BTC": Decimal(5), "USDT": Decimal(400_000), "ETH": Decimal(50)},
            )
            for name in NAMES
        ]
        settings = SimulatorSettings(accounts=accounts, seed=seed, speed=20.0)
        self.server = SimulatorServer(settings, clock=lambda: self.now_ns, plays_by_itself=False)
        self.digests = {name: hashlib.sha256() for name in ("rest", *SOCKETS)}
        self.counts = dict.fromkeys(self.digests, 0)

    def note(self, channel, data):
        self.digests[channel].update(data + b"\n")
        self.counts[channel] += 1

    async def run(self):
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(self.server)
            self.clients = {
                name: await stack.enter_async_context(
                    SigningClient(self.server.url, name, f"{name}-secret")
                )
                for name in NAMES
            }
            self.http = await stack.enter_async_context(aiohttp.ClientSession())
            self.sockets = {
                name: await stack.enter_async_context(
                    self.http.ws_connect(self.server.websocket_url + path)
                )
                for name, path in SOCKETS.items()
            }
            for name in NAMES:
                await self.call(name, "userDataStream.subscribe.signature", **self.signed(name))
            for _ in range(COMMANDS):
                await self.act()
                self.now_ns += self.chance.randrange(1_000, 400_000_000)
                self.server.play()
            for name in NAMES:
                for path in ("account", "openOrders"):
                    await self.rest(name, "GET", f"/api/v3/{path}")
                for path in ("allOrders", "myTrades"):
                    await self.rest(name, "GET", f"/api/v3/{path}", symbol="BTCUSDT")
            await self.drain()

    def signed(self, name, **parameters):
        parameters["timestamp"] = self.now_ns // 1_000_000
        return self.clients[name].socket_parameters(**parameters)

    async def rest(self, name, method, path, **parameters):
        parameters["timestamp"] = self.now_ns // 1_000_000
        url = f"{self.server.url}{path}?{self.clients[name].query(**parameters)}"
        headers = {"X-MBX-APIKEY": name}
        async with self.http.request(method, url, headers=headers) as reply:
            told = sorted(item for item in reply.headers.items() if item[0].startswith("X-MBX"))
            self.note("rest", f"{reply.status} {told}".encode() + await reply.read())

    async def call(self, name, method, **parameters):
        request = {"id": self.counts[name], "method": method, "params": parameters}
        await self.sockets[name].send_json(request)
        await self.read_until(name, b'{"id":')

    async def read_until(self, name, prefix):
        async with asyncio.timeout(20):
            while True:
                message = await self.sockets[name].receive()
                assert message.type is aiohttp.WSMsgType.TEXT, message
                data = message.data.encode()
                self.note(name, data)
                if data.startswith(prefix):
                    return

    async def drain(self):
        """Read what is on its way: the answer to a last question comes behind all of it."""
        for name in NAMES:
            await self.call(name, "ping")
        for name in ("raw", "combined"):
            await self.sockets[name].send_json({"method": "LIST_SUBSCRIPTIONS", "id": 1})
            await self.read_until(name, b'{"result":')

    async def act(self):
        chance = self.chance
        name = chance.choice(NAMES)
        side = chance.choice(("BUY", "SELL"))
        common = {
            "symbol": "BTCUSDT",
            "side": side,
            "quantity": f"{chance.randrange(1, 400) / 1000:.3f}",
            "newClientOrderId": f"{name}{chance.randrange(40)}",
            "selfTradePreventionMode": chance.choice(("NONE", "EXPIRE_MAKER", "DECREMENT")),
        }
        price = 90_000 + chance.randrange(-300, 300)
        limit = common | {"type": "LIMIT", "timeInForce": "GTC", "price": str(price)}
        gap = 1 if side == "SELL" else -1
        match chance.randrange(9):
            case 0:
                await self.rest(name, "POST", "/api/v3/order", **common, type="MARKET")
            case 1 | 2:
                await self.rest(name, "POST", "/api/v3/order", **limit)
            case 3:
                await self.rest(name, "POST", "/api/v3/order", **limit, icebergQty="0.05")
            case 4:
                await self.call(name, "order.place", **self.signed(name, **limit))
            case 5:
                stop = {"type": "STOP_LOSS", "stopPrice": str(90_000 - gap * 50)}
                await self.call(name, "order.place", **self.signed(name, **(common | stop)))
            case 6:
                cancel = {
                    "cancelReplaceMode": chance.choice(("STOP_ON_FAILURE", "ALLOW_FAILURE")),
                    "cancelOrigClientOrderId": f"{name}{chance.randrange(40)}",
                }
                await self.rest(name, "POST", "/api/v3/order/cancelReplace", **limit, **cancel)
            case 7:
                del common["newClientOrderId"]
                above, below = ("above", "below") if side == "SELL" else ("below", "above")
                pair = {
                    f"{above}Type": "LIMIT_MAKER",
                    f"{above}Price": str(90_000 + gap * 200),
                    f"{below}Type": "STOP_LOSS",
                    f"{below}StopPrice": str(90_000 - gap * 200),
                }
                await self.rest(name, "POST", "/api/v3/orderList/oco", **common, **pair)
            case 8:
                await self.rest(name, "DELETE", "/api/v3/openOrders", symbol="BTCUSDT")


if __name__ == "__main__":
    session = Session(int(sys.argv[1]))
    asyncio.run(session.run())
    digests = {name: digest.hexdigest() for name, digest in session.digests.items()}
    sys.stdout.write("\n" + json.dumps({"digests": digests, "counts": session.counts}) + "\n")

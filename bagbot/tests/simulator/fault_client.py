"""How the tests of faults ask an exchange, by REST or by WebSocket, and what is true there."""

import asyncio
import json

import aiohttp

from bagbot.tests.simulator.signing_client import Reply, receive

ORDER = "/api/v3/order"
SUBSCRIBE = "userDataStream.subscribe.signature"
MARKET = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001"}
RESTING = MARKET | {"type": "LIMIT", "timeInForce": "GTC", "price": "80000"}
UNREADABLE = Reply(200, "unreadable", {})
CUT = Reply(0, "cut", {})
REST = {
    "order.place": ("POST", ORDER),
    "order.status": ("GET", ORDER),
    "order.cancel": ("DELETE", ORDER),
    "openOrders.status": ("GET", "/api/v3/openOrders"),
    "allOrders": ("GET", "/api/v3/allOrders"),
    "myTrades": ("GET", "/api/v3/myTrades"),
    "ping": ("GET", "/api/v3/ping"),
}


async def arm(client, name, **options):
    reply = await client.admin("POST", "faults", {"class": name} | options)
    assert reply.status == 200, reply.body
    return reply.body[0]


async def ask(client, how, method, **parameters):
    """Send one request by REST or by a WebSocket of its own; return what the client sees."""
    try:
        if how == "rest":
            return await client.signed(*REST[method], **parameters)
        async with client.socket("/ws-api/v3") as connection:
            sent = {} if method == "ping" else client.socket_parameters(**parameters)
            await connection.send_json({"id": 1, "method": method, "params": sent})
            reply = await receive(connection)
    except json.JSONDecodeError:
        return UNREADABLE
    except (aiohttp.ClientError, ConnectionError):
        return CUT
    return Reply(reply["status"], reply.get("result", reply.get("error")), {})


async def place(client, how, name, **changes):
    return await ask(client, how, "order.place", **MARKET | changes, newClientOrderId=name)


async def query(client, how, name):
    return await ask(client, how, "order.status", symbol="BTCUSDT", origClientOrderId=name)


async def executed(client):
    """Return the client ids of all executions, by the exchange's own truth."""
    return [row["client_order_id"] for row in (await client.admin("GET", "trades")).body]


async def fates(client, name):
    """Return (class, outcome) of every order with this id that was received."""
    return [
        (row["fault_class"], row["outcome"])
        for row in (await client.admin("GET", "requests")).body
        if row["client_order_id"] == name
        and row["path"] in (ORDER, "order.place")
        and row["method"] in ("POST", "WS")
    ]


async def events_until_idle(client, socket):
    _, events = await client.call(socket, "ping")
    return [each["event"].get("x", each["event"]["e"]) for each in events]


async def eventually(ask, is_met):
    async with asyncio.timeout(5):
        while True:
            answer = await ask()
            if is_met(answer):
                return answer
            await asyncio.sleep(0.05)


def code(reply):
    return reply.status, reply.body["code"]

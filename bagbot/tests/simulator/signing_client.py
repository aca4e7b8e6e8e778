"""A small client of the Binance protocol for the tests: it signs, and shows what came back."""

import asyncio
import hashlib
import hmac
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlencode

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

KEY = "simulatorkey"
SECRET = "simulatorsecret"
ED_KEY = "ed25519key"
ED_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ED_PRIVATE_PEM = ED_PRIVATE.private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
).decode()
ED_PUBLIC_PEM = (
    ED_PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
)


@dataclass(frozen=True)
class Reply:
    status: int
    body: object
    headers: dict


class SigningClient:
    def __init__(self, url, key=KEY, secret=SECRET):
        self.url = url
        self._key = key
        self._secret = secret
        self._session = None

    async def __aenter__(self):
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        return self

    async def __aexit__(self, *_):
        await self._session.close()

    def query(self, **parameters):
        parameters.setdefault("timestamp", time.time_ns() // 1_000_000)
        encoded = urlencode(parameters)
        return f"{encoded}&signature={self.sign(encoded)}"

    def sign(self, payload):
        return hmac.new(self._secret.encode(), payload.encode(), hashlib.sha256).hexdigest()

    async def signed(self, method, path, **parameters):
        return await self.send(method, path, self.query(**parameters))

    async def public(self, path, **parameters):
        return await self.send("GET", path, urlencode(parameters))

    async def send(self, method, path, query="", headers=None):
        headers = {"X-MBX-APIKEY": self._key} | (headers or {})
        target = f"{self.url}{path}"
        data = None
        if method == "POST" and not path.startswith("/admin"):
            data = query
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif query:
            target += "?" + query
        async with self._session.request(method, target, data=data, headers=headers) as response:
            text = await response.text()
            return Reply(response.status, json.loads(text), dict(response.headers))

    async def place(self, **parameters):
        parameters = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET"} | parameters
        return await self.signed("POST", "/api/v3/order", **parameters)

    async def admin(self, method, path, body=None):
        async with self._session.request(method, f"{self.url}/admin/{path}", json=body) as response:
            return Reply(response.status, await response.json(), dict(response.headers))

    @asynccontextmanager
    async def socket(self, path):
        async with self._session.ws_connect(self.url.replace("http", "ws") + path) as socket:
            yield socket

    def socket_parameters(self, **parameters):
        parameters = {
            "apiKey": self._key,
            "timestamp": time.time_ns() // 1_000_000,
        } | parameters
        payload = "&".join(f"{name}={parameters[name]}" for name in sorted(parameters))
        return parameters | {"signature": self.sign(payload)}

    async def call(self, socket, method, request_id=1, **parameters):
        """Send a WebSocket API request and return its reply, with the events that came before."""
        await socket.send_json({"id": request_id, "method": method, "params": parameters})
        events = []
        while True:
            message = await receive(socket)
            if "id" in message:
                return message, events
            events.append(message)


async def receive(socket, timeout_s=10.0):
    async with asyncio.timeout(timeout_s):
        message = await socket.receive()
    if message.type is not aiohttp.WSMsgType.TEXT:
        raise ConnectionError(f"the socket ended: {message.type}")
    return json.loads(message.data)


def balances_of(account):
    return {
        row["asset"]: (Decimal(row["free"]), Decimal(row["locked"])) for row in account["balances"]
    }


async def until(condition, timeout_s=10.0):
    """Wait until an awaited look at the server shows something, and return that."""
    async with asyncio.timeout(timeout_s):
        while True:
            if shown := await condition():
                return shown
            await asyncio.sleep(0.05)


async def deposit(simulator, asset, amount):
    """Let the first account of an exchange come into something from outside."""
    url = f"{simulator.url}/admin/transfer?asset={asset}&amount={amount}"
    async with aiohttp.ClientSession() as session, session.post(url) as response:
        assert response.status == 200, await response.text()

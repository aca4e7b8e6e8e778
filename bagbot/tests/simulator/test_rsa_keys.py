"""RSA keys sign on both interfaces, and log nobody on."""

import base64
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bagbot.simulator.accounts import AccountSettings, KeySettings
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import SigningClient

PRIVATE = generate_private_key(65_537, 2_048)


class RsaClient(SigningClient):
    def sign(self, payload):
        return base64.b64encode(PRIVATE.sign(payload.encode(), PKCS1v15(), SHA256())).decode()

    def query(self, **parameters):
        head, _, signature = super().query(**parameters).rpartition("&signature=")
        return f"{head}&signature={quote(signature, safe='')}"


@pytest.fixture
async def client():
    public = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    keys = [KeySettings(api_key="rsakey", public_key=public.decode())]
    settings = SimulatorSettings(accounts=[AccountSettings(name="main", keys=keys)])
    async with (
        SimulatorServer(settings) as server,
        RsaClient(server.url, "rsakey", "") as signing,
    ):
        yield signing


async def test_a_signature_counts_for_what_was_signed_only(client):
    assert (await client.place(quantity="0.001")).status == 200
    query = client.query(symbol="BTCUSDT")
    good = await client.send("GET", "/api/v3/openOrders", query)
    changed = await client.send("GET", "/api/v3/openOrders", query.replace("BTC", "ETH"))
    assert (good.status, changed.status, changed.body["code"]) == (200, 400, -1022)
    for signature in ("", "AAAA", "not base64", "%00"):
        head = query.rpartition("&signature=")[0]
        reply = await client.send("GET", "/api/v3/openOrders", f"{head}&signature={signature}")
        assert reply.body["code"] == (-1022 if signature else -1102)


async def test_the_websocket_api_takes_its_signatures_but_no_log_on(client):
    async with client.socket("/ws-api/v3") as socket:
        reply, _ = await client.call(socket, "account.status", **client.socket_parameters())
        assert reply["status"] == 200
        reply, _ = await client.call(socket, "session.logon", **client.socket_parameters())
        assert reply["status"] == 401

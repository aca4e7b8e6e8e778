"""Ed25519 keys: signatures on both interfaces, and sessions that are logged on."""

import base64
import time
import warnings

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
)

from bagbot.domain.errors import ConfigError
from bagbot.simulator.accounts import AccountSettings, KeySettings
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import (
    ED_KEY,
    ED_PRIVATE,
    ED_PRIVATE_PEM,
    ED_PUBLIC_PEM,
    KEY,
    SECRET,
    SigningClient,
)
from bagbot.tests.simulator.wire_orders import LIMIT

with warnings.catch_warnings():
    # It imports a name that its own websockets dependency has deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from binance import AsyncClient


def pem_of(key):
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class EdClient(SigningClient):
    def sign(self, payload):
        return base64.b64encode(ED_PRIVATE.sign(payload.encode())).decode()

    def query(self, **parameters):
        query = super().query(**parameters)
        head, _, signature = query.rpartition("&signature=")
        return f"{head}&signature=" + signature.replace("+", "%2B").replace("/", "%2F")


@pytest.fixture
async def simulator():
    keys = [
        KeySettings(api_key=KEY, api_secret=SECRET),
        KeySettings(api_key=ED_KEY, public_key=ED_PUBLIC_PEM),
    ]
    settings = SimulatorSettings(accounts=[AccountSettings(name="main", keys=keys)])
    async with SimulatorServer(settings) as server:
        yield server


@pytest.fixture
async def signer(simulator):
    async with EdClient(simulator.url, ED_KEY, "") as client:
        yield client


async def test_rest_takes_a_signature_in_base64(signer, client):
    for number in range(8):
        # Base64 has characters that must be encoded; some signature among these has one.
        placed = await signer.place(quantity="0.001", newClientOrderId=f"mine{number}")
        assert placed.status == 200
    # The account has two keys, and both see the same orders.
    found = await client.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT")
    assert len(found.body) == 8


@pytest.mark.parametrize("signature", ["00", "!", "AAAA", "A" * 88, ""])
async def test_a_wrong_signature_is_refused(signer, signature):
    query = f"timestamp={time.time_ns() // 1_000_000}&signature={signature}"
    reply = await signer.send("GET", "/api/v3/account", query)
    assert (reply.status, reply.body["code"]) == (400, -1022 if signature else -1102)


async def test_a_signature_does_not_fit_another_request(signer):
    query = signer.query(symbol="BTCUSDT")
    altered = query.replace("BTCUSDT", "ETHUSDT")
    assert (await signer.send("GET", "/api/v3/openOrders", query)).status == 200
    assert (await signer.send("GET", "/api/v3/openOrders", altered)).body["code"] == -1022


async def test_a_session_that_is_logged_on_needs_no_key_and_no_signature(signer):
    async with signer.socket("/ws-api/v3") as socket:
        before, _ = await signer.call(socket, "session.status")
        assert before["result"]["apiKey"] is None
        assert before["result"]["authorizedSince"] is None
        now_ms = time.time_ns() // 1_000_000
        early, _ = await signer.call(socket, "order.place", **LIMIT, timestamp=now_ms)
        assert (early["status"], early["error"]["code"]) == (401, -2014)
        logged_on, _ = await signer.call(socket, "session.logon", **signer.socket_parameters())
        assert "".join(logged_on["result"]) == (
            "apiKeyauthorizedSinceconnectedSincereturnRateLimitsserverTimeuserDataStream"
        )
        assert logged_on["result"]["apiKey"] == ED_KEY
        assert logged_on["result"]["connectedSince"] <= logged_on["result"]["authorizedSince"]
        placed, _ = await signer.call(socket, "order.place", **LIMIT, timestamp=now_ms)
        assert placed["result"]["status"] == "NEW"
        counted = [row["count"] for row in placed["rateLimits"] if row["rateLimitType"] == "ORDERS"]
        assert counted == [1, 1]
        # A timestamp is still wanted, and a signature that is sent must be right.
        missing, _ = await signer.call(socket, "account.status")
        assert missing["error"]["code"] == -1102
        wrong, _ = await signer.call(socket, "account.status", timestamp=now_ms, signature="AAAA")
        assert wrong["error"]["code"] == -1022
        assert (await signer.call(socket, "session.logout"))[0]["result"]["apiKey"] is None
        late, _ = await signer.call(socket, "openOrders.status", timestamp=now_ms)
        assert late["status"] == 401


async def test_a_logged_on_session_subscribes_without_a_signature_until_it_logs_out(signer):
    async with signer.socket("/ws-api/v3") as socket:
        refused, _ = await signer.call(socket, "userDataStream.subscribe")
        assert (refused["status"], refused["error"]["code"]) == (401, -1002)
        await signer.call(socket, "session.logon", **signer.socket_parameters())
        subscribed, _ = await signer.call(socket, "userDataStream.subscribe")
        assert subscribed["result"] == {"subscriptionId": 0}
        status, _ = await signer.call(socket, "session.status")
        assert status["result"]["userDataStream"] is True
        again, _ = await signer.call(socket, "userDataStream.subscribe")
        assert again["error"]["code"] == -2035
        await signer.place(quantity="0.001")
        logged_out, events = await signer.call(socket, "session.logout")
        kinds = [event["event"]["e"] for event in events]
        assert kinds[-1] == "eventStreamTerminated"
        assert kinds[0] == "executionReport"
        assert logged_out["result"]["userDataStream"] is False


async def test_a_signed_subscription_outlives_the_log_out(signer):
    async with signer.socket("/ws-api/v3") as socket:
        await signer.call(socket, "session.logon", **signer.socket_parameters())
        await signer.call(
            socket, "userDataStream.subscribe.signature", **signer.socket_parameters()
        )
        _, events = await signer.call(socket, "session.logout")
        assert events == []
        listed, _ = await signer.call(socket, "session.subscriptions")
        assert listed["result"] == [{"subscriptionId": 0}]


async def test_an_hmac_key_cannot_log_on(client):
    async with client.socket("/ws-api/v3") as socket:
        reply, _ = await client.call(socket, "session.logon", **client.socket_parameters())
        assert (reply["status"], reply["error"]["code"]) == (401, -1002)
        status, _ = await client.call(socket, "session.status")
        assert status["result"]["apiKey"] is None


def test_only_an_ed25519_key_is_a_public_key():
    elliptic = generate_private_key(SECP256R1()).public_key()
    for wrong in ("nonsense", pem_of(elliptic)):
        with pytest.raises(ConfigError, match="public_key is not"):
            KeySettings(api_key="k", public_key=wrong)
    with pytest.raises(ConfigError, match="either an api_secret or a public_key"):
        KeySettings(api_key="k")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_python_binance_signs_with_its_own_implementation(simulator, monkeypatch):
    monkeypatch.setattr(AsyncClient, "API_URL", simulator.url + "/api")
    monkeypatch.setattr(AsyncClient, "WS_API_URL", simulator.websocket_url + "/ws-api/v3")
    # It takes any text above 120 characters for an RSA key, so the armour must be short.
    private = "\n".join(line for line in ED_PRIVATE_PEM.splitlines() if line)
    assert len(private) <= 120
    binance = await AsyncClient.create(ED_KEY, private_key=private)
    for _ in range(4):
        placed = await binance.order_market_buy(symbol="BTCUSDT", quantity="0.01")
        assert placed["status"] == "FILLED"
    await binance.close_connection()

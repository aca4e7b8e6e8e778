import asyncio
import json

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bagbot.simulator.api_keys import HmacKey, KeyRing
from bagbot.simulator.binance_errors import BinanceError
from bagbot.simulator.binance_wire import WireRequest, read_http, signature_of
from bagbot.simulator.list_exchange import ListExchange
from bagbot.simulator.market import PROFILES
from bagbot.simulator.rate_limits import LimitSettings, RateLimits
from bagbot.simulator.spot_api import REST_ENDPOINTS, SpotApi
from bagbot.simulator.store import Store
from bagbot.simulator.symbols import DEFAULT_SYMBOLS
from bagbot.simulator.synthetic_market import SyntheticMarket
from bagbot.simulator.venue import MarketClock, Venue
from bagbot.simulator.websocket_api import read_request
from bagbot.tests.simulator.signing_client import KEY, SECRET, receive

NOW_NS = 1_700_000_000_000_000_000


@pytest.fixture(scope="module")
def api():
    store = Store(None)
    sources = {
        symbol: SyntheticMarket(rules, PROFILES[symbol], seed=1, start_ms=0, step_ms=200)
        for symbol, rules in DEFAULT_SYMBOLS.items()
    }
    venue = Venue(
        ListExchange(DEFAULT_SYMBOLS),
        sources,
        store,
        clock=MarketClock(wire_start_ns=NOW_NS, market_start_ms=0, speed=1),
        accounts={"main": {"BTC": 10**9, "USDT": 10**14}},
    )
    limits = RateLimits(LimitSettings(weight_per_minute=10**9))
    yield SpotApi(venue, limits, KeyRing([HmacKey(KEY, 1, SECRET)]))
    store.close()


NAMES = """
symbol symbols side type timeInForce quantity quoteOrderQty price newClientOrderId orderId limit
origClientOrderId startTime endTime fromId interval recvWindow strategyId strategyType permissions
newOrderRespType omitZeroBalances symbolStatus cancelRestrictions stopPrice icebergQty timeZone
computeCommissionRates selfTradePreventionMode trailingDelta
cancelReplaceMode cancelOrderId aboveType belowType abovePrice belowStopPrice workingType
workingSide workingPrice workingQuantity pendingType pendingSide pendingQuantity orderListId
listClientOrderId workingTimeInForce
"""
VALUES = """
BTCUSDT ETHBTC BUY SELL LIMIT MARKET LIMIT_MAKER STOP_LOSS GTC IOC FOK 1 0 0.01 50000 -1 1e5 NaN
Infinity 99999999999999999999 0.123456789 true false 1m 1M FULL ACK MINI ["BTCUSDT"] [1] [ {} null
TAKE_PROFIT_LIMIT 9223372036854775807 9223372036854775808
"""


def refusal_of(function, *arguments):
    """Return the refusal a call ends with, or None; anything else is raised."""
    try:
        function(*arguments)
    except BinanceError as error:
        return error
    return None


@settings(max_examples=400, deadline=None)
@given(
    route=st.sampled_from(sorted(REST_ENDPOINTS)),
    parameters=st.dictionaries(
        st.sampled_from(NAMES.split()),
        st.sampled_from(VALUES.split()) | st.text(max_size=40),
        max_size=8,
    ),
)
def test_any_parameters_are_answered_or_refused_with_a_code(api, route, parameters):
    parameters = {**parameters, "timestamp": str(NOW_NS // 1_000_000)}
    request = WireRequest(parameters, b"x", signature_of(SECRET, b"x"))
    refusal = refusal_of(api.answer, REST_ENDPOINTS[route], request, KEY, NOW_NS)
    assert refusal is None or (400 <= refusal.status < 500 and refusal.code < 0)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(query, body):
    refusal = refusal_of(read_http, query, body)
    assert refusal is None or refusal.status == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=10,
)


@given(
    st.text(max_size=100)
    | JSON.map(lambda value: json.dumps({"id": value, "method": "x", "params": value}))
)
def test_any_socket_message_is_read_or_refused(text):
    refusal = refusal_of(read_request, text)
    assert refusal is None or refusal.status == 400


async def raw(simulator, request):
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.write(request)
    await writer.drain()
    async with asyncio.timeout(5):
        answer = await reader.read(4_096)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /api/v3/order?symbol=%ff%fe&timestamp=%00 HTTP/1.1",
        b"GET /api/v3/klines?symbol=BTCUSDT&interval=1m&limit=-5 HTTP/1.1",
        b"GET /api/v3/klines?symbol=BTCUSDT&interval=1m&startTime=99999999999999999999 HTTP/1.1",
        b"GET /api/v3/klines?symbol=BTCUSDT&interval=1M&startTime=9223372036854775807 HTTP/1.1",
        b"GET /api/v3/ticker/price?symbols=%5B%5B%5B HTTP/1.1",
        b"GET /api/v3/depth?symbol=BTCUSDT&symbol=BTCUSDT HTTP/1.1",
        b"GET /api/v3/../../etc/passwd HTTP/1.1",
        b"GET http://elsewhere/api/v3/ping HTTP/1.1",
        b"BREW /api/v3/order HTTP/1.1",
        b"GET /api/v3/\xff\xfe HTTP/1.1",
        b"GET /ws/%s HTTP/1.1" % (b"a" * 5_000),
        b"GET /admin/nothing HTTP/1.1",
        b"POST /admin/price?symbol=BTCUSDT&price=1e999 HTTP/1.1",
        b"\x00\x01\x02",
    ],
)
async def test_hostile_requests_are_never_a_server_error(simulator, request_line):
    answer = await raw(simulator, request_line + b"\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    status = int(answer.split(b" ", 2)[1])
    assert 200 <= status < 500
    assert (await raw(simulator, b"GET /api/v3/ping HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(
        b"HTTP/1.1 200"
    )


async def test_a_large_body_is_refused_whether_announced_or_not(client):
    async def stream():
        for _ in range(100):
            yield b"x" * 10_000

    async with aiohttp.ClientSession() as session:
        for body in (b"x" * 100_000, stream()):
            async with session.post(client.url + "/api/v3/order", data=body) as response:
                assert response.status == 413


async def test_a_large_socket_message_ends_that_connection_only(client):
    async with client.socket("/ws-api/v3") as socket:
        await socket.send_str("x" * 100_000)
        with pytest.raises(ConnectionError):
            await receive(socket)
    assert (await client.public("/api/v3/ping")).status == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        '{"id": 1}',
        '{"id": 1.5, "method": "ping"}',
        '{"id": {}, "method": "ping"}',
        '{"id": 1, "method": 5}',
        '{"id": 1, "method": "ping", "params": []}',
        '{"id": 99999999999999999999, "method": "ping"}',
        "{" * 30_000,
        '{"id": "\\ud800", "method": "ping"}',
        '{"id": 1, "method": "\\udfff"}',
        '{"id": 1, "method": "ping", "params": {"\\uDBFF": 1}}',
    ],
)
async def test_unreadable_socket_requests_are_answered_and_survived(client, text):
    async with client.socket("/ws-api/v3") as socket:
        await socket.send_str(text)
        reply = await receive(socket)
        assert (reply["id"], reply["status"], reply["error"]["code"]) == (None, 400, -1135)
        await socket.send_bytes(b"\x00")
        reply, _ = await client.call(socket, "no.such.method")
        assert reply["status"] == 400
        reply, _ = await client.call(socket, "ping")
        assert reply["result"] == {}


async def test_the_log_of_requests_keeps_little_of_a_long_one(client):
    await client.public("/api/v3/" + "a" * 5_000)
    await client.public("/api/v3/depth", symbol="B" * 5_000)
    kept = (await client.admin("GET", "requests")).body
    assert len(kept) == 2
    assert max(len(row["path"]) + len(row["symbol"] or "") for row in kept) < 500


async def test_a_failed_handshake_is_refused(simulator):
    for headers in (b"Upgrade: websocket\r\n", b"Upgrade: websocket\r\nConnection: Upgrade\r\n"):
        answer = await raw(simulator, b"GET /ws HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
        assert answer.split(b" ", 2)[1].startswith(b"4")


async def test_an_unknown_socket_address_is_refused(client):
    with pytest.raises(aiohttp.WSServerHandshakeError):
        async with client.socket("/ws-api/v1"):
            pass


@pytest.mark.parametrize("body", [b"", b"{", b"5", b'"x"', b"[5]", b'{"kind": "explode"}'])
async def test_wrong_faults_are_refused(simulator, body):
    async with (
        aiohttp.ClientSession() as session,
        session.post(simulator.url + "/admin/faults", data=body) as response,
    ):
        assert response.status == 400
        assert "error" in await response.json()

"""What every connector over CCXT does alike: errors, secrets, the gate, numbers, the stream.

Each case goes over a real socket to a small server that answers as it is told to.
"""

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog
from aiohttp import WSMsgType, web

from bagbot.domain.errors import (
    AuthenticationError,
    BagbotError,
    ConfigError,
    ExchangeError,
    ExchangeUnavailableError,
    InvalidOrderError,
    NotSupportedError,
    OrderNotFoundError,
    OrderRejectedError,
    OutcomeUnknownError,
    RateLimitedError,
)
from bagbot.tests.trading.scripted_exchange import (
    ACCEPTED,
    KRAKEN_ASSETS,
    KRAKEN_PAIR,
    SYMBOL_ROW,
    Scripted,
)
from bagbot.trading.connectors import (
    BinanceConnector,
    CcxtConnector,
    ExchangeOrder,
    ExchangeOrderStatus,
    IExchangeConnector,
    StreamLost,
    StreamOpened,
)

KEY, SECRET = "theKeyNobodyMaySee", "theSecretNobodyMaySee"
MARKET = {
    "symbol": "BTC/USDT",
    "side": "buy",
    "type": "market",
    "amount": "0.01",
    "clientOrderId": "order-1",
}


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("BINANCE_", "BAGBOT_", "KRAKEN_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with Scripted() as scripted:
        yield scripted


@pytest.fixture
async def connector(server: Scripted) -> AsyncIterator[BinanceConnector]:
    async with BinanceConnector(KEY, SECRET, base_url=server.url, timeout_s=0.5) as connector:
        await connector.load_instruments()
        yield connector


def said(code: int, words: str) -> dict[str, object]:
    return {"code": code, "msg": words}


# What an answer to an order means.

WRITES: list[tuple[int, object, type[Exception]]] = [
    (400, said(-1013, "Filter failure: LOT_SIZE"), OrderRejectedError),
    (400, said(-1013, "Filter failure: PRICE_FILTER"), OrderRejectedError),
    (400, said(-1100, "Illegal characters found in parameter 'price'."), OrderRejectedError),
    (400, said(-1121, "Invalid symbol."), OrderRejectedError),
    (400, said(-1199, "The last of them."), OrderRejectedError),
    (400, said(-1021, "Timestamp is outside of the recvWindow."), OrderRejectedError),
    (400, said(-1022, "Signature for this request is not valid."), OrderRejectedError),
    (400, said(-2010, "Account has insufficient balance."), OrderRejectedError),
    (400, said(-2010, "Order would immediately match and take."), OrderRejectedError),
    (400, said(-2010, "Duplicate order sent."), OutcomeUnknownError),
    (401, said(-2014, "API-key format invalid."), AuthenticationError),
    (401, said(-2015, "Invalid API-key, IP, or permissions for action."), AuthenticationError),
    (400, said(-2008, "Invalid Api-Key ID."), AuthenticationError),
    (429, said(-1003, "Too much request weight used."), RateLimitedError),
    (418, said(-1003, "Way too much; IP banned until 1."), RateLimitedError),
    (429, said(-1015, "Too many new orders."), RateLimitedError),
    (403, "<html>Request blocked by the firewall</html>", RateLimitedError),
    (400, said(-2011, "Unknown order sent."), OrderNotFoundError),
    (400, said(-2013, "Order does not exist."), OrderNotFoundError),
    (400, said(-2011, "Order was not canceled due to cancel restrictions."), OrderRejectedError),
    # Everything below may have been accepted.
    (400, said(-1000, "An unknown error occurred."), OutcomeUnknownError),
    (400, said(-1001, "Internal error; unable to process your request."), OutcomeUnknownError),
    (400, said(-1006, "An unexpected response was received."), OutcomeUnknownError),
    (400, said(-1007, "Timeout waiting for response from backend."), OutcomeUnknownError),
    (400, said(-9999, "A code of tomorrow."), OutcomeUnknownError),
    (400, "not json at all", OutcomeUnknownError),
    (402, {"hello": "world"}, OutcomeUnknownError),
    (408, said(-1007, "Timeout."), OutcomeUnknownError),
    (409, said(-2021, "Order cancel-replace partially failed."), OutcomeUnknownError),
    (500, "", OutcomeUnknownError),
    (502, "<html>Bad Gateway</html>", OutcomeUnknownError),
    (503, said(-1008, "Server is overloaded."), OutcomeUnknownError),
    (503, "Service Unavailable.", OutcomeUnknownError),
    (504, said(-1007, "Timeout."), OutcomeUnknownError),
    (504, said(-2010, "A refusal inside a 504 proves nothing."), OutcomeUnknownError),
    (307, "", OutcomeUnknownError),
    (200, "", OutcomeUnknownError),
    (200, '{"symbol": "BTCUSDT", "orderId": 2', OutcomeUnknownError),
    (200, [], OutcomeUnknownError),
    (200, {"symbol": "BTCUSDT"}, OutcomeUnknownError),
    (200, {**ACCEPTED, "clientOrderId": "somebody-elses"}, OutcomeUnknownError),
    (200, {**ACCEPTED, "origQty": "0.02000000"}, OutcomeUnknownError),
    (200, {**ACCEPTED, "side": "SELL"}, OutcomeUnknownError),
    (200, {**ACCEPTED, "status": "A_STATUS_OF_TOMORROW"}, OutcomeUnknownError),
]


@pytest.mark.parametrize(("status", "body", "expected"), WRITES)
async def test_answer_to_an_order(
    server: Scripted,
    connector: BinanceConnector,
    status: int,
    body: object,
    expected: type[ExchangeError],
):
    server.then(status, body)
    with pytest.raises(ExchangeError) as caught:
        await connector.create_order(MARKET)
    assert type(caught.value) is expected
    assert "order-1" in str(caught.value)
    if isinstance(body, dict) and "code" in body:
        assert caught.value.code == body["code"]
        assert caught.value.http_status == status
    sent = [path for method, path, _ in server.requests if method == "POST"]
    assert sent == ["/api/v3/order"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("Service Unavailable.", ExchangeUnavailableError),
        (
            {"msg": "Internal error; unable to process your request. Please try again."},
            OutcomeUnknownError,
        ),
        (
            said(-1, "Internal error; unable to process your request. Please try again."),
            ExchangeUnavailableError,
        ),
        (said(-1008, "Request throttled by system-level protection."), ExchangeUnavailableError),
        (
            said(-1, "Unknown error, please check your request or try again later."),
            OutcomeUnknownError,
        ),
    ],
)
async def test_futures_503_has_three_meanings(
    server: Scripted, body: object, expected: type[ExchangeError]
):
    perpetual = {**SYMBOL_ROW, "contractType": "PERPETUAL", "marginAsset": "USDT"}
    server.fixed = {
        "/fapi/v1/time": {"serverTime": int(time.time() * 1000)},
        "/fapi/v1/exchangeInfo": {"symbols": [perpetual]},
    }
    async with BinanceConnector(KEY, SECRET, futures=True, base_url=server.url) as connector:
        await connector.load_instruments()
        server.then(503, body)
        with pytest.raises(ExchangeError) as caught:
            await connector.create_order({**MARKET, "symbol": "BTC/USDT:USDT"})
    assert type(caught.value) is expected


READS: list[tuple[int, object, type[Exception]]] = [
    (500, "", ExchangeUnavailableError),
    (503, said(-1008, "overloaded"), ExchangeUnavailableError),
    (408, "", ExchangeUnavailableError),
    (400, said(-1021, "Timestamp"), ExchangeUnavailableError),
    (400, said(-1121, "Invalid symbol."), ExchangeError),
    (401, said(-2015, "Invalid API-key."), AuthenticationError),
    (429, said(-1003, "Too much."), RateLimitedError),
    (200, '{"balances": [', ExchangeUnavailableError),
    (200, {"balances": [{"asset": "BTC"}]}, ExchangeUnavailableError),
]


@pytest.mark.parametrize(("status", "body", "expected"), READS)
async def test_answer_to_a_question(
    server: Scripted,
    connector: BinanceConnector,
    status: int,
    body: object,
    expected: type[ExchangeError],
):
    server.then(status, body)
    with pytest.raises(ExchangeError) as caught:
        await connector.fetch_balance()
    assert type(caught.value) is expected


async def test_revoked_key_is_never_taken_for_a_busy_network(
    server: Scripted, connector: BinanceConnector
):
    # After one success CCXT relabels -2015 as DDoSProtection, which callers would retry for ever.
    server.then(200, ACCEPTED)
    await connector.create_order(MARKET)
    server.then(401, said(-2015, "Invalid API-key, IP, or permissions for action."))
    with pytest.raises(AuthenticationError):
        await connector.create_order(MARKET)


# Lines that break.


async def test_line_cut_after_an_order_leaves_it_unknown(
    server: Scripted, connector: BinanceConnector
):
    server.answers.append("drop")
    with pytest.raises(OutcomeUnknownError, match="order-1"):
        await connector.create_order(MARKET)
    assert sum(method == "POST" for method, _, _ in server.requests) == 1


async def test_line_cut_during_a_read_is_unavailable(server: Scripted, connector: BinanceConnector):
    server.answers += ["drop", "drop"]
    with pytest.raises(ExchangeUnavailableError):
        await connector.fetch_balance()


async def test_order_cut_off_while_handling_an_older_error_is_unknown_all_the_same(
    server: Scripted, connector: BinanceConnector
):
    server.answers.append("drop")
    try:
        await asyncio.open_connection("127.0.0.1", 1)
    except OSError:
        with pytest.raises(OutcomeUnknownError):
            await connector.create_order(MARKET)


async def test_cancel_is_not_repeated_when_its_line_is_cut(
    server: Scripted, connector: BinanceConnector
):
    server.answers += ["drop", (200, "{}", {})]
    with pytest.raises(OutcomeUnknownError):
        await connector.cancel_order("28", "BTC/USDT")
    assert [method for method, _, _ in server.requests].count("DELETE") == 1


async def test_silence_is_unknown_for_an_order_and_unavailable_for_a_read(
    connector: BinanceConnector,
):
    # It accepts connections, reads nothing and never answers.
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        move(connector, f"127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(OutcomeUnknownError, match="no answer in time"):
            await connector.create_order(MARKET)
        with pytest.raises(ExchangeUnavailableError, match="no answer in time"):
            await connector.fetch_balance()


def move(connector: BinanceConnector, host: str) -> None:
    """Point a connector that has loaded everything at another server."""
    for name in ("public", "private"):
        connector.exchange.urls["api"][name] = f"http://{host}/api/v3"


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid"])
async def test_connection_that_is_never_made_proves_that_nothing_was_sent(
    connector: BinanceConnector, host: str
):
    move(connector, host)
    with pytest.raises(ExchangeUnavailableError, match="Certainly nothing was accepted"):
        await connector.create_order(MARKET)
    with pytest.raises(ExchangeUnavailableError, match="Certainly nothing was accepted"):
        await connector.cancel_order("28", "BTC/USDT")


async def test_redirect_is_not_followed_with_an_order_in_hand(
    server: Scripted, connector: BinanceConnector
):
    server.then(307, "", {"Location": f"{server.url}/elsewhere"})
    with pytest.raises(OutcomeUnknownError, match="redirects"):
        await connector.create_order(MARKET)
    assert all(path != "/elsewhere" for _, path, _ in server.requests)


# Secrets.


async def test_no_secret_in_errors_tracebacks_or_logs(
    server: Scripted, connector: BinanceConnector, caplog: pytest.LogCaptureFixture
):
    texts = []
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as logged:
        server.answers += ["drop", (500, "oops", {}), (400, '{"code": -1, "msg": "x"}', {})]
        server.then(401, said(-2015, f"Invalid API-key {KEY}"))
        for call in (
            connector.create_order(MARKET),
            connector.fetch_balance(),
            connector.fetch_order("1", "BTC/USDT"),
            connector.cancel_order("1", "BTC/USDT"),
        ):
            with pytest.raises(BagbotError) as caught:
                await call
            link: BaseException | None = caught.value
            while link is not None:
                texts.append(f"{link!r} {link}")
                link = link.__cause__ or link.__context__
    everything = "\n".join([*texts, *map(str, logged), caplog.text])
    assert len(logged) == 4
    assert KEY not in everything
    assert SECRET not in everything
    assert "signature=" not in everything.replace("signature=...", "")
    assert "timestamp=" not in everything


async def test_connect_timeout_names_no_signed_address(connector: BinanceConnector):
    # aiohttp puts the whole address into the text of this one.
    from aiohttp import ConnectionTimeoutError

    from bagbot.trading.connectors.exchange_errors import redact

    error = ConnectionTimeoutError("Connection timeout to host http://h/order?a=1&signature=5d")
    redact(error, KEY)
    assert str(error) == "Connection timeout to host http://h/order?..."


# The gate after "too many".


async def test_nothing_leaves_before_retry_after_has_passed(
    server: Scripted, connector: BinanceConnector
):
    server.then(429, said(-1003, "Too much request weight used."), {"Retry-After": "1"})
    with pytest.raises(RateLimitedError) as caught:
        await connector.fetch_balance()
    assert caught.value.retry_after_s == 1
    before = list(server.requests)
    for call in (
        connector.create_order(MARKET),
        connector.cancel_order("1", "BTC/USDT"),
        connector.fetch_balance(),
    ):
        with pytest.raises(RateLimitedError) as again:
            await call
        assert again.value.retry_after_s is not None
        assert 0 < again.value.retry_after_s <= 1
    assert server.requests == before
    await asyncio.sleep(1.05)
    server.then(200, ACCEPTED)
    assert (await connector.create_order(MARKET)).id == "28"


async def test_ban_without_a_time_is_taken_for_two_minutes(
    server: Scripted, connector: BinanceConnector
):
    server.then(418, said(-1003, "IP banned."))
    with pytest.raises(RateLimitedError):
        await connector.fetch_balance()
    with pytest.raises(RateLimitedError) as caught:
        await connector.fetch_balance()
    assert caught.value.retry_after_s == pytest.approx(120, abs=2)


async def test_too_many_orders_holds_back_orders_but_no_cancel(
    server: Scripted, connector: BinanceConnector
):
    server.then(429, said(-1015, "Too many new orders."), {"Retry-After": "30"})
    with pytest.raises(RateLimitedError):
        await connector.create_order(MARKET)
    posts = len(server.requests)
    with pytest.raises(RateLimitedError, match="was not sent"):
        await connector.create_order(MARKET)
    assert len(server.requests) == posts
    server.then(200, {**ACCEPTED, "status": "CANCELED", "origClientOrderId": "order-1"})
    ended = await connector.cancel_order("28", "BTC/USDT")
    assert ended.status is ExchangeOrderStatus.CANCELED


async def test_an_order_does_not_queue_behind_reads(server: Scripted, connector: BinanceConnector):
    connector.exchange.budget.wait_s(10_000)
    server.then(200, ACCEPTED)
    async with asyncio.timeout(1):
        await connector.create_order(MARKET)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await connector.fetch_balance()


# Numbers.


@pytest.mark.parametrize(
    ("amount", "sent"), [("0.00001", "0.00001"), ("1E+1", "10"), ("3.100", "3.1"), (5, "5")]
)
async def test_amounts_are_sent_as_plain_text(
    server: Scripted, connector: BinanceConnector, amount: object, sent: str
):
    server.then(200, {**ACCEPTED, "origQty": sent})
    await connector.create_order({**MARKET, "amount": amount, "params": {"timestamp": 1_000}})
    text = server.requests[-1][2]
    assert f"quantity={sent}&" in text
    # Ours wins over CCXT's, for it is the one that was recorded.
    assert "timestamp=1000&" in text
    assert text.count("timestamp=") == 1
    assert "recvWindow=3000" in text


# Which order it is about.


async def test_orders_of_two_symbols_may_have_one_number(server: Scripted) -> None:
    """Binance: order ids are unique per symbol only."""
    ether = {**SYMBOL_ROW, "symbol": "ETHUSDT", "baseAsset": "ETH"}
    server.fixed["/api/v3/exchangeInfo"] = {"symbols": [SYMBOL_ROW, ether]}
    async with BinanceConnector(KEY, SECRET, base_url=server.url) as connector:
        await connector.load_instruments()
        server.then(200, ACCEPTED)
        ours = await connector.create_order(MARKET)

        # Spot shows what was cancelled under the id of its cancel.
        cancelled = {**ACCEPTED, "status": "CANCELED", "clientOrderId": "web_cancel"}
        server.then(200, [{**cancelled, "symbol": "ETHUSDT"}])
        (other,) = await connector.fetch_orders("ETH/USDT")
        assert (other.id, other.client_order_id) == (ours.id, "web_cancel")
        server.then(200, [cancelled])
        (again,) = await connector.fetch_orders("BTC/USDT")
        assert (again.id, again.client_order_id) == (ours.id, "order-1")

        sent = len(server.requests)
        with pytest.raises(InvalidOrderError, match="on 2 symbols: pass symbol"):
            await connector.cancel_order(ours.id)
        assert len(server.requests) == sent


# Other exchanges.


class KrakenConnector(CcxtConnector):
    """Kraken spot, in as many lines as it takes."""

    exchange_id: ClassVar[str] = "kraken"


@pytest.fixture
async def kraken(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[KrakenConnector]:
    monkeypatch.setenv("BAGBOT_ALLOW_LIVE", "yes")
    server.fixed = {
        "/0/public/AssetPairs": {"error": [], "result": {"XXBTZUSD": KRAKEN_PAIR}},
        "/0/public/Assets": {"error": [], "result": KRAKEN_ASSETS},
    }
    urls = {"api": {"public": server.url, "private": server.url, "zendesk": server.url}}
    async with KrakenConnector(
        KEY, "c2VjcmV0", testnet=False, config={"urls": urls, "options": {"temp": 1}}
    ) as connector:
        await connector.load_instruments()
        yield connector


async def test_other_exchange_gives_typed_decimals(server: Scripted, kraken: KrakenConnector):
    instrument = (await kraken.load_instruments())["BTC/USD"]
    assert instrument.tick_size == Decimal("0.1")
    assert instrument.lot_size == Decimal("0.00000001")
    server.then(200, '{"error":[],"result":{"XXBT":{"balance":1.1000000001,"hold_trade":0.1}}}')
    balance = (await kraken.fetch_balance())["BTC"]
    # The exact digits of a JSON number: it never was a float.
    assert balance.total == Decimal("1.1000000001")
    assert balance.free == Decimal("1.0000000001")


async def test_other_exchange_takes_an_order(server: Scripted, kraken: KrakenConnector):
    payload = {
        "symbol": "BTC/USD",
        "side": "buy",
        "type": "limit",
        "amount": "0.10000001",
        "price": "50000.1",
        "timeInForce": "PO",
    }
    words = {"order": "buy 0.10000001 XBTUSD @ limit 50000.1"}
    server.then(200, {"error": [], "result": {"descr": words, "txid": ["OU22"]}})
    order = await kraken.create_order(payload)
    assert order.id == "OU22"
    text = server.requests[-1][2]
    assert "volume=0.10000001" in text
    assert "price=50000.1" in text
    assert "oflags=post" in text


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"error": ["EOrder:Insufficient funds"]}, OrderRejectedError),
        (200, {"error": ["EAPI:Invalid key"]}, AuthenticationError),
        (200, {"error": ["EAPI:Invalid nonce"]}, OrderRejectedError),
        (200, {"error": ["EOrder:Rate limit exceeded"]}, RateLimitedError),
        (200, {"error": ["EGeneral:Something new"]}, OutcomeUnknownError),
        (200, {"error": ["EService:Unavailable"]}, OutcomeUnknownError),
        (520, "<html>", OutcomeUnknownError),
        (429, "slow down", RateLimitedError),
    ],
)
async def test_other_exchanges_errors_say_what_to_do(
    server: Scripted,
    kraken: KrakenConnector,
    status: int,
    body: object,
    expected: type[ExchangeError],
):
    server.then(status, body)
    payload = {"symbol": "BTC/USD", "side": "buy", "type": "market", "amount": "0.1"}
    with pytest.raises(ExchangeError) as caught:
        await kraken.create_order(payload)
    assert type(caught.value) is expected


async def test_other_exchange_refuses_to_round_in_silence(
    server: Scripted, kraken: KrakenConnector
):
    payload = {"symbol": "BTC/USD", "side": "buy", "type": "limit", "amount": "0.1"}
    before = len(server.requests)
    with pytest.raises(InvalidOrderError, match=r"tick 0\.1"):
        await kraken.create_order({**payload, "price": "50000.12"})
    with pytest.raises(InvalidOrderError, match=r"lot 0\.00000001"):
        await kraken.create_order({**payload, "price": "50000.1", "amount": "0.1234567891"})
    with pytest.raises(InvalidOrderError, match="does not trade"):
        await kraken.fetch_ticker("NOPE/USD")
    assert len(server.requests) == before


def test_an_exchange_without_a_test_venue_says_so():
    with pytest.raises(ConfigError, match="no test venue"):
        KrakenConnector()
    with pytest.raises(ConfigError, match="BAGBOT_ALLOW_LIVE"):
        KrakenConnector(testnet=False)


def test_unknown_exchange_and_repeated_orders_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BAGBOT_ALLOW_LIVE", "yes")
    with pytest.raises(ConfigError, match="knows no exchange 'mtgox'"):
        CcxtConnector(exchange_id="mtgox")
    with pytest.raises(ConfigError, match="maxRetriesOnFailure"):
        KrakenConnector(testnet=False, config={"options": {"maxRetriesOnFailure": 2}})


@pytest.mark.parametrize("exchange_id", ["coinbase", "kraken", "bybit", "okx"])
def test_other_exchanges_are_constructed_offline(exchange_id: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BAGBOT_ALLOW_LIVE", "yes")
    connector = CcxtConnector(exchange_id=exchange_id, testnet=False)
    assert connector.name == exchange_id
    assert "fetch_ticker" in connector.capabilities
    # Streams are what CCXT loses updates in; only Binance has one of ours.
    assert "watch_events" not in connector.capabilities
    with pytest.raises(NotSupportedError, match="watch_events"):
        connector.watch_events()


def test_capabilities_follow_the_exchange(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BAGBOT_ALLOW_LIVE", "yes")
    connector = CcxtConnector(exchange_id="kraken", testnet=False)
    # Kraken lists open and closed orders, never both at once.
    assert "fetch_orders" not in connector.capabilities
    assert "fetch_open_orders" in connector.capabilities


# A stranger's own connector.


class Strangers(IExchangeConnector):
    async def fetch_balance(self) -> Any:
        return {}

    async def create_order(self, order_payload: Any) -> Any:
        return order_payload

    async def cancel_order(self, order_id: str, symbol: Any = None, params: Any = None) -> Any:
        return order_id

    async def fetch_positions(self) -> Any:
        return []


async def test_four_methods_make_a_connector():
    async with Strangers() as connector:
        assert connector.capabilities == frozenset()
        assert connector.stamp() == {}
        with pytest.raises(NotSupportedError):
            await connector.fetch_ticker("BTC/USDT")


def test_three_methods_do_not():
    class Three(IExchangeConnector):
        fetch_balance = Strangers.fetch_balance
        create_order = Strangers.create_order
        cancel_order = Strangers.cancel_order

    with pytest.raises(TypeError, match="fetch_positions"):
        Three()


# The stream.


def report(number: int, **more: object) -> dict[str, object]:
    event = {
        "e": "executionReport",
        "E": 1499405658658,
        "s": "BTCUSDT",
        "c": "watched",
        "S": "BUY",
        "o": "LIMIT",
        "q": "1.00000000",
        "p": "50000.00000000",
        "C": "",
        "x": "TRADE",
        "X": "PARTIALLY_FILLED",
        "r": "NONE",
        "i": 4293153,
        "l": "0.00100000",
        "z": f"{number * Decimal('0.001')}",
        "L": "50000.00000000",
        "n": "0.00000100",
        "N": "BTC",
        "T": 1499405658657 + number,
        "t": number,
        "m": True,
        "Z": f"{number * 50}",
    }
    return {"subscriptionId": 0, "event": {**event, **more}}


async def accept(opened: web.WebSocketResponse, status: int = 200, **error: object) -> None:
    question = await opened.receive_json()
    assert question["method"] == "userDataStream.subscribe.signature"
    assert set(question["params"]) == {"apiKey", "timestamp", "recvWindow", "signature"}
    answer = {"id": question["id"], "status": status, "result": {"subscriptionId": 0}}
    await opened.send_json({**answer, **({"error": error} if error else {})})


async def test_updates_that_arrive_back_to_back_are_all_told(
    server: Scripted, connector: BinanceConnector
):
    async def behave(opened: web.WebSocketResponse) -> None:
        await accept(opened)
        for number in range(1, 501):
            await opened.send_json(report(number))
        await opened.receive()

    server.behave = behave
    async with asyncio.timeout(10), contextlib.aclosing(connector.watch_events()) as events:
        assert await anext(events) == StreamOpened()
        told = [await anext(events) for _ in range(500)]
    assert all(isinstance(event, ExchangeOrder) for event in told)
    assert [event.fills[0].trade_id for event in told] == [str(n) for n in range(1, 501)]
    assert told[-1].fills[0].is_maker
    assert told[-1].average == Decimal(50000)
    assert told[-1].exchange_time_ns == 1499405659157 * 1_000_000


async def test_every_gap_is_told_and_the_stream_comes_back(
    server: Scripted, connector: BinanceConnector
):
    visits = 0

    async def behave(opened: web.WebSocketResponse) -> None:
        nonlocal visits
        visits += 1
        if visits == 2:
            # Once it even fails before it is open: one gap, told once.
            assert opened._req is not None
            assert opened._req.transport is not None
            opened._req.transport.abort()
            return
        await accept(opened)
        await opened.send_json(report(visits))
        if visits == 3:
            await opened.send_json({"event": {"e": "eventStreamTerminated", "E": 1}})
        elif visits == 4:
            await opened.send_str('{"event": {"e": "executionReport", "s": "BTCUSDT"}}')
        if visits > 1:
            await opened.receive()

    server.behave = behave
    connector_events = connector.watch_events()
    async with asyncio.timeout(15), contextlib.aclosing(connector_events) as events:
        told = [await anext(events) for _ in range(8)]
    kinds = [type(event).__name__ for event in told]
    gap = ["StreamOpened", "ExchangeOrder", "StreamLost"]
    assert kinds == [*gap, *gap, "StreamOpened", "ExchangeOrder"]
    assert isinstance(told[5], StreamLost)
    assert "eventStreamTerminated" in told[5].reason


async def test_event_that_cannot_be_read_is_a_gap(server: Scripted, connector: BinanceConnector):
    async def behave(opened: web.WebSocketResponse) -> None:
        await accept(opened)
        await opened.send_json({"event": {"e": "executionReport", "s": "BTCUSDT"}})
        await opened.receive()

    server.behave = behave
    async with asyncio.timeout(5), contextlib.aclosing(connector.watch_events()) as events:
        assert await anext(events) == StreamOpened()
        assert isinstance(await anext(events), StreamLost)


async def test_refused_key_ends_the_watch(server: Scripted, connector: BinanceConnector):
    async def behave(opened: web.WebSocketResponse) -> None:
        await accept(opened, 401, code=-2015, msg="Invalid API-key.")

    server.behave = behave
    with pytest.raises(AuthenticationError, match="-2015"):
        await anext(connector.watch_events().__aiter__())


async def test_dead_line_is_noticed_by_its_silence(
    server: Scripted, connector: BinanceConnector, monkeypatch: pytest.MonkeyPatch
):
    from bagbot.trading.connectors.binance_stream import Socket

    monkeypatch.setattr(Socket.__init__, "__kwdefaults__", {"silence_s": 0.2})
    pinged = asyncio.Event()

    async def behave(opened: web.WebSocketResponse) -> None:
        await accept(opened)
        opened._autoping = False
        message = await opened.receive()
        assert message.type is WSMsgType.PING
        pinged.set()
        await asyncio.sleep(1)

    server.behave = behave
    async with asyncio.timeout(5), contextlib.aclosing(connector.watch_events()) as events:
        assert await anext(events) == StreamOpened()
        lost = await anext(events)
    assert pinged.is_set()
    assert isinstance(lost, StreamLost)
    assert "not even a pong" in lost.reason


async def test_cancel_keeps_the_orders_own_id(server: Scripted, connector: BinanceConnector):
    async def behave(opened: web.WebSocketResponse) -> None:
        await accept(opened)
        cancelled = {"x": "CANCELED", "X": "CANCELED", "c": "the-cancel", "C": "the-order", "t": -1}
        await opened.send_json(report(1, **cancelled))
        stopped = {"x": "TRADE_PREVENTION", "X": "EXPIRED_IN_MATCH", "t": -1}
        await opened.send_json(report(1, **stopped))
        await opened.receive()

    server.behave = behave
    async with asyncio.timeout(5), contextlib.aclosing(connector.watch_events()) as events:
        await anext(events)
        cancelled, stopped = await anext(events), await anext(events)
    assert isinstance(cancelled, ExchangeOrder)
    assert (cancelled.client_order_id, cancelled.fills) == ("the-order", ())
    assert isinstance(stopped, ExchangeOrder)
    assert stopped.status is ExchangeOrderStatus.EXPIRED

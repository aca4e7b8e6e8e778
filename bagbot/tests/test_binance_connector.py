"""The Binance connector, over real sockets against servers of our own; never live, never mocked."""

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from bagbot.domain.errors import (
    AuthenticationError,
    ConfigError,
    ExchangeUnavailableError,
    InvalidOrderError,
    OrderNotFoundError,
    OrderRejectedError,
    OutcomeUnknownError,
)
from bagbot.domain.instrument import Side
from bagbot.domain.order import OrderRequest, OrderType, TimeInForce
from bagbot.simulator.server import SimulatorServer
from bagbot.tests.conftest import API_KEY, API_SECRET
from bagbot.tests.trading.futures_wire import FuturesWire
from bagbot.trading.connectors import (
    BinanceConnector,
    ExchangeOrder,
    ExchangeOrderStatus,
    IExchangeConnector,
    StreamLost,
    StreamOpened,
)

BAGBOT = Path(__file__).resolve().parent.parent
SYMBOL = "BTC/USDT"
MARKET = {"symbol": SYMBOL, "side": "buy", "type": "market", "amount": "0.01"}


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No key, URL or switch of the machine's reaches a test."""
    for name in list(os.environ):
        if name.startswith(("BINANCE_", "BAGBOT_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def connector(simulator: SimulatorServer) -> AsyncIterator[BinanceConnector]:
    async with BinanceConnector(API_KEY, API_SECRET, base_url=simulator.url) as connector:
        yield connector


@pytest.fixture
async def wire() -> AsyncIterator[FuturesWire]:
    async with FuturesWire(API_KEY, API_SECRET) as server:
        yield server


@pytest.fixture
async def futures(wire: FuturesWire) -> AsyncIterator[BinanceConnector]:
    async with BinanceConnector(API_KEY, API_SECRET, futures=True, base_url=wire.url) as connector:
        yield connector


async def requests_of(simulator: SimulatorServer) -> list[tuple[str, str]]:
    """Return method and path of what the simulator was sent."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{simulator.url}/admin/requests") as answer,
    ):
        return [(row["method"], row["path"]) for row in await answer.json()]


async def break_next_order(simulator: SimulatorServer, **fault: object) -> None:
    """Let the next order go wrong as described."""
    fault = {"method": "POST", "path": "/api/v3/order", **fault}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{simulator.url}/admin/faults", json=fault) as answer,
    ):
        assert answer.status == 200, await answer.text()


ORDER = ("POST", "/api/v3/order")


async def resting_order(connector: BinanceConnector, **more: object) -> ExchangeOrder:
    """Place a buy far below the market: it rests."""
    ticker = await connector.fetch_ticker(SYMBOL)
    instrument = (await connector.load_instruments())[SYMBOL]
    assert ticker.bid is not None
    price = instrument.round_price(ticker.bid * Decimal("0.9"), Side.BUY)
    payload = {"symbol": SYMBOL, "side": "buy", "type": "limit", "amount": "0.01", "price": price}
    return await connector.create_order({**payload, **more})


# Configurations.


def test_default_is_the_spot_testnet():
    connector = BinanceConnector()
    assert connector.testnet
    assert not connector.futures
    assert connector.venue == "binance spot testnet"
    urls = connector.exchange.urls["api"]
    assert urls["private"] == "https://testnet.binance.vision/api/v3"
    assert urls["ws"]["ws-api"]["spot"] == "wss://ws-api.testnet.binance.vision/ws-api/v3"


def test_futures_on_testnet_are_demo_trading():
    connector = BinanceConnector(futures=True)
    assert connector.venue == "binance futures demo trading"
    assert connector.exchange.urls["api"]["fapiPrivate"] == "https://demo-fapi.binance.com/fapi/v1"


@pytest.mark.parametrize("futures", [False, True])
def test_live_needs_a_second_switch(futures: bool):
    with pytest.raises(ConfigError, match="BAGBOT_ALLOW_LIVE=yes"):
        BinanceConnector("key", "secret", testnet=False, futures=futures)


def test_live_switch_in_a_file_does_not_count(tmp_path: Path):
    (tmp_path / ".env").write_text("BAGBOT_ALLOW_LIVE=yes\n")
    with pytest.raises(ConfigError, match="BAGBOT_ALLOW_LIVE=yes"):
        BinanceConnector("key", "secret", testnet=False)


def test_live_with_both_switches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BAGBOT_ALLOW_LIVE", "yes")
    connector = BinanceConnector("key", "secret", testnet=False)
    assert connector.exchange.urls["api"]["private"] == "https://api.binance.com/api/v3"
    assert connector.venue == "binance spot live"


@pytest.mark.parametrize(
    "host", ["api.binance.com", "API3.Binance.com", "fapi.binance.com", "api.binance.us"]
)
def test_live_address_needs_the_switch_even_on_testnet(host: str):
    with pytest.raises(ConfigError, match="real money"):
        BinanceConnector("key", "secret", testnet=True, base_url=f"https://{host}")


def test_base_url_moves_every_address():
    connector = BinanceConnector(base_url="http://127.0.0.1:9/", testnet=False)
    flat = str(connector.exchange.urls["api"])
    assert "binance.com" not in flat
    assert connector.exchange.urls["api"]["public"] == "http://127.0.0.1:9/api/v3"
    assert connector.exchange.urls["api"]["fapiPrivateV3"] == "http://127.0.0.1:9/fapi/v3"
    assert connector.exchange.urls["api"]["ws"]["spot"] == "ws://127.0.0.1:9/stream/ws"
    assert connector.exchange.urls["api"]["ws"]["linear"].endswith("/ws")


@pytest.mark.parametrize("base_url", ["127.0.0.1:9", "ftp://127.0.0.1", "http://", "http://a?b=c"])
def test_base_url_that_is_none_is_refused(base_url: str):
    with pytest.raises(ConfigError, match="base URL"):
        BinanceConnector(base_url=base_url)


# Credentials.


def test_credentials_from_arguments_beat_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BINANCE_API_KEY", "env-key")
    monkeypatch.setenv("BINANCE_API_SECRET", "env-secret")
    connector = BinanceConnector("argument-key", "argument-secret")
    assert connector.exchange.apiKey == "argument-key"
    assert connector.exchange.secret == "argument-secret"


def test_credentials_from_the_environment_beat_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / ".env").write_text("BINANCE_API_KEY=file-key\nBINANCE_API_SECRET=file-secret\n")
    monkeypatch.setenv("BINANCE_API_KEY", "env-key")
    monkeypatch.setenv("BINANCE_API_SECRET", "env-secret")
    assert BinanceConnector().exchange.apiKey == "env-key"


def test_credentials_from_a_file_above_the_working_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / ".env").write_text(
        "BINANCE_API_KEY=file-key\nBINANCE_API_SECRET=file-secret\n"
        "BINANCE_BASE_URL=http://127.0.0.1:9\n"
    )
    below = tmp_path / "deep" / "below"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    connector = BinanceConnector()
    assert connector.exchange.apiKey == "file-key"
    assert connector.base_url == "http://127.0.0.1:9"
    assert "BINANCE_API_SECRET" not in os.environ


def test_half_a_credential_is_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="belong together"):
        BinanceConnector("only-a-key")
    monkeypatch.setenv("BINANCE_API_SECRET", "only-a-secret")
    with pytest.raises(ConfigError, match="BINANCE_API_KEY and BINANCE_API_SECRET"):
        BinanceConnector()


def test_repr_shows_no_secret():
    shown = repr(BinanceConnector("the-key", "the-secret"))
    assert "the-key" not in shown
    assert "the-secret" not in shown


async def test_without_a_key_public_calls_work_and_private_ones_send_nothing(
    simulator: SimulatorServer,
):
    async with BinanceConnector(base_url=simulator.url) as connector:
        assert not connector.has_credentials
        assert (await connector.fetch_ticker(SYMBOL)).last
        before = await requests_of(simulator)
        for call in (connector.fetch_balance(), connector.create_order(MARKET)):
            with pytest.raises(AuthenticationError, match="BINANCE_API_KEY"):
                await call
        with pytest.raises(AuthenticationError, match="no API key"):
            connector.watch_events()
        assert await requests_of(simulator) == before


async def test_missing_key_on_a_test_venue_says_which_keys_it_takes():
    async with BinanceConnector() as spot, BinanceConnector(futures=True) as futures:
        with pytest.raises(AuthenticationError, match=r"testnet\.binance\.vision"):
            await spot.fetch_balance()
        with pytest.raises(AuthenticationError, match=r"demo\.binance\.com"):
            await futures.fetch_balance()


# The exchange behind it.


def test_exchange_is_ccxts_and_never_repeats_orders():
    exchange = BinanceConnector().exchange
    assert exchange.id == "binance"
    assert exchange.enableRateLimit
    assert "maxRetriesOnFailure" not in exchange.options
    assert exchange.options["fetchMarkets"]["types"] == ["spot"]


def test_it_is_a_connector_with_every_capability():
    connector = BinanceConnector()
    assert isinstance(connector, IExchangeConnector)
    assert {"fetch_ticker", "fetch_order", "watch_events", "load_instruments", "close"} <= (
        connector.capabilities
    )


# The interface, on spot.


async def test_fetch_balance_is_decimal_by_asset(connector: BinanceConnector):
    balance = await connector.fetch_balance()
    assert balance["USDT"].free == Decimal(1_000_000)
    assert balance["USDT"].used == 0
    assert isinstance(balance["BTC"].total, Decimal)


async def test_market_order_comes_back_with_its_fills(connector: BinanceConnector):
    order = await connector.create_order({**MARKET, "clientOrderId": "my-order-1"})
    assert order.status is ExchangeOrderStatus.CLOSED
    assert order.client_order_id == "my-order-1"
    assert order.filled == Decimal("0.01") == sum(f.quantity for f in order.fills)
    assert order.price is None
    assert order.average == sum(f.quantity * f.price for f in order.fills) / order.filled
    fill = order.fills[0]
    assert fill.fee > 0
    assert fill.fee_asset == "BTC"
    assert not fill.is_maker
    assert fill.exchange_time_ns > 0


async def test_limit_order_rests_and_is_found_again(connector: BinanceConnector):
    order = await resting_order(connector, clientOrderId="resting-1")
    assert order.status is ExchangeOrderStatus.OPEN
    assert [o.id for o in await connector.fetch_open_orders(SYMBOL)] == [order.id]
    assert [o.id for o in await connector.fetch_open_orders()] == [order.id]
    assert (await connector.fetch_order(order.id)).amount == Decimal("0.01")
    found = await connector.fetch_order(None, SYMBOL, client_order_id="resting-1")
    assert found.id == order.id


async def test_typed_request_and_times_in_force(connector: BinanceConnector):
    ticker = await connector.fetch_ticker(SYMBOL)
    assert ticker.bid is not None
    request = OrderRequest(
        symbol=SYMBOL,
        side=Side.BUY,
        type=OrderType.LIMIT,
        amount=Decimal("0.01"),
        price=(ticker.bid * Decimal("0.9")).quantize(Decimal("0.01")),
        time_in_force=TimeInForce.IOC,
    )
    order = await connector.create_order(request)
    assert order.status is ExchangeOrderStatus.EXPIRED
    assert order.filled == 0
    maker = await resting_order(connector, timeInForce="PO")
    assert maker.info["type"] == "LIMIT_MAKER"
    assert maker.type == "limit"


async def test_post_only_that_would_take_is_rejected(connector: BinanceConnector):
    ticker = await connector.fetch_ticker(SYMBOL)
    with pytest.raises(OrderRejectedError, match="immediately match") as caught:
        await resting_order(connector, price=str(ticker.ask), timeInForce="PO")
    assert caught.value.code == -2010


async def test_cancel_returns_the_order_under_its_own_id(connector: BinanceConnector):
    order = await resting_order(connector, clientOrderId="own-id")
    ended = await connector.cancel_order(order.id, params={"newClientOrderId": "cancel-id"})
    assert ended.status is ExchangeOrderStatus.CANCELED
    assert ended.client_order_id == "own-id"
    assert ended.info["clientOrderId"] == "cancel-id"
    assert (await connector.fetch_order(order.id)).client_order_id == "own-id"
    with pytest.raises(OrderNotFoundError):
        await connector.cancel_order(order.id, SYMBOL)


async def test_cancel_by_our_own_id(connector: BinanceConnector):
    await resting_order(connector, clientOrderId="probe-me")
    ended = await connector.cancel_order("", SYMBOL, {"origClientOrderId": "probe-me"})
    assert ended.status is ExchangeOrderStatus.CANCELED


async def test_cancel_of_a_strange_order_needs_its_symbol(connector: BinanceConnector):
    with pytest.raises(InvalidOrderError, match="pass symbol"):
        await connector.cancel_order("4711")


async def test_orders_and_trades_since(connector: BinanceConnector):
    await connector.load_instruments()
    start_ms = connector.stamp()["timestamp"] - 3 * 86_400_000
    ids = [(await connector.create_order(MARKET)).id for _ in range(3)]
    assert [o.id for o in await connector.fetch_orders(SYMBOL, since_ms=start_ms)] == ids
    assert [o.id for o in await connector.fetch_orders(SYMBOL)] == ids
    trades = await connector.fetch_my_trades(SYMBOL, from_trade_id="0")
    assert [t.exchange_order_id for t in trades] == ids
    second = await connector.fetch_my_trades(SYMBOL, order_id=ids[1])
    assert [t.fill for t in second] == [trades[1].fill]
    rest = await connector.fetch_my_trades(SYMBOL, from_trade_id=trades[1].fill.trade_id)
    assert rest == trades[1:]


async def test_all_trades_of_an_order_that_fill_more_than_a_page(
    connector: BinanceConnector, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bagbot.trading.connectors.binance_connector._PAGE", 2)
    # Deep enough into the book for five of its levels.
    order = await connector.create_order({**MARKET, "amount": "3.5"})
    trades = await connector.fetch_my_trades(SYMBOL, order_id=order.id)
    assert len(order.fills) == 5
    assert [t.fill.trade_id for t in trades] == [f.trade_id for f in order.fills]


async def test_tickers_of_several_markets_with_one_request(
    connector: BinanceConnector, simulator: SimulatorServer
):
    await connector.load_instruments()
    before = await requests_of(simulator)
    tickers = await connector.fetch_tickers([SYMBOL, "ETH/USDT"])
    assert len(await requests_of(simulator)) == len(before) + 1
    assert set(tickers) == {SYMBOL, "ETH/USDT"}
    bid, ask = tickers[SYMBOL].bid, tickers[SYMBOL].ask
    assert bid is not None
    assert ask is not None
    assert bid < ask


async def test_positions_on_spot_are_none(connector: BinanceConnector):
    assert await connector.fetch_positions() == []


async def test_instruments_carry_the_filters(connector: BinanceConnector):
    instrument = (await connector.load_instruments())[SYMBOL]
    assert instrument.exchange_symbol == "BTCUSDT"
    assert instrument.tick_size == Decimal("0.01")
    assert instrument.lot_size == Decimal("0.00001")
    assert instrument.notional_min is not None
    assert (instrument.open_orders_max, instrument.open_stops_max) == (200, 5)
    assert (instrument.trailing_delta_min, instrument.trailing_delta_max) == (10, 2000)


async def test_prepared_order_leaves_when_it_is_sent_and_not_before(
    connector: BinanceConnector, simulator: SimulatorServer
):
    # Before anything is known, preparing has to wait for the sending.
    assert (await connector.prepare_order(MARKET)()).status is ExchangeOrderStatus.CLOSED
    before = await requests_of(simulator)
    with pytest.raises(InvalidOrderError, match="lot"):
        connector.prepare_order({**MARKET, "amount": "0.010000001"})
    params = {"timestamp": connector.stamp()["timestamp"], "recvWindow": 60_000}
    send = connector.prepare_order({**MARKET, "clientOrderId": "prepared", "params": params})
    await asyncio.sleep(0.05)
    assert await requests_of(simulator) == before
    assert (await send()).client_order_id == "prepared"
    assert await requests_of(simulator) == [*before, ORDER]


async def test_symbols_are_asked_for_once_however_many_need_them(
    connector: BinanceConnector, simulator: SimulatorServer
):
    async with asyncio.TaskGroup() as tasks:
        for _ in range(5):
            tasks.create_task(connector.fetch_ticker(SYMBOL))
    asked = await requests_of(simulator)
    assert asked.count(("GET", "/api/v3/exchangeInfo")) == 1
    assert asked.count(("GET", "/api/v3/time")) == 1


async def test_stamp_is_the_exchanges_time_and_travels_as_given(connector: BinanceConnector):
    with pytest.raises(ExchangeUnavailableError, match="load_instruments"):
        connector.stamp()
    await connector.load_instruments()
    stamp = connector.stamp()
    assert stamp["recvWindow"] == 3000
    await connector.create_order({**MARKET, "params": dict(stamp)})
    late = {"timestamp": stamp["timestamp"] - 60_000, "recvWindow": 3000}
    with pytest.raises(OrderRejectedError) as caught:
        await connector.create_order({**MARKET, "params": late})
    assert caught.value.code == -1021


async def test_clock_is_measured_again_after_1021(
    connector: BinanceConnector, simulator: SimulatorServer
):
    await connector.load_instruments()
    refusal = {"code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."}
    await break_next_order(simulator, kind="refuse", status=400, body=refusal)
    with pytest.raises(OrderRejectedError):
        await connector.create_order({**MARKET, "params": dict(connector.stamp())})
    assert (await requests_of(simulator)).count(("GET", "/api/v3/time")) == 2


# Errors.


async def test_what_is_off_the_steps_is_refused_and_not_sent(
    connector: BinanceConnector, simulator: SimulatorServer
):
    with pytest.raises(InvalidOrderError, match=r"lot 0\.00001; the nearest below is 0\.01;"):
        await connector.create_order({**MARKET, "amount": "0.010000001"})
    limit = {**MARKET, "type": "limit", "price": "50000.019"}
    with pytest.raises(InvalidOrderError, match=r"tick 0\.01; .* is 50000\.01;"):
        await connector.create_order(limit)
    with pytest.raises(InvalidOrderError, match="does not trade"):
        await connector.create_order({**MARKET, "symbol": "NOPE/USDT"})
    with pytest.raises(InvalidOrderError, match="params may not set 'quantity'"):
        await connector.create_order({**MARKET, "params": {"quantity": "7"}})
    assert ORDER not in await requests_of(simulator)


async def test_refusal_is_final_and_names_the_code(connector: BinanceConnector):
    with pytest.raises(OrderRejectedError, match="insufficient balance") as caught:
        await connector.create_order({**MARKET, "amount": "100"})
    assert (caught.value.code, caught.value.http_status) == (-2010, 400)


async def test_duplicate_id_means_that_an_earlier_attempt_is_open(connector: BinanceConnector):
    await resting_order(connector, clientOrderId="twice")
    with pytest.raises(OutcomeUnknownError, match="twice"):
        await resting_order(connector, clientOrderId="twice")


async def test_lost_answer_is_unknown_and_the_order_went_out_once(
    connector: BinanceConnector, simulator: SimulatorServer
):
    await connector.load_instruments()
    await break_next_order(simulator, kind="lose_answer")
    with pytest.raises(OutcomeUnknownError, match="lost-1") as caught:
        await connector.create_order({**MARKET, "clientOrderId": "lost-1"})
    assert "do not send it again" in str(caught.value)
    assert (await requests_of(simulator)).count(ORDER) == 1
    found = await connector.fetch_order(None, SYMBOL, client_order_id="lost-1")
    assert found.status is ExchangeOrderStatus.CLOSED


async def test_unknown_order_is_not_found(connector: BinanceConnector):
    with pytest.raises(OrderNotFoundError) as caught:
        await connector.fetch_order("999999", SYMBOL)
    assert caught.value.code == -2013


async def test_wrong_secret_and_wrong_key(simulator: SimulatorServer):
    async with BinanceConnector(API_KEY, "x" * 64, base_url=simulator.url) as connector:
        with pytest.raises(OrderRejectedError) as caught:
            await connector.create_order(MARKET)
        assert caught.value.code == -1022
    async with BinanceConnector("y" * 64, API_SECRET, base_url=simulator.url) as connector:
        with pytest.raises(AuthenticationError, match="takes the keys it was started with"):
            await connector.fetch_balance()
        with pytest.raises(AuthenticationError):
            await anext(connector.watch_events().__aiter__())


async def test_nobody_there_is_unavailable_even_for_an_order(connector: BinanceConnector):
    await connector.load_instruments()
    # A port that nobody listens on: the connection is refused, so nothing was sent.
    for name in ("public", "private"):
        connector.exchange.urls["api"][name] = "http://127.0.0.1:1/api/v3"
    with pytest.raises(ExchangeUnavailableError, match="Certainly nothing was accepted"):
        await connector.create_order(MARKET)
    with pytest.raises(ExchangeUnavailableError):
        await connector.fetch_balance()


async def test_closed_connector_says_so(simulator: SimulatorServer):
    connector = BinanceConnector(API_KEY, API_SECRET, base_url=simulator.url)
    await connector.load_instruments()
    await connector.close()
    await connector.close()
    with pytest.raises(ExchangeUnavailableError, match="closed"):
        await connector.create_order(MARKET)


# The account's events.


async def test_events_tell_a_life_from_acceptance_to_cancel(connector: BinanceConnector):
    async with contextlib.aclosing(connector.watch_events()) as events:
        assert isinstance(await anext(events), StreamOpened)
        order = await resting_order(connector, clientOrderId="watched")
        await connector.cancel_order(order.id)
        bought = await connector.create_order(MARKET)
        told = [await anext(events) for _ in range(4)]
    assert all(isinstance(event, ExchangeOrder) for event in told)
    assert [e.status.value for e in told] == ["open", "canceled", "open", "closed"]
    assert [e.client_order_id for e in told[:2]] == ["watched", "watched"]
    assert told[3].fills == bought.fills


async def test_event_makes_an_order_known(connector: BinanceConnector, simulator: SimulatorServer):
    async with (
        BinanceConnector(API_KEY, API_SECRET, base_url=simulator.url) as other,
        contextlib.aclosing(connector.watch_events()) as events,
    ):
        await anext(events)
        order = await resting_order(other)
        await anext(events)
        # It was never asked about, only streamed: no symbol is needed any more.
        assert (await connector.cancel_order(order.id)).id == order.id


async def test_cancelled_watcher_leaves_nothing_open(
    connector: BinanceConnector, caplog: pytest.LogCaptureFixture
):
    opened = asyncio.Event()

    async def watch() -> None:
        async for event in connector.watch_events():
            if isinstance(event, StreamOpened):
                opened.set()

    with caplog.at_level(logging.WARNING, "asyncio"):
        task = asyncio.create_task(watch())
        await asyncio.wait_for(opened.wait(), 5)
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert "Unclosed" not in caplog.text


async def test_watching_ends_when_the_connector_is_closed(simulator: SimulatorServer):
    connector = BinanceConnector(API_KEY, API_SECRET, base_url=simulator.url)
    told = []

    async def watch() -> None:
        async for event in connector.watch_events():
            told.append(event)
            if isinstance(event, StreamOpened):
                closing.set()

    closing = asyncio.Event()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        await closing.wait()
        await connector.close()
    assert told == [StreamOpened()]


async def test_stopped_server_is_a_gap_and_not_an_error(simulator: SimulatorServer):
    async with (
        BinanceConnector(API_KEY, API_SECRET, base_url=simulator.url) as connector,
        contextlib.aclosing(connector.watch_events()) as events,
    ):
        assert isinstance(await anext(events), StreamOpened)
        await simulator.stop()
        async with asyncio.timeout(5):
            assert isinstance(await anext(events), StreamLost)


# Futures, against documented wire data.


async def test_futures_order_uses_futures_words(futures: BinanceConnector, wire: FuturesWire):
    order = await futures.create_order(
        {
            "symbol": "BTC/USDT:USDT",
            "side": "sell",
            "type": "limit",
            "amount": Decimal("0.010"),
            "price": "61900.1",
            "timeInForce": "PO",
            "params": {"reduceOnly": True},
        }
    )
    method, path, fields = wire.requests[-1]
    assert (method, path) == ("POST", "/fapi/v1/order")
    assert fields["quantity"] == "0.01"
    assert fields["timeInForce"] == "GTX"
    assert fields["reduceOnly"] == "true"
    assert fields["newOrderRespType"] == "RESULT"
    assert order.symbol == "BTC/USDT:USDT"
    assert order.status is ExchangeOrderStatus.OPEN
    assert (await futures.fetch_open_orders())[0].id == order.id
    assert (await futures.fetch_order(order.id)).price == Decimal("61900.1")
    assert (await futures.cancel_order(order.id)).status is ExchangeOrderStatus.CANCELED
    with pytest.raises(OrderNotFoundError):
        await futures.cancel_order(order.id)


async def test_spot_symbol_on_futures_is_told_its_right_name(futures: BinanceConnector):
    with pytest.raises(InvalidOrderError, match="but 'BTC/USDT:USDT'"):
        await futures.create_order(MARKET)


async def test_futures_instruments_are_the_perpetuals(futures: BinanceConnector):
    instruments = await futures.load_instruments()
    assert list(instruments) == ["BTC/USDT:USDT"]
    instrument = instruments["BTC/USDT:USDT"]
    assert instrument.tick_size == Decimal("0.10")
    assert instrument.notional_min == 100
    assert instrument.buy_price_ratio_max == Decimal("1.05")
    assert instrument.buy_price_ratio_min is None


async def test_futures_positions_are_signed_and_only_open_ones(
    futures: BinanceConnector, wire: FuturesWire
):
    row = {
        "symbol": "BTCUSDT",
        "positionSide": "BOTH",
        "positionAmt": "-0.050",
        "entryPrice": "60000.1",
        "breakEvenPrice": "59990.0",
        "markPrice": "61800.15",
        "unRealizedProfit": "-90.00250000",
        "liquidationPrice": "70000",
        "isolatedMargin": "0",
        "notional": "-3090.0075",
        "marginAsset": "USDT",
        "updateTime": 1720736417660,
    }
    wire.positions = [row, {**row, "positionSide": "LONG", "positionAmt": "0.000"}]
    positions = await futures.fetch_positions()
    assert [p.quantity for p in positions] == [Decimal("-0.050")]
    assert positions[0].unrealised_pnl == Decimal("-90.00250000")
    assert positions[0].liquidation_price == 70000


async def test_futures_balance_ticker_and_trades(futures: BinanceConnector):
    balance = await futures.fetch_balance()
    assert list(balance) == ["USDT"]
    assert balance["USDT"].total == Decimal("1000")
    ticker = await futures.fetch_ticker("BTC/USDT:USDT")
    assert (ticker.bid, ticker.last) == (Decimal("61800.10"), Decimal("61800.15"))
    assert await futures.fetch_tickers(["BTC/USDT:USDT"]) == {"BTC/USDT:USDT": ticker}
    trade = (await futures.fetch_my_trades("BTC/USDT:USDT"))[0]
    assert trade.side is Side.SELL
    # A rebate is a negative fee.
    assert trade.fill.fee == Decimal("-0.07819010")


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"code": -2019, "msg": "Margin is insufficient."}, OrderRejectedError),
        (400, {"code": -4164, "msg": "Order's notional must be ..."}, OrderRejectedError),
        (400, {"code": -5022, "msg": "Post Only order will be rejected."}, OrderRejectedError),
        (400, {"code": -4116, "msg": "ClientOrderId is duplicated."}, OutcomeUnknownError),
        (503, {"code": -1008, "msg": "Request throttled ..."}, ExchangeUnavailableError),
    ],
)
async def test_futures_codes(
    futures: BinanceConnector,
    wire: FuturesWire,
    status: int,
    body: dict[str, object],
    expected: type[Exception],
):
    wire.refusals.append((status, body))
    payload = {"symbol": "BTC/USDT:USDT", "side": "buy", "type": "market", "amount": "0.01"}
    with pytest.raises(expected):
        await futures.create_order(payload)


async def test_futures_events_over_a_listen_key(futures: BinanceConnector, wire: FuturesWire):
    async with contextlib.aclosing(futures.watch_events()) as events:
        assert isinstance(await anext(events), StreamOpened)
        payload = {"symbol": "BTC/USDT:USDT", "side": "buy", "type": "market", "amount": "0.01"}
        order = await futures.create_order(payload)
        await asyncio.wait_for(wire.subscribed.wait(), 5)
        await wire.fill(int(order.id), "0.004", "61800.20")
        told = await anext(events)
        assert isinstance(told, ExchangeOrder)
        assert told.status is ExchangeOrderStatus.OPEN
        assert told.filled == Decimal("0.004")
        assert told.fills[0].trade_id == "8886774"
        assert told.fills[0].fee_asset == "USDT"
        assert told.fills[0].is_maker
        await wire.expire_listen_key()
        lost = await anext(events)
        assert isinstance(lost, StreamLost)
        assert "listenKeyExpired" in lost.reason
        assert isinstance(await anext(events), StreamOpened)


# The user's own snippet, from their own folder.

BASIC_EXAMPLE = """\
from trading.connectors import BinanceConnector
import asyncio

async def main():
    connector = BinanceConnector(testnet=True)
    balance = await connector.fetch_balance()
    print(f"Balance: {balance}")
    await connector.close()

asyncio.run(main())
"""


async def run_in_bagbot(code: str, **environment: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        code,
        cwd=BAGBOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, output.decode()


async def test_both_ways_to_import_give_the_same_class():
    code = (
        "from trading.connectors import BinanceConnector as short\n"
        "from bagbot.trading.connectors import BinanceConnector as long\n"
        "assert short is long\n"
    )
    assert await run_in_bagbot(code) == (0, "")


async def test_basic_example_runs_as_it_is(simulator: SimulatorServer):
    status, output = await run_in_bagbot(
        BASIC_EXAMPLE,
        BINANCE_BASE_URL=simulator.url,
        BINANCE_API_KEY=API_KEY,
        BINANCE_API_SECRET=API_SECRET,
    )
    assert status == 0, output
    assert "Balance: {" in output
    assert "'USDT': Balance(asset='USDT', free=Decimal('1000000" in output

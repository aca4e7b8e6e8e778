"""Binance's own client for spot, unmodified: REST, the WebSocket API and the streams.

It holds every answer against its models and logs a warning about what does not fit; no test passes
with such a warning.
"""

import asyncio
import logging
import re
import time
from contextlib import asynccontextmanager

import pytest
from binance_common import errors
from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
)
from binance_common.constants import TimeUnit
from binance_sdk_spot.rest_api import SpotRestAPI
from binance_sdk_spot.websocket_api import SpotWebSocketAPI
from binance_sdk_spot.websocket_streams import SpotWebSocketStreams

from bagbot.simulator.accounts import AccountSettings, KeySettings
from bagbot.simulator.rate_limits import LimitSettings
from bagbot.simulator.simulator_settings import SocketSettings
from bagbot.tests.simulator import refusals, wire_orders
from bagbot.tests.simulator.refusals import REFUSALS
from bagbot.tests.simulator.signing_client import (
    ED_KEY,
    ED_PRIVATE_PEM,
    ED_PUBLIC_PEM,
    KEY,
    SECRET,
    deposit,
)

# It gives aiohttp its timeout in a form that aiohttp has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:parameter 'timeout':DeprecationWarning")
PEER = "binance-sdk-spot"
SYMBOL = "BTCUSDT"
HMAC = {"api_key": KEY, "api_secret": SECRET}
ED25519 = {"api_key": ED_KEY, "private_key": ED_PRIVATE_PEM}


def in_its_words(parameters):
    return {re.sub("([A-Z])", r"_\1", name).lower(): parameters[name] for name in parameters}


RESTING, OCO, OTO, OTOCO = (
    in_its_words(each)
    for each in (wire_orders.RESTING, wire_orders.OCO, wire_orders.OTO, wire_orders.OTOCO)
)
MISFITS = ("did not match", "Failed to parse", "Error in callback")


@pytest.fixture
async def simulator(start_simulator):
    keys = [
        KeySettings(api_key=KEY, api_secret=SECRET),
        KeySettings(api_key=ED_KEY, public_key=ED_PUBLIC_PEM),
    ]
    return await start_simulator(accounts=[AccountSettings(name="main", keys=keys)])


@pytest.fixture(autouse=True)
def every_answer_fits_its_model(caplog):
    with caplog.at_level(logging.WARNING):
        yield
    misfits = [
        record.getMessage()
        for record in caplog.get_records("call")
        if any(sign in record.getMessage() for sign in MISFITS)
    ]
    assert misfits == []


class Rest:
    """The REST client, which blocks, called from a thread: the exchange runs in this loop."""

    def __init__(self, simulator, **settings):
        settings = HMAC | settings if "private_key" not in settings else settings
        self.api = SpotRestAPI(
            ConfigurationRestAPI(base_path=simulator.url, timeout=10_000, retries=0, **settings)
        )

    async def __call__(self, name, **parameters):
        answer = await asyncio.to_thread(getattr(self.api, name), **parameters)
        return answer.data()


@pytest.fixture
def rest(simulator):
    return Rest(simulator)


@asynccontextmanager
async def connected(client):
    await client.create_connection()
    try:
        yield client
    finally:
        await client.close_connection(close_session=True)


def socket_api(simulator, **settings):
    url = simulator.websocket_url + "/ws-api/v3"
    return connected(SpotWebSocketAPI(ConfigurationWebSocketAPI(stream_url=url, **settings)))


def streams_of(simulator):
    url = simulator.websocket_url + "/stream"
    return connected(SpotWebSocketStreams(ConfigurationWebSocketStreams(stream_url=url)))


async def result_of(call):
    """Return the result of a WebSocket API call, which fits its model, as plain data."""
    answer = (await call).data()
    assert not isinstance(answer, dict), answer
    assert answer.status == 200
    return answer.result


async def until(condition, timeout_s=10):
    """Look again and again: this client tells of events by calling back, outside of any await."""
    for _ in range(timeout_s * 50):
        if condition():
            return
        await asyncio.sleep(0.02)
    pytest.fail("it has not happened in time")


# REST.


async def test_market_data_is_read(rest):
    assert await rest("ping") is not None
    assert abs((await rest("time")).server_time - time.time() * 1_000) < 2_000
    info = await rest("exchange_info", symbols=[SYMBOL, "ETHUSDT"])
    assert [each.symbol for each in info.symbols] == [SYMBOL, "ETHUSDT"]
    book = await rest("depth", symbol=SYMBOL, limit=5)
    assert len(book.bids) == len(book.asks) == 5
    assert (await rest("get_trades", symbol=SYMBOL))[0].id >= 1
    assert (await rest("historical_trades", symbol=SYMBOL, from_id=1))[0].id == 1
    assert (await rest("agg_trades", symbol=SYMBOL))[0].a >= 1
    for name in ("klines", "ui_klines"):
        assert len(await rest(name, symbol=SYMBOL, interval="1m", limit=3)) == 3
    assert (await rest("avg_price", symbol=SYMBOL)).mins == 5


async def test_tickers_are_read_for_one_for_some_and_for_all(rest):
    for name in ("ticker24hr", "ticker_price", "ticker_book_ticker"):
        one = await rest(name, symbol=SYMBOL)
        assert one.actual_instance.symbol == SYMBOL
        some = await rest(name, symbols=[SYMBOL, "ETHUSDT"])
        assert [row.symbol for row in some.actual_instance] == [SYMBOL, "ETHUSDT"]
        assert len((await rest(name)).actual_instance) == 4


async def test_the_account_is_read(rest):
    account = await rest("get_account", omit_zero_balances=True)
    assert account.can_trade
    assert {row.asset for row in account.balances} >= {"BTC", "USDT"}
    rates = await rest("account_commission", symbol=SYMBOL)
    assert rates.standard_commission.maker == "0.00100000"
    counts = await rest("rate_limit_order")
    assert [row.count for row in counts] == [0, 0]


@pytest.mark.parametrize("keys", [HMAC, ED25519], ids=["HMAC", "Ed25519"])
async def test_an_orders_life_is_led_by_either_kind_of_key(simulator, keys):
    rest = Rest(simulator, **keys)
    assert await rest("order_test", **RESTING, compute_commission_rates=True) is not None
    filled = await rest("new_order", symbol=SYMBOL, side="BUY", type="MARKET", quantity=0.01)
    assert filled.status == "FILLED"
    assert filled.fills[0].commission_asset == "BTC"
    resting = await rest("new_order", **RESTING, new_client_order_id="mine")
    found = await rest("get_order", symbol=SYMBOL, orig_client_order_id="mine")
    assert (found.order_id, found.status) == (resting.order_id, "NEW")
    assert [row.order_id for row in await rest("get_open_orders")] == [resting.order_id]
    gone = await rest("delete_order", symbol=SYMBOL, order_id=resting.order_id)
    assert gone.status == "CANCELED"
    assert len(await rest("all_orders", symbol=SYMBOL)) == 2
    assert (await rest("my_trades", symbol=SYMBOL))[0].order_id == filled.order_id


async def test_the_limits_are_told_in_every_answer(rest):
    answer = await asyncio.to_thread(rest.api.new_order, **RESTING)
    told = {(row.rateLimitType, row.intervalNum, row.interval): row for row in answer.rate_limits}
    assert told[("ORDERS", 10, "SECOND")].count == told[("ORDERS", 1, "DAY")].count == 1
    assert ("REQUEST_WEIGHT", 1, "MINUTE") in told


async def test_every_open_order_is_cancelled_at_once(rest):
    placed = [await rest("new_order", **RESTING) for _ in range(2)]
    await rest("order_list_oco", **OCO)
    gone = await rest("delete_open_orders", symbol=SYMBOL)
    assert len(gone) == 3
    assert [row.order_id for row in gone[:2]] == [row.order_id for row in placed]
    assert await rest("get_open_orders", symbol=SYMBOL) == []


async def test_an_order_is_replaced_in_both_modes(rest):
    old = await rest("new_order", **RESTING)
    for mode in ("STOP_ON_FAILURE", "ALLOW_FAILURE"):
        answer = await rest(
            "order_cancel_replace",
            **RESTING,
            cancel_replace_mode=mode,
            cancel_order_id=old.order_id,
        )
        assert (answer.cancel_result, answer.new_order_result) == ("SUCCESS", "SUCCESS")
        old = answer.new_order_response


async def test_order_lists_are_placed_found_and_cancelled(rest):
    lists = [
        await rest("order_list_oco", **OCO),
        await rest("order_list_oto", **OTO),
        await rest("order_list_otoco", **OTOCO),
    ]
    assert [each.contingency_type for each in lists] == ["OCO", "OTO", "OTO"]
    assert [len(each.orders) for each in lists] == [2, 2, 3]
    ids = [each.order_list_id for each in lists]
    assert [row.order_list_id for row in await rest("open_order_list")] == ids
    for order_list_id in ids:
        found = await rest("get_order_list", order_list_id=order_list_id)
        assert found.list_order_status == "EXECUTING"
        gone = await rest("delete_order_list", symbol=SYMBOL, order_list_id=order_list_id)
        assert gone.list_order_status == "ALL_DONE"
    assert [row.order_list_id for row in await rest("all_order_list")] == ids


async def test_times_come_in_microseconds_on_request(simulator):
    rest = Rest(simulator, time_unit=TimeUnit.MICROSECOND.value)
    assert len(str((await rest("time")).server_time)) == 16


NAMES = {
    ("POST", "order"): "new_order",
    ("POST", "order/test"): "order_test",
    ("POST", "order/cancelReplace"): "order_cancel_replace",
    ("GET", "order"): "get_order",
    ("DELETE", "order"): "delete_order",
    ("DELETE", "openOrders"): "delete_open_orders",
    ("GET", "allOrders"): "all_orders",
    ("GET", "myTrades"): "my_trades",
    ("GET", "klines"): "klines",
    ("GET", "depth"): "depth",
    ("GET", "ticker/price"): "ticker_price",
}
# It sends no parameter that it does not know.
SENT = [name for name in REFUSALS if name != "unknown parameter"]


async def refused(rest, name, **parameters):
    with pytest.raises(errors.Error) as caught:
        await rest(name, **parameters)
    return caught.value


def said(error):
    # Of a refusal this client keeps the code where others keep the HTTP status.
    return error.status_code, error.error_message


@pytest.mark.parametrize("name", SENT)
async def test_a_refusal_is_told_with_its_code_and_text(rest, name):
    refusal = REFUSALS[name]
    name = NAMES[refusal.method, refusal.path]
    error = await refused(rest, name, **in_its_words(refusal.parameters))
    if refusal.code == -2021:
        # A status it has no class for, 409, costs the code.
        assert said(error) == (None, refusal.text)
        return
    assert said(error) == (refusal.code, refusal.text)
    assert isinstance(error, errors.BadRequestError)


async def test_bad_keys_and_signatures_are_told_apart(simulator):
    for settings, expected in (
        ({"api_key": ""}, refusals.BAD_KEY),
        ({"api_key": "nobody"}, refusals.UNKNOWN_KEY),
    ):
        error = await refused(Rest(simulator, **settings), "get_account")
        assert isinstance(error, errors.UnauthorizedError)
        assert said(error) == expected
    for settings in ({"api_secret": "wrong"}, {"api_key": KEY, "private_key": ED_PRIVATE_PEM}):
        error = await refused(Rest(simulator, **settings), "get_account")
        assert isinstance(error, errors.BadRequestError)
        assert said(error) == refusals.BAD_SIGNATURE


@pytest.mark.parametrize(
    ("ahead_s", "expected"), [(10, refusals.LATE), (-10, refusals.EARLY)], ids=["late", "early"]
)
async def test_a_clock_that_is_wrong_is_told(start_simulator, ahead_s, expected):
    simulator = await start_simulator(clock=lambda: time.time_ns() + ahead_s * 10**9)
    assert (
        said(await refused(Rest(simulator), "new_order", **in_its_words(wire_orders.LIMIT)))
        == expected
    )


async def test_too_much_weight_is_refused_and_then_banned(start_simulator):
    limits = LimitSettings(weight_per_minute=100, refusals_before_ban=3)
    rest = Rest(await start_simulator(limits=limits))
    seen = []
    for _ in range(30):
        try:
            await rest("get_account")
        except errors.Error as error:
            seen.append(error)
            if isinstance(error, errors.RateLimitBanError):
                break
    first, last = seen[0], seen[-1]
    assert isinstance(first, errors.TooManyRequestsError)
    assert said(first) == refusals.TOO_HEAVY
    assert 0 < first.retry_after <= 60
    assert isinstance(last, errors.RateLimitBanError)
    assert last.status_code == -1003
    assert last.error_message.startswith("Way too much request weight used; IP banned until ")
    assert 60 < last.retry_after <= 120


async def test_too_many_orders_are_refused(start_simulator):
    rest = Rest(await start_simulator(limits=LimitSettings(orders_per_10_seconds=1)))
    error = None
    # The ten seconds may end between one order and the next.
    for _ in range(3):
        try:
            await rest("new_order", **RESTING)
        except errors.TooManyRequestsError as caught:
            error = caught
            break
    assert said(error) == refusals.TOO_MANY_ORDERS
    assert 0 < error.retry_after <= 10


# The WebSocket API.


async def test_market_data_is_asked_for_over_the_socket(simulator):
    async with socket_api(simulator) as api:
        assert (await api.ping()).data().status == 200
        assert (await result_of(api.time())).server_time > 0
        # Its model of this one answer lacks the envelope, which ends up among the extras.
        info = (await api.exchange_info(symbols=[SYMBOL])).data().additional_properties
        assert [row["symbol"] for row in info["result"]["symbols"]] == [SYMBOL]
        assert len((await result_of(api.depth(symbol=SYMBOL, limit=5))).bids) == 5
        for trades in (api.trades_recent, api.trades_aggregate):
            assert await result_of(trades(symbol=SYMBOL))
        assert (await result_of(api.trades_historical(symbol=SYMBOL, from_id=1)))[0].id == 1
        for bars in (api.klines, api.ui_klines):
            assert len(await result_of(bars(symbol=SYMBOL, interval="1m", limit=3))) == 3
        assert (await result_of(api.avg_price(symbol=SYMBOL))).mins == 5
        for ticker in (api.ticker24hr, api.ticker_price, api.ticker_book):
            assert (await ticker(symbol=SYMBOL)).data().actual_instance.result.symbol == SYMBOL
            listed = (await ticker(symbols=[SYMBOL, "ETHUSDT"])).data().actual_instance.result
            assert [row.symbol for row in listed] == [SYMBOL, "ETHUSDT"]


@pytest.mark.parametrize("keys", [HMAC, ED25519], ids=["HMAC", "Ed25519"])
async def test_orders_are_led_over_the_socket_by_either_kind_of_key(simulator, keys):
    async with socket_api(simulator, **keys) as api:
        await api.order_test(**RESTING)
        placed = await result_of(api.order_place(**RESTING))
        reference = {"symbol": SYMBOL, "order_id": placed.order_id}
        assert (await result_of(api.order_status(**reference))).status == "NEW"
        assert len(await result_of(api.open_orders_status(symbol=SYMBOL))) == 1
        assert (await result_of(api.order_cancel(**reference))).status == "CANCELED"
        assert len(await result_of(api.all_orders(symbol=SYMBOL))) == 1
        old = await result_of(api.order_place(**RESTING))
        for mode in ("STOP_ON_FAILURE", "ALLOW_FAILURE"):
            replaced = await result_of(
                api.order_cancel_replace(
                    **RESTING, cancel_replace_mode=mode, cancel_order_id=old.order_id
                )
            )
            old = replaced.new_order_response
        assert len(await result_of(api.open_orders_cancel_all(symbol=SYMBOL))) == 1


async def test_order_lists_are_led_over_the_socket(simulator):
    async with socket_api(simulator, **HMAC) as api:
        lists = [
            await result_of(api.order_list_place_oco(**OCO)),
            await result_of(api.order_list_place_oto(**OTO)),
            await result_of(api.order_list_place_otoco(**OTOCO)),
        ]
        ids = [each.order_list_id for each in lists]
        opened = await result_of(api.open_order_lists_status())
        assert [row.order_list_id for row in opened] == ids
        for order_list_id in ids:
            found = await result_of(api.order_list_status(order_list_id=order_list_id))
            assert found.list_order_status == "EXECUTING"
            gone = await result_of(
                api.order_list_cancel(symbol=SYMBOL, order_list_id=order_list_id)
            )
            assert gone.list_order_status == "ALL_DONE"
        assert len(await result_of(api.all_order_lists())) == 3


async def test_the_account_is_asked_for_over_the_socket(simulator):
    async with socket_api(simulator, **HMAC) as api:
        await result_of(api.order_place(symbol=SYMBOL, side="BUY", type="MARKET", quantity=0.01))
        assert (await result_of(api.account_status())).can_trade
        rates = await result_of(api.account_commission(symbol=SYMBOL))
        assert rates.standard_commission.taker == "0.00100000"
        assert len(await result_of(api.account_rate_limits_orders())) == 2
        assert len(await result_of(api.my_trades(symbol=SYMBOL))) == 1


async def test_a_session_logs_on_and_needs_no_signatures_then(simulator):
    async with socket_api(simulator, **ED25519) as api:
        assert (await result_of(api.session_logon())).api_key == ED_KEY
        assert (await result_of(api.session_status())).api_key == ED_KEY
        assert (await result_of(api.order_place(**RESTING))).order_id > 0
        subscribed = await api.user_data_stream_subscribe()
        assert subscribed.response.data().result.subscription_id == 0
        events = []
        subscribed.stream.on("message", lambda event: events.append(event.actual_instance))
        await result_of(api.open_orders_cancel_all(symbol=SYMBOL))
        await until(lambda: len(events) >= 2)
        assert [type(event).__name__ for event in events] == [
            "ExecutionReport",
            "OutboundAccountPosition",
        ]
        assert (await result_of(api.session_logout())).api_key is None


async def test_the_users_events_are_received_by_signature(simulator):
    async with socket_api(simulator, **HMAC) as api:
        subscribed = await api.user_data_stream_subscribe_signature()
        events = []
        subscribed.stream.on("message", lambda event: events.append(event.actual_instance))
        listed = await result_of(api.session_subscriptions())
        assert [row.subscription_id for row in listed] == [0]
        await result_of(api.order_list_place_oco(**OCO))
        await until(lambda: len(events) >= 4)
        assert {type(event).__name__ for event in events} == {
            "ExecutionReport",
            "ListStatus",
            "OutboundAccountPosition",
        }
        await deposit(simulator, "BTC", "0.5")
        await until(lambda: any(type(event).__name__ == "BalanceUpdate" for event in events))
        (update,) = [event for event in events if type(event).__name__ == "BalanceUpdate"]
        assert (update.a, update.d) == ("BTC", "0.50000000")
        with pytest.raises(ValueError, match=refusals.SUBSCRIBED_ALREADY[1]):
            await api.user_data_stream_subscribe_signature()
        await api.user_data_stream_unsubscribe()
        ended = (await api.user_data_stream_unsubscribe()).data()
        assert ended == {"error": dict(zip(("code", "msg"), refusals.NOT_SUBSCRIBED, strict=True))}


@pytest.mark.parametrize("name", ["lot size", "no money", "unknown symbol", "no price"])
async def test_a_refusal_over_the_socket_is_the_same(simulator, name):
    refusal = REFUSALS[name]
    payload = {"method": "order.place", "params": dict(refusal.parameters)}
    async with socket_api(simulator, **HMAC) as api:
        answer = await api.send_signed_message(payload, api_key=True)
    assert answer.data() == {"error": {"code": refusal.code, "msg": refusal.text}}


# The streams.


async def test_every_stream_sends_what_its_model_says(start_simulator):
    # The client subscribes with one message for each stream, all at once.
    simulator = await start_simulator(sockets=SocketSettings(messages_per_second=100))
    seen = {}

    def listener(name):
        return lambda event: seen.setdefault(name, event)

    async with streams_of(simulator) as streams:
        # The client waits half a second before each subscription.
        names = {
            "trade": streams.trade(symbol=SYMBOL),
            "aggTrade": streams.agg_trade(symbol=SYMBOL),
            "kline": streams.kline(symbol=SYMBOL, interval="1m"),
            "kline +8": streams.kline_offset(symbol=SYMBOL, interval="1m"),
            "bookTicker": streams.book_ticker(symbol=SYMBOL),
            "ticker": streams.ticker(symbol=SYMBOL),
            "miniTicker": streams.mini_ticker(symbol=SYMBOL),
            "miniTicker all": streams.all_mini_ticker(),
            "avgPrice": streams.avg_price(symbol=SYMBOL),
            "window": streams.rolling_window_ticker(symbol=SYMBOL, window_size="1h"),
            "window all": streams.all_market_rolling_window_ticker(window_size="4h"),
            "depth": streams.diff_book_depth(symbol=SYMBOL),
            "depth fast": streams.diff_book_depth(symbol=SYMBOL, update_speed="100ms"),
            "depth5": streams.partial_book_depth(symbol=SYMBOL, levels="5"),
            "depth20 fast": streams.partial_book_depth(
                symbol=SYMBOL, levels="20", update_speed="100ms"
            ),
        }
        handles = await asyncio.gather(*names.values())
        for name, handle in zip(names, handles, strict=True):
            handle.on("message", listener(name))
        async with socket_api(simulator, **HMAC) as api:
            await result_of(
                api.order_place(symbol=SYMBOL, side="BUY", type="MARKET", quantity=0.01)
            )
        await until(lambda: seen.keys() == names.keys())
        await handles[0].unsubscribe()
    assert seen["trade"].s == SYMBOL
    assert len(seen["miniTicker all"]) == len(seen["window all"]) == 4
    assert (len(seen["depth5"].bids), len(seen["depth20 fast"].bids)) == (5, 20)


async def test_the_end_is_announced(start_simulator, caplog):
    simulator = await start_simulator()
    async with streams_of(simulator) as streams, socket_api(simulator) as api:
        closed = []
        streams.on_connection("close", lambda *_: closed.append(streams))
        assert api.connections
        await simulator.stop()
        # The socket of the API answers the announcement by planning a new connection.
        await until(lambda: closed and "Server shutdown event received" in caplog.text)


async def test_a_ping_is_answered(simulator):
    async with streams_of(simulator) as streams:
        pongs = []
        streams.on_connection("pong", lambda *_: pongs.append(1))
        await streams.ping_server(streams.connections[0])
        await until(lambda: pongs)


async def test_the_exchange_pings_and_ends_a_connections_life(start_simulator):
    sockets = SocketSettings(ping_interval_s=0.1, life_s=0.5)
    simulator = await start_simulator(sockets=sockets)
    async with streams_of(simulator) as streams:
        pings, closed = [], []
        streams.on_connection("ping", lambda *_: pings.append(1))
        streams.on_connection("close", lambda *_: closed.append(1))
        await until(lambda: closed)
        assert len(pings) >= 2

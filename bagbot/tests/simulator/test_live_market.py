"""Paper trading on the prices of a real exchange, which here is a second exchange of our own."""

import asyncio
import itertools
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from bagbot.domain.errors import ConfigError
from bagbot.simulator.live_market import LiveMarket, LiveSettings
from bagbot.simulator.market import Quoting
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.simulator.symbol_settings import SymbolSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient, until

SYMBOL = "BTCUSDT"
STALE_S = 1.2


def settings_of(**more):
    return SimulatorSettings(api_key=KEY, api_secret=SECRET, **{"symbols": [SYMBOL]} | more)


@asynccontextmanager
async def real_exchange(**more):
    async with SimulatorServer(settings_of(**more)) as server, SigningClient(server.url) as client:
        yield server, client


@asynccontextmanager
async def paper_on(url, *, by_polling=False, **more):
    live = LiveSettings(
        exchange_id="binance", base_url=url, stale_s=STALE_S, poll_s=0.2, by_polling=by_polling
    )
    settings = settings_of(live=live, **more)
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        yield client


async def touch(client):
    body = (await client.public("/api/v3/ticker/bookTicker", symbol=SYMBOL)).body
    return Decimal(body["bidPrice"]), Decimal(body["askPrice"])


async def is_halted(client):
    return (await client.admin("GET", "market")).body[SYMBOL]["is_halted"]


async def move(client, price):
    await client.admin("POST", f"price?symbol={SYMBOL}&price={price}")


@pytest.mark.parametrize("by_polling", [False, True])
async def test_prices_are_the_real_ones_and_the_account_is_not(by_polling):
    async with (
        real_exchange() as (real_server, real),
        paper_on(real_server.url, by_polling=by_polling) as paper,
    ):
        real_bars = (await real.public("/api/v3/klines", symbol=SYMBOL, interval="1m")).body
        bars = (await paper.public("/api/v3/klines", symbol=SYMBOL, interval="1m")).body
        assert [bar[:6] for bar in bars[-20:-2]] == [
            bar[:6] for bar in real_bars if bar[0] in {each[0] for each in bars[-20:-2]}
        ]
        limit = {"type": "LIMIT", "timeInForce": "GTC", "quantity": "0.00004"}
        order = (await paper.place(price="60000", **limit | {"quantity": "0.01"})).body
        assert order["status"] == "NEW"
        await move(real, 70_000)

        async def has_followed():
            bid, ask = await touch(paper)
            return 69_900 < bid < ask < 70_100

        await until(has_followed)
        bought = (await paper.place(quantity="0.01")).body
        assert 69_900 < Decimal(bought["fills"][0]["price"]) < 70_100
        await move(real, 59_900)

        async def filled():
            path = "/api/v3/order"
            found = await paper.signed("GET", path, symbol=SYMBOL, orderId=order["orderId"])
            return found.body["status"] == "FILLED"

        await until(filled)
        fills = (await paper.admin("GET", "trades")).body
        assert {fill["price"] for fill in fills if fill["is_maker"]} == {"60000.00000000"}
        assert (real_server.socket_count > 0) is not by_polling
        public = (await paper.public("/api/v3/trades", symbol=SYMBOL)).body
        seen = [(row["price"], row["qty"]) for row in public]
        assert len(seen) == len(set(seen)) > 3, "a trade was taken twice"
        asked = {row["path"] for row in (await real.admin("GET", "requests")).body}
        assert not {path for path in asked if "order" in path or "account" in path}


async def test_without_news_the_market_is_halted_and_goes_on_when_they_come_again():
    limit = {"type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": "40000"}
    async with real_exchange() as (real_server, _):
        port = real_server.port
        manager = paper_on(real_server.url)
        paper = await manager.__aenter__()
        resting = (await paper.place(**limit)).body
        assert not await is_halted(paper)
    try:
        await until(lambda: is_halted(paper))
        for order in ({"quantity": "0.01"}, limit):
            refused = await paper.place(**order)
            assert refused.body == {"code": -2010, "msg": "Market is closed."}
        heard_ms = (await paper.admin("GET", "market")).body[SYMBOL]["heard_ms"]
        wire_ms = (await paper.admin("GET", "clock")).body["wire_ms"]
        assert wire_ms - heard_ms > STALE_S * 1_000
        async with real_exchange(port=port) as (_, real):
            await move(real, 80_000)

            async def is_open_again():
                return not await is_halted(paper)

            await until(is_open_again)
            bid, ask = await touch(paper)
            assert 79_000 < bid < ask < 81_000
            assert (await paper.place(quantity="0.01")).body["status"] == "FILLED"
            path = "/api/v3/order"
            found = await paper.signed("GET", path, symbol=SYMBOL, orderId=resting["orderId"])
            assert found.body["status"] == "NEW"
    finally:
        await manager.__aexit__(None, None, None)


async def test_a_quiet_market_is_not_taken_for_a_dead_feed(tmp_path):
    path = tmp_path / "trades.csv"
    path.write_text("time,price,quantity,is_buyer_maker\n1766016000000,90000,1,true\n")
    async with (
        real_exchange(trades=path) as (real_server, _),
        paper_on(real_server.url) as paper,
    ):
        await asyncio.sleep(1.5 * STALE_S)
        assert not await is_halted(paper)


async def test_what_cannot_be_followed_is_told_at_the_start():
    async with real_exchange() as (real_server, _):
        live = LiveSettings(exchange_id="binance", base_url=real_server.url)
        with pytest.raises(ConfigError, match="binance has no spot market ETH/USDT"):
            await SimulatorServer(settings_of(symbols=["ETHUSDT"], live=live)).start()
        gone = real_server.url
    for live, complaint in (
        (LiveSettings(exchange_id="binance", base_url=gone), "the market of binance cannot be had"),
        (LiveSettings(exchange_id="nowhere"), "CCXT knows no exchange 'nowhere'"),
        (LiveSettings(exchange_id="kraken", base_url=gone), "only binance"),
    ):
        with pytest.raises(ConfigError, match=complaint):
            await SimulatorServer(settings_of(live=live)).start()
    with pytest.raises(ConfigError, match="speed 1"):
        settings_of(live=LiveSettings(exchange_id="binance"), speed=2)
    for wrong in ({"stale_s": 0}, {"poll_s": 20.0, "by_polling": True}):
        with pytest.raises(ConfigError, match="live feed"):
            LiveSettings(exchange_id="binance", **wrong)


async def test_orders_must_satisfy_the_real_filters():
    sol = SymbolSettings(
        base="SOL",
        quote="USDT",
        tick=Decimal("0.05"),
        lot=Decimal("0.1"),
        start_price=Decimal(150),
        level_quantity=Decimal(20),
        notional_min=Decimal(7),
    )
    async with (
        real_exchange(symbols=[sol]) as (real_server, _),
        paper_on(real_server.url, symbols=["SOLUSDT"]) as paper,
    ):
        (listed,) = (await paper.public("/api/v3/exchangeInfo")).body["symbols"]
        filters = {row["filterType"]: row for row in listed["filters"]}
        assert filters["PRICE_FILTER"]["tickSize"] == "0.05000000"
        assert filters["LOT_SIZE"]["stepSize"] == "0.10000000"
        assert filters["NOTIONAL"]["minNotional"] == "7.00000000"
        assert (await paper.place(symbol="SOLUSDT", quantity="0.15")).status == 400
        assert (await paper.place(symbol="SOLUSDT", quantity="0.1")).status == 200


# The market alone, without a feed.


def live_market():
    return LiveMarket(price=100, history=[], heard_ms=1_000, stale_ms=500)


def test_a_market_is_halted_as_soon_as_either_kind_of_news_is_old():
    for trades_ms, quotes_ms in itertools.product((1_000, 2_000), repeat=2):
        market = live_market()
        market.quote((99, 101))
        market.heard_of_trades(trades_ms)
        market.heard_of_quotes(quotes_ms)
        list(market.points(2_400))
        is_fresh = trades_ms == quotes_ms == 2_000
        assert market.quoting == (Quoting(touch=(99, 101)) if is_fresh else Quoting(is_halted=True))


def test_what_traded_in_a_halt_moves_the_price_and_fills_nobody():
    market = live_market()
    market.heard_of_quotes(2_000)
    market.trade(90, 7, 1_500, buyer_is_maker=True)
    market.trade(80, 7, 1_501, buyer_is_maker=True)
    market.heard_of_trades(1_600)
    market.trade(85, 7, 1_601, buyer_is_maker=True)
    points = [(point.price, point.quantity) for point in market.points(2_000)]
    assert points == [(100, 0), (90, 7), (80, 0), (85, 7)]
    assert not market.quoting.is_halted


def test_trades_are_played_once_and_in_the_order_they_came():
    market = live_market()
    for number in range(5):
        market.trade(100 + number, 1, 1_000 + number * 100, buyer_is_maker=False)
    assert [point.price for point in market.points(1_250)] == [100, 100, 101, 102]
    assert [point.price for point in market.points(9_999)] == [103, 104]
    assert list(market.points(9_999)) == []

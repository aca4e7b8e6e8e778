"""A recorded tape as a market: its trades are played, and resting orders fill by them alone."""

import asyncio
import random
from decimal import Decimal

import polars
import pytest

from bagbot.domain.errors import ConfigError, DataError
from bagbot.simulator.amounts import ONE
from bagbot.simulator.exchange import Moment
from bagbot.simulator.list_exchange import ListExchange
from bagbot.simulator.live_market import LiveSettings
from bagbot.simulator.market import PROFILES, Point, quotes_around
from bagbot.simulator.market_conditions import conditions_from
from bagbot.simulator.orders import OrderType, PlaceOrder
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.simulator.symbols import DEFAULT_SYMBOLS
from bagbot.simulator.trade_tape import TradeTape, load_trades
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient, until
from bagbot.tests.simulator.test_market import real_data

SYMBOL = "BTCUSDT"
RULES = DEFAULT_SYMBOLS[SYMBOL]
START_MS = 1_766_016_000_000

# Time, price, quantity, whether the buyer was the maker.
GOOD = [
    (START_MS, 100.0, 1.5, False),
    (START_MS + 400, 99.5, 0.25, True),
    (START_MS + 400, 99.0, 2.0, True),
    (START_MS + 61_000, 101.25, 1.0, False),
]


def write_trades(path, rows, names=("time", "price", "quantity", "is_buyer_maker"), **more):
    frame = polars.DataFrame(
        {name: [row[index] for row in rows] for index, name in enumerate(names)} | more,
        strict=False,
    )
    if path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    return path


def points_of(path, *, start_ms=START_MS, until_ms=START_MS + 10**9):
    return list(TradeTape(load_trades(path, RULES), start_ms=start_ms).points(until_ms))[1:]


def test_the_same_trades_are_read_whatever_a_file_calls_them(tmp_path):
    expected = [
        Point(time_ms, round(price * ONE), round(quantity * ONE), is_maker, None)
        for time_ms, price, quantity, is_maker in GOOD
    ]
    micro = [(row[0] * 1_000, *row[1:]) for row in GOOD]
    sides = [(*row[:3], "sell" if row[3] else "buy") for row in GOOD]
    for number, (rows, names) in enumerate(
        [
            (GOOD, ("time", "price", "quantity", "is_buyer_maker")),
            (micro, ("time", "price", "qty", "isBuyerMaker")),
            (sides, ("timestamp", "price", "amount", "side")),
        ]
    ):
        for suffix in ("csv", "parquet"):
            path = write_trades(tmp_path / f"{number}.{suffix}", rows, names)
            assert points_of(path) == expected


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("column", "value", "wrong"),
    [
        ("time", START_MS - 1, "is before the row above"),
        ("time", None, "is not a whole number"),
        ("time", -5, "is before the row above|is not positive"),
        ("price", float("nan"), "is not a number"),
        ("price", None, "is not a number"),
        ("price", 0.0, "is not positive"),
        ("price", 1e12, "is too large"),
        ("quantity", -1.0, "is not positive"),
        ("quantity", float("inf"), "is not a number"),
        ("is_buyer_maker", None, "is not true, false, buy or sell"),
    ],
)
def test_a_bad_value_is_named_by_row_and_column(tmp_path, suffix, column, value, wrong):
    names = ("time", "price", "quantity", "is_buyer_maker")
    bad = tuple((dict(zip(names, GOOD[2], strict=True)) | {column: value}).values())
    path = write_trades(tmp_path / f"bad.{suffix}", [*GOOD[:2], bad, GOOD[3]])
    with pytest.raises(DataError, match=rf"row 3, column {column}: .*({wrong})") as caught:
        load_trades(path, RULES)
    assert str(path) in str(caught.value)


def test_a_word_among_the_prices_is_named(tmp_path):
    path = tmp_path / "words.csv"
    path.write_text("time,price,qty,isBuyerMaker\n1,5,1,True\n2,five,1,False\n")
    with pytest.raises(DataError, match="row 2, column price: 'five' is not a number"):
        load_trades(path, RULES)


def test_an_unusable_file_is_named_with_what_is_wrong(tmp_path):
    text = tmp_path / "text.parquet"
    text.write_text("time,price\n")
    narrow = write_trades(tmp_path / "narrow.csv", [(1, 2.0)], ("time", "price"))
    other = write_trades(tmp_path / "other.csv", GOOD, symbol=["ETHUSDT"] * 4)
    for path, wrong in (
        (tmp_path / "missing.csv", "no such file"),
        (text, "not a readable Parquet file"),
        (narrow, "column missing: quantity or qty or amount, is_buyer_maker or"),
        (other, "no trades of BTCUSDT"),
    ):
        with pytest.raises(DataError, match=wrong) as caught:
            load_trades(path, RULES)
        assert str(path) in str(caught.value)


def test_trades_come_when_their_time_comes_and_once(tmp_path):
    path = write_trades(tmp_path / "trades.parquet", GOOD)
    tape = TradeTape(load_trades(path, RULES), start_ms=START_MS)
    pieces = [
        point
        for until_ms in range(START_MS, START_MS + 70_000, 130)
        for point in tape.points(until_ms)
    ]
    assert pieces[1:] == points_of(path)
    assert tape.is_over


def test_a_later_start_has_the_minutes_before_and_stands_at_the_last_price(tmp_path):
    path = write_trades(tmp_path / "trades.parquet", GOOD)
    tape = TradeTape(load_trades(path, RULES), start_ms=START_MS + 60_500)
    (minute,) = tape.history()
    assert (minute.open, minute.low, minute.close) == (100 * ONE, 99 * ONE, 99 * ONE)
    assert minute.volume == int(3.75 * ONE)
    (standing,) = tape.points(START_MS + 60_500)
    assert (standing.price, standing.quantity) == (99 * ONE, 0)


# Who is filled, by how much.


@pytest.fixture
def core():
    exchange = ListExchange(DEFAULT_SYMBOLS)
    for account_id in (1, 2):
        exchange.open_account(account_id, {"BTC": 100 * ONE, "USDT": 10**7 * ONE})
    return exchange


def rest(core, side, price, quantity, account_id=1):
    command = PlaceOrder(
        account_id=account_id,
        symbol=SYMBOL,
        is_buy=side == "BUY",
        type=OrderType.LIMIT,
        price=round(price * ONE),
        quantity=round(quantity * ONE),
    )
    return core.place(command, Moment(1, 1)).order


def trade(core, price, quantity, *, seller_takes):
    left = core.market_trades(
        SYMBOL,
        price=round(price * ONE),
        quantity=round(quantity * ONE),
        buyer_is_maker=seller_takes,
        now=Moment(2, 2),
    )
    return left / ONE


@pytest.mark.parametrize(
    ("side", "resting", "price", "seller_takes", "is_filled"),
    [
        ("BUY", 100, 100, True, True),
        ("BUY", 100, 100, False, False),
        ("BUY", 100, 99, False, True),
        ("BUY", 100, 101, True, False),
        ("SELL", 100, 100, False, True),
        ("SELL", 100, 100, True, False),
        ("SELL", 100, 101, True, True),
        ("SELL", 100, 99, False, False),
    ],
)
def test_a_trade_fills_who_it_meets_at_its_price_and_whom_it_went_through(
    core, side, resting, price, seller_takes, is_filled
):
    order = rest(core, side, resting, 2)
    assert trade(core, price, 5, seller_takes=seller_takes) == (3 if is_filled else 5)
    assert order.executed == (2 * ONE if is_filled else 0)
    if is_filled:
        assert order.executed_quote == 200 * ONE


def test_what_a_trade_traded_is_shared_by_price_then_time(core):
    later = rest(core, "BUY", 100, 1)
    behind = rest(core, "BUY", 100, 1, account_id=2)
    better = rest(core, "BUY", 101, 1)
    assert trade(core, 99, 1.5, seller_takes=True) == 0
    assert [order.executed / ONE for order in (better, later, behind)] == [1, 0.5, 0]
    assert trade(core, 100, 1, seller_takes=True) == 0
    assert [order.executed / ONE for order in (better, later, behind)] == [1, 1, 0.5]


def test_parts_of_a_lot_fill_nobody(core):
    order = rest(core, "SELL", 100, 1)
    assert trade(core, 100, 0.000_015, seller_takes=False) == pytest.approx(0.000_005)
    assert order.executed == RULES.lot


def test_no_account_gains_or_loses_by_any_tape():
    seed = 11
    generator = random.Random(seed)
    core = ListExchange(DEFAULT_SYMBOLS)
    for account_id in (1, 2):
        core.open_account(account_id, {"BTC": 100 * ONE, "USDT": 10**7 * ONE})
    traded = 0
    for _ in range(1_500):
        price = 100 + generator.randrange(-20, 21) / 4
        if generator.random() < 0.3:
            side = generator.choice(["BUY", "SELL"])
            rest(core, side, price, generator.randrange(10, 300) / 100, generator.choice([1, 2]))
        else:
            quantity = generator.randrange(1, 200) / 100
            left = trade(core, price, quantity, seller_takes=generator.random() < 0.5)
            assert 0 <= left <= quantity, f"seed {seed}"
            traded += quantity - left
        bid, ask = core.others_touch(SYMBOL)
        assert bid is None or ask is None or bid < ask, f"seed {seed}"
        bids, asks = quotes_around(
            round(price * ONE), None, RULES, PROFILES[SYMBOL], clear_of=(bid, ask)
        )
        core.market_quotes(SYMBOL, bids, asks)
        book = core.books[SYMBOL]
        assert book.best_bid()[0] < book.best_ask()[0], f"seed {seed}"
    assert traded > 100
    for asset, owned in (("BTC", 200 * ONE), ("USDT", 2 * 10**7 * ONE)):
        held = sum(each[asset].free + each[asset].locked for each in core.balances.values())
        assert held + core.market_balances[asset] + core.fees[asset] == owned, f"seed {seed}"


# Over the wire.


def settings(path, **more):
    return SimulatorSettings(api_key=KEY, api_secret=SECRET, trades=path, **more)


async def until_over(client):
    async def is_over():
        return (await client.admin("GET", "clock")).body["is_market_over"]

    await until(is_over, timeout_s=20)


async def executed(client, order_id):
    found = await client.signed("GET", "/api/v3/order", symbol=SYMBOL, orderId=order_id)
    return Decimal(found.body["executedQty"])


async def test_the_tape_is_what_is_streamed_and_fills_a_resting_order_bit_by_bit(tmp_path):
    rows = [(START_MS, 90_000.0, 1.0, False)]
    rows += [(START_MS + 700 + 100 * n, 89_990.0, 0.4, True) for n in range(3)]
    rows += [(START_MS + 1_000, 90_010.0, 0.7, False)]
    path = write_trades(tmp_path / "trades.csv", rows)
    async with SimulatorServer(settings(path)) as server, SigningClient(server.url) as client:
        limit = {"type": "LIMIT", "timeInForce": "GTC", "price": "89990", "quantity": "0.9"}
        order = (await client.place(**limit)).body
        await until_over(client)
        fills = (await client.admin("GET", "trades")).body
        assert [(fill["price"], fill["quantity"], fill["is_maker"]) for fill in fills] == [
            ("89990.00000000", quantity, True)
            for quantity in ("0.40000000", "0.40000000", "0.10000000")
        ]
        assert await executed(client, order["orderId"]) == Decimal("0.9")
        public = (await client.public("/api/v3/trades", symbol=SYMBOL)).body
        assert [(row["price"][:5], row["qty"][:4]) for row in public] == [
            ("90000", "1.00"),
            ("89990", "0.40"),
            ("89990", "0.40"),
            ("89990", "0.10"),
            ("89990", "0.30"),
            ("90010", "0.70"),
        ]
        bars = (await client.public("/api/v3/klines", symbol=SYMBOL, interval="1m")).body
        assert [(bar[3], bar[5]) for bar in bars] == [("89990.00000000", "2.90000000")]
        top = (await client.public("/api/v3/ticker/bookTicker", symbol=SYMBOL)).body
        assert (top["bidPrice"][:8], top["askPrice"][:8]) == ("90009.99", "90010.01")
        moved = await client.admin("POST", f"price?symbol={SYMBOL}&price=50000")
        assert (moved.status, "trades" in moved.body["error"]) == (409, True)


async def test_a_large_market_order_does_not_make_the_tape_fill_others(tmp_path):
    path = write_trades(tmp_path / "trades.csv", [(START_MS, 90_000.0, 1.0, False)])
    async with SimulatorServer(settings(path)) as server, SigningClient(server.url) as client:
        limit = {"type": "LIMIT", "timeInForce": "GTC", "price": "90000", "quantity": "0.1"}
        order = (await client.place(**limit)).body
        assert order["status"] == "NEW"
        sold = await client.place(side="SELL", quantity="0.05")
        assert sold.body["fills"][0]["price"] == "90000.00000000"
        assert (await client.place(quantity="5")).body["status"] == "FILLED"
        await asyncio.sleep(0.3)
        assert await executed(client, order["orderId"]) == Decimal("0.05")


REAL_TRADES = real_data("binance_spot_xrpeth_trades_2019.parquet")


async def test_quotes_step_back_from_an_order_that_the_tape_has_passed_but_not_filled(tmp_path):
    rows = [(START_MS, 90_000.0, 1.0, False), (START_MS + 800, 89_000.0, 0.3, True)]
    path = write_trades(tmp_path / "trades.csv", rows)
    async with SimulatorServer(settings(path)) as server, SigningClient(server.url) as client:
        limit = {"type": "LIMIT", "timeInForce": "GTC", "price": "89500", "quantity": "0.5"}
        order = (await client.place(**limit)).body
        await until_over(client)
        assert await executed(client, order["orderId"]) == Decimal("0.3")
        top = (await client.public("/api/v3/ticker/bookTicker", symbol=SYMBOL)).body
        assert (top["bidPrice"], top["bidQty"]) == ("89500.00000000", "0.20000000")
        assert top["askPrice"] == "89500.01000000"


async def test_a_restart_fills_no_order_that_rests_at_the_last_price(tmp_path):
    path = write_trades(tmp_path / "trades.csv", [(START_MS, 90_000.0, 1.0, False)])
    limit = {"type": "LIMIT", "timeInForce": "GTC", "price": "90000", "quantity": "0.1"}
    stored = settings(path, store=tmp_path / "store")
    async with SimulatorServer(stored) as server, SigningClient(server.url) as client:
        order = (await client.place(**limit)).body
    async with SimulatorServer(stored) as server, SigningClient(server.url) as client:
        assert await executed(client, order["orderId"]) == 0


@pytest.mark.skipif(REAL_TRADES is None, reason="the real trades are not here")
async def test_a_real_tape_is_played_fast_and_fills_within_what_it_traded():
    balances = {"XRP": Decimal(10**6), "ETH": Decimal(1_000)}
    more = {"symbols": ["XRPETH"], "data_symbol": "XRPETH", "speed": 100_000, "balances": balances}
    async with (
        SimulatorServer(settings(REAL_TRADES, **more)) as server,
        SigningClient(server.url) as client,
    ):
        limit = {"symbol": "XRPETH", "type": "LIMIT", "timeInForce": "GTC", "quantity": "900"}
        for side, first, step in (("BUY", 14_128, -10), ("SELL", 14_132, 10)):
            for index in range(20):
                price = f"{Decimal(first + step * index) / 10_000_000:f}"
                await client.place(side=side, price=price, **limit)
        await until_over(client)
        fills = (await client.admin("GET", "trades")).body
    traded = {}
    for time_ms, price, amount in polars.read_parquet(
        REAL_TRADES, columns=["timestamp", "price", "amount"]
    ).iter_rows():
        traded.setdefault(time_ms, []).append((Decimal(f"{price:.8f}"), Decimal(amount)))
    filled = {}
    for fill in fills:
        if not fill["is_maker"]:
            continue
        # The record is older than the symbol's tick, and finer: its prices are rounded.
        half_tick = Decimal("0.00000005")
        prices = [price for price, _ in traded[fill["market_time_ms"]]]
        if fill["side"] == "BUY":
            assert min(prices) <= Decimal(fill["price"]) + half_tick
        else:
            assert max(prices) >= Decimal(fill["price"]) - half_tick
        filled.setdefault(fill["market_time_ms"], []).append(Decimal(fill["quantity"]))
    # How many depends on how fast the orders came in beside so fast a tape.
    assert len(filled) > 10
    for time_ms, quantities in filled.items():
        assert sum(quantities) <= sum(amount for _, amount in traded[time_ms])


def test_one_source_of_prices_is_enough(tmp_path):
    path = tmp_path / "trades.csv"
    for more in ({"data": path}, {"live": LiveSettings(exchange_id="binance")}):
        with pytest.raises(ConfigError, match="one of data, trades and live"):
            settings(path, **more)
    with pytest.raises(ConfigError, match="bars need data"):
        settings(path, matcher="bars")


async def test_conditions_of_a_file_need_a_synthetic_market(tmp_path):
    trades = write_trades(tmp_path / "trades.csv", GOOD)
    path = tmp_path / "market.toml"
    path.write_text('[[market]]\nsymbol = "BTCUSDT"\nkind = "gap"\npercent = -5\nafter_s = 60\n')
    (gap,) = conditions_from(path)
    assert (gap.start_ms, gap.percent) == (60_000, -5)
    with pytest.raises(ConfigError, match="BTCUSDT has none"):
        await SimulatorServer(settings(trades, conditions=[gap])).start()
    for bad, complaint in (("", "needs at least one table"), ("[[market]]\nat_ms = 5", "after_s")):
        path.write_text(bad)
        with pytest.raises(ConfigError, match=complaint):
            conditions_from(path)

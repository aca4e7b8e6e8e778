"""What a synthetic market is told to do: trends, gaps, spikes, thin books and halts."""

import asyncio
import itertools
from decimal import Decimal

import pytest

from bagbot.domain.errors import ConfigError
from bagbot.simulator.amounts import ONE
from bagbot.simulator.market import AS_USUAL, PROFILES, Quoting, quotes_around
from bagbot.simulator.market_conditions import condition_from
from bagbot.simulator.symbols import DEFAULT_SYMBOLS
from bagbot.simulator.synthetic_market import SyntheticMarket
from bagbot.tests.simulator.signing_client import until

SYMBOL = "BTCUSDT"
RULES = DEFAULT_SYMBOLS[SYMBOL]
START_MS = 1_766_016_000_000


def market_of(*conditions, seed=7, symbol=SYMBOL):
    market = SyntheticMarket(
        DEFAULT_SYMBOLS[symbol], PROFILES[symbol], seed=seed, start_ms=START_MS, step_ms=200
    )
    for condition in conditions:
        market.add(condition_from({"symbol": symbol} | condition, START_MS - 1))
    return market


def play(market, *until_s):
    return [point for end_s in until_s for point in market.points(START_MS + end_s * 1_000)]


def price_at(points, time_ms):
    return next(point.price for point in points if point.time_ms == time_ms)


def test_the_same_seed_and_conditions_give_the_same_points_however_they_are_asked_for():
    conditions = [
        {"kind": "trend", "percent": 90_000, "after_s": 3, "for_s": "17.1"},
        {"kind": "gap", "percent": "-3", "after_s": "7.3331"},
        {"kind": "spike", "percent": 2, "after_s": 9, "for_s": "5.5"},
        {"kind": "halt", "after_s": 15, "for_s": 2},
    ]
    whole = play(market_of(*conditions), 40)
    for step_ms in (137, 1_000):
        market = market_of(*conditions)
        ends_ms = [*range(START_MS, START_MS + 40_000, step_ms), START_MS + 40_000]
        assert [point for end_ms in ends_ms for point in market.points(end_ms)] == whole
    late = market_of()
    pieces = play(late, 2)
    for condition in conditions:
        at_ms = START_MS - 1 + int(Decimal(str(condition["after_s"])) * 1_000)
        named = {name: value for name, value in condition.items() if name != "after_s"}
        late.add(condition_from({"symbol": SYMBOL, "at_ms": at_ms} | named, START_MS + 2_000))
    assert pieces + play(late, 5, 40) == whole
    assert play(market_of(*conditions, seed=8), 40) != whole


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHBTC"])
def test_a_trend_leads_the_price_away_and_it_stays_there(symbol):
    calm = play(market_of(symbol=symbol), 7_200)
    led = play(market_of({"kind": "trend", "percent": "20", "for_s": 3_600}, symbol=symbol), 7_200)
    assert len(calm) == len(led)
    for second in (3_600, 7_200):
        index = second * 5
        assert led[index].price / calm[index].price == pytest.approx(1.2, rel=2e-3)
    assert led[9_000].price / calm[9_000].price == pytest.approx(1.2**0.5, rel=2e-3)


def test_a_gap_leaves_no_trade_between_and_moves_home():
    points = play(market_of({"kind": "gap", "percent": "-10", "after_s": "5.101"}), 7_200)
    steps = [later.price / point.price for point, later in itertools.pairwise(points)]
    assert min(steps) == pytest.approx(0.9, rel=1e-3)
    assert [step for step in steps if not 0.999 < step < 1.001] == [min(steps)]
    assert points[steps.index(min(steps)) + 1].time_ms == START_MS + 5_100
    assert points[-1].price < 0.95 * points[0].price


def test_a_spike_shorter_than_the_grid_goes_out_and_comes_back():
    calm = play(market_of(), 20)
    spiked = play(
        market_of({"kind": "spike", "percent": 5, "after_s": "10.011", "for_s": "0.08"}), 20
    )
    peak = price_at(spiked, START_MS + 10_050)
    assert peak / price_at(calm, START_MS + 10_000) == pytest.approx(1.05, rel=1e-3)
    grid = [point.price for point in spiked if point.time_ms % 200 == 0]
    assert grid == [point.price for point in calm]


def test_a_halt_has_no_points_and_ends_where_the_walk_has_gone():
    market = market_of({"kind": "halt", "after_s": "5.001", "for_s": 5})
    points = play(market, 8)
    assert market.quoting == Quoting(is_halted=True)
    assert points[-1].time_ms == START_MS + 4_800
    points += play(market, 20)
    assert market.quoting == AS_USUAL
    assert [point for point in play(market_of(), 20) if point in points] == points
    assert points[25].time_ms == START_MS + 10_000


def test_a_thin_book_is_shallow_and_wide_as_long_as_it_lasts():
    thin = {"kind": "thin", "depth_percent": 5, "spread_ticks": 301, "after_s": 1, "for_s": 5}
    market = market_of(thin)
    play(market, 3)
    bids, asks = quotes_around(90_000 * ONE, None, RULES, PROFILES[SYMBOL], market.quoting)
    assert asks[0][0] - bids[0][0] == 301 * RULES.tick
    assert bids[0][1] == ONE // 80
    assert sum(quantity for _, quantity in bids) == 210 * ONE // 80
    play(market, 7)
    assert market.quoting == AS_USUAL
    assert market.conditions == []


def test_a_told_price_is_where_the_market_goes_on_also_inside_a_spike():
    market = market_of({"kind": "spike", "percent": 5, "for_s": 20})
    play(market, 10)
    market.move_to(50_000 * ONE)
    (point,) = market.points(START_MS + 10_200)
    assert abs(point.price - 50_000 * ONE) < 100 * ONE
    market.clear()
    (point,) = market.points(START_MS + 10_400)
    assert abs(point.price - 50_000 * ONE) < 200 * ONE


@pytest.mark.parametrize("percent", ["-99.9999", "1000000"])
def test_no_condition_leads_a_price_out_of_its_symbols_range(percent):
    market = market_of({"kind": "gap", "percent": percent}, {"kind": "gap", "percent": percent})
    for point in play(market, 5):
        assert 0 < point.price <= RULES.price_max
        assert point.price % RULES.tick == 0


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        ({"kind": "crash"}, "kind must be one of trend, gap, spike, thin, halt"),
        ({"kind": "gap"}, "a gap: percent"),
        ({"kind": "gap", "percent": "-100"}, "percent must be above -100"),
        ({"kind": "gap", "percent": "nan"}, "percent must be above -100"),
        ({"kind": "gap", "percent": 1.5}, "as text or as a whole number"),
        ({"kind": "gap", "percent": "1", "for_s": 1}, "unknown field for_s"),
        ({"kind": "trend", "percent": "1"}, "a trend: for_s"),
        ({"kind": "trend", "percent": "1", "for_s": 0}, "for_s must be above zero"),
        ({"kind": "halt", "for_s": "-1"}, "for_s must be from 0 seconds"),
        ({"kind": "halt", "for_s": 1, "after_s": 10**9}, "after_s must be from 0 seconds"),
        ({"kind": "halt", "for_s": 1, "at_ms": 5}, "at_ms must be a market time after"),
        ({"kind": "halt", "for_s": 1, "at_ms": START_MS, "after_s": 0}, "not both"),
        ({"kind": "thin", "for_s": 1, "depth_percent": 0}, "depth_percent must be above 0"),
        ({"kind": "thin", "for_s": 1, "spread_ticks": "1.5"}, "spread_ticks must be whole"),
    ],
)
def test_a_condition_that_cannot_be_is_named(condition, complaint):
    with pytest.raises(ConfigError, match=complaint):
        condition_from({"symbol": SYMBOL} | condition, START_MS - 1)


# Over the admin address.


async def top_of(client):
    body = (await client.public("/api/v3/ticker/bookTicker", symbol=SYMBOL)).body
    return Decimal(body["bidPrice"]), Decimal(body["askPrice"])


async def test_a_price_that_is_set_does_not_snap_back(client):
    bid, _ = await top_of(client)
    assert bid > 80_000
    await client.admin("POST", f"price?symbol={SYMBOL}&price=50000")
    await asyncio.sleep(0.7)
    bid, ask = await top_of(client)
    assert 49_900 < bid < ask < 50_100


async def test_a_stop_that_a_gap_jumps_over_sells_where_the_market_then_is(client):
    bid, _ = await top_of(client)
    stop = {"side": "SELL", "type": "STOP_LOSS", "quantity": "0.01"}
    placed = await client.place(stopPrice=f"{bid * 95 // 100}", **stop)
    assert placed.status == 200
    reply = await client.admin(
        "POST", "market", {"symbol": SYMBOL, "kind": "gap", "percent": "-20"}
    )
    assert reply.status == 200

    async def trades_made():
        return (await client.admin("GET", "trades")).body

    trades = await until(trades_made)
    assert Decimal(trades[0]["price"]) < bid * 82 / 100


async def test_a_halted_market_takes_no_order_but_a_cancellation_and_reopens(client):
    bid, _ = await top_of(client)
    limit = {"type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": f"{bid // 2}"}
    resting = (await client.place(**limit)).body
    await client.admin("POST", "market", {"symbol": SYMBOL, "kind": "halt", "for_s": 600})
    await asyncio.sleep(0.3)
    market = (await client.admin("GET", "market")).body
    assert [name for name, each in market.items() if each["is_halted"]] == [SYMBOL]
    assert market[SYMBOL]["conditions"][0]["kind"] == "halt"
    for order in ({"quantity": "0.01"}, limit):
        refused = await client.place(**order)
        assert (refused.status, refused.body) == (400, {"code": -2010, "msg": "Market is closed."})
    depth = (await client.public("/api/v3/depth", symbol=SYMBOL)).body
    assert (len(depth["bids"]), depth["asks"]) == (1, [])
    moved = await client.admin("POST", f"price?symbol={SYMBOL}&price=50000")
    assert moved.status == 409
    path = "/api/v3/order"
    gone = await client.signed("DELETE", path, symbol=SYMBOL, orderId=resting["orderId"])
    assert gone.body["status"] == "CANCELED"
    assert (await client.admin("DELETE", "market")).body == {}
    await asyncio.sleep(0.3)
    assert (await client.place(quantity="0.01")).body["status"] == "FILLED"


async def test_what_cannot_be_told_to_a_market_is_refused_whole(client):
    gap = {"symbol": SYMBOL, "kind": "gap", "percent": "1"}
    for body, status, complaint in (
        ([gap, gap | {"symbol": "XYZ"}], 400, "no symbol 'XYZ'"),
        ([gap, 3], 400, "a condition is an object"),
        ({"kind": "gap"}, 400, "symbol must be text"),
        (gap | {"at_ms": 1}, 400, "at_ms must be a market time"),
    ):
        reply = await client.admin("POST", "market", body)
        assert reply.status == status
        assert complaint in reply.body["error"]
    assert (await client.admin("GET", "market")).body[SYMBOL]["conditions"] == []

"""One strategy twice: straight on the fill rules, and through CCXT against the stepped exchange.

The same fills to the tick, and the same money to the last 1e-8.
"""

import random
from contextlib import asynccontextmanager
from decimal import Decimal

import ccxt.async_support
import pytest

from bagbot.domain import fills
from bagbot.simulator.amounts import ONE, amount_from_text
from bagbot.simulator.recorded_market import load_bars
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.simulator.symbols import DEFAULT_SYMBOLS
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient
from bagbot.tests.simulator.test_market import real_data
from bagbot.tests.simulator.test_recorded_fills import invented_bars

SYMBOL = "BTC/USDT"
RULES = DEFAULT_SYMBOLS["BTCUSDT"]
SCALE = fills.scale_of(RULES.tick, RULES.lot)
BAR_COUNT = 500
START = {"BTC": 10 * ONE, "USDT": 1_000_000 * ONE}
KINDS = {
    "market": fills.MARKET,
    "limit": fills.LIMIT,
    "post_only": fills.LIMIT_MAKER,
    "IOC": fills.LIMIT,
    "FOK": fills.LIMIT,
    "stop": fills.STOP,
    "stop_limit": fills.STOP_LIMIT,
    "take_profit": fills.TAKE_PROFIT,
    "take_profit_limit": fills.TAKE_PROFIT_LIMIT,
}
MARKET_STOPS = ("stop", "take_profit")
TIMES_IN_FORCE = {"IOC": fills.IMMEDIATE_OR_CANCEL, "FOK": fills.FILL_OR_KILL}
COSTS = [
    fills.Costs(),
    fills.Costs(
        maker_fee_ppm=750,
        taker_fee_ppm=1_001,
        slippage_ticks=2,
        slippage_ppm=13,
        through_ticks=0,
        volume_share_ppm=200,
    ),
]


class Strategy:
    """Trades with every kind of order around the last close; knows closes and what it placed."""

    def __init__(self, seed):
        self._random = random.Random(seed)
        self._resting = []
        self._stops = []

    def decide(self, close):
        """Return the orders to cancel, by their place in the order of placing, and to place."""
        choose = self._random
        # Binance lets five stops wait, and two more may come.
        cancelled, self._stops = self._stops[:-3], self._stops[-3:]
        if self._resting and choose.random() < 0.3:
            cancelled.append(choose.choice(self._resting))
        wishes = []
        for _ in range(choose.choice([0, 1, 1, 2])):
            kind = choose.choice(list(KINDS))
            is_buy = choose.random() < 0.5
            away = choose.randrange(-2_000, 4_001)
            limit = close - away if is_buy else close + away
            is_above = kind.startswith("stop") == is_buy
            away = choose.randrange(-500, 4_001)
            trigger = close + away if is_above else close - away
            lots = choose.randrange(50, 2_000)
            wishes.append((kind, is_buy, lots, trigger if kind in MARKET_STOPS else limit, trigger))
        return cancelled, wishes

    def placed(self, reference, kind):
        """Remember what may rest."""
        if reference is not None and KINDS[kind] >= fills.STOP:
            self._stops.append(reference)
        elif reference is not None and kind in ("limit", "post_only"):
            self._resting = [*self._resting[-9:], reference]


class OnRules:
    """An account that is nothing but the fill rules."""

    def __init__(self, bars, costs):
        self._bars = bars
        self._costs = costs
        self._index = 0
        self._working = []
        self._budget = fills.volume_budget(0, costs)
        self._is_buy = {}
        self.fills = []
        self.money = dict(START)

    async def close(self):
        return self._bars[self._index - 1].close if self._index else self._bars[0].open

    async def place(self, kind, is_buy, lots, limit, trigger):
        order = fills.WorkingOrder(
            number=len(self._is_buy) + 1,
            kind=KINDS[kind],
            is_buy=is_buy,
            lots=lots,
            limit=0 if kind in ("market", *MARKET_STOPS) else limit,
            trigger=trigger if KINDS[kind] >= fills.STOP else 0,
            time_in_force=TIMES_IN_FORCE.get(kind, fills.GOOD_TILL_CANCELLED),
        )
        opened = self._bars[self._index].open
        takes = kind == "post_only" and fills.would_take(order, opened)
        if takes or fills.would_trigger(order, opened):
            return None
        self._is_buy[order.number] = is_buy
        played = fills.open_bar([order], opened, self._costs, self._budget)
        self._take(played._replace(left=self._working + played.left))
        return order.number

    async def cancel(self, number):
        self._working = [order for order in self._working if order.number != number]

    async def step(self):
        bar = self._bars[self._index]
        self._take(fills.play_range(self._working, bar, self._costs, self._budget))
        self._index += 1
        opened = self._bars[self._index].open
        self._budget = fills.volume_budget(bar.volume_lots, self._costs)
        self._take(fills.open_bar(self._working, opened, self._costs, self._budget))

    def _take(self, played):
        self._working, self._budget = played.left, played.budget_lots
        for event in played.events:
            if event.kind == fills.FILLED:
                self._book(event)

    def _book(self, event):
        is_buy = self._is_buy[event.number]
        rate = self._costs.maker_fee_ppm if event.is_maker else self._costs.taker_fee_ppm
        settle = fills.settle_buy if is_buy else fills.settle_sell
        moved = settle(price=event.price, lots=event.lots, rate_ppm=rate, scale=SCALE)
        self.money["BTC"] += moved.base_units
        self.money["USDT"] += moved.quote_units
        self.fills.append(
            (event.number, is_buy, event.price, event.lots, event.is_maker, moved.fee_units)
        )


class OverSockets:
    """The account of the simulated exchange, reached by an unmodified CCXT."""

    def __init__(self, exchange, admin):
        self._exchange = exchange
        self._admin = admin

    async def close(self):
        rows = await self._exchange.public_get_klines(
            {"symbol": RULES.symbol, "interval": "1m", "limit": 2}
        )
        # The running bar shows its open; a strategy decides on the closed one.
        price = rows[0][4] if len(rows) == 2 else rows[0][1]
        return amount_from_text(price) // RULES.tick

    async def place(self, kind, is_buy, lots, limit, trigger):
        params = {"postOnly": True} if kind == "post_only" else {}
        if kind in TIMES_IN_FORCE:
            params["timeInForce"] = kind
        if KINDS[kind] >= fills.STOP:
            name = "stopLossPrice" if kind.startswith("stop") else "takeProfitPrice"
            params[name] = price_of(trigger)
        is_market = kind in ("market", *MARKET_STOPS)
        try:
            order = await self._exchange.create_order(
                SYMBOL,
                "market" if is_market else "limit",
                "buy" if is_buy else "sell",
                float(Decimal(lots * RULES.lot) / ONE),
                None if is_market else price_of(limit),
                params,
            )
        except ccxt.OrderImmediatelyFillable:
            return None
        return int(order["id"])

    async def cancel(self, number):
        try:
            await self._exchange.cancel_order(str(number), SYMBOL)
        except ccxt.OrderNotFound:
            return

    async def step(self):
        assert (await self._admin.admin("POST", "step")).status == 200

    async def fills(self):
        found = []
        while True:
            next_id = int(found[-1]["id"]) + 1 if found else 0
            page = await self._exchange.private_get_mytrades(
                {"symbol": RULES.symbol, "fromId": next_id, "limit": 1_000}
            )
            if not page:
                return [self._told(row) for row in found]
            found += page

    def _told(self, row):
        return (
            int(row["orderId"]),
            row["isBuyer"],
            amount_from_text(row["price"]) // RULES.tick,
            amount_from_text(row["qty"]) // RULES.lot,
            row["isMaker"],
            amount_from_text(row["commission"]),
        )

    async def money(self):
        rows = (await self._exchange.private_get_account())["balances"]
        return {
            row["asset"]: amount_from_text(row["free"]) + amount_from_text(row["locked"])
            for row in rows
        }


def price_of(ticks):
    return float(Decimal(ticks * RULES.tick) / ONE)


async def trade(account, seed):
    strategy = Strategy(seed)
    for _ in range(BAR_COUNT):
        cancelled, wishes = strategy.decide(await account.close())
        for number in cancelled:
            await account.cancel(number)
        for kind, *wish in wishes:
            strategy.placed(await account.place(kind, *wish), kind)
        await account.step()


@asynccontextmanager
async def over_sockets(path, costs):
    share = costs.volume_share_ppm
    settings = SimulatorSettings(
        api_key=KEY,
        api_secret=SECRET,
        data=path,
        matcher="bars",
        stepped=True,
        balances={asset: Decimal(amount) / ONE for asset, amount in START.items()},
        volume_share_ppm=None if share == fills.UNLIMITED else share,
        **{name: value for name, value in costs._asdict().items() if name != "volume_share_ppm"},
    )
    exchange = ccxt.async_support.binance(
        {
            "apiKey": KEY,
            "secret": SECRET,
            "enableRateLimit": False,
            "options": {
                "defaultType": "spot",
                "fetchCurrencies": False,
                "fetchMargins": False,
                "fetchMarkets": {"types": ["spot"]},
            },
        }
    )
    async with SimulatorServer(settings) as server, SigningClient(server.url) as admin:
        for name in ("public", "private", "v1"):
            exchange.urls["api"][name] = server.url + "/api/v3"
        try:
            yield OverSockets(exchange, admin)
        finally:
            await exchange.close()


@pytest.fixture(params=["invented", "real"])
def bars_file(request, tmp_path):
    if request.param == "real":
        path = real_data()
        if path is None:
            pytest.skip("no recorded data here")
        return path
    path = tmp_path / "bars.parquet"
    invented_bars(BAR_COUNT + 10).write_parquet(path)
    return path


@pytest.mark.parametrize("costs", COSTS, ids=["plain", "dear"])
async def test_the_same_fills_to_the_tick_and_the_unit(bars_file, costs):
    recorded = load_bars(bars_file, RULES)[: BAR_COUNT + 10]
    bars = [
        fills.Bar(
            *(price // RULES.tick for price in (bar.open, bar.high, bar.low, bar.close)),
            volume_lots=bar.volume // RULES.lot,
        )
        for bar in recorded
    ]
    direct = OnRules(bars, costs)
    await trade(direct, seed=11)
    async with over_sockets(bars_file, costs) as account:
        await trade(account, seed=11)
        assert await account.fills() == direct.fills
        assert await account.money() == direct.money
    roles = {is_maker for _, _, _, _, is_maker, _ in direct.fills}
    assert roles == {True, False}
    assert len(direct.fills) > 150

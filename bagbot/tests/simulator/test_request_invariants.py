"""Whatever is requested, what two accounts are told adds up: orders, fills, fees and balances.

The requests go through the whole exchange but its sockets, cancelReplace in both modes included.
"""

from collections import Counter
from decimal import Decimal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bagbot.simulator.amounts import ONE
from bagbot.simulator.api_keys import HmacKey, KeyRing
from bagbot.simulator.binance_errors import BinanceError
from bagbot.simulator.binance_wire import WireRequest, signature_of
from bagbot.simulator.list_exchange import ListExchange
from bagbot.simulator.market import MarketProfile
from bagbot.simulator.rate_limits import LimitSettings, RateLimits
from bagbot.simulator.spot_api import REST_ENDPOINTS, SpotApi
from bagbot.simulator.store import Store
from bagbot.simulator.symbols import DEFAULT_SYMBOLS
from bagbot.simulator.synthetic_market import SyntheticMarket
from bagbot.simulator.venue import MarketClock, Venue

START_NS = 1_700_000_000_000_000_000
RULES = {"BTCUSDT": DEFAULT_SYMBOLS["BTCUSDT"]}
# Thin enough that an order goes through the market's quotes and meets the users' own.
THIN = {"BTCUSDT": MarketProfile(start_price=90_000 * ONE, level_quantity=ONE // 1_000)}
START = {"BTC": 2 * ONE, "USDT": 150_000 * ONE}
SECRET = "secret"
ENDED = ("FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH")

accounts = st.sampled_from(["alice", "bob"])
sides = st.sampled_from(["BUY", "SELL"])
sizes = st.integers(1, 900).map(lambda lots: f"{lots / 1000:.3f}")
offsets = st.integers(-400, 400)
modes = st.sampled_from(["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT"])
names = st.sampled_from(["a", "b", "c"])


class Requests(RuleBasedStateMachine):
    @initialize()
    def start(self):
        self.now_ns = START_NS
        self.store = Store(None)
        source = SyntheticMarket(RULES["BTCUSDT"], THIN["BTCUSDT"], seed=3, start_ms=0, step_ms=200)
        self.exchange = ListExchange(RULES, maker_fee_ppm=753, taker_fee_ppm=1_041)
        self.venue = Venue(
            self.exchange,
            {"BTCUSDT": source},
            self.store,
            clock=MarketClock(wire_start_ns=START_NS, market_start_ms=0, speed=1),
            accounts={"alice": START, "bob": START},
            profiles=THIN,
        )
        ids = self.venue.account_ids
        self.api = SpotApi(
            self.venue,
            RateLimits(LimitSettings(weight_per_minute=10**9)),
            KeyRing(HmacKey(name, ids[name], SECRET) for name in ids),
        )
        self.last_status = {}

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()

    def ask(self, name, method, path, **parameters):
        """Return the answer, or the refusal."""
        self.now_ns += 1_000_000
        sent = {key: str(value) for key, value in parameters.items()}
        sent["timestamp"] = str(self.now_ns // 1_000_000)
        request = WireRequest(sent, b"x", signature_of(SECRET, b"x"))
        endpoint = REST_ENDPOINTS[(method, f"/api/v3/{path}")]
        try:
            return self.api.answer(endpoint, request, name, self.now_ns)
        except BinanceError as error:
            return error

    def price(self, offset):
        return f"{self.venue.last_price('BTCUSDT') // ONE + offset}"

    def limit(self, side, size, offset, mode):
        return {
            "symbol": "BTCUSDT",
            "side": side,
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": size,
            "price": self.price(offset),
            "selfTradePreventionMode": mode,
        }

    def open_orders(self, name):
        return {
            order.order_id: order.client_order_id
            for order in self.exchange.open_orders(self.venue.account_ids[name])
        }

    @rule(name=accounts, side=sides, size=sizes, offset=offsets, mode=modes, client_id=names)
    def place_limit(self, name, side, size, offset, mode, client_id):
        order = self.limit(side, size, offset, mode)
        self.ask(name, "POST", "order", **order, newClientOrderId=client_id)

    @rule(name=accounts, side=sides, size=sizes, mode=modes)
    def place_market(self, name, side, size, mode):
        self.ask(
            name,
            "POST",
            "order",
            symbol="BTCUSDT",
            side=side,
            type="MARKET",
            quantity=size,
            selfTradePreventionMode=mode,
        )

    @rule(name=accounts, side=sides, size=sizes, gap=st.integers(1, 300), delta=st.booleans())
    def place_stop(self, name, side, size, gap, delta):
        sign = 1 if side == "BUY" else -1
        stop = {"trailingDelta": 20} if delta else {"stopPrice": self.price(sign * gap)}
        order = {"symbol": "BTCUSDT", "side": side, "type": "STOP_LOSS", "quantity": size}
        self.ask(name, "POST", "order", **order, **stop)

    @rule(name=accounts, side=sides, size=sizes, gaps=st.tuples(*[st.integers(1, 300)] * 2))
    def place_pair(self, name, side, size, gaps):
        sign = 1 if side == "SELL" else -1
        limit, stop = ("above", "below") if side == "SELL" else ("below", "above")
        self.ask(
            name,
            "POST",
            "orderList/oco",
            symbol="BTCUSDT",
            side=side,
            quantity=size,
            **{
                f"{limit}Type": "LIMIT_MAKER",
                f"{limit}Price": self.price(sign * gaps[0]),
                f"{stop}Type": "STOP_LOSS",
                f"{stop}StopPrice": self.price(-sign * gaps[1]),
            },
        )

    @rule(name=accounts, client_id=names)
    def cancel(self, name, client_id):
        was_open = client_id in self.open_orders(name).values()
        reply = self.ask(name, "DELETE", "order", symbol="BTCUSDT", origClientOrderId=client_id)
        assert isinstance(reply, BinanceError) is not was_open

    @rule(
        name=accounts,
        side=sides,
        size=sizes,
        offset=offsets,
        mode=modes,
        replaced=names,
        client_id=names,
        stops_on_failure=st.booleans(),
    )
    def cancel_and_replace(
        self, name, side, size, offset, mode, replaced, client_id, stops_on_failure
    ):
        before = self.open_orders(name)
        was_open = replaced in before.values()
        next_id = self.exchange.next_order_id
        reply = self.ask(
            name,
            "POST",
            "order/cancelReplace",
            **self.limit(side, size, offset, mode),
            cancelOrigClientOrderId=replaced,
            newClientOrderId=client_id,
            cancelReplaceMode="STOP_ON_FAILURE" if stops_on_failure else "ALLOW_FAILURE",
        )
        data = reply.data if isinstance(reply, BinanceError) else reply
        was_placed = self.exchange.next_order_id > next_id
        if data is None:
            # A filter: nothing has happened.
            assert not was_placed
            assert self.open_orders(name) == before
            return
        assert data["cancelResult"] == ("SUCCESS" if was_open else "FAILURE")
        if not was_open and stops_on_failure:
            assert data["newOrderResult"] == "NOT_ATTEMPTED"
            assert not was_placed
        else:
            assert data["newOrderResult"] == ("SUCCESS" if was_placed else "FAILURE")
        gone = [order_id for order_id, client in before.items() if client == replaced]
        assert not set(gone) & set(self.open_orders(name))
        expected = (
            200
            if was_open and was_placed
            else (409, -2021)
            if was_open or was_placed
            else (400, -2022)
        )
        told = (reply.status, reply.code) if isinstance(reply, BinanceError) else 200
        assert told == expected

    @rule(name=accounts)
    def cancel_all(self, name):
        had_orders = bool(self.open_orders(name))
        reply = self.ask(name, "DELETE", "openOrders", symbol="BTCUSDT")
        assert isinstance(reply, BinanceError) is not had_orders
        assert not self.open_orders(name)

    @rule(offset=st.integers(-250, 250))
    def market_moves(self, offset):
        price = (self.venue.last_price("BTCUSDT") // ONE + offset) * ONE
        self.venue.move_price("BTCUSDT", price, self.now_ns)

    @invariant()
    def what_is_told_adds_up(self):
        if not hasattr(self, "api"):
            return
        totals = Counter()
        for name in ("alice", "bob"):
            self.check_account(name, totals)
        for asset, amount in START.items():
            everybody = totals[asset] + Decimal(self.exchange.market_balances[asset]) / ONE
            everybody += Decimal(self.exchange.fees[asset]) / ONE
            assert everybody == 2 * Decimal(amount) / ONE

    def check_account(self, name, totals):
        path = {"symbol": "BTCUSDT", "limit": 1000}
        orders = self.ask(name, "GET", "allOrders", **path)
        trades = self.ask(name, "GET", "myTrades", **path)
        balances = {
            row["asset"]: (Decimal(row["free"]), Decimal(row["locked"]))
            for row in self.ask(name, "GET", "account")["balances"]
        }
        filled, change = Counter(), Counter()
        for row in trades:
            quantity, cost = Decimal(row["qty"]), Decimal(row["quoteQty"])
            sign = 1 if row["isBuyer"] else -1
            filled[row["orderId"]] += quantity
            change["BTC"] += sign * quantity
            change["USDT"] -= sign * cost
            change[row["commissionAsset"]] -= Decimal(row["commission"])
            fee = (quantity if row["isBuyer"] else cost) * (753 if row["isMaker"] else 1_041)
            # Rounded down to the last unit, in the asset received.
            assert Decimal(row["commission"]) == fee // Decimal("0.01") / Decimal(100_000_000)
        for asset, amount in START.items():
            free, locked = balances[asset]
            assert min(free, locked) >= 0
            assert free + locked == Decimal(amount) / ONE + change[asset]
            totals[asset] += free + locked
        is_any_open = any(row["status"] not in ENDED for row in orders)
        assert is_any_open or not any(locked for _, locked in balances.values())
        for row in orders:
            self.check_order(row, filled[row["orderId"]])

    def check_order(self, row, filled):
        original, executed = Decimal(row["origQty"]), Decimal(row["executedQty"])
        prevented = Decimal(row.get("preventedQuantity", "0"))
        assert executed == filled
        left = original - executed - prevented
        assert left >= 0
        assert (left == 0) is (row["status"] in ("FILLED", "EXPIRED_IN_MATCH"))
        assert (row["status"] == "PARTIALLY_FILLED") <= (executed > 0 and left > 0)
        # What has ended stays as it is.
        earlier = self.last_status.get(row["orderId"])
        if earlier is not None and earlier[0] in ENDED:
            assert earlier == (row["status"], executed)
        self.last_status[row["orderId"]] = row["status"], executed


TestRequests = Requests.TestCase
TestRequests.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)

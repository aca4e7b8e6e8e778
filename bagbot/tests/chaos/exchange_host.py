"""The real simulated exchange, whole, reached without sockets: bytes in, bytes out, and faults.

Requests arrive as the HTTP and WebSocket bytes the real connector writes; the exchange's own
modules read, check, sign-check, execute and print them. What lies between is pretended: the
network, several replicas that answer reads, and the world that trades on the same market.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import parse_qsl

import aiohttp
import msgspec
from msgspec import structs

from bagbot.simulator import binance_messages as messages
from bagbot.simulator.api_keys import HmacKey, KeyRing
from bagbot.simulator.binance_errors import BinanceError
from bagbot.simulator.binance_wire import read_http
from bagbot.simulator.faults import FaultScript
from bagbot.simulator.list_exchange import ListExchange
from bagbot.simulator.market import AS_USUAL, MarketProfile
from bagbot.simulator.orders import (
    CancelOrder,
    CancelRefusedError,
    Execution,
    Order,
    OrderEvent,
    OrderRefusedError,
    OrderType,
    PlaceOrder,
    TimeInForce,
)
from bagbot.simulator.rate_limits import LimitSettings, RateLimits
from bagbot.simulator.spot_api import REST_ENDPOINTS, SpotApi
from bagbot.simulator.store import Store
from bagbot.simulator.stream_faults import EventGate
from bagbot.simulator.symbols import DEFAULT_SYMBOLS
from bagbot.simulator.synthetic_market import SyntheticMarket
from bagbot.simulator.venue import BalanceEvent, MarketClock, Venue
from bagbot.simulator.websocket_api import (
    UserStreams,
    WebSocketRequest,
    WebSocketSession,
    read_request,
)
from bagbot.tests.chaos.faults import EVENTS, Delivery, Faults, Prescribed
from bagbot.tests.chaos.virtual_loop import NS, Agenda

_T = TypeVar("_T")
ONE: Final = 10**8
START_NS: Final = 1_700_000_000 * NS
SYMBOL: Final = "BTCUSDT"
START_PRICE: Final = 90_000 * ONE
API_KEY, API_SECRET = "k" * 64, "s" * 64
ACCOUNT, OTHERS = 1, 2
_RULES: Final = {SYMBOL: DEFAULT_SYMBOLS[SYMBOL]}
_TICK: Final = _RULES[SYMBOL].tick
REPLACING: Final = "/api/v3/order/cancelReplace"
ORDERS: Final = ("/api/v3/order", REPLACING)
# So long after a list of trades left some out, the books may begin with it.
_BOOKS_BEGIN_NS: Final = 30 * NS


class DeadError(Exception):
    """A life that is over has tried to reach the world."""


class Life(Protocol):
    """The life of the engine that a connection belongs to."""

    is_dead: bool
    number: int
    sockets: "list[ClientSocket]"


class Observer(Protocol):
    """Who is told what really happens."""

    def request_leaves(
        self, life: Life, method: str, path: str, fields: Mapping[str, str]
    ) -> None: ...

    def answer_comes(self, life: Life, status: int, text: str, wait: str | None) -> None: ...

    def venue_says(self, event: OrderEvent) -> None: ...

    def note(self, *parts: object) -> None: ...


class _StandingMarket(SyntheticMarket):
    """A market that moves only when it is told to, and has no past that takes time to invent."""

    quoting = AS_USUAL

    def __init__(self) -> None:
        self.base_ms = 60_000

    def move_to(self, price: int) -> None:
        del price

    def history(self) -> list[Any]:
        return []

    def points(self, until_ms: int) -> Any:
        del until_ms
        return iter(())


class ExchangeHost:
    """The exchange and everything around it that outlives the engine."""

    def __init__(
        self,
        agenda: Agenda,
        rng: random.Random,
        faults: Faults,
        observer: Observer,
        balances: Mapping[str, int],
    ) -> None:
        self.agenda = agenda
        self.rng = rng
        self.faults = faults
        self.observer = observer
        self.offset_ns = 0
        self.initial = dict(balances)
        thin = faults.strikes("thin market")
        level = ONE // 1_000 if thin else ONE // 100
        self.store = Store(None)
        self.venue = Venue(
            ListExchange(_RULES, maker_fee_ppm=1_000, taker_fee_ppm=1_000),
            {SYMBOL: _StandingMarket()},
            self.store,
            clock=MarketClock(wire_start_ns=START_NS, market_start_ms=START_NS // 10**6, speed=1),
            accounts={"main": balances, "others": {"BTC": 10_000 * ONE, "USDT": 10**9 * ONE}},
            profiles={SYMBOL: MarketProfile(START_PRICE, level)},
        )
        self.venue.exchange.reference_prices[SYMBOL] = START_PRICE
        self.api = SpotApi(
            self.venue,
            RateLimits(LimitSettings()),
            KeyRing([HmacKey(API_KEY, ACCOUNT, API_SECRET)]),
            account_id=ACCOUNT,
        )
        self.users = UserStreams()
        self.orders: dict[int, Order] = {}
        self.executions: dict[int, list[Execution]] = {}
        self.refusals = 0
        self.contradictions = 0
        self._hidden_until_ns: dict[int, int] = {}
        self._blind_until_ns: dict[int, int] = {}
        self._told: dict[int, dict[str, object]] = {}
        self._trades_omitted_ns: int | None = None
        self._key_is_bad_until_ns = 0

    # Time and the market.

    @property
    def wire_ns(self) -> int:
        """The time at the exchange."""
        return START_NS + self.agenda.now_ns + self.offset_ns

    def revoke_key(self, duration_s: float) -> None:
        """Take no request of this key for a while."""
        self._key_is_bad_until_ns = self.agenda.now_ns + int(duration_s * NS)

    def move(self, ticks: int) -> None:
        """Move the market by so many ticks; who is in its way trades."""
        price = self.venue.last_price(SYMBOL) + ticks * _TICK
        self.venue.move_price(SYMBOL, price, self.wire_ns)
        self.publish()

    def someone_trades(self, *, is_buy: bool, quantity: int) -> None:
        """Let another account take what the book offers, up to a quantity."""
        price = self.venue.last_price(SYMBOL)
        self._place(
            OTHERS,
            is_buy=is_buy,
            quantity=quantity,
            price=price + (_TICK * 100_000 if is_buy else -_TICK * 100_000),
            time_in_force=TimeInForce.IOC,
            client_order_id="",
        )

    def own_hand_orders(self, *, is_buy: bool, quantity: int, price: int, name: str) -> None:
        """Let the owner place an order on the exchange's own page."""
        self._place(
            ACCOUNT,
            is_buy=is_buy,
            quantity=quantity,
            price=price // _TICK * _TICK,
            time_in_force=TimeInForce.GTC,
            client_order_id=name,
        )

    def own_hand_transfers(self, asset: str, amount: int) -> None:
        """Let the owner pay in, or out if negative: no trade explains it."""
        try:
            self.venue.transfer(ACCOUNT, asset, amount, self.wire_ns)
        except OrderRefusedError:
            return
        self.initial[asset] += amount
        self.contradictions += 1
        self.publish()

    @property
    def has_hidden_trades(self) -> bool:
        """Whether holdings read now may count trades that the list of them has not told yet."""
        omitted_ns = self._trades_omitted_ns
        return omitted_ns is not None and self.agenda.now_ns - omitted_ns < _BOOKS_BEGIN_NS

    def own_hand_cancels(self, order_id: int) -> None:
        """Let the owner cancel an order on the exchange's own page."""
        command = CancelOrder(
            account_id=ACCOUNT, symbol=SYMBOL, order_id=order_id, cancel_id=f"web_c{order_id}"
        )
        try:
            self.venue.cancel(command, self.wire_ns)
        except CancelRefusedError:
            return
        self.publish()

    def is_blind_to(self, order_id: int) -> bool:
        """Return whether the direct query by our id does not find the order now."""
        return self.agenda.now_ns < self._blind_until_ns.get(order_id, 0)

    def _place(
        self,
        account_id: int,
        *,
        is_buy: bool,
        quantity: int,
        price: int,
        time_in_force: TimeInForce,
        client_order_id: str,
    ) -> None:
        command = PlaceOrder(
            account_id=account_id,
            symbol=SYMBOL,
            is_buy=is_buy,
            type=OrderType.LIMIT,
            time_in_force=time_in_force,
            price=price,
            quantity=quantity,
            client_order_id=client_order_id,
        )
        try:
            self.venue.place(command, self.wire_ns)
        except OrderRefusedError:
            return
        self.publish()

    def publish(self) -> None:
        """Tell what has happened to those who listen, and to the observer first."""
        events, self.venue.outbox = self.venue.outbox, []
        for event in events:
            if isinstance(event, OrderEvent):
                self.api.observe(event)
                if event.order.account_id == ACCOUNT:
                    self._remember(event)
                    self.observer.venue_says(event)
                    self.users.tell(event, self.wire_ns)
            elif isinstance(event, BalanceEvent):
                self.users.tell(event, self.wire_ns)

    def _remember(self, event: OrderEvent) -> None:
        order = event.order
        if order.order_id not in self.orders:
            self.orders[order.order_id] = order
            now_ns = self.agenda.now_ns
            if self.faults.strikes("replica lag", 0.5):
                self._hidden_until_ns[order.order_id] = now_ns + int(self.rng.uniform(0, 30) * NS)
            if self.faults.strikes("direct query blind", 0.3):
                self._blind_until_ns[order.order_id] = now_ns + 300 * NS
        elif (
            event.execution is None
            and order.order_id not in self._told
            and self.faults.strikes("stale status", 0.3)
        ):
            # The replica stays at what it saw before this event, for a while.
            stale = messages.order_query(order)
            stale["status"] = "PARTIALLY_FILLED" if order.executed else "NEW"
            self._told[order.order_id] = stale
            self.agenda.after(self.rng.uniform(1, 20), lambda: self._told.pop(order.order_id, None))
        if event.execution is not None:
            self.executions.setdefault(order.order_id, []).append(event.execution)

    # Requests.

    def execute(
        self, method: str, path: str, query: bytes, body: bytes, key: str | None, *, is_late: bool
    ) -> tuple[int, str, dict[str, str]]:
        """Carry out one request that has arrived; return status, text and headers."""
        now_ns = self.wire_ns
        headers = {"Content-Type": "application/json"}
        try:
            self.api.limits.count_request(now_ns // 10**6)
            wire = read_http(query, body)
            if self.agenda.now_ns < self._key_is_bad_until_ns and key is not None:
                raise BinanceError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
            if is_late:
                # The clock was checked when it arrived; it is the matching engine that is late.
                wire = structs.replace(wire, parameters={**wire.parameters, "recvWindow": "60000"})
            result = self.api.answer(REST_ENDPOINTS[method, path], wire, key, now_ns)
            if method == "GET":
                result = self._as_replica(path, wire.parameters, result)
            status = 200
        except BinanceError as error:
            status, result = error.status, {"code": error.code, "msg": error.message}
            if error.data is not None:
                result["data"] = error.data
            headers.update(error.headers)
            if status in (418, 429):
                self.refusals += 1
        self.publish()
        return status, msgspec.json.encode(result).decode(), headers

    def _as_replica(self, path: str, fields: Mapping[str, str], result: Any) -> object:
        """Return what a replica, somewhat behind, answers in place of the truth."""
        if self.faults.healed:
            return result
        now_ns = self.agenda.now_ns
        if path == "/api/v3/order":
            order_id = result["orderId"]
            if "orderId" not in fields and now_ns < self._blind_until_ns.get(order_id, 0):
                raise BinanceError(-2013, "Order does not exist.")
            if now_ns < self._hidden_until_ns.get(order_id, 0):
                raise BinanceError(-2013, "Order does not exist.")
            result = self._told.get(order_id, result)
            if self.faults.strikes("another order told", 0.2):
                self.contradictions += 1
                if "orderId" in fields:
                    return {**result, "orderId": order_id + 10**6}
                return {**result, "side": "SELL" if result["side"] == "BUY" else "BUY"}
            return self._renamed(result) if "orderId" in fields else result
        if path == "/api/v3/openOrders":
            return [
                row
                for row in result
                if now_ns >= self._hidden_until_ns.get(row["orderId"], 0)
                and now_ns >= self._blind_until_ns.get(row["orderId"], 0)
                and not self.faults.strikes("open order omitted", 0.3)
            ]
        if path in ("/api/v3/allOrders", "/api/v3/myTrades"):
            rows = [row for row in result if now_ns >= self._hidden_until_ns.get(row["orderId"], 0)]
            if path.endswith("myTrades") and len(rows) < len(result):
                self._trades_omitted_ns = now_ns
            return [self._renamed(row) for row in rows] if path.endswith("Orders") else rows
        return result

    def _renamed(self, row: dict[str, Any]) -> dict[str, Any]:
        order = self.orders.get(row["orderId"])
        if order is None or row["status"] != "CANCELED" or not order.cancel_id:
            return row
        if not self.faults.strikes("cancel renames"):
            return row
        if self.is_blind_to(order.order_id) or order.executed:
            # Neither the history nor the direct query tells whose it is: that may be disputed.
            # So may an order that its trade leads to, before the direct query was asked.
            self.contradictions += 1
        return {**row, "clientOrderId": order.cancel_id}


class InProcessSession:
    """What aiohttp's session is to CCXT, ending at the host instead of at a socket."""

    closed = False

    def __init__(self, host: ExchangeHost, life: Life) -> None:
        self._host = host
        self._life = life
        self.headers: dict[str, str] = {}

    def __getattr__(self, name: str) -> Callable[..., "_Call"]:
        if name not in ("get", "post", "put", "delete"):
            raise AttributeError(name)

        def call(
            url: Any, *, data: bytes | None, headers: Mapping[str, str], timeout: Any, proxy: None
        ) -> _Call:
            del proxy
            return _Call(
                self,
                (name.upper(), url.raw_path, url.raw_query_string.encode()),
                data or b"",
                headers,
                timeout.total,
            )

        return call

    async def ws_connect(self, _url: str, *, autoping: bool) -> "ClientSocket":
        """Connect to the WebSocket API."""
        del autoping
        await asyncio.sleep(self._host.rng.uniform(0.001, 0.05))
        return ClientSocket(self._host, self._life)

    async def close(self) -> None:
        """Close nothing."""

    def send(
        self, what: tuple[str, str, bytes], body: bytes, key: str | None
    ) -> "asyncio.Future[tuple[int, str, dict[str, str]]]":
        """Let a request leave; the future gets its answer, if one comes."""
        life, host = self._life, self._host
        if life.is_dead:
            raise DeadError
        method, path, query = what
        is_order = path in ORDERS and method != "GET"
        # Of reads nobody wants to know more than the path.
        sent = (query + b"&" + body).decode() if is_order else ""
        fields = dict(parse_qsl(sent, keep_blank_values=True))
        name, delivery = host.faults.of_write() if is_order else host.faults.of_read()
        if path in ("/api/v3/time", "/api/v3/exchangeInfo") and delivery.reach != "once":
            name, delivery = "", Delivery()
        host.observer.request_leaves(life, method, path, fields)
        answer: asyncio.Future[tuple[int, str, dict[str, str]]] = (
            asyncio.get_running_loop().create_future()
        )
        _Passage(host, life, what, body, key, fields, name, delivery, answer).begin()
        return answer


class _Passage:
    """One request on its way there and back."""

    def __init__(
        self,
        host: ExchangeHost,
        life: Life,
        what: tuple[str, str, bytes],
        body: bytes,
        key: str | None,
        fields: Mapping[str, str],
        name: str,
        delivery: Delivery,
        answer: "asyncio.Future[tuple[int, str, dict[str, str]]]",
    ) -> None:
        self._host, self._life, self._what = host, life, what
        self._body, self._key, self._fields = body, key, fields
        self._delivery, self._answer = delivery, answer
        self._name = name
        if delivery.reach == "twice" and what[0] != "POST":
            self._delivery = Delivery()
        elif name and delivery.reach != "twice":
            self._strikes()

    def begin(self) -> None:
        host, delivery = self._host, self._delivery
        latency_s = host.rng.uniform(0.0005, 0.02) + delivery.delay_s
        if delivery.reach == "never":
            host.agenda.after(latency_s, lambda: self._reply((0, "", {})))
        elif delivery.reach == "late":
            host.agenda.after(latency_s + delivery.late_s, lambda: self._arrive(is_late=True))
            if delivery.answer != "silence":
                host.agenda.after(latency_s + 0.01, lambda: self._reply((0, "", {})))
        else:
            host.agenda.after(latency_s, lambda: self._arrive(is_late=False))

    def _strikes(self) -> None:
        self._host.faults.struck[self._name] += 1
        order_id = self._fields.get("newClientOrderId", "")
        self._host.observer.note("fault", self._name, *self._what[:2], order_id)

    def _arrive_twice(self) -> None:
        # An order that rests keeps its id taken. The repeat of one that is over would trade
        # again: only TLS keeps that from happening, and no client can, but with a token.
        name, has_token = self._fields.get("newClientOrderId", ""), self._what[1] == REPLACING
        exchange = self._host.venue.exchange
        if has_token or exchange.open_order_by_client_id(ACCOUNT, SYMBOL, name) is not None:
            self._strikes()
            self._arrive(is_late=False)

    def _arrive(self, *, is_late: bool) -> None:
        host = self._host
        method, path, query = self._what
        told = host.execute(method, path, query, self._body, self._key, is_late=is_late)
        if path in ORDERS:
            host.observer.note("venue", method, told[0], told[1])
        if not is_late:
            host.agenda.after(host.rng.uniform(0.0005, 0.02), lambda: self._reply(told))
        if self._delivery.reach == "twice":
            self._delivery = Delivery()
            self._arrive_twice()

    def _reply(self, told: tuple[int, str, dict[str, str]]) -> None:
        answer = self._answer
        if self._life.is_dead or answer.done():
            return
        how = self._delivery.answer
        if how == "silence":
            return
        if how == "reset":
            answer.set_exception(aiohttp.ServerDisconnectedError())
        elif how == "unconnected":
            answer.set_exception(aiohttp.ConnectionTimeoutError("no connection"))
        elif isinstance(how, Prescribed):
            self._tell(how.status, how.text, {"Content-Type": "application/json", **how.headers})
        elif how == "truncated":
            self._tell(told[0], told[1][: len(told[1]) // 2], told[2])
        elif how == "unreadable":
            self._tell(told[0], '{"orderId": null, "symbol": 7}', told[2])
        elif how == "more fields" and told[1].startswith("{"):
            self._tell(told[0], '{"anew":{"a":[1]},' + told[1][1:], told[2])
        else:
            self._tell(*told)

    def _tell(self, status: int, text: str, headers: dict[str, str]) -> None:
        wait = headers.get("Retry-After") if status in (418, 429) else None
        self._host.observer.answer_comes(self._life, status, text, wait)
        self._answer.set_result((status, text, headers))


class _Response:
    """What CCXT reads of an answer."""

    reason = "as told"

    def __init__(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        self.status, self._text, self.headers = status, text, headers

    async def text(self, errors: str = "strict") -> str:
        """Return the body."""
        del errors
        return self._text


async def _within(answer: "asyncio.Future[_T]", timeout_s: float | None) -> _T:
    """Wait for a future of our own so long; `asyncio.timeout` does the same for twice the work."""
    if timeout_s is None:
        return await answer
    timer = asyncio.get_running_loop().call_later(timeout_s, _give_up, answer)
    try:
        return await answer
    finally:
        timer.cancel()


def _give_up(answer: "asyncio.Future[Any]") -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


class _Call:
    """`async with session.post(...)`, as aiohttp has it."""

    def __init__(
        self,
        session: InProcessSession,
        what: tuple[str, str, bytes],
        body: bytes,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> None:
        self._session, self._what, self._body = session, what, body
        self._key = headers.get("X-MBX-APIKEY")
        self._timeout_s = timeout_s

    async def __aenter__(self) -> _Response:
        answer = self._session.send(self._what, self._body, self._key)
        return _Response(*await _within(answer, self._timeout_s))

    async def __aexit__(self, *_: object) -> None:
        pass


_EVENT: Final = b'{"subscriptionId"'
_FAREWELLS: Final = {
    "stream shutdown": "serverShutdown",
    "stream terminated": "eventStreamTerminated",
}


class ClientSocket:
    """One WebSocket, from aiohttp's side for the engine and from the server's for the exchange."""

    def __init__(self, host: ExchangeHost, life: Life) -> None:
        self._host, self._life = host, life
        self.close_code: int | None = None
        self._inbox: deque[tuple[aiohttp.WSMessage, Callable[[], None] | None]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._arrives_ns = 0
        self._is_silent = self._is_dead = False
        self._session = WebSocketSession(
            host.api,
            self,  # type: ignore[arg-type]
            EventGate(self, FaultScript()),  # type: ignore[arg-type]
            connected_ns=host.wire_ns,
            wants_limits=False,
        )
        host.users.add(self._session)
        life.sockets.append(self)

    # The engine's side.

    async def receive(self, timeout: float | None = None) -> aiohttp.WSMessage:
        """Return the next frame."""
        if not self._inbox:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await _within(self._waiter, timeout)
            finally:
                self._waiter = None
        frame, when_read = self._inbox.popleft()
        if when_read is not None:
            when_read()
        return frame

    async def send_str(self, text: str) -> None:
        """Send a request; over a line that is cut it goes nowhere."""
        if self._life.is_dead:
            raise DeadError
        if self.close_code is not None:
            raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
        request = read_request(text)
        host = self._host
        if request.method == "order.place":
            self._place(request)
        elif host.faults.strikes("subscription refused", 0.5):
            body = {"code": -1003, "msg": "Too many requests."}
            answer = {"id": request.id, "status": 503, "error": body}
            host.agenda.after(0.01, lambda: self._push(msgspec.json.encode(answer)))
        else:
            latency_s = host.rng.uniform(0.0005, 0.02)
            host.agenda.after(latency_s, lambda: self._arrive(request, Delivery(), is_late=False))

    def _place(self, request: WebSocketRequest) -> None:
        host = self._host
        name, delivery = host.faults.of_write()
        if delivery.reach == "twice":
            name, delivery = "", Delivery()
        host.observer.request_leaves(self._life, "POST", "/api/v3/order", request.wire.parameters)
        if name:
            host.faults.struck[name] += 1
            host.observer.note("fault", name, request.id)
        latency_s = host.rng.uniform(0.0005, 0.02) + delivery.delay_s
        is_late = delivery.reach == "late"
        if delivery.reach != "never":
            host.agenda.after(
                latency_s + delivery.late_s,
                lambda: self._arrive(request, delivery, is_late=is_late),
            )
        if delivery.reach == "never" or (is_late and delivery.answer != "silence"):
            host.agenda.after(latency_s, lambda: self._answer(request.id, delivery, {}))

    def _arrive(self, request: WebSocketRequest, delivery: Delivery, *, is_late: bool) -> None:
        host, asked = self._host, request
        if is_late:
            parameters = {**request.wire.parameters, "recvWindow": "60000"}
            asked = structs.replace(
                request, wire=structs.replace(request.wire, parameters=parameters)
            )
        reply = self._session.answer(asked, host.wire_ns, received_ns=host.wire_ns)
        host.publish()
        if request.method == "order.place":
            host.observer.note("venue", "order.place", reply.status, reply.body)
        if not is_late:
            self._answer(request.id, delivery, {"status": reply.status, **reply.body})

    async def ping(self) -> None:
        """Ask whether the line is alive."""
        if not self._is_dead:
            frame = aiohttp.WSMessage(aiohttp.WSMsgType.PONG, b"", None)
            self._host.agenda.after(0.01, lambda: self._deliver(frame))

    async def pong(self, _data: bytes) -> None:
        """Answer a ping."""

    async def close(self) -> None:
        """Close."""
        self._end(1000)

    # The exchange's side.

    def send(self, message: bytes) -> None:
        """Send a message, unless a fault has something else in mind."""
        host = self._host
        if not message.startswith(_EVENT):
            self._push(message)
            return
        if self._is_silent:
            return
        fault = host.faults.of_event(EVENTS)
        if fault is None:
            self._push(message)
            return
        host.observer.note("fault", fault)
        if fault.startswith("event"):
            self._spoil(fault, message)
        elif fault == "stream cut":
            self.cut()
        else:
            name = _FAREWELLS.get(fault)
            if name is not None:
                event = {"subscriptionId": 0, "event": {"e": name, "E": 1}}
                self._push(msgspec.json.encode(event))
            self._is_silent = True
            self._is_dead = fault == "stream dead"

    def _spoil(self, fault: str, message: bytes) -> None:
        host = self._host
        if fault == "event duplicated":
            self._push(message)
            self._push(message)
        elif fault == "event contradicts":
            self._push(message)
            told = msgspec.json.decode(message)
            if told["event"].get("x") == "TRADE":
                # The same trade at another price: one of the two is wrong.
                host.contradictions += 1
                told["event"]["L"] = "1.00000000"
                self._push(msgspec.json.encode(told))
        elif fault != "event dropped":
            is_late = fault == "event late"
            delay_s = host.rng.uniform(20.0, 90.0) if is_late else host.rng.uniform(0.01, 0.5)
            frame = aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, message.decode(), None)
            host.agenda.after(delay_s, lambda: self._deliver(frame))

    def cut(self) -> None:
        """Drop the connection."""
        self._host.agenda.after(0.005, lambda: self._end(1006))

    def _answer(self, request_id: object, delivery: Delivery, told: dict[str, Any]) -> None:
        how = delivery.answer
        if how in ("silence", "unconnected"):
            return
        if how == "reset":
            self.cut()
            return
        if isinstance(how, Prescribed):
            body = how.body if isinstance(how.body, Mapping) else {"code": -1000, "msg": how.body}
            told = {"status": how.status, "error": dict(body)}
            if "Retry-After" in how.headers:
                now_ms = self._host.wire_ns // 10**6
                until_ms = now_ms + 1000 * int(how.headers["Retry-After"])
                told["error"]["data"] = {"serverTime": now_ms, "retryAfter": until_ms}
            wait = how.headers.get("Retry-After") if how.status in (418, 429) else None
            status = how.status

            def when_read() -> None:
                self._host.observer.answer_comes(self._life, status, str(body), wait)

            self._push(msgspec.json.encode({"id": request_id, **told}), when_read)
            return
        text = msgspec.json.encode({"id": request_id, **told})
        if how == "truncated":
            text = text[: len(text) // 2]
        elif how == "unreadable":
            text = msgspec.json.encode({"id": request_id, "status": 200, "result": {"orderId": 0}})
        self._push(text)

    def _push(self, message: bytes, when_read: Callable[[], None] | None = None) -> None:
        host = self._host
        arrives_ns = host.agenda.now_ns + int(host.rng.uniform(0.0005, 0.02) * NS)
        # One line keeps its order.
        self._arrives_ns = max(self._arrives_ns, arrives_ns)
        frame = aiohttp.WSMessage(aiohttp.WSMsgType.TEXT, message.decode(errors="replace"), None)
        host.agenda.at(self._arrives_ns, lambda: self._deliver(frame, when_read))

    def _deliver(
        self, frame: aiohttp.WSMessage, when_read: Callable[[], None] | None = None
    ) -> None:
        if self._life.is_dead or self.close_code is not None:
            return
        self._inbox.append((frame, when_read))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _end(self, code: int) -> None:
        if self.close_code is not None:
            return
        self._host.users.remove(self._session)
        if not self._life.is_dead:
            self._deliver(aiohttp.WSMessage(aiohttp.WSMsgType.CLOSED, None, None))
        self.close_code = code

    def abandon(self) -> None:
        """Forget the connection: its life is over."""
        self._end(1006)

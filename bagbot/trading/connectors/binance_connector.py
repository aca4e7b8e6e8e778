"""Binance, spot and USD-M futures, over CCXT: only what Binance does differently.

CCXT signs, sends and throttles; what is sent and what is read is ours. CCXT's unified methods
round amounts in silence and compute some numbers as floats.
"""

import asyncio
import contextlib
import functools
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import aiohttp
import ccxt

from bagbot.domain.errors import (
    ConfigError,
    ExchangeError,
    ExchangeUnavailableError,
    InvalidOrderError,
    NotSupportedError,
    OrderRejectedError,
    OutcomeUnknownError,
    RateLimitedError,
)
from bagbot.domain.instrument import Instrument
from bagbot.domain.ohlcv import Ohlcv
from bagbot.domain.order import OrderRequest, TimeInForce
from bagbot.trading.connectors import binance_messages as messages
from bagbot.trading.connectors.bar_stream import BarStream
from bagbot.trading.connectors.binance_errors import (
    TIMESTAMP_OUTSIDE,
    TOO_MANY_ORDERS,
    classify,
    code_and_words,
)
from bagbot.trading.connectors.binance_stream import (
    STREAM_LIFE_S,
    AccountStream,
    Door,
    FuturesDoor,
    SpotDoor,
)
from bagbot.trading.connectors.binance_venues import choose_venue
from bagbot.trading.connectors.ccxt_connector import (
    CcxtConnector,
    new_client_order_id,
    plain,
    require_as_asked,
    require_steps,
)
from bagbot.trading.connectors.exchange_errors import Answer, Failure, Verdict
from bagbot.trading.connectors.guarded_exchange import CcxtExchange, RateGate
from bagbot.trading.connectors.interface import (
    AccountEvent,
    Balance,
    ExchangeOrder,
    ExchangePosition,
    SendOrder,
    Ticker,
    Trade,
)
from bagbot.trading.connectors.server_clock import ServerClock

_Post = Callable[[], Awaitable[Mapping[str, Any]]]
_Ask = Callable[[Mapping[str, Any]], Awaitable[list[Any]]]

# It is half of the fence: what is taken later than this is refused, so it must be short.
RECV_WINDOW_MS_MAX: Final = 5000
_MODE: Final = "cancelReplaceMode"
_PAGE: Final = 1000
_DAY_MS: Final = 86_400_000
_INSTRUMENTS_STALE_AFTER_S: Final = 3600.0
_ORDERS_REMEMBERED: Final = 20_000
_OWN_FIELDS: Final = frozenset(
    {
        "symbol",
        "side",
        "type",
        "timeInForce",
        "quantity",
        "price",
        "stopPrice",
        "trailingDelta",
        "newOrderRespType",
    }
)


class BinanceConnector(CcxtConnector):
    """One account on Binance.

    Spot with `testnet=True` is Binance's spot testnet, futures are its demo trading; each takes
    only its own keys. `base_url`, or BINANCE_BASE_URL, points at any server that speaks Binance's
    protocol, such as bagbot's simulator. Live needs `testnet=False` and, in the environment,
    BAGBOT_ALLOW_LIVE=yes.

    With `orders_by_stream` spot orders go over the connection of `watch_events` while it is open
    (`order.place`): no request of their own, which is faster. That connection is replaced every
    `stream_life_s`, before Binance ends it. Somebody has to iterate over the
    events then, because the answers come in between. Else, and otherwise, orders go over REST.
    """

    exchange_id = "binance"
    trades_are_complete = True

    def __init__(
        self,
        api_key: str | None = None,
        api_secret: str | None = None,
        testnet: bool = True,  # noqa: FBT001, FBT002 - the order the user's own document gives.
        futures: bool = False,  # noqa: FBT001, FBT002
        base_url: str | None = None,
        *,
        recv_window_ms: int = 3000,
        timeout_s: float = 10.0,
        orders_by_stream: bool = False,
        stream_life_s: float = STREAM_LIFE_S,
    ) -> None:
        if not 0 < recv_window_ms <= RECV_WINDOW_MS_MAX:
            raise ConfigError(f"recv_window_ms must be 1 to {RECV_WINDOW_MS_MAX}")
        self._recv_window_ms = recv_window_ms
        self._timeout_s = timeout_s
        # Only spot's account stream is a connection of the WebSocket API.
        self._orders_by_stream = orders_by_stream and not futures
        self._stream_life_s = stream_life_s
        self._stream: AccountStream | None = None
        self._futures = futures
        # On futures a cancel has no id of its own, and the order keeps its.
        self.cancel_id_param = None if futures else "newClientOrderId"
        self._asked_base_url = base_url
        self._clock = ServerClock()
        self._measuring = asyncio.Lock()
        self._orders_gate = RateGate()
        self._symbols: dict[str, str] = {}
        self._instruments_loaded_at_s = 0.0
        # Exchange's order id -> symbol -> client order id; ids are unique per symbol only.
        self._seen: OrderedDict[str, dict[str, str | None]] = OrderedDict()
        super().__init__(
            api_key,
            api_secret,
            testnet,
            timeout_s=timeout_s,
            config={"options": _options(is_futures=futures, recv_window_ms=recv_window_ms)},
        )
        exchange = self._exchange
        exchange.nonce = self._now_ms
        exchange.closes_gate = _is_about_all_requests

    def _enter_venue(self, settings: Mapping[str, str]) -> None:
        self._venue = choose_venue(
            testnet=self._testnet,
            futures=self._futures,
            base_url=self._asked_base_url or settings.get("BINANCE_BASE_URL"),
        )
        self._venue.point(self._exchange)
        if self._venue.base_url is not None and self._venue.base_url.startswith("http://"):
            # CCXT waits 250 ms on close for TLS to end; without TLS there is nothing to wait for.
            self._exchange.timeout_on_exit = 0

    @property
    def venue(self) -> str:
        """Where this connector trades: "spot testnet", "futures demo trading", ..."""
        return f"binance {self._venue.name}"

    @property
    def futures(self) -> bool:
        """Whether this connector trades USD-M futures; spot otherwise."""
        return self._futures

    @property
    def base_url(self) -> str | None:
        """The server it was pointed at, or None for one of Binance's own venues."""
        return self._venue.base_url

    def stamp(self) -> Mapping[str, int]:
        """Return `timestamp` (ms, the exchange's clock) and `recvWindow` (ms) for the next order.

        Raises ExchangeUnavailableError before the clock was measured, which every other call
        does: `load_instruments` at the start is the natural one.
        """
        if not self._clock.is_measured:
            raise ExchangeUnavailableError(
                f"{self.venue}: its clock is not known yet: await load_instruments() first"
            )
        return {"timestamp": self._clock.now_ms(), "recvWindow": self._recv_window_ms}

    async def load_instruments(self) -> Mapping[str, Instrument]:
        """Return what can be traded, by symbol; asked anew when older than an hour."""
        async with self._loading:
            age_s = time.monotonic() - self._instruments_loaded_at_s
            if not self._instruments or age_s > _INSTRUMENTS_STALE_AFTER_S:
                with self._call("load the symbols", is_write=False):
                    exchange = self._exchange
                    if self.futures:
                        answer = await exchange.fapipublic_get_exchangeinfo()
                        found = messages.futures_instruments(answer)
                    else:
                        # Permission sets are most of the answer's size, and nobody reads them.
                        answer = await exchange.public_get_exchangeinfo(
                            {"showPermissionSets": "false"}
                        )
                        found = messages.spot_instruments(answer)
                self._instruments = found
                self._symbols = {i.exchange_symbol: i.symbol for i in found.values()}
                self._instruments_loaded_at_s = time.monotonic()
        await self._fresh_clock()
        return self._instruments

    async def fetch_balance(self) -> Mapping[str, Balance]:
        """Return what the account holds, by asset; assets it has none of are left out."""
        await self._ready_to_sign()
        with self._call("fetch the balance", is_write=False):
            if self.futures:
                return messages.futures_balances(await self._exchange.fapiprivatev3_get_account())
            answer = await self._exchange.private_get_account({"omitZeroBalances": "true"})
            return messages.spot_balances(answer)

    async def create_order(
        self, order_payload: Mapping[str, object] | OrderRequest
    ) -> ExchangeOrder:
        """Send one order, once, with exactly the amount and price asked for.

        `params` go out as they are; `timestamp` and `recvWindow` among them (see `stamp`) are the
        ones that are signed. Raises InvalidOrderError, and sends nothing, when amount, price or
        trigger are not on the exchange's steps, NotSupportedError for what futures lack here.
        """
        request = OrderRequest.from_payload(order_payload)
        self._require_credentials()
        await self._instrument(request.symbol)
        # Who brings a timestamp has recorded it: measuring now would only eat into its window.
        is_stamped = "timestamp" in request.params
        if not self._clock.is_measured or (not is_stamped and self._clock.is_stale):
            await self._fresh_clock()
        return await self.prepare_order(request)()

    def prepare_order(self, order_payload: Mapping[str, object] | OrderRequest) -> SendOrder:
        """Return a call that sends this order: it is checked, written and signed by then."""
        if not self._instruments or not self._clock.is_measured:
            return lambda: self.create_order(order_payload)
        request = OrderRequest.from_payload(order_payload)
        self._require_credentials()
        instrument = self._known_instrument(request.symbol)
        require_steps(request, instrument)
        fields = self._order_fields(request, instrument)
        client_order_id = fields["newClientOrderId"]
        by_stream_too = self._orders_by_stream and _MODE not in fields
        stream = self._stream if by_stream_too else None
        if stream is None or not stream.is_open:
            by_http = self._post_by_http(fields)
            return functools.partial(self._send_order, request, client_order_id, by_http)
        question = {
            "id": client_order_id,
            "method": "order.place",
            "params": self._signed_params({**self.stamp(), **fields}),
        }

        async def by_stream() -> Mapping[str, Any]:
            return await self._post_by_stream(stream, question)

        async def send() -> ExchangeOrder:
            # It may have been lost meanwhile, and then nothing was sent by it.
            post = by_stream if stream.is_open else self._post_by_http(fields)
            return await self._send_order(request, client_order_id, post)

        return send

    def token_params(self, token_id: str) -> Mapping[str, object]:
        """Return what makes an order replace another one, and fail if that is gone; spot only."""
        if self._futures:
            return {}
        return {_MODE: "STOP_ON_FAILURE", "cancelOrderId": token_id}

    def _post_by_http(self, fields: Mapping[str, Any]) -> _Post:
        api = "fapiPrivate" if self._futures else "private"
        replaces = _MODE in fields
        path = "order/cancelReplace" if replaces else "order"
        # Straight to CCXT's HTTP: its throttle and its repeats are not for orders.
        signed = self._exchange.sign(path, [api], "POST", fields)
        post = functools.partial(self._exchange.fetch, **signed)
        return functools.partial(_replacing, post) if replaces else post

    async def _post_by_stream(
        self, stream: AccountStream, question: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        async def ask() -> Answer:
            async with asyncio.timeout(self._timeout_s):
                return messages.answer_from(await stream.ask(question))

        answered: Mapping[str, Any] = await self._exchange.answered(ask)
        return answered

    async def _send_order(
        self,
        request: OrderRequest,
        client_order_id: str,
        post: _Post,
    ) -> ExchangeOrder:
        what = f"{request.side.value} order {client_order_id} for {request.symbol}"
        self._orders_gate.check(what)
        try:
            with self._call(what, is_write=True):
                order = messages.order_from(await post(), self._symbols)
                require_as_asked(order, request, client_order_id)
        except RateLimitedError as error:
            if error.code == TOO_MANY_ORDERS:
                self._orders_gate.close_for(error.retry_after_s or 1.0)
            raise
        except OrderRejectedError as error:
            await self._heal_clock(error)
            raise
        self._remember(order)
        return order

    async def cancel_order(
        self,
        order_id: str,
        symbol: str | None = None,
        params: Mapping[str, object] | None = None,
    ) -> ExchangeOrder:
        """Cancel an order by the exchange's id and return it as it ended.

        Binance needs the symbol; it may be left out for orders this connector has seen. With
        `order_id` empty and `origClientOrderId` in `params` it cancels by our own id.
        """
        self._require_credentials()
        if not self._clock.is_measured:
            # An old measurement does: a cancel must not wait for, or fail by, a better one.
            await self._fresh_clock()
        fields = {name: _text(value) for name, value in (params or {}).items()}
        own_id = fields.get("origClientOrderId")
        instrument = await self._instrument(self._symbol_of(order_id or None, symbol))
        fields["symbol"] = instrument.exchange_symbol
        if order_id:
            fields["orderId"] = order_id
        elif own_id is None:
            raise InvalidOrderError("a cancel needs an order id, or origClientOrderId in params")
        what = f"cancel of order {order_id or own_id} for {instrument.symbol}"
        try:
            with self._call(what, is_write=True):
                api = "fapiPrivate" if self._futures else "private"
                answer = await self._exchange.request("order", [api], "DELETE", fields)
                order = messages.order_from(answer, self._symbols)
                if order_id and order.id != order_id:
                    raise OutcomeUnknownError(f"{what}: the answer is about order {order.id}")
        except OrderRejectedError as error:
            await self._heal_clock(error)
            raise
        self._remember(order)
        return order

    async def fetch_positions(self) -> Sequence[ExchangePosition]:
        """Return the open positions; empty on spot."""
        if not self.futures:
            return []
        await self._ready_to_sign()
        await self.load_instruments()
        with self._call("fetch the positions", is_write=False):
            rows = await self._exchange.fapiprivatev3_get_positionrisk()
            return messages.positions_from(rows, self._symbols)

    async def fetch_ticker(self, symbol: str) -> Ticker:
        """Return the best prices and the last trade's."""
        instrument = await self._instrument(symbol)
        which = {"symbol": instrument.exchange_symbol}
        with self._call(f"fetch the ticker of {symbol}", is_write=False):
            if not self.futures:
                return messages.ticker_from(
                    await self._exchange.public_get_ticker_24hr(which), symbol
                )
            book = await self._exchange.fapipublic_get_ticker_bookticker(which)
            last = await self._exchange.fapipublicv2_get_ticker_price(which)
            return messages.ticker_from(book, symbol, last=last)

    async def fetch_tickers(self, symbols: Sequence[str]) -> Mapping[str, Ticker]:
        """Return the prices of several markets: one request on spot, two on futures."""
        wanted = {(await self._instrument(s)).exchange_symbol: s for s in symbols}
        if not wanted:
            return {}
        with self._call("fetch the tickers", is_write=False):
            last: Mapping[str, Mapping[str, Any]] = {}
            if self.futures:
                rows = await self._exchange.fapipublic_get_ticker_bookticker()
                prices = await self._exchange.fapipublicv2_get_ticker_price()
                last = {row["symbol"]: row for row in prices}
            else:
                names = ",".join(f'"{name}"' for name in wanted)
                rows = await self._exchange.public_get_ticker_24hr({"symbols": f"[{names}]"})
            return {
                wanted[row["symbol"]]: messages.ticker_from(
                    row, wanted[row["symbol"]], last=last.get(row["symbol"])
                )
                for row in rows
                if row["symbol"] in wanted
            }

    async def fetch_order(
        self,
        order_id: str | None,
        symbol: str | None = None,
        *,
        client_order_id: str | None = None,
    ) -> ExchangeOrder:
        """Return one order, by the exchange's id or by ours.

        Right after an order Binance may not know it yet: OrderNotFoundError proves nothing.
        """
        if order_id is None and client_order_id is None:
            raise InvalidOrderError("fetch_order needs an order id or a client order id")
        await self._ready_to_sign()
        instrument = await self._instrument(self._symbol_of(order_id, symbol))
        fields = {"symbol": instrument.exchange_symbol}
        # Only one of the two: given both, Binance refuses an order that a cancel has renamed.
        if order_id is not None:
            fields["orderId"] = order_id
        else:
            fields["origClientOrderId"] = str(client_order_id)
        what = f"fetch order {order_id or client_order_id} of {instrument.symbol}"
        with self._call(what, is_write=False):
            exchange = self._exchange
            ask = exchange.fapiprivate_get_order if self.futures else exchange.private_get_order
            order = self._told(await ask(fields), client_order_id)
            if order_id is not None and order.id != order_id:
                raise ExchangeUnavailableError(f"{what}: the answer is about order {order.id}")
        self._remember(order)
        return order

    async def fetch_open_orders(self, symbol: str | None = None) -> Sequence[ExchangeOrder]:
        """Return the orders that rest at the exchange; of one symbol it costs far less weight."""
        await self._ready_to_sign()
        await self.load_instruments()
        fields = {}
        if symbol is not None:
            fields["symbol"] = (await self._instrument(symbol)).exchange_symbol
        exchange = self._exchange
        ask = (
            exchange.fapiprivate_get_openorders if self.futures else exchange.private_get_openorders
        )
        with self._call("fetch the open orders", is_write=False):
            return [self._remembered(row) for row in await ask(fields)]

    async def fetch_orders(
        self, symbol: str, *, since_ms: int | None = None
    ) -> Sequence[ExchangeOrder]:
        """Return the account's orders of one symbol, oldest first.

        All since `since_ms`, in as many requests as it takes; without it the newest 1000.
        """
        await self._ready_to_sign()
        name = (await self._instrument(symbol)).exchange_symbol
        exchange = self._exchange
        ask = exchange.fapiprivate_get_allorders if self.futures else exchange.private_get_allorders
        with self._call(f"fetch the orders of {symbol}", is_write=False):
            page = {"symbol": name, "limit": _PAGE}
            if since_ms is None:
                return [self._remembered(row) for row in await ask(page)]
            rows = newest = await self._first_orders(ask, page, since_ms)
            # Ids lead on from the first order found, however much later the next ones are.
            while newest:
                newest = await ask({**page, "orderId": int(rows[-1]["orderId"]) + 1})
                rows = rows + newest
            return [self._remembered(row) for row in rows]

    async def _first_orders(self, ask: _Ask, page: Mapping[str, Any], since_ms: int) -> list[Any]:
        """Return the first page since then; Binance looks at a day (futures: a week) at a time."""
        window_ms = (7 if self.futures else 1) * _DAY_MS
        start_ms = since_ms
        rows: list[Any] = []
        while not rows and start_ms <= self._clock.now_ms():
            times = {"startTime": start_ms, "endTime": start_ms + window_ms - 1}
            rows = await ask({**page, **times})
            start_ms += window_ms
        return rows

    async def fetch_my_trades(
        self, symbol: str, *, order_id: str | None = None, from_trade_id: str | None = None
    ) -> Sequence[Trade]:
        """Return the account's executions, oldest first: of one order, or from a trade id on.

        With either, all of them, in as many requests as it takes; with neither the newest 1000.
        """
        await self._ready_to_sign()
        name = (await self._instrument(symbol)).exchange_symbol
        exchange = self._exchange
        ask = exchange.fapiprivate_get_usertrades if self.futures else exchange.private_get_mytrades
        page: dict[str, Any] = {"symbol": name, "limit": _PAGE}
        if order_id is not None:
            page["orderId"] = order_id
        if from_trade_id is not None:
            page["fromId"] = from_trade_id
        with self._call(f"fetch the trades of {symbol}", is_write=False):
            rows = newest = await ask(page)
            if len(newest) == _PAGE and order_id is not None and from_trade_id is None:
                # Asked without a first id Binance shows the newest: there may be older ones.
                rows = newest = await ask({**page, "fromId": 0})
            while len(newest) == _PAGE and (order_id is not None or from_trade_id is not None):
                # A trade with ourselves is two rows of one id, and a page may end between them.
                last = rows[-1]["id"]
                seen = {row["orderId"] for row in rows[-2:] if row["id"] == last}
                newest = await ask({**page, "fromId": int(last)})
                rows = rows + [r for r in newest if r["id"] != last or r["orderId"] not in seen]
            return [messages.trade_from(row, self._symbols) for row in rows]

    async def _ohlcv(
        self, instrument: Instrument, timeframe: str, since_ms: int | None, limit: int | None
    ) -> Sequence[Ohlcv]:
        fields: dict[str, Any] = {"symbol": instrument.exchange_symbol, "interval": timeframe}
        fields["limit"] = min(limit or _PAGE, _PAGE)
        if since_ms is not None:
            fields["startTime"] = since_ms
        exchange = self._exchange
        ask = exchange.fapipublic_get_klines if self.futures else exchange.public_get_klines
        return [messages.ohlcv_from(row) for row in await ask(fields)]

    def watch_closed_bars(
        self, symbol: str, timeframe: str, *, since_ms: int | None = None
    ) -> AsyncIterator[Ohlcv]:
        """Return the bars as they close, by stream, and by REST what the stream has not told.

        A lost connection is opened again for ever. It ends when the connector is closed.
        """
        sockets = self._exchange.urls["api"]["ws"]
        # CCXT names the futures' root; bars are under /market.
        root = sockets["linear"].removesuffix("/ws") + "/market/ws"
        stream = BarStream(
            self._closed_bars(symbol, timeframe, since_ms),
            address=root if self.futures else sockets["spot"],
            name=functools.partial(self._bars_stream_name, symbol, timeframe),
            session=self._open_session,
            gate=self._exchange.gate,
            life_s=self._stream_life_s,
        )
        return stream.bars()

    async def _bars_stream_name(self, symbol: str, timeframe: str) -> str:
        name = (await self._instrument(symbol)).exchange_symbol.lower()
        return f"{name}@kline_{timeframe}"

    def watch_events(self) -> AsyncIterator[AccountEvent]:
        """Return the account's orders as they change, with a StreamLost for every gap.

        A lost connection is opened again for ever; only AuthenticationError is raised. It ends
        when the connector is closed.
        """
        self._require_credentials()
        stream = AccountStream(
            self._door(),
            venue=self.venue,
            session=self._open_session,
            order_of=self._order_of_event,
            key_advice=self._key_advice(),
            gate=self._exchange.gate,
            on_too_many=self._note_too_many,
            life_s=self._stream_life_s,
        )
        self._stream = stream
        return stream.events()

    def _note_too_many(self, message: Mapping[str, Any]) -> None:
        answer = messages.answer_from(message)
        self._exchange.note_refusal(answer)
        if not _is_about_all_requests(answer):
            self._orders_gate.close_for(answer.retry_after_s or 1.0)

    def renew_stream(self) -> None:
        """Open the account's stream anew, the new connection before the old one is left."""
        if self._stream is not None:
            self._stream.rotate()

    def _door(self) -> Door:
        sockets = self._exchange.urls["api"]["ws"]
        if self.futures:
            # CCXT names the root; the account's own events are under /private.
            private = sockets["linear"].removesuffix("/ws") + "/private/ws"
            return FuturesDoor(private, self._new_listen_key, self._renew_listen_key)
        return SpotDoor(sockets["ws-api"]["spot"], self._signed_subscription)

    def _open_session(self) -> aiohttp.ClientSession | None:
        exchange = self._exchange
        if exchange.closed_by_user:
            return None
        exchange.open(lazy=True)
        session: aiohttp.ClientSession = exchange.session
        return session

    def _order_of_event(self, event: Mapping[str, Any]) -> ExchangeOrder | None:
        order = messages.order_from_event(event, self._symbols)
        if order is not None:
            self._remember(order)
        return order

    async def _signed_subscription(self) -> Mapping[str, Any]:
        """Return the signed parameters: sorted by name, and not percent-encoded, unlike REST."""
        await self.load_instruments()
        return self._signed_params(self.stamp())

    def _signed_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of a WebSocket request with key and signature."""
        fields: dict[str, Any] = {"apiKey": self._credentials.api_key, **params}
        text = "&".join(f"{name}={fields[name]}" for name in sorted(fields))
        signature = _signature(self._exchange, text, self._credentials.api_secret)
        return {**fields, "signature": signature}

    async def _new_listen_key(self) -> str:
        await self.load_instruments()
        with self._call("get a listen key", is_write=False):
            answer = await self._exchange.fapiprivate_post_listenkey()
            return str(answer["listenKey"])

    async def _renew_listen_key(self) -> None:
        with self._call("renew the listen key", is_write=False):
            await self._exchange.fapiprivate_put_listenkey()

    def _order_fields(self, request: OrderRequest, instrument: Instrument) -> dict[str, Any]:
        """Return exactly what is sent: Binance's names, our texts."""
        if request.type.is_conditional and self.futures:
            raise NotSupportedError(
                f"{self.venue}: {request.type.value} orders are not supported, only spot's are; "
                f"nothing was sent"
            )
        fields: dict[str, Any] = {
            "symbol": instrument.exchange_symbol,
            "side": request.side.value.upper(),
            "type": request.type.value.upper(),
            "quantity": plain(request.amount),
            "newOrderRespType": "RESULT" if self.futures else "FULL",
        }
        if request.trigger_price is not None:
            fields["stopPrice"] = plain(request.trigger_price)
        if request.trailing_delta is not None:
            fields["trailingDelta"] = request.trailing_delta
        if request.price is not None:
            fields["price"] = plain(request.price)
            fields["timeInForce"] = (request.time_in_force or TimeInForce.GTC).value
            if request.time_in_force is TimeInForce.PO:
                _make_post_only(fields, is_futures=self.futures)
        for name, value in request.params.items():
            if name in _OWN_FIELDS:
                raise InvalidOrderError(f"params may not set {name!r}: the order itself does")
            fields[name] = _text(value)
        given = fields.get("newClientOrderId")
        own = request.client_order_id or given or new_client_order_id()
        if given is not None and given != own:
            raise InvalidOrderError(f"the order has two client order ids, {own} and {given}")
        fields["newClientOrderId"] = own
        return fields

    def _told(self, row: Mapping[str, Any], client_order_id: str | None) -> ExchangeOrder:
        """Return the order of a query, under its own client id even after a cancel renamed it."""
        own_id = client_order_id
        if own_id is None and row["status"] == "CANCELED":
            symbol = self._symbols.get(row["symbol"], row["symbol"])
            own_id = self._seen.get(str(row["orderId"]), {}).get(symbol)
        return messages.order_from(row, self._symbols, client_order_id=own_id)

    def _remembered(self, row: Mapping[str, Any]) -> ExchangeOrder:
        order = self._told(row, None)
        self._remember(order)
        return order

    def _remember(self, order: ExchangeOrder) -> None:
        own_ids = self._seen.setdefault(order.id, {})
        own_ids[order.symbol] = own_ids.get(order.symbol) or order.client_order_id
        if len(self._seen) > _ORDERS_REMEMBERED:
            self._seen.popitem(last=False)

    def _symbol_of(self, order_id: str | None, symbol: str | None) -> str:
        symbols = [symbol] if symbol else list(self._seen.get(order_id or "", {}))
        if len(symbols) != 1:
            raise InvalidOrderError(
                f"Binance needs the symbol of order {order_id}, which this connector has seen on "
                f"{len(symbols)} symbols: pass symbol; nothing was sent"
            )
        return symbols[0]

    async def _ready_to_sign(self) -> None:
        self._require_credentials()
        await self._fresh_clock()

    async def _fresh_clock(self) -> None:
        if not self._clock.is_stale:
            return
        async with self._measuring:
            if not self._clock.is_stale:
                return
            with self._call("measure its clock", is_write=False):
                exchange = self._exchange
                ask = exchange.fapipublic_get_time if self.futures else exchange.public_get_time
                asked_at_s = time.monotonic()
                answer = await ask()
                self._clock.measured(
                    int(answer["serverTime"]), asked_at_s=asked_at_s, answered_at_s=time.monotonic()
                )

    async def _heal_clock(self, error: OrderRejectedError) -> None:
        """Measure the clock at once after -1021: the next stamp must not be wrong again."""
        if error.code == TIMESTAMP_OUTSIDE:
            self._clock.distrust()
            # Already logged; the caller gets the refusal, and the next call measures again.
            with contextlib.suppress(ExchangeError):
                await self._fresh_clock()

    def _now_ms(self) -> int:
        if self._clock.is_measured:
            return self._clock.now_ms()
        # Only for calls that go past us, through `exchange`.
        return int(self._exchange.milliseconds())

    def _key_advice(self) -> str:
        return f"{super()._key_advice()} {self._venue.key_advice}"

    def _code_and_words(self, answer: Answer) -> tuple[int | str | None, str]:
        return code_and_words(answer.content, answer.body)

    def _classify(self, failure: Failure) -> Verdict:
        if failure.code == TIMESTAMP_OUTSIDE:
            self._clock.distrust()
        return classify(failure, is_futures=self.futures)


async def _replacing(post: _Post) -> Mapping[str, Any]:
    """Return the answer to the new order of a cancelReplace.

    Raises OrderRejectedError when the old order was cancelled and the new one refused.
    """
    try:
        answer = await post()
    except ccxt.BaseError as error:
        evidence: Answer | None = getattr(error, "answer", None)
        content = evidence.content if evidence is not None else None
        halves = content.get("data") if isinstance(content, Mapping) else None
        if (
            isinstance(halves, Mapping)
            and halves.get("cancelResult") == "SUCCESS"
            and halves.get("newOrderResult") == "FAILURE"
        ):
            refusal = halves["newOrderResponse"]
            raise OrderRejectedError(
                f"{refusal['msg']} (code {refusal['code']}). The exchange refused it, finally: "
                f"nothing was placed, and its token is spent.",
                code=int(refusal["code"]),
            ) from error
        raise
    placed: Mapping[str, Any] = answer["newOrderResponse"]
    return placed


def _is_about_all_requests(answer: Answer) -> bool:
    """Return whether a 429 forbids everything; -1015 is about new orders only.

    Its wait can last until midnight, and cancels must not be held back by it.
    """
    return code_and_words(answer.content, answer.body)[0] != TOO_MANY_ORDERS


def _options(*, is_futures: bool, recv_window_ms: int) -> dict[str, Any]:
    """Return CCXT's options: only this market, no wallet calls, our own clock."""
    return {
        "defaultType": "swap" if is_futures else "spot",
        "fetchMarkets": {"types": ["linear" if is_futures else "spot"]},
        "fetchCurrencies": False,
        "fetchMargins": False,
        "recvWindow": recv_window_ms,
        "adjustForTimeDifference": False,
    }


def _make_post_only(fields: dict[str, Any], *, is_futures: bool) -> None:
    if is_futures:
        fields["timeInForce"] = "GTX"
    else:
        fields["type"] = "LIMIT_MAKER"
        del fields["timeInForce"]


def _text(value: object) -> object:
    """Return a parameter as Binance reads it; what is text or a whole number stays."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return plain(value) if isinstance(value, Decimal) else value


def _signature(exchange: CcxtExchange, text: str, secret: str) -> str:
    """Sign as CCXT does: HMAC, or RSA or Ed25519 when the secret is a private key."""
    if "PRIVATE KEY" not in secret:
        return str(exchange.hmac(text.encode(), secret.encode(), hashlib.sha256))
    if len(secret) > 120:
        return str(exchange.rsa(text, secret, "sha256"))
    return str(exchange.eddsa(text.encode(), secret, "ed25519"))

"""Any exchange that CCXT speaks to, with typed results and errors that say what to do.

An exchange of one's own is a few lines:

```python
class KrakenConnector(CcxtConnector):
    exchange_id = "kraken"
```
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar, Final

import ccxt
import structlog

from bagbot.domain.errors import (
    AuthenticationError,
    BagbotError,
    ConfigError,
    ExchangeError,
    InvalidOrderError,
    NotSupportedError,
    OrderNotFoundError,
    OrderRejectedError,
    OutcomeUnknownError,
    RateLimitedError,
    UnknownSymbolError,
)
from bagbot.domain.instrument import Instrument
from bagbot.domain.ohlcv import Ohlcv, timeframe_ms
from bagbot.domain.order import OrderRequest, TimeInForce
from bagbot.trading.connectors.ccxt_results import (
    balances_from,
    instrument_from,
    is_tradable,
    ohlcv_from,
    order_from,
    position_from,
    ticker_from,
    trade_from,
)
from bagbot.trading.connectors.closed_bars import ClosedBars, polled
from bagbot.trading.connectors.credentials import (
    find_credentials,
    require_live_switch,
    settings_around,
)
from bagbot.trading.connectors.exchange_errors import (
    Answer,
    Failure,
    Verdict,
    redact,
    redacted,
    to_error,
)
from bagbot.trading.connectors.guarded_exchange import (
    Call,
    CcxtExchange,
    calling,
    guarded_exchange,
    wait_s,
)
from bagbot.trading.connectors.interface import (
    Balance,
    ExchangeOrder,
    ExchangePosition,
    IExchangeConnector,
    Ticker,
    Trade,
)

logger = structlog.get_logger(__name__)

# CCXT's name for what each optional method needs; what is not listed is always there.
_NEEDS: Final = {
    "fetch_ticker": "fetchTicker",
    "fetch_tickers": "fetchTickers",
    "fetch_order": "fetchOrder",
    "fetch_open_orders": "fetchOpenOrders",
    "fetch_orders": "fetchOrders",
    "fetch_my_trades": "fetchMyTrades",
    "fetch_ohlcv": "fetchOHLCV",
    "watch_closed_bars": "fetchOHLCV",
}
# What CCXT's class says about an answer whose code we have no table for. The order matters: the
# first class that fits decides, and the narrow ones come first.
_BY_CLASS: Final[tuple[tuple[type[Exception], type[ExchangeError]], ...]] = (
    (ccxt.AuthenticationError, AuthenticationError),
    (ccxt.RateLimitExceeded, RateLimitedError),
    (ccxt.DDoSProtection, RateLimitedError),
    (ccxt.DuplicateOrderId, OutcomeUnknownError),
    (ccxt.OrderNotFound, OrderNotFoundError),
    (ccxt.InvalidOrder, OrderRejectedError),
    (ccxt.InsufficientFunds, OrderRejectedError),
    (ccxt.BadRequest, OrderRejectedError),
    (ccxt.OperationRejected, OrderRejectedError),
    (ccxt.InvalidNonce, OrderRejectedError),
)


class CcxtConnector(IExchangeConnector):
    """One account on any of CCXT's exchanges.

    `testnet=True` uses the exchange's sandbox; where there is none, ConfigError says so.
    `testnet=False` needs BAGBOT_ALLOW_LIVE=yes in the environment. Keys come from the arguments,
    else from `<EXCHANGE>_API_KEY` and `<EXCHANGE>_API_SECRET` in the environment or in `.env`;
    without any, public calls work. `config` goes to CCXT as it is.
    """

    exchange_id: ClassVar[str] = ""

    def __init__(
        self,
        api_key: str | None = None,
        api_secret: str | None = None,
        testnet: bool = True,  # noqa: FBT001, FBT002 - the order the user's own document gives.
        *,
        exchange_id: str | None = None,
        password: str | None = None,
        timeout_s: float = 10.0,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = exchange_id or self.exchange_id
        self._testnet = testnet
        settings = settings_around()
        prefix = self.name.upper()
        self._credentials = find_credentials(prefix, api_key, api_secret, settings)
        self._exchange: CcxtExchange = guarded_exchange(
            self.name,
            {
                "apiKey": self._credentials.api_key,
                "secret": self._credentials.api_secret,
                "password": password or settings.get(f"{prefix}_API_PASSWORD", ""),
                "timeout": int(timeout_s * 1000),
                **(config or {}),
            },
        )
        self._loading = asyncio.Lock()
        self._instruments: dict[str, Instrument] = {}
        self._enter_venue(settings)

    def _enter_venue(self, settings: Mapping[str, str]) -> None:
        """Point the exchange at its test venue or, if that is really meant, at the real one."""
        del settings
        if not self._testnet:
            require_live_switch(f"{self.name} live")
            return
        if not self._exchange.urls.get("test"):
            raise ConfigError(
                f"{self.name} has no test venue in CCXT: pass testnet=False if live is meant"
            )
        self._exchange.set_sandbox_mode(True)

    @property
    def exchange(self) -> CcxtExchange:
        """CCXT's own object, for what bagbot has no method for; its errors are CCXT's."""
        return self._exchange

    @property
    def testnet(self) -> bool:
        """Whether this connector was asked to stay on a test venue."""
        return self._testnet

    @property
    def has_credentials(self) -> bool:
        """Whether there is a key: without one only public calls work."""
        return bool(self._credentials)

    @property
    def venue(self) -> str:
        """Where this connector trades, in words."""
        return f"{self.name} {'sandbox' if self._testnet else 'live'}"

    @property
    def capabilities(self) -> frozenset[str]:
        """The optional methods that this exchange really has."""
        has = self._exchange.has
        return frozenset(n for n in super().capabilities if n not in _NEEDS or has.get(_NEEDS[n]))

    def __repr__(self) -> str:
        key = "with" if self._credentials else "without"
        return f"<{type(self).__name__} {self.venue}, {key} an API key>"

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """What can be traded, by symbol, as it was loaded last; empty before the first time."""
        return self._instruments

    async def load_instruments(self) -> Mapping[str, Instrument]:
        """Return what can be traded, by symbol; asked once, however many ask at a time."""
        async with self._loading:
            if not self._instruments:
                with self._call("load the markets", is_write=False):
                    markets = await self._exchange.load_markets()
                    tick_mode = self._exchange.precisionMode == ccxt.TICK_SIZE
                    self._instruments = {
                        symbol: instrument_from(market, precision_is_step=tick_mode)
                        for symbol, market in markets.items()
                        if is_tradable(market)
                    }
        return self._instruments

    async def fetch_balance(self) -> Mapping[str, Balance]:
        """Return what the account holds, by asset; assets it has none of are left out."""
        self._require_credentials()
        with self._call("fetch the balance", is_write=False):
            return balances_from(await self._exchange.fetch_balance())

    async def create_order(
        self, order_payload: Mapping[str, object] | OrderRequest
    ) -> ExchangeOrder:
        """Send one order, once, with exactly the amount and price asked for.

        Raises InvalidOrderError, and sends nothing, when CCXT would have to round them.
        """
        request = OrderRequest.from_payload(order_payload)
        if request.type.is_conditional:
            # CCXT has several words for it, and what they do differs from exchange to exchange.
            raise NotSupportedError(
                f"{self.venue}: {request.type.value} orders are not supported; nothing was sent"
            )
        self._require_credentials()
        instrument = await self._instrument(request.symbol)
        require_steps(request, instrument)
        client_order_id = request.client_order_id or new_client_order_id()
        params = {**request.params, "clientOrderId": client_order_id}
        if request.time_in_force is TimeInForce.PO:
            params["postOnly"] = True
        elif request.time_in_force is not None:
            params["timeInForce"] = request.time_in_force.value
        what = f"{request.side} order {client_order_id} for {request.symbol}"
        with self._call(what, is_write=True):
            amount, price = self._texts(request)
            answer = await self._exchange.create_order(
                request.symbol, request.type.value, request.side.value, amount, price, params
            )
            order = order_from(answer, request.symbol)
            require_as_asked(order, request, client_order_id)
        return order

    async def cancel_order(
        self,
        order_id: str,
        symbol: str | None = None,
        params: Mapping[str, object] | None = None,
    ) -> ExchangeOrder:
        """Cancel an order by the exchange's id and return what the exchange says of it."""
        self._require_credentials()
        await self._loaded(symbol)
        with self._call(f"cancel of order {order_id}", is_write=True):
            answer = await self._exchange.cancel_order(order_id, symbol, dict(params or {}))
            return order_from({"status": "canceled", **answer, "id": order_id}, symbol)

    async def fetch_positions(self) -> Sequence[ExchangePosition]:
        """Return the open positions; empty where the exchange has none to offer."""
        if not self._exchange.has.get("fetchPositions"):
            return []
        self._require_credentials()
        await self.load_instruments()
        with self._call("fetch the positions", is_write=False):
            rows = await self._exchange.fetch_positions()
            return [p for p in map(position_from, rows) if p.quantity]

    async def fetch_ticker(self, symbol: str) -> Ticker:
        """Return the market's prices now."""
        self._require("fetch_ticker")
        await self._instrument(symbol)
        with self._call(f"fetch the ticker of {symbol}", is_write=False):
            return ticker_from(await self._exchange.fetch_ticker(symbol))

    async def fetch_tickers(self, symbols: Sequence[str]) -> Mapping[str, Ticker]:
        """Return the prices of several markets with one request."""
        self._require("fetch_tickers")
        for symbol in symbols:
            await self._instrument(symbol)
        with self._call("fetch the tickers", is_write=False):
            rows = await self._exchange.fetch_tickers(list(symbols))
            return {symbol: ticker_from(rows[symbol]) for symbol in symbols if symbol in rows}

    async def fetch_order(
        self,
        order_id: str | None,
        symbol: str | None = None,
        *,
        client_order_id: str | None = None,
    ) -> ExchangeOrder:
        """Return one order, by the exchange's id or, where it can, by ours."""
        self._require("fetch_order")
        self._require_credentials()
        await self._loaded(symbol)
        params = {} if client_order_id is None else {"clientOrderId": client_order_id}
        with self._call(f"fetch order {order_id or client_order_id}", is_write=False):
            answer = await self._exchange.fetch_order(order_id, symbol, params)
            return order_from(answer, symbol)

    async def fetch_open_orders(self, symbol: str | None = None) -> Sequence[ExchangeOrder]:
        """Return the orders that rest at the exchange."""
        self._require("fetch_open_orders")
        self._require_credentials()
        await self._loaded(symbol)
        with self._call("fetch the open orders", is_write=False):
            rows = await self._exchange.fetch_open_orders(symbol)
            return [order_from(row, symbol) for row in rows]

    async def fetch_orders(
        self, symbol: str, *, since_ms: int | None = None
    ) -> Sequence[ExchangeOrder]:
        """Return the account's orders of one symbol, as many as one request gives."""
        self._require("fetch_orders")
        self._require_credentials()
        await self._loaded(symbol)
        with self._call(f"fetch the orders of {symbol}", is_write=False):
            rows = await self._exchange.fetch_orders(symbol, since_ms)
            return [order_from(row, symbol) for row in rows]

    async def fetch_my_trades(
        self, symbol: str, *, order_id: str | None = None, from_trade_id: str | None = None
    ) -> Sequence[Trade]:
        """Return the account's executions, as many as one request gives, oldest first.

        Raises NotSupportedError when `from_trade_id` is not among them: CCXT has no common way
        to page by trade id.
        """
        self._require("fetch_my_trades")
        self._require_credentials()
        await self._loaded(symbol)
        with self._call(f"fetch the trades of {symbol}", is_write=False):
            rows = await self._exchange.fetch_my_trades(symbol)
            trades = [trade_from(row, symbol) for row in rows]
        if from_trade_id is not None:
            ids = [trade.fill.trade_id for trade in trades]
            if from_trade_id not in ids:
                raise NotSupportedError(
                    f"{self.name}: trade {from_trade_id} is not among the last {len(ids)} of "
                    f"{symbol}, and CCXT cannot page by trade id"
                )
            trades = trades[ids.index(from_trade_id) :]
        return [t for t in trades if order_id in (None, t.exchange_order_id)]

    async def fetch_ohlcv(
        self,
        symbol: str,
        timeframe: str = "1m",
        since_ms: int | None = None,
        limit: int | None = None,
    ) -> Sequence[Ohlcv]:
        """Return bars, oldest first, as many as one request gives; the last may be running."""
        self._require("fetch_ohlcv")
        self._require_timeframe(timeframe)
        instrument = await self._instrument(symbol)
        with self._call(f"fetch the {timeframe} bars of {symbol}", is_write=False):
            return await self._ohlcv(instrument, timeframe, since_ms, limit)

    async def _ohlcv(
        self, instrument: Instrument, timeframe: str, since_ms: int | None, limit: int | None
    ) -> Sequence[Ohlcv]:
        rows = await self._exchange.fetch_ohlcv(instrument.symbol, timeframe, since_ms, limit)
        return [bar for bar in map(ohlcv_from, rows) if bar is not None]

    def watch_closed_bars(
        self, symbol: str, timeframe: str, *, since_ms: int | None = None
    ) -> AsyncIterator[Ohlcv]:
        """Return the bars as they close, by asking again and again: CCXT does not say which have.

        It ends when the connector is closed. AuthenticationError is raised, other trouble is
        waited out.
        """
        self._require("watch_closed_bars")
        bars = self._closed_bars(symbol, timeframe, since_ms)
        exchange = self._exchange
        return polled(bars, clock_ms=exchange.milliseconds, is_closed=lambda: self._is_closed)

    def _closed_bars(self, symbol: str, timeframe: str, since_ms: int | None) -> ClosedBars:
        self._require_timeframe(timeframe)

        async def fetch(since_ms: int | None) -> Sequence[Ohlcv]:
            return await self.fetch_ohlcv(symbol, timeframe, since_ms, None)

        return ClosedBars(
            fetch,
            what=f"{self.venue} {symbol} {timeframe}",
            interval_ms=timeframe_ms(timeframe),
            next_ms=since_ms,
        )

    @property
    def _is_closed(self) -> bool:
        return bool(self._exchange.closed_by_user)

    def _require_timeframe(self, timeframe: str) -> None:
        known = self._exchange.timeframes or {}
        if timeframe not in known:
            raise NotSupportedError(
                f"{self.venue} has no bars of {timeframe!r}, only {', '.join(known)}"
            )

    async def close(self) -> None:
        """Close every connection; the connector cannot be used afterwards."""
        await self._exchange.close()

    def _require(self, method: str) -> None:
        if method not in self.capabilities:
            raise self._unsupported(method)

    def _require_credentials(self) -> None:
        if not self._credentials:
            raise AuthenticationError(
                f"{self.venue}: no API key, so nothing was sent. {self._key_advice()}"
            )

    def _key_advice(self) -> str:
        prefix = self.name.upper()
        return (
            f"Pass api_key and api_secret, or set {prefix}_API_KEY and {prefix}_API_SECRET in "
            f"the environment or in a .env file."
        )

    async def _instrument(self, symbol: str) -> Instrument:
        if not self._instruments:
            await self.load_instruments()
        return self._known_instrument(symbol)

    def _known_instrument(self, symbol: str) -> Instrument:
        instrument = self._instruments.get(symbol)
        if instrument is None:
            pair = symbol.partition(":")[0]
            near = next((k for k in self._instruments if k.partition(":")[0] == pair), None)
            hint = f", but {near!r}" if near else ""
            raise UnknownSymbolError(
                f"{self.venue} does not trade {symbol!r}{hint}; nothing was sent"
            )
        return instrument

    async def _loaded(self, symbol: str | None) -> None:
        if symbol is None:
            await self.load_instruments()
        else:
            await self._instrument(symbol)

    def _texts(self, request: OrderRequest) -> tuple[str, str | None]:
        """Return amount and price as CCXT will send them, having made sure that it is the same."""
        exchange = self._exchange
        texts = {"amount": plain(request.amount)}
        written = {"amount": exchange.amount_to_precision(request.symbol, texts["amount"])}
        if request.price is not None:
            texts["price"] = plain(request.price)
            written["price"] = exchange.price_to_precision(request.symbol, texts["price"])
        for field, text in texts.items():
            if Decimal(written[field]) != Decimal(text):
                raise InvalidOrderError(
                    f"{field} {text} of {request.symbol} would be sent as {written[field]}: "
                    f"round it before; nothing was sent"
                )
        return texts["amount"], texts.get("price")

    @contextlib.contextmanager
    def _call(self, what: str, *, is_write: bool) -> Iterator[None]:
        """Translate every error of what is done inside, once, and log it."""
        with calling(is_write=is_write) as call:
            try:
                yield
            except BagbotError as error:
                self._log(what, error)
                raise
            # Whatever goes wrong once an order has left, even while its answer is read, leaves
            # its outcome unknown; no list of exceptions could be complete here.
            except Exception as error:
                if not call.was_sent and not isinstance(error, ccxt.BaseError):
                    raise  # Nothing is in doubt: it is a mistake of ours, and shows itself.
                redact(error, *self._secrets)
                translated = self._translated(what, call, error)
                self._log(what, translated)
                raise translated from error

    def _translated(self, what: str, call: Call, error: Exception) -> BagbotError:
        answer: Answer | None = getattr(error, "answer", None)
        if answer is None and not call.was_sent:
            if isinstance(error, ccxt.NotSupported):
                return NotSupportedError(f"{self.venue}: {what}: {error}; nothing was sent")
            if isinstance(error, ccxt.AuthenticationError):
                return AuthenticationError(f"{self.venue}: {error}. {self._key_advice()}")
            if not isinstance(error, ccxt.OperationFailed | ccxt.ExchangeClosedByUser):
                return InvalidOrderError(f"{self.venue}: {what}: {error}; nothing was sent")
        words, code = _plain_words(error), None
        if answer is not None:
            code, said = self._code_and_words(answer)
            # An exchange may repeat what it was sent, the key for one.
            words = redacted(said, *self._secrets) or words
        translated = to_error(
            Failure(
                what=f"{self.venue}: {what}",
                is_write=call.is_write,
                was_sent=call.was_sent,
                words=words,
                code=code,
                http_status=None if answer is None else answer.http_status,
                retry_after_s=None if answer is None else wait_s(answer),
                ccxt_error=error,
            ),
            self._classify,
        )
        if isinstance(translated, AuthenticationError):
            translated.args = (f"{translated} {self._key_advice()}",)
        return translated

    def _code_and_words(self, answer: Answer) -> tuple[int | str | None, str]:
        """Return the exchange's own code and words; exchanges differ, so none may be found."""
        return None, answer.body[:500]

    def _classify(self, failure: Failure) -> Verdict:
        """Return what CCXT's class says about an answer; never about silence or a 5xx."""
        if not failure.is_answered_without_doubt:
            return None
        for ccxt_class, verdict in _BY_CLASS:
            if isinstance(failure.ccxt_error, ccxt_class):
                if verdict is OrderRejectedError and not failure.is_write:
                    return ExchangeError
                return verdict
        return None

    @property
    def _secrets(self) -> tuple[str | None, ...]:
        exchange = self._exchange
        return exchange.apiKey, exchange.secret, exchange.password

    def _log(self, what: str, error: BagbotError) -> None:
        logger.warning(
            "exchange call failed",
            venue=self.venue,
            call=what,
            error=type(error).__name__,
            detail=str(error),
            code=getattr(error, "code", None),
            http_status=getattr(error, "http_status", None),
        )


def new_client_order_id() -> str:
    """Return an id for an order whose caller gave none: it can be looked up when in doubt."""
    return f"manual-{secrets.token_hex(12)}"


def plain(number: Decimal) -> str:
    """Return a number as exchanges want it: no exponent, no zeros at the end.

    >>> plain(Decimal("1E-7")), plain(Decimal("20000.00"))
    ('0.0000001', '20000')
    """
    return f"{number.normalize():f}"


def require_steps(request: OrderRequest, instrument: Instrument) -> None:
    """Raise InvalidOrderError unless amount and price are on the exchange's steps.

    A connector must not change money in silence: whoever orders rounds first.
    """
    lot, amount = instrument.lot_size, request.amount
    if amount % lot:
        nearest = instrument.round_quantity_down(amount)
        raise InvalidOrderError(
            f"amount {plain(amount)} of {request.symbol} is not a multiple of the lot "
            f"{plain(lot)}; the nearest below is {plain(nearest)}; nothing was sent"
        )
    tick, price = instrument.tick_size, request.price
    if price is not None and price % tick:
        nearest = instrument.round_price(price, request.side)
        raise InvalidOrderError(
            f"price {plain(price)} of {request.symbol} is not a multiple of the tick "
            f"{plain(tick)}; the nearest that is not worse is {plain(nearest)}; nothing was sent"
        )
    trigger = request.trigger_price
    if trigger is not None and trigger % tick:
        nearest = instrument.round_trigger(trigger)
        raise InvalidOrderError(
            f"trigger {plain(trigger)} of {request.symbol} is not a multiple of the tick "
            f"{plain(tick)}; the nearest is {plain(nearest)}; nothing was sent"
        )


def require_as_asked(order: ExchangeOrder, request: OrderRequest, client_order_id: str) -> None:
    """Raise OutcomeUnknownError when the answer is about another order than was asked for."""
    told = {
        "client order id": (order.client_order_id, client_order_id),
        "symbol": (order.symbol, request.symbol),
        "side": (order.side, request.side),
        "amount": (order.amount, request.amount),
        "price": (order.price, request.price or order.price),
        "trigger price": (order.trigger_price, request.trigger_price or order.trigger_price),
        "trailing delta": (order.trailing_delta, request.trailing_delta or order.trailing_delta),
    }
    different = [
        f"{name} {answered} instead of {asked}"
        for name, (answered, asked) in told.items()
        if answered is not None and answered != asked
    ]
    if different or not order.id:
        raise OutcomeUnknownError(
            f"order {client_order_id} for {request.symbol}: the answer names "
            f"{', '.join(different) or 'no order id'}. It may have been accepted: look it up"
        )


def _plain_words(error: Exception) -> str:
    if isinstance(error, ccxt.RequestTimeout):
        return "no answer in time"
    if isinstance(error, ccxt.BaseError):
        # Behind CCXT's words for a broken connection, method and address, is what really happened.
        cause = error.__cause__
        return f"{type(cause).__name__}: {cause}" if cause is not None else str(error)
    return f"the answer could not be read ({type(error).__name__}: {error})"

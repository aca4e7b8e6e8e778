"""What every exchange connector offers: four methods it must have, and more that it may have.

The words are CCXT's (symbols like "BTC/USDT", sides "buy" and "sell"); the results are frozen
dataclasses and every amount is a Decimal.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

from bagbot.domain.errors import InvalidOrderError, NotSupportedError, OutcomeUnknownError
from bagbot.domain.events import Fill
from bagbot.domain.instrument import Instrument, Side
from bagbot.domain.ohlcv import Ohlcv
from bagbot.domain.order import OrderRequest, decimal_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """What an account holds of one asset: `free` to trade with, `used` by open orders."""

    asset: str
    free: Decimal
    used: Decimal

    @property
    def total(self) -> Decimal:
        """Free and used together."""
        return self.free + self.used


class ExchangeOrderStatus(StrEnum):
    """An order's state at the exchange, in CCXT's words; `closed` is filled as a whole."""

    OPEN = "open"
    CLOSED = "closed"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeOrder:
    """An order as the exchange tells it.

    `client_order_id` is the order's own, also after a cancel (Binance renames then). `fills` are
    the executions that came with this answer or event, not necessarily all there are; `filled` is
    the exchange's total. `info` is the raw answer.
    """

    id: str
    symbol: str
    status: ExchangeOrderStatus
    client_order_id: str | None = None
    side: Side | None = None
    type: str | None = None
    amount: Decimal | None = None
    price: Decimal | None = None
    filled: Decimal = Decimal(0)
    average: Decimal | None = None
    fills: Sequence[Fill] = ()
    exchange_time_ns: int = 0
    reason: str = ""
    info: Mapping[str, object] = field(default_factory=dict)
    trigger_price: Decimal | None = None
    trailing_delta: int | None = None
    has_triggered: bool | None = None
    """Whether it has become what it waited to be; None where the exchange does not say."""

    @classmethod
    def from_ccxt(cls, told: Mapping[str, object], request: OrderRequest) -> Self:
        """Return the typed order for a mapping in CCXT's words, as a simple connector answers.

        What it leaves out is taken from `request`. Raises OutcomeUnknownError when it has no id,
        or a number or status that is none.
        """
        if told.get("id") in (None, ""):
            raise OutcomeUnknownError(
                f"the answer to the order {request.client_order_id} for {request.symbol} has no id"
            )
        average, price = told.get("average"), told.get("price")
        try:
            return cls(
                id=str(told["id"]),
                symbol=str(told.get("symbol") or request.symbol),
                status=ExchangeOrderStatus(str(told.get("status") or "open")),
                client_order_id=request.client_order_id,
                side=request.side,
                amount=request.amount,
                price=None if price is None else decimal_from("price", price),
                filled=decimal_from("filled", told.get("filled") or 0),
                average=None if average is None else decimal_from("average", average),
                info=told,
            )
        except (InvalidOrderError, ValueError) as error:
            # It is the answer that is wrong, not the order: that may rest or have traded.
            raise OutcomeUnknownError(
                f"the answer to the order {request.client_order_id} for {request.symbol} cannot "
                f"be read: {error}"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One execution of the account's own, and the order it belongs to."""

    symbol: str
    side: Side
    exchange_order_id: str
    fill: Fill


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangePosition:
    """An open futures position; `quantity` is in the base asset, negative when short."""

    symbol: str
    quantity: Decimal
    entry_price: Decimal
    mark_price: Decimal | None = None
    unrealised_pnl: Decimal | None = None
    leverage: Decimal | None = None
    liquidation_price: Decimal | None = None
    info: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticker:
    """The market now: best prices and the last trade's, where the exchange states them."""

    symbol: str
    bid: Decimal | None
    ask: Decimal | None
    last: Decimal | None
    exchange_time_ns: int = 0


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The account's event stream is up (again); what happened before must be asked for."""


@dataclass(frozen=True, slots=True)
class StreamLost:
    """The account's event stream is down; events may be missed until it is up again."""

    reason: str


SendOrder = Callable[[], Awaitable[ExchangeOrder]]
AccountEvent = ExchangeOrder | StreamOpened | StreamLost

_OPTIONAL: Final = (
    "fetch_ticker",
    "fetch_tickers",
    "fetch_order",
    "fetch_open_orders",
    "fetch_orders",
    "fetch_my_trades",
    "fetch_ohlcv",
    "load_instruments",
    "watch_closed_bars",
    "watch_events",
    "close",
)


class IExchangeConnector(ABC):
    """A connection to one account on one exchange.

    A class that defines the four abstract methods can trade. Everything further raises
    NotSupportedError until it is overridden, and `capabilities` names what is there.

    Every method raises `bagbot.domain.errors.ExchangeError` in the class that says what to do.
    """

    name: str = "exchange"
    cancel_id_param: str | None = None
    """The param of `cancel_order` that takes our id for the cancel itself, where there is one."""
    trades_are_complete: bool = False
    """Whether `fetch_my_trades` leaves nothing out, from a trade id on, exact to its fees.

    Then what the account holds can be checked against its trades, and it is.
    """

    @abstractmethod
    async def fetch_balance(self) -> Mapping[str, Balance]:
        """Return what the account holds, by asset."""

    @abstractmethod
    async def create_order(
        self, order_payload: Mapping[str, object] | OrderRequest
    ) -> ExchangeOrder:
        """Send one order, once, and return it as the exchange accepted it.

        Raises OutcomeUnknownError whenever the order may have been accepted all the same.
        """

    @abstractmethod
    async def cancel_order(
        self,
        order_id: str,
        symbol: str | None = None,
        params: Mapping[str, object] | None = None,
    ) -> ExchangeOrder:
        """Cancel an order by the exchange's id and return it as it ended.

        Raises OrderNotFoundError when it is not open (any more).
        """

    @abstractmethod
    async def fetch_positions(self) -> Sequence[ExchangePosition]:
        """Return the open positions; empty where there is no margin, as on spot."""

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """What can be traded, by symbol, as it was loaded last; empty where that is not known.

        An exchange changes its rules while we trade; a connector that loads them anew says so here.
        """
        return {}

    @property
    def capabilities(self) -> frozenset[str]:
        """The names of the optional methods that this connector really has."""
        own = type(self)
        return frozenset(
            name
            for name in _OPTIONAL
            if getattr(own, name) is not getattr(IExchangeConnector, name)
        )

    def stamp(self) -> Mapping[str, int]:
        """Return what each order is stamped with, to be recorded before it is sent.

        On Binance `timestamp` (ms, the exchange's clock) and `recvWindow` (ms): together they are
        the fence after which an order that has not arrived will not be taken any more. Empty when
        the exchange has no such thing.
        """
        return {}

    def token_params(self, token_id: str) -> Mapping[str, object]:
        """Return the params that let an order be executed only by cancelling the order `token_id`.

        Empty where the exchange has no such thing; then there are no tokens.
        """
        del token_id
        return {}

    def prepare_order(self, order_payload: Mapping[str, object]) -> SendOrder:
        """Return a call that sends this order; all that can be done before is done now.

        Nothing leaves before the call is made. It is `create_order` in two steps, for a caller
        who has to wait for something else in between; raises what `create_order` would.
        """

        async def send() -> ExchangeOrder:
            return await self.create_order(order_payload)

        return send

    async def fetch_ticker(self, symbol: str) -> Ticker:
        """Return the market's prices now."""
        raise self._unsupported("fetch_ticker")

    async def fetch_tickers(self, symbols: Sequence[str]) -> Mapping[str, Ticker]:
        """Return the prices of several markets with one request."""
        raise self._unsupported("fetch_tickers")

    async def fetch_order(
        self,
        order_id: str | None,
        symbol: str | None = None,
        *,
        client_order_id: str | None = None,
    ) -> ExchangeOrder:
        """Return one order, by the exchange's id or by ours.

        Raises OrderNotFoundError when the exchange does not know it (yet).
        """
        raise self._unsupported("fetch_order")

    async def fetch_open_orders(self, symbol: str | None = None) -> Sequence[ExchangeOrder]:
        """Return the orders that rest at the exchange."""
        raise self._unsupported("fetch_open_orders")

    async def fetch_orders(
        self, symbol: str, *, since_ms: int | None = None
    ) -> Sequence[ExchangeOrder]:
        """Return the account's orders of one symbol, open and ended, oldest first."""
        raise self._unsupported("fetch_orders")

    async def fetch_my_trades(
        self, symbol: str, *, order_id: str | None = None, from_trade_id: str | None = None
    ) -> Sequence[Trade]:
        """Return the account's executions, oldest first: of one order, or from a trade id on."""
        raise self._unsupported("fetch_my_trades")

    async def fetch_ohlcv(
        self,
        symbol: str,
        timeframe: str = "1m",
        since_ms: int | None = None,
        limit: int | None = None,
    ) -> Sequence[Ohlcv]:
        """Return bars, oldest first: from `since_ms` on, or the newest; one request's worth.

        The last one may still be running: a bar is certainly whole only when a later one stands
        in the same answer.
        """
        raise self._unsupported("fetch_ohlcv")

    def watch_closed_bars(
        self, symbol: str, timeframe: str, *, since_ms: int | None = None
    ) -> AsyncIterator[Ohlcv]:
        """Return the bars as they close, for ever: each once, in order, none left out.

        From the one that opens at `since_ms` on, however long ago that was; without it from the
        one that is running now. What a lost connection has not told is asked for.
        """
        raise self._unsupported("watch_closed_bars")

    async def load_instruments(self) -> Mapping[str, Instrument]:
        """Return what can be traded, by symbol."""
        raise self._unsupported("load_instruments")

    def watch_events(self) -> AsyncIterator[AccountEvent]:
        """Return the account's own events as they happen, for ever.

        A StreamOpened comes first and after each reconnect, a StreamLost at each loss.
        """
        raise self._unsupported("watch_events")

    def renew_stream(self) -> None:  # noqa: B027 - most need not be told.
        """Open the account's event stream anew: it has kept something to itself."""

    async def close(self) -> None:  # noqa: B027 - having nothing to close is a good default.
        """Close every connection; a connector without any needs nothing."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _unsupported(self, what: str) -> NotSupportedError:
        return NotSupportedError(f"{self.name} does not support {what}; see its capabilities")

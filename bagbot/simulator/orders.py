"""Orders, commands and what happens to orders: the vocabulary of the exchange core.

Amounts are whole numbers of 1e-8. Times are wire time in nanoseconds; `market_time_ms` is the
market's own clock, which runs faster when recorded bars are played fast.

What is made anew with every order is a msgspec Struct: a frozen dataclass takes five times as long.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

MARKET_ACCOUNT = 0
"""The account behind the market's own quotes: it never runs out, and nobody can log in to it."""


class OrderType(StrEnum):
    """The order types served. The last four are stops: they wait for the price to touch them."""

    LIMIT = "LIMIT"
    LIMIT_MAKER = "LIMIT_MAKER"
    MARKET = "MARKET"
    STOP_LOSS = "STOP_LOSS"
    STOP_LOSS_LIMIT = "STOP_LOSS_LIMIT"
    TAKE_PROFIT = "TAKE_PROFIT"
    TAKE_PROFIT_LIMIT = "TAKE_PROFIT_LIMIT"

    @property
    def is_stop(self) -> bool:
        """Return whether an order of this type waits until a trade touches it."""
        return self in _STOP_TYPES

    @property
    def has_limit(self) -> bool:
        """Return whether an order of this type has a price of its own."""
        return self not in _MARKET_TYPES


# Tuples: members of an enumeration are slow to hash.
_STOP_TYPES = (
    OrderType.STOP_LOSS,
    OrderType.STOP_LOSS_LIMIT,
    OrderType.TAKE_PROFIT,
    OrderType.TAKE_PROFIT_LIMIT,
)
_MARKET_TYPES = (OrderType.MARKET, OrderType.STOP_LOSS, OrderType.TAKE_PROFIT)


class TimeInForce(StrEnum):
    """How long an order may rest: until cancelled, not at all, or all of it at once."""

    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class Prevention(StrEnum):
    """What happens when an order would trade with another one of the same account."""

    NONE = "NONE"
    EXPIRE_TAKER = "EXPIRE_TAKER"
    EXPIRE_MAKER = "EXPIRE_MAKER"
    EXPIRE_BOTH = "EXPIRE_BOTH"
    DECREMENT = "DECREMENT"


class Contingency(StrEnum):
    """How the orders of a list depend on each other; an OTOCO is an OTO with two pending."""

    OCO = "OCO"
    OTO = "OTO"


class OrderStatus(StrEnum):
    """Where an order is in its life."""

    PENDING_NEW = "PENDING_NEW"
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    EXPIRED_IN_MATCH = "EXPIRED_IN_MATCH"


_OPEN_STATUSES = (OrderStatus.PENDING_NEW, OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


class ExpiryReason(StrEnum):
    """Why an order expired, in Binance's words."""

    UNFILLED_IOC = "UNFILLED_IOC_QUANTITY_EXPIRED"
    UNFILLED_FOK = "UNFILLED_FOK_ORDER_EXPIRED"
    INSUFFICIENT_LIQUIDITY = "INSUFFICIENT_LIQUIDITY"
    PRICE_RANGE_EXCEEDED = "EXECUTION_RULE_PRICE_RANGE_EXCEEDED"
    REJECTED = "REJECTED"
    EXCHANGE_CANCELED = "EXCHANGE_CANCELED"
    OCO_TRIGGER = "OCO_TRIGGER"
    OTO_PHASE_ONE_EXPIRED = "OTO_PHASE_ONE_EXPIRED"


class Refusal(StrEnum):
    """Why the matching engine said no, in Binance's words."""

    DUPLICATE_ORDER = "Duplicate order sent."
    INSUFFICIENT_BALANCE = "Account has insufficient balance for requested action."
    WOULD_TAKE = "Order would immediately match and take."
    ICEBERG_EXCEEDS = "IcebergQty exceeds QTY."
    OCO_PRICES = "The relationship of the prices for the orders is not correct."
    WOULD_TRIGGER = "Order would trigger immediately."
    NO_LIQUIDITY = "Order book liquidity is less than symbol minimum quantity."
    LIQUIDITY_BELOW_LOT = "Order book liquidity is less than `LOT_SIZE` filter minimum quantity."
    ZERO_NOTIONAL = "Price * QTY is zero or less."
    UNKNOWN_ORDER = "Unknown order sent."
    CANCEL_RESTRICTED = "Order was not canceled due to cancel restrictions."
    PRICE_FILTER = "Filter failure: PRICE_FILTER"
    PERCENT_PRICE_BY_SIDE = "Filter failure: PERCENT_PRICE_BY_SIDE"
    LOT_SIZE = "Filter failure: LOT_SIZE"
    MARKET_LOT_SIZE = "Filter failure: MARKET_LOT_SIZE"
    NOTIONAL = "Filter failure: NOTIONAL"
    ICEBERG_PARTS = "Filter failure: ICEBERG_PARTS"
    TRAILING_DELTA = "Filter failure: TRAILING_DELTA"
    MARKET_CLOSED = "Market is closed."
    MAX_NUM_ORDERS = "Filter failure: MAX_NUM_ORDERS"
    MAX_NUM_ALGO_ORDERS = "Filter failure: MAX_NUM_ALGO_ORDERS"
    MAX_NUM_ORDER_LISTS = "Filter failure: MAX_NUM_ORDER_LISTS"


class OrderRefusedError(Exception):
    """The exchange refuses a new order; nothing changed."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class CancelRefusedError(Exception):
    """The exchange refuses a cancellation; nothing changed."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value)
        self.refusal = refusal


class PlaceOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A wish to trade, already checked for form. Exactly one of the two quantities is set."""

    account_id: int
    symbol: str
    is_buy: bool
    type: OrderType
    time_in_force: TimeInForce = TimeInForce.GTC
    price: int = 0
    quantity: int = 0
    quote_quantity: int = 0
    stop_price: int = 0
    # In basis points; zero for a stop that does not follow the market.
    trailing_delta: int = 0
    # How much of it the book shows at a time; zero for all.
    iceberg_quantity: int = 0
    prevention: Prevention = Prevention.NONE
    client_order_id: str = ""
    strategy_id: int | None = None
    strategy_type: int | None = None


class CancelOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A wish to cancel one order, found by its id (checked against the client id) or client id."""

    account_id: int
    symbol: str
    order_id: int | None = None
    client_order_id: str | None = None
    cancel_id: str = ""
    restriction: OrderStatus | None = None


class Order(msgspec.Struct, kw_only=True):
    """One order. Mutable, and changed by the exchange core alone."""

    order_id: int
    account_id: int
    symbol: str
    is_buy: bool
    type: OrderType
    time_in_force: TimeInForce
    price: int
    quantity: int
    remaining: int
    quote_quantity: int = 0
    client_order_id: str = ""
    status: OrderStatus = OrderStatus.NEW
    executed_quote: int = 0
    locked: int = 0
    time_ns: int = 0
    update_time_ns: int = 0
    market_time_ms: int = 0
    expiry_reason: ExpiryReason | None = None
    strategy_id: int | None = None
    strategy_type: int | None = None
    # The cancellation's own id, which its reply and its event name beside the order's.
    cancel_id: str = ""
    stop_price: int = 0
    trailing_delta: int = 0
    # The highest (sell) or lowest (buy) price since a trailing stop follows; zero before.
    trailing_extreme: int = 0
    trailing_time_ns: int = 0
    # A stop does not work before it is touched; then it does so from `released_ns` on.
    is_working: bool = True
    released_ns: int = 0
    # At one price the order with the smaller number is first.
    queue_number: int = 0
    prevention: Prevention = Prevention.NONE
    # How much was kept from trading with the account's own orders, and the last time of that.
    prevented: int = 0
    prevented_match_id: int | None = None
    # The list the order belongs to; -1 for an order of its own.
    list_id: int = -1
    iceberg_quantity: int = 0
    # The part of `remaining` that the book does not show yet.
    hidden: int = 0

    @property
    def shown(self) -> int:
        """Return how much of the order the book shows."""
        return self.remaining - self.hidden

    @property
    def executed(self) -> int:
        """Return how much has traded. After the end `remaining` keeps what never traded."""
        return self.quantity - self.remaining - self.prevented

    @property
    def working_ns(self) -> int | None:
        """Return since when the order works, or None while it waits or if it never did."""
        return (self.released_ns or self.time_ns) if self.is_working else None

    @property
    def is_open(self) -> bool:
        """Return whether the order can still trade."""
        return self.status in _OPEN_STATUSES


@dataclass(slots=True, kw_only=True)
class OrderList:
    """One list. Mutable, and changed by the exchange core alone."""

    list_id: int
    account_id: int
    symbol: str
    client_list_id: str
    contingency: Contingency
    time_ns: int
    update_time_ns: int
    working_id: int | None = None
    # Order ids and client ids, as placed.
    orders: list[tuple[int, str]] = field(default_factory=list)
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class OrderListEvent:
    """A list has begun or ended."""

    order_list: OrderList
    is_done: bool
    time_ns: int


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One side of one trade, as the account that took part sees it."""

    trade_id: int
    account_id: int
    symbol: str
    order_id: int
    client_order_id: str
    is_buyer: bool
    is_maker: bool
    price: int
    quantity: int
    quote_quantity: int
    commission: int
    commission_asset: str
    time_ns: int
    market_time_ms: int
    list_id: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class PreventedMatch:
    """A trade of an account with itself that did not happen, and what each order lost by it."""

    match_id: int
    taker_order_id: int
    maker_order_id: int
    price: int
    # What would have traded.
    quantity: int
    taker_prevented: int
    maker_prevented: int


class TradePrint(msgspec.Struct, frozen=True):
    """One trade on the public tape."""

    trade_id: int
    symbol: str
    price: int
    quantity: int
    time_ns: int
    buyer_is_maker: bool


class OrderEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to an order, with the order as it was right then.

    `kind` is Binance's execution type, and RELEASED for a stop that goes live.
    """

    event_id: int
    kind: str
    order: Order
    status: OrderStatus
    executed: int
    executed_quote: int
    time_ns: int
    is_on_book: bool
    working_ns: int | None
    execution: Execution | None = None
    prevented: int = 0
    prevented_match: PreventedMatch | None = None
    reject_reason: str = "NONE"


class TransferEvent(msgspec.Struct, frozen=True):
    """What came into an account from outside the exchange, or went out if it is negative."""

    account_id: int
    asset: str
    amount: int
    time_ns: int


class Changes(msgspec.Struct):
    """Everything one command changed: what must be stored, then answered and streamed."""

    events: list[OrderEvent | OrderListEvent | TransferEvent] = msgspec.field(default_factory=list)
    orders: dict[int, Order] = msgspec.field(default_factory=dict)
    lists: dict[int, OrderList] = msgspec.field(default_factory=dict)
    executions: list[Execution] = msgspec.field(default_factory=list)
    prints: list[TradePrint] = msgspec.field(default_factory=list)
    balances: dict[tuple[int, str], None] = msgspec.field(default_factory=dict)
    books: dict[str, None] = msgspec.field(default_factory=dict)

    @property
    def is_durable(self) -> bool:
        """Return whether an account is touched, so that the store must hear of it."""
        return bool(self.orders or self.balances)

"""The shapes of requests and answers, for the OpenAPI page; every number is a text.

Bodies are read by `order_body` and `tradingview_alert`, answers are made by `views`: on the way
of an order nothing is done twice. Tests hold both to what is written here.
"""

from http import HTTPStatus
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bagbot.domain.order import OrderStatus

Number = Annotated[
    str, Field(pattern=r"^-?\d+(\.\d+)?$", examples=["0.015"], description="Plain digits.")
]
NumberIn = Annotated[
    str | int | float,
    Field(examples=["0.015"], description="Text or JSON number; read exactly, digit by digit."),
]
Time = Annotated[str, Field(examples=["2026-03-01T12:00:00.000000Z"], description="ISO 8601, UTC.")]


OrderTypeName = Literal[
    "market", "limit", "stop_loss", "stop_loss_limit", "take_profit", "take_profit_limit"
]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OrderBody(_Shape):
    """An order to place."""

    symbol: str = Field(examples=["BTC/USDT"], description="BTC/USDT or BTCUSDT.")
    side: Literal["buy", "sell"]
    type: OrderTypeName
    amount: NumberIn = Field(description="In the base asset; rounded down to whole lots.")
    price: NumberIn | None = Field(
        None, description="The limit, in the quote asset: limit and *_limit orders only."
    )
    triggerPrice: NumberIn | None = Field(  # noqa: N815 - CCXT's word.
        None,
        description="Where a stop_loss* or take_profit* order begins to act; rounded to the "
        "nearest tick. `stopPrice` and `trigger_price` are understood too.",
    )
    trailingDelta: int | str | None = Field(  # noqa: N815 - Binance's word.
        None,
        description="Basis points by which the market must come back from its best price for a "
        "stop_loss* or take_profit* order to act; `trailing_delta` is understood too.",
    )
    timeInForce: Literal["GTC", "IOC", "FOK", "PO"] | None = Field(  # noqa: N815 - CCXT's word.
        None, description="With a price only; `time_in_force` is understood too."
    )


class RefusalView(_Shape):
    """Which risk rule said no to which value."""

    rule: str
    value: str
    limit: str
    message: str


class FillView(_Shape):
    """One execution."""

    trade_id: str
    quantity: Number
    price: Number
    fee: Number
    fee_asset: str
    is_maker: bool
    executed_at: Time


class BookedFillView(FillView):
    """One execution and the order it belongs to."""

    order_id: str
    symbol: str
    side: Literal["buy", "sell"]
    recorded_at: Time


class OrderView(_Shape):
    """An order as far as it is known."""

    id: str
    client_order_id: str | None = Field(description="Its id at the exchange, given by us.")
    exchange_order_id: str | None = Field(description="Its id at the exchange, given by it.")
    account: str
    symbol: str
    side: Literal["buy", "sell"]
    type: OrderTypeName
    amount: Number
    price: Number | None
    time_in_force: Literal["GTC", "IOC", "FOK", "PO"] | None
    trigger_price: Number | None
    trailing_delta: int | None = Field(description="In basis points.")
    filled: Number
    remaining: Number
    average: Number | None = Field(description="Rounded to 12 decimals, half to even.")
    fees: dict[str, Number] = Field(description="By asset.")
    status: OrderStatus
    reason: str | None = Field(description="Why it has this status, where that is known.")
    refusal: RefusalView | None
    note: str = Field(description="What was rounded or left out of what was asked.")
    source: str
    created_at: Time
    updated_at: Time


class OrderWithFillsView(OrderView):
    """An order and its fills."""

    fills: list[FillView]


class PositionView(_Shape):
    """What our fills left in one symbol; flat ones stay listed with what they earned."""

    account: str
    symbol: str
    quantity: Number = Field(description="Negative when short; net of fees in the base asset.")
    average_price: Number = Field(description="Rounded to 12 decimals, half to even.")
    realised_pnl: Number = Field(description="In the quote asset, before fees; 12 decimals.")
    fees: dict[str, Number]


class BalanceView(_Shape):
    """What the exchange says the account holds of one asset."""

    asset: str
    free: Number
    used: Number
    total: Number


class OrderPage(_Shape):
    """Orders, newest first."""

    items: list[OrderView]
    next: str | None = Field(description="Give it as `after` for the next page.")


class FillPage(_Shape):
    """Fills, newest first."""

    items: list[BookedFillView]
    next: str | None = Field(description="Give it as `after` for the next page.")


class PositionPage(_Shape):
    """Positions, by symbol."""

    items: list[PositionView]
    next: None


class BalancePage(_Shape):
    """Balances that are not zero, by asset."""

    items: list[BalanceView]
    next: None


class KillSwitchBody(_Shape):
    """Why the kill switch is turned on."""

    reason: str | None = Field(None, max_length=200)


class WriteOffBody(_Shape):
    """Why an order is written off."""

    reason: str = Field(max_length=200)


class KillSwitchView(_Shape):
    """Whether the kill switch is on, and why.

    `disputes` names the symbols that may only be reduced, because what the exchange told of an
    order contradicted itself; turning the kill switch off says that a human has looked.
    """

    is_on: bool
    reason: str | None
    disputes: dict[str, str]


class HealthView(_Shape):
    """The process runs, or takes orders."""

    status: Literal["live", "ready"]


class AlertBody(BaseModel):
    """A TradingView alert; fields that are not listed are ignored."""

    model_config = ConfigDict(extra="allow")

    secret: str
    ticker: str = Field(description="`symbol` too. BTCUSDT, BINANCE:BTCUSDT or BTC/USDT.")
    action: Literal["buy", "sell"] | None = Field(
        None, description="`side` too. Needed without market_position."
    )
    amount: NumberIn | None = Field(None, description="`contracts`, `quantity`, `qty` too.")
    market_position: Literal["long", "short", "flat"] | None = Field(
        None, description="When given, the order is what is missing to this position."
    )
    market_position_size: NumberIn | None = None
    prev_market_position: Literal["long", "short", "flat"] | None = None
    prev_market_position_size: NumberIn | None = None
    type: Literal["market", "limit"] = Field("market", description="`order_type` too.")
    price: NumberIn | None = Field(None, description="The limit; ignored unless type is limit.")
    time_in_force: Literal["GTC", "IOC", "FOK", "PO"] | None = Field(
        None, description="Limit orders only."
    )
    id: str | None = Field(None, description="Makes a repeat a repeat, for ever.")
    strategy: str | None = None
    order_id: str | None = None
    interval: str | None = None
    time: str | None = Field(None, description="Of the bar; part of the identity.")
    timenow: str | None = Field(None, description="When it was triggered; old ones are refused.")


class AlertAnswer(_Shape):
    """What an alert led to."""

    status: Literal["accepted", "repeat", "refused", "nothing_to_do"]
    order_id: str | None
    message: str
    order: OrderView | None


class ProblemView(BaseModel):
    """What went wrong and what to do (RFC 9457); some have more members than these."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return what the OpenAPI page says of a route's errors."""
    schema = {"schema": ProblemView.model_json_schema()}
    content = {"application/problem+json": schema}
    told: dict[int | str, dict[str, Any]] = {
        code: {"description": HTTPStatus(code).phrase, "content": content} for code in codes
    }
    return {**told, "default": {"description": "Any other error", "content": content}}

"""Order lists read from a request: each order's parameters carry the prefix of its role.

Choices where Binance's documents are silent: the reply is a RESULT unless asked otherwise, as in
all their samples; a working order of another type is refused as an invalid order type.
"""

from bagbot.simulator.binance_errors import INVALID_ORDER_TYPE, INVALID_SIDE, BinanceError
from bagbot.simulator.binance_wire import (
    RESPONSE_TYPES,
    SIDES,
    Parameters,
    read_order,
    read_prevention,
)
from bagbot.simulator.order_lists import PlaceOrderList
from bagbot.simulator.orders import OrderType, PlaceOrder, Prevention
from bagbot.simulator.stop_orders import LOSS_TYPES

_PROFIT_TYPES = (OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT)
_PAIR_TYPES = {kind.value: kind for kind in (OrderType.LIMIT_MAKER, *_PROFIT_TYPES, *LOSS_TYPES)}
_WORKING_TYPES = {kind.value: kind for kind in (OrderType.LIMIT, OrderType.LIMIT_MAKER)}
_FOLLOWING_TYPES = {kind.value: kind for kind in OrderType}
_NOT_IN_OCO = (-1158, "Order type not supported in OCO.")
_BOTH_LIMIT = (-1168, "At least one OCO order must be contingent.")
# By whether the OCO buys: what must be below or above, and how its absence is refused.
_MISPLACED = {
    True: {
        OrderType.LIMIT_MAKER: (-1165, "A limit order in a buy OCO must be below."),
        OrderType.STOP_LOSS: (-1196, "A stop loss order in a buy OCO must be above."),
        OrderType.TAKE_PROFIT: (-1198, "A take profit order in a buy OCO must be below."),
    },
    False: {
        OrderType.LIMIT_MAKER: (-1166, "A limit order in a sell OCO must be above."),
        OrderType.STOP_LOSS: (-1197, "A stop loss order in a sell OCO must be below."),
        OrderType.TAKE_PROFIT: (-1199, "A take profit order in a sell OCO must be above."),
    },
}


def read_oco(parameters: Parameters, account_id: int) -> PlaceOrderList:
    """Return the OCO that the parameters describe. Raises BinanceError."""
    symbol = parameters.symbol()
    return PlaceOrderList(
        account_id=account_id,
        symbol=symbol,
        client_list_id=parameters.client_order_id("listClientOrderId") or "",
        followers=_read_pair(
            parameters,
            account_id,
            symbol,
            side="side",
            quantity="quantity",
            prefixes=("above", "below"),
            prevention=read_prevention(parameters),
        ),
    )


def read_oto(parameters: Parameters, account_id: int) -> PlaceOrderList:
    """Return the OTO that the parameters describe. Raises BinanceError."""
    symbol = parameters.symbol()
    prevention = read_prevention(parameters)
    kind = parameters.choice("pendingType", _FOLLOWING_TYPES, INVALID_ORDER_TYPE)
    pending = read_order(
        parameters,
        account_id,
        symbol,
        kind,
        is_buy=parameters.choice("pendingSide", SIDES, INVALID_SIDE),
        quantity=parameters.amount("pendingQuantity", error="Invalid quantity."),
        prefix="pending",
        prevention=prevention,
    )
    return PlaceOrderList(
        account_id=account_id,
        symbol=symbol,
        client_list_id=parameters.client_order_id("listClientOrderId") or "",
        working=_read_working(parameters, account_id, symbol, prevention),
        followers=(pending,),
    )


def read_otoco(parameters: Parameters, account_id: int) -> PlaceOrderList:
    """Return the OTOCO that the parameters describe. Raises BinanceError."""
    symbol = parameters.symbol()
    prevention = read_prevention(parameters)
    return PlaceOrderList(
        account_id=account_id,
        symbol=symbol,
        client_list_id=parameters.client_order_id("listClientOrderId") or "",
        working=_read_working(parameters, account_id, symbol, prevention),
        followers=_read_pair(
            parameters,
            account_id,
            symbol,
            side="pendingSide",
            quantity="pendingQuantity",
            prefixes=("pendingAbove", "pendingBelow"),
            prevention=prevention,
        ),
    )


def read_list_response_type(parameters: Parameters) -> str:
    """Return ACK, RESULT or FULL."""
    return parameters.choice_or("newOrderRespType", RESPONSE_TYPES, "RESULT")


def _read_working(
    parameters: Parameters, account_id: int, symbol: str, prevention: Prevention
) -> PlaceOrder:
    return read_order(
        parameters,
        account_id,
        symbol,
        parameters.choice("workingType", _WORKING_TYPES, INVALID_ORDER_TYPE),
        is_buy=parameters.choice("workingSide", SIDES, INVALID_SIDE),
        quantity=parameters.amount("workingQuantity", error="Invalid quantity."),
        prefix="working",
        prevention=prevention,
    )


def _read_pair(
    parameters: Parameters,
    account_id: int,
    symbol: str,
    *,
    side: str,
    quantity: str,
    prefixes: tuple[str, str],
    prevention: Prevention,
) -> tuple[PlaceOrder, PlaceOrder]:
    """Return both orders of an OCO, the stop loss first."""
    is_buy = parameters.choice(side, SIDES, INVALID_SIDE)
    amount = parameters.amount(quantity, error="Invalid quantity.")
    above, below = prefixes
    kinds = {
        prefix: parameters.choice(f"{prefix}Type", _PAIR_TYPES, _NOT_IN_OCO) for prefix in prefixes
    }
    _check_places(kinds[above], kinds[below], is_buy=is_buy)
    first, second = (
        read_order(
            parameters,
            account_id,
            symbol,
            kinds[prefix],
            is_buy=is_buy,
            quantity=amount,
            prefix=prefix,
            prevention=prevention,
        )
        for prefix in ((above, below) if is_buy else (below, above))
    )
    return first, second


def _check_places(above: OrderType, below: OrderType, *, is_buy: bool) -> None:
    """Raise BinanceError unless the stop loss is on its side of the market."""
    if above is below is OrderType.LIMIT_MAKER:
        raise BinanceError(*_BOTH_LIMIT)
    stop_loss, other = (above, below) if is_buy else (below, above)
    misplaced = _MISPLACED[is_buy]
    if stop_loss is OrderType.LIMIT_MAKER:
        raise BinanceError(*misplaced[OrderType.LIMIT_MAKER])
    if other in LOSS_TYPES:
        raise BinanceError(*misplaced[OrderType.STOP_LOSS])
    if stop_loss in _PROFIT_TYPES:
        raise BinanceError(*misplaced[OrderType.TAKE_PROFIT])

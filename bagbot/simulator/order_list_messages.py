"""Order lists as Binance prints them: REST answers, WebSocket answers and events."""

from bagbot.simulator import binance_messages as messages
from bagbot.simulator.binance_messages import Message
from bagbot.simulator.list_exchange import ListPlacement
from bagbot.simulator.orders import Order, OrderList, OrderListEvent
from bagbot.simulator.time_unit import printed_time


def order_list(one: OrderList) -> Message:
    """Return a list as the queries show it."""
    return _list(one, is_done=not one.is_open) | {"orders": _orders(one)}


def list_placed(placement: ListPlacement, response_type: str) -> Message:
    """Return the reply to a new list, which tells how it began even if it is over already."""
    one = placement.order_list
    reports = [messages.placement(each, response_type) for each in placement.placements]
    return _list(one, is_done=False) | {
        "transactionTime": printed_time(one.time_ns),
        "orders": _orders(one),
        "orderReports": reports,
    }


def list_cancelled(one: OrderList, cancelled: list[Order]) -> Message:
    """Return the reply to the cancellation of a list."""
    reports = [messages.cancel_result(order) for order in cancelled]
    return order_list(one) | {"orderReports": reports}


def list_status(event: OrderListEvent, time_ns: int) -> Message:
    """Return a listStatus event."""
    one = event.order_list
    return {
        "e": "listStatus",
        "E": printed_time(time_ns),
        "s": one.symbol,
        "g": one.list_id,
        "c": one.contingency.value,
        "l": _status_type(is_done=event.is_done),
        "L": _status(is_done=event.is_done),
        "r": "NONE",
        "C": one.client_list_id,
        "T": printed_time(event.time_ns),
        "O": [{"s": one.symbol, "i": order_id, "c": name} for order_id, name in one.orders],
    }


def _list(one: OrderList, *, is_done: bool) -> Message:
    return {
        "orderListId": one.list_id,
        "contingencyType": one.contingency.value,
        "listStatusType": _status_type(is_done=is_done),
        "listOrderStatus": _status(is_done=is_done),
        "listClientOrderId": one.client_list_id,
        "transactionTime": printed_time(one.update_time_ns),
        "symbol": one.symbol,
    }


def _orders(one: OrderList) -> list[Message]:
    return [
        {"symbol": one.symbol, "orderId": order_id, "clientOrderId": name}
        for order_id, name in one.orders
    ]


def _status_type(*, is_done: bool) -> str:
    return "ALL_DONE" if is_done else "EXEC_STARTED"


def _status(*, is_done: bool) -> str:
    return "ALL_DONE" if is_done else "EXECUTING"

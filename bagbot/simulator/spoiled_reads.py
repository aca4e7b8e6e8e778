"""True answers to queries, made wrong: pure functions on what Binance would print."""

from collections.abc import Callable

Row = dict[str, object]

_ZERO = "0.00000000"


def stale(body: object) -> object:
    """Return orders as they were when they had just been accepted."""
    return _each_row(body, _as_accepted)


def without_one(body: object, client_order_id: str | None) -> object:
    """Return a list without the order that is named, or without the one in its middle."""
    if not isinstance(body, list) or not body:
        return body
    if client_order_id is None:
        middle = len(body) // 2
        return body[:middle] + body[middle + 1 :]
    return [row for row in body if row.get("clientOrderId") != client_order_id]


def renamed(body: object, cancel_id_of: Callable[[str, int], str]) -> object:
    """Return orders of which the cancelled ones go by the client id of their cancellation."""

    def rename(row: Row) -> Row:
        symbol, order_id = row.get("symbol"), row.get("orderId")
        if row.get("status") != "CANCELED" or not isinstance(order_id, int):
            return row
        return row | {"clientOrderId": cancel_id_of(str(symbol), order_id)}

    return _each_row(body, rename)


def embellished(body: object) -> object:
    """Return the same with a field in every object that no document names."""
    if isinstance(body, dict):
        return {name: embellished(value) for name, value in body.items()} | {
            "zzUnknown": {"a": [1]}
        }
    if isinstance(body, list):
        return [embellished(value) for value in body]
    return body


def _as_accepted(row: Row) -> Row:
    if "executedQty" not in row:
        return row
    return row | {
        "status": "NEW",
        "executedQty": _ZERO,
        "cummulativeQuoteQty": _ZERO,
        "updateTime": row.get("time"),
    }


def _each_row(body: object, change: Callable[[Row], Row]) -> object:
    if isinstance(body, list):
        return [change(row) if isinstance(row, dict) else row for row in body]
    return change(body) if isinstance(body, dict) else body

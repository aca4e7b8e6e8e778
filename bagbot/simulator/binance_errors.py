"""Binance's refusals: code, text and HTTP status, exactly as a client meets them."""

from collections.abc import Mapping

from bagbot.simulator.assumptions import Assumptions
from bagbot.simulator.orders import Refusal

# What Binance keeps for futures: REST, streams by category, and the WebSocket API.
_FUTURES_ROOTS = frozenset({"fapi", "dapi", "public", "market", "private", "ws-fapi", "ws-dapi"})


class BinanceError(Exception):
    """A request is refused. `headers` go out with the answer."""

    def __init__(
        self,
        code: int,
        message: str,
        status: int = 400,
        headers: Mapping[str, str] | None = None,
        retry_after_ms: int | None = None,
        data: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.status = status
        self.headers = dict(headers or {})
        # The WebSocket API tells the moment itself, in milliseconds since the epoch.
        self.retry_after_ms = retry_after_ms
        # What a half failed cancelReplace has to tell beside the code and the text.
        self.data = data


def too_much_weight(limit: int, *, now_ms: int, until_ms: int) -> BinanceError:
    """Return the answer to a request over the weight limit."""
    return BinanceError(
        -1003,
        f"Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
        "Please use WebSocket Streams for live updates to avoid polling the API.",
        429,
        {"Retry-After": _seconds_until(now_ms, until_ms)},
        until_ms,
    )


def too_many_requests(limit: int, *, now_ms: int, until_ms: int) -> BinanceError:
    """Return the answer to a request over the limit of requests, whatever they weigh."""
    return BinanceError(
        -1003,
        f"Too many requests; current limit is {limit} raw requests per 5 MINUTE. "
        "Please use WebSocket Streams for live updates to avoid polling the API.",
        429,
        {"Retry-After": _seconds_until(now_ms, until_ms)},
        until_ms,
    )


def too_many_connects(limit: int, *, now_ms: int, until_ms: int) -> BinanceError:
    """Return the answer to a WebSocket handshake too many; its text is our own."""
    return BinanceError(
        -1003,
        f"Too many connections; current limit is {limit} connections per 5 MINUTE.",
        429,
        {"Retry-After": _seconds_until(now_ms, until_ms)},
        until_ms,
    )


def banned(*, now_ms: int, until_ms: int) -> BinanceError:
    """Return the answer to everybody who went on after being told to wait."""
    return BinanceError(
        -1003,
        f"Way too much request weight used; IP banned until {until_ms}. "
        "Please use WebSocket Streams for live updates to avoid bans.",
        418,
        {"Retry-After": _seconds_until(now_ms, until_ms)},
        until_ms,
    )


def too_many_orders(limit: int, window: str, *, now_ms: int, until_ms: int) -> BinanceError:
    """Return the answer to an order over the order limit of `window`, such as "10 SECOND"."""
    return BinanceError(
        -1015,
        f"Too many new orders; current limit is {limit} orders per {window}.",
        429,
        {"Retry-After": _seconds_until(now_ms, until_ms)},
        until_ms,
    )


def _seconds_until(now_ms: int, until_ms: int) -> str:
    return str(max(1, -(-(until_ms - now_ms) // 1_000)))


def no_service_at(path: str) -> BinanceError:
    """Return the answer to a path that serves nothing, or nothing yet."""
    root = path.removeprefix("/").partition("/")[0]
    if root in _FUTURES_ROOTS:
        return BinanceError(-1000, f"Futures are not served yet, so nothing is at /{root}.", 404)
    return BinanceError(-1000, "Path not found.", 404)


def service_retired() -> BinanceError:
    """Return the answer of an endpoint that Binance has switched off."""
    return BinanceError(-1016, "This service is no longer available.", 410)


def timestamp_outside_window() -> BinanceError:
    """Return the answer to a request that arrives later than its recvWindow."""
    return BinanceError(-1021, "Timestamp for this request is outside of the recvWindow.")


def timestamp_ahead() -> BinanceError:
    """Return the answer to a request from the future."""
    return BinanceError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")


def bad_signature() -> BinanceError:
    """Return the answer to a signature that does not fit."""
    return BinanceError(-1022, "Signature for this request is not valid.")


def illegal_characters(name: str, legal_range: str) -> BinanceError:
    """Return the answer to a parameter that is not of the legal form."""
    return BinanceError(
        -1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal_range}'."
    )


def duplicate_parameter() -> BinanceError:
    """Return the answer to one name sent twice in the same place."""
    return BinanceError(-1101, "Duplicate values for a parameter detected.")


def parameter_missing(name: str) -> BinanceError:
    """Return the answer when a mandatory parameter is not there or not usable."""
    return BinanceError(
        -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    )


def either_missing(first: str, second: str) -> BinanceError:
    """Return the answer when neither of two parameters is there."""
    return BinanceError(
        -1102, f"Param '{first}' or '{second}' must be sent, but both were empty/null!"
    )


def unread_parameters(read_count: int, sent_count: int) -> BinanceError:
    """Return the answer to parameters the endpoint does not know."""
    return BinanceError(
        -1104,
        f"Not all sent parameters were read; read '{read_count}' parameter(s) "
        f"but was sent '{sent_count}'.",
    )


def parameter_empty(name: str) -> BinanceError:
    """Return the answer to an optional parameter without a value."""
    return BinanceError(-1105, f"Parameter '{name}' was empty.")


def not_required(name: str) -> BinanceError:
    """Return the answer to a parameter that this kind of order must not have."""
    return BinanceError(-1106, f"Parameter '{name}' sent when not required.")


def too_much_precision(name: str) -> BinanceError:
    """Return the answer to more than eight decimals."""
    return BinanceError(-1111, f"Parameter '{name}' has too much precision.")


def invalid_data(name: str) -> BinanceError:
    """Return the answer to a parameter of the right form with a value that cannot be."""
    return BinanceError(-1130, f"Data sent for parameter '{name}' is not valid.")


def invalid_json(name: str | None = None) -> BinanceError:
    """Return the answer to JSON that cannot be read, in a parameter or as a whole request."""
    if name is None:
        return BinanceError(-1135, "Invalid JSON Request")
    return BinanceError(-1135, f"JSON sent for parameter '{name}' is not valid")


def bad_key_format() -> BinanceError:
    """Return the answer to a missing or misshapen API key."""
    return BinanceError(-2014, "API-key format invalid.", 401)


def unknown_key() -> BinanceError:
    """Return the answer to an API key nobody has."""
    return BinanceError(-2015, "Invalid API-key, IP, or permissions for action.", 401)


def unauthorized() -> BinanceError:
    """Return the answer to a session that may not do this, or not with this kind of key."""
    return BinanceError(-1002, "You are not authorized to execute this request.", 401)


INVALID_TIME_IN_FORCE = (-1115, "Invalid timeInForce.")
INVALID_ORDER_TYPE = (-1116, "Invalid orderType.")
INVALID_SIDE = (-1117, "Invalid side.")
INVALID_INTERVAL = (-1120, "Invalid interval.")
INVALID_SYMBOL_STATUS = (-1122, "Invalid symbolStatus.")
SYMBOL_STATUS_MISMATCH = (-1220, "The symbol's status does not match the requested symbolStatus.")
INVALID_SYMBOL = (-1121, "Invalid symbol.")
UNKNOWN_ORDER_ON_QUERY = (-2013, "Order does not exist.")
# The text for lists is nowhere in Binance's documents.
UNKNOWN_ORDER_LIST = (-2013, "Order list does not exist.")
WRONG_CLIENT_ORDER_ID = (-2039, "Client order ID is not correct for this order ID.")

# Filters are checked before the engine sees the order, except those that count what is open.
_ENGINE_FILTERS = {
    Refusal.MAX_NUM_ORDERS,
    Refusal.MAX_NUM_ALGO_ORDERS,
    Refusal.MAX_NUM_ORDER_LISTS,
}


def order_refused(refusal: Refusal, assumptions: Assumptions) -> BinanceError:
    """Return the answer to an order the exchange refused."""
    if refusal in _ENGINE_FILTERS:
        return BinanceError(assumptions.counting_filters_code, refusal.value)
    if refusal.value.startswith("Filter failure"):
        return BinanceError(-1013, refusal.value)
    return BinanceError(-2010, refusal.value)


def cancel_refused(refusal: Refusal) -> BinanceError:
    """Return the answer to a cancellation the exchange refused."""
    return BinanceError(-2011, refusal.value)

"""Binance's requests read into commands, without any I/O: bytes, parameters, signatures, times.

A signature is checked over the raw bytes received, which is right both for requests that are
percent-encoded before signing and for older ones. REST signs the query and the body as sent; the
WebSocket API signs its parameters sorted by name, not encoded.
"""

import hmac
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from bagbot.simulator.amounts import amount_from_text
from bagbot.simulator.assumptions import DEFAULT_ASSUMPTIONS, Assumptions
from bagbot.simulator.binance_errors import (
    INVALID_ORDER_TYPE,
    INVALID_SIDE,
    INVALID_SYMBOL,
    INVALID_TIME_IN_FORCE,
    BinanceError,
    bad_signature,
    duplicate_parameter,
    either_missing,
    illegal_characters,
    invalid_data,
    invalid_json,
    not_required,
    parameter_empty,
    parameter_missing,
    timestamp_ahead,
    timestamp_outside_window,
    too_much_precision,
    unread_parameters,
)
from bagbot.simulator.orders import (
    CancelOrder,
    OrderStatus,
    OrderType,
    PlaceOrder,
    Prevention,
    Refusal,
    TimeInForce,
)

NUMBER = "^([0-9]{1,20})(\\.[0-9]{1,20})?$"
INTEGER = "^[0-9]{1,20}$"
SYMBOL = "^[\\w\\-._&&[^a-z]]{1,50}$"
CLIENT_ORDER_ID = "^[\\.A-Z\\:/a-z0-9_-]{1,36}$"
_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?", re.ASCII)
_INTEGER = re.compile(r"[0-9]{1,20}", re.ASCII)
_SYMBOL = re.compile(r"(?:(?![a-z])[\w\-.]){1,50}")
_CLIENT_ORDER_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}", re.ASCII)

# A plus sign that was not percent-encoded has become a space.
_TIME_ZONE = re.compile(r"([-+ ]?)([0-9]{1,2})(?::([0-5][0-9]))?", re.ASCII)
_MINUTE_MS = 60_000

_AUTHENTICATION = frozenset({"timestamp", "recvWindow", "signature", "apiKey", "returnRateLimits"})
_RECEIVE_WINDOW_DEFAULT = "5000"
_RECEIVE_WINDOW_MAX_US = 60_000_000
_AHEAD_MAX_US = 1_000_000
# A timestamp with more digits than this is in microseconds.
_MILLISECONDS_MAX = 10**14

SIDES = {"BUY": True, "SELL": False}
RESPONSE_TYPES = ("ACK", "RESULT", "FULL")
_ORDER_TYPES = {kind.value: kind for kind in OrderType}
_TIMES_IN_FORCE = {choice.value: choice for choice in TimeInForce}
_ZERO_QUANTITY = "Invalid quantity."
_TIMED_TYPES = (OrderType.LIMIT, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT_LIMIT)
_PAIR_ICEBERGS = ("aboveIcebergQty", "belowIcebergQty")
_RESTRICTIONS = {
    "ONLY_NEW": OrderStatus.NEW,
    "ONLY_PARTIALLY_FILLED": OrderStatus.PARTIALLY_FILLED,
}
_PREVENTIONS = {mode.value: mode for mode in Prevention}


class WireRequest(msgspec.Struct, frozen=True):
    """A request's parameters, the bytes its signature covers, and the signature."""

    parameters: Mapping[str, str]
    signed_bytes: bytes
    signature: str | None


def read_http(query: bytes, body: bytes) -> WireRequest:
    """Return a REST request as read from its query string and form body.

    A name in both places counts as in the query. Raises BinanceError.
    """
    in_query = _pairs(query)
    parameters = _pairs(body) | in_query
    signature = parameters.pop("signature", None)
    return WireRequest(parameters, _unsigned(query) + _unsigned(body), signature)


def read_websocket(params: Mapping[str, object]) -> WireRequest:
    """Return a WebSocket API request as read from its `params`."""
    parameters = {
        name: value if type(value) is str else _json_text(value) for name, value in params.items()
    }
    signature = parameters.pop("signature", None)
    signed = "&".join([f"{name}={parameters[name]}" for name in sorted(parameters)])
    return WireRequest(parameters, signed.encode("utf-8", "surrogatepass"), signature)


class JsonNumber(str):
    """A number as the sender wrote it: that text is what was signed."""

    __slots__ = ()


def _refuse_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")


_JSON = json.JSONDecoder(
    parse_float=JsonNumber, parse_int=JsonNumber, parse_constant=_refuse_constant
)


def read_json(text: str) -> object:
    """Return parsed JSON with every number as its own text.

    Raises BinanceError when the text is no JSON, or nested beyond reason, or when something in
    it could not be sent back.
    """
    try:
        value: object = _JSON.decode(text)
        if "\\u" in text:
            # Half a surrogate pair is fine in JSON's escapes, but no text that has a UTF-8 form.
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise invalid_json() from error
    return value


def signature_of(secret: str, signed_bytes: bytes) -> str:
    """Return the HMAC-SHA256 signature in hexadecimal."""
    return hmac.digest(secret.encode(), signed_bytes, "sha256").hex()


def check_signature(secret: str, request: WireRequest) -> None:
    """Raise BinanceError unless the request is signed with `secret`."""
    if not request.signature:
        raise parameter_missing("signature")
    expected = signature_of(secret, request.signed_bytes)
    sent = request.signature.lower().encode("utf-8", "surrogatepass")
    if not hmac.compare_digest(expected.encode(), sent):
        raise bad_signature()


def check_time(
    parameters: Mapping[str, str], now_ns: int, assumptions: Assumptions = DEFAULT_ASSUMPTIONS
) -> int:
    """Return until when the request is in time, in nanoseconds.

    Raises BinanceError unless `timestamp` is recent enough and not from the future.
    """
    sent = parameters.get("timestamp", "")
    if not sent:
        raise parameter_missing("timestamp")
    if not _INTEGER.fullmatch(sent):
        raise illegal_characters("timestamp", INTEGER)
    timestamp = int(sent)
    is_in_us = timestamp > _MILLISECONDS_MAX and assumptions.microseconds_are_read
    timestamp_us = timestamp if is_in_us else timestamp * 1_000
    window = parameters.get("recvWindow", _RECEIVE_WINDOW_DEFAULT)
    window_us = _receive_window_us(window, assumptions.wide_window_code)
    now_us = now_ns // 1_000
    if timestamp_us >= now_us + _AHEAD_MAX_US:
        raise timestamp_ahead()
    if now_us - timestamp_us > window_us:
        raise timestamp_outside_window()
    return (timestamp_us + window_us + 1) * 1_000 - 1


# Clients send the same few windows again and again.
@lru_cache(maxsize=64)
def _receive_window_us(text: str, too_wide_code: int) -> int:
    if not _NUMBER.fullmatch(text):
        raise illegal_characters("recvWindow", NUMBER)
    window_us = Decimal(text) * 1_000
    if window_us != window_us.to_integral_value():
        raise too_much_precision("recvWindow")
    if window_us > _RECEIVE_WINDOW_MAX_US:
        if too_wide_code == -1130:
            raise invalid_data("recvWindow")
        raise BinanceError(too_wide_code, "recvWindow must be less than 60000")
    return int(window_us)


_Choice = TypeVar("_Choice")


class Parameters:
    """The parameters of one request, read one by one; those nobody read are an error."""

    def __init__(
        self,
        values: Mapping[str, str],
        symbols: Iterable[str],
        assumptions: Assumptions = DEFAULT_ASSUMPTIONS,
    ) -> None:
        self._assumptions = assumptions
        self._values = values
        self._symbols = symbols
        self._read = set(_AUTHENTICATION)

    def finish(self) -> None:
        """Raise BinanceError if something was sent that this request does not take."""
        unread = self._values.keys() - self._read
        if unread:
            sent_count = len(self._values)
            raise unread_parameters(sent_count - len(unread), sent_count)

    def optional(self, name: str) -> str | None:
        """Return a parameter's text, or None if it was not sent."""
        self._read.add(name)
        value = self._values.get(name)
        if value == "":
            raise parameter_empty(name)
        return value

    def mandatory(self, name: str) -> str:
        """Return a parameter's text."""
        self._read.add(name)
        value = self._values.get(name)
        if not value:
            raise parameter_missing(name)
        return value

    def forbid(self, *names: str) -> None:
        """Raise BinanceError for a parameter that this kind of order must not have."""
        for name in names:
            if name in self._values:
                raise not_required(name)

    def symbol(self) -> str:
        """Return the mandatory symbol, which exists."""
        return self._checked_symbol(self.mandatory("symbol"))

    def optional_symbol(self) -> str | None:
        """Return the symbol, which exists, or None."""
        value = self.optional("symbol")
        return None if value is None else self._checked_symbol(value)

    def symbol_list(self) -> list[str] | None:
        """Return the symbols asked for by `symbol` or `symbols`, or None when all are meant."""
        one = self.optional_symbol()
        many = self.optional("symbols")
        if one is not None and many is not None:
            raise BinanceError(-1128, "Combination of optional parameters invalid.")
        if many is None:
            return None if one is None else [one]
        try:
            names = read_json(many)
        except BinanceError as error:
            raise invalid_json("symbols") from error
        if not isinstance(names, list) or not names or any(type(n) is not str for n in names):
            raise invalid_json("symbols")
        if len(set(names)) != len(names):
            raise BinanceError(-1151, "Symbol is present multiple times in the list.")
        return [self._checked_symbol(name) for name in names]

    def permissions(self) -> list[str] | None:
        """Return the permissions asked for, one or a list in JSON, or None."""
        text = self.optional("permissions")
        if text is None or not text.startswith("["):
            return None if text is None else [text]
        try:
            names = read_json(text)
        except BinanceError as error:
            raise invalid_json("permissions") from error
        if not isinstance(names, list) or any(type(name) is not str for name in names):
            raise invalid_json("permissions")
        return names

    def integer(self, name: str) -> int | None:
        """Return a whole number, or None if it was not sent."""
        value = self.optional(name)
        if value is None:
            return None
        if not _INTEGER.fullmatch(value):
            raise illegal_characters(name, INTEGER)
        number = int(value)
        if number >= 2**63:
            raise BinanceError(-1108, f"Parameter '{name}' overflowed.")
        return number

    def time_ms(self, name: str) -> int | None:
        """Return a time in milliseconds, whether it was sent in milli- or microseconds."""
        value = self.integer(name)
        if value is None or value <= _MILLISECONDS_MAX:
            return value
        return value // 1_000 if self._assumptions.microseconds_are_read else value

    def time_zone_ms(self, name: str) -> int:
        """Return how far a time zone such as "8", "-1:00" or "05:45" is ahead of UTC, or zero."""
        value = self.optional(name)
        if value is None:
            return 0
        match = _TIME_ZONE.fullmatch(value)
        if match is None:
            raise invalid_data(name)
        minutes = int(match[2]) * 60 + int(match[3] or 0)
        zone_ms = (-minutes if match[1] == "-" else minutes) * _MINUTE_MS
        if not -12 * 60 * _MINUTE_MS <= zone_ms <= 14 * 60 * _MINUTE_MS:
            raise invalid_data(name)
        return zone_ms

    def limit(self, default: int, maximum: int) -> int:
        """Return how many rows are wanted; more than the maximum is cut to it."""
        value = self.integer("limit")
        if value is None:
            return default
        if value == 0:
            raise invalid_data("limit")
        return min(value, maximum)

    def amount(self, name: str, *, error: str) -> int:
        """Return a mandatory amount above zero in 1e-8; zero is refused with the text `error`."""
        value = self.mandatory(name)
        if not _NUMBER.fullmatch(value):
            raise illegal_characters(name, NUMBER)
        try:
            amount = amount_from_text(value)
        except ValueError as failure:
            raise too_much_precision(name) from failure
        if amount == 0:
            if error == _ZERO_QUANTITY and self._assumptions.zero_quantity_is_lot_size:
                raise BinanceError(-1013, Refusal.LOT_SIZE.value)
            raise BinanceError(-1013, error)
        return amount

    def choice(self, name: str, choices: Mapping[str, _Choice], error: tuple[int, str]) -> _Choice:
        """Return what the mandatory text stands for; anything unknown is refused with `error`."""
        value = self.mandatory(name)
        if value not in choices:
            raise BinanceError(*error)
        return choices[value]

    def choice_or(self, name: str, choices: Sequence[str], default: str) -> str:
        """Return an optional text that must be one of the choices, or the default."""
        value = self.optional(name)
        if value is None:
            return default
        if value not in choices:
            raise invalid_data(name)
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a flag."""
        value = self.optional(name)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise invalid_data(name)
        return value.lower() == "true"

    def client_order_id(self, name: str) -> str | None:
        """Return a client order id of legal form, or None if it was not sent."""
        value = self.optional(name)
        if value is not None and not _CLIENT_ORDER_ID.fullmatch(value):
            raise illegal_characters(name, CLIENT_ORDER_ID)
        return value

    def _checked_symbol(self, value: str) -> str:
        if not _SYMBOL.fullmatch(value):
            raise illegal_characters("symbol", SYMBOL)
        if value not in self._symbols:
            raise BinanceError(*INVALID_SYMBOL)
        return value


def read_new_order(parameters: Parameters, account_id: int) -> PlaceOrder:
    """Return the order that the parameters describe. Raises BinanceError."""
    symbol = parameters.symbol()
    is_buy = parameters.choice("side", SIDES, INVALID_SIDE)
    kind = parameters.choice("type", _ORDER_TYPES, INVALID_ORDER_TYPE)
    quote_quantity = 0
    if kind is OrderType.MARKET:
        quantity, quote_quantity = _market_quantities(parameters)
    else:
        parameters.forbid("quoteOrderQty")
        quantity = parameters.amount("quantity", error=_ZERO_QUANTITY)
    return read_order(
        parameters,
        account_id,
        symbol,
        kind,
        is_buy=is_buy,
        quantity=quantity,
        quote_quantity=quote_quantity,
        prevention=read_prevention(parameters),
    )


class _OrderNames(NamedTuple):
    """What the parameters of an order are called."""

    client_order_id: str
    stop_price: str
    trailing_delta: str
    time_in_force: str
    price: str
    iceberg_quantity: str
    strategy_id: str
    strategy_type: str


_PLAIN_NAMES = _OrderNames(
    client_order_id="clientOrderId",
    stop_price="stopPrice",
    trailing_delta="trailingDelta",
    time_in_force="timeInForce",
    price="price",
    iceberg_quantity="icebergQty",
    strategy_id="strategyId",
    strategy_type="strategyType",
)


@lru_cache
def _order_names(prefix: str) -> _OrderNames:
    """Return the names with the prefix of an order in a list, or those of one of its own."""
    if not prefix:
        return _PLAIN_NAMES._replace(client_order_id="newClientOrderId")
    return _OrderNames(*(prefix + name[0].upper() + name[1:] for name in _PLAIN_NAMES))


def read_order(
    parameters: Parameters,
    account_id: int,
    symbol: str,
    kind: OrderType,
    *,
    is_buy: bool,
    quantity: int,
    prevention: Prevention,
    quote_quantity: int = 0,
    prefix: str = "",
) -> PlaceOrder:
    """Return an order of its own, or one of a list, whose parameters carry its `prefix`."""
    names = _order_names(prefix)
    stop_price, trailing_delta = _read_stop(
        parameters, kind, names.stop_price, names.trailing_delta
    )
    price = 0
    time_in_force = TimeInForce.GTC
    if kind in _TIMED_TYPES:
        time_in_force = parameters.choice(
            names.time_in_force, _TIMES_IN_FORCE, INVALID_TIME_IN_FORCE
        )
    else:
        parameters.forbid(names.time_in_force)
    if kind.has_limit:
        price = parameters.amount(names.price, error="Invalid price.")
    else:
        parameters.forbid(names.price)
    strategy_type = parameters.integer(names.strategy_type)
    if strategy_type is not None and strategy_type < 1_000_000:
        raise BinanceError(-1134, "`strategyType` was less than 1000000.")
    return PlaceOrder(
        account_id=account_id,
        symbol=symbol,
        is_buy=is_buy,
        type=kind,
        time_in_force=time_in_force,
        price=price,
        quantity=quantity,
        quote_quantity=quote_quantity,
        stop_price=stop_price,
        trailing_delta=trailing_delta,
        iceberg_quantity=_read_iceberg(parameters, kind, time_in_force, names.iceberg_quantity),
        prevention=prevention,
        client_order_id=parameters.client_order_id(names.client_order_id) or "",
        strategy_id=parameters.integer(names.strategy_id),
        strategy_type=strategy_type,
    )


def read_response_type(parameters: Parameters, kind: OrderType) -> str:
    """Return ACK, RESULT or FULL, with the default of the order's type."""
    default = "FULL" if kind in (OrderType.LIMIT, OrderType.MARKET) else "ACK"
    return parameters.choice_or("newOrderRespType", RESPONSE_TYPES, default)


def read_cancel(parameters: Parameters, account_id: int) -> CancelOrder:
    """Return the cancellation that the parameters describe. Raises BinanceError."""
    symbol = parameters.symbol()
    order_id, client_order_id = read_order_reference(parameters)
    return CancelOrder(
        account_id=account_id,
        symbol=symbol,
        order_id=order_id,
        client_order_id=client_order_id,
        cancel_id=parameters.client_order_id("newClientOrderId") or "",
        restriction=read_cancel_restriction(parameters),
    )


def read_cancel_restriction(parameters: Parameters) -> OrderStatus | None:
    """Return the status an order must have to be cancelled, or None for any."""
    restriction = parameters.optional("cancelRestrictions")
    if restriction is None:
        return None
    if restriction not in _RESTRICTIONS:
        raise BinanceError(
            -1145,
            "`cancelRestrictions` has to be either `ONLY_NEW` or `ONLY_PARTIALLY_FILLED`.",
        )
    return _RESTRICTIONS[restriction]


def read_order_reference(
    parameters: Parameters, id_name: str = "orderId", client_id_name: str = "origClientOrderId"
) -> tuple[int | None, str | None]:
    """Return the id and the client id under the given names, at least one of them."""
    order_id = parameters.integer(id_name)
    client_order_id = parameters.client_order_id(client_id_name)
    if order_id is None and client_order_id is None:
        raise either_missing(id_name, client_id_name)
    return order_id, client_order_id


def _read_stop(
    parameters: Parameters, kind: OrderType, price_name: str, delta_name: str
) -> tuple[int, int]:
    """Return the stop price and the trailing delta; zero for what was not sent."""
    if not kind.is_stop:
        parameters.forbid(price_name, delta_name)
        return 0, 0
    stop_price = 0
    if parameters.optional(price_name) is not None:
        stop_price = parameters.amount(price_name, error="Invalid stop price.")
    trailing_delta = parameters.integer(delta_name)
    if trailing_delta is None:
        if not stop_price:
            raise either_missing(price_name, delta_name)
        return stop_price, 0
    if trailing_delta == 0:
        raise invalid_data(delta_name)
    return stop_price, trailing_delta


def _read_iceberg(
    parameters: Parameters, kind: OrderType, time_in_force: TimeInForce, name: str
) -> int:
    """Return how much the book shall show, zero for all: only what rests can be an iceberg.

    What Binance answers to a single iceberg that may not rest is not documented; this is a choice.
    """
    if name in _PAIR_ICEBERGS and time_in_force is not TimeInForce.GTC:
        if parameters.optional(name) is not None:
            raise BinanceError(
                -1160,
                f"Parameter '{name}' is not supported if "
                "`aboveTimeInForce`/`belowTimeInForce` is not GTC.",
            )
        return 0
    if not kind.has_limit or time_in_force is not TimeInForce.GTC:
        parameters.forbid(name)
        return 0
    if parameters.optional(name) is None:
        return 0
    return parameters.amount(name, error="Invalid icebergQty.")


def read_prevention(parameters: Parameters) -> Prevention:
    """Return how the account is kept from trading with itself."""
    mode = parameters.optional("selfTradePreventionMode")
    if mode is None:
        return Prevention.NONE
    if mode == "TRANSFER":
        raise BinanceError(
            -1013, "This symbol does not allow the specified self-trade prevention mode."
        )
    if mode not in _PREVENTIONS:
        raise invalid_data("selfTradePreventionMode")
    return _PREVENTIONS[mode]


def _market_quantities(parameters: Parameters) -> tuple[int, int]:
    has_quantity = parameters.optional("quantity") is not None
    has_quote_quantity = parameters.optional("quoteOrderQty") is not None
    if has_quantity and has_quote_quantity:
        raise not_required("quoteOrderQty")
    if has_quantity:
        return parameters.amount("quantity", error=_ZERO_QUANTITY), 0
    if has_quote_quantity:
        return 0, parameters.amount("quoteOrderQty", error="Invalid quote order qty.")
    raise either_missing("quantity", "quoteOrderQty")


def _pairs(encoded: bytes) -> dict[str, str]:
    if not encoded:
        return {}
    is_plain = encoded.isascii() and b"%" not in encoded and b"+" not in encoded
    pairs: dict[str, str] = {}
    # Bytes that stand for themselves: this way no pair fails before its turn.
    for part in encoded.decode("latin-1").split("&"):
        if not part:
            continue
        name, _, value = part.partition("=")
        if not is_plain:
            name, value = _decoded(name), _decoded(value)
        if name in pairs:
            raise duplicate_parameter()
        pairs[name] = value
    return pairs


def _decoded(encoded: str) -> str:
    """Return a name or a value whose percent-encoded bytes are given as characters."""
    try:
        return unquote_to_bytes(encoded.replace("+", " ").encode("latin-1")).decode()
    except UnicodeDecodeError as error:
        raise BinanceError(-1100, "Illegal characters found in a parameter.") from error


def _unsigned(encoded: bytes) -> bytes:
    if b"signature=" not in encoded:
        return encoded
    return b"&".join(part for part in encoded.split(b"&") if not part.startswith(b"signature="))


def _json_text(value: object) -> str:
    """Return a parameter as it is written in JSON, which is what clients sign; text is bare."""
    if isinstance(value, str):
        return str(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _plain_json(value)


def _plain_json(value: object) -> str:
    """Return a list or an object as compact JSON, its numbers as they were sent."""
    if isinstance(value, JsonNumber):
        return str(value)
    if isinstance(value, list):
        return "[" + ",".join(_plain_json(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(k)}:{_plain_json(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)

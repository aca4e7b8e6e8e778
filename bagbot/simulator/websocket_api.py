"""The WebSocket API: the endpoints of REST over a socket, and the user's own events."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from bagbot.simulator import binance_messages as messages
from bagbot.simulator.binance_errors import (
    BinanceError,
    invalid_json,
    service_retired,
)
from bagbot.simulator.binance_wire import (
    JsonNumber,
    Parameters,
    WireRequest,
    read_json,
    read_websocket,
)
from bagbot.simulator.orders import OrderEvent
from bagbot.simulator.sockets import SocketSender
from bagbot.simulator.spot_api import RETIRED_METHODS, WEBSOCKET_ENDPOINTS, SpotApi
from bagbot.simulator.venue import BalanceEvent

_SUBSCRIBE_WEIGHT = 2


@dataclass(frozen=True, slots=True)
class WebSocketRequest:
    """One request as received."""

    id: object
    method: str
    wire: WireRequest
    wants_limits: bool


@dataclass(frozen=True, slots=True)
class WebSocketReply:
    """An answer before it is printed."""

    status: int
    body: messages.Message


def read_request(text: str) -> WebSocketRequest:
    """Return the request in a message. Raises BinanceError when it is none."""
    request = read_json(text)
    if not isinstance(request, dict):
        raise invalid_json()
    method = request.get("method")
    params = request.get("params", {})
    if type(method) is not str or not isinstance(params, dict):
        raise invalid_json()
    request_id = request.get("id")
    if isinstance(request_id, JsonNumber):
        request_id = _number(request_id)
    elif request_id is not None and type(request_id) is not str:
        raise invalid_json()
    wire = read_websocket(params)
    wants_limits = wire.parameters.get("returnRateLimits") != "false"
    return WebSocketRequest(request_id, method, wire, wants_limits)


def _number(text: JsonNumber) -> int:
    try:
        number = int(text)
    except ValueError as error:
        raise invalid_json() from error
    if not -(2**63) <= number < 2**63:
        raise invalid_json()
    return number


class WebSocketSession:
    """One connection to the WebSocket API and its subscription to the user's events."""

    def __init__(self, api: SpotApi, sender: SocketSender, *, wants_limits: bool) -> None:
        self._api = api
        self._sender = sender
        self._wants_limits = wants_limits
        self.subscription_id: int | None = None
        self._next_subscription_id = 0

    def answer(self, request: WebSocketRequest, now_ns: int) -> WebSocketReply:
        """Carry out a request and return its answer."""
        try:
            result = self._result(request, now_ns)
        except BinanceError as error:
            return error_reply(error, now_ns)
        return WebSocketReply(200, {"result": result})

    def send(self, request: WebSocketRequest, reply: WebSocketReply, now_ns: int) -> None:
        """Send an answer."""
        message: messages.Message = {"id": request.id, "status": reply.status, **reply.body}
        if request.wants_limits and self._wants_limits:
            message["rateLimits"] = self._api.limits.weight_usage(messages.milliseconds(now_ns))
        self._sender.send(msgspec.json.encode(message))

    def send_unreadable(self, error: BinanceError, now_ns: int) -> None:
        """Answer something that was not even a request."""
        reply = error_reply(error, now_ns)
        self._sender.send(msgspec.json.encode({"id": None, "status": reply.status, **reply.body}))

    def cut(self) -> None:
        """Drop the connection."""
        self._sender.cut()

    def deliver(self, event: bytes) -> None:
        """Send one of the user's events, if this session has subscribed."""
        if self.subscription_id is not None:
            prefix = b'{"subscriptionId":%d,"event":' % self.subscription_id
            self._sender.send(prefix + event + b"}")

    def _result(self, request: WebSocketRequest, now_ns: int) -> object:
        endpoint = WEBSOCKET_ENDPOINTS.get(request.method)
        if endpoint is not None:
            api_key = request.wire.parameters.get("apiKey")
            return self._api.answer(endpoint, request.wire, api_key, now_ns)
        session_methods: dict[str, Callable[[WebSocketRequest, int], object]] = {
            "userDataStream.subscribe.signature": self._subscribe,
            "userDataStream.unsubscribe": self._unsubscribe,
            "session.subscriptions": self._subscriptions,
        }
        if request.method in session_methods:
            self._api.limits.charge(_SUBSCRIBE_WEIGHT, messages.milliseconds(now_ns))
            return session_methods[request.method](request, now_ns)
        if request.method in RETIRED_METHODS:
            raise service_retired()
        if request.method in ("userDataStream.subscribe", "session.logon"):
            # Both need an Ed25519 key, and the account's key is an HMAC key.
            raise BinanceError(-1002, "You are not authorized to execute this request.", 401)
        raise BinanceError(-1020, "This operation is not supported.")

    def _subscribe(self, request: WebSocketRequest, now_ns: int) -> object:
        Parameters(request.wire.parameters, ()).finish()
        self._api.authenticate(request.wire, now_ns)
        if self.subscription_id is not None:
            raise BinanceError(-2035, "User Data Stream subscription already active.")
        self.subscription_id = self._next_subscription_id
        self._next_subscription_id += 1
        return {"subscriptionId": self.subscription_id}

    def _unsubscribe(self, request: WebSocketRequest, now_ns: int) -> object:
        parameters = Parameters(request.wire.parameters, ())
        wanted = parameters.integer("subscriptionId")
        parameters.finish()
        if self.subscription_id is None or wanted not in (None, self.subscription_id):
            raise BinanceError(-2036, "User Data Stream subscription not active.")
        self.deliver(msgspec.json.encode(messages.stream_terminated(now_ns)))
        self.subscription_id = None
        return {}

    def _subscriptions(self, request: WebSocketRequest, _now_ns: int) -> object:
        Parameters(request.wire.parameters, ()).finish()
        if self.subscription_id is None:
            return []
        return [{"subscriptionId": self.subscription_id}]


class UserStreams:
    """Every open session, to tell the user's events to those that have subscribed."""

    def __init__(self) -> None:
        self._sessions: dict[WebSocketSession, None] = {}

    def add(self, session: WebSocketSession) -> None:
        """Register a session."""
        self._sessions[session] = None

    def remove(self, session: WebSocketSession) -> None:
        """Forget a session."""
        del self._sessions[session]

    def tell(self, event: OrderEvent | BalanceEvent, time_ns: int) -> None:
        """Send one of the user's events."""
        if all(session.subscription_id is None for session in self._sessions):
            return
        if isinstance(event, OrderEvent):
            message = messages.execution_report(event, time_ns)
        else:
            message = messages.account_position(event, time_ns)
        encoded = msgspec.json.encode(message)
        for session in self._sessions:
            session.deliver(encoded)


def error_reply(error: BinanceError, now_ns: int) -> WebSocketReply:
    """Return a refusal as the WebSocket API prints it."""
    body: messages.Message = {"code": error.code, "msg": error.message}
    if error.data is not None:
        body["data"] = error.data
    if error.retry_after_ms is not None:
        body["data"] = {
            "serverTime": messages.milliseconds(now_ns),
            "retryAfter": error.retry_after_ms,
        }
    return WebSocketReply(error.status, {"error": body})

"""The WebSocket API: the endpoints of REST over a socket, and the user's own events."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from bagbot.simulator import binance_messages as messages
from bagbot.simulator.api_keys import ApiKey
from bagbot.simulator.binance_errors import (
    BinanceError,
    invalid_json,
    service_retired,
    unauthorized,
)
from bagbot.simulator.binance_wire import (
    JsonNumber,
    Parameters,
    WireRequest,
    read_json,
    read_websocket,
)
from bagbot.simulator.order_list_messages import list_status
from bagbot.simulator.orders import OrderEvent, OrderListEvent, TransferEvent
from bagbot.simulator.sockets import SocketSender
from bagbot.simulator.spot_api import RETIRED_METHODS, WEBSOCKET_ENDPOINTS, SpotApi
from bagbot.simulator.stream_faults import USER_STREAM, EventGate
from bagbot.simulator.time_unit import TimeUnit, printed_in
from bagbot.simulator.venue import BalanceEvent

_SESSION_WEIGHT = 2
UserEvent = OrderEvent | OrderListEvent | TransferEvent | BalanceEvent


class WebSocketRequest(msgspec.Struct, frozen=True):
    """One request as received."""

    id: object
    method: str
    wire: WireRequest
    wants_limits: bool


class WebSocketReply(msgspec.Struct, frozen=True):
    """An answer before it is printed."""

    status: int
    body: messages.Message

    @property
    def code(self) -> int | None:
        """Return the code of an error."""
        error = self.body.get("error")
        code = error.get("code") if isinstance(error, dict) else None
        return code if isinstance(code, int) else None


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


@dataclass(frozen=True, slots=True)
class _Subscription:
    """Whose events a session receives, and whether they end with its log-out."""

    account_id: int
    is_by_logon: bool


class WebSocketSession:
    """One connection to the WebSocket API: who is logged on, and whose events it receives."""

    def __init__(
        self,
        api: SpotApi,
        sender: SocketSender,
        gate: EventGate,
        *,
        connected_ns: int,
        wants_limits: bool,
        unit: TimeUnit = TimeUnit.MILLISECOND,
    ) -> None:
        self._api = api
        self._sender = sender
        self._gate = gate
        self.unit = unit
        self._connected_ns = connected_ns
        self._wants_limits = wants_limits
        self._key: ApiKey | None = None
        self._authorized_ns = 0
        self._subscriptions: dict[int, _Subscription] = {}
        self._next_subscription_id = 0

    def answer(self, request: WebSocketRequest, now_ns: int, *, received_ns: int) -> WebSocketReply:
        """Carry out a request and return its answer."""
        try:
            self._api.limits.count_request(now_ns // 1_000_000)
            with printed_in(self.unit):
                result = self._result(request, now_ns, received_ns)
        except BinanceError as error:
            return error_reply(error, now_ns)
        return WebSocketReply(200, {"result": result})

    @property
    def has_subscriptions(self) -> bool:
        """Return whether this session receives anybody's events."""
        return bool(self._subscriptions)

    @property
    def api_key(self) -> str | None:
        """Return the key the session is logged on with."""
        return None if self._key is None else self._key.api_key

    def send(
        self,
        request: WebSocketRequest,
        reply: WebSocketReply,
        now_ns: int,
        spoil: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """Send an answer; a fault may spoil its bytes."""
        message = {"id": request.id, "status": reply.status, **reply.body}
        if request.wants_limits and self._wants_limits:
            message["rateLimits"] = self._usage(request, now_ns // 1_000_000)
        encoded = msgspec.json.encode(message)
        self._sender.send(encoded if spoil is None else spoil(encoded))

    def _usage(self, request: WebSocketRequest, now_ms: int) -> list[dict[str, object]]:
        """Return the limits an answer names: orders count against one only when they are placed."""
        limits = self._api.limits
        endpoint = WEBSOCKET_ENDPOINTS.get(request.method)
        if endpoint is None or not endpoint.places_orders:
            return limits.weight_usage(now_ms)
        account_id = self._api.keys.account_id(request.wire.parameters.get("apiKey"))
        if account_id is None and self._key is not None:
            account_id = self._key.account_id
        orders = [] if account_id is None else limits.order_usage(account_id, now_ms)
        return orders + limits.weight_usage(now_ms)

    def send_unreadable(self, error: BinanceError, now_ns: int) -> None:
        """Answer something that was not even a request."""
        reply = error_reply(error, now_ns)
        self._sender.send(msgspec.json.encode({"id": None, "status": reply.status, **reply.body}))

    def cut(self) -> None:
        """Drop the connection."""
        self._sender.cut()

    def tell_shutdown(self, time_ns: int) -> None:
        """Announce that the connection is about to end."""
        with printed_in(self.unit):
            event = messages.server_shutdown(time_ns)
        self._sender.send(msgspec.json.encode({"event": event}))

    def terminate(self, now_ns: int) -> None:
        """End every subscription, and say so; the connection stays."""
        with printed_in(self.unit):
            self._terminate(list(self._subscriptions), now_ns)

    def listens_to(self, account_id: int) -> bool:
        """Return whether this session has subscribed to an account's events."""
        return any(each.account_id == account_id for each in self._subscriptions.values())

    def deliver(self, event: UserEvent, encoded: bytes) -> None:
        """Send an event of an account that this session has subscribed to."""
        order = event.order if isinstance(event, OrderEvent) else None
        for subscription_id, subscription in self._subscriptions.items():
            if subscription.account_id == account_of(event):
                self._gate.pass_on(
                    _wrapped(subscription_id, encoded),
                    path=USER_STREAM,
                    symbol=None if order is None else order.symbol,
                    client_order_id=None if order is None else order.client_order_id,
                )

    def _result(self, request: WebSocketRequest, now_ns: int, received_ns: int) -> object:
        endpoint = WEBSOCKET_ENDPOINTS.get(request.method)
        if endpoint is not None:
            api_key = request.wire.parameters.get("apiKey")
            return self._api.answer(
                endpoint,
                request.wire,
                api_key,
                now_ns,
                received_ns=received_ns,
                session_key=self._key,
            )
        session_methods: dict[str, Callable[[WebSocketRequest, int], object]] = {
            "session.logon": self._log_on,
            "session.status": self._status,
            "session.logout": self._log_out,
            "session.subscriptions": self._list_subscriptions,
            "userDataStream.subscribe": self._subscribe,
            "userDataStream.subscribe.signature": self._subscribe_signed,
            "userDataStream.unsubscribe": self._unsubscribe,
        }
        if request.method in session_methods:
            self._api.limits.charge(_SESSION_WEIGHT, now_ns // 1_000_000)
            return session_methods[request.method](request, now_ns)
        if request.method in RETIRED_METHODS and self._api.assumptions.retired_is_told:
            raise service_retired()
        raise BinanceError(-1020, "This operation is not supported.")

    def _log_on(self, request: WebSocketRequest, now_ns: int) -> object:
        Parameters(request.wire.parameters, ()).finish()
        key = self._api.authenticate(request.wire, now_ns)
        if not key.can_log_on:
            raise unauthorized()
        self._key = key
        self._authorized_ns = now_ns
        return self._session(now_ns)

    def _status(self, request: WebSocketRequest, now_ns: int) -> object:
        Parameters(request.wire.parameters, ()).finish()
        return self._session(now_ns)

    def _log_out(self, request: WebSocketRequest, now_ns: int) -> object:
        Parameters(request.wire.parameters, ()).finish()
        self._key = None
        by_logon = [number for number, each in self._subscriptions.items() if each.is_by_logon]
        self._terminate(by_logon, now_ns)
        return self._session(now_ns)

    def _session(self, now_ns: int) -> messages.Message:
        key = self._key
        return messages.session_state(
            None if key is None else key.api_key,
            authorized_ns=self._authorized_ns,
            connected_ns=self._connected_ns,
            time_ns=now_ns,
            wants_limits=self._wants_limits,
            is_subscribed=bool(self._subscriptions),
        )

    def _subscribe(self, request: WebSocketRequest, _now_ns: int) -> object:
        Parameters(request.wire.parameters, ()).finish()
        if self._key is None:
            raise unauthorized()
        return self._add_subscription(_Subscription(self._key.account_id, is_by_logon=True))

    def _subscribe_signed(self, request: WebSocketRequest, now_ns: int) -> object:
        Parameters(request.wire.parameters, ()).finish()
        key = self._api.authenticate(request.wire, now_ns)
        return self._add_subscription(_Subscription(key.account_id, is_by_logon=False))

    def _add_subscription(self, subscription: _Subscription) -> object:
        if self.listens_to(subscription.account_id):
            raise BinanceError(-2035, "User Data Stream subscription already active.")
        subscription_id = self._next_subscription_id
        self._next_subscription_id += 1
        self._subscriptions[subscription_id] = subscription
        return {"subscriptionId": subscription_id}

    def _unsubscribe(self, request: WebSocketRequest, now_ns: int) -> object:
        parameters = Parameters(request.wire.parameters, ())
        wanted = parameters.integer("subscriptionId")
        parameters.finish()
        ending = [number for number in self._subscriptions if wanted in (None, number)]
        if not ending:
            raise BinanceError(-2036, "User Data Stream subscription not active.")
        self._terminate(ending, now_ns)
        return {}

    def _terminate(self, subscription_ids: list[int], now_ns: int) -> None:
        event = msgspec.json.encode(messages.stream_terminated(now_ns))
        for subscription_id in subscription_ids:
            self._sender.send(_wrapped(subscription_id, event))
            del self._subscriptions[subscription_id]

    def _list_subscriptions(self, request: WebSocketRequest, _now_ns: int) -> object:
        Parameters(request.wire.parameters, ()).finish()
        return [{"subscriptionId": number} for number in self._subscriptions]


class UserStreams:
    """Every open session, to tell the user's events to those that have subscribed."""

    def __init__(self, *, tells_stop_release: bool = True) -> None:
        self._tells_stop_release = tells_stop_release
        self._sessions: dict[WebSocketSession, None] = {}
        # How many events of each kind went out.
        self.sent: Counter[str] = Counter()

    def add(self, session: WebSocketSession) -> None:
        """Register a session."""
        self._sessions[session] = None

    def remove(self, session: WebSocketSession) -> None:
        """Forget a session."""
        del self._sessions[session]

    @property
    def has_listeners(self) -> bool:
        """Return whether anybody has subscribed: most sessions only send orders."""
        return any(session.has_subscriptions for session in self._sessions)

    def tell(self, event: UserEvent, time_ns: int) -> None:
        """Send an event to those who have subscribed to its account."""
        if not self._tells_stop_release and _is_stop_release(event):
            return
        account_id = account_of(event)
        listening = [each for each in self._sessions if each.listens_to(account_id)]
        for unit in {session.unit for session in listening}:
            with printed_in(unit):
                message = _message(event, time_ns)
                encoded = msgspec.json.encode(message)
            for session in listening:
                if session.unit is unit:
                    session.deliver(event, encoded)
                    self.sent[str(message["e"])] += 1

    def tell_shutdown(self, time_ns: int) -> None:
        """Announce the end to every session."""
        for session in self._sessions:
            session.tell_shutdown(time_ns)
        self.sent["serverShutdown"] += len(self._sessions)

    def terminate(self, time_ns: int) -> None:
        """End every subscription of every session."""
        for session in self._sessions:
            session.terminate(time_ns)


def account_of(event: UserEvent) -> int:
    """Return whose event this is."""
    if isinstance(event, OrderEvent):
        return event.order.account_id
    if isinstance(event, OrderListEvent):
        return event.order_list.account_id
    return event.account_id


def _is_stop_release(event: UserEvent) -> bool:
    if not isinstance(event, OrderEvent) or event.kind != "RELEASED":
        return False
    # A pending stop that begins to wait is told in any case.
    return event.order.type.is_stop and event.is_on_book


def _message(event: UserEvent, time_ns: int) -> messages.Message:
    if isinstance(event, OrderEvent):
        return messages.execution_report(event, time_ns)
    if isinstance(event, OrderListEvent):
        return list_status(event, time_ns)
    if isinstance(event, TransferEvent):
        return messages.balance_update(event, time_ns)
    return messages.account_position(event, time_ns)


def _wrapped(subscription_id: int, event: bytes) -> bytes:
    return b'{"subscriptionId":%d,"event":%b}' % (subscription_id, event)


def error_reply(error: BinanceError, now_ns: int) -> WebSocketReply:
    """Return a refusal as the WebSocket API prints it."""
    body: messages.Message = {"code": error.code, "msg": error.message}
    if error.data is not None:
        body["data"] = error.data
    if error.retry_after_ms is not None:
        body["data"] = {
            "serverTime": now_ns // 1_000_000,
            "retryAfter": error.retry_after_ms,
        }
    return WebSocketReply(error.status, {"error": body})

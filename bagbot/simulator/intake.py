"""What every request passes on its way in: the log, the script of faults, and how answers look."""

import time
from collections.abc import Callable, Mapping

import msgspec
import structlog
from aiohttp import web

from bagbot.simulator.api_keys import KeyRing
from bagbot.simulator.binance_wire import WireRequest
from bagbot.simulator.faults import ENDPOINT_GROUPS, Fault, FaultKind, FaultScript
from bagbot.simulator.late_requests import LateRequests
from bagbot.simulator.request_log import LoggedRequest
from bagbot.simulator.spot_api import Endpoint
from bagbot.simulator.wire_clock import WireClock

logger = structlog.get_logger(__name__)

# The log keeps many requests, and what is legal is far shorter.
_KEPT_LENGTH_MAX = 200


class Intake:
    """Logs requests and says which of them go wrong."""

    def __init__(
        self,
        faults: FaultScript,
        keep: Callable[[LoggedRequest], None],
        clock: WireClock,
        keys: KeyRing,
    ) -> None:
        self._faults = faults
        self._keys = keys
        self.late = LateRequests()
        self._keep = keep
        self._clock = clock

    def log(self, method: str, path: str, received: tuple[int, int]) -> LoggedRequest:
        """Return the log's line for a request received at a wire and a monotonic time."""
        log = LoggedRequest(
            received_ns=received[0],
            received_monotonic_ns=received[1],
            method=method,
            path=_printable(path),
        )
        self._keep(log)
        return log

    def log_repeated(self, first: LoggedRequest) -> LoggedRequest:
        """Return the line of a request that has arrived a second time."""
        log = self.log(first.method, first.path, (self._clock(), time.monotonic_ns()))
        log.repeat_of = first.number
        log.account_id, log.symbol = first.account_id, first.symbol
        log.client_order_id = first.client_order_id
        return log

    def take_fault(
        self, log: LoggedRequest, wire: WireRequest, api_key: str | None
    ) -> Fault | None:
        """Return what goes wrong with a request."""
        parameters = wire.parameters
        log.account_id = self._keys.account_id(api_key)
        symbol = parameters.get("symbol")
        log.symbol = None if symbol is None else _printable(symbol)
        # A cancellation carries an id of its own; the order it is about is what counts.
        client_order_id = parameters.get("origClientOrderId") or parameters.get("newClientOrderId")
        log.client_order_id = None if client_order_id is None else _printable(client_order_id)
        if self.late and (log.method, log.path) in ENDPOINT_GROUPS["order_queries"]:
            self.late.note_query(log.account_id, log.client_order_id or "", self._clock.true_s())
        if not self._faults:
            return None
        fault = self._faults.take(log.method, log.path, log.symbol, log.client_order_id)
        if fault is not None:
            log.fault, log.fault_class = fault.kind.value, fault.fault_class
            logger.info(
                "fault injected",
                kind=log.fault,
                path=log.path,
                client_order_id=log.client_order_id,
            )
        return fault

    def accept(self, log: LoggedRequest, endpoint: Endpoint | None) -> None:
        """Note that a request has been carried out."""
        log.status, log.outcome = 200, "done"
        if endpoint is not None and endpoint.places_orders:
            log.accepted_ns = self._clock()
            log.accepted_monotonic_ns = time.monotonic_ns()


def _printable(text: str) -> str:
    """Return what the log keeps of a text: not all of a long one, and nothing JSON cannot hold."""
    if len(text) <= _KEPT_LENGTH_MAX and text.isascii():
        return text
    return text[:_KEPT_LENGTH_MAX].encode("utf-8", "replace").decode()


def refused_handshake(fault: Fault, request: web.BaseRequest) -> web.Response:
    """Return what a WebSocket handshake gets that a fault concerns: an answer, or a cut."""
    logger.info("fault injected", kind=fault.kind.value, path=request.path)
    if fault.kind is FaultKind.LOSE_REQUEST:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()
    if fault.text is not None:
        return web.Response(text=fault.text, status=fault.status, content_type="text/html")
    headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
    return json_response(fault.body, fault.status, headers)


def json_response(
    message: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return an answer in JSON."""
    return web.Response(
        body=msgspec.json.encode(message),
        status=status,
        headers={"Content-Type": "application/json; charset=utf-8", **(headers or {})},
    )

"""What stands between events and one socket: it passes them on, or spoils them as scripted."""

import structlog

from bagbot.simulator.faults import STREAM, FaultKind, FaultScript
from bagbot.simulator.sockets import SocketSender

logger = structlog.get_logger(__name__)

USER_STREAM = "user"
"""The `path` of a user stream in the script; a public stream's is its name."""


class EventGate:
    """The events of one connection on their way out. Answers to requests do not come by here."""

    def __init__(self, sender: SocketSender, script: FaultScript) -> None:
        self._sender = sender
        self._script = script
        # An event that another one overtakes, and whether it is about an order.
        self._held: tuple[bytes, bool] | None = None
        self._is_silent = False

    def pass_on(
        self,
        message: bytes,
        *,
        path: str,
        symbol: str | None = None,
        client_order_id: str | None = None,
    ) -> None:
        """Send an event, unless the script has something else in mind."""
        if self._is_silent:
            return
        is_of_order = client_order_id is not None
        if self._held is not None and self._held[1] is is_of_order:
            (held, _), self._held = self._held, None
            self._sender.send(message)
            self._sender.send(held)
            return
        fault = self._script.take(STREAM, path, symbol, client_order_id)
        if fault is None:
            self._sender.send(message)
            return
        logger.info("fault injected", kind=fault.kind.value, path=path)
        if fault.kind is FaultKind.DELAY:
            self._sender.pause(fault.delay_s)
        if fault.kind is FaultKind.REORDER and self._held is None:
            self._held = message, is_of_order
            return
        self._spoil(message, fault.kind)

    def _spoil(self, message: bytes, kind: FaultKind) -> None:
        if kind is FaultKind.CUT:
            self._sender.cut()
        elif kind is FaultKind.HALF_OPEN:
            self._is_silent = True
        elif kind is FaultKind.DUPLICATE:
            self._sender.send(message)
            self._sender.send(message)
        elif kind is not FaultKind.DROP:
            self._sender.send(message)

"""One WebSocket with a bounded queue in front of it: a slow reader never holds up the exchange."""

import asyncio

from aiohttp import WSCloseCode, WSMsgType, web


class SocketSender:
    """Sends messages in order, from a queue that drops the connection when it is full."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        *,
        messages_max: int,
        bytes_max: int,
    ) -> None:
        self.socket = socket
        self._transport = transport
        # Messages, between them pauses in seconds, and None for the end of the connection.
        self._queue: asyncio.Queue[bytes | float | None] = asyncio.Queue(messages_max)
        self._bytes_max = bytes_max
        self._queued_bytes = 0

    def send(self, message: bytes) -> None:
        """Queue a text message; a full queue cuts the connection, as on Binance."""
        # One message alone may be of any size, or some could never be sent.
        if self._queued_bytes and self._queued_bytes + len(message) > self._bytes_max:
            self.cut()
            return
        self._queued_bytes += len(message)
        self._put(message)

    def pause(self, delay_s: float) -> None:
        """Hold back what is queued from now on, so much longer than what was queued before."""
        self._put(delay_s)

    def cut(self) -> None:
        """Drop the connection at once, without a closing handshake."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End the connection with a closing handshake, after what was queued before."""
        self._put(None)

    async def run(self) -> None:
        """Send what is queued until the connection is gone."""
        while True:
            message = await self._queue.get()
            if message is None:
                await self.socket.close(code=WSCloseCode.GOING_AWAY)
                return
            if isinstance(message, float):
                await asyncio.sleep(message)
                continue
            try:
                await self.socket.send_frame(message, WSMsgType.TEXT)
            except ConnectionError:
                # The reader of this socket sees the same and ends the session.
                return
            self._queued_bytes -= len(message)

    def _put(self, item: bytes | float | None) -> None:
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            self.cut()

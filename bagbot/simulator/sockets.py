"""One WebSocket with a bounded queue in front of it: a slow reader never holds up the exchange.

A message goes straight to a connection that has nothing else to send. The queue, and the task that
empties it, are for those whose reader is behind.
"""

import asyncio

from aiohttp import WSCloseCode, WSMsgType, web

# With so little in the transport, aiohttp never waits for the reader.
_UNREAD_BYTES_MAX = 16 * 1024


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
        # Whether the task has taken something out of the queue and is not done with it.
        self._is_at_work = False

    def send(self, message: bytes) -> None:
        """Send a text message, or queue it behind others; a full queue cuts the connection."""
        if self._has_room_for(message):
            self._send_now(message)
            return
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
            self._is_at_work = False
            message = await self._queue.get()
            self._is_at_work = True
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

    def _has_room_for(self, message: bytes) -> bool:
        """Return whether a message can be sent without waiting and without overtaking any."""
        transport = self._transport
        if self._is_at_work or transport is None or not self._queue.empty():
            return False
        return transport.get_write_buffer_size() + len(message) <= _UNREAD_BYTES_MAX

    def _send_now(self, message: bytes) -> None:
        sending = self.socket.send_frame(message, WSMsgType.TEXT)
        try:
            sending.send(None)
        except (StopIteration, ConnectionError):
            # Sent; or the reader of this socket sees what we see, and ends the session.
            return
        raise AssertionError("the transport has room, so sending does not wait")

    def _put(self, item: bytes | float | None) -> None:
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            self.cut()

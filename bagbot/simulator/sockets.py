"""One WebSocket with a bounded queue in front of it: a slow reader never holds up the exchange."""

import asyncio

from aiohttp import WSMsgType, web

QUEUE_MAX = 20_000
"""Messages a reader may be behind by; whoever is further behind is cut off, as on Binance."""


class SocketSender:
    """Sends messages in order, from a queue that drops the connection when it is full."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        self.socket = socket
        self._transport = transport
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_MAX)

    def send(self, message: bytes) -> None:
        """Queue a text message; a full queue cuts the connection."""
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self.cut()

    def cut(self) -> None:
        """Drop the connection at once, without a closing handshake."""
        if self._transport is not None:
            self._transport.abort()

    async def run(self) -> None:
        """Send what is queued until the connection is gone."""
        while True:
            message = await self._queue.get()
            try:
                await self.socket.send_frame(message, WSMsgType.TEXT)
            except ConnectionError:
                # The reader of this socket sees the same and ends the session.
                return

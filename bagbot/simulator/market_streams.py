"""The public streams: who listens to what, and what they are sent."""

import re
from collections.abc import Iterable

import msgspec

from bagbot.simulator import binance_messages as messages
from bagbot.simulator.binance_errors import BinanceError
from bagbot.simulator.binance_wire import JsonNumber, read_json
from bagbot.simulator.candles import Candle, interval_bounds
from bagbot.simulator.orders import TradePrint
from bagbot.simulator.sockets import SocketSender
from bagbot.simulator.venue import BookEvent, CandleEvent, Venue

STREAMS_MAX = 1_024
"""Streams one connection may listen to."""

_KLINE = re.compile(r"([a-z0-9]+)@kline_(1[smhdwM]|3[md]|5m|15m|30m|[2468]h|12h)")
_ID_TEXT = re.compile(r"[A-Za-z0-9_-]{0,36}")
_ALL_MINI_TICKERS = "!miniTicker@arr"
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


class StreamConnection:
    """One listener and the streams it wants."""

    def __init__(self, hub: "StreamHub", sender: SocketSender, *, is_combined: bool) -> None:
        self._hub = hub
        self._sender = sender
        self.is_combined = is_combined
        self.streams: dict[str, None] = {}

    def deliver(self, raw: bytes, combined: bytes) -> None:
        """Send an event in the form this connection wants."""
        self._sender.send(combined if self.is_combined else raw)

    def listen(self, streams: Iterable[str]) -> None:
        """Add streams; unknown names are accepted, as on Binance, and never send anything."""
        for stream in streams:
            if len(self.streams) >= STREAMS_MAX:
                self._sender.cut()
                return
            self.streams[stream] = None
            self._hub.add(stream, self)

    def receive(self, text: str) -> None:
        """Carry out a control message and answer it."""
        try:
            request = read_json(text)
        except BinanceError:
            self._send({"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"})
            return
        self._send(self._control(request))

    def close(self) -> None:
        """Stop listening."""
        for stream in self.streams:
            self._hub.remove(stream, self)
        self.streams.clear()

    def _send(self, message: messages.Message) -> None:
        self._sender.send(msgspec.json.encode(message))

    def _control(self, request: object) -> messages.Message:
        if not isinstance(request, dict) or "method" not in request:
            return _invalid("missing field `method` at line 1 column 2")
        method = request["method"]
        if method not in _METHODS:
            expected = ", ".join(f"`{name}`" for name in _METHODS)
            return _invalid(f"unknown variant {method}, expected one of {expected}")
        is_valid, request_id = _request_id(request.get("id"))
        if not is_valid:
            return _invalid("request ID must be an unsigned integer")
        params = request.get("params", [])
        if not isinstance(params, list):
            return _invalid("params must be a list")
        if method == "LIST_SUBSCRIPTIONS":
            return {"result": list(self.streams), "id": request_id}
        if method in ("SET_PROPERTY", "GET_PROPERTY"):
            return self._property(method, params, request_id)
        return self._subscription(method, params, request_id)

    def _subscription(
        self, method: str, params: list[object], request_id: object
    ) -> messages.Message:
        names = [name for name in params if type(name) is str]
        if len(names) != len(params):
            return _invalid("stream names must be strings")
        if method == "SUBSCRIBE":
            self.listen(names)
        else:
            for name in names:
                if name in self.streams:
                    del self.streams[name]
                    self._hub.remove(name, self)
        return {"result": None, "id": request_id}

    def _property(self, method: str, params: list[object], request_id: object) -> messages.Message:
        if not params or type(params[0]) is not str:
            return _invalid("property name must be a string")
        if params[0] != "combined":
            return {"code": 0, "msg": "Unknown property", "id": request_id}
        if len(params) > (1 if method == "GET_PROPERTY" else 2):
            return _invalid("too many parameters")
        if method == "GET_PROPERTY":
            return {"result": self.is_combined, "id": request_id}
        if len(params) < 2 or not isinstance(params[1], bool):
            return {"code": 1, "msg": "Invalid value type: expected Boolean"}
        self.is_combined = params[1]
        return {"result": None, "id": request_id}


class StreamHub:
    """All listeners by stream. An event is encoded once, and only if somebody listens."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._listeners: dict[str, dict[StreamConnection, None]] = {}
        # Bars of longer intervals that have begun and whose end has not been told yet.
        self._begun: dict[str, int] = {}

    def add(self, stream: str, connection: StreamConnection) -> None:
        """Register a listener."""
        self._listeners.setdefault(stream, {})[connection] = None

    def remove(self, stream: str, connection: StreamConnection) -> None:
        """Forget a listener."""
        listeners = self._listeners[stream]
        del listeners[connection]
        if not listeners:
            del self._listeners[stream]
            self._begun.pop(stream, None)

    def tell_trade(self, trade: TradePrint) -> None:
        """Send a public trade to those who listen."""
        name = trade.symbol.lower()
        if f"{name}@trade" in self._listeners:
            self._publish(f"{name}@trade", messages.trade_event(trade))
        if f"{name}@aggTrade" in self._listeners:
            self._publish(f"{name}@aggTrade", messages.aggregate_trade_event(trade))

    def tell_book(self, book: BookEvent) -> None:
        """Send the top of a book to those who listen."""
        stream = f"{book.symbol.lower()}@bookTicker"
        if stream in self._listeners:
            self._publish(stream, messages.book_ticker_event(book))

    def tell_candle(self, event: CandleEvent, time_ns: int) -> None:
        """Send the bars that have ended with this base candle."""
        series = self._venue.candles(event.symbol)
        opens_ms = event.candle.open_ms + self._venue.offset_ms
        for stream, interval in self._kline_streams(event.symbol):
            bar_ms, next_bar_ms = interval_bounds(opens_ms, interval)
            begun_ms = self._begun.pop(stream, bar_ms)
            if begun_ms != bar_ms:
                # The last base candles of that bar were missing from the record.
                self._publish_kline(stream, event.symbol, interval, begun_ms, time_ns)
            if opens_ms + series.base_ms >= next_bar_ms:
                self._publish_kline(stream, event.symbol, interval, bar_ms, time_ns)
            else:
                self._begun[stream] = bar_ms

    def tick(self, time_ns: int) -> None:
        """Send what is sent once per second: bars in the making and tickers."""
        for symbol in self._venue.exchange.symbols:
            name = symbol.lower()
            if self._venue.candles(symbol).is_building:
                for stream, interval in self._kline_streams(symbol):
                    self._publish_running_kline(stream, symbol, interval, time_ns)
            if f"{name}@miniTicker" in self._listeners:
                day = self._venue.day(symbol)
                event = messages.mini_ticker_event(symbol, day, time_ns)
                self._publish(f"{name}@miniTicker", event)
        if _ALL_MINI_TICKERS in self._listeners:
            self._publish(
                _ALL_MINI_TICKERS,
                [
                    messages.mini_ticker_event(symbol, self._venue.day(symbol), time_ns)
                    for symbol in self._venue.exchange.symbols
                ],
            )

    def tell_shutdown(self, time_ns: int) -> None:
        """Announce the end to every listener."""
        connections = {
            connection: None for listeners in self._listeners.values() for connection in listeners
        }
        raw = msgspec.json.encode(messages.server_shutdown(time_ns))
        for connection in connections:
            connection.deliver(raw, _combined("!serverShutdown", raw))

    def _kline_streams(self, symbol: str) -> list[tuple[str, str]]:
        prefix = f"{symbol.lower()}@kline_"
        series = self._venue.candles(symbol)
        return [
            (stream, match[2])
            for stream in self._listeners
            if stream.startswith(prefix)
            and (match := _KLINE.fullmatch(stream)) is not None
            and series.serves(match[2])
        ]

    def _publish_kline(
        self, stream: str, symbol: str, interval: str, bar_ms: int, time_ns: int
    ) -> None:
        candles = self._aggregate(symbol, interval, bar_ms)
        for candle in candles:
            event = messages.kline_event(symbol, interval, candle, time_ns, is_closed=True)
            self._publish(stream, event)

    def _publish_running_kline(self, stream: str, symbol: str, interval: str, time_ns: int) -> None:
        for candle in self._aggregate(symbol, interval, None):
            event = messages.kline_event(symbol, interval, candle, time_ns, is_closed=False)
            self._publish(stream, event)

    def _aggregate(self, symbol: str, interval: str, bar_ms: int | None) -> list[Candle]:
        return self._venue.candles(symbol).aggregate(
            interval, offset_ms=self._venue.offset_ms, start_ms=bar_ms, end_ms=bar_ms, limit=1
        )

    def _publish(self, stream: str, message: object) -> None:
        raw = msgspec.json.encode(message)
        combined = _combined(stream, raw)
        for connection in self._listeners[stream]:
            connection.deliver(raw, combined)


def _combined(stream: str, raw: bytes) -> bytes:
    return b'{"stream":' + msgspec.json.encode(stream) + b',"data":' + raw + b"}"


def _invalid(text: str) -> messages.Message:
    return {"code": 2, "msg": f"Invalid request: {text}"}


def _request_id(value: object) -> tuple[bool, object]:
    """Return whether the id is of a legal kind, and the id as it goes back."""
    if value is None:
        return True, None
    if isinstance(value, JsonNumber):
        try:
            number = int(value)
        except ValueError:
            return False, None
        return -(2**63) <= number < 2**63, number
    return isinstance(value, str) and _ID_TEXT.fullmatch(value) is not None, value

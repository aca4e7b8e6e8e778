"""The public streams: who listens to what, and what they are sent."""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

import msgspec

from bagbot.simulator import binance_messages as messages
from bagbot.simulator import stream_messages
from bagbot.simulator.binance_errors import BinanceError
from bagbot.simulator.binance_wire import JsonNumber, read_json
from bagbot.simulator.candles import INTERVALS_MS, Candle, interval_bounds
from bagbot.simulator.depth_feed import DepthFeed
from bagbot.simulator.market_views import day_statistics, depth_snapshot
from bagbot.simulator.orders import TradePrint
from bagbot.simulator.socket_limits import PolicyError
from bagbot.simulator.sockets import SocketSender
from bagbot.simulator.stream_faults import EventGate
from bagbot.simulator.time_unit import TimeUnit, printed_in
from bagbot.simulator.venue import BookEvent, CandleEvent, Venue

_STREAM_NAME_LENGTH_MAX = 200
_KLINE = re.compile(
    r"[a-z0-9]+@kline_(1[smhdwM]|3[md]|5m|15m|30m|[2468]h|12h)(@\+08:00)?", re.ASCII
)
_EIGHT_HOURS_MS = 8 * 60 * 60 * 1_000
_DEPTH = re.compile(r"([a-z0-9]+)@depth(5|10|20)?(@100ms|@1000ms)?", re.ASCII)
_FAST = "@100ms"
_WINDOWS = ("1h", "4h", "1d")
_ID_TEXT = re.compile(r"[A-Za-z0-9_-]{0,36}")
_ALL_MINI_TICKERS = "!miniTicker@arr"
SHUTDOWN = "!serverShutdown"
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")


class _KlineStream(NamedTuple):
    """A kline stream that somebody listens to."""

    name: str
    interval: str
    zone_ms: int


class StreamConnection:
    """One listener and the streams it wants."""

    def __init__(
        self,
        hub: "StreamHub",
        sender: SocketSender,
        gate: EventGate,
        *,
        is_combined: bool,
        streams_max: int,
        unit: TimeUnit = TimeUnit.MILLISECOND,
    ) -> None:
        self._hub = hub
        self._sender = sender
        self._gate = gate
        self.is_combined = is_combined
        self.unit = unit
        self._streams_max = streams_max
        self.streams: dict[str, None] = {}
        hub.connections[self] = None

    def deliver(self, stream: str, raw: bytes, combined: bytes) -> None:
        """Send an event in the form this connection wants."""
        symbol = stream.partition("@")[0].upper()
        self._gate.pass_on(combined if self.is_combined else raw, path=stream, symbol=symbol)

    def tell_shutdown(self, time_ns: int) -> None:
        """Announce that the connection is about to end."""
        with printed_in(self.unit):
            raw = msgspec.json.encode(messages.server_shutdown(time_ns))
        self._sender.send(_combined(SHUTDOWN, raw) if self.is_combined else raw)

    def listen(self, streams: Iterable[str]) -> None:
        """Add streams; unknown names are accepted, as on Binance, and never send anything.

        Raises PolicyError when they are too many for one connection.
        """
        for stream in streams:
            if stream not in self.streams and len(self.streams) >= self._streams_max:
                raise PolicyError("Too many streams")
            self.streams[stream] = None
            self._hub.add(stream, self)

    def receive(self, text: str) -> None:
        """Carry out a control message and answer it. Raises PolicyError."""
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
        del self._hub.connections[self]

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
        if any(len(name) > _STREAM_NAME_LENGTH_MAX for name in names):
            return _invalid("stream name is too long")
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
    """All listeners by stream. An event is built and encoded only if somebody listens."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self.connections: dict[StreamConnection, None] = {}
        # How many events went out by each stream.
        self.sent: Counter[str] = Counter()
        self._listeners: dict[str, dict[StreamConnection, None]] = {}
        # Bars of longer intervals that have begun and whose end has not been told yet.
        self._begun: dict[str, int] = {}
        self._depth_feeds: dict[str, DepthFeed] = {}

    def add(self, stream: str, connection: StreamConnection) -> None:
        """Register a listener."""
        self._listeners.setdefault(stream, {})[connection] = None
        match = _DEPTH.fullmatch(stream)
        if match is None or match[2] is not None or stream in self._depth_feeds:
            return
        symbol = match[1].upper()
        if symbol in self._venue.exchange.symbols:
            self._depth_feeds[stream] = DepthFeed(self._venue, symbol)

    def remove(self, stream: str, connection: StreamConnection) -> None:
        """Forget a listener."""
        listeners = self._listeners[stream]
        del listeners[connection]
        if not listeners:
            del self._listeners[stream]
            self._begun.pop(stream, None)
            self._depth_feeds.pop(stream, None)

    @property
    def has_listeners(self) -> bool:
        """Return whether anybody listens to any stream."""
        return bool(self._listeners)

    def tell_trade(self, trade: TradePrint) -> None:
        """Send a public trade to those who listen."""
        name = trade.symbol.lower()
        self._publish(f"{name}@trade", lambda: messages.trade_event(trade))
        self._publish(f"{name}@aggTrade", lambda: messages.aggregate_trade_event(trade))

    def tell_book(self, book: BookEvent) -> None:
        """Send the top of a book to those who listen."""
        stream = f"{book.symbol.lower()}@bookTicker"
        self._publish(stream, lambda: messages.book_ticker_event(book))

    def observe_books(self) -> None:
        """Note what has changed in the books whose depth somebody listens to."""
        for feed in self._depth_feeds.values():
            feed.observe()

    def tell_candle(self, event: CandleEvent, time_ns: int) -> None:
        """Send the bars that have ended with this base candle."""
        series = self._venue.candles(event.symbol)
        opens_ms = event.candle.open_ms + self._venue.offset_ms
        for stream in self._kline_streams(event.symbol):
            bar_ms, next_bar_ms = interval_bounds(opens_ms, stream.interval, stream.zone_ms)
            begun_ms = self._begun.pop(stream.name, bar_ms)
            if begun_ms != bar_ms:
                # The last base candles of that bar were missing from the record.
                self._publish_kline(stream, event.symbol, begun_ms, time_ns)
            if opens_ms + series.base_ms >= next_bar_ms:
                self._publish_kline(stream, event.symbol, bar_ms, time_ns)
            else:
                self._begun[stream.name] = bar_ms

    def tick(self, time_ns: int) -> None:
        """Send what is sent once per second: bars in the making, statistics and slow depth."""
        for symbol in self._venue.exchange.symbols:
            if self._venue.candles(symbol).is_building:
                for stream in self._kline_streams(symbol):
                    self._publish_running_kline(stream, symbol, time_ns)
            self._publish_statistics(symbol, time_ns)
        self._publish_for_all(_ALL_MINI_TICKERS, self._mini_ticker, time_ns)
        for window in _WINDOWS:
            self._publish_for_all(f"!ticker_{window}@arr", self._window_ticker(window), time_ns)
        self._publish_depth(time_ns, is_fast=False)

    def tick_fast(self, time_ns: int) -> None:
        """Send what is sent ten times per second: fast depth."""
        self._publish_depth(time_ns, is_fast=True)

    def tell_shutdown(self, time_ns: int) -> None:
        """Announce the end to every connection."""
        for connection in self.connections:
            connection.tell_shutdown(time_ns)
        self.sent[SHUTDOWN] += len(self.connections)

    def _publish_statistics(self, symbol: str, time_ns: int) -> None:
        name = symbol.lower()
        self._publish(f"{name}@miniTicker", lambda: self._mini_ticker(symbol, time_ns))
        self._publish(f"{name}@ticker", lambda: self._day_ticker(symbol, time_ns))
        self._publish(f"{name}@avgPrice", lambda: self._average_price(symbol, time_ns))
        for window in _WINDOWS:
            build = self._window_ticker(window)
            self._publish(f"{name}@ticker_{window}", partial(build, symbol, time_ns))

    def _mini_ticker(self, symbol: str, time_ns: int) -> messages.Message:
        return messages.mini_ticker_event(symbol, self._venue.day(symbol), time_ns)

    def _day_ticker(self, symbol: str, time_ns: int) -> messages.Message:
        return stream_messages.ticker_event(symbol, day_statistics(self._venue, symbol), time_ns)

    def _average_price(self, symbol: str, time_ns: int) -> messages.Message:
        venue = self._venue
        return stream_messages.average_price_event(
            symbol,
            venue.exchange.symbols[symbol].average_price_minutes,
            venue.average_price(symbol),
            venue.last_trade(symbol),
            time_ns,
        )

    def _window_ticker(self, window: str) -> Callable[[str, int], messages.Message]:
        def build(symbol: str, time_ns: int) -> messages.Message:
            statistics = self._venue.day(symbol, INTERVALS_MS[window])
            return stream_messages.window_ticker_event(
                symbol, window, statistics, self._venue.offset_ms, time_ns
            )

        return build

    def _publish_for_all(
        self, stream: str, build: Callable[[str, int], messages.Message], time_ns: int
    ) -> None:
        symbols = self._venue.exchange.symbols
        self._publish(stream, lambda: [build(symbol, time_ns) for symbol in symbols])

    def _publish_depth(self, time_ns: int, *, is_fast: bool) -> None:
        for stream in list(self._listeners):
            match = _DEPTH.fullmatch(stream)
            if match is None or (match[3] == _FAST) is not is_fast:
                continue
            symbol = match[1].upper()
            feed = self._depth_feeds.get(stream)
            if feed is not None and feed.has_news():
                self._publish(stream, partial(feed.event, time_ns))
                feed.sent()
            elif match[2] is not None and symbol in self._venue.exchange.books:
                levels = int(match[2])
                self._publish(stream, partial(depth_snapshot, self._venue, symbol, levels))

    def _kline_streams(self, symbol: str) -> list[_KlineStream]:
        prefix = f"{symbol.lower()}@kline_"
        series = self._venue.candles(symbol)
        return [
            _KlineStream(name, match[1], 0 if match[2] is None else _EIGHT_HOURS_MS)
            for name in self._listeners
            if name.startswith(prefix)
            and (match := _KLINE.fullmatch(name)) is not None
            and series.serves(match[1])
        ]

    def _publish_kline(self, stream: _KlineStream, symbol: str, bar_ms: int, time_ns: int) -> None:
        for candle in self._aggregate(symbol, stream, bar_ms):
            self._publish_candle(stream, symbol, candle, time_ns, is_closed=True)

    def _publish_running_kline(self, stream: _KlineStream, symbol: str, time_ns: int) -> None:
        for candle in self._aggregate(symbol, stream, None):
            self._publish_candle(stream, symbol, candle, time_ns, is_closed=False)

    def _publish_candle(
        self, stream: _KlineStream, symbol: str, candle: Candle, time_ns: int, *, is_closed: bool
    ) -> None:
        self._publish(
            stream.name,
            lambda: messages.kline_event(
                symbol,
                stream.interval,
                candle,
                time_ns,
                is_closed=is_closed,
                zone_ms=stream.zone_ms,
            ),
        )

    def _aggregate(self, symbol: str, stream: _KlineStream, bar_ms: int | None) -> list[Candle]:
        return self._venue.candles(symbol).aggregate(
            stream.interval,
            offset_ms=self._venue.offset_ms,
            start_ms=bar_ms,
            end_ms=bar_ms,
            limit=1,
            zone_ms=stream.zone_ms,
        )

    def _publish(self, stream: str, build: Callable[[], object]) -> None:
        """Send what `build` returns to those who listen, printed in the unit of each."""
        listeners = self._listeners.get(stream)
        if listeners is None:
            return
        self.sent[stream] += len(listeners)
        for unit in {connection.unit for connection in listeners}:
            with printed_in(unit):
                raw = msgspec.json.encode(build())
            combined = _combined(stream, raw)
            for connection in listeners:
                if connection.unit is unit:
                    connection.deliver(stream, raw, combined)


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

"""The simulator as a server: HTTP and WebSocket on one port, and the market's own task.

Everything that decides anything is in the pure modules; here are the sockets, the clock and the
log. The store is written from the loop on purpose: an answer may not leave before it, and a
commit takes some tens of microseconds because nothing waits for the disk.
"""

import asyncio
import ipaddress
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import structlog
from aiohttp import WSMsgType, web

from bagbot.domain import fills
from bagbot.domain.errors import ConfigError
from bagbot.simulator.admin import Admin, AdminError, LoggedRequest
from bagbot.simulator.amounts import amount_from_decimal
from bagbot.simulator.bar_exchange import BarExchange
from bagbot.simulator.bar_venue import BarSeries, BarVenue, StandingClock
from bagbot.simulator.binance_errors import BinanceError, not_found, service_retired
from bagbot.simulator.binance_wire import WireRequest, read_http
from bagbot.simulator.exchange import Exchange
from bagbot.simulator.faults import HIDDEN_BODY, Fault, FaultKind, FaultScript
from bagbot.simulator.market import (
    PROFILES,
    PriceSource,
    RecordedBar,
    RecordedMarket,
    SyntheticMarket,
    grid_ms,
    load_bars,
)
from bagbot.simulator.market_streams import StreamConnection, StreamHub
from bagbot.simulator.orders import OrderEvent, TradePrint
from bagbot.simulator.rate_limits import LimitSettings, RateLimits
from bagbot.simulator.sockets import SocketSender
from bagbot.simulator.spot_api import (
    REST_ENDPOINTS,
    RETIRED_PATHS,
    WEBSOCKET_ENDPOINTS,
    Endpoint,
    SpotApi,
)
from bagbot.simulator.store import Store
from bagbot.simulator.symbols import DEFAULT_SYMBOLS, SymbolRules, with_open_orders_max
from bagbot.simulator.venue import (
    BookEvent,
    CandleEvent,
    MarketClock,
    Venue,
)
from bagbot.simulator.websocket_api import (
    UserStreams,
    WebSocketReply,
    WebSocketRequest,
    WebSocketSession,
    read_request,
)

logger = structlog.get_logger(__name__)

_BODY_BYTES_MAX = 64 * 1024
_MESSAGE_BYTES_MAX = 64 * 1024
_STEP_S = 0.1
# How long others may run between two steps of a market that is behind its clock.
_CATCH_UP_S = 0.005
_TICK_S = 1.0
_PING_S = 20.0
_SHUTDOWN_S = 1.0


def _default_balances() -> Mapping[str, Decimal]:
    return {
        "BTC": Decimal(10),
        "ETH": Decimal(100),
        "USDT": Decimal(1_000_000),
        "BNB": Decimal(100),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """How the simulator is set up.

    Without `store` nothing outlives the process. With `data`, a Parquet file of bars, the
    market of `data_symbol` is that record, from its first bar or from `market_start_ms` on; every
    other market is synthetic. `speed` is market seconds per wall second. Balances and seed count
    on the first start with a store only.

    `matcher` is "book", or "bars": then `data_symbol` is the only market, and its bars decide fills
    by docs/FILL_RULES.md, with the costs `slippage_ticks` to `volume_share_ppm` (None: no limit).
    `stepped` bars wait for POST /admin/step, others follow the clock at `speed`.
    """

    api_key: str
    api_secret: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    store: Path | None = None
    data: Path | None = None
    data_symbol: str = "BTCUSDT"
    market_start_ms: int | None = None
    speed: float = 1.0
    seed: int = 7
    balances: Mapping[str, Decimal] = field(default_factory=_default_balances)
    maker_fee_ppm: int = 1_000
    taker_fee_ppm: int = 1_000
    matcher: str = "book"
    stepped: bool = False
    slippage_ticks: int = 0
    slippage_ppm: int = 0
    through_ticks: int = 1
    volume_share_ppm: int | None = None
    open_orders_max: int = 200
    limits: LimitSettings = field(default_factory=LimitSettings)

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot work."""
        if self.data_symbol not in DEFAULT_SYMBOLS:
            raise ConfigError(f"data_symbol must be one of {', '.join(DEFAULT_SYMBOLS)}")
        if not 0 < self.speed < math.inf:
            raise ConfigError("speed must be a number above zero")
        if any(amount < 0 for amount in self.balances.values()):
            raise ConfigError("a balance cannot be negative")
        if self.matcher not in ("book", "bars"):
            raise ConfigError('matcher must be "book" or "bars"')
        if self.matcher == "bars" and self.data is None:
            raise ConfigError("bars need data")
        if self.stepped and self.matcher != "bars":
            raise ConfigError("only bars are stepped")
        share_ppm = self.volume_share_ppm or 0
        if min(self.slippage_ticks, self.slippage_ppm, self.through_ticks, share_ppm) < 0:
            raise ConfigError("a cost cannot be negative")


class SimulatorServer:
    """A Binance that runs here."""

    def __init__(
        self, settings: SimulatorSettings, *, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._faults = FaultScript()
        self._users = UserStreams()
        self._sockets: set[web.WebSocketResponse] = set()
        self._stopped = asyncio.Event()
        self._runner: web.ServerRunner | None = None
        self._market_task: asyncio.Task[None] | None = None
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """Return the base address of REST, such as http://127.0.0.1:8123."""
        return f"http://{_host_in_url(self.settings.host)}:{self._port}"

    @property
    def websocket_url(self) -> str:
        """Return the base address of the sockets, such as ws://127.0.0.1:8123."""
        return f"ws://{_host_in_url(self.settings.host)}:{self._port}"

    @property
    def socket_count(self) -> int:
        """Return how many WebSockets are open."""
        return len(self._sockets)

    async def start(self) -> None:
        """Load what there is, listen, and set the market going.

        Raises DataError for an unusable data file, ConfigError for an unusable store, and OSError
        for a port in use.
        """
        settings = self.settings
        bars: list[RecordedBar] | None = None
        if settings.data is not None:
            rules = DEFAULT_SYMBOLS[settings.data_symbol]
            bars = await asyncio.to_thread(load_bars, settings.data, rules)
        store = Store(settings.store)
        try:
            await self._open(store, bars)
        except BaseException:
            store.close()
            raise
        self._stopped.clear()
        self._market_task = asyncio.create_task(self._run_market(), name="simulator market")
        logger.info("simulator listening", url=self.url, speed=settings.speed)

    async def _open(self, store: Store, bars: list[RecordedBar] | None) -> None:
        """Build the exchange on what the store knows, and listen."""
        settings = self.settings
        self._store = store
        self._venue = _build_venue(settings, store, bars, self._clock())
        self._api = SpotApi(
            self._venue,
            RateLimits(settings.limits),
            api_key=settings.api_key,
            api_secret=settings.api_secret,
        )
        self._hub = StreamHub(self._venue)
        self._admin = Admin(self._venue, self._faults)
        runner = web.ServerRunner(
            web.Server(self._handle, access_log=None), shutdown_timeout=_SHUTDOWN_S
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop the market, close every connection and the store. Stopping twice is harmless.

        Raises what the market has failed with, if it has.
        """
        runner, self._runner = self._runner, None
        if runner is None:
            return
        failure = None
        if self._market_task is not None:
            self._market_task.cancel()
            (failure,) = await asyncio.gather(self._market_task, return_exceptions=True)
        self._hub.tell_shutdown(self._clock())
        if self._sockets:
            await asyncio.gather(
                *(socket.close(code=1001, message=b"shutdown") for socket in self._sockets)
            )
        await runner.cleanup()
        self._store.close()
        self._stopped.set()
        logger.info("simulator stopped")
        if isinstance(failure, Exception):
            raise failure

    async def wait_stopped(self) -> None:
        """Return when `stop` was called or the market has failed."""
        await self._stopped.wait()

    async def run_until_stopped(self) -> None:
        """Start, and serve until `stop` is called or this is cancelled."""
        async with self:
            await self.wait_stopped()

    # The market.

    async def _run_market(self) -> None:
        """Play the market in small steps. If that fails, `run_until_stopped` ends and raises it."""
        is_over_logged = False
        next_tick_s = time.monotonic()
        try:
            while True:
                is_up_to_date = self._venue.advance(self._clock())
                self._publish()
                if time.monotonic() >= next_tick_s:
                    next_tick_s = time.monotonic() + _TICK_S
                    self._hub.tick(self._clock())
                if self._venue.is_market_over and not is_over_logged:
                    is_over_logged = True
                    logger.warning("recorded bars are over, the price stands still")
                await asyncio.sleep(_STEP_S if is_up_to_date else _CATCH_UP_S)
        except Exception:
            logger.exception("the market has failed, the simulator is of no use any more")
            self._stopped.set()
            raise

    def _publish(self) -> None:
        """Tell clients what has happened, in order. It is stored already."""
        now_ns = self._clock()
        events = self._venue.outbox
        self._venue.outbox = []
        for event in events:
            if isinstance(event, TradePrint):
                self._hub.tell_trade(event)
            elif isinstance(event, BookEvent):
                self._hub.tell_book(event)
            elif isinstance(event, CandleEvent):
                self._hub.tell_candle(event, now_ns)
            else:
                if isinstance(event, OrderEvent):
                    self._api.observe(event)
                self._users.tell(event, now_ns)

    # HTTP.

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request of any kind."""
        received = self._clock(), time.monotonic_ns()
        path, _, query = request.raw_path.partition("?")
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._handle_socket(request, path, query)
        body = await _read_body(request)
        if body is None:
            return _json({"code": -1000, "msg": "Request body is too large."}, 413)
        raw_query = query.partition("#")[0].encode("utf-8", "surrogateescape")
        if path.startswith("/admin/"):
            return self._answer_admin(request, path, raw_query, body)
        log = self._log_request(request.method, path, received)
        return await self._answer_rest(request, log, raw_query, body)

    def _answer_admin(
        self, request: web.BaseRequest, path: str, query: bytes, body: bytes
    ) -> web.Response:
        if not _is_loopback(request.remote):
            return _json({"error": "only for the machine it runs on"}, 403)
        try:
            parameters = read_http(query, b"").parameters
            result = self._admin.answer(request.method, path, parameters, body, self._clock())
        except AdminError as error:
            return _json({"error": str(error)}, error.status)
        except BinanceError as error:
            return _json({"error": error.message}, error.status)
        self._publish()
        return _json(result)

    async def _answer_rest(
        self, request: web.BaseRequest, log: LoggedRequest, query: bytes, body: bytes
    ) -> web.StreamResponse:
        try:
            wire = read_http(query, body)
        except BinanceError as error:
            return self._refuse(error, log)
        fault = self._take_fault(log, wire)
        if fault is not None:
            if fault.kind is FaultKind.DELAY_BEFORE:
                await asyncio.sleep(fault.delay_s)
            elif fault.kind is FaultKind.LOSE_REQUEST:
                return _cut(request, log)
            elif fault.kind in (FaultKind.REFUSE, FaultKind.HIDE):
                return self._scripted(fault, log)
        response = self._carry_out_rest(request, wire, log)
        if fault is not None:
            if fault.kind is FaultKind.DELAY_ANSWER:
                await asyncio.sleep(fault.delay_s)
            elif fault.kind is FaultKind.LOSE_ANSWER:
                return _cut(request, log)
            elif fault.kind is FaultKind.ANSWER:
                return self._scripted(fault, log)
        return response

    def _carry_out_rest(
        self, request: web.BaseRequest, wire: WireRequest, log: LoggedRequest
    ) -> web.Response:
        now_ns = self._clock()
        try:
            endpoint = _rest_endpoint(log.method, log.path)
            api_key = request.headers.get("X-MBX-APIKEY")
            result = self._api.answer(endpoint, wire, api_key, now_ns)
        except BinanceError as error:
            self._publish()
            return self._refuse(error, log)
        self._accept(log, endpoint)
        self._publish()
        headers = self._api.limits.headers(now_ns // 1_000_000, with_orders=endpoint.places_orders)
        return _json(result, 200, headers)

    def _refuse(self, error: BinanceError, log: LoggedRequest) -> web.Response:
        log.status, log.code, log.outcome = error.status, error.code, "refused"
        headers = self._api.limits.headers(self._clock() // 1_000_000, with_orders=False)
        body: dict[str, object] = {"code": error.code, "msg": error.message}
        if error.data is not None:
            body["data"] = error.data
        return _json(body, error.status, headers | error.headers)

    def _scripted(self, fault: Fault, log: LoggedRequest) -> web.Response:
        """Return the answer a fault prescribes."""
        status, body = _prescribed(fault)
        log.status = status
        if log.outcome == "open":
            log.outcome = "refused"
        headers = self._api.limits.headers(self._clock() // 1_000_000, with_orders=False)
        if fault.retry_after_s is not None:
            headers["Retry-After"] = str(fault.retry_after_s)
        return _json(body, status, headers)

    # The request log and the faults.

    def _log_request(self, method: str, path: str, received: tuple[int, int]) -> LoggedRequest:
        log = LoggedRequest(
            received_ns=received[0],
            received_monotonic_ns=received[1],
            method=method,
            path=path,
        )
        self._admin.requests.append(log)
        return log

    def _take_fault(self, log: LoggedRequest, wire: WireRequest) -> Fault | None:
        parameters = wire.parameters
        log.symbol = parameters.get("symbol")
        # A cancellation carries an id of its own; the order it is about is what counts.
        log.client_order_id = parameters.get("origClientOrderId") or parameters.get(
            "newClientOrderId"
        )
        fault = self._faults.take(log.method, log.path, log.symbol, log.client_order_id)
        if fault is not None:
            log.fault = fault.kind.value
            logger.info(
                "fault injected",
                kind=log.fault,
                path=log.path,
                client_order_id=log.client_order_id,
            )
        return fault

    def _accept(self, log: LoggedRequest, endpoint: Endpoint | None) -> None:
        log.status, log.outcome = 200, "done"
        if endpoint is not None and endpoint.places_orders:
            log.accepted_ns = self._clock()
            log.accepted_monotonic_ns = time.monotonic_ns()

    # WebSockets.

    async def _handle_socket(
        self, request: web.BaseRequest, path: str, query: str
    ) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            heartbeat=_PING_S, compress=False, max_msg_size=_MESSAGE_BYTES_MAX, timeout=_SHUTDOWN_S
        )
        if not socket.can_prepare(request):
            return _json({"code": -1000, "msg": "Not a WebSocket handshake."}, 400)
        streams = _requested_streams(path, query)
        is_api = path.rstrip("/") == "/ws-api/v3"
        if streams is None and not is_api:
            return _json({"code": -1000, "msg": "Path not found."}, 404)
        await socket.prepare(request)
        sender = SocketSender(socket, request.transport)
        self._sockets.add(socket)
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(sender.run())
                if streams is None:
                    wants_limits = "returnRateLimits=false" not in query.split("&")
                    session = WebSocketSession(self._api, sender, wants_limits=wants_limits)
                    await self._serve_api(session, socket)
                else:
                    is_combined = path.startswith("/stream") and not path.startswith("/stream/ws")
                    connection = StreamConnection(self._hub, sender, is_combined=is_combined)
                    await _serve_streams(connection, socket, streams)
                writer.cancel()
        finally:
            self._sockets.discard(socket)
        return socket

    async def _serve_api(self, session: WebSocketSession, socket: web.WebSocketResponse) -> None:
        self._users.add(session)
        try:
            async with asyncio.TaskGroup() as answers:
                async for message in socket:
                    if message.type is WSMsgType.TEXT:
                        await self._receive(session, message.data, answers)
        finally:
            self._users.remove(session)

    async def _receive(
        self, session: WebSocketSession, text: str, answers: asyncio.TaskGroup
    ) -> None:
        """Answer one message. A delayed answer does not hold up the messages after it."""
        received = self._clock(), time.monotonic_ns()
        try:
            request = read_request(text)
        except BinanceError as error:
            session.send_unreadable(error, self._clock())
            return
        log = self._log_request("WS", request.method, received)
        fault = self._take_fault(log, request.wire)
        if fault is None:
            self._carry_out_socket(session, request, log)
            return
        answers.create_task(self._answer_faultily(session, request, log, fault))

    async def _answer_faultily(
        self,
        session: WebSocketSession,
        request: WebSocketRequest,
        log: LoggedRequest,
        fault: Fault,
    ) -> None:
        if fault.kind is FaultKind.LOSE_REQUEST:
            log.outcome = "lost"
            session.cut()
            return
        if fault.kind in (FaultKind.REFUSE, FaultKind.HIDE):
            log.outcome = "refused"
            self._send_prescribed(session, request, fault)
            return
        if fault.kind is FaultKind.DELAY_BEFORE:
            await asyncio.sleep(fault.delay_s)
            self._carry_out_socket(session, request, log)
            return
        reply = self._reply(session, request, log)
        if fault.kind is FaultKind.LOSE_ANSWER:
            session.cut()
        elif fault.kind is FaultKind.ANSWER:
            self._send_prescribed(session, request, fault)
        else:
            await asyncio.sleep(fault.delay_s)
            session.send(request, reply, self._clock())

    def _carry_out_socket(
        self, session: WebSocketSession, request: WebSocketRequest, log: LoggedRequest
    ) -> None:
        reply = self._reply(session, request, log)
        session.send(request, reply, self._clock())

    def _reply(
        self, session: WebSocketSession, request: WebSocketRequest, log: LoggedRequest
    ) -> WebSocketReply:
        reply = session.answer(request, self._clock())
        if reply.status == 200:
            self._accept(log, WEBSOCKET_ENDPOINTS.get(request.method))
        else:
            log.status, log.outcome = reply.status, "refused"
        self._publish()
        return reply

    def _send_prescribed(
        self, session: WebSocketSession, request: WebSocketRequest, fault: Fault
    ) -> None:
        status, body = _prescribed(fault)
        session.send(request, WebSocketReply(status, {"error": dict(body)}), self._clock())


async def _serve_streams(
    connection: StreamConnection, socket: web.WebSocketResponse, streams: list[str]
) -> None:
    connection.listen(streams)
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                connection.receive(message.data)
    finally:
        connection.close()


def _build_venue(
    settings: SimulatorSettings, store: Store, bars: list[RecordedBar] | None, now_ns: int
) -> Venue:
    """Return the venue as it was left, or a new one."""
    symbols = with_open_orders_max(DEFAULT_SYMBOLS, settings.open_orders_max)
    state = store.state()
    served = {settings.data_symbol} if settings.matcher == "bars" else set(symbols)
    if state is not None and state.prices.keys() != served:
        raise ConfigError("the store is of an exchange with other markets: take another one")
    market_name = "" if settings.data is None else settings.data.name
    if state is not None and state.market_name == market_name:
        market_start_ms = state.market_time_ms
    elif settings.market_start_ms is not None:
        market_start_ms = settings.market_start_ms
    else:
        market_start_ms = bars[0].open_ms if bars is not None else now_ns // 1_000_000
    balances = {asset: amount_from_decimal(amount) for asset, amount in settings.balances.items()}
    if settings.matcher == "bars" and bars is not None:
        rules = symbols[settings.data_symbol]
        series = BarSeries(bars, rules, start_ms=market_start_ms)
        return _build_bar_venue(settings, store, series, rules, balances, now_ns)
    sources: dict[str, PriceSource] = {}
    step_ms = grid_ms(settings.speed)
    for symbol, rules in symbols.items():
        if bars is not None and symbol == settings.data_symbol:
            sources[symbol] = RecordedMarket(bars, rules, start_ms=market_start_ms, step_ms=step_ms)
        else:
            sources[symbol] = SyntheticMarket(
                rules,
                PROFILES[symbol],
                seed=settings.seed,
                start_ms=market_start_ms,
                step_ms=step_ms,
                price=None if state is None else state.prices[symbol],
            )
    return Venue(
        Exchange(
            symbols,
            maker_fee_ppm=settings.maker_fee_ppm,
            taker_fee_ppm=settings.taker_fee_ppm,
        ),
        sources,
        store,
        clock=MarketClock(
            wire_start_ns=now_ns, market_start_ms=market_start_ms, speed=settings.speed
        ),
        balances=balances,
        market_name=market_name,
    )


def _build_bar_venue(
    settings: SimulatorSettings,
    store: Store,
    series: BarSeries,
    rules: SymbolRules,
    balances: Mapping[str, int],
    now_ns: int,
) -> BarVenue:
    """Return the venue that plays `series` bar by bar."""
    assert settings.data is not None
    share_ppm = settings.volume_share_ppm
    costs = fills.Costs(
        maker_fee_ppm=settings.maker_fee_ppm,
        taker_fee_ppm=settings.taker_fee_ppm,
        slippage_ticks=settings.slippage_ticks,
        slippage_ppm=settings.slippage_ppm,
        through_ticks=settings.through_ticks,
        volume_share_ppm=fills.UNLIMITED if share_ppm is None else share_ppm,
    )
    start_ms = series.in_play.open_ms
    clock: MarketClock = StandingClock(wire_start_ns=now_ns, market_start_ms=start_ms)
    if not settings.stepped:
        clock = MarketClock(wire_start_ns=now_ns, market_start_ms=start_ms, speed=settings.speed)
    return BarVenue(
        BarExchange({rules.symbol: rules}, costs),
        series,
        store,
        clock=clock,
        balances=balances,
        market_name=settings.data.name,
    )


def _rest_endpoint(method: str, path: str) -> Endpoint:
    """Return what serves the path. Raises BinanceError."""
    endpoint = REST_ENDPOINTS.get((method, path))
    if endpoint is not None:
        return endpoint
    if path in RETIRED_PATHS:
        raise service_retired()
    raise not_found()


def _requested_streams(path: str, query: str) -> list[str] | None:
    """Return the streams an address names, or None if it is not a stream address.

    /ws/<a>/<b>, /stream?streams=<a>/<b>, and /stream/ws/<a>, by which CCXT knows a spot socket.
    """
    for prefix in ("/stream/ws", "/ws"):
        if path == prefix or path.startswith(prefix + "/"):
            return [name for name in path[len(prefix) :].split("/") if name]
    if path.rstrip("/") == "/stream":
        for part in query.split("&"):
            name, _, value = part.partition("=")
            if name == "streams":
                return [stream for stream in value.replace("%40", "@").split("/") if stream]
        return []
    return None


async def _read_body(request: web.BaseRequest) -> bytes | None:
    """Return the request's body, or None when it is too large."""
    if (request.content_length or 0) > _BODY_BYTES_MAX:
        return None
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > _BODY_BYTES_MAX:
            return None
    return bytes(body)


def _json(
    message: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(message),
        status=status,
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )


def _prescribed(fault: Fault) -> tuple[int, Mapping[str, object]]:
    return (400, HIDDEN_BODY) if fault.kind is FaultKind.HIDE else (fault.status, fault.body)


def _cut(request: web.BaseRequest, log: LoggedRequest) -> web.Response:
    """Drop the connection; the response returned goes nowhere."""
    if log.outcome == "open":
        log.outcome = "lost"
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _is_loopback(address: str | None) -> bool:
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _host_in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host

"""The simulator as a server: HTTP and WebSocket on one port, and the market's own task.

Everything that decides anything is in the pure modules; here are the sockets, the clock and the
log. The store is written from the loop on purpose: an answer may not leave before it, and a
commit takes some tens of microseconds because nothing waits for the disk.
"""

import asyncio
import ipaddress
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec
import structlog
from aiohttp import web

from bagbot.domain import fills
from bagbot.domain.errors import ConfigError
from bagbot.simulator.admin import Admin, AdminError
from bagbot.simulator.amounts import amount_from_decimal
from bagbot.simulator.api_keys import KeyRing
from bagbot.simulator.bar_exchange import BarExchange
from bagbot.simulator.bar_venue import BarSeries, BarVenue, StandingClock
from bagbot.simulator.binance_errors import BinanceError, no_service_at, service_retired
from bagbot.simulator.binance_wire import WireRequest, read_http
from bagbot.simulator.faults import FaultScript
from bagbot.simulator.faulty_answers import Answer, FaultyAnswers
from bagbot.simulator.intake import Intake, json_response
from bagbot.simulator.list_exchange import ListExchange
from bagbot.simulator.market_sources import (
    BARS_PREFIX,
    Record,
    first_ms,
    live_feed,
    market_name,
    read_record,
    sources,
)
from bagbot.simulator.market_streams import StreamHub
from bagbot.simulator.orders import OrderEvent, TradePrint
from bagbot.simulator.rate_limits import RateLimits
from bagbot.simulator.request_log import LoggedRequest, RequestLog
from bagbot.simulator.simulator_settings import SimulatorSettings
from bagbot.simulator.socket_limits import GuardedServer
from bagbot.simulator.socket_server import SocketServer
from bagbot.simulator.spot_api import (
    REST_ENDPOINTS,
    RETIRED_PATHS,
    Endpoint,
    SpotApi,
)
from bagbot.simulator.store import Store
from bagbot.simulator.symbol_settings import name_of, profile_of, rules_of
from bagbot.simulator.symbols import SymbolRules, with_open_orders_max
from bagbot.simulator.time_unit import printed_in, read_time_unit
from bagbot.simulator.venue import (
    BookEvent,
    CandleEvent,
    MarketClock,
    Venue,
)
from bagbot.simulator.venue_acts import VenueActs
from bagbot.simulator.wire_clock import WireClock

if TYPE_CHECKING:
    from bagbot.simulator.live_feed import LiveFeed

__all__ = ["SimulatorServer", "SimulatorSettings"]

logger = structlog.get_logger(__name__)

_BODY_BYTES_MAX = 64 * 1024
_STEP_S = 0.1
# How long others may run between two steps of a market that is behind its clock.
_CATCH_UP_S = 0.005
_TICK_NS = 1_000_000_000
# A little less than a step: the market's steps set the pace, not two clocks against each other.
_FAST_TICK_NS = 90_000_000
_SHUTDOWN_S = 1.0
_BAD_KEY_CODES = (-2014, -2015)


class SimulatorServer:
    """A Binance that runs here."""

    def __init__(
        self,
        settings: SimulatorSettings,
        *,
        clock: Callable[[], int] = time.time_ns,
        plays_by_itself: bool = True,
    ) -> None:
        """Set up; without `plays_by_itself` the market moves only when `play` is called."""
        self.settings = settings
        self._clock = WireClock(clock)
        self._plays_by_itself = plays_by_itself
        self._next_tick_ns = self._next_fast_tick_ns = 0
        self._is_over_logged = False
        self._faults = FaultScript(self._chance_of, self._clock.true_s)
        self._stopped = asyncio.Event()
        self._runner: web.ServerRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._live: LiveFeed | None = None
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
        return self._socket_server.count if self._runner is not None else 0

    @property
    def requests(self) -> Sequence[LoggedRequest]:
        """Return the newest requests received, REST and WebSocket API, oldest first."""
        return self._requests.lines()

    @property
    def events_sent(self) -> Mapping[str, int]:
        """Return how many events went out, by stream or by kind of the user's event."""
        return self._hub.sent + self._socket_server.users.sent

    @property
    def sockets_opened(self) -> Mapping[str, int]:
        """Return how many WebSockets were opened, by address such as "/stream"."""
        return self._socket_server.opened

    async def start(self) -> None:
        """Load what there is, listen, and set the market going.

        Raises DataError for an unusable data file, ConfigError for an unusable store, and OSError
        for a port in use.
        """
        settings = self.settings
        record = await read_record(settings)
        self._live = live_feed(settings, self._clock)
        store = Store(settings.store)
        try:
            if self._live is not None:
                await self._live.open()
            await self._open(store, record)
        except BaseException:
            store.close()
            await self._leave_live()
            raise
        self._stopped.clear()
        works = [self._play_market] if self._plays_by_itself else []
        if self._live is not None:
            works.append(self._live.run)
        self._tasks = [asyncio.create_task(self._until_failure(work)) for work in works]
        logger.info("simulator listening", url=self.url, speed=settings.speed)

    async def _open(self, store: Store, record: Record | None) -> None:
        """Build the exchange on what the store knows, and listen."""
        settings = self.settings
        self._store = store
        self._venue = _build_venue(settings, store, record, self._live, self._clock())
        account_ids = self._venue.account_ids
        self._api = SpotApi(
            self._venue,
            RateLimits(settings.limits),
            KeyRing(
                key.bound_to(account_ids[account.name])
                for account in settings.all_accounts
                for key in account.keys
            ),
            account_id=account_ids[settings.all_accounts[0].name],
            assumptions=settings.assumptions,
        )
        self._hub = StreamHub(self._venue)
        self._requests = RequestLog()
        self._intake = Intake(self._faults, self._requests.keep, self._clock, self._api.keys)
        self._faulty = FaultyAnswers(self._venue, self._intake, self._faults, self._clock)
        self._socket_server = SocketServer(
            self._api,
            self._hub,
            self._intake,
            self._faults,
            self._faulty,
            settings.sockets,
            publish=self._publish,
            clock=self._clock,
        )
        acts = VenueActs(self._venue, self._api, self._clock, self._socket_server)
        self._admin = Admin(self._venue, self._faults, self._requests, acts, self._intake.late)
        runner = web.ServerRunner(
            GuardedServer(
                self._handle,
                connections_max=settings.sockets.connections_max,
                first_request_s=settings.sockets.first_request_s,
            ),
            shutdown_timeout=_SHUTDOWN_S,
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
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._leave_live()
        await self._socket_server.close()
        await runner.cleanup()
        self._store.close()
        self._stopped.set()
        logger.info("simulator stopped")
        for failure in ends:
            if isinstance(failure, Exception):
                raise failure

    async def wait_stopped(self) -> None:
        """Return when `stop` was called or the market has failed."""
        await self._stopped.wait()

    async def run_until_stopped(self) -> None:
        """Start, and serve until `stop` is called or this is cancelled."""
        async with self:
            await self.wait_stopped()

    def _chance_of(self, number: int, seed: int | None) -> Callable[[], float]:
        """Return the chance by which a fault happens; see FaultScript."""
        own = f"{self.settings.seed}:fault:{number}" if seed is None else str(seed)
        return random.Random(own).random

    # The market.

    async def _until_failure(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Do the work; if it fails, `run_until_stopped` ends and raises what it failed with."""
        try:
            await work()
        except Exception:
            logger.exception("the market has failed, the simulator is of no use any more")
            self._stopped.set()
            raise

    async def _leave_live(self) -> None:
        if self._live is not None:
            await self._live.close()

    async def _play_market(self) -> None:
        """Play the market in small steps."""
        while True:
            is_up_to_date = self.play()
            await asyncio.sleep(_STEP_S if is_up_to_date else _CATCH_UP_S)

    def play(self) -> bool:
        """Play the market up to now; return False if there is more to catch up on.

        Everything in it follows from the clock, so that the same times give the same events.
        """
        now_ns = self._clock()
        if self._intake.late:
            self._intake.late.carry_out_due(self._clock.true_s())
        is_up_to_date = self._venue.advance(now_ns)
        self._publish()
        if _is_due(self._next_fast_tick_ns, now_ns, _FAST_TICK_NS):
            self._next_fast_tick_ns = now_ns + _FAST_TICK_NS
            self._hub.tick_fast(now_ns)
        if _is_due(self._next_tick_ns, now_ns, _TICK_NS):
            self._next_tick_ns = now_ns + _TICK_NS
            self._hub.tick(now_ns)
        if self._venue.is_market_over and not self._is_over_logged:
            self._is_over_logged = True
            logger.warning("the record is over, the price stands still")
        return is_up_to_date

    def _publish(self) -> None:
        """Tell clients what has happened, in order. It is stored already."""
        now_ns = self._clock()
        hub, users = self._hub, self._socket_server.users
        is_followed, is_user_followed = hub.has_listeners, users.has_listeners
        events = self._venue.outbox
        self._venue.outbox = []
        for event in events:
            if isinstance(event, TradePrint):
                if is_followed:
                    hub.tell_trade(event)
            elif isinstance(event, BookEvent):
                if is_followed:
                    hub.tell_book(event)
            elif isinstance(event, CandleEvent):
                hub.tell_candle(event, now_ns)
            else:
                if isinstance(event, OrderEvent):
                    self._api.observe(event)
                if is_user_followed:
                    users.tell(event, now_ns)
        hub.observe_books()

    # HTTP.

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request of any kind."""
        received = self._clock(), time.monotonic_ns()
        path, _, query = request.raw_path.partition("?")
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket_server.serve(request, path, query)
        body = _body_at_hand(request)
        if body is None:
            try:
                body = await self._body_in_time(request)
            except ConnectionError:
                return _abort(request)
        if body is None:
            log = self._intake.log(request.method, path, received)
            return self._refuse(BinanceError(-1000, "Request body is too large.", 413), log)
        raw_query = query.partition("#")[0].encode("utf-8", "surrogateescape")
        if path.startswith("/admin/"):
            return self._answer_admin(request, path, raw_query, body)
        log = self._intake.log(request.method, path, received)
        return await self._answer_rest(request, log, raw_query, body)

    async def _body_in_time(self, request: web.BaseRequest) -> bytes | None:
        """Return the body that is still on its way, or None when it is too large.

        Raises ConnectionError when the client has gone, or was cut off for letting us wait.
        """
        # A timer costs a fraction of asyncio.timeout, and the connection is to end in any case.
        waiting = asyncio.get_running_loop().call_later(
            self.settings.sockets.first_request_s, _abort, request
        )
        try:
            return await _read_body(request)
        finally:
            waiting.cancel()

    def _answer_admin(
        self, request: web.BaseRequest, path: str, query: bytes, body: bytes
    ) -> web.Response:
        if not _is_loopback(request.remote):
            return json_response({"error": "only for the machine it runs on"}, 403)
        try:
            parameters = read_http(query, b"").parameters
            result = self._admin.answer(request.method, path, parameters, body, self._clock())
        except AdminError as error:
            return json_response({"error": str(error)}, error.status)
        except BinanceError as error:
            return json_response({"error": error.message}, error.status)
        self._publish()
        return json_response(result)

    async def _answer_rest(
        self, request: web.BaseRequest, log: LoggedRequest, query: bytes, body: bytes
    ) -> web.StreamResponse:
        try:
            wire = read_http(query, body)
        except BinanceError as error:
            return self._refuse(error, log)
        api_key = request.headers.get("X-MBX-APIKEY")
        fault = self._intake.take_fault(log, wire, api_key)
        if fault is None:
            return self._carry_out_rest(request, wire, log)

        def carry_out(wire: WireRequest, log: LoggedRequest) -> Answer:
            return _answer_in(self._carry_out_rest(request, wire, log))

        answer = await self._faulty.answer(fault, wire, log, carry_out)
        return _cut(request, log) if answer is None else self._response_to(answer)

    def _carry_out_rest(
        self, request: web.BaseRequest, wire: WireRequest, log: LoggedRequest
    ) -> web.Response:
        now_ns = self._clock()
        try:
            self._api.limits.count_request(now_ns // 1_000_000)
            endpoint = self._rest_endpoint(log.method, log.path)
            api_key = request.headers.get("X-MBX-APIKEY")
            with printed_in(read_time_unit(request.headers.get("X-MBX-TIME-UNIT"))):
                result = self._api.answer(
                    endpoint, wire, api_key, now_ns, received_ns=log.received_ns
                )
        except BinanceError as error:
            self._publish()
            return self._refuse(error, log)
        self._intake.accept(log, endpoint)
        self._publish()
        orders_of = self._api.keys.account_id(api_key) if endpoint.places_orders else None
        headers = self._api.limits.headers(now_ns // 1_000_000, orders_of)
        return json_response(result, 200, headers)

    def _rest_endpoint(self, method: str, path: str) -> Endpoint:
        """Return what serves the path. Raises BinanceError."""
        endpoint = REST_ENDPOINTS.get((method, path))
        if endpoint is not None:
            return endpoint
        if path in RETIRED_PATHS and self.settings.assumptions.retired_is_told:
            raise service_retired()
        raise no_service_at(path)

    def _refuse(self, error: BinanceError, log: LoggedRequest) -> web.Response:
        log.status, log.code, log.outcome = error.status, error.code, "refused"
        if error.code in _BAD_KEY_CODES:
            log.status = error.status = self.settings.assumptions.bad_key_status
        headers = self._api.limits.headers(self._clock() // 1_000_000)
        body: dict[str, object] = {"code": error.code, "msg": error.message}
        if error.data is not None:
            body["data"] = error.data
        return json_response(body, error.status, headers | error.headers)

    def _response_to(self, answer: Answer) -> web.Response:
        """Return what is sent for an answer that a fault has been at."""
        headers = answer.headers
        if headers is None:
            headers = self._api.limits.headers(self._clock() // 1_000_000)
        if answer.retry_after_s is not None:
            headers = {**headers, "Retry-After": str(answer.retry_after_s)}
        if answer.text is not None:
            return web.Response(
                text=answer.text, status=answer.status, headers=headers, content_type="text/html"
            )
        response = json_response(answer.body, answer.status, headers)
        if answer.spoil is not None:
            assert isinstance(response.body, bytes), "it was encoded just now"
            response.body = answer.spoil(response.body)
        return response


def _answer_in(response: web.Response) -> Answer:
    """Return a true answer as a fault sees it."""
    assert isinstance(response.body, bytes), "every answer is JSON"
    kept = {
        name: value
        for name, value in response.headers.items()
        if name == "Retry-After" or name.startswith("X-MBX-")
    }
    return Answer(status=response.status, body=msgspec.json.decode(response.body), headers=kept)


def _is_due(next_ns: int, now_ns: int, period_ns: int) -> bool:
    """Return whether a tick's time has come; a clock that was set back does not stop it."""
    return not now_ns < next_ns <= now_ns + period_ns


def _build_venue(
    settings: SimulatorSettings,
    store: Store,
    record: Record | None,
    live: "LiveFeed | None",
    now_ns: int,
) -> Venue:
    """Return the venue as it was left, or a new one."""
    rules_given = {name_of(symbol): rules_of(symbol) for symbol in settings.symbols}
    symbols = with_open_orders_max(
        rules_given if live is None else live.symbols, settings.open_orders_max
    )
    profiles = {name_of(symbol): profile_of(symbol) for symbol in settings.symbols}
    _check_open_orders(store, symbols)
    state = store.state()
    is_bars = settings.matcher == "bars"
    name = market_name(settings)
    if state is not None:
        # A book may get more markets than its store knows; bars are of one market, for good.
        was_bars = state.market_name.startswith(BARS_PREFIX)
        if was_bars != is_bars or (is_bars and state.prices.keys() != {settings.data_symbol}):
            raise ConfigError("the store is of an exchange with other markets: take another one")
    record_ms = first_ms(record)
    if live is not None:
        market_start_ms = now_ns // 1_000_000
    elif state is not None and state.market_name == name:
        market_start_ms = state.market_time_ms
    elif settings.market_start_ms is not None:
        market_start_ms = settings.market_start_ms
    else:
        market_start_ms = record_ms if record_ms is not None else now_ns // 1_000_000
    accounts = {
        account.name: {
            asset: amount_from_decimal(amount) for asset, amount in account.balances.items()
        }
        for account in settings.all_accounts
    }
    if is_bars and isinstance(record, list):
        rules = symbols[settings.data_symbol]
        series = BarSeries(record, rules, start_ms=market_start_ms)
        return _build_bar_venue(settings, store, series, rules, accounts, now_ns)
    return Venue(
        ListExchange(
            symbols,
            maker_fee_ppm=settings.maker_fee_ppm,
            taker_fee_ppm=settings.taker_fee_ppm,
            assumptions=settings.assumptions,
        ),
        sources(
            settings,
            symbols,
            profiles,
            record=record,
            live=live,
            prices={} if state is None else state.prices,
            start_ms=market_start_ms,
        ),
        store,
        profiles=profiles,
        clock=MarketClock(
            wire_start_ns=now_ns, market_start_ms=market_start_ms, speed=settings.speed
        ),
        accounts=accounts,
        market_name=name,
    )


def _check_open_orders(store: Store, symbols: Mapping[str, SymbolRules]) -> None:
    """Raise ConfigError for an open order on a symbol that is not served any more."""
    for order in store.open_orders():
        if order.symbol not in symbols:
            raise ConfigError(
                f"the store has an open order of {order.symbol}, which is not among the symbols"
            )


def _build_bar_venue(
    settings: SimulatorSettings,
    store: Store,
    series: BarSeries,
    rules: SymbolRules,
    accounts: Mapping[str, Mapping[str, int]],
    now_ns: int,
) -> BarVenue:
    """Return the venue that plays `series` bar by bar."""
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
        accounts=accounts,
        market_name=market_name(settings),
    )


def _body_at_hand(request: web.BaseRequest) -> bytes | None:
    """Return the request's body if all of it is there and no more than allowed, else None."""
    content = request.content
    if not content.is_eof() or content.total_bytes > _BODY_BYTES_MAX:
        return None
    return content.read_nowait()


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


def _cut(request: web.BaseRequest, log: LoggedRequest) -> web.Response:
    """Drop the connection; the response returned goes nowhere."""
    if log.outcome == "open":
        log.outcome = "lost"
    return _abort(request)


def _abort(request: web.BaseRequest) -> web.Response:
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

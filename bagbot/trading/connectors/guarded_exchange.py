"""What bagbot adds to every CCXT exchange: evidence on its errors, a gate, and no redirects.

CCXT keeps neither the HTTP status nor the headers on the exceptions it raises, follows redirects
with an order in hand, and queues orders behind reads. `guarded_exchange` mends that.
"""

import asyncio
import contextlib
import contextvars
import json
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import aiohttp
import ccxt.pro
from ccxt.async_support.base.exchange import Exchange

from bagbot.domain.errors import ConfigError, RateLimitedError
from bagbot.trading.connectors.exchange_errors import BEFORE_SENDING, Answer, never_left, redact

# CCXT logs every request with its key and signature at DEBUG; this logger never gets there.
_CCXT_LOGGER: Final = logging.getLogger("bagbot.ccxt")
_CCXT_LOGGER.setLevel(logging.WARNING)

# CCXT ships no types: this is the edge beyond which nothing is known to the type checker.
CcxtExchange: TypeAlias = Any

# Made once: `json.loads` makes a new one for each answer when it is told what to do with fractions.
_DECODER: Final = json.JSONDecoder(parse_float=str)

# What CCXT's own fetch raises before it touches the network.
_BEFORE_NETWORK: Final = (ccxt.ExchangeClosedByUser, ccxt.InvalidProxySettings, ccxt.NotSupported)

# What to wait when an exchange says "too many" without saying for how long. Binance bans (418) for
# two minutes at least; its firewall (403) names no time.
_DEFAULT_WAIT_S: Final = {418: 120.0, 429: 5.0, 403: 5.0}


class Call:
    """One call of a connector's method: whether it changes anything, and whether it left."""

    __slots__ = ("is_write", "was_sent")

    def __init__(self, *, is_write: bool) -> None:
        self.is_write = is_write
        self.was_sent = False


_current_call: Final[contextvars.ContextVar[Call | None]] = contextvars.ContextVar(
    "bagbot_exchange_call", default=None
)


@contextlib.contextmanager
def calling(*, is_write: bool) -> Iterator[Call]:
    """Mark everything the exchange is asked inside as one call of this kind."""
    call = Call(is_write=is_write)
    token = _current_call.set(call)
    try:
        yield call
    finally:
        _current_call.reset(token)


class RateGate:
    """Closed after the exchange said "too many", until it is willing to listen again."""

    def __init__(self) -> None:
        self._closed_until_s = 0.0

    def close_for(self, wait_s: float) -> None:
        """Let nothing pass for so long; an earlier, longer wait stays."""
        self._closed_until_s = max(self._closed_until_s, time.monotonic() + wait_s)

    @property
    def remaining_s(self) -> float:
        """How long it stays closed; 0 when it is open."""
        return max(0.0, self._closed_until_s - time.monotonic())

    def check(self, what: str) -> None:
        """Raise RateLimitedError, with the seconds that remain, while the gate is closed."""
        remaining_s = self.remaining_s
        if remaining_s > 0:
            raise RateLimitedError(
                f"{what} was not sent: the exchange wants {remaining_s:.1f} s more without it",
                retry_after_s=remaining_s,
            )


class RequestBudget:
    """Spaces requests out to what the exchange allows on average, and lets short bursts through.

    CCXT's own throttle knows no bursts: after a request of weight 20 it lets 200 ms pass, however
    long nothing was asked before.
    """

    _BURST_S: Final = 5.0
    # Below 1, so that a burst and a whole minute at full pace stay within the exchange's minute.
    _SHARE: Final = 0.9

    def __init__(self, unit_s: float) -> None:
        self._unit_s = unit_s / self._SHARE
        self._paid_until_s = 0.0

    def wait_s(self, cost: float) -> float:
        """Return how long a request of so many units has to wait; it is paid for by asking."""
        now_s = time.monotonic()
        self._paid_until_s = max(self._paid_until_s, now_s) + cost * self._unit_s
        return max(0.0, self._paid_until_s - self._BURST_S - now_s)


class RedirectError(aiohttp.ClientError):
    """The server sent the request elsewhere; it was not followed."""


class LineCutError(aiohttp.ClientError):
    """The connection broke with a write under way; it was not repeated."""


class GuardedExchange(Exchange):  # type: ignore[misc]
    """Comes before CCXT's own class in the method resolution order; see `guarded_exchange`."""

    session: aiohttp.ClientSession | None
    gate: RateGate
    budget: RequestBudget
    closes_gate: Callable[[Answer], bool]
    logger = _CCXT_LOGGER

    def open(self, lazy: bool = False) -> None:  # noqa: FBT001, FBT002 - CCXT's signature.
        """Open the HTTP session, one that follows no redirect."""
        if self.session is None and self.own_session and not (lazy and self.closed_by_user):
            context = ssl.create_default_context(cafile=self.cafile)
            self.session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=self.aiohttp_trust_env,
                middlewares=(_once_and_here,),
            )
        super().open(lazy)

    async def throttle(self, cost: float | None = None) -> None:
        """Space out reads by CCXT's costs; an order or a cancel does not queue behind them.

        An order that waits here is a worse order, and its timestamp grows old. Exchanges count
        orders apart from requests (a successful one costs no weight on Binance, no call on
        Kraken); what they think too many comes back as 429 or -1015, and the gate honours that.
        """
        call = _current_call.get()
        if call is not None and call.is_write:
            return
        pause_s = self.budget.wait_s(1.0 if cost is None else cost)
        if pause_s > 0:
            await asyncio.sleep(pause_s)

    async def fetch(
        self, url: str, method: str = "GET", headers: object = None, body: object = None
    ) -> object:
        """Send one request, unless the gate is closed, and note on the call that it left."""
        self.gate.check(f"a request to {self.id}")
        call = _current_call.get() or Call(is_write=False)
        was_sent_before = call.was_sent
        call.was_sent = was_sent_before or method != "GET" or not call.is_write
        try:
            return await super().fetch(url, method, headers, body)
        except ccxt.BaseError as error:
            if never_left(error) or isinstance(error, _BEFORE_NETWORK):
                call.was_sent = was_sent_before
            redact(error, self.apiKey, self.secret, self.password)
            raise

    async def answered(self, send: Callable[[], Awaitable[Answer]]) -> object:
        """Return what was answered to a write that went another way than HTTP.

        It passes the same gate, and what it raises carries the same evidence.
        """
        self.gate.check(f"a request to {self.id}")
        call = _current_call.get()
        assert call is not None, "writes are made inside `calling`"
        call.was_sent = True
        answer = await send()
        if answer.http_status < 400:
            return answer.content
        self.note_refusal(answer)
        error = ccxt.ExchangeError(f"{self.id} {answer.http_status} {answer.body}")
        error.answer = answer
        raise error

    def note_refusal(self, answer: Answer) -> None:
        """Close the gate when the exchange says "too many", whoever still waits for the answer."""
        if answer.http_status in _DEFAULT_WAIT_S and self.closes_gate(answer):
            self.gate.close_for(wait_s(answer))

    def handle_errors(
        self,
        code: int,
        reason: str,
        url: str,
        method: str,
        headers: Mapping[str, str],
        body: str,
        response: object,
        request_headers: object,
        request_body: object,
    ) -> object:
        """Let CCXT judge the answer, and put the evidence on whatever it raises."""
        try:
            handled = super().handle_errors(
                code, reason, url, method, headers, body, response, request_headers, request_body
            )
            self.handle_http_status_code(code, reason, url, method, body)
            # CCXT takes a status that its table lacks (402, 423 ...) for success.
            if code >= 400:
                raise ccxt.ExchangeError(f"{self.id} {code} {reason} {body}")
        except ccxt.BaseError as error:
            answer = Answer(http_status=code, headers=headers, body=body, content=response)
            error.answer = answer
            self.note_refusal(answer)
            raise
        return handled

    def on_json_response(self, response_body: str) -> object:
        """Decode JSON with every fraction left as its text: money never becomes a float."""
        return _DECODER.decode(response_body)


def wait_s(answer: Answer) -> float:
    """Return how long the exchange wants to be left alone after this answer, in seconds."""
    return wait_after_s(answer.http_status, answer.retry_after_s)


def wait_after_s(http_status: int, stated_s: float | None) -> float:
    """Return what the exchange stated, or else what such a status calls for, in seconds."""
    return _DEFAULT_WAIT_S.get(http_status, 5.0) if stated_s is None else stated_s


def guarded_exchange(exchange_id: str, config: Mapping[str, Any]) -> CcxtExchange:
    """Return CCXT's exchange of this id, with our guard in front of its methods.

    Raises ConfigError when CCXT does not know the exchange, or when `config` asks it to repeat
    failed requests: it would repeat orders as well.
    """
    base = getattr(ccxt.pro, exchange_id, None)
    if exchange_id not in ccxt.pro.exchanges or base is None:
        base = getattr(ccxt.async_support, exchange_id, None)
    if exchange_id not in ccxt.exchanges or base is None:
        raise ConfigError(f"CCXT {ccxt.__version__} knows no exchange {exchange_id!r}")
    if "maxRetriesOnFailure" in config.get("options", {}):
        raise ConfigError("maxRetriesOnFailure repeats orders: it must not be set")
    kind = type(f"Guarded_{exchange_id}", (GuardedExchange, base), {})
    exchange = kind({"enableRateLimit": True, **config})
    exchange.gate = RateGate()
    exchange.budget = RequestBudget(exchange.rateLimit / 1000)
    exchange.closes_gate = lambda _answer: True
    # Unified results carry their numbers as text, from which a Decimal is made without loss.
    exchange.number = str
    return exchange


async def _once_and_here(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send a request to where it was addressed, and a write only once."""
    call = _current_call.get()
    try:
        response = await handler(request)
    except BEFORE_SENDING:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        if call is None or not call.is_write:
            raise
        # aiohttp repeats a DELETE when a kept connection breaks, and if nobody listens any more
        # it says so: then a cancel that did leave would look as if it never had.
        raise LineCutError(str(error) or "the connection broke") from error
    if response.status in (301, 302, 303, 307, 308):
        response.close()
        # Following it would send the order, and the key, to a server that nobody named.
        raise RedirectError(f"the server redirects (HTTP {response.status}); not followed")
    return response

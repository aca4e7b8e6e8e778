"""The public feed of a real exchange, through CCXT: prices only, no key and no order ever goes out.

By streams where the exchange has them, else by asking. A stream that is silent is checked by
asking, so that a quiet market is not taken for a dead feed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any, Protocol, cast

import ccxt.pro
import structlog

from bagbot.domain.errors import ConfigError
from bagbot.simulator.amounts import ONE, nearest_multiple
from bagbot.simulator.candles import Candle
from bagbot.simulator.live_market import LiveMarket, LiveSettings
from bagbot.simulator.market import MINUTE_MS
from bagbot.simulator.symbols import SymbolRules

logger = structlog.get_logger(__name__)

_OPEN_TIMEOUT_S = 60.0
_REQUEST_TIMEOUT_S = 10.0
_BACKOFF_S_MIN = 0.25
_BACKOFF_S_MAX = 30.0
_HISTORY_CANDLES = 1_000

Ticker = Mapping[str, Any]
Trade = Mapping[str, Any]


class _PublicExchange(Protocol):
    """What is used of CCXT's exchanges."""

    id: str
    has: Mapping[str, object]
    urls: dict[str, Any]
    precisionMode: int  # noqa: N815 - CCXT's name

    async def load_markets(self) -> Mapping[str, Mapping[str, Any]]: ...
    async def fetch_ticker(self, symbol: str) -> Ticker: ...
    async def fetch_trades(self, symbol: str) -> list[Trade]: ...
    async def fetch_ohlcv(
        self, symbol: str, timeframe: str, *, limit: int
    ) -> list[Sequence[Any]]: ...
    async def watch_trades(self, symbol: str) -> list[Trade]: ...
    async def watch_ticker(self, symbol: str) -> Ticker: ...
    async def watch_bids_asks(self, symbols: list[str]) -> Mapping[str, Ticker]: ...
    async def close(self) -> None: ...


class LiveFeed:
    """Follows one exchange's markets and fills `markets` with what it hears.

    `symbols` are the rules as they were given, and from `open` on with the real tick and lot.
    """

    def __init__(
        self,
        settings: LiveSettings,
        symbols: Mapping[str, SymbolRules],
        *,
        clock_ms: Callable[[], int],
    ) -> None:
        self._settings = settings
        self.symbols = dict(symbols)
        self._clock_ms = clock_ms
        self._exchange = _connect(settings)
        self._followed: list[_Followed] = []

    @property
    def markets(self) -> dict[str, LiveMarket]:
        """Return the markets by symbol; there are none before `open`."""
        return {followed.rules.symbol: followed.market for followed in self._followed}

    async def open(self) -> None:
        """Learn the symbols, their past and their prices. Raises ConfigError."""
        name = self._settings.exchange_id
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                known = await self._exchange.load_markets()
                for symbol, assumed in self.symbols.items():
                    listed = known.get(_unified(assumed), {})
                    if not listed.get("spot"):
                        raise ConfigError(f"{name} has no spot market {_unified(assumed)}")
                    self.symbols[symbol] = rules = self._real_rules(assumed, listed)
                    self._followed.append(await self._begin(rules))
        except (ccxt.BaseError, OSError, TimeoutError) as error:
            raise ConfigError(f"the market of {name} cannot be had: {error}") from error

    async def run(self) -> None:
        """Follow every market until cancelled; what is interrupted is taken up again."""
        async with asyncio.TaskGroup() as tasks:
            for followed in self._followed:
                tasks.create_task(self._keep_following(followed.trade_news()))
                tasks.create_task(self._keep_following(followed.quote_news()))

    async def close(self) -> None:
        """Leave the exchange."""
        with suppress(ccxt.BaseError, OSError, TimeoutError):
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                await self._exchange.close()

    def _real_rules(self, rules: SymbolRules, listed: Mapping[str, Any]) -> SymbolRules:
        """Return the rules with the exchange's own tick, lot and smallest notional, if it tells."""
        notional = listed.get("limits", {}).get("cost", {}).get("min")
        # Some exchanges tell decimals instead of steps.
        has_steps = self._exchange.precisionMode == ccxt.TICK_SIZE
        steps = listed.get("precision", {}) if has_steps else {}
        return replace(
            rules,
            tick=_amount(steps.get("price") or 0) or rules.tick,
            lot=_amount(steps.get("amount") or 0) or rules.lot,
            notional_min=_amount(notional or 0) or rules.notional_min,
        )

    async def _begin(self, rules: SymbolRules) -> "_Followed":
        symbol = _unified(rules)
        ticker = await self._exchange.fetch_ticker(symbol)
        trades = await self._exchange.fetch_trades(symbol)
        history: list[Candle] = []
        now_ms = self._clock_ms()
        if self._exchange.has.get("fetchOHLCV"):
            rows = await self._exchange.fetch_ohlcv(symbol, "1m", limit=_HISTORY_CANDLES)
            history = _closed_candles(rows, rules, now_ms)
        price = ticker.get("last") or (trades[-1]["price"] if trades else None)
        if price is None:
            raise ConfigError(f"{self._settings.exchange_id} tells no price of {symbol}")
        market = LiveMarket(
            price=_on_tick(price, rules),
            history=history,
            heard_ms=now_ms,
            stale_ms=int(self._settings.stale_s * 1_000),
        )
        followed = _Followed(self._exchange, self._settings, rules, market, self._clock_ms)
        followed.skip(trades)
        followed.take_ticker(ticker)
        return followed

    async def _keep_following(self, news: "_News") -> None:
        backoff_s = _BACKOFF_S_MIN
        while True:
            news.has_come = False
            try:
                await self._follow(news)
            except* (ccxt.BaseError, OSError, TimeoutError) as group:
                errors = [str(error) or repr(error) for error in group.exceptions]
                logger.warning("live feed interrupted", news=news.name, errors=errors)
            if news.has_come:
                backoff_s = _BACKOFF_S_MIN
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _BACKOFF_S_MAX)

    async def _follow(self, news: "_News") -> None:
        """Take news until something fails."""
        if news.watch is None:
            while True:
                await news.ask()
                news.has_come = True
                await asyncio.sleep(self._settings.poll_s)
        # What a broken stream has missed, and whether the exchange is there at all.
        await news.ask()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(news.watch_on())
            tasks.create_task(news.ask_when_silent(self._settings.stale_s / 3))


class _News:
    """One kind of news of one market: a stream of it, if there is one, and how to ask for it."""

    def __init__(
        self,
        name: str,
        watch: Callable[[], Awaitable[None]] | None,
        fetch: Callable[[], Awaitable[None]],
    ) -> None:
        self.name = name
        self.watch = watch
        self._fetch = fetch
        # Whether the way it should come has brought any since the last interruption.
        self.has_come = False
        self._was_silent = False

    async def ask(self) -> None:
        """Ask for the news."""
        async with asyncio.timeout(_REQUEST_TIMEOUT_S):
            await self._fetch()

    async def watch_on(self) -> None:
        """Take what the stream brings."""
        assert self.watch is not None, "there is a stream"
        while True:
            await self.watch()
            self.has_come = True
            self._was_silent = False

    async def ask_when_silent(self, silence_s: float) -> None:
        """Ask whenever the stream has brought nothing for so long."""
        while True:
            self._was_silent = True
            await asyncio.sleep(silence_s)
            if self._was_silent:
                await self.ask()


class _Followed:
    """One market and what brings its news."""

    def __init__(
        self,
        exchange: _PublicExchange,
        settings: LiveSettings,
        rules: SymbolRules,
        market: LiveMarket,
        clock_ms: Callable[[], int],
    ) -> None:
        self.rules = rules
        self.market = market
        self._exchange = exchange
        self._has_streams = not settings.by_polling
        self._symbol = _unified(rules)
        self._clock_ms = clock_ms
        # When the newest trade was made, and the newest that we asked for. Streams and answers
        # need not number trades alike, so that only their time tells which are the same.
        self._newest_ms = 0
        self._asked_ms = 0

    def trade_news(self) -> _News:
        """Return the news of its trades."""
        has_stream = self._has_streams and self._exchange.has.get("watchTrades")
        watch = self._watch_trades if has_stream else None
        return _News(f"trades of {self._symbol}", watch, self._ask_trades)

    def quote_news(self) -> _News:
        """Return the news of its best bid and ask."""
        watch = None
        if self._has_streams and self._exchange.has.get("watchBidsAsks"):
            watch = self._watch_quotes
        elif self._has_streams and self._exchange.has.get("watchTicker"):
            watch = self._watch_ticker
        return _News(f"quotes of {self._symbol}", watch, self._ask_ticker)

    def skip(self, trades: Sequence[Trade]) -> None:
        """Count these trades as known."""
        self._newest_ms = max([self._newest_ms, *(trade["timestamp"] for trade in trades)])
        self._asked_ms = self._newest_ms

    def take_ticker(self, ticker: Ticker) -> None:
        """Take the best bid and ask of a ticker."""
        bid, ask = ticker.get("bid"), ticker.get("ask")
        touch = None
        if bid and ask:
            tick = self.rules.tick
            bid_price = max(_amount(bid) // tick * tick, tick)
            touch = bid_price, max(-(-_amount(ask) // tick) * tick, bid_price + tick)
        self.market.quote(touch)
        self.market.heard_of_quotes(self._clock_ms())

    async def _watch_trades(self) -> None:
        trades = await self._exchange.watch_trades(self._symbol)
        self._take_trades([each for each in trades if each["timestamp"] > self._asked_ms])

    async def _ask_trades(self) -> None:
        trades = await self._exchange.fetch_trades(self._symbol)
        self._take_trades([each for each in trades if each["timestamp"] > self._newest_ms])
        self.skip(trades)

    async def _watch_quotes(self) -> None:
        tickers = await self._exchange.watch_bids_asks([self._symbol])
        if self._symbol in tickers:
            self.take_ticker(tickers[self._symbol])

    async def _watch_ticker(self) -> None:
        self.take_ticker(await self._exchange.watch_ticker(self._symbol))

    async def _ask_ticker(self) -> None:
        self.take_ticker(await self._exchange.fetch_ticker(self._symbol))

    def _take_trades(self, trades: Sequence[Trade]) -> None:
        now_ms = self._clock_ms()
        for trade in trades:
            self._newest_ms = max(self._newest_ms, trade["timestamp"])
            if trade.get("price") and trade.get("amount"):
                self.market.trade(
                    _on_tick(trade["price"], self.rules),
                    _amount(trade["amount"]),
                    now_ms,
                    buyer_is_maker=trade.get("side") == "sell",
                )
        self.market.heard_of_trades(now_ms)


def _connect(settings: LiveSettings) -> _PublicExchange:
    """Return CCXT's exchange. Raises ConfigError."""
    name = settings.exchange_id
    if name not in ccxt.exchanges:
        raise ConfigError(f"CCXT knows no exchange {name!r}")
    # Not every exchange has streams.
    module = ccxt.pro if name in ccxt.pro.exchanges else ccxt.async_support
    options: dict[str, object] = {"defaultType": "spot"}
    if name == "binance":
        options |= {"fetchCurrencies": False, "fetchMargins": False}
        options["fetchMarkets"] = {"types": ["spot"]}
    exchange = cast("_PublicExchange", getattr(module, name)({"options": options}))
    if settings.base_url is not None:
        if name != "binance":
            raise ConfigError("only binance can be followed at another address")
        base = settings.base_url.rstrip("/")
        api = exchange.urls["api"]
        api["public"] = api["private"] = api["v1"] = f"{base}/api/v3"
        # CCXT takes a stream for one of futures unless "/stream" is in its address.
        api["ws"]["spot"] = f"ws{base.removeprefix('http')}/stream/ws"
    return exchange


def _unified(rules: SymbolRules) -> str:
    return f"{rules.base}/{rules.quote}"


def _amount(value: object) -> int:
    """Return one of CCXT's numbers in 1e-8; its floats print as the exchange wrote them."""
    return int(Decimal(str(value)) * ONE)


def _on_tick(price: object, rules: SymbolRules) -> int:
    return max(nearest_multiple(_amount(price), rules.tick), rules.tick)


def _closed_candles(rows: Sequence[Sequence[Any]], rules: SymbolRules, now_ms: int) -> list[Candle]:
    candles: list[Candle] = []
    for open_ms, *prices, volume in rows:
        is_next = not candles or open_ms > candles[-1].open_ms
        if None in prices or not is_next or open_ms + MINUTE_MS > now_ms:
            continue
        opened, high, low, close = (_on_tick(price, rules) for price in prices)
        quantity = _amount(volume or 0)
        cost = (opened + close) // 2 * quantity // ONE
        candles.append(
            Candle(open_ms, opened, high, low, close, quantity, cost, 1, quantity // 2, cost // 2)
        )
    return candles

"""The market's price now, kept young enough to judge an order by."""

import asyncio
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

import structlog

from bagbot.domain.clock import Clock
from bagbot.domain.errors import ExchangeError
from bagbot.trading.connectors.interface import IExchangeConnector, Ticker

logger = structlog.get_logger(__name__)

_NS: Final = 1_000_000_000


class PriceFeed:
    """The latest price of each symbol in use; a price that has grown old is no price."""

    def __init__(
        self,
        connector: IExchangeConnector,
        clock: Clock,
        *,
        interval_s: float,
        age_max_s: float,
        timeout_s: float,
    ) -> None:
        self._connector = connector
        self._clock = clock
        self._wanted: dict[str, None] = {}
        self._interval_s = interval_s
        self._age_max_ns = int(age_max_s * _NS)
        self._timeout_s = timeout_s
        self._tickers: dict[str, tuple[Ticker, int]] = {}
        self._has_many = "fetch_tickers" in connector.capabilities
        self._has_any = self._has_many or "fetch_ticker" in connector.capabilities

    def want(self, symbols: Iterable[str]) -> None:
        """Keep the prices of these symbols fresh, too."""
        self._wanted.update(dict.fromkeys(symbols))

    def price(self, symbol: str) -> Decimal | None:
        """Return the middle of bid and ask, else the last price; None when none is young enough."""
        ticker, taken_ns = self._tickers.get(symbol, (None, 0))
        if ticker is None or self._clock.monotonic_ns() - taken_ns > self._age_max_ns:
            return None
        if ticker.bid is not None and ticker.ask is not None:
            return (ticker.bid + ticker.ask) / 2
        return ticker.last

    async def freshen(self, symbol: str) -> None:
        """Fetch the price unless a young one is known; from now on it is kept fresh."""
        if not self._has_any:
            return
        self.want([symbol])
        if self.price(symbol) is None:
            await self._try_fetch([symbol])

    async def keep_fresh(self) -> None:
        """Fetch what is wanted again and again, for ever."""
        while self._has_any:
            await self._try_fetch(tuple(self._wanted))
            await asyncio.sleep(self._interval_s)

    async def _try_fetch(self, symbols: Sequence[str]) -> None:
        try:
            await self._fetch(symbols)
        except (ExchangeError, TimeoutError) as error:
            # The price grows stale, and then no rule that needs one lets an order pass.
            logger.warning("no price", symbols=symbols, error=str(error) or "timed out")

    async def _fetch(self, symbols: Sequence[str]) -> None:
        if not symbols:
            return
        async with asyncio.timeout(self._timeout_s):
            if self._has_many:
                tickers = dict(await self._connector.fetch_tickers(symbols))
            else:
                tickers = {s: await self._connector.fetch_ticker(s) for s in symbols}
        now_ns = self._clock.monotonic_ns()
        self._tickers.update({symbol: (ticker, now_ns) for symbol, ticker in tickers.items()})

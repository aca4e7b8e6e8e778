"""The market of a real exchange, as its public feed tells it; this module does no I/O.

Trades come as on a tape, and the quotes stand at the real best bid and ask. When either has not
been heard of for too long the market is halted: nobody trades here on old prices.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bagbot.domain.errors import ConfigError
from bagbot.simulator.candles import Candle
from bagbot.simulator.market import MINUTE_MS, Point, Quoting

# Trades wait here for a tenth of a second; of more than this many the oldest are dropped.
_WAITING_MAX = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """Which exchange's market is followed: a CCXT id.

    Without news for `stale_s` the market is halted. `by_polling` asks instead of using streams,
    every `poll_s`. `base_url` is another address that speaks the protocol, of Binance only.
    """

    exchange_id: str
    stale_s: float = 15.0
    poll_s: float = 2.0
    by_polling: bool = False
    base_url: str | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for what cannot work."""
        if not 0 < self.stale_s < math.inf or not 0 < self.poll_s < math.inf:
            raise ConfigError("the times of a live feed must be above zero")
        if self.by_polling and self.poll_s >= self.stale_s:
            raise ConfigError("a live feed that is asked every poll_s must not be stale before")


class LiveMarket:
    """One symbol's live market. Its market time is the wire's: both run at the same pace."""

    kind = "live"
    is_tape = True
    base_ms = MINUTE_MS

    def __init__(
        self, *, price: int, history: Sequence[Candle], heard_ms: int, stale_ms: int
    ) -> None:
        self._history = list(history)
        self._stale_ms = stale_ms
        self._trades_heard_ms = self._quotes_heard_ms = self._now_ms = heard_ms
        self._touch: tuple[int, int] | None = None
        self._waiting: deque[Point] = deque(maxlen=_WAITING_MAX)
        self.stand_at(price, heard_ms)

    @property
    def is_over(self) -> bool:
        """Return False: a real market goes on."""
        return False

    @property
    def quoting(self) -> Quoting:
        """Return the real best bid and ask, or that the market is halted."""
        if self.is_stale(self._now_ms):
            return Quoting(is_halted=True)
        return Quoting(touch=self._touch)

    @property
    def heard_ms(self) -> int:
        """Return since when trades or quotes have not been heard of."""
        return min(self._trades_heard_ms, self._quotes_heard_ms)

    def is_stale(self, now_ms: int) -> bool:
        """Return whether the feed has been silent for too long."""
        return now_ms - self.heard_ms > self._stale_ms

    def history(self) -> list[Candle]:
        """Return the real minutes before the start."""
        return self._history

    def points(self, until_ms: int) -> Iterator[Point]:
        """Yield the trades not yet yielded, up to and including those received at `until_ms`."""
        while self._waiting and self._waiting[0].time_ms <= until_ms:
            yield self._waiting.popleft()
        self._now_ms = max(self._now_ms, until_ms)

    # What the feed tells.

    def stand_at(self, price: int, now_ms: int) -> None:
        """Take a price without a trade."""
        self._waiting.append(Point(now_ms, price, 0, buyer_is_maker=False, price_range=None))

    def trade(self, price: int, quantity: int, now_ms: int, *, buyer_is_maker: bool) -> None:
        """Take a trade, received at `now_ms`."""
        if self.is_stale(now_ms):
            # It is where the market goes on, but who could not see it shall not trade by it.
            self.stand_at(price, now_ms)
            return
        self._waiting.append(Point(now_ms, price, quantity, buyer_is_maker, None))

    def quote(self, touch: tuple[int, int] | None) -> None:
        """Take the best bid and ask; None where the exchange does not tell them."""
        self._touch = touch

    def heard_of_trades(self, now_ms: int) -> None:
        """Note that all trades until now are known."""
        self._trades_heard_ms = now_ms

    def heard_of_quotes(self, now_ms: int) -> None:
        """Note that the best bid and ask are those of now."""
        self._quotes_heard_ms = now_ms

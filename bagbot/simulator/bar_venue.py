"""The bar venue: recorded bars, one step at a time, behind the exchange's own protocol.

A step is the one of docs/FILL_RULES.md: the bar in play is played to its close and told, then
the price is the open of the next one and time stands still until the next step. Steps are made by
the trader ("bar done") or by the market's clock, never both. The volume share of the bar in play
starts anew after a restart.
"""

from collections.abc import Iterator, Mapping

from bagbot.simulator.bar_exchange import BarExchange
from bagbot.simulator.exchange import Moment
from bagbot.simulator.market import Point
from bagbot.simulator.recorded_market import RecordedBar, RecordedMarket
from bagbot.simulator.store import Store
from bagbot.simulator.symbols import SymbolRules
from bagbot.simulator.venue import CandleEvent, MarketClock, Venue

# A venue that has to catch up makes this many steps, then lets others run.
_STEPS_AT_ONCE_MAX = 200


class MarketOverError(Exception):
    """There is no bar left to play."""


class StandingClock(MarketClock):
    """The market's time when only steps move it."""

    def __init__(self, *, wire_start_ns: int, market_start_ms: int) -> None:
        super().__init__(wire_start_ns=wire_start_ns, market_start_ms=market_start_ms, speed=0.0)
        self.stands_at_ms = market_start_ms

    def market_ms(self, time_ns: int) -> int:
        """Return the market's time, whatever the wire's."""
        return self.stands_at_ms


class BarSeries(RecordedMarket):
    """Recorded bars with a place among them; they are played whole, not as points."""

    def __init__(self, bars: list[RecordedBar], rules: SymbolRules, *, start_ms: int) -> None:
        super().__init__(bars, rules, start_ms=start_ms, step_ms=1)
        if start_ms >= bars[-1].open_ms + self.base_ms:
            # Restarted after the last bar: it is not played a second time.
            self._next_bar = self._history_end = len(bars)

    @property
    def in_play(self) -> RecordedBar:
        """Return the bar whose open is the price now, or the last one after the end."""
        return self._bars[min(self._next_bar, len(self._bars) - 1)]

    @property
    def index(self) -> int:
        """Return how many bars of the record are over."""
        return self._next_bar

    def points(self, until_ms: int) -> Iterator[Point]:
        """Yield nothing: bars have no path."""
        return iter(())

    def finish_bar(self) -> None:
        """Go on to the next bar."""
        self._next_bar += 1


class BarVenue(Venue):
    """One exchange on the recorded bars of one symbol."""

    def __init__(
        self,
        exchange: BarExchange,
        series: BarSeries,
        store: Store,
        *,
        clock: MarketClock,
        accounts: Mapping[str, Mapping[str, int]],
        market_name: str,
    ) -> None:
        (self.symbol,) = exchange.symbols
        self._bar_exchange = exchange
        self._series = series
        self._closed_volume = 0
        super().__init__(
            exchange,
            {self.symbol: series},
            store,
            clock=clock,
            accounts=accounts,
            market_name=market_name,
        )

    @property
    def is_stepped(self) -> bool:
        """Return whether only `step` moves the market."""
        return isinstance(self.clock, StandingClock)

    @property
    def bar_in_play(self) -> dict[str, object] | None:
        """Return where in the record the market stands."""
        bar = self._series.in_play
        return {
            "symbol": self.symbol,
            "index": self._series.index,
            "open_ms": bar.open_ms,
            "closes_ms": bar.open_ms + self._series.base_ms,
            "is_stepped": self.is_stepped,
        }

    def advance(self, time_ns: int) -> bool:
        """Make the steps whose time has come; return False if there are more to catch up on."""
        if self.is_stepped:
            return True
        market_ms = self.clock.market_ms(time_ns)
        for _ in range(_STEPS_AT_ONCE_MAX):
            closes_ms = self._series.in_play.open_ms + self._series.base_ms
            if self._series.is_over or closes_ms > market_ms:
                return True
            self.step(time_ns)
        return False

    def fill_resting(self, order_id: int, quantity: int, time_ns: int) -> int:
        """Trade nothing: bars alone decide what fills."""
        return 0

    def step(self, time_ns: int) -> None:
        """Play the bar to its close, then open the next one. Raises MarketOverError."""
        if self._series.is_over:
            raise MarketOverError
        bar = self._series.in_play
        self._play_range(bar, time_ns)
        self._series.finish_bar()
        self._closed_volume = bar.volume
        if self._series.is_over:
            self._close_market()
        else:
            self._open_bar(time_ns)
        self._commit(time_ns, is_step=True)

    def _play_range(self, bar: RecordedBar, time_ns: int) -> None:
        market = self._markets[self.symbol]
        market.time_ms = bar.open_ms + self._series.base_ms - 1
        moment = Moment(time_ns, market.time_ms)
        self._bar_exchange.play_range(self.symbol, bar.high, bar.low, bar.close, moment)
        for price in (bar.low, bar.high):
            market.price = price
            self._print(market, 0, time_ns, buyer_is_maker=False)
        market.price = bar.close
        self._print(market, bar.volume, time_ns, buyer_is_maker=bar.close < bar.open)
        # What happened inside the bar is told before the bar is.
        self._commit(time_ns, is_step=True)
        candle = market.candles.roll(bar.open_ms + self._series.base_ms)
        assert candle is not None, "the bar in play has a candle"
        self._closed.append(CandleEvent(self.symbol, candle))

    def _open_bar(self, time_ns: int) -> None:
        bar = self._series.in_play
        market = self._markets[self.symbol]
        market.price, market.time_ms = bar.open, bar.open_ms
        self._played_ms = bar.open_ms
        self._move_clock(bar.open_ms)
        self._print(market, 0, time_ns, buyer_is_maker=False)
        moment = Moment(time_ns, bar.open_ms)
        self._bar_exchange.open_bar(self.symbol, bar.open, self._closed_volume, moment)
        self._requote(market)

    def _close_market(self) -> None:
        """Let the price stand at the last close, where nothing fills any more."""
        bar = self._series.in_play
        market = self._markets[self.symbol]
        market.price = bar.close
        self._played_ms = bar.open_ms + self._series.base_ms
        self._move_clock(self._played_ms)
        self._bar_exchange.close_market(self.symbol)
        self._bar_exchange.reference_prices[self.symbol] = bar.close
        self._requote(market)

    def _move_clock(self, market_ms: int) -> None:
        if isinstance(self.clock, StandingClock):
            self.clock.stands_at_ms = market_ms

    def _prime(self) -> None:
        """Open the first bar. Orders from before a restart have met this open already."""
        time_ns = self.clock.wire_start_ns
        history = self._series.history()
        self._closed_volume = history[-1].volume if history else 0
        self._restore_orders()
        if self._series.is_over:
            self._close_market()
        else:
            self._open_bar(time_ns)
        self._commit(time_ns, is_step=True)
        self.outbox.clear()

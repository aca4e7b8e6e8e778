"""Which market each symbol gets, as the settings say; what must be read first is read here."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from bagbot.domain.errors import ConfigError
from bagbot.simulator.market import MarketProfile, PriceSource, grid_ms
from bagbot.simulator.recorded_market import RecordedBar, RecordedMarket, load_bars
from bagbot.simulator.simulator_settings import SimulatorSettings
from bagbot.simulator.symbol_settings import name_of, rules_of
from bagbot.simulator.symbols import SymbolRules
from bagbot.simulator.synthetic_market import SyntheticMarket
from bagbot.simulator.trade_tape import TradeRecord, TradeTape, load_trades

if TYPE_CHECKING:
    from bagbot.simulator.live_feed import LiveFeed

# How a store says that its market is played bar by bar.
BARS_PREFIX = "bars:"

Record = list[RecordedBar] | TradeRecord


async def read_record(settings: SimulatorSettings) -> Record | None:
    """Return the recorded bars or trades that are to be played. Raises DataError."""
    path, load = (settings.trades, load_trades) if settings.trades else (settings.data, load_bars)
    if path is None:
        return None
    for symbol in settings.symbols:
        if name_of(symbol) == settings.data_symbol:
            read: Callable[..., Record] = load
            return await asyncio.to_thread(read, path, rules_of(symbol))
    raise AssertionError("the settings have checked the symbol")


def live_feed(settings: SimulatorSettings, clock: Callable[[], int]) -> "LiveFeed | None":
    """Return the feed of a real exchange that is to be followed. Raises ConfigError."""
    if settings.live is None:
        return None
    # CCXT's many exchanges take a second to import, and few simulators need them.
    from bagbot.simulator.live_feed import LiveFeed

    symbols = {name_of(symbol): rules_of(symbol) for symbol in settings.symbols}
    return LiveFeed(settings.live, symbols, clock_ms=lambda: clock() // 1_000_000)


def market_name(settings: SimulatorSettings) -> str:
    """Return how a store tells this market from others: only in the same one it goes on."""
    if settings.live is not None:
        return f"live:{settings.live.exchange_id}"
    if settings.trades is not None:
        return f"trades:{settings.trades.name}"
    name = "" if settings.data is None else settings.data.name
    return f"{BARS_PREFIX}{name}" if settings.matcher == "bars" else name


def first_ms(record: Record | None) -> int | None:
    """Return the market time at which a record begins."""
    if record is None:
        return None
    return record.first_ms if isinstance(record, TradeRecord) else record[0].open_ms


def sources(
    settings: SimulatorSettings,
    symbols: Mapping[str, SymbolRules],
    profiles: Mapping[str, MarketProfile],
    *,
    record: Record | None,
    live: "LiveFeed | None",
    prices: Mapping[str, int],
    start_ms: int,
) -> Mapping[str, PriceSource]:
    """Return the market of every symbol; invented ones go on from `prices`.

    Raises ConfigError for a condition that no market can take.
    """
    if live is not None:
        return live.markets
    step_ms = grid_ms(settings.speed)
    found: dict[str, PriceSource] = {}
    for symbol, rules in symbols.items():
        if record is None or symbol != settings.data_symbol:
            found[symbol] = SyntheticMarket(
                rules,
                profiles[symbol],
                seed=settings.seed,
                start_ms=start_ms,
                step_ms=step_ms,
                price=prices.get(symbol),
            )
        elif isinstance(record, TradeRecord):
            found[symbol] = TradeTape(record, start_ms=start_ms)
        else:
            found[symbol] = RecordedMarket(record, rules, start_ms=start_ms, step_ms=step_ms)
    for condition in settings.conditions:
        market = found.get(condition.symbol)
        if not isinstance(market, SyntheticMarket):
            raise ConfigError(f"a condition needs a synthetic market, {condition.symbol} has none")
        market.add(condition.delayed(start_ms))
    return found

"""Events of the public streams that are sent at fixed intervals: depth, statistics, averages."""

from collections.abc import Mapping

from bagbot.simulator.amounts import ONE, amount_text
from bagbot.simulator.binance_messages import Message, percent_text
from bagbot.simulator.orders import TradePrint
from bagbot.simulator.time_unit import printed_time
from bagbot.simulator.venue import DayStatistics

Levels = Mapping[int, int]
"""Quantities by price; a quantity of zero is a level that is gone."""

# How a `24hrTicker` event abbreviates the fields of GET ticker/24hr, in the order it sends them.
_TICKER_FIELDS = {
    "p": "priceChange",
    "P": "priceChangePercent",
    "w": "weightedAvgPrice",
    "x": "prevClosePrice",
    "c": "lastPrice",
    "Q": "lastQty",
    "b": "bidPrice",
    "B": "bidQty",
    "a": "askPrice",
    "A": "askQty",
    "o": "openPrice",
    "h": "highPrice",
    "l": "lowPrice",
    "v": "volume",
    "q": "quoteVolume",
    "O": "openTime",
    "C": "closeTime",
    "F": "firstId",
    "L": "lastId",
    "n": "count",
}


def ticker_event(symbol: str, statistics: Message, time_ns: int) -> Message:
    """Return a `24hrTicker` event from the statistics as REST prints them."""
    event: Message = {"e": "24hrTicker", "E": printed_time(time_ns), "s": symbol}
    return event | {short: statistics[name] for short, name in _TICKER_FIELDS.items()}


def window_ticker_event(
    symbol: str, window: str, statistics: DayStatistics, offset_ms: int, time_ns: int
) -> Message:
    """Return the event of a rolling window, such as `1hTicker`."""
    candle = statistics.candle
    volume = candle.volume
    return {
        "e": f"{window}Ticker",
        "E": printed_time(time_ns),
        "s": symbol,
        "p": amount_text(candle.close - candle.open),
        "P": percent_text(candle.close - candle.open, candle.open),
        "o": amount_text(candle.open),
        "h": amount_text(candle.high),
        "l": amount_text(candle.low),
        "c": amount_text(candle.close),
        "w": amount_text(candle.quote_volume * ONE // volume if volume else candle.close),
        "v": amount_text(volume),
        "q": amount_text(candle.quote_volume),
        "O": printed_time((statistics.opens_ms + offset_ms) * 1_000_000),
        "C": printed_time((statistics.closes_ms + offset_ms) * 1_000_000),
        "F": candle.first_trade_id,
        "L": candle.last_trade_id,
        "n": candle.trade_count,
    }


def average_price_event(
    symbol: str, minutes: int, price: int, last_trade: TradePrint | None, time_ns: int
) -> Message:
    """Return an `avgPrice` event."""
    return {
        "e": "avgPrice",
        "E": printed_time(time_ns),
        "s": symbol,
        "i": f"{minutes}m",
        "w": amount_text(price),
        "T": printed_time(last_trade.time_ns if last_trade is not None else time_ns),
    }


def depth_update(
    symbol: str, ids: tuple[int, int], bids: Levels, asks: Levels, time_ns: int
) -> Message:
    """Return a `depthUpdate` event of the changes numbered `ids`, first and last."""
    return {
        "e": "depthUpdate",
        "E": printed_time(time_ns),
        "s": symbol,
        "U": ids[0],
        "u": ids[1],
        "b": _printed(bids, best_first=-1),
        "a": _printed(asks, best_first=1),
    }


def _printed(levels: Levels, *, best_first: int) -> list[list[str]]:
    prices = sorted(levels, key=lambda price: price * best_first)
    return [[amount_text(price), amount_text(levels[price])] for price in prices]

"""What a run was worth: returns, drawdown, ratios, round trips, from whole numbers.

Here the trade is over, so figures are floats; money that comes in is in 1e-8 of its asset. The
functions are loops over numpy arrays and records that compile as they stand: a sweep calls them
once per combination. docs/REPORTS.md defines every figure.

A ratio whose divisor is zero has no value. It is NaN, on purpose and in one meaning: "there is no
such figure" (the win rate of no trades, the Sharpe ratio of an account that never moved).
"""

import math
from typing import Any, Final, NamedTuple

import numpy
from numpy.typing import NDArray

from bagbot.domain.fills import Scale

Units = NDArray[numpy.int64] | NDArray[numpy.float64]
Records = NDArray[Any]

UNITS: Final = 100_000_000
YEAR_MS: Final = 365 * 24 * 60 * 60 * 1_000

# The sums below lose some of the sixteen digits of a float. What they leave of a variance that is
# in truth zero stays below this share of the sum of squares; no market comes near it.
_ROUNDING: Final = 1e-12
# Beyond e to this power a float ends.
_EXPONENT_MAX: Final = 700.0
_NONE: Final = math.nan

# What a walk over equity carries along: sums, the equity before, and the drawdown that it is in.
_TOTAL: Final = 0
_SQUARES: Final = 1
_BELOW: Final = 2
_SUM: Final = 3
_FALL: Final = 4
_FALL_BARS: Final = 5
_PEAK: Final = 6
_TROUGH: Final = 7
_PEAK_BAR: Final = 8
_BEFORE: Final = 9
_FIELDS: Final = 10

TRADE: Final = numpy.dtype(
    [
        ("entry_bar", numpy.int64),
        ("exit_bar", numpy.int64),
        ("is_long", numpy.bool_),
        ("base_units", numpy.int64),
        ("entry_price", numpy.int64),
        ("exit_price", numpy.int64),
        ("fees", numpy.float64),
        ("profit", numpy.float64),
        ("return", numpy.float64),
    ]
)
"""A round trip: bars by index, prices in ticks, `base_units` in 1e-8 of base, and in the quote
asset `fees` and `profit` (after fees). `return` is the profit over what the entry cost."""

_ENTRY: Final = numpy.dtype(
    [
        ("bar", numpy.int64),
        ("units", numpy.int64),
        ("price", numpy.int64),
        ("quote", numpy.float64),
        ("fee", numpy.float64),
    ]
)
"""What is left of a fill that opened: `quote` is what that part moved, fees in quote included."""


class EquityStatistics(NamedTuple):
    """What an equity curve says. Ratios and fractions, never percent.

    A bar's return is its equity over that of the bar before (the first one's: over the start),
    less 1; it is 0 once nothing was left. One year has `bars / years` of them.

    `total_return`    last equity over the start, less 1.
    `cagr`            the constant yearly return with that result; -1 when nothing is left, and
                      infinite where it leaves the floats (a doubling within seconds).
    `volatility`      standard deviation of the returns (n - 1), times the root of a year's bars.
    `sharpe`          mean return, less the risk-free one, over the standard deviation, times the
                      root of a year's bars.
    `sortino`         mean return, less the risk-free one, times a year's bars, over the downside
                      deviation (root of the mean square of what lies below the risk-free return)
                      times the root of a year's bars.
    `calmar`          `cagr` over `drawdown_max`.
    `drawdown_max`    the deepest fall below the highest equity so far (the start counts), as a
                      positive fraction of it.
    `drawdown_bars_max`  most bars that passed from a high until equity was back there, or the end.
    `equity_mean`     mean equity, in the unit that came in.
    """

    total_return: float
    cagr: float
    volatility: float
    sharpe: float
    sortino: float
    calmar: float
    drawdown_max: float
    drawdown_bars_max: float
    equity_mean: float


class TradeStatistics(NamedTuple):
    """What round trips say. Money is in the quote asset, after fees.

    `trades`         how many were closed.
    `win_rate`       share of them with a profit above zero.
    `profit_factor`  the sum of all profits over the sum of all losses.
    `expectancy`     mean profit of a trade.
    `average_win`, `average_loss`  mean profit of the winners, mean loss (negative) of the others
                     that lost.
    `best_trade`, `worst_trade`  the highest and lowest return of a trade.
    `sqn`            system quality number: root of the number of trades, times mean profit, over
                     its standard deviation (n - 1).
    `trade_bars`     mean number of bars from entry to exit.
    """

    trades: float
    win_rate: float
    profit_factor: float
    expectancy: float
    average_win: float
    average_loss: float
    best_trade: float
    worst_trade: float
    sqn: float
    trade_bars: float


class Activity(NamedTuple):
    """What the fills say of how much was done.

    `exposure`  share of the bars at whose close there was a position of at least one lot.
    `traded`    value of everything bought and sold, in quote.
    `fees`      all fees in quote; one taken in base is valued at its fill's price.
    """

    exposure: float
    traded: float
    fees: float


class Metrics(NamedTuple):
    """Every figure of one run, in the order in which a table shows them.

    Those of EquityStatistics, Activity and TradeStatistics, and `turnover`: the value traded over
    the mean equity. Buy-and-hold is `equity_statistics` of `buy_and_hold`.
    """

    total_return: float
    cagr: float
    volatility: float
    sharpe: float
    sortino: float
    calmar: float
    drawdown_max: float
    drawdown_bars_max: float
    exposure: float
    turnover: float
    fees: float
    trades: float
    win_rate: float
    profit_factor: float
    expectancy: float
    average_win: float
    average_loss: float
    best_trade: float
    worst_trade: float
    sqn: float
    trade_bars: float


def years_of(open_time_ms: NDArray[numpy.int64], interval_ms: int) -> float:
    """Return the years of 365 days from the first bar's opening to the last one's close.

    Missing bars count as time that passed; without any this is bars times interval.

    >>> years_of(numpy.array([0, 86_400_000]), 86_400_000) * 365
    2.0
    """
    if len(open_time_ms) == 0:
        return 0.0
    return int(open_time_ms[-1] - open_time_ms[0] + interval_ms) / YEAR_MS


def summarise(
    equity: Units, start: int, years: float, fills: Records, scale: Scale, risk_free: float = 0.0
) -> Metrics:
    """Return every figure of a run, from its equity by bar and its fills in order.

    `equity` and `start` are in 1e-8 of quote, `years` as by `years_of`, `risk_free` is a year's
    return. `fills` are records with bar, is_buy, price, lots, fee_units and fee_in_base.
    """
    account = _traded_equity(equity, start, years, fills, scale, risk_free)
    trades = trade_statistics(round_trips(fills, scale))
    activity = activity_of(fills, len(equity), scale)
    return Metrics(
        account.total_return,
        account.cagr,
        account.volatility,
        account.sharpe,
        account.sortino,
        account.calmar,
        account.drawdown_max,
        account.drawdown_bars_max,
        activity.exposure,
        _ratio(activity.traded * UNITS, account.equity_mean),
        activity.fees,
        trades.trades,
        trades.win_rate,
        trades.profit_factor,
        trades.expectancy,
        trades.average_win,
        trades.average_loss,
        trades.best_trade,
        trades.worst_trade,
        trades.sqn,
        trades.trade_bars,
    )


# The account.


def equity_statistics(
    equity: Units, start: float, years: float, risk_free: float = 0.0
) -> EquityStatistics:
    """Return what the equity after each bar says; see EquityStatistics.

    `start` is the equity before the first bar. Without bars all figures are none but a return and
    a drawdown of 0.
    """
    bars = len(equity)
    walk = _walk_from(start)
    if bars > 0:
        _walk_over(walk, equity, 0, bars, risk_free * years / bars)
    return _told(walk, equity, start, years)


def _traded_equity(
    equity: Units, start: int, years: float, fills: Records, scale: Scale, risk_free: float
) -> EquityStatistics:
    """Return the same of a run with these fills: a bar with nothing held need not be looked at."""
    bars = len(equity)
    if risk_free != 0.0 or bars == 0:
        return equity_statistics(equity, start, years, risk_free)
    walk = _walk_from(start)
    bar, held = 0, 0
    for index in range(len(fills)):
        fill = fills[index]
        if fill["bar"] > bar:
            _go_to(walk, equity, bar, fill["bar"], held)
            bar = fill["bar"]
        units = fill["lots"] * scale.lot_units
        held += units if fill["is_buy"] else -units
        if fill["fee_in_base"]:
            held -= fill["fee_units"]
        if held == 0 and (index + 1 == len(fills) or fills[index + 1]["bar"] > bar):
            # The bar of an exit is the last one that moves the account.
            _walk_over(walk, equity, bar, bar + 1, 0.0)
            bar += 1
    _go_to(walk, equity, bar, bars, held)
    return _told(walk, equity, start, years)


def _walk_from(start: float) -> NDArray[numpy.float64]:
    """Return where a walk over equity begins: the fields are `_TOTAL` and so on."""
    walk = numpy.zeros(_FIELDS, numpy.float64)
    walk[_BEFORE] = walk[_PEAK] = walk[_TROUGH] = start
    walk[_PEAK_BAR] = -1.0
    return walk


def _go_to(walk: NDArray[numpy.float64], equity: Units, first: int, stop: int, held: int) -> None:
    """Walk on to the bar `stop`, with so much held on the way."""
    if held != 0:
        _walk_over(walk, equity, first, stop, 0.0)
    elif stop > first:
        walk[_SUM] += walk[_BEFORE] * (stop - first)
        if walk[_BEFORE] >= walk[_PEAK]:
            walk[_PEAK_BAR] = stop - 1


def _walk_over(
    walk: NDArray[numpy.float64], equity: Units, first: int, stop: int, free: float
) -> None:
    """Walk over the bars from `first` until before `stop`."""
    total, squares, below, held = walk[_TOTAL], walk[_SQUARES], walk[_BELOW], walk[_SUM]
    fall, fall_bars = walk[_FALL], walk[_FALL_BARS]
    peak, trough, peak_bar = walk[_PEAK], walk[_TROUGH], walk[_PEAK_BAR]
    before = walk[_BEFORE]
    for bar in range(first, stop):
        now = equity[bar] * 1.0
        excess = (now / before - 1.0 if before > 0.0 else 0.0) - free
        held += now
        total += excess
        squares += excess * excess
        short = min(excess, 0.0)
        below += short * short
        before = now
        if now >= peak:
            # Divided once per high, not once per bar.
            fall = max(fall, (peak - trough) / peak)
            # Only what went below the high was a drawdown.
            if trough < peak:
                fall_bars = max(fall_bars, bar - peak_bar)
            peak, trough, peak_bar = now, now, bar * 1.0
        elif now < trough:
            trough = now
    walk[_TOTAL], walk[_SQUARES], walk[_BELOW], walk[_SUM] = total, squares, below, held
    walk[_FALL], walk[_FALL_BARS] = fall, fall_bars
    walk[_PEAK], walk[_TROUGH], walk[_PEAK_BAR] = peak, trough, peak_bar
    walk[_BEFORE] = before


def _told(
    walk: NDArray[numpy.float64], equity: Units, start: float, years: float
) -> EquityStatistics:
    """Return what a walk over all of the equity has found."""
    bars = len(equity)
    if bars == 0 or years <= 0.0 or start <= 0:
        return EquityStatistics(0.0, _NONE, _NONE, _NONE, _NONE, _NONE, 0.0, 0.0, _NONE)
    peak, trough = walk[_PEAK], walk[_TROUGH]
    fall, fall_bars = max(walk[_FALL], (peak - trough) / peak), walk[_FALL_BARS]
    if trough < peak:
        fall_bars = max(fall_bars, bars - 1 - walk[_PEAK_BAR])
    mean = walk[_TOTAL] / bars
    per_year = bars / years
    deviation = _deviation(walk[_TOTAL], walk[_SQUARES], bars)
    growth = equity[-1] / start
    cagr = _yearly(growth, years)
    return EquityStatistics(
        growth - 1.0,
        cagr,
        deviation * math.sqrt(per_year),
        _ratio(mean * math.sqrt(per_year), deviation),
        _ratio(mean * math.sqrt(per_year), math.sqrt(walk[_BELOW] / bars)),
        _ratio(cagr, fall),
        fall,
        fall_bars,
        walk[_SUM] / bars,
    )


def drawdowns(equity: Units, start: float) -> NDArray[numpy.float64]:
    """Return how far each bar's equity lies below the highest so far: 0 at a high, else below."""
    highs = numpy.maximum.accumulate(numpy.maximum(equity, start))
    return numpy.asarray(equity / highs - 1.0, dtype=numpy.float64)


def buy_and_hold(
    first_open: int, close: NDArray[numpy.int64], start: int, cost: float = 0.0
) -> NDArray[numpy.float64]:
    """Return the equity, in 1e-8 of quote, of who bought at the first open and never sold.

    All of `start` goes in; `cost` is the fraction that fee and slippage took of it.
    """
    return numpy.asarray(start * (1.0 - cost) / first_open * close, dtype=numpy.float64)


def monthly_returns(
    open_time_ms: NDArray[numpy.int64], equity: Units, start: float
) -> list[tuple[int, int, float]]:
    """Return year, month (1 to 12, UTC) and return of every month with a bar, oldest first.

    A bar belongs to the month in which it opens. Months after the account was lost have 0.
    """
    if len(equity) == 0:
        return []
    months = open_time_ms.astype("datetime64[ms]").astype("datetime64[M]").astype(numpy.int64)
    last_bars = numpy.append(numpy.flatnonzero(numpy.diff(months)), len(months) - 1)
    rows, before = [], start
    for bar in last_bars:
        year, month = divmod(int(months[bar]), 12)
        now = equity[bar].item()
        rows.append((1970 + year, month + 1, now / before - 1.0 if before > 0 else 0.0))
        before = now
    return rows


# Round trips.


def round_trips(fills: Records, scale: Scale) -> Records:
    """Return the round trips (TRADE) that fills make, in the order in which they were closed.

    First in, first out: an exit closes the oldest entry first, and what spans several entries
    makes a trade with each. An entry brings what was left after a fee in base; what is then less
    than a lot can't be sold, goes over to the entry beside it, and makes no trade of its own.

    The profits of all trades, and what is still open, add up to what the account made of trading.
    """
    trades = numpy.empty(len(fills) + 1, TRADE)
    entries = numpy.empty(len(fills) + 1, _ENTRY)
    closed, first, last = 0, 0, 0
    is_long = True
    value_of_one = scale.numerator / scale.denominator / UNITS
    for index in range(len(fills)):
        fill = fills[index]
        is_buy = fill["is_buy"]
        units = fill["lots"] * scale.lot_units
        quote, fee = fill["price"] * fill["lots"] * value_of_one, fill["fee_units"] / UNITS
        if fill["fee_in_base"]:
            fee = quote * fill["fee_units"] / units
            units -= fill["fee_units"]
        elif is_buy:
            quote += fee
        else:
            quote -= fee
        left = units
        while left > 0 and first < last and is_buy != is_long:
            if last - first > 1:
                _even_out(entries, first, left, scale.lot_units)
            taken = min(left, entries[first]["units"])
            share = taken / units
            _settle(trades[closed], entries[first], fill, taken, quote * share, fee * share)
            closed += 1
            left -= taken
            if entries[first]["units"] == 0:
                first += 1
            elif last - first > 1 and entries[first]["units"] < scale.lot_units:
                _move(entries, first, first + 1, entries[first]["units"])
                first += 1
        if left > 0:
            share = left / units
            entries[last]["bar"], entries[last]["price"] = fill["bar"], fill["price"]
            entries[last]["units"] = left
            entries[last]["quote"], entries[last]["fee"] = quote * share, fee * share
            if last - first == 1 and entries[first]["units"] < scale.lot_units:
                _move(entries, first, last, entries[first]["units"])
                first += 1
            last += 1
            is_long = is_buy
    return trades[:closed]


def trade_statistics(trades: Records) -> TradeStatistics:
    """Return what round trips (TRADE) say; see TradeStatistics."""
    count, wins, losses = len(trades), 0, 0
    won, lost, squares, bars = 0.0, 0.0, 0.0, 0.0
    best, worst = -math.inf, math.inf
    for index in range(count):
        trade = trades[index]
        profit = trade["profit"]
        squares += profit * profit
        bars += trade["exit_bar"] - trade["entry_bar"]
        best, worst = max(best, trade["return"]), min(worst, trade["return"])
        if profit > 0.0:
            wins, won = wins + 1, won + profit
        elif profit < 0.0:
            losses, lost = losses + 1, lost - profit
    if count == 0:
        best, worst = _NONE, _NONE
    mean = _ratio(won - lost, count)
    return TradeStatistics(
        count * 1.0,
        _ratio(wins, count),
        _ratio(won, lost),
        mean,
        _ratio(won, wins),
        _ratio(-lost, losses),
        best,
        worst,
        _ratio(math.sqrt(count) * mean, _deviation(won - lost, squares, count)),
        _ratio(bars, count),
    )


def activity_of(fills: Records, bars: int, scale: Scale) -> Activity:
    """Return what the fills of a run over so many bars say; see Activity."""
    position, since, held = 0, 0, 0
    traded, fees = 0.0, 0.0
    value_of_one = scale.numerator / scale.denominator / UNITS
    for index in range(len(fills)):
        fill = fills[index]
        if abs(position) >= scale.lot_units:
            held += fill["bar"] - since
        since = fill["bar"]
        units = fill["lots"] * scale.lot_units
        quote = fill["price"] * fill["lots"] * value_of_one
        traded += quote
        position += units if fill["is_buy"] else -units
        if fill["fee_in_base"]:
            fees += quote * fill["fee_units"] / units
            position -= fill["fee_units"]
        else:
            fees += fill["fee_units"] / UNITS
    if abs(position) >= scale.lot_units:
        held += bars - since
    return Activity(_ratio(held, bars), traded, fees)


def _settle(
    trade: numpy.void, entry: numpy.void, fill: numpy.void, taken: int, quote: float, fee: float
) -> None:
    """Close `taken` units of an entry by a fill, of which this part moved `quote`."""
    trade["entry_bar"], trade["exit_bar"] = entry["bar"], fill["bar"]
    trade["entry_price"], trade["exit_price"] = entry["price"], fill["price"]
    trade["is_long"] = not fill["is_buy"]
    trade["base_units"] = taken
    share = taken / entry["units"]
    cost, entry_fee = entry["quote"] * share, entry["fee"] * share
    profit = quote - cost if trade["is_long"] else cost - quote
    trade["profit"], trade["fees"] = profit, fee + entry_fee
    trade["return"] = profit / cost if cost > 0.0 else 0.0
    entry["units"] -= taken
    entry["quote"] -= cost
    entry["fee"] -= entry_fee


def _even_out(entries: Records, first: int, left: int, lot_units: int) -> None:
    """Fill up the oldest entry from the next when an exit would leave less than a lot for it."""
    missing = left - entries[first]["units"]
    if 0 < missing < lot_units and entries[first + 1]["units"] > missing:
        _move(entries, first + 1, first, missing)


def _move(entries: Records, source: int, target: int, units: int) -> None:
    share = units / entries[source]["units"]
    quote, fee = entries[source]["quote"] * share, entries[source]["fee"] * share
    entries[source]["units"] -= units
    entries[source]["quote"] -= quote
    entries[source]["fee"] -= fee
    entries[target]["units"] += units
    entries[target]["quote"] += quote
    entries[target]["fee"] += fee


# Arithmetic.


def _ratio(dividend: float, divisor: float) -> float:
    return dividend / divisor if abs(divisor) > 0 else _NONE


def _deviation(total: float, squares: float, count: int) -> float:
    """Return the standard deviation (n - 1) of what has this sum and this sum of squares."""
    if count < 2:
        return _NONE
    around_mean = squares - total * total / count
    if around_mean <= squares * _ROUNDING:
        return 0.0
    return math.sqrt(around_mean / (count - 1))


def _yearly(growth: float, years: float) -> float:
    if growth <= 0.0:
        return -1.0
    exponent = math.log(growth) / years
    return math.exp(exponent) - 1.0 if exponent < _EXPONENT_MAX else math.inf

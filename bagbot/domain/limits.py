"""The risk rules as predicates on whole numbers: what the gate asks, and the backtest's kernel.

Prices are in ticks, quantities in lots, values in 1e-8 of the quote asset. `RiskManager` asks the
same questions in Decimal; a property test holds the two together. A value is rounded up before it
is compared, so that nothing passes by rounding.
"""

from bagbot.domain import fills

_MILLION = 1_000_000


def is_order_value_allowed(price: int, lots: int, value_max: int, scale: fills.Scale) -> bool:
    """Return whether one order of `lots` at `price` is worth no more than `value_max`."""
    return fills.value_ceiling(price, lots, scale) <= value_max


def is_position_value_allowed(
    price: int, position_lots: int, change_lots: int, value_max: int, scale: fills.Scale
) -> bool:
    """Return whether the position stays within `value_max` once `change_lots` have traded.

    Both are signed. `change_lots` counts the new order and all that is pending on its side.
    """
    worst = abs(position_lots + change_lots)
    return worst == 0 or fills.value_ceiling(price, worst, scale) <= value_max


def is_within_collar(
    is_buy: bool,
    price: int,
    reference: int,
    collar_ppm: int,
) -> bool:
    """Return whether a limit is not further than `collar_ppm` beyond the market, where it hurts.

    A buy far below the market, or a sell far above it, merely rests.
    """
    whole, rest = reference // _MILLION, reference % _MILLION
    if is_buy:
        return price - reference <= whole * collar_ppm + rest * collar_ppm // _MILLION
    return reference - price <= whole * collar_ppm + rest * collar_ppm // _MILLION


def is_reducing(position_lots: int, change_lots: int) -> bool:
    """Return whether `change_lots`, pending orders of that side included, only shrink it."""
    if change_lots < 0:
        return -change_lots <= position_lots
    return change_lots <= -position_lots


def worst_price(is_buy: bool, limit: int, trigger: int, trailing_ppm: int, reference: int) -> int:
    """Return the most that a lot can cost or bring, slippage aside.

    A buy never costs more than its limit, and nothing sells below its own. What waits for a trigger
    trades there, or nearer to the market; where a trailing buy goes nobody knows, but at first its
    trigger is so far above. What an order has not is 0.
    """
    if is_buy and limit:
        return limit
    rise = fills.fee(reference, trailing_ppm) if is_buy else 0
    return max(limit, trigger, reference + rise)

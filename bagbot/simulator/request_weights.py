"""What requests weigh against the limit, where that depends on what they ask for."""

from collections.abc import Callable, Mapping

_Parameters = Mapping[str, str]
_NO_BOUND = 10**9


def always(weight: int) -> Callable[[_Parameters], int]:
    """Return a weight that depends on nothing."""
    return lambda _parameters: weight


def by_symbol(one: int, every: int) -> Callable[[_Parameters], int]:
    """Return a weight that is less for one symbol than for all of them."""
    return lambda parameters: one if "symbol" in parameters else every


def day_weight(parameters: _Parameters) -> int:
    """Return the weight of 24-hour statistics, by how many symbols they are of."""
    if "symbol" in parameters:
        return 2
    if "symbols" not in parameters:
        return 80
    symbol_count = parameters["symbols"].count(",") + 1
    for bound, weight in ((20, 2), (100, 40)):
        if symbol_count <= bound:
            return weight
    return 80


def depth_weight(parameters: _Parameters) -> int:
    """Return the weight of the book, by how many levels of it."""
    limit = parameters.get("limit", "100")
    levels = int(limit) if limit.isascii() and limit.isdigit() and len(limit) < 10 else 100
    for bound, weight in ((100, 5), (500, 25), (1_000, 50), (_NO_BOUND, 250)):
        if levels <= bound:
            return weight
    return 250


def order_test_weight(parameters: _Parameters) -> int:
    """Return the weight of order/test, which is more with the commission rates."""
    return 20 if parameters.get("computeCommissionRates", "").lower() == "true" else 1


def my_trades_weight(parameters: _Parameters) -> int:
    """Return the weight of the account's trades, which is less for one order."""
    return 5 if "orderId" in parameters else 20

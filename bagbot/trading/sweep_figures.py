"""A sweep's figures of one run, straight from the tables of the kernel's desk.

Plain functions that compile as they stand, like the kernel.
"""

from typing import Any, Final

from numpy.typing import NDArray

from bagbot.domain import statistics
from bagbot.trading.kernel_tables import REFUSED, Desk

# FNV's prime; the hash keeps 63 bits, which int64 holds whether or not it wraps around.
_PRIME: Final = 0x100000001B3
_BASIS: Final = 0x4BF29CE484222325
_MASK: Final = 2**63 - 1


def figures(desk: Desk, start_units: int, years: float) -> tuple[statistics.Metrics, int, int]:
    """Return the metrics of a finished run, how many orders were refused, and its fills' hash."""
    account = desk.account
    fills = desk.fills[: account.fill_count]
    metrics = statistics.summarise(desk.equity, start_units, years, fills, desk.scale)
    refused = 0
    for row in range(account.order_count):
        if desk.orders[row].status == REFUSED:
            refused += 1
    return metrics, refused, fills_hash(fills)


def fills_hash(fills: NDArray[Any]) -> int:
    """Return a hash of when what was traded at which price and fee; 0 of nothing."""
    if len(fills) == 0:
        return 0
    found = _BASIS
    for index in range(len(fills)):
        fill = fills[index]
        found = _with(found, fill["bar"])
        found = _with(found, fill["is_buy"] + 2 * fill["fee_in_base"])
        found = _with(found, fill["price"])
        found = _with(found, fill["lots"])
        found = _with(found, fill["fee_units"])
    return found


def _with(found: int, number: int) -> int:
    return ((found ^ number) * _PRIME) & _MASK

"""A sweep's figures of one run, straight from the tables of the kernel's desk.

Plain functions that compile as they stand, like the kernel.
"""

from typing import Any, Final

import numpy
from numpy.typing import NDArray

from bagbot.domain import statistics
from bagbot.trading.kernel_tables import REFUSED

Records = NDArray[Any]

# FNV's prime; the hash keeps 63 bits, which int64 holds whether or not it wraps around.
_PRIME: Final = 0x100000001B3
_BASIS: Final = 0x4BF29CE484222325
_MASK: Final = 2**63 - 1


def figures(
    orders: Records,
    fills: Records,
    equity: NDArray[numpy.int64],
    accounts: Records,
    scales: Records,
    cash_units: int,
    years: float,
) -> tuple[statistics.Metrics, int, int, int, int, int]:
    """Return the figures of a run that has ended, from the columns of its desk.

    These are its metrics, the equity at the end, how many orders, refused ones and fills there
    were, and the hash of the fills.
    """
    account = accounts[0]
    made = fills[: account.fill_count]
    metrics = statistics.summarise(equity, cash_units, years, made, scales[0], 0.0)
    refused = 0
    for row in range(account.order_count):
        refused += orders[row].status == REFUSED
    counts = (account.order_count, refused, account.fill_count)
    return metrics, equity[-1], *counts, fills_hash(made)


def fills_hash(fills: Records) -> int:
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

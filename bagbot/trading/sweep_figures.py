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


def figures(
    desk: Desk, cash_units: int, years: float
) -> tuple[statistics.Metrics, int, int, int, int, int]:
    """Return the figures of a run that has ended.

    These are its metrics, the equity at the end, how many orders, refused ones and fills there
    were, and the hash of the fills.
    """
    account = desk.account
    fills = _first(desk.fills, account.fill_count)
    metrics = statistics.summarise(desk.equity, cash_units, years, fills, desk.scale)
    refused = 0
    for row in range(account.order_count):
        refused += desk.orders[row].status == REFUSED
    return (
        metrics,
        desk.equity[-1],
        account.order_count,
        refused,
        account.fill_count,
        fills_hash(fills),
    )


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


def _first(table: Any, rows: int) -> NDArray[Any]:  # noqa: ANN401 - a record array, to numba
    found: NDArray[Any] = table[:rows]
    return found


def _with(found: int, number: int) -> int:
    return ((found ^ number) * _PRIME) & _MASK

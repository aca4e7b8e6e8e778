"""The way from Python into the compiled kernel: one C function that takes a desk as addresses.

A call through numba's own door costs some 20 microseconds for all the records of a desk, this one a
tenth of that. What is to be done, and with which numbers, stands in a record of `CALL`, as does
the answer afterwards. `compiled` makes the C function of `enter`.
"""

from ctypes import c_void_p
from typing import Any, Final

import numpy
from numba.np import numpy_support

from bagbot.trading import kernel
from bagbot.trading.kernel_tables import ACCOUNT, COSTS, FILL, ORDER, RULES, SCALE, Desk

CLOSE_BAR = 1
ACT = 2
FINISH = 3
PLACE = 4
CLOSE_POSITION = 5
CANCEL_ONE = 6
CANCEL_EVERY = 7
AMEND_ONE = 8

CALL: Final = numpy.dtype(
    [
        (name, kind)
        for kind, names in (
            ("<i8", "what bar number kind trailing_ppm time_in_force pair parent is_buy"),
            ("<i8", "is_reduce_only answer"),
            ("<f8", "amount limit trigger"),
        )
        for name in names.split()
    ]
)
_INT64: Final = numpy.int64
# What it returns is any kind of table.
carray: Any = numpy_support.carray


def enter(
    sizes: c_void_p,
    opens: c_void_p,
    highs: c_void_p,
    lows: c_void_p,
    closes: c_void_p,
    volumes: c_void_p,
    funding: c_void_p,
    orders: c_void_p,
    fills: c_void_p,
    equity: c_void_p,
    account: c_void_p,
    rules: c_void_p,
    costs: c_void_p,
    scale: c_void_p,
    wanted: c_void_p,
) -> None:
    """Do what the call at `wanted` says. `sizes` are those of bars, funding, orders and fills."""
    size = carray(sizes, (4,), _INT64)
    bars = size[0]
    desk = Desk(
        carray(opens, (bars,), _INT64),
        carray(highs, (bars,), _INT64),
        carray(lows, (bars,), _INT64),
        carray(closes, (bars,), _INT64),
        carray(volumes, (bars,), _INT64),
        carray(funding, (size[1], 4), _INT64),
        carray(orders, (size[2],), ORDER),
        carray(fills, (size[3],), FILL),
        carray(equity, (bars,), _INT64),
        carray(account, (1,), ACCOUNT)[0],
        carray(rules, (1,), RULES)[0],
        carray(costs, (1,), COSTS)[0],
        carray(scale, (1,), SCALE)[0],
    )
    call = carray(wanted, (1,), CALL)[0]
    call.answer = 0
    if call.what == CLOSE_BAR:
        kernel.close_bar(desk, call.bar)
    elif call.what == ACT:
        kernel.act(desk)
    elif call.what == PLACE:
        call.answer = kernel.place(
            desk,
            call.is_buy != 0,
            call.amount,
            call.kind,
            call.limit,
            call.trigger,
            call.trailing_ppm,
            call.time_in_force,
            call.is_reduce_only != 0,
            call.pair,
            call.parent,
        )
    elif call.what == CLOSE_POSITION:
        call.answer = kernel.close_position(desk)
    elif call.what == CANCEL_ONE:
        call.answer = kernel.cancel(desk, call.number)
    elif call.what == CANCEL_EVERY:
        call.answer = kernel.cancel_all(desk)
    elif call.what == AMEND_ONE:
        call.answer = kernel.amend(desk, call.number, call.amount, call.limit, call.trigger)
    else:
        kernel.finish(desk)

"""Recorded funding of perpetual futures from CSV and Parquet files."""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import numpy

from bagbot.domain.errors import DataError
from bagbot.marketdata.table_file import read_table

_SPELLINGS: Final = {
    "time": (
        "funding_time_ms funding_time fundingtime calc_time timestamp_ms timestamp unix time "
        "datetime date"
    ),
    "rate": "funding_rate fundingrate last_funding_rate rate",
    "mark_price": "mark_price markprice mark",
}
# What Binance ever charged at once is 3 %; more than this is a rate in per cent.
_RATE_MAX: Final = 0.1
_STEP: Final = Decimal("0.00000001")


@dataclass(frozen=True, slots=True, kw_only=True)
class FundingRates:
    """When funding was due (UTC, ms, ascending), at which rate, and the mark price if it is known.

    A rate is a fraction of the position's value; above 0 who is long pays.
    """

    times_ms: tuple[int, ...]
    rates: tuple[Decimal, ...]
    mark_prices: tuple[Decimal, ...] | None

    def __len__(self) -> int:
        return len(self.times_ms)


def read_funding(
    path: Path | str, *, symbol: str | None = None, zone: str | None = None
) -> FundingRates:
    """Return the recorded funding of one market, its rates to 8 decimals as exchanges state them.

    `symbol` and `zone` are what they are for `read_bars`. Raises DataError with the row, the column
    and the reason.
    """
    path = Path(path)
    table = read_table(path, _SPELLINGS, symbol=symbol, optional=["mark_price"])
    times = table.times(zone)
    rates = table.numbers("rate")
    prices = table.numbers("mark_price") if "mark_price" in table else None
    wrong = [
        (numpy.diff(times, prepend=times[:1] - 1) <= 0, "time", "not after the row before"),
        (numpy.abs(rates) > _RATE_MAX, "rate", "no fraction of a position's value"),
    ]
    if prices is not None:
        wrong.append((prices <= 0, "mark price", "not above zero"))
    for is_wrong, name, reason in wrong:
        if is_wrong.any():
            row = int(numpy.argmax(is_wrong))
            raise DataError(f"{path}: {table.place(row)}, {name}: {reason}")
    return FundingRates(
        times_ms=tuple(times.tolist()),
        rates=tuple(Decimal(repr(rate)).quantize(_STEP) for rate in rates.tolist()),
        mark_prices=None
        if prices is None
        else tuple(Decimal(repr(price)).quantize(_STEP) for price in prices.tolist()),
    )

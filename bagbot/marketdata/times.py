"""Moments as files write them: numbers of four units, texts with a zone, dates of Parquet."""

from typing import Final

import numpy
import polars
from numpy.typing import NDArray

from bagbot.domain.bars import Column
from bagbot.domain.errors import DataError
from bagbot.marketdata.recorded_bars import Place

# From and up to which number a count since 1970 is in this unit, and how many are a millisecond (0:
# each is a thousand). Counts of one unit never reach those of the next: 10^11 is in seconds the
# year 5138, in milliseconds 1973.
_UNITS: Final = (
    ("seconds", 10**8, 10**11, 0),
    ("milliseconds", 10**11, 10**14, 1),
    ("microseconds", 10**14, 10**17, 1_000),
    ("nanoseconds", 10**17, 9 * 10**18, 1_000_000),
)
_TEXT: Final = (
    r"^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})"
    r"(?:[T ](\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?"
    r"\s*(Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?$"
)


def times_ms(column: polars.Series, zone: str | None, place: Place) -> Column:
    """Return a column of moments in milliseconds since 1970, UTC.

    Raises DataError at the first value that is none, and for moments without a time zone unless
    `zone` says what they mean.
    """
    if column.null_count():
        row = int(column.is_null().arg_max() or 0)
        raise DataError(f"{place(row)}, {column.name}: the time is missing")
    if column.dtype == polars.String:
        column = column.str.strip_chars()
        if column.str.contains(r"^[0-9.eE+]+$").all():
            return _counted(column.cast(polars.Float64, strict=False), column, place)
        return _written(column, zone, place)
    if column.dtype == polars.Date:
        column = column.cast(polars.Datetime("ms"))
    if isinstance(column.dtype, polars.Datetime):
        if column.dtype.time_zone is None:
            column = _placed(column, zone, place)
        return _since_1970(column)
    if not column.dtype.is_numeric():
        raise DataError(f"column {column.name}: {column.dtype} is no time")
    return _counted(column.cast(polars.Float64), column, place)


def _counted(numbers: polars.Series, column: polars.Series, place: Place) -> Column:
    """Return counts since 1970 in whichever unit they are, all in the same."""
    # Whole numbers stay whole: a double names no nanosecond of our days.
    counts = column.cast(polars.Int64, strict=False)
    values = numbers.to_numpy() if counts.null_count() or column.dtype.is_float() else None
    times = counts.to_numpy() if values is None else values
    unit, least, most, per_ms = next(
        (u for u in _UNITS if u[1] <= times[0] < u[2]), ("seconds", 10**8, 9 * 10**18, 0)
    )
    _require((times >= least) & (times < most), f"is no time in {unit} since 1970", column, place)
    whole: Column
    if per_ms == 0:
        times = times * 1000
        whole = numpy.rint(times).astype(numpy.int64)
        # A double of seconds with a fraction is a millisecond to some digits only.
        is_whole = numpy.abs(times - whole) < 1e-3
    else:
        whole = (times // per_ms).astype(numpy.int64)
        is_whole = times % per_ms == 0
    _require(is_whole, "is no whole millisecond", column, place)
    return whole


def _require(
    is_fine: NDArray[numpy.bool_],
    reason: str,
    column: polars.Series,
    place: Place,
) -> None:
    if not is_fine.all():
        row = int(numpy.argmin(is_fine))
        raise DataError(f"{place(row)}, {column.name}: {column[row]} {reason}")


def _written(column: polars.Series, zone: str | None, place: Place) -> Column:
    """Return moments written as text: a date, perhaps a time of day, and a time zone."""
    parts = (
        column.alias("text")
        .to_frame()
        .select(polars.col("text").str.extract_groups(_TEXT).struct.unnest())
    )
    year, month, day, hour, minute, second, fraction, offset = parts.columns

    def two(name: str) -> polars.Expr:
        return polars.col(name).fill_null("00").str.zfill(2)

    text = polars.concat_str(
        [polars.col(year), two(month), two(day), two(hour), two(minute), two(second)]
    )
    local = parts.select(
        text.str.to_datetime("%Y%m%d%H%M%S", strict=False, time_unit="ms").alias("local")
    )["local"]
    if local.null_count():
        row = int(local.is_null().arg_max() or 0)
        raise DataError(f"{place(row)}, {column.name}: {column[row]!r} is no time")
    milliseconds = parts[fraction].fill_null("0").str.pad_end(3, "0").str.slice(0, 3)
    shift: Column = milliseconds.cast(polars.Int64).to_numpy()
    offsets = parts[offset]
    if offsets.null_count() == 0:
        return _since_1970(local) + shift - _offset_ms(offsets)
    if offsets.null_count() < len(offsets):
        row = int(offsets.is_null().arg_max() or 0)
        raise DataError(
            f"{place(row)}, {column.name}: {column[row]!r} has no time zone, other rows have one"
        )
    return _since_1970(_placed(local.alias(column.name), zone, place)) + shift


def _since_1970(moments: polars.Series) -> Column:
    times: Column = moments.dt.epoch("ms").to_numpy()
    return times


def _offset_ms(offsets: polars.Series) -> Column:
    """Return how far ahead of UTC each zone like +05:30 is."""
    digits = offsets.str.replace_all(r"Z|z|UTC|GMT", "+0000").str.replace_all(":", "")
    hours = digits.str.slice(1, 2).cast(polars.Int64)
    minutes = digits.str.slice(3, 2).replace("", "0").cast(polars.Int64)
    sign = digits.str.starts_with("-").to_numpy()
    ahead = (hours * 60 + minutes).to_numpy() * 60_000
    return numpy.where(sign, -ahead, ahead)


def _placed(column: polars.Series, zone: str | None, place: Place) -> polars.Series:
    """Return moments without a zone as moments of `zone`."""
    if zone is None:
        raise DataError(
            f"{place(0)}, {column.name}: {column[0]} has no time zone: say which one is meant, "
            f"such as UTC"
        )
    try:
        return column.dt.replace_time_zone(zone)
    except polars.exceptions.PolarsError as error:
        words = str(error).splitlines()[0]
        raise DataError(f"column {column.name}: not in the time zone {zone!r} ({words})") from error

"""A CSV or Parquet file as columns of times and numbers; what cannot be read is named.

Nothing is repaired in silence. A file is refused with the row, the column and the reason.
"""

import gzip
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy
import polars

from bagbot.domain.bars import Column
from bagbot.domain.errors import DataError
from bagbot.marketdata.recorded_bars import Floats, Place
from bagbot.marketdata.times import times_ms

_SYMBOL: Final = "symbol ticker pair instrument market tic sym s"
_SEPARATORS: Final = ",;\t|"
_PREFACE_LINES_MAX: Final = 5

Find = Callable[[Mapping[str, str]], Mapping[str, str]]
"""Finds columns, ours by the file's, among the file's plainly spelled ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """The rows of one market of a file.

    `symbol` is the file's own word for the market, None when it has none; `place` says where in
    the file a row is.
    """

    path: Path
    symbol: str | None
    place: Place
    _frame: polars.DataFrame
    _names: Mapping[str, str]

    def times(self, zone: str | None) -> Column:
        """Return the column of times in milliseconds, UTC; `zone` is for those that have none."""
        try:
            return times_ms(self._frame[self._names["time"]], zone, self.place)
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error

    def numbers(self, name: str) -> Floats:
        """Return a column as doubles. Raises DataError at the first that is no finite number."""
        column = self._frame[self._names[name]]
        if column.dtype == polars.Float32:
            raise DataError(
                f"{self.path}: column {column.name}: 32-bit floats hold 7 digits, which no tick "
                f"can be told from; write 64-bit floats, decimals or text"
            )
        if column.dtype == polars.String:
            column = column.str.strip_chars()
        elif not column.dtype.is_numeric():
            raise DataError(f"{self.path}: column {column.name}: {column.dtype} is no number")
        numbers = column.cast(polars.Float64, strict=False)
        if numbers.null_count():
            row = int(numbers.is_null().arg_max() or 0)
            value = column[row]
            what = "the value is missing" if value in (None, "") else f"{value!r} is no number"
            raise DataError(f"{self.path}: {self.place(row)}, {column.name}: {what}")
        values: Floats = numbers.to_numpy()
        if not numpy.isfinite(values).all():
            row = int(numpy.argmin(numpy.isfinite(values)))
            raise DataError(
                f"{self.path}: {self.place(row)}, {column.name}: {values[row]} is no number"
            )
        return values

    def __contains__(self, name: str) -> bool:
        return name in self._names


def read_table(
    path: Path,
    spellings: Mapping[str, str],
    *,
    symbol: str | None,
    bare: Sequence[str] = (),
    optional: Sequence[str] = (),
    find: Find = lambda _known: {},
) -> TableFile:
    """Return the columns that `spellings` names: ours to theirs, the surest first.

    Upper and lower case, spaces and dots don't count. `bare` are the first columns of a file
    without a header. `find` finds columns that spellings cannot.

    Raises DataError for a missing column, no rows, several markets and no choice among them.
    """
    frame, first_line = _frame(path, bare, columns_min=len(spellings) - len(optional))
    if frame.is_empty():
        raise DataError(f"{path}: it has no rows")
    given = {_key(name): name for name in reversed(frame.columns)}
    names = {}
    for ours, theirs in spellings.items():
        found = next((given[each] for each in theirs.split() if each in given), None)
        if found is not None:
            names[ours] = found
    names.update(find(given))
    missing = [name for name in spellings if name not in names and name not in optional]
    if missing:
        raise DataError(
            f"{path}: column missing: {', '.join(missing)}; there are {', '.join(frame.columns)}"
        )
    frame = frame.with_row_index("__row")
    word = None
    market = next((given[each] for each in _SYMBOL.split() if each in given), None)
    if market is not None and market not in names.values():
        frame, word = _of_one_market(path, frame, market, symbol)
    rows = frame["__row"]

    def place(row: int) -> str:
        at = int(rows[row])
        return f"row {at}" if first_line is None else f"line {at + first_line}"

    return TableFile(path=path, symbol=word, place=place, _frame=frame, _names=names)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _frame(
    path: Path, bare: Sequence[str], *, columns_min: int
) -> tuple[polars.DataFrame, int | None]:
    """Return the file's rows, and the line of the first one if it has lines."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        if is_parquet:
            return polars.read_parquet(path), None
        return _csv(path, bare, columns_min)
    except (
        polars.exceptions.PolarsError,
        OSError,
        UnicodeDecodeError,
        EOFError,
        zlib.error,
    ) as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: neither CSV nor Parquet that can be read ({words})") from error


def _csv(path: Path, bare: Sequence[str], columns_min: int) -> tuple[polars.DataFrame, int]:
    """Return the rows of a CSV file, every value still as its text."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    preface = 0
    head = data[:65536].decode("utf-8-sig", errors="replace").splitlines()
    # Some archives put a line about themselves before the header.
    while preface < min(len(head), _PREFACE_LINES_MAX) and not _separator(
        head[preface], columns_min
    ):
        preface += 1
    if preface >= len(head) or not (separator := _separator(head[preface], columns_min)):
        raise DataError(f"{path}: neither CSV nor Parquet")
    first = head[preface].split(separator)[0].strip('"')
    has_header = not re.fullmatch(r"[0-9.]+", first)
    frame = polars.read_csv(
        data,
        separator=separator,
        has_header=has_header,
        skip_lines=preface,
        infer_schema=False,
        encoding="utf8",
    )
    if not has_header:
        if not bare or frame.width < len(bare):
            raise DataError(f"{path}: no header, and not the columns of an archive without one")
        names = dict(zip(frame.columns, bare, strict=False))
        frame = frame.select(list(names)).rename(names)
    return frame, preface + (2 if has_header else 1)


def _separator(line: str, columns_min: int) -> str:
    """Return what separates the columns of a line, or "" when nothing separates enough of them."""
    best = max(_SEPARATORS, key=line.count)
    return best if line.count(best) >= columns_min - 2 else ""


def _of_one_market(
    path: Path, frame: polars.DataFrame, column: str, symbol: str | None
) -> tuple[polars.DataFrame, str]:
    """Return the rows of one market, and the file's word for it."""
    names = [str(name) for name in frame[column].unique(maintain_order=True)]
    shown = ", ".join(names[:8]) + (" ..." if len(names) > 8 else "")
    if symbol is None:
        if len(names) > 1:
            raise DataError(f"{path}: it holds several markets, choose one: {shown}")
        return frame, names[0]
    chosen = [name for name in names if _plain(name) == _plain(symbol)]
    if len(chosen) != 1:
        raise DataError(f"{path}: it has no {symbol}, only {shown}")
    return frame.filter(polars.col(column).cast(polars.String) == chosen[0]), chosen[0]


def _plain(symbol: str) -> str:
    """Return a symbol without what exchanges write differently."""
    return re.sub(r"[^A-Z0-9]", "", symbol.partition(":")[0].upper())

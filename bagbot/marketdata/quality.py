"""What is wrong with bars, or only odd: counted, placed in time, and said in words.

Pure, and vectorised: half a million bars are looked at in some tens of milliseconds.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy
from numpy.typing import NDArray

from bagbot.domain.bars import Bars
from bagbot.domain.ohlcv import timeframe_of

_GAPS_KEPT: Final = 1000
_OUTLIERS_KEPT: Final = 100
# A bar is an outlier when some move of it is that many times the usual move of its neighbourhood,
# and not small as such. Calm days and wild ones are measured by themselves.
_OUTLIER_TIMES: Final = 30.0
_OUTLIER_MOVE_MIN: Final = 0.01
_NEIGHBOURHOOD: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Bars that are not there: `missing` of them after the one that opens at `after_ms`."""

    after_ms: int
    missing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlier:
    """A bar with a move (a fraction of the price) far beyond its neighbours'; `times` theirs."""

    open_time_ms: int
    move: float
    times: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReport:
    """What there is to know of a row of bars before one relies on them.

    `missing` bars lie in `gap_count` gaps, of which `gaps` holds the longest. `duplicates`,
    `unsorted` and `impossible` bars cannot be computed with; the rest is only worth knowing.
    `zero_volume_longest` is the longest row of bars without a trade.
    """

    bars: int
    interval_ms: int
    first_ms: int
    last_ms: int
    missing: int
    gap_count: int
    gaps: tuple[Gap, ...]
    duplicates: int
    unsorted: int
    impossible: int
    outlier_count: int
    outliers: tuple[Outlier, ...]
    zero_volume: int
    zero_volume_longest: int

    @property
    def is_usable(self) -> bool:
        """Whether one can compute with these bars at all."""
        return self.bars > 0 and not (self.duplicates or self.unsorted or self.impossible)

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to remark."""
        odd = self.missing or self.outlier_count or self.zero_volume
        return self.is_usable and not odd

    def lines(self) -> tuple[str, ...]:
        """Return the report in words, one finding a line; the first says what was looked at."""
        if not self.bars:
            return ("no bars at all",)
        timeframe = timeframe_of(self.interval_ms)
        found = [
            f"{self.bars:,} bars of {timeframe} from {_moment(self.first_ms)} "
            f"to {_moment(self.last_ms)}"
        ]
        if self.duplicates:
            found.append(f"{_bars(self.duplicates)} with the time of another: unusable")
        if self.unsorted:
            found.append(f"{_bars(self.unsorted)} earlier than the one before: unusable")
        if self.impossible:
            found.append(
                f"{_bars(self.impossible)} impossible (a price below zero, a high that is not the "
                f"highest, a low that is not the lowest, a negative volume): unusable"
            )
        if self.missing:
            longest = self.gaps[0]
            share = self.missing / (self.missing + self.bars)
            found.append(
                f"{_bars(self.missing)} missing ({share:.2%}) in {_many(self.gap_count, 'gap')}; "
                f"the longest, of {longest.missing:,}, after {_moment(longest.after_ms)}"
            )
        if self.outlier_count:
            widest = self.outliers[0]
            found.append(
                f"{_bars(self.outlier_count)} with a move far beyond their neighbours'; the widest "
                f"{widest.move:.1%} at {_moment(widest.open_time_ms)}, "
                f"{widest.times:.0f} times the usual"
            )
        if self.zero_volume:
            found.append(
                f"{_bars(self.zero_volume)} without a trade ({self.zero_volume / self.bars:.2%}), "
                f"at most {self.zero_volume_longest:,} in a row"
            )
        if self.is_clean:
            found.append("no gap, no duplicate, no outlier, no bar without a trade")
        return tuple(found)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON has it."""
        return {**asdict(self), "is_usable": self.is_usable, "is_clean": self.is_clean}


def examine(bars: Bars) -> QualityReport:
    """Return what there is to know of these bars."""
    return examine_columns(bars.interval_ms, **{name: column for name, column in bars.columns()})


def examine_columns(
    interval_ms: int,
    *,
    open_time_ms: NDArray[numpy.int64],
    open: NDArray[Any],
    high: NDArray[Any],
    low: NDArray[Any],
    close: NDArray[Any],
    volume: NDArray[Any],
) -> QualityReport:
    """Return what there is to know of columns that may be no bars at all; prices in any unit."""
    steps = numpy.diff(open_time_ms)
    impossible = (
        (numpy.minimum(low, numpy.minimum(open, close)) <= 0)
        | (high < numpy.maximum(open, close))
        | (low > numpy.minimum(open, close))
        | (volume < 0)
    )
    late = numpy.flatnonzero(steps > interval_ms)
    missing = steps[late] // interval_ms - 1
    gaps = [
        Gap(after_ms=int(open_time_ms[late[at]]), missing=int(missing[at]))
        for at in numpy.argsort(-missing, kind="stable")[:_GAPS_KEPT]
    ]
    rises = bool((steps > 0).all())
    is_orderly = rises and not impossible.any()
    outliers = _outliers(open_time_ms, open, high, low, close) if is_orderly else []
    silent = volume == 0
    return QualityReport(
        bars=len(open_time_ms),
        interval_ms=interval_ms,
        first_ms=int(open_time_ms[0]) if len(open_time_ms) else 0,
        last_ms=int(open_time_ms[-1]) if len(open_time_ms) else 0,
        missing=int(missing.sum()),
        gap_count=len(late),
        gaps=tuple(gaps),
        duplicates=0 if rises else len(open_time_ms) - len(numpy.unique(open_time_ms)),
        unsorted=int((steps < 0).sum()),
        impossible=int(impossible.sum()),
        outlier_count=len(outliers),
        outliers=tuple(outliers[:_OUTLIERS_KEPT]),
        zero_volume=int(silent.sum()),
        zero_volume_longest=_longest_run(silent),
    )


def _outliers(
    open_time_ms: NDArray[numpy.int64],
    opens: NDArray[Any],
    highs: NDArray[Any],
    lows: NDArray[Any],
    closes: NDArray[Any],
) -> list[Outlier]:
    """Return the bars that move far beyond their neighbourhood, the widest first.

    A move is the bar's range, with the close before it: a jump between two bars counts, too.
    """
    if len(opens) < 3:
        return []
    before = numpy.concatenate((opens[:1], closes[:-1]))
    tops = numpy.maximum(highs, before)
    moves = numpy.maximum(tops - numpy.minimum(lows, before), 0) / before
    usual = numpy.maximum(_usual(moves), numpy.finfo(float).tiny)
    is_wide = (moves > _OUTLIER_TIMES * usual) & (moves > _OUTLIER_MOVE_MIN)
    rows = numpy.flatnonzero(is_wide)
    return [
        Outlier(
            open_time_ms=int(open_time_ms[row]),
            move=float(moves[row]),
            times=float(moves[row] / usual[row]),
        )
        for row in rows[numpy.argsort(-moves[rows], kind="stable")]
    ]


def _usual(moves: NDArray[Any]) -> NDArray[Any]:
    """Return, for each bar, the largest of its block's median and those of the blocks beside it.

    One bar, or a hundred, do not make their own measure; and where a wild time begins or ends, it
    is measured by itself.
    """
    size = min(_NEIGHBOURHOOD, len(moves))
    count = len(moves) // size
    whole = numpy.median(moves[: count * size].reshape(count, size), axis=1)
    padded = numpy.concatenate((whole[:1], whole, whole[-1:]))
    largest = numpy.stack((padded[:-2], padded[1:-1], padded[2:])).max(axis=0)
    return numpy.repeat(numpy.append(largest, largest[-1]), size)[: len(moves)]


def _longest_run(is_so: NDArray[numpy.bool_]) -> int:
    edges = numpy.flatnonzero(numpy.diff(is_so.astype(numpy.int8), prepend=0, append=0))
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0


def _moment(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    return f"{moment:%Y-%m-%d %H:%M}" + (f":{moment:%S}" if moment.second else "") + " UTC"


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _bars(count: int) -> str:
    return _many(count, "bar")

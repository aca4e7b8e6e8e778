"""The catalogue gives back what it was given, exactly, and survives whoever is killed writing."""

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import numpy
import polars
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bagbot.domain import fills
from bagbot.domain.errors import DataError
from bagbot.domain.instrument import Instrument
from bagbot.domain.ohlcv import Ohlcv
from bagbot.marketdata.bars_file import read_bars
from bagbot.marketdata.catalog import Added, Catalog, joined, without
from bagbot.marketdata.recorded_bars import RecordedBars
from bagbot.simulator.recorded_market import load_bars
from bagbot.simulator.symbol_settings import name_of, rules_of
from bagbot.simulator.symbols import DEFAULT_SYMBOLS
from bagbot.tests.marketdata.invented_bars import MINUTE_MS, START_MS, invented_bars, record_of

ROWS = invented_bars(50)
BTC = Instrument(
    symbol="BTC/USDT",
    exchange_symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01000000"),
    lot_size=Decimal("0.00001000"),
    notional_min=Decimal("5.00000000"),
)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "data")


def add(catalog: Catalog, rows: list[Ohlcv], **more: object) -> Added:
    more = {"exchange": "binance", "symbol": "BTC/USDT", "interval_ms": MINUTE_MS, **more}
    return catalog.add(record_of(rows), **more)  # type: ignore[arg-type]


def closes(catalog: Catalog, **more: object) -> list[Decimal]:
    bars = catalog.load("BTC/USDT", "1m", **more)  # type: ignore[arg-type]
    return [bars.instrument.price_from_ticks(int(ticks)) for ticks in bars.close]


def test_what_goes_in_comes_out(catalog: Catalog) -> None:
    assert add(catalog, ROWS) == Added(new=50, known=0, replaced=0)
    bars = catalog.load("BTC/USDT", "1m")
    record = record_of(ROWS)
    assert bars.data_hash == record.bars(record.instrument("BTC/USDT"), MINUTE_MS).data_hash
    (series,) = catalog.series()
    assert (series.exchange, series.symbol, series.timeframe) == ("binance", "BTC/USDT", "1m")
    assert (series.bars, series.first_ms) == (50, START_MS)
    assert series.last_ms == START_MS + 49 * MINUTE_MS


def test_bars_are_joined_by_time_and_none_is_doubled(catalog: Catalog) -> None:
    add(catalog, ROWS[20:30])
    assert add(catalog, ROWS[25:40]) == Added(new=10, known=5, replaced=0)
    assert add(catalog, ROWS[:22]) == Added(new=20, known=2, replaced=0)
    assert add(catalog, ROWS[:40]) == Added(new=0, known=40, replaced=0)
    assert closes(catalog) == [row.close for row in ROWS[:40]]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.sets(st.integers(0, 49), min_size=1), min_size=1, max_size=5))
def test_any_pieces_in_any_order_make_the_same_bars(tmp_path: Path, pieces: list[set[int]]) -> None:
    catalog = Catalog(tmp_path / uuid4().hex)
    for piece in pieces:
        add(catalog, [ROWS[at] for at in sorted(piece)])
    expected = [ROWS[at] for at in sorted(set().union(*pieces))]
    bars = catalog.load("BTC/USDT", "1m")
    assert bars.open_time_ms.tolist() == [row.open_time_ms for row in expected]
    assert closes(catalog) == [row.close for row in expected]


def test_other_values_for_a_known_bar_are_refused_unless_they_replace_it(
    catalog: Catalog,
) -> None:
    add(catalog, ROWS[:10])
    other = [replace(ROWS[4], volume=ROWS[4].volume + 1), *ROWS[5:12]]
    with pytest.raises(DataError, match=f"opens at {ROWS[4].open_time_ms} ms is known with other"):
        add(catalog, other)
    assert len(closes(catalog)) == 10
    assert add(catalog, other, replaces=True) == Added(new=2, known=5, replaced=1)
    bars = catalog.load("BTC/USDT", "1m")
    assert Decimal(int(bars.volume[4])) * bars.instrument.lot_size == ROWS[4].volume + 1
    assert len(bars) == 12


def test_more_decimals_refine_the_whole_file_and_change_no_bar(catalog: Catalog) -> None:
    add(catalog, ROWS[:10])
    fine = replace(ROWS[10], close=ROWS[10].close + Decimal("0.0001"))
    fine = replace(fine, high=max(fine.high, fine.close))
    add(catalog, [fine])
    assert closes(catalog) == [*(row.close for row in ROWS[:10]), fine.close]
    assert catalog.load("BTC/USDT", "1m").instrument.tick_size == Decimal("0.0001")
    # The tick is the file's, also where the coarser bars are asked for alone.
    early = catalog.load("BTC/USDT", "1m", end_ms=ROWS[5].open_time_ms)
    assert early.instrument.tick_size == Decimal("0.0001")


def test_the_exchanges_own_market_is_kept_with_its_bars(catalog: Catalog) -> None:
    add(catalog, ROWS[:10], instrument=BTC)
    add(catalog, ROWS[10:20])
    bars = catalog.load("BTC/USDT", "1m")
    assert bars.instrument == BTC
    # However many zeros the exchange writes behind its tick.
    plain = replace(BTC, tick_size=Decimal("0.01"), lot_size=Decimal("0.00001"))
    assert bars.data_hash == catalog.load("BTC/USDT", "1m", instrument=plain).data_hash
    # A volume finer than today's lot stays as it is in the file, and is the nearest lot in bars.
    fine = replace(ROWS[20], volume=Decimal("0.0000149"))
    add(catalog, [fine])
    bars = catalog.load("BTC/USDT", "1m")
    assert bars.instrument.lot_size == BTC.lot_size
    assert int(bars.volume[20]) == 1
    coarse = replace(BTC, tick_size=Decimal("0.5"))
    refined = replace(BTC, tick_size=Decimal("0.01"))
    add(catalog, ROWS[21:25], instrument=coarse)
    assert catalog.load("BTC/USDT", "1m").instrument == refined
    with pytest.raises(DataError, match=r"between two ticks of 0\.5"):
        catalog.load("BTC/USDT", "1m", instrument=coarse)


def test_steps_of_an_unknown_market_leave_room_for_large_positions() -> None:
    fine = [
        replace(row, high=row.high + Decimal("0.00000001"), volume=Decimal("1.00000001"))
        for row in ROWS
    ]
    market = record_of(fine).instrument("BTC/USDT")
    assert (market.tick_size, market.lot_size) == (Decimal("0.00000001"), Decimal("0.001"))
    bars = record_of(fine).bars(market, MINUTE_MS)
    assert set(bars.volume.tolist()) == {1000}
    scale = fills.scale_of(int(market.tick_size * 10**8), int(market.lot_size * 10**8))
    # A million's worth.
    price = int(bars.close[0])
    lots = int(Decimal(10**6) / market.price_from_ticks(price) / market.lot_size)
    assert fills.fits(price, lots, scale)


def test_a_tick_is_refined_no_more_than_the_prices_need(catalog: Catalog) -> None:
    quarters = [
        replace(row, open=price, high=price, low=price, close=price)
        for row, price in zip(ROWS, map(Decimal, ("10", "10.25", "11.5", "12.75")), strict=False)
    ]
    add(catalog, quarters, instrument=replace(BTC, tick_size=Decimal("0.5")))
    assert catalog.load("BTC/USDT", "1m").instrument.tick_size == Decimal("0.25")


def test_a_part_is_loaded_by_its_times(catalog: Catalog) -> None:
    add(catalog, ROWS)
    part = closes(catalog, start_ms=ROWS[10].open_time_ms - 1, end_ms=ROWS[20].open_time_ms)
    assert part == [row.close for row in ROWS[10:20]]
    with pytest.raises(DataError, match="no bars in that time"):
        closes(catalog, start_ms=ROWS[-1].open_time_ms + 1)


def test_what_is_not_there_is_said_with_what_is(catalog: Catalog) -> None:
    with pytest.raises(DataError, match="it is empty: see bagbot data download"):
        catalog.load("BTC/USDT", "1m")
    add(catalog, ROWS)
    add(catalog, ROWS, exchange="kraken")
    with pytest.raises(DataError, match="is there from binance, kraken: choose the exchange"):
        catalog.load("BTC/USDT", "1m")
    with pytest.raises(DataError, match="no BTC/USDT 1h; there is binance BTC/USDT 1m, kraken"):
        catalog.load("BTC/USDT", "1h")
    assert len(catalog.load("BTC/USDT", "1m", exchange="kraken")) == 50
    with pytest.raises(DataError, match="cannot name a folder"):
        catalog.load("BTC/USDT", "1m", exchange="*")
    for symbol in ("../../etc", "BTC USDT", "", "/BTC"):
        with pytest.raises(DataError, match="cannot name a folder"):
            add(catalog, ROWS, symbol=symbol)


def test_spot_and_futures_of_one_pair_are_two(catalog: Catalog) -> None:
    add(catalog, ROWS[:10])
    add(catalog, ROWS[10:30], symbol="BTC/USDT:USDT")
    assert [series.bars for series in catalog.series()] == [10, 20]
    assert len(catalog.load("BTC/USDT:USDT", "1m")) == 20


def test_what_are_no_bars_is_not_taken(catalog: Catalog) -> None:
    add(catalog, ROWS[:5])
    wrong = replace(ROWS[6], high=ROWS[6].low - 1)
    with pytest.raises(DataError, match=r"row 6, high: .* not the highest"):
        add(catalog, [ROWS[5], wrong])
    between = replace(ROWS[5], open_time_ms=ROWS[4].open_time_ms + 1)
    with pytest.raises(DataError, match="within the bar before"):
        add(catalog, [between])
    assert len(closes(catalog)) == 5


def test_prices_with_many_digits_are_exact_and_too_many_are_refused(catalog: Catalog) -> None:
    price = Decimal("12345.12345678")
    row = Ohlcv(
        open_time_ms=START_MS, open=price, high=price, low=price, close=price, volume=Decimal(1)
    )
    add(catalog, [row])
    assert closes(catalog, instrument=Instrument.unfiltered("BTC/USDT")) == [price]
    tiny = replace(row, low=Decimal("0.000000000001"), open_time_ms=START_MS + MINUTE_MS)
    with pytest.raises(DataError, match=r"digits|more ticks"):
        add(catalog, [tiny])


@pytest.mark.parametrize("damage", ["cut", "foreign", "empty", "garbled"])
def test_a_damaged_file_is_named(catalog: Catalog, damage: str) -> None:
    add(catalog, ROWS)
    path = catalog.series()[0].path
    data = path.read_bytes()
    if damage == "foreign":
        polars.DataFrame({"open_time": [1]}).write_parquet(path)
    elif damage == "garbled":
        path.write_bytes(data[:60] + b"\xff" * 400 + data[460:])
    else:
        path.write_bytes(b"" if damage == "empty" else data[: len(data) // 2])
    with pytest.raises(DataError, match=r"1m\.parquet: no file of the catalogue, or damaged"):
        catalog.load("BTC/USDT", "1m")
    # The others are still to be had.
    add(catalog, ROWS, symbol="ETH/USDT")
    assert len(catalog.load("ETH/USDT", "1m")) == 50


def test_other_programs_read_the_file_as_it_is(catalog: Catalog) -> None:
    add(catalog, ROWS)
    path = catalog.series()[0].path
    frame = polars.read_parquet(path)
    assert frame["close"].to_list() == [row.close for row in ROWS]
    assert read_bars(path, symbol="BTC/USDT").data_hash == catalog.load("BTC/USDT", "1m").data_hash
    # The paper exchange replays it.
    rules = next(rules_of(symbol) for symbol in DEFAULT_SYMBOLS if name_of(symbol) == "BTCUSDT")
    assert [bar.close for bar in load_bars(path, rules)] == [int(r.close * 10**8) for r in ROWS]


WRITER = """
import sys
from pathlib import Path
from bagbot.marketdata.catalog import Catalog
from bagbot.tests.marketdata.invented_bars import MINUTE_MS, invented_bars, record_of
rows = invented_bars(4000)
catalog = Catalog(Path(sys.argv[1]))
print("ready", flush=True)
for start in range(int(sys.argv[2]), 4000, 20):
    catalog.add(record_of(rows[start:start + 10]), exchange="binance", symbol="BTC/USDT",
                interval_ms=MINUTE_MS)
"""


@contextlib.contextmanager
def writer(folder: Path, start: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that adds ten bars at a time; it has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(start)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_whoever_is_killed_while_writing_leaves_whole_bars(catalog: Catalog) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails.
    chance = random.Random(seed)
    rows = {row.open_time_ms: row for row in invented_bars(4000)}
    known = 0
    for _ in range(2):
        with writer(catalog.folder, 0):
            time.sleep(0.05 + chance.random() * 0.3)
        for series in catalog.series():
            bars = catalog.load("BTC/USDT", "1m")
            assert series.bars == len(bars) >= known
            known = len(bars)
            for at in (0, len(bars) // 2, len(bars) - 1):
                price = bars.instrument.price_from_ticks(int(bars.close[at]))
                assert price == rows[int(bars.open_time_ms[at])].close
    assert known > 0


def test_two_who_write_at_once_lose_nothing(catalog: Catalog) -> None:
    with writer(catalog.folder, 3000) as one, writer(catalog.folder, 3010) as other:
        seen = [0]
        while one.poll() is None or other.poll() is None:
            if catalog.series():
                # Whoever reads in between sees whole files, and never fewer bars than before.
                seen.append(len(catalog.load("BTC/USDT", "1m")))
    assert (one.returncode, other.returncode) == (0, 0)
    assert seen == sorted(seen)
    assert len(catalog.load("BTC/USDT", "1m")) == 1000


@given(
    st.tuples(st.integers(0, 30), st.integers(0, 30)),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))),
)
def test_spans_are_sets_of_times(span: tuple[int, int], spans: list[tuple[int, int]]) -> None:
    def times(of: tuple[tuple[int, int], ...] | list[tuple[int, int]]) -> set[int]:
        return {at for start, end in of for at in range(start, end)}

    assert times(joined(spans)) == times(spans)
    assert times(without(span, spans)) == times([span]) - times(spans)
    flat = [at for pair in joined(spans) for at in pair]
    assert flat == sorted(set(flat))


def test_half_a_million_bars_are_loaded_in_a_moment(catalog: Catalog) -> None:
    count = 500_000
    chance = numpy.random.default_rng(7)
    close = 10**7 + numpy.cumsum(chance.integers(-500, 501, count))
    record = RecordedBars(
        price_decimals=2,
        volume_decimals=5,
        open_time_ms=START_MS + numpy.arange(count) * MINUTE_MS,
        open=close,
        high=close + 100,
        low=close - 100,
        close=close,
        volume=chance.integers(0, 10**7, count),
    )
    catalog.add(record, exchange="binance", symbol="BTC/USDT", interval_ms=MINUTE_MS)
    durations_s = []
    for _ in range(5):
        began_s = time.perf_counter()
        bars = catalog.load("BTC/USDT", "1m")
        durations_s.append(time.perf_counter() - began_s)
    assert (bars.close == close).all()
    # A row at a time would take seconds; the machine may be busy, so far more than it takes.
    assert min(durations_s) < 0.5, durations_s

"""Files of bars: every spelling is understood, every number is exact, what is wrong is named."""

import contextlib
import gzip
import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy
import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagbot.domain.errors import DataError
from bagbot.domain.instrument import Instrument
from bagbot.marketdata.bars_file import read_bars, read_file
from bagbot.marketdata.recorded_bars import RecordedBars
from bagbot.tests.marketdata.invented_bars import (
    START_MS,
    csv_lines,
    frame_of,
    invented_bars,
    write_csv,
)

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the recorded data is not here")

ROWS = invented_bars(5)
EXPECTED = [int(row.close * 100) for row in ROWS]
TIMES = [row.open_time_ms for row in ROWS]


def prices(row: int) -> str:
    r = ROWS[row]
    return f"{r.open},{r.high},{r.low},{r.close},{r.volume}"


def with_times(tmp_path: Path, texts: list[str], header: str = "time") -> Path:
    lines = [f"{header},open,high,low,close,volume"]
    lines += [f"{text},{prices(row)}" for row, text in enumerate(texts)]
    return write_csv(tmp_path / "bars.csv", lines)


def iso(time_ms: int, form: str) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime(form)


# Spellings.


@pytest.mark.parametrize(
    "texts",
    [
        [str(t) for t in TIMES],
        [str(t // 1000) for t in TIMES],
        [f"{t // 1000}.0" for t in TIMES],
        [f"{t}000" for t in TIMES],
        [f"{t}000000" for t in TIMES],
        [iso(t, "%Y-%m-%dT%H:%M:%SZ") for t in TIMES],
        [iso(t, "%Y-%m-%d %H:%M:%S+00:00") for t in TIMES],
        [iso(t, "%Y-%m-%d %H:%M UTC") for t in TIMES],
        [iso(t, "%Y/%m/%d %H:%M:%S.000000Z") for t in TIMES],
        [iso(t + 5 * 3_600_000 + 1_800_000, "%Y-%m-%dT%H:%M:%S+05:30") for t in TIMES],
        [iso(t - 3 * 3_600_000, "%Y-%m-%dT%H:%M:%S.000-03") for t in TIMES],
    ],
    ids=lambda texts: texts[1],
)
def test_times_of_every_spelling_are_the_same_moments(tmp_path: Path, texts: list[str]) -> None:
    bars = read_bars(with_times(tmp_path, texts))
    assert bars.open_time_ms.tolist() == TIMES
    assert bars.close.tolist() == EXPECTED
    assert bars.interval_ms == 60_000


@pytest.mark.parametrize(
    "header",
    [
        "Open time,Open,High,Low,Close,Volume",
        "timestamp,open,high,low,close,vol",
        "Date,O,H,L,C,V",
        "t,o,h,l,c,v",
        '"unix","OPEN","HIGH","LOW","CLOSE","Volume BTC"',
        "time,1. open,2. high,3. low,4. close,5. volume",
    ],
)
def test_columns_of_every_spelling_are_found(tmp_path: Path, header: str) -> None:
    path = write_csv(tmp_path / "bars.csv", csv_lines(ROWS, header))
    assert read_bars(path).close.tolist() == EXPECTED


def test_files_without_a_header_are_binances_archive(tmp_path: Path) -> None:
    lines = [f"{t}000,{prices(row)},{t + 59_999}000,1,2,3,4,0" for row, t in enumerate(TIMES)]
    assert read_bars(write_csv(tmp_path / "BTCUSDT-1m.csv", lines)).close.tolist() == EXPECTED


def test_other_separators_prefaces_marks_and_compression_are_read(tmp_path: Path) -> None:
    lines = [line.replace(",", ";") for line in csv_lines(ROWS)]
    text = "\ufeffdownloaded from somewhere\n" + "\r\n".join(lines) + "\r\n"
    (tmp_path / "plain.csv").write_text(text, newline="")
    (tmp_path / "packed.csv.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("plain.csv", "packed.csv.gz"):
        assert read_bars(tmp_path / name).close.tolist() == EXPECTED


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_parquets_own_times_are_read(tmp_path: Path, unit: str, zone: str) -> None:
    moments = polars.from_epoch(polars.Series(TIMES), time_unit="ms")
    frame = frame_of(ROWS).with_columns(
        moments.dt.cast_time_unit(unit)  # type: ignore[arg-type]
        .dt.replace_time_zone("UTC")
        .dt.convert_time_zone(zone)
        .alias("open_time")
    )
    frame.write_parquet(tmp_path / "bars.parquet")
    assert read_bars(tmp_path / "bars.parquet").open_time_ms.tolist() == TIMES


def test_parquets_own_decimals_and_whole_numbers_are_read(tmp_path: Path) -> None:
    frame = frame_of(ROWS).with_columns(
        polars.col("open", "high", "low", "close").cast(polars.Decimal(20, 4)),
        volume=polars.lit(3, polars.Int16),
    )
    frame.write_parquet(tmp_path / "bars.parquet")
    bars = read_bars(tmp_path / "bars.parquet")
    assert bars.close.tolist() == EXPECTED
    assert bars.instrument.lot_size == 1


def test_times_without_a_zone_need_one_to_be_named(tmp_path: Path) -> None:
    path = with_times(tmp_path, [iso(t, "%Y-%m-%d %H:%M") for t in TIMES])
    with pytest.raises(DataError, match=r"line 2, time: 2024-01-01 .* has no time zone"):
        read_bars(path)
    assert read_bars(path, zone="UTC").open_time_ms.tolist() == TIMES
    shifted = read_bars(path, zone="Asia/Tokyo").open_time_ms.tolist()
    assert shifted == [t - 9 * 3_600_000 for t in TIMES]
    with pytest.raises(DataError, match="time zone 'Mars/Olympus'"):
        read_bars(path, zone="Mars/Olympus")


def test_of_several_markets_one_is_chosen_by_any_spelling(tmp_path: Path) -> None:
    other = invented_bars(5, seed=8)
    frame = polars.concat(
        [
            frame_of(rows).with_columns(symbol=polars.lit(name))
            for rows, name in ((other, "ETHUSDT"), (ROWS, "BTCUSDT"))
        ]
    )
    frame.write_parquet(path := tmp_path / "bars.parquet")
    with pytest.raises(DataError, match="several markets, choose one: ETHUSDT, BTCUSDT"):
        read_bars(path)
    for symbol in ("BTCUSDT", "BTC/USDT", "btc-usdt", "BTC/USDT:USDT"):
        bars = read_bars(path, symbol=symbol)
        assert bars.close.tolist() == EXPECTED
        assert bars.instrument.symbol == symbol
    with pytest.raises(DataError, match="it has no SOL/USDT, only ETHUSDT, BTCUSDT"):
        read_bars(path, symbol="SOL/USDT")


def test_of_two_volumes_the_base_assets_is_meant(tmp_path: Path) -> None:
    lines = csv_lines(ROWS, "time,open,high,low,close,Volume USDT,Volume BTC")
    lines[1:] = [f"{line.rpartition(',')[0]},99,{line.rpartition(',')[2]}" for line in lines[1:]]
    path = write_csv(tmp_path / "bars.csv", lines)
    bars = read_bars(path, symbol="BTC/USDT")
    assert bars.volume.tolist() == [int(row.volume * 10**5) for row in ROWS]
    with pytest.raises(DataError, match="Volume"):
        read_bars(path)


# Numbers.


@given(st.data())
def test_floats_give_back_the_decimals_they_were_made_of(data: st.DataObject) -> None:
    decimals = data.draw(st.integers(0, 10))
    most = min(10 ** (decimals + 6), 2**52 // 10)
    steps = data.draw(st.lists(st.integers(1, most), min_size=1, max_size=20))
    column = numpy.array([float(Decimal(n).scaleb(-decimals)) for n in steps])
    times = numpy.arange(len(steps), dtype=numpy.int64)
    names = dict.fromkeys(("open", "high", "low", "close"), column)
    record = RecordedBars.from_floats(times, names, column)
    found = [Decimal(int(n)).scaleb(-record.price_decimals) for n in record.close]
    assert found == [Decimal(n).scaleb(-decimals) for n in steps]
    # And not with one decimal more than it takes.
    assert record.price_decimals <= decimals


def test_one_fine_price_among_many_is_found(tmp_path: Path) -> None:
    for row in (0, 501, 777, 1100):
        rows = invented_bars(1101)
        rows[row] = replace(rows[row], low=rows[row].low - Decimal("0.0000003"))
        frame_of(rows).write_parquet(tmp_path / "bars.parquet")
        bars = read_bars(tmp_path / "bars.parquet")
        assert bars.instrument.price_from_ticks(int(bars.low[row])) == rows[row].low


def test_prices_are_the_nearest_tick_and_never_the_one_below(tmp_path: Path) -> None:
    # 1.1 * 100 is 110.00000000000001, 0.29 * 100 is 28.999999999999996, and 0.1 + 0.2 is not 0.3.
    frame = polars.DataFrame(
        {
            "open_time": [START_MS, START_MS + 60_000],
            "open": [1.1, 0.29],
            "high": [1.1, 0.1 + 0.2],
            "low": [0.29, 0.29],
            "close": [0.57, 0.29],
            "volume": [1.15, 0.0],
        }
    )
    frame.write_parquet(tmp_path / "bars.parquet")
    bars = read_bars(tmp_path / "bars.parquet")
    assert bars.open.tolist() == [110, 29]
    assert bars.high.tolist() == [110, 30]
    assert bars.close.tolist() == [57, 29]
    assert (bars.instrument.tick_size, bars.instrument.lot_size) == (Decimal("0.01"),) * 2


def test_an_instrument_gives_its_own_ticks_and_lots(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "bars.csv",
        ["time,open,high,low,close,volume", f"{START_MS},10.5,11,10,10.5,1.26"],
    )
    known = Instrument(
        symbol="X/Y",
        exchange_symbol="XY",
        base="X",
        quote="Y",
        tick_size=Decimal("0.25"),
        lot_size=Decimal("0.1"),
    )
    bars = read_bars(path, instrument=known, timeframe="1m")
    assert (bars.open.tolist(), bars.high.tolist()) == ([42], [44])
    # A volume is no order: the nearest lot is near enough.
    assert bars.volume.tolist() == [13]
    path.write_text(path.read_text().replace("10.5,11", "10.5,11.1"))
    with pytest.raises(DataError, match=r"line 2, high: 11\.1 lies between two ticks of 0\.25"):
        read_bars(path, instrument=known, timeframe="1m")


def test_prices_are_rounded_to_the_nearest_tick_when_that_is_asked_for(tmp_path: Path) -> None:
    lines = ["time,open,high,low,close,volume", f"{START_MS},10.1249,10.375,0.0001,10.12,2"]
    path = write_csv(tmp_path / "bars.csv", lines)
    bars = read_bars(path, tick=Decimal("0.25"), timeframe="1m")
    # A half goes up, and there is no price below one tick.
    prices = [bars.instrument.price_from_ticks(int(n[0])) for _, n in list(bars.columns())[1:5]]
    assert prices == [Decimal("10"), Decimal("10.5"), Decimal("0.25"), Decimal("10")]
    bars = read_bars(path, tick=Decimal("5"), timeframe="1m")
    assert (bars.instrument.tick_size, bars.high.tolist()) == (1, [10])


@needs_data
def test_a_record_finer_than_can_be_computed_with_is_rounded_and_then_can() -> None:
    path = DATA / "bitfinex_spot_btcusd_1m_2015_2016.parquet"
    assert read_bars(path).instrument.tick_size == Decimal("0.00000001")
    bars = read_bars(path, tick=Decimal("0.01"))
    assert bars.instrument.tick_size == Decimal("0.01")
    frame = polars.read_parquet(path)
    off = numpy.abs(bars.close / 100 - frame["close"].to_numpy())
    assert off.max() <= 0.005 + 1e-9


# What is wrong.

GOOD = csv_lines(ROWS)


def changed(tmp_path: Path, line: int, column: int, value: str) -> Path:
    lines = list(GOOD)
    cells = lines[line - 1].split(",")
    cells[column] = value
    lines[line - 1] = ",".join(cells)
    return write_csv(tmp_path / "bars.csv", lines)


@pytest.mark.parametrize(
    ("line", "column", "value", "message"),
    [
        (3, 1, "", "line 3, open: the value is missing"),
        (3, 1, "n/a", "line 3, open: 'n/a' is no number"),
        (3, 1, "1,5".replace(",", "'"), 'line 3, open: "1\'5" is no number'),
        (4, 2, "NaN", "line 4, high: nan is no number"),
        (4, 5, "inf", "line 4, volume: inf is no number"),
        (5, 4, "-3", "line 5, close: -3.00 is not above zero"),
        (5, 4, "0", "line 5, close: 0.00 is not above zero"),
        (5, 5, "-0.5", "line 5, volume: -0.50000 is negative"),
        (3, 2, "0.01", "line 3, high: 0.01 is below the low"),
        (3, 3, "39999999", "line 3, high: .* is below the low"),
        (6, 1, "0.1234567891234567", "line 6, open: .* is no price of at most 12 decimals"),
        (3, 0, "", "line 3, open_time: the time is missing|line 3, open_time: '' is no time"),
        (3, 0, "yesterday", "line 3, open_time: 'yesterday' is no time|is no time"),
        (4, 0, str(TIMES[2] // 1000), "line 4, open_time: .* no time in milliseconds since 1970"),
        (4, 0, f"{TIMES[2]}.5", "line 4, open_time: .* is no whole millisecond"),
        (4, 0, str(TIMES[1]), "line 4, time: 2024-01-01 00:01:00 UTC is the time of the row befo"),
        (4, 0, str(TIMES[0]), "line 4, time: 2024-01-01 00:00:00 UTC is earlier than the row bef"),
        (6, 0, str(TIMES[4] + 7), "line 6, time: .* is not where bars of 1m open in UTC"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_column(
    tmp_path: Path, line: int, column: int, value: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_bars(changed(tmp_path, line, column, value))
    assert "bars.csv" in str(caught.value)


def test_lines_are_counted_as_the_file_has_them(tmp_path: Path) -> None:
    lines = ["about this file", *GOOD]
    lines[4] = lines[4].replace(str(ROWS[2].open), "oops", 1)
    with pytest.raises(DataError, match="line 5, open: 'oops'"):
        read_bars(write_csv(tmp_path / "bars.csv", lines))


def test_rows_of_parquet_are_counted_in_the_file_not_in_the_choice(tmp_path: Path) -> None:
    frame = polars.concat(
        [
            frame_of(rows).with_columns(symbol=polars.lit(name))
            for rows, name in ((invented_bars(5, seed=8), "ETHUSDT"), (ROWS, "BTCUSDT"))
        ]
    )
    frame[7, "low"] = float("nan")
    frame.write_parquet(path := tmp_path / "bars.parquet")
    with pytest.raises(DataError, match="row 7, low: nan is no number"):
        read_bars(path, symbol="BTC/USDT")
    assert len(read_bars(path, symbol="ETH/USDT")) == 5


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["2024-02-30T00:00Z"] * 2, "line 2, time: '2024-02-30T00:00Z' is no time"),
        (["2024-01-01T00:00Z", "2024-01-01T00:01"], "line 3, time: .* has no time zone, other ro"),
        (["01/02/2024 10:00"] * 2, "line 2, time: .* is no time"),
        # Days of somebody's own time zone.
        (
            ["2024-01-01T00:00+08:00", "2024-01-02T00:00+08:00"],
            "line 2, time: 2023-12-31 16:00:00 UTC is not where bars of 1d open in UTC",
        ),
        (["12", "13"], "line 2, time: 12 is no time in seconds since 1970"),
    ],
)
def test_times_that_are_none_are_refused(tmp_path: Path, texts: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_bars(with_times(tmp_path, texts))


def test_a_file_from_new_to_old_is_told_to_be_turned_around(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 3, .* the newest bar comes first"):
        read_bars(write_csv(tmp_path / "bars.csv", [GOOD[0], *GOOD[:0:-1]]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "neither CSV nor Parquet"),
        (b"hello\n", "neither CSV nor Parquet"),
        (b"PAR1 but nothing more", "neither CSV nor Parquet that can be read"),
        (b"\x00\xff" * 100, "neither CSV nor Parquet"),
        (GOOD[0].encode() + b"\n", "it has no rows"),
        (b"time,open,high,low,close\n1,2,3,4,5\n", "column missing: volume; there are time, open"),
        (b"p,q,r,w,x,y\n1,2,3,4,5,6\n", "column missing: time, open, high, low, close, volume"),
        ("\n".join(GOOD[:2]).encode(), "one bar does not tell its interval"),
    ],
)
def test_what_is_no_file_of_bars_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_bars(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_bars(tmp_path / "nowhere.csv")


def test_columns_of_the_wrong_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    frame_of(ROWS).with_columns(polars.col("low").cast(polars.Float32)).write_parquet(path)
    with pytest.raises(DataError, match="column low: 32-bit floats hold 7 digits"):
        read_bars(path)
    frame_of(ROWS).with_columns(high=polars.lit(value=True)).write_parquet(path)
    with pytest.raises(DataError, match="column high: Boolean is no number"):
        read_bars(path)
    frame_of(ROWS).with_columns(open_time=polars.lit(value=True)).write_parquet(path)
    with pytest.raises(DataError, match="column open_time: Boolean is no time"):
        read_bars(path)


def test_no_damage_of_a_file_raises_anything_but_a_data_error(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails.
    chance = random.Random(seed)
    frame_of(ROWS).write_parquet(whole := tmp_path / "bars.parquet")
    for original in (whole.read_bytes(), "\n".join(GOOD).encode()):
        for _ in range(150):
            data = bytearray(original)
            for _ in range(chance.randint(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            path = tmp_path / "damaged"
            path.write_bytes(data[: chance.randint(1, len(data))])
            with contextlib.suppress(DataError):
                read_bars(path)


# Real files.


@needs_data
@pytest.mark.parametrize(
    ("symbol", "tick", "lot", "bars"),
    [
        # Early prices have seven decimals, today's five: the record is on the finest.
        ("DOGE/USDT", "0.0000001", "0.1", 2491),
        ("BTC/USDT", "0.01", "0.000001", 3178),
        ("SOL/USDT", "0.0001", "0.001", 2088),
    ],
)
def test_real_bars_are_exact(symbol: str, tick: str, lot: str, bars: int) -> None:
    path = DATA / "binance_spot_1d_5sym.parquet"
    read = read_bars(path, symbol=symbol)
    instrument = read.instrument
    assert (instrument.tick_size, instrument.lot_size) == (Decimal(tick), Decimal(lot))
    assert (len(read), read.interval_ms) == (bars, 86_400_000)
    frame = polars.read_parquet(path).filter(polars.col("symbol") == symbol.replace("/", ""))
    for row in (0, 1, bars // 2, bars - 1):
        for name in ("open", "high", "low", "close"):
            # The shortest text of a float is the decimal it was made of.
            ticks = int(getattr(read, name)[row])
            assert instrument.price_from_ticks(ticks) == Decimal(repr(frame[row, name]))


@needs_data
def test_a_file_of_other_things_is_refused_by_its_columns() -> None:
    with pytest.raises(DataError, match="column missing: volume"):
        read_file(DATA / "binance_usdm_btc_eth_mark_8h_2023_2024.parquet")
    with pytest.raises(DataError, match="column missing: open, high, low, close"):
        read_file(DATA / "binance_spot_xrpeth_trades_2019.parquet")

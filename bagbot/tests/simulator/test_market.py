import itertools
import os
from pathlib import Path

import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagbot.domain.errors import DataError
from bagbot.simulator.amounts import ONE
from bagbot.simulator.candles import CandleSeries
from bagbot.simulator.market import PROFILES, grid_ms, quotes_around
from bagbot.simulator.recorded_market import RecordedMarket, load_bars
from bagbot.simulator.symbols import DEFAULT_SYMBOLS
from bagbot.simulator.synthetic_market import SyntheticMarket

RULES = DEFAULT_SYMBOLS["BTCUSDT"]
START_MS = 1_766_016_000_000


def write_bars(path, rows, **more):
    columns = ("open_time", "open", "high", "low", "close", "volume")
    frame = polars.DataFrame(
        {name: [row[index] for row in rows] for index, name in enumerate(columns)} | more
    )
    frame.write_parquet(path)
    return path


GOOD = [
    (START_MS, 100.0, 110.0, 95.5, 105.25, 3.0),
    (START_MS + 60_000, 105.0, 105.5, 90.0, 91.0, 0.0),
    (START_MS + 120_000, 91.0, 91.0, 91.0, 91.0, 1.5),
]


def recorded(rows, tmp_path, *, start_ms=START_MS, step_ms=15_000):
    bars = load_bars(write_bars(tmp_path / "bars.parquet", rows), RULES)
    return RecordedMarket(bars, RULES, start_ms=start_ms, step_ms=step_ms)


def real_data(name="binance_spot_btcusdt_1m_20251218_20260131.parquet"):
    """Return a real file, by default one of bars, if it is there."""
    root = os.environ.get("BAGBOT_TEST_DATA")
    directory = Path(root) if root else Path(__file__).parents[4] / "shared" / "data"
    path = directory / name
    return path if path.is_file() else None


@pytest.mark.parametrize("step_ms", [200, 1_000, 15_000])
def test_the_path_of_a_bar_rebuilds_the_bar(tmp_path, step_ms):
    rows = GOOD if (path := real_data()) is None else None
    bars = load_bars(path, RULES)[:200] if rows is None else None
    if bars is None:
        bars = load_bars(write_bars(tmp_path / "bars.parquet", rows), RULES)
    market = RecordedMarket(bars, RULES, start_ms=bars[0].open_ms, step_ms=step_ms)
    series = CandleSeries(60_000, length_max=1_000)
    closed = []
    for point in market.points(bars[-1].open_ms + 60_000):
        closed.append(series.roll(point.time_ms))
        series.add(
            point.time_ms,
            price=point.price,
            quantity=point.quantity,
            buyer_is_maker=point.buyer_is_maker,
            trade_id=1,
        )
        assert point.price_range[0] <= point.price <= point.price_range[1]
        assert point.price % RULES.tick == 0
    closed.append(series.roll(bars[-1].open_ms + 60_000))
    rebuilt = [(c.open_ms, c.open, c.high, c.low, c.close, c.volume) for c in closed if c]
    assert rebuilt == [(b.open_ms, b.open, b.high, b.low, b.close, b.volume) for b in bars]
    assert market.is_over


def test_a_rising_bar_falls_first_and_a_falling_one_rises_first(tmp_path):
    points = [
        point.price / ONE for point in recorded(GOOD[:2], tmp_path).points(START_MS + 119_999)
    ]
    assert points[0] == 100
    assert points.index(95.5) < points.index(110.0)
    assert points.index(105.5) < points.index(90.0)
    assert points[-1] == 91


def test_points_come_when_their_time_comes_and_once(tmp_path):
    market = recorded(GOOD, tmp_path)
    whole = list(recorded(GOOD, tmp_path).points(START_MS + 200_000))
    pieces = [
        point
        for until_ms in range(START_MS, START_MS + 200_000, 7_000)
        for point in market.points(until_ms)
    ]
    assert pieces == whole


def test_a_later_start_plays_from_the_bar_then_in_play(tmp_path):
    market = recorded(GOOD, tmp_path, start_ms=START_MS + 70_000)
    assert [candle.open_ms for candle in market.history()] == [START_MS]
    assert next(market.points(START_MS + 70_000)).time_ms == START_MS + 60_000


def test_a_start_after_the_end_stands_at_the_last_bar(tmp_path):
    market = recorded(GOOD, tmp_path, start_ms=START_MS + 10**9)
    assert list(market.points(START_MS + 10**9))[-1].price == 91 * ONE
    assert market.is_over


def test_a_single_bar_is_enough(tmp_path):
    market = recorded(GOOD[:1], tmp_path)
    assert list(market.points(START_MS + 60_000))[-1].price == 10_525_000_000


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"low": 120.0}, "low is above high"),
        ({"open_time": START_MS}, "open_time does not rise strictly"),
        ({"close": float("nan")}, "a value is NaN or infinite"),
        ({"high": float("inf")}, "a value is NaN or infinite"),
        ({"volume": None}, "a value is missing"),
        ({"volume": -1.0}, "volume is negative"),
        ({"open": 300.0}, "open or close lies outside low and high"),
        ({"low": -5.0}, "a price is not positive"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(tmp_path, change, wrong):
    names = ("open_time", "open", "high", "low", "close", "volume")
    broken = tuple((dict(zip(names, GOOD[1], strict=True)) | change).values())
    path = write_bars(tmp_path / "broken.parquet", [GOOD[0], broken, GOOD[2]])
    with pytest.raises(DataError) as caught:
        load_bars(path, RULES)
    assert str(path) in str(caught.value)
    assert wrong in str(caught.value)


def test_an_unusable_file_is_named_with_what_is_wrong(tmp_path):
    missing = tmp_path / "missing.parquet"
    text = tmp_path / "text.parquet"
    text.write_text("open_time,open\n")
    narrow = tmp_path / "narrow.parquet"
    polars.DataFrame({"open_time": [1], "open": [1.0]}).write_parquet(narrow)
    words = write_bars(tmp_path / "words.parquet", [(*GOOD[0][:5], "many")])
    other = write_bars(tmp_path / "other.parquet", GOOD, symbol=["ETHUSDT"] * 3)
    for path, wrong in (
        (missing, "no such file"),
        (text, "not a readable Parquet file"),
        (narrow, "column missing: high, low, close, volume"),
        (words, "column is not numeric: volume"),
        (other, "no bars of BTCUSDT"),
    ):
        with pytest.raises(DataError, match=wrong) as caught:
            load_bars(path, RULES)
        assert str(path) in str(caught.value)


def test_a_file_of_several_symbols_gives_the_one_asked_for(tmp_path):
    path = write_bars(tmp_path / "two.parquet", GOOD, symbol=["BTCUSDT", "ETHUSDT", "BTCUSDT"])
    assert [bar.open_ms for bar in load_bars(path, RULES)] == [START_MS, START_MS + 120_000]


def test_prices_between_ticks_stay_inside_the_bar(tmp_path):
    row = (START_MS, 100.004, 100.016, 100.004, 100.016, 1.0)
    (bar,) = load_bars(write_bars(tmp_path / "fine.parquet", [row]), RULES)
    assert (bar.low, bar.high) == (10_001_000_000, 10_001_000_000)
    assert bar.low <= bar.open <= bar.high


@given(
    price=st.integers(1_000, 20_000_000),
    below=st.integers(0, 5_000),
    above=st.integers(0, 5_000),
)
def test_quotes_stand_on_both_sides_inside_the_range_and_do_not_cross(price, below, above):
    tick = RULES.tick
    low, high = max(price - below, 1) * tick, (price + above) * tick
    bids, asks = quotes_around(price * tick, (low, high), RULES, PROFILES["BTCUSDT"])
    assert bids
    assert asks
    for level_price, quantity in itertools.chain(bids, asks):
        assert low <= level_price <= high
        assert level_price % tick == 0
        assert quantity > 0
    best_bid, best_ask = max(bids)[0], min(asks)[0]
    assert best_bid <= price * tick <= best_ask
    assert best_bid < best_ask or low == high


def synthetic(seed, **more):
    settings = {"start_ms": START_MS, "step_ms": 200} | more
    return SyntheticMarket(RULES, PROFILES["BTCUSDT"], seed=seed, **settings)


def test_a_seed_is_a_market():
    one, same, other = synthetic(7), synthetic(7), synthetic(8)
    points = list(one.points(START_MS + 60_000))
    assert points == list(same.points(START_MS + 60_000))
    assert points != list(other.points(START_MS + 60_000))
    assert one.history() == same.history()
    assert len(points) == 301


def test_a_synthetic_market_goes_on_from_a_given_price():
    market = synthetic(7, price=50_000 * ONE)
    first = next(market.points(START_MS))
    assert abs(first.price - 50_000 * ONE) < 100 * ONE
    assert market.history()[-1].close == 50_000 * ONE


def test_synthetic_history_is_a_chain_of_sound_candles():
    history = synthetic(7).history()
    for earlier, later in itertools.pairwise(history):
        assert earlier.close == later.open
        assert later.open_ms - earlier.open_ms == 60_000
    for candle in history:
        assert candle.low <= min(candle.open, candle.close)
        assert candle.high >= max(candle.open, candle.close)
    assert history[-1].open_ms < START_MS


@pytest.mark.parametrize("speed", [0.1, 1, 10, 100, 100_000])
def test_the_grid_gives_few_points_per_second_and_enough_per_minute(speed):
    step_ms = grid_ms(speed)
    assert 60_000 % step_ms == 0
    assert step_ms <= 15_000
    assert step_ms == 15_000 or speed * 1_000 / step_ms <= 5

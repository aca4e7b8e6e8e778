from datetime import UTC, datetime

import pytest

from bagbot.simulator.candles import Candle, CandleSeries, interval_bounds

MINUTE_MS = 60_000


def ms(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)


@pytest.mark.parametrize(
    ("interval", "opens", "following"),
    [
        ("1m", "2026-11-23T07:31", "2026-11-23T07:32"),
        ("5m", "2026-11-23T07:30", "2026-11-23T07:35"),
        ("4h", "2026-11-23T04:00", "2026-11-23T08:00"),
        ("1d", "2026-11-23", "2026-11-24"),
        ("1w", "2026-11-23", "2026-11-30"),  # a Monday
        ("1M", "2026-11-01", "2026-12-01"),
    ],
)
def test_intervals_begin_where_clients_expect(interval, opens, following):
    bounds = interval_bounds(ms("2026-11-23T07:31:10"), interval)
    assert bounds == (ms(opens), ms(following))


def test_december_is_followed_by_january():
    assert interval_bounds(ms("2026-12-05"), "1M") == (ms("2026-12-01"), ms("2027-01-01"))


def series_of(count, *, start_ms):
    history = [
        Candle(start_ms + index * MINUTE_MS, 10 + index, 20 + index, 5, 11 + index, volume=1)
        for index in range(count)
    ]
    return CandleSeries(MINUTE_MS, history, length_max=1_000)


def test_longer_candles_are_cut_on_the_wires_time():
    # Market time is five minutes behind the wire's hour.
    series = series_of(70, start_ms=ms("2020-01-01T00:55"))
    hours = series.aggregate("1h", offset_ms=5 * MINUTE_MS, start_ms=None, end_ms=None, limit=10)
    assert [candle.open_ms for candle in hours] == [ms("2020-01-01T01:00"), ms("2020-01-01T02:00")]
    assert [candle.volume for candle in hours] == [60, 10]
    assert (hours[0].open, hours[0].close, hours[0].high, hours[0].low) == (10, 70, 79, 5)
    assert hours[1].open == 70


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, [67, 68, 69]),
        ({"start_ms": 10}, [10, 11, 12]),
        ({"end_ms": 20}, [18, 19, 20]),
        ({"start_ms": 10, "end_ms": 11}, [10, 11]),
        ({"start_ms": 68}, [68, 69]),
        ({"start_ms": 500}, []),
        ({"end_ms": -5}, []),
    ],
)
def test_ranges_are_cut_as_binance_cuts_them(bounds, expected):
    start = ms("2020-01-01")
    series = series_of(70, start_ms=start)
    limits = {
        name: start + bounds[name] * MINUTE_MS if name in bounds else None
        for name in ("start_ms", "end_ms")
    }
    candles = series.aggregate("1m", offset_ms=0, limit=3, **limits)
    assert [(candle.open_ms - start) // MINUTE_MS for candle in candles] == expected


def test_a_candle_closes_when_its_time_is_over():
    series = CandleSeries(MINUTE_MS, length_max=10)
    series.add(MINUTE_MS + 5, price=7, quantity=10**8, buyer_is_maker=False, trade_id=3)
    series.add(MINUTE_MS + 6, price=9, quantity=10**8, buyer_is_maker=True, trade_id=4)
    assert series.roll(2 * MINUTE_MS - 1) is None
    candle = series.roll(2 * MINUTE_MS)
    assert candle == Candle(
        MINUTE_MS,
        7,
        9,
        7,
        9,
        volume=2 * 10**8,
        quote_volume=16,
        trade_count=2,
        taker_buy_volume=10**8,
        taker_buy_quote=7,
        first_trade_id=3,
        last_trade_id=4,
    )
    assert series.roll(3 * MINUTE_MS) is None


def test_old_candles_are_dropped():
    series = CandleSeries(MINUTE_MS, length_max=10)
    for index in range(35):
        series.roll(index * MINUTE_MS)
        series.add(index * MINUTE_MS, price=1, quantity=0, buyer_is_maker=False, trade_id=-1)
    assert 10 <= len(series.since(0)) <= 21


def test_intervals_finer_than_the_base_are_not_served():
    hourly = CandleSeries(60 * MINUTE_MS, length_max=10)
    assert not hourly.serves("1m")
    assert hourly.serves("4h")
    assert not hourly.serves("7m")

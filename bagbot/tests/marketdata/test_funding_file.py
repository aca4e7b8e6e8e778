"""Recorded funding is read as it was stated, and refused with its place when it is none."""

from decimal import Decimal
from pathlib import Path

import pytest

from bagbot.domain.errors import DataError
from bagbot.marketdata.funding_file import read_funding
from bagbot.tests.marketdata.invented_bars import write_csv

DATA = Path(__file__).parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the recorded data is not here")
HOURS_8_MS = 8 * 3_600_000
HEADER = "symbol,funding_time,funding_rate,mark_price"
GOOD = [
    HEADER,
    "BTCUSDT,1704067200001,0.0001,42000.5",
    "ETHUSDT,1704067200000,-0.0003,2300.1",
    "BTCUSDT,1704096000000,-0.00012345,42100",
]


def test_rates_are_exact_and_of_the_market_asked_for(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "funding.csv", GOOD)
    funding = read_funding(path, symbol="BTC/USDT:USDT")
    assert funding.times_ms == (1704067200001, 1704096000000)
    assert funding.rates == (Decimal("0.0001"), Decimal("-0.00012345"))
    assert funding.mark_prices == (Decimal("42000.5"), Decimal(42100))
    assert len(funding) == 2


def test_a_file_without_mark_prices_or_markets_is_read(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "funding.csv", ["calc_time,last_funding_rate", "1704067200000,1e-4"]
    )
    funding = read_funding(path)
    assert (funding.rates, funding.mark_prices) == ((Decimal("0.0001"),), None)


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (3, "BTCUSDT,1704067200001,0.0001,1", "line 4, time: not after the row before"),
        (3, "BTCUSDT,1704067200000,0.0001,1", "line 4, time: not after the row before"),
        (1, "BTCUSDT,1704067200001,0.5,1", "line 2, rate: no fraction"),
        (1, "BTCUSDT,1704067200001,nan,1", "line 2, funding_rate: nan is no number"),
        (1, "BTCUSDT,1704067200001,,1", "line 2, funding_rate: the value is missing"),
        (1, "BTCUSDT,1704067200001,0.1,0", "line 2, mark price: not above zero"),
        (0, "symbol,when,funding_rate,mark_price", "column missing: time"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, line: int, text: str, message: str) -> None:
    lines = list(GOOD)
    lines[line] = text
    with pytest.raises(DataError, match=message):
        read_funding(write_csv(tmp_path / "funding.csv", lines), symbol="BTC/USDT")


def test_several_markets_need_a_choice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="several markets, choose one: BTCUSDT, ETHUSDT"):
        read_funding(write_csv(tmp_path / "funding.csv", GOOD))


@needs_data
def test_real_funding_comes_every_eight_hours() -> None:
    path = DATA / "binance_usdm_btc_eth_funding_2023_2024.parquet"
    funding = read_funding(path, symbol="BTC/USDT:USDT")
    assert len(funding) == 1498
    # A payment is stamped a few milliseconds off its hour.
    slots = [round(time_ms / HOURS_8_MS) for time_ms in funding.times_ms]
    assert slots == list(range(slots[0], slots[0] + 1498))
    assert max(abs(rate) for rate in funding.rates) < Decimal("0.01")
    assert {rate.as_tuple().exponent for rate in funding.rates} == {-8}

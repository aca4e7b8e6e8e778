"""The backtest is what trades: one strategy, backtested and live, with the same result to the unit.

Live means everything: the strategy, the risk gate, the journal, the executor, the CCXT connector,
sockets, and the exchange playing the same bars. Compiled and interpreted, the backtest knows the
same orders, fills, fees, money and equity.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars
import pytest

from bagbot.domain import fills
from bagbot.domain.bars import Bars
from bagbot.domain.events import Fill
from bagbot.domain.instrument import Instrument, Side
from bagbot.domain.order import Order, OrderStatus, OrderType, TimeInForce
from bagbot.marketdata.bars_file import read_bars
from bagbot.tests.every_order import EveryOrder, Seen, TellingEveryOrder, heard
from bagbot.tests.live_trading import CASH, SYMBOL, bar_venue, trading_live
from bagbot.tests.simulator.test_bar_venue import write_bars
from bagbot.tests.simulator.test_market import real_data
from bagbot.tests.simulator.test_recorded_fills import invented_bars
from bagbot.trading import kernel_tables as tables
from bagbot.trading.backtest_result import BacktestResult
from bagbot.trading.backtest_settings import Costs
from bagbot.trading.backtester import Backtester
from bagbot.trading.strategy import Strategy

BAR_COUNT = 200
PLAIN = Costs()
DEAR = Costs(
    maker_fee="0.00075",
    taker_fee="0.001001",
    slippage="0.000013",
    slippage_ticks=2,
    through_ticks=0,
    volume_share="0.1",
)
# Where the same thing has two names.
_ENDED = {
    OrderStatus.FILLED: tables.FILLED,
    OrderStatus.CANCELLED: tables.CANCELLED,
    OrderStatus.EXPIRED: tables.EXPIRED,
    OrderStatus.REJECTED: tables.REFUSED,
    OrderStatus.REFUSED: tables.REFUSED,
}


@dataclass(frozen=True)
class Lived:
    """What became of a strategy live: orders by number, and its fills as the exchange made them."""

    instrument: Instrument
    orders: dict[int, Order | None]
    fills: list[tuple[int, Side, Fill]]
    seen: list[Seen]


def bars_of(kind: str, folder: Path) -> Path:
    """Return a file of a few more bars than are traded."""
    path = folder / "bars.parquet"
    if kind == "invented":
        invented_bars(BAR_COUNT + 5).write_parquet(path)
        return path
    real = real_data()
    if real is None:
        pytest.skip("no recorded data here")
    polars.read_parquet(real)[20_000 : 20_000 + BAR_COUNT + 5].write_parquet(path)
    return path


async def lived(
    path: Path, folder: Path, costs: fills.Costs, strategy: Strategy, count: int = BAR_COUNT
) -> Lived:
    """Trade live until so many bars have closed."""
    heard()
    async with (
        bar_venue(path, costs) as server,
        trading_live(server, folder, strategy) as live,
    ):
        for _ in range(count):
            await live.step()
        executor, trader = live.executor, live.trader
        orders = trader.orders()
        made = [
            (number, order.intent.request.side, fill)
            for number, order in orders.items()
            if order is not None
            for fill in order.fills.values()
        ]
        return Lived(
            executor.instruments[SYMBOL],
            orders,
            sorted(made, key=lambda each: int(each[2].trade_id)),
            heard(),
        )


def backtested(
    strategy: type[EveryOrder], bars: Bars, costs: Costs, seed: int, mode: Any
) -> BacktestResult:
    return Backtester(
        strategy, bars, parameters={"seed": seed}, cash=CASH, costs=costs, mode=mode
    ).run()


def units(amount: Any) -> int:
    return int(amount.scaleb(8))


def fills_live(found: Lived) -> list[tuple[object, ...]]:
    """Return the fills in the backtest's terms, with the money there was after each."""
    instrument = found.instrument
    scale = fills.scale_of(units(instrument.tick_size), units(instrument.lot_size))
    held, cash, rows = 0, units(CASH), []
    for number, side, fill in found.fills:
        price, lots = instrument.price_ticks(fill.price), instrument.quantity_lots(fill.quantity)
        sign = 1 if side is Side.BUY else -1
        is_fee_in_base = fill.fee_asset == instrument.base
        held += sign * units(fill.quantity) - is_fee_in_base * units(fill.fee)
        cash -= sign * fills.value(price, lots, scale) + (not is_fee_in_base) * units(fill.fee)
        fee = units(fill.fee)
        rows.append((number, sign > 0, price, lots, fee, is_fee_in_base, fill.is_maker, held, cash))
    return rows


def fills_backtested(result: BacktestResult, count: int = BAR_COUNT) -> list[tuple[object, ...]]:
    """Return the fills until the last decision that was also carried out live."""
    rows = result.fills
    happened = (rows["bar"] < count) | ((rows["bar"] == count) & (rows["when"] == tables.AT_OPEN))
    names = [
        *("order", "is_buy", "price", "lots", "fee_units", "fee_in_base", "is_maker"),
        *("held_after", "cash_units_after"),
    ]
    return [tuple(row[name].item() for name in names) for row in rows[happened]]


def assert_same_orders(found: Lived, result: BacktestResult) -> None:
    """Every order that has ended live has ended in the backtest, and in the same way."""
    rows = {int(row["number"]): row for row in result.orders}
    assert sorted(found.orders) == [n for n, row in sorted(rows.items()) if row["bar"] < BAR_COUNT]
    for number, order in found.orders.items():
        row = rows[number]
        if order is None:
            assert row["status"] == tables.REFUSED, number
            continue
        if order.is_final:
            assert row["status"] == _ENDED[order.status], (number, order)
        if order.status is OrderStatus.REJECTED:
            words = tables.REASONS[int(row["reason"])].rstrip(".")
            assert words in (order.reason or ""), (number, order.reason)
        request, instrument = order.intent.request, found.instrument
        assert instrument.price_ticks(request.price or instrument.tick_size * 0) == row["limit"]
        assert instrument.quantity_lots(request.amount) == row["lots"], number
        trigger = request.trigger_price or instrument.tick_size * 0
        assert instrument.price_ticks(trigger) == row["trigger"], number


@pytest.mark.parametrize(
    ("kind", "costs", "seed"),
    [("invented", PLAIN, 19), ("invented", DEAR, 16), ("real", DEAR, 17)],
    ids=["invented-plain", "invented-dear", "real-dear"],
)
async def test_a_backtest_is_what_trades(
    tmp_path: Path, kind: str, costs: Costs, seed: int
) -> None:
    sys.stdout.write(f"seed {seed}\n")
    path = bars_of(kind, tmp_path)
    (tmp_path / "home").mkdir()
    found = await lived(path, tmp_path / "home", costs.ppm(), TellingEveryOrder(seed=seed))
    bars = read_bars(path, instrument=found.instrument)[: BAR_COUNT + 1]

    interpreted = backtested(TellingEveryOrder, bars, costs, seed, "interpreted")
    # Written out, because NaN is not equal to itself.
    assert list(map(repr, heard()[: len(found.seen)])) == list(map(repr, found.seen))
    compiled = backtested(EveryOrder, bars, costs, seed, "compiled")
    for result in (interpreted, compiled):
        assert fills_backtested(result) == fills_live(found)
        assert_same_orders(found, result)
    assert (compiled.equity == interpreted.equity).all()

    # Each way to trade has traded.
    traded = [order.intent.request for order in found.orders.values() if order and order.fills]
    assert {request.type for request in traded} == set(OrderType)
    assert {request.time_in_force for request in traded} >= set(TimeInForce)
    assert any(request.trailing_delta for request in traded)
    assert {fill.is_maker for _, _, fill in found.fills} == {True, False}


class Amending(Strategy):
    """Amends a stop-limit that has triggered: it is a limit order by then."""

    def prepare(self) -> None:
        self.number = 0

    def on_bar(self) -> None:
        if self.index == 1:
            self.buy(0.5)
        elif self.index == 2:
            self.number = self.sell(0.1, stop=99.0, limit=99.6)
        elif self.index == 3:
            self.number = self.amend(self.number, limit=99.3)


async def test_a_stop_that_has_triggered_is_amended_as_what_it_has_become(tmp_path: Path) -> None:
    rows = [
        (100.0, 101.0, 99.5, 100.0, 5.0),
        (100.0, 101.0, 99.5, 100.0, 5.0),
        (100.0, 100.5, 99.5, 100.0, 5.0),
        (100.0, 100.2, 98.9, 99.0, 5.0),
        (99.0, 99.5, 98.9, 99.2, 5.0),
        (99.2, 99.2, 99.1, 99.2, 5.0),
        (99.2, 99.2, 99.1, 99.2, 5.0),
    ]
    path = write_bars(tmp_path / "bars.parquet", rows)
    found = await lived(path, tmp_path, PLAIN.ppm(), Amending(), 6)
    result = Backtester(
        Amending, read_bars(path, instrument=found.instrument), cash=CASH, mode="interpreted"
    ).run()
    amended = found.orders[3]
    assert amended is not None
    assert (amended.intent.request.type, amended.status) == (OrderType.LIMIT, OrderStatus.FILLED)
    assert fills_live(found) == fills_backtested(result, 6)
    assert [row[:4] for row in fills_live(found)][-1] == (3, False, 9930, 10_000)


class FollowingTheMarket(Strategy):
    """Amends an order that has filled in part: what is left of it goes on."""

    def prepare(self) -> None:
        self.number = 0

    def on_bar(self) -> None:
        if self.index == 1:
            self.number = self.buy(0.8, limit=100.5)
        elif self.index == 2:
            self.number = self.amend(self.number, limit=101.5)


async def test_an_amended_order_goes_on_with_what_was_left_of_it(tmp_path: Path) -> None:
    rows = [
        (100.0, 100.2, 99.9, 100.0, 5.0),
        (100.0, 100.2, 99.9, 100.0, 5.0),
        (100.0, 100.2, 99.9, 100.0, 5.0),
        (101.0, 101.2, 100.9, 101.0, 5.0),
        (101.0, 101.2, 100.9, 101.0, 5.0),
    ]
    path = write_bars(tmp_path / "bars.parquet", rows)
    found = await lived(path, tmp_path, DEAR.ppm(), FollowingTheMarket(), 4)
    bars = read_bars(path, instrument=found.instrument)
    result = Backtester(FollowingTheMarket, bars, cash=CASH, costs=DEAR, mode="interpreted").run()
    assert fills_live(found) == fills_backtested(result, 4)
    assert [(row[0], row[3]) for row in fills_live(found)] == [(1, 50_000), (2, 30_000)]

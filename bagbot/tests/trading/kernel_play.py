"""Plays the backtest's kernel without a strategy: with orders put into it, or a random script."""

import random
from dataclasses import dataclass, field
from decimal import Decimal

import numpy

from bagbot.domain import fills
from bagbot.domain.bars import Bars
from bagbot.domain.instrument import Instrument
from bagbot.trading import kernel
from bagbot.trading import kernel_money as money
from bagbot.trading import kernel_tables as tables
from bagbot.trading.backtest_settings import BacktestSettings, Costs, Funding
from bagbot.trading.interpreted_run import Kernel
from bagbot.trading.risk_manager import RiskLimits

NOT_GIVEN = float("nan")
LIMITS = RiskLimits(
    order_value_max=Decimal(150),
    position_value_max=Decimal(200),
    price_collar_ratio=Decimal("0.005"),
)
TICK, LOT = Decimal("0.01"), Decimal("0.001")


def instrument(**more):
    return Instrument(
        symbol="BTC/USDT",
        exchange_symbol="BTCUSDT",
        base="BTC",
        quote="USDT",
        tick_size=more.pop("tick_size", TICK),
        lot_size=more.pop("lot_size", LOT),
        **more,
    )


def bars_of(rows, of=None, interval_ms=60_000):
    """Return bars from rows of open, high, low, close and volume in ticks and lots."""
    columns = numpy.array(rows, numpy.int64).reshape(-1, 5).T
    times = numpy.arange(len(rows)) * interval_ms
    return Bars(
        instrument=of or instrument(),
        interval_ms=interval_ms,
        open_time_ms=times,
        **dict(zip(("open", "high", "low", "close", "volume"), columns, strict=True)),
    )


def random_rows(choose, count, start=10_000, step=60):
    """Return rows whose closes walk by chance, with gaps now and then."""
    rows, close = [], start
    for _ in range(count):
        opened = close + choose.choice([0, 0, 0, choose.randint(-step, step)])
        close = opened + choose.randint(-step, step)
        high = max(opened, close) + choose.randint(0, step // 2)
        low = min(opened, close) - choose.randint(0, step // 2)
        rows.append((opened, high, low, close, choose.randint(0, 500)))
    return rows


def put(desk, order):
    """Let an order of the rules rest on the desk as if it had been placed long ago."""
    number = order.number
    while desk.account.order_count < number:
        kernel._queue(desk, 1, 0, 0)
    row = desk.orders[number - 1]
    for name in (
        *("number", "kind", "is_buy", "lots", "limit", "trigger", "time_in_force"),
        *("trailing_ppm", "best", "pair", "parent"),
    ):
        setattr(row, name, getattr(order, name))
    row.ordered, row.placed_kind, row.placed_trigger = order.lots, order.kind, order.trigger
    desk.account.working[desk.account.working_count] = number - 1
    desk.account.working_count += 1
    if order.parent:
        row.status = tables.SLEEPING
    else:
        assert money.lock(desk, row, order.best or order.trigger or order.limit)
        row.status = tables.OPEN
    kernel._set_bounds(desk)


def fills_of(desk):
    return [
        (int(row.order), int(row.price), int(row.lots), bool(row.is_maker))
        for row in desk.fills[: desk.account.fill_count]
    ]


def working_of(desk):
    """Return what is open or asleep: number, kind, what is left, best price of what trails."""
    rows = [desk.orders[row] for row in desk.account.working[: desk.account.working_count]]
    return sorted(
        (int(row.number), int(row.kind), int(row.lots), int(row.best) if row.trailing_ppm else 0)
        for row in rows
    )


@dataclass
class Script:
    """Bars, settings, and what is commanded after each bar; made by one seed."""

    seed: int
    length: int = 60
    market: str | None = None
    fees: bool = True
    kinds: tuple[int, ...] = tuple(range(fills.LIMIT, fills.TAKE_PROFIT_LIMIT + 1))
    trails: bool = True
    links: bool = True
    cash: int | None = None
    bars: Bars = field(init=False)
    settings: BacktestSettings = field(init=False)
    commands: list = field(init=False)

    def __post_init__(self):
        choose = random.Random(self.seed)
        self.bars = bars_of(random_rows(choose, self.length))
        market = self.market or choose.choice(["spot", "spot", "usdm"])
        fee = choose.choice(["0", "0.001", "0.00075"]) if self.fees else 0
        self.settings = BacktestSettings(
            cash=self.cash or choose.choice([300, 2_000, 1_000_000]),
            market=market,
            leverage=1 if market == "spot" else choose.choice([1, 5, 50]),
            fill_at=choose.choice(["open", "open", "open", "close"]),
            costs=Costs(
                maker_fee=fee,
                taker_fee=choose.choice(["0.001", "0.002"]) if self.fees else 0,
                slippage=choose.choice([0, 0, "0.0001"]) if self.fees else 0,
                slippage_ticks=choose.choice([0, 0, 3]) if self.fees else 0,
                through_ticks=choose.choice([0, 1]),
                volume_share=choose.choice([None, None, "0.01"]),
                fee_in=choose.choice(["received", "quote"]),
            ),
            funding=self._funding(choose) if self.fees and market == "usdm" else None,
            limits=choose.choice([None, None, None, LIMITS]) if self.fees else None,
        )
        self.commands = [self._after(choose, row) for row in range(self.length)]

    def _funding(self, choose):
        times = list(range(90_000, self.length * 60_000, choose.choice([60_000, 480_000])))
        rates = [Decimal(choose.randint(-100_000, 100_000)) / 10**8 for _ in times]
        return Funding(times_ms=times, rates=rates)

    def _after(self, choose, bar):
        wishes = []
        for _ in range(choose.choice([0, 0, 1, 1, 2, 3])):
            what = choose.random()
            if what < 0.08:
                wishes.append(("close_position",))
            elif what < 0.16:
                wishes.append(("cancel", choose.randint(1, 3 * bar + 1)))
            elif what < 0.18:
                wishes.append(("cancel_all",))
            elif what < 0.26:
                wishes.append(self._amendment(choose, bar))
            else:
                wishes += self._order(choose, bar)
        return wishes

    def _price(self, choose, bar, spread=80):
        return (int(self.bars.close[bar]) + choose.randint(-spread, spread)) * float(TICK)

    def _amendment(self, choose, bar):
        def perhaps(value):
            return value if choose.random() < 0.5 else NOT_GIVEN

        return (
            "amend",
            choose.randint(1, 3 * bar + 1),
            perhaps(choose.randint(1, 2_000) / 1_000),
            perhaps(self._price(choose, bar)),
            perhaps(self._price(choose, bar)),
        )

    def _order(self, choose, bar):
        kind = choose.choice(self.kinds)
        is_buy = choose.random() < 0.5
        trails = self.trails and kind in (fills.STOP, fills.STOP_LIMIT) and choose.random() < 0.4
        has_limit = kind in (
            *(fills.LIMIT, fills.LIMIT_MAKER, fills.STOP_LIMIT, fills.TAKE_PROFIT_LIMIT),
        )
        link = choose.choice(["", "", "pair", "parent"]) if self.links else ""
        number = choose.randint(1, 3 * bar + 1)
        wishes = [
            (
                "place",
                is_buy,
                choose.randint(1, 2_000) / 1_000,
                kind,
                self._price(choose, bar) if has_limit else NOT_GIVEN,
                self._price(choose, bar) if kind >= fills.STOP and not trails else NOT_GIVEN,
                choose.choice([1_000, 5_000, 20_000]) if trails else 0,
                choose.choice([1, 1, 2, 3]) if kind == fills.LIMIT else 1,
                choose.random() < 0.1,
                number if link == "pair" else 0,
                number if link == "parent" else 0,
            )
        ]
        if self.links and choose.random() < 0.4:
            stop, target = self._price(choose, bar, 150), self._price(choose, bar, 150)
            wishes.append(("exits", not is_buy, stop, target))
        return wishes


def play(script, engine_class=Kernel):
    """Return the desk after a script has been played by an engine."""
    engine = engine_class(script.settings.new_desk(script.bars))
    for bar, wishes in enumerate(script.commands):
        engine.close_bar(bar)
        number = 0
        for name, *given in wishes:
            if name == "exits":
                if number > 0:
                    is_buy, stop, target = given
                    loss = engine.place(
                        is_buy, NOT_GIVEN, fills.STOP, NOT_GIVEN, stop, 0, 1, True, 0, number
                    )
                    engine.place(
                        is_buy, NOT_GIVEN, fills.LIMIT, target, NOT_GIVEN, 0, 1, True, loss, number
                    )
            else:
                number = getattr(engine, name)(*given) or 0
        engine.act()
    engine.finish()
    return engine.desk

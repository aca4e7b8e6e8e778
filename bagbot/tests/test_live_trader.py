"""A strategy that trades live: what is decided is written down, carried out once, and outlives us.

Everything is real, over sockets, on the stepped bar venue.
"""

import asyncio
import json
import random
import sys
from dataclasses import replace
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path

import aiohttp
import pytest
from structlog.testing import capture_logs

from bagbot.domain import fills
from bagbot.domain.errors import ConfigError, NotSupportedError, StrategyError
from bagbot.domain.instrument import Instrument, Side
from bagbot.domain.order import OrderRequest, OrderType
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.conftest import API_KEY, API_SECRET
from bagbot.tests.every_order import Seen, TellingEveryOrder, heard
from bagbot.tests.live_trading import (
    NO_LIMITS,
    STRATEGY_ID,
    SYMBOL,
    Stepped,
    bar_venue,
    trading_live,
)
from bagbot.tests.simulator.test_recorded_fills import invented_bars
from bagbot.trading.connectors import BinanceConnector
from bagbot.trading.journal_records import BarDecided, Command, Doing
from bagbot.trading.live_trader import LiveSettings
from bagbot.trading.strategy import Strategy


class Counting(Strategy):
    """Buys at every third bar, holds for one, and counts."""

    def prepare(self) -> None:
        self.seen = 0

    def on_bar(self) -> None:
        self.seen += 1
        if self.seen % 3 == 1:
            self.buy(0.1)
        elif self.seen % 3 == 0:
            self.close_position()


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    path = tmp_path / "bars.parquet"
    invented_bars(80).write_parquet(path)
    return path


def placed(live: Stepped) -> list[tuple[str, str, str]]:
    """Return side, type and status of every order of ours, oldest first."""
    return [
        (order.intent.request.side.value, order.intent.request.type.value, order.status.value)
        for order in live.executor.state.orders.values()
    ]


async def test_a_restart_changes_nothing_of_what_a_strategy_sees(
    bars: Path, tmp_path: Path
) -> None:
    costs, seed = fills.Costs(slippage_ticks=2, volume_share_ppm=20_000), 4

    async def seen(folder: Path, restarts: set[int]) -> list[Seen]:
        folder.mkdir()
        async with bar_venue(bars, costs) as server:
            done = 0
            for until in (*sorted(restarts), 40):
                async with trading_live(server, folder, TellingEveryOrder(seed=seed)) as live:
                    if done:
                        # What was decided last is looked at once more.
                        await live.decided()
                    while done < until:
                        await live.step()
                        done += 1
        return heard()

    whole = await seen(tmp_path / "whole", set())
    broken = await seen(tmp_path / "broken", {7, 8, 25})
    # Written out, because NaN is not equal to itself.
    assert list(map(repr, broken)) == list(map(repr, whole))
    assert len({position for _, position, *_ in whole}) > 10


async def test_an_interruption_at_any_moment_changes_nothing_of_what_a_strategy_sees(
    bars: Path, tmp_path: Path
) -> None:
    chance, count = random.Random(3), 15
    sys.stdout.write("seed 3\n")
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    async with (
        bar_venue(bars, fills.Costs()) as server,
        trading_live(server, tmp_path / "whole", TellingEveryOrder(seed=16)) as live,
    ):
        await steps(live, count)
    whole = heard()
    async with bar_venue(bars, fills.Costs()) as server:
        async with trading_live(server, tmp_path / "broken", TellingEveryOrder(seed=16)) as live:
            # The venue tells its record's times as if it were today.
            closed_ms = await bar_in_play_ms(server)
            shift_ms = await live.step() - closed_ms
        for _ in range(count - 1):
            async with trading_live(
                server, tmp_path / "broken", TellingEveryOrder(seed=16)
            ) as live:
                await until_decided(live, closed_ms + shift_ms)
                closed_ms = await step(server)
                # From before the bar is heard of to after its last order is answered.
                await asyncio.sleep(chance.uniform(0, 0.05))
        async with trading_live(server, tmp_path / "broken", TellingEveryOrder(seed=16)) as live:
            await until_decided(live, closed_ms + shift_ms)
    # Who is interrupted before a decision is written down makes it once more, and sees the same.
    assert list(dict.fromkeys(map(repr, heard()))) == list(map(repr, whole))
    assert len({position for _, position, *_ in whole}) > 5


async def test_a_decision_that_was_interrupted_is_carried_out_once(
    bars: Path, tmp_path: Path
) -> None:
    """Whichever part of it was done: the rest is, and none of it twice."""
    async with bar_venue(bars, fills.Costs()) as server:
        async with trading_live(server, tmp_path, Counting()) as live:
            await live.step()
            bar_ms = await live.step()
            begun = live.executor.state.strategies[STRATEGY_ID].begun
            assert placed(live) == [("buy", "market", "FILLED")]
        market = OrderRequest(
            symbol=SYMBOL, side=Side.BUY, type=OrderType.MARKET, amount=Decimal("0.2")
        )
        resting = replace(market, type=OrderType.LIMIT, price=Decimal(50_000))
        decided = BarDecided(
            time_ns=2,
            strategy_id=STRATEGY_ID,
            bar_ms=bar_ms,
            state=json.dumps({"seen": 1}),
            numbers=5,
            commands=(
                Command(doing=Doing.PLACE, number=1, request=replace(market, amount=Decimal(1))),
                Command(doing=Doing.PLACE, number=2, request=market),
                Command(doing=Doing.PLACE, number=3, request=resting),
                Command(doing=Doing.AMEND, number=4, target=3, request=resting, keeps_left=True),
                Command(doing=Doing.CANCEL_ALL),
                Command(doing=Doing.PLACE, number=5, request=resting),
            ),
        )
        wanted = [
            # The first is the order of that number that was sent before.
            ("buy", "market", "FILLED"),
            ("buy", "market", "FILLED"),
            ("buy", "limit", "CANCELLED"),
            ("buy", "limit", "CANCELLED"),
            ("buy", "limit", "OPEN"),
        ]
        for _ in range(3):
            async with trading_live(server, tmp_path, Counting()) as live:
                if decided is not live.executor.state.strategies[STRATEGY_ID].decided:
                    await live.executor.note_strategy(decided)
                await live.decided()
                assert placed(live) == wanted
        async with trading_live(server, tmp_path, Counting()) as live:
            await live.decided()
            assert live.executor.state.strategies[STRATEGY_ID].begun == begun
            await live.step()
            assert placed(live) == wanted


class Wanting(Strategy):
    """Wants in and out and in again, whatever it has: at a missed bar only the way out is taken."""

    def prepare(self) -> None:
        self.seen = 0

    def on_bar(self) -> None:
        self.seen += 1
        self.buy(0.1, limit=self.close[-1] * 0.8)
        if self.seen == 1:
            self.buy(0.3)
        if self.seen == 3:
            self.buy(0.2)
            self.sell(0.1)
            self.sell(0.5)
        if self.seen == 4:
            self.close_position()


async def test_of_bars_missed_while_down_only_what_reduces_is_sent(
    bars: Path, tmp_path: Path
) -> None:
    async with bar_venue(bars, fills.Costs()) as server:
        async with trading_live(server, tmp_path, Wanting()) as live:
            await steps(live, 2)
            assert placed(live) == [("buy", "limit", "OPEN"), ("buy", "market", "FILLED")]
        for _ in range(4):
            await step(server)
        async with trading_live(server, tmp_path, Wanting()) as live:
            for _ in range(5):
                await live.decided()
            state = live.executor.state
            assert placed(live)[2:] == [
                ("sell", "market", "FILLED"),  # 0.1 of the 0.3 that are there, at the third bar.
                ("sell", "market", "FILLED"),  # All that is left, at the fourth.
                ("buy", "limit", "OPEN"),  # The fifth bar is the newest: all of it is meant.
            ]
            reasons = [known.message for known in state.known.values() if known.message]
            assert len(reasons) == 5
            assert set(reasons) == {"not sent: later bars have closed since it was decided"}
            remembered = state.strategies[STRATEGY_ID].decided
            assert remembered is not None
            assert json.loads(remembered.state) == {"seen": 5}


async def test_a_lost_answer_changes_nothing_of_what_a_strategy_sees(
    bars: Path, tmp_path: Path
) -> None:
    async def seen(folder: Path, lost: set[int]) -> list[Seen]:
        folder.mkdir()
        async with (
            bar_venue(bars, fills.Costs()) as server,
            trading_live(server, folder, TellingEveryOrder(seed=2)) as live,
        ):
            for number in range(20):
                if number in lost:
                    fault = {"method": "POST", "path": "/api/v3/order", "kind": "lose_answer"}
                    await post(server, "/admin/faults", fault)
                await live.step()
        return heard()

    whole = await seen(tmp_path / "whole", set())
    assert list(map(repr, await seen(tmp_path / "lost", {3, 9}))) == list(map(repr, whole))


async def test_what_the_gate_refuses_is_an_order_that_ended(bars: Path, tmp_path: Path) -> None:
    limits = replace(NO_LIMITS, order_value_max=Decimal(1_000))
    async with (
        bar_venue(bars, fills.Costs()) as server,
        trading_live(server, tmp_path, Counting(), limits=limits) as live,
    ):
        for _ in range(5):
            await live.step()
        assert placed(live) == [("buy", "market", "REFUSED")] * 2


class Bracket(Counting):
    """Uses what can't be sent live."""

    def on_bar(self) -> None:
        self.buy(0.1, stop_loss=self.close[-1] * 0.9)


class HiddenBracket(Counting):
    """Uses it so that it is not seen before it happens."""

    def on_bar(self) -> None:
        self.buy(0.1)
        more = {"take_profit": self.close[-1] * 1.1}
        self.buy(0.1, **more)


async def test_orders_that_belong_together_are_refused_before_anything_is_sent(
    bars: Path, tmp_path: Path
) -> None:
    async with bar_venue(bars, fills.Costs()) as server:
        with pytest.raises(
            NotSupportedError, match=r"Bracket uses stop_loss= in self.buy\(\) \(.*py:\d+\)"
        ):
            async with trading_live(server, tmp_path, Bracket()):
                pass
        async with trading_live(server, tmp_path, HiddenBracket()) as live:
            with pytest.raises(NotSupportedError, match="nothing of this bar was sent"):
                await steps(live, 2)
            assert placed(live) == []


class Failing(Counting):
    """Fails at its third bar, after an order."""

    def on_bar(self) -> None:
        super().on_bar()
        if self.seen == 2:
            self.buy(0.1)
            raise ZeroDivisionError("no idea")


async def test_a_strategy_that_fails_stops_and_nothing_of_that_bar_is_sent(
    bars: Path, tmp_path: Path
) -> None:
    async with bar_venue(bars, fills.Costs()) as server:
        for _ in range(2):
            async with trading_live(server, tmp_path, Failing()) as live:
                with pytest.raises(ZeroDivisionError) as caught:
                    await steps(live, 3)
                assert "Failing.on_bar(), bar 2" in caught.value.__notes__[0]
                assert placed(live) == [("buy", "market", "FILLED")]


class Remembering(Counting):
    """Remembers what does not come back as it was."""

    def on_bar(self) -> None:
        super().on_bar()
        self.memory = {self.seen}


async def test_memory_that_would_not_outlive_a_restart_is_refused_by_name(
    bars: Path, tmp_path: Path
) -> None:
    async with (
        bar_venue(bars, fills.Costs()) as server,
        trading_live(server, tmp_path, Remembering()) as live,
    ):
        with pytest.raises(StrategyError, match=r"self.memory is a set"):
            await steps(live, 2)
        assert placed(live) == []


async def test_another_strategy_under_the_same_id_is_refused(bars: Path, tmp_path: Path) -> None:
    async with bar_venue(bars, fills.Costs()) as server:
        async with trading_live(server, tmp_path, Counting()) as live:
            await live.step()
        for strategy, more, words in (
            (Wanting(), {}, "name Counting, not Wanting"),
            (Counting(), {"cash": Decimal(5)}, "cash 300000, not 5"),
            (Counting(), {"timeframe": "5m"}, "timeframe 1m, not 5m"),
        ):
            async with trading_live(server, tmp_path, strategy, **more) as live:
                with pytest.raises(ConfigError, match=words):
                    await live.decided()


async def test_it_ends_by_itself_after_so_many_bars(bars: Path, tmp_path: Path) -> None:
    async with bar_venue(bars, fills.Costs()) as server:
        for _ in range(2):
            async with trading_live(server, tmp_path, Counting(), bars_max=2) as live:
                await steps(live, 2)
                await asyncio.wait_for(live.running, 5)
        state = live.executor.state.strategies[STRATEGY_ID]
        assert state.decided is not None
        assert json.loads(state.decided.state) == {"seen": 2}


# Position, cash, equity and the last close, bar by bar.
SAW: list[tuple[float, float, float, float]] = []


class Holding(Strategy):
    """Buys and leaves an order; later moves that order, gets out, and buys once more."""

    def prepare(self) -> None:
        self.seen = 0
        self.resting = 0

    def on_bar(self) -> None:
        self.seen += 1
        SAW.append((self.position, self.cash, self.equity, float(self.close[-1])))
        if self.seen == 1:
            self.buy(0.12345)
            self.resting = self.buy(0.02345, limit=self.close[-1] * 0.9)
        elif self.seen == 3:
            self.resting = self.amend(self.resting, limit=self.close[-1] * 0.9)
        elif self.seen == 4:
            self.close_position()
        elif self.seen == 5:
            self.cancel_all()
            self.buy(0.12345, limit=self.close[-1] * 0.9)


def account(live: Stepped) -> tuple[Decimal, Decimal]:
    """Return what base and quote the fills of all orders make, fees included, to the unit."""
    base, quote = Decimal(0), Decimal(300_000)
    for order in live.executor.state.orders.values():
        sign = 1 if order.intent.request.side is Side.BUY else -1
        for fill in order.fills.values():
            base += sign * fill.quantity - (fill.fee_asset == "BTC") * fill.fee
            value = (fill.price * fill.quantity).quantize(Decimal("1e-8"), ROUND_FLOOR)
            quote -= sign * value + (fill.fee_asset == "USDT") * fill.fee
    return base, quote


async def test_a_strategy_goes_on_in_new_steps_when_its_old_fills_are_off_them(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the exchange tells of its steps is changed; it takes what it took before."""
    told, tick, lot = BinanceConnector.load_instruments, Decimal(10), Decimal("0.01")

    async def coarser(connector: BinanceConnector) -> dict[str, Instrument]:
        known = await told(connector)
        return {SYMBOL: replace(known[SYMBOL], tick_size=tick, lot_size=lot)}

    async with bar_venue(bars, fills.Costs()) as server:
        async with trading_live(server, tmp_path, Holding()) as live:
            await steps(live, 2)
            base, quote = account(live)
            bought = next(iter(live.executor.state.orders.values()))
            assert all(fill.price % tick for fill in bought.fills.values())
        monkeypatch.setattr(BinanceConnector, "load_instruments", coarser)
        with capture_logs() as logged:
            async with trading_live(server, tmp_path, Holding()) as live:
                await live.decided()
                await live.step()
                position, cash, equity, close = SAW[-1]
                resting = live.trader.orders()[2]
                assert resting is not None
                asked = resting.intent.request
                assert asked.price is not None
                assert asked.price % tick
                assert position == 0.12
                assert cash == float(quote - asked.price * asked.amount)
                assert equity == pytest.approx(float(quote + base * Decimal(close)), abs=1e-7)
                await steps(live, 3)
                later = list(live.trader.orders().values())[2:]
    assert [(order.status.value, order.intent.request.amount) for order in later if order] == [
        ("CANCELLED", Decimal("0.02")),
        ("FILLED", Decimal("0.12")),
        ("OPEN", Decimal("0.12")),
    ]
    assert not any((order.intent.request.price or 0) % tick for order in later if order)
    # At the start, and after the position was closed.
    stays = [one["amount"] for one in logged if "off the exchange's lot" in one["event"]]
    assert stays == [str(base - Decimal("0.12"))] * 2
    assert SAW[-1][0] == 0


class Leaving(Holding):
    """Is in, and leaves once it is told to."""

    leaves = False

    def on_bar(self) -> None:
        super().on_bar()
        self.seen = 1
        if self.leaves:
            self.cancel_all()
            self.close_position()


async def test_a_strategy_outlives_a_change_of_the_exchanges_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SimulatorSettings(
        api_key=API_KEY, api_secret=API_SECRET, speed=60, balances={"USDT": Decimal(300_000)}
    )
    async with SimulatorServer(settings) as server:
        async with trading_live(server, tmp_path, Leaving()) as live:
            await live.decided()
            await live.decided()
            assert placed(live)[0] == ("buy", "market", "FILLED")
            base, _ = account(live)
        rules = {"class": "F43", "variant": "filters", "symbol": "BTCUSDT"}
        await post(server, "/admin/faults", {**rules, "tickSize": "10", "stepSize": "0.01"})
        monkeypatch.setattr(Leaving, "leaves", True)
        async with trading_live(server, tmp_path, Leaving()) as live:
            while len(placed(live)) < 3 or SAW[-1][0]:
                await live.decided()
            left, quote = account(live)
            closing = live.trader.orders()[3]
            assert closing is not None
            assert (closing.status.value, closing.filled) == ("FILLED", Decimal("0.12"))
            assert left == base - Decimal("0.12") > 0
            assert SAW[-1][1] == float(quote)


@pytest.mark.parametrize("text", ["", "a:b", "a b", "x" * 101])
def test_an_id_that_could_be_taken_for_another_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="a strategy's id"):
        LiveSettings(strategy_id=text, symbol=SYMBOL)


async def steps(live: Stepped, count: int) -> None:
    for _ in range(count):
        await live.step()


async def until_decided(live: Stepped, bar_ms: int) -> None:
    """Return once all of a bar's decision is carried out, and of those before it."""
    while await live.decided() != bar_ms:
        pass


async def step(server: SimulatorServer) -> int:
    """Say "bar done", and return which bar that was, by the record's times (ms)."""
    closed_ms = await bar_in_play_ms(server)
    await post(server, "/admin/step", None)
    return closed_ms


async def bar_in_play_ms(server: SimulatorServer) -> int:
    async with aiohttp.ClientSession() as http, http.get(server.url + "/admin/clock") as answer:
        return int((await answer.json())["bar"]["open_ms"])


async def post(server: SimulatorServer, path: str, body: object) -> None:
    async with aiohttp.ClientSession() as http, http.post(server.url + path, json=body) as answer:
        assert answer.status == 200, await answer.text()

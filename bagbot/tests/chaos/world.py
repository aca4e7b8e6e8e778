"""One seed: a world with one engine that dies and comes back, callers, an owner, and a market.

`run_seed` is the whole simulation. The engine is the real one, from `OrderExecutor` down to the
bytes of CCXT's requests; only time, the network, the disk and the owner's hands are pretended.
"""

import asyncio
import hashlib
import os
import random
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import structlog

from bagbot.domain.errors import BagbotError, JournalError
from bagbot.domain.instrument import Side
from bagbot.domain.order import (
    Order,
    OrderIntent,
    OrderRequest,
    OrderStatus,
    OrderType,
    TimeInForce,
    intent_id,
)
from bagbot.storage.journal import Mark, Record
from bagbot.storage.snapshot import write_snapshot
from bagbot.tests.chaos.crash_points import (
    CrashWatch,
    Trigger,
    draw_triggers,
    needed,
    wants_impatience,
)
from bagbot.tests.chaos.crashable_journal import CrashableJournal, JournalDisk
from bagbot.tests.chaos.exchange_host import (
    API_KEY,
    API_SECRET,
    ONE,
    START_NS,
    SYMBOL,
    ClientSocket,
    ExchangeHost,
    InProcessSession,
)
from bagbot.tests.chaos.faults import Faults
from bagbot.tests.chaos.oracle import Oracle, Violation
from bagbot.tests.chaos.virtual_loop import (
    NS,
    Agenda,
    Crash,
    StandstillError,
    VirtualClock,
    VirtualLoop,
    VirtualTime,
)
from bagbot.trading import order_executor, reconciliation, recovery
from bagbot.trading.account_state import TOKEN_SOURCE, AccountState
from bagbot.trading.connectors import (
    binance_connector,
    binance_stream,
    ccxt_connector,
    guarded_exchange,
    server_clock,
)
from bagbot.trading.order_executor import OrderExecutor
from bagbot.trading.recovery import snapshot_of
from bagbot.trading.risk_manager import RiskLimits, RiskManager
from bagbot.trading.submission import ExecutorSettings, NotReadyError, Submission, View

OURS: Final = "BTC/USDT"
# Less the messages that lead to none, at least twenty.
ORDERS: Final = 24
MESSAGES_MAX: Final = 4
SCRIPT_S: Final = 60.0
LOOK_S: Final = 3.0
HEAL_S: Final = 75.0
LONG_HEAL_S: Final = 210.0
LATER_S: Final = 75.0
LIVES_MAX: Final = 80
SETTLE_S: Final = 900.0
# A difference is believed after some audits, and the owner may have the books begin anew meanwhile.
BOOKS_AUDITS: Final = 6
BOOKS_S: Final = 100.0
# The first audit may fail, because the exchange's clock has stepped meanwhile.
NOTICE_AUDITS: Final = 2
NOTICE_S: Final = 15.0
_MEMORY: Final = Path("/dev/shm")
_ASKS_THE_TIME: Final[tuple[ModuleType, ...]] = (
    binance_connector,
    binance_stream,
    guarded_exchange,
    server_clock,
)


def prepare_process() -> None:
    """Make this process fit to simulate: nothing is logged, and little is made anew."""
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    ccxt_connector.guarded_exchange = _same_exchange
    # It keeps from the collector what lives as long as the process; here a life is short.
    recovery.without_collections = nullcontext  # type: ignore[assignment]
    if _MEMORY.is_dir():
        # A snapshot is flushed for real; what it outlives here is pretended, so memory will do.
        tempfile.tempdir = str(_MEMORY)


def draw_settings(rng: random.Random) -> ExecutorSettings:
    """Return any settings that are safe; most often the defaults."""
    price_interval_s, price_age_max_s = rng.choice(((20.0, 30.0), (20.0, 30.0), (5.0, 8.0)))
    return ExecutorSettings(
        price_interval_s=price_interval_s,
        price_age_max_s=price_age_max_s,
        probe_interval_s=rng.choice((2.0, 8.0)),
        poll_interval_s=rng.choice((2.0, 5.0, 5.0, 15.0)),
        audit_interval_s=rng.choice((5.0, 12.0, 30.0, 30.0, 30.0, 60.0)),
        stream_lag_max_s=rng.choice((1.0, 5.0, 5.0, 20.0)),
        # The longest that anything lags behind here is 30 s.
        replica_lag_max_s=rng.choice((45.0, 60.0, 60.0, 120.0)),
        send_timeout_s=rng.choice((2.0, 10.0, 10.0, 20.0)),
        read_timeout_s=rng.choice((2.0, 10.0, 10.0, 20.0)),
        fence_margin_ms=rng.choice((60_000, 60_000, 90_000)),
    )


def draw_sizes(rng: random.Random) -> tuple[tuple[ModuleType, str, int], ...]:
    """Return how much fits into a page, waits, or is asked for at once: little, so that it shows.

    A page of two can hold one trade with oneself and nothing else; Binance's holds 1000.
    """
    return (
        (binance_connector, "_PAGE", rng.choice((3, 4, 4, 7, 50))),
        (order_executor, "EVENTS_WAITING_MAX", rng.choice((1, 2, 2, 100))),
        (reconciliation, "_ORDERS_AT_ONCE_MIN", rng.choice((1, 2, 2, 5))),
        (reconciliation, "ASKED_SINGLY", rng.choice((0, 3, 3, 100))),
    )


@contextmanager
def _put_in(values: Iterable[tuple[ModuleType, str, Any]]) -> Iterator[None]:
    """Have these values in the engine's modules, and what was there again afterwards."""
    with ExitStack() as undo:
        for module, name, value in values:
            undo.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)
        yield


_made: dict[str, Any] = {}


def _same_exchange(exchange_id: str, config: Mapping[str, Any]) -> Any:
    """Return CCXT's object, made only once (it takes 3 ms), as if it were new."""
    if exchange_id not in _made:
        _made[exchange_id] = guarded_exchange.guarded_exchange(exchange_id, config)
    exchange = _made[exchange_id]
    exchange.gate = guarded_exchange.RateGate()
    exchange.budget = guarded_exchange.RequestBudget(exchange.rateLimit / 1000)
    exchange.asyncio_loop = None
    exchange.closed_by_user = False
    return exchange


@dataclass(slots=True)
class Outcome:
    """What came of one seed."""

    seed: int
    trace: str = ""
    violation: str = ""
    orders: int = 0
    lives: int = 0
    events: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    venue_refusals: int = 0


class OneLife:
    """One life of the engine, between two starts."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_dead = False
        self.sockets: list[ClientSocket] = []


class WatchedJournal(CrashableJournal):
    """The crashable journal, with the judge and the crasher looking on."""

    def __init__(self, world: "World") -> None:
        self._world = world
        super().__init__(world.disk, flush_s=world.flush_s)

    def append(self, records: Any) -> "asyncio.Future[None]":
        is_taken = not self._is_dead and self._failure is None
        done = super().append(records)
        if is_taken:
            # Also when this very write fails: the next life may find all of it on the disk.
            self._world.oracle.records_queued(records)
        if is_taken and self._failure is None:
            self._world.watch.queued([record.kind for record in records])
        return done

    def _flushed(self) -> None:
        super()._flushed()
        kinds = self._world.oracle.sync()
        if kinds:
            self._world.oracle.note("flushed", len(kinds))
            self._world.watch.flushed(kinds)


@dataclass(slots=True)
class Wish:
    """What a caller wants, and what it was told; it asks again until it is told."""

    identity: str
    at_s: float
    request: OrderRequest | None
    message: str = ""
    is_told: bool = False
    cancel_after_s: float | None = None
    repeats: int = 0

    @property
    def is_over(self) -> bool:
        """Whether this caller wants nothing more."""
        return self.is_told and not self.repeats and self.cancel_after_s is None


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, triggers: list[Trigger] | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        rng = self.rng
        self.agenda = Agenda()
        self.faults = Faults(random.Random(rng.getrandbits(64)))
        limit = Decimal(rng.choice((2_000, 6_000, 20_000)))
        self.limits = RiskLimits(
            order_value_max=Decimal(2_500),
            position_value_max=limit,
            price_collar_ratio=Decimal("0.02"),
            symbols=frozenset({OURS}),
        )
        if triggers is None:
            triggers = draw_triggers(random.Random(rng.getrandbits(64)), seed)
        self.wanted = frozenset(needed(triggers))
        self.faults.bring(self.wanted)
        self.is_impatient = wants_impatience(triggers)
        self.watch = CrashWatch(triggers)
        self.oracle = Oracle(limit, lambda: self.agenda.now_ns)
        balances = {
            "BTC": rng.choice((ONE // 20, ONE)),
            "USDT": rng.choice((3_000, 100_000)) * ONE,
        }
        self.host = ExchangeHost(
            self.agenda, random.Random(rng.getrandbits(64)), self.faults, self.oracle, balances
        )
        self.disk = JournalDisk()
        self.oracle.host, self.oracle.disk = self.host, self.disk
        self.clock = VirtualClock(self.agenda, START_NS)
        self.orders_by_stream = rng.random() < 0.3
        self.settings = draw_settings(rng)
        if self.faults.strikes("token mode"):
            self.settings = replace(
                self.settings, tokens_per_symbol=rng.choice((1, 2, 5)), token_pause_s=5.0
            )
        self.sizes = draw_sizes(rng)
        self.switch = "off"
        self.is_done = False
        self.stops_at_ns: int | None = None
        self._stalled_ns = 0
        self.lives = 0
        self.engine: OrderExecutor | None = None
        self._exchange: Any = None
        self._stop: asyncio.Event | None = None
        self._messages = 0
        self.wishes = [self._wish(number) for number in range(ORDERS)]
        self.oracle.wished = {
            intent_id("main", wish.identity): wish.request for wish in self.wishes
        }
        # An order is given up a minute after its fence: here there is time for that, twice.
        is_long = "cancel renames" in self.wanted
        self._heal_ns = int((LONG_HEAL_S if is_long else HEAL_S) * NS)
        if is_long:
            for wish in rng.sample(self.wishes, ORDERS // 2):
                wish.at_s += LATER_S
        self._plan_world()

    def flush_s(self) -> float:
        """Return how long the next flush takes."""
        # On a slow disk much happens between what is decided and what is durable.
        is_slow = self.faults.strikes("disk slow", 0.5)
        return self.rng.choice((0.05, 0.5, 2.0) if is_slow else (0.0002, 0.001, 0.02))

    # What is going to happen.

    def _wish(self, number: int) -> Wish:
        rng = self.rng
        # In bursts, so that many are under way at a time.
        at_s = rng.choice((0.0, 5.0, 5.0, 20.0, 40.0)) + rng.random() * rng.choice((0.05, 3, 20))
        wish = Wish(f"wish-{number}", min(at_s, SCRIPT_S), self._request())
        if rng.random() < 0.07 and self._messages < MESSAGES_MAX:
            self._messages += 1
            wish.request, wish.message = None, "nothing to do"
        if rng.random() < 0.4 or self.is_impatient:
            wish.cancel_after_s = rng.choice((0.0, 0.05, 1.0, 10.0))
        wish.repeats = rng.choice((0, 0, 0, 1, 2))
        return wish

    def _request(self) -> OrderRequest:
        rng = self.rng
        side = rng.choice((Side.BUY, Side.SELL))
        # Sometimes with more digits than the exchange takes: it is for the engine to round.
        amount = Decimal(rng.randint(10, 2_000)).scaleb(-5)
        if rng.random() < 0.2:
            amount += Decimal(rng.randint(1, 999)).scaleb(-8)
        kind = rng.random()
        if kind < 0.25:
            return OrderRequest(symbol=OURS, side=side, type=OrderType.MARKET, amount=amount)
        # Better than the market is for others to take; worse takes at once.
        away = Decimal(rng.choice((-30_000, -3_000, -300, -10, 0, 1, 10, 300, 20_000))).scaleb(-2)
        price = Decimal(90_000) + (away if side is Side.BUY else -away)
        if rng.random() < 0.1:
            price += Decimal("0.005")
        time_in_force = rng.choice(
            (
                None,
                TimeInForce.GTC,
                TimeInForce.GTC,
                TimeInForce.IOC,
                TimeInForce.FOK,
                TimeInForce.PO,
            )
        )
        return OrderRequest(
            symbol=OURS,
            side=side,
            type=OrderType.LIMIT,
            amount=amount,
            price=price,
            time_in_force=time_in_force,
        )

    def _plan_world(self) -> None:
        rng, agenda, host = self.rng, self.agenda, self.host
        for _ in range(rng.randint(5, 25)):
            ticks = rng.choice((-2_000, -300, -30, 30, 300, 2_000))
            agenda.at(self._moment(), lambda ticks=ticks: host.move(ticks))  # type: ignore[misc]
        for _ in range(rng.randint(0, 15)):
            is_buy, quantity = rng.random() < 0.5, rng.randint(10, 3_000) * 1_000
            agenda.at(
                self._moment(),
                lambda b=is_buy, q=quantity: host.someone_trades(is_buy=b, quantity=q),  # type: ignore[misc]
            )
        plans: tuple[tuple[str, Callable[[], None]], ...] = (
            ("key revoked", lambda: host.revoke_key(rng.uniform(1, 20))),
            ("venue clock step", self._step_venue_clock),
            ("own clock step", self._step_own_clock),
            ("loop stall", self._stall),
            ("disk full", lambda: self.disk.fail_at(self.disk.writes + 1)),
            ("disk error", lambda: self.disk.fail_at(self.disk.writes + 1, 5)),
            ("second engine", self._start_second),
            ("orderly restart", self._ask_to_stop),
            ("foreign order", self._owner_orders),
            ("foreign cancel", self._owner_cancels),
            ("another bagbot", self._another_orders),
            ("deposit", self._owner_pays),
        )
        for name, act in plans:
            if name in self.faults.others:
                is_wanted = name in self.wanted
                for _ in range(rng.randint(4, 8) if is_wanted else rng.randint(1, 3)):
                    moment = self._moment() // (2 if is_wanted else 1)
                    if name == "orderly restart" and rng.random() < 0.6:
                        # While something is on its way.
                        busy_s = rng.choice(self.wishes).at_s + rng.uniform(0, 0.03)
                        moment = int(busy_s * NS)
                    agenda.at(moment, lambda n=name, a=act: self._strike(n, a))  # type: ignore[misc]
        if rng.random() < 0.25:
            on_s = rng.uniform(1, 50)
            if rng.random() < 0.6:
                # In the very moment in which something is being written down.
                on_s = rng.choice(self.wishes).at_s + rng.uniform(0, 0.03)
            self.kill_on_s, self.kill_off_s = on_s, on_s + rng.uniform(1, 60)
        else:
            self.kill_on_s, self.kill_off_s = None, None
        agenda.at(self._heal_ns, self._heal)

    def _moment(self) -> int:
        return int(self.rng.uniform(0.5, HEAL_S - 5) * NS)

    def _strike(self, name: str, act: Callable[[], None]) -> None:
        if self.faults.strikes(name):
            self.oracle.note("fault", name)
            act()

    def _heal(self) -> None:
        self.oracle.note("healed")
        self.faults.healed = True
        self.host.revoke_key(0)
        self.disk.repair()

    def _step_venue_clock(self) -> None:
        self.host.offset_ns += self.rng.choice((-3, -1, 1, 3)) * NS

    def _step_own_clock(self) -> None:
        self.clock.start_ns += self.rng.choice((-300, -5, 5, 300)) * NS

    def _stall(self) -> None:
        # The machine stands still; the world does not.
        stalled_ns = int(self.rng.choice((1, 9, 30)) * NS)
        self._stalled_ns += stalled_ns
        self.agenda.run_until(self.agenda.now_ns + stalled_ns)

    def _start_second(self) -> None:
        if self.engine is None or not self.disk.is_held:
            return
        with suppress(JournalError):
            CrashableJournal(self.disk)
            self.oracle.fail("S16", "a second engine has opened the journal of the first")

    def _ask_to_stop(self) -> None:
        self.stops_at_ns = self.agenda.now_ns
        if self._stop is not None:
            self._stop.set()

    def _owner_orders(self) -> None:
        rng = self.rng
        self.host.own_hand_orders(
            is_buy=rng.random() < 0.5,
            quantity=rng.randint(10, 500) * 1_000,
            price=90_000 * ONE + rng.randint(-200, 200) * ONE,
            name=f"web_{rng.getrandbits(32):x}",
        )

    def _another_orders(self) -> None:
        """Let an engine with a journal of its own trade the same account."""
        name = "bb" + "".join(self.rng.choices("abcdefghijklmnopqrstuvwxyz234567", k=24))
        self.oracle.foreign_ids.add(name)
        self.host.contradictions += 1
        price = 90_000 * ONE + self.rng.randint(-200, 200) * ONE
        self.host.own_hand_orders(is_buy=True, quantity=100_000, price=price, name=name)

    def _owner_pays(self) -> None:
        asset, amount = self.rng.choice((("BTC", ONE // 100), ("USDT", 100 * ONE)))
        self.host.own_hand_transfers(asset, self.rng.choice((amount, -amount)))

    async def _look_at_alarms(self, engine: OrderExecutor) -> None:
        """What contradicted itself is put aside by the owner, who has looked at it, now and then.

        An order of unknown outcome is proven absent only while nothing is left over.
        """
        longest_s = 4 if "another bagbot" in self.wanted else 20
        while True:
            await asyncio.sleep(self.rng.uniform(min(2, longest_s / 4), longest_s))
            if engine.disputes and not self.oracle.is_killed and engine.killed is None:
                await self._put_aside(engine)

    async def _put_aside(self, engine: OrderExecutor) -> None:
        with suppress(JournalError):
            await engine.set_kill_switch(None, by="chaos")
            # What came while it was written must not be put aside with it, in memory alone.
            if engine.not_ready_reason is None:
                self.oracle.replay_equals(engine.state)

    def _owner_cancels(self) -> None:
        opened = self.host.venue.exchange.open_orders(1, SYMBOL)
        # What has filled in part is what an owner sees first.
        among = [order for order in opened if order.executed] or opened
        if "cancel renames" in self.wanted:
            # And what no direct query shows is what a cancel hides for good.
            among = [o for o in among if self.host.is_blind_to(o.order_id)] or among
        if among:
            self.host.own_hand_cancels(self.rng.choice(among).order_id)

    # A life.

    def live(self) -> None:
        """Let one engine start, work, and end, one way or another."""
        self.lives += 1
        life = OneLife(self.lives)
        loop = VirtualLoop(self.agenda, self.watch)
        self.watch.new_life()
        if self.lives > LIVES_MAX:
            self.oracle.fail("L1", f"{LIVES_MAX} lives were not enough")
        self._damage_a_copy()
        journal: WatchedJournal | None = None
        complaints = loop.complaints
        snapshot = self._leave_snapshot()
        try:
            self.oracle.life_begins(life)
            self.oracle.is_killed = self.switch == "on"
            journal = WatchedJournal(self)
            loop.run_until_complete(self._life(life, journal, snapshot))
        except Crash as crash:
            self.oracle.note("crash", crash)
            complaints = []
        except StandstillError:
            self.oracle.fail("L1", "the engine waits for what will never come")
        finally:
            life.is_dead = True
            self.engine = self._stop = None
            if self._exchange is not None:
                self._exchange.session = None
            if journal is not None:
                journal.crash(self.rng)
            for socket in life.sockets:
                socket.abandon()
            loop.kill()
            self.disk.repair()
            if snapshot is not None:
                snapshot.unlink()
        for complaint in complaints:
            self.oracle.fail("S12", f"nobody looked at an error: {complaint}")
        if not self.is_done:
            self.agenda.run_until(self.agenda.now_ns + int(self.rng.uniform(0.1, 5) * NS))

    def _damage_a_copy(self) -> None:
        """Flip one bit of what was promised: a journal that reads on has not looked."""
        if self.disk.flushed and self.faults.strikes("disk damaged"):
            copy = JournalDisk()
            copy.data, copy.flushed = bytearray(self.disk.data), self.disk.flushed
            copy.data[self.rng.randrange(copy.flushed)] ^= 1 << self.rng.randrange(8)
            with suppress(JournalError):
                for _ in CrashableJournal(copy).replay():
                    pass
                self.oracle.fail("S8", "a damaged journal is read as if it were whole")

    def _leave_snapshot(self) -> Path | None:
        """Write what an earlier life may have left: the fold of some rows, or what only looks so.

        A real file, because nothing waits for it; its name is in no trace.
        """
        asked = ("snapshot", "snapshot stale", "snapshot damaged")
        kinds = [kind for kind in asked if kind in self.faults.others]
        if not kinds or not self.disk.flushed:
            return None
        kind = self.rng.choice(kinds)
        if not self.faults.strikes(kind):
            return None
        rows = [row for _, frame in self.disk.frames() for row in frame]
        told = self.rng.randint(1, len(rows))
        mark = Mark(rows[told - 1][0], rows[told - 1][-1])
        if kind == "snapshot stale":
            # Rows that a power cut took, and others came in their place.
            mark = Mark(mark.sequence, hashlib.sha256(mark.hash).digest())
            told = self.rng.randint(0, told - 1)
        state = AccountState()
        state.replay(Record(row[3], row[4], row[2], row[5]) for row in rows[:told])
        handle, name = tempfile.mkstemp(prefix="bagbot-chaos-")
        os.close(handle)
        path = Path(name)
        write_snapshot(path, snapshot_of(state, mark))
        if kind == "snapshot damaged":
            content = bytearray(path.read_bytes())
            content[self.rng.randrange(len(content))] ^= 1 << self.rng.randrange(8)
            path.write_bytes(content)
        return path

    def _connector(self, life: OneLife) -> binance_connector.BinanceConnector:
        connector = binance_connector.BinanceConnector(
            API_KEY,
            API_SECRET,
            base_url="http://127.0.0.1:9",
            orders_by_stream=self.orders_by_stream,
        )
        exchange = connector.exchange
        exchange.session = InProcessSession(self.host, life)
        exchange.own_session = False
        exchange.ssl_context = False
        self._exchange = exchange
        return connector

    async def _life(self, life: OneLife, journal: WatchedJournal, snapshot: Path | None) -> None:
        self.stops_at_ns = None
        self._stop = None
        connector = self._connector(life)
        engine = OrderExecutor(
            connector=connector,
            journal=journal,
            risk_manager=RiskManager(self.limits),
            clock=self.clock,
            settings=self.settings,
            snapshot=snapshot,
        )
        engine.listen(self._listen)
        try:
            async with engine:
                self.engine = engine
                self.oracle.note("ready")
                # A full disk halts it a moment later.
                if snapshot is not None and journal._failure is None:
                    self.oracle.replay_equals(engine.state)
                if not self.oracle.may_be_alarmed:
                    self.oracle.require(not engine.disputes, "S12", f"{engine.disputes}")
                await self._work(engine)
                if self.is_done:
                    self.oracle.settled(engine.state)
                    refusals = self.host.refusals
                    self.oracle.require(not refusals, "S14", "the exchange's limits were exceeded")
        except (BagbotError, TimeoutError) as error:
            # It did not come up; whoever runs it starts it again.
            self.oracle.note("failed", type(error).__name__)
        finally:
            self.engine = None
        await journal.close()

    async def _work(self, engine: OrderExecutor) -> None:
        tasks = [
            asyncio.ensure_future(self._call(engine, wish))
            for wish in self.wishes
            if not wish.is_over
        ]
        if self.kill_on_s is not None:
            tasks.append(asyncio.ensure_future(self._switch(engine)))
        watching = asyncio.ensure_future(self._look_at_alarms(engine))
        self._stop = asyncio.Event()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._stop.wait()
            done = [task for task in tasks if task.done()]
            for task in done:
                task.result()
            if len(done) == len(tasks) and self.faults.healed:
                break
            if self._must_stop(engine):
                break
            if self.agenda.now_ns > self._heal_ns + SETTLE_S * NS:
                self.oracle.fail("L1", "callers are still waiting")
        if not self._must_stop(engine):
            await self._settle(engine)
        for task in (*tasks, watching):
            task.cancel()

    def _must_stop(self, engine: OrderExecutor) -> bool:
        reason = engine.not_ready_reason
        if reason is not None and "has failed" in reason and "journal" not in reason:
            self.oracle.fail("S12", reason)
        return reason is not None or self.stops_at_ns is not None

    async def _call(self, engine: OrderExecutor, wish: Wish) -> None:
        await self._sleep_until(wish.at_s)
        if not wish.is_told:
            asks = [self._ask(engine, wish, wish.request)]
            if self.rng.random() < 0.2:
                asks.append(self._ask(engine, wish, wish.request))
            for told in await asyncio.gather(*asks):
                self.oracle.acknowledged(
                    wish.identity, _print(wish.request), told, is_first=not told.is_repeat
                )
            wish.is_told = True
        while wish.repeats:
            wish.repeats -= 1
            await asyncio.sleep(self.rng.choice((0.0, 0.5, 20.0)))
            request = wish.request
            if request is not None and self.rng.random() < 0.3:
                request = self._request()
            told = await self._ask(engine, wish, request)
            self.oracle.acknowledged(wish.identity, _print(request), told, is_first=False)
        if wish.cancel_after_s is not None:
            await asyncio.sleep(wish.cancel_after_s)
            await self._cancel_impatiently(engine, intent_id("main", wish.identity))
            wish.cancel_after_s = None

    async def _ask(
        self, engine: OrderExecutor, wish: Wish, request: OrderRequest | None
    ) -> Submission:
        def plan(view: View) -> OrderIntent | str:
            del view
            return wish.message if request is None else self._intent(wish.identity, request)

        while True:
            with suppress(NotReadyError, JournalError):
                if request is not None and self.rng.random() < 0.5:
                    return await engine.submit(self._intent(wish.identity, request))
                return await engine.decide(
                    identity=wish.identity,
                    fingerprint=_print(request),
                    symbol=OURS,
                    plan=plan,
                )
            await asyncio.sleep(1.0)

    def _intent(self, identity: str, request: OrderRequest) -> OrderIntent:
        return OrderIntent(
            id=intent_id("main", identity),
            account="main",
            request=request,
            source="chaos",
            identity=identity,
            time_ns=self.clock.time_ns(),
            fingerprint=_print(request),
        )

    async def _cancel(self, engine: OrderExecutor, order_id: str) -> None:
        self.oracle.note("cancel", order_id)
        with suppress(BagbotError, KeyError, TimeoutError):
            await engine.cancel(order_id)

    async def _cancel_impatiently(self, engine: OrderExecutor, order_id: str) -> None:
        count = 4 if self.is_impatient else self.rng.choice((1, 1, 2))
        await asyncio.gather(*(self._cancel(engine, order_id) for _ in range(count)))

    async def _switch(self, engine: OrderExecutor) -> None:
        assert self.kill_on_s is not None
        assert self.kill_off_s is not None
        if self.switch == "off" and engine.killed is not None:
            # The call was cut short by a crash or a bad disk, and what it wrote is there all the
            # same: the owner sees that it is on. Else nobody would ever turn it off.
            self.switch, self.oracle.is_killed = "on", True
            self.oracle.note("found killed")
        if self.switch == "off" and self.agenda.now_ns < self.kill_off_s * NS:
            await self._sleep_until(self.kill_on_s)
            # It works at once; that it will outlive a crash is promised when the call returns.
            self.oracle.is_killed = True
            with suppress(JournalError):
                await engine.set_kill_switch("a drill", by="chaos")
                self.switch = "on"
                self.oracle.note("killed")
        if self.switch == "on":
            self.oracle.require(engine.killed is not None, "S11", "the kill switch is forgotten")
            await self._sleep_until(self.kill_off_s)
            # From here on it may be off, whether or not we are told so.
            self.switch, self.oracle.is_killed = "released", False
        if self.switch == "released":
            await self._put_aside(engine)
            self.oracle.note("released")

    async def _sleep_until(self, at_s: float) -> None:
        await asyncio.sleep(max(0.0, at_s - self.agenda.now_ns / NS))

    async def _settle(self, engine: OrderExecutor) -> None:
        """Wait until no outcome is open, cancel what rests, and wait for that as well."""
        deadline_ns = self.agenda.now_ns + int(SETTLE_S * NS)
        # While it is on no alarm is put aside, and no absence is proven: whoever turned it on has
        # turned it off by now.
        self.oracle.require(engine.killed is None, "L1", "the kill switch is still on")
        if engine.state.live:
            # An engine that stood still when it was told to wait counts from when it goes on.
            quiet_ns = self.oracle.banned_until_ns + self._stalled_ns
            banned_s = max(0.0, (quiet_ns - self.agenda.now_ns) / NS)
            await asyncio.sleep(
                banned_s + NOTICE_AUDITS * self.settings.audit_interval_s + NOTICE_S
            )
            if self._must_stop(engine):
                return
            self._all_noticed(engine)
        while unsettled := self._unsettled(engine):
            for order in unsettled:
                is_token = order.intent.source == TOKEN_SOURCE
                if order.exchange_order_id is not None and not is_token:
                    await self._cancel(engine, order.id)
            await asyncio.sleep(5.0)
            if self._must_stop(engine):
                return
            if self.agenda.now_ns > deadline_ns:
                stuck = {order.id: order.status.value for order in unsettled}
                self.oracle.fail("L1", f"not settled: {stuck}")
        if not self.oracle.may_be_alarmed:
            self.oracle.require(not engine.disputes, "S12", f"{engine.disputes}")
        await asyncio.sleep(1.0)
        await self._settle_books(engine)
        self.is_done = not self._unsettled(engine) and not self._must_stop(engine)

    def _unsettled(self, engine: OrderExecutor) -> list[Order]:
        """Return the orders that have not ended, but for as many tokens as are to rest."""
        state = engine.state
        live = [state.orders[order_id] for order_id in state.live]
        resting = [
            order
            for order in live
            if order.intent.source == TOKEN_SOURCE and order.status is OrderStatus.OPEN
        ]
        kept = {order.id for order in resting[: self.settings.tokens_per_symbol]}
        return [order for order in live if order.id not in kept]

    async def _settle_books(self, engine: OrderExecutor) -> None:
        """Wait until every trade of the account is booked, and what none explains is told (S5)."""
        settings = self.settings
        books_s = (
            BOOKS_AUDITS * settings.audit_interval_s + 2 * settings.replica_lag_max_s + BOOKS_S
        )
        deadline_ns = self.agenda.now_ns + int(books_s * NS)
        while (wrong := self.oracle.wrong_in_books(engine.state)) is not None:
            await asyncio.sleep(5.0)
            if self._must_stop(engine):
                return
            self.oracle.require(self.agenda.now_ns < deadline_ns, "S5", wrong)

    def _all_noticed(self, engine: OrderExecutor) -> None:
        """What has ended at the exchange must be known by now, without anybody asking (L2)."""
        for order_id in engine.state.live:
            known = engine.state.orders[order_id]
            if known.exchange_order_id is not None:
                truth = self.host.orders[int(known.exchange_order_id)]
                self.oracle.require(
                    truth.is_open, "L2", f"{order_id} is {known.status}, but {truth.status}"
                )

    def _listen(self, order: Order, entry: object) -> None:
        self.oracle.note("published", order.id, order.status.value, type(entry).__name__)

    def outcome(self) -> Outcome:
        """Return what came of it."""
        statuses: Counter[str] = Counter()
        for known in self.oracle.appended.orders.values():
            statuses[known.kinds[-1] if known.kinds else "INTENT"] += 1
        return Outcome(
            seed=self.seed,
            trace=self.oracle.trace,
            orders=len(self.oracle.appended.orders),
            lives=self.lives,
            events=self.oracle.events,
            faults=self.faults.struck,
            points=Counter(self.watch.hit),
            statuses=statuses,
            venue_refusals=self.host.refusals,
        )


def _print(request: OrderRequest | None) -> str:
    return "nothing" if request is None else f"{request.side} {request.amount} {request.price}"


def run_seed(
    seed: int,
    *,
    says: Callable[[str], None] | None = None,
    triggers: list[Trigger] | None = None,
) -> Outcome:
    """Run one seed to its end and return its outcome; `says` hears every line of its trace."""
    world = World(seed, triggers)
    world.oracle.says = says
    virtual: Any = VirtualTime(world.agenda)
    times = [(module, "time", virtual) for module in _ASKS_THE_TIME]
    violation = ""
    try:
        with _put_in([*world.sizes, *times]):
            while not world.is_done:
                world.live()
    except Violation as found:
        violation = str(found)
    except Exception as error:
        violation = f"broken: {type(error).__name__}: {error}"
        if says is not None:
            raise
    finally:
        world.host.store.close()
    outcome = world.outcome()
    outcome.violation = violation
    return outcome

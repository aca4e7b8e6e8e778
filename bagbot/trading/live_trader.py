"""Trades a strategy live: closed bars -> the strategy -> the one path of an order.

A decision is written down before anything of it is sent, and each of its orders has an identity
made of the strategy, the bar and the order's number: whoever is killed and comes back carries out
what is missing of the last decision, and nothing twice. docs/decisions/0007-live-strategies.md says
what becomes of the bars that closed meanwhile.
"""

import ast
import asyncio
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final

import numpy
import structlog
from numpy.typing import NDArray

from bagbot.domain.bars import Bars
from bagbot.domain.clock import Clock
from bagbot.domain.errors import (
    ConfigError,
    ExchangeError,
    NotSupportedError,
    StrategyError,
)
from bagbot.domain.events import Fill
from bagbot.domain.instrument import Instrument
from bagbot.domain.ohlcv import Ohlcv, timeframe_ms
from bagbot.domain.order import (
    Order,
    OrderIntent,
    OrderRequest,
    OrderStatus,
    OrderType,
    intent_id,
)
from bagbot.trading.connectors.interface import IExchangeConnector
from bagbot.trading.journal_records import BarDecided, Command, Doing, Entry, StrategyBegun
from bagbot.trading.kernel_tables import REASONS, UNKNOWN_ORDER
from bagbot.trading.live_desk import DeskFill, DeskOrder, LiveDesk
from bagbot.trading.order_executor import OrderExecutor
from bagbot.trading.strategy import History, Strategy, prepare
from bagbot.trading.submission import OrderConflictError, View

logger = structlog.get_logger(__name__)

_NEEDED: Final = ("fetch_ohlcv", "fetch_order", "load_instruments", "watch_closed_bars")
_TOGETHER: Final = frozenset({"pair", "parent", "stop_loss", "take_profit"})
_ID: Final = re.compile(r"[A-Za-z0-9._/-]{1,100}")
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_CANCEL_ATTEMPTS: Final = 5
_NOT_OWN: Final = frozenset({"parameters", "index", "_desk", "_history"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """How one strategy trades: `cash` of the quote asset is its own, whatever the account holds.

    Under its `strategy_id` it is found again after a restart. It sees `history_bars` bars from
    before its beginning (at most 1000). Each order waits `answer_timeout_s` for the exchange's
    answer to the one before; an outcome that stays unknown for longer is followed all the same.
    With `bars_max` it stops once it has looked at so many bars.
    """

    strategy_id: str
    symbol: str
    timeframe: str = "1m"
    cash: Decimal = Decimal(10_000)
    history_bars: int = 500
    answer_timeout_s: float = 30.0
    bars_max: int | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for an id that could be taken for another one's."""
        if not _ID.fullmatch(self.strategy_id):
            raise ConfigError(
                f"a strategy's id is 1 to 100 letters, digits and any of ._/-, "
                f"not {self.strategy_id!r}"
            )


class LiveTrader:
    """One strategy on one market, through one executor.

    `on_bar_done` is called with the time at which a bar opened once all that was decided after it
    is carried out. Raises NotSupportedError for a strategy whose orders can't be sent live yet.
    """

    def __init__(
        self,
        *,
        executor: OrderExecutor,
        connector: IExchangeConnector,
        strategy: Strategy,
        settings: LiveSettings,
        clock: Clock,
        on_bar_done: Callable[[int], None] = lambda bar_ms: None,
    ) -> None:
        require_tradable(type(strategy))
        missing = sorted(set(_NEEDED) - connector.capabilities)
        if missing:
            raise NotSupportedError(
                f"{connector.name} lacks {missing[0]}: no strategy trades on it"
            )
        if ":" in settings.symbol:
            raise NotSupportedError("strategies trade live on spot only, so far")
        self._executor = executor
        self._connector = connector
        self._strategy = strategy
        self._settings = settings
        self._clock = clock
        self._on_bar_done = on_bar_done
        self._source = f"strategy:{settings.strategy_id}"
        self._identities: dict[int, str] = {}
        self._number_of: dict[str, int] = {}
        self._changed: set[str] = set()
        self._counted: dict[str, int] = {}

    async def run(self) -> None:
        """Trade until cancelled, until the connector is closed, or for `bars_max` bars.

        Raises StrategyError, or what the strategy itself raised, when it fails: then nothing of
        that bar was sent. ConfigError when something else has begun under its id.
        """
        instrument = await self._instrument()
        begun = await self._begun()
        self._desk = LiveDesk(instrument, begun.cash)
        self._bars = _GrowingBars(instrument, timeframe_ms(begun.timeframe))
        self._recall()
        self._tell_what_stays()
        self._executor.listen(self._hear)
        bars = self._connector.watch_closed_bars(
            begun.symbol, begun.timeframe, since_ms=begun.anchor_ms
        )
        try:
            left = self._settings.bars_max
            async for bar in bars:
                self._bars.add(bar)
                if await self._after(begun, bar.open_time_ms) and left is not None:
                    left -= 1
                    if left == 0:
                        break
        finally:
            close = getattr(bars, "aclose", None)
            if close is not None:
                await close()

    def orders(self) -> dict[int, Order | None]:
        """Return the strategy's orders by number; None for one that was never sent."""
        return {number: self._order(number) for number in sorted(self._identities)}

    # ------------------------------------------------------------- beginning

    async def _instrument(self) -> Instrument:
        known = await self._connector.load_instruments()
        if self._settings.symbol not in known:
            raise ConfigError(f"{self._connector.name} does not trade {self._settings.symbol}")
        return known[self._settings.symbol]

    async def _begun(self) -> StrategyBegun:
        settings, strategy = self._settings, self._strategy
        known = self._executor.state.strategies.get(settings.strategy_id)
        told = {
            "name": type(strategy).__name__,
            "parameters": dict(strategy.parameters),
            "symbol": settings.symbol,
            "timeframe": settings.timeframe,
            "cash": settings.cash,
        }
        if known is not None:
            for name, value in told.items():
                before = getattr(known.begun, name)
                if before != value:
                    raise ConfigError(
                        f"the strategy {settings.strategy_id} began with {name} {before}, not "
                        f"{value}; give this one another id"
                    )
            return known.begun
        rows = await self._connector.fetch_ohlcv(
            settings.symbol, settings.timeframe, limit=settings.history_bars + 1
        )
        if not rows:
            raise ConfigError(f"there are no bars of {settings.symbol} yet")
        begun = StrategyBegun(
            time_ns=self._clock.time_ns(),
            strategy_id=settings.strategy_id,
            name=type(strategy).__name__,
            parameters=dict(strategy.parameters),
            symbol=settings.symbol,
            timeframe=settings.timeframe,
            cash=settings.cash,
            anchor_ms=rows[0].open_time_ms,
            first_ms=rows[-1].open_time_ms,
        )
        await self._executor.note_strategy(begun)
        logger.info("strategy begun", strategy=settings.strategy_id, name=begun.name)
        return begun

    def _recall(self) -> None:
        """Find the orders of an earlier life again, and what the strategy remembered."""
        state, begin = self._executor.state, f"{self._source}:"
        for identity, known in state.known.items():
            if not identity.startswith(begin):
                continue
            bar_ms, number = map(int, identity.removeprefix(begin).split(":"))
            self._desk.known(number, DeskOrder(bar_ms, None))
            self._identities[number] = identity
            if known.order_id is not None:
                self._number_of[known.order_id] = number
                self._changed.add(known.order_id)
        decided = self._last_decision
        if decided is not None:
            for command in decided.commands:
                if command.number and command.number not in self._identities:
                    self._desk.known(command.number, DeskOrder(decided.bar_ms, command.request))
            self._desk.numbers = max(self._desk.numbers, decided.numbers)
            self._strategy.__dict__.update(_remembered(decided.state))
        self._catch_up()

    @property
    def _last_decision(self) -> BarDecided | None:
        known = self._executor.state.strategies.get(self._settings.strategy_id)
        return None if known is None else known.decided

    # ------------------------------------------------------------ every bar

    async def _after(self, begun: StrategyBegun, bar_ms: int) -> bool:
        """Decide after a bar that has closed; return False when that was done long ago."""
        last = self._last_decision
        if bar_ms < begun.first_ms or (last is not None and bar_ms < last.bar_ms):
            return False
        is_newest = await self._looked(bar_ms)
        self._catch_up()
        if last is not None and bar_ms == last.bar_ms:
            # Of a decision that was made before we were interrupted a part may be missing.
            await self._carry_out(last, is_newest=is_newest)
            self._on_bar_done(bar_ms)
            return True
        # The strategy is the user's code, and takes as long as it takes.
        if await asyncio.to_thread(self._decide, is_first=last is None):
            decided = BarDecided(
                time_ns=self._clock.time_ns(),
                strategy_id=begun.strategy_id,
                bar_ms=bar_ms,
                state=_stored(self._strategy, self._constants),
                numbers=self._desk.numbers,
                commands=tuple(self._desk.commands),
            )
            await self._executor.note_strategy(decided)
            await self._carry_out(decided, is_newest=is_newest)
        self._on_bar_done(bar_ms)
        return True

    async def _looked(self, bar_ms: int) -> bool:
        """Learn what the open orders have done; return whether no later bar has closed yet."""
        pause_s = _FIRST_PAUSE_S
        settings = self._settings
        while True:
            try:
                await self._executor.refresh(settings.symbol)
                rows = await self._connector.fetch_ohlcv(
                    settings.symbol, settings.timeframe, limit=2
                )
            except (ExchangeError, TimeoutError) as error:
                logger.warning("no answer before a decision, asked again", error=str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            # Of what is told all but the last has closed.
            return not any(row.open_time_ms > bar_ms for row in rows[:-1])

    def _decide(self, *, is_first: bool) -> bool:
        """Let the strategy see the bars and decide; return False while it is warming up."""
        bars = self._bars.bars()
        scratch = self._strategy.fresh()
        prepared = prepare(scratch, bars)
        if is_first:
            # What `prepare` sets besides series is where the strategy's own state begins.
            self._strategy.__dict__.update(_own(scratch, prepared.series))
        self._constants = _arrays(_own(scratch, prepared.series))
        self._strategy.__dict__.update(self._constants)
        index = len(bars) - 1
        if index < prepared.first:
            return False
        self._desk.open_bar(bars)
        self._strategy._desk = self._desk
        History(self._strategy, prepared.series).advance_to(index)
        try:
            self._strategy.on_bar()
        except Exception as error:
            error.add_note(
                f"{type(self._strategy).__name__}.on_bar(), bar {index}, which opened at "
                f"{bars.open_time_ms[-1]} ms; nothing of this bar was sent"
            )
            raise
        return True

    # ------------------------------------------------------------- commands

    async def _carry_out(self, decided: BarDecided, *, is_newest: bool) -> None:
        """Do what was decided, one thing after the other, each once its forerunner is answered."""
        gone: set[int] = set()
        for place, command in enumerate(decided.commands):
            if command.doing is Doing.CANCEL:
                gone.add(command.target)
                await self._cancel(command.target)
            elif command.doing is Doing.CANCEL_ALL:
                # Once more after an interruption, it must not reach what was placed after it.
                later = [each.number for each in decided.commands[place:] if each.number]
                for number in self._desk.open_numbers():
                    if not later or number < later[0]:
                        gone.add(number)
                        await self._cancel(number)
            else:
                request = command.request
                if command.doing is Doing.AMEND and request is not None:
                    request = await self._amended(command, request, gone)
                    gone.add(command.target)
                await self._place(decided.bar_ms, command, request, is_newest=is_newest)
            self._catch_up()
            if command.doing is Doing.CLOSE:
                self._tell_what_stays()

    async def _place(
        self, bar_ms: int, command: Command, request: OrderRequest | None, *, is_newest: bool
    ) -> None:
        """Send one order, or write down why it is not sent; a repeat does nothing."""
        number, symbol = command.number, self._settings.symbol
        identity = f"{self._source}:{bar_ms}:{number}"
        account = self._executor.account

        def plan(view: View) -> OrderIntent | str:
            if request is None:
                return command.refusal or REASONS[UNKNOWN_ORDER]
            sent = self._desk.on_steps(request)
            if sent is None:
                return "not sent: less than the exchange's tick or lot of today is left of it"
            if not is_newest and not self._desk.only_reduces(sent):
                return "not sent: later bars have closed since it was decided"
            return OrderIntent(
                id=intent_id(account, identity),
                account=account,
                request=sent,
                source=self._source,
                identity=identity,
                time_ns=self._clock.time_ns(),
            )

        taken = await self._executor.decide(
            identity=identity, fingerprint="", symbol=symbol, plan=plan
        )
        self._identities[number] = identity
        if taken.order is None:
            logger.info("no order", strategy=self._source, number=number, reason=taken.message)
            return
        self._number_of[taken.order.id] = number
        order = await self._executor.until_answered(taken.order.id, self._settings.answer_timeout_s)
        self._changed.add(order.id)
        if order.status is OrderStatus.UNKNOWN:
            logger.warning("no answer to an order; going on", order_id=order.id, number=number)

    async def _cancel(self, number: int) -> None:
        """Cancel one order and return once it has ended; nothing happens if it has."""
        pause_s = _FIRST_PAUSE_S
        for _ in range(_CANCEL_ATTEMPTS):
            order = self._order(number)
            if order is None or order.is_final:
                return
            self._changed.add(order.id)
            try:
                await self._executor.until_answered(order.id, self._settings.answer_timeout_s)
                order = await self._executor.cancel(order.id)
                if order.is_final:
                    return
            except OrderConflictError as error:
                logger.info("nothing to cancel", order_id=order.id, reason=str(error))
            except (ExchangeError, TimeoutError) as error:
                logger.warning("cancel failed, tried again", order_id=order.id, error=str(error))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        logger.error("an order could not be cancelled", strategy=self._source, number=number)

    def _tell_what_stays(self) -> None:
        """Tell the owner of what `close_position()` can't sell any more."""
        if self._desk.off_lot:
            logger.warning(
                "old fills are off the exchange's lot: a part of the position can't be sold",
                strategy=self._settings.strategy_id,
                amount=str(self._desk.off_lot),
            )

    async def _amended(
        self, command: Command, request: OrderRequest, gone: set[int]
    ) -> OrderRequest | None:
        """Cancel the old order; return what replaces it, or None when there was nothing to replace.

        The old order's own cancellation says that it was ours to replace: so an interruption
        between the two changes nothing.
        """
        old = self._order(command.target)
        if old is None or command.target in gone:
            return None
        if request.type.is_conditional and request.type.has_limit and await self._triggered(old):
            # It is the limit order now that it was waiting to be.
            request = replace(
                request, type=OrderType.LIMIT, trigger_price=None, trailing_delta=None
            )
        await self._cancel(command.target)
        old = self._order(command.target)
        if old is None or old.status is not OrderStatus.CANCELLED or not old.cancel_ids:
            return None
        return replace(request, amount=old.remaining) if command.keeps_left else request

    async def _triggered(self, order: Order) -> bool:
        try:
            async with asyncio.timeout(self._settings.answer_timeout_s):
                told = await self._connector.fetch_order(
                    order.exchange_order_id,
                    order.intent.request.symbol,
                    client_order_id=order.client_order_id,
                )
        except (ExchangeError, TimeoutError) as error:
            logger.warning(
                "not known whether it has triggered", order_id=order.id, error=str(error)
            )
            return False
        return bool(told.has_triggered)

    # ------------------------------------------------------------ its orders

    def _order(self, number: int) -> Order | None:
        known = self._executor.state.known.get(self._identities.get(number, ""))
        if known is None or known.order_id is None:
            return None
        return self._executor.state.orders[known.order_id]

    def _hear(self, order: Order, entry: Entry) -> None:
        if order.id in self._number_of:
            self._changed.add(order.id)

    def _catch_up(self) -> None:
        """Tell the desk what has become of its orders, with the fills in the order of trades."""
        news: list[tuple[tuple[int, int], DeskFill]] = []
        # What is open is looked at itself: whoever listens is told only once it is on disk.
        alive = {order.id for order in map(self._order, self._desk.open_numbers()) if order}
        for order_id in self._changed | alive:
            order = self._executor.state.orders[order_id]
            self._desk.tell(self._number_of[order_id], order)
            trades = list(order.fills.values())
            for fill in trades[self._counted.get(order_id, 0) :]:
                news.append((_moment(fill), DeskFill(order.intent.request.side, fill)))
            self._counted[order_id] = len(trades)
        self._changed.clear()
        self._desk.book(fill for _, fill in sorted(news, key=lambda each: each[0]))


class _GrowingBars:
    """Bars of one market, one more at a time."""

    def __init__(self, instrument: Instrument, interval_ms: int) -> None:
        self._instrument = instrument
        self._interval_ms = interval_ms
        self._columns = numpy.zeros((6, 1024), numpy.int64)
        self._count = 0

    def add(self, bar: Ohlcv) -> None:
        """Take in the bar that has closed."""
        if self._count == self._columns.shape[1]:
            self._columns = numpy.hstack((self._columns, numpy.zeros_like(self._columns)))
        tick, lot = self._instrument.tick_size, self._instrument.lot_size
        # Old bars may lie off today's steps: the nearest step then.
        prices = (bar.open, bar.high, bar.low, bar.close)
        self._columns[:, self._count] = (
            bar.open_time_ms,
            *(_steps(price, tick) for price in prices),
            _steps(bar.volume, lot),
        )
        self._count += 1

    def bars(self) -> Bars:
        """Return all of them."""
        columns = self._columns[:, : self._count]
        return Bars(
            instrument=self._instrument,
            interval_ms=self._interval_ms,
            open_time_ms=columns[0],
            open=columns[1],
            high=columns[2],
            low=columns[3],
            close=columns[4],
            volume=columns[5],
        )


def require_tradable(strategy: type[Strategy]) -> None:
    """Raise NotSupportedError for a strategy whose orders belong together: none is sent live yet.

    It is looked for in the source, so that nothing has been traded by then.
    """
    for cls in strategy.__mro__[: strategy.__mro__.index(Strategy)]:
        try:
            lines, first = inspect.getsourcelines(cls)
        except (OSError, TypeError):
            continue
        for call in ast.walk(ast.parse(textwrap.dedent("".join(lines)))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
                continue
            if call.func.attr not in ("buy", "sell"):
                continue
            for keyword in call.keywords:
                is_nothing = isinstance(keyword.value, ast.Constant) and not keyword.value.value
                if keyword.arg in _TOGETHER and not is_nothing:
                    raise NotSupportedError(
                        f"{strategy.__name__} uses {keyword.arg}= in self.{call.func.attr}() "
                        f"({inspect.getsourcefile(cls)}:{first + call.lineno - 1}): orders that "
                        f"belong together cannot be sent live yet; nothing was sent"
                    )


def _steps(value: Decimal, step: Decimal) -> int:
    return int((value / step).to_integral_value())


def _moment(fill: Fill) -> tuple[int, int]:
    """Return what puts the trades of one market in their order."""
    if fill.trade_id.isdigit():
        return 0, int(fill.trade_id)
    return 1, fill.exchange_time_ns


def _own(strategy: Strategy, series: Mapping[str, object]) -> dict[str, object]:
    """Return what a strategy has set by itself, its series aside."""
    return {
        name: value
        for name, value in strategy.__dict__.items()
        if name not in series and name not in _NOT_OWN
    }


def _arrays(own: Mapping[str, object]) -> dict[str, NDArray[Any]]:
    """Return the arrays among it, locked: `prepare` makes them anew each time."""
    arrays = {name: value for name, value in own.items() if isinstance(value, numpy.ndarray)}
    for value in arrays.values():
        value.flags.writeable = False
    return arrays


def _stored(strategy: Strategy, constants: Mapping[str, NDArray[Any]]) -> str:
    """Return what a strategy remembers by itself, as JSON.

    Raises StrategyError for what would not come back as it was.
    """
    kept: dict[str, object] = {}
    for name, value in _own(strategy, strategy._history.series).items():
        plain = value.item() if isinstance(value, numpy.generic) else value
        if name in constants and value is constants[name]:
            continue
        if not _is_plain(plain):
            raise StrategyError(
                f"self.{name} is a {type(value).__name__}: what a live strategy remembers from bar "
                f"to bar is numbers, texts, and lists and dictionaries of them, so that it can be "
                f"restarted; nothing of this bar was sent"
            )
        kept[name] = plain
    return json.dumps(kept)


def _is_plain(value: object) -> bool:
    if type(value) is list:
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(key) is str and _is_plain(each) for key, each in value.items())
    return value is None or type(value) in (bool, int, float, str)


def _remembered(state: str) -> dict[str, object]:
    remembered: dict[str, object] = json.loads(state)
    return remembered

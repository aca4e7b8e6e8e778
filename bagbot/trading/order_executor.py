"""The one path of an order: decide -> journal -> send once -> follow until the truth is known.

Sole caller of `create_order` and `cancel_order`. What the executor knows is a fold of its
journal; starting it is recovering it: replay, ask the exchange, go on. An order whose outcome is
not known is UNKNOWN and is looked up; it is never sent again.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from bagbot.domain.clock import Clock
from bagbot.domain.errors import (
    AuthenticationError,
    ExchangeError,
    ExchangeUnavailableError,
    InvalidOrderError,
    JournalError,
    NotSupportedError,
    OrderNotFoundError,
    OrderRejectedError,
    RateLimitedError,
)
from bagbot.domain.events import (
    CancelRequested,
    NotAccepted,
    OrderEvent,
    OutcomeUnknown,
    Refused,
    Rejected,
    Submitted,
    Withdrawn,
)
from bagbot.domain.instrument import Instrument
from bagbot.domain.order import (
    Order,
    OrderIntent,
    OrderRequest,
    OrderStatus,
    client_cancel_id,
    client_order_id,
    on_steps,
)
from bagbot.storage.journal import Journal
from bagbot.trading import order_tokens, reconciler, risk_manager
from bagbot.trading.account_book import AccountBook, Listener
from bagbot.trading.account_state import TOKEN_SOURCE, AccountState, Known
from bagbot.trading.connectors.interface import (
    AccountEvent,
    ExchangeOrder,
    IExchangeConnector,
    SendOrder,
    StreamLost,
    StreamOpened,
)
from bagbot.trading.journal_records import (
    BarDecided,
    DecisionRecorded,
    Entry,
    IntentRecorded,
    KillSwitchSet,
    StrategyBegun,
    record_of,
)
from bagbot.trading.price_feed import PriceFeed
from bagbot.trading.reconciliation import Reconciliation
from bagbot.trading.recovery import recovered
from bagbot.trading.risk_manager import RiskLimits, RiskManager, Snapshot
from bagbot.trading.submission import (
    ExecutorSettings,
    NotReadyError,
    OrderConflictError,
    Plan,
    Submission,
    View,
)

logger = structlog.get_logger(__name__)

_NS: Final = 1_000_000_000
EVENTS_WAITING_MAX: Final = 10_000
INTERRUPTED_AT_ONCE: Final = 1_000
_UNANSWERED: Final = (OrderStatus.PENDING, OrderStatus.SUBMITTED, OrderStatus.UNKNOWN)


class OrderExecutor:
    """Executes the orders of one account through one connector.

    Use it as an async context manager: entering recovers, leaving waits for what is in flight.
    """

    def __init__(
        self,
        *,
        connector: IExchangeConnector,
        journal: Journal,
        risk_manager: RiskManager,
        clock: Clock,
        account: str = "main",
        instruments: Mapping[str, Instrument] | None = None,
        settings: ExecutorSettings | None = None,
        snapshot: Path | None = None,
    ) -> None:
        self.account = account
        self._instruments: Mapping[str, Instrument] = dict(instruments or {})
        self._connector = connector
        self._journal = journal
        self._snapshot_file = snapshot
        self._risk_manager = risk_manager
        self._clock = clock
        self._settings = settings or ExecutorSettings()
        self._capabilities = connector.capabilities
        self._cancel_parameters = frozenset(inspect.signature(connector.cancel_order).parameters)
        self._symbol_of: dict[str, str] = {}
        self._prices = PriceFeed(
            connector,
            clock,
            interval_s=self._settings.price_interval_s,
            age_max_s=self._settings.price_age_max_s,
            timeout_s=self._settings.read_timeout_s,
        )
        self._book = AccountBook(AccountState(), journal, clock, self._halt)
        self._reconciliation = Reconciliation(
            connector, self._book, clock, self._settings, halt=self._halt, cancel=self.cancel
        )
        self._not_ready: str | None = "starting"
        self._tasks = asyncio.TaskGroup()
        self._loops: list[asyncio.Task[None]] = []
        self._sends: set[asyncio.Task[None]] = set()
        self._stream_first = asyncio.Event()
        self._events: asyncio.Queue[AccountEvent] = asyncio.Queue(EVENTS_WAITING_MAX)

    # ------------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        self._book.state, interrupted = recovered(self._journal, self._snapshot_file)
        # A key that is missing or wrong is told now, not at the first order.
        await self._connector.fetch_balance()
        await self._load_instruments()
        await self._tasks.__aenter__()
        try:
            await self._learn_interrupted(interrupted)
            await self._reconciliation.start()
        except BaseException:
            # Nothing runs yet, so leaving the group at once is enough.
            await self._tasks.__aexit__(None, None, None)
            raise
        self._not_ready = None
        self._start(self._reconciliation.keep_looking, "the look-up of orders")
        self._start(self._prices.keep_fresh, "the price feed")
        if self._settings.tokens_per_symbol and self._connector.token_params(""):
            self._start(self._keep_tokens, "the tokens")
        if "watch_events" in self._capabilities:
            self._start(self._follow_stream, "the account stream")
            self._start(self._take_events, "the account's events")
            with suppress(TimeoutError):
                # Without a stream orders are polled, so a slow one must not keep us from trading.
                async with asyncio.timeout(self._settings.read_timeout_s):
                    await self._stream_first.wait()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._not_ready = "stopping"
        for task in self._loops:
            task.cancel()
        if self._sends:
            _, late = await asyncio.wait(self._sends, timeout=self._settings.close_timeout_s)
            for task in late:
                task.cancel()
        await self._tasks.__aexit__(None, None, None)

    @property
    def state(self) -> AccountState:
        """What the account has done and decided, as far as it is known."""
        return self._book.state

    @property
    def limits(self) -> RiskLimits:
        """What the account may do."""
        return self._risk_manager.limits

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """What can be traded, by symbol, by the rules that the exchange has now."""
        return self._connector.instruments or self._instruments

    @property
    def not_ready_reason(self) -> str | None:
        """Why no order is taken now, or None when orders are taken."""
        return self._not_ready

    @property
    def killed(self) -> str | None:
        """Why the kill switch is on, or None when it is off."""
        return self.state.killed

    @property
    def disputes(self) -> Mapping[str, str]:
        """The symbols that may only be reduced, and why: a contradiction, or a residual."""
        if not self.state.holdings.residuals:
            return self.state.disputes
        found = {symbol: self.state.alarm(symbol) for symbol in self.instruments}
        return {symbol: why for symbol, why in found.items() if why} | self.state.disputes

    def listen(self, listener: Listener) -> None:
        """Call `listener(order, what happened)` after each durable change; it must not block."""
        self._book.listeners.append(listener)

    # ------------------------------------------------------------- decisions

    async def submit(self, intent: OrderIntent, *, window_ns: int | None = None) -> Submission:
        """Take an order on and return once it is durable; it is sent at once, once.

        A second intent of the same identity (within `window_ns`, where given) is a repeat and
        does nothing. Raises NotReadyError, or JournalError when it cannot be recorded.
        """
        return await self.decide(
            identity=intent.identity,
            fingerprint=intent.fingerprint,
            symbol=intent.request.symbol,
            plan=lambda view: intent,
            window_ns=window_ns,
        )

    async def decide(
        self,
        *,
        identity: str,
        fingerprint: str,
        symbol: str,
        plan: Plan,
        window_ns: int | None = None,
    ) -> Submission:
        """Let `plan` turn the position as it is now into an order, or into a reason for none.

        Plan, risk check and reservation are one step: nothing else happens in between.
        """
        self._require_ready()
        known = self._known(identity, window_ns)
        if known is None:
            if symbol in self.instruments:
                await self._prices.freshen(symbol)
            self._require_ready()
            known = self._known(identity, window_ns)
        if known is not None:
            return await self._repeat(known, fingerprint)
        # From here to the reservation there is no await, and before it nothing leaves a trace.
        decided = plan(self.view(symbol))
        time_ns = self._clock.time_ns()
        known = Known(fingerprint=fingerprint, time_ns=time_ns)
        known.durable = asyncio.get_running_loop().create_future()
        entries: list[Entry]
        if isinstance(decided, str):
            known.message, request = decided, None
            entries = [
                DecisionRecorded(
                    time_ns=time_ns, identity=identity, fingerprint=fingerprint, message=decided
                )
            ]
        else:
            if decided.account != self.account:
                raise InvalidOrderError(
                    f"this executor trades the account {self.account}, not {decided.account}"
                )
            known.order_id = decided.id
            entries, request = self._judged(decided)
        records = [record_of(entry, known.order_id or "") for entry in entries]
        self.state.remember(identity, known)
        self.state.take_on(entries)
        written = self._journal.append(records)
        # A task of its own: a caller who gives up must not come between the record and the send.
        task = self._tasks.create_task(self._carry_out(known, entries, written, request))
        self._sends.add(task)
        task.add_done_callback(self._sends.discard)
        await asyncio.shield(known.durable)
        order = self.state.orders[known.order_id] if known.order_id else None
        return Submission(order=order, message=known.message)

    def view(self, symbol: str) -> View:
        """Return the position in `symbol` and what is still under way."""
        position = self.state.ledger.position(self.account, symbol).quantity
        buys, sells = self.state.pending_unconditionally(symbol)
        # Tokens are not meant to trade: who plans a position leaves them out.
        buys -= order_tokens.resting(self.state, symbol)
        return View(
            position=position,
            expected=position + buys - sells,
            unknown=self.state.unknown(symbol),
        )

    def resolve_symbol(self, text: str) -> str | None:
        """Return the symbol that `text` means ("BTC/USDT", "BTCUSDT"), or None."""
        if text in self.instruments:
            return text
        return self._symbol_of.get(text.upper())

    async def cancel(self, order_id: str, *, wait_s: float | None = None) -> Order:
        """Ask the exchange to cancel an order and return what is known of it then.

        The kill switch never stops a cancel. Raises KeyError for an order that is not ours,
        OrderConflictError when there is nothing to cancel, ExchangeError when it failed.
        """
        order = self.state.orders[order_id]
        if order.is_final:
            raise OrderConflictError(f"order {order_id} is {order.status.value} already")
        if order.exchange_order_id is None:
            raise OrderConflictError(
                f"order {order_id} is {order.status.value}: whether the exchange has it is not "
                f"known yet; it is being looked up, cancel it once it is OPEN"
            )
        cancel_id = client_cancel_id(order_id, len(order.cancel_ids))
        requested = CancelRequested(time_ns=self._clock.time_ns(), client_cancel_id=cancel_id)
        await self._book.learn(order_id, [requested])
        arguments: dict[str, object] = {}
        if "symbol" in self._cancel_parameters:
            arguments["symbol"] = order.intent.request.symbol
        name = self._connector.cancel_id_param
        if name is not None:
            arguments["params"] = {name: cancel_id}
        try:
            async with asyncio.timeout(wait_s or self._settings.send_timeout_s):
                told = await self._connector.cancel_order(order.exchange_order_id, **arguments)  # type: ignore[arg-type]
        except OrderNotFoundError:
            # Not open any more: it filled or ended meanwhile. The exchange says how.
            await self._reconciliation.look_up(order_id)
            return self.state.orders[order_id]
        except TimeoutError as error:
            raise ExchangeUnavailableError(
                f"no answer to the cancel of order {order_id}; it is being looked up"
            ) from error
        answer: object = told
        if isinstance(answer, Mapping):
            answer = ExchangeOrder.from_ccxt(answer, order.intent.request)
        if isinstance(answer, ExchangeOrder):
            await self._reconciliation.learn_told(order_id, answer)
        else:
            # It raised nothing, but did not say how the order ended either.
            await self._reconciliation.look_up(order_id)
        return self.state.orders[order_id]

    async def write_off(self, order_id: str, reason: str, *, by: str) -> Order:
        """End an order that the exchange has forgotten, or that cannot be looked up there.

        A human says so, with a reason that is recorded. What the exchange still tells of the
        order counts more: then it ends as that says. One that was never seen there becomes
        NOT_ACCEPTED, one that was becomes CANCELLED; a trade of it that is told later is still
        booked, and one that rests there after all is an alarm. Raises KeyError, NotReadyError,
        ExchangeError, TimeoutError, and OrderConflictError when it has ended already, may still
        arrive, or is open there.
        """
        self._require_ready()
        order = self.state.orders[order_id]
        if order.is_final:
            raise OrderConflictError(f"order {order_id} is {order.status.value} already")
        await self._reconciliation.write_off(order_id, reconciler.written_off(by, reason))
        return self.state.orders[order_id]

    async def refresh(self, symbol: str) -> None:
        """Ask the exchange what became of a symbol's open orders: who decides now sees the newest.

        Raises ExchangeError or TimeoutError when it does not answer.
        """
        await self._reconciliation.refresh(symbol)

    async def note_strategy(self, fact: StrategyBegun | BarDecided) -> None:
        """Write down what a strategy is, or has decided, and return once it is durable.

        Raises NotReadyError, or JournalError when it cannot be recorded.
        """
        self._require_ready()
        await self._book.note(fact)

    async def until_answered(self, order_id: str, timeout_s: float) -> Order:
        """Return the order once the exchange's answer to it is known, or as it is after so long."""
        return await self._until(
            order_id,
            lambda order: order.status not in _UNANSWERED,
            timeout_s,
        )

    async def set_kill_switch(self, reason: str | None, *, by: str) -> None:
        """Turn the kill switch on with a reason, or off with None; it outlives a restart.

        It stops at once every order that does not reduce a position; cancels still go out.
        Turning it off also says that a human has looked at what contradicted itself: symbols
        that could only be reduced for that reason trade again.
        """
        # Off at once as well: what is found while this is written comes after it and stays, and no
        # order can leave before it, because its record is behind this one.
        await self._book.note(KillSwitchSet(time_ns=self._clock.time_ns(), reason=reason, by=by))
        logger.warning("kill switch turned", is_on=reason is not None, reason=reason, by=by)

    async def until_settled(self, order_id: str, timeout_s: float) -> Order:
        """Return the order once nothing is open about it, or as it is when the time is up."""
        return await self._until(order_id, lambda order: order.is_final, timeout_s)

    async def _until(
        self, order_id: str, is_enough: Callable[[Order], bool], timeout_s: float
    ) -> Order:
        done = asyncio.Event()

        def look(order: Order, entry: Entry) -> None:
            if order.id == order_id and is_enough(order):
                done.set()

        self.listen(look)
        try:
            if not is_enough(self.state.orders[order_id]):
                with suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s):
                        await done.wait()
        finally:
            if look in self._book.listeners:
                self._book.listeners.remove(look)
        return self.state.orders[order_id]

    # ------------------------------------------------------- the path of one

    def _judged(self, intent: OrderIntent) -> tuple[list[Entry], OrderRequest | None]:
        """Return what is to be written down of an intent, and what to send if it may be sent."""
        symbol = intent.request.symbol
        instrument = self._instrument(symbol)
        if instrument is not None:
            intent = on_steps(intent, instrument)
        verdict = self._risk_manager.check(intent.request, self._snapshot(symbol, instrument))
        if isinstance(verdict, risk_manager.Refused):
            refused = Refused(
                time_ns=intent.time_ns,
                rule=verdict.rule,
                value=verdict.value,
                limit=verdict.limit,
                message=verdict.message,
            )
            return [IntentRecorded(time_ns=intent.time_ns, intent=intent), refused], None
        now_ns, stamp = self._clock.time_ns(), self._connector.stamp()
        token = self._token_for(intent)
        send = Submitted(
            time_ns=now_ns,
            client_order_id=client_order_id(self.account, symbol, intent.id, 0),
            timestamp_ms=stamp.get("timestamp", now_ns // 1_000_000),
            recv_window_ms=stamp.get("recvWindow", 0),
            token="" if token is None else token.id,
        )
        recorded = IntentRecorded(time_ns=intent.time_ns, intent=intent, checks=verdict.checks)
        request = replace(
            intent.request,
            client_order_id=send.client_order_id,
            params={**intent.request.params, **stamp, **self._token_params(token)},
        )
        return [recorded, send], request

    def _token_for(self, intent: OrderIntent) -> Order | None:
        if intent.source == TOKEN_SOURCE or not self._settings.tokens_per_symbol:
            return None
        return order_tokens.free_token(self.state, intent.request.symbol)

    def _token_params(self, token: Order | None) -> Mapping[str, object]:
        if token is None or token.exchange_order_id is None:
            return {}
        return self._connector.token_params(token.exchange_order_id)

    async def _carry_out(
        self,
        known: Known,
        entries: Sequence[Entry],
        written: Awaitable[None],
        request: OrderRequest | None,
    ) -> None:
        """Wait for the record to be durable, and only then send what is to be sent."""
        order_id = known.order_id or ""
        self._reconciliation.in_flight.add(order_id)
        try:
            # The disk is at work for some 0.3 ms; meanwhile the order is written and signed.
            send = None if request is None else self._prepared(request)
            if not await self._is_durable(written, known):
                return
            # The order goes first: who waits for the record, or watches, is told two rounds of
            # the loop later, when its last bytes are out (on Python 3.11 aiohttp needs one more).
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._tell, known, entries)
            if request is None or send is None:
                return
            event = self._stopped_meanwhile(order_id)
            told = await self._send(request, send) if event is None else event
            if isinstance(told, OutcomeUnknown):
                told = await self._send_again(order_id, request) or told
            if isinstance(told, ExchangeOrder):
                await self._reconciliation.learn_told(order_id, told)
            else:
                await self._book.learn(order_id, [told])
        except JournalError:
            # Halted where it was raised; recovery finds out what is true.
            return
        except (ExchangeError, TimeoutError) as error:
            # The order was accepted; only reading its trades failed, which is tried again.
            logger.warning("order is read again later", order_id=order_id, error=str(error))
        except asyncio.CancelledError:
            self._tell_failure(known, NotReadyError("bagbot was stopped; ask again what became"))
            raise
        except Exception as error:
            logger.exception("an order's task has failed", order_id=order_id)
            self._halt(f"the task of order {order_id} has failed: {error}")
        finally:
            self._reconciliation.in_flight.discard(order_id)

    async def _is_durable(self, written: Awaitable[None], known: Known) -> bool:
        try:
            await written
        except JournalError as error:
            self._halt(str(error))
            self._tell_failure(known, error)
            return False
        return True

    def _tell(self, known: Known, entries: Sequence[Entry]) -> None:
        assert known.durable is not None
        if not known.durable.done():
            known.durable.set_result(None)
        if known.order_id:
            self._book.publish(known.order_id, entries)

    def _tell_failure(self, known: Known, error: Exception) -> None:
        assert known.durable is not None
        if not known.durable.done():
            known.durable.set_exception(error)
            known.durable.exception()  # It may be nobody waits for it; then it is no news.

    def _prepared(self, request: OrderRequest) -> SendOrder | Exception:
        try:
            return self._connector.prepare_order(request.to_payload())
        except Exception as error:  # noqa: BLE001 - it is judged where the order would be sent.
            return error

    async def _send(
        self, request: OrderRequest, send: SendOrder | Exception
    ) -> ExchangeOrder | OrderEvent:
        """Send once. Whatever is not understood afterwards is an unknown outcome."""
        try:
            if isinstance(send, Exception):
                raise send
            async with asyncio.timeout(self._settings.send_timeout_s):
                told: object = await send()
            if isinstance(told, Mapping):
                told = ExchangeOrder.from_ccxt(told, request)
            if isinstance(told, ExchangeOrder):
                return told
            reason = f"the connector answered with {type(told).__name__}, not with an order"
        except (
            OrderRejectedError,
            InvalidOrderError,
            NotSupportedError,
            RateLimitedError,
            ExchangeUnavailableError,
            AuthenticationError,
        ) as error:
            code = getattr(error, "code", None)
            logger.warning(
                "order rejected", client_order_id=request.client_order_id, reason=str(error)
            )
            return Rejected(
                time_ns=self._clock.time_ns(),
                reason=str(error),
                code="" if code is None else str(code),
            )
        except Exception as error:  # noqa: BLE001 - anything else may have happened after acceptance.
            reason = str(error) or type(error).__name__
        logger.warning(
            "order outcome unknown", client_order_id=request.client_order_id, reason=reason
        )
        return OutcomeUnknown(time_ns=self._clock.time_ns(), reason=reason)

    async def _send_again(self, order_id: str, request: OrderRequest) -> ExchangeOrder | None:
        """Send an order that replaces a token again; return it if the exchange says it has it.

        Anything else proves nothing: a repetition may be refused though the first one traded.
        """
        if order_tokens.token_of(self.state, self.state.orders[order_id]) is None:
            return None
        for _ in range(self._settings.token_sends_max - 1):
            is_known = self.state.orders[order_id].exchange_order_id is not None
            if is_known or self._stopped_meanwhile(order_id) is not None:
                return None
            stamped = replace(request, params={**request.params, **self._connector.stamp()})
            told = await self._send(stamped, self._prepared(stamped))
            if isinstance(told, ExchangeOrder):
                return told
        return None

    async def _keep_tokens(self) -> None:
        """Keep some tokens resting in every symbol, through the same gate as every order."""
        symbols = [s for s in self._risk_manager.limits.symbols or () if s in self.instruments]
        while True:
            pause_s = self._settings.probe_interval_s
            for symbol in symbols:
                if self.not_ready_reason is not None:
                    break
                await self._drop_unspent_tokens(symbol)
                if not await self._make_token(symbol):
                    pause_s = self._settings.token_pause_s
            await asyncio.sleep(pause_s)

    async def _drop_unspent_tokens(self, symbol: str) -> None:
        """Cancel what orders have taken that were refused: a token is taken only once."""
        for token in order_tokens.unspent(self.state, symbol):
            try:
                await self.cancel(token.id)
            except (ExchangeError, TimeoutError, OrderConflictError) as error:
                logger.warning("token is cancelled later", order_id=token.id, error=str(error))

    async def _make_token(self, symbol: str) -> bool:
        """Have one token more, if one is missing; return False when it could not be had."""
        if len(order_tokens.tokens(self.state, symbol)) >= self._settings.tokens_per_symbol:
            return True
        await self._prices.freshen(symbol)
        price = self._prices.price(symbol)
        if price is None:
            return False
        intent = order_tokens.token_intent(
            self.state, self.account, self.instruments[symbol], price, self._clock.time_ns()
        )
        try:
            taken = await self.submit(intent)
        except NotReadyError:
            return False
        assert taken.order is not None
        order = await self.until_settled(taken.order.id, self._settings.probe_interval_s)
        return not order.is_final

    def _stopped_meanwhile(self, order_id: str) -> OrderEvent | None:
        """The kill switch may have been turned while the order was being written down."""
        request = self.state.orders[order_id].intent.request
        instrument = self._instrument(request.symbol)
        snapshot = self._snapshot(request.symbol, instrument, without=order_id)
        if snapshot.killed is None:
            return None
        verdict = self._risk_manager.check(request, snapshot)
        if isinstance(verdict, risk_manager.Approved):
            return None
        proof = f"never sent, because meanwhile {verdict.message}"
        return NotAccepted(time_ns=self._clock.time_ns(), proof=proof)

    async def _learn_interrupted(self, order_ids: Sequence[str]) -> None:
        """Write down together what a crash left behind: one flush for many, not one for each."""
        for begin in range(0, len(order_ids), INTERRUPTED_AT_ONCE):
            some = order_ids[begin : begin + INTERRUPTED_AT_ONCE]
            await self._book.learn_together(
                {order_id: self._interrupted(order_id) for order_id in some}
            )

    def _interrupted(self, order_id: str) -> OrderEvent:
        """What a crash leaves behind: never sent when no SEND was written, else unknown."""
        now_ns, order = self._clock.time_ns(), self.state.orders[order_id]
        reason = "bagbot was interrupted before it knew the outcome"
        if order.status is OrderStatus.PENDING:
            return Withdrawn(time_ns=now_ns, reason="bagbot was interrupted before it was sent")
        return OutcomeUnknown(time_ns=now_ns, reason=reason, attempt=order.attempt)

    # ------------------------------------------------------------- following

    async def _follow_stream(self) -> None:
        """Read on at once, whatever the events lead to: answers may come by the same line."""
        async for event in self._connector.watch_events():
            # When it is full the connector is held back, and tells what it loses by that.
            await self._events.put(event)

    async def _take_events(self) -> None:
        while True:
            event = await self._events.get()
            if isinstance(event, StreamOpened):
                await self._reconciliation.settle()
                self._reconciliation.stream_is_open = True
                self._stream_first.set()
                logger.info("account stream open")
            elif isinstance(event, StreamLost):
                self._reconciliation.stream_is_open = False
                logger.warning("account stream lost", reason=event.reason)
            else:
                await self._reconciliation.hear(event)

    # ------------------------------------------------------------- the rest

    def _instrument(self, symbol: str) -> Instrument | None:
        known = self.instruments.get(symbol)
        if known is None and not self.instruments and "/" in symbol:
            # Neither the connector nor the caller says what can be traded: the exchange decides.
            return Instrument.unfiltered(symbol)
        return known

    def _snapshot(
        self, symbol: str, instrument: Instrument | None, *, without: str | None = None
    ) -> Snapshot:
        buys, sells = self.state.pending(symbol, without=without)
        return Snapshot(
            instrument=instrument,
            reference_price=self._prices.price(symbol),
            position=self.state.ledger.position(self.account, symbol).quantity,
            pending_buys=buys,
            pending_sells=sells,
            held=self.state.held(symbol),
            killed=self.state.killed
            or self.state.alarm(symbol)
            or self._reconciliation.suspicion(symbol),
        )

    async def _load_instruments(self) -> None:
        if "load_instruments" in self._capabilities:
            loaded = await self._connector.load_instruments()
            self._instruments = {**self._instruments, **loaded}
        self._symbol_of = {i.exchange_symbol: i.symbol for i in self.instruments.values()}
        allowed = self._risk_manager.limits.symbols or ()
        self._prices.want(symbol for symbol in allowed if symbol in self.instruments)
        self._reconciliation.watch(symbol for symbol in allowed if symbol in self.instruments)

    def _start(self, work: Callable[[], Coroutine[None, None, None]], what: str) -> None:
        self._loops.append(self._tasks.create_task(self._guard(work, what)))

    async def _guard(self, work: Callable[[], Coroutine[None, None, None]], what: str) -> None:
        try:
            await work()
        except Exception as error:
            logger.exception("a task has failed", task=what)
            self._halt(f"{what} has failed: {error}")

    def _halt(self, reason: str) -> None:
        """Take no more orders until a restart; what is open is followed as long as possible."""
        if self._not_ready is None:
            logger.error("halted", reason=reason)
            self._not_ready = f"halted: {reason}"
            self._stream_first.set()

    def _require_ready(self) -> None:
        if self._not_ready is not None:
            raise NotReadyError(f"no order was taken: bagbot is {self._not_ready}")

    def _known(self, identity: str, window_ns: int | None) -> Known | None:
        known = self.state.known.get(identity)
        if known is None or window_ns is None:
            return known
        return known if self._clock.time_ns() - known.time_ns <= window_ns else None

    async def _repeat(self, known: Known, fingerprint: str) -> Submission:
        # The first may still be on its way to the disk: its repeat promises no more than it does.
        if known.durable is not None:
            await asyncio.shield(known.durable)
        return Submission(
            order=self.state.orders[known.order_id] if known.order_id else None,
            message=known.message,
            is_repeat=True,
            differs=known.fingerprint != fingerprint,
        )

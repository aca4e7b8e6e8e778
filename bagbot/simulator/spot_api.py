"""The spot endpoints: what each takes, what it weighs, and what it answers.

REST and the WebSocket API are the same endpoints under two names. An endpoint first reads its
parameters, which may refuse the request, and returns the action; the action runs once the key,
the time and the signature have been found good.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bagbot.simulator import binance_messages as messages
from bagbot.simulator.amounts import amount_text
from bagbot.simulator.api_keys import ApiKey, KeyRing
from bagbot.simulator.assumptions import DEFAULT_ASSUMPTIONS, Assumptions
from bagbot.simulator.binance_errors import (
    INVALID_INTERVAL,
    INVALID_SYMBOL_STATUS,
    SYMBOL_STATUS_MISMATCH,
    UNKNOWN_ORDER_LIST,
    UNKNOWN_ORDER_ON_QUERY,
    WRONG_CLIENT_ORDER_ID,
    BinanceError,
    bad_key_format,
    cancel_refused,
    order_refused,
    parameter_missing,
    timestamp_outside_window,
)
from bagbot.simulator.binance_wire import (
    Parameters,
    WireRequest,
    check_time,
    read_cancel,
    read_new_order,
    read_order_reference,
    read_response_type,
)
from bagbot.simulator.cancel_replace import carry_out, read_cancel_replace
from bagbot.simulator.market_views import day_statistics, depth_snapshot
from bagbot.simulator.order_list_messages import list_cancelled, list_placed, order_list
from bagbot.simulator.order_list_parameters import (
    read_list_response_type,
    read_oco,
    read_oto,
    read_otoco,
)
from bagbot.simulator.order_lists import PlaceOrderList
from bagbot.simulator.orders import (
    CancelOrder,
    CancelRefusedError,
    Order,
    OrderEvent,
    OrderRefusedError,
    PlaceOrder,
    Refusal,
    TradePrint,
)
from bagbot.simulator.rate_limits import RateLimits
from bagbot.simulator.request_weights import (
    always,
    by_symbol,
    day_weight,
    depth_weight,
    my_trades_weight,
    order_test_weight,
)
from bagbot.simulator.time_unit import printed_time
from bagbot.simulator.venue import Venue

Action = Callable[[int], object]
_DAY_MS = 24 * 60 * 60 * 1_000
# Binance's keys are 64 letters and digits; ours may be any word that fits into a header.
_API_KEY = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing that can be asked for."""

    prepare: Callable[["SpotApi", Parameters], Action]
    weight: Callable[[Mapping[str, str]], int]
    is_signed: bool = False
    # Orders that are accepted weigh nothing since 2026-04-02.
    is_free_on_success: bool = False
    places_orders: bool = False
    # How many orders must be within the limit before anything else happens.
    order_count: int = 0


class SpotApi:
    """Answers requests for one venue: those of one account, and through `of` everybody's."""

    def __init__(
        self,
        venue: Venue,
        limits: RateLimits,
        keys: KeyRing,
        *,
        account_id: int = 1,
        assumptions: Assumptions = DEFAULT_ASSUMPTIONS,
    ) -> None:
        self.venue = venue
        self.limits = limits
        self.keys = keys
        self.account_id = account_id
        self.assumptions = assumptions
        self._updated_ns = 0
        self._by_account = {account_id: self}

    def of(self, account_id: int) -> "SpotApi":
        """Return the same service for another account."""
        api = self._by_account.get(account_id)
        if api is None:
            api = SpotApi(
                self.venue,
                self.limits,
                self.keys,
                account_id=account_id,
                assumptions=self.assumptions,
            )
            self._by_account[account_id] = api
        return api

    def answer(
        self,
        endpoint: Endpoint,
        request: WireRequest,
        api_key: str | None,
        now_ns: int,
        *,
        received_ns: int | None = None,
        session_key: ApiKey | None = None,
    ) -> object:
        """Return the reply, ready to be printed as JSON.

        The request must be in time when it was received, by default now, and still be so now.
        A session that is logged on may leave out key and signature. Raises BinanceError.
        """
        now_ms = now_ns // 1_000_000
        weight = endpoint.weight(request.parameters)
        self.limits.charge(weight, now_ms)
        key: ApiKey | None = None
        if endpoint.is_signed:
            key = self.find_key(api_key) if session_key is None or api_key else session_key
        api = self if key is None else self.of(key.account_id)
        arrived_ns = now_ns if received_ns is None else received_ns
        is_signature_last = self.assumptions.signature_is_checked_last
        if key is not None and not is_signature_last:
            self._check_signed(request, key, session_key, arrived_ns, now_ns)
        symbols = self.venue.exchange.symbols
        parameters = Parameters(request.parameters, symbols, self.assumptions)
        action = endpoint.prepare(api, parameters)
        parameters.finish()
        if key is not None and is_signature_last:
            self._check_signed(request, key, session_key, arrived_ns, now_ns)
        if endpoint.order_count:
            self.limits.check_orders(api.account_id, now_ms, endpoint.order_count)
        result = action(now_ns)
        if endpoint.is_free_on_success:
            self.limits.refund(weight, now_ms)
        return result

    def _check_signed(
        self,
        request: WireRequest,
        key: ApiKey,
        session_key: ApiKey | None,
        arrived_ns: int,
        now_ns: int,
    ) -> None:
        deadline_ns = check_time(request.parameters, arrived_ns, self.assumptions)
        if key is not session_key or request.signature is not None:
            key.check(request)
        if now_ns > deadline_ns:
            raise timestamp_outside_window()

    def find_key(self, api_key: str | None) -> ApiKey:
        """Return the key. Raises BinanceError when it is none, or nobody's."""
        if not api_key or not _API_KEY.fullmatch(api_key):
            raise bad_key_format()
        return self.keys.find(api_key)

    def authenticate(self, request: WireRequest, now_ns: int) -> ApiKey:
        """Return the key a WebSocket request is signed with, in time. Raises BinanceError."""
        if "apiKey" not in request.parameters:
            raise parameter_missing("apiKey")
        key = self.find_key(request.parameters["apiKey"])
        check_time(request.parameters, now_ns, self.assumptions)
        key.check(request)
        return key

    def observe(self, event: OrderEvent) -> None:
        """Keep the order count: an order counts until it has traded for the first time."""
        now_ms = event.time_ns // 1_000_000
        account_id = event.order.account_id
        self.of(account_id)._updated_ns = event.time_ns
        if event.kind == "NEW":
            self.limits.order_accepted(account_id, now_ms)
        elif event.execution is not None and event.executed == event.execution.quantity:
            self.limits.order_traded(account_id, now_ms)

    # General.

    def ping(self, _parameters: Parameters) -> Action:
        """Answer that the service is there."""
        return lambda _now_ns: {}

    def time(self, _parameters: Parameters) -> Action:
        """Answer the wire clock."""
        return lambda now_ns: {"serverTime": printed_time(now_ns)}

    def exchange_info(self, parameters: Parameters) -> Action:
        """Answer the symbols and their rules."""
        names = parameters.symbol_list()
        permissions = parameters.permissions()
        shows_sets = parameters.flag("showPermissionSets", default=True)
        status = parameters.optional("symbolStatus")
        if names is not None and not (permissions is None and status is None):
            raise BinanceError(-1128, "Combination of optional parameters invalid.")
        if status not in (None, "TRADING", "HALT", "BREAK", "END_OF_DAY", "CANCEL_ONLY"):
            raise BinanceError(*INVALID_SYMBOL_STATUS)
        rules = self.venue.exchange.symbols
        wanted = [rules[name] for name in (rules if names is None else names)]
        wanted = [each for each in wanted if status in (None, each.status)]
        if "SPOT" not in (permissions or ["SPOT"]):
            wanted = []
        return lambda now_ns: messages.exchange_info(
            wanted, self.limits.description(), now_ns, shows_permission_sets=shows_sets
        )

    # Market data.

    def depth(self, parameters: Parameters) -> Action:
        """Answer the book."""
        symbol = parameters.symbol()
        limit = parameters.limit(100, 5_000)
        if not _is_trading_wanted(parameters):
            raise BinanceError(*SYMBOL_STATUS_MISMATCH)
        return lambda _now_ns: depth_snapshot(self.venue, symbol, limit)

    def trades(self, parameters: Parameters) -> Action:
        """Answer the newest public trades."""
        symbol = parameters.symbol()
        limit = parameters.limit(500, 1_000)
        return lambda _now_ns: [
            messages.public_trade(trade) for trade in self.venue.tape(symbol)[-limit:]
        ]

    def historical_trades(self, parameters: Parameters) -> Action:
        """Answer public trades from an id on, or the newest."""
        symbol = parameters.symbol()
        from_id = parameters.integer("fromId")
        limit = parameters.limit(500, 1_000)

        def action(_now_ns: int) -> object:
            tape = self.venue.tape(symbol)
            if from_id is None:
                chosen = tape[-limit:]
            else:
                start = bisect_left(tape, from_id, key=lambda trade: trade.trade_id)
                chosen = tape[start : start + limit]
            return [messages.public_trade(trade) for trade in chosen]

        return action

    def aggregate_trades(self, parameters: Parameters) -> Action:
        """Answer public trades from an id or a time on, or the newest."""
        symbol = parameters.symbol()
        from_id = parameters.integer("fromId")
        start_ms, end_ms = parameters.time_ms("startTime"), parameters.time_ms("endTime")
        limit = parameters.limit(500, 1_000)

        def is_wanted(trade: TradePrint) -> bool:
            time_ms = trade.time_ns // 1_000_000
            return (
                (from_id is None or trade.trade_id >= from_id)
                and (start_ms is None or time_ms >= start_ms)
                and (end_ms is None or time_ms <= end_ms)
            )

        def action(_now_ns: int) -> object:
            wanted = [trade for trade in self.venue.tape(symbol) if is_wanted(trade)]
            is_forward = from_id is not None or start_ms is not None
            chosen = wanted[:limit] if is_forward else wanted[-limit:]
            return [messages.aggregate_trade(trade) for trade in chosen]

        return action

    def klines(self, parameters: Parameters) -> Action:
        """Answer candles."""
        symbol = parameters.symbol()
        interval = parameters.mandatory("interval")
        start_ms, end_ms = parameters.time_ms("startTime"), parameters.time_ms("endTime")
        limit = parameters.limit(500, 1_000)
        zone_ms = parameters.time_zone_ms("timeZone")
        series = self.venue.candles(symbol)
        if not series.serves(interval):
            raise BinanceError(*INVALID_INTERVAL)
        return lambda _now_ns: [
            messages.kline_row(candle, interval, zone_ms)
            for candle in series.aggregate(
                interval,
                offset_ms=self.venue.offset_ms,
                start_ms=start_ms,
                end_ms=end_ms,
                limit=limit,
                zone_ms=zone_ms,
            )
        ]

    def average_price(self, parameters: Parameters) -> Action:
        """Answer the average price of the last minutes."""
        symbol = parameters.symbol()
        return lambda now_ns: {
            "mins": self.venue.exchange.symbols[symbol].average_price_minutes,
            "price": amount_text(self.venue.average_price(symbol)),
            "closeTime": printed_time(now_ns),
        }

    def price_ticker(self, parameters: Parameters) -> Action:
        """Answer the latest price of one, some or all symbols."""
        return self._per_symbol(
            parameters, lambda name: messages.price_ticker(name, self.venue.last_price(name))
        )

    def book_ticker(self, parameters: Parameters) -> Action:
        """Answer the top of the book of one, some or all symbols."""
        books = self.venue.exchange.books
        return self._per_symbol(
            parameters,
            lambda name: messages.book_ticker(name, books[name].best_bid(), books[name].best_ask()),
        )

    def day_ticker(self, parameters: Parameters) -> Action:
        """Answer the 24-hour statistics of one, some or all symbols."""
        kind = parameters.optional("type") or "FULL"
        if kind not in ("FULL", "MINI"):
            raise BinanceError(-1139, "Invalid ticker type.")
        offset_ms = self.venue.offset_ms
        if kind == "MINI":
            return self._per_symbol(
                parameters,
                lambda name: messages.mini_statistics(name, self.venue.day(name), offset_ms),
            )
        return self._per_symbol(parameters, lambda name: day_statistics(self.venue, name))

    # The account.

    def account(self, parameters: Parameters) -> Action:
        """Answer the balances and rates."""
        omit_zero = parameters.flag("omitZeroBalances", default=False)
        exchange = self.venue.exchange
        return lambda _now_ns: messages.account(
            exchange.balances[self.account_id],
            maker_fee_ppm=exchange.maker_fee_ppm,
            taker_fee_ppm=exchange.taker_fee_ppm,
            update_time_ns=self._updated_ns,
            uid=self.account_id,
            omit_zero=omit_zero,
        )

    def commission(self, parameters: Parameters) -> Action:
        """Answer the commission rates on a symbol."""
        symbol = parameters.symbol()
        exchange = self.venue.exchange
        return lambda _now_ns: messages.commission(
            symbol, maker_fee_ppm=exchange.maker_fee_ppm, taker_fee_ppm=exchange.taker_fee_ppm
        )

    def order_usage(self, _parameters: Parameters) -> Action:
        """Answer how many orders count against the limits."""
        return lambda now_ns: self.limits.order_usage(self.account_id, now_ns // 1_000_000)

    # Orders.

    def place_order(self, parameters: Parameters) -> Action:
        """Place an order."""
        command = read_new_order(parameters, self.account_id)
        response_type = read_response_type(parameters, command.type)

        def action(now_ns: int) -> object:
            try:
                return self._place(command, response_type, now_ns)
            except OrderRefusedError as error:
                raise order_refused(error.refusal, self.assumptions) from error

        return action

    def cancel_replace(self, parameters: Parameters) -> Action:
        """Cancel one order and place another."""
        request = read_cancel_replace(parameters, self.account_id)
        return lambda now_ns: carry_out(
            request, self.venue, self.limits, self._place, now_ns, self.assumptions
        )

    def test_order(self, parameters: Parameters) -> Action:
        """Check an order without placing it."""
        command = read_new_order(parameters, self.account_id)
        read_response_type(parameters, command.type)
        wants_rates = parameters.flag("computeCommissionRates", default=False)
        exchange = self.venue.exchange

        def action(_now_ns: int) -> object:
            try:
                exchange.check(command)
            except OrderRefusedError as error:
                raise order_refused(error.refusal, self.assumptions) from error
            if not wants_rates:
                return {}
            return messages.test_commission(
                maker_fee_ppm=exchange.maker_fee_ppm, taker_fee_ppm=exchange.taker_fee_ppm
            )

        return action

    def place_oco(self, parameters: Parameters) -> Action:
        """Place two orders of which one ends the other."""
        return self._place_list(read_oco(parameters, self.account_id), parameters)

    def place_oto(self, parameters: Parameters) -> Action:
        """Place an order and another that begins when it is filled."""
        return self._place_list(read_oto(parameters, self.account_id), parameters)

    def place_otoco(self, parameters: Parameters) -> Action:
        """Place an order and a pair that begins when it is filled."""
        return self._place_list(read_otoco(parameters, self.account_id), parameters)

    def cancel_order_list(self, parameters: Parameters) -> Action:
        """Cancel every order of a list."""
        symbol = parameters.symbol()
        list_id, client_list_id = read_order_reference(
            parameters, "orderListId", "listClientOrderId"
        )
        cancel_id = parameters.client_order_id("newClientOrderId") or ""

        def action(now_ns: int) -> object:
            try:
                cancelled = self.venue.cancel_list(
                    self.account_id,
                    symbol,
                    now_ns,
                    list_id=list_id,
                    client_list_id=client_list_id,
                    cancel_id=cancel_id,
                )
            except CancelRefusedError as error:
                raise cancel_refused(error.refusal) from error
            return list_cancelled(*cancelled)

        return action

    def query_order_list(self, parameters: Parameters) -> Action:
        """Answer one order list."""
        list_id, client_list_id = read_order_reference(
            parameters, "orderListId", "origClientOrderId"
        )

        def action(_now_ns: int) -> object:
            found = self.venue.store.order_list(
                self.account_id, list_id=list_id, client_list_id=client_list_id
            )
            if found is None or client_list_id not in (None, found.client_list_id):
                raise BinanceError(*UNKNOWN_ORDER_LIST)
            return order_list(found)

        return action

    def open_order_lists(self, _parameters: Parameters) -> Action:
        """Answer the open order lists."""
        exchange = self.venue.exchange
        return lambda _now_ns: [order_list(one) for one in exchange.open_lists(self.account_id)]

    def all_order_lists(self, parameters: Parameters) -> Action:
        """Answer the order lists, open and closed."""
        from_id = parameters.integer("fromId")
        start_ms, end_ms = _time_range(parameters)
        limit = parameters.limit(500, 1_000)
        if from_id is not None and not (start_ms is None and end_ms is None):
            raise BinanceError(-1128, "Combination of optional parameters invalid.")
        return lambda _now_ns: [
            order_list(one)
            for one in self.venue.store.order_lists(
                self.account_id,
                from_id=from_id,
                start_ns=_first_ns(start_ms),
                end_ns=_last_ns(end_ms),
                limit=limit,
            )
        ]

    def query_order(self, parameters: Parameters) -> Action:
        """Answer one order."""
        symbol = parameters.symbol()
        order_id, client_order_id = read_order_reference(parameters)

        def action(_now_ns: int) -> object:
            order = self.venue.order(
                self.account_id, symbol, order_id=order_id, client_order_id=client_order_id
            )
            if order is None:
                raise BinanceError(*UNKNOWN_ORDER_ON_QUERY)
            if client_order_id not in (None, order.client_order_id):
                raise BinanceError(*WRONG_CLIENT_ORDER_ID)
            return messages.order_query(order)

        return action

    def cancel_order(self, parameters: Parameters) -> Action:
        """Cancel one order."""
        command = read_cancel(parameters, self.account_id)
        return lambda now_ns: messages.cancel_result(self._cancel(command, now_ns))

    def cancel_open_orders(self, parameters: Parameters) -> Action:
        """Cancel every open order of a symbol."""
        symbol = parameters.symbol()

        def action(now_ns: int) -> object:
            orders = self.venue.exchange.open_orders(self.account_id, symbol)
            if not orders and self.assumptions.cancelling_nothing_is_refused:
                raise cancel_refused(Refusal.UNKNOWN_ORDER)
            replies: list[object] = []
            for order in orders:
                if order.list_id < 0:
                    command = CancelOrder(
                        account_id=self.account_id, symbol=symbol, order_id=order.order_id
                    )
                    replies.append(messages.cancel_result(self._cancel(command, now_ns)))
                elif order.is_open:
                    # The first one of a list has taken the others with it.
                    cancelled = self.venue.cancel_list(
                        self.account_id, symbol, now_ns, list_id=order.list_id, client_list_id=None
                    )
                    replies.append(list_cancelled(*cancelled))
            return replies

        return action

    def open_orders(self, parameters: Parameters) -> Action:
        """Answer the open orders."""
        symbol = parameters.optional_symbol()
        return lambda _now_ns: [
            messages.order_query(order)
            for order in self.venue.exchange.open_orders(self.account_id, symbol)
        ]

    def all_orders(self, parameters: Parameters) -> Action:
        """Answer the orders of a symbol, open and closed."""
        symbol = parameters.symbol()
        order_id = parameters.integer("orderId")
        start_ms, end_ms = _time_range(parameters)
        limit = parameters.limit(500, 1_000)
        return lambda _now_ns: [
            messages.order_query(order)
            for order in self.venue.store.orders(
                self.account_id,
                symbol,
                from_id=order_id,
                start_ns=_first_ns(start_ms),
                end_ns=_last_ns(end_ms),
                limit=limit,
            )
        ]

    def my_trades(self, parameters: Parameters) -> Action:
        """Answer the account's executions on a symbol."""
        symbol = parameters.symbol()
        order_id = parameters.integer("orderId")
        from_id = parameters.integer("fromId")
        start_ms, end_ms = _time_range(parameters)
        limit = parameters.limit(500, 1_000)
        has_time = start_ms is not None or end_ms is not None
        if has_time and (order_id is not None or from_id is not None):
            raise BinanceError(-1128, "Combination of optional parameters invalid.")
        return lambda _now_ns: [
            messages.my_trade(execution)
            for execution in self.venue.store.executions(
                self.account_id,
                symbol,
                order_id=order_id,
                from_id=from_id,
                start_ns=_first_ns(start_ms),
                end_ns=_last_ns(end_ms),
                limit=limit,
            )
        ]

    def _place_list(self, command: PlaceOrderList, parameters: Parameters) -> Action:
        response_type = read_list_response_type(parameters)

        def action(now_ns: int) -> object:
            try:
                placement = self.venue.place_list(command, now_ns)
            except OrderRefusedError as error:
                raise order_refused(error.refusal, self.assumptions) from error
            return list_placed(placement, response_type)

        return action

    def _place(self, command: PlaceOrder, response_type: str, now_ns: int) -> object:
        """Place an order and return the reply to it; raises OrderRefusedError."""
        return messages.placement(self.venue.place(command, now_ns), response_type)

    def _cancel(self, command: CancelOrder, now_ns: int) -> Order:
        try:
            return self.venue.cancel(command, now_ns)
        except CancelRefusedError as error:
            raise cancel_refused(error.refusal) from error

    def _per_symbol(self, parameters: Parameters, reply: Callable[[str], object]) -> Action:
        """Return an action that answers one object for `symbol`, else a list."""
        is_single = parameters.optional("symbol") is not None
        names = parameters.symbol_list()
        wanted = list(self.venue.exchange.symbols) if names is None else names
        if not _is_trading_wanted(parameters):
            if is_single:
                raise BinanceError(*SYMBOL_STATUS_MISMATCH)
            wanted = []
        if is_single:
            return lambda _now_ns: reply(wanted[0])
        return lambda _now_ns: [reply(name) for name in wanted]


def _is_trading_wanted(parameters: Parameters) -> bool:
    """Return whether symbols that trade, which is all of them here, have the status asked for."""
    status = parameters.optional("symbolStatus")
    if status not in (None, "TRADING", "HALT", "BREAK"):
        raise BinanceError(*INVALID_SYMBOL_STATUS)
    return status in (None, "TRADING")


def _time_range(parameters: Parameters) -> tuple[int | None, int | None]:
    start_ms, end_ms = parameters.time_ms("startTime"), parameters.time_ms("endTime")
    if start_ms is not None and end_ms is not None and end_ms - start_ms > _DAY_MS:
        raise BinanceError(-1127, "More than 24 hours between startTime and endTime.")
    return start_ms, end_ms


def _first_ns(time_ms: int | None) -> int | None:
    return None if time_ms is None else min(time_ms, 2**43) * 1_000_000


def _last_ns(time_ms: int | None) -> int | None:
    return None if time_ms is None else min(time_ms, 2**43) * 1_000_000 + 999_999


_PING = Endpoint(SpotApi.ping, always(1))
_TIME = Endpoint(SpotApi.time, always(1))
_EXCHANGE_INFO = Endpoint(SpotApi.exchange_info, always(20))
_DEPTH = Endpoint(SpotApi.depth, depth_weight)
_TRADES = Endpoint(SpotApi.trades, always(25))
_HISTORICAL_TRADES = Endpoint(SpotApi.historical_trades, always(25))
_AGGREGATE_TRADES = Endpoint(SpotApi.aggregate_trades, always(4))
_KLINES = Endpoint(SpotApi.klines, always(2))
_AVERAGE_PRICE = Endpoint(SpotApi.average_price, always(2))
_PRICE_TICKER = Endpoint(SpotApi.price_ticker, by_symbol(2, 4))
_BOOK_TICKER = Endpoint(SpotApi.book_ticker, by_symbol(2, 4))
_DAY_TICKER = Endpoint(SpotApi.day_ticker, day_weight)
_ACCOUNT = Endpoint(SpotApi.account, always(20), is_signed=True)
_COMMISSION = Endpoint(SpotApi.commission, always(20), is_signed=True)
_ORDER_USAGE = Endpoint(SpotApi.order_usage, always(40), is_signed=True)
_PLACE_ORDER = Endpoint(
    SpotApi.place_order,
    always(1),
    is_signed=True,
    is_free_on_success=True,
    places_orders=True,
    order_count=1,
)
# Its limit is part of its own table of results.
_CANCEL_REPLACE = Endpoint(
    SpotApi.cancel_replace,
    always(1),
    is_signed=True,
    is_free_on_success=True,
    places_orders=True,
)
_PLACE_OCO, _PLACE_OTO, _PLACE_OTOCO = (
    Endpoint(
        place,
        always(1),
        is_signed=True,
        is_free_on_success=True,
        places_orders=True,
        order_count=order_count,
    )
    for place, order_count in (
        (SpotApi.place_oco, 2),
        (SpotApi.place_oto, 2),
        (SpotApi.place_otoco, 3),
    )
)
_CANCEL_ORDER_LIST = Endpoint(
    SpotApi.cancel_order_list, always(1), is_signed=True, is_free_on_success=True
)
_QUERY_ORDER_LIST = Endpoint(SpotApi.query_order_list, always(4), is_signed=True)
_OPEN_ORDER_LISTS = Endpoint(SpotApi.open_order_lists, always(6), is_signed=True)
_ALL_ORDER_LISTS = Endpoint(SpotApi.all_order_lists, always(20), is_signed=True)
_TEST_ORDER = Endpoint(
    SpotApi.test_order,
    order_test_weight,
    is_signed=True,
)
_QUERY_ORDER = Endpoint(SpotApi.query_order, always(4), is_signed=True)
_CANCEL_ORDER = Endpoint(SpotApi.cancel_order, always(1), is_signed=True, is_free_on_success=True)
_CANCEL_OPEN_ORDERS = Endpoint(
    SpotApi.cancel_open_orders, always(1), is_signed=True, is_free_on_success=True
)
_OPEN_ORDERS = Endpoint(SpotApi.open_orders, by_symbol(6, 80), is_signed=True)
_ALL_ORDERS = Endpoint(SpotApi.all_orders, always(20), is_signed=True)
_MY_TRADES = Endpoint(
    SpotApi.my_trades,
    my_trades_weight,
    is_signed=True,
)

REST_ENDPOINTS: Mapping[tuple[str, str], Endpoint] = {
    ("GET", "/api/v3/ping"): _PING,
    ("GET", "/api/v3/time"): _TIME,
    ("GET", "/api/v3/exchangeInfo"): _EXCHANGE_INFO,
    ("GET", "/api/v3/depth"): _DEPTH,
    ("GET", "/api/v3/trades"): _TRADES,
    ("GET", "/api/v3/historicalTrades"): _HISTORICAL_TRADES,
    ("GET", "/api/v3/aggTrades"): _AGGREGATE_TRADES,
    ("GET", "/api/v3/klines"): _KLINES,
    ("GET", "/api/v3/uiKlines"): _KLINES,
    ("GET", "/api/v3/avgPrice"): _AVERAGE_PRICE,
    ("GET", "/api/v3/ticker/price"): _PRICE_TICKER,
    ("GET", "/api/v3/ticker/bookTicker"): _BOOK_TICKER,
    ("GET", "/api/v3/ticker/24hr"): _DAY_TICKER,
    ("GET", "/api/v3/account"): _ACCOUNT,
    ("GET", "/api/v3/account/commission"): _COMMISSION,
    ("GET", "/api/v3/rateLimit/order"): _ORDER_USAGE,
    ("POST", "/api/v3/order"): _PLACE_ORDER,
    ("POST", "/api/v3/order/cancelReplace"): _CANCEL_REPLACE,
    ("POST", "/api/v3/order/test"): _TEST_ORDER,
    ("POST", "/api/v3/orderList/oco"): _PLACE_OCO,
    ("POST", "/api/v3/orderList/oto"): _PLACE_OTO,
    ("POST", "/api/v3/orderList/otoco"): _PLACE_OTOCO,
    ("DELETE", "/api/v3/orderList"): _CANCEL_ORDER_LIST,
    ("GET", "/api/v3/orderList"): _QUERY_ORDER_LIST,
    ("GET", "/api/v3/openOrderList"): _OPEN_ORDER_LISTS,
    ("GET", "/api/v3/allOrderList"): _ALL_ORDER_LISTS,
    ("GET", "/api/v3/order"): _QUERY_ORDER,
    ("DELETE", "/api/v3/order"): _CANCEL_ORDER,
    ("GET", "/api/v3/openOrders"): _OPEN_ORDERS,
    ("DELETE", "/api/v3/openOrders"): _CANCEL_OPEN_ORDERS,
    ("GET", "/api/v3/allOrders"): _ALL_ORDERS,
    ("GET", "/api/v3/myTrades"): _MY_TRADES,
}

WEBSOCKET_ENDPOINTS: Mapping[str, Endpoint] = {
    "ping": _PING,
    "time": _TIME,
    "exchangeInfo": _EXCHANGE_INFO,
    "depth": _DEPTH,
    "trades.recent": _TRADES,
    "trades.historical": _HISTORICAL_TRADES,
    "trades.aggregate": _AGGREGATE_TRADES,
    "klines": _KLINES,
    "uiKlines": _KLINES,
    "avgPrice": _AVERAGE_PRICE,
    "ticker.price": _PRICE_TICKER,
    "ticker.book": _BOOK_TICKER,
    "ticker.24hr": _DAY_TICKER,
    "account.status": _ACCOUNT,
    "account.commission": _COMMISSION,
    "account.rateLimits.orders": _ORDER_USAGE,
    "order.place": _PLACE_ORDER,
    "order.cancelReplace": _CANCEL_REPLACE,
    "order.test": _TEST_ORDER,
    "orderList.place.oco": _PLACE_OCO,
    "orderList.place.oto": _PLACE_OTO,
    "orderList.place.otoco": _PLACE_OTOCO,
    "orderList.cancel": _CANCEL_ORDER_LIST,
    "orderList.status": _QUERY_ORDER_LIST,
    "openOrderLists.status": _OPEN_ORDER_LISTS,
    "allOrderLists": _ALL_ORDER_LISTS,
    "order.status": _QUERY_ORDER,
    "order.cancel": _CANCEL_ORDER,
    "openOrders.status": _OPEN_ORDERS,
    "openOrders.cancelAll": _CANCEL_OPEN_ORDERS,
    "allOrders": _ALL_ORDERS,
    "myTrades": _MY_TRADES,
}

RETIRED_PATHS = frozenset({"/api/v3/userDataStream", "/api/v1/userDataStream"})
RETIRED_METHODS = frozenset({"userDataStream.start", "userDataStream.ping", "userDataStream.stop"})

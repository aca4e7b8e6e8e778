"""The exchange's objects as Binance prints them: REST answers, WebSocket answers and events."""

from collections.abc import Iterable, Mapping

from bagbot.simulator.amounts import ONE, amount_text, quote_amount
from bagbot.simulator.candles import Candle, interval_bounds
from bagbot.simulator.exchange import Balance, Placement
from bagbot.simulator.orders import (
    Execution,
    Order,
    OrderEvent,
    OrderStatus,
    OrderType,
    PreventedMatch,
    Prevention,
    TradePrint,
    TransferEvent,
)
from bagbot.simulator.symbols import SymbolRules
from bagbot.simulator.time_unit import printed_time
from bagbot.simulator.venue import BalanceEvent, BookEvent, DayStatistics

Message = dict[str, object]

_NOTHING = "0.00000000"


def _printed_ms(time_ms: int) -> int:
    return printed_time(time_ms * 1_000_000)


def _last_moment_before(time_ms: int) -> int:
    return _printed_ms(time_ms) - 1


def percent_text(part: int, whole: int) -> str:
    """Return `part` in percent of `whole`, with three decimals rounded towards minus infinity."""
    thousandths = part * 100_000 // whole
    sign, thousandths = ("-", -thousandths) if thousandths < 0 else ("", thousandths)
    return f"{sign}{thousandths // 1_000}.{thousandths % 1_000:03d}"


def _side(*, is_buy: bool) -> str:
    return "BUY" if is_buy else "SELL"


# Exchange information.


def exchange_info(
    symbols: Iterable[SymbolRules],
    rate_limits: list[Message],
    time_ns: int,
    *,
    shows_permission_sets: bool,
) -> Message:
    """Return the reply to exchangeInfo."""
    rows = [_symbol_info(rules) for rules in symbols]
    if not shows_permission_sets:
        rows = [row | {"permissionSets": []} for row in rows]
    return {
        "timezone": "UTC",
        "serverTime": printed_time(time_ns),
        "rateLimits": rate_limits,
        "exchangeFilters": [],
        "symbols": rows,
    }


def _symbol_info(rules: SymbolRules) -> Message:
    return {
        "symbol": rules.symbol,
        "status": rules.status,
        "baseAsset": rules.base,
        "baseAssetPrecision": 8,
        "quoteAsset": rules.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": [kind.value for kind in OrderType],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "otoAllowed": True,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": True,
        "cancelReplaceAllowed": True,
        "amendAllowed": False,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": _filters(rules),
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": Prevention.NONE.value,
        "allowedSelfTradePreventionModes": [mode.value for mode in Prevention],
    }


def _filters(rules: SymbolRules) -> list[Message]:
    up = str(rules.price_multiplier_up)
    down = amount_text(ONE // rules.price_divisor_down).rstrip("0")
    minutes = rules.average_price_minutes
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": amount_text(rules.price_min),
            "maxPrice": amount_text(rules.price_max),
            "tickSize": amount_text(rules.tick),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": amount_text(rules.quantity_min),
            "maxQty": amount_text(rules.quantity_max),
            "stepSize": amount_text(rules.lot),
        },
        {"filterType": "ICEBERG_PARTS", "limit": rules.iceberg_parts_max},
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": _NOTHING,
            "maxQty": amount_text(rules.market_quantity_max),
            "stepSize": _NOTHING,
        },
        {
            "filterType": "TRAILING_DELTA",
            "minTrailingAboveDelta": rules.trailing_delta_min,
            "maxTrailingAboveDelta": rules.trailing_delta_max,
            "minTrailingBelowDelta": rules.trailing_delta_min,
            "maxTrailingBelowDelta": rules.trailing_delta_max,
        },
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": up,
            "bidMultiplierDown": down,
            "askMultiplierUp": up,
            "askMultiplierDown": down,
            "avgPriceMins": minutes,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": amount_text(rules.notional_min),
            "applyMinToMarket": True,
            "maxNotional": amount_text(rules.notional_max),
            "applyMaxToMarket": False,
            "avgPriceMins": minutes,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": rules.open_orders_max},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": rules.open_stops_max},
        {"filterType": "MAX_NUM_ORDER_LISTS", "maxNumOrderLists": rules.open_lists_max},
    ]


# Orders and executions.


def placement(placed: Placement, response_type: str) -> Message:
    """Return the reply to a new order in the form asked for: ACK, RESULT or FULL."""
    if response_type == "ACK":
        return order_ack(placed.order)
    if response_type == "RESULT":
        return order_result(placed.order)
    return order_full(placed)


def order_ack(order: Order) -> Message:
    """Return the shortest reply to a new order."""
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_order_id,
        "transactTime": printed_time(order.time_ns),
    }


def order_result(order: Order) -> Message:
    """Return the reply to a new order with its state."""
    result = order_ack(order)
    result |= _order_amounts(order)
    result["workingTime"] = _working_ms(order)
    result["selfTradePreventionMode"] = order.prevention
    result |= _short_fields(order)
    result |= _conditional(order)
    return result


def order_full(placed: Placement) -> Message:
    """Return the reply to a new order with its state and what it traded at once."""
    result = order_result(placed.order)
    result["fills"] = [
        {
            "price": amount_text(execution.price),
            "qty": amount_text(execution.quantity),
            "commission": amount_text(execution.commission),
            "commissionAsset": execution.commission_asset,
            "tradeId": execution.trade_id,
        }
        for execution in placed.executions
    ]
    if placed.prevented:
        result["preventedMatches"] = [_prevented_match(match) for match in placed.prevented]
    return result


def _prevented_match(match: PreventedMatch) -> Message:
    message: Message = {
        "preventedMatchId": match.match_id,
        "makerOrderId": match.maker_order_id,
        "price": amount_text(match.price),
    }
    if match.taker_prevented:
        message["takerPreventedQuantity"] = amount_text(match.taker_prevented)
    if match.maker_prevented:
        message["makerPreventedQuantity"] = amount_text(match.maker_prevented)
    return message


def cancel_result(order: Order) -> Message:
    """Return the reply to a cancellation; `clientOrderId` is the cancellation's own."""
    return {
        "symbol": order.symbol,
        "origClientOrderId": order.client_order_id,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "clientOrderId": order.cancel_id,
        "transactTime": printed_time(order.update_time_ns),
        **_order_amounts(order),
        "selfTradePreventionMode": order.prevention,
        **_short_fields(order),
    }


def order_query(order: Order) -> Message:
    """Return an order as the queries and lists show it."""
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": order.list_id,
        "clientOrderId": order.client_order_id,
        **_order_amounts(order),
        "stopPrice": amount_text(order.stop_price),
        "icebergQty": amount_text(order.iceberg_quantity),
        "time": printed_time(order.time_ns),
        "updateTime": printed_time(order.update_time_ns),
        "isWorking": order.is_working,
        "workingTime": _working_ms(order),
        "selfTradePreventionMode": order.prevention,
        **_conditional(order),
    }


def _order_amounts(order: Order) -> Message:
    return {
        "price": amount_text(order.price),
        "origQty": amount_text(order.quantity),
        "executedQty": amount_text(order.executed),
        "origQuoteOrderQty": amount_text(order.quote_quantity),
        "cummulativeQuoteQty": amount_text(order.executed_quote),
        # Members of an enumeration are printed as their values; asking for those takes longer.
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": order.type,
        "side": "BUY" if order.is_buy else "SELL",
    }


def _working_ms(order: Order) -> int:
    return -1 if order.working_ns is None else printed_time(order.working_ns)


def _short_fields(order: Order) -> Message:
    """Return what the short replies show only where there is any."""
    fields: Message = {}
    if order.type.is_stop:
        fields["stopPrice"] = amount_text(order.stop_price)
    if order.iceberg_quantity:
        fields["icebergQty"] = amount_text(order.iceberg_quantity)
    return fields


def _conditional(order: Order) -> Message:
    extra: Message = {}
    if order.trailing_delta:
        extra["trailingDelta"] = order.trailing_delta
        extra["trailingTime"] = (
            printed_time(order.trailing_time_ns) if order.trailing_extreme else -1
        )
    if order.strategy_id is not None:
        extra["strategyId"] = order.strategy_id
    if order.strategy_type is not None:
        extra["strategyType"] = order.strategy_type
    if order.prevented_match_id is not None:
        extra["preventedMatchId"] = order.prevented_match_id
        extra["preventedQuantity"] = amount_text(order.prevented)
    if order.expiry_reason is not None:
        extra["expiryReason"] = order.expiry_reason.value
    return extra


def my_trade(execution: Execution) -> Message:
    """Return one execution as myTrades shows it."""
    return {
        "symbol": execution.symbol,
        "id": execution.trade_id,
        "orderId": execution.order_id,
        "orderListId": execution.list_id,
        "price": amount_text(execution.price),
        "qty": amount_text(execution.quantity),
        "quoteQty": amount_text(execution.quote_quantity),
        "commission": amount_text(execution.commission),
        "commissionAsset": execution.commission_asset,
        "time": printed_time(execution.time_ns),
        "isBuyer": execution.is_buyer,
        "isMaker": execution.is_maker,
        "isBestMatch": True,
    }


# The account.


def account(
    balances: Mapping[str, Balance],
    *,
    maker_fee_ppm: int,
    taker_fee_ppm: int,
    update_time_ns: int,
    uid: int,
    omit_zero: bool,
) -> Message:
    """Return the reply to GET account."""
    return {
        "makerCommission": maker_fee_ppm // 100,
        "takerCommission": taker_fee_ppm // 100,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": _rates(maker_fee_ppm, taker_fee_ppm),
        "canTrade": True,
        "canWithdraw": False,
        "canDeposit": False,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": printed_time(update_time_ns),
        "accountType": "SPOT",
        "balances": [
            {"asset": asset, "free": amount_text(held.free), "locked": amount_text(held.locked)}
            for asset, held in balances.items()
            if not omit_zero or held.free or held.locked
        ],
        "permissions": ["SPOT"],
        "uid": uid,
    }


def commission(symbol: str, *, maker_fee_ppm: int, taker_fee_ppm: int) -> Message:
    """Return the reply to GET account/commission."""
    return {
        "symbol": symbol,
        "standardCommission": _rates(maker_fee_ppm, taker_fee_ppm),
        "specialCommission": _rates(0, 0),
        "taxCommission": _rates(0, 0),
        "discount": _discount(),
    }


def test_commission(*, maker_fee_ppm: int, taker_fee_ppm: int) -> Message:
    """Return the reply to order/test with computeCommissionRates."""
    nothing = {"maker": _NOTHING, "taker": _NOTHING}
    return {
        "standardCommissionForOrder": {
            "maker": _rate(maker_fee_ppm),
            "taker": _rate(taker_fee_ppm),
        },
        "specialCommissionForOrder": nothing,
        "taxCommissionForOrder": nothing,
        "discount": _discount(),
    }


def _discount() -> Message:
    return {
        "enabledForAccount": False,
        "enabledForSymbol": False,
        "discountAsset": "BNB",
        "discount": "0.75000000",
    }


def _rates(maker_fee_ppm: int, taker_fee_ppm: int) -> Message:
    return {
        "maker": _rate(maker_fee_ppm),
        "taker": _rate(taker_fee_ppm),
        "buyer": _NOTHING,
        "seller": _NOTHING,
    }


def _rate(rate_ppm: int) -> str:
    return amount_text(rate_ppm * 100)


# Market data.


def depth_levels(levels: list[tuple[int, int]]) -> list[list[str]]:
    """Return one side of a book."""
    return [[amount_text(price), amount_text(quantity)] for price, quantity in levels]


def public_trade(trade: TradePrint) -> Message:
    """Return a trade as GET trades shows it."""
    return {
        "id": trade.trade_id,
        "price": amount_text(trade.price),
        "qty": amount_text(trade.quantity),
        "quoteQty": amount_text(trade.price * trade.quantity // ONE),
        "time": printed_time(trade.time_ns),
        "isBuyerMaker": trade.buyer_is_maker,
        "isBestMatch": True,
    }


def aggregate_trade(trade: TradePrint) -> Message:
    """Return a trade as GET aggTrades shows it: here each trade is its own aggregate."""
    return {
        "a": trade.trade_id,
        "p": amount_text(trade.price),
        "q": amount_text(trade.quantity),
        "f": trade.trade_id,
        "l": trade.trade_id,
        "T": printed_time(trade.time_ns),
        "m": trade.buyer_is_maker,
        "M": True,
    }


def kline_row(candle: Candle, interval: str, zone_ms: int = 0) -> list[object]:
    """Return a candle, stamped in wire time, as GET klines shows it."""
    return [
        _printed_ms(candle.open_ms),
        amount_text(candle.open),
        amount_text(candle.high),
        amount_text(candle.low),
        amount_text(candle.close),
        amount_text(candle.volume),
        _last_moment_before(interval_bounds(candle.open_ms, interval, zone_ms)[1]),
        amount_text(candle.quote_volume),
        candle.trade_count,
        amount_text(candle.taker_buy_volume),
        amount_text(candle.taker_buy_quote),
        "0",
    ]


def price_ticker(symbol: str, price: int) -> Message:
    """Return the latest price."""
    return {"symbol": symbol, "price": amount_text(price)}


def book_ticker(symbol: str, bid: tuple[int, int] | None, ask: tuple[int, int] | None) -> Message:
    """Return the top of the book; an empty side is zero."""
    bid_price, bid_quantity = bid or (0, 0)
    ask_price, ask_quantity = ask or (0, 0)
    return {
        "symbol": symbol,
        "bidPrice": amount_text(bid_price),
        "bidQty": amount_text(bid_quantity),
        "askPrice": amount_text(ask_price),
        "askQty": amount_text(ask_quantity),
    }


def mini_statistics(symbol: str, day: DayStatistics, offset_ms: int) -> Message:
    """Return the 24-hour statistics in their short form."""
    candle = day.candle
    return {
        "symbol": symbol,
        "openPrice": amount_text(candle.open),
        "highPrice": amount_text(candle.high),
        "lowPrice": amount_text(candle.low),
        "lastPrice": amount_text(candle.close),
        "volume": amount_text(candle.volume),
        "quoteVolume": amount_text(candle.quote_volume),
        "openTime": _printed_ms(day.opens_ms + offset_ms),
        "closeTime": _printed_ms(day.closes_ms + offset_ms),
        "firstId": candle.first_trade_id,
        "lastId": candle.last_trade_id,
        "count": candle.trade_count,
    }


def full_statistics(
    symbol: str,
    day: DayStatistics,
    offset_ms: int,
    *,
    last_quantity: int,
    bid: tuple[int, int] | None,
    ask: tuple[int, int] | None,
) -> Message:
    """Return the 24-hour statistics in their long form."""
    candle = day.candle
    change = candle.close - candle.open
    average = candle.quote_volume * ONE // candle.volume if candle.volume else candle.close
    return {
        "symbol": symbol,
        "priceChange": amount_text(change),
        "priceChangePercent": percent_text(change, candle.open),
        "weightedAvgPrice": amount_text(average),
        "prevClosePrice": amount_text(day.previous_close),
        "lastQty": amount_text(last_quantity),
        **{
            name: value for name, value in book_ticker(symbol, bid, ask).items() if name != "symbol"
        },
        **mini_statistics(symbol, day, offset_ms),
    }


# Events of the market streams.


def trade_event(trade: TradePrint) -> Message:
    """Return a `trade` event."""
    time_ms = printed_time(trade.time_ns)
    return {
        "e": "trade",
        "E": time_ms,
        "s": trade.symbol,
        "t": trade.trade_id,
        "p": amount_text(trade.price),
        "q": amount_text(trade.quantity),
        "T": time_ms,
        "m": trade.buyer_is_maker,
        "M": True,
    }


def aggregate_trade_event(trade: TradePrint) -> Message:
    """Return an `aggTrade` event."""
    return {
        "e": "aggTrade",
        "E": printed_time(trade.time_ns),
        "s": trade.symbol,
        **aggregate_trade(trade),
    }


def book_ticker_event(book: BookEvent) -> Message:
    """Return a bookTicker event, which on spot carries no times."""
    bid_price, bid_quantity = book.bid or (0, 0)
    ask_price, ask_quantity = book.ask or (0, 0)
    return {
        "u": book.update_id,
        "s": book.symbol,
        "b": amount_text(bid_price),
        "B": amount_text(bid_quantity),
        "a": amount_text(ask_price),
        "A": amount_text(ask_quantity),
    }


def mini_ticker_event(symbol: str, day: DayStatistics, time_ns: int) -> Message:
    """Return a miniTicker event."""
    candle = day.candle
    return {
        "e": "24hrMiniTicker",
        "E": printed_time(time_ns),
        "s": symbol,
        "c": amount_text(candle.close),
        "o": amount_text(candle.open),
        "h": amount_text(candle.high),
        "l": amount_text(candle.low),
        "v": amount_text(candle.volume),
        "q": amount_text(candle.quote_volume),
    }


def kline_event(
    symbol: str,
    interval: str,
    candle: Candle,
    time_ns: int,
    *,
    is_closed: bool,
    zone_ms: int = 0,
) -> Message:
    """Return a kline event of a candle stamped in wire time."""
    return {
        "e": "kline",
        "E": printed_time(time_ns),
        "s": symbol,
        "k": {
            "t": _printed_ms(candle.open_ms),
            "T": _last_moment_before(interval_bounds(candle.open_ms, interval, zone_ms)[1]),
            "s": symbol,
            "i": interval,
            "f": candle.first_trade_id,
            "L": candle.last_trade_id,
            "o": amount_text(candle.open),
            "c": amount_text(candle.close),
            "h": amount_text(candle.high),
            "l": amount_text(candle.low),
            "v": amount_text(candle.volume),
            "n": candle.trade_count,
            "x": is_closed,
            "q": amount_text(candle.quote_volume),
            "V": amount_text(candle.taker_buy_volume),
            "Q": amount_text(candle.taker_buy_quote),
            "B": "0",
        },
    }


# Events of the user stream.


def execution_report(event: OrderEvent, time_ns: int) -> Message:
    """Return an executionReport. On a cancellation `c` is the cancel's id, `C` the order's."""
    order, execution = event.order, event.execution
    is_cancel = event.status is OrderStatus.CANCELED
    report: Message = {
        "e": "executionReport",
        "E": printed_time(time_ns),
        "s": order.symbol,
        "c": order.cancel_id if is_cancel else order.client_order_id,
        "S": _side(is_buy=order.is_buy),
        "o": order.type.value,
        "f": order.time_in_force.value,
        "q": amount_text(order.quantity),
        "p": amount_text(order.price),
        "P": amount_text(order.stop_price),
        "F": amount_text(order.iceberg_quantity),
        "g": order.list_id,
        "C": order.client_order_id if is_cancel else "",
        "x": "NEW" if event.kind == "RELEASED" else event.kind,
        "X": event.status.value,
        "r": event.reject_reason,
        "i": order.order_id,
        "l": amount_text(execution.quantity) if execution else _NOTHING,
        "z": amount_text(event.executed),
        "L": amount_text(execution.price) if execution else _NOTHING,
        "n": amount_text(execution.commission) if execution else "0",
        "N": execution.commission_asset if execution else None,
        "T": printed_time(event.time_ns),
        "t": execution.trade_id if execution else -1,
        "I": event.event_id,
        "w": event.is_on_book,
        "m": execution.is_maker if execution else False,
        "M": execution is not None,
        "O": printed_time(order.time_ns),
        "Z": amount_text(event.executed_quote),
        "Y": amount_text(execution.quote_quantity) if execution else _NOTHING,
        "Q": amount_text(order.quote_quantity),
    }
    if event.working_ns is not None:
        report["W"] = printed_time(event.working_ns)
    report["V"] = order.prevention.value
    if event.prevented_match is not None:
        report |= _prevention_fields(event, event.prevented_match)
    if order.trailing_delta:
        report["d"] = order.trailing_delta
        if order.trailing_extreme:
            report["D"] = printed_time(order.trailing_time_ns)
    if order.strategy_id is not None:
        report["j"] = order.strategy_id
    if order.strategy_type is not None:
        report["J"] = order.strategy_type
    if event.status is OrderStatus.EXPIRED and order.expiry_reason is not None:
        report["eR"] = order.expiry_reason.value
    return report


def _prevention_fields(event: OrderEvent, match: PreventedMatch) -> Message:
    """Return what a TRADE_PREVENTION tells: the order's loss, and the trade that was not."""
    is_taker = event.order.order_id == match.taker_order_id
    cost = quote_amount(price=match.price, quantity=match.quantity)
    return {
        "v": match.match_id,
        "A": amount_text(event.prevented),
        "B": amount_text(match.taker_prevented if is_taker else match.maker_prevented),
        # Nobody belongs to a trade group here.
        "u": -1,
        "U": match.maker_order_id if is_taker else match.taker_order_id,
        "Cs": event.order.symbol,
        "pl": amount_text(match.quantity),
        "pL": amount_text(match.price),
        "pY": amount_text(cost),
    }


def account_position(event: BalanceEvent, time_ns: int) -> Message:
    """Return an outboundAccountPosition of the assets that one command touched."""
    return {
        "e": "outboundAccountPosition",
        "E": printed_time(time_ns),
        "u": printed_time(event.time_ns),
        "B": [
            {"a": asset, "f": amount_text(free), "l": amount_text(locked)}
            for asset, free, locked in event.balances
        ],
    }


def balance_update(event: TransferEvent, time_ns: int) -> Message:
    """Return a balanceUpdate: what has come into an account from outside, or gone out."""
    return {
        "e": "balanceUpdate",
        "E": printed_time(time_ns),
        "a": event.asset,
        "d": amount_text(event.amount),
        "T": printed_time(event.time_ns),
    }


def session_state(
    api_key: str | None,
    *,
    authorized_ns: int,
    connected_ns: int,
    time_ns: int,
    wants_limits: bool,
    is_subscribed: bool,
) -> Message:
    """Return who is logged on to a session of the WebSocket API, nobody without a key."""
    return {
        "apiKey": api_key,
        "authorizedSince": None if api_key is None else printed_time(authorized_ns),
        "connectedSince": printed_time(connected_ns),
        "returnRateLimits": wants_limits,
        "serverTime": printed_time(time_ns),
        "userDataStream": is_subscribed,
    }


def stream_terminated(time_ns: int) -> Message:
    """Return the event that ends a user stream."""
    return {"e": "eventStreamTerminated", "E": printed_time(time_ns)}


def server_shutdown(time_ns: int) -> Message:
    """Return the event that announces the end of every stream."""
    return {"e": "serverShutdown", "E": printed_time(time_ns)}

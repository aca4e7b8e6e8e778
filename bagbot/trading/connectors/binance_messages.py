"""Binance's JSON, from REST and from streams, made into our dataclasses; no I/O."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from bagbot.domain.events import Fill
from bagbot.domain.instrument import Instrument, Side
from bagbot.domain.ohlcv import Ohlcv
from bagbot.trading.connectors.exchange_errors import Answer
from bagbot.trading.connectors.interface import (
    Balance,
    ExchangeOrder,
    ExchangeOrderStatus,
    ExchangePosition,
    Ticker,
    Trade,
)

Row = Mapping[str, Any]
Symbols = Mapping[str, str]
"""Binance's symbol -> ours ("BTCUSDT" -> "BTC/USDT"); an unknown one is kept as it is."""

_STATUS: Final = {
    "NEW": ExchangeOrderStatus.OPEN,
    "PENDING_NEW": ExchangeOrderStatus.OPEN,
    "PARTIALLY_FILLED": ExchangeOrderStatus.OPEN,
    "PENDING_CANCEL": ExchangeOrderStatus.OPEN,
    "FILLED": ExchangeOrderStatus.CLOSED,
    "CANCELED": ExchangeOrderStatus.CANCELED,
    "EXPIRED": ExchangeOrderStatus.EXPIRED,
    "EXPIRED_IN_MATCH": ExchangeOrderStatus.EXPIRED,
    "REJECTED": ExchangeOrderStatus.REJECTED,
}
_SIDE: Final = {"BUY": Side.BUY, "SELL": Side.SELL}
# Futures' own words for conditional orders are other ones; they stay as they are.
_TYPE: Final = {"LIMIT_MAKER": "limit"}
_ZERO: Final = Decimal(0)
_DEFAULT_STEP: Final = Decimal("0.00000001")
_MS: Final = 1_000_000


def spot_instruments(exchange_info: Row) -> dict[str, Instrument]:
    """Return the spot symbols with their filters."""
    return {
        f"{row['baseAsset']}/{row['quoteAsset']}": _instrument(
            row,
            symbol=f"{row['baseAsset']}/{row['quoteAsset']}",
            is_trading=row["status"] == "TRADING" and row.get("isSpotTradingAllowed", True),
        )
        for row in exchange_info["symbols"]
    }


def futures_instruments(exchange_info: Row) -> dict[str, Instrument]:
    """Return the perpetual contracts with their filters; those with a delivery date are left out.

    Futures move the percent filters with the mark price, and only outwards: no buy far above,
    no sell far below.
    """
    found = {}
    for row in exchange_info["symbols"]:
        if row["contractType"] in ("PERPETUAL", "TRADIFI_PERPETUAL"):
            symbol = f"{row['baseAsset']}/{row['quoteAsset']}:{row['marginAsset']}"
            is_trading = row["status"] == "TRADING"
            found[symbol] = _instrument(row, symbol=symbol, is_trading=is_trading)
    return found


def _instrument(row: Row, *, symbol: str, is_trading: bool) -> Instrument:
    filters = {f["filterType"]: f for f in row["filters"]}
    price, lot = filters.get("PRICE_FILTER", {}), filters.get("LOT_SIZE", {})
    market_lot = filters.get("MARKET_LOT_SIZE", {})
    notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL") or {}
    by_side = filters.get("PERCENT_PRICE_BY_SIDE", {})
    percent = filters.get("PERCENT_PRICE", {})
    both_ways = "contractType" not in row
    return Instrument(
        symbol=symbol,
        exchange_symbol=row["symbol"],
        base=row["baseAsset"],
        quote=row["quoteAsset"],
        tick_size=_limit(price, "tickSize") or _DEFAULT_STEP,
        lot_size=_limit(lot, "stepSize") or _DEFAULT_STEP,
        is_trading=is_trading,
        price_min=_limit(price, "minPrice"),
        price_max=_limit(price, "maxPrice"),
        quantity_min=_limit(lot, "minQty"),
        quantity_max=_limit(lot, "maxQty"),
        market_lot_size=_limit(market_lot, "stepSize"),
        market_quantity_min=_limit(market_lot, "minQty"),
        market_quantity_max=_limit(market_lot, "maxQty"),
        notional_min=_limit(notional, "minNotional") or _limit(notional, "notional"),
        notional_max=_limit(notional, "maxNotional"),
        notional_min_applies_to_market=bool(
            notional.get("applyMinToMarket", notional.get("applyToMarket", True))
        ),
        notional_max_applies_to_market=bool(notional.get("applyMaxToMarket", False)),
        buy_price_ratio_min=_limit(by_side, "bidMultiplierDown")
        or (_limit(percent, "multiplierDown") if both_ways else None),
        buy_price_ratio_max=_limit(by_side, "bidMultiplierUp") or _limit(percent, "multiplierUp"),
        sell_price_ratio_min=_limit(by_side, "askMultiplierDown")
        or _limit(percent, "multiplierDown"),
        sell_price_ratio_max=_limit(by_side, "askMultiplierUp")
        or (_limit(percent, "multiplierUp") if both_ways else None),
        open_orders_max=_count(filters.get("MAX_NUM_ORDERS"), "maxNumOrders", "limit"),
        open_stops_max=_count(filters.get("MAX_NUM_ALGO_ORDERS"), "maxNumAlgoOrders", "limit"),
        # Where the two directions differ, what both allow.
        trailing_delta_min=max(_trailing(filters, "minTrailing"), default=None),
        trailing_delta_max=min(_trailing(filters, "maxTrailing"), default=None),
    )


def _count(filter_row: Row | None, *names: str) -> int | None:
    """Return a filter's number under the name that it has there; spot and futures differ."""
    return (
        next((int(filter_row[n]) for n in names if n in filter_row), None) if filter_row else None
    )


def _trailing(filters: Mapping[str, Row], which: str) -> list[int]:
    row = filters.get("TRAILING_DELTA", {})
    return [int(row[name]) for name in (f"{which}AboveDelta", f"{which}BelowDelta") if name in row]


def _limit(filter_row: Row, name: str) -> Decimal | None:
    # Binance switches a part of a filter off by a 0.
    value = filter_row.get(name)
    return None if value is None else Decimal(value) or None


def order_from(row: Row, symbols: Symbols, *, client_order_id: str | None = None) -> ExchangeOrder:
    """Return the order of any REST answer: to a new order, a query, a cancel, a list.

    `client_order_id` is the order's own where the caller knows it. A cancel has an id too, and
    spot shows that one as `clientOrderId` from then on.
    """
    filled = Decimal(row.get("executedQty", "0"))
    time_ms = row.get("transactTime") or row.get("updateTime") or row.get("time") or 0
    own_id = client_order_id or row.get("origClientOrderId") or row.get("clientOrderId")
    price = row.get("price")
    amount = row.get("origQty")
    kind = row.get("type")
    return ExchangeOrder(
        id=str(row["orderId"]),
        symbol=symbols.get(row["symbol"], row["symbol"]),
        # An answer without a status is the short form of "accepted".
        status=_STATUS[row.get("status", "NEW")],
        client_order_id=own_id,
        side=_SIDE[row["side"]] if "side" in row else None,
        type=None if kind is None else _TYPE.get(kind, kind.lower()),
        amount=None if amount is None else Decimal(amount),
        # A market order is told with the price 0.
        price=None if price is None else Decimal(price) or None,
        filled=filled,
        average=_average(row, filled),
        fills=tuple(_immediate_fill(f, time_ms) for f in row.get("fills", ())),
        exchange_time_ns=int(time_ms) * _MS,
        reason=_stated(row.get("expiryReason")),
        info=row,
        trigger_price=_trigger(row.get("stopPrice")),
        trailing_delta=_delta(row.get("trailingDelta")),
        has_triggered=row.get("isWorking"),
    )


def _trigger(price: str | None) -> Decimal | None:
    # An order without one is told with the stop price 0.
    return None if price is None else Decimal(price) or None


def _delta(value: object) -> int | None:
    return None if value is None else int(str(value))


def _average(row: Row, filled: Decimal) -> Decimal | None:
    if not filled:
        return None
    if "avgPrice" in row:
        return Decimal(row["avgPrice"]) or None
    worth = Decimal(row.get("cummulativeQuoteQty") or row.get("cumQuote") or 0)
    # Below zero: Binance does not know it any more for orders of long ago.
    return worth / filled if worth > 0 else None


def _immediate_fill(row: Row, time_ms: int) -> Fill:
    return Fill(
        trade_id=str(row["tradeId"]),
        quantity=Decimal(row["qty"]),
        price=Decimal(row["price"]),
        fee=Decimal(row["commission"]),
        fee_asset=row["commissionAsset"],
        exchange_time_ns=int(time_ms) * _MS,
        # What trades within the answer to its own order has taken.
        is_maker=False,
    )


def trade_from(row: Row, symbols: Symbols) -> Trade:
    """Return an execution of the account's own; spot and futures name two fields differently."""
    is_buyer = row["isBuyer"] if "isBuyer" in row else row["buyer"]
    is_maker = row["isMaker"] if "isMaker" in row else row["maker"]
    return Trade(
        symbol=symbols.get(row["symbol"], row["symbol"]),
        side=Side.BUY if is_buyer else Side.SELL,
        exchange_order_id=str(row["orderId"]),
        fill=Fill(
            trade_id=str(row["id"]),
            quantity=Decimal(row["qty"]),
            price=Decimal(row["price"]),
            fee=Decimal(row["commission"]),
            fee_asset=row["commissionAsset"],
            exchange_time_ns=int(row["time"]) * _MS,
            is_maker=bool(is_maker),
        ),
    )


def spot_balances(account: Row) -> dict[str, Balance]:
    """Return what a spot account holds."""
    rows = (
        Balance(asset=r["asset"], free=Decimal(r["free"]), used=Decimal(r["locked"]))
        for r in account["balances"]
    )
    return {b.asset: b for b in rows if b.free or b.used}


def futures_balances(account: Row) -> dict[str, Balance]:
    """Return what a futures account holds: free is what may leave or back an order.

    `used` is the margin that positions and open orders bind.
    """
    rows = (
        Balance(
            asset=r["asset"],
            free=Decimal(r["availableBalance"]),
            used=Decimal(r["initialMargin"]),
        )
        for r in account["assets"]
        if Decimal(r["walletBalance"]) or Decimal(r["initialMargin"])
    )
    return {b.asset: b for b in rows}


def positions_from(rows: Sequence[Row], symbols: Symbols) -> list[ExchangePosition]:
    """Return the positions that are open; a symbol with only orders on it has none."""
    return [
        ExchangePosition(
            symbol=symbols.get(row["symbol"], row["symbol"]),
            quantity=Decimal(row["positionAmt"]),
            entry_price=Decimal(row["entryPrice"]),
            mark_price=Decimal(row["markPrice"]),
            unrealised_pnl=Decimal(row["unRealizedProfit"]),
            liquidation_price=Decimal(row["liquidationPrice"]) or None,
            info=row,
        )
        for row in rows
        if Decimal(row["positionAmt"])
    ]


def ticker_from(row: Row, symbol: str, *, last: Row | None = None) -> Ticker:
    """Return the prices of a `ticker/24hr` row, or of `bookTicker` with `last` beside it."""
    time_ms = row.get("closeTime") or row.get("time") or 0
    last_price = (last or {}).get("price") or row.get("lastPrice")
    return Ticker(
        symbol=symbol,
        # An empty side of the book is told as the price 0.
        bid=Decimal(row["bidPrice"]) or None,
        ask=Decimal(row["askPrice"]) or None,
        last=None if last_price is None else Decimal(last_price) or None,
        exchange_time_ns=int(time_ms) * _MS,
    )


def ohlcv_from(row: Sequence[Any]) -> Ohlcv:
    """Return the bar of one row of `klines`."""
    time_ms, open_, high, low, close, volume = row[:6]
    return Ohlcv(
        open_time_ms=int(time_ms),
        open=Decimal(open_),
        high=Decimal(high),
        low=Decimal(low),
        close=Decimal(close),
        volume=Decimal(volume),
    )


def ohlcv_from_event(event: Row) -> tuple[Ohlcv, bool] | None:
    """Return the bar of a stream's event and whether it has closed, or None if it is about none."""
    if event.get("e") != "kline":
        return None
    told = event["k"]
    return ohlcv_from([told[name] for name in "tohlcv"]), bool(told["x"])


def order_from_event(event: Row, symbols: Symbols) -> ExchangeOrder | None:
    """Return the order that a stream event tells about, or None when it is about none."""
    if event["e"] == "executionReport":
        return _order_from_report(event, event, symbols)
    if event["e"] == "ORDER_TRADE_UPDATE":
        return _order_from_report(event["o"], event, symbols)
    return None


def _order_from_report(report: Row, event: Row, symbols: Symbols) -> ExchangeOrder:
    time_ns = int(report.get("T") or event["E"]) * _MS
    filled = Decimal(report["z"])
    fills: tuple[Fill, ...] = ()
    # CALCULATED is a liquidation: it trades like any other. -1 and 0 stand for "no trade".
    if report["x"] in ("TRADE", "CALCULATED") and int(report["t"]) > 0:
        fills = (_streamed_fill(report, time_ns),)
    return ExchangeOrder(
        id=str(report["i"]),
        symbol=symbols.get(report["s"], report["s"]),
        status=_STATUS[report["X"]],
        # On a cancel spot puts the cancel's own id into c, and the order's into C.
        client_order_id=report.get("C") or report["c"],
        side=_SIDE[report["S"]],
        type=_TYPE.get(report["o"], report["o"].lower()),
        amount=Decimal(report["q"]),
        price=Decimal(report["p"]) or None,
        filled=filled,
        average=_streamed_average(report, filled),
        fills=fills,
        exchange_time_ns=time_ns,
        reason=_stated(report.get("r")) or _stated(report.get("eR")),
        info=event,
        trigger_price=_trigger(report.get("P")),
        trailing_delta=_delta(report.get("d")),
    )


def _streamed_fill(report: Row, time_ns: int) -> Fill:
    return Fill(
        trade_id=str(report["t"]),
        quantity=Decimal(report["l"]),
        price=Decimal(report["L"]),
        fee=Decimal(report.get("n") or "0"),
        fee_asset=report.get("N") or "",
        exchange_time_ns=time_ns,
        is_maker=bool(report["m"]),
    )


def _streamed_average(report: Row, filled: Decimal) -> Decimal | None:
    if not filled:
        return None
    if "ap" in report:
        return Decimal(report["ap"]) or None
    return Decimal(report["Z"]) / filled


def _stated(reason: object) -> str:
    return "" if reason in (None, "NONE") else str(reason)


def answer_from(message: Row) -> Answer:
    """Return a WebSocket API's answer as if it had come by HTTP: status, wait, code and words."""
    error = message.get("error")
    if not isinstance(error, Mapping):
        error = {}
    data = error.get("data") or {}
    headers = {}
    # Here it is a moment, not a span; the server says its own time beside it.
    if "retryAfter" in data and "serverTime" in data:
        headers["Retry-After"] = str(max(0, data["retryAfter"] - data["serverTime"]) / 1000)
    content = error if error else message.get("result")
    return Answer(
        http_status=int(message.get("status", 500)),
        headers=headers,
        body=str(error.get("msg", "")),
        content=content,
    )

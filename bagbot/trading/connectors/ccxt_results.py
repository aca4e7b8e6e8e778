"""CCXT's unified results made into our dataclasses; every number by its text."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from bagbot.domain.events import Fill
from bagbot.domain.instrument import Instrument, Side
from bagbot.domain.ohlcv import Ohlcv
from bagbot.trading.connectors.interface import (
    Balance,
    ExchangeOrder,
    ExchangeOrderStatus,
    ExchangePosition,
    Ticker,
    Trade,
)

Row = Mapping[str, Any]


def decimal_or_none(value: object) -> Decimal | None:
    """Return a number by its text, or None when there is none."""
    return None if value is None or value == "" else Decimal(str(value))


def balances_from(answer: Row) -> dict[str, Balance]:
    """Return the assets of which the account holds something."""
    found = {}
    for asset, total in answer["total"].items():
        row = answer[asset]
        free, used = decimal_or_none(row.get("free")), decimal_or_none(row.get("used"))
        # Some exchanges tell only two of the three; the third is their difference.
        if free is None:
            free = Decimal(str(total or 0)) - (used or 0)
        balance = Balance(asset=asset, free=free, used=used or Decimal(0))
        if balance.free or balance.used:
            found[asset] = balance
    return found


def is_tradable(market: Row) -> bool:
    """Return whether an amount of this market is an amount of its base asset.

    On contracts of another size CCXT counts contracts, which our orders do not.
    """
    size = market.get("contractSize")
    is_linear = bool(market.get("spot")) or bool(market.get("swap") and market.get("linear"))
    return is_linear and (size is None or Decimal(str(size)) == 1)


def instrument_from(market: Row, *, precision_is_step: bool) -> Instrument:
    """Return CCXT's market as an instrument; limits that it does not know stay open."""
    limits, precision = market["limits"], market["precision"]

    def limit(of: str, bound: str) -> Decimal | None:
        return decimal_or_none((limits.get(of) or {}).get(bound))

    def step(of: str) -> Decimal:
        value = decimal_or_none(precision.get(of))
        if value is None:
            return Decimal("0.00000001")
        return value if precision_is_step else Decimal(1).scaleb(-int(value))

    return Instrument(
        symbol=market["symbol"],
        exchange_symbol=market["id"],
        base=market["base"],
        quote=market["quote"],
        tick_size=step("price"),
        lot_size=step("amount"),
        is_trading=market.get("active") is not False,
        price_min=limit("price", "min"),
        price_max=limit("price", "max"),
        quantity_min=limit("amount", "min"),
        quantity_max=limit("amount", "max"),
        notional_min=limit("cost", "min"),
        notional_max=limit("cost", "max"),
    )


def order_from(answer: Row, symbol: str | None) -> ExchangeOrder:
    """Return CCXT's order; many exchanges answer a new order with nothing but its id."""
    try:
        status = ExchangeOrderStatus(answer.get("status") or "open")
    except ValueError:
        # "canceling" and the like: it is still there.
        status = ExchangeOrderStatus.OPEN
    order_id = str(answer["id"])
    side = answer.get("side")
    time_ms = answer.get("lastUpdateTimestamp") or answer.get("timestamp") or 0
    trades = [t for t in answer.get("trades") or () if t.get("id") is not None]
    return ExchangeOrder(
        id=order_id,
        symbol=answer.get("symbol") or symbol or "",
        status=status,
        client_order_id=answer.get("clientOrderId") or None,
        side=None if side is None else Side(side),
        type=answer.get("type"),
        amount=decimal_or_none(answer.get("amount")),
        price=decimal_or_none(answer.get("price")),
        filled=decimal_or_none(answer.get("filled")) or Decimal(0),
        average=decimal_or_none(answer.get("average")),
        fills=tuple(_fill_from(trade) for trade in trades),
        exchange_time_ns=int(time_ms) * 1_000_000,
        info=answer.get("info") or {},
    )


def trade_from(row: Row, symbol: str) -> Trade:
    """Return CCXT's trade of the account's own."""
    return Trade(
        symbol=row.get("symbol") or symbol,
        side=Side(row["side"]),
        exchange_order_id=str(row["order"]),
        fill=_fill_from(row),
    )


def position_from(row: Row) -> ExchangePosition:
    """Return CCXT's position, signed: a short one is negative."""
    size = decimal_or_none(row.get("contracts")) or Decimal(0)
    quantity = size * (decimal_or_none(row.get("contractSize")) or Decimal(1))
    return ExchangePosition(
        symbol=row["symbol"],
        quantity=-quantity if row.get("side") == "short" else quantity,
        entry_price=decimal_or_none(row.get("entryPrice")) or Decimal(0),
        mark_price=decimal_or_none(row.get("markPrice")),
        unrealised_pnl=decimal_or_none(row.get("unrealizedPnl")),
        leverage=decimal_or_none(row.get("leverage")),
        liquidation_price=decimal_or_none(row.get("liquidationPrice")),
        info=row.get("info") or {},
    )


def ticker_from(row: Row) -> Ticker:
    """Return CCXT's ticker."""
    return Ticker(
        symbol=row["symbol"],
        bid=decimal_or_none(row.get("bid")),
        ask=decimal_or_none(row.get("ask")),
        last=decimal_or_none(row.get("last")),
        exchange_time_ns=int(row.get("timestamp") or 0) * 1_000_000,
    )


def ohlcv_from(row: Sequence[Any]) -> Ohlcv | None:
    """Return a bar in CCXT's order of columns, or None for one without prices: nobody traded."""
    time_ms, *texts = row[:6]
    prices = [decimal_or_none(text) for text in texts]
    open_, high, low, close, volume = prices
    if time_ms is None or open_ is None or high is None or low is None or close is None:
        return None
    return Ohlcv(
        open_time_ms=int(time_ms),
        open=open_,
        high=high,
        low=low,
        close=close,
        volume=volume or Decimal(0),
    )


def _fill_from(row: Row) -> Fill:
    fee = row.get("fee") or {}
    return Fill(
        trade_id=str(row["id"]),
        quantity=Decimal(str(row["amount"])),
        price=Decimal(str(row["price"])),
        fee=decimal_or_none(fee.get("cost")) or Decimal(0),
        fee_asset=fee.get("currency") or "",
        exchange_time_ns=int(row.get("timestamp") or 0) * 1_000_000,
        is_maker=row.get("takerOrMaker") == "maker",
    )

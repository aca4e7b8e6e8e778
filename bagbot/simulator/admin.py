"""The simulator's own side under /admin: the truth for checkers, and the script of faults.

Not Binance's. There is no authentication: it answers only to the machine it runs on.
"""

from collections import deque
from collections.abc import Mapping

import msgspec

from bagbot.domain.errors import ConfigError
from bagbot.simulator.amounts import amount_from_text, amount_text
from bagbot.simulator.bar_venue import BarVenue, MarketOverError
from bagbot.simulator.faults import Fault, FaultError, FaultScript, fault_from
from bagbot.simulator.live_market import LiveMarket
from bagbot.simulator.market_conditions import Condition, condition_from
from bagbot.simulator.orders import Execution, Order
from bagbot.simulator.synthetic_market import SyntheticMarket
from bagbot.simulator.venue import Venue

REQUESTS_KEPT = 100_000
_ROWS_MAX = 1_000_000


class LoggedRequest(msgspec.Struct, kw_only=True):
    """One request as it went, for benchmarks and for counting what arrived how often."""

    received_ns: int
    received_monotonic_ns: int
    method: str
    path: str
    symbol: str | None = None
    client_order_id: str | None = None
    # When an order had been carried out and stored, before its answer left.
    accepted_ns: int | None = None
    accepted_monotonic_ns: int | None = None
    status: int | None = None
    code: int | None = None
    fault: str | None = None
    outcome: str = "open"


class AdminError(Exception):
    """An admin request cannot be answered; the message says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Admin:
    """Answers the admin requests."""

    def __init__(self, venue: Venue, faults: FaultScript) -> None:
        self._venue = venue
        self._faults = faults
        self.requests: deque[LoggedRequest] = deque(maxlen=REQUESTS_KEPT)

    def answer(
        self, method: str, path: str, query: Mapping[str, str], body: bytes, now_ns: int
    ) -> object:
        """Return the reply, ready to be printed as JSON. Raises AdminError."""
        match method, path:
            case "GET", "/admin/clock":
                return self._clock(now_ns)
            case "GET", ("/admin/orders" | "/admin/trades" | "/admin/balances"):
                return self._account_view(path, self._account_id(query))
            case "GET", "/admin/accounts":
                return self._venue.account_ids
            case "GET", "/admin/requests":
                return list(self.requests)
            case "GET", "/admin/faults":
                return [_fault(fault) for fault in self._faults.pending()]
            case "GET", "/admin/market":
                return {symbol: self._market(symbol) for symbol in self._venue.exchange.symbols}
        return self._change(method, path, query, body, now_ns)

    def _change(
        self, method: str, path: str, query: Mapping[str, str], body: bytes, now_ns: int
    ) -> object:
        match method, path:
            case "POST", "/admin/faults":
                return self._add_faults(body)
            case "DELETE", "/admin/faults":
                self._faults.clear()
                return {}
            case "POST", "/admin/market":
                return self._add_conditions(body, now_ns)
            case "DELETE", "/admin/market":
                return self._clear_conditions()
            case "POST", "/admin/price":
                return self._move_price(query, now_ns)
            case "POST", "/admin/step":
                return self._step(now_ns)
        raise AdminError(404, f"there is no {method} {path}")

    def _account_view(self, path: str, account_id: int) -> object:
        if path == "/admin/orders":
            orders = self._venue.store.orders(account_id, limit=_ROWS_MAX)
            return [_order(order) for order in orders]
        if path == "/admin/trades":
            executions = self._venue.store.executions(account_id, limit=_ROWS_MAX)
            return [_execution(execution) for execution in executions]
        return {
            asset: {"free": amount_text(held.free), "locked": amount_text(held.locked)}
            for asset, held in self._venue.exchange.balances[account_id].items()
        }

    def _account_id(self, query: Mapping[str, str]) -> int:
        """Return the account asked for, by default the first."""
        account_ids = self._venue.account_ids
        name = query.get("account", next(iter(account_ids)))
        if name not in account_ids:
            raise AdminError(400, f"there is no account {name!r}")
        return account_ids[name]

    def _clock(self, now_ns: int) -> object:
        venue = self._venue
        clock = venue.clock
        return {
            "wire_ms": now_ns // 1_000_000,
            "market_ms": clock.market_ms(now_ns),
            "speed": clock.speed,
            "wire_start_ms": clock.wire_start_ns // 1_000_000,
            "market_start_ms": clock.market_start_ms,
            # A candle that opens at market time t is stamped t + this on the wire.
            "kline_offset_ms": venue.offset_ms,
            "newest_point_ms": {
                symbol: venue.market_time_ms(symbol) for symbol in venue.exchange.symbols
            },
            "is_market_over": venue.is_market_over,
            "bar": venue.bar_in_play,
        }

    def _step(self, now_ns: int) -> object:
        """Make the step that a trader asks for with "bar done", and return where it led."""
        venue = self._venue
        if not isinstance(venue, BarVenue) or not venue.is_stepped:
            raise AdminError(409, "only a stepped bar venue is stepped")
        try:
            venue.step(now_ns)
        except MarketOverError as error:
            raise AdminError(409, "the recorded bars are over") from error
        return self._clock(now_ns)

    def _add_faults(self, body: bytes) -> object:
        descriptions = _objects(body, "fault")
        try:
            faults = [fault_from(description) for description in descriptions]
        except FaultError as error:
            raise AdminError(400, str(error)) from error
        for fault in faults:
            self._faults.add(fault)
        return [_fault(fault) for fault in faults]

    def _market(self, symbol: str) -> object:
        venue = self._venue
        source = venue.source(symbol)
        market: dict[str, object] = {
            "source": source.kind,
            "price": amount_text(venue.last_price(symbol)),
            "market_ms": venue.market_time_ms(symbol),
            "is_halted": venue.quoting(symbol).is_halted,
            "is_over": source.is_over,
        }
        if isinstance(source, SyntheticMarket):
            market["conditions"] = [each.description() for each in source.conditions]
        elif isinstance(source, LiveMarket):
            # All that has happened up to here is known.
            market["heard_ms"] = source.heard_ms
        return market

    def _add_conditions(self, body: bytes, now_ns: int) -> object:
        """Tell markets what to do; nothing, when one condition cannot be read."""
        market_ms = self._venue.clock.market_ms(now_ns)
        added: list[Condition] = []
        try:
            for description in _objects(body, "condition"):
                condition = condition_from(description, market_ms)
                self._synthetic_market(condition.symbol)
                added.append(condition)
            return [self._synthetic_market(each.symbol).add(each).description() for each in added]
        except ConfigError as error:
            raise AdminError(400, str(error)) from error

    def _clear_conditions(self) -> object:
        for symbol in self._venue.exchange.symbols:
            source = self._venue.synthetic_market(symbol)
            if source is not None:
                source.clear()
        return {}

    def _synthetic_market(self, symbol: str) -> SyntheticMarket:
        """Return the symbol's market. Raises AdminError if it does not do what it is told."""
        if symbol not in self._venue.exchange.symbols:
            raise AdminError(400, f"there is no symbol {symbol!r}")
        source = self._venue.synthetic_market(symbol)
        if source is None:
            kind = self._venue.source(symbol).kind
            raise AdminError(409, f"the market of {symbol} is not synthetic: it plays {kind}")
        return source

    def _move_price(self, query: Mapping[str, str], now_ns: int) -> object:
        symbol = query.get("symbol", "")
        source = self._synthetic_market(symbol)
        if source.quoting.is_halted:
            raise AdminError(409, f"the market of {symbol} is halted")
        rules = self._venue.exchange.symbols[symbol]
        try:
            price = amount_from_text(query.get("price", ""))
        except ValueError as error:
            raise AdminError(400, "price must be a number with at most 8 decimals") from error
        if not rules.price_min <= price <= rules.price_max or price % rules.tick:
            raise AdminError(400, "price must be on the symbol's tick and inside its range")
        self._venue.move_price(symbol, price, now_ns)
        return {"symbol": symbol, "price": amount_text(price)}


def _objects(body: bytes, name: str) -> list[dict[str, object]]:
    """Return the JSON object, or the list of them, that was sent. Raises AdminError."""
    try:
        sent = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise AdminError(400, f"the body must be JSON: one {name} or a list of them") from error
    objects = sent if isinstance(sent, list) else [sent]
    if any(not isinstance(each, dict) for each in objects):
        raise AdminError(400, f"a {name} is an object")
    return objects


def _order(order: Order) -> dict[str, object]:
    return {
        "order_id": order.order_id,
        "client_order_id": order.client_order_id,
        "symbol": order.symbol,
        "side": "BUY" if order.is_buy else "SELL",
        "type": order.type.value,
        "time_in_force": order.time_in_force.value,
        "status": order.status.value,
        "price": amount_text(order.price),
        "quantity": amount_text(order.quantity),
        "quote_quantity": amount_text(order.quote_quantity),
        "executed": amount_text(order.executed),
        "executed_quote": amount_text(order.executed_quote),
        "time_ns": order.time_ns,
        "update_time_ns": order.update_time_ns,
        "market_time_ms": order.market_time_ms,
    }


def _execution(execution: Execution) -> dict[str, object]:
    return {
        "trade_id": execution.trade_id,
        "order_id": execution.order_id,
        "client_order_id": execution.client_order_id,
        "symbol": execution.symbol,
        "side": "BUY" if execution.is_buyer else "SELL",
        "is_maker": execution.is_maker,
        "price": amount_text(execution.price),
        "quantity": amount_text(execution.quantity),
        "quote_quantity": amount_text(execution.quote_quantity),
        "commission": amount_text(execution.commission),
        "commission_asset": execution.commission_asset,
        "time_ns": execution.time_ns,
        "market_time_ms": execution.market_time_ms,
    }


def _fault(fault: Fault) -> dict[str, object]:
    return {name: getattr(fault, name) for name in Fault.__slots__}

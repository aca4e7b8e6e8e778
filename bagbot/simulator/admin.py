"""The simulator's own side under /admin: the truth for checkers, and the script of faults.

Not Binance's. There is no authentication: it answers only to the machine it runs on.
"""

from collections.abc import Mapping

import msgspec

from bagbot.domain.errors import ConfigError
from bagbot.simulator.amounts import amount_from_text, amount_text
from bagbot.simulator.bar_venue import BarVenue, MarketOverError
from bagbot.simulator.fault_classes import catalogue, described
from bagbot.simulator.faults import FaultError, FaultScript, fault_from
from bagbot.simulator.late_requests import LateRequests
from bagbot.simulator.live_market import LiveMarket
from bagbot.simulator.market_conditions import Condition, condition_from
from bagbot.simulator.orders import Execution, Order, OrderRefusedError
from bagbot.simulator.request_log import RequestLog
from bagbot.simulator.synthetic_market import SyntheticMarket
from bagbot.simulator.venue import Venue
from bagbot.simulator.venue_acts import ActError, VenueActs

_ROWS_MAX = 1_000_000


class AdminError(Exception):
    """An admin request cannot be answered; the message says why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Admin:
    """Answers the admin requests."""

    def __init__(
        self,
        venue: Venue,
        faults: FaultScript,
        requests: RequestLog,
        acts: VenueActs,
        late: LateRequests,
    ) -> None:
        self._venue = venue
        self._faults = faults
        self._requests = requests
        self._acts = acts
        self._late = late

    def answer(
        self, method: str, path: str, query: Mapping[str, str], body: bytes, now_ns: int
    ) -> object:
        """Return the reply, ready to be printed as JSON. Raises AdminError."""
        match method, path:
            case "GET", "/admin/clock":
                return self._clock(now_ns)
            case "GET", ("/admin/orders" | "/admin/trades"):
                return self._history(path, query)
            case "GET", "/admin/balances":
                return self._balances(self._account_id(query))
            case "GET", "/admin/accounts":
                return self._venue.account_ids
            case "GET", "/admin/requests":
                return self._lines(query)
            case "GET", "/admin/totals":
                return self._totals()
            case "GET", "/admin/faults":
                return [fault.description() for fault in self._faults.pending()]
            case "GET", "/admin/faults/classes":
                return catalogue()
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
            case "POST", "/admin/acts":
                return [self._perform(each) for each in _objects(body, "act")]
            case "POST", "/admin/market":
                return self._add_conditions(body, now_ns)
            case "DELETE", "/admin/market":
                return self._clear_conditions()
            case "POST", "/admin/price":
                return self._move_price(query, now_ns)
            case "POST", "/admin/transfer":
                return self._transfer(query, now_ns)
            case "POST", "/admin/step":
                return self._step(now_ns)
        raise AdminError(404, f"there is no {method} {path}")

    # The truth.

    def _history(self, path: str, query: Mapping[str, str]) -> object:
        """Return all orders or executions of one account, or of every account for `*`.

        What a reset has made the venue forget is there as well.
        """
        names = {number: name for name, number in self._venue.account_ids.items()}
        chosen = list(names) if query.get("account") == "*" else [self._account_id(query)]
        store = self._venue.store
        rows: list[dict[str, object]] = []
        for account_id in chosen:
            for number in (-account_id, account_id):
                about = {"account": names[account_id], "is_forgotten": number < 0}
                if path == "/admin/orders":
                    orders = store.orders(number, limit=_ROWS_MAX)
                    rows += [_order(order) | about for order in orders]
                else:
                    executions = store.executions(number, limit=_ROWS_MAX)
                    rows += [_execution(execution) | about for execution in executions]
        return rows

    def _balances(self, account_id: int) -> object:
        return {
            asset: {"free": amount_text(held.free), "locked": amount_text(held.locked)}
            for asset, held in self._venue.exchange.balances[account_id].items()
        }

    def _lines(self, query: Mapping[str, str]) -> object:
        account_id = self._account_id(query) if "account" in query else None
        after = query.get("after", "0")
        if not (after.isascii() and after.isdigit()):
            raise AdminError(400, "after must be the number of a request")
        return self._requests.lines(account_id, int(after))

    def _totals(self) -> object:
        """Return how much there has been, so that whoever counts knows whether he saw all."""
        orders, executions = self._venue.store.counts()
        return {
            "requests_received": self._requests.received,
            "requests_dropped": self._requests.dropped,
            "requests_late": len(self._late),
            "orders": orders,
            "executions": executions,
            "faults": self._faults.happened,
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
            # What acts have put the wire clock ahead by.
            "ahead_ns": self._acts.ahead_ns,
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
        """Arm faults, and do acts; nothing of it when one of them is described wrongly."""
        try:
            wanted = [described(each) for each in _objects(body, "fault")]
            faults = [None if "act" in each else fault_from(each) for each in wanted]
        except FaultError as error:
            raise AdminError(400, str(error)) from error
        answers: list[object] = []
        for description, fault in zip(wanted, faults, strict=True):
            if fault is None:
                answers.append(self._perform(description))
            else:
                self._faults.add(fault)
                answers.append(fault.description())
        return answers

    def _perform(self, description: Mapping[str, object]) -> object:
        try:
            result = self._acts.perform(description)
        except ActError as error:
            raise AdminError(409, str(error)) from error
        self._faults.count(str(description.get("class") or description["act"]))
        return result

    def _transfer(self, query: Mapping[str, str], now_ns: int) -> object:
        """Deposit into an account, or withdraw from it what is written with a minus sign."""
        account_id = self._account_id(query)
        asset, text = query.get("asset", ""), query.get("amount", "")
        if asset not in self._venue.exchange.assets:
            raise AdminError(400, f"there is no asset {asset!r}")
        try:
            amount = amount_from_text(text.removeprefix("-"))
        except ValueError as error:
            raise AdminError(400, "amount must be a number with at most 8 decimals") from error
        try:
            self._venue.transfer(
                account_id, asset, -amount if text.startswith("-") else amount, now_ns
            )
        except OrderRefusedError as error:
            raise AdminError(409, "that is more than is free") from error
        held = self._venue.exchange.balances[account_id][asset]
        return {"asset": asset, "free": amount_text(held.free), "locked": amount_text(held.locked)}

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
        if not rules.is_trading:
            raise AdminError(409, "the symbol does not trade")
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

"""What the venue itself does on command: not a fault of one request, but an event for everybody.

An act is a JSON object with its name as `act`. Orders placed and cancelled here are those of the
account's owner at the website: no key, no signature, the same filters and the same engine.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from bagbot.simulator.amounts import amount_from_text, amount_text
from bagbot.simulator.bar_venue import BarVenue
from bagbot.simulator.binance_wire import Parameters
from bagbot.simulator.spot_api import Action, SpotApi
from bagbot.simulator.symbols import SYMBOL_STATUSES, SymbolRules
from bagbot.simulator.venue import Venue
from bagbot.simulator.wire_clock import WireClock

_SLEW_PPM_MAX = 100_000
_STEP_S_MAX = 10**9
# The filters that can be changed, as Binance calls them.
_FILTERS: Mapping[str, Callable[[SymbolRules, int], SymbolRules]] = {
    "tickSize": lambda rules, amount: replace(rules, tick=amount),
    "stepSize": lambda rules, amount: replace(rules, lot=amount),
    "maxQty": lambda rules, amount: replace(rules, quantity_max=amount),
    "minNotional": lambda rules, amount: replace(rules, notional_min=amount),
}


class ActError(Exception):
    """An act cannot be done; the message says why."""


class Connections(Protocol):
    """What acts need of the WebSockets."""

    def end_all(self, delay_s: float = 0.0) -> None:
        """End every connection with a closing handshake, `delay_s` from now."""

    def announce_end(self) -> None:
        """Send serverShutdown on every connection."""

    def end_subscriptions(self) -> None:
        """End every subscription to user events."""


class VenueActs:
    """Does what it is told by its owner, and says what came of it."""

    def __init__(
        self, venue: Venue, api: SpotApi, clock: WireClock, connections: Connections
    ) -> None:
        self._venue = venue
        self._api = api
        self._clock = clock
        self._connections = connections
        self._acts: dict[str, Callable[[dict[str, object]], object]] = {
            "clock": self._set_clock,
            "place": self._place,
            "cancel": self._cancel,
            "fill": self._fill,
            "symbol": self._change_symbol,
            "delist": self._delist,
            "streams": self._end_streams,
            "reset": self._reset,
        }

    @property
    def ahead_ns(self) -> int:
        """Return by how much acts have put the exchange's clock ahead of the true time."""
        return self._clock.offset_ns

    def perform(self, description: Mapping[str, object]) -> object:
        """Do one act. Raises ActError, and BinanceError when the exchange refuses an order."""
        options = dict(description)
        options.pop("class", None)
        act = self._acts.get(str(options.pop("act", None)))
        if act is None:
            raise ActError(f"act must be one of: {', '.join(self._acts)}")
        result = act(options)
        if options:
            raise ActError(f"unknown field: {', '.join(sorted(options))}")
        return result

    # Time and connections.

    def _set_clock(self, options: dict[str, object]) -> object:
        step_s = _number(options, "step_s", _STEP_S_MAX)
        slew_ppm = _number(options, "slew_ppm", _SLEW_PPM_MAX)
        if step_s is None and slew_ppm is None:
            raise ActError("clock takes step_s or slew_ppm")
        if step_s is not None:
            step_ns = int(step_s * 1_000_000_000)
            self._clock.step(step_ns)
            # The market goes on from where it was: only what time it is called has changed.
            self._venue.clock.wire_start_ns += step_ns
        if slew_ppm is not None:
            self._clock.slew(int(slew_ppm))
        return {"wire_ms": self._clock() // 1_000_000, "ahead_ns": self._clock.offset_ns}

    def _end_streams(self, options: dict[str, object]) -> object:
        end = options.pop("end", None)
        delay_s = _number(options, "delay_s", 3_600) or 0.0
        if end == "close":
            self._connections.end_all(delay_s)
        elif end == "shutdown":
            self._connections.announce_end()
            self._connections.end_all(delay_s)
        elif end == "terminate":
            self._connections.end_subscriptions()
        else:
            raise ActError("end must be one of: close, shutdown, terminate")
        return {}

    # Orders by hand.

    def _place(self, options: dict[str, object]) -> object:
        return self._by_hand(options, lambda api, parameters: api.place_order(parameters))

    def _cancel(self, options: dict[str, object]) -> object:
        return self._by_hand(options, lambda api, parameters: api.cancel_order(parameters))

    def _by_hand(
        self, options: dict[str, object], prepare: Callable[[SpotApi, Parameters], Action]
    ) -> object:
        account_id = self._account_id(options)
        sent = {name: str(options.pop(name)) for name in list(options)}
        parameters = Parameters(sent, self._venue.exchange.symbols)
        action = prepare(self._api.of(account_id), parameters)
        parameters.finish()
        return action(self._clock())

    def _fill(self, options: dict[str, object]) -> object:
        """Let the market take a resting order, or `quantity` of it."""
        account_id = self._account_id(options)
        symbol = self._rules(options).symbol
        client_order_id = options.pop("origClientOrderId", None)
        order_id = options.pop("orderId", None)
        quantity = _amount(options, "quantity") or 0
        order = self._venue.order(
            account_id,
            symbol,
            order_id=order_id if isinstance(order_id, int) else None,
            client_order_id=None if client_order_id is None else str(client_order_id),
        )
        if order is None:
            raise ActError("there is no such order")
        filled = self._venue.fill_resting(order.order_id, quantity, self._clock())
        if not filled:
            raise ActError("the order does not rest on a book")
        return {"order_id": order.order_id, "filled": amount_text(filled)}

    # Symbols, and everything.

    def _change_symbol(self, options: dict[str, object]) -> object:
        rules = self._rules(options)
        self._refuse_on_bars()
        changed = rules
        for name, with_amount in _FILTERS.items():
            amount = _amount(options, name)
            if amount == 0:
                raise ActError(f"{name} must be above zero")
            if amount is not None:
                changed = with_amount(changed, amount)
        status = options.pop("status", rules.status)
        if status not in SYMBOL_STATUSES:
            raise ActError(f"status must be one of: {', '.join(SYMBOL_STATUSES)}")
        self._venue.change_rules(replace(changed, status=str(status)))
        return {"symbol": rules.symbol, "status": status}

    def _delist(self, options: dict[str, object]) -> object:
        rules = self._rules(options)
        self._refuse_on_bars()
        self._venue.delist(rules.symbol, self._clock())
        return {"symbol": rules.symbol}

    def _reset(self, _options: dict[str, object]) -> object:
        self._venue.reset(self._clock())
        self._connections.end_all()
        return {}

    def _refuse_on_bars(self) -> None:
        if isinstance(self._venue, BarVenue):
            raise ActError("the recorded bars make this market")

    def _account_id(self, options: dict[str, object]) -> int:
        account_ids = self._venue.account_ids
        name = options.pop("account", next(iter(account_ids)))
        if not isinstance(name, str) or name not in account_ids:
            raise ActError(f"there is no account {name!r}")
        return account_ids[name]

    def _rules(self, options: dict[str, object]) -> SymbolRules:
        symbols = self._venue.exchange.symbols
        name = options.pop("symbol", next(iter(symbols), ""))
        rules = symbols.get(str(name))
        if rules is None:
            raise ActError(f"there is no symbol {name!r}")
        return rules


def _number(options: dict[str, object], name: str, maximum: int) -> float | None:
    value = options.pop(name, None)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > maximum:
        raise ActError(f"{name} must be a number from -{maximum} to {maximum}")
    return float(value)


def _amount(options: dict[str, object], name: str) -> int | None:
    value = options.pop(name, None)
    if value is None:
        return None
    try:
        return amount_from_text(str(value))
    except ValueError as error:
        raise ActError(f"{name} must be a number with at most 8 decimals, as text") from error

"""The gate every order passes: pure rules over a snapshot, answering with a value.

`Approved` is made here and nowhere else, and nothing is sent without one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from bagbot.domain.instrument import Instrument, Side
from bagbot.domain.order import TRAILING_DELTA_MAX, OrderRequest, OrderType


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskLimits:
    """What an account may do. A limit of None switches its rule off.

    `order_value_max` and `position_value_max` are in the quote asset; `price_collar_ratio` is how
    far a limit price may lie from the market's (a conditional order's: from its trigger), as a
    fraction; `symbols` are the only ones traded.
    """

    order_value_max: Decimal | None = None
    position_value_max: Decimal | None = None
    price_collar_ratio: Decimal | None = None
    symbols: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that the rules look at, taken in one step.

    `position` is what our fills left (base asset); `pending_buys` and `pending_sells` what orders
    that are open, in flight or of unknown outcome could still add. `held` is what the account has,
    others' trades counted in: the base asset on spot, the position on futures. `reference_price` is
    None when no price young enough is known, `killed` the reason when the kill switch is on.
    """

    instrument: Instrument | None
    reference_price: Decimal | None
    position: Decimal = Decimal(0)
    held: Decimal | None = None
    pending_buys: Decimal = Decimal(0)
    pending_sells: Decimal = Decimal(0)
    killed: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One rule that passed: its name, the order's value and the limit, as text."""

    rule: str
    value: str
    limit: str


@dataclass(frozen=True, slots=True)
class Approved:
    """The order may be sent; `checks` says why."""

    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The order may not be sent: `rule` was broken by `value`, the limit being `limit`."""

    rule: str
    value: str
    limit: str
    message: str


Verdict = Approved | Refused


class RiskManager:
    """The rules with one account's limits; has no state of its own."""

    def __init__(self, limits: RiskLimits) -> None:
        self.limits = limits

    def check(self, request: OrderRequest, snapshot: Snapshot) -> Verdict:
        """Return the verdict on an order: the first rule it breaks, or Approved."""
        checks = []
        for finding in self._findings(request, snapshot):
            if isinstance(finding, Refused):
                return finding
            checks.append(finding)
        return Approved(tuple(checks))

    def _findings(self, request: OrderRequest, snapshot: Snapshot) -> Iterator[Check | Refused]:
        yield _kill_switch(request, snapshot)
        yield self._allow_list(request)
        yield _tradable(request, snapshot)
        yield _filters(request, snapshot)
        if self.limits.price_collar_ratio is not None and request.price is not None:
            yield self._collar(request, snapshot, self.limits.price_collar_ratio)
        if self.limits.order_value_max is not None:
            yield _order_value(request, snapshot, self.limits.order_value_max)
        if self.limits.position_value_max is not None:
            yield _position_value(request, snapshot, self.limits.position_value_max)

    def _allow_list(self, request: OrderRequest) -> Check | Refused:
        if self.limits.symbols is None:
            return Check("symbols", request.symbol, "any")
        allowed = ", ".join(sorted(self.limits.symbols)) or "none"
        if request.symbol in self.limits.symbols:
            return Check("symbols", request.symbol, allowed)
        return _refused("symbols", request.symbol, allowed, f"{request.symbol} is not allowed")

    def _collar(self, request: OrderRequest, snapshot: Snapshot, ratio: Decimal) -> Check | Refused:
        assert request.price is not None
        # What waits for its trigger finds the market there, wherever it is now.
        reference, where = request.trigger_price, "its trigger"
        if reference is None:
            reference, where = snapshot.reference_price, "the market's"
        if reference is None:
            return _no_price("price_collar", request)
        # Only the dangerous side: a buy far below or a sell far above the market merely rests.
        if request.side is Side.BUY:
            limit = reference * (1 + ratio)
            text, is_fine = f"at most {_plain(limit)}", request.price <= limit
        else:
            limit = reference * (1 - ratio)
            text, is_fine = f"at least {_plain(limit)}", request.price >= limit
        if is_fine:
            return Check("price_collar", _plain(request.price), text)
        return _refused(
            "price_collar",
            _plain(request.price),
            text,
            f"the price {_plain(request.price)} is too far from {where} {_plain(reference)}",
        )


def _positions(snapshot: Snapshot) -> tuple[Decimal, Decimal]:
    """Return our own position and the account's, which differ when others trade on it."""
    held = snapshot.held
    return snapshot.position, snapshot.position if held is None else held


def _is_reducing(request: OrderRequest, snapshot: Snapshot) -> bool:
    """Whether the order can only shrink the position, whatever else is still pending.

    Ours and the account's: what somebody else has closed must not be closed once more.
    """
    if request.side is Side.SELL:
        return request.amount + snapshot.pending_sells <= min(_positions(snapshot))
    return request.amount + snapshot.pending_buys <= -max(_positions(snapshot))


def _kill_switch(request: OrderRequest, snapshot: Snapshot) -> Check | Refused:
    if snapshot.killed is None:
        return Check("kill_switch", "off", "off")
    limit = "off, or an order that reduces a position"
    if _is_reducing(request, snapshot):
        return Check("kill_switch", "on, reducing", limit)
    return _refused("kill_switch", "on", limit, f"the kill switch is on: {snapshot.killed}")


def _tradable(request: OrderRequest, snapshot: Snapshot) -> Check | Refused:
    instrument = snapshot.instrument
    if instrument is None:
        return _refused(
            "instrument",
            request.symbol,
            "a symbol of the exchange",
            f"the exchange does not trade {request.symbol}",
        )
    if not instrument.is_trading:
        return _refused(
            "instrument", "halted", "trading", f"the exchange has halted {request.symbol}"
        )
    return Check("instrument", "trading", "trading")


def _filters(request: OrderRequest, snapshot: Snapshot) -> Check | Refused:
    assert snapshot.instrument is not None
    violation = snapshot.instrument.violation(
        side=request.side,
        is_market=request.type is OrderType.MARKET,
        quantity=request.amount,
        price=request.price,
        reference_price=snapshot.reference_price,
        trigger_price=request.trigger_price,
    )
    if violation is None:
        return Check("filters", "pass", "pass")
    return _refused(
        f"filter {violation.name}",
        _plain(violation.value),
        violation.limit,
        f"{violation.name} of {request.symbol} allows {violation.limit}, "
        f"not {_plain(violation.value)}",
    )


def _order_value(request: OrderRequest, snapshot: Snapshot, most: Decimal) -> Check | Refused:
    price = _worst_price(request, snapshot)
    if price is None:
        return _no_price("max_order_value", request)
    value = request.amount * price
    if value <= most:
        return Check("max_order_value", _plain(value), f"at most {_plain(most)}")
    return _refused(
        "max_order_value",
        _plain(value),
        f"at most {_plain(most)}",
        f"the order is worth {_plain(value)}, more than the {_plain(most)} allowed for one order",
    )


def _position_value(request: OrderRequest, snapshot: Snapshot, most: Decimal) -> Check | Refused:
    price = _worst_price(request, snapshot)
    if price is None:
        return _no_price("max_position_value", request)
    if request.side is Side.BUY:
        change = snapshot.pending_buys + request.amount
    else:
        change = -snapshot.pending_sells - request.amount
    # On spot the account's coins are also savings; a futures position is risk, whoever opened it.
    positions = _positions(snapshot) if ":" in request.symbol else (snapshot.position,)
    worst = max(abs(position + change) for position in positions)
    value = worst * price
    limit = f"at most {_plain(most)}"
    if value <= most:
        return Check("max_position_value", _plain(value), limit)
    if _is_reducing(request, snapshot):
        return Check("max_position_value", f"{_plain(value)}, reducing", limit)
    return _refused(
        "max_position_value",
        _plain(value),
        limit,
        f"the position in {request.symbol} could become worth {_plain(value)}, "
        f"more than {_plain(most)}",
    )


def _worst_price(request: OrderRequest, snapshot: Snapshot) -> Decimal | None:
    """The most that one unit can cost or bring, slippage aside.

    A sell never trades below its own price, and a conditional order where its trigger is.
    """
    price, reference = request.price, snapshot.reference_price
    if request.type.is_conditional:
        return _worst_when_triggered(request, reference)
    if price is None:
        return reference
    if request.side is Side.BUY or reference is None:
        return price
    return max(price, reference)


def _worst_when_triggered(request: OrderRequest, reference: Decimal | None) -> Decimal | None:
    if request.price is not None and request.side is Side.BUY:
        return request.price
    known = [each for each in (request.price, request.trigger_price) if each is not None]
    if reference is not None:
        # Where a trailing trigger goes nobody knows; at first it is so far from the market.
        delta = request.trailing_delta or 0
        is_rising = request.side is Side.BUY
        known.append(reference * (TRAILING_DELTA_MAX + delta * is_rising) / TRAILING_DELTA_MAX)
    return max(known, default=None)


def _no_price(rule: str, request: OrderRequest) -> Refused:
    message = f"no current price of {request.symbol} is known, so {rule} cannot be checked"
    return _refused(rule, "no price", "a current price", message)


def _refused(rule: str, value: str, limit: str, message: str) -> Refused:
    return Refused(rule, value, limit, message)


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"

"""A TradingView alert: what it says, what makes a repeat of it a repeat, what it asks for. Pure.

Two kinds. A plain alert has `action` and an amount, and is that order. An alert that carries
`market_position` names the position that should be: the order is what is missing to it, so that
a missed or doubled alert is healed by the next. TradingView's `price` is information; it counts
only when `type` is limit.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Context, Decimal
from enum import StrEnum
from typing import Final, TypeVar

from bagbot.api.json_body import (
    FieldError,
    given,
    label_of,
    member_of,
    number_of,
    required,
    shown,
    size_of,
    text_of,
)
from bagbot.domain.instrument import Instrument, Side
from bagbot.domain.order import NUMBER_MIN, OrderType, TimeInForce

_E = TypeVar("_E", bound=StrEnum)

REPEAT_WINDOW_NS: Final = 60_000_000_000
_WIDE: Final = Context(prec=60)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Fees taken in coins make a position this much smaller than the strategy thinks it is.
_FEE_TOLERANCE: Final = Decimal("0.01")

# What TradingView writes where a script has no value.
_NO_VALUE: Final = frozenset({"nan", "na", "n/a", "null", "undefined"})

_TICKER: Final = ("ticker", "symbol")
_ACTION: Final = ("action", "side")
_AMOUNT: Final = ("amount", "contracts", "quantity", "qty")
_TYPE: Final = ("type", "order_type")
_FORCE: Final = ("time_in_force", "timeInForce")


class AlertOrderType(StrEnum):
    """What an alert may ask for: it fires when its condition is met, so none is left to await."""

    MARKET = "market"
    LIMIT = "limit"


class MarketPosition(StrEnum):
    """TradingView's words for which way a strategy is positioned."""

    LONG = "long"
    SHORT = "short"
    FLAT = "flat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What an alert says, checked.

    `target` is the position it wants, `previous` the one it came from; both are negative when
    short and None when not told. Without a target, `side` and `amount` are there. `window_ns` is
    how long its identity is remembered; None is for ever.
    """

    ticker: str
    side: Side | None
    amount: Decimal | None
    type: OrderType
    price: Decimal | None
    time_in_force: TimeInForce | None
    target: Decimal | None
    previous: Decimal | None
    fired_ns: int | None
    strategy: str
    identity: str
    window_ns: int | None
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What there is in the alert's symbol.

    `expected` is the position once every live order is filled; `limit_buys` is the part of it
    that limit orders have still to buy, and `limit_orders` are the ids of those not filled yet.
    """

    symbol: str
    expected: Decimal
    limit_buys: Decimal = Decimal(0)
    limit_orders: Sequence[str] = ()
    instrument: Instrument | None = None

    @property
    def is_spot(self) -> bool:
        """Coins are held or not held: there is nothing below zero."""
        return ":" not in self.symbol


@dataclass(frozen=True, slots=True)
class Wanted:
    """The order that an alert asks for; `note` says what of the alert did not fit."""

    side: Side
    amount: Decimal
    note: str


@dataclass(frozen=True, slots=True)
class Declined:
    """Why an alert leads to no order: it may not, or (`is_needless`) there is nothing to do."""

    message: str
    is_needless: bool = False


def alert_from(body: Mapping[str, object]) -> Alert:
    """Return what an alert's body says, the secret aside.

    Raises FieldError naming the first field that is missing or wrong.
    """
    ticker = _text(body, *_TICKER)
    side = _member(Side, body, *_ACTION)
    if side is None and not _is_targeted(body):
        required(body, *_ACTION)
    order_type = OrderType(_member(AlertOrderType, body, *_TYPE) or OrderType.MARKET)
    price = _number(body, "price") if order_type is OrderType.LIMIT else None
    if order_type is OrderType.LIMIT and price is None:
        raise FieldError("price", "is missing; a limit order needs one")
    amount = _number(body, *_AMOUNT)
    target = previous = None
    if _is_targeted(body):
        previous_position, previous = _previous(body)
        target = _target(body, amount, previous_position)
    elif amount is None:
        raise FieldError(
            "amount", "is missing (also understood: contracts, quantity, qty, market_position)"
        )
    fingerprint = _fingerprint(body)
    identity, window_ns = _identity(body, fingerprint)
    return Alert(
        ticker=ticker,
        side=side,
        amount=amount,
        type=order_type,
        price=price,
        time_in_force=_member(TimeInForce, body, *_FORCE),
        target=target,
        previous=previous,
        fired_ns=_fired_ns(body),
        strategy=_label(body, "strategy"),
        identity=identity,
        window_ns=window_ns,
        fingerprint=fingerprint,
    )


def exchange_symbol(ticker: str) -> str:
    """Return the ticker without the exchange that TradingView puts before it.

    >>> exchange_symbol("BINANCE:BTCUSDT.P"), exchange_symbol("BTC/USDT:USDT")
    ('BTCUSDT.P', 'BTC/USDT:USDT')
    """
    prefix, colon, rest = ticker.upper().partition(":")
    return rest if colon and rest and "/" not in prefix else ticker.upper()


def planned(alert: Alert, holding: Holding) -> Wanted | Declined:
    """Return the order that an alert asks for in view of what there is, or why there is none."""
    if alert.target is not None:
        return _toward(alert, alert.target, holding)
    assert alert.side is not None
    assert alert.amount is not None
    return Wanted(alert.side, _rounded_down(alert.amount), "")


def staleness(alert: Alert, now_ns: int, age_max_s: float | None) -> Declined | None:
    """Return why an alert is too old to act on, or None."""
    if alert.fired_ns is None or age_max_s is None:
        return None
    age_s = (now_ns - alert.fired_ns) // 1_000_000_000
    if age_s <= age_max_s:
        return None
    return Declined(
        f"the alert was triggered {age_s} s ago (timenow); older than {age_max_s:g} s is not "
        f"acted on"
    )


# ------------------------------------------------------------------ the target


def _toward(alert: Alert, target: Decimal, holding: Holding) -> Wanted | Declined:
    notes = _differences(alert, holding)
    held = holding.expected
    if holding.is_spot and held < 0:
        notes.append(f"more was sold than bought here ({_plain(held)}), which counts as 0 held")
        held = Decimal(0)
    if holding.is_spot and target < 0:
        if _is_nothing(held, holding):
            said = f"{holding.symbol} is a spot market: it cannot be sold short, nothing is held"
            return Declined("; ".join([said, *notes]))
        notes.append(
            f"{holding.symbol} is a spot market: the long is closed, the short of "
            f"{_plain(-target)} was not taken"
        )
        target = Decimal(0)
    missing = target - held
    if _is_nothing(missing, holding):
        return _reached(target, missing, holding, notes)
    side = Side.BUY if missing > 0 else Side.SELL
    amount = abs(missing)
    if holding.is_spot and side is Side.SELL and amount > held - holding.limit_buys:
        amount = max(held - holding.limit_buys, Decimal(0))
        notes.append(f"{_plain(abs(missing) - amount)} of it is not bought yet, so not sold")
        if _is_nothing(amount, holding):
            return Declined("; ".join(notes), is_needless=True)
    if alert.side not in (None, side):
        notes.append(
            f"the alert's action is {alert.side}, but from {_plain(held)} to the position that "
            f"it names takes a {side}"
        )
    return Wanted(side, _rounded_down(amount), "; ".join(notes))


def _differences(alert: Alert, holding: Holding) -> list[str]:
    """What the alert takes for granted and is not so."""
    notes = []
    previous, expected = alert.previous, holding.expected
    if previous is not None:
        tolerance = max(abs(previous), abs(expected)) * _FEE_TOLERANCE
        if abs(previous - expected) > tolerance:
            notes.append(
                f"the alert says the position was {_plain(previous)}, here it is "
                f"{_plain(expected)}: an alert was missed, or others trade here too"
            )
    if holding.limit_orders:
        notes.append(f"counted as filled, though still open: {', '.join(holding.limit_orders)}")
    return notes


def _reached(target: Decimal, missing: Decimal, holding: Holding, notes: Sequence[str]) -> Declined:
    if target:
        said = f"the position in {holding.symbol} is {_plain(target)} already"
    else:
        said = f"there is nothing to close in {holding.symbol}"
    if missing:
        said += f" ({_plain(abs(missing))} differ, less than the smallest amount that can trade)"
    return Declined("; ".join([said, *notes]), is_needless=True)


def _is_nothing(amount: Decimal, holding: Holding) -> bool:
    if holding.instrument is None:
        return not _rounded_down(amount)
    return not holding.instrument.round_quantity_down(abs(amount))


def _rounded_down(amount: Decimal) -> Decimal:
    """To what an order may have in decimals; strategies compute with more."""
    rounded = abs(amount).quantize(NUMBER_MIN, ROUND_DOWN, _WIDE)
    return amount if rounded == abs(amount) else rounded


# ------------------------------------------------------------------ the fields


def _is_targeted(body: Mapping[str, object]) -> bool:
    return "market_position" in body


def _target(
    body: Mapping[str, object], amount: Decimal | None, previous: MarketPosition | None
) -> Decimal:
    position = _member(MarketPosition, body, "market_position")
    name = "market_position_size"
    size = _size(body, name)
    if position is MarketPosition.FLAT:
        if size:
            raise FieldError(name, f"is {shown(size)}, but market_position is flat")
        return Decimal(0)
    if size is None and previous is MarketPosition.FLAT:
        # From flat the whole position is this one order.
        size = amount
    if size is None:
        raise FieldError(
            name,
            f"is missing: how much {position} is wanted? Only from flat (prev_market_position) "
            f"the amount says it",
        )
    if not size:
        raise FieldError(name, f"is 0, but market_position is {position}")
    return size if position is MarketPosition.LONG else -size


def _previous(body: Mapping[str, object]) -> tuple[MarketPosition | None, Decimal | None]:
    if "prev_market_position" not in body:
        return None, None
    position = _member(MarketPosition, body, "prev_market_position")
    size = _size(body, "prev_market_position_size")
    if position is MarketPosition.FLAT:
        return position, Decimal(0)
    if size is None:
        return position, None
    return position, size if position is MarketPosition.LONG else -size


def _text(body: Mapping[str, object], *names: str) -> str:
    name, value = required(body, *names)
    return text_of(name, _rendered(name, value))


def _member(kind: type[_E], body: Mapping[str, object], *names: str) -> _E | None:
    name, value = given(body, *names)
    return None if value is None else member_of(kind, name, _rendered(name, value))


def _label(body: Mapping[str, object], name: str) -> str:
    _, value = given(body, name)
    return "" if value is None else label_of(name, _rendered(name, value))


def _number(body: Mapping[str, object], *names: str) -> Decimal | None:
    name, value = given(body, *names)
    return None if value is None else number_of(name, _rendered(name, value))


def _size(body: Mapping[str, object], name: str) -> Decimal | None:
    _, value = given(body, name)
    return None if value is None else size_of(name, _rendered(name, value))


def _rendered(name: str, value: object) -> object:
    """Return the value, which TradingView has filled in with something."""
    if isinstance(value, str) and value.strip().lower() in _NO_VALUE:
        raise FieldError(name, f"is {shown(value)}: TradingView had no value for it")
    if isinstance(value, str) and "{{" in value:
        raise FieldError(
            name,
            f"is the placeholder {shown(value)}: TradingView did not fill it in. Check its "
            f"spelling; {{{{strategy...}}}} ones work in alerts on strategies only",
        )
    return value


def _fired_ns(body: Mapping[str, object]) -> int | None:
    text = _label(body, "timenow")
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        # Not a time that TradingView writes, so the alert's age is not known.
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return (time - _EPOCH) // timedelta(microseconds=1) * 1000


def _identity(body: Mapping[str, object], fingerprint: str) -> tuple[str, int | None]:
    """Return what repeats share, and for how long (None: for ever).

    The size of the position tells two orders apart that one bar brought under one order id.
    """
    labels = [_label(body, name) for name in ("strategy", "interval", "time", "order_id")]
    explicit, time = _label(body, "id"), labels[2]
    if explicit:
        return f"tradingview:id:{explicit}", None
    if not time:
        return f"tradingview:body:{fingerprint}", REPEAT_WINDOW_NS
    acts = [given(body, *names)[1] for names in (_TICKER, _ACTION)]
    acts += [body.get(name) for name in ("market_position", "market_position_size")]
    parts = labels + ["" if act is None else str(act).strip().lower() for act in acts]
    return f"tradingview:bar:{json.dumps(parts)}", None


def _fingerprint(body: Mapping[str, object]) -> str:
    """Return the hash of all that the alert says. The secret is no part of it: it may change."""
    said = {name: value for name, value in body.items() if name != "secret"}
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"

"""What a backtest is run with: cash, costs, market, risk limits; checked, as whole numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Final

import numpy

from bagbot.domain import fills
from bagbot.domain.bars import Bars
from bagbot.domain.errors import ConfigError
from bagbot.domain.instrument import Instrument
from bagbot.trading.kernel_tables import NEVER, WORKING_MAX, Desk, Numbers, Rules, new_desk
from bagbot.trading.risk_manager import RiskLimits

Number = Decimal | int | float | str

_UNITS: Final = 100_000_000
_MILLION: Final = 1_000_000
_PPM_OF_BASIS_POINT: Final = 100
# Ten billion of the quote asset: sums of such amounts stay far below int64's end.
_CASH_UNITS_MAX: Final = 10**18
_SERVED_LIMITS: Final = frozenset(
    {"order_value_max", "position_value_max", "price_collar_ratio", "symbols"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What trading costs: fees, slippage and volume share as fractions, 0.001 being 0.1 %.

    `fee_in` is "received" (a buyer pays in base, as on Binance) or "quote". How far the price must
    go through a resting limit is `through_ticks`; `volume_share` bounds what may be traded of a
    bar's volume (docs/FILL_RULES.md, F3, F15 to F17).

    Raises ConfigError for what can't be: a negative cost, a fee of 100 %, or a fraction finer than
    a millionth.
    """

    maker_fee: Number = Decimal("0.001")
    taker_fee: Number = Decimal("0.001")
    slippage: Number = 0
    slippage_ticks: int = 0
    through_ticks: int = 1
    volume_share: Number | None = None
    fee_in: str = "received"

    def __post_init__(self) -> None:
        self.ppm()
        if self.fee_in not in ("received", "quote"):
            raise ConfigError(f"costs: fee_in is 'received' or 'quote', not {self.fee_in!r}")

    def ppm(self) -> fills.Costs:
        """Return the costs as the fill rules know them."""
        for name in ("slippage_ticks", "through_ticks"):
            ticks = getattr(self, name)
            if isinstance(ticks, bool) or not isinstance(ticks, int) or not 0 <= ticks < 10**9:
                raise ConfigError(
                    f"costs: {name} is {ticks!r}: it must be a whole number from 0 on"
                )
        return fills.Costs(
            maker_fee_ppm=_ppm("maker_fee", self.maker_fee),
            taker_fee_ppm=_ppm("taker_fee", self.taker_fee),
            slippage_ticks=self.slippage_ticks,
            slippage_ppm=_ppm("slippage", self.slippage),
            through_ticks=self.through_ticks,
            volume_share_ppm=(
                fills.UNLIMITED
                if self.volume_share is None
                else _ppm("volume_share", self.volume_share, may_be_all=True)
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Funding:
    """Recorded funding of a perpetual future: when it was due, the rate, and the mark price then.

    `times_ms` is UTC and ascending; a rate above 0 is paid by who is long. Without `mark_prices`
    the open of the bar at which a payment is due stands for them (docs/FILL_RULES.md, F26).
    """

    times_ms: Sequence[int]
    rates: Sequence[Number]
    mark_prices: Sequence[Number] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestSettings:
    """All that a run is given beside strategy and bars. Raises ConfigError when it makes no sense.

    `cash` is in the quote asset. `fill_at` is "open" (of the next bar) or "close" (of the bar that
    was just seen: nobody can trade that, so it is for research only). `market` is "spot" or "usdm",
    a linear perpetual with isolated margin, `leverage`, and `maintenance_rate` as its one bracket.
    """

    cash: Number = 10_000
    costs: Costs = field(default_factory=Costs)
    fill_at: str = "open"
    limits: RiskLimits | None = None
    market: str = "spot"
    leverage: int = 1
    maintenance_rate: Number = Decimal("0.004")
    funding: Funding | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.costs, Costs):
            raise ConfigError(f"costs: {self.costs!r} is no Costs")
        if self.fill_at not in ("open", "close"):
            raise ConfigError(f"fill_at is 'open' or 'close', not {self.fill_at!r}")
        if self.market not in ("spot", "usdm"):
            raise ConfigError(f"market is 'spot' or 'usdm', not {self.market!r}")
        is_whole = isinstance(self.leverage, int) and not isinstance(self.leverage, bool)
        if not is_whole or not 1 <= self.leverage <= 125:
            raise ConfigError(f"leverage is {self.leverage!r}: it must be from 1 to 125")
        if self.market == "spot" and (self.leverage != 1 or self.funding is not None):
            raise ConfigError("leverage and funding need market='usdm'")
        _ppm("maintenance_rate", self.maintenance_rate)
        assert self.cash_units > 0

    @property
    def cash_units(self) -> int:
        """The cash at the start in 1e-8 of the quote asset."""
        units = _decimal("cash", self.cash) * _UNITS
        if not 0 < units <= _CASH_UNITS_MAX:
            raise ConfigError(f"cash is {self.cash}: it must be positive, and at most ten billion")
        if units != units.to_integral_value():
            raise ConfigError(f"cash is {self.cash}: finer than 1e-8")
        return int(units)

    def new_desk(self, bars: Bars) -> Desk:
        """Return a desk that stands before the first of the bars.

        Raises ConfigError when these settings or numbers can't be computed with.
        """
        instrument = bars.instrument
        costs = self.costs.ppm()
        scale = self.scale_of(instrument)
        rules = self._rules(bars, costs, scale)
        return new_desk(
            bars,
            rules,
            costs,
            scale,
            cash_units=self.cash_units,
            funding=_funding_table(self.funding, bars),
        )

    def check(self, bars: Bars) -> None:
        """Raise ConfigError when these settings or numbers can't be computed with on `bars`."""
        self._rules(bars, self.costs.ppm(), self.scale_of(bars.instrument))
        _funding_table(self.funding, bars)

    def scale_of(self, instrument: Instrument) -> fills.Scale:
        """Return what one tick times one lot is worth. Raises ConfigError below 1e-8."""
        return fills.scale_of(
            _units("tick", instrument.tick_size), _units("lot", instrument.lot_size)
        )

    def _rules(self, bars: Bars, costs: fills.Costs, scale: fills.Scale) -> Rules:
        instrument = bars.instrument
        is_margin = self.market == "usdm"
        held = fills.Scale(scale.numerator, scale.denominator, 1)
        if not is_margin:
            held = fills.scale_of(_units("tick", instrument.tick_size), 1)
        top = fills.bought_at(bars.price_max, costs)
        # Equity is valued by a float division that is exact below 2**52, and set right.
        is_exact = top * held.numerator < 2**52
        fits = top * held.numerator * held.denominator <= fills.INT64_MAX
        if not is_exact or not fits or not fills.fits(top, 1, scale):
            raise ConfigError(
                f"{instrument.symbol}: prices of {top} ticks of {instrument.tick_size} are more "
                f"than can be computed with; bars with a coarser tick are needed (import --tick)"
            )
        return Rules(
            tick=float(instrument.tick_size),
            lot=float(instrument.lot_size),
            price_top=top,
            fee_in_quote=is_margin or self.costs.fee_in == "quote",
            fills_at_close=self.fill_at == "close",
            is_margin=is_margin,
            leverage=self.leverage,
            maintenance_ppm=_ppm("maintenance_rate", self.maintenance_rate) if is_margin else 0,
            held_numerator=held.numerator,
            held_denominator=held.denominator,
            **_filters(instrument),
            **_limits(self.limits, instrument),
        )


def _filters(instrument: Instrument) -> dict[str, int]:
    """Return the exchange's filters in ticks, lots, units and ppm; what is off is left out."""
    tick, lot = instrument.tick_size, instrument.lot_size
    rules: dict[str, int] = {}

    def at_least(name: str, value: Decimal | None, step: Decimal) -> None:
        if value is not None:
            rules[name] = max(int((value / step).to_integral_value(ROUND_CEILING)), 1)

    def at_most(name: str, value: Decimal | None, step: Decimal) -> None:
        if value is not None:
            rules[name] = min(int((value / step).to_integral_value(ROUND_FLOOR)), NEVER)

    at_least("price_min", instrument.price_min, tick)
    at_most("price_max", instrument.price_max, tick)
    at_least("lots_min", instrument.quantity_min, lot)
    at_most("lots_max", instrument.quantity_max, lot)
    at_least("market_lots_min", instrument.market_quantity_min, lot)
    at_most("market_lots_max", instrument.market_quantity_max, lot)
    at_least("market_lots_step", instrument.market_lot_size, lot)
    unit, millionth = Decimal(1) / _UNITS, Decimal(1) / _MILLION
    at_least("notional_min", instrument.notional_min, unit)
    at_most("notional_max", instrument.notional_max, unit)
    if instrument.notional_min_applies_to_market:
        at_least("notional_min_at_market", instrument.notional_min, unit)
    if instrument.notional_max_applies_to_market:
        at_most("notional_max_at_market", instrument.notional_max, unit)
    at_least("buy_ppm_min", instrument.buy_price_ratio_min, millionth)
    at_most("buy_ppm_max", instrument.buy_price_ratio_max, millionth)
    at_least("sell_ppm_min", instrument.sell_price_ratio_min, millionth)
    at_most("sell_ppm_max", instrument.sell_price_ratio_max, millionth)
    return rules | _counts(instrument)


def _counts(instrument: Instrument) -> dict[str, int]:
    rules: dict[str, int] = {}
    if instrument.open_orders_max is not None:
        rules["open_orders_max"] = min(instrument.open_orders_max, WORKING_MAX)
    if instrument.open_stops_max is not None:
        rules["open_stops_max"] = instrument.open_stops_max
    if instrument.trailing_delta_min is not None:
        rules["trailing_ppm_min"] = instrument.trailing_delta_min * _PPM_OF_BASIS_POINT
    if instrument.trailing_delta_max is not None:
        rules["trailing_ppm_max"] = instrument.trailing_delta_max * _PPM_OF_BASIS_POINT
    return rules


def _limits(limits: RiskLimits | None, instrument: Instrument) -> dict[str, int]:
    """Return the risk gate's rules as whole numbers.

    Raises ConfigError, by name, for one that a backtest can't serve or that is too fine for it.
    """
    rules: dict[str, int] = {}
    if limits is None:
        return rules
    for each in fields(limits):
        is_set = getattr(limits, each.name) != each.default
        if is_set and each.name not in _SERVED_LIMITS:
            raise ConfigError(f"limits: a backtest has no rule {each.name}")
    if limits.symbols is not None and instrument.symbol not in limits.symbols:
        raise ConfigError(f"limits: symbols does not allow {instrument.symbol}")
    for name, value in (
        ("order_value_max", limits.order_value_max),
        ("position_value_max", limits.position_value_max),
    ):
        if value is not None:
            rules[name] = min(_whole(f"limits: {name}", value, _UNITS), NEVER - 1)
    if limits.price_collar_ratio is not None:
        rules["collar_ppm"] = _whole(
            "limits: price_collar_ratio", limits.price_collar_ratio, _MILLION
        )
    return rules


def _funding_table(funding: Funding | None, bars: Bars) -> Numbers:
    """Return the payments that are due between two of the bars, with the later one's row."""
    if funding is None or len(bars) == 0:
        return numpy.zeros((0, 4), numpy.int64)
    count = len(funding.times_ms)
    marks = funding.mark_prices
    if len(funding.rates) != count or (marks is not None and len(marks) != count):
        raise ConfigError("funding: times_ms, rates and mark_prices differ in length")
    times = numpy.asarray(funding.times_ms, numpy.int64)
    if (numpy.diff(times) <= 0).any():
        raise ConfigError("funding: times_ms must ascend")
    table = numpy.zeros((count, 4), numpy.int64)
    table[:, 0] = numpy.searchsorted(bars.open_time_ms, times, side="left")
    table[:, 1] = [_rate_units(rate) for rate in funding.rates]
    if marks is not None:
        tick = bars.instrument.tick_size
        table[:, 2] = [
            int((_decimal("mark price", each) / tick).to_integral_value()) for each in marks
        ]
        if (table[:, 2] < 1).any():
            raise ConfigError("funding: a mark price is less than one tick")
    # What was due before the first bar, or comes after the last one, concerns nobody here.
    is_due = (times > bars.open_time_ms[0]) & (table[:, 0] < len(bars))
    due: Numbers = table[is_due]
    return due


def _rate_units(rate: Number) -> int:
    units = _decimal("funding rate", rate) * _UNITS
    if not -_UNITS < units < _UNITS:
        raise ConfigError(f"funding: a rate of {rate} is no fraction")
    return int(units.to_integral_value())


def _units(name: str, step: Decimal) -> int:
    return _whole(name, step, _UNITS)


def _whole(name: str, value: Decimal, factor: int) -> int:
    steps = value * factor
    if steps != steps.to_integral_value() or steps < 0:
        raise ConfigError(f"{name} is {value}: it must be a whole number of {Decimal(1) / factor}")
    return int(steps)


def _ppm(name: str, fraction: Number, *, may_be_all: bool = False) -> int:
    """Return a fraction in millionths. Raises ConfigError."""
    value = _decimal(name, fraction)
    if not 0 <= value < 1 and not (may_be_all and value == 1):
        raise ConfigError(f"{name} is {fraction}: it must be a fraction from 0 to below 1")
    return _whole(name, value, _MILLION)


def _decimal(name: str, value: object) -> Decimal:
    """Return a number as the Decimal that it shows as. Raises ConfigError."""
    is_number = isinstance(value, Decimal | int | float | str) and not isinstance(value, bool)
    try:
        number = Decimal(str(value)) if is_number else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ConfigError(f"{name} is {value!r}: it must be a number")
    return number

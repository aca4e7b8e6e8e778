"""The risk rules as whole numbers say what the gate says in Decimal."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from bagbot.domain import fills, limits
from bagbot.domain.instrument import Instrument, Side
from bagbot.domain.order import OrderRequest, OrderType
from bagbot.trading.risk_manager import Refused, RiskLimits, RiskManager, Snapshot

TICK, LOT = Decimal("0.01"), Decimal("0.0001")
SCALE = fills.scale_of(int(TICK * 10**8), int(LOT * 10**8))
BTCUSDT = Instrument(
    symbol="BTC/USDT",
    exchange_symbol="BTCUSDT",
    base="BTC",
    quote="USDT",
    tick_size=TICK,
    lot_size=LOT,
)

ticks = st.integers(1, 10_000)
lots = st.integers(1, 10_000)
maximums = st.integers(0, 10**12)


def verdict(risk, is_buy, amount, limit, reference, **snapshot):
    """Return the name of the rule that the gate finds broken, or None."""
    request = OrderRequest(
        symbol="BTC/USDT",
        side=Side.BUY if is_buy else Side.SELL,
        type=OrderType.LIMIT if limit else OrderType.MARKET,
        amount=amount * LOT,
        price=limit * TICK if limit else None,
    )
    found = RiskManager(risk).check(
        request,
        Snapshot(instrument=BTCUSDT, reference_price=reference * TICK, **snapshot),
    )
    return found.rule if isinstance(found, Refused) else None


@settings(deadline=None)
@given(
    is_buy=st.booleans(), amount=lots, limit=st.integers(0, 10_000), reference=ticks, most=maximums
)
def test_an_order_is_worth_too_much_for_both_or_for_neither(is_buy, amount, limit, reference, most):
    risk = RiskLimits(order_value_max=Decimal(most) / 10**8)
    price = limits.worst_price(is_buy, limit, 0, 0, reference)
    is_allowed = limits.is_order_value_allowed(price, amount, most, SCALE)
    assert verdict(risk, is_buy, amount, limit, reference) == (
        None if is_allowed else "max_order_value"
    )


@settings(deadline=None)
@given(
    is_buy=st.booleans(),
    amount=lots,
    limit=st.integers(0, 10_000),
    reference=ticks,
    most=maximums,
    held=st.integers(-20_000, 20_000),
    pending=st.integers(0, 10_000),
)
def test_a_position_grows_too_large_for_both_or_for_neither(
    is_buy, amount, limit, reference, most, held, pending
):
    risk = RiskLimits(position_value_max=Decimal(most) / 10**8)
    price = limits.worst_price(is_buy, limit, 0, 0, reference)
    change = pending + amount if is_buy else -pending - amount
    is_allowed = limits.is_position_value_allowed(
        price, held, change, most, SCALE
    ) or limits.is_reducing(held, change)
    found = verdict(
        risk,
        is_buy,
        amount,
        limit,
        reference,
        position=held * LOT,
        held=held * LOT,
        pending_buys=pending * LOT if is_buy else Decimal(0),
        pending_sells=Decimal(0) if is_buy else pending * LOT,
    )
    assert found == (None if is_allowed else "max_position_value")


@settings(deadline=None)
@given(is_buy=st.booleans(), limit=ticks, reference=ticks, collar_ppm=st.integers(0, 2_000_000))
def test_a_limit_is_too_far_from_the_market_for_both_or_for_neither(
    is_buy, limit, reference, collar_ppm
):
    risk = RiskLimits(price_collar_ratio=Decimal(collar_ppm) / 10**6)
    is_within = limits.is_within_collar(is_buy, limit, reference, collar_ppm)
    assert verdict(risk, is_buy, 1, limit, reference) == (None if is_within else "price_collar")

"""The risk gate: each rule by name, value and limit; and what it may never stop."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bagbot.domain.instrument import Instrument, Side
from bagbot.domain.order import OrderRequest, OrderType
from bagbot.tests.domain.test_instrument import BTCUSDT
from bagbot.trading.risk_manager import Approved, Refused, RiskLimits, RiskManager, Snapshot

LIMITS = RiskLimits(
    order_value_max=Decimal(10_000),
    position_value_max=Decimal(30_000),
    price_collar_ratio=Decimal("0.05"),
    symbols=frozenset({"BTC/USDT"}),
)
CALM = Snapshot(instrument=BTCUSDT, reference_price=Decimal(50_000))


def request(
    side: str = "buy", amount: str = "0.1", price: str | None = None, symbol: str = "BTC/USDT"
) -> OrderRequest:
    return OrderRequest(
        symbol=symbol,
        side=Side(side),
        type=OrderType.MARKET if price is None else OrderType.LIMIT,
        amount=Decimal(amount),
        price=None if price is None else Decimal(price),
    )


def stop(
    kind: str,
    side: str,
    trigger: str | None,
    price: str | None = None,
    *,
    amount: str = "0.1",
    delta: int | None = None,
) -> OrderRequest:
    return OrderRequest(
        symbol="BTC/USDT",
        side=Side(side),
        type=OrderType(kind),
        amount=Decimal(amount),
        price=None if price is None else Decimal(price),
        trigger_price=None if trigger is None else Decimal(trigger),
        trailing_delta=delta,
    )


@pytest.mark.parametrize(
    ("order", "rule", "value"),
    [
        # What is checked is the worst price at which it may trade, not the market's now.
        (stop("stop_loss", "buy", "110000"), "max_order_value", "11000"),
        (stop("stop_loss_limit", "buy", "100000", "100001"), "max_order_value", "10000.1"),
        (stop("take_profit", "sell", "100001"), "max_order_value", "10000.1"),
        (stop("take_profit_limit", "sell", "90000", "100001"), "max_order_value", "10000.1"),
        (stop("stop_loss", "sell", "40000", amount="0.20001"), "max_order_value", "10000.5"),
        (stop("stop_loss", "buy", None, delta=1000, amount="0.19"), "max_order_value", "10450"),
        (stop("stop_loss", "sell", None, delta=1000, amount="0.19"), None, None),
        # The collar holds the limit against the trigger: there the market will be.
        (stop("stop_loss_limit", "buy", "60000", "63000.01"), "price_collar", "63000.01"),
        (stop("stop_loss_limit", "buy", "60000", "63000"), None, None),
        (stop("stop_loss_limit", "sell", "40000", "37999.99"), "price_collar", "37999.99"),
        (stop("stop_loss_limit", "sell", "40000", "38000"), None, None),
        (stop("stop_loss_limit", "sell", None, "47499", delta=100), "price_collar", "47499"),
        (stop("stop_loss", "sell", "40000.001"), "filter PRICE_FILTER", "40000.001"),
    ],
)
def test_a_conditional_order_is_judged_where_it_would_trade(
    order: OrderRequest, rule: str | None, value: str | None
) -> None:
    verdict = RiskManager(LIMITS).check(order, CALM)
    told = (verdict.rule, verdict.value) if isinstance(verdict, Refused) else (None, None)
    assert told == (rule, value)


def test_an_order_within_all_limits_passes_and_says_why() -> None:
    verdict = RiskManager(LIMITS).check(request(), CALM)
    assert isinstance(verdict, Approved)
    assert [check.rule for check in verdict.checks] == [
        "kill_switch",
        "symbols",
        "instrument",
        "filters",
        "max_order_value",
        "max_position_value",
    ]


@pytest.mark.parametrize(
    ("order", "change", "rule", "value", "limit"),
    [
        (request(), {"killed": "panic"}, "kill_switch", "on", "off, or"),
        (request(symbol="ETH/USDT"), {}, "symbols", "ETH/USDT", "BTC/USDT"),
        (request(), {"instrument": None}, "instrument", "BTC/USDT", "a symbol"),
        (
            request(),
            {"instrument": replace(BTCUSDT, is_trading=False)},
            "instrument",
            "halted",
            "trading",
        ),
        (request(amount="0.000015"), {}, "filter LOT_SIZE", "0.000015", "a multiple of"),
        (request(amount="0.00001"), {}, "filter NOTIONAL", "0.5", "at least 5"),
        (request(price="52500.01"), {}, "price_collar", "52500.01", "at most 52500"),
        (request("sell", price="47499.99"), {}, "price_collar", "47499.99", "at least 47500"),
        (request(amount="0.20001"), {}, "max_order_value", "10000.5", "at most 10000"),
        (request("sell", "0.2", "52000"), {}, "max_order_value", "10400", "at most 10000"),
        (request(), {"position": Decimal("0.51")}, "max_position_value", "30500", "at most"),
        (request(), {"pending_buys": Decimal("0.51")}, "max_position_value", "30500", "at most"),
        (
            request("sell"),
            {"position": Decimal("-0.3"), "pending_sells": Decimal("0.21")},
            "max_position_value",
            "30500",
            "at most",
        ),
        (request(), {"reference_price": None}, "max_order_value", "no price", "a current price"),
        (
            request(price="50000"),
            {"reference_price": None},
            "price_collar",
            "no price",
            "a current price",
        ),
    ],
)
def test_a_refusal_names_the_rule_the_value_and_the_limit(
    order: OrderRequest, change: dict[str, object], rule: str, value: str, limit: str
) -> None:
    verdict = RiskManager(LIMITS).check(order, replace(CALM, **change))
    assert isinstance(verdict, Refused), verdict
    assert (verdict.rule, verdict.value) == (rule, value)
    assert verdict.limit.startswith(limit)
    assert verdict.message


@pytest.mark.parametrize("change", [{"killed": "panic"}, {"reference_price": Decimal(500_000)}])
def test_a_position_may_always_be_reduced(change: dict[str, object]) -> None:
    limits = replace(LIMITS, order_value_max=None)
    held = replace(CALM, position=Decimal("0.5"), **change)
    assert isinstance(RiskManager(limits).check(request("sell", "0.5"), held), Approved)
    beyond = RiskManager(limits).check(request("sell", "0.50001"), held)
    if held.killed:
        assert isinstance(beyond, Refused)
    # What other sells may already take is not there to be reduced.
    reserved = replace(held, pending_sells=Decimal("0.1"), killed="panic")
    assert isinstance(RiskManager(limits).check(request("sell", "0.5"), reserved), Refused)


def test_a_resting_price_far_on_the_safe_side_is_fine() -> None:
    assert isinstance(RiskManager(LIMITS).check(request(price="20000"), CALM), Approved)
    far_sell = request("sell", amount="0.05", price="100000")
    assert isinstance(RiskManager(LIMITS).check(far_sell, CALM), Approved)


def test_an_empty_allow_list_allows_nothing() -> None:
    verdict = RiskManager(replace(LIMITS, symbols=frozenset())).check(request(), CALM)
    assert isinstance(verdict, Refused)
    assert verdict.limit == "none"


@given(
    side=st.sampled_from(["buy", "sell"]),
    lots=st.integers(10, 100_000),
    position=st.integers(-100_000, 100_000),
    buys=st.integers(0, 100_000),
    sells=st.integers(0, 100_000),
)
def test_no_approved_order_can_take_the_position_beyond_its_limit(
    side: str, lots: int, position: int, buys: int, sells: int
) -> None:
    lot = BTCUSDT.lot_size
    snapshot = replace(
        CALM, position=position * lot, pending_buys=buys * lot, pending_sells=sells * lot
    )
    verdict = RiskManager(LIMITS).check(request(side, f"{lots * lot:f}"), snapshot)
    if isinstance(verdict, Refused):
        return
    highest = position + buys + (lots if side == "buy" else 0)
    lowest = position - sells - (lots if side == "sell" else 0)
    worst = abs(highest) if side == "buy" else abs(lowest)
    reduces = worst <= abs(position)
    assert reduces or worst * lot * 50_000 <= 30_000


@pytest.mark.parametrize(
    ("side", "position", "held", "is_allowed"),
    [
        (Side.SELL, "1", None, True),
        (Side.SELL, "1", "1", True),
        (Side.SELL, "1", "0", False),  # Somebody has sold it already.
        (Side.SELL, "0", "1", False),  # What somebody bought is not ours to sell.
        (Side.BUY, "-1", "-1", True),
        (Side.BUY, "-1", "0", False),
        (Side.BUY, "0", "-1", False),
    ],
)
def test_only_what_is_ours_and_still_there_can_be_reduced(
    side: Side, position: str, held: str | None, *, is_allowed: bool
) -> None:
    snapshot = Snapshot(
        instrument=Instrument.unfiltered("BTC/USDT"),
        reference_price=Decimal(100),
        position=Decimal(position),
        held=None if held is None else Decimal(held),
        killed="a test",
    )
    request = OrderRequest(symbol="BTC/USDT", side=side, type=OrderType.MARKET, amount=Decimal(1))
    verdict = RiskManager(RiskLimits()).check(request, snapshot)
    assert isinstance(verdict, Approved) is is_allowed


@pytest.mark.parametrize(
    ("symbol", "held", "is_allowed"),
    [
        ("BTC/USDT:USDT", "0", True),
        ("BTC/USDT:USDT", "3", True),
        ("BTC/USDT:USDT", "4", False),
        ("BTC/USDT", "4", True),  # Coins that somebody saves are no position.
    ],
)
def test_the_position_limit_holds_for_a_futures_account_as_a_whole(
    symbol: str, held: str, *, is_allowed: bool
) -> None:
    snapshot = Snapshot(
        instrument=Instrument.unfiltered(symbol),
        reference_price=Decimal(100),
        held=Decimal(held),
    )
    order = OrderRequest(symbol=symbol, side=Side.BUY, type=OrderType.MARKET, amount=Decimal(1))
    limits = RiskLimits(position_value_max=Decimal(400))
    assert isinstance(RiskManager(limits).check(order, snapshot), Approved) is is_allowed

"""What the books say the account should hold, and what of it no trade explains."""

import random
from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest

from bagbot.domain.errors import IllegalTransitionError
from bagbot.domain.events import Fill
from bagbot.domain.instrument import Side
from bagbot.trading.holdings import Holdings, effects_of
from bagbot.trading.journal_records import (
    BaselineTaken,
    ExternalFilled,
    ExternalOrderSeen,
    ResidualFound,
    TradesCovered,
)

SEED = 11
SPOT = "BTC/USDT"
FILL = Fill(trade_id="5", quantity=Decimal("0.5"), price=Decimal(100))


def begun(**holdings: str) -> Holdings:
    books = Holdings()
    books.begin(
        BaselineTaken(
            time_ns=1,
            exchange_time_ns=1,
            holdings={name: Decimal(amount) for name, amount in holdings.items()},
            trades={SPOT: "4"},
        )
    )
    return books


@pytest.mark.parametrize(
    ("symbol", "side", "fee", "effects"),
    [
        (SPOT, Side.BUY, ("0", ""), {"BTC": "0.5", "USDT": "-50"}),
        (SPOT, Side.BUY, ("0.001", "BTC"), {"BTC": "0.499", "USDT": "-50"}),
        (SPOT, Side.SELL, ("0.05", "USDT"), {"BTC": "-0.5", "USDT": "49.95"}),
        (SPOT, Side.SELL, ("0.01", "BNB"), {"BTC": "-0.5", "USDT": "50", "BNB": "-0.01"}),
        ("BTC/USDT:USDT", Side.BUY, ("1", "USDT"), {"BTC/USDT:USDT": "0.5"}),
        ("BTC/USDT:USDT", Side.SELL, ("1", "USDT"), {"BTC/USDT:USDT": "-0.5"}),
    ],
)
def test_a_trade_changes_both_assets_and_its_fee_or_one_position(
    symbol: str, side: Side, fee: tuple[str, str], effects: dict[str, str]
) -> None:
    fill = replace(FILL, fee=Decimal(fee[0]), fee_asset=fee[1])
    told = effects_of(symbol, side, fill)
    assert told == {name: Decimal(amount) for name, amount in effects.items()}


def test_what_trades_explain_is_no_residual_and_everything_else_is() -> None:
    print(f"seed {SEED}")  # noqa: T201 - pytest shows it when a test fails.
    chance = random.Random(SEED)
    for _ in range(200):
        books = begun(BTC="10", USDT="100000")
        held = {"BTC": Decimal(10), "USDT": Decimal(100_000)}
        for number in range(chance.randrange(1, 20)):
            fill = Fill(
                trade_id=str(number),
                quantity=Decimal(chance.randrange(1, 9999)) / 100_000,
                price=Decimal(chance.randrange(1, 9_999_999)) / 100,
                fee=Decimal(chance.randrange(0, 99)) / 100_000_000,
                fee_asset=chance.choice(["BTC", "USDT"]),
            )
            side = chance.choice(list(Side))
            books.book(SPOT, side, fill)
            for name, change in effects_of(SPOT, side, fill).items():
                held[name] += change
        assert books.unexplained(held, [SPOT]) == {}
        unit = Decimal("0.00000001")
        assert books.unexplained(held | {"BTC": held["BTC"] + unit}, [SPOT]) == {"BTC": unit}
        assert books.unexplained(held | {"USDT": held["USDT"] - unit}, [SPOT]) == {"USDT": -unit}


def test_only_what_the_exchange_cuts_off_may_be_missing() -> None:
    books = begun(USDT="100")
    odd = replace(FILL, quantity=Decimal("0.33333"), price=Decimal("0.00001111"))
    books.book(SPOT, Side.SELL, odd)
    worth = odd.quantity * odd.price
    cut = worth.quantize(Decimal("0.00000001"), "ROUND_DOWN")
    held = {"BTC": -odd.quantity, "USDT": 100 + cut}
    assert books.unexplained(held, [SPOT]) == {}
    held["USDT"] -= Decimal("0.00000002")
    assert list(books.unexplained(held, [SPOT])) == ["USDT"]


def test_an_asset_that_nobody_trades_here_may_change_as_it_likes() -> None:
    books = begun(BTC="1", DOGE="5")
    assert books.unexplained({"BTC": Decimal(1), "DOGE": Decimal(6)}, [SPOT]) == {}


def test_an_external_trade_counts_once_and_can_never_be_ours() -> None:
    books = begun(BTC="1", USDT="100")
    fact = ExternalFilled(time_ns=2, symbol=SPOT, side=Side.BUY, exchange_order_id="9", fill=FILL)
    assert books.book_external(fact)
    assert not books.book_external(replace(fact, time_ns=3))
    assert books.expected == {"BTC": Decimal("1.5"), "USDT": Decimal(50)}
    with pytest.raises(IllegalTransitionError, match="booked as external"):
        books.require_ours(SPOT, Side.BUY, FILL)
    # Both sides of a trade with oneself carry the same id.
    books.require_ours(SPOT, Side.SELL, FILL)


def test_a_residual_blocks_every_symbol_of_its_asset_until_it_is_gone() -> None:
    books = begun(BTC="1")
    books.find(ResidualFound(time_ns=2, name="USDT", amount=Decimal("-3")))
    assert books.alarm(SPOT) == "the exchange holds -3 USDT that no trade explains"
    assert books.alarm("ETH/USDT") is not None
    assert books.alarm("ETH/BTC") is None
    assert books.alarm("BTC/USDT:USDT") is None
    books.find(ResidualFound(time_ns=3, name="USDT", amount=Decimal(0)))
    assert books.alarm(SPOT) is None


def test_books_that_a_human_closed_begin_anew_with_what_is_there() -> None:
    books = begun(BTC="1")
    books.cover(TradesCovered(time_ns=2, symbol=SPOT, trade_id="7"))
    books.find(ResidualFound(time_ns=2, name="BTC", amount=Decimal(1)))
    books.forget()
    assert books.baseline is None
    assert books.covered == {}
    assert books.alarm(SPOT) is None


def test_the_books_are_plain_data_that_can_be_kept_and_read_back() -> None:
    books = begun(BTC="1", USDT="100")
    fact = ExternalFilled(time_ns=2, symbol=SPOT, side=Side.BUY, exchange_order_id="9", fill=FILL)
    books.book_external(fact)
    books.see(
        ExternalOrderSeen(
            time_ns=2,
            symbol=SPOT,
            exchange_order_id="9",
            client_order_id="web_1",
            side=Side.BUY,
            amount=Decimal("0.5"),
            price=None,
            is_open=False,
        )
    )
    books.find(ResidualFound(time_ns=3, name="BTC", amount=Decimal("0.1")))
    kept = msgspec.msgpack.encode(books)
    assert msgspec.msgpack.decode(kept, type=Holdings) == books

"""The rules around the account (F24 to F28), as the page tells them, and margin by chance."""

from decimal import Decimal

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bagbot.domain import fills
from bagbot.tests.domain import fill_rules_page as page
from bagbot.tests.trading.kernel_play import NOT_GIVEN, Script, bars_of, instrument, play
from bagbot.tests.trading.test_kernel import claims_of
from bagbot.trading import kernel, kernel_money
from bagbot.trading import kernel_tables as tables
from bagbot.trading.backtest_settings import BacktestSettings, Funding

TICK = 0.001
EXAMPLES = [example for example in page.all_examples() if example.has_account]
WAITING_MS = 60_000


class Stage:
    """One example, played line by line."""

    def __init__(self, example):
        lines = [line.split() for line in example.lines]
        rows = [page.numbers(words) for name, *words in lines if name == "bar"]
        self.market = next(words for name, *words in lines if name == "market")
        cash = next(int(words[0]) for name, *words in lines if name == "cash")
        first = rows[0]["open"]
        prices = [(first, first, first, first, 0)]
        prices += [(row["open"], row["high"], row["low"], row["close"], 0) for row in rows]
        bars = bars_of(prices, of=instrument(tick_size=Decimal("0.001"), lot_size=Decimal("0.001")))
        self.desk = self.new_desk(bars, lines, Decimal(cash) / 10**8)
        self.bar = 0
        self.happened = []

    def new_desk(self, bars, lines, cash):
        given = page.numbers(self.market)
        bar, due = 0, []
        for name, *words in lines:
            bar += name == "bar"
            if name == "funding":
                due.append((bar + 1, page.numbers(words)))
        marks = [Decimal(one.get("mark", int(bars.open[at]))) / 1_000 for at, one in due]
        funding = Funding(
            times_ms=[at * WAITING_MS for at, _ in due],
            rates=[Decimal(one["rate"]) / 10**8 for _, one in due],
            mark_prices=marks,
        )
        is_spot = self.market[0] == "spot"
        return BacktestSettings(
            cash=cash,
            market=self.market[0],
            leverage=given.get("leverage", 1),
            maintenance_rate=Decimal(given.get("maintenance_ppm", 0)) / 10**6,
            funding=None if is_spot else funding,
        ).new_desk(bars)

    def close(self):
        if self.bar and self.desk.account.bar < self.bar:
            kernel._meet_range(self.desk, self.bar)
            self.desk.account.bar = self.bar
        kernel.money.value_until(self.desk, self.bar + 1)

    def open(self):
        self.close()
        self.bar += 1
        kernel._meet_open(self.desk, self.bar)
        self.desk.account.bar = self.bar - 1

    def order(self, words):
        reduces = "reduce_only=1" in words
        one = page.order_from([word for word in words if not word.startswith("reduce_only")])
        number = kernel.place(
            self.desk,
            one.is_buy,
            one.lots * 0.001,
            one.kind,
            one.limit * TICK or NOT_GIVEN,
            one.trigger * TICK or NOT_GIVEN,
            one.trailing_ppm,
            one.time_in_force,
            reduces,
            one.pair,
            one.parent,
        )
        assert number == one.number

    def exits(self, number, stop, target):
        desk = self.desk
        loss = kernel.place(
            desk, False, NOT_GIVEN, fills.STOP, NOT_GIVEN, stop * TICK, 0, 1, True, 0, number
        )
        kernel.place(
            desk, False, NOT_GIVEN, fills.LIMIT, target * TICK, NOT_GIVEN, 0, 1, True, loss, number
        )

    def account(self):
        """Return what there is, by the page's names."""
        self.close()
        account = self.desk.account
        return {
            "free": account.quote_free,
            "quote": account.quote_free + account.quote_locked,
            "base": account.base_free + account.base_locked,
            "margin": account.margin,
            "position": account.position_lots,
            "liquidation": account.liquidation_price,
            "equity": self.desk.equity[self.bar],
        }


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.title)
def test_the_account_is_what_the_page_says(example):
    stage = Stage(example)
    expected = []
    lines = [line.split() for line in example.lines]
    for place, (name, *words) in enumerate(lines):
        if name == "bar":
            stage.open()
        elif name == "order":
            stage.order(words)
        elif name == "exits":
            stage.exits(int(words[0]), **page.numbers(words))
        elif name == "account":
            given_ = page.numbers(words)
            found = stage.account()
            assert {key: int(found[key]) for key in given_} == given_
        elif name in page.HAPPENINGS:
            expected.append(" ".join([name, *words]))
        following = lines[place + 1][0] if place + 1 < len(lines) else ""
        if name in ("order", "exits") and following != "exits":
            kernel.act(stage.desk)
    happened, others = claims_of(stage.desk)
    assert happened == [line for line in expected if line.startswith("fill")]
    assert others == {line for line in expected if not line.startswith("fill")}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_on_margin_the_wallet_is_what_was_paid_in_made_and_lost(seed):
    script = Script(seed, market="usdm", length=40)
    desk = play(script)
    account = desk.account
    wallet, position, entry = script.settings.cash_units, 0, 0
    due = [tuple(row) for row in desk.funding.tolist()]
    for row in desk.fills[: account.fill_count]:
        lots, sign = int(row.lots), 1 if row.is_buy else -1
        cost = fills.value(int(row.price), lots, desk.scale)
        # A liquidation loses the margin, whatever the price: the wallet tells it.
        if row.order == 0:
            wallet = None
            break
        closing = min(lots, max(-sign * position, 0))
        closed = fills.value(int(row.price), closing, desk.scale)
        entered = entry * closing // abs(position) if closing else 0
        wallet += (closed - entered) * -sign - int(row.fee_units)
        entry += cost - closed - entered
        position += sign * lots
        assert position == row.held_after
        paid = sum(paid for bar, _, _, paid in due if bar <= row.bar)
        assert wallet - paid == row.cash_units_after
    if wallet is not None:
        assert (account.position_lots, account.entry_value) == (position, entry)
    assert account.quote_locked == sum(
        int(row.locked) for row in desk.orders[: account.order_count]
    )
    assert account.margin >= 0
    if account.position_lots == 0:
        assert (account.margin, account.entry_value, account.liquidation_price) == (0, 0, 0)


@settings(deadline=None)
@given(
    amount=st.integers(0, 2**60),
    whole=st.integers(1, 2**61),
    share=st.floats(0, 1),
)
def test_a_share_of_an_amount_is_exact(amount, whole, share):
    lots = min(int(whole * share), whole)
    assert kernel_money._part(amount, lots, whole) == amount * lots // whole


@settings(max_examples=25, deadline=None)
@given(
    lots=st.integers(1, 10_000),
    leverage=st.integers(2, 125),
    is_long=st.booleans(),
)
def test_a_position_is_secured_on_one_side_of_its_liquidation_price_only(lots, leverage, is_long):
    rows = [(10_000, 20_000, 100, 10_000, 0)] * 3
    desk = BacktestSettings(cash=10**9, market="usdm", leverage=leverage).new_desk(bars_of(rows))
    kernel.close_bar(desk, 0)
    kernel.place(desk, is_long, lots / 1_000, fills.MARKET, NOT_GIVEN, NOT_GIVEN, 0, 1, False, 0, 0)
    kernel.act(desk)
    price = int(desk.account.liquidation_price)
    if price == 0:
        return
    beyond = price + (1 if is_long else -1)
    assert not kernel_money._is_secured(desk, price)
    assert kernel_money._is_secured(desk, beyond)
    assert desk.account.position_lots == (lots if is_long else -lots)
    assert not numpy.isnan(desk.account.entry_price)


def test_every_reason_has_words():
    codes = {
        value
        for name, value in vars(tables).items()
        if name.isupper() and isinstance(value, int) and name.startswith(("BY_", "MAX_", "WOULD_"))
    }
    assert codes <= set(tables.REASONS)

"""Tokens: small resting orders, each of which lets one order be executed once at most. Pure.

An order sent with a token replaces it (cancelReplace, STOP_ON_FAILURE): the exchange places the
order only if it could cancel the token, and a token can be cancelled only once. So the order may be
sent again, may arrive late or twice, and still executes once or not at all. A token is an ordinary
order of ours, far from the market; docs/decisions/0006-token-mode.md tells what it costs.
"""

from decimal import ROUND_UP, Decimal
from typing import Final

from bagbot.domain.instrument import Instrument, Side
from bagbot.domain.order import Order, OrderIntent, OrderRequest, OrderStatus, OrderType, intent_id
from bagbot.domain.order import TimeInForce as Tif
from bagbot.trading.account_state import TOKEN_SOURCE, AccountState

# Far enough not to be reached, near enough for the exchange's own percent filters.
_PRICE_RATIO: Final = Decimal("0.5")
_ABOVE_FILTER: Final = Decimal("1.05")


def token_intent(
    state: AccountState, account: str, instrument: Instrument, price: Decimal, time_ns: int
) -> OrderIntent:
    """Return the intent of the next token: the smallest buy that may rest, far below `price`."""
    ratio = max(_PRICE_RATIO, (instrument.buy_price_ratio_min or Decimal(0)) * _ABOVE_FILTER)
    far = instrument.round_price(price * ratio, Side.BUY)
    # The exchange may judge the notional by an average price, so a little more than the least.
    least = max(
        instrument.quantity_min or Decimal(0),
        (instrument.notional_min or Decimal(0)) * _ABOVE_FILTER / far,
        instrument.lot_size,
    )
    lots = (least / instrument.lot_size).to_integral_value(ROUND_UP)
    number = state.tokens_made.get(instrument.symbol, 0)
    identity = f"token-{instrument.symbol}-{number}"
    return OrderIntent(
        id=intent_id(account, identity),
        account=account,
        request=OrderRequest(
            symbol=instrument.symbol,
            side=Side.BUY,
            type=OrderType.LIMIT,
            amount=lots * instrument.lot_size,
            price=far,
            time_in_force=Tif.PO,
        ),
        source=TOKEN_SOURCE,
        identity=identity,
        time_ns=time_ns,
    )


def tokens(state: AccountState, symbol: str) -> list[Order]:
    """Return the tokens of a symbol that no order has taken yet, also those still on their way."""
    live = (state.orders[order_id] for order_id in state.live)
    return [
        order
        for order in live
        if order.intent.source == TOKEN_SOURCE
        and order.intent.request.symbol == symbol
        and order.id not in state.tokens_taken
    ]


def free_token(state: AccountState, symbol: str) -> Order | None:
    """Return a token that rests at the exchange, or None: then the order goes without."""
    return next((t for t in tokens(state, symbol) if t.status is OrderStatus.OPEN), None)


def unspent(state: AccountState, symbol: str) -> list[Order]:
    """Return the tokens that still rest though the order that took them will never replace them."""
    takers = {
        token_id: state.orders[state.tokens_taken[token_id]]
        for token_id in state.live
        if token_id in state.tokens_taken
    }
    return [
        token
        for token_id, taker in takers.items()
        if (token := state.orders[token_id]).status is OrderStatus.OPEN
        and token.intent.request.symbol == symbol
        and taker.is_final
        and taker.exchange_order_id is None
    ]


def resting(state: AccountState, symbol: str) -> Decimal:
    """Return what all live tokens of a symbol, taken or not, would buy if they traded."""
    live = (state.orders[order_id] for order_id in state.live)
    return sum(
        (
            order.remaining
            for order in live
            if order.intent.source == TOKEN_SOURCE and order.intent.request.symbol == symbol
        ),
        Decimal(0),
    )


def token_of(state: AccountState, order: Order) -> Order | None:
    """Return the token an order was sent with, or None."""
    send = order.sends.get(order.attempt)
    return None if send is None or not send.token else state.orders[send.token]


def is_barred(state: AccountState, order: Order) -> bool:
    """Whether an order cannot be executed any more unless it has been: its token is gone."""
    token = token_of(state, order)
    return token is not None and token.is_final

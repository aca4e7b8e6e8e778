"""Orders for the benchmarks of the simulated exchange: a mix that a scratch exchange accepted.

Every command is chosen with a look at a scratch exchange, so that none is refused, and is then
carried out again by a fresh one against the clock. Of a hundred commands about 40 are limit orders
that rest, 20 limit orders that take, 10 market orders and 30 cancellations. Ten accounts trade with
each other and with the market's own quotes, all in one book.
"""

import random
from collections.abc import Callable, Iterable

from bagbot.simulator.amounts import ONE
from bagbot.simulator.exchange import Moment
from bagbot.simulator.list_exchange import ListExchange
from bagbot.simulator.market import PROFILES, quotes_around
from bagbot.simulator.orders import CancelOrder, Changes, Order, OrderType, PlaceOrder
from bagbot.simulator.symbols import DEFAULT_SYMBOLS

SYMBOL = "BTCUSDT"
RULES = DEFAULT_SYMBOLS[SYMBOL]
PRICE = PROFILES[SYMBOL].start_price
ACCOUNTS = range(1, 11)
NOW = Moment(1_700_000_000_000_000_000, 1_600_000_000_000)
_RESTING_MAX = 150

Command = PlaceOrder | CancelOrder


def exchange() -> ListExchange:
    """Return an exchange with ten rich accounts and the market's quotes, before its first order."""
    core = ListExchange(DEFAULT_SYMBOLS)
    for account_id in ACCOUNTS:
        core.open_account(account_id, {"BTC": 1_000 * ONE, "USDT": 100_000_000 * ONE})
    core.reference_prices[SYMBOL] = PRICE
    bids, asks = quotes_around(PRICE, None, RULES, PROFILES[SYMBOL])
    core.market_quotes(SYMBOL, bids, asks)
    core.take_changes()
    return core


def carry_out(
    core: ListExchange, commands: Iterable[Command], use: Callable[[Changes], object]
) -> None:
    """Give an exchange the commands, and each command's changes to `use`."""
    for command in commands:
        if type(command) is PlaceOrder:
            core.place(command, NOW)
        else:
            core.cancel(command, NOW)
        use(core.take_changes())


def accepted_commands(count: int, seed: int) -> list[Command]:
    """Return `count` commands that `exchange()` accepts one after the other."""
    chance = random.Random(seed)
    scratch = exchange()
    commands: list[Command] = []
    resting: list[Order] = []
    for number in range(count):
        kind = chance.random()
        if kind < 0.3 or len(resting) > _RESTING_MAX * len(ACCOUNTS) // 2:
            resting = [order for order in resting if order.is_open]
            if resting:
                order = resting.pop(chance.randrange(len(resting)))
                commands.append(
                    CancelOrder(
                        account_id=order.account_id,
                        symbol=SYMBOL,
                        client_order_id=order.client_order_id,
                    )
                )
                scratch.cancel(commands[-1], NOW)
                continue
        command = _order(chance, scratch, number, kind)
        placed = scratch.place(command, NOW).order
        if placed.is_open:
            resting.append(placed)
        commands.append(command)
    return commands


def _order(chance: random.Random, scratch: ListExchange, number: int, kind: float) -> PlaceOrder:
    is_buy = chance.random() < 0.5
    book = scratch.books[SYMBOL]
    bid, ask = book.best_bid(), book.best_ask()
    assert bid is not None
    assert ask is not None
    if kind < 0.7:
        # Somewhere in the first hundred ticks on the order's own side of the spread.
        away = chance.randrange(100) * RULES.tick
        price = ask[0] - RULES.tick - away if is_buy else bid[0] + RULES.tick + away
    elif kind < 0.9:
        price = ask[0] + 50 * RULES.tick if is_buy else bid[0] - 50 * RULES.tick
    else:
        price = 0
    return PlaceOrder(
        account_id=chance.choice(ACCOUNTS),
        symbol=SYMBOL,
        is_buy=is_buy,
        type=OrderType.LIMIT if price else OrderType.MARKET,
        price=price,
        quantity=chance.randrange(10, 400) * RULES.lot,
        client_order_id=f"bench-{number}",
    )

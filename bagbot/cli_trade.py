"""`bagbot trade`: a strategy on closed bars. Parse, call, print."""

from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated

import typer

from bagbot.config import load_settings
from bagbot.domain.errors import ConfigError

trade_app = typer.Typer()


class TradedAccount(StrEnum):
    """Where a strategy trades."""

    PAPER = "paper"
    TESTNET = "testnet"


StrategyName = Annotated[
    str, typer.Argument(help='"file.py", "file.py:Class", or an example of bagbot\'s.')
]
Where = Annotated[
    TradedAccount,
    typer.Option("--account", help="paper: our own exchange. testnet: Binance's, your keys."),
]
StrategyId = Annotated[
    str | None,
    typer.Option("--id", help="Under which name it is found again; made of what it is by default."),
]
Parameters = Annotated[
    list[str] | None, typer.Option("--param", help="NAME=VALUE of the strategy; repeatable.")
]
Timeframe = Annotated[
    str, typer.Option("--timeframe", "--interval", help="How long a bar is: 1m, 5m, 1h.")
]
Cash = Annotated[str, typer.Option(help="How much of the quote asset is the strategy's own.")]
History = Annotated[int, typer.Option(min=0, max=999, help="How many bars from before it it sees.")]

Bars = Annotated[int | None, typer.Option(min=1, help="Stop by itself after so many bars.")]


@trade_app.command()
def trade(
    strategy: StrategyName,
    account: Where = TradedAccount.PAPER,
    symbol: Annotated[str, typer.Option(help="The market as CCXT calls it.")] = "BTC/USDT",
    timeframe: Timeframe = "1m",
    param: Parameters = None,
    cash: Cash = "10000",
    strategy_id: StrategyId = None,
    history: History = 500,
    bars: Bars = None,
) -> None:
    """Trade a strategy on closed bars, with the engine and its API, until stopped.

    Started again it goes on where it was, also after a crash.
    """
    from bagbot import app as composition
    from bagbot.event_loop import run_loop
    from bagbot.live_view import LiveView
    from bagbot.trading.live_trader import LiveSettings
    from bagbot.trading.strategy_loader import parameters_from, strategy_class

    cls = strategy_class(strategy)
    trades = cls(**parameters_from(param or (), cls))
    settings = LiveSettings(
        strategy_id=strategy_id or f"{cls.__name__}-{symbol}-{timeframe}",
        symbol=symbol,
        timeframe=timeframe,
        cash=_amount(cash),
        history_bars=history,
        bars_max=bars,
    )
    with LiveView() as view:
        run_loop(
            composition.run(
                load_settings(), account.value, on_ready=view.ready, strategy=(trades, settings)
            )
        )


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        raise ConfigError(f"--cash must be a number, not {text}") from error
    if not (amount.is_finite() and amount > 0):
        raise ConfigError(f"--cash must be above zero, not {text}")
    return amount

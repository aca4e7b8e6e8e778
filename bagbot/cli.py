"""The command line: parse, call, print. No logic lives here.

Heavy modules are imported where they are used, so that `bagbot --help` and `bagbot token` start
at once.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bagbot import __version__
from bagbot.api.tokens import Scope, TokenStore
from bagbot.config import Home, load_settings
from bagbot.domain.errors import BagbotError
from bagbot.system_clock import SystemClock

app = typer.Typer(
    help="bagbot turns a decision to trade into exactly one order, and can prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
token_app = typer.Typer(help="Make, list and revoke the API's tokens.", no_args_is_help=True)
app.add_typer(token_app, name="token")


class Account(StrEnum):
    """Where `bagbot run` trades."""

    PAPER = "paper"
    TESTNET = "testnet"
    DEMO = "demo"


class Matcher(StrEnum):
    """Who decides the fills of `bagbot exchange`."""

    BOOK = "book"
    BARS = "bars"


# What `bagbot exchange` is set up from.
AccountsFile = Annotated[
    Path | None, typer.Option(help="A TOML file of accounts instead of the one key.")
]
SymbolsFile = Annotated[Path | None, typer.Option(help="A TOML file of the symbols to serve.")]
MarketFile = Annotated[
    Path | None, typer.Option(help="A TOML file of what synthetic markets are to do.")
]
BarsFile = Annotated[Path | None, typer.Option(help="A Parquet file of bars to replay.")]
TradesFile = Annotated[Path | None, typer.Option(help="A Parquet or CSV file of trades to replay.")]
LiveExchange = Annotated[
    str | None, typer.Option(help="Follow a real exchange's prices: a CCXT id.")
]
LiveUrl = Annotated[
    str | None, typer.Option(help="Another address that speaks Binance's protocol.")
]
LivePolling = Annotated[
    bool, typer.Option("--live-polling", help="Ask for live prices, without streams.")
]

ExchangeKey = Annotated[
    str, typer.Option(envvar="BAGBOT_EXCHANGE_API_KEY", help="The key clients must send.")
]
ExchangeSecret = Annotated[
    str, typer.Option(envvar="BAGBOT_EXCHANGE_API_SECRET", help="The secret they sign with.")
]
Assumed = Annotated[
    list[str] | None,
    typer.Option(help="NAME=VALUE of docs/SIMULATOR.md, What was assumed; repeatable."),
]


def main() -> None:
    """Run the command line; what bagbot raises on purpose is told in one line, with exit code 1."""
    try:
        app()
    except BagbotError as error:
        print(f"bagbot: {error}", file=sys.stderr)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"bagbot {__version__}")
        raise typer.Exit


@app.command()
def run(
    account: Annotated[
        Account, typer.Option(help="paper: our own exchange. testnet, demo: Binance's, your keys.")
    ] = Account.PAPER,
) -> None:
    """Run the engine and its API; with --account paper also its own exchange."""
    from bagbot import app as composition
    from bagbot.live_view import LiveView

    with LiveView() as view:
        _run_loop(composition.run(load_settings(), account.value, on_ready=view.ready))


@app.command()
def demo() -> None:
    """Play the whole story: alert, fill, repeat, refusal, a crash at the worst time, recovery."""
    from bagbot.demo import play

    _run_loop(play(print))


@app.command()
def exchange(
    api_key: ExchangeKey = "",
    api_secret: ExchangeSecret = "",
    accounts: AccountsFile = None,
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1; 0 takes a free one.")] = 8080,
    symbols: SymbolsFile = None,
    market: MarketFile = None,
    data: BarsFile = None,
    trades: TradesFile = None,
    symbol: Annotated[str, typer.Option(help="Whose bars or trades these are.")] = "BTCUSDT",
    live: LiveExchange = None,
    live_url: LiveUrl = None,
    live_polling: LivePolling = False,
    speed: Annotated[float, typer.Option(help="Market seconds per second.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The seed of the synthetic market.")] = 7,
    store: Annotated[Path | None, typer.Option(help="A folder to remember everything in.")] = None,
    matcher: Annotated[
        Matcher, typer.Option(help="book: an order book. bars: fills by docs/FILL_RULES.md.")
    ] = Matcher.BOOK,
    stepped: Annotated[
        bool, typer.Option("--stepped", help="Bars wait for POST /admin/step.")
    ] = False,
    assume: Assumed = None,
    until_stdin_ends: Annotated[
        bool, typer.Option("--until-stdin-ends", hidden=True, help="End with the parent process.")
    ] = False,
) -> None:
    """Run the exchange alone: a Binance spot on one port, REST, streams and WebSocket API."""
    from bagbot.app import run_exchange
    from bagbot.live_view import configure_logging
    from bagbot.simulator.accounts import accounts_from
    from bagbot.simulator.assumptions import assumptions_from
    from bagbot.simulator.live_market import LiveSettings
    from bagbot.simulator.market_conditions import conditions_from
    from bagbot.simulator.server import SimulatorSettings
    from bagbot.simulator.symbol_settings import symbols_from
    from bagbot.simulator.symbols import DEFAULT_SYMBOLS

    # Standard output is for the one line that says it is ready; under an engine, only what needs
    # attention is logged at all.
    level = logging.WARNING if until_stdin_ends else logging.INFO
    configure_logging(lambda line: print(line, file=sys.stderr, flush=True), level)
    _run_loop(
        run_exchange(
            SimulatorSettings(
                port=port,
                api_key=api_key,
                api_secret=api_secret,
                accounts=() if accounts is None else accounts_from(accounts),
                assumptions=assumptions_from(accounts, assume or ()),
                store=store,
                matcher=matcher.value,
                stepped=stepped,
                symbols=tuple(DEFAULT_SYMBOLS) if symbols is None else symbols_from(symbols),
                conditions=() if market is None else conditions_from(market),
                data=data,
                trades=trades,
                live=None
                if live is None
                else LiveSettings(exchange_id=live, base_url=live_url, by_polling=live_polling),
                data_symbol=symbol,
                speed=speed,
                seed=seed,
            ),
            say=lambda line: print(line, flush=True),
            until_stdin_ends=until_stdin_ends,
        )
    )


@token_app.command("create")
def token_create(
    scope: Annotated[list[Scope], typer.Option(help="What it may do; may be given repeatedly.")],
) -> None:
    """Make a token and print it, alone, on the last line; it is shown only now."""
    print(_tokens().create(scope))


@token_app.command("list")
def token_list() -> None:
    """List the tokens: id, scopes, when made; the tokens themselves are not kept."""
    for token in _tokens().list():
        made = datetime.fromtimestamp(token.created_ns / 1e9, UTC)
        print(token.id, ",".join(sorted(token.scopes)), f"{made:%Y-%m-%d %H:%M:%SZ}")


@token_app.command("revoke")
def token_revoke(token_id: str) -> None:
    """Revoke a token by its id; that holds at once, also for a running bagbot."""
    _tokens().revoke(token_id)


def _tokens() -> TokenStore:
    return TokenStore(Home(load_settings().home).tokens, SystemClock())


def _run_loop(work: Coroutine[None, None, None]) -> None:
    """Run until done; Ctrl-C before the work has its own handler ends it quietly, too."""
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with suppress(ImportError):
        import uvloop

        loop_factory = uvloop.new_event_loop
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(work)
    except KeyboardInterrupt:
        sys.exit(130)

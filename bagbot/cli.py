"""The command line: parse, call, print. No logic lives here.

Heavy modules are imported where they are used, so that `bagbot --help` and `bagbot token` start
at once.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bagbot import __version__
from bagbot.api.tokens import Scope, TokenStore
from bagbot.cli_backtest import backtest_app
from bagbot.cli_data import data_app
from bagbot.cli_sweep import sweep_app
from bagbot.cli_trade import trade_app
from bagbot.config import Home, load_settings
from bagbot.domain.errors import BagbotError, JournalError
from bagbot.system_clock import SystemClock

app = typer.Typer(
    help="bagbot turns a decision to trade into exactly one order, and can prove it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
token_app = typer.Typer(help="Make, list and revoke the API's tokens.", no_args_is_help=True)
app.add_typer(token_app, name="token")
journal_app = typer.Typer(
    help="Verify, export and snapshot an account's journal, also while bagbot runs.",
    no_args_is_help=True,
)
app.add_typer(journal_app, name="journal")
app.add_typer(data_app, name="data")
app.add_typer(backtest_app)
app.add_typer(sweep_app)
app.add_typer(trade_app)


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
    from bagbot.event_loop import run_loop
    from bagbot.live_view import LiveView

    with LiveView() as view:
        run_loop(composition.run(load_settings(), account.value, on_ready=view.ready))


@app.command()
def demo() -> None:
    """Play the whole story: alert, fill, repeat, refusal, a crash at the worst time, recovery."""
    from bagbot.demo import play
    from bagbot.event_loop import run_loop

    run_loop(play(print))


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
    from bagbot.event_loop import run_loop
    from bagbot.exchange_process import run_exchange
    from bagbot.log_lines import configure_logging
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
    run_loop(
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


JournalAccount = Annotated[Account, typer.Option(help="Whose journal.")]
JournalFile = Annotated[
    Path | None, typer.Option("--file", help="A journal's file, instead of an account's.")
]


class ExportFormat(StrEnum):
    """How `bagbot journal export` writes a row."""

    JSONL = "jsonl"


@journal_app.command("verify")
def journal_verify(account: JournalAccount = Account.PAPER, file: JournalFile = None) -> None:
    """Check every row of the journal and what they add up to; exit code 1 names the bad row."""
    from bagbot.trading import journal_audit

    path, snapshot = _journal(account, file)
    with _progress("verifying") as tell:
        audit = journal_audit.verify(path, snapshot, tell)
    print(f"journal   {path}")
    print(f"rows      {audit.rows}")
    print(f"orders    {audit.orders} ({audit.live} not ended), {audit.fills} fills")
    if audit.rows:
        last = datetime.fromtimestamp(audit.last_time_ns / 1e9, UTC)
        print(f"last row  {last:%Y-%m-%d %H:%M:%SZ}")
    print(f"last hash {audit.last.hash.hex()}")
    print(f"snapshot  {audit.snapshot}")
    print("Every row is what was written.")


@journal_app.command("export")
def journal_export(
    account: JournalAccount = Account.PAPER,
    file: JournalFile = None,
    output: Annotated[
        Path | None, typer.Option(help="Where to write; standard output when not given.")
    ] = None,
    format_: Annotated[ExportFormat, typer.Option("--format")] = ExportFormat.JSONL,
) -> None:
    """Write every row, checked, as one line of JSON; stops with exit code 1 at a bad row."""
    from bagbot.trading import journal_audit

    path, _ = _journal(account, file)
    with contextlib.ExitStack() as stack:
        try:
            target = stack.enter_context(output.open("wb")) if output else sys.stdout.buffer
            tell = stack.enter_context(_progress("exporting"))
            target.writelines(journal_audit.exported(path, tell))
            target.flush()
        except BrokenPipeError:
            # Who reads has seen enough (`| head`). What is left in the buffer goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            raise JournalError(f"the export cannot be written: {error}") from error


@journal_app.command("snapshot")
def journal_snapshot(
    account: JournalAccount = Account.PAPER,
    file: JournalFile = None,
    gently: Annotated[bool, typer.Option("--gently", hidden=True, help="Let others go first.")] = (
        False
    ),
) -> None:
    """Check the journal and write down what it adds up to, so that the next start is fast."""
    from bagbot.log_lines import configure_logging
    from bagbot.trading import journal_audit

    configure_logging(lambda line: print(line, file=sys.stderr, flush=True), logging.WARNING)
    if gently:
        os.nice(19)
    path, snapshot = _journal(account, file)
    with _progress("reading") as tell:
        mark = journal_audit.take_snapshot(path, snapshot, tell)
    print(f"{snapshot} stands for the first {mark.sequence} rows")


def _journal(account: Account, file: Path | None) -> tuple[Path, Path]:
    home = Home(load_settings().home)
    path = home.journal(account.value) if file is None else file
    return path, path.with_suffix(".snapshot")


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show on standard error, if a person sees it, how far a long reading is."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tokens() -> TokenStore:
    return TokenStore(Home(load_settings().home).tokens, SystemClock())

"""`bagbot data`: the catalogue of bars on the command line. Parse, call, print."""

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bagbot.config import Home, load_settings
from bagbot.domain.errors import DataError
from bagbot.system_clock import SystemClock

if TYPE_CHECKING:
    from bagbot.marketdata.catalog import Catalog
    from bagbot.marketdata.download import Downloaded, Progress
    from bagbot.marketdata.quality import QualityReport

data_app = typer.Typer(
    help="List, check, import and download the bars that backtests run on.", no_args_is_help=True
)

Symbol = Annotated[str, typer.Argument(help="The market as CCXT calls it: BTC/USDT.")]
SymbolOption = Annotated[
    str | None, typer.Option("--symbol", help="The market as CCXT calls it: BTC/USDT.")
]
Timeframe = Annotated[str, typer.Option(help="How long a bar is: 1m, 5m, 1h, 1d.")]
AnyTimeframe = Annotated[
    str | None, typer.Option("--timeframe", help="How long a bar is; else taken from the data.")
]
Zone = Annotated[
    str | None, typer.Option(help="The time zone of times that name none, such as UTC.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@data_app.command("list")
def data_list(as_json: AsJson = False) -> None:
    """List the bars there are: exchange, market, interval, how many, from when to when."""
    catalog = _catalog()
    found = catalog.series()
    if as_json:
        rows = [
            {
                "exchange": s.exchange,
                "symbol": s.symbol,
                "timeframe": s.timeframe,
                "bars": s.bars,
                "first_ms": s.first_ms,
                "last_ms": s.last_ms,
                "file": str(s.path),
            }
            for s in found
        ]
        print(json.dumps(rows, indent=2))
        return
    if not found:
        print(f"no bars yet in {catalog.folder}: see bagbot data download and bagbot data import")
    for s in found:
        print(
            f"{s.exchange:<10} {s.symbol:<16} {s.timeframe:>4} {s.bars:>11,} bars  "
            f"{_minute(s.first_ms)} to {_minute(s.last_ms)}"
        )


@data_app.command("check")
def data_check(
    file: Annotated[
        Path | None, typer.Argument(help="A CSV or Parquet file, else a market of the catalogue.")
    ] = None,
    symbol: SymbolOption = None,
    timeframe: AnyTimeframe = None,
    exchange: Annotated[str | None, typer.Option(help="Whose bars, if there are several.")] = None,
    zone: Zone = None,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong or odd with bars; exit code 1 if one cannot compute with them."""
    from bagbot.domain.ohlcv import timeframe_ms
    from bagbot.marketdata.bars_file import read_file
    from bagbot.marketdata.quality import examine

    if file is not None:
        read = read_file(file, symbol=symbol, zone=zone)
        interval_ms = read.interval_ms() if timeframe is None else timeframe_ms(timeframe)
        report = read.examine(interval_ms)
        _show(report, as_json=as_json)
        read.require_bars(interval_ms)
        return
    if symbol is None or timeframe is None:
        raise DataError("name a file, or --symbol and --timeframe of what is in the catalogue")
    _show(examine(_catalog().load(symbol, timeframe, exchange=exchange)), as_json=as_json)


@data_app.command("import")
def data_import(
    file: Annotated[Path, typer.Argument(help="A CSV or Parquet file of bars.")],
    symbol: Annotated[str, typer.Option(help="The market as CCXT calls it: BTC/USDT.")],
    exchange: Annotated[str, typer.Option(help="Under which name to keep them.")] = "imported",
    timeframe: AnyTimeframe = None,
    zone: Zone = None,
    tick: Annotated[
        str | None, typer.Option(help="Round prices to the nearest multiple of this.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let them replace bars known with other values.")
    ] = False,
) -> None:
    """Check a file's bars and add them to the catalogue; a bar that is known is not doubled."""
    from bagbot.domain.ohlcv import timeframe_ms
    from bagbot.marketdata.bars_file import read_file

    read = read_file(file, symbol=symbol, zone=zone, tick=None if tick is None else _tick(tick))
    interval_ms = read.interval_ms() if timeframe is None else timeframe_ms(timeframe)
    read.require_bars(interval_ms)
    for line in read.examine(interval_ms).lines():
        print(line)
    catalog = _catalog()
    added = catalog.add(
        read.record, exchange=exchange, symbol=symbol, interval_ms=interval_ms, replaces=replace
    )
    print(
        f"{added.new:,} bars added to {catalog.folder}, {added.known:,} known before, "
        f"{added.replaced:,} replaced"
    )


@data_app.command("download")
def data_download(
    symbol: Symbol,
    timeframe: Timeframe = "1h",
    since: Annotated[
        str, typer.Option(help="The first day or moment; UTC unless it says otherwise.")
    ] = "2017-01-01",
    until: Annotated[
        str | None, typer.Option(help="The moment to stop before; else everything closed.")
    ] = None,
    exchange: Annotated[str, typer.Option(help="A CCXT exchange.")] = "binance",
    base_url: Annotated[
        str | None,
        typer.Option(envvar="BINANCE_BASE_URL", help="A server that speaks Binance's protocol."),
    ] = None,
) -> None:
    """Download an exchange's history; what is there is not asked for again. Needs no key."""
    start_ms = moment_ms(since)
    end_ms = None if until is None else moment_ms(until)
    # What a paper exchange has invented must never be taken for the market's.
    name = "paper" if exchange == "binance" and base_url else exchange
    result = _run_download(symbol, timeframe, start_ms, end_ms, exchange, name, base_url)
    if not result.asked:
        print(f"{name} {symbol} {timeframe}: nothing new to ask for")
        return
    print(f"{name} {symbol} {timeframe}: {result.new:,} bars added, {result.known:,} known before")
    if not result.new + result.known:
        return
    from bagbot.marketdata.quality import examine

    bars = _catalog().load(symbol, timeframe, exchange=name, start_ms=start_ms, end_ms=end_ms)
    for line in examine(bars).lines():
        print(line)


def _run_download(
    symbol: str,
    timeframe: str,
    start_ms: int,
    end_ms: int | None,
    exchange: str,
    name: str,
    base_url: str | None,
) -> "Downloaded":
    from bagbot.log_lines import configure_logging
    from bagbot.marketdata.download import download
    from bagbot.trading.connectors.public_data import public_data

    configure_logging(lambda line: print(line, file=sys.stderr, flush=True), logging.WARNING)
    catalog = _catalog()
    now_ms = SystemClock().time_ns() // 1_000_000

    async def run(on_progress: "Callable[[Progress], None]") -> "Downloaded":
        connector = public_data(exchange, futures=":" in symbol, base_url=base_url)
        async with connector:
            return await download(
                connector,
                catalog,
                symbol,
                timeframe,
                exchange=name,
                start_ms=start_ms,
                end_ms=now_ms if end_ms is None else end_ms,
                now_ms=now_ms,
                on_progress=on_progress,
            )

    try:
        with _progress(f"{name} {symbol} {timeframe}") as tell, asyncio.Runner() as runner:
            return runner.run(run(tell))
    except KeyboardInterrupt:
        print("stopped; what has come is kept, the same command goes on", file=sys.stderr)
        sys.exit(130)


@contextlib.contextmanager
def _progress(what: str) -> "Iterator[Callable[[Progress], None]]":
    """Show on standard error, if a person sees it, how far a download is."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%  {task.fields[bars]:,} bars"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as shown:
        task = shown.add_task(what, total=None, bars=0)
        yield lambda at: shown.update(task, completed=at.done_ms, total=at.total_ms, bars=at.bars)


def _catalog() -> "Catalog":
    from bagbot.marketdata.catalog import Catalog

    return Catalog(Home(load_settings().home).path / "data")


def _show(report: "QualityReport", *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
        return
    for line in report.lines():
        print(line)


def _tick(text: str) -> Decimal:
    try:
        tick = Decimal(text)
    except InvalidOperation as error:
        raise DataError(f"{text!r} is no tick, as 0.01 is") from error
    if not tick.is_finite() or tick <= 0:
        raise DataError(f"{text!r} is no tick, as 0.01 is")
    return tick


def moment_ms(text: str) -> int:
    """Return a day or time as ms since 1970, UTC where it names no zone; raises DataError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise DataError(
            f"{text!r} is no time: say it like 2024-01-31 or 2024-01-31T08:00Z"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def _minute(time_ms: int) -> str:
    return f"{datetime.fromtimestamp(time_ms / 1000, UTC):%Y-%m-%d %H:%M}"

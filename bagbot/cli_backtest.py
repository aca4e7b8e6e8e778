"""`bagbot backtest`, `check` and `warmup`: strategies on recorded bars. Parse, call, print."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bagbot.cli_data import moment_ms
from bagbot.config import Home, load_settings
from bagbot.domain.errors import BagbotError, ConfigError, DataError, StrategyError

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    from bagbot.domain.bars import Bars
    from bagbot.trading.backtest_settings import Costs
    from bagbot.trading.backtester import Backtester
    from bagbot.trading.lookahead import Honesty

backtest_app = typer.Typer()


class RunMode(StrEnum):
    """How the strategy's decisions are carried out."""

    AUTO = "auto"
    COMPILED = "compiled"
    INTERPRETED = "interpreted"
    PYTHON = "python"


class Market(StrEnum):
    """What is traded."""

    SPOT = "spot"
    USDM = "usdm"


class FillAt(StrEnum):
    """When a market order fills."""

    OPEN = "open"
    CLOSE = "close"


StrategyName = Annotated[
    str, typer.Argument(help='"file.py", "file.py:Class", or an example of bagbot\'s.')
]
DataFile = Annotated[Path | None, typer.Option("--data", help="A CSV or Parquet file of bars.")]
Symbol = Annotated[
    str | None, typer.Option(help="The market as CCXT calls it; picks it from file or catalogue.")
]
Timeframe = Annotated[str | None, typer.Option(help="How long a bar is: 1m, 5m, 1h, 1d.")]
ExchangeName = Annotated[str | None, typer.Option(help="Whose bars, if there are several.")]
Since = Annotated[str | None, typer.Option(help="The first day, UTC: 2024-01-31.")]
Until = Annotated[str | None, typer.Option(help="The day to stop before, UTC.")]
Zone = Annotated[str | None, typer.Option(help="The time zone of times that name none: UTC.")]
Parameters = Annotated[
    list[str] | None, typer.Option("--param", help="NAME=VALUE of the strategy; repeatable.")
]
Cash = Annotated[str, typer.Option(help="What the account begins with, in the quote asset.")]
MakerFee = Annotated[
    float, typer.Option(help="A fraction of the value: 0.001 is 0.1 %. Binance's usdm: 0.0002.")
]
TakerFee = Annotated[float, typer.Option(help="A fraction of the value. Binance's usdm: 0.0005.")]
Slippage = Annotated[float, typer.Option(help="What a taker loses, as a fraction of the price.")]
MarketKind = Annotated[Market, typer.Option("--market", help="spot, or usdm: perpetual futures.")]
Leverage = Annotated[int, typer.Option(min=1, help="With --market usdm.")]
FundingFile = Annotated[
    Path | None, typer.Option(help="With --market usdm: a file of recorded funding rates.")
]
RunMethod = Annotated[
    RunMode,
    typer.Option("--mode", help="auto compiles what can be compiled; python is for debuggers."),
]


@backtest_app.command()
def backtest(
    strategy: StrategyName,
    data: DataFile = None,
    symbol: Symbol = None,
    timeframe: Timeframe = None,
    exchange: ExchangeName = None,
    since: Since = None,
    until: Until = None,
    zone: Zone = None,
    param: Parameters = None,
    cash: Cash = "10000",
    maker_fee: MakerFee = 0.001,
    taker_fee: TakerFee = 0.001,
    slippage: Slippage = 0.0,
    market: MarketKind = Market.SPOT,
    leverage: Leverage = 1,
    funding: FundingFile = None,
    fill_at: Annotated[
        FillAt, typer.Option(help="close is for research only: nobody can trade it.")
    ] = FillAt.OPEN,
    mode: RunMethod = RunMode.AUTO,
    report: Annotated[
        Path | None, typer.Option(help="Write the report, one HTML file, here.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Look for look-ahead, at a few bars.")
    ] = True,
) -> None:
    """Play a strategy over recorded bars, and say what would have become of it."""
    from bagbot.marketdata.quality import examine
    from bagbot.reports.as_json import as_json as json_of
    from bagbot.reports.page import write_page
    from bagbot.reports.terminal import terminal_summary
    from bagbot.trading.backtest_settings import Costs

    bars = recorded_bars(data, symbol, timeframe, exchange, since, until, zone)
    make = _backtester(
        strategy,
        param,
        cash,
        Costs(maker_fee=maker_fee, taker_fee=taker_fee, slippage=slippage),
        fill_at,
        _futures(market, leverage, funding, symbol, zone),
    )
    quality = examine(bars)
    with shown_progress("playing") as tell, errors_with_place(strategy):
        result = make(bars, mode.value).run(on_progress=tell)
    notes = [] if quality.is_clean else list(quality.lines()[1:])
    if check:
        honesty = _examined(strategy, param, bars, make, mode.value, cuts=5, replays=1)
        notes += honesty.cautions()
    if report is not None:
        write_page(result, report, notes)
    if as_json:
        print(json_of(result, notes))
        return
    from rich.console import Console

    Console().print(terminal_summary(result, notes))
    if report is not None:
        print(f"report    {report}")


@backtest_app.command()
def check(
    strategy: StrategyName,
    data: DataFile = None,
    symbol: Symbol = None,
    timeframe: Timeframe = None,
    exchange: ExchangeName = None,
    since: Since = None,
    until: Until = None,
    zone: Zone = None,
    param: Parameters = None,
    market: MarketKind = Market.SPOT,
    leverage: Leverage = 1,
    funding: FundingFile = None,
    cuts: Annotated[int, typer.Option(min=1, help="At how many bars the record is cut.")] = 50,
    replays: Annotated[int, typer.Option(min=0, help="How often it is played again.")] = 10,
) -> None:
    """Look thoroughly for what a strategy cannot have known; exit code 1 if there is something."""
    from bagbot.marketdata.quality import examine
    from bagbot.trading.backtest_settings import Costs

    bars = recorded_bars(data, symbol, timeframe, exchange, since, until, zone)
    make = _backtester(
        strategy,
        param,
        "10000",
        Costs(),
        FillAt.OPEN,
        _futures(market, leverage, funding, symbol, zone),
    )
    for line in examine(bars).lines():
        print(line)
    honesty = _examined(strategy, param, bars, make, "auto", cuts=cuts, replays=replays)
    for line in honesty.lines():
        print(line)
    if not honesty.is_honest:
        raise typer.Exit(1)


@backtest_app.command()
def warmup(
    strategy: Annotated[
        list[str] | None, typer.Argument(help="Strategies to compile as well, as for backtest.")
    ] = None,
) -> None:
    """Compile the engine, the examples and the strategies given, so that runs start at once."""
    from bagbot.trading.strategy_loader import example_names, strategy_class
    from bagbot.trading.warmup import compiled_seconds

    begun = time.perf_counter()
    for name in [*example_names(), *(strategy or ())]:
        with errors_with_place(name):
            seconds = compiled_seconds(strategy_class(name))
        print(f"{name:<24} {seconds:6.1f} s", flush=True)
    print(f"{'in all':<24} {time.perf_counter() - begun:6.1f} s")


Make = Callable[["Bars", str], "Backtester"]


def _futures(
    market: Market, leverage: int, funding: Path | None, symbol: str | None, zone: str | None
) -> dict[str, Any]:
    """Return the settings of a backtest that make it one of futures."""
    from bagbot.trading.backtest_settings import Funding

    rates = None
    if funding is not None:
        from bagbot.marketdata.funding_file import read_funding

        read = read_funding(funding, symbol=symbol, zone=zone)
        rates = Funding(times_ms=read.times_ms, rates=read.rates, mark_prices=read.mark_prices)
    return {"market": market.value, "leverage": leverage, "funding": rates}


def _backtester(
    strategy: str,
    param: Sequence[str] | None,
    cash: str,
    costs: "Costs",
    fill_at: FillAt,
    futures: Mapping[str, Any],
) -> Make:
    from bagbot.trading.backtester import Backtester
    from bagbot.trading.strategy_loader import parameters_from, strategy_class

    cls = strategy_class(strategy)
    parameters = parameters_from(param or (), cls)
    try:
        amount = Decimal(cash)
    except InvalidOperation as error:
        raise ConfigError(f"--cash {cash} is no amount") from error
    return lambda bars, mode: Backtester(
        cls,
        bars,
        cash=amount,
        costs=costs,
        fill_at=fill_at.value,
        mode=mode,
        parameters=parameters,
        **futures,
    )


def _examined(
    strategy: str,
    param: Sequence[str] | None,
    bars: "Bars",
    make: Make,
    mode: str,
    *,
    cuts: int,
    replays: int,
) -> "Honesty":
    from bagbot.trading.lookahead import examine
    from bagbot.trading.strategy_loader import parameters_from, strategy_class

    cls = strategy_class(strategy)

    def play(some: "Bars") -> "NDArray[numpy.void]":
        return make(some, mode).run().orders

    made = cls(**parameters_from(param or (), cls))
    with errors_with_place(strategy):
        return examine(made, bars, play, cuts=cuts, replays=replays)


def recorded_bars(
    data: Path | None,
    symbol: str | None,
    timeframe: str | None,
    exchange: str | None,
    since: str | None,
    until: str | None,
    zone: str | None,
) -> "Bars":
    """Return the bars of a file, or of the catalogue; raises DataError when there are none."""
    start_ms = None if since is None else moment_ms(since)
    end_ms = None if until is None else moment_ms(until)
    if data is None:
        from bagbot.marketdata.catalog import Catalog

        if symbol is None or timeframe is None:
            raise DataError("name a file with --data, or --symbol and --timeframe")
        catalog = Catalog(Home(load_settings().home).path / "data")
        return catalog.load(symbol, timeframe, exchange=exchange, start_ms=start_ms, end_ms=end_ms)

    from bagbot.marketdata.bars_file import read_bars

    bars = read_bars(data, symbol=symbol, timeframe=timeframe, zone=zone)
    first = 0 if start_ms is None else int(bars.open_time_ms.searchsorted(start_ms))
    last = len(bars) if end_ms is None else int(bars.open_time_ms.searchsorted(end_ms))
    if first >= last:
        raise DataError(f"{data}: there are no bars in that time")
    return bars[first:last]


@contextlib.contextmanager
def errors_with_place(strategy: str) -> Iterator[None]:
    """Tell an error of the strategy's own code in one line: where, what, and at which bar."""
    from bagbot.trading.strategy_loader import place_in_strategy, strategy_class

    try:
        yield
    except BagbotError as error:
        place = place_in_strategy(error, strategy_class(strategy))
        if not place or place in str(error):
            raise
        raise StrategyError(f"{place}: {error}{_notes(error)}") from error
    except Exception as error:
        place = place_in_strategy(error, strategy_class(strategy))
        if not place:
            raise
        raise StrategyError(f"{place}: {type(error).__name__}: {error}{_notes(error)}") from error


def _notes(error: BaseException) -> str:
    return "".join(f"; {note}" for note in getattr(error, "__notes__", ()))


@contextlib.contextmanager
def shown_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show on standard error, if a person sees it, how far a long run is."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

"""`bagbot sweep`: many backtests of one strategy, from the command line."""

import ast
import math
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bagbot.cli_backtest import (
    Cash,
    DataFile,
    ExchangeName,
    Leverage,
    MakerFee,
    Market,
    MarketKind,
    Parameters,
    RunMethod,
    RunMode,
    Since,
    Slippage,
    StrategyName,
    Symbol,
    TakerFee,
    Timeframe,
    Until,
    Zone,
    errors_with_place,
    recorded_bars,
    shown_progress,
)
from bagbot.domain.errors import ConfigError

if TYPE_CHECKING:
    from bagbot.trading.strategy import Parameter, Strategy, Value
    from bagbot.trading.sweep import Sweep, SweepResult
    from bagbot.trading.sweep_grid import Where

# What a condition over parameters is made of.
_ALLOWED: Final = (
    *(ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Name, ast.Constant),
    *(ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context),
)
_SHOWN: Final = ("total_return", "sharpe", "drawdown_max", "trades", "win_rate", "fees")


sweep_app = typer.Typer()

GridParts = Annotated[
    list[str],
    typer.Option(
        "--grid", help="fast=5:55, slow=60:260:2 or size=0.5,1,2; repeatable. TO is left out."
    ),
]
Condition = Annotated[
    str | None, typer.Option(help='Which combinations make sense: "fast < slow".')
]
Samples = Annotated[int | None, typer.Option(help="Run so many of them, drawn without repeats.")]
Seed = Annotated[int, typer.Option(help="The seed of --random.")]
Workers = Annotated[int | None, typer.Option(min=1, help="How many cores work; all there are.")]
Sort = Annotated[str, typer.Option(help="The figure that the best have.")]
Top = Annotated[int, typer.Option(min=1, help="How many of the best to show.")]
Output = Annotated[Path | None, typer.Option(help="Where the table goes: .parquet or .csv.")]
Report = Annotated[Path | None, typer.Option(help="Write the heat maps, one HTML file, here.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the sweep of this --output.")]


@sweep_app.command()
def sweep(
    strategy: StrategyName,
    grid: GridParts,
    data: DataFile = None,
    symbol: Symbol = None,
    timeframe: Timeframe = None,
    exchange: ExchangeName = None,
    since: Since = None,
    until: Until = None,
    zone: Zone = None,
    where: Condition = None,
    random: Samples = None,
    seed: Seed = 0,
    param: Parameters = None,
    cash: Cash = "10000",
    maker_fee: MakerFee = 0.001,
    taker_fee: TakerFee = 0.001,
    slippage: Slippage = 0.0,
    market: MarketKind = Market.SPOT,
    leverage: Leverage = 1,
    mode: RunMethod = RunMode.AUTO,
    workers: Workers = None,
    sort: Sort = "sharpe",
    top: Top = 10,
    output: Output = None,
    report: Report = None,
    resume: Resume = False,
) -> None:
    """Play every combination of some parameters, on all cores, and show the best."""
    from bagbot.trading.backtest_settings import Costs
    from bagbot.trading.strategy_loader import parameters_from, strategy_class
    from bagbot.trading.sweep import Sweep, require_figure

    require_figure(sort)
    cls = strategy_class(strategy)
    store = _store(output, is_wanted=resume)
    made = Sweep(
        cls,
        recorded_bars(data, symbol, timeframe, exchange, since, until, zone),
        grid_from(grid, cls),
        where=None if where is None else where_from(where, cls),
        samples=random,
        seed=seed,
        parameters=parameters_from(param or (), cls),
        mode=mode.value,
        workers=workers,
        cash=cash,
        costs=Costs(maker_fee=maker_fee, taker_fee=taker_fee, slippage=slippage),
        market=market.value,
        leverage=leverage,
    )
    with errors_with_place(strategy):
        result = _run(made, store)
    _show(result, sort, top)
    if report is not None:
        _write_report(result, report, sort)
        print(f"report    {report}")
    if output is not None and store is not None:
        (result.to_csv if output.suffix == ".csv" else result.to_parquet)(output)
        store.unlink()
        print(f"table     {output}")


def _run(made: "Sweep", store: Path | None) -> "SweepResult":
    from bagbot.trading.sweep import SweepInterruptedError

    try:
        with shown_progress("sweeping") as tell:
            return made.run(tell, store=store)
    except SweepInterruptedError as stopped:
        kept = f"kept in {store}, --resume goes on" if store else "lost; --output keeps them"
        print(f"{stopped}: {kept}", file=sys.stderr)
        raise typer.Exit(130) from stopped


def grid_from(texts: Sequence[str], strategy: "type[Strategy]") -> dict[str, Sequence["Value"]]:
    """Return the grid that `--grid` options describe, such as fast=5:55.

    Raises ConfigError for what is none, and for an unknown parameter.
    """
    from bagbot.trading.strategy import did_you_mean

    grid: dict[str, Sequence[Value]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip()
        if not equals or not values:
            raise ConfigError(f"--grid {text}: it is written as fast=5:55 or fast=5,10,20")
        if name not in strategy.declared:
            hint = did_you_mean(name, strategy.declared)
            raise ConfigError(f"{strategy.__name__} has no parameter {name}{hint}")
        if name in grid:
            raise ConfigError(f"--grid names {name} twice")
        grid[name] = values_of(values.strip(), strategy.declared[name])
    return grid


def values_of(text: str, parameter: "Parameter") -> Sequence["Value"]:
    """Return the values that a part of `--grid` stands for.

    `5:55` and `60:260:2` go up to, but not including, the end, as Python's range does; `1,2,5` is
    a list. Steps of a float are exact: 0.1:0.4:0.1 is 0.1, 0.2 and 0.3.

    Raises ConfigError for what is neither.
    """
    if ":" not in text:
        return [_value_of(part.strip(), parameter) for part in text.split(",")]
    told = f"parameter {parameter.name}: {text} is not FROM:TO or FROM:TO:STEP"
    parts = text.split(":")
    if parameter.kind is bool or len(parts) > 3:
        raise ConfigError(told)
    try:
        start, stop, step = (Decimal(part) for part in (*parts, "1")[:3])
    except InvalidOperation as error:
        raise ConfigError(told) from error
    if not (start.is_finite() and stop.is_finite() and step.is_finite() and step > 0):
        raise ConfigError(f"{told}, all finite and the step above 0")
    if parameter.kind is int:
        if any(each != each.to_integral_value() for each in (start, stop, step)):
            raise ConfigError(f"parameter {parameter.name} is int, and {text} is not")
        return range(int(start), int(stop), int(step))
    count = max(0, math.ceil((stop - start) / step))
    return [float(start + step * at) for at in range(count)]


def where_from(text: str, strategy: "type[Strategy]") -> "Where":
    """Return the condition that an expression over the parameters stands for.

    Raises ConfigError when it is no expression, or asks for anything but parameters and numbers.
    """
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise ConfigError(f"--where {text}: {error.msg}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in strategy.declared:
            raise ConfigError(f"--where {text}: {strategy.__name__} has no parameter {node.id}")
        if not isinstance(node, _ALLOWED):
            raise ConfigError(f"--where {text}: only parameters, numbers and comparisons")
    code = compile(tree, "--where", "eval")

    def holds(parameters: Mapping[str, "Value"]) -> bool:
        try:
            return bool(eval(code, {"__builtins__": {}}, dict(parameters)))
        except (NameError, ArithmeticError, TypeError) as error:
            raise ConfigError(f"--where {text}: {error}") from error

    return holds


def _value_of(text: str, parameter: "Parameter") -> "Value":
    told = f"parameter {parameter.name} is {parameter.kind.__name__}, and {text!r} is not"
    if parameter.kind is bool:
        if text.lower() not in ("true", "false"):
            raise ConfigError(told)
        return text.lower() == "true"
    try:
        return parameter.kind(text)
    except ValueError as error:
        raise ConfigError(told) from error


def _store(output: Path | None, *, is_wanted: bool) -> Path | None:
    """Return the file that keeps the rows until the table is written."""
    if output is None:
        if is_wanted:
            raise ConfigError("--resume needs the --output of the sweep to go on with")
        return None
    if output.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"--output {output}: a table is .parquet or .csv")
    store = output.with_name(output.name + ".sweep")
    if store.exists() and not is_wanted:
        raise ConfigError(f"{store} is there: --resume goes on with it; else delete it")
    return store


def _show(result: "SweepResult", sort: str, top: int) -> None:
    from rich.console import Console
    from rich.table import Table

    swept = list(result.parameters)
    figures = [sort, *(name for name in _SHOWN if name != sort)]
    table = Table(*swept, *figures)
    for place in result.ranking(sort)[:top]:
        row = result.row(place)
        table.add_row(
            *(f"{row[name]}" for name in swept), *(f"{row[name]:.4g}" for name in figures)
        )
    Console().print(table)
    speed = result.bars * result.total / max(result.run_s, 1e-9) / 1e6
    print(
        f"{result.total:,} combinations of {result.bars:,} bars in {result.run_s:.1f} s, "
        f"{speed:,.1f} million bars a second, {result.mode}"
    )
    if result.why_not_compiled:
        print(f"not compiled: {result.why_not_compiled}")


def _write_report(result: "SweepResult", path: Path, sort: str) -> None:
    from bagbot.reports.sweep_page import write_sweep_page

    names = result.table.dtype.names or ()
    write_sweep_page(
        path,
        title=f"{result.strategy}, {result.total:,} combinations",
        parameters={name: result.table[name] for name in result.parameters},
        metrics={name: result.table[name] for name in names if name not in result.parameters},
        about=result.about(),
        sort_by=sort,
    )

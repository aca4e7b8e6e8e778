"""`bagbot sweep`: many backtests of one strategy, from the command line."""

import ast
import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bagbot.domain.errors import BagbotError, ConfigError

if TYPE_CHECKING:
    from bagbot.trading.strategy import Parameter, Strategy, Value
    from bagbot.trading.sweep import SweepResult
    from bagbot.trading.sweep_grid import Where

_SHOWN: Final = ("total_return", "sharpe", "drawdown_max", "trades", "win_rate", "fees")


def sweep(
    strategy: Annotated[str, typer.Argument(help="file.py, file.py:Class, or one of bagbot's.")],
    data: Annotated[Path, typer.Option(help="A Parquet or CSV file of bars.")],
    grid: Annotated[
        list[str],
        typer.Option(help="fast=5:55, slow=60:260:2 or size=0.5,1,2; repeatable. TO is left out."),
    ],
    symbol: Annotated[str | None, typer.Option(help="The market, if the file has several.")] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="A parameter that stays: size=1; repeatable.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help='Which combinations make sense: "fast < slow".')
    ] = None,
    random: Annotated[
        int | None, typer.Option(help="Run so many of them, drawn without repeats.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed of --random.")] = 0,
    cash: Annotated[str, typer.Option(help="The quote currency to begin with.")] = "10000",
    mode: Annotated[str, typer.Option(help="auto, compiled, interpreted or python.")] = "auto",
    workers: Annotated[int | None, typer.Option(help="How many cores; all there are.")] = None,
    sort: Annotated[str, typer.Option(help="The figure that the best have.")] = "sharpe",
    top: Annotated[int, typer.Option(help="How many of the best to show.")] = 10,
    output: Annotated[
        Path | None, typer.Option(help="Where the table goes: .parquet or .csv.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Where the HTML page goes.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the sweep of this --output.")
    ] = False,
) -> None:
    """Backtest every combination of some parameters, and show the best."""
    from bagbot.cli_backtest import parameters_from, strategy_class
    from bagbot.marketdata.bars_file import read_bars
    from bagbot.trading.sweep import Sweep, SweepInterruptedError

    cls = strategy_class(strategy)
    store = _store(output, is_wanted=resume)
    made = Sweep(
        cls,
        read_bars(data, symbol=symbol),
        grid_from(grid, cls),
        where=None if where is None else where_from(where, cls),
        samples=random,
        seed=seed,
        parameters=parameters_from(param or [], cls),
        cash=Decimal(cash),
        mode=mode,
        workers=workers,
    )
    try:
        with _progress(f"sweeping {cls.__name__}") as tell:
            result = made.run(tell, store=store)
    except SweepInterruptedError as stopped:
        kept = f"kept in {store}; --resume goes on" if store else "gone: --output keeps them"
        print(f"{stopped}, {kept}", file=sys.stderr)
        sys.exit(130)
    _show(result, sort, top)
    if report is not None:
        _write_report(result, report, sort)
        print(f"report    {report}")
    if output is not None and store is not None:
        result.to_file(output)
        store.unlink()
        print(f"table     {output}")


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
    allowed = (
        ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Name, ast.Constant,
        ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.expr_context,
    )  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in strategy.declared:
            raise ConfigError(f"--where {text}: {strategy.__name__} has no parameter {node.id}")
        if not isinstance(node, allowed):
            raise ConfigError(f"--where {text}: only parameters, numbers and comparisons")
    code = compile(tree, "--where", "eval")

    def holds(parameters: Mapping[str, "Value"]) -> bool:
        try:
            return bool(eval(code, {"__builtins__": {}}, dict(parameters)))  # noqa: S307
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
        shown = (f"{row[name]:.4g}" for name in figures)
        table.add_row(*(str(row[name]) for name in swept), *shown)
    Console().print(table)
    bars = result.bars * result.total
    how = result.mode if not result.why_not_compiled else f"not compiled: {result.why_not_compiled}"
    speed = f"{bars / result.run_s / 1e6:.1f} million bars/s" if result.run_s else ""
    print(f"{result.total} combinations in {result.run_s:.1f} s ({speed}; {how})")


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show on standard error, if a person sees it, how far the sweep is."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)

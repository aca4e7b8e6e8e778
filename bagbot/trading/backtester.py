"""Runs a strategy over bars: `Backtester(MyStrategy, bars).run()`.

The strategy is compiled when it can be; then the whole loop is machine code. Otherwise its Python
object decides bar by bar, with the kernel compiled (docs/BACKTESTING.md). All ways give the same
orders, fills and equity, to the last unit.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

from bagbot.domain.bars import Bars
from bagbot.domain.errors import ConfigError
from bagbot.trading.backtest_result import BacktestResult, fills_of, orders_of
from bagbot.trading.backtest_settings import BacktestSettings, Costs, Funding, Number
from bagbot.trading.interpreted_run import CompiledKernel, InterpretedRun, Kernel
from bagbot.trading.kernel import is_full
from bagbot.trading.kernel_tables import Desk, grown
from bagbot.trading.risk_manager import RiskLimits
from bagbot.trading.strategy import History, Prepared, Strategy, Value, bar_series, prepare
from bagbot.trading.strategy_compiler import Program, compile_strategy
from bagbot.trading.strategy_expressions import CannotCompileError

__all__ = ["BacktestResult", "Backtester", "Costs", "Funding", "Progress"]

Progress = Callable[[int, int], None]

_MODES: Final = ("auto", "compiled", "interpreted", "python")
# Between two of these a run can be told of, and stopped.
_COMPILED_CHUNK: Final = 1 << 18
_INTERPRETED_CHUNK: Final = 1 << 14


class Backtester:
    """One strategy on one record of bars, with its settings; `run` may be called again.

    `strategy` is a class, with `parameters` for it, or an object of one (it is left untouched).
    `mode` is "auto" (compiled if it can be), "compiled", "interpreted", or "python" (the kernel as
    plain Python too, for a debugger). The other settings are those of BacktestSettings.

    Raises ConfigError or StrategyError at once when something of that makes no sense.
    """

    def __init__(
        self,
        strategy: type[Strategy] | Strategy,
        bars: Bars,
        *,
        parameters: Mapping[str, Value] | None = None,
        mode: str = "auto",
        cash: Number = 10_000,
        costs: Costs | None = None,
        fill_at: str = "open",
        limits: RiskLimits | None = None,
        market: str = "spot",
        leverage: int = 1,
        maintenance_rate: Number = "0.004",
        funding: Funding | None = None,
    ) -> None:
        if mode not in _MODES:
            raise ConfigError(f"mode is one of {', '.join(_MODES)}, not {mode!r}")
        if not isinstance(bars, Bars):
            raise ConfigError(f"bars: {type(bars).__name__} is no Bars")
        if isinstance(strategy, Strategy):
            given = {**strategy.parameters, **(parameters or {})}
            self._prototype = type(strategy)(**given)
        elif isinstance(strategy, type) and issubclass(strategy, Strategy):
            self._prototype = strategy(**(parameters or {}))
        else:
            raise ConfigError(f"strategy: {strategy!r} is no Strategy")
        self.bars = bars
        # Made when they are first asked for; every run may have them.
        self._given = bar_series(bars)
        self.settings = BacktestSettings(
            cash=cash,
            costs=costs or Costs(),
            fill_at=fill_at,
            limits=limits,
            market=market,
            leverage=leverage,
            maintenance_rate=maintenance_rate,
            funding=funding,
        )
        self._mode = mode
        self._program: Program | None = None
        # What the settings make of these bars is refused now as well, not in the middle of a run.
        self.settings.check(bars)

    @property
    def cash_units(self) -> int:
        """The cash at the start in 1e-8 of the quote asset."""
        return self.settings.cash_units

    def new_desk(self) -> Desk:
        """Return a desk that stands before the first bar."""
        return self.settings.new_desk(self.bars)

    def run(self, on_progress: Progress | None = None) -> BacktestResult:
        """Play all bars and return what came of it.

        `on_progress` is called now and then with the bars done and the bars there are. Raises what
        the strategy raises, with a note of the bar; StrategyError for what can't run, and
        CannotCompileError in mode "compiled".
        """
        why_not_compiled = ""
        if self._mode in ("auto", "compiled"):
            started = time.perf_counter()
            strategy = self._prototype.fresh()
            prepared = prepare(strategy, self.bars, self._given)
            prepared_s = time.perf_counter() - started
            try:
                return self._compiled(strategy, prepared, prepared_s, on_progress)
            except CannotCompileError as error:
                if self._mode == "compiled":
                    raise
                why_not_compiled = str(error)
            except Exception as error:  # noqa: BLE001 - told in the result
                # Only Python knows the true error, and where it is; or there is none there.
                why_not_compiled = f"in machine code it failed: {error!r}"
        return self._interpreted(why_not_compiled, on_progress)

    def _compiled(
        self,
        strategy: Strategy,
        prepared: Prepared,
        prepared_s: float,
        on_progress: Progress | None,
    ) -> BacktestResult:
        started = time.perf_counter()
        if self._program is None:
            self._program = compile_strategy(strategy, prepared.series)
        program = self._program
        desk = self.new_desk()
        bound = program.bind(strategy, prepared.series)
        program.compile(bound, desk)
        compiled_at = time.perf_counter()
        bar, count = 0, len(self.bars)
        while bar < count:
            bar = program.run(bound, desk, prepared.first, bar, min(bar + _COMPILED_CHUNK, count))
            if on_progress is not None:
                on_progress(bar, count)
            if bar < count:
                desk = _with_room(desk)
        run_s = time.perf_counter() - compiled_at + prepared_s
        return self._result(desk, "compiled", "", compiled_at - started, run_s)

    def _interpreted(self, why_not_compiled: str, on_progress: Progress | None) -> BacktestResult:
        started = time.perf_counter()
        desk = self.new_desk()
        is_plain = self._mode == "python"
        engine = Kernel(desk) if is_plain else CompiledKernel(desk)
        compiled_at = time.perf_counter()
        strategy = self._prototype.fresh()
        prepared = prepare(strategy, self.bars, self._given)
        history = History(strategy, prepared.series)
        run = InterpretedRun(strategy, history, prepared.first, self.bars, engine)
        count = len(self.bars)
        for bar in range(0, count, _INTERPRETED_CHUNK):
            stop = min(bar + _INTERPRETED_CHUNK, count)
            run.play(bar, stop)
            if on_progress is not None:
                on_progress(stop, count)
        run_s = time.perf_counter() - compiled_at
        mode = "python" if is_plain else "interpreted"
        return self._result(engine.desk, mode, why_not_compiled, compiled_at - started, run_s)

    def _result(
        self, desk: Desk, mode: str, why_not_compiled: str, compile_s: float, run_s: float
    ) -> BacktestResult:
        return BacktestResult(
            strategy=type(self._prototype).__name__,
            parameters=self._prototype.parameters,
            bars=self.bars,
            settings=self.settings,
            mode=mode,
            why_not_compiled=why_not_compiled,
            compile_s=compile_s,
            run_s=run_s,
            placed=orders_of(desk),
            fills=fills_of(desk),
            equity=desk.equity,
            funding=desk.funding,
            scale=self.settings.scale_of(self.bars.instrument),
        )


def _with_room(desk: Desk) -> Desk:
    return grown(desk) if is_full(desk) else desk

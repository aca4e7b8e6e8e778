"""Where a crash can fall: each await of the order path, and each kind of record of the journal.

The points are read from the source, so that a new await is a new point without anybody saying so.
"""

import ast
import importlib
import inspect
import pkgutil
import random
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from types import CodeType, CoroutineType, FrameType, ModuleType
from typing import Any, Final, TypeGuard

from bagbot import trading
from bagbot.tests.chaos.virtual_loop import Crash, Watch
from bagbot.trading import journal_records

# Who waits for a price has not begun an order, and live strategies are not simulated: a real one
# is killed in test_trade_killed.py.
_OTHER_PATHS: Final = frozenset({"live_trader", "price_feed"})


def _modules() -> tuple[ModuleType, ...]:
    """Return the modules of the order path: all of trading's own."""
    names = [m.name for m in pkgutil.iter_modules(trading.__path__) if not m.ispkg]
    return tuple(
        importlib.import_module(f"bagbot.trading.{name}")
        for name in sorted(names)
        if name not in _OTHER_PATHS
    )


MODULES: Final = _modules()

# Points that no run can reach, and why; one that is reached after all fails the run as well.
_NO_STRATEGY: Final = "only for a live strategy"
UNREACHABLE: Final = {
    "record BAR_DECIDED": _NO_STRATEGY,
    "record STRATEGY_BEGUN": _NO_STRATEGY,
    "order_executor.note_strategy #1": _NO_STRATEGY,
    "order_executor.refresh #1": _NO_STRATEGY,
    "order_executor.until_answered #1": _NO_STRATEGY,
    "reconciliation.refresh #1": _NO_STRATEGY,
    "reconciliation.refresh #2": _NO_STRATEGY,
    "record WITHDRAWN": "INTENT and SEND are one write, so no crash comes in between",
    "order_executor.__aenter__ #3": "a task group is entered without waiting",
    "order_executor.__aenter__ #6": "a task group without tasks is left without waiting",
    "order_executor.cancel #5": "only for a connector whose cancel answers with nothing",
    "reconciliation._learn_trades #3": "only for an exchange that lists no trades",
    "reconciliation._fetch_holdings #1": "only on futures",
    "reconciliation._cover #2": "only for an exchange that forgets trades",
}
# What must go wrong for a point to come into reach.
_CONTRADICTION: Final = ("event contradicts", "another order told")
_DEAF_TO_OTHERS: Final = ("foreign order", "event dropped", "subscription refused")
_DEAF_TO_OURS: Final = ("answer lost", "direct query blind", "subscription refused")
_RENAMED: Final = ("foreign cancel", "cancel renames", "request lost", *_DEAF_TO_OURS)
# The other bagbot must be heard at once, and ours not.
_BOOKS_ANEW: Final = ("another bagbot", "answer lost", "direct query blind", "event dropped")
_MANY_UNNAMED: Final = ("foreign order", "event dropped", *_DEAF_TO_OURS)
_TOKENS: Final = ("token mode",)
_TOKENS_IN_DOUBT: Final = ("token mode", "answer lost")
_TOKENS_UNFOUND: Final = ("token mode", "request lost")
NEEDS: Final = {
    "order_executor._carry_out #3": _TOKENS_IN_DOUBT,
    "order_executor._drop_unspent_tokens #1": ("token mode", "refused by the exchange"),
    "order_executor._keep_tokens #1": _TOKENS,
    "order_executor._keep_tokens #2": _TOKENS,
    "order_executor._keep_tokens #3": _TOKENS,
    "order_executor._make_token #1": _TOKENS,
    "order_executor._make_token #2": _TOKENS,
    "order_executor._make_token #3": _TOKENS,
    "order_executor._send_again #1": _TOKENS_IN_DOUBT,
    "order_executor._until #1": _TOKENS,
    "reconciliation._take_token_back #1": _TOKENS_UNFOUND,
    "reconciliation.look_up #6": _TOKENS_UNFOUND,
    "record DISPUTE": _CONTRADICTION,
    "record EXTERNAL_FILLED": ("foreign order",),
    "record RESIDUAL": ("deposit",),
    "account_book.dispute #1": _CONTRADICTION,
    "account_book.learn #1": ("event contradicts",),
    "order_executor.__aexit__ #1": ("orderly restart",),
    "reconciliation._audit #1": ("read slow", "stream cut", "foreign order"),
    "reconciliation._book_trade #1": _DEAF_TO_OTHERS,
    "reconciliation._book_trade #3": ("foreign order",),
    "reconciliation._compare #2": ("deposit",),
    "reconciliation._cover #3": _DEAF_TO_OTHERS,
    "reconciliation._find_own #1": _BOOKS_ANEW,
    "reconciliation._find_own #2": _BOOKS_ANEW,
    "reconciliation._find_owners #1": _DEAF_TO_OTHERS,
    "reconciliation._find_owners #2": _DEAF_TO_OTHERS,
    "reconciliation._find_owners #3": _MANY_UNNAMED,
    "reconciliation._owner #1": _DEAF_TO_OTHERS,
    "reconciliation._owner #2": _DEAF_TO_OURS,
    "reconciliation._owner #3": _DEAF_TO_OTHERS,
    "reconciliation._see_external #1": (*_RENAMED, "thin market"),
    "reconciliation._see_external #2": ("foreign order",),
    "reconciliation._see_external #3": ("another bagbot",),
    "reconciliation._see_open_orders #2": _DEAF_TO_OTHERS,
    "reconciliation._see_open_orders #4": (*_DEAF_TO_OTHERS, "foreign cancel"),
    "reconciliation._see_open_orders #5": (*_DEAF_TO_OTHERS, "foreign cancel"),
    "reconciliation._settle_residuals #1": ("deposit",),
    "reconciliation._shout #1": _RENAMED,
    "reconciliation._take_baseline #3": _BOOKS_ANEW,
    "reconciliation.hear #2": ("foreign order",),
    "reconciliation.learn_told #1": _CONTRADICTION,
    "reconciliation.look_up #4": _RENAMED,
    "reconciliation.look_up #5": _DEAF_TO_OURS,
    "reconciliation._learn_trades #2": _DEAF_TO_OURS,
    "reconciliation._see_open_orders #3": _DEAF_TO_OURS,
    "record NOT_ACCEPTED": ("request lost",),
    "record OUTCOME_UNKNOWN": ("answer lost",),
    "record REJECTED": ("refused by the exchange",),
    "account_book.learn_together #1": ("orderly restart",),
    "order_executor._learn_interrupted #1": ("orderly restart",),
    "reconciliation.start #3": ("deposit", "orderly restart"),
    "reconciliation.start #4": ("deposit", "orderly restart"),
}
# What is only waited for when two cancels of one order are under way at a time.
_IMPATIENCE: Final = "reconciliation.look_up #1"
# Functions that neither submit, cancel nor recover, and what a human writes off by hand.
_NOT_ON_THE_PATH: Final = frozenset({"until_settled", "write_off", "find_now"})


@dataclass(frozen=True, slots=True)
class Point:
    """One place, before or after the wait there."""

    name: str
    side: str

    def __str__(self) -> str:
        return f"{self.name} {self.side}"


def _is_timeout(item: ast.withitem) -> bool:
    # Entering `asyncio.timeout` never waits.
    return "asyncio.timeout" in ast.unparse(item.context_expr)


def _awaits(module: ModuleType) -> Iterator[tuple[str, int, str]]:
    """Yield function, line and name of every await of a module."""
    tree = ast.parse(inspect.getsource(module))
    for function in ast.walk(tree):
        if not isinstance(function, ast.AsyncFunctionDef) or function.name in _NOT_ON_THE_PATH:
            continue
        short = module.__name__.rpartition(".")[2]
        lines = sorted({node.lineno for node in ast.walk(function) if _is_point(node)})
        for number, line in enumerate(lines, 1):
            yield function.name, line, f"{short}.{function.name} #{number}"


def _is_point(node: ast.AST) -> TypeGuard[ast.Await | ast.AsyncFor | ast.AsyncWith]:
    if isinstance(node, ast.AsyncWith):
        return not any(map(_is_timeout, node.items))
    return isinstance(node, ast.Await | ast.AsyncFor)


def _needs_luck(point: Point) -> bool:
    return point.name in NEEDS or point.name == _IMPATIENCE


class CrashPoints:
    """All points there are."""

    def __init__(self) -> None:
        self.at: dict[tuple[str, str, int], str] = {}
        for module in MODULES:
            for function, line, name in _awaits(module):
                self.at[module.__file__ or "", function, line] = name
        kinds = journal_records._KIND_OF.values()
        self.names = [
            *sorted(set(self.at.values())),
            *(f"record {kind}" for kind in sorted(kinds)),
        ]
        self.all = [Point(name, side) for name in self.names for side in ("before", "after")]
        self.expected = [p for p in self.all if p.name not in UNREACHABLE]
        self.rare = [p for p in self.expected if _needs_luck(p)]


POINTS: Final = CrashPoints()
_FILES: Final = frozenset(file for file, _, _ in POINTS.at)
# Code does not change, so that what one seed has looked up serves all.
_NAME_AT: Final[dict[tuple[CodeType, int], str | None]] = {}


@dataclass(slots=True)
class Trigger:
    """When to crash: after so many steps, or at the n-th passing of a point."""

    steps: int = 0
    point: Point | None = None
    count: int = 1


def needed(triggers: list[Trigger]) -> list[str]:
    """Return the fault classes without which the planned crashes would come to nothing."""
    points = [trigger.point for trigger in triggers if trigger.point is not None]
    return [name for point in points for name in NEEDS.get(point.name, ())]


def wants_impatience(triggers: list[Trigger]) -> bool:
    """Return whether the planned crashes need callers that cancel several times at once."""
    return any(t.point is not None and t.point.name == _IMPATIENCE for t in triggers)


def draw_triggers(rng: random.Random, seed: int) -> list[Trigger]:
    """Return the crashes planned for a seed; every point gets its turn as the seeds go by.

    Those at a point come whenever it is passed, the others one after the other.
    """
    triggers: list[Trigger] = []
    for number in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        if rng.random() < 0.6:
            point = POINTS.expected[(seed + number * 31) % len(POINTS.expected)]
            count = 1 if _needs_luck(point) else rng.choice((1, 1, 1, 2, 3, 8))
            triggers.append(Trigger(point=point, count=count))
        elif number and rng.random() < 0.6:
            # Soon after the last one: while it recovers.
            triggers.append(Trigger(steps=rng.randint(1, 60)))
        else:
            triggers.append(Trigger(steps=int(1 + 900 * rng.random() ** 2)))
    if rng.random() < 0.5:
        triggers.append(Trigger(point=POINTS.rare[seed % len(POINTS.rare)]))
    return triggers


def _sides(triggers: list[Trigger]) -> frozenset[str]:
    return frozenset(trigger.point.side for trigger in triggers if trigger.point is not None)


class CrashWatch(Watch):
    """Follows every step of the engine, and crashes it where it is planned."""

    def __init__(self, triggers: list[Trigger]) -> None:
        self._triggers = triggers
        self._sides = _sides(triggers)
        self._queued: dict[str, None] = {}
        self.hit: dict[str, int] = {}
        self.steps = 0
        self.is_armed = True

    def resumes(self, task: Coroutine[Any, Any, Any]) -> None:
        self.steps += 1
        self._step(task, "after")

    def suspended(self, task: Coroutine[Any, Any, Any]) -> None:
        if self._queued:
            queued, self._queued = self._queued, {}
            self._passed([f"record {kind}" for kind in queued], "before")
        self._step(task, "before")

    def queued(self, kinds: list[str]) -> None:
        """Records have been put in line; a crash comes at the end of the step that did it."""
        self._queued.update(dict.fromkeys(kinds))

    def flushed(self, kinds: list[str]) -> None:
        """Records have become durable, and nobody knows yet."""
        self._passed([f"record {kind}" for kind in kinds], "after")

    def new_life(self) -> None:
        """Start to count anew."""
        self.steps = 0
        self._queued = {}

    def _step(self, task: Coroutine[Any, Any, Any], side: str) -> None:
        # Where a task stands is costly to find out, and this is every step there is.
        if self._triggers and (side in self._sides or self._is_due()):
            self._passed(self._names(task), side)

    def _passed(self, names: list[str], side: str) -> None:
        if not self._triggers or not self.is_armed:
            return
        if self._is_due():
            self._crash(self._triggers[0], names, side)
        for trigger in self._triggers:
            point = trigger.point
            if point is not None and point.side == side and point.name in names:
                trigger.count -= 1
                if trigger.count <= 0:
                    self._crash(trigger, names, side)

    def _is_due(self) -> bool:
        first = self._triggers[0]
        return first.point is None and self.steps >= first.steps

    def _crash(self, trigger: Trigger, names: list[str], side: str) -> None:
        self._triggers.remove(trigger)
        self._sides = _sides(self._triggers)
        for name in names:
            key = f"{name} {side}"
            self.hit[key] = self.hit.get(key, 0) + 1
        raise Crash(f"{side} {', '.join(names) or 'a step elsewhere'}")

    def _names(self, task: Coroutine[Any, Any, Any]) -> list[str]:
        """Return the points at which a task stands, the outermost first."""
        names = []
        inner: Any = task
        while isinstance(inner, CoroutineType):
            # A frame is made only when asked for, and most code has no point.
            if inner.cr_code.co_filename in _FILES:
                frame = inner.cr_frame
                if frame is None:
                    break
                name = self._name(frame)
                if name is not None:
                    names.append(name)
            inner = inner.cr_await
        return names

    def _name(self, frame: FrameType) -> str | None:
        key = frame.f_code, frame.f_lasti
        if key not in _NAME_AT:
            code = frame.f_code
            _NAME_AT[key] = POINTS.at.get((code.co_filename, code.co_name, frame.f_lineno))
        return _NAME_AT[key]

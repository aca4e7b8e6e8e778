"""An event loop whose time is pretended, and whose every step can be the last.

One loop is one life of the engine. What the world outside has in store (requests under way, the
market, answers) stands in the `Agenda`, which outlives the loop. Nothing here can reach a thread,
a socket or the real clock: whoever tries gets a `ForbiddenError`.
"""

import asyncio
import contextlib
import heapq
import math
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn

NS: Final = 1_000_000_000


class Crash(SystemExit):
    """The power is gone: nothing of this life runs any further."""


class ForbiddenError(BaseException):
    """The code under test has reached out of the simulation."""


class StandstillError(Exception):
    """Nothing will ever happen again, and yet somebody waits."""


class Agenda:
    """The world's time, and what is going to happen in it; equal times keep their order."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, time_ns: int, act: Callable[[], None]) -> None:
        """Let something happen at a time, at the earliest now."""
        self._count += 1
        heapq.heappush(self._heap, (max(time_ns, self.now_ns), self._count, act))

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        """Let something happen so many seconds from now."""
        self.at(self.now_ns + int(delay_s * NS), act)

    @property
    def next_ns(self) -> float:
        """When the next thing happens; never is infinite."""
        return self._heap[0][0] if self._heap else math.inf

    def step(self) -> None:
        """Let the next thing happen now."""
        time_ns, _, act = heapq.heappop(self._heap)
        self.now_ns = max(self.now_ns, time_ns)
        act()

    def run_until(self, time_ns: int) -> None:
        """Let time pass with no engine alive."""
        while self.next_ns <= time_ns:
            self.step()
        self.now_ns = max(self.now_ns, time_ns)


class Watch:
    """Who wants to know of each step of each task; it may raise Crash."""

    def resumes(self, task: Coroutine[Any, Any, Any]) -> None:
        """A task is about to go on from where it waits."""

    def suspended(self, task: Coroutine[Any, Any, Any]) -> None:
        """A task has begun to wait."""


class _Stepped(Coroutine[Any, Any, Any]):
    """A coroutine that tells of its steps."""

    __slots__ = ("_inner", "_watch")

    def __init__(self, inner: Coroutine[Any, Any, Any], watch: Watch) -> None:
        self._inner = inner
        self._watch = watch

    def send(self, value: Any) -> Any:
        self._watch.resumes(self._inner)
        result = self._inner.send(value)
        self._watch.suspended(self._inner)
        return result

    def throw(self, *error: Any) -> Any:
        self._watch.resumes(self._inner)
        result = self._inner.throw(*error)
        self._watch.suspended(self._inner)
        return result

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> NoReturn:
        raise NotImplementedError


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs one life on the agenda's time; callbacks keep the order that asyncio promises."""

    def __init__(self, agenda: Agenda, watch: Watch) -> None:
        super().__init__()
        self._agenda = agenda
        self._watch = watch
        self._selector = self
        self._all: list[tuple[asyncio.Task[Any], Coroutine[Any, Any, Any]]] = []
        self.complaints: list[str] = []
        self.set_debug(False)
        self.set_exception_handler(self._complain)
        self.set_task_factory(self._new_task)

    def time(self) -> float:
        return self._agenda.now_ns / NS

    def select(self, timeout: float | None) -> tuple[()]:
        """Wait as a selector would: let the world go on, up to the loop's own next timer."""
        agenda = self._agenda
        if timeout is None:
            if agenda.next_ns == math.inf:
                raise StandstillError
            limit_ns = agenda.next_ns
        else:
            limit_ns = agenda.now_ns + math.ceil(timeout * NS)
        if agenda.next_ns <= limit_ns:
            agenda.step()
        else:
            agenda.now_ns = int(limit_ns)
        return ()

    def kill(self) -> None:
        """End this life: whatever waits is dropped, in the order in which it began."""
        for task, coroutine in self._all:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            # The dead may stumble over what they hold; nobody hears it.
            with contextlib.suppress(BaseException):
                coroutine.close()
        self._all.clear()
        self._ready.clear()  # type: ignore[attr-defined]
        self._scheduled.clear()  # type: ignore[attr-defined]
        self.close()

    def _new_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **kwargs: Any
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(_Stepped(coroutine, self._watch), loop=loop, **kwargs)
        self._all.append((task, coroutine))
        if len(self._all) > 500:
            self._all = [each for each in self._all if not each[0].done()]
        return task

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    def _process_events(self, event_list: object) -> None:
        del event_list

    def _asyncgen_finalizer_hook(self, agen: object) -> None:
        del agen  # It dies with its life.

    def _write_to_self(self) -> None:
        raise ForbiddenError("a callback from another thread")

    def run_in_executor(self, *_: object) -> NoReturn:
        raise ForbiddenError("a thread")

    def call_soon_threadsafe(self, *_: object, **__: object) -> NoReturn:
        raise ForbiddenError("a thread")


class VirtualTime:
    """Stands in for the module `time` where the engine asks for the monotonic clock."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda

    def monotonic(self) -> float:
        # A machine that has been up for a while: no clock starts at zero.
        return self._agenda.now_ns / NS + 1_000.0

    def __getattr__(self, name: str) -> NoReturn:
        raise ForbiddenError(f"time.{name}")


class VirtualClock:
    """The engine's `Clock`: this machine's idea of the time, which may be wrong and may jump."""

    def __init__(self, agenda: Agenda, start_ns: int) -> None:
        self._agenda = agenda
        self.start_ns = start_ns

    def time_ns(self) -> int:
        return self.start_ns + self._agenda.now_ns

    def monotonic_ns(self) -> int:
        return self._agenda.now_ns + 1_000 * NS

"""How a sweep's runs are spread over the cores: threads for compiled code, processes for Python.

Both take the places of the runs to make and yield rows as they come, in any order; who closes the
iterator stops the workers, what they were at is thrown away.
"""

import contextlib
import importlib
import importlib.util
import inspect
import multiprocessing
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final

from bagbot.domain.errors import StrategyError
from bagbot.trading.strategy import Strategy

Row = tuple[float, ...]
Found = list[tuple[int, Row]]
Run = Callable[[int], Row]

_HAND_OVER_S: Final = 0.05
_WAITING_MAX: Final = 64
# A worker has the next run before it has answered the last, so that it never waits for us.
_AHEAD: Final = 2


def by_threads(
    places: Iterable[int], make_run: Callable[[], Run], threads: int
) -> Generator[Found, None, None]:
    """Yield the rows of all `places`, made by `threads` threads, each with a run of its own.

    Raises what a run raises; the others then end, too.
    """
    todo = iter(places)
    lock = threading.Lock()
    is_stopped = threading.Event()
    found: queue.Queue[Found | BaseException | None] = queue.Queue(_WAITING_MAX)

    def work() -> None:
        last: BaseException | None = None
        try:
            _work(make_run(), todo, lock, is_stopped, found)
        except BaseException as error:  # noqa: BLE001 - handed to who reads, who raises it
            last = error
        found.put(last)

    workers = [
        threading.Thread(target=work, name=f"sweep-{n}", daemon=True) for n in range(threads)
    ]
    for worker in workers:
        worker.start()
    try:
        running = threads
        while running:
            rows = found.get()
            if isinstance(rows, BaseException):
                raise rows
            if rows is None:
                running -= 1
            else:
                yield rows
    finally:
        is_stopped.set()
        while any(worker.is_alive() for worker in workers):
            with contextlib.suppress(queue.Empty):
                found.get(timeout=0.01)


def _work(
    run: Run,
    todo: Iterator[int],
    lock: threading.Lock,
    is_stopped: threading.Event,
    found: "queue.Queue[Found | BaseException | None]",
) -> None:
    rows: Found = []
    since_s = time.monotonic()
    try:
        while not is_stopped.is_set():
            with lock:
                place = next(todo, -1)
            if place < 0:
                break
            rows.append((place, run(place)))
            if time.monotonic() - since_s > _HAND_OVER_S:
                found.put(rows)
                rows, since_s = [], time.monotonic()
    finally:
        # Also what was done before an error: it is true, and was paid for.
        if rows:
            found.put(rows)


@dataclass(frozen=True, slots=True)
class StrategySource:
    """Where another process finds a strategy's class."""

    module: str
    name: str
    file: str | None

    @classmethod
    def of(cls, strategy: type[Strategy]) -> "StrategySource | None":
        """Return where the class is; None when it can't be had from another process.

        That is so for one that was typed into a prompt, or made inside a function.
        """
        name = strategy.__qualname__
        if "<locals>" in name:
            return None
        with contextlib.suppress(TypeError, OSError):
            file = inspect.getsourcefile(strategy)
            if file is not None and not file.startswith("<"):
                return cls(strategy.__module__, name, file)
        return None

    def load(self) -> type[Strategy]:
        """Return the class.

        Raises StrategyError when it is not there.
        """
        name = "__mp_main__" if self.module == "__main__" else self.module
        try:
            found: object = sys.modules.get(name) or importlib.import_module(name)
        except ImportError as error:
            found = self._loaded_by_file(name, error)
        for part in self.name.split("."):
            found = getattr(found, part, None)
        if isinstance(found, type) and issubclass(found, Strategy):
            return found
        raise StrategyError(f"{self.name} is not found in {self.file} by another process")

    def _loaded_by_file(self, name: str, error: ImportError) -> object:
        spec = importlib.util.spec_from_file_location(name, str(self.file))
        if spec is None or spec.loader is None:
            raise StrategyError(f"{self.file} cannot be loaded by another process") from error
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module


@dataclass(slots=True)
class _Worker:
    process: BaseProcess
    channel: Connection
    waiting: int = 0


def by_processes(
    places: Iterable[int], make_run: Callable[[], Run], processes: int
) -> Generator[Found, None, None]:
    """Yield the rows of all `places`, made by processes, each with a run that it makes itself.

    `make_run` must be picklable. Raises what a run raises, and StrategyError when a process ends
    by itself.
    """
    todo = iter(places)
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, _Worker] = {}
    try:
        for _ in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(make_run, theirs), daemon=True)
            with _deaf():
                process.start()
            theirs.close()
            workers[ours] = _Worker(process, ours)
            _give(workers[ours], todo)
        while any(worker.waiting for worker in workers.values()):
            for channel in wait([each for each in workers if workers[each].waiting]):
                assert isinstance(channel, Connection)
                yield [_answer(workers[channel])]
                _give(workers[channel], todo)
    finally:
        for worker in workers.values():
            worker.process.terminate()
            worker.process.join()
            worker.channel.close()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Let a process that starts now be deaf to Ctrl-C, which reaches all of a terminal.

    It ends when the one that asks it says so. Only the main thread can arrange that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _give(worker: _Worker, todo: Iterator[int]) -> None:
    while worker.waiting < _AHEAD:
        place = next(todo, -1)
        if place < 0:
            return
        worker.channel.send(place)
        worker.waiting += 1


def _answer(worker: _Worker) -> tuple[int, Row]:
    try:
        answer = worker.channel.recv()
    except (EOFError, ConnectionResetError) as error:
        worker.process.join()
        raise StrategyError(
            f"a process of the sweep ended by itself (exit code {worker.process.exitcode}). A "
            f'script that sweeps needs `if __name__ == "__main__":` around it'
        ) from error
    if isinstance(answer, BaseException):
        raise answer
    worker.waiting -= 1
    place, row = answer
    return place, row


def _serve(make_run: Callable[[], Run], channel: Connection) -> None:
    """Answer every place with its row, until nobody asks any more."""
    with contextlib.suppress(EOFError, BrokenPipeError):
        try:
            run = make_run()
            while True:
                place = channel.recv()
                channel.send((place, run(place)))
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:  # noqa: BLE001 - handed to who reads, who raises it
            channel.send(_sendable(error))


def _sendable(error: Exception) -> Exception:
    """Return the error, as text when its kind can't be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an error's own pickling can raise whatever it likes
        return StrategyError(f"{type(error).__name__}: {error}")
    return error

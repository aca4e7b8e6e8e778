"""The event loop that everything runs in."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine


def run_loop(work: Coroutine[None, None, None]) -> None:
    """Run until done; Ctrl-C before the work has its own handler ends it quietly, too."""
    loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        import uvloop

        loop_factory = uvloop.new_event_loop
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(work)
    except KeyboardInterrupt:
        sys.exit(130)

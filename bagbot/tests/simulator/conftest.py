from contextlib import AsyncExitStack

import pytest

from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.acceptance import HAS_PASSED, IS_WHOLE, note
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient


def pytest_deselected(items):
    for item in items:
        item.config.stash[IS_WHOLE] = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" or report.failed:
        item.stash[HAS_PASSED] = report.passed
    return report


@pytest.fixture
async def start_simulator(request):
    """Start simulators of one's own settings. What a peer did there counts if its test passes."""
    peer = getattr(request.module, "PEER", None)
    servers = []
    async with AsyncExitStack() as running:

        async def start(*, clock=None, **settings):
            if "accounts" not in settings:
                settings = {"api_key": KEY, "api_secret": SECRET} | settings
            clocks = {} if clock is None else {"clock": clock}
            server = SimulatorServer(SimulatorSettings(**settings), **clocks)
            servers.append(await running.enter_async_context(server))
            return server

        yield start
        if peer is not None and request.node.stash.get(HAS_PASSED, False):
            for server in servers:
                note(request.config, peer, server)


@pytest.fixture
async def simulator(start_simulator):
    return await start_simulator()


@pytest.fixture
async def client(simulator):
    async with SigningClient(simulator.url) as signing:
        yield signing

"""Fixtures that several test modules share."""

from collections.abc import AsyncIterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from bagbot.simulator.server import SimulatorServer, SimulatorSettings

API_KEY = "testKeyOfTheSimulator" + "0" * 43
API_SECRET = "testSecretOfTheSimulator" + "0" * 40
SEED = 7


class FilesTogether(LoadScopeScheduling):
    """Gives each worker whole files, and one of them all tests of third-party clients.

    The last of these compares the table of what is served with what all of them have checked.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "clients" if file.endswith(("_peer.py", "test_served.py")) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FilesTogether:
    """Say how the tests are spread over the workers."""
    return FilesTogether(config, log)


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorServer]:
    """A Binance of our own on a free port; its market is the same for the same seed."""
    print(f"simulator seed {SEED}")  # noqa: T201 - pytest shows it when a test fails.
    settings = SimulatorSettings(api_key=API_KEY, api_secret=API_SECRET, seed=SEED)
    async with SimulatorServer(settings) as server:
        yield server

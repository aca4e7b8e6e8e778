"""Fixtures that several test modules share."""

from collections.abc import AsyncIterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from bagbot.simulator.server import SimulatorServer, SimulatorSettings

API_KEY = "testKeyOfTheSimulator" + "0" * 43
API_SECRET = "testSecretOfTheSimulator" + "0" * 40
SEED = 7
# The longest first.
LONG = (
    "test_run.py",
    "test_chaos.py",
    "test_reconciliation.py",
    "test_docs.py",
    "test_trade_killed.py",
    "test_killed_at_random.py",
    "test_backtest_equals_simulator.py",
    "test_bar_venue_equals_rules.py",
    "test_journal_on_a_failing_disk.py",
    "test_token_mode.py",
    "test_journal_commands.py",
    "test_page_in_a_browser.py",
)


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
    # It would sort the files by their number of tests, and the longest have but one.
    config.option.loadscopereorder = False
    return FilesTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, so that no worker is alone with one at the end."""
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorServer]:
    """A Binance of our own on a free port; its market is the same for the same seed."""
    print(f"simulator seed {SEED}")  # noqa: T201 - pytest shows it when a test fails.
    settings = SimulatorSettings(api_key=API_KEY, api_secret=API_SECRET, seed=SEED)
    async with SimulatorServer(settings) as server:
        yield server

"""Fixtures that several test modules share."""

from collections.abc import AsyncIterator

import pytest

from bagbot.simulator.server import SimulatorServer, SimulatorSettings

API_KEY = "testKeyOfTheSimulator" + "0" * 43
API_SECRET = "testSecretOfTheSimulator" + "0" * 40
SEED = 7


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorServer]:
    """A Binance of our own on a free port; its market is the same for the same seed."""
    print(f"simulator seed {SEED}")  # noqa: T201 - pytest shows it when a test fails.
    settings = SimulatorSettings(api_key=API_KEY, api_secret=API_SECRET, seed=SEED)
    async with SimulatorServer(settings) as server:
        yield server

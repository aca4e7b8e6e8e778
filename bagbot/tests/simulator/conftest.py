import pytest

from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient


@pytest.fixture
async def simulator():
    async with SimulatorServer(SimulatorSettings(api_key=KEY, api_secret=SECRET)) as server:
        yield server


@pytest.fixture
async def client(simulator):
    async with SigningClient(simulator.url) as signing:
        yield signing

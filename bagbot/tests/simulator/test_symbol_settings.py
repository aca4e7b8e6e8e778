"""Which symbols an exchange serves: some of the usual ones, or new ones of one's own."""

from decimal import Decimal

import pytest

from bagbot.domain.errors import ConfigError
from bagbot.simulator.amounts import ONE
from bagbot.simulator.market import PROFILES
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.simulator.symbol_settings import SymbolSettings, symbols_from
from bagbot.simulator.symbols import DEFAULT_SYMBOLS, KNOWN_SYMBOLS
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient, receive

SOL = SymbolSettings(
    base="SOL",
    quote="USDT",
    tick=Decimal("0.01"),
    lot=Decimal("0.001"),
    start_price=Decimal(150),
    level_quantity=Decimal(20),
)


def settings_of(*symbols, **others):
    return SimulatorSettings(api_key=KEY, api_secret=SECRET, symbols=symbols, **others)


async def test_a_new_symbol_is_traded_like_the_others():
    async with (
        SimulatorServer(settings_of("BTCUSDT", SOL)) as server,
        SigningClient(server.url) as client,
    ):
        info = (await client.public("/api/v3/exchangeInfo")).body
        assert [row["symbol"] for row in info["symbols"]] == ["BTCUSDT", "SOLUSDT"]
        assert info["symbols"][1]["filters"][0]["tickSize"] == "0.01000000"
        bought = (await client.place(symbol="SOLUSDT", quantity="2.5")).body
        assert bought["status"] == "FILLED"
        assert 140 < Decimal(bought["fills"][0]["price"]) < 160
        account = (await client.signed("GET", "/api/v3/account", omitZeroBalances="true")).body
        held = {row["asset"]: row["free"] for row in account["balances"]}
        assert held["SOL"] == "2.49750000"
        unknown = await client.public("/api/v3/depth", symbol="ETHUSDT")
        assert unknown.body["code"] == -1121
        async with client.socket("/ws/solusdt@trade") as socket:
            assert (await receive(socket))["s"] == "SOLUSDT"


async def test_symbols_may_be_added_to_a_store_but_not_taken_from_open_orders(tmp_path):
    limit = {"type": "LIMIT", "timeInForce": "GTC", "quantity": "1", "price": "100"}
    async with SimulatorServer(settings_of("BTCUSDT", store=tmp_path)):
        pass
    async with (
        SimulatorServer(settings_of("BTCUSDT", SOL, store=tmp_path)) as server,
        SigningClient(server.url) as client,
    ):
        placed = await client.place(symbol="SOLUSDT", **limit)
        assert placed.body["status"] == "NEW"
    with pytest.raises(ConfigError, match="open order of SOLUSDT"):
        await SimulatorServer(settings_of("BTCUSDT", store=tmp_path)).start()
    async with (
        SimulatorServer(settings_of("BTCUSDT", SOL, store=tmp_path)) as server,
        SigningClient(server.url) as client,
    ):
        cancelled = await client.signed("DELETE", "/api/v3/openOrders", symbol="SOLUSDT")
        assert cancelled.status == 200
    async with SimulatorServer(settings_of("BTCUSDT", store=tmp_path)):
        pass


FILE = """
symbols = ["ETHUSDT"]
[[symbol]]
base = "SOL"
quote = "USDT"
tick = "0.01"
lot = "0.001"
start_price = 150
level_quantity = 20
[[account]]
name = "read by somebody else"
"""


def test_symbols_are_read_from_a_file(tmp_path):
    path = tmp_path / "exchange.toml"
    path.write_text(FILE)
    assert symbols_from(path) == ["ETHUSDT", SOL]
    path.write_text("")
    assert symbols_from(path) == list(DEFAULT_SYMBOLS)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('["ETHUSDT"]', '["XYZ"]', "symbol 'XYZ' is not one of BTCUSDT"),
        ('["ETHUSDT"]', "3", "symbols must be a list of names"),
        ('["ETHUSDT"]', '["ETHUSDT", "ETHUSDT"]', "symbol 'ETHUSDT' is there twice"),
        ('base = "SOL"', 'base = "BTC"\nsize = 1', "unknown field size"),
        ('base = "SOL"', 'base = "sol"', "capital letters"),
        ('base = "SOL"', 'base = "USDT"', "the same asset"),
        ('tick = "0.01"', "tick = 0.01", "write the amount as text"),
        ('tick = "0.01"', "", "a symbol: tick"),
        ('tick = "0.01"', 'tick = "0"', "tick must be above zero"),
        ('tick = "0.01"', 'tick = "0.000000001"', "more than 8 decimals"),
        ('tick = "0.01"', 'tick = "1"', "start_price must be at least 1000 whole ticks"),
        ('lot = "0.001"', 'lot = "0.003"', "level_quantity must be whole lots"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, old, new, complaint):
    path = tmp_path / "exchange.toml"
    path.write_text(FILE.replace(old, new))
    with pytest.raises(ConfigError, match=complaint) as caught:
        symbols_from(path)
    assert str(path) in str(caught.value)


def test_known_symbols_are_served_by_name_with_the_filters_they_have(tmp_path):
    path = tmp_path / "exchange.toml"
    path.write_text('symbols = ["XRPETH", "DOGEUSDT"]')
    assert symbols_from(path) == ["XRPETH", "DOGEUSDT"]
    for name, rules in KNOWN_SYMBOLS.items():
        assert name == rules.symbol == rules.base + rules.quote
        profile = PROFILES[name]
        assert rules.price_max > profile.start_price > 200 * rules.tick
        assert profile.level_quantity % rules.lot == 0
        assert rules.quantity_max >= rules.market_quantity_max >= profile.level_quantity
        cost = profile.level_quantity * profile.start_price // ONE
        assert rules.notional_max > cost > rules.notional_min


def test_there_is_at_least_one_symbol():
    with pytest.raises(ConfigError, match="at least one symbol"):
        settings_of()

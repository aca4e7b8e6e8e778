"""Several accounts on one exchange: their money, their orders, their events, their limits."""

from decimal import Decimal

import pytest

from bagbot.domain.errors import ConfigError
from bagbot.simulator.accounts import AccountSettings, KeySettings, accounts_from
from bagbot.simulator.rate_limits import LimitSettings
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient, balances_of

LIMIT = {"type": "LIMIT", "timeInForce": "GTC"}


def account(name, **balances):
    key = KeySettings(api_key=f"{name}key", api_secret=f"{name}secret")
    amounts = {asset: Decimal(amount) for asset, amount in balances.items()}
    return AccountSettings(name=name, keys=[key], balances=amounts)


ALICE, BOB = account("alice", BTC=5, USDT=1_000_000), account("bob", BTC="0.5", USDT=300_000)


def settings_of(*accounts, **others):
    return SimulatorSettings(accounts=accounts, speed=0.0001, **others)


def client_of(server, name):
    return SigningClient(server.url, f"{name}key", f"{name}secret")


@pytest.fixture
async def exchange():
    async with SimulatorServer(settings_of(ALICE, BOB)) as server:
        yield server


@pytest.fixture
async def alice(exchange):
    async with client_of(exchange, "alice") as client:
        yield client


@pytest.fixture
async def bob(exchange):
    async with client_of(exchange, "bob") as client:
        yield client


async def inside_the_spread(client):
    """Return a price better than the market's own bid: whoever takes meets it first."""
    top = (await client.public("/api/v3/ticker/bookTicker", symbol="BTCUSDT")).body
    return Decimal(top["askPrice"]) - Decimal("0.01")


async def funds(client):
    return balances_of((await client.signed("GET", "/api/v3/account")).body)


async def test_accounts_trade_with_each_other_through_the_book(alice, bob):
    price = await inside_the_spread(alice)
    bid = await alice.place(**LIMIT, side="BUY", quantity="0.2", price=str(price))
    assert bid.body["status"] == "NEW"
    ask = await bob.place(**LIMIT, side="SELL", quantity="0.2", price=str(price))
    assert ask.body["status"] == "FILLED"
    (bought,) = (await alice.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT")).body
    (sold,) = (await bob.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT")).body
    assert bought["id"] == sold["id"]
    assert (bought["isBuyer"], bought["isMaker"]) == (True, True)
    assert (sold["isBuyer"], sold["isMaker"]) == (False, False)
    cost = price * Decimal("0.2")
    assert await funds(alice) == {
        "BTC": (Decimal("5.1998"), 0),
        "USDT": (1_000_000 - cost, 0),
    } | {asset: (0, 0) for asset in ("ETH", "BNB")}
    assert (await funds(bob))["BTC"] == (Decimal("0.3"), 0)
    assert (await funds(bob))["USDT"] == (300_000 + cost * Decimal("0.999"), 0)


async def test_nobody_sees_or_touches_the_orders_of_others(alice, bob):
    mine = (
        await alice.place(
            **LIMIT, side="BUY", quantity="0.1", price="50000", newClientOrderId="same"
        )
    ).body
    # The same client id is free for somebody else.
    theirs = await bob.place(
        **LIMIT, side="BUY", quantity="0.1", price="50000", newClientOrderId="same"
    )
    assert theirs.status == 200
    reference = {"symbol": "BTCUSDT", "orderId": mine["orderId"]}
    assert (await bob.signed("GET", "/api/v3/order", **reference)).body["code"] == -2013
    assert (await bob.signed("DELETE", "/api/v3/order", **reference)).body["code"] == -2011
    by_name = {"symbol": "BTCUSDT", "origClientOrderId": "same"}
    found = await bob.signed("GET", "/api/v3/order", **by_name)
    assert found.body["orderId"] == theirs.body["orderId"]
    assert len((await bob.signed("GET", "/api/v3/openOrders")).body) == 1
    assert (await bob.signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")).status == 200
    assert (await alice.signed("GET", "/api/v3/order", **reference)).body["status"] == "NEW"
    assert len((await alice.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT")).body) == 1


async def test_each_account_hears_its_own_events_only(alice, bob):
    subscribe = "userDataStream.subscribe.signature"
    price = await inside_the_spread(alice)
    async with (
        alice.socket("/ws-api/v3") as of_alice,
        bob.socket("/ws-api/v3") as of_bob,
        alice.socket("/ws-api/v3") as of_both,
    ):
        await alice.call(of_alice, subscribe, **alice.socket_parameters())
        await bob.call(of_bob, subscribe, **bob.socket_parameters())
        for client in (alice, bob):
            await client.call(of_both, subscribe, **client.socket_parameters())
        await alice.place(
            **LIMIT, side="BUY", quantity="0.2", price=str(price), newClientOrderId="a"
        )
        await bob.place(
            **LIMIT, side="SELL", quantity="0.2", price=str(price), newClientOrderId="b"
        )
        _, for_alice = await alice.call(of_alice, "ping")
        _, for_bob = await bob.call(of_bob, "ping")
        _, for_both = await alice.call(of_both, "ping")

    def ids(events):
        return [each["event"]["c"] for each in events if each["event"]["e"] == "executionReport"]

    assert ids(for_alice) == ["a", "a"]
    assert ids(for_bob) == ["b", "b"]
    assert sorted(ids(for_both)) == ["a", "a", "b", "b"]
    assert {each["subscriptionId"] for each in for_both} == {0, 1}


async def test_orders_count_against_the_account_that_places_them():
    limits = LimitSettings(orders_per_day=2)
    async with (
        SimulatorServer(settings_of(ALICE, BOB, limits=limits)) as server,
        client_of(server, "alice") as alice,
        client_of(server, "bob") as bob,
    ):
        bid = LIMIT | {"side": "BUY", "quantity": "0.1", "price": "50000"}
        replies = [await alice.place(**bid) for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert replies[1].headers["X-MBX-ORDER-COUNT-1D"] == "2"
        assert (await bob.place(**bid)).headers["X-MBX-ORDER-COUNT-1D"] == "1"
        usage = (await bob.signed("GET", "/api/v3/rateLimit/order")).body
        assert [row["count"] for row in usage][1] == 1


async def test_admin_answers_for_the_first_account_or_the_one_named(alice, bob):
    await bob.place(**LIMIT, side="BUY", quantity="0.1", price="50000", newClientOrderId="b")
    assert (await alice.admin("GET", "accounts")).body == {"alice": 1, "bob": 2}
    assert (await alice.admin("GET", "orders")).body == []
    (order,) = (await alice.admin("GET", "orders?account=bob")).body
    assert order["client_order_id"] == "b"
    assert (await alice.admin("GET", "balances")).body["BTC"]["free"] == "5.00000000"
    held = (await alice.admin("GET", "balances?account=bob")).body
    assert (held["BTC"]["free"], held["USDT"]["locked"]) == ("0.50000000", "5000.00000000")
    assert (await alice.admin("GET", "trades?account=bob")).body == []
    assert (await alice.admin("GET", "orders?account=carol")).status == 400


async def test_accounts_are_kept_by_name_over_a_restart(tmp_path):
    async with (
        SimulatorServer(settings_of(ALICE, BOB, store=tmp_path)) as server,
        client_of(server, "bob") as bob,
    ):
        await bob.place(**LIMIT, side="BUY", quantity="0.1", price="50000", newClientOrderId="b")
        await bob.place(quantity="0.01")
        before = await funds(bob)
    # Another order, one more, and one less that still has its money.
    carol = account("carol", USDT=7)
    async with (
        SimulatorServer(settings_of(carol, BOB, store=tmp_path)) as server,
        client_of(server, "bob") as bob,
        client_of(server, "carol") as new,
    ):
        assert await funds(bob) == before
        (order,) = (await bob.signed("GET", "/api/v3/openOrders")).body
        assert order["clientOrderId"] == "b"
        assert (await funds(new))["USDT"] == (7, 0)
        assert (await bob.admin("GET", "accounts")).body == {"carol": 3, "bob": 2}
        async with client_of(server, "alice") as gone:
            assert (await gone.signed("GET", "/api/v3/account")).body["code"] == -2015


async def test_the_short_form_is_one_account_called_main(tmp_path):
    settings = SimulatorSettings(api_key=KEY, api_secret=SECRET, store=tmp_path)
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        assert (await client.admin("GET", "accounts")).body == {"main": 1}


FILE = """
[[account]]
name = "alice"
balances = { USDT = "1000.5", BTC = 2 }
[[account.key]]
api_key = "one"
api_secret = "secret"
[[account.key]]
api_key = "two"
public_key = \"\"\"
-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAA6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=
-----END PUBLIC KEY-----
\"\"\"

[[account]]
name = "bob"
[[account.key]]
api_key = "three"
api_secret = "other"
"""


def test_accounts_are_read_from_a_file(tmp_path):
    path = tmp_path / "accounts.toml"
    path.write_text(FILE)
    alice, bob = accounts_from(path)
    assert alice.balances == {"USDT": Decimal("1000.5"), "BTC": Decimal(2)}
    assert [key.api_key for key in alice.keys] == ["one", "two"]
    assert alice.keys[0].api_secret == "secret"
    assert "secret" not in repr(alice)
    assert bob.balances["USDT"] == 1_000_000
    assert SimulatorSettings(accounts=[alice, bob]).all_accounts == [alice, bob]


KEYS = '[[account.key]]\napi_key = "k"\napi_secret = "s"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[account]", "not a TOML file"),
        ("", r"the file needs at least one table \[\[...account\]\]"),
        ("account = 3", "needs at least one table"),
        (
            "colour = 1\n[[account]]",
            "the file: unknown field colour; known: account, assume, market, symbol",
        ),
        ("[[account]]\nname = 3", "an account: name must be text"),
        ('[[account]]\nname = "a"', r"account 'a' needs at least one table \[\[...key\]\]"),
        ('[[account]]\nname = "a b"\n' + KEYS, "account name 'a b'"),
        ('[[account]]\nname = "a"\nsize = 1\n' + KEYS, "account 'a': unknown field size"),
        ('[[account]]\nname = "a"\nbalances = 3\n' + KEYS, "balances must be a table"),
        ('[[account]]\nname = "a"\nbalances = {BTC = 0.1}\n' + KEYS, "write the amount as text"),
        ('[[account]]\nname = "a"\nbalances = {BTC = "x"}\n' + KEYS, "'x' is not a number"),
        ('[[account]]\nname = "a"\nbalances = {BTC = "NaN"}\n' + KEYS, "BTC must be zero or more"),
        ('[[account]]\nname = "a"\nbalances = {BTC = -1}\n' + KEYS, "BTC must be zero or more"),
        (
            '[[account]]\nname = "a"\nbalances = {BTC = "0.123456789"}\n' + KEYS,
            "more than 8 decimals",
        ),
        ('[[account]]\nname = "a"\n[[account.key]]\napi_key = "k"', "either an api_secret or"),
        ('[[account]]\nname = "a"\n[[account.key]]\napi_secret = "k"', "api_key is missing"),
        ('[[account]]\nname = "a"\n' + KEYS + 'public_key = "x"', "either an api_secret or"),
        (
            '[[account]]\nname = "a"\n[[account.key]]\napi_key = "k"\npublic_key = "x"',
            "public_key is not a public key in PEM form",
        ),
        ('[[account]]\nname = "a"\n' + KEYS + KEYS, "same api_key: 'k'"),
        (
            '[[account]]\nname = "a"\n' + KEYS + '[[account]]\nname = "a"\n' + KEYS,
            "same name: 'a'",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, text, complaint):
    path = tmp_path / "accounts.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint) as caught:
        accounts_from(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        accounts_from(tmp_path / "nothing.toml")


def test_either_accounts_or_one_key():
    with pytest.raises(ConfigError, match="not both"):
        SimulatorSettings(api_key=KEY, api_secret=SECRET, accounts=[ALICE])
    with pytest.raises(ConfigError):
        SimulatorSettings()

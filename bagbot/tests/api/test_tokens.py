"""Tokens: made by any process, valid at once, kept as hashes only."""

import subprocess
import sys

import pytest

from bagbot.api.tokens import Scope, TokenStore
from bagbot.domain.clock import ManualClock
from bagbot.domain.errors import ConfigError
from bagbot.tests.api.running_api import running_api


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "tokens.jsonl"


@pytest.fixture
def store(path):
    return TokenStore(path, ManualClock(5))


def test_missing_file_holds_no_tokens(store):
    assert store.list() == ()
    assert store.verify("bb_x_y") is None


def test_file_has_the_hash_only_and_is_for_its_owner_only(store, path):
    text = store.create(["trade"])
    token = store.verify(text)
    assert token.scopes == {Scope.TRADE}
    assert token.created_ns == 5
    assert text.split("_", 2)[2] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert token.hash not in repr(token)


def test_token_has_three_parts_and_is_long_enough_to_be_unguessable(store):
    prefix, token_id, secret = store.create(["read"]).split("_", 2)
    assert prefix == "bb"
    assert len(token_id) == 12
    assert len(secret) >= 43


def test_revoked_token_is_gone_in_every_store(store, path):
    first, second = store.create(["read"]), store.create(["read"])
    other = TokenStore(path, ManualClock())
    assert other.verify(first) is not None
    store.revoke(first.split("_")[1])
    assert other.verify(first) is None
    assert [token.id for token in other.list()] == [second.split("_")[1]]
    with pytest.raises(ConfigError, match="no valid token"):
        store.revoke(first.split("_")[1])


def test_file_only_grows(store, path):
    text = store.create(["read"])
    before = path.read_bytes()
    store.revoke(text.split("_")[1])
    store.create(["kill"])
    assert path.read_bytes().startswith(before)
    assert path.read_bytes().count(b"\n") == 3


def test_last_line_without_its_end_is_kept_apart(store, path):
    first = store.create(["read"])
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    second = store.create(["read"])
    assert store.verify(first)
    assert store.verify(second)


def test_file_that_vanishes_takes_its_tokens_along(store, path):
    text = store.create(["read"])
    assert store.verify(text)
    path.unlink()
    assert store.verify(text) is None


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "{}",
        "[]",
        '{"event": "created", "id": "x"}',
        '{"event": "created", "id": "x", "hash": "y", "scopes": ["root"], "created_ns": 1}',
        '{"event": "forgotten", "id": "x"}',
    ],
)
def test_line_that_makes_no_sense_is_named(store, path, line):
    store.create(["read"])
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ConfigError, match=f"line 2 of the token file {path}"):
        store.list()


def test_path_that_is_no_file_is_a_config_error(tmp_path):
    store = TokenStore(tmp_path, ManualClock())
    with pytest.raises(ConfigError, match="cannot be read"):
        store.list()
    blocked = TokenStore(tmp_path / "file" / "tokens", ManualClock())
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be"):
        blocked.create(["read"])


@pytest.mark.parametrize("scopes", [[], ["root"], ["read", "everything"]])
def test_scope_that_there_is_not_makes_no_token(store, path, scopes):
    with pytest.raises(ConfigError, match="read, trade, kill, admin"):
        store.create(scopes)
    assert not path.exists()


async def test_token_of_another_process_is_valid_at_once(tmp_path):
    program = (
        "import sys, pathlib\n"
        "from bagbot.api.tokens import TokenStore\n"
        "from bagbot.domain.clock import ManualClock\n"
        "assert 'fastapi' not in sys.modules\n"
        "print(TokenStore(pathlib.Path(sys.argv[1]), ManualClock(1)).create(['read']))\n"
    )
    async with running_api(tmp_path) as api:
        assert (await api.get("/orders")).status_code == 200
        made = subprocess.run(
            [sys.executable, "-c", program, tmp_path / "tokens.jsonl"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert (await api.get("/orders", token=made.stdout.strip())).status_code == 200

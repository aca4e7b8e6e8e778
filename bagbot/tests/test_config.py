"""Where settings come from, and which source wins."""

from pathlib import Path

import pytest

from bagbot.config import load_settings
from bagbot.domain.errors import ConfigError


@pytest.fixture(autouse=True)
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be somebody with a folder of their own, working elsewhere, who has set nothing yet."""
    folder, elsewhere = tmp_path / "owner", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("BAGBOT_HOME", raising=False)
    monkeypatch.chdir(elsewhere)
    return folder


def toml(home: Path, port: int) -> None:
    home.mkdir(parents=True, exist_ok=True)
    (home / "bagbot.toml").write_text(f"[api]\nport = {port}\n")


def test_the_home_is_a_folder_of_the_owners_unless_it_is_set(owner: Path) -> None:
    toml(owner / ".bagbot", 9001)
    assert load_settings().home == owner / ".bagbot"
    assert load_settings().api.port == 9001


def test_a_home_named_in_dotenv_is_the_one_whose_toml_is_read(owner: Path) -> None:
    toml(owner / "mine", 9002)
    Path(".env").write_text("BAGBOT_HOME=~/mine\n")
    assert load_settings().home == owner / "mine"
    assert load_settings().api.port == 9002


def test_the_environment_wins_over_dotenv_and_dotenv_over_toml(
    owner: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml(owner / "first", 9003)
    toml(owner / "second", 9004)
    Path(".env").write_text("BAGBOT_HOME=~/second\nBAGBOT_API__PORT=9005\n")
    monkeypatch.setenv("BAGBOT_HOME", "~/first")
    assert (load_settings().home, load_settings().api.port) == (owner / "first", 9005)
    monkeypatch.setenv("BAGBOT_API__PORT", "9006")
    assert load_settings().api.port == 9006


def test_a_wrong_value_is_told_with_its_name_wherever_it_stands(owner: Path) -> None:
    (owner / ".bagbot").mkdir()
    (owner / ".bagbot" / "bagbot.toml").write_text("[api]\nport = 70000\n")
    with pytest.raises(ConfigError, match="BAGBOT_API__PORT"):
        load_settings()
    (owner / ".bagbot" / "bagbot.toml").write_text("[api\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings()

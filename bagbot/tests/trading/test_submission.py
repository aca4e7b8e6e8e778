"""The waits that must not be too short where the exchange is not our own."""

from dataclasses import replace

import pytest

from bagbot.config import load_settings
from bagbot.domain.errors import ConfigError
from bagbot.trading.connectors import BinanceConnector
from bagbot.trading.submission import ExecutorSettings, require_safe

DEFAULT = ExecutorSettings()


@pytest.mark.parametrize("is_spot", [True, False])
def test_the_defaults_are_safe_everywhere(*, is_spot: bool) -> None:
    require_safe(DEFAULT, is_spot=is_spot)


@pytest.mark.parametrize(
    ("settings", "is_spot", "words"),
    [
        (replace(DEFAULT, fence_margin_ms=59_999), True, "FENCE_MARGIN_S is 59.999"),
        (replace(DEFAULT, fence_margin_ms=9_999), False, "at least 10 on futures"),
        (replace(DEFAULT, probe_interval_s=1.9), True, "PROBE_INTERVAL_S is 1.9"),
        (replace(DEFAULT, audit_interval_s=4.9), True, "AUDIT_INTERVAL_S is 4.9"),
        (replace(DEFAULT, audit_interval_s=301), False, "between 5 and 300"),
    ],
)
def test_a_wait_below_its_floor_is_refused_by_name(
    settings: ExecutorSettings, words: str, *, is_spot: bool
) -> None:
    with pytest.raises(ConfigError, match=words):
        require_safe(settings, is_spot=is_spot)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FENCE_MARGIN_S", "0.5"),
        ("FENCE_MARGIN_S", "nan"),
        ("PROBE_INTERVAL_S", "0"),
        ("AUDIT_INTERVAL_S", "0.1"),
        ("RECV_WINDOW_MS", "499"),
        ("RECV_WINDOW_MS", "5001"),
    ],
)
def test_no_account_takes_a_wait_that_makes_no_sense(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"BAGBOT_EXECUTOR__{name}", value)
    with pytest.raises(ConfigError, match=f"BAGBOT_EXECUTOR__{name}"):
        load_settings()


@pytest.mark.parametrize("window_ms", [0, -1, 5_001, 60_000])
def test_the_time_window_of_an_order_is_short(window_ms: int) -> None:
    with pytest.raises(ConfigError, match="recv_window_ms"):
        BinanceConnector("k", "s", recv_window_ms=window_ms)

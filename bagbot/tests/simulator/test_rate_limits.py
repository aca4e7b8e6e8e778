"""Who does not wait when told to is banned, and everybody's requests are counted."""

import pytest

from bagbot.simulator.binance_errors import BinanceError
from bagbot.simulator.rate_limits import LimitSettings, RateLimits
from bagbot.simulator.server import SimulatorServer, SimulatorSettings
from bagbot.tests.simulator.signing_client import KEY, SECRET, SigningClient

MINUTE_MS = 60_000


def refusal(action, *arguments):
    with pytest.raises(BinanceError) as caught:
        action(*arguments)
    return caught.value


def test_going_on_after_a_refusal_is_a_ban_and_bans_double():
    limits = RateLimits(LimitSettings(weight_per_minute=10, refusals_before_ban=2))
    now_ms = 1_000 * MINUTE_MS
    for ban_ms in (120_000, 240_000, 480_000):
        limits.charge(10, now_ms)
        assert [refusal(limits.charge, 1, now_ms).status for _ in range(3)] == [429, 429, 418]
        until_ms = now_ms + ban_ms
        error = refusal(limits.count_request, until_ms - 1_500)
        assert (error.status, error.code) == (418, -1003)
        assert error.message.startswith(
            f"Way too much request weight used; IP banned until {until_ms}. "
        )
        assert (error.headers["Retry-After"], error.retry_after_ms) == ("2", until_ms)
        limits.count_request(until_ms)
        now_ms = until_ms


def test_a_ban_lasts_three_days_at_most():
    limits = RateLimits(LimitSettings(weight_per_minute=0, refusals_before_ban=0))
    now_ms = 0
    for _ in range(20):
        error = refusal(limits.charge, 1, now_ms)
        length_ms, now_ms = error.retry_after_ms - now_ms, error.retry_after_ms
    assert length_ms == 3 * 24 * 60 * MINUTE_MS


def test_waiting_after_a_refusal_is_never_a_ban():
    limits = RateLimits(LimitSettings(weight_per_minute=10, refusals_before_ban=2))
    for minute in range(100):
        limits.charge(10, minute * MINUTE_MS)
        assert refusal(limits.charge, 1, minute * MINUTE_MS).status == 429


def test_requests_are_counted_whatever_they_weigh():
    limits = RateLimits(LimitSettings(raw_requests_per_5_minutes=3))
    for _ in range(3):
        limits.count_request(0)
    error = refusal(limits.count_request, 60_000)
    assert (error.status, error.code, error.headers["Retry-After"]) == (429, -1003, "240")
    assert "current limit is 3 raw requests per 5 MINUTE" in error.message
    limits.count_request(300_000)


async def test_a_ban_answers_everything_on_both_interfaces():
    limits = LimitSettings(raw_requests_per_5_minutes=3, refusals_before_ban=1)
    settings = SimulatorSettings(api_key=KEY, api_secret=SECRET, limits=limits)
    async with SimulatorServer(settings) as server, SigningClient(server.url) as client:
        info = (await client.public("/api/v3/exchangeInfo")).body
        assert info["rateLimits"][-1] == {
            "rateLimitType": "RAW_REQUESTS",
            "interval": "MINUTE",
            "intervalNum": 5,
            "limit": 3,
        }
        replies = [await client.public("/api/v3/ping") for _ in range(20)]
        # Five minutes may turn over in between, so the ban comes some requests later.
        banned = next(reply for reply in replies if reply.status == 418)
        assert banned.body["code"] == -1003
        assert 100 <= int(banned.headers["Retry-After"]) <= 120
        assert (await client.public("/api/v3/nothing")).status == 418
        async with client.socket("/ws-api/v3") as socket:
            reply, _ = await client.call(socket, "ping")
        assert reply["status"] == 418
        data = reply["error"]["data"]
        assert 100_000 <= data["retryAfter"] - data["serverTime"] <= 120_000

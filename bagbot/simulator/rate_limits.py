"""Binance's request limits: windows aligned to the clock, weight per address, orders per account.

An order counts when it is accepted, and no longer once it has traded for the first time. Whoever
goes on after having been told to wait is banned, for longer each time.
"""

from dataclasses import dataclass

from bagbot.simulator.binance_errors import (
    banned,
    too_many_orders,
    too_many_requests,
    too_much_weight,
)

_MINUTE_MS = 60_000
_FIVE_MINUTES_MS = 5 * _MINUTE_MS
_BAN_MS_MAX = 3 * 24 * 60 * _MINUTE_MS
_TEN_SECONDS_MS = 10_000
_DAY_MS = 24 * 60 * 60 * 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """How much is allowed. The order limits are far above Binance's, for load on one machine.

    After `refusals_before_ban` refusals in one minute the next one is a ban of `ban_ms`, which
    doubles each time.
    """

    weight_per_minute: int = 6_000
    raw_requests_per_5_minutes: int = 300_000
    refusals_before_ban: int = 10
    ban_ms: int = 2 * _MINUTE_MS
    orders_per_10_seconds: int = 100_000
    orders_per_day: int = 20_000_000


@dataclass(slots=True)
class _Window:
    length_ms: int
    limit: int
    number: int = -1
    used: int = 0

    def used_at(self, now_ms: int) -> int:
        number = now_ms // self.length_ms
        if number != self.number:
            self.number = number
            self.used = 0
        return self.used

    def ends_at(self, now_ms: int) -> int:
        return (now_ms // self.length_ms + 1) * self.length_ms


class RateLimits:
    """What has been used of each limit: weight by the one machine, orders by each account."""

    def __init__(self, settings: LimitSettings) -> None:
        self.settings = settings
        self._weight = _Window(_MINUTE_MS, settings.weight_per_minute)
        self._requests = _Window(_FIVE_MINUTES_MS, settings.raw_requests_per_5_minutes)
        self._refusals = _Window(_MINUTE_MS, settings.refusals_before_ban)
        self._banned_until_ms = 0
        self._next_ban_ms = settings.ban_ms
        self._orders: dict[int, dict[str, _Window]] = {}

    def count_request(self, now_ms: int) -> None:
        """Count a request of any kind; raises BinanceError when there were too many, or a ban."""
        if now_ms < self._banned_until_ms:
            raise banned(now_ms=now_ms, until_ms=self._banned_until_ms)
        self._requests.used_at(now_ms)
        self._requests.used += 1
        if self._requests.used > self._requests.limit:
            self._ban_if_stubborn(now_ms)
            raise too_many_requests(
                self._requests.limit, now_ms=now_ms, until_ms=self._requests.ends_at(now_ms)
            )

    def charge(self, weight: int, now_ms: int) -> None:
        """Count `weight`; raises BinanceError when the limit is passed."""
        if self._weight.used_at(now_ms) + weight > self._weight.limit:
            self._ban_if_stubborn(now_ms)
            raise too_much_weight(
                self._weight.limit, now_ms=now_ms, until_ms=self._weight.ends_at(now_ms)
            )
        self._weight.used += weight

    def _ban_if_stubborn(self, now_ms: int) -> None:
        """Count a refusal, and raise BinanceError if there were too many in this minute."""
        self._refusals.used_at(now_ms)
        self._refusals.used += 1
        if self._refusals.used > self._refusals.limit:
            self._banned_until_ms = now_ms + self._next_ban_ms
            self._next_ban_ms = min(2 * self._next_ban_ms, _BAN_MS_MAX)
            self._refusals.used = 0
            raise banned(now_ms=now_ms, until_ms=self._banned_until_ms)

    def refund(self, weight: int, now_ms: int) -> None:
        """Take back what turned out to be free."""
        self._weight.used = max(self._weight.used_at(now_ms) - weight, 0)

    def check_orders(self, account_id: int, now_ms: int, order_count: int) -> None:
        """Raise BinanceError when so many more orders would be too many."""
        for name, window in self._order_windows(account_id).items():
            if window.used_at(now_ms) + order_count > window.limit:
                raise too_many_orders(
                    window.limit, name, now_ms=now_ms, until_ms=window.ends_at(now_ms)
                )

    def order_accepted(self, account_id: int, now_ms: int) -> None:
        """Count an accepted order."""
        for window in self._order_windows(account_id).values():
            window.used_at(now_ms)
            window.used += 1

    def order_traded(self, account_id: int, now_ms: int) -> None:
        """Take back the count of an order that has traded for the first time."""
        for window in self._order_windows(account_id).values():
            window.used = max(window.used_at(now_ms) - 1, 0)

    def headers(self, now_ms: int, orders_of: int | None = None) -> dict[str, str]:
        """Return the usage headers of an answer, with the order counts of an account or without."""
        weight = str(self._weight.used_at(now_ms))
        headers = {"X-MBX-USED-WEIGHT": weight, "X-MBX-USED-WEIGHT-1M": weight}
        if orders_of is not None:
            windows = self._order_windows(orders_of)
            headers["X-MBX-ORDER-COUNT-10S"] = str(windows["10 SECOND"].used_at(now_ms))
            headers["X-MBX-ORDER-COUNT-1D"] = str(windows["1 DAY"].used_at(now_ms))
        return headers

    def description(self) -> list[dict[str, object]]:
        """Return the `rateLimits` of exchangeInfo."""
        settings = self.settings
        return [
            _limit("REQUEST_WEIGHT", "MINUTE", 1, settings.weight_per_minute),
            _limit("ORDERS", "SECOND", 10, settings.orders_per_10_seconds),
            _limit("ORDERS", "DAY", 1, settings.orders_per_day),
            _limit("RAW_REQUESTS", "MINUTE", 5, settings.raw_requests_per_5_minutes),
        ]

    def order_usage(self, account_id: int, now_ms: int) -> list[dict[str, object]]:
        """Return the order limits with their counts, as GET rateLimit/order does."""
        windows = self._order_windows(account_id)
        return [
            _usage("ORDERS", "SECOND", 10, windows["10 SECOND"], now_ms),
            _usage("ORDERS", "DAY", 1, windows["1 DAY"], now_ms),
        ]

    def weight_usage(self, now_ms: int) -> list[dict[str, object]]:
        """Return the weight limit with its count, as the WebSocket API does."""
        return [_usage("REQUEST_WEIGHT", "MINUTE", 1, self._weight, now_ms)]

    def _order_windows(self, account_id: int) -> dict[str, _Window]:
        windows = self._orders.get(account_id)
        if windows is None:
            windows = self._orders[account_id] = {
                "10 SECOND": _Window(_TEN_SECONDS_MS, self.settings.orders_per_10_seconds),
                "1 DAY": _Window(_DAY_MS, self.settings.orders_per_day),
            }
        return windows


def _limit(kind: str, interval: str, number: int, limit: int) -> dict[str, object]:
    return {
        "rateLimitType": kind,
        "interval": interval,
        "intervalNum": number,
        "limit": limit,
    }


def _usage(
    kind: str, interval: str, number: int, window: _Window, now_ms: int
) -> dict[str, object]:
    return {
        "rateLimitType": kind,
        "interval": interval,
        "intervalNum": number,
        "limit": window.limit,
        "count": window.used_at(now_ms),
    }

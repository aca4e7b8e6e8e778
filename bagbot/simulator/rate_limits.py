"""Binance's request limits: windows aligned to the clock, weight per address, orders per account.

An order counts when it is accepted, and no longer once it has traded for the first time.
"""

from dataclasses import dataclass

from bagbot.simulator.binance_errors import too_many_orders, too_much_weight

_MINUTE_MS = 60_000
_TEN_SECONDS_MS = 10_000
_DAY_MS = 24 * 60 * 60 * 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """How much is allowed. The order limits are far above Binance's, for load on one machine."""

    weight_per_minute: int = 6_000
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
    """What has been used of each limit. One client machine and one account share everything."""

    def __init__(self, settings: LimitSettings) -> None:
        self.settings = settings
        self._weight = _Window(_MINUTE_MS, settings.weight_per_minute)
        self._orders = {
            "10 SECOND": _Window(_TEN_SECONDS_MS, settings.orders_per_10_seconds),
            "1 DAY": _Window(_DAY_MS, settings.orders_per_day),
        }

    def charge(self, weight: int, now_ms: int) -> None:
        """Count `weight`; raises BinanceError when the limit is passed."""
        if self._weight.used_at(now_ms) + weight > self._weight.limit:
            raise too_much_weight(
                self._weight.limit, now_ms=now_ms, until_ms=self._weight.ends_at(now_ms)
            )
        self._weight.used += weight

    def refund(self, weight: int, now_ms: int) -> None:
        """Take back what turned out to be free."""
        self._weight.used = max(self._weight.used_at(now_ms) - weight, 0)

    def check_orders(self, now_ms: int, order_count: int) -> None:
        """Raise BinanceError when so many more orders would be too many."""
        for name, window in self._orders.items():
            if window.used_at(now_ms) + order_count > window.limit:
                raise too_many_orders(
                    window.limit, name, now_ms=now_ms, until_ms=window.ends_at(now_ms)
                )

    def order_accepted(self, now_ms: int) -> None:
        """Count an accepted order."""
        for window in self._orders.values():
            window.used_at(now_ms)
            window.used += 1

    def order_traded(self, now_ms: int) -> None:
        """Take back the count of an order that has traded for the first time."""
        for window in self._orders.values():
            window.used = max(window.used_at(now_ms) - 1, 0)

    def headers(self, now_ms: int, *, with_orders: bool) -> dict[str, str]:
        """Return the usage headers of an answer."""
        weight = str(self._weight.used_at(now_ms))
        headers = {"X-MBX-USED-WEIGHT": weight, "X-MBX-USED-WEIGHT-1M": weight}
        if with_orders:
            headers["X-MBX-ORDER-COUNT-10S"] = str(self._orders["10 SECOND"].used_at(now_ms))
            headers["X-MBX-ORDER-COUNT-1D"] = str(self._orders["1 DAY"].used_at(now_ms))
        return headers

    def description(self) -> list[dict[str, object]]:
        """Return the `rateLimits` of exchangeInfo."""
        settings = self.settings
        return [
            _limit("REQUEST_WEIGHT", "MINUTE", 1, settings.weight_per_minute),
            _limit("ORDERS", "SECOND", 10, settings.orders_per_10_seconds),
            _limit("ORDERS", "DAY", 1, settings.orders_per_day),
            _limit("RAW_REQUESTS", "MINUTE", 5, 300_000),
        ]

    def order_usage(self, now_ms: int) -> list[dict[str, object]]:
        """Return the order limits with their counts, as GET rateLimit/order does."""
        windows = list(self._orders.values())
        return [
            _limit("ORDERS", "SECOND", 10, windows[0].limit)
            | {"count": windows[0].used_at(now_ms)},
            _limit("ORDERS", "DAY", 1, windows[1].limit) | {"count": windows[1].used_at(now_ms)},
        ]

    def weight_usage(self, now_ms: int) -> list[dict[str, object]]:
        """Return the weight limit with its count, as the WebSocket API does."""
        limit = _limit("REQUEST_WEIGHT", "MINUTE", 1, self._weight.limit)
        return [limit | {"count": self._weight.used_at(now_ms)}]


def _limit(kind: str, interval: str, number: int, limit: int) -> dict[str, object]:
    return {
        "rateLimitType": kind,
        "interval": interval,
        "intervalNum": number,
        "limit": limit,
    }

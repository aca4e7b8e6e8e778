"""Binance's venues: which addresses belong to testnet, demo trading, live, or a server of ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from bagbot.domain.errors import ConfigError
from bagbot.trading.connectors.credentials import require_live_switch
from bagbot.trading.connectors.guarded_exchange import CcxtExchange

_LIVE_DOMAINS: Final = ("binance.com", "binance.us", "binance.vision", "binance.me")
_TEST_HOSTS: Final = ("demo-", "testnet.", "stream.testnet.", "ws-api.testnet.")
_KEYS: Final = {
    "spot testnet": "keys come from https://testnet.binance.vision",
    "futures demo trading": "keys come from https://demo.binance.com",
    "spot live": "keys come from your account at https://www.binance.com",
    "futures live": "keys come from your account at https://www.binance.com",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BinanceVenue:
    """Where a connector trades: a name, whether futures, and an address of its own if any."""

    name: str
    is_futures: bool
    base_url: str | None = None

    @property
    def key_advice(self) -> str:
        """Which keys this venue takes: each takes only its own."""
        if self.base_url is not None:
            return f"The server at {self.base_url} takes the keys it was started with."
        return (
            f"The {self.name} takes only its own keys: {_KEYS[self.name]}. Spot testnet, futures "
            f"demo trading and live do not take each other's."
        )

    def point(self, exchange: CcxtExchange) -> None:
        """Make CCXT's exchange use this venue's addresses and no others."""
        if self.base_url is not None:
            exchange.urls["api"] = _urls(self.base_url)
            # CCXT asks the wallet's addresses for currencies unless it knows a test mode.
            exchange.options["enableDemoTrading"] = True
        elif self.name == "spot testnet":
            exchange.set_sandbox_mode(True)
        elif self.name == "futures demo trading":
            # CCXT refuses signed futures calls in sandbox mode: Binance closed that testnet.
            exchange.enable_demo_trading(True)  # noqa: FBT003


def choose_venue(*, testnet: bool, futures: bool, base_url: str | None) -> BinanceVenue:
    """Return the venue that is asked for; live needs its second switch, whatever the address.

    Raises ConfigError when live was not meant for certain, or `base_url` is no address.
    """
    if base_url is not None:
        base_url = base_url.rstrip("/")
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ConfigError(f"the base URL must be like http://127.0.0.1:8000, not {base_url!r}")
        if _is_live_host(parts.hostname):
            require_live_switch(f"binance at {parts.hostname}")
        name = f"{'futures' if futures else 'spot'} at {parts.netloc.rpartition('@')[2]}"
        return BinanceVenue(name=name, is_futures=futures, base_url=base_url)
    if not testnet:
        name = "futures live" if futures else "spot live"
        require_live_switch(f"binance {name}")
    else:
        name = "futures demo trading" if futures else "spot testnet"
    return BinanceVenue(name=name, is_futures=futures)


def _is_live_host(host: str) -> bool:
    host = host.lower().rstrip(".")
    is_binance = any(host == d or host.endswith(f".{d}") for d in _LIVE_DOMAINS)
    return is_binance and not host.startswith(_TEST_HOSTS)


def _urls(base: str) -> Mapping[str, Any]:
    """Return CCXT's table of addresses for one server that offers everything under one base.

    Two traps: CCXT takes a spot stream for a futures one unless "/stream" is in its address, and
    the futures address must end in "/ws", from which it makes /public/ws, /private/ws ...
    """
    sockets = "ws" + base.removeprefix("http")
    spot, api = f"{sockets}/stream/ws", f"{base}/api/v3"
    rest = {"public": api, "private": api, "v1": f"{base}/api/v1"}
    for version, suffix in (("v1", ""), ("v2", "V2"), ("v3", "V3")):
        rest[f"fapiPublic{suffix}"] = rest[f"fapiPrivate{suffix}"] = f"{base}/fapi/{version}"
    return {
        **rest,
        "fapiData": f"{base}/futures/data",
        "ws": {
            "spot": spot,
            "margin": spot,
            "linear": f"{sockets}/ws",
            "ws-api": {
                "spot": f"{sockets}/ws-api/v3",
                "linear": f"{sockets}/ws-fapi/v1",
            },
        },
    }

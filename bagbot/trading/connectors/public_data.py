"""Connectors that can only read: an exchange's public data, with no key at hand."""

from collections.abc import Mapping

from bagbot.trading.connectors.binance_connector import BinanceConnector
from bagbot.trading.connectors.binance_venues import BinanceVenue, choose_venue
from bagbot.trading.connectors.ccxt_connector import CcxtConnector
from bagbot.trading.connectors.credentials import Credentials


def public_data(
    exchange_id: str, *, futures: bool = False, base_url: str | None = None
) -> CcxtConnector:
    """Return a connector for an exchange's real, public data.

    It needs no key and takes none, not even from the environment: it cannot trade, so it needs no
    second switch either. `futures` and `base_url` are for Binance (see BinanceConnector).
    """
    if exchange_id == BinanceConnector.exchange_id:
        return _PublicBinance(testnet=False, futures=futures, base_url=base_url)
    return _WithoutKeys(exchange_id=exchange_id, testnet=False)


class _WithoutKeys(CcxtConnector):
    """What the environment holds as keys is not used."""

    def _enter_venue(self, settings: Mapping[str, str]) -> None:
        del settings
        self._credentials = Credentials()
        self._exchange.apiKey = self._exchange.secret = self._exchange.password = ""


class _PublicBinance(_WithoutKeys, BinanceConnector):
    def _enter_venue(self, settings: Mapping[str, str]) -> None:
        super()._enter_venue(settings)
        base_url = self._asked_base_url or settings.get("BINANCE_BASE_URL")
        if base_url:
            self._venue = choose_venue(testnet=True, futures=self._futures, base_url=base_url)
        else:
            name = "futures live" if self._futures else "spot live"
            self._venue = BinanceVenue(name=name, is_futures=self._futures)
        self._venue.point(self._exchange)

"""API keys and whose they are: HMAC keys with a shared secret, others with a public key."""

import base64
import binascii
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from bagbot.simulator.binance_errors import bad_signature, parameter_missing, unknown_key
from bagbot.simulator.binance_wire import WireRequest, check_signature


@dataclass(frozen=True, slots=True)
class HmacKey:
    """A key whose owner signs with a secret that the exchange knows as well."""

    api_key: str
    account_id: int
    secret: str = field(repr=False)

    can_log_on = False

    def check(self, request: WireRequest) -> None:
        """Raise BinanceError unless the request is signed with this key's secret."""
        check_signature(self.secret, request)


@dataclass(frozen=True, slots=True)
class Ed25519Key:
    """A key whose owner signs with a private key that the exchange never sees."""

    api_key: str
    account_id: int
    public_key: Ed25519PublicKey = field(repr=False)

    can_log_on = True

    def check(self, request: WireRequest) -> None:
        """Raise BinanceError unless the request is signed, in Base64, with the private key."""
        with _bad_signatures_refused():
            self.public_key.verify(_signature_bytes(request), request.signed_bytes)


@dataclass(frozen=True, slots=True)
class RsaKey:
    """The older kind of such a key, with which nobody can log on to a session."""

    api_key: str
    account_id: int
    public_key: RSAPublicKey = field(repr=False)

    can_log_on = False

    def check(self, request: WireRequest) -> None:
        """Raise BinanceError unless the request is signed, in Base64, with the private key."""
        with _bad_signatures_refused():
            signature = _signature_bytes(request)
            self.public_key.verify(signature, request.signed_bytes, PKCS1v15(), SHA256())


ApiKey = HmacKey | Ed25519Key | RsaKey


class KeyRing:
    """Every key there is."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = {key.api_key: key for key in keys}

    def find(self, api_key: str) -> ApiKey:
        """Return the key. Raises BinanceError when nobody has it."""
        key = self._keys.get(api_key)
        if key is None:
            raise unknown_key()
        return key

    def account_id(self, api_key: str | None) -> int | None:
        """Return whose key this is, or None when it is nobody's."""
        key = self._keys.get(api_key or "")
        return None if key is None else key.account_id


def public_key_from(pem: str, *, api_key: str, account_id: int) -> Ed25519Key | RsaKey:
    """Return the key that a public key's PEM text describes. Raises ValueError."""
    try:
        key = load_pem_public_key(pem.strip().encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("not a public key in PEM form") from error
    if isinstance(key, Ed25519PublicKey):
        return Ed25519Key(api_key, account_id, key)
    if isinstance(key, RSAPublicKey):
        return RsaKey(api_key, account_id, key)
    raise ValueError("not an Ed25519 or RSA public key")


def _signature_bytes(request: WireRequest) -> bytes:
    if not request.signature:
        raise parameter_missing("signature")
    return base64.b64decode(request.signature, validate=True)


@contextmanager
def _bad_signatures_refused() -> Iterator[None]:
    try:
        yield
    except (binascii.Error, ValueError, InvalidSignature) as error:
        raise bad_signature() from error

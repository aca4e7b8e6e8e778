"""The API's bearer tokens: made, revoked and checked. Knows nothing of the web.

The file holds one JSON object a line and only grows: a token made or revoked by another process
counts at once. It keeps hashes; a token's text is shown once, when it is made.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from bagbot.domain.clock import Clock
from bagbot.domain.errors import ConfigError

_PREFIX: Final = "bb"
_NOBODY: Final = "0" * 64


class Scope(StrEnum):
    """What a token may do. ADMIN includes every scope, TRADE includes READ."""

    READ = "read"
    TRADE = "trade"
    KILL = "kill"
    ADMIN = "admin"


_INCLUDED: Final = {
    Scope.READ: frozenset({Scope.READ}),
    Scope.TRADE: frozenset({Scope.TRADE, Scope.READ}),
    Scope.KILL: frozenset({Scope.KILL}),
    Scope.ADMIN: frozenset(Scope),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token that is valid; `hash` is the SHA-256 of its text."""

    id: str
    scopes: frozenset[Scope]
    created_ns: int
    hash: str = field(repr=False)

    def allows(self, scope: Scope) -> bool:
        """Return whether `scope` is among its scopes or included in one of them."""
        return any(scope in _INCLUDED[own] for own in self.scopes)


class _Created(msgspec.Struct, tag="created", tag_field="event", forbid_unknown_fields=True):
    id: str
    hash: str
    scopes: list[Scope]
    created_ns: int


class _Revoked(msgspec.Struct, tag="revoked", tag_field="event", forbid_unknown_fields=True):
    id: str
    revoked_ns: int


_DECODER: Final = msgspec.json.Decoder(_Created | _Revoked)


class TokenStore:
    """The tokens in one append-only file (mode 0600); a missing file holds none."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._tokens: dict[str, Token] = {}
        self._version: tuple[int, int, int] | None = None

    def create(self, scopes: Iterable[Scope | str]) -> str:
        """Return the text of a new token, `bb_<id>_<secret>`; it cannot be shown again.

        Raises ConfigError for a scope that there is not, or when the file cannot be written.
        """
        wanted = sorted({_scope(scope) for scope in scopes})
        if not wanted:
            raise ConfigError(f"a token needs a scope: {', '.join(Scope)}")
        self._refresh()
        token_id = secrets.token_hex(6)
        text = f"{_PREFIX}_{token_id}_{secrets.token_urlsafe(32)}"
        self._append(
            _Created(id=token_id, hash=_hash(text), scopes=wanted, created_ns=self._clock.time_ns())
        )
        return text

    def revoke(self, token_id: str) -> None:
        """Make a token invalid, for ever.

        Raises ConfigError when no valid token has this id.
        """
        self._refresh()
        if token_id not in self._tokens:
            raise ConfigError(f"there is no valid token {token_id!r}; `bagbot token list` has them")
        self._append(_Revoked(id=token_id, revoked_ns=self._clock.time_ns()))

    def list(self) -> Sequence[Token]:
        """Return the valid tokens, oldest first."""
        self._refresh()
        return tuple(self._tokens.values())

    def verify(self, text: str) -> Token | None:
        """Return the token whose text this is, or None.

        Raises ConfigError naming the line when the file cannot be understood.
        """
        self._refresh()
        prefix, _, rest = text.partition("_")
        token = self._tokens.get(rest.partition("_")[0]) if prefix == _PREFIX else None
        known_hash = _NOBODY if token is None else token.hash
        return token if hmac.compare_digest(_hash(text), known_hash) else None

    def _refresh(self) -> None:
        """Read the file again when it is not the one that was read last."""
        try:
            status = self._path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            if version == self._version:
                return
            content = self._path.read_bytes()
        except FileNotFoundError:
            self._tokens, self._version = {}, None
            return
        except OSError as error:
            raise ConfigError(f"the token file {self._path} cannot be read: {error}") from error
        self._tokens = self._parsed(content)
        self._version = version

    def _parsed(self, content: bytes) -> dict[str, Token]:
        tokens: dict[str, Token] = {}
        for number, line in enumerate(content.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                entry = _DECODER.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ConfigError(
                    f"line {number} of the token file {self._path} cannot be understood "
                    f"({error}); remove the line, then make that token anew"
                ) from error
            if isinstance(entry, _Revoked):
                tokens.pop(entry.id, None)
                continue
            tokens[entry.id] = Token(
                id=entry.id,
                scopes=frozenset(entry.scopes),
                created_ns=entry.created_ns,
                hash=entry.hash,
            )
        return tokens

    def _append(self, entry: _Created | _Revoked) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "ab", buffering=0) as file:
                os.fchmod(descriptor, 0o600)
                # An editor may have left the last line without its end.
                start = b"" if self._path.read_bytes()[-1:] in (b"", b"\n") else b"\n"
                file.write(start + msgspec.json.encode(entry) + b"\n")
                os.fsync(descriptor)
        except OSError as error:
            raise ConfigError(f"the token file {self._path} cannot be written: {error}") from error


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def _scope(text: str) -> Scope:
    try:
        return Scope(text)
    except ValueError as error:
        raise ConfigError(f"a scope is one of {', '.join(Scope)}, not {text!r}") from error

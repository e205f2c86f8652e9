"""Access keys: their text, how their secrets are derived, and what a caller who shows one may do.

A key is `fct_<key id>_<secret>`. The secret is not stored: it is the HMAC-SHA256, keyed by a master
secret, of the key's id and a random salt. The salt is in the database and the master secret is not,
so neither of them alone gives a key away. The service derives the secret again to check a key, and
can check signatures that were made with it. The id is part of the message, so that a salt copied
into another row does not make one key's secret that of another.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, NewType

from service.domain.errors import ForbiddenError, NotFoundError
from service.domain.types import TenantId

KeyId = NewType("KeyId", str)

KEY_PREFIX: Final = "fct_"
KEY_ID_LENGTH: Final = 16
"""Characters of a key id; 36 different ones make it 82 bits, so that ids never meet by chance."""
SALT_BYTES: Final = 16
MASTER_SECRET_BYTES: Final = 32

_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID: Final = re.compile(rf"[a-z0-9]{{{KEY_ID_LENGTH}}}")
_TEXT: Final = re.compile(rb"fct_([a-z0-9]{%d})_([0-9a-f]{64})" % KEY_ID_LENGTH)


class Scope(StrEnum):
    """What a key may do; each scope contains the ones before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    @property
    def contained(self) -> frozenset[Scope]:
        """This scope and the ones that it contains."""
        return _CONTAINED[self]


_CONTAINED: Final = {
    scope: frozenset(list(Scope)[: position + 1]) for position, scope in enumerate(Scope)
}


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller who has been authenticated.

    key_id: the key that the caller showed; None for the configured token and for the command line.
    tenant_id: the one tenant that the caller may name; None for every tenant.
    scopes: as they were given; a scope contains the lower ones.
    """

    key_id: KeyId | None
    tenant_id: TenantId | None
    scopes: frozenset[Scope]
    _allowed: frozenset[Scope] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_allowed", _closure(self.scopes))

    def allows(self, scope: Scope) -> bool:
        """Whether the caller has a scope, or one that contains it."""
        return scope in self._allowed

    def require(self, scope: Scope) -> None:
        """Return when the caller has a scope.

        Raises:
            ForbiddenError: the caller lacks it.
        """
        if scope not in self._allowed:
            raise ForbiddenError(f"This key lacks the scope '{scope}', which the call needs.")

    def reaches(self, tenant_id: str) -> bool:
        """Whether the caller may name a tenant."""
        return self.tenant_id is None or self.tenant_id == tenant_id

    def require_tenant(self, tenant_id: str) -> None:
        """Return when the caller may name a tenant. The database is not asked whether it exists.

        Raises:
            NotFoundError: it is another tenant than that of the key.
        """
        if not self.reaches(tenant_id):
            raise NotFoundError("tenant")


def _closure(scopes: Iterable[Scope]) -> frozenset[Scope]:
    return frozenset().union(*(scope.contained for scope in scopes))


OPERATOR: Final = Principal(None, None, frozenset({Scope.ADMIN}))
"""An admin of all tenants: the configured token, and the command line."""


@dataclass(frozen=True, slots=True)
class KeyText:
    """The parts of a key as a caller sent it. secret: 64 hexadecimal digits."""

    key_id: KeyId
    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: bytes) -> KeyText | None:
        """The parts of a text; None where it is no key, whatever else it is."""
        found = _TEXT.fullmatch(text)
        return None if found is None else cls(KeyId(found[1].decode()), found[2])


def key_text(key_id: KeyId, secret: str) -> str:
    """A key as its holder gets it."""
    return f"{KEY_PREFIX}{key_id}_{secret}"


def is_key_id(text: str) -> bool:
    """Whether a text may be the id of a key."""
    return _ID.fullmatch(text) is not None


def new_key_id() -> KeyId:
    """A random key id."""
    return KeyId("".join(secrets.choice(_ALPHABET) for _ in range(KEY_ID_LENGTH)))


def new_salt() -> bytes:
    """A random salt."""
    return secrets.token_bytes(SALT_BYTES)


@dataclass(frozen=True, slots=True)
class Seed:
    """What a key's secret is derived from, beside the master secret.

    until: when the secret ends, which a rotation has replaced; None for the newest one.
    """

    salt: bytes = field(repr=False)
    master_id: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class MasterSecret:
    """A secret of the service, from which the secrets of keys are derived.

    until: when the keys that were made with it end; None for as long as it is kept.
    master_id: a fingerprint, stored with each key that was made with it.
    """

    value: bytes = field(repr=False)
    until: datetime | None = None
    master_id: str = field(init=False)

    def __post_init__(self) -> None:
        fingerprint = hmac.new(self.value, b"facette master secret", hashlib.sha256).hexdigest()
        object.__setattr__(self, "master_id", fingerprint[:16])

    def seed_of(self, request: str) -> tuple[KeyId, Seed]:
        """The id and the seed that a repeated request gets again.

        Nobody without the master secret can tell either of them from the request.
        """
        drawn = hmac.new(self.value, b"facette request\0" + request.encode(), hashlib.sha512)
        digest = drawn.digest()
        number = int.from_bytes(digest[SALT_BYTES:], "big")
        letters = []
        for _ in range(KEY_ID_LENGTH):
            number, place = divmod(number, len(_ALPHABET))
            letters.append(_ALPHABET[place])
        return KeyId("".join(letters)), Seed(digest[:SALT_BYTES], self.master_id)

    def secret_of(self, key_id: KeyId, salt: bytes) -> str:
        """The secret of a key: 64 hexadecimal digits."""
        message = b"facette key\0" + key_id.encode() + b"\0" + salt
        return hmac.new(self.value, message, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class MasterSecrets:
    """The master secret of new keys, and former ones, with which older keys were made."""

    current: MasterSecret
    former: tuple[MasterSecret, ...] = ()

    def find(self, master_id: str, now: datetime) -> MasterSecret | None:
        """The secret with a fingerprint; None where it is not kept, or its time is over."""
        for each in (self.current, *self.former):
            if each.master_id == master_id and (each.until is None or now < each.until):
                return each
        return None


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key without its secret.

    tenant_id: the one tenant that it reaches; None for every tenant.
    master_id: the fingerprint of the master secret that its secret is derived from.
    last_used_at: to the hour; None where it was never used.
    """

    key_id: KeyId
    name: str
    scopes: frozenset[Scope]
    tenant_id: TenantId | None
    master_id: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewKey:
    """What a key shall be. name: follows `NAME_RULE`. The rest is as in `AccessKey`."""

    name: str
    scopes: frozenset[Scope]
    tenant_id: TenantId | None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyPosition:
    """A place in the list of keys, newest first."""

    created_at: datetime
    key_id: KeyId


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Keys in the order of the list. following: where the next page begins; None at the end."""

    keys: tuple[AccessKey, ...]
    following: KeyPosition | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key and its seeds, the newest first."""

    key: AccessKey
    seeds: tuple[Seed, ...]


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key that was just made or rotated, with the text that its holder gets, once."""

    key: AccessKey
    text: str = field(repr=False)


class KeyFault(StrEnum):
    """Why a token is refused. Callers are not told which of these it was; operators are."""

    NO_KEY = "no_key"
    UNKNOWN = "unknown"
    WRONG_SECRET = "wrong_secret"  # noqa: S105
    MASTER_LOST = "master_lost"
    EXPIRED = "expired"
    REVOKED = "revoked"


class KnownKey:
    """A stored key with its derived secrets, ready to check what callers show.

    Attributes:
        key: the stored key.
        principal: who a caller with this key is.
    """

    __slots__ = ("_ends_at", "_secrets", "key", "principal")

    def __init__(self, stored: StoredKey, masters: MasterSecrets, now: datetime) -> None:
        self.key = stored.key
        self.principal = Principal(stored.key.key_id, stored.key.tenant_id, stored.key.scopes)
        self._ends_at = _timestamp(stored.key.expires_at)
        self._secrets: list[tuple[bytes, float]] = []
        for seed in stored.seeds:
            if master := masters.find(seed.master_id, now):
                secret = master.secret_of(stored.key.key_id, seed.salt).encode()
                until = min(_timestamp(seed.until), _timestamp(master.until))
                self._secrets.append((secret, until))

    def fault(self, secret: bytes, now_s: float) -> KeyFault | None:
        """Why a secret is refused; None where it is the key's.

        Args:
            now_s: Unix time.
        """
        valid = False
        for own, until in self._secrets:
            # All of them are compared: the time does not tell which one it was.
            valid |= hmac.compare_digest(own, secret) and now_s < until
        if not valid:
            return KeyFault.WRONG_SECRET if self._secrets else KeyFault.MASTER_LOST
        if self.key.revoked_at is not None:
            return KeyFault.REVOKED
        return KeyFault.EXPIRED if now_s >= self._ends_at else None

    def is_sealed(self, seal: Callable[[bytes], bytes], sealed: bytes, now_s: float) -> bool:
        """Whether a seal was made of a secret of the key, which is valid still.

        Args:
            seal: makes a seal of a secret.
            now_s: Unix time.
        """
        valid = False
        for own, until in self._secrets:
            valid |= hmac.compare_digest(seal(own), sealed) and now_s < until
        return valid and self.key.revoked_at is None and now_s < self._ends_at


def _timestamp(time: datetime | None) -> float:
    return float("inf") if time is None else time.timestamp()

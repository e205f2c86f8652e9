"""Sessions of the console: opaque secrets that stand for a token or a key that was shown once."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from service.domain.keys import KeyId

SESSION_LASTS: Final = timedelta(hours=12)
_SECRET_BYTES: Final = 32
_TEXT_LENGTH: Final = 2 * _SECRET_BYTES


@dataclass(frozen=True, slots=True)
class SessionSecret:
    """The secret of a session, which the browser alone holds: 64 hexadecimal digits."""

    text: str = field(repr=False)

    @classmethod
    def new(cls) -> SessionSecret:
        """A random one."""
        return cls(secrets.token_hex(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> SessionSecret | None:
        """The secret in a cookie; None where it can be none."""
        is_one = len(text) == _TEXT_LENGTH and set(text) <= set("0123456789abcdef")
        return cls(text) if is_one else None

    @property
    def digest(self) -> bytes:
        """What the session is stored under: the SHA-256 of the secret."""
        return hashlib.sha256(self.text.encode()).digest()

    def seal(self, shown: bytes) -> bytes:
        """Binds what was shown at sign-in to the session: its HMAC-SHA256, keyed by the secret."""
        return hmac.new(self.text.encode(), shown, hashlib.sha256).digest()


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A session as it is stored.

    key_id: of the key that was shown; None for the configured token. shown: see `seal`.
    """

    key_id: KeyId | None
    shown: bytes = field(repr=False)
    expires_at: datetime

"""Sessions of the console: signed in with a token or a key, and ended with it."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from service.domain.errors import WrongTokenError
from service.domain.keys import OPERATOR, KeyText, Principal
from service.domain.sessions import SessionSecret, StoredSession
from service.usecases.ports import KeyFinder, SessionStore

# A session that was ended in another process is known here for less than five seconds.
_KEPT_S = 4.0
_MAX_KNOWN = 1_000


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session with who is signed in. name: of the key; None for the configured token."""

    principal: Principal
    name: str | None
    expires_at: datetime


class ConsoleSessions:
    """Opens, finds and ends sessions.

    Every method raises StoreUnavailableError where the database does not answer, and
    KeysUnavailableError where keys cannot be checked.

    Args:
        token: the configured token, whose holder is an admin of all tenants.
        clock: seconds, monotonic. now: Unix time.
    """

    def __init__(
        self,
        store: SessionStore,
        keys: KeyFinder,
        token: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._keys = keys
        self._token = token.encode()
        self._clock = clock
        self._now = now
        self._looking = asyncio.Lock()
        self._known: OrderedDict[bytes, tuple[StoredSession, float]] = OrderedDict()

    async def open(self, principal: Principal, shown: str) -> tuple[SessionSecret, SignedIn]:
        """Open a session for a caller who was just authenticated.

        Args:
            shown: the token or the key that the caller showed.
        """
        secret, what = SessionSecret.new(), shown.encode()
        if principal.key_id is not None and (key := KeyText.parse(what)) is not None:
            what = key.secret
        await self._store.insert(secret, principal.key_id, secret.seal(what))
        return secret, await self.find(secret)

    async def find(self, secret: SessionSecret) -> SignedIn:
        """Who is signed in.

        Raises:
            WrongTokenError: the session is over, or what was shown for it is not valid any more.
        """
        session = await self._session(secret)
        if session is None or self._now() >= session.expires_at.timestamp():
            raise WrongTokenError
        if session.key_id is None:
            if not hmac.compare_digest(secret.seal(self._token), session.shown):
                raise WrongTokenError
            return SignedIn(OPERATOR, None, session.expires_at)
        known = await self._keys.find(session.key_id)
        if known is None or not known.is_sealed(secret.seal, session.shown, self._now()):
            raise WrongTokenError
        self._keys.note_use(known)
        ends = session.expires_at
        if known.key.expires_at is not None:
            ends = min(ends, known.key.expires_at)
        return SignedIn(known.principal, known.key.name, ends)

    async def end(self, secret: SessionSecret) -> None:
        """End a session, if there is one."""
        self._known.pop(secret.digest, None)
        await self._store.delete(secret)

    async def _session(self, secret: SessionSecret) -> StoredSession | None:
        now, digest = self._clock(), secret.digest
        known = self._known.get(digest)
        if known is not None and now < known[1]:
            return known[0]
        self._known.pop(digest, None)
        async with self._looking:  # made-up secrets, however many, take one connection
            found = await self._store.find(secret)
        if found is not None:
            self._known[digest] = (found, now + _KEPT_S)
            if len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return found

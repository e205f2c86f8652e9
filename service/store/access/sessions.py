"""The rows of the console's sessions."""

from __future__ import annotations

from datetime import datetime

from service.domain.keys import KeyId
from service.domain.sessions import SESSION_LASTS, SessionSecret, StoredSession
from service.store.access.keys import Connections
from service.store.database.statements import SQL


class SessionRows:
    """Reads and writes sessions; each method raises StoreUnavailableError.

    Args:
        connections: `Database.common`.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def insert(self, secret: SessionSecret, key_id: KeyId | None, shown: bytes) -> datetime:
        """Store a session; returns when it ends."""
        async with self._connections() as connection:
            ends: datetime = await connection.fetchval(
                SQL["insert_session"], secret.digest, key_id, shown, SESSION_LASTS
            )
        return ends

    async def find(self, secret: SessionSecret) -> StoredSession | None:
        """The session with this secret; None where there is none, or its time is over."""
        async with self._connections() as connection:
            row = await connection.fetchrow(SQL["session"], secret.digest)
        if row is None:
            return None
        key_id = None if row["key_id"] is None else KeyId(row["key_id"])
        return StoredSession(key_id, row["shown"], row["expires_at"])

    async def delete(self, secret: SessionSecret) -> None:
        """End a session."""
        async with self._connections() as connection:
            await connection.execute(SQL["delete_session"], secret.digest)

"""The rows of access keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime

import asyncpg

from service.domain.errors import NotFoundError
from service.domain.keys import (
    AccessKey,
    KeyId,
    KeyPage,
    KeyPosition,
    NewKey,
    Scope,
    Seed,
    StoredKey,
)
from service.domain.types import TenantId
from service.store.database.statements import SQL

Connections = Callable[[], AbstractAsyncContextManager[asyncpg.Connection]]
"""Opens a connection for tables about the database as a whole."""


class AccessKeys:
    """Reads and writes the rows of access keys.

    Args:
        connections: `Database.common`, or the connection of a command.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def by_id(self, key_ids: Sequence[KeyId]) -> dict[KeyId, StoredKey]:
        """The keys among these ids."""
        async with self._connections() as connection:
            rows = await connection.fetch(SQL["keys_by_id"], key_ids)
        return {KeyId(row["key_id"]): _stored_key(row) for row in rows}

    async def key(self, key_id: KeyId) -> AccessKey:
        """One key.

        Raises:
            NotFoundError: there is none.
        """
        found = await self.by_id([key_id])
        if key_id not in found:
            raise NotFoundError("key")
        return found[key_id].key

    async def newest(
        self, tenant_id: TenantId | None, after: KeyPosition | None, limit: int
    ) -> KeyPage:
        """Keys of a tenant or of all, newest first; revoked and expired ones, too.

        Args:
            tenant_id: the tenant that the keys are bound to; None for all keys.
            after: where the page before this one ended.
            limit: number of keys, at least 1.
        """
        position = (None, None) if after is None else (after.created_at, after.key_id)
        name = "newest_keys" if tenant_id is None else "newest_keys_of_tenant"
        of_tenant = () if tenant_id is None else (tenant_id,)
        async with self._connections() as connection:
            # One row more than asked for tells whether there is another page.
            rows = await connection.fetch(SQL[name], *position, limit + 1, *of_tenant)
        keys = tuple(_access_key(row) for row in rows[:limit])
        if len(rows) <= limit:
            return KeyPage(keys, None)
        return KeyPage(keys, KeyPosition(keys[-1].created_at, keys[-1].key_id))

    async def seed(self, key_id: KeyId) -> Seed:
        """The newest seed of a key.

        Raises:
            NotFoundError: there is no such key.
        """
        found = await self.by_id([key_id])
        if key_id not in found:
            raise NotFoundError("key")
        return found[key_id].seeds[0]

    async def insert(self, key_id: KeyId, new: NewKey, seed: Seed) -> AccessKey | None:
        """Store a new key; None where there is one of this id."""
        async with self._connections() as connection:
            row = await connection.fetchrow(
                SQL["insert_key"],
                key_id,
                new.tenant_id,
                new.name,
                sorted(new.scopes, key=list(Scope).index),
                seed.salt,
                seed.master_id,
                new.expires_at,
            )
        return None if row is None else _access_key(row)

    async def revoke(self, key_id: KeyId) -> AccessKey:
        """Make a key invalid for good.

        Raises:
            NotFoundError: there is none.
        """
        async with self._connections() as connection:
            row = await connection.fetchrow(SQL["revoke_key"], key_id)
        if row is None:
            raise NotFoundError("key")
        return _access_key(row)

    async def rotate(self, key_id: KeyId, seed: Seed, former_until: datetime | None) -> AccessKey:
        """Give a key another seed.

        Args:
            former_until: when its former secret ends; None ends it now.

        Raises:
            NotFoundError: there is none, or it is revoked.
        """
        async with self._connections() as connection:
            row = await connection.fetchrow(
                SQL["rotate_key"], key_id, seed.salt, seed.master_id, former_until
            )
        if row is None:
            raise NotFoundError("key")
        return _access_key(row)

    async def note_uses(self, hours: Mapping[KeyId, datetime]) -> None:
        """Write when keys were last used."""
        async with self._connections() as connection:
            await connection.execute(SQL["note_uses_of_keys"], list(hours), list(hours.values()))

    async def valid_by_master(self) -> dict[str, int]:
        """The number of valid keys, by the fingerprint of the master secret that made them."""
        async with self._connections() as connection:
            rows = await connection.fetch(SQL["valid_keys_by_master"])
        return {row["master_id"]: row["keys"] for row in rows}


def _stored_key(row: asyncpg.Record) -> StoredKey:
    seeds = [Seed(row["salt"], row["master_id"])]
    if row["former_until"] is not None:
        seeds.append(Seed(row["former_salt"], row["former_master_id"], row["former_until"]))
    return StoredKey(_access_key(row), tuple(seeds))


def _access_key(row: asyncpg.Record) -> AccessKey:
    tenant = row["bound_tenant"]
    return AccessKey(
        key_id=KeyId(row["key_id"]),
        name=row["name"],
        scopes=frozenset(map(Scope, row["scopes"])),
        tenant_id=None if tenant is None else TenantId(tenant),
        master_id=row["master_id"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )

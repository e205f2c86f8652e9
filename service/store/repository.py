"""What the use cases need of PostgreSQL, tenant by tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from service.domain.types import TenantId
from service.store.database import Database
from service.store.reads import TenantReader, found
from service.store.search import ClusterSearch, SearchSettings
from service.store.statements import SQL
from service.store.writes import TenantWriter


class Repository:
    """Opens readers and writers.

    Args:
        on_search: told the path of each search for near faces, "index" or "exact".
        on_insert: told of a tenant that got new faces, and how many, before they are committed.
    """

    def __init__(
        self,
        database: Database,
        search: SearchSettings,
        *,
        on_search: Callable[[str], None] = lambda path: None,
        on_insert: Callable[[TenantId, int], None] = lambda tenant_id, faces: None,
    ) -> None:
        self._database = database
        self._search = search
        self._on_search = on_search
        self._on_insert = on_insert

    @asynccontextmanager
    async def reading(self, tenant_id: TenantId) -> AsyncIterator[TenantReader]:
        """A consistent view of one tenant."""
        async with self._database.snapshot(tenant_id) as connection:
            yield TenantReader(connection, tenant_id)

    @asynccontextmanager
    async def writing(
        self, tenant_id: TenantId, *, create: bool = False
    ) -> AsyncIterator[TenantWriter]:
        """A transaction that holds the tenant's lock; `create` makes an unknown tenant.

        Raises:
            NotFoundError: there is no such tenant, unless `create`.
        """
        async with self._database.transaction(tenant_id) as connection:
            if create:
                await connection.execute(SQL["lock_tenant"], tenant_id)
            else:
                found(await connection.fetchrow(SQL["lock_known_tenant"], tenant_id), "tenant")
            search = ClusterSearch(connection, tenant_id, self._search, self._on_search)
            yield TenantWriter(connection, tenant_id, search, self._on_insert)

    async def ping(self) -> None:
        """Return when the database answers."""
        await self._database.ping()

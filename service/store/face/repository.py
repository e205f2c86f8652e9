"""Transactions on one tenant, with the readers and writers that use cases work with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from service.domain.errors import ModelReplacedError
from service.domain.matching import Candidates, ClusterQuery
from service.domain.types import TenantId
from service.store.database.database import Database
from service.store.database.statements import SQL
from service.store.face.code_cache import CodeCache
from service.store.face.reads import TenantReader, found
from service.store.face.search import ClusterSearch, SearchSettings
from service.store.face.writes import TenantWriter


class Repository:
    """Opens readers and writers.

    Args:
        codes: cache of the binary codes of large tenants; None disables codes.
        on_search: called with the path of each search: "codes", "index" or "exact".
        on_insert: called with a tenant and its number of new faces, before the commit.
        on_delete: called after the deletion of a tenant was committed.
        on_replaced: called when an insert is refused with a ModelReplacedError.
    """

    def __init__(
        self,
        database: Database,
        search: SearchSettings,
        *,
        codes: CodeCache | None = None,
        on_search: Callable[[str], None] = lambda path: None,
        on_insert: Callable[[TenantId, int], None] = lambda tenant_id, faces: None,
        on_delete: Callable[[], None] = lambda: None,
        on_replaced: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._search = search
        self._codes = codes
        self._on_search = on_search
        self._on_insert = on_insert
        self._on_delete = on_delete
        self._on_replaced = on_replaced

    @asynccontextmanager
    async def reading(self, tenant_id: TenantId) -> AsyncIterator[TenantReader]:
        """A consistent view of one tenant."""
        async with self._database.snapshot(tenant_id) as connection:
            yield TenantReader(connection, tenant_id)

    @asynccontextmanager
    async def writing(self, tenant_id: TenantId) -> AsyncIterator[TenantWriter]:
        """A transaction that holds the tenant's lock.

        Raises:
            NotFoundError: there is no such tenant.
        """
        async with self._database.transaction(tenant_id) as connection:
            found(await connection.fetchrow(SQL["lock_known_tenant"], tenant_id), "tenant")
            writer = TenantWriter(connection, tenant_id, self._on_insert)
            yield writer
        if writer.is_deleted:
            if self._codes is not None:
                self._codes.forget(tenant_id)
            self._on_delete()

    @asynccontextmanager
    async def inserting(
        self, tenant_id: TenantId, query: ClusterQuery
    ) -> AsyncIterator[tuple[TenantWriter, Candidates]]:
        """A transaction that holds the tenant's lock, and the clusters that new faces may join.

        A tenant that does not exist yet is created. Most of the search runs before the tenant is
        locked and is brought up to date under the lock, so inserts into one tenant wait for each
        other as briefly as possible.

        Returns:
            The writer, and the clusters that the faces of the query may join.

        Raises:
            ModelReplacedError: the active space of the database is not the query's.
        """
        async with self._database.transaction(tenant_id) as connection:
            search = ClusterSearch(
                connection, tenant_id, self._search, self._codes, self._on_search
            )
            finds = await search.look_up(query)
            locked = await connection.fetchrow(SQL["lock_tenant"], tenant_id)
            if locked["active_space"] not in (None, query.space):
                self._on_replaced()
                raise ModelReplacedError
            candidates = await search.clusters(finds, locked["changes"])
            yield TenantWriter(connection, tenant_id, self._on_insert), candidates

    async def ping(self) -> None:
        """Return when the database answers."""
        await self._database.ping()

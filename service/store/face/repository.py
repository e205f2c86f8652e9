"""Transactions on one tenant, with the readers and writers that use cases work with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg

from service.domain.asking import AskingPosition
from service.domain.errors import ModelReplacedError, NotFoundError
from service.domain.matching import Candidates, ClusterQuery
from service.domain.people import TenantFacts
from service.domain.search import PeopleQuery
from service.domain.types import Embedding, FaceId, ImageId, ModelSpace, StoredFace, TenantId
from service.store.database.database import Database
from service.store.database.statements import SQL
from service.store.face.asking import DoubtReader, QuestionWriter
from service.store.face.code_cache import CodeCache
from service.store.face.lookups import found, known_uuid
from service.store.face.people_search import PeopleSearch, ProbeAhead, embedded_face
from service.store.face.reads import TenantReader
from service.store.face.reviews import ReviewLeases
from service.store.face.search import ClusterSearch, SearchSettings
from service.store.face.writes import LockedTenant, TenantWriter


class Repository:
    """Opens readers and writers.

    Args:
        makes_tenants: whether an insert makes a tenant that is missing.
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
        makes_tenants: bool = True,
        codes: CodeCache | None = None,
        on_search: Callable[[str], None] = lambda path: None,
        on_insert: Callable[[TenantId, int], None] = lambda tenant_id, faces: None,
        on_delete: Callable[[], None] = lambda: None,
        on_replaced: Callable[[], None] = lambda: None,
    ) -> None:
        self.makes_tenants = makes_tenants
        self._database = database
        self._search = search
        self._codes = codes
        self._on_search = on_search
        self._on_insert = on_insert
        self._on_delete = on_delete
        self._on_replaced = on_replaced
        self._listing = asyncio.Lock()

    @asynccontextmanager
    async def reading(self, tenant_id: TenantId) -> AsyncIterator[TenantReader]:
        """A consistent view of one tenant."""
        async with self._database.snapshot(tenant_id) as connection:
            yield TenantReader(connection, tenant_id)

    async def image_of_bytes(self, tenant_id: TenantId, sha256: str) -> ImageId | None:
        """The oldest image whose file has this SHA-256, in hex, in one round trip; None without."""
        async with self._database.common() as connection:
            found = await connection.fetchval(SQL["image_of_bytes"], tenant_id, sha256)
        return None if found is None else ImageId(str(found))

    @asynccontextmanager
    async def writing(self, tenant_id: TenantId) -> AsyncIterator[TenantWriter]:
        """A transaction that holds the tenant's lock.

        Raises:
            NotFoundError: there is no such tenant.
        """
        async with self._database.transaction(tenant_id) as connection:
            row = await connection.fetchrow(SQL["lock_known_tenant"], tenant_id)
            locked = LockedTenant.of(found(row, "tenant"))
            writer = TenantWriter(connection, tenant_id, locked, self._on_insert)
            yield writer
        if writer.is_deleted:
            if self._codes is not None:
                self._codes.forget(tenant_id)
            self._on_delete()

    @asynccontextmanager
    async def leasing(self, tenant_id: TenantId) -> AsyncIterator[ReviewLeases]:
        """A transaction that hands out questions, and excludes no other writer of the tenant."""
        async with self._database.transaction(tenant_id) as connection:
            yield ReviewLeases(connection, tenant_id)

    @asynccontextmanager
    async def inserting(
        self, tenant_id: TenantId, query: ClusterQuery
    ) -> AsyncIterator[tuple[TenantWriter, Candidates]]:
        """A transaction that holds the tenant's lock, and the clusters that new faces may join.

        A tenant that does not exist yet is made, with `makes_tenants`. Most of the search runs
        before the tenant is locked and is brought up to date under the lock, so inserts into one
        tenant wait for each other as briefly as possible.

        Returns:
            The writer, and the clusters that the faces of the query may join.

        Raises:
            NotFoundError: there is no such tenant, and it is not made.
            ModelReplacedError: the active space of the database is not the query's.
        """
        async with self._database.transaction(tenant_id) as connection:
            search = ClusterSearch(
                connection, tenant_id, self._search, self._codes, self._on_search
            )
            finds = await search.look_up(query)
            lock = SQL["lock_tenant" if self.makes_tenants else "lock_known_tenant"]
            locked = found(await connection.fetchrow(lock, tenant_id), "tenant")
            if locked["active_space"] not in (None, query.space):
                self._on_replaced()
                raise ModelReplacedError
            candidates = await search.clusters(
                finds, locked["changes"], obeys=locked["has_decisions"]
            )
            writer = TenantWriter(connection, tenant_id, LockedTenant.of(locked), self._on_insert)
            yield writer, candidates

    @asynccontextmanager
    async def creating(self, facts: TenantFacts) -> AsyncIterator[tuple[TenantWriter, bool]]:
        """A transaction that holds a tenant's lock, and whether it made the tenant.

        Args:
            facts: id and limits of the tenant, if there is none of this id.
        """
        tenant_id = TenantId(facts.tenant_id)
        async with self._database.transaction(tenant_id) as connection:
            made = await connection.fetchval(
                SQL["insert_tenant"],
                tenant_id,
                facts.max_images,
                facts.max_faces,
                facts.requests_per_minute,
            )
            row = await connection.fetchrow(SQL["lock_known_tenant"], tenant_id)
            locked = LockedTenant.of(found(row, "tenant"))
            writer = TenantWriter(connection, tenant_id, locked, self._on_insert)
            yield writer, made is not None

    async def tenants(self, behind: str, limit: int) -> list[TenantFacts]:
        """A page of all tenants, in the order of their ids.

        It takes a connection outside the pool, one at a time: those of the pool see one tenant.
        """
        async with self._listing, self._database.maintenance() as connection:
            rows = await connection.fetch(SQL["tenants"], behind, limit)
        return [TenantFacts(**row) for row in rows]

    @asynccontextmanager
    async def searching(
        self, tenant_id: TenantId, space: ModelSpace, ahead: PeopleQuery | None = None
    ) -> AsyncIterator[PeopleSearch]:
        """A search for people by vectors of a model, in a view of one moment that locks nothing.

        Args:
            ahead: what will be searched first, where that is known: codes in memory are searched
                for it while the transaction begins.

        Raises:
            NotFoundError: there is no such tenant.
            ModelReplacedError: the active space of the database is another one.
        """
        codes = None if self._codes is None else self._codes.held(tenant_id, space)
        probe = None
        if codes is not None and ahead is not None and ahead.is_of_all:
            probe = ProbeAhead(codes, ahead)
        try:
            async with self._database.snapshot(tenant_id) as connection:
                faces = self._faces_of(connection, tenant_id)
                state = await faces.state(space, generic_plans=codes is not None)
                yield self._search_from(connection, tenant_id, space, state, faces, probe)
        finally:
            if probe is not None:
                probe.end()

    @asynccontextmanager
    async def doubting(self, tenant_id: TenantId, space: ModelSpace) -> AsyncIterator[DoubtReader]:
        """What questions are looked for in, in a view of one moment that locks nothing.

        Raises:
            NotFoundError, ModelReplacedError: as `searching`.
        """
        async with self._database.snapshot(tenant_id) as connection:
            faces = self._faces_of(connection, tenant_id)
            state = await faces.state(space)
            search = self._search_from(connection, tenant_id, space, state, faces)
            yield DoubtReader(connection, tenant_id, space, search)

    @asynccontextmanager
    async def asking(
        self, tenant_id: TenantId, position: AskingPosition
    ) -> AsyncIterator[QuestionWriter]:
        """A transaction that holds the tenant's lock, and moves the search for questions on.

        Raises:
            NotFoundError: there is no such tenant.
        """
        async with self._database.transaction(tenant_id) as connection:
            row = await connection.fetchrow(
                SQL["move_asking_on"],
                tenant_id,
                position.seq,
                position.change,
                position.match_factor,
            )
            found(row, "tenant")
            yield QuestionWriter(connection, tenant_id)

    @asynccontextmanager
    async def searching_by_face(
        self, tenant_id: TenantId, space: ModelSpace, face_id: FaceId
    ) -> AsyncIterator[tuple[PeopleSearch, StoredFace, Embedding]]:
        """The same by a stored face: the search, the face, and its vector of the model.

        Raises:
            NotFoundError: there is no such tenant, or it has no such face.
            ModelReplacedError: the active space of the database is another one.
            FaceNotEmbeddedError: the face has no vector of the model.
        """
        key = known_uuid(face_id, "face")
        async with self._database.snapshot(tenant_id) as connection:
            faces = self._faces_of(connection, tenant_id)
            has_codes = self._codes is not None and self._codes.has(tenant_id, space)
            state = await faces.state_and_face(space, key, generic_plans=has_codes)
            search = self._search_from(connection, tenant_id, space, state, faces)
            yield search, *embedded_face(state)

    def _faces_of(self, connection: asyncpg.Connection, tenant_id: TenantId) -> ClusterSearch:
        return ClusterSearch(connection, tenant_id, self._search, self._codes, self._on_search)

    def _search_from(
        self,
        connection: asyncpg.Connection,
        tenant_id: TenantId,
        space: ModelSpace,
        state: asyncpg.Record,
        faces: ClusterSearch,
        ahead: ProbeAhead | None = None,
    ) -> PeopleSearch:
        """A search of a tenant in this state.

        Raises:
            NotFoundError, ModelReplacedError: as `searching`.
        """
        if state["active_space"] not in (None, space):
            self._on_replaced()
            raise ModelReplacedError
        if state["changes"] is None:
            raise NotFoundError("tenant")
        codes = faces.codes(space, state)
        return PeopleSearch(
            connection, tenant_id, space, state, faces, codes, ahead, self._on_search
        )

    async def ping(self) -> None:
        """Return when the database answers."""
        await self._database.ping()

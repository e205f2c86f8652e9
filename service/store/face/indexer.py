"""Maintains the HNSW indexes: one for each large tenant, which takes in new vectors in batches."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import asyncpg

from service.domain.errors import StoreUnavailableError
from service.domain.types import ModelSpace, TenantId
from service.store.database.database import Database
from service.store.database.statements import SQL
from service.store.face.search import INDEX_PREFIX, vector_index_name

_logger = logging.getLogger(__name__)

# The memory of a build per vector, beside its numbers: the vector's lists of neighbours.
_BUILD_BYTES_PER_VECTOR = 1536
_BYTES_PER_NUMBER = 2
_MIB = 2**20
_INSERT_BATCH_SIZE = 100
_MARK_BATCH_SIZE = 5000
_RETRY_DELAY_S = 5.0


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Which tenants have an HNSW index, and how it is built.

    exact_max_faces: tenants with more faces get an index. It is dropped below half of this number.
    max_waiting: the number of waiting vectors of a tenant at which all of them are taken in.
    m, ef_construction: the parameters of HNSW: links per node, and candidates during the build.
    build_memory_mb: the memory limit of one build. A build that exceeds it goes on slowly.
    build_workers: the number of additional processes of one build.
    interval_s: the time between two checks of all tenants.
    """

    exact_max_faces: int
    max_waiting: int
    m: int
    ef_construction: int
    build_memory_mb: int
    build_workers: int
    interval_s: float


@dataclass(frozen=True, slots=True)
class VectorSet:
    """The numbers of one tenant's vectors of one model that are indexed, and that wait for it."""

    tenant_id: TenantId
    space: ModelSpace
    indexed: int
    waiting: int

    @property
    def index_name(self) -> str:
        """The name of its index, whether there is one or not."""
        return vector_index_name(self.tenant_id, self.space)


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """An index in the database; an index that is not valid is being built, or broken."""

    name: str
    is_valid: bool
    size_bytes: int


class Indexer:
    """Builds, fills and drops indexes in the background, according to the sizes of the tenants.

    The results of a search never depend on it: without a valid index a search is exact, and waiting
    vectors are always compared exactly. Every step may be interrupted; the next round continues.

    Args:
        on_built: called after each build, with False if the build failed.
        on_taken: called with the number of vectors that an index has taken in.
    """

    def __init__(
        self,
        database: Database,
        settings: IndexSettings,
        *,
        on_built: Callable[[bool], None] = lambda built: None,
        on_taken: Callable[[int], None] = lambda vectors: None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._on_built = on_built
        self._on_taken = on_taken
        self._inserted: Counter[TenantId] = Counter()
        self._called = asyncio.Event()
        self._check_all_at = 0.0

    def follow(self, settings: IndexSettings) -> None:
        """Use other settings from now on; if they differ, check all tenants soon."""
        if settings != self._settings:
            self._settings = settings
            self._check_all_soon()

    def note_insert(self, tenant_id: TenantId, faces: int) -> None:
        """Count new faces of a tenant; a tenant with many new faces is checked soon."""
        self._inserted[tenant_id] += faces
        if self._inserted[tenant_id] >= self._settings.max_waiting:
            self._called.set()

    def note_deletion(self) -> None:
        """Note that a tenant was deleted, so that its indexes are dropped soon."""
        self._check_all_soon()

    def _check_all_soon(self) -> None:
        self._check_all_at = 0.0
        self._called.set()

    async def run(self) -> None:
        """Maintain the indexes until cancelled; a failed round is repeated."""
        while True:
            checks_all = time.monotonic() >= self._check_all_at
            tenants = None if checks_all else self._grown()
            if checks_all:
                self._check_all_at = time.monotonic() + self._settings.interval_s
                self._inserted.clear()  # bounds the number of counters
            try:
                done = await self.round(tenants)
            except StoreUnavailableError as error:
                _logger.warning("vector indexes were not checked: %s", error)
                done = False
            except Exception:  # searches are correct without the indexes
                _logger.exception("vector indexes were not checked")
                done = False
            if not done:  # the other process may take long, and does not know these tenants
                self._inserted.update(dict.fromkeys(tenants or (), self._settings.max_waiting))
                if checks_all:
                    self._check_all_at = time.monotonic() + _RETRY_DELAY_S
                await asyncio.sleep(_RETRY_DELAY_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._called.wait(), self._check_all_at - time.monotonic())
            self._called.clear()

    def _grown(self) -> list[TenantId]:
        grown = [t for t, faces in self._inserted.items() if faces >= self._settings.max_waiting]
        for tenant_id in grown:
            del self._inserted[tenant_id]
        return grown

    async def round(self, tenants: list[TenantId] | None = None) -> bool:
        """Check some tenants, or all, once; returns False if another process is doing so.

        Raises:
            StoreUnavailableError: the database does not answer.
        """
        async with self._database.maintenance() as connection:
            if not await connection.fetchval(SQL["lock_indexing"]):
                return False
            indexes = {each.name: each for each in await vector_indexes(connection)}
            least = self._settings.exact_max_faces // 2
            named: set[str] = set()
            for tenant_id in [None] if tenants is None else tenants:
                for each in await vector_sets(connection, least, tenant_id):
                    named.add(each.index_name)
                    await self._maintain(connection, each, indexes.get(each.index_name))
            if tenants is None:
                for name in sorted(set(indexes) - named):
                    await _drop(connection, name)
                    _logger.info("vector index dropped: its tenant was deleted or is small")
        return True

    async def _maintain(
        self, connection: asyncpg.Connection, vectors: VectorSet, index: VectorIndex | None
    ) -> None:
        settings = self._settings
        if index is None or not index.is_valid:
            if vectors.indexed + vectors.waiting <= settings.exact_max_faces:
                return
            if index is not None:
                _logger.warning("vector index %s is not valid: it is rebuilt", index.name)
                await _drop(connection, index.name)
            await self._build(connection, vectors)
        elif vectors.waiting >= settings.max_waiting:
            self._on_taken(await _take(connection, vectors, _INSERT_BATCH_SIZE))

    async def _build(self, connection: asyncpg.Connection, vectors: VectorSet) -> None:
        """Mark all vectors as indexed, which is cheap while there is no index, and build it."""
        if await _take(connection, vectors, _MARK_BATCH_SIZE):
            clean_up = await connection.fetchval(SQL["statement_to_clean_up"], vectors.tenant_id)
            if clean_up is not None:
                await connection.execute(clean_up)
        settings, faces = self._settings, vectors.indexed + vectors.waiting
        build = await connection.fetchrow(
            SQL["statement_to_build_index"],
            vectors.index_name,
            vectors.tenant_id,
            vectors.space,
            settings.m,
            settings.ef_construction,
        )
        if build is None:  # its last face has just been deleted
            return
        each = _BUILD_BYTES_PER_VECTOR + _BYTES_PER_NUMBER * build["dimension"]
        memory_mb = min(settings.build_memory_mb, 64 + faces * each // _MIB)
        began = time.monotonic()
        for workers in sorted({settings.build_workers, 0}, reverse=True):
            await connection.execute(SQL["use_build_settings"], memory_mb * 1024, workers)
            try:
                await connection.execute(build["statement"])
                break
            except asyncpg.PostgresError as error:
                await _drop(connection, vectors.index_name)
                if workers == 0:
                    self._on_built(False)
                    _logger.error("vector index not built, searches stay exact: %s", error)
                    return
                # The processes of a build use shared memory, which is small in a container.
                _logger.warning("vector index not built in parallel: %s", error)
        self._on_built(True)
        _logger.info(
            "vector index built",
            extra={"fields": {"faces": faces, "seconds": round(time.monotonic() - began, 1)}},
        )


async def vector_sets(
    connection: asyncpg.Connection, least: int, tenant_id: TenantId | None = None
) -> list[VectorSet]:
    """The sets of at least `least` vectors, of one tenant or of all."""
    rows = await connection.fetch(SQL["vector_sets"], least, tenant_id)
    return [
        VectorSet(
            TenantId(row["tenant_id"]),
            ModelSpace(row["model_space"]),
            row["indexed"],
            row["waiting"],
        )
        for row in rows
    ]


async def vector_indexes(connection: asyncpg.Connection) -> list[VectorIndex]:
    """All HNSW indexes of the database that an indexer has built."""
    return [
        VectorIndex(**row) for row in await connection.fetch(SQL["vector_indexes"], INDEX_PREFIX)
    ]


async def _take(connection: asyncpg.Connection, vectors: VectorSet, at_once: int) -> int:
    """Mark waiting vectors as indexed, in batches; returns their number."""
    taken = 0
    while taken < vectors.waiting:
        status = await connection.execute(
            SQL["take_into_index"], vectors.tenant_id, vectors.space, at_once
        )
        changed = int(status.rpartition(" ")[2])
        taken += changed
        if changed < at_once:
            break
    return taken


async def _drop(connection: asyncpg.Connection, name: str) -> None:
    await connection.execute(await connection.fetchval(SQL["statement_to_drop_index"], name))

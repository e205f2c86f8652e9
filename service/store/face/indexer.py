"""Keeps the HNSW indexes: one for each large tenant, and new vectors taken into it in batches."""

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

# What a build takes for each vector beside its numbers: its neighbours and their lists.
_BUILD_BYTES_PER_VECTOR = 1536
_BYTES_PER_NUMBER = 2
_MIB = 2**20
_TAKEN_AT_ONCE = 100
_MARKED_AT_ONCE = 5000
_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """When there is an HNSW index, and how it is built.

    exact_max_faces: larger tenants have an index; it goes when a tenant has less than half.
    max_waiting: as soon as so many vectors of an indexed tenant wait, all of them are taken in.
    m, ef_construction: how well the graph is connected, and how hard the build looks for that.
    build_memory_mb: at most so much for one build; one that needs more of it goes on slowly.
    build_workers: processes that help with one build.
    interval_s: how often all tenants are looked at, told of inserts or not.
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
    """One tenant's vectors of one model: those taken into an index and those that wait."""

    tenant_id: TenantId
    space: ModelSpace
    indexed: int
    waiting: int

    @property
    def index_name(self) -> str:
        """What its index is called, where it has one."""
        return vector_index_name(self.tenant_id, self.space)


@dataclass(frozen=True, slots=True)
class VectorIndex:
    """An index as it lies in the database; one that is not valid is being built, or broken."""

    name: str
    is_valid: bool
    size_bytes: int


class Indexer:
    """Brings indexes to what the tenants' sizes ask for, in the background.

    A search never depends on it: without a valid index it is exact, and vectors that wait are
    compared exactly. Every step may be cut off at any moment; the next round goes on from there.

    Args:
        on_built: told of each index built, or with False of one that could not be.
        on_taken: told how many vectors were taken into an index.
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
        self._look_at_all_at = 0.0

    def follow(self, settings: IndexSettings) -> None:
        """Keep the indexes by other settings: all tenants are looked at soon where they differ."""
        if settings != self._settings:
            self._settings = settings
            self._look_at_all_soon()

    def note_insert(self, tenant_id: TenantId, faces: int) -> None:
        """Take note of new faces; a tenant with many of them is looked at soon."""
        self._inserted[tenant_id] += faces
        if self._inserted[tenant_id] >= self._settings.max_waiting:
            self._called.set()

    def note_deletion(self) -> None:
        """Take note that a tenant is gone: its indexes go soon."""
        self._look_at_all_soon()

    def _look_at_all_soon(self) -> None:
        self._look_at_all_at = 0.0
        self._called.set()

    async def run(self) -> None:
        """Look after the indexes until cancelled; what fails is tried again in the next round."""
        while True:
            look_at_all = time.monotonic() >= self._look_at_all_at
            tenants = None if look_at_all else self._grown()
            if look_at_all:
                self._look_at_all_at = time.monotonic() + self._settings.interval_s
                self._inserted.clear()  # else tenants that stay small are counted for ever
            try:
                done = await self.round(tenants)
            except StoreUnavailableError as error:
                _logger.warning("vector indexes not looked after: %s", error)
                done = False
            except Exception:  # whatever it is, searches are right without the indexes
                _logger.exception("vector indexes not looked after")
                done = False
            if not done:  # another process may be at it for long, with tenants of its own
                self._inserted.update(dict.fromkeys(tenants or (), self._settings.max_waiting))
                if look_at_all:
                    self._look_at_all_at = time.monotonic() + _PAUSE_S
                await asyncio.sleep(_PAUSE_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._called.wait(), self._look_at_all_at - time.monotonic())
            self._called.clear()

    def _grown(self) -> list[TenantId]:
        grown = [t for t, faces in self._inserted.items() if faces >= self._settings.max_waiting]
        for tenant_id in grown:
            del self._inserted[tenant_id]
        return grown

    async def round(self, tenants: list[TenantId] | None = None) -> bool:
        """Look after some tenants, or all, once; False where another process is at it.

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
                    await self._look_after(connection, each, indexes.get(each.index_name))
            if tenants is None:
                for name in sorted(set(indexes) - named):
                    await _drop(connection, name)
                    _logger.info("vector index dropped: its tenant is gone or small")
        return True

    async def _look_after(
        self, connection: asyncpg.Connection, vectors: VectorSet, index: VectorIndex | None
    ) -> None:
        settings = self._settings
        if index is None or not index.is_valid:
            if vectors.indexed + vectors.waiting <= settings.exact_max_faces:
                return
            if index is not None:
                _logger.warning("vector index %s is not valid: it is built anew", index.name)
                await _drop(connection, index.name)
            await self._build(connection, vectors)
        elif vectors.waiting >= settings.max_waiting:
            self._on_taken(await _take(connection, vectors, _TAKEN_AT_ONCE))

    async def _build(self, connection: asyncpg.Connection, vectors: VectorSet) -> None:
        """Mark what there is, which costs little without an index, and build over that."""
        if await _take(connection, vectors, _MARKED_AT_ONCE):
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
        if build is None:  # all its faces were deleted meanwhile
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
                # The processes of a build share memory, of which a container has little.
                _logger.warning("vector index not built in parallel: %s", error)
        self._on_built(True)
        _logger.info(
            "vector index built",
            extra={"fields": {"faces": faces, "seconds": round(time.monotonic() - began, 1)}},
        )


async def vector_sets(
    connection: asyncpg.Connection, least: int, tenant_id: TenantId | None = None
) -> list[VectorSet]:
    """The sets of at least so many vectors, of one tenant or of all."""
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
    """Every HNSW index of the database that the indexer made."""
    return [
        VectorIndex(**row) for row in await connection.fetch(SQL["vector_indexes"], INDEX_PREFIX)
    ]


async def _take(connection: asyncpg.Connection, vectors: VectorSet, at_once: int) -> int:
    """Mark the vectors that waited as indexed, batch by batch; returns how many."""
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

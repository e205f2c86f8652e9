"""Indexes of large tenants: built, kept, rebuilt, and searched only while they are whole."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from uuid import UUID

import asyncpg
import numpy as np
import pytest
from pgvector import HalfVector

from bench.common.crowd import SPACE, Crowd, crowd, load, number_of
from service.domain.types import TenantId
from service.store.database.database import Database
from service.store.database.statements import SQL, with_dimension
from service.store.face.indexer import Indexer, IndexSettings, vector_indexes, vector_sets
from service.store.face.repository import Repository
from service.store.face.search import ClusterSearch, SearchSettings, vector_index_name
from tests.support.databases import Databases

LARGE, SMALL = TenantId("large; it's one"), TenantId("small 2")
NAME = vector_index_name(LARGE, SPACE)
SETTINGS = IndexSettings(
    exact_max_faces=1000,
    max_waiting=100,
    m=16,
    ef_construction=64,
    build_memory_mb=64,
    build_workers=0,
    interval_s=3600.0,
)
SEARCH = SearchSettings(ef_search=200)

# They share a database with two tenants, and one with the index of the larger one.
pytestmark = pytest.mark.xdist_group("vector indexes")


class Stored:
    """A large tenant and a small one, and how the large one is searched."""

    def __init__(self, database: Database, owner: asyncpg.Connection, people: Crowd) -> None:
        self.database = database
        self.owner = owner
        self.people = people
        self.taken: list[int] = []
        self.built: list[bool] = []
        self.indexer = Indexer(
            database, SETTINGS, on_built=self.built.append, on_taken=self.taken.append
        )

    async def recall(self, *, path: str) -> float:
        """The share of ten true neighbours that a search finds, which must go this way."""
        queries = self.people.more_faces(30, np.random.default_rng(1))
        paths: list[str] = []
        async with self.database.snapshot(LARGE) as connection:
            search = ClusterSearch(connection, LARGE, SEARCH, on_search=paths.append)
            near = await search.nearest_faces(list(queries), SPACE, 10)
        assert paths == [path]
        best = np.argsort(-(queries @ self.people.faces.T), axis=1)[:, :10]
        found = [{number_of(face.face_id) for face in faces} for faces in near]
        return float(np.mean([len(set(a) & b) / 10 for a, b in zip(best, found, strict=True)]))

    async def is_valid(self) -> bool | None:
        """Whether the large tenant's index is; None without one."""
        found = {each.name: each.is_valid for each in await vector_indexes(self.owner)}
        return found.get(NAME)

    async def counted(self) -> tuple[int, int]:
        """How many of the large tenant's vectors are indexed and how many wait."""
        (vectors,) = await vector_sets(self.owner, 1, LARGE)
        return vectors.indexed, vectors.waiting

    async def wait_with(self, count: int) -> None:
        """Let some vectors be as they are after an insert."""
        await self.owner.execute(
            "UPDATE face_vector SET indexed = false WHERE (tenant_id, face_id) IN"
            " (SELECT tenant_id, face_id FROM face_vector WHERE tenant_id = $1 LIMIT $2)",
            LARGE,
            count,
        )


_people = cache(lambda: crowd(2000, seed=1))


async def _fill(database: Database, _: Path) -> None:
    async with database.maintenance() as owner:
        await load(owner, LARGE, _people())
        await load(owner, SMALL, crowd(100, seed=2))


@pytest.fixture
async def stored(databases: Databases, uploads: Path) -> AsyncIterator[Stored]:
    database = await databases.filled(_fill, uploads)
    async with database.maintenance() as owner:
        yield Stored(database, owner, _people())


async def _index(database: Database, _: Path) -> None:
    await Indexer(database, SETTINGS).round()


@pytest.fixture
async def indexed(databases: Databases, uploads: Path) -> AsyncIterator[Stored]:
    """The same with the index of the large tenant."""
    database = await databases.filled(_index, uploads, onto=_fill)
    async with database.maintenance() as owner:
        yield Stored(database, owner, _people())


async def test_a_large_tenant_gets_an_index_and_a_small_one_none(stored: Stored) -> None:
    assert await stored.recall(path="exact") == 1.0
    assert await stored.indexer.round()
    assert [each.name for each in await vector_indexes(stored.owner)] == [NAME]
    assert stored.built == [True]
    assert await stored.counted() == (2000, 0)
    assert await stored.recall(path="index") >= 0.98


async def test_a_search_by_index_uses_the_tenants_index_and_no_sort_of_all(stored: Stored) -> None:
    await stored.owner.execute("ANALYZE")  # says that no vector is in an index
    await stored.indexer.round()
    async with stored.database.transaction(LARGE) as connection:
        await connection.execute(SQL["begin_search"], SEARCH.ef_search)
        plan = await _plan(connection, "nearest_faces_by_index", 10, 0.5)
    assert f"Index Scan using {NAME}" in plan
    assert "Seq Scan" not in plan


async def test_an_exact_search_reads_one_partition_by_the_tenants_index(stored: Stored) -> None:
    await stored.owner.execute("ANALYZE")
    partitions = await stored.owner.fetch(
        "SELECT DISTINCT tableoid FROM face_vector WHERE tenant_id IN ($1, $2)", LARGE, SMALL
    )
    assert len(partitions) == 1  # else the small tenant's partition would be small as well
    async with stored.database.transaction(SMALL) as connection:
        plan = await _plan(connection, "nearest_faces_exact", 10, 0.5, tenant=SMALL)
    assert "Seq Scan" not in plan
    assert len(set(re.findall(r"on face_vector_(\d\d)\b", plan))) == 1


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    ("name", "further"),
    [
        ("nearest_faces_among", f"ARRAY['{UUID(int=1)}']::uuid[], ARRAY[1], 0, 10, 0.5"),
        ("nearest_faces_among_new", "0, 0.5"),
        ("people_of_faces", f"ARRAY['{UUID(int=1)}']::uuid[], ARRAY[1], 0, 10, NULL, false"),
    ],
)
async def test_chosen_faces_are_read_by_their_keys_with_a_plan_for_any_tenant(
    stored: Stored, name: str, further: str, alone: bool
) -> None:
    """Also where all faces are of one tenant, who is then no reason to choose an index."""
    if alone:
        await stored.owner.execute("DELETE FROM face WHERE tenant_id <> $1", LARGE)
        await stored.owner.execute("VACUUM ANALYZE face")
    await stored.indexer.round()  # statistics do not know what that changed
    vectors = f"ARRAY['[{','.join(['0.1'] * 512)}]'::halfvec]"
    async with stored.database.transaction(LARGE) as connection:
        await connection.execute(f"PREPARE asked AS {SQL[name]}")
        await connection.fetchrow(SQL["search_state"], LARGE, NAME, True)
        rows = await connection.fetch(
            f"EXPLAIN EXECUTE asked ($${LARGE}$$, '{SPACE}', {vectors}, {further})"
        )
        await connection.execute("DEALLOCATE asked")
    plan = "\n".join(row[0] for row in rows)
    assert "Subplans Removed: 15" in plan
    assert set(re.findall(r"Index \w*\s?Scan using (\w+)", plan)) <= {
        *(f"face_vector_{part:02}_pkey" for part in range(16)),
        *("face_pkey", "face_seq", "cluster_sum_pkey", "cluster_pkey", "cluster_by_label"),
    }
    assert not re.search("Seq Scan on face", plan)


async def _plan(
    connection: asyncpg.Connection, name: str, *further: object, tenant: TenantId = LARGE
) -> str:
    vectors = [HalfVector([0.1] * 512)]
    statement = with_dimension(name, 512)
    rows = await connection.fetch(f"EXPLAIN {statement}", tenant, SPACE, vectors, *further)
    return "\n".join(row[0] for row in rows)


async def test_faces_that_nothing_is_matched_against_are_in_no_index_and_wait_for_none(
    stored: Stored,
) -> None:
    bad = "UPDATE face SET is_matchable = false WHERE tenant_id = $1 AND face_id = ANY($2)"
    await stored.owner.execute(bad, LARGE, [UUID(int=number) for number in range(1, 201)])
    await stored.indexer.round()
    assert await stored.counted() == (1800, 0)
    await stored.owner.execute(bad, LARGE, [UUID(int=number) for number in range(201, 401)])
    assert await stored.counted() == (1600, 0)
    await stored.indexer.round()
    assert await stored.owner.fetchval("SELECT count(*) FROM face_vector WHERE indexed") == 1600
    assert stored.taken == []


async def test_new_vectors_are_found_before_the_index_takes_them_in(indexed: Stored) -> None:
    await indexed.wait_with(99)
    await indexed.indexer.round()
    assert await indexed.counted() == (1901, 99)  # too few to bother
    assert await indexed.recall(path="index") >= 0.98
    await indexed.wait_with(120)
    waiting = (await indexed.counted())[1]
    await indexed.indexer.round([LARGE])
    assert await indexed.counted() == (2000, 0)
    assert sum(indexed.taken) == waiting
    assert await indexed.recall(path="index") >= 0.98


async def test_a_broken_index_is_not_searched_and_is_built_anew(indexed: Stored) -> None:
    await indexed.owner.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass($1)", NAME
    )
    assert await indexed.recall(path="exact") == 1.0
    await indexed.indexer.round()
    assert indexed.built == [True]
    assert await indexed.is_valid()
    assert await indexed.recall(path="index") >= 0.98


async def test_a_missing_index_is_not_searched_and_is_built_anew(indexed: Stored) -> None:
    await indexed.owner.execute(f"DROP INDEX {NAME}")
    assert await indexed.recall(path="exact") == 1.0
    await indexed.indexer.round()
    assert await indexed.recall(path="index") >= 0.98


async def test_searches_are_exact_while_the_index_is_being_built(stored: Stored) -> None:
    """A transaction that is older than the build keeps it from ending."""
    async with stored.database.snapshot(SMALL) as older:
        await older.fetch("SELECT face_id FROM face_vector")
        build = asyncio.create_task(stored.indexer.round())
        while await stored.is_valid() is not False:
            assert not build.done()
        assert await stored.recall(path="exact") == 1.0
        assert not build.done()
    await build
    assert await stored.recall(path="index") >= 0.98


async def test_a_build_that_was_cut_off_is_done_again(stored: Stored) -> None:
    async with stored.database.snapshot(SMALL) as older:
        await older.fetch("SELECT face_id FROM face_vector")
        build = asyncio.create_task(stored.indexer.round())
        while await stored.is_valid() is not False:
            assert not build.done()
        build.cancel()
        await asyncio.wait([build])
    assert await stored.is_valid() is False
    while not await stored.indexer.round():
        pass  # the server is still ending the connection that was cut off
    assert await stored.recall(path="index") >= 0.98


async def test_a_build_that_fails_leaves_searches_exact(stored: Stored) -> None:
    stored.indexer.follow(replace(SETTINGS, m=16, ef_construction=8))  # fewer than 2 x m
    await stored.indexer.round()
    assert stored.built == [False]
    assert await stored.is_valid() is None
    assert await stored.recall(path="exact") == 1.0


async def test_the_index_of_a_tenant_that_is_gone_or_small_is_dropped(indexed: Stored) -> None:
    async with indexed.database.transaction(LARGE) as connection:
        await connection.execute(
            "DELETE FROM face WHERE face_id IN (SELECT face_id FROM face LIMIT 1501)"
        )
    await indexed.indexer.round()
    assert await indexed.is_valid() is None


async def test_neighbours_behind_many_deleted_faces_are_found(indexed: Stored) -> None:
    query = indexed.people.faces[0]
    cosines = indexed.people.faces @ query
    order = np.argsort(-cosines)
    gone = [int(number) + 1 for number in order[:900]]
    async with indexed.database.transaction(LARGE) as connection:
        await connection.execute(
            "DELETE FROM face WHERE face_id = ANY("
            " SELECT lpad(to_hex(n), 32, '0')::uuid FROM unnest($1::bigint[]) AS n)",
            gone,
        )
    async with indexed.database.snapshot(LARGE) as connection:
        search = ClusterSearch(connection, LARGE, SEARCH)
        ((*near,),) = await search.nearest_faces([query], SPACE, 10)
    assert len(near) == 10
    # So far away one is as near as another; the index judges roughly and may miss the first.
    assert near[0].distance <= 1 - cosines[order[900]] + 0.05


async def test_one_indexer_works_at_a_time(stored: Stored) -> None:
    async with stored.database.maintenance() as other:
        assert await other.fetchval(SQL["lock_indexing"])
        assert not await stored.indexer.round()
    assert stored.built == []


async def test_a_tenant_that_grows_is_looked_at_without_being_asked(stored: Stored) -> None:
    built, taken = asyncio.Event(), asyncio.Event()
    indexer = Indexer(
        stored.database,
        SETTINGS,
        on_built=lambda ok: built.set(),
        on_taken=lambda vectors: taken.set(),
    )
    running = asyncio.create_task(indexer.run())
    try:
        await built.wait()
        await stored.wait_with(100)
        indexer.note_insert(LARGE, 100)
        await taken.wait()
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert await stored.counted() == (2000, 0)


async def test_other_settings_are_followed_at_once(stored: Stored) -> None:
    built = asyncio.Event()
    indexer = Indexer(stored.database, SETTINGS, on_built=lambda ok: built.set())
    running = asyncio.create_task(indexer.run())
    try:
        await built.wait()
        indexer.follow(replace(SETTINGS, exact_max_faces=10_000))
        while await stored.is_valid() is not None:
            assert not running.done()
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_inserts_are_forgotten_once_all_tenants_were_looked_at(stored: Stored) -> None:
    late = TenantId("inserts meanwhile")
    built = asyncio.Event()

    def note(_: bool) -> None:
        indexer.note_insert(late, 1)
        built.set()

    indexer = Indexer(stored.database, SETTINGS, on_built=note)
    for number in range(1000):
        indexer.note_insert(TenantId(f"tenant {number}"), SETTINGS.max_waiting - 1)
    running = asyncio.create_task(indexer.run())
    try:
        await built.wait()
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert indexer._inserted == {late: 1}


async def test_the_index_of_a_deleted_tenant_goes_without_being_asked(stored: Stored) -> None:
    built = asyncio.Event()
    indexer = Indexer(stored.database, SETTINGS, on_built=lambda ok: built.set())
    repository = Repository(stored.database, SEARCH, on_delete=indexer.note_deletion)
    running = asyncio.create_task(indexer.run())
    try:
        await built.wait()
        async with repository.writing(LARGE) as tenant:
            await tenant.delete_tenant()
        while await stored.is_valid() is not None:
            assert not running.done()
    finally:
        running.cancel()
        await asyncio.wait([running])

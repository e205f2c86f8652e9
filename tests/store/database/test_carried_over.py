"""A database of the release before is carried over with all that is in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import numpy as np
import pytest
from pgvector.asyncpg import register_vector

from bench.common.crowd import SPACE, Crowd, crowd, load, number_of
from service.domain.matching import ClusterQuery, fixed_rule
from service.domain.types import FaceId, TenantId
from service.store.database import migrations
from service.store.database.database import Database, DatabaseSettings
from service.store.database.migrations import load_migrations, migrate
from service.store.face.indexer import Indexer, IndexSettings, vector_indexes
from service.store.face.repository import Repository
from service.store.face.search import ClusterSearch, SearchSettings, vector_index_name
from tests.support.sums import are_exact, kept

LARGE, SMALL = TenantId("large; it's one"), TenantId("small")
BEFORE = 6  # the last migration of the release before
NAME = vector_index_name(LARGE, SPACE)
SEARCH = SearchSettings(200)
# By name, what it had then.
ROWS = {
    "tenant": "tenant_id, created_at, changes",
    "image": "tenant_id, image_id, blob_key, format, width, height, size_bytes, sha256, phash,"
    " created_at",
    "cluster": "tenant_id, cluster_id, created_at",
    "face": "tenant_id, face_id, image_id, cluster_id, seq, box, landmarks, area, confidence,"
    " is_auto_matched, distance",
    "face_vector": "tenant_id, face_id, model_space, embedding::text, indexed",
    "review": "tenant_id, review_id, cluster_id, created_at",
    "database_identity": "database_id",
}


async def rows(owner: asyncpg.Connection) -> dict[str, list[asyncpg.Record]]:
    return {
        table: await owner.fetch(f"SELECT {columns} FROM {table} ORDER BY 1, 2")
        if "," in columns
        else await owner.fetch(f"SELECT {columns} FROM {table}")
        for table, columns in ROWS.items()
    }


@pytest.fixture
async def owner(
    empty_database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[asyncpg.Connection]:
    """A database as the release before left it, with a tenant that has an HNSW index."""
    connection = await asyncpg.connect(
        host=empty_database.host,
        port=empty_database.port,
        user=empty_database.user,
        database=empty_database.dbname,
    )
    former = [each for each in load_migrations() if each.number <= BEFORE]
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "load_migrations", lambda: former)
        patch.setattr(migrations, "prepare_service_role", _no_role)
        assert await migrate(connection) == list(range(1, BEFORE + 1))
    await register_vector(connection)
    await load(connection, LARGE, people())
    await load(connection, SMALL, crowd(40, seed=2))
    await connection.execute(
        "INSERT INTO review (tenant_id, cluster_id) SELECT tenant_id, cluster_id FROM cluster"
    )
    await connection.execute("UPDATE face_vector SET indexed = true WHERE tenant_id = $1", LARGE)
    await connection.execute(
        f"CREATE INDEX {NAME} ON"
        f" {await connection.fetchval('SELECT tableoid::regclass FROM face_vector LIMIT 1')}"
        " USING hnsw (embedding halfvec_cosine_ops) WITH (m = 16, ef_construction = 64)"
        f" WHERE tenant_id = '{LARGE.replace(chr(39), chr(39) * 2)}' AND model_space = '{SPACE}'"
        " AND indexed"
    )
    yield connection
    await connection.close()


async def _no_role(connection: asyncpg.Connection) -> None:
    """The role is looked after when the service starts."""


def people() -> Crowd:
    return crowd(1200, seed=1)


async def test_everything_is_there_afterwards(
    owner: asyncpg.Connection, empty_database: DatabaseSettings
) -> None:
    before = await rows(owner)
    assert await vector_indexes(owner) != []
    await (await Database.open(empty_database)).close()
    assert await rows(owner) == before
    assert await vector_indexes(owner) == []  # of no use any more
    assert await are_exact(owner)
    sums = (await kept(owner)).sums
    assert sum(count for count, *_ in sums.values()) == 1240
    assert max(count for count, *_ in sums.values()) > 10
    assert await owner.fetch("SELECT DISTINCT is_matchable, quality FROM face") == [(True, None)]
    assert await owner.fetch("SELECT DISTINCT is_matchable FROM face_vector") == [(True,)]
    assert await owner.fetch("SELECT DISTINCT turned FROM image") == [(0,)]


async def test_faces_are_found_before_and_after_their_index_is_built_anew(
    owner: asyncpg.Connection, empty_database: DatabaseSettings
) -> None:
    database = await Database.open(empty_database)
    indexer = Indexer(database, IndexSettings(1000, 100, 16, 64, 64, 0, 3600.0))
    queries = people().more_faces(20, np.random.default_rng(1))
    best = np.argmax(queries @ people().faces.T, axis=1)
    for path in ("exact", "index"):
        paths: set[str] = set()
        async with database.snapshot(LARGE) as connection:
            search = ClusterSearch(connection, LARGE, SEARCH, on_search=paths.add)
            near = await search.nearest_faces(list(queries), SPACE, 1)
        assert paths == {path}
        assert [number_of(faces[0].face_id) for faces in near] == best.tolist()
        await indexer.round()
    (index,) = await vector_indexes(owner)
    assert (index.name, index.is_valid) == (NAME, True)
    await database.close()


async def test_a_new_face_is_measured_with_the_people_of_before(
    owner: asyncpg.Connection, empty_database: DatabaseSettings
) -> None:
    database = await Database.open(empty_database)
    repository = Repository(database, SEARCH)
    number = 7
    cluster = UUID(int=int(people().person_of[number]) + 1)
    query = ClusterQuery((people().faces[number],), SPACE, fixed_rule(0.5))
    async with repository.inserting(LARGE, query) as (_, candidates):
        ((nearest, *_),) = candidates.of_faces
    assert nearest.cluster_id == str(cluster)
    assert nearest.faces == int((people().person_of == people().person_of[number]).sum())
    async with repository.reading(LARGE) as tenant:
        face = await tenant.face(FaceId(str(UUID(int=number + 1))))
    assert (face.quality, face.is_matchable) == (None, True)
    await database.close()

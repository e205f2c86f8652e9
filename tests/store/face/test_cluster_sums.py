"""The sums of clusters' vectors are exact, whoever writes, in whatever way and order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from pgvector import HalfVector

from bench.common.crowd import SPACE, Crowd, crowd, id_of, load
from service.domain.matching import ClusterQuery, fixed_rule
from service.domain.types import (
    ClusterId,
    FaceId,
    ImageId,
    ModelSpace,
    NewFace,
    NewImage,
    TenantId,
)
from service.store.database.active_model import ActiveModel
from service.store.database.database import Database, DatabaseSettings
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.store.face.vectors import open_vectors
from tests.support.analysed import photo
from tests.support.sums import Kept, are_exact, kept

OTHER = ActiveModel(ModelSpace("made-up/of fewer numbers"), "other")
DIMENSION, OTHER_DIMENSION = 7, 3
ANNA, BERTA = TenantId("anna"), TenantId("berta's")
EXAMPLES = 20


class Writers:
    """All that writes to a tenant; what it writes depends on a number alone."""

    def __init__(self, database: Database, owner: asyncpg.Connection, number: int) -> None:
        self._database = database
        self._owner = owner
        self._repository = Repository(database, SearchSettings(200))
        self._rng = np.random.default_rng(number)

    async def insert_photo(self, tenant_id: TenantId) -> None:
        """Up to four faces, into clusters that are there or new; some are bad pictures."""
        analyzed = photo(*[self._vector() for _ in range(self._rng.integers(5))])
        image = NewImage(ImageId(self._id()), None, "a" * 64, analyzed, 9)
        known = await self._some("cluster_id FROM cluster", tenant_id, 2)
        chosen = [*map(str, known), *[self._id() for _ in analyzed.faces]][: len(analyzed.faces)]
        faces = [
            NewFace(
                FaceId(self._id()),
                ClusterId(cluster),
                face,
                face.detection.facial_area(640, 480),
                UUID(cluster) in known,
                None,
                bool(self._rng.random() < 0.8),
            )
            for cluster, face in zip(chosen, analyzed.faces, strict=True)
        ]
        query = ClusterQuery((), SPACE, fixed_rule(0.5))
        async with self._repository.inserting(tenant_id, query) as (tenant, _):
            opened = [face.cluster_id for face in faces if not face.is_auto_matched]
            await tenant.insert_photo(image, opened, faces, SPACE)

    async def move_face(self, tenant_id: TenantId) -> None:
        for face in await self._some("face_id FROM face", tenant_id):
            for cluster in await self._some("cluster_id FROM cluster", tenant_id):
                async with self._repository.writing(tenant_id) as tenant:
                    await tenant.move_face(
                        FaceId(str(face)), ClusterId(str(cluster)), override=True
                    )

    async def split_off(self, tenant_id: TenantId) -> None:
        """Two faces into a new cluster."""
        new = ClusterId(self._id())
        if faces := await self._some("face_id FROM face", tenant_id, 2):
            async with self._repository.writing(tenant_id) as tenant:
                await tenant.insert_cluster(new)
                for face in faces:
                    await tenant.move_face(FaceId(str(face)), new, override=True)

    async def merge(self, tenant_id: TenantId) -> None:
        both = await self._some("cluster_id FROM cluster", tenant_id, 2)
        if len(both) == 2:
            async with self._repository.writing(tenant_id) as tenant:
                await tenant.merge_clusters(*(ClusterId(str(each)) for each in both), override=True)

    async def delete_face(self, tenant_id: TenantId) -> None:
        for face in await self._some("face_id FROM face", tenant_id):
            async with self._repository.writing(tenant_id) as tenant:
                await tenant.delete_face(FaceId(str(face)))

    async def delete_image(self, tenant_id: TenantId) -> None:
        for image in await self._some("image_id FROM image", tenant_id):
            async with self._repository.writing(tenant_id) as tenant:
                await tenant.delete_image(ImageId(str(image)))

    async def delete_cluster(self, tenant_id: TenantId) -> None:
        for cluster in await self._some("cluster_id FROM cluster", tenant_id):
            async with self._repository.writing(tenant_id) as tenant:
                await tenant.delete_cluster(ClusterId(str(cluster)))

    async def delete_tenant(self, tenant_id: TenantId) -> None:
        if await self._some("tenant_id FROM tenant", tenant_id) and self._rng.random() < 0.3:
            async with self._repository.writing(tenant_id) as tenant:
                await tenant.delete_tenant()

    async def embed_again(self, tenant_id: TenantId) -> None:
        """Some of the faces, of all tenants, get vectors of another model."""
        async with open_vectors(self._database, OTHER) as vectors:
            lacking = await vectors.lacking(None, 0, None, 100)
            await vectors.add(
                [
                    (face, self._vector(OTHER_DIMENSION))
                    for face in lacking
                    if self._rng.random() < 0.5
                ]
            )

    async def delete_replaced(self, tenant_id: TenantId) -> None:
        async with open_vectors(self._database, OTHER) as vectors:
            async for _ in vectors.delete_replaced():
                pass

    async def judge(self, tenant_id: TenantId) -> None:
        """Bad pictures are taken for good ones, and the other way round."""
        faces = await self._some("face_id FROM face", tenant_id, 4)
        await self._change(
            tenant_id,
            "UPDATE face SET is_matchable = NOT is_matchable WHERE face_id = ANY($1)",
            faces,
        )

    async def exchange(self, tenant_id: TenantId) -> None:
        """One statement, by which clusters lose faces and get others, some of them judged anew."""
        faces = await self._some("face_id FROM face", tenant_id, 6)
        clusters = await self._some("cluster_id FROM cluster", tenant_id, 6)
        if faces and clusters:
            await self._change(
                tenant_id,
                "UPDATE face SET cluster_id = moved.cluster_id,"
                " is_matchable = is_matchable <> moved.is_otherwise"
                " FROM unnest($1::uuid[], $2::uuid[], $3::boolean[])"
                " AS moved (face_id, cluster_id, is_otherwise) WHERE face.face_id = moved.face_id",
                faces,
                [clusters[n % len(clusters)] for n in range(len(faces))],
                [bool(each) for each in self._rng.random(len(faces)) < 0.3],
            )

    async def delete_faces_at_once(self, tenant_id: TenantId) -> None:
        faces = await self._some("face_id FROM face", tenant_id, 4)
        await self._change(tenant_id, "DELETE FROM face WHERE face_id = ANY($1)", faces)

    async def delete_images_at_once(self, tenant_id: TenantId) -> None:
        images = await self._some("image_id FROM image", tenant_id, 3)
        await self._change(tenant_id, "DELETE FROM image WHERE image_id = ANY($1)", images)

    async def copy_faces(self, tenant_id: TenantId) -> None:
        """By COPY, as an import does."""
        clusters = await self._some("cluster_id FROM cluster", tenant_id, 2)
        for image in await self._some("image_id FROM image", tenant_id):
            faces = [(UUID(self._id()), each) for each in clusters * 3]
            await self._owner.copy_records_to_table(
                "face",
                columns=[
                    *("tenant_id", "face_id", "image_id", "cluster_id", "box", "landmarks"),
                    *("area", "confidence", "is_auto_matched"),
                ],
                records=[
                    (tenant_id, face, image, cluster, [1.0] * 4, [1.0] * 10, [1] * 4, 1.0, True)
                    for face, cluster in faces
                ],
            )
            await self._owner.copy_records_to_table(
                "face_vector",
                columns=["tenant_id", "face_id", "model_space", "embedding"],
                records=[(tenant_id, face, SPACE, HalfVector(self._vector())) for face, _ in faces],
            )

    async def change_vectors(self, tenant_id: TenantId) -> None:
        faces = await self._some("face_id FROM face_vector", tenant_id, 2)
        await self._owner.execute(
            "UPDATE face_vector SET embedding = $3"
            " WHERE tenant_id = $1 AND face_id = ANY($2) AND model_space = $4",
            *(tenant_id, faces, HalfVector(self._vector()), SPACE),
        )

    async def delete_vectors(self, tenant_id: TenantId) -> None:
        faces = await self._some("face_id FROM face_vector", tenant_id, 2)
        await self._change(tenant_id, "DELETE FROM face_vector WHERE face_id = ANY($1)", faces)

    async def take_into_index(self, tenant_id: TenantId) -> None:
        await self._owner.execute(
            "UPDATE face_vector SET indexed = NOT indexed WHERE tenant_id = $1", tenant_id
        )

    def _vector(self, dimension: int = DIMENSION) -> np.ndarray:
        """Numbers of all sizes that halves have, from the subnormal ones on."""
        scales = 2.0 ** self._rng.integers(-24, 2, dimension)
        vector = (self._rng.standard_normal(dimension) * scales).astype(np.float16)
        vector[0] += 1  # nothing divides by zero
        return vector.astype(np.float32)

    def _id(self) -> str:
        return str(UUID(bytes=self._rng.bytes(16)))

    async def _some(self, what: str, tenant_id: TenantId, count: int = 1) -> list[UUID]:
        """Ids of what there is, `count` or fewer."""
        rows = await self._owner.fetch(
            f"SELECT DISTINCT {what} WHERE tenant_id = $1 ORDER BY 1", tenant_id
        )
        chosen = self._rng.permutation(len(rows))[:count]
        return [rows[n][0] for n in chosen]

    async def _change(self, tenant_id: TenantId, statement: str, *arguments: object) -> None:
        """As the service's role, which sees one tenant."""
        async with self._database.transaction(tenant_id) as connection:
            await connection.execute(statement, *arguments)


WAYS = [name for name in vars(Writers) if not name.startswith("_")]


def hunt(settings_of: DatabaseSettings, *phases: Phase, before: str = "SELECT") -> None:
    """Let writers write until a sum is wrong; what they do comes from a fixed seed.

    Args:
        before: a statement that comes first.
    """
    with asyncio.Runner() as runner:
        database = runner.run(Database.open(settings_of))

        async def live(number: int, writes: Sequence[tuple[TenantId, str]]) -> None:
            async with database.maintenance() as owner:
                writers = Writers(database, owner, number)
                try:
                    for tenant_id in (ANNA, BERTA, ANNA):
                        await writers.insert_photo(tenant_id)
                    for tenant_id, way in writes:
                        await getattr(writers, way)(tenant_id)
                        assert await are_exact(owner), way
                finally:
                    await owner.execute("DELETE FROM tenant")
                assert await kept(owner) == Kept({}, {})

        async def prepare() -> None:
            async with database.maintenance() as owner:
                await owner.execute(before)

        @seed(1)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        )
        @given(
            st.integers(0, 2**32),
            st.lists(
                st.tuples(st.sampled_from([ANNA, ANNA, ANNA, BERTA]), st.sampled_from(WAYS)),
                min_size=15,
                max_size=30,
            ),
        )
        def is_exact(number: int, writes: list[tuple[TenantId, str]]) -> None:
            runner.run(live(number, writes))

        try:
            runner.run(prepare())
            is_exact()
        finally:
            runner.run(database.close())


def test_sums_and_counts_are_exact_after_any_writes(prepared_database: DatabaseSettings) -> None:
    hunt(prepared_database, Phase.generate, Phase.shrink)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER sum_inserted_vectors ON face_vector",
        "DROP TRIGGER sum_deleted_vectors ON face_vector",
        "DROP TRIGGER sum_changed_vector ON face_vector",
        "DROP TRIGGER sum_changed_faces ON face",
        "DROP TRIGGER sum_deleted_face ON face",
        "DROP TRIGGER count_opened_people ON cluster",
        "DROP TRIGGER count_deleted_people ON cluster",
    ],
)
def test_no_trigger_is_missing_unnoticed(
    prepared_database: DatabaseSettings, statement: str
) -> None:
    with pytest.raises((AssertionError, FlakyFailure)):
        hunt(prepared_database, Phase.generate, before=statement)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A database with a tenant of 600 faces, of which the first 400 are of one person."""

    database: Database
    owner: asyncpg.Connection
    people: Crowd
    repository: Repository

    def cluster(self, face: int) -> ClusterId:
        return ClusterId(str(id_of(int(self.people.person_of[face]))))


@pytest.fixture
async def loaded(database: Database) -> AsyncIterator[Loaded]:
    people = crowd(600, seed=1)
    people.person_of[:400] = people.person_of[0]
    async with database.maintenance() as owner:
        await load(owner, ANNA, people)
        yield Loaded(database, owner, people, Repository(database, SearchSettings(200)))


async def test_faces_that_are_copied_in_are_summed(loaded: Loaded) -> None:
    assert await are_exact(loaded.owner)
    sums = await kept(loaded.owner)
    assert sums.sums[ANNA, UUID(loaded.cluster(0)), SPACE][0] >= 400
    assert sum(each[0] for each in sums.sums.values()) == 600


async def test_a_large_cluster_that_is_merged_keeps_every_face_in_one_addition(
    loaded: Loaded,
) -> None:
    before = (await kept(loaded.owner)).sums
    source, target = loaded.cluster(0), loaded.cluster(599)
    written = "SELECT pg_stat_get_xact_tuples_updated('cluster_sum'::regclass)"
    async with loaded.repository.writing(ANNA) as tenant:
        await tenant.merge_clusters(source, target)
        assert await tenant._connection.fetchval(written) == 1
    assert await are_exact(loaded.owner)
    one, two = (before[ANNA, UUID(each), SPACE] for each in (source, target))
    merged = (await kept(loaded.owner)).sums[ANNA, UUID(target), SPACE]
    assert merged == tuple(a + b for a, b in zip(one, two, strict=True))


async def test_the_sum_of_a_cluster_that_is_deleted_is_not_taken_apart(loaded: Loaded) -> None:
    written = "SELECT pg_stat_get_xact_tuples_updated('cluster_sum'::regclass)"
    async with loaded.repository.writing(ANNA) as tenant:
        gone = await tenant.delete_cluster(loaded.cluster(0))
        assert await tenant._connection.fetchval(written) == 0
    assert gone.faces == gone.images >= 400
    assert await are_exact(loaded.owner)


async def test_sums_are_those_of_the_tenant_alone(loaded: Loaded) -> None:
    await load(loaded.owner, BERTA, crowd(600, seed=1))  # the same faces under the same ids
    async with loaded.database.transaction(ANNA) as connection:
        await connection.execute("UPDATE face SET cluster_id = $1", id_of(0))
        await connection.execute("DELETE FROM face WHERE face_id = ANY($1)", [id_of(1), id_of(2)])
    assert await are_exact(loaded.owner)


async def test_taking_vectors_into_an_index_writes_no_sum(loaded: Loaded) -> None:
    before = await loaded.owner.fetch("SELECT ctid, xmin, cluster_id FROM cluster_sum")
    await loaded.owner.execute("UPDATE face_vector SET indexed = true")
    after = await loaded.owner.fetch("SELECT ctid, xmin, cluster_id FROM cluster_sum")
    assert before == after


async def test_a_face_that_nothing_is_matched_against_any_more_leaves_sum_and_index(
    loaded: Loaded,
) -> None:
    owner = loaded.owner
    await owner.execute("UPDATE face_vector SET indexed = true")
    await owner.execute("UPDATE face SET is_matchable = false WHERE face_id = $1", id_of(5))
    assert await are_exact(owner)
    indexed = await owner.fetchval("SELECT indexed FROM face_vector WHERE face_id = $1", id_of(5))
    assert not indexed
    assert await owner.fetchval("SELECT count(*) FROM face_vector WHERE indexed") == 599

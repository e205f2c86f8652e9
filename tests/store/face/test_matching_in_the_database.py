"""Ingesting against a real database: who joins whom, whatever happens at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from bench.common.photos import source
from service.batching import free_ticket
from service.domain.errors import NotFoundError, StoreUnavailableError
from service.domain.matching import Candidates, ClusterQuery, fixed_rule
from service.domain.types import ModelSpace, TenantId
from service.store.blob.folder import FolderBlobStore
from service.store.database.database import Database
from service.store.face.code_cache import CodeCache
from service.store.face.indexer import Indexer, IndexSettings
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.store.face.writes import TenantWriter
from service.telemetry import StageClock
from service.usecases.curate import Curate
from service.usecases.ingest import IngestPhoto
from tests.support.analysed import MadeUpAnalyzer, files_below, near, person

SPACE = ModelSpace("made-up/1")
TENANT = TenantId("tenant")
SEARCH = SearchSettings(ef_search=200)
# Every tenant has an index, and as soon as it is looked at no vector waits.
AT_ONCE = IndexSettings(0, 1, 16, 64, 64, 0, 60.0)


class Shop:
    """The ingesting and curating use cases over one database."""

    def __init__(self, database: Database, uploads: Path, path: str) -> None:
        self.analyzer = MadeUpAnalyzer()
        self.paths: set[str] = set()
        self.path = path
        self.codes = CodeCache(database) if path == "codes" else None
        self.repository = Repository(database, SEARCH, codes=self.codes, on_search=self.paths.add)
        self.indexer = None if path == "exact" else Indexer(database, AT_ONCE)
        self.blobs = FolderBlobStore(uploads)
        self.uploads = uploads
        self.curate = Curate(self.repository, self.blobs, on_orphans=lambda n: None)
        self._database = database

    async def insert(
        self,
        *embeddings,
        tenant: TenantId = TENANT,
        space: ModelSpace = SPACE,
        retry_s: float = 0.0,
        settles: bool = True,
    ):
        """Store a photo of these faces.

        settles: leave none of its vectors waiting for the index, or without a code.
        """
        ingest = IngestPhoto(
            self.analyzer,
            self.repository,
            self.blobs,
            space=space,
            rule=fixed_rule(0.5),
            retry_s=retry_s,
            on_face=lambda matched: None,
        )
        stored = await ingest(
            tenant, source(self.analyzer.add(*embeddings)), StageClock(), free_ticket()
        )
        if settles and self.indexer:
            await self.indexer.round([tenant])
        if settles and self.codes:
            await self.codes.refresh(tenant, space)
        return stored


@pytest.fixture(params=["exact", "index", "codes"])
def shop(request: pytest.FixtureRequest, database: Database, uploads: Path) -> Shop:
    return Shop(database, uploads, request.param)


# For what no way of searching has a part in.
by_one_way = pytest.mark.parametrize("shop", ["exact"], indirect=True)


async def test_face_joins_the_nearest_cluster_within_the_distance(shop: Shop) -> None:
    anna = (await shop.insert(person(1))).faces[0]
    await shop.insert(near(person(1), 0.9, seed=1))
    shop.paths.clear()
    again = (await shop.insert(near(person(1), 0.3, seed=2))).faces[0]
    assert shop.paths == {shop.path}
    assert (again.cluster_id, again.is_auto_matched) == (anna.cluster_id, True)
    assert again.distance == pytest.approx(0.3, abs=2e-3)


async def test_face_beyond_the_distance_opens_a_cluster_with_a_review(shop: Shop) -> None:
    first = await shop.insert(person(1))
    stranger = (await shop.insert(near(person(1), 0.6, seed=1))).faces[0]
    assert not stranger.is_auto_matched
    reviews = await shop.curate.reviews(TENANT, 0, 10)
    assert [review.cluster_id for review in reviews] == [
        first.faces[0].cluster_id,
        stranger.cluster_id,
    ]


async def test_two_faces_of_one_photo_never_share_a_cluster(shop: Shop) -> None:
    anna = (await shop.insert(person(1))).faces[0]
    nearer, farther = (
        await shop.insert(near(person(1), 0.2, seed=1), near(person(1), 0.1, seed=2))
    ).faces[::-1]
    assert nearer.cluster_id == anna.cluster_id
    assert farther.cluster_id != anna.cluster_id


async def test_loser_of_a_cluster_takes_its_next_nearest_one(shop: Shop) -> None:
    anna = (await shop.insert(person(1))).faces[0]
    for seed in range(40):  # a crowd that fills any short list of neighbours
        await shop.insert(near(person(1), 0.01, seed=seed), settles=False)
    twin = (await shop.insert(near(person(1), 0.62, seed=99))).faces[0]
    between = near(person(1), 0.1, seed=3) * 0.6 + twin.face.embedding * 0.5
    between = between / (between @ between) ** 0.5
    photo = await shop.insert(person(1), between)
    assert [face.cluster_id for face in photo.faces] == [anna.cluster_id, twin.cluster_id]


async def test_tenants_do_not_see_each_others_faces(shop: Shop) -> None:
    anna = (await shop.insert(person(1))).faces[0]
    other = (await shop.insert(person(1), tenant=TenantId("other"))).faces[0]
    assert other.cluster_id != anna.cluster_id
    with pytest.raises(NotFoundError):
        await shop.curate.face(TenantId("other"), anna.face_id)


async def test_vectors_of_two_models_are_not_compared(shop: Shop) -> None:
    anna = (await shop.insert(person(1))).faces[0]
    other = (await shop.insert(person(1), space=ModelSpace("made-up/2"))).faces[0]
    assert other.cluster_id != anna.cluster_id


async def test_concurrent_photos_of_a_new_person_make_one_cluster(shop: Shop) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(shop.insert(near(person(1), 0.05, seed=seed), person(100 + seed)))
            for seed in range(24)
        ]
    clusters = Counter(task.result().faces[0].cluster_id for task in tasks)
    assert list(clusters.values()) == [24]


async def test_moves_and_deletes_in_parallel_leave_no_empty_cluster(shop: Shop) -> None:
    photos = [await shop.insert(person(number), settles=number == 11) for number in range(12)]
    target = photos[0].faces[0].cluster_id

    async def act(number: int) -> None:
        face = photos[number].faces[0]
        if number % 3 == 0:
            await shop.curate.delete_image(TENANT, photos[number].image_id)
        elif number % 3 == 1:
            await shop.curate.move_face(TENANT, face.face_id, None)
        else:
            await shop.curate.delete_face(TENANT, face.face_id)

    async with asyncio.TaskGroup() as group:
        for number in range(1, 12):
            group.create_task(act(number))
    left = [photos[0], *(photos[n] for n in range(1, 12) if n % 3 == 1)]
    async with shop.repository.reading(TENANT) as tenant:
        faces = [await tenant.face(photo.faces[0].face_id) for photo in left]
    sizes = [await shop.curate.cluster_size(TENANT, face.cluster_id) for face in faces]
    assert [size.number_of_faces for size in sizes] == [1] * len(left)
    assert [r.cluster_id for r in await shop.curate.reviews(TENANT, 0, 100)] == [target]


@by_one_way
async def test_nothing_is_left_when_the_database_fails_before_the_commit(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise StoreUnavailableError("The database does not answer.")

    monkeypatch.setattr(TenantWriter, "insert_photo", broken)
    with pytest.raises(StoreUnavailableError):
        await shop.insert(person(1))
    assert files_below(shop.uploads) == []
    with pytest.raises(NotFoundError):
        async with shop.repository.writing(TENANT):
            pass


@by_one_way
async def test_bytes_are_kept_when_the_commits_outcome_is_unknown(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise StoreUnavailableError("The database does not answer.", outcome_unknown=True)

    monkeypatch.setattr(TenantWriter, "insert_photo", broken)
    with pytest.raises(StoreUnavailableError):
        await shop.insert(person(1))
    assert len(files_below(shop.uploads)) == 1


@by_one_way
@pytest.mark.parametrize("commits", [True, False], ids=["took effect", "was lost"])
async def test_a_broken_commit_is_looked_after_and_stores_the_image_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, commits: bool
) -> None:
    whole = Repository.inserting
    breaks = 2

    @asynccontextmanager
    async def breaking(
        self: Repository, tenant_id: TenantId, query: ClusterQuery
    ) -> AsyncIterator[tuple[TenantWriter, Candidates]]:
        nonlocal breaks
        broken = breaks > 0
        breaks -= 1
        with suppress(ZeroDivisionError):
            async with whole(self, tenant_id, query) as opened:
                yield opened
                if broken and not commits:
                    raise ZeroDivisionError
        if broken:
            raise StoreUnavailableError("The connection broke.", outcome_unknown=True)

    monkeypatch.setattr(Repository, "inserting", breaking)
    photo = await shop.insert(person(1), person(2), retry_s=30.0)
    assert len(files_below(shop.uploads)) == 1
    stored = await shop.curate.image(TENANT, photo.image_id)
    assert stored.face_ids == tuple(face.face_id for face in photo.faces)
    assert stored.cluster_ids == tuple(face.cluster_id for face in photo.faces)
    assert len(await shop.curate.reviews(TENANT, 0, 10)) == 2


@by_one_way
async def test_deleting_a_cluster_keeps_images_that_show_somebody_else(shop: Shop) -> None:
    alone = await shop.insert(person(1))
    together = await shop.insert(person(1), person(2))
    await shop.curate.delete_cluster(TENANT, alone.faces[0].cluster_id)
    with pytest.raises(NotFoundError):
        await shop.curate.image(TENANT, alone.image_id)
    kept = await shop.curate.image(TENANT, together.image_id)
    assert kept.cluster_ids == (together.faces[1].cluster_id,)
    assert [name.split("/")[1].split(".")[0] for name in files_below(shop.uploads)] == [
        together.image_id
    ]


@by_one_way
async def test_review_follows_its_cluster_when_its_image_goes(shop: Shop) -> None:
    first = await shop.insert(person(1))
    second = await shop.insert(near(person(1), 0.1, seed=1))
    await shop.curate.delete_image(TENANT, first.image_id)
    (review,) = await shop.curate.reviews(TENANT, 0, 10)
    assert review.image_id == second.image_id


@by_one_way
async def test_deleting_a_tenant_removes_its_rows_and_files_and_nobody_elses(shop: Shop) -> None:
    await shop.insert(person(1), person(2))
    other = await shop.insert(person(1), tenant=TenantId("other"))
    await shop.curate.delete_tenant(TENANT)
    assert [name.split("/")[1].split(".")[0] for name in files_below(shop.uploads)] == [
        other.image_id
    ]
    async with shop._database.snapshot(TENANT) as connection:
        for table in ("tenant", "image", "cluster", "face", "face_vector", "review"):
            rows = await connection.fetchval(
                f"SELECT count(*) FROM {table} WHERE tenant_id = $1", TENANT
            )
            assert rows == 0, table

"""What a person put together stays together, and what a person told apart stays apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from bench.common.photos import source
from service.batching import free_ticket
from service.domain.matching import fixed_rule
from service.domain.types import ClusterId, Embedding, FaceId, ModelSpace, TenantId
from service.store.database.database import Database
from service.store.face.code_cache import CodeCache
from service.store.face.indexer import Indexer, IndexSettings
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.telemetry import StageClock
from service.usecases.ingest import IngestPhoto
from tests.support.analysed import DIMENSION, MadeUpAnalyzer, near, person
from tests.support.databases import Databases

TENANT = TenantId("tenant")
SPACE = ModelSpace("made-up/1")
LIMIT = 0.4

# They share a database with an index.
pytestmark = pytest.mark.xdist_group("what people put together")


class Album:
    """One tenant, photos of one face each, and what a person does to them."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._analyzer = MadeUpAnalyzer()
        self._ingest = IngestPhoto(
            self._analyzer,
            repository,
            None,
            space=SPACE,
            rule=fixed_rule(LIMIT),
            on_face=lambda matched: None,
        )

    async def insert(self, face: Embedding) -> tuple[FaceId, ClusterId]:
        (stored,) = await self.insert_photo(face)
        return stored

    async def insert_photo(self, *faces: Embedding) -> list[tuple[FaceId, ClusterId]]:
        data = self._analyzer.add(*faces)
        photo = await self._ingest(TENANT, source(data), StageClock(), free_ticket())
        return [(stored.face_id, stored.cluster_id) for stored in photo.faces]

    async def tell_apart(self, face: FaceId) -> ClusterId:
        """'Not this person': the new person of a face."""
        home = ClusterId(str(uuid4()))
        async with self.repository.writing(TENANT) as tenant:
            await tenant.insert_cluster(home)
            await tenant.move_face(face, home)
        return home

    async def questions(self) -> list[dict[str, Any]]:
        """Open questions other than who somebody is."""
        async with self.repository.reading(TENANT) as tenant:
            rows = await tenant._connection.fetch(
                "SELECT * FROM review WHERE kind <> 'new_person' ORDER BY review_id"
            )
        return [dict(row) for row in rows]

    async def merge(self, source_cluster: ClusterId, target: ClusterId) -> None:
        async with self.repository.writing(TENANT) as tenant:
            await tenant.merge_clusters(source_cluster, target)

    async def move(self, face: FaceId, target: ClusterId) -> None:
        async with self.repository.writing(TENANT) as tenant:
            await tenant.move_face(face, target)


async def _fill(database: Database, _: Path) -> None:
    album = Album(Repository(database, SearchSettings(ef_search=200)))
    for number in range(120):
        await album.insert(person(1_000 + number))
    await Indexer(database, IndexSettings(100, 100, 16, 64, 64, 0, 3600.0)).round([TENANT])


@pytest.fixture(params=["exact", "index", "codes"])
async def album(databases: Databases, uploads: Path, request: pytest.FixtureRequest) -> Album:
    """By each way of searching; the tenant has some hundred strangers, unless the way is exact."""
    is_exact = request.param == "exact"
    database = await (databases.migrated() if is_exact else databases.filled(_fill, uploads))
    codes = CodeCache(database) if request.param == "codes" else None
    album = Album(Repository(database, SearchSettings(ef_search=200), codes=codes))
    if codes is not None:
        await codes.refresh(TENANT, SPACE)
    return album


@pytest.mark.parametrize("into_larger", [True, False], ids=["into the larger", "into the smaller"])
async def test_later_photos_of_either_look_join_what_was_merged(
    album: Album, into_larger: bool
) -> None:
    once, often = person(1), person(2)
    _, small = await album.insert(once)
    large = {(await album.insert(near(often, 0.05, seed)))[1] for seed in range(9)}.pop()
    await album.merge(*((small, large) if into_larger else (large, small)))
    merged = large if into_larger else small
    for look in (once, often):
        for seed in range(3):
            assert (await album.insert(near(look, 0.3, 50 + seed)))[1] == merged
    assert (await album.insert(near(once, 0.45, 99)))[1] != merged


def looks() -> tuple[Embedding, Embedding, Embedding]:
    """Three looks in a row: neighbours may be one person, the first and the last may not."""
    plane = np.zeros((3, DIMENSION), np.float32)
    for row, degrees in zip(plane, (-50, 0, 50), strict=True):
        row[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, middle, last = plane
    return first, middle, last


async def test_the_face_that_opened_a_cluster_counts_for_no_more_than_its_others(
    album: Album,
) -> None:
    first, middle, last = looks()
    _, cluster = await album.insert(middle)
    assert {(await album.insert(first))[1] for _ in range(6)} == {cluster}
    assert (await album.insert(last))[1] != cluster


async def test_a_face_that_was_moved_speaks_for_its_look(album: Album) -> None:
    first, middle, last = looks()
    _, cluster = await album.insert(middle)
    for _ in range(6):
        await album.insert(first)
    moved, other = await album.insert(last)
    assert other != cluster
    await album.move(moved, cluster)
    assert (await album.insert(near(last, 0.2, 1)))[1] == cluster
    assert (await album.insert(near(first, 0.2, 2)))[1] == cluster


async def test_once_it_is_moved_away_again_it_does_not(album: Album) -> None:
    first, middle, last = looks()
    _, cluster = await album.insert(middle)
    for _ in range(6):
        await album.insert(first)
    moved, _ = await album.insert(last)
    await album.move(moved, cluster)
    new = ClusterId(str(uuid4()))
    async with album.repository.writing(TENANT) as tenant:
        await tenant.insert_cluster(new)
        await tenant.move_face(moved, new, override=True)
    assert (await album.insert(near(last, 0.2, 1)))[1] == new


async def test_faces_like_one_that_is_not_the_person_stay_away_from_the_person(
    album: Album,
) -> None:
    middle = person(7)
    _, cluster = await album.insert(middle)
    for seed in range(4):
        await album.insert(near(middle, 0.05, seed))
    other = near(middle, 0.3, 50)
    wrong, joined = await album.insert(other)
    assert joined == cluster
    home = await album.tell_apart(wrong)
    # Two such faces on one photo: one joins the person that is theirs, the other one nobody.
    alike = (near(other, 0.01, 1), near(other, 0.02, 2))
    (_, first), (_, second) = await album.insert_photo(*alike)
    assert first == home
    assert second not in (home, cluster)
    assert (await album.insert(near(middle, 0.05, 99)))[1] == cluster


async def test_weak_matches_and_near_misses_become_questions(album: Album) -> None:
    middle = person(7)
    _, cluster = await album.insert(middle)
    await album.insert(near(middle, 0.05, 1))
    assert await album.questions() == []
    weak, joined = await album.insert(near(middle, 0.39, 2))
    assert joined == cluster
    (question,) = await album.questions()
    assert (question["kind"], str(question["face_id"])) == ("weak_match", weak)
    assert question["cluster_id"] == UUID(cluster)
    assert 0.5 <= question["similarity"] < 0.75
    _, missed = await album.insert(near(middle, 0.42, 3))
    assert missed != cluster
    asked = (await album.questions())[-1]
    assert (asked["kind"], asked["face_id"]) == ("same_person", None)
    assert {asked["cluster_id"], asked["other_cluster_id"]} == {UUID(cluster), UUID(missed)}
    assert await album.insert(person(8))  # nobody is near
    assert len(await album.questions()) == 2

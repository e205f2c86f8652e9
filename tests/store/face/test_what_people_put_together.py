"""What a person put together stays one person, however different its faces look."""

from __future__ import annotations

from uuid import uuid4

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

TENANT = TenantId("tenant")
SPACE = ModelSpace("made-up/1")
LIMIT = 0.4


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
        data = self._analyzer.add(face)
        photo = await self._ingest(TENANT, source(data), StageClock(), free_ticket())
        (stored,) = photo.faces
        return stored.face_id, stored.cluster_id

    async def merge(self, source_cluster: ClusterId, target: ClusterId) -> None:
        async with self.repository.writing(TENANT) as tenant:
            await tenant.merge_clusters(source_cluster, target)

    async def move(self, face: FaceId, target: ClusterId) -> None:
        async with self.repository.writing(TENANT) as tenant:
            await tenant.move_face(face, target)


@pytest.fixture(params=["exact", "index", "codes"])
async def album(database: Database, request: pytest.FixtureRequest) -> Album:
    """By each way of searching; the tenant has some hundred strangers."""
    codes = CodeCache(database) if request.param == "codes" else None
    album = Album(Repository(database, SearchSettings(ef_search=200), codes=codes))
    if request.param != "exact":
        for number in range(120):
            await album.insert(person(1_000 + number))
        await Indexer(database, IndexSettings(100, 100, 16, 64, 64, 0, 3600.0)).round([TENANT])
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
        await tenant.move_face(moved, new)
    assert (await album.insert(near(last, 0.2, 1)))[1] == new

"""A database goes over to vectors of another dimension and back: sums, indexes and codes follow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg
import numpy as np
import pytest

from bench.common.crowd import FACENET, SFACE, SPACE, Crowd, crowd, load, number_of
from service.domain.matching import ClusterQuery, fixed_rule
from service.domain.types import ModelSpace, TenantId
from service.store.database.active_model import ActiveModel, adopt_model
from service.store.database.database import Database
from service.store.face.code_cache import CodeCache
from service.store.face.indexer import Indexer, IndexSettings, vector_indexes, vector_sets
from service.store.face.search import ClusterSearch, SearchSettings, vector_index_name
from service.store.face.vectors import open_vectors
from tests.support.sums import are_exact

TENANT = TenantId("large")
LARGE, SMALL = ActiveModel(SPACE, "facenet"), ActiveModel(ModelSpace("made-up/of 128"), "sface")
SETTINGS = IndexSettings(1000, 100, 16, 64, 64, 0, 3600.0)
FACES = 1500


@dataclass(frozen=True, slots=True)
class House:
    """A tenant that has an index, and what either network makes of its faces."""

    database: Database
    owner: asyncpg.Connection
    crowds: dict[ModelSpace, Crowd]

    async def embed_by(self, model: ActiveModel) -> None:
        """What `facette reembed` does to the database."""
        faces = self.crowds[model.space].faces
        indexer = Indexer(self.database, SETTINGS)
        async with open_vectors(self.database, model) as vectors:
            after = None
            while batch := await vectors.lacking(after, 0, None, 64):
                after = batch[-1]
                await vectors.add([(face, faces[number_of(face.face_id)]) for face in batch])
            assert await are_exact(self.owner)
            assert await indexer.round()
            async with vectors.changing() as alone:
                assert alone
                await vectors.activate()
            async for _ in vectors.delete_replaced():
                pass
            assert await indexer.round()

    async def recall(self, model: ActiveModel, *, path: str) -> float:
        """How often the nearest face is found, which must be looked for in one way."""
        people = self.crowds[model.space]
        queries = people.more_faces(50, np.random.default_rng(1))
        best = np.argmax(queries @ people.faces.T, axis=1)
        codes = CodeCache(self.database)
        if path == "codes":
            await codes.refresh(TENANT, model.space)
        paths: set[str] = set()
        hits = 0
        for query, number in zip(queries, best, strict=True):
            async with self.database.transaction(TENANT) as connection:
                search = ClusterSearch(
                    connection, TENANT, SearchSettings(200), codes, on_search=paths.add
                )
                asked = ClusterQuery((query,), model.space, fixed_rule(0.5))
                ((nearest, *_),) = (await search.look_up(asked)).near
            hits += number_of(nearest.face_id) == number
        assert paths == {path}
        return hits / len(queries)


@pytest.fixture
async def house(database: Database) -> AsyncIterator[House]:
    people, others = (crowd(FACES, seed=1, spread=each) for each in (FACENET, SFACE))
    assert (people.person_of == others.person_of).all()
    async with database.maintenance() as owner:
        await load(owner, TENANT, people)
        await adopt_model(owner, LARGE, instead_of=None)
        await Indexer(database, SETTINGS).round()
        yield House(database, owner, {LARGE.space: people, SMALL.space: others})


async def test_sums_indexes_and_codes_follow_there_and_back(house: House) -> None:
    before = await house.owner.fetch("SELECT * FROM cluster_sum ORDER BY cluster_id")
    for model, dimension in ((SMALL, 128), (LARGE, 512)):
        await house.embed_by(model)
        (vectors,) = await vector_sets(house.owner, 1)
        assert (vectors.space, vectors.indexed, vectors.waiting) == (model.space, FACES, 0)
        (index,) = await vector_indexes(house.owner)
        assert index.name == vector_index_name(TENANT, model.space)
        definition = await house.owner.fetchval("SELECT pg_get_indexdef($1::regclass)", index.name)
        assert f"halfvec({dimension})" in definition
        assert await are_exact(house.owner)
        assert await house.recall(model, path="index") >= 0.98
        assert await house.recall(model, path="codes") >= 0.98
    assert await house.owner.fetch("SELECT * FROM cluster_sum ORDER BY cluster_id") == before

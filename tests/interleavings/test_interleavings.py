"""Concurrent clients, interleaved statement by statement, do what one after the other would do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import FlakyFailure

from service.domain.matching import Candidates, ClusterQuery
from service.domain.types import ClusterDistance, Erasure, TenantId
from service.store.blob.folder import FolderBlobStore
from service.store.database.database import Database, DatabaseSettings
from service.store.face.lookups import found
from service.store.face.repository import Repository
from service.store.face.search import ClusterSearch, Finds
from service.store.face.writes import TenantWriter
from service.usecases import ingest
from tests.interleavings import model
from tests.interleavings.model import MARKS, Shot, distance_to
from tests.interleavings.plans import PLANS, Course, Round
from tests.interleavings.world import Violation, World

# From the eleventh plan on, Hypothesis mostly varies a part of what it had: many seeds differ more.
PLANS_PER_SEED = 10
SEEDS = range(3)
MANY_SEEDS = range(10)
INTERLEAVINGS_PER_SEED = 50
OPERATIONS = {
    model.Insert,
    model.DeleteFace,
    model.DeleteImage,
    model.DeleteCluster,
    model.DeleteReview,
    model.DeleteTenant,
    model.MoveFace,
    model.MergeClusters,
    model.ReadFace,
    model.ReadFaces,
    model.ReadImage,
    model.ReadCluster,
    model.ReadReview,
    model.ReadReviews,
}


def hunt(
    database: DatabaseSettings, uploads: Path, *phases: Phase, seeds: Sequence[int] = SEEDS
) -> World:
    """Run plans until one shows a fault; they come from fixed seeds, and none is stored.

    Raises:
        Violation: there is a fault; its notes have the plan and the seed.
    """
    with asyncio.Runner() as runner:
        opened = World.open(database, uploads)
        world = runner.run(opened.__aenter__())

        @settings(
            max_examples=PLANS_PER_SEED,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        )
        @given(PLANS)
        def is_explained(plan: list[Round]) -> None:
            runner.run(live(world, plan))

        try:
            for number in seeds:
                try:
                    seed(number)(is_explained)()
                except BaseException as error:
                    error.add_note(f"The seed is {number}.")
                    raise
        finally:
            runner.run(opened.__aexit__(None, None, None))
    return world


async def live(world: World, plan: Sequence[Round]) -> None:
    course = Course()
    try:
        for each in plan:
            course.happened(*await world.run(course.state, course.programs(each), each.picks))
    finally:
        await world.clear()


@pytest.mark.parametrize("seeds", [SEEDS, pytest.param(MANY_SEEDS, marks=pytest.mark.slow)])
def test_every_interleaving_is_explained_by_some_order(
    prepared_database: DatabaseSettings, uploads: Path, seeds: Sequence[int]
) -> None:
    world = hunt(prepared_database, uploads, Phase.generate, Phase.shrink, seeds=seeds)
    assert len(world.seen) >= INTERLEAVINGS_PER_SEED * len(seeds)
    assert world.done == OPERATIONS
    assert world.paths == {"exact", "codes"}


def without_lock(patch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def writing(self: Repository, tenant_id: TenantId) -> AsyncIterator[TenantWriter]:
        async with self._database.transaction(tenant_id) as connection:
            row = await connection.fetchrow("SELECT FROM tenant WHERE tenant_id = $1", tenant_id)
            found(row, "tenant")
            yield TenantWriter(connection, tenant_id, self._on_insert)

    @asynccontextmanager
    async def inserting(
        self: Repository, tenant_id: TenantId, query: ClusterQuery
    ) -> AsyncIterator[tuple[TenantWriter, Candidates]]:
        async with self._database.transaction(tenant_id) as connection:
            search = ClusterSearch(connection, tenant_id, self._search, self._codes)
            finds = await search.look_up(query)
            await connection.execute(
                "INSERT INTO tenant (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING", tenant_id
            )
            candidates = await search.clusters(finds, 0)
            yield TenantWriter(connection, tenant_id, self._on_insert), candidates

    patch.setattr(Repository, "writing", writing)
    patch.setattr(Repository, "inserting", inserting)


def with_searches_of_the_past(patch: pytest.MonkeyPatch) -> None:
    """What was looked up before the tenant was locked is taken as it was."""

    async def as_it_was(self: ClusterSearch, finds: Finds) -> Finds:
        return finds

    patch.setattr(ClusterSearch, "_up_to_date", as_it_was)


def with_empty_clusters(patch: pytest.MonkeyPatch) -> None:
    async def drop_none(self: TenantWriter, clusters: object) -> Erasure:
        return Erasure()

    patch.setattr(TenantWriter, "_drop_empty", drop_none)


def with_reads_of_several_moments(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Database, "snapshot", Database.transaction)


def with_files_that_stay(patch: pytest.MonkeyPatch) -> None:
    async def keep(self: FolderBlobStore, keys: object) -> list[str]:
        return []

    patch.setattr(FolderBlobStore, "delete", keep)


def with_faces_of_one_photo_put_together(patch: pytest.MonkeyPatch) -> None:
    def nearest(
        candidates: Sequence[Sequence[ClusterDistance]], max_distances: Sequence[float]
    ) -> list[ClusterDistance | None]:
        return [
            near[0] if near and near[0].distance <= limit else None
            for near, limit in zip(candidates, max_distances, strict=True)
        ]

    patch.setattr(ingest, "assign_clusters", nearest)


@pytest.mark.parametrize(
    "broken",
    [
        without_lock,
        with_searches_of_the_past,
        with_empty_clusters,
        with_reads_of_several_moments,
        with_files_that_stay,
        with_faces_of_one_photo_put_together,
    ],
    ids=lambda broken: broken.__name__.replace("_", " "),
)
def test_a_broken_service_is_found_out(
    prepared_database: DatabaseSettings,
    uploads: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[pytest.MonkeyPatch], None],
) -> None:
    broken(monkeypatch)
    # A plan that failed and then did not is a finding, too.
    with pytest.raises((Violation, FlakyFailure)):
        hunt(prepared_database, uploads, Phase.generate)


def test_no_two_pairs_of_shots_are_equally_far_apart_as_stored() -> None:
    """Else the model could not say which cluster is nearest."""
    shots = [Shot(0, mark) for mark in MARKS]
    apart = [distance_to([a], b) for a, b in combinations(shots, 2)]
    assert None not in apart
    assert len(set(apart)) == len(apart)

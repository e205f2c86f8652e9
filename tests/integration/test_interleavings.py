"""Concurrent clients, interleaved statement by statement, do what one after the other would do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.domain.types import (
    ClusterDistance,
    ClusterId,
    Erasure,
    FaceId,
    ImageId,
    ReviewId,
    TenantId,
)
from service.store.blobs import FolderBlobStore
from service.store.database import Database, DatabaseSettings
from service.store.reads import found
from service.store.repository import Repository
from service.store.writes import TenantWriter
from service.usecases import ingest
from tests.integration import model
from tests.integration.history import Call
from tests.integration.model import (
    MARKS,
    PERSONS,
    Insert,
    Operation,
    Shot,
    State,
    Tenant,
    marks_apart,
)
from tests.integration.world import Stored, Violation, World

SEEDS = range(10)
EXAMPLES = 10
STALE = -1
INTERLEAVINGS = 500
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Wish:
    """What a client wants to do.

    `first` and `second` choose among the ids of that moment, counted from the round's focus.
    """

    kind: str
    tenant: int
    persons: tuple[int, ...]
    first: int
    second: int


@dataclass(frozen=True)
class Round:
    """What several clients do at once, each one thing after the other, and in which turns.

    focus: where most of them look, so that they meet.
    """

    clients: list[list[Wish]]
    picks: list[int]
    focus: int


OPERATIONS = (
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
)
KINDS = {
    "insert": 6,
    "move": 4,
    "move to new": 2,
    "merge": 3,
    "delete face": 3,
    "delete image": 2,
    "delete cluster": 2,
    "delete review": 1,
    "delete tenant": 1,
    "read face": 1,
    "read faces": 1,
    "read image": 2,
    "read cluster": 1,
    "read review": 1,
    "read reviews": 1,
}
WISHES = st.builds(
    Wish,
    st.sampled_from([kind for kind, weight in KINDS.items() for _ in range(weight)]),
    st.sampled_from([0, 0, 0, 0, 1]),
    st.lists(st.integers(0, PERSONS - 1), max_size=4).map(tuple),
    st.sampled_from([0, 0, 0, 0, 1, 2, STALE]),
    st.sampled_from([0, 0, 1, 2, 3, STALE]),
)
# The first way shrinks well, the second mixes well.
PICKS = st.one_of(
    st.lists(st.integers(0, 2), min_size=4, max_size=24),
    st.integers(0, 2**32).map(lambda seed: Random(seed).choices(range(3), k=40)),
)
ROUNDS = st.builds(
    Round,
    st.lists(st.lists(WISHES, min_size=1, max_size=2), min_size=2, max_size=3),
    PICKS,
    st.integers(0, 11),
)
PHOTOS = st.builds(
    Wish,
    st.just("insert"),
    st.sampled_from([0, 0, 1]),
    st.lists(st.integers(0, PERSONS - 1), min_size=1, max_size=3).map(tuple),
    st.just(0),
    st.just(0),
)
OPENINGS = st.lists(PHOTOS, min_size=2, max_size=4)


class Plan:
    """Turns wishes into calls with ids: known ones, one that is gone, one of another tenant."""

    def __init__(self) -> None:
        run = uuid4().hex
        self.tenants = [TenantId(f"{run}-{name}") for name in "ab"]
        self.state: State = {}
        self.reviews: dict[TenantId, dict[ReviewId, ClusterId]] = {t: {} for t in self.tenants}
        self._gone: dict[tuple[TenantId, str], str] = {}
        self._shots = [0] * PERSONS

    def program(self, client: int, wishes: Sequence[Wish], focus: int) -> list[Call]:
        return [
            Call(
                client, self.tenants[wish.tenant], self._operation(self.tenants[wish.tenant], wish)
            )
            for wish in wishes
        ]

    def happened(self, state: State, stored: Stored) -> None:
        for tenant in self.tenants:
            for kind in ("image", "face", "cluster"):
                for gone in set(self._ids(self.state, tenant, kind)) - set(
                    self._ids(state, tenant, kind)
                ):
                    self._gone[tenant, kind] = gone
            self.reviews[tenant] |= stored.reviews.get(tenant, {})
        self.state = state

    def _operation(self, tenant: TenantId, wish: Wish) -> Operation:
        def face() -> FaceId:
            return FaceId(self._choose(tenant, "face", wish.first))

        def image() -> ImageId:
            return ImageId(self._choose(tenant, "image", wish.first))

        def cluster(choice: int = wish.first) -> ClusterId:
            return ClusterId(self._choose(tenant, "cluster", choice))

        def review() -> tuple[ReviewId, ClusterId]:
            known = sorted(self.reviews[tenant].items()) or [(ReviewId(2**40), ClusterId(UNKNOWN))]
            return known[wish.first % len(known)]

        make: dict[str, Callable[[], Operation]] = {
            "insert": lambda: Insert(tuple(self._shots_of(wish.persons))),
            "move": lambda: model.MoveFace(face(), cluster(wish.second)),
            "move to new": lambda: model.MoveFace(face(), None),
            "merge": lambda: model.MergeClusters(
                cluster(), cluster((wish.first + 1 + wish.second) % CHOICES)
            ),
            "delete face": lambda: model.DeleteFace(face()),
            "delete image": lambda: model.DeleteImage(image()),
            "delete cluster": lambda: model.DeleteCluster(cluster()),
            "delete review": lambda: model.DeleteReview(*review()),
            "delete tenant": model.DeleteTenant,
            "read face": lambda: model.ReadFace(face()),
            "read faces": lambda: model.ReadFaces(image()),
            "read image": lambda: model.ReadImage(image()),
            "read cluster": lambda: model.ReadCluster(cluster()),
            "read review": lambda: model.ReadReview(*review()),
            "read reviews": model.ReadReviews,
        }
        return make[wish.kind]()

    def _choose(self, tenant: TenantId, kind: str, choice: int) -> str:
        (other,) = set(self.tenants) - {tenant}
        gone = self._gone.get((tenant, kind), UNKNOWN)
        known = self._ids(self.state, tenant, kind)
        if choice == STALE or not known:
            known = [gone, *self._ids(self.state, other, kind)[:1]]
        return known[choice % len(known)]

    @staticmethod
    def _ids(state: State, tenant_id: TenantId, kind: str) -> list[str]:
        """In an order that is the same whatever the ids are."""
        tenant = state.get(tenant_id, Tenant())
        if kind == "face":
            return list(tenant.faces)
        if kind == "cluster":
            return list(dict.fromkeys(face.cluster_id for face in tenant.faces.values()))
        shown = dict.fromkeys(face.image_id for face in tenant.faces.values())
        return [*shown, *sorted(tenant.images - set(shown))]

    def _shots_of(self, persons: Sequence[int]) -> Iterator[Shot]:
        """A shot that was not taken before of each person, while there are any."""
        for person in persons:
            taken = self._shots[person]
            if taken < len(MARKS):
                self._shots[person] += 1
                yield Shot(person, MARKS[taken * 10 % len(MARKS)])


def hunt(
    database: DatabaseSettings,
    uploads: Path,
    examples: int,
    phases: Sequence[Phase] = (Phase.generate, Phase.shrink),
) -> World:
    """Run plans until one shows a fault; the plans are the same in every run.

    Raises:
        Violation: there is one.
    """
    with asyncio.Runner() as runner:
        opened = World.open(database, uploads)
        world = runner.run(opened.__aenter__())

        @settings(
            max_examples=examples,
            deadline=None,
            # Repeatable, so no examples are kept either; a failure prints how to run it again.
            derandomize=True,
            print_blob=True,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        )
        @given(OPENINGS, st.lists(ROUNDS, min_size=5, max_size=10))
        def explained(opening: list[Wish], rounds: list[Round]) -> None:
            runner.run(live(world, [Round([opening], [0]), *rounds]))

        try:
            explained()
        finally:
            runner.run(opened.__aexit__(None, None, None))
    return world


async def live(world: World, rounds: Sequence[Round]) -> None:
    plan = Plan()
    try:
        for each in rounds:
            programs = [plan.program(number, wishes) for number, wishes in enumerate(each.clients)]
            plan.happened(*await world.run(plan.state, programs, each.picks))
    finally:
        await world.clear()


def test_every_interleaving_is_explained_by_some_order(
    empty_database: DatabaseSettings, uploads: Path
) -> None:
    world = hunt(empty_database, uploads, EXAMPLES)
    assert len(world.seen) >= INTERLEAVINGS
    assert world.done == set(OPERATIONS)


def without_lock(patch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def writing(
        self: Repository, tenant_id: TenantId, *, create: bool = False
    ) -> AsyncIterator[TenantWriter]:
        async with self._database.transaction(tenant_id) as connection:
            if create:
                await connection.execute(
                    "INSERT INTO tenant (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING", tenant_id
                )
            else:
                row = await connection.fetchrow(
                    "SELECT FROM tenant WHERE tenant_id = $1", tenant_id
                )
                found(row, "tenant")
            yield TenantWriter(connection, tenant_id, self._search)

    patch.setattr(Repository, "writing", writing)


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
        candidates: Sequence[Sequence[ClusterDistance]], max_distance: float
    ) -> list[ClusterDistance | None]:
        return [
            near[0] if near and near[0].distance <= max_distance else None for near in candidates
        ]

    patch.setattr(ingest, "assign_clusters", nearest)


@pytest.mark.parametrize(
    "broken",
    [
        without_lock,
        with_empty_clusters,
        with_reads_of_several_moments,
        with_files_that_stay,
        with_faces_of_one_photo_put_together,
    ],
    ids=lambda broken: broken.__name__.replace("_", " "),
)
def test_a_broken_service_is_found_out(
    empty_database: DatabaseSettings,
    uploads: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[pytest.MonkeyPatch], None],
) -> None:
    broken(monkeypatch)
    with pytest.raises(Violation):
        hunt(empty_database, uploads, EXAMPLES, [Phase.generate])


def test_no_two_pairs_of_shots_are_equally_far_apart_as_stored() -> None:
    """Else the model could not say which face is nearest."""
    shots = [Shot(0, mark) for mark in MARKS]
    apart = [(abs(a.mark - b.mark), a, b) for a, b in combinations(shots, 2)]
    assert len({marks for marks, _, _ in apart}) == len(apart)
    for marks, a, b in apart:
        one, other = (np.float64(np.float16(shot.embedding)) for shot in (a, b))
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        assert marks_apart(1 - cosine) == marks

"""Concurrent clients, interleaved statement by statement, do what one after the other would do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.domain.types import ClusterId, FaceId, ImageId, ReviewId, TenantId
from service.store.database import DatabaseSettings
from service.store.repository import Repository
from service.usecases.curate import Curate
from tests.integration import model
from tests.integration.history import Call
from tests.integration.model import MARKS, PERSONS, Insert, Operation, Shot, State, Tenant
from tests.integration.world import Stored, World

EXAMPLES = 90
INTERLEAVINGS = 500
UNKNOWN = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Wish:
    """What a client wants to do; `first` and `second` choose among the ids of that moment."""

    kind: str
    tenant: int
    persons: tuple[int, ...]
    first: int
    second: int


@dataclass(frozen=True)
class Round:
    """What several clients do at once, each one thing after the other, and in which turns."""

    clients: list[list[Wish]]
    picks: list[int]


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
    st.integers(0, 11),
    st.integers(0, 11),
)
ROUNDS = st.builds(
    Round,
    st.lists(st.lists(WISHES, min_size=1, max_size=2), min_size=2, max_size=3),
    st.lists(st.integers(0, 2), min_size=8, max_size=30),
)
PHOTOS = st.builds(
    Wish,
    st.just("insert"),
    st.just(0),
    st.lists(st.integers(0, 2), min_size=1, max_size=3).map(tuple),
    st.just(0),
    st.just(0),
)
OPENINGS = st.lists(PHOTOS, min_size=1, max_size=3)


class Plan:
    """Turns wishes into calls with ids: known ones, one that is gone, one of another tenant."""

    def __init__(self) -> None:
        run = uuid4().hex
        self.tenants = [TenantId(f"{run}-{name}") for name in "ab"]
        self.state: State = {}
        self.reviews: dict[TenantId, dict[ReviewId, ClusterId]] = {t: {} for t in self.tenants}
        self._gone: dict[tuple[TenantId, str], str] = {}
        self._shots = [0] * PERSONS

    def program(self, client: int, wishes: Sequence[Wish]) -> list[Call]:
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
            "merge": lambda: model.MergeClusters(cluster(), cluster(wish.second)),
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
        ids = [*self._ids(self.state, tenant, kind), gone, *self._ids(self.state, other, kind)[:1]]
        return ids[choice % len(ids)]

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
    settings_: DatabaseSettings,
    uploads: Path,
    examples: int,
    repository: type[Repository] = Repository,
    curate: type[Curate] = Curate,
    phases: Sequence[Phase] = (Phase.generate, Phase.shrink),
) -> int:
    """Run plans until one shows a fault; returns how many interleavings were tried.

    The plans are the same in every run, and none is stored.

    Raises:
        Violation: it did.
    """
    with asyncio.Runner() as runner:
        opened = World.open(settings_, uploads, repository, curate)
        world = runner.run(opened.__aenter__())
        try:

            @settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                print_blob=True,
                phases=phases,
                suppress_health_check=list(HealthCheck),
            )
            @given(OPENINGS, st.lists(ROUNDS, min_size=5, max_size=10))
            def explained(opening: list[Wish], rounds: list[Round]) -> None:
                runner.run(live(world, [Round([opening], [0]), *rounds]))

            explained()
        finally:
            runner.run(opened.__aexit__(None, None, None))
        return len(world.seen)


async def live(world: World, rounds: Sequence[Round]) -> None:
    plan = Plan()
    for each in rounds:
        programs = [plan.program(number, wishes) for number, wishes in enumerate(each.clients)]
        plan.happened(*await world.run(plan.state, programs, each.picks))
    await world.clear(sorted(plan.state))


def test_every_interleaving_is_explained_by_some_order(
    empty_database: DatabaseSettings, uploads: Path
) -> None:
    assert hunt(empty_database, uploads, EXAMPLES) >= INTERLEAVINGS

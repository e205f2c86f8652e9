"""What concurrent clients do and in which turns, drawn at random before any id is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from uuid import uuid4

from hypothesis import strategies as st

from service.domain.types import ClusterId, FaceId, ImageId, ReviewId, TenantId
from tests.interleavings import model
from tests.interleavings.history import Call
from tests.interleavings.model import MARKS, PERSONS, Operation, Shot, State, Tenant
from tests.interleavings.world import Stored

UNKNOWN = "00000000-0000-4000-8000-000000000000"
STALE = -1
TENANTS = 2


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants to do.

    `first` and `second` choose among the ids of the moment, counted from the round's focus; STALE
    is one that is gone, or another tenant's.
    """

    kind: str
    tenant: int
    persons: tuple[int, ...]
    first: int = 0
    second: int = 0


@dataclass(frozen=True, slots=True)
class Round:
    """What several clients do at once, each one thing after the other, and in which turns.

    focus: where most of them look, so that they meet.
    """

    clients: list[list[Wish]]
    picks: list[int]
    focus: int = 0


_WEIGHTS = {
    "insert": 6,
    "move": 4,
    "move to new": 2,
    "merge": 3,
    "delete face": 3,
    "delete image": 3,
    "delete cluster": 2,
    "delete review": 1,
    "delete tenant": 1,
    "read face": 1,
    "read faces": 2,
    "read image": 3,
    "read cluster": 1,
    "read review": 1,
    "read reviews": 1,
}
_WISHES = st.builds(
    Wish,
    st.sampled_from([kind for kind, weight in _WEIGHTS.items() for _ in range(weight)]),
    st.sampled_from([0, 0, 0, 0, 1]),
    st.lists(st.integers(0, PERSONS - 1), max_size=4).map(tuple),
    st.sampled_from([0, 0, 0, 0, 0, 1, 2, STALE]),
    st.sampled_from([1, 1, 0, 2, 3, STALE]),
)
# The first way shrinks well, the second mixes well.
_PICKS = st.one_of(
    st.lists(st.integers(0, 2), min_size=4, max_size=24),
    st.integers(0, 2**32).map(lambda seed: Random(seed).choices(range(3), k=40)),
)
_ROUNDS = st.builds(
    Round,
    st.lists(st.lists(_WISHES, min_size=1, max_size=2), min_size=2, max_size=3),
    _PICKS,
    st.integers(0, 11),
)
# Two clients go for the same thing: rare among all rounds, and where most races are.
_RIVALS = st.builds(
    Wish,
    st.sampled_from(
        [
            *("read image", "read faces", "delete image", "delete cluster"),
            *("move", "merge", "delete face", "insert"),
        ]
    ),
    st.just(0),
    st.lists(st.integers(0, PERSONS - 1), min_size=1, max_size=2).map(tuple),
    st.just(0),
    st.just(1),
)
_DUELS = st.builds(
    Round,
    st.tuples(_RIVALS, _RIVALS).map(lambda rivals: [[rival] for rival in rivals]),
    _PICKS,
    st.integers(0, 11),
)
_PHOTOS = st.builds(
    Wish,
    st.just("insert"),
    st.sampled_from([0, 0, 1]),
    st.lists(st.integers(0, PERSONS - 1), min_size=1, max_size=3).map(tuple),
)
# A lone client fills the tenants first.
_OPENINGS = st.lists(_PHOTOS, min_size=2, max_size=4).map(lambda photos: Round([photos], [0]))
PLANS = st.builds(
    lambda opening, rounds: [opening, *rounds],
    _OPENINGS,
    st.lists(st.one_of(_DUELS, _ROUNDS), min_size=6, max_size=10),
)


class Course:
    """One plan on its way: makes calls of wishes by what is known at the moment."""

    def __init__(self) -> None:
        run = uuid4().hex
        self.state: State = {}
        self._tenants = [TenantId(f"{run}-{number}") for number in range(TENANTS)]
        self._reviews: dict[TenantId, dict[ReviewId, ClusterId]] = {t: {} for t in self._tenants}
        self._gone: dict[tuple[TenantId, str], str] = {}
        self._taken = [0] * PERSONS

    def programs(self, each: Round) -> list[list[Call]]:
        """For each client its calls, with ids that it can know by now."""
        return [
            [self._call(number, wish, each.focus) for wish in wishes]
            for number, wishes in enumerate(each.clients)
        ]

    def happened(self, state: State, stored: Stored) -> None:
        """Take note of what there is after a round."""
        for tenant in self._tenants:
            for kind in ("image", "face", "cluster"):
                left = _ids(state, tenant, kind)
                for gone in (each for each in _ids(self.state, tenant, kind) if each not in left):
                    self._gone[tenant, kind] = gone
            self._reviews[tenant] |= stored.reviews.get(tenant, {})
        self.state = state

    def _call(self, client: int, wish: Wish, focus: int) -> Call:
        tenant = self._tenants[wish.tenant]

        def face() -> FaceId:
            return FaceId(self._choose(tenant, "face", focus, wish.first))

        def image() -> ImageId:
            return ImageId(self._choose(tenant, "image", focus, wish.first))

        def cluster(choice: int) -> ClusterId:
            return ClusterId(self._choose(tenant, "cluster", focus, choice))

        def review() -> tuple[ReviewId, ClusterId]:
            known = sorted(self._reviews[tenant].items()) or [(ReviewId(2**40), ClusterId(UNKNOWN))]
            return known[(focus + wish.first) % len(known)]

        first, second = wish.first, wish.second
        make: dict[str, Callable[[], Operation]] = {
            "insert": lambda: model.Insert(tuple(self._shots_of(wish.persons))),
            "move": lambda: model.MoveFace(face(), cluster(second)),
            "move to new": lambda: model.MoveFace(face(), None),
            "merge": lambda: model.MergeClusters(cluster(first), cluster(second)),
            "delete face": lambda: model.DeleteFace(face()),
            "delete image": lambda: model.DeleteImage(image()),
            "delete cluster": lambda: model.DeleteCluster(cluster(first)),
            "delete review": lambda: model.DeleteReview(*review()),
            "delete tenant": model.DeleteTenant,
            "read face": lambda: model.ReadFace(face()),
            "read faces": lambda: model.ReadFaces(image()),
            "read image": lambda: model.ReadImage(image()),
            "read cluster": lambda: model.ReadCluster(cluster(first)),
            "read review": lambda: model.ReadReview(*review()),
            "read reviews": model.ReadReviews,
        }
        return Call(client, tenant, make[wish.kind]())

    def _choose(self, tenant: TenantId, kind: str, focus: int, choice: int) -> str:
        known = _ids(self.state, tenant, kind)
        if choice == STALE or not known:
            (other,) = (each for each in self._tenants if each != tenant)
            gone = self._gone.get((tenant, kind), UNKNOWN)
            known = [gone, *_ids(self.state, other, kind)[:1]]
        return known[(focus + choice) % len(known)]

    def _shots_of(self, persons: Sequence[int]) -> Iterator[Shot]:
        """A shot of each person that was not taken before, while there are any."""
        for person in persons:
            taken = self._taken[person]
            if taken < len(MARKS):
                self._taken[person] += 1
                yield Shot(person, MARKS[taken * 10 % len(MARKS)])


def _ids(state: State, tenant_id: TenantId, kind: str) -> list[str]:
    """Those that exist, oldest face first: an order that does not hang on what the ids are."""
    tenant = state.get(tenant_id, Tenant())
    if kind == "face":
        return list(tenant.faces)
    if kind == "cluster":
        return list(dict.fromkeys(face.cluster_id for face in tenant.faces.values()))
    shown = dict.fromkeys(face.image_id for face in tenant.faces.values())
    return [*shown, *sorted(tenant.images.difference(shown))]

"""Which face of a photo joins which cluster."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from service.domain.matching import assign_clusters
from service.domain.types import ClusterDistance, ClusterId


def near(**distances: float) -> list[ClusterDistance]:
    return [ClusterDistance(ClusterId(name), distance) for name, distance in distances.items()]


def names(chosen: list[ClusterDistance | None]) -> list[str | None]:
    return [None if one is None else one.cluster_id for one in chosen]


def test_a_face_joins_its_nearest_cluster() -> None:
    chosen = assign_clusters([near(b=0.3, a=0.2, c=0.4)], 0.5)
    assert chosen == near(a=0.2)


def test_a_contested_cluster_goes_to_the_nearest_face_of_the_photo() -> None:
    assert names(assign_clusters([near(a=0.3), near(a=0.1), near(a=0.2)], 0.5)) == [None, "a", None]


def test_the_loser_gets_its_next_best() -> None:
    chosen = assign_clusters([near(a=0.2, b=0.3), near(a=0.1, b=0.15)], 0.5)
    assert names(chosen) == ["b", "a"]


def test_a_loser_does_not_take_what_fits_a_third_face_better() -> None:
    chosen = assign_clusters([near(a=0.1), near(a=0.2, b=0.4, c=0.45), near(b=0.3)], 0.5)
    assert names(chosen) == ["a", "c", "b"]


def test_the_largest_distance_still_matches() -> None:
    assert names(assign_clusters([near(a=0.5)], 0.5)) == ["a"]


def test_beyond_the_largest_distance_nothing_matches() -> None:
    assert names(assign_clusters([near(a=0.5000001)], 0.5)) == [None]


def test_equal_distances_go_to_the_earlier_face() -> None:
    assert names(assign_clusters([near(a=0.2), near(a=0.2)], 0.5)) == ["a", None]


def test_a_tenant_without_clusters_matches_nothing() -> None:
    assert assign_clusters([[], []], 0.5) == [None, None]


def test_a_photo_without_faces_has_no_choices() -> None:
    assert assign_clusters([], 0.5) == []


photos = st.lists(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 20).map(lambda n: n / 20), max_size=6)
    .map(lambda distances: near(**distances)),
    max_size=5,
)  # fmt: skip


@given(photo=photos, limit=st.integers(0, 20).map(lambda n: n / 20))
def test_each_face_gets_one_of_its_own_candidates_and_each_cluster_one_face(
    photo: list[list[ClusterDistance]], limit: float
) -> None:
    chosen = assign_clusters(photo, limit)
    assert len(chosen) == len(photo)
    for options, one in zip(photo, chosen, strict=True):
        assert one is None or (one in options and one.distance <= limit)
    taken = [name for name in names(chosen) if name is not None]
    assert len(taken) == len(set(taken))


@given(photo=photos, limit=st.integers(0, 20).map(lambda n: n / 20))
def test_no_face_envies_a_free_cluster_or_one_that_a_farther_face_took(
    photo: list[list[ClusterDistance]], limit: float
) -> None:
    chosen = assign_clusters(photo, limit)
    holder = {one.cluster_id: one.distance for one in chosen if one is not None}
    for options, one in zip(photo, chosen, strict=True):
        for option in options:
            if option.distance > limit or (one is not None and option.distance >= one.distance):
                continue
            assert holder.get(option.cluster_id, 3.0) <= option.distance


@given(
    table=st.permutations(range(9)).map(
        lambda ranks: [
            near(**{name: ranks[face * 3 + i] / 10 for i, name in enumerate("abc")})
            for face in range(3)
        ]
    )
)
def test_the_order_of_faces_does_not_matter(table: list[list[ClusterDistance]]) -> None:
    chosen = assign_clusters(table, 0.5)
    for order in permutations(range(3)):
        assert assign_clusters([table[i] for i in order], 0.5) == [chosen[i] for i in order]

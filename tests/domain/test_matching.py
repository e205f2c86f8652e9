"""Which face of a photo joins which cluster."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.domain.matching import (
    ClusterQuery,
    Cohort,
    DistanceLimit,
    FalseMatchCurve,
    MatchRule,
    assign_clusters,
    doubt_of,
    fixed_rule,
)
from service.domain.types import ClusterDistance, ClusterId, ModelSpace


def near(**distances: float) -> list[ClusterDistance]:
    return [ClusterDistance(ClusterId(name), d, d, 1) for name, d in distances.items()]


def assigned(
    candidates: Sequence[Sequence[ClusterDistance]], max_distance: float
) -> list[ClusterDistance | None]:
    return assign_clusters(candidates, [max_distance] * len(candidates))


def names(chosen: list[ClusterDistance | None]) -> list[str | None]:
    return [None if one is None else one.cluster_id for one in chosen]


def test_a_face_joins_its_nearest_cluster() -> None:
    chosen = assigned([near(b=0.3, a=0.2, c=0.4)], 0.5)
    assert chosen == near(a=0.2)


def test_a_contested_cluster_goes_to_the_nearest_face_of_the_photo() -> None:
    assert names(assigned([near(a=0.3), near(a=0.1), near(a=0.2)], 0.5)) == [None, "a", None]


def test_the_loser_gets_its_next_best() -> None:
    chosen = assigned([near(a=0.2, b=0.3), near(a=0.1, b=0.15)], 0.5)
    assert names(chosen) == ["b", "a"]


def test_a_loser_does_not_take_what_fits_a_third_face_better() -> None:
    chosen = assigned([near(a=0.1), near(a=0.2, b=0.4, c=0.45), near(b=0.3)], 0.5)
    assert names(chosen) == ["a", "c", "b"]


def test_the_largest_distance_still_matches() -> None:
    assert names(assigned([near(a=0.5)], 0.5)) == ["a"]


def test_beyond_the_largest_distance_nothing_matches() -> None:
    assert names(assigned([near(a=0.5000001)], 0.5)) == [None]


def test_equal_distances_go_to_the_earlier_face() -> None:
    assert names(assigned([near(a=0.2), near(a=0.2)], 0.5)) == ["a", None]


def test_a_tenant_without_clusters_matches_nothing() -> None:
    assert assigned([[], []], 0.5) == [None, None]


def test_a_photo_without_faces_has_no_choices() -> None:
    assert assigned([], 0.5) == []


photos = st.lists(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 20).map(lambda n: n / 20), max_size=6)
    .map(lambda distances: near(**distances)),
    max_size=5,
)  # fmt: skip


@given(photo=photos, limit=st.integers(0, 20).map(lambda n: n / 20))
def test_each_face_gets_one_of_its_own_candidates_and_each_cluster_one_face(
    photo: list[list[ClusterDistance]], limit: float
) -> None:
    chosen = assigned(photo, limit)
    assert len(chosen) == len(photo)
    for options, one in zip(photo, chosen, strict=True):
        assert one is None or (one in options and one.distance <= limit)
    taken = [name for name in names(chosen) if name is not None]
    assert len(taken) == len(set(taken))


@given(photo=photos, limit=st.integers(0, 20).map(lambda n: n / 20))
def test_no_face_envies_a_free_cluster_or_one_that_a_farther_face_took(
    photo: list[list[ClusterDistance]], limit: float
) -> None:
    chosen = assigned(photo, limit)
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
    chosen = assigned(table, 0.5)
    for order in permutations(range(3)):
        assert assigned([table[i] for i in order], 0.5) == [chosen[i] for i in order]


def unit(*numbers: float) -> NDArray[np.float32]:
    vector = np.zeros(8, np.float32)
    vector[: len(numbers)] = numbers
    return vector / np.linalg.norm(vector)


def measured(rule: MatchRule, probe: NDArray[np.float32], *members: NDArray[np.float32]) -> float:
    total = np.sum(members, axis=0, dtype=np.float64)
    return float(rule.distances(probe, total[np.newaxis], np.array([float(len(members))]))[0])


def test_a_cluster_of_one_face_is_as_far_as_the_face() -> None:
    probe, member = unit(1, 0.5), unit(0.2, 1)
    assert measured(fixed_rule(0.5), probe, member) == pytest.approx(1 - probe @ member)


def test_one_face_that_looks_like_somebody_joins_nobody_to_a_cluster_of_others() -> None:
    others = [unit(1, 0.1 * n, 0, 0.2) for n in range(-4, 5)]
    double = unit(0.5, 0, 1)
    probe = unit(0.4, 0, 1)
    rule = fixed_rule(0.5)
    assert measured(rule, probe, double) < 0.01
    assert measured(rule, probe, *others, double) > 0.5


def test_many_faces_of_one_person_say_more_than_one_does() -> None:
    person, probe = unit(1), unit(1, 0.9)
    around = [unit(1, 0, *(np.eye(6)[n % 6] * 0.5)) for n in range(24)]
    distances = [measured(fixed_rule(0.5), probe, *around[:n]) for n in (1, 3, 12, 24)]
    assert distances == sorted(distances, reverse=True)
    # In the end it is as if the person had been seen, and less is asked for.
    assert distances[-1] < 1 - float(person @ probe)


@pytest.mark.parametrize("weight", [None, 0.5])
def test_the_distance_of_two_clusters_is_the_same_from_both_and_that_of_a_lone_face(
    weight: float | None,
) -> None:
    rng = np.random.default_rng(3)
    faces = rng.standard_normal((6, 8))
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    sums = np.stack([faces[0], faces[1:3].sum(axis=0), faces[3:].sum(axis=0)])
    counts = np.array([1.0, 2.0, 3.0])
    cohort = None
    if weight is not None:
        cohort = Cohort(faces[:2].astype(np.float32), 0.1, 0.0, weight)
    rule = MatchRule(DistanceLimit(0.5), cohort)
    table = np.stack(
        [
            rule.distances_between(total, count, sums, counts)
            for total, count in zip(sums, counts, strict=True)
        ]
    )
    assert np.allclose(table, table.T)
    alone = rule.distances(faces[0].astype(np.float32), sums, counts)
    assert np.allclose(table[0], alone, atol=1e-6)


def test_the_order_of_members_does_not_matter() -> None:
    members = [unit(1, 0.1 * n, 0.3) for n in range(5)]
    probe = unit(0.7, 0.6, 0.2)
    found = {round(measured(fixed_rule(0.5), probe, *order), 12) for order in permutations(members)}
    assert len(found) == 1


def test_faces_that_look_like_many_peoples_have_to_be_nearer() -> None:
    crowd = np.stack([unit(0, 1, 0.1 * n) for n in range(4)])
    cohort = Cohort(crowd, temperature=0.1, typical=0.0, weight=1.0)
    rule = MatchRule(DistanceLimit(0.5), cohort)
    apart = [(unit(1, 0), unit(1, 0, 0, 0.5)), (unit(0, 1), unit(0, 1, 0, 0.5))]
    rare, common = (measured(rule, one, other) for one, other in apart)
    assert measured(fixed_rule(0.5), *apart[0]) == pytest.approx(
        measured(fixed_rule(0.5), *apart[1])
    )
    assert common > rare + 0.5


def test_the_average_face_has_no_density() -> None:
    faces = np.stack([unit(1, 0.3 * n) for n in range(-3, 4)]).astype(np.float64)
    centres = faces[:3].astype(np.float32)
    raw = Cohort(centres, 0.1, 0.0, 1.0).density(faces)
    assert Cohort(centres, 0.1, float(raw.mean()), 1.0).density(faces).mean() == pytest.approx(0)


CURVE = FalseMatchCurve((0.3, 0.35, 0.4, 0.5), (1e-6, 1e-5, 1e-4, 1e-3))


@pytest.mark.parametrize(
    ("rate", "distance"),
    [
        (1e-6, 0.3),
        (1e-4, 0.4),
        (10**-4.5, 0.375),
        (1e-3, 0.5),
        (1e-2, 0.5),
        (1e-7, 0.25),
        (1e-20, 0),
    ],
)
def test_the_distance_of_a_false_match_rate(rate: float, distance: float) -> None:
    assert CURVE.distance(rate) == pytest.approx(distance)


@given(rate=st.floats(1e-9, 1e-3))
def test_the_rate_at_a_distance_is_the_one_that_the_distance_was_made_for(rate: float) -> None:
    distance = CURVE.distance(rate)
    if distance > 0:
        assert CURVE.log_rate(distance) == pytest.approx(np.log10(rate))


@pytest.mark.parametrize(
    ("distance", "log_rate"),
    [(0.25, -7), (-0.1, -14), (0.3, -6), (0.375, -4.5), (0.5, -3), (0.6, -2), (1.0, 2)],
)
def test_the_curve_goes_on_beyond_both_ends_as_over_the_last_decade(
    distance: float, log_rate: float
) -> None:
    assert CURVE.log_rate(distance) == pytest.approx(log_rate)


limits = st.sampled_from([DistanceLimit(0.4), DistanceLimit(0.4, CURVE), DistanceLimit(0.0)])
distances = st.floats(-0.5, 2.5)


@given(limit=limits, at=st.floats(0, 2))
def test_the_similarity_at_the_limit_is_a_half(limit: DistanceLimit, at: float) -> None:
    assert limit.similarity(at, at) == 0.5


@given(limit=limits, at=st.floats(0, 2), pair=st.tuples(distances, distances))
def test_the_similarity_falls_with_the_distance_from_one_to_zero(
    limit: DistanceLimit, at: float, pair: tuple[float, float]
) -> None:
    near, far = sorted(pair)
    assert 1 >= limit.similarity(near, at) >= limit.similarity(far, at) >= 0
    if far - near > 1e-3 and 0.01 < limit.similarity(near, at) < 0.99:
        assert limit.similarity(near, at) > limit.similarity(far, at)


@given(limit=limits, at=st.floats(0, 2), distance=distances)
def test_what_is_within_the_limit_is_more_similar_than_not(
    limit: DistanceLimit, at: float, distance: float
) -> None:
    similarity = limit.similarity(distance, at)
    if distance <= at:
        assert similarity >= 0.5
    else:
        assert similarity <= 0.5  # equal only where the distances differ by less than a float tells
    if distance > at + 1e-6:
        assert similarity < 0.5


@pytest.mark.parametrize("limit", [DistanceLimit(0.4), DistanceLimit(0.4, CURVE)])
def test_the_same_face_is_as_similar_as_can_be_and_strangers_are_not(limit: DistanceLimit) -> None:
    assert limit.similarity(0.0, 0.4) > 0.999
    assert limit.similarity(0.9, 0.4) < 0.001


def test_ten_times_as_many_strangers_are_ten_to_one_against() -> None:
    limit = DistanceLimit(0.4, CURVE)
    assert limit.similarity(CURVE.distance(1e-5), CURVE.distance(1e-6)) == pytest.approx(1 / 11)
    assert limit.similarity(CURVE.distance(1e-6), CURVE.distance(1e-5)) == pytest.approx(10 / 11)


def test_the_limit_falls_so_that_the_chance_of_a_wrong_join_stays() -> None:
    limit = DistanceLimit(0.9, CURVE, max_fmr=1e-3, max_wrong_joins=0.01)
    limits = [limit.at(people) for people in (0, 1, 10, 100, 1_000, 10_000, 100_000)]
    assert limits == sorted(limits, reverse=True)
    assert limits[:3] == pytest.approx([0.5, 0.5, 0.5], abs=1e-3)  # where max_fmr binds
    for people in (100, 1_000, 10_000):
        rate = 10 ** np.interp(limit.at(people), CURVE.distances, np.log10(CURVE.rates))
        assert 1 - (1 - rate) ** people == pytest.approx(0.01, rel=1e-3)


def test_without_a_curve_the_limit_is_a_distance() -> None:
    assert {DistanceLimit(0.4, max_wrong_joins=0.01).at(people) for people in (0, 10**6)} == {0.4}


def test_each_face_has_a_limit_of_its_own() -> None:
    near_by = [near(a=0.3), near(b=0.3)]
    assert names(assign_clusters(near_by, [0.3, 0.29])) == ["a", None]


def test_limits_of_a_query_are_by_the_quality_of_its_faces() -> None:
    curve = FalseMatchCurve((0.2, 0.4), (1e-6, 1e-2))
    rule = MatchRule(DistanceLimit(0.3, curve, max_fmr=1e-3))
    faces = tuple(np.eye(3, dtype=np.float32))
    usual, strict = curve.distance(1e-3), curve.distance(5e-5)
    assert strict < usual
    found = ClusterQuery(faces, ModelSpace("made-up/1"), rule, (0.0, 1.0, 0.5)).limits(10, 1.0)
    assert found == pytest.approx((usual, strict, (usual + strict) / 2))
    assert ClusterQuery(faces, ModelSpace("made-up/1"), rule).limits(10, 1.0) == (usual,) * 3
    assert ClusterQuery(faces, ModelSpace("made-up/1"), rule).limits(10, 0.05) == pytest.approx(
        (strict,) * 3
    )


@pytest.mark.parametrize("curve", [None, FalseMatchCurve((0.1, 0.3, 0.5), (1e-7, 1e-4, 1e-1))])
@pytest.mark.parametrize("factor", [0.02, 0.5, 1.0, 20.0])
def test_a_factor_of_the_limit_is_so_many_strangers(
    curve: FalseMatchCurve | None, factor: float
) -> None:
    limit = DistanceLimit(0.3, curve, max_fmr=1e-4)
    usual, other = limit.at(9), limit.at(9, factor=factor)
    assert (other > usual, other < usual) == (factor > 1, factor < 1)
    assert 10 ** limit.decades(other, usual) == pytest.approx(factor)


def test_what_is_not_much_better_than_the_least_is_doubted_a_little() -> None:
    scores = (0.0, 0.39, 0.4, 0.45, 0.5, 0.6, 1.0)
    found = [doubt_of(score, 0.4) for score in scores]
    assert found == pytest.approx([1, 1, 1, 0.75, 0.5, 0, 0])


def test_a_near_face_is_as_far_as_its_cosine_and_how_dense_it_is_there() -> None:
    probe = np.eye(4, dtype=np.float32)[0]
    assert fixed_rule(0.5).distance_to_face(probe, 0.25) == 0.25
    cohort = Cohort(np.eye(4, dtype=np.float32)[:2], 0.1, 0.05, 1.1)
    density = float(cohort.density(probe.astype(np.float64)[None])[0])
    assert density > 0
    found = MatchRule(DistanceLimit(0.5), cohort).distance_to_face(probe, 0.25)
    assert found == pytest.approx(0.25 + 1.1 * density)

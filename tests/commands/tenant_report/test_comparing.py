"""What a report says of distances and doubts is what the match rule says, pair by pair."""

from __future__ import annotations

from datetime import date
from itertools import combinations

import numpy as np
import pytest

from service.commands.tenant_report import doubts
from service.commands.tenant_report.distances import BIN_WIDTH, measure_distances
from service.commands.tenant_report.doubts import doubtful_faces, nearest_pairs
from service.commands.tenant_report.page import period_bars, size_bars
from service.domain.matching import Cohort, DistanceLimit, FalseMatchCurve, MatchRule
from service.domain.types import ClusterId, Embedding, FaceId
from service.store.face.census import Periods, SampledFaces, Sums
from tests.support.analysed import near, person

CURVE = FalseMatchCurve((0.2, 0.6), (1e-6, 1e-2))
COHORT = Cohort(np.stack([person(100 + n) for n in range(8)]), 0.1, 0.05, 1.1)
RULE = MatchRule(DistanceLimit(0.5, CURVE, max_fmr=1e-3), COHORT)
LIMIT = RULE.limit.at(10)


def faces_of(people: dict[str, list[Embedding]], *, quality: float = 1.0) -> SampledFaces:
    every = [(name, n, face) for name, faces in people.items() for n, face in enumerate(faces)]
    return SampledFaces(
        tuple(ClusterId(name) for name, _, _ in every),
        tuple(FaceId(f"{name}{n}") for name, n, _ in every),
        (quality,) * len(every),
        np.stack([face for _, _, face in every]),
    )


def sums_of(people: dict[str, list[Embedding]]) -> Sums:
    return Sums(
        tuple(map(ClusterId, people)),
        np.stack([np.sum(faces, axis=0) for faces in people.values()]),
        np.asarray([len(faces) for faces in people.values()], np.float32),
    )


def around(face: Embedding, distance: float, count: int, seed: int) -> list[Embedding]:
    return [near(face, distance, 1000 * seed + n) for n in range(count)]


PEOPLE = {
    "a": around(person(1), 0.1, 4, 1),
    "b": around(near(person(1), 0.2, 7), 0.1, 3, 2),  # whom a is like
    "c": [*around(person(3), 0.1, 3, 3), person(4)],  # the last one does not belong there
    "d": [person(5)],
}


def test_every_pair_is_counted_once_where_the_rule_puts_it() -> None:
    found = measure_distances(RULE, LIMIT, faces_of(PEOPLE))
    same, different = np.zeros(len(found.same), int), np.zeros(len(found.same), int)
    beyond = within = 0

    def place(one: Embedding, other: Embedding) -> tuple[int, bool]:
        (distance,) = RULE.distances(one, other[np.newaxis], np.ones(1, np.float32))
        return max(0, int(distance / BIN_WIDTH)), bool(distance <= LIMIT)

    for faces in PEOPLE.values():
        for one, other in combinations(faces, 2):
            where, is_within = place(one, other)
            same[where] += 1
            beyond += not is_within
    for one, other in combinations([faces[0] for faces in PEOPLE.values()], 2):
        where, is_within = place(one, other)
        different[where] += 1
        within += is_within
    assert found.same == tuple(same)
    assert found.different == tuple(different)
    assert (found.same_beyond, found.different_within) == (beyond, within)
    assert (found.same_pairs, found.different_pairs) == (6 + 3 + 6, 6)
    assert (found.people, found.faces) == (4, 12)
    assert beyond == 3  # each face of c with the wrong one


def test_people_who_may_be_one_are_found_nearest_first_whatever_the_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    people = PEOPLE | {f"e{n}": around(near(person(3), 0.15, n), 0.1, 2, 50 + n) for n in range(5)}
    sums = sums_of(people)
    means = sums.totals / np.linalg.norm(sums.totals, axis=1, keepdims=True)
    expected = {}
    for a, b in combinations(range(len(people)), 2):
        there = RULE.distances(means[a], sums.totals[[b]], sums.counts[[b]])
        back = RULE.distances(means[b], sums.totals[[a]], sums.counts[[a]])
        expected[sums.people[a], sums.people[b]] = float(min(there[0], back[0]))
    nearest = sorted(expected, key=lambda pair: expected[pair])
    for rows in (2, 500):
        monkeypatch.setattr(doubts, "_ROWS_AT_ONCE", rows)
        found = nearest_pairs(RULE, LIMIT, sums, 4, most_people=50)
        assert [(each.first, each.second) for each in found.pairs] == nearest[:4]
        assert [each.distance for each in found.pairs] == pytest.approx(
            [expected[pair] for pair in nearest[:4]], abs=1e-5
        )
        assert found.within == sum(each <= LIMIT for each in expected.values())
        assert (found.compared, found.of_largest) == (len(people), False)
    found = nearest_pairs(RULE, LIMIT, sums, 4, most_people=3)
    assert [(each.first, each.second) for each in found.pairs] == [("a", "b")]
    assert (found.compared, found.of_largest) == (3, True)
    assert found.pairs[0].similarity > 0.5


def test_a_face_is_compared_with_its_person_without_it() -> None:
    found = doubtful_faces(RULE, 10, 0.4, faces_of(PEOPLE), sums_of(PEOPLE), most=5)
    assert found.checked == 11  # d has nothing else to be compared with
    (far,) = found.far
    assert (far.face_id, far.person_id, far.limit) == ("c3", "c", LIMIT)
    assert far.beside in ("c0", "c1", "c2")
    others = np.sum(PEOPLE["c"][:3], axis=0)[np.newaxis]
    (distance,) = RULE.distances(person(4), others, np.asarray([3], np.float32))
    assert far.distance == pytest.approx(float(distance), abs=1e-5)
    assert far.similarity < 0.5
    assert (found.far_in_all, found.close, found.close_in_all) == (1, (), 0)


def test_a_face_of_low_quality_is_measured_by_its_own_limit() -> None:
    people = {"a": [*around(person(1), 0.1, 4, 1), near(person(1), 0.5, 9)]}
    good = doubtful_faces(RULE, 10, 0.4, faces_of(people), sums_of(people), most=5)
    poor = doubtful_faces(RULE, 10, 0.4, faces_of(people, quality=0.4), sums_of(people), most=5)
    assert not good.far
    assert [each.face_id for each in poor.far] == ["a4"]
    assert poor.far[0].limit < LIMIT


def test_nobody_and_one_person_are_no_pairs() -> None:
    nobody = Sums((), np.empty((0, 512), np.float32), np.empty(0, np.float32))
    sample = SampledFaces((), (), (), np.empty((0, 512), np.float32))
    assert nearest_pairs(RULE, LIMIT, nobody, 5, most_people=9).pairs == ()
    assert doubtful_faces(RULE, 1, 0.4, sample, nobody, most=5).checked == 0
    assert measure_distances(RULE, LIMIT, sample).different_pairs == 0
    alone = {"d": [person(5)]}
    assert nearest_pairs(RULE, LIMIT, sums_of(alone), 5, most_people=9).pairs == ()


@pytest.mark.parametrize("cohort", [None, COHORT])
def test_distances_of_many_are_those_of_each(cohort: Cohort | None) -> None:
    rule = MatchRule(RULE.limit, cohort)
    sums = sums_of(PEOPLE)
    every = np.concatenate(list(PEOPLE.values()))
    one_by_one = [rule.distances(face, sums.totals, sums.counts) for face in every]
    np.testing.assert_allclose(
        rule.all_distances(every, sums.totals, sums.counts), one_by_one, atol=1e-5
    )


def test_sizes_are_put_in_doubling_ranges_without_losing_anybody() -> None:
    sizes = ((1, 10), (2, 5), (3, 1), (4, 1), (5, 2), (8, 1), (9, 1), (40, 1))
    assert size_bars(sizes) == [
        *(("1", 10), ("2", 5), ("3\u20134", 2)),
        *(("5\u20138", 3), ("9\u201316", 1), ("17\u201332", 0), ("33\u201364", 1)),
    ]
    assert size_bars(((0, 2), (1, 1))) == [("0", 2), ("1", 1), ("2", 0)]


def test_periods_without_a_photo_are_there_as_well() -> None:
    months = Periods("month", True, ((date(2019, 11, 1), 3), (date(2020, 2, 1), 1)))
    assert period_bars(months) == [
        *(("2019-11", 3), ("2019-12", 0), ("2020-01", 0), ("2020-02", 1)),
    ]
    weeks = Periods("week", True, ((date(2019, 12, 30), 3), (date(2020, 1, 13), 1)))
    assert [name for name, _ in period_bars(weeks)] == ["2019-12-30", "2020-01-06", "2020-01-13"]
    years = Periods("year", True, ((date(2019, 1, 1), 3), (date(2021, 1, 1), 1)))
    assert period_bars(years) == [("2019", 3), ("2020", 0), ("2021", 1)]
    assert period_bars(Periods("day", False, ())) == []

"""How likely an answer changes something, and how much: the order of the questions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.asking import (
    chance_of_a_stranger,
    chance_of_one_person,
    chance_of_two_people,
    chances_of_each,
    halves,
    pairs_settled,
)
from tests.support.analysed import near, person

SIMILARITIES = st.floats(0, 1)
FACES = st.integers(1, 10_000)


@given(SIMILARITIES, SIMILARITIES, FACES, FACES)
def test_the_more_alike_two_people_are_the_likelier_they_are_one(
    one: float, other: float, faces: int, other_faces: int
) -> None:
    less, more = sorted((one, other))
    chances = [chance_of_one_person(each, faces, other_faces) for each in (0, less, more, 1)]
    assert chances == sorted(chances)
    assert chances[0] == 0
    assert chances[-1] == 1


@given(SIMILARITIES, SIMILARITIES, FACES)
def test_the_more_a_face_is_like_the_others_the_less_likely_it_is_a_stranger(
    one: float, other: float, others: int
) -> None:
    less, more = sorted((one, other))
    chances = [chance_of_a_stranger(each, others) for each in (1, more, less, 0)]
    assert chances == sorted(chances)
    assert chances[0] == 0
    assert chances[-1] == 1


@given(SIMILARITIES, SIMILARITIES, SIMILARITIES, FACES)
def test_two_people_are_the_less_likely_one_the_more_somebody_else_is_like_them(
    similarity: float, one: float, other: float, faces: int
) -> None:
    less, more = sorted((one, other))
    chances = [chance_of_one_person(similarity, faces, 8, rival) for rival in (more, less)]
    assert chances == sorted(chances)


@given(SIMILARITIES, SIMILARITIES, st.integers(1, 100), st.booleans())
def test_a_face_is_the_likelier_a_stranger_the_more_it_is_like_somebody_else(
    similarity: float, other: float, others: int, is_farthest: bool
) -> None:
    known, unknown = (
        chance_of_a_stranger(similarity, others, other=each, is_farthest=is_farthest)
        for each in (other, None)
    )
    assert known > unknown or other <= similarity or known in (0, 1)
    assert known == unknown or other > similarity


@given(st.lists(SIMILARITIES, min_size=1, max_size=8), st.floats(1, 100))
def test_a_face_is_one_of_those_near_the_likelier_the_more_faces_people_have(
    chances: list[float], faces_per_person: float
) -> None:
    fewer, more = (sum(chances_of_each(chances, faces_per_person * each)) for each in (1, 2))
    assert 0 < fewer < more <= 1 + 1e-9 or fewer == pytest.approx(1)
    shares = chances_of_each(sorted(chances), faces_per_person)
    assert shares == sorted(shares)


@given(st.floats(0.01, 0.99), FACES, FACES)
def test_one_similarity_says_less_of_two_people_with_more_faces(
    similarity: float, faces: int, other_faces: int
) -> None:
    chance = chance_of_one_person(similarity, faces, other_faces)
    assert chance == chance_of_one_person(similarity, other_faces, faces)
    assert chance > chance_of_one_person(similarity, 2 * faces, 2 * other_faces)


@given(SIMILARITIES, SIMILARITIES, FACES)
def test_the_farther_the_halves_are_apart_the_likelier_they_are_two_people(
    one: float, other: float, faces: int
) -> None:
    less, more = sorted((one, other))
    chances = [chance_of_two_people(each, faces) for each in (1, more, less, 0)]
    assert chances == sorted(chances)
    assert chances[0] == 0
    assert chances[-1] == 1
    assert chance_of_two_people(less, 2 * faces) >= chance_of_two_people(less, faces)


def test_the_halves_of_two_people_in_one_cluster_are_the_two_people() -> None:
    look_alike = near(person(1), 0.3, 99)
    faces = [near(person(1), 0.1, seed) for seed in range(9)]
    others = [near(look_alike, 0.1, seed) for seed in range(100, 105)]
    order = np.random.default_rng(0).permutation(14)
    half = halves(np.stack([*faces, *others])[order])
    assert np.array_equal(half, order >= 9)


def test_faces_that_are_all_one_have_no_halves() -> None:
    assert not halves(np.stack([person(1)] * 4)).any()


def test_the_pairs_of_the_largest_people_are_a_number_that_the_database_keeps() -> None:
    assert pairs_settled(3, 4) == 12
    assert pairs_settled(100_000, 100_000) == 2**31 - 1

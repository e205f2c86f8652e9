"""How likely an answer changes something, and how much: the order of the questions."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.domain.asking import (
    chance_of_a_stranger,
    chance_of_one_person,
    chance_of_two_people,
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

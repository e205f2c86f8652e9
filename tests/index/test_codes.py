"""Binary codes: which faces they say are worth comparing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bench.common.crowd import FACENET, SFACE, Crowd, crowd
from service.index import codes as module
from service.index.codes import FaceCodes, code_of
from service.index.sums import RoundedSums

EVERYBODY = 10**9


@pytest.fixture(scope="module", params=[FACENET, SFACE], ids=["512 numbers", "128 numbers"])
def people(request: pytest.FixtureRequest) -> Crowd:
    return crowd(6000, seed=1, spread=request.param)


def numbered(numbers: np.ndarray) -> np.ndarray:
    """Numbers as ids of faces."""
    ids = np.zeros((len(numbers), 2), np.int64)
    ids[:, 0] = numbers
    return ids.view("V16")[:, 0]


def numbers_of(ids: np.ndarray) -> list[int]:
    return sorted(ids.view(np.int64).reshape(-1, 2)[:, 0].tolist())


def codes_of(faces: np.ndarray) -> np.ndarray:
    return np.stack([code_of(face) for face in faces])


def by_clusters(people: Crowd) -> FaceCodes:
    """All faces, held as they are after they were read: those of a person together."""
    order = np.argsort(people.person_of, kind="stable")
    codes = FaceCodes()
    codes.add(numbered(order), codes_of(people.faces[order]), people.person_of[order])
    return codes


def one_by_one(people: Crowd) -> FaceCodes:
    """The same faces as they come, in parts of different sizes."""
    codes, start = FaceCodes(), 0
    for size in (1, 2, 5, 100, 3000, EVERYBODY):
        part = np.arange(start, min(start + size, len(people.faces)))
        codes.add(numbered(part), codes_of(people.faces[part]))
        start += size
    return codes


def test_a_code_is_the_signs_of_the_stored_vector() -> None:
    embedding = np.zeros(512, np.float32)
    embedding[[0, 9, 511]] = 0.5
    embedding[1] = -0.5
    embedding[2] = 1e-9  # nothing at half precision
    (bits,) = np.nonzero(np.unpackbits(code_of(embedding).view(np.uint8)))
    assert bits.tolist() == [0, 9, 511]


@pytest.mark.parametrize("dimension", [64, 100, 128, 256, 512, 1024])
def test_codes_differ_by_the_angle_whatever_the_dimension(dimension: int) -> None:
    rng = np.random.default_rng(5)
    one, noise = rng.standard_normal((2, 300, dimension)) / np.sqrt(dimension)
    for strength in (0.1, 0.5, 1.0, 20.0):
        other = one + strength * noise
        cosine = (one * other).sum(axis=1)
        cosine /= np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        bits = np.bitwise_count(codes_of(one) ^ codes_of(other)).sum(axis=1)
        off = bits / 512 - np.arccos(cosine) / np.pi
        assert abs(off.mean()) < 0.005
        assert off.std() < 0.03  # of 512 independent ones it would be 0.022


def test_codes_of_one_face_are_the_same_alone_and_among_others(people: Crowd) -> None:
    together = module.codes_of(people.faces[:100].astype(np.float16))
    assert (together == codes_of(people.faces[:100])).all()


@pytest.mark.parametrize("held", [by_clusters, one_by_one])
def test_every_face_is_held_once_wherever_it_lies(held, people: Crowd) -> None:
    codes = held(people)
    assert len(codes) == len(people.faces)
    found = codes.snapshot.nearest(code_of(people.faces[0]), EVERYBODY, EVERYBODY)
    assert numbers_of(found) == list(range(len(people.faces)))


@pytest.mark.parametrize("held", [by_clusters, one_by_one])
def test_of_all_codes_the_nearest_are_found(held, people: Crowd) -> None:
    codes = held(people)
    all_codes = codes_of(people.faces)
    for query in people.more_faces(20, np.random.default_rng(1)):
        differing = np.bitwise_count(all_codes ^ code_of(query)).sum(axis=1)
        limit = np.sort(differing)[9]  # those as far away as the tenth come with it
        found = codes.snapshot.nearest(code_of(query), EVERYBODY, 10)
        assert numbers_of(found) == np.flatnonzero(differing <= limit).tolist()


@pytest.mark.parametrize("held", [by_clusters, one_by_one])
def test_a_new_face_finds_its_person_among_few_pivots(held, people: Crowd) -> None:
    codes = held(people)
    assert codes.pivots < len(people.faces) / 3
    queries = people.more_faces(200, np.random.default_rng(2))
    nearest = np.argmax(queries @ people.faces.T, axis=1)
    found = [numbers_of(codes.snapshot.nearest(code_of(query), 32, 32)) for query in queries]
    assert all(32 <= len(faces) < 64 for faces in found)
    hits = [number in faces for number, faces in zip(nearest.tolist(), found, strict=True)]
    assert np.mean(hits) >= 0.99


def test_faces_far_from_each_other_in_one_cluster_are_all_pivots() -> None:
    strangers = np.random.default_rng(3).standard_normal((3000, 512)).astype(np.float32)
    codes = FaceCodes()
    codes.add(numbered(np.arange(3000)), codes_of(strangers), np.zeros(3000, np.int64))
    assert codes.pivots == 3000


def test_many_faces_of_one_person_have_one_pivot() -> None:
    rng = np.random.default_rng(4)
    face = rng.standard_normal(512)
    faces = (face + 0.1 * rng.standard_normal((3000, 512))).astype(np.float32)
    codes = FaceCodes()
    codes.add(numbered(np.arange(3000)), codes_of(faces))
    assert codes.pivots == 1
    assert len(codes.snapshot.nearest(code_of(faces[0]), 1, EVERYBODY)) == 3000


def test_nothing_is_found_among_no_faces() -> None:
    assert len(FaceCodes().snapshot.nearest(np.zeros(8, np.uint64), 32, 32)) == 0


def test_the_memory_of_what_is_held_is_told(people: Crowd) -> None:
    codes = by_clusters(people)
    assert codes.size_bytes == (64 + 16 + 8) * len(people.faces) + 108 * codes.pivots
    without = codes.size_bytes
    sums = hold_sums(codes, people)
    assert codes.size_bytes == without + len(sums) * (people.faces.shape[1] + 12)


@pytest.mark.parametrize("held", [by_clusters, one_by_one])
def test_of_the_faces_that_stay_the_nearest_are_found(held, people: Crowd) -> None:
    codes = held(people)
    rng = np.random.default_rng(7)
    gone = rng.choice(len(people.faces), 4000, replace=False)
    for part in np.array_split(gone, 3):
        codes.remove(numbered(np.concatenate((part, [10**6]))))
    stay = np.setdiff1d(np.arange(len(people.faces)), gone)
    assert len(codes) == len(stay)
    assert codes.removed == 4000
    all_codes = codes_of(people.faces[stay])
    for query in people.more_faces(20, rng):
        differing = np.bitwise_count(all_codes ^ code_of(query)).sum(axis=1)
        limit = np.sort(differing)[9]
        found = codes.snapshot.nearest(code_of(query), EVERYBODY, 10)
        assert numbers_of(found) == stay[differing <= limit].tolist()


def test_a_person_is_found_among_few_pivots_after_half_of_the_faces_went(people: Crowd) -> None:
    codes = by_clusters(people)
    stay = np.arange(0, len(people.faces), 2)
    codes.remove(numbered(stay + 1))
    queries = people.more_faces(200, np.random.default_rng(2))
    nearest = stay[np.argmax(queries @ people.faces[stay].T, axis=1)]
    found = [numbers_of(codes.snapshot.nearest(code_of(query), 32, 32)) for query in queries]
    hits = [number in faces for number, faces in zip(nearest.tolist(), found, strict=True)]
    assert np.mean(hits) >= 0.98


def test_a_person_whose_faces_all_went_has_no_pivot_and_a_new_face_becomes_one() -> None:
    strangers = np.random.default_rng(3).standard_normal((50, 512)).astype(np.float32)
    codes = FaceCodes()
    codes.add(numbered(np.arange(50)), codes_of(strangers))
    codes.remove(numbered(np.arange(10, 30)))
    assert codes.pivots == 30
    codes.add(numbered(np.arange(100, 120)), codes_of(strangers[10:30]))
    assert codes.pivots == 50
    found = codes.snapshot.nearest(code_of(strangers[12]), 1, 1)
    assert numbers_of(found) == [102]


def test_a_snapshot_stays_what_it_was_while_faces_come(people: Crowd) -> None:
    codes = FaceCodes()
    codes.add(numbered(np.arange(3000)), codes_of(people.faces[:3000]))
    before = codes.snapshot
    for start in range(3000, 6000, 100):  # in the room there is, and in new arrays
        part = np.arange(start, start + 100)
        codes.add(numbered(part), codes_of(people.faces[part]))
    found = before.nearest(code_of(people.faces[5999]), EVERYBODY, EVERYBODY)
    assert numbers_of(found) == list(range(3000))


def test_searches_in_threads_find_what_is_there_while_others_come_and_go(people: Crowd) -> None:
    codes, kept = FaceCodes(), np.arange(0, 2000)
    codes.add(numbered(kept), codes_of(people.faces[kept]))
    queries = [(number, code_of(people.faces[number])) for number in range(0, 2000, 10)]
    ended = threading.Event()

    def lost() -> list[int]:
        missed: list[int] = []
        while not ended.is_set():
            for number, code in queries:
                if number not in numbers_of(codes.snapshot.nearest(code, EVERYBODY, 1)):
                    missed.append(number)
        return missed

    with ThreadPoolExecutor(2) as pool:
        searches = [pool.submit(lost) for _ in range(2)]
        for start in range(2000, 6000, 200):
            part = np.arange(start, start + 200)
            codes.add(numbered(part), codes_of(people.faces[part]))
            codes.remove(numbered(part[::2]))
        ended.set()
        assert [search.result() for search in searches] == [[], []]
    assert len(codes) == 4000


@pytest.mark.parametrize("held", [by_clusters, one_by_one])
def test_codes_show_the_nearest_people(people: Crowd, held: Callable[[Crowd], FaceCodes]) -> None:
    snapshot = held(people).snapshot
    sums = np.zeros((people.person_of.max() + 1, people.faces.shape[1]))
    np.add.at(sums, people.person_of, people.faces)
    sums /= np.linalg.norm(sums, axis=1, keepdims=True) + 1e-9
    found = []
    for query in people.more_faces(50, np.random.default_rng(3)):
        nearest = np.argsort(-(sums @ query))[:10]
        shown = snapshot.near_people(query, EVERYBODY, 100)
        assert len(shown) <= 100
        of = people.person_of[numbers_of(shown)]
        found.append(np.isin(nearest, of).mean())
        assert nearest[0] in of
    assert np.mean(found) >= 0.98


def hold_sums(codes: FaceCodes, people: Crowd) -> np.ndarray:
    """Give those chains their sums that are all of a person; returns these people."""
    order = np.argsort(people.person_of, kind="stable")
    known, begins, counts = np.unique(
        people.person_of[order], return_index=True, return_counts=True
    )
    alone = codes.alone(begins)
    totals = np.add.reduceat(people.faces[order], begins)[alone]
    directions = totals / np.linalg.norm(totals, axis=1, keepdims=True)
    codes.hold_sums(
        begins[alone],
        RoundedSums.rounded(totals, counts[alone].astype(np.int32)),
        module.codes_of(directions.astype(np.float16)),
    )
    return known[alone]


def nearest_sums(query: np.ndarray, count: int) -> module.ChooseSums:
    def choose(totals: np.ndarray, counts: np.ndarray) -> np.ndarray:
        assert (np.linalg.norm(totals, axis=1) <= counts + 0.1).all()
        return np.argsort(-(totals @ query) / np.linalg.norm(totals, axis=1))[:count]

    return choose


def test_sums_tell_who_the_nearest_people_are_with_few_of_them(people: Crowd) -> None:
    codes = by_clusters(people)
    summed = hold_sums(codes, people)
    assert len(summed) > 0.5 * len(np.unique(people.person_of))
    sums = np.zeros((people.person_of.max() + 1, people.faces.shape[1]))
    np.add.at(sums, people.person_of, people.faces)
    sums /= np.linalg.norm(sums, axis=1, keepdims=True) + 1e-9
    found, asked = [], []
    for query in people.more_faces(50, np.random.default_rng(3)):
        choose = nearest_sums(query, 12)
        of = people.person_of[numbers_of(codes.snapshot.near_people(query, EVERYBODY, 100, choose))]
        nearest = np.argsort(-(sums @ query))[:10]
        found.append(np.isin(nearest, of).mean())
        asked.append(len(of))
    assert np.mean(found) >= 0.99
    assert np.mean(asked) < (40 if people.spread is FACENET else 85)


def test_a_sum_is_given_up_when_a_face_joins_its_chain(people: Crowd) -> None:
    codes = by_clusters(people)
    person = hold_sums(codes, people)[0]
    (faces,) = np.nonzero(people.person_of == person)
    query = people.faces[faces[0]]
    nobody = nearest_sums(query, 0)
    before = numbers_of(codes.snapshot.near_people(query, EVERYBODY, 10, nobody))
    assert not set(faces) & set(before)
    codes.add(numbered(np.array([10**6])), codes_of(query[np.newaxis]))
    shown = numbers_of(codes.snapshot.near_people(query, EVERYBODY, 10, nobody))
    assert {10**6, *faces} & set(shown)


def test_nothing_of_a_person_who_left_stays_with_the_pivots(people: Crowd) -> None:
    codes = by_clusters(people)
    hold_sums(codes, people)
    before = codes.snapshot
    persons = np.sort(people.person_of)  # of the rows
    rows = np.flatnonzero(persons == persons[before.pivot_rows[before.pivots - 1]])
    numbers = np.unique(before.pivot_of[rows])
    gone = [(before.leads[number].copy(), before.heads[number].copy()) for number in numbers]
    codes.remove(numbered(np.flatnonzero(people.person_of == persons[rows[0]])))
    now = codes.snapshot
    assert now.pivots == before.pivots - len(numbers)
    for lead, head in gone:
        assert not (now.leads[: before.pivots] == lead).all(axis=1).any()
        assert not (now.heads[: before.pivots] == head).all(axis=1).any()


def test_nothing_of_a_face_that_left_stays_in_a_sum(people: Crowd) -> None:
    codes = by_clusters(people)
    summed = hold_sums(codes, people)
    (faces,) = np.nonzero(people.person_of == summed[5])
    before = codes.snapshot
    assert before.sums.numbers[5].any()
    (lead,) = before.leads[: before.pivots][before.sum_of[: before.pivots] == 5]
    codes.remove(numbered(faces[:1]))
    now = codes.snapshot
    assert not now.sums.numbers[5].any()
    assert not (now.leads[: now.pivots] == lead).all(axis=1).any()
    assert codes.snapshot.sums.numbers[[4, 6]].any(axis=1).all()
    shown = numbers_of(
        codes.snapshot.near_people(
            people.faces[faces[-1]], EVERYBODY, 10, nearest_sums(people.faces[0], 0)
        )
    )
    assert bool(set(faces[1:]) & set(shown)) == (len(faces) > 1)


def test_rounded_sums_are_nearly_the_sums() -> None:
    totals = np.random.default_rng(8).standard_normal((50, 512)).astype(np.float32)
    totals[7] = 0
    sums = RoundedSums.together(
        [RoundedSums.rounded(part, np.full(25, 3, np.int32)) for part in (totals[:25], totals[25:])]
    )
    found, counts = sums.of(np.arange(50))
    assert counts.tolist() == [3] * 50
    largest = np.abs(totals).max(axis=1, keepdims=True)
    assert (np.abs(found - totals) <= largest / 127 / 2 + 1e-6).all()
    lengths = sums.units * sums.lengths
    assert lengths[totals.any(axis=1)] == pytest.approx(
        np.linalg.norm(totals, axis=1)[totals.any(axis=1)], rel=1e-3
    )


@pytest.mark.parametrize("have_sums", [False, True])
def test_people_who_left_are_shown_no_longer(people: Crowd, have_sums: bool) -> None:
    codes = by_clusters(people)
    if have_sums:
        hold_sums(codes, people)
    (gone,) = np.nonzero(people.person_of == people.person_of[0])
    codes.remove(numbered(gone))
    shown = numbers_of(codes.snapshot.near_people(people.faces[0], EVERYBODY, EVERYBODY))
    assert not set(shown) & set(gone.tolist())
    assert len(shown) == codes.pivots


def test_no_codes_show_nobody() -> None:
    face = np.ones(512, np.float32) / 512**0.5
    assert len(FaceCodes().snapshot.near_people(face, 10, 10)) == 0

"""Doubtful cases: people who may be one, faces far from their person, and faces at the limit."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.domain.matching import MatchRule, doubt_of
from service.domain.types import ClusterId, FaceId
from service.store.face.census import SampledFaces, Sums

# About a hundred times as many strangers are as near as within the limit: the bound below which a
# comparison of two photos says "different".
_LEAST_SIMILARITY: Final = 0.01
# A tenth as many strangers are as near as within the limit: a face of more is no doubtful one.
_SURE_SIMILARITY: Final = 10 / 11
_ROWS_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two people near to each other; similarity is 0.5 at the limit."""

    first: ClusterId
    second: ClusterId
    distance: float
    similarity: float


@dataclass(frozen=True, slots=True)
class NearPairs:
    """The nearest pairs of people.

    pairs: the nearest ones, the nearest first. within: the number of all pairs within the limit.
    compared: the number of people that were compared. of_largest: whether there are more of them,
    and these are the largest.
    """

    pairs: tuple[NearPair, ...]
    within: int
    compared: int
    of_largest: bool


@dataclass(frozen=True, slots=True)
class DoubtfulFace:
    """A face beside its own person, made of the person's other faces.

    beside: of these other faces the one that fits best, as far as they are in the sample.
    limit: the largest distance at which the face would join. similarity: 0.5 at the limit.
    """

    face_id: FaceId
    beside: FaceId
    person_id: ClusterId
    distance: float
    limit: float
    similarity: float


@dataclass(frozen=True, slots=True)
class DoubtfulFaces:
    """The faces that fit worst, the worst first.

    far: those beyond their limit. close: those that are within it by little.
    far_in_all, close_in_all: the numbers of all such faces. checked: the number of faces that were
    compared with others of their person.
    """

    far: tuple[DoubtfulFace, ...]
    close: tuple[DoubtfulFace, ...]
    far_in_all: int
    close_in_all: int
    checked: int


def nearest_pairs(
    rule: MatchRule, limit: float, sums: Sums, most: int, *, most_people: int
) -> NearPairs:
    """The pairs of people whose mean faces are nearest.

    The distance of two people is that of one's mean face to the other, the smaller one of both.

    Args:
        limit: of the match rule in this tenant. sums: of the largest people.
        most: the largest number of pairs. most_people: the largest number of people; more are left
            out.
    """
    count = min(len(sums.people), most_people)
    totals, counts = sums.totals[:count], sums.counts[:count]
    means = totals / np.maximum(np.linalg.norm(totals, axis=1, keepdims=True), 1e-12)
    nearest: list[tuple[float, int, int]] = []
    within = 0
    for start in range(0, count, _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        rest = slice(start, None)
        distances = np.minimum(
            rule.all_distances(means[rows], totals[rest], counts[rest]),
            rule.all_distances(means[rest], totals[rows], counts[rows]).T,
        )
        distances[np.tri(*distances.shape, dtype=np.bool_)] = np.inf  # each pair once
        within += int(np.count_nonzero(distances <= limit))
        for place in _smallest(distances, most):
            row, column = divmod(place, distances.shape[1])
            nearest.append((float(distances[row, column]), start + row, start + column))
        nearest = sorted(nearest)[:most]
    measured = [
        NearPair(sums.people[a], sums.people[b], distance, rule.limit.similarity(distance, limit))
        for distance, a, b in nearest
    ]
    likely = tuple(each for each in measured if each.similarity >= _LEAST_SIMILARITY)
    return NearPairs(likely, within, count, of_largest=len(sums.people) > count)


def doubtful_faces(
    rule: MatchRule,
    people: int,
    min_quality: float,
    sample: SampledFaces,
    sums: Sums,
    most: int,
    factor: float = 1.0,
) -> DoubtfulFaces:
    """Compare each sampled face with its person without it.

    Args:
        people: the number of people of the tenant, on which limits depend.
        min_quality: the lowest quality of a matchable face.
        sums: of the people of the sample. most: the largest number of faces of each kind.
        factor: of the tenant's limits.
    """
    far: list[DoubtfulFace] = []
    close: list[DoubtfulFace] = []
    checked = 0
    rows = {person: row for row, person in enumerate(sums.people)}
    for person, group in groupby(range(len(sample.people)), key=sample.people.__getitem__):
        row = rows.get(person)
        if row is None or sums.counts[row] < 2:
            continue
        places = list(group)
        checked += len(places)
        vectors = sample.vectors[places]
        others = sums.totals[row] - vectors
        counts = np.full(len(places), sums.counts[row] - 1, np.float32)
        distances = rule.all_distances(vectors, others, counts).diagonal()
        best = [places[each] for each in np.argsort(distances)[:2]]
        for place, distance in zip(places, distances.tolist(), strict=True):
            limit = rule.limit.at(people, doubt_of(sample.quality[place], min_quality), factor)
            similarity = rule.limit.similarity(distance, limit)
            if similarity < _SURE_SIMILARITY:
                beside = next((each for each in best if each != place), place)
                face = DoubtfulFace(
                    *(sample.faces[place], sample.faces[beside], person),
                    *(distance, limit, similarity),
                )
                (far if distance > limit else close).append(face)
    far.sort(key=lambda each: (each.similarity, each.face_id))
    close.sort(key=lambda each: (each.similarity, each.face_id))
    return DoubtfulFaces(tuple(far[:most]), tuple(close[:most]), len(far), len(close), checked)


def _smallest(distances: NDArray[np.float32], count: int) -> list[int]:
    """The places of the smallest finite distances in the flattened array, in any order."""
    flat = distances.ravel()
    places = np.arange(len(flat)) if count >= len(flat) else np.argpartition(flat, count)[:count]
    found: list[int] = places[np.isfinite(flat[places])].tolist()
    return found

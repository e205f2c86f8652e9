"""What the machine looks at to find questions, and the questions that it finds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.domain.reviews import ReviewKind
from service.domain.types import ClusterId, Embedding, FaceId, ReviewId

_MOST_PAIRS = 2**31 - 1
_ROUNDS = 10
# The odds of a similarity s are those of (s / (1 - s)) to this power.
_SLOPE = 0.75
_LEAST_ODDS = 1e-12
# Decades by which another person is nearer or farther; more say no more.
_LEAST_FARTHER, _MOST_FARTHER, _MOST_NEARER = -2.0, 6.0, 4.0
# A face that is not the farthest of its person, and that no other person is nearer to, is wrong so
# much more seldom: of 2,500 that were nearer than a right one, in eleven clusterings of labelled
# and made-up faces, one was.
_NOT_THE_FARTHEST = 0.03


def chance_of_one_person(
    similarity: float, faces: int, other_faces: int, rival: float | None = None
) -> float:
    """The chance that two clusters are one person.

    Its odds were fitted by logistic regressions to clusters of labelled photos and those nearest
    to them (docs/reviews.md). Clusters of more faces are nearer if they are one person, so that
    the same similarity says less of them; and it says less where somebody else is as near.

    Args:
        rival: the similarity of the smaller cluster to the nearest one that is somebody else than
            the larger; None where that is unknown.
    """
    fewer, more = sorted((max(1, faces), max(1, other_faces)))
    for_it = 4 * similarity**_SLOPE
    against = (1 - similarity) ** _SLOPE * fewer**5 * more**0.5
    if rival is not None:
        farther = math.log10(_odds(similarity) / _odds(rival))
        for_it *= math.exp(min(max(farther, _LEAST_FARTHER), _MOST_FARTHER) / 2)
    return float(for_it / (for_it + against))


def chances_of_each(chances: Sequence[float], faces_per_person: float) -> list[float]:
    """The chances that a face that is alone is each of some people, of whom it can only be one.

    The more faces a person has in the mean, the fewer people have a single one, and the likelier it
    is a face of somebody who is known. The odds of that were fitted as above.

    Args:
        chances: that it is each of them, if there were no others.
        faces_per_person: in the tenant, in the mean.
    """
    odds = [_odds(each) for each in chances]
    total = sum(odds)
    of_any = 0.18 * faces_per_person**2 * total**1.5
    return [each / total * of_any / (1 + of_any) for each in odds]


def chance_of_a_stranger(
    similarity: float, others: int, *, other: float | None = None, is_farthest: bool = True
) -> float:
    """The chance that a face is not of its person.

    Its odds were fitted as above. A face beside one other was within the limit of that one when it
    came; beside more it may be far from what they are together. Where another person is nearer
    than its own, it is wrong the more likely. Of faces that are nearer to the others than a right
    one, and to nobody else, hardly any is wrong.

    Args:
        similarity: of the face to the other faces of the person. others: their number, 1 or more.
        other: the similarity of the face to the nearest other person; None where that is unknown.
        is_farthest: whether no face of the person is farther from the others of it.
    """
    for_it = (1 - similarity) ** _SLOPE
    against = (4 if others > 1 else 20) * similarity**_SLOPE
    nearer = 0.0 if other is None else math.log10(_odds(other) / _odds(similarity))
    if nearer > 0:
        for_it *= math.exp(min(nearer, _MOST_NEARER))
    elif not is_farthest:
        for_it *= _NOT_THE_FARTHEST
    return float(for_it / (for_it + against))


def _odds(similarity: float) -> float:
    return max(similarity, _LEAST_ODDS) / max(1 - similarity, _LEAST_ODDS)


def chance_of_two_people(similarity: float, faces: int) -> float:
    """The chance that the two halves of a cluster are two people.

    The halves of one person, as `halves` divides the faces, are the nearer the more faces there
    are; the odds are by how much farther these are.

    Args:
        similarity: of the halves to each other. faces: in both.
    """
    odds_of_one = (100 * similarity / faces**3.5) ** 1.5
    return float((1 - similarity) ** 1.5 / ((1 - similarity) ** 1.5 + odds_of_one))


def halves(vectors: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Divide vectors into two groups by 2-means on the sphere, from the main direction on.

    Args:
        vectors: [n, dimension], two or more unit vectors.

    Returns:
        bool [n]; the smaller group, which may be empty where all are alike.
    """
    wide = vectors.astype(np.float64)
    centred = wide - wide.mean(axis=0)
    _, directions = np.linalg.eigh(centred @ centred.T)
    group: NDArray[np.bool_] = directions[:, -1] > 0
    for _ in range(_ROUNDS):
        if group.all() or not group.any():
            break
        sums = np.stack([wide[group].sum(axis=0), wide[~group].sum(axis=0)])
        nearness = wide @ (sums / np.linalg.norm(sums, axis=1, keepdims=True)).T
        before, group = group, nearness[:, 0] > nearness[:, 1]
        if np.array_equal(before, group):
            break
    return group if 2 * group.sum() <= len(group) else ~group


def pairs_settled(faces: int, other_faces: int) -> int:
    """The pairs of faces of which it is known by an answer whether they are of one person."""
    return min(faces * other_faces, _MOST_PAIRS)


@dataclass(frozen=True, slots=True)
class AskingPosition:
    """Up to where questions were looked for: the newest face, and the newest change by people.

    match_factor: of the limit by which they were looked for.
    """

    seq: int
    change: int
    match_factor: float


@dataclass(frozen=True, slots=True)
class Unasked:
    """People who changed behind a position, and the position behind them.

    is_all: there are no more. faces: the number of all faces in the tenant.
    """

    people: frozenset[ClusterId]
    position: AskingPosition
    is_all: bool
    faces: int


@dataclass(frozen=True, slots=True, eq=False)
class DoubtfulPerson:
    """A person by the sum of the vectors.

    total: float64 [dimension], the sum of the unit vectors of `count` matchable faces; of one face
    that is not, where there are no others (`is_poor`). faces: the number of all faces.
    is_named: it has a label or an external id. is_placed: a person put faces there.
    """

    person_id: ClusterId
    total: NDArray[np.float64]
    count: float
    faces: int
    label_key: str | None
    hidden: bool
    is_named: bool
    is_placed: bool
    is_poor: bool

    @property
    def is_spoken_of(self) -> bool:
        """Whether a person named it, or put faces there."""
        return self.is_named or self.is_placed

    @property
    def direction(self) -> Embedding:
        """The unit vector that stands for all faces."""
        direction: Embedding = (self.total / np.linalg.norm(self.total)).astype(np.float32)
        return direction


@dataclass(frozen=True, slots=True, eq=False)
class DoubtfulFace:
    """A face of a person, with its vector as the database keeps it.

    is_placed: a person put it there. is_asked: there is an open question about it.
    """

    face_id: FaceId
    person_id: ClusterId
    embedding: Embedding
    is_placed: bool
    is_asked: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """The numbers of a question, as `Question` has them."""

    distance: float | None
    other_distance: float | None
    similarity: float | None
    settles: int
    chance: float

    @property
    def worth(self) -> float:
        """By what questions are ordered."""
        return self.settles * self.chance


@dataclass(frozen=True, slots=True, eq=False)
class AskedQuestion:
    """An open question, with its evidence as it was measured.

    face_id, embedding: of the face that it is about; None without one, or a matchable one.
    """

    review_id: ReviewId
    kind: ReviewKind
    person_id: ClusterId
    other_id: ClusterId | None
    evidence: Evidence
    face_id: FaceId | None
    embedding: Embedding | None


@dataclass(frozen=True, slots=True)
class AskedPair:
    """The question whether two people are one."""

    person_id: ClusterId
    other_id: ClusterId
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class AskedOddFace:
    """The question whether a face belongs to its person, or perhaps to the other one."""

    face_id: FaceId
    person_id: ClusterId
    other_id: ClusterId | None
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look at some people came to; `fresh` has the evidence of open questions."""

    pairs: tuple[AskedPair, ...] = ()
    odd: tuple[AskedOddFace, ...] = ()
    fresh: tuple[tuple[ReviewId, Evidence], ...] = ()
    joined: tuple[AskedPair, ...] = ()


@dataclass(frozen=True, slots=True)
class AskingCounts:
    """What a round came to: people looked at, new questions, people that the machine joined.

    failures: the number of tenants of which a look failed.
    """

    people: int = 0
    questions: int = 0
    joined: int = 0
    failures: int = 0

    def __add__(self, other: AskingCounts) -> AskingCounts:
        return AskingCounts(
            self.people + other.people,
            self.questions + other.questions,
            self.joined + other.joined,
            self.failures + other.failures,
        )

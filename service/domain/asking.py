"""What the machine looks at to find questions, and the questions that it finds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.domain.reviews import ReviewKind
from service.domain.types import ClusterId, Embedding, FaceId, ReviewId

_MOST_PAIRS = 2**31 - 1
_ROUNDS = 10


def chance_of_one_person(similarity: float, faces: int, other_faces: int) -> float:
    """The chance that two clusters are one person.

    Its odds were fitted by a logistic regression to clusters of labelled photos and those nearest
    to them (docs/reviews.md). Clusters of more faces are nearer if they are one person, so that
    the same similarity says less of them.
    """
    fewer, more = sorted((max(1, faces), max(1, other_faces)))
    odds_against = (1 - similarity) * fewer**3 * more**0.5
    return float(6 * similarity / (6 * similarity + odds_against))


def chance_of_a_stranger(similarity: float, others: int) -> float:
    """The chance that the face that is the farthest from the others of a person is not of it.

    Its odds were fitted as above. A face beside one other was within the limit of that one when it
    came; beside more it may be far from what they are together. Of faces that are nearer to the
    others than a right one hardly any is wrong.

    Args:
        similarity: of the face to the other faces of the person. others: their number, 1 or more.
    """
    return (1 - similarity) / (1 - similarity + (4 if others > 1 else 20) * similarity)


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

    is_all: there are no more.
    """

    people: frozenset[ClusterId]
    position: AskingPosition
    is_all: bool


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

"""The search for people and the comparison of two photos: questions and answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from service.domain.errors import ParameterError
from service.domain.matching import ClusterQuery
from service.domain.types import (
    ClusterId,
    DetectedFace,
    DetectedPhoto,
    FaceId,
    ModelSpace,
    StoredFace,
)

MAX_PEOPLE = 100
"""The largest number of people that a search returns for a face."""
MAX_AMONG = 1_000
"""The largest number of people that a search can be restricted to."""
MAX_COMPARED_FACES = 16
"""The largest number of faces of each photo that a comparison takes."""

Verdict = Literal["same", "different", "unsure"]


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """The people that a caller wants to see.

    limit: the number of people for each face, 1 to `MAX_PEOPLE`.
    max_distance: the largest distance of the match rule, 0 to 2; None for people at any distance.
    only_labelled: leave out people without a label.
    among: the only people to consider, at most `MAX_AMONG`; None for all people of the tenant. An
        id that the tenant does not have is passed over: that person is not near.

    Raises:
        ParameterError: a value is out of its range.
    """

    limit: int = 10
    max_distance: float | None = None
    only_labelled: bool = False
    among: tuple[ClusterId, ...] | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_PEOPLE:
            raise ParameterError("limit", f"A search returns 1 to {MAX_PEOPLE} people for a face.")
        if self.max_distance is not None and not 0 <= self.max_distance <= 2:
            raise ParameterError("max_distance", "A distance is a number from 0 to 2.")
        if self.among is not None and len(self.among) > MAX_AMONG:
            raise ParameterError(
                "among", f"A search can be restricted to at most {MAX_AMONG} people."
            )


@dataclass(frozen=True, slots=True, eq=False)
class PeopleQuery:
    """The query for the people nearest to some faces.

    faces: the faces, their model and its rule.
    wanted: the number of people for each face.
    only_labelled, among: as in `SearchOptions`.
    without: the stored face whose vector is the only one of `faces`. It is passed over: it is no
        neighbour, and its person is as far as the other faces of that person are.
    """

    faces: ClusterQuery
    wanted: int
    only_labelled: bool = False
    among: tuple[ClusterId, ...] | None = None
    without: StoredFace | None = None

    @property
    def is_of_all(self) -> bool:
        """Whether all people of the tenant may be the answer."""
        return self.among is None and not self.only_labelled


@dataclass(frozen=True, slots=True)
class NearPerson:
    """A person near to a face.

    distance: of the match rule. nearest_face: of the person's faces that were compared the one with
    the smallest cosine distance, `nearest` (0 to 2); among many people, codes choose which faces
    these are. faces: number of matchable faces of the person. Neither of the last three considers
    the face `PeopleQuery.without`.
    """

    cluster_id: ClusterId
    distance: float
    nearest_face: FaceId
    nearest: float
    faces: int


@dataclass(frozen=True, slots=True)
class NearPeople:
    """The answer to a `PeopleQuery`.

    max_distances: the limit of the match rule for each face in this tenant at this moment.
    of_faces: the people near to each face, nearest first.
    """

    max_distances: tuple[float, ...]
    of_faces: tuple[tuple[NearPerson, ...], ...]


@dataclass(frozen=True, slots=True)
class PersonMatch:
    """A person in the answer of a search.

    distance: of the match rule.
    similarity: 0 to 1, monotone in the distance, 0.5 at the limit (MatchRule.similarity).
    margin: the distance of the next person minus this one's; None where there is no next person.
        The next person counts even beyond `SearchOptions.limit` or `max_distance`.
    is_match: whether the distance is within the limit, so that an insert of the face could join
        this person.
    nearest_face_id, nearest_distance: as `NearPerson.nearest_face` and `nearest`.
    faces: number of matchable faces of the person.
    """

    person_id: ClusterId
    distance: float
    similarity: float
    margin: float | None
    is_match: bool
    nearest_face_id: FaceId
    nearest_distance: float
    faces: int


@dataclass(frozen=True, slots=True)
class SearchedFace:
    """A face of a photo, and the people nearest to it.

    max_distance: the limit of the match rule for this face in this tenant at this moment.
    """

    face: DetectedFace
    max_distance: float
    matches: tuple[PersonMatch, ...]


@dataclass(frozen=True, slots=True)
class SearchedPhoto:
    """The searched faces of a photo, largest first; else as `AnalyzedPhoto`."""

    width: int
    height: int
    faces: tuple[SearchedFace, ...]
    turned: int = 0


@dataclass(frozen=True, slots=True)
class SearchedStoredFace:
    """A stored face, and the people nearest to it; `max_distance` as in `SearchedFace`."""

    face: StoredFace
    max_distance: float
    matches: tuple[PersonMatch, ...]


@dataclass(frozen=True, slots=True)
class ComparedFaces:
    """A face of one photo beside a face of another one.

    a, b: positions in the faces of the two photos, beginning with 0.
    distance: of the match rule between a face and a person of one face.
    max_distance: the limit for the pair. similarity: as in `PersonMatch`.
    """

    a: int
    b: int
    distance: float
    max_distance: float
    similarity: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two photos, each with at most `MAX_COMPARED_FACES` faces, and all pairs of their faces.

    pairs: ordered by `a`, then by `b`.
    space: the model of the distances.
    """

    photo_a: DetectedPhoto
    photo_b: DetectedPhoto
    space: ModelSpace
    pairs: tuple[ComparedFaces, ...]

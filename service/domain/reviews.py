"""Reviews: questions that only a person can answer, with their evidence, and the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from service.domain.types import ClusterId, FaceId, ImageId, ReviewId


class ReviewKind(StrEnum):
    """What a question asks.

    NEW_PERSON: who is this? SAME_PERSON: are these two one? WEAK_MATCH: does this face belong here?
    ODD_FACE: does this one still belong here, now that the others are known?
    """

    NEW_PERSON = "new_person"
    SAME_PERSON = "same_person"
    WEAK_MATCH = "weak_match"
    ODD_FACE = "odd_face"


class Answer(StrEnum):
    """What a person may answer; `ANSWERS` says to which questions."""

    LABEL = "label"
    SAME = "same"
    IGNORE = "ignore"
    DIFFERENT = "different"
    NOT_SURE = "not_sure"
    YES = "yes"
    NO = "no"
    OTHER = "other"


ANSWERS: Mapping[ReviewKind, tuple[Answer, ...]] = MappingProxyType(
    {
        ReviewKind.NEW_PERSON: (Answer.LABEL, Answer.SAME, Answer.IGNORE),
        ReviewKind.SAME_PERSON: (Answer.SAME, Answer.DIFFERENT, Answer.NOT_SURE),
        ReviewKind.WEAK_MATCH: (Answer.YES, Answer.NO, Answer.OTHER),
        ReviewKind.ODD_FACE: (Answer.YES, Answer.NO),
    }
)
"""The answers to each kind of question."""


@dataclass(frozen=True, slots=True)
class AskedPerson:
    """A person that a question is about. faces: their number."""

    person_id: ClusterId
    label: str | None
    faces: int
    cover_face_id: FaceId | None


@dataclass(frozen=True, slots=True)
class AskedFace:
    """The face that a question is about; its box is in pixels of the upright photo."""

    face_id: FaceId
    image_id: ImageId
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Question:
    """An open question, with its evidence.

    people: whom it is about, the one that has the face first; then the one that this may be as
    well, or that the face may belong to instead.
    distance: between the two people, or of the face to its person. other_distance: of the face to
    the other person, or to the next one. similarity: of the distance. None where nothing is known.
    settles: of as many pairs of faces the answer says whether they are of one person; of a mere
    name, as many faces. chance: of the answer that changes something, 0 to 1. worth: their product,
    by which questions are ordered.
    is_put_off: somebody was not sure; it is not handed out until its evidence changes.
    """

    review_id: ReviewId
    kind: ReviewKind
    created_at: datetime
    people: tuple[AskedPerson, ...]
    face: AskedFace | None
    distance: float | None
    other_distance: float | None
    similarity: float | None
    settles: int
    chance: float
    worth: float
    is_put_off: bool

    @property
    def margin(self) -> float | None:
        """How much farther the other person is; below 0 where that one is nearer."""
        if self.distance is None or self.other_distance is None:
            return None
        return self.other_distance - self.distance

    @property
    def why(self) -> str:
        """Why it is asked, in words and numbers."""
        if self.kind is ReviewKind.NEW_PERSON:
            number = self.people[0].faces
            faces = "1 face is" if number == 1 else f"{number} faces are"
            return f"{faces} of somebody without a name"
        apart = "unknown" if self.distance is None else f"{self.distance:.2f}"
        if self.kind is ReviewKind.SAME_PERSON:
            text = f"The two people are {apart} apart"
            if self.other_distance is not None:
                text += f"; the next person is {self.other_distance:.2f} away"
            return text
        text = f"The face is {apart} from its person"
        if self.kind is ReviewKind.ODD_FACE:
            text = f"The face is {apart} from the other faces of its person"
        if self.other_distance is not None:
            text += f"; another person is {self.other_distance:.2f} away"
        return text


@dataclass(frozen=True, slots=True)
class QuestionPosition:
    """The position of a question in a list of those of most worth first."""

    worth: float
    review_id: ReviewId


@dataclass(frozen=True, slots=True)
class Reply:
    """What a person answers to a question.

    label: with `LABEL`. person_id: with `SAME` to NEW_PERSON, and with `OTHER`.
    override: decisions that speak against it do not count any more.
    """

    answer: Answer
    label: str | None = None
    person_id: ClusterId | None = None
    override: bool = False


@dataclass(frozen=True, slots=True)
class PastQuestion:
    """A question that is not open any more, and the change that closed it.

    change: the number of the change. answer: what a person answered; None where the change was not
    an answer to it, but settled it.
    """

    change: int
    change_kind: str
    answer: str | None

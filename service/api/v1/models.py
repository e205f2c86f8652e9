"""What requests and answers hold, as the contract describes it.

Requests are validated by these models. Answers are rendered without them, and tests compare what
was answered with their schemas.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
)

from service.domain.names import MAX_NAME_LENGTH, NAME_RULE, is_name
from service.domain.people import (
    LABEL_RULE,
    MAX_DIGESTS,
    MAX_LABEL_LENGTH,
    MAX_METADATA_BYTES,
    clean_label,
)
from service.domain.search import MAX_AMONG, MAX_PEOPLE
from service.domain.types import (
    CROP_SIZES,
    MAX_CROP_MARGIN,
    MAX_HASH_DISTANCE,
    NEAR_COPY_DISTANCE,
    THUMBNAIL_SIZES,
)

MAX_PAGE: Final = 500
_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
MAX_IDS: Final = 1000
"""Ids in the body of one request."""

_MAX_INT64: Final = 2**63 - 1
_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def _name(value: str) -> str:
    if not is_name(value):
        raise ValueError(f"must have {NAME_RULE}")
    return value


def _tenant(value: str) -> str:
    if "/" in _name(value) or value in (".", ".."):
        raise ValueError("must have no '/', and not be '.' or '..', since it stands in paths")
    return value


def _label(value: str) -> str:
    label = clean_label(value)
    if label is None:
        raise ValueError(f"must have {LABEL_RULE}")
    return label


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not have the character U+0000")
    return value


def _time(value: object) -> datetime:
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError("must be a time by RFC 3339, such as 2026-03-01T12:30:00Z")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a time of the calendar, from the year 1 to 9999") from None


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    try:
        encoded = orjson.dumps(value)
    except TypeError:  # nested too deeply, or a number that JSON does not have
        raise ValueError("cannot be stored") from None
    if len(encoded) > MAX_METADATA_BYTES:
        raise ValueError(f"must have at most {MAX_METADATA_BYTES} bytes as JSON")
    if _ESCAPED_NUL.search(encoded):
        raise ValueError("must not have the character U+0000")
    return value


Name = Annotated[str, Field(max_length=MAX_NAME_LENGTH, min_length=1), AfterValidator(_name)]
TenantName = Annotated[
    str, Field(max_length=MAX_NAME_LENGTH, min_length=1), AfterValidator(_tenant)
]
Label = Annotated[str, Field(max_length=4 * MAX_LABEL_LENGTH, min_length=1), AfterValidator(_label)]
Metadata = Annotated[dict[str, Any], AfterValidator(_metadata)]
Id = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]
Text = Annotated[str, AfterValidator(_text)]
"""Text that reaches the database, which has no U+0000."""

Time = Annotated[datetime, BeforeValidator(_time)]
Digests = Annotated[
    str, Field(pattern=rf"^[0-9a-f]{{64}}(,[0-9a-f]{{64}}){{0,{MAX_DIGESTS - 1}}}$")
]
Limit = Annotated[int, Field(ge=0, le=_MAX_INT64)]


class Request(BaseModel):
    """A body or a query: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Answer(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(extra="forbid")


# -- queries --------------------------------------------------------------------------------------


class Page(Request):
    """A page of a list."""

    limit: int = Field(50, ge=1, le=MAX_PAGE, description="largest number of items")
    cursor: str | None = Field(
        None, max_length=1024, description="`next` of the page before; none for the first page"
    )


class PeoplePage(Page):
    """A page of people."""

    order: Literal["faces", "label", "recency"] | None = Field(
        None,
        description="by number of faces (the default), by label, or by the newest photo; with "
        "`prefix` by label",
    )
    labelled: bool | None = Field(None, description="only people with, or without, a label")
    hidden: bool | Literal["any"] = Field(
        False, description="only people who are, or are not, hidden"
    )
    prefix: Text = Field(
        "", max_length=256, description="how the label begins, without regard to case"
    )
    external_id: Name | None = Field(None, description="only the person with this id of yours")


class HistoryPage(Page):
    """A page of the history."""

    kind: Text | None = Field(
        None, max_length=64, description="only changes of this kind, such as `person.merged`"
    )
    person_id: Id | None = Field(None, description="only changes of this person")


Kind = Literal["new_person", "same_person", "weak_match", "odd_face"]


class ReviewsPage(Page):
    """A page of the open questions."""

    kind: Kind | None = Field(None, description="only questions of this kind")
    person_id: Id | None = Field(None, description="only questions about this person")
    put_off: bool = Field(
        False, description="only those that somebody was not sure about, in the place of the others"
    )


class NextReviews(Request):
    """How many questions are handed out, and for how long."""

    limit: int = Field(100, ge=1, le=100, description="largest number of questions")
    lease_s: int = Field(
        600,
        ge=1,
        le=86_400,
        description="seconds for which no other reviewer is given them",
    )
    reviewer: Name | None = Field(
        None,
        description="who is given them, and is given them again while they are open; without it "
        "the key is the reviewer",
    )


class ImagesPage(Page):
    """A page of images."""

    person_id: Id | None = Field(None, description="only images that show this person")
    order: Literal["created", "taken"] = Field(
        "created",
        description="by the time of the insert, or by the time when the photo was taken; images "
        "without such a time are left out then",
    )
    after: Time | None = Field(None, description="only images later than this")
    before: Time | None = Field(None, description="only images earlier than this")
    sha256: Digests | None = Field(
        None,
        description="only images of files with these SHA-256, in lower-case hexadecimal digits and "
        f"with commas between; at most {MAX_DIGESTS}",
    )


class InsertQuery(Request):
    """How a photo is inserted."""

    on_duplicate: Literal["insert", "return", "reject"] = Field(
        "insert",
        description="what to do where the tenant has a file of the same bytes: insert it again, "
        "return the image that is there, or refuse it",
    )


class EmbeddingQuery(Request):
    """What is embedded, and how embeddings are written."""

    input: Literal["photo", "crop"] = Field("photo", description="a photo, or one cut-out face")
    embedding_format: Literal["float", "base64", "base64_float16"] = Field("float")
    tenant_id: Name | None = Field(None, description="whose share of the service is used")


class ThumbnailQuery(Request):
    """Which thumbnail."""

    size: int = Field(
        256,
        description="pixels of the longest side; a smaller photo is not enlarged",
        json_schema_extra={"enum": list(THUMBNAIL_SIZES)},
    )


class CropQuery(Request):
    """How a face is cut out."""

    size: int = Field(
        256, ge=CROP_SIZES[0], le=CROP_SIZES[-1], description="pixels of the longest side, at most"
    )
    margin: float = Field(
        1.5, ge=1, le=MAX_CROP_MARGIN, description="the sides as multiples of those of the box"
    )


class DuplicatesQuery(Request):
    """Which near copies."""

    max_distance: int = Field(
        NEAR_COPY_DISTANCE,
        ge=0,
        le=MAX_HASH_DISTANCE,
        description="bits in which the perceptual hashes differ",
    )
    limit: int = Field(50, ge=1, le=MAX_PAGE)


class SearchFields(Request):
    """Which people a search returns."""

    limit: int = Field(10, ge=1, le=MAX_PEOPLE, description="people for each face")
    max_distance: float | None = Field(
        None, ge=0, le=2, description="none for people at any distance"
    )
    labelled: bool = Field(False, description="only people with a label")


class SimilarQuery(SearchFields):
    """Which similar people."""

    among: str | None = Field(
        None, max_length=64 * 1024, description="only these people: ids with commas between"
    )

    def person_ids(self) -> list[str] | None:
        """The people that the search is restricted to."""
        return None if self.among is None else [each for each in self.among.split(",") if each]


class SearchQuery(SimilarQuery):
    """A search by a photo."""

    box: str | None = Field(
        None,
        max_length=128,
        description="x1,y1,x2,y2 in pixels of the upright photo: search only the face that it "
        "shows",
    )


class EventsQuery(Request):
    """Where the events begin."""

    after: int | None = Field(
        None, ge=0, le=_MAX_INT64, description="as Last-Event-ID: only later events"
    )


class KeysPage(Page):
    """A page of keys."""

    tenant_id: Name | None = Field(None, description="only keys of this tenant")


# -- bodies ---------------------------------------------------------------------------------------


class NewTenant(Request):
    """A tenant to make."""

    id: TenantName
    max_images: Limit | None = None
    max_faces: Limit | None = None
    requests_per_minute: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None


class TenantEdit(Request):
    """Limits of a tenant; a field that is left out stays, null removes the limit."""

    max_images: Limit | None = None
    max_faces: Limit | None = None
    requests_per_minute: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None


class PersonFields(Request):
    """What callers say about a person; a field that is left out stays, null removes it."""

    label: Label | None = None
    external_id: Name | None = None
    metadata: Metadata | None = None
    hidden: bool = False


Override = Annotated[
    bool,
    Field(
        description="let this be the last word where a person decided otherwise before; without it "
        "that is answered 409 `decision_conflict`"
    ),
]


class NewPerson(PersonFields):
    """A person to make, of faces that are taken from their people, or of none."""

    face_ids: list[Id] = Field(default=[], max_length=MAX_IDS)
    override: Override = False


class PersonChange(PersonFields):
    """A change of a person."""

    cover_face_id: Id | None = Field(
        None, description="a face of the person; null lets the best one be the cover"
    )


class Merge(Request):
    """Where a person is merged into."""

    into: Id
    override: Override = False


class Confirm(Request):
    """Which faces belong to a person, by a person's word."""

    face_ids: list[Id] = Field(
        default=[], max_length=MAX_IDS, description="faces of the person; none for all of them"
    )


class Split(PersonFields):
    """The faces that become a new person, and what is said about that person."""

    face_ids: list[Id] = Field(min_length=1, max_length=MAX_IDS)
    override: Override = False


class ReviewReply(Request):
    """The answer to a question."""

    answer: Literal["label", "same", "ignore", "different", "not_sure", "yes", "no", "other"] = (
        Field(
            description="of new_person: label, same, ignore; of same_person: same, different, "
            "not_sure; of weak_match: yes, no, other; of odd_face: yes, no"
        )
    )
    label: Label | None = Field(None, description="with `label`: the name")
    person_id: Id | None = Field(
        None, description="with `same` of a new_person, and with `other`: the person it is"
    )
    override: Override = False


class FaceMove(Request):
    """Where a face goes."""

    person_id: Id | None = Field(
        description="a person, `new` for a new one, or null for 'not this person': of whom it is "
        "then becomes a question. With the person that the face has, it is confirmed there"
    )
    override: Override = False


class SearchRequest(SearchFields):
    """A search by a stored face."""

    face_id: Id
    person_ids: list[Id] | None = Field(None, max_length=MAX_AMONG, description="only these people")


class NewKeyRequest(Request):
    """A key to make."""

    name: Name
    scopes: list[Literal["read", "write", "admin"]] = Field(min_length=1, max_length=3)
    tenant_id: TenantName | None = Field(None, description="null for every tenant")
    expires_at: AwareDatetime | None = None


class RotateRequest(Request):
    """How a key gets a new secret."""

    keep_former_s: int = Field(
        0, ge=0, le=30 * 86_400, description="seconds for which the former secret stays valid"
    )


# -- answers --------------------------------------------------------------------------------------


class FieldProblem(Answer):
    """What is wrong with a part of a request."""

    pointer: str = Field(description="such as `/body/label`, `/query/limit`, `/header/If-Match`")
    detail: str


class Problem(BaseModel):
    """An error, by RFC 9457."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="`about:blank`: `code` says what it is")
    title: str
    status: int
    detail: str
    code: str = Field(description="stable; the table of errors lists them")
    request_id: str
    errors: list[FieldProblem] | None = None


class BoxAnswer(Answer):
    """A rectangle in pixels of the upright image; it may cross the image's edges."""

    x1: float
    y1: float
    x2: float
    y2: float


class QualityAnswer(Answer):
    """How well a face can be compared."""

    score: float = Field(ge=0, le=1)
    reasons: list[str]
    size: float
    sharpness: float
    brightness: float
    contrast: float
    yaw: float
    roll: float


class FaceAnswer(Answer):
    """A face of an image."""

    id: str
    image_id: str
    person_id: str
    box: BoxAnswer
    landmarks: list[list[float]]
    confidence: float
    quality: QualityAnswer | None
    is_auto_matched: bool = Field(description="whether the machine put the face into its person")
    distance: float | None = Field(description="to the person, when the machine put it there")
    is_matchable: bool = Field(description="whether other faces are matched against it")


class FacesAnswer(Answer):
    """A page of faces."""

    items: list[FaceAnswer]
    next: str | None


class LocationAnswer(Answer):
    """A place, in degrees."""

    latitude: float
    longitude: float


class ImageAnswer(Answer):
    """A stored image."""

    id: str
    format: str
    width: int
    height: int
    size_bytes: int
    sha256: str
    phash: str = Field(description="perceptual hash, 16 hexadecimal digits")
    turned: int = Field(description="degrees clockwise that make its faces upright")
    created_at: datetime
    taken_at: datetime | None = Field(
        description="by its EXIF data; a time without an offset counts as UTC"
    )
    orientation: int = Field(ge=1, le=8, description="EXIF's, of the file")
    location: LocationAnswer | None
    face_count: int
    has_file: bool


class ImagesAnswer(Answer):
    """A page of images."""

    items: list[ImageAnswer]
    next: str | None


class InsertedFace(FaceAnswer):
    """A face of an inserted image; how sure the machine is of a person that it chose."""

    similarity: float | None = Field(ge=0, le=1, description="0.5 at the limit of a match")
    margin: float | None = Field(
        description="how much farther the next person is; null where nobody else is near"
    )


class InsertAnswer(Answer):
    """An inserted photo, or the one that was there."""

    image_id: str
    created: bool = Field(description="false where the tenant had a file of the same bytes")
    turned: int
    faces: list[InsertedFace]


class BatchItem(Answer):
    """The result of one photo of a batch."""

    index: int = Field(description="its place in the form, from 0 on")
    filename: str | None = Field(description="as the form has it, cut where it is long")
    status: int = Field(description="the status that the photo would be answered with alone")
    image: InsertAnswer | None
    problem: Problem | None


class BatchAnswer(Answer):
    """The results of a batch, in the order of its parts."""

    items: list[BatchItem]
    problem: Problem | None = Field(
        description="what ended the batch before its last photo; those without a result were not "
        "stored, or it is unknown: send the batch again, with the same Idempotency-Key"
    )


class PersonAnswer(Answer):
    """A person."""

    id: str
    label: str | None
    external_id: str | None
    metadata: dict[str, Any]
    hidden: bool
    face_count: int
    image_count: int
    cover_face_id: str | None
    cover_is_chosen: bool
    created_at: datetime
    last_face_at: datetime = Field(description="time of the newest photo")
    version: int = Field(description="counts the changes that people made; it is the ETag")


class PeopleAnswer(Answer):
    """A page of people."""

    items: list[PersonAnswer]
    next: str | None


class TenantAnswer(Answer):
    """A tenant."""

    id: str
    created_at: datetime
    image_count: int
    face_count: int
    person_count: int
    max_images: int | None
    max_faces: int | None
    requests_per_minute: int | None


class TenantsAnswer(Answer):
    """A page of tenants."""

    items: list[TenantAnswer]
    next: str | None


class NearCopyAnswer(Answer):
    """An image that looks like another one."""

    image: ImageAnswer
    hash_distance: int = Field(description="bits in which the perceptual hashes differ")


class NearCopiesAnswer(Answer):
    """Near copies, nearest first."""

    items: list[NearCopyAnswer]


class MatchAnswer(Answer):
    """A person near to a face."""

    person_id: str
    distance: float
    similarity: float = Field(ge=0, le=1, description="0.5 at the limit of a match")
    margin: float | None = Field(description="how much farther the next person is")
    is_match: bool = Field(description="whether an insert could put the face into this person")
    nearest_face_id: str = Field(
        description="the nearest of the person's faces that were compared; among many people one "
        "that looks much like the nearest of all"
    )
    nearest_distance: float = Field(description="cosine distance of that face")
    face_count: int


class MatchesAnswer(Answer):
    """People, nearest first."""

    items: list[MatchAnswer]


class SearchedFaceAnswer(Answer):
    """A face of the searched photo."""

    box: BoxAnswer
    landmarks: list[list[float]]
    confidence: float
    quality: QualityAnswer | None
    max_distance: float = Field(description="limit of a match in this tenant now")
    matches: list[MatchAnswer]


class PhotoSearchAnswer(Answer):
    """The answer to a search by a photo."""

    width: int
    height: int
    turned: int
    faces: list[SearchedFaceAnswer]


class FaceSearchAnswer(Answer):
    """The answer to a search by a stored face."""

    face_id: str
    max_distance: float
    matches: list[MatchAnswer]


class SearchAnswer(RootModel[PhotoSearchAnswer | FaceSearchAnswer]):
    """The answer to a search."""


class ComparedFaceAnswer(Answer):
    """A face of a compared photo."""

    box: BoxAnswer
    landmarks: list[list[float]]
    confidence: float
    quality: QualityAnswer | None


class ComparedPhotoAnswer(Answer):
    """A compared photo and its largest faces."""

    width: int
    height: int
    turned: int
    faces: list[ComparedFaceAnswer]


class ComparedPairAnswer(Answer):
    """A face of the first photo beside one of the second."""

    faces: list[int] = Field(
        min_length=2, max_length=2, description="positions in the faces of both photos"
    )
    distance: float
    max_distance: float = Field(description="limit of the verdict `same` for this pair")
    similarity: float = Field(ge=0, le=1, description="0.5 at the limit")
    verdict: Literal["same", "different", "unsure"]


class ComparisonModel(Answer):
    """The model whose vectors were compared."""

    space: str


class ComparisonAnswer(Answer):
    """All pairs of faces of two photos."""

    model: ComparisonModel
    photos: list[ComparedPhotoAnswer] = Field(min_length=2, max_length=2)
    pairs: list[ComparedPairAnswer]


class KeyAnswer(Answer):
    """A key without its secret."""

    id: str
    name: str
    scopes: list[str]
    tenant_id: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="to the hour")


class IssuedKeyAnswer(KeyAnswer):
    """A key with its text, which is given this once."""

    key: str


class KeysAnswer(Answer):
    """A page of keys."""

    items: list[KeyAnswer]
    next: str | None


class Erased(Answer):
    """The receipt of a deletion."""

    images: int
    faces: int
    people: int
    reviews: int
    files: int = Field(description="less than `images` where some could not be removed yet")
    decisions: int
    changes: int = Field(description="entries of the history that spoke of what was erased")


class DecisionAnswer(Answer):
    """What a person said about faces."""

    id: str
    kind: Literal["same", "different"] = Field(
        description="`same`: all of these faces are one human being; `different`: each of "
        "`face_ids` is another one than each of `other_face_ids`"
    )
    decided_at: datetime
    key_id: str | None = Field(description="whose word it is; null for the configured token")
    face_ids: list[str] = Field(description="faces it is about, or that stand for a person")
    other_face_ids: list[str]
    person_ids: list[str] = Field(description="the people whose faces they are now")


class DecisionsAnswer(Answer):
    """A page of decisions."""

    items: list[DecisionAnswer]
    next: str | None


class ChangeAnswer(Answer):
    """An entry of the history."""

    id: str
    at: datetime
    kind: str = Field(description="such as `person.merged`")
    key_id: str | None = Field(description="who did it; null for the configured token")
    by_machine: bool = Field(description="whether nobody asked for it")
    subject: dict[str, Any] = Field(description="ids of what it is about")
    undoable: bool = Field(
        description="whether it can be taken back, unless later changes build on it"
    )
    undoes: str | None = Field(description="the change that it took back")
    undone_by: str | None = Field(description="the change that took it back")


class ChangesAnswer(Answer):
    """A page of the history."""

    items: list[ChangeAnswer]
    next: str | None


class AskedPersonAnswer(Answer):
    """A person that a question is about."""

    id: str
    label: str | None
    face_count: int
    cover_face_id: str | None


class AskedFaceAnswer(Answer):
    """The face that a question is about."""

    id: str
    image_id: str
    box: BoxAnswer


class ReviewAnswer(Answer):
    """A question, with its evidence."""

    id: str
    kind: Kind
    created_at: datetime
    people: list[AskedPersonAnswer] = Field(
        min_length=1,
        max_length=2,
        description="whom it is about, first the one that has the face; then the one that this may "
        "be as well, or that the face may belong to instead",
    )
    face: AskedFaceAnswer | None = Field(description="of weak_match and odd_face")
    distance: float | None = Field(
        description="between the two people, or of the face to its person"
    )
    other_distance: float | None = Field(description="to the other person, or to the next one")
    similarity: float | None = Field(ge=0, le=1, description="0.5 at the limit of a match")
    margin: float | None = Field(description="other_distance less distance")
    why: str = Field(description="why it is asked, in words")
    settles: int = Field(
        ge=0,
        description="pairs of faces that the answer calls one person or two; of a mere name, faces",
    )
    chance: float = Field(ge=0, le=1, description="of the answer that changes something")
    worth: float = Field(ge=0, description="settles times chance: the order of the queue")
    put_off: bool


class ReviewsAnswer(Answer):
    """A page of questions."""

    items: list[ReviewAnswer]
    next: str | None


class NextReviewsAnswer(Answer):
    """Questions that were handed out."""

    items: list[ReviewAnswer]

"""What the service answers. A member that this client does not know yet is left out."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")

_CONVERTERS: dict[type[Any], dict[str, Callable[[Any], Any]]] = {}


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the upright image; it may cross the image's edges."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a face can be compared; `score` is 0 to 1, `reasons` say what lowers it."""

    score: float
    reasons: tuple[str, ...]
    size: float
    sharpness: float
    brightness: float
    contrast: float
    yaw: float
    roll: float


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """A face of a photo."""

    box: Box
    landmarks: tuple[tuple[float, ...], ...]
    confidence: float
    quality: Quality | None


@dataclass(frozen=True, slots=True)
class Face:
    """A face of a stored image; `distance` is that to its person, where the machine chose it."""

    id: str
    image_id: str
    person_id: str
    box: Box
    landmarks: tuple[tuple[float, ...], ...]
    confidence: float
    quality: Quality | None
    is_auto_matched: bool
    distance: float | None
    is_matchable: bool


@dataclass(frozen=True, slots=True)
class InsertedFace(Face):
    """A face that was just stored, and how sure the machine is of the person that it chose."""

    similarity: float | None
    margin: float | None


@dataclass(frozen=True, slots=True)
class Inserted:
    """An inserted photo, or the one of the same bytes that was there: `created` is false then."""

    image_id: str
    created: bool
    turned: int
    faces: tuple[InsertedFace, ...]


@dataclass(frozen=True, slots=True)
class Location:
    """A place, in degrees."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Image:
    """A stored image."""

    id: str
    format: str
    width: int
    height: int
    size_bytes: int
    sha256: str
    phash: str
    turned: int
    created_at: datetime
    taken_at: datetime | None
    orientation: int
    location: Location | None
    face_count: int
    has_file: bool


@dataclass(frozen=True, slots=True)
class NearCopy:
    """An image that looks like another one; `hash_distance` is in bits."""

    image: Image
    hash_distance: int


@dataclass(frozen=True, slots=True)
class Person:
    """A person; `version` counts the changes that people made."""

    id: str
    label: str | None
    external_id: str | None
    metadata: Mapping[str, Any]
    hidden: bool
    face_count: int
    image_count: int
    cover_face_id: str | None
    cover_is_chosen: bool
    created_at: datetime
    last_face_at: datetime
    version: int


@dataclass(frozen=True, slots=True)
class Match:
    """A person near to a face; `similarity` is 0.5 at the limit of a match."""

    person_id: str
    distance: float
    similarity: float
    margin: float | None
    is_match: bool
    nearest_face_id: str
    nearest_distance: float
    face_count: int


@dataclass(frozen=True, slots=True)
class SearchedFace(DetectedFace):
    """A face of a searched photo, and the people nearest to it, nearest first."""

    max_distance: float
    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class PhotoSearch:
    """The answer to a search by a photo, its largest face first."""

    width: int
    height: int
    turned: int
    faces: tuple[SearchedFace, ...]


@dataclass(frozen=True, slots=True)
class FaceSearch:
    """The answer to a search by a stored face."""

    face_id: str
    max_distance: float
    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class ComparedPhoto:
    """A compared photo and its largest faces."""

    width: int
    height: int
    turned: int
    faces: tuple[DetectedFace, ...]


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """A face of the first photo beside one of the second; `faces` are their positions."""

    faces: tuple[int, ...]
    distance: float
    max_distance: float
    similarity: float
    verdict: Literal["same", "different", "unsure"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All pairs of faces of two photos."""

    photos: tuple[ComparedPhoto, ...]
    pairs: tuple[ComparedPair, ...]


@dataclass(frozen=True, slots=True)
class TenantFacts:
    """A tenant; a limit that is None does not limit."""

    id: str
    created_at: datetime
    image_count: int
    face_count: int
    person_count: int
    max_images: int | None
    max_faces: int | None
    requests_per_minute: int | None


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret; `last_used_at` is to the hour."""

    id: str
    name: str
    scopes: tuple[str, ...]
    tenant_id: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class IssuedKey(Key):
    """A key with its text, `key`, which is given this once."""

    key: str = dataclasses.field(repr=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a deletion removed; `files` is less than `images` where some are still to go.

    changes: entries of the history that spoke of what was erased.
    """

    images: int
    faces: int
    people: int
    reviews: int
    files: int
    decisions: int
    changes: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person said: all of these faces are one human being, or each of the others another.

    The faces are those it is about, and some that stand for a person.
    """

    id: str
    kind: Literal["same", "different"]
    decided_at: datetime
    key_id: str | None
    face_ids: tuple[str, ...]
    other_face_ids: tuple[str, ...]
    person_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of the history; `subject` has the ids of what it is about."""

    id: str
    at: datetime
    kind: str
    key_id: str | None
    by_machine: bool
    subject: Mapping[str, Any]
    undoable: bool
    undoes: str | None
    undone_by: str | None


@dataclass(frozen=True, slots=True)
class AskedPerson:
    """A person that a question is about."""

    id: str
    label: str | None
    face_count: int
    cover_face_id: str | None


@dataclass(frozen=True, slots=True)
class AskedFace:
    """The face that a question is about."""

    id: str
    image_id: str
    box: Box


@dataclass(frozen=True, slots=True)
class Review:
    """A question that only a person can answer; `why` says in words why it is asked.

    `people` has one or two: first the one that has the face, then the one that this may be as well,
    or that the face may belong to instead. `settles` counts the pairs of faces of which the answer
    says whether they are of one person (the faces, for a mere name), `chance` is that of the
    answer that changes something, and `worth` both together.
    """

    id: str
    kind: Literal["new_person", "same_person", "weak_match", "odd_face"]
    created_at: datetime
    people: tuple[AskedPerson, ...]
    face: AskedFace | None
    distance: float | None
    other_distance: float | None
    similarity: float | None
    margin: float | None
    why: str
    settles: int
    chance: float
    worth: float
    put_off: bool


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a tenant; `facts` has the ids of what it happened to."""

    id: int
    kind: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a list; `next` is the cursor of the following one, None on the last."""

    items: tuple[T, ...]
    next: str | None


def decode(kind: type[T], data: Any) -> T:
    """An answer of one of these classes, from its JSON."""
    converters = _CONVERTERS.get(kind)
    if converters is None:
        hints, fields = typing.get_type_hints(kind), dataclasses.fields(typing.cast(Any, kind))
        converters = {field.name: _converter(hints[field.name]) for field in fields}
        _CONVERTERS[kind] = converters
    return kind(**{name: convert(data[name]) for name, convert in converters.items()})


def decode_page(kind: type[T], data: Any) -> Page[T]:
    """A page of answers."""
    return Page(tuple(decode(kind, each) for each in data["items"]), data.get("next"))


def _converter(hint: Any) -> Callable[[Any], Any]:
    inner = typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        convert = _converter(next(each for each in inner if each is not types.NoneType))
        return lambda value: None if value is None else convert(value)
    if typing.get_origin(hint) is tuple:
        convert_item = _converter(inner[0])
        return lambda value: tuple(map(convert_item, value))
    if hint is datetime:
        return datetime.fromisoformat
    if dataclasses.is_dataclass(hint):
        return lambda value: decode(typing.cast(type[Any], hint), value)
    return lambda value: value

"""People: what a person in a tenant is called, how people are listed, and what may be changed."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any, Final
from uuid import UUID

from service.domain.errors import LimitReachedError
from service.domain.types import ClusterId, FaceId, ImageId

MAX_LABEL_LENGTH: Final = 256
"""In code points."""

MAX_METADATA_BYTES: Final = 4096
"""Of the metadata as JSON in UTF-8, without blanks."""

MAX_DIGESTS: Final = 200
"""Files that one request can ask for by their SHA-256; as many fit into the head of a request."""

LABEL_RULE: Final = (
    f"1 to {MAX_LABEL_LENGTH} characters, not only blanks, and none of them a control character"
)
"""The rule in words that follow "must have"."""

# Unlike ids, labels may have joiners: names in Persian and Hindi need them.
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def clean_label(text: str) -> str | None:
    """A label as it is stored, in normal form C and without blanks around it; None if it is none.

    A label is for people to read: unlike an id it is normalised, and two people may have the same.
    """
    # Before the length is known to be small, nothing is done that takes time.
    if len(text) > 4 * MAX_LABEL_LENGTH or _FORBIDDEN.search(text):
        return None
    label = unicodedata.normalize("NFC", text).strip()
    return label if 1 <= len(label) <= MAX_LABEL_LENGTH else None


def label_key(label: str) -> str:
    """The text by which labels are ordered and prefixes are found: without case and width."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())


class PeopleOrder(StrEnum):
    """The order of a list of people: each from the largest, newest or first on."""

    FACES = "faces"
    LABEL = "label"
    RECENCY = "recency"


@dataclass(frozen=True, slots=True)
class PeopleFilter:
    """Which people are listed.

    labelled: whether they have a label; None for both. hidden: whether they are hidden; None for
    both. prefix: of the label, without regard to case; it needs the order by label.
    """

    labelled: bool | None = None
    hidden: bool | None = False
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class PeoplePosition:
    """The position of a person in a list; the next page begins behind it.

    value: number of faces, key of the label, or time of the newest photo, by the order.
    """

    value: int | str | datetime
    person_id: UUID


@dataclass(frozen=True, slots=True)
class Person:
    """A person of a tenant: a cluster of faces.

    external_id: the caller's own id, unique in the tenant. version: counts the changes that people
    made. last_face_at: time of the newest photo. cover_face_id: the face that stands for the
    person; chosen by a person, or the one of the best quality. label_key: see `label_key`.
    """

    person_id: ClusterId
    label: str | None
    label_key: str | None
    external_id: str | None
    metadata: dict[str, Any]
    hidden: bool
    version: int
    faces: int
    images: int
    created_at: datetime
    last_face_at: datetime
    cover_face_id: FaceId | None
    cover_is_chosen: bool


class Unchanged(Enum):
    """In the place of a value that stays as it is."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED
"""The value of a field that an edit leaves as it is; None removes it."""


@dataclass(frozen=True, slots=True)
class PersonEdit:
    """A change of a person's facts; each field may be `UNCHANGED`.

    cover_face_id: None lets the machine choose again.
    """

    label: str | Unchanged | None = UNCHANGED
    external_id: str | Unchanged | None = UNCHANGED
    metadata: dict[str, Any] | Unchanged = UNCHANGED
    hidden: bool | Unchanged = UNCHANGED
    cover_face_id: FaceId | Unchanged | None = UNCHANGED


@dataclass(frozen=True, slots=True)
class FacePosition:
    """The position of a face in a list of newest faces first: its number in the tenant."""

    seq: int


@dataclass(frozen=True, slots=True)
class ImagePosition:
    """The position of an image in a list of newest images first."""

    time: datetime
    image_id: UUID


@dataclass(frozen=True, slots=True)
class ListedFace:
    """A face in a list, with what a page needs to show it; `seq` is its number in the tenant.

    box: of the detection, in pixels of the upright photo.
    """

    face_id: FaceId
    person_id: ClusterId
    image_id: ImageId
    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]
    confidence: float
    is_auto_matched: bool
    distance: float | None
    quality: Any
    is_matchable: bool
    seq: int


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """A stored image.

    taken_at: by its EXIF data; a time without an offset counts as UTC. location: latitude and
    longitude in degrees, None unless it is kept. has_file: whether the bytes are kept.
    """

    image_id: ImageId
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
    location: tuple[float, float] | None
    faces: int
    has_file: bool


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Which images are listed.

    by_taken: order by the time the photo was taken; images without one are left out. after,
    before: bounds of the time of the order, exclusive. sha256: of the files' bytes, in hexadecimal;
    None for all. It needs the order by creation.
    """

    by_taken: bool = False
    after: datetime | None = None
    before: datetime | None = None
    sha256: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class TenantRoom:
    """What a tenant holds, and how much it may; None is no limit."""

    images: int
    faces: int
    max_images: int | None
    max_faces: int | None

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        return self.max_images is not None or self.max_faces is not None

    def check(self, new_faces: int) -> None:
        """Return where the tenant may have another image with this number of faces.

        A tenant that has as many faces as it may have takes no further image, with faces or
        without: so it can be refused before its faces are looked for.

        Raises:
            LimitReachedError: it may not.
        """
        if self.max_images is not None and self.images >= self.max_images:
            raise LimitReachedError("max_images", self.max_images)
        if self.max_faces is not None and self.faces + max(1, new_faces) > self.max_faces:
            raise LimitReachedError("max_faces", self.max_faces)


@dataclass(frozen=True, slots=True)
class TenantFacts:
    """A tenant: its counts, and its limits; None is no limit."""

    tenant_id: str
    created_at: datetime
    images: int
    faces: int
    people: int
    max_images: int | None = None
    max_faces: int | None = None
    requests_per_minute: int | None = None

    @property
    def room(self) -> TenantRoom:
        """The room for images and faces."""
        return TenantRoom(self.images, self.faces, self.max_images, self.max_faces)


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """A change of a tenant's limits; each field may be `UNCHANGED`, None removes a limit."""

    max_images: int | Unchanged | None = UNCHANGED
    max_faces: int | Unchanged | None = UNCHANGED
    requests_per_minute: int | Unchanged | None = UNCHANGED


@dataclass(frozen=True, slots=True)
class Change:
    """What happened in a tenant, by its number in the tenant.

    kind: such as "image.inserted". key_id: of the key that did it; None for the configured token.
    subject: ids of what it is about.
    """

    number: int
    changed_at: datetime
    kind: str
    key_id: str | None
    subject: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The answer to an earlier request with the same Idempotency-Key.

    fingerprint: of what the request asked for.
    """

    fingerprint: bytes
    status: int
    body: bytes

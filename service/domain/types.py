"""The words of the product: photos, faces, clusters, reviews."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NewType

import numpy as np
from numpy.typing import NDArray

TenantId = NewType("TenantId", str)
ImageId = NewType("ImageId", str)
FaceId = NewType("FaceId", str)
ClusterId = NewType("ClusterId", str)
ReviewId = NewType("ReviewId", int)
ModelSpace = NewType("ModelSpace", str)

Embedding = NDArray[np.float32]
"""A unit vector, float32 [dimension]."""

PhotoSource = Callable[[], Awaitable[bytes]]
"""Gives a file's bytes, as often as it is asked: a photo that waits need not be held in memory."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the upright photo; it may reach over the photo's edges."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class FacialArea:
    """A box in whole pixels, inside the photo: left, top, width, height."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True, slots=True)
class Detection:
    """One face found: where, how sure (probability 0 to 1), and its five landmarks.

    Landmarks are (x, y) in pixels of the upright photo: left eye, right eye, nose, left and right
    corner of the mouth, as seen in the photo.
    """

    box: Box
    landmarks: tuple[tuple[float, float], ...]
    confidence: float

    def facial_area(self, width: int, height: int) -> FacialArea:
        """The box clipped to a photo of `width` x `height` pixels and rounded to whole pixels."""
        x1 = min(max(round(self.box.x1), 0), width - 1)
        y1 = min(max(round(self.box.y1), 0), height - 1)
        x2 = min(max(round(self.box.x2), x1 + 1), width)
        y2 = min(max(round(self.box.y2), y1 + 1), height)
        return FacialArea(x1, y1, x2 - x1, y2 - y1)


@dataclass(frozen=True, slots=True)
class FacePlace:
    """Where a face is, as far as cutting it out needs: box and five landmarks of a `Detection`."""

    box: Box
    landmarks: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class FaceQuality:
    """How well a face can be compared.

    score: 0 to 1, the smallest of the scores of its parts.
    size: shorter side of the box, in pixels of the photo.
    sharpness: mean Sobel magnitude of the aligned grey face, grey values a pixel.
    brightness: mean grey value, 0 to 255.
    contrast: standard deviation of the grey values.
    yaw: estimate from the landmarks, in degrees; positive where the nose points to the right of
        the photo.
    roll: estimate from the landmarks, in degrees; positive where the head leans to the right of
        the photo, clockwise.
    reasons: what lowers the score, worst first: "small", "blurred", "dark", "bright" (on the whole,
        or much of it burnt out), "low_contrast", "turned_away", "uncertain" (a low probability that
        it is a face).
    """

    score: float
    size: float
    sharpness: float
    brightness: float
    contrast: float
    yaw: float
    roll: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedFace:
    """A detection with its embedding, and how well that can be compared."""

    detection: Detection
    embedding: Embedding
    quality: FaceQuality


@dataclass(frozen=True, slots=True)
class AnalyzedPhoto:
    """What the models say of one photo: its facts and its faces, largest first.

    `width` and `height` are those of the upright photo; `phash` is 16 hex digits; `format` is one
    of jpeg, png, webp, bmp, tiff, gif. `turned` is how many degrees clockwise, 0, 90, 180 or 270,
    the photo has to be turned further so that its faces are upright; boxes and landmarks are in
    pixels of the photo before that.
    """

    format: str
    width: int
    height: int
    phash: str
    faces: tuple[EmbeddedFace, ...]
    turned: int = 0


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """A detection, and how well the face can be compared."""

    detection: Detection
    quality: FaceQuality


@dataclass(frozen=True, slots=True)
class DetectedPhoto:
    """A photo's faces, found but not embedded, largest first; the rest as in `AnalyzedPhoto`."""

    width: int
    height: int
    faces: tuple[DetectedFace, ...]
    turned: int = 0


@dataclass(frozen=True, slots=True)
class FaceDistance:
    """How far an embedding is from a stored face (cosine distance, 0 to 2), and whose it is.

    is_auto_matched: whether the machine put the face into its cluster, and not a person; it says so
    of no face that a cluster was opened for.
    """

    face_id: FaceId
    cluster_id: ClusterId
    distance: float
    is_auto_matched: bool


@dataclass(frozen=True, slots=True)
class ClusterDistance:
    """How far a face is from a cluster.

    distance: as the match rule measures it, which decides. nearest: cosine distance, 0 to 2, to the
    nearest of its faces. faces: how many faces were compared with, all that others may be matched
    against.
    """

    cluster_id: ClusterId
    distance: float
    nearest: float
    faces: int


@dataclass(frozen=True, slots=True, eq=False)
class NewFace:
    """A face about to be stored, with the cluster it was given.

    is_matchable: whether other faces may be matched against it.
    """

    face_id: FaceId
    cluster_id: ClusterId
    face: EmbeddedFace
    area: FacialArea
    is_auto_matched: bool
    distance: float | None
    is_matchable: bool


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image about to be stored.

    blob_key: where its bytes lie in the blob store by now; None where none are kept.
    """

    image_id: ImageId
    blob_key: str | None
    sha256: str
    photo: AnalyzedPhoto
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """Bytes in the blob store; `modified_at` is of the store's own clock."""

    key: str
    modified_at: datetime
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed, and what it found and could not remove: the next one tries again."""

    removed: int
    left: int


@dataclass(frozen=True, slots=True)
class StoredFace:
    """A face as it is stored.

    quality: None for a face of before qualities were stored.
    is_matchable: whether other faces may be matched against it.
    """

    face_id: FaceId
    cluster_id: ClusterId
    image_id: ImageId
    area: FacialArea
    is_auto_matched: bool
    quality: FaceQuality | None
    is_matchable: bool


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image as it is stored, with the ids of its faces and their clusters, in face order."""

    phash: str
    face_ids: tuple[FaceId, ...]
    cluster_ids: tuple[ClusterId, ...]


@dataclass(frozen=True, slots=True)
class ClusterSize:
    """How many faces a cluster holds, on how many images."""

    number_of_faces: int
    number_of_images: int


@dataclass(frozen=True, slots=True)
class Erasure:
    """How many rows a deletion took, by kind, and the blobs that no row names any more."""

    images: int = 0
    faces: int = 0
    clusters: int = 0
    reviews: int = 0
    blob_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a deletion took: rows by kind, and image files.

    files: those removed from the blob store; fewer than `images` where some could not be.
    """

    images: int
    faces: int
    clusters: int
    reviews: int
    files: int


@dataclass(frozen=True, slots=True)
class Review:
    """A cluster that waits for a person to look at it; `image_id` shows its oldest face."""

    review_id: ReviewId
    cluster_id: ClusterId
    image_id: ImageId


@dataclass(frozen=True, slots=True)
class IngestedPhoto:
    """The answer to an ingested photo; `turned` as in `AnalyzedPhoto`."""

    image_id: ImageId
    faces: tuple[NewFace, ...] = field(default=())
    turned: int = 0

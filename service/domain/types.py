"""The words of the product: photos, faces, clusters, reviews."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NewType

import numpy as np
from numpy.typing import NDArray

TenantId = NewType("TenantId", str)
ImageId = NewType("ImageId", str)
FaceId = NewType("FaceId", str)
ClusterId = NewType("ClusterId", str)
ReviewId = NewType("ReviewId", int)
DecisionId = NewType("DecisionId", str)
ModelSpace = NewType("ModelSpace", str)

Embedding = NDArray[np.float32]
"""A unit vector, float32 [dimension]."""

PhotoSource = Callable[[], Awaitable[bytes]]
"""Reads the bytes of a file; it may be called again, so a waiting photo takes no memory."""


THUMBNAIL_SIZES: Final = (128, 256, 512, 1024)
"""The sizes of stored thumbnails: pixels of the longest side."""

CROP_SIZES: Final = range(16, 1025)
"""The sizes of crops of faces: pixels of the longest side."""

MAX_HASH_DISTANCE: Final = 15
"""The largest distance at which near copies are looked for, in bits. Hashes of unrelated photos are
32 apart in the mean, and one pair in 3,000 no further than 14."""

MAX_CROP_MARGIN: Final = 4.0
"""The largest side of a crop as a multiple of that of the face; the smallest is 1."""

NEAR_COPY_DISTANCE: Final = 6
"""Bits in which the hash of a near copy differs, at most, where nothing else is asked for.

Of 669 photos of people, all copies in JPEG or WebP, of half the size, in grey or darker are within
it, 98.6 % of those a third brighter, and 75 % of those cut by 2 % on each side. Of ten million
pairs of portraits of one framing, six were."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the upright photo; it may cross the edges of the photo."""

    x1: float
    y1: float
    x2: float
    y2: float

    def scaled(self, factor: float) -> Box:
        """The same rectangle in pixels of a photo of another scale."""
        return Box(self.x1 * factor, self.y1 * factor, self.x2 * factor, self.y2 * factor)


@dataclass(frozen=True, slots=True)
class FacialArea:
    """A box in whole pixels, inside the photo: left, top, width, height."""

    x: int
    y: int
    w: int
    h: int


@dataclass(frozen=True, slots=True)
class Detection:
    """One detected face: box, confidence (probability, 0 to 1) and five landmarks.

    Landmarks are (x, y) in pixels of the upright photo: left eye, right eye, nose, left and right
    corner of the mouth, as seen in the photo.
    """

    box: Box
    landmarks: tuple[tuple[float, float], ...]
    confidence: float

    def scaled(self, factor: float) -> Detection:
        """The same face in pixels of a photo of another scale."""
        landmarks = tuple((x * factor, y * factor) for x, y in self.landmarks)
        return Detection(self.box.scaled(factor), landmarks, self.confidence)

    def facial_area(self, width: int, height: int) -> FacialArea:
        """The box clipped to a photo of `width` x `height` pixels and rounded to whole pixels."""
        x1 = min(max(round(self.box.x1), 0), width - 1)
        y1 = min(max(round(self.box.y1), 0), height - 1)
        x2 = min(max(round(self.box.x2), x1 + 1), width)
        y2 = min(max(round(self.box.y2), y1 + 1), height)
        return FacialArea(x1, y1, x2 - x1, y2 - y1)


@dataclass(frozen=True, slots=True)
class FacePlace:
    """The part of a `Detection` that a crop needs: box and five landmarks."""

    box: Box
    landmarks: tuple[tuple[float, float], ...]

    def scaled(self, factor: float) -> FacePlace:
        """The same place in pixels of a photo of another scale."""
        landmarks = tuple((x * factor, y * factor) for x, y in self.landmarks)
        return FacePlace(self.box.scaled(factor), landmarks)


@dataclass(frozen=True, slots=True)
class FaceQuality:
    """How well a face can be compared.

    score: 0 to 1, the lowest score of its parts.
    size: shorter side of the box, in pixels of the photo as it was decoded.
    sharpness: mean Sobel magnitude of the aligned grey face, grey values a pixel.
    brightness: mean grey value, 0 to 255.
    contrast: standard deviation of the grey values.
    yaw: estimate from the landmarks, in degrees; positive when the nose points to the right of
        the photo.
    roll: estimate from the landmarks, in degrees; positive when the head leans clockwise.
    reasons: the parts with a low score, worst first: "small", "blurred", "dark", "bright" (as a
        whole, or burnt out in large parts), "low_contrast", "turned_away", "uncertain" (a low
        probability that it is a face).
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
    """A detection with its embedding and its quality."""

    detection: Detection
    embedding: Embedding
    quality: FaceQuality


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """What a file says about its photo.

    taken_at: when it was taken, in UTC; a time without an offset is taken for UTC. None where the
        file does not say, or names a year without photography.
    orientation: 1 to 8, as EXIF counts them: how the stored pixels lie. 1 is upright.
    location: latitude and longitude in degrees, north and east positive. None where the file does
        not say, or where it was not asked.
    """

    taken_at: datetime | None = None
    orientation: int = 1
    location: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class AnalyzedPhoto:
    """The analysis of one photo: its facts and its faces, largest first.

    `width` and `height` are those of the upright photo; `phash` is 16 hex digits; `format` is one
    of jpeg, png, webp, bmp, tiff, gif. `turned` is the further rotation that makes its faces
    upright, in degrees clockwise: 0, 90, 180 or 270; boxes and landmarks are in pixels of the photo
    without that rotation.
    """

    format: str
    width: int
    height: int
    phash: str
    faces: tuple[EmbeddedFace, ...]
    turned: int = 0
    facts: PhotoFacts = PhotoFacts()


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """A detection with its quality."""

    detection: Detection
    quality: FaceQuality


@dataclass(frozen=True, slots=True)
class DetectedPhoto:
    """The detected faces of a photo without embeddings, largest first; else as `AnalyzedPhoto`."""

    width: int
    height: int
    faces: tuple[DetectedFace, ...]
    turned: int = 0


@dataclass(frozen=True, slots=True)
class FaceDistance:
    """The cosine distance (0 to 2) of an embedding to a stored face, and the face's cluster.

    is_auto_matched: whether matching put the face into its cluster; false for a face that a person
    placed and for a face whose cluster was made for it.
    """

    face_id: FaceId
    cluster_id: ClusterId
    distance: float
    is_auto_matched: bool


@dataclass(frozen=True, slots=True)
class ClusterDistance:
    """The distance of a face to a cluster.

    distance: of the match rule; it decides. nearest: cosine distance, 0 to 2, to the nearest face
    of the cluster. faces: number of matchable faces of the cluster.
    """

    cluster_id: ClusterId
    distance: float
    nearest: float
    faces: int


@dataclass(frozen=True, slots=True)
class Doubt:
    """What a person may be asked about a face that was just put into a cluster.

    other: the cluster that it may belong to instead or as well; None where none is near.
    distance, similarity: to its own cluster where it matched one, else to the other one.
    other_distance: to the other one where it matched. settles: pairs of faces, by the answer.
    chance: that the answer changes something.
    """

    other: ClusterId | None
    distance: float
    other_distance: float | None
    similarity: float
    settles: int
    chance: float


@dataclass(frozen=True, slots=True, eq=False)
class NewFace:
    """A face to be stored, with its cluster.

    is_matchable: whether other faces may be matched against it.
    similarity: to the cluster that it matched, 0 to 1, and 0.5 at the limit of a match.
    margin: how much farther the next cluster is, of those near enough to be compared.
    doubt: what a person is asked; None where the match, or that there is none, is clear.
    """

    face_id: FaceId
    cluster_id: ClusterId
    face: EmbeddedFace
    area: FacialArea
    is_auto_matched: bool
    distance: float | None
    is_matchable: bool
    similarity: float | None = None
    margin: float | None = None
    doubt: Doubt | None = None


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image to be stored.

    blob_key: key of its bytes in the blob store, which has them already; None when none are kept.
    """

    image_id: ImageId
    blob_key: str | None
    sha256: str
    photo: AnalyzedPhoto
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """An object in the blob store; `modified_at` is by the clock of the store."""

    key: str
    modified_at: datetime
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Swept:
    """Counts of a sweep: removed blobs, and blobs that it failed to remove and the next retries."""

    removed: int
    left: int


@dataclass(frozen=True, slots=True)
class StoredFace:
    """A stored face.

    quality: None for a face that was stored before qualities were.
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
    """A stored image with the ids of its faces and of their clusters, in the order of the faces."""

    phash: str
    face_ids: tuple[FaceId, ...]
    cluster_ids: tuple[ClusterId, ...]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """The file of a stored image.

    blob_key: key of its bytes in the blob store; None where none are kept.
    sha256: of the bytes, in hex.
    """

    image_id: ImageId
    blob_key: str | None
    format: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FaceOnFile:
    """The place of a stored face: its box, in pixels of the upright photo of a file."""

    face_id: FaceId
    box: Box
    file: StoredFile


@dataclass(frozen=True, slots=True)
class NearCopy:
    """An image that looks like another one.

    distance: of their perceptual hashes, in bits, 0 to 64.
    """

    image_id: ImageId
    distance: int


@dataclass(frozen=True, slots=True)
class ClusterSize:
    """The number of faces of a cluster, and of the images that show them."""

    number_of_faces: int
    number_of_images: int


@dataclass(frozen=True, slots=True)
class Erasure:
    """The number of rows that a deletion removed, by kind, and the keys of unreferenced blobs."""

    images: int = 0
    faces: int = 0
    clusters: int = 0
    reviews: int = 0
    decisions: int = 0
    changes: int = 0
    blob_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """The receipt of a deletion: removed rows by kind, and removed image files.

    files: removed blobs; less than `images` when some could not be removed. changes: entries of the
    history.
    """

    images: int
    faces: int
    clusters: int
    reviews: int
    files: int
    decisions: int = 0
    changes: int = 0


@dataclass(frozen=True, slots=True)
class Review:
    """A cluster that waits for a person's review; `image_id` shows its oldest face."""

    review_id: ReviewId
    cluster_id: ClusterId
    image_id: ImageId


@dataclass(frozen=True, slots=True)
class IngestedPhoto:
    """The outcome of an insert; `turned` as in `AnalyzedPhoto`."""

    image_id: ImageId
    faces: tuple[NewFace, ...] = field(default=())
    turned: int = 0

"""What requests and answers of the flat operations hold, as the contract describes it.

The handlers read parameters themselves and render answers without these models; tests compare what
was answered with their schemas.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, RootModel

from service.api.params import MAX_PAGE
from service.api.v1.models import (
    Answer,
    BoxAnswer,
    EmbeddingQuery,
    Id,
    Name,
    QualityAnswer,
    Request,
)

_MAX_INT64 = 2**63 - 1

# -- parameters -----------------------------------------------------------------------------------


class OfTenant(Request):
    """The tenant alone."""

    tenant_id: Name = Field(description="it exists from its first photo on")


class OfImage(OfTenant):
    """An image of a tenant."""

    image_id: Id


class OfFace(OfTenant):
    """A face of a tenant."""

    face_id: Id


class OfCluster(OfTenant):
    """A cluster of a tenant."""

    cluster_id: Id


class OfReview(OfTenant):
    """A review of a tenant."""

    review_id: int = Field(ge=0, le=_MAX_INT64)


_Skip = Annotated[int, Field(ge=0, le=_MAX_INT64, description="items left out at the beginning")]
_Limit = Annotated[int, Field(ge=0, le=MAX_PAGE, description="largest number of items")]


class ReviewsPage(OfTenant):
    """A page of reviews."""

    skip: _Skip = 0
    limit: _Limit = 10


class FacesPage(OfImage):
    """A page of the faces of an image."""

    skip: _Skip = 0
    limit: _Limit = 10


class FaceTarget(OfFace):
    """Where a face goes."""

    to_cluster_id: Id = Field(description="a cluster, or `new` for one of its own")


class ClusterMerge(OfTenant):
    """Two clusters of one person."""

    from_cluster_id: Id = Field(description="the cluster that disappears")
    into_cluster_id: Id = Field(description="the cluster that gets the faces of both")


class AnyTenant(Request):
    """A tenant, where the request needs none."""

    tenant_id: Name | None = Field(None, description="whose share of the service is used")


class EmbeddingParameters(EmbeddingQuery):
    """What is embedded, and how embeddings are written."""


# -- answers --------------------------------------------------------------------------------------


class AreaAnswer(Answer):
    """The box of a face, clipped at the photo's edges and rounded, in pixels."""

    x: int
    y: int
    w: int
    h: int


class LegacyNewFace(Answer):
    """A face of an inserted photo."""

    face_id: str
    cluster_id: str
    facial_area: AreaAnswer
    box: BoxAnswer
    landmarks: list[list[float]]
    confidence: float
    is_auto_matched: bool
    distance: float | None
    is_matchable: bool
    quality: QualityAnswer | None


class LegacyInsert(Answer):
    """An inserted photo; `face_ids` maps each face to its cluster."""

    image_id: str
    face_ids: dict[str, str]
    faces: list[LegacyNewFace]
    turned: int


class LegacyImage(Answer):
    """The faces and clusters of an image, and its perceptual hash."""

    face_ids: list[str]
    cluster_ids: list[str]
    phash: str


class LegacyFace(Answer):
    """A stored face."""

    cluster_id: str
    image_id: str
    facial_area: AreaAnswer
    is_auto_matched: bool
    is_matchable: bool
    quality: QualityAnswer | None


class LegacyListedFace(LegacyFace):
    """A stored face in a list."""

    id: str


class LegacyFaces(RootModel[list[LegacyListedFace]]):
    """A page of faces, the largest first."""


class LegacyCluster(Answer):
    """The size of a cluster."""

    number_of_faces: int
    number_of_images: int


class LegacyReview(Answer):
    """A cluster that was opened without a person's word."""

    id: int
    cluster_id: str
    image_id: str


class LegacyReviews(RootModel[list[LegacyReview]]):
    """A page of reviews, the oldest first."""


class DeletedRows(Answer):
    """Removed rows of each kind, and removed files."""

    images: int
    faces: int
    clusters: int
    reviews: int
    files: int = Field(description="less than `images` where some could not be removed yet")


class LegacyReceipt(Answer):
    """The receipt of a deletion."""

    status: Literal["success"]
    deleted: DeletedRows


class LegacyMove(Answer):
    """Where a face went."""

    status: Literal["success"]
    cluster_id: str


class MergedCluster(LegacyCluster):
    """The cluster that has the faces of both."""

    cluster_id: str


class DetectedFace(Answer):
    """A face that was found."""

    box: BoxAnswer
    landmarks: list[list[float]]
    confidence: float
    quality: QualityAnswer | None


class DetectAnswer(Answer):
    """The faces of a photo."""

    width: int
    height: int
    turned: int
    faces: list[DetectedFace]


class EmbeddedFace(Answer):
    """An embedding, with the place of the face unless the image was a crop."""

    embedding: list[float] | str = Field(description="as `embedding_format` asks")
    box: BoxAnswer | None = None
    landmarks: list[list[float]] | None = None
    confidence: float | None = None
    quality: QualityAnswer | None = None


class ModelAnswer(Answer):
    """The model of the embeddings; those of two spaces cannot be compared."""

    space: str
    dimension: int


class EmbedAnswer(Answer):
    """The embeddings of the faces of a photo, or of one crop."""

    model: ModelAnswer
    width: int | None = None
    height: int | None = None
    turned: int | None = None
    faces: list[EmbeddedFace]


class LegacyErrorCode(Answer):
    """What went wrong."""

    code: str = Field(description="stable; the table of errors lists them")
    message: str


class LegacyError(Answer):
    """An error of a route without `/v1`, and of a request that never reached a route."""

    error: LegacyErrorCode
    detail: str = Field(description="the message again, for older clients")


class ProbeAnswer(Answer):
    """The state of the service."""

    status: Literal["alive", "ready"]

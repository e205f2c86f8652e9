"""The operations whose parameters are flat: the legacy API, and what grew beside it under /v1.

Each parameter may stand in the query string, in a form, or in a JSON object. The router and the
contract are made of this list.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel
from starlette.responses import Response

from service.api import flat_models as models
from service.api import legacy
from service.api.params import Parameters
from service.api.render import BINARY_TYPE
from service.api.services import ApiServices
from service.api.v1 import recognition
from service.api.v1.models import Request
from service.domain import errors
from service.domain.keys import Scope

Handler = Callable[[ApiServices, Parameters], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class FlatOperation:
    """A method of a path.

    name: the operationId. takes: the model of the parameters, but for the photo. answers: the model
    or the media type of each form of the answer, the default first. photo: whether it takes a
    photo. errors: those beside the ones that every operation may answer. answer_headers: those of
    its answers, beside the ones of every answer.
    """

    method: str
    path: str
    handler: Handler
    name: str
    tag: str
    summary: str
    scope: Scope
    takes: type[Request]
    answers: tuple[type[BaseModel] | str, ...]
    photo: bool = False
    errors: tuple[type[errors.FacetteError], ...] = ()
    answer_headers: tuple[str, ...] = ()


_READ, _WRITE = Scope.READ, Scope.WRITE
_LIMITS: Final = (errors.LimitReachedError,)

FLAT_OPERATIONS: Final[tuple[FlatOperation, ...]] = (
    FlatOperation(
        "POST", "/v1/embed", recognition.embed, "embed", "recognition",
        "Embed the faces of a photo, or one face crop; nothing is stored", _READ,
        models.EmbeddingParameters, (models.EmbedAnswer, BINARY_TYPE), photo=True,
        answer_headers=("X-Model-Space", "X-Embedding-Shape"),
    ),
    FlatOperation(
        "POST", "/v1/detect", recognition.detect, "detect", "recognition",
        "Find the faces of a photo; nothing is stored", _READ,
        models.AnyTenant, (models.DetectAnswer,), photo=True,
    ),
    FlatOperation(
        "POST", "/v1/merge-clusters", recognition.merge_clusters, "mergeClusters", "legacy",
        "Make one cluster of two clusters of one person", _WRITE,
        models.ClusterMerge, (models.MergedCluster,),
    ),
    FlatOperation(
        "POST", "/insert-image", legacy.insert_image, "legacyInsertImage", "legacy",
        "Store a photo; its faces join clusters or open new ones", _WRITE,
        models.OfTenant, (models.LegacyInsert,), photo=True, errors=_LIMITS,
    ),
    FlatOperation(
        "GET", "/image", legacy.get_image, "legacyGetImage", "legacy",
        "The faces and clusters of an image", _READ, models.OfImage, (models.LegacyImage,),
    ),
    FlatOperation(
        "DELETE", "/image", legacy.delete_image, "legacyDeleteImage", "legacy",
        "Delete an image, its faces and its file", _WRITE,
        models.OfImage, (models.LegacyReceipt,),
    ),
    FlatOperation(
        "GET", "/face", legacy.get_face, "legacyGetFace", "legacy",
        "A face", _READ, models.OfFace, (models.LegacyFace,),
    ),
    FlatOperation(
        "DELETE", "/face", legacy.delete_face, "legacyDeleteFace", "legacy",
        "Delete a face; its image stays", _WRITE, models.OfFace, (models.LegacyReceipt,),
    ),
    FlatOperation(
        "GET", "/faces", legacy.get_faces, "legacyListFaces", "legacy",
        "The faces of an image, largest first", _READ, models.FacesPage, (models.LegacyFaces,),
    ),
    FlatOperation(
        "GET", "/cluster", legacy.get_cluster, "legacyGetCluster", "legacy",
        "The size of a cluster", _READ, models.OfCluster, (models.LegacyCluster,),
    ),
    FlatOperation(
        "DELETE", "/cluster", legacy.delete_cluster, "legacyDeleteCluster", "legacy",
        "Delete a cluster with its faces, and images that show nobody else", _WRITE,
        models.OfCluster, (models.LegacyReceipt,),
    ),
    FlatOperation(
        "DELETE", "/tenant", legacy.delete_tenant, "legacyDeleteTenant", "legacy",
        "Delete all data of a tenant", Scope.ADMIN, models.OfTenant, (models.LegacyReceipt,),
    ),
    FlatOperation(
        "GET", "/review-pending", legacy.get_review, "legacyGetReview", "legacy",
        "A review: a cluster that was opened without a person's word", _READ,
        models.OfReview, (models.LegacyReview,),
    ),
    FlatOperation(
        "DELETE", "/review-pending", legacy.delete_review, "legacyDeleteReview", "legacy",
        "Close a review; the cluster stays", _WRITE, models.OfReview, (models.LegacyReceipt,),
    ),
    FlatOperation(
        "GET", "/review-pending-list", legacy.list_reviews, "legacyListReviews", "legacy",
        "Open reviews, oldest first", _READ, models.ReviewsPage, (models.LegacyReviews,),
    ),
    FlatOperation(
        "POST", "/update-face-cluster", legacy.update_face_cluster, "legacyMoveFace", "legacy",
        "Move a face to another cluster or to a new one", _WRITE,
        models.FaceTarget, (models.LegacyMove,),
    ),
)  # fmt: skip
"""The operations, in the order in which the router tries their paths."""

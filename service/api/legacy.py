"""The legacy API: each handler parses, calls one use case, and renders.

Its routes, parameters and response fields are compatible with those of the service that Facette
replaces, so that clients of that service need no change. Facette adds response fields to them.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from service.api.flat_models import DeletedRows
from service.api.params import MAX_PAGE, Parameters
from service.api.render import Json, detection, quality
from service.api.services import ApiServices
from service.api.tickets import CostClass, ticket_for
from service.domain.types import (
    ClusterId,
    FaceId,
    FacialArea,
    ImageId,
    NewFace,
    Receipt,
    Review,
    ReviewId,
    StoredFace,
    TenantId,
)
from service.telemetry import StageClock

_NEW_CLUSTER = "new"


async def insert_image(api: ApiServices, given: Parameters) -> Response:
    """POST /insert-image: store a photo; answers with its faces and their clusters."""
    tenant_id = given.tenant_id()
    photo = given.file("image")
    clock = StageClock(api.metrics)
    async with ticket_for(api, given.call, CostClass.PHOTO, tenant_id, photo.size_bytes) as ticket:
        stored = await api.ingest(
            tenant_id, photo.read, clock, ticket, is_limited=api.rates.is_limited(tenant_id)
        )
    _record(api, given, tenant_id, "image.insert", image_id=stored.image_id)
    return Json(
        {
            "image_id": stored.image_id,
            "face_ids": {face.face_id: face.cluster_id for face in stored.faces},
            "faces": [_new_face(face) for face in stored.faces],
            "turned": stored.turned,
        },
        headers={"Server-Timing": clock.server_timing()},
    )


async def get_image(api: ApiServices, given: Parameters) -> Response:
    """GET /image: the faces and clusters of an image, and its perceptual hash."""
    image = await api.curate.image(given.tenant_id(), ImageId(given.text("image_id")))
    return Json(
        {"face_ids": image.face_ids, "cluster_ids": image.cluster_ids, "phash": image.phash}
    )


async def delete_image(api: ApiServices, given: Parameters) -> Response:
    """DELETE /image: delete an image, its faces and its file."""
    tenant_id, image_id = given.tenant_id(), ImageId(given.text("image_id"))
    deleted = await api.curate.delete_image(tenant_id, image_id)
    _record(api, given, tenant_id, "image.delete", image_id=image_id)
    return _deleted(deleted)


async def get_face(api: ApiServices, given: Parameters) -> Response:
    """GET /face: one face."""
    face = await api.curate.face(given.tenant_id(), FaceId(given.text("face_id")))
    return Json(_face(face))


async def delete_face(api: ApiServices, given: Parameters) -> Response:
    """DELETE /face: delete one face; its image stays."""
    tenant_id, face_id = given.tenant_id(), FaceId(given.text("face_id"))
    deleted = await api.curate.delete_face(tenant_id, face_id)
    _record(api, given, tenant_id, "face.delete", face_id=face_id)
    return _deleted(deleted)


async def get_faces(api: ApiServices, given: Parameters) -> Response:
    """GET /faces: the faces of an image, page by page."""
    tenant_id, image_id = given.tenant_id(), ImageId(given.text("image_id"))
    skip, limit = _page(given)
    faces = await api.curate.faces_of_image(tenant_id, image_id, skip, limit)
    return Json([{"id": face.face_id, **_face(face)} for face in faces])


async def get_cluster(api: ApiServices, given: Parameters) -> Response:
    """GET /cluster: the number of faces and images of a cluster."""
    size = await api.curate.cluster_size(given.tenant_id(), ClusterId(given.text("cluster_id")))
    return Json(
        {"number_of_faces": size.number_of_faces, "number_of_images": size.number_of_images}
    )


async def delete_cluster(api: ApiServices, given: Parameters) -> Response:
    """DELETE /cluster: delete a cluster, its faces, and images with no other faces."""
    tenant_id, cluster_id = given.tenant_id(), ClusterId(given.text("cluster_id"))
    deleted = await api.curate.delete_cluster(tenant_id, cluster_id)
    _record(api, given, tenant_id, "person.delete", person_id=cluster_id)
    return _deleted(deleted)


async def delete_tenant(api: ApiServices, given: Parameters) -> Response:
    """DELETE /tenant: delete all data of a tenant."""
    tenant_id = given.tenant_id()
    deleted = await api.curate.delete_tenant(tenant_id)
    api.rates.forget(tenant_id)
    _record(api, given, tenant_id, "tenant.delete")
    return _deleted(deleted)


async def get_review(api: ApiServices, given: Parameters) -> Response:
    """GET /review-pending: one pending review."""
    review = await api.curate.review(given.tenant_id(), _review_id(given))
    return Json(_review(review))


async def list_reviews(api: ApiServices, given: Parameters) -> Response:
    """GET /review-pending-list: pending reviews, oldest first, page by page."""
    reviews = await api.curate.reviews(given.tenant_id(), *_page(given))
    return Json([_review(review) for review in reviews])


async def delete_review(api: ApiServices, given: Parameters) -> Response:
    """DELETE /review-pending: remove a review from the list."""
    tenant_id, review_id = given.tenant_id(), _review_id(given)
    deleted = await api.curate.delete_review(tenant_id, review_id)
    _record(api, given, tenant_id, "review.delete", review_id=review_id)
    return _deleted(deleted)


async def update_face_cluster(api: ApiServices, given: Parameters) -> Response:
    """POST /update-face-cluster: move a face to another cluster; `new` makes a new cluster."""
    tenant_id, face_id = given.tenant_id(), FaceId(given.text("face_id"))
    target = given.text("to_cluster_id")
    cluster_id = None if target == _NEW_CLUSTER else ClusterId(target)
    joined = await api.curate.move_face(tenant_id, face_id, cluster_id)
    _record(api, given, tenant_id, "face.move", face_id=face_id, person_id=joined)
    return Json({"status": "success", "cluster_id": joined})


def _record(
    api: ApiServices, given: Parameters, tenant_id: TenantId, action: str, **ids: object
) -> None:
    """Record a write in the audit trail."""
    call = given.call
    api.audit.write(call.principal, call.request_id, tenant_id, action, **ids)


def _deleted(receipt: Receipt) -> Response:
    rows = {name: getattr(receipt, name) for name in DeletedRows.model_fields}
    return Json({"status": "success", "deleted": rows})


def _page(given: Parameters) -> tuple[int, int]:
    return (
        given.integer("skip", default=0),
        given.integer("limit", default=10, high=MAX_PAGE),
    )


def _review_id(given: Parameters) -> ReviewId:
    return ReviewId(given.integer("review_id"))


def _area(area: FacialArea) -> dict[str, int]:
    return {"x": area.x, "y": area.y, "w": area.w, "h": area.h}


def _face(face: StoredFace) -> dict[str, Any]:
    return {
        "cluster_id": face.cluster_id,
        "image_id": face.image_id,
        "facial_area": _area(face.area),
        "is_auto_matched": face.is_auto_matched,
        "is_matchable": face.is_matchable,
        "quality": quality(face.quality),
    }


def _new_face(face: NewFace) -> dict[str, Any]:
    return {
        "face_id": face.face_id,
        "cluster_id": face.cluster_id,
        "facial_area": _area(face.area),
        **detection(face.face.detection),
        "is_auto_matched": face.is_auto_matched,
        "distance": face.distance,
        "is_matchable": face.is_matchable,
        "quality": quality(face.face.quality),
    }


def _review(review: Review) -> dict[str, Any]:
    return {
        "id": review.review_id,
        "cluster_id": review.cluster_id,
        "image_id": review.image_id,
    }

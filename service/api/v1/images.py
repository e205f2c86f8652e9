"""Images: inserted, listed, looked at, deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

from starlette.responses import Response

from service.api.image_bytes import UploadedImage
from service.api.render import Json
from service.api.services import ApiServices
from service.api.tickets import CostClass, ticket_for
from service.api.v1.cursors import decode_cursor, encode_cursor
from service.api.v1.models import ImagesPage, InsertQuery, Page
from service.api.v1.operation import V1Call
from service.api.v1.people import face_position
from service.api.v1.rendering import (
    face_json,
    image_json,
    new_face_json,
    receipt_json,
)
from service.api.v1.requests import IDEMPOTENCY_HEADER, answer, once_of
from service.batching import Ticket
from service.domain.errors import NotFoundError, RequestError
from service.domain.people import ImageFilter, ImagePosition
from service.domain.types import ClusterId, ImageId, IngestedPhoto, TenantId
from service.telemetry import StageClock
from service.usecases.ingest import InsertCondition, OnDuplicate

_LARGEST_PAGE = 500


async def insert_image(api: ApiServices, call: V1Call) -> Response:
    """POST /images: insert a photo."""
    photo = call.photo().file("image")
    condition = await insert_condition(api, call, photo)
    clock, tenant_id = StageClock(api.metrics), call.tenant_id
    async with ticket_for(api, call.call, CostClass.PHOTO, tenant_id, photo.size_bytes) as ticket:
        response = await insert_once(api, call, photo, clock, ticket, condition)
    response.headers["Server-Timing"] = clock.server_timing()
    return response


async def insert_condition(
    api: ApiServices, call: V1Call, photo: UploadedImage, suffix: str = ""
) -> InsertCondition:
    """When a photo of a request is not stored.

    Args:
        suffix: tells the photos of one request from each other.

    Raises:
        RequestError: the Idempotency-Key is none.
    """
    on_duplicate = OnDuplicate(call.queried(InsertQuery).on_duplicate)
    sha256 = ""
    if on_duplicate is not OnDuplicate.INSERT or IDEMPOTENCY_HEADER in call.headers:
        sha256 = await photo.sha256()
    return InsertCondition(
        on_duplicate,
        sha256,
        once_of(call, _inserted, sha256, on_duplicate, suffix=suffix),
        is_limited=api.rates.is_limited(call.tenant_id),
    )


async def insert_once(
    api: ApiServices,
    call: V1Call,
    photo: UploadedImage,
    clock: StageClock,
    ticket: Ticket,
    condition: InsertCondition,
) -> Response:
    """Insert a photo, and answer as the condition says; an insert is recorded in the audit trail.

    Raises:
        Error: as `IngestPhoto.once` does.
    """
    while True:
        stored = await api.ingest.once(call.tenant_id, photo.read, clock, ticket, condition)
        if not isinstance(stored, str):
            break
        try:
            return Json(await _image_that_was_there(api, call.tenant_id, stored))
        except NotFoundError:  # it was deleted meanwhile: the photo is to be stored now
            continue
    if isinstance(stored, IngestedPhoto):
        call.record(api, "image.insert", image_id=stored.image_id)
    return answer(stored, _inserted)


async def list_images(api: ApiServices, call: V1Call) -> Response:
    """GET /images: a page of images, newest first."""
    query = call.queried(ImagesPage)
    if query.person_id is not None:
        return await _images_of_person(api, call, query, ClusterId(query.person_id))
    after, before = _bound("after", query.after), _bound("before", query.before)
    digests = None if query.sha256 is None else tuple(query.sha256.split(","))
    if digests is not None and query.order == "taken":
        raise RequestError((("/query/sha256", "cannot be combined with the order by taking"),))
    which = ImageFilter(query.order == "taken", after, before, digests)
    of_list = f"images {call.tenant_id} {which}"
    behind = None
    if query.cursor is not None:
        at, image_id = decode_cursor(query.cursor, of_list, [datetime, UUID])
        behind = ImagePosition(cast(datetime, at), cast(UUID, image_id))
    found = await api.people.images(call.tenant_id, which, behind, query.limit + 1)
    page = found[: query.limit]
    following = None
    if len(found) > len(page):
        last = page[-1]
        time = last.taken_at if which.by_taken else last.created_at
        following = encode_cursor(of_list, time, last.image_id)
    return Json({"items": [image_json(image) for image in page], "next": following})


def _bound(name: str, time: datetime | None) -> datetime | None:
    """A time of the query, in UTC."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise RequestError(((f"/query/{name}", "must have an offset, such as Z"),))
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise RequestError(((f"/query/{name}", "must be in the years 1 to 9999 in UTC"),)) from None


async def _images_of_person(
    api: ApiServices, call: V1Call, query: ImagesPage, person_id: ClusterId
) -> Response:
    if query.order != "created" or query.after or query.before or query.sha256:
        raise RequestError(
            (("/query/person_id", "cannot be combined with an order, times or hashes"),)
        )
    of_list = f"images {call.tenant_id} {person_id}"
    images, behind = await api.people.images_of(
        call.tenant_id, person_id, face_position(query, of_list), query.limit
    )
    following = None if behind is None else encode_cursor(of_list, behind.seq)
    return Json({"items": [image_json(image) for image in images], "next": following})


async def get_image(api: ApiServices, call: V1Call) -> Response:
    """GET /images/{image_id}: facts of an image."""
    return Json(image_json(await api.people.image(call.tenant_id, _image_id(call))))


async def delete_image(api: ApiServices, call: V1Call) -> Response:
    """DELETE /images/{image_id}: delete an image with its faces and its file."""
    image_id = _image_id(call)
    receipt = await api.curate.delete_image(call.tenant_id, image_id)
    call.record(api, "image.delete", image_id=image_id)
    return Json(receipt_json(receipt))


async def list_faces_of_image(api: ApiServices, call: V1Call) -> Response:
    """GET /images/{image_id}/faces: a page of the faces of an image, largest first."""
    query, image_id = call.queried(Page), _image_id(call)
    of_list = f"faces of image {call.tenant_id} {image_id}"
    found = await api.people.faces_of_image(
        call.tenant_id, image_id, face_position(query, of_list), query.limit + 1
    )
    page = found[: query.limit]
    following = encode_cursor(of_list, page[-1].seq) if len(found) > len(page) else None
    return Json({"items": [face_json(face) for face in page], "next": following})


def _image_id(call: V1Call) -> ImageId:
    return ImageId(call.ids["image_id"])


def _inserted(photo: IngestedPhoto) -> Response:
    return Json(
        {
            "image_id": photo.image_id,
            "created": True,
            "turned": photo.turned,
            "faces": [new_face_json(face, photo.image_id) for face in photo.faces],
        },
        201,
    )


async def _image_that_was_there(
    api: ApiServices, tenant_id: TenantId, image_id: str
) -> dict[str, Any]:
    known = ImageId(image_id)
    image = await api.people.image(tenant_id, known)
    faces = await api.people.faces_of_image(tenant_id, known, None, _LARGEST_PAGE)
    return {
        "image_id": image.image_id,
        "created": False,
        "turned": image.turned,
        "faces": [{**face_json(face), "similarity": None, "margin": None} for face in faces],
    }

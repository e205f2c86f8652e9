"""Comparison of the faces of two photos, of which nothing is stored."""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing
from typing import Any

from starlette.responses import Response

from service.api.image_bytes import UploadedImage
from service.api.intake import PartedIntake
from service.api.parts import Part, Parts
from service.api.render import Json, detection, quality
from service.api.services import ApiServices
from service.api.tickets import CostClass, ticket_for
from service.api.v1.operation import V1Call
from service.domain.errors import RequestError
from service.domain.types import DetectedPhoto
from service.telemetry import StageClock

# Requests without a tenant share one queue.
_NOBODY = ""
_PHOTOS = 2


async def compare(api: ApiServices, call: V1Call) -> Response:
    """POST /v1/compare: compare the faces of two photos, the parts of a form."""
    clock = StageClock(api.metrics)
    async with AsyncExitStack() as stack:
        first, second = [UploadedImage.of(part.file) for part in await _photos(api, call, stack)]
        tenant = call.principal.tenant_id or _NOBODY
        size_bytes = first.size_bytes + second.size_bytes
        async with ticket_for(api, call.call, CostClass.COMPARISON, tenant, size_bytes) as ticket:
            found = await api.recognize.compare(first.read, second.read, clock, ticket)
    return Json(
        {
            "model": {"space": found.space},
            "photos": [_photo(found.photo_a), _photo(found.photo_b)],
            "pairs": [
                {
                    "faces": [pair.a, pair.b],
                    "distance": pair.distance,
                    "max_distance": pair.max_distance,
                    "similarity": pair.similarity,
                    "verdict": pair.verdict,
                }
                for pair in found.pairs
            ],
        },
        headers={"Server-Timing": clock.server_timing()},
    )


async def _photos(api: ApiServices, call: V1Call, stack: AsyncExitStack) -> list[Part]:
    """The two photos of the form, which are closed with the stack.

    Raises:
        RequestError: the form has more or fewer parts, or one that is no file.
    """
    assert call.stream is not None  # the operation says so
    intake = PartedIntake(call.stream.request.receive, timeout_s=api.upload_timeout_s)
    form = Parts(
        intake,
        call.headers,
        call.stream.permit,
        max_part_bytes=api.max_body_bytes,
        wait_for_room=_no_other_part,
    )
    photos: list[Part] = []
    async with aclosing(form.read()) as parts:
        async for part in parts:
            stack.push_async_callback(part.close)
            photos.append(part)
            if part.fault is not None:
                raise part.fault
            if len(photos) > _PHOTOS:
                break
    if len(photos) != _PHOTOS:
        raise RequestError((("/body", "must be a form with two photos as its parts"),))
    return photos


async def _no_other_part() -> bool:
    return False


def _photo(photo: DetectedPhoto) -> dict[str, Any]:
    return {
        "width": photo.width,
        "height": photo.height,
        "turned": photo.turned,
        "faces": [
            {**detection(face.detection), "quality": quality(face.quality)} for face in photo.faces
        ],
    }

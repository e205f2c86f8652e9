"""Files of images, thumbnails, crops of faces, and near copies."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from starlette.responses import Response, StreamingResponse

from service.api.render import Json
from service.api.services import ApiServices
from service.api.tickets import CostClass, ticket_for
from service.api.v1.models import CropQuery, DuplicatesQuery, ThumbnailQuery
from service.api.v1.operation import V1Call
from service.api.v1.rendering import image_json
from service.domain.errors import RangeError
from service.domain.types import FaceId, ImageId
from service.usecases.pictures import PhotoFile, SmallPicture

# Pictures of people are for who asked, and may be kept there, but not by a proxy between.
_CACHING: Final = {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def get_file(api: ApiServices, call: V1Call) -> Response:
    """GET /images/{image_id}/file: the file as it was sent, or a range of it."""
    image_id = ImageId(call.ids["image_id"])
    file = await api.pictures.file(call.tenant_id, image_id)
    call.record(api, "image.read", image_id=image_id)
    etag = f'"{file.sha256}"'
    headers = {**_CACHING, "ETag": etag, "Accept-Ranges": "bytes"}
    if is_known(call, etag):
        return Response(status_code=304, headers=headers)
    start, stop = 0, file.size_bytes
    status = 200
    if_range = call.headers.get("if-range")
    if (given := call.headers.get("range")) and if_range in (None, etag):
        found = byte_range(given, file.size_bytes)
        if found is not None:
            start, stop = found
            status = 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size_bytes}"
    headers["Content-Length"] = str(stop - start)
    headers["Content-Disposition"] = f'inline; filename="{image_id}"'
    return StreamingResponse(
        _pieces(file, start, stop), status, headers, media_type=file.media_type
    )


async def get_thumbnail(api: ApiServices, call: V1Call) -> Response:
    """GET /images/{image_id}/thumbnail: a small upright JPEG."""
    query, image_id = call.queried(ThumbnailQuery), ImageId(call.ids["image_id"])
    picture = await api.pictures.thumbnail(call.tenant_id, image_id, query.size)
    answer = await _small(api, call, picture)
    call.record(api, "image.read", image_id=image_id)
    return answer


async def get_crop(api: ApiServices, call: V1Call) -> Response:
    """GET /faces/{face_id}/crop: a face, cut out of its image."""
    query, face_id = call.queried(CropQuery), FaceId(call.ids["face_id"])
    picture = await api.pictures.crop(call.tenant_id, face_id, query.size, query.margin)
    answer = await _small(api, call, picture)
    call.record(api, "face.read", face_id=face_id)
    return answer


async def list_duplicates(api: ApiServices, call: V1Call) -> Response:
    """GET /images/{image_id}/duplicates: near copies, nearest first."""
    query, image_id = call.queried(DuplicatesQuery), ImageId(call.ids["image_id"])
    copies = await api.people.near_copies(call.tenant_id, image_id, query.max_distance, query.limit)
    return Json(
        {
            "items": [
                {"image": image_json(image), "hash_distance": distance}
                for image, distance in copies
            ]
        }
    )


def is_known(call: V1Call, etag: str) -> bool:
    """Whether the client has the answer with this ETag already."""
    given = call.headers.get("if-none-match")
    if given is None:
        return False
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return "*" in tags or etag in tags


def byte_range(given: str, size_bytes: int) -> tuple[int, int] | None:
    """The first byte of a range and the one behind its last; None where the whole file is sent.

    Of several ranges, and of what is no range, the whole file is sent (RFC 9110, section 14.2).

    Raises:
        RangeError: the range begins behind the file.
    """
    match = _RANGE.fullmatch(given.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        if int(match[2]) == 0:
            raise RangeError(size_bytes)
        return max(0, size_bytes - int(match[2])), size_bytes
    start = int(match[1])
    stop = min(size_bytes, int(match[2]) + 1) if match[2] else size_bytes
    if start >= size_bytes:
        raise RangeError(size_bytes)
    return (start, stop) if stop > start else None


async def _small(api: ApiServices, call: V1Call, picture: SmallPicture) -> Response:
    """The answer with a picture, which is neither read nor made for a client that has it."""
    etag = f'"{picture.tag}"'
    # Weak: a picture that looks the same may be of other bytes when it was made again.
    headers = {**_CACHING, "ETag": f"W/{etag}"}
    if is_known(call, etag):
        return Response(status_code=304, headers=headers)
    admit = partial(ticket_for, api, call.call, CostClass.PICTURE, call.tenant_id, 0)
    return Response(await picture.read(admit), headers=headers, media_type="image/jpeg")


async def _pieces(file: PhotoFile, start: int, stop: int) -> AsyncIterator[bytes]:
    async with file.stream(start, stop) as pieces:
        async for piece in pieces:
            yield piece

"""The pictures of faces in a report, cut out of the stored photos."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from service.domain.errors import InputError, NotFoundError
from service.domain.types import FaceId, TenantId
from service.machine.cpu import usable_cores
from service.store.blob.names import belongs_to
from service.store.face.census import FacePlace
from service.usecases.ports import BlobStore
from service.vision.formats.base import DecodeLimits
from service.vision.pictures import Picture, render

_SIZE: Final = 144
_MARGIN: Final = 1.3
_MOST_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Crops:
    """JPEG files of faces.

    not_kept: the number of faces whose photo was not kept. lost: the number of faces whose photo is
    missing in the blob store, or damaged.
    """

    files: dict[FaceId, bytes]
    not_kept: int
    lost: int


async def cut_faces(
    places: Iterable[FacePlace], blobs: BlobStore | None, tenant_id: TenantId, limits: DecodeLimits
) -> Crops:
    """Cut faces out of their photos; a few photos are decoded at once.

    Args:
        blobs: None where there is no blob store to read: all faces that need it are lost.

    Raises:
        StoreUnavailableError: the blob store does not answer.
    """
    turns = asyncio.Semaphore(min(usable_cores(), _MOST_AT_ONCE))
    kept = {each.face_id: each for each in places}
    without = [each for each in kept.values() if each.blob_key is None]

    async def cut(place: FacePlace) -> bytes | None:
        key = place.blob_key
        if blobs is None or key is None or not belongs_to(key, tenant_id):
            return None
        async with turns:
            try:
                data = await blobs.get(key)
                return await asyncio.to_thread(
                    render, data, Picture(_SIZE, place.box, _MARGIN), limits
                )
            except (NotFoundError, InputError):
                return None

    wanted = [each for each in kept.values() if each.blob_key is not None]
    made = await asyncio.gather(*map(cut, wanted))
    files = {each.face_id: data for each, data in zip(wanted, made, strict=True) if data}
    return Crops(files, len(without), len(wanted) - len(files))

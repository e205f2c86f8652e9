"""The import of photos: puts them into the blob store, and removes them if the import fails."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import defaultdict
from types import TracebackType
from typing import Self
from uuid import UUID

import asyncpg

from service.domain.errors import ArchiveError
from service.domain.types import ImageId, TenantId
from service.store.archive.format import PhotoName
from service.store.database.statements import SQL
from service.usecases.ports import BlobStore

_logger = logging.getLogger(__name__)

_AT_ONCE = 16
_BYTES_AT_ONCE = 32 * 2**20
_REMOVED_AT_ONCE = 1000
_ID_BYTES = 16


class PhotosIn:
    """A context that puts photos into the blob store, and removes them if the block raises.

    The transaction around it locks the tenant, so that no other transaction names the photos. After
    the connection broke, this is not certain, and the photos are left to the next sweep.
    """

    def __init__(
        self, connection: asyncpg.Connection, blobs: BlobStore, tenant_id: TenantId, *, keep: bool
    ) -> None:
        self._connection = connection
        self._blobs = blobs
        self._tenant_id = tenant_id
        self._keep = keep
        self._waiting: list[tuple[PhotoName, bytes]] = []
        self._waiting_bytes = 0
        self._count = 0
        # Concatenated ids of images, by suffix: 16 MB for a million photos.
        self._put: defaultdict[str, bytearray] = defaultdict(bytearray)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and not self._connection.is_closed():
            await self._remove_all()

    async def put(self, name: PhotoName, data: bytes) -> None:
        """Store a photo, at once or with the next batch.

        Raises:
            ArchiveError: the photo is empty.
            asyncpg.IntegrityConstraintViolationError: an image has two photos.
            StoreUnavailableError: the blob store does not answer.
        """
        if not data:
            raise ArchiveError(f"the archive has an empty photo of the image {name.image_id}")
        self._waiting.append((name, data))
        self._waiting_bytes += len(data)
        if len(self._waiting) == _AT_ONCE or self._waiting_bytes > _BYTES_AT_ONCE:
            await self._put_waiting()

    async def finish(self) -> int:
        """Store the last batch; returns the number of all photos.

        Raises:
            asyncpg.IntegrityConstraintViolationError: an image has two photos.
            StoreUnavailableError: the blob store does not answer.
        """
        await self._put_waiting()
        return self._count

    async def check(self) -> None:
        """Compare the photos with the rows of the images, which are stored by now.

        Raises:
            ArchiveError: a photo is missing, or differs from its row.
        """
        image_id = await self._connection.fetchval(
            SQL["images_that_differ_from_photos"], self._tenant_id
        )
        if image_id is not None:
            raise ArchiveError(f"the archive is damaged in the photo of the image {image_id}")
        if not self._keep:
            await self._connection.execute(SQL["forget_photos"], self._tenant_id)

    async def _put_waiting(self) -> None:
        some, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for name, _ in some:
            self._put[name.suffix] += name.image_id.bytes
        stored = await asyncio.gather(
            *(self._store(name, data) for name, data in some), return_exceptions=True
        )
        records = []
        for row in stored:  # all puts have ended
            if isinstance(row, BaseException):
                raise row
            records.append(row)
        await self._connection.copy_records_to_table("photo_of_archive", records=records)
        self._count += len(records)

    async def _store(self, name: PhotoName, data: bytes) -> tuple[UUID, str, str, int]:
        key = self._key(name.image_id, name.suffix)
        if self._keep:
            digest = await self._blobs.put(key, data)
        else:
            digest = hashlib.sha256(data).hexdigest()
        return name.image_id, key, digest, len(data)

    async def _remove_all(self) -> None:
        if not self._keep:
            return
        left = 0
        for suffix, ids in self._put.items():
            for start in range(0, len(ids), _ID_BYTES * _REMOVED_AT_ONCE):
                some = ids[start : start + _ID_BYTES * _REMOVED_AT_ONCE]
                keys = [
                    self._key(UUID(bytes=bytes(some[at : at + _ID_BYTES])), suffix)
                    for at in range(0, len(some), _ID_BYTES)
                ]
                left += len(await self._blobs.delete(keys))
        if left:
            _logger.error("%d photos of the failed import are left to the next sweep", left)

    def _key(self, image_id: UUID, suffix: str) -> str:
        return self._blobs.key(self._tenant_id, ImageId(str(image_id)), suffix)

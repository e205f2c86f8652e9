"""Where the files of images are."""

from __future__ import annotations

import asyncpg

from service.domain.types import Box, FaceId, FaceOnFile, ImageId, StoredFile, TenantId
from service.store.blob.names import belongs_to
from service.store.database.database import Database
from service.store.database.statements import SQL
from service.store.face.lookups import found, known_uuid


class StoredFiles:
    """Finds the files of images, each in one round trip: pages of pictures ask for many.

    The methods raise StoreUnavailableError when the database does not answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def image_file(self, tenant_id: TenantId, image_id: ImageId) -> StoredFile:
        """The file of an image.

        Raises:
            NotFoundError: the tenant has no such image.
        """
        return _stored_file(await self._row("image_file", tenant_id, image_id, "image"), tenant_id)

    async def face_on_file(self, tenant_id: TenantId, face_id: FaceId) -> FaceOnFile:
        """The place of a face on the photo of its file.

        Raises:
            NotFoundError: the tenant has no such face.
        """
        row = await self._row("face_on_file", tenant_id, face_id, "face")
        return FaceOnFile(face_id, Box(*row["box"]), _stored_file(row, tenant_id))

    async def _row(
        self, statement: str, tenant_id: TenantId, value: str, kind: str
    ) -> asyncpg.Record:
        key = known_uuid(value, kind)
        async with self._database.common() as connection:
            return found(await connection.fetchrow(SQL[statement], tenant_id, key), kind)


def _stored_file(row: asyncpg.Record, tenant_id: TenantId) -> StoredFile:
    """The file of a row; a key outside the tenant's folder is left out."""
    key = row["blob_key"]
    return StoredFile(
        ImageId(str(row["image_id"])),
        key if key is not None and belongs_to(key, tenant_id) else None,
        row["format"],
        row["sha256"],
        row["size_bytes"],
    )

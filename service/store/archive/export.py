"""The export of a tenant: a snapshot of its rows, and its photos, in an archive."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from service.domain.errors import ArchiveError, NotFoundError
from service.domain.types import TenantId
from service.store.archive.file import ArchiveWriter
from service.store.archive.format import (
    HEAD,
    MANIFEST,
    MOST_PARTS,
    PART_BYTES,
    PARTS,
    Counts,
    Head,
    Part,
    part_name,
    photo_name,
    render_head,
    render_manifest,
)
from service.store.blob.names import belongs_to
from service.store.database.migrations import load_migrations
from service.store.database.statements import SQL
from service.usecases.ports import BlobStore

_PHOTOS_AT_ONCE = 16
_PHOTO_BYTES_AT_ONCE = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Exported:
    """The content of an archive.

    deleted_photos: photos of images that were deleted during the export. lost_photos: photos that
    are missing in the blob store, or damaged. The archive has the rows of both, without the photo.
    """

    counts: Counts
    deleted_photos: int
    lost_photos: int


async def export_tenant(
    connection: asyncpg.Connection,
    archive: ArchiveWriter,
    tenant_id: TenantId,
    blobs: BlobStore | None,
) -> Exported:
    """Write an archive with a snapshot of a tenant, while the service runs.

    Args:
        connection: of the owner of the tables.
        blobs: source of the photos; None leaves them out.

    Raises:
        NotFoundError: there is no such tenant.
        StoreUnavailableError: the blob store does not answer.
        ArchiveError: the archive cannot be written.
    """
    rows: Counter[str] = Counter()
    parts: list[Part] = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute(SQL["use_archive_settings"])
        row = await connection.fetchrow(SQL["tenant_for_archive"], tenant_id)
        if row is None:
            raise NotFoundError("tenant")
        newest = max(each.number for each in load_migrations())
        head = Head(tenant_id, row["created_at"], newest, match_factor=row["match_factor"])
        archive.add(HEAD, render_head(head))
        photos = 0
        missing: list[UUID] = []
        if blobs is not None:
            photos, missing = await _export_photos(connection, archive, tenant_id, blobs)
        for kind in PARTS:
            arguments = (blobs is not None, missing) if kind == "images" else ()
            pieces = _Pieces(archive, kind)
            await connection.copy_from_query(
                SQL[f"{kind}_for_archive"], tenant_id, *arguments, output=pieces.take
            )
            pieces.finish()
            parts += pieces.parts
            if len(parts) > MOST_PARTS:
                raise ArchiveError(f"the tenant has more than {MOST_PARTS} pieces of rows")
            rows[kind] = sum(part.rows for part in pieces.parts)
        counts = Counts(photos=photos, **{kind: rows[kind] for kind in PARTS})
        archive.add(MANIFEST, render_manifest(head, counts, parts))
    lost = await connection.fetchval(SQL["images_that_are_there"], tenant_id, missing)
    return Exported(counts, deleted_photos=len(missing) - lost, lost_photos=lost)


class _Pieces:
    """Splits the output of COPY into pieces of whole rows; the splits depend on the rows alone."""

    def __init__(self, archive: ArchiveWriter, kind: str) -> None:
        self._archive = archive
        self._kind = kind
        self._pending = bytearray()
        self.parts: list[Part] = []

    async def take(self, data: bytes) -> None:
        self._pending += data
        while len(self._pending) >= PART_BYTES:
            end = self._pending.find(b"\n", PART_BYTES - 1)
            if end < 0:
                return
            self._write(bytes(self._pending[: end + 1]))
            del self._pending[: end + 1]

    def finish(self) -> None:
        if self._pending:
            self._write(bytes(self._pending))

    def _write(self, data: bytes) -> None:
        name = part_name(self._kind, len(self.parts) + 1)
        self._archive.add(name, data)
        self.parts.append(
            Part(name, data.count(b"\n"), len(data), hashlib.sha256(data).hexdigest())
        )


async def _export_photos(
    connection: asyncpg.Connection, archive: ArchiveWriter, tenant_id: TenantId, blobs: BlobStore
) -> tuple[int, list[UUID]]:
    """Write the photos; returns their number, and the images without a usable photo."""
    photos = 0
    missing: list[UUID] = []
    async for some in _batches(connection, tenant_id):
        read = await asyncio.gather(*(_photo(blobs, tenant_id, row) for row in some))
        for row, data in zip(some, read, strict=True):
            if data is None:
                missing.append(row["image_id"])
            else:
                archive.add(photo_name(row["image_id"], row["suffix"]), data)
                photos += 1
    return photos, missing


async def _batches(
    connection: asyncpg.Connection, tenant_id: TenantId
) -> AsyncIterator[list[asyncpg.Record]]:
    """Batches of images with photos; the photos of a batch fit in memory."""
    some: list[asyncpg.Record] = []
    size_bytes = 0
    async for row in connection.cursor(SQL["photos_for_archive"], tenant_id, prefetch=1000):
        if some and size_bytes + row["size_bytes"] > _PHOTO_BYTES_AT_ONCE:
            yield some
            some, size_bytes = [], 0
        some.append(row)
        size_bytes += row["size_bytes"]
        if len(some) == _PHOTOS_AT_ONCE:
            yield some
            some, size_bytes = [], 0
    if some:
        yield some


async def _photo(blobs: BlobStore, tenant_id: TenantId, row: asyncpg.Record) -> bytes | None:
    """The bytes of a photo; None where they are missing, or differ from those that were stored."""
    if not belongs_to(row["blob_key"], tenant_id):
        return None
    try:
        data = await blobs.get(row["blob_key"])
    except NotFoundError:
        return None
    return data if hashlib.sha256(data).hexdigest() == row["sha256"] else None

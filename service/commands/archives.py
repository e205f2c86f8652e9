"""`facette export-tenant` and `facette import-tenant`: a tenant to a file, and back."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from service.app.settings import BlobPlace, DatabasePlace
from service.commands.place import blobs_of, current_database, database_of
from service.domain.errors import ArchiveError
from service.domain.types import TenantId
from service.store.archive.export import Exported, export_tenant
from service.store.archive.file import new_archive
from service.store.archive.format import Counts
from service.store.archive.imports import import_tenant
from service.store.blob.index import database_id
from service.store.blob.opening import open_blob_store
from service.store.database.database import Database
from service.usecases.sweep import claim_blobs


def run_export(
    database: DatabasePlace, blobs: BlobPlace | None, tenant_id: TenantId, path: Path
) -> int:
    """Export a tenant to an archive; returns the exit status, 1 where photos are missing.

    Args:
        blobs: source of the photos; None exports no photos.
    """

    async def export() -> Exported:
        photos = None if blobs is None else await blobs_of(blobs)
        async with current_database(database) as connection:
            with new_archive(path) as archive:
                return await export_tenant(connection, archive, tenant_id, photos)

    done = asyncio.run(export())
    print(f"{path} has tenant {tenant_id!r}: {done.counts}")
    if done.deleted_photos:
        print(
            f"{done.deleted_photos} images were deleted during the export: the archive has them "
            "without their photos"
        )
    if done.lost_photos:
        print(
            f"facette: the archive lacks {done.lost_photos} photos, which are missing or damaged: "
            "facette doctor lists them",
            file=sys.stderr,
        )
        return 1
    return 0


def run_import(
    database: DatabasePlace,
    blobs: BlobPlace,
    path: Path,
    rename: TenantId | None,
    *,
    keep_photos: bool,
    keep_locations: bool,
    largest_photo_bytes: int,
) -> int:
    """Import the tenant of an archive; returns the exit status.

    An embedded database and a folder of photos are created where there are none. The other
    arguments are those of `import_tenant`.
    """
    if not path.is_file():  # checked before a database is created
        raise ArchiveError(f"there is no file {path}")

    async def bring_in() -> tuple[TenantId, Counts]:
        store = await open_blob_store(blobs)
        async with database_of(database, create=True) as settings:
            opened = await Database.open(settings)
            try:
                async with opened.maintenance() as connection:
                    await claim_blobs(store, await database_id(connection))
                    return await import_tenant(
                        connection,
                        path,
                        store,
                        rename=rename,
                        keep_photos=keep_photos,
                        keep_locations=keep_locations,
                        largest_photo_bytes=largest_photo_bytes,
                    )
            finally:
                await opened.close()

    tenant_id, counts = asyncio.run(bring_in())
    print(f"tenant {tenant_id!r} is here: {counts}")
    return 0

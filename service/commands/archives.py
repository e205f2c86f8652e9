"""`facette export-tenant` and `import-tenant`: a tenant goes into a file, or comes out of one."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from service.app.settings import blob_place
from service.commands.place import blobs_of, current_database, database_of
from service.config import Config
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


def run_export(config: Config, tenant_id: TenantId, path: Path, *, images: bool) -> int:
    """Write the archive; returns 0, or 1 where photos were lost before."""

    async def export() -> Exported:
        blobs = await blobs_of(config) if images else None
        async with current_database(config) as connection:
            with new_archive(path) as archive:
                return await export_tenant(connection, archive, tenant_id, blobs)

    done = asyncio.run(export())
    print(f"{path} has tenant {tenant_id!r}: {done.counts}")
    if done.deleted_photos:
        print(f"{done.deleted_photos} images were deleted meanwhile: they are in it without photo")
    if done.lost_photos:
        print(
            f"facette: {done.lost_photos} photos are missing or damaged, and not in it: "
            "facette doctor says which",
            file=sys.stderr,
        )
        return 1
    return 0


def run_import(config: Config, path: Path, rename: TenantId | None) -> int:
    """Store the archive's tenant; the database and the folder of photos are made if need be."""

    if not path.is_file():  # before a database is made for it
        raise ArchiveError(f"there is no file {path}")

    async def bring_in() -> tuple[TenantId, Counts]:
        blobs = await open_blob_store(blob_place(config))
        async with database_of(config, create=True) as settings:
            database = await Database.open(settings)
            try:
                async with database.maintenance() as connection:
                    await claim_blobs(blobs, await database_id(connection))
                    return await import_tenant(
                        connection,
                        path,
                        blobs,
                        rename=rename,
                        keep_photos=config.blobs.store_images,
                        largest_photo_bytes=config.server.max_body_bytes,
                    )
            finally:
                await database.close()

    tenant_id, counts = asyncio.run(bring_in())
    print(f"tenant {tenant_id!r} is here: {counts}")
    return 0

"""The audit of the blob store: compares its listing with the rows, inside the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from service.domain.types import TenantId
from service.store.blob.names import folder_of, is_ours, thumbnail_name
from service.store.database.statements import SQL
from service.usecases.ports import BlobStore

_AT_ONCE = 5000
_EXAMPLES = 3
_LONGEST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Found:
    """The number of blobs of a kind, and a few of their keys as examples."""

    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BlobAudit:
    """The totals of all blobs, and the differences between blobs and rows.

    missing: named by a row, and not stored. resized: stored with another size than that of the row.
    orphans: named by no row, thumbnails of an image without a row included, and older than the
    grace. strays: keys in rows that are not those of their image in the folder of its tenant.
    """

    blobs: int
    size_bytes: int
    missing: Found
    resized: Found
    orphans: Found
    strays: Found


async def audit_blobs(
    connection: asyncpg.Connection,
    blobs: BlobStore,
    *,
    grace_s: float,
    tenant_id: TenantId | None = None,
) -> BlobAudit:
    """Compare all blobs, or those of one tenant, with the rows, while the service runs.

    The listing goes to a temporary table, so that neither side must fit in memory. The listing must
    have the blob of each row that was created before the listing and still exists after it.
    Each difference is checked again, since blobs may change during the listing.

    Args:
        connection: of the owner of the tables; for one audit, since the temporary table stays.
        grace_s: age from which a blob without a row is an orphan.
        tenant_id: the tenant to audit; None for all.

    Raises:
        StoreUnavailableError: the blob store does not answer.
    """
    began = await connection.fetchval(SQL["time_of_database"])
    too_young = await blobs.now() - timedelta(seconds=grace_s)
    await connection.execute(SQL["make_room_for_listing"])
    await _list(connection, blobs, None if tenant_id is None else folder_of(tenant_id))
    total = await connection.fetchrow(SQL["size_of_listing"])
    async with connection.transaction(isolation="repeatable_read"):

        async def is_missing(row: asyncpg.Record) -> bool:
            return await blobs.find(row["key"]) is None

        async def is_resized(row: asyncpg.Record) -> bool:
            found = await blobs.find(row["key"])
            return found is not None and found.size_bytes != row["stored_bytes"]

        async def is_there(row: asyncpg.Record) -> bool:
            found = await blobs.find(row["key"])
            return found is not None and found.modified_at < too_young

        async def is_shown(row: asyncpg.Record) -> bool:
            return True

        return BlobAudit(
            total["blobs"],
            total["size_bytes"],
            missing=await _confirmed(
                _rows(connection, "images_without_blob", began, tenant_id), is_missing
            ),
            resized=await _confirmed(
                _rows(connection, "images_of_another_size", tenant_id), is_resized
            ),
            orphans=await _confirmed(_rows(connection, "blobs_without_image", too_young), is_there),
            strays=await _confirmed(
                _rows(connection, "images_with_stray_keys", tenant_id), is_shown
            ),
        )


async def _list(connection: asyncpg.Connection, blobs: BlobStore, folder: str | None) -> None:
    some: list[tuple[str, datetime, int, UUID | None]] = []
    async for blob in blobs.listing(folder):
        thumbnail = thumbnail_name(blob.key)
        image_id = None if thumbnail is None else UUID(thumbnail.image_id)
        some.append((blob.key, blob.modified_at, blob.size_bytes, image_id))
        if len(some) == _AT_ONCE:
            await connection.copy_records_to_table("listed_blob", records=some)
            some = []
    await connection.copy_records_to_table("listed_blob", records=some)
    await connection.execute(SQL["know_listing"])


async def _rows(
    connection: asyncpg.Connection, statement: str, *arguments: object
) -> AsyncIterator[asyncpg.Record]:
    async for row in connection.cursor(SQL[statement], *arguments, prefetch=_AT_ONCE):
        yield row


async def _confirmed(
    rows: AsyncIterator[asyncpg.Record], still: Callable[[asyncpg.Record], Awaitable[bool]]
) -> Found:
    count = 0
    examples: list[str] = []
    async for row in rows:
        if await still(row):
            count += 1
            if len(examples) < _EXAMPLES:
                examples.append(_shown(row["key"]))
    return Found(count, tuple(examples))


def _shown(key: str) -> str:
    """A key for a report; one that is not a blob's is quoted and cut."""
    return key if is_ours(key) else repr(key[:_LONGEST_SHOWN])

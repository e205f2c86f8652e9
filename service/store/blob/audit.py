"""Compares the blobs that are there with those that rows name, in the memory of the database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from service.domain.types import TenantId
from service.store.blob.names import folder_of, is_ours
from service.store.database.statements import SQL
from service.usecases.ports import BlobStore

_AT_ONCE = 5000
_EXAMPLES = 3
_LONGEST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Found:
    """How many there are of something, and the keys of a few, to be shown."""

    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BlobAudit:
    """What was found: all blobs, and those that differ from what the rows say.

    missing: named by a row, and not there. resized: of another size than their rows say.
    orphans: named by no row, and older than the grace. strays: named by rows, and not the keys of
    their images in their tenants' folders.
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
    """Compare all blobs, or one tenant's, with the rows, while others insert and delete.

    The listing lies in a temporary table, so that neither side has to fit into memory. A row that
    is there after the listing and was made before it should have its blob in it. What seems wrong
    is looked at once more, since a blob may have come or gone during the listing.

    Args:
        connection: of the tables' owner; once only, for the temporary table stays.

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
    some: list[tuple[str, datetime, int]] = []
    async for blob in blobs.listing(folder):
        some.append((blob.key, blob.modified_at, blob.size_bytes))
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
    """A key that is no blob's may hold anything, and be of any length."""
    return key if is_ours(key) else repr(key[:_LONGEST_SHOWN])

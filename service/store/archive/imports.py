"""The import of a tenant: all of its archive, or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from service.domain.errors import ArchiveError, TenantExistsError
from service.domain.names import NAME_RULE, is_name
from service.domain.types import ImageId, TenantId
from service.store.archive.file import read_archive
from service.store.archive.format import (
    HEAD,
    MANIFEST,
    MOST_PARTS,
    PARTS,
    Counts,
    Head,
    Part,
    PartName,
    PhotoName,
    largest_entry,
    parse_head,
    parse_name,
    render_manifest,
)
from service.store.archive.photos import PhotosIn
from service.store.archive.rows import RowsIn
from service.store.archive.values import time
from service.store.blob.index import SWEEP_TURN_KEY
from service.store.database.migrations import load_migrations
from service.store.database.statements import SQL
from service.store.database.transactions import in_transaction
from service.usecases.ports import BlobStore

_KINDS = list(PARTS)
_LARGEST_PHOTO = 25 * 2**20
_LONGEST_REASON = 200


async def import_tenant(
    connection: asyncpg.Connection,
    path: Path,
    blobs: BlobStore,
    *,
    rename: TenantId | None = None,
    keep_photos: bool = True,
    keep_locations: bool = True,
    largest_photo_bytes: int = _LARGEST_PHOTO,
) -> tuple[TenantId, Counts]:
    """Store the tenant of an archive, in one transaction.

    Ids and times are kept. Faces and reviews get new numbers, in their order. The indexer adds the
    vectors to an index later. Photos get the keys of the tenant here.

    Sweeps are excluded during the import, since no committed row names the photos yet.

    Rows are stored as the service's role, in a transaction of this tenant. So row-level security
    protects other tenants, whatever the archive contains.

    Args:
        connection: of the owner of the tables, with the vector types registered.
        rename: id of the tenant here; None for its own id.
        keep_photos: store the photos of the archive; otherwise they are only checked.
        keep_locations: store where photos were taken; otherwise it is left out.
        largest_photo_bytes: size limit of a photo in this service.

    Raises:
        ArchiveError: the archive cannot be read, is incomplete or damaged; nothing was stored.
        TenantExistsError: the tenant exists.
        StoreUnavailableError: the database or the blob store does not answer.
    """
    entries = _entries(path, largest_photo_bytes)
    head = parse_head(next(entries)[1], newest_schema=load_migrations()[-1].number)
    tenant_id = rename or TenantId(head.tenant_id)
    if not is_name(tenant_id):
        raise ArchiveError(
            f"the archive's tenant id must have {NAME_RULE}: import it with another id by --as"
        )
    try:
        created_at = time(head.created_at.encode())
    except ValueError as error:
        raise ArchiveError(f"the head of the archive is damaged: {error}") from error
    async with in_transaction(connection):
        await connection.execute(SQL["hold_off_sweeps"], SWEEP_TURN_KEY)
        for kind in ("photos", "times", *PARTS):
            await connection.execute(SQL[f"make_room_for_{kind}"])
        await connection.execute(SQL["grant_room_for_archive"])
        await connection.execute(SQL["use_tenant"], tenant_id)
        await connection.execute(SQL["become_service_role"])
        made = await connection.fetchval(
            SQL["insert_tenant_of_archive"], tenant_id, created_at, head.match_factor
        )
        if made is None:
            raise TenantExistsError(tenant_id)
        async with PhotosIn(connection, blobs, tenant_id, keep=keep_photos) as photos:
            rows = RowsIn(
                connection,
                tenant_id,
                head,
                lambda image_id, suffix: blobs.key(tenant_id, ImageId(image_id), suffix),
                keep_locations=keep_locations,
            )
            counts = await _take_in(entries, head, photos, rows)
            await photos.check()
            await rows.finish()
            await _check_counts(connection, tenant_id, counts)
    return tenant_id, counts


async def _take_in(
    entries: Iterator[tuple[str, bytes]], head: Head, photos: PhotosIn, rows: RowsIn
) -> Counts:
    """Store all entries, and compare them with the manifest at the end."""
    parts: list[Part] = []
    last = PartName("", 0)
    for name, data in entries:
        if name == MANIFEST:
            with _refusals("its photos"):
                photo_count = await photos.finish()
            counts = Counts(photos=photo_count, **_rows_by_kind(parts))
            _check_manifest(data, head, counts, parts)
            if (extra := next(entries, None)) is not None:
                raise ArchiveError(f"the archive has {extra[0]!r} after its manifest")
            return counts
        entry = parse_name(name)
        if isinstance(entry, PartName) and entry.kind not in head.kinds:
            raise ArchiveError(f"the archive has {name!r}, which is not part of its version")
        with _refusals(name):
            if isinstance(entry, PhotoName):
                if parts:
                    raise ArchiveError(f"the archive has {name!r} after the rows")
                await photos.put(entry, data)
                continue
            _check_order(last, entry)
            last = entry
            if len(parts) == MOST_PARTS:
                raise ArchiveError(f"the archive has more than {MOST_PARTS} pieces of rows")
            count = await rows.copy(entry.kind, data)
        parts.append(Part(name, count, len(data), hashlib.sha256(data).hexdigest()))
    raise ArchiveError("the archive was cut off: it has no manifest")


def _entries(path: Path, largest_photo_bytes: int) -> Iterator[tuple[str, bytes]]:
    entries = read_archive(path, lambda name: largest_entry(name, largest_photo_bytes))
    first = next(entries, None)
    if first is None or first[0] != HEAD:
        raise ArchiveError("the file is no archive of a tenant")
    yield first
    yield from entries


def _check_order(last: PartName, found: PartName) -> None:
    follows = found.kind == last.kind and found.number == last.number + 1
    begins = found.number == 1 and (
        not last.kind or _KINDS.index(found.kind) > _KINDS.index(last.kind)
    )
    if not (follows or begins):
        raise ArchiveError("the pieces of the archive are out of order, or one is missing")


def _check_manifest(data: bytes, head: Head, counts: Counts, parts: list[Part]) -> None:
    """Compare bytes: parsing a hostile manifest could take gigabytes."""
    if data != render_manifest(head, counts, parts):
        raise ArchiveError("the archive is damaged: it differs from its manifest")


async def _check_counts(
    connection: asyncpg.Connection, tenant_id: TenantId, counts: Counts
) -> None:
    """Compare the counts with the rows that the tenant sees."""
    stored = dict(await connection.fetchrow(SQL["rows_by_kind"], tenant_id))
    if {kind: stored[kind] for kind in _KINDS} != {kind: getattr(counts, kind) for kind in _KINDS}:
        raise ArchiveError("some rows of the archive could not be stored for the tenant")


def _rows_by_kind(parts: list[Part]) -> dict[str, int]:
    rows = dict.fromkeys(_KINDS, 0)
    for part in parts:
        rows[part.name.removeprefix("rows/").partition("-")[0]] += part.rows
    return rows


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """Turn errors of the database about invalid rows into ArchiveError."""
    try:
        yield
    except (
        asyncpg.DataError,
        asyncpg.IntegrityConstraintViolationError,
        asyncpg.ProgramLimitExceededError,
    ) as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise ArchiveError(f"the archive is damaged in {name}: {reason}") from error

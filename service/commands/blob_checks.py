"""The doctor's checks of the blob store: its owner, missing blobs, and blobs without a row."""

from __future__ import annotations

import asyncpg

from service.app.settings import BlobPlace
from service.commands.place import blobs_of
from service.commands.report import Report
from service.domain.errors import FacetteError, ForeignBlobsError
from service.domain.types import TenantId
from service.store.blob.audit import Found, audit_blobs
from service.store.blob.index import database_id
from service.store.face.health import is_importing
from service.usecases.ports import BlobStore


async def check_blobs(
    report: Report,
    connection: asyncpg.Connection,
    tenant_id: TenantId | None,
    place: BlobPlace,
    *,
    grace_s: float,
    sweep_interval_s: float,
) -> int:
    """Compare blobs with rows; returns the number of blobs.

    A blob store that cannot be read is a finding of the report.

    Args:
        tenant_id: the tenant to check; None for all.
        grace_s: age from which a blob without a row is an orphan.
        sweep_interval_s: time between two sweeps of the service; 0 for none.
    """
    try:
        blobs = await blobs_of(place)
        await _check_owner(report, connection, blobs)
        audit = await audit_blobs(connection, blobs, grace_s=grace_s, tenant_id=tenant_id)
    except FacetteError as error:
        report.unknown("blobs", error.message)
        return 0
    before = len(report.findings)
    if audit.missing.count:
        report.wrong(
            "blobs",
            f"{audit.missing.count} images lack their photo: {_examples(audit.missing)}",
            "restore these from a backup of the blob store",
        )
    if audit.resized.count:
        report.wrong(
            "blobs",
            f"{audit.resized.count} photos differ in size from their rows: "
            f"{_examples(audit.resized)}",
            "restore these from a backup of the blob store",
        )
    if audit.strays.count:
        report.wrong(
            "blobs",
            f"{audit.strays.count} images have a blob_key that is not theirs: "
            f"{_examples(audit.strays)}",
            "such a file is neither read nor removed; as the owner of the tables, set these "
            "blob_key to NULL",
        )
    if audit.orphans.count and await is_importing(connection):
        report.note(
            "blobs",
            f"{audit.orphans.count} blobs without an image, while a tenant is being imported",
            "run the doctor again after the import",
        )
    elif audit.orphans.count:
        report.wrong(
            "blobs",
            f"{audit.orphans.count} blobs older than {grace_s:g} s without "
            f"an image: {_examples(audit.orphans)}",
            f"a running service sweeps them every {sweep_interval_s:g} s; its log reports failures"
            if sweep_interval_s
            else "sweeps are off; set blobs.sweep_interval_s",
        )
    text = f"{audit.blobs} blobs with {audit.size_bytes} bytes in total match the rows"
    report.ok_unless_found("blobs", before, text)
    return audit.blobs


async def _check_owner(report: Report, connection: asyncpg.Connection, blobs: BlobStore) -> None:
    owner, own = await blobs.owner(), await database_id(connection)
    if owner is None:
        report.note("owner", "the blob store has no owner mark yet; the next sweep writes it")
    elif owner != own:
        report.wrong(
            "owner", ForeignBlobsError(owner, own).message, "no sweep runs until this is corrected"
        )
    else:
        report.ok("owner", f"this database owns the blobs ({own})")


def _examples(found: Found) -> str:
    return ", ".join(found.examples) + (", ..." if found.count > len(found.examples) else "")

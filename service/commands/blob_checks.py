"""What the doctor makes of the blob store: its owner, and blobs and rows that miss each other."""

from __future__ import annotations

import asyncpg

from service.commands.place import blobs_of
from service.commands.report import Report
from service.config import Config
from service.domain.errors import FacetteError, ForeignBlobsError
from service.domain.types import TenantId
from service.store.blob.audit import Found, audit_blobs
from service.store.blob.index import database_id
from service.store.face.health import is_importing
from service.usecases.ports import BlobStore


async def check_blobs(
    report: Report, connection: asyncpg.Connection, config: Config, tenant_id: TenantId | None
) -> int:
    """Compare the blobs with the rows, of one tenant or of all; returns how many blobs there are.

    What cannot be looked at is said in the report.
    """
    try:
        blobs = await blobs_of(config)
        await _check_owner(report, connection, blobs)
        audit = await audit_blobs(
            connection, blobs, grace_s=config.blobs.orphan_grace_s, tenant_id=tenant_id
        )
    except FacetteError as error:
        report.unknown("blobs", error.message)
        return 0
    before = len(report.findings)
    if audit.missing.count:
        report.wrong(
            "blobs",
            f"{audit.missing.count} images have lost their photo: {_examples(audit.missing)}",
            "restore these from a backup of the blob store",
        )
    if audit.resized.count:
        report.wrong(
            "blobs",
            f"{audit.resized.count} photos have another size than was stored: "
            f"{_examples(audit.resized)}",
            "restore these from a backup of the blob store",
        )
    if audit.strays.count:
        report.wrong(
            "blobs",
            f"{audit.strays.count} images name a file that is not theirs in their tenant's folder: "
            f"{_examples(audit.strays)}",
            "such a file is neither read nor removed; as the owner of the tables, set blob_key to "
            "NULL there",
        )
    if audit.orphans.count and await is_importing(connection):
        report.note(
            "blobs",
            f"{audit.orphans.count} blobs that no image names, while a tenant is being imported",
            "look again once the import has ended",
        )
    elif audit.orphans.count:
        interval_s = config.blobs.sweep_interval_s
        report.wrong(
            "blobs",
            f"{audit.orphans.count} blobs older than {config.blobs.orphan_grace_s:g} s that no "
            f"image names: {_examples(audit.orphans)}",
            f"a running service sweeps them every {interval_s:g} s; its log says why not"
            if interval_s
            else "sweeps are off; set blobs.sweep_interval_s",
        )
    text = f"{audit.blobs} blobs of {audit.size_bytes} bytes in all, as the rows say"
    report.ok_unless_found("blobs", before, text)
    return audit.blobs


async def _check_owner(report: Report, connection: asyncpg.Connection, blobs: BlobStore) -> None:
    owner, own = await blobs.owner(), await database_id(connection)
    if owner is None:
        report.note("owner", "the blob store has no mark yet; the next sweep writes it")
    elif owner != own:
        report.wrong("owner", ForeignBlobsError(owner, own).message, "until then nothing is swept")
    else:
        report.ok("owner", f"the blobs belong to this database, {own}")


def _examples(found: Found) -> str:
    return ", ".join(found.examples) + (", ..." if found.count > len(found.examples) else "")

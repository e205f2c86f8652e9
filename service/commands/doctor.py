"""`facette doctor`: checks the database, the blobs and the models, and advises on faults."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from service.app.settings import (
    BlobPlace,
    DatabasePlace,
    blob_place,
    database_place,
    master_secret_place,
)
from service.commands.blob_checks import check_blobs
from service.commands.database_checks import (
    check_decisions,
    check_indexes,
    check_isolation,
    check_rows,
    check_schema,
    check_sums,
)
from service.commands.key_checks import check_keys
from service.commands.place import database_of
from service.commands.report import Report
from service.config import Config
from service.domain.errors import FacetteError
from service.domain.types import TenantId
from service.store.access.master import MasterSecretPlace
from service.store.database.database import owner_connection
from service.store.face.health import indexes_of_tenant, rows_by_kind


@dataclass(frozen=True, slots=True)
class DoctorSettings:
    """What to check, and the settings that decide what is wrong.

    largest_exact: number of faces up to which a tenant needs no vector index.
    index_interval_s, sweep_interval_s: time between two rounds of the service's indexer, and
    between two sweeps. grace_s: age from which a blob without a row is an orphan.
    """

    database: DatabasePlace
    master_secret: MasterSecretPlace
    blobs: BlobPlace
    models_dir: Path
    largest_exact: int
    index_interval_s: float
    grace_s: float
    sweep_interval_s: float

    @classmethod
    def of(cls, config: Config) -> DoctorSettings:
        """The settings of a configuration."""
        return cls(
            database_place(config),
            master_secret_place(config),
            blob_place(config),
            config.paths.models_dir,
            config.match.exact_search_max_faces,
            config.vector_index.check_interval_s,
            config.blobs.orphan_grace_s,
            config.blobs.sweep_interval_s,
        )


def run_doctor(settings: DoctorSettings, *, tenant_id: TenantId | None, as_json: bool) -> int:
    """Print a report; returns the exit status: 0 healthy, 1 a fault, 2 a check that failed."""
    report = asyncio.run(examine(settings, tenant_id))
    print(report.as_json() if as_json else report.as_lines())
    return report.status


async def examine(settings: DoctorSettings, tenant_id: TenantId | None = None) -> Report:
    """Check everything, or the data of one tenant alone; nothing is changed."""
    report = Report()
    try:
        async with (
            database_of(settings.database) as address,
            owner_connection(address) as connection,
        ):
            if not await check_schema(report, connection):
                report.note("database", "the other checks were skipped")
            else:
                if tenant_id is None:
                    await check_isolation(report, connection)
                    await check_keys(report, connection, settings.master_secret)
                blobs = await _examine_data(report, connection, settings, tenant_id)
                if tenant_id is not None:
                    await _examine_tenant(report, connection, tenant_id, blobs)
    except FacetteError as error:
        report.unknown("database", error.message)
    return report


async def _examine_data(
    report: Report,
    connection: asyncpg.Connection,
    settings: DoctorSettings,
    tenant_id: TenantId | None,
) -> int:
    """Check the data of a tenant or of all; returns the number of blobs."""
    await check_indexes(
        report,
        connection,
        tenant_id,
        largest_exact=settings.largest_exact,
        check_interval_s=settings.index_interval_s,
    )
    await check_rows(report, connection, tenant_id, settings.models_dir)
    await check_sums(report, connection, tenant_id)
    await check_decisions(report, connection, tenant_id)
    return await check_blobs(
        report,
        connection,
        tenant_id,
        settings.blobs,
        grace_s=settings.grace_s,
        sweep_interval_s=settings.sweep_interval_s,
    )


async def _examine_tenant(
    report: Report, connection: asyncpg.Connection, tenant_id: TenantId, blobs: int
) -> None:
    """Count the data of a tenant, and find what is left of a tenant that is gone."""
    counts = await rows_by_kind(connection, tenant_id)
    exists = counts.pop("tenants") == 1
    indexes = await indexes_of_tenant(connection, tenant_id)
    report.count(**counts, blobs=blobs, vector_indexes=len(indexes))
    left = ", ".join(
        f"{count} {kind.replace('_', ' ')}" for kind, count in report.counts.items() if count
    )
    if exists:
        report.ok("tenant", f"it has {left or 'no data'}")
    elif left:
        report.wrong(
            "tenant",
            f"it is deleted, but {left} are left",
            "a running service removes blobs and indexes periodically; run the doctor again later",
        )
    elif report.status != 2:
        report.ok("tenant", "nothing of this tenant is left")

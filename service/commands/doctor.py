"""`facette doctor`: looks at everything that may be wrong, and says what to do about it."""

from __future__ import annotations

import asyncio

import asyncpg

from service.commands.blob_checks import check_blobs
from service.commands.database_checks import (
    check_indexes,
    check_isolation,
    check_rows,
    check_schema,
    check_sums,
)
from service.commands.place import database_of
from service.commands.report import Report
from service.config import Config
from service.domain.errors import FacetteError
from service.domain.types import TenantId
from service.store.database.database import owner_connection
from service.store.face.health import indexes_of_tenant, rows_by_kind


def run_doctor(config: Config, *, tenant_id: TenantId | None, as_json: bool) -> int:
    """Print the report; returns 0 for healthy, 1 for something wrong, 2 for what cannot be seen."""
    report = asyncio.run(examine(config, tenant_id))
    print(report.as_json() if as_json else report.as_lines())
    return report.status


async def examine(config: Config, tenant_id: TenantId | None = None) -> Report:
    """Look at everything, or at what there is of one tenant; nothing is changed."""
    report = Report()
    try:
        async with database_of(config) as settings, owner_connection(settings) as connection:
            if not await check_schema(report, connection):
                report.note("database", "the rest was not looked at")
            elif tenant_id is None:
                await check_isolation(report, connection)
                await check_indexes(report, connection, config, None)
                await check_rows(report, connection, config, None)
                await check_sums(report, connection, None)
                await check_blobs(report, connection, config, None)
            else:
                await _examine_tenant(report, connection, config, tenant_id)
    except FacetteError as error:
        report.unknown("database", error.message)
    return report


async def _examine_tenant(
    report: Report, connection: asyncpg.Connection, config: Config, tenant_id: TenantId
) -> None:
    await check_indexes(report, connection, config, tenant_id)
    await check_rows(report, connection, config, tenant_id)
    await check_sums(report, connection, tenant_id)
    blobs = await check_blobs(report, connection, config, tenant_id)
    counts = await rows_by_kind(connection, tenant_id)
    exists = counts.pop("tenants") == 1
    indexes = await indexes_of_tenant(connection, tenant_id)
    report.count(**counts, blobs=blobs, vector_indexes=len(indexes))
    left = ", ".join(
        f"{count} {kind.replace('_', ' ')}" for kind, count in report.counts.items() if count
    )
    if exists:
        report.ok("tenant", f"it has {left or 'nothing in it'}")
    elif left:
        report.wrong(
            "tenant",
            f"it is not there, and {left} are left of it",
            "a running service removes blobs and indexes in its rounds; look again later",
        )
    elif report.status != 2:
        report.ok("tenant", "nothing of this tenant is left")

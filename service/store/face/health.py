"""Facts that tell whether a database is healthy: asked for, and not judged."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

import asyncpg

from service.domain.types import ModelSpace, TenantId
from service.store.blob.index import SWEEP_TURN_KEY
from service.store.database.migrations import load_migrations
from service.store.database.statements import SQL
from service.store.face.search import INDEX_PREFIX


@dataclass(frozen=True, slots=True)
class MigrationState:
    """How a database's schema compares with this release's, by numbers of migrations.

    missing: not applied yet. unknown: applied by another release. edited: applied with other text.
    """

    newest: int
    missing: tuple[int, ...]
    unknown: tuple[int, ...]
    edited: tuple[int, ...]

    @property
    def is_current(self) -> bool:
        """Whether this release can work with the schema as it is."""
        return not (self.missing or self.unknown or self.edited)


@dataclass(frozen=True, slots=True)
class Isolation:
    """What keeps tenants apart, and where it does not; names are of tables.

    role_exists, role_bypasses: of the role that the service works as.
    """

    role_exists: bool
    can_become: bool
    role_bypasses: bool
    lacking: tuple[str, ...]
    unprotected: tuple[str, ...]
    other_policies: tuple[str, ...]
    shows_rows: tuple[str, ...]


async def versions(connection: asyncpg.Connection) -> tuple[str, str | None]:
    """Of PostgreSQL, and of pgvector where the database has it."""
    row = await connection.fetchrow(SQL["server_versions"])
    return row["postgresql"], row["pgvector"]


async def migration_state(connection: asyncpg.Connection) -> MigrationState:
    """Compare the migrations that were applied with those of this release."""
    applied: dict[int, str] = {}
    if await connection.fetchval(SQL["migration_table_exists"]):
        rows = await connection.fetch(SQL["applied_migrations"])
        applied = {row["number"]: row["sha256"] for row in rows}
    known = {migration.number: migration.sha256 for migration in load_migrations()}
    return MigrationState(
        newest=max(known),
        missing=tuple(sorted(known.keys() - applied.keys())),
        unknown=tuple(sorted(applied.keys() - known.keys())),
        edited=tuple(n for n in sorted(known.keys() & applied.keys()) if known[n] != applied[n]),
    )


async def isolation(connection: asyncpg.Connection) -> Isolation:
    """Look at the service's role and the policies, and try whether they hide what they should."""
    role_exists = await connection.fetchval(SQL["service_role_exists"])
    can_become = role_exists and await connection.fetchval(SQL["login_can_become_service_role"])
    lacking = await _names(connection, "service_role_lacks") if role_exists else ()
    shows_rows: tuple[str, ...] = ()
    if can_become and not lacking:
        async with connection.transaction(readonly=True):
            await connection.execute(SQL["become_service_role"])
            await connection.execute(SQL["use_tenant"], f"nobody {uuid4()}")
            shows_rows = await _names(connection, "tables_that_show_rows")
    return Isolation(
        role_exists=role_exists,
        can_become=can_become,
        role_bypasses=bool(await connection.fetchval(SQL["service_role_bypasses"])),
        lacking=lacking,
        unprotected=await _names(connection, "tables_without_row_level_security"),
        other_policies=await _names(connection, "tables_with_other_policies"),
        shows_rows=shows_rows,
    )


async def indexes_being_built(connection: asyncpg.Connection) -> frozenset[str]:
    """Names of indexes that somebody builds at the moment."""
    return frozenset(await _names(connection, "indexes_being_built"))


async def indexes_of_tenant(connection: asyncpg.Connection, tenant_id: TenantId) -> tuple[str, ...]:
    """Names of the HNSW indexes over a tenant's vectors, also those of a tenant that is gone."""
    return await _names(connection, "indexes_of_tenant", INDEX_PREFIX, tenant_id)


async def dangling_rows(
    connection: asyncpg.Connection, tenant_id: TenantId | None
) -> dict[str, int]:
    """How many rows lack what they belong to, by kind, of one tenant or of all."""
    return dict(await connection.fetchrow(SQL["dangling_rows"], tenant_id))


async def tenants_with_strange_ids(
    connection: asyncpg.Connection, tenant_id: TenantId | None
) -> tuple[str, ...]:
    """Ids of tenants, all or this one, that no caller can give, cut where they are long."""
    return await _names(connection, "tenants_with_strange_ids", tenant_id)


async def faces_without_vector(
    connection: asyncpg.Connection, tenant_id: TenantId | None, space: ModelSpace
) -> tuple[int, int]:
    """How many faces have no vector of any model, and how many none of this one."""
    row = await connection.fetchrow(SQL["faces_without_vector"], tenant_id, space)
    return row["of_any_model"], row["of_this_model"]


@dataclass(frozen=True, slots=True)
class Sums:
    """What triggers keep, where it is not what it should be.

    missing, of_nothing, wrong: sums of clusters' vectors. tenants: with another number of clusters
    than they say. vectors: that say otherwise than their faces whether others match them.
    """

    missing: int
    of_nothing: int
    wrong: int
    tenants: int
    vectors: int


async def sums(connection: asyncpg.Connection, tenant_id: TenantId | None) -> Sums:
    """Compare what is kept with what there is, of one tenant or of all."""
    return Sums(
        **await connection.fetchrow(SQL["sums_that_differ"], tenant_id),
        tenants=await connection.fetchval(SQL["tenants_counted_wrongly"], tenant_id),
        vectors=await connection.fetchval(SQL["vectors_matched_otherwise"], tenant_id),
    )


async def quoted(connection: asyncpg.Connection, text: str | None) -> str:
    """A text as a statement writes it, to be shown to somebody."""
    return str(await connection.fetchval(SQL["quoted"], text))


async def rows_by_kind(connection: asyncpg.Connection, tenant_id: TenantId) -> dict[str, int]:
    """How many rows of each kind there are of a tenant."""
    return dict(await connection.fetchrow(SQL["rows_by_kind"], tenant_id))


async def is_importing(connection: asyncpg.Connection) -> bool:
    """Whether a tenant is being imported, whose photos no row names yet that others can see."""
    return bool(await connection.fetchval(SQL["is_importing"], SWEEP_TURN_KEY))


async def _names(
    connection: asyncpg.Connection, statement: str, *arguments: object
) -> tuple[str, ...]:
    return tuple(row["name"] for row in await connection.fetch(SQL[statement], *arguments))

"""Facts about the health of a database, for `facette doctor` to judge."""

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
    """The migrations of a database compared with this release's, by their numbers.

    missing: not applied yet. unknown: not of this release. edited: applied with another text.
    """

    newest: int
    missing: tuple[int, ...]
    unknown: tuple[int, ...]
    edited: tuple[int, ...]

    @property
    def is_current(self) -> bool:
        """Whether this release can work with the schema."""
        return not (self.missing or self.unknown or self.edited)


@dataclass(frozen=True, slots=True)
class Isolation:
    """The state of tenant isolation; the tuples hold names of tables.

    role_exists, role_bypasses: whether the service's role exists, and bypasses row-level security.
    can_become: whether the login can become that role. lacking: tables without its privileges.
    unprotected: tables without row-level security. other_policies: tables with other policies than
    the migrations make. shows_rows: tables that show rows to a tenant that does not exist.
    hidden: tables whose rows are hidden from the login.
    """

    role_exists: bool
    can_become: bool
    role_bypasses: bool
    lacking: tuple[str, ...]
    unprotected: tuple[str, ...]
    other_policies: tuple[str, ...]
    shows_rows: tuple[str, ...]
    hidden: str


async def versions(connection: asyncpg.Connection) -> tuple[str, str | None]:
    """The versions of PostgreSQL and of pgvector; None when the database lacks pgvector."""
    row = await connection.fetchrow(SQL["server_versions"])
    return row["postgresql"], row["pgvector"]


async def migration_state(connection: asyncpg.Connection) -> MigrationState:
    """Compare the applied migrations with those of this release."""
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
    """Read the service's role and the policies, and try whether they hide other tenants' rows."""
    role_exists = await connection.fetchval(SQL["service_role_exists"])
    can_become = role_exists and await connection.fetchval(SQL["login_can_become_service_role"])
    lacking = await _names(connection, "missing_grants") if role_exists else ()
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
        hidden=await connection.fetchval(SQL["tables_that_bind_login"]) or "",
    )


async def indexes_being_built(connection: asyncpg.Connection) -> frozenset[str]:
    """Names of the indexes that are being built now."""
    return frozenset(await _names(connection, "indexes_being_built"))


async def indexes_of_tenant(connection: asyncpg.Connection, tenant_id: TenantId) -> tuple[str, ...]:
    """Names of the HNSW indexes of a tenant, which may outlive the tenant."""
    return await _names(connection, "indexes_of_tenant", INDEX_PREFIX, tenant_id)


async def dangling_rows(
    connection: asyncpg.Connection, tenant_id: TenantId | None
) -> dict[str, int]:
    """The number of rows without their parent, by kind, of one tenant or of all."""
    return dict(await connection.fetchrow(SQL["dangling_rows"], tenant_id))


async def tenants_with_strange_ids(
    connection: asyncpg.Connection, tenant_id: TenantId | None
) -> tuple[str, ...]:
    """Ids of tenants that the API refuses, shortened; of all tenants or of this one."""
    return await _names(connection, "tenants_with_strange_ids", tenant_id)


async def people_out_of_bounds(
    connection: asyncpg.Connection, tenant_id: TenantId | None
) -> dict[str, int]:
    """The number of rows about people that the service never stores, by kind."""
    return dict(await connection.fetchrow(SQL["people_out_of_bounds"], tenant_id))


@dataclass(frozen=True, slots=True)
class Decided:
    """What is wrong with decisions and history.

    elsewhere: the number of faces of decisions that are in other clusters than it says there.
    empty, contradicted: ids of decisions that lack faces, and of those that hold and whose faces
    are together or apart against them. traces: changes that speak of something that was erased,
    with their tenants.
    """

    elsewhere: int
    empty: tuple[str, ...]
    contradicted: tuple[str, ...]
    traces: tuple[tuple[TenantId, int], ...]


async def decided(connection: asyncpg.Connection, tenant_id: TenantId | None) -> Decided:
    """Compare decisions and history, of one tenant or of all, with what is there."""
    empty = await connection.fetch(SQL["decisions_without_a_side"], tenant_id)
    contradicted = await connection.fetch(SQL["contradicted_decisions"], tenant_id)
    traces = await connection.fetch(SQL["changes_about_what_is_gone"], tenant_id)
    return Decided(
        await connection.fetchval(SQL["faces_of_decisions_elsewhere"], tenant_id),
        tuple(str(row["decision_id"]) for row in empty),
        tuple(str(row["decision_id"]) for row in contradicted),
        tuple((TenantId(row["tenant_id"]), row["change"]) for row in traces),
    )


async def faces_without_vector(
    connection: asyncpg.Connection, tenant_id: TenantId | None, space: ModelSpace
) -> tuple[int, int]:
    """The number of faces without any vector, and without a vector of this model."""
    row = await connection.fetchrow(SQL["faces_without_vector"], tenant_id, space)
    return row["of_any_model"], row["of_this_model"]


@dataclass(frozen=True, slots=True)
class Sums:
    """Counts of derived values that differ from what they are derived from.

    missing, of_nothing, wrong: sums of clusters' vectors that are absent, superfluous or wrong.
    tenants: tenants with a wrong count of clusters, images or faces. clusters: clusters with a
    wrong count of faces or images, or a cover that is not theirs. vectors: vectors whose
    `is_matchable` differs from their face's.
    """

    missing: int
    of_nothing: int
    wrong: int
    tenants: int
    clusters: int
    vectors: int


async def sums(connection: asyncpg.Connection, tenant_id: TenantId | None) -> Sums:
    """Compare the derived values with their sources, of one tenant or of all."""
    return Sums(
        **await connection.fetchrow(SQL["sums_that_differ"], tenant_id),
        tenants=await connection.fetchval(SQL["tenants_counted_wrongly"], tenant_id),
        clusters=await connection.fetchval(SQL["clusters_counted_wrongly"], tenant_id),
        vectors=await connection.fetchval(SQL["vectors_matched_otherwise"], tenant_id),
    )


async def quoted(connection: asyncpg.Connection, text: str | None) -> str:
    """A text as an SQL literal, for statements that are shown to an operator."""
    return str(await connection.fetchval(SQL["quoted"], text))


async def rows_by_kind(connection: asyncpg.Connection, tenant_id: TenantId) -> dict[str, int]:
    """The number of a tenant's rows, by kind."""
    return dict(await connection.fetchrow(SQL["rows_by_kind"], tenant_id))


async def is_importing(connection: asyncpg.Connection) -> bool:
    """Whether an import is running: its blobs have no committed rows yet."""
    return bool(await connection.fetchval(SQL["is_importing"], SWEEP_TURN_KEY))


async def _names(
    connection: asyncpg.Connection, statement: str, *arguments: object
) -> tuple[str, ...]:
    return tuple(row["name"] for row in await connection.fetch(SQL[statement], *arguments))

"""Migrations: numbered files that bring a database to the newest schema, each applied once.

The service's role belongs to the server, and not to the database. It is therefore checked at every
start, because a database may have been restored on another server.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from service.domain.errors import ConfigError
from service.store.database.role import prepare_service_role
from service.store.database.schemas import correct_functions, prepare_schemas
from service.store.database.statements import SQL

_logger = logging.getLogger(__name__)

# The key of the advisory lock: the letters of "facette" in hexadecimal.
_MIGRATION_LOCK_KEY = 0x66616365747465
_TABLE = (
    "CREATE TABLE migration ("
    " number integer PRIMARY KEY, name text NOT NULL, sha256 text NOT NULL,"
    " applied_at timestamptz NOT NULL DEFAULT now())"
)
_FILE_NAME = re.compile(r"^(\d{4})_(\w+)\.sql$")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file; `sha256` shows whether the file was edited after it was applied."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load_migrations() -> list[Migration]:
    """The package's migrations in order.

    Raises:
        ValueError: a file name is not `NNNN_name.sql`, or a number is missing.
    """
    found = []
    for resource in files("service.store").joinpath("sql", "migrations").iterdir():
        match = _FILE_NAME.match(resource.name)
        if match is None:
            raise ValueError(f"not a migration's file name: {resource.name}")
        found.append(Migration(int(match[1]), match[2], resource.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("migrations are not numbered 1, 2, 3 ...")
    return found


async def migrate(connection: asyncpg.Connection) -> list[int]:
    """Apply the missing migrations and return their numbers.

    Several services may start at the same time. An advisory lock lets one of them migrate; the
    others wait, and then find no missing migration.

    Raises:
        ConfigError: the database has the schema of another release or tables of another program,
            the login lacks a privilege, or row-level security cannot be enforced.
    """
    await connection.execute("SELECT pg_advisory_lock($1)", _MIGRATION_LOCK_KEY)
    try:
        schemas = await prepare_schemas(connection)
        try:
            applied = await _apply_missing(connection)
            await correct_functions(connection, schemas)
        except (asyncpg.DuplicateTableError, asyncpg.DuplicateFunctionError) as error:
            raise ConfigError(
                f"the schema {schemas.home} belongs to another program ({error}); let an "
                f"administrator run once: {schemas.another}"
            ) from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise ConfigError(
                f"the database login {schemas.login} may not migrate the schema {schemas.home}: "
                f"{error}"
            ) from error
        await prepare_service_role(connection)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _MIGRATION_LOCK_KEY)
    return applied


async def _apply_missing(connection: asyncpg.Connection) -> list[int]:
    has_table = await connection.fetchval(SQL["migration_table_exists"])
    rows = await connection.fetch("SELECT number, sha256 FROM migration") if has_table else []
    applied = {row["number"]: row["sha256"] for row in rows}
    known = load_migrations()
    if unknown := sorted(set(applied) - {migration.number for migration in known}):
        raise ConfigError(
            f"the database has migration {unknown[-1]}, which this release does not know: "
            "use the release that made it, or a newer one"
        )
    done = []
    for migration in known:
        if migration.number in applied:
            if applied[migration.number] != migration.sha256:
                raise ConfigError(
                    f"migration {migration.number} in the database differs from this release's"
                )
            continue
        async with connection.transaction():
            if not has_table:  # in the transaction: a schema of another program gets no table
                await connection.execute(_TABLE)
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO migration (number, name, sha256) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.sha256,
            )
        _logger.info(
            "migration applied",
            extra={"fields": {"number": migration.number, "migration": migration.name}},
        )
        has_table = True
        done.append(migration.number)
    return done

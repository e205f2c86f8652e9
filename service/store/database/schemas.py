"""The schemas of a database that hold the tables and pgvector, and the search_path over both.

The tables are in the schema that the login's search_path chooses; pgvector may be in any schema.
Every connection sets a search_path of these two, and so does not depend on its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import asyncpg
from pgvector.asyncpg import register_vector

from service.domain.errors import ConfigError
from service.store.database.statements import SQL

_OLDEST_VECTOR = (0, 7)


@dataclass(frozen=True, slots=True)
class Schemas:
    """Names of schemas, quoted where SQL needs it.

    home: of the tables. vector: of pgvector; None where the database lacks the extension.
    may_create: whether the login may create tables and indexes in `home`. login, database: names.
    """

    home: str
    vector: str | None
    may_create: bool
    login: str
    database: str

    @property
    def search_path(self) -> str:
        """The search_path of all connections."""
        if self.vector in (None, self.home, "pg_catalog"):
            return self.home
        return f"{self.home}, {self.vector}"

    @property
    def missing_privilege(self) -> str:
        """The statement that lets the login create tables; empty where it may."""
        if self.may_create:
            return ""
        return f"GRANT USAGE, CREATE ON SCHEMA {self.home} TO {self.login}"

    @property
    def another(self) -> str:
        """The statements that give the login a schema of its own."""
        return _own_schema(self.login, self.database)

    async def register_types(self, connection: asyncpg.Connection) -> None:
        """Let a connection convert vectors."""
        await register_vector(connection, schema=_unquoted(self.vector or self.home))


async def use_schemas(connection: asyncpg.Connection) -> Schemas:
    """Find the schemas of a database, and set the search_path of a connection of the login.

    Raises:
        ConfigError: no schema can be used, the tables are in a schema outside the search_path, or
            pgvector is too old or in a schema that the login cannot use.
    """
    row = await connection.fetchrow(SQL["schemas"])
    login, database = row["login"], row["database"]
    if row["elsewhere"] is not None:
        raise ConfigError(
            f"the tables of Facette are in the schema {row['elsewhere']}, which is not in the "
            f"search_path ({row['search_path']}) of the database login {login}; run once: ALTER "
            f"ROLE {login} IN DATABASE {database} SET search_path = {row['elsewhere']}"
        )
    if row["home"] is None:
        raise ConfigError(
            f"the search_path ({row['search_path']}) of the database login {login} names no schema "
            "that exists and that the login may use; let an administrator run once: "
            f"{_own_schema(login, database)}"
        )
    if row["is_taken"]:
        raise ConfigError(
            f"the schema {row['home']} has a table 'migration' of another program; let an "
            f"administrator run once: {_own_schema(login, database)}"
        )
    if row["vector"] is not None:
        version = row["vector_version"]
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST_VECTOR:
            raise ConfigError(
                f"the database has pgvector {version}, and Facette needs 0.7 or newer; let an "
                "administrator run once: ALTER EXTENSION vector UPDATE"
            )
        if not row["may_use_vector"]:
            raise ConfigError(
                f"the database login {login} may not use the schema {row['vector']}, which has "
                f"pgvector; let an administrator run once: GRANT USAGE ON SCHEMA {row['vector']} "
                f"TO {login}"
            )
    found = Schemas(row["home"], row["vector"], row["may_create"], login, database)
    await connection.execute(SQL["use_schemas"], found.search_path)
    return found


async def prepare_schemas(connection: asyncpg.Connection) -> Schemas:
    """Find the schemas as `use_schemas` does, and create pgvector where it is missing.

    Raises:
        ConfigError: the login lacks a privilege, or the server lacks pgvector.
    """
    found = await use_schemas(connection)
    if found.missing_privilege:
        raise ConfigError(
            f"the database login {found.login} may not create tables in the schema {found.home}; "
            f"let an administrator run once: {found.missing_privilege}"
        )
    if found.vector is not None:
        return found
    try:
        await connection.execute(SQL["create_vector"])
    except (asyncpg.UndefinedFileError, asyncpg.FeatureNotSupportedError) as error:
        raise ConfigError(f"the database server lacks pgvector: {error}") from error
    except asyncpg.InsufficientPrivilegeError:
        raise ConfigError(
            f"the database {found.database} lacks pgvector, and the login {found.login} may not "
            "create it; let an administrator run once: CREATE EXTENSION vector"
        ) from None
    return await use_schemas(connection)


async def correct_functions(connection: asyncpg.Connection, schemas: Schemas) -> None:
    """Give functions the search_path of all connections, where they have another one."""
    for row in await connection.fetch(SQL["statements_to_correct_functions"], schemas.search_path):
        await connection.execute(row["statement"])


def _own_schema(login: str, database: str) -> str:
    return (
        f"CREATE SCHEMA IF NOT EXISTS facette AUTHORIZATION {login}; ALTER ROLE {login} IN "
        f"DATABASE {database} SET search_path = facette"
    )


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name

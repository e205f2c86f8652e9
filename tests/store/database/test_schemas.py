"""Tables and pgvector in any schema: the service works there, or says what has to be done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest

from bench.common.photos import source
from service.batching import free_ticket
from service.domain.errors import ConfigError
from service.domain.matching import fixed_rule
from service.domain.types import ModelSpace, TenantId
from service.store.database.database import Database, DatabaseSettings, owner_connection
from service.store.database.role import SERVICE_ROLE
from service.store.face.health import isolation, migration_state
from service.store.face.indexer import Indexer, IndexSettings, vector_indexes
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.telemetry import StageClock
from service.usecases.ingest import IngestPhoto
from tests.support.analysed import MadeUpAnalyzer, person
from tests.support.logins import connect, let_in

TENANT = TenantId("anna")
# `{login}` and `{database}` are replaced by names.
ARRANGEMENTS = {
    "pgvector in a schema of the search_path": (
        "CREATE SCHEMA extensions",
        "CREATE EXTENSION vector SCHEMA extensions",
        'ALTER DATABASE {database} SET search_path = "$user", public, extensions',
    ),
    "pgvector in a schema outside the search_path": (
        "CREATE SCHEMA extensions",
        "CREATE EXTENSION vector SCHEMA extensions",
    ),
    "tables in a schema of their own": (
        "CREATE SCHEMA facette",
        "CREATE EXTENSION vector",
        "ALTER DATABASE {database} SET search_path = facette",
    ),
    "a schema with the name of the login": ("CREATE SCHEMA {login}",),
    "names that need quotes": (
        'CREATE SCHEMA "Ta,b""les"',
        'CREATE SCHEMA "Ext ensions"',
        'CREATE EXTENSION vector SCHEMA "Ext ensions"',
        'ALTER DATABASE {database} SET search_path = "Ta,b""les"',
    ),
    "a schema that others may not use": (
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        "CREATE EXTENSION vector",
    ),
    "row-level security that is off for the login": (
        "ALTER ROLE {login} IN DATABASE {database} SET row_security = off",
    ),
}
OBSTACLES = {
    "no right to create tables": ("CREATE EXTENSION vector",),
    "no schema of the search_path": (
        "ALTER ROLE {login} IN DATABASE {database} SET search_path = nowhere",
    ),
    "no pgvector, and no right to create it": ("GRANT CREATE ON SCHEMA public TO {login}",),
    "pgvector in a schema that the login may not use": (
        "CREATE SCHEMA extensions",
        "CREATE EXTENSION vector SCHEMA extensions",
        "GRANT CREATE ON SCHEMA public TO {login}",
    ),
    "a schema that the service's role may not use": (
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        "GRANT USAGE, CREATE ON SCHEMA public TO {login}",
        "CREATE EXTENSION vector",
    ),
    "a table migration of another program": (
        "CREATE EXTENSION vector",
        "GRANT CREATE ON SCHEMA public TO {login}",
        "CREATE TABLE migration (version text)",
    ),
    "a table image of another program": (
        "CREATE EXTENSION vector",
        "GRANT CREATE ON SCHEMA public TO {login}",
        "CREATE TABLE image (path text)",
    ),
}


@pytest.fixture
async def admin(empty_database: DatabaseSettings) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(empty_database)
    yield connection
    await connection.close()


@pytest.fixture
async def login(
    empty_database: DatabaseSettings, admin: asyncpg.Connection
) -> AsyncIterator[DatabaseSettings]:
    """A login that has no privilege but to become the service's role."""
    settings = replace(empty_database, user=f"login_{uuid4().hex}")
    if not await admin.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", SERVICE_ROLE):
        await admin.execute(f"CREATE ROLE {SERVICE_ROLE} NOLOGIN NOINHERIT")
    await admin.execute(f"CREATE ROLE {settings.user} LOGIN")
    await admin.execute(f"GRANT {SERVICE_ROLE} TO {settings.user}")
    await let_in(admin, settings)
    yield settings
    await admin.execute(f"DROP OWNED BY {settings.user} CASCADE")
    await admin.execute(f"DROP ROLE {settings.user}")


async def arrange(
    admin: asyncpg.Connection, settings: DatabaseSettings, statements: tuple[str, ...]
) -> None:
    for statement in statements:
        names = {"login": settings.user, "database": settings.dbname}
        await admin.execute(statement.format(**names))


async def serve(settings: DatabaseSettings) -> None:
    """Open the database, insert a photo, build an index, and look at it as the doctor does."""
    database = await Database.open(settings)
    repository, analyzer = Repository(database, SearchSettings(200)), MadeUpAnalyzer()
    ingest = IngestPhoto(
        analyzer,
        repository,
        None,
        space=ModelSpace("made-up/1"),
        rule=fixed_rule(0.5),
        on_face=lambda matched: None,
    )
    photo = source(analyzer.add(person(1), person(2)))
    found = await ingest(TENANT, photo, StageClock(), free_ticket())
    assert len(found.faces) == 2
    index = IndexSettings(0, 1, 16, 64, build_memory_mb=64, build_workers=0, interval_s=600)
    assert await Indexer(database, index).round()
    await database.close()
    async with owner_connection(settings) as connection:
        assert (await migration_state(connection)).is_current
        assert [each.is_valid for each in await vector_indexes(connection)] == [True]
        facts = await isolation(connection)
        assert facts.can_become
        assert not facts.role_bypasses
        assert not any(
            (facts.lacking, facts.unprotected, facts.other_policies, facts.shows_rows, facts.hidden)
        )


@pytest.mark.parametrize("statements", ARRANGEMENTS.values(), ids=ARRANGEMENTS)
async def test_it_works_wherever_tables_and_pgvector_are(
    empty_database: DatabaseSettings, admin: asyncpg.Connection, statements: tuple[str, ...]
) -> None:
    await arrange(admin, empty_database, statements)
    await serve(empty_database)


@pytest.mark.parametrize("statements", OBSTACLES.values(), ids=OBSTACLES)
async def test_it_says_in_one_line_what_an_administrator_has_to_run(
    login: DatabaseSettings, admin: asyncpg.Connection, statements: tuple[str, ...]
) -> None:
    await arrange(admin, login, statements)
    said: list[str] = []
    for _ in range(3):  # one obstacle may be behind another one
        try:
            await (await Database.open(login)).close()
        except ConfigError as error:
            said.append(error.message)
            await admin.execute(error.message.partition("run once: ")[2])
    assert said
    assert len(set(said)) == len(said)
    assert not any("\n" in message for message in said)
    await serve(login)


async def test_tables_outside_the_search_path_are_named_and_not_made_twice(
    login: DatabaseSettings, admin: asyncpg.Connection
) -> None:
    here = "ALTER ROLE {login} IN DATABASE {database} SET search_path = "
    statements = ("CREATE EXTENSION vector", "CREATE SCHEMA one AUTHORIZATION {login}")
    await arrange(admin, login, (*statements, f"{here}one"))
    await serve(login)
    await arrange(admin, login, ("CREATE SCHEMA two AUTHORIZATION {login}", f"{here}two"))
    for opening in (Database.open(login), owner_connection(login).__aenter__()):
        with pytest.raises(ConfigError, match="in the schema one, which is not in") as caught:
            await opening
    await admin.execute(caught.value.message.partition("run once: ")[2])
    await serve(login)


async def test_a_moved_pgvector_is_found_again(
    empty_database: DatabaseSettings, admin: asyncpg.Connection
) -> None:
    await serve(empty_database)
    await admin.execute("CREATE SCHEMA extensions")
    await admin.execute("ALTER EXTENSION vector SET SCHEMA extensions")
    await serve(empty_database)


async def test_a_login_from_which_rows_are_hidden_is_refused(
    login: DatabaseSettings, admin: asyncpg.Connection
) -> None:
    """A sweep would take every photo for an orphan."""
    await arrange(
        admin, login, ("CREATE EXTENSION vector", "GRANT CREATE ON SCHEMA public TO {login}")
    )
    await serve(login)
    await admin.execute("ALTER TABLE image FORCE ROW LEVEL SECURITY")
    with pytest.raises(ConfigError, match="hides rows of image from the database login"):
        await Database.open(login)


async def test_an_old_pgvector_is_refused(
    empty_database: DatabaseSettings, admin: asyncpg.Connection
) -> None:
    await admin.execute("CREATE EXTENSION vector")
    await admin.execute("UPDATE pg_extension SET extversion = '0.6.2' WHERE extname = 'vector'")
    with pytest.raises(ConfigError, match=r"pgvector 0\.6\.2, and Facette needs 0.7"):
        await Database.open(empty_database)

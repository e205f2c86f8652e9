"""Migrations: applied once, in order, by one of many."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from service.domain.errors import ConfigError
from service.domain.types import TenantId
from service.store.database import migrations
from service.store.database.database import Database, DatabaseSettings
from service.store.database.migrations import Migration, load_migrations, migrate


async def _connect(settings: DatabaseSettings) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=settings.host, port=settings.port, user=settings.user, database=settings.dbname
    )


async def test_services_that_start_together_apply_each_migration_once(
    empty_database: DatabaseSettings,
) -> None:
    connections = [await _connect(empty_database) for _ in range(5)]
    applied = await asyncio.gather(*(migrate(connection) for connection in connections))
    every = [migration.number for migration in load_migrations()]
    assert sorted(applied) == [[], [], [], [], every]
    for connection in connections:
        await connection.close()


async def test_failed_migration_leaves_nothing_behind(
    empty_database: DatabaseSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Migration(1, "broken", "CREATE TABLE half (x int); SELECT 1 / 0;")
    monkeypatch.setattr(migrations, "load_migrations", lambda: [broken])
    connection = await _connect(empty_database)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(connection)
    for table in ("half", "migration"):
        assert await connection.fetchval("SELECT to_regclass($1)", table) is None
    monkeypatch.undo()
    assert await migrate(connection)
    await connection.close()


async def test_database_of_a_newer_release_is_refused(empty_database: DatabaseSettings) -> None:
    connection = await _connect(empty_database)
    await migrate(connection)
    await connection.execute("INSERT INTO migration VALUES (9999, 'future', 'x')")
    with pytest.raises(ConfigError, match="9999"):
        await migrate(connection)
    await connection.close()


async def test_edited_migration_is_refused(empty_database: DatabaseSettings) -> None:
    connection = await _connect(empty_database)
    await migrate(connection)
    await connection.execute("UPDATE migration SET sha256 = 'edited' WHERE number = 1")
    with pytest.raises(ConfigError, match="differs"):
        await migrate(connection)
    await connection.close()


async def test_unreachable_database_is_named_in_one_line(empty_database: DatabaseSettings) -> None:
    nowhere = DatabaseSettings("127.0.0.1", 1, "facette", "facette", "secret", 2, 2.0, 2.0)
    with pytest.raises(ConfigError) as caught:
        await Database.open(nowhere)
    assert "127.0.0.1:1" in caught.value.message
    assert "secret" not in caught.value.message
    assert "\n" not in caught.value.message


async def test_every_primary_key_begins_with_the_tenant(database: Database) -> None:
    async with database.snapshot(TenantId("any")) as connection:
        rows = await connection.fetch(
            """
            SELECT c.relname AS table_name, a.attname AS first_column
            FROM pg_index i
            JOIN pg_class c ON c.oid = i.indrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
            WHERE i.indisprimary AND NOT c.relispartition
              AND c.relname NOT IN (
                'migration', 'database_identity', 'embedding_model', 'access_key',
                'console_session'
              )
            """
        )
    assert {row["table_name"] for row in rows} == {
        "tenant",
        "image",
        "cluster",
        "cluster_sum",
        "merged_cluster",
        "change",
        "change_cluster",
        "change_decision",
        "change_face",
        "change_review",
        "decision",
        "decision_face",
        "kept_answer",
        "face",
        "face_vector",
        "review",
    }
    assert {row["first_column"] for row in rows} == {"tenant_id"}

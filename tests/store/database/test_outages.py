"""Outages and wrong use: only a database that is away is to be asked again later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from bench.common.photos import source
from service.api.errors import status_of
from service.batching import free_ticket
from service.domain.errors import ConfigError, NotFoundError, StoreUnavailableError
from service.domain.matching import fixed_rule
from service.domain.types import IngestedPhoto, ModelSpace, TenantId
from service.store.blob.folder import FolderBlobStore
from service.store.database.database import Database, DatabaseSettings, owner_connection
from service.store.embedded.server import EmbeddedAddress
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.store.face.writes import TenantWriter
from service.telemetry import StageClock
from service.usecases.ingest import IngestPhoto
from tests.support.analysed import MadeUpAnalyzer, files_below, person

TENANT = TenantId("tenant")

Use = Callable[[asyncpg.Connection], Awaitable[object]]


async def argument_of_another_type(connection: asyncpg.Connection) -> None:
    await connection.fetchval("SELECT $1::integer", "no number")


async def too_few_arguments(connection: asyncpg.Connection) -> None:
    await connection.fetchval("SELECT $1::integer + $2::integer", 1)


async def two_at_once(connection: asyncpg.Connection) -> None:
    await asyncio.gather(*(connection.fetchval("SELECT pg_sleep(0.1)") for _ in range(2)))


async def begun_within_another(connection: asyncpg.Connection) -> None:
    async with connection.transaction(), connection.transaction(isolation="serializable"):
        pass


async def missing_file(_: asyncpg.Connection) -> None:
    await asyncio.to_thread(Path("/no such file").read_bytes)


WRONG_USE: list[tuple[Use, type[Exception]]] = [
    (argument_of_another_type, asyncpg.DataError),
    (too_few_arguments, asyncpg.InterfaceError),
    (two_at_once, asyncpg.InterfaceError),
    (begun_within_another, asyncpg.InterfaceError),
    (missing_file, FileNotFoundError),
]
of_wrong_use = pytest.mark.parametrize(
    ("use", "error"), WRONG_USE, ids=[use.__name__ for use, _ in WRONG_USE]
)


@pytest.fixture
def settings(database: Database) -> DatabaseSettings:
    return database._settings


async def end_backend(settings: DatabaseSettings, connection: asyncpg.Connection) -> None:
    """Have the server end a connection, as an administrator may."""
    admin = await asyncpg.connect(
        host=settings.host, port=settings.port, user=settings.user, database=settings.dbname
    )
    ended = await admin.fetchval(
        "SELECT pg_terminate_backend($1, 10000)", connection.get_server_pid()
    )
    assert ended
    await admin.close()


@of_wrong_use
async def test_wrong_use_in_a_transaction_is_no_outage(
    database: Database, use: Use, error: type[Exception]
) -> None:
    with pytest.raises(error):
        async with database.transaction(TENANT) as connection:
            await use(connection)
    await database.ping()


@of_wrong_use
async def test_wrong_use_in_a_snapshot_is_no_outage(
    database: Database, use: Use, error: type[Exception]
) -> None:
    with pytest.raises(error):
        async with database.snapshot(TENANT) as connection:
            await use(connection)
    await database.ping()


@of_wrong_use
async def test_wrong_use_by_maintenance_is_no_outage(
    database: Database, use: Use, error: type[Exception]
) -> None:
    with pytest.raises(error):
        async with database.maintenance() as connection:
            await use(connection)


@of_wrong_use
async def test_wrong_use_by_a_command_is_no_outage(
    settings: DatabaseSettings, use: Use, error: type[Exception]
) -> None:
    with pytest.raises(error):
        async with owner_connection(settings) as connection:
            await use(connection)


async def test_to_write_in_a_snapshot_is_wrong_use(database: Database) -> None:
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with database.snapshot(TENANT) as connection:
            await connection.execute("DELETE FROM tenant")


async def test_a_database_that_only_reads_is_an_outage_to_a_writer(database: Database) -> None:
    with pytest.raises(StoreUnavailableError):
        async with database.transaction(TENANT) as connection:
            await connection.execute("SET TRANSACTION READ ONLY; DELETE FROM tenant")


async def amid_a_statement(settings: DatabaseSettings, connection: asyncpg.Connection) -> None:
    await asyncio.gather(
        connection.execute("SELECT pg_sleep(60)"), end_backend(settings, connection)
    )


async def between_statements(settings: DatabaseSettings, connection: asyncpg.Connection) -> None:
    await end_backend(settings, connection)
    await connection.fetchval("SELECT 1")


@pytest.mark.parametrize("end", [amid_a_statement, between_statements])
@pytest.mark.parametrize("way", ["transaction", "snapshot", "maintenance", "command"])
async def test_a_connection_that_the_server_ends_is_an_outage(
    database: Database,
    settings: DatabaseSettings,
    way: str,
    end: Callable[[DatabaseSettings, asyncpg.Connection], Awaitable[None]],
) -> None:
    opened = {
        "transaction": lambda: database.transaction(TENANT),
        "snapshot": lambda: database.snapshot(TENANT),
        "maintenance": database.maintenance,
        "command": lambda: owner_connection(settings),
    }[way]()
    with pytest.raises(StoreUnavailableError) as caught:
        async with opened as connection:
            await end(settings, connection)
    assert not caught.value.outcome_unknown
    assert status_of(caught.value) == 503
    await database.ping()


async def test_a_commit_on_a_connection_that_was_ended_may_have_taken_effect(
    database: Database, settings: DatabaseSettings
) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        async with database.transaction(TENANT) as connection:
            await end_backend(settings, connection)
    assert caught.value.outcome_unknown


async def test_an_error_on_a_connection_that_was_ended_stays_what_it_is(
    database: Database, settings: DatabaseSettings
) -> None:
    async def ended_and_found_nothing(connection: asyncpg.Connection) -> None:
        await end_backend(settings, connection)
        raise NotFoundError("image")

    with pytest.raises(NotFoundError):
        async with database.transaction(TENANT) as connection:
            await ended_and_found_nothing(connection)


async def test_a_statement_that_takes_too_long_is_an_outage(database: Database) -> None:
    with pytest.raises(StoreUnavailableError):
        async with database.transaction(TENANT) as connection:
            await connection.execute("SELECT pg_sleep(60)", timeout=0.05)
    await database.ping()


async def test_a_closed_pool_is_an_outage(database: Database) -> None:
    await database.close()
    with pytest.raises(StoreUnavailableError):
        await database.ping()


@pytest.mark.parametrize(
    "changed", [{"port": 1}, {"dbname": "nowhere"}, {"user": "nobody we know"}], ids=str
)
async def test_a_server_that_cannot_be_reached_is_a_matter_of_the_configuration(
    postgres: EmbeddedAddress, changed: dict[str, object]
) -> None:
    reach = {
        "host": postgres.socket_dir,
        "port": postgres.port,
        "dbname": postgres.dbname,
        "user": postgres.user,
        **changed,
    }
    wrong = DatabaseSettings(
        **reach, password="", max_connections=1, acquire_timeout_s=10.0, statement_timeout_s=30.0
    )
    with pytest.raises(ConfigError, match="cannot be used"):
        await Database.open(wrong)
    with pytest.raises(ConfigError, match="cannot be used"):
        async with owner_connection(wrong):
            pass


class Shop:
    """The ingesting use case, whose tries are counted and whose first one meets trouble."""

    def __init__(
        self, database: Database, uploads: Path, monkeypatch: pytest.MonkeyPatch, trouble: Use
    ) -> None:
        self.tries = 0
        self.uploads = uploads
        self._analyzer = MadeUpAnalyzer()
        self._ingest = IngestPhoto(
            self._analyzer,
            Repository(database, SearchSettings(200)),
            FolderBlobStore(uploads),
            space=ModelSpace("made-up/1"),
            rule=fixed_rule(0.5),
            retry_s=60.0,
            on_face=lambda matched: None,
        )
        whole = TenantWriter.insert_photo

        async def insert_photo(writer: TenantWriter, *args: object, **named: object) -> object:
            self.tries += 1
            if self.tries == 1:
                await trouble(writer._connection)
            return await whole(writer, *args, **named)

        monkeypatch.setattr(TenantWriter, "insert_photo", insert_photo)

    async def insert(self) -> IngestedPhoto:
        photo = source(self._analyzer.add(person(1)))
        return await self._ingest(TENANT, photo, StageClock(), free_ticket())


async def test_a_photo_is_stored_at_the_second_try_when_the_server_ended_the_first(
    database: Database,
    settings: DatabaseSettings,
    uploads: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ended(connection: asyncpg.Connection) -> None:
        await end_backend(settings, connection)

    shop = Shop(database, uploads, monkeypatch, ended)
    photo = await shop.insert()
    assert shop.tries == 2
    assert len(photo.faces) == 1
    assert len(files_below(uploads)) == 1


async def test_a_wrong_argument_fails_a_photo_at_once_and_leaves_nothing(
    database: Database, uploads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(database, uploads, monkeypatch, too_few_arguments)
    with pytest.raises(asyncpg.InterfaceError, match="expects 2 arguments"):
        await shop.insert()
    assert shop.tries == 1
    assert files_below(uploads) == []


@pytest.mark.parametrize(
    ("host", "environment"),
    [
        ("no such host", {}),
        ("h\u00f6st..example", {}),
        ("x" * 300, {}),
        ("/nowhere", {}),
        ("127.0.0.1", {"PGSSLMODE": "rubbish"}),
        ("127.0.0.1", {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "/nowhere"}),
        ("127.0.0.1", {"PGTARGETSESSIONATTRS": "rubbish"}),
    ],
)
async def test_an_address_or_environment_that_cannot_work_is_one_line(
    host: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = DatabaseSettings(host, 1, "facette", "facette", "secret", 2, 10.0, 30.0)
    for opening in (Database.open(settings), owner_connection(settings).__aenter__()):
        with pytest.raises(ConfigError, match="cannot be used: ") as caught:
            await opening
        assert "\n" not in caught.value.message
        assert "secret" not in caught.value.message

"""Where a command works: the database and the blobs of the configuration, running or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg

from service.app.settings import blob_place, database_settings
from service.config import Config
from service.domain.errors import ConfigError
from service.store.blob.opening import open_blob_store
from service.store.database.database import (
    ACQUIRE_TIMEOUT_S,
    DatabaseSettings,
    owner_connection,
)
from service.store.embedded.server import has_database, running_server
from service.store.face.health import migration_state
from service.usecases.ports import BlobStore


@asynccontextmanager
async def database_of(config: Config, *, create: bool = False) -> AsyncIterator[DatabaseSettings]:
    """How to reach the database; the embedded one runs at least for the time of the block.

    Args:
        create: make an embedded database where there is none yet.

    Raises:
        ConfigError: there is none, or it does not start.
    """
    async with AsyncExitStack() as stack:
        data_dir = config.paths.data_dir
        running = running_server(data_dir) if config.database is None else None
        if running is not None:  # it is the service's, and is left running
            pool = config.database_pool
            yield DatabaseSettings(
                running.socket_dir,
                running.port,
                running.dbname,
                running.user,
                "",
                pool.max_connections,
                ACQUIRE_TIMEOUT_S,
                pool.statement_timeout_s,
            )
            return
        if config.database is None and not create and not has_database(data_dir):
            raise ConfigError(
                f"there is no embedded database in {data_dir} yet: it is made when the service "
                "starts"
            )
        yield database_settings(config, stack)


@asynccontextmanager
async def current_database(config: Config) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the tables' owner, to a database with the schema of this release.

    Raises:
        ConfigError: it cannot be reached, or its schema is another.
        StoreUnavailableError: the connection broke.
    """
    async with database_of(config) as settings, owner_connection(settings) as connection:
        state = await migration_state(connection)
        if state.unknown or state.edited:
            raise ConfigError("the database has the schema of another release")
        if state.missing:
            raise ConfigError("the database lacks migrations: run `facette migrate` first")
        yield connection


async def blobs_of(config: Config) -> BlobStore:
    """The blob store; a folder that is not there is not made, since a disk may not be mounted.

    Raises:
        ConfigError: it cannot be used.
    """
    place = blob_place(config)
    if isinstance(place, Path) and not place.is_dir():
        raise ConfigError(f"paths.upload_dir: there is no folder {place}")
    return await open_blob_store(place)

"""The database and the blob store that a command works on, while the service runs or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg

from service.app.settings import BlobPlace, DatabasePlace, EmbeddedPlace, database_at
from service.domain.errors import ConfigError
from service.runtime.catalogue import ModelSet, model_set_of_space, named_model_set
from service.runtime.manifest import EmbeddingFacts, load_manifest
from service.store.access.keys import Connections
from service.store.blob.opening import open_blob_store
from service.store.database.active_model import active_model
from service.store.database.database import DatabaseSettings, owner_connection
from service.store.embedded.server import has_database, running_server
from service.store.face.health import migration_state
from service.usecases.ports import BlobStore


@asynccontextmanager
async def database_of(
    place: DatabasePlace, *, create: bool = False
) -> AsyncIterator[DatabaseSettings]:
    """The settings of a client; an embedded server runs at least until the block ends.

    Args:
        create: create an embedded database where there is none.

    Raises:
        ConfigError: there is no database, or its server does not start.
    """
    async with AsyncExitStack() as stack:
        if isinstance(place, EmbeddedPlace):
            running = running_server(place.data_dir)
            if running is not None:  # started by the service, and left running
                yield place.settings_at(running)
                return
            if not create and not has_database(place.data_dir):
                raise ConfigError(
                    f"there is no embedded database in {place.data_dir} yet: the service creates "
                    "it when it starts"
                )
        yield database_at(place, stack)


@asynccontextmanager
async def current_database(place: DatabasePlace) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the owner of the tables, to a database with the schema of this release.

    Raises:
        ConfigError: the database cannot be reached, or has another schema.
        StoreUnavailableError: the connection broke.
    """
    async with database_of(place) as settings, owner_connection(settings) as connection:
        state = await migration_state(connection)
        if state.unknown or state.edited:
            raise ConfigError("the database has the schema of another release")
        if state.missing:
            raise ConfigError("the database lacks migrations: run `facette migrate` first")
        yield connection


async def serving_embedding(
    connection: asyncpg.Connection, models_dir: Path, first_model: str
) -> tuple[ModelSet, EmbeddingFacts]:
    """The models that the database is searched by, and their embedding.

    Args:
        first_model: the name of the models of a database that has none yet.

    Raises:
        ModelError: the models are missing.
    """
    active = await active_model(connection)
    if active is None:
        models = named_model_set(models_dir, first_model)
    else:
        models = model_set_of_space(models_dir, active.space, active.name)
    embeddings = load_manifest(models.folder).models["embedder"].embeddings
    return models, next(each for each in embeddings if each.space == models.space)


def connections_of(connection: asyncpg.Connection) -> Connections:
    """Gives out the one connection of a command, again and again."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[asyncpg.Connection]:
        yield connection

    return opened


async def blobs_of(place: BlobPlace) -> BlobStore:
    """The blob store. A missing folder is not created: its disk may not be mounted.

    Raises:
        ConfigError: the blob store cannot be used.
    """
    if isinstance(place, Path) and not place.is_dir():
        raise ConfigError(f"paths.upload_dir: there is no folder {place}")
    return await open_blob_store(place)

"""A real PostgreSQL with pgvector for a worker, and a fresh migrated database for each test."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from service.store.database import Database, DatabaseSettings
from service.store.embedded import EmbeddedAddress, embedded_server
from service.store.embedded_settings import EmbeddedSettings
from service.store.migrations import migrate
from tests.conftest import open_folder

_TEMPLATE = "facette_template"
_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 4 << 30
_SETTINGS = EmbeddedSettings(shared_buffers_mb=256, max_wal_size_mb=256)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedAddress]:
    """A server whose files lie in memory, where there is room for them.

    A database is 300 files, and every test makes and drops one. ext4 gives no file the inode of one
    that went within the last five seconds, and looks at each of those before it finds another.
    """
    is_roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES
    with (
        open_folder(_MEMORY if is_roomy else None) as folder,
        embedded_server(folder, _SETTINGS) as address,
    ):
        yield address


async def _connect(address: EmbeddedAddress, database: str) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=address.socket_dir, port=address.port, user=address.user, database=database
    )


@pytest.fixture
async def empty_database(postgres: EmbeddedAddress) -> AsyncIterator[DatabaseSettings]:
    """A database without any table."""
    async for settings in _database(postgres, "template0"):
        yield settings


@pytest.fixture
async def database(postgres: EmbeddedAddress) -> AsyncIterator[Database]:
    """A migrated database, copied from a template that is migrated once."""
    admin = await _connect(postgres, postgres.dbname)
    if not await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", _TEMPLATE):
        await admin.execute(f"CREATE DATABASE {_TEMPLATE}")
        template = await _connect(postgres, _TEMPLATE)
        await migrate(template)
        await template.close()
    await admin.close()
    async for settings in _database(postgres, _TEMPLATE):
        found = await Database.open(settings)
        yield found
        await found.close()


async def _database(address: EmbeddedAddress, template: str) -> AsyncIterator[DatabaseSettings]:
    name = f"test_{uuid4().hex}"
    admin = await _connect(address, address.dbname)
    await admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield DatabaseSettings(address.socket_dir, address.port, name, address.user, "", 8, 10.0, 30.0)
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    return tmp_path / "uploads"

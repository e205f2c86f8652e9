"""What all tests share: photos, the exported models, a running service, a database each."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest

from bench.common.photos import faces_folder
from bench.common.server import ServiceProcess
from service.store.database.database import Database, DatabaseSettings
from service.store.database.migrations import migrate
from service.store.embedded.server import EmbeddedAddress, embedded_server
from service.store.embedded.settings import EmbeddedSettings
from tests.support.folders import ROOT, open_folder


def _packaged(package: str, path: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / path


@pytest.fixture(scope="session")
def faces_dir() -> Path:
    """The folder of real photos and labelled pairs; tests that need it skip without."""
    folder = faces_folder()
    if not (folder / "pairs.csv").is_file():
        pytest.skip("no labelled photos: set FACES_DIR to a folder with pairs.csv")
    return folder


@pytest.fixture(scope="session")
def portraits() -> list[Path]:
    """Two public-domain portraits of two people, shipped with packages of the test extra."""
    return [
        _packaged("skimage", "data/astronaut.png"),
        _packaged("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ]


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The exported models; `make test` exports them first."""
    folder = ROOT / "models"
    assert (folder / "manifest.json").is_file(), "run `make export` first"
    return folder


@pytest.fixture
def service_folder() -> Iterator[Path]:
    """A folder for one service with its database."""
    with open_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def service(models_dir: Path) -> Iterator[ServiceProcess]:
    """One running service for all tests of a worker; tests keep apart by tenant."""
    with open_folder() as folder:
        process = ServiceProcess(folder, models_dir).start()
        yield process
        assert process.stop() == 0


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[httpx.Client]:
    """An authenticated client of the shared service."""
    with service.client() as found:
        yield found


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test knows."""
    return f"tenant-{uuid4().hex}"


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

"""Installations that archives come from and go to, and an archive of a tenant."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.store.database.database import Database, DatabaseSettings
from tests.support.archive_house import VICTIM, House, State, Untouched, fill, fill_house
from tests.support.databases import Databases


async def _fill_with_victim(database: Database, uploads: Path) -> None:
    await fill(House.of(database, uploads), VICTIM, seed=5)


@dataclass(slots=True)
class _Made:
    """What a test made that later ones use.

    archive: where the archive is. untouched: the installation that nothing but refused imports has
    seen: its database, its photos, and its state.
    """

    archive: Path | None = None
    untouched: tuple[DatabaseSettings, Path, State] | None = None


@pytest.fixture(scope="module")
def _made() -> _Made:
    return _Made()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where an archive may be written."""
    return tmp_path / "tenant.tar"


@pytest.fixture
async def house(databases: Databases, uploads: Path) -> House:
    """An installation with one tenant."""
    return House.of(await databases.filled(fill_house, uploads), uploads)


@pytest.fixture
async def with_victim(databases: Databases, tmp_path: Path) -> House:
    """An installation with another tenant."""
    uploads = tmp_path / "with victim"
    return House.of(await databases.filled(_fill_with_victim, uploads), uploads)


@pytest.fixture
async def untouched(
    databases: Databases, _made: _Made, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Untouched]:
    """Like `with_victim`, for imports that must be refused."""
    if _made.untouched is None:
        uploads = tmp_path_factory.mktemp("untouched")
        settings = await databases.kept(_fill_with_victim, uploads)
        house = House.of(await databases.opened(settings), uploads)
        _made.untouched = settings, uploads, await house.state()
    else:
        settings, uploads, _ = _made.untouched
        house = House.of(await databases.opened(settings), uploads)
    found = Untouched(house, _made.untouched[2])
    yield found
    if found.is_touched:
        _made.untouched = None


@pytest.fixture
async def archive(
    databases: Databases,
    _made: _Made,
    path: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """An archive of the tenant of `house`, at `path`; a test may write to it."""
    if _made.archive is None:
        uploads = tmp_path / "exported"
        house = House.of(await databases.filled(fill_house, uploads), uploads)
        written = tmp_path_factory.mktemp("archive") / path.name
        await house.export(written)
        _made.archive = written
    shutil.copy(_made.archive, path)
    return path

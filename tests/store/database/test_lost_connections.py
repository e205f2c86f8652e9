"""A connection breaks once its work is done: what was committed is not taken for lost."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg
import pytest

from service.domain.errors import StoreUnavailableError
from service.domain.types import TenantId
from service.store.database.database import Database
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from tests.support.analysed import OF_NOBODY

TENANT = TenantId("tenant")


@pytest.fixture
def repository(database: Database) -> Repository:
    return Repository(database, SearchSettings(200))


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[asyncpg.Connection]]:
    """The connections that broke: each, as the pool makes it ready for its next use."""
    broken: list[asyncpg.Connection] = []

    async def reset(connection: asyncpg.Connection, **_: object) -> None:
        broken.append(connection)
        raise asyncpg.ConnectionDoesNotExistError("connection was closed")

    with monkeypatch.context() as patch:
        patch.setattr(asyncpg.Connection, "_reset", reset)
        yield broken


async def test_what_was_committed_counts_though_its_connection_breaks_afterwards(
    repository: Repository, breaks: list[asyncpg.Connection]
) -> None:
    async with repository.inserting(TENANT, OF_NOBODY):
        pass
    async with repository.writing(TENANT):  # raises where there is no such tenant
        pass
    assert len(breaks) == 2
    assert all(connection.is_closed() for connection in breaks)


async def test_what_was_read_counts_though_its_connection_breaks_afterwards(
    database: Database, breaks: list[asyncpg.Connection]
) -> None:
    async with database.snapshot(TENANT) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    assert len(breaks) == 1


async def test_an_error_within_a_transaction_is_not_hidden_by_one_after_it(
    repository: Repository, breaks: list[asyncpg.Connection]
) -> None:
    with pytest.raises(StoreUnavailableError, match="full"):
        async with repository.inserting(TENANT, OF_NOBODY):
            raise StoreUnavailableError("full")
    assert len(breaks) == 1

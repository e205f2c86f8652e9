"""A blob store belongs to one database, and a sweep from another one removes nothing there."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from service.domain.errors import ForeignBlobsError
from service.domain.types import ImageId, Swept, TenantId
from service.store.blob.folder import FolderBlobStore
from service.store.blob.index import DatabaseSweepTurns
from service.store.blob.names import OWNER_MARK, S3Settings, is_ours
from service.store.blob.opening import open_blob_store
from service.store.database.database import Database, DatabaseSettings
from service.usecases.ports import BlobStore
from service.usecases.sweep import SweepBlobs, SweepSchedule
from tests.support.moto_server import BUCKET, S3Server

pytestmark = pytest.mark.xdist_group("bucket")
GRACE_S = 900.0


@pytest.fixture
def bucket(server: S3Server) -> S3Settings:
    """A place in the bucket that no other test uses."""
    return server.settings(url=f"s3://{BUCKET}/{uuid4().hex}/photos/")


@pytest.fixture(params=["folder", "bucket"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    place = tmp_path if request.param == "folder" else request.getfixturevalue("bucket")
    return await open_blob_store(place)


@pytest.fixture
async def other_database(empty_database: DatabaseSettings) -> AsyncIterator[Database]:
    """Migrated on its own, so with an identity of its own."""
    found = await Database.open(empty_database)
    yield found
    await found.close()


async def put_orphan(blobs: BlobStore) -> str:
    key = blobs.key(TenantId("t"), ImageId(str(uuid4())), "jpg")
    await blobs.put(key, b"bytes")
    return key


def sweep_of(database: Database, blobs: BlobStore) -> SweepBlobs:
    """A sweep for which every blob is old enough, by the whole seconds of a bucket's clock."""
    return SweepBlobs(blobs, DatabaseSweepTurns(database), grace_s=-2.0)


async def keys_of(blobs: BlobStore) -> set[str]:
    return {blob.key async for blob in blobs.listing()}


async def identity(database: Database) -> str:
    async with DatabaseSweepTurns(database).take() as index:
        assert index is not None
        return await index.database_id()


async def remove_mark(blobs: BlobStore) -> None:
    """As an operator does: no row may name it, so the store itself does not."""
    assert await blobs.delete([OWNER_MARK]) == [OWNER_MARK]
    if isinstance(blobs, FolderBlobStore):
        (blobs._root / OWNER_MARK).unlink()
    else:
        await blobs._client.delete_async([OWNER_MARK])


async def test_first_sweep_marks_the_store_and_sweeps(database: Database, blobs: BlobStore) -> None:
    assert await blobs.owner() is None
    await put_orphan(blobs)
    assert await sweep_of(database, blobs)() == Swept(removed=1, left=0)
    assert await blobs.owner() == await identity(database)


async def test_sweep_from_another_database_removes_nothing(
    database: Database, other_database: Database, blobs: BlobStore
) -> None:
    await sweep_of(database, blobs)()
    key = await put_orphan(blobs)
    with pytest.raises(ForeignBlobsError) as caught:
        await sweep_of(other_database, blobs)()
    assert await keys_of(blobs) == {key}
    for said in (await identity(database), await identity(other_database), OWNER_MARK):
        assert said in caught.value.message
    assert await sweep_of(database, blobs)() == Swept(removed=1, left=0)


async def test_store_whose_mark_was_removed_belongs_to_the_next_that_sweeps(
    database: Database, other_database: Database, blobs: BlobStore
) -> None:
    await sweep_of(database, blobs)()
    await put_orphan(blobs)
    await remove_mark(blobs)
    assert await sweep_of(other_database, blobs)() == Swept(removed=1, left=0)
    with pytest.raises(ForeignBlobsError):
        await sweep_of(database, blobs)()


async def test_copy_of_a_database_sweeps_its_blobs(database: Database, blobs: BlobStore) -> None:
    """As after a restore: another database, the same rows, and so the same identity."""
    await sweep_of(database, blobs)()
    await put_orphan(blobs)
    settings = database._settings
    await database.close()
    copied = replace(settings, dbname=f"copy_{uuid4().hex}")
    admin = await Database.open(replace(settings, dbname="postgres"))
    async with admin.maintenance() as connection:
        await connection.execute(f"CREATE DATABASE {copied.dbname} TEMPLATE {settings.dbname}")
        copy = await Database.open(copied)
        assert await sweep_of(copy, blobs)() == Swept(removed=1, left=0)
        await copy.close()
        await connection.execute(f"DROP DATABASE {copied.dbname} WITH (FORCE)")
    await admin.close()


async def test_two_databases_that_come_at_once_do_not_both_own_the_store(
    blobs: BlobStore,
) -> None:
    ids = [str(uuid4()) for _ in range(8)]
    await asyncio.gather(*(blobs.claim(each) for each in ids))
    owner = await blobs.owner()
    assert owner in ids
    await blobs.claim(str(uuid4()))
    assert await blobs.owner() == owner


async def test_mark_is_no_blob(blobs: BlobStore) -> None:
    await blobs.claim(str(uuid4()))
    assert not is_ours(OWNER_MARK)
    assert await keys_of(blobs) == set()


async def test_mark_that_was_damaged_is_nobodys_leave_to_sweep(
    database: Database, tmp_path: Path
) -> None:
    blobs = FolderBlobStore(tmp_path)
    key = await put_orphan(blobs)
    for damaged in (b"", b"\xff\xfe\n", b"something else"):
        (tmp_path / OWNER_MARK).write_bytes(damaged)
        with pytest.raises(ForeignBlobsError):
            await sweep_of(database, blobs)()
    assert await keys_of(blobs) == {key}


async def test_refused_sweep_is_one_error_line_and_counts_as_a_failure(
    database: Database,
    other_database: Database,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    blobs = FolderBlobStore(tmp_path)
    await sweep_of(database, blobs)()
    key = await put_orphan(blobs)
    hour_ago = time.time() - 3600
    os.utime(tmp_path / key, (hour_ago, hour_ago))
    failed, done = asyncio.Event(), []
    schedule = SweepSchedule(on_swept=done.append, on_failure=failed.set)
    sweep = SweepBlobs(blobs, DatabaseSweepTurns(other_database), grace_s=GRACE_S)
    schedule.follow(sweep, interval_s=3600)
    task = asyncio.create_task(schedule.run())
    await asyncio.wait_for(failed.wait(), 30)
    task.cancel()
    await asyncio.wait([task])
    assert done == []
    (line,) = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert line.levelno == logging.ERROR
    assert "paths.upload_dir" in line.getMessage()
    assert OWNER_MARK in line.getMessage()
    assert await keys_of(blobs) == {key}


async def test_store_is_marked_where_sweeps_are_off(database: Database, tmp_path: Path) -> None:
    blobs = FolderBlobStore(tmp_path)
    key = await put_orphan(blobs)
    schedule = SweepSchedule(on_swept=lambda swept: None, on_failure=lambda: None)
    schedule.follow(sweep_of(database, blobs), interval_s=0)
    task = asyncio.create_task(schedule.run())
    async with asyncio.timeout(30):
        while await blobs.owner() is None:  # noqa: ASYNC110 - another task's doing
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert await keys_of(blobs) == {key}

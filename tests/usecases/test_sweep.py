"""Blobs that no row names are removed, and nothing else is, whoever inserts at the same time."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest

from bench.common.photos import source
from service.batching import free_ticket
from service.domain.errors import NotFoundError, StoreUnavailableError
from service.domain.matching import ClusterQuery, fixed_rule
from service.domain.types import (
    ImageId,
    IngestedPhoto,
    ModelSpace,
    Swept,
    TenantId,
)
from service.store.blob.folder import FolderBlobStore
from service.store.blob.index import DatabaseBlobIndex, DatabaseSweepTurns
from service.store.blob.names import OWNER_MARK, folder_of
from service.store.database.database import Database
from service.store.database.statements import SQL
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.telemetry import StageClock
from service.usecases.curate import Curate
from service.usecases.ingest import IngestPhoto
from service.usecases.ports import BlobStore
from service.usecases.sweep import SweepBlobs, SweepSchedule
from tests.support.analysed import OF_NOBODY, MadeUpAnalyzer, files_below, person

TENANT, OTHER = TenantId("tenant"), TenantId("ünother / one")
GRACE_S = 900.0
OLD_S = 2 * GRACE_S


class House:
    """Ingesting, curating and sweeping over one database and one folder."""

    def __init__(self, database: Database, uploads: Path) -> None:
        self.database = database
        self.uploads = uploads
        self.analyzer = MadeUpAnalyzer()
        self.repository = Repository(database, SearchSettings(200))
        self.blobs = FolderBlobStore(uploads)
        self.turns = DatabaseSweepTurns(database)

    async def insert(
        self,
        tenant: TenantId = TENANT,
        *,
        into: BlobStore | None = None,
        grace_s: float = GRACE_S,
        keep: bool = True,
    ) -> IngestedPhoto:
        ingest = IngestPhoto(
            self.analyzer,
            self.repository,
            (into or self.blobs) if keep else None,
            space=ModelSpace("made-up/1"),
            rule=fixed_rule(0.5),
            orphan_grace_s=grace_s,
            on_face=lambda matched: None,
        )
        data = self.analyzer.add(person(1), person(2))
        return await ingest(tenant, source(data), StageClock(), free_ticket())

    async def put(self, tenant: TenantId = TENANT, *, age_s: float = OLD_S) -> str:
        """A blob that no row names."""
        key = self.blobs.key(tenant, ImageId(str(uuid4())), "jpg")
        await self.blobs.put(key, b"bytes")
        self.age([key], age_s)
        return key

    def age(self, keys: Iterable[str], age_s: float = OLD_S) -> None:
        """Make files older than they are."""
        then = time.time() - age_s
        for key in keys:
            os.utime(self.uploads / key, (then, then))

    async def sweep(self, blobs: BlobStore | None = None) -> Swept | None:
        return await SweepBlobs(blobs or self.blobs, self.turns, grace_s=GRACE_S)()

    @property
    def files(self) -> list[str]:
        return [key for key in files_below(self.uploads) if key != OWNER_MARK]

    async def missing(self) -> set[str]:
        """Blobs that rows name and that are not there: there must never be one."""
        async with self.database.maintenance() as connection:
            rows = await connection.fetch("SELECT blob_key FROM image WHERE blob_key IS NOT NULL")
        return {row["blob_key"] for row in rows} - set(self.files)


@pytest.fixture
def house(database: Database, uploads: Path) -> House:
    return House(database, uploads)


async def test_old_blobs_without_a_row_go_and_those_with_one_stay(house: House) -> None:
    await house.insert()
    await house.insert(OTHER)
    named = house.files
    house.age(named)
    for tenant in (TENANT, OTHER, TenantId("never seen")):
        await house.put(tenant)
    assert await house.sweep() == Swept(removed=3, left=0)
    assert house.files == named
    assert await house.sweep() == Swept(removed=0, left=0)


async def test_thumbnails_stay_with_their_image_and_go_without_it(house: House) -> None:
    stored, nobody = (await house.insert()).image_id, ImageId(str(uuid4()))
    named = house.files
    small = [
        house.blobs.thumbnail_key(tenant, image, 256)
        for tenant, image in ((TENANT, stored), (TENANT, nobody), (OTHER, stored))
    ]
    for key in small:
        await house.blobs.put(key, b"small")
    assert await house.sweep() == Swept(removed=0, left=0)  # all are young
    house.age(small)
    assert await house.sweep() == Swept(removed=2, left=0)
    assert house.files == sorted([*named, small[0]])


async def test_thumbnail_of_an_image_whose_bytes_are_not_kept_stays(house: House) -> None:
    image = (await house.insert(keep=False)).image_id
    key = house.blobs.thumbnail_key(TENANT, image, 128)
    await house.blobs.put(key, b"small")
    house.age([key])
    assert await house.sweep() == Swept(removed=0, left=0)
    assert house.files == [key]


async def test_young_blob_without_a_row_stays(house: House) -> None:
    young = await house.put(age_s=GRACE_S - 60)
    assert await house.sweep() == Swept(removed=0, left=0)
    assert house.files == [young]


async def test_age_counts_by_the_clock_of_the_store(house: House) -> None:
    class Late(FolderBlobStore):
        """Stamps files an hour late, as a server whose clock is behind."""

        async def now(self) -> datetime:
            return await super().now() - timedelta(hours=1)

    young = await house.put(age_s=3600)
    assert await house.sweep(Late(house.uploads)) == Swept(removed=0, left=0)
    assert house.files == [young]


async def test_old_unfinished_files_go_and_young_ones_stay(house: House) -> None:
    await house.insert()
    (named,) = house.files
    old = [f"{folder_of(TENANT)}/.part-a_1", f"{folder_of(OTHER)}/.part-b_2", ".part-c_3"]
    young = f"{folder_of(TENANT)}/.part-d_4"
    for key in (*old, young):
        (house.uploads / key).parent.mkdir(exist_ok=True)
        (house.uploads / key).write_bytes(b"half of a photo")
    house.age([*old, named])
    assert await house.sweep() == Swept(removed=3, left=0)
    assert set(house.files) == {named, young}


async def test_files_of_somebody_else_stay(house: House) -> None:
    await house.insert()
    folder = house.uploads / folder_of(TENANT)
    others = [folder / "notes.txt", house.uploads / "notes.txt", house.uploads / "x" / "y.jpg"]
    for other in others:
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(b"somebody's")
    before = house.files
    house.age(before)
    assert await house.sweep() == Swept(removed=0, left=0)
    assert house.files == before


class CountingDeletes(FolderBlobStore):
    """How many blobs it was asked to delete each time."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: list[int] = []

    async def delete(self, keys: Iterable[str]) -> list[str]:
        keys = list(keys)
        self.asked.append(len(keys))
        return await super().delete(keys)


async def test_more_blobs_than_are_looked_up_at_once_are_all_swept(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.usecases.sweep._BATCH", 100)
    monkeypatch.setattr("service.usecases.sweep._REMOVED_AT_ONCE", 10)
    for number in range(3):
        await house.insert(TenantId(str(number)))
    named = house.files
    await asyncio.gather(*(house.put(TenantId(str(number % 5))) for number in range(234)))
    house.age(named)
    counting = CountingDeletes(house.uploads)
    assert await house.sweep(counting) == Swept(removed=234, left=0)
    assert house.files == named
    # Inserts wait for each removal, so none of them is of many.
    assert sum(counting.asked) == 234
    assert max(counting.asked) == 10


@pytest.mark.parametrize("what", ["image", "tenant"])
async def test_bytes_that_a_deletion_could_not_remove_are_swept(house: House, what: str) -> None:
    class Stuck(FolderBlobStore):
        async def delete(self, keys: Iterable[str]) -> list[str]:
            return list(keys)

    photo = await house.insert()
    orphans: list[int] = []
    curate = Curate(house.repository, Stuck(house.uploads), on_orphans=orphans.append)
    if what == "image":
        await curate.delete_image(TENANT, photo.image_id)
    else:
        await curate.delete_tenant(TENANT)
    assert orphans == [1]
    house.age(house.files)
    assert await house.sweep(Stuck(house.uploads)) == Swept(removed=0, left=1)
    assert await house.sweep() == Swept(removed=1, left=0)
    assert house.files == []


async def test_deletion_that_removes_its_bytes_leaves_nothing_to_sweep(house: House) -> None:
    photo = await house.insert()
    curate = Curate(house.repository, house.blobs, on_orphans=lambda n: None)
    await curate.delete_image(TENANT, photo.image_id)
    assert house.files == []


class Slow(FolderBlobStore):
    """Ages every first blob at once, as if its insert had waited for longer than the grace."""

    def __init__(self, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(house.uploads)
        self.puts: list[str] = []
        self._house = house
        self._monkeypatch = monkeypatch

    async def put(self, key: str, data: bytes) -> str:
        digest = await super().put(key, data)
        self.puts.append(key)
        if self.puts.count(key) == 1:
            self._house.age([key])
            # The insert's clock alone: the event loop would take every wait for over.
            later = SimpleNamespace(monotonic=lambda: time.monotonic() + OLD_S)
            self._monkeypatch.setattr("service.usecases.ingest.time", later)
        return digest


@pytest.mark.parametrize("known", [True, False], ids=["known tenant", "new tenant"])
async def test_insert_that_waits_beyond_the_grace_keeps_its_blob(
    house: House, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr("service.store.blob.index._LONGEST_WAIT_FOR_LOCKS", "50ms")
    if known:
        await house.insert()
    slow = Slow(house, monkeypatch)
    async with house.repository.inserting(TENANT, OF_NOBODY):
        inserting = asyncio.create_task(house.insert(into=slow))
        await until(lambda: bool(slow.puts))
        # The sweep cannot have the tenant's lock, so it leaves the blob to the next one.
        assert await house.sweep() == Swept(removed=0, left=1)
        assert slow.puts[0] in house.files
    await inserting
    assert slow.puts == [slow.puts[0]] * 2
    assert await house.sweep() == Swept(removed=0, left=0)
    assert await house.missing() == set()


async def test_blob_swept_before_its_insert_has_the_lock_is_put_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(house, monkeypatch)
    waiting, go_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def inserting(tenant_id: TenantId, query: ClusterQuery) -> AsyncIterator[object]:
        waiting.set()
        await go_on.wait()
        async with Repository.inserting(house.repository, tenant_id, query) as opened:
            yield opened

    monkeypatch.setattr(house.repository, "inserting", inserting)
    inserting = asyncio.create_task(house.insert(into=slow))
    await waiting.wait()
    assert await house.sweep() == Swept(removed=1, left=0)
    assert house.files == []
    go_on.set()
    await inserting
    assert house.files == [slow.puts[0]]
    assert await house.missing() == set()


async def test_blob_of_an_insert_in_time_is_put_once(house: House, database: Database) -> None:
    puts: list[str] = []

    class Counting(FolderBlobStore):
        async def put(self, key: str, data: bytes) -> str:
            puts.append(key)
            return await super().put(key, data)

    await house.insert(into=Counting(house.uploads))
    assert len(puts) == 1


async def test_no_image_is_stored_between_the_last_look_and_the_removal(house: House) -> None:
    """Whoever inserts waits until the sweep has removed, with a tenant that is there or is not."""
    await house.insert()
    for tenant in (TENANT, OTHER):
        key = await house.put(tenant)
        async with house.turns.take() as index:
            assert index is not None
            await index.named_blobs([key])
            async with index.unnamed_for_good([key]) as unnamed:
                assert unnamed == [key]
                inserting = asyncio.create_task(house.insert(tenant))
                done, _ = await asyncio.wait([inserting], timeout=0.3)
                assert not done
        await inserting
    assert await house.missing() == set()


async def test_others_insert_while_a_known_tenant_is_swept(house: House) -> None:
    await house.insert()
    key = await house.put()
    async with house.turns.take() as index:
        assert index is not None
        await index.named_blobs([key])
        async with index.unnamed_for_good([key]):
            await house.insert(OTHER)


async def test_tenant_that_stays_locked_is_waited_for_once_and_swept_the_next_time(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.insert()
    await asyncio.gather(*(house.put() for _ in range(250)))
    exclude_inserts = DatabaseBlobIndex._exclude_inserts
    waits: list[int] = []

    async def counted(self: DatabaseBlobIndex, keys: Sequence[str]) -> None:
        waits.append(len(keys))
        await exclude_inserts(self, keys)

    monkeypatch.setattr(DatabaseBlobIndex, "_exclude_inserts", counted)
    monkeypatch.setattr("service.store.blob.index._LONGEST_WAIT_FOR_LOCKS", "50ms")
    async with house.repository.writing(TENANT):
        assert await house.sweep() == Swept(removed=0, left=250)
    assert waits == [100]
    assert await house.sweep() == Swept(removed=250, left=0)
    assert await house.missing() == set()


async def test_tenant_that_no_caller_can_name_does_not_stop_the_sweep(house: House) -> None:
    """One of before its id was forbidden: its row cannot be changed, and so not be locked."""
    async with house.database.maintenance() as connection:
        (check,) = await connection.fetchrow(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'tenant_id_check'"
        )
        await connection.execute("ALTER TABLE tenant DROP CONSTRAINT tenant_id_check")
        await connection.execute("INSERT INTO tenant (tenant_id) VALUES ('')")
        await connection.execute(f"ALTER TABLE tenant ADD CONSTRAINT tenant_id_check {check}")
    await house.insert()
    await house.put(TenantId(""))
    await house.put()
    assert await house.sweep() == Swept(removed=1, left=1)


async def test_row_that_comes_between_the_two_looks_keeps_its_blob(house: House) -> None:
    async with house.turns.take() as index:
        assert index is not None
        photo = await house.insert()
        key = house.blobs.key(TENANT, photo.image_id, "jpg")
        async with index.unnamed_for_good([key]) as unnamed:
            assert unnamed == []


async def test_only_one_process_sweeps_at_a_time(house: House) -> None:
    await house.put()
    async with house.turns.take() as index:
        assert index is not None
        assert await house.sweep() is None
    assert await house.sweep() == Swept(removed=1, left=0)


async def test_many_inserts_and_deletes_amid_sweeps_never_lose_a_blob(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every blob is past its grace at once, so that only the lock and putting again save it."""
    curate = Curate(house.repository, house.blobs, on_orphans=lambda n: None)
    sweep = SweepBlobs(house.blobs, house.turns, grace_s=0.0)
    enough = False

    async def keep_sweeping() -> int:
        times = 0
        while not enough:
            times += 1
            await sweep()
        return times

    async def use(tenant: TenantId) -> None:
        for number in range(12):
            photo = await house.insert(tenant, grace_s=0.0)
            if number % 3 == 0:
                await curate.delete_image(tenant, photo.image_id)
            if number == 7:
                await curate.delete_tenant(tenant)

    sweeping = asyncio.create_task(keep_sweeping())
    results = await asyncio.gather(
        *(use(TenantId(f"t{number % 3}")) for number in range(6)), return_exceptions=True
    )
    enough = True
    assert await sweeping > 1
    # Two users share a tenant: one may delete what the other was about to.
    assert {type(result) for result in results} <= {type(None), NotFoundError}
    assert await house.missing() == set()


async def test_keeping_no_images_writes_no_file_and_names_no_blob(house: House) -> None:
    photo = await house.insert(keep=False)
    assert list(house.uploads.rglob("*")) == []
    async with house.database.snapshot(TENANT) as connection:
        row = await connection.fetchrow("SELECT blob_key, sha256 FROM image")
    assert row is not None
    assert row["blob_key"] is None
    assert len(row["sha256"]) == 64
    curate = Curate(house.repository, house.blobs, on_orphans=lambda n: None)
    receipt = await curate.delete_image(TENANT, photo.image_id)
    assert (receipt.images, receipt.faces, receipt.files) == (1, 2, 0)


async def test_images_are_looked_up_by_their_primary_key(house: House) -> None:
    async with house.database.maintenance() as connection:
        await connection.execute("INSERT INTO tenant SELECT 't' || n FROM generate_series(1, 9) n")
        await connection.execute(
            "INSERT INTO image (tenant_id, image_id, blob_key, format, width, height, size_bytes,"
            " sha256, phash) SELECT tenant, id, left(encode(sha256(tenant::bytea), 'hex'), 32)"
            " || '/' || id || '.jpg', 'jpeg', 1, 1, 1, repeat('0', 64), repeat('0', 16)"
            " FROM (SELECT 't' || (n % 9 + 1) AS tenant, gen_random_uuid() AS id"
            " FROM generate_series(1, 20000) n) AS made"
        )
        for _ in range(2):  # also where the planner knows nothing of the table yet
            plan = await connection.fetch(
                "EXPLAIN " + SQL["blob_keys_of_images"], ["t1"] * 1000, [uuid4()] * 1000
            )
            text = "\n".join(row[0] for row in plan)
            assert "Index Scan using image_pkey" in text, text
            assert "Seq Scan" not in text, text
            await connection.execute("ANALYZE image")


async def test_folder_of_a_tenant_is_the_same_in_the_database(house: House) -> None:
    tenants = [TENANT, OTHER, TenantId("漢字 \\ ' \" %")]
    for tenant in tenants:
        await house.insert(tenant)
    async with house.database.maintenance() as connection:
        rows = await connection.fetch(
            SQL["tenants_of_folders"], [folder_of(tenant) for tenant in tenants]
        )
    assert {row["tenant_id"]: row["folder"] for row in rows} == {
        tenant: folder_of(tenant) for tenant in tenants
    }


async def test_database_that_is_away_fails_the_sweep_and_the_next_one_succeeds(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await house.put()
    away = True

    class Away(DatabaseSweepTurns):
        @asynccontextmanager
        async def take(self) -> AsyncIterator[DatabaseBlobIndex | None]:
            if away:
                raise StoreUnavailableError("The database does not answer; try again shortly.")
            async with super().take() as index:
                yield index

    done: list[Swept] = []
    failures: list[int] = []
    schedule = SweepSchedule(on_swept=done.append, on_failure=lambda: failures.append(1))
    schedule.follow(SweepBlobs(house.blobs, Away(house.database), grace_s=GRACE_S), interval_s=0.05)
    task = asyncio.create_task(schedule.run())
    await until(lambda: len(failures) >= 2)
    assert not task.done()
    away = False
    await until(lambda: bool(done))
    assert done[0] == Swept(removed=1, left=0)
    assert "sweep for orphan blobs failed" in caplog.text
    task.cancel()
    await asyncio.wait([task])


async def test_sweep_that_breaks_unexpectedly_does_not_end_the_schedule() -> None:
    failures: list[int] = []
    schedule = SweepSchedule(on_swept=lambda swept: None, on_failure=lambda: failures.append(1))

    async def broken() -> Swept | None:
        raise ZeroDivisionError

    schedule.follow(broken, interval_s=0.01)  # type: ignore[arg-type]
    task = asyncio.create_task(schedule.run())
    await until(lambda: len(failures) >= 3)
    task.cancel()
    await asyncio.wait([task])


async def test_interval_of_zero_never_sweeps_until_another_is_set(house: House) -> None:
    key = await house.put()
    done: list[Swept] = []
    schedule = SweepSchedule(on_swept=done.append, on_failure=lambda: None)
    sweep = SweepBlobs(house.blobs, house.turns, grace_s=GRACE_S)
    schedule.follow(sweep, interval_s=0)
    task = asyncio.create_task(schedule.run())
    await asyncio.sleep(0.2)
    assert house.files == [key]
    schedule.follow(sweep, interval_s=3600)
    await until(lambda: bool(done))
    assert house.files == []
    task.cancel()
    await asyncio.wait([task])


async def test_sweep_that_removed_something_says_so_in_one_line(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await house.sweep()
    assert "orphan blobs" not in caplog.text
    await house.put()
    await house.put(OTHER)
    await house.sweep()
    (line,) = [each for each in caplog.records if "orphan blobs removed" in each.message]
    assert line.fields == {"removed": 2, "left": 0}  # type: ignore[attr-defined]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.01)

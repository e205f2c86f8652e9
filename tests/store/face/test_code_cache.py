"""The binary codes of a large tenant: read from the database, kept up to date, and gone in time."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import cache
from pathlib import Path
from uuid import UUID

import asyncpg
import numpy as np
import pytest

from bench.common.crowd import SPACE, Crowd, crowd, id_of, load, number_of
from service.domain.errors import StoreUnavailableError
from service.domain.matching import ClusterQuery, fixed_rule
from service.domain.types import (
    ClusterId,
    FaceDistance,
    FaceId,
    ImageId,
    ModelSpace,
    TenantId,
)
from service.index.codes import Codes, FaceCodes, Ids, Snapshot, code_of
from service.store.database.database import Database
from service.store.face import code_cache, search
from service.store.face.code_cache import CodeCache
from service.store.face.indexer import Indexer, IndexSettings
from service.store.face.repository import Repository
from service.store.face.search import ClusterSearch, SearchSettings
from tests.support.databases import Databases

LARGE = TenantId("large")
INDEXED = IndexSettings(1000, 100, 16, 64, 64, 0, 3600.0)
SEARCH = SearchSettings(ef_search=200)

# They share a database with an index.
pytestmark = pytest.mark.xdist_group("code cache")


class Held:
    """A large tenant with an index, and the codes of its faces."""

    def __init__(self, database: Database, owner: asyncpg.Connection, people: Crowd) -> None:
        self.database = database
        self.owner = owner
        self.people = people
        self.sizes: list[int] = []
        self.told = asyncio.Event()
        self.codes = CodeCache(database, on_size=self.take_note)

    def take_note(self, size: int) -> None:
        self.sizes.append(size)
        self.told.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that changes with what is held."""
        while not condition():
            self.told.clear()
            await self.told.wait()

    async def look_up(
        self, *embeddings: np.ndarray, by: str | None = "codes", probes: int | None = None
    ) -> list[list[FaceDistance]]:
        """What matching compares new faces with, which must be found this way; None: any way."""
        paths: list[str] = []
        async with self.database.transaction(LARGE) as connection:
            clusters = ClusterSearch(connection, LARGE, SEARCH, self.codes, paths.append)
            finds = await clusters.look_up(ClusterQuery(embeddings, SPACE, fixed_rule(0.5)))
        assert by is None or list(dict.fromkeys(paths)) == by.split()
        assert probes in (None, len(paths))
        return finds.near

    async def store(self, face: np.ndarray, number: int) -> None:
        """Put a face with this number into the cluster of the first one."""
        async with self.owner.transaction():
            await self.owner.execute(
                "INSERT INTO face (tenant_id, face_id, image_id, cluster_id, box, landmarks, area,"
                " confidence, is_auto_matched) SELECT tenant_id, $2, image_id, cluster_id, box,"
                " landmarks, area, confidence, true FROM face"
                " WHERE tenant_id = $1 AND face_id = $3",
                LARGE,
                id_of(number),
                id_of(0),
            )
            await self.owner.execute(
                "INSERT INTO face_vector (tenant_id, face_id, model_space, embedding)"
                " VALUES ($1, $2, $3, $4)",
                LARGE,
                id_of(number),
                SPACE,
                face,
            )

    async def delete(self, numbers: np.ndarray) -> None:
        async with self.database.transaction(LARGE) as connection:
            await connection.execute(
                "DELETE FROM face WHERE tenant_id = $1 AND face_id = ANY($2)",
                LARGE,
                [id_of(int(number)) for number in numbers],
            )

    async def until_held(self, faces: int) -> None:
        """Wait until so many faces are held."""
        await self.until(lambda: self.codes.has(LARGE, SPACE) and self.held() == faces)

    def near(self, face: np.ndarray) -> set[int]:
        """Numbers of the faces with the nearest codes."""
        codes = self.codes.of(LARGE, SPACE, 0)
        assert codes is not None
        near = codes.snapshot.nearest(code_of(face), 10**6, 20)
        return {UUID(bytes=each).int - 1 for each in near.tolist()}

    def held(self) -> int:
        """How many faces are held."""
        codes = self.codes.of(LARGE, SPACE, 0)
        assert codes is not None
        return len(codes)


def like_nobody() -> np.ndarray:
    """A face far from all that are held: one probe shows that."""
    face = np.random.default_rng(4).standard_normal(512)
    return (face / np.linalg.norm(face)).astype(np.float32)


@asynccontextmanager
async def another(held: Held) -> AsyncIterator[Held]:
    """Another process that holds the same tenant, and follows deletions."""
    other = Held(held.database, held.owner, held.people)
    async with running(other.codes):
        await other.codes.following.wait()
        await other.codes.refresh(LARGE, SPACE)
        yield other


_people = cache(lambda: crowd(2000, seed=1))


async def _fill(database: Database, _: Path) -> None:
    async with database.maintenance() as owner:
        await load(owner, LARGE, _people())
        await Indexer(database, INDEXED).round()


@pytest.fixture
async def held(databases: Databases, uploads: Path) -> AsyncIterator[Held]:
    database = await databases.filled(_fill, uploads)
    async with database.maintenance() as owner:
        yield Held(database, owner, _people())


@asynccontextmanager
async def running(codes: CodeCache) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(codes.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_codes_are_those_that_the_database_would_make(held: Held) -> None:
    face = held.people.faces[5]
    sent = await held.owner.fetchval(
        "SELECT bit_send(binary_quantize(embedding)::bit(512)) FROM face_vector WHERE face_id = $1",
        id_of(5),
    )
    assert sent[4:] == code_of(face).tobytes()


async def test_codes_are_read_when_a_search_wants_them_and_used_from_then_on(held: Held) -> None:
    async with running(held.codes):
        await held.look_up(held.people.faces[0], by="index")
        await held.until(lambda: held.codes.has(LARGE, SPACE))
        await held.look_up(held.people.faces[0], probes=1)
    assert held.held() == 2000
    assert held.sizes[-1] == held.codes.size_bytes > 2000 * 80


async def test_matching_finds_the_nearest_faces(held: Held) -> None:
    await held.codes.refresh(LARGE, SPACE)
    queries = held.people.more_faces(100, np.random.default_rng(1))
    best = np.argmax(queries @ held.people.faces.T, axis=1)
    hits = 0
    for query, number in zip(queries, best, strict=True):
        ((nearest, *_),) = await held.look_up(query)
        hits += number_of(nearest.face_id) == number
    assert hits >= 98


@pytest.mark.parametrize("on_loop", [0, 10**6])
async def test_only_small_probes_run_on_the_event_loop(
    held: Held, monkeypatch: pytest.MonkeyPatch, on_loop: int
) -> None:
    await held.codes.refresh(LARGE, SPACE)
    threads: list[int] = []
    nearest = Snapshot.nearest

    def noted(self: Snapshot, code: Codes, pivots: int, wanted: int) -> Ids:
        threads.append(threading.get_ident())
        return nearest(self, code, pivots, wanted)

    monkeypatch.setattr(Snapshot, "nearest", noted)
    monkeypatch.setattr(search, "_MAX_CODES_ON_LOOP", on_loop)
    await held.look_up(held.people.faces[0], probes=1)
    assert [thread == threading.get_ident() for thread in threads] == [on_loop > 0]


async def test_a_photo_of_several_faces_is_matched_at_once(held: Held) -> None:
    await held.codes.refresh(LARGE, SPACE)
    queries = held.people.more_faces(5, np.random.default_rng(2))
    near = await held.look_up(*queries)
    best = np.argmax(queries @ held.people.faces.T, axis=1)
    assert [number_of(faces[0].face_id) for faces in near] == best.tolist()
    for faces in near:
        assert len(faces) >= 5
        assert [face.distance for face in faces] == sorted(face.distance for face in faces)


async def test_who_has_nobody_close_is_looked_for_again(held: Held) -> None:
    await held.codes.refresh(LARGE, SPACE)
    await held.look_up(held.people.faces[0], probes=1)
    await held.look_up(crowd(10, seed=3).faces[0], probes=2)


async def test_a_face_that_came_since_is_found_before_and_after_its_code_is_held(
    held: Held,
) -> None:
    await held.codes.refresh(LARGE, SPACE)
    face = like_nobody()
    await held.store(face, 5000)
    for size in (2000, 2001):
        assert held.held() == size
        ((nearest, *_),) = await held.look_up(face, probes=1)
        assert number_of(nearest.face_id) == 5000
        await held.codes.refresh(LARGE, SPACE)


async def test_a_face_whose_code_is_taken_in_during_the_search_is_found(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.codes.refresh(LARGE, SPACE)
    face = like_nobody()
    near_by_code = search.near_by_code

    async def slow(*asked: object) -> list[UUID]:
        ids = await near_by_code(*asked)
        if held.held() == 2000:
            await held.store(face, 5000)
            await held.codes.refresh(LARGE, SPACE)
        return ids

    monkeypatch.setattr(search, "near_by_code", slow)
    ((nearest, *_),) = await held.look_up(face, probes=1)
    assert held.held() == 2001
    assert number_of(nearest.face_id) == 5000


async def test_faces_that_come_get_their_codes_by_themselves(held: Held) -> None:
    async with running(held.codes):
        await held.codes.refresh(LARGE, SPACE)
        await held.store(held.people.faces[0], 5000)
        while held.held() < 2001:
            await held.look_up(held.people.faces[1])


async def test_more_faces_than_are_worth_adding_are_read_with_the_others(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.codes.refresh(LARGE, SPACE)
    former = held.codes.of(LARGE, SPACE, 0)
    monkeypatch.setattr(code_cache, "_MAX_ADDED", 2)
    monkeypatch.setattr(code_cache, "_READ_AT_ONCE", 700)
    for number in (5000, 5001, 5002):
        await held.store(held.people.faces[number - 5000], number)
    await held.codes.refresh(LARGE, SPACE)
    assert held.codes.of(LARGE, SPACE, 0) is not former
    assert held.held() == 2003


async def test_a_face_behind_many_deleted_ones_is_found(held: Held) -> None:
    await held.codes.refresh(LARGE, SPACE)
    query = held.people.faces[0]
    order = np.argsort(-(held.people.faces @ query))
    await held.delete(order[:900])
    ((nearest, *_),) = await held.look_up(query)
    # So far away one is as near as another, and a code says so only roughly.
    assert number_of(nearest.face_id) in order[900:]
    assert nearest.distance <= 1 - float(held.people.faces[order[900]] @ query) + 0.1


async def test_behind_very_many_deleted_ones_all_faces_are_compared(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.codes.refresh(LARGE, SPACE)
    order = np.argsort(-(held.people.faces @ held.people.faces[0]))
    await held.delete(order[:900])
    monkeypatch.setattr(search, "_MOST_FROM_INDEX", 100)
    ((nearest, *_),) = await held.look_up(held.people.faces[0], by="codes exact", probes=2)
    assert number_of(nearest.face_id) == order[900]


async def test_what_was_deleted_is_not_held_for_ever(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.codes.refresh(LARGE, SPACE)
    await held.delete(np.arange(500))
    await held.codes.refresh(LARGE, SPACE)
    assert held.held() == 2000
    monkeypatch.setattr(code_cache, "_MAX_AGE_S", 0.0)
    await held.codes.refresh(LARGE, SPACE)
    assert held.held() == 1500


async def test_who_was_asked_for_is_read_anew_and_who_was_not_goes(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.codes.refresh(LARGE, SPACE)
    assert held.held() == 2000  # that is to ask
    reads: list[int] = []
    read = CodeCache._read

    async def counted(self: CodeCache, key: tuple[TenantId, ModelSpace]) -> FaceCodes:
        codes = await read(self, key)
        reads.append(len(codes))
        return codes

    monkeypatch.setattr(CodeCache, "_read", counted)
    monkeypatch.setattr(code_cache, "_MAX_AGE_S", 0.0)
    monkeypatch.setattr(code_cache, "_AGE_CHECK_S", 0.01)
    async with running(held.codes):
        await held.until(lambda: not held.codes.has(LARGE, SPACE))
    assert set(reads) == {2000}
    assert held.sizes[-1] == 0


async def test_what_nobody_asks_for_goes_while_others_are_asked_for(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_cache, "_MAX_AGE_S", 0.0)
    monkeypatch.setattr(code_cache, "_AGE_CHECK_S", 0.05)
    monkeypatch.setattr(code_cache, "_BETWEEN_REFRESHES_S", 0.0)
    busy = TenantId("busy")
    await load(held.owner, busy, crowd(300, seed=5))
    for tenant in (busy, LARGE):
        await held.codes.refresh(tenant, SPACE)
    async with running(held.codes):

        def is_gone() -> bool:
            held.codes.of(busy, SPACE, 10**12)  # new faces, all the time
            return not held.codes.has(LARGE, SPACE)

        await held.until(is_gone)


async def test_a_face_deleted_through_one_process_leaves_the_codes_of_another(held: Held) -> None:
    repository = Repository(held.database, SEARCH, codes=held.codes)
    face = held.people.faces[7]
    async with another(held) as other:
        assert 7 in other.near(face)
        async with repository.writing(LARGE) as tenant:
            await tenant.delete_face(FaceId(str(id_of(7))))
        await other.until_held(1999)
        assert 7 not in other.near(face)
        ((nearest, *_),) = await other.look_up(face)
    others = np.delete(np.arange(2000), 7)
    best = others[np.argmax(held.people.faces[others] @ face)]
    assert number_of(nearest.face_id) == best


async def test_the_faces_of_a_deleted_image_and_of_a_deleted_cluster_leave_the_codes(
    held: Held,
) -> None:
    repository = Repository(held.database, SEARCH, codes=held.codes)
    for number in range(5000, 5300):  # more than one notification has room for, on one photo
        await held.store(held.people.faces[number - 5000], number)
    person = held.people.person_of[0]
    of_person = int((held.people.person_of == person).sum())
    async with another(held) as other:
        await other.until_held(2300)
        async with repository.writing(LARGE) as tenant:
            await tenant.delete_image(ImageId(str(id_of(0))))
        await other.until_held(1999)
        async with repository.writing(LARGE) as tenant:
            await tenant.delete_cluster(ClusterId(str(id_of(int(person)))))
        await other.until_held(2000 - of_person)


async def test_a_deletion_that_is_rolled_back_leaves_the_codes_as_they_are(held: Held) -> None:
    repository = Repository(held.database, SEARCH, codes=held.codes)
    async with another(held) as other:
        with suppress(ZeroDivisionError):
            async with repository.writing(LARGE) as tenant:
                await tenant.delete_face(FaceId(str(id_of(7))))
                raise ZeroDivisionError
        async with repository.writing(LARGE) as tenant:
            await tenant.delete_face(FaceId(str(id_of(8))))
        await other.until_held(1999)
        assert 7 in other.near(held.people.faces[7])


async def test_a_tenant_deleted_through_one_process_leaves_the_codes_of_another(held: Held) -> None:
    repository = Repository(held.database, SEARCH, codes=held.codes)
    async with another(held) as other:
        async with repository.writing(LARGE) as tenant:
            await tenant.delete_tenant()
        await other.until(lambda: not other.codes.has(LARGE, SPACE))
    assert other.codes.size_bytes == 0


async def test_a_face_deleted_while_the_codes_are_read_is_not_among_them(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository(held.database, SEARCH)
    read = CodeCache._read
    noticed = asyncio.Event()
    take_out = CodeCache._take_out

    async def told(self: CodeCache, payload: str) -> None:
        await take_out(self, payload)
        noticed.set()

    async def deleted_meanwhile(self: CodeCache, key: tuple[TenantId, ModelSpace]) -> object:
        codes = await read(self, key)
        async with repository.writing(LARGE) as tenant:
            await tenant.delete_face(FaceId(str(id_of(7))))
        await noticed.wait()
        return codes

    monkeypatch.setattr(CodeCache, "_read", deleted_meanwhile)
    monkeypatch.setattr(CodeCache, "_take_out", told)
    async with another(held) as other:
        assert 7 not in other.near(held.people.faces[7])


async def test_codes_are_read_anew_after_the_connection_for_deletions_was_lost(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_cache, "_RECONNECT_S", 0.01)
    async with another(held) as other:
        await held.delete(np.arange(10))  # unnoticed: no notification goes with it
        assert await held.owner.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'facette notifications'"
            " AND datname = current_database()"
        )
        await other.until_held(1990)


async def test_what_is_no_notification_of_deletions_is_passed_over(
    held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    digest = code_cache.tenant_digest(LARGE)
    with caplog.at_level(logging.WARNING):
        async with another(held) as other:
            for payload in (f"{digest} nonsense", "", "nobody", f"{digest} {id_of(3)}"):
                await held.owner.execute("SELECT pg_notify('facette_deletions', $1)", payload)
            await other.until_held(1999)
    assert [record.getMessage() for record in caplog.records] == [
        "a notification of deleted faces that says no ids"
    ]


async def test_under_a_bound_for_one_tenant_the_one_asked_for_last_is_held(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_cache, "_MIN_STAY_S", 0.0)
    other, people = TenantId("other"), crowd(2000, seed=5)
    await load(held.owner, other, people)
    await Indexer(held.database, INDEXED).round()
    await held.codes.refresh(LARGE, SPACE)
    held.codes.limit_memory(round(1.5 * held.codes.size_bytes))
    crowds = {LARGE: held.people, other: people}
    async with running(held.codes):
        for tenant, missing in ((other, LARGE), (LARGE, other), (other, LARGE)):
            query = crowds[tenant].more_faces(1, np.random.default_rng(3))[0]
            best = int(np.argmax(crowds[tenant].faces @ query))
            paths: list[str] = []
            for path in ("index", "codes"):
                if path == "codes":
                    await held.until(lambda tenant=tenant: held.codes.has(tenant, SPACE))
                async with held.database.transaction(tenant) as connection:
                    search_of = ClusterSearch(connection, tenant, SEARCH, held.codes, paths.append)
                    finds = await search_of.look_up(ClusterQuery((query,), SPACE, fixed_rule(0.5)))
                assert number_of(finds.near[0][0].face_id) == best
            assert list(dict.fromkeys(paths)) == ["index", "codes"]
            assert not held.codes.has(missing, SPACE)
            assert held.sizes[-1] == held.codes.size_bytes <= held.codes.max_bytes


async def test_codes_that_were_just_read_stay_and_the_other_tenant_is_not_read_again_and_again(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = TenantId("other")
    await load(held.owner, other, crowd(2000, seed=5))
    await held.codes.refresh(LARGE, SPACE)
    held.codes.limit_memory(round(1.5 * held.codes.size_bytes))
    await held.codes.refresh(other, SPACE)
    assert held.codes.has(LARGE, SPACE)
    assert not held.codes.has(other, SPACE)
    assert held.codes.of(other, SPACE, 0) is None
    assert not held.codes._wanted
    monkeypatch.setattr(code_cache, "_MIN_STAY_S", 0.0)
    async with running(held.codes):
        assert held.codes.of(other, SPACE, 0) is None
        await held.until(lambda: held.codes.has(other, SPACE))
    assert not held.codes.has(LARGE, SPACE)


async def test_a_tenant_whose_codes_alone_exceed_the_bound_is_searched_through_its_index(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.codes.limit_memory(2000 * 64)
    monkeypatch.setattr(code_cache, "_READ_AT_ONCE", 700)
    await held.codes.refresh(LARGE, SPACE)
    assert not held.codes.has(LARGE, SPACE)
    await held.look_up(held.people.faces[0], by="index")
    assert not held.codes._wanted  # they are not read again with each search
    assert held.codes.size_bytes == 0


async def test_the_sums_of_people_of_one_pivot_come_with_the_codes(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_cache, "_SUMS_READ_AT_ONCE", 50)
    await held.codes.refresh(LARGE, SPACE)
    codes = held.codes.of(LARGE, SPACE, 0)
    assert codes is not None
    now = codes.snapshot
    faces = np.array([UUID(bytes=each).int - 1 for each in now.ids[: now.count].tolist()])
    people, pivots = held.people.person_of[faces], now.pivot_of[: now.count]
    alone = 0
    for person in np.unique(people):
        of = np.unique(pivots[people == person])
        sums = now.sum_of[of]
        assert (sums >= 0).all() == (len(of) == 1)
        if len(of) == 1:
            alone += 1
            (total,), (count,) = now.sums.of(sums)
            own = held.people.faces[held.people.person_of == person]
            assert count == len(own)
            assert total == pytest.approx(own.sum(axis=0), abs=np.abs(total).max() / 250)
    assert alone == len(now.sums) > 200


async def test_where_only_the_codes_find_room_they_are_held_without_sums(held: Held) -> None:
    await held.codes.refresh(LARGE, SPACE)
    codes = held.codes.of(LARGE, SPACE, 0)
    assert codes is not None
    snapshot = codes.snapshot
    bound = held.codes.size_bytes - snapshot.sums.nbytes + 100
    held.codes = CodeCache(held.database, on_size=held.take_note, max_bytes=bound)
    await held.codes.refresh(LARGE, SPACE)
    assert held.held() == 2000
    assert held.sizes[-1] == held.codes.size_bytes <= bound
    await held.look_up(held.people.faces[0])


async def test_codes_that_grow_beyond_the_bound_are_dropped(held: Held) -> None:
    await held.codes.refresh(LARGE, SPACE)
    held.codes.limit_memory(held.codes.size_bytes + 50)
    await held.store(held.people.faces[0], 5000)
    await held.codes.refresh(LARGE, SPACE)
    assert not held.codes.has(LARGE, SPACE)
    assert held.sizes[-1] == 0


async def test_nothing_of_a_deleted_tenant_is_held(held: Held) -> None:
    await held.codes.refresh(LARGE, SPACE)
    repository = Repository(held.database, SEARCH, codes=held.codes)
    async with repository.writing(LARGE) as tenant:
        await tenant.delete_tenant()
    assert not held.codes.has(LARGE, SPACE)
    assert held.codes.size_bytes == 0


async def test_what_is_being_read_of_a_tenant_is_dropped_with_it(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = CodeCache._read

    async def deleted_meanwhile(self: CodeCache, key: tuple[TenantId, ModelSpace]) -> object:
        codes = await read(self, key)
        self.forget(LARGE)
        return codes

    monkeypatch.setattr(CodeCache, "_read", deleted_meanwhile)
    await held.codes.refresh(LARGE, SPACE)
    assert not held.codes.has(LARGE, SPACE)


async def test_codes_of_a_model_that_is_not_searched_by_are_not_read(held: Held) -> None:
    await held.owner.execute(
        "INSERT INTO embedding_model (model_space, name, is_active) VALUES ('other', 'o', true)"
    )
    await held.codes.refresh(LARGE, SPACE)
    assert not held.codes.has(LARGE, SPACE)


async def test_what_cannot_be_read_is_read_when_it_is_asked_for_again(
    held: Held, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read, fails = CodeCache._read, [StoreUnavailableError("It is gone."), ValueError("odd")]

    async def failing(self: CodeCache, key: tuple[TenantId, ModelSpace]) -> object:
        if fails:
            raise fails.pop()
        return await read(self, key)

    monkeypatch.setattr(CodeCache, "_read", failing)
    with caplog.at_level(logging.WARNING):
        async with running(held.codes) as task:
            await held.look_up(held.people.faces[0], by="index")
            while not held.codes.has(LARGE, SPACE):
                await held.look_up(held.people.faces[0], by=None)  # they may come meanwhile
                assert not task.done()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["codes of faces not read", "codes of faces not read: It is gone."]


async def test_faces_that_nothing_is_matched_against_have_no_codes_and_are_not_asked_for_again(
    held: Held,
) -> None:
    bad = "UPDATE face SET is_matchable = false WHERE face_id = ANY($1)"
    await held.owner.execute(bad, [id_of(number) for number in range(100)])
    await held.codes.refresh(LARGE, SPACE)
    assert held.held() == 1900
    await held.store(held.people.faces[0], 5000)
    await held.owner.execute(bad, [id_of(5000)])
    await held.codes.refresh(LARGE, SPACE)
    assert held.held() == 1900
    codes = held.codes.of(LARGE, SPACE, 0)
    assert codes is not None
    assert codes.last_seq == await held.owner.fetchval("SELECT max(seq) FROM face")


async def test_codes_of_a_tenant_without_faces_to_match_are_none(held: Held) -> None:
    await held.owner.execute("UPDATE face SET is_matchable = false")
    await held.codes.refresh(LARGE, SPACE)
    assert held.held() == 0


async def test_another_tenants_faces_are_not_among_the_codes(held: Held) -> None:
    other = TenantId("other")
    await load(held.owner, other, crowd(300, seed=5))
    await held.codes.refresh(other, SPACE)
    codes = held.codes.of(other, SPACE, 0)
    assert codes is not None
    assert len(codes) == 300
    near = codes.snapshot.nearest(code_of(held.people.faces[0]), 10**6, 10**6)
    assert {UUID(bytes=each).int for each in near.tolist()} == set(range(1, 301))

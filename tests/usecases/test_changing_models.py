"""A database changes its model: what is embedded, what is refused, and what can interrupt it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import asyncpg
import numpy as np
import pytest

from bench.common.photos import source
from service.batching import free_ticket
from service.domain.errors import (
    ConfigError,
    CorruptImageError,
    LostFacesError,
    MergedPersonError,
    ModelReplacedError,
)
from service.domain.matching import ClusterQuery, fixed_rule
from service.domain.people import PersonEdit
from service.domain.types import (
    Embedding,
    FacePlace,
    ImageId,
    IngestedPhoto,
    ModelSpace,
    TenantId,
)
from service.store.blob.folder import FolderBlobStore
from service.store.database.active_model import ActiveModel, active_model, adopt_model
from service.store.database.database import Database
from service.store.database.statements import SQL
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.store.face.vectors import open_vectors
from service.telemetry import StageClock
from service.usecases.curate import Curate
from service.usecases.ingest import IngestPhoto
from service.usecases.people import People
from service.usecases.reembed import Progress, Reembed
from tests.support.analysed import MadeUpAnalyzer, files_below, person, unit
from tests.support.rotated import rotation

ANNA, BERTA = TenantId("anna"), TenantId("berta's")
OLD, NEW = ActiveModel(ModelSpace("old/1"), "default"), ActiveModel(ModelSpace("new/1"), "other")
ROTATION = rotation(7)


class RotatingEmbedder:
    """Another model for made-up photos: their embeddings, rotated.

    A crop is the number of its embedding; `photos` are those of the analyzer.
    """

    def __init__(self, analyzer: MadeUpAnalyzer) -> None:
        self._analyzer = analyzer
        self._known: list[Embedding] = []
        self.embedded = 0

    def cut(self, data: bytes, places: Sequence[FacePlace], turned: int) -> list[np.ndarray | None]:
        if data not in self._analyzer.photos:
            raise CorruptImageError("The image ends early.")
        photo = self._analyzer.photos[data]
        by_place = {
            FacePlace(face.detection.box, face.detection.landmarks): face.embedding
            for face in photo.faces
        }
        assert turned == photo.turned
        self._known += [by_place[place] for place in places]
        return [np.array([len(self._known) - len(places) + nth]) for nth in range(len(places))]

    def embed(self, crops: Sequence[np.ndarray]) -> list[Embedding]:
        self.embedded += len(crops)
        return [unit(self._known[int(crop[0])] @ ROTATION) for crop in crops]


class Killed(Exception):  # noqa: N818
    """Ends the work at any moment."""


class House:
    """One database under two models, and photos of made-up people in it."""

    def __init__(self, database: Database, uploads: Path) -> None:
        self.database = database
        self.uploads = uploads
        self.blobs = FolderBlobStore(uploads)
        self.refused = 0
        self.repository = Repository(database, SearchSettings(200), on_replaced=self._count_refused)
        self.curate = Curate(self.repository, self.blobs, on_orphans=lambda n: None)
        self.analyzer = MadeUpAnalyzer()
        self.embedder = RotatingEmbedder(self.analyzer)

    def _count_refused(self) -> None:
        self.refused += 1

    async def insert(
        self,
        *embeddings: Embedding,
        tenant: TenantId = ANNA,
        model: ActiveModel = OLD,
        keep_bytes: bool = True,
        turned: int = 0,
    ) -> IngestedPhoto:
        """Insert a new photo, as a service with that model does."""
        data = self.analyzer.add(*embeddings)
        self.analyzer.photos[data] = replace(self.analyzer.photos[data], turned=turned)
        ingest = IngestPhoto(
            self.analyzer,
            self.repository,
            self.blobs if keep_bytes else None,
            space=model.space,
            rule=fixed_rule(0.5),
            on_face=lambda matched: None,
        )
        return await ingest(tenant, source(data), StageClock(), free_ticket())

    async def reembed(
        self,
        *,
        model: ActiveModel = NEW,
        leave_lost: bool = False,
        keep_old: bool = False,
        meanwhile: Callable[[], Awaitable[object]] | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> Progress:
        """Run the command; `meanwhile` happens after its first round over all faces."""
        waiting = [] if meanwhile is None else [meanwhile]

        async def build_indexes() -> bool:
            if waiting:
                await waiting.pop()()
            return True

        async with open_vectors(self.database, model) as vectors:
            return await Reembed(
                vectors,
                self.blobs,
                self.embedder,
                build_indexes,
                leave_lost=leave_lost,
                keep_old=keep_old,
                on_progress=on_progress,
            )()

    async def vectors(self) -> Counter[str]:
        """How many vectors there are of each space."""
        async with self.database.maintenance() as connection:
            rows = await connection.fetch(
                "SELECT model_space, count(*) FROM face_vector GROUP BY model_space"
            )
        return Counter({row["model_space"]: row["count"] for row in rows})

    async def file(self, image_id: ImageId) -> Path:
        async with self.database.maintenance() as connection:
            key = await connection.fetchval(
                "SELECT blob_key FROM image WHERE image_id = $1::text::uuid", image_id
            )
        return self.uploads / key

    async def active(self) -> ActiveModel | None:
        async with self.database.maintenance() as connection:
            return await active_model(connection)


def rotated(embedding: Embedding) -> Embedding:
    """The same face, as the new model sees it."""
    return unit(embedding @ ROTATION)


@pytest.fixture
async def house(database: Database, uploads: Path) -> House:
    async with database.maintenance() as connection:
        assert await adopt_model(connection, OLD, instead_of=None) == OLD
    return House(database, uploads)


async def test_known_people_are_known_by_the_new_model_in_the_clusters_that_they_had(
    house: House,
) -> None:
    first = await house.insert(person(1), person(2))
    moved = await house.curate.move_face(ANNA, first.faces[0].face_id, None)
    other = await house.insert(person(3), tenant=BERTA)
    reviews = await house.curate.reviews(ANNA, 0, 10)
    done = await house.reembed()
    assert (done.added, done.lost, done.deleted) == (3, 0, 3)
    assert await house.active() == NEW
    assert await house.vectors() == {NEW.space: 3}
    assert await house.curate.reviews(ANNA, 0, 10) == reviews
    again = await house.insert(rotated(person(1)), rotated(person(2)), model=NEW)
    assert [face.cluster_id for face in again.faces] == [moved, first.faces[1].cluster_id]
    assert all(face.distance is not None and face.distance < 0.001 for face in again.faces)
    elsewhere = await house.insert(rotated(person(3)), tenant=BERTA, model=NEW)
    assert elsewhere.faces[0].cluster_id == other.faces[0].cluster_id


async def test_names_covers_and_counts_of_people_stay(house: House) -> None:
    people = People(house.repository)
    first = await house.insert(person(1), person(2))
    await house.insert(person(1))
    anna, other = (face.cluster_id for face in first.faces)
    named = PersonEdit("Anna", "a-1", {"a": 1}, False, first.faces[0].face_id)
    await people.edit(ANNA, anna, named, None)
    gone = (await house.insert(person(3))).faces[0].cluster_id
    await people.merge(ANNA, gone, other, None)
    facts = [await people.person(ANNA, each) for each in (anna, other)]
    assert [(each.faces, each.images, each.cover_is_chosen) for each in facts] == [
        (2, 2, True),
        (2, 2, False),
    ]
    await house.reembed()
    assert [await people.person(ANNA, each) for each in (anna, other)] == facts
    with pytest.raises(MergedPersonError):
        await people.person(ANNA, gone)
    async with house.database.maintenance() as connection:
        for counts in ("tenants_counted_wrongly", "clusters_counted_wrongly"):
            assert await connection.fetchval(SQL[counts], None) == 0


async def test_faces_are_cut_out_of_photos_turned_as_they_were_found(house: House) -> None:
    for number, turned in enumerate((0, 270, 90, 180)):
        await house.insert(person(number), person(number + 10), turned=turned)
    assert (await house.reembed()).added == 8  # which the embedder says of each


async def test_equal_vectors_of_two_models_are_strangers(house: House) -> None:
    await house.insert(person(1))
    await house.reembed(keep_old=True)
    assert await house.vectors() == {OLD.space: 1, NEW.space: 1}
    # The very numbers that lie there under the old model.
    (face,) = (await house.insert(person(1), model=NEW)).faces
    assert not face.is_auto_matched


async def test_searches_use_the_former_model_until_the_change(house: House) -> None:
    (known,) = (await house.insert(person(1))).faces
    found: list[IngestedPhoto] = []

    async def insert_again() -> None:
        assert await house.vectors() == {OLD.space: 1, NEW.space: 1}
        found.append(await house.insert(person(1)))

    await house.reembed(meanwhile=insert_again)
    assert found[0].faces[0].cluster_id == known.cluster_id


async def test_inserts_under_the_former_model_are_refused_and_leave_nothing(house: House) -> None:
    await house.insert(person(1))
    await house.reembed()
    before = files_below(house.uploads)
    for tenant in (ANNA, BERTA):
        with pytest.raises(ModelReplacedError):
            await house.insert(person(2), tenant=tenant)
    assert house.refused == 2
    assert files_below(house.uploads) == before
    assert await house.vectors() == {NEW.space: 1}
    async with house.database.maintenance() as connection:
        assert await connection.fetchval("SELECT array_agg(tenant_id) FROM tenant") == [ANNA]


@pytest.mark.parametrize("times", [1, 7], ids=["new statements", "statements seen before"])
async def test_insert_that_waits_for_the_change_is_refused(house: House, times: int) -> None:
    """The lock comes before the look at the active model, whatever the statement's plan."""
    for _ in range(times):
        await house.insert(person(1))
    async with open_vectors(house.database, NEW) as vectors:
        async with vectors.changing() as alone:
            assert alone
            waiting = asyncio.create_task(house.insert(person(1)))
            await _until_somebody_waits(house.database)
            await vectors.activate()
        with pytest.raises(ModelReplacedError):
            await waiting
    assert await house.vectors() == {OLD.space: times}


async def test_change_is_put_off_while_an_insert_is_under_way(house: House) -> None:
    async with open_vectors(house.database, NEW) as vectors:
        query = ClusterQuery((), OLD.space, fixed_rule(0.5))
        async with house.repository.inserting(ANNA, query), vectors.changing() as alone:
            assert not alone
        async with vectors.changing() as alone:
            assert alone


async def test_faces_that_come_during_the_work_get_their_vectors_before_the_change(
    house: House,
) -> None:
    await house.insert(person(1))
    late: list[IngestedPhoto] = []

    async def insert_two() -> None:
        late.append(await house.insert(person(1), person(2)))
        late.append(await house.insert(person(3), tenant=BERTA))

    done = await house.reembed(meanwhile=insert_two)
    assert (done.added, done.lost) == (4, 0)
    assert await house.vectors() == {NEW.space: 4}
    (again,) = (await house.insert(rotated(person(2)), model=NEW)).faces
    assert again.cluster_id == late[0].faces[1].cluster_id


async def test_interrupted_work_goes_on_where_it_was(house: House) -> None:
    for number in range(30):
        await house.insert(*(person(5 * number + nth) for nth in range(5)))

    def interrupt(progress: Progress) -> None:
        if progress.added:
            raise Killed

    with pytest.raises(Killed):
        await house.reembed(on_progress=interrupt)
    done = (await house.vectors())[NEW.space]
    assert 0 < done < 150
    assert await house.active() == OLD
    assert (await house.reembed()).added == 150 - done
    assert house.embedder.embedded == 150
    assert await house.vectors() == {NEW.space: 150}


async def test_interrupted_deletion_of_old_vectors_goes_on_with_the_next_run(house: House) -> None:
    await house.insert(person(1))
    await house.reembed(keep_old=True)
    done = await house.reembed()
    assert (done.added, done.deleted) == (0, 1)
    assert await house.vectors() == {NEW.space: 1}


async def test_kept_vectors_make_the_way_back_short(house: House) -> None:
    (known,) = (await house.insert(person(1))).faces
    await house.reembed(keep_old=True)
    await house.insert(rotated(person(2)), model=NEW, tenant=BERTA)
    house.embedder.embedded = 0
    await house.reembed(model=OLD)
    assert house.embedder.embedded == 1  # the one that came in between
    assert await house.active() == OLD
    (again,) = (await house.insert(person(1))).faces
    assert again.cluster_id == known.cluster_id


async def test_faces_of_images_that_were_not_kept_stop_the_work_before_it_begins(
    house: House,
) -> None:
    await house.insert(person(1))
    await house.insert(person(2), keep_bytes=False)
    with pytest.raises(LostFacesError, match=r"1 faces .* not kept"):
        await house.reembed()
    assert house.embedder.embedded == 0
    assert await house.active() == OLD


async def test_missing_and_damaged_files_stop_the_change_and_not_the_work(house: House) -> None:
    gone, damaged, good = [await house.insert(person(number)) for number in (1, 2, 3)]
    (await house.file(gone.image_id)).unlink()
    (await house.file(damaged.image_id)).write_bytes(b"half a phot")
    with pytest.raises(LostFacesError, match=r"2 faces .* missing or cannot be read"):
        await house.reembed()
    assert await house.active() == OLD
    assert await house.vectors() == {OLD.space: 3, NEW.space: 1}
    assert (await house.insert(person(3))).faces[0].cluster_id == good.faces[0].cluster_id


async def test_lost_faces_that_are_left_keep_cluster_and_vector_and_are_found_no_more(
    house: House,
) -> None:
    lost = await house.insert(person(1), keep_bytes=False)
    await house.insert(person(2))
    done = await house.reembed(leave_lost=True)
    assert (done.added, done.lost) == (1, 1)
    assert await house.vectors() == {OLD.space: 1, NEW.space: 1}
    (face,) = lost.faces
    assert (await house.curate.face(ANNA, face.face_id)).cluster_id == face.cluster_id
    (again,) = (await house.insert(rotated(person(1)), model=NEW)).faces
    assert not again.is_auto_matched


async def test_image_that_is_deleted_during_the_work_is_no_loss(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, _ = [await house.insert(person(number)) for number in (1, 2)]
    read = house.blobs.get

    async def read_after_deletion(key: str) -> bytes:
        if gone.image_id in key:
            await house.curate.delete_image(ANNA, gone.image_id)
        return await read(key)

    monkeypatch.setattr(house.blobs, "get", read_after_deletion)
    done = await house.reembed()
    assert (done.added, done.lost) == (1, 0)
    assert await house.vectors() == {NEW.space: 1}


async def test_second_command_is_refused_while_one_works(house: House) -> None:
    async with open_vectors(house.database, NEW):
        with pytest.raises(ConfigError, match="another `facette reembed`"):
            await house.reembed()
    await house.reembed()


async def test_database_with_vectors_of_another_model_only_is_not_adopted(
    database: Database, uploads: Path
) -> None:
    house = House(database, uploads)
    await house.insert(person(1))  # before any model was chosen
    async with database.maintenance() as connection:
        with pytest.raises(ConfigError, match=r"old/1.* new/1: .*reembed --model other"):
            await adopt_model(connection, NEW, instead_of=None)
        assert await adopt_model(connection, OLD, instead_of=None) == OLD
        # Its vectors bind the database to it, whether or not its files are there.
        assert await adopt_model(connection, NEW, instead_of=OLD) == OLD
        await house.curate.delete_tenant(ANNA)
        assert await adopt_model(connection, NEW, instead_of=OLD) == NEW


async def test_processes_that_start_together_adopt_one_model(database: Database) -> None:
    async def adopt(model: ActiveModel) -> ActiveModel:
        async with database.maintenance() as connection:
            return await adopt_model(connection, model, instead_of=None)

    found = await asyncio.gather(*(adopt(model) for model in (OLD, NEW, OLD, NEW)))
    assert len(set(found)) == 1


async def test_service_may_not_change_the_model(database: Database) -> None:
    async with database.transaction(ANNA) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("UPDATE embedding_model SET is_active = false")


async def _until_somebody_waits(database: Database) -> None:
    async with asyncio.timeout(20), database.maintenance() as connection:
        while True:
            if await connection.fetchval("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                return
            await asyncio.sleep(0.01)

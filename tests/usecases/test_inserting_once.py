"""A photo that is sent again is stored once, within the tenant's limits, whatever failed before."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.common.photos import source
from service.batching import Ticket, free_ticket
from service.domain.errors import (
    DuplicateImageError,
    FacetteError,
    IdempotencyError,
    LimitReachedError,
    NotFoundError,
    StoreUnavailableError,
)
from service.domain.matching import Candidates, ClusterQuery, fixed_rule
from service.domain.people import KeptAnswer, TenantLimits
from service.domain.types import (
    AnalyzedPhoto,
    ImageId,
    IngestedPhoto,
    ModelSpace,
    PhotoSource,
    TenantId,
)
from service.store.blob.folder import FolderBlobStore
from service.store.database.database import Database
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.store.face.writes import TenantWriter
from service.telemetry import StageClock
from service.usecases.curate import Curate
from service.usecases.ingest import IngestPhoto, InsertCondition, OnDuplicate
from service.usecases.once import Once
from service.usecases.tenants import Tenants
from tests.support.analysed import MadeUpAnalyzer, files_below, person

TENANT = TenantId("tenant")
AT_ONCE = 6
Result = IngestedPhoto | KeptAnswer | ImageId


class CountingAnalyzer(MadeUpAnalyzer):
    """Counts what it analyses; with `together`, goes on once all of that many photos have come."""

    def __init__(self, together: int = 1) -> None:
        super().__init__()
        self.analysed = 0
        self._all_there = asyncio.Barrier(together)

    async def analyze(
        self, read: PhotoSource, clock: StageClock, ticket: Ticket, *, hashed: bool = True
    ) -> AnalyzedPhoto:
        self.analysed += 1
        await self._all_there.wait()
        return await super().analyze(read, clock, ticket, hashed=hashed)


class DeafRepository(Repository):
    """A repository whose first commits take effect while their answers are lost."""

    lost = 0

    @asynccontextmanager
    async def inserting(
        self, tenant_id: TenantId, query: ClusterQuery
    ) -> AsyncIterator[tuple[TenantWriter, Candidates]]:
        async with super().inserting(tenant_id, query) as opened:
            yield opened
        if self.lost:
            self.lost -= 1
            raise StoreUnavailableError("The connection broke.", outcome_unknown=True)


class House:
    """One tenant's photos in a database and a folder."""

    def __init__(self, database: Database, uploads: Path) -> None:
        self.database = database
        self.uploads = uploads
        self.blobs = FolderBlobStore(uploads)
        self.analyzer = CountingAnalyzer()
        self.repository = DeafRepository(database, SearchSettings(200))
        self.tenants = Tenants(self.repository)

    def ingest(self, retry_s: float = 60.0) -> IngestPhoto:
        return IngestPhoto(
            self.analyzer,
            self.repository,
            self.blobs,
            space=ModelSpace("made-up/1"),
            rule=fixed_rule(0.5),
            retry_s=retry_s,
            on_face=lambda matched: None,
        )

    async def insert(
        self,
        photo: bytes,
        key: str = "",
        on_duplicate: OnDuplicate = OnDuplicate.INSERT,
        *,
        is_limited: bool = False,
        retry_s: float = 60.0,
    ) -> Result:
        """Insert a photo of two people; its bytes are the fingerprint of the request."""
        self.analyzer.photos[photo] = self.analyzer.photos[self.analyzer.add(person(1), person(2))]
        sha256 = hashlib.sha256(photo).hexdigest()
        once = Once(key, photo, _rendered) if key else None
        condition = InsertCondition(on_duplicate, sha256, once, is_limited)
        return await self.ingest(retry_s).once(
            TENANT, source(photo), StageClock(), free_ticket(), condition
        )

    async def rows(self, table: str) -> int:
        async with self.database.maintenance() as connection:
            return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))

    async def age_answers(self) -> None:
        """Make all kept answers a day older."""
        async with self.database.maintenance() as connection:
            await connection.execute(
                "UPDATE kept_answer SET kept_at = kept_at - interval '1 day 1 second'"
            )

    async def assert_stored(self, images: int) -> None:
        """So many images are stored, and each has its file, and nothing else is in the folder."""
        assert await self.rows("image") == images
        assert len(files_below(self.uploads)) == images


def _rendered(photo: IngestedPhoto) -> tuple[int, bytes]:
    return 201, photo.image_id.encode() + b" %d" % len(photo.faces)


@pytest.fixture
def house(database: Database, uploads: Path) -> House:
    return House(database, uploads)


async def at_once(house: House, *photos: bytes, **how: object) -> Sequence[Result | BaseException]:
    """Insert photos at once; none is stored before all are analysed."""
    house.analyzer = CountingAnalyzer(len(photos))
    inserts = (house.insert(photo, **how) for photo in photos)  # type: ignore[arg-type]
    return await asyncio.gather(*inserts, return_exceptions=True)


async def test_equal_requests_at_once_store_one_image_and_have_one_answer(house: House) -> None:
    found = await at_once(house, *[b"photo"] * AT_ONCE, key="k")
    stored = [each for each in found if isinstance(each, IngestedPhoto)]
    kept = [each for each in found if isinstance(each, KeptAnswer)]
    assert (len(stored), len(kept)) == (1, AT_ONCE - 1)
    assert {(each.status, each.body) for each in kept} == {_rendered(stored[0])}
    await house.assert_stored(1)


async def test_of_different_requests_with_one_key_one_is_done(house: House) -> None:
    found = await at_once(house, b"a photo", b"another", key="k")
    assert {type(each) for each in found} == {IngestedPhoto, IdempotencyError}
    await house.assert_stored(1)


async def test_of_equal_files_at_once_one_is_stored_and_returned(house: House) -> None:
    found = await at_once(house, *[b"photo"] * AT_ONCE, on_duplicate=OnDuplicate.RETURN)
    (stored,) = (each for each in found if isinstance(each, IngestedPhoto))
    assert found.count(stored.image_id) == AT_ONCE - 1
    await house.assert_stored(1)


async def test_of_equal_files_at_once_all_but_one_are_refused(house: House) -> None:
    found = await at_once(house, *[b"photo"] * AT_ONCE, on_duplicate=OnDuplicate.REJECT)
    (stored,) = (each for each in found if isinstance(each, IngestedPhoto))
    refused = [each.image_id for each in found if isinstance(each, DuplicateImageError)]
    assert refused == [stored.image_id] * (AT_ONCE - 1)
    await house.assert_stored(1)


async def test_a_repeated_request_costs_no_second_analysis(house: House) -> None:
    first = await house.insert(b"photo", "k")
    assert isinstance(first, IngestedPhoto)
    assert await house.insert(b"photo", "k") == KeptAnswer(b"photo", *_rendered(first))
    assert house.analyzer.analysed == 1
    await house.assert_stored(1)


async def test_an_answer_is_kept_for_a_day(house: House) -> None:
    first = await house.insert(b"photo", "k")
    await house.age_answers()
    second = await house.insert(b"photo", "k")
    assert isinstance(first, IngestedPhoto)
    assert isinstance(second, IngestedPhoto)
    assert await house.insert(b"photo", "k") == KeptAnswer(b"photo", *_rendered(second))
    await house.assert_stored(2)


async def test_a_key_may_be_used_for_another_request_after_a_day(house: House) -> None:
    await house.insert(b"photo", "k")
    with pytest.raises(IdempotencyError):
        await house.insert(b"another", "k")
    await house.age_answers()
    assert isinstance(await house.insert(b"another", "k"), IngestedPhoto)


async def test_old_answers_are_removed_as_new_ones_come(house: House) -> None:
    for number in range(AT_ONCE):
        await house.insert(b"photo", f"old {number}")
    await house.age_answers()
    await house.insert(b"photo", "new")
    assert await house.rows("kept_answer") == 1


async def test_the_answers_of_an_erased_tenant_are_gone(house: House) -> None:
    await house.insert(b"photo", "k")
    await Curate(house.repository, house.blobs, on_orphans=lambda n: None).delete_tenant(TENANT)
    assert await house.rows("kept_answer") == 0
    assert isinstance(await house.insert(b"photo", "k"), IngestedPhoto)
    await house.assert_stored(1)


async def test_a_commit_whose_answer_was_lost_is_found_by_the_next_try(house: House) -> None:
    house.repository.lost = 1
    stored = await house.insert(b"photo", "k")
    assert isinstance(stored, IngestedPhoto)
    assert len(stored.faces) == 2
    assert await house.insert(b"photo", "k") == KeptAnswer(b"photo", *_rendered(stored))
    await house.assert_stored(1)


async def test_a_commit_whose_answer_was_lost_is_found_by_the_next_request(house: House) -> None:
    house.repository.lost = 1
    with pytest.raises(StoreUnavailableError) as caught:
        await house.insert(b"photo", "k", retry_s=0)
    assert caught.value.outcome_unknown
    kept = await house.insert(b"photo", "k")
    assert isinstance(kept, KeptAnswer)
    assert kept.body.endswith(b" 2")
    await house.assert_stored(1)


async def test_a_photo_without_room_leaves_nothing(house: House) -> None:
    await house.insert(b"photo")
    await house.tenants.limit(TENANT, TenantLimits(max_faces=3))
    with pytest.raises(LimitReachedError) as caught:
        await house.insert(b"another")
    assert (caught.value.limit, caught.value.maximum) == ("max_faces", 3)
    await house.assert_stored(1)


async def test_photos_at_once_fill_a_tenant_exactly(house: House) -> None:
    await house.insert(b"photo")
    await house.tenants.limit(TENANT, TenantLimits(max_images=3))
    found = await at_once(house, *[b"photo"] * AT_ONCE)
    assert sum(isinstance(each, IngestedPhoto) for each in found) == 2
    assert sum(isinstance(each, LimitReachedError) for each in found) == AT_ONCE - 2
    await house.assert_stored(3)


@pytest.mark.parametrize("limits", [{"max_images": 1}, {"max_faces": 2}, {"max_faces": 0}])
async def test_a_full_tenant_is_refused_before_the_analysis(
    house: House, limits: dict[str, int]
) -> None:
    await house.insert(b"photo")
    await house.tenants.limit(TENANT, TenantLimits(**limits))
    with pytest.raises(LimitReachedError):
        await house.insert(b"another", is_limited=True)
    assert house.analyzer.analysed == 1
    await house.assert_stored(1)


async def test_a_full_tenant_still_gives_answers_again(house: House) -> None:
    first = await house.insert(b"photo", "k")
    await house.tenants.limit(TENANT, TenantLimits(max_images=1))
    assert isinstance(first, IngestedPhoto)
    assert isinstance(await house.insert(b"photo", "k", is_limited=True), KeptAnswer)
    returned = await house.insert(b"photo", on_duplicate=OnDuplicate.RETURN, is_limited=True)
    assert returned == first.image_id


async def test_a_photo_makes_its_tenant(house: House) -> None:
    await house.ingest().check_tenant(TENANT)
    assert isinstance(await house.insert(b"photo", is_limited=True), IngestedPhoto)
    assert (await house.tenants.tenant(TENANT)).images == 1


@pytest.mark.parametrize("is_limited", [False, True])
async def test_a_photo_of_a_missing_tenant_leaves_nothing_where_it_makes_none(
    house: House, is_limited: bool
) -> None:
    house.repository.makes_tenants = False
    with pytest.raises(NotFoundError):
        await house.insert(b"photo", is_limited=is_limited)
    with pytest.raises(NotFoundError):
        await house.ingest().check_tenant(TENANT)
    assert house.analyzer.analysed == (0 if is_limited else 1)
    await house.assert_stored(0)


async def test_an_error_of_the_check_is_the_error_of_the_request(house: House) -> None:
    await house.insert(b"photo", "k")
    with pytest.raises(FacetteError) as caught:
        await house.insert(b"photo", "k2", OnDuplicate.REJECT)
    assert caught.value.code == "duplicate_image"

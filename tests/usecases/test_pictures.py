"""Photos come back as they were sent; a thumbnail is made once and never survives its photo."""

from __future__ import annotations

import asyncio
import hashlib
import io
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.common.photos import source
from service.batching import Ticket, free_ticket
from service.domain.errors import (
    CorruptImageError,
    DeadlineError,
    NotFoundError,
    OverloadedError,
    ParameterError,
    StoreUnavailableError,
    WithdrawnError,
)
from service.domain.matching import fixed_rule
from service.domain.types import (
    THUMBNAIL_SIZES,
    Box,
    FaceId,
    ImageId,
    IngestedPhoto,
    ModelSpace,
    PhotoSource,
    TenantId,
)
from service.store.blob.folder import FolderBlobStore
from service.store.database.database import Database
from service.store.face.files import StoredFiles
from service.store.face.repository import Repository
from service.store.face.search import SearchSettings
from service.telemetry import StageClock
from service.usecases.curate import Curate
from service.usecases.ingest import IngestPhoto
from service.usecases.pictures import Admit, Pictures
from service.usecases.shown import ShownPictures
from service.vision.formats.base import DecodeLimits
from service.vision.pictures import Picture, render
from tests.support.analysed import MadeUpAnalyzer, files_below, person, photo
from tests.support.odd_photos import save

TENANT, OTHER = TenantId("tenant"), TenantId("ünother / one")


class Renderer:
    """Makes pictures as the analyzer does, without its workers; a test may step in before."""

    def __init__(self) -> None:
        self.made: list[Picture] = []
        self.sizes: list[int] = []
        self.before: Callable[[Ticket], Awaitable[None]] | None = None

    async def thumbnail(self, read: PhotoSource, size: int, ticket: Ticket) -> bytes:
        return await self._render(read, Picture(size), ticket)

    async def crop(
        self, read: PhotoSource, box: Box, size: int, margin: float, ticket: Ticket
    ) -> bytes:
        return await self._render(read, Picture(size, box, margin), ticket)

    async def _render(self, read: PhotoSource, picture: Picture, ticket: Ticket) -> bytes:
        data = await read()
        self.made.append(picture)
        self.sizes.append(ticket.size_bytes)
        if self.before is not None:
            await self.before(ticket)
        ticket.check()
        return render(data, picture, DecodeLimits())


def admitted_by(ticket: Ticket | None = None) -> Admit:
    return lambda: nullcontext(ticket or free_ticket())


class StoppableBlobs(FolderBlobStore):
    """A folder whose next write calls back, before or after it is done."""

    before_put: Callable[[], Awaitable[None]] | None = None
    after_put: Callable[[], Awaitable[None]] | None = None

    async def put(self, key: str, data: bytes) -> str:
        if self.before_put is not None:
            await self.before_put()
        done = await super().put(key, data)
        if self.after_put is not None:
            await self.after_put()
        return done


class House:
    """Photos that are stored, shown and deleted over one database and one folder."""

    def __init__(self, database: Database, uploads: Path) -> None:
        self.uploads = uploads
        self.analyzer = MadeUpAnalyzer()
        self.repository = Repository(database, SearchSettings(200))
        self.blobs = StoppableBlobs(uploads)
        self.renderer = Renderer()
        self.pictures = Pictures(StoredFiles(database), self.blobs, self.renderer)
        self.curate = Curate(self.repository, self.blobs, on_orphans=lambda count: None)

    async def insert(
        self, data: bytes, *people: int, tenant: TenantId = TENANT, keep: bool = True
    ) -> IngestedPhoto:
        self.analyzer.photos[data] = photo(*map(person, people or (1,)))
        ingest = IngestPhoto(
            self.analyzer,
            self.repository,
            self.blobs if keep else None,
            space=ModelSpace("made-up/1"),
            rule=fixed_rule(0.5),
            on_face=lambda matched: None,
        )
        return await ingest(tenant, source(data), StageClock(), free_ticket())

    async def thumbnail(
        self, image: ImageId, size: int = 256, ticket: Ticket | None = None
    ) -> bytes:
        found = await self.pictures.thumbnail(TENANT, image, size)
        return await found.read(admitted_by(ticket))

    async def crop(self, face: FaceId, size: int, margin: float) -> bytes:
        found = await self.pictures.crop(TENANT, face, size, margin)
        return await found.read(admitted_by())

    def forget_shown(self) -> None:
        """Let pictures come from the store again, as after a minute."""
        self.pictures._shown = ShownPictures()

    async def waiting_for_a_thumbnail(self, count: int) -> None:
        """Return when so many wait for a thumbnail that somebody else makes."""
        while sum(map(len, self.pictures._making.values())) < count:  # noqa: ASYNC110
            await asyncio.sleep(0)

    @property
    def thumbnails(self) -> list[str]:
        return [key for key in files_below(self.uploads) if ".thumbnail-" in key]


@pytest.fixture
def house(database: Database, uploads: Path) -> House:
    return House(database, uploads)


def jpeg(color: str = "orange") -> bytes:
    return save(Image.new("RGB", (640, 480), color), "JPEG")


def size_of(data: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(data)).size


async def test_a_file_comes_back_whole_and_in_ranges(house: House) -> None:
    data = jpeg()
    stored = await house.insert(data)
    file = await house.pictures.file(TENANT, stored.image_id)
    assert (file.media_type, file.size_bytes) == ("image/jpeg", len(data))
    assert file.sha256 == hashlib.sha256(data).hexdigest()
    for start, stop in ((0, len(data)), (10, 20), (len(data) - 1, len(data))):
        async with file.stream(start, stop) as pieces:
            assert b"".join([piece async for piece in pieces]) == data[start:stop]


async def test_a_file_that_is_gone_is_not_found_before_anything_is_sent(house: House) -> None:
    stored = await house.insert(jpeg())
    file = await house.pictures.file(TENANT, stored.image_id)
    await house.curate.delete_image(TENANT, stored.image_id)
    with pytest.raises(NotFoundError, match="no such file"):
        async with file.stream(0, 1):
            pass
    with pytest.raises(NotFoundError, match="no such image"):
        await house.pictures.file(TENANT, stored.image_id)


async def test_images_whose_bytes_are_not_kept_have_no_file_and_no_pictures(house: House) -> None:
    stored = await house.insert(jpeg(), keep=False)
    face = stored.faces[0].face_id
    with pytest.raises(NotFoundError, match="no such file"):
        await house.pictures.file(TENANT, stored.image_id)
    with pytest.raises(NotFoundError, match="no such file"):
        await house.thumbnail(stored.image_id)
    with pytest.raises(NotFoundError, match="no such file"):
        await house.crop(face, 128, 1.0)


async def test_a_photo_that_the_store_lost_is_no_file(house: House) -> None:
    stored = await house.insert(jpeg())
    (key,) = files_below(house.uploads)
    (house.uploads / key).unlink()
    with pytest.raises(NotFoundError, match="no such file"):
        await house.thumbnail(stored.image_id)
    with pytest.raises(NotFoundError, match="no such file"):
        await house.crop(stored.faces[0].face_id, 128, 1.0)
    assert house.thumbnails == []


async def test_pictures_of_another_tenant_are_not_found(house: House) -> None:
    mine, theirs = await house.insert(jpeg()), await house.insert(jpeg(), tenant=OTHER)
    await house.thumbnail(mine.image_id)
    pictures = house.pictures
    for image in (theirs.image_id, ImageId("../" + mine.image_id), ImageId("none")):
        with pytest.raises(NotFoundError, match="no such image"):
            await pictures.thumbnail(TENANT, image, 256)
        with pytest.raises(NotFoundError, match="no such image"):
            await pictures.file(TENANT, image)
    with pytest.raises(NotFoundError, match="no such image"):
        await pictures.thumbnail(OTHER, mine.image_id, 256)
    with pytest.raises(NotFoundError, match="no such face"):
        await pictures.crop(TENANT, theirs.faces[0].face_id, 128, 1.0)
    with pytest.raises(NotFoundError, match="no such face"):
        await pictures.crop(TENANT, FaceId("none"), 128, 1.0)


async def test_a_thumbnail_is_made_once_and_kept(house: House) -> None:
    stored = await house.insert(jpeg())
    first = await house.thumbnail(stored.image_id)
    assert size_of(first) == (256, 192)
    house.forget_shown()
    assert await house.thumbnail(stored.image_id) == first
    assert size_of(await house.thumbnail(stored.image_id, 128)) == (128, 96)
    assert [made.size for made in house.renderer.made] == [256, 128]
    assert house.renderer.sizes[0] == len(jpeg())
    assert len(house.thumbnails) == 2


async def test_those_who_ask_at_once_get_one_thumbnail(house: House) -> None:
    stored = await house.insert(jpeg())
    found = await asyncio.gather(*(house.thumbnail(stored.image_id) for _ in range(20)))
    assert len(set(found)) == 1
    assert len(house.renderer.made) == 1


async def test_who_asked_first_may_leave_and_the_next_one_makes_it(house: House) -> None:
    stored = await house.insert(jpeg())

    async def leave(ticket: Ticket) -> None:
        await house.waiting_for_a_thumbnail(4 - len(house.renderer.made))
        ticket.withdraw()
        if len(house.renderer.made) == 2:
            house.renderer.before = None

    house.renderer.before = leave
    asked = [asyncio.create_task(house.thumbnail(stored.image_id)) for _ in range(4)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert Counter(map(type, found)) == {WithdrawnError: 2, bytes: 2}
    assert len(house.renderer.made) == 3


async def test_a_thumbnail_that_exists_is_shown_by_a_service_at_its_limit(house: House) -> None:
    stored = await house.insert(jpeg())

    def refuse() -> AbstractAsyncContextManager[Ticket]:
        raise OverloadedError("no room")

    found = await house.pictures.thumbnail(TENANT, stored.image_id, 256)
    with pytest.raises(OverloadedError):
        await found.read(refuse)
    first = await house.thumbnail(stored.image_id)
    assert await found.read(refuse) == first
    house.forget_shown()
    assert await found.read(refuse) == first


async def test_who_waits_for_another_leaves_at_its_own_deadline(house: House) -> None:
    stored = await house.insert(jpeg())
    first, late = free_ticket(), free_ticket()

    async def expire(ticket: Ticket) -> None:
        await house.waiting_for_a_thumbnail(1)
        (late if ticket is first else first).expire()

    house.renderer.before = expire
    found = await asyncio.gather(
        *(house.thumbnail(stored.image_id, 256, ticket) for ticket in (first, late)),
        return_exceptions=True,
    )
    assert Counter(map(type, found)) == {DeadlineError: 1, bytes: 1}
    assert len(house.renderer.made) == 1


async def test_the_error_of_a_damaged_photo_goes_to_all_who_wait(house: House) -> None:
    stored = await house.insert(jpeg()[:-100])

    async def wait(ticket: Ticket) -> None:
        await house.waiting_for_a_thumbnail(4)

    house.renderer.before = wait
    asked = [asyncio.create_task(house.thumbnail(stored.image_id)) for _ in range(5)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert Counter(map(type, found)) == {CorruptImageError: 5}
    assert len(set(map(id, found))) == 5
    assert len(house.renderer.made) == 1
    assert house.thumbnails == []


async def test_a_caller_that_is_cancelled_leaves_no_thumbnail_unchecked(house: House) -> None:
    """Its write goes on, and so does the look at the row after it."""
    stored = await house.insert(jpeg())
    put, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        house.blobs.after_put = None
        put.set()
        await go_on.wait()

    house.blobs.after_put = wait
    asked = asyncio.create_task(house.thumbnail(stored.image_id))
    await put.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    async with house.repository.writing(TENANT) as tenant:  # the files are still to be removed
        await tenant.delete_image(stored.image_id)
    assert len(house.thumbnails) == 1
    (keeping,) = house.pictures._keeping
    go_on.set()
    with pytest.raises(NotFoundError):
        await keeping
    assert house.thumbnails == []


async def test_a_photo_deleted_before_its_thumbnail_is_put_leaves_none(house: House) -> None:
    stored = await house.insert(jpeg())

    async def delete() -> None:
        house.blobs.before_put = None
        receipt = await house.curate.delete_image(TENANT, stored.image_id)
        assert receipt.files == 1

    house.blobs.before_put = delete
    with pytest.raises(NotFoundError, match="no such image"):
        await house.thumbnail(stored.image_id)
    assert files_below(house.uploads) == []
    assert list(house.uploads.iterdir()) == []


async def test_a_photo_deleted_after_its_thumbnail_was_put_leaves_none(house: House) -> None:
    stored = await house.insert(jpeg())

    async def delete() -> None:
        house.blobs.after_put = None
        await house.curate.delete_image(TENANT, stored.image_id)

    house.blobs.after_put = delete
    with pytest.raises(NotFoundError, match="no such image"):
        await house.thumbnail(stored.image_id)
    assert files_below(house.uploads) == []


async def test_a_photo_deleted_after_its_row_was_seen_takes_the_thumbnail_along(
    house: House,
) -> None:
    stored = await house.insert(jpeg())
    await house.thumbnail(stored.image_id)
    await house.curate.delete_image(TENANT, stored.image_id)
    assert files_below(house.uploads) == []


async def test_no_thumbnail_is_left_however_deletions_and_requests_meet(house: House) -> None:
    for _ in range(5):
        images = [(await house.insert(jpeg())).image_id for _ in range(6)]
        wanted = [house.thumbnail(image, size) for image in images for size in THUMBNAIL_SIZES]
        gone = [house.curate.delete_image(TENANT, image) for image in images]
        work = [each for pair in zip(wanted[::4], wanted[1::4], gone, strict=True) for each in pair]
        rest = [*wanted[2::4], *wanted[3::4]]
        found = await asyncio.gather(*work, *rest, return_exceptions=True)
        assert all(
            not isinstance(each, Exception) or isinstance(each, NotFoundError) for each in found
        )
        assert files_below(house.uploads) == []


async def test_every_deletion_takes_the_thumbnails_and_counts_photos(house: House) -> None:
    async def with_thumbnails(*people: int) -> IngestedPhoto:
        stored = await house.insert(jpeg(), *people)
        for size in THUMBNAIL_SIZES:
            await house.thumbnail(stored.image_id, size)
        return stored

    one, two = await with_thumbnails(1), await with_thumbnails(2)
    three = await with_thumbnails(3)
    assert len(house.thumbnails) == 12
    receipt = await house.curate.delete_image(TENANT, one.image_id)
    assert (receipt.files, len(house.thumbnails)) == (1, 8)
    receipt = await house.curate.delete_cluster(TENANT, two.faces[0].cluster_id)
    assert (receipt.files, len(house.thumbnails)) == (1, 4)
    assert all(three.image_id in key for key in house.thumbnails)
    receipt = await house.curate.delete_tenant(TENANT)
    assert receipt.files == 1
    assert files_below(house.uploads) == []


async def test_a_thumbnail_that_cannot_be_kept_is_an_outage(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = await house.insert(jpeg())

    async def fail() -> None:
        raise StoreUnavailableError("The disk is full.")

    house.blobs.before_put = fail
    with pytest.raises(StoreUnavailableError):
        await house.thumbnail(stored.image_id)
    assert house.thumbnails == []
    house.blobs.before_put = None
    assert size_of(await house.thumbnail(stored.image_id)) == (256, 192)


@pytest.mark.parametrize("size", [0, -1, 64, 257, 2048])
async def test_other_sizes_than_those_of_the_set_are_refused(house: House, size: int) -> None:
    stored = await house.insert(jpeg())
    with pytest.raises(ParameterError, match="128, 256, 512, 1024"):
        await house.thumbnail(stored.image_id, size)


async def test_a_crop_is_the_box_of_its_face_with_margin(house: House) -> None:
    picture = Image.new("RGB", (640, 480), "blue")
    picture.paste("red", (60, 20, 100, 70))  # the box of the second made-up face
    stored = await house.insert(save(picture, "PNG"), 1, 2)
    face = stored.faces[1].face_id
    image = Image.open(io.BytesIO(await house.crop(face, 1024, 1.0)))
    assert image.size == (40, 50)
    pixels = np.asarray(image, int)
    assert (pixels[:, :, 0] - pixels[:, :, 2]).min() > 200
    image = Image.open(io.BytesIO(await house.crop(face, 1024, 1.5)))
    assert image.size == (60, 75)
    assert image.getpixel((2, 2))[2] > 200
    assert size_of(await house.crop(face, 32, 1.5)) == (26, 32)
    assert house.thumbnails == []


@pytest.mark.parametrize(
    ("size", "margin"), [(15, 1.0), (1025, 1.0), (64, 0.99), (64, 4.01), (64, math.nan)]
)
async def test_crops_beyond_their_limits_are_refused(
    house: House, size: int, margin: float
) -> None:
    stored = await house.insert(jpeg())
    with pytest.raises(ParameterError):
        await house.crop(stored.faces[0].face_id, size, margin)


async def test_a_picture_that_was_just_shown_is_neither_read_nor_made_again(house: House) -> None:
    stored = await house.insert(jpeg())
    face = stored.faces[0].face_id
    thumbnail, crop = await house.thumbnail(stored.image_id), await house.crop(face, 128, 1.0)
    for key in files_below(house.uploads):
        (house.uploads / key).unlink()
    assert await house.thumbnail(stored.image_id) == thumbnail
    assert await house.crop(face, 128, 1.0) == crop
    assert len(house.renderer.made) == 2
    with pytest.raises(NotFoundError, match="no such file"):
        await house.crop(face, 128, 1.5)


async def test_a_picture_in_memory_is_not_found_once_its_photo_is_erased(house: House) -> None:
    mine, theirs = await house.insert(jpeg()), await house.insert(jpeg("blue"), tenant=OTHER)
    face = mine.faces[0].face_id
    await house.thumbnail(mine.image_id)
    await house.crop(face, 128, 1.0)
    shown = house.pictures._shown
    kept = shown.size_bytes
    with pytest.raises(NotFoundError, match="no such image"):
        await house.pictures.thumbnail(OTHER, mine.image_id, 256)
    with pytest.raises(NotFoundError, match="no such image"):
        await house.thumbnail(theirs.image_id)
    assert shown.size_bytes == kept > 0
    await house.curate.delete_image(TENANT, mine.image_id)
    with pytest.raises(NotFoundError, match="no such image"):
        await house.thumbnail(mine.image_id)
    with pytest.raises(NotFoundError, match="no such face"):
        await house.crop(face, 128, 1.0)
    assert shown.size_bytes == 0


async def test_a_tag_tells_pictures_apart_before_they_are_made(house: House) -> None:
    one, two = await house.insert(jpeg(), 1, 2), await house.insert(jpeg("blue"))
    pictures = house.pictures
    found = [
        *[await pictures.thumbnail(TENANT, each.image_id, 256) for each in (one, two)],
        await pictures.thumbnail(TENANT, one.image_id, 128),
        *[await pictures.crop(TENANT, each.face_id, 128, 1.0) for each in one.faces],
        await pictures.crop(TENANT, one.faces[0].face_id, 128, 1.5),
        await pictures.crop(TENANT, one.faces[0].face_id, 256, 1.0),
    ]
    assert len({each.tag for each in found}) == len(found)
    assert (await pictures.thumbnail(TENANT, one.image_id, 256)).tag == found[0].tag
    assert house.renderer.made == []

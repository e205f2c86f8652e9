"""A folder and a bucket keep blobs alike; what is wrong with them is said at start or as a 503."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import sys
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from service.domain.errors import ConfigError, NotFoundError, StoreUnavailableError
from service.domain.types import THUMBNAIL_SIZES, ImageId, TenantId
from service.store.blob.folder import FolderBlobStore
from service.store.blob.names import (
    OWNER_MARK,
    S3Settings,
    belongs_to,
    folder_of,
    image_key,
    image_name,
    is_ours,
    thumbnail_key,
    thumbnail_name,
    with_thumbnails,
)
from service.store.blob.opening import open_blob_store
from service.store.blob.s3 import S3BlobStore
from service.usecases.ports import BlobStore
from tests.support.moto_server import BUCKET, SECRET, S3Server

pytestmark = pytest.mark.xdist_group("bucket")
TENANT = TenantId("a tenant / with ünusual .. characters")


@pytest.fixture
def bucket(server: S3Server) -> S3Settings:
    """A place in the bucket that no other test uses."""
    return server.settings(url=f"s3://{BUCKET}/{uuid4().hex}/photos/")


@pytest.fixture(params=["folder", "bucket"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    place = tmp_path / "up" if request.param == "folder" else request.getfixturevalue("bucket")
    return await open_blob_store(place)


def new_key(blobs: BlobStore, tenant: TenantId = TENANT) -> str:
    return blobs.key(tenant, ImageId(str(uuid4())), "jpg")


def below(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def content(path: Path) -> bytes:
    return path.read_bytes()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def keys_of(blobs: BlobStore) -> set[str]:
    return {blob.key async for blob in blobs.listing()}


async def test_what_was_put_is_read_back_under_its_key(blobs: BlobStore) -> None:
    key, data = new_key(blobs), os.urandom(300_000)
    assert await blobs.put(key, data) == hashlib.sha256(data).hexdigest()
    assert await blobs.get(key) == data
    await blobs.put(key, b"other")
    assert await blobs.get(key) == b"other"


async def test_missing_blob_is_not_found(blobs: BlobStore) -> None:
    with pytest.raises(NotFoundError):
        await blobs.get(new_key(blobs))


async def test_deleted_blobs_are_gone_and_missing_ones_count_as_gone(blobs: BlobStore) -> None:
    kept, gone, never = (new_key(blobs) for _ in range(3))
    for key in (kept, gone):
        await blobs.put(key, b"bytes")
    assert await blobs.delete([gone, never]) == []
    assert await keys_of(blobs) == {kept}


async def _joined(blobs: BlobStore, key: str, start: int, stop: int) -> tuple[bytes, int]:
    """The bytes of a range, and the number of their pieces."""
    async with blobs.stream(key, start, stop) as stream:
        pieces = [piece async for piece in stream]
    return b"".join(pieces), len(pieces)


async def test_ranges_are_read_in_pieces(blobs: BlobStore) -> None:
    key, data = new_key(blobs), os.urandom(3_500_000)
    await blobs.put(key, data)
    whole, pieces = await _joined(blobs, key, 0, len(data))
    assert whole == data
    assert pieces > 2
    for start, stop in ((0, 1), (7, 2_000_000), (len(data) - 1, len(data))):
        assert (await _joined(blobs, key, start, stop))[0] == data[start:stop]


async def test_a_range_of_what_is_not_there_is_not_found(blobs: BlobStore) -> None:
    key = new_key(blobs)
    await blobs.put(key, b"bytes")
    for wrong, stop in ((key, 6), (new_key(blobs), 1), ("../../etc/passwd", 1)):
        with pytest.raises(NotFoundError):
            await _joined(blobs, wrong, 0, stop)


async def test_a_stream_outlives_its_blob_and_closes_when_left(tmp_path: Path) -> None:
    blobs = FolderBlobStore(tmp_path)
    key, data = new_key(blobs), os.urandom(2_500_000)
    await blobs.put(key, data)
    async with blobs.stream(key, 0, len(data)) as stream:
        first = await anext(stream)
        await blobs.delete([key])
        assert first + b"".join([piece async for piece in stream]) == data
    await blobs.put(key, data)
    before = open_files()
    for _ in range(3):
        async with blobs.stream(key, 0, len(data)) as stream:
            await anext(stream)
    assert open_files() == before


async def test_a_file_that_becomes_shorter_while_it_is_read_is_an_outage(tmp_path: Path) -> None:
    blobs = FolderBlobStore(tmp_path)
    key = new_key(blobs)
    await blobs.put(key, bytes(2_500_000))
    async with blobs.stream(key, 0, 2_500_000) as stream:
        await anext(stream)
        os.truncate(tmp_path / key, 1_500_000)
        with pytest.raises(StoreUnavailableError):
            _ = [piece async for piece in stream]


async def test_the_thumbnails_of_an_image_are_removed_with_it(blobs: BlobStore) -> None:
    gone, kept = (ImageId(str(uuid4())) for _ in range(2))
    for image in (gone, kept):
        await blobs.put(blobs.key(TENANT, image, "png"), b"photo")
        for size in THUMBNAIL_SIZES[:3]:
            await blobs.put(blobs.thumbnail_key(TENANT, image, size), b"small")
    assert await blobs.delete([blobs.key(TENANT, gone, "png")]) == []
    left = await keys_of(blobs)
    assert len(left) == 4
    assert all(kept in key for key in left)
    assert await blobs.delete([blobs.thumbnail_key(TENANT, kept, 128)]) == []
    assert len(await keys_of(blobs)) == 3
    assert await blobs.delete([blobs.key(TENANT, kept, "png")]) == []
    assert await keys_of(blobs) == set()


async def test_an_image_whose_thumbnail_stays_counts_as_not_removed(tmp_path: Path) -> None:
    blobs = FolderBlobStore(tmp_path)
    image = ImageId(str(uuid4()))
    key = blobs.key(TENANT, image, "jpg")
    await blobs.put(key, b"photo")
    (tmp_path / blobs.thumbnail_key(TENANT, image, 256)).mkdir()  # which unlink does not remove
    assert await blobs.delete([key]) == [key]


def test_names_of_thumbnails_are_their_own() -> None:
    image = ImageId(str(uuid4()))
    photo, small = image_key(TENANT, image, "jpg"), thumbnail_key(TENANT, image, 512)
    assert thumbnail_name(small) == image_name(photo)
    assert image_name(small) is None
    assert thumbnail_name(photo) is None
    assert not belongs_to(small, TENANT)
    assert with_thumbnails(small) == (small,)
    assert with_thumbnails(photo)[0] == photo
    assert small in with_thumbnails(photo)
    assert all(map(is_ours, with_thumbnails(photo)))
    for wrong in (small.replace("512", "513"), small + "x", small.replace("-512", "")):
        assert not is_ours(wrong)


async def test_thousands_of_blobs_are_listed_and_deleted(blobs: BlobStore) -> None:
    keys = {new_key(blobs, TenantId(str(n % 3))) for n in range(1100)}
    for some in [list(keys)[n : n + 50] for n in range(0, len(keys), 50)]:
        await asyncio.gather(*(blobs.put(key, b"bytes") for key in some))
    assert await keys_of(blobs) == keys
    assert await blobs.delete(sorted(keys)) == []
    assert await keys_of(blobs) == set()


async def test_age_of_a_blob_is_told_by_the_clock_of_its_store(blobs: BlobStore) -> None:
    before = await blobs.now()
    await blobs.put(new_key(blobs), b"bytes")
    (blob,) = [blob async for blob in blobs.listing()]
    # A bucket's times have whole seconds.
    assert before - timedelta(seconds=1) <= blob.modified_at
    assert blob.modified_at <= await blobs.now() + timedelta(seconds=1)
    assert blob.modified_at.utcoffset() == timedelta(0)


async def test_asking_for_the_time_leaves_nothing_behind(blobs: BlobStore, tmp_path: Path) -> None:
    await blobs.now()
    assert await keys_of(blobs) == set()
    assert [path for path in below(tmp_path) if path.name != "up"] == []


async def test_files_of_somebody_else_in_the_folder_are_not_listed(tmp_path: Path) -> None:
    blobs = FolderBlobStore(tmp_path)
    key = new_key(blobs)
    await blobs.put(key, b"bytes")
    ours = tmp_path / Path(key).parent
    for other in (
        tmp_path / "notes.txt",
        tmp_path / "holiday" / f"{uuid4()}.jpg",
        ours / "holiday.jpg",
        ours / f"{uuid4()}.jpg" / "in a folder",
        ours / f"{uuid4()}.jpg.orig",
    ):
        other.parent.mkdir(exist_ok=True)
        other.write_bytes(b"somebody's")
    (ours / f"{uuid4()}.jpg").symlink_to(tmp_path / "notes.txt")
    assert await keys_of(blobs) == {key}


async def test_objects_of_somebody_else_in_the_bucket_are_not_listed(bucket: S3Settings) -> None:
    blobs = await S3BlobStore.open(bucket)
    key = new_key(blobs)
    for each in (key, "notes.txt", f"holiday/{uuid4()}.jpg", key + "/deeper.jpg"):
        await blobs._client.put_async(each, b"bytes")
    assert await keys_of(blobs) == {key}


async def test_unfinished_file_of_a_killed_write_is_listed(tmp_path: Path) -> None:
    blobs = FolderBlobStore(tmp_path)
    await blobs.put(new_key(blobs), b"bytes")
    key = f"{folder_of(TENANT)}/.part-abc_12"
    (tmp_path / key).write_bytes(b"half of")
    assert key in await keys_of(blobs)


async def test_folder_that_goes_with_its_last_blob_is_made_again(tmp_path: Path) -> None:
    blobs = FolderBlobStore(tmp_path)

    async def come_and_go() -> None:
        for _ in range(60):
            key = new_key(blobs)
            await blobs.put(key, b"bytes")
            assert await blobs.delete([key]) == []

    await asyncio.gather(*(come_and_go() for _ in range(4)))
    assert below(tmp_path) == []


A_NAME = "d6371681-84f5-48ab-ac44-b7ab4055ceda"
STRAY_KEYS = [
    "../outside.txt",
    f"{'0' * 32}/../../outside.txt",
    f"{'0' * 32}/{A_NAME}.jpg/../../../outside.txt",
    f"/{'0' * 32}/{A_NAME}.jpg",
    "/etc/passwd",
    f"{'0' * 32}/{A_NAME}.jpg\n",
    f"{'0' * 32}/{A_NAME}.{'x' * 17}",
    f"{'0' * 32}/{A_NAME.upper()}.jpg",
    f"{'0' * 32}",
    "",
    ".",
    "notes.txt",
    OWNER_MARK,
]


@pytest.mark.parametrize("key", STRAY_KEYS)
async def test_key_that_is_no_blobs_is_neither_read_nor_written_nor_removed(
    blobs: BlobStore, tmp_path: Path, key: str
) -> None:
    outside = tmp_path / "outside.txt"
    write(outside, b"somebody's")
    await blobs.put(blobs.key(TENANT, ImageId(str(uuid4())), "jpg"), b"bytes")
    await blobs.claim("a-database")
    before = below(tmp_path)
    with pytest.raises(NotFoundError):
        await blobs.get(key)
    assert await blobs.find(key) is None
    with pytest.raises(ValueError, match="not valid in a blob store"):
        await blobs.put(key, b"mine")
    assert await blobs.delete([key]) == [key]
    assert below(tmp_path) == before
    assert content(outside) == b"somebody's"
    assert await blobs.owner() == "a-database"


async def test_blobs_are_removed_although_a_key_among_them_is_none(blobs: BlobStore) -> None:
    key = new_key(blobs)
    await blobs.put(key, b"bytes")
    assert await blobs.delete(["../outside.txt", key]) == ["../outside.txt"]
    assert await keys_of(blobs) == set()


async def test_folder_of_a_tenant_that_is_a_link_leads_nowhere(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "up"
    blobs = FolderBlobStore(root)
    key = new_key(blobs)
    outside.mkdir()
    theirs = outside / Path(key).name
    theirs.write_bytes(b"somebody's")
    (root / folder_of(TENANT)).symlink_to(outside)
    for call in (blobs.get(key), blobs.find(key), blobs.put(key, b"mine")):
        with pytest.raises(StoreUnavailableError):
            await call
    assert await blobs.delete([key]) == [key]
    assert [blob async for blob in blobs.listing(folder_of(TENANT))] == []
    assert below(outside) == [theirs]
    assert theirs.read_bytes() == b"somebody's"


async def test_file_that_is_a_link_is_no_blob_and_goes_without_what_it_leads_to(
    tmp_path: Path,
) -> None:
    blobs = FolderBlobStore(tmp_path / "up")
    outside, key = tmp_path / "outside.txt", new_key(blobs)
    outside.write_bytes(b"somebody's")
    await blobs.put(key, b"bytes")
    await blobs.delete([key])
    linked = tmp_path / "up" / key
    linked.parent.mkdir(exist_ok=True)
    linked.symlink_to(outside)
    with pytest.raises(NotFoundError):
        await blobs.get(key)
    assert await blobs.find(key) is None
    assert await blobs.delete([key]) == []
    assert outside.read_bytes() == b"somebody's"
    assert not linked.is_symlink()


@pytest.mark.parametrize(
    ("key", "is_image"),
    [
        ("0" * 32 + "/12345678-1234-1234-1234-123456789abc.jpg", True),
        ("0" * 32 + "/.part-x", False),
        (".part-x", False),
    ],
)
def test_names_of_images_and_unfinished_files_are_ours(key: str, is_image: bool) -> None:
    assert is_ours(key)
    assert (image_name(key) is not None) == is_image


@pytest.mark.parametrize(
    ("other", "setting"),
    [
        ({"url": "s3://no-such-bucket/x"}, "blobs.url"),
        ({"endpoint": "nonsense"}, "blobs.endpoint"),
        ({"endpoint": "http://127.0.0.1:9"}, "blobs.endpoint"),
        ({"allow_http": False}, "blobs.allow_http"),
        ({"secret_access_key": ""}, "blobs.secret_access_key"),
    ],
    ids=["no bucket", "no address", "nobody there", "http", "half a key"],
)
async def test_bucket_that_cannot_be_used_is_named_by_its_setting_at_start(
    server: S3Server, other: dict[str, object], setting: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{setting}|, {setting}") as caught:
        await open_blob_store(server.settings(**other))
    assert SECRET not in caught.value.message


async def test_key_that_the_store_refuses_is_named_by_its_setting_at_start() -> None:
    server = S3Server().start(checks_keys=True)
    try:
        with pytest.raises(ConfigError, match=r"^blobs\.access_key_id") as caught:
            await open_blob_store(server.settings())
    finally:
        server.stop()
    assert SECRET not in caught.value.message


async def test_folder_that_cannot_be_used_is_named_by_its_setting_at_start() -> None:
    with pytest.raises(ConfigError, match=r"^paths.upload_dir: /proc/nowhere"):
        await open_blob_store(Path("/proc/nowhere"))


async def test_bucket_that_goes_away_is_unavailable_until_it_is_back(
    server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    blobs = await open_blob_store(server.settings())
    key = new_key(blobs)
    await blobs.put(key, b"bytes")
    server.stop()
    caplog.set_level(logging.DEBUG)
    for call in (blobs.put(key, b"bytes"), blobs.get(key), blobs.now(), keys_of(blobs)):
        with pytest.raises(StoreUnavailableError):
            await call
    assert await blobs.delete([key]) == [key]
    server.start()
    await blobs.put(key, b"bytes again")
    assert await blobs.get(key) == b"bytes again"
    assert "blob not written" in caplog.text
    assert SECRET not in caplog.text
    assert SECRET not in repr(server.settings())


async def test_bucket_that_answers_nothing_is_unavailable_and_does_not_hold_up_the_loop(
    server: S3Server,
) -> None:
    blobs = await open_blob_store(server.settings(timeout_s=1.0))
    server.freeze()
    try:
        waiting = asyncio.create_task(blobs.put(new_key(blobs), b"bytes"))
        turns = 0
        while not waiting.done():
            await asyncio.sleep(0.01)
            turns += 1
    finally:
        server.thaw()
    with pytest.raises(StoreUnavailableError):
        await waiting
    assert turns > 5
    await blobs.put(new_key(blobs), b"bytes")


async def test_bucket_without_its_library_is_a_configuration_error(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "service.store.blob.s3")
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    with pytest.raises(ConfigError, match=r"facette\[s3\]"):
        await open_blob_store(server.settings())

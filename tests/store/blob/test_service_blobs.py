"""The whole service with its photos in a bucket, with none kept, and with orphans to sweep."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx2 as httpx
import pytest
from obstore.store import S3Store

from service.domain.types import ImageId, TenantId
from service.store.blob.names import OWNER_MARK, folder_of, image_key
from tests.support.folders import open_folder
from tests.support.live import ConfiguredService, end, insert, wait_until
from tests.support.moto_server import BUCKET, SECRET, S3Server
from tests.support.service import lay_database

pytestmark = pytest.mark.xdist_group("bucket")
TENANT = TenantId("t")


@pytest.fixture(scope="module")
def photo(portraits: list[Path]) -> bytes:
    return portraits[1].read_bytes()


@pytest.fixture(scope="module")
def running(models_dir: Path, started_server: S3Server) -> Iterator[ConfiguredService]:
    """A service that starts with a bucket; each test begins with settings of its own."""
    with open_folder() as folder:
        temporary = folder / "tmp"
        temporary.mkdir()
        process = ConfiguredService(folder, models_dir, {"TMPDIR": str(temporary)})
        process.configure(in_bucket(started_server))
        try:
            yield process.start()
            assert process.stop() == 0
            assert "Traceback" not in process.log
        finally:
            end(process)


@pytest.fixture
def place() -> str:
    """A place in the bucket that no other test uses."""
    return f"{uuid4().hex}/photos"


def in_bucket(server: S3Server, place: str = "photos", **other: str) -> str:
    settings = {
        "url": f"s3://{BUCKET}/{place}",
        "endpoint": server.endpoint,
        "region": "us-east-1",
        "access_key_id": "tester",
        "secret_access_key": SECRET,
        **other,
    }
    lines = [f'{key} = "{value}"' for key, value in settings.items()]
    return "\n".join(["[blobs]", *lines, "allow_http = true", "timeout_s = 2", ""])


def objects(server: S3Server, place: str) -> dict[str, bytes]:
    """What lies at a place in the bucket, seen past the service."""
    store = S3Store(
        BUCKET,
        endpoint=server.endpoint,
        region="us-east-1",
        access_key_id="tester",
        secret_access_key=SECRET,
        client_options={"allow_http": True},
    )
    return {
        each["path"]: bytes(store.get(each["path"]).bytes())
        for some in store.list(place)
        for each in some
        if not each["path"].endswith(OWNER_MARK)
    }


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != OWNER_MARK]


def delete(client: httpx.Client, image_id: str, tenant: str = TENANT) -> httpx.Response:
    return client.delete("/image", params={"tenant_id": tenant, "image_id": image_id})


def test_photos_go_into_the_bucket_and_out_of_it_and_an_outage_is_a_503(
    running: ConfiguredService, server: S3Server, place: str, photo: bytes
) -> None:
    running.configure(in_bucket(server, place))
    running.hang_up("reloaded")
    files = files_below(running.data_dir / "uploads")
    orphans = running.metric("facette_orphan_blobs_total")
    with running.client() as client:
        image_id = insert(client, photo, TENANT).json()["image_id"]
        key = f"{place}/{image_key(TENANT, ImageId(image_id), 'jpg')}"
        assert objects(server, place) == {key: photo}
        assert delete(client, image_id).json()["deleted"]["files"] == 1
        assert objects(server, place) == {}

        server.stop()
        refused = insert(client, photo, TENANT)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "store_unavailable"
        assert refused.headers["retry-after"]
        assert client.get("/readyz").status_code == 200

        server.start()
        image_id = insert(client, photo, TENANT).json()["image_id"]
        assert list(objects(server, place).values()) == [photo]
        server.stop()
        assert delete(client, image_id).json()["deleted"]["files"] == 0
        assert running.metric("facette_orphan_blobs_total") == orphans + 1
    assert files_below(running.data_dir / "uploads") == files
    assert SECRET not in running.log


def test_bucket_that_cannot_be_used_stops_the_start(
    service_folder: Path, models_dir: Path, server: S3Server
) -> None:
    service = ConfiguredService(service_folder, models_dir)
    lay_database(service.data_dir)
    service.configure(in_bucket(server, url="s3://no-such-bucket"))
    service.launch()
    try:
        assert service.wait() != 0
        assert "blobs.url: there is no bucket no-such-bucket" in service.log
        assert "Traceback" not in service.log
    finally:
        end(service)


def test_bucket_that_cannot_be_used_does_not_stop_a_running_service(
    running: ConfiguredService, server: S3Server, place: str, photo: bytes
) -> None:
    running.configure(in_bucket(server, place))
    running.hang_up("reloaded")
    running.configure(in_bucket(server, url="s3://no-such-bucket"))
    assert "blobs.url: there is no bucket" in running.hang_up("reload failed")
    with running.client() as client:
        assert insert(client, photo, TENANT).status_code == 200
    elsewhere = f"{place}-elsewhere"
    running.configure(in_bucket(server, elsewhere, secret_access_key="another"))
    assert "changed=blobs.url,blobs.secret_access_key" in running.hang_up("reloaded")
    with running.client() as client:
        assert insert(client, photo, TENANT).status_code == 200
    assert [len(objects(server, each)) for each in (place, elsewhere)] == [1, 1]


def test_service_that_keeps_no_images_writes_no_file_and_does_all_else(
    running: ConfiguredService, photo: bytes, tenant: str
) -> None:
    running.configure("[blobs]\nstore_images = false\n")
    running.hang_up("reloaded")
    files = files_below(running.data_dir / "uploads")
    with running.client() as client:
        first, second = (insert(client, photo, tenant).json() for _ in range(2))
        assert second["faces"][0]["is_auto_matched"]
        shown = client.get("/image", params={"tenant_id": tenant, "image_id": first["image_id"]})
        assert shown.status_code == 200
        assert files_below(running.data_dir / "uploads") == files
        temporary = files_below(running.folder / "tmp")
        assert photo not in [path.read_bytes() for path in temporary]
        receipt = delete(client, first["image_id"], tenant).json()["deleted"]
        assert (receipt["images"], receipt["files"]) == (1, 0)


def test_files_that_a_killed_service_left_are_swept_at_the_next_start(
    running: ConfiguredService, photo: bytes
) -> None:
    running.configure()
    running.hang_up("reloaded")
    uploads = running.data_dir / "uploads"
    with running.client() as client:
        image_id = insert(client, photo, TENANT).json()["image_id"]
    running.kill()
    kept = uploads / image_key(TENANT, ImageId(image_id), "jpg")
    orphan = uploads / image_key(TENANT, ImageId(str(uuid4())), "jpg")
    unfinished = uploads / folder_of(TENANT) / ".part-of_a_photo"
    young = uploads / image_key(TENANT, ImageId(str(uuid4())), "jpg")
    for path in (orphan, unfinished, young):
        path.write_bytes(photo)
    hour_ago = time.time() - 3600
    for path in (kept, orphan, unfinished):
        os.utime(path, (hour_ago, hour_ago))
    running.start()
    wait_until(lambda: running.metric("facette_last_sweep_timestamp_seconds") > hour_ago)
    assert set(files_below(uploads)) == {kept, young}
    assert running.metric("facette_swept_blobs_total") == 2
    assert running.metric("facette_sweep_failures_total") == 0
    assert "orphan blobs removed" in running.log

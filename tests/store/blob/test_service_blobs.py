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

TENANT = TenantId("t")


@pytest.fixture(scope="module")
def photo(portraits: list[Path]) -> bytes:
    return portraits[1].read_bytes()


@pytest.fixture
def server() -> Iterator[S3Server]:
    found = S3Server().start()
    yield found
    found.stop()


@pytest.fixture
def own(models_dir: Path) -> Iterator[ConfiguredService]:
    """A service of the test's own, not started yet."""
    with open_folder() as folder:
        process = ConfiguredService(folder, models_dir)
        yield process
        if process._process is not None:
            end(process)


def in_bucket(server: S3Server, **other: str) -> str:
    settings = {
        "url": f"s3://{BUCKET}/photos",
        "endpoint": server.endpoint,
        "region": "us-east-1",
        "access_key_id": "tester",
        "secret_access_key": SECRET,
        **other,
    }
    lines = [f'{key} = "{value}"' for key, value in settings.items()]
    return "\n".join(["[blobs]", *lines, "allow_http = true", "timeout_s = 2", ""])


def objects(server: S3Server) -> dict[str, bytes]:
    """What lies in the bucket, seen past the service."""
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
        for some in store.list()
        for each in some
        if not each["path"].endswith(OWNER_MARK)
    }


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != OWNER_MARK]


def delete(client: httpx.Client, image_id: str) -> httpx.Response:
    return client.delete("/image", params={"tenant_id": TENANT, "image_id": image_id})


def test_photos_go_into_the_bucket_and_out_of_it_and_an_outage_is_a_503(
    own: ConfiguredService, server: S3Server, photo: bytes
) -> None:
    own.configure(in_bucket(server))
    own.start()
    with own.client() as client:
        image_id = insert(client, photo, TENANT).json()["image_id"]
        key = f"photos/{image_key(TENANT, ImageId(image_id), 'jpg')}"
        assert objects(server) == {key: photo}
        assert delete(client, image_id).json()["deleted"]["files"] == 1
        assert objects(server) == {}

        server.stop()
        refused = insert(client, photo, TENANT)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "store_unavailable"
        assert refused.headers["retry-after"]
        assert client.get("/readyz").status_code == 200

        server.start()
        image_id = insert(client, photo, TENANT).json()["image_id"]
        assert list(objects(server).values()) == [photo]
        server.stop()
        assert delete(client, image_id).json()["deleted"]["files"] == 0
        assert own.metric("facette_orphan_blobs_total") == 1
    assert files_below(own.data_dir / "uploads") == []
    assert SECRET not in own.log
    assert own.stop() == 0
    assert "Traceback" not in own.log


def test_bucket_that_cannot_be_used_stops_the_start_and_not_a_running_service(
    own: ConfiguredService, server: S3Server, photo: bytes
) -> None:
    own.configure(in_bucket(server, url="s3://no-such-bucket"))
    own.launch()
    assert own.wait() != 0
    assert "blobs.url: there is no bucket no-such-bucket" in own.log
    assert "Traceback" not in own.log

    own.configure(in_bucket(server))
    own.start()
    own.configure(in_bucket(server, url="s3://no-such-bucket"))
    assert "blobs.url: there is no bucket" in own.hang_up("reload failed")
    with own.client() as client:
        assert insert(client, photo, TENANT).status_code == 200
    own.configure(in_bucket(server, url=f"s3://{BUCKET}/elsewhere", secret_access_key="another"))
    assert "changed=blobs.url,blobs.secret_access_key" in own.hang_up("reloaded")
    with own.client() as client:
        assert insert(client, photo, TENANT).status_code == 200
    assert {key.split("/")[0] for key in objects(server)} == {"photos", "elsewhere"}


def test_service_that_keeps_no_images_writes_no_file_and_does_all_else(
    own: ConfiguredService, photo: bytes
) -> None:
    temporary = own.folder / "tmp"
    temporary.mkdir()
    own._environment["TMPDIR"] = str(temporary)
    own.configure("[blobs]\nstore_images = false\n")
    own.start()
    with own.client() as client:
        first, second = (insert(client, photo, TENANT).json() for _ in range(2))
        assert second["faces"][0]["is_auto_matched"]
        shown = client.get("/image", params={"tenant_id": TENANT, "image_id": first["image_id"]})
        assert shown.status_code == 200
        assert files_below(own.data_dir / "uploads") == []
        assert photo not in [path.read_bytes() for path in files_below(temporary)]
        receipt = delete(client, first["image_id"]).json()["deleted"]
        assert (receipt["images"], receipt["files"]) == (1, 0)
    assert own.stop() == 0


def test_files_that_a_killed_service_left_are_swept_at_the_next_start(
    own: ConfiguredService, photo: bytes
) -> None:
    own.configure()
    own.start()
    with own.client() as client:
        image_id = insert(client, photo, TENANT).json()["image_id"]
    own.kill()
    uploads = own.data_dir / "uploads"
    kept = uploads / image_key(TENANT, ImageId(image_id), "jpg")
    orphan = uploads / image_key(TENANT, ImageId(str(uuid4())), "jpg")
    unfinished = uploads / folder_of(TENANT) / ".part-of_a_photo"
    young = uploads / image_key(TENANT, ImageId(str(uuid4())), "jpg")
    for path in (orphan, unfinished, young):
        path.write_bytes(photo)
    hour_ago = time.time() - 3600
    for path in (kept, orphan, unfinished):
        os.utime(path, (hour_ago, hour_ago))
    own.start()
    wait_until(lambda: own.metric("facette_last_sweep_timestamp_seconds") > hour_ago)
    assert set(files_below(uploads)) == {kept, young}
    assert own.metric("facette_swept_blobs_total") == 2
    assert own.metric("facette_sweep_failures_total") == 0
    assert "orphan blobs removed" in own.log
    assert own.stop() == 0


def test_several_processes_sweep_and_stop_without_trouble(
    own: ConfiguredService, photo: bytes
) -> None:
    uploads = own.data_dir / "uploads"
    own.configure("[server]\nprocesses = 2\n[blobs]\nsweep_interval_s = 0.1\n")
    own.start()
    with own.client() as client:
        assert insert(client, photo, TENANT).status_code == 200
    (kept,) = files_below(uploads)
    orphan = uploads / image_key(TENANT, ImageId(str(uuid4())), "jpg")
    orphan.write_bytes(photo)
    hour_ago = time.time() - 3600
    for path in (kept, orphan):
        os.utime(path, (hour_ago, hour_ago))
    wait_until(lambda: not orphan.exists())
    wait_until(lambda: own.metric("facette_swept_blobs_total") == 1)
    assert kept.exists()
    assert own.stop() == 0
    assert "Traceback" not in own.log

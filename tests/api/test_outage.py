"""The database goes away and comes back: refused meanwhile, served again, nothing lost."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx2 as httpx
import psutil
import pytest

from service.store.embedded.settings import EmbeddedSettings, parameters
from tests.support.calls import (
    Photos,
    assert_error,
    insert,
    only_cluster,
    read,
    send,
    stored,
    uploads,
)
from tests.support.folders import open_folder
from tests.support.service import ServiceProcess

TENANT = "outage"


@dataclass
class Outage:
    """What was seen before, while and after the database was down."""

    cluster: str = ""
    files_before: set[Path] = field(default_factory=set)
    amid: list[httpx.Response] = field(default_factory=list)
    down: dict[str, httpx.Response] = field(default_factory=dict)
    files_left: set[Path] = field(default_factory=set)
    recovered: bool = False
    process_alive: bool = False


@pytest.fixture(scope="module")
def troubled(models_dir: Path) -> Iterator[ServiceProcess]:
    """A service whose database the tests stop; no database outlives it."""
    with open_folder() as folder:
        process = ServiceProcess(folder, models_dir, {"FACETTE_DATABASE_POOL_RETRY_S": "0.2"})
        try:
            process.start()
            yield process
            assert process.stop() == 0
        finally:
            with suppress(subprocess.TimeoutExpired):
                process.stop()
            stop_database(process)


@pytest.fixture(scope="module")
def outage(troubled: ServiceProcess, photos: Photos) -> Outage:
    """One outage from beginning to end."""
    seen = Outage()
    with troubled.client() as client, ThreadPoolExecutor(12) as threads:
        first = insert(client, TENANT, photos.astronaut)
        seen.cluster = only_cluster(first)
        uploading = [
            threads.submit(send, client, f"{TENANT}-amid", photos.astronaut) for _ in range(12)
        ]
        next(iter(uploading)).result()
        stop_database(troubled)
        seen.amid = [upload.result() for upload in uploading]

        ids = {"tenant_id": TENANT, "image_id": first["image_id"]}
        seen.files_before = stored(troubled)
        seen.down = {
            "insert": send(client, TENANT, photos.hopper),
            "insert for a new tenant": send(client, f"new-{uuid4()}", photos.nobody),
            "read": client.get("/image", params=ids),
            "list": client.get("/review-pending-list", params=ids),
            "delete": client.delete("/image", params=ids),
            "readyz": client.get("/readyz"),
            "healthz": client.get("/healthz"),
            "metrics": client.get("/metrics"),
            "bad image": send(client, TENANT, b"no image"),
        }
        seen.files_left = stored(troubled)

        start_database(troubled)
        deadline = time.monotonic() + 60
        while not seen.recovered and time.monotonic() < deadline:
            seen.recovered = client.get("/readyz").status_code == 200
        seen.process_alive = psutil.pid_exists(troubled.pid)
    return seen


@pytest.mark.parametrize(
    "what", ["insert", "insert for a new tenant", "read", "list", "delete", "readyz"]
)
def test_what_needs_the_database_is_to_be_repeated_later(outage: Outage, what: str) -> None:
    assert_error(outage.down[what], 503, "store_unavailable")
    assert int(outage.down[what].headers["retry-after"]) >= 1


@pytest.mark.parametrize("what", ["healthz", "metrics"])
def test_what_needs_no_database_is_answered(outage: Outage, what: str) -> None:
    assert outage.down[what].status_code == 200


def test_a_bad_image_is_refused_as_ever(outage: Outage) -> None:
    assert_error(outage.down["bad image"], 415, "unsupported_image")


def test_no_file_of_a_refused_photo_is_left(outage: Outage) -> None:
    assert {path for path in outage.files_left if path.is_file()} == {
        path for path in outage.files_before if path.is_file()
    }


def test_the_same_process_recovers_by_itself(outage: Outage) -> None:
    assert outage.recovered
    assert outage.process_alive


def test_people_are_still_known_afterwards(
    outage: Outage, troubled: ServiceProcess, photos: Photos
) -> None:
    with troubled.client() as client:
        assert only_cluster(insert(client, TENANT, photos.astronaut)) == outage.cluster


def test_a_photo_in_work_is_stored_or_to_be_repeated(outage: Outage) -> None:
    assert {answer.status_code for answer in outage.amid} <= {200, 503}


def test_what_was_acknowledged_is_there_afterwards(
    outage: Outage, troubled: ServiceProcess
) -> None:
    stored_ids = [answer.json()["image_id"] for answer in outage.amid if answer.is_success]
    with troubled.client() as client:
        for image in stored_ids:
            read(client, "/image", tenant_id=f"{TENANT}-amid", image_id=image)
            assert list(uploads(troubled).rglob(f"{image}.*"))


def start_database(process: ServiceProcess) -> None:
    """Start it the way the service does, and leave it running."""
    from service.store.embedded.cluster import Cluster

    cluster = Cluster.prepare(cluster_of(process), parameters(EmbeddedSettings(), 1 << 30))
    assert cluster.start(threading.Event())


def stop_database(process: ServiceProcess) -> None:
    """Stop it, if it runs, as an operator would who does not wait for its clients."""
    with suppress(FileNotFoundError, psutil.NoSuchProcess):
        text = (cluster_of(process) / "postmaster.pid").read_text(encoding="utf-8")
        server = psutil.Process(int(text.split("\n", 1)[0]))
        if server.name() == "postgres":
            os.kill(server.pid, signal.SIGINT)
            server.wait(60)


def cluster_of(process: ServiceProcess) -> Path:
    return process.data_dir / "postgres"

"""Several serving processes on one port: they add up, are replaced, and go together."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx2 as httpx
import psutil
import pytest

from bench.common.server import ServiceProcess
from service.domain.types import ImageId, TenantId
from service.store.blob.names import image_key
from service.store.database.migrations import load_migrations
from tests.support.folders import open_folder
from tests.support.live import ConfiguredService, end, insert, postgres_of, wait_until
from tests.support.service import lay_database

_COUNT = 2
_TWO_PROCESSES = {
    "FACETTE_SERVER_PROCESSES": str(_COUNT),
    "FACETTE_DATABASE_POOL_RETRY_S": "0",
    "FACETTE_INFERENCE_PRECISION": "fp32",
}


def _children(service: ServiceProcess) -> list[psutil.Process]:
    """The serving processes; the embedded database's are not among them."""
    return [
        each for each in psutil.Process(service.pid).children() if "serve-process" in each.cmdline()
    ]


def _metrics_folders(service: ServiceProcess) -> list[Path]:
    return [
        Path(folder)
        for child in _children(service)
        if (folder := child.environ().get("PROMETHEUS_MULTIPROC_DIR"))
    ]


@pytest.fixture(scope="module")
def begun(models_dir: Path) -> Iterator[tuple[ConfiguredService, str]]:
    """A service with a new database, and the log of its first start."""
    with open_folder() as folder:
        service = ConfiguredService(folder, models_dir, _TWO_PROCESSES, first_start=True)
        try:
            log = service.start().log
            yield service, log
            children = _children(service)
            (metrics, *_) = _metrics_folders(service)
            assert service.stop(signal.SIGINT) == 0
            assert not any(child.is_running() for child in children)
            assert postgres_of(service) == []
            assert not metrics.exists()
            assert "Traceback" not in service.log
        finally:
            end(service)


@pytest.fixture
def pair(begun: tuple[ConfiguredService, str]) -> ConfiguredService:
    return begun[0]


def test_each_process_serves_and_all_answer_with_the_sum_of_the_metrics(
    pair: ConfiguredService,
) -> None:
    asked = 'facette_http_requests_total{method="GET",route="/healthz",status="200"}'
    before = pair.metric(asked)
    children = _children(pair)
    assert len(children) == _COUNT
    for child in children:
        others = [each for each in children if each != child]
        for other in others:
            other.suspend()
        try:
            assert httpx.get(f"{pair.url}/healthz").status_code == 200
            assert pair.metric(asked) == before + 1
        finally:
            for other in others:
                other.resume()
        before += 1


def test_the_database_is_migrated_once_and_the_greeting_is_printed_once(
    begun: tuple[ConfiguredService, str],
) -> None:
    _, log = begun
    assert log.count("migration applied") == len(load_migrations())
    assert log.count("serving on") == 1


def test_process_that_dies_is_replaced_while_the_other_one_serves(
    pair: ConfiguredService, photo: bytes
) -> None:
    victim, other = _children(pair)
    ready = pair.log.count("process ready")
    victim.kill()
    wait_until(lambda: "status=SIGKILL" in pair.log)
    with pair.client() as client:
        assert insert(client, photo).status_code == 200
    wait_until(lambda: pair.log.count("process ready") > ready)
    found = _children(pair)
    assert len(found) == _COUNT
    assert other in found
    assert victim not in found


def test_reload_reaches_every_process(pair: ConfiguredService) -> None:
    pair.configure(token="another-token-for-tests")
    pair.hang_up("changed=auth.token", times=_COUNT)
    pair.configure()
    pair.hang_up("changed=auth.token", times=_COUNT)


def test_each_process_sweeps_and_an_orphan_is_swept_once(
    pair: ConfiguredService, photo: bytes
) -> None:
    tenant = TenantId("swept")
    before = pair.metric("facette_swept_blobs_total")
    pair.configure("[blobs]\nsweep_interval_s = 0.1\n")
    pair.hang_up("changed=blobs.sweep_interval_s", times=_COUNT)
    uploads = pair.data_dir / "uploads"
    with pair.client() as client:
        image_id = insert(client, photo, tenant).json()["image_id"]
    kept = uploads / image_key(tenant, ImageId(image_id), "jpg")
    orphan = uploads / image_key(tenant, ImageId(str(uuid4())), "jpg")
    orphan.write_bytes(photo)
    hour_ago = time.time() - 3600
    for path in (kept, orphan):
        os.utime(path, (hour_ago, hour_ago))
    wait_until(lambda: not orphan.exists())
    wait_until(lambda: pair.metric("facette_swept_blobs_total") == before + 1)
    assert kept.exists()
    pair.configure()
    pair.hang_up("changed=blobs.sweep_interval_s", times=_COUNT)


def test_processes_outlive_their_database_but_not_their_parent_whose_next_start_takes_over(
    pair: ConfiguredService, photo: bytes
) -> None:
    children = _children(pair)
    (folder, *_) = _metrics_folders(pair)
    with pair.client() as client:
        assert insert(client, photo).status_code == 200
        (server,) = postgres_of(pair)
        before = len(pair.log)
        server.send_signal(signal.SIGKILL)
        wait_until(lambda: insert(client, photo).status_code == 200)
        wait_until(lambda: client.get("/readyz").status_code == 200)
    assert pair.log[before:].count("the embedded database crashed and is restarted") == 1
    assert _children(pair) == children

    pair.kill()
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert (len(gone), alive) == (_COUNT, [])
    assert not folder.exists()

    # From here on the log is that of the new start, without the driver's words on the outage.
    assert len(_children(pair.start())) == _COUNT
    (folder, *_) = _metrics_folders(pair)
    assert folder.is_dir()


def test_processes_that_cannot_start_end_the_service_with_a_message(
    service_folder: Path, models_dir: Path
) -> None:
    own = ConfiguredService(service_folder, models_dir, _TWO_PROCESSES)
    own.configure('[paths]\nupload_dir = "/proc/nowhere"\n')
    lay_database(own.data_dir)
    try:
        assert own.launch().wait(60) == 2
        assert "paths.upload_dir" in own.log
        assert "models loaded" not in own.log, "the cheaper check comes first"
        assert "a process ended before it was ready: giving up" in own.log
        assert postgres_of(own) == []
    finally:
        end(own)

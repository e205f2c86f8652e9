"""Several serving processes on one port: they add up, are replaced, and go together."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest

from bench.common.server import ServiceProcess
from service.store.database.migrations import load_migrations
from tests.support.folders import open_folder
from tests.support.live import ConfiguredService, end, insert, postgres_of, wait_until

_COUNT = 2
_TWO_PROCESSES = {"FACETTE_SERVER_PROCESSES": str(_COUNT)}


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
def pair(models_dir: Path) -> Iterator[ConfiguredService]:
    with open_folder() as folder:
        service = ConfiguredService(folder, models_dir, _TWO_PROCESSES, first_start=True)
        service.start()
        yield service
        assert service.stop() == 0
        assert "Traceback" not in service.log


@pytest.fixture
def own(service_folder: Path, models_dir: Path) -> Iterator[ConfiguredService]:
    """The same for one test, which may leave it in any state."""
    service = ConfiguredService(service_folder, models_dir, _TWO_PROCESSES)
    yield service
    end(service)


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
    pair: ConfiguredService,
) -> None:
    assert pair.log.count("migration applied") == len(load_migrations())
    assert pair.log.count("serving on") == 1


def test_process_that_dies_is_replaced_while_the_other_one_serves(
    pair: ConfiguredService, portraits: list[Path]
) -> None:
    victim, other = _children(pair)
    ready = pair.log.count("process ready")
    victim.kill()
    wait_until(lambda: "status=SIGKILL" in pair.log)
    with pair.client() as client:
        assert insert(client, portraits[1].read_bytes()).status_code == 200
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


def test_processes_end_with_their_parent_and_the_next_start_takes_over(
    own: ConfiguredService,
) -> None:
    children = _children(own.start())
    (folder, *_) = _metrics_folders(own)
    own.kill()
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert (len(gone), alive) == (_COUNT, [])
    assert not folder.exists()

    children = _children(own.start())
    (folder, *_) = _metrics_folders(own)
    assert folder.is_dir()
    assert own.stop(signal.SIGINT) == 0
    assert not any(child.is_running() for child in children)
    assert postgres_of(own) == []
    assert not folder.exists()


def test_processes_that_cannot_start_end_the_service_with_a_message(
    own: ConfiguredService,
) -> None:
    own.configure('[paths]\nupload_dir = "/proc/nowhere"\n')
    assert own.launch().wait(60) == 2
    assert "paths.upload_dir" in own.log
    assert "a process ended before it was ready: giving up" in own.log
    assert postgres_of(own) == []

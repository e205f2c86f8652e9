"""Settings and models exchanged while requests come in: what changes, what stays, what fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from bench.common.server import TOKEN
from service.runtime.manifest import MANIFEST_NAME
from tests.support.folders import open_folder
from tests.support.live import ConfiguredService, busy, insert, wait_until
from tests.support.models import link_models
from tests.support.service import lay_database

_OTHER_TOKEN = "another-token-for-tests"
_RELOADS = 'facette_reloads_total{outcome="ok"}'


@pytest.fixture(scope="module")
def running(models_dir: Path) -> Iterator[ConfiguredService]:
    """A service with models of its own, which a test may change."""
    with open_folder() as folder:
        models = link_models(models_dir, folder / "models")
        # Its precision is in no setting, since tests set it.
        process = ConfiguredService(folder, models, first_start=True)
        lay_database(process.data_dir)
        process.start()
        yield process
        assert process.stop() == 0
        assert "Traceback" not in process.log


@pytest.fixture
def live(running: ConfiguredService, models_dir: Path) -> ConfiguredService:
    """The same with the settings and models that all tests begin with."""
    running.configure()
    link_models(models_dir, running.folder / "models")
    running.hang_up("reloaded")
    return running


@pytest.fixture
def photo(portraits: list[Path]) -> bytes:
    return portraits[1].read_bytes()


def _change_embedder(live: ConfiguredService, **changes: Any) -> None:
    path = live.folder / "models" / MANIFEST_NAME
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["models"]["embedder"] |= changes
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_new_limits_hold_at_once_and_no_request_under_load_fails(
    live: ConfiguredService, photo: bytes
) -> None:
    big = bytes(3_000_000)
    with (
        live.client() as client,
        busy(live, lambda each: insert(each, photo), callers=4) as callers,
    ):
        assert insert(client, big).status_code == 415
        live.configure("[server]\nmax_body_bytes = 2_000_000\n")
        log = live.hang_up("reloaded")
        assert insert(client, big).status_code == 413
    assert "changed=server.max_body_bytes models=kept" in log
    assert set(callers.answers) == {200}
    assert not callers.failures


def test_new_token_replaces_the_old_one_while_the_service_stays_ready(
    live: ConfiguredService,
) -> None:
    with busy(live, lambda client: client.get("/readyz"), callers=2) as callers:
        live.configure(token=_OTHER_TOKEN)
        log = live.hang_up("reloaded")
        statuses = [
            httpx.get(
                f"{live.url}/review-pending-list",
                params={"tenant_id": "t"},
                headers={"token": token},
            ).status_code
            for token in (TOKEN, _OTHER_TOKEN)
        ]
    assert "changed=auth.token" in log
    assert _OTHER_TOKEN not in log
    assert statuses == [403, 200]
    assert set(callers.answers) == {200}


def test_other_models_are_exchanged_under_load_without_a_failed_request(
    live: ConfiguredService, photo: bytes
) -> None:
    model = 'facette_model{model="embedder",precision="%s",provider="cpu"}'
    with busy(live, lambda client: insert(client, photo), callers=4) as callers:
        _change_embedder(live, variants=[])
        (live.folder / "models" / "facenet-int8.onnx").unlink(missing_ok=True)
        live.configure('[inference]\nprecision = "fp32"\nprovider = "cpu"\n')
        log = live.hang_up("reloaded")
        before = callers.answered
        with live.client() as client:
            assert insert(client, photo).json()["faces"][0]["is_auto_matched"]
    assert "models=exchanged" in log
    assert set(callers.answers) == {200}
    assert not callers.failures
    assert callers.answered > before
    assert live.metric(model % "fp32") == 1
    assert live.metric(model % "int8") == 0


def test_models_of_another_embedding_space_are_not_taken_over_by_a_reload(
    live: ConfiguredService, photo: bytes
) -> None:
    path = live.folder / "models" / MANIFEST_NAME
    model = json.loads(path.read_text(encoding="utf-8"))["models"]["embedder"]
    embedding = model["embeddings"][0] | {"space": "another-space"}
    with live.client() as client:
        (first,) = insert(client, photo, "spaces").json()["faces"]
        _change_embedder(live, embeddings=[embedding])
        log = live.hang_up("reload failed")
        (second,) = insert(client, photo, "spaces").json()["faces"]
    assert "facette reembed --model NAME" in log
    assert second["cluster_id"] == first["cluster_id"]


def test_broken_configuration_is_said_in_one_line_and_changes_nothing(
    live: ConfiguredService, photo: bytes
) -> None:
    failed = live.metric('facette_reloads_total{outcome="failed"}')
    live.configure("[server]\nprot = 1\n", token=_OTHER_TOKEN)
    log = live.hang_up("reload failed")
    (line,) = (line for line in log.splitlines() if " error " in line)
    assert "reload failed" in line
    assert "line 4: [server] prot: there is no such setting" in line
    with live.client() as client:
        assert insert(client, photo).status_code == 200
    assert live.metric('facette_reloads_total{outcome="failed"}') == failed + 1


def test_models_that_cannot_be_used_leave_the_running_ones(
    live: ConfiguredService, photo: bytes
) -> None:
    _change_embedder(live, file="not-there.onnx", variants=[])
    assert "not-there.onnx is missing" in live.hang_up("reload failed")
    with live.client() as client:
        assert insert(client, photo).status_code == 200


def test_settings_that_need_a_restart_are_named_and_keep_their_value(
    live: ConfiguredService,
) -> None:
    live.configure("[server]\nport = 1\nmax_wait_ms = 4000\n[database_pool]\nmax_connections = 3\n")
    log = live.hang_up("reloaded")
    assert "changed=server.max_wait_ms models=kept" in log
    assert "needs_restart=server.port,database_pool.max_connections" in log
    assert httpx.get(f"{live.url}/readyz").status_code == 200


def test_log_level_changes_with_a_reload(live: ConfiguredService) -> None:
    reloads = live.metric(_RELOADS)
    httpx.get(f"{live.url}/healthz")
    assert "route=/healthz" in live.log
    live.configure('[server]\nlog_level = "error"\n')
    live.hang_up("", times=0)
    wait_until(lambda: live.metric(_RELOADS) > reloads)
    lines = live.log.count("route=/healthz")
    httpx.get(f"{live.url}/healthz")
    live.configure()
    live.hang_up("reloaded")
    assert live.log.count("route=/healthz") == lines

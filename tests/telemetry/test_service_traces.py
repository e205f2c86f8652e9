"""The traces of a running service, as a collector gets them."""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx2 as httpx
import pytest
from PIL import Image

from tests.support.folders import open_folder
from tests.support.otlp_collector import Collector, running_collector
from tests.support.service import TOKEN, ServiceProcess

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@dataclass(frozen=True)
class Traced:
    """A service that was called and has ended: what it told, and what it must not have."""

    collector: Collector
    log: str
    inserted: httpx.Response
    missing: httpx.Response
    secrets: list[str]


@pytest.fixture(scope="module")
def photo(portraits: list[Path]) -> bytes:
    with Image.open(portraits[0]) as file:
        small = file.convert("RGB").crop((120, 0, 350, 300)).resize((192, 250))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=92)
    return stream.getvalue()


def _insert(client: httpx.Client, tenant: str, photo: bytes, **headers: str) -> httpx.Response:
    return client.post(
        "/insert-image", data={"tenant_id": tenant}, files={"image": photo}, headers=headers
    )


@pytest.fixture(scope="module")
def traced(models_dir: Path, photo: bytes) -> Iterator[Traced]:
    tenant = f"tenant-{uuid4().hex}"
    with running_collector() as collector, open_folder() as folder:
        environment = {"FACETTE_TRACING_ENDPOINT": collector.endpoint}
        service = ServiceProcess(folder, models_dir, environment).start()
        with service.client() as client:
            inserted = _insert(client, tenant, photo, traceparent=f"00-{TRACE}-{PARENT}-01")
            told = inserted.json()
            client.get("/faces", params={"tenant_id": tenant, "image_id": told["image_id"]})
            missing = client.get("/face", params={"tenant_id": tenant, "face_id": "nobody"})
            client.get(f"/{tenant}/nowhere")
            for probe in ("/healthz", "/readyz", "/metrics"):
                client.get(probe)
        assert service.stop() == 0
        ids = [told["image_id"], *told["face_ids"], *told["face_ids"].values()]
        yield Traced(collector, service.log, inserted, missing, [tenant, TOKEN, *ids])


def test_each_request_but_the_probes_is_a_span(traced: Traced) -> None:
    names = sorted(span.name for span in traced.collector.spans if span.kind == "SERVER")
    assert names == ["GET", "GET /face", "GET /faces", "POST /insert-image"]


def test_a_request_continues_its_callers_trace(traced: Traced) -> None:
    span = traced.collector.named("POST /insert-image")
    assert (span.trace_id, span.parent_id) == (TRACE, PARENT)


def test_the_stages_of_a_photo_are_children_of_its_request(traced: Traced) -> None:
    request = traced.collector.named("POST /insert-image")
    header = traced.inserted.headers["server-timing"]
    stages = [stage.split(";")[0] for stage in header.split(", ")]
    assert {"decode", "detect", "embed", "store"} <= set(stages)
    children = traced.collector.children(request)
    assert sorted(child.name for child in children) == sorted(stages)


def test_a_span_names_the_request_as_its_caller_knows_it(traced: Traced) -> None:
    span = traced.collector.named("POST /insert-image")
    assert span.attributes["facette.request_id"] == traced.inserted.headers["x-request-id"]
    assert span.attributes["http.response.status_code"] == 200


def test_an_error_is_told_by_its_code(traced: Traced) -> None:
    span = traced.collector.named("GET /face")
    assert span.attributes["facette.error_code"] == traced.missing.json()["error"]["code"]
    assert span.attributes["http.response.status_code"] == 404
    assert not span.failed


def test_the_log_line_of_a_request_carries_its_trace(traced: Traced) -> None:
    request_id = traced.inserted.headers["x-request-id"]
    lines = [line for line in traced.log.splitlines() if f"request_id={request_id} " in line]
    assert len(lines) == 2  # of the audit trail, and of the request
    assert all(f"trace_id={TRACE}" in line for line in lines)


def test_traces_tell_nothing_personal(traced: Traced) -> None:
    assert len(traced.secrets) >= 5
    told = [secret for secret in traced.secrets if secret.encode() in traced.collector.raw]
    assert told == []


def test_a_service_whose_collector_is_away_serves_warns_and_ends_as_ever(
    service_folder: Path, models_dir: Path, photo: bytes, tenant: str
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    environment = {"FACETTE_TRACING_ENDPOINT": f"http://127.0.0.1:{port}/v1/traces"}
    service = ServiceProcess(service_folder, models_dir, environment).start()
    with service.client() as client:
        assert _insert(client, tenant, photo).status_code == 200
    assert service.stop() == 0
    assert set(re.findall(r"^\S+Z (\w+)", service.log, re.M)) == {"info", "warning"}
    assert "Traceback" not in service.log

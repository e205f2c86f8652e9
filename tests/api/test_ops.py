"""What operators see: health, readiness, metrics and the log, and what they must not see."""

from __future__ import annotations

import re

import httpx2 as httpx
import pytest

from bench.common.server import TOKEN, ServiceProcess
from service import __version__
from tests.support.calls import (
    Photos,
    call,
    change,
    insert,
    log_lines_of,
    metric,
    only_face,
    read,
    reviews,
    send,
    wait_until,
)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_operators_need_no_token(service: ServiceProcess, method: str, path: str) -> None:
    assert httpx.request(method, service.url + path).status_code == 200


def test_metrics_are_in_prometheus_text_format(service: ServiceProcess) -> None:
    answer = httpx.get(f"{service.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    sample = re.compile(r"[a-zA-Z_:][\w:]*(\{.*\})? (NaN|[+-]Inf|[-+\d.e]+)")
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    assert [line for line in lines if not sample.fullmatch(line)] == []


def test_metrics_tell_where_each_model_runs(service: ServiceProcess) -> None:
    text = httpx.get(f"{service.url}/metrics").text
    found = re.findall(
        r'^facette_model\{model="(\w+)",precision="(\w+)",provider="(\w+)"\} 1\.0$', text, re.M
    )
    assert sorted(model for model, _, _ in found) == ["embedder", "onet", "pnet", "rnet"]
    for model, precision, provider in found:
        assert f"{model}={provider}/{precision} " in service.log


def test_requests_are_counted_by_route_method_and_status(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    def counted(method: str, route: str, status: int) -> float:
        return metric(
            client, "facette_http_requests_total", method=method, route=route, status=status
        )

    watched = [
        ("POST", "/insert-image", 200),
        ("GET", "/face", 404),
        ("POST", "/insert-image", 415),
    ]
    before = [counted(*each) for each in watched]
    insert(client, tenant, photos.nobody)
    call(client, "GET", "/face", tenant_id=tenant, face_id="unknown")
    send(client, tenant, b"no image")
    assert [counted(*each) for each in watched] == [count + 1 for count in before]


@pytest.mark.parametrize("stage", ["queue", "decode", "detect", "embed", "store"])
def test_every_stage_of_a_photo_is_measured(
    client: httpx.Client, tenant: str, photos: Photos, stage: str
) -> None:
    before = metric(client, "facette_stage_seconds_count", stage=stage)
    insert(client, tenant, photos.astronaut)
    assert metric(client, "facette_stage_seconds_count", stage=stage) == before + 1


def test_unknown_paths_add_no_metric_of_their_own(client: httpx.Client, tenant: str) -> None:
    client.get(f"/{tenant}")
    assert tenant not in client.get("/metrics").text


@pytest.mark.parametrize("method", ["TRACE", "PUT", "PROPFIND"])
@pytest.mark.parametrize("path", ["/image", "/v1/tenants/a/people", "/healthz"])
def test_methods_that_no_route_takes_add_no_metric_of_their_own(
    client: httpx.Client, method: str, path: str
) -> None:
    assert client.request(method, path).status_code == 405
    assert f'method="{method}"' not in client.get("/metrics").text


@pytest.mark.parametrize(
    "gauge",
    [
        "facette_requests_in_flight",
        "facette_bytes_in_flight",
        "facette_backlog_seconds",
        "facette_photos_in_work",
        "facette_batch_waiting",
    ],
)
def test_nothing_is_in_progress_once_all_requests_are_answered(
    client: httpx.Client, tenant: str, photos: Photos, gauge: str
) -> None:
    insert(client, tenant, photos.astronaut)
    send(client, tenant, b"no image")
    send(client, tenant, photos.astronaut[:2000])
    wait_until(lambda: metric(client, gauge) == 0)
    assert re.search(rf"^{gauge}\b.* 0\.0$", client.get("/metrics").text, re.M)


@pytest.mark.parametrize("stage", ["decode", "rnet", "onet", "crop", "embedder"])
@pytest.mark.parametrize(
    "series", ["batch_cost_count", "batch_queue_seconds_count", "batch_run_seconds_count"]
)
def test_every_batch_of_a_photo_is_measured(
    client: httpx.Client, tenant: str, photos: Photos, series: str, stage: str
) -> None:
    before = metric(client, f"facette_{series}", stage=stage)
    insert(client, tenant, photos.astronaut)
    assert metric(client, f"facette_{series}", stage=stage) > before


def test_the_faces_of_a_photo_are_counted_by_how_they_found_their_cluster(
    client: httpx.Client, tenant: str, photos: Photos
) -> None:
    before = [metric(client, "facette_faces_total", outcome=o) for o in ("new", "matched")]
    insert(client, tenant, photos.astronaut)
    insert(client, tenant, photos.astronaut)
    after = [metric(client, "facette_faces_total", outcome=o) for o in ("new", "matched")]
    assert after == [before[0] + 1, before[1] + 1]


def test_metrics_tell_the_version_that_runs(client: httpx.Client) -> None:
    assert metric(client, "facette_build_info", version=__version__) == 1


def test_the_time_of_a_request_is_measured_by_route_and_method(
    client: httpx.Client, tenant: str
) -> None:
    route = {"method": "GET", "route": "/review-pending-list"}
    before = [
        metric(client, f"facette_http_request_seconds_{p}", **route) for p in ("count", "sum")
    ]
    reviews(client, tenant)
    after = [metric(client, f"facette_http_request_seconds_{p}", **route) for p in ("count", "sum")]
    assert after[0] == before[0] + 1
    assert after[1] > before[1]


def test_neither_metrics_nor_log_tell_a_tenant_or_the_token_beside_the_audit_trail(
    client: httpx.Client, tenant: str, photos: Photos, service: ServiceProcess
) -> None:
    answer = insert(client, tenant, photos.astronaut)
    ids = {"tenant_id": tenant, "image_id": answer["image_id"]}
    read(client, "/faces", **ids)
    reviews(client, tenant)
    given = {"tenant_id": tenant, "face_id": only_face(answer), "to_cluster_id": "new"}
    change(client, "POST", "/update-face-cluster", **given)
    for bad in (b"", b"no image", photos.astronaut[:2000]):
        send(client, tenant, bad)
    call(client, "GET", "/image", tenant_id=tenant, image_id=tenant)
    call(client, "GET", "/review-pending", tenant_id=tenant, review_id=tenant)
    change(client, "DELETE", "/image", **ids)
    log_lines_of(service, call(client, "DELETE", "/tenant", tenant_id=tenant))
    lines = [line for line in service.log.splitlines() if " audit " not in line]
    for told in (client.get("/metrics").text, "\n".join(lines)):
        assert tenant not in told
        assert TOKEN not in told


def test_every_request_has_one_line_in_the_log(
    client: httpx.Client, tenant: str, service: ServiceProcess
) -> None:
    answer = client.get("/review-pending-list", params={"tenant_id": tenant})
    (line,) = log_lines_of(service, answer)
    for field in ("method=GET", "route=/review-pending-list", "status=200"):
        assert field in line


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [("GET", "/nowhere", "route_not_found"), ("PUT", "/image", "method_not_allowed")],
)
def test_requests_that_no_route_takes_are_counted_by_code(
    client: httpx.Client, method: str, path: str, code: str
) -> None:
    before = metric(client, "facette_errors_total", code=code)
    client.request(method, path)
    assert metric(client, "facette_errors_total", code=code) == before + 1

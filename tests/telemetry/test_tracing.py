"""Traces: what a collector gets of requests and their stages, and that its absence does no harm."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from service import __version__
from service.domain.errors import ConfigError
from service.telemetry import StageClock, Tracing, open_tracing
from service.telemetry.tracing import current_request
from tests.support.otlp_collector import Collector, running_collector

ROOT = Path(__file__).resolve().parents[2]
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
UNSAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-00"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as found:
        yield found


def _serve(
    tracing: Tracing,
    *stages: str,
    method: str = "POST",
    path: str = "/v1/embed",
    headers: dict[str, str] | None = None,
    route: str = "/v1/embed",
    status: int = 200,
    code: str = "",
) -> str:
    """One request; returns the trace it says it belongs to."""
    clock = StageClock()
    with tracing.request(method, path, headers or {}) as span:
        for stage in stages:
            with clock.stage(stage):
                pass
        span.finish(route, status, code, "request-1")
        return span.trace_id


def test_a_request_is_a_server_span_named_by_method_and_route(collector: Collector) -> None:
    with closing(open_tracing(collector.endpoint, 1.0)) as tracing:
        trace_id = _serve(tracing)
    (span,) = collector.spans
    assert (span.name, span.kind, span.parent_id) == ("POST /v1/embed", "SERVER", "")
    assert (span.trace_id, span.failed) == (trace_id, False)
    assert span.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/embed",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "facette.request_id": "request-1",
    }


def test_the_service_is_named_with_its_version(collector: Collector) -> None:
    with closing(open_tracing(collector.endpoint, 1.0)) as tracing:
        _serve(tracing)
    assert collector.resource["service.name"] == "facette"
    assert collector.resource["service.version"] == __version__


def test_stages_are_children_of_their_request(collector: Collector) -> None:
    with closing(open_tracing(collector.endpoint, 1.0)) as tracing:
        _serve(tracing, "queue", "decode", "detect")
    request = collector.named("POST /v1/embed")
    children = collector.children(request)
    assert [child.name for child in children] == ["queue", "decode", "detect"]
    assert {(child.trace_id, child.kind) for child in children} == {(request.trace_id, "INTERNAL")}
    assert request.begin_ns <= children[0].begin_ns
    assert children[-1].end_ns <= request.end_ns


async def test_requests_served_at_once_keep_their_stages_apart(collector: Collector) -> None:
    both = asyncio.Barrier(2)

    async def serve(tracing: Tracing, route: str) -> None:
        with tracing.request("POST", route, {}) as span:
            await both.wait()
            with StageClock().stage(f"stage of {route}"):
                await both.wait()
            span.finish(route, 200)

    with closing(open_tracing(collector.endpoint, 1.0)) as tracing:
        await asyncio.gather(serve(tracing, "/a"), serve(tracing, "/b"))
    for route in ("/a", "/b"):
        (child,) = collector.children(collector.named(f"POST {route}"))
        assert child.name == f"stage of {route}"


def test_a_callers_trace_is_continued(collector: Collector) -> None:
    with closing(open_tracing(collector.endpoint, 1.0)) as tracing:
        told = _serve(tracing, headers=SAMPLED)
    (span,) = collector.spans
    assert (span.trace_id, span.parent_id, told) == (TRACE, PARENT, TRACE)


@pytest.mark.parametrize(
    "given",
    ["", "garbage", f"00-{'0' * 32}-{PARENT}-01", "00-" + "f" * 9999],
    ids=["empty", "garbage", "zeros", "endless"],
)
def test_a_broken_traceparent_begins_a_new_trace(collector: Collector, given: str) -> None:
    with closing(open_tracing(collector.endpoint, 1.0)) as tracing:
        _serve(tracing, headers={"traceparent": given})
    (span,) = collector.spans
    assert span.parent_id == ""
    assert span.trace_id not in (TRACE, "0" * 32)


@pytest.mark.parametrize(
    ("ratio", "headers", "kept"),
    [(0.0, {}, 0), (1.0, {}, 2), (0.0, SAMPLED, 2), (1.0, UNSAMPLED, 0)],
    ids=["none begun here", "all begun here", "caller keeps", "caller drops"],
)
def test_the_caller_decides_on_its_trace_and_the_ratio_on_others(
    collector: Collector, ratio: float, headers: dict[str, str], kept: int
) -> None:
    with closing(open_tracing(collector.endpoint, ratio)) as tracing:
        _serve(tracing, "decode", headers=headers)
    assert len(collector.spans) == kept


@pytest.mark.parametrize(
    ("status", "code", "failed", "error_type"),
    [
        (200, "", False, None),
        (404, "face_not_found", False, None),
        (429, "overloaded", False, None),
        (500, "internal_error", True, "internal_error"),
        (503, "", True, "503"),
        (504, "deadline_exceeded", True, "deadline_exceeded"),
    ],
)
def test_only_the_services_own_errors_make_a_span_fail(
    collector: Collector, status: int, code: str, failed: bool, error_type: str | None
) -> None:
    with closing(open_tracing(collector.endpoint, 1.0)) as tracing:
        _serve(tracing, status=status, code=code)
    (span,) = collector.spans
    assert span.failed == failed
    assert span.attributes["http.response.status_code"] == status
    assert span.attributes.get("facette.error_code", "") == code
    assert span.attributes.get("error.type") == error_type


def test_a_stage_that_fails_tells_the_kind_of_error_but_not_its_message(
    collector: Collector,
) -> None:
    with (
        closing(open_tracing(collector.endpoint, 1.0)) as tracing,
        pytest.raises(ValueError, match="of tenant x"),
        tracing.request("GET", "/a", {}),
        StageClock().stage("decode"),
    ):
        raise ValueError("of tenant x")
    span = collector.named("decode")
    assert (span.failed, span.attributes) == (True, {"error.type": "ValueError"})
    assert b"tenant" not in collector.raw


def test_paths_that_no_route_takes_and_unknown_methods_are_not_told(collector: Collector) -> None:
    with closing(open_tracing(collector.endpoint, 1.0)) as tracing:
        _serve(tracing, path="/secret-path", route="", status=404)
        _serve(tracing, path="/secret-path", route="", status=405, method="SECRET-WORD")
    assert sorted(span.name for span in collector.spans) == ["HTTP", "POST"]
    assert collector.named("HTTP").attributes["http.request.method"] == "_OTHER"
    assert b"secret" not in collector.raw.lower()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_have_no_spans(collector: Collector, path: str) -> None:
    with closing(open_tracing(collector.endpoint, 1.0)) as tracing:
        assert _serve(tracing, "decode", path=path, route=path) == ""
    assert collector.spans == []


@pytest.mark.parametrize("raised", [RuntimeError, asyncio.CancelledError])
def test_a_request_that_is_broken_off_ends_its_span_and_is_no_longer_current(
    collector: Collector, raised: type[BaseException]
) -> None:
    before = current_request.get()
    with closing(open_tracing(collector.endpoint, 1.0)) as tracing:
        with pytest.raises(raised), tracing.request("GET", "/a", {}):
            raise raised
        assert current_request.get() is before
    (span,) = collector.spans
    assert (span.name, "http.response.status_code" in span.attributes) == ("GET", False)


@pytest.mark.parametrize("status", [400, 503])
def test_a_collector_that_refuses_disturbs_no_request(collector: Collector, status: int) -> None:
    collector.status = status
    with closing(open_tracing(collector.endpoint, 1.0)) as tracing:
        for _ in range(3000):  # more than wait at most
            assert _serve(tracing)
    assert collector.spans == []


def test_a_collector_that_is_away_disturbs_no_request() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    with closing(open_tracing(f"http://127.0.0.1:{port}/v1/traces", 1.0)) as tracing:
        assert _serve(tracing, "decode")


def test_requests_after_the_end_are_served_without_traces(collector: Collector) -> None:
    tracing = open_tracing(collector.endpoint, 1.0)
    tracing.close()
    _serve(tracing, "decode")
    tracing.close()
    assert collector.spans == []


def test_tracing_that_is_off_tells_no_trace() -> None:
    clock = StageClock()
    with Tracing.off().request("GET", "/face", SAMPLED) as span, clock.stage("store"):
        span.finish("/face", 200)
        assert span.trace_id == ""
    assert list(clock.seconds) == ["store"]


def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded() -> None:
    program = (
        "import sys; import service.app.service; from service.telemetry import open_tracing\n"
        "open_tracing('', 1.0)\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_an_endpoint_without_the_extra_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "service.telemetry.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"facette\[tracing\]"):
        open_tracing("http://127.0.0.1:4318/v1/traces", 1.0)

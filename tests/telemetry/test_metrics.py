"""Metrics of one process, and of several that answer for each other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service import __version__
from service.telemetry import Metrics, forget_process

ROOT = Path(__file__).resolve().parents[2]
# A process of a service: counts something, or answers for all, as it is told.
PROCESS = """
import sys
from service.telemetry import Metrics
metrics = Metrics()
for line in sys.stdin:
    match line.split():
        case ["count", amount]:
            metrics.requests.labels("POST", "/v1/embed", "200").inc(float(amount))
            metrics.request_seconds.labels("POST", "/v1/embed").observe(0.004)
            metrics.in_flight.set(float(amount))
            metrics.backlog_seconds.set(float(amount))
            metrics.bytes_in_flight.set(float(amount))
            metrics.photos_in_work.set(float(amount))
            metrics.batch_waiting.labels("rnet").set(float(amount))
            metrics.model.labels("embedder", "CPU", "fp32").set(1)
        case ["show"]:
            print(metrics.exposition().decode())
    print("end", flush=True)
"""


class Process:
    """One of several processes of a service."""

    def __init__(self, folder: Path) -> None:
        self.running = subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            cwd=ROOT,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, command: str) -> str:
        assert self.running.stdin is not None
        assert self.running.stdout is not None
        print(command, file=self.running.stdin, flush=True)
        lines = []
        for line in self.running.stdout:
            if line == "end\n":
                return "".join(lines)
            lines.append(line)
        pytest.fail(f"it ended with {self.running.wait()}")

    def samples(self) -> dict[str, float]:
        return _samples(self.tell("show"))

    def end(self) -> None:
        self.running.communicate()


def _samples(text: str) -> dict[str, float]:
    """Values by name and labels, as `name{a=b,c=d}` with the labels in order of their names."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


@contextmanager
def _processes(folder: Path, count: int) -> Iterator[list[Process]]:
    processes = [Process(folder) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            if process.running.poll() is None:
                process.end()


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[Process]]:
    """Two processes that counted 2 and 3 requests."""
    with _processes(tmp_path, 2) as processes:
        processes[0].tell("count 2")
        processes[1].tell("count 3")
        yield processes


ROUTE = "method=POST,route=/v1/embed"
GAUGES = [
    "facette_requests_in_flight{}",
    "facette_bytes_in_flight{}",
    "facette_backlog_seconds{}",
    "facette_photos_in_work{}",
    "facette_batch_waiting{stage=rnet}",
]


def test_each_process_answers_for_all(two: list[Process]) -> None:
    for process in two:
        found = process.samples()
        assert found[f"facette_http_requests_total{{{ROUTE},status=200}}"] == 5
        assert found[f"facette_http_request_seconds_count{{{ROUTE}}}"] == 2
        assert found[f"facette_http_request_seconds_bucket{{le=0.005,{ROUTE}}}"] == 2
        assert [found[gauge] for gauge in GAUGES] == [5] * len(GAUGES)


def test_what_describes_every_process_is_not_summed(two: list[Process]) -> None:
    found = two[0].samples()
    assert found["facette_model{model=embedder,precision=fp32,provider=CPU}"] == 1
    assert found[f"facette_build_info{{version={__version__}}}"] == 1


def test_numbers_of_one_process_are_left_out_where_there_are_several(two: list[Process]) -> None:
    assert [name for name in two[0].samples() if name.startswith("process_")] == []


def test_a_forgotten_process_keeps_its_counts_but_not_its_gauges(
    two: list[Process], tmp_path: Path
) -> None:
    two[0].end()
    forget_process(two[0].running.pid, str(tmp_path))
    found = two[1].samples()
    assert found[f"facette_http_requests_total{{{ROUTE},status=200}}"] == 5
    assert [found[gauge] for gauge in GAUGES] == [3] * len(GAUGES)


def test_a_process_that_follows_another_adds_to_its_counts(tmp_path: Path) -> None:
    for _ in range(2):
        with _processes(tmp_path, 1) as (process,):
            process.tell("count 2")
            found = process.samples()
    assert found[f"facette_http_requests_total{{{ROUTE},status=200}}"] == 4


def test_a_folder_named_too_late_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with pytest.raises(RuntimeError, match="PROMETHEUS_MULTIPROC_DIR"):
        Metrics()


def test_one_module_alone_knows_the_variable_of_prometheus_client() -> None:
    service = Path(__file__).resolve().parents[2] / "service"
    modules = [
        path.name
        for path in service.rglob("*.py")
        if "PROMETHEUS_MULTIPROC_DIR" in path.read_text("utf-8")
    ]
    assert modules == ["shared_metrics.py"]


def test_a_single_process_tells_its_own_numbers() -> None:
    found = _samples(Metrics().exposition().decode())
    assert found["process_resident_memory_bytes{}"] > 0


@pytest.mark.parametrize(
    "series",
    [
        *(
            f"facette_refusals_total{{reason={reason}}}"
            for reason in ("requests", "bytes", "backlog", "tenant", "address", "deadline")
        ),
        "facette_reloads_total{outcome=ok}",
        "facette_reloads_total{outcome=failed}",
        "facette_clients_gone_total{}",
        "facette_orphan_blobs_total{}",
        "facette_swept_blobs_total{}",
        "facette_sweep_failures_total{}",
        "facette_questions_total{}",
        "facette_rejoined_people_total{}",
        "facette_asking_failures_total{}",
    ],
)
def test_counters_that_alerts_watch_begin_at_zero(series: str) -> None:
    assert _samples(Metrics().exposition().decode())[series] == 0


@pytest.mark.parametrize(
    ("histogram", "seconds"),
    [
        ("facette_batch_run_seconds", (0.0002, 0.0004, 0.0008, 0.0016)),
        ("facette_batch_queue_seconds", (0.00005, 0.0002, 0.0004, 0.0008)),
        ("facette_http_request_seconds", (0.0004, 0.0008, 0.0016, 0.0028, 0.0045, 0.007)),
    ],
)
def test_durations_of_about_a_millisecond_fall_into_buckets_of_their_own(
    histogram: str, seconds: tuple[float, ...]
) -> None:
    metrics = Metrics()
    observed = {
        "facette_batch_run_seconds": metrics.batch_run_seconds.labels("rnet"),
        "facette_batch_queue_seconds": metrics.batch_queue_seconds.labels("rnet"),
        "facette_http_request_seconds": metrics.request_seconds.labels("POST", "/v1/embed"),
    }[histogram]
    for value in seconds:
        observed.observe(value)
    found = _samples(metrics.exposition().decode())
    filled = [value for name, value in found.items() if name.startswith(f"{histogram}_bucket")]
    assert set(range(1, len(seconds) + 1)) <= set(filled)


def test_the_text_tells_no_moments_of_creation() -> None:
    metrics = Metrics()
    metrics.requests.labels("GET", "/face", "200").inc()
    assert not re.search(r"_created\b", metrics.exposition().decode())

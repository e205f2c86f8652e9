"""Every metric of the service: its name, labels and buckets, and how processes are added up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector

from service import __version__
from service.telemetry.shared_metrics import shared_metrics_dir

# A crop is embedded in a few milliseconds, a large photo under load takes seconds, and a request
# may be given a minute.
_REQUEST_BUCKETS_S: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25,
    0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
# The stages of a photo, and the waiting and running of a batch.
_STAGE_BUCKETS_S: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
REFUSAL_REASONS: Final = ("requests", "bytes", "backlog", "tenant", "deadline")
# Why a connection was turned away, closed, or its request refused before any part of it was served.
CONNECTION_REASONS: Final = (
    "address", "connections", "displaced", "silent", "head_timeout", "head_too_large", "pipeline",
    "malformed", "stopping", "unread",
)  # fmt: skip
BACKGROUND_TASKS: Final = ("indexer", "codes", "sweeps", "model_watch")
_SIZE_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

# The moment a series began is of no use to Prometheus, and a quarter of the text.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Every metric of one service, in a registry of its own.

    The processes of one service share their metrics in a folder, and each of them reports the
    totals: counters and histograms over all processes since the start, gauges over those that run.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._shared_dir = shared_metrics_dir()
        if self._shared_dir is None:
            ProcessCollector(registry=self.registry)
        self._count_connections()
        self._count_requests()
        self._count_work()
        self._count_outcomes()
        self._build = Gauge(
            "facette_build_info",
            "1, with the version that runs.",
            ("version",),
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self._build.labels(__version__).set(1)

    def _count_connections(self) -> None:
        self.connections = Gauge(
            "facette_connections",
            "Connections open now, those of the operations port apart.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.connection_refusals = Counter(
            "facette_connection_refusals",
            "Connections turned away or given up before a request of theirs was served: address or "
            "connections (no room), displaced (for another), silent, head_timeout, head_too_large, "
            "pipeline, malformed, stopping or unread (its answers were not taken).",
            ("reason",),
            registry=self.registry,
        )
        _begin_at_zero(self.connection_refusals, CONNECTION_REASONS)

    def _count_requests(self) -> None:
        self.requests = Counter(
            "facette_http_requests",
            "Requests answered, by route and status; 499 where the caller had gone.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "facette_http_request_seconds",
            "Time from the request's head to the end of its answer.",
            ("method", "route"),
            buckets=_REQUEST_BUCKETS_S,
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
            "Requests that hold a permit and are not answered yet.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.bytes_in_flight = Gauge(
            "facette_bytes_in_flight",
            "Bytes of request bodies held now.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.refusals = Counter(
            "facette_refusals",
            "Requests refused before any work: requests, bytes, backlog, tenant or deadline.",
            ("reason",),
            registry=self.registry,
        )
        _begin_at_zero(self.refusals, REFUSAL_REASONS)
        self.backlog_seconds = Gauge(
            "facette_backlog_seconds",
            "Predicted worker seconds of the work that was admitted and is not done.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.clients_gone = Counter(
            "facette_clients_gone",
            "Requests whose caller hung up before the answer.",
            registry=self.registry,
        )

    def _count_work(self) -> None:
        self.stage_seconds = Histogram(
            "facette_stage_seconds",
            "Time a photo spent in each stage.",
            ("stage",),
            buckets=_STAGE_BUCKETS_S,
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
            multiprocess_mode="livesum",
        )
        self.batch_queue_seconds = Histogram(
            "facette_batch_queue_seconds",
            "How long the oldest item of a batch waited for a worker.",
            ("stage",),
            buckets=_STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self.batch_run_seconds = Histogram(
            "facette_batch_run_seconds",
            "How long a batch ran.",
            ("stage",),
            buckets=_STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self.photos_in_work = Gauge(
            "facette_photos_in_work",
            "Photos held decoded now.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.abandoned = Counter(
            "facette_abandoned_items",
            "Items skipped before a worker took them: the caller had gone, or its deadline passed.",
            ("stage", "reason"),
            registry=self.registry,
        )

    def _count_outcomes(self) -> None:
        self.faces = Counter(
            "facette_faces",
            "Faces stored, by how they found their cluster.",
            ("outcome",),
            registry=self.registry,
        )
        self.searches = Counter(
            "facette_searches",
            "Searches for near faces, by path: exact, by binary codes, or through an HNSW index.",
            ("path",),
            registry=self.registry,
        )
        _begin_at_zero(self.searches, ("exact", "codes", "index"))
        self.code_bytes = Gauge(
            "facette_face_code_bytes",
            "Memory that the binary codes of large tenants' faces take.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.index_builds = Counter(
            "facette_index_builds",
            "HNSW indexes built for large tenants, by outcome: ok or failed.",
            ("outcome",),
            registry=self.registry,
        )
        _begin_at_zero(self.index_builds, ("ok", "failed"))
        self.indexed_vectors = Counter(
            "facette_indexed_vectors",
            "New vectors taken into an HNSW index that was there.",
            registry=self.registry,
        )
        self.model = Gauge(
            "facette_model",
            "1 for each model, with the execution provider and precision it runs in.",
            ("model", "provider", "precision"),
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.orphan_blobs = Counter(
            "facette_orphan_blobs",
            "Blobs that could not be removed after their row was gone.",
            registry=self.registry,
        )
        self.swept_blobs = Counter(
            "facette_swept_blobs",
            "Blobs and unfinished files that no row named, removed by a sweep.",
            registry=self.registry,
        )
        self.sweep_failures = Counter(
            "facette_sweep_failures",
            "Sweeps for orphan blobs that ended early.",
            registry=self.registry,
        )
        self.last_sweep = Gauge(
            "facette_last_sweep_timestamp_seconds",
            "When a sweep for orphan blobs last came to its end, in Unix time; 0 for not yet.",
            registry=self.registry,
            multiprocess_mode="max",
        )
        self.reloads = Counter(
            "facette_reloads",
            "Reloads of configuration and models, by outcome: ok or failed.",
            ("outcome",),
            registry=self.registry,
        )
        _begin_at_zero(self.reloads, ("ok", "failed"))
        self.background_failures = Counter(
            "facette_background_failures",
            "Background tasks that ended early and were restarted, by task.",
            ("task",),
            registry=self.registry,
        )
        _begin_at_zero(self.background_failures, BACKGROUND_TASKS)

    def exposition(self) -> bytes:
        """All metrics in Prometheus's text format; of all processes, where there are several."""
        if self._shared_dir is None:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone, path=self._shared_dir)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)


def _begin_at_zero(counter: Counter, labels: Iterable[str]) -> None:
    """Show every value from the start: Prometheus sees no increase in what first appears as 1."""
    for label in labels:
        counter.labels(label)

"""The metrics of the service: names, labels, buckets, and aggregation over processes."""

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
from service.domain.keys import KeyFault
from service.telemetry.shared_metrics import shared_metrics_dir

# Embedding a crop takes a few milliseconds, a large photo under load seconds; a deadline may be a
# minute.
_REQUEST_BUCKETS_S: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25,
    0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
# For the stages of a photo, and the wait and run of a batch.
_STAGE_BUCKETS_S: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
REFUSAL_REASONS: Final = ("requests", "bytes", "backlog", "tenant", "address", "deadline")
# Reasons to refuse or close a connection, or to refuse a request before it is served.
CONNECTION_REASONS: Final = (
    "address", "connections", "displaced", "silent", "head_timeout", "head_too_large", "pipeline",
    "malformed", "stopping", "unread",
)  # fmt: skip
BACKGROUND_TASKS: Final = (
    *("indexer", "codes", "sweeps", "model_watch", "key_uses", "changes"),
    "pruning",
)
_SIZE_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

# Prometheus does not use the creation times of series, a quarter of the text.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one service, in a registry of their own.

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
            "1, labelled with the running version.",
            ("version",),
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self._build.labels(__version__).set(1)

    def _count_connections(self) -> None:
        self.connections = Gauge(
            "facette_connections",
            "Open connections, without those of the operations port.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.connection_refusals = Counter(
            "facette_connection_refusals",
            "Connections or requests refused, and connections closed, by reason: address or "
            "connections (limit reached), displaced (by another), silent, head_timeout, "
            "head_too_large, pipeline, malformed, stopping or unread (answers were not read).",
            ("reason",),
            registry=self.registry,
        )
        _begin_at_zero(self.connection_refusals, CONNECTION_REASONS)

    def _count_requests(self) -> None:
        self.requests = Counter(
            "facette_http_requests",
            "Requests, by route and status; 499 where the client disconnected before the answer.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "facette_http_request_seconds",
            "Time from the head of a request to the end of its answer.",
            ("method", "route"),
            buckets=_REQUEST_BUCKETS_S,
            registry=self.registry,
        )
        self.errors = Counter(
            "facette_errors",
            "Error answers, by error code.",
            ("code",),
            registry=self.registry,
        )
        self.refused_tokens = Counter(
            "facette_refused_tokens",
            "Failed attempts to authenticate, by reason: no_key, unknown, wrong_secret, "
            "master_lost, expired or revoked.",
            ("reason",),
            registry=self.registry,
        )
        _begin_at_zero(self.refused_tokens, KeyFault)
        self.in_flight = Gauge(
            "facette_requests_in_flight",
            "Requests that hold a permit and are not answered yet.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.bytes_in_flight = Gauge(
            "facette_bytes_in_flight",
            "Bytes of the bodies of requests in flight.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.refusals = Counter(
            "facette_refusals",
            "Requests refused unserved: requests, bytes, backlog, tenant, address or deadline.",
            ("reason",),
            registry=self.registry,
        )
        _begin_at_zero(self.refusals, REFUSAL_REASONS)
        self.backlog_seconds = Gauge(
            "facette_backlog_seconds",
            "Predicted worker seconds of admitted work that is not done yet.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.clients_gone = Counter(
            "facette_clients_gone",
            "Requests whose client disconnected before the answer.",
            registry=self.registry,
        )

    def _count_work(self) -> None:
        self.stage_seconds = Histogram(
            "facette_stage_seconds",
            "Time of a photo in each stage.",
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
            "Time that the oldest item of a batch waited for a worker.",
            ("stage",),
            buckets=_STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self.batch_run_seconds = Histogram(
            "facette_batch_run_seconds",
            "Run time of a batch.",
            ("stage",),
            buckets=_STAGE_BUCKETS_S,
            registry=self.registry,
        )
        self.photos_in_work = Gauge(
            "facette_photos_in_work",
            "Decoded photos in memory.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.abandoned = Counter(
            "facette_abandoned_items",
            "Items skipped before a worker took them: client gone, or deadline passed.",
            ("stage", "reason"),
            registry=self.registry,
        )

    def _count_outcomes(self) -> None:
        self.faces = Counter(
            "facette_faces",
            "Faces stored, by outcome: matched with a cluster, or new.",
            ("outcome",),
            registry=self.registry,
        )
        self.searches = Counter(
            "facette_searches",
            "Searches for near faces, by path: exact, by binary codes, or by an HNSW index.",
            ("path",),
            registry=self.registry,
        )
        _begin_at_zero(self.searches, ("exact", "codes", "index"))
        self.code_bytes = Gauge(
            "facette_face_code_bytes",
            "Memory of the binary codes of large tenants' faces.",
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
            "Vectors added to an existing HNSW index.",
            registry=self.registry,
        )
        self.model = Gauge(
            "facette_model",
            "1 for each model, labelled with its execution provider and precision.",
            ("model", "provider", "precision"),
            registry=self.registry,
            multiprocess_mode="livemax",
        )
        self.orphan_blobs = Counter(
            "facette_orphan_blobs",
            "Blobs that could not be removed after their row was deleted.",
            registry=self.registry,
        )
        self.swept_blobs = Counter(
            "facette_swept_blobs",
            "Blobs without a row and unfinished files that a sweep removed.",
            registry=self.registry,
        )
        self.sweep_failures = Counter(
            "facette_sweep_failures",
            "Sweeps for orphan blobs that failed.",
            registry=self.registry,
        )
        self.questions = Counter(
            "facette_questions",
            "Questions that the periodic look at people opened.",
            registry=self.registry,
        )
        self.rejoined_people = Counter(
            "facette_rejoined_people",
            "People that the machine itself made a part of another one.",
            registry=self.registry,
        )
        self.asking_failures = Counter(
            "facette_asking_failures",
            "Looks for questions that failed, in one tenant or as a whole.",
            registry=self.registry,
        )
        self.last_sweep = Gauge(
            "facette_last_sweep_timestamp_seconds",
            "Unix time of the end of the last complete sweep for orphan blobs; 0 before the first.",
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
        """The metrics of all processes in the text format of Prometheus."""
        if self._shared_dir is None:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone, path=self._shared_dir)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)


def _begin_at_zero(counter: Counter, labels: Iterable[str]) -> None:
    """Create each series with 0: Prometheus sees no increase in a series that begins with 1."""
    for label in labels:
        counter.labels(label)

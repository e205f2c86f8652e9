"""The services that request handlers use, and the lease on them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from service.api.auth import TokenGuard
from service.api.limiter import InFlightLimiter
from service.batching import Admission
from service.telemetry import Metrics
from service.usecases.curate import Curate
from service.usecases.ingest import IngestPhoto
from service.usecases.recognize import Recognize


@dataclass(frozen=True, slots=True)
class ApiServices:
    """The services of one generation."""

    ingest: IngestPhoto
    recognize: Recognize
    curate: Curate
    guard: TokenGuard
    limiter: InFlightLimiter
    admission: Admission
    metrics: Metrics
    max_body_bytes: int
    upload_timeout_s: float
    request_timeout_s: float
    ready: Callable[[], Awaitable[None]]
    exposition: Callable[[], Awaitable[bytes]]


Lease = Callable[[], AbstractContextManager[ApiServices]]
"""Leases the current services, which stay usable until the block ends."""

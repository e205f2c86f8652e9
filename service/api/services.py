"""What the handlers of requests reach, and how they take hold of it."""

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
    """What handlers reach."""

    ingest: IngestPhoto
    recognize: Recognize
    curate: Curate
    guard: TokenGuard
    limiter: InFlightLimiter
    admission: Admission
    metrics: Metrics
    upload_timeout_s: float
    request_timeout_s: float
    ready: Callable[[], Awaitable[None]]
    exposition: Callable[[], Awaitable[bytes]]


Lease = Callable[[], AbstractContextManager[ApiServices]]
"""Gives the services of the moment, which stay usable for as long as they are held."""

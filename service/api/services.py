"""The services that request handlers use, and the lease on them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from service.api.auth import Guard
from service.api.limiter import InFlightLimiter
from service.api.rates import TenantRates
from service.batching import Admission
from service.telemetry import Audit, Metrics
from service.usecases.curate import Curate
from service.usecases.history import History
from service.usecases.ingest import IngestPhoto
from service.usecases.keys import ManageKeys
from service.usecases.people import People
from service.usecases.pictures import Pictures
from service.usecases.ports import ChangeFeed
from service.usecases.recognize import Recognize
from service.usecases.reviews import Reviews
from service.usecases.search import SearchPeople
from service.usecases.sessions import ConsoleSessions
from service.usecases.tenants import Tenants


@dataclass(frozen=True, slots=True)
class ApiServices:
    """The services of one generation.

    max_body_bytes: also of each part of a batch. batch_photos: as many photos of a batch are held
    at once, in work or arriving. check_serving: raises a StoppingError once the service is
    stopping.
    """

    ingest: IngestPhoto
    recognize: Recognize
    search: SearchPeople
    curate: Curate
    people: People
    history: History
    reviews: Reviews
    tenants: Tenants
    pictures: Pictures
    changes: ChangeFeed
    rates: TenantRates
    guard: Guard
    sessions: ConsoleSessions
    limiter: InFlightLimiter
    admission: Admission
    metrics: Metrics
    keys: ManageKeys
    audit: Audit
    max_body_bytes: int
    upload_timeout_s: float
    request_timeout_s: float
    batch_photos: int
    check_serving: Callable[[], None]
    ready: Callable[[], Awaitable[None]]
    exposition: Callable[[], Awaitable[bytes]]


Lease = Callable[[], AbstractContextManager[ApiServices]]
"""Leases the current services, which stay usable until the block ends."""

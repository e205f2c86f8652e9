"""The in-flight limiter: bounds requests, and the bytes of their bodies, that are in progress."""

from __future__ import annotations

from collections import Counter

from service.domain.errors import OverloadedError
from service.telemetry import Metrics


class InFlightLimiter:
    """Grants permits while the requests in flight are within the limits.

    Args:
        max_requests: requests in flight. One tenant may hold three quarters of them, so that
            another tenant still gets a permit.
        max_bytes: bytes of their bodies. A body that is larger gets a permit while no other byte
            is in flight.
        max_body_bytes: the size that a body of unknown length counts as.
    """

    def __init__(
        self, *, max_requests: int, max_bytes: int, max_body_bytes: int, metrics: Metrics
    ) -> None:
        self._max_requests = max_requests
        self._max_requests_per_tenant = max_requests - max_requests // 4
        self._max_bytes = max_bytes
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics
        self._requests = 0
        self._bytes = 0
        self._requests_by_tenant: Counter[str] = Counter()

    def acquire(self, body_bytes: int | None, tenant: str | None) -> Permit:
        """Grant a permit; as a context, it counts the request until the block ends.

        Args:
            body_bytes: the announced length of the body; None when it is unknown.
            tenant: the tenant that the head of the request names, if any.

        Raises:
            OverloadedError: a limit is reached. The body was not read.
        """
        size_bytes = self._max_body_bytes if body_bytes is None else body_bytes
        if self._requests >= self._max_requests:
            raise self._refusal("requests")
        if self._bytes and self._bytes + size_bytes > self._max_bytes:
            raise self._refusal("bytes")
        permit = Permit(self, size_bytes)
        if tenant is not None:
            permit.assign_to(tenant)
        return permit

    def _refusal(self, reason: str) -> OverloadedError:
        self._metrics.refusals.labels(reason).inc()
        return OverloadedError("The service is working at its limit; try again shortly.")

    def _count_for(self, tenant: str) -> None:
        if self._requests_by_tenant[tenant] >= self._max_requests_per_tenant:
            raise self._refusal("tenant")
        self._requests_by_tenant[tenant] += 1

    def _discount_for(self, tenant: str | None) -> None:
        if tenant is not None:
            self._requests_by_tenant[tenant] -= 1
            if not self._requests_by_tenant[tenant]:
                del self._requests_by_tenant[tenant]

    def _begin(self, permit: Permit) -> None:
        self._requests += 1
        self._bytes += permit.size_bytes
        self._metrics.in_flight.inc()
        self._metrics.bytes_in_flight.inc(permit.size_bytes)

    def _end(self, permit: Permit) -> None:
        self._requests -= 1
        self._bytes -= permit.size_bytes
        self._metrics.in_flight.dec()
        self._metrics.bytes_in_flight.dec(permit.size_bytes)
        self._discount_for(permit.tenant)


class Permit:
    """Permission for one request to be in flight."""

    __slots__ = ("_limiter", "size_bytes", "tenant")

    def __init__(self, limiter: InFlightLimiter, size_bytes: int) -> None:
        self._limiter = limiter
        self.size_bytes = size_bytes
        self.tenant: str | None = None

    def assign_to(self, tenant: str) -> None:
        """Count the permit for a tenant, and no longer for the tenant it counted for before.

        Raises:
            OverloadedError: the tenant holds its share of the permits already.
        """
        if tenant != self.tenant:
            self._limiter._count_for(tenant)
            self._limiter._discount_for(self.tenant)
            self.tenant = tenant

    def __enter__(self) -> Permit:
        self._limiter._begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._limiter._end(self)

"""The door: how many requests, and bytes of them, are in the house at once, and whose."""

from __future__ import annotations

from collections import Counter

from service.domain.errors import OverloadedError
from service.telemetry import Metrics


class Door:
    """Lets requests in while there is room, by count and by bytes.

    Args:
        max_requests: requests inside at once; one tenant gets at most three quarters of them, so
            that another finds room.
        max_bytes: of their bodies.
        max_body_bytes: what a body of unknown length counts as.
    """

    def __init__(
        self, *, max_requests: int, max_bytes: int, max_body_bytes: int, metrics: Metrics
    ) -> None:
        self._max_requests = max_requests
        self._max_of_one = max_requests - max_requests // 4
        self._max_bytes = max_bytes
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics
        self._requests = 0
        self._bytes = 0
        self._by_tenant: Counter[str] = Counter()

    def enter(self, body_bytes: int | None, tenant: str | None) -> Visit:
        """A context that holds the room a request takes.

        Args:
            body_bytes: announced length of the body; None when it is not known.
            tenant: whose request it is, if the head says so.

        Raises:
            OverloadedError: there is no room; nothing of the body was read.
        """
        size = self._max_body_bytes if body_bytes is None else body_bytes
        if self._requests >= self._max_requests:
            raise self._refusal("requests")
        if self._bytes and self._bytes + size > self._max_bytes:
            raise self._refusal("bytes")
        visit = Visit(self, size)
        if tenant is not None:
            visit.belongs_to(tenant)
        return visit

    def _refusal(self, reason: str) -> OverloadedError:
        self._metrics.refusals.labels(reason).inc()
        return OverloadedError("The service is working at its limit; try again shortly.")

    def _count_for(self, tenant: str) -> None:
        if self._by_tenant[tenant] >= self._max_of_one:
            raise self._refusal("tenant")
        self._by_tenant[tenant] += 1

    def _begin(self, visit: Visit) -> None:
        self._requests += 1
        self._bytes += visit.size
        self._metrics.in_flight.inc()
        self._metrics.bytes_in_flight.inc(visit.size)

    def _end(self, visit: Visit) -> None:
        self._requests -= 1
        self._bytes -= visit.size
        self._metrics.in_flight.dec()
        self._metrics.bytes_in_flight.dec(visit.size)
        self._discount(visit.tenant)

    def _discount(self, tenant: str | None) -> None:
        if tenant is not None:
            self._by_tenant[tenant] -= 1
            if not self._by_tenant[tenant]:
                del self._by_tenant[tenant]


class Visit:
    """One request inside."""

    __slots__ = ("_door", "size", "tenant")

    def __init__(self, door: Door, size: int) -> None:
        self._door = door
        self.size = size
        self.tenant: str | None = None

    def belongs_to(self, tenant: str) -> None:
        """Say whose request it is, once that is known, or known better.

        Raises:
            OverloadedError: that tenant has its part of the room already.
        """
        if tenant != self.tenant:
            self._door._count_for(tenant)
            self._door._discount(self.tenant)
            self.tenant = tenant

    def __enter__(self) -> Visit:
        self._door._begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._door._end(self)

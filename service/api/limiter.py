"""The in-flight limiter: bounds requests, and the bytes of their bodies, that are in progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from service.domain.errors import OverloadedError
from service.telemetry import Metrics

# An upload that has just begun is judged as if it had lasted this long.
_SHORTEST_S: Final = 1.0


class InFlightLimiter:
    """Grants permits while the requests in flight are within the limits.

    A body counts with the bytes that have arrived. One tenant may hold three quarters of the
    requests and of the bytes, and one client address seven eighths: another tenant at the same
    address, and another address, always find room. Requests that name no tenant in their head are
    the tenant of their address until the tenant is known.

    Nothing waits for room, so bodies that have half arrived cannot wait for each other. When the
    next bytes of a body do not fit into a limit, an upload that is still arriving gives its bytes
    back and is refused: of the tenants within that limit the one that holds the most bytes loses
    its slowest upload. A small tenant therefore never pays for a large one.

    Args:
        max_requests: requests in flight.
        max_bytes: bytes of their bodies; at least `max_body_bytes`.
        max_body_bytes: the largest body, which has room in the share of a tenant.
    """

    def __init__(
        self,
        *,
        max_requests: int,
        max_bytes: int,
        max_body_bytes: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        most = max(max_bytes, max_body_bytes)
        self._of_all = (max_requests, most)
        self._of_tenant = (max_requests - max_requests // 4, max(most - most // 4, max_body_bytes))
        self._of_address = (max_requests - max_requests // 8, max(most - most // 8, max_body_bytes))
        self._metrics = metrics
        self._clock = clock
        self._all = _Account(self._of_all, "requests", "bytes")
        self._tenants: dict[tuple[str, str], _Account] = {}
        self._addresses: dict[str, _Account] = {}

    def acquire(self, body_bytes: int | None, tenant: str | None, address: str = "") -> Permit:
        """Grant a permit; as a context, it counts the request until the block ends.

        Args:
            body_bytes: the announced length of the body, which must fit into what is free now; None
                when it is unknown.
            tenant: the tenant that the head of the request names, if any.
            address: the address of the client.

        Raises:
            OverloadedError: a limit is reached. The body was not read.
        """
        least = 1 if body_bytes is None else body_bytes
        key = ("address", address) if tenant is None else ("tenant", tenant)
        for account in (self._all, self._addresses.get(address), self._tenants.get(key)):
            if account is None:
                continue
            if account.requests >= account.max_requests:
                raise self._refusal(account.reason)
            if least and account.bytes + least > account.max_bytes:
                raise self._refusal(account.reason_of_bytes)
        return Permit(self, key, address)

    def _refusal(self, reason: str) -> OverloadedError:
        self._metrics.refusals.labels(reason).inc()
        return OverloadedError("The service is working at its limit; try again shortly.")

    def _begin(self, permit: Permit) -> None:
        address = self._addresses.get(permit.address)
        if address is None:
            address = _Account(self._of_address, "address", "address")
            self._addresses[permit.address] = address
        permit.accounts = (self._tenant(permit.key), address, self._all)
        for account in permit.accounts:
            account.requests += 1
        self._metrics.in_flight.inc()

    def _end(self, permit: Permit) -> None:
        self._give_back(permit)
        for account in permit.accounts:
            account.requests -= 1
        self._forget_tenant(permit.key)
        if not self._addresses[permit.address].requests:
            del self._addresses[permit.address]
        self._metrics.in_flight.dec()

    def _grow(self, permit: Permit, size: int) -> None:
        if permit.evicted:
            raise OverloadedError(_EVICTED)
        for account in permit.accounts:
            while account.bytes + size > account.max_bytes:
                loser = self._loser(account, permit)
                self._metrics.refusals.labels(account.reason_of_bytes).inc()
                loser.evicted = True
                self._give_back(loser)
                loser.on_evicted()
                if loser is permit:
                    raise OverloadedError(_EVICTED)
        for account in permit.accounts:
            account.bytes += size
            account.arriving.setdefault(permit)
        permit.bytes += size
        self._metrics.bytes_in_flight.inc(size)

    def _loser(self, account: _Account, permit: Permit) -> Permit:
        """The upload that makes room in an account for further bytes of a permit."""
        now = self._clock()
        candidates = [permit, *account.arriving]
        return max(candidates, key=lambda each: (each.accounts[0].bytes, -each.bytes_per_s(now)))

    def _give_back(self, permit: Permit) -> None:
        self._complete(permit)
        for account in permit.accounts:
            account.bytes -= permit.bytes
        self._metrics.bytes_in_flight.dec(permit.bytes)
        permit.bytes = 0

    def _complete(self, permit: Permit) -> None:
        for account in permit.accounts:
            account.arriving.pop(permit, None)

    def _move(self, permit: Permit, tenant: str) -> None:
        key = ("tenant", tenant)
        if key == permit.key:
            return
        former, *others = permit.accounts
        new = self._tenants.get(key)
        if new is not None and (
            new.requests >= new.max_requests or new.bytes + permit.bytes > new.max_bytes
        ):
            raise self._refusal("tenant")
        new = self._tenant(key)
        for account, sign in ((former, -1), (new, 1)):
            account.requests += sign
            account.bytes += sign * permit.bytes
        permit.accounts = (new, *others)
        self._forget_tenant(permit.key)
        permit.key = key

    def _tenant(self, key: tuple[str, str]) -> _Account:
        account = self._tenants.get(key)
        if account is None:
            account = self._tenants[key] = _Account(self._of_tenant, "tenant", "tenant")
        return account

    def _forget_tenant(self, key: tuple[str, str]) -> None:
        if not self._tenants[key].requests:
            del self._tenants[key]


_EVICTED: Final = (
    "The service holds as many bytes of uploads as it may, and this upload made room for others; "
    "try again shortly."
)


class _Account:
    """What a tenant, an address or everybody holds.

    arriving: permits whose bodies have begun to arrive and are not complete, the oldest first.
    """

    __slots__ = (
        "arriving", "bytes", "max_bytes", "max_requests", "reason", "reason_of_bytes", "requests",
    )  # fmt: skip

    def __init__(self, limits: tuple[int, int], reason: str, reason_of_bytes: str) -> None:
        self.max_requests, self.max_bytes = limits
        self.reason = reason
        self.reason_of_bytes = reason_of_bytes
        self.requests = 0
        self.bytes = 0
        self.arriving: dict[Permit, None] = {}


class Permit:
    """Permission for one request to be in flight.

    Attributes:
        evicted: whether the upload lost its place to others while it arrived.
        on_evicted: called when that happens.
    """

    __slots__ = (
        "_limiter", "_started", "accounts", "address", "bytes", "evicted", "key", "on_evicted",
    )  # fmt: skip

    accounts: tuple[_Account, ...]

    def __init__(self, limiter: InFlightLimiter, key: tuple[str, str], address: str) -> None:
        self._limiter = limiter
        self._started = limiter._clock()
        self.key = key
        self.address = address
        self.bytes = 0
        self.evicted = False
        self.on_evicted: Callable[[], None] = _nothing

    def take(self, size_bytes: int) -> None:
        """Count bytes of the body that have arrived.

        Raises:
            OverloadedError: there is no room for them; the upload has lost its place.
        """
        if size_bytes or self.evicted:
            self._limiter._grow(self, size_bytes)

    def complete(self) -> None:
        """The body has arrived: the request keeps its bytes until it ends."""
        self._limiter._complete(self)

    def assign_to(self, tenant: str) -> None:
        """Count the permit for a tenant, and no longer for the tenant it counted for before.

        Raises:
            OverloadedError: the tenant holds its share already.
        """
        self._limiter._move(self, tenant)

    def bytes_per_s(self, now: float) -> float:
        """The average rate at which the body arrived."""
        return self.bytes / max(_SHORTEST_S, now - self._started)

    def __enter__(self) -> Permit:
        self._limiter._begin(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._limiter._end(self)


def _nothing() -> None:
    pass

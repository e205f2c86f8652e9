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

    def _accounts(self, key: tuple[str, str], address: str) -> tuple[_Account, ...]:
        """The accounts of a tenant, of an address and of everybody, which a request enters."""
        at = self._addresses.get(address)
        if at is None:
            at = self._addresses[address] = _Account(self._of_address, "address", "address")
        return self._tenant(key), at, self._all

    def _tenant(self, key: tuple[str, str]) -> _Account:
        account = self._tenants.get(key)
        if account is None:
            account = self._tenants[key] = _Account(self._of_tenant, "tenant", "tenant")
        return account

    def _other_tenant(self, key: tuple[str, str], size: int) -> _Account:
        """The account of a tenant, which has room for one more request of that size."""
        account = self._tenants.get(key)
        if account is not None and not account.has_room(1, size):
            raise self._refusal("tenant")
        return self._tenant(key)

    def _forget(self, key: tuple[str, str], address: str) -> None:
        """Forget a tenant and an address that have no request in flight."""
        if not self._tenants[key].requests:
            del self._tenants[key]
        if not self._addresses[address].requests:
            del self._addresses[address]

    def _make_room(self, permit: Permit, size: int) -> None:
        """Let uploads give their bytes back until there is room for further ones of a permit."""
        for account in permit.accounts:
            while not permit.evicted and not account.has_room(0, size):
                self._metrics.refusals.labels(account.reason_of_bytes).inc()
                self._loser(account, permit).evict()

    def _loser(self, account: _Account, permit: Permit) -> Permit:
        """The upload that makes room in an account for further bytes of a permit."""
        now = self._clock()
        candidates = [permit, *account.arriving]
        return max(candidates, key=lambda each: (each.accounts[0].bytes, -each.bytes_per_s(now)))


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

    def has_room(self, requests: int, size: int) -> bool:
        """Whether so many more requests and bytes are within the limits."""
        return self.requests + requests <= self.max_requests and self.bytes + size <= self.max_bytes

    def add(self, requests: int, size: int) -> None:
        """Count requests and bytes; negative numbers take them back."""
        self.requests += requests
        self.bytes += size


class Permit:
    """Permission for one request to be in flight.

    Args:
        requests: 1, or 0 for a part of a request that counts already.

    Attributes:
        evicted: whether the upload lost its place to others while it arrived.
    """

    __slots__ = (
        "_address", "_key", "_limiter", "_metrics", "_on_evicted", "_requests", "_started",
        "accounts", "bytes", "evicted",
    )  # fmt: skip

    def __init__(
        self, limiter: InFlightLimiter, key: tuple[str, str], address: str, requests: int = 1
    ) -> None:
        self._limiter = limiter
        self._metrics = limiter._metrics
        self._started = limiter._clock()
        self._key = key
        self._address = address
        self._requests = requests
        self._on_evicted: Callable[[], None] = _nothing
        self.accounts: tuple[_Account, ...] = ()
        self.bytes = 0
        self.evicted = False

    def part(self) -> Permit:
        """A permit for the bytes of a part of the body, to be left before this one.

        The part alone loses its place to others, and gives its bytes back when it is done.
        """
        return Permit(self._limiter, self._key, self._address, requests=0)

    def fits(self, size_bytes: int) -> bool:
        """Whether there is room for further bytes without that an upload loses its place."""
        return all(account.has_room(0, size_bytes) for account in self.accounts)

    def when_evicted(self, stop: Callable[[], None]) -> None:
        """Call a function when the upload loses its place, which stops reading it."""
        self._on_evicted = stop

    def take(self, size_bytes: int) -> None:
        """Count bytes of the body that have arrived.

        Raises:
            OverloadedError: there is no room for them; the upload has lost its place.
        """
        if size_bytes and not self.evicted:
            self._limiter._make_room(self, size_bytes)
        if self.evicted:
            raise OverloadedError(
                "The service holds as many bytes of uploads as it may, and this upload made room "
                "for others; try again shortly."
            )
        if size_bytes:
            for account in self.accounts:
                account.arriving.setdefault(self)
            self._count(size_bytes)

    def complete(self) -> None:
        """The body has arrived: the request keeps its bytes until it ends."""
        for account in self.accounts:
            account.arriving.pop(self, None)

    def evict(self) -> None:
        """Give the bytes back, because others need the room; the upload is refused."""
        self.evicted = True
        self.give_back()
        self._on_evicted()

    def give_back(self) -> None:
        """Give the bytes back: none of them is held any more."""
        self.complete()
        self._count(-self.bytes)

    def assign_to(self, tenant: str) -> None:
        """Count the permit for a tenant, and no longer for the tenant it counted for before.

        Raises:
            OverloadedError: the tenant holds its share already.
        """
        key = ("tenant", tenant)
        if key == self._key:
            return
        former, *others = self.accounts
        new = self._limiter._other_tenant(key, self.bytes)
        former.add(-1, -self.bytes)
        new.add(1, self.bytes)
        self._limiter._forget(self._key, self._address)
        self.accounts, self._key = (new, *others), key

    def bytes_per_s(self, now: float) -> float:
        """The average rate at which the body arrived."""
        return self.bytes / max(_SHORTEST_S, now - self._started)

    def _count(self, size: int) -> None:
        for account in self.accounts:
            account.add(0, size)
        self.bytes += size
        self._metrics.bytes_in_flight.inc(size)

    def __enter__(self) -> Permit:
        self.accounts = self._limiter._accounts(self._key, self._address)
        for account in self.accounts:
            account.add(self._requests, 0)
        self._metrics.in_flight.inc(self._requests)
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()
        for account in self.accounts:
            account.add(-self._requests, 0)
        self._limiter._forget(self._key, self._address)
        self._metrics.in_flight.dec(self._requests)


def _nothing() -> None:
    pass

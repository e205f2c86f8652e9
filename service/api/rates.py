"""The rate of requests of each tenant, where the tenant has a limit."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from service.domain.errors import RateLimitError, StoreUnavailableError
from service.domain.people import TenantFacts

_MAX_AGE_S: Final = 30.0
# After this the database is asked again that did not answer.
_PAUSE_S: Final = 1.0
_MAX_TENANTS: Final = 10_000
_MINUTE_S: Final = 60.0
# So many requests of a minute may come at once.
_BURST: Final = 0.25


@dataclass(slots=True)
class _Tenant:
    """What was read of a tenant.

    requests_per_minute: None is no limit. is_limited: whether it may be refused further photos.
    read_again_at: when it is read the next time. next: when the following request is due.
    """

    requests_per_minute: int | None = None
    is_limited: bool = False
    read_again_at: float = -math.inf
    next: float = -math.inf

    def read_again(self, at: float) -> None:
        """Read the limits again from this moment on."""
        self.read_again_at = at

    def use(self, requests_per_minute: int | None, *, is_limited: bool) -> None:
        """Use the limits that were read."""
        self.requests_per_minute, self.is_limited = requests_per_minute, is_limited

    def wait_until(self, due: float) -> None:
        """Let the following request be due then."""
        self.next = due


class TenantRates:
    """Refuses requests of tenants beyond their rates, and knows which tenants have other limits.

    A quarter of a minute's requests may come at once. Limits are read again after half a minute.
    While the database does not answer, the limits that were read last hold, or none: what needs no
    database is served as ever.

    Source: the generic cell rate algorithm (ITU-T I.371).

    Args:
        read: reads a tenant; None where there is none. Its rate is in requests a minute over all
            processes.
        processes: the number of processes that share the requests.
        missing_is_limited: whether a tenant that does not exist is refused photos.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        read: Callable[[str], Awaitable[TenantFacts | None]],
        *,
        processes: int = 1,
        missing_is_limited: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._processes = processes
        self._missing_is_limited = missing_is_limited
        self._clock = clock
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()

    async def check(self, tenant_id: str) -> None:
        """Count a request.

        Raises:
            RateLimitError: the tenant sends more requests than it may.
        """
        tenant = self._tenants.get(tenant_id)
        if tenant is None or self._clock() >= tenant.read_again_at:
            tenant = await self._look_up(tenant_id)
        limit = tenant.requests_per_minute
        if limit is None:
            return
        now, interval_s = self._clock(), _MINUTE_S * self._processes / limit
        due = max(tenant.next, now) + interval_s
        wait_s = due - max(interval_s, _BURST * _MINUTE_S) - now
        if wait_s > 0:
            raise RateLimitError(limit, retry_after_s=math.ceil(wait_s))
        tenant.wait_until(due)

    def is_limited(self, tenant_id: str) -> bool:
        """Whether a photo may be refused by what was read of the tenant last.

        It is a hint: limits hold where the photo is stored. With it, the photos of a tenant without
        limits cost no further look at the database.
        """
        tenant = self._tenants.get(tenant_id)
        return tenant is not None and tenant.is_limited

    def forget(self, tenant_id: str) -> None:
        """Read the limits of a tenant again with its next request."""
        if (tenant := self._tenants.get(tenant_id)) is not None:
            tenant.read_again(-math.inf)

    async def _look_up(self, tenant_id: str) -> _Tenant:
        """Read a tenant; requests that come meanwhile use what was read before."""
        tenant = self._tenants.pop(tenant_id, None) or _Tenant()
        self._tenants[tenant_id] = tenant
        if len(self._tenants) > _MAX_TENANTS:
            self._tenants.popitem(last=False)
        known = tenant.read_again_at
        tenant.read_again(self._clock() + _MAX_AGE_S)
        try:
            facts = await self._read(tenant_id)
        except StoreUnavailableError:
            tenant.read_again(self._clock() + _PAUSE_S)
            return tenant
        except BaseException:
            tenant.read_again(known)
            raise
        if facts is None:
            tenant.use(None, is_limited=self._missing_is_limited)
        else:
            tenant.use(facts.requests_per_minute, is_limited=facts.room.is_limited)
        return tenant

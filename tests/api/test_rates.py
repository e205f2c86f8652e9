"""The rate of a tenant: read now and then, exact in between, and no reason to fail."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from service.api.rates import TenantRates
from service.domain.errors import RateLimitError, StoreUnavailableError
from service.domain.people import TenantFacts


class Tenants:
    """Tenants with limits, a clock, and a database that may not answer."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.limits: dict[str, int | None] = {}
        self.max_images: int | None = None
        self.reads = 0
        self.answers = True

    async def find(self, tenant_id: str) -> TenantFacts | None:
        self.reads += 1
        await asyncio.sleep(0)
        if not self.answers:
            raise StoreUnavailableError("The database does not answer.")
        if tenant_id not in self.limits:
            return None
        made = datetime.now(UTC)
        return TenantFacts(tenant_id, made, 0, 0, 0, self.max_images, None, self.limits[tenant_id])

    def rates(self, processes: int = 1, *, missing_is_limited: bool = False) -> TenantRates:
        return TenantRates(
            self.find,
            processes=processes,
            missing_is_limited=missing_is_limited,
            clock=lambda: self.now,
        )


@pytest.fixture
def tenants() -> Tenants:
    return Tenants()


async def passed(rates: TenantRates, count: int, tenant: str = "t") -> int:
    """How many of that many requests at one time are let through."""
    done = 0
    for _ in range(count):
        try:
            await rates.check(tenant)
        except RateLimitError:
            continue
        done += 1
    return done


async def test_a_quarter_of_a_minutes_requests_may_come_at_once(tenants: Tenants) -> None:
    tenants.limits["t"] = 120
    rates = tenants.rates()
    assert await passed(rates, 200) == 30
    for _ in range(10):
        tenants.now += 0.5
        assert await passed(rates, 10) == 1


async def test_over_a_minute_no_more_than_the_limit_and_a_burst_come(tenants: Tenants) -> None:
    tenants.limits["t"] = 60
    rates, done = tenants.rates(), 0
    for _ in range(600):
        tenants.now += 0.1
        done += await passed(rates, 1)
    assert 60 <= done <= 75


async def test_processes_share_a_limit(tenants: Tenants) -> None:
    tenants.limits["t"] = 120
    assert await passed(tenants.rates(processes=3), 200) == 10


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_the_slowest_tenants_may_send_one_request_at_once(
    tenants: Tenants, limit: int
) -> None:
    tenants.limits["t"] = limit
    rates = tenants.rates()
    assert await passed(rates, 5) == 1
    with pytest.raises(RateLimitError) as caught:
        await rates.check("t")
    tenants.now += caught.value.retry_after_s
    assert await passed(rates, 5) == 1


async def test_a_tenant_without_a_limit_or_a_row_may_send_what_it_wants(tenants: Tenants) -> None:
    tenants.limits["free"] = None
    rates = tenants.rates()
    assert await passed(rates, 1000, "free") == 1000
    assert await passed(rates, 1000, "missing") == 1000
    assert tenants.reads == 2


async def test_a_limit_is_read_again_and_at_once_after_a_change(tenants: Tenants) -> None:
    tenants.limits["t"] = None
    rates = tenants.rates()
    assert await passed(rates, 10) == 10
    tenants.limits["t"] = 1
    assert await passed(rates, 10) == 10
    rates.forget("t")
    assert await passed(rates, 10) == 1
    tenants.limits["t"] = None
    tenants.now += 30
    assert await passed(rates, 10) == 10
    assert tenants.reads == 3


async def test_requests_that_come_while_a_limit_is_read_again_do_not_read_it(
    tenants: Tenants,
) -> None:
    tenants.limits["t"] = None
    rates = tenants.rates()
    await asyncio.gather(*(rates.check("t") for _ in range(20)))
    tenants.now += 30
    await asyncio.gather(*(rates.check("t") for _ in range(20)))
    assert tenants.reads == 2


async def test_the_last_limit_holds_while_the_database_does_not_answer(tenants: Tenants) -> None:
    tenants.limits["t"] = 1
    rates = tenants.rates()
    assert await passed(rates, 1) == 1
    tenants.answers = False
    tenants.now += 30
    assert await passed(rates, 5) == 0
    assert await passed(rates, 5, "never read") == 5
    tenants.answers, tenants.limits["t"] = True, None
    tenants.now += 1
    assert await passed(rates, 5) == 5


async def test_it_is_known_which_tenants_may_be_refused_photos(tenants: Tenants) -> None:
    tenants.limits["t"] = None
    usual, strict = tenants.rates(), tenants.rates(missing_is_limited=True)
    for rates in (usual, strict):
        for tenant in ("t", "missing"):
            assert not rates.is_limited(tenant)
            await rates.check(tenant)
    assert [rates.is_limited("missing") for rates in (usual, strict)] == [False, True]
    tenants.max_images = 5
    for rates in (usual, strict):
        assert not rates.is_limited("t")
        rates.forget("t")
        await rates.check("t")
        assert rates.is_limited("t")

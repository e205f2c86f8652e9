"""Permits by count and by bytes that arrived, of tenants and addresses."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from service.api.limiter import InFlightLimiter, Permit
from service.domain.errors import OverloadedError
from service.telemetry import Metrics


class House:
    """A limiter with the permits that it granted."""

    def __init__(self, held: ExitStack, **limits: int) -> None:
        self.metrics = Metrics()
        self.now_s = 0.0
        defaults = {"max_requests": 100, "max_bytes": 1000, "max_body_bytes": 400}
        self.limiter = InFlightLimiter(
            **{**defaults, **limits}, metrics=self.metrics, clock=lambda: self.now_s
        )
        self._held = held
        self.evicted: list[Permit] = []

    def admit(
        self,
        tenant: str | None = None,
        address: str | None = None,
        *,
        arrived: int = 0,
        announced: int | None = None,
    ) -> Permit:
        """Hold a permit; each tenant has an address of its own unless one is named."""
        at = address or f"address of {tenant}"
        permit = self._held.enter_context(self.limiter.acquire(announced, tenant, at))
        permit.when_evicted(lambda: self.evicted.append(permit))
        permit.take(arrived)
        return permit

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"facette_{name}", labels) or 0.0


@pytest.fixture
def held() -> ExitStack:
    return ExitStack()


def test_requests_are_bounded_and_their_permits_are_granted_again(held: ExitStack) -> None:
    house = House(held, max_requests=2)
    with held:
        house.admit()
        house.admit()
        with pytest.raises(OverloadedError):
            house.admit()
    assert house.value("refusals_total", reason="requests") == 1
    with house.limiter.acquire(0, None):
        assert house.value("requests_in_flight") == 1
    assert house.value("requests_in_flight") == 0


def test_what_is_announced_holds_nothing(held: ExitStack) -> None:
    house = House(held)
    with held:
        for announced in (400, None):
            for number in range(40):
                house.admit(f"tenant {number}", announced=announced)
        assert house.value("bytes_in_flight") == 0
        house.admit("another", announced=400).take(400)
        assert house.value("bytes_in_flight") == 400
    assert house.value("bytes_in_flight") == 0


def test_body_that_cannot_fit_is_refused_before_it_arrives(held: ExitStack) -> None:
    house = House(held)
    with held:
        house.admit("a", arrived=700)
        for tenant, announced in (("a", 51), ("b", 301)):
            with pytest.raises(OverloadedError):
                house.admit(tenant, announced=announced)
        house.admit("b", announced=300)
        house.admit("a", announced=0)
    assert house.value("refusals_total", reason="tenant") == 1
    assert house.value("refusals_total", reason="bytes") == 1


@pytest.mark.parametrize(
    ("of", "share"), [("tenant", 6), ("address", 7), ("address without tenants", 6)]
)
def test_one_tenant_or_address_holds_a_share_of_the_requests(
    held: ExitStack, of: str, share: int
) -> None:
    house = House(held, max_requests=8)
    with held:
        for number in range(share):
            if of == "tenant":
                house.admit("a", f"192.0.2.{number}")
            else:
                house.admit(f"tenant {number}" if of == "address" else None, "192.0.2.1")
        with pytest.raises(OverloadedError):
            house.admit("a" if of == "tenant" else None, "192.0.2.1")
        house.admit("b", "192.0.2.99")
    assert not house.limiter._tenants
    assert not house.limiter._addresses


def test_tenant_of_the_same_address_finds_room(held: ExitStack) -> None:
    house = House(held, max_requests=8)
    with held:
        for _ in range(6):
            house.admit(None, "192.0.2.1", arrived=125)
        assert house.admit("a", "192.0.2.1", arrived=100).bytes == 100
    assert not house.evicted


def test_share_has_room_for_the_largest_body_and_for_the_only_request(held: ExitStack) -> None:
    house = House(held, max_requests=1, max_bytes=10, max_body_bytes=400)
    with held:
        house.admit("a", announced=400).take(400)
    assert not house.evicted


def test_slowest_upload_of_the_largest_tenant_makes_room(held: ExitStack) -> None:
    house = House(held)
    with held:
        slow = house.admit("large", arrived=200)
        small = house.admit("small", arrived=1)
        house.now_s = 90.0
        fast = house.admit("large", arrived=200)
        done = house.admit("large", arrived=200)
        done.complete()
        other = house.admit("other", arrived=300)
        house.now_s = 100.0
        small.take(150)
        assert house.evicted == [slow]
        assert slow.evicted
        assert slow.bytes == 0
        with pytest.raises(OverloadedError):
            slow.take(1)
        other.take(100)
        assert house.evicted == [slow]
        small.take(200)  # the one that was complete stays
        assert house.evicted == [slow, fast]
        assert (small.bytes, other.bytes, done.bytes) == (351, 400, 200)
    assert house.value("bytes_in_flight") == 0


def test_bodies_that_have_half_arrived_do_not_wait_for_each_other(held: ExitStack) -> None:
    house = House(held, max_bytes=1000, max_body_bytes=400)
    completed = 0
    with held:
        bodies = [house.admit(f"tenant {number}", f"192.0.2.{number}") for number in range(8)]
        while bodies:
            for body in list(bodies):
                try:
                    body.take(20)
                except OverloadedError:
                    bodies.remove(body)
                    continue
                if body.bytes == 400:
                    body.complete()
                    bodies.remove(body)
                    completed += 1
    assert completed == 2
    assert len(house.evicted) == 6


def test_tenant_at_its_share_loses_an_upload_of_its_own(held: ExitStack) -> None:
    house = House(held)
    with held:
        house.admit("small", arrived=1)
        for _ in range(2):
            house.admit("large", arrived=375)
        with pytest.raises(OverloadedError):
            house.admit("large", arrived=1)
    assert house.value("refusals_total", reason="tenant") == 1


def test_permit_counts_for_the_tenant_that_its_body_names(held: ExitStack) -> None:
    house = House(held, max_requests=8)
    with held:
        late = house.admit(arrived=100)
        for _ in range(6):
            house.admit("a", arrived=100)
        with pytest.raises(OverloadedError):
            late.assign_to("a")
        late.assign_to("b")
        late.assign_to("b")
        assert house.limiter._tenants["tenant", "b"].bytes == 100
        assert house.limiter._tenants["tenant", "b"].requests == 1
    assert not house.limiter._tenants
    assert house.value("refusals_total", reason="tenant") == 1


def test_body_that_is_too_much_for_its_tenant_is_refused_once_that_is_known(
    held: ExitStack,
) -> None:
    house = House(held)
    with held:
        house.admit("a", arrived=700)
        late = house.admit(arrived=100)
        with pytest.raises(OverloadedError):
            late.assign_to("a")


def test_a_part_counts_its_bytes_and_no_further_request(held: ExitStack) -> None:
    house = House(held, max_requests=1)
    with held:
        request = house.admit("a")
        with request.part() as part:
            part.take(300)
            assert house.value("requests_in_flight") == 1
            assert house.value("bytes_in_flight") == 300
            assert request.bytes == 0
        assert house.value("bytes_in_flight") == 0
        assert house.value("requests_in_flight") == 1


def test_bytes_given_back_are_room_for_the_next_part(held: ExitStack) -> None:
    house = House(held)
    with held, house.admit("a").part() as first, first.part() as second:
        first.take(700)
        assert not second.fits(200)
        assert second.fits(50)
        first.give_back()
        assert second.fits(200)
        second.take(200)
    assert house.value("bytes_in_flight") == 0


def test_a_part_that_arrives_makes_room_alone(held: ExitStack) -> None:
    house = House(held)
    with held:
        batch = house.admit("many")
        done, arriving = (held.enter_context(batch.part()) for _ in range(2))
        done.take(300)
        done.complete()
        arriving.take(300)
        for number in range(3):
            house.admit(f"few-{number}", arrived=150)
        assert arriving.evicted
        assert not done.evicted
        assert not batch.evicted
        with held.enter_context(batch.part()) as following:
            following.take(10)
    assert house.value("bytes_in_flight") == 0

"""Permits by count, by bytes, and by tenant."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from service.api.limiter import InFlightLimiter
from service.domain.errors import OverloadedError
from service.telemetry import Metrics


def made(**limits: int) -> tuple[InFlightLimiter, Metrics]:
    metrics = Metrics()
    defaults = {"max_requests": 8, "max_bytes": 1000, "max_body_bytes": 400}
    return InFlightLimiter(**{**defaults, **limits}, metrics=metrics), metrics


def refusals(metrics: Metrics, reason: str) -> float:
    return metrics.registry.get_sample_value("facette_refusals_total", {"reason": reason}) or 0.0


def test_requests_are_bounded_and_their_permits_are_granted_again() -> None:
    limiter, metrics = made(max_requests=2)
    with ExitStack() as held:
        held.enter_context(limiter.acquire(0, None))
        held.enter_context(limiter.acquire(0, None))
        with pytest.raises(OverloadedError):
            limiter.acquire(0, None)
    assert refusals(metrics, "requests") == 1
    with limiter.acquire(0, None):
        assert metrics.registry.get_sample_value("facette_requests_in_flight") == 1
    assert metrics.registry.get_sample_value("facette_requests_in_flight") == 0


@pytest.mark.parametrize(("announced", "fit"), [(500, 2), (None, 2), (100, 10)])
def test_bytes_are_bounded_and_an_unknown_length_counts_as_the_largest(
    announced: int | None, fit: int
) -> None:
    limiter, metrics = made(max_requests=100)
    with ExitStack() as held:
        for _ in range(fit):
            held.enter_context(limiter.acquire(announced, None))
        with pytest.raises(OverloadedError):
            limiter.acquire(announced, None)
        with limiter.acquire(0, None):
            pass
    assert refusals(metrics, "bytes") == 1
    assert metrics.registry.get_sample_value("facette_bytes_in_flight") == 0


def test_a_body_larger_than_the_limit_gets_a_permit_alone() -> None:
    limiter, _ = made(max_bytes=100)
    with limiter.acquire(400, None), pytest.raises(OverloadedError):
        limiter.acquire(1, None)


def test_one_tenant_holds_three_quarters_of_the_permits() -> None:
    limiter, metrics = made(max_requests=8)
    with ExitStack() as held:
        for _ in range(6):
            held.enter_context(limiter.acquire(0, "a"))
        with pytest.raises(OverloadedError):
            limiter.acquire(0, "a")
        held.enter_context(limiter.acquire(0, "b"))
        late = held.enter_context(limiter.acquire(0, None))
        with pytest.raises(OverloadedError):
            late.assign_to("a")
    assert refusals(metrics, "tenant") == 2
    with limiter.acquire(0, "a") as permit:
        permit.assign_to("a")  # known twice, counted once
        for _ in range(6):  # a better name for it moves it
            permit.assign_to("b")
            permit.assign_to("a")
    assert not limiter._requests_by_tenant


def test_a_tenant_may_hold_the_only_permit() -> None:
    limiter, _ = made(max_requests=1)
    with limiter.acquire(0, "a"):
        pass

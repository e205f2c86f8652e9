"""Room by count, by bytes, and by tenant."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from service.api.door import Door
from service.domain.errors import OverloadedError
from service.telemetry import Metrics


def made(**limits: int) -> tuple[Door, Metrics]:
    metrics = Metrics()
    defaults = {"max_requests": 8, "max_bytes": 1000, "max_body_bytes": 400}
    return Door(**{**defaults, **limits}, metrics=metrics), metrics


def refusals(metrics: Metrics, reason: str) -> float:
    return metrics.registry.get_sample_value("facette_refusals_total", {"reason": reason}) or 0.0


def test_requests_are_bounded_and_their_room_is_used_again() -> None:
    door, metrics = made(max_requests=2)
    with ExitStack() as inside:
        inside.enter_context(door.enter(0, None))
        inside.enter_context(door.enter(0, None))
        with pytest.raises(OverloadedError):
            door.enter(0, None)
    assert refusals(metrics, "requests") == 1
    with door.enter(0, None):
        assert metrics.registry.get_sample_value("facette_requests_in_flight") == 1
    assert metrics.registry.get_sample_value("facette_requests_in_flight") == 0


@pytest.mark.parametrize(("announced", "fit"), [(500, 2), (None, 2), (100, 10)])
def test_bytes_are_bounded_and_an_unknown_length_counts_as_the_largest(
    announced: int | None, fit: int
) -> None:
    door, metrics = made(max_requests=100)
    with ExitStack() as inside:
        for _ in range(fit):
            inside.enter_context(door.enter(announced, None))
        with pytest.raises(OverloadedError):
            door.enter(announced, None)
        with door.enter(0, None):
            pass
    assert refusals(metrics, "bytes") == 1
    assert metrics.registry.get_sample_value("facette_bytes_in_flight") == 0


def test_one_body_is_taken_even_if_it_is_larger_than_all_room() -> None:
    door, _ = made(max_bytes=100)
    with door.enter(400, None), pytest.raises(OverloadedError):
        door.enter(1, None)


def test_one_tenant_gets_three_quarters() -> None:
    door, metrics = made(max_requests=8)
    with ExitStack() as inside:
        for _ in range(6):
            inside.enter_context(door.enter(0, "a"))
        with pytest.raises(OverloadedError):
            door.enter(0, "a")
        inside.enter_context(door.enter(0, "b"))
        late = inside.enter_context(door.enter(0, None))
        with pytest.raises(OverloadedError):
            late.belongs_to("a")
    assert refusals(metrics, "tenant") == 2
    with door.enter(0, "a") as visit:
        visit.belongs_to("a")  # known twice, counted once
        for _ in range(6):  # a better name for it moves it
            visit.belongs_to("b")
            visit.belongs_to("a")
    assert not door._by_tenant


def test_a_single_place_can_be_had_by_a_tenant() -> None:
    door, _ = made(max_requests=1)
    with door.enter(0, "a"):
        pass

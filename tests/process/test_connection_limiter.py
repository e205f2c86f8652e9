"""Limits on connections, in total and per address, and the eviction of idle ones."""

from __future__ import annotations

from collections import Counter

import pytest

from service.config import Config
from service.process.connection_limiter import (
    ConnectionLimiter,
    ConnectionLimits,
    connection_limits,
)


class Connection:
    """Takes note of its eviction."""

    def __init__(self) -> None:
        self.is_evicted = False

    def evict(self) -> None:
        self.is_evicted = True


class Limited:
    """A limiter, with the sizes and refusals that it reported."""

    def __init__(self, total: int, per_address: int) -> None:
        self.sizes: list[int] = [0]
        self.refusals: Counter[str] = Counter()
        self.limiter = ConnectionLimiter(
            ConnectionLimits(total, per_address),
            on_size=self.sizes.append,
            on_refusal=lambda reason: self.refusals.update([reason]),
        )

    def connect(self, host: str = "192.0.2.1", *, busy: bool = False) -> Connection:
        connection = Connection()
        assert self.limiter.acquire(connection, host)
        if busy:
            self.limiter.mark_busy(connection)
        return connection

    @property
    def size(self) -> int:
        return self.sizes[-1]


def test_connections_open_and_close_within_the_limit() -> None:
    limited = Limited(2, 2)
    first, second = limited.connect(), limited.connect()
    assert limited.size == 2
    limited.limiter.release(first)
    limited.limiter.release(first)
    limited.connect()
    assert limited.size == 2
    assert not second.is_evicted
    assert not limited.refusals


def test_connection_that_has_been_idle_longest_is_evicted() -> None:
    limited = Limited(3, 3)
    first, second, third = (limited.connect() for _ in range(3))
    limited.limiter.mark_busy(first)
    limited.limiter.mark_idle(first)  # its idle time begins anew
    limited.connect()
    assert [each.is_evicted for each in (first, second, third)] == [False, True, False]
    assert limited.size == 3
    assert limited.refusals == {"displaced": 1}


def test_idle_connection_that_is_marked_idle_again_keeps_its_turn() -> None:
    limited = Limited(2, 2)
    first, second = limited.connect(), limited.connect()
    limited.limiter.mark_idle(first)
    limited.connect()
    assert (first.is_evicted, second.is_evicted) == (True, False)


def test_busy_connections_are_not_evicted() -> None:
    limited = Limited(2, 2)
    connections = [limited.connect(busy=True) for _ in range(2)]
    refused = Connection()
    assert not limited.limiter.acquire(refused, "192.0.2.2")
    assert not any(each.is_evicted for each in connections)
    assert limited.refusals == {"connections": 1}
    limited.limiter.release(refused)
    assert limited.size == 2


def test_address_at_its_limit_evicts_its_own_connections_alone() -> None:
    limited = Limited(8, 2)
    other = limited.connect("192.0.2.2")
    first, second = limited.connect(), limited.connect()
    limited.connect()
    assert [each.is_evicted for each in (other, first, second)] == [False, True, False]
    limited.limiter.mark_busy(second)
    limited.connect(busy=True)
    assert not limited.limiter.acquire(Connection(), "192.0.2.1")
    assert limited.refusals == {"displaced": 2, "address": 1}


def test_address_with_the_most_idle_connections_makes_room_for_another() -> None:
    limited = Limited(4, 3)
    old = limited.connect("192.0.2.9")
    many = [limited.connect() for _ in range(3)]
    limited.connect("192.0.2.7")
    assert not old.is_evicted
    assert [each.is_evicted for each in many] == [True, False, False]


@pytest.mark.parametrize(
    ("settings", "descriptors", "expected"),
    [
        ({}, 1 << 20, ConnectionLimits(1024, 768)),
        ({}, 1024, ConnectionLimits(640, 480)),
        ({}, 128, ConnectionLimits(16, 12)),
        ({"processes": 4}, 1 << 20, ConnectionLimits(256, 192)),
        ({"max_connections_per_address": 50}, 1 << 20, ConnectionLimits(1024, 50)),
        ({"max_connections_per_address": 5000}, 1 << 20, ConnectionLimits(1024, 1024)),
    ],
)
def test_limits_leave_descriptors_for_files_and_the_database(
    settings: dict[str, int], descriptors: int, expected: ConnectionLimits
) -> None:
    config = Config.model_validate({"auth": {"token": "a-token-for-tests"}, "server": settings})
    assert connection_limits(config, descriptors) == expected

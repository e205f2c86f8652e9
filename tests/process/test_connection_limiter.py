"""Room for connections: bounds in all and by address, and who goes for whom."""

from __future__ import annotations

from collections import Counter

import pytest

from service.config import Config
from service.process.places import PlaceLimits, Places, network_of, place_limits


class Guest:
    """Knows whether it was displaced."""

    def __init__(self) -> None:
        self.is_displaced = False

    def displace(self) -> None:
        self.is_displaced = True


class House:
    """Places, and what they told."""

    def __init__(self, total: int, of_one_address: int) -> None:
        self.sizes: list[int] = [0]
        self.refusals: Counter[str] = Counter()
        self.places = Places(
            PlaceLimits(total, of_one_address),
            on_size=self.sizes.append,
            on_refusal=lambda reason: self.refusals.update([reason]),
        )

    def let_in(self, host: str = "192.0.2.1", *, works: bool = False) -> Guest:
        guest = Guest()
        assert self.places.take(guest, host)
        if works:
            self.places.work(guest)
        return guest

    @property
    def size(self) -> int:
        return self.sizes[-1]


def test_guests_come_and_go_within_the_limit() -> None:
    house = House(2, 2)
    first, second = house.let_in(), house.let_in()
    assert house.size == 2
    house.places.leave(first)
    house.places.leave(first)
    house.let_in()
    assert house.size == 2
    assert not second.is_displaced
    assert not house.refusals


def test_the_guest_that_waits_longest_goes_for_a_new_one() -> None:
    house = House(3, 3)
    first, second, third = (house.let_in() for _ in range(3))
    house.places.work(first)
    house.places.wait(first)  # from now on
    house.let_in()
    assert [each.is_displaced for each in (first, second, third)] == [False, True, False]
    assert house.size == 3
    assert house.refusals == {"displaced": 1}


def test_waiting_on_is_no_new_beginning() -> None:
    house = House(2, 2)
    first, second = house.let_in(), house.let_in()
    house.places.wait(first)
    house.let_in()
    assert (first.is_displaced, second.is_displaced) == (True, False)


def test_nobody_goes_who_is_being_served() -> None:
    house = House(2, 2)
    guests = [house.let_in(works=True) for _ in range(2)]
    refused = Guest()
    assert not house.places.take(refused, "192.0.2.2")
    assert not any(each.is_displaced for each in guests)
    assert house.refusals == {"connections": 1}
    house.places.leave(refused)
    assert house.size == 2


def test_an_address_with_all_it_may_have_takes_from_itself_alone() -> None:
    house = House(8, 2)
    other = house.let_in("192.0.2.2")
    first, second = house.let_in(), house.let_in()
    house.let_in()
    assert [each.is_displaced for each in (other, first, second)] == [False, True, False]
    house.places.work(second)
    house.let_in(works=True)
    assert not house.places.take(Guest(), "192.0.2.1")
    assert house.refusals == {"displaced": 2, "address": 1}


def test_the_address_with_the_most_silent_guests_makes_room_for_another() -> None:
    house = House(4, 3)
    old = house.let_in("192.0.2.9")
    many = [house.let_in() for _ in range(3)]
    house.let_in("192.0.2.7")
    assert not old.is_displaced
    assert [each.is_displaced for each in many] == [True, False, False]


@pytest.mark.parametrize(
    ("host", "other", "is_same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2", True),
    ],
)
def test_an_address_of_ipv6_is_its_network(host: str, other: str, is_same: bool) -> None:
    assert (network_of(host) == network_of(other)) == is_same


@pytest.mark.parametrize(
    ("settings", "descriptors", "expected"),
    [
        ({}, 1 << 20, PlaceLimits(1024, 768)),
        ({}, 1024, PlaceLimits(640, 480)),
        ({}, 128, PlaceLimits(16, 12)),
        ({"processes": 4}, 1 << 20, PlaceLimits(256, 192)),
        ({"max_connections_per_address": 50}, 1 << 20, PlaceLimits(1024, 50)),
        ({"max_connections_per_address": 5000}, 1 << 20, PlaceLimits(1024, 1024)),
    ],
)
def test_places_leave_descriptors_for_files_and_the_database(
    settings: dict[str, int], descriptors: int, expected: PlaceLimits
) -> None:
    config = Config.model_validate({"auth": {"token": "a-token-for-tests"}, "server": settings})
    assert place_limits(config, descriptors) == expected

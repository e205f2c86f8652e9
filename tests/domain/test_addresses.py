"""Client addresses that limits count as one."""

from __future__ import annotations

import pytest

from service.domain.addresses import network_of


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
def test_ipv6_addresses_of_one_network_count_as_one(host: str, other: str, is_same: bool) -> None:
    assert (network_of(host) == network_of(other)) == is_same

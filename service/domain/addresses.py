"""The unit in which limits count client addresses."""

from __future__ import annotations

from ipaddress import IPv6Address


def network_of(host: str) -> str:
    """The unit that a limit per address counts: an IPv4 address, or the /64 network of IPv6."""
    if ":" not in host:
        return host
    address = IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.packed[:8].hex()

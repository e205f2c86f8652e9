"""Addresses of clients: the unit that limits count, and the one behind a trusted proxy."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network


def network_of(host: str) -> str:
    """The unit that a limit per address counts: an IPv4 address, or the /64 network of IPv6."""
    if ":" not in host:
        return host
    address = IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.packed[:8].hex()


class TrustedProxies:
    """The proxies whose X-Forwarded-For header is believed.

    Args:
        networks: their addresses or networks, like 10.0.0.0/8.
    """

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(
            ip_network(network) for network in networks
        )

    def __bool__(self) -> bool:
        return bool(self._networks)

    def client_of(self, peer: str, forwarded: Sequence[str]) -> str:
        """The address of a client.

        Each proxy appends the address that it was called from. So the list is read from its end,
        as far as trusted proxies wrote it; what stands before that is the client's own word.

        Args:
            peer: the address at the other end of the connection.
            forwarded: values of X-Forwarded-For, in the order of the head.
        """
        client = _address_of(peer)
        if client is None or not self._has(client):
            return peer
        entries = [entry for value in forwarded for entry in value.split(",")]
        for entry in reversed(entries):
            named = _address_of(entry)
            if named is None:
                break
            client = named
            if not self._has(named):
                break
        return str(client)

    def _has(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def _address_of(text: str) -> IPv4Address | IPv6Address | None:
    """The address in a text, which may have a port; None where it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address

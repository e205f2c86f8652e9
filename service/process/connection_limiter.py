"""Room for connections, in all and of one address, and which one goes for another."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Protocol

from service.app.settings import share
from service.config import Config

# What stays free of a process's file descriptors, for files and the database: a quarter of them,
# and these.
_DESCRIPTORS_KEPT = 128
_FEWEST_PLACES = 16


@dataclass(frozen=True, slots=True)
class PlaceLimits:
    """How many connections may be open, in all and of one address."""

    total: int
    of_one_address: int


def place_limits(config: Config, descriptors: int) -> PlaceLimits:
    """How many connections one process may have open.

    Args:
        descriptors: files that it may have open, connections included.
    """
    server = config.server
    granted = descriptors - descriptors // 4 - _DESCRIPTORS_KEPT
    total = max(_FEWEST_PLACES, min(share(server.max_connections, config), granted))
    of_one = total - total // 4
    if server.max_connections_per_address:
        of_one = min(share(server.max_connections_per_address, config), total)
    return PlaceLimits(total, of_one)


class Guest(Protocol):
    """What has a place: a connection."""

    def displace(self) -> None:
        """Go at once: the place is another's now."""


@dataclass(slots=True)
class _Address:
    """The guests of one address, in the order in which they began to wait."""

    count: int = 0
    waiting: OrderedDict[Guest, None] = field(default_factory=OrderedDict)


class Places:
    """Gives each connection a place, as long as there are any.

    A guest is waiting while nothing is done for it: it is silent, has sent half a head, or does
    not take its answers. When all places are taken, whoever comes gets the place of a waiting
    guest: of its own address where that has all it may have, else of the address that has the most
    waiting ones; there, of the one that has waited longest. So silence keeps nobody out.

    Args:
        on_size: called with the number of guests whenever it changes.
        on_refusal: called with why a guest was refused ("address", "connections") or "displaced".
    """

    def __init__(
        self,
        limits: PlaceLimits,
        *,
        on_size: Callable[[int], None],
        on_refusal: Callable[[str], None],
    ) -> None:
        self._limits = limits
        self._on_size = on_size
        self._on_refusal = on_refusal
        self._networks: dict[Guest, str] = {}
        self._addresses: dict[str, _Address] = {}

    def take(self, guest: Guest, host: str) -> bool:
        """Give a new guest a place, where it waits; False when there is none.

        Args:
            host: the address it calls from.
        """
        network = network_of(host)
        if not self._make_room(network):
            return False
        own = self._addresses.setdefault(network, _Address())
        own.count += 1
        own.waiting[guest] = None
        self._networks[guest] = network
        self._on_size(len(self._networks))
        return True

    def wait(self, guest: Guest) -> None:
        """From now on nothing is done for it; one that waits already goes on waiting."""
        if guest in self._networks:
            self._addresses[self._networks[guest]].waiting.setdefault(guest)

    def work(self, guest: Guest) -> None:
        """It is being served, and keeps its place."""
        if guest in self._networks:
            self._addresses[self._networks[guest]].waiting.pop(guest, None)

    def leave(self, guest: Guest) -> None:
        """It has gone, or has no place any more."""
        network = self._networks.pop(guest, None)
        if network is None:
            return
        own = self._addresses[network]
        own.count -= 1
        own.waiting.pop(guest, None)
        if not own.count:
            del self._addresses[network]
        self._on_size(len(self._networks))

    def _make_room(self, network: str) -> bool:
        own = self._addresses.get(network)
        if own is not None and own.count >= self._limits.of_one_address:
            return self._displace_one_of(own, "address")
        if len(self._networks) < self._limits.total:
            return True
        most = max(self._addresses.values(), key=lambda each: len(each.waiting))
        return self._displace_one_of(most, "connections")

    def _displace_one_of(self, address: _Address, reason: str) -> bool:
        if not address.waiting:
            self._on_refusal(reason)
            return False
        longest = next(iter(address.waiting))
        self.leave(longest)
        longest.displace()
        self._on_refusal("displaced")
        return True


def network_of(host: str) -> str:
    """Whose an address is: itself, or the /64 network of IPv6 that one caller has to itself."""
    if ":" not in host:
        return host
    address = IPv6Address(host.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.packed[:8].hex()

"""The limits on open connections, in total and per address, and which idle one is evicted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from service.app.settings import share
from service.config import Config
from service.domain.addresses import network_of

# A quarter of a process's file descriptors, and this many more, stay free for files and the
# database.
_DESCRIPTORS_KEPT = 128
_FEWEST_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many connections may be open. per_address: from one address."""

    total: int
    per_address: int


def connection_limits(config: Config, descriptors: int) -> ConnectionLimits:
    """The limits of one process.

    Args:
        descriptors: file descriptors that the process may have, connections included.
    """
    server = config.server
    granted = descriptors - descriptors // 4 - _DESCRIPTORS_KEPT
    total = max(_FEWEST_CONNECTIONS, min(share(server.max_connections, config), granted))
    per_address = total - total // 4
    if server.max_connections_per_address:
        per_address = min(share(server.max_connections_per_address, config), total)
    return ConnectionLimits(total, per_address)


class Evictable(Protocol):
    """A connection that can be closed to free its slot."""

    def evict(self) -> None:
        """Close at once."""


@dataclass(slots=True)
class _Address:
    """The connections of one address. idle: in the order in which they became idle."""

    count: int = 0
    idle: OrderedDict[Evictable, None] = field(default_factory=OrderedDict)

    def add(self, connection: Evictable) -> None:
        self.count += 1
        self.idle[connection] = None

    def remove(self, connection: Evictable) -> None:
        self.count -= 1
        self.idle.pop(connection, None)


class ConnectionLimiter:
    """Gives a slot to each connection while there is one, or evicts an idle connection for it.

    A connection is idle while no request of it is served: it is silent, has sent half a head, or
    does not read its answers. When all slots are taken, a new connection evicts the one that has
    been idle longest. It is chosen among the connections of the same address where that address is
    at its own limit, and else among those of the address with the most idle connections. Silent
    connections therefore keep no new one out.

    Args:
        on_size: called with the number of connections when it changes.
        on_refusal: called with the reason of a refusal, "address" or "connections", and with
            "displaced" for an eviction.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        *,
        on_size: Callable[[int], None],
        on_refusal: Callable[[str], None],
    ) -> None:
        self._limits = limits
        self._on_size = on_size
        self._on_refusal = on_refusal
        self._networks: dict[Evictable, str] = {}
        self._addresses: dict[str, _Address] = {}

    def acquire(self, connection: Evictable, host: str) -> bool:
        """Give a slot to a new connection, which is idle; False when there is none.

        Args:
            host: the address of the client.
        """
        network = network_of(host)
        if not self._make_room(network):
            return False
        self._addresses.setdefault(network, _Address()).add(connection)
        self._networks[connection] = network
        self._on_size(len(self._networks))
        return True

    def mark_idle(self, connection: Evictable) -> None:
        """No request is served any more; a connection that is idle already keeps its turn."""
        if connection in self._networks:
            self._addresses[self._networks[connection]].idle.setdefault(connection)

    def mark_busy(self, connection: Evictable) -> None:
        """A request is served: the connection is not evicted."""
        if connection in self._networks:
            self._addresses[self._networks[connection]].idle.pop(connection, None)

    def release(self, connection: Evictable) -> None:
        """Free the slot; nothing happens where the connection has none."""
        network = self._networks.pop(connection, None)
        if network is None:
            return
        address = self._addresses[network]
        address.remove(connection)
        if not address.count:
            del self._addresses[network]
        self._on_size(len(self._networks))

    def _make_room(self, network: str) -> bool:
        address = self._addresses.get(network)
        if address is not None and address.count >= self._limits.per_address:
            return self._evict_one_of(address, "address")
        if len(self._networks) < self._limits.total:
            return True
        most_idle = max(self._addresses.values(), key=lambda each: len(each.idle))
        return self._evict_one_of(most_idle, "connections")

    def _evict_one_of(self, address: _Address, reason: str) -> bool:
        if not address.idle:
            self._on_refusal(reason)
            return False
        longest = next(iter(address.idle))
        self.release(longest)
        longest.evict()
        self._on_refusal("displaced")
        return True

"""Fair queueing among tenants: the lane that got the least service goes first."""

from __future__ import annotations

from collections import OrderedDict

from service.batching.ticket import Lane

# The longest lead, in worker seconds, that an idle lane keeps over active lanes. An occasional
# request is served at once, and yet a long rest earns no right to a flood.
CREDIT_S = 0.5
# The number of idle lanes whose service is remembered.
MAX_IDLE_LANES = 512


class FairShare:
    """The lanes of all tenants, whose service is measured on one scale of worker seconds.

    The least served lane goes first. The floor is the service of the least served active lane. A
    lane that becomes active starts at `CREDIT_S` below the floor, or at its own service if that is
    more. Start-time fair queueing (Goyal, Vin and Cheng, 1996) does the same without a credit.

    At most `MAX_IDLE_LANES` idle lanes are remembered. Beyond that, the lane that has been idle
    for the longest time is forgotten, and starts at `CREDIT_S` below the floor.
    """

    def __init__(self) -> None:
        self._active: dict[str, Lane] = {}
        self._idle: OrderedDict[str, Lane] = OrderedDict()  # the longest idle first
        self._floor_s = 0.0

    @property
    def active(self) -> int:
        """The number of lanes with a request in progress."""
        return len(self._active)

    def lane(self, name: str) -> Lane:
        """The lane of a name, without making it active; a new lane if the name is unknown."""
        return self._active.get(name) or self._idle.get(name) or Lane(name)

    def is_active(self, name: str) -> bool:
        """Whether the lane of a name has a request in progress."""
        return name in self._active

    def enter(self, name: str) -> Lane:
        """Count one more request in progress in the lane of a name; `leave` ends it."""
        lane = self._active.get(name)
        if lane is None:
            lane = self._idle.pop(name, None) or Lane(name)
            self._raise_floor()
            lane.catch_up(self._floor_s - CREDIT_S)
            self._active[name] = lane
        lane.begin()
        return lane

    def leave(self, lane: Lane) -> None:
        """Count one request of a lane as ended."""
        lane.end()
        if not lane.open:
            self._raise_floor()
            self._idle[lane.name] = self._active.pop(lane.name)
            if len(self._idle) > MAX_IDLE_LANES:
                self._idle.popitem(last=False)

    def _raise_floor(self) -> None:
        """Raise the floor to the service of the least served active lane; it never falls."""
        if self._active:
            least_s = min(lane.served_s for lane in self._active.values())
            self._floor_s = max(self._floor_s, least_s)

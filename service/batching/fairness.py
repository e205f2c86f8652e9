"""Whose turn it is: lanes are served in the order of what they were served so far."""

from __future__ import annotations

from collections import OrderedDict

from service.batching.ticket import Lane

# A lane that used less than its share may be this much ahead, in worker seconds: a caller now and
# then is served as if nobody else were there, but nobody saves up for a flood.
CREDIT_S = 0.5
# Lanes without a request that are remembered.
MAX_IDLE_LANES = 512


class FairShare:
    """Lanes by name, on one scale of worker seconds.

    Whoever waits in the least served lane goes first. A lane that was idle starts at most
    `CREDIT_S` behind the least served lane at work, as in start-time fair queueing (Goyal, Vin
    and Cheng, 1996), which starts it there without the credit. Beyond `MAX_IDLE_LANES` idle lanes,
    the one that rested longest is forgotten: it starts there as well when it comes back.
    """

    def __init__(self) -> None:
        self._active: dict[str, Lane] = {}
        self._idle: OrderedDict[str, Lane] = OrderedDict()  # the one that rested longest first
        self._floor_s = 0.0

    @property
    def active(self) -> int:
        """Lanes with a request in progress."""
        return len(self._active)

    def lane(self, name: str) -> Lane:
        """The lane of that name, as it stands."""
        return self._active.get(name) or self._idle.get(name) or Lane(name)

    def is_active(self, name: str) -> bool:
        """Whether the lane has a request in progress."""
        return name in self._active

    def enter(self, name: str) -> Lane:
        """One more request of this lane is in progress; `leave` ends it."""
        lane = self._active.get(name)
        if lane is None:
            lane = self._idle.pop(name, None) or Lane(name)
            self._raise_floor()
            lane.catch_up(self._floor_s - CREDIT_S)
            self._active[name] = lane
        lane.begin()
        return lane

    def leave(self, lane: Lane) -> None:
        """The request has ended."""
        lane.end()
        if not lane.open:
            self._raise_floor()
            self._idle[lane.name] = self._active.pop(lane.name)
            if len(self._idle) > MAX_IDLE_LANES:
                self._idle.popitem(last=False)

    def _raise_floor(self) -> None:
        """Raise the floor to what the least served active lane was served; it never falls."""
        if self._active:
            least_s = min(lane.served_s for lane in self._active.values())
            self._floor_s = max(self._floor_s, least_s)

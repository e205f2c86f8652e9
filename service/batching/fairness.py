"""Whose turn it is: lanes are served in the order of what they were served so far."""

from __future__ import annotations

from service.batching.ticket import Lane

# A lane that used less than its share may be this much ahead, in worker seconds: a caller now and
# then is served as if nobody else were there, but nobody saves up for a flood.
CREDIT_S = 0.5
_IDLE_LANES = 256


class FairShare:
    """Lanes by name, on one scale of worker seconds.

    Whoever waits in the least served lane goes first. A lane that was idle starts at most
    `CREDIT_S` behind the least served lane at work, as in start-time fair queueing (Goyal, Vin
    and Cheng, 1996), which starts it there without the credit.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}
        self._active: dict[str, Lane] = {}
        self._floor_s = 0.0

    @property
    def active(self) -> int:
        """Lanes with a request in progress."""
        return len(self._active)

    def lane(self, name: str) -> Lane:
        """The lane of that name, as it stands."""
        return self._lanes.get(name) or Lane(name)

    def is_active(self, name: str) -> bool:
        """Whether the lane has a request in progress."""
        return name in self._active

    def enter(self, name: str) -> Lane:
        """One more request of this lane is in progress; `leave` ends it."""
        lane = self._lanes.setdefault(name, Lane(name))
        if not lane.open:
            lane.catch_up(self._floor() - CREDIT_S)
            self._active[name] = lane
        lane.begin()
        return lane

    def leave(self, lane: Lane) -> None:
        """The request has ended."""
        lane.end()
        if not lane.open:
            floor = self._floor()
            del self._active[lane.name]
            self._floor_s = floor
            if len(self._lanes) - len(self._active) > _IDLE_LANES:
                self._forget_idle()

    def _floor(self) -> float:
        """What the least served lane at work was served; it never falls."""
        if self._active:
            least = min(lane.served_s for lane in self._active.values())
            self._floor_s = max(self._floor_s, least)
        return self._floor_s

    def _forget_idle(self) -> None:
        """Let go of lanes that would start at the floor's credit anyway, or have rested longest."""
        start = self._floor_s - CREDIT_S
        for name in [name for name in self._lanes if name not in self._active]:
            if self._lanes[name].served_s <= start or len(self._lanes) > 2 * _IDLE_LANES:
                del self._lanes[name]

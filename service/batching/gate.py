"""A bounded number of places, and of what their holders take up, handed out in fair order."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import dataclass

from service.batching.ticket import Lane, Ticket


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    ticket: Ticket
    size: int
    future: asyncio.Future[None]


class Gate:
    """Places that tickets hold; what waits enters in the order of its ticket, then of arrival.

    While the next one does not fit, nothing that comes after it enters: else many small ones would
    keep a large one out for ever. What waits only for its own lane holds up only that lane.

    Args:
        places: how many there are.
        per_lane: how many of them one lane may hold, so that another finds one free; 0 for all.
        room: what the sizes of all inside may add up to, and for one lane three quarters of it. The
            first of a lane gets in beyond that part, and who finds nobody inside beyond all of it.
    """

    def __init__(self, places: int, per_lane: int = 0, *, room: int = sys.maxsize) -> None:
        if places < 1 or per_lane < 0 or room < 1:
            raise ValueError("a gate has at least one place, and room")
        self._places = self._free = places
        self._per_lane = per_lane or places
        self._room = room
        self._room_per_lane = room - room // 4
        self._held: Counter[Lane] = Counter()
        self._sizes: Counter[Lane] = Counter()
        self._waiting: list[_Waiting] = []

    async def enter(self, ticket: Ticket, size: int = 0) -> None:
        """Wait for a place, and for room of that size.

        Raises:
            WithdrawnError, DeadlineError: the ticket failed before there was one.
        """
        ticket.check()
        if not self._waiting and self._lane_admits(ticket.lane, size) and self._admits(size):
            self._take(ticket, size)
            return
        entry = _Waiting(ticket, size, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        self._let_in()
        try:
            await ticket.wait(entry.future)
        except BaseException:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._let_in()  # it may have held up who comes after it
            else:
                self.leave(ticket, size)  # the place came as the caller went
            raise

    def leave(self, ticket: Ticket, size: int = 0) -> None:
        """Give a place back, and the room of that size."""
        self._free += 1
        self._room += size
        self._held[ticket.lane] -= 1
        self._sizes[ticket.lane] -= size
        if not self._held[ticket.lane]:
            del self._held[ticket.lane], self._sizes[ticket.lane]
        self._let_in()

    def _lane_admits(self, lane: Lane, size: int) -> bool:
        held = self._held[lane]
        return not held or (
            held < self._per_lane and self._sizes[lane] + size <= self._room_per_lane
        )

    def _admits(self, size: int) -> bool:
        return self._free > 0 and (size <= self._room or self._free == self._places)

    def _take(self, ticket: Ticket, size: int) -> None:
        self._free -= 1
        self._room -= size
        self._held[ticket.lane] += 1
        self._sizes[ticket.lane] += size

    def _let_in(self) -> None:
        if not self._free:
            return
        held_up: set[Lane] = set()
        for entry in sorted(self._waiting, key=lambda entry: entry.ticket.order):
            lane = entry.ticket.lane
            if entry.future.done() or lane in held_up:
                continue
            if not self._lane_admits(lane, entry.size):
                held_up.add(lane)
            elif self._admits(entry.size):
                self._waiting.remove(entry)
                self._take(entry.ticket, entry.size)
                entry.future.set_result(None)
            else:
                return

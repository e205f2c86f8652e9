"""A semaphore with fair order: bounds the number of holders and the sum of their sizes."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from service.batching.ticket import Lane, Ticket


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    ticket: Ticket
    size: int
    future: asyncio.Future[None]


class Gate:
    """Grants places to tickets, in the order of the tickets and then of their arrival.

    A ticket that does not fit holds up every ticket behind it. Otherwise a stream of small tickets
    would keep a large ticket out for ever. A ticket that only its own lane's limits keep out holds
    up that lane alone.

    Args:
        places: the number of places.
        per_lane: the number of places that one lane may hold, so that other lanes find one free; 0
            for all of them.
        room: the limit of the sum of the holders' sizes. One lane may take three quarters of it. A
            lane without a holder may exceed these three quarters with its next ticket. A ticket may
            exceed the room itself while there is no other holder.
    """

    def __init__(self, places: int, per_lane: int = 0, *, room: int = sys.maxsize) -> None:
        if places < 1 or per_lane < 0 or room < 1:
            raise ValueError("a gate needs at least one place and room for a size of 1")
        self._places = self._free = places
        self._per_lane = per_lane or places
        self._room = room
        self._room_per_lane = room - room // 4
        self._held: Counter[Lane] = Counter()
        self._sizes: Counter[Lane] = Counter()
        self._waiting: list[_Waiting] = []

    async def enter(self, ticket: Ticket, size: int = 0) -> None:
        """Wait for a place and for room of a size.

        Raises:
            WithdrawnError, DeadlineError: the ticket failed before it got a place.
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
                self._let_in()  # it may have held up the tickets behind it
            else:
                self.leave(ticket, size)  # the place was granted in the same moment
            raise

    def leave(self, ticket: Ticket, size: int = 0) -> None:
        """Return a place and the room of its size."""
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


class InputMemory:
    """Bounds the memory of large inputs, which are read from files when their turn comes.

    Small inputs do not wait: there are few in work, and they take little.

    Args:
        room: the limit of the sum of the large inputs' sizes, in bytes.
        small: the size, in bytes, up to which an input is small.
    """

    def __init__(self, room: int, small: int) -> None:
        self._gate = Gate(sys.maxsize, room=room)
        self._small = small

    @asynccontextmanager
    async def hold(self, ticket: Ticket) -> AsyncIterator[None]:
        """Hold the room for the input of a request while the input is in memory.

        Raises:
            WithdrawnError, DeadlineError: the ticket failed before there was room.
        """
        if ticket.size_bytes <= self._small:
            yield
            return
        await self._gate.enter(ticket, ticket.size_bytes)
        try:
            yield
        finally:
            self._gate.leave(ticket, ticket.size_bytes)

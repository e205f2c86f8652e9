"""What waits in a stage, in the order of its tickets; who has gone, or is too late, is dropped."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.batching.ticket import Lane, Order, Priority, Ticket, clearly_before
from service.domain.errors import DeadlineError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class Entry(Generic[T, R]):
    """One item that waits; `since` is `time.perf_counter()`."""

    item: T
    cost: int
    ticket: Ticket
    future: asyncio.Future[R]
    since: float


class FairQueue(Generic[T, R]):
    """First come, first served within a lane and priority; the lanes by what they were served.

    Args:
        needed_s: how long an item of a given cost takes at least, in seconds.
        on_left: told the ticket of each item that leaves, taken or dropped.
        on_abandoned: told `gone` or `deadline` for each item that is dropped.
    """

    def __init__(
        self,
        needed_s: Callable[[int], float],
        on_left: Callable[[Ticket], None],
        on_abandoned: Callable[[str], None],
    ) -> None:
        self._rows: dict[tuple[Priority, Lane], deque[Entry[T, R]]] = {}
        self._needed_s = needed_s
        self._on_left = on_left
        self._on_abandoned = on_abandoned

    def append(self, entry: Entry[T, R]) -> None:
        """Add an item behind those of its lane and priority that came before it."""
        row = self._rows.setdefault((entry.ticket.priority, entry.ticket.lane), deque())
        place = len(row)
        # Who waited outside for room may be overtaken by who came as room was there.
        while place and row[place - 1].since > entry.since:
            place -= 1
        row.insert(place, entry)

    def alive(self) -> Iterator[Entry[T, R]]:
        """Items whose caller is still there."""
        return (entry for row in self._rows.values() for entry in row if not entry.future.done())

    def oldest(self) -> float:
        """When the oldest of them came."""
        return min(entry.since for entry in self.alive())

    def drop_over(self) -> None:
        """Drop the items that nobody waits for, or that are too late, as far as they are next."""
        for key in list(self._rows):
            self._drop_over(key)

    def urgency(self) -> Order | None:
        """The order of the item that goes next, once what is over was dropped."""
        return min((row[0].ticket.order for row in self._rows.values()), default=None)

    def take(self, limit: float) -> list[Entry[T, R]]:
        """The items that go next, in order, of a cost up to `limit`, at least one.

        Company makes a batch longer: the items of a lane that goes ahead do not share theirs.
        """
        taken: list[Entry[T, R]] = []
        cost = 0
        for key in sorted(self._rows, key=lambda key: (key[0], key[1].served_s)):
            if taken and clearly_before(taken[0].ticket.order, (key[0], key[1].served_s)):
                return taken
            self._drop_over(key)
            while row := self._rows.get(key):
                cost += row[0].cost
                if taken and cost > limit:
                    return taken
                taken.append(row.popleft())
                self._on_left(taken[-1].ticket)
                self._drop_over(key)
        return taken

    def _drop_over(self, key: tuple[Priority, Lane]) -> None:
        """Drop what is over in front of a row's first item that is not, and the row if it ends."""
        row = self._rows[key]
        while row and self._is_over(row[0]):
            entry = row.popleft()
            if not entry.future.done():
                entry.ticket.expire()
            self._on_left(entry.ticket)
            late = isinstance(entry.ticket.failure, DeadlineError)
            self._on_abandoned("deadline" if late else "gone")
        if not row:
            del self._rows[key]

    def _is_over(self, entry: Entry[T, R]) -> bool:
        left_s = entry.ticket.deadline - time.monotonic()
        return entry.future.done() or left_s < self._needed_s(entry.cost)

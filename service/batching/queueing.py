"""The queue of a stage: items in the order of their tickets, without those that are over."""

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
    """An item in the queue; `since` is the `time.perf_counter()` of its arrival."""

    item: T
    cost: int
    ticket: Ticket
    future: asyncio.Future[R]
    since: float


class FairQueue(Generic[T, R]):
    """First in, first out within one lane and priority; across lanes, the least served lane first.

    An item is over when its future is done, because the caller has left or the ticket has failed,
    or when the time to its deadline is shorter than the item takes. Items that are over are
    dropped as soon as they come to the head of their row.

    Args:
        needed_s: returns the least time in seconds that an item of a cost takes.
        on_left: called with the ticket of each item that leaves the queue, taken or dropped.
        on_abandoned: called with `gone` or `deadline` for each dropped item.
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

    def __bool__(self) -> bool:
        """Whether there is an item, even if it is one to be dropped."""
        return bool(self._rows)

    def append(self, entry: Entry[T, R]) -> None:
        """Add an item behind the items of its lane and priority that arrived earlier."""
        row = self._rows.setdefault((entry.ticket.priority, entry.ticket.lane), deque())
        place = len(row)
        # An item that waited for room in the queue may be appended after one that arrived later.
        while place and row[place - 1].since > entry.since:
            place -= 1
        row.insert(place, entry)

    def alive(self) -> Iterator[Entry[T, R]]:
        """The items whose future is not done."""
        return (entry for row in self._rows.values() for entry in row if not entry.future.done())

    def drop_over(self) -> None:
        """Drop the items that are over from the head of each row."""
        for key in list(self._rows):
            self._drop_over(key)

    def urgency(self) -> Order | None:
        """The order of the next item; None if the queue is empty. Call `drop_over` before."""
        return min((row[0].ticket.order for row in self._rows.values()), default=None)

    def take(self, limit: int) -> list[Entry[T, R]]:
        """Remove the next items, in order, up to a total cost of `limit`, but at least one.

        Further items make a batch take longer. Items of a lane that clearly goes before the others
        therefore share no batch with these.
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
        """Drop the items that are over from the head of a row, and the row once it is empty."""
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
        return entry.future.done() or entry.ticket.deadline - time.monotonic() < self._needed_s(
            entry.cost
        )

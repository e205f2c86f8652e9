"""A bounded number of places, handed to whoever waits in fair order."""

from __future__ import annotations

import asyncio
from collections import Counter

from service.batching.ticket import Lane, Ticket


class Gate:
    """Places that tickets hold; what waits enters in the order of its ticket, then of arrival.

    Args:
        places: how many there are.
        per_lane: how many of them one lane may hold, so that another finds one free; 0 for all.
    """

    def __init__(self, places: int, per_lane: int = 0) -> None:
        if places < 1 or per_lane < 0:
            raise ValueError("a gate has at least one place")
        self._free = places
        self._per_lane = per_lane or places
        self._held: Counter[Lane] = Counter()
        self._waiting: list[tuple[Ticket, asyncio.Future[None]]] = []

    async def enter(self, ticket: Ticket) -> None:
        """Wait for a place.

        Raises:
            WithdrawnError, DeadlineError: the ticket failed before there was one.
        """
        ticket.check()
        if self._may_enter(ticket):
            self._take(ticket)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (ticket, future)
        self._waiting.append(entry)
        try:
            await ticket.wait(future)
        except BaseException:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.leave(ticket)  # the place came as the caller went
            else:
                self._waiting.remove(entry)
            raise

    def leave(self, ticket: Ticket) -> None:
        """Give a place back."""
        self._free += 1
        self._held[ticket.lane] -= 1
        if not self._held[ticket.lane]:
            del self._held[ticket.lane]
        self._let_in()

    def _may_enter(self, ticket: Ticket) -> bool:
        return self._free > 0 and self._held[ticket.lane] < self._per_lane

    def _take(self, ticket: Ticket) -> None:
        self._free -= 1
        self._held[ticket.lane] += 1

    def _let_in(self) -> None:
        while self._free:
            able = [e for e in self._waiting if not e[1].done() and self._may_enter(e[0])]
            if not able:
                return
            entry = min(able, key=lambda entry: entry[0].order)
            self._waiting.remove(entry)
            self._take(entry[0])
            entry[1].set_result(None)

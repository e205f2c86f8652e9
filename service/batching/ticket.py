"""One admitted request: whose it is, how urgent, until when, and whether anyone still waits."""

from __future__ import annotations

import asyncio
import math
import time
from enum import IntEnum
from typing import TypeVar

from service.batching.failures import own_instance
from service.domain.errors import DeadlineError, FacetteError, WithdrawnError

R = TypeVar("R")

Order = tuple[int, float]
"""What goes first: the smaller priority number, then the lane that was served less."""

# Lanes that were served alike, up to about a job or two, in worker seconds.
_EVEN_S = 0.1


def clearly_before(one: Order, other: Order) -> bool:
    """Whether one goes before the other by its priority, or its lane by more than a job or two."""
    return one[0] < other[0] or (one[0] == other[0] and one[1] + _EVEN_S < other[1])


class Priority(IntEnum):
    """Classes of requests; a worker takes nothing of a later class while an earlier one waits."""

    INTERACTIVE = 0
    BULK = 1


class Lane:
    """What one tenant was served, and what it has in progress."""

    __slots__ = ("_backlog_s", "_open", "_served_s", "name")

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._served_s = 0.0
        self._backlog_s = 0.0
        self._open = 0

    @property
    def served_s(self) -> float:
        """Worker seconds spent on its requests, on the scale of `FairShare`."""
        return self._served_s

    @property
    def backlog_s(self) -> float:
        """Predicted worker seconds of its requests in progress."""
        return self._backlog_s

    @property
    def open(self) -> int:
        """Its requests in progress."""
        return self._open

    def catch_up(self, least_s: float) -> None:
        """Raise `served_s` to a least value: what was not asked for in time is not made up for."""
        self._served_s = max(self._served_s, least_s)

    def begin(self) -> None:
        """One more request is in progress."""
        self._open += 1

    def end(self) -> None:
        """A request has ended."""
        self._open -= 1
        if not self._open:
            self._backlog_s = 0.0  # a sum of floats that may not come out even

    def charge(self, seconds: float) -> None:
        """Add worker seconds spent on a request."""
        self._served_s += seconds

    def add_backlog(self, seconds: float) -> None:
        """Add predicted worker seconds to the backlog; less than 0 takes them off again."""
        self._backlog_s += seconds


class Ticket:
    """Goes with a request through every stage.

    deadline: `time.monotonic()` at which its answer is of no use any more; infinite for none.
    spent_s: worker seconds spent on it so far.
    """

    __slots__ = ("_failure", "_steps", "_waiting", "deadline", "lane", "priority", "spent_s")

    def __init__(
        self,
        lane: Lane,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = math.inf,
    ) -> None:
        self.lane = lane
        self.priority = priority
        self.deadline = deadline
        self.spent_s = 0.0
        self._steps = 0
        self._failure: FacetteError | None = None
        self._waiting: set[asyncio.Future[object]] = set()

    @property
    def order(self) -> Order:
        """Its place among what waits; smaller goes first."""
        return self.priority, self.lane.served_s

    @property
    def failure(self) -> FacetteError | None:
        """Why nothing more is to be done for it."""
        return self._failure

    def withdraw(self) -> None:
        """The caller hung up: what waits fails at once, and nothing more is begun."""
        self._fail(WithdrawnError("The caller hung up."))

    def expire(self) -> None:
        """The deadline passed: likewise."""
        self._fail(_too_late())

    def check(self, needed_s: float = 0.0) -> None:
        """Return while it makes sense to go on.

        needed_s: how long what is left to do takes at least.

        Raises:
            WithdrawnError: the caller has gone.
            DeadlineError: there is less time left than needed.
        """
        if self._failure is not None:
            raise own_instance(self._failure)
        if self.deadline - time.monotonic() < needed_s:
            raise _too_late()

    async def wait(self, future: asyncio.Future[R]) -> R:
        """A future's result, or the ticket's failure as soon as there is one."""
        if self._failure is not None and not future.done():
            future.set_exception(own_instance(self._failure))
        self._waiting.add(future)  # type: ignore[arg-type]
        try:
            return await future
        finally:
            self._waiting.discard(future)
            if future.done() and not future.cancelled():
                future.exception()  # a caller cancelled in this moment does not fetch it

    def charge(self, seconds: float) -> None:
        """Note worker seconds spent on it."""
        self.spent_s += seconds
        self.lane.charge(seconds)

    def begin_step(self) -> None:
        """One more item of it waits or runs in a stage."""
        self._steps += 1

    def end_step(self) -> bool:
        """An item of it has run; returns whether that was the last one in a stage."""
        self._steps -= 1
        return not self._steps

    def _fail(self, failure: FacetteError) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        for future in self._waiting:
            if not future.done():
                future.set_exception(own_instance(failure))


def _too_late() -> DeadlineError:
    return DeadlineError("The request could not be done in the time it was given.")


def free_ticket() -> Ticket:
    """A ticket for work that no limit applies to."""
    return Ticket(Lane())

"""The ticket of an admitted request: its lane, priority, deadline, and whether it has failed."""

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
"""Priority and service of a lane; the smaller one goes first."""

# The difference in service up to which two lanes are equal, in worker seconds: a job or two.
_SERVICE_TOLERANCE_S = 0.1


def clearly_before(one: Order, other: Order) -> bool:
    """Whether one goes before the other by priority, or by more service than the tolerance."""
    return one[0] < other[0] or (one[0] == other[0] and one[1] + _SERVICE_TOLERANCE_S < other[1])


class Priority(IntEnum):
    """Classes of requests. A worker takes bulk work only while no interactive work waits."""

    INTERACTIVE = 0
    BULK = 1


class Lane:
    """The service and the backlog of one tenant.

    Args:
        name: identifies the tenant.
    """

    __slots__ = ("_backlog_s", "_open", "_served_s", "name")

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._served_s = 0.0
        self._backlog_s = 0.0
        self._open = 0

    @property
    def served_s(self) -> float:
        """The service: worker seconds spent on its requests, on the scale of `FairShare`."""
        return self._served_s

    @property
    def backlog_s(self) -> float:
        """The predicted worker seconds of its requests in progress."""
        return self._backlog_s

    @property
    def open(self) -> int:
        """The number of its requests in progress."""
        return self._open

    def catch_up(self, least_s: float) -> None:
        """Raise the service to a least value, so that a long rest earns no unlimited lead."""
        self._served_s = max(self._served_s, least_s)

    def begin(self) -> None:
        """Count one more request in progress."""
        self._open += 1

    def end(self) -> None:
        """Count one request as ended."""
        self._open -= 1
        if not self._open:
            self._backlog_s = 0.0  # the sum has accumulated rounding errors

    def charge(self, seconds: float) -> None:
        """Add worker seconds spent on a request."""
        self._served_s += seconds

    def add_backlog(self, seconds: float) -> None:
        """Add predicted worker seconds to the backlog; a negative number removes them."""
        self._backlog_s += seconds


class Ticket:
    """Accompanies a request through all stages.

    lane, priority: decide the order among requests.
    deadline: the `time.monotonic()` by which the request must be answered; infinite for none.
    size_bytes: the size of the input; 0 where it is unknown.
    spent_s: the worker seconds spent on the request so far.
    """

    __slots__ = (
        "_failure", "_steps", "_waiting", "deadline", "lane", "priority", "size_bytes", "spent_s",
    )  # fmt: skip

    def __init__(
        self,
        lane: Lane,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float = math.inf,
        size_bytes: int = 0,
    ) -> None:
        self.lane = lane
        self.priority = priority
        self.deadline = deadline
        self.size_bytes = size_bytes
        self.spent_s = 0.0
        self._steps = 0
        self._failure: FacetteError | None = None
        self._waiting: set[asyncio.Future[object]] = set()

    @property
    def order(self) -> Order:
        """The order of its items in every queue."""
        return self.priority, self.lane.served_s

    @property
    def failure(self) -> FacetteError | None:
        """The error that ends the request early; None while it goes on."""
        return self._failure

    def withdraw(self) -> None:
        """Fail the request because its caller hung up: items that wait fail at once."""
        self._fail(WithdrawnError("The caller hung up."))

    def expire(self) -> None:
        """Fail the request because its deadline passed: items that wait fail at once."""
        self._fail(_too_late())

    def check(self, needed_s: float = 0.0) -> None:
        """Return if the request can still be answered in time.

        Args:
            needed_s: the least time in seconds that the rest of the request takes.

        Raises:
            WithdrawnError: the caller hung up.
            DeadlineError: the time to the deadline is shorter than that.
        """
        if self._failure is not None:
            raise own_instance(self._failure)
        if self.deadline - time.monotonic() < needed_s:
            raise _too_late()

    async def wait(self, future: asyncio.Future[R]) -> R:
        """Wait for the result of a future; raise the failure of the ticket if that comes first."""
        if self._failure is not None and not future.done():
            future.set_exception(own_instance(self._failure))
        self._waiting.add(future)  # type: ignore[arg-type]
        try:
            return await future
        finally:
            self._waiting.discard(future)
            if future.done() and not future.cancelled():
                future.exception()  # retrieved, in case the caller was cancelled in this moment

    def expect_input(self, size_bytes: int) -> None:
        """Take note of the size of the input, which a request without a body names by its id."""
        self.size_bytes = size_bytes

    def charge(self, seconds: float) -> None:
        """Add worker seconds spent on the request, for its lane as well."""
        self.spent_s += seconds
        self.lane.charge(seconds)

    def begin_step(self) -> None:
        """Count one more item of the request in a stage."""
        self._steps += 1

    def end_step(self) -> bool:
        """Count one item as done; returns whether no other item is in a stage."""
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
    return DeadlineError("The request could not be done before its deadline.")


def free_ticket() -> Ticket:
    """A ticket without deadline, in a lane of its own, for work outside admission."""
    return Ticket(Lane())

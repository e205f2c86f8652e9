"""Whether a request is taken: by predicted cost, by tenant, by its deadline; before any work."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from service.batching.fairness import FairShare
from service.batching.fit import LinearFit
from service.batching.ticket import Priority, Ticket
from service.domain.errors import DeadlineError, OverloadedError

# Requests that are taken whatever their predicted cost, for each worker: a few slow callers are
# no overload.
ALWAYS_TAKEN = 16
# Waiting that does not fall below half of the limit for so long is no burst any more.
STANDING_AFTER_S = 0.5
_FORGET = 0.01


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Seconds of predicted waiting beyond which a request is refused.

    max_wait_s: in a burst. standing_wait_s: once the waiting stands. bulk_wait_s: for bulk.
    """

    max_wait_s: float
    standing_wait_s: float
    bulk_wait_s: float


class Admission:
    """Hands out tickets while the predicted work in progress is within the limits.

    A request's cost in worker seconds is predicted from the size of its body, by a fit over what
    earlier requests of its cost class took. Work is limited to what keeps the workers busy for
    `max_wait_s`; once waiting has stood above half of `standing_wait_s` for half a second, only to
    `standing_wait_s`: a burst is taken, lasting overload is refused before everybody is late
    (the idea of CoDel, Nichols and Jacobson, 2012). Active tenants share the limit equally.

    Args:
        first_guesses_s: every cost class by name, with what a request of it is taken to cost until
            the first one was measured, in worker seconds.
        on_refusal: told the reason of each refusal: backlog, tenant or deadline.
        on_backlog: told the predicted worker seconds of what is in progress whenever they change.
    """

    def __init__(
        self,
        limits: AdmissionLimits,
        *,
        first_guesses_s: Mapping[str, float],
        workers: int,
        fair: FairShare,
        on_refusal: Callable[[str], None],
        on_backlog: Callable[[float], None],
    ) -> None:
        self._limits = limits
        self._workers = workers
        self._fair = fair
        self._on_refusal = on_refusal
        self._on_backlog = on_backlog
        self._first_guesses_s = dict(first_guesses_s)
        self._fits = {name: LinearFit(_FORGET) for name in first_guesses_s}
        self._backlog_s = dict.fromkeys(Priority, 0.0)
        self._open = 0
        self._low_at = -math.inf

    @property
    def backlog_s(self) -> float:
        """Predicted worker seconds of everything in progress."""
        return sum(self._backlog_s.values())

    def admit(
        self, cost_class: str, size_bytes: int, *, tenant: str, priority: Priority, deadline: float
    ) -> Admitted:
        """A context that holds the ticket of a request while it is in progress.

        Args:
            cost_class: one of those that the first guesses name.
            size_bytes: of the body.
            tenant: whose lane it takes; callers without one share a lane.
            deadline: `time.monotonic()` by which it must be answered.

        Raises:
            OverloadedError: there is too much work already.
            DeadlineError: with what its lane has in progress it takes longer than it has.
        """
        now = time.monotonic()
        cost_s = self._predict(cost_class, size_bytes)
        lane = self._fair.lane(tenant)
        ahead_s = lane.backlog_s / self._workers
        # A lane's only request is never refused: a prediction that slow photos of others have
        # spoiled is mended by requests that are taken, and by nothing else.
        if lane.open and deadline - now < ahead_s + cost_s / self._workers:
            self._on_refusal("deadline")
            raise DeadlineError("The request cannot be done in the time it was given.")
        sharers = self._fair.active + (not self._fair.is_active(tenant))
        limit_s = self._limit_s(priority, now) * self._workers
        before_s = self._backlog_s[Priority.INTERACTIVE]
        if priority is Priority.BULK:
            before_s += self._backlog_s[Priority.BULK]
        always = ALWAYS_TAKEN * self._workers
        few = self._open < always or lane.open < max(1, always // sharers)
        mine_s = before_s if sharers == 1 else lane.backlog_s
        if not few and mine_s + cost_s > limit_s / sharers:
            self._on_refusal("backlog" if sharers == 1 else "tenant")
            raise OverloadedError(
                "The service is working at its limit; try again shortly.",
                retry_after_s=max(1, math.ceil(before_s / self._workers)),
            )
        return Admitted(self, cost_class, size_bytes, cost_s, tenant, priority, deadline)

    def _predict(self, cost_class: str, size_bytes: int) -> float:
        fit = self._fits[cost_class]
        return fit.predict(size_bytes) if fit.observed else self._first_guesses_s[cost_class]

    def _limit_s(self, priority: Priority, now: float) -> float:
        if priority is Priority.BULK:
            return self._limits.bulk_wait_s
        if self._is_low() or now - self._low_at <= STANDING_AFTER_S:
            return self._limits.max_wait_s
        return min(self._limits.standing_wait_s, self._limits.max_wait_s)

    def _is_low(self) -> bool:
        """Whether what waits is below half of the limit for waiting that stands."""
        half_s = 0.5 * self._limits.standing_wait_s * self._workers
        return self._backlog_s[Priority.INTERACTIVE] <= half_s

    def _begin(self, admitted: Admitted) -> Ticket:
        ticket = Ticket(self._fair.enter(admitted.tenant), admitted.priority, admitted.deadline)
        self._move(ticket, admitted.cost_s)
        return ticket

    def _end(self, admitted: Admitted, ticket: Ticket, *, learn: bool) -> None:
        self._move(ticket, -admitted.cost_s)
        self._fair.leave(ticket.lane)
        if learn:
            self._fits[admitted.cost_class].observe(admitted.size_bytes, ticket.spent_s)

    def _move(self, ticket: Ticket, seconds: float) -> None:
        was_low = self._is_low()
        self._open += 1 if seconds > 0 else -1
        ticket.lane.add_backlog(seconds)
        self._backlog_s[ticket.priority] += seconds
        if not self._open:  # sums of floats that do not come out even
            self._backlog_s = dict.fromkeys(Priority, 0.0)
        if was_low or self._is_low():
            self._low_at = time.monotonic()
        self._on_backlog(self.backlog_s)


class Admitted:
    """A place in the work in progress; entering it begins the request."""

    __slots__ = (
        "_admission", "_ticket", "_timer", "cost_class", "cost_s", "deadline", "priority",
        "size_bytes", "tenant",
    )  # fmt: skip

    def __init__(
        self,
        admission: Admission,
        cost_class: str,
        size_bytes: int,
        cost_s: float,
        tenant: str,
        priority: Priority,
        deadline: float,
    ) -> None:
        self._admission = admission
        self.cost_class = cost_class
        self.size_bytes = size_bytes
        self.cost_s = max(cost_s, 1e-6)
        self.tenant = tenant
        self.priority = priority
        self.deadline = deadline
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Ticket:
        self._ticket = self._admission._begin(self)
        if math.isfinite(self.deadline):
            left = max(0.0, self.deadline - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(left, self._ticket.expire)
        return self._ticket

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._admission._end(self, self._ticket, learn=error is None)

"""Admission control: refuses a request before any work, by predicted cost, tenant and deadline."""

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

# Requests in progress, per worker, up to which the predicted cost is ignored: a few slow requests
# are no overload.
MIN_REQUESTS_PER_WORKER = 16
# The longest time for which a backlog counts as a burst. After that it is a standing queue.
MAX_BURST_S = 0.5
_COST_DECAY = 0.01


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """The longest predicted queue delays, in seconds, with which a request is still admitted.

    max_wait_s: during a burst.
    standing_wait_s: in a standing queue.
    bulk_wait_s: for a request of bulk priority.
    """

    max_wait_s: float
    standing_wait_s: float
    bulk_wait_s: float


class Admission:
    """Issues tickets while the predicted cost of all requests in progress is within the limits.

    The cost of a request is predicted in worker seconds, from the size of its body, by a linear fit
    over earlier requests of the same cost class. The backlog is the sum of these costs. It may keep
    the workers busy for `max_wait_s`. A backlog that stays above half of `standing_wait_s` for
    longer than `MAX_BURST_S` is a standing queue, and may keep them busy for `standing_wait_s`
    only. So a burst is admitted, and lasting overload is refused before every request is late.
    CoDel (Nichols and Jacobson, 2012) makes the same distinction. Active tenants share the limit
    equally.

    Args:
        first_guesses_s: the name of each cost class, and the cost in worker seconds that predicts
            its requests until the first one has been measured.
        on_refusal: called with the reason of each refusal: `backlog`, `tenant` or `deadline`.
        on_backlog: called with the backlog in worker seconds after each change.
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
        self._fits = {name: LinearFit(_COST_DECAY) for name in first_guesses_s}
        self._backlog_s = dict.fromkeys(Priority, 0.0)
        self._open = 0
        self._admitted = 0
        self._low_at = -math.inf

    @property
    def backlog_s(self) -> float:
        """Predicted worker seconds of all requests in progress."""
        return sum(self._backlog_s.values())

    @property
    def in_progress(self) -> int:
        """Requests in progress."""
        return self._open

    @property
    def admitted(self) -> int:
        """Requests that began so far."""
        return self._admitted

    def admit(
        self,
        cost_class: str,
        size_bytes: int,
        *,
        tenant: str,
        priority: Priority,
        deadline: float,
        patient: bool = False,
    ) -> Admitted:
        """Admit a request: a context that yields its ticket, and counts its cost until it ends.

        Args:
            cost_class: a name in the first guesses.
            size_bytes: the size of the body.
            tenant: the name of the request's lane. Requests without a tenant share a lane.
            deadline: the `time.monotonic()` by which the request must be answered.
            patient: whether the caller asks again when there is no room, which then is no refusal.

        Raises:
            OverloadedError: the request would exceed the limit, or its tenant's share of it.
            DeadlineError: the request would take longer than the time left, after the backlog of
                its lane; never for the only request of a lane.
        """
        now = time.monotonic()
        cost_s = self._predict(cost_class, size_bytes)
        lane = self._fair.lane(tenant)
        # The only request of a lane is admitted: slow photos of others may have spoiled the
        # prediction, and only admitted requests correct it.
        if lane.open and deadline - now < (lane.backlog_s + cost_s) / self._workers:
            self._on_refusal("deadline")
            raise DeadlineError("The request cannot be done before its deadline.")
        lanes = self._fair.active + (not self._fair.is_active(tenant))
        limit_s = self._limit_s(priority, now) * self._workers
        ahead_s = self._backlog_s[Priority.INTERACTIVE]
        if priority is Priority.BULK:
            ahead_s += self._backlog_s[Priority.BULK]
        min_requests = MIN_REQUESTS_PER_WORKER * self._workers
        has_few = self._open < min_requests or lane.open < max(1, min_requests // lanes)
        own_s = ahead_s if lanes == 1 else lane.backlog_s
        if not has_few and own_s + cost_s > limit_s / lanes:
            if not patient:
                self._on_refusal("backlog" if lanes == 1 else "tenant")
            raise OverloadedError(
                "The service is working at its limit; try again shortly.",
                retry_after_s=max(1, math.ceil(ahead_s / self._workers)),
            )
        return Admitted(self, cost_class, size_bytes, cost_s, tenant, priority, deadline)

    def _predict(self, cost_class: str, size_bytes: int) -> float:
        fit = self._fits[cost_class]
        return fit.predict(size_bytes) if fit.observed else self._first_guesses_s[cost_class]

    def _limit_s(self, priority: Priority, now: float) -> float:
        if priority is Priority.BULK:
            return self._limits.bulk_wait_s
        if self._is_low() or now - self._low_at <= MAX_BURST_S:
            return self._limits.max_wait_s
        return min(self._limits.standing_wait_s, self._limits.max_wait_s)

    def _is_low(self) -> bool:
        """Whether the interactive backlog is at most half of the limit for a standing queue."""
        half_s = 0.5 * self._limits.standing_wait_s * self._workers
        return self._backlog_s[Priority.INTERACTIVE] <= half_s

    def _begin(self, admitted: Admitted) -> Ticket:
        self._admitted += 1
        lane = self._fair.enter(admitted.tenant)
        ticket = Ticket(lane, admitted.priority, admitted.deadline, admitted.size_bytes)
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
        if not self._open:  # the sums have accumulated rounding errors
            self._backlog_s = dict.fromkeys(Priority, 0.0)
        if was_low or self._is_low():
            self._low_at = time.monotonic()
        self._on_backlog(self.backlog_s)


class Admitted:
    """An admitted request: it is in progress from entering the context to leaving it."""

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

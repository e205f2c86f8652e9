"""A stage of a pipeline: takes single items, runs them in batches, returns single results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.batching.failures import own_instance
from service.batching.fit import LinearFit
from service.batching.gate import Gate
from service.batching.pool import WorkerPool
from service.batching.queueing import Entry, FairQueue
from service.batching.ticket import Order, Ticket, free_ticket
from service.domain.errors import StoppingError

T = TypeVar("T")
R = TypeVar("R")

# The longest time in seconds for which other work that is as urgent goes before a short batch.
_GATHERING_S = 0.02


def share_of(waiting_cost: int, idle: int, workers: int) -> int:
    """The largest batch, by cost, that one of `idle` free workers takes from a queue.

    Free workers share the queue evenly, because two half batches in parallel end sooner than one
    whole batch. The last free worker takes two thirds of the queue. The worker that is free next
    then finds items, and need not wait for new requests.
    """
    if idle > 1 or workers == 1:
        return -(-waiting_cost // idle)
    return -(-2 * waiting_cost // 3)


class BatchSizeError(RuntimeError):
    """The batch function returned more or fewer results than it got items."""


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How a stage forms its batches.

    max_batch_cost: the cost at which a batch is full. An item that costs more runs alone.
    max_queue_size: the capacity of the queue. Callers beyond it wait to enqueue.
    gathered_cost: while the queue costs less, other stages of equal urgency that have work go
        first: more items are likely to come, and a batch of several costs less than one by one. 0
        for a stage where it does not.
    """

    max_batch_cost: int = 1
    max_queue_size: int = 1024
    gathered_cost: int = 0

    def __post_init__(self) -> None:
        if self.max_batch_cost < 1 or self.max_queue_size < 1:
            raise ValueError("the batch cost and the queue size must be at least 1")


_DEFAULT_POLICY = BatchPolicy()


@dataclass(frozen=True, slots=True)
class BatchReport:
    """Measurements of one batch.

    stage: the name of the stage.
    size, cost: the number of its items, and the sum of their costs.
    queued_s: the queue delay of its oldest item, in seconds.
    run_s: the duration of the call, in seconds.
    failed: the number of items that ended in an error.
    waiting: the number of items in the queue at the end of the call.
    """

    stage: str
    size: int
    cost: int
    queued_s: float
    run_s: float
    failed: int
    waiting: int


@dataclass(slots=True, eq=False)
class _Batch(Generic[T, R]):
    owner: MicroBatcher[T, R]
    entries: list[Entry[T, R]]
    dispatched: float
    for_latency: bool
    run_s: float = 0.0
    outcomes: Sequence[R | BaseException] = field(default_factory=list)

    def run(self) -> None:
        started = time.perf_counter()
        try:
            self.outcomes = self.owner._outcomes(
                [entry.item for entry in self.entries], for_latency=self.for_latency
            )
        except BaseException as error:  # else the callers would wait for ever
            self.outcomes = [error] * len(self.entries)
        self.run_s = time.perf_counter() - started

    def settle(self) -> None:
        cost = sum(entry.cost for entry in self.entries)
        for entry in self.entries:
            entry.ticket.charge(self.run_s * entry.cost / max(1, cost))
            self.owner._pool.step_ended(entry.ticket)

    def finish(self) -> None:
        self.owner._deliver(self)


class MicroBatcher(Generic[T, R]):
    """Groups the items of concurrent callers into calls of one batch function.

    A batch is formed at the moment when a worker is free to run it, from the items in the queue at
    that moment. Free workers share the queue. The order of the tickets decides which items go
    first. Items whose caller has left, or whose deadline can no longer be met, are dropped. If a
    batch fails, its items are run again one by one, so that only the item that caused the failure
    fails.

    Args:
        function: takes a list of items and returns their results in the same order. A result that
            is an exception fails its item alone. Several worker threads may call the function at
            the same time.
        pool: the workers, which other stages share.
        name: the name of the stage in reports.
        policy: how batches are formed.
        latency_function: replaces `function` for a single item while all workers are free.
        cost: returns the cost of an item; 1 by default.
        after_s: returns the least time in seconds that an item takes after this stage.
        report: called on the event loop after each batch.
        on_abandoned: called with `gone` or `deadline` for each dropped item.
    """

    def __init__(
        self,
        function: Callable[[Sequence[T]], Sequence[R | BaseException]],
        *,
        pool: WorkerPool,
        name: str,
        policy: BatchPolicy = _DEFAULT_POLICY,
        latency_function: Callable[[Sequence[T]], Sequence[R | BaseException]] | None = None,
        cost: Callable[[T], int] = lambda _: 1,
        after_s: Callable[[], float] = lambda: 0.0,
        report: Callable[[BatchReport], None] = lambda _: None,
        on_abandoned: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.fit = LinearFit()
        self._function = function
        self._latency_function = latency_function
        self._pool = pool
        self._policy = policy
        self._cost = cost
        self._after_s = after_s
        self._report = report
        self._room = Gate(policy.max_queue_size)
        self._queue: FairQueue[T, R] = FairQueue(self._needed_s, self._room.leave, on_abandoned)
        self._free_ticket = free_ticket()
        self._pending = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        pool.register(self)

    async def submit(self, item: T, ticket: Ticket | None = None) -> R:
        """Run one item and return its result.

        Raises:
            StoppingError: the batcher is draining.
            WithdrawnError: the caller of the ticket has left.
            DeadlineError: the item cannot be done before the deadline of the ticket.
            BatchSizeError: the function returned a wrong number of results.
            Exception: the function raised it for this item.
        """
        if self._closing:
            raise StoppingError("The service is shutting down.")
        ticket = ticket or self._free_ticket
        cost = self._cost(item)
        now = time.perf_counter()
        ticket.check(self._needed_s(cost))
        self._pending += 1
        self._idle.clear()
        self._pool.step_began(ticket)
        try:
            await self._room.enter(ticket)
            future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
            self._queue.append(Entry(item, cost, ticket, future, now))
            self._pool.dispatch()
            return await ticket.wait(future)
        finally:
            self._pending -= 1
            if not self._pending:
                self._idle.set()

    async def submit_all(self, items: Sequence[T], ticket: Ticket | None = None) -> list[R]:
        """Run several items and return their results in order; the first error cancels the rest."""
        if not items:
            return []
        if len(items) == 1:
            return [await self.submit(items[0], ticket)]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.submit(item, ticket)) for item in items]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    @property
    def waiting(self) -> int:
        """The number of items in the queue, without those whose caller has left."""
        return sum(1 for _ in self._queue.alive())

    def needed_s(self) -> float:
        """The least time in seconds that an item of cost 1 takes from this stage to the last."""
        return self._needed_s(1)

    async def drain(self) -> None:
        """Refuse new items, and wait until every accepted item has its result."""
        self._closing = True
        await self._idle.wait()

    @property
    def is_empty(self) -> bool:
        """Whether no item is in the queue, not even one whose caller has left."""
        return not self._queue

    def drop_over(self) -> None:
        """Drop items that failed or are too late; called by the pool."""
        self._queue.drop_over()

    def urgency(self) -> Order | None:
        """The order of the item that goes next; called by the pool."""
        return self._queue.urgency()

    def gathers(self) -> bool:
        """Whether others may go first, as more items are likely to come; called by the pool."""
        waiting = list(self._queue.alive())
        return (
            sum(entry.cost for entry in waiting) < self._policy.gathered_cost
            and time.perf_counter() - min(entry.since for entry in waiting) < _GATHERING_S
        )

    def take(self, idle: int) -> _Batch[T, R] | None:
        """Form the next batch; called by the pool when `idle` workers are free."""
        now = time.perf_counter()
        costs = [entry.cost for entry in self._queue.alive()]
        share = share_of(sum(costs), idle, self._pool.workers)
        entries = self._queue.take(min(self._policy.max_batch_cost, share))
        if not entries:
            return None
        for_latency = idle == self._pool.workers and len(costs) == 1
        return _Batch(self, entries, now, for_latency and self._latency_function is not None)

    def _needed_s(self, cost: int) -> float:
        return self.fit.predict(cost) + self._after_s()

    def _outcomes(
        self, items: list[T], *, for_latency: bool = False
    ) -> Sequence[R | BaseException]:
        """Results or errors of a batch, in order; runs in a worker thread."""
        function = self._latency_function if for_latency else None
        try:
            results = (function or self._function)(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
            return [self._outcomes([item])[0] for item in items]
        if len(results) != len(items):
            wrong = BatchSizeError(
                f"stage {self.name}: {len(results)} results for {len(items)} items"
            )
            return [wrong] * len(items)
        return results

    def _deliver(self, batch: _Batch[T, R]) -> None:
        cost = sum(entry.cost for entry in batch.entries)
        failed = 0
        for entry, outcome in zip(batch.entries, batch.outcomes, strict=True):
            failed += isinstance(outcome, BaseException)
            if entry.future.done():  # the caller has left
                continue
            if isinstance(outcome, StopIteration):  # a future refuses to carry one
                entry.future.set_exception(RuntimeError(f"stage {self.name}: {outcome!r}"))
            elif isinstance(outcome, BaseException):
                entry.future.set_exception(own_instance(outcome))
            else:
                entry.future.set_result(outcome)
        if not failed and not batch.for_latency:  # the fit is that of `function`
            self.fit.observe(cost, batch.run_s)
        self._report(
            BatchReport(
                self.name,
                len(batch.entries),
                cost,
                batch.dispatched - min(entry.since for entry in batch.entries),
                batch.run_s,
                failed,
                self.waiting,
            )
        )

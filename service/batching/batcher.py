"""One stage of work: single items in, batches through a function, single results out."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from service.batching.pool import WorkerPool
from service.domain.errors import StoppingError

T = TypeVar("T")
R = TypeVar("R")


class BatchSizeError(RuntimeError):
    """The batch function returned another number of results than it was given items."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What one dispatched batch was like; durations in seconds.

    queued_s: how long its oldest item had waited. failed: items that ended in an error.
    waiting: items in the stage's queue when the batch had run.
    """

    stage: str
    size: int
    cost: int
    queued_s: float
    run_s: float
    failed: int
    waiting: int


@dataclass(slots=True, eq=False)
class _Entry(Generic[T, R]):
    item: T
    cost: int
    future: asyncio.Future[R]
    since: float


@dataclass(slots=True, eq=False)
class _Batch(Generic[T, R]):
    owner: MicroBatcher[T, R]
    entries: list[_Entry[T, R]]
    dispatched: float
    run_s: float = 0.0
    outcomes: list[R | BaseException] = field(default_factory=list)

    def run(self) -> None:
        started = time.perf_counter()
        try:
            self.outcomes = self.owner._outcomes([entry.item for entry in self.entries])
        except BaseException as error:  # a thread must never leave its callers waiting
            self.outcomes = [error] * len(self.entries)
        self.run_s = time.perf_counter() - started

    def finish(self) -> None:
        self.owner._deliver(self)


class MicroBatcher(Generic[T, R]):
    """Groups the items of concurrent callers into calls of one batch function.

    A batch is formed when a worker is free to run it, from what waits at that moment, shared among
    all workers that are free: a lone item never waits for company unless `max_queue_delay_s` says
    so. Items whose caller has gone are
    skipped. When a batch fails its items are run one by one, so that only the poisonous one fails.

    Args:
        function: takes a list of items, returns their results in order. It runs in a worker
            thread, possibly in several at once.
        pool: the workers, shared with other stages.
        name: the stage's name in reports.
        max_batch_cost: the cost at which a batch is full; an item that costs more runs alone.
        max_queue_size: items that may wait; further callers wait to enqueue.
        max_queue_delay_s: how long the oldest item may wait for a batch to fill.
        cost: an item's cost, 1 by default.
        report: called on the event loop after each batch.
    """

    def __init__(
        self,
        function: Callable[[Sequence[T]], Sequence[R]],
        *,
        pool: WorkerPool,
        name: str,
        max_batch_cost: int = 1,
        max_queue_size: int = 1024,
        max_queue_delay_s: float = 0.0,
        cost: Callable[[T], int] = lambda _: 1,
        report: Callable[[BatchReport], None] = lambda _: None,
    ) -> None:
        if max_batch_cost < 1 or max_queue_size < 1 or max_queue_delay_s < 0:
            raise ValueError("batch cost and queue size start at 1, the queue delay at 0")
        self.name = name
        self._function = function
        self._pool = pool
        self._max_batch_cost = max_batch_cost
        self._max_queue_delay_s = max_queue_delay_s
        self._cost = cost
        self._report = report
        self._queue: deque[_Entry[T, R]] = deque()
        self._room = asyncio.Semaphore(max_queue_size)
        self._timer: asyncio.TimerHandle | None = None
        self._pending = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        pool.register(self)

    async def submit(self, item: T) -> R:
        """Run one item and return its result.

        Raises:
            StoppingError: the batcher is draining.
            BatchSizeError: the function returned a wrong number of results.
            Exception: whatever the function raised for this item alone.
        """
        if self._closing:
            raise StoppingError("The service is shutting down.")
        cost = self._cost(item)
        self._pending += 1
        self._idle.clear()
        try:
            await self._room.acquire()
            entry = _Entry(
                item,
                cost,
                asyncio.get_running_loop().create_future(),
                time.perf_counter(),
            )
            self._queue.append(entry)
            self._pool.dispatch()
            result: R = await entry.future
            return result
        finally:
            self._pending -= 1
            if not self._pending:
                self._idle.set()

    async def submit_all(self, items: Sequence[T]) -> list[R]:
        """Run several items, as far as possible together; the first error cancels the rest."""
        if not items:
            return []
        if len(items) == 1:
            return [await self.submit(items[0])]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.submit(item)) for item in items]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    @property
    def waiting(self) -> int:
        """Items in the queue whose caller is still there."""
        return sum(not entry.future.done() for entry in self._queue)

    async def drain(self) -> None:
        """Refuse new items and wait until every accepted one has its result."""
        self._closing = True
        self._max_queue_delay_s = 0.0
        self._pool.dispatch()
        await self._idle.wait()

    def take(self, idle: int) -> _Batch[T, R] | None:
        """Form the next batch; called by the pool when `idle` workers are free.

        What waits is spread over them: two half batches side by side end sooner than a whole one.
        """
        self._drop_abandoned()
        if not self._queue:
            return None
        now = time.perf_counter()
        if (wait := self._remaining_delay(now)) > 0:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(wait, self._delay_over)
            return None
        limit = self._max_batch_cost
        if not self._max_queue_delay_s:  # a delay asks for full batches
            limit = min(limit, -(-self._waiting_cost() // idle))
        entries: list[_Entry[T, R]] = []
        cost = 0
        while self._queue:
            head = self._queue[0]
            if entries and not head.future.done() and cost + head.cost > limit:
                break
            self._queue.popleft()
            self._room.release()
            if not head.future.done():
                entries.append(head)
                cost += head.cost
        return _Batch(self, entries, now)

    def _waiting_cost(self) -> int:
        return sum(entry.cost for entry in self._queue if not entry.future.done())

    def _drop_abandoned(self) -> None:
        while self._queue and self._queue[0].future.done():
            self._queue.popleft()
            self._room.release()

    def _remaining_delay(self, now: float) -> float:
        if not self._max_queue_delay_s:
            return 0.0
        if self._waiting_cost() >= self._max_batch_cost:
            return 0.0
        return self._queue[0].since + self._max_queue_delay_s - now

    def _delay_over(self) -> None:
        self._timer = None
        self._pool.dispatch()

    def _outcomes(self, items: list[T]) -> list[R | BaseException]:
        """Results or errors of a batch, in order; runs in a worker thread."""
        try:
            results = self._function(items)
        except Exception as error:
            if len(items) == 1:
                return [error]
            return [self._outcomes([item])[0] for item in items]
        if len(results) != len(items):
            wrong = BatchSizeError(
                f"stage {self.name}: {len(results)} results for {len(items)} items"
            )
            return [wrong] * len(items)
        return list(results)

    def _deliver(self, batch: _Batch[T, R]) -> None:
        failed = 0
        for entry, outcome in zip(batch.entries, batch.outcomes, strict=True):
            failed += isinstance(outcome, BaseException)
            if entry.future.done():  # the caller left while the batch ran
                continue
            if isinstance(outcome, StopIteration):  # a future refuses to carry one
                entry.future.set_exception(RuntimeError(f"stage {self.name}: {outcome!r}"))
            elif isinstance(outcome, BaseException):
                entry.future.set_exception(outcome)
            else:
                entry.future.set_result(outcome)
        self._report(
            BatchReport(
                self.name,
                len(batch.entries),
                sum(entry.cost for entry in batch.entries),
                batch.dispatched - batch.entries[0].since,
                batch.run_s,
                failed,
                self.waiting,
            )
        )

"""A pool of worker threads that the stages of a pipeline share; later stages go first."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from service.batching.ticket import Order, Ticket, clearly_before

# How long a worker stays idle for the next stage of a request, in seconds. The event loop hands on
# a result within one millisecond, or within a few when it is busy.
_ANTICIPATION_S = 0.003
# What a worker thread adds to the niceness of the process.
_WORKER_NICENESS = 10


class Job(Protocol):
    """One dispatched batch."""

    def run(self) -> None:
        """Do the work in a worker thread; must not raise."""
        ...

    def settle(self) -> None:
        """Charge the work to its tickets, on the event loop, before the next job is chosen."""
        ...

    def finish(self) -> None:
        """Deliver the results, on the event loop, after the next job was dispatched."""
        ...


class Source(Protocol):
    """A stage from which a free worker takes its next job."""

    @property
    def is_empty(self) -> bool:
        """Whether the queue has no item, not even one to be dropped."""
        ...

    def drop_over(self) -> None:
        """Drop the items at the head of the queue that failed or are too late."""
        ...

    def urgency(self) -> Order | None:
        """The order of the next item; None if the queue is empty."""
        ...

    def gathers(self) -> bool:
        """Whether sources of equal urgency may go first, as more items are likely to come.

        Called when the queue is not empty.
        """
        ...

    def take(self, idle: int) -> Job | None:
        """Form the next batch from the queue; None if no item is left in it.

        Args:
            idle: the number of free workers, including the one that will run the batch.
        """
        ...


class WorkerPool:
    """Worker threads, each of which takes a job from a source as soon as it is free.

    The most urgent source goes first. Among sources of equal urgency, the source that was
    registered last goes first. If the stages of a pipeline are registered in its order, requests
    that have begun are finished before new ones begin, so that the work in progress stays bounded.

    A source that gathers items lets others of equal urgency go first; it never keeps a worker idle.

    Between two stages a request is in no queue until the event loop has handed its result on. If
    the free worker took a job of a much better served lane at that moment, the request would wait
    for the whole job. The worker therefore stays idle for up to `_ANTICIPATION_S`. Anticipatory
    disk scheduling (Iyer and Druschel, 2001) does the same.

    The threads have a lower priority than the event loop, because every request waits for the
    event loop. Use a pool from one event loop only, and close it with `aclose`.

    Args:
        workers: the number of threads.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError("a worker pool needs at least one worker")
        self.workers = workers
        self._idle = workers
        self._sources: list[Source] = []
        self._executor = ThreadPoolExecutor(
            workers, thread_name_prefix="facette-worker", initializer=_lower_priority
        )
        self._between: dict[Ticket, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._dispatching = False
        self._quiet = asyncio.Event()
        self._quiet.set()

    def register(self, source: Source) -> None:
        """Add a source. It goes before the sources of equal urgency that are registered already."""
        self._sources.insert(0, source)

    def step_began(self, ticket: Ticket) -> None:
        """Note that an item of a request has entered a stage."""
        ticket.begin_step()
        self._between.pop(ticket, None)

    def step_ended(self, ticket: Ticket) -> None:
        """Note that an item of a request has run; after the last one, expect the next stage."""
        if ticket.end_step():
            self.expect(ticket)

    def expect(self, ticket: Ticket) -> None:
        """Note that a request will enter a stage within `_ANTICIPATION_S`."""
        if ticket.lane.open:
            self._between[ticket] = time.perf_counter()

    def no_more(self, ticket: Ticket) -> None:
        """Note that a request will enter no further stage for now."""
        if self._between.pop(ticket, None) is not None:
            self.dispatch()

    def dispatch(self) -> None:
        """Give a job to every idle worker, once the callbacks that are due have run.

        The callers of a finished batch wake up together, and often submit their next items at once.
        Without this delay the first of these items would get a worker for itself.
        """
        if not self._dispatching:
            self._dispatching = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatching = False
        while self._idle and (job := self._next_job()) is not None:
            self._idle -= 1
            self._quiet.clear()
            future = asyncio.get_running_loop().run_in_executor(self._executor, job.run)
            future.add_done_callback(partial(self._finished, job))

    async def aclose(self) -> None:
        """Wait for the running jobs and end the threads. Drain the sources before."""
        await self._quiet.wait()
        self._executor.shutdown(wait=True)

    def _next_job(self) -> Job | None:
        sources = [source for source in self._sources if not source.is_empty]
        for source in sources:
            source.drop_over()
        waiting = [(order, source) for source in sources if (order := source.urgency())]
        waiting.sort(key=lambda pair: pair[0])  # stable: keeps the order of the sources
        self._forget_expired()
        if not waiting:
            return None
        if self._is_held(waiting[0][0]):
            self._dispatch_later()
            return None
        for source in _in_turn(waiting):
            if (job := source.take(self._idle)) is not None:
                return job
        return None

    def _forget_expired(self) -> None:
        """Stop expecting the requests that failed or did not enter their next stage in time."""
        oldest = time.perf_counter() - _ANTICIPATION_S
        while self._between and (ticket := next(iter(self._between))):
            if self._between[ticket] > oldest and ticket.failure is None:
                return
            del self._between[ticket]

    def _is_held(self, order: Order) -> bool:
        """Whether work of this order has to wait for a request that is expected."""
        return any(clearly_before(ticket.order, order) for ticket in self._between)

    def _dispatch_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(
                _ANTICIPATION_S, self._anticipation_over
            )

    def _anticipation_over(self) -> None:
        self._timer = None
        self._dispatch()

    def _finished(self, job: Job, _: asyncio.Future[None]) -> None:
        self._idle += 1
        job.settle()
        # The callers of the finished batch need time to come back, so the queues go first.
        self._dispatch()
        if self._idle == self.workers:
            self._quiet.set()
        try:
            job.finish()
        finally:  # the callers may have submitted items
            self.dispatch()


def _in_turn(waiting: Sequence[tuple[Order, Source]]) -> list[Source]:
    """The sources in their order; of those equal to the first, the gathering ones go last."""
    equal = [source for order, source in waiting if not clearly_before(waiting[0][0], order)]
    ready = [source for source in equal if not source.gathers()]
    gathering = [source for source in equal if source not in ready]
    return [*ready, *gathering, *(source for _, source in waiting[len(equal) :])]


def _lower_priority() -> None:
    """Lower the priority of this thread below that of the event loop and the database."""
    if sys.platform == "linux":  # only there a thread has a niceness of its own
        own = threading.get_native_id()
        nice = min(19, os.getpriority(os.PRIO_PROCESS, own) + _WORKER_NICENESS)
        os.setpriority(os.PRIO_PROCESS, own, nice)

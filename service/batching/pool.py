"""A few threads that several batchers share, the later stage first."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from service.batching.ticket import Order, Ticket, clearly_before

# How long work waits at most for a request between two stages, in seconds: the event loop hands
# a result on in less than one millisecond, or in a few when it is busy.
_ANTICIPATION_S = 0.003
_NICER = 10


class Job(Protocol):
    """One dispatched batch: `run` happens in a thread, `finish` afterwards on the event loop."""

    def run(self) -> None:
        """Do the work; must not raise."""
        ...

    def settle(self) -> None:
        """Note on the event loop, before the worker's next job is chosen, that it has run."""
        ...

    def finish(self) -> None:
        """Hand the results out."""
        ...


class Source(Protocol):
    """Where a free worker finds its next job."""

    def drop_over(self) -> None:
        """Drop what nobody waits for any more, or what is too late, before it is asked for more."""
        ...

    def urgency(self) -> Order | None:
        """The order of what it would take next, or None when nothing waits."""
        ...

    def take(self, idle: int) -> Job | None:
        """The next batch, formed now from what waits, or None when nothing is due.

        idle: workers that are free, the one that will run this batch among them.
        """
        ...


class WorkerPool:
    """`workers` threads that pull from their sources whenever one is free.

    The most urgent source goes first; among equals the one registered later: register the stages
    of a pipeline in its order, and work that has begun is finished before new work is started, so
    what is in progress stays bounded.

    Between two stages a request has nothing that waits, for as long as the event loop takes to hand
    its result on. A worker that took work of a lane that is well ahead just then would make it
    wait for a whole job, so such work is left for a moment (anticipation, as Iyer and Druschel,
    2001, do for disks).

    The workers run at a lower priority than the event loop, which has little to do but everybody
    waits for it. Use it from one event loop only; close it with `aclose`.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError("a worker pool needs at least one worker")
        self.workers = workers
        self._idle = workers
        self._sources: list[Source] = []
        self._executor = ThreadPoolExecutor(
            workers, thread_name_prefix="facette-worker", initializer=_step_back
        )
        self._between: dict[Ticket, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._dispatching = False
        self._quiet = asyncio.Event()
        self._quiet.set()

    def register(self, source: Source) -> None:
        """Add a source that goes before equally urgent ones registered so far."""
        self._sources.insert(0, source)

    def step_began(self, ticket: Ticket) -> None:
        """One more item of a request is in a stage."""
        ticket.begin_step()
        self._between.pop(ticket, None)

    def step_ended(self, ticket: Ticket) -> None:
        """An item of a request has run: after its last one, the next stage's are expected."""
        if ticket.end_step():
            self.expect(ticket)

    def expect(self, ticket: Ticket) -> None:
        """A request will be in a stage in a moment."""
        if ticket.lane.open:
            self._between[ticket] = time.perf_counter()

    def no_more(self, ticket: Ticket) -> None:
        """Nothing more of a request is to come."""
        if self._between.pop(ticket, None) is not None:
            self.dispatch()

    def dispatch(self) -> None:
        """Give every idle worker a job, once the callers that are awake have had their turn.

        The callers of a finished batch wake together and often come back at once: the first of
        them must not take a worker for itself.
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
        """Wait for running jobs and end the threads; the sources must be drained before."""
        await self._quiet.wait()
        self._executor.shutdown(wait=True)

    def _next_job(self) -> Job | None:
        for source in self._sources:
            source.drop_over()
        waiting = [(order, source) for source in self._sources if (order := source.urgency())]
        waiting.sort(key=lambda pair: pair[0])  # stable: equals stay in the order of stages
        self._expect_no_longer()
        if waiting and self._is_held(waiting[0][0]):
            self._dispatch_later()
            return None
        for _, source in waiting:
            if (job := source.take(self._idle)) is not None:
                return job
        return None

    def _expect_no_longer(self) -> None:
        """Forget requests between two stages that failed, or did not come in time."""
        oldest = time.perf_counter() - _ANTICIPATION_S
        while self._between and (ticket := next(iter(self._between))):
            if self._between[ticket] > oldest and ticket.failure is None:
                return
            del self._between[ticket]

    def _is_held(self, order: Order) -> bool:
        """Whether what would go next waits for a request between two stages that goes before."""
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
        # What waits goes first: the callers of the batch that ended take their time.
        self._dispatch()
        if self._idle == self.workers:
            self._quiet.set()
        try:
            job.finish()
        finally:  # what waits must not wait for the next caller
            self.dispatch()


def _step_back() -> None:
    """Let the event loop, the database and the client go before this thread."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        own = threading.get_native_id()
        nice = min(19, os.getpriority(os.PRIO_PROCESS, own) + _NICER)
        os.setpriority(os.PRIO_PROCESS, own, nice)

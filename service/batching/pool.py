"""A few threads that several batchers share, the later stage first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol

from service.batching.ticket import Order


class Job(Protocol):
    """One dispatched batch: `run` happens in a thread, `finish` afterwards on the event loop."""

    def run(self) -> None:
        """Do the work; must not raise."""
        ...

    def finish(self) -> None:
        """Hand the results out."""
        ...


class Source(Protocol):
    """Where a free worker finds its next job."""

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
    what is in progress stays bounded. Use it from one event loop only; close it with `aclose`.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ValueError("a worker pool needs at least one worker")
        self.workers = workers
        self._idle = workers
        self._sources: list[Source] = []
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="facette-worker")
        self._dispatching = False
        self._quiet = asyncio.Event()
        self._quiet.set()

    def register(self, source: Source) -> None:
        """Add a source that goes before equally urgent ones registered so far."""
        self._sources.insert(0, source)

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
            future.add_done_callback(partial(self._finished, job.finish))

    async def aclose(self) -> None:
        """Wait for running jobs and end the threads; the sources must be drained before."""
        await self._quiet.wait()
        self._executor.shutdown(wait=True)

    def _next_job(self) -> Job | None:
        waiting = [(order, source) for source in self._sources if (order := source.urgency())]
        waiting.sort(key=lambda pair: pair[0])  # stable: equals stay in the order of stages
        for _, source in waiting:
            if (job := source.take(self._idle)) is not None:
                return job
        return None

    def _finished(self, finish: Callable[[], None], _: asyncio.Future[None]) -> None:
        self._idle += 1
        # What waits goes first: the callers of the batch that ended take their time.
        self._dispatch()
        if self._idle == self.workers:
            self._quiet.set()
        try:
            finish()
        finally:  # what waits must not wait for the next caller
            self.dispatch()

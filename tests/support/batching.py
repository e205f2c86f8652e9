"""Worker pools, batch functions that a test can hold, and batch functions that record."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from service.batching import MicroBatcher, Ticket, WorkerPool

SAFETY_NET_S = 20.0


class PoisonError(Exception):
    pass


class AbruptError(BaseException):
    """Not an Exception: a batch function that is torn down, not one that fails."""


class HeldFunction:
    """A batch function that records its batches and blocks in each until a test lets it through."""

    def __init__(self, function: Callable[[Sequence[int]], Sequence[int]] | None = None) -> None:
        self.batches: list[list[int]] = []
        self.running = 0
        self.peak = 0
        self._function = function or (lambda items: [item * 10 for item in items])
        self._lock = threading.Lock()
        self._started = threading.Semaphore(0)
        self._permits = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> Sequence[int]:
        with self._lock:
            self.batches.append(list(items))
            self.running += 1
            self.peak = max(self.peak, self.running)
        self._started.release()
        try:
            assert self._permits.acquire(timeout=SAFETY_NET_S), "nobody let this batch through"
            return self._function(items)
        finally:
            with self._lock:
                self.running -= 1

    async def started(self, batches: int = 1) -> None:
        """Wait until `batches` further batches have begun."""
        for _ in range(batches):
            assert await asyncio.to_thread(self._started.acquire, timeout=SAFETY_NET_S)

    def let_through(self, batches: int = 1) -> None:
        self._permits.release(batches)

    def open(self) -> None:
        self._permits.release(1000)


class Recorder:
    """A batch function that only records its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> Sequence[int]:
        self.batches.append(list(items))
        return [item * 10 for item in items]


@asynccontextmanager
async def workers(count: int) -> AsyncIterator[WorkerPool]:
    pool = WorkerPool(count)
    yield pool
    async with asyncio.timeout(SAFETY_NET_S):
        await pool.aclose()


@asynccontextmanager
async def all_busy(pool: WorkerPool) -> AsyncIterator[None]:
    """Keep every worker busy inside the block, so that the items submitted in it wait together."""
    held = HeldFunction()
    tasks = await begin(MicroBatcher(held, pool=pool, name="busy"), *range(pool.workers))
    await held.started(pool.workers)
    try:
        yield
    finally:
        held.open()
        await outcomes(tasks)


async def turns() -> None:
    """Run all callbacks that need the event loop alone."""
    for _ in range(20):
        await asyncio.sleep(0)


async def begin(batcher: MicroBatcher[int, int], *items: int) -> list[asyncio.Task[int]]:
    """Submit items in order, each from its own task; returns once they wait or run."""
    tasks = [asyncio.create_task(batcher.submit(item)) for item in items]
    await turns()
    return tasks


async def submitted(
    batcher: MicroBatcher[int, int], ticket: Ticket, *items: int
) -> list[asyncio.Task[int]]:
    """Submit items of one ticket as `begin` does."""
    tasks = [asyncio.create_task(batcher.submit(item, ticket)) for item in items]
    await turns()
    return tasks


async def outcomes(tasks: Sequence[asyncio.Task[int]]) -> list[int | BaseException]:
    async with asyncio.timeout(SAFETY_NET_S):
        return await asyncio.gather(*tasks, return_exceptions=True)

"""Generations of services: the current one, and former ones until their last request ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

S = TypeVar("S")
R = TypeVar("R")


class Shared(Generic[R]):
    """A resource with several holders, closed when the last one releases it."""

    def __init__(self, value: R, close: Callable[[], Awaitable[None]]) -> None:
        self.value = value
        self._close = close
        self._holders = 0

    def hold(self) -> Shared[R]:
        """Add a holder."""
        self._holders += 1
        return self

    async def release(self) -> None:
        """Remove a holder; close the resource when it was the last."""
        self._holders -= 1
        if not self._holders:
            await self._close()


class Kept(Generic[R]):
    """A part that the next generation takes over while its settings are equal.

    The part keeps its state, such as counts and learned durations.
    """

    def __init__(self) -> None:
        self._made: tuple[object, R] | None = None

    def of(self, settings: object, make: Callable[[], R]) -> R:
        """The last part where its settings are equal to these, else a new one."""
        if self._made is None or self._made[0] != settings:
            self._made = (settings, make())
        return self._made[1]


class _Generation(Generic[S]):
    def __init__(self, services: S, end: Callable[[], Awaitable[None]]) -> None:
        self._services = services
        self._end = end
        self._leases = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextmanager
    def lease(self) -> Iterator[S]:
        self._leases += 1
        self._unused.clear()
        try:
            yield self._services
        finally:
            self._leases -= 1
            if not self._leases:
                self._unused.set()

    async def retire(self) -> None:
        """Wait until no request holds a lease, then end the generation."""
        await self._unused.wait()
        await self._end()


class Generations(Generic[S]):
    """Leases the current services to requests; ends former services after their last request.

    Use it from one event loop alone: a replacement is one assignment, so no request sees a part of
    it.

    Args:
        on_ended: called when a generation has ended, and no reference to it is left here.
    """

    def __init__(self, on_ended: Callable[[], None] = lambda: None) -> None:
        self._on_ended = on_ended
        self._current: _Generation[S] | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    @contextmanager
    def lease(self) -> Iterator[S]:
        """The current services, which stay usable until the block ends."""
        generation = self._current
        if generation is None:
            raise RuntimeError("the service has not started, or has stopped")
        with generation.lease() as services:
            yield services

    def replace(self, services: S, end: Callable[[], Awaitable[None]]) -> None:
        """Lease `services` to requests from now on.

        Args:
            end: awaited after a replacement, once no request has a lease of these services.
        """
        self._retire_current()
        self._current = _Generation(services, end)

    async def aclose(self) -> None:
        """Lease no more services, and return when all generations have ended."""
        self._retire_current()
        await asyncio.gather(*self._retiring)

    def _retire_current(self) -> None:
        if self._current is not None:
            task = asyncio.get_running_loop().create_task(self._current.retire())
            self._retiring.add(task)
            task.add_done_callback(self._retired)
            self._current = None

    def _retired(self, task: asyncio.Task[None]) -> None:
        self._retiring.discard(task)
        self._on_ended()

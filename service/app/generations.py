"""What serves now, and what served before it until its last request has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

S = TypeVar("S")
R = TypeVar("R")


class Shared(Generic[R]):
    """A resource that several generations may hold; it is closed when the last one lets go."""

    def __init__(self, value: R, close: Callable[[], Awaitable[None]]) -> None:
        self.value = value
        self._close = close
        self._holders = 0

    def hold(self) -> Shared[R]:
        """Count one holder more."""
        self._holders += 1
        return self

    async def release(self) -> None:
        """Count one holder less, and close when it was the last."""
        self._holders -= 1
        if not self._holders:
            await self._close()


class Kept(Generic[R]):
    """A part that the next generation has in common with the last, while its settings are equal.

    What it has counted and learned goes on.
    """

    def __init__(self) -> None:
        self._made: tuple[object, R] | None = None

    def of(self, settings: object, make: Callable[[], R]) -> R:
        """The part made of these settings, made now unless the last one was."""
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
    """Hands each request the current services, and ends the former ones behind the last of theirs.

    Use it from one event loop only: a swap is one assignment, so no request sees half of it.

    Args:
        on_ended: called when a generation has ended and nothing here refers to it any more.
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
            raise RuntimeError("nothing serves yet, or no longer")
        with generation.lease() as services:
            yield services

    def replace(self, services: S, end: Callable[[], Awaitable[None]]) -> None:
        """Serve requests from now on with `services`.

        Args:
            end: awaited once these services were replaced and no request holds them any more.
        """
        self._retire_current()
        self._current = _Generation(services, end)

    async def aclose(self) -> None:
        """Serve nothing any more, and return when every generation has ended."""
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

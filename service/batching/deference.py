"""Work in the background that lets requests go first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from service.batching.admission import Admission

# Beside requests such work takes a quarter of the time, of one core at most.
_REST: Final = 3.0
_LONGEST_REST_S: Final = 2.0


class Deference:
    """Does work in pieces, and rests behind each one that requests were in progress beside.

    A piece that took long, since it shared the cores, is followed by as much longer a rest. Without
    requests there is none.

    Args:
        admission: of the requests. clock: seconds, monotonic. sleep: rests.
    """

    def __init__(
        self,
        admission: Admission,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._admission = admission
        self._clock = clock
        self._sleep = sleep

    @asynccontextmanager
    async def piece(self) -> AsyncIterator[None]:
        """A piece of the work: a few milliseconds, in which the event loop is seldom held up."""
        admitted, began = self._admission.admitted, self._clock()
        yield
        if self._admission.in_progress or self._admission.admitted != admitted:
            await self._sleep(min(_LONGEST_REST_S, _REST * (self._clock() - began)))

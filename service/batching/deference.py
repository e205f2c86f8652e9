"""Work in the background that lets requests go first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from service.batching.admission import Admission

# Beside requests such work takes an eighth of the time, of one core at most.
_REST: Final = 7.0
# Work that reads one snapshot keeps old rows from being removed: it is prolonged by this at most.
_MOST_WITHIN_S: Final = 4.0
_LONGEST_REST_S: Final = 60.0


class Deference:
    """Does work in pieces, and rests for those that requests were in progress beside.

    A piece that took long, since it shared the cores, asks for as much longer a rest. Without
    requests there is none. Only requests that this process admitted count.

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
        self._owed_s = 0.0
        self._left_s = _MOST_WITHIN_S

    @asynccontextmanager
    async def piece(self) -> AsyncIterator[None]:
        """A piece of the work: a few milliseconds, in which the event loop is seldom held up.

        Behind it comes its rest, or what may be taken of it before `rest`.
        """
        admitted, began = self._admission.admitted, self._clock()
        yield
        if self._admission.in_progress or self._admission.admitted != admitted:
            self._owed_s += _REST * (self._clock() - began)
            now_s = min(self._owed_s, self._left_s)
            self._owed_s -= now_s
            self._left_s -= now_s
            if now_s:
                await self._sleep(now_s)

    async def rest(self) -> None:
        """Take the rests that are left; to be called where the work holds nothing."""
        owed_s, self._owed_s, self._left_s = self._owed_s, 0.0, _MOST_WITHIN_S
        if owed_s:
            await self._sleep(min(_LONGEST_REST_S, owed_s))

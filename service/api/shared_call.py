"""An action that concurrent callers share: one run gives the result to all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

R = TypeVar("R")

_SHORTEST_PAUSE_S = 0.1
_PAUSE_OF_A_RUN = 4


class SharedCall(Generic[R]):
    """Gives each caller the result of a run that began after the call.

    A call during a run gets the result of the next run. Between two runs is a pause of a tenth of a
    second, or of four times the duration of the last run if that is longer. So the cost is bounded
    however many callers there are.

    Args:
        act: the action; its error is raised to all callers of the run.
    """

    def __init__(self, act: Callable[[], Awaitable[R]]) -> None:
        self._act = act
        self._one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[R] | None = None
        self._rests_until = 0.0

    async def __call__(self) -> R:
        """Return the result of the next run."""
        if self._next is None:
            self._next = asyncio.create_task(self._run())
            self._next.add_done_callback(_note_error)
        # Other callers need the result even if this one is cancelled.
        return await asyncio.shield(self._next)

    async def _run(self) -> R:
        async with self._one_at_a_time:
            await asyncio.sleep(max(0.0, self._rests_until - time.monotonic()))
            self._next = None  # later callers get the result of the next run
            began = time.monotonic()
            try:
                return await self._act()
            finally:
                ended = time.monotonic()
                pause_s = max(_SHORTEST_PAUSE_S, _PAUSE_OF_A_RUN * (ended - began))
                self._rests_until = ended + pause_s


def _note_error(run: asyncio.Task[R]) -> None:
    """Retrieve an error that no caller is left to receive, so that asyncio does not log it."""
    if not run.cancelled():
        run.exception()

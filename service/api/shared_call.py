"""An action that is run once for all who ask for it at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

R = TypeVar("R")

_SHORTEST_PAUSE_S = 0.1
_PAUSE_OF_A_RUN = 4


class SharedCall(Generic[R]):
    """Gives every caller the result of a run that began after it asked.

    Whoever asks while a run is under way gets the next one's. Between two runs there is a pause of
    a tenth of a second, or four times what the run took: so many callers, who may ask as often as
    they please, cost one run, and none of them is answered faster than that.

    Args:
        act: what is run; an error of it is raised to all who asked.
    """

    def __init__(self, act: Callable[[], Awaitable[R]]) -> None:
        self._act = act
        self._one_at_a_time = asyncio.Lock()
        self._next: asyncio.Task[R] | None = None
        self._rests_until = 0.0

    async def __call__(self) -> R:
        """The result of the next run."""
        if self._next is None:
            self._next = asyncio.create_task(self._run())
            self._next.add_done_callback(_note_error)
        # The others want the result even when this caller goes.
        return await asyncio.shield(self._next)

    async def _run(self) -> R:
        async with self._one_at_a_time:
            await asyncio.sleep(max(0.0, self._rests_until - time.monotonic()))
            self._next = None  # whoever asks from now on is not answered by this run
            began = time.monotonic()
            try:
                return await self._act()
            finally:
                ended = time.monotonic()
                pause_s = max(_SHORTEST_PAUSE_S, _PAUSE_OF_A_RUN * (ended - began))
                self._rests_until = ended + pause_s


def _note_error(run: asyncio.Task[R]) -> None:
    """Take note of an error that nobody is left to be told of."""
    if not run.cancelled():
        run.exception()

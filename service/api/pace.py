"""A limit on how many requests a second are answered, without refusing any."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Pace:
    """Spaces out answers that cost little, so that a flood of them leaves time for other work.

    Up to `burst` answers go out at once, and `per_s` a second after that; a request beyond the
    rate waits for its turn. The number of connections bounds how many wait.

    Source: the generic cell rate algorithm (ITU-T I.371), with a queue in place of a refusal.
    """

    def __init__(
        self, *, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = 1 / per_s
        self._tolerance_s = burst / per_s
        self._clock = clock
        self._next = clock()

    def reserve(self) -> float:
        """Take the next turn; returns the seconds until it comes, 0 for now."""
        now = self._clock()
        self._next = max(self._next, now) + self._interval_s
        return max(0.0, self._next - self._tolerance_s - now)

    async def turn(self) -> None:
        """Take the next turn, and wait until it comes."""
        if (delay_s := self.reserve()) > 0:
            await asyncio.sleep(delay_s)
